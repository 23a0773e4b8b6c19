"""Poses over OSC: any layout by name, the pelvis of the offline reader, and motion equal to the offline extraction."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest

from choreo_cli.errors import UsageError
from choreo_cli.live.assemble import Assembler
from choreo_cli.live.clock import VirtualClock
from choreo_cli.live.opening import sources_of
from choreo_cli.live.osc import encode
from choreo_cli.live.osc_pose import BODIES, body_of, completed
from choreo_cli.live.osc_source import OscSource
from choreo_cli.live.performance import Around
from choreo_cli.live.sample import Body
from choreo_cli.live.show import Show
from choreo_cli.live.sources import open_source
from choreo_cli.motion.features import Scale, extract_pose
from choreo_cli.motion.resample import Grid
from formats.foreign.joints import with_pelvis

STEP = 20_000


def dancer(body: Body, n: int, seed: int = 1) -> np.ndarray:
    """(n, J, D): every joint around a place of its own, at rates of dancing."""
    rng = np.random.default_rng(seed)
    shape = (len(body.joints), body.dims)
    t = np.arange(n)[:, None, None] / 50
    rates = rng.uniform(0.7, 2.2, shape)
    return (rng.normal(0, 0.6, shape) + 0.2 * np.sin(2 * np.pi * rates * t + rng.uniform(0, 6, shape))).astype("f4")


@pytest.mark.parametrize(
    ("spec", "text", "address"),
    [
        ("osc:0", "canonical22", "/choreo/pose"),
        ("osc:0:choreo", "coco17", "/choreo/pose"),
        ("osc:0:wek", "mediapipe33", "/wek/inputs"),
    ],
)
def test_motion_of_osc_poses_is_that_of_the_offline_extraction(spec: str, text: str, address: str) -> None:
    body, scale = body_of(text), Scale(2.0, 200.0, 1.7)
    poses = dancer(body, 400)
    names, whole, _, _ = with_pelvis(body.joints, poses.astype("f8"), None)
    t = np.arange(len(poses)) * STEP
    offline = extract_pose(t, whole, names, Grid.covering(0, int(t[-1])), up=body.up, scale=scale)
    source = open_source(spec, body=body)[0]
    assert isinstance(source, OscSource) and source.body == completed(body) and names == completed(body).joints
    made = Assembler.of([source], scale)
    worst, compared = 0.0, 0
    for k, pose in enumerate(poses):
        source.handle(encode(address, pose.ravel().tolist()), k * STEP * 1000)
        for sample in source.poll(k * STEP * 1000):
            made.take(sample)
        frame = made.frame(k * STEP)
        if frame.mask[0] and k > 250:  # what is held at k was measured a few frames before it
            errors = np.abs(offline.values[k - 6 : k + 1] - frame.values[:6]).max(axis=1)
            worst, compared = max(worst, float(errors.min())), compared + 1
    assert compared > 140 and worst < 2e-6, (compared, worst)
    assert made.counts == {} and source.facts()["refused"] == {}


def test_joints_that_are_not_seen_are_missing_whole() -> None:
    source = OscSource(body=body_of("l_hip,r_hip,head:2"))
    source.handle(encode("/choreo/pose", [1.0, 2.0, 3.0, 6.0, False, 5.0]), 0)
    source.handle(encode("/choreo/pose", [1.0, 2.0, 0.0, 0.0, 4.0, 5.0]), 1000)
    first, second = source.poll(0)
    nan = np.nan
    np.testing.assert_array_equal(first.values, [[1, 2], [3, 6], [nan, nan], [2, 4]])
    np.testing.assert_array_equal(second.values, [[1, 2], [nan, nan], [4, 5], [nan, nan]])
    for bad in ([1.0] * 5, [1.0] * 5 + ["x"], [1.0] * 5 + [True], [1.0] * 5 + [1e9]):
        source.handle(encode("/choreo/pose", bad), 2000)
    assert source.facts()["refused"] == {"an argument is no position": 3, "not 6 numbers": 1}


@pytest.mark.parametrize(
    ("text", "joints", "dims", "up"),
    [
        ("mediapipe33", 33, 3, "-y"), ("coco17", 17, 2, "-y"), ("coco17:3", 17, 3, "+y"),
        ("canonical22:3:+z", 22, 3, "+z"), ("canonical22:2", 22, 2, "-y"), ("LeftUpLeg,RightUpLeg,Head:3", 3, 3, "+y"),
    ],
)  # fmt: skip
def test_bodies_by_name(text: str, joints: int, dims: int, up: str) -> None:
    found = body_of(text)
    assert (len(found.joints), found.dims, found.up) == (joints, dims, up)
    assert set(BODIES) == {"canonical22", "mediapipe33", "coco17", "coco18", "body25"}


@pytest.mark.parametrize(
    "text", ["coco", "", ":", "coco17:4", "coco17:2:+z", "coco17:2:-y:m", "a,a", "a,,b", "coco17:x"]
)
def test_no_body_is_guessed(text: str) -> None:
    with pytest.raises(UsageError, match="--body"):
        body_of(text)


def test_poses_on_stdin_are_those_of_osc() -> None:
    """Named in another order, by place, without times, with a joint gone: one JSON object a line."""
    body, poses = body_of("head,l_hip,r_hip:3"), dancer(body_of("head,l_hip,r_hip:3"), 100)
    lines = []
    for k, pose in enumerate(poses.tolist()):
        named = {"RightUpLeg": pose[2], "Head": pose[0], "LeftUpLeg": pose[1], "Tail": [0, 0, 9]}
        line = {"t_us": k * STEP, "joints": named} if k % 2 else {"t": k * STEP / 1e6, "points": pose}
        lines.append(json.dumps(line))
    lines[5:5] = ['{"t_us": 1, "joints": {"Tail": [1, 2, 3]}}', "{}", "[1", '{"points": [[1, 2, 3]]}']
    lines += [
        json.dumps({"t_us": 100 * STEP, "joints": {"Head": None, "LeftUpLeg": [1, 1, 1], "RightUpLeg": [3, 3, 3]}})
    ]
    source = open_source("-", body=body, stdin=io.BytesIO("\n".join(lines).encode()))[0]
    clock, heard = VirtualClock(), []
    source.open(clock, 0)
    for k in range(102):
        heard += source.poll(k * STEP * 1000)
    facts = source.facts()
    source.close()
    assert source.ended and facts["refused"] == 4 and facts["samples"] == 101
    assert source.body == completed(body) and source.kinds == ("pose",)
    assert [s.t_us for s in heard] == [k * STEP for k in range(101)]
    _, whole, _, _ = with_pelvis(body.joints, poses.astype("f8"), None)
    np.testing.assert_allclose(np.stack([s.values for s in heard[:100]]), whole, atol=1e-6)
    np.testing.assert_array_equal(heard[100].values, [[np.nan] * 3, [1, 1, 1], [3, 3, 3], [2, 2, 2]])


def test_a_show_names_the_body_and_the_map_of_its_osc_sources() -> None:
    show = Show(source=["osc:0", "demo"], osc_map=["/x:0=hr"], body="coco17")
    osc, demo = sources_of(show, Around(speed=0))
    assert set(osc.kinds) == {"hr"} and osc.body == completed(body_of("coco17")) and demo.body is None
    with pytest.raises(UsageError, match=r"--body coco17, and no source is OSC"):
        sources_of(Show(source="demo", body="coco17"), Around(speed=0))
    with pytest.raises(UsageError, match=r"osc:0:wek needs --map: .*--body"):
        sources_of(Show(source="osc:0:wek"), Around(speed=0))
