"""What an export has to reproduce: the torch network on fixed inputs of three tasks, step by step and as a sampler."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.dataset.motions_stats import Stats
from choreo_cli.errors import DataError
from choreo_cli.generate.conditioning import channel_mask, extra_vector, task_vector, time_features
from choreo_cli.generate.config import CHANNELS, CONTACTS, Shape
from choreo_cli.generate.export_plan import plan_of
from choreo_cli.generate.export_sampler import NOISE, WEIGHT, Way
from choreo_cli.generate.flow import Draw, Held, Predict
from choreo_cli.generate.guidance import Guidance
from choreo_cli.generate.model_files import Model
from choreo_cli.generate.sampling import Forward, Process, Sampler, noise
from choreo_cli.generate.tasks import gen_mask, inbetween_mask, predict_mask
from formats.export_card import Proof

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
TASKS = ("GEN", "INBETWEEN", "PREDICT")
ATOL = 1e-5
ROUNDING = 4.0  # a sample may be so many times farther than float32 itself; of 72 of a trained dancer the worst was 3.6
DRAWN = 3  # samples on inputs changed in their last digit
AGREE = 0.9  # share of contacts of a sample that must lie on the same side, where values are rounded
STEPS = (1, 2, 4)
WEIGHTS = {"GEN": 2.5, "INBETWEEN": 1.0, "PREDICT": 2.0}  # guidance of each task's proof
TIMES = (0.0, 0.37, 0.93)
TIMES_OF = dict(zip(TASKS, TIMES, strict=True))
SEED = 20
KEPT = {"max_abs": 0.0, "rms": 2e-3}  # how far known values may move: not at all, or by float16's rounding below 2


@dataclass(frozen=True, slots=True)
class Case:
    """Inputs by name and what the network makes of them, normalised.

    Args:
        task: See `TASKS`.
        inputs: Of the graph.
        expected: (B, T, 25).
        rounding: Of a whole sample: how far float32 itself is from exact, see `formats.export_card.Proof`.
        halves: Of a whole sample: one half of either contact, normalised.
    """

    task: str
    inputs: Mapping[str, F32]
    expected: F32
    rounding: float = 0.0
    halves: tuple[float, float] | None = None


def way_of(model: Model, steps: int) -> Way:
    """How a model is sampled as one graph of so many steps. Raises DataError for a process that does not fold."""
    defaults, facts = model.defaults(), model.facts
    return Way(
        plan_of(model.process(), steps, defaults.solver), defaults.guidance, bool(facts.get("guided", False)),
        bool(facts.get("baked", False)), bool(facts.get("sized", False)),
    )  # fmt: skip


def masks(shape: Shape) -> dict[str, F32]:
    """(1, T, groups) for each task: nothing; both ends and a pose in the middle; the first quarter."""
    t = shape.frames
    rows = {
        "GEN": gen_mask(t), "INBETWEEN": inbetween_mask(t, [0, 1, t // 2, t - 2, t - 1]),
        "PREDICT": predict_mask(t, max(1, t // 4)),
    }  # fmt: skip
    return {k: np.ascontiguousarray(m[None, :, : shape.groups]) for k, m in rows.items()}


def step_cases(shape: Shape, forward: Forward, batch: int = 1) -> list[Case]:
    """The network itself, one time for each task."""
    cases = []
    for number, (task, mask) in enumerate(masks(shape).items()):
        rng = np.random.default_rng((SEED, number, batch))
        inputs = {
            "x": rng.standard_normal((batch, shape.frames, CHANNELS)),
            "time": time_features(np.full(batch, TIMES_OF[task]), shape.width), "audio": _music(rng, shape, batch),
            "known": rng.standard_normal((batch, shape.frames, CHANNELS)), "mask": np.repeat(mask, batch, 0),
            "text": _text(rng, shape, batch), "task": task_vector(task, batch),
            "extra": extra_vector(batch, guidance=2.0, step=0.25),
        }  # fmt: skip
        single = {k: np.asarray(v, np.float32) for k, v in inputs.items()}
        cases.append(Case(task, single, np.asarray(forward(*single.values()))))
    return cases


class _Kept:
    """A process that keeps its last result before anything is undone to it."""

    def __init__(self, process: Process) -> None:
        self.process, self.name = process, process.name
        self.last = np.zeros(0, np.float32)

    def evaluations(self, steps: int, solver: str) -> int:
        return self.process.evaluations(steps, solver)

    def run(self, predict: Predict, draw: Draw, held: Held | None, steps: int, solver: str) -> F32:
        out = self.process.run(predict, draw, held, steps, solver)
        self.last = out if held is None else np.where(held.given, held.known, out)
        return self.last


def sampler_cases(model: Model, forward: Forward, way: Way, exact: Forward | None = None) -> list[Case]:
    """Whole samples by `sampling.Sampler` itself, which knows nothing of graphs and sums.

    Args:
        model: The checkpoint.
        forward: Its network.
        way: How it is sampled.
        exact: The network in float64: then the rounding of each case is measured, and told apart from a wrong graph.
    """
    mean, std = (np.asarray(v, np.float64)[CONTACTS] for v in (model.stats.mean, model.stats.std))
    left, right = ((0.5 - mean) / std).tolist()
    cases = _samples(model, forward, way)
    others = []
    if exact is not None:
        rng = np.random.default_rng(SEED)
        others = [_samples(model, f, way) for f in (exact, *[_shaken(forward, rng)] * DRAWN)]
    return [
        replace(
            case, halves=(left, right),
            rounding=max((float(np.abs(o[k].expected - case.expected).max()) for o in others), default=0.0),
        )
        for k, case in enumerate(cases)
    ]  # fmt: skip


def _shaken(forward: Forward, rng: np.random.Generator) -> Forward:
    """A network on inputs whose last digit is another one."""

    def shaken(x: F32, *more: F32) -> F32:
        last = np.float32(np.finfo(np.float32).eps) * rng.choice(np.array([-1, 1], np.float32), x.shape)
        return forward(x * (1 + last), *more)

    return shaken


def _samples(model: Model, forward: Forward, way: Way) -> list[Case]:
    shape, steps = model.shape, way.plan.steps
    kept = _Kept(model.process())
    sampler = Sampler(
        forward,
        plain_stats(shape.audio_width),
        kept,
        shape.width,
        shape.frames,
        30.0,
        model.defaults(),
        way.guided,
        way.sized,
    )
    cases = []
    for number, (task, mask) in enumerate(masks(shape).items()):
        rng = np.random.default_rng((SEED, number, steps))
        known = 0.8 * rng.standard_normal((1, shape.frames, CHANNELS)).clip(-2, 2).astype(np.float32)
        audio = _music(rng, shape, 1)
        weight = WEIGHTS[task]
        low, high = way.guidance.low, way.guidance.high
        guidance = Guidance(weight if way.weighs(shape) else 1.0, 1.0, low, high)
        given: dict[str, Any] = {} if task == "GEN" else {"known": known, "mask": _seven(mask)}
        sampler.sample(
            audio if shape.audio_width else None, task=task, steps=steps, cfg=guidance, seed=SEED + number,
            frames=shape.frames, **given,
        )  # fmt: skip
        inputs = {NOISE if k == 0 else f"{NOISE}{k}": noise(1, shape.frames, SEED + number, 0, k)
                  for k in range(way.plan.draws)}  # fmt: skip
        inputs |= {"audio": audio, "known": known, "mask": mask, "text": np.zeros((1, shape.text_width), np.float32)}
        inputs |= {"task": task_vector(task, 1), WEIGHT: np.array([weight], np.float32)}
        asked = way.inputs(shape)
        cases.append(Case(task, {k: inputs[k] for k in asked}, kept.last))
    return cases


def _seven(mask: F32) -> F32:
    return mask if mask.shape[-1] > 1 else np.repeat(mask, 7, -1)


def plain_stats(audio_width: int) -> Stats:
    """Statistics that change nothing, for conditions that are normalised already."""
    zeros, ones = (np.full(CHANNELS, v, np.float32) for v in (0, 1))
    return Stats(zeros, ones, np.zeros(audio_width, np.float32), np.ones(audio_width, np.float32))


def _music(rng: np.random.Generator, shape: Shape, batch: int) -> F32:
    return rng.standard_normal((batch, shape.frames, shape.audio_width)).astype(np.float32)


def _text(rng: np.random.Generator, shape: Shape, batch: int) -> F32:
    text = rng.standard_normal((batch, shape.text_width)).astype(np.float32)
    return np.asarray(text / max(1.0, float(np.linalg.norm(text, axis=-1).max(initial=0.0))), np.float32)


def prove(
    run: Callable[[Mapping[str, F32]], Any], cases: Sequence[Case], by: str, what: str, *, allowed: float = ATOL,
    measure: str = "max_abs",
) -> list[Proof]:  # fmt: skip
    """Compare a form of the model with the torch network.

    Args:
        run: Inputs by name to the output.
        cases: What it is compared on.
        by: What computes, for the sidecar.
        what: Name of the graph, for the message.
        allowed: Most that is let through; a whole sample in float32 may also be `ROUNDING` times its rounding away.
        measure: `max_abs`, or `rms`: 1 is a standard deviation of a channel. Of a whole sample the rms is that of the
            23 pose channels: a contact is yes or no, and is compared as that.

    Raises:
        DataError: another shape, values that are not finite, known values that were changed, too large a difference,
            or too few contacts that agree.
    """
    proofs = []
    for case in cases:
        found = np.asarray(run(case.inputs), np.float64)
        if found.shape != case.expected.shape:
            raise DataError(f"{what}, {case.task}, by {by}: shape {found.shape}, need {case.expected.shape}")
        if not np.isfinite(found).all():
            raise DataError(f"{what}, {case.task}, by {by}: values that are not finite")
        if NOISE in case.inputs and (moved := known_error(case, found)) > KEPT[measure]:
            raise DataError(f"{what}, {case.task}, by {by}: known values were changed by {moved:.2g}")
        error = _error(case, found, by, allowed, measure)
        far = error.max_abs if measure == "max_abs" else error.rms
        if far > error.allowed:
            raise DataError(
                f"{what}, {case.task}, by {by}: {measure} {far:.2g}, at most {error.allowed:.2g} is allowed",
                hint="nothing was written",
            )
        if error.contacts is not None and error.contacts < AGREE:
            raise DataError(
                f"{what}, {case.task}, by {by}: {error.contacts:.0%} of the contacts agree, {AGREE:.0%} must",
                hint="nothing was written",
            )
        proofs.append(error)
    return proofs


def _error(case: Case, found: F64, by: str, allowed: float, measure: str) -> Proof:
    away, contacts = found - case.expected, None
    rounding = case.rounding if measure == "max_abs" and case.halves is not None else None
    told, size = away, np.asarray(case.expected, np.float64)
    if measure == "rms" and case.halves is not None:
        same = (found[..., CONTACTS] >= case.halves) == (case.expected[..., CONTACTS] >= case.halves)
        contacts = float(same.mean())
        told, size = (np.delete(a, CONTACTS, axis=-1) for a in (told, size))
    rms, whole = (float(np.sqrt((a**2).mean())) for a in (told, size))
    return Proof(
        task=case.task, by=by, max_abs=float(np.abs(away).max()), rms=rms, rel_rms=rms / max(1e-12, whole),
        allowed=max(allowed, ROUNDING * (rounding or 0.0)), measure=measure, rounding=rounding, contacts=contacts,  # type: ignore[arg-type]
    )  # fmt: skip


def known_error(case: Case, found: NDArray[Any]) -> float:
    """Largest difference where values were given, of a whole sample."""
    flags = channel_mask(_seven(np.asarray(case.inputs["mask"])))
    return float(np.abs(np.where(flags, found - case.inputs["known"], 0)).max())
