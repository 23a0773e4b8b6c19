"""choreo25 against a second program written from the same rules, and against the numbers that program once gave."""

from __future__ import annotations

import json

import numpy as np
import pytest
import slow_choreo25 as slow
import smpl_like
from test_choreo25 import FPS, dance, swivel_apart

from choreo_cli.motion.choreo25 import decode, decode_channels, encode, encode_channels
from choreo_cli.motion.skeleton import canonical_skeleton

POSTURE = [0, 1, 3, *range(6, 25)]


def test_golden_numbers() -> None:
    golden = json.loads(slow.GOLDEN.read_text(encoding="utf-8"))
    s = canonical_skeleton(golden["height_m"])
    channels, joints = np.array(golden["channels"]), np.array(golden["joints"])
    assert channels.shape == (4, 25) and joints.shape == (4, 22, 3)
    assert np.abs(decode_channels(channels, s, golden["fps"], *golden["start"]) - joints).max() < 2e-9
    found, start, _ = encode_channels(joints, golden["fps"], s)
    assert np.abs(found[:, POSTURE] - np.array(golden["encoded"])).max() < 1e-6
    assert start == pytest.approx(golden["start"], abs=1e-8)


@pytest.mark.parametrize("name", ["dancer", "smpl"])
def test_decoder_and_encoder_written_twice(name: str) -> None:
    joints, fps = (dance(1.0), FPS) if name == "dancer" else (smpl_like.clip(30), 20.0)
    clip = encode(joints, fps)
    h = clip.header
    mine = decode(clip)
    theirs = slow.decode(clip.channels, h.skeleton, fps, h.yaw0, h.x0, h.z0)
    assert np.abs(mine - theirs).max() < 1e-9
    found, _, _ = encode_channels(joints, fps, h.skeleton)
    other = found.copy()
    other[:, POSTURE] = slow.encode(joints, h.skeleton, fps)
    assert swivel_apart(found, other).max() < 1e-6


def test_the_golden_file_is_what_its_program_gives() -> None:
    before = slow.GOLDEN.read_text(encoding="utf-8")
    golden = json.loads(before)
    s = canonical_skeleton(golden["height_m"])
    again = slow.decode(np.array(golden["channels"]), s, golden["fps"], *golden["start"])
    assert np.abs(again - np.array(golden["joints"])).max() < 2e-9
