"""Clock from scratch audio: the device's own microphone against the master recording.

GCC-PHAT (Knapp & Carter 1976, "The generalized correlation method for estimation of time delay") in 5 s windows.
The windows' correlations are stacked along a grid of drifts and the peak is picked in the stack: picking per
window first locks to reflections and to whole loops of the music (datalane.md section 4.1). Then each window is
refined near the stack's line and a Theil-Sen line (Sen 1968) through them gives offset and drift.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from choreo_cli.errors import DataError
from choreo_cli.sessions.clock_estimate import LIMITS, ClockEstimate, Curves, Limits, Prior

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

RATE = 16_000
WINDOW_S, HOP_S = 5.0, 2.5
COARSE_RATE = 4_000
COARSE_WINDOWS = 24
POOL = 8  # coarse lags per cell: 2 ms
NEAR_S = 0.25  # lags looked at on either side of a centre
SPAN_S = 90.0  # the stack is made over this much of a recording; the rest refines the drift
MAX_WINDOWS = 120
JUDGE_WINDOWS = 10
SYSTEMATIC_S = 15e-6  # a quarter of a sample: what fractional delays and the window leave
SMEAR = 5  # a drift of 60 ppm smears the peak over 5 samples within one window
ECHO_US = 5_000


@dataclass(frozen=True, slots=True)
class _Stack:
    lag_s: float  # at the middle of the windows
    drift: float
    z: float
    peak: float
    second: float
    lags_s: F64
    curve: F64
    sign: float


def estimate_scratch(
    device: F32,
    master: F32,
    rate_hz: int,
    *,
    device_rate_hz: int | None = None,
    prior: Prior | None = None,
    limits: Limits = LIMITS,
) -> ClockEstimate:
    """Find when a device's recording heard the master, and how its clock drifts.

    Args:
        device: (N,) or (N, channels) samples of the device; sample k is at t_device = k / rate.
        master: (M,) or (M, channels) samples of the music; sample 0 is music time 0.
        rate_hz: Rate of the master, and of the device unless `device_rate_hz` is given.
        prior: Where the offset is; unbounded or None searches the whole master (a coarse search comes first).

    Returns:
        An estimate of method `scratch_gcc`. `z` is the peak of the pooled stack over its median, in robust standard
        deviations of the lags within 0.25 s: from 19 on it is accepted, otherwise `identifiable` is `no` with reason
        `low_snr`. Measured on 60 s takes (see tests): 35-55 at SNR 0 dB, at most 9 where the answer was wrong.

    Raises:
        DataError: A recording is shorter than one window (5 s) or has no sound.
    """
    x, y = _mono(device, device_rate_hz or rate_hz, "device"), _mono(master, rate_hz, "master")
    known = prior or Prior()
    half_s = None if known.half_us is None else known.half_us / 1e6
    assumptions = ("sound takes 2.9 ms per metre to the device: the distance to the loudspeaker is in the offset",)
    t = _starts(len(x) / RATE, SPAN_S)
    middle = float(np.mean(t)) + WINDOW_S / 2
    rivals: list[tuple[float, float]] = []
    if half_s is None or half_s > NEAR_S:
        rivals = judge(x, y, coarse_search(x, y, known.centre_us / 1e6, half_s, limits), limits)
        if not rivals:
            return _refused(known, assumptions, limits)
        centre_s, reach_s = rivals[0][0], 0.05
    else:
        centre_s, reach_s = known.centre_us / 1e6, half_s
    first = _stack(x, y, t, centre_s, reach_s, limits.drift_max_ppm * 1e-6, SMEAR)
    straight, scale = _undrift(x, first.drift), 1.0 + first.drift
    second = _stack(
        straight, y, _starts(len(straight) / RATE, SPAN_S), first.lag_s - first.drift * middle, 0.004, 8e-6, 1
    )
    offset, drift, ci, drift_ci = _line(straight, y, second)
    # Back from the corrected clock u = scale * t to the device's own.
    total = scale * (1.0 + drift) - 1.0
    ratio = _second_ratio(second, rivals)
    competing = [c for c, score in rivals[1:] if score >= limits.second_ratio * rivals[0][1]]
    answer = "no" if second.z < limits.scratch_accept_z else "mod_beat" if ratio > limits.second_ratio else "yes"
    at = round(offset * 1e6)
    return ClockEstimate(
        "scratch_gcc", at, (at - round(ci * 1e6), at + round(ci * 1e6)), total * 1e6,
        ((total - drift_ci) * 1e6, (total + drift_ci) * 1e6), known.window_us, peak=second.peak, z=second.z,
        second_ratio=ratio, identifiable=answer, candidates_us=(at, *(round(c * 1e6) for c in competing)),
        reasons=("low_snr",) if answer == "no" else (), assumptions=assumptions,
        curves=Curves(np.rint(first.lags_s * 1e6).astype(np.int64), first.curve.astype(np.float32)),
    )  # fmt: skip


def _refused(known: Prior, assumptions: tuple[str, ...], limits: Limits) -> ClockEstimate:
    wide = (-limits.drift_prior_ppm, limits.drift_prior_ppm)
    return ClockEstimate(
        "scratch_gcc", known.centre_us, known.window_us, 0.0, wide, known.window_us, z=0.0,
        reasons=("low_snr",), assumptions=assumptions,
    )  # fmt: skip


def _mono(samples: F32, rate_hz: int, name: str) -> F32:
    y = np.asarray(samples, np.float32)
    if y.ndim == 2:
        y = y @ np.full(y.shape[1], 1.0 / y.shape[1], np.float32)
    if rate_hz != RATE:
        import soxr

        y = soxr.resample(y, rate_hz, RATE)
    if len(y) < WINDOW_S * RATE:
        raise DataError(f"the {name} sound lasts {len(y) / RATE:.1f} s, scratch alignment needs {WINDOW_S:.0f} s")
    if not np.isfinite(y).all() or not y.any():
        raise DataError(f"the {name} sound is silent or not finite")
    return np.ascontiguousarray(y)


def _starts(length_s: float, span_s: float) -> F64:
    """Window starts: hop 2.5 s over at most `span_s` in the middle of the recording."""
    span = min(span_s, length_s)
    n = max(1, int((span - WINDOW_S) // HOP_S) + 1)
    return np.asarray((length_s - (WINDOW_S + (n - 1) * HOP_S)) / 2 + HOP_S * np.arange(n), np.float64)


def _undrift(x: F32, drift: float) -> F32:
    """Play the device at (1 + drift) times its clock: four-point Lagrange interpolation."""
    position = np.arange(int(len(x) * (1.0 + drift))) / (1.0 + drift)
    base = np.floor(position).astype(np.int64)
    u = (position - base).astype(np.float32)
    p = np.pad(x, (1, 3))
    out = -u * (u - 1) * (u - 2) / 6 * p[base]
    out += (u + 1) * (u - 1) * (u - 2) / 2 * p[base + 1]
    out -= (u + 1) * u * (u - 2) / 2 * p[base + 2]
    out += (u + 1) * u * (u - 1) / 6 * p[base + 3]
    return np.asarray(out, np.float32)


def _piece(y: F32, start: int, n: int) -> F32:
    """`n` samples from `start`, zeros outside."""
    out = np.zeros(n, np.float32)
    a, b = max(start, 0), min(start + n, len(y))
    if b > a:
        out[a - start : b - start] = y[a:b]
    return out


def phat(x: F32, y: F32, n_fft: int) -> F32:
    """GCC-PHAT of two windows: index k is the lag by which `y` is later than `x`, negative ones at the end."""
    from scipy.fft import irfft, rfft

    cross = np.conj(rfft(x, n_fft)) * rfft(y, n_fft)
    size = np.abs(cross)
    floor = np.float32(1e-3) * size.mean()
    cross /= size + (floor if floor > 0 else np.float32(1))
    return np.asarray(irfft(cross, n_fft), np.float32)


def _correlations(x: F32, y: F32, starts_s: F64, centres_s: F64, reach_s: float) -> F32:
    """(W, 2k + 1) GCC-PHAT of each window for lags within `reach_s` of its centre."""
    from scipy.fft import next_fast_len

    n, k = int(WINDOW_S * RATE), int(np.ceil(reach_s * RATE))
    n_fft = next_fast_len(n + 2 * k + 1, real=True)
    hann = np.hanning(n).astype(np.float32)
    out = np.empty((len(starts_s), 2 * k + 1), np.float32)
    for w, (start, centre) in enumerate(zip(starts_s, centres_s, strict=True)):
        a, lag = round(start * RATE), round(centre * RATE)
        r = phat(_piece(x, a, n) * hann, _piece(y, a + lag - k, n + 2 * k), n_fft)
        out[w] = r[: 2 * k + 1]
    return out


def _stack(x: F32, y: F32, starts_s: F64, centre_s: float, reach_s: float, max_drift: float, smear: int) -> _Stack:
    """Sum the windows' correlations along every drift; pick the highest point within `reach_s` of the centre."""
    t = starts_s + WINDOW_S / 2
    t = t - t.mean()
    spread = max_drift * float(np.abs(t).max())
    r = _correlations(x, y, starts_s, np.full(len(t), centre_s), NEAR_S + spread)
    if smear > 1:
        total = np.cumsum(np.pad(r, ((0, 0), (smear // 2 + 1, smear // 2))), axis=1)
        r = total[:, smear:] - total[:, :-smear]
    lags = (r.shape[1] - 1) // 2
    near, reach = int(NEAR_S * RATE), int(reach_s * RATE)
    step = 0.5 / (RATE * max(float(np.abs(t).max()), 1.0))
    n_drifts = max(1, int(np.ceil(max_drift / step)))
    drifts = np.linspace(-max_drift, max_drift, 2 * n_drifts + 1)
    best, found = -1.0, (0.0, 0, 1.0)
    inner = slice(lags - reach, lags + reach + 1)
    for d in drifts:
        shift = np.rint(d * t * RATE).astype(int)
        curve = _along(r, inner.start, inner.stop, shift)
        i = int(np.argmax(np.abs(curve)))
        if abs(curve[i]) > best:
            best, found = float(abs(curve[i])), (float(d), i + inner.start, float(np.sign(curve[i])))
    drift, at, sign = found
    shift = np.rint(drift * t * RATE).astype(int)
    whole = sign * _along(r, lags - near, lags + near + 1, shift)
    i = at - (lags - near)
    grid = np.arange(len(whole)) - i
    away = np.abs(grid) > ECHO_US * 1e-6 * RATE
    rest = whole[away]
    # Robust, because reflections and the music's own repeats are peaks too, not noise.
    middle = float(np.median(rest))
    z = (float(whole[i]) - middle) / max(1.4826 * float(np.median(np.abs(rest - middle))), 1e-12)
    rounded = round(centre_s * RATE) / RATE
    lags_s = rounded + (np.arange(len(whole)) - near) / RATE
    return _Stack(
        float(lags_s[i]),
        drift,
        z,
        float(whole[i] / len(t)),
        float(max(0.0, rest.max()) / whole[i]),
        lags_s,
        whole / len(t),
        sign,
    )


def _along(r: F32, start: int, stop: int, shift: NDArray[np.int64]) -> F64:
    """Sum the rows of `r`, each moved by its shift."""
    total = np.zeros(stop - start, np.float64)
    for w, s in enumerate(shift):
        total += r[w, start + s : stop + s]
    return total


def _line(x: F32, y: F32, stack: _Stack) -> tuple[float, float, float, float]:
    """Refine each window near the stack's line and fit Theil-Sen.

    Returns:
        Offset at time 0 (s), drift left (relative), and half of their 95 % intervals.
    """
    from scipy.stats import theilslopes

    length = len(x) / RATE
    n = min(MAX_WINDOWS, max(2, int((length - WINDOW_S) // HOP_S) + 1))
    starts = np.linspace(0.0, length - WINDOW_S, n)
    t = starts + WINDOW_S / 2
    inner = _starts(length, SPAN_S)
    middle = float(inner.mean()) + WINDOW_S / 2
    predicted = stack.lag_s + stack.drift * (t - middle)
    reach = 0.0008 + 1.5e-6 * float(np.abs(t - middle).max())
    r = stack.sign * _correlations(x, y, starts, predicted, 0.01 + reach)
    lags = (r.shape[1] - 1) // 2
    k = int(np.ceil(reach * RATE))
    inside = r[:, lags - k : lags + k + 1]
    i = np.argmax(inside, axis=1) + lags - k
    rows = np.arange(n)
    strong = r[rows, i] > 4.0 * r.std(axis=1)
    before, top, after = r[rows, i - 1], r[rows, i], r[rows, i + 1]
    bend = before - 2 * top + after
    fine = np.where(bend < 0, 0.5 * (before - after) / np.where(bend < 0, bend, -1.0), 0.0)
    lag = np.rint(predicted * RATE) / RATE + (i - lags + np.clip(fine, -0.5, 0.5)) / RATE
    if strong.sum() < 3:
        return stack.lag_s - stack.drift * middle, stack.drift, 0.002, 2e-4
    t, lag = t[strong], lag[strong]
    slope = float(theilslopes(lag, t)[0])
    offset = float(np.median(lag - slope * t))
    left = lag - offset - slope * t
    # Neighbouring windows share half of their samples; 1.25 is what a median costs against a mean.
    sigma = float(np.hypot(1.4826 * np.median(np.abs(left - np.median(left))), 10e-6))
    effective = max(2.0, len(t) * min(1.0, float(np.median(np.diff(t))) / WINDOW_S))
    slope_ci = 1.96 * 1.25 * sigma / (np.sqrt(effective) * max(float(t.std()), 1e-3))
    at_middle = np.hypot(1.96 * SYSTEMATIC_S, 1.96 * 1.25 * sigma / np.sqrt(effective))
    offset_ci = float(np.hypot(at_middle, slope_ci * float(t.mean())))
    return offset, slope, offset_ci, float(slope_ci)


def coarse_search(
    x: F32, y: F32, centre_s: float, half_s: float | None, limits: Limits = LIMITS
) -> list[tuple[float, float]]:
    """Find where in the whole master a recording was made, at 4 kHz.

    Args:
        x: Device at 16 kHz.
        y: Master at 16 kHz.
        centre_s: Middle of the prior.
        half_s: Half of the prior window; None allows any overlap of at least 5 s.

    Returns:
        (offset in seconds at the middle of the recording, height of the stack) of the best places, best first,
        at least 0.12 s apart.
    """
    import soxr
    from scipy.fft import irfft, next_fast_len, rfft

    xs, ys = (soxr.resample(v, RATE, COARSE_RATE, quality="MQ") for v in (x, y))
    n = int(WINDOW_S * COARSE_RATE)
    length = len(xs) / COARSE_RATE
    count = int(np.clip((length - WINDOW_S) // HOP_S + 1, 1, COARSE_WINDOWS))
    span = min(SPAN_S, length)
    starts = (length - span) / 2 + np.linspace(0.0, span - WINDOW_S, count)
    starts_i = np.rint(starts * COARSE_RATE).astype(int)
    n_fft = next_fast_len(len(ys) + 2 * n, real=True)
    spectrum = rfft(np.concatenate([np.zeros(n, np.float32), ys]), n_fft)
    spectrum /= np.abs(spectrum) + 1e-3 * np.abs(spectrum).mean()
    # Lag L of window w is at index L + start_w + n of its correlation; rows are cut to a common range of lags.
    low = -round((length - WINDOW_S) * COARSE_RATE) if half_s is None else round((centre_s - half_s) * COARSE_RATE)
    high = len(ys) - n if half_s is None else round((centre_s + half_s) * COARSE_RATE)
    cells = (high - low) // POOL + 1
    pooled = np.zeros((count, cells), np.float32)
    for w, start in enumerate(starts_i):
        part = np.conj(rfft(xs[start : start + n], n_fft))
        part /= np.abs(part) + 1e-3 * np.abs(part).mean()
        r = np.abs(irfft(part * spectrum, n_fft))
        a = low + start + n
        row = _piece(r, a, cells * POOL) if a >= 0 else np.concatenate([np.zeros(-a, np.float32), r])[: cells * POOL]
        row = np.pad(row, (0, cells * POOL - len(row))).reshape(cells, POOL).max(axis=1)
        pooled[w] = row / max(float(r.std()), 1e-12)
    t = starts + WINDOW_S / 2
    t = t - t.mean()
    most = int(np.ceil(limits.drift_max_ppm * 1e-6 * float(np.abs(t).max()) * COARSE_RATE / POOL))
    best = np.zeros(cells, np.float32)
    for k in range(-most, most + 1):
        total = np.zeros(cells, np.float32)
        for w, shift in enumerate(np.rint(k * t / max(float(np.abs(t).max()), 1e-9)).astype(int)):
            total += np.roll(pooled[w], -shift)
        best = np.maximum(best, total)
    out: list[tuple[float, float]] = []
    floor = float(np.median(best))
    guard = int(limits.second_outside_us * 1e-6 * COARSE_RATE / POOL)
    for _ in range(5):
        i = int(np.argmax(best))
        if best[i] <= floor:
            break
        out.append(((low + (i + 0.5) * POOL) / COARSE_RATE, float(best[i] - floor)))
        best[max(0, i - guard) : i + guard + 1] = floor
    return out


def judge(x: F32, y: F32, places: list[tuple[float, float]], limits: Limits = LIMITS) -> list[tuple[float, float]]:
    """Compare competing places at full rate, where repeated bars differ; a clear winner is left alone.

    Returns:
        The places with the height of their stack at 16 kHz, best first.
    """
    if len(places) < 2 or places[1][1] < 0.6 * places[0][1]:
        return places
    starts = _starts(len(x) / RATE, SPAN_S)
    starts = starts[np.unique(np.linspace(0, len(starts) - 1, JUDGE_WINDOWS).astype(int))]
    heard = [(c, _stack(x, y, starts, c, 0.05, limits.drift_max_ppm * 1e-6, SMEAR).peak) for c, _ in places]
    return sorted(heard, key=lambda place: -place[1])


def _second_ratio(stack: _Stack, rivals: list[tuple[float, float]]) -> float:
    """Second peak over the first: elsewhere in the master when all of it was searched, else within 0.25 s."""
    if len(rivals) > 1 and rivals[0][1] > 0:
        return max(stack.second, rivals[1][1] / rivals[0][1])
    return stack.second
