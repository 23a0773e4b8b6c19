"""The recording: read back by the commands that judge it, whole after a kill, harmless on a full disk."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from loop_material import STEP_US, TOP, Script, Told, dance, made, rows_of

from choreo_cli.dataset.frameset import read_frames
from choreo_cli.errors import CantCreateError, ExitCode, StorageError
from choreo_cli.live import journal
from choreo_cli.live.events import Events
from choreo_cli.live.journal import About
from choreo_cli.live.latency import NONE, ROW, Ring, Tally
from choreo_cli.live.recorder import Recorded, Recorder, recover
from choreo_cli.live.replay import Replay
from choreo_cli.metrics.run_inputs import controls_at
from choreo_cli.metrics.tracks import pair_up
from choreo_cli.outputs import output_folder
from choreo_cli.reflex.mapper import Mapper
from choreo_cli.reflex.rps import Rps
from choreo_cli.reflex.timelines import controls_of
from choreo_cli.runtime import provenance
from formats import event_log, manifest
from formats.columns import CONTROL_NAMES, CONTROLS, LEDGER, SENT
from formats.tables import read_metadata, read_table

CREATED: dict[str, Any] = provenance("run-live", {"source": "memory"}, [])


def performance(folder: Path, x: np.ndarray, **more: Any) -> Recorded:
    """Record a performance of these frames and finish the folder as the command does."""
    with output_folder(folder, "sessions", dict(CREATED)) as out:
        events = Events(folder / "live" / "events.jsonl")
        recorder = Recorder(folder, About("live", True, True, "memory"), events, lossless=True)
        source = Replay("memory", "inputs", STEP_US * np.arange(len(x)), x, whole=True, repeats=more.pop("repeats", 1))
        loop, _, _ = made([source], recorder=recorder, events=events, **more)
        summary = loop.run()
        events.close()
        done = recorder.finish(CREATED)
        for name, (role, sha) in done.files.items():
            out.add(role, name, sha)
        out.finish(done.entries, int(summary.exit_code), [])
    return done


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("performance")
    x = dance(3000)
    x[500:560] = np.nan  # everything is gone for a while
    x[900:1100, 6:8] = np.nan
    performance(path, x)
    return path


def test_the_files_are_those_of_a_session(folder: Path) -> None:
    found = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    assert found == [
        ".choreo.lock", "live/events.jsonl", "live/frames.parquet", "live/ledger.parquet", "live/sent.parquet",
        "live_controls.parquet", "metrics.json", "sessions.json", "sessions.run.json",
    ]  # fmt: skip


def test_check_finds_it_whole(folder: Path, choreo: Any) -> None:
    done = choreo("check", folder)
    assert done.returncode == 0, done.stdout + done.stderr


def test_frames_are_read_as_those_of_any_session_and_are_what_was_played(folder: Path) -> None:
    frames = read_frames(folder)
    assert [s.session_id for s in frames.sessions] == ["live"] and frames.synthetic
    x = dance(3000)
    assert np.array_equal(frames.t_us, STEP_US * np.arange(3000))
    assert np.array_equal(frames.x[:500], x[:500]) and np.isnan(frames.x[500:560]).all()
    assert np.isnan(frames.x[900:1100, 6:8]).all() and np.array_equal(frames.x[1100:], x[1100:])
    assert not frames.mask[500:560].any() and not frames.mask[950, 1] and frames.mask[2000].all()


def test_recorded_controls_are_those_the_offline_models_make_of_the_recorded_frames(folder: Path) -> None:
    frames = read_frames(folder)
    kept = TOP / "examples" / "checkpoints"
    wanted, held = controls_of(Rps.read(kept / "rps"), Mapper.read(kept / "mapper"), frames, frames.sessions[0])
    table = read_table(folder / "live_controls.parquet", CONTROLS)
    found = np.stack([table.column(n).to_numpy() for n in CONTROL_NAMES], axis=1)
    assert np.abs(found - wanted).max() < 1e-5
    assert np.array_equal(table.column("held").to_numpy(zero_copy_only=False), held) and held.sum() == 60


def test_the_reader_of_evaluate_groove_takes_them(folder: Path) -> None:
    controls, sources = controls_at(folder)
    assert [c.session_id for c in controls] == ["live"] and len(sources) == 1
    track = pair_up(controls, read_frames(folder))[0]
    assert np.isfinite(track.follower).all() and len(track.follower) == 3000


def test_evaluate_groove_judges_it(folder: Path, choreo: Any) -> None:
    done = choreo(
        "evaluate", "groove", "--controls", folder, "--frames", folder, "--draws", "99", "--no-gate", "--json"
    )
    assert done.returncode == 0, done.stderr
    assert b"groove" in done.stdout or b"phase" in done.stdout


def test_sent_values_ledger_and_events(folder: Path) -> None:
    sent, ledger = read_table(folder / "live/sent.parquet", SENT), read_table(folder / "live/ledger.parquet", LEDGER)
    assert sent.num_rows == ledger.num_rows == 3000
    assert ledger.column("seq").to_pylist() == list(range(3000))
    assert ledger.column("t_sensor_us").null_count == 3000 and ledger.column("t_acked_ns").null_count == 3000
    assert ledger.column("t_arrival_ns").null_count == 0
    assert 0 < sent.column("ports").to_numpy().sum() <= 3000
    assert ledger.column("t_sent_ns").null_count == int((sent.column("ports").to_numpy() == 0).sum())
    assert sent.column("bpm").null_count == 3000
    held = ledger.column("held").to_numpy(zero_copy_only=False)
    assert held[500:560].all() and held.sum() == 60
    kinds = [e["kind"] for e in event_log.read(folder / "live/events.jsonl")]
    assert kinds[0] == "start" and kinds[-1] == "stop" and kinds.count("hold") == 2
    about = read_metadata(folder / "live/sent.parquet")["choreo"]
    assert CREATED["run_id"] in about


def test_figures_of_virtual_time_are_not_passed_off_as_latency(folder: Path) -> None:
    found = manifest.decode((folder / "metrics.json").read_bytes()).entries
    named = {e["name"]: e for e in found}
    assert {"live.arrival_to_sent.p50", "live.arrival_to_sent.p99", "live.lateness.p95", "live.interval.sd"} <= set(
        named
    )
    first = named["live.arrival_to_sent.p99"]
    assert first["status"] == "degenerate" and first["pass"] is None and "virtual time" in first["why"]
    assert named["live.missed"]["value"] == 0 and named["live.missed"]["n"] == 3000


def test_equal_performances_have_equal_bytes(folder: Path, tmp_path: Path) -> None:
    x = dance(3000)
    x[500:560] = np.nan
    x[900:1100, 6:8] = np.nan
    done = performance(tmp_path / "again", x)
    for name in done.files:
        assert (folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name


def test_a_killed_performance_loses_its_last_second_only(tmp_path: Path) -> None:
    code = (
        "import os, sys\nsys.path.insert(0, 'tests/live')\nfrom loop_material import *\nfrom pathlib import Path\n"
        "from choreo_cli.live.recorder import Recorder\nfrom choreo_cli.live.journal import About\n"
        f"rec = Recorder(Path({str(tmp_path)!r}), About('show', True, True), lossless=True)\n"
        f"from choreo_cli.live.events import Events\nlog = Events(Path({str(tmp_path)!r}) / 'show' / 'events.jsonl')\n"
        "loop, port, told = made([Script(rows_of(dance(4000)))], recorder=rec, events=log)\n"
        "def kill(frame, beat):\n    if frame.t_us == 3900 * STEP_US:\n        os.kill(os.getpid(), 9)\n"
        "loop.on_frame = kill\nloop.run()"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=TOP, timeout=120, check=False)
    assert done.returncode == -9
    with (tmp_path / "show" / journal.ROWS).open("ab") as f:
        f.write(b"half a row")
    made_of = recover(tmp_path, CREATED)
    assert journal.left_behind(tmp_path) == [] and len(made_of) == 1
    rows = made_of[0].entries[0]["n_frames"]
    assert 3900 - Ring().size // 2 - 100 <= rows <= 3901
    frames = read_frames(tmp_path / "show" / "frames.parquet")
    assert np.array_equal(frames.x, dance(4000)[:rows])
    assert recover(tmp_path, CREATED) == []
    events = event_log.read(tmp_path / "show" / "events.jsonl")
    assert [e["kind"] for e in events] == ["start", "error"] and "killed" in events[1]["why"]


def test_a_full_disk_never_stops_the_loop(tmp_path: Path) -> None:
    home = tmp_path / "show"
    home.mkdir()
    os.symlink("/dev/full", home / journal.ROWS)
    told = Told()
    recorder = Recorder(tmp_path, About("show", True, True), told, lossless=True)
    loop, port, _ = made([Script(rows_of(dance(400)))], recorder=recorder, events=told)
    summary = loop.run()
    assert summary.ticks == 400 and len(port.sent) > 300
    assert summary.exit_code == ExitCode.IO == 74
    assert summary.faults == [f"400 of 400 ticks were not recorded: {home}: No space left on device"]
    errors = [facts for _, facts in told.of("error")]
    assert errors[0]["where"] == "recorder" and "No space left" in errors[0]["why"]


def test_a_disk_that_is_full_at_the_end_keeps_the_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(tmp_path, About("show", True, True), lossless=True)
    loop, _, _ = made([Script(rows_of(dance(200)))], recorder=recorder)
    assert loop.run().faults == []

    def full(*args: Any, **more: Any) -> str:
        raise OSError(28, "No space left on device")

    import formats.tables

    with monkeypatch.context() as m:
        m.setattr(formats.tables, "write_batches", full)
        with pytest.raises(StorageError, match="No space left") as caught:
            recorder.finish(CREATED)
    assert int(caught.value.code) == 74 and "journal is kept" in caught.value.hint
    assert recover(tmp_path, CREATED)[0].entries[0]["n_frames"] == 200


def test_a_folder_that_cannot_be_made_is_said_before_it_begins(tmp_path: Path) -> None:
    (tmp_path / "show").write_text("")
    with pytest.raises(CantCreateError, match="cannot record into"):
        Recorder(tmp_path, About("show"))


def test_nothing_played_is_nothing_written(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, About("show"))
    assert recorder.stop() == [] and recorder.finish(CREATED) == Recorded()
    assert journal.left_behind(tmp_path) == []


def test_controls_repeat_across_the_pieces_of_a_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "CHUNK", 7)
    x = dance(60)
    x[:3], x[20:40] = np.nan, np.nan
    performance(tmp_path, x)
    table = read_table(tmp_path / "live_controls.parquet", CONTROLS)
    y = table.column("density").to_numpy()
    assert (y[:3] == 0.5).all() and (y[20:40] == y[19]).all() and len(y) == 60
    assert read_frames(tmp_path).x.shape == (60, 11)


def test_the_recorder_holds_no_more_after_an_hour_than_after_a_minute(tmp_path: Path) -> None:
    """What a tick leaves behind in memory: nothing. Ten virtual minutes of rows, without the model."""
    import tracemalloc

    recorder = Recorder(tmp_path, About("show", True, True), lossless=True)
    x, y = np.zeros(11, np.float32), np.zeros(5, np.float32)

    def put(start: int, n: int) -> None:
        for k in range(start, start + n):
            recorder.ring.put(
                (k * STEP_US, k, *[NONE] * 2, *[k] * 3, *[NONE] * 2, 0, 0, 0, 0, 15, 1, 0), x, y, y, None, None
            )
            recorder.pace()

    put(0, 6000)
    tracemalloc.start()
    put(6000, 6000)
    before = tracemalloc.get_traced_memory()[0]
    put(12_000, 18_000)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert recorder.stop() == []
    assert grown < 2 * Ring().size * ROW.itemsize  # a copy on its way to the disk
    assert (tmp_path / "show" / journal.ROWS).stat().st_size == 30_000 * ROW.itemsize


def test_figures_of_a_ledger_written_by_hand() -> None:
    ring = Ring()
    x, y = np.zeros(11, np.float32), np.zeros(5, np.float32)
    for k in range(100):
        t = 1_000_000_000 + k * 20_000_000
        sent = t + (k + 1) * 100_000
        ring.put(
            (k, k, NONE, t, t, t + 50_000, t + 80_000, sent, NONE, 1_000 * k, int(k == 50), 0, 0, 15, 1, 0),
            x,
            y,
            y,
            None,
            None,
        )
    tally = Tally()
    rows = ring.take()
    tally.add(rows[:30])
    tally.add(rows[30:])
    found = {e["name"]: e for e in tally.metrics({"source": "hand"})}
    spans = 0.1 * np.arange(1, 101)
    assert found["live.arrival_to_sent.p95"]["value"] == pytest.approx(np.percentile(spans, 95), rel=1e-5)
    assert found["live.arrival_to_sent.p99"]["pass"] is True and found["live.arrival_to_sent.p99"]["n"] == 100
    assert found["live.model.p50"]["value"] == pytest.approx(0.05) and found["live.compute.max"][
        "value"
    ] == pytest.approx(0.08)
    assert found["live.interval.sd"]["n"] == 99 and found["live.interval.sd"]["value"] == pytest.approx(0, abs=1e-5)
    assert found["live.missed"]["value"] == 1 and "live.sent_to_acked.p50" not in found
