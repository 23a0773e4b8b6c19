"""`run-live --log-json`: lines for machines, written beside the loop."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from choreo_cli import progress


def lines_of(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_it_ends_with_the_frames_that_were_played_and_appends(tmp_path: Path, choreo: Any) -> None:
    for _ in range(2):
        done = choreo(
            "run-live", "--speed", "max", "--for", "2", "--out", "loop:", "-q", "--log-json", tmp_path / "log"
        )
        assert (done.returncode, done.stderr) == (0, b"")
    assert [(x["label"], x["state"], x["done"], x["total"]) for x in lines_of(tmp_path / "log")] == [
        ("run-live", "done", 101, 101)
    ] * 2


def test_a_file_that_cannot_be_written_is_said_before_it_begins(tmp_path: Path, choreo: Any) -> None:
    done = choreo("run-live", "--speed", "max", "-o", tmp_path / "d", "--log-json", tmp_path / "no" / "log")
    assert done.returncode == 66 and b"no/log" in done.stderr.replace(b"\\", b"/") and not (tmp_path / "d").exists()


def test_a_full_disk_under_it_costs_no_recording(tmp_path: Path, choreo: Any) -> None:
    done = choreo(
        "run-live",
        "--speed",
        "max",
        "--for",
        "2",
        "--out",
        "loop:",
        "-q",
        "-o",
        tmp_path / "d",
        "--log-json",
        "/dev/full",
    )
    assert done.returncode == 74 and b"No space left" in done.stderr
    assert (tmp_path / "d" / "sessions.json").is_file() and choreo("check", tmp_path / "d").returncode == 0


def test_it_is_written_beside_the_loop_never_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from choreo_cli.live.events import Events
    from choreo_cli.live.performance import Around, Performance
    from choreo_cli.live.show import Show
    from choreo_cli.runtime import deferred_signals
    from choreo_cli.terminal import Stage

    writers: list[str] = []
    real = progress.Progress._write

    def write(self: progress.Progress, state: str, item: str | None) -> None:
        writers.append(threading.current_thread().name)
        real(self, state, item)

    monkeypatch.setattr(progress.Progress, "_write", write)
    monkeypatch.setattr(progress, "HEARTBEAT_S", 0.0)
    events = Events()
    performance = Performance(Show(out="loop:"), Around(speed=4.0), events)
    log = tmp_path / "log"
    with deferred_signals() as signals, progress.Progress("run-live", quiet=True, log=log) as bar:
        with Stage(performance, signals, quiet=True) as stage:
            performance.play(3_000_000, lambda p: stage.attend(p, bar))
        assert writers and set(writers) == {"beside"}
    events.close()
    told = lines_of(log)
    assert told[-1]["state"] == "done" and {x["state"] for x in told[:-1]} == {"running"}
    assert [x["done"] for x in told] == sorted(x["done"] for x in told)
    assert all(x["item"].startswith("missed ") for x in told[:-1])
