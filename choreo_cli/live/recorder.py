"""The recording of a performance: a thread that drains the loop's ring, and the tables that come of it.

While the performance goes on, rows go to a journal; what a killed process leaves there is made into tables by
`recover`. A disk that is full costs rows, which are counted and told; it never costs a tick.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.errors import CantCreateError, StorageError
from choreo_cli.live import journal
from choreo_cli.live.journal import About, Journal
from choreo_cli.live.latency import NONE, OUT, Ring, Tally, X, Y, column, receiver_metrics
from choreo_cli.live.watch import Emits
from formats.columns import CONTROL_NAMES, CONTROLS, FRAMES, INPUTS, LEDGER, MASKS, SENT, Table
from formats.errors import FormatError

DRAIN_S = 0.25
SYNC_EVERY = 20
TOLD_EVERY = 40
BEFORE_ALL = 0.5
"""What a control is before any modality was measured, as in `reflex.timelines`."""
EVENTS_FILE = "events.jsonl"
METRICS_FILE = "metrics.json"


@dataclass(slots=True)
class Recorded:
    """What was written: entries of `choreo.sessions/1`, and (role, sha256) of every file by its path."""

    entries: list[dict[str, Any]] = field(default_factory=list)
    files: dict[str, tuple[str, str]] = field(default_factory=dict)
    metrics: list[dict[str, Any]] = field(default_factory=list)


class Recorder:
    """Takes what the loop puts into `ring`.

    Args:
        folder: Output folder; the session gets a folder of its own in it.
        about: What the tables must know.
        events: Is told of rows that were lost.
        lossless: The loop waits for the writer when the ring is half full: for virtual time only.

    Raises:
        CantCreateError: the session's folder or its journal cannot be made.
    """

    def __init__(self, folder: Path, about: About, events: Emits | None = None, *, lossless: bool = False) -> None:
        self.folder, self.about, self.ring = folder, about, Ring()
        self.lost = self.hold = 0
        self._events, self._lossless = events, lossless
        self._home = folder / about.session_id
        self._fault = ""
        try:
            self._journal = Journal(self._home, about)
        except OSError as e:
            raise CantCreateError(
                f"cannot record into {self._home}: {e.strerror}", hint="name another folder"
            ) from None
        self._wake, self._room, self._stop = threading.Event(), threading.Event(), threading.Event()
        self._rounds = self._told = self._last_us = 0
        self._thread: threading.Thread | None = threading.Thread(target=self._work, name="recorder", daemon=True)
        self._thread.start()

    def pace(self) -> None:
        """Wait for the writer in virtual time, where nothing else holds the loop back; nothing otherwise."""
        if not self._lossless or self.ring.waiting < self.ring.size // 2:
            return
        self._room.clear()
        self._wake.set()
        while self.ring.waiting >= self.ring.size // 2 and self._thread is not None and self._thread.is_alive():
            self._room.wait(0.1)

    def stop(self) -> list[str]:
        """Write what is left; one sentence for everything that was not recorded. May be called twice."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._stop.set()
            self._wake.set()
            thread.join(timeout=30.0)
            if not thread.is_alive():
                self.hold = 0
                self._drain()
                self._journal.close()
        lost = self.lost + self.ring.dropped
        why = self._fault or "the writer was too slow"
        if lost and thread is not None and self._events is not None:
            self._events.emit("error", self._last_us, where="recorder", why=why, lost=lost)
        return [f"{lost} of {self.ring.put_count} ticks were not recorded: {why}"] if lost else []

    def finish(self, created_by: Mapping[str, Any]) -> Recorded:
        """Make tables of the journal, and figures of the ledger; the manifest is the caller's, who writes it last.

        Args:
            created_by: Provenance, goes into the tables and into `metrics.json`.

        Raises:
            StorageError: it cannot be written; the journal stays and `recover` makes the tables later.
        """
        self.stop()
        return _finish(self.folder, self._home, created_by)

    def _work(self) -> None:
        while not self._stop.is_set():
            self._wake.wait(DRAIN_S)
            self._wake.clear()
            self._drain()
            self._room.set()

    def _drain(self) -> None:
        self._rounds += 1
        rows = self.ring.take(self.hold)
        if len(rows):
            self._last_us = int(column(rows, "t_us")[-1])
        try:
            if len(rows):
                self._journal.append(rows)
            if self._rounds % SYNC_EVERY == 0:
                self._journal.sync()
        except OSError as e:
            self.lost += len(rows)
            self._fault = f"{self._home}: {e.strerror or e}"
            if self._events is not None and (not self._told or self._rounds - self._told >= TOLD_EVERY):
                self._told = self._rounds
                self._events.emit("error", self._last_us, where="recorder", why=self._fault, lost=self.lost)


def recover(folder: Path, created_by: Mapping[str, Any]) -> list[Recorded]:
    """Make tables of every journal that a killed performance left in an output folder.

    Raises:
        FormatError: a journal of another version.
        StorageError: they cannot be written.
    """
    found = []
    for home in journal.left_behind(folder):
        _mend(home / EVENTS_FILE)
        found.append(_finish(folder, home, created_by))
    return found


def _mend(log: Path) -> None:
    """Close the log of a killed performance, and say in it that it was."""
    from choreo_cli.live.events import room_of
    from formats import event_log
    from formats.atomic import write_bytes

    room_of(log).unlink(missing_ok=True)
    if not log.is_file():
        return
    data = log.read_bytes()
    data = data[: data.rfind(b"\n") + 1]
    try:
        found = event_log.events_of(data, file=log)
    except FormatError:
        return  # damaged otherwise: check says how
    if data.endswith(event_log.last_line(len(found))):
        return
    why = "the performance was killed: what came after is not recorded"
    end = event_log.event_line(found[-1]["t_us"] if found else 0, "error", {"where": "recorder", "why": why})
    write_bytes(log, data + end + event_log.last_line(len(found) + 1))


def _finish(folder: Path, home: Path, created_by: Mapping[str, Any]) -> Recorded:
    try:
        about = journal.read_card(home)
        made = _tables(folder, home, about, created_by)
        journal.remove(home)
    except OSError as e:
        hint = "free some space; the journal is kept, and the next run into this folder makes its tables"
        raise StorageError(f"cannot write the recording in {home}: {e.strerror or e}", hint=hint) from None
    return made


def _tables(folder: Path, home: Path, about: About, created_by: Mapping[str, Any]) -> Recorded:
    from formats.atomic import sha256_file, write_bytes
    from formats.manifest import Manifest, Root, encode
    from formats.tables import write_batches

    tally, first, last, count, bpm = Tally(), 0, 0, 0, []
    for rows in journal.read_rows(home):
        tally.add(rows)
        t_us = column(rows, "t_us")
        first, last, count = (int(t_us[0]) if not count else first), int(t_us[-1]), count + len(rows)
        bpm.append(rows["clock"][:, 1].copy())  # a view would keep the whole piece
    made = Recorded()
    if not count:
        return made
    session = about.session_id
    keep = {"choreo": json.dumps({k: v for k, v in created_by.items() if k != "outputs"}, sort_keys=True)}
    for role, name, table, columns in (
        ("frames", f"{session}/frames.parquet", FRAMES, _frames),
        ("controls", f"{session}_controls.parquet", CONTROLS, _Controls()),
        ("sent", f"{session}/sent.parquet", SENT, _sent),
        ("ledger", f"{session}/ledger.parquet", LEDGER, _ledger),
    ):
        batches = (_shared(table, about, rows) | columns(rows) for rows in journal.read_rows(home))
        made.files[name] = (role, write_batches(folder / name, table, batches, keep))
    if (home / EVENTS_FILE).is_file():
        made.files[f"{session}/{EVENTS_FILE}"] = ("events", sha256_file(home / EVENTS_FILE))
    params = {"source": about.source, "period_us": about.period_us, "session": session}
    params["receiver"] = ", ".join(about.receivers)
    made.metrics = [*tally.metrics(params, about.virtual), *receiver_metrics(about.offset, params)]
    every = sorted([*other_figures(folder, session), *made.metrics], key=lambda e: str(e["params"].get("session")))
    doc = encode(Manifest("choreo.metrics/1", {**created_by, "outputs": []}, every, [Root("out", ".", True)]))
    made.files[METRICS_FILE] = ("metrics", write_bytes(folder / METRICS_FILE, doc))
    frames = f"{session}/frames.parquet"
    sha = made.files[frames][1]
    tempo = np.concatenate(bpm)
    tempo = tempo[np.isfinite(tempo)]
    made.entries.append({
        "id": f"s:{sha[:16]}", "session_id": session, "path": session, "frames": frames, "frames_sha256": sha,
        "n_frames": count, "duration_us": last - first + about.period_us,
        "bpm": round(float(np.median(tempo)), 4) if len(tempo) else None, "seed": None, "synthetic": about.synthetic,
        # The rest names places and times of ports, and is no part of what must come out the same.
        "files": {n: s for n, (role, s) in made.files.items() if role in ("frames", "controls")},
    })  # fmt: skip
    return made


def other_figures(folder: Path, session: str) -> list[dict[str, Any]]:
    """Entries of the `metrics.json` of an output folder that are those of other performances.

    Raises:
        FormatError: it is damaged.
    """
    from formats.manifest import decode

    file = folder / METRICS_FILE
    if not file.is_file():
        return []
    entries = decode(file.read_bytes(), source=str(file), file=file).entries
    return [e for e in entries if e["params"].get("session") != session]


def _shared(table: Table, about: About, rows: NDArray[Any]) -> dict[str, Any]:
    """The columns that every table of a session has."""
    import pyarrow as pa

    columns: dict[str, Any] = {
        "session_id": pa.repeat(about.session_id, len(rows)),
        "t_us": column(rows, "t_us"),
        "synthetic": np.full(len(rows), about.synthetic),
    }
    if "seq" in table.names:
        columns |= {"seq": column(rows, "seq"), "held": column(rows, "held") != 0}
    return columns


def _frames(rows: NDArray[Any]) -> dict[str, Any]:
    x, mask = rows["floats"][:, X], column(rows, "mask")
    columns: dict[str, Any] = {c.name: x[:, k] for k, c in enumerate(INPUTS)}
    columns |= {name: (mask >> k & 1) != 0 for k, name in enumerate(MASKS)}
    return columns | {"beat_idx": column(rows, "beat_idx").astype(np.int32)}


class _Controls:
    """Controls of the model; where it had none they repeat the last ones, also from one piece to the next."""

    def __init__(self) -> None:
        self._last = np.full((1, len(CONTROL_NAMES)), BEFORE_ALL, np.float32)

    def __call__(self, rows: NDArray[Any]) -> dict[str, Any]:
        held = ~np.isfinite(rows["floats"][:, Y]).all(axis=1)
        y = np.concatenate([self._last, rows["floats"][:, Y]])
        source = np.maximum.accumulate(np.where(np.concatenate([[False], held]), 0, np.arange(len(y))))
        y = y[source]
        self._last = y[-1:]
        return {**{name: y[1:, k] for k, name in enumerate(CONTROL_NAMES)}, "held": held}


def _sent(rows: NDArray[Any]) -> dict[str, Any]:
    values, clock = rows["floats"][:, OUT], rows["clock"]
    columns: dict[str, Any] = {name: values[:, k] for k, name in enumerate(CONTROL_NAMES)}
    return columns | {"ports": column(rows, "ports").astype(np.int32), "beat": clock[:, 0], "bpm": clock[:, 1]}


def _ledger(rows: NDArray[Any]) -> dict[str, Any]:
    import pyarrow as pa

    columns: dict[str, Any] = {}
    for name in ("t_frame_ns", "t_model_ns", "t_guard_ns", "late_ns"):
        columns[name] = column(rows, name)
    for name in ("t_sensor_us", "t_arrival_ns", "t_sent_ns", "t_acked_ns"):
        values = np.ascontiguousarray(column(rows, name))
        columns[name] = pa.array(values, type=pa.int64(), mask=values == NONE)
    return columns | {name: column(rows, name).astype(np.int32) for name in ("missed", "mask")}
