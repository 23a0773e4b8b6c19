"""The control map is taken anew when it is whole and right, and never before."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from choreo_cli.live.mapwatch import SETTLE, MapWatch
from formats import control_map
from formats.control_map import DEFAULT
from formats.errors import ConfigFileError

TEXT = (Path(__file__).resolve().parents[2] / "examples" / "control_map.yaml").read_text(encoding="utf-8")
FASTER = TEXT.replace("rate_per_s: 0.5", "rate_per_s: 0.7")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "control_map.yaml"
    file.write_text(TEXT)
    return file


def settle(watch: MapWatch) -> None:
    for _ in range(SETTLE):
        watch.poll()


def test_an_edit_comes_once_and_only_when_it_has_settled(path: Path) -> None:
    watch = MapWatch(path)
    settle(watch)
    assert watch.changed() is None and watch.fault is None
    path.write_text(FASTER)
    watch.poll()
    assert watch.changed() is None
    watch.poll()
    found = watch.changed()
    assert found is not None and found.tempo_scale.rate_per_s == 0.7
    settle(watch)
    assert watch.changed() is None and watch.reloads == 1


def test_the_newest_of_two_edits_wins(path: Path) -> None:
    watch = MapWatch(path)
    for rate in ("0.6", "0.7"):
        path.write_text(TEXT.replace("rate_per_s: 0.5", f"rate_per_s: {rate}"))
        settle(watch)
    found = watch.changed()
    assert found is not None and found.tempo_scale.rate_per_s == 0.7 and watch.changed() is None


def test_a_comment_or_a_touched_file_is_no_change(path: Path) -> None:
    watch = MapWatch(path, DEFAULT)
    path.write_text("# new\n" + TEXT)
    settle(watch)
    os.utime(path, ns=(1, 1))
    settle(watch)
    assert watch.changed() is None and watch.reloads == 0


def test_a_wrong_edit_keeps_the_map_and_names_the_line(path: Path) -> None:
    watch = MapWatch(path)
    path.write_text(FASTER.replace("neutral: 1.0", "neutrl: 1.0"))
    settle(watch)
    line = TEXT[: TEXT.index("neutral: 1.0")].count("\n") + 1
    assert watch.changed() is None
    assert watch.fault == f"{path}:{line}: unknown key 'neutrl' (did you mean: neutral?): the map of before stays"
    assert "\n" not in watch.fault
    path.write_text(FASTER)
    settle(watch)
    assert watch.fault is None and watch.changed() is not None


def test_going_back_to_what_is_in_force_takes_the_fault_away(path: Path) -> None:
    watch = MapWatch(path)
    path.write_text("density: {")
    settle(watch)
    assert watch.fault is not None
    path.write_text(TEXT)
    settle(watch)
    assert watch.fault is None and watch.changed() is None


def test_a_file_written_in_pieces_neither_faults_nor_loads_half_way(path: Path) -> None:
    """Every stage of truncate and write is seen by a poll; the last one is a valid map cut short (4.0 of 4.05)."""
    watch = MapWatch(path)
    final = TEXT.replace("rate_per_s: 10.0", "rate_per_s: 10.05").rstrip() + "5"
    control_map.loads(final[:-2])
    for cut in [0, 1, *range(97, len(final), 97), len(final) - 2, len(final) - 1]:
        path.write_text(final[:cut])
        watch.poll()
        assert watch.fault is None and watch.changed() is None
    path.write_text(final)
    settle(watch)
    assert watch.changed() == control_map.loads(final)


@pytest.mark.parametrize("how", ["gone", "folder", "binary", "large", "fifo"])
def test_a_file_that_is_none_is_one_line_and_comes_back(path: Path, how: str) -> None:
    watch = MapWatch(path)
    path.unlink()
    if how == "folder":
        path.mkdir()
    elif how == "binary":
        path.write_bytes(b"\xff\x00\xfe" * 9)
    elif how == "large":
        path.write_bytes(b"#" * (control_map.MAX_BYTES + 1))
    elif how == "fifo":
        os.mkfifo(path)
    watch.poll()
    assert watch.fault is None, "an editor that renames leaves no file for a moment"
    watch.poll()
    assert watch.fault is not None and str(path) in watch.fault and "\n" not in watch.fault
    assert watch.fault.count(str(path)) == 1
    path.rmdir() if how == "folder" else path.unlink(missing_ok=True)
    path.write_text(FASTER)
    settle(watch)
    assert watch.fault is None and watch.changed() is not None


def test_a_rename_over_the_file_is_an_edit(path: Path) -> None:
    watch = MapWatch(path)
    other = path.with_name("new")
    other.write_text(FASTER)
    other.replace(path)
    settle(watch)
    assert watch.changed() is not None


def test_without_a_map_in_force_the_file_must_be_right(path: Path) -> None:
    path.write_text("nonsense: 1")
    with pytest.raises(ConfigFileError, match=rf"{path}:1: "):
        MapWatch(path)


def test_the_thread_ends_and_the_loop_never_waits_for_it(path: Path) -> None:
    before = threading.active_count()
    watch = MapWatch(path)
    watch.start()
    watch.start()
    assert threading.active_count() == before + 1
    with watch._lock:  # while the thread holds it the loop goes on without
        watch._fresh = DEFAULT
        assert watch.changed() is None
    assert watch.changed() == DEFAULT
    watch.close()
    watch.close()
    assert threading.active_count() == before
