"""Mixed sessions: columns of different moments laid together, for a teacher that is a rule.

Twelve minutes of dancing hold a few hundred independent values of anything slow, so a network finds tempo in the heart
rate, the symmetry or the session itself, and fails on the next session. A rule looks at its own inputs alone and stays
exact whatever the others do; frames whose groups of columns come from different sessions, at different moments, show
the network which input is the one that counts. Motion rate and beat stay together but are stretched, both alike (tempi
between those that were recorded) and against each other: a network that can read the tempo off the motion rate never
learns to read it off the beat, and on held-out sessions its tempo_scale is then worse than the mean. Nothing recorded
by a performer is mixed: what it depends on is not known.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from formats.columns import INPUTS, MODALITIES

if TYPE_CHECKING:
    from choreo_cli.dataset.frameset import FrameSet

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]

GROUPS: tuple[tuple[str, ...], ...] = (
    ("motion_energy", "jerk", "hip_sway", "hip_bounce"),
    ("symmetry",),
    ("hr", "hr_slope"),
    ("audio_energy", "audio_brightness"),
    ("motion_freq", "beat_phase"),
)
"""Columns that are moved together: inside a group they belong together in time."""
ROWS = 1500
"""Rows of a mixed session: 30 s."""
MOST_ROWS = 300_000
STRETCH = 0.15
"""Largest change of tempo, of body and music alike, in octaves."""
DETUNE = 0.35
"""Largest change of the motion rate against the beat, in octaves: far enough that neither gives the other away."""

_NAMES = [c.name for c in INPUTS]
_MODALITY = list(MODALITIES)
_COLUMNS = [[_NAMES.index(n) for n in group] for group in GROUPS]
_MASK = [[k for k, m in enumerate(_MODALITY) if set(group) & set(MODALITIES[m])] for group in GROUPS]
_FREQ = _NAMES.index("motion_freq")
_PHASE = _NAMES.index("beat_phase")


def mixed(frames: FrameSet, runs: I64, times: int, seed: int) -> FrameSet | None:
    """Mixed sessions, all in split `train`.

    Args:
        frames: Frames to draw from.
        runs: (R, 2) unbroken rows to draw from; runs shorter than 30 s are left out.
        times: Rows to make per row drawn from; at most `MOST_ROWS` in all.
        seed: Seed of every draw.

    Returns:
        The frames, None when there is nothing to draw from or nothing to make.
    """
    from choreo_cli.dataset.frameset import FrameSession
    from choreo_cli.dataset.splits import Item

    room = runs[runs[:, 1] - runs[:, 0] >= ROWS]
    total = int((room[:, 1] - room[:, 0]).sum())
    n = min(times * total, MOST_ROWS) // ROWS
    if n < 1:
        return None
    rng = np.random.default_rng(seed)
    x = np.empty((n * ROWS, len(_NAMES)), np.float32)
    mask = np.ones((n * ROWS, len(_MODALITY)), bool)
    # A run is drawn by how many places it offers.
    places = np.cumsum(room[:, 1] - room[:, 0] - ROWS + 1)
    for k in range(n):
        own = slice(k * ROWS, (k + 1) * ROWS)
        for columns, m in zip(_COLUMNS, _MASK, strict=True):
            at = int(rng.integers(places[-1]))
            which = int(np.searchsorted(places, at, side="right"))
            first = int(room[which, 0]) + at - (int(places[which - 1]) if which else 0)
            x[own, columns] = frames.x[first : first + ROWS][:, columns]
            mask[own, m] &= frames.mask[first : first + ROWS][:, m]
        tempo, rate = (2.0 ** rng.uniform(-r, r) for r in (STRETCH, DETUNE))
        x[own, _PHASE] = stretched(x[own, _PHASE], tempo)
        x[own, _FREQ] = np.minimum(x[own, _FREQ] * np.float32(tempo * rate), np.float32(8))
    sessions = tuple(
        FrameSession(f"mixed-{k}", k * ROWS, ROWS, Item(f"mixed-{k}", f"mixed-{k}", "mixed"), "train", "mixed", True)
        for k in range(n)
    )
    t_us = np.tile(frames.step_us * np.arange(ROWS, dtype=np.int64), n)
    return replace(frames, x=x, mask=mask, t_us=t_us, sessions=sessions, leaks=(), notes=())


def stretched(phase: F32, factor: float) -> F32:
    """The same beats `factor` times as fast; missing values stay missing, and the phase goes on through them."""
    live = np.isfinite(phase)
    out = phase.copy()
    if not live.any():
        return out
    step = np.diff(phase[live].astype(np.float64))
    advance = np.concatenate([[0.0], np.cumsum(step - np.round(step))])
    moved = np.mod(float(phase[live][0]) + factor * advance, 1.0)
    # float32 rounds .99999998 up to 1.0, which is the next beat.
    out[live] = np.minimum(moved.astype(np.float32), np.nextafter(np.float32(1), np.float32(0)))
    return out
