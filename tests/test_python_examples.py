"""The scripts of examples/python, run as a user runs them, on data made here."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from judged_run import dataset, mapper_run

from choreo_cli.audio.render import render_track, wav_bytes
from choreo_cli.dataset.frameset import read_frames
from choreo_cli.dataset.pack import PackPair
from choreo_cli.dataset.pack_write import write_pack
from choreo_cli.dataset.splits import Item, assign
from formats import manifest, motion_npz
from formats.columns import INPUTS, MASKS

SCRIPTS = Path(__file__).resolve().parent.parent / "examples" / "python"
ROWS = 400
LINE = re.compile(r"  (groove\.\w+): (-?[\d.]+), n (\d+), chance (\S+), p (\S+): (\w+)")


def script(name: str, *args: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    env = {
        "PATH": os.environ.get("PATH", ""),
        "HOME": str(cwd),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(SCRIPTS.parents[1]),
    }
    command = [sys.executable, str(SCRIPTS / name), *map(str, args)]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=120, check=False)


def test_every_script_has_a_test_here() -> None:
    assert {p.name for p in SCRIPTS.glob("*.py")} == {"load_pack.py", "sample.py", "score.py", "train.py"}


def test_a_pack_is_opened_and_its_batches_are_shown(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    n = 4 * ROWS
    frames: dict[str, np.ndarray] = {
        c.name: rng.uniform(c.lo, c.hi * 0.999, n).astype(np.float32)
        for c in INPUTS
        if c.lo is not None and c.hi is not None
    }
    frames["t_us"] = np.tile(np.arange(ROWS, dtype=np.int64) * 20_000, 4)
    frames |= {name: np.ones(n, bool) for name in MASKS}
    frames["hr"][:ROWS] = frames["hr_slope"][:ROWS] = np.nan
    frames["m_hr"][:ROWS] = False
    items = [Item(f"session-{k}/0", f"session-{k}", f"song {k}") for k in range(4)]
    pairs = [PackPair(item, k * ROWS, ROWS, None) for k, item in enumerate(items)]
    made_by = {"run_id": "0" * 12, "command": "pair", "choreo": "0", "git": None, "inputs": [], "outputs": []}
    write_pack(tmp_path, frames, pairs, assign(items, mode="loso"), created_by=made_by, tracks=[])

    done = script("load_pack.py", tmp_path, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    windows = {k: int(v) for k, v in re.findall(r"^  (train|val|test): (\d+) windows$", done.stdout, re.M)}
    assert said[0] == f"4 pairs, {n} frames of 11 inputs, {sum(windows.values())} windows"
    assert min(windows.values()) > 0 and "leaks: none" in said
    shares = re.findall(r"^epoch (\d): x \(\d+, 64, 11\), (\d+) % real$", done.stdout, re.M)
    assert [e for e, _ in shares] == ["0", "1"]
    # Of 11 inputs two have no value in one of four sessions.
    assert all(80 < int(share) <= 100 for _, share in shares)


def test_a_run_is_scored_as_the_command_scores_it(choreo: Callable[..., Any], tmp_path: Path) -> None:
    run = mapper_run(tmp_path / "run", dataset(tmp_path / "data", bpm=(92.0, 120.0)))
    done = script("score.py", run, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    first, *lines = done.stdout.splitlines()
    assert first == "mapper, seed 0: 2 held-out sessions"
    wanted = manifest.decode(choreo("evaluate", "groove", run, "--no-gate").stdout).entries
    by_name = {e["name"]: e for e in wanted}
    assert len(lines) == 3
    for line in lines:
        found = LINE.fullmatch(line)
        assert found is not None, line
        name, value, n, chance, p, verdict = found.groups()
        e = by_name[name]
        assert (value, int(n), chance, p) == (f"{e['value']:.3f}", e["n"], f"{e['chance']:.2g}", f"{e['p']:.2g}")
        assert (verdict == "pass") == e["pass"]
    assert float(by_name["groove.phase_coherence"]["value"]) > 0.6


def test_controls_that_never_move_are_said_to_have_no_figure(tmp_path: Path) -> None:
    frames = dataset(tmp_path / "data", bpm=(92.0, 120.0))
    still = frames.x.copy()
    still[:, [c.name for c in INPUTS].index("motion_energy")] = 0.5
    run = mapper_run(tmp_path / "run", read_frames(tmp_path / "data"), still=still)
    done = script("score.py", run, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "groove.phase_coherence: degenerate" in done.stdout


def test_a_dancer_is_trained_and_sampled(choreo: Callable[..., Any], tmp_path: Path) -> None:
    pytest.importorskip("torch")
    made = choreo("synth", "motions", "--clips", "3", "--seconds", "2.5", "-o", tmp_path / "motions", "-q")
    assert made.returncode == 0, made.stderr
    done = script("train.py", tmp_path / "motions", tmp_path / "flow", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    first, *_, last = done.stdout.splitlines()
    assert re.fullmatch(r"\d+ windows of 64 frames, 35 audio features a frame", first)
    assert last == f"kept in {tmp_path / 'flow'}: python sample.py {tmp_path / 'flow'} SONG"
    assert manifest.decode((tmp_path / "flow" / "run.json").read_bytes()).entries[0]["recipe"] == "flow"

    song = tmp_path / "song.wav"
    song.write_bytes(wav_bytes(render_track(np.arange(0, 6, 0.5), 0.8, 6.0, np.random.default_rng(0))))
    done = script("sample.py", tmp_path / "flow", song, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    dance, after, frames, raw = done.stdout.splitlines()
    slide = re.fullmatch(r"dance.npz: joints \(150, 22, 3\), feet slide (\S+) mm/s", dance)
    assert slide is not None and float(slide[1]) <= 1.0
    assert after == "goes on exactly: True"
    assert frames == "as they come: 56 + 40 + 40 + 14 frames at 30 fps"
    assert raw == "raw: (2, 150, 25) in 2 evaluations of the network"
    assert len(motion_npz.read(tmp_path / "dance.npz").channels) == 150
    small = choreo("distill", tmp_path / "flow", "--set", "pairs=8", "--set", "steps=1", "--set", "batch=4", "-q",
                   "-o", tmp_path / "small")  # fmt: skip
    assert small.returncode == 0, small.stderr
    done = script("sample.py", tmp_path / "small", song, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "raw: (2, 150, 25) in 2 evaluations of the network"
