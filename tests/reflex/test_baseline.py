"""The checkpoints in examples: whole, small, made for each other, and made again by the commands of `make baseline`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from choreo_cli.dataset.frameset import read_frames
from choreo_cli.reflex.mapper import Mapper
from choreo_cli.reflex.rps import Rps
from choreo_cli.reflex.teacher import teach
from formats.columns import CONTROL_NAMES

TOP = Path(__file__).resolve().parents[2]
KEPT = TOP / "examples" / "checkpoints"


def test_they_are_whole_and_small(choreo: Any) -> None:
    done = choreo("check", KEPT / "rps", KEPT / "mapper")
    assert done.returncode == 0, done.stdout
    for folder in (KEPT / "rps", KEPT / "mapper"):
        sizes = {p.name: p.stat().st_size for p in folder.iterdir()}
        assert set(sizes) >= {"model.json", "model.safetensors", "model.onnx", "model.npz"}
        assert sum(sizes.values()) < 1_000_000
    small = [p for m in ("rps", "mapper") for p in (KEPT / m).iterdir()]
    assert sum(p.stat().st_size for p in small) < 2**20
    assert sum(p.stat().st_size for p in KEPT.rglob("*") if p.is_file()) < 7 * 2**20  # with a dancer, for a wheel


def test_the_mapper_was_trained_on_this_rps() -> None:
    rps, mapper = Rps.read(KEPT / "rps"), Mapper.read(KEPT / "mapper")
    assert mapper.facts["rps_sha256"] == rps.sha256
    assert mapper.facts["synthetic"] is True


@pytest.fixture(scope="module")
def unseen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from choreo_cli.sessions.synth import SynthOptions, write_sessions

    folder = tmp_path_factory.mktemp("unseen")
    made = write_sessions(SynthOptions(sessions=1, minutes=1.0, bpm=(120.0,), seed=555, material=False), folder)
    return folder / made.entries[0]["frames"]


def test_they_follow_the_teacher_on_a_session_nobody_trained_on(unseen: Path) -> None:
    frames = read_frames(unseen)
    rps, mapper = Rps.read(KEPT / "rps"), Mapper.read(KEPT / "mapper")
    got = mapper.controls(rps.normalizer.apply(rps.latents(frames.x, frames.mask)))
    want = teach(frames.x, frames.mask, frames.t_us)
    for k, name in enumerate(CONTROL_NAMES[1:], 1):  # tempo_scale hardly moves within one session
        ok = ~np.isnan(want[:, k])
        error = np.mean((got[ok, k] - want[ok, k]) ** 2) / np.var(want[ok, k])
        assert error < 0.15, name


@pytest.mark.slow
def test_make_baseline_makes_them_again(choreo: Any, tmp_path: Path, unseen: Path) -> None:
    """Bit for bit on the machine they were made on; elsewhere the controls they give stay close."""
    recipe = (TOP / "Makefile").read_text().split("baseline: setup", 1)[1].split("\n\n")[0]
    for line in re.findall(r"^\t\$\(CHOREO\) (.*)$", recipe, re.M):
        words = line.replace("$(RUNS)", ".").replace("> /dev/null", "").split()
        assert choreo(*words, timeout=1200).returncode == 0, words
    frames = read_frames(unseen)
    found = []
    for top in (KEPT, tmp_path / "baseline"):
        rps, mapper = Rps.read(top / "rps"), Mapper.read(top / "mapper")
        found.append(mapper.controls(rps.normalizer.apply(rps.latents(frames.x, frames.mask))))
    assert np.sqrt(np.mean((found[0] - found[1]) ** 2)) < 0.05
