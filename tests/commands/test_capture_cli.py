"""`choreo capture` end to end: recorded phone and watch streams in, clean choreo25 out; and what it refuses."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from choreo_cli.motion import capture_simulate as sim
from choreo_cli.motion.capture_log import head_line, reading_line
from choreo_cli.motion.choreo25 import decode, encode
from choreo_cli.motion.cleanup import facts, jerk_limit
from formats import manifest, motion_npz
from formats.media import CAPTURE_LEDGER
from formats.tables import read_table

PHONE_AND_WATCH = (sim.STUDIO[0], sim.STUDIO[2])


def record(path: Path, seconds: float = 4.0, sensors: tuple[sim.Sensor, ...] = PHONE_AND_WATCH, seed: int = 0) -> Path:
    """Recorded streams of the procedural dancer: noise, delays, readings that overtake each other, a dropout."""
    t, joints = sim.danced(seed, seconds)
    heard = sim.simulate(t, joints, sensors, seed)
    lines = [head_line(sim.head_of(sensors, 1.7)), *map(reading_line, heard), {"end": True, "n": len(heard)}]
    path.write_text("".join(json.dumps(x, separators=(",", ":")) + "\n" for x in lines))
    return path


def entries(document: bytes) -> list[dict]:
    found = manifest.decode(document)
    assert found.schema == "choreo.motions/1"
    return found.entries


def test_phone_and_watch_become_choreo25(choreo, tmp_path: Path) -> None:
    """The whole way: streams with noise, delay and half a second of silence, fused and cleaned, with its ledger."""
    path = record(tmp_path / "s.jsonl", sensors=sim.without(PHONE_AND_WATCH, 2.0, 2.5))
    done = choreo("capture", "stream", "--source", f"jsonl:{path}", "-o", "out", "--json")
    assert done.returncode == 0, done.stderr
    [entry] = entries(done.stdout)
    assert done.stdout == (tmp_path / "out" / "motions.json").read_bytes()
    clip = motion_npz.read(tmp_path / "out" / entry["path"])
    assert entry["synthetic"] and entry["fps"] == 60.0 and entry["n_frames"] == len(clip.channels) > 200
    _, truth = sim.danced(0, 4.0)
    book = read_table(tmp_path / "out" / "capture.ledger.parquet", CAPTURE_LEDGER)
    shown = book.column("shown_us").to_numpy()
    assert (np.diff(shown) > 16_000).all() and len(shown) == len(clip.channels)
    error = np.linalg.norm(decode(clip) - truth[np.round(shown * 240 / 1e6).astype(int)], axis=-1).mean(1)
    assert error[(shown > 600_000) & (shown < 1_900_000)].mean() < 0.065
    assert error[shown > 3_200_000].mean() < 0.075
    told = facts(decode(clip), clip.channels[:, 4:6], 60.0)
    assert told["ankle_slide_mm_s"] <= 1.0 and told["jerk_p99"] < jerk_limit(60.0)
    late = json.loads((tmp_path / "out" / "capture.latency.json").read_text())
    assert late["budget_ms"] == 30.0 and late["n"] == len(shown)
    assert {"p50", "p95", "p99", "max"} == set(late["sensor_to_choreo25"])
    np.testing.assert_array_equal(book["due_us"] - shown, 25_000)
    assert b"sensor to choreo25 p50" in done.stderr
    assert entry["report"]["streams"]["phone"]["taken"] > 60 and entry["report"]["streams"]["watch"]["taken"] > 100
    assert choreo("check", "out").returncode == 0


def test_the_stream_loads_no_torch(tmp_path: Path) -> None:
    path = record(tmp_path / "s.jsonl", seconds=1.0)
    code = (
        "import sys\nfrom choreo_cli import app\n"
        f"app.run(['capture', 'stream', '--source', 'jsonl:{path}', '--rows', '{tmp_path / 'rows'}', '-q'])\n"
        "print(sorted({m.split('.')[0] for m in sys.modules} & {'torch', 'onnx', 'librosa', 'numba', 'matplotlib'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
    lines = (tmp_path / "rows").read_text().splitlines()
    head, last = json.loads(lines[0]), json.loads(lines[-1])
    assert head["schema"] == "choreo.rows/1" and len(head["skeleton"]) == 58
    assert last == {"end": True, "n": len(lines) - 2} and last["n"] > 40
    assert len(json.loads(lines[5])["channels"]) == 25


def test_rows_in_a_pipe_are_the_clip(choreo, tmp_path: Path) -> None:
    path = record(tmp_path / "s.jsonl", seconds=1.5)
    assert choreo("capture", "stream", "--source", f"jsonl:{path}", "-o", "out", "-q").returncode == 0
    done = choreo("capture", "stream", "--source", "-", "--rows", "-", input=path.read_bytes())
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    channels = np.array([r["channels"] for r in rows[1:-1]], np.float32)
    clip = motion_npz.read(tmp_path / "out" / "capture.npz")
    np.testing.assert_array_equal(channels, clip.channels)
    assert (rows[0]["yaw0"], rows[0]["x0"]) == (clip.header.yaw0, clip.header.x0)


def test_recorded_streams_and_rows_are_known(choreo, tmp_path: Path) -> None:
    record(tmp_path / "in.jsonl", 1.0)
    assert choreo("capture", "stream", "--source", "jsonl:in.jsonl", "--rows", "out.rows").returncode == 0
    for name in ("in.jsonl", "out.rows"):
        done = choreo("check", name)
        assert (done.returncode, done.stdout) == (0, b""), done.stdout
        assert choreo("inspect", name).returncode == 0
    whole = (tmp_path / "out.rows").read_bytes()
    lines = whole.splitlines(keepends=True)
    spoiled = (whole[:2000], b"".join(lines[:-1]), b"".join([*lines[:3], lines[2], *lines[3:]]), whole + lines[2])
    for k, data in enumerate(spoiled):
        (tmp_path / f"{k}.rows").write_bytes(data)
        assert choreo("check", f"{k}.rows").returncode == 1, k


def test_fuse_clean_and_sync_are_a_pipe(choreo, tmp_path: Path) -> None:
    path = record(tmp_path / "s.jsonl", seconds=12.0, sensors=(sim.Sensor("phone", "pose", 30.0, 0.01),))
    fused = choreo("capture", "fuse", path, "-o", "fused", "--fps", "30")
    assert fused.returncode == 0, fused.stderr
    cleaned = choreo("capture", "clean", "-o", "cleaned", input=fused.stdout)
    assert cleaned.returncode == 0, cleaned.stderr
    [entry] = entries(cleaned.stdout)
    assert entry["report"]["after"]["ankle_slide_max_mm_s"] <= 1.0 and entry["synthetic"]
    assert "cleaned" in entry["flags"] and entry["report"]["jerk_limit"] == pytest.approx(jerk_limit(30.0))
    (tmp_path / "beats.beats").write_text("".join(f"{b:.3f}\n" for b in np.arange(0, 12.5, 0.5)))
    synced = choreo("capture", "sync", "cleaned", "-o", "synced", "--beats", "beats.beats")
    assert synced.returncode == 0, synced.stderr
    [entry] = entries(synced.stdout)
    record_ = json.loads((tmp_path / "synced" / "s.timemap.json").read_text())
    assert record_["format"] == "choreo.timemap/1" and 0.8 <= record_["slope_min"] <= record_["slope_max"] <= 1.25
    assert entry["report"]["alignment"]["after"] > entry["report"]["alignment"]["before"]
    assert choreo("capture", "clean", "fused", "-o", "cleaned", "--force").stdout == cleaned.stdout
    assert choreo("check", "synced").returncode == 0


def test_a_dance_to_other_beats_is_refused_and_nothing_is_written(choreo, tmp_path: Path) -> None:
    _, joints = sim.danced(5, 14.0, bpm=97.0, fps=30.0)
    motion_npz.write(tmp_path / "d.npz", encode(joints, 30.0))
    (tmp_path / "beats.beats").write_text("".join(f"{b:.3f}\n" for b in np.arange(0, 14.5, 0.5)))
    done = choreo("capture", "sync", "d.npz", "-o", "out", "--beats", "beats.beats")
    assert done.returncode == 1 and b"does not follow these beats" in done.stderr
    assert done.stdout == b"" and not list((tmp_path / "out").glob("*.npz"))


def test_one_bad_clip_of_two_is_left_out(choreo, tmp_path: Path) -> None:
    _, joints = sim.danced(0, 2.0, fps=30.0)
    folder = tmp_path / "clips"
    folder.mkdir()
    motion_npz.write(folder / "good.npz", encode(joints, 30.0))
    (folder / "bad.bvh").write_text("HIERARCHY\nROOT Hips\n{\n")
    done = choreo("capture", "clean", "clips", "-o", "out")
    assert done.returncode == 3, done.stderr
    assert [e["path"] for e in entries(done.stdout)] == ["good.npz"]
    assert "bad.bvh" in (tmp_path / "out" / "left_out.jsonl").read_text()
    assert choreo("capture", "clean", "clips", "-o", "out", "--keep-going").returncode == 0


BAD_LINES = {
    "nothing": (b"", 66, b"no streams arrived"),
    "not json": (b"hello\n", 65, b"s.jsonl"),
    "another schema": (b'{"schema":"choreo.capture/9"}\n', 65, b"not of choreo.capture/1"),
    "no streams": (b'{"schema":"choreo.capture/1","streams":{}}\n', 65, b"no streams are named"),
    "odd kind": (b'{"schema":"choreo.capture/1","streams":{"a":{"kind":"nose"}}}\n', 65, b"of no kind"),
    "cut": (b'{"schema":"choreo.capture/1","streams":{"a":{"kind":"head"}}}\n{"end":true,"n":7}\n', 65, b"cut or damaged"),
    "no end": (b'{"schema":"choreo.capture/1","streams":{"a":{"kind":"head"}}}\n'
               b'{"stream":"a","t_us":0,"values":[0,1,0]}\n', 65, b"without its last line"),
    "no pose": (b'{"schema":"choreo.capture/1","streams":{"a":{"kind":"head"}}}\n'
                b'{"stream":"a","t_us":0,"values":[0,1,0]}\n{"end":true,"n":1}\n', 65, b"no whole pose arrived"),
    "points": (b'{"schema":"choreo.capture/1","streams":{"a":{"kind":"points","focal_px":900,"width":10,"height":10,'
               b'"camera":{}}}}\n', 2, b"needs --lifter RUN"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_LINES)
def test_streams_that_cannot_be_used_are_one_line(choreo, tmp_path: Path, name: str) -> None:
    data, code, words = BAD_LINES[name]
    (tmp_path / "s.jsonl").write_bytes(data)
    done = choreo("capture", "fuse", "s.jsonl", "-o", "out")
    assert (done.returncode, done.stdout) == (code, b""), done.stderr
    assert words in done.stderr and done.stderr.count(b"\n") == 1
    assert not list(tmp_path.glob("out/*.npz"))


def test_bad_readings_in_a_stream_are_counted_not_fatal(choreo, tmp_path: Path) -> None:
    path = record(tmp_path / "s.jsonl", seconds=1.5)
    lines = path.read_text().splitlines()
    bad = [
        '{"stream":"phone","t_us":1,"values":[1,2]}', '{"stream":"nobody","t_us":1,"values":[]}', "{",
        '{"stream":"watch","t_us":"x","values":[0,0,0]}',
        json.dumps({"stream": "phone", "t_us": 700_000, "values": [[None] * 3] * 22}),
        json.dumps({"stream": "watch", "t_us": 700_000, "values": [0, 0, 1e9]}),
    ]  # fmt: skip
    n = json.loads(lines[-1])["n"] + len(bad)
    path.write_text("\n".join([*lines[:40], *bad, *lines[40:-1], json.dumps({"end": True, "n": n})]) + "\n")
    done = choreo("capture", "stream", "--source", f"jsonl:{path}", "-o", "out", "--json", "-q")
    assert done.returncode == 0, done.stderr
    [entry] = entries(done.stdout)
    assert sum(entry["report"]["left_out"].values()) == len(bad)


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (("stream", "--source", "jsonl:none", "-o", "out"), 66, b"no file none"),
        (("stream", "--source", "tape", "-o", "out"), 2, b"a source is osc:PORT"),
        (("stream", "--source", "osc:99999", "-o", "out"), 2, b"a source is osc:PORT"),
        (("stream", "--source", "-"), 2, b"nothing to do with the frames"),
        (("stream", "--source", "-", "-o", "out", "--rows", "-"), 2, b"stdout is for the manifest"),
        (("lift", ".", "-o", "out"), 2, b"needs --lifter RUN"),
        (("clean", "none", "-o", "out"), 66, b"none"),
        (("sync", ".", "-o", "out", "--beats", "none"), 66, b"--beats: no file none"),
    ],
)
def test_wrong_words_are_answered_with_the_right_code(choreo, args: tuple, code: int, words: bytes) -> None:
    done = choreo("capture", *args)
    assert (done.returncode, done.stdout) == (code, b""), done.stderr
    assert words in done.stderr


def test_a_port_that_hears_nothing_says_so(choreo) -> None:
    done = choreo("capture", "stream", "--source", "osc:0", "--for", "0.2", "--rows", "-", "-q")
    assert (done.returncode, done.stdout) == (65, b"") and b"no whole pose arrived" in done.stderr


def test_osc_becomes_frames(tmp_path: Path) -> None:
    """A real port: poses and a watch over UDP to this machine, frames out; times are those of arrival."""
    from choreo_cli.live.capture_osc import OscCapture, osc_head
    from choreo_cli.live.clock import MonotonicClock
    from choreo_cli.live.osc import encode as message
    from choreo_cli.motion.capture_stream import Capture, live
    from choreo_cli.motion.skeleton import canonical_skeleton

    _, joints = sim.danced(0, 1.0, fps=60.0)
    source = OscCapture(0, MonotonicClock())
    try:
        capture = Capture(osc_head(1.7, "l_wrist"), canonical_skeleton(1.7), 60.0)
        now = {"us": 0}
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(message("/choreo/pose", joints[0].ravel().tolist()), source.address)
            sender.sendto(b"#bundle\0" + b"\0" * 8 + b"\xff\xff\xff\xfc", source.address)
            deadline = 200
            while source.facts()["packets"] < 2 and deadline:
                deadline -= 1
                time.sleep(0.01)
        assert source.facts()["refused"], source.facts()
        [first] = source.poll()
        assert first.stream == "phone" and first.values.shape == (22, 3)
        np.testing.assert_allclose(first.values, joints[0], atol=1e-6)
        for k, pose in enumerate(joints):
            source.handle(message("/choreo/pose", pose.ravel().tolist()), 16_667 * k)
            source.handle(message("/choreo/watch", [0.0, 9.8, 0.0, 1.0, 0.0, 0.0, 0.0]), 16_667 * k + 5)
        queued = iter(source.poll())
        made = []

        def poll() -> list:
            found = []
            for heard in queued:
                found.append(heard)
                if heard.t_us > now["us"]:
                    break
            return found

        def wait(seconds: float) -> None:
            now["us"] += round(seconds * 1e6)

        for frame in live(capture, poll, 60.0, lambda: now["us"], wait, lambda: now["us"] > 900_000):
            made.append(frame)
        assert len(made) > 40 and all(np.isfinite(f.channels).all() for f in made)
    finally:
        source.close()
        source.close()


def network(folder: Path, pose: np.ndarray) -> Path:
    """A lifting network that always answers with one pose (22, 3): what comes after it can be checked exactly."""
    from choreo_cli.motion.lifting import shapes
    from choreo_cli.motion.lifting_files import encode_lifting

    arrays = {k: np.zeros(v, np.float32) for k, v in shapes(1, 4, 1).items()}
    arrays["last.bias"][:-1] = ((pose - pose[0]) / 1.7)[1:].ravel()
    folder.mkdir()
    for _, name, data in encode_lifting(arrays, {"window": 1, "hidden": 4, "blocks": 1}, {}, {}):
        (folder / name).write_bytes(data)
    return folder


def test_image_points_are_lifted_placed_and_fused_live(choreo, tmp_path: Path) -> None:
    """A body that keeps its pose and sways before a camera: lift, fuse and clean put it where it is."""
    from choreo_cli.motion.capture_simulate import FRONT, project
    from choreo_cli.motion.lifting_points import coco_points

    _, joints = sim.danced(0, 1.0, fps=60.0)
    pose = joints[0] - joints[0, 0] * np.array([1.0, 0.0, 1.0])
    net = network(tmp_path / "net", pose)
    t = np.arange(90) / 30.0
    truth = pose + 0.25 * np.sin(np.pi * t)[:, None, None] * np.array([1.0, 0.0, 0.0])
    points = project(coco_points(truth), FRONT) + np.random.default_rng(0).normal(0, 3.0, (90, 17, 2))
    points[:, 3] = np.nan
    camera = {"place_m": list(FRONT.place_m), "yaw_rad": FRONT.yaw_rad, "pitch_rad": FRONT.pitch_rad}
    head = {
        "schema": "choreo.capture/1",
        "height_m": 1.7,
        "streams": {
            "front": {
                "kind": "points",
                "focal_px": FRONT.focal_px,
                "width": FRONT.width,
                "height": FRONT.height,
                "camera": camera,
            }
        },
    }
    lines = [head]
    for k, p in enumerate(points):
        listed = [[None, None] if np.isnan(v).any() else v.tolist() for v in p]
        us = round(t[k] * 1e6)
        lines.append({"stream": "front", "t_us": us, "t_arrival_us": us + 15_000, "values": listed})
    lines.append({"end": True, "n": len(points)})
    (tmp_path / "s.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    done = choreo("capture", "stream", "--source", "jsonl:s.jsonl", "-o", "out", "--lifter", net, "--json", "-q")
    assert done.returncode == 0, done.stderr
    clip = motion_npz.read(tmp_path / "out" / "capture.npz")
    book = read_table(tmp_path / "out" / "capture.ledger.parquet", CAPTURE_LEDGER)
    shown = book.column("shown_us").to_numpy() / 1e6
    assert choreo("check", "out/capture.ledger.parquet").returncode == 0
    want = pose[0] + 0.25 * np.sin(np.pi * shown)[:, None] * np.array([1.0, 0.0, 0.0])
    away = np.abs(decode(clip)[:, 0] - want)[shown > 0.8].mean(0)
    assert away[0] < 0.03 and away[1] < 0.05 and away[2] < 0.12, away  # depth is known least
    body = decode(clip) - decode(clip)[:, :1]
    assert np.linalg.norm(body - (pose - pose[0]), axis=-1)[shown > 0.8].mean() < 0.06


def test_recorded_image_points_are_lifted(choreo, tmp_path: Path, shared: Path) -> None:
    _, joints = sim.danced(0, 1.0, fps=60.0)
    net = network(tmp_path / "net", joints[0])
    source = shared / "data" / "pose" / "openpose_treadmill_27"
    done = choreo("capture", "lift", source, "-o", "out", "--lifter", net, "--fps", "23.976", "--height", "1.75")
    assert done.returncode == 0, done.stderr
    [entry] = entries(done.stdout)
    assert entry["report"]["frames_found"] == 90 and entry["report"]["frames_lifted"] > 60
    assert entry["rig"] == "coco17" and entry["fps"] == pytest.approx(23.976) and "lifted" in entry["flags"]
    clip = motion_npz.read(tmp_path / "out" / entry["path"])
    assert clip.header.height_m == pytest.approx(1.75, abs=0.01) and np.isfinite(decode(clip)).all()
    assert choreo("capture", "lift", source, "-o", "out2", "--lifter", net).returncode == 65  # no rate is guessed
