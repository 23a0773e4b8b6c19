"""Children over slots: shared threads, a second start after a death, an end to it, and a signal that reaches all."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from choreo_cli.errors import UsageError
from choreo_cli.trajectory import parallel
from choreo_cli.trajectory.parallel import FULL, Crew, Task, child_env, slots_of, thread_budget, told

RECORD = "import sys, os; open(sys.argv[1], 'a').write('|'.join(sys.argv[2:]) + chr(10)); "


def task(folder: Path, name: str, code: str, further: Callable[[], int] = lambda: 0) -> Task:
    """A child that notes that it was started, and then does what `code` says; `n` is how often it was started."""
    script = RECORD + "n = open(sys.argv[1]).read().count(chr(10)); " + code
    argv = (sys.executable, "-I", "-S", "-c", script, str(folder / f"{name}.starts"))
    return Task(name, argv, folder / "logs" / f"{name}.log", further)


def starts(folder: Path, name: str) -> list[str]:
    return (folder / f"{name}.starts").read_text().splitlines()


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "BACKOFF_S", (0.0,))
    monkeypatch.setattr(parallel, "POLL_S", 0.02)


def test_each_slot_holds_one_child_and_its_device(tmp_path: Path) -> None:
    assert slots_of(["cuda:0", "cuda:1"], 2) == ["cuda:0", "cuda:1", "cuda:0", "cuda:1"]
    slots = slots_of(["cpu"], 2)
    tasks = [task(tmp_path, f"t{k}", "import time; time.sleep(0.1)") for k in range(5)]
    at_once: list[int] = []
    crew = Crew(tasks, slots, {}, changed=lambda _: at_once.append(sum(t.state == "running" for t in tasks)))
    crew.run(lambda: 0)
    assert [t.state for t in tasks] == ["done"] * 5
    assert max(at_once) == 2
    assert [starts(tmp_path, f"t{k}") for k in range(5)] == [["--device|cpu"]] * 5
    assert all(t.cpu_s > 0 and t.starts == 1 and t.code == 0 for t in tasks)


@pytest.mark.parametrize("devices", [["cuda:0", "cuda:0"], []])
def test_devices_are_named_once(devices: list[str]) -> None:
    with pytest.raises(UsageError, match="different devices"):
        slots_of(devices, 1)


def test_what_dies_begins_again_and_what_is_wrong_does_not(tmp_path: Path) -> None:
    notes: list[str] = []
    tasks = [
        task(tmp_path, "killed", "os.kill(os.getpid(), 9) if n < 3 else None"),
        task(tmp_path, "crashed", "sys.exit(70 if n < 2 else 0)"),
        task(tmp_path, "stopped", "sys.exit(143 if n < 2 else 0)"),
        task(tmp_path, "wrong", "sys.stderr.write('choreo train video: no such set'); sys.exit(66)"),
    ]
    Crew(tasks, ["cpu", "cpu"], {}, notes.append).run(lambda: 0)
    assert [(t.state, t.starts) for t in tasks] == [("done", 3), ("done", 2), ("done", 2), ("failed", 1)]
    assert tasks[3].reason == "exit 66: choreo train video: no such set"
    assert notes.count("killed died (SIGKILL); it goes on from its checkpoint") == 2
    assert "wrong failed: exit 66: choreo train video: no such set" in notes


def test_the_number_of_starts_without_progress_is_bounded(tmp_path: Path) -> None:
    dead = task(tmp_path, "dead", "os.kill(os.getpid(), 9)")
    Crew([dead], ["cpu"], {}).run(lambda: 0)
    assert (dead.state, dead.starts, dead.reason) == ("failed", parallel.MOST_STARTS, "SIGKILL")
    # One that gets further each time is started for as long as it does.
    slow = task(tmp_path, "slow", "os.kill(os.getpid(), 9) if n < 9 else None", lambda: len(starts(tmp_path, "slow")))
    Crew([slow], ["cpu"], {}).run(lambda: 0)
    assert (slow.state, slow.starts) == ("done", 9)
    # One that dies at the same place does not, however far that is.
    same = task(tmp_path, "same", "os.kill(os.getpid(), 9)", lambda: 500)
    Crew([same], ["cpu"], {}).run(lambda: 0)
    assert (same.state, same.starts) == ("failed", 1 + parallel.MOST_STARTS)


def test_a_full_disk_ends_a_branch_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notes: list[str] = []
    write = "open('/dev/full', 'w').write('x' * 9999)"
    tell = "\ntry: {}\nexcept OSError as e: sys.stderr.write(f'choreo train video: {{e.strerror}}: free'); sys.exit(74)"
    tasks = [task(tmp_path, "quota", f"sys.stderr.write({os.strerror(errno.EDQUOT)!r}); sys.exit(74)")]
    if os.path.exists("/dev/full"):
        tasks.append(task(tmp_path, "full", tell.format(write)))
    tasks.append(task(tmp_path, "slip", f"sys.stderr.write({os.strerror(errno.EIO)!r}); sys.exit(74 if n < 3 else 0)"))
    Crew(tasks, ["cpu"], {}, notes.append).run(lambda: 0)
    assert [(t.state, t.starts) for t in tasks] == [*[("failed", 1)] * (len(tasks) - 1), ("done", 3)]
    assert f"quota failed: exit 74: {os.strerror(errno.EDQUOT)}" in notes
    assert [t.reason for t in tasks if t.name == "full"] in ([], [f"exit 74: choreo train video: {FULL[0]}: free"])
    # Where its log lies on the same disk it may not be able to say so: then the room that is left tells.
    monkeypatch.setattr(parallel, "NO_ROOM", 1 << 62)
    mute = task(tmp_path, "mute", "sys.exit(74)")
    Crew([mute], ["cpu"], {}).run(lambda: 0)
    assert (mute.state, mute.starts) == ("failed", 1)
    assert mute.reason == f"exit 74: {FULL[0]}: free some space and run it again"


WAITS = (
    "import signal, time; signal.signal(signal.{}, lambda s, f: (open(sys.argv[1] + '.end', 'w').write(str(s)),"
    " sys.exit(128 + s))); open(sys.argv[1] + '.up', 'w').close(); time.sleep(60)"
)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_reaches_all_children_once_and_waits_for_them(tmp_path: Path, number: signal.Signals) -> None:
    tasks = [task(tmp_path, name, WAITS.format(number.name)) for name in "abc"]
    up = [tmp_path / f"{name}.starts.up" for name in "ab"]
    deadline = time.monotonic() + 30
    Crew(tasks, ["cpu", "cpu"], {}).run(
        lambda: int(number) if all(p.exists() for p in up) or time.monotonic() > deadline else 0
    )
    assert [t.state for t in tasks] == ["stopped", "stopped", "waiting"]
    assert [t.code for t in tasks[:2]] == [128 + number] * 2
    assert [(tmp_path / f"{name}.starts.end").read_text() for name in "ab"] == [str(int(number))] * 2


def test_no_child_is_left_behind_whatever_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "STOP_S", 0.3)
    deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); open(sys.argv[1] + '.up', 'w').write(str(os.getpid())); time.sleep(60)"
    up = tmp_path / "deaf.starts.up"

    def fail() -> None:
        if up.exists() and up.read_text():
            raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        Crew([task(tmp_path, "deaf", deaf)], ["cpu"], {}).run(lambda: 0, fail)
    with pytest.raises(ProcessLookupError):
        os.kill(int(up.read_text()), 0)


def test_children_see_a_clean_environment_and_share_the_cores(tmp_path: Path) -> None:
    assert [thread_budget(16, n) for n in (1, 3, 16, 99, 0)] == [16, 5, 1, 1, 16]
    given = {"PATH": "/bin", "HOME": "/h", "CHOREO_LLM_KEY": "secret", "PYTHONSTARTUP": "x", "LD_PRELOAD": "y"}
    env = child_env({**given, "OMP_NUM_THREADS": "64", "RANK": "1", "WORLD_SIZE": "4"}, Path("/code"), 3)
    assert env["OMP_NUM_THREADS"] == env["MKL_NUM_THREADS"] == "3"
    assert env["OMP_WAIT_POLICY"] == "passive"
    assert {"PATH", "HOME"} <= set(env)
    assert not {"CHOREO_LLM_KEY", "PYTHONSTARTUP", "LD_PRELOAD", "RANK", "WORLD_SIZE"} & set(env)
    show = task(tmp_path, "show", "import json; sys.stderr.write(json.dumps(dict(os.environ)))")
    Crew([show], ["cpu"], env).run(lambda: 0)
    assert set(json.loads(show.log.read_text())) - {"LC_CTYPE", "__CF_USER_TEXT_ENCODING"} == set(env)


def test_why_a_child_ended(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert told(-9, log) == "SIGKILL"
    assert told(74, log) == "exit 74"
    log.write_bytes(b"x" * 9000 + b"\nfirst\n\xff last \n\n")
    assert told(74, log) == "exit 74: \ufffd last"
