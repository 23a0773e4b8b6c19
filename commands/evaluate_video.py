"""`choreo evaluate video`: branches of the trajectory lab on views that none of them has seen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from choreo_cli import options, streams
from choreo_cli.errors import ExitCode
from commands.evaluate_out import finish

if TYPE_CHECKING:
    from formats.manifest import Manifest

EXAMPLES = (
    (
        "choreo synth trajectories --num 20 --test 40 --grid 4 -o lab"
        " | choreo train video - --set encoder=moments --set epochs=1 --set pool=1 -o seer"
        " | choreo evaluate video - --table",
        "From curves to a judged model",
    ),
    ("choreo evaluate video seer --split grid --goal accuracy=0.97 --no-gate -o grid.json", "By noise, style, camera"),
)

Runs = Annotated[
    list[Path] | None,
    typer.Argument(metavar="RUN...", help="Run folders, folders of branches, or run.json; - reads stdin."),
]


def video(
    runs: Runs = None,
    *,
    on: Annotated[
        Path | None, typer.Option("--on", metavar="SET", help="Draw this set and show it to the models.")
    ] = None,
    split: Annotated[str, typer.Option("--split", metavar="test|grid", help="Which held-out views.")] = "test",
    goal: Annotated[
        list[str] | None,
        typer.Option("--goal", metavar="NAME=VALUE", help="Gate: accuracy, mae_pct or skill; repeatable."),
    ] = None,
    branch: Annotated[
        list[Path] | None,
        typer.Option("--branch", metavar="FILE", help="Branch file: what it expects is a gate; repeatable."),
    ] = None,
    draws: Annotated[int, typer.Option("--draws", min=99, max=99_999, help="Resamples of each interval.")] = 10_000,
    root: options.Roots = None,
    seed: options.Seed = 0,
    no_gate: Annotated[bool, typer.Option("--no-gate", help="Exit 0 although a gate failed.")] = False,
    out: options.OutFile = None,
    json: options.Json = False,
    table: options.TableOut = False,
    quiet: options.Quiet = False,
    log_json: options.LogJson = None,
) -> int:
    """Class, forecast, calibration and cost of trained branches; by noise, style, camera, family and step.

    Figures come from the predictions a run wrote of its own test or grid views; with --on another set is drawn and
    shown to the models. Predictions of another set are refused, and so are views or curves that a model learned from.
    Intervals resample curves; seeds of one branch are brought together as in evaluate model.
    """
    from choreo_cli.progress import Progress
    from choreo_cli.trajectory import compare_runs, evaluate_job
    from choreo_cli.trajectory.branches import read_branches
    from choreo_cli.trajectory.sets import open_set, set_file

    compare_runs.need_split(split)
    gates = evaluate_job.goals_of(goal or [], read_branches(branch or []))
    overrides = options.root_overrides(root)
    found = compare_runs.find(named(runs), overrides)
    of = None
    if on is not None:
        of = open_set(streams.read_manifest(set_file(on), "evaluate video", ("choreo.trajectories",)))
    with Progress("evaluate video", quiet=quiet, log=log_json) as bar:
        made = evaluate_job.evaluate(found, of, split, overrides, goals=gates, seed=seed, draws=draws, on_progress=bar)
    params = {"split": split, "goals": {k: {n: list(g) for n, g in v.items()} for k, v in gates.items() if v},
              "draws": draws}  # fmt: skip
    failed = finish(
        "video", made.entries, made.inputs, made.notes, params, seed, quiet, out=out, json=json, as_table=table
    )
    if failed and not no_gate:
        return ExitCode.NO
    return ExitCode.PARTIAL if found.unfinished else ExitCode.OK


def named(runs: list[Path] | None) -> list[Path | Manifest]:
    """The paths as named, stdin's manifest in place of `-` or of nothing."""
    return [
        streams.read_manifest(p, "evaluate video", ("choreo.run",)) if str(p) == "-" else p for p in runs or [Path("-")]
    ]
