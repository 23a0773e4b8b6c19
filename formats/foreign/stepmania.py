"""Read StepMania charts (.ssc, .sm): exact beat times from BPMs, offset, stops, delays and warps.

Beat 0 lies at -OFFSET seconds. A stop holds the music's position after its beat, a delay before it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from formats.errors import FormatError
from formats.foreign.delimited import is_number
from formats.foreign.guard import contained
from formats.foreign.model import F64, Beats, Facts
from formats.foreign.registry import Reader
from formats.foreign.source import Source

CAP = 16 * 2**20
MAX_BEATS = 1_000_000
MAX_EVENTS = 100_000
HIGHEST_BPM, LOWEST_BPM = 1e6, 0.1
_SONG_TAGS = frozenset(
    ("VERSION", "TITLE", "SUBTITLE", "ARTIST", "MUSIC", "OFFSET", "BPMS", "STOPS", "FREEZES", "DELAYS", "WARPS")
)
_CHART_TAGS = ("STEPSTYPE", "DIFFICULTY", "METER")


@dataclass(frozen=True, slots=True)
class Timing:
    """Where beats lie in seconds.

    Args:
        offset_s: The file's OFFSET; beat 0 lies at -offset_s.
        bpms: (N, 2) beat and BPM, sorted, the first at beat 0.
        stops: (M, 2) beat and seconds held after it. delays: the same before the beat.
        warps: (K, 2) start and end beat of stretches that take no time, merged.
    """

    offset_s: float
    bpms: F64
    stops: F64
    delays: F64
    warps: F64

    def _plain(self, beat: F64) -> F64:
        """Seconds from beat 0 by tempo alone."""
        starts, seconds_per_beat = self.bpms[:, 0], 60.0 / self.bpms[:, 1]
        at_start = np.concatenate(([0.0], np.cumsum(np.diff(starts) * seconds_per_beat[:-1])))
        i = np.maximum(np.searchsorted(starts, beat, side="right") - 1, 0)
        return np.asarray(at_start[i] + (beat - starts[i]) * seconds_per_beat[i], np.float64)

    def seconds(self, beat: F64) -> F64:
        """Time of each beat (any real numbers >= 0) in seconds of the music file."""
        t = self._plain(beat) - self.offset_s
        for start, end in self.warps:
            lost = self._plain(np.clip(beat, start, end)) - self._plain(np.array([start]))
            t = t - lost
        for events, side in ((self.stops, "left"), (self.delays, "right")):
            held = np.concatenate(([0.0], np.cumsum(events[:, 1])))
            t = t + held[np.searchsorted(events[:, 0], beat, side="left" if side == "left" else "right")]
        return t


@dataclass(slots=True)
class Chart:
    """What a file says: song tags, its step charts (`steps`, `difficulty`, `meter`, `notes`, `beats`)."""

    tags: dict[str, str] = field(default_factory=dict)
    charts: list[dict[str, object]] = field(default_factory=list)


def _tags(text: str) -> list[tuple[str, str]]:
    """The `#NAME:value;` pairs in order; comments dropped; a missing `;` ends at the next line that starts a tag."""
    found: list[tuple[str, str]] = []
    name: str | None = None
    value: list[str] = []
    for raw in text.splitlines():
        line = raw.split("//", 1)[0].strip()
        while line:
            if line[0] == "#" and ":" in line:
                if name is not None:
                    found.append((name, "\n".join(value)))
                name, _, line = line[1:].partition(":")
                name, value = name.strip().upper(), []
            before, end, after = line.partition(";")
            if name is not None and before:
                value.append(before)
            if end and name is not None:
                found.append((name, "\n".join(value)))
                name, value = None, []
            line = after.strip() if end else ""
    if name is not None:
        found.append((name, "\n".join(value)))
    return found


def _count_notes(rows: str) -> tuple[int, int]:
    """Notes that are struck (taps, holds, rolls) and beats the chart spans (four a measure)."""
    return sum(rows.count(c) for c in "124"), 4 * (rows.count(",") + 1)


def _parse(text: str) -> Chart:
    out = Chart()
    chart: dict[str, object] | None = None
    for name, value in _tags(text):
        if name == "NOTEDATA":
            chart = {}
        elif name == "NOTES" and chart is None:
            parts = value.split(":")
            if len(parts) >= 6:
                notes, beats = _count_notes(parts[5])
                kept = {"steps": parts[0].strip(), "difficulty": parts[2].strip(), "meter": parts[3].strip()}
                out.charts.append({**{k: v[:40] for k, v in kept.items()}, "notes": notes, "beats": beats})
        elif name in ("NOTES", "NOTES2") and chart is not None:
            notes, beats = _count_notes(value)
            out.charts.append({**chart, "notes": notes, "beats": beats})
            chart = {}
        elif chart is not None and name in _CHART_TAGS:
            chart["steps" if name == "STEPSTYPE" else name.lower()] = value.strip()[:40]
        elif chart is None and name in _SONG_TAGS:
            out.tags.setdefault(name, value)
    return out


def _pairs(tags: dict[str, str], *names: str) -> F64:
    text = next((tags[n] for n in names if tags.get(n, "").strip()), "")
    rows: list[tuple[float, float]] = []
    for item in text.split(","):
        beat, _, value = item.strip().partition("=")
        if not beat and not value:
            continue
        if not is_number(beat.strip()) or not is_number(value.strip()):
            raise FormatError(f"{item.strip()[:40]!r} is not beat=value", field=names[0])
        if abs(float(beat)) > MAX_BEATS or abs(float(value)) > 10 * HIGHEST_BPM:
            raise FormatError(f"{item.strip()[:40]!r} is beyond any song", field=names[0])
        rows.append((float(beat), float(value)))
        if len(rows) > MAX_EVENTS:
            raise FormatError(f"more than {MAX_EVENTS} entries", field=names[0])
    return np.array(sorted(rows), np.float64).reshape(-1, 2)


def _timing(tags: dict[str, str]) -> Timing:
    """Raises FormatError for a tempo or a pause that no player agrees upon (negative, absurd)."""
    bpms = _pairs(tags, "BPMS")
    if not len(bpms):
        raise FormatError("no BPMS", field="BPMS")
    if bool((bpms[:, 1] < LOWEST_BPM).any()) or bool((bpms[:, 1] > HIGHEST_BPM).any()):
        raise FormatError(
            "a BPM that is negative, below 0.1 or above a million", field="BPMS", hint="warps by BPM are not read"
        )
    bpms = bpms[np.concatenate((bpms[1:, 0] > bpms[:-1, 0], [True]))]
    first = int(np.searchsorted(bpms[:, 0], 0.0, side="right"))
    bpms = bpms[max(0, first - 1) :].copy()
    bpms[0, 0] = 0.0
    stops, delays = _pairs(tags, "STOPS", "FREEZES"), _pairs(tags, "DELAYS")
    if bool((stops[:, 1] < 0).any()) or bool((delays[:, 1] < 0).any()):
        raise FormatError("a negative stop", field="STOPS", hint="warps by negative stops are not read")
    warps: list[list[float]] = []
    for start, length in _pairs(tags, "WARPS"):
        if length <= 0:
            continue
        if warps and start <= warps[-1][1]:
            warps[-1][1] = max(warps[-1][1], start + length)
        else:
            warps.append([start, start + length])
    offset = tags.get("OFFSET", "").strip() or "0"
    if not is_number(offset) or abs(float(offset)) > 3600:
        raise FormatError(f"{offset[:40]!r} is no offset in seconds", field="OFFSET")
    if len(warps) > 1000:
        raise FormatError("more than 1000 warps", field="WARPS")
    return Timing(float(offset), bpms, stops, delays, np.array(warps, np.float64).reshape(-1, 2))


def beat_times(timing: Timing, end_s: float) -> F64:
    """Times of the whole beats up to `end_s`, strictly increasing (warped beats are left out), in seconds.

    Raises:
        FormatError: more than a million beats.
    """
    count = 64
    while float(timing.seconds(np.array([float(count)]))[0]) <= end_s:
        count *= 2
        if count > 2 * MAX_BEATS:
            raise FormatError(f"more than {MAX_BEATS} beats before {end_s:.0f} s")
    t = timing.seconds(np.arange(count + 1, dtype=np.float64))
    t = t[t <= end_s]
    return t[np.concatenate(([True], np.diff(t) > 0))] if t.size else t


def read_timing(source: Source) -> tuple[Timing, Chart]:
    """Parse a chart file. Raises FormatError naming the tag that cannot be used."""
    chart = _parse(source.read_bytes(CAP).removeprefix(b"\xef\xbb\xbf").decode("utf-8", errors="replace"))
    return _timing(chart.tags), chart


def _tempo(timing: Timing, end_s: float) -> float:
    """The BPM that lasts longest before `end_s`."""
    starts = timing._plain(timing.bpms[:, 0])
    lasts = np.maximum(0.0, np.diff(np.append(np.minimum(starts, end_s), max(end_s, float(starts[0])))))
    return float(timing.bpms[int(np.argmax(lasts)), 1])


def _end_s(timing: Timing, chart: Chart) -> float:
    beats = max((int(str(c["beats"])) for c in chart.charts), default=4)
    return float(timing.seconds(np.array([float(min(beats, MAX_BEATS))]))[0])


@contained
def read(source: Source, end_s: float | None = None) -> Beats:
    """Read the beats of a chart up to `end_s` seconds of the music (default: the end of its longest step chart).

    Raises:
        FormatError: no BPMS, or timing that cannot be used.
    """
    timing, chart = read_timing(source)
    end = _end_s(timing, chart) if end_s is None else end_s
    problems = ("warps: some beats take no time and are left out",) if len(timing.warps) else ()
    music = chart.tags.get("MUSIC", "").strip()[:1024] or None
    return Beats(beat_times(timing, end), _tempo(timing, end), music, problems)


def _sniff(head: bytes, name: str, size: int) -> bool:
    if not name.lower().endswith((".ssc", ".sm")) and b"#BPMS:" not in head:
        return False
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    return text[:1] in (b"#", b"/") and any(t in head for t in (b"#BPMS:", b"#TITLE:", b"#VERSION:", b"#OFFSET:"))


@contained
def _facts(source: Source) -> Facts:
    timing, chart = read_timing(source)
    end = _end_s(timing, chart)
    bpms = timing.bpms[:, 1]
    meta: dict[str, object] = {
        "title": chart.tags.get("TITLE", "").strip()[:200],
        "artist": chart.tags.get("ARTIST", "").strip()[:200],
        "music": chart.tags.get("MUSIC", "").strip()[:1024],
        "bpm": _tempo(timing, end),
        "bpm_range": [float(bpms.min()), float(bpms.max())],
        "offset_s": timing.offset_s,
        "stops": len(timing.stops) + len(timing.delays),
        "charts": chart.charts[:32],
    }
    problems = ("warps: some beats take no time and are left out",) if len(timing.warps) else ()
    duration = round(end * 1e6) if 0 < end < 86_400 * 366 else None
    n = max((int(str(c["beats"])) for c in chart.charts), default=0)
    return Facts("beats", "stepmania", n=n, duration_us=duration, problems=problems, meta=meta)


READERS: tuple[Reader, ...] = (Reader("stepmania", "beats", _sniff, _facts, read, order=25),)
