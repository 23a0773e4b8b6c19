"""Held-out figures of M1: cross-prediction, living latents, rebuilt modalities, the prox map."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.reflex.inputs import BLOCK_SLICES, COLUMN_SLICES, CONSTANT, MODES, OF_LATENT, present
from choreo_cli.reflex.prox import Translators, lipschitz, proxstep
from choreo_cli.reflex.rps import Rps
from choreo_cli.reflex.rps_data import session_rows
from formats.columns import BLOCKS, INPUTS
from formats.metrics import entry

if TYPE_CHECKING:
    from choreo_cli.dataset.frameset import FrameSession, FrameSet

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

MIN_FRAMES = 100
MOST_ROWS = 500_000
CHUNK = 16384
DRAWS = 2000
REACH = np.array([(c.hi or 0) - (c.lo or 0) for c in INPUTS])
_OTHERS = (OF_LATENT[:, None] != OF_LATENT).astype(np.float32)


@dataclass(slots=True)
class Sums:
    """What one held-out session adds up to; the second index of (4, ...) is the modality.

    Args:
        n: (4,) frames in which the modality and at least one other are measured.
        error: (4,) squared error of the hidden block's prediction from the others.
        missing: (4,) the same through the whole way a live frame goes when the modality is masked.
        guess: (4,) squared norm of that prediction.
        truth: (4,) squared norm of the encoded block.
        total: (104,) sum of the latents over those frames.
        square: (104,) sum of their squares.
        raw: (4,) squared error as the loss sees it.
        before: (4,) squared residual of the translators at the latents.
        after: (4,) the same after one prox step.
        low: (11,) least value of every input column.
        high: (11,) largest.
    """

    n: F64 = field(default_factory=lambda: np.zeros(len(MODES)))
    error: F64 = field(default_factory=lambda: np.zeros(len(MODES)))
    missing: F64 = field(default_factory=lambda: np.zeros(len(MODES)))
    guess: F64 = field(default_factory=lambda: np.zeros(len(MODES)))
    truth: F64 = field(default_factory=lambda: np.zeros(len(MODES)))
    total: F64 = field(default_factory=lambda: np.zeros(len(OF_LATENT)))
    square: F64 = field(default_factory=lambda: np.zeros(len(OF_LATENT)))
    raw: F64 = field(default_factory=lambda: np.zeros(len(MODES)))
    before: F64 = field(default_factory=lambda: np.zeros(len(MODES)))
    after: F64 = field(default_factory=lambda: np.zeros(len(MODES)))
    low: F64 = field(default_factory=lambda: np.full(len(INPUTS), np.inf))
    high: F64 = field(default_factory=lambda: np.full(len(INPUTS), -np.inf))

    def spread(self) -> F64:
        """(4,) summed squares about the session's own mean."""
        n = np.maximum(self.n, 1)[OF_LATENT]
        return _by_block(np.maximum(self.square - self.total**2 / n, 0))

    def judged(self) -> Bool:
        """(4,) modalities with enough frames that are not constant."""
        flat = np.array([(self.high - self.low < CONSTANT * REACH)[part].all() for part in COLUMN_SLICES.values()])
        return np.asarray((self.n >= MIN_FRAMES) & ~flat, bool)


def _by_block(values: F64) -> F64:
    """(4,) sums of (104,)."""
    return np.array([values[part].sum() for part in BLOCK_SLICES.values()])


def judge(rps: Rps, frames: FrameSet) -> list[dict[str, Any]]:
    """Entries of `choreo.metrics/1` on the test sessions, or the validation sessions when there are no test sessions.

    A session counts as one observation: values are means over sessions, intervals come from a bootstrap over them.
    """
    split = "test" if frames.of("test") else "val"
    sessions = frames.of(split)
    most = max(MIN_FRAMES, MOST_ROWS // max(1, len(sessions)))
    sums = [session_sums(rps, frames, s, most) for s in sessions]
    made = _Entries(rps, sums, split)
    return [
        made.raw_loss(),
        *(e for k in range(len(MODES)) for e in made.of_modality(k)),
        made.prox_lipschitz(),
        made.prox_gain(),
    ]


def session_sums(rps: Rps, frames: FrameSet, session: FrameSession, most: int = MOST_ROWS) -> Sums:
    """Sums of one session over at most `most` evenly spread rows."""
    s = Sums()
    rows = session_rows(session, most)
    hidden = Translators(rps.translators.weight * _OTHERS, rps.translators.bias)
    for at in range(0, len(rows), CHUNK):
        part = rows[at : at + CHUNK]
        _add(s, rps, hidden, np.asarray(frames.x[part]), np.asarray(frames.mask[part]))
    return s


def _add(s: Sums, rps: Rps, hidden: Translators, x: F32, mask: Bool) -> None:
    z, measured = rps.encode(x, mask)
    others = measured.sum(axis=1, keepdims=True) > measured
    use = measured & others
    wide = use[:, OF_LATENT]
    value = np.where(wide, z, 0).astype(np.float64)
    s.n += use.sum(axis=0)
    s.total += value.sum(axis=0)
    s.square += (value**2).sum(axis=0)
    s.truth += _by_block((value**2).sum(axis=0))
    s.error += _by_block((((hidden(z) - z) * wide).astype(np.float64) ** 2).sum(axis=0))
    s.raw += _by_block((((rps.translators(z) - z) * wide).astype(np.float64) ** 2).sum(axis=0))
    whole = rps.fill(z, measured)
    moved = proxstep(whole, rps.translators, rps.alpha)
    for into, at in ((s.before, whole), (s.after, moved)):
        into += _by_block((((hidden(at) - at) * wide).astype(np.float64) ** 2).sum(axis=0))
    for k, part in enumerate(BLOCK_SLICES.values()):
        _hide(s, rps, k, part, x, mask, z, use[:, k])
    real = present(x, mask)
    s.low = np.fmin(s.low, np.where(real, x, np.inf).min(axis=0, initial=np.inf))
    s.high = np.fmax(s.high, np.where(real, x, -np.inf).max(axis=0, initial=-np.inf))


def _hide(s: Sums, rps: Rps, k: int, part: slice, x: F32, mask: Bool, z: F32, use: Bool) -> None:
    """Mask modality k and rebuild it, the way a live frame goes."""
    without = np.array(mask, bool)
    without[:, k] = False
    rebuilt = rps.fill(*rps.encode(x, without))[use, part].astype(np.float64)
    s.guess[k] += (rebuilt**2).sum()
    s.missing[k] += ((rebuilt - z[use, part]) ** 2).sum()


Value = Callable[[F64], F64]
"""From (D, S) how often each of S sessions was drawn to (D,) figures."""


class _Entries:
    """Figures over sessions; every method makes one or more entries."""

    def __init__(self, rps: Rps, sums: list[Sums], split: str) -> None:
        self.rps, self.sums, self.split = rps, sums, split
        self.some = [s for s in sums if s.n.max(initial=0) >= MIN_FRAMES]

    def raw_loss(self) -> dict[str, Any]:
        widths = np.array(list(BLOCKS.values()), float)

        def per_block(of: Callable[[Sums], F64]) -> F64:
            means = [(of(s) / np.maximum(s.n, 1) / widths)[s.n > 0].mean() for s in self.some]
            return np.array(means, float)

        chance = float(per_block(Sums.spread).mean()) if self.some else None
        value = _mean(per_block(lambda s: s.raw))
        return self._entry("rps.raw_loss", value, self.some, "lower", ("<=", 0.1), chance)

    def of_modality(self, k: int) -> Iterator[dict[str, Any]]:
        """Entries of one modality: error, living latents, how it is rebuilt."""
        m, usable = MODES[k], [s for s in self.sums if s.judged()[k]]
        status, why = self._doubt(k, usable)

        def add(name: str, value: Value, better: str, goal: tuple[str, float], chance: float | None) -> dict[str, Any]:
            return self._entry(name, value, usable, better, goal, chance, k=k, status=status, why=why)

        def ratio(of: Callable[[Sums], F64], to: Callable[[Sums], F64]) -> F64:
            return np.array([of(s)[k] / max(to(s)[k], 1e-300) for s in usable], float)

        norm = _mean(np.sqrt(ratio(lambda s: s.guess, lambda s: s.truth)))
        error, missing = (ratio(of, Sums.spread) for of in (lambda s: s.error, lambda s: s.missing))
        yield add(f"rps.normalised_error.{m}", _mean(error), "lower", ("<=", 0.4), 1.0)
        yield add(f"rps.latent_alive.{m}", _least_variance(usable, m, k), "higher", (">=", 0.5), None)
        yield add(f"rps.missing.{m}.r2", _mean(1 - missing), "higher", (">=", 0.6), 0.0)
        yield add(f"rps.missing.{m}.norm_ratio", norm, "higher", (">=", 0.5), None)
        yield add(f"rps.missing.{m}.norm_ratio_most", norm, "lower", ("<=", 1.5), None)

    def prox_lipschitz(self) -> dict[str, Any]:
        value = lipschitz(self.rps.translators, self.rps.alpha)
        params = {"alpha": self.rps.alpha, "clamp": self.rps.facts.get("clamp")}
        return entry("rps.prox_lipschitz", value, "1", "lower", goal=("<=", 1.0), params=params)

    def prox_gain(self) -> dict[str, Any]:
        gain = np.array([1 - s.after.sum() / max(s.before.sum(), 1e-300) for s in self.some], float)
        return self._entry("rps.prox_gain", _mean(gain), self.some, "higher", (">=", 0.0), 0.0)

    def _doubt(self, k: int, usable: list[Sums]) -> tuple[str, str | None]:
        """Status of a modality's figures, and the reason when there are none."""
        m = MODES[k]
        if not self.rps.seen[k]:
            return "insufficient", f"{m} was never seen in training"
        if usable:
            return "ok", None
        if any(s.n[k] >= MIN_FRAMES for s in self.sums):
            return "degenerate", f"{m} is constant in the held-out sessions"
        return "insufficient", f"fewer than {MIN_FRAMES} held-out frames have {m} and another modality"

    def _entry(
        self,
        name: str,
        value: Value,
        usable: list[Sums],
        better: str,
        goal: tuple[str, float],
        chance: float | None,
        *,
        k: int | None = None,
        status: str = "ok",
        why: str | None = None,
    ) -> dict[str, Any]:
        n = int(sum(s.n[k] if k is not None else s.n.max() for s in usable))
        params: dict[str, Any] = {"split": self.split, "sessions": len(usable), "frames": n}
        if not usable and status == "ok":
            status, why = "insufficient", f"no held-out session has {MIN_FRAMES} frames with two modalities"
        if status != "ok":
            return entry(name, None, "1", better, n=n, chance=chance, goal=goal, status=status, params=params, why=why)
        ci = None
        if len(usable) < 2:
            params["interval"] = "none: one held-out session"
        else:
            ci = [float(q) for q in np.quantile(value(_resampled(len(usable))), [0.025, 0.975])]
        figure = float(value(np.ones((1, len(usable))))[0])
        return entry(name, figure, "1", better, n=n, ci=ci, chance=chance, goal=goal, params=params)


def _resampled(sessions: int) -> F64:
    """(DRAWS, sessions) how often each session is in each bootstrap sample."""
    picks = np.random.default_rng(0).integers(0, sessions, (DRAWS, sessions))
    return np.stack([(picks == s).sum(axis=1) for s in range(sessions)], axis=1).astype(np.float64)


def _mean(each: F64) -> Value:
    """The mean over sessions."""
    return lambda drawn: np.asarray(drawn @ each / drawn.sum(axis=1))


def _least_variance(usable: list[Sums], m: str, k: int) -> Value:
    """Least variance of a block's latents over all held-out frames, relative to its nominal 1/dim."""
    part = BLOCK_SLICES[m]
    n = np.array([[s.n[k]] for s in usable]).reshape(-1, 1)
    total, square = (np.array([of[part] for of in those]) for those in
                     ([s.total for s in usable], [s.square for s in usable]))  # fmt: skip

    def value(drawn: F64) -> F64:
        count = drawn @ n
        return np.asarray((drawn @ square / count - (drawn @ total / count) ** 2).min(axis=1) * BLOCKS[m])

    return value
