"""The recordings of a synthetic session: clocks, pose log, heart-rate file, metadata, playlist and the truth."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.sessions.synth_score import VERSION, Performance, SynthOptions, stream
from choreo_cli.sessions.synth_signals import Gap
from formats.columns import INPUTS
from formats.foreign.joints import CANONICAL

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

# Wall time never enters: the first session of every set starts here, each later one an hour or more after it.
EPOCH_US = 1_767_225_600_000_000  # 2026-01-01T00:00:00Z
PRIOR_SIGMA_S = 0.1
SETTLE_S = 0.02  # jitter of pose times, as a fraction of the period


@dataclass(frozen=True, slots=True)
class DeviceClock:
    """How a device's clock relates to the music: `t_music = (1 + drift) t_device + offset`.

    Args:
        start_utc_us: What the device's clock reads at its recording's time zero.
        offset_us: Music time of that instant (the truth).
        drift_ppm: Drift.
        length_us: How long it records, by its own clock.
        music_utc_us: What metadata say of the instant at which the track began.
    """

    start_utc_us: int
    offset_us: int
    drift_ppm: float
    length_us: int
    music_utc_us: int

    @property
    def prior_us(self) -> int:
        """Offset that the clocks suggest; the truth differs from it by `--offset-s`."""
        return self.start_utc_us - self.music_utc_us

    def to_music(self, t_device_s: F64) -> F64:
        return (1 + self.drift_ppm * 1e-6) * t_device_s + self.offset_us / 1e6

    def to_device(self, t_music_s: F64) -> F64:
        return (t_music_s - self.offset_us / 1e6) / (1 + self.drift_ppm * 1e-6)


def cycle(values: Sequence[float], index: int) -> float:
    return float(values[index % len(values)])


def draw_clock(index: int, music: Performance, track_s: float, options: SynthOptions) -> DeviceClock:
    """When the track and the device started; the device runs from before the music to after it."""
    rng = stream(music.seed, "device")
    hours = -(-int(options.minutes * 60 + 600) // 3600)
    began = EPOCH_US + index * hours * 3_600_000_000 + int(rng.integers(0, 300_000_000))
    early, late = rng.uniform(1.0, 3.0), rng.uniform(0.5, 1.5)
    prior = -round(early * 1e6)
    offset = prior + round(cycle(options.offset_s, index) * 1e6)
    return DeviceClock(
        began + prior, offset, cycle(options.drift_ppm, index), round((early + track_s + late) * 1e6), began
    )


def iso(us: int) -> str:
    """UTC with microseconds and a Z, without a detour through floating point."""
    seconds, rest = divmod(us, 1_000_000)
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{rest:06d}Z"


def pose_times(clock: DeviceClock, who: Performance, options: SynthOptions) -> I64:
    """Microseconds of each snapshot from the recording's time zero: a steady rate with 2 % of jitter."""
    rng = stream(who.seed, "pose_times")
    period = 1e6 / options.pose_fps
    n = max(int(clock.length_us / period), 1)
    jitter = np.clip(rng.standard_normal(n), -3, 3) * SETTLE_S * period
    jitter[0] = 0.0
    return np.rint(np.arange(n) * period + jitter).astype(np.int64)


def outside(t_music_s: F64, gaps: Sequence[Gap], modality: str) -> NDArray[np.bool_]:
    """Which times lie in no dropout of a modality."""
    keep = np.ones(len(t_music_s), bool)
    us = t_music_s * 1e6
    for gap in gaps:
        if gap.kind == "dropout" and gap.what == modality:
            keep &= (us < gap.start_us) | (us >= gap.end_us)
    return keep


def pose_lines(t_us: I64, start_utc_us: int, xyz: F64) -> bytes:
    """JSON Lines: `t_us` (unix microseconds), `t` (the same in seconds, exact decimals), `joints` in metres, y up."""
    joints = ", ".join(f'"{name}": [%.4f, %.4f, %.4f]' for name in CANONICAL)
    line = '{"t_us": %d, "t": %d.%06d, "frame": %d, "joints": {' + joints + '}, "synthetic": true}\n'
    flat = xyz.reshape(len(xyz), -1) + 0.0
    flat[np.abs(flat) < 5e-5] = 0.0  # "-0.0000" is a number nobody means
    parts = []
    for i, (t, row) in enumerate(zip((start_utc_us + t_us).tolist(), flat.tolist(), strict=True)):
        parts.append(line % (t, *divmod(t, 1_000_000), i, *row))
    return "".join(parts).encode()


def heart_csv(
    clock: DeviceClock, t_music_s: F64, rate: F64, gaps: Sequence[Gap], who: Performance
) -> tuple[bytes, I64]:
    """About one reading a second, in unix time by the device's clock; and the times from the recording's zero (us)."""
    n = max(int((t_music_s[-1] - t_music_s[0]) / 1.0), 1)
    rng = stream(who.seed, "heart_times")
    at = t_music_s[0] + np.arange(n) + rng.uniform(0.0, 0.08, n)
    at = at[outside(at, gaps, "hr")]
    t_us = np.rint(clock.to_device(at) * 1e6).astype(np.int64)
    values = np.interp(at, t_music_s, rate)
    stamps = (clock.start_utc_us + t_us).tolist()
    rows = [f"{_seconds(t)},{v:.1f}\n" for t, v in zip(stamps, values.tolist(), strict=True)]
    return ("t_unix_s,hr\n" + "".join(rows)).encode(), t_us


def metadata(
    session_id: str,
    index: int,
    title: str,
    clock: DeviceClock,
    recordings: Mapping[str, tuple[str, int]],
    options: SynthOptions,
) -> bytes:
    """What the session's owner knows: the track, the people, the devices and when it was, give or take its sigma.

    Args:
        session_id: The session.
        index: Its number, and its track's.
        title: The track's title.
        clock: The device's clock.
        recordings: File -> (device, its time zero in microseconds after the device's start).
        options: What was asked for.
    """
    error = abs(cycle(options.offset_s, index))
    doc = {
        "session": session_id,
        "started_at": iso(clock.music_utc_us),
        "clock_sigma_s": PRIOR_SIGMA_S if error <= 2 * PRIOR_SIGMA_S else round(error / 1.6, 3),
        "track": {"title": title, "index": index, "offset_us": 0},
        "playlist": "synthetic",
        "performer": f"dancer-{index:04d}",
        "devices": sorted({device for device, _ in recordings.values()}),
        "recordings": [
            {"file": name, "device": device, "started_at": iso(clock.start_utc_us + zero)}
            for name, (device, zero) in sorted(recordings.items())
        ],
        "synthetic": True,
    }
    return dumps(doc)


def playlist(items: Sequence[Mapping[str, Any]]) -> bytes:
    """The set's playlist: order, titles, files, lengths and when each track began."""
    return dumps({"name": "synthetic", "synthetic": True, "tracks": list(items)})


def truth(
    session_id: str,
    music: Performance,
    body: Performance,
    clock: DeviceClock,
    zeros_us: Mapping[str, int],
    played: str | None,
    options: SynthOptions,
) -> dict[str, Any]:
    """The answers: every recording's offset and drift, the beats, and when the body really landed.

    Args:
        session_id: The session.
        music: What was heard.
        body: What moved.
        clock: The device's clock.
        zeros_us: Recording -> its time zero in microseconds after the device's start.
        played: Path of the track that was played, None when it is not in the set.
        options: What was asked for.
    """
    rate = 1 + clock.drift_ppm * 1e-6
    return {
        "schema": "choreo.truth/1",
        "session_id": session_id,
        "model": "t_music = (1 + drift) t_device + offset; t_device counts from the recording's own time zero",
        "played": played,
        "dances_to_the_music": music is body and not options.still,
        "recordings": {
            name: {
                "t0_utc_us": clock.start_utc_us + zero,
                "offset_us": round(clock.offset_us + rate * zero),
                "drift_ppm": clock.drift_ppm,
                "prior_offset_us": clock.prior_us + zero,
            }
            for name, zero in sorted(zeros_us.items())
        },
        "music_utc_us": clock.music_utc_us,
        "bpm": music.bpm,
        "beats_us": _us(music.beats_s[music.zero :]),
        "body_beats_us": _us(body.beats_s[body.zero :]),
        "landings_us": _us(body.score.hit_s[body.zero :]),
        "half_landings_us": _us(body.score.half_s[body.zero :]),
        "synthetic": True,
    }


def meta(
    session_id: str, index: int, music: Performance, body: Performance, gaps: Sequence[Gap], options: SynthOptions
) -> dict[str, Any]:
    """What the frames are: tempo, seed, generator, bounds, sections, gestures, partners and what went missing."""
    end_s = music.first_s + 60.0 * options.minutes
    partner = None if body is music else {"name": body.name, "seed": body.seed, "bpm": body.bpm}
    if partner is not None:
        partner["start_us"] = round(body.first_s * 1e6)
    return {
        "schema": "choreo.synth-session/1",
        "session_id": session_id,
        "synthetic": True,
        "generator": "choreo synth sessions",
        "generator_version": VERSION,
        "set_seed": options.seed,
        "seed": music.seed,
        "bpm": music.bpm,
        "ramp": options.ramp,
        "rate_hz": 50,
        "first_beat_us": round(music.first_s * 1e6),
        "decoupled": options.decoupled,
        "wrong_track": options.wrong_track,
        "still": options.still,
        "hr_tau_s": options.hr_tau_s,
        "jitter_s": options.jitter_s,
        "partners": [partner] if partner else [],
        "bounds": {c.name: {"lo": c.lo, "hi": c.hi, "unit": c.unit, "open_hi": c.open_hi} for c in INPUTS},
        "sections": _section_list(music, end_s),
        "body_sections": _section_list(body, end_s),
        "gestures": [
            {"onset_us": round(t * 1e6), "end_us": round((t + n) * 1e6), "label": label}
            for t, n, label in zip(
                body.gestures.onset_s, body.gestures.length_s, body.gestures.label, strict=True
            )
        ],
        "gaps": [{"what": g.what, "start_us": g.start_us, "end_us": g.end_us, "kind": g.kind} for g in gaps],
    }  # fmt: skip


def _section_list(who: Performance, end_s: float) -> list[dict[str, Any]]:
    return [
        {
            "start_us": round(s.start_s * 1e6),
            "end_us": round(min(s.end_s, end_s) * 1e6),
            "start_beat": s.start_beat,
            "beats": s.beats,
            "level": s.level,
        }
        for s in who.sections
        if s.start_s < end_s
    ]


def beats_text(music: Performance) -> bytes:
    """One beat time per line, seconds of the music clock."""
    return "".join(f"{_seconds(t)}\n" for t in _us(music.beats_s[music.zero :])).encode()


def _seconds(us: int) -> str:
    """Microseconds as seconds in exact decimals."""
    whole, rest = divmod(us, 1_000_000)
    return f"{whole}.{rest:06d}"


def dumps(doc: Mapping[str, Any]) -> bytes:
    """Indented JSON without NaN."""
    return (json.dumps(doc, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _us(seconds: F64) -> list[int]:
    return [int(x) for x in np.rint(seconds * 1e6)]
