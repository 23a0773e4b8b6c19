"""Place beats of a coarse frame grid on the attacks they belong to."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from choreo_cli.audio.features import FINE
from choreo_cli.audio.filterbank import F32

F64 = NDArray[np.float64]

_EDGE = 4  # values compared on either side of an attack, 12 ms
_FLOOR = 1e-4  # -40 dB of the local mean: what lies under it is masked
_LATE_S, _EARLY_S = 0.09, 0.03  # where a frame may lie against its attack
_NEAR_S = 0.012  # spread of single attacks around the common one
_CLEAR = 0.7  # natural log of energy (3 dB): a smaller rise moves no beat


def place_attacks(beats_s: F64, energy: F32, rate: int) -> F64:
    """Move beats from frame times to attack times.

    The lateness of frames that all beats share is found first (it depends on how densely a piece is mixed), then each
    beat goes to the steepest rise of energy within about 25 ms of where that puts it, if one is clear.

    Args:
        beats_s: (B,) increasing times on the frame grid, seconds.
        energy: Fine energy of the recording, `Features.energy`.
        rate: Samples per second.

    Returns:
        (B',) float64 seconds, strictly increasing.
    """
    rise, per_s = _rise(energy), rate / FINE
    late, early, near = round(_LATE_S * per_s), round(_EARLY_S * per_s), round(2 * _NEAR_S * per_s)
    pad = late + early + 2 * near
    if beats_s.size == 0 or energy.size <= 4 * _EDGE:
        return beats_s
    padded = np.pad(rise, pad)
    at = np.rint(beats_s * per_s).astype(np.int64) + pad
    at = at[at < padded.size - pad]
    around = padded[at[:, None] + np.arange(-late, early + 1)]
    common = int(np.convolve(np.minimum(around, 3.0).sum(axis=0), np.ones(3), "same").argmax()) - late
    centre = at + common
    offsets = np.arange(-near, near + 1)
    local = padded[centre[:, None] + offsets]
    best = (local * np.exp(-0.5 * (offsets / (_NEAR_S * per_s)) ** 2)).argmax(axis=1)
    clear = local[np.arange(best.size), best] >= _CLEAR
    peak = centre + offsets[best]
    a, b, c = padded[peak - 1], padded[peak], padded[peak + 1]
    bend = a - 2 * b + c
    vertex = np.divide(0.5 * (a - c), bend, out=np.zeros(best.size), where=bend < 0)
    exact = np.where(clear, peak + np.clip(vertex, -0.5, 0.5), centre)
    placed = (exact - pad) / per_s
    return placed[np.concatenate([[True], np.diff(placed) > 0])] if placed.size else placed


def _rise(energy: F32) -> F64:
    """Return how much the mean log energy of the next 12 ms exceeds that of the last 12 ms, at each boundary."""
    from scipy.ndimage import uniform_filter1d

    e = energy.astype(np.float64)
    level = np.log(e + _FLOOR * uniform_filter1d(e, 400) + 1e-12)
    total = np.concatenate([[0.0], np.cumsum(level)])
    rise = np.zeros(e.size)
    if e.size > 2 * _EDGE:
        middle = total[_EDGE:-_EDGE]
        rise[_EDGE : e.size - _EDGE + 1] = (
            np.maximum(total[2 * _EDGE :] - 2 * middle + total[: -2 * _EDGE], 0.0) / _EDGE
        )
    return rise
