"""choreo.poses/1: a stream comes back from disk as it was."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from formats import poses, tables
from formats.errors import FormatError
from formats.foreign.model import Clock, PoseStream


def stream(n: int = 20, joints: int = 5, dims: int = 3, scored: bool = True, seed: int = 0) -> PoseStream:
    rng = np.random.default_rng(seed)
    xyz = rng.normal(size=(n, joints, dims)).astype(np.float32)
    xyz[rng.random((n, joints)) < 0.2] = np.nan
    scores = rng.random((n, joints)).astype(np.float32)
    return PoseStream(
        np.cumsum(rng.integers(1, 10**6, n)).astype(np.int64), xyz, tuple(f"j{i}" for i in range(joints)), "m", "+z",
        scores if scored else None, (30000, 1001), "header", Clock(1_700_000_000_000_000, "ntp", 20_000, True), ("a: b",), ("c",),
    )  # fmt: skip


def same(a: PoseStream, b: PoseStream) -> bool:
    fields = [f for f in PoseStream.__slots__ if f not in ("t_us", "xyz", "confidence")]  # type: ignore[attr-defined]
    scores = (a.confidence is None) == (b.confidence is None) and (
        a.confidence is None or np.array_equal(a.confidence, b.confidence, equal_nan=True)
    )
    return (
        scores and all(getattr(a, f) == getattr(b, f) for f in fields)
        and np.array_equal(a.t_us, b.t_us) and np.array_equal(a.xyz, b.xyz, equal_nan=True)
    )  # fmt: skip


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 40), st.integers(1, 30), st.sampled_from([2, 3]), st.booleans(), st.integers(0, 99))
def test_round_trip(tmp_path: Path, n: int, joints: int, dims: int, scored: bool, seed: int) -> None:
    before = stream(n, joints, dims, scored, seed)
    path = tmp_path / "p.parquet"
    tables.write_table(path, poses.POSES, poses.columns(before, "abc"), poses.metadata(before, "abc", True))
    after = poses.stream(tables.read_table(path, poses.POSES), tables.read_metadata(path))
    assert same(before, after)
    assert json.loads(tables.read_metadata(path)[poses.METADATA_KEY])["synthetic"] is True


def test_the_same_stream_is_the_same_bytes(tmp_path: Path) -> None:
    digests = {
        tables.write_table(
            tmp_path / f"{i}.parquet", poses.POSES, poses.columns(stream(), "a"), poses.metadata(stream(), "a")
        )
        for i in range(2)
    }
    assert len(digests) == 1


@pytest.mark.parametrize("field, value", [
    ("joints", ["a"]), ("joints", ["a"] * 5), ("dims", 4), ("units", "furlong"), ("up", "x"), ("rate", [0, 1]), ("rate", 30), ("t0_naive", 1),
    ("rate_source", "?"), ("t0_source", "?"), ("problems", "x"), ("t0_utc_us", 1.5), ("joints", None),
])  # fmt: skip
def test_metadata_that_does_not_fit_is_refused(tmp_path: Path, field: str, value: object) -> None:
    before = stream()
    texts = poses.metadata(before, "a")
    fields = json.loads(texts[poses.METADATA_KEY])
    fields[field] = value
    table = tables.to_arrow(poses.POSES, poses.columns(before, "a"))
    with pytest.raises(FormatError):
        poses.stream(table, {poses.METADATA_KEY: json.dumps(fields)})
    with pytest.raises(FormatError):
        poses.stream(table, {})


def test_times_must_increase() -> None:
    before = stream()
    columns = poses.columns(before, "a")
    columns["t_us"] = np.zeros(20, np.int64)
    with pytest.raises(FormatError):
        poses.stream(tables.to_arrow(poses.POSES, columns), poses.metadata(before, "a"))
