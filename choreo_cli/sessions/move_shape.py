"""Read off a take how its moves are shaped: three numbers that need no music and no clock.

They tell how long before the landing the braking peaks, which is most of the motion clock's bias.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from choreo_cli.sessions.clock_estimate import Envelope
from choreo_cli.sessions.clock_grid import STEP_US, onto_grid, parabolic

F64 = NDArray[np.float64]


class Shape(NamedTuple):
    """Shape of the moves of one take; NaN where unclear.

    Args:
        brake_us: Time from setting off to braking, in the mean over all moves: the lag at which rectified
            acceleration matches rectified deceleration best (0.58 of a minimum-jerk move, smoothed by the filter).
        rise_us: Half width of the rectified acceleration's autocorrelation.
        hardness: How hard it brakes against how hard it sets off (97th percentiles).
    """

    brake_us: float
    rise_us: float
    hardness: float


@dataclass(frozen=True, slots=True)
class Bias:
    """Systematic error of one configuration: a line through the template dancers of the self-test.

    bias = bias_us + sum(weights * (shape - mean) / sd), each term cut at 2 standard deviations: a body unlike all
    templates gets the answer of the nearest ones.

    Args:
        bias_us: Mean error of the templates.
        weights_us: Change per standard deviation of each number of `Shape`.
        mean: Of the templates' shapes.
        sd: Of the templates' shapes.
        spread_us: Standard deviation of the templates' errors from the line: the part that is style.
        config_hash: First 16 hex digits of the configuration's SHA-256.
    """

    bias_us: int
    weights_us: tuple[float, ...]
    mean: tuple[float, ...]
    sd: tuple[float, ...]
    spread_us: int
    config_hash: str

    def at(self, shape: Shape) -> tuple[int, float]:
        """Bias for a take of this shape, and its standard error, microseconds; an unknown number counts as mean."""
        z = np.nan_to_num((np.array(shape) - self.mean) / self.sd, nan=0.0)
        return round(self.bias_us + float(np.clip(z, -2, 2) @ np.array(self.weights_us))), float(self.spread_us)


UNKNOWN = Shape(float("nan"), float("nan"), float("nan"))


def move_shape(impact: Envelope) -> Shape:
    """Measure the shape of the moves behind an impact envelope; unknown when it has no `rise`."""
    from scipy.fft import irfft, next_fast_len, rfft

    if impact.rise is None or impact.duration_us < 2_000_000:
        return UNKNOWN
    n = int(impact.duration_us // STEP_US) + 1
    t = int(impact.t_us[0]) + STEP_US * np.arange(n, dtype=np.int64)
    rise, fall = onto_grid(replace(impact, value=impact.rise), t), onto_grid(impact, t)
    n_fft = next_fast_len(n + 80, real=True)
    spectrum = rfft(rise, n_fft)
    c = irfft(np.conj(spectrum) * rfft(fall, n_fft), n_fft)[:80].astype(np.float64)
    low, high = 10, 70
    k = low + int(np.argmax(c[low:high]))
    brake = parabolic(c, k) * STEP_US if low < k < high - 1 and c[k] > 0 else float("nan")
    r = irfft(np.abs(spectrum) ** 2, n_fft)[:80].astype(np.float64)
    ends = [float(np.nanpercentile(v, 97)) for v in (impact.value, impact.rise)]
    return Shape(brake, _half_width(r) * STEP_US, ends[0] / ends[1] if ends[1] > 0 else float("nan"))


def _half_width(r: F64) -> float:
    """Where an autocorrelation falls to one half, in samples; NaN when it does not."""
    i = int(np.argmax(r < 0.5 * r[0]))
    return float("nan") if i == 0 else i - 1 + float((r[i - 1] - 0.5 * r[0]) / (r[i - 1] - r[i]))
