"""Measure the systematic error of the motion clock, for the configuration in use.

Envelope latency, the shape of an impact and resampling shift the correlation peak by tens of milliseconds, and
the shift changes with the frame rate (+47 ms at 60 fps, -12 ms at 10 fps in datalane.md 4.2). So it is measured:
a rendered beat track goes through the caller's onset envelope, template dancers go through the same frame rate
and filters, and their errors are the bias. It is never a constant.

The template dancers are a convention, and it is this: bodies of 9 to 22 joints that land ON the beat.
- At each beat (one in ten is left out) a part of the joints moves to a new place and lands at the beat plus a common
  timing error (normal, 8-35 ms) and one of each joint (0-15 ms); half-beat landings a third as large occur.
- A move lasts 0.12-0.32 s and has the speed u^a (1-u)^b, a 2-5, b 1.5-2.5: from the minimum-jerk path (Flash & Hogan
  1985: 2, 2) to one that brakes harder than it sets off.
- Joints reach 3-35 cm; the whole body bounces 0-3 cm once a beat, lowest on the beat, and drifts 10 cm at 0.1 Hz;
  each coordinate carries white noise of 0.5-2 cm.
How long and how hard the moves are decides the bias (+20 to +110 ms at 30 fps), and a take shows both without any
clock (`move_shape`). So the self-test fits a ridge line from shape to error over its templates, and what is left
(`spread_us`) is style: it goes into the interval of the offset. Somebody who habitually lands before or after the
beat has that habit in the offset: no motion and music can tell it from a clock error. It is why the field is called
effective offset.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.sessions.clock_estimate import LIMITS, Envelope
from choreo_cli.sessions.clock_grid import STEP_US, parabolic
from choreo_cli.sessions.clock_motion import correlate
from choreo_cli.sessions.impact import impact_of_pose, impact_of_speed, window_half
from choreo_cli.sessions.move_shape import Bias, Shape, move_shape

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
OnsetOf = Callable[[F32, int], tuple[I64, F32]]

TEMPLATE = "landings-5"
RATE = 22_050
SECONDS = 24.0
TEMPI = (90.0, 102.0, 116.0, 130.0, 146.0)
DANCERS = 40  # at each tempo
RIDGE = 0.05
COMMON_FPS = (10.0, 12.5, 15.0, 20.0, 24.0, 25.0, 30.0, 48.0, 50.0, 60.0, 90.0, 100.0, 120.0)
SEED = 20_240

_measured: dict[str, Bias] = {}


def default_onset(samples: F32, rate: int) -> tuple[I64, F32]:
    """Onset envelope of `choreo_cli.audio.features`: 22 050 Hz, hop 512, centred frames.

    Returns:
        Frame times, int64 microseconds, and the mean positive log-mel difference.
    """
    from choreo_cli.audio.features import DEFAULT, extract

    y: F32 = np.asarray(samples, np.float32)
    if rate != DEFAULT.rate:
        import soxr

        y = soxr.resample(y, rate, DEFAULT.rate)
    got = extract(y)
    return np.rint(got.times_s * 1e6).astype(np.int64), got.onset


def beat_track(beats_s: F64, seconds: float, rate: int, rng: np.random.Generator) -> F32:
    """Render a drum track with its attacks exactly at the given times.

    Kick on the beat, snare on every second one, a quiet hat on the half beats, over a held chord.
    """
    n = round(seconds * rate)
    t = np.arange(n) / rate
    out = 0.05 * sum(
        np.sin(2 * np.pi * f * t + p) for f, p in zip((110.0, 164.8, 220.0), rng.uniform(0, 6, 3), strict=True)
    )
    decay = np.arange(round(0.25 * rate)) / rate
    kick = 0.9 * np.sin(2 * np.pi * (55 * decay + 3.0 * (1 - np.exp(-decay * 40)))) * np.exp(-decay * 18)
    beat = float(np.median(np.diff(beats_s)))
    for i, b in enumerate(beats_s):
        _add(out, b * rate, kick)
        if i % 2:
            _add(out, b * rate, 0.5 * rng.normal(size=len(decay)) * np.exp(-decay * 25))
        _add(out, (b + beat / 2) * rate, 0.12 * rng.normal(size=len(decay)) * np.exp(-decay * 90))
    return np.asarray(out + 1e-3 * rng.normal(size=n), np.float32)


def _add(out: F64, at: float, sound: F64) -> None:
    a = round(at)
    if 0 <= a < len(out):
        part = sound[: len(out) - a]
        out[a : a + len(part)] += part


def template_dancer(t_s: F64, beats_s: F64, rng: np.random.Generator) -> F32:
    """Draw one of the template dancers described above.

    Args:
        t_s: (T,) times on the music clock, seconds.
        beats_s: (B,) beats, seconds.

    Returns:
        (T, J, 3) positions, metres.
    """
    joints = int(rng.integers(9, 23))
    beat = float(np.median(np.diff(beats_s)))
    u = np.linspace(0, 1, 401)
    way = np.cumsum(u ** rng.uniform(2, 5) * (1 - u) ** rng.uniform(1.5, 2.5))
    way /= way[-1]
    move = min(rng.uniform(0.12, 0.32), 0.9 * beat)
    common, own, keen = rng.uniform(0.008, 0.035), rng.uniform(0, 0.015), rng.uniform(0.4, 1.0)
    reach = np.exp(rng.uniform(np.log(0.03), np.log(0.35), joints))
    x, landed = np.zeros((len(t_s), joints, 3)), np.zeros((len(t_s) + 1, joints, 3))
    place = np.zeros((joints, 3))
    half = beats_s[rng.random(len(beats_s)) < rng.uniform(0, 0.3)] + beat / 2
    whole = beats_s[rng.random(len(beats_s)) < 0.9]
    for land, size in sorted([*((float(b), 1.0) for b in whole), *((float(b), 0.35) for b in half)]):
        at = land + rng.normal(0, common)
        moves = np.flatnonzero(rng.random(joints) < keen)
        step = (
            rng.normal(0, 0.7, (len(moves), 3)) * reach[moves, None] * rng.uniform(0.6, 1.4) * size - 0.6 * place[moves]
        )
        end = at + rng.normal(0, own, len(moves))
        length = move * rng.uniform(0.85, 1.15, len(moves))
        a, b = np.searchsorted(t_s, [at - 1.2 * move - 0.06, at + 0.06])
        x[a:b, moves] += np.interp((t_s[a:b, None] - (end - length)) / length, u, way)[:, :, None] * step
        landed[b, moves] += step
        place[moves] += step
    x += np.cumsum(landed, axis=0)[:-1]
    phase = np.interp(t_s, beats_s, np.arange(len(beats_s)))
    x[:, :, 1] -= rng.uniform(0, 0.03) * np.cos(2 * np.pi * phase)[:, None]
    x[:, :, 0] += 0.10 * np.sin(2 * np.pi * 0.1 * t_s)[:, None]
    noise = rng.normal(0, rng.uniform(0.005, 0.02), x.shape)
    return np.asarray(x + rng.normal(0, 0.4, (joints, 3)) + noise, np.float32)


def snap(fps: float) -> float:
    """Common frame rate within 2 %, else to 0.5 Hz: 29.97 and a jittery 30.1 share one self-test."""
    near = min(COMMON_FPS, key=lambda common: abs(common - fps))
    return near if abs(near - fps) <= 0.02 * fps else round(2 * fps) / 2


def configuration(fps: float, beat_us: float | None, kind: str, onset_name: str) -> dict[str, Any]:
    """Everything the bias depends on; frame rate snapped, music slow, medium or fast."""
    fps = snap(fps)
    bpm = 60e6 / beat_us if beat_us else 116.0
    pace = 0.7 if bpm < 80 else 1.4 if bpm > 155 else 1.0
    return {
        "template": TEMPLATE,
        "kind": kind,
        "fps": fps,
        "window": 2 * window_half(fps) + 1,
        "onset": onset_name,
        "tempi": [round(pace * bpm, 1) for bpm in TEMPI],
        "dancers": max(16, min(DANCERS, round(DANCERS * 60 / fps))),
        "seconds": SECONDS,
        "seed": SEED,
    }


def self_test(
    fps: float,
    beat_us: float | None = None,
    *,
    kind: str = "pose",
    onset_of: OnsetOf = default_onset,
    onset_name: str = "choreo-audio-22050-512",
) -> Bias:
    """Measure the bias of one configuration; cached in memory by the hash of the configuration.

    Args:
        fps: Frame rate of the pose stream, Hz.
        beat_us: Beat period of the music: the templates dance at 63-102, 90-146 or 126-204 BPM.
        kind: `pose` or `qom`.
        onset_of: (samples float32, rate) -> (times in microseconds, envelope): the envelope code of the real music.
        onset_name: Names `onset_of` and its parameters in the hash.
    """
    config = configuration(fps, beat_us, kind, onset_name)
    text = json.dumps(config, sort_keys=True, separators=(",", ":"))
    key = hashlib.sha256(text.encode()).hexdigest()[:16]
    if key not in _measured:
        _measured[key] = _measure(config, onset_of, key)
    return _measured[key]


def _measure(config: dict[str, Any], onset_of: OnsetOf, key: str) -> Bias:
    """Fit the line from the template dancers' shapes to their errors, over the tempi people dance to."""
    fps, kind = config["fps"], config["kind"]
    rows: list[tuple[float, Shape]] = []
    for number, bpm in enumerate(config["tempi"]):
        rng = np.random.default_rng([SEED, number])
        beats = np.arange(1.0, SECONDS + 2.0, 60.0 / bpm)
        t_us, value = onset_of(beat_track(beats, SECONDS + 2.0, RATE, rng), RATE)
        onset = Envelope(np.asarray(t_us, np.int64), np.asarray(value, np.float32), RATE / 512, "selftest")
        rows += [_trial(fps, beats, kind, onset, rng) for _ in range(config["dancers"])]
    return fit(np.array([r[0] for r in rows]), np.array([r[1] for r in rows]), key)


def fit(errors_us: F64, shapes: F64, key: str) -> Bias:
    """Ridge line (Hoerl & Kennard 1970) from shapes to errors; slips of a half beat are left out as outliers."""
    middle = float(np.median(errors_us))
    keep = np.abs(errors_us - middle) <= max(4 * 1.4826 * float(np.median(np.abs(errors_us - middle))), 1.0)
    y, x = errors_us[keep], shapes[keep]
    mean = np.nan_to_num(np.nanmean(x, axis=0) if np.isfinite(x).any(axis=0).all() else np.zeros(x.shape[1]))
    x = np.where(np.isfinite(x), x, mean)
    sd = np.where(x.std(axis=0) > 0, x.std(axis=0), 1.0)
    z = np.clip((x - mean) / sd, -2, 2)
    weights = np.linalg.solve(z.T @ z + RIDGE * len(y) * np.eye(z.shape[1]), z.T @ (y - y.mean()))
    left = y - y.mean() - z @ weights
    return Bias(
        round(float(y.mean())), tuple(float(w) for w in weights), tuple(float(m) for m in mean),
        tuple(float(s) for s in sd), round(float(left.std(ddof=z.shape[1] + 1))), key,
    )  # fmt: skip


def _trial(fps: float, beats: F64, kind: str, onset: Envelope, rng: np.random.Generator) -> tuple[float, Shape]:
    """Error (microseconds) and shape of one template dancer."""
    beat_us = float(np.median(np.diff(beats))) * 1e6
    # A dancer starts at any part of a frame, so that the line is the mean over all of them.
    t = 1.0 + rng.uniform(0, 1 / fps) + np.arange(int((SECONDS - 1.0) * fps)) / fps
    pose = template_dancer(t, beats, rng)
    device = np.rint((t - t[0]) * 1e6).astype(np.int64)
    if kind == "qom":
        moved = np.r_[0.0, np.sqrt((np.diff(pose, axis=0) ** 2).sum(axis=2)).mean(axis=1)]
        impact = impact_of_speed(device, moved)
    else:
        impact = impact_of_pose(device, pose)
    m = correlate(onset, impact, round(t[0] * 1e6), round(LIMITS.beat_share * beat_us))
    peak = parabolic(m.curve, int(np.argmax(m.curve)))
    return float(m.lags_us[0] + peak * STEP_US - t[0] * 1e6), move_shape(impact)
