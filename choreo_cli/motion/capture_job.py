"""What `choreo capture` does to recordings: lift, fuse, clean, sync; one clip out for each that can be used."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.errors import ChoreoError, DataError, NoInputError
from choreo_cli.metrics.motion_beats import SIGMA_S, closeness, motion_beats
from choreo_cli.motion.beat_sync import LEAST_GAIN, accepted, sync, warp
from choreo_cli.motion.capture_log import CaptureHead, Heard, Refused, parse_head, read_log
from choreo_cli.motion.capture_stream import Capture, Frame, StepLifter, clip_of, play
from choreo_cli.motion.choreo25 import clamp, decode, encode
from choreo_cli.motion.cleanup import CleanOptions, clean, facts
from choreo_cli.motion.retarget_inputs import Asked, open_motion
from choreo_cli.motion.retarget_plan import Folder, Item, Work
from choreo_cli.motion.skeleton import canonical_skeleton, stature
from formats import motion_npz
from formats.atomic import sha256_file, write_bytes
from formats.errors import FormatError
from formats.media import MOTION
from formats.motion_npz import MotionClip, Skeleton

F64 = NDArray[np.float64]

LEFT_OUT = "left_out.jsonl"
FUSE_LAG_US = 300_000
"""Recorded streams need not hurry: a frame waits until all that was seen at its time has come."""
_STRANGE = (ValueError, IndexError, KeyError, TypeError, OverflowError, ZeroDivisionError, np.linalg.LinAlgError)


@dataclass(frozen=True, slots=True)
class Made:
    """One result.

    Args:
        clip: choreo25.
        report: What was done, for the manifest.
        rig: Rig family of what it was made from.
        synthetic: Made by a program.
        sidecars: (role, suffix, bytes) written beside the clip.
    """

    clip: MotionClip
    report: dict[str, Any]
    rig: str = "choreo25"
    synthetic: bool = False
    sidecars: list[tuple[str, str, bytes]] = field(default_factory=list)


Change = Callable[[Item], Made]


def run(
    work: Work, change: Change, folder: Folder, *, progress: Callable[..., None], starting: Callable[[], None]
) -> tuple[list[dict[str, Any]], list[tuple[str, str]]]:
    """Change every recording and write the clips; entries of `choreo.motions/1`, and (source, why) of those left out.

    Args:
        work: The recordings.
        change: What to do to one.
        folder: Where to.
        progress: `progress(done, total, item)`.
        starting: Called before the first file is written.

    Raises:
        The fault of a recording, when it is the only one.
        DataError: none of several could be used; the first reason is told.
    """
    entries: list[dict[str, Any]] = []
    left: list[tuple[str, str]] = []
    begun = False
    for n, item in enumerate(work.items, 1):
        try:
            made = _checked(item, change)
        except (FormatError, ChoreoError, OSError) as e:
            if len(work.items) == 1:
                raise
            left.append((item.source, str(e)))
        else:
            if not begun:
                starting()
                begun = True
            entries.append(write(made, item, folder))
        progress(n, len(work.items), item.source)
    if not entries:
        raise DataError(f"none of {len(left)} recordings could be used: {left[0][0]}: {left[0][1]}")
    if left:
        lines = "".join(json.dumps({"source": s, "why": w}, ensure_ascii=False) + "\n" for s, w in left)
        folder.write("report", LEFT_OUT, lines.encode())
    return sorted(entries, key=lambda e: str(e["path"])), left


def _checked(item: Item, change: Change) -> Made:
    if item.expected is not None and sha256_file(item.path) != item.expected:
        raise FormatError("changed since it was listed", file=item.path, hint="list it again")
    try:
        return change(item)
    except _STRANGE as e:
        raise DataError(f"{item.source} holds numbers that make no body: {type(e).__name__}") from e


def write(made: Made, item: Item, folder: Folder) -> dict[str, Any]:
    """Write a clip and what lies beside it; its entry."""
    created_by = {k: v for k, v in folder.created_by.items() if k != "outputs"}
    name = f"{item.name}.npz"
    target = folder.path / name
    target.parent.mkdir(parents=True, exist_ok=True)
    data = motion_npz.encode(made.clip, created_by)
    sha = write_bytes(target, data)
    folder.add("motion", name, sha)
    for role, suffix, extra in made.sidecars:
        folder.write(role, item.name + suffix, extra)
    entry = {**_facts(made), **_origin(made, item), "path": name, "sha256": sha}
    return {c.name: entry[c.name] for c in MOTION.columns}


def _facts(made: Made) -> dict[str, Any]:
    h, channels = made.clip.header, made.clip.channels
    content = hashlib.sha256(np.ascontiguousarray(channels, "<f4").tobytes() + h.skeleton.to_vector().tobytes())
    _, counts = clamp(channels)
    return {
        "id": content.hexdigest()[:16], "layout": "choreo25", "n_frames": len(channels), "fps": float(h.fps),
        "duration_us": round(len(channels) * 1e6 / h.fps), "rig": made.rig, "height_m": float(h.height_m),
        "scale": float(h.scale_applied), "mean_mm": None, "p95_mm": None, "foot_mm_s": None,
        "clamped": int(sum(counts.values())), "flags": sorted(k for k, v in h.flags.items() if v is True),
        "report": made.report,
    }  # fmt: skip


def _origin(made: Made, item: Item) -> dict[str, Any]:
    carried = item.carried
    return {
        "source": item.source, "source_sha256": sha256_file(item.path) if item.path.is_file() else None,
        "music": carried.get("music"), "group_id": carried.get("group_id"), "split": carried.get("split", "none"),
        "performer": carried.get("performer"), "captions": list(carried.get("captions", ())),
        "licence": carried.get("licence") or made.clip.header.licence,
        "synthetic": bool(carried.get("synthetic", False)) or made.synthetic,
    }  # fmt: skip


def opened(item: Item, fps: float | None = None) -> tuple[MotionClip, str]:
    """A motion as a clip, whatever it is in, and its rig. Raises FormatError, DataError, OSError."""
    found = open_motion(item.path, Asked(fps=fps))
    rig = str(found.report.get("rig", "unknown"))
    if found.clip is not None:
        return found.clip, rig
    assert found.prepared is not None
    return encode(found.prepared.joints, found.prepared.fps, source={"format": found.format, "rig": rig}), rig


def cleaner(options: CleanOptions, fps: float | None = None) -> Change:
    """Clean a motion."""

    def change(item: Item) -> Made:
        clip, rig = opened(item, fps)
        made, report = clean(clip, options)
        return Made(made, report, rig)

    return change


def syncer(
    beats_of: Callable[[Item], F64], *, offset_s: float = 0.0, least: float = LEAST_GAIN, seed: int = 0,
    fps: float | None = None,
) -> Change:  # fmt: skip
    """Warp a motion to its music.

    Args:
        beats_of: Beats in seconds of the music that a motion was danced to.
        offset_s: Time of the music at the motion's first frame.
        least: Gain over random grids that is asked for.
        seed: Of those grids.
        fps: Of motions that do not say it.
    """

    def change(item: Item) -> Made:
        clip, rig = opened(item, fps)
        beats = beats_of(item) - offset_s
        rate = clip.header.fps
        found = accepted(sync(decode(clip), rate, beats, seed=seed), least)
        made = warp(clip, found.time_map)
        record = {"format": "choreo.timemap/1", "offset_s": offset_s, **found.record()}
        after = motion_beats(decode(made), rate)
        report = {k: v for k, v in record.items() if k not in ("old_s", "new_s", "format")}
        report["alignment_written"] = round(closeness(after[after < beats[-1]], beats, SIGMA_S), 4)
        text = json.dumps(record, separators=(",", ":")).encode() + b"\n"
        return Made(made, report, rig, sidecars=[("map", ".timemap.json", text)])

    return change


def fuser(
    fps: float, height_m: float | None, lifters: Callable[[CaptureHead], dict[str, StepLifter]]
) -> Change:  # fmt: skip
    """Fuse recorded streams (`capture_log`) into a clip."""

    def change(item: Item) -> Made:
        refused = Refused()
        with open(item.path, "rb") as lines:
            head, readings = open_log(lines, refused, item.path, whole=True)
            skeleton = canonical_skeleton(height_m or head.height_m or 1.70)
            capture = Capture(head, skeleton, fps, lifters=lifters(head), clean=False, lag_us=FUSE_LAG_US)
            frames = list(play(capture, readings, fps, tail_us=FUSE_LAG_US))
        clip = clip_of(frames, skeleton, fps, {"format": "capture", "streams": sorted(head.streams)})
        return Made(clip, stream_report(capture, refused), "captured", head.synthetic)

    return change


def open_log(lines: Any, refused: Refused, file: Any, *, whole: bool = False) -> tuple[CaptureHead, Iterable[Heard]]:
    """Head and readings of recorded streams. Raises FormatError, NoInputError when nothing came."""
    first = lines.readline(2**20)
    if not first.strip():
        raise NoInputError("no streams arrived", hint="the first line names them: see man 7 choreo-capture")
    head = parse_head(first, file=file)
    return head, read_log(lines, head, refused, file=file, whole=whole)


def stream_report(capture: Capture, refused: Refused) -> dict[str, Any]:
    """What became of the readings of each stream, and what was wrong with those left out."""
    capture.fusion.settle()
    streams = {
        name: {"taken": f.taken, "refused": f.refused, "late": f.late, "bad": f.bad,
               "nis": None if f.numbers == 0 else round(f.mean_nis, 4), "numbers": f.numbers,
               "parts_refused": dict(sorted(f.parts.items()))}
        for name, f in sorted(capture.fusion.facts().items())
    }  # fmt: skip
    out: dict[str, Any] = {"streams": streams}
    if refused.reasons or capture.bad:
        out["left_out"] = {**refused.reasons, **capture.bad}
    return out


def finished(clip: MotionClip) -> dict[str, float]:
    """Slide and jerk of a clip."""
    return facts(decode(clip), clip.channels[:, 4:6].astype(np.float64), clip.header.fps)


def body_of(height_m: float | None, head: CaptureHead, file: Path | None) -> Skeleton:
    """Skeleton of who is captured: of a clip of theirs, else the canonical one of their stature."""
    if file is not None:
        if not file.is_file():
            raise NoInputError(f"--skeleton: no file {file}")
        return motion_npz.read(file).header.skeleton
    return canonical_skeleton(height_m or head.height_m or 1.70)


def rows_head(clip_start: tuple[float, float, float], skeleton: Skeleton, fps: float) -> bytes:
    """First line of live rows: all that the channels need to become a body again."""
    yaw0, x0, z0 = clip_start
    head = {
        "schema": "choreo.rows/1", "layout": "choreo25", "layout_version": 1, "fps": fps, "yaw0": yaw0, "x0": x0,
        "z0": z0, "units": "m", "up": "y", "height_m": stature(skeleton), "skeleton": skeleton.to_vector().tolist(),
    }  # fmt: skip
    return json.dumps(head, separators=(",", ":")).encode() + b"\n"


def row_line(t_us: int, channels: NDArray[np.float32]) -> bytes:
    """One frame as a line; the channels in the shortest digits that are the same float32."""
    numbers = ",".join(np.format_float_positional(v, unique=True, trim="0") for v in channels)
    return f'{{"t_us":{t_us},"channels":[{numbers}]}}\n'.encode()


def keep_stream(
    capture: Capture, refused: Refused, frames: list[Frame], fps: float, folder: Folder, source: str
) -> list[dict[str, Any]]:
    """Write what a live capture made: the clip, its ledger as a table and in words; the entries.

    Raises:
        DataError: no frame came out.
    """
    clip = clip_of(frames, capture.skeleton, fps, {"format": "capture", "streams": sorted(capture.head.streams)})
    report = {"latency": capture.ledger.summary(), "after": finished(clip), **stream_report(capture, refused)}
    kind, _, rest = source.partition(":")
    path = Path(rest) if kind == "jsonl" else Path(source)
    item = Item(path, path.name if kind == "jsonl" else source, "capture")
    sidecars = [
        ("ledger", ".ledger.parquet", ledger_bytes(capture)),
        ("latency", ".latency.json", json.dumps(report["latency"], indent=1).encode() + b"\n"),
    ]
    return [write(Made(clip, report, "captured", capture.head.synthetic, sidecars), item, folder)]


def ledger_bytes(capture: Capture) -> bytes:
    """The ledger as `choreo.capture_ledger/1`: one row a frame."""
    from formats.media import CAPTURE_LEDGER
    from formats.tables import encode_table

    book = capture.ledger
    columns = {
        name: np.array(getattr(book, name), np.float64 if name == "work_us" else np.int64)
        for name in CAPTURE_LEDGER.names
    }
    return encode_table(CAPTURE_LEDGER, columns)
