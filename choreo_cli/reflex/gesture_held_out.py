"""Run a gesture detector over held-out sessions and say how well it does, class by class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from choreo_cli.reflex.gesture_score import Judged, best_threshold, class_entry, counts, f1, worst_entry
from choreo_cli.reflex.inputs import PHASE
from formats.columns import MASKS

if TYPE_CHECKING:
    from choreo_cli.dataset.frameset import FrameSession, FrameSet
    from choreo_cli.reflex.gesture import Gesture, Rules
    from choreo_cli.reflex.gesture_labels import Labels

I64 = NDArray[np.int64]
F32 = NDArray[np.float32]

MOT = MASKS.index("m_mot")
MEASURED = 0.5  # a gesture counts when this share of its first `delay` frames has motion
GRID = tuple(round(0.05 * k, 2) for k in range(2, 19))


class Scored(NamedTuple):
    """Scores of one unbroken run: rows [start, stop) of the frames, (n, K) scores."""

    session: str
    start: int
    stop: int
    scores: F32


def scored(model: Gesture, frames: FrameSet, sessions: Sequence[FrameSession]) -> list[Scored]:
    """Scores of every unbroken run of some sessions."""
    found = []
    for s in sessions:
        for start, stop in runs_of(frames, s).tolist():
            rows = slice(start, stop)
            found.append(Scored(s.session_id, start, stop, model.scores(frames.x[rows], frames.mask[rows])))
    return found


def runs_of(frames: FrameSet, session: FrameSession) -> I64:
    """(R, 2) unbroken rows [start, stop) of one session."""
    from choreo_cli.dataset.windows import Stretch, runs

    start, stop, _ = runs(frames.t_us, [Stretch(session.session_id, session.row_start, session.rows)], frames.step_us)
    return np.stack([start, stop], axis=1)


def observable(frames: FrameSet, runs: I64, onsets_us: I64, rules: Rules) -> NDArray[np.bool_]:
    """Which onsets could be detected at all: inside a run, decided before it ends, motion measured for long enough."""
    out = np.zeros(len(onsets_us), bool)
    for start, stop in runs.tolist():
        first, last = int(frames.t_us[start]), int(frames.t_us[stop - 1])
        row = start + np.rint((onsets_us - first) / frames.step_us).astype(np.int64)
        inside = (onsets_us >= first) & (onsets_us <= last) & (row + rules.latency < stop)
        for k in np.flatnonzero(inside).tolist():
            out[k] = frames.mask[row[k] : row[k] + rules.delay, MOT].mean() >= MEASURED
    return out


def judged(
    frames: FrameSet, runs: Sequence[Scored], labels: Labels, label: str, k: int, rules: Rules, tolerance_us: int
) -> tuple[list[Judged], int]:
    """One class in every session that has labels, and how many true onsets could not be observed.

    Args:
        frames: Where rows and times are.
        runs: Scores of unbroken runs.
        labels: True onsets.
        label: The class.
        k: Its column in the scores.
        rules: Peak picking.
        tolerance_us: How far an onset may lie from the true one.
    """
    from choreo_cli.reflex.gesture import peaks

    found, lost = [], 0
    for session in dict.fromkeys(r.session for r in runs):
        if session not in labels.onsets:
            continue
        own = [r for r in runs if r.session == session]
        events = [
            int(frames.t_us[r.start + t - rules.delay]) for r in own for t, _, _ in peaks(r.scores[:, k : k + 1], rules)
        ]
        true = labels.of(session, label)
        seen = observable(frames, np.array([(r.start, r.stop) for r in own], np.int64), true, rules)
        lost += int((~seen).sum())
        # What is found where nothing was asked for is neither a hit nor a mistake.
        kept = [t for t in events if not (np.abs(true[~seen] - t) <= tolerance_us).any()]
        spans = np.array([(frames.t_us[r.start], frames.t_us[r.stop - 1]) for r in own], np.int64)
        found.append(Judged(session, true[seen], np.array(sorted(kept), np.int64), spans, _beats(frames, own)))
    return found, lost


def _beats(frames: FrameSet, runs: Sequence[Scored]) -> I64:
    """Times at which the beat phase wraps."""
    found = []
    for r in runs:
        phase = np.asarray(frames.x[r.start : r.stop, PHASE], np.float64)
        with np.errstate(invalid="ignore"):
            found.append(frames.t_us[r.start + 1 + np.flatnonzero(np.diff(phase) < -0.5)])
    return np.concatenate(found) if found else np.empty(0, np.int64)


def pick_threshold(
    model: Gesture, frames: FrameSet, sessions: Sequence[FrameSession], labels: Labels, tolerance_us: int
) -> tuple[float, dict[float, float]]:
    """The threshold with the highest F1, averaged over the classes that occur, and F1 at every threshold tried."""
    from dataclasses import replace

    runs = scored(model, frames, sessions)
    by: dict[float, float] = {}
    for threshold in GRID:
        rules = replace(model.rules, threshold=threshold)
        values = []
        for k, label in enumerate(model.shape.classes):
            table = counts(judged(frames, runs, labels, label, k, rules, tolerance_us)[0], tolerance_us).sum(axis=0)
            if table[1]:
                values.append(float(f1(*table)))
        by[threshold] = float(np.mean(values)) if values else 0.0
    return best_threshold(by), by


def held_out_entries(
    model: Gesture,
    frames: FrameSet,
    sessions: Sequence[FrameSession],
    labels: Labels,
    *,
    tolerance_ms: int,
    seed: int = 0,
) -> tuple[list[dict[str, Any]], list[str]]:
    """`gesture_f1_<label>` for every class, and the worst of them; with sentences on what was left out."""
    runs, notes = scored(model, frames, sessions), []
    entries = []
    for k, label in enumerate(model.shape.classes):
        found, lost = judged(frames, runs, labels, label, k, model.rules, tolerance_ms * 1000)
        told = {"threshold": model.rules.threshold, "not_observable": lost, "latency_ms": latency_ms(model.rules)}
        entries.append(class_entry(label, found, tolerance_ms=tolerance_ms, seed=seed, params=told))
        if lost:
            notes.append(f"{lost} onsets of {label} lie where motion is missing or the recording ends: not counted")
    unknown = sorted(set(labels.classes([s.session_id for s in sessions])) - set(model.shape.classes))
    if unknown:
        notes.append(f"labels the detector was never shown: {', '.join(unknown)}")
    return [*entries, worst_entry(entries)], notes


def latency_ms(rules: Rules, step_us: int = 20_000) -> float:
    """From an onset to its event, ms."""
    return rules.latency * step_us / 1000
