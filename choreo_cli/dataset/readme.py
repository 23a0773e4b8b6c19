"""README.md of an output folder: what it holds, how it was made, and ten lines that load it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from choreo_cli.dataset.pack import Pack
from choreo_cli.dataset.splits import SPLITS

Entry = Mapping[str, Any]

# Run from the folder of the README, wherever it was moved to.
SNIPPET = """\
import sys
from choreo_cli.dataset.dataset_torch import Augment, PoseMusicDataset, loader
from choreo_cli.dataset.pack import open_pack

pack = open_pack(sys.argv[1] if len(sys.argv) > 1 else ".", verify=True)
change = Augment(mirror=0.5, shift=4, noise=0.05)
data = PoseMusicDataset(pack, "{split}", augment=change, seed=0, normalise=True, missing="mean")
for batch in loader(data, batch_size=256):
    print(batch["x"].shape, batch["present"].float().mean().item())
print(len(data), "windows of", pack.length, "frames,", pack.columns)
"""


def pack_readme(pack: Pack, entries: Sequence[Entry] = ()) -> str:
    """Describe an output folder in Markdown.

    Args:
        pack: Its pack.
        entries: Entries of its `pairs.json`, for how each pair was aligned and what was taken for granted.
    """
    doc = pack.doc
    parts = [
        "# Paired dance and music", _summary(pack), "## Load it", _loading(pack), "## What is here", _files(pack),
        "## Inputs", _inputs(pack), "## Splits", _splits(doc["split"], doc["window_counts"]),
    ]  # fmt: skip
    if entries:
        parts += ["## Alignment", _alignment(entries), "## Assumptions", _assumptions(entries)]
    parts += ["## Provenance", _provenance(doc)]
    return "\n\n".join(p.strip("\n") for p in parts) + "\n"


def _summary(pack: Pack) -> str:
    made = "All of it is synthetic: made by `choreo synth`, not recorded. " if pack.doc["synthetic"] else ""
    hours = len(pack.x) * pack.step_us / 3.6e9
    window = pack.doc["window"]
    return (
        f"{made}{len(pack.pairs)} pairs, {len(pack.x)} frames ({hours:.2f} h at {1e6 / pack.step_us:g} Hz), "
        f"{len(pack)} windows of {pack.length} frames, a new one every {window['stride']} frames, "
        f"with at least {100 * window['min_valid']:g} % measured motion each."
    )


def _loading(pack: Pack) -> str:
    counts = pack.doc["window_counts"]
    split = next((s for s in SPLITS if counts[s]), "train")
    snippet = SNIPPET.format(split=split)
    return (
        "With `pip install 'choreo[train]'`, from this folder (it can be moved anywhere):\n\n"
        f"```python\n{snippet}```\n\n"
        'Missing values are NaN in `x.npy` and false in `mask.npy`; `missing="mean"` above replaces them by the mean '
        "of the training rows and `present` still tells which are real."
    )


def _files(pack: Pack) -> str:
    what = {
        "x.npy": f"float32 {pack.x.shape}: one row per frame, one column per input",
        "mask.npy": f"bool {pack.mask.shape}: {', '.join(pack.masks)}",
        "t_us.npy": f"int64 {pack.t_us.shape}: microseconds on the music clock",
        "audio.npy": "" if pack.audio is None else f"float32 {pack.audio.shape}: audio features of every track",
        "idx.parquet": f"{len(pack)} windows: first row, length, audio frames, share of measured motion, split",
        "pack.json": "columns, normaliser, splits, pairs, hashes; sealed by its own sha256",
    }
    where = f"pack/{pack.doc['dataset_hash']}"
    have = set(pack.doc["files"]) | {"pack.json"}
    return f"In `{where}/`:\n\n" + "\n".join(f"- `{n}`: {text}" for n, text in what.items() if n in have)


def _inputs(pack: Pack) -> str:
    stats = pack.doc["normaliser"]["columns"]
    lines = ["| column | training mean | training deviation | training values |", "|---|---|---|---|"]
    for name in pack.columns:
        s = stats[name]
        mean, std = ("missing" if s[k] is None else f"{s[k]:.4g}" for k in ("mean", "std"))
        lines.append(f"| {name} | {mean} | {std} | {s['n']} |")
    return "\n".join(lines)


def _splits(split: Mapping[str, Any], windows: Mapping[str, int]) -> str:
    rule = "the hash of each group" if split["mode"] == "hash" else "leave one group out"
    lines = [f"By {rule}; kept together: {split['group']}.", "", "| split | pairs | windows |", "|---|---|---|"]
    lines += [f"| {s} | {split['counts'][s]} | {windows[s]} |" for s in SPLITS]
    lines += ["", *(f"- {note}" for note in split["notes"])]
    lines += [f"- LEAK, accepted by `--group {split['group']}`: {leak}" for leak in split["leaks"]]
    return "\n".join(lines)


def _alignment(entries: Sequence[Entry]) -> str:
    lines = ["| pair | track | method | offset ms | 95 % interval | identifiable |", "|---|---|---|---|---|---|"]
    for e in entries:
        low, high = (v / 1000 for v in e["offset_ci_us"])
        lines.append(
            f"| {_cell(e['pair_id'])} | {_cell(e['track'])} | {e['method']} | {e['offset_us'] / 1000:.1f} "
            f"| {low:.1f} .. {high:.1f} | {e['identifiable']} |"
        )
    return "\n".join(lines)


def _cell(text: str) -> str:
    """Text of a stranger inside a table."""
    return " ".join(text.split()).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def _assumptions(entries: Sequence[Entry]) -> str:
    count: dict[str, int] = {}
    for e in entries:
        for sentence in e["assumptions"]:
            count[sentence] = count.get(sentence, 0) + 1
    if not count:
        return "None."
    return "\n".join(f"- {_cell(s)} ({n} of {len(entries)} pairs)" for s, n in sorted(count.items()))


def _provenance(doc: Mapping[str, Any]) -> str:
    made = doc["created_by"]
    git = made.get("git") or {}
    lines = [
        f"- dataset hash: `{doc['dataset_hash']}`",
        f"- made by: `choreo {made.get('command', '?')}` {made.get('choreo', '?')}, run `{made.get('run_id', '?')}`",
    ]
    if git.get("sha"):
        lines.append(f"- source: commit `{git['sha']}`{' with changes' if git.get('dirty') else ''}")
    lines += [f"- input {i['role']}: `{i['sha256']}`" for i in made.get("inputs", [])]
    return "\n".join(lines)
