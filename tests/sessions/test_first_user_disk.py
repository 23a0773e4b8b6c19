"""A replica of the first user's disk: playlists of features, slow phone sessions, and what must come of them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

PLAYLISTS = {"Your Mix 1": 42, "Your Mix 2": 56, "Your Mix 3": 44, "Your Mix 4": 34}
WITH_MANIFEST = ("Your Mix 1", "Your Mix 3")
SR, HOP = 22_050, 512
TRACK_S = 79.16  # 176 of them are 3.87 h
SNAPSHOTS = (132, 292, 1)
JOINTS = ("head", "neck", "left_shoulder", "right_shoulder", "left_hip", "right_hip", "left_knee", "right_knee")


def write_features(path: Path, rng: np.random.Generator) -> None:
    """What a librosa script leaves behind: mel, tempo, beat frames, onset, chroma, sr, hop."""
    frames = round(TRACK_S * SR / HOP)
    beats = np.arange(5, frames, 21.5).astype(np.int64)
    np.savez_compressed(
        path,
        mel=np.full((128, frames), rng.uniform(0.1, 1), np.float32),
        tempo=np.float64(120.2),
        beat_frames=beats,
        onset=np.tile(rng.uniform(0, 3, 100).astype(np.float32), frames // 100 + 1)[:frames],
        chroma=np.full((12, frames), 0.5, np.float32),
        sr=np.int64(SR),
        hop=np.int64(HOP),
    )


def write_session(folder: Path, start: str, unix: float, n: int, index: int, rng: np.random.Generator) -> None:
    folder.mkdir(parents=True)
    meta = {
        "session": folder.name,
        "playlist": "Your Mix 3",
        "track": {"title": f"Song {index:02d}", "index": index},
        "devices": [{"id": f"phone-{k}", "role": "camera"} for k in range(1, 5)],
        "started_at": start,
    }
    (folder / "metadata.json").write_text(json.dumps(meta))
    lines = []
    for k in range(n):
        t = unix + 0.2 + k + rng.uniform(-0.05, 0.05)
        joints = {j: [round(float(v), 4) for v in rng.normal(0, 0.3, 3)] for j in JOINTS}
        lines.append(json.dumps({"timestamp": round(t, 3), "joints": joints}))
    (folder / "poses.jsonl").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("disk")
    rng = np.random.default_rng(7)
    for name, count in PLAYLISTS.items():
        folder = top / "playlists" / name
        folder.mkdir(parents=True)
        for k in range(1, count + 1):
            write_features(folder / f"{k:02d}.npz", rng)
        if name in WITH_MANIFEST:
            tracks = [
                {"index": k, "title": f"Song {k:02d}", "file": f"{k:02d}.npz", "duration": TRACK_S}
                for k in range(1, count + 1)
            ]
            (folder / "playlist.json").write_text(json.dumps({"name": name, "tracks": tracks}))
    starts = (
        ("2026-04-08T02-02-29Z", 1775613749),
        ("2026-04-09T18-30-05Z", 1775759405),
        ("2026-04-10T00-00-01Z", 1775779201),
    )
    for (stamp, unix), n, index in zip(starts, SNAPSHOTS, (2, 7, 20), strict=True):
        iso = stamp[:11] + stamp[11:].replace("-", ":")
        write_session(top / "sessions" / f"Your Mix 3-{stamp}", iso, unix, n, index, rng)
    return top


@pytest.fixture(scope="module")
def inventory(disk: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    import os
    import subprocess
    import sys

    out = tmp_path_factory.mktemp("inventory") / "i.json"
    top = Path(__file__).resolve().parents[2]
    env = {**os.environ, "PYTHONPATH": str(top), "XDG_CACHE_HOME": str(out.parent / "cache")}
    done = subprocess.run(
        [sys.executable, "-m", "choreo_cli", "discover", str(disk), "-o", str(out)],
        capture_output=True,
        env=env,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return out


def entries(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_bytes())["entries"]


def test_inventory_is_exact(inventory: Path) -> None:
    found = entries(inventory)
    kinds = Counter(e["kind"] for e in found)
    assert kinds["features"] == 176 and kinds["pose"] == 3 and kinds["session"] == 3 and kinds["playlist"] == 4
    hours = sum(e["duration_us"] for e in found if e["kind"] == "features") / 3.6e9
    assert hours == pytest.approx(3.87, abs=0.01)
    assert sorted(e["n"] for e in found if e["kind"] == "pose") == sorted(SNAPSHOTS)
    assert Counter(e["format"] == "folder" for e in found if e["kind"] == "playlist") == {True: 2, False: 2}
    for e in found:
        if e["kind"] == "session":
            assert len(e["meta"]["devices_declared"]) == 4
            assert e["meta"]["track"]["index"] in (2, 7, 20)
    per_folder = Counter(Path(e["path"]).parent.name for e in found if e["kind"] == "features")
    assert per_folder == Counter(PLAYLISTS)


def test_pairs_are_clock_only_context(choreo: Any, inventory: Path, tmp_path: Path) -> None:
    done = choreo("pair", inventory, "-o", tmp_path / "d")
    assert done.returncode == 3, done.stderr
    pairs = json.loads(done.stdout)["entries"]
    assert {p["identifiable"] for p in pairs} == {"no"} and {p["method"] for p in pairs} == {"metadata"}
    assert all("pose_rate_below_8_fps" in p["reasons"] for p in pairs)
    sessions = {p["session_id"] for p in pairs}
    assert len(sessions) == 2
    assert sum(p["context_rows"] for p in pairs) == SNAPSHOTS[0] + SNAPSHOTS[1]
    tracks = [Path(p["track"]).name for p in pairs]
    assert tracks[:2] == ["02.npz", "03.npz"], "a session longer than its track goes on to the next one"
    assert all(p["real_fraction"]["mot"] < 0.03 for p in pairs), "1 Hz is 2 % of 50 Hz"
    report = json.loads((tmp_path / "d" / "report.json").read_bytes())
    single = [s for s in report["skipped"] if "insufficient" in s["reason"]]
    assert len(single) == 1 and "2026-04-10" in single[0]["path"]
    import pyarrow.parquet as pq

    frames = pq.read_table(tmp_path / "d" / "frames.parquet")
    assert frames.column("motion_energy").null_count == frames.num_rows, "slow poses never become motion"
    context = pq.read_table(tmp_path / "d" / "context.parquet")
    assert context.num_rows == SNAPSHOTS[0] + SNAPSHOTS[1]
    ages = np.diff(context.column("t_device_us").to_numpy()[:50])
    assert np.median(ages) == pytest.approx(1e6, rel=0.1), "the native rate"


def test_deleting_a_source_takes_its_pairs(choreo: Any, inventory: Path, disk: Path, tmp_path: Path) -> None:
    """Nothing is invented: without the second session's poses only the first session's pairs are left."""
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(disk / "sessions", copy / "sessions", ignore=lambda d, n: ["poses.jsonl"] if "04-09" in d else [])
    shutil.copytree(disk / "playlists" / "Your Mix 3", copy / "playlists" / "Your Mix 3")
    listed = choreo("discover", copy)
    done = choreo("pair", "-o", tmp_path / "d", input=listed.stdout)
    pairs = json.loads(done.stdout)["entries"]
    assert {p["session_id"] for p in pairs} == {"sessions/Your Mix 3-2026-04-08T02-02-29Z"}
