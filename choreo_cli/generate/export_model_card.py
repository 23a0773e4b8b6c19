"""The model card beside an export, in Markdown: what it is, what it takes, how far it was proved, what is unknown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from formats.export_card import ExportCard, Graph

USE = {
    "onnx": "`choreo generate DIR MUSIC -o DANCE` runs it, and so does any ONNX runtime with opset 20.",
    "mlx": "`mlx.core.import_function(\"step.mlxfn\")`, or `model.safetensors` into a network of your own.",
    "coreml": "Compile on the device (`MLModel.compileModel(at:)`); `choreo export swift DIR` writes a class for it.",
    "swift": "Add both files to a target together with the packages of `choreo export coreml`.",
}  # fmt: skip


def markdown(card: ExportCard) -> str:
    """The text of the card."""
    parts = [
        f"# Motion generator for {card.format}",
        _about(card),
        "## How it was checked\n\n" + _checked(card),
        "## What it takes and gives\n\n" + _inputs(card),
        "## What it was trained on\n\n" + _trained(card),
        "## Limits\n\n" + "\n".join(f"- {line}" for line in _limits(card)),
    ]
    return "\n\n".join(parts) + "\n"


def _about(card: ExportCard) -> str:
    a, facts = card.arch, card.facts
    told = facts["defaults"]
    rows = [
        ("model", f"MotionDiT, {a['blocks']} blocks of {a['width']}, recipe `{card.recipe}`"),
        ("weights", f"`{card.weights['sha256']}` ({card.weights['kind']})"),
        ("sampled by", f"{facts['process']}, the network says {facts['predict']}; "
                       f"{told['steps']} steps of {told['solver']}, weight of the music {told['guidance']['audio']:g}"),
        ("window", f"{a['frames']} frames at {facts['fps']:g} fps, {a['frames'] / facts['fps']:.2f} s"),
        ("layout", f"{card.layout.name} version {card.layout.version}, {len(card.layout.channels)} channels"),
        ("target", card.target or "any"),
        ("status", card.status),
        ("latency", card.latency),
    ]  # fmt: skip
    return _table(("", ""), rows) + f"\n\n{USE[card.format]}"


def _checked(card: ExportCard) -> str:
    if not card.graphs:
        return f"{card.status}: the grammar was checked, the names and shapes are those of the packages."
    rows = []
    for g in card.graphs:
        for p in g.proofs:
            rows.append(
                (
                    g.name,
                    g.precision,
                    p.task,
                    p.by,
                    f"{p.max_abs:.2g}",
                    f"{p.rms:.2g}",
                    f"{p.rel_rms:.2g}",
                    "-" if p.rounding is None else f"{p.rounding:.2g}",
                    "-" if p.contacts is None else f"{p.contacts:.1%}",
                    f"{p.measure} <= {p.allowed:.2g}",
                )
            )
    figures = ("max abs", "rms", "rel rms", "of float32 itself", "contacts alike", "allowed")
    header = ("graph", "precision", "task", "by", *figures)
    note = (
        "Against the torch network on fixed random noise; 1 is a standard deviation of a channel. Several steps with "
        "guidance amplify the rounding of float32: `of float32 itself` says how far it is from exact by "
        "itself. Where contacts are compared as yes or no, rms is that of the 23 pose channels."
    )
    sizes = _table(
        ("graph", "precision", "bytes", "of float16", "rows through the network a clip"),
        [
            (g.name, g.precision, f"{g.bytes}", _share(g), str(g.rows))
            for g in card.graphs
        ],
    )  # fmt: skip
    return f"{note}\n\n{_table(header, rows)}\n\n{sizes}"


def _share(graph: Graph) -> str:
    share = graph.facts.get("share_of_float16")
    return "" if share is None else f"{share:.1%}"


MEANING = {
    "x": "noisy normalised channels", "time": "sines and cosines of 1000 t", "noise": "standard normal numbers",
    "audio": "normalised audio features, zeros to ignore the music", "known": "normalised channels that are given",
    "mask": "1 where a channel group of a frame is given", "text": "text vector, zeros without one",
    "task": "one-hot: " , "extra": "guidance and step size of distilled models, else zeros",
    "w": "weight of the conditions, 1 as they were learned",
}  # fmt: skip


def _inputs(card: ExportCard) -> str:
    text = []
    tasks = ", ".join(card.tasks)
    groups = ", ".join(f"{n} {a}-{b - 1}" for n, (a, b) in card.groups.items())
    seen = set()
    for g in card.graphs:
        if g.name in seen:
            continue
        seen.add(g.name)
        rows = []
        for name, shape in g.inputs.items():
            meaning = MEANING.get("noise" if name.startswith("noise") else name, "")
            rows.append((f"`{name}`", " x ".join(str(n) for n in shape), meaning + (tasks if name == "task" else "")))
        text.append(f"**{g.name}**\n\n" + _table(("input", "shape", "meaning"), rows))
    text.append(
        "One package does GEN (mask of zeros), INBETWEEN and PREDICT: the mask and the one-hot task say which. Mask "
        f"columns: {groups}. Known values come back exactly from a whole sampler; paste the raw ones after "
        "`x * std + mean`. Means and spreads are in `model.json` under `facts.stats`; swivels are angles and wrap."
    )
    return "\n\n".join(text)


def _trained(card: ExportCard) -> str:
    facts = card.facts
    rows = [
        ("tasks", ", ".join(facts.get("trained_tasks") or ["not said"])),
        ("data", _data(facts)),
        ("audio features", f"{card.arch['audio_width']} a frame"),
        ("text", _text(facts)),
    ]
    return _table(("", ""), rows)


def _data(facts: dict[str, Any]) -> str:
    told = facts.get("synthetic")
    kind = "not said" if told is None else "synthetic, made by a program" if told else "recorded motion"
    sha = (facts.get("data") or {}).get("sha256")
    return f"{kind}; manifest `{sha}`" if sha else kind


def _text(facts: dict[str, Any]) -> str:
    told = facts.get("text_encoder") or {}
    if not told:
        return "not said"
    return f"{told.get('id')} ({told.get('kind')}{'' if told.get('trained') else ', not trained with texts'})"


def _limits(card: ExportCard) -> list[str]:
    found = list(card.limits)
    if card.latency == "not measured":
        found.append("latency on a phone: not measured; only a device-bench.json of that phone says it")
    found.append("not checked here: how well it dances; see `choreo evaluate generation`")
    if card.facts.get("synthetic") is True:
        found.append("learned from synthetic dances: nothing is claimed about recorded ones")
    return found


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(c).replace("|", "\\|") for c in line) + " |" for line in lines)
