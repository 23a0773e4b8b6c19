"""How well a mapper does: held-out sessions against their targets, and what the latent normaliser changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from choreo_cli.errors import DataError
from formats.columns import CONTROL_NAMES
from formats.errors import FormatError
from formats.metrics import entry

if TYPE_CHECKING:
    from choreo_cli.dataset.frameset import FrameSet
    from choreo_cli.reflex.mapper import Mapper
    from choreo_cli.reflex.rps import Rps
    from choreo_cli.reflex.targets import Taught

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
R2_GOAL, LOSS_GOAL, CLIP_GOAL = 0.85, 0.2, 0.05
LEAST_ROWS = 250
"""A session with less than 5 s of targets is not judged."""
CONSTANT = 1e-8
"""Variance below which a target is constant: r2 means nothing there."""
EDGE = 0.01
NOTHING_HELD_OUT = "no session is held out"
LAG_FRAMES = 15
DRAWS = 4000


@dataclass(frozen=True, slots=True)
class Piece:
    """What a mapper made of one session, beside what it should have made.

    Args:
        name: The session.
        made: (N, 5) controls.
        wanted: (N, 5) targets, NaN = none.
        step_s: Time between rows.
    """

    name: str
    made: F32
    wanted: F32
    step_s: float = 0.02


def score(folder: Path, frames: FrameSet, roots: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    """Judge the mapper in a run folder on the held-out sessions of a `FrameSet`, against the rules of the teacher.

    Controls that were learned by example have no targets there and are `insufficient`; so is everything when no
    session is held out. `roots` says where a root of the run lies now.

    Raises:
        FormatError: another recipe, damaged, or a parent that is not the M1 it was trained on.
        NoInputError: the parent is not there any more.
    """
    from choreo_cli.reflex.from_run import parent_rps
    from choreo_cli.reflex.mapper import Mapper
    from choreo_cli.reflex.targets import by_rule

    mapper, rps = Mapper.read(folder), parent_rps(folder, roots)
    if mapper.rps_sha256 != rps.sha256:
        raise FormatError("was not trained on the rps that its run names", file=folder / "model.json")
    sources = (mapper.facts or {}).get("sources") or {}
    learned = tuple(c for c in CONTROL_NAMES if sources.get(c) == "example")
    return judge(held_out(rps, mapper, frames, by_rule(frames)), learned=learned)


def held_out(rps: Rps, mapper: Mapper, frames: FrameSet, taught: Taught) -> list[Piece]:
    """Pieces of every held-out session."""
    from choreo_cli.reflex.timelines import controls_of

    sessions = frames.of(("val", "test"))
    step_s = frames.step_us * 1e-6
    return [Piece(s.session_id, controls_of(rps, mapper, frames, s)[0], taught.of(frames, s), step_s) for s in sessions]


def within(rps: Rps, mapper: Mapper, frames: FrameSet, taught: Taught) -> list[Piece]:
    """Pieces of the validated ends of sessions that were trained on: they say nothing of other sessions."""
    from choreo_cli.reflex.timelines import controls_of

    found = []
    for session in frames.sessions:
        top = session.row_start
        own = taught.val[(taught.val[:, 0] >= top) & (taught.val[:, 1] <= top + session.rows)]
        if len(own):
            rows = np.concatenate([np.arange(a, b) for a, b in own - top])
            made, wanted = controls_of(rps, mapper, frames, session)[0], taught.of(frames, session)
            found.append(Piece(session.session_id, made[rows], wanted[rows], frames.step_us * 1e-6))
    return found


def judge(
    pieces: Sequence[Piece], *, learned: Sequence[str] = (), params: Mapping[str, Any] | None = None, seed: int = 0
) -> list[dict[str, Any]]:
    """Entries `mapper.r2.<control>`, `mapper.loss_ratio`, `mapper.clipped`, `mapper.step_change`, `mapper.lag`.

    Every figure is the mean of one value per session; its interval is a bootstrap over sessions, None with one.
    Without a session every entry is `insufficient` and says so.

    Args:
        pieces: Sessions.
        learned: Controls whose targets here would be a rule they never saw: not judged.
        params: Kept with every entry.
        seed: Seed of the bootstrap.
    """
    kept = {"sessions": [p.name for p in pieces], **(params or {})}
    judged = [k for k, c in enumerate(CONTROL_NAMES) if c not in learned]
    found = [_r2_entry(pieces, k, k in judged, kept, seed) for k in range(len(CONTROL_NAMES))]
    found.append(_loss_entry(pieces, judged, kept, seed))
    found.append(_clip_entry(pieces, kept, seed))
    found.append(_step_entry(pieces, judged, kept, seed))
    found.append(_lag_entry(pieces, judged, kept))
    return found


def r2(made: ArrayLike, wanted: ArrayLike) -> float | None:
    """1 - squared error / squared deviation from the session's own mean; None for a constant target."""
    a, b = np.asarray(made, np.float64), np.asarray(wanted, np.float64)
    spread = float(np.square(b - b.mean()).mean()) if len(b) else 0.0
    return None if spread < CONSTANT else 1.0 - float(np.square(a - b).mean()) / spread


def best_lag(made: ArrayLike, wanted: ArrayLike, most: int = LAG_FRAMES) -> int:
    """Frames by which `made` is late: where their correlation is largest, ties to the smaller lag."""
    a, b = np.asarray(made, np.float64), np.asarray(wanted, np.float64)
    lags = sorted(range(-most, most + 1), key=lambda k: (abs(k), k))
    scores = []
    for k in lags:
        x, y = (a[k:], b[: len(b) - k]) if k >= 0 else (a[:k], b[-k:])
        flat = len(x) < 2 or x.std() < 1e-9 or y.std() < 1e-9
        scores.append(-1.0 if flat else float(np.corrcoef(x, y)[0, 1]))
    return lags[int(np.argmax(np.round(scores, 9)))]


def _pairs(piece: Piece, k: int) -> tuple[F32, F32]:
    live = np.isfinite(piece.wanted[:, k])
    return piece.made[live, k], piece.wanted[live, k]


def _usable(pieces: Sequence[Piece], k: int) -> list[tuple[F32, F32]]:
    return [p for p in (_pairs(piece, k) for piece in pieces) if len(p[0]) >= LEAST_ROWS]


def _r2_entry(pieces: Sequence[Piece], k: int, judged: bool, params: Mapping[str, Any], seed: int) -> dict[str, Any]:
    name = f"mapper.r2.{CONTROL_NAMES[k]}"
    usable = _usable(pieces, k) if judged else []
    n = sum(len(a) for a, _ in usable)
    values = [v for v in (r2(a, b) for a, b in usable) if v is not None]
    goal = (">=", R2_GOAL)
    if not values:
        why = None if judged else "learned by example: these sessions have no recorded targets"
        few = f"less than {LEAST_ROWS} frames with a target" if pieces else NOTHING_HELD_OUT
        why = why or ("the target is constant" if usable else few)
        status = "degenerate" if usable else "insufficient"
        return entry(name, None, "1", "higher", n=n, chance=0.0, goal=goal, status=status, params=dict(params), why=why)
    step_s = pieces[0].step_s
    lags = [best_lag(a, b) * step_s * 1e3 for a, b in usable]
    more = {"by_session": [round(v, 6) for v in values], "lag_ms": [round(v, 3) for v in lags]}
    return entry(
        name, float(np.mean(values)), "1", "higher", n=n, ci=interval(values, seed), chance=0.0, goal=goal,
        params={**params, **more},
    )  # fmt: skip


def _loss_entry(pieces: Sequence[Piece], judged: Sequence[int], params: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Mean squared error over that of each session's own mean, all controls together."""
    ratios, errors, n = [], [], 0
    for piece in pieces:
        error = spread = 0.0
        rows = 0
        for k in judged:
            a, b = (v.astype(np.float64) for v in _pairs(piece, k))
            if len(a) >= LEAST_ROWS:
                error += float(np.square(a - b).mean())
                spread += float(np.square(b - b.mean()).mean())
                rows += len(a)
        if spread > CONSTANT:
            ratios.append(error / spread)
            errors.append(error / max(1, len(judged)))
            n += rows
    goal = ("<=", LOSS_GOAL)
    if not ratios:
        return entry(
            "mapper.loss_ratio", None, "1", "lower", n=n, chance=1.0, goal=goal, status="insufficient",
            params=dict(params), why=None if pieces else NOTHING_HELD_OUT,
        )  # fmt: skip
    return entry(
        "mapper.loss_ratio", float(np.mean(ratios)), "1", "lower", n=n, ci=interval(ratios, seed), chance=1.0,
        goal=goal, params={**params, "mse": [float(e) for e in errors]},
    )  # fmt: skip


def clipped(values: ArrayLike) -> float:
    """Share of values within 1 % of a bound."""
    v = np.asarray(values, np.float64)
    return float(((v < EDGE) | (v > 1 - EDGE)).mean()) if v.size else 0.0


def _clip_entry(pieces: Sequence[Piece], params: Mapping[str, Any], seed: int) -> dict[str, Any]:
    if not pieces:
        return entry(
            "mapper.clipped", None, "1", "lower", n=0, goal=("<=", CLIP_GOAL), status="insufficient",
            params=dict(params), why=NOTHING_HELD_OUT,
        )  # fmt: skip
    shares = [clipped(p.made) for p in pieces]
    n = sum(p.made.size for p in pieces)
    more = {
        "by_control": {c: round(float(np.mean([clipped(p.made[:, k]) for p in pieces])), 6) for k, c in _named()},
        "target": {c: round(_target_clipped(pieces, k), 6) for k, c in _named()},
    }
    return entry(
        "mapper.clipped", float(np.mean(shares)), "1", "lower", n=n, ci=interval(shares, seed),
        goal=("<=", CLIP_GOAL), params={**params, **more},
    )  # fmt: skip


def _target_clipped(pieces: Sequence[Piece], k: int) -> float:
    found = [clipped(b) for b in (_pairs(p, k)[1] for p in pieces) if len(b)]
    return float(np.mean(found)) if found else 0.0


def _step_entry(pieces: Sequence[Piece], judged: Sequence[int], params: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Mean step of the outputs per 20 ms beside the targets': far below is sluggish, far above is noise."""
    made, wanted = [], []
    for piece in pieces:
        scale = 0.02 / piece.step_s
        live = np.isfinite(piece.wanted[:, judged])
        both = live[1:] & live[:-1]
        if both.any():
            made.append(float(np.abs(np.diff(piece.made[:, judged], axis=0))[both].mean()) * scale)
            wanted.append(float(np.abs(np.diff(piece.wanted[:, judged], axis=0))[both].mean()) * scale)
    n = len(made)
    if not n:
        return entry("mapper.step_change", None, "1", "lower", n=0, status="insufficient", params=dict(params))
    return entry(
        "mapper.step_change", float(np.mean(made)), "1", "lower", n=n, ci=interval(made, seed),
        baseline=("teacher", float(np.mean(wanted))), params=dict(params),
    )  # fmt: skip


def _lag_entry(pieces: Sequence[Piece], judged: Sequence[int], params: Mapping[str, Any]) -> dict[str, Any]:
    """The latest control: largest lag of best correlation, in milliseconds."""
    lags = {
        CONTROL_NAMES[k]: float(np.median([best_lag(a, b) for a, b in usable])) * pieces[0].step_s * 1e3
        for k in judged
        if (usable := _usable(pieces, k))
    }
    if not lags:
        return entry("mapper.lag", None, "ms", "lower", n=0, status="insufficient", params=dict(params))
    worst = max(lags.values(), key=abs)
    return entry("mapper.lag", worst, "ms", "lower", n=len(pieces), params={**params, "by_control": lags})


def _named() -> list[tuple[int, str]]:
    return list(enumerate(CONTROL_NAMES))


def interval(values: Sequence[float], seed: int = 0) -> tuple[float, float] | None:
    """95 % bootstrap interval of a mean over sessions; None with fewer than two."""
    if len(values) < 2:
        return None
    v = np.asarray(values, np.float64)
    drawn = np.random.default_rng(seed).integers(0, len(v), (DRAWS, len(v)))
    low, high = np.percentile(v[drawn].mean(axis=1), (2.5, 97.5))
    return float(low), float(high)


def normalizer_effect(
    losses_with: ArrayLike, losses_without: ArrayLike, *, seed: int = 0, least: int = 5
) -> dict[str, Any]:
    """Whether M2 lowers the variance of the mapper's held-out loss over seeds: variance with over variance without.

    The interval is a bootstrap over the paired seeds. When it holds 1, no effect can be told, and the entry says so.

    Args:
        losses_with: (S,) held-out loss of each seed, latents through M2.
        losses_without: (S,) the same seeds without it, in the same order.
        seed: Seed of the bootstrap.
        least: Fewest pairs that can be judged.

    Raises:
        DataError: lists of different lengths, or a loss that is not finite.
    """
    a, b = np.asarray(losses_with, np.float64), np.asarray(losses_without, np.float64)
    if a.shape != b.shape or a.ndim != 1:
        raise DataError(f"{a.size} losses with M2 and {b.size} without cannot be paired")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise DataError("a held-out loss that is not finite")
    name, goal, n = "mapper.normalizer_effect", ("<=", 1.0), len(a)
    params: dict[str, Any] = {"losses_with": a.tolist(), "losses_without": b.tolist()}
    if n < 2 or b.var(ddof=1) == 0:
        status = "insufficient" if n < 2 else "degenerate"
        return entry(name, None, "1", "lower", n=n, chance=1.0, goal=goal, status=status, params=params)
    drawn = np.random.default_rng(seed).integers(0, n, (DRAWS, n))
    over, under = a[drawn].var(axis=1, ddof=1), b[drawn].var(axis=1, ddof=1)
    ratios = over[under > 0] / under[under > 0]
    low, high = (float(v) for v in np.percentile(ratios, (2.5, 97.5)))
    params["mean_loss_ratio"] = float(a.mean() / b.mean()) if b.mean() else None
    why = None
    if low <= 1.0 <= high:
        why = f"the interval holds 1: {n} paired seeds tell no effect"
    status = "insufficient" if n < least else "ok"
    value = float(a.var(ddof=1) / b.var(ddof=1))
    return entry(
        name, value, "1", "lower", n=n, ci=(low, high), chance=1.0, goal=goal, status=status, params=params, why=why
    )
