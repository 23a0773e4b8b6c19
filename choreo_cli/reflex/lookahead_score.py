"""How good a look-ahead is: error by horizon against what one could say without a model.

Baselines: repeat-last, one beat ago, two beats ago, one bar ago; each repeats the newest value it knows of that kind.
Every error is a mean absolute error of normalised latents over all dimensions, taken at the same ticks for the model
and for every baseline. One beat is 16 ticks, so the baselines follow the session's own beat. Figures over several
sessions are means of per-session figures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.reflex.bars import BEATS_PER_BAR, TICKS
from choreo_cli.reflex.lookahead import Lookahead, Shape
from choreo_cli.reflex.lookahead_ticks import TickSet, tick_set
from formats.columns import BLOCKS
from formats.metrics import entry

if TYPE_CHECKING:
    from choreo_cli.dataset.frameset import FrameSet

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

BAR = TICKS * BEATS_PER_BAR
BASELINES = ("repeat_last", "one_beat_ago", "two_beats_ago", "one_bar_ago")
"""Two beats are no part of the gate as it is worded, but a body sways left and right: they are the hardest to beat."""
TWO_SIDED = "two_sided"
BLOCK = 8 * TICKS
"""Ticks of a bootstrap block: 8 beats, longer than what latents remember of a pulse."""
DRAWS = 1000
AT_ONCE = 32 * BLOCK
"""Ticks judged together: a night of dancing needs no more memory than two minutes."""
Predict = Callable[[F32, I64, F32], F32]


@dataclass(frozen=True, slots=True)
class Errors:
    """Absolute errors of one stretch, or of a part of a long one, averaged over the dimensions of each block.

    Args:
        session_id: Whose.
        by: Name (`model`, a baseline, `two_sided`) -> (n, H, blocks) error at each tick, horizon and latent block.
    """

    session_id: str
    by: dict[str, F64]


def least_ticks(shape: Shape) -> int:
    """Ticks a stretch needs to be judged at all: the past, the furthest horizon and two beats to look back from."""
    return shape.field + shape.horizons[-1] + 2 * TICKS


def errors_of(predict: Predict, shape: Shape, ticks: TickSet) -> list[Errors]:
    """Errors of a predictor and of every baseline on each stretch.

    Args:
        predict: (K, dim), (K,), (K,) to (K - field + 1, H, dim), as `Lookahead.predict`.
        shape: Its field and horizons.
        ticks: Stretches of at least `least_ticks`.
    """
    found = []
    past, future = shape.field - 1, shape.horizons[-1] + 2 * TICKS
    for k, stretch in enumerate(ticks.stretches):
        for start in range(0, len(stretch) - past - future, AT_ONCE):
            stop = min(len(stretch), start + past + AT_ONCE + future)
            own = stretch.ticks.slice(start, stop)
            by = _errors(predict, shape, ticks.latents(k, start, stop), own.index, own.rate)
            found.append(Errors(stretch.session_id, by))
    return found


def _errors(predict: Predict, shape: Shape, z: F32, index: I64, rate: F32) -> dict[str, F64]:
    now = np.arange(shape.field - 1, len(z) - shape.horizons[-1] - 2 * TICKS)
    guess = predict(z, index, rate)[: len(now)]
    by = {n: np.empty((len(now), len(shape.horizons), len(BLOCKS))) for n in ("model", *BASELINES, TWO_SIDED)}
    for i, h in enumerate(shape.horizons):
        truth = z[now + h]
        for name, value in (("model", guess[:, i]), *_references(z, now, h)):
            by[name][:, i] = _by_block(np.abs(value - truth))
    return by


def _references(z: F32, now: I64, h: int) -> list[tuple[str, F32]]:
    at = now + h
    ago = {"one_beat_ago": TICKS, "two_beats_ago": 2 * TICKS, "one_bar_ago": BAR}
    known = [(name, z[at - -(-h // span) * span]) for name, span in ago.items()]
    sides = np.stack([z[at + d * TICKS] for d in (-2, -1, 1, 2)])
    return [
        ("repeat_last", z[now]),
        *known,
        (TWO_SIDED, np.asarray(np.median(sides, axis=0), np.float32)),
    ]


def _by_block(error: F32) -> F64:
    """(n, dim) to (n, blocks); latents of another width than M1's are one block, told in every column."""
    if error.shape[1] != sum(BLOCKS.values()):
        return np.repeat(error.mean(axis=1, keepdims=True, dtype=np.float64), len(BLOCKS), axis=1)
    edges = np.cumsum([0, *BLOCKS.values()])[:-1]
    sums = np.add.reduceat(error.astype(np.float64), edges, axis=1)
    return np.asarray(sums / np.array(list(BLOCKS.values()), np.float64))


def _overall(error: F64) -> F64:
    """(n, H, blocks) to (n, H): mean over all dimensions, blocks weighed by their width."""
    width = np.array(list(BLOCKS.values()), np.float64)
    return np.asarray(error @ (width / width.sum()))


def table(errors: list[Errors]) -> dict[str, F64]:
    """Name -> (H,) mean absolute error: the mean over sessions of each session's mean."""
    names = errors[0].by
    return {n: np.mean(list(_per_session(errors, n).values()), axis=0) for n in names}


def _per_session(errors: list[Errors], name: str) -> dict[str, F64]:
    rows: dict[str, list[F64]] = {}
    for e in errors:
        rows.setdefault(e.session_id, []).append(_overall(e.by[name]))
    return {session: np.concatenate(parts).mean(axis=0) for session, parts in rows.items()}


def skill_of(means: dict[str, F64]) -> F64:
    """(H + 1,) skill 1 - MAE / best baseline by horizon; last, that of the mean over horizons."""
    best = np.min([means[b] for b in BASELINES], axis=0)
    pairs = [*zip(means["model"], best, strict=True), (means["model"].mean(), best.mean())]
    # A baseline without error leaves nothing to gain: skill 0 when the model has none either.
    return np.array([1 - m / b if b > 0 else -float(m > 0) for m, b in pairs])


def bootstrap(errors: list[Errors], seed: int = 0, draws: int = DRAWS) -> F64:
    """(draws, H + 1) skills of resampled data: sessions with replacement, and blocks of 8 beats inside each."""
    rng = np.random.default_rng(seed)
    names = ("model", *BASELINES)
    blocks = _blocks(errors, names)
    sessions = list(blocks)
    out = []
    for _ in range(draws):
        means = np.zeros((len(names), next(iter(blocks.values()))[0].shape[2]))
        for pick in rng.integers(0, len(sessions), len(sessions)):
            sums, count = blocks[sessions[pick]]
            own = rng.integers(0, len(count), len(count))
            means += sums[:, own].sum(axis=1) / count[own].sum()
        out.append(skill_of(dict(zip(names, means, strict=True))))
    return np.array(out)


def _blocks(errors: list[Errors], names: tuple[str, ...]) -> dict[str, tuple[F64, F64]]:
    """Session -> sums (names, blocks, H) and counts (blocks,) of its blocks; blocks never span a gap."""
    parts: dict[str, list[tuple[F64, F64]]] = {}
    for e in errors:
        error = np.stack([_overall(e.by[n]) for n in names])
        starts = np.arange(0, error.shape[1], BLOCK)
        counts = np.diff(np.append(starts, error.shape[1])).astype(np.float64)
        parts.setdefault(e.session_id, []).append((np.add.reduceat(error, starts, axis=1), counts))
    return {
        s: (np.concatenate([p[0] for p in found], axis=1), np.concatenate([p[1] for p in found]))
        for s, found in parts.items()
    }


def entries_of(errors: list[Errors], shape: Shape, notes: list[str] | None = None) -> list[dict[str, Any]]:
    """Metrics `lookahead.mae`, `lookahead.skill` and `lookahead.skill_at_<beats>` with interval and gate.

    The gate is skill above 0 with 95 % of the bootstrap on that side. `two_sided` in the parameters is no baseline: it
    is the median of the target's neighbours one and two beats before AND after it, so it knows the section that comes
    and errs by the pulses' own noise alone.
    """
    means, draws = table(errors), bootstrap(errors)
    skill, low_high = skill_of(means), np.quantile(draws, [0.025, 0.975], axis=0)
    p = (1 + (draws <= 0).sum(axis=0)) / (1 + len(draws))
    n = sum(len(e.by["model"]) for e in errors)
    sessions = len({e.session_id for e in errors})
    shared = {"sessions": sessions, "ticks_per_beat": TICKS, "block_beats": BLOCK // TICKS, "left_out": notes or []}
    best = min(BASELINES, key=lambda b: float(means[b].mean()))
    found = [
        entry(
            "lookahead.mae", float(means["model"].mean()), "sd", "lower", n=n,
            baseline=(best, float(means[best].mean())),
            params={**shared, "by_block": _block_table(errors)}, why="judged by lookahead.skill",
        )
    ]  # fmt: skip
    for k, name in enumerate([*(f"lookahead.skill_at_{h / TICKS:g}_beats" for h in shape.horizons), "lookahead.skill"]):
        at = slice(None) if k == len(shape.horizons) else slice(k, k + 1)
        params = {"mae": {m: float(v[at].mean()) for m, v in means.items()}, **shared}
        found.append(
            entry(
                name, float(skill[k]), "1", "higher", n=n, ci=[float(v) for v in low_high[:, k]], chance=0.0,
                goal=(">=", 0.0), p=float(p[k]), p_max=0.05, params=params,
            )
        )  # fmt: skip
    return found


def _block_table(errors: list[Errors]) -> dict[str, dict[str, float]]:
    """Block -> name -> mean absolute error over everything."""
    return {
        block: {n: float(np.mean(np.concatenate([e.by[n][..., k].mean(axis=1) for e in errors]))) for n in errors[0].by}
        for k, block in enumerate(BLOCKS)
    }


def judge(model: Lookahead, rps: Any, frames: FrameSet, split: tuple[str, ...]) -> list[dict[str, Any]]:
    """Entries for the sessions of one or more splits; empty when the splits have none.

    Raises:
        DataError: no session has enough beats in a row.
    """
    if not frames.of(split):
        return []
    ticks = tick_set(rps, frames, split, least_ticks(model.shape) + 1)
    return entries_of(errors_of(model.predict, model.shape, ticks), model.shape, ticks.notes)


def held_out(frames: FrameSet, trained_on: str) -> tuple[str, ...]:
    """Splits to judge by: all sessions of data the model never saw, else `test`, or `val` where there is no test."""
    if frames.source["sha256"] != trained_on:
        return ("train", "val", "test", "none")
    return ("test",) if frames.of("test") else ("val",)


def score_folder(folder: Path, frames: FrameSet, roots: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    """Judge the checkpoint of a finished run; M1 is found through the run's parents, or where `roots` says."""
    from choreo_cli.reflex.from_run import parent_rps

    model = Lookahead.read(folder)
    trained_on = str(model.facts.get("data_sha256", ""))
    return judge(model, parent_rps(folder, roots), frames, held_out(frames, trained_on))
