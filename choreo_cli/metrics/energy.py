"""Energy correlation: whether a control follows the body's motion energy, searched over a small lag."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from choreo_cli.errors import DataError

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

MAX_LAG_S = 0.1
MIN_SECONDS = 20.0  # of pairs: below it the shifts of a session are too alike to be a null
_FLAT = 1e-9  # standard deviation, of the signal's size, below which it is constant
_TIE = 1e-12


@dataclass(frozen=True, slots=True)
class Energy:
    """Correlation of x with y over lags; everything is None or empty when a signal is constant.

    Args:
        r: Largest signed r(k); ties go to the smaller |lag|, then to the early one.
        lag_s: Its lag; positive = y late.
        r0: r at lag 0.
        edge: The largest lies on the border of the search: the true lag may be outside.
        lags_s: (2L+1,) lags searched.
        curve: (2L+1,) r at each, NaN where it does not exist.
        n: Pairs at lag 0.
        n_effective: Independent pairs they are worth.
        degenerate: A signal is constant, or nothing overlaps.
    """

    r: float | None
    lag_s: float | None
    r0: float | None
    edge: bool
    lags_s: F64
    curve: F64
    n: int
    n_effective: float | None
    degenerate: bool


def correlate(x: F64, y: F64, rate_hz: float, max_lag_s: float = MAX_LAG_S) -> Energy:
    """r(k) = Pearson correlation of x[i] and y[i+k] over the overlap only, k within +-100 ms.

    Args:
        x: (N,) motion energy, NaN = missing.
        y: (M,) the control on the same clock, NaN = missing; the longer one is cut.
        rate_hz: Frames per second.
        max_lag_s: Largest lag.

    Raises:
        DataError: not two lists of numbers, or a rate that is not positive.
    """
    if x.ndim != 1 or y.ndim != 1 or not rate_hz > 0:
        raise DataError("energy correlation needs two lists of values and a rate above 0")
    n = min(len(x), len(y))
    x, y = np.asarray(x[:n], np.float64), np.asarray(y[:n], np.float64)
    most = round(max_lag_s * rate_hz)
    lags = np.arange(-most, most + 1)
    curve = np.array(
        [_pearson(x[max(0, -k) : n - max(0, k)], y[max(0, k) : n - max(0, -k)]) for k in range(-most, most + 1)]
    )
    both = int((np.isfinite(x) & np.isfinite(y)).sum())
    live = np.flatnonzero(np.isfinite(curve))
    if not len(live):
        return Energy(None, None, None, False, lags / rate_hz, curve, both, None, True)
    top = curve[live].max()
    tied = [int(k) for k in live if curve[k] >= top - _TIE]
    nearness = [(abs(k - most), k) for k in tied]
    best = min(nearness)[1]
    r0 = float(curve[most]) if np.isfinite(curve[most]) else None
    return Energy(
        float(top), float(lags[best] / rate_hz), r0, best in (0, 2 * most), lags / rate_hz, curve, both,
        effective_n(x, y), False,
    )  # fmt: skip


def _pearson(a: F64, b: F64) -> float:
    """Pearson's r over the pairs that both exist; NaN for fewer than three or a constant side."""
    ok = np.isfinite(a) & np.isfinite(b)
    if ok.sum() < 3:
        return float("nan")
    a, b = a[ok], b[ok]
    ca, cb = a - a.mean(), b - b.mean()
    sa, sb = float(np.sqrt(ca @ ca)), float(np.sqrt(cb @ cb))
    root = np.sqrt(len(a))
    if sa <= _FLAT * root * max(np.abs(a).max(), 1e-300) or sb <= _FLAT * root * max(np.abs(b).max(), 1e-300):
        return float("nan")
    return float(np.clip((ca / sa) @ (cb / sb), -1.0, 1.0))


def effective_n(x: F64, y: F64) -> float:
    """N / (1 + 2 sum of rho_x(k) rho_y(k) (1 - k/N)): pairs of autocorrelated series count for fewer.

    Pyper & Peterman, Can. J. Fish. Aquat. Sci. 55 (1998) 2127, lags up to N/5.
    """
    ok = np.isfinite(x) & np.isfinite(y)
    n = int(ok.sum())
    if n < 10:
        return float(n)
    acf = [_autocorrelation(np.where(ok, v - v[ok].mean(), 0.0)) for v in (x, y)]
    k = np.arange(1, n // 5 + 1)
    return float(np.clip(n / max(1 + 2 * float((acf[0][k] * acf[1][k] * (1 - k / n)).sum()), 1.0), 1.0, n))


def _autocorrelation(c: F64) -> F64:
    from scipy.fft import irfft, next_fast_len, rfft

    size = next_fast_len(2 * len(c))
    a = irfft(np.abs(rfft(c, size)) ** 2, size)[: len(c)]
    return np.asarray(a / a[0] if a[0] > 0 else np.zeros(len(c)))


def circular_curve(x: F64, y: F64) -> F64:
    """(N,) Pearson's r of x[i] with y[(i + k) mod N] for every k, over the pairs that exist; NaN where there is none.

    Six products of Fourier transforms instead of N passes.
    """
    from scipy.fft import irfft, rfft

    n = len(x)
    mx, my = np.isfinite(x), np.isfinite(y)
    if not mx.any() or not my.any():
        return np.full(n, np.nan)
    a, b = np.where(mx, x - x[mx].mean(), 0.0), np.where(my, y - y[my].mean(), 0.0)
    fa, fb, fm, fw = (rfft(v) for v in (a, b, mx.astype(float), my.astype(float)))

    def sums(left: NDArray[np.complex128], right: NDArray[np.complex128]) -> F64:
        return np.asarray(irfft(np.conj(left) * right, n))

    pairs = np.maximum(np.round(sums(fm, fw)), 0.0)
    sx, sy = sums(fa, fw), sums(fm, fb)
    with np.errstate(invalid="ignore", divide="ignore"):
        cov = sums(fa, fb) - sx * sy / pairs
        vx = sums(rfft(a * a), fw) - sx * sx / pairs
        vy = sums(fm, rfft(b * b)) - sy * sy / pairs
        r = cov / np.sqrt(vx * vy)
    flat = (vx <= _FLAT * (a @ a)) | (vy <= _FLAT * (b @ b)) | (pairs < 3)
    return np.where(flat, np.nan, np.clip(r, -1, 1))


def searched(x: F64, y: F64, rate_hz: float) -> F64:
    """(N,) the largest circular r within +-100 ms of each shift: what the lag search makes of it.

    Element 0 is the observed figure that the nulls below are to be compared with. It differs from `correlate`'s r at
    the ends, and a comparison across that difference would make a periodic control beat its own equal shifts.
    """
    from scipy.ndimage import maximum_filter1d

    n = min(len(x), len(y))
    curve = circular_curve(x[:n], y[:n])
    most = round(MAX_LAG_S * rate_hz)
    return np.asarray(maximum_filter1d(np.where(np.isfinite(curve), curve, -1.0), 2 * most + 1, mode="wrap"))


def shift_null(curve: F64, rate_hz: float, draws: int, rng: np.random.Generator) -> F64:
    """Null by circular shifts: `draws` of them, or all there are.

    Every shift that the lag search cannot undo counts (from 0.2 s on). Leaving out those under 5 s, as is often done,
    hides the neighbours of a chance maximum: with one session 6 % of unrelated bodies then reached p <= .01.

    Args:
        curve: See `searched`.
        rate_hz: Frames per second.
        draws: Most shifts to take.
        rng: Draws.
    """
    n, least = len(curve), 2 * round(MAX_LAG_S * rate_hz) + 1
    allowed = np.arange(least, n - least + 1)
    if len(allowed) > draws:
        allowed = rng.choice(allowed, draws, replace=False)
    return np.asarray(curve[allowed])


def beat_null(curve: F64, rate_hz: float, period_s: float, offset_s: float | None = None) -> F64:
    """Null by circular shifts of whole beats: a control that keeps the beat but follows another body.

    Args:
        curve: See `searched`: of the session's own control, or of another session's at the same tempo.
        rate_hz: Frames per second.
        period_s: Beat period.
        offset_s: Another session's control: how much later its beats lie, on its own clock. None: the session's own.
    """
    turns = np.arange(0 if offset_s is not None else 1, round(len(curve) / rate_hz / period_s))
    shifts = np.round((turns * period_s + (offset_s or 0.0)) * rate_hz).astype(np.int64)
    return np.asarray(curve[shifts % len(curve)])
