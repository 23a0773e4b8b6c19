"""Beats on the shared onset envelope: dynamic programming, sub-frame refinement, calibrated latency."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from choreo_cli.audio.attacks import place_attacks
from choreo_cli.audio.features import DEFAULT, Features, Params, extract
from choreo_cli.audio.tempo import F64, LineFit, best_tempo, candidates, fit_line, onset_spectrum

I64 = NDArray[np.int64]

_TIGHTNESS = 100.0  # cost of a beat interval that differs from the period, per squared log ratio
_STABLE = 0.04  # of a period: residual up to which one number is an honest tempo
_TREND_S = 2.0
_MIN_S = 2.0
_FLAT_DB = 0.5  # an envelope that never rises by this holds no attacks, only rounding
_FAINT = 0.1  # of the median attack: beats weaker than this are cut off both ends


@dataclass(frozen=True, slots=True)
class BeatTrack:
    """Beats and tempo of one recording.

    Args:
        beats_s: (B,) float64 seconds, strictly increasing, latency already subtracted; empty without a tempo.
        tempo_bpm: 60 / slope of the line through the beats; None when there is no tempo.
        residual_s: Robust spread of the beats around that line, None without one.
        tempo_stable: The residual is at most 4 % of a period, so one number describes the recording.
        candidates: (bpm, score) for {1/2, 2/3, 1, 4/3, 3/2, 2} x tempo; scores sum to 1.
        latency_us: What was subtracted: the measured lateness of this tracker on known clicks.
        no_tempo: Why there is no tempo (`too_short`, `silence`, `no_attacks`, `too_few_beats`), None when there is one.
    """

    beats_s: F64
    tempo_bpm: float | None
    residual_s: float | None
    tempo_stable: bool
    candidates: tuple[tuple[float, float], ...]
    latency_us: int
    no_tempo: str | None = None


def track_beats(features: Features, *, bpm: float | None = None, calibrate: bool = True) -> BeatTrack:
    """Find tempo and beats.

    Args:
        features: Their onset envelope is used, nothing is recomputed.
        bpm: A tempo known from elsewhere (`--bpm`, a chart): taken as the period to look for.
        calibrate: Subtract the latency measured by the click self-test.
    """
    p = features.params
    fps = p.rate / p.hop
    latency_us = beat_latency_us(p) if calibrate else 0
    nothing = BeatTrack(np.empty(0), None, None, False, (), latency_us)
    if features.onset.size < _MIN_S * fps:
        return _without(nothing, "too_short")
    raw = features.onset.astype(np.float64)
    if features.rms.max() < 1e-5 or raw.max() < _FLAT_DB:
        return _without(nothing, "silence" if features.rms.max() < 1e-5 else "no_attacks")
    onset = _flatten(raw, fps)
    spectrum = onset_spectrum(onset, fps)
    frames = _trim(raw, _track(onset, 60.0 * fps / (bpm or best_tempo(spectrum))))
    beats = place_attacks(frames / fps, features.energy, p.rate) - latency_us * 1e-6
    beats = beats[(beats >= 0) & (beats * 1e6 <= features.duration_us)]
    fit = fit_line(beats)
    if fit is None:
        return _without(nothing, "too_few_beats")
    return _result(beats, fit, candidates(spectrum, fit.bpm), latency_us)


def _without(nothing: BeatTrack, why: str) -> BeatTrack:
    return BeatTrack(nothing.beats_s, None, None, False, (), nothing.latency_us, why)


def _result(beats: F64, fit: LineFit, tempi: tuple[tuple[float, float], ...], latency_us: int) -> BeatTrack:
    stable = fit.residual_s <= _STABLE * fit.period_s
    return BeatTrack(beats, fit.bpm, fit.residual_s, stable, tempi, latency_us)


def _flatten(onset: F64, fps: float) -> F64:
    """Remove the slow part of an envelope and scale it to unit standard deviation."""
    from scipy.ndimage import uniform_filter1d

    flat = np.maximum(onset - uniform_filter1d(onset, max(int(_TREND_S * fps), 3)), 0.0)
    flat -= flat.mean()
    spread = flat.std()
    scaled: F64 = flat / spread if spread > 0 else flat
    return scaled


def _track(onset: F64, period: float) -> I64:
    """Choose the row of frames with the strongest onsets and the steadiest steps (Ellis 2007, "Beat tracking by DP").

    Half a period of frames is solved at a time: no predecessor lies inside such a stretch.
    """
    lags = np.arange(max(int(period / 2), 1), int(np.ceil(period * 2)) + 1)
    cost = (-_TIGHTNESS * np.log(lags / period) ** 2)[::-1]  # furthest predecessor first
    reach, step, n = int(lags[-1]), int(lags[0]), onset.size
    total = np.zeros(reach + n)  # `reach` frames of nothing before the start: a first beat is free
    back = np.full(n, -1, np.int64)
    windows = sliding_window_view(total, lags.size)
    rows = np.arange(step)
    for k in range(0, n, step):
        m = min(step, n - k)
        options = windows[k : k + m] + cost
        best = options.argmax(axis=1)
        total[reach + k : reach + k + m] = onset[k : k + m] + options[rows[:m], best]
        back[k : k + m] = k + rows[:m] - reach + best
    ending = max(n - int(period), 0)  # the last beat lies in the last period
    at = ending + int(np.argmax(total[reach + ending :]))
    found = []
    while at >= 0:
        found.append(at)
        at = int(back[at])
    return np.array(found[::-1], np.int64)


def _trim(onset: F64, frames: I64) -> I64:
    """Cut beats off both ends that lie in silence, where only the steady step has put them."""
    if frames.size == 0:
        return frames
    near = sliding_window_view(np.pad(onset, 2), 5)[frames].max(axis=1)
    strong = np.flatnonzero(near >= max(_FAINT * float(np.median(near)), _FLAT_DB))
    return frames[strong[0] : strong[-1] + 1] if strong.size else frames[:0]


@lru_cache(maxsize=4)
def beat_latency_us(params: Params = DEFAULT) -> int:
    """Measure how late this tracker is: median over known clicks, through the same features, in microseconds.

    97.3 BPM walks the clicks through all positions inside a frame; a noise floor of -60 dBFS stands for a room.
    """
    rate, n = params.rate, params.rate * 20
    truth = np.arange(0.5, 19.5, 60.0 / 97.3)
    y = np.random.default_rng(0).normal(0.0, 1e-3, n)
    t = np.arange(int(0.02 * rate)) / rate
    for beat in truth:
        a = int(np.ceil(beat * rate))
        since = t + a / rate - beat
        y[a : a + t.size] += 0.7 * np.sin(2 * np.pi * 1500.0 * since) * np.exp(-since / 0.003)
    beats = track_beats(extract(y.astype(np.float32), params), bpm=97.3, calibrate=False).beats_s
    nearest = beats[np.abs(beats[None, :] - truth[:, None]).argmin(axis=1)]
    return int(np.rint(np.median(nearest - truth) * 1e6))
