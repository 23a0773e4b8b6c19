"""Labelled onsets of gestures: beside the frames (`meta.json`, `labels.csv`) or in a file of the user's."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from choreo_cli.errors import NoInputError, UsageError
from formats.errors import FormatError
from formats.jsonstrict import loads

if TYPE_CHECKING:
    from choreo_cli.dataset.frameset import FrameSet

I64 = NDArray[np.int64]
COLUMNS = ("session", "t_s", "label")
META = "meta.json"
CSV = "labels.csv"
MAX_LABEL = 64


@dataclass(frozen=True, slots=True)
class Labels:
    """Onsets by session.

    Args:
        onsets: session -> label -> (n,) int64 us on the music clock, increasing. A session that was looked at and has
            no gesture is there, with nothing in it; one without labels is absent.
        notes: What was left out, sentences.
    """

    onsets: Mapping[str, Mapping[str, I64]]
    notes: tuple[str, ...] = ()

    def of(self, session: str, label: str) -> I64:
        """Onsets of one label in one session (us)."""
        return self.onsets.get(session, {}).get(label, np.empty(0, np.int64))

    def classes(self, sessions: list[str]) -> tuple[str, ...]:
        """Labels that occur in these sessions, sorted."""
        return tuple(sorted({label for s in sessions for label, t in self.onsets.get(s, {}).items() if len(t)}))


def read_labels(frames: FrameSet, path: str = "") -> Labels:
    """Find the labels of frames.

    Args:
        frames: Whose sessions.
        path: A CSV (`session,t_s,label`, seconds on the music clock); empty looks for `labels.csv` beside the frames,
            then for `meta.json` in every session's folder.

    Raises:
        NoInputError: the named file is missing.
        UsageError: no labels; the message names the files that were looked for.
        FormatError: a file that does not parse, with the row.
    """
    names = [s.session_id for s in frames.sessions]
    if path:
        if not Path(path).is_file():
            raise NoInputError(f"no labels file {path}", hint=f"need a CSV with {','.join(COLUMNS)}")
        return _from_csv(Path(path), names)
    if (frames.folder / CSV).is_file():
        return _from_csv(frames.folder / CSV, names)
    places = _places(frames)
    found = {name: _from_meta(file) for name, file in places.items() if file.is_file()}
    if not any(len(t) for one in found.values() for t in one.values()):
        first = next(iter(places.values()), frames.folder / META)
        raise UsageError(
            f"no labelled gestures: looked for {frames.folder / CSV} and {first}",
            hint=f"give a CSV with {','.join(COLUMNS)}: --set labels=FILE",
        )
    lost = [n for n in names if n not in found]
    notes = (f"{len(lost)} sessions have no {META} and are left out: {', '.join(lost[:3])}",) if lost else ()
    return Labels(found, notes)


def _places(frames: FrameSet) -> dict[str, Path]:
    """Where each session's `meta.json` would lie, by the manifest that lists the sessions."""
    from formats.manifest import decode, safe_join

    where = {s.session_id: f"{s.item.session_id}/{META}" for s in frames.sessions}
    file = frames.folder / frames.path
    if file.suffix == ".json" and file.is_file() and file.name != "pack.json":
        for e in decode(file.read_bytes(), source=str(file), file=file).entries:
            if "pose_path" in e:
                where[e["pair_id"]] = str(Path(e["pose_path"]).with_name(META).as_posix())
            else:
                where[e["session_id"]] = f"{e['path']}/{META}"
    roots = _roots(frames)
    found = {}
    for s in frames.sessions:
        options = [safe_join(r, where[s.session_id]) for r in roots]
        found[s.session_id] = next((o for o in options if o.is_file()), options[0])
    return found


def _roots(frames: FrameSet) -> list[Path]:
    """Folders that recordings are named from: the frames' own, and the one `pair` was given."""
    from formats.manifest import decode, resolve_roots

    file = frames.folder / frames.path
    if file.suffix != ".json" or not file.is_file() or file.name == "pack.json":
        return [frames.folder]
    return [frames.folder, *resolve_roots(decode(file.read_bytes(), source=str(file), file=file), {}).values()]


def _from_meta(file: Path) -> dict[str, I64]:
    doc = loads(file.read_bytes(), file=file)
    events = doc.get("gestures", []) if isinstance(doc, dict) else None
    if not isinstance(events, list):
        raise FormatError("needs a list", file=file, field="gestures")
    found: dict[str, list[int]] = {}
    for row, e in enumerate(events):
        if not isinstance(e, dict) or type(e.get("onset_us")) is not int or not isinstance(e.get("label"), str):
            raise FormatError("a gesture needs onset_us and label", file=file, row=row, field="gestures")
        found.setdefault(_label(e["label"], file, row), []).append(e["onset_us"])
    return {k: np.array(sorted(v), np.int64) for k, v in found.items()}


def _from_csv(file: Path, names: list[str]) -> Labels:
    try:
        rows = list(csv.reader(io.StringIO(file.read_text(encoding="utf-8-sig"))))
    except (UnicodeDecodeError, csv.Error) as e:
        raise FormatError(f"not readable as CSV: {' '.join(str(e).split())[:100]}", file=file) from None
    if not rows or tuple(c.strip() for c in rows[0]) != COLUMNS:
        raise FormatError(f"the first line must be {','.join(COLUMNS)}", file=file, row=0)
    found: dict[str, dict[str, list[int]]] = {}
    others: set[str] = set()
    for k, row in enumerate(rows[1:], 1):
        if not row:
            continue
        if len(row) != len(COLUMNS):
            raise FormatError(f"{len(row)} cells, need {len(COLUMNS)}", file=file, row=k)
        session, time, label = (c.strip() for c in row)
        if session not in names:
            others.add(session)
            continue
        found.setdefault(session, {}).setdefault(_label(label, file, k), []).append(_us(time, file, k))
    if not found:
        raise UsageError(f"no session of {file} has frames", hint=f"the frames hold {', '.join(names[:3])}")
    notes: tuple[str, ...] = (f"{len(others)} sessions of {file.name} have no frames: {min(others)}",) if others else ()
    lost = [n for n in names if n not in found]
    notes += (f"{len(lost)} sessions are not in {file.name} and are left out",) if lost else ()
    sorted_ = {s: {k: np.array(sorted(v), np.int64) for k, v in one.items()} for s, one in found.items()}
    return Labels(sorted_, notes)


def _us(text: str, file: Path, row: int) -> int:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or abs(value) > 1e9:
        raise FormatError(f"{text[:40]!r} is not a time in seconds", file=file, row=row, field="t_s")
    return round(value * 1e6)


def _label(text: str, file: Path, row: int) -> str:
    if not text or len(text) > MAX_LABEL or not text.isprintable():
        raise FormatError(f"a label needs 1 to {MAX_LABEL} printable characters", file=file, row=row, field="label")
    return text
