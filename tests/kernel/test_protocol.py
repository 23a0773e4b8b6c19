"""The protocol's rules, each against the real program in a subprocess."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from choreo_cli.app import COMMANDS, TWO_WORDS, load
from choreo_cli.errors import ExitCode
from formats import manifest
from formats.columns import METRIC, PAIR, RECORDING, SESSION

TOP = Path(__file__).resolve().parents[2]
READERS = {"pair": ("choreo.inventory",), "check": None, "inspect": None}
EXAMPLE = {
    "choreo.inventory/1": RECORDING,
    "choreo.pairs/1": PAIR,
    "choreo.sessions/1": SESSION,
    "choreo.metrics/1": METRIC,
}


def one_line(stderr: bytes, command: str) -> str:
    text = stderr.decode()
    assert text.endswith("\n") and text.count("\n") == 1, text
    assert text.startswith(f"choreo {command}".rstrip() + ": "), text
    assert "Traceback" not in text
    return text


def empty_manifest(schema: str) -> bytes:
    return manifest.encode(manifest.Manifest(schema, {"choreo": "0.1.0"}, []))


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One short synthetic session, made once."""
    out = tmp_path_factory.mktemp("synth") / "recordings"
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "choreo_cli",
            "synth",
            "sessions",
            "--sessions",
            "2",
            "--minutes",
            "0.4",
            "-o",
            str(out),
        ],
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(TOP)},
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return out


@pytest.mark.parametrize("name", [[], *[[n] for n in COMMANDS]], ids=lambda n: " ".join(n) or "choreo")
def test_help_is_help(choreo: Any, name: list[str]) -> None:
    long, short = choreo(*name, "--help"), choreo(*name, "-h")
    assert long.returncode == short.returncode == 0
    assert long.stdout == short.stdout and long.stdout.startswith(b"Usage: choreo")
    assert long.stderr == b"" and b"\x1b" not in long.stdout


def test_version_is_the_first_line(choreo: Any) -> None:
    done = choreo("--version")
    assert re.match(rb"^choreo \d+\.\d+\.\d+\n$", done.stdout)


@pytest.mark.parametrize("name", COMMANDS)
def test_unknown_option_is_one_line_and_exit_2(choreo: Any, name: str) -> None:
    words = ["bench", "data"] if name == "bench" else [name, *list(getattr(load(name), "commands", None) or ())[:1]]
    assert len(words) == 1 or name in TWO_WORDS
    done = choreo(*words, "--no-such-option")
    assert done.returncode == ExitCode.USAGE and done.stdout == b""
    assert "--no-such-option" in one_line(done.stderr, " ".join(words))


def test_unknown_command_names_the_nearest(choreo: Any) -> None:
    done = choreo("pare")
    assert done.returncode == ExitCode.USAGE
    assert done.stderr == b"choreo: no command 'pare': did you mean: choreo pair?\n"


@pytest.mark.parametrize("name", ["discover", "pair", "inspect", "check"])
def test_terminal_without_input_is_usage_at_once(name: str, tmp_path: Path) -> None:
    extra = ["-o", str(tmp_path / "o")] if name == "pair" else []
    code, out = in_terminal([name, *extra], tmp_path)
    assert code == ExitCode.USAGE, out
    assert f"choreo {name}: " in out


@pytest.mark.parametrize("name", ["pair"])
@pytest.mark.parametrize("schema", EXAMPLE)
def test_wrong_kind_is_named(choreo: Any, name: str, schema: str, tmp_path: Path) -> None:
    kinds = READERS[name]
    if schema.split("/")[0] in kinds:
        pytest.skip("the right kind")
    for source in ("pipe", "file"):
        file = tmp_path / "m.json"
        file.write_bytes(empty_manifest(schema))
        done = choreo(name, "-o", tmp_path / "o", *([file] if source == "file" else []), input=file.read_bytes())
        assert done.returncode == ExitCode.DATA
        text = one_line(done.stderr, name)
        assert schema in text and f"need {kinds[0]}/1" in text and "did you mean: choreo " in text


def test_empty_stdin_asks_about_the_command_before(choreo: Any, tmp_path: Path) -> None:
    done = choreo("pair", "-o", tmp_path / "o", input=b"")
    assert done.returncode == ExitCode.DATA
    assert "no manifest arrived" in one_line(done.stderr, "pair")
    assert "did the command before it fail?" in done.stderr.decode()


def test_newer_major_version_names_the_writer(choreo: Any, tmp_path: Path) -> None:
    doc = manifest.encode(manifest.Manifest("choreo.inventory/2", {"choreo": "9.9.9"}, []))
    done = choreo("pair", "-o", tmp_path / "o", input=doc)
    assert done.returncode == ExitCode.DATA and "9.9.9" in one_line(done.stderr, "pair")


def test_missing_file_is_66(choreo: Any, tmp_path: Path) -> None:
    for words in (
        ["discover", "nowhere"],
        ["pair", "nowhere.json", "-o", "o"],
        ["check", "nowhere"],
        ["inspect", "nowhere"],
    ):
        done = choreo(*words)
        assert done.returncode == ExitCode.NOINPUT, (words, done.stderr)
        assert "nowhere" in one_line(done.stderr, words[0])


def test_output_folder_is_required(choreo: Any, recordings: Path) -> None:
    for words in (["pair"], ["synth", "sessions"]):
        done = choreo(*words, input=empty_manifest("choreo.inventory/1"))
        assert done.returncode == ExitCode.USAGE and "-o" in one_line(done.stderr, " ".join(words))


def test_pipe_equals_file(choreo: Any, recordings: Path, tmp_path: Path) -> None:
    piped = choreo("discover", recordings)
    choreo("discover", recordings, "-o", tmp_path / "i.json")
    assert piped.returncode == 0 and piped.stdout == (tmp_path / "i.json").read_bytes()
    # Into one place, one after the other: where the folder lies is written in `roots`, for whoever reads a pipe.
    a = choreo("pair", "-o", tmp_path / "b", input=piped.stdout)
    (tmp_path / "b").rename(tmp_path / "a")
    b = choreo("pair", tmp_path / "i.json", "-o", tmp_path / "b")
    assert a.returncode == b.returncode == 0, a.stderr
    assert a.stdout == b.stdout == (tmp_path / "a" / "pairs.json").read_bytes()
    for file in sorted(p for p in (tmp_path / "a").rglob("*") if p.is_file()):
        twin = tmp_path / "b" / file.relative_to(tmp_path / "a")
        if file.name not in ("pairs.run.json", ".choreo.lock"):
            assert file.read_bytes() == twin.read_bytes(), file


def test_cut_manifest_is_never_accepted(choreo: Any, recordings: Path, tmp_path: Path) -> None:
    """Every byte through the reader, and a few places through the whole program."""
    from formats.errors import FormatError

    whole = choreo("discover", recordings).stdout
    for cut in range(len(whole)):
        with pytest.raises(FormatError):
            manifest.decode(whole[:cut])
    for cut in (1, 40, len(whole) // 2, len(whole) - 1):
        done = choreo("pair", "-o", tmp_path / "o", input=whole[:cut])
        assert done.returncode == ExitCode.DATA and one_line(done.stderr, "pair")
    assert not (tmp_path / "o" / "pairs.json").exists()


def test_rerun_touches_nothing(choreo: Any, recordings: Path, tmp_path: Path) -> None:
    choreo("discover", recordings, "-o", tmp_path / "i.json")
    choreo("pair", tmp_path / "i.json", "-o", tmp_path / "d")
    before = {p: p.stat().st_mtime_ns for p in (tmp_path).rglob("*") if p.is_file() and "cache" not in p.parts}
    choreo("discover", recordings, "-o", tmp_path / "i.json")
    again = choreo("pair", tmp_path / "i.json", "-o", tmp_path / "d")
    assert again.returncode == 0 and again.stdout == (tmp_path / "d" / "pairs.json").read_bytes()
    after = {p: p.stat().st_mtime_ns for p in before}
    assert {p for p in before if before[p] != after[p] and p.name != ".choreo.lock"} == set()


def test_folder_can_be_moved(choreo: Any, recordings: Path, tmp_path: Path) -> None:
    choreo("discover", recordings, "-o", tmp_path / "i.json")
    choreo("pair", tmp_path / "i.json", "-o", tmp_path / "d")
    (tmp_path / "d").rename(tmp_path / "elsewhere")
    done = choreo("check", tmp_path / "elsewhere")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("words", [["discover", "."], ["--help"], ["synth", "--help"]], ids=" ".join)
def test_closed_pipe_is_141_and_silent(words: list[str], recordings: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "choreo_cli", *words],
        stdin=subprocess.DEVNULL,
        stdout=write,
        stderr=subprocess.PIPE,
        cwd=recordings,
        env={**os.environ, "PYTHONPATH": str(TOP)},
        timeout=60,
        check=False,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (ExitCode.PIPE, b"")
    assert time.monotonic() - start < 20


def test_full_disk_on_stdout_is_74(recordings: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full on this system")
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "choreo_cli", "discover", "."],
            stdin=subprocess.DEVNULL,
            stdout=full,
            stderr=subprocess.PIPE,
            cwd=recordings,
            env={**os.environ, "PYTHONPATH": str(TOP)},
            timeout=60,
            check=False,
        )
    assert done.returncode == ExitCode.IO
    assert "No space left" in one_line(done.stderr, "discover")


def test_full_disk_leaves_no_partial_file(recordings: Path, tmp_path: Path) -> None:
    """RLIMIT_FSIZE stands in for a full disk: writes beyond it fail with EFBIG."""
    code = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))\n"
        "from choreo_cli.__main__ import main\n"
        f"sys.argv = ['choreo', 'synth', 'sessions', '--sessions', '1', '--minutes', '0.4', '-o', {str(tmp_path / 'o')!r}]\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, cwd=TOP, timeout=60, check=False, stdin=subprocess.DEVNULL
    )
    assert done.returncode == ExitCode.IO, done.stderr
    one_line(done.stderr, "synth sessions")
    assert not list((tmp_path / "o").rglob("*.tmp")) and not (tmp_path / "o" / "sessions.json").exists()


def test_unwritable_output_is_73(choreo: Any, recordings: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for out in ("file/o", "file"):
        done = choreo("synth", "sessions", "--sessions", "1", "--minutes", "0.4", "-o", tmp_path / out)
        assert done.returncode == ExitCode.CANTCREAT, done.stderr
        one_line(done.stderr, "synth sessions")
    done = choreo("discover", recordings, "-o", tmp_path / "no" / "i.json")
    assert done.returncode == ExitCode.CANTCREAT


def test_locked_output_is_75_and_free_after_a_kill(recordings: Path, tmp_path: Path) -> None:
    """Many starts on one folder: one works, the others leave at once; a killed holder frees the lock."""
    out = tmp_path / "o"
    out.mkdir()
    hold = (
        "import sys, time\nfrom pathlib import Path\nfrom formats import atomic\n"
        f"with atomic.lock(Path({str(out)!r}), argv='holder'):\n print('held', flush=True)\n time.sleep(60)\n"
    )
    holder = subprocess.Popen([sys.executable, "-c", hold], stdout=subprocess.PIPE, cwd=TOP)
    try:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        words = [
            sys.executable,
            "-m",
            "choreo_cli",
            "synth",
            "sessions",
            "--sessions",
            "1",
            "--minutes",
            "0.4",
            "-o",
            str(out),
        ]
        env = {**os.environ, "PYTHONPATH": str(TOP)}
        late = [subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=env) for _ in range(4)]
        for p in late:
            _, err = p.communicate(timeout=60)
            assert p.returncode == ExitCode.TEMPFAIL
            assert f"pid {holder.pid}" in one_line(err, "synth sessions")
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.communicate()
    done = subprocess.run(words, capture_output=True, env=env, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("sig,code", [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_signals_end_it_with_their_code(sig: str, code: int, tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(TOP)}
    words = ["synth", "sessions", "--sessions", "50", "--minutes", "3", "-o", str(tmp_path / "o")]
    p = subprocess.Popen(
        [sys.executable, "-m", "choreo_cli", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env
    )
    deadline = time.monotonic() + 30
    while not list(tmp_path.glob("o/*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.3)
    start = time.monotonic()
    p.send_signal(getattr(signal, sig))
    out, err = p.communicate(timeout=20)
    assert p.returncode == code and out == b"", err
    assert f"stopped by {sig}" in one_line(err, "synth sessions")
    assert time.monotonic() - start < 5
    assert not list(tmp_path.rglob("*.tmp")) and not (tmp_path / "o" / "sessions.json").exists()


def test_cron_surroundings(recordings: Path, tmp_path: Path) -> None:
    """No environment, no home, stdin closed, a folder that may not be written: it works and prints only the result."""
    out = tmp_path / "i.json"
    script = f"import os,sys; os.close(0); os.execve({sys.executable!r}, [{sys.executable!r}, '-m', 'choreo_cli', 'discover', {str(recordings)!r}, '-o', {str(out)!r}], {{'PYTHONPATH': {str(TOP)!r}}})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, cwd="/", timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert json.loads(out.read_bytes())["schema"] == "choreo.inventory/1"


def in_terminal(words: list[str], cwd: Path, timeout: float = 60) -> tuple[int, str]:
    """Run on a pseudo-terminal; returns exit code and everything shown."""
    pid, fd = pty.fork()
    if pid == 0:
        os.chdir(cwd)
        os.environ.update({"PYTHONPATH": str(TOP), "TERM": "xterm-256color", "COLUMNS": "80"})
        os.execv(sys.executable, [sys.executable, "-m", "choreo_cli", *words])
    seen = b""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if not select.select([fd], [], [], 0.2)[0]:
            continue
        try:
            data = os.read(fd, 65536)
        except OSError:
            break
        if not data:
            break
        seen += data
    _, status = os.waitpid(pid, 0)
    os.close(fd)
    return os.waitstatus_to_exitcode(status), seen.decode("utf-8", "replace").replace("\r\n", "\n")


def test_a_person_gets_a_table_that_fits(recordings: Path, tmp_path: Path) -> None:
    code, shown = in_terminal(["discover", str(recordings), "-q"], tmp_path)
    assert code == 0 and not shown.startswith("{")
    assert max(map(len, shown.splitlines())) <= 80
    assert "-o FILE" in shown.splitlines()[-1]
    code, forced = in_terminal(["discover", str(recordings), "-q", "--json"], tmp_path)
    assert code == 0 and forced.startswith('{"schema"')


def test_stdout_is_pure_json_in_a_pipe(choreo: Any, recordings: Path, tmp_path: Path) -> None:
    inventory = choreo("discover", recordings).stdout
    for words in (["pair", "-o", "d"], ["inspect", "-"], ["check", "-", "--json"]):
        done = (
            choreo(*words, input=inventory, cwd=recordings, env={"NO_COLOR": "1"})
            if words[0] != "pair"
            else choreo(*words, input=inventory)
        )
        assert b"\x1b" not in done.stdout, words
        json.loads(done.stdout)


def test_every_exit_code_is_documented_and_has_a_row() -> None:
    from choreo_cli.errors import MEANING

    assert set(MEANING) == set(ExitCode)
    page = (TOP / "man" / "man1" / "choreo.1").read_text()
    for code in ExitCode:
        assert f".B {int(code)}\n" in page


def test_a_bug_of_ours_is_one_line_and_a_crash_file(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom choreo_cli import app, __main__\n"
        "def broken(argv): raise RuntimeError('boom')\n"
        "app.run = broken\nsys.argv = ['choreo', 'pair']\n__main__.main()\n"
    )
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=TOP, env=env, timeout=30, check=False)
    assert done.returncode == ExitCode.BUG
    text = one_line(done.stderr, "pair")
    crash = Path(re.search(r"(\S+choreo-crash-\S+\.txt)", text)[1])
    assert "RuntimeError: boom" in crash.read_text()


def test_missing_extra_names_the_install_line() -> None:
    """Unavailable is 69, with the line that mends it."""
    code = (
        "import sys\nsys.modules['av'] = None\nfrom choreo_cli.errors import UnavailableError\n"
        "from choreo_cli import app, __main__\n"
        "def missing(argv): raise UnavailableError('PyAV is missing', hint=\"pip install 'choreo[video]'\")\n"
        "app.run = missing\nsys.argv = ['choreo', 'discover']\n__main__.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=TOP, timeout=30, check=False)
    assert done.returncode == ExitCode.UNAVAILABLE
    assert done.stderr == b"choreo discover: PyAV is missing: pip install 'choreo[video]'\n"
