"""The one document behind the page, the Markdown and the JSON of a report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from choreo_cli.report import run_environment
from choreo_cli.report.run_artefact import inside
from choreo_cli.report.run_datasets import dataset_rows
from choreo_cli.report.run_decision import Evidence, decide, evidence
from choreo_cli.report.run_figures import Figure, make_figures
from choreo_cli.report.run_gather import Gathered, Run
from choreo_cli.report.run_groups import Group, a_sha, differences, group_runs
from choreo_cli.report.run_latency import ledgers
from choreo_cli.report.run_metrics import Row, evaluation_rows, group_rows
from choreo_cli.report.run_origins import WEIGHTS, trace
from choreo_cli.report.run_reproduce import Block, Grammar, reproduce
from choreo_cli.runtime import provenance

SCHEMA = "choreo.report/1"


@dataclass(frozen=True, slots=True)
class Report:
    """A report before it is written.

    Args:
        document: Everything but the drawings, JSON values.
        figures: The drawings.
    """

    document: dict[str, Any]
    figures: tuple[Figure, ...]

    @property
    def exit(self) -> int:
        """0 PROMOTE, 1 HOLD, 3 INCOMPLETE."""
        return int(self.document["decision"]["exit"])


def make_report(found: Gathered, grammar: Grammar, params: Mapping[str, Any]) -> Report:
    """Judge what was gathered.

    Args:
        found: Runs, figures and datasets.
        grammar: How command lines are read and written again.
        params: Resolved parameters of the report, for its provenance.
    """
    groups = group_runs(found.runs, found.known.values())
    rows = all_rows(groups, found)
    datasets = dataset_rows(found)
    origins = trace(found)
    block = reproduce(origins, grammar)
    figures = tuple(make_figures(groups, rows))
    damage = list(damaged(found.runs))
    proofs = [*evidence(groups, rows, datasets, _origins(block)), *_absent(found.runs)]
    inputs = [{"role": a.kind, "sha256": a.sha256, "schema": a.manifest.schema} for a in found.inputs]
    document = {
        "schema": SCHEMA,
        "created_by": provenance("report", dict(params), inputs),
        "decision": decide(rows, datasets, proofs, damage),
        "evidence": [{"what": e.what, "there": e.there, "text": e.text} for e in proofs],
        "runs": [_run_record(g, datasets) for g in groups],
        "differences": differences(groups),
        "datasets": datasets,
        "latency": ledgers(found.evaluations),
        "metrics": rows,
        "figures": [_figure_record(f) for f in figures],
        "reproduction": _block_record(block),
        "environment": run_environment.compare(origins.steps),
        "comparison": None,
    }
    return Report(document, figures)


def all_rows(groups: Sequence[Group], found: Gathered) -> list[Row]:
    """Figures of the runs, judged before compared, then of the evaluations."""
    rows = [r for g in groups if not g.beside for r in group_rows(g)]
    rows += [r for a in found.evaluations for r in evaluation_rows(a, found.known)]
    return rows + [r for g in groups if g.beside for r in group_rows(g)]


def damaged(runs: Iterable[Run]) -> Iterable[str]:
    """Weights that are not the ones their run names."""
    from formats.atomic import sha256_file

    for run in runs:
        stated = run.entry["files"] if isinstance(run.entry["files"], dict) else {}
        file = inside(run.folder, WEIGHTS)
        want = stated.get(WEIGHTS) or stated.get(f"{run.entry['path']}/{WEIGHTS}")
        if file is not None and want and sha256_file(file) != want:
            yield f"{run.label}/{WEIGHTS} is not what its run wrote: damaged or changed"


def _absent(runs: Iterable[Run]) -> list[Evidence]:
    found = []
    for run in runs:
        if inside(run.folder, WEIGHTS) is None:
            found.append(Evidence(f"weights of {run.label}", False, f"no {WEIGHTS} where the run says it lies"))
        if run.entry["state"] != "done":
            found.append(Evidence(f"end of {run.label}", False, "the training was stopped before it was done"))
    return found


def _origins(block: Block) -> list[Evidence]:
    if block.missing:
        return block.missing
    n = len(block.steps)
    return [Evidence("reproduction", True, f"{n} step{'' if n == 1 else 's'}, each with the digests it must come to")]


def _run_record(g: Group, datasets: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    first = g.runs[0].entry
    data = next((d["name"] for d in datasets if d["sha256"] == a_sha(g.runs[0])), "MISSING")
    return {
        "title": g.title,
        "recipe": g.recipe,
        "beside": g.beside,
        "folders": [r.label for r in g.runs],
        "ids": [r.entry["id"] for r in g.runs],
        "seeds": g.seeds,
        "steps": sorted({int(r.entry["steps"]) for r in g.runs}),
        "epochs": sorted({float(r.entry["epochs"]) for r in g.runs}),
        "parameters": first["parameters"],
        "device": sorted({str(r.entry["device"]) for r in g.runs}),
        "data": data,
        "parents": sorted({str(p.get("role")) for r in g.runs for p in r.entry["parents"] or []}),
        "synthetic": first["synthetic"],
        "state": sorted({str(r.entry["state"]) for r in g.runs}),
        "config": dict(g.config),
        "weights": {r.label: (r.entry["files"] or {}).get(WEIGHTS) for r in g.runs},
    }


def _figure_record(f: Figure) -> dict[str, Any]:
    return {"name": f.name, "title": f.title, "text": f.text, "missing": f.draw is None, "facts": dict(f.facts)}


def _block_record(block: Block) -> dict[str, Any]:
    steps = [
        {
            "name": s.name, "title": s.title, "command": s.command, "digest": s.digest, "exit": s.status,
            "files": dict(s.files), "folders": list(s.folders), "missing": s.why or None,
        }
        for s in block.steps
    ]  # fmt: skip
    return {"variables": dict(block.variables), "steps": steps, "script": block.text if block.steps else ""}
