"""Pose readers claim poses and nothing else."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from formats.foreign import (
    amass,
    arkit,
    asf_amc,
    bvh,
    c3d,
    humanml3d,
    joint_arrays,
    keypoints,
    mat_mocap,
    mocap_other,
    openpose,
    pose_log,
    qom,
    smpl,
    trc,
    vision,
)  # fmt: skip
from formats.foreign.pose_sniff import classify
from formats.foreign.registry import Reader
from formats.foreign.source import Source

READERS: list[Reader] = sorted(
    (r for m in (bvh, openpose, keypoints, arkit, vision, qom, mocap_other, pose_log, amass, asf_amc, c3d, humanml3d,
                 joint_arrays, mat_mocap, smpl, trc) for r in m.READERS), key=lambda r: r.order
)  # fmt: skip
CLAIMED = {
    ".bvh": {"bvh"}, ".asf": {"asf"}, ".amc": {"amc"}, ".c3d": {"c3d"}, ".trc": {"trc"}, ".mat": {"mat"}, ".pkl": {"smpl-pkl"},
    ".npy": {"humanml3d"},
}  # fmt: skip


def claims(head: bytes, name: str, size: int | None = None) -> set[str]:
    return {r.format for r in READERS if r.sniff(head, name, len(head) if size is None else size)}


def test_formats_are_unique() -> None:
    assert len({r.format for r in READERS}) == len(READERS)


def test_shared_files_are_claimed_by_exactly_their_reader(shared: Path) -> None:
    counted = 0
    for path in sorted((shared / "data").rglob("*")):
        if not path.is_file():
            continue
        want = CLAIMED.get(path.suffix.lower(), set())
        if "openpose" in str(path.parent):
            want = {"openpose"}
        elif path.name.startswith("dwpose"):
            want = {"dwpose"}
        elif path.name == "dancer_motion_25fps.csv":
            want = {"qom-csv"}
        source = Source.of(path)
        assert claims(source.head, source.name, source.size) == want, path
        counted += 1
    assert counted > 150


OTHERS = {
    "metadata.json": {"session": "s1", "track_title": "x", "track_index": 3, "start_time": "2024-05-01T10:00:00Z",
                      "devices": [{"name": "phone-1", "fps": 30, "position": {"x": 1.0, "y": 2.0}}, {"name": "cam", "fps": 25}],
                      "joints": ["pelvis", "l_hip", "r_hip", "head"], "snapshots": 132},
    "playlist.json": {"title": "p", "tracks": [{"title": "Head over heels", "index": 1, "start": 0.0, "duration": 200.5}]},
    "label.json": {"content": 6, "style": 8},
    "scores.json": {"F-measure": 0.6, "Cemgil": 0.3, "Information gain": 0.2},
    "hr.json": [{"timestamp": 1700000000 + i, "bpm": 90, "confidence": 1} for i in range(20)],
    "frames.json": {"frames": [{"filename": "a.png", "frame": {"x": 1, "y": 2, "w": 3, "h": 4}}]},
    "imu.json": {"samples": [{"t": i, "x": 0.1, "y": 0.2, "z": 9.8} for i in range(9)]},
    "brace.json": {"v.1": {"bpm": 116.7, "beats_sec": [0.5, 1.0], "beats_frames": [6, 13]}},
    "geo.json": {"type": "FeatureCollection", "features": [{"geometry": {"type": "Point", "coordinates": [1.0, 2.0]}}]},
    "beats.json": {"t": [0.1, 0.5], "beats": [0.1, 0.5], "downbeats": [0.1]},
    "empty.json": {}, "list.json": [],
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("indent", [None, 2])
def test_other_json_is_left_alone(name: str, indent: int | None) -> None:
    head = json.dumps(OTHERS[name], indent=indent).encode()[:4096]
    assert claims(head, name) == set()


@pytest.mark.parametrize("text", [
    "1700000000.00\n1.0\n80.0\n", "1700000000.0,1700000000.0,1700000000.0\n32,32,32\n-1,2,3\n",
    "time,acc_x,acc_y,acc_z\n0,1,2,3\n", "timestamp;hr;x;y\n1;2;3;4\n", "source_path,start_frame,end_frame,new_name\na,0,-1,x\n",
    "time_s,gps_x,gps_y,gps_z\n0,1,2,3\n", "t,gyro_x,gyro_y,gyro_z,acc_x,acc_y,acc_z,mag_x,mag_y,mag_z\n0,1\n", "a,b,c\n", "",
    "video_id,seq_idx,start_frame,end_frame,dancer,x,y\n", "frame,person,bbox_x0,bbox_y0,bbox_x1,bbox_y1\n",
])  # fmt: skip
def test_other_csv_is_left_alone(text: str) -> None:
    assert claims(text.encode(), "a.csv") == set()


def test_sniffing_is_cheap() -> None:
    heads = [json.dumps(OTHERS[n], indent=2).encode()[:4096] for n in OTHERS] + [
        b"RIFF" + bytes(4092),
        b"\xff\xfb" + b"\xaa" * 4094,
        b"word " * 800,
    ]
    started = time.process_time()
    for _ in range(30):
        for head in heads:
            classify.cache_clear()
            claims(head, "a.bin")
    each = (time.process_time() - started) / 30 / len(heads)
    assert each < 1e-3, f"{each * 1e6:.0f} us a file"
