"""OpenSim marker tables (TRC): tabs or commas, header lines padded to the table's width."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from formats.errors import FormatError
from formats.foreign.body import Scaling
from formats.foreign.c3d import marker_facts
from formats.foreign.guard import contained
from formats.foreign.markers import marker_stream
from formats.foreign.model import F64, Facts, PoseStream
from formats.foreign.pose_clock import contradiction, rate_of
from formats.foreign.pose_space import METRES
from formats.foreign.registry import Reader
from formats.foreign.source import Source

MAX_VALUES = 48 * 2**20
MAX_MARKERS = 10_000


@dataclass(slots=True)
class Trc:
    """Markers of a table: labels, (T, N, 3) float64 in `units` with NaN for gaps, seconds of each row, stated rate."""

    labels: tuple[str, ...]
    xyz: F64
    time: F64
    fps: float | None
    units: str
    problems: list[str] = field(default_factory=list)


def _cells(line: str, separator: str) -> list[str]:
    return [c.strip() for c in (line.split(separator) if separator != " " else line.split())]


def _separator(lines: list[str]) -> str:
    """What splits the label line: the table's own, whatever the header lines use."""
    line = next((text for text in lines[:12] if re.match(r"\s*frame\s*#", text, re.IGNORECASE)), "")
    counts = {c: line.count(c) for c in "\t,;"}
    best = max(counts, key=lambda c: counts[c])
    return best if counts[best] else " "


def parse(text: str, file: Path) -> Trc:
    """Read a table.

    Raises:
        FormatError: a line is broken; it is named.
    """
    lines = text.splitlines()
    separator = _separator(lines)
    at = next((i for i, line in enumerate(lines[:12]) if re.match(r"\s*frame\s*#", line, re.IGNORECASE)), None)
    if at is None or at < 2:
        raise FormatError("no line of marker names (Frame#, Time, ...)", file=file)
    header = _header(lines, at)
    labels = _labels(_cells(lines[at], separator), file, at + 1)
    rows, times, problems = _rows(lines, at + 1, separator, len(labels), file)
    fps = _float(header.get("DataRate", ""))
    declared = _float(header.get("NumFrames", ""))
    if declared is not None and int(declared) != len(rows):
        problems.append(f"frame_count: {int(declared)} frames declared, {len(rows)} found")
    count = _float(header.get("NumMarkers", ""))
    if count is not None and int(count) != len(labels):
        problems.append(f"marker_count: {int(count)} markers declared, {len(labels)} found")
    return Trc(labels, rows, times, fps, header.get("Units", "").lower(), problems)


def _header(lines: list[str], at: int) -> dict[str, str]:
    """Keys and values of the two header lines, which may use another separator than the table."""
    names = next((i for i in range(at) if "DataRate" in lines[i]), None)
    if names is None or names + 1 >= at:
        return {}
    split = [c for c in "\t,;" if lines[names].count(c)]
    separator = split[0] if split else " "
    return dict(zip(_cells(lines[names], separator), _cells(lines[names + 1], separator), strict=False))


def _labels(cells: list[str], file: Path, row: int) -> tuple[str, ...]:
    labels = tuple(c for c in cells[2:] if c)
    if not labels or len(labels) > MAX_MARKERS:
        raise FormatError(f"{len(labels)} marker names", file=file, row=row)
    return labels


def _float(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if abs(value) < 1e9 else None


def _rows(lines: list[str], start: int, separator: str, markers: int, file: Path) -> tuple[F64, F64, list[str]]:
    width = 2 + 3 * markers
    rows: list[list[float]] = []
    problems: list[str] = []
    last = len(lines) - 1
    for i in range(start, len(lines)):
        if not lines[i].strip(" \t,;\r") or re.match(r"[\s,;]*X1\b", lines[i]):
            continue
        cells = _cells(lines[i], separator)
        while len(cells) > width and not cells[-1]:
            cells.pop()
        if len(cells) != width:
            if i == last and len(cells) < width:
                problems.append(f"truncated: line {i + 1} has {len(cells)} of {width} cells and is dropped")
                break
            # Markers missing at the end of a line are often not written at all.
            if len(cells) > width or len(cells) < 5 or (len(cells) - 2) % 3:
                raise FormatError(f"{len(cells)} cells where the names need {width}", file=file, row=i + 1)
            cells += [""] * (width - len(cells))
        rows.append([_cell(c, file, i + 1) for c in cells])
        if len(rows) * width > MAX_VALUES:
            raise FormatError(f"more than {MAX_VALUES} values", file=file)
    if not rows:
        raise FormatError("no rows", file=file, row=start + 1)
    table = np.array(rows)
    xyz = table[:, 2:].reshape(len(table), markers, 3)
    gone = ~np.isfinite(xyz).all(axis=2) | (xyz == 0).all(axis=2)
    return np.where(gone[..., None], np.nan, xyz), table[:, 1], problems


def _cell(text: str, file: Path, row: int) -> float:
    if not text or text.lower() in ("nan", "na", "null", "-", "missing"):
        return float("nan")
    try:
        value = float(text)
    except ValueError:
        raise FormatError(f"{text[:24]!r} is not a number", file=file, row=row) from None
    return value if abs(value) < 1e9 else float("nan")


def _clock(clip: Trc, fps: float | None) -> tuple[tuple[int, int] | None, str, list[str]]:
    """Rate, where it is from, and what contradicts it."""
    steps = np.diff(clip.time)
    good = bool(np.isfinite(clip.time).all()) and len(steps) > 0 and bool((steps > 0).all())
    implied = 1 / float(np.median(steps)) if good else None
    if rate_of(fps):
        return rate_of(fps), "user", []
    rate = rate_of(clip.fps)
    if rate is not None:
        fault = contradiction(clip.fps, implied)
        return rate, "header", [fault] if fault else []
    if good and rate_of(implied):
        return rate_of(implied), "timestamps", ["no_rate: DataRate is missing, the Time column is used"]
    return None, "none", []


@contained
def _read(source: Source, fps: float | None, scale: float | None, height: float | None) -> PoseStream:
    clip = parse(source.read_text(), source.path)
    rate, origin, faults = _clock(clip, fps)
    unit = clip.units if clip.units in METRES else ""
    scaling = Scaling(scale, height, declared=(METRES[unit], unit) if unit else None)
    return marker_stream(clip.labels, clip.xyz, rate, origin, scaling, [*clip.problems, *faults])


def read(
    source: Source, fps: float | None = None, *, scale: float | None = None, height: float | None = None
) -> PoseStream:
    """Read a marker table as the 22 canonical joints in metres, y up, where its set is known.

    Args:
        source: The file.
        fps: Overrides DataRate.
        scale: Metres per source unit, instead of the unit the file states.
        height: Stature in metres, instead of it.

    Raises:
        FormatError: broken (the line is named), or markers of no known set; their labels are listed.
    """
    stream: PoseStream = _read(source, fps, scale, height)
    return stream


@contained
def facts(source: Source) -> Facts:
    """Markers, frames, rate and labels; the reason when their set is unknown."""
    clip = parse(source.read_text(), source.path)
    rate, origin, faults = _clock(clip, None)
    meta: dict[str, object] = {"fps_source": origin}
    return marker_facts(clip.labels, clip.xyz, rate, "trc", clip.units, [*clip.problems, *faults], meta)


def sniff(head: bytes, name: str, size: int) -> bool:
    """OpenSim markers start with PathFileType."""
    return head.removeprefix(b"\xef\xbb\xbf").lstrip()[:12] == b"PathFileType"


READERS: tuple[Reader, ...] = (Reader("trc", "motion", sniff, facts, read, 33),)
