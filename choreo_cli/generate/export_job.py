"""Export a model: built and proved in a folder beside the output, moved there as a whole, or not at all."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from choreo_cli.errors import CantCreateError, DataError, UsageError
from choreo_cli.generate.config import CHANNELS, GROUPS, TASKS
from choreo_cli.generate.export_build import Built, Say, Work, build_coreml, build_mlx, build_onnx
from choreo_cli.generate.export_graph import step_inputs
from choreo_cli.generate.export_proof import STEPS, way_of
from choreo_cli.generate.model_files import Model
from choreo_cli.generate.swift import parse, sources
from choreo_cli.runtime import provenance, surroundings
from formats import export_card, sealed
from formats.atomic import alive, sha256_file, sync_folder, write_bytes
from formats.errors import FormatError
from formats.export_card import CARD, ExportCard, Layout
from formats.motion_npz import CHANNELS as CHANNEL_COLUMNS
from formats.motion_npz import LAYOUT, LAYOUT_VERSION

FORMATS = ("onnx", "coreml", "mlx", "swift")
MODEL_CARD = "MODEL_CARD.md"
RUN_RECORD = "model.run.json"
MOST_STEPS = 64
_STAGE = re.compile(r"\.tmp-(\d+)$")


@dataclass(frozen=True, slots=True)
class Packages:
    """Core ML packages that lie somewhere already.

    Args:
        graphs: Inputs of each graph.
        weights_kind: Which weights they hold, in words.
    """

    graphs: Mapping[str, Mapping[str, Sequence[Any]]]
    weights_kind: str


@dataclass(frozen=True, slots=True)
class Asked:
    """What is wanted.

    Args:
        format: One of `FORMATS`.
        model: The checkpoint.
        target: Least platform of a Core ML package; None for the others.
        steps: Steps of the whole samplers.
        packages: What Swift is written for; None for those that Core ML's export would make.
    """

    format: str
    model: Model
    target: str | None = None
    steps: tuple[int, ...] = STEPS
    packages: Packages | None = None

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise UsageError(f"no format {self.format!r}", hint=f"choose from {', '.join(FORMATS)}")
        if not self.steps or not all(1 <= n <= MOST_STEPS for n in self.steps):
            raise UsageError(f"steps {list(self.steps)}", hint=f"1 to {MOST_STEPS}, separated by commas")


def provenance_of(asked: Asked) -> dict[str, Any]:
    """`created_by` of an export."""
    params = {"format": asked.format, "target": asked.target, "steps": sorted(asked.steps)}
    schema = "choreo.checkpoint/1"
    inputs = [{"role": "model", "sha256": asked.model.identity, "schema": schema}]
    made_by = provenance(f"export {asked.format}", params, inputs)
    made_by["deterministic"] = asked.format != "mlx"  # its files name their arrays by number as they come
    return made_by


def finished(out: Path, made_by: Mapping[str, Any]) -> bytes | None:
    """The sidecar of this very export when it lies there whole, else None."""
    try:
        data = (out / CARD).read_bytes()
        card = export_card.decode(data)
        whole = all(sha256_file(out / name) == sha for name, sha in card.files.items())
    except (OSError, FormatError):
        return None
    return data if whole and card.created_by.get("run_id") == made_by["run_id"] else None


def need_room(out: Path, *, force: bool) -> None:
    """Refuse an output that holds something else.

    Raises:
        CantCreateError: a file, a folder of other things, or another export without `force`.
    """
    if out.is_symlink() and not out.exists():
        raise CantCreateError(f"{out} is a link to nothing", hint="name another folder")
    if not out.exists():
        return
    if not out.is_dir():
        raise CantCreateError(f"{out} is a file", hint="name a folder")
    if not any(out.iterdir()):
        return
    try:
        export_card.read(out)
    except FormatError:
        raise CantCreateError(f"{out} holds files that are no export", hint="name another folder") from None
    if not force:
        raise CantCreateError(f"{out} holds another export", hint="name another folder, or replace it with --force")


def run(asked: Asked, out: Path, made_by: dict[str, Any], argv: Sequence[str], say: Say) -> bytes:
    """Build, prove and publish; returns the sidecar.

    Args:
        asked: What.
        out: Where; see `need_room`.
        made_by: See `provenance_of`; its outputs are filled in.
        argv: Arguments, for the run record.
        say: Told what is being done.

    Raises:
        DataError: a proof failed; nothing was written.
        UnavailableError: an extra is missing.
        CantCreateError: the output cannot be made.
    """
    started = time.time()
    with staged(out) as stage:
        built = _build(asked, stage, say)
        card = _card(asked, built, {}, {})
        (stage / MODEL_CARD).write_text(_described(card), encoding="utf-8")
        files = {
            p.relative_to(stage).as_posix(): sha256_file(p) for p in sorted(stage.rglob("*")) if p.is_file()
        }  # fmt: skip
        made_by["outputs"] = [{"role": "export", "path": name, "sha256": sha} for name, sha in sorted(files.items())]
        data = export_card.encode(_card(asked, built, files, made_by))
        record = {
            "schema": "choreo.run-record/1", "files": [*sorted(files), CARD], "argv": list(argv), "started": started,
            "ended": time.time(), "exit": 0, "env": surroundings(),
        }  # fmt: skip
        write_bytes(stage / RUN_RECORD, sealed.dumps(record))
        write_bytes(stage / CARD, data)
        _sync(stage)
    return data


@contextmanager
def staged(out: Path) -> Iterator[Path]:
    """A folder beside `out` that takes its place when the block ends well, and is gone when it does not.

    Raises:
        CantCreateError: the place cannot be written, or somebody else was there first.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise CantCreateError(f"cannot create {out}: a parent is a file", hint="name another folder") from None
    _sweep(out)
    stage = out.parent / f"{out.name}.tmp-{os.getpid()}"
    stage.mkdir()
    try:
        yield stage
        _swap(stage, out)
    except BaseException:
        shutil.rmtree(stage, ignore_errors=True)
        raise


def _swap(stage: Path, out: Path) -> None:
    old = out.parent / f"{out.name}.old.tmp-{os.getpid()}"
    if out.exists():
        os.rename(out, old)
    try:
        os.rename(stage, out)
    except OSError:
        if old.exists():
            os.rename(old, out)
        raise CantCreateError(f"{out} appeared meanwhile", hint="somebody else exports there too") from None
    shutil.rmtree(old, ignore_errors=True)
    sync_folder(out.parent)


def _sweep(out: Path) -> None:
    """Remove what a killed export of this output left beside it."""
    for path in out.parent.glob(f"{out.name}*.tmp-*"):
        found = _STAGE.search(path.name)
        if found is None or path.name not in (f"{out.name}{found[0]}", f"{out.name}.old{found[0]}"):
            continue
        if (pid := int(found[1])) == os.getpid() or not alive(pid):
            shutil.rmtree(path, ignore_errors=True)


def _sync(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            with contextlib.suppress(OSError):
                fd = os.open(path, os.O_RDONLY)
                try:
                    os.fsync(fd)
                finally:
                    os.close(fd)


def _build(asked: Asked, stage: Path, say: Say) -> Built:
    if asked.format == "swift":
        return _swift(asked, stage)
    work = Work(asked.model, asked.steps, say)
    if asked.format == "onnx":
        return build_onnx(work, stage)
    if asked.format == "mlx":
        return build_mlx(work, stage)
    if asked.target is None:
        raise UsageError("a Core ML package needs a target", hint="--target iOS18")
    return build_coreml(work, stage, asked.target)


def _swift(asked: Asked, stage: Path) -> Built:
    """The two files for the packages that `choreo export coreml` makes of this model, or has made."""
    built = Built(export_card.PARSED, limits=["parsed, not compiled: an unknown type or function would pass unseen"])
    graphs = _own_graphs(asked) if asked.packages is None else asked.packages.graphs
    files = sources(_card(asked, built, {}, {}), graphs, ("float16", "palette6"))
    parse(files)
    for name, text in files.items():
        (stage / name).write_text(text, encoding="utf-8")
    return built


def _own_graphs(asked: Asked) -> dict[str, dict[str, list[Any]]]:
    shape = asked.model.shape
    whole = {f"sampler{n}": way_of(asked.model, n).inputs(shape, 1) for n in asked.steps}
    return {"step": step_inputs(shape, 1), **whole}


def _card(asked: Asked, built: Built, files: Mapping[str, str], made_by: Mapping[str, Any]) -> ExportCard:
    model = asked.model
    kind = weights_kind(model) if asked.packages is None else asked.packages.weights_kind
    if len(CHANNEL_COLUMNS) != CHANNELS:
        raise DataError("the layout has other channels than the network")
    return ExportCard(
        format=asked.format, target=asked.target, recipe=model.recipe,  # type: ignore[arg-type]
        arch=dict(model.checkpoint.arch), facts=dict(model.facts),
        weights={"sha256": model.identity, "kind": kind},
        layout=Layout(name=LAYOUT, version=LAYOUT_VERSION, channels=[c.name for c in CHANNEL_COLUMNS]),
        tasks=list(TASKS), groups={name: (s.start, s.stop) for name, s in GROUPS}, graphs=built.graphs,
        status=built.status, limits=built.limits, files=dict(files), created_by=dict(made_by),
    )  # fmt: skip


def weights_kind(model: Model) -> str:
    """Which weights a checkpoint holds: the moving average, unless it was trained without one."""
    told = model.checkpoint.created_by.get("params", {})
    config = told.get("config", told) if isinstance(told, dict) else {}
    ema = config.get("ema") if isinstance(config, dict) else None
    if isinstance(ema, int | float):
        return f"moving average, decay {ema:g}" if ema > 0 else "as trained: this run kept no moving average"
    return "those that the checkpoint keeps"


def _described(card: ExportCard) -> str:
    from choreo_cli.generate.export_model_card import markdown

    return markdown(card)
