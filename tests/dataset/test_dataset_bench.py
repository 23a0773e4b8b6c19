"""The measured figures of the dataset: honest joins, real packs, complete entries."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from choreo_cli.dataset.bench import bench, feed, join, pair_rows, streams
from formats.columns import FRAMES, METRIC
from formats.tables import bounds, to_arrow

ROWS = 200_000


def test_the_joined_table_is_legal_and_follows_its_sources() -> None:
    source = streams(20_000, 1)
    columns = join(source)
    table = to_arrow(FRAMES, columns)
    assert bounds(FRAMES, table) == [] and table.num_rows in (19_999, 20_000)
    for key, name in (("mot", "jerk"), ("aud", "audio_energy"), ("hr", "hr")):
        mask = columns[{"mot": "m_mot", "aud": "m_aud", "hr": "m_hr"}[key]]
        t, values = source[key]
        k = {"jerk": 2, "audio_energy": 0, "hr": 0}[name]
        want = np.interp(columns["t_us"][mask], t, values[:, k])
        assert mask.mean() > 0.9 and np.allclose(columns[name][mask], want, atol=1e-4)
        assert np.isnan(columns[name][~mask]).all()


def test_entries_are_complete_and_far_from_the_goals() -> None:
    found = {e["name"]: e for e in bench(rows=ROWS, repeats=2)}
    assert set(found) == {"data.pair_rows", "data.feed", "data.feed_torch"}
    for e in found.values():
        assert tuple(e) == METRIC.names and e["floor"]["value"] > 0
    pair, windows = found["data.pair_rows"], found["data.feed"]
    # Half the goals: the machine is busy with other tests, the real figures come from `choreo bench data`.
    assert pair["value"] < 0.9 and pair["params"]["rows"] == ROWS
    assert windows["value"] > 200_000 and windows["ratio"] > 1000
    assert windows["floor"]["value"] > windows["value"]


@pytest.mark.parametrize(
    ("module", "run", "missing"),
    [
        ("pandas", lambda folder: pair_rows(folder, 2000, 1, 0), "baseline"),
        ("torch", lambda folder: feed(folder, 200_000, 1, 0)[1], "value"),
    ],
)
def test_an_absent_peer_is_said(
    module: str, run: Callable[[Path], dict[str, Any]], missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.split(".")[0] == module:
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.delitem(sys.modules, "choreo_cli.dataset.dataset_torch", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    found = run(tmp_path)
    assert found[missing] is None and found["pass"] is None
    assert f"{module} is not installed: pip install" in found["why"]
