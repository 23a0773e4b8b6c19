"""Repaired metrics where the published ones fail: empty, constant, short, holed, moved, turned, another rate."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from choreo_cli.errors import DataError
from choreo_cli.metrics.motion_beats import bas_fixed, bas_motion, bas_music, motion_beats
from choreo_cli.metrics.motion_clip import Clip, fixed_rate, mended, resampled, windows
from choreo_cli.metrics.motion_contact import contact_balance, pbc, pfc, pfc_motioncritic
from choreo_cli.metrics.motion_evaluate import How, clip_figures, measured, motion_entries
from choreo_cli.metrics.motion_features import features_of, fixed_features
from choreo_cli.metrics.motion_measures import MODES, compat_measures, fixed_measures
from choreo_cli.metrics.motion_music import Music
from choreo_cli.metrics.motion_record import half_difference, over_clips
from choreo_cli.metrics.motion_sets import compared, frechet, frechet_published, kernel_mmd, mean_distance
from choreo_cli.metrics.motion_skate import skate_gmd, skate_lodge, slide
from choreo_cli.metrics.motion_tasks import (
    change_outside,
    keyframe_error,
    mpjpe,
    pa_mpjpe,
    prediction_errors,
    root_path_error,
    sample_spread,
    seam_ratio,
)
from choreo_cli.metrics.motion_text import r_precision, text_entries
from tests.metrics.motion_material import clip_of, dance, noise_walk, standing, swing

BEATS = Music("grid", np.arange(0, 60, 0.5), False, None, "0" * 64)


def hard_clips() -> dict[str, Clip]:
    holed = dance(3)
    holed[20:23] = np.nan
    gone = dance(3)
    gone[30:] = np.nan
    nothing = np.full((40, 22, 3), np.nan)
    return {
        "empty": clip_of(np.empty((0, 22, 3))),
        "one frame": clip_of(standing(1)),
        "three frames": clip_of(standing(3)),
        "seven frames": clip_of(dance(1)[:7]),
        "constant": clip_of(standing(90)),
        "zeros": clip_of(np.zeros((60, 22, 3))),
        "holed": clip_of(holed),
        "half gone": clip_of(gone),
        "nothing": clip_of(nothing),
        "in the air": clip_of(dance(3) + np.array([0, 2.0, 0])),
        "below": clip_of(dance(3) - np.array([0, 2.0, 0])),
        "huge": clip_of(dance(3) * 1e4),
        "slow": clip_of(dance(3, fps=5), 5.0),
        "fast": clip_of(dance(2, fps=240), 240.0),
        "hands": Clip("hands", noise_walk(90, 24, 1), 30.0),
        "no contact": clip_of(dance(3), contacts=np.zeros((90, 2))),
    }


def judged(clips: list[Clip], mode: str) -> list[dict[str, object]]:
    music = {c.name: BEATS for c in clips}
    with np.errstate(all="ignore"):
        return motion_entries(clips, music=music, reference=[clip_of(dance(3))], how=How(mode, each=True))


@pytest.mark.parametrize("names", [sorted(hard_clips()), ["empty"], ["constant"], ["nothing"], ["no contact"]])
def test_nothing_crashes_and_no_figure_is_nan(names: list[str]) -> None:
    clips = [replace(hard_clips()[n], name=n) for n in names]
    entries = judged(clips, "all")
    for e in entries:  # the record itself refuses what is not finite
        assert e["value"] is not None or e["why"], e["name"]
    whole = [e["name"] for e in entries if not str(e["name"]).endswith(".clip")]
    assert len(set(whole)) == len(whole)
    sanity = next(e for e in entries if e["name"] == "motion.sanity")
    failed = sanity["params"]["reasons"]  # type: ignore[index]
    broken = {
        "empty",
        "one frame",
        "three frames",
        "constant",
        "zeros",
        "half gone",
        "nothing",
        "in the air",
        "below",
        "huge",
    }
    assert broken & set(names) <= set(failed)


def test_what_cannot_be_a_clip_is_refused_in_a_sentence() -> None:
    for joints, fps in ((np.zeros((5, 21, 3)), 30.0), (np.zeros((5, 22, 2)), 30.0), (np.zeros((5, 22, 3)), 0.0),
                        (np.zeros((5, 22, 3)), math.nan)):  # fmt: skip
        with pytest.raises(DataError):
            clip_of(joints, fps)
    with pytest.raises(DataError, match="contacts"):
        clip_of(standing(5), contacts=np.ones((4, 2)))
    with pytest.raises(DataError):
        resampled(clip_of(standing(5)), 0)


def test_short_gaps_are_filled_and_long_ones_cut_and_both_counted() -> None:
    x = dance(4)
    holed = x.copy()
    holed[50:54] = np.nan
    found = mended(clip_of(holed))
    assert (found.frames, found.filled, found.lost) == (120, 4, 0)
    assert np.linalg.norm(found.joints[51] - x[51], axis=-1).max() < 0.15
    holed[60:90, 3] = np.nan
    found = mended(clip_of(holed))
    assert (found.frames, found.filled, found.lost) == (60, 4, 60)
    assert mended(clip_of(np.full((9, 22, 3), np.nan))).frames == 0


def test_windows_are_whole_and_a_short_clip_is_one() -> None:
    assert [w.frames for w in windows(clip_of(standing(470)))] == [150, 150, 150]
    assert [w.frames for w in windows(clip_of(standing(70)))] == [70]


def test_resampling_keeps_time() -> None:
    x = dance(4, fps=60)
    half = resampled(clip_of(x, 60.0), 30.0)
    assert half.frames == 120 and half.seconds == pytest.approx(119 / 30)
    assert np.abs(half.joints - x[::2]).max() < 0.03
    assert np.abs(resampled(clip_of(dance(4)), 60.0).joints[::2] - dance(4)).max() < 1e-9
    assert resampled(clip_of(dance(1), 29.97), 30.0).frames == 30


def test_a_still_body_has_no_contact_score_as_published_and_none_when_repaired() -> None:
    x = standing(60)
    hands = np.concatenate([x, x[:, 20:22]], axis=1)
    assert pfc(x) is None and pfc_motioncritic(x) is None and pbc(hands) is None
    assert contact_balance(x, 30.0) == 0
    assert skate_lodge(standing(5) + np.array([0, 1, 0]) * np.arange(5)[:, None, None])[0] in (0.0, None)
    assert skate_gmd(x) == (0.0, 0.0) and skate_gmd(x[:1]) is None


def test_no_contact_gives_no_sliding_speed_but_a_contact_fraction_of_nothing() -> None:
    found = slide(clip_of(dance(2) + np.array([0, 1.0, 0])))
    assert found is not None and found.m_per_s is None and found.contact_fraction == 0


def test_contacts_that_are_claimed_in_the_air_are_told() -> None:
    x = dance(2)
    down, up = (
        slide(clip_of(x + np.array([0, h, 0]), contacts=np.ones((60, 2)), ankle_rest_m=(0.085, 0.085)))
        for h in (0.0, 0.3)
    )
    assert down is not None and up is not None
    assert down.float_share == 0 and up.float_share == 1
    assert slide(clip_of(x)).float_share is None  # type: ignore[union-attr]


# --- beats


def test_beats_of_a_swing_are_found_between_frames_at_every_rate() -> None:
    for fps in (20.0, 25.0, 30.0, 59.94, 120.0):
        found = motion_beats(swing(8, fps), fps)
        true = np.round(found / 0.5) * 0.5
        assert len(found) >= 13 and np.abs(found - true).max() < 0.012, fps


@pytest.mark.parametrize("fps", [20.0, 30.0, 60.0])
def test_repaired_alignment_does_not_depend_on_the_rate(fps: float) -> None:
    x, beats = swing(8, fps), np.arange(0, 9, 0.5)
    found = bas_fixed(x, fps, beats, np.random.default_rng(0))
    assert found.value is not None and found.chance is not None and found.corrected is not None
    assert found.value > 0.9 and found.chance < 0.4 and found.corrected > 0.85 and (found.p or 1) < 0.2
    late = bas_fixed(x, fps, beats + 0.25, np.random.default_rng(0))
    assert late.value is not None and late.value < 0.01


def test_published_alignment_does_depend_on_it() -> None:
    rates = (20.0, 60.0)
    chance = [
        np.mean(
            [
                bas_music(dance(8, f, seed=3), (np.arange(0.1 + u, 8, 0.5) * f).round()) or 0
                for u in np.linspace(0, 0.4, 5)
            ]
        )
        for f in rates
    ]
    assert chance[0] > 1.3 * chance[1]


def test_no_music_beat_no_motion_beat_and_one_of_each() -> None:
    rng = np.random.default_rng(0)
    x = swing(4, 30.0)
    none = bas_fixed(x, 30.0, np.array([100.0, 101.0]), rng)
    assert none.value is None and none.status == "insufficient" and none.why
    still = bas_fixed(standing(120), 30.0, np.arange(4.0), rng)
    assert still.value == 0 and still.status == "degenerate"
    one = bas_fixed(x, 30.0, np.array([1.0]), rng)
    assert one.value is not None and one.chance is None
    assert bas_music(standing(60), np.array([3.0])) == 0 and bas_motion(standing(60), np.array([3.0])) == 0
    assert bas_music(x, np.empty(0)) is None and bas_motion(x, np.empty(0)) is None


# --- sets


def test_equal_sets_have_no_distance_and_few_clips_get_none() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=(300, 6))
    assert frechet(a, a) < 1e-6
    assert abs(frechet_published(a, a) or 1) < 1e-6
    assert mean_distance(a, a) == 0
    found = compared(a, a[:150], frechet, rng)
    assert found.value is not None and found.floor is not None and found.n == 150
    assert found.value == pytest.approx(found.floor, abs=0.1)
    away = compared(a, a[:150] + 3, frechet, rng)
    assert (away.value or 0) > 10 * (away.floor or 1)
    few = compared(rng.normal(size=(20, 72)), rng.normal(size=(9, 72)), frechet, rng)
    assert few.value is None and "144" in (few.why or "")
    kernel = compared(rng.normal(size=(40, 72)), rng.normal(size=(9, 72)), kernel_mmd, rng, least=lambda d: 2)
    assert kernel.value is not None and kernel.n == 9
    flat = compared(np.ones((40, 3)), np.ones((40, 3)), frechet, rng)
    assert flat.value is None and flat.why
    assert compared(np.empty((0, 0)), np.empty((0, 0)), frechet, rng).value is None
    assert frechet_published(a[:1], a) is None


def test_a_feature_that_never_varies_in_real_clips_is_dropped() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(60, 3)), rng.normal(size=(60, 3))
    a[:, 1] = 0.25
    found = compared(a, b, frechet, rng)
    assert (found.dims, found.dropped) == (2, 1) and found.value is not None and found.value < 5


@pytest.mark.parametrize("k", [0, 1])
def test_repaired_features_ignore_place_and_direction(k: int) -> None:
    x = dance(5)
    a = 0.7
    turn = np.array([[math.cos(a), 0, math.sin(a)], [0, 1, 0], [-math.sin(a), 0, math.cos(a)]])
    rows = [
        features_of([clip_of(c)], fixed_features()[k], 30.0, windows)[0] for c in (x, x @ turn.T + np.array([4, 0, -7]))
    ]
    assert rows[1] == pytest.approx(rows[0], rel=1e-6, abs=1e-6)


INVARIANT = [m for m in fixed_measures() if m.name not in ("jerk_raw", "jerk_raw_p99")]


def values_of(clip: Clip) -> dict[str, float | None]:
    return {v.name: v.clips.get(clip.name) for v in measured(INVARIANT, [clip])}


def test_every_repaired_figure_ignores_place_and_direction() -> None:
    x = dance(6, seed=2)
    a = -2.2
    turn = np.array([[math.cos(a), 0, math.sin(a)], [0, 1, 0], [-math.sin(a), 0, math.cos(a)]])
    here, there = values_of(clip_of(x)), values_of(clip_of(x @ turn.T + np.array([9, 0, 3])))
    assert sum(v is not None for v in here.values()) >= 14
    for name, value in here.items():
        if value is None:
            assert there[name] is None
            continue
        assert there[name] == pytest.approx(value, rel=1e-6, abs=1e-9), name


# How far each figure may move when the same motion is recorded at half or twice the rate.
RATE_ROOM = {
    "contact_balance": 0.6, "slide_m_per_s": 0.15, "slide_share": 0.3, "contact_fraction": 0.05, "jerk": 0.10,
    "jerk_p99": 0.15, "limits_share": 0.05, "limits_excess": 0.3, "self_penetration": 0.05, "balanced_share": 0.05,
    "support_distance": 0.05,
}  # fmt: skip


def test_fps_halved_moves_repaired_figures_little() -> None:
    full, half = (values_of(clip_of(dance(10, fps=f, seed=4), f)) for f in (60.0, 30.0))
    for name, room in RATE_ROOM.items():
        a, b = full[name], half[name]
        assert a is not None and b is not None, name
        assert abs(a - b) <= room * max(abs(a), abs(b)) + 2e-3, (name, a, b)
    raw = [clip_figures(clip_of(dance(10, fps=f, seed=4), f)) for f in (60.0, 30.0)]
    assert raw[0]["jerk_raw@60fps"] > 1.1 * raw[1]["jerk_raw@30fps"]


# --- records


def test_intervals_are_over_groups_where_they_are_known() -> None:
    values = [1.0, 1.1, 0.9, 5.0, 5.1, 4.9]
    rng = np.random.default_rng(0)
    mean, loose, _ = over_clips(values, [None] * 6, rng)
    _, tight, why = over_clips(values, ["a"] * 6, rng)
    assert mean == pytest.approx(3.0) and tight is None and why
    _, grouped, _ = over_clips(values, [*"aaabbb"], rng)
    assert loose is not None and grouped is not None
    assert grouped[1] - grouped[0] > loose[1] - loose[0]
    assert over_clips([2.0], [None], rng)[1] is None


def test_the_noise_of_real_halves() -> None:
    rng = np.random.default_rng(0)
    assert half_difference([1.0], rng) is None
    assert half_difference([1.0, 3.0], rng) == 2.0
    many = rng.normal(size=200)
    assert half_difference(list(many), rng) == pytest.approx(2 / math.sqrt(200) * math.sqrt(2 / math.pi), rel=0.2)


def test_records_name_mode_rate_and_number_and_give_real_clips_as_floor() -> None:
    made = [Clip(f"m{k}", dance(6, seed=k), 30.0) for k in range(2)]
    real = [Clip(f"r{k}", dance(6, seed=k + 5), 30.0, group=f"g{k}") for k in range(4)]
    entries = {e["name"]: e for e in motion_entries(made, reference=real, how=How("all"))}
    assert {m.name for m in compat_measures() if "pbc" not in m.name} <= {n.removeprefix("motion.") for n in entries}
    assert "motion.pbc22@30fps" in entries and "motion.jerk_raw@30fps" in entries
    e = entries["motion.jerk"]
    assert e["floor"]["name"] == "real clips" and e["params"]["reference"]["n"] == 4
    assert (
        e["params"]["mode"] == "fixed" and e["params"]["fps"] == 30.0 and e["n"] == 2 and e["params"]["frames"] == 300
    )
    fraction = entries["motion.contact_fraction"]
    assert fraction["goal"]["value"] == pytest.approx(0.5 * fraction["floor"]["value"]) and fraction["pass"] is True
    assert entries["motion.fid_k"]["value"] is None and "132" in entries["motion.fid_k"]["why"]
    assert entries["motion.kernel_distance_k"]["floor"] is not None
    assert entries["motion.fid_k_bailando@60fps_j22"]["status"] == "edge"
    assert "--manual-lengths" in entries["motion.fid_g_mint@60fps_j22"]["why"]
    assert entries["motion.beat_alignment"]["value"] is None and "--music" in entries["motion.beat_alignment"]["why"]


def test_a_model_that_floats_fails_the_contact_gate() -> None:
    real = [Clip(f"r{k}", dance(6, seed=k), 30.0) for k in range(3)]
    made = [clip_of(dance(6) + np.array([0, 0.5, 0]))]
    entries = {e["name"]: e for e in motion_entries(made, reference=real)}
    assert entries["motion.contact_fraction"]["pass"] is False
    assert entries["motion.slide_m_per_s"]["value"] is None


def test_every_mode_is_known_and_another_is_refused() -> None:
    for mode in MODES:
        How(mode)
    with pytest.raises(Exception, match="none of fixed"):
        How("best")


# --- text and tasks


def test_groups_of_exactly_32_and_chance_for_permuted_texts() -> None:
    rng = np.random.default_rng(0)
    words = rng.normal(size=(640, 16))
    motions = words + 0.3 * rng.normal(size=words.shape)
    assert r_precision(words[:31], motions[:31]) is None
    assert r_precision(words[:40], motions[:40], rng=rng) is not None
    records = {
        e["name"]: e
        for e in text_entries(words, motions, evaluator="own:1", real=motions, samples=motions.reshape(20, 32, 16))
    }
    first = records["r_precision@1"]
    assert first["value"] > 0.9 and first["chance"] == 1 / 32
    assert first["params"]["chance_of_shuffled_pairs"] == pytest.approx(1 / 32, abs=0.02)
    assert first["params"]["evaluator"] == "own:1" and first["floor"]["value"] == pytest.approx(
        first["value"], abs=0.01
    )
    assert (
        records["fid_text"]["value"] < 1e-6
        and records["diversity"]["value"] > 0
        and records["multimodality"]["value"] > 0
    )
    poor = {e["name"]: e for e in text_entries(words[:5], motions[:5], evaluator="own:1")}
    assert poor["r_precision@1"]["value"] is None and poor["r_precision@1"]["why"]
    with pytest.raises(DataError):
        r_precision(words, motions[:5])


def test_prediction_against_its_two_baselines() -> None:
    x = np.zeros((90, 22, 3)) + np.arange(90)[:, None, None] * [0.01, 0, 0]
    found = prediction_errors(x[30:], x[30:], x[:30], 30.0)
    assert [found[h]["model"] for h in found] == [0, 0, 0, 0]
    assert found["1"]["repeat_last"] == pytest.approx(0.3) and found["1"]["constant_velocity"] == pytest.approx(
        0, abs=1e-12
    )
    assert prediction_errors(x[30:40], x[30:40], x[:30], 30.0)["1"]["model"] is None
    with pytest.raises(DataError):
        prediction_errors(x, x, x[:0], 30.0)


def test_errors_of_joints_with_and_without_alignment() -> None:
    x = dance(1)
    a = 0.4
    turn = np.array([[math.cos(a), 0, math.sin(a)], [0, 1, 0], [-math.sin(a), 0, math.cos(a)]])
    moved = 1.1 * x @ turn.T + np.array([1, 2, 3])
    assert mpjpe(x + np.array([0.1, 0, 0]), x) == pytest.approx(0.1)
    assert (mpjpe(moved, x) or 0) > 1 and pa_mpjpe(moved, x) == pytest.approx(0, abs=1e-9)
    mirrored = x * [-1, 1, 1]
    assert (pa_mpjpe(mirrored, x) or 0) > 0.01
    holed = x.copy()
    holed[3] = np.nan
    assert (
        mpjpe(holed, x) == 0
        and mpjpe(np.full_like(x, np.nan), x) is None
        and pa_mpjpe(np.full_like(x, np.nan), x) is None
    )


def test_seams_keyframes_masks_paths_and_spread() -> None:
    x = dance(4)
    cut = x.copy()
    cut[60:] += [0.4, 0, 0]
    smooth, torn = seam_ratio(x, 30.0, [60]), seam_ratio(cut, 30.0, [60])
    assert smooth is not None and torn is not None and smooth < 2 < torn
    assert (
        seam_ratio(x, 30.0, []) is None
        and seam_ratio(standing(30), 30.0, [10]) is None
        and seam_ratio(x[:2], 30.0, [1]) is None
    )
    keys = keyframe_error(cut, x, [0, 10])
    assert keys["keyframe_max_m"] == 0 and (keys["between_m"] or 0) > 0.1
    mask = np.zeros(x.shape, bool)
    mask[60:] = True
    assert change_outside(x, cut, mask) == 0 and change_outside(x, cut, ~mask) == pytest.approx(0.4)
    assert (
        root_path_error(x + np.array([5, 0, 1]), x) == pytest.approx(0, abs=1e-12) and root_path_error(x[:0], x) is None
    )
    real = np.stack([dance(2, seed=k) for k in range(4)])
    assert sample_spread(np.repeat(real[:1], 3, axis=0), real) == 0
    assert sample_spread(real, real) == pytest.approx(1.0) and sample_spread(real[:1], real) is None


def test_fixed_rate_is_thirty() -> None:
    assert fixed_rate(clip_of(dance(2, fps=48), 48.0)).fps == 30.0
