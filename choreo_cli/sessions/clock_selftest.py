"""Measure the systematic error of the motion clock, for the configuration in use.

Envelope latency, the shape of an impact and resampling shift the correlation peak by tens of milliseconds, and
the shift changes with the frame rate (+47 ms at 60 fps, -12 ms at 10 fps in datalane.md 4.2). So it is measured:
a rendered beat track goes through the caller's onset envelope, template dancers go through the same frame rate
and filters, and the median of their errors is the bias. It is never a constant.

The template dancer is a convention, and it is this: a body of 14 joints that lands ON the beat.
- At each beat a random part of the joints moves to a new place with a speed of u^3 (1-u)^2 (a minimum-jerk path,
  Flash & Hogan 1985, has u^2 (1-u)^2: a landing brakes harder than it sets off) and ends at the beat plus a common
  timing error (normal, 15 ms) and one of each joint (normal, 8 ms).
- A move goes 13-31 cm with the limbs, 3-8 cm with the trunk, and lasts 0.12 to 0.40 s (+-15 %). How long decides
  the bias (+28 to +120 ms at 30 fps), so dancers of six lengths are measured; which of them a take resembles is
  read off the take itself (`clock_motion.brake_us`), without any clock.
- The whole body bounces 3 cm once a beat, lowest on the beat, and drifts slowly (10 cm at 0.1 Hz).
- Each coordinate carries white noise of 1 cm.
Somebody who habitually lands before or after the beat has that habit in the offset: no motion and music can tell
it from a clock error. It is why the field is called effective offset.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from choreo_cli.sessions.clock_estimate import LIMITS, Envelope
from choreo_cli.sessions.clock_motion import STEP_US, Bias, brake_us, correlate, parabolic
from choreo_cli.sessions.impact import impact_of_pose, impact_of_speed, window_half

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
OnsetOf = Callable[[F32, int], tuple[I64, F32]]

TEMPLATE = "landing-3"
RATE = 22_050
SECONDS = 32.0
MOVES_S = (0.12, 0.16, 0.20, 0.25, 0.32, 0.40)
DANCERS = 5  # of each length
SEED = 20_240
LIMBS, JOINTS = 8, 14

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


def template_dancer(t_s: F64, beats_s: F64, move_s: float, rng: np.random.Generator) -> F32:
    """Sample the template dancer described above.

    Args:
        t_s: (T,) times on the music clock, seconds.
        beats_s: (B,) beats, seconds.
        move_s: Length of a move.

    Returns:
        (T, 14, 3) positions, metres.
    """
    reach = np.r_[np.full(LIMBS, 0.22), np.full(JOINTS - LIMBS, 0.055)]
    x, landed = np.zeros((len(t_s), JOINTS, 3)), np.zeros((len(t_s) + 1, JOINTS, 3))
    home = rng.normal(0, 1, (JOINTS, 3)) * np.array([0.3, 0.6, 0.1])
    place = np.zeros((JOINTS, 3))
    for land in beats_s + rng.normal(0, 0.015, len(beats_s)):
        moves = np.flatnonzero(rng.random(JOINTS) < 0.7)
        goal = rng.normal(0, 1, (len(moves), 3))
        goal *= (reach[moves] / np.sqrt((goal**2).sum(axis=1)) * rng.uniform(0.6, 1.4, len(moves)))[:, None]
        end = land + rng.normal(0, 0.008, len(moves))
        length = move_s * rng.uniform(0.85, 1.15, len(moves))
        a, b = np.searchsorted(t_s, [land - 1.2 * move_s - 0.03, land + 0.03])
        u = np.clip((t_s[a:b, None] - (end - length)) / length, 0, 1)
        step = goal - place[moves]
        x[a:b, moves] += (u**4 * (15 - 24 * u + 10 * u**2))[:, :, None] * step
        landed[b, moves] += step
        place[moves] = goal
    x += np.cumsum(landed, axis=0)[:-1]
    phase = np.interp(t_s, beats_s, np.arange(len(beats_s)), left=0.0, right=len(beats_s) - 1)
    x[:, :, 1] -= 0.03 * np.cos(2 * np.pi * phase)[:, None]
    x[:, :, 0] += 0.10 * np.sin(2 * np.pi * 0.1 * t_s)[:, None]
    return np.asarray(x + home + rng.normal(0, 0.01, x.shape), np.float32)


def configuration(fps: float, beat_us: float, kind: str, onset_name: str) -> dict[str, object]:
    """Everything the bias depends on; frame rate to 0.1, tempo to 4 BPM."""
    tempo = min(max(60e6 / beat_us, 60.0), 220.0)
    return {
        "template": TEMPLATE,
        "kind": kind,
        "fps": round(fps, 1),
        "window": 2 * window_half(fps) + 1,
        "onset": onset_name,
        "bpm": int(4 * round(tempo / 4)),
        "moves_s": list(MOVES_S),
        "dancers": DANCERS,
        "seconds": SECONDS,
        "seed": SEED,
    }


def self_test(
    fps: float,
    beat_us: float,
    *,
    kind: str = "pose",
    onset_of: OnsetOf = default_onset,
    onset_name: str = "choreo-audio-22050-512",
) -> Bias:
    """Measure the bias of one configuration; cached in memory by the hash of the configuration.

    Args:
        fps: Frame rate of the pose stream, Hz.
        beat_us: Beat period of the music (rounded to 4 BPM: the length of a move follows the beat).
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


def _measure(config: dict[str, object], onset_of: OnsetOf, key: str) -> Bias:
    """Bias and brake time of the template dancers, for each length of move."""
    fps, bpm = float(str(config["fps"])), float(str(config["bpm"]))
    rng = np.random.default_rng(SEED)
    beat = 60.0 / bpm
    beats = np.arange(1.0, SECONDS + 2.0, beat)
    t_us, value = onset_of(beat_track(beats, SECONDS + 2.0, RATE, rng), RATE)
    onset = Envelope(np.asarray(t_us, np.int64), np.asarray(value, np.float32), RATE / 512, "selftest")
    brakes, biases, rest = [], [], []
    for move_s in (m for m in MOVES_S if m <= 0.8 * beat):
        got = np.array([_trial(fps, beats, move_s, str(config["kind"]), onset, rng) for _ in range(DANCERS)])
        error = float(np.median(got[:, 0]))
        rest += list(got[:, 0] - error)
        brake = got[np.isfinite(got[:, 1]), 1]
        if len(brake) > DANCERS // 2:
            brakes.append(round(float(np.median(brake))))
            biases.append(round(error))
    if not brakes:
        brakes, biases = [0], [round(float(np.median(biases or [0])))]
    return Bias(tuple(brakes), tuple(biases), round(1.4826 * float(np.median(np.abs(rest)))), key)


def _trial(
    fps: float, beats: F64, move_s: float, kind: str, onset: Envelope, rng: np.random.Generator
) -> tuple[float, float]:
    """Error and brake time of one template dancer, microseconds."""
    beat_us = float(np.median(np.diff(beats))) * 1e6
    # A dancer starts at any part of a frame, so that the median is over all of them.
    t = 1.0 + rng.uniform(0, 1 / fps) + np.arange(int((SECONDS - 1.0) * fps)) / fps
    pose = template_dancer(t, beats, move_s, rng)
    device = np.rint((t - t[0]) * 1e6).astype(np.int64)
    if kind == "qom":
        moved = np.r_[0.0, np.sqrt((np.diff(pose, axis=0) ** 2).sum(axis=2)).mean(axis=1)]
        impact = impact_of_speed(device, moved)
    else:
        impact = impact_of_pose(device, pose)
    m = correlate(onset, impact, round(t[0] * 1e6), round(1.05 * beat_us))
    near = np.abs(m.lags_us - t[0] * 1e6) <= LIMITS.beat_share * beat_us
    i = int(np.argmax(np.where(near, m.curve, -np.inf)))
    return float(m.lags_us[0] + parabolic(m.curve, i) * STEP_US - t[0] * 1e6), brake_us(impact)
