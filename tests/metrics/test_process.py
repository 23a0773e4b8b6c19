"""Costs of whole programs: what is counted, what a failure says, and the interval of a median."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from choreo_cli.errors import StorageError
from choreo_cli.metrics.bench_install import closure, disk_bytes, size, tree_bytes
from choreo_cli.metrics.bench_start import BARE, HEAVY, imported
from choreo_cli.metrics.process import Cost, Program, choreo, measure, median, median_interval, rounds, wall


def python(code: str, **kept: object) -> Program:
    return Program([sys.executable, "-c", code], **kept)  # type: ignore[arg-type]


BURN = "import time\nwhile time.process_time() < 0.3: pass"


def test_cpu_is_counted_and_sleep_is_not() -> None:
    busy, asleep = (c[0] for c in rounds([python(BURN), python("import time; time.sleep(0.4)")], 1))
    assert 0.3 <= busy.cpu_s < 0.6 and busy.wall_s >= 0.3
    assert asleep.cpu_s < 0.2 and asleep.wall_s >= 0.4


def test_children_are_counted() -> None:
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {BURN!r}])"
    assert measure(python(code)).cpu_s >= 0.3


def test_peak_is_the_programs_own_however_large_its_parent_is() -> None:
    held = bytearray(200_000_000)
    held[::4096] = b"x" * len(held[::4096])
    nothing, much = (c[0].peak_bytes for c in rounds([python("pass"), python("x = bytearray(10**8) * 1; x[::64]")], 1))
    assert nothing < 40e6 < 100e6 < much - nothing + 40e6
    assert len(held) == 200_000_000


def test_rounds_are_interleaved_and_warm_up_is_thrown_away(tmp_path: Path) -> None:
    log = tmp_path / "log"
    programs = [python(f"open({str(log)!r}, 'a').write('{name}')") for name in "ab"]
    found = rounds(programs, 2, warm_up=1)
    assert log.read_text() == "ababab" and [len(runs) for runs in found] == [2, 2]


def test_streams_folder_and_variables_arrive(tmp_path: Path) -> None:
    code = "import os, sys; print(os.getcwd(), os.environ['CHOREO_TEST'], sys.stdin.read()); sys.stderr.write('e')"
    out, err = tmp_path / "o", tmp_path / "e"
    measure(python(code, cwd=tmp_path, variables={"CHOREO_TEST": "v"}, stdout=out, stderr=err))
    assert out.read_text() == f"{tmp_path.resolve()} v \n" and err.read_text() == "e"


def test_a_failure_is_said_with_the_programs_last_words() -> None:
    with pytest.raises(StorageError, match=r"ended with 3: it said: too bad"):
        measure(python("import sys; sys.stderr.write('one\\ntoo bad\\n'); sys.exit(3)"))
    assert measure(python("raise SystemExit(3)"), ok=(0, 3)).code == 3
    with pytest.raises(StorageError, match=r"ended with 127"):
        measure(Program(["no-such-program-anywhere"]))


def test_a_program_that_hangs_is_ended() -> None:
    with pytest.raises(StorageError, match="ended with -14"):
        measure(python("import time; time.sleep(60)", limit_s=0.5))


def test_choreo_is_this_very_code(tmp_path: Path) -> None:
    from choreo_cli import __version__

    out = tmp_path / "o"
    measure(choreo("--version", stdout=out))
    assert out.read_text() == f"choreo {__version__}\n"


@pytest.mark.parametrize(("values", "want"), [([3, 1, 2], 2), ([4, 1, 2, 3], 2.5), ([7], 7)])
def test_median(values: list[float], want: float) -> None:
    costs = [Cost(0, v, 0, 0) for v in values]
    assert median(costs, wall) == want


def test_the_interval_of_a_median_covers_it() -> None:
    """95 % at least, of draws from a skewed law whose median is ln 2; too few draws have no interval."""
    rng = random.Random(1)
    draws = [median_interval([rng.expovariate(1) for _ in range(15)]) for _ in range(2000)]
    inside = sum(low <= 0.6931 <= high for low, high in filter(None, draws))
    assert 0.94 <= inside / 2000 <= 0.99
    assert median_interval([1.0] * 5) is None and median_interval(range(6)) == (0, 5)


def test_imports_are_read_from_the_interpreters_own_report(tmp_path: Path) -> None:
    err = tmp_path / "e"
    measure(Program([sys.executable, "-X", "importtime", "-c", "import json.decoder"], stderr=err))
    seen = imported(err.read_text())
    assert {"json", "json.decoder"} <= seen and not seen & set(HEAVY)


def test_the_bare_program_has_two_commands(tmp_path: Path) -> None:
    (tmp_path / "bare.py").write_text(BARE)
    done = subprocess.run([sys.executable, tmp_path / "bare.py", "--help"], capture_output=True, text=True, check=True)
    assert "one" in done.stdout and "two" in done.stdout


def test_base_install_is_counted_without_extras() -> None:
    names = {d.metadata["Name"].lower() for d in closure("choreo")}
    assert {"choreo", "numpy", "pyarrow", "typer"} <= names
    assert names & {"torch", "librosa", "pandas", "pytest", "av"} == set()
    assert "torch" in {d.metadata["Name"].lower() for d in closure("choreo[train]")}
    entry = size()
    assert entry["params"]["torch"] is False and entry["value"] > 100
    assert entry["value"] == pytest.approx(sum(entry["params"]["packages"].values()), abs=3)


def test_disk_bytes_agree_with_the_folders_they_lie_in() -> None:
    import numpy

    top = Path(numpy.__file__).parent
    folders = [top, *top.parent.glob("numpy.libs"), *top.parent.glob("numpy-*.dist-info")]
    numpy_files = next(d for d in closure("numpy") if d.metadata["Name"] == "numpy")
    assert disk_bytes(numpy_files) == pytest.approx(sum(map(tree_bytes, folders)), rel=0.1)
