"""The series behind the figures: loss curves, a held-out session's controls, its peaks against the beat."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.report.run_artefact import inside
from choreo_cli.report.run_gather import Run
from formats.columns import CONTROL_NAMES, CONTROLS
from formats.errors import FormatError

F64 = NDArray[np.float64]
LAG_S = 0.1  # the range of lags that energy correlation looks at


@dataclass(frozen=True, slots=True)
class Curve:
    """Loss of one run.

    Args:
        seed: Its seed.
        train: (n, 2) step and training loss.
        val: (m, 2) step and validation loss; empty without validation.
    """

    seed: int
    train: F64
    val: F64


@dataclass(frozen=True, slots=True)
class Trace:
    """Controls of one held-out session beside what its body did.

    Args:
        session: Its name.
        split: `test` or `val`.
        t_s: (n,) seconds from its first frame.
        controls: (n, 5) in the order of `formats.columns.CONTROL_NAMES`.
        held: (n,) nothing was measured: values repeat.
        energy: (n,) motion energy, NaN = missing; None when the frames are not there.
        phase: (n,) beat phase in [0, 1), NaN = unknown; None when the frames are not there.
    """

    session: str
    split: str
    t_s: F64
    controls: F64
    held: NDArray[np.bool_]
    energy: F64 | None = None
    phase: F64 | None = None


@dataclass(frozen=True, slots=True)
class Peaks:
    """Density peaks of one session.

    Args:
        t_s: (n,) their times.
        phases: (n,) cycles in [0, 1).
        index: (n,) beat of each.
        period_s: Median length of a beat.
        beats: Whole beats there are.
    """

    t_s: F64
    phases: F64
    index: NDArray[np.int64]
    period_s: float
    beats: int


def curve(run: Run) -> Curve | None:
    """The loss curve in a run's `log.jsonl`, None when there is none."""
    file = inside(run.folder, "log.jsonl")
    if file is None:
        return None
    train: list[tuple[float, float]] = []
    val: list[tuple[float, float]] = []
    for line in _objects(file):
        step = line.get("step")
        if not isinstance(step, int | float):
            continue
        for target, value in ((train, _train_loss(line)), (val, _val_loss(line))):
            if isinstance(value, int | float) and np.isfinite(value):
                target.append((float(step), float(value)))
    if not train and not val:
        return None
    return Curve(int(run.entry["seed"]), _pairs(train), _pairs(val))


def traces(run: Run) -> list[Trace]:
    """Controls of the held-out sessions of a mapper run, test sessions first; empty when it has no timelines."""
    data = run.entry["data"] if isinstance(run.entry["data"], dict) else {}
    stated = data.get("sessions")
    sessions: Mapping[str, Any] = stated if isinstance(stated, dict) else {}
    frames = _frames(run, data)
    found = []
    for split in ("test", "val"):
        for name in sessions.get(split) or []:
            file = inside(run.folder, f"controls/{name}_controls.parquet")
            trace = _trace(file, str(name), split, frames) if file is not None else None
            if trace is not None:
                found.append(trace)
    return found


def peaks(t: Trace) -> Peaks | None:
    """Density's peaks against the beat, picked as `metrics.phase` picks them; None when the beat is not known."""
    from choreo_cli.errors import DataError
    from choreo_cli.metrics.beat_grid import beats_from_phase
    from choreo_cli.metrics.phase import pick_peaks

    if t.phase is None:
        return None
    try:
        grid = beats_from_phase(t.t_s, t.phase)
        density = np.where(t.held, np.nan, t.controls[:, CONTROL_NAMES.index("density")])
        at = pick_peaks(t.t_s, density, grid.period_s).t_s
    except DataError:
        return None
    phases, index = grid.phase(at)
    inside = np.isfinite(phases)
    return Peaks(at[inside], phases[inside], index[inside], grid.period_s, grid.count)


def signed_phase(phase: F64) -> F64:
    """Phase in [0, 1) as distance from the nearest beat, [-0.5, 0.5)."""
    return np.asarray((phase + 0.5) % 1.0 - 0.5)


def lags(t: Trace) -> tuple[F64, F64] | None:
    """(lag in seconds, correlation of motion energy with density that much later), None without frames."""
    if t.energy is None:
        return None
    density = t.controls[:, CONTROL_NAMES.index("density")]
    step = float(np.median(np.diff(t.t_s)))
    reach = round(LAG_S / step)
    found = [(k * step, _pearson(t.energy, density, k)) for k in range(-reach, reach + 1)]
    pairs = np.array(found, float)
    return (pairs[:, 0], pairs[:, 1]) if np.isfinite(pairs[:, 1]).any() else None


def envelope(t: F64, y: F64, columns: int) -> tuple[F64, F64, F64, F64]:
    """At most `columns` points: (middle time, lowest, mean, highest) of equal stretches; NaN stretches are dropped."""
    cuts = np.array_split(np.arange(len(y)), min(columns, len(y)))
    kept = [c for c in cuts if np.isfinite(y[c]).any()]
    if not kept:
        return (np.empty(0),) * 4
    parts = [(t[c].mean(), np.nanmin(y[c]), np.nanmean(y[c]), np.nanmax(y[c])) for c in kept]
    a = np.array(parts, float)
    return a[:, 0], a[:, 1], a[:, 2], a[:, 3]


def _pearson(x: F64, y: F64, k: int) -> float:
    a, b = (x[: len(x) - k], y[k:]) if k >= 0 else (x[-k:], y[: len(y) + k])
    fine = np.isfinite(a) & np.isfinite(b)
    if fine.sum() < 3 or a[fine].std() == 0 or b[fine].std() == 0:
        return float("nan")
    return float(np.corrcoef(a[fine], b[fine])[0, 1])


def _frames(run: Run, data: Mapping[str, Any]) -> Any:
    """The FrameSet the run names, None when it is not there any more or is another one now."""
    from choreo_cli.dataset.frameset import read_frames
    from choreo_cli.errors import ChoreoError

    path = inside(run.root(str(data.get("root", ""))), str(data.get("path", ".")))
    if path is None:
        return None
    try:
        found = read_frames(path)
    except (ChoreoError, FormatError, OSError):
        return None
    return found if found.source["sha256"] == data.get("sha256") else None


def _trace(file: Path, name: str, split: str, frames: Any) -> Trace | None:
    from formats.tables import read_table

    try:
        table = read_table(file, CONTROLS)
    except (FormatError, OSError):
        return None
    t_us = np.asarray(table.column("t_us").to_numpy(), np.int64)
    if len(t_us) < 3:
        return None
    controls = np.stack([np.asarray(table.column(c).to_numpy(), float) for c in CONTROL_NAMES], axis=1)
    held = np.asarray(table.column("held").to_numpy(zero_copy_only=False), bool)
    energy, phase = _beside(frames, name, t_us)
    return Trace(name, split, (t_us - t_us[0]) / 1e6, controls, held, energy, phase)


def _beside(frames: Any, name: str, t_us: NDArray[np.int64]) -> tuple[F64 | None, F64 | None]:
    """Motion energy and beat phase at the rows of a timeline, by exact time."""
    from choreo_cli.dataset.frameset import NAMES

    session = next((s for s in frames.sessions if s.session_id == name), None) if frames is not None else None
    if session is None:
        return None, None
    times = np.asarray(frames.t_us[session.slice])
    rows = np.searchsorted(times, t_us).clip(0, len(times) - 1)
    same = times[rows] == t_us
    x = np.asarray(frames.x[session.slice], float)[rows]
    x[~same] = np.nan
    return x[:, NAMES.index("motion_energy")], x[:, NAMES.index("beat_phase")]


def _objects(file: Path) -> Iterable[dict[str, Any]]:
    """Lines of a log; the last may be cut, and a log is no evidence: a line that does not parse is passed over."""
    with open(file, encoding="utf-8", errors="replace") as f:
        for text in f:
            try:
                line = json.loads(text)
            except (ValueError, RecursionError):
                continue
            if isinstance(line, dict):
                yield line


def _train_loss(line: Mapping[str, Any]) -> Any:
    inner = line.get("train")
    if isinstance(inner, dict):
        return inner.get("loss")
    return None if _is_validation(line) else line.get("loss")


def _val_loss(line: Mapping[str, Any]) -> Any:
    for name in ("val", "validation", "validate"):
        if isinstance(line.get(name), dict):
            return line[name].get("loss")
    return line.get("loss") if _is_validation(line) else line.get("val_loss")


def _is_validation(line: Mapping[str, Any]) -> bool:
    return any(line.get(k) in ("val", "validation", "validate") for k in ("kind", "event", "what", "split"))


def _pairs(values: Sequence[tuple[float, float]]) -> F64:
    return np.array(values, float).reshape(-1, 2)
