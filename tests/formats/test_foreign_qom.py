"""Quantity-of-motion tables keep their own times."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from formats.errors import FormatError
from formats.foreign import qom
from formats.foreign.source import Source


def test_the_dancer_sample(shared: Path) -> None:
    source = Source.of(shared / "data/pairs/mgt_dancer/dancer_motion_25fps.csv")
    assert qom.sniff(source.head, source.name, source.size)
    series = qom.read(source)
    assert len(series.t_us) == 1571 and series.t_us[:3].tolist() == [0, 80_000, 120_000] and series.rate == (25, 1)
    assert series.names[:3] == ("qom", "centroid_x", "centroid_y") and series.units[:3] == ("1", "px", "px")
    assert series.values.shape == (1571, 8) and series.values[1, 0] == np.float32(8e-05)
    facts = qom.facts(source)
    assert (facts.kind, facts.format, facts.n, facts.rate) == ("motion", "qom-csv", 1571, (25, 1))
    assert facts.duration_us is not None and abs(facts.duration_us - 62_880_000) <= 40_000


def test_milliseconds_and_other_spellings(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("Time,Qom,ComX,ComY\n" + "".join(f"{i * 40},{i / 10},{i},\n" for i in range(50)))
    series = qom.read(Source.of(path))
    assert series.names == ("qom", "centroid_x", "centroid_y") and series.rate == (25, 1)
    assert np.isnan(series.values[:, 2]).all() and series.t_us[1] == 40_000


@pytest.mark.parametrize(
    "text", ["time_s,qom\n", "frame,qom\n1,2\n", "time_s,qom\n0,1\n0.1\n0.2,3\n", "time_s,qom\nx,1\ny,2\n"]
)
def test_a_table_without_time_or_rows_is_one_clear_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(text)
    with pytest.raises(FormatError) as e:
        qom.read(Source.of(path))
    assert "\n" not in str(e.value) and e.value.file == str(path)


def test_a_cut_last_row_is_dropped_and_said(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("time_s,qom,centroid_x\n0,1,2\n0.04,1,2\n0.08,1")
    series = qom.read(Source.of(path))
    assert len(series.t_us) == 2 and series.problems == ("truncated: row 4 has 2 of 3 cells and is dropped",)
