"""`choreo discover` as a program: codes, streams, equal bytes, features, map."""

from __future__ import annotations

import json
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Run = Callable[..., Any]


def entries(done: Any) -> list[dict[str, Any]]:
    return json.loads(done.stdout)["entries"]


def click(path: Path, bpm: float = 120, seconds: float = 8) -> None:
    rate = 22_050
    y = np.zeros(int(rate * seconds))
    burst = np.sin(np.arange(400) * 0.7) * np.exp(-np.arange(400) / 80)
    for t in np.arange(0.2, seconds - 0.1, 60 / bpm):
        y[int(t * rate) : int(t * rate) + 400] += burst
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as w:
        w.setparams((1, 2, rate, 0, "NONE", ""))
        w.writeframes((y * 20_000).astype("<i2").tobytes())


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    top = tmp_path / "disk"
    for k in range(40):
        (top / f"d{k % 4}").mkdir(parents=True, exist_ok=True)
        (top / f"d{k % 4}" / f"{k:02d}.beats").write_text(f"0.5\n1.0\n1.{50 + k}\n")
    return top


def test_codes(choreo: Run, disk: Path) -> None:
    assert choreo("discover", disk).returncode == 0
    (disk / "d1" / "bad.wav").write_bytes(b"RIFF\0\0\0\0WAVE")
    done = choreo("discover", disk)
    assert done.returncode == 3
    line = done.stderr.decode().strip()
    assert line.startswith("choreo discover: cannot use 1 of 41 files: d1/bad.wav (") and "\n" not in line
    assert choreo("discover", disk, "--keep-going").returncode == 0
    assert choreo("discover", disk, "-q").stderr == b""
    (disk / "d1" / ".choreoignore").write_text("*.wav\n")
    done = choreo("discover", disk)
    assert done.returncode == 0 and done.stderr == b""
    (bad,) = [e for e in entries(done) if e["reason"]]
    assert bad["acknowledged"] is True
    assert choreo("discover", disk / "none").returncode == 66
    for words in ((), ("--fps", "0", disk), ("--no-such", disk)):
        assert choreo("discover", *words, input=None).returncode == 2
    assert choreo("discover", disk, "--map", disk / "d0" / "00.beats").returncode == 78


def test_names_that_would_write_on_the_terminal(choreo: Run, tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "a\x1b[31m\nb.wav").write_bytes(b"RIFF\0\0\0\0WAVE")
    done = choreo("discover", tmp_path / "t")
    assert done.returncode == 3 and b"\x1b" not in done.stderr and done.stderr.count(b"\n") == 1
    assert b"\\x1b[31m\\nb.wav" in done.stderr and entries(done)[0]["path"] == "a\x1b[31m\nb.wav"


def test_equal_bytes_everywhere(choreo: Run, disk: Path, tmp_path: Path) -> None:
    seen = set()
    for k, env in enumerate((
        {"PYTHONHASHSEED": "1", "TZ": "UTC", "LC_ALL": "C"},
        {"PYTHONHASHSEED": "2", "TZ": "Asia/Kolkata", "LC_ALL": "C.UTF-8"},
        {"PYTHONHASHSEED": "3", "TZ": "America/St_Johns", "LC_ALL": "POSIX"},
    )):  # fmt: skip
        words = [("--jobs", 1), ("--jobs", 2, "--verify"), ("--no-cache",)][k]
        seen.add(choreo("discover", disk, *words, env=env).stdout)
    assert len(seen) == 1
    out = tmp_path / "i.json"
    assert choreo("discover", disk, "-o", out).stdout == b""
    assert {out.read_bytes()} == seen
    before = out.stat().st_mtime_ns
    choreo("discover", disk, "-o", out)
    assert out.stat().st_mtime_ns == before, "equal content is not touched"


def test_a_cache_that_cannot_be_written_is_one_note(choreo: Run, disk: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    done = choreo("discover", disk, env={"XDG_CACHE_HOME": str(tmp_path / "file")})
    assert done.returncode == 0 and done.stderr.count(b"\n") == 1 and b"cache is not used" in done.stderr
    assert done.stdout == choreo("discover", disk, "--no-cache").stdout


def test_table(choreo: Run, disk: Path) -> None:
    lines = choreo("discover", disk, "--table").stdout.decode().splitlines()
    assert lines[0].split() == ["kind", "count", "hours", "doubts", "unusable", "formats"]
    assert lines[1].split() == ["beats", "40", "0.01", "beat-text"]
    assert "-o FILE" in lines[-1]


def test_features_without_pairing(choreo: Run, tmp_path: Path) -> None:
    music, out = tmp_path / "music", tmp_path / "music" / "features"
    click(music / "one.wav")
    click(music / "two.wav", 100)
    (music / "bad.wav").write_bytes(b"RIFF\0\0\0\0WAVE")
    done = choreo("discover", music, "--features", out)
    assert done.returncode == 3, done.stderr
    made = sorted(out.rglob("*.npz"))
    listed = json.loads((out / "playlist.json").read_bytes())["tracks"]
    assert len(made) == len(listed) == 2
    assert [t["source"] for t in listed] == ["one.wav", "two.wav"] and all((out / t["file"]).exists() for t in listed)
    assert listed[0]["tempo_bpm"] == pytest.approx(120, rel=0.005)
    times = {p: p.stat().st_mtime_ns for p in (*made, out / "playlist.json")}
    again = choreo("discover", music, "--features", out, "--keep-going")
    assert again.returncode == 0 and {p: p.stat().st_mtime_ns for p in times} == times, "nothing is done twice"
    notes = [e["meta"].get("note", "") for e in entries(again) if e["format"] == "features-npz"]
    assert sorted(n.split(",")[0] for n in notes) == ["features of one.wav", "features of two.wav"]
    alone = choreo("discover", out)
    assert [e["kind"] for e in entries(alone)] == ["features", "features", "playlist"]
    made[0].write_bytes(made[0].read_bytes()[:-100])
    choreo("discover", music, "--features", out, "--keep-going")
    assert choreo("check", made[0]).returncode == 0, "a damaged one is made again"


def test_heavy_modules_stay_away(disk: Path, tmp_path: Path) -> None:
    import subprocess
    import sys

    code = (
        "import sys\nfrom pathlib import Path\nfrom choreo_cli.sessions.discover import *\n"
        f"discover([Path({str(disk)!r})], DiscoverOptions(), Path({str(tmp_path / 'c')!r}))\n"
        "print([m for m in ('scipy', 'pyarrow', 'torch', 'librosa', 'av', 'soundfile', 'typer') if m in sys.modules])"
    )
    top = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=top, timeout=60, check=True)
    assert done.stdout.strip() == b"[]"
