"""discover and pair with motion files: arrays, markers, AMC, pickles; offsets against the generator's truth."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from choreo_cli.sessions import cache
from choreo_cli.sessions.discover import DiscoverOptions, discover
from formats.foreign import pickle_run, pose_log
from formats.foreign.joints import CANONICAL
from formats.foreign.smpl_body import canonical_offsets, forward
from formats.foreign.source import Source

TOP = Path(__file__).resolve().parents[2]
FPS = 30


def program(*args: object, cwd: Path, expect: int = 0) -> subprocess.CompletedProcess[bytes]:
    env = {**os.environ, "PYTHONPATH": str(TOP), "XDG_CACHE_HOME": str(cwd / ".cache")}
    done = subprocess.run(
        [sys.executable, "-m", "choreo_cli", *map(str, args)], capture_output=True, cwd=cwd, env=env, timeout=200, check=False
    )  # fmt: skip
    assert done.returncode == expect, done.stderr.decode()
    return done


def joints_of(path: Path) -> np.ndarray:
    """(T, 22, 3) of a synthetic session's poses at a constant rate."""
    stream = pose_log.read_json(Source.of(path))
    x = stream.xyz[:, [stream.joints.index(n) for n in CANONICAL]].astype(float)
    t, grid = stream.t_us / 1e6, np.arange(0, stream.t_us[-1] / 1e6, 1 / FPS)
    return np.stack([np.interp(grid, t, c) for c in x.reshape(len(x), -1).T], axis=1).reshape(-1, 22, 3)


def toolbox(joints: np.ndarray) -> dict[str, Any]:
    """The same dance as the 28 markers of the MoCap Toolbox, millimetres, z up."""
    at = {n: joints[:, CANONICAL.index(n)] for n in CANONICAL}
    points = {
        "Hip_FL": at["l_hip"] + [0.04, 0.1, 0.1], "Hip_FR": at["r_hip"] + [-0.04, 0.1, 0.1], "Hip_BL": at["l_hip"] + [0, 0.1, -0.1],
        "Hip_BR": at["r_hip"] + [0, 0.1, -0.1], "Spine": at["chest"] - [0, 0, 0.1], "Sternum": at["chest"] + [0, 0, 0.1],
        **{f"Head_{k}": at["head"] for k in ("FL", "FR", "BL", "BR")},
        **{f"{theirs}_{s.upper()}": at[f"{s}_{ours}"] for s in "lr" for theirs, ours in (
            ("Shoulder", "shoulder"), ("Elbow", "elbow"), ("Radius", "wrist"), ("Ulna", "wrist"), ("Finger", "wrist"), ("Knee", "knee"),
            ("Ankle", "ankle"), ("Pinkie", "toe"), ("BigToe", "toe"))},
    }  # fmt: skip
    xyz = np.stack(list(points.values()), axis=1) * 1000
    data = np.stack([xyz[..., 0], -xyz[..., 2], xyz[..., 1]], axis=-1).reshape(len(xyz), -1)
    return {
        "type": "MoCap data",
        "freq": float(FPS),
        "markerName": np.array([[n] for n in points], dtype=object),
        "data": data,
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sessions whose poses are motion files, and a folder of clips named as their songs."""
    from scipy.io import savemat

    top = tmp_path_factory.mktemp("motions")
    program("synth", "sessions", "--sessions", 2, "--minutes", 1, "--seed", 3, "-o", "recordings", cwd=top)
    for session, name in (("session-0000", "dance.npz"), ("session-0001", "dance.mat")):
        folder = top / "recordings" / session
        joints = joints_of(folder / "poses.jsonl")
        if name == "dance.npz":
            np.savez(folder / name, joints=joints, fps=float(FPS))
        else:
            savemat(folder / name, {"dance": toolbox(joints)})
        (folder / "poses.jsonl").unlink()
        (folder / "frames.parquet").unlink()
        meta = folder / "metadata.json"
        meta.write_text(meta.read_text().replace("poses.jsonl", name))
    program("discover", "recordings", "-o", "i.json", cwd=top)
    program("pair", "i.json", "-o", "d", cwd=top)
    return top


@pytest.mark.parametrize("session, name", [("session-0000", "dance.npz"), ("session-0001", "dance.mat")])
def test_a_motion_finds_its_music_and_its_offset(made: Path, session: str, name: str) -> None:
    found = {e["session_id"]: e for e in json.loads((made / "d" / "pairs.json").read_bytes())["entries"]}[session]
    truth = json.loads((made / "recordings" / session / "truth" / "truth.json").read_bytes())
    assert found["pose_path"].endswith(f"{session}/{name}") and found["track"] == truth["played"]
    assert (found["method"], found["identifiable"]) == ("motion_xcorr", "yes")
    assert abs(found["offset_us"] - truth["recordings"]["poses.jsonl"]["offset_us"]) < 40_000


def test_frames_of_a_motion_have_its_speed(made: Path) -> None:
    import pyarrow.parquet as pq

    frames = pq.read_table(made / "d" / "frames.parquet").to_pydict()
    energy = np.array([v for v in frames["motion_energy"] if v is not None])
    assert len(energy) > 2000 and float(np.median(energy)) > 0.05


def smpl_pickle() -> bytes:
    rng = np.random.default_rng(0)
    poses = np.cumsum(rng.normal(scale=0.01, size=(120, 72)), axis=0)
    return pickle.dumps({"smpl_poses": poses, "smpl_trans": np.zeros((120, 3)), "smpl_scaling": np.array([90.0])})


def test_clips_named_as_their_songs_are_pairs(made: Path, tmp_path: Path) -> None:

    (tmp_path / "all" / "music").mkdir(parents=True)
    (tmp_path / "all" / "motion").mkdir()
    for i, name in enumerate(("breaking", "locking")):
        (tmp_path / "all" / "music" / f"{name}.wav").write_bytes(
            (made / f"recordings/music/track-000{i}.wav").read_bytes()
        )
    (tmp_path / "all" / "motion" / "breaking.pkl").write_bytes(smpl_pickle())
    poses = np.concatenate([np.zeros((120, 66)), np.zeros((120, 90))], axis=1)
    np.savez(tmp_path / "all/motion/locking.npz", poses=poses, trans=np.zeros((120, 3)), mocap_framerate=np.array(60.0))
    program("discover", "all", "-o", "i.json", cwd=tmp_path)
    program("pair", "i.json", "-o", "d", cwd=tmp_path)
    found = json.loads((tmp_path / "d" / "pairs.json").read_bytes())["entries"]
    assert {(e["pose_path"], e["track"]) for e in found} == {
        ("motion/breaking.pkl", "music/breaking.wav"), ("motion/locking.npz", "music/locking.wav"),
    }  # fmt: skip


SKELETON = (
    ":version 1.10\n:name a\n:units\n length 1\n angle deg\n:root\n order TX TY TZ RX RY RZ\n axis XYZ\n:bonedata\n begin\n name back\n"
    " direction 0 1 0\n length 1\n axis 0 0 0 XYZ\n end\n:hierarchy\n begin\n root back\n end\n"
)


def listed(top: Path, caches: Path, **options: Any) -> dict[str, dict[str, Any]]:
    return {e["path"]: e for e in discover([top], DiscoverOptions(**options), caches).entries}


def test_a_pickle_is_opened_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """discover caches its facts: the second run starts no process."""
    monkeypatch.setattr(cache, "FRESH_NS", 0)
    (tmp_path / "all").mkdir()
    (tmp_path / "all" / "a.pkl").write_bytes(smpl_pickle())
    opened: list[Any] = []
    real = pickle_run.subprocess.Popen
    monkeypatch.setattr(pickle_run.subprocess, "Popen", lambda *a, **k: (opened.append(a), real(*a, **k))[1])
    first = listed(tmp_path / "all", tmp_path / "cache")
    again = listed(tmp_path / "all", tmp_path / "cache")
    assert first == again and len(opened) == 1
    assert (first["a.pkl"]["kind"], first["a.pkl"]["n"], first["a.pkl"]["rate_num"]) == ("motion", 120, 60)


def test_a_skeleton_put_beside_its_motion_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "FRESH_NS", 0)
    (tmp_path / "all").mkdir()
    (tmp_path / "all" / "07_01.amc").write_text(
        ":FULLY-SPECIFIED\n:DEGREES\n1\nroot 0 1 0 0 0 0\n2\nroot 0 1 0 0 5 0\n"
    )
    found = listed(tmp_path / "all", tmp_path / "cache")
    assert found["07_01.amc"]["reason"] == "no skeleton (.asf) beside it: put 07.asf beside it"
    (tmp_path / "all" / "07.asf").write_text(SKELETON)
    found = listed(tmp_path / "all", tmp_path / "cache")
    assert found["07_01.amc"]["reason"] is None and found["07.asf"]["kind"] == "other"


def test_a_map_makes_an_array_a_recording(tmp_path: Path) -> None:
    joints = forward(np.zeros((50, 22, 3)), np.zeros((50, 3)), canonical_offsets(1.7))
    (tmp_path / "all").mkdir()
    np.save(tmp_path / "all" / "a.npy", np.concatenate([joints, joints[:, :3]], axis=1))
    found = listed(tmp_path / "all", tmp_path / "cache")["a.npy"]
    assert found["kind"] == "motion" and "--map FILE" in found["reason"]
    mapping = {"format": "array", "time": {"fps": 25}, "joints": {"names": [*CANONICAL, "a", "b", "c"]}}
    found = listed(tmp_path / "all", tmp_path / "cache", mapping=mapping)["a.npy"]
    assert (found["kind"], found["format"], found["reason"], found["rate_num"]) == ("motion", "mapped", None, 25)
