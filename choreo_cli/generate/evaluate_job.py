"""The work of `choreo evaluate generation`: arms of clips from the same noise and conditions, and their gates."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.dataset.motions import MotionSet
from choreo_cli.errors import DataError, UsageError
from choreo_cli.generate import evaluate_tune
from choreo_cli.generate.evaluate_arms import Block, Made, Setting, make, slices
from choreo_cli.generate.evaluate_conditions import STRIDE, Conditions, held_out, music_of, spread
from choreo_cli.generate.evaluate_models import Tested
from choreo_cli.metrics import generation_sets
from choreo_cli.metrics.generation_gates import Arm
from choreo_cli.metrics.motion_sanity import Sanity, failures
from formats.manifest import Manifest

STEPS: Mapping[str, tuple[int, ...]] = {"flow": (1, 2, 4, 10), "distilled": (1, 2, 4), "ddim": (50,)}
PRODUCT: Mapping[str, int] = {"flow": 4, "distilled": 1, "ddim": 50}
TASKS = ("predict", "inbetween")
AGAINST = {task: f"against_{task}" for task in TASKS}  # arms of the run that is compared with
GIVEN = (*TASKS, *AGAINST.values())  # arms of clips with given frames, which are judged by their error
LEAST_CLIPS, LEAST_SEEDS = 256, 3
MOST_WINDOWS = 1024
WARM = 2  # the first block of a process also warms its caches
TUNED_ON = 64  # validation clips of each setting
Progress = Callable[..., None]
Note = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be evaluated.

    Args:
        models: What is judged, the arms of `STEPS` of each; of one recipe, by seed.
        source: Motions to hold out from.
        roots: `--root` overrides.
        ddim, distilled, against: Compared with, by seed.
        onnx: An exported package.
        clips: Of each seed and arm.
        steps: Steps of the models' arms; None takes `STEPS`.
        seed: Of the noise and the bootstrap.
        jobs: Processes.
        cfg, shift: Given in place of tuning.
        tune: Tune what is not given.
        cache: Where clips are kept; None keeps nothing.
        seconds: Length of a dance; None takes the models' window. Longer ones are joined as `choreo generate` does.
    """

    models: Sequence[Tested]
    source: Manifest | Path
    roots: Mapping[str, str]
    ddim: Sequence[Tested] = ()
    distilled: Sequence[Tested] = ()
    against: Sequence[Tested] = ()
    onnx: Tested | None = None
    clips: int = LEAST_CLIPS
    steps: tuple[int, ...] | None = None
    seed: int = 0
    jobs: int = 1
    cfg: float | None = None
    shift: float | None = None
    tune: bool = True
    cache: Path | None = None
    seconds: float | None = None

    @property
    def frames(self) -> int:
        """Frames of a judged dance."""
        first = self.models[0]
        return first.frames if self.seconds is None else round(self.seconds * first.fps)

    @property
    def recipe(self) -> str:
        return self.models[0].recipe


@dataclass(slots=True)
class Stage:
    """Held-out windows and what has been made for them.

    Args:
        data: All windows.
        whole: Held-out windows, at most `MOST_WINDOWS`.
        chosen: Which of them are the conditions.
        beats: How the beats of the music are known.
        arms: Arms by name, in order.
        tuned: Recipe -> (setting, what was tried).
        validation: Windows to tune on and their own dances, once something is tuned.
        kept: Channels of the first clips of an arm, for people.
    """

    data: MotionSet
    whole: Conditions
    chosen: NDArray[np.int64]
    beats: str
    arms: dict[str, Arm] = field(default_factory=dict)
    tuned: dict[str, tuple[Setting, list[evaluate_tune.Tried]]] = field(default_factory=dict)
    kept: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    validation: tuple[Conditions, Made] | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """One arm before it is made: its models by seed and how they sample."""

    name: str
    models: tuple[Tested, ...]
    setting: Setting


def prepare(asked: Asked) -> Stage:
    """Open the held-out windows.

    Raises:
        DataError: nothing is held out, or models that hear other features.
        UsageError: dances of less than a quarter of a second.
    """
    first = asked.models[0]
    if asked.frames < first.fps / 4:
        raise UsageError(f"--seconds {asked.seconds:g}", hint="a quarter of a second or more")
    data = MotionSet.open(
        asked.source, asked.roots, frames=asked.frames, stride=STRIDE, fps=first.fps, audio=first.audio_width > 0,
        mirror=False,
    )  # fmt: skip
    for model in all_models(asked):
        if model.audio_width != data.audio_width:
            hint = f"{model.name} hears {model.audio_width} features a frame"
            raise DataError(f"music of {data.audio_width} features a frame", hint=hint)
        if (model.frames, model.fps) != (first.frames, first.fps):
            told = f"{model.name} makes {model.frames} frames at {model.fps:g} fps"
            raise DataError(f"{told}, {first.name} {first.frames} at {first.fps:g}", hint="compare models of one shape")
    heard, beats = music_of(data, asked.source, asked.roots, "test")
    whole = held_out(data, "test", MOST_WINDOWS, heard)
    return Stage(data, whole, spread(len(whole), max(2, asked.clips // 2)), beats)


def all_models(asked: Asked) -> list[Tested]:
    """Every model of an evaluation, in order."""
    onnx = () if asked.onnx is None else (asked.onnx,)
    return [*asked.models, *asked.ddim, *asked.distilled, *onnx, *asked.against]


def make_arms(asked: Asked, stage: Stage, on_progress: Progress, note: Note) -> None:
    """Tune, then make every arm of the evaluation and the held-out one."""
    for models in (asked.models, asked.ddim):
        if models:
            stage.tuned.setdefault(models[0].recipe, _tuned(asked, stage, models[0], on_progress, note))
    plans = list(plans_of(asked, stage))
    blocks = [b for plan in plans for b in _blocks(asked, stage, plan)]
    real = [
        Block(None, "held-out", Setting(0), 0, first, part, asked.cache)
        for first, part in slices(stage.whole, len(stage.whole))
    ]
    note(f"{len(plans)} arms of {asked.clips} clips a seed, {len(stage.whole)} held-out windows, beats {stage.beats}")
    made = _run([*real, *blocks], asked.jobs, on_progress, note)
    stage.arms["held_out"] = _arm("held_out", (0,), [[next(made) for _ in real]], {})
    for plan in plans:
        per_seed = [[next(made) for _ in slices(stage.whole, asked.clips)] for _ in plan.models]
        stage.kept[plan.name] = per_seed[0][0].channels
        stage.arms[plan.name] = _arm(plan.name, [m.seed for m in plan.models], per_seed, _facts(plan))


def plans_of(asked: Asked, stage: Stage) -> Iterator[Plan]:
    """Every arm, in the order of the result."""
    main, recipe = tuple(asked.models), asked.recipe
    tuned = stage.tuned[recipe][0]
    steps = asked.steps or STEPS[recipe]
    for n in steps:
        yield Plan(f"{recipe}{n}", main, replace(tuned, steps=n))
    if asked.ddim:
        setting = stage.tuned["ddim"][0]
        yield Plan(f"ddim{setting.steps}", tuple(asked.ddim), setting)
        if asked.clips >= LEAST_CLIPS:  # EDGE samples so: reported beside, judged by no gate
            yield Plan(f"ddim{setting.steps}_eta1", tuple(asked.ddim), replace(setting, eta=1.0))
    if asked.distilled:
        yield Plan("distilled1", tuple(asked.distilled), _own(asked.distilled[0], 1))
    if asked.onnx is not None:
        own = asked.onnx.recipe
        setting = replace(tuned, steps=PRODUCT[own]) if own == recipe else _own(asked.onnx, PRODUCT[own])
        yield Plan(f"onnx{setting.steps}", (asked.onnx,), setting)
    other = tuple(asked.against)
    if other:
        theirs = replace(tuned, steps=product_steps(asked)) if other[0].recipe == recipe else _own(other[0])
        yield Plan("against", other, theirs)
    for task in TASKS if asked.frames <= main[0].frames else ():
        if task in main[0].tasks:
            yield Plan(task, main, replace(tuned, steps=product_steps(asked), task=task))
            if other and task in other[0].tasks:
                yield Plan(AGAINST[task], other, replace(theirs, task=task))


def product_steps(asked: Asked) -> int:
    """Steps of the arm that the gates are about: the product's, or the most of those that were asked for."""
    steps = asked.steps or STEPS[asked.recipe]
    return PRODUCT[asked.recipe] if PRODUCT[asked.recipe] in steps else max(steps)


def _own(model: Tested, steps: int | None = None) -> Setting:
    """A model as its card says."""
    return Setting(steps or model.steps, model.solver)


def _facts(plan: Plan) -> dict[str, Any]:
    s = plan.setting
    return {"steps": s.steps, "solver": s.solver, "cfg": s.cfg, "shift": s.shift, "recipe": plan.models[0].recipe}


def _blocks(asked: Asked, stage: Stage, plan: Plan) -> Iterator[Block]:
    parts = slices(stage.whole.rows(stage.chosen), asked.clips)
    for model in plan.models:
        for first, part in parts:
            yield Block(model.folder, model.identity, plan.setting, asked.seed, first, part, asked.cache)


def _tuned(
    asked: Asked, stage: Stage, model: Tested, on_progress: Progress, note: Note
) -> tuple[Setting, list[evaluate_tune.Tried]]:
    """The setting of a recipe: as given, tuned on validation windows, or as its card says."""
    first = Setting(PRODUCT[model.recipe], model.solver)
    flow = model.recipe == "flow"
    given = replace(first, cfg=asked.cfg, shift=asked.shift if flow else None)
    if model.baked or not asked.tune or (asked.cfg is not None and (asked.shift is not None or not flow)):
        return (first if model.baked else given), []
    windows, held = _validation(asked, stage, on_progress)
    parts = slices(windows, min(TUNED_ON, max(len(windows), asked.clips)))

    def run(settings: Sequence[Setting]) -> list[Made]:
        blocks = [
            Block(model.folder, model.identity, s, asked.seed, first, part, asked.cache)
            for s in settings for first, part in parts
        ]  # fmt: skip
        made = _run(blocks, asked.jobs, on_progress, lambda _: None)
        return [joined([next(made) for _ in parts]) for _ in settings]

    note(f"tuning the guidance of {model.recipe} on {len(windows)} validation windows")
    chosen, tried = evaluate_tune.tune(first, run, partial(_far, held, windows.groups), shifts=flow)
    kept = replace(chosen, cfg=chosen.cfg if asked.cfg is None else asked.cfg)
    return replace(kept, shift=kept.shift if asked.shift is None or not flow else asked.shift), tried


def _validation(asked: Asked, stage: Stage, on_progress: Progress) -> tuple[Conditions, Made]:
    """Validation windows, and what is found of their own dances; made once for all that is tuned."""
    if stage.validation is None:
        heard, _ = music_of(stage.data, asked.source, asked.roots, "val")
        windows = held_out(stage.data, "val", TUNED_ON, heard)
        parts = slices(windows, len(windows))
        blocks = [Block(None, "held-out", Setting(0), 0, first, part, asked.cache) for first, part in parts]
        stage.validation = windows, joined(list(_run(blocks, asked.jobs, on_progress, lambda _: None)))
    return stage.validation


def _far(held: Made, groups: Sequence[str], made: Made) -> float | None:
    """Kernel distance of clips to validation windows: kinetic and manual features, each scaled by its real spread."""
    found = [
        generation_sets.apart(real, groups, drawn, np.random.default_rng(0), kernel=True).value
        for real, drawn in ((held.kinetic, made.kinetic), (held.manual, made.manual))
    ]
    return None if None in found else float(sum(v for v in found if v is not None))


def _run(blocks: Sequence[Block], jobs: int, on_progress: Progress, note: Note) -> Iterator[Made]:
    """Results in order; the second that was not kept from before tells how long the rest will take."""
    from choreo_cli.engine import run_map

    fresh = 0
    for done, made in enumerate(run_map(make, blocks, jobs=jobs, on_progress=on_progress), 1):
        if made.seconds is not None and made.rows:
            fresh += 1
            if fresh == WARM:
                note(_estimate(blocks[done:], made, jobs))
        yield made


def _estimate(left: Sequence[Block], made: Made, jobs: int) -> str:
    assert made.seconds is not None
    clips = len(made.channels)
    row, judged = made.seconds[0] / (clips * made.rows), made.seconds[1] / clips
    rows = sum(len(b.conditions) * _rows(b.setting) for b in left if b.model is not None)
    seconds = (rows * row + sum(len(b.conditions) for b in left) * judged) / max(1, jobs)
    each = f"{1e3 * row:.2g} ms a network row, {1e3 * judged:.2g} ms to judge a clip"
    return f"at most {max(1, round(seconds / 60))} min more ({each}; what was kept from before is quicker)"


def _rows(setting: Setting) -> int:
    return setting.steps * (1 if setting.cfg == 1.0 else 2)


def joined(made: Sequence[Made]) -> Made:
    """Blocks one after the other."""
    names = made[0].figures
    return Made(
        np.concatenate([m.channels for m in made]), {n: np.concatenate([m.figures[n] for m in made]) for n in names},
        np.concatenate([m.kinetic for m in made]), np.concatenate([m.manual for m in made]), made[0].nfe,
        made[0].rows, tuple(r for m in made for r in m.reasons), tuple(p for m in made for p in m.parts),
    )  # fmt: skip


def _arm(name: str, seeds: Sequence[int], made: Sequence[Sequence[Made]], facts: Mapping[str, Any]) -> Arm:
    seen = [joined(m) for m in made]
    names = sorted({n for s in seen for n in s.figures})
    empty = np.full(len(seen[0].channels), np.nan)
    figures = {n: np.stack([s.figures.get(n, empty) for s in seen]) for n in names}
    verdicts = [Sanity(str(k), r, {}) for k, r in enumerate(r for s in seen for r in s.reasons)]
    parts = sorted({p for s in seen for one in s.parts for p in one})
    means = {p: float(np.mean([one[p] for s in seen for one in s.parts if p in one])) for p in parts}
    return Arm(
        name, tuple(seeds), figures, np.stack([s.kinetic for s in seen]), np.stack([s.manual for s in seen]),
        float(seen[0].rows), seen[0].nfe, facts, failures(verdicts), means,
    )  # fmt: skip
