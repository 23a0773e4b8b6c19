"""The audio features a dance model hears: 35 numbers a frame on the motion's own clock (generation.md section 3).

The set of EDGE's baseline features (Tseng et al., CVPR 2023), on our own spectra: the sound is brought to 512 samples
a motion frame and every feature has hop 512, so that row k belongs to motion frame k. Chroma is the plain one over its
largest class, not the smoothed and quantised variant (CENS), which costs ten times as much (datalane.md section 11).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from choreo_cli.audio.beats import track_beats
from choreo_cli.audio.features import Features, Params, extract
from choreo_cli.audio.filterbank import F32, F64
from choreo_cli.errors import DataError

WIDTH = 35
PHASE_WIDTH = 37
VERSION = "1"
HOP = 512
NAMES: tuple[str, ...] = (
    "onset", *(f"mfcc_{k}" for k in range(20)), *(f"chroma_{k}" for k in range(12)), "onset_peak", "beat",
)  # fmt: skip
PHASE_NAMES: tuple[str, ...] = (*NAMES, "beat_phase_sin", "beat_phase_cos")
ONSET, MFCC, CHROMA, PEAK, BEAT, PHASE = 0, slice(1, 21), slice(21, 33), 33, 34, slice(35, 37)
# Below 15 a mel band of the lowest octave has no line of the spectrum left; above 240 frames share all their samples.
LOW_FPS, HIGH_FPS = 15.0, 240.0
LONGEST_S = 4 * 3600.0


@dataclass(frozen=True, slots=True)
class PeakRule:
    """When a frame is the peak of an onset (the rule of Boeck, Krebs & Schedl, ISMIR 2012), in frames.

    Args:
        pre_max, post_max: It is the largest of the frames k - pre_max .. k + post_max - 1.
        pre_avg, post_avg: It exceeds the mean of the frames k - pre_avg .. k + post_avg - 1 by `delta`.
        delta: Of the envelope scaled to 0..1.
        wait: At least this many frames after the peak before.
    """

    pre_max: int
    post_max: int
    pre_avg: int
    post_avg: int
    delta: float = 0.07
    wait: int = 1


def peak_rule(fps: float) -> PeakRule:
    """30 ms to either side, 100 ms for the mean; never less than one frame before and after."""
    near, far = max(1, int(0.03 * fps)), max(1, int(0.10 * fps))
    return PeakRule(near, near + 1, far, far + 1, wait=near)


def names(*, phase: bool = False) -> tuple[str, ...]:
    """Names of the columns, in order."""
    return PHASE_NAMES if phase else NAMES


def params_digest(fps: float, *, phase: bool = False) -> str:
    """First 16 hex digits of sha256 over everything beside the samples that decides the features."""
    facts = {
        "extractor": "choreo-dance", "version": VERSION, "fps": float(fps), "names": list(names(phase=phase)),
        "peaks": asdict(peak_rule(fps)), "spectrum": _params(fps).digest,
    }  # fmt: skip
    return hashlib.sha256(json.dumps(facts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:16]


def dance_features(
    samples: F32,
    sr: float,
    fps: float,
    n_frames: int | None = None,
    *,
    phase: bool = False,
    bpm: float | None = None,
    beats_s: F64 | None = None,
) -> F32:
    """Compute the features of one recording at a motion's frame rate.

    Compute them once for a whole recording and cut afterwards: a beat tracker that starts anew in every slice hears
    other beats.

    Args:
        samples: (N,) float32 mono.
        sr: Samples per second.
        fps: Motion frames per second, 15..240; frame k lies at k / fps seconds.
        n_frames: Rows of the result; sound that ends earlier is continued by silence. None for all of the sound.
        phase: Two more columns, sine and cosine of the beat phase (0, 0 without a beat).
        bpm: A tempo known from elsewhere, the period the beat tracker looks for.
        beats_s: (B,) annotated beats in seconds, which take the place of tracked ones.

    Returns:
        (n_frames, 35) float32, or 37 wide with `phase`; columns are `names(phase=phase)`.

    Raises:
        DataError: an impossible rate, no samples, samples that are not finite, or beats that do not increase.
    """
    y = _at_rate(samples, sr, fps, n_frames)
    features = extract(y, _params(fps))
    n = features.onset.size if n_frames is None else n_frames
    out = np.zeros((n, PHASE_WIDTH if phase else WIDTH), np.float32)
    rows = min(n, features.onset.size)
    out[:rows, ONSET] = features.onset[:rows]
    out[:rows, MFCC] = features.mfcc[:, :rows].T
    out[:rows, CHROMA] = features.chroma[:, :rows].T
    peaks = onset_peaks(features.onset, peak_rule(fps))
    out[peaks[peaks < n], PEAK] = 1.0
    beats = _beats(features, bpm) if beats_s is None else _annotated(beats_s)
    frames = np.rint(beats * fps).astype(np.int64)
    out[frames[(frames >= 0) & (frames < n)], BEAT] = 1.0
    if phase:
        out[:, PHASE] = beat_phase(beats, fps, n)
    return out


def onset_peaks(envelope: F32, rule: PeakRule) -> NDArray[np.int64]:
    """Frames where an onset envelope peaks; none in a flat one.

    Args:
        envelope: (T,) onset strength, any scale.
        rule: Windows in frames.
    """
    x = np.asarray(envelope, np.float64)
    span = float(x.max() - x.min()) if x.size else 0.0
    if span <= 0:
        return np.empty(0, np.int64)
    x = (x - x.min()) / span
    inside = np.arange(x.size)
    low, high = np.maximum(inside - rule.pre_avg, 0), np.minimum(inside + rule.post_avg, x.size)
    total = np.concatenate([[0.0], np.cumsum(x)])
    mean = (total[high] - total[low]) / (high - low)
    padded = np.pad(x, (rule.pre_max, rule.post_max - 1), constant_values=-np.inf)
    top = np.lib.stride_tricks.sliding_window_view(padded, rule.pre_max + rule.post_max).max(axis=1)
    found: list[int] = []
    for k in np.flatnonzero((x == top) & (x >= mean + rule.delta)).tolist():
        if not found or k > found[-1] + rule.wait:
            found.append(k)
    return np.array(found, np.int64)


def beat_phase(beats_s: F64, fps: float, n_frames: int) -> F32:
    """(n, 2) sine and cosine of 2 pi times the part of the beat that has passed; zeros with fewer than two beats.

    Before the first and after the last beat the neighbouring interval goes on.
    """
    if len(beats_s) < 2:
        return np.zeros((n_frames, 2), np.float32)
    t = np.arange(n_frames) / fps
    first, last = beats_s[1] - beats_s[0], beats_s[-1] - beats_s[-2]
    count = np.interp(t, beats_s, np.arange(len(beats_s), dtype=np.float64))
    count = np.where(t < beats_s[0], (t - beats_s[0]) / first, count)
    count = np.where(t > beats_s[-1], len(beats_s) - 1 + (t - beats_s[-1]) / last, count)
    turn = 2 * np.pi * count
    return np.stack([np.sin(turn), np.cos(turn)], axis=1).astype(np.float32)


def _params(fps: float) -> Params:
    """Filters for 512 samples a frame; 29.97 takes those of the nearest whole rate, 23 ppm away."""
    if not (np.isfinite(fps) and LOW_FPS <= fps <= HIGH_FPS):
        raise DataError(
            f"dance features at {fps:g} frames per second", hint=f"motion needs {LOW_FPS:g} to {HIGH_FPS:g} fps"
        )
    return Params(rate=round(HOP * fps), hop=HOP)


def _at_rate(samples: F32, sr: float, fps: float, n_frames: int | None) -> F32:
    """Samples at 512 fps, continued by silence up to the last frame that is asked for."""
    _params(fps)
    y = np.ascontiguousarray(samples, np.float32)
    if y.ndim != 1 or y.size == 0:
        raise DataError(f"dance features need one channel of samples, got shape {y.shape}", hint="decode it to mono")
    if not (np.isfinite(sr) and 4_000 <= sr <= 384_000):
        raise DataError(f"sound at {sr} samples per second", hint="4,000 to 384,000 are read")
    if n_frames is not None and not 0 < n_frames <= LONGEST_S * fps:
        raise DataError(f"{n_frames} frames of features", hint=f"1 frame to {LONGEST_S / 3600:g} h")
    if not np.isfinite(y).all():
        raise DataError("audio samples are not finite", hint="decode the file again, or repair it")
    rate = HOP * fps
    if abs(sr - rate) > 1e-9:
        import soxr

        y = np.ascontiguousarray(soxr.resample(y, sr, rate, quality="HQ"), np.float32)
    wanted = 0 if n_frames is None else (n_frames - 1) * HOP
    return np.pad(y, (0, max(0, wanted - y.size, 1 - y.size)))


def _beats(features: Features, bpm: float | None) -> F64:
    """Tracked beats in seconds of frame time, (k * 512 / rate) * rate / 512 / fps being k / fps."""
    return track_beats(features, bpm=bpm).beats_s


def _annotated(beats_s: F64) -> F64:
    beats = np.asarray(beats_s, np.float64)
    if beats.ndim != 1 or not np.isfinite(beats).all() or (np.diff(beats) <= 0).any():
        raise DataError("annotated beats do not increase", hint="give one time in seconds a line, in order")
    return beats
