"""`choreo pair --profile`: published sets matched by their naming rule, on files of our own named by those rules."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from choreo_cli.dataset.motions import MotionSet
from choreo_cli.errors import UsageError
from choreo_cli.motion.choreo25 import decode
from choreo_cli.motion.dancer_set import DanceSetOptions, MadeDance, dance
from choreo_cli.sessions.profiles import PROFILES, by_design, check_profile, named_library

SECONDS, FPS = 16.0, 30.0
LATE = 3  # frames


def made(k: int) -> MadeDance:
    return dance(k, DanceSetOptions(seconds=SECONDS, seed=21, bpm=(120.0,), styles=("hiphop",)))


def put(folder: Path, motion: str, music: str, which: MadeDance, *, late: int = 0) -> None:
    joints = decode(which.clip)
    if late:
        joints = np.concatenate([np.repeat(joints[:1], late, axis=0), joints[:-late]])
    for name, data in ((motion, None), (music, which.wav)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if data is not None:
            (folder / name).write_bytes(data)
    np.savez(folder / motion, joints=joints.astype(np.float32), fps=FPS)


def paired(choreo: Any, folder: Path, out: Path, profile: str, code: int = 0) -> dict[str, dict[str, Any]]:
    listed = choreo("discover", folder)
    done = choreo("pair", "--profile", profile, "-o", out, "-q", input=listed.stdout)
    assert done.returncode == code, done.stderr.decode()
    return {e["pose_path"]: e for e in json.loads((out / "pairs.json").read_bytes())["entries"]}


def residual(entry: dict[str, Any]) -> float:
    said = next(a for a in entry["assumptions"] if a.startswith("residual"))
    found = re.match(r"residual of the motion test ([+-]\d+) ms", said)
    assert found and "measured, not applied" in said
    return float(found[1])


def test_aistpp_is_matched_by_music_id_and_its_residual_is_measured(choreo: Any, tmp_path: Path) -> None:
    src = tmp_path / "aist"
    one, two = made(0), made(1)
    put(src, "motions/gBR_sBM_cAll_d04_mBR0_ch01.npz", "music/mBR0.wav", one)
    put(src, "motions/gBR_sFM_cAll_d05_mBR0_ch02.npz", "music/mBR0.wav", one, late=LATE)
    put(src, "motions/gLO_sBM_cAll_d13_mLO2_ch03.npz", "music/mLO2.wav", two)
    np.savez(src / "motions" / "warmup.npz", joints=decode(two.clip).astype(np.float32), fps=FPS)
    np.savez(src / "motions" / "gMH_sBM_cAll_d22_mMH3_ch04.npz", joints=decode(two.clip).astype(np.float32), fps=FPS)
    found = paired(choreo, src, tmp_path / "out", "aistpp")
    assert {Path(p).stem: Path(e["track"]).name for p, e in found.items()} == {
        "gBR_sBM_cAll_d04_mBR0_ch01": "mBR0.wav", "gBR_sFM_cAll_d05_mBR0_ch02": "mBR0.wav",
        "gLO_sBM_cAll_d13_mLO2_ch03": "mLO2.wav",
    }  # fmt: skip
    for e in found.values():
        assert (e["method"], e["offset_us"], e["drift_ppm"]) == ("common_clock", 0, 0.0)
        assert any(a.startswith("synchronous by design: AIST++") for a in e["assumptions"])
        assert not any("container" in a for a in e["assumptions"])
    by_dancer = {e["performer"]: e for e in found.values()}
    assert set(by_dancer) == {"AIST++ d04", "AIST++ d05", "AIST++ d13"}
    # What was danced three frames late shows it, beside an offset that stays what the set promises.
    apart = residual(by_dancer["AIST++ d05"]) - residual(by_dancer["AIST++ d04"])
    assert abs(apart + 1000 * LATE / FPS) < 25
    assert by_dancer["AIST++ d04"]["group_id"] == by_dancer["AIST++ d05"]["group_id"]  # one song
    report = (tmp_path / "out" / "report.md").read_text()
    assert "does not follow the rule of AIST++" in report and "its music mMH3 is not there" in report
    # The pack is a training input: its poses are read from the recordings, on the music's clock.
    s = MotionSet.open(tmp_path / "out", frames=64, audio=True)
    assert len(s.clips) == 3 and s.audio_width == 35 and s.fps == 30
    k = next(k for k, c in enumerate(s.clips) if "d04" in c.name)
    assert abs(int(s.store.place[k, 2]) - SECONDS * FPS) <= 1
    beats = np.flatnonzero(s.store.clip(k)[1][:, 34]) / FPS
    truth = one.dance.form.beats_s
    assert np.abs(beats[:, None] - truth[None]).min(axis=1).max() < 0.05


def listed(*paths: str) -> list[dict[str, Any]]:
    base = {"reason": None, "root": "r", "session": None, "synthetic": False, "meta": {}, "duration_us": 10_000_000}
    kinds = {".wav": "audio", ".mp3": "audio"}
    return [
        {**base, "id": f"{k:04d}", "kind": kinds.get(Path(p).suffix, "motion"), "path": p, "sha256": f"{k:064d}"}
        for k, p in enumerate(paths)
    ]


def test_finedance_is_matched_by_number() -> None:
    lib = named_library(
        listed("motion/001.npy", "motion/012.npy", "motion/x1.npy", "music_wav/001.wav", "music_wav/012.wav"),
        PROFILES["finedance"],
    )
    assert lib.design is not None
    assert {k: t.path for k, t in lib.design.items()} == {
        "motion/001": "music_wav/001.wav", "motion/012": "music_wav/012.wav",
    }  # fmt: skip
    assert "does not follow the rule of FineDance" in lib.undesigned["motion/x1"]
    assert by_design(PROFILES["finedance"]).startswith("synchronous by design: FineDance")


def test_motorica_is_matched_by_the_whole_name_and_songs_stay_together() -> None:
    a = "kthjazz_gCH_sFM_cAll_d02_mCH_ch01_firstsong_001"
    b = "kthjazz_gCH_sFM_cAll_d02_mCH_ch01_firstsong_002"
    c = "kthstreet_gLH_sFM_cAll_d01_mLH_ch01_othersong_001"
    lib = named_library(listed(*(f"{s}{end}" for s in (a, b, c) for end in (".bvh", ".wav"))), PROFILES["motorica"])
    assert lib.design is not None and {k: t.path for k, t in lib.design.items()} == {s: f"{s}.wav" for s in (a, b, c)}
    group = {k: t.group for k, t in lib.design.items()}
    assert group[a] == group[b] != group[c]
    assert {s.performer for s in lib.sessions} == {"Motorica d01", "Motorica d02"}


@pytest.mark.parametrize(
    ("profile", "stem", "music"),
    [
        ("aistpp", "gWA_sFM_cAll_d26_mWA5_ch20", "mWA5"), ("aistpp", "gBR_sGR_c01_d01_d02_d03_mBR3_ch04", "mBR3"),
        ("finedance", "063", "063"),
        ("motorica", "kthmisc_gCA_sFM_cAll_d01_mCA_ch06", None), ("aistpp", "gBR_sBM_cAll_d04_mBR0_ch01_copy", None),
        ("finedance", "63", None),
    ],
)  # fmt: skip
def test_names_of_the_rule_and_no_others(profile: str, stem: str, music: str | None) -> None:
    found = PROFILES[profile].motion.match(stem)
    assert (found["music"] if found else None) == music


def test_encodings_of_one_music_are_one_track() -> None:
    lib = named_library(listed("m/mBR0.mp3", "m/mBR0.wav", "k/gBR_sBM_cAll_d04_mBR0_ch01.pkl"), PROFILES["aistpp"])
    assert lib.design is not None and lib.design["k/gBR_sBM_cAll_d04_mBR0_ch01"].path == "m/mBR0.mp3"
    assert len({t.group for t in lib.tracks}) == 1


def test_an_unknown_profile_is_one_line(choreo: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no profile 'edge'"):
        check_profile("edge")
    (tmp_path / "src").mkdir()
    listed = choreo("discover", tmp_path / "src")
    for args, said in ((("--profile", "edge"), "edge"), (("--profile", "aistpp", "--track", "x"), "exclude")):
        done = choreo("pair", *args, "-o", tmp_path / "o", input=listed.stdout)
        assert done.returncode == 2 and said in done.stderr.decode() and not (tmp_path / "o" / "pairs.json").exists()
