"""Clock from motion: impact of the body against onsets of the music, inside the prior window only.

Motion against music is periodic in the beat, so the search window stays below half a beat each way; the clocks
choose the beat, the correlation refines it. DTW is no clock: it absorbs the dancer's timing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from choreo_cli.sessions.clock_estimate import LIMITS, ClockEstimate, Curves, Envelope, Limits, Prior
from choreo_cli.sessions.clock_grid import STEP_US, onto_grid, parabolic
from choreo_cli.sessions.clock_null import Facts, decide, surrogate_null
from choreo_cli.sessions.move_shape import UNKNOWN, Bias, move_shape

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

NULL_STEP = 2  # the surrogates run at 100 Hz
BLOCK_US = 5_000_000
RESAMPLES = 200
TEMPO_RATIOS = (0.25, 1 / 3, 0.5, 2 / 3, 0.75, 1.0, 4 / 3, 1.5, 2.0, 3.0, 4.0)


@dataclass(frozen=True, slots=True)
class Match:
    """Correlation of the two envelopes on the 200 Hz grid.

    Args:
        lags_us: (L,) offsets, `centre_us` in the middle.
        curve: (L,) correlation.
        blocks: (B, L) share of each 5 s block in the curve.
        block_t_us: (B,) device time of the block's middle.
        motion: (n,) z-scored impact.
        music: (n + L - 1,) z-scored onset.
    """

    lags_us: NDArray[np.int64]
    curve: F64
    blocks: F64
    block_t_us: F64
    motion: F32
    music: F32


def correlate(onset: Envelope, impact: Envelope, centre_us: int, half_us: int) -> Match:
    """Correlate by FFT for offsets within `centre_us` +- `half_us`."""
    from scipy.fft import irfft, next_fast_len, rfft

    k = max(2, int(half_us // STEP_US))
    start = int(impact.t_us[0])
    n = int(impact.duration_us // STEP_US) + 1
    device = start + STEP_US * np.arange(n, dtype=np.int64)
    motion = onto_grid(impact, device)
    music_t = start + centre_us + STEP_US * np.arange(-k, n + k, dtype=np.int64)
    music = onto_grid(onset, music_t)
    weight = max(1, int(np.count_nonzero(motion)))
    size = max(1, BLOCK_US // STEP_US)
    edges = [*range(0, max(1, n - size // 2), size), n]
    n_fft = next_fast_len(max(np.diff(edges)) + 2 * k + 1, real=True)
    blocks = np.empty((len(edges) - 1, 2 * k + 1))
    for b, (a, e) in enumerate(pairwise(edges)):
        spectrum = np.conj(rfft(motion[a:e], n_fft)) * rfft(music[a : e + 2 * k], n_fft)
        blocks[b] = irfft(spectrum, n_fft)[: 2 * k + 1] / weight
    middle = start + STEP_US * 0.5 * (np.array(edges[:-1]) + np.array(edges[1:]) - 1)
    lags = centre_us + STEP_US * np.arange(-k, k + 1, dtype=np.int64)
    return Match(lags, blocks.sum(axis=0), blocks, middle, motion, music)


def beat_period_us(env: Envelope) -> float:
    """Dominant period of an envelope between 60 and 210 BPM, by autocorrelation with a weight around 120 BPM.

    Ellis 2007, "Beat tracking by dynamic programming" (the log-normal tempo weight). NaN when nothing repeats.
    """
    r, lags = _autocorrelation(env)
    inside = (lags >= 60e6 / 210) & (lags <= 60e6 / 60)
    if not inside.any():
        return float("nan")
    weight = np.exp(-0.5 * (np.log2(lags[inside] / 0.5e6) / 0.9) ** 2)
    i = int(np.flatnonzero(inside)[int(np.argmax(r[inside] * weight))])
    return float(parabolic(r, i) * STEP_US) if r[i] > 0.05 else float("nan")


def _autocorrelation(env: Envelope) -> tuple[F64, F64]:
    from scipy.fft import irfft, next_fast_len, rfft

    n = int(env.duration_us // STEP_US) + 1
    z = onto_grid(env, int(env.t_us[0]) + STEP_US * np.arange(n, dtype=np.int64))
    n_fft = next_fast_len(2 * n, real=True)
    k = min(n, int(4.2e6 / STEP_US))
    r = irfft(np.abs(rfft(z.astype(np.float64), n_fft)) ** 2, n_fft)[:k]
    return r / (r[0] if r[0] > 0 else 1.0), STEP_US * np.arange(k, dtype=np.float64)


def tempo_matches(impact: Envelope, beat_us: float) -> bool | None:
    """Whether the motion repeats at a simple ratio of the beat; None when it does not repeat at all."""
    r, lags = _autocorrelation(impact)
    inside = np.flatnonzero((lags >= 200_000) & (lags < lags[-1]))
    peaks = inside[(r[inside] > r[inside - 1]) & (r[inside] >= r[np.minimum(inside + 1, len(r) - 1)])]
    if len(peaks) == 0 or r[peaks].max() < 0.15:
        return None
    period = parabolic(r, int(peaks[np.argmax(r[peaks])])) * STEP_US
    return any(abs(period / (beat_us * q) - 1) < 0.02 for q in TEMPO_RATIOS)


def estimate_motion(
    onset: Envelope,
    impact: Envelope,
    prior: Prior,
    *,
    beat_us: float | None = None,
    bias: Bias | None = None,
    refusals: tuple[str, ...] = (),
    seed: int = 0,
    limits: Limits = LIMITS,
) -> ClockEstimate:
    """Estimate the clock of a pose stream from its impacts and the music's onsets.

    Args:
        onset: Onset envelope of the music, music clock.
        impact: Impact envelope (`impact.impact_of_pose`, or any envelope with bumps on the beats), device clock.
        prior: What the clocks say of the offset.
        beat_us: Beat period of the music; estimated from `onset` when None.
        bias: From `clock_selftest.self_test`, for the same frame rate and envelope; None subtracts nothing.
        refusals: Reasons known beforehand (`rate_contradiction`).
        seed: Of the surrogates and of the interval's resampling.

    Returns:
        An estimate of method `motion_xcorr`; `offset_us` is effective (device offset plus the dancer's lag).
    """
    assumptions = []
    if beat_us is None:
        beat_us = beat_period_us(onset)
        if not np.isfinite(beat_us):
            beat_us = 500_000.0
            assumptions.append("the music has no clear beat: a beat of 0.5 s bounds the search")
        else:
            assumptions.append(f"beat period {beat_us / 1e6:.3f} s taken from the onset envelope")
    refused = _refusals(onset, impact, prior, refusals, limits)
    if bias is None:
        assumptions.append("no bias self-test: the offset holds the latency of the envelopes")
    blank = ClockEstimate(
        "motion_xcorr", prior.centre_us, prior.window_us, 0.0, (-limits.drift_prior_ppm, limits.drift_prior_ppm),
        prior.window_us, bias.at(UNKNOWN)[0] if bias else None, bias.config_hash if bias else None,
        reasons=refused, assumptions=tuple(assumptions),
    )  # fmt: skip
    # Without frames, a body or a clock there is nothing to search; a short or doubtful take is searched and refused.
    if prior.half_us is None or {"pose_rate_below_8_fps", "still"} & set(refused) or impact.duration_us < 2_000_000:
        return blank
    return _search(onset, impact, prior, beat_us, bias, blank, seed, limits)


def _refusals(
    onset: Envelope, impact: Envelope, prior: Prior, known: tuple[str, ...], limits: Limits
) -> tuple[str, ...]:
    out = list(known)
    if 0 < impact.rate_hz < limits.pose_fps:
        out.append("pose_rate_below_8_fps")
    if min(impact.duration_us, onset.duration_us) < limits.too_short_us:
        out.append("too_short")
    if not np.nanstd(impact.value) > 0 if np.isfinite(impact.value).any() else True:
        out.append("still")
    out += impact.notes
    if prior.half_us is None:
        out.append("no_clock")
    return tuple(dict.fromkeys(out))


def _search(
    onset: Envelope, impact: Envelope, prior: Prior, beat_us: float, bias: Bias | None,
    blank: ClockEstimate, seed: int, limits: Limits,
) -> ClockEstimate:  # fmt: skip
    assert prior.half_us is not None
    wide = prior.half_us > 0.5 * beat_us
    # A window of exactly one beat has one peak: a prior wider than that gives the beat away, not the phase.
    # The dancer's own lag moves the peak even where the clock is known: a few milliseconds are no window.
    half = 0.5 * beat_us if wide else max(limits.least_half_us, min(prior.half_us, limits.beat_share * beat_us))
    late, unsure = bias.at(move_shape(impact)) if bias else (0, 0.0)
    reach = int(max(prior.half_us, 1.05 * beat_us, half)) + 2 * STEP_US
    m = correlate(onset, impact, prior.centre_us + late, reach)
    inside = np.abs(m.lags_us - m.lags_us[len(m.lags_us) // 2]) <= half
    first, last = np.flatnonzero(inside)[[0, -1]]
    curve = m.curve[first : last + 1]
    i = int(np.argmax(curve))
    lag = float(np.interp(parabolic(curve, i) + first, np.arange(len(m.lags_us)), m.lags_us))
    fitted = impact.duration_us >= limits.drift_fit_us
    drift, drift_ci, at_us = 0.0, (-limits.drift_prior_ppm, limits.drift_prior_ppm), float(m.block_t_us.mean())
    if fitted:
        lag, drift, drift_ci = fit_drift(m, lag, seed, limits)
    coarse = slice(first, last + 1, NULL_STEP)
    lags = len(m.curve[coarse])
    motion = m.motion[::NULL_STEP]
    music = m.music[first::NULL_STEP][: len(motion) + lags - 1]
    peak = float(m.curve[coarse].max() if not fitted else curve[i])
    null = surrogate_null(motion, music, peak, lags, seed, limits)
    second = _second(m, curve[i], lag, prior.centre_us + late, half if not wide else float(prior.half_us), limits)
    facts = Facts(
        null.p, null.z, second, float(m.lags_us[first + i] - prior.centre_us - late), half,
        prior.half_us, beat_us, blank.reasons, tempo_matches(impact, beat_us),
    )  # fmt: skip
    answer, reasons = decide(facts, limits)
    middle_us = float(impact.t_us[0] + impact.t_us[-1]) / 2 if not fitted else at_us
    offset = round(lag - late - drift * 1e-6 * middle_us)
    # Below 25 fps the filter is longer than a move, and its shape no longer tells the bias.
    unsure = float(np.hypot(unsure, max(0.0, 1e6 / max(impact.rate_hz, 1.0) - 40_000.0))) if bias else 0.0
    wide_us = _half_width(m, first, last, lag, unsure, drift_ci, drift, middle_us, seed)
    others = _candidates(m, curve[i], late, beat_us, prior, answer)
    return replace(
        blank, offset_us=offset, offset_ci_us=(offset - wide_us, offset + wide_us), drift_ppm=drift, drift_ci=drift_ci,
        bias_us=late if bias else None,
        peak=float(curve[i]), z=null.z, p=null.p, second_ratio=second, identifiable=answer,
        candidates_us=(offset, *(c for c in others if abs(c - offset) > limits.second_outside_us)), reasons=reasons,
        curves=Curves(m.lags_us - late, m.curve.astype(np.float32), null.line95),
    )  # fmt: skip


def _second(m: Match, peak: float, lag: float, centre: float, half_us: float, limits: Limits) -> float:
    rest = (np.abs(m.lags_us - centre) <= half_us) & (np.abs(m.lags_us - lag) > limits.second_outside_us)
    return float(max(0.0, m.curve[rest].max(initial=0.0)) / peak) if peak > 0 else 1.0


def _candidates(m: Match, peak: float, late: int, beat_us: float, prior: Prior, answer: str) -> list[int]:
    """Other offsets that fit nearly as well, best first; a settled answer lists only those inside the prior."""
    c = m.curve
    tops = 1 + np.flatnonzero((c[1:-1] > c[:-2]) & (c[1:-1] >= c[2:]) & (c[1:-1] >= 0.6 * peak))
    order = tops[np.argsort(-c[tops], kind="stable")]
    offsets = [round(float(m.lags_us[0] + parabolic(c, int(i)) * STEP_US) - late) for i in order]
    assert prior.half_us is not None
    reach = float(prior.half_us) if answer == "yes" else max(float(prior.half_us), 1.05 * beat_us)
    return [o for o in offsets if abs(o - prior.centre_us) <= reach][:12]


def _half_width(
    m: Match, first: int, last: int, lag: float, unsure_us: float, drift_ci: tuple[float, float], drift: float,
    middle_us: float, seed: int,
) -> int:  # fmt: skip
    """Half of the 95 % interval: resampled blocks, spread of the self-test, and the drift over half the take."""
    rng = np.random.default_rng([seed, 1])
    n = len(m.blocks)
    counts = rng.multinomial(n, np.full(n, 1 / n), RESAMPLES)
    curves = counts @ m.blocks[:, first : last + 1]
    peaks = np.array([m.lags_us[first] + STEP_US * parabolic(c, int(np.argmax(c))) for c in curves])
    scatter = 1.96 * float(np.sqrt(np.mean((peaks - lag) ** 2)))
    style = 1.96 * unsure_us
    skew = 1e-6 * max(abs(drift_ci[0] - drift), abs(drift_ci[1] - drift)) * middle_us
    return round(float(np.sqrt(scatter**2 + style**2 + skew**2)))


def fit_drift(m: Match, lag: float, seed: int, limits: Limits) -> tuple[float, float, tuple[float, float]]:
    """Fit offset and drift together: stack the blocks' curves along a grid of drifts, take the highest stack.

    Returns:
        Lag at the mean block time (microseconds), drift (ppm) and its 95 % interval from resampled blocks.
    """
    drifts = np.arange(-limits.drift_max_ppm, limits.drift_max_ppm + 1, 5.0)
    t = m.block_t_us - m.block_t_us.mean()
    reach = 12 + int(np.ceil(limits.drift_max_ppm * 1e-6 * np.abs(t).max() / STEP_US))
    centre = int(np.rint((lag - m.lags_us[0]) / STEP_US))
    near = np.arange(max(0, centre - 10), min(len(m.lags_us), centre + 11))
    padded = np.pad(m.blocks, ((0, 0), (reach, reach)))
    windows = sliding_window_view(padded, len(near), axis=1)
    shift = np.rint(drifts[:, None] * 1e-6 * t[None, :] / STEP_US).astype(int)
    rows = windows[np.arange(len(t))[None, :], near[0] + reach + shift]  # (drifts, blocks, near)

    def best(weights: NDArray[np.float64]) -> tuple[float, float]:
        stack = np.einsum("b,dbn->dn", weights, rows)
        d, i = np.unravel_index(int(np.argmax(stack)), stack.shape)
        fine = parabolic(stack[:, i], int(d))
        return float(m.lags_us[near[0]] + STEP_US * parabolic(stack[d], int(i))), float(drifts[0] + 5.0 * fine)

    whole = best(np.ones(len(t)))
    rng = np.random.default_rng([seed, 2])
    tries = [best(rng.multinomial(len(t), np.full(len(t), 1 / len(t))).astype(float))[1] for _ in range(60)]
    half = 1.96 * float(np.sqrt(np.mean((np.array(tries) - whole[1]) ** 2))) + 2.5
    return whole[0], whole[1], (whole[1] - half, whole[1] + half)
