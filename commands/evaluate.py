"""`choreo evaluate`: judge runs and controls on held-out sessions, against chance."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from choreo_cli import options, streams
from choreo_cli.errors import ExitCode, UsageError
from commands import evaluate_generation, evaluate_motion, evaluate_video
from commands.evaluate_out import finish

if TYPE_CHECKING:
    from choreo_cli.metrics.evaluate import Evaluation

app = options.app()
EXITS = (
    ExitCode.NO, ExitCode.PARTIAL, ExitCode.DATA, ExitCode.NOINPUT, ExitCode.UNAVAILABLE, ExitCode.CANTCREAT,
    ExitCode.IO, ExitCode.CONFIG,
)  # fmt: skip
EXAMPLES = (
    ("choreo train rps dataset --epochs 1 -o rps | choreo train mapper - --set steps=50 -o mapper"
     " | choreo evaluate groove - --no-gate -o groove.json", "From frames to a judged mapper"),
    ("choreo synth sessions --sessions 3 --minutes 0.5 --bpm 127 --seed 9 --frames-only -q -o others > others.json;"
     " choreo evaluate groove mapper --against others --no-gate", "The negative control: every gate has to fail"),
    ("choreo evaluate model rps mapper --no-gate --table", "Held-out figures of both"),
    *evaluate_motion.EXAMPLES, *evaluate_generation.EXAMPLES, *evaluate_video.EXAMPLES,
    ("cd recordings/session-0000/truth; choreo evaluate beats beats.txt beats.txt", "Estimated beats, annotated beats"),
)  # fmt: skip
MAPPER, PLANNER = "choreo_cli.reflex.mapper_score", "choreo_cli.reflex.planner_score"

RunPaths = Annotated[
    list[Path] | None, typer.Argument(metavar="RUN...", help="Run folders, or run.json; - or nothing reads stdin.")
]
NoGate = Annotated[bool, typer.Option("--no-gate", help="Exit 0 although a gate failed.")]
On = Annotated[Path | None, typer.Option("--on", metavar="DATA", help="Judge on this corpus, all of it held out.")]


@app.callback()
def evaluate() -> None:
    """Judge runs and controls on held-out sessions, against chance.

    Exit 1 when a gate failed; a gate that cannot be judged says why and does not count.
    """


@app.command()
def groove(
    runs: RunPaths = None,
    *,
    controls: Annotated[
        Path | None, typer.Option("--controls", metavar="FILE|DIR", help="Judge these controls instead of a run's.")
    ] = None,
    frames: Annotated[
        Path | None, typer.Option("--frames", metavar="DATA", help="With --controls: the frames of their sessions.")
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option("--against", metavar="DATA", help="Negative control: another set, in order; must fail."),
    ] = None,
    draws: Annotated[int, typer.Option("--draws", min=99, max=99_999, help="Draws of each null.")] = 999,
    root: options.Roots = None,
    seed: options.Seed = 0,
    no_gate: NoGate = False,
    out: options.OutFile = None,
    json: options.Json = False,
    table: options.TableOut = False,
    quiet: options.Quiet = False,
    log_json: options.LogJson = None,
) -> int:
    """Phase coherence, energy correlation, drift: a mapper's controls on held-out sessions, or a recorded performance.

    Each stands beside chance: stretched and blind clocks, circular shifts, other sessions. With --against the controls
    meet sessions they were not made from (another seed, tempo 3-10 % apart): every gate has to fail, and exit is 1.
    """
    from choreo_cli.metrics import evaluate as work
    from choreo_cli.progress import Progress

    if (controls is None and frames is not None) or (controls is not None and runs):
        raise UsageError("--frames belongs to --controls, and --controls stands in place of RUN")
    with Progress("evaluate groove", quiet=quiet, log=log_json) as bar:
        how: dict[str, Any] = {"against": against, "seed": seed, "draws": draws, "on_progress": bar}
        if controls is not None:
            found = work.evaluate_controls_groove(controls, frames, **how)
        else:
            found = work.evaluate_groove(*_named(runs, "groove", root), **how)
    params = {"draws": draws, "decoupled": against is not None}
    return _finish("groove", found, params, seed, no_gate, quiet, out=out, json=json, as_table=table)


@app.command()
def model(
    runs: RunPaths = None,
    *,
    on: On = None,
    root: options.Roots = None,
    no_gate: NoGate = False,
    out: options.OutFile = None,
    json: options.Json = False,
    table: options.TableOut = False,
    quiet: options.Quiet = False,
    log_json: options.LogJson = None,
) -> int:
    """Held-out figures of runs by their own lane; seeds of one recipe are brought together.

    Over seeds: mean, Student's t interval (n = seeds); a gate is passed when every seed passes it.
    """
    from choreo_cli.metrics import evaluate as work
    from choreo_cli.metrics import lanes
    from choreo_cli.progress import Progress

    with Progress("evaluate model", quiet=quiet, log=log_json) as bar:
        corpus = None if on is None else work.other_corpus(on)
        found = work.evaluate_model(work.runs_in(*_named(runs, "model", root)), lanes.score_of, corpus, bar)
    return _finish("model", found, {}, None, no_gate, quiet, out=out, json=json, as_table=table)


@app.command()
def normalizer(
    having: Annotated[Path, typer.Argument(metavar="WITH", help="Mapper runs of several seeds with M2.")],
    lacking: Annotated[Path, typer.Argument(metavar="WITHOUT", help="Mapper runs of the same seeds without it.")],
    *,
    seed: options.Seed = 0,
    no_gate: NoGate = False,
    out: options.OutFile = None,
    json: options.Json = False,
    table: options.TableOut = False,
    quiet: options.Quiet = False,
) -> int:
    """Whether the latent normaliser lowers the variance of the mapper's held-out loss, over paired seeds."""
    from choreo_cli.metrics import evaluate as work
    from choreo_cli.metrics import lanes

    found = work.evaluate_normalizer(having, lacking, lanes.scorer(MAPPER, "normalizer_effect"), seed)
    return _finish("normalizer", found, {}, seed, no_gate, quiet, out=out, json=json, as_table=table)


def planner(
    runs: RunPaths = None,
    *,
    root: options.Roots = None,
    no_gate: NoGate = False,
    out: options.OutFile = None,
    json: options.Json = False,
    table: options.TableOut = False,
    quiet: options.Quiet = False,
) -> int:
    """Whether the bar planner's events fall on the right bars, without spam."""
    from choreo_cli.metrics import evaluate as work
    from choreo_cli.metrics import lanes

    found = work.evaluate_planner(work.runs_in(*_named(runs, "planner", root)), lanes.scorer(PLANNER, "score_planner"))
    return _finish("planner", found, {}, None, no_gate, quiet, out=out, json=json, as_table=table)


if find_spec(PLANNER) is not None:
    app.command()(planner)


app.command()(evaluate_motion.motion)
app.command()(evaluate_generation.generation)
app.command()(evaluate_video.video)


@app.command()
def beats(
    estimate: Annotated[Path, typer.Argument(metavar="ESTIMATE", help="Estimated beats, any format discover reads.")],
    reference: Annotated[Path, typer.Argument(metavar="REFERENCE", help="Annotated beats.")],
    *,
    out: options.OutFile = None,
    json: options.Json = False,
    table: options.TableOut = False,
) -> int:
    """Estimated beats against annotated ones, with the conventions of mir_eval."""
    from choreo_cli.metrics import evaluate as work

    found = work.evaluate_beats(estimate, reference)
    return _finish("beats", found, {}, None, True, True, out=out, json=json, as_table=table)


def _named(runs: list[Path] | None, what: str, root: list[str] | None) -> tuple[list[Any], dict[str, str]]:
    """The manifests of the runs that were named or piped in, and the `--root` overrides."""
    from choreo_cli.metrics.run_inputs import read_run

    kinds = ("choreo.run", "choreo.sessions")[: 1 + (what == "groove")]
    named = runs or [Path("-")]
    found = [read_run(p, kinds) if p.is_dir() else streams.read_manifest(p, f"evaluate {what}", kinds) for p in named]
    return found, options.root_overrides(root)


def _finish(
    what: str, found: Evaluation, params: dict[str, Any], seed: int | None, no_gate: bool, quiet: bool, **where: Any
) -> int:
    """One metrics manifest out, remarks, and the exit status."""
    failed = finish(what, found.entries, found.inputs, found.notes, params, seed, quiet, **where)
    return ExitCode.NO if failed and not no_gate else ExitCode.OK
