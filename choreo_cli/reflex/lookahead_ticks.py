"""Latents on ticks of the beat: what the look-ahead learns from and is judged by, and what had to be left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from choreo_cli.errors import DataError
from choreo_cli.reflex.bars import TICKS, Ticks, ticks_of
from formats.columns import INPUTS, MASKS

if TYPE_CHECKING:
    from choreo_cli.dataset.frameset import FrameSession, FrameSet
    from choreo_cli.reflex.lookahead import Lookahead

F32 = NDArray[np.float32]

PHASE = [c.name for c in INPUTS].index("beat_phase")
ENERGY = [c.name for c in INPUTS].index("motion_energy")
MEASURED = (MASKS.index("m_mot"), MASKS.index("m_ctx"))
"""Where body or beat is not measured, latents are guesses and no target."""
KEEP_TICKS = 1_000_000
"""Ticks whose latents are kept in memory (416 MB); with more they are computed when they are asked for."""


AT_ONCE = 4096
"""Ticks predicted together."""


class FrozenLatents(Protocol):
    """What is needed of M1: `reflex.rps.Rps` is one."""

    @property
    def normalizer(self) -> Any: ...

    def latents(self, x: F32, mask: NDArray[np.bool_]) -> F32: ...


@dataclass(frozen=True, slots=True)
class Stretch:
    """Unbroken ticks of one session."""

    session_id: str
    ticks: Ticks

    def __len__(self) -> int:
        return len(self.ticks)


@dataclass(slots=True)
class TickSet:
    """Stretches of some sessions and their latents.

    Args:
        rps: Frozen M1.
        frames: Where the rows lie.
        stretches: Long enough to be used, in row order.
        notes: What was left out and why, sentences.
    """

    rps: FrozenLatents
    frames: FrameSet
    stretches: list[Stretch]
    notes: list[str] = field(default_factory=list)
    _kept: dict[int, F32] = field(default_factory=dict)

    @property
    def sessions(self) -> list[str]:
        """Ids of the sessions that have a stretch, in order."""
        return list(dict.fromkeys(s.session_id for s in self.stretches))

    def latents(self, k: int, start: int = 0, stop: int | None = None) -> F32:
        """(K, dim) normalised latents at ticks [start, stop) of stretch k."""
        if sum(map(len, self.stretches)) > KEEP_TICKS:
            return self._compute(self.stretches[k].ticks.slice(start, len(self.stretches[k]) if stop is None else stop))
        if k not in self._kept:
            self._kept[k] = self._compute(self.stretches[k].ticks)
        return self._kept[k][start:stop]

    def energy(self, k: int) -> F32:
        """(K,) motion energy at the ticks of stretch k, 0..1."""
        return np.asarray(self.frames.x[self.stretches[k].ticks.row, ENERGY], np.float32)

    def _compute(self, ticks: Ticks) -> F32:
        z = self.rps.latents(np.asarray(self.frames.x[ticks.row]), np.asarray(self.frames.mask[ticks.row]))
        return np.asarray(self.rps.normalizer.apply(z), np.float32)


def tick_set(rps: FrozenLatents, frames: FrameSet, split: str | Sequence[str], least: int) -> TickSet:
    """The stretches of a split that are at least `least` ticks long.

    Raises:
        DataError: sessions of the split exist, and none has such a stretch.
    """
    found: list[Stretch] = []
    left_out: list[str] = []
    chosen = frames.of(split)
    for session in chosen:
        all_ticks = session_stretches(frames, session)
        long = [t for t in all_ticks if len(t) >= least]
        found += long
        short = sum(len(t) for t in all_ticks) - sum(map(len, long))
        if not long:
            left_out.append(f"{session.session_id}: {_why(all_ticks, least)}")
        elif short:
            left_out.append(f"{session.session_id}: {short / TICKS:.0f} beats lie in stretches too short to use")
    if chosen and not found:
        raise DataError(
            f"no session can be used: {left_out[0]}", hint=f"need {least / TICKS:.0f} beats in a row with body and beat"
        )
    return TickSet(rps, frames, found, left_out)


def _windows(ticks: int, field: int) -> list[tuple[int, int]]:
    """Pieces of a long stretch that overlap by what a prediction looks back on."""
    return [(a, min(ticks, a + AT_ONCE + field - 1)) for a in range(0, ticks - field + 1, AT_ONCE)]


def session_stretches(frames: FrameSet, session: FrameSession) -> list[Stretch]:
    """Every unbroken run of ticks of a session, however short, in row order."""
    from choreo_cli.dataset.windows import Stretch as Rows
    from choreo_cli.dataset.windows import runs

    top = session.row_start
    first, last, _ = runs(frames.t_us[session.slice], [Rows(session.session_id, 0, session.rows)], frames.step_us)
    return [
        Stretch(session.session_id, ticks)
        for a, b in zip(first.tolist(), last.tolist(), strict=True)
        for ticks in _ticks(frames, top + a, top + b)
    ]


def _ticks(frames: FrameSet, start: int, stop: int) -> list[Ticks]:
    measured = np.asarray(frames.mask[start:stop])[:, MEASURED].all(axis=1)
    phase = np.where(measured, frames.x[start:stop, PHASE], np.nan)
    return ticks_of(phase, frames.step_us, start)


def _why(ticks: list[Stretch], least: int) -> str:
    if not ticks:
        return "no frame has both body and beat"
    return f"its longest stretch has {max(map(len, ticks)) / TICKS:.1f} beats, need {least / TICKS:.1f}"


def bar_activity(model: Lookahead, rps: FrozenLatents, frames: FrameSet, session: FrameSession) -> NDArray[np.float64]:
    """(rows,) activity of the coming bar as the look-ahead knows it at every frame of a session, NaN = not yet.

    A frame knows what was predicted at the newest tick that it completes, as `lookahead.Stepper` does.
    """
    found = np.full(session.rows, np.nan)
    sets = TickSet(rps, frames, [s for s in session_stretches(frames, session) if len(s) >= model.shape.field])
    for k, stretch in enumerate(sets.stretches):
        said = np.concatenate(
            [
                model.bar_activity(
                    model.predict(sets.latents(k, a, b), stretch.ticks.index[a:b], stretch.ticks.rate[a:b])
                )
                for a, b in _windows(len(stretch), model.shape.field)
            ]
        )
        # A tick whose nearest frame is n is complete at n or n + 1: the later one is safe.
        first = stretch.ticks.row[model.shape.field - 1 :] + 1 - session.row_start
        last = min(int(first[-1]) + 1, session.rows)
        rows = np.arange(int(first[0]), last)
        found[rows] = said[np.searchsorted(first, rows, side="right") - 1]
    return found
