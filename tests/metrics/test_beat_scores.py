"""Beat tracking scores and beat files: published vectors, hand-worked lists, and the grid they live on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from choreo_cli.errors import DataError, NoInputError
from choreo_cli.metrics import beats
from choreo_cli.metrics.beat_files import read_beats
from choreo_cli.metrics.beat_grid import beats_from_phase, grid_of

CASES = (
    "perfect", "shift_p20ms", "shift_p69ms", "shift_p71ms", "offbeat", "double", "half", "half_off", "jit30", "jit60",
    "drift_1000ppm", "missing20", "extra", "empty", "few",
)  # fmt: skip
REF = np.arange(5.0, 35.0, 0.5)


@pytest.mark.parametrize("case", CASES)
def test_scores_are_those_of_the_library(vectors: Path, case: str) -> None:
    want = json.loads((vectors / "beat_mireval.json").read_text())["cases"]
    assert set(want) == set(CASES)
    arrays = np.load(vectors / "beat_mireval.npz", allow_pickle=False)
    for name, value in beats.scores(arrays["ref"], arrays[f"est_{case}"]).items():
        assert value == pytest.approx(want[case][name], abs=1e-9), name


def test_small_lists_worked_by_hand() -> None:
    perfect = beats.scores(REF, REF)
    assert set(perfect.values()) == {1.0}
    assert beats.f_measure(REF, REF[::2]) == pytest.approx(2 / 3)
    assert beats.f_measure(REF, REF + 0.07 + 1e-6) == 0.0 and beats.f_measure(REF, REF + 0.069) == 1.0
    assert beats.cemgil(REF, REF + 0.04) == pytest.approx(np.exp(-0.5))
    assert beats.continuity(REF, REF + 0.25)[:3] == (0.0, 0.0, pytest.approx(59 / 60))
    broken = np.delete(REF, 30)  # 30 beats right, then one whose interval is double, then 28 right
    assert beats.continuity(REF, broken)[:2] == (30 / 60, 58 / 60)
    early = beats.scores(np.arange(0, 4, 0.5), np.arange(0, 4, 0.5))
    assert set(early.values()) == {0.0}, "all before the trim"


def test_unrelated_beats_score_near_chance() -> None:
    rng = np.random.default_rng(1)
    wild = [beats.scores(REF, np.sort(rng.uniform(5, 35, 60))) for _ in range(20)]
    assert np.mean([w["Information gain"] for w in wild]) < 0.25
    assert np.mean([w["Correct Metric Level Continuous"] for w in wild]) < 0.1


def test_too_few_beats_are_insufficient_and_not_zero() -> None:
    for est in (np.empty(0), np.array([1.0, 2.0, 6.0])):
        for e in beats.entries(REF, est):
            assert (
                e["value"] is None and e["status"] == "insufficient" and e["pass"] is None and "two of each" in e["why"]
            )
    assert {e["name"] for e in beats.entries(REF, REF)} == {f"beats.{k}" for k in beats.NAMES}


@pytest.mark.parametrize("bad", [[2.0, 1.0], [-1.0, 1.0], [np.nan, 1.0]])
def test_what_are_no_beats_is_refused(bad: list[float]) -> None:
    with pytest.raises(DataError):
        beats.scores(REF, np.array(bad))


def test_beats_are_read_from_files(tmp_path: Path) -> None:
    file = tmp_path / "track.beats"
    file.write_text("".join(f"{t:.6f}\n" for t in REF))
    assert read_beats(file) == pytest.approx(REF)
    (tmp_path / "notes.txt").write_text("no times here\n")
    with pytest.raises(DataError, match="no beat times"):
        read_beats(tmp_path / "notes.txt")
    with pytest.raises(NoInputError):
        read_beats(tmp_path / "absent.txt")


def test_phase_of_a_time_is_the_vectors(vectors: Path) -> None:
    v = np.load(vectors / "beat_phase.npz", allow_pickle=False)
    grid = grid_of(v["beats"])
    phase, index = grid.phase(v["t"])
    assert np.abs(phase - v["phase"]).max() <= 1e-12 and (index == v["idx"]).all()
    outside, none = grid.phase(np.array([[v["beats"][0] - 1e-6], [v["beats"][-1]]]))
    assert outside.shape == (2, 1) and np.isnan(outside).all() and (none == -1).all()
    assert grid.phase(v["beats"][:1])[0][0] == 0.0


def columns(bpm: float = 117.0, seconds: float = 60.0, ramp: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    t = np.arange(0.3, seconds, 0.02)
    turns = (t - 0.1) * bpm / 60 * (1 + ramp * t / seconds)
    return t, (turns % 1.0).astype(np.float32).astype(np.float64)


def test_beats_come_back_from_a_phase_column() -> None:
    t, phase = columns()
    grid = beats_from_phase(t, phase)
    want = 0.1 + 60 / 117 * np.arange(len(grid.beats_s))
    assert np.abs(grid.beats_s - want).max() < 1e-5
    assert grid.beats_s[0] <= t[0] and grid.beats_s[-1] > t[-1], "every frame lies in a beat"
    again, _ = grid.phase(t)
    assert np.abs((again - phase + 0.5) % 1.0 - 0.5).max() < 1e-4
    assert grid.period_s == pytest.approx(60 / 117, rel=1e-5)


def test_short_gaps_are_bridged_and_long_ones_are_not() -> None:
    t, phase = columns(ramp=0.05)
    whole = beats_from_phase(t, phase)
    short, long = phase.copy(), phase.copy()
    short[(t > 20) & (t < 23)] = np.nan
    long[(t > 20) & (t < 29)] = np.nan
    bridged = beats_from_phase(t, short)
    assert bridged.count == whole.count and np.abs(bridged.beats_s - whole.beats_s).max() < 0.02
    torn = beats_from_phase(t, long)
    assert torn.breaks.sum() == 2 and np.isnan(torn.phase(np.array([25.0]))[0]).all()
    assert np.isfinite(torn.phase(np.array([10.0, 40.0]))[0]).all()


def test_a_phase_that_jumps_behind_a_gap_is_not_bridged() -> None:
    t, phase = columns()
    late = t > 21
    phase[late] = (phase[late] + 0.4) % 1.0
    phase[(t > 20) & (t < 21)] = np.nan
    grid = beats_from_phase(t, phase)
    assert grid.breaks.sum() == 2 and np.isnan(grid.phase(np.array([20.5]))[0]).all()


@pytest.mark.parametrize("phase", [np.full(100, np.nan), np.zeros(100), np.linspace(0, 0.6, 100)])
def test_no_beat_at_all_is_said(phase: np.ndarray) -> None:
    with pytest.raises(DataError, match="no beats"):
        beats_from_phase(np.arange(100) * 0.02, phase)


def test_a_grid_needs_increasing_beats() -> None:
    for bad in ([1.0], [1.0, 1.0], [2.0, 1.0], [1.0, np.inf]):
        with pytest.raises(DataError):
            grid_of(np.array(bad))
