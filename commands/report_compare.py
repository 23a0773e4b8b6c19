"""`choreo report --compare`: trained branches beside each other, with a winner by a rule stated first, or none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from choreo_cli import streams
from choreo_cli.errors import ExitCode

if TYPE_CHECKING:
    from formats.manifest import Manifest

EXAMPLES = (
    (
        "choreo synth trajectories --num 20 --test 40 --grid 4 -o arena"
        " && choreo train video arena --set encoder=moments --set epochs=1 --set pool=1 --set branch=branch0 -q"
        " -o racer > racer.json; choreo report racer --compare -o standings"
        " || echo 'not yet: see standings/comparison.html'",
        "Compare branches; exit 3 says what is missing for a verdict",
    ),
)


def compare(
    inputs: Sequence[Path], out: Path | None, roots: Mapping[str, str], branches: Sequence[Path], *,
    wait: float, json: bool, table: bool, quiet: bool,
) -> int:  # fmt: skip
    """Build the comparison, write it, show it; exit 0, or 3 when it is INCOMPLETE."""
    from choreo_cli import runtime
    from choreo_cli.outputs import output_folder
    from choreo_cli.progress import Progress
    from choreo_cli.report import compare_page
    from choreo_cli.trajectory import compare as work
    from choreo_cli.trajectory import compare_runs
    from choreo_cli.trajectory.branches import read_branches

    asked = work.Options(branches=tuple(read_branches(branches)))
    with Progress("report --compare", quiet=quiet) as bar:
        found = compare_runs.find(_named(inputs), roots)
        compare_runs.need_finished(found)
        of = compare_runs.own_set(found.runs[0], roots)
        read = [r.run.source for r in found.runs] + [t.source for t in found.told]
        read.append({"role": "trajectories", "sha256": of.sha256, "schema": "choreo.trajectories/1"})
        unique: list[dict[str, Any]] = [dict(t) for t in dict.fromkeys(tuple(sorted(i.items())) for i in read)]
        params: dict[str, Any] = {"draws": asked.draws, "told": asked.told, "worst": asked.worst}
        params |= {"models": {b.name: b.language.model for b in asked.branches}} if asked.branches else {}
        made_by = runtime.provenance("report --compare", params, unique, seed=asked.seed)
        built = work.build(found, of, made_by, asked, bar)
        doc = compare_page.encode(built.document)
        if out is not None:
            files = compare_page.files(built.document, built.pictures)
            with output_folder(out, "comparison", made_by, wait_s=wait) as folder:
                (out / compare_page.DOCUMENT).unlink(missing_ok=True)  # its presence means complete
                for name, data in files.items():
                    folder.write("report", name, data)
    keep = f"read {out / compare_page.PAGE}" if out is not None else "keep it with -o DIR"
    streams.emit(
        doc, lambda: compare_page.lines(built.document, streams.columns), out=None, json=json, as_table=table, keep=keep
    )
    return int(ExitCode.OK if built.complete else ExitCode.PARTIAL)


def _named(inputs: Sequence[Path]) -> list[Path | Manifest]:
    return [
        streams.read_manifest(p, "report --compare", ("choreo.run",)) if str(p) == "-" else p
        for p in inputs or [Path("-")]
    ]
