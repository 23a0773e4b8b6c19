"""Run folders, figures and datasets to report on: real files of every format, made in a second, with known content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from choreo_cli.dataset.frameset import NAMES, read_frames
from choreo_cli.outputs import OutputFolder
from choreo_cli.report.run_document import Report, make_report
from choreo_cli.report.run_gather import gather
from choreo_cli.report.run_reproduce import Grammar
from choreo_cli.runtime import provenance
from commands.report import parse, rebuild
from formats import tensors
from formats.columns import CONTROL_NAMES, CONTROLS
from formats.manifest import Manifest, encode
from formats.metrics import entry
from formats.tables import write_table

GRAMMAR = Grammar(parse, rebuild)
SPLITS = {"train": ["session-0000"], "val": ["session-0001"], "test": ["session-0002"]}
LANE = ("mot", "hr", "aud", "ctx")


@cache
def _frames(seed: int, minutes: float, sessions: int) -> tuple[dict[str, bytes], list[dict[str, Any]]]:
    """Files and entries of a synthetic set; made once, written often."""
    import tempfile

    from choreo_cli.sessions.synth import SynthOptions, write_sessions

    asked = SynthOptions(sessions=sessions, minutes=minutes, bpm=(92.0, 120.0, 140.0), seed=seed, material=False)
    with tempfile.TemporaryDirectory() as name:
        made = write_sessions(asked, Path(name), lambda *_: None, jobs=1)
        return {n: (Path(name) / n).read_bytes() for n in made.files}, made.entries


def dataset(folder: Path, *, seed: int = 0, minutes: float = 1.2, sessions: int = 3, synthetic: bool = True) -> Path:
    """A `choreo.sessions/1` folder; `synthetic=False` calls it recorded, as a live performance would be."""
    files, entries = _frames(seed, minutes, sessions)
    made_by = provenance("synth sessions", {"seed": seed, "decoupled": False}, [], seed=seed)
    out = OutputFolder(folder, "sessions", made_by)
    for name, data in files.items():
        out.write("frames", name, data)
    argv = ["synth", "sessions", "--sessions", str(sessions), "--minutes", str(minutes), "--bpm", "92,120,140"]
    argv += ["--frames-only", "--seed", str(seed), "-o", str(folder)]
    out.finish([{**e, "synthetic": synthetic} for e in entries], 0, argv)
    return folder


def data_record(data: Path, sessions: Mapping[str, Sequence[str]] = SPLITS, **more: Any) -> dict[str, Any]:
    """What a run says of its data."""
    sha = _manifest_sha(data / "sessions.json")
    rows = {k: 3600 * len(v) for k, v in sessions.items()}
    base = {"schema": "choreo.sessions/1", "sha256": sha, "root": "data", "path": "sessions.json"}
    return base | {"sessions": dict(sessions), "rows": rows, "leaks": [], "notes": [], "synthetic": True} | more


def run(
    folder: Path, recipe: str, data: Path, *, seed: int = 0, metrics: Sequence[dict[str, Any]] = (),
    config: Mapping[str, Any] | None = None, parent: Path | None = None, argv: Sequence[str] | None = None,
    record: Mapping[str, Any] | None = None, synthetic: bool = True, late_s: float = 0.0, log: bool = True,
) -> Path:  # fmt: skip
    """A finished run folder; a mapper also has the controls of its held-out sessions, `late_s` behind the body."""
    settings = {"epochs": 2, "lr": 0.001, **(config or {})}
    rows = dict(record or data_record(data))
    inputs = [{"role": "frames", "sha256": rows["sha256"], "schema": rows["schema"]}]
    parents, roots = [], {"data": data}
    if parent is not None:
        weights = _weights_sha(parent)
        own = json.loads((parent / "run.json").read_text().split("\n")[1].rstrip(","))
        parents = [{"role": "rps", "run_id": own["id"], "sha256": weights, "root": "rps", "path": "."}]
        inputs.append({"role": "rps", "sha256": weights, "schema": "choreo.checkpoint/1"})
        roots["rps"] = parent
    made_by = provenance(f"train {recipe}", {"config": settings}, inputs, seed=seed)
    out = OutputFolder(folder, "run", made_by)
    rng = np.random.default_rng([seed, int(made_by["run_id"], 16)])
    out.write("weights", "model.safetensors", tensors.encode({"w": rng.normal(size=(3, 3)).astype(np.float32)}, {}))
    if log:
        out.write("log", "log.jsonl", _log(rng))
    if recipe == "mapper":
        _controls(out, data, [*rows["sessions"].get("val", []), *rows["sessions"].get("test", [])], late_s)
    line = {
        "id": made_by["run_id"], "recipe": recipe, "seed": seed, "path": ".", "state": "done", "steps": 200,
        "epochs": 2.0, "parameters": 9, "device": "cpu", "config": settings, "data": rows, "parents": parents,
        "files": {n: sha for n, (_, sha) in sorted(out.files.items())}, "metrics": list(metrics), "synthetic": synthetic,
    }  # fmt: skip
    source = parent if parent is not None else data
    out.finish([line], 0, list(argv or ["train", recipe, str(source), "--seed", str(seed), "-o", str(folder)]), roots)
    return folder


def figures(path: Path, command: str, entries: Sequence[dict[str, Any]], inputs: Sequence[Path], **params: Any) -> Path:
    """A `choreo.metrics/1` file as `choreo evaluate` writes it."""
    named = [{"role": "run", "sha256": _manifest_sha(p), "schema": "choreo.run/1"} for p in inputs]
    path.write_bytes(encode(Manifest("choreo.metrics/1", provenance(command, params, named, seed=0), list(entries))))
    return path


def gate(name: str, value: float | None, at: float = 0.5, **more: Any) -> dict[str, Any]:
    """A figure that must be at least `at`."""
    return entry(name, value, "1", "higher", n=40, goal=(">=", at), **more)


def rps_metrics(error: float = 0.2) -> list[dict[str, Any]]:
    """Held-out figures of an rps run."""
    made = [entry(f"rps.normalised_error.{m}", error, "1", "lower", n=99, goal=("<=", 0.4), chance=1.0) for m in LANE]
    return [*made, entry("rps.prox_gain", 0.3, "1", "higher", n=99)]


def groove(value: float = 0.9, p: float = 0.001) -> list[dict[str, Any]]:
    """The three groove figures."""
    names = ("groove.phase_coherence", "groove.energy_correlation", "groove.drift_stability")
    return [gate(n, value, 0.6, ci=(value - 0.05, value + 0.05), chance=0.2, p=p, p_max=0.01) for n in names]


def normalizer(with_m2: float = 1.0) -> list[dict[str, Any]]:
    """The effect of M2 over five seeds."""
    a, b = [1.0, 1.1 * with_m2, 0.9, 1.0, 1.05], [1.0, 2.0, 0.5, 1.4, 1.1]
    params = {"losses_with": a, "losses_without": b}
    return [entry("mapper.normalizer_effect", 0.1, "1", "lower", n=5, ci=(0.05, 0.4), goal=("<=", 1.0), params=params)]


def complete(top: Path) -> list[Path]:
    """Everything a promotion asks for, called recorded and licensed."""
    data = dataset(top / "data", synthetic=False)
    (data / "LICENSE").write_text("CC-BY-4.0\n\nSome rights reserved.\n")
    record = data_record(data, synthetic=False)
    shared: dict[str, Any] = {"record": record, "synthetic": False}
    rps = [run(top / f"rps-{s}", "rps", data, seed=s, metrics=rps_metrics(), **shared) for s in range(3)]
    form = {"config": {"form": "literal"}, "metrics": rps_metrics(1.3)}
    literal = run(top / "literal", "rps", data, **form, **shared)
    mapper = [
        run(
            top / f"mapper-{s}",
            "mapper",
            data,
            seed=s,
            metrics=[gate("mapper.r2.density", 0.9)],
            parent=rps[s],
            **shared,
        )
        for s in range(3)
    ]
    files = [p / "run.json" for p in mapper]
    good = figures(top / "groove.json", "evaluate groove", groove(), files, decoupled=False)
    control = figures(top / "control.json", "evaluate groove", groove(0.05, 0.6), files, decoupled=True)
    m2 = figures(top / "m2.json", "evaluate normalizer", normalizer(), files)
    return [*rps, literal, *mapper, good, control, m2]


def report(paths: Sequence[Path], **roots: str) -> Report:
    """The report of what is named."""
    return make_report(gather(list(paths), None, roots), GRAMMAR, {})


def _manifest_sha(path: Path) -> str:
    return str(json.loads(path.read_text().rsplit("\n],", 1)[1].join(["{", ""]))["sha256"])


def _weights_sha(folder: Path) -> str:
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def _log(rng: np.random.Generator) -> bytes:
    lines = []
    for step in range(1, 201):
        loss = float(np.exp(-step / 60) + 0.05 + 0.01 * rng.random())
        lines.append({"kind": "step", "step": step, "epoch": step / 100, "loss": loss})
        if step % 100 == 0:
            lines.append({"kind": "validation", "step": step, "epoch": step / 100, "loss": loss * 1.2, "best": True})
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def _controls(out: OutputFolder, data: Path, sessions: Sequence[str], late_s: float) -> None:
    """Controls that follow the body: density is motion energy, later; the second tenth of a session is held."""
    frames = read_frames(data)
    late = round(late_s / 0.02)
    for s in frames.sessions:
        if s.session_id not in sessions:
            continue
        x = np.asarray(frames.x[s.slice], float)
        energy = np.nan_to_num(x[:, NAMES.index("motion_energy")])
        made = {name: np.full(s.rows, 0.5, np.float32) for name in CONTROL_NAMES}
        made["density"] = np.concatenate([np.full(late, energy[0]), energy])[: s.rows].astype(np.float32)
        made["fx_send"] = np.zeros(s.rows, np.float32)
        held = np.zeros(s.rows, bool)
        held[s.rows // 10 : s.rows // 5] = True
        columns = {
            "session_id": [s.session_id] * s.rows, "t_us": frames.t_us[s.slice], **made, "held": held,
            "synthetic": np.full(s.rows, s.synthetic),
        }  # fmt: skip
        relative = f"controls/{s.session_id}_controls.parquet"
        out.add("controls", relative, write_table(out.target(relative), CONTROLS, columns))
