"""Column tables: name, type, unit and bounds of every field of every format.

Schema, validator, manual section 5 and the synthetic generator follow from them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Column:
    """One field of a record or a table.

    Args:
        name: Field name.
        dtype: `int32 int64 float32 float64 bool str json`, `list<T>` (any length) or `T[N]` (fixed length).
        unit: Unit of the value, empty for none.
        lo: Lowest legal value, inclusive.
        hi: Highest legal value, inclusive unless `open_hi`.
        nullable: Whether null is legal. Missing values are null, never 0.
        doc: One line for the manual.
        choices: The closed list of legal values, for strings.
        open_hi: The upper bound itself is not legal.
    """

    name: str
    dtype: str
    unit: str = ""
    lo: float | None = None
    hi: float | None = None
    nullable: bool = False
    doc: str = ""
    choices: tuple[str, ...] = ()
    open_hi: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A format: its schema name, version and columns in order."""

    schema: str
    doc: str
    columns: tuple[Column, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(c.name for c in self.columns)

    def column(self, name: str) -> Column:
        return next(c for c in self.columns if c.name == name)


_f32 = "float32"

MOT = ("motion_energy", "motion_freq", "jerk", "hip_sway", "hip_bounce", "symmetry")
HR = ("hr", "hr_slope")
AUD = ("audio_energy", "audio_brightness")
CTX = ("beat_phase",)
MODALITIES: dict[str, tuple[str, ...]] = {"mot": MOT, "hr": HR, "aud": AUD, "ctx": CTX}
MASKS = ("m_mot", "m_hr", "m_aud", "m_ctx")

INPUTS: tuple[Column, ...] = (
    Column("motion_energy", _f32, "1", 0, 1, True, "mean joint speed over its 95th percentile, saturating at 1"),
    Column("motion_freq", _f32, "Hz", 0, 8, True, "dominant rate of motion_energy over the last 4 s"),
    Column("jerk", _f32, "1", 0, 1, True, "mean norm of the third difference over its 99th percentile"),
    Column("hip_sway", _f32, "1", -1, 1, True, "lateral pelvis displacement over 0.15 body heights, 2 s high-pass"),
    Column("hip_bounce", _f32, "1", -1, 1, True, "vertical pelvis displacement, same scale"),
    Column("symmetry", _f32, "1", 0, 1, True, "1 minus the normalised left/right speed difference"),
    Column("hr", _f32, "beats/min", 30, 220, True, "heart rate"),
    Column("hr_slope", _f32, "beats/min/s", -10, 10, True, "least-squares slope of heart rate over the last 4 s"),
    Column("audio_energy", _f32, "1", 0, 1, True, "RMS level, -60..0 dBFS"),
    Column("audio_brightness", _f32, "1", 0, 1, True, "log spectral centroid, 200..8000 Hz"),
    Column("beat_phase", _f32, "cycle", 0, 1, True, "position inside the beat", open_hi=True),
)

FRAMES = Table(
    "choreo.frames/1",
    "One row per 20 ms of one session on the music clock: the 11 model inputs, index columns and masks.",
    (
        Column("session_id", "str", doc="session the row belongs to; rows are sorted by (session_id, t_us)"),
        Column("t_us", "int64", "us", doc="time on the music clock, strictly increasing inside a session"),
        *INPUTS,
        Column("beat_idx", "int32", lo=-1, doc="index of the current beat, -1 outside the beats"),
        Column("m_mot", "bool", doc="motion_energy, motion_freq and jerk are measured"),
        Column("m_hr", "bool", doc="heart rate is measured (interpolated over at most 5 s)"),
        Column("m_aud", "bool", doc="the audio inputs are measured"),
        Column("m_ctx", "bool", doc="the beat phase is known"),
        Column("synthetic", "bool", doc="made by `choreo synth`, not recorded"),
    ),
)

CONTEXT = Table(
    "choreo.context/1",
    "Slow poses (below 8 fps) at their native times: context for a model, never onset or velocity targets.",
    (
        Column("session_id", "str", doc="session the row belongs to; rows are sorted by (session_id, t_us)"),
        Column("t_us", "int64", "us", doc="time of the snapshot on the music clock"),
        Column("t_device_us", "int64", "us", doc="time of the snapshot on its own clock"),
        Column("age_us", "int64", "us", 0, None, True, "time since the snapshot before it, null for the first"),
        Column("beat_phase", "float32", "cycle", 0, 1, True, "position inside the beat", open_hi=True),
        Column("beat_idx", "int32", lo=-1, doc="index of the current beat, -1 outside the beats"),
        Column("n_joints", "int32", lo=0, doc="joints seen in this snapshot"),
        Column("xyz", "list<float32>", doc="coordinates in the joint order of the file's metadata, NaN = not seen"),
        Column("synthetic", "bool", doc="made by `choreo synth`, not recorded"),
    ),
)

WINDOWS = Table(
    "choreo.windows/1",
    "Windows of pose dynamics mapped to windows of audio features, as indices; nothing is copied.",
    (
        Column("pair_id", "str", doc="pair the window belongs to"),
        Column("row_start", "int64", lo=0, doc="first row in frames.parquet"),
        Column("len", "int32", lo=1, doc="rows"),
        Column("stride", "int32", lo=1, doc="rows between this window and the next"),
        Column("audio_start", "int64", lo=-1, doc="first frame in the pair's audio features, -1 without them"),
        Column("audio_len", "int32", lo=0, doc="audio feature frames"),
        Column("valid_fraction", "float32", "1", 0, 1, doc="share of rows whose motion is measured"),
        Column("split", "str", choices=("train", "val", "test", "none"), doc="split of the pair's group"),
    ),
)

_int = "int64"
RECORDING = Table(
    "choreo.inventory/1",
    "One recording on disk as `choreo discover` found it: an entry of the inventory manifest.",
    (
        Column("id", "str", doc="kind letter and the first 16 hex digits of the content's sha256"),
        Column("kind", "str", doc="what it is", choices=(
            "audio", "features", "pose", "motion", "video", "wearable", "beats", "playlist", "session", "frames",
            "truth", "other")),
        Column("format", "str", doc="short name of the format"),
        Column("root", "str", doc="id of the root in the manifest's `roots`"),
        Column("path", "str", doc="POSIX path relative to the root"),
        Column("bytes", _int, "B", 0, doc="size"),
        Column("sha256", "str", nullable=True, doc="content hash; of a folder the hash over its files' hashes"),
        Column("session", "str", nullable=True, doc="session the file belongs to: shared folder or stem"),
        Column("n", _int, lo=0, nullable=True, doc="samples, frames or rows"),
        Column("rate_num", _int, "Hz", 0, nullable=True, doc="numerator of the rate"),
        Column("rate_den", _int, lo=1, nullable=True, doc="denominator of the rate"),
        Column("duration_us", _int, "us", 0, nullable=True, doc="duration"),
        Column("channels", _int, lo=0, nullable=True, doc="audio channels, joints or value columns"),
        Column("t0_utc_us", _int, "us", nullable=True, doc="UTC of the recording's time zero"),
        Column("t0_source", "str", doc="where that came from", choices=(
            "ntp", "unix_time", "iso_time", "metadata", "folder_name", "file_name", "container", "mtime", "none")),
        Column("t0_sigma_us", _int, "us", 0, nullable=True, doc="how far it is to be trusted (one standard deviation)"),
        Column("t0_naive", "bool", doc="a local time without an offset, read as if it were UTC"),
        Column("reason", "str", nullable=True, doc="why it cannot be used, null when it can"),
        Column("acknowledged", "bool", doc="listed in .choreoignore"),
        Column("problems", "list<str>", doc="doubts that do not stop use, `code: sentence`"),
        Column("synthetic", "bool", doc="made by `choreo synth`, not recorded"),
        Column("meta", "json", doc="facts of the format: title, bpm, joints, devices, track..."),
    ),
)  # fmt: skip

PAIR = Table(
    "choreo.pairs/1",
    "One stretch of one body signal against one music track, with how well the clocks are known.",
    (
        Column("pair_id", "str", doc="session and segment; the `session_id` of its frames"),
        Column("session_id", "str", doc="session"),
        Column("pose_id", "str", doc="recording id of the body signal"),
        Column("pose_path", "str", doc="path of the body signal"),
        Column("audio_id", "str", doc="recording id of the music"),
        Column("track", "str", doc="path of the music"),
        Column("track_group", "str", doc="encodings of one song share it"),
        Column("method", "str", doc="how the offset was found", choices=(
            "scratch_gcc", "motion_xcorr", "common_clock", "metadata", "manual")),
        Column("offset_us", _int, "us", doc="t_music = (1 + drift) * t_device + offset"),
        Column("offset_ci_us", "int64[2]", "us", nullable=True, doc="95 % interval, null when nothing bounds it"),
        Column("drift_ppm", "float64", "ppm", doc="clock drift"),
        Column("drift_ci", "float64[2]", "ppm", nullable=True, doc="95 % interval, null when unbounded"),
        Column("prior_window_us", "int64[2]", "us", nullable=True, doc="offsets the clocks allow, +-2 sigma"),
        Column("bias_us", _int, "us", nullable=True, doc="lag of the estimator, from its self-test, subtracted"),
        Column("bias_config_hash", "str", nullable=True, doc="configuration the bias was measured with"),
        Column("peak", "float64", nullable=True, doc="correlation at the offset"),
        Column("z", "float64", nullable=True, doc="peak against the surrogates, in standard deviations"),
        Column("p", "float64", "1", 0, 1, True, "surrogate p-value"),
        Column("second_ratio", "float64", nullable=True, doc="second peak over the first"),
        Column("identifiable", "str", doc="whether the recordings themselves fix the offset", choices=(
            "yes", "mod_beat", "no")),
        Column("candidates_us", "list<int64>", "us", doc="offsets that fit almost as well"),
        Column("reasons", "list<str>", doc="why it is not `yes`, from a closed list"),
        Column("assumptions", "list<str>", doc="what was taken for granted, sentences from a closed list"),
        Column("evidence", "json", doc="every candidate track with the scores of its independent evidence"),
        Column("real_fraction", "json", doc="native samples per emitted frame, by modality"),
        Column("max_gap_us", "json", doc="longest gap, by modality"),
        Column("start_us", _int, "us", doc="first frame on the music clock"),
        Column("end_us", _int, "us", doc="last frame on the music clock"),
        Column("row_start", _int, lo=0, doc="first row in frames.parquet"),
        Column("rows", _int, lo=0, doc="rows in frames.parquet"),
        Column("context_rows", _int, lo=0, doc="rows in context.parquet"),
        Column("features", "str", nullable=True, doc="path of the music's features in this folder"),
        Column("group_id", "str", doc="connected component over session, track and performer"),
        Column("split", "str", doc="split of the group", choices=("train", "val", "test", "none")),
        Column("performer", "str", nullable=True, doc="who dances"),
        Column("bpm", "float64", "beats/min", 0, None, True, "tempo of the music, from a line fit over its beats"),
        Column("synthetic", "bool", doc="made by `choreo synth`, not recorded"),
    ),
)  # fmt: skip

SESSION = Table(
    "choreo.sessions/1",
    "One session folder with ready frames, made by `choreo synth sessions` (or recorded by a live performance).",
    (
        Column("id", "str", doc="session id and content hash"),
        Column("session_id", "str", doc="session; the `session_id` of its frames"),
        Column("path", "str", doc="folder, relative to the manifest"),
        Column("frames", "str", doc="its frames Parquet, relative to the manifest"),
        Column("frames_sha256", "str", doc="content hash of the frames"),
        Column("n_frames", _int, lo=0, doc="rows"),
        Column("duration_us", _int, "us", 0, doc="duration"),
        Column("bpm", "float64", "beats/min", 0, nullable=True, doc="tempo"),
        Column("seed", _int, nullable=True, doc="seed of the session"),
        Column("synthetic", "bool", doc="made by `choreo synth`, not recorded"),
        Column("files", "json", doc="every file of the session: path -> sha256"),
    ),
)

METRIC = Table(
    "choreo.metrics/1",
    "One measured figure with its interval, chance level, baseline, floor and goal.",
    (
        Column("name", "str", doc="what was measured"),
        Column("value", "float64", nullable=True, doc="the figure"),
        Column("unit", "str", doc="unit"),
        Column("better", "str", doc="which way is better", choices=("higher", "lower")),
        Column("n", _int, lo=0, nullable=True, doc="how many observations"),
        Column("ci", "float64[2]", nullable=True, doc="95 % interval"),
        Column("chance", "float64", nullable=True, doc="level of the null"),
        Column("baseline", "json", nullable=True, doc="{name, value} measured in the same run"),
        Column("ratio", "float64", nullable=True, doc="how many times better than the baseline"),
        Column("floor", "json", nullable=True, doc="{name, value}: the least it could cost"),
        Column("goal", "json", nullable=True, doc="{op, value}"),
        Column("p", "float64", "1", 0, 1, True, "p-value against the null"),
        Column("status", "str", doc="whether the figure means something", choices=(
            "ok", "edge", "degenerate", "insufficient")),
        Column("params", "json", doc="parameters of the measurement"),
        Column("pass", "bool", nullable=True, doc="the goal is met; null when it cannot be judged"),
        Column("why", "str", nullable=True, doc="why it cannot be judged"),
    ),
)  # fmt: skip

STATUS = Table(
    "choreo.status/1",
    "Heartbeat of a running command, rewritten as a whole while it works.",
    (
        Column("command", "str", doc="command"),
        Column("state", "str", doc="where it is; `stale` is said by a reader, of a run that no longer beats", choices=(
            "running", "done", "failed", "stopped", "stale")),
        Column("pid", _int, lo=0, doc="process"),
        Column("step", "str", doc="what it is doing"),
        Column("done", _int, lo=0, doc="items done"),
        Column("total", _int, lo=0, nullable=True, doc="items in all, null when unknown"),
        Column("updated_us", _int, "us", 0, doc="UTC of this heartbeat"),
        Column("message", "str", nullable=True, doc="last remark"),
        Column("loss", "float64", nullable=True, doc="last training loss, null for commands without one"),
        Column("eta_s", "float64", "s", 0, nullable=True, doc="seconds left, null when unknown"),
        Column("path", "str", doc="run folder, relative to the folder that was asked about; `.` is the file's own"),
        Column("age_s", "float64", "s", 0, nullable=True, doc="age of the heartbeat as it was read, null in the file"),
    ),
)  # fmt: skip

CONTROL_NAMES = ("tempo_scale", "density", "tension", "brightness", "fx_send")
BLOCKS: dict[str, int] = {"mot": 64, "hr": 16, "aud": 16, "ctx": 8}
LATENT_NAMES: tuple[str, ...] = tuple(f"z_{block}_{k:02d}" for block, width in BLOCKS.items() for k in range(width))

LATENTS = Table(
    "choreo.latents/1",
    "The 104 latents of every frame, four blocks in the order mot, hr, aud, ctx, after the prox step, not normalised.",
    (
        Column("session_id", "str", doc="session the row belongs to; rows are sorted by (session_id, t_us)"),
        Column("t_us", "int64", "us", doc="time on the music clock, strictly increasing inside a session"),
        *(Column(name, "float32", doc=f"latent of the {name.split('_')[1]} block") for name in LATENT_NAMES),
        Column("m_mot", "bool", doc="the motion block was encoded, not predicted from the others"),
        Column("m_hr", "bool", doc="the heart rate block was encoded"),
        Column("m_aud", "bool", doc="the audio block was encoded"),
        Column("m_ctx", "bool", doc="the beat block was encoded"),
        Column("synthetic", "bool", doc="made by `choreo synth`, not recorded"),
    ),
)

CONTROLS = Table(
    "choreo.controls/1",
    "The five controls of every frame as the model emits them, before the control map, easing and throttle.",
    (
        Column("session_id", "str", doc="session the row belongs to; rows are sorted by (session_id, t_us)"),
        Column("t_us", "int64", "us", doc="time on the music clock, strictly increasing inside a session"),
        *(Column(name, "float32", "1", 0, 1, doc="model output, see control_map.yaml") for name in CONTROL_NAMES),
        Column("held", "bool", doc="no modality was measured: the values repeat the last ones"),
        Column("synthetic", "bool", doc="made by `choreo synth`, not recorded"),
    ),
)

LEDGER = Table(
    "choreo.ledger/1",
    "When every tick of a performance passed which stage; times in ns are those of the loop's own clock.",
    (
        Column("session_id", "str", doc="session the row belongs to; rows are sorted by (session_id, t_us)"),
        Column("t_us", "int64", "us", doc="session time of the frame, strictly increasing inside a session"),
        Column("seq", "int64", "", 0, doc="number of the output tick"),
        Column("t_sensor_us", "int64", "us", nullable=True, doc="the sensor's own stamp, null when it has no clock"),
        Column("t_arrival_ns", "int64", "ns", nullable=True, doc="arrival of the newest sample, null when none came"),
        Column("t_frame_ns", "int64", "ns", doc="the frame was assembled"),
        Column("t_model_ns", "int64", "ns", doc="the model had answered"),
        Column("t_guard_ns", "int64", "ns", doc="guards and easing had passed it"),
        Column("t_sent_ns", "int64", "ns", nullable=True, doc="the last port had taken it, null when none was due"),
        Column("t_acked_ns", "int64", "ns", nullable=True, doc="a receiver had confirmed it, null when none does"),
        Column("missed", "int32", "", 0, doc="ticks skipped before this one because it came too late"),
        Column("held", "bool", doc="the values repeat the last valid ones, or are held on purpose"),
        Column("mask", "int32", "", 0, 15, doc="one bit a modality: 1 mot, 2 hr, 4 aud, 8 ctx"),
        Column("late_ns", "int64", "ns", doc="how long after its deadline the tick began"),
        Column("synthetic", "bool", doc="made from synthetic frames"),
    ),
)

SENT = Table(
    "choreo.sent/1",
    "What left the guards at every tick of a performance: values in the ranges of the control map.",
    (
        Column("session_id", "str", doc="session the row belongs to; rows are sorted by (session_id, t_us)"),
        Column("t_us", "int64", "us", doc="session time of the frame, strictly increasing inside a session"),
        Column("seq", "int64", "", 0, doc="number of the output tick"),
        Column("tempo_scale", "float32", "1", 0.25, 4, doc="factor on the tempo"),
        *(Column(n, "float32", "1", 0, 1, doc="as sent") for n in ("density", "tension", "brightness", "fx_send")),
        Column("held", "bool", doc="the values repeat the last valid ones, or are held on purpose"),
        Column("ports", "int32", "", 0, doc="ports that were due and took it"),
        Column("beat", "float64", "beat", nullable=True, doc="position of the transport, null without one"),
        Column("bpm", "float64", "beats/min", 0, None, True, "tempo of the transport, null without one"),
        Column("synthetic", "bool", doc="made from synthetic frames"),
    ),
)

EVENT_KINDS = (
    "start", "port", "source", "modality", "hold", "map", "model", "gesture", "plan", "panic", "xrun", "error", "stop",
)  # fmt: skip
EVENTS = Table(
    "choreo.events/1",
    "What happened in a performance, as JSON Lines: the schema first, then one object an event with whatever facts "
    "its kind has, at the end the count.",
    (
        Column("t_us", "int64", "us", doc="session time of the event"),
        Column("kind", "str", doc="what it is about", choices=EVENT_KINDS),
    ),
)

PREFERENCES = Table(
    "choreo.preferences/1",
    "One answer of one rater: which of two clips is better.",
    (
        Column("pair_id", "str", doc="the two clips, in the order they were drawn"),
        Column("session_a", "str", doc="session of clip A"),
        Column("start_a_us", "int64", "us", doc="start of clip A on the music clock"),
        Column("end_a_us", "int64", "us", doc="end of clip A"),
        Column("session_b", "str", doc="session of clip B"),
        Column("start_b_us", "int64", "us", doc="start of clip B"),
        Column("end_b_us", "int64", "us", doc="end of clip B"),
        Column("source_a_sha256", "str", doc="content hash of the table clip A was taken from"),
        Column("source_b_sha256", "str", doc="content hash of the table clip B was taken from"),
        Column("choice", "str", doc="the answer", choices=("a", "b", "same", "skip")),
        Column("shown_first", "str", doc="which clip stood on the left", choices=("a", "b")),
        Column("rater", "str", doc="who answered"),
        Column("seconds", "float64", "s", 0, nullable=True, doc="time to the answer"),
        Column("synthetic", "bool", doc="the clips were made by `choreo synth`, or the rater is a rule"),
    ),
)

RUN = Table(
    "choreo.run/1",
    "One trained model: a run folder holds one, a summary over seeds one per seed.",
    (
        Column("id", "str", doc="run id: equal work has an equal one"),
        Column("recipe", "str", doc="what was trained: rps, mapper, lookahead, gesture, reward..."),
        Column("seed", _int, lo=0, doc="seed of every draw"),
        Column("path", "str", doc="run folder, relative to the manifest; `.` is the manifest's own"),
        Column("state", "str", doc="how it ended", choices=("done", "stopped")),
        Column("steps", _int, lo=0, doc="optimiser steps"),
        Column("epochs", "float64", lo=0, doc="passes over the training items"),
        Column("parameters", _int, lo=0, doc="trained numbers"),
        Column("device", "str", doc="where it was trained: cpu, cuda, mps"),
        Column("config", "json", doc="resolved configuration"),
        Column(
            "data", "json", doc="what it was trained on: schema, sha256, root, path, sessions by split, leaks, notes"
        ),
        Column("parents", "json", doc="models it builds on: [{role, run_id, sha256, root, path}]"),
        Column("files", "json", doc="every file of the run: path -> sha256"),
        Column("metrics", "json", doc="held-out figures: entries of choreo.metrics/1"),
        Column("synthetic", "bool", doc="trained on synthetic sessions only"),
    ),
)
