"""Whose clock says what: hearts, microphones of several devices, local time, offsets by hand over several tracks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from choreo_cli.sessions import frames, prior
from choreo_cli.sessions.clock_estimate import ClockEstimate
from choreo_cli.sessions.hearts import heart_of
from choreo_cli.sessions.match import Candidate
from choreo_cli.sessions.microphones import apart, onto_body, sound_for
from choreo_cli.sessions.recordings import Session, Track
from formats.foreign.model import Series

START = 1_775_613_749_000_000
HOUR = 3_600_000_000
SPAN = (0, 60_000_000)


def entry(path: str, t0: int | None = START, **more: Any) -> dict[str, Any]:
    base = {
        "id": path, "kind": "pose", "path": path, "root": "r0", "duration_us": 60_000_000, "t0_utc_us": t0,
        "t0_source": "unix_time" if t0 is not None else "none", "t0_sigma_us": 500_000, "t0_naive": False,
        "synthetic": False, "meta": {}, "format": "x",
    }  # fmt: skip
    return {**base, **more}


def heart(path: str = "hr.csv", t0: int | None = START, n: int = 60, **more: Any) -> tuple[dict[str, Any], Series]:
    t = np.arange(n, dtype=np.int64) * 1_000_000
    return entry(path, t0, kind="wearable", **more), Series(t, np.full((n, 1), 90, np.float32), ("hr",), ("bpm",))


def test_a_heart_in_utc_is_moved_by_the_difference_of_the_zeros() -> None:
    """t_music = (1 + drift) (t_heart + shift) + offset, written a second way."""
    model = frames.TimeModel(250_000, 100.0)
    placed, used, notes = heart_of(entry("p"), [heart(t0=START + 7_000_000)], model, SPAN, None)
    assert placed is not None and used == "hr.csv" and any("UTC" in n for n in notes)
    series, clock = placed
    t = clock.to_music(series.t_us)
    want = np.rint((1 + 100e-6) * (series.t_us + 7_000_000.0) + 250_000)
    assert np.abs(t - want).max() <= 1


@pytest.mark.parametrize("naive", ["hr", "body"])
def test_local_time_is_not_compared_with_utc(naive: str) -> None:
    later = START + 2 * HOUR + 1_000_000
    body = entry("p", later, t0_naive=True) if naive == "body" else entry("p")
    listed = [heart()] if naive == "body" else [heart(t0=later, t0_naive=True)]
    placed, used, notes = heart_of(body, listed, frames.TimeModel(0), SPAN, None)
    assert placed is None and used is None
    assert "local time" in notes[0] and "--tz +2" in notes[0]
    placed, _, _ = heart_of(body, listed, frames.TimeModel(0), SPAN, 2 * HOUR)
    assert placed is not None and abs(placed[1].offset_us) == 1_000_000


def test_a_heart_of_another_day_is_left_out_and_said() -> None:
    placed, _, notes = heart_of(entry("p"), [heart(t0=START + 24 * HOUR)], frames.TimeModel(0), SPAN, None)
    assert placed is None and "does not overlap" in notes[0]


def test_the_heart_with_most_samples_inside_is_taken() -> None:
    long_ago = heart("long.csv", START - 10 * HOUR, n=30_000)
    here = heart("here.csv", START)
    _, used, notes = heart_of(entry("p"), [long_ago, here], frames.TimeModel(0), SPAN, None)
    assert used == "here.csv" and any("long.csv" in n for n in notes)


def session(
    sounds: list[dict[str, Any]], bodies: list[dict[str, Any]], stated: dict[str, str] | None = None
) -> Session:
    meta = {"recordings": [{"file": f, "device": d} for f, d in (stated or {}).items()]}
    return Session("s", entry("s", meta=meta), bodies=bodies, sounds=sounds)


def heard() -> ClockEstimate:
    return ClockEstimate("scratch_gcc", 1_000_000, (999_900, 1_000_100), z=40.0, identifiable="yes")


def test_one_device_has_one_clock() -> None:
    sound, body = entry("s/a.wav", START), entry("s/a.jsonl", START + 300_000)
    shift, two, _ = apart(sound, body, session([sound], [body]))
    assert (shift, two) == (300_000, 0)
    assert onto_body(heard(), shift, two, "").offset_ci_us == (1_299_900, 1_300_100)


def test_two_devices_are_as_far_apart_as_their_clocks() -> None:
    """The microphone of phone 1 says nothing to the millisecond about the camera of phone 2."""
    sound = entry("s/a.wav", START)
    bodies = [entry("s/a.jsonl", START), entry("s/b.jsonl", START + 200_000)]
    s = session([sound], bodies, {"a.wav": "phone-1", "a.jsonl": "phone-1", "b.jsonl": "phone-2"})
    assert apart(sound, bodies[0], s)[1] == 0
    shift, two, why = apart(sound, bodies[1], s)
    assert shift == 200_000 and two == pytest.approx(2 * 707_107, abs=2) and "two devices" in why
    moved = onto_body(heard(), shift, two, why)
    assert moved.identifiable == "no" and "no_clock" in moved.reasons
    assert moved.offset_ci_us is not None and moved.offset_ci_us[1] - moved.offset_ci_us[0] >= 2 * two


def test_without_times_only_equal_lengths_tie_sound_and_body() -> None:
    sound, body = entry("s/a.wav", None), entry("s/a.jsonl", None)
    assert apart(sound, body, session([sound], [body]))[:2] == (0, 0)
    body = entry("s/a.jsonl", None, duration_us=50_000_000)
    shift, two, why = apart(sound, body, session([sound], [body]))
    assert two is None and "neither says" in why
    assert onto_body(heard(), shift, two, why).offset_ci_us is None


def test_each_camera_is_heard_by_its_own_microphone() -> None:
    sounds = [entry("s/cam1.wav"), entry("s/cam2.wav")]
    bodies = [entry("s/cam1.jsonl"), entry("s/cam2.jsonl")]
    assert [sound_for(b, session(sounds, bodies))["path"] for b in bodies] == ["s/cam1.wav", "s/cam2.wav"]
    crossed = {"cam1.jsonl": "y", "cam2.jsonl": "x", "cam1.wav": "x", "cam2.wav": "y"}
    assert [sound_for(b, session(sounds, bodies, crossed))["path"] for b in bodies] == ["s/cam2.wav", "s/cam1.wav"]


def test_the_order_of_recordings_is_no_clock() -> None:
    """A body with a time and music without one: a centre, no bound, and a sentence."""
    body = entry("s/a.jsonl", START)
    s = Session("s", None, bodies=[body])
    track = Track({**entry("m.mp3", None), "kind": "audio"}, "m")
    known = prior.of_clocks(body, s, Candidate(track), 0, None)
    assert known.sigma_us is None and known.centre_us == 0
    assert any("nothing says when" in a for a in known.assumptions)


@pytest.fixture(scope="module")
def long_session(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tracks of 20 s as features, and one slow session of 35 s that danced to both; a second one names nothing."""
    top = tmp_path_factory.mktemp("long")
    rng = np.random.default_rng(3)
    n = round(20 * 22_050 / 512)
    (top / "mix").mkdir()
    for k in range(2):
        mel = rng.uniform(0.1, 1, (32, n)).astype(np.float32)
        np.savez(
            top / "mix" / f"{k:02d}.npz", mel=mel, tempo=120.0, beat_frames=np.arange(3, n, 21), sr=22_050, hop=512
        )
    items = [{"index": k, "title": f"Song {k}", "file": f"{k:02d}.npz", "duration": 20.0} for k in range(2)]
    (top / "mix" / "playlist.json").write_text(json.dumps({"name": "mix", "tracks": items}))
    (top / "take").mkdir()
    meta = {"playlist": "mix", "track": {"title": "Song 0"}, "started_at": START / 1e6}
    (top / "take" / "metadata.json").write_text(json.dumps(meta))
    joints = {"head": [0, 1.7, 0], "left_hip": [0.1, 1, 0], "right_hip": [-0.1, 1, 0], "left_knee": [0, 0.5, 0]}
    lines = [json.dumps({"timestamp": START / 1e6 + k, "joints": joints}) for k in range(36)]
    (top / "take" / "poses.jsonl").write_text("\n".join(lines) + "\n")
    return top


def test_an_offset_by_hand_moves_with_the_tracks_of_a_session(choreo: Any, long_session: Path, tmp_path: Path) -> None:
    """It is that of the first track; the second began 20 s after it. Nothing of the session is used twice."""
    listed = choreo("discover", long_session)
    assert listed.returncode == 0, listed.stderr
    (tmp_path / "o.csv").write_text("session,track,offset_s\ntake,mix/00.npz,0.5\n")
    done = choreo("pair", "--overrides", tmp_path / "o.csv", "-o", tmp_path / "d", input=listed.stdout)
    assert done.returncode == 0, done.stderr
    pairs = json.loads(done.stdout)["entries"]
    assert [(p["track"], p["method"]) for p in pairs] == [("mix/00.npz", "manual"), ("mix/01.npz", "manual")]
    length = int(round(20 * 22_050 / 512) * 512e6 / 22_050)  # the track ends with its last whole frame
    assert [p["offset_us"] for p in pairs] == [500_000, 500_000 - length]
    assert sum(p["context_rows"] for p in pairs) == 36
    assert any("follow in the playlist" in a for a in pairs[1]["assumptions"])
    share = 22_050 / 512 / 50
    assert all(p["real_fraction"]["aud"] == pytest.approx(share, rel=0.01) for p in pairs), "native frames per frame"
    assert all(0 < p["max_gap_us"]["aud"] < 50_000 for p in pairs)


def test_a_track_that_went_away_does_not_stop_the_others(choreo: Any, long_session: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(long_session, copy)
    listed = choreo("discover", copy)
    (copy / "mix" / "01.npz").unlink()
    done = choreo("pair", "-o", tmp_path / "d", input=listed.stdout)
    assert done.returncode == 3, done.stderr
    assert [p["track"] for p in json.loads(done.stdout)["entries"]] == ["mix/00.npz"]
    skipped = json.loads((tmp_path / "d" / "report.json").read_bytes())["skipped"]
    assert any(s["path"] == "mix/01.npz" and "cannot be read any more" in s["reason"] for s in skipped), skipped


def test_a_silent_microphone_does_not_stop_the_run(choreo: Any, tmp_path: Path) -> None:
    import wave

    made = choreo("synth", "sessions", "--sessions", 1, "--minutes", 0.4, "--scratch-snr", 5, "-o", "r")
    assert made.returncode == 0, made.stderr
    device = tmp_path / "r" / "session-0000" / "device.wav"
    with wave.open(str(device)) as f:
        params, n = f.getparams(), f.getnframes()
    with wave.open(str(device), "wb") as f:
        f.setparams(params)
        f.writeframes(bytes(n * params.nchannels * params.sampwidth))
    done = choreo("pair", "-o", "d", input=choreo("discover", "r").stdout)
    assert done.returncode == 0, done.stderr
    (pair,) = json.loads(done.stdout)["entries"]
    assert pair["method"] == "motion_xcorr"
    assert b"device.wav was not listened to: the device sound is silent" in done.stderr
