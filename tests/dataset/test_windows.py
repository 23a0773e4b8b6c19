"""Windows: cut at gaps and ends, valid share, and the audio frames they map to."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from choreo_cli.dataset.windows import AudioGrid, Stretch, Windows, cut, first_frame, runs
from choreo_cli.errors import DataError, UsageError
from formats.columns import WINDOWS

STEP = 20_000


def slow_windows(
    t: np.ndarray, mot: np.ndarray, stretches: list[Stretch], length: int, stride: int, min_valid: float
) -> list[tuple[int, int, int, int, float]]:
    """The definition, row by row: (pair, start, audio_start, audio_len, valid)."""
    found = []
    for code, s in enumerate(stretches):
        begin = s.row_start
        rows = range(s.row_start, s.row_start + s.rows)
        for r in rows:
            if r > s.row_start and t[r] - t[r - 1] != STEP:
                begin = r
            start = r - length + 1
            if start < begin or (start - begin) % stride:
                continue
            valid = int(mot[start : r + 1].sum())
            if Fraction(valid, length) < Fraction(min_valid):
                continue
            audio = []
            if s.audio is not None:
                lo, hi = int(t[start]), int(t[start]) + length * STEP
                audio = [
                    k for k in range(s.audio.n_frames) if lo * s.audio.sr <= k * s.audio.hop * 10**6 < hi * s.audio.sr
                ]
            found.append((code, start, audio[0] if audio else -1, len(audio), valid / length))
    return sorted(found, key=lambda w: w[1])


@st.composite
def stores(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, list[Stretch]]:
    t, stretches, row = [], [], 0
    for k in range(draw(st.integers(0, 4))):
        skip = draw(st.integers(0, 3))
        rows = draw(st.integers(0, 40))
        steps = draw(
            st.lists(st.sampled_from([STEP] * 9 + [2 * STEP, 10 * STEP]), min_size=skip + rows, max_size=skip + rows)
        )
        t.extend(np.cumsum([draw(st.integers(-50, 50)) * STEP, *steps])[1:].tolist())
        audio = draw(
            st.none()
            | st.builds(AudioGrid, st.sampled_from([22050, 44100, 100]), st.sampled_from([1, 512]), st.integers(0, 60))
        )
        stretches.append(Stretch(f"p{k}", row + skip, rows, audio))
        row += skip + rows
    mot = np.array(draw(st.lists(st.booleans(), min_size=row, max_size=row)), bool)
    return np.array(t, np.int64), mot, draw(st.permutations(stretches))


@settings(max_examples=200, deadline=None)
@given(stores(), st.integers(1, 12), st.integers(1, 9), st.sampled_from([0.0, 0.25, 1 / 3, 0.5, 1.0]))
def test_equals_the_definition(
    store: tuple[np.ndarray, np.ndarray, list[Stretch]], length: int, stride: int, min_valid: float
) -> None:
    t, mot, stretches = store
    w = cut(t, mot, stretches, length=length, stride=stride, min_valid=min_valid)
    want = slow_windows(t, mot, stretches, length, stride, min_valid)
    assert list(zip(w.pair, w.row_start, w.audio_start, w.audio_len, strict=True)) == [x[:4] for x in want]
    assert np.allclose(w.valid_fraction, [x[4] for x in want])
    assert [a.dtype.name for a in (w.pair, w.row_start, w.len, w.stride, w.audio_start, w.audio_len)] == [
        "int32", "int64", "int32", "int32", "int64", "int32"]  # fmt: skip


@given(st.integers(-(2**60), 2**60), st.integers(1, 192_000), st.integers(1, 8192), st.integers(0, 2**40))
def test_first_frame_is_exact_at_any_time(t: int, sr: int, hop: int, n: int) -> None:
    want = min(max(math.ceil(Fraction(t * sr, hop * 10**6)), 0), n)
    if abs(t) * sr // (hop * 10**6) < 2**62:
        assert int(first_frame(t, sr, hop, n)) == want


def test_runs_tile_the_stretches() -> None:
    t = np.array([0, 1, 2, 4, 5, 0, 1, 9], np.int64) * STEP
    lo, hi, code = runs(t, [Stretch("b", 5, 3), Stretch("a", 0, 5)])
    assert [lo.tolist(), hi.tolist(), code.tolist()] == [[0, 3, 5, 7], [3, 5, 7, 8], [1, 1, 0, 0]]


def test_columns_are_the_contract() -> None:
    t = np.arange(100, dtype=np.int64) * STEP
    w = cut(t, np.ones(100, bool), [Stretch("p", 0, 100, AudioGrid(22050, 512, 80))], length=10, stride=10)
    assert tuple(w.columns(["p"], ["train"])) == WINDOWS.names
    assert len(w) == 10 and w.columns(["p"], ["train"])["split"].unique().to_pylist() == ["train"]
    none = cut(t[:5], np.ones(5, bool), [Stretch("p", 0, 5)], length=10)
    assert isinstance(none, Windows) and len(none) == 0 and tuple(none.columns(["p"], ["val"])) == WINDOWS.names


def test_refusals_name_the_pair() -> None:
    t = np.arange(10, dtype=np.int64) * STEP
    with pytest.raises(DataError, match="rows of pair b leave the frame table of 10 rows"):
        cut(t, t > 0, [Stretch("a", 0, 5), Stretch("b", 5, 6)])
    with pytest.raises(DataError, match="pairs a and b share rows"):
        cut(t, t > 0, [Stretch("b", 4, 6), Stretch("a", 0, 5)])
    with pytest.raises(UsageError, match="no windows of 0 rows"):
        cut(t, t > 0, [], length=0)
    with pytest.raises(UsageError, match="share of 2"):
        cut(t, t > 0, [], min_valid=2)
