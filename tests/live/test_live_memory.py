"""What `run-live` leaves out of memory: packages nobody asked for, and rows that are written already."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from choreo_cli import runtime
from choreo_cli.live import journal
from choreo_cli.live.journal import About, Journal
from choreo_cli.live.latency import INTS, ROW
from choreo_cli.live.recorder import recover

TOP = Path(__file__).resolve().parents[2]


def test_a_recorded_performance_loads_no_package_that_it_has_no_use_for(tmp_path: Path) -> None:
    pytest.importorskip("pandas")  # where it is not installed there is nothing to keep out
    code = (
        "import sys\nfrom choreo_cli.__main__ import main\n"
        f"sys.argv = ['choreo', 'run-live', '--speed', 'max', '--for', '1', '-q', '-o', {str(tmp_path / 'd')!r}]\n"
        "try:\n    main()\nexcept SystemExit as e:\n    assert not e.code, e.code\n"
        "import pyarrow\nprint(pyarrow.default_memory_pool().backend_name)\n"
        "print(sorted({'pandas', 'torch', 'scipy', 'numba', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=TOP, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-2:] == ["system", "[]"]
    assert (tmp_path / "d" / "sim" / "frames.parquet").is_file()


def test_what_is_refused_is_pandas_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    monkeypatch.setenv("ARROW_DEFAULT_MEMORY_POOL", "mimalloc")
    runtime.spare_memory()
    runtime.spare_memory()
    refuses = [f for f in sys.meta_path if type(f).__module__ == runtime.__name__]
    assert len(refuses) == 1 and refuses[0].find_spec("pandas_like") is None  # type: ignore[call-arg]
    with pytest.raises(ModuleNotFoundError, match="pandas"):
        refuses[0].find_spec("pandas")  # type: ignore[call-arg]


def test_tables_of_a_long_performance_are_made_piece_by_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "CHUNK", 2048)
    writer, n = Journal(tmp_path / "long", About("long", True)), 100_000
    for start in range(0, n, 10_000):
        rows = np.zeros(10_000, ROW)
        for name in ("t_us", "seq"):
            rows["ints"][:, INTS.index(name)] = np.arange(start, start + 10_000) * (20_000 if name == "t_us" else 1)
        writer.append(rows)
    writer.close()
    tracemalloc.start()
    try:
        done = recover(tmp_path, runtime.provenance("run-live", {}, []))
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert done[0].entries[0]["n_frames"] == n
    assert most < n * ROW.itemsize / 3, f"{most} bytes for a journal of {n * ROW.itemsize}"
