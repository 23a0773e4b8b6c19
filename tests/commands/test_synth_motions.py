"""`choreo synth motions` on the command line, and its output as training data."""

from __future__ import annotations

import json
from pathlib import Path

from choreo_cli.dataset.motions import MotionSet
from formats.manifest import decode


def test_the_set_is_whole_deterministic_and_a_training_input(choreo, tmp_path: Path) -> None:
    told = ("synth", "motions", "--clips", "9", "--seconds", "4", "--bpm", "100,120", "--seed", "5", "--quiet")
    done = choreo(*told, "-o", tmp_path / "a", "--json")
    assert done.returncode == 0, done.stderr
    manifest = decode((tmp_path / "a" / "motions.json").read_bytes())
    assert choreo(*told, "-o", tmp_path / "b", "--jobs", "2").returncode == 0
    for name in ("motions.json", "clips/dance-00008.npz", "music/dance-00008.wav"):
        a, b = (tmp_path / s / name for s in "ab")
        assert name == "motions.json" or a.read_bytes() == b.read_bytes()
    assert [e["sha256"] for e in manifest.entries] == [
        e["sha256"] for e in decode((tmp_path / "b" / "motions.json").read_bytes()).entries
    ]
    assert {e["split"] for e in manifest.entries} == {"train", "val", "test"}
    by_dancer: dict[str, set[str]] = {}
    for e in manifest.entries:
        by_dancer.setdefault(e["group_id"], set()).add(e["split"])
        assert e["synthetic"] and e["layout"] == "choreo25" and len(e["captions"]) == 2
        assert abs(e["report"]["bpm"] - (100, 120)[int(e["path"][-5]) % 2]) < 1e-6
    assert all(len(s) == 1 for s in by_dancer.values())
    s = MotionSet.open(tmp_path / "a" / "motions.json")
    assert s.synthetic and s.audio_width == 35 and not s.split.leaks
    assert s.split.of == tuple(e["split"] for e in manifest.entries)
    assert len(s.windows("train")) > 0 and len(s.windows("val")) > 0
    json.dumps(s.record(), allow_nan=False)


def test_a_wrong_option_is_one_line_and_writes_nothing(choreo, tmp_path: Path) -> None:
    for option, value in (("--styles", "waltz"), ("--bpm", "fast"), ("--clips", "0"), ("--seconds", "nan")):
        done = choreo("synth", "motions", option, value, "-o", tmp_path / "x")
        said = done.stderr.decode().strip().splitlines()
        assert done.returncode == 2 and len(said) == 1 and value in said[0], said
        assert not (tmp_path / "x").exists()
