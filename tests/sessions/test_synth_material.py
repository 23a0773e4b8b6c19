"""Recordings of synthetic sessions against their truth: clocks, poses, heart, microphone, bytes."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from choreo_cli.audio.render import RATE
from choreo_cli.sessions.synth import SynthOptions, SynthSet, generate_session, write_sessions
from choreo_cli.sessions.synth_material import EPOCH_US, iso
from choreo_cli.sessions.synth_room import resample_at, room_response
from formats import sealed
from formats.columns import FRAMES, SESSION
from formats.foreign.joints import CANONICAL
from formats.manifest import check_entry
from formats.tables import bounds, read_metadata, read_table

CLOCKS = {"offset_s": (0.12, -0.2), "drift_ppm": (80.0, -150.0)}


def made(folder: Path, **options: object) -> SynthSet:
    folder.mkdir(exist_ok=True)
    return write_sessions(SynthOptions(**{"sessions": 2, "minutes": 0.5, **options}), folder)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("synth")
    made(folder, scratch_snr_db=5.0, pose_fps=60.0, **CLOCKS)
    return folder


def read_poses(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """(T,) unix microseconds and (T, 22, 3) metres."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert all(r["synthetic"] is True and list(r["joints"]) == list(CANONICAL) for r in rows)
    return np.array([r["t_us"] for r in rows]), np.array([list(r["joints"].values()) for r in rows])


def truth_of(out: Path, index: int) -> dict[str, object]:
    data = (out / f"session-{index:04d}/truth/truth.json").read_bytes()
    return sealed.parse(data)


def test_what_lies_in_the_folder(out: Path) -> None:
    names = sorted(p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file())
    per = ["device.wav", "frames.parquet", "heart_rate.csv", "meta.json", "metadata.json", "poses.jsonl"]
    per += ["truth/beats.txt", "truth/truth.json"]
    want = ["music/playlist.json", "music/track-0000.wav", "music/track-0001.wav"]
    assert names == sorted([*want, *(f"session-{i:04d}/{n}" for i in range(2) for n in per)])


def test_entries_keep_the_contract(tmp_path: Path) -> None:
    done = made(tmp_path / "o", minutes=0.2)
    for row, entry in enumerate(done.entries):
        check_entry(entry, SESSION, "test", row)
        assert entry["synthetic"] is True and entry["n_frames"] == 600
    listed = {name: sha for e in done.entries for name, sha in e["files"].items()}
    on_disk = {p.relative_to(tmp_path / "o").as_posix(): p for p in (tmp_path / "o").rglob("*") if p.is_file()}
    assert set(done.files) == set(on_disk) and set(on_disk) - set(listed) == {"music/playlist.json"}
    for name, path in on_disk.items():
        assert hashlib.sha256(path.read_bytes()).hexdigest() == done.files[name]


def test_frames_on_disk_are_the_frames(out: Path) -> None:
    path = out / "session-0000/frames.parquet"
    table = read_table(path, FRAMES)
    assert bounds(FRAMES, table) == [] and read_metadata(path)["choreo.synthetic"] == "true"
    s = generate_session(0, SynthOptions(sessions=2, minutes=0.5))
    assert np.array_equal(table["hr"].to_numpy(), np.asarray(s.frames["hr"]))


@pytest.mark.parametrize("index", [0, 1])
def test_pose_times_through_the_truth_land_on_the_beats(out: Path, index: int) -> None:
    """Where the hands stop, mapped to the music clock, is where the truth says that the body landed."""
    answers = truth_of(out, index)
    own = answers["recordings"]["poses.jsonl"]  # type: ignore[index]
    t, xyz = read_poses(out / f"session-{index:04d}/poses.jsonl")
    assert t[0] == own["t0_utc_us"] and np.all(np.diff(t) > 0)
    music = ((1 + own["drift_ppm"] * 1e-6) * (t - t[0]) + own["offset_us"]) / 1e6
    hands = xyz[:, [CANONICAL.index("l_wrist"), CANONICAL.index("r_wrist")]]
    hands = hands - xyz[:, [CANONICAL.index("chest")]]
    speed = np.linalg.norm(np.diff(hands, axis=0), axis=-1).mean(1) / np.diff(music)
    middle = (music[1:] + music[:-1]) / 2
    beats, landed = (np.array(answers[k]) / 1e6 for k in ("beats_us", "landings_us"))
    off = []
    for hit in landed[(landed > 1) & (landed < music[-1] - 3)]:
        near = (middle > hit - 0.12) & (middle < hit + 0.08)
        brake = -np.diff(speed[near], prepend=speed[near][0])
        off.append(middle[near][int(np.argmax(brake))] - hit)
    # The hardest braking comes a fixed time before the landing; a wrong clock would move its mean, a lost one its spread.
    assert np.std(off) < 0.02 and -0.06 < np.mean(off) < 0.0
    assert np.abs(landed - beats[: len(landed)]).max() <= 0.0451
    assert np.std(landed - beats[: len(landed)]) == pytest.approx(0.015, rel=0.35)


@pytest.mark.parametrize("index", [0, 1])
def test_the_device_hears_the_master_at_the_true_lag(out: Path, index: int) -> None:
    import soundfile

    own = truth_of(out, index)["recordings"]["device.wav"]  # type: ignore[index]
    master, rate = soundfile.read(out / f"music/track-{index:04d}.wav", dtype="float64")
    device, _ = soundfile.read(out / f"session-{index:04d}/device.wav", dtype="float64")
    assert rate == RATE
    # Read the device at the times the truth gives: the direct sound must then lie on the master, drift and all.
    t = np.arange(len(master)) / rate
    at = (t - own["offset_us"] / 1e6) / (1 + own["drift_ppm"] * 1e-6)
    back = np.interp(at * rate, np.arange(len(device)), device)
    for part in (slice(0, len(t) // 2), slice(len(t) // 2, len(t))):
        cross = np.fft.rfft(master[part]) * np.conj(np.fft.rfft(back[part]))
        lag = np.fft.irfft(cross / np.maximum(np.abs(cross), 1e-9))
        peak = int(np.argmax(lag))
        assert abs((peak + len(lag) // 2) % len(lag) - len(lag) // 2) <= 2, "samples at 22050 Hz"


def test_the_clocks_are_wrong_by_what_was_asked(out: Path) -> None:
    for i in range(2):
        answers = truth_of(out, i)
        meta = json.loads((out / f"session-{i:04d}/metadata.json").read_text())
        assert meta["synthetic"] is True and meta["track"]["index"] == i
        for name, own in answers["recordings"].items():  # type: ignore[attr-defined]
            assert own["drift_ppm"] == CLOCKS["drift_ppm"][i]
            listed = next(r for r in meta["recordings"] if r["file"] == name)
            assert listed["started_at"] == iso(own["t0_utc_us"])
            slip = own["offset_us"] - own["prior_offset_us"] - CLOCKS["offset_s"][i] * 1e6
            assert abs(slip) < 150e-6 * 5e6
        assert answers["music_utc_us"] - EPOCH_US < 7.3e9 and meta["started_at"] == iso(answers["music_utc_us"])  # type: ignore[operator]
        assert abs(CLOCKS["offset_s"][i]) <= 2 * meta["clock_sigma_s"]


def test_heart_file_follows_the_frames(out: Path) -> None:
    own = truth_of(out, 0)["recordings"]["heart_rate.csv"]  # type: ignore[index]
    with open(out / "session-0000/heart_rate.csv", newline="") as f:
        rows = list(csv.DictReader(f))
    text = [r["t_unix_s"] for r in rows]
    assert all(len(x.partition(".")[2]) == 6 for x in text)
    us = np.array([int(x.replace(".", "")) for x in text])
    assert us[0] == own["t0_utc_us"] and abs(np.median(np.diff(us)) - 1e6) < 5e4
    music = (1 + own["drift_ppm"] * 1e-6) * (us - us[0]) + own["offset_us"]
    s = generate_session(0, SynthOptions(sessions=2, minutes=0.5))
    want = np.interp(music, s.signals["t_us"], s.signals["hr"])
    assert np.array([float(r["hr"]) for r in rows]) == pytest.approx(want, abs=0.06)


def test_playlist_names_every_track(out: Path) -> None:
    import soundfile

    doc = json.loads((out / "music/playlist.json").read_text())
    assert doc["synthetic"] is True and [t["index"] for t in doc["tracks"]] == [0, 1]
    for i, t in enumerate(doc["tracks"]):
        with soundfile.SoundFile(out / "music" / t["file"]) as f:
            assert f.frames / f.samplerate == pytest.approx(t["duration_s"], abs=1e-5)
            assert (f.title, f.comment) == (t["title"], "synthetic")
        assert t["title"] == json.loads((out / f"session-{i:04d}/metadata.json").read_text())["track"]["title"]


def test_tracks_are_distinct(out: Path) -> None:
    import soundfile

    a, b = (soundfile.read(out / f"music/track-{i:04d}.wav", dtype="float64")[0][: 20 * RATE] for i in range(2))
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.2


def digests(folder: Path) -> dict[str, str]:
    return {
        p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


def test_more_sessions_leave_the_first_ones_alone(tmp_path: Path) -> None:
    options = {"minutes": 0.1, "scratch_snr_db": 0.0, "decoupled": True, "bpm": (92.0, 120.0)}
    made(tmp_path / "five", sessions=5, **options)
    made(tmp_path / "six", sessions=6, **options)
    five, six = digests(tmp_path / "five"), digests(tmp_path / "six")
    assert len(six) > len(five)
    assert [n for n in five if five[n] != six[n]] == ["music/playlist.json"]


def test_worker_processes_change_no_byte(tmp_path: Path) -> None:
    made(tmp_path / "one", minutes=0.1)
    (tmp_path / "two").mkdir()
    write_sessions(SynthOptions(sessions=2, minutes=0.1), tmp_path / "two", jobs=2)
    assert digests(tmp_path / "one") == digests(tmp_path / "two")


def test_dropouts_reach_the_recordings(tmp_path: Path) -> None:
    made(tmp_path / "o", sessions=1, minutes=1.0, dropout=(("mot", 0.3), ("hr", 0.3)))
    made(tmp_path / "p", sessions=1, minutes=1.0)
    count = lambda d, n: len((d / "session-0000" / n).read_text().splitlines())  # noqa: E731
    for name in ("poses.jsonl", "heart_rate.csv"):
        assert count(tmp_path / "o", name) / count(tmp_path / "p", name) == pytest.approx(0.71, abs=0.06)


def test_wrong_track_and_still(tmp_path: Path) -> None:
    made(tmp_path / "w", sessions=1, wrong_track=True, scratch_snr_db=10.0)
    assert truth_of(tmp_path / "w", 0)["played"] is None
    assert truth_of(tmp_path / "w", 0)["dances_to_the_music"] is False
    s = generate_session(0, SynthOptions(minutes=0.5, wrong_track=True, scratch_snr_db=10.0))
    assert abs(np.corrcoef(s.track()[:500_000], s.heard()[:500_000])[0, 1]) < 0.2
    still = generate_session(0, SynthOptions(minutes=0.5, still=True))
    t, xyz = still.pose_log()
    assert np.linalg.norm(np.diff(xyz, axis=0), axis=-1).max() / (np.diff(t).min() / 1e6) < 0.06


def test_one_snapshot_a_second_and_noise() -> None:
    slow = generate_session(0, SynthOptions(minutes=0.5, pose_fps=1.0))
    t, xyz = slow.pose_log()
    assert np.median(np.diff(t)) == pytest.approx(1e6, rel=0.05) and xyz.shape == (len(t), 22, 3)
    noisy = generate_session(0, SynthOptions(minutes=0.5, pose_fps=1.0, pose_noise_m=0.02)).pose_log()[1]
    assert (noisy - xyz).std() == pytest.approx(0.02, rel=0.1)


def test_resampling_of_a_tone_is_exact_to_a_thousandth() -> None:
    n = np.arange(4000)
    tone = np.sin(2 * np.pi * 0.08 * n).astype(np.float32)
    at = 20 + np.arange(3900) * 1.0001 + 0.37
    assert resample_at(tone, at) == pytest.approx(np.sin(2 * np.pi * 0.08 * at), abs=1e-3)
    assert np.all(resample_at(tone, np.array([-50.0, 9999.0])) == 0)


def test_the_room_has_the_ratio_that_was_asked() -> None:
    room = room_response(RATE, np.random.default_rng(0))
    assert 10 * np.log10(room[0] ** 2 / (room[1:] ** 2).sum()) == pytest.approx(-10, abs=1e-6)
