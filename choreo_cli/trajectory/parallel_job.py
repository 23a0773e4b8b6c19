"""`choreo train video --branch`: every branch with every seed in a process of its own, and one manifest of all."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from choreo_cli import runtime
from choreo_cli.errors import ChoreoError, DataError, ExitCode
from choreo_cli.training.job import NOT_DECIDING, RunFolder
from choreo_cli.training.runlog import STATUS, Heartbeat
from choreo_cli.training.seeds import RUN, folder_of
from choreo_cli.training.settings import set_words
from choreo_cli.training.sync import Sync
from choreo_cli.trajectory import interim
from choreo_cli.trajectory.branches import Branch, settings_of
from choreo_cli.trajectory.parallel import Crew, Task, child_env, slots_of, thread_budget
from formats import atomic, status
from formats.errors import FormatError
from formats.manifest import Manifest, decode

SYNC_S = 20.0  # a copy's heartbeats stay younger than the minute after which they are stale
RESULTS_S = 900.0
STOPPED_S = 4.0
NAME = "train video --branch"


@dataclass(frozen=True, slots=True)
class Wish:
    """What was asked for.

    Args:
        source: Folder of the trajectory set. data_sha256: Of its manifest.
        branches: With their resolved settings. seeds: Each is trained with each.
        out: Output folder.
        devices: As `--device` names them. per_device: Children on each at one time, 0 for as many as fit.
        program: Absolute program and its first arguments. passed: More arguments of every child.
        code: Folder that holds our packages.
        force: Do it again.
    """

    source: Path
    data_sha256: str
    branches: list[Branch]
    seeds: list[int]
    out: Path
    devices: list[str]
    per_device: int
    program: tuple[str, ...]
    passed: tuple[str, ...]
    code: Path
    force: bool = False

    @property
    def slots(self) -> list[str]:
        return slots_of(self.devices, self.per_device or (runtime.core_count(0) if self.devices == ["cpu"] else 1))

    @property
    def threads(self) -> int:
        """Of each child."""
        return thread_budget(runtime.core_count(0), min(len(self.slots), len(self.branches) * len(self.seeds)))

    def argv(self, branch: Branch, seed: int) -> tuple[str, ...]:
        """The ordinary command that trains one branch with one seed."""
        sets = set_words(settings_of(branch.train))
        seeds = ("--seeds", ",".join(map(str, self.seeds)), "--only", str(seed))
        out = ("-o", str(self.out / branch.name))
        again = ("--force",) if self.force else ()
        return (*self.program, "train", "video", str(self.source), *sets, *seeds, *again, *self.passed, *out)

    def folder(self, branch: Branch, seed: int) -> Path:
        return self.out / branch.name / folder_of(seed)


def provenance(wish: Wish) -> dict[str, Any]:
    """The `created_by` of the summary."""
    configs = {b.name: msgspec.to_builtins(b.train) for b in wish.branches}
    kept = {name: {k: v for k, v in c.items() if k not in NOT_DECIDING} for name, c in configs.items()}
    kinds = sorted({d.partition(":")[0] for d in wish.devices})
    params = {"branches": kept, "seeds": wish.seeds, "device": kinds}
    inputs = [{"role": "trajectories", "sha256": wish.data_sha256, "schema": "choreo.trajectories/1"}]
    made_by = runtime.provenance(NAME, params, inputs)
    made_by["deterministic"] = kinds == ["cpu"]
    return made_by


def plan(wish: Wish) -> dict[str, Any]:
    """What would be started: `--dry-run`."""
    runs = [
        {"branch": b.name, "seed": s, "settings": settings_of(b.train), "folder": str(wish.folder(b, s))}
        for b in wish.branches for s in wish.seeds
    ]  # fmt: skip
    return {"schema": "choreo.plan/1", "command": NAME, "runs": runs, "slots": wish.slots, "threads": wish.threads}


def plan_rows(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The plan for a person: (run, settings)."""
    rows = [
        (f"{r['branch']} seed {r['seed']}", ", ".join(f"{k}={v}" for k, v in r["settings"].items()))
        for r in found["runs"]
    ]
    return [*rows, ("at one time", f"{len(found['slots'])} on {', '.join(found['slots'])}; {found['threads']} threads")]


@dataclass(frozen=True, slots=True)
class Listeners:
    """Who hears of it: the arguments for the record, a remark, progress `(done, total, item)`, and where to copy."""

    argv: list[str]
    note: Callable[[str], None]
    progress: Callable[..., None]
    sync: Sync | None = None


def train(wish: Wish, folder: RunFolder, heard: Listeners, env: Mapping[str, str]) -> bytes:
    """Train everything; returns the bytes of the summary `run.json`.

    Args:
        wish: What was asked for. folder: The locked output folder.
        heard: Who listens. env: The environment; children see little of it.

    Raises:
        Locked: one of the runs is at work elsewhere, for instance a child of a command that was killed.
        ChoreoError: some runs failed; the others are kept, and the same command goes on. After a signal the children
            have written their checkpoints and the signal goes on.
    """
    before = None if wish.force else folder.done_before()
    if before is not None:
        heard.note(f"already in {wish.out}; --force does it again")
        return before
    pairs = [(b, s) for b in wish.branches for s in wish.seeds]
    for branch, seed in pairs:
        atomic.need_free(wish.folder(branch, seed))
    _warn_of_threads(wish, heard.note)
    folder.invalidate()
    tasks = [_task(wish, b, s) for b, s in pairs]
    watch = Watch(wish, tasks, heard)
    crew = Crew(tasks, wish.slots, child_env(env, wish.code, wish.threads), heard.note, watch.changed)
    copies = _Copies(heard.sync)
    whole = False
    try:
        with Heartbeat(wish.out / STATUS, NAME) as pulse:
            watch.pulse = pulse
            with runtime.deferred_signals() as signals:
                crew.run(lambda: signals.asked, watch.tick)
                if signals.asked:
                    pulse.end("stopped", "the states are kept: the same command goes on from there")
            _need_all(tasks)
            doc = summarise(wish, folder, heard.argv)
        whole = True
    finally:
        copies.end(whole)
    return doc


def _task(wish: Wish, branch: Branch, seed: int) -> Task:
    folder = wish.folder(branch, seed)
    name = f"{branch.name}/{folder.name}"
    log = wish.out / "logs" / f"{branch.name}-{folder.name}.log"
    return Task(name, wish.argv(branch, seed), log, lambda: _steps_done(folder))


def _steps_done(folder: Path) -> int:
    try:
        return status.read(folder / STATUS).done
    except (FormatError, OSError):
        return 0


def _warn_of_threads(wish: Wish, note: Callable[[str], None]) -> None:
    for branch in wish.branches:
        wants = branch.train.threads
        if wants > wish.threads:
            note(f"{branch.name} computes with {wants} threads, its share of the cores is {wish.threads}")


def _need_all(tasks: Sequence[Task]) -> None:
    """Raises ChoreoError when a run failed: its own code when none was finished, else 3."""
    failed = [t for t in tasks if t.state != "done"]
    if not failed:
        return
    codes = {t.code for t in failed}
    code = codes.pop() if len(codes) == 1 and len(failed) == len(tasks) else ExitCode.PARTIAL
    known = code if code in [int(c) for c in ExitCode] else ExitCode.PARTIAL
    said = "; ".join(f"{t.name}: {t.reason}" for t in failed[:3]) + ("; ..." if len(failed) > 3 else "")
    raise ChoreoError(
        f"{len(failed)} of {len(tasks)} runs did not finish: {said}",
        hint="the others are kept; mend it and give the same command again", code=ExitCode(known or ExitCode.PARTIAL),
    )  # fmt: skip


def summarise(wish: Wish, folder: RunFolder, argv: list[str]) -> bytes:
    """Write the manifest of all runs, one entry each, every file of every run named by its hash; returns its bytes.

    Raises:
        DataError: a run was made from another set.
    """
    entries: list[dict[str, Any]] = []
    roots: dict[str, Path] = {}
    for branch in wish.branches:
        for seed in wish.seeds:
            file = wish.folder(branch, seed) / RUN
            run = decode(file.read_bytes(), source=str(file), file=file)
            if run.entries[0]["data"]["sha256"] != wish.data_sha256:
                raise DataError(f"{file} was trained on another set", hint="--force, or another -o")
            name = f"{branch.name}/{folder_of(seed)}"
            entries.append({**run.entries[0], "path": name})
            roots |= _roots(run)
            for item in run.created_by["outputs"]:
                folder.add(item["role"], f"{name}/{item['path']}", item["sha256"])
            folder.add("run", f"{name}/{RUN}", atomic.sha256_file(file))
    return folder.finish(entries, 0, argv, roots)


def _roots(run: Manifest) -> dict[str, Path]:
    return {r.id: Path(r.path) for r in run.roots if not r.self}


@dataclass(slots=True)
class Watch:
    """Tells how all runs are doing: heartbeat, progress, and results while they are not there yet."""

    wish: Wish
    tasks: list[Task]
    heard: Listeners
    pulse: Heartbeat | None = None
    clock: Callable[[], float] = time.monotonic
    _results_at: float = field(init=False)
    _last: str = ""

    def __post_init__(self) -> None:
        self._results_at = self.clock()

    def changed(self, task: Task) -> None:
        if task.state in ("done", "failed", "stopped"):
            self._keep(task)
        self.tick()

    def tick(self) -> None:
        """Called several times a second."""
        counts = {s: sum(t.state == s for t in self.tasks) for s in ("done", "running", "waiting", "failed")}
        said = ", ".join(f"{n} {s}" for s, n in counts.items() if n)
        if self.pulse is not None:
            self.pulse.say(said, done=counts["done"], total=len(self.tasks))
        if said != self._last:
            self._last = said
            self.heard.progress(counts["done"], len(self.tasks), said)
        if self.clock() - self._results_at >= RESULTS_S:
            self._results_at = self.clock()
            for task in self.tasks:
                if task.state == "running":
                    self._keep(task)

    def _keep(self, task: Task) -> None:
        told = interim.latest(self.wish.out / task.name, task.cpu_s, task.starts)
        try:
            interim.write(self.wish.out / "results" / task.name, told, time.time())
        except OSError as e:
            self.heard.note(f"no results of {task.name} can be written: {e.strerror or e}")


class _Copies:
    """Brings the copy up to date from a thread of its own: a slow network holds up nothing."""

    def __init__(self, sync: Sync | None) -> None:
        self._sync = sync
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sync", daemon=True)
        if sync is not None:
            self._thread.start()

    def _run(self) -> None:
        assert self._sync is not None
        while not self._over.wait(SYNC_S):
            self._sync.push()

    def end(self, whole: bool) -> None:
        """The last copy; of runs that were stopped one that takes a few seconds at most."""
        self._over.set()
        if self._sync is None:
            return
        self._thread.join(timeout=None if whole else STOPPED_S)
        if not self._thread.is_alive():
            if whole:
                self._sync.push(last=True)
            else:
                self._sync.push(last=True, timeout_s=STOPPED_S)
