"""Teacher targets: five causal rules that turn frames into the controls a mapper learns, each in 0..1.

    control      input         rule                                                      low-pass tau
    tempo_scale  motion_freq   .5 + .5 log2 r, r = motion_freq / beat rate, folded by    1 s
                               octaves into [2^-.5, 2^.5); unvoiced (0 Hz): .5
    density      motion_energy as it is                                                  20 ms
    tension      hr_slope      -2..2 beats/min/s mapped to 0..1                          500 ms
    brightness   symmetry      as it is                                                  250 ms
    fx_send      jerk          .1..1 mapped to 0..1                                      40 ms

Every rule is followed by a first-order low-pass, exact for a value that holds until the next one comes:
y += (1 - exp(-d / tau)) (x - y), with d the time since the last measured value. So one formula says what happens at a
gap: the state is held while nothing is measured (and the target is missing), and the longer the gap, the more the
first value after it counts; after many tau it starts afresh. The first value of all is taken as it is, so constant in
gives constant out.

A target is missing (NaN) where its modality is masked or its input is missing: it is left out of the loss, never set
to neutral. NaN never enters a filter. Rules and constants of tau: the reflex lane's design, section 3.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from choreo_cli.errors import DataError
from formats.columns import CONTROL_NAMES, INPUTS, MODALITIES

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Bool = NDArray[np.bool_]

TAU_S: dict[str, float] = {"tempo_scale": 1.0, "density": 0.02, "tension": 0.5, "brightness": 0.25, "fx_send": 0.04}
LISTENS: dict[str, str] = {
    "tempo_scale": "motion_freq",
    "density": "motion_energy",
    "tension": "hr_slope",
    "brightness": "symmetry",
    "fx_send": "jerk",
}
NEUTRAL = 0.5
VOICED_HZ = 0.05
"""A motion rate below this is no rate: tempo_scale is neutral."""
SPAN_US = 1_000_000
"""The beat rate is the advance of the beat phase over this long, looking back."""
LEAST_US = 200_000
"""The shortest stretch of phase a rate is read from."""
HOLD_US = 2_000_000
"""How long the last beat rate is used while the phase is missing; then tempo_scale has no target."""
SLOWEST_HZ, FASTEST_HZ = 0.25, 6.0
"""Beat rates outside are no tempo: a phase that jumps or stands still."""

_NAMES = tuple(c.name for c in INPUTS)
_MODALITY = tuple(MODALITIES)
_COLUMN = tuple(_NAMES.index(LISTENS[c]) for c in CONTROL_NAMES)
_OWNER = tuple(next(k for k, m in enumerate(_MODALITY) if LISTENS[c] in MODALITIES[m]) for c in CONTROL_NAMES)
_PHASE, _CTX = _NAMES.index("beat_phase"), _MODALITY.index("ctx")
_TEMPO = CONTROL_NAMES.index("tempo_scale")
_TAU_US = tuple(TAU_S[c] * 1e6 for c in CONTROL_NAMES)


def fold(ratio: ArrayLike) -> F64:
    """Rates over beat rate (positive) as octaves in [-.5, .5): half and double time count as the same tempo."""
    octaves = np.log2(np.asarray(ratio, np.float64))
    return np.asarray(octaves - np.floor(octaves + 0.5))


def teach(x: ArrayLike, mask: ArrayLike, t_us: ArrayLike) -> F32:
    """Targets of one unbroken stretch of one session; causal, and equal to `Teacher.step` sample by sample.

    Args:
        x: (N, 11) model inputs in the order of `formats.columns.INPUTS`, NaN = missing.
        mask: (N, 4) bool, which modality is measured.
        t_us: (N,) time, strictly increasing; steps may differ.

    Returns:
        (N, 5) float32 in 0..1 in the order of `CONTROL_NAMES`, NaN = no target.

    Raises:
        DataError: shapes that do not fit, or a time that does not increase.
    """
    values, measured, time = np.asarray(x, np.float64), np.asarray(mask, bool), np.asarray(t_us, np.int64)
    n = len(time)
    if values.shape != (n, len(_NAMES)) or measured.shape != (n, len(_MODALITY)):
        raise DataError(f"frames of shape {values.shape} with masks {measured.shape} and {n} times cannot be taught")
    if n and (np.diff(time) <= 0).any():
        raise DataError(f"time does not increase at row {int(np.argmax(np.diff(time) <= 0)) + 1}")
    rate = beat_rate(values[:, _PHASE], measured[:, _CTX], time)
    out = np.full((n, len(CONTROL_NAMES)), np.nan, np.float32)
    for k in range(len(CONTROL_NAMES)):
        raw = _rule(k, values[:, _COLUMN[k]], rate)
        raw[~measured[:, _OWNER[k]]] = np.nan
        rows = np.flatnonzero(np.isfinite(raw))
        out[rows, k] = _lowpass(raw[rows], time[rows], _TAU_US[k])
    return out


def _rule(k: int, value: F64, rate: F64) -> F64:
    """(N,) targets of one control before its low-pass, NaN where its input is missing."""
    name = CONTROL_NAMES[k]
    if name == "tempo_scale":
        unvoiced = value < VOICED_HZ
        with np.errstate(invalid="ignore"):
            ratio = np.where(unvoiced, 1.0, value) / np.where(unvoiced, 1.0, rate)
            return np.asarray(NEUTRAL + 0.5 * fold(ratio))
    if name == "tension":
        value = (value + 2.0) / 4.0
    elif name == "fx_send":
        value = (value - 0.1) / 0.9
    return np.clip(value, 0.0, 1.0)


def _weight(elapsed_us: float, tau_us: float) -> float:
    return -math.expm1(-elapsed_us / tau_us)


def _lowpass(x: F64, t_us: I64, tau_us: float) -> F64:
    """(N,) first-order low-pass of measured values at any times; a plain loop, 0.1 us a value."""
    if not len(x):
        return x
    steps, which = np.unique(np.diff(t_us), return_inverse=True)
    # The weights come from the same scalar function as in `Teacher`: numpy's own differs in the last bit.
    weights = np.array([_weight(float(d), tau_us) for d in steps])[which].tolist() if len(steps) else []
    y = float(x[0])
    out = [y]
    for value, a in zip(x[1:].tolist(), weights, strict=True):
        y += a * (value - y)
        out.append(y)
    return np.array(out)


def beat_rate(phase: ArrayLike, known: ArrayLike, t_us: ArrayLike) -> F64:
    """(N,) beats per second, NaN where it is not known: the phase's advance over the last second, looking back.

    The phase is unwrapped by its shortest way; an advance that is no tempo (a jump to another track, a seek) starts
    the second afresh. Until 0.2 s of phase are there again, and through gaps, the last rate holds for at most 2 s.

    Args:
        phase: (N,) cycles, NaN = missing.
        known: (N,) bool, the context modality is measured.
        t_us: (N,) time, strictly increasing.
    """
    p, time = np.asarray(phase, np.float64), np.asarray(t_us, np.int64)
    if not len(time):
        return np.empty(0)
    live = np.asarray(known, bool) & np.isfinite(p)
    rows = np.flatnonzero(live)
    out = np.full(len(time), np.nan)
    if not len(rows):
        return out
    q, t = p[rows], time[rows]
    step = np.diff(q)
    step -= np.round(step)
    lasted = np.diff(t)
    broken = (np.diff(rows) != 1) | (np.abs(step) > FASTEST_HZ * 1e-6 * lasted)
    # First row of the unbroken stretch that each row lies in, and of the last second.
    first = np.concatenate([[0], np.where(broken, np.arange(1, len(rows)), 0)])
    start = np.maximum(np.maximum.accumulate(first), np.searchsorted(t, t - SPAN_US, side="left"))
    total = np.concatenate([[0.0], np.cumsum(np.where(broken, 0.0, step))])
    span = t - t[start]
    with np.errstate(invalid="ignore", divide="ignore"):
        rate = (total - total[start]) * 1e6 / span
    good = (span >= LEAST_US) & (rate >= SLOWEST_HZ) & (rate <= FASTEST_HZ)
    out[rows[good]] = rate[good]
    # Forward-fill: the last good row of each row, unless it is too old.
    last = np.maximum.accumulate(np.where(np.isfinite(out), np.arange(len(out)), -1))
    held = (last >= 0) & (time - time[np.maximum(last, 0)] <= HOLD_US)
    return np.asarray(np.where(held, out[np.maximum(last, 0)], np.nan))


@dataclass(slots=True)
class BeatRate:
    """Streaming form of `beat_rate`: the same numbers, one frame at a time."""

    _seen: deque[tuple[int, float]] = field(default_factory=deque)
    _total: float = 0.0
    _phase: float = math.nan
    _unbroken: bool = False
    _good: tuple[int, float] | None = None

    def step(self, phase: float, known: bool, t_us: int) -> float:
        """Beats per second at this frame, NaN where it is not known."""
        if known and math.isfinite(phase):
            self._advance(float(phase), t_us)
            start_us, start = self._seen[0]
            span = t_us - start_us
            if span >= LEAST_US:
                rate = (self._total - start) * 1e6 / span
                if SLOWEST_HZ <= rate <= FASTEST_HZ:
                    self._good = (t_us, rate)
        else:
            self._unbroken = False
        if self._good is None or t_us - self._good[0] > HOLD_US:
            return math.nan
        return self._good[1]

    def _advance(self, phase: float, t_us: int) -> None:
        step = phase - self._phase
        if self._unbroken:
            step -= float(np.round(step))
            self._unbroken = abs(step) <= FASTEST_HZ * 1e-6 * (t_us - self._seen[-1][0])
        if self._unbroken:
            self._total += step
        else:
            self._seen.clear()
        self._phase, self._unbroken = phase, True
        self._seen.append((t_us, self._total))
        while self._seen[0][0] < t_us - SPAN_US:
            self._seen.popleft()


class Teacher:
    """Streaming teacher: the numbers of `teach`, one frame at a time, at a constant cost."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything, as at the start of a session."""
        self._beat = BeatRate()
        self._state = [math.nan] * len(CONTROL_NAMES)
        self._when = [0] * len(CONTROL_NAMES)

    def step(self, x: ArrayLike, mask: ArrayLike, t_us: int) -> F32:
        """Targets (5,) of one frame, NaN = no target.

        Args:
            x: (11,) model inputs, NaN = missing.
            mask: (4,) bool, which modality is measured.
            t_us: Time, later than that of the frame before.
        """
        values, measured = np.asarray(x, np.float64), np.asarray(mask, bool)
        rate = np.array([self._beat.step(float(values[_PHASE]), bool(measured[_CTX]), t_us)])
        out = np.full(len(CONTROL_NAMES), np.nan, np.float32)
        for k in range(len(CONTROL_NAMES)):
            if not measured[_OWNER[k]]:
                continue
            raw = float(_rule(k, values[_COLUMN[k] : _COLUMN[k] + 1], rate)[0])
            if not math.isfinite(raw):
                continue
            y = self._state[k]
            y = y + _weight(float(t_us - self._when[k]), _TAU_US[k]) * (raw - y) if math.isfinite(y) else raw
            self._state[k], self._when[k] = y, t_us
            out[k] = y
        return out
