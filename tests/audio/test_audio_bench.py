"""The bench runs, names its baseline and floor, and says when librosa is missing; nothing heavy is imported at start."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from choreo_cli.audio import bench
from formats.metrics import validate

TOP = Path(__file__).resolve().parents[2]


def test_without_librosa_there_is_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "librosa", None)
    entries = bench.bench(seconds=5.0, repeats=1)
    for e in entries:
        validate(e)
        assert e["baseline"] is None and e["pass"] is None and "pip install 'choreo[bench]'" in e["why"]


def test_nothing_heavy_is_imported_at_start() -> None:
    code = (
        "import sys; import choreo_cli.audio.archive, choreo_cli.audio.bench, choreo_cli.audio.decode, "
        "choreo_cli.audio.inputs, formats.foreign.audio; "
        "print([m for m in ('scipy', 'soundfile', 'soxr', 'av', 'librosa', 'numba', 'pyarrow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=TOP, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr


def test_the_default_path_never_loads_librosa(tmp_path: Path) -> None:
    code = (
        "import sys, numpy as np\n"
        "from pathlib import Path\n"
        "from choreo_cli.audio.bench import render_mp3\n"
        "from choreo_cli.audio.decode import decode\n"
        "from choreo_cli.audio.features import extract\n"
        "from choreo_cli.audio.beats import track_beats\n"
        f"p = render_mp3(Path({str(tmp_path / 'a.mp3')!r}), 6.0, 0)\n"
        "t = track_beats(extract(decode(p, rate=22050).samples))\n"
        "assert abs(t.tempo_bpm / 123 - 1) < 0.002, t\n"
        "print([m for m in ('librosa', 'numba', 'av', 'torch', 'sklearn') if m in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=TOP, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr
