"""What groove metrics judge: a control beside the motion energy and the beats of one session, on one clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.dataset.frameset import NAMES, FrameSession, FrameSet
from choreo_cli.errors import DataError
from choreo_cli.metrics.beat_grid import BeatGrid, beats_from_phase
from formats.columns import CONTROL_NAMES, CONTROLS
from formats.errors import FormatError

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

ENERGY = NAMES.index("motion_energy")
PHASE = NAMES.index("beat_phase")
SUFFIX = "_controls.parquet"


@dataclass(frozen=True, slots=True)
class Control:
    """One control of one session.

    Args:
        session_id: The session.
        t_us: (N,) times on the music clock, strictly increasing.
        y: (N,) the control, 0..1, NaN = missing.
        synthetic: Made from synthetic frames.
    """

    session_id: str
    t_us: I64
    y: F64
    synthetic: bool


@dataclass(frozen=True, slots=True)
class Track:
    """One session ready to be judged.

    Args:
        session_id: Whose control it is.
        reference: Whose motion energy and beats it is judged by; the same session but in a negative control.
        t_s: (N,) times of the control.
        density: (N,) the control.
        beats: Beats of the reference.
        rate_hz: Frames per second of the common clock.
        start_s: Time of its first frame.
        energy: (M,) motion energy on it, NaN = missing.
        follower: (M,) the control on it, NaN = missing.
    """

    session_id: str
    reference: str
    t_s: F64
    density: F64
    beats: BeatGrid
    rate_hz: float
    start_s: float
    energy: F64
    follower: F64


def read_controls(files: Sequence[Path], name: str = "density") -> list[Control]:
    """One control of every session in controls tables, in the order of the files.

    Raises:
        FormatError: damaged, out of bounds, times that do not increase, or a session that comes twice.
    """
    from formats.tables import read_table, validate

    found: list[Control] = []
    for file in files:
        table = read_table(file, CONTROLS)
        validate(CONTROLS, table, file)
        ids = np.asarray(table.column("session_id").to_pylist(), dtype=object)
        t_us = np.asarray(table.column("t_us").to_numpy(), np.int64)
        y = np.asarray(table.column(name).to_numpy(zero_copy_only=False), np.float64)
        made = np.asarray(table.column("synthetic").to_numpy(zero_copy_only=False), bool)
        for session in dict.fromkeys(ids.tolist()):
            rows = ids == session
            if (np.diff(t_us[rows]) <= 0).any():
                raise FormatError(f"time of session {session} does not increase", file=file, field="t_us")
            if any(c.session_id == session for c in found):
                raise FormatError(f"session {session} comes twice", file=file, field="session_id")
            found.append(Control(session, t_us[rows], y[rows], bool(made[rows].all())))
    if not found:
        raise FormatError("no controls", file=files[0] if files else "controls", hint="every table is empty")
    return found


def controls_of(values: Mapping[str, Any], frames: FrameSet, name: str = "density") -> list[Control]:
    """Controls made in memory: session -> (N, 5) values, a row per frame of that session.

    Raises:
        DataError: a session that the frames do not hold, or another number of rows.
    """
    by_id = {s.session_id: s for s in frames.sessions}
    found = []
    for session, array in values.items():
        s = _session(by_id, session, frames)
        if len(array) != s.rows:
            raise DataError(f"session {session}: {len(array)} controls for {s.rows} frames")
        y = np.asarray(array, np.float64)[:, CONTROL_NAMES.index(name)]
        found.append(Control(session, frames.t_us[s.slice], y, s.synthetic))
    return found


def pair_up(controls: Sequence[Control], frames: FrameSet, *, in_order: bool = False) -> list[Track]:
    """Each control beside its session's frames; with `in_order` beside the frames of another set, one after the other.

    Raises:
        DataError: a session that the frames do not hold, or no time in common; a session without beats.
    """
    return [_track(c, s, frames) for c, s in _chosen(controls, frames, in_order)]


def pair_up_fitting(
    controls: Sequence[Control], frames: FrameSet, *, in_order: bool = False
) -> tuple[list[Track], dict[str, str]]:
    """As `pair_up`, without the sessions that cannot be judged: tracks, and session -> why it is left out.

    Raises:
        DataError: as `pair_up`, but for time and beats only when no session is left.
    """
    tracks: list[Track] = []
    left_out: dict[str, str] = {}
    first: DataError | None = None
    for c, s in _chosen(controls, frames, in_order):
        try:
            tracks.append(_track(c, s, frames))
        except DataError as e:
            first = first or e
            left_out[c.session_id] = e.message.removeprefix(f"session {s.session_id}: ")
    if first is not None and not tracks:
        raise first
    return tracks, left_out


def _chosen(controls: Sequence[Control], frames: FrameSet, in_order: bool) -> list[tuple[Control, FrameSession]]:
    by_id = {s.session_id: s for s in frames.sessions}
    if in_order and len(frames.sessions) < len(controls):
        raise DataError(
            f"{len(controls)} controls, but {len(frames.sessions)} sessions to judge them by", hint="need as many"
        )
    return [
        (c, frames.sessions[k] if in_order else _session(by_id, c.session_id, frames)) for k, c in enumerate(controls)
    ]


def _session(by_id: Mapping[str, FrameSession], name: str, frames: FrameSet) -> FrameSession:
    if name not in by_id:
        raise DataError(
            f"session {name} has controls but no frames in {frames.folder / frames.path}", hint="name its own --frames"
        )
    return by_id[name]


def _track(c: Control, s: FrameSession, frames: FrameSet) -> Track:
    t_us, x = frames.t_us[s.slice], frames.x[s.slice]
    step = frames.step_us
    start, stop = max(int(c.t_us[0]), int(t_us[0])), min(int(c.t_us[-1]), int(t_us[-1]))
    if min(len(c.t_us), len(t_us)) < 2:
        raise DataError(f"session {s.session_id}: a single frame, nothing can be judged")
    if stop <= start:
        raise DataError(
            f"controls of {c.session_id} and frames of {s.session_id} have no time in common",
            hint="both must lie on the music clock",
        )
    cells = np.round((t_us - start) / step).astype(np.int64)
    count = (stop - start) // step + 1
    inside = (cells >= 0) & (cells < count)
    energy = np.full(count, np.nan)
    energy[cells[inside]] = x[inside, ENERGY]
    clock = start + step * np.arange(count)
    try:
        beats = beats_from_phase(t_us / 1e6, np.asarray(x[:, PHASE], np.float64))
    except DataError as e:
        raise DataError(f"session {s.session_id}: {e.message}") from None
    return Track(
        c.session_id, s.session_id, c.t_us / 1e6, c.y, beats, 1e6 / step, start / 1e6, energy,
        _on_clock(c.t_us, c.y, clock),
    )  # fmt: skip


def _on_clock(t_us: I64, y: F64, clock_us: I64) -> F64:
    """The control at each frame: its own value, or linear between two samples at most 1.5 of its steps apart."""
    live = np.isfinite(y)
    if live.sum() < 2:
        return np.full(len(clock_us), np.nan)
    t, v = t_us[live].astype(np.float64), y[live]
    step = float(np.median(np.diff(t)))
    at = np.interp(clock_us, t, v, left=np.nan, right=np.nan)
    k = np.clip(np.searchsorted(t, clock_us, side="right"), 1, len(t) - 1)
    near = (t[k] - t[k - 1] <= 1.5 * step) | np.isin(clock_us, t_us[live])
    return np.where(near, at, np.nan)
