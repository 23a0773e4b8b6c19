"""Six faults are injected into real performances; which one it was must be told from the log of events alone."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from loop_material import STEP_NS, STEP_US, dance

from choreo_cli.live import journal
from choreo_cli.live.clock import VirtualClock
from choreo_cli.live.events import BLOCK, ROOM, Events, room_of
from choreo_cli.live.osc import encode
from choreo_cli.live.performance import Around, Performance
from choreo_cli.live.recording import Recording
from choreo_cli.live.show import Show, checked
from choreo_cli.report.diagnosis import CUT, DISK, ERROR, FAULTS, LATE, MAP, MODEL, PORT, SENSOR, STAMPS, diagnose
from formats import control_map, event_log
from formats.control_map import DEFAULT, dump

During = Callable[[Performance, int], None]
SECOND = 1_000_000
ROWS = dance(2000)


def perform(
    folder: Path,
    during: During | None = None,
    *,
    late: Callable[[int], int] | None = None,
    until_s: float = 12,
    **show: Any,
) -> Path:
    """Play a show in virtual time, recorded, `during` called at every tick; the log of its events."""
    made = checked(Show(out="loop:", **show))
    recording = Recording(folder, made, 0.0)
    events = recording.events(None)
    performance = Performance(made, Around(speed=0.0, out=folder), events, recording, VirtualClock(late=late))
    if during is not None:
        performance.loop.on_frame = lambda frame, beat: during(performance, frame.t_us)
    performance.play(round(until_s * SECOND))
    events.close()
    return folder / "sim" / "events.jsonl"


def told(log: Path) -> dict[str, Any]:
    """What the log alone says: fault -> its finding."""
    found = diagnose(event_log.read(log))
    assert len({f.fault for f in found}) == len(found)
    return {f.fault: f for f in found}


def lose_the_port(performance: Performance, t_us: int) -> None:
    performance.ports[0].lost = 4 * SECOND <= t_us < 7 * SECOND  # type: ignore[attr-defined]


def silence_the_sensor(performance: Performance, t_us: int) -> None:
    if not 5 * SECOND <= t_us < 9 * SECOND:
        packet = encode("/choreo/inputs", [float(v) for v in ROWS[t_us // STEP_US]])
        performance.sources[0].handle(packet, performance.clock.now_ns(), "10.0.0.7")  # type: ignore[attr-defined]


def spoil_the_model(performance: Performance, t_us: int) -> None:
    """The state of M3 is NaN for three seconds; a window later none of it is left."""
    if 6 * SECOND <= t_us < 9 * SECOND:
        performance.model.controls._gru.h[:] = np.nan  # type: ignore[attr-defined]


def wake_late(deadline: int) -> int:
    slot = deadline // STEP_NS
    return {150: 130_000_000, 300: 1_000_000_000}.get(slot, 200_000)


def spoil_the_map(performance: Performance, t_us: int) -> None:
    file = Path(performance.show.map)
    if t_us == 3 * SECOND:
        file.write_text(dump(DEFAULT).replace("rate_per_s: ", "rate_per_s: fast ", 1))
    elif t_us == 8 * SECOND:
        file.write_text(dump(DEFAULT).replace("throttle_ms: 20", "throttle_ms: 40"))
    if t_us in (3 * SECOND, 8 * SECOND):
        assert performance.watch is not None
        for _ in range(2):
            performance.watch.poll()
        performance.look_at_map()


@pytest.fixture
def map_file(tmp_path: Path) -> str:
    file = tmp_path / "control_map.yaml"
    file.write_text(dump(DEFAULT))
    assert control_map.load(file) == DEFAULT
    return str(file)


def fill_the_disk(folder: Path) -> None:
    (folder / "sim").mkdir(parents=True)
    os.symlink("/dev/full", folder / "sim" / journal.ROWS)


def test_a_performance_without_a_fault_has_no_finding(tmp_path: Path) -> None:
    assert told(perform(tmp_path / "d", until_s=40)) == {}


def test_a_lost_port(tmp_path: Path) -> None:
    found = told(perform(tmp_path / "d", lose_the_port))
    assert set(found) == {PORT}
    lost = found[PORT]
    assert lost.about == "loop:" and not lost.open and len(lost.spells) == 1
    assert 4.0 <= lost.spells[0][0] / SECOND <= 4.1 and 2.9 <= lost.lasted_s <= 4.1
    assert "lost port loop:: at 4.0" in lost.sentence() and "gone" in lost.sentence()


def test_a_silent_sensor(tmp_path: Path) -> None:
    found = told(perform(tmp_path / "d", silence_the_sensor, source="osc:0", until_s=14))
    assert set(found) == {SENSOR}
    silent = found[SENSOR]
    assert silent.about == "osc:0" and silent.spells == [(5 * SECOND, pytest.approx(9 * SECOND, abs=3 * STEP_US))]
    assert "for 4.0" in silent.sentence()


def test_a_model_that_gives_nan(tmp_path: Path) -> None:
    found = told(perform(tmp_path / "d", spoil_the_model))
    assert set(found) == {MODEL}
    (begin, end) = found[MODEL].spells[0]
    assert begin == 6 * SECOND + STEP_US and 9 * SECOND <= end <= 10.1 * SECOND, (
        "a window of frames later at the latest"
    )


def test_a_late_clock(tmp_path: Path) -> None:
    found = told(perform(tmp_path / "d", late=wake_late))
    assert set(found) == {LATE}
    assert found[LATE].n == 6 + 50 and len(found[LATE].spells) == 2
    assert "56 frames skipped" in found[LATE].sentence() and "1000.0 ms" in found[LATE].sentence()


def test_a_full_disk(tmp_path: Path) -> None:
    fill_the_disk(tmp_path / "d")
    found = told(perform(tmp_path / "d"))
    assert set(found) == {DISK}
    assert found[DISK].open and found[DISK].n > 0 and "No space left on device" in found[DISK].why


def test_a_bad_map(tmp_path: Path, map_file: str) -> None:
    found = told(perform(tmp_path / "d", spoil_the_map, map=map_file))
    assert set(found) == {MAP}
    assert found[MAP].spells == [(3 * SECOND, 8 * SECOND)]
    assert map_file in found[MAP].why and "rate_per_s" in found[MAP].why


def test_all_six_at_once(tmp_path: Path, map_file: str) -> None:
    def everything(performance: Performance, t_us: int) -> None:
        for fault in (lose_the_port, silence_the_sensor, spoil_the_map):
            fault(performance, t_us)
        spoil_the_model(performance, t_us - 4 * SECOND)  # while the sensor is silent nothing is asked of it

    fill_the_disk(tmp_path / "d")
    late = {250: 130_000_000}
    log = perform(
        tmp_path / "d", everything, late=lambda d: late.get(d // STEP_NS, 0), source="osc:0", map=map_file, until_s=14
    )
    assert set(told(log)) == set(FAULTS)


def test_inspect_says_it_and_so_does_the_log_of_the_command(tmp_path: Path, choreo: Any, map_file: str) -> None:
    log = perform(tmp_path / "d", spoil_the_map, map=map_file)
    done = choreo("inspect", log, "--json")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["facts"]["faults"] == {MAP: 1}
    assert len(record["notes"]) == 1 and record["notes"][0].startswith("bad map: at 3.00 s, for 5.00 s; ")
    played = choreo("run-live", "--speed", "max", "--for", "2", "--out", "loop:", "--events", "log.jsonl", "-q")
    assert played.returncode == 0, played.stderr
    clean = choreo("inspect", "log.jsonl", "--table")
    assert clean.returncode == 0 and b"faults: none" in clean.stdout


def test_a_log_that_was_cut_is_read_as_far_as_it_goes(tmp_path: Path, choreo: Any) -> None:
    log = perform(tmp_path / "d", lose_the_port)
    whole = log.read_bytes()
    log.write_bytes(whole[: whole.index(b'"recovered"')])
    done = choreo("inspect", log, "--json")
    record = json.loads(done.stdout)
    assert done.returncode == 1 and "the log is cut" in record["problems"][0]
    assert set(record["facts"]["faults"]) == {f"{PORT} loop:", CUT}
    assert "to the end" in record["notes"][0] and "no end: after 4.0" in record["notes"][1]


def test_sensors_whose_clock_jumps_and_errors_of_parts_are_other_findings() -> None:
    start, stop = {"t_us": 0, "kind": "start"}, {"t_us": 9, "kind": "stop"}
    jump = {"t_us": 1, "kind": "source", "source": "osc:9000", "state": "clock jumped", "stream": "accel"}
    error = {"t_us": 2, "kind": "error", "where": "stages", "why": "ValueError: no bar", "n": 1}
    odd = [{"t_us": 3, "kind": "xrun", "missed": "many", "late_ms": None}, {"t_us": 4, "kind": "map"}]
    found = {f.fault: f for f in diagnose([start, jump, error, *odd, stop])}
    assert set(found) == {STAMPS, ERROR, LATE} and found[LATE].n == 0
    assert found[ERROR].about == "stages" and "no bar" in found[ERROR].sentence()
    assert diagnose([])[0].fault == CUT


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB of its own; skipped where none can be made."""
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "choreo", place], capture_output=True, check=False)
    if made.returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


def test_a_disk_that_is_really_full_says_so_in_its_own_log(small_disk: Path) -> None:
    def fill(performance: Performance, t_us: int) -> None:
        if t_us == 4 * SECOND:
            with contextlib.suppress(OSError), (small_disk / "filler").open("wb", buffering=0) as filler:
                while True:
                    filler.write(bytes(BLOCK))
        if t_us >= 4 * SECOND and t_us % SECOND == 0:  # nothing fits into the last block of the log any more
            performance.tell("x" * 600)

    log = perform(small_disk / "d", fill, until_s=30)
    assert os.statvfs(small_disk).f_bavail * BLOCK <= ROOM, "it is full, but for what was kept"
    found = told(log)
    assert set(found) == {DISK} and found[DISK].open and found[DISK].n > 500
    events = event_log.read(log)
    assert events[-1]["kind"] == "stop" and sum(e["kind"] == "model" for e in events) == 27


def test_the_room_beside_a_log_is_given_up_bit_by_bit_and_goes_away(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    log = Events(path, room=True)
    assert room_of(path).stat().st_size == ROOM

    class Disk:
        """As large as it is now: what is written needs room that was given up."""

        def __init__(self, out: Any) -> None:
            self.out, self.used = out, 0

        def write(self, data: bytes) -> int:
            if self.used + len(data) > ROOM - room_of(path).stat().st_size:
                raise OSError(28, "No space left on device")
            self.used += len(data)
            return int(self.out.write(data))

        def __getattr__(self, name: str) -> Any:
            return getattr(self.out, name)

    log._out = Disk(log._out)
    for k in range(1000):
        log.emit("error", k, where="recorder", why="No space left on device " + "x" * 200, lost=k)
        if k % 10 == 0:
            log._drain()
    log.close()
    assert log.lost > 0, "more than the room was told"
    found = event_log.read(path)
    assert len(found) == log.written and path.stat().st_size > ROOM - 4 * BLOCK
    assert diagnose(found, whole=True)[0].fault == DISK and not room_of(path).exists()
    assert log.fault is not None
