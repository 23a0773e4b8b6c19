"""2-D points to joints: what the network sees, numpy against itself, the cameras, the baseline."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from choreo_cli.errors import DataError
from choreo_cli.motion.dancer import choreograph, poses, write_score
from choreo_cli.motion.lifting import Lifter, shapes
from choreo_cli.motion.lifting_baseline import lift_constant
from choreo_cli.motion.lifting_cameras import DRAWS, WEDGE_RAD, azimuths, look, mirrored
from choreo_cli.motion.lifting_clips import at_30, dancer_clips, split_groups
from choreo_cli.motion.lifting_points import centred, coco_points, longest, stature, windows
from choreo_cli.motion.lifting_score import GUESS, Take, entries_of, mpjpe, pa_mpjpe
from formats.foreign.joints import CANONICAL, COCO_17


@pytest.fixture(scope="module")
def joints():
    rng = np.random.default_rng(3)
    dance = choreograph(write_score(np.arange(0, 8, 0.5), 0.8, rng), rng, height_m=1.80)
    return poses(dance, np.arange(1, 6, 1 / 30))


def seen_by(joints, seed=0, **options):
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((1, len(joints), 17, 3))
    return look(joints[None], rng.random((1, DRAWS)), noise, vary=False, **options)


def lifter(window=9, hidden=32, blocks=1, **options):
    rng = np.random.default_rng(1)
    arrays = {k: (rng.standard_normal(s) * 0.1).astype(np.float32) for k, s in shapes(window, hidden, blocks).items()}
    return Lifter(arrays, window, blocks, **options)


def test_the_default_network_has_about_200_thousand_parameters():
    assert sum(int(np.prod(s)) for s in shapes(9, 256, 1).values()) == 200_000


def test_points_of_a_skeleton_are_its_joints_and_a_face_ahead(joints):
    points = coco_points(joints)
    for name in COCO_17[5:]:
        assert np.array_equal(points[:, COCO_17.index(name)], joints[:, CANONICAL.index(name)])
    ahead = np.cross(
        joints[:, CANONICAL.index("l_shoulder")] - joints[:, CANONICAL.index("r_shoulder")], [0.0, 1.0, 0.0]
    )
    ears = points[:, [COCO_17.index("l_ear"), COCO_17.index("r_ear")]].mean(1)
    assert ((points[:, 0] - ears) * ahead).sum(-1).min() > 0
    left = points[:, COCO_17.index("l_ear")] - points[:, COCO_17.index("r_ear")]
    across = joints[:, CANONICAL.index("l_shoulder")] - joints[:, CANONICAL.index("r_shoulder")]
    assert (left * across).sum(-1).min() > 0
    assert stature(joints) == pytest.approx(1.80, abs=1e-9)


def test_what_is_seen_does_not_depend_on_place_or_size_in_the_image(joints):
    v = seen_by(joints)
    points, sure = v.points[0].astype(np.float64), v.confidence[0]

    def inputs(p):
        about, torso, _ = centred(p, sure)
        return windows(about, torso, 9)

    assert np.abs(inputs(points) - inputs(3.0 * points + np.array([500.0, -80.0]))).max() < 1e-4


def test_a_step_at_a_time_is_the_same_as_a_clip(joints):
    v = seen_by(joints)
    points, sure = v.points[0].copy(), v.confidence[0].copy()
    points[40:43], sure[40:43] = np.nan, 0  # nobody seen
    sure[60:64, 11:13] = 0  # no hips
    model = lifter()
    whole = model.lift(points, sure)
    steps = np.stack([model.step(p, c) for p, c in zip(points, sure, strict=True)])
    assert np.array_equal(np.isnan(whole), np.isnan(steps))
    assert np.isnan(whole[40:43]).all() and np.isnan(whole[60:64]).all() and not np.isnan(whole[64:]).any()
    assert np.nanmax(np.abs(whole - steps)) < 1e-5
    model.reset()
    assert np.nanmax(np.abs(model.step(points[0], sure[0]) - whole[0])) < 1e-5


def test_the_result_is_causal_and_scales_with_the_stature(joints):
    v = seen_by(joints)
    a, b = v.points[0].copy(), v.points[0].copy()
    b[100:] += 50
    model = lifter()
    assert np.array_equal(model.lift(a, v.confidence[0])[:100], model.lift(b, v.confidence[0])[:100])
    small = lifter(height_m=0.85).lift(a, v.confidence[0])
    assert np.abs(small * 2 - model.lift(a, v.confidence[0])).max() < 1e-6
    assert np.all(model.lift(a, v.confidence[0])[:, 0] == 0)


def test_long_clips_are_lifted_in_parts_without_a_seam(joints, monkeypatch):
    v = seen_by(joints)
    whole = lifter().lift(v.points[0], v.confidence[0])
    monkeypatch.setattr("choreo_cli.motion.lifting.ROWS", 17)
    assert np.abs(lifter().lift(v.points[0], v.confidence[0]) - whole).max() < 1e-5


def test_other_shapes_and_impossible_statures_are_refused():
    with pytest.raises(DataError, match=r"points \(4, 18, 2\) with confidence"):
        lifter().lift(np.zeros((4, 18, 2)), np.zeros((4, 18)))
    with pytest.raises(DataError, match="a stature of 17 m"):
        lifter(height_m=17)
    assert lifter().lift(np.zeros((0, 17, 2)), np.zeros((0, 17))).shape == (0, 22, 3)
    same = lifter().lift(np.zeros((3, 17, 2)), np.ones((3, 17)))  # all points in one place: no size
    assert np.isnan(same).all()


def test_numpy_form_loads_no_torch():
    code = "import sys, choreo_cli.motion.lifting; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_no_training_camera_stands_in_a_wedge_of_the_test():
    u = np.linspace(0, 1, 10_000, endpoint=False)
    sector = 2 * np.pi / 8

    def off(a):
        return np.abs((a + sector / 2) % sector - sector / 2)

    assert off(azimuths(u, False)).min() >= WEDGE_RAD - 1e-9
    assert off(azimuths(u, True)).max() <= WEDGE_RAD + 1e-9


def test_a_view_is_a_projection_of_its_own_joints(joints, monkeypatch):
    monkeypatch.setattr("choreo_cli.motion.lifting_cameras.NOISE_PX", (0.0, 0.0))
    monkeypatch.setattr("choreo_cli.motion.lifting_cameras.OFFSET", 0.0)
    v = seen_by(joints)
    lengths = np.linalg.norm(v.joints[0, :, 7] - v.joints[0, :, 4], axis=-1)
    assert np.ptp(lengths) < 1e-9 and lengths[0] == pytest.approx(np.linalg.norm(joints[0, 7] - joints[0, 4]))
    # Weak perspective about the hips is close to what the camera sees, in size and in every direction.
    hips = (v.joints[0, :, 1] + v.joints[0, :, 2]) / 2
    flat = (v.joints[0] - hips[:, None])[:, [CANONICAL.index(n) for n in COCO_17[5:]], :2] * v.px_per_m[
        0, :, None, None
    ]
    about, _, _ = centred(v.points[0], v.confidence[0])
    known = about[:, 5:, 2] > 0
    assert np.abs(about[:, 5:, :2] - flat)[known].max() < 0.35 * np.abs(flat).max()
    assert np.median(np.abs(about[:, 5:, :2] - flat)[known]) < 0.05 * np.abs(flat).max()


def test_noise_has_the_asked_size_and_points_are_dropped(joints, monkeypatch):
    clean = "choreo_cli.motion.lifting_cameras.NOISE_PX"
    noisy = seen_by(np.tile(joints[:1], (600, 1, 1)), seed=5)
    monkeypatch.setattr(clean, (0.0, 0.0))
    still = seen_by(np.tile(joints[:1], (600, 1, 1)), seed=5)
    off = noisy.points[0] - still.points[0]
    known = np.isfinite(off).all(-1)
    assert 2.5 < off[known].std() < 8.5
    gone = 1 - known.mean()
    assert 0.02 < gone < 0.45 and (noisy.confidence[0][~known] == 0).all() and (noisy.confidence[0][known] > 0).all()


def test_windows_for_training_change_the_body_but_keep_its_bones_rigid(joints):
    rng = np.random.default_rng(0)
    cut = np.stack([joints[k : k + 9] for k in range(20)])
    v = look(cut, rng.random((20, DRAWS)), rng.standard_normal((20, 9, 17, 3)))
    shanks = np.linalg.norm(v.joints[:, :, 7] - v.joints[:, :, 4], axis=-1)
    assert np.ptp(shanks, axis=1).max() < 1e-9 and np.ptp(shanks[:, 0]) > 0.02
    assert stature(v.joints[:, 0]) == pytest.approx(v.height_m)
    assert mirrored(mirrored(joints)) == pytest.approx(joints)


def test_constant_bones_are_constant_and_exact_where_the_body_lies_in_the_image_plane():
    flat = np.zeros((1, 22, 3))
    at = {n: i for i, n in enumerate(CANONICAL)}
    for side, s in (("l", 1.0), ("r", -1.0)):
        flat[0, at[f"{side}_hip"]] = (0.05 * s, 0, 0)
        flat[0, at[f"{side}_knee"]] = (0.05 * s, -0.235, 0)
        flat[0, at[f"{side}_ankle"]] = (0.05 * s, -0.481, 0)
        flat[0, at[f"{side}_shoulder"]] = (0.11 * s, 0.31, 0)
        flat[0, at[f"{side}_elbow"]] = (0.265 * s, 0.31, 0)
        flat[0, at[f"{side}_wrist"]] = (0.415 * s, 0.31, 0)
    points = coco_points(flat)[0, :, :2] * np.array([1.0, -1.0]) * 300
    found = lift_constant(points[None], np.ones((1, 17)), height_m=1.0)
    for part in ("hip", "knee", "ankle", "shoulder", "elbow", "wrist"):
        for side in "lr":
            want = flat[0, at[f"{side}_{part}"]] - (0, 0.045, 0)
            assert found[0, at[f"{side}_{part}"]] == pytest.approx(want, abs=1e-3), (side, part)


def test_baseline_bones_keep_their_length(joints):
    v = seen_by(joints)
    found = lift_constant(v.points[0], v.confidence[0])
    thigh = np.linalg.norm(found[:, 4] - found[:, 1], axis=-1)
    assert thigh == pytest.approx(0.235 * 1.70, rel=1e-6)


def test_errors_are_zero_for_the_truth_and_blind_to_what_alignment_removes(joints):
    centre = joints - joints[:, :1]
    assert mpjpe(centre, centre) == 0
    turn = np.array([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]])
    assert pa_mpjpe(1.3 * centre @ turn.T + 2.0, centre) < 1e-9
    assert mpjpe(1.3 * centre @ turn.T, centre) > 0.1
    assert pa_mpjpe(mirrored(centre), centre) > 0.01  # a mirrored body is another body
    holes = centre.copy()
    holes[3] = np.nan
    assert mpjpe(holes, centre) == 0 and pa_mpjpe(holes, centre) < 1e-9
    assert np.isnan(mpjpe(np.full_like(centre, np.nan), centre))


def test_entries_name_the_baseline_the_interval_and_the_guess(joints):
    takes = []
    for k in range(3):
        v = seen_by(joints[20 * k :], seed=k, held_out=True)
        takes.append(Take(f"c{k}", "0", v.points[0], v.confidence[0], v.joints[0], float(v.height_m[0])))
    found = {e["name"]: e for e in entries_of(lifter(), takes, 0, {})}
    assert set(found) == {
        "lifting.mpjpe", "lifting.mpjpe_known_height", "lifting.pa_mpjpe", "lifting.latency_p95_ms",
    }  # fmt: skip
    e = found["lifting.mpjpe"]
    assert e["n"] == 3 and e["ci"][0] <= e["value"] <= e["ci"][1] and e["baseline"]["name"] == "constant bones"
    assert e["pass"] is (e["value"] <= e["baseline"]["value"])
    assert found["lifting.latency_p95_ms"]["goal"] == {"op": "<=", "value": 2.0}
    assert "guess" in GUESS


def test_groups_are_split_by_hash_alone():
    groups = [f"g{k}" for k in range(20)]
    found = split_groups(groups)
    assert [list(found.values()).count(s) for s in ("train", "val", "test")] == [14, 2, 4]
    assert split_groups(groups[::-1]) == found
    assert sorted(split_groups(["a", "b"]).values()) == ["test", "train"]
    assert split_groups(["a"]) == {"a": "train"}


def test_dancers_are_flagged_synthetic_and_the_same_for_every_count():
    few, more = dancer_clips(3, 0), dancer_clips(4, 0)
    assert few.synthetic and few.record["synthetic"] and any("procedural" in n for n in few.notes)
    assert np.array_equal(few.clips[1].joints, more.clips[1].joints)
    assert {c.split for c in few.clips} == {"train", "val", "test"}


def test_clips_of_another_rate_come_at_30(joints):
    assert at_30(joints, 60.0).shape[0] == (len(joints) - 1) // 2 + 1
    assert at_30(joints, 60.0)[3] == pytest.approx(joints[6])


def test_the_longest_torso_of_a_window_counts():
    assert longest(np.array([[np.nan, 2.0, 1.0], [np.nan] * 3], np.float32)).tolist()[0] == 2.0
