"""Make openly synthetic sessions: frames, the recordings they could have come from, and the truth."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.audio.render import RATE as AUDIO_RATE
from choreo_cli.audio.render import render_track, wav_bytes
from choreo_cli.engine import run_map
from choreo_cli.motion.dancer import Dance, choreograph, poses
from choreo_cli.sessions import synth_material as material
from choreo_cli.sessions.synth_room import record
from choreo_cli.sessions.synth_score import VERSION, Performance, SynthOptions, child_seed, perform, stream
from choreo_cli.sessions.synth_signals import Gap, draw_gaps, make_frames, make_signals
from formats.proportions import STATURE_M

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

__all__ = ["SynthOptions", "SynthSet", "SyntheticSession", "generate_session", "write_sessions"]

COMMENT = "synthetic"


@dataclass(frozen=True, slots=True)
class SyntheticSession:
    """One session in memory; the recordings are made on demand from it.

    Args:
        index: Position in the set.
        session_id: `session-0000`...
        options: What was asked for.
        music: The performance that beats, sections and the track follow.
        body: The performance that motion and heart follow; `music` itself unless decoupled.
        signals: The frames' columns before anything went missing, float64.
        frames: Columns of `FRAMES`; a missing value is NaN.
        gaps: What was made to go missing.
        clock: The device's clock against the music (the truth).
        track_s: Length of the track.
    """

    index: int
    session_id: str
    options: SynthOptions
    music: Performance
    body: Performance
    signals: Mapping[str, Any]
    frames: Mapping[str, Any]
    gaps: tuple[Gap, ...]
    clock: material.DeviceClock
    track_s: float

    @property
    def title(self) -> str:
        """Title of the session's track, in its metadata and in the WAV's tags."""
        return f"Synthetic Track {self.index:04d}"

    @property
    def dance(self) -> Dance:
        """The body's choreography."""
        height = STATURE_M * float(stream(self.body.seed, "body").uniform(0.92, 1.10))
        return choreograph(self.body.score, stream(self.body.seed, "dance"), height_m=height)

    def track(self) -> F32:
        """(N,) the master, 22.05 kHz mono, its sample 0 at music time 0."""
        return _render(self.music, self.track_s)

    def heard(self) -> F32:
        """(N,) what was played in the room: the track, or with `wrong_track` another one."""
        return _render(self.body if self.options.wrong_track else self.music, self.track_s)

    def pose_log(self) -> tuple[I64, F64]:
        """Times (T,) in microseconds from the recording's time zero and joints (T, 22, 3) in metres, dropouts cut."""
        t_us = material.pose_times(self.clock, self.body, self.options)
        t_music = self.clock.to_music(t_us / 1e6)
        keep = material.outside(t_music, self.gaps, "mot")
        keep[0] = True  # the first snapshot is the recording's time zero
        t_us, t_music = t_us[keep], t_music[keep]
        xyz = poses(self.dance, t_music)
        if self.options.pose_noise_m:
            noise = stream(self.body.seed, "pose_noise").standard_normal(xyz.shape)
            xyz = xyz + self.options.pose_noise_m * noise
        return t_us, xyz

    def device_audio(self) -> F32:
        """(M,) what the device's microphone recorded, sample 0 at its time zero.

        Raises:
            ValueError: the options ask for no recording.
        """
        if self.options.scratch_snr_db is None:
            raise ValueError("scratch_snr_db is None: no device recording was asked for")
        c = self.clock
        rng = stream(self.music.seed, "room")
        return record(
            self.heard(), AUDIO_RATE, c.offset_us / 1e6, c.drift_ppm * 1e-6, c.length_us / 1e6,
            self.options.scratch_snr_db, rng,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class SynthSet:
    """What `write_sessions` wrote: entries of `choreo.sessions/1`, and sha256 of every file by its path."""

    entries: list[dict[str, Any]]
    files: dict[str, str]


def _render(who: Performance, length_s: float) -> F32:
    beats = who.beats_s[who.zero :]
    return render_track(beats, who.level(beats), length_s, stream(who.seed, "track"))


def generate_session(index: int, options: SynthOptions) -> SyntheticSession:
    """Make session `index` in memory. It depends on the set's seed and its own index, never on how many there are.

    Args:
        index: From 0.
        options: What to make.
    """
    seed, bpm = child_seed(options.seed, index), material.cycle(options.bpm, index)
    session_id = f"session-{index:04d}"
    music = perform(seed, bpm, options, name=session_id)
    body = music
    if options.decoupled or options.wrong_track:
        rng = stream(seed, "partner")
        apart = float(rng.uniform(0.03, 0.10)) * (1.0 if rng.random() < 0.5 else -1.0)
        other = round(bpm * (1 + apart), 4)
        phase = float(rng.random())
        body = perform(child_seed(options.seed, index, 1), other, options, name=f"{session_id}-partner", phase=phase)
    gaps = draw_gaps(music, options)
    tail = float(stream(seed, "track").uniform(0.5, 2.5))
    track_s = round((music.first_s + 60.0 * options.minutes + tail) * AUDIO_RATE) / AUDIO_RATE
    clock = material.draw_clock(index, music, track_s, options)
    signals = make_signals(music, body, options)
    frames = make_frames(session_id, signals, gaps)
    return SyntheticSession(index, session_id, options, music, body, signals, frames, gaps, clock, track_s)


def write_sessions(
    options: SynthOptions, out_dir: Path, on_progress: Callable[..., None] | None = None, *, jobs: int = 1
) -> SynthSet:
    """Write every session's folder, the music and the playlist; the manifest is the caller's.

    Layout: `music/track-0000.wav`, `music/playlist.json`, and `session-0000/` with `frames.parquet`, `meta.json`,
    `metadata.json`, `poses.jsonl`, `heart_rate.csv`, `device.wav` and `truth/`.

    Args:
        options: What to make.
        out_dir: Existing folder.
        on_progress: Called as `on_progress(done, total)`.
        jobs: Worker processes; the bytes do not depend on it.

    Raises:
        OSError: the folder cannot be written.
    """
    work = partial(_write_session, options=options, out_dir=out_dir)
    entries, items, files = [], [], {}
    for entry, item in run_map(work, range(options.sessions), jobs=jobs, on_progress=on_progress):
        entries.append(entry)
        items.append(item)
        files.update(entry["files"])
    if options.material:
        files["music/playlist.json"] = _put(out_dir, "music/playlist.json", material.playlist(items))
    return SynthSet(entries, files)


def _put(out_dir: Path, name: str, data: bytes) -> str:
    from formats.atomic import write_bytes

    path = out_dir / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_bytes(path, data)


def _write_session(index: int, *, options: SynthOptions, out_dir: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    from formats.columns import FRAMES
    from formats.sealed import dumps
    from formats.tables import write_table

    s = generate_session(index, options)
    folder = s.session_id
    (out_dir / folder).mkdir(parents=True, exist_ok=True)
    files: dict[str, str] = {}
    frames_path = f"{folder}/frames.parquet"
    tags = {"choreo.synthetic": "true", "choreo.generator": VERSION, "choreo.seed": str(s.music.seed)}
    frames_sha = write_table(out_dir / frames_path, FRAMES, s.frames, tags)
    files[frames_path] = frames_sha
    note = material.meta(s.session_id, index, s.music, s.body, s.gaps, options)
    files[f"{folder}/meta.json"] = _put(out_dir, f"{folder}/meta.json", dumps(note))
    item: dict[str, Any] = {}
    if options.material:
        item = _write_material(s, out_dir, files)
    n = len(s.frames["t_us"])
    entry = {
        "id": f"s:{frames_sha[:16]}",
        "session_id": s.session_id,
        "path": folder,
        "frames": frames_path,
        "frames_sha256": frames_sha,
        "n_frames": n,
        "duration_us": n * 20_000,
        "bpm": s.music.bpm,
        "seed": s.music.seed,
        "synthetic": True,
        "files": dict(sorted(files.items())),
    }
    return entry, item


def _write_material(s: SyntheticSession, out_dir: Path, files: dict[str, str]) -> dict[str, Any]:
    """Write music and recordings of one session; returns its playlist item."""
    from formats.sealed import dumps

    def put(name: str, data: bytes) -> None:
        files[name] = _put(out_dir, name, data)

    folder, options = s.session_id, s.options
    track = f"music/track-{s.index:04d}.wav"
    put(track, wav_bytes(s.track(), title=s.title, comment=COMMENT))
    t_us, xyz = s.pose_log()
    put(f"{folder}/poses.jsonl", material.pose_lines(t_us, s.clock.start_utc_us, xyz))
    heart, heart_us = material.heart_csv(s.clock, s.signals["t_us"] / 1e6, s.signals["hr"], s.gaps, s.body)
    put(f"{folder}/heart_rate.csv", heart)
    zeros = {"poses.jsonl": int(t_us[0]), "heart_rate.csv": int(heart_us[0]) if len(heart_us) else 0}
    devices = {"poses.jsonl": "phone-1", "heart_rate.csv": "watch-1"}
    if options.scratch_snr_db is not None:
        put(f"{folder}/device.wav", wav_bytes(s.device_audio(), title="device microphone", comment=COMMENT))
        zeros["device.wav"], devices["device.wav"] = 0, "phone-1"
    recordings = {name: (device, zeros[name]) for name, device in devices.items()}
    put(f"{folder}/metadata.json", material.metadata(s.session_id, s.index, s.title, s.clock, recordings, options))
    played = None if options.wrong_track else track
    answers = material.truth(s.session_id, s.music, s.body, s.clock, zeros, played, options)
    put(f"{folder}/truth/truth.json", dumps(answers))
    put(f"{folder}/truth/beats.txt", material.beats_text(s.music))
    return {
        "index": s.index, "title": s.title, "file": track.removeprefix("music/"), "duration_s": round(s.track_s, 6),
        "started_at": material.iso(s.clock.music_utc_us),
    }  # fmt: skip
