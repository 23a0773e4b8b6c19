"""`choreo run-live` and what is around it: OSC that is learned and mapped, things that stay away, who may connect."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from choreo_cli.live import realtime as rt
from choreo_cli.live.calibrate_latency import Offset
from choreo_cli.live.osc import Decoder, encode
from choreo_cli.live.osc_pose import BODIES
from formats.columns import FRAMES, LEDGER
from formats.sealed import dumps
from formats.tables import read_table

TOP = Path(__file__).resolve().parents[2]
Choreo = Callable[..., subprocess.CompletedProcess[bytes]]


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def sending(port: int, *packets: bytes, hz: float = 100) -> Iterator[None]:
    """Real packets to a port of this machine, again and again."""
    ended = threading.Event()

    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
            while not ended.wait(1 / hz):
                for packet in packets:
                    out.sendto(packet, ("127.0.0.1", port))

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def started(*words: object, cwd: Path) -> subprocess.Popen[bytes]:
    env = {**os.environ, "PYTHONPATH": str(TOP), "LC_ALL": "C.UTF-8"}
    return subprocess.Popen(
        [sys.executable, "-m", "choreo_cli", "run-live", *map(str, words)], cwd=cwd, env=env, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def lines_of(data: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in data.splitlines()]


RESTING = encode("/phone/acc", [0.05, 0.1, 9.79])
MOVING = encode("/wrist/accel", [3.0, 0.0, 0.5])
HEART = encode("/band/hr", [63.0])
GOOD = (RESTING, MOVING, HEART, encode("/knob", [0.5]), b"no osc!!")


def test_what_arrives_is_learned_and_the_line_it_proposes_plays(choreo: Choreo) -> None:
    port = free_port()
    with sending(port, *GOOD):
        done = choreo("run-live", "--source", f"osc:{port}", "--learn", "1.5")
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        by_name = {a["argument"]: a for a in found["arguments"]}
        assert by_name["/phone/acc:2"]["feature"] == "accel.z@m/s2" and by_name["/phone/acc:2"]["unit"] == "m/s2"
        assert "gravity" in by_name["/phone/acc:2"]["why"] and 60 < by_name["/phone/acc:2"]["hz"] < 110
        assert (by_name["/phone/acc:2"]["low"], by_name["/phone/acc:2"]["type"]) == (pytest.approx(9.79), "f")
        assert by_name["/wrist/accel:0"]["feature"] == "" and "gravity in no unit" in by_name["/wrist/accel:0"]["why"]
        assert by_name["/band/hr:0"]["feature"] == "hr" and by_name["/band/hr:0"]["unit"] == "beats/min"
        assert by_name["/knob:0"]["feature"] == "" and "--map ADDR:IDX=FEATURE" in by_name["/knob:0"]["why"]
        assert sum(found["refused"].values()) > 20
        assert f"osc:{port}: listening on 127.0.0.1:{port}" in done.stderr.decode()
        words = found["line"].split()
        assert words[:4] == ["choreo", "run-live", "--source", f"osc:{port}"] and words.count("--map") == 4
        played = choreo(*words[1:], "--for", "2", "-q", "-o", "kept")
    assert played.returncode == 0, played.stderr
    entry = json.loads(played.stdout)["entries"][0]
    frames = read_table(played_folder(choreo, entry), FRAMES).to_pydict()
    assert frames["hr"][-1] == 63.0 and frames["m_hr"][-1] is True


def played_folder(choreo: Choreo, entry: dict[str, Any]) -> Path:
    return Path(choreo.__closure__[0].cell_contents) / "kept" / str(entry["frames"])  # type: ignore[attr-defined,index]


def test_learning_without_seconds_ends_by_ctrl_c_with_what_was_heard(tmp_path: Path) -> None:
    port = free_port()
    with sending(port, HEART):
        child = started("--learn", "--source", f"osc:{port}", "--json", cwd=tmp_path)
        assert child.stderr is not None and b"listening on" in child.stderr.readline()
        time.sleep(0.5)
        child.send_signal(signal.SIGINT)
        out, _ = child.communicate(timeout=20)
    assert child.returncode == 130 and json.loads(out)["proposed"] == ["--map /band/hr:0=hr"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--learn", "1"), 2, "--learn listens at one OSC source"),
        (("--learn", "1", "--source", "lsl:x"), 2, "source lsl:x: not OSC"),
        (("--learn", "nan", "--source", "osc:1"), 2, "nan"),
        (("--learn", "0", "--source", "osc:1"), 2, "--learn"),
        (("--source", "osc:0", "--map", "/acc:0=accel.x"), 2, "say the unit: accel.x@g or accel.x@m/s2"),
        (("--source", "osc:0", "--map", "/acc:0=accel.x@g"), 2, "x, y and z of one message"),
        (("--source", "osc:0", "--map", "/a=hr"), 2, "not ADDR:IDX=FEATURE"),
        (("--source", "osc:0", "--map", "/a:0=heart"), 2, "no feature heart"),
        (("--map", "/a:0=hr"), 2, "no source is OSC"),
        (("--map", "a.yaml", "--map", "b.yaml"), 2, "the control map is a.yaml"),
        (("--source", "osc:0", "--body", "coco7"), 2, "did you mean coco17?"),
        (("--out", "midi:nowhere"), 69, "nowhere"),
        (("-q", "--out", "midi:nowhere", "--wait", "0.2"), 69, "nowhere"),
    ],
)
def test_what_is_asked_wrongly_is_said_in_one_line(choreo: Choreo, words: Sequence[str], code: int, said: str) -> None:
    done = choreo("run-live", "--for", "1", *words)
    assert done.returncode == code, done.stderr
    assert said in done.stderr.decode() and done.stderr.count(b"\n") == 1 and done.stdout == b""


def test_silence_is_learned_too(choreo: Choreo) -> None:
    done = choreo("run-live", "--source", "osc:0", "--learn", "0.3", "--table", "-q")
    assert done.returncode == 1 and b"nothing arrived in 0.3 s" in done.stdout and done.stderr == b""


def test_the_list_has_the_sensors_that_are_heard(choreo: Choreo) -> None:
    port = free_port()
    with sending(port, HEART, encode("/gyrosc/grav", [0.0, 0.0, -1.0])):
        done = choreo("run-live", "--list", "--source", f"osc:{port}", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {f"osc:{port}", "osc:9000"} <= set(found["sensors"]) | {r.partition(": ")[0] for r in found["remarks"]}
    heard = found["sensors"][f"osc:{port}"]
    assert [line.split(" Hz")[0].rpartition(" ")[0] for line in heard] == [
        f"osc:{port}:gyrosc  /band/hr f", f"osc:{port}:gyrosc  /gyrosc/grav fff",
    ]  # fmt: skip
    assert set(found) >= {"midi", "audio", "sensors", "remarks"}


@pytest.mark.slow
@pytest.mark.alone
def test_a_pose_over_osc_moves_the_inputs_by_a_show(tmp_path: Path) -> None:
    port, body = free_port(), BODIES["coco17"]
    (tmp_path / "show.yaml").write_text(f"source: osc:{port}:wek\nbody: coco17\nout: loop\n")
    # A fresh install compiles what reads poses meanwhile, and a busy machine is slow at it: 40 s for 1 s of movement (20
    # were too few once, right after a checkout).
    child = started("--show", "show.yaml", "--for", "40", "-o", "kept", "-q", cwd=tmp_path)
    rng, begun = np.random.default_rng(0), time.monotonic()
    rest = rng.uniform(100, 400, (17, 2))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        while child.poll() is None:
            t = time.monotonic() - begun
            pose = rest + 30 * np.sin(2 * np.pi * 1.5 * t + np.arange(34).reshape(17, 2))
            out.sendto(encode("/wek/inputs", pose.ravel().tolist()), ("127.0.0.1", port))
            time.sleep(0.02)
    document, errors = child.communicate()
    assert child.returncode == 0, errors
    entry = json.loads(document)["entries"][0]
    frames = read_table(tmp_path / "kept" / entry["frames"], FRAMES).to_pydict()
    assert sum(frames["m_mot"]) > 50 and len(body.joints) == 17
    assert any(x is not None for x in frames["hip_sway"]), "the pelvis is the midpoint of the hips"


def test_a_required_sensor_that_stays_away_ends_it_and_keeps_what_was_played(tmp_path: Path) -> None:
    port = free_port()
    words = ("--source", f"osc:{port}", "--require", "--wait", "1", "--out", "loop:", "-o", "kept", "--events", "log")
    with sending(port, HEART):
        child = started(*words, cwd=tmp_path)
        assert child.stderr is not None and b"listening" in child.stderr.readline()
        time.sleep(1.5)
        assert child.poll() is None
    document, errors = child.communicate(timeout=20)
    assert child.returncode == 69, errors
    last = errors.decode().splitlines()[-1]
    assert last.startswith(f"choreo run-live: osc:{port} is required and was away for 1 s") and "--require" in last
    assert json.loads(document)["entries"][0]["n_frames"] > 50
    stop = next(e for e in lines_of((tmp_path / "log").read_bytes()) if e.get("kind") == "stop")
    assert stop["reason"] == "lost" and stop["exit"] == 69


@pytest.mark.slow
@pytest.mark.alone
def test_a_required_port_may_come_back_in_time_and_without_require_nothing_ends(tmp_path: Path) -> None:
    ear = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    ear.bind(("127.0.0.1", 0))
    number = ear.getsockname()[1]
    words = ("--out", f"osc:{number}", "--osc-style", "vector", "-q", "--events", "-")
    child = started(*words, "--require", "--wait", "3", "--for", "30", cwd=tmp_path)
    calm = started(*words, "--for", "5", cwd=tmp_path)
    assert ear.recv(1024)
    ear.close()  # nobody listens: lost
    assert child.stdout is not None
    line = next(line for line in child.stdout if b'"lost"' in line)
    assert f"osc:127.0.0.1:{number}".encode() in line
    back = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    back.bind(("127.0.0.1", number))
    assert b'"recovered"' in next(line for line in child.stdout if b'"recovered"' in line)
    back.close()
    rest, errors = child.communicate(timeout=30)
    assert child.returncode == 69 and b"is required and was away for 3 s" in errors and b'"exit": 69' in rest
    assert calm.wait(20) == 0
    calm.communicate()


def test_a_wait_for_a_port_can_be_interrupted(tmp_path: Path) -> None:
    child = started("--out", "midi:nowhere", "--wait", "60", cwd=tmp_path)
    assert child.stderr is not None and b"waiting up to 60 s: MIDI port" in child.stderr.readline()
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=10)
    assert child.returncode == 130


def test_a_real_time_priority_is_asked_for_and_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(rt.os, "sched_setscheduler", lambda _, policy, param: asked.append((policy, param)))
    with rt.realtime() as refused:
        assert refused == "" and asked[0][0] == os.SCHED_FIFO | os.SCHED_RESET_ON_FORK
        assert asked[0][1].sched_priority == 20  # type: ignore[attr-defined]
    assert asked[1][0] & ~os.SCHED_RESET_ON_FORK == os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK


def test_a_refused_priority_is_one_line_and_no_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    code = (
        "import os, sys\n"
        "def refuse(*_): raise PermissionError(1, 'Operation not permitted')\n"
        "os.sched_setscheduler = refuse\n"
        "from choreo_cli.__main__ import main\n"
        "sys.argv = ['choreo', 'run-live', '--realtime', '--for', '0.5', '--out', 'loop:', '--events', 'log']\n"
        "main()"
    )
    env = {**os.environ, "PYTHONPATH": str(TOP)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=tmp_path, env=env, timeout=60)
    told = [line for line in done.stderr.decode().splitlines() if "real-time" in line]
    assert done.returncode == 0 and len(told) == 1, done.stderr
    assert told[0].startswith("choreo run-live: no real-time priority: operation not permitted; ")
    assert any(e.get("where") == "realtime" for e in lines_of((tmp_path / "log").read_bytes()))


@pytest.mark.slow
@pytest.mark.alone
def test_the_address_is_said_again_after_five_seconds_of_silence(tmp_path: Path) -> None:
    port = free_port()
    child = started("--source", f"osc:{port}", "--for", "5.6", "--out", "loop:", cwd=tmp_path)
    told = [line for line in child.communicate(timeout=40)[1].decode().splitlines() if "listening on" in line]
    assert child.returncode == 0 and len(told) == 2 and told[0] == told[1]


def test_a_show_fixes_the_token_and_lets_another_page_in(tmp_path: Path) -> None:
    websockets = pytest.importorskip("websockets")
    from websockets.sync.client import connect

    token, port = "a-token-that-nobody-guesses", free_port()
    (tmp_path / "show.yaml").write_text(
        f"out: ws:{port}\nwebsocket: {{token: {token}, origins: ['https://my.page']}}\n"
    )
    child = started("--show", "show.yaml", "-o", "kept", "--events", "log", cwd=tmp_path)
    try:
        assert child.stderr is not None
        said = next(line for line in child.stderr if b"listens at" in line).decode()
        url = f"ws://127.0.0.1:{port}/{token}"
        assert said.strip().endswith(url)
        for address, origin in ((url, "https://evil.example"), (url, "null"), (url + "x", "https://my.page")):
            with pytest.raises(websockets.exceptions.InvalidStatus):
                connect(address, origin=origin, compression=None)  # type: ignore[arg-type]
        with connect(url, origin="https://my.page", compression=None) as page:  # type: ignore[arg-type]
            for _ in range(60):
                frame = json.loads(page.recv(timeout=5))
                page.send(json.dumps({"ack": frame["seq"]}))
            for nonsense in ("{", '{"ack": -1}', '{"ack": 1e99}', "[" * 1000, '{"ack": 99999999}'):
                page.send(nonsense)
            json.loads(page.recv(timeout=5))
    finally:
        child.terminate()
        child.communicate(timeout=20)
    assert child.returncode == 143
    home = tmp_path / "kept"
    entry = json.loads((home / "sessions.json").read_bytes())["entries"][0]
    ledger = read_table(home / entry["path"] / "ledger.parquet", LEDGER).to_pydict()
    acked = [(s, a) for s, a in zip(ledger["t_sent_ns"], ledger["t_acked_ns"], strict=True) if a is not None]
    # The frame that a page gets as it enters may have gone to nobody when it was made.
    # "Sent" is stamped once the call is back: a page on this machine may have answered a moment before.
    assert len(acked) >= 55 and all(-5e6 < a - s < 2e9 for s, a in acked if s is not None)
    assert sum(s is None for s, _ in acked) <= 1
    everything = b"".join(p.read_bytes() for p in home.rglob("*") if p.is_file()) + (tmp_path / "log").read_bytes()
    assert token.encode() not in everything, "the token is for the screen only"


@pytest.mark.parametrize("web", ["{token: short}", "{origins: [null]}", "{origins: ['*']}", "{tokens: x}"])
def test_a_show_cannot_open_the_door_to_everybody(choreo: Choreo, tmp_path: Path, web: str) -> None:
    (tmp_path / "show.yaml").write_text(f"out: 'ws:0'\nwebsocket: {web}\n")
    done = choreo("run-live", "--show", "show.yaml", "--for", "1")
    assert done.returncode in (2, 78) and done.stderr.count(b"\n") == 1, done.stderr


def test_osc_receivers_confirm_by_number_and_the_report_keeps_receivers_apart(choreo: Choreo, tmp_path: Path) -> None:
    (tmp_path / "offset.json").write_bytes(
        dumps(Offset(60, 12.5, 15.0, 11.0, 18.0, 256, 48_000, "osc:127.0.0.1:57120").to_dict())
    )
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ear:
        ear.bind(("127.0.0.1", 0))
        ear.settimeout(10)
        out = f"osc:127.0.0.1:{ear.getsockname()[1]}"
        words = ("--out", out, "--out", "midi:virtual:x")[:2]
        child = started(*words, "--osc-style", "vector", "--for", "2", "--offset", "offset.json", "-o", "kept",
                        cwd=tmp_path)  # fmt: skip
        decoder, seen = Decoder(), 0
        while child.poll() is None:
            ear.settimeout(0.3)
            try:
                packet, sender = ear.recvfrom(2048)
            except TimeoutError:
                continue
            seq = decoder.decode(packet)[0].args[0]
            ear.sendto(encode("/choreo/ack", [seq]), sender)
            ear.sendto(encode("/choreo/ack", ["x"]), sender)
            seen += 1
    errors = child.communicate(timeout=20)[1]
    assert child.returncode == 0, errors
    assert b"the offset changes nothing" in errors
    done = choreo("run-live", "--speed", "max", "--for", "1", "--out", "loop:", "-o", "kept", "-q")
    assert done.returncode == 0 and choreo("check", "kept").returncode == 0, done.stderr
    entries = json.loads((tmp_path / "kept" / "metrics.json").read_text())["entries"]
    sessions = sorted({e["params"]["session"] for e in entries})
    assert len(sessions) == 2 and sessions[1] == "sim", "each performance keeps its figures"
    live = {e["name"]: e for e in entries if e["params"]["session"] == sessions[0]}
    assert live["live.sent_to_acked.p50"]["n"] > 0.7 * seen > 50
    assert live["live.receiver.p50"]["value"] == 12.5 and live["live.arrival_to_sent.p99"]["params"]["receiver"] == out

    done = choreo("report", "kept", "-o", "told")
    assert done.returncode in (0, 1, 3), done.stderr
    ledger, virtual = json.loads((tmp_path / "told" / "report.json").read_text())["latency"]
    assert (ledger["receiver"], ledger["period_ms"], ledger["missed"]) == (out, 20.0, live["live.missed"]["value"])
    claim = next(s for s in ledger["stages"] if s["name"] == "live.arrival_to_sent")
    assert all(claim[p] is not None for p in ("p50", "p95", "p99", "max")) and claim["n"] > 50
    assert [r["name"] for r in ledger["receivers"]] == ["live.sent_to_acked", "live.receiver"]
    assert virtual["virtual"] is True
    for name in ("report.md", "report.html"):
        text = (tmp_path / "told" / name).read_text()
        assert "Latency ledger" in text and "calibrate latency" in text and "apart" in text, name


@pytest.mark.slow
@pytest.mark.alone
def test_the_report_says_that_strudel_looks_ahead(choreo: Choreo, tmp_path: Path) -> None:
    choreo("run-live", "--speed", "20", "--for", "1", "--out", "ws:0", "-o", "kept", "-q")
    assert choreo("report", "kept", "-o", "told").returncode in (0, 1, 3)
    assert "look ahead 200-300 ms by design" in (tmp_path / "told" / "report.md").read_text()
    done = choreo("run-live", "--speed", "20", "--for", "1", "--out", "ws:0", "-o", "kept", "--table")
    assert b"Strudel" in done.stdout and b"200-300 ms" in done.stdout


def test_a_damaged_metrics_file_is_refused_before_the_show(choreo: Choreo, tmp_path: Path) -> None:
    choreo("run-live", "--speed", "max", "--for", "0.5", "-o", "kept", "-q")
    file = tmp_path / "kept" / "metrics.json"
    file.write_bytes(file.read_bytes()[:-30])
    done = choreo("run-live", "--speed", "max", "--for", "0.5", "-o", "kept", "-q")
    assert done.returncode == 65 and b"metrics.json" in done.stderr and done.stderr.count(b"\n") == 1
