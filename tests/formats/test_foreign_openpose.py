"""OpenPose folders: one JSON per frame, several people, no time inside."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from formats.errors import FormatError
from formats.foreign import openpose
from formats.foreign.pose_sniff import classify
from formats.foreign.source import Source


def person(x: float, missing: tuple[int, ...] = (), points: int = 25) -> dict[str, object]:
    flat: list[float] = []
    for i in range(points):
        flat += [0, 0, 0] if i in missing else [x + i, 100.0 + 2 * i, 0.5]
    return {"person_id": [-1], "pose_keypoints_2d": flat, "face_keypoints_2d": []}


def folder(path: Path, frames: list[list[dict[str, object]]], first: int = 0) -> list[Path]:
    out = []
    for i, people in enumerate(frames):
        file = path / f"clip_{i + first:012d}_keypoints.json"
        file.write_text(json.dumps({"version": 1.3, "people": people}))
        out.append(file)
    return out


def test_the_treadmill_sample(shared: Path) -> None:
    paths = sorted((shared / "data/pose/openpose_treadmill_27").glob("*.json"))
    assert openpose.group_folder([p.name for p in paths])
    assert all(classify(Source.of(p).head) == "openpose" for p in paths)
    facts = openpose.facts_folder(paths[::-1])
    assert (facts.n, facts.channels, facts.rate, facts.duration_us) == (90, 25, None, None)
    assert facts.meta["people"] == {"1": 76, "2": 11, "3": 3}
    assert round(facts.meta["missing_fraction"], 3) == 0.046
    assert facts.meta["fps_source"] == "none" and (facts.meta["units"], facts.meta["up"]) == ("px", "-y")
    stream = openpose.read_folder(paths, 24000 / 1001)
    assert stream.rate == (24000, 1001) and stream.rate_source == "user" and stream.xyz.shape == (90, 25, 2)
    assert int(stream.t_us[-1]) == round(89 * 1001e6 / 24000)
    # One person walking: the followed body never jumps by more than its own width between frames.
    hips = stream.xyz[:, stream.joints.index("pelvis")]
    assert np.nanmax(np.abs(np.diff(hips, axis=0))) < 100


def test_missing_is_nan_and_counted(tmp_path: Path) -> None:
    paths = folder(tmp_path, [[person(10, missing=(3, 4))] for _ in range(5)])
    stream = openpose.read_folder(paths, 30)
    assert np.isnan(stream.xyz[:, [3, 4]]).all() and np.isfinite(np.delete(stream.xyz, [3, 4], axis=1)).all()
    assert stream.confidence is not None and stream.confidence[0, 3] == 0


@pytest.mark.parametrize("order", [1, -1])
def test_the_nearest_to_the_last_is_followed(tmp_path: Path, order: int) -> None:
    frames = [[person(100 + i), person(400 - i)][::order] if 2 < i < 8 else [person(100 + i)] for i in range(10)]
    stream = openpose.read_folder(folder(tmp_path, frames), 30)
    assert stream.xyz[:, 0, 0].tolist() == [100 + i for i in range(10)]


def test_nobody_is_an_empty_pose_and_a_hole_keeps_its_time(tmp_path: Path) -> None:
    paths = folder(tmp_path, [[person(1)], [], [person(2)], [person(3)]], first=7)
    stream = openpose.read_folder([p for i, p in enumerate(paths) if i != 2], 10)
    assert stream.t_us.tolist() == [0, 100_000, 300_000]
    assert np.isnan(stream.xyz[1]).all()
    assert "missing_frames: 1 holes in the frame numbers" in stream.problems


def test_one_broken_frame_is_a_hole_with_a_reason(tmp_path: Path) -> None:
    paths = folder(tmp_path, [[person(i)] for i in range(6)])
    paths[2].write_bytes(paths[2].read_bytes()[:100])
    stream = openpose.read_folder(paths, 10)
    assert len(stream.t_us) == 5 and any(p.startswith(f"bad_frame: {paths[2].name}") for p in stream.problems)


def test_nothing_readable_is_an_error(tmp_path: Path) -> None:
    paths = folder(tmp_path, [[], []])
    with pytest.raises(FormatError):
        openpose.read_folder(paths, 10)
    for p in paths:
        p.write_text('{"people": 3}')
    with pytest.raises(FormatError):
        openpose.facts_folder(paths)


def test_coco_18_and_one_frame_alone(tmp_path: Path) -> None:
    paths = folder(tmp_path, [[person(5, points=18)]])
    facts = openpose.READERS[0].facts(Source.of(paths[0]))
    assert facts.n == 1 and facts.format == "openpose"
    stream = openpose.read(Source.of(paths[0]))
    assert len(stream.joints) == 19 and stream.joints[-1] == "pelvis"


@pytest.mark.parametrize("names, yes", [
    (["000.json", "001.json", "002.json"], True), (["a_000000000000_keypoints.json", "a_000000000001_keypoints.json"], True),
    (["frame1.json", "frame10.json", "frame2.json", "readme.txt"], True), (["metadata.json", "track.json"], False), (["1.json"], False),
    ([], False), (["take1.json", "pose.json", "hr.json", "take2.json"], False),
])  # fmt: skip
def test_folders_are_told_by_their_names(names: list[str], yes: bool) -> None:
    assert openpose.group_folder(names) is yes


def test_frames_sort_by_number_not_by_name(tmp_path: Path) -> None:
    paths = []
    for i in (10, 9, 2, 1):
        paths.append(tmp_path / f"frame{i}.json")
        paths[-1].write_text(json.dumps({"version": 1.3, "people": [person(float(i))]}))
    stream = openpose.read_folder(paths, 1)
    assert stream.xyz[:, 0, 0].tolist() == [1, 2, 9, 10]
    assert stream.t_us.tolist() == [0, 10**6, 8 * 10**6, 9 * 10**6]
