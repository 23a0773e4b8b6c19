"""Several seeds of one training: a run folder each, and one summary when all of them are there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from choreo_cli.training.job import Around, RunFolder
from formats.errors import FormatError
from formats.manifest import Manifest, decode

RUN = "run.json"
LOCK_S = 60.0
# Members of a run's provenance that all seeds of one training share.
SHARED = ("command", "choreo", "params")
# A recipe that stands on another model takes the one of the same seed: these inputs differ between seeds.
MODEL = "choreo.checkpoint/1"


def folder_of(seed: int) -> str:
    """Name of a seed's run folder inside the output folder."""
    return f"seed-{seed}"


def need_free(out: Path | None, seeds: Sequence[int], only: int | None) -> None:
    """Raise Locked when the run that comes first is at work elsewhere, before seconds go into importing torch.

    Without a folder nothing is asked.
    """
    from choreo_cli.runtime import process_rank
    from formats import atomic

    if out is not None and not process_rank():  # the others of a launch stand under the lock of the first
        atomic.need_free(out / folder_of(seeds[0] if only is None else only) if seeds else out)


def gather(out: Path, seeds: Sequence[int], created_by: Mapping[str, Any]) -> tuple[list[Manifest], list[int]]:
    """The finished runs of the same training, and the seeds that are not there yet.

    Args:
        out: Folder of the summary.
        seeds: Every seed of the training.
        created_by: Provenance of one of its runs; the others must agree in `SHARED` and in the data they read.
    """
    found, missing = [], []
    for seed in seeds:
        file = out / folder_of(seed) / RUN
        try:
            run = decode(file.read_bytes(), source=str(file), file=file)
        except (OSError, FormatError):
            missing.append(seed)
            continue
        same = run.kind == "choreo.run" and run.created_by.get("seed") == seed and len(run.entries) == 1
        same = same and all(run.created_by.get(k) == created_by[k] for k in SHARED)
        if same and _data_of(run.created_by) == _data_of(created_by):
            found.append(run)
        else:
            missing.append(seed)
    return found, missing


def _data_of(created_by: Mapping[str, Any]) -> list[Any]:
    return [i for i in created_by["inputs"] if i["schema"] != MODEL]


def _every_input(runs: Sequence[Manifest]) -> list[Any]:
    """Inputs of all runs, each once, in the order of the seeds."""
    found: list[Any] = []
    for run in runs:
        found += [i for i in run.created_by["inputs"] if i not in found]
    return found


def provenance(created_by: Mapping[str, Any], seeds: Sequence[int]) -> dict[str, Any]:
    """Provenance of the summary, from that of one of its runs."""
    from choreo_cli import runtime

    params = {**created_by["params"], "seeds": list(seeds)}
    made_by = runtime.provenance(created_by["command"], params, created_by["inputs"])
    made_by["deterministic"] = created_by["deterministic"]
    return made_by


def invalidate(out: Path) -> None:
    """Take an old summary away before one of its runs changes: its presence means complete."""
    (out / RUN).unlink(missing_ok=True)


def summarise(
    doc: bytes,
    out: Path,
    seeds: Sequence[int],
    make: Callable[[dict[str, Any]], RunFolder],
    around: Around,
    wait_s: float = 0.0,
) -> bytes:
    """Write the summary when the runs of all seeds are there, whoever finished last; returns its bytes.

    Args:
        doc: `run.json` of one of the runs; returned while others are missing.
        out: Folder of the summary. Only its own lock is held, and only while it is written.
        seeds: Every seed of the training.
        make: Makes the output folder from the summary's provenance.
        around: Who listens.
        wait_s: How long to wait for another process that writes it.
    """
    from formats import atomic

    made_by = decode(doc).created_by
    with atomic.lock(out, wait_s=max(wait_s, LOCK_S), argv="summary of seeds"):
        runs, missing = gather(out, seeds, made_by)
        if missing:
            around.note(f"no summary yet: seeds {', '.join(map(str, missing))} are not there")
            return doc
        atomic.sweep(out, recursive=False)
        folder = make(provenance({**runs[0].created_by, "inputs": _every_input(runs)}, seeds))
        before = folder.done_before()
        if before is not None:
            return before
        whole = write(folder, runs, around.argv)
    if around.sync is not None:
        around.sync.push(last=True)
    return whole


def write(folder: RunFolder, runs: Sequence[Manifest], argv: list[str]) -> bytes:
    """Write the summary: one entry per seed, every file of every run named by its hash; returns its bytes."""
    from formats.atomic import sha256_file

    entries: list[dict[str, Any]] = []
    roots: dict[str, Path] = {}
    for run in runs:
        assert run.file is not None
        name = run.file.parent.name
        entries.append({**run.entries[0], "path": name})
        roots |= {r.id: Path(r.path) for r in run.roots if not r.self}
        for item in run.created_by["outputs"]:
            folder.add(item["role"], f"{name}/{item['path']}", item["sha256"])
        folder.add("run", f"{name}/{RUN}", sha256_file(run.file))
    return folder.finish(entries, 0, argv, roots)
