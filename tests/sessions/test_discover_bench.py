"""The bench of discover measures what it says, at a small size."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from choreo_cli.sessions import bench_discover, crew
from formats import manifest
from formats.columns import METRIC


def test_rows() -> None:
    found = bench_discover.bench(files=300, again=200, count=1)
    assert [e["name"] for e in found] == ["data.discover_walk", "data.discover_first", "data.discover_again"]
    for row, e in enumerate(found):
        manifest.check_entry(e, METRIC, "bench", row)
        assert e["n"] in (200, 300) and e["value"] is not None and e["goal"]["op"] == "<="
    assert all(e["floor"]["value"] > 0 for e in found[:2])


def test_bare_loops_read_every_file(tmp_path: Path) -> None:
    bench_discover.make_tree(tmp_path / "t", 120, 0)
    for code, opens in ((bench_discover.WALK, 0), (bench_discover.BARE, 120), (bench_discover.FLOOR, 120)):
        hook = (
            "import sys\nn = [0]\n"
            "sys.addaudithook(lambda e, a: n.__setitem__(0, n[0] + (e == 'open' and '/day-' in str(a[0]))))\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", hook + code + "\nprint(n[0])", str(tmp_path / "t")],
            capture_output=True,
            check=True,
            timeout=60,
        )
        assert int(done.stdout) == opens


def _square(x: int) -> int:
    if x == 13 and multiprocessing.parent_process() is not None:
        os._exit(9)  # as if killed: its item is done by the parent
    time.sleep(0.02)
    return x * x


@pytest.mark.parametrize("jobs", [1, 2, 3])
def test_crew_does_each_item_once(jobs: int) -> None:
    items = [13, 1, 2, 3, 5, *range(100, 140), 8, 21, 34, 55]
    assert sorted(crew.share(_square, items, jobs)) == [(k, x * x) for k, x in enumerate(items)]
    assert list(crew.share(_square, [], jobs)) == []


def test_crew_ends_when_the_listener_does() -> None:
    running = crew.share(_square, list(range(40, 80)), 2)
    next(running)
    running.close()
