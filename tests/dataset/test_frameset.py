"""Frames from wherever they lie, and a thousand hours of them in little memory."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from choreo_cli.dataset.frameset import NAMES, read_frames
from choreo_cli.dataset.windows import STEP_US, Stretch, runs
from choreo_cli.errors import NoInputError, UsageError
from formats.columns import FRAMES, MASKS
from formats.errors import FormatError
from formats.tables import write_table


def columns(session: str, n: int, t0: int = 0, *, gap_at: int | None = None, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    found: dict[str, Any] = {c.name: np.full(n, np.nan, np.float32) for c in FRAMES.columns if c.name in NAMES}
    found["motion_energy"] = rng.random(n).astype(np.float32)
    found["motion_freq"] = np.full(n, 2, np.float32)
    found["jerk"] = rng.random(n).astype(np.float32)
    t = t0 + STEP_US * np.arange(n, dtype=np.int64)
    if gap_at is not None:
        t[gap_at:] += 10 * STEP_US
    return {
        **found, "session_id": [session] * n, "t_us": t, "beat_idx": np.full(n, -1, np.int32),
        **{m: np.full(n, m == "m_mot") for m in MASKS}, "synthetic": np.ones(n, bool),
    }  # fmt: skip


def joined(*parts: dict[str, Any]) -> dict[str, Any]:
    return {
        k: list(itertools.chain(*(p[k] for p in parts))) if k == "session_id" else np.concatenate([p[k] for p in parts])
        for k in parts[0]
    }


def test_a_parquet_leaves_one_session_out(tmp_path: Path) -> None:
    parts = [columns(f"s{k}", 100, gap_at=40, seed=k) for k in range(3)]
    write_table(tmp_path / "frames.parquet", FRAMES, joined(*parts))
    found = read_frames(tmp_path / "frames.parquet")
    assert [(s.session_id, s.split, s.rows) for s in found.sessions] == [
        ("s0", "train", 100), ("s1", "val", 100), ("s2", "test", 100),
    ]  # fmt: skip
    assert found.runs("train").tolist() == [[0, 40], [40, 100]]
    assert np.array_equal(found.x[100:200, 0], parts[1]["motion_energy"]) and np.isnan(found.x[:, 6]).all()
    assert found.mask[:, 0].all() and not found.mask[:, 1:].any()
    first = read_frames(tmp_path / "frames.parquet", fold=0)
    assert [s.split for s in first.sessions] == ["test", "train", "val"] and "fold 0 of 3" in first.notes[0]
    record = found.record()
    assert record["sessions"] == {"train": ["s0"], "val": ["s1"], "test": ["s2"]} and record["synthetic"]


def test_pairs_keep_their_split_and_are_mapped(choreo: Any, tmp_path: Path) -> None:
    choreo("synth", "sessions", "--sessions", 3, "--minutes", 0.3, "-o", "rec")
    done = choreo("pair", "--split", "loso", "-o", "ds", input=choreo("discover", "rec").stdout)
    assert done.returncode == 0, done.stderr
    mapped, read = read_frames(tmp_path / "ds"), read_frames(tmp_path / "ds" / "frames.parquet", split="loso")
    assert isinstance(mapped.x, np.memmap) and mapped.source["schema"] == "choreo.pairs/1"
    assert np.array_equal(mapped.x, read.x, equal_nan=True) and np.array_equal(mapped.t_us, read.t_us)
    assert {s.split for s in mapped.sessions} == {"train", "val", "test"}
    for pack in (tmp_path / "ds" / "pack").iterdir():
        whole = read_frames(pack)
        assert [s.split for s in whole.sessions] == [s.split for s in mapped.sessions]
    doc = json.loads((tmp_path / "ds" / "pairs.json").read_bytes())
    assert doc["sha256"] == mapped.source["sha256"]


def test_what_cannot_be_read_says_so(tmp_path: Path) -> None:
    with pytest.raises(NoInputError, match="no file or folder"):
        read_frames(tmp_path / "nowhere")
    with pytest.raises(FormatError, match="no frames in this folder"):
        read_frames(tmp_path)
    write_table(tmp_path / "empty.parquet", FRAMES, columns("s", 0))
    with pytest.raises(FormatError, match="every session is empty"):
        read_frames(tmp_path / "empty.parquet")
    write_table(tmp_path / "f.parquet", FRAMES, joined(columns("a", 5), columns("b", 5), columns("a", 5, 10**6)))
    with pytest.raises(FormatError, match="not together"):
        read_frames(tmp_path / "f.parquet")
    back = columns("a", 5)
    back["t_us"] = back["t_us"][::-1].copy()
    write_table(tmp_path / "g.parquet", FRAMES, back)
    with pytest.raises(FormatError, match="does not increase"):
        read_frames(tmp_path / "g.parquet")
    write_table(tmp_path / "one.parquet", FRAMES, columns("a", 5))
    assert read_frames(tmp_path / "one.parquet").sessions[0].split == "train"
    with pytest.raises(UsageError, match="there are 0 folds"):
        read_frames(tmp_path / "one.parquet", fold=3)
    with pytest.raises(UsageError, match="no split 'x'"):
        read_frames(tmp_path / "one.parquet", split="x")


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "a\x1b[31m"])
def test_a_session_id_that_cannot_be_shown_is_refused(name: str, tmp_path: Path) -> None:
    write_table(tmp_path / "f.parquet", FRAMES, joined(columns("a", 5), columns(name, 5)))
    with pytest.raises(FormatError, match=r"is empty or holds characters that do not print \(.*row 5, session_id\)"):
        read_frames(tmp_path / "f.parquet")


@pytest.mark.parametrize(("step_us", "rate"), [(33_333, "30 Hz"), (10_000, "100 Hz")])
def test_a_session_at_another_rate_is_named(step_us: int, rate: str, choreo: Any, tmp_path: Path) -> None:
    odd = columns("odd", 60)
    odd["t_us"] = step_us * np.arange(60, dtype=np.int64)
    write_table(tmp_path / "f.parquet", FRAMES, joined(columns("a", 60), odd, columns("b", 60)))
    done = choreo("train", "rps", "f.parquet", "-o", "run", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (65, b"") and not (tmp_path / "run").exists()
    said = done.stderr.decode()
    assert said.count("\n") == 1 and f"session odd runs at {rate}, need 50 Hz" in said and "f.parquet" in said


def test_gaps_and_short_sessions_are_no_other_rate(tmp_path: Path) -> None:
    torn = columns("torn", 60)
    torn["t_us"] += np.cumsum(np.arange(60) % 3 == 0).astype(np.int64) * 5 * STEP_US
    few = columns("few", 4)
    few["t_us"] *= 7
    write_table(tmp_path / "f.parquet", FRAMES, joined(torn, few))
    assert [s.rows for s in read_frames(tmp_path / "f.parquet").sessions] == [60, 4]


def test_runs_of_a_long_table_are_found_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    from choreo_cli.dataset import windows

    rng = np.random.default_rng(0)
    t = np.cumsum(np.where(rng.random(1000) < 0.05, 7 * STEP_US, STEP_US)).astype(np.int64)
    whole = runs(t, [Stretch("a", 0, 600), Stretch("b", 600, 400)])
    monkeypatch.setattr(windows, "_BLOCK", 17)
    for a, b in zip(whole, runs(t, [Stretch("a", 0, 600), Stretch("b", 600, 400)]), strict=True):
        assert np.array_equal(a, b)
