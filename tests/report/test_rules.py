"""Promises of tables beyond bounds: each broken in turn is named, and nothing else is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from choreo_cli.report.rules import broken
from choreo_cli.report.verify import check_file
from formats.columns import FRAMES
from formats.tables import read_table, to_arrow, write_table

DATA = Path(__file__).resolve().parents[2] / "examples" / "data"
Columns = dict[str, Any]


def _columns() -> Columns:
    table = read_table(DATA / "frames.parquet", FRAMES)
    return {
        n: table.column(n).to_pylist() if n == "session_id" else table.column(n).to_numpy().copy() for n in FRAMES.names
    }


def _back(c: Columns) -> None:
    c["t_us"][10] = c["t_us"][9]


def _unsorted(c: Columns) -> None:
    c["session_id"] = ["b"] * 50 + ["a"] * 50


def _torn(c: Columns) -> None:
    c["session_id"] = ["a"] * 30 + ["b"] * 30 + ["a"] * 40


def _mask(c: Columns) -> None:
    c["hr"][5] = np.nan


def _beat(c: Columns) -> None:
    c["beat_idx"][7] = -1


def _bound(c: Columns) -> None:
    c["motion_energy"][3] = 1.5


BREAKS: dict[str, tuple[Callable[[Columns], None], str]] = {
    "time": (_back, "t_us: 1 rows are not later"),
    "order": (_unsorted, "session_id: sessions are not in byte order"),
    "stretch": (_torn, "session_id: sessions are not in byte order"),
    "mask": (_mask, "m_hr: says measured where hr is null, 1 rows, first row 5"),
    "beat": (_beat, "beat_idx: 1 rows have a phase but no beat, first row 7"),
    "bound": (_bound, "motion_energy: 1 values outside [0, 1] 1, first 1.5 at row 3"),
}


@pytest.mark.parametrize("name", BREAKS)
def test_each_broken_promise_is_named(name: str, tmp_path: Path) -> None:
    spoil, sentence = BREAKS[name]
    columns = _columns()
    spoil(columns)
    path = tmp_path / "frames.parquet"
    write_table(path, FRAMES, columns)
    problems = check_file(path, "frames.parquet").problems
    assert len(problems) == 1 and problems[0].startswith(sentence), problems


def test_two_sessions_in_order_are_fine() -> None:
    columns = _columns()
    columns["session_id"] = ["a"] * 50 + ["b"] * 50
    columns["t_us"][50:] = columns["t_us"][:50]
    assert broken(FRAMES, to_arrow(FRAMES, columns)) == []


def test_no_rows_are_fine() -> None:
    empty = {n: v[:0] for n, v in _columns().items()}
    assert broken(FRAMES, to_arrow(FRAMES, empty)) == []
