"""The tables of clips: manifests of motions, of the videos that show them, and the ledger of a live capture."""

from __future__ import annotations

from formats.columns import Column, Table

_int = "int64"

MOTION = Table(
    "choreo.motions/1",
    "One motion clip: 25 channels a frame (or another layout it was written as), where it came from and how exactly.",
    (
        Column("id", "str", doc="motion id: content hash of the clip"),
        Column("path", "str", doc="clip, relative to the manifest"),
        Column("sha256", "str", doc="content hash of the clip's file"),
        Column("layout", "str", doc="what the file holds", choices=("choreo25", "bvh", "humanml3d", "smpl", "joints")),
        Column("source", "str", doc="what it was made from: a path relative to its root, or a generator's name"),
        Column("source_sha256", "str", nullable=True, doc="content hash of that file, null without one"),
        Column("n_frames", _int, lo=1, doc="frames"),
        Column("fps", "float64", "Hz", 0, doc="frame rate"),
        Column("duration_us", _int, "us", 0, doc="duration"),
        Column("rig", "str", doc="rig family the joints were recognised as"),
        Column("height_m", "float64", "m", 0, doc="stature by the length of the legs"),
        Column("scale", "float64", "1", 0, doc="factor from the source's units to metres"),
        Column("mean_mm", "float64", "mm", 0, nullable=True, doc="round trip, mean over frames and 22 joints"),
        Column("p95_mm", "float64", "mm", 0, nullable=True, doc="round trip, 95th percentile"),
        Column("foot_mm_s", "float64", "mm/s", 0, nullable=True, doc="round trip, error of the ankles' floor speed"),
        Column("clamped", _int, lo=0, doc="channel values outside their hard range"),
        Column("flags", "json", doc="validity: inverted, tracked, generated, scaled, gaps filled..."),
        Column("report", "json", doc="per joint round trip, missing joints, what was assumed, how units were chosen"),
        Column("music", "str", nullable=True, doc="music it was danced to, a path relative to its root"),
        Column("group_id", "str", nullable=True, doc="performer or take: never split"),
        Column("split", "str", doc="split of the group", choices=("train", "val", "test", "none")),
        Column("performer", "str", nullable=True, doc="who dances"),
        Column("captions", "list<str>", doc="what is danced, in words"),
        Column("licence", "str", nullable=True, doc="licence of the source, where it is known"),
        Column("synthetic", "bool", doc="made by a program, not recorded"),
    ),
)

VIDEO = Table(
    "choreo.videos/1",
    "One drawn clip: the files that show it, what they were drawn from, and the camera that saw it.",
    (
        Column("id", "str", doc="video id: what was drawn and how, hashed"),
        Column("path", "str", nullable=True, doc="the film, relative to the manifest; null without one"),
        Column("sha256", "str", nullable=True, doc="content hash of the film"),
        Column("source", "str", doc="what was drawn: a path relative to its root, or a generator's name"),
        Column("source_sha256", "str", nullable=True, doc="content hash of that file, null without one"),
        Column("reference", "str", nullable=True, doc="what stands on its left, a path relative to its root"),
        Column("reference_sha256", "str", nullable=True, doc="content hash of that file"),
        Column("music", "str", nullable=True, doc="music of the film, a path relative to its root"),
        Column("music_sha256", "str", nullable=True, doc="content hash of that file"),
        Column("n_frames", _int, lo=1, doc="frames"),
        Column("fps", "float64", "Hz", 0, doc="frame rate"),
        Column("duration_us", _int, "us", 0, doc="duration"),
        Column("start_us", _int, "us", 0, doc="where in the source it begins"),
        Column("width", _int, "px", 1, doc="width of a frame"),
        Column("height", _int, "px", 1, doc="height of a frame"),
        Column("n_beats", _int, lo=0, doc="beats that are shown"),
        Column("camera", "json", doc="view, azimuth, elevation (rad), distance (m), zoom (px/m), projection, follow"),
        Column("files", "json", doc="every file of the clip: path -> sha256"),
        Column("notes", "list<str>", doc="what was cut, resampled or left out"),
        Column("group_id", "str", nullable=True, doc="performer or take: never split"),
        Column("split", "str", doc="split of the group", choices=("train", "val", "test", "none")),
        Column("licence", "str", nullable=True, doc="licence of the source, where it is known"),
        Column("synthetic", "bool", doc="made by a program, not recorded"),
    ),
)

CAPTURE_LEDGER = Table(
    "choreo.capture_ledger/1",
    "One row per frame of a live capture: what it shows, what was in it, and how long the work took.",
    (
        Column("shown_us", _int, "us", doc="moment that the frame shows, on the stream's clock; strictly increasing"),
        Column("due_us", _int, "us", doc="when the frame was due"),
        Column("newest_us", _int, "us", doc="time of the newest reading in it"),
        Column("arrival_us", _int, "us", doc="when that reading arrived"),
        Column("work_us", "float64", "us", 0, doc="lifting, fusing and cleaning since the frame before"),
    ),
)
