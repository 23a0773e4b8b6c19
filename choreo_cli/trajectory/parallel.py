"""Child processes over the slots of devices: threads shared out, what dies begins again, a signal stops all."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from choreo_cli.errors import ExitCode, UsageError

POLL_S = 0.2
STOP_S = 30.0  # for a checkpoint after a signal; then SIGKILL, and the checkpoint before counts
MOST_STARTS = 4  # without getting further than before
BACKOFF_S = (1.0, 2.0, 4.0)
# What is wrong with the work itself stays wrong, and a full disk full; a death, a crash or a failed write may not come
# again.
AGAIN = (ExitCode.BUG, ExitCode.IO, ExitCode.HUP, ExitCode.INT, ExitCode.TERM)
FULL = tuple(os.strerror(n) for n in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG))
NO_ROOM = 1 << 20  # bytes free, below which a child may not even have been able to say why it ended
KEPT_ENV = (
    "PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "LANG", "LC_ALL", "XDG_CACHE_HOME", "NUMBA_CACHE_DIR", "HF_HOME",
    "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "CUDA_HOME",
)  # fmt: skip
THREADS = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "VECLIB_MAXIMUM_THREADS",
    "NUMBA_NUM_THREADS",
)  # fmt: skip


@dataclass(slots=True)
class Task:
    """One piece of work for a child process, and what became of it.

    Args:
        name: For people.
        argv: Absolute program and arguments; `--device NAME` of the slot follows.
        log: Receives its stderr.
        further: How far it has come, any number that grows.
        state: `waiting`, `running`, `done`, `failed` or `stopped`.
        starts: How often it was started. idle: Starts in a row that got no further. best: The furthest it was.
        code: Last exit code, negative for a signal.
        cpu_s: CPU seconds of its processes.
        reason: Why it failed.
    """

    name: str
    argv: tuple[str, ...]
    log: Path
    further: Callable[[], int] = lambda: 0
    state: str = "waiting"
    starts: int = 0
    idle: int = 0
    best: int = 0
    code: int | None = None
    cpu_s: float = 0.0
    reason: str = ""
    not_before: float = 0.0


def slots_of(devices: Sequence[str], per_device: int) -> list[str]:
    """A slot for every child that may run at one time: each device once, then each a second time...

    Raises:
        UsageError: no device, or one named twice.
    """
    if not devices or len(set(devices)) != len(devices):
        raise UsageError(f"--device {','.join(devices)} is not a list of different devices", hint="cuda:0,cuda:1")
    return [device for _ in range(per_device) for device in devices]


def thread_budget(cores: int, children: int) -> int:
    """Threads for each of some children that run at one time."""
    return max(1, cores // max(1, children))


def child_env(env: Mapping[str, str], code: Path, threads: int) -> dict[str, str]:
    """What a child sees: a few names of `env`, this very code, its threads, and threads that sleep when they wait."""
    kept = {k: env[k] for k in KEPT_ENV if k in env}
    return {**kept, **dict.fromkeys(THREADS, str(threads)), "OMP_WAIT_POLICY": "passive", "PYTHONPATH": str(code)}


@dataclass(slots=True)
class Crew:
    """Runs tasks, at most one in each slot, in their order.

    Args:
        tasks: What is to be done.
        slots: Devices, see `slots_of`.
        env: Environment of the children.
        note: Receives a remark for the person.
        changed: Called with a task whose state changed.
    """

    tasks: list[Task]
    slots: list[str]
    env: dict[str, str]
    note: Callable[[str], None] = lambda _: None
    changed: Callable[[Task], None] = lambda _: None
    _at_work: dict[int, tuple[Task, subprocess.Popen[bytes]]] = field(default_factory=dict)

    def run(self, stop: Callable[[], int], tick: Callable[[], None] = lambda: None) -> None:
        """Until every task has ended, or `stop` names the signal that was asked for: the children get it too.

        Whatever happens no child is left behind.
        """
        try:
            while not stop() and any(t.state in ("waiting", "running") for t in self.tasks):
                self._reap()
                self._fill()
                tick()
                time.sleep(POLL_S)
        finally:
            self.end(stop() or signal.SIGTERM)

    def end(self, signum: int) -> None:
        """Send a signal to all children and wait until they have written their checkpoints."""
        for _, child in self._at_work.values():
            if child.poll() is None:
                child.send_signal(signum)
        deadline = time.monotonic() + STOP_S
        for task, child in self._at_work.values():
            before = _children_s()
            try:
                child.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
            task.cpu_s += _children_s() - before
            task.code, task.state = child.returncode, "done" if child.returncode == 0 else "stopped"
            self.changed(task)
        self._at_work.clear()

    def _fill(self) -> None:
        now = time.monotonic()
        for slot, device in enumerate(self.slots):
            task = next((t for t in self.tasks if t.state == "waiting" and t.not_before <= now), None)
            if slot in self._at_work or task is None:
                continue
            task.log.parent.mkdir(parents=True, exist_ok=True)
            with open(task.log, "ab") as log:
                # A session of its own: Ctrl-C reaches it once, through us, and not twice.
                child = subprocess.Popen(
                    [*task.argv, "--device", device], env=self.env, stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL, stderr=log, start_new_session=True,
                )  # fmt: skip
            self._at_work[slot] = task, child
            task.state = "running"
            task.starts += 1
            self.changed(task)

    def _reap(self) -> None:
        for slot, (task, child) in list(self._at_work.items()):
            before = _children_s()
            if child.poll() is None:
                continue
            task.cpu_s += _children_s() - before  # of this child alone: none other was waited for meanwhile
            del self._at_work[slot]
            self._judge(task, child.returncode)
            self.changed(task)

    def _judge(self, task: Task, code: int) -> None:
        """What follows from an exit code: done, again, or failed."""
        task.code = code
        if code == 0:
            task.state = "done"
            return
        said = told(code, task.log)
        far = task.further()
        task.idle = 0 if far > task.best else task.idle + 1
        task.best = max(task.best, far)
        full = code == ExitCode.IO and disk_full(said, task.log.parent)
        if (code < 0 or code in AGAIN) and not full and task.idle < MOST_STARTS:
            pause = BACKOFF_S[min(task.idle, len(BACKOFF_S) - 1)]
            task.state, task.not_before = "waiting", time.monotonic() + pause
            self.note(f"{task.name} died ({said}); it goes on from its checkpoint")
            return
        if full and not any(words in said for words in FULL):
            said = f"{said}: {FULL[0]}: free some space and run it again"
        task.state, task.reason = "failed", said
        self.note(f"{task.name} failed: {said}")


def told(code: int, log: Path) -> str:
    """Why a child ended: the signal, or the last line it said."""
    if code < 0:
        return signal.Signals(-code).name if -code in {int(s) for s in signal.Signals} else f"signal {-code}"
    try:
        with open(log, "rb") as f:
            f.seek(0, 2)
            f.seek(max(0, f.tell() - 4096))
            lines = [line for line in f.read().decode("utf-8", "replace").splitlines() if line.strip()]
    except OSError:
        lines = []
    last = lines[-1].strip()[:300] if lines else ""
    return f"exit {code}: {last}" if last else f"exit {code}"


def disk_full(said: str, folder: Path) -> bool:
    """Whether a failed write failed for want of space: by what the child said, or by the room that is left."""
    if any(words in said for words in FULL):
        return True
    try:
        return shutil.disk_usage(folder).free < NO_ROOM
    except OSError:
        return False


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
