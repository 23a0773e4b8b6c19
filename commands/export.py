"""`choreo export`: a motion network as ONNX, Core ML, MLX or Swift, proved before it is written."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from choreo_cli import options, streams
from choreo_cli.errors import DataError, ExitCode, UsageError

if TYPE_CHECKING:
    from choreo_cli.generate.export_job import Asked

app = options.app()
EXITS = (
    ExitCode.DATA, ExitCode.NOINPUT, ExitCode.UNAVAILABLE, ExitCode.CANTCREAT, ExitCode.IO,
)  # fmt: skip
EXAMPLES = (
    ("choreo export onnx runs/flow -o export/onnx", "Step and whole samplers for ONNX Runtime"),
    ("choreo export coreml runs/flow --target iOS18 -o export/coreml", "Packages in float16 and 6-bit palettes"),
    ("choreo export swift export/coreml -o export/swift", "The class around them, and its stopwatch"),
    ("choreo export mlx runs/flow -o export/mlx --table", "For Macs, with the proofs as a table"),
)
FORMATS = ("onnx", "coreml", "mlx", "swift")


@app.command()
def export(
    format: Annotated[str, typer.Argument(metavar="|".join(FORMATS), help="What is written.")],
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="A run, a seed of it, or a checkpoint; - reads a run's manifest.")
    ],
    *,
    out: options.OutDir,
    target: Annotated[str, typer.Option("--target", metavar="iOS18|iOS17|iOS16", help="Least platform, coreml.")] = "",
    steps: Annotated[str, typer.Option("--steps", metavar="N[,N...]", help="Whole samplers: their steps.")] = "1,2,4",
    force: options.Force = False,
    json: options.Json = False,
    table: options.TableOut = False,
    quiet: options.Quiet = False,
    log_json: options.LogJson = None,
) -> int:
    """Write a motion network for other programs: onnx, coreml, mlx, or swift around the Core ML packages.

    OUT receives the step graph, a whole sampler for each of --steps, a model card and, last, model.json: input names,
    normalisation, checksums, and how far each graph was proved. All three tasks run from one graph: its inputs are the
    known values, their mask and the task. Every graph is compared with the torch network before OUT exists; when a
    difference is too large nothing is written and the exit code is 65. Weights are the moving average that a
    checkpoint keeps. For swift MODEL may be a Core ML export too.

    Core ML is judged by Core ML on a Mac, elsewhere by a reference executor, and says so. How fast a phone is is never
    claimed from here: see Bench.swift and choreo bench generate --device-file.
    """
    from choreo_cli.generate import export_job
    from choreo_cli.progress import Progress

    asked = _asked(format, piped_run() if str(model) == "-" else model, target, steps)
    made_by = export_job.provenance_of(asked)
    before = None if force else export_job.finished(out, made_by)
    if before is None:
        export_job.need_room(out, force=force)
        with Progress(f"export {format}", quiet=quiet, log=log_json) as bar:
            doc = export_job.run(asked, out, made_by, sys.argv[1:], _counted(bar))
    keep = f"kept in {out}" if before is None else f"already in {out}; --force does it again"
    streams.emit(before or doc, partial(_rows, before or doc), out=None, json=json, as_table=table, keep=keep)
    return ExitCode.OK


def _asked(format: str, path: Path, target: str, steps: str) -> Asked:
    from choreo_cli.generate.export_job import Asked
    from choreo_cli.generate.export_open import model_of, packages_of

    if format not in FORMATS:
        raise UsageError(f"cannot export to {format!r}", hint=f"choose from {', '.join(FORMATS)}")
    if target and format != "coreml":
        raise UsageError(f"--target does not apply to {format}", hint="it is for coreml")
    if format == "coreml":
        from choreo_cli.generate.export_coreml import need_target

        need_target(target or "iOS18")
    try:
        counts = tuple(sorted({int(n) for n in steps.split(",")}))
    except ValueError:
        raise UsageError(f"--steps {steps!r}", hint="whole numbers separated by commas: 1,2,4") from None
    packages = packages_of(path) if format == "swift" else None
    found = model_of(path, packages is not None)
    return Asked(format, found, (target or "iOS18") if format == "coreml" else None, counts, packages)


def piped_run() -> Path:
    """The run whose manifest stdin brings, where `choreo train` or `choreo distill` has written it."""
    from formats.manifest import resolve_roots

    found = streams.read_manifest(None, "export", ("choreo.run",))
    own = next((r.id for r in found.roots if r.self), None)
    if own is None:
        raise DataError("the manifest on stdin names no folder", hint="name the run")
    return resolve_roots(found, {})[own]


def _counted(bar: Any) -> Any:
    done = 0

    def say(item: str) -> None:
        nonlocal done
        bar(done, None, item)
        done += 1

    return say


def _rows(document: bytes) -> list[str]:
    """The graphs for a person."""
    from formats.export_card import decode

    card = decode(document)
    rows: list[tuple[str, ...]] = [
        (
            g.name, g.precision, f"{g.bytes / 1e6:.2f} MB", " ".join(sorted({p.task for p in g.proofs})),
            f"{max((p.max_abs for p in g.proofs), default=0):.2g}", f"{max((p.rms for p in g.proofs), default=0):.2g}",
            card.status,
        )
        for g in card.graphs
    ]  # fmt: skip
    rows += [(name, "", "", "", "", "", card.status) for name in sorted(card.files) if name.endswith(".swift")]
    return streams.columns(rows, ("graph", "precision", "size", "proved for", "max abs", "rms", "status"))
