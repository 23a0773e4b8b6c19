"""`choreo run-live` as a person runs it: the bundled show, files, ports, signals, and everything that can be wrong."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from formats import control_map
from formats.columns import LEDGER, SENT
from formats.manifest import decode
from formats.tables import read_table

TOP = Path(__file__).resolve().parents[2]
Choreo = Callable[..., subprocess.CompletedProcess[bytes]]


def started(*words: object, cwd: Path, program: tuple[str, ...] = ("-m", "choreo_cli")) -> subprocess.Popen[bytes]:
    env = {**os.environ, "PYTHONPATH": str(TOP), "LC_ALL": "C.UTF-8"}
    return subprocess.Popen(
        [sys.executable, *program, "run-live", *map(str, words)], cwd=cwd, env=env, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def receiver() -> socket.socket:
    found = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    found.bind(("127.0.0.1", 0))
    found.settimeout(10)
    return found


def events_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def until(path: Path, kind: str, text: str = "", within_s: float = 10.0) -> dict[str, Any]:
    """The first event of a kind, waited for."""
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        if path.is_file():
            for line in path.read_text().splitlines():
                if f'"{kind}"' in line and text in line and line.endswith("}"):
                    return dict(json.loads(line))
        time.sleep(0.02)
    raise AssertionError(f"no event {kind} {text} in {path.read_text() if path.is_file() else path}")


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    folder = tmp_path_factory.mktemp("show")
    child = started("--speed", "max", "-o", "played", "--out", "loop:", "--planner", cwd=folder)
    out, errors = child.communicate(timeout=60)
    assert child.returncode == 0, errors
    return folder / "played", out


def test_without_arguments_the_bundled_show_plays_and_is_recorded(played: tuple[Path, bytes], choreo: Choreo) -> None:
    folder, out = played
    assert out == (folder / "sessions.json").read_bytes()
    entry = decode(out, source="x").entries[0]
    assert entry["n_frames"] == 2250 and entry["synthetic"] is True
    assert choreo("check", folder).returncode == 0
    sent = read_table(folder / "sim" / "sent.parquet", SENT).to_pydict()
    for name, control in zip(control_map.CONTROLS, control_map.DEFAULT.controls, strict=True):
        assert min(sent[name]) >= control.min - 1e-6 and max(sent[name]) <= control.max + 1e-6
        if name != "tempo_scale":
            assert max(sent[name]) - min(sent[name]) > 0.2, f"{name} does not move"


def test_virtual_time_gives_the_same_bytes_again(played: tuple[Path, bytes], tmp_path: Path) -> None:
    folder, _ = played
    child = started("--speed", "max", "-o", "again", "--out", "loop:", "--planner", cwd=tmp_path)
    child.communicate(timeout=60)
    for name in ("sim/frames.parquet", "sim/sent.parquet", "sim/ledger.parquet", "sim_controls.parquet"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes(), name


def test_a_recording_is_judged_and_reported(played: tuple[Path, bytes], choreo: Choreo, tmp_path: Path) -> None:
    folder, out = played
    piped = choreo("evaluate", "groove", "-", "--no-gate", "--draws", 99, input=out)
    named = choreo("evaluate", "groove", folder, "--no-gate", "--draws", 99, "-o", "groove.json")
    assert piped.returncode == named.returncode == 0
    assert piped.stdout == (tmp_path / "groove.json").read_bytes()
    figures = {e["name"]: e["value"] for e in json.loads(piped.stdout)["entries"]}
    assert figures["groove.phase_coherence"] > 0.6 and figures["groove.energy_correlation"] > 0.3
    done = choreo("report", folder, "groove.json", folder / "metrics.json", "-o", "report")
    assert done.returncode in (1, 3) and (tmp_path / "report" / "report.html").is_file()


def test_sessions_without_controls_are_no_recording(choreo: Choreo, tmp_path: Path) -> None:
    choreo("synth", "sessions", "--sessions", 1, "--minutes", 0.1, "--frames-only", "-o", "made")
    done = choreo("evaluate", "groove", "made")
    assert done.returncode == 65 and b"sessions without controls" in done.stderr and b"run-live -o" in done.stderr


def test_events_on_stdout_are_json_lines_and_nothing_else(choreo: Choreo) -> None:
    done = choreo("run-live", "--speed", "max", "--for", 2, "--out", "loop:", "--events", "-")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0 and lines[0] == {"schema": "choreo.events/1"}
    assert lines[-1] == {"end": True, "n": len(lines) - 2}
    assert [e["kind"] for e in lines[1:-1]] == ["start", "stop"]


def test_events_that_cannot_be_kept_are_told_before_or_after_the_show(choreo: Choreo, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    play = ("run-live", "--speed", "max", "--for", 1, "--out", "loop:", "-q", "--events")
    done = choreo(*play, "file/events.jsonl")
    assert done.returncode == 73 and b"cannot write the events: file/events.jsonl" in done.stderr, done.stderr
    assert done.stderr.count(b"\n") == 1
    done = choreo(*play, "/dev/full", "-o", "kept")
    assert done.returncode == 74 and b"events were lost: /dev/full: No space left" in done.stderr, done.stderr
    assert (tmp_path / "kept" / "sessions.json").exists() and choreo("inspect", "kept/sim/events.jsonl").returncode == 0
    child = started(*play[1:], "-", cwd=tmp_path)
    assert child.stdout is not None and child.stderr is not None
    child.stdout.close()
    assert (child.stderr.read(), child.wait(30)) == (b"", 0), "a reader that goes away is no fault of the show"


def test_the_live_path_never_imports_torch(choreo: Choreo, tmp_path: Path) -> None:
    code = (
        "import sys; from choreo_cli.__main__ import main\n"
        "sys.argv = ['choreo', 'run-live', '--speed', 'max', '--for', '1', '--planner', '-q']\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print(sorted({'torch', 'librosa', 'matplotlib', 'polars'} & set(sys.modules)))"
    )
    env = {**os.environ, "PYTHONPATH": str(TOP)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=tmp_path, env=env, timeout=60)
    assert done.stdout.splitlines()[-1] == b"[]", done.stderr


def test_a_receiver_gets_the_bytes_and_neutral_at_the_end(tmp_path: Path) -> None:
    """In real time, over UDP, to another process's socket; Ctrl-C ends it in order and what was played is kept."""
    ear = receiver()
    child = started(
        "--out", f"osc:127.0.0.1:{ear.getsockname()[1]}", "--osc-style", "vector", "-o", "live", cwd=tmp_path
    )
    frames = [struct.unpack(">i5f", ear.recv(1024)[-24:]) for _ in range(40)]
    child.send_signal(signal.SIGINT)
    errors = child.communicate(timeout=20)[1]
    ear.settimeout(0.2)
    while True:
        try:
            frames.append(struct.unpack(">i5f", ear.recv(1024)[-24:]))
        except TimeoutError:
            break
    assert child.returncode == 130, errors
    numbers = [f[0] for f in frames]
    assert numbers == sorted(numbers)
    for value, control in zip(frames[-1][1:], control_map.DEFAULT.controls, strict=True):
        assert value == pytest.approx(control.neutral, abs=2e-3), "the instrument is left at neutral"
    recorded = json.loads((tmp_path / "live" / "sessions.json").read_bytes())["entries"]
    assert len(recorded) == 1 and recorded[0]["n_frames"] >= 40
    ledger = read_table(tmp_path / "live" / recorded[0]["path"] / "ledger.parquet", LEDGER).to_pydict()
    assert all(t is None or t > 0 for t in ledger["t_sent_ns"]) and ledger["t_sent_ns"][0]


def test_a_killed_performance_is_there_with_the_next_one(tmp_path: Path, choreo: Choreo) -> None:
    child = started("--out", "loop:", "-o", "live", cwd=tmp_path)
    home = tmp_path / "live"
    end = time.monotonic() + 20
    while time.monotonic() < end and not any(p.stat().st_size > 20_000 for p in home.rglob(".journal.bin")):
        time.sleep(0.05)
    child.kill()
    child.communicate()
    assert not (home / "sessions.json").exists(), "not whole: not said to be"
    done = choreo("run-live", "--speed", "max", "--for", 1, "-o", "live")
    assert done.returncode == 0, done.stderr
    entries = json.loads(done.stdout)["entries"]
    assert [e["session_id"][:4] for e in entries] == ["live", "sim"] and entries[0]["n_frames"] > 10
    assert choreo("check", "live").returncode == 0


def test_an_earlier_performance_is_never_written_over(choreo: Choreo, tmp_path: Path) -> None:
    for _ in range(2):
        done = choreo("run-live", "--speed", "20", "--for", 1, "-o", "nights", "-q")
        assert done.returncode == 0, done.stderr
    entries = json.loads(done.stdout)["entries"]
    assert len({e["session_id"] for e in entries}) == 2
    assert choreo("check", "nights").returncode == 0
    choreo("synth", "sessions", "--sessions", 1, "--minutes", 0.1, "--frames-only", "-o", "made")
    before = (tmp_path / "made" / "sessions.json").read_bytes()
    done = choreo("run-live", "--speed", "max", "--for", 1, "-o", "made")
    assert done.returncode == 65 and b"record into a folder of its own" in done.stderr
    assert (tmp_path / "made" / "sessions.json").read_bytes() == before


def test_map_and_model_are_read_again_while_it_plays(tmp_path: Path) -> None:
    shutil.copytree(TOP / "examples" / "checkpoints", tmp_path / "models")
    plan = tmp_path / "map.yaml"
    plan.write_text(control_map.dump(control_map.DEFAULT))
    log = tmp_path / "events.jsonl"
    child = started("--checkpoint", "models", "--map", "map.yaml", "--events", log, "--out", "loop:", cwd=tmp_path)
    try:
        until(log, "start")
        good = plan.read_text()
        plan.write_text(good.replace("throttle_ms: 20", "throttle_ms: 7"))
        refused = until(log, "map", "refused")
        assert "map.yaml:1: throttle_ms" in refused["text"] and "stays" in refused["text"]
        plan.write_text(good.replace("throttle_ms: 20", "throttle_ms: 40"))
        until(log, "map", "reloaded")
        child.send_signal(signal.SIGUSR1)
        until(log, "model", "playing")
        card = tmp_path / "models" / "mapper" / "model.json"
        card.write_bytes(card.read_bytes()[:-20])
        child.send_signal(signal.SIGUSR1)
        until(log, "model", "stays as it was")
    finally:
        child.terminate()
        _, remarks = child.communicate(timeout=20)
    assert child.returncode == 143
    assert remarks.count(b"map.yaml:1: throttle_ms") == 1, "without meters the line is named on stderr"


def test_a_show_file_holds_it_all_and_options_win(choreo: Choreo, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "map.yaml").write_text(control_map.dump(control_map.DEFAULT))
    show = tmp_path / "set" / "show.yaml"
    show.write_text("map: map.yaml\nout: [loop, 'null:']\nplanner: true\ntransport: {bpm: 100}\n")
    done = choreo("run-live", "--show", "set/show.yaml", "--speed", "max", "--for", 1, "--events", "-")
    start = json.loads(done.stdout.splitlines()[1])
    assert done.returncode == 0 and start["ports"] == ["loop:", "null:"], done.stderr
    done = choreo("run-live", "--show", show, "--out", "null:", "--speed", "max", "--for", 1, "--events", "-")
    assert json.loads(done.stdout.splitlines()[1])["ports"] == ["null:"]
    show.write_text("plannner: true\n")
    done = choreo("run-live", "--show", show)
    assert done.returncode == 78 and b"did you mean: planner" in done.stderr


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--speed", "fast"), 2, "--speed fast is no speed"),
        (("--speed", "nan"), 2, "--speed nan is no speed"),
        (("--osc-style", "tydal"), 2, "did you mean: tidal?"),
        (("--leader", "midi"), 2, "--leader midi is not known"),
        (("--engine", "torch"), 2, "--engine torch is not known"),
        (("--out", "smtp:1"), 2, "write midi:NAME"),
        (("--out", "osc:70000"), 2, "is not a port number"),
        (("--out", "loop:", "--out", "loop:"), 2, "is there twice"),
        (("--source", "nowhere.parquet"), 66, "no source nowhere.parquet"),
        (("--checkpoint", "nowhere"), 66, "no mapper in nowhere"),
        (("--map", "nowhere.yaml"), 66, "no control map at nowhere.yaml"),
        (("--scale", "nowhere.json"), 66, "no motion scale"),
        (("--lookahead", "x"), 2, "add --planner"),
        (("--record-targets", "midi:x"), 2, "name a folder: -o DIR"),
        (("--record-targets", "fader"), 2, "write midi:PORT"),
        (("--soundcheck",), 2, "a soundcheck needs a port"),
        (("--solo", "volume", "--out", "loop:"), 2, "no control 'volume'"),
        (("--show", "nowhere.yaml"), 66, "no configuration at nowhere.yaml"),
        (("--gesture", "nowhere"), 66, "no run at nowhere"),
        (("--planner", "--lookahead", "nowhere"), 66, "no run at nowhere"),
        (("--session", "one"), 2, "session one, and no source is named"),
        (("--source", "osc:0", "--listen", ""), 2, "listen is empty"),
    ],
)
def test_what_cannot_be_played_is_said_in_one_line(
    choreo: Choreo, words: tuple[str, ...], code: int, said: str
) -> None:
    done = choreo("run-live", "--speed", "max", "--for", "1", *words)
    assert done.returncode == code, done.stderr
    assert said in done.stderr.decode() and done.stderr.count(b"\n") == 1
    assert done.stdout == b""


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        (b"source: caf\xe9\n", 78, "show.yaml: not UTF-8 text at byte 11"),
        (b'map: "a\\0b"\n', 2, "map 'a\\x00b' is no name"),
        (b"out: [loop, '" + b"a" * 5000 + b"']\n", 2, "is no name: a file, a port or a word in one line"),
        (b"planner: true\nout: 'loop:'\nplanner: false\n", 78, "show.yaml:3: key 'planner' a second time: it stands in line 1"),
        (b"transport:\n  bpm: 90\n  bpm: 120\n", 78, "show.yaml:3: key 'bpm' a second time"),
        (b"source: osc:0\nlisten: ''\n", 2, "listen is empty"),
    ],
    ids=["latin-1", "nul", "long", "twice", "twice-within", "every-address"],
)  # fmt: skip
def test_a_show_that_is_wrong_is_said_in_one_line(
    choreo: Choreo, tmp_path: Path, text: bytes, code: int, said: str
) -> None:
    (tmp_path / "show.yaml").write_bytes(text)
    done = choreo("run-live", "--speed", "max", "--for", "1", "--show", "show.yaml")
    assert done.returncode == code and said in done.stderr.decode(), done.stderr
    assert done.stderr.count(b"\n") == 1 and len(done.stderr) < 300 and done.stdout == b""


def test_an_empty_pipe_is_no_performance(choreo: Choreo) -> None:
    done = choreo("run-live", "--speed", "max", "--source", "-", "-q")
    assert done.returncode == 65 and done.stderr.startswith(b"choreo run-live: nothing arrived on stdin: pipe")


BRISK = """
from choreo_cli.live import soundcheck
soundcheck.RAMP_S, soundcheck.DWELL_S = 0.2, 0.15  # the same way between the same stops, in a fifth of the time
from choreo_cli.__main__ import main
main()
"""


def test_a_soundcheck_walks_every_control_on_every_port(tmp_path: Path) -> None:
    ear, heard = receiver(), b""
    plain = control_map.dump(control_map.DEFAULT).replace("kind: exp", "kind: none")
    (tmp_path / "map.yaml").write_text(re.sub(r"rate_per_s: .*", "rate_per_s: 20", plain))
    ports = ("--out", "loop:", "--out", f"osc:{ear.getsockname()[1]}")
    child = started("--soundcheck", *ports, "--map", "map.yaml", "--json", cwd=tmp_path, program=("-c", BRISK))
    while child.poll() is None:  # read on: a socket keeps a few hundred packets only
        ear.settimeout(0.2)
        with suppress(TimeoutError):
            heard += ear.recv(4096)
    told = json.loads(child.communicate()[0])["deliveries"]
    assert child.returncode == 0 and len(told) == 10 and all(d["ok"] for d in told)
    assert all(f"/choreo/{name}".encode() in heard for name in control_map.CONTROLS)


def test_meters_and_keys_on_a_terminal(tmp_path: Path) -> None:
    import pexpect

    log = tmp_path / "events.jsonl"
    words = ["-m", "choreo_cli", "run-live", "--out", "loop:", "--events", str(log)]
    env = {"PYTHONPATH": str(TOP), "PATH": os.environ["PATH"], "TERM": "xterm", "LC_ALL": "C.UTF-8"}
    shown = pexpect.spawn(
        sys.executable, words, cwd=tmp_path, env=env, timeout=15, dimensions=(30, 120), encoding="utf-8"
    )
    shown.expect("keys f freeze  n neutral  p panic  t tap  q quit")
    assert not shown.before.count("r record"), "nothing to record from: the key is not offered"
    shown.send("f")
    shown.expect("FROZEN")
    shown.send("fp")
    shown.expect("NEUTRAL")
    shown.expect("panic: silence, on the way to neutral")
    shown.send("q")
    shown.expect("port loop:")
    shown.expect(pexpect.EOF)
    shown.close()
    assert shown.exitstatus == 0
    assert until(log, "panic")["text"].startswith("panic: silence")
