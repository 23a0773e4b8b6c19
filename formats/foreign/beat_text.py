"""Read beat, onset and tempo annotations in plain text (one time a line), and BRACE's beats of many videos."""

from __future__ import annotations

import re
from array import array
from itertools import islice

import numpy as np

from formats import jsonstrict
from formats.errors import FormatError
from formats.foreign.delimited import content_lines, head_lines, is_number, text_bytes
from formats.foreign.guard import contained
from formats.foreign.jsonpeek import peek
from formats.foreign.model import F64, Beats, Facts
from formats.foreign.registry import Reader
from formats.foreign.source import Source

SUFFIXES = ("txt", "beats", "beat", "onsets", "onset", "csv", "tsv", "lab", "ann", "tempo", "bpm")
LONGEST_S = 86_400.0
MAX_BEATS = 1_000_000
FASTEST_BPM, SLOWEST_BPM = 600.0, 10.0
_CAP = 16 * 2**20
_SPLIT = re.compile(r"[\s,;]+")
# A beat's label: its number in the bar, `bar.beat` or `bar:beat`, or a word; a measured value is none of these.
_LABEL = re.compile(r"[0-9]{1,4}|[0-9]{1,4}[.:][0-9]|[0-9]{1,2}\.0+|[A-Za-z_\"'][^0-9]{0,40}.{0,40}")


def _comments(head: bytes) -> str:
    lines = head.decode("utf-8", errors="replace").splitlines()
    return " ".join(line for line in lines if line.lstrip().startswith("#")).lower()


def _suffix(name: str) -> str:
    return name.rsplit(".", 1)[-1].lower() if "." in name else ""


def _fields(line: str) -> list[str]:
    return _SPLIT.split(line, 2)


def _looks_like_times(lines: list[str]) -> bool:
    """Increasing times below a day, with at most a label beside each."""
    before, pointed = -1.0, False
    for line in lines:
        fields = _fields(line)
        if not is_number(fields[0]) or (len(fields) > 1 and not _LABEL.fullmatch(" ".join(fields[1:]))):
            return False
        t = float(fields[0])
        if not before < t < LONGEST_S or t < 0:
            return False
        before, pointed = t, pointed or "." in fields[0] or "e" in fields[0].lower()
    return bool(lines) and pointed


def _is_onsets(head: bytes, name: str) -> bool:
    return _suffix(name) in ("onsets", "onset") or "onset" in _comments(head)


def _tempo_fields(lines: list[str]) -> list[float] | None:
    if len(lines) != 1:
        return None
    fields = [f for f in _SPLIT.split(lines[0]) if f]
    if not 1 <= len(fields) <= 3 or not all(map(is_number, fields)):
        return None
    values = [float(f) for f in fields]
    fits = all(SLOWEST_BPM <= v <= FASTEST_BPM for v in values[:2]) and all(0 <= v <= 1 for v in values[2:])
    return values if fits else None


def _sniff_tempo(head: bytes, name: str, size: int) -> bool:
    if size > 4096 or _suffix(name) not in SUFFIXES:
        return False
    values = _tempo_fields(head_lines(head, 2))
    named = _suffix(name) in ("tempo", "bpm") or "tempo" in _comments(head) or "tempo" in name.lower()
    return values is not None and (named or len(values) == 3)


def _sniff_times(head: bytes, name: str) -> bool:
    if _suffix(name) not in SUFFIXES or not head or head[:1] in b"{[<":
        return False
    return _looks_like_times(head_lines(head))


def _sniff_beats(head: bytes, name: str, size: int) -> bool:
    return _sniff_times(head, name) and not _is_onsets(head, name)


def _sniff_onsets(head: bytes, name: str, size: int) -> bool:
    return _sniff_times(head, name) and _is_onsets(head, name)


def _times(source: Source) -> tuple[F64, tuple[str, ...]]:
    """First field of every line, strictly increasing; repeated times are dropped and said."""
    found = array("d")
    repeated = 0
    for row, line in content_lines(text_bytes(source, _CAP, MAX_BEATS)):
        field = _fields(line)[0]
        if not is_number(field):
            raise FormatError(f"{field[:40]!r} is not a time in seconds", row=row)
        t = float(field)
        if not 0 <= t < LONGEST_S:
            raise FormatError(f"{field[:40]} s is outside 0..{LONGEST_S:.0f} s", row=row)
        if found and t == found[-1]:
            repeated += 1
            continue
        if found and t < found[-1]:
            raise FormatError(f"{field[:40]} s comes after a later time", row=row, hint="sort the file")
        found.append(t)
    if not found:
        raise FormatError("no times")
    problems = (f"duplicate_rows: {repeated} repeated times were dropped",) if repeated else ()
    return np.frombuffer(found, np.float64).copy(), problems


@contained
def read_beats(source: Source) -> Beats:
    """Read beat times in seconds, one a line; a second column (beat number, label) is not used.

    Raises:
        FormatError: a line without a time, a time out of order or beyond a day, or no times.
    """
    times, problems = _times(source)
    return Beats(times, None, None, problems)


@contained
def read_onsets(source: Source) -> Beats:
    """Read onset times in seconds; `problems` says that they are not beats.

    Raises:
        FormatError: as `read_beats`.
    """
    times, problems = _times(source)
    return Beats(times, None, None, ("onsets: times of onsets, not of beats", *problems))


@contained
def read_tempo(source: Source) -> Beats:
    """Read `tempo1 [tempo2 [strength1]]` in BPM; the stronger one is the tempo, there are no beat times.

    Raises:
        FormatError: anything but one line of one to three numbers in range.
    """
    values = _tempo_fields([line for _, line in islice(content_lines(text_bytes(source, _CAP)), 2)])
    if values is None:
        raise FormatError("not one line of tempo, second tempo and strength")
    first_wins = len(values) < 2 or (values[2] if len(values) > 2 else 1.0) >= 0.5
    return Beats(np.zeros(0), values[0] if first_wins else values[1])


def _origin(head: bytes) -> str:
    said = _comments(head)
    return "detected" if "detect" in said else "annotated" if "annotat" in said else "unknown"


def _time_facts(source: Source, kind: str, format: str, beats: Beats, extra: dict[str, object]) -> Facts:
    t = beats.t_s
    meta: dict[str, object] = {"origin": _origin(source.head), **extra}
    if t.size > 1 and kind == "beats":
        meta["median_bpm"] = round(60.0 / float(np.median(np.diff(t))), 3)
    span = round(float(t[-1] - t[0]) * 1e6) if t.size else None
    return Facts(kind, format, n=int(t.size), duration_us=span, problems=beats.problems, meta=meta)


def _facts_beats(source: Source) -> Facts:
    return _time_facts(source, "beats", "beat-text", read_beats(source), {})


def _facts_onsets(source: Source) -> Facts:
    beats = read_onsets(source)
    return _time_facts(source, "other", "onset-text", Beats(beats.t_s), {"note": "onset times, not beats"})


def _facts_tempo(source: Source) -> Facts:
    beats = read_tempo(source)
    lines = [line for _, line in content_lines(text_bytes(source, _CAP))]
    bpm = (_tempo_fields(lines[:1]) or [])[:2]
    return Facts(
        "beats", "tempo-text", n=0, meta={"bpm": beats.tempo_bpm, "bpm_listed": bpm, "origin": _origin(source.head)}
    )


def _sniff_brace(head: bytes, name: str, size: int) -> bool:
    if b'"beats_sec"' not in head:
        return False
    found = peek(head)
    return found is not None and found.root == "{" and ("beatssec" in found.keys or "beatssec" in found.nested)


def _one_sequence(name: str, item: object) -> Beats:
    times = item.get("beats_sec") if isinstance(item, dict) else None
    if not isinstance(times, list) or len(times) > MAX_BEATS:
        raise FormatError("no list beats_sec", field=name[:80])
    if not all(isinstance(t, (int, float)) and not isinstance(t, bool) and 0 <= t < LONGEST_S for t in times):
        raise FormatError(f"beats_sec holds something else than seconds in 0..{LONGEST_S:.0f}", field=name[:80])
    t_s = np.array(times, np.float64)
    if t_s.size > 1 and not bool((np.diff(t_s) > 0).all()):
        raise FormatError("beats_sec does not increase", field=name[:80])
    bpm = item.get("bpm") if isinstance(item, dict) else None
    known = isinstance(bpm, (int, float)) and not isinstance(bpm, bool) and SLOWEST_BPM <= bpm <= FASTEST_BPM
    return Beats(t_s, float(bpm) if known and bpm is not None else None)


@contained
def read_sequences(source: Source) -> dict[str, Beats]:
    """Read the beats of every sequence of a BRACE `audio_beats.json`, by its name, from `beats_sec`.

    Raises:
        FormatError: not JSON, or a sequence whose beats are no increasing list of seconds.
    """
    whole = jsonstrict.loads(source.read_bytes(_CAP), file=source.path)
    if isinstance(whole, dict) and "beats_sec" in whole:
        return {"": _one_sequence("", whole)}
    if not isinstance(whole, dict) or not whole:
        raise FormatError("not an object of sequences with beats_sec")
    return {str(name): _one_sequence(str(name), item) for name, item in sorted(whole.items())}


@contained
def read_brace(source: Source, sequence: str | None = None) -> Beats:
    """Read the beats of one sequence; the only one when none is named.

    Raises:
        FormatError: as `read_sequences`, or no sequence is named although there are several.
    """
    found = read_sequences(source)
    if sequence is None and len(found) == 1:
        return next(iter(found.values()))
    if sequence not in found:
        raise FormatError(f"holds the beats of {len(found)} sequences", hint=f"name one, e.g. {min(found)}")
    return found[sequence]


def _facts_brace(source: Source) -> Facts:
    found = read_sequences(source)
    n = sum(int(b.t_s.size) for b in found.values())
    span = max((round(float(b.t_s[-1]) * 1e6) for b in found.values() if b.t_s.size), default=None)
    return Facts(
        "beats", "brace-beats", n=n, duration_us=span, meta={"sequences": len(found), "names": list(found)[:20]}
    )


READERS: tuple[Reader, ...] = (
    Reader("brace-beats", "beats", _sniff_brace, _facts_brace, read_brace, order=32),
    Reader("tempo-text", "beats", _sniff_tempo, _facts_tempo, read_tempo, order=60),
    Reader("onset-text", "other", _sniff_onsets, _facts_onsets, read_onsets, order=61),
    Reader("beat-text", "beats", _sniff_beats, _facts_beats, read_beats, order=62),
)
