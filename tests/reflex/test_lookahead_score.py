"""The judgement of a look-ahead: baselines on the session's own beat, perfect and useless predictors, bad sessions."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from choreo_cli.errors import DataError
from choreo_cli.reflex.bars import TICKS
from choreo_cli.reflex.lookahead import HORIZONS, Shape
from choreo_cli.reflex.lookahead_score import (
    BASELINES,
    bootstrap,
    entries_of,
    errors_of,
    held_out,
    least_ticks,
    skill_of,
    table,
)
from choreo_cli.reflex.lookahead_ticks import tick_set
from tests.reflex.lookahead_cases import frame_set

SHAPE = Shape()


class Made:
    """An M1 whose latents are a function of the row: (row) -> value, the same in all 104 dimensions."""

    normalizer = SimpleNamespace(apply=lambda z: z)

    def __init__(self, value: Any) -> None:
        self.value = value

    def latents(self, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        return np.repeat(self.value(x)[:, None], 104, axis=1).astype(np.float32)


def phases(bpm: float, n: int, start: float = 0.013) -> np.ndarray:
    return (start + bpm / 60 * 0.02 * np.arange(n)) % 1


def nothing(z: np.ndarray, index: np.ndarray, rate: np.ndarray) -> np.ndarray:
    return np.zeros((len(z) - SHAPE.field + 1, len(HORIZONS), z.shape[1]), np.float32)


@pytest.mark.parametrize("bpm", [92, 120, 140])
def test_one_beat_ago_is_one_beat_of_this_session(bpm: float) -> None:
    # Latents that are a function of the place in the beat: one beat and one bar ago are right at every tempo.
    # 92 and 140 beats/min are no whole number of frames per beat, so what is left is a frame's rounding.
    frames = frame_set(phases(bpm, 2500))
    ticks = tick_set(Made(lambda x: np.sin(2 * np.pi * x[:, 10])), frames, "test", least_ticks(SHAPE) + 1)
    means = table(errors_of(nothing, SHAPE, ticks))
    for name in ("one_beat_ago", "two_beats_ago", "one_bar_ago"):
        assert means[name].max() < 0.1
    assert means["model"].min() > 0.6
    # Repeat-last is right at whole beats, wrong at half ones.
    assert means["repeat_last"][HORIZONS.index(TICKS)] < 0.1 < 0.9 < means["repeat_last"][HORIZONS.index(TICKS // 2)]


def noisy(seed: int = 0) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=10_000)
    frames = frame_set(phases(120, 2500), phases(92, 2500), phases(140, 2500))
    row = {v.tobytes(): k for k, v in enumerate(frames.x)}
    return frames, Made(lambda x: np.array([values[row[np.asarray(v).tobytes()]] for v in x]))


def test_noise_gives_the_median_its_known_skill() -> None:
    # |N - N'| has mean 2/sqrt(pi), |N| has sqrt(2/pi): saying the median is better by 1 - 1/sqrt(2).
    frames, rps = noisy()
    ticks = tick_set(rps, frames, "test", least_ticks(SHAPE) + 1)
    errors = errors_of(nothing, SHAPE, ticks)
    means = table(errors)
    assert np.allclose(means["model"], np.sqrt(2 / np.pi), atol=0.05)
    assert np.allclose(means["one_bar_ago"], 2 / np.sqrt(np.pi), atol=0.08)
    skill, draws = skill_of(means)[-1], bootstrap(errors)[:, -1]
    assert abs(skill - (1 - 1 / np.sqrt(2))) < 0.05
    assert np.quantile(draws, 0.025) < skill < np.quantile(draws, 0.975)
    entries = {e["name"]: e for e in entries_of(errors, SHAPE)}
    gate = entries["lookahead.skill"]
    assert gate["pass"] and gate["params"]["sessions"] == 3 and gate["ci"][0] > 0
    assert {f"lookahead.skill_at_{h / TICKS:g}_beats" for h in HORIZONS} < set(entries)


def test_a_predictor_that_repeats_a_baseline_fails_the_gate() -> None:
    frames, rps = noisy()
    ticks = tick_set(rps, frames, "test", least_ticks(SHAPE) + 1)

    def repeat(z: np.ndarray, index: np.ndarray, rate: np.ndarray) -> np.ndarray:
        return np.repeat(z[SHAPE.field - 1 :, None], len(HORIZONS), axis=1)

    errors = errors_of(repeat, SHAPE, ticks)
    means = table(errors)
    assert np.array_equal(means["model"], means["repeat_last"])
    entries = {e["name"]: e for e in entries_of(errors, SHAPE)}
    assert entries["lookahead.skill"]["value"] <= 0
    assert entries["lookahead.skill"]["pass"] is False
    assert set(entries["lookahead.skill"]["params"]["mae"]) == {"model", "two_sided", *BASELINES}


def test_sessions_weigh_the_same_however_long_they_are() -> None:
    frames = frame_set(phases(120, 4000), phases(120, 1000))
    rps = Made(lambda x: np.where(np.isin(x[:, 0], frames.x[4000:, 0]), 3.0, 1.0))
    ticks = tick_set(rps, frames, "test", least_ticks(SHAPE) + 1)
    assert np.allclose(table(errors_of(nothing, SHAPE, ticks))["model"], 2.0)


def test_sessions_without_enough_beats_are_left_out_and_said_so() -> None:
    still, short = np.full(800, np.nan), phases(120, 100)
    gaps = phases(120, 2500)
    gaps[100] = np.nan
    frames = frame_set(still, short, gaps)
    rps = Made(lambda x: x[:, 0])
    found = tick_set(rps, frames, "test", least_ticks(SHAPE) + 1)
    assert found.sessions == ["s2"]
    assert found.notes == [
        "s0: no frame has both body and beat",
        "s1: its longest stretch has 4.0 beats, need 14.0",
        "s2: 4 beats lie in stretches too short to use",
    ]
    with pytest.raises(DataError, match="no session can be used: s0: no frame has both body and beat"):
        tick_set(rps, frame_set(still), "test", least_ticks(SHAPE))


def test_rows_without_a_measured_body_break_a_stretch() -> None:
    frames = frame_set(phases(120, 2500))
    frames.mask[1200, 0] = False
    found = tick_set(Made(lambda x: x[:, 0]), frames, "test", 10)
    assert len(found.stretches) == 2
    assert 1200 not in np.concatenate([s.ticks.row for s in found.stretches])


def test_other_data_are_judged_whole_and_own_data_on_what_was_held_out() -> None:
    frames = frame_set(phases(120, 100))
    assert held_out(frames, "0" * 64) == ("test",)
    assert set(held_out(frames, "1" * 64)) == {"train", "val", "test", "none"}
    assert held_out(frame_set(phases(120, 100), split="val"), "0" * 64) == ("val",)


def test_latents_that_are_not_kept_are_the_same(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from choreo_cli.reflex import lookahead_ticks

    frames = frame_set(phases(120, 2500))
    ticks = tick_set(Made(lambda x: x[:, 0]), frames, "test", 10)
    kept = ticks.latents(0, 30, 90)
    monkeypatch.setattr(lookahead_ticks, "KEEP_TICKS", 1)
    assert np.array_equal(kept, ticks.latents(0, 30, 90)) and len(kept) == 60
    assert len(ticks.latents(0)) == len(ticks.stretches[0])


def test_long_sessions_are_judged_in_parts_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    from choreo_cli.reflex import lookahead_score, lookahead_ticks
    from choreo_cli.reflex.lookahead import Lookahead
    from choreo_cli.reflex.lookahead_ticks import bar_activity

    frames, rps = noisy()
    rng, shape = np.random.default_rng(1), Shape(channels=8)
    arrays = {k: rng.normal(0, 0.1, s).astype(np.float32) for k, s in shape.weights().items()}
    reading = {"activity.weight": rng.normal(0, 0.01, 104).astype(np.float32), "activity.bias": np.full(1, 0.5)}
    model = Lookahead(shape, {**arrays, **reading})
    ticks = tick_set(rps, frames, "test", least_ticks(shape) + 1)

    def judged() -> tuple[int, dict[str, np.ndarray], np.ndarray]:
        errors = errors_of(model.predict, shape, ticks)
        return len(errors), table(errors), bar_activity(model, rps, frames, frames.sessions[1])

    whole = judged()
    monkeypatch.setattr(lookahead_score, "AT_ONCE", 128)
    monkeypatch.setattr(lookahead_ticks, "AT_ONCE", 100)
    parts = judged()
    assert whole[0] == 3 < parts[0]
    for name in whole[1]:
        assert np.allclose(whole[1][name], parts[1][name], atol=1e-6)
    assert np.allclose(whole[2], parts[2], atol=1e-5, equal_nan=True)
    # Every frame from two bars on knows something.
    known = np.isfinite(whole[2])
    first = int(np.flatnonzero(known)[0])
    assert 127 * 50 / 16 / (92 / 60) - 2 < first < 127 * 50 / 16 / (92 / 60) + 3 and known[first:-3].all()
