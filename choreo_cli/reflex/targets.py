"""What a mapper is taught, frame by frame: the rules of the teacher, or what a performer recorded (learn by example).

A control that a performer moved is learned from the recording alone. The others fall back to the rule, on the same
frames, so that the model always has five controls; `Taught.sources` says which is which.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from choreo_cli.errors import DataError, NoInputError, UsageError
from choreo_cli.reflex.teacher import teach
from formats.columns import CONTROL_NAMES
from formats.targets import Faders
from formats.targets import read as read_faders

if TYPE_CHECKING:
    from choreo_cli.dataset.frameset import FrameSession, FrameSet

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]
SPLITS = ("train", "val", "test", "none")
WITHIN = 0.8
"""Share of a single recorded session, in time, that is trained on; the rest validates."""
LEAST_ROWS = 250
"""A recording shorter than 5 s teaches nothing."""
LEAD_ROWS = 1500
"""Rows before a part that its targets still depend on: 30 s."""
BLOCK = 200_000
"""Rows whose targets are worked out at once."""


@dataclass(frozen=True, slots=True)
class Taught:
    """Which rows are trained on and judged by, and where their targets come from.

    Args:
        train: (R, 2) unbroken rows [start, stop) to train on.
        val: The same to validate on.
        faders: Recorded faders by session id; empty without `--targets`.
        offset_us: Added to the recordings' times.
        sources: `rule` or `example` of each control.
        within: Validation is the end of the very session that is trained on, not a session held out.
        notes: Sentences for the person.
    """

    train: I64
    val: I64
    faders: Mapping[str, Faders] = field(default_factory=dict)
    offset_us: int = 0
    sources: Mapping[str, str] = field(default_factory=lambda: dict.fromkeys(CONTROL_NAMES, "rule"))
    within: bool = False
    notes: tuple[str, ...] = ()

    @property
    def learned(self) -> tuple[str, ...]:
        """Controls that are learned by example."""
        return tuple(c for c in CONTROL_NAMES if self.sources[c] == "example")

    def of(self, frames: FrameSet, session: FrameSession, start: int = 0, stop: int | None = None) -> F32:
        """Targets (rows, 5) of one session or of its rows [start, stop), NaN = none.

        A part is worked out from 30 s before it, after which no filter remembers anything that float32 could hold.
        """
        top = session.row_start
        first, last = top + start, top + (session.rows if stop is None else stop)
        out = np.full((last - first, len(CONTROL_NAMES)), np.nan, np.float32)
        for a, b in session_runs(frames, session):
            low, high = max(int(a), first), min(int(b), last)
            if low < high:
                lead = max(int(a), low - LEAD_ROWS)
                rows = slice(lead, high)
                out[low - first : high - first] = teach(frames.x[rows], frames.mask[rows], frames.t_us[rows])[
                    low - lead :
                ]
        if self.learned:
            columns = [CONTROL_NAMES.index(c) for c in self.learned]
            out[:, columns] = np.nan
            if session.session_id in self.faders:
                moved = self.faders[session.session_id].at(frames.t_us[first:last], self.offset_us)
                out[:, columns] = moved[:, columns]
        return out


def session_runs(frames: FrameSet, session: FrameSession) -> I64:
    """(R, 2) unbroken rows [start, stop) of one session."""
    from choreo_cli.dataset.windows import Stretch, runs

    start, stop, _ = runs(frames.t_us, [Stretch(session.session_id, session.row_start, session.rows)], frames.step_us)
    return np.stack([start, stop], axis=1)


def by_rule(frames: FrameSet) -> Taught:
    """Every control by the rules of the teacher, with the splits of the frames."""
    return Taught(frames.runs("train"), frames.runs("val"))


def by_example(frames: FrameSet, path: Path, *, session: str = "", offset_s: float = 0.0) -> Taught:
    """What a performer recorded, for the controls that were moved; the rule for the others.

    Sessions with a recording are trained on, and no others. When they lie in `train` and in `val` the splits are kept;
    else each is cut in time: the first 80 % trains, the last 20 % validates, and the notes say so.

    Args:
        frames: Frames of the sessions that were danced.
        path: A recording (`formats.targets`), or a folder of them named `<session>.mid` (`.csv`, `.jsonl`,
            `_controls.parquet`).
        session: The session that a lone recording belongs to; not needed when there is one session only.
        offset_s: Added to the recording's times.

    Raises:
        NoInputError: nothing is there.
        UsageError: it is not clear which session the recording belongs to.
        FormatError: see `formats.targets.read`.
        DataError: the recording and the session share less than 5 s.
    """
    offset_us = round(offset_s * 1e6)
    faders = _recordings(frames, path, session)
    moved = {name for found in faders.values() for name in found.names}
    sources = {c: "example" if c in moved else "rule" for c in CONTROL_NAMES}
    owners = [s for s in frames.sessions if s.session_id in faders]
    pieces = {s.session_id: _covered(frames, s, faders[s.session_id], offset_us) for s in owners}
    short = [name for name, p in pieces.items() if _rows(p) < LEAST_ROWS]
    if len(short) == len(pieces):
        raise DataError(
            f"the faders of {path} and the frames of {short[0]} share less than 5 s",
            hint="both count from the start of the music: --set targets_offset_s=SECONDS",
        )
    owners = [s for s in owners if s.session_id not in short]
    notes = [f"the recording of {name} is left out: less than 5 s of it lie on the frames" for name in short]
    rules = [c for c in CONTROL_NAMES if sources[c] == "rule"]
    if rules:
        notes.append(f"no fader moved {', '.join(rules)}: learned from the rule instead")
    held = {s.split for s in owners}
    within = not {"train", "val"} <= held
    if within:
        cut = [_cut(pieces[s.session_id]) for s in owners]
        train, val = _joined(c[0] for c in cut), _joined(c[1] for c in cut)
        notes.append("validated within the session: the last 20 % in time of what it was trained on")
    else:
        train, val = (_joined(pieces[s.session_id] for s in owners if s.split == k) for k in ("train", "val"))
    return Taught(train, val, faders, offset_us, sources, within, tuple(notes))


def _recordings(frames: FrameSet, path: Path, session: str) -> dict[str, Faders]:
    """Recorded faders by session id."""
    if not path.exists():
        raise NoInputError(f"no recorded controls at {path}", hint="need a MIDI file, CSV, JSON Lines or Parquet")
    names = {s.session_id for s in frames.sessions}
    if session and session not in names:
        raise UsageError(f"no session {session!r} in these frames", hint=f"they hold {', '.join(sorted(names)[:6])}")
    if path.is_dir():
        files = {f.stem.removesuffix("_controls"): f for f in sorted(path.iterdir()) if f.is_file()}
        found = {name: read_faders(files[name]) for name in sorted(names & set(files))}
        if not found:
            raise NoInputError(f"no recording in {path} is named after a session", hint="name it SESSION.mid")
        return {name: one.get(None) or one.get(name) or next(iter(one.values())) for name, one in found.items()}
    read = read_faders(path)
    if None in read:
        if not session and len(names) > 1:
            raise UsageError(
                f"{path} does not say which of {len(names)} sessions it belongs to",
                hint="--set targets_session=SESSION",
            )
        return {session or next(iter(names)): read[None]}
    known = {str(k): v for k, v in read.items() if k in names and session in ("", k)}
    if not known:
        raise UsageError(f"{path} holds controls of other sessions than the frames", hint="see choreo inspect")
    return known


def _covered(frames: FrameSet, session: FrameSession, faders: Faders, offset_us: int) -> I64:
    """Unbroken rows of a session from the first fader's first event to the end of the recording."""
    live = np.isfinite(faders.at(frames.t_us[session.slice], offset_us)).any(axis=1)
    rows = np.flatnonzero(live)
    if not len(rows):
        return np.empty((0, 2), np.int64)
    first, last = session.row_start + rows[0], session.row_start + rows[-1] + 1
    found = np.clip(session_runs(frames, session), first, last)
    return np.asarray(found[found[:, 1] > found[:, 0]])


def _rows(runs: I64) -> int:
    return int((runs[:, 1] - runs[:, 0]).sum())


def _cut(runs: I64) -> tuple[I64, I64]:
    """The first share of rows and the rest; no run lies in both."""
    at = round(WITHIN * _rows(runs))
    before = np.concatenate([[0], np.cumsum(runs[:, 1] - runs[:, 0])])
    edge = runs[:, 0] + np.clip(at - before[:-1], 0, runs[:, 1] - runs[:, 0])
    head, tail = np.stack([runs[:, 0], edge], axis=1), np.stack([edge, runs[:, 1]], axis=1)
    return head[head[:, 1] > head[:, 0]], tail[tail[:, 1] > tail[:, 0]]


def _joined(parts: Iterable[I64]) -> I64:
    return np.concatenate([np.empty((0, 2), np.int64), *parts])


def target_store(frames: FrameSet, taught: Taught, budget: int) -> F32:
    """Targets (N, 5) of every row that is trained on or validated by, NaN elsewhere, worked out once.

    Args:
        frames: Frames.
        taught: What is taught.
        budget: Most bytes to keep in memory; beyond, they lie in an unnamed temporary file that is mapped.
    """
    shape = (len(frames.t_us), len(CONTROL_NAMES))
    if shape[0] * shape[1] * 4 <= budget:
        out: F32 = np.full(shape, np.nan, np.float32)
    else:
        # Unlinked at once: it is gone with the process, however that ends.
        out = np.memmap(tempfile.TemporaryFile(), np.float32, "w+", shape=shape)  # noqa: SIM115
    used = _joined([taught.train, taught.val])
    for session in frames.sessions:
        top = session.row_start
        inside = (used[:, 0] >= top) & (used[:, 1] <= top + session.rows)
        for at in range(0, session.rows, BLOCK):
            stop = min(at + BLOCK, session.rows)
            out[top + at : top + stop] = taught.of(frames, session, at, stop) if inside.any() else np.nan
    return out
