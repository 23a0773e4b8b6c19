"""MediaPipe, COCO, DWPose, ARKit and Vision: their joints, units and directions."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from formats.errors import FormatError
from formats.foreign import arkit, keypoints, vision
from formats.foreign.joints import ARKIT, COCO_17, MEDIAPIPE_33, VISION
from formats.foreign.model import Facts, PoseStream
from formats.foreign.pose_sniff import classify
from formats.foreign.source import Source

READERS = {r.format: r for m in (keypoints, arkit, vision) for r in m.READERS}
FORMAT = {"arkit": "arkit-json", "vision": "vision-json"}
LONG = {"l": "left", "r": "right"}


def read(path: Path) -> tuple[str, PoseStream, Facts]:
    source = Source.of(path)
    name = classify(source.head)
    reader = READERS[FORMAT.get(name, name)]
    assert reader.sniff(source.head, source.name, source.size) and reader.read is not None
    stream = reader.read(source)
    assert isinstance(stream, PoseStream)
    facts = reader.facts(source)
    assert facts.format == reader.format and facts.n == len(stream.t_us)
    return name, stream, facts


def body(n: int, count: int, dims: int, low: int, high: int) -> np.ndarray:
    """(n, count, dims) in 0.2..0.8 whose point `high` lies above `low` when y grows upwards."""
    rng = np.random.default_rng(3)
    points = rng.uniform(0.2, 0.8, size=(1, count, dims)) + rng.normal(scale=0.002, size=(n, count, dims))
    points[:, high, 1], points[:, low, 1] = 0.8, 0.2
    return np.round(points, 4)


def names_of(order: tuple[str, ...]) -> list[str]:
    swap = {"toe": "foot_index", "mouth": "mouth"}
    out = []
    for name in order:
        side, _, part = name.partition("_")
        part = swap.get(part, part)
        out.append(name if side not in LONG else f"mouth_{LONG[side]}" if part == "mouth" else f"{LONG[side]}_{part}")
    return out


MP = names_of(MEDIAPIPE_33)


def mediapipe_files(kind: str, world: np.ndarray, image: np.ndarray) -> tuple[str, str]:
    def marks(p: np.ndarray) -> list[dict[str, float]]:
        return [{"x": float(q[0]), "y": float(q[1]), "z": float(q[2]), "visibility": 0.9} for q in p]

    if kind == "image json":
        return "a.json", json.dumps(
            {"fps": 30, "frames": [{"frame": i, "landmarks": marks(p)} for i, p in enumerate(image)]}
        )
    if kind == "both json":
        rows = [
            {"timestamp_ms": i * 33.333, "poseLandmarks": marks(p), "poseWorldLandmarks": marks(w)}
            for i, (p, w) in enumerate(zip(image, world, strict=True))
        ]
        return "a.json", json.dumps(rows)
    if kind == "long csv":
        lines = ["time_s,landmark_id,x,y,z,visibility"]
        lines += [f"{i / 30:.6f},{j},{q[0]},{q[1]},{q[2]},0.9" for i, p in enumerate(image) for j, q in enumerate(p)]
        return "a.csv", "\n".join(lines)
    heads = {
        "named csv": [f"{n.upper()}_{{}}" for n in MP],
        "numbered csv": [f"{{}}{i}" for i in range(33)],
        "landmark csv": [f"landmark_{i}_{{}}" for i in range(33)],
    }[kind]
    short = kind == "numbered csv"
    lines = [
        ",".join(["time_s", *(h.format(a) for h in heads for a in ("x", "y", "z", "v" if short else "visibility"))])
    ]
    lines += [",".join([f"{i / 30:.6f}", *(f"{v}" for q in p for v in (*q, 0.9))]) for i, p in enumerate(image)]
    return "a.csv", "\n".join(lines)


@pytest.mark.parametrize("kind", ["image json", "both json", "long csv", "named csv", "numbered csv", "landmark csv"])
def test_mediapipe(tmp_path: Path, kind: str) -> None:
    image = body(30, 33, 3, low=0, high=27)  # image rows grow downwards: the ankle has the larger y
    world = (image - 0.5) * np.array([2, 3, 2])
    name, text = mediapipe_files(kind, world, image)
    (tmp_path / name).write_text(text)
    dialect, stream, _ = read(tmp_path / name)
    assert dialect == ("mediapipe-csv" if name.endswith("csv") else "mediapipe-json")
    assert stream.joints[-1] == "pelvis" and len(stream.joints) == 34
    assert {"l_toe", "r_toe", "l_ankle", "l_shoulder", "r_wrist"} <= set(stream.joints)
    assert stream.up == "-y" and stream.rate == (30, 1)
    if kind == "both json":
        np.testing.assert_allclose(
            stream.xyz[:, :33] / np.abs(stream.xyz).max(), world / np.abs(stream.xyz).max(), atol=1e-5
        )
        assert stream.xyz.shape[2] == 3
    else:
        assert (
            stream.units == "norm" and stream.xyz.shape[2] == 2 and "image-relative depth dropped" in stream.assumptions
        )
        np.testing.assert_allclose(stream.xyz[:, :33], image[:, :, :2], atol=1e-6)
        assert stream.confidence is not None and np.allclose(stream.confidence, 0.9)


def coco_files(kind: str, px: np.ndarray) -> tuple[str, str]:
    flat = [[v for q in p for v in (float(q[0]), float(q[1]), 0.8)] for p in px]
    if kind == "results":
        return "a.json", json.dumps(
            [{"image_id": i, "category_id": 1, "keypoints": f, "score": 2.0} for i, f in enumerate(flat)]
        )
    if kind == "alphapose":
        return "a.json", json.dumps(
            [
                {"image_id": f"{i}.jpg", "category_id": 1, "keypoints": f, "score": 2.0, "idx": 1}
                for i, f in enumerate(flat)
            ]
        )
    if kind == "mmpose":
        rows = [
            {"frame_id": i, "instances": [{"keypoints": p.tolist(), "keypoint_scores": [0.8] * 17}]}
            for i, p in enumerate(px)
        ]
        return "a.json", json.dumps({"meta_info": {"dataset_name": "coco"}, "instance_info": rows})
    if kind == "csv":
        lines = [",".join(["frame", *(f"{n}_{a}" for n in names_of(COCO_17) for a in ("x", "y", "conf"))])]
        return "a.csv", "\n".join(lines + [",".join([str(i), *map(str, f)]) for i, f in enumerate(flat)])
    return "a.json", json.dumps(
        {
            "annotations": [
                {"id": i + 9, "image_id": i // 2, "category_id": 1, "keypoints": f} for i, f in enumerate(flat)
            ]
        }
    )


@pytest.mark.parametrize("kind", ["results", "alphapose", "mmpose", "csv"])
def test_coco_17(tmp_path: Path, kind: str) -> None:
    px = np.round(body(20, 17, 2, low=0, high=15) * 1000, 1)
    name, text = coco_files(kind, px)
    (tmp_path / name).write_text(text)
    dialect, stream, facts = read(tmp_path / name)
    assert dialect == ("coco-csv" if kind == "csv" else "coco-json")
    np.testing.assert_allclose(stream.xyz[:, :17], px, atol=1e-3)
    faces = names_of(COCO_17)[1:5] if kind == "csv" else COCO_17[1:5]
    assert stream.joints == ("nose", *faces, *COCO_17[5:], "pelvis") and (stream.units, stream.up) == ("px", "-y")
    assert stream.confidence is not None and np.allclose(stream.confidence, 0.8)
    assert stream.rate is None and facts.duration_us is None
    assert READERS[facts.format].read(Source.of(tmp_path / name), fps=25).rate == (25, 1)  # type: ignore[misc, union-attr]


def test_coco_people_of_one_image_are_one_frame(tmp_path: Path) -> None:
    px = np.round(body(20, 17, 2, low=0, high=15) * 1000, 1)
    px[1::2] += 700
    name, text = coco_files("annotations", px)
    (tmp_path / name).write_text(text)
    _, stream, _ = read(tmp_path / name)
    assert len(stream.t_us) == 10 and stream.problems[0].startswith("several_people: 10 of 10 frames")
    assert np.ptp(stream.xyz[:, 0, 0]) < 50


def test_coco_points_not_labelled_are_missing(tmp_path: Path) -> None:
    flat = [float(v) for i in range(17) for v in ((0, 0, 0) if i == 3 else (100 + i, 200 + i, 2))]
    (tmp_path / "a.json").write_text(
        json.dumps([{"image_id": i, "category_id": 1, "keypoints": flat} for i in range(4)])
    )
    _, stream, _ = read(tmp_path / "a.json")
    assert np.isnan(stream.xyz[:, 3]).all() and np.isnan(stream.xyz).sum() == 4 * 2


def test_the_dwpose_sample(shared: Path) -> None:
    dialect, stream, facts = read(shared / "data/pose/dwpose_bais1c_extracted_poses.json")
    assert dialect == "dwpose" and facts.n == 60 and facts.rate == (30, 1) and facts.duration_us == 2_000_000
    assert stream.xyz.shape == (60, 19, 2) and stream.joints[0] == "nose" and stream.joints[-1] == "pelvis"
    assert facts.meta["bpm"] == pytest.approx(123.05, abs=0.01) and stream.problems == ()
    assert (stream.units, stream.up) == ("norm", "-y")


@pytest.mark.parametrize(
    "fps, duration, fault", [(30, 2.0, False), (25, 11.1, True), (30, 2.03, False), (60, 2.0, True)]
)
def test_a_tensor_whose_rate_contradicts_its_duration_is_flagged_not_stretched(
    tmp_path: Path, fps: float, duration: float, fault: bool
) -> None:
    tensor = body(60, 128, 2, low=0, high=10).tolist()
    (tmp_path / "a.json").write_text(
        json.dumps({"metadata": {"fps": fps, "duration": duration}, "pose_tensor": tensor})
    )
    _, stream, _ = read(tmp_path / "a.json")
    assert [p.split(":")[0] for p in stream.problems] == (["rate_contradiction"] if fault else [])
    assert stream.t_us[1] == round(1e6 / fps) and len(stream.t_us) == 60


def arkit_names() -> list[str]:
    names = ["root", *ARKIT]
    return names + [f"left_handIndex_{i}_joint" for i in range(91 - len(names))]


def matrix(p: list[float]) -> list[float]:
    return [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, *p, 1]


ARKIT_SHAPES: dict[str, Callable[[list[str], np.ndarray], Any]] = {
    "positions": lambda names, p: {"joints": dict(zip(names, p.tolist(), strict=True))},
    "transforms": lambda names, p: {"joints": {n: matrix(q) for n, q in zip(names, p.tolist(), strict=True)}},
    "columns": lambda names, p: {"joints": {n: {"transform": [matrix(q)[i : i + 4] for i in (0, 4, 8, 12)]} for n, q in zip(names, p.tolist(), strict=True)}},
    "arrays": lambda names, p: {"jointNames": names, "jointModelTransforms": [matrix(q) for q in p.tolist()]},
    "list": lambda names, p: {"joints": [{"name": n, "position": {"x": q[0], "y": q[1], "z": q[2]}} for n, q in zip(names, p.tolist(), strict=True)]},
}  # fmt: skip


@pytest.mark.parametrize("shape", ARKIT_SHAPES)
def test_arkit_91(tmp_path: Path, shape: str) -> None:
    names = arkit_names()
    p = body(12, 91, 3, low=names.index("left_foot_joint"), high=names.index("head_joint"))
    p[:, names.index("right_foot_joint"), 1] = 0.2
    rows = [
        {"timestamp": 1_700_000_000 + i / 10, "tracked": True, **ARKIT_SHAPES[shape](names, q)} for i, q in enumerate(p)
    ]
    (tmp_path / "a.json").write_text(json.dumps({"frames": rows}))
    dialect, stream, _ = read(tmp_path / "a.json")
    assert dialect == "arkit" and (stream.units, stream.up) == ("m", "+y") and stream.rate == (10, 1)
    assert stream.xyz.shape == (12, 91, 3) and set(ARKIT.values()) <= set(stream.joints)
    np.testing.assert_allclose(stream.xyz, p, atol=1e-6)
    assert stream.joints[names.index("left_shoulder_1_joint")] == "l_collar"


@pytest.mark.parametrize("style", ["raw", "swift"])
def test_vision_points_grow_upwards(tmp_path: Path, style: str) -> None:
    swift = [
        "root",
        "neck",
        "nose",
        *(f"{s}{p}" for s in ("left", "right") for p in ("Shoulder", "Elbow", "Wrist", "Hip", "Knee", "Ankle")),
    ]
    names = swift if style == "swift" else list(VISION)
    top, bottom = ("nose", "leftAnkle") if style == "swift" else ("head_joint", "left_foot_joint")
    p = body(12, len(names), 2, low=names.index(bottom), high=names.index(top))
    rows = [
        {
            "timestamp": 1_700_000_000 + i / 30,
            "joints": {
                n: {"x": float(a), "y": float(b), "confidence": 0.7} for n, (a, b) in zip(names, q, strict=True)
            },
        }
        for i, q in enumerate(p)
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(r) for r in rows))
    dialect, stream, _ = read(tmp_path / "a.jsonl")
    assert dialect == "vision" and (stream.units, stream.up) == ("norm", "+y")
    assert {"pelvis", "neck", "l_shoulder", "l_elbow", "r_wrist", "l_hip", "l_ankle"} <= set(stream.joints)
    np.testing.assert_allclose(stream.xyz, p, atol=1e-6)


@pytest.mark.parametrize("text", [
    '{"pose_tensor": [], "fps": 3}', '{"pose_tensor": [[[1, 2]]]}', '{"pose_tensor": 3, "fps": 3}',
    '{"pose_tensor": [[[1, 2], [3, 4]], [[1, 2], [3, 4], [5, 6]]]}',
])  # fmt: skip
def test_a_tensor_of_no_body_is_one_clear_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(FormatError):
        keypoints.read_dwpose(Source.of(tmp_path / "a.json"))
