"""Promises over the whole table: every exit code provoked, every wrong kind named, every command cut off (16-18, 21, 24)."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from choreo_cli.errors import ExitCode
from formats import manifest
from formats.columns import RECORDING

TOP = Path(__file__).resolve().parents[2]
DATA = TOP / "examples" / "data"
SYNTH = ("synth", "sessions", "--sessions", "1", "--minutes", "0.4")


def start(*words: object, cwd: Path, env: dict[str, str] | None = None, **pipes: Any) -> subprocess.Popen[bytes]:
    base = {**os.environ, "PYTHONPATH": str(TOP), "XDG_CACHE_HOME": str(cwd / ".cache"), "TMPDIR": str(cwd)}
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **pipes}
    command = [sys.executable, "-m", "choreo_cli", *map(str, words)]
    return subprocess.Popen(command, cwd=cwd, env={**base, **(env or {})}, **pipes)


def run(*words: object, cwd: Path, env: dict[str, str] | None = None, **pipes: Any) -> tuple[int, str]:
    p = start(*words, cwd=cwd, env=env, **pipes)
    _, err = p.communicate(timeout=120)
    return p.returncode, (err or b"").decode()


def _ok(t: Path) -> tuple[int, str]:
    return run("--version", cwd=t)


def _no(t: Path) -> tuple[int, str]:
    (t / "in").mkdir()
    shutil.copy(DATA / "music.wav", t / "in" / "music.wav")
    run("discover", t / "in", "-o", t / "i.json", cwd=t)
    return run("pair", t / "i.json", "-o", t / "d", cwd=t)


def _usage(t: Path) -> tuple[int, str]:
    return run("pair", "--rate", "33", DATA / "inventory.json", "-o", t / "d", cwd=t)


def _partial(t: Path) -> tuple[int, str]:
    (t / "in").mkdir()
    (t / "in" / "broken.wav").write_bytes(b"RIFF\x00\x00\x00\x00WAVEfmt ")
    return run("discover", t / "in", cwd=t)


def _data(t: Path) -> tuple[int, str]:
    return run("pair", DATA / "pairs.json", "-o", t / "d", cwd=t)


def _noinput(t: Path) -> tuple[int, str]:
    return run("inspect", t / "nowhere", cwd=t)


def _unavailable(t: Path) -> tuple[int, str]:
    """Sound that needs PyAV, on a machine without it."""
    (t / "hook").mkdir()
    (t / "hook" / "sitecustomize.py").write_text("import sys\nsys.modules['av'] = None\n")
    (t / "clip.m4a").write_bytes(b"\x00\x00\x00\x18ftypM4A \x00\x00\x00\x00M4A mp42" + bytes(64))
    code = "from pathlib import Path\nfrom choreo_cli.audio.decode import decode\nfrom choreo_cli import app, __main__\nimport sys\n"
    code += "app.run = lambda argv: decode(Path('clip.m4a')) and 0\nsys.argv = ['choreo', 'pair']\n__main__.main()\n"
    env = {**os.environ, "PYTHONPATH": f"{t / 'hook'}:{TOP}"}
    p = subprocess.run([sys.executable, "-c", code], cwd=t, env=env, capture_output=True, timeout=60, check=False)
    return p.returncode, p.stderr.decode()


def _bug(t: Path) -> tuple[int, str]:
    """A fault of ours that no data brings about any more: put there through the interpreter's own start-up hook."""
    (t / "hook").mkdir()
    (t / "hook" / "sitecustomize.py").write_text(
        "import choreo_cli.streams as s\ndef broken(*a, **k): raise RuntimeError('boom')\ns.emit = broken\n"
    )
    return run("discover", t / "hook", cwd=t, env={"PYTHONPATH": f"{t / 'hook'}:{TOP}"})


def _cantcreat(t: Path) -> tuple[int, str]:
    (t / "file").write_text("x")
    return run(*SYNTH, "-o", t / "file", cwd=t)


def _io(t: Path) -> tuple[int, str]:
    with open("/dev/full", "wb") as full:
        return run("inspect", DATA / "music.wav", cwd=t, stdout=full)


def _tempfail(t: Path) -> tuple[int, str]:
    from formats import atomic

    (t / "d").mkdir()
    with atomic.lock(t / "d", argv="holder"):
        return run(*SYNTH, "-o", t / "d", cwd=t)


def _config(t: Path) -> tuple[int, str]:
    (t / "map.yaml").write_text("format: json\ntime: {keyy: t}\njoints: {layout: dict, key: j, axes: [x, y, z]}\n")
    return run("discover", DATA, "--map", t / "map.yaml", cwd=t)


def _pipe(t: Path) -> tuple[int, str]:
    read, write = os.pipe()
    os.close(read)
    try:
        return run("inspect", DATA / "music.wav", cwd=t, stdout=write)
    finally:
        os.close(write)


def _signal(number: int) -> Callable[[Path], tuple[int, str]]:
    def provoke(t: Path) -> tuple[int, str]:
        p = start("synth", "sessions", "--sessions", 50, "-o", t / "d", cwd=t)
        deadline = time.monotonic() + 30
        while not list(t.glob("d/*")) and time.monotonic() < deadline:
            time.sleep(0.05)
        p.send_signal(number)
        _, err = p.communicate(timeout=30)
        return p.returncode, err.decode()

    return provoke


PROVOKE: dict[ExitCode, Callable[[Path], tuple[int, str]]] = {
    ExitCode.OK: _ok, ExitCode.NO: _no, ExitCode.USAGE: _usage, ExitCode.PARTIAL: _partial, ExitCode.DATA: _data,
    ExitCode.NOINPUT: _noinput, ExitCode.UNAVAILABLE: _unavailable, ExitCode.BUG: _bug,
    ExitCode.CANTCREAT: _cantcreat, ExitCode.IO: _io, ExitCode.TEMPFAIL: _tempfail, ExitCode.CONFIG: _config,
    ExitCode.HUP: _signal(signal.SIGHUP), ExitCode.INT: _signal(signal.SIGINT), ExitCode.PIPE: _pipe,
    ExitCode.TERM: _signal(signal.SIGTERM),
}  # fmt: skip
SILENT = (ExitCode.OK, ExitCode.PIPE)


@pytest.mark.parametrize("code", ExitCode, ids=lambda c: c.name)
def test_every_exit_code_is_real(code: ExitCode, tmp_path: Path) -> None:
    if code == ExitCode.IO and not Path("/dev/full").exists():
        pytest.skip("no /dev/full on this system")
    got, err = PROVOKE[code](tmp_path)
    assert got == code, err
    assert "Traceback" not in err
    assert err.count("\n") == (0 if code in SILENT else 1), err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["TERM", "INT"])
def test_a_signal_that_was_dropped_is_asked_again(number: int, tmp_path: Path) -> None:
    """C code may lose the exception of a handler; the program stops all the same, and its clean-up is let finish."""
    code = (
        "import sys, time\nfrom choreo_cli import app, __main__\n"
        "def work(argv):\n"
        "    try:\n        print('working', flush=True)\n        time.sleep(30)\n    except BaseException:\n        pass\n"
        "    try:\n        time.sleep(30)\n    finally:\n"
        "        time.sleep(0.7)\n        open('cleaned', 'w').close()\n"
        "app.run = work\nsys.argv = ['choreo', 'pair']\n__main__.main()\n"
    )
    p = subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(TOP)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert p.stdout is not None and p.stdout.readline() == b"working\n"
    p.send_signal(number)
    _, err = p.communicate(timeout=10)
    assert p.returncode == 128 + number
    assert err.decode() == f"choreo pair: stopped by {signal.Signals(number).name}\n"
    assert (tmp_path / "cleaned").exists()


@pytest.mark.parametrize("command", ["discover", "inspect"])
def test_a_bad_map_names_file_line_and_the_nearest_key(choreo: Any, command: str, tmp_path: Path) -> None:
    (tmp_path / "map.yaml").write_text("format: json\ntime:\n  keyy: t\njoints: {layout: dict, key: j, axes: [x, y]}\n")
    done = choreo(command, DATA / "own_keys.json", "--map", "map.yaml")
    assert done.returncode == ExitCode.CONFIG and done.stdout == b""
    text = done.stderr.decode()
    assert "map.yaml, row 3" in text and "unknown key 'time.keyy'" in text and "did you mean 'key'" in text


def test_a_bad_control_map_is_78_for_inspect_and_damage_for_check(choreo: Any, tmp_path: Path) -> None:
    text = (DATA / "control_map.yaml").read_text().replace("neutral:", "neutrall:", 1)
    row = next(i for i, line in enumerate(text.splitlines(), 1) if "neutrall" in line)
    (tmp_path / "control_map.yaml").write_text(text)
    done = choreo("inspect", "control_map.yaml")
    assert done.returncode == ExitCode.CONFIG, done.stderr
    assert f"control_map.yaml:{row}: ".encode() in done.stderr and b"neutral" in done.stderr
    assert choreo("check", "control_map.yaml").returncode == ExitCode.NO


def test_no_file_of_another_kind_is_an_inventory(tmp_path: Path) -> None:
    """All kinds of file x all readers of manifests: 65, with what it is where that can be known."""
    from choreo_cli import streams
    from choreo_cli.errors import ChoreoError
    from choreo_cli.sessions import pair_job
    from formats.errors import FormatError

    right = manifest.decode((DATA / "inventory.json").read_bytes())
    chosen = {"rate": 50, "split": "hash", "group": "component", "tz": "", "track": "", "bpm": None, "window": 64,
              "stride": 16, "synthetic": False, "preview": False}  # fmt: skip

    def as_inventory(path: Path) -> None:
        streams.read_manifest(path, "pair", ("choreo.inventory",))

    def as_previous(path: Path) -> None:
        pair_job.plan(right, {}, chosen, 0, path, None)

    files = [p for p in sorted(DATA.rglob("*")) if p.is_file()]
    assert len(files) > 40
    for reader, need, own in (
        (as_inventory, "choreo.inventory/1", "inventory.json"),
        (as_previous, "choreo.pairs/1", "pairs.json"),
    ):
        for path in files:
            if path.name == own:
                reader(path)
                continue
            with pytest.raises((FormatError, ChoreoError)) as caught:
                reader(path)
            assert getattr(caught.value, "code", ExitCode.DATA) == ExitCode.DATA, path
            schema = manifest.peek(path.read_bytes()) if path.suffix == ".json" else None
            if schema in manifest.ENTRY_TABLES:
                assert schema in str(caught.value) and need in str(caught.value), path


def test_the_examples_are_whole(choreo: Any) -> None:
    done = choreo("check", DATA)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@pytest.mark.parametrize(
    "words",
    [
        ("discover", DATA, "-q"), ("check", "--json", DATA), ("inspect", DATA / "frames.parquet"),
        ("inspect", DATA / "frames.parquet", "--lines"), ("inspect", DATA / "own_keys.json", "--suggest-map"),
        (*SYNTH, "-o", "made"), ("pair", "i.json", "-o", "paired"), ("--completion", "bash"), ("--version",),
    ],
    ids=lambda w: " ".join(str(x).rsplit("/", 1)[-1] for x in w),
)  # fmt: skip
def test_a_reader_that_leaves_is_not_complained_to(words: tuple[object, ...], recordings: Path, tmp_path: Path) -> None:
    shutil.copy(recordings / "i.json", tmp_path / "i.json")
    code, err = _closed(words, tmp_path)
    assert (code, err) == (ExitCode.PIPE, ""), err


def _closed(words: tuple[object, ...], cwd: Path) -> tuple[int, str]:
    read, write = os.pipe()
    os.close(read)
    try:
        return run(*words, cwd=cwd, stdout=write)
    finally:
        os.close(write)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("recordings")
    assert run(*SYNTH, "-o", top / "r", cwd=top)[0] == 0
    assert run("discover", top / "r", "-o", top / "i.json", cwd=top)[0] == 0
    return top


@pytest.mark.parametrize("n", [5, pytest.param(20, marks=(pytest.mark.slow, pytest.mark.alone))])
def test_starts_at_once_on_one_folder(n: int, tmp_path: Path) -> None:
    """One works, the others leave with 75 and name it; once it was killed the lock is free at once."""
    words = ("synth", "sessions", "--sessions", 200, "--minutes", 3, "-o", "d")
    first = start(*words, cwd=tmp_path)
    try:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob("d/*")) and time.monotonic() < deadline:
            time.sleep(0.05)
        late = [start(*words, cwd=tmp_path) for _ in range(n - 1)]
        for p in late:
            _, err = p.communicate(timeout=120)
            assert p.returncode == ExitCode.TEMPFAIL, err
            assert f"pid {first.pid}".encode() in err and err.count(b"\n") == 1
        assert first.poll() is None, "the first goes on"
    finally:
        first.send_signal(signal.SIGKILL)
        first.communicate()
    again = start("synth", "sessions", "--sessions", 1, "--minutes", 0.2, "--frames-only", "-o", "d", cwd=tmp_path)
    _, err = again.communicate(timeout=60)
    assert again.returncode == 0, err
    assert not list(tmp_path.rglob("*.tmp")), "what the killed one left is swept"


def big_inventory(n: int, recordings: Path) -> bytes:
    """A real session and its track among `n` pieces of music that were never on this disk."""
    real = manifest.decode((recordings / "i.json").read_bytes())
    blank: dict[str, Any] = dict.fromkeys(RECORDING.names)
    rng = np.random.default_rng(0)
    more = [
        {**blank, "id": f"a:{k:08x}", "kind": "audio", "format": "mp3", "root": "r0", "path": f"zz/{k // 100:04d}/{k:06d}.mp3",
         "bytes": 4_000_000 + k, "sha256": rng.bytes(32).hex(), "n": 44_100 * 180, "rate_num": 44_100, "rate_den": 1,
         "duration_us": 180_000_000 + k, "channels": 2, "t0_source": "none", "t0_naive": False, "acknowledged": False,
         "problems": [], "synthetic": False, "meta": {"title": f"Song {k}"}}
        for k in range(n - len(real.entries))
    ]  # fmt: skip
    entries = sorted([*real.entries, *more], key=lambda e: (e["root"], os.fsencode(e["path"])))
    return manifest.encode(manifest.Manifest(real.schema, real.created_by, entries, real.roots))


@pytest.mark.parametrize("n", [2_000, pytest.param(100_000, marks=(pytest.mark.slow, pytest.mark.alone))])
def test_a_big_inventory_is_fine(n: int, recordings: Path, tmp_path: Path) -> None:
    """100,000 entries: under 10 s of CPU after import and 400 MB; the unchanged run again is short."""
    (tmp_path / "i.json").write_bytes(big_inventory(n, recordings))
    code = (
        "import resource, sys, json\nfrom choreo_cli import app\nimport commands.pair, choreo_cli.sessions.pair\n"
        "import numpy, scipy.signal, scipy.fft, pyarrow.parquet\n"
        "r = lambda: resource.getrusage(resource.RUSAGE_SELF)\n"
        "a = r()\ncode = app.run(['pair', 'i.json', '-o', 'd', '-q'])\nb = r()\n"
        "cpu = b.ru_utime + b.ru_stime - a.ru_utime - a.ru_stime\n"
        "print(json.dumps([code, cpu, (b.ru_maxrss - a.ru_maxrss) / 1024]), file=sys.stderr)\n"
    )
    figures = []
    for _ in range(2 if n > 2_000 else 1):
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(TOP)},
            capture_output=True, timeout=200, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr.decode()
        figures.append(json.loads(re.findall(r"\[.*\]", done.stderr.decode())[-1]))
    print(f"{n} entries: exit, CPU s, MB: {figures}")
    assert {code for code, _, _ in figures} == {0}
    assert figures[0][1] < 10 * 2 and figures[0][2] < 400, "twice the time: the machine may be busy"
    assert figures[-1][1] < 2 * 2 or len(figures) == 1, "the unchanged run"
