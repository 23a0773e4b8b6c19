"""How right the planner is: changes of section it finds within a bar, and events where nothing changed.

Sections are those of the `meta.json` beside a synthetic session. Other sessions have no truth: there a change is a
step of the music's loudness, which the planner never sees. Chance is what the same events reach when the sections are
shifted around the session.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.errors import DataError
from choreo_cli.reflex.bars import beat_numbers
from choreo_cli.reflex.planner import Event, Planner, Rules
from formats.columns import CONTROLS, INPUTS
from formats.metrics import entry

if TYPE_CHECKING:
    from choreo_cli.dataset.frameset import FrameSession, FrameSet

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

NAMES = [c.name for c in INPUTS]
LOUDNESS = NAMES.index("audio_energy")
LOUDNESS_STEP = 0.06
"""Change of loudness (0..1 over 60 dB: 3.6 dB) over four bars on each side that counts as a change of section."""
SHIFTS = 999
GOAL_RIGHT, GOAL_SPAM = 0.8, 1.0
Ahead = Callable[["FrameSession"], F64]


@dataclass(frozen=True, slots=True)
class Judged:
    """One session.

    Args:
        session_id: Whose.
        changes: Bar number of every change of section.
        steps: Size of each change, in the unit of the truth.
        events: What the planner said, with the bar each lies in.
        bars: Bars of the session.
        minutes: Its length.
        truth: `sections` or `loudness`.
    """

    session_id: str
    changes: I64
    steps: F64
    events: list[tuple[int, Event]]
    bars: int
    minutes: float
    truth: str


def score_planner(
    folder: Path | None, frames: FrameSet, *, rules: Rules | None = None, ahead: Ahead | None = None
) -> list[dict[str, Any]]:
    """Entries `planner.right_bars` and `planner.spam`.

    Args:
        folder: A mapper's run folder: sessions with a `controls/<session>_controls.parquet` are judged by their
            density and fx_send. None judges every session by motion_energy and jerk.
        frames: The sessions' frames.
        rules: The planner's.
        ahead: A session to (rows,) mean activity of the bar that each frame would begin, NaN = unknown.

    Raises:
        DataError: no session has beats, body and a change of section.
    """
    rules = rules or Rules()
    judged, left_out = [], []
    for session in frames.sessions:
        found = _judge_session(folder, frames, session, rules, ahead)
        if isinstance(found, Judged):
            judged.append(found)
        elif found:
            left_out.append(f"{session.session_id}: {found}")
    if not judged:
        raise DataError(f"no session can be judged: {left_out[0] if left_out else 'none has controls'}")
    return _entries(judged, left_out, rules)


def plan(
    beats: I64, activity: F64, accent: F64, rules: Rules | None = None, ahead: F64 | None = None
) -> list[tuple[int, Event]]:
    """(row, event) of everything the planner says about consecutive frames."""
    planner, found = Planner(rules), []
    coming = [None] * len(beats) if ahead is None else ahead.tolist()
    for row, frame in enumerate(zip(beats.tolist(), activity.tolist(), accent.tolist(), coming, strict=True)):
        event = planner.step(*frame)
        if event is not None:
            found.append((row, event))
    return found


def _judge_session(
    folder: Path | None, frames: FrameSet, session: FrameSession, rules: Rules, ahead: Ahead | None
) -> Judged | str:
    """The session judged, or why it is left out ('' when it is none of ours)."""
    x = np.asarray(frames.x[session.slice], np.float64)
    drive = _controls(folder, session) if folder is not None else (x[:, 0], x[:, NAMES.index("jerk")])
    if drive is None:
        return ""
    if len(drive[0]) != len(x):
        return f"{len(drive[0])} rows of controls for {len(x)} frames"
    beats = beat_numbers(x[:, NAMES.index("beat_phase")], frames.step_us)
    per_bar = rules.beats_per_bar
    bars = int(beats.max(initial=-1)) // per_bar
    if bars < 4:
        return "fewer than four bars with beats"
    if not np.isfinite(drive[0]).any():
        return "no frame has a measured body"
    told = plan(beats, *drive, rules, None if ahead is None else ahead(session))
    t_us = np.asarray(frames.t_us[session.slice])
    truth = _sections(frames, session, beats, t_us, per_bar)
    name = "sections" if truth is not None else "loudness"
    changes, steps = truth if truth is not None else _loudness(x[:, LOUDNESS], beats, per_bar)
    if not len(changes):
        return "no change of section"
    minutes = float(t_us[-1] - t_us[0]) / 6e7
    events = [(e.beat // rules.beats_per_bar, e) for _, e in told]
    return Judged(session.session_id, changes, steps, events, bars, minutes, name)


def _controls(folder: Path | None, session: FrameSession) -> tuple[F64, F64] | None:
    from formats.tables import read_table

    file = Path(folder or ".") / "controls" / f"{session.session_id.replace('/', '_')}_controls.parquet"
    if not file.is_file():
        return None
    table = read_table(file, CONTROLS)
    held = np.asarray(table.column("held").to_numpy(zero_copy_only=False), bool)
    return tuple(  # type: ignore[return-value]
        np.where(held, np.nan, np.asarray(table.column(name).to_numpy(), np.float64)) for name in ("density", "fx_send")
    )


def _sections(frames: FrameSet, session: FrameSession, beats: I64, t_us: I64, per_bar: int) -> tuple[I64, F64] | None:
    """(C,) bars in which a section of a synthetic session begins, and the step of its log level; None without truth."""
    from formats.errors import FormatError
    from formats.jsonstrict import loads

    file = frames.folder / session.session_id / "meta.json"
    if not (session.synthetic and file.is_file()):
        return None
    try:
        sections = loads(file.read_bytes(), file=file)["body_sections"]
        starts = np.array([s["start_us"] for s in sections[1:]], np.int64)
        level = np.array([s["level"] for s in sections], np.float64)
    except (KeyError, TypeError, ValueError):
        raise FormatError("has no body_sections with start_us and level", file=file) from None
    row = np.searchsorted(t_us, starts)
    known = row < len(t_us)
    known[known] = beats[row[known]] >= 0
    # The first frame of a section may still be told to the beat before it: the nearest bar line is meant.
    bars = np.round(beats[row[known]] / per_bar).astype(np.int64)
    return bars, np.diff(np.log(np.maximum(level, 1e-3)))[known]


def _loudness(energy: F64, beats: I64, per_bar: int) -> tuple[I64, F64]:
    """(C,) bars in which the music's loudness steps, and the steps: local maxima of four bars against four."""
    bar = beats // per_bar
    count = int(bar.max()) + 1
    use = (beats >= 0) & np.isfinite(energy)
    n = np.bincount(bar[use], minlength=count)
    mean = np.bincount(bar[use], energy[use], minlength=count) / np.where(n > 0, n, np.nan)
    found = []
    step = np.full(count, np.nan)
    for k in range(4, count - 3):
        step[k] = mean[k : k + 4].mean() - mean[k - 4 : k].mean()
    size = np.nan_to_num(np.abs(step))
    for k in range(4, count - 3):
        if size[k] >= LOUDNESS_STEP and size[k] == size[max(0, k - 3) : k + 4].max():
            found.append(k)
    bars = np.array(found, np.int64)
    return bars, step[bars]


def _hits(changes: I64, events: I64) -> NDArray[np.bool_]:
    """(C,) whether an event lies within one bar of each change."""
    if not len(events):
        return np.zeros(len(changes), bool)
    return np.asarray((np.abs(changes[:, None] - events[None, :]) <= 1).any(axis=1))


def _entries(judged: list[Judged], left_out: list[str], rules: Rules) -> list[dict[str, Any]]:
    at = {j.session_id: np.array([bar for bar, _ in j.events], np.int64) for j in judged}
    hits = [_hits(j.changes, at[j.session_id]) for j in judged]
    shares = np.array([h.mean() for h in hits])
    spam = np.array([float((~_hits(at[j.session_id], j.changes)).sum()) / j.minutes for j in judged])
    chance, chance_spam, p = _chance(judged, at, float(shares.mean()))
    kinds: dict[str, int] = {}
    for j in judged:
        for _, e in j.events:
            kinds[e.kind] = kinds.get(e.kind, 0) + 1
    total = sum(len(j.changes) for j in judged)
    big = np.concatenate([h[np.abs(j.steps) >= rules.step] for h, j in zip(hits, judged, strict=True)])
    said = sum(kinds.values())
    params = {
        "sessions": len(judged), "tolerance_bars": 1, "truth": sorted({j.truth for j in judged}), "kinds": kinds,
        "events": said, "announced": sum(e.announced for j in judged for _, e in j.events),
        "exact": float(np.mean([np.isin(j.changes, at[j.session_id]).mean() for j in judged])),
        "right_of_audible": float(big.mean()) if len(big) else None, "audible": len(big),
        "shifts": SHIFTS, "left_out": left_out,
    }  # fmt: skip
    low_high = _interval(shares), _interval(spam)
    why = None if {j.truth for j in judged} == {"sections"} else "no section truth: loudness of the music stands in"
    return [
        entry(
            "planner.right_bars", float(shares.mean()), "1", "higher", n=total, ci=low_high[0], chance=chance,
            goal=(">=", GOAL_RIGHT), p=p, p_max=0.01, params=params, why=why,
            status="ok" if total >= 8 else "insufficient",
        ),
        entry(
            "planner.spam", float(spam.mean()), "events/min", "lower", n=said, ci=low_high[1],
            chance=chance_spam, goal=("<=", GOAL_SPAM), params={"sessions": len(judged), "tolerance_bars": 1}, why=why,
        ),
    ]  # fmt: skip


def _interval(values: F64) -> list[float] | None:
    """95 % interval of the mean over sessions, by bootstrap; None for a single session."""
    if len(values) < 2:
        return None
    draws = np.random.default_rng(0).integers(0, len(values), (1000, len(values)))
    return [float(v) for v in np.quantile(values[draws].mean(axis=1), [0.025, 0.975])]


def _chance(judged: list[Judged], at: dict[str, I64], value: float) -> tuple[float, float, float]:
    """Mean share and mean false events per minute with shifted sections, and how often the share is reached."""
    rng = np.random.default_rng(0)
    shares, spams = np.empty(SHIFTS), np.empty(SHIFTS)
    for k in range(SHIFTS):
        right, wrong = [], []
        for j in judged:
            shift = rng.integers(2, max(3, j.bars - 1))
            moved = (j.changes + shift) % (j.bars + 1)
            right.append(_hits(moved, at[j.session_id]).mean())
            wrong.append(float((~_hits(at[j.session_id], moved)).sum()) / j.minutes)
        shares[k], spams[k] = np.mean(right), np.mean(wrong)
    return float(shares.mean()), float(spams.mean()), float((1 + (shares >= value).sum()) / (1 + SHIFTS))
