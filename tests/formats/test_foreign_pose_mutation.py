"""Damaged pose and motion files: a result or one FormatError, in bounded time and memory."""

from __future__ import annotations

import json
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from mutator import mutants
from test_foreign_bvh import Rig
from test_foreign_keypoints import ARKIT_SHAPES, arkit_names, body, coco_files, mediapipe_files
from test_foreign_mapping import shapes
from test_foreign_openpose import person
from test_foreign_pose_log import POSES, STAMPS, as_dict, as_list, as_xyz

from formats.errors import FormatError
from formats.foreign import amass, arkit, bvh, keypoints, mapping, openpose, pose_log, qom, vision
from formats.foreign.mapping_suggest import suggest_map
from formats.foreign.model import Facts, PoseStream, Series
from formats.foreign.source import Source

Reading = Callable[[Source], object]


def seeds() -> dict[str, tuple[str, bytes, list[Reading]]]:
    rows = [{"t_us": us, "joints": as_dict(p)} for us, p in zip(STAMPS[:6], POSES, strict=False)]
    lines = "\n".join(json.dumps(r) for r in rows)
    document = json.dumps(
        {
            "fps": 30,
            "frames": [
                {"time": us / 1e6, "people": [{"id": 1, "joints": as_list(p)}, {"id": 2, "joints": as_xyz(p)}]}
                for us, p in zip(STAMPS[:4], POSES, strict=False)
            ],
        }
    )
    image = body(3, 33, 3, 0, 27)
    px = np.round(body(4, 17, 2, 0, 15) * 1000, 1)
    names = arkit_names()
    table = (
        "time_s,"
        + ",".join(f"{n}_{a}" for n in as_dict(POSES[0]) for a in "xyz")
        + "\n"
        + "\n".join(",".join([f"{i / 30:.4f}", *(f"{v:.3f}" for v in POSES[i].ravel())]) for i in range(5))
    )
    swift = {
        n: {"x": 0.5, "y": 0.2, "confidence": 0.9}
        for n in ("root", "neck", "leftShoulder", "rightShoulder", "leftHip", "rightHip")
    }
    ark = [{"timestamp": 1.7e9 + i, **ARKIT_SHAPES["columns"](names, body(1, 91, 3, 1, 2)[0])} for i in range(2)]
    return {
        "jsonl": ("a.jsonl", lines.encode(), [pose_log.read_json, pose_log.READERS[0].facts, suggest_map]),
        "json": ("a.json", document.encode(), [pose_log.read_json, pose_log.READERS[1].facts, suggest_map]),
        "csv": ("a.csv", table.encode(), [pose_log.read_csv, pose_log.READERS[2].facts, suggest_map]),
        "mediapipe json": ("a.json", mediapipe_files("both json", image, image)[1].encode(), [keypoints.read_mediapipe_json]),
        "mediapipe csv": ("a.csv", mediapipe_files("long csv", image, image)[1].encode(), [keypoints.read_mediapipe_csv]),
        "coco json": ("a.json", coco_files("results", px)[1].encode(), [keypoints.read_coco_json]),
        "coco csv": ("a.csv", coco_files("csv", px)[1].encode(), [keypoints.read_coco_csv]),
        "dwpose": ("a.json", json.dumps({"metadata": {"fps": 30, "duration": 0.1}, "pose_tensor": body(3, 128, 2, 0, 10).tolist()}).encode(), [keypoints.dwpose_facts]),
        "openpose": ("0.json", json.dumps({"version": 1.3, "people": [person(1.0), person(50.0)]}).encode(), [openpose.read, openpose.facts]),
        "arkit": ("a.json", json.dumps({"frames": ark}).encode(), [arkit.read]),
        "vision": ("a.json", json.dumps([{"t": i, "joints": swift} for i in range(4)]).encode(), [vision.read]),
        "qom": ("a.csv", b"frame,time_s,qom,centroid_x\n" + b"".join(b"%d,%.2f,0.5,200.1\n" % (i, i / 25) for i in range(30)), [qom.read, qom.facts]),
        "bvh": ("a.bvh", Rig(n=4).text().encode(), [bvh.read, bvh.facts]),
        "bvh six": ("a.bvh", Rig(n=3).text(six=True, zero_root=True).encode(), [bvh.read]),
        "map": ("a.yaml", b"format: json\nframes: a\ntime: {key: t}\njoints:\n  layout: dict\n  axes: [x, y]\n  map: {a: head}\n", [lambda s: mapping.load_map(s.path)]),
        "mapped": ("a.json", shapes()["list"][1].encode()[:3000] + b"", [suggest_map]),
    }  # fmt: skip


def try_one(path: Path, data: bytes, readings: list[Reading], slow_s: float = 2.0) -> int:
    path.write_bytes(data)
    read = 0
    for reading in readings:
        started = time.process_time()  # of this process alone: two workers share the machine
        try:
            got = reading(Source.of(path))
        except FormatError as e:
            assert "\n" not in str(e) and str(e), e
        else:
            read += 1
            check(got)
        assert time.process_time() - started < slow_s, "too slow"
    return read


def check(got: object) -> None:
    if isinstance(got, PoseStream | Series):
        assert len(got.t_us) > 0 and (np.diff(got.t_us) > 0).all() and got.t_us[0] == 0
        data = got.xyz if isinstance(got, PoseStream) else got.values
        assert not np.isinf(data).any() and len(data) == len(got.t_us) and data.dtype == np.float32
        assert got.rate is None or (got.rate[0] > 0 and got.rate[1] > 0)
        if isinstance(got, PoseStream):
            assert len(got.joints) == data.shape[1] == len(set(got.joints)) and got.up in ("+y", "-y", "+z")
            assert got.units in ("m", "px", "norm", "unknown") and data.shape[2] in (2, 3)
    if isinstance(got, Facts):
        json.dumps(got.meta, allow_nan=False)
        assert got.duration_us is None or got.duration_us >= 0


@pytest.mark.parametrize("name", seeds())
def test_damage_is_a_result_or_one_error(tmp_path: Path, name: str) -> None:
    file, data, readings = seeds()[name]
    assert try_one(tmp_path / file, data, readings) == len(readings) or name in ("mapped", "map", "npy")
    for what, mutant in mutants(data, 120, seed=len(name), text=name not in ("c3d", "npy")):
        try:
            try_one(tmp_path / file, mutant, readings)
        except AssertionError as e:
            raise AssertionError(f"{name}: {what}: {e}") from e


@pytest.mark.slow
@pytest.mark.parametrize("name", seeds())
def test_damage_is_a_result_or_one_error_long(tmp_path: Path, name: str) -> None:
    file, data, readings = seeds()[name]
    for what, mutant in mutants(data, 3000, seed=100 + len(name), text=name not in ("c3d", "npy")):
        try:
            try_one(tmp_path / file, mutant, readings)
        except AssertionError as e:
            raise AssertionError(f"{name}: {what}: {e}") from e


@pytest.mark.parametrize("name", ["jsonl", "csv", "bvh", "qom", "openpose"])
def test_cut_at_any_byte(tmp_path: Path, name: str) -> None:
    file, data, readings = seeds()[name]
    step = max(1, len(data) // 150)
    for end in range(0, len(data), step):
        try_one(tmp_path / file, data[:end], readings[:1])


def bombs() -> dict[str, tuple[str, bytes, Reading]]:
    pose = b'{"t": 1, "joints": %s}'
    return {
        "deep nesting": ("a.json", b"[" * 200_000, pose_log.read_json),
        "deep objects": ("a.json", b'{"frames":' * 50_000, pose_log.read_json),
        "a number of 2 million digits": ("a.json", pose % (b'{"head": [%s, 1, 2]}' % (b"9" * 2_000_000)), pose_log.read_json),
        "a number of 4000 digits": ("a.json", pose % (b'{"head": [%s, 1, 2]}' % (b"9" * 4000)), pose_log.read_json),
        "1e999": ("a.json", pose % b'{"head": [1e999, -1e999, 2], "neck": [1, 2, 3]}', pose_log.read_json),
        "a million joints": ("a.json", pose % (b"[" + b",".join([b"[1,2,3]"] * 300_000) + b"]"), pose_log.read_json),
        "new names in every frame": ("a.jsonl", b"\n".join(b'{"t": %d, "joints": {"a%d": [1, 2, 3]}}' % (i, i) for i in range(20_000)), pose_log.read_json),
        "a million columns": ("a.csv", b"time," + b",".join(b"j%d_x,j%d_y" % (i, i) for i in range(500_000)) + b"\n0\n", pose_log.read_csv),
        "a cell of a megabyte": ("a.csv", b"time,nose_x,nose_y,neck_x,neck_y\n" + b"1" * 1_000_000 + b",1,2,3,4\n", pose_log.read_csv),
        "one quote": ("a.csv", b'time,nose_x,nose_y,neck_x,neck_y\n"' + b"1,1,1,1,1\n" * 50_000, pose_log.read_csv),
        "a hierarchy of braces": ("a.bvh", b"HIERARCHY\nROOT a\n" + b"{" * 500_000 + b"\nMOTION\nFrames: 1\nFrame Time: 1\n1\n", bvh.read),
        "a hundred thousand joints": ("a.bvh", b"HIERARCHY\n" + b"ROOT a\n{\n" + b"JOINT b\n{\n" * 100_000, bvh.read),
        "joints without end": ("a.bvh", b"HIERARCHY\n" + b"ROOT a\n{\nJOINT b\n{\n" * 2000 + b"\nMOTION\nFrames: 1\nFrame Time: 1\n1\n", bvh.read),
        "a row of a million numbers": ("a.bvh", Rig(n=1).text().encode() + b"1 " * 1_000_000, bvh.read),
        "a billion frames declared": ("a.bvh", Rig(n=2).text(frames=999_999_999).encode(), bvh.read),
        "zip of nothing": ("a.npz", b"PK\x03\x04" + bytes(2000), amass.facts),
    }  # fmt: skip


@pytest.mark.parametrize("name", bombs())
def test_bombs_are_bounded(tmp_path: Path, name: str) -> None:
    file, data, reading = bombs()[name]
    path = tmp_path / file
    path.write_bytes(data)
    tracemalloc.start()
    started = time.monotonic()
    try:
        check(reading(Source.of(path)))
    except FormatError as e:
        assert "\n" not in str(e) and len(str(e)) < 400
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert time.monotonic() - started < 20
    assert peak < 512 * 2**20
