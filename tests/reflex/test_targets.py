"""Recorded faders: the four files, zero-order hold, and one-line errors that name file, row and field."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from choreo_cli.dataset.frameset import FrameSession, FrameSet
from choreo_cli.dataset.splits import Item
from choreo_cli.errors import DataError, NoInputError, UsageError
from choreo_cli.reflex.targets import by_example, by_rule, target_store
from choreo_cli.reflex.teacher import teach
from formats import targets
from formats.columns import CONTROL_NAMES, CONTROLS
from formats.errors import FormatError
from formats.tables import write_table

STEP = 20_000


def frames(*rows: int, gap_at: int | None = None) -> FrameSet:
    """Sessions s0, s1... of so many rows; `gap_at` cuts the first one."""
    total, sessions, times, at = sum(rows), [], [], 0
    for k, n in enumerate(rows):
        split = ("train", "val", "test", "none")[min(k, 3)]
        sessions.append(FrameSession(f"s{k}", at, n, Item(f"s{k}", f"s{k}", f"s{k}"), split, f"s{k}", True))
        t = STEP * np.arange(n, dtype=np.int64)
        if gap_at is not None and k == 0:
            t[gap_at:] += 5 * STEP
        times.append(t)
        at += n
    rng = np.random.default_rng(0)
    x = rng.uniform(0.1, 0.9, (total, 11)).astype(np.float32)
    source = {"role": "frames", "sha256": "0" * 64, "schema": "choreo.frames/1"}
    return FrameSet(
        x, np.ones((total, 4), bool), np.concatenate(times), tuple(sessions), source, Path(), "frames.parquet"
    )


def midi(path: Path, events: list[tuple[int, int, int]], tempo: list[tuple[int, int]] = (), end: int = 4800) -> Path:
    """(tick, cc, value) events on one track and (tick, us per quarter) changes on another; 480 ticks a quarter."""
    import mido

    found = mido.MidiFile(type=1, ticks_per_beat=480)
    for kind, rows in (("tempo", list(tempo)), ("cc", list(events))):
        track, at = mido.MidiTrack(), 0
        for tick, *rest in sorted(rows, key=lambda r: r[0]):
            if kind == "tempo":
                track.append(mido.MetaMessage("set_tempo", tempo=rest[0], time=tick - at))
            else:
                track.append(mido.Message("control_change", channel=3, control=rest[0], value=rest[1], time=tick - at))
            at = tick
        track.append(mido.MetaMessage("end_of_track", time=max(0, end - at)))
        found.tracks.append(track)
    found.save(path)
    return path


def test_a_midi_file_follows_its_tempo_map(tmp_path: Path) -> None:
    file = midi(
        tmp_path / "f.mid", [(0, 21, 0), (480, 21, 127), (960, 24, 64), (960, 30, 5)], [(0, 500_000), (480, 1_000_000)]
    )
    found = targets.read(file)[None]
    assert found.names == ("density", "fx_send")
    assert found.events["density"][0].tolist() == [0, 500_000]
    assert found.events["fx_send"][0].tolist() == [1_500_000]
    assert found.events["fx_send"][1] == pytest.approx([64 / 127])
    assert found.end_us == 500_000 + 9 * 1_000_000


def test_zero_order_hold_and_the_ends_of_the_recording(tmp_path: Path) -> None:
    file = midi(tmp_path / "f.mid", [(480, 21, 127), (960, 21, 0)], end=1440)
    found = targets.read(file)[None]
    t = np.array([0, 499_999, 500_000, 999_999, 1_000_000, 1_500_000, 1_500_001])
    density = found.at(t)[:, 1]
    np.testing.assert_array_equal(density, np.array([np.nan, np.nan, 1, 1, 0, 0, np.nan], np.float32))
    assert np.isnan(found.at(t)[:, [0, 2, 3, 4]]).all()
    np.testing.assert_array_equal(found.at(t + 70_000, offset_us=70_000)[:, 1], density)


def test_csv_and_json_lines_and_parquet_say_the_same(tmp_path: Path) -> None:
    csv = tmp_path / "f.csv"
    csv.write_text("# moved by hand\nt_s;density;brightness;note\n0.0;0.5;;1\n0.02;;0.25;2\n0.04;1;0.75;3\n")
    log = tmp_path / "f.jsonl"
    events = [(0, "density", 0.5), (20_000, "brightness", 0.25), (40_000, "density", 1), (40_000, "brightness", 0.75)]
    rows = [{"t_us": t, "address": f"/choreo/{a}", "value": v} for t, a, v in events]
    log.write_text("\n".join(json.dumps(r) for r in [*rows, {"t_us": 40_000, "address": "/other/x", "value": "no"}]))
    t = np.arange(0, 60_000, 10_000)
    a, b = (targets.read(f)[None].at(t) for f in (csv, log))
    np.testing.assert_array_equal(a, b)
    assert a[:, 1].tolist()[:5] == [0.5, 0.5, 0.5, 0.5, 1.0] and np.isnan(a[:2, 3]).all() and np.isnan(a[5]).all()
    table = tmp_path / "s0_controls.parquet"
    n = 3
    columns = {
        "session_id": ["s0"] * n, "t_us": STEP * np.arange(n, dtype=np.int64),
        **{c: np.full(n, 0.5, np.float32) for c in CONTROL_NAMES},
        "held": np.array([False, True, False]), "synthetic": np.ones(n, bool),
    }  # fmt: skip
    columns["density"] = np.array([0.5, 0.9, 1.0], np.float32)
    write_table(table, CONTROLS, columns)
    assert targets.read(table)["s0"].at(t)[:5, 1].tolist() == [0.5, 0.5, 0.5, 0.5, 1.0]


BAD = {
    "no time column": ("f.csv", "seconds,density\n0,1\n", "no time column"),
    "outside": ("f.csv", "t_s,density\n0,0.5\n1,1.5\n", "1.5 is outside 0..1 (%s, row 3, density)"),
    "back": ("f.csv", "t_s,density\n1,0.5\n0,0.5\n", "time goes back (%s, row 3, t_s)"),
    "text": ("f.csv", "t_s,density\n0,loud\n", "loud"),
    "columns": ("f.csv", "t_s,density\n0\n", "1 columns, the header has 2 (%s, row 2)"),
    "twice": ("f.csv", "t_s,density,density\n0,1,1\n", "a column comes twice (%s, row 1, density)"),
    "nothing moved": ("f.csv", "t_s,density\n0,\n", "no control is moved in it"),
    "empty": ("f.csv", "", "no time column"),
    "address": ("f.jsonl", '{"t_us":0,"value":1}\n', "a line needs an address (%s, row 1, address)"),
    "no time": ("f.jsonl", '{"address":"/choreo/density","value":1}\n', "a line needs t_us or t_s"),
    "bool": ("f.jsonl", '{"t_s":0,"address":"/choreo/density","value":true}\n', "True is outside 0..1"),
    "nan": ("f.jsonl", '{"t_s":0,"address":"/choreo/density","value":NaN}\n', "NaN is not JSON"),
    "midi": ("f.mid", "MThd\x00\x00\x00\x06garbage", "MIDI"),
    "parquet": ("f.parquet", "PAR1 and nothing else", "f.parquet"),
}


@pytest.mark.parametrize("what", BAD)
def test_one_line_errors(what: str, tmp_path: Path) -> None:
    name, text, want = BAD[what]
    file = tmp_path / name
    file.write_text(text)
    with pytest.raises(FormatError) as e:
        targets.read(file)
    message = str(e.value)
    assert (want % file if "%s" in want else want) in message or (what == "midi" and "file" in message), message
    assert "\n" not in message and str(file) in message


def csv_of(path: Path, rows: int, name: str = "density", start_s: float = 0.0) -> Path:
    lines = [f"{start_s + k * 0.02:.2f},{0.5 + 0.4 * np.sin(k / 20):.4f}" for k in range(rows)]
    path.write_text(f"t_s,{name}\n" + "\n".join(lines) + "\n")
    return path


def test_moved_controls_are_learned_and_the_others_fall_back_to_the_rule(tmp_path: Path) -> None:
    found = frames(1000)
    taught = by_example(found, csv_of(tmp_path / "f.csv", 900))
    assert taught.learned == ("density",) and taught.sources["tension"] == "rule"
    assert any("tempo_scale, tension, brightness, fx_send: learned from the rule" in n for n in taught.notes)
    y = taught.of(found, found.sessions[0])
    rule = teach(found.x, found.mask, found.t_us)
    np.testing.assert_array_equal(y[:, [0, 2, 3, 4]], rule[:, [0, 2, 3, 4]])
    assert np.isfinite(y[:900, 1]).all() and np.isnan(y[900:, 1]).all()
    assert y[10, 1] == pytest.approx(0.5 + 0.4 * np.sin(0.5), abs=1e-4)


def test_one_session_is_cut_in_time_and_says_so(tmp_path: Path) -> None:
    taught = by_example(frames(1000, gap_at=300), csv_of(tmp_path / "f.csv", 900))
    # The gap shifts the rows behind it by 5 frames on the clock: 895 rows lie inside the recording.
    assert taught.train.tolist() == [[0, 300], [300, 716]] and taught.val.tolist() == [[716, 895]]
    assert taught.within and any("within the session" in n for n in taught.notes)


def test_a_folder_of_recordings_keeps_the_splits(tmp_path: Path) -> None:
    csv_of(tmp_path / "s0.csv", 500)
    csv_of(tmp_path / "s1.csv", 400, "tension")
    taught = by_example(frames(500, 500, 500), tmp_path)
    assert not taught.within and taught.train.tolist() == [[0, 500]] and taught.val.tolist() == [[500, 900]]
    assert taught.learned == ("density", "tension")
    # The session whose faders did not move a learned control has no target for it.
    found = frames(500, 500, 500)
    assert np.isnan(taught.of(found, found.sessions[1])[:, 1]).all()


def test_which_session_and_where(tmp_path: Path) -> None:
    file = csv_of(tmp_path / "f.csv", 400)
    with pytest.raises(UsageError, match=r"does not say which of 2 sessions.*targets_session"):
        by_example(frames(500, 500), file)
    assert by_example(frames(500, 500), file, session="s1").train.tolist() == [[500, 820]]
    with pytest.raises(UsageError, match="no session 'other'"):
        by_example(frames(500), file, session="other")
    with pytest.raises(NoInputError, match="no recorded controls"):
        by_example(frames(500), tmp_path / "none.mid")
    (tmp_path / "empty").mkdir()
    with pytest.raises(NoInputError, match=r"SESSION\.mid"):
        by_example(frames(500), tmp_path / "empty")


def test_a_recording_beside_the_frames_teaches_nothing(tmp_path: Path) -> None:
    file = csv_of(tmp_path / "f.csv", 400, start_s=100.0)
    with pytest.raises(DataError, match=r"share less than 5 s.*targets_offset_s"):
        by_example(frames(500), file)
    assert len(by_example(frames(500), file, offset_s=-100.0).train) == 1


def test_the_store_is_the_same_in_memory_and_on_disk() -> None:
    found = frames(700, 600, 300, gap_at=200)
    taught = by_rule(found)
    small, large = target_store(found, taught, 0), target_store(found, taught, 10**9)
    assert isinstance(small, np.memmap) and not isinstance(large, np.memmap)
    np.testing.assert_array_equal(small, large)
    assert np.isnan(large[1300:]).all() and np.isfinite(large[300:1300, 1]).all()


def test_a_part_of_a_session_has_the_targets_of_the_whole() -> None:
    found = frames(6000)
    taught = by_rule(found)
    whole = taught.of(found, found.sessions[0])
    np.testing.assert_array_equal(taught.of(found, found.sessions[0], 4000, 5000), whole[4000:5000])
