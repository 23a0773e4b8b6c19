"""`choreo pair` on recordings with known truth: offsets, refusals, outputs, splits, overrides, previews."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from formats.columns import CONTEXT, FRAMES, PAIR
from formats.tables import bounds, read_table

TOP = Path(__file__).resolve().parents[2]


def program(*args: object, cwd: Path, input: bytes = b"", expect: int | None = 0) -> subprocess.CompletedProcess[bytes]:
    env = {**os.environ, "PYTHONPATH": str(TOP), "XDG_CACHE_HOME": str(cwd / ".cache")}
    done = subprocess.run(
        [sys.executable, "-m", "choreo_cli", *map(str, args)],
        input=input,
        capture_output=True,
        cwd=cwd,
        env=env,
        timeout=200,
        check=False,
    )
    assert expect is None or done.returncode == expect, done.stderr.decode()
    return done


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four sessions with clocks that are wrong by known amounts, paired with previews."""
    top = tmp_path_factory.mktemp("pair")
    program(
        "synth", "sessions", "--sessions", 4, "--minutes", 1, "--bpm", "120,96", "--offset-s", "0.1,-0.12,0.05,-0.03",
        "-o", "recordings", cwd=top,
    )  # fmt: skip
    program("discover", "recordings", "-o", "i.json", cwd=top)
    program("pair", "i.json", "--split", "loso", "--preview", "--todo", "todo.csv", "-o", "d", cwd=top)
    return top


@pytest.fixture(scope="module")
def entries(made: Path) -> list[dict[str, Any]]:
    return json.loads((made / "d" / "pairs.json").read_bytes())["entries"]


def truth(made: Path, session: str, file: str = "poses.jsonl") -> dict[str, Any]:
    return json.loads((made / "recordings" / session / "truth" / "truth.json").read_bytes())["recordings"][file]


def truth_of(made: Path, session: str) -> dict[str, Any]:
    return json.loads((made / "recordings" / session / "truth" / "truth.json").read_bytes())


def test_every_session_found_its_own_track(entries: list[dict[str, Any]]) -> None:
    assert [(e["pair_id"], e["track"]) for e in entries] == [
        (f"session-{k:04d}", f"music/track-{k:04d}.wav") for k in range(4)
    ]
    assert all(tuple(e) == PAIR.names for e in entries)


def test_offsets_are_right_and_their_intervals_honest(made: Path, entries: list[dict[str, Any]]) -> None:
    errors = [e["offset_us"] - truth(made, e["session_id"])["offset_us"] for e in entries]
    clocks_alone = [sum(e["prior_window_us"]) // 2 - truth(made, e["session_id"])["offset_us"] for e in entries]
    assert np.median(np.abs(errors)) <= 30_000, errors
    assert np.median(np.abs(errors)) < np.median(np.abs(clocks_alone))
    assert all(e["method"] == "motion_xcorr" and e["identifiable"] in ("yes", "mod_beat") for e in entries)
    assert all(e["bias_config_hash"] and e["p"] <= 0.01 and e["z"] >= 4 for e in entries)


def test_scratch_audio_is_exact(tmp_path: Path) -> None:
    program(
        "synth", "sessions", "--sessions", 1, "--minutes", 1, "--offset-s", 0.2, "--drift-ppm", 60, "--scratch-snr", 5,
        "-o", "recordings", cwd=tmp_path,
    )  # fmt: skip
    listed = program("discover", "recordings", cwd=tmp_path)
    pair = json.loads(program("pair", "-o", "d", cwd=tmp_path, input=listed.stdout).stdout)["entries"][0]
    want = truth(tmp_path, "session-0000")
    assert pair["method"] == "scratch_gcc" and pair["identifiable"] == "yes"
    assert abs(pair["offset_us"] - want["offset_us"]) <= 1_000
    assert abs(pair["drift_ppm"] - want["drift_ppm"]) <= 4


def test_frames_keep_their_contract(made: Path, entries: list[dict[str, Any]]) -> None:
    table = read_table(made / "d" / "frames.parquet", FRAMES)
    assert bounds(FRAMES, table) == []
    ids = table.column("session_id").to_pylist()
    t = table.column("t_us").to_numpy()
    for e in entries:
        rows = slice(e["row_start"], e["row_start"] + e["rows"])
        assert set(ids[rows]) == {e["pair_id"]}
        assert (np.diff(t[rows]) == 20_000).all() and t[rows][0] % 20_000 == 0
    assert sum(e["rows"] for e in entries) == table.num_rows
    frames = table.to_pandas()
    assert frames.loc[frames.m_mot, ["motion_energy", "motion_freq", "jerk"]].notna().all().all()
    assert frames.loc[~frames.m_mot, ["motion_energy", "motion_freq", "jerk"]].isna().any(axis=1).all()
    assert frames.loc[frames.m_hr, "hr"].notna().all() and frames.loc[~frames.m_hr, "hr"].isna().all()
    assert 0.5 < frames.m_mot.mean() <= 1 and frames.m_aud.mean() > 0.9
    phase = frames.beat_phase.dropna()
    assert ((phase >= 0) & (phase < 1)).all()


def test_paired_frames_agree_with_the_generator(made: Path, entries: list[dict[str, Any]]) -> None:
    """The audio inputs and beats come from different code than the synthetic frames, and must tell the same story."""
    mine = pq.read_table(made / "d" / "frames.parquet").to_pandas()
    for e in entries:
        got = mine[mine.session_id == e["pair_id"]].set_index("t_us")
        beats = json.loads((made / "recordings" / e["session_id"] / "truth" / "truth.json").read_bytes())["beats_us"]
        inside = [b for b in beats if got.index[0] <= b <= got.index[-1]]
        near = got.beat_phase.reindex(np.round(np.array(inside[4:-4]) / 20_000).astype(int) * 20_000).dropna()
        off = np.abs((near + 0.5) % 1 - 0.5)
        assert np.median(off) < 0.08, "beats of the frames lie on the beats of the music"


def test_two_runs_and_two_ways_give_the_same_bytes(made: Path, tmp_path: Path) -> None:
    for seed, zone, locale in (("1", "UTC", "C"), ("77", "Asia/Tokyo", "C.UTF-8")):
        env = {"PYTHONHASHSEED": seed, "TZ": zone, "LC_ALL": locale, "OMP_NUM_THREADS": "2"}
        out = tmp_path / seed
        subprocess.run(
            [sys.executable, "-m", "choreo_cli", "pair", "i.json", "--split", "loso", "--preview", "-o", str(out)],
            cwd=made, env={**os.environ, "PYTHONPATH": str(TOP), **env}, check=True, capture_output=True, timeout=200,
        )  # fmt: skip
        for file in sorted(p for p in (made / "d").rglob("*") if p.is_file()):
            name = file.relative_to(made / "d")
            here, there = (out / name).read_bytes(), file.read_bytes()
            if name.name == "pairs.json":  # where it lies is the one thing that differs, with the checksum of that line
                first, second = json.loads(here), json.loads(there)
                assert first.pop("roots")[0]["path"] == str(out) and second.pop("roots")[0]["path"] == str(made / "d")
                assert first.pop("head_sha256") != second.pop("head_sha256")
                assert first == second and here.splitlines()[1:-1] == there.splitlines()[1:-1]
            elif name.name not in ("pairs.run.json", ".choreo.lock"):
                assert here == there, name


def test_leave_one_session_out_is_said(made: Path, entries: list[dict[str, Any]]) -> None:
    assert sorted(e["split"] for e in entries) == ["test", "train", "train", "val"]
    report = json.loads((made / "d" / "report.json").read_bytes())
    assert len(report["split"]["folds"]) == 4


def test_report_has_every_part(made: Path) -> None:
    text = (made / "d" / "report.md").read_text()
    for part in ("Inputs", "Outputs", "Split", "One pair, worked through", "Assumptions", "Skipped", "What is missing"):
        assert f"## {part}" in text
    assert "Everything here is synthetic." in text
    report = json.loads((made / "d" / "report.json").read_bytes())
    assert report["counts"]["pairs"] == 4 and report["counts"]["windows"] > 100
    paths = {u["path"] for u in report["unused"]} | {s["path"] for s in report["skipped"]}
    assert any("truth/" in p for p in paths), "the truth is listed and not paired"


def test_preview_is_a_picture_and_a_sound(made: Path) -> None:
    pictures = sorted((made / "d" / "preview").glob("*.png"))
    assert len(pictures) == 4 and all(p.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" for p in pictures)
    with wave.open(str(made / "d" / "preview" / "session-0000.wav")) as f:
        sound = np.frombuffer(f.readframes(f.getnframes()), "<i2").reshape(-1, 2)
    assert np.abs(sound[:, 0]).max() > 3000, "music on the left"
    starts = np.flatnonzero((np.abs(sound[:, 1]) > 2000) & (np.roll(np.abs(sound[:, 1]), 2000) < 50))
    assert len(starts) > 20, "clicks on the right"
    beats = np.array(truth_of(made, "session-0000")["beats_us"]) / 1e6
    at = starts / 22_050
    off = at[:, None] - beats[None, :]
    nearest = off[np.arange(len(at)), np.abs(off).argmin(axis=1)]
    assert abs(np.median(nearest)) < 0.03, "a dancer who lands on the beat is heard on the beat"


def test_wholly_synthetic_needs_no_option_and_a_mixture_is_refused(made: Path, tmp_path: Path) -> None:
    mixed = tmp_path / "mixed"
    shutil.copytree(made / "recordings" / "session-0000", mixed / "session-0000")
    shutil.copytree(made / "recordings" / "music", mixed / "music")
    real = mixed / "real"
    real.mkdir()
    lines = (made / "recordings" / "session-0001" / "poses.jsonl").read_text().splitlines()[:400]
    rows = [{k: v for k, v in json.loads(line).items() if k in ("t", "joints")} for line in lines]
    (real / "poses.jsonl").write_text("\n".join(map(json.dumps, rows)))
    listed = program("discover", mixed, cwd=tmp_path)
    refused = program("pair", "-o", "d", cwd=tmp_path, input=listed.stdout, expect=65)
    assert b"synthetic" in refused.stderr and b"--synthetic" in refused.stderr
    assert not (tmp_path / "d" / "pairs.json").exists()
    program("pair", "--synthetic", "-o", "d", cwd=tmp_path, input=listed.stdout)


def test_an_offset_by_hand_wins_and_is_recorded(made: Path, tmp_path: Path) -> None:
    beat = 60e6 / 96
    right, wrong = (truth(made, f"session-{k:04d}")["offset_us"] / 1e6 for k in (0, 3))
    rows = (
        f"session-0002,music/track-0002.wav,-1.25\nsession-0000,,{right:.6f}\nsession-0003,,{wrong + beat / 4e6:.6f}\n"
    )
    (tmp_path / "o.csv").write_text("session,track,offset_s\n" + rows)
    done = program("pair", made / "i.json", "--overrides", tmp_path / "o.csv", "-o", tmp_path / "d", cwd=made)
    found = {e["session_id"]: e for e in json.loads(done.stdout)["entries"]}
    assert found["session-0002"]["method"] == "manual" and found["session-0002"]["offset_us"] == -1_250_000
    assert any("by hand" in a for a in found["session-0002"]["assumptions"])
    assert found["session-0000"]["identifiable"] == "yes", "the motion agrees with the hand"
    assert found["session-0003"]["identifiable"] == "no", "a quarter of a beat away it does not"
    assert found["session-0001"]["method"] == "motion_xcorr"
    roles = [i["role"] for i in json.loads(done.stdout)["created_by"]["inputs"]]
    assert roles == ["inventory", "overrides"]


def test_an_override_for_nobody_names_the_nearest(made: Path, tmp_path: Path) -> None:
    (tmp_path / "o.csv").write_text("session,track,offset_s\nsession-002,,1\n")
    done = program(
        "pair", made / "i.json", "--overrides", tmp_path / "o.csv", "-o", tmp_path / "d", cwd=made, expect=65
    )
    assert b"did you mean: session-0002?" in done.stderr


def test_no_pair_at_all_is_no_with_the_list_of_what_is_missing(made: Path, tmp_path: Path) -> None:
    only = tmp_path / "only"
    shutil.copytree(made / "recordings" / "session-0000", only / "s")
    listed = program("discover", only, cwd=tmp_path)
    done = program("pair", "-o", "d", cwd=tmp_path, input=listed.stdout, expect=1)
    assert done.stdout == b"" and b"missing: music" in done.stderr and done.stderr.count(b"\n") == 1
    assert "music: no audio file" in (tmp_path / "d" / "report.md").read_text()
    assert not (tmp_path / "d" / "pairs.json").exists()


def test_skipped_inputs_make_3_unless_acknowledged(made: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(made / "recordings", copy)
    (copy / "session-0001" / "poses.jsonl").write_bytes(b'{"t": 1, "joints": {"pelvis": [0, 0')
    (copy / "music" / "broken.wav").write_bytes(b"RIFF\x00\x00\x00\x00WAVEfmt ")
    listed = program("discover", copy, cwd=tmp_path, expect=3)
    done = program("pair", "-o", "d", cwd=tmp_path, input=listed.stdout, expect=3)
    assert len(json.loads(done.stdout)["entries"]) == 3
    again = program("pair", "-o", "d", cwd=tmp_path, input=listed.stdout, expect=3)
    assert again.stdout == done.stdout, "a run that was done before ends as it ended"
    program("pair", "-o", "d", "--keep-going", cwd=tmp_path, input=listed.stdout, expect=0)
    (copy / ".choreoignore").write_text("broken.wav\nsession-0001/poses.jsonl\n")
    listed = program("discover", copy, cwd=tmp_path)
    program("pair", "-o", "d", cwd=tmp_path, input=listed.stdout)


def test_previous_split_wins(made: Path, tmp_path: Path) -> None:
    program("pair", made / "i.json", "-o", tmp_path / "a", cwd=made)
    first = {e["pair_id"]: e["split"] for e in json.loads((tmp_path / "a" / "pairs.json").read_bytes())["entries"]}
    done = program("pair", made / "i.json", "--previous", tmp_path / "a" / "pairs.json", "-o", tmp_path / "b", cwd=made)
    assert {e["pair_id"]: e["split"] for e in json.loads(done.stdout)["entries"]} == first


def test_another_rate(made: Path, tmp_path: Path) -> None:
    program("pair", made / "i.json", "--rate", 25, "--window", 32, "-o", tmp_path / "d", cwd=made)
    table = read_table(tmp_path / "d" / "frames.parquet", FRAMES)
    assert bounds(FRAMES, table) == []
    t = table.column("t_us").to_numpy()[:100]
    assert (np.diff(t) == 40_000).all()
    bad = program("pair", made / "i.json", "--rate", 33, "-o", tmp_path / "e", cwd=made, expect=2)
    assert b"--rate 33" in bad.stderr


def test_explain_prints_the_numbers_used(made: Path, tmp_path: Path) -> None:
    done = program("pair", made / "i.json", "--explain", "-o", tmp_path / "d", cwd=made)
    text = done.stderr.decode()
    assert "clock: t_music = " in text and "instant: t_device " in text and "assumed: " in text


def test_slow_poses_are_context_and_never_motion(tmp_path: Path) -> None:
    program("synth", "sessions", "--sessions", 1, "--minutes", 1, "--pose-fps", 1, "-o", "r", cwd=tmp_path)
    listed = program("discover", "r", cwd=tmp_path)
    pair = json.loads(program("pair", "-o", "d", cwd=tmp_path, input=listed.stdout).stdout)["entries"][0]
    assert pair["identifiable"] == "no" and "pose_rate_below_8_fps" in pair["reasons"]
    context = read_table(tmp_path / "d" / "context.parquet", CONTEXT)
    assert bounds(CONTEXT, context) == [] and 55 <= context.num_rows == pair["context_rows"] <= 65
    frames = read_table(tmp_path / "d" / "frames.parquet", FRAMES)
    assert frames.column("motion_energy").null_count == frames.num_rows
    assert frames.column("hr").null_count < frames.num_rows, "heart rate is still there"


def test_shared_recordings_end_to_end(shared: Path, tmp_path: Path) -> None:
    """Real files: no traceback, every file used or listed, the dancer by its common clock and no synchrony claimed."""
    listed = program("discover", shared / "data", cwd=tmp_path, expect=3)
    done = program("pair", "-o", "d", cwd=tmp_path, input=listed.stdout, expect=3)
    (dancer,) = json.loads(done.stdout)["entries"]
    assert dancer["pose_path"] == "pairs/mgt_dancer/dancer_motion_25fps.csv"
    assert (dancer["method"], dancer["offset_us"], dancer["identifiable"]) == ("common_clock", 0, "no")
    assert dancer["p"] > 0.01 and abs(dancer["bpm"] - 130.8) < 1.5
    report = json.loads((tmp_path / "d" / "report.json").read_bytes())
    inventory = json.loads(listed.stdout)["entries"]
    named = {u["path"] for u in report["unused"]} | {s["path"] for s in report["skipped"]}
    used = {dancer["pose_path"], dancer["track"]}
    assert {e["path"] for e in inventory} == named | used
    on_disk = {p.relative_to(shared / "data").as_posix() for p in (shared / "data").rglob("*") if p.is_file()}
    folders = {e["path"] for e in inventory if e["format"] == "openpose-folder"}
    assert {p for p in on_disk if str(Path(p).parent) not in folders} == {e["path"] for e in inventory} - folders
