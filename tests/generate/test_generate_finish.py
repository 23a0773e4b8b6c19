"""From drawn channels to a clip: ranges, feet that stand still, what was given; keyframes of clips and files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from choreo_cli.errors import DataError, NoInputError, UsageError
from choreo_cli.generate.finish import finish
from choreo_cli.generate.generate_run import remarks
from choreo_cli.generate.keyframes import in_training, read_keyframes, scaled
from choreo_cli.generate.root_path import Place, correct_root
from choreo_cli.motion.capture_state import Track, to_channels, to_track
from choreo_cli.motion.choreo25 import decode_channels, encode, integrate_root
from choreo_cli.motion.dancer import choreograph, poses, write_score
from choreo_cli.motion.foot_lock import lock_feet, slide
from choreo_cli.motion.skeleton import canonical_skeleton
from formats import motion_npz
from formats.errors import FormatError
from formats.motion_npz import MotionClip, out_of_range

BODY = canonical_skeleton(1.7)
FPS = 30.0


def clip(frames: int = 90, height: float = 1.7, seed: int = 0) -> MotionClip:
    rng = np.random.default_rng(seed)
    made = choreograph(write_score(np.arange(0, frames / FPS + 3, 0.5), 0.9, rng), rng, height_m=height)
    return encode(poses(made, np.arange(frames) / FPS + 1), FPS, skeleton=canonical_skeleton(height))


@pytest.fixture(scope="module")
def rough() -> Any:
    """A dance as a network draws it: standing feet slide by centimetres, some values lie outside their range."""
    x = clip(240).channels.copy()
    rng = np.random.default_rng(4)
    wobble = np.cumsum(rng.normal(0, 0.004, (240, 6)), 0)
    x[:, 19:25] += wobble.astype(np.float32)
    x[:, 4:6] += rng.normal(0, 0.1, (240, 2)).astype(np.float32)
    x[100, 11:14] = 2.0
    x[7, 0] = 9.0
    return x


def test_standing_feet_slide_less_than_a_millimetre_and_the_path_keeps_its_bits(rough: Any) -> None:
    found = finish(rough, BODY, FPS)
    r = found.report
    assert r["slide_mm_s"]["before"] > 50 and r["slide_mm_s"]["after"] <= 1.0
    joints = decode_channels(found.channels, BODY, FPS)
    mean, most, _ = slide(joints, found.channels[:, 4:6].astype(float), FPS)
    assert 1e3 * most <= 1.0 and 1e3 * mean <= 1.0
    assert (found.channels[:, 4:6] >= 0.5).mean() > 0.4  # feet that stand still because none stands are no answer
    kept = np.delete(np.arange(240), 7)
    assert found.channels[kept][:, [0, 1, 3]].tobytes() == rough[kept][:, [0, 1, 3]].tobytes()
    assert not out_of_range(found.channels)


def test_the_clamp_rate_counts_poses_and_not_contacts(rough: Any) -> None:
    r = finish(rough, BODY, FPS, lock=False).report
    assert r["clamped"]["vx"] == 1 and r["clamped"]["wrist_l_norm"] == 1 and r["contacts_clamped"] > 10
    assert r["clamp_rate"] == pytest.approx(sum(r["clamped"].values()) / (23 * 240), abs=1e-6)
    assert "slide_mm_s" not in r
    still = finish(clip(60).channels, BODY, FPS).report
    assert still["clamp_rate"] == 0.0 and still["contacts_clamped"] == 0


def test_given_values_are_neither_clamped_nor_moved(rough: Any) -> None:
    given = np.zeros(rough.shape, bool)
    given[:8] = given[-8:] = given[100] = True
    given[50:60, 6:11] = True
    found = finish(rough, BODY, FPS, given=given)
    assert found.channels[given].tobytes() == rough[given].tobytes() and found.channels[7, 0] == 9.0
    free = ~given.any(1)
    down = found.channels[:, 4:6] >= 0.5
    speed = np.linalg.norm(np.diff(decode_channels(found.channels, BODY, FPS)[:, (7, 8)][..., (0, 2)], axis=0), axis=-1)
    both = down[1:] & down[:-1] & (free[1:] & free[:-1])[:, None]
    assert both.sum() > 100 and speed[both].max() * FPS * 1e3 <= 1.0


def test_feet_that_are_said_to_stand_while_the_body_runs_off_are_let_go() -> None:
    x = clip(60).channels.copy()
    x[:, 4:6], x[:, 1] = 1.0, 3.0
    ran = finish(x, BODY, FPS)
    assert ran.report["lock"]["stepped"] > 40 and ran.report["slide_mm_s"]["after"] <= 1.0
    assert ran.report["lock"]["stepped"] == ((ran.channels[:, 4:6] == 0.25) & (x[:, 4:6] == 1)).sum()
    # What is given glides evenly: the feet between go with it and do not stand.
    glides, given = drifting(0.0), np.zeros((90, 25), bool)
    glides[:, 1], given[::7], given[-1] = 1.0, True, True
    r = finish(glides, BODY, FPS, given=given).report
    assert r["lock"]["stepped"] == 0 and r["lock"]["released"] > 100 and r["slide_mm_s"]["before"] > 900
    assert r["slide_mm_s"]["after"] <= 1.0


def drifting(metres: float) -> Any:
    """Three seconds of a body that stands, both feet down, while it is drawn to glide forwards."""
    x = np.repeat(clip(60).channels[5:6], 90, axis=0)
    s = np.arange(90) / 89
    x[:, [0, 3]], x[:, 1], x[:, 4:6] = 0.0, 6 * metres * s * (1 - s) / 3, 1.0
    return x


def test_a_foot_that_drifts_under_contact_steps_and_is_not_dragged_back() -> None:
    x = drifting(0.5)
    given = np.zeros(x.shape, bool)
    given[:8] = True
    for told in (None, given):
        found = finish(x, BODY, FPS, given=told)
        lock = found.report["lock"]
        assert lock["moved_mm"] <= 100 and lock["lowered_mm"] <= 20 and lock["stepped"] > 8
        assert found.report["slide_mm_s"]["before"] > 200 and found.report["slide_mm_s"]["after"] <= 1.0
        assert (found.channels[:, 4:6] >= 0.5).mean() > 0.75
        assert found.channels[:, [0, 1, 3]].tobytes() == x[:, [0, 1, 3]].tobytes()
    assert found.channels[given].tobytes() == x[given].tobytes()


def test_a_foot_that_stands_is_locked_where_it_always_was() -> None:
    x = drifting(0.14)
    found = finish(x, BODY, FPS)
    track = to_track(x, FPS)
    held = lock_feet(track.q, track.contacts, BODY, FPS)
    made, *_ = to_channels(Track(held.q, track.contacts, FPS))
    assert found.report["lock"]["stepped"] == 0 and 60 < found.report["lock"]["moved_mm"] <= 80
    assert found.channels[:, 4:].tobytes() == made[:, 4:].tobytes()


def test_the_slide_of_given_frames_is_told_apart() -> None:
    x = drifting(0.5)
    given = np.zeros(x.shape, bool)
    given[:50] = True
    told = finish(x, BODY, FPS, given=given).report["slide_mm_s"]
    assert told["given"] > 200 and told["after"] <= 1.0
    assert finish(x, BODY, FPS, given=np.ones(x.shape, bool)).report["slide_mm_s"] == {
        "before": 0.0, "after": 0.0, "given": pytest.approx(250, abs=5),
    }  # fmt: skip
    assert set(finish(x, BODY, FPS).report["slide_mm_s"]) == {"before", "after"}


def test_what_a_lock_did_to_a_dance_is_said() -> None:
    def told(**lock: float) -> list[str]:
        return remarks([{"path": "a.npz", "report": {"assumptions": [], **({"lock": lock} if lock else {})}}])

    assert told() == told(moved_mm=99.0, lowered_mm=49.0) == []
    (moved,) = told(moved_mm=212.4, lowered_mm=0.0)
    assert moved.startswith("a.npz: ") and "212 mm" in moved and "--no-lock" in moved and "pelvis" not in moved
    (both,) = told(moved_mm=60.0, lowered_mm=593.2)
    assert "593 mm" in both and "60 mm" in both


def test_values_that_are_not_finite_are_refused() -> None:
    x = clip(30).channels.copy()
    x[3, 3] = np.nan
    with pytest.raises(DataError, match="1 channel values are not finite"):
        finish(x, BODY, FPS)


def test_a_single_frame_is_a_clip() -> None:
    assert finish(clip(30).channels[:1], BODY, FPS).channels.shape == (1, 25)


def test_the_root_path_of_twenty_minutes_is_the_dense_answer_and_needs_no_dense_matrix() -> None:
    rng = np.random.default_rng(0)
    x = np.zeros((120, 25), np.float32)
    x[:, [0, 1, 3]] = rng.normal(0, 0.3, (120, 3))
    fixed = np.zeros(120, bool)
    fixed[[0, 1, 2, 40, 41, 60]] = True
    places = [Place(40, 1.0, -0.5, 0.3), Place(60, 0.0, 0.4), Place(119, 2.0, 2.0, -1.0)]
    found = correct_root(x, FPS, places, fixed=fixed)
    free = np.flatnonzero(~fixed[:-1])
    cost = np.eye(119) + 4 * np.diff(np.eye(119), axis=0).T @ np.diff(np.eye(119), axis=0)
    held = (np.arange(119) < np.array([40, 119])[:, None]).astype(float)[:, free]
    yaw, _ = integrate_root(x.astype(float), FPS)
    gap = (np.array([0.3, -1.0]) - yaw[[40, 119]]) * FPS
    spread = np.linalg.solve(cost[np.ix_(free, free)], held.T)
    wanted = spread @ np.linalg.solve(held @ spread, gap)
    np.testing.assert_allclose(found[free, 3] - x[free, 3], wanted, atol=1e-5)
    assert (found[fixed] == x[fixed]).all()
    long = np.zeros((36_000, 25), np.float32)
    led = correct_root(long, FPS, [Place(35_999, 5.0, 3.0, 1.0)])
    yaw, root = integrate_root(led, FPS)
    assert np.abs(root[-1, [0, 2]] - [5, 3]).max() < 1e-2 and abs(yaw[-1] - 1) < 1e-2


def write(folder: Path, **changes: Any) -> Path:
    channels = [round(float(v), 5) for v in clip(30).channels[5]]
    doc = {
        "schema": "choreo.keyframes/1", "fps": 30.0,
        "keyframes": [{"frame": 0, "channels": channels}, {"frame": 40, "channels": channels, "root": False}],
    }  # fmt: skip
    path = folder / "keys.json"
    path.write_text(json.dumps({**doc, **changes}))
    return path


def key(**changes: Any) -> dict[str, Any]:
    return {"frame": 3, "channels": [round(float(v), 5) for v in clip(30).channels[5]], **changes}


def test_keyframes_of_a_file(tmp_path: Path) -> None:
    found, task = read_keyframes(write(tmp_path), FPS, None)
    assert task == "inbetween" and found.rows == (0, 40) and found.root.tolist() == [True, False]
    values, mask = found.over(50)
    assert mask[0].tolist() == [1] * 7 and mask[40].tolist() == [0] + [1] * 6 and mask.sum() == 13
    assert values[40].tobytes() == found.values[1].tobytes()
    with pytest.raises(DataError, match="keyframe 40 lies beyond the dance of 40 frames"):
        found.over(40)
    led, _ = read_keyframes(
        write(tmp_path, keyframes=[key(frame=0, place=[1, 2], yaw=0.5), key(frame=9, place=[3, 2])]), FPS, None
    )
    assert led.start == (0.5, 1.0, 2.0) and led.places == (Place(9, 3.0, 2.0, None),)


def test_keyframes_of_a_clip(tmp_path: Path) -> None:
    own = clip(60)
    motion_npz.write(tmp_path / "c.npz", own)
    found, task = read_keyframes(tmp_path / "c.npz", FPS, "predict")
    assert task == "predict" and found.rows == tuple(range(16)) and found.frames == 0
    assert found.values.tobytes() == own.channels[-16:].tobytes()
    yaw, root = integrate_root(own.channels, FPS, own.header.yaw0, own.header.x0, own.header.z0)
    assert found.start == (yaw[44], root[44, 0], root[44, 2])
    found, task = read_keyframes(tmp_path / "c.npz", FPS, None, places=True)
    assert task == "inbetween" and found.rows == (*range(8), *range(52, 60)) and found.frames == 60
    assert [p.frame for p in found.places] == [52] and found.places[0].x == root[52, 0] and not found.wanted
    found, _ = read_keyframes(tmp_path / "c.npz", FPS, None, "0-3, 30,31")
    assert found.rows == (0, 1, 2, 3, 30, 31) and [p.frame for p in found.wanted] == [30] and not found.places


def test_a_body_of_another_stature_is_danced_in_the_trainings() -> None:
    tall = clip(60, height=1.9)
    k = 1.7 / tall.header.height_m
    small = decode_channels(in_training(tall.channels, k), scaled(tall.header.skeleton, k), FPS)
    large = decode_channels(tall.channels, tall.header.skeleton, FPS)
    all_but_toes = [j for j in range(22) if j not in (10, 11)]  # their rule counts in metres
    np.testing.assert_allclose(small[:, all_but_toes], k * large[:, all_but_toes], atol=1e-5)
    assert in_training(tall.channels, 1.0) is tall.channels


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda p: p / "none.json", NoInputError, "no keyframes"),
        (
            lambda p: write(p, fps=60.0),
            DataError,
            "holds 60 frames per second, the model dances at 30: number its frames",
        ),
        (lambda p: write(p, schema="choreo.poses/1"), FormatError, "the file holds choreo.poses/1"),
        (lambda p: write(p, keyframes=[]), FormatError, "no keyframes"),
        (lambda p: write(p, keyframes=[key(), key()]), FormatError, "frame 3 twice"),
        (lambda p: write(p, keyframes=[key(frame=-1)]), FormatError, "no keyframes"),
        (lambda p: write(p, keyframes=[key(channels=[0.0] * 24)]), FormatError, "no keyframes"),
        (lambda p: write(p, keyframes=[key(channels=[99.0] * 25)]), DataError, "keyframe 3: vx lies outside its range"),
        (lambda p: write(p, keyframes=[key(yaw=1.0)]), FormatError, "frame 3 has a yaw and no place"),
        (lambda p: write(p, keyframes=[key(pose="sitting")]), FormatError, "no keyframes"),
        (lambda p: spoiled(p), FormatError, "not JSON"),
        (
            lambda p: other(p, "x.bvh", "HIERARCHY\nROOT Hips\n{\n"),
            FormatError,
            r"neither a clip nor JSON.*choreo retarget .*x\.bvh --height 1\.70 -o DIR",
        ),
        (
            lambda p: other(p, "x.ogg", "OggS\0\2"),
            FormatError,
            r"neither a clip nor JSON .*x\.ogg.: need a choreo25 clip",
        ),
        (lambda p: other(p, "x.json", ""), FormatError, "neither a clip nor JSON"),
        (lambda p: slow(p), DataError, "holds 60 frames per second.*choreo retarget .* --resample 30"),
        (lambda p: short(p), DataError, "nothing lies between its ends"),
    ],
)
def test_odd_keyframes_are_refused(tmp_path: Path, make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        read_keyframes(make(tmp_path), FPS, None)


def spoiled(folder: Path) -> Path:
    path = write(folder)
    path.write_text(path.read_text().replace("0.9", "NaN", 1).replace('"frame": 0', '"frame": NaN'))
    return path


def other(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_text(text)
    return folder / name


def slow(folder: Path) -> Path:
    own = clip(60)
    motion_npz.write(folder / "c.npz", replace(own, header=replace(own.header, fps=60.0)))
    return folder / "c.npz"


def short(folder: Path) -> Path:
    motion_npz.write(folder / "c.npz", clip(16))
    return folder / "c.npz"


@pytest.mark.parametrize("at", ["", "x", "3-1", "0-60", "99", "1--2", "-1"])
def test_frames_that_are_none(tmp_path: Path, at: str) -> None:
    motion_npz.write(tmp_path / "c.npz", clip(60))
    with pytest.raises(UsageError, match="--at"):
        read_keyframes(tmp_path / "c.npz", FPS, None, at)
