"""M7: events on bar lines only, no spam whatever comes in, and the right bars on sessions with known sections."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from choreo_cli.dataset.frameset import read_frames
from choreo_cli.errors import DataError
from choreo_cli.reflex.bars import beat_numbers
from choreo_cli.reflex.planner import EVENTS, Planner, Rules
from choreo_cli.reflex.planner_score import plan, score_planner
from tests.reflex.lookahead_cases import frame_set, synthetic_set

Frame = tuple[int, float, float, float | None]


@st.composite
def sessions(draw: st.DrawFn) -> list[Frame]:
    """Frames with tempo changes, jumps, missing beats, dropouts, NaN and infinite values, with or without look-ahead."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    wild = draw(st.floats(0, 1))
    jumps, holes = draw(st.sampled_from([0.0, 0.002, 0.02])), draw(st.sampled_from([0.0, 0.01, 0.3]))
    ahead = draw(st.sampled_from(["none", "noise", "nan"]))
    position, rate, level = 0.0, 0.04, 0.3
    found: list[Frame] = []
    for _ in range(draw(st.integers(0, 1500))):
        position += rate
        if rng.random() < 0.01:
            rate = rng.uniform(0.01, 0.5)
        if rng.random() < 0.01:
            level = rng.uniform(0, 1)
        if rng.random() < jumps:
            position = max(0.0, position + rng.uniform(-12, 12))
        beat = -1 if rng.random() < holes / 10 else math.floor(position)
        value = level + wild * rng.normal()
        value = rng.choice([math.nan, math.inf, -math.inf, -3.0]) if rng.random() < holes else value
        coming = {"none": None, "noise": float(rng.uniform(0, 1)), "nan": math.nan}[ahead]
        found.append((beat, float(value), float(rng.uniform(0, 1)), coming))
    return found


@given(sessions(), st.integers(1, 7), st.integers(1, 3))
def test_events_lie_on_bar_lines_and_never_crowd(frames: list[Frame], per_bar: int, refractory: int) -> None:
    planner = Planner(Rules(beats_per_bar=per_bar, refractory_bars=refractory))
    before, lines, last = -1, 0, None
    for beat, activity, accent, ahead in frames:
        event = planner.step(beat, activity, accent, ahead)
        is_line = beat >= 0 and before >= 0 and beat == before + 1 and beat % per_bar == 0
        lines += is_line
        if event is not None:
            assert is_line and event.beat == beat and event.kind in EVENTS
            assert math.isfinite(event.strength) and event.strength != 0
            # At least `refractory` bar lines without an event lie between two events.
            assert last is None or lines - last > refractory
            last = lines
        before = beat


@given(sessions())
def test_the_same_frames_give_the_same_events_and_reset_forgets_all(frames: list[Frame]) -> None:
    planner = Planner()
    first = [planner.step(*f) for f in frames]
    planner.reset()
    again = [planner.step(*f) for f in frames]
    assert first == again == [Planner.step(p, *f) for p in [Planner()] for f in frames]


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0.01, 0.2), st.one_of(st.none(), st.floats(0, 1)))
def test_constant_input_gives_no_event(activity: float, accent: float, rate: float, ahead: float | None) -> None:
    planner = Planner()
    assert [e for k in range(2000) if (e := planner.step(math.floor(k * rate), activity, accent, ahead))] == []


def bars_of(levels: list[float], accents: list[list[float]] | None = None) -> list[tuple[int, float, float, None]]:
    """25 frames a beat, four beats a bar, one activity level per bar and one accent per beat."""
    return [
        (4 * bar + beat, level, accents[bar][beat] if accents else 0.2, None)
        for bar, level in enumerate(levels)
        for beat in range(4)
        for _ in range(25)
    ]


def told(frames: list[tuple[int, float, float, None]], rules: Rules | None = None) -> list[tuple[int, str]]:
    planner = Planner(rules)
    return [(e.beat // 4, e.kind) for f in frames if (e := planner.step(*f))]


@pytest.mark.parametrize(
    ("levels", "want"),
    [
        ([0.2] * 6 + [0.26] * 6 + [0.2], [(7, "energy_up")]),
        ([0.2] * 6 + [0.6] * 6 + [0.6], [(7, "drop")]),
        ([0.6] * 6 + [0.2] * 6 + [0.2], [(7, "break")]),
        ([0.3] * 6 + [0.24] * 6 + [0.24], [(7, "energy_down")]),
        ([0.2] * 6 + [0.21] * 6 + [0.2], []),
        ([0.3, 0.3, 0.3, 0.33, 0.37, 0.42, 0.48, 0.48], [(6, "build")]),
        # The second change falls into the refractory of the first: no event, and no late one either.
        ([0.2] * 6 + [0.5, 0.2] + [0.2] * 6, [(7, "energy_up")]),
    ],
)
def test_what_each_event_means(levels: list[float], want: list[tuple[int, str]]) -> None:
    rules = Rules(big=0.95) if want == [(7, "energy_up")] else Rules()
    assert told(bars_of(levels), rules) == want


def test_a_last_beat_that_stands_out_is_a_fill() -> None:
    accents = [[0.2] * 4 for _ in range(10)]
    accents[5] = [0.2, 0.2, 0.2, 0.9]
    assert told(bars_of([0.3] * 10, accents)) == [(6, "fill")]


def test_a_bar_with_a_hole_is_not_judged() -> None:
    frames = bars_of([0.2] * 6 + [0.6] * 2)
    holed = [(-1 if 700 <= k < 720 else f[0], *f[1:]) for k, f in enumerate(frames)]
    assert told(frames) == [(7, "drop")]
    assert told(holed) == []


def test_a_look_ahead_announces_the_bar_that_begins_and_a_bad_one_is_not_believed() -> None:
    # Sections of 8 bars; the look-ahead knows the next bar, on a scale of its own.
    levels = [0.2 if (k // 8) % 2 else 0.5 for k in range(48)]
    frames = bars_of(levels)

    def run(guess: list[float]) -> list[tuple[int, bool]]:
        planner = Planner()
        coming = [guess[min(f[0] // 4, 47)] for f in frames]
        return [
            (e.beat // 4, e.announced) for f, a in zip(frames, coming, strict=True) if (e := planner.step(*f[:3], a))
        ]

    changes = [8, 16, 24, 32, 40]
    assert run([math.nan] * 48) == [(c + 1, False) for c in changes]
    good = run([0.4 * v for v in levels])
    assert [bar for bar, announced in good if announced] == changes
    assert len(good) == len(changes)
    noise = np.random.default_rng(0).uniform(0.05, 1.0, 48)
    bad = run(noise.tolist())
    assert sum(announced for _, announced in bad) <= 3 < len([b for b, a in bad if not a])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic_set(tmp_path_factory.mktemp("planner"), sessions=3, minutes=2, seed=7)


def test_right_bars_on_known_sections_and_chance_when_there_are_none(folder: Path) -> None:
    right, spam = score_planner(None, read_frames(folder))
    assert right["pass"] and spam["pass"]
    assert right["value"] > 0.9 > right["chance"] + 0.2 and right["p"] <= 0.01
    assert spam["value"] < 1 < spam["chance"]
    assert right["params"]["truth"] == ["sections"] and right["n"] > 15


def test_controls_of_a_run_drive_it_and_sessions_without_are_left_out(folder: Path, tmp_path: Path) -> None:
    from choreo_cli.reflex.timelines import file_name
    from formats.columns import CONTROL_NAMES, CONTROLS
    from formats.tables import to_arrow, write_table

    frames = read_frames(folder)
    session = frames.sessions[1]
    x = frames.x[session.slice]
    columns = dict.fromkeys(CONTROL_NAMES, x[:, 0])
    table = to_arrow(CONTROLS, {
        "session_id": [session.session_id] * session.rows, "t_us": frames.t_us[session.slice], **columns,
        "held": np.zeros(session.rows, bool), "synthetic": np.ones(session.rows, bool),
    })  # fmt: skip
    (tmp_path / "controls").mkdir()
    write_table(tmp_path / "controls" / file_name(session.session_id, "controls"), CONTROLS, table)
    right, _ = score_planner(tmp_path, frames)
    assert right["params"]["sessions"] == 1 and right["value"] > 0.8
    with pytest.raises(DataError, match="no session can be judged: none has controls"):
        score_planner(tmp_path / "controls", frames)


def test_frames_without_beats_are_refused_in_one_line() -> None:
    frames = frame_set(np.full(500, np.nan))
    with pytest.raises(DataError, match="s0: fewer than four bars with beats"):
        score_planner(None, frames)


def test_beats_are_counted_through_gaps() -> None:
    position = np.arange(3000) * 0.041 + 0.03
    phase, true = position % 1, np.floor(position).astype(int)
    assert np.array_equal(beat_numbers(phase, 20_000), true)
    phase[700:1100] = np.nan
    counted = beat_numbers(phase, 20_000)
    assert (counted[700:1100] == -1).all()
    assert np.array_equal(counted[1100:], true[1100:])


def test_plan_is_the_planner_frame_by_frame() -> None:
    frames = bars_of([0.2] * 6 + [0.6] * 6)
    beats, activity, accent = (np.array([f[k] for f in frames]) for k in range(3))
    assert [(row, e.kind) for row, e in plan(beats, activity, accent)] == [(700, "drop")]
