"""The log of a performance: bounded, never in the way, readable after a kill."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from choreo_cli.live.events import QUEUE, Events
from formats import event_log
from formats.columns import EVENT_KINDS
from formats.errors import FormatError

TOP = Path(__file__).resolve().parents[2]


def test_a_log_has_its_schema_first_and_its_count_last(tmp_path: Path) -> None:
    heard = []
    log = Events(tmp_path / "a" / "events.jsonl", lambda t, kind, facts: heard.append((t, kind)))
    log.emit("start", 0, sources=["demo"])
    log.emit("modality", 20_000, name="hr", measured=False)
    log.emit("error", 40_000, why=float("nan"), where=Path("x"))
    log.close()
    log.close()
    lines = [json.loads(x) for x in (tmp_path / "a" / "events.jsonl").read_text().splitlines()]
    assert lines[0] == {"schema": "choreo.events/1"} and lines[-1] == {"end": True, "n": 3}
    assert lines[3] == {"t_us": 40_000, "kind": "error", "why": None, "where": "x"}
    assert [e["kind"] for e in event_log.read(tmp_path / "a" / "events.jsonl")] == ["start", "modality", "error"]
    assert heard == [(0, "start"), (20_000, "modality"), (40_000, "error")]
    assert log.counts["start"] == 1 and log.fault is None


def test_an_unknown_kind_is_a_bug_of_ours() -> None:
    log = Events()
    with pytest.raises(ValueError, match="no event is called 'party'"):
        log.emit("party", 0)
    log.close()


def test_the_newest_win_and_what_was_dropped_is_told() -> None:
    class Slow(io.BytesIO):
        """A pipe whose reader sleeps until it is let go."""

        def write(self, data: bytes) -> int:  # type: ignore[override]
            if started.is_set():
                inside.set()
                go.wait(10)
            return super().write(data)

    started, inside, go = threading.Event(), threading.Event(), threading.Event()
    out = Slow()
    log = Events(out)
    started.set()
    log.emit("hold", 0)
    assert inside.wait(10)
    for k in range(QUEUE + 500):
        log.emit("hold", k + 1)
    go.set()
    log.close()
    lines = [json.loads(x) for x in out.getvalue().splitlines()]
    assert log.dropped == 500
    assert lines[-2]["why"] == "500 events were dropped" and lines[-3]["t_us"] == QUEUE + 500
    assert lines[-1] == {"end": True, "n": len(lines) - 2} and not out.closed
    assert len(log.recent) == 256


def test_many_threads_lose_nothing(tmp_path: Path) -> None:
    log = Events(tmp_path / "events.jsonl")

    def work(k: int) -> None:
        for i in range(200):
            log.emit("port", i, port=f"p{k}")

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    log.close()
    assert len(event_log.read(tmp_path / "events.jsonl")) == 800 and log.dropped == 0


def test_a_full_disk_costs_lines_and_nothing_else() -> None:
    log = Events(Path("/dev/full"))
    log.emit("start", 0)
    log.emit("stop", 1)
    log.close()
    assert log.lost == 2 and log.fault == "/dev/full: No space left on device"
    assert log.counts["stop"] == 1


def test_a_folder_that_cannot_be_made_is_a_fault_not_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    log = Events(tmp_path / "file" / "events.jsonl")
    log.emit("start", 0)
    log.close()
    assert log.fault is not None and "file" in log.fault


def test_a_log_that_was_cut_is_read_up_to_there(tmp_path: Path) -> None:
    code = (
        "import os, sys, time\nfrom pathlib import Path\nfrom choreo_cli.live.events import Events\n"
        f"log = Events(Path({str(tmp_path / 'events.jsonl')!r}))\n"
        "log.emit('start', 0)\nlog.emit('hold', 20000)\n"
        "while log.written < 2: time.sleep(0.01)\n"
        "os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=TOP, timeout=60, check=False)
    assert done.returncode == -9
    data = (tmp_path / "events.jsonl").read_bytes()
    with pytest.raises(FormatError, match="cut"):
        event_log.decode(data)
    assert [e["kind"] for e in event_log.events_of(data + b'{"t_us":1,"ki')] == ["start", "hold"]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b'{"schema":"choreo.events/2"}\n{"end":true,"n":0}\n', "not choreo.events/1"),
        (event_log.FIRST + b'{"t_us":1,"kind":"party"}\n' + event_log.last_line(1), "known kind"),
        (event_log.FIRST + b'{"t_us":1.5,"kind":"hold"}\n' + event_log.last_line(1), "known kind"),
        (event_log.FIRST + b'{"t_us":1,"kind":"hold"}\n' + event_log.last_line(2), "count"),
        (event_log.FIRST + b"[1]\n" + event_log.last_line(1), "not an event"),
        (event_log.FIRST + b'{"t_us":%d,"kind":"hold"}\n' % 2**63 + event_log.last_line(1), "64 bits"),
    ],
)
def test_what_is_not_a_log_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(FormatError, match=why):
        event_log.decode(data)


def test_every_kind_can_be_written_and_read() -> None:
    lines = [event_log.event_line(k, kind, {"x": [1, {"y": (2, None)}]}) for k, kind in enumerate(EVENT_KINDS)]
    data = b"".join([event_log.FIRST, *lines, event_log.last_line(len(lines))])
    assert [e["kind"] for e in event_log.decode(data)] == list(EVENT_KINDS)
    assert event_log.decode(data)[0]["x"] == [1, {"y": [2, None]}]
