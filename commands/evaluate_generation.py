"""`choreo evaluate generation`: dances made by a network, against held-out ones, other networks and simple rules."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from choreo_cli import options, streams
from choreo_cli.errors import CantCreateError, ExitCode, UsageError
from commands.evaluate_out import finish

if TYPE_CHECKING:
    from choreo_cli.generate.evaluate_job import Asked
    from choreo_cli.generate.evaluate_result import Result
    from formats.manifest import Manifest

EXAMPLES = (
    (
        "choreo synth motions --clips 12 --seconds 3 --seed 2 -o unseen -q;"
        " choreo evaluate generation runs/flow unseen --quick --no-gate -o generated.json --table",
        "A first look at a dancer, on dances that it does not know",
    ),
)
CACHE = ".choreo-generated"
QUICK_CLIPS = 32
QUICK_STEPS = (1, 4)

Named = Annotated[
    list[Path] | None,
    typer.Argument(metavar="RUN... [MOTIONS]", help="Runs of train flow; held-out motions; - or nothing reads stdin."),
]
Ddim = Annotated[
    list[Path] | None,
    typer.Option("--against-ddim", metavar="RUN", help="Runs of train ddim, same seeds and budget; repeatable."),
]
Distilled = Annotated[
    list[Path] | None, typer.Option("--distilled", metavar="RUN", help="Runs of distill; their one step is judged.")
]
Onnx = Annotated[Path | None, typer.Option("--onnx", metavar="DIR", help="What export onnx has written.")]
Against = Annotated[
    list[Path] | None, typer.Option("--against", metavar="RUN", help="Fail on what got worse than these runs.")
]
Clips = Annotated[int, typer.Option("--clips", min=4, max=100_000, help="Clips of each seed and arm.")]
Seconds = Annotated[
    float | None,
    typer.Option("--seconds", metavar="S", help="Length of a dance, not the models' window.", callback=options.finite),
]
Steps = Annotated[str, typer.Option("--steps", metavar="N[,N...]", help="Steps that are compared; 1,2,4,10 of flow.")]
Cfg = Annotated[
    float | None, typer.Option("--cfg", metavar="W", help="Weight of the music, not tuned.", callback=options.finite)
]
Shift = Annotated[
    float | None, typer.Option("--shift", metavar="S", help="Time shift of flow, not tuned.", callback=options.finite)
]
NoTune = Annotated[bool, typer.Option("--no-tune", help="Guidance and shift as the models' cards say.")]
Quick = Annotated[bool, typer.Option("--quick", help=f"{QUICK_CLIPS} clips, 1 and 4 steps, no tuning: a first look.")]
Cache = Annotated[
    Path | None, typer.Option("--cache", metavar="DIR", help="Keep made clips there, not beside the output.")
]
Samples = Annotated[
    Path | None, typer.Option("--samples", metavar="DIR", help="Some dances of every arm, for render and report.")
]


def generation(
    named: Named = None,
    *,
    against_ddim: Ddim = None,
    distilled: Distilled = None,
    onnx: Onnx = None,
    against: Against = None,
    clips: Clips = 256,
    seconds: Seconds = None,
    steps: Steps = "",
    cfg: Cfg = None,
    shift: Shift = None,
    no_tune: NoTune = False,
    quick: Quick = False,
    cache: Cache = None,
    samples: Samples = None,
    root: options.Roots = None,
    seed: options.Seed = 0,
    jobs: options.Jobs = 1,
    no_gate: Annotated[bool, typer.Option("--no-gate", help="Exit 0 although a gate failed.")] = False,
    out: options.OutFile = None,
    json: options.Json = False,
    table: options.TableOut = False,
    quiet: options.Quiet = False,
    log_json: options.LogJson = None,
) -> int:
    """Generated dances: 1, 2, 4 and 10 steps of a flow against DDIM in 50, held-out dances and simple rules.

    Every seed and arm makes the same clips: same noise, same held-out music and frames (no dancer or song of the
    training). Guidance and time shift are tuned on validation windows alone. Intervals are drawn over seeds and
    dancers, differences clip by clip. Musicality has its parts of energy and tempo from 5 s on (--seconds). Made clips
    are kept by content beside the output: a killed evaluation goes on where it was, a second one is quick. Motions are
    those the runs were trained on, or what is named.
    """
    from choreo_cli.generate import evaluate_result
    from choreo_cli.progress import Progress
    from choreo_cli.runtime import core_count

    if out is not None and not out.parent.is_dir():  # told now, and not after minutes of work
        raise CantCreateError(f"cannot create {out}", hint=f"make the folder {out.parent} first")
    asked = _asked(
        named, {"ddim": against_ddim, "distilled": distilled, "against": against}, onnx, options.root_overrides(root),
        clips=QUICK_CLIPS if quick and clips == 256 else clips, steps=_steps(steps) or (QUICK_STEPS if quick else None),
        seed=seed, jobs=core_count(jobs), cfg=cfg, shift=shift, tune=not (no_tune or quick),
        seconds=seconds, cache=cache or (None if out is None else out.parent / CACHE),
    )  # fmt: skip
    with Progress("evaluate generation", quiet=quiet, log=log_json) as bar:
        found = evaluate_result.evaluate(asked, bar, bar.note)
        if samples is not None:
            _write_samples(samples, found)
    params = {
        "seconds": seconds,
        "clips": asked.clips,
        "steps": ",".join(map(str, asked.steps or ())),
        "cfg": cfg,
        "shift": shift,
        "no_tune": not asked.tune,
    }
    evaluation = found.evaluation
    failed = finish(
        "generation", evaluation.entries, evaluation.inputs, evaluation.notes, params, seed, quiet, out=out, json=json,
        as_table=table,
    )  # fmt: skip
    return ExitCode.NO if failed and not no_gate else ExitCode.OK


def _write_samples(folder: Path, found: Result) -> None:
    from choreo_cli.generate.evaluate_samples import samples
    from choreo_cli.outputs import output_folder
    from choreo_cli.runtime import provenance

    made_by = provenance("evaluate generation", {"samples": True}, found.evaluation.inputs)
    with output_folder(folder, "motions", made_by) as target:
        target.invalidate()
        entries = []
        for path, data, entry in samples(found.stage):
            target.write("motion", path, data)
            sha = target.files[path][1]
            entries.append({"id": sha[:16], "path": path, "sha256": sha, **entry})
        target.finish(entries, ExitCode.OK, sys.argv[1:])


def _asked(
    named: list[Path] | None, others: dict[str, list[Path] | None], onnx: Path | None, roots: dict[str, str], **how: Any
) -> Asked:
    from choreo_cli.generate import evaluate_models as models
    from choreo_cli.generate.evaluate_job import Asked

    runs, motions, piped = _told_apart(named)
    main = models.models_of(runs, roots, piped)
    if not main:
        raise UsageError("no run to evaluate", hint="name runs of choreo train flow, or pipe one in")
    if main[0].recipe == "ddim" and others["ddim"]:
        raise UsageError("ddim against ddim", hint="name the flow runs first, and ddim with --against-ddim")
    found = {k: models.models_of(v or [], roots) for k, v in others.items()}
    models.need(found["ddim"], "ddim", "--against-ddim")
    models.need(found["distilled"], "distilled", "--distilled")
    exported = None if onnx is None else models.opened(onnx, None)
    if exported is not None and not exported.exported:
        raise UsageError(f"{onnx} is no export", hint=f"choreo export onnx {onnx} -o DIR writes one")
    source = motions if motions is not None else models.motions_of(main[0])
    return Asked(main, source, roots, found["ddim"], found["distilled"], found["against"], exported, **how)


def _told_apart(named: list[Path] | None) -> tuple[list[Path], Path | Manifest | None, list[Manifest]]:
    """(runs, motions, runs from a pipe) of what was named: motions come last, and are no model."""
    from choreo_cli.generate.evaluate_models import is_model

    paths = named or [Path("-")]
    piped = [streams.read_manifest(None, "evaluate generation", ("choreo.run",)) for p in paths if str(p) == "-"]
    files = [p for p in paths if str(p) != "-"]
    runs = [p for p in files if is_model(p) or not p.exists()]
    motions = [p for p in files if p not in runs]
    if len(motions) > 1:
        raise UsageError(f"{motions[0]} and {motions[1]} are both no run", hint="name the motions once")
    return runs, motions[0] if motions else None, piped


def _steps(text: str) -> tuple[int, ...] | None:
    if not text.strip():
        return None
    try:
        found = sorted({int(part) for part in text.split(",")})
    except ValueError:
        found = []
    if not found or not all(1 <= n <= 1000 for n in found):
        raise UsageError(f"--steps {text!r} is not N[,N...]", hint="numbers from 1 to 1000, separated by commas")
    return tuple(found)
