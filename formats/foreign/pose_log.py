"""Pose logs of no fixed dialect: JSON Lines, one JSON document, CSV; any names, any time key, any number of people."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

from formats import jsonstrict
from formats.errors import FormatError
from formats.foreign.model import Facts, PoseStream
from formats.foreign.pose_build import Hints, build, stream_facts
from formats.foreign.pose_frames import RawPose, find_frames, header_of, people_in, read_frames
from formats.foreign.pose_points import declared_names, find_pose, lower_keys
from formats.foreign.pose_sniff import classify
from formats.foreign.pose_table import read_pose_table
from formats.foreign.registry import Reader
from formats.foreign.source import Source

# What a log without a header says in every line; the first line is asked.
_SAID_PER_LINE = frozenset(
    ("synthetic", "ntp", "clock", "units", "unit", "up", "clock_sigma_ms", "clock_sigma_us", "clock_sigma_s", "fps")
)


def read_json_rows(source: Source) -> RawPose:
    """Read the rows of a pose document or of JSON Lines, whichever the content is.

    Raises:
        FormatError: it is not JSON, or there is no pose inside.
    """
    data = source.read_bytes()
    if data.startswith(b"\xef\xbb\xbf"):
        data = data[3:]
    if not data.strip():
        raise FormatError("empty file", file=source.path)
    if _is_lines(data):
        return _read_lines(source, data)
    document = jsonstrict.loads(data, file=source.path)
    frames = find_frames(document)
    if frames is None:
        raise FormatError("no list of frames found", file=source.path, hint="write a map with --suggest-map")
    header = header_of(document)
    names = declared_names(lower_keys(document)) if isinstance(document, dict) else None
    if names is None and isinstance(document, dict):
        inner = [v for v in document.values() if isinstance(v, dict)]
        names = next((n for n in (declared_names(lower_keys(v)) for v in inner[:50]) if n), None)
    return read_frames(frames, header, names)


def _is_lines(data: bytes) -> bool:
    end = data.lstrip().find(b"\n")
    if end < 0:
        return False
    first = data.lstrip()[:end].strip()
    if first[:1] + first[-1:] not in (b"{}", b"[]") or not data.lstrip()[end:].strip():
        return False
    try:
        jsonstrict.loads(first)
    except FormatError:
        # A broken first line of several complete-looking ones: the row is named when it is read.
        return first[:1] == b"{" and data.lstrip()[end:].lstrip()[:1] == b"{"
    return True


def _read_lines(source: Source, data: bytes) -> RawPose:
    header: dict[str, Any] = {}
    problems: list[str] = []
    names: list[tuple[str, ...]] = []

    def frames() -> Iterator[Any]:
        lines = io.BytesIO(data)
        started = False
        for index, line in enumerate(lines):
            if not line.strip():
                continue
            try:
                item = jsonstrict.loads(line, file=source.path, row=index + 1)
            except FormatError as e:
                if not started or lines.read().strip():
                    raise
                problems.append(f"truncated: line {index + 1} is cut and dropped ({e.message})")
                return
            if not started and isinstance(item, dict) and _is_header(item):
                header.update(header_of(item))
                names.extend(n for n in [declared_names(lower_keys(item))] if n)
                continue
            started = True
            yield item

    stream = frames()
    first = next(stream, None)
    if first is None:
        raise FormatError("no pose in any line", file=source.path)
    raw = read_frames(_chain(first, stream), header, names[0] if names else None)
    if isinstance(first, dict):
        for key, value in header_of(first).items():
            if key in _SAID_PER_LINE:
                raw.header.setdefault(key, value)
    raw.problems += problems
    return raw


def _chain(first: Any, rest: Iterator[Any]) -> Iterator[Any]:
    yield first
    yield from rest


def _is_header(item: dict[str, Any]) -> bool:
    low = lower_keys(item)
    if str(low.get("type", "")).lower() in ("header", "meta", "metadata"):
        return True
    return find_pose(item) is None and people_in(low) is None


def reader_of(rows: Callable[[Source], RawPose], hints: Hints) -> Callable[..., PoseStream]:
    """A `read(source, fps=None)` that builds a stream from rows; every failure names the file."""

    def read(source: Source, fps: float | None = None) -> PoseStream:
        used = hints if fps is None else Hints(fps, "user", hints.units, hints.up, hints.time_unit, hints.depth)
        try:
            return build(rows(source), used)
        except FormatError as e:
            if e.file is None:
                raise FormatError(e.message, file=source.path, row=e.row, field=e.field, hint=e.hint) from None
            raise
        except (ValueError, KeyError, IndexError, TypeError, OverflowError, RecursionError, AttributeError) as e:
            raise FormatError(f"not a pose recording: {type(e).__name__}", file=source.path) from e

    return read


def facts_of(read: Callable[..., PoseStream], format_name: str) -> Callable[[Source], Facts]:
    """The facts of a pose file, from reading it."""

    def facts(source: Source) -> Facts:
        return stream_facts(read(source), "pose", format_name)

    return facts


def sniff_of(*dialects: str) -> Callable[[bytes, str, int], bool]:
    """A sniffer for dialects of `pose_sniff.classify`."""

    def sniff(head: bytes, name: str, size: int) -> bool:
        return classify(head[:4096]) in dialects

    return sniff


read_json = reader_of(read_json_rows, Hints())
read_csv = reader_of(read_pose_table, Hints())

READERS: tuple[Reader, ...] = (
    Reader("pose-jsonl", "pose", sniff_of("pose-jsonl"), facts_of(read_json, "pose-jsonl"), read_json, 60),
    Reader("pose-json", "pose", sniff_of("pose-json"), facts_of(read_json, "pose-json"), read_json, 61),
    Reader("pose-csv", "pose", sniff_of("pose-csv"), facts_of(read_csv, "pose-csv"), read_csv, 62),
)
