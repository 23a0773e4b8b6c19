"""Gates of a generator: statistics against hand-made tables, and that each gate falls for the twin that deserves it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from generation_material import CLIPS, SEEDS, arm, beats, bench, dancing, features_of

from choreo_cli.metrics import generation_clip as one
from choreo_cli.metrics import generation_sets as sets
from choreo_cli.metrics import generation_stats as stats
from choreo_cli.metrics import generation_tasks as tasks
from choreo_cli.metrics import generation_verdicts as verdicts
from choreo_cli.metrics.generation_gates import GATES, figure_entries

RNG = np.random.default_rng


def by_name(entries: Any) -> dict[str, Any]:
    found = {e["name"]: e for e in entries}
    assert len(found) == len(list(entries))
    return found


# Statistics.


def test_an_interval_covers_what_it_should_and_a_paired_one_is_narrower() -> None:
    rng = RNG(0)
    units = stats.units_of([str(k // 2) for k in range(40)], list(range(40)))
    assert units.count == 20 and "20 held-out groups" in units.what
    inside = 0
    for trial in range(60):
        x = 1.0 + rng.standard_normal((1, 40))
        found = stats.mean(x, units, RNG(trial), draws=499)
        assert found.ci is not None
        inside += found.ci[0] <= 1.0 <= found.ci[1]
    assert inside >= 50
    base = rng.standard_normal((3, 40))
    near = base + 0.1 + 0.01 * rng.standard_normal((3, 40))
    paired, apart = stats.difference(near, base, units, RNG(0)), stats.unpaired(near, base, units, RNG(0))
    assert paired.value == pytest.approx(0.1, abs=0.01) and apart.value == pytest.approx(paired.value)
    assert paired.half is not None and apart.half is not None and paired.half < 0.02 < apart.half
    assert len(paired.seeds) == 3 and paired.n == 120


def test_seeds_widen_an_interval_and_missing_clips_are_left_out() -> None:
    units = stats.units_of(["a"] * 10, list(range(10)))
    assert units.count == 10 and "too few to draw from" in units.what
    seeds = np.array([[0.0], [0.5], [1.0]]) + np.zeros((3, 10))
    found = stats.mean(seeds, units, RNG(0))
    assert found.value == pytest.approx(0.5) and found.ci is not None
    assert found.ci[0] == pytest.approx(0.0) and found.ci[1] == pytest.approx(1.0)
    one_seed = stats.mean(seeds[1:2], units, RNG(0))
    assert one_seed.ci == pytest.approx((0.5, 0.5))
    holes = seeds.copy()
    holes[2] = np.nan
    assert stats.mean(holes, units, RNG(0)).value == pytest.approx(0.25)
    assert stats.difference(holes, seeds, units, RNG(0)).n == 20
    assert stats.mean(np.full((2, 10), np.nan), units, RNG(0)).value is None
    assert stats.mean(seeds[:, :1], stats.units_of(["a"], [0]), RNG(0)).ci is None
    ratio = stats.ratio(seeds[1:], 2 * seeds[1:], units, RNG(0))
    assert ratio.value == pytest.approx(0.5) and ratio.ci == pytest.approx((0.5, 0.5))
    assert stats.ratio(seeds, 0 * seeds, units, RNG(0)).value is None
    with pytest.raises(ValueError, match="not paired"):
        stats.difference(seeds, seeds[:2], units, RNG(0))


def test_the_clips_that_a_margin_needs_grow_with_its_square() -> None:
    found = stats.Estimate(0.0, (-0.02, 0.02), 768, (0.0, 0.0, 0.0))
    assert stats.clips_needed(found, 0.02) == 256 and stats.clips_needed(found, 0.01) == 1024
    assert stats.clips_needed(stats.Estimate(0.0, None, 3, (0.0,)), 0.01) is None


# Sets.


def test_a_distance_stands_at_its_floor_for_the_same_and_above_it_for_others() -> None:
    real, groups = features_of(0, 480), [str(k % 12) for k in range(480)]
    same = sets.apart(real, groups, features_of(1, 300), RNG(0))
    assert same.n == 240 and same.dims == 66 and same.value is not None and same.floor is not None
    assert same.value == pytest.approx(same.floor, rel=0.15)
    moved = sets.apart(real, groups, features_of(1, 300) + 0.5, RNG(0))
    assert moved.value is not None and moved.value > same.value + 10
    kernel = sets.apart(real[:40], groups[:40], features_of(2, 30) + 0.5, RNG(0), kernel=True)
    assert kernel.value is not None and kernel.floor is not None and kernel.value > kernel.floor + 0.5
    few = sets.apart(real[:100], groups[:100], real, RNG(0))
    assert few.value is None and "needs 132" in str(few.why)
    assert "two are needed" in str(sets.apart(real, ["a"] * 480, real, RNG(0)).why)


def test_halves_are_halves_of_dancers() -> None:
    """Neighbours of one dancer on both sides would bring the floor to nothing."""
    dancers = RNG(0).standard_normal((8, 1, 66))
    real = (dancers + 0.01 * RNG(1).standard_normal((8, 50, 66))).reshape(400, 66)
    found = sets.apart(real, [str(k // 50) for k in range(400)], real, RNG(0))
    mixed = sets.apart(real, [str(k % 8) for k in range(400)], real, RNG(0))
    assert found.floor is not None and mixed.floor is not None and found.floor > 10 * mixed.floor


def test_diversity_falls_for_copies_and_for_one_dance_a_song() -> None:
    real, made = features_of(0, 400), features_of(1, 64)
    assert sets.diversity_ratio(made, made, real, RNG(0)).ratio == pytest.approx(1)
    half = sets.diversity_ratio(0.5 * made, made, real, RNG(0))
    assert half.ratio == pytest.approx(0.5) and half.ci is not None and half.ci[1] < 0.6
    copies = np.repeat(made[:4], 16, axis=0)
    ratio = sets.diversity_ratio(copies, made, real, RNG(0)).ratio
    assert ratio is not None and ratio < 0.85
    conditions = list(range(32)) * 2
    assert sets.within_condition(np.concatenate([made[:32]] * 2), conditions, real) == 0
    own = sets.within_condition(made, conditions, real)
    assert own == pytest.approx(1, abs=0.15)
    assert sets.within_condition(made[:32], list(range(32)), real) is None
    holes = made.copy()
    holes[0] = np.nan
    assert sets.diversity_ratio(holes, made, real, RNG(0)).n == 63


# One clip.


def test_broken_twins_of_a_dance_fail_what_they_should() -> None:
    channels, body = dancing()
    fine = one.judge(channels, body, 30.0, beats(120, 0.22), beats(120, 0.0))
    assert fine.figures["sanity"] == 1 and fine.figures["beat_alignment"] > 0.3, fine.reasons
    assert fine.figures["shuffled"] < fine.figures["beat_alignment"] - 0.3
    assert fine.figures["slide_after_lock"] < 1e-4 and fine.figures["limits_after_clamp"] == 0
    frozen = np.repeat(channels[:1], 64, axis=0)
    frozen[:, [0, 1, 3]] = 0
    still = one.judge(frozen, body, 30.0, beats(120, 0.22))
    assert still.figures["sanity"] == 0 and any(r.startswith("still") for r in still.reasons)
    assert still.figures["beat_alignment"] == 0
    sliding = channels.copy()
    sliding[:, 0] += 1.5
    slid = one.judge(sliding, body, 30.0, beats())
    assert slid.figures["slide"] > 1 and any(r.startswith("skate") for r in slid.reasons)
    assert slid.figures["slide_after_lock"] < slid.figures["slide"]
    wild = channels.copy()
    wild[::2, 20] += 9
    assert one.judge(wild, body, 30.0, beats()).figures["clamp_rate"] > 0.01
    nan = channels.copy()
    nan[3, 7] = np.nan
    lost = one.judge(nan, body, 30.0, beats())
    assert lost.figures["sanity"] == 0 and np.isnan(lost.figures["jerk"]) and "not" in lost.reasons[0]
    silent = one.judge(channels, body, 30.0, None)
    assert np.isnan(silent.figures["musicality"]) and silent.figures["sanity"] == 1


def test_the_lock_of_the_judge_is_that_of_generate_and_feet_let_go_are_missed() -> None:
    """Feet that slide under contact are not dragged back; letting go of all would show as contact that is missing."""
    from choreo_cli.generate.finish import finish
    from choreo_cli.motion.choreo25 import clamp

    channels, body = dancing()
    sliding = channels.copy()
    sliding[:, 0] += 0.8
    made, _ = one.lock(clamp(sliding)[0], body, 30.0)
    done = finish(sliding, body, 30.0)
    assert done.report["lock"]["stepped"] > 10 and done.report["lock"]["moved_mm"] <= 100
    np.testing.assert_array_equal(made[:, 4:6] == 0.25, done.channels[:, 4:6] == 0.25)
    np.testing.assert_allclose(made[:, 19:], done.channels[:, 19:], atol=1e-6)
    found = one.judge(sliding, body, 30.0, None).figures
    fine = one.judge(channels, body, 30.0, None).figures
    assert found["slide_after_lock"] < 1e-3
    assert found["contact_fraction"] == pytest.approx((made[:, 4:6] >= 0.5).mean())
    assert found["contact_fraction"] < fine["contact_fraction"]


def test_music_is_moved_to_the_clock_of_the_clip() -> None:
    from dataclasses import replace

    song = replace(beats(), energy=np.arange(100.0))
    moved = one.shifted(song, 0.5)
    assert moved.beats_s[1] == 0 and moved.energy is not None and moved.energy[0] == 25


# Tasks.


def test_rules_are_what_they_say_and_known_frames_are_compared_bit_by_bit() -> None:
    line = np.arange(20.0)[:, None, None] * np.ones((1, 22, 3))
    assert np.allclose(tasks.constant_velocity(line, 5), line) and np.allclose(tasks.interpolation(line, [0, 19]), line)
    assert (tasks.repeat_last(line, 5)[5:] == 4).all()
    assert (tasks.constant_velocity(line, 1)[1:] == 0).all()
    made, known = np.zeros((8, 25), np.float32), np.zeros((8, 25), np.float32)
    flags = np.zeros((8, 25), bool)
    assert tasks.kept_exactly(made, known, flags) == 0
    flags[:2] = True
    made[5] = 1
    assert tasks.kept_exactly(made, known, flags) == 0
    made[1, 3] = 1e-7
    assert tasks.kept_exactly(made, known, flags) == pytest.approx(1e-7)


def test_truth_beats_the_rules_and_a_jump_shows_at_the_seam() -> None:
    channels, body = dancing()
    found = tasks.predicted(channels, channels, body, 30.0, 16)
    assert found["made"] == 0 and found["repeat_last"] > 0.02 and found["velocity"] > 0.02
    assert {"made@0.1", "made@1", "velocity@0.5"} <= set(found)
    between = tasks.filled(channels, channels, body, 30.0, [*range(8), *range(56, 64)])
    assert between["made"] == 0 and between["interpolation"] > 0.005
    jump = channels.copy()
    jump[8:56, 2] += 0.3
    assert tasks.filled(jump, channels, body, 30.0, [*range(8), *range(56, 64)])["seam"] > 3 * between["seam"]


# Gates: a good arm passes, its twin falls.


def test_a_flow_as_good_as_diffusion_passes_and_each_worse_one_fails() -> None:
    b = bench()
    ddim = arm("ddim50", 3, rows=92)
    fine = by_name(verdicts.against_ddim(arm("flow4", 4, musicality=0.52), ddim, b))
    assert [e["pass"] for e in fine.values()] == [True, True, True]
    assert all(e["params"]["gate"] == GATES["against_ddim"] for e in fine.values())
    assert fine["generation.flow4_vs_ddim50.compute"]["value"] == pytest.approx(92 / 7)
    unsane = np.ones((len(SEEDS), CLIPS))
    unsane[:, :6] = 0
    worse = by_name(verdicts.against_ddim(arm("flow4", 4, sanity=unsane, musicality=0.4, rows=20), ddim, b))
    assert [e["pass"] for e in worse.values()] == [False, False, False]
    music = worse["generation.flow4_vs_ddim50.musicality"]
    assert music["params"]["mean"] == pytest.approx(-0.1, abs=0.02) and music["value"] == music["ci"][0]
    unequal = by_name(verdicts.against_ddim(arm("flow4", 4), ddim, b, "not trained alike: steps 9 against 8"))
    assert {e["pass"] for e in unequal.values()} == {None}


def test_equal_means_with_wide_intervals_are_no_proof_of_equality() -> None:
    rng = RNG(5)
    noisy = [0.5 + 0.4 * rng.standard_normal((3, CLIPS)) for _ in range(2)]
    found = verdicts.against_ddim(arm("flow4", 1, musicality=noisy[0]), arm("ddim50", 2, musicality=noisy[1]), bench())
    score = by_name(found)["generation.flow4_vs_ddim50.musicality"]
    assert score["pass"] is False and score["params"]["clips_a_seed_for_the_margin"] > CLIPS


@pytest.mark.parametrize(
    ("changed", "gate"),
    [
        ({"slide_after_lock": 0.002}, "generation.feet.after_lock.flow4"),
        ({"slide": 0.2}, "generation.feet.before_lock.flow4"),
        ({"contact_fraction": 0.3}, "generation.feet.contact.flow4"),
        ({"limits_after_clamp": 0.01}, "generation.limits.flow4"),
    ],
)
def test_feet_and_limits(changed: dict[str, float], gate: str) -> None:
    fine = by_name(verdicts.contact(arm("flow4", 4, slide=0.09), bench()))
    assert all(e["pass"] is True for e in fine.values()), {k: e["pass"] for k, e in fine.items()}
    found = by_name(verdicts.contact(arm("flow4", 4, **{"slide": 0.09, **changed}), bench()))
    assert [k for k, e in found.items() if e["pass"] is False] == [gate]


def test_one_sliding_clip_is_enough_and_placed_feet_are_no_level() -> None:
    table = np.full((3, CLIPS), 1e-7)
    table[1, 5] = 0.5
    found = by_name(verdicts.contact(arm("flow4", 4, slide_after_lock=table), bench(synthetic=True)))
    after = found["generation.feet.after_lock.flow4"]
    assert after["pass"] is False and after["value"] == 0.5 and after["params"]["clips_above"] == 1
    before = found["generation.feet.before_lock.flow4"]
    assert before["pass"] is None and "placed by a program" in before["why"]


def test_music_must_matter_and_other_songs_must_not() -> None:
    b = bench()
    fine = by_name(verdicts.music(arm("flow4"), b))
    assert [e["pass"] for e in fine.values()] == [True, True]
    deaf = by_name(verdicts.music(arm("flow4", beat_alignment=0.0), b))
    assert deaf["generation.music.above_chance.flow4"]["pass"] is False
    any_song = by_name(verdicts.music(arm("flow4", shuffled=0.3), b))
    assert any_song["generation.music.shuffled.flow4"]["pass"] is False
    wide = arm("flow4")
    wide.figures["shuffled"][:] = np.random.default_rng(0).normal(0.0, 3.0, wide.figures["shuffled"].shape)
    cannot_tell = by_name(verdicts.music(wide, b))["generation.music.shuffled.flow4"]
    assert cannot_tell["pass"] is None and "more clips" in cannot_tell["why"]
    alone = by_name(verdicts.music(arm("flow4", shuffled=np.nan), b))
    assert alone["generation.music.shuffled.flow4"]["pass"] is None
    assert "one song" in alone["generation.music.shuffled.flow4"]["why"]


def test_a_student_may_lose_five_percent_and_no_diversity() -> None:
    b, teacher = bench(), arm("flow4", 4)
    fine = by_name(verdicts.distilled(arm("distilled1", 4, rows=1, musicality=0.49), teacher, b))
    assert [e["pass"] for e in fine.values()] == [True, True, True]
    copies = np.stack([np.repeat(features_of(s, 4), 16, axis=0) for s in SEEDS])
    poor = by_name(verdicts.distilled(arm("distilled1", 4, 1, copies, musicality=0.45, sanity=0.9), teacher, b))
    assert [e["pass"] for e in poor.values()] == [False, False, False]


def test_tasks_are_judged_by_the_far_end_of_the_interval() -> None:
    b, base = bench(), arm("predict")
    rng = RNG(2)

    def task(made: float, known: float = 0.0, few: str | None = None) -> dict[str, Any]:
        noise = 0.01 * rng.standard_normal((3, CLIPS))
        tables = {"known": np.full((3, CLIPS), known), "made": made + noise, "repeat_last": np.full((3, CLIPS), 0.1),
                  "velocity": np.full((3, CLIPS), 0.2), "made@0.1": noise, "seam": np.ones((3, CLIPS))}  # fmt: skip
        own = type(base)("predict", base.seeds, tables, base.kinetic, base.manual)
        return by_name(verdicts.task_gates(verdicts.TaskArm("predict", own), b, few))

    fine = task(0.09)
    assert all(e["pass"] is not False for e in fine.values()) and fine["generation.predict.known"]["pass"]
    assert task(0.1)["generation.predict.over_repeat_last"]["pass"] is False
    assert task(0.09, 1e-6)["generation.predict.known"]["pass"] is False
    open_ = task(0.1, few="8 clips")["generation.predict.over_repeat_last"]
    assert open_["pass"] is None and open_["why"] == "8 clips"
    assert task(0.15, few="8 clips")["generation.predict.over_repeat_last"]["pass"] is False  # worse for certain
    assert task(0.09, few="8 clips")["generation.predict.over_repeat_last"]["pass"] is True


def test_what_got_worse_beyond_its_interval_fails_and_what_is_better_or_equal_passes() -> None:
    b, old = bench(), arm("against", 4)
    same = by_name(verdicts.no_worse(arm("flow4", 4), old, b, "old"))
    assert all(e["pass"] for e in same.values())
    better = by_name(verdicts.no_worse(arm("flow4", 5, musicality=0.6, slide=0.01), old, b, "old"))
    assert all(e["pass"] for e in better.values())
    worse = by_name(verdicts.no_worse(arm("flow4", 5, slide=0.2, musicality=0.4), old, b, "old"))
    assert sorted(k for k, e in worse.items() if e["pass"] is False) == [
        "generation.against.musicality", "generation.against.slide",
    ]  # fmt: skip
    far = arm("flow4", 4, features=np.stack([features_of(s) + 3 for s in SEEDS]))
    assert sorted(k for k, e in by_name(verdicts.no_worse(far, old, b, "old")).items() if e["pass"] is False) == [
        "generation.against.kernel_distance_g", "generation.against.kernel_distance_k",
    ]  # fmt: skip
    collapsed = arm("flow4", 5, features=np.stack([np.repeat(features_of(s, 2), 32, axis=0) for s in SEEDS]))
    assert by_name(verdicts.no_worse(collapsed, old, b, "old"))["generation.against.diversity"]["pass"] is False


def test_the_fewest_steps_that_are_as_good_are_chosen_and_the_reason_says_why_not_fewer() -> None:
    b = bench()
    many, four, two = arm("flow10", 1), arm("flow4", 1), arm("flow2", 1, musicality=0.4)
    chosen, why = verdicts.choose_steps([two, four, many], b)
    assert chosen is four and "flow2 loses musicality" in why and "100.0 % sane" in why
    off = arm("flow1", 1, features=np.stack([features_of(s) + 2 for s in SEEDS]))
    chosen, why = verdicts.choose_steps([off, many], b)
    assert chosen is many and "farther from held-out windows" in why
    same = arm("flow1", 1, features=np.stack([0.5 * features_of(100 + s) for s in SEEDS]))
    assert verdicts.choose_steps([same, many], b)[0] is many
    chosen, why = verdicts.choose_steps([arm("flow1", 1, sanity=0.5), arm("flow2", 1, sanity=0.7)], b)
    assert chosen.name == "flow2" and "no number of steps is 90 % sane" in why


def test_every_figure_of_an_arm_stands_beside_the_held_out_level() -> None:
    b = bench()
    found = by_name(figure_entries(arm("flow4"), b))
    assert found["generation.slide.flow4"]["floor"]["name"] == "held-out clips"
    assert found["generation.fid_k.flow4"]["status"] == "insufficient"  # 64 clips are too few for 66 features
    assert found["generation.kernel_distance_k.flow4"]["floor"]["value"] is not None
    assert 0.9 < found["generation.diversity_k.flow4"]["value"] < 1.1
    assert found["generation.diversity_k.flow4"]["params"]["within_one_condition"] == pytest.approx(1, abs=0.1)
    assert "3 seeds x 8 held-out groups" in found["generation.sanity.flow4"]["params"]["interval_over"]
    assert found["generation.sanity.flow4"]["n"] == len(SEEDS) * CLIPS
