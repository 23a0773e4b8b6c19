"""The cache never changes an answer: whatever it holds, the inventory is the one a fresh look gives."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from choreo_cli.sessions import cache as caching
from choreo_cli.sessions.discover import DiscoverOptions, Inventory, discover

OLD = 1_700_000_000_000_000_000


def beats(*times: float) -> bytes:
    return "".join(f"{t:.2f}\n" for t in times).encode()


def put(path: Path, data: bytes, mtime_ns: int = OLD) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    os.utime(path, ns=(mtime_ns, mtime_ns))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    top = tmp_path / "tree"
    for k in range(30):
        put(top / f"d{k % 3}" / f"{k:02d}.beats", beats(0.5, 1.0, 1.5 + k / 100))
    put(top / "d0" / "broken.wav", b"RIFFxxxx")
    return top


def look(tree: Path, cache: Path | None, **options: Any) -> Inventory:
    return discover([tree], DiscoverOptions(**options), cache)


def same(a: Inventory, b: Inventory) -> bool:
    return a.entries == b.entries


def test_a_second_run_opens_nothing(tree: Path, tmp_path: Path) -> None:
    first = look(tree, tmp_path / "c")
    again = look(tree, tmp_path / "c")
    assert first.looked == first.total == 31 and again.looked == 0 and same(first, again)
    assert look(tree, tmp_path / "c", verify=True).looked == 31


@pytest.mark.parametrize("mtime_ns", [OLD - 10**12, OLD, OLD + 1])
def test_changed_content_of_equal_size_is_seen(tree: Path, tmp_path: Path, mtime_ns: int) -> None:
    """Also when the time goes backwards or is put back: the change time cannot be."""
    look(tree, tmp_path / "c")
    time.sleep(0.02)
    put(tree / "d1" / "01.beats", beats(0.7, 1.0, 1.51), mtime_ns)
    found = look(tree, tmp_path / "c")
    assert found.looked == 1 and same(found, look(tree, None))


def test_new_moved_and_deleted_files(tree: Path, tmp_path: Path) -> None:
    look(tree, tmp_path / "c")
    put(tree / "d2" / "new.beats", beats(3, 4, 5))
    (tree / "d0" / "00.beats").rename(tree / "d1" / "00.beats")
    (tree / "d0" / "03.beats").unlink()
    found = look(tree, tmp_path / "c")
    assert found.looked == 2 and same(found, look(tree, None))
    assert look(tree, tmp_path / "c").looked == 0


def test_young_files_are_not_trusted(tree: Path, tmp_path: Path) -> None:
    now = time.time_ns()
    put(tree / "d0" / "young.beats", beats(1, 2, 3), now)
    put(tree / "d0" / "future.beats", beats(1, 2, 4), now + 10**15)
    look(tree, tmp_path / "c")
    assert look(tree, tmp_path / "c").looked == 2


def test_a_damaged_row_is_only_looked_at_again(tree: Path, tmp_path: Path) -> None:
    cache = tmp_path / "c"
    first = look(tree, cache)
    with sqlite3.connect(cache / caching.NAME) as db:
        (blob,) = db.execute("SELECT files FROM folders WHERE CAST(folder AS TEXT) LIKE '%d1'").fetchone()
        flipped = blob[:100] + bytes([blob[100] ^ 1]) + blob[101:]
        for k, bad in enumerate((blob[: len(blob) // 2], b"", b"\xc1junk", bytes(len(blob)), flipped)):
            db.execute("UPDATE folders SET files = ? WHERE CAST(folder AS TEXT) LIKE '%d1'", (bad,))
            db.commit()
            found = look(tree, cache)
            assert found.looked == 10 and same(found, first) and not found.notes, k


@pytest.mark.parametrize("content", [b"not a database at all" * 100, b"", b"SQLite format 3\0" + bytes(200)])
def test_a_cache_that_is_none_is_said_once(tree: Path, tmp_path: Path, content: bytes) -> None:
    cache = tmp_path / "c"
    cache.mkdir()
    (cache / caching.NAME).write_bytes(content)
    found = look(tree, cache)
    assert same(found, look(tree, None)) and len(found.notes) == bool(content)


def test_a_cache_folder_that_is_a_file(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "c").write_text("x")
    found = look(tree, tmp_path / "c")
    assert same(found, look(tree, None)) and "cache is not used" in found.notes[0]


def test_a_locked_cache_is_done_without(tree: Path, tmp_path: Path) -> None:
    cache = tmp_path / "c"
    look(tree, cache)
    put(tree / "d0" / "new.beats", beats(3, 4, 5))
    db = sqlite3.connect(cache / caching.NAME, isolation_level=None)
    db.execute("BEGIN EXCLUSIVE")
    try:
        found = look(tree, cache)
    finally:
        db.close()
    assert same(found, look(tree, None)) and "locked" in " ".join(found.notes)


def test_runs_at_once_agree(tree: Path, tmp_path: Path) -> None:
    found: list[Inventory] = []
    threads = [threading.Thread(target=lambda: found.append(look(tree, tmp_path / "c"))) for _ in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(found) == 6 and all(same(f, found[0]) and not f.notes for f in found)


def test_another_version_is_not_believed(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    look(tree, tmp_path / "c")
    monkeypatch.setattr(caching, "READER_VERSION", "another")
    assert look(tree, tmp_path / "c").looked == 31


def test_frames_of_a_folder(tmp_path: Path) -> None:
    """A folder of frames is one recording, from the cache as from the disk, also when one frame changes."""
    top = tmp_path / "tree"
    frame = '{"version":1.3,"people":[{"pose_keypoints_2d":[%s]}]}'
    for k in range(12):
        put(top / "take" / f"{k:03d}.json", (frame % ",".join([f"{k}.5,2.5,0.9"] * 25)).encode())
    first = look(top, tmp_path / "c")
    (only,) = [e for e in first.entries if e["kind"] == "pose"]
    assert (only["path"], only["n"], only["meta"]["files"]) == ("take", 12, 12) and len(first.entries) == 1
    assert same(look(top, tmp_path / "c"), first)
    put(top / "take" / "003.json", (frame % ",".join(["9.5,2.5,0.9"] * 25)).encode())
    changed = look(top, tmp_path / "c")
    assert changed.looked == 1 and changed.entries[0]["sha256"] != only["sha256"] and same(changed, look(top, None))
    known = look(top, tmp_path / "c", fps=24).entries[0]
    assert (known["rate_num"], known["rate_den"], known["duration_us"], known["meta"]["fps"]) == (24, 1, 500_000, 24)


def test_processes_change_nothing(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from choreo_cli.sessions import survey

    monkeypatch.setattr(survey, "POOL_FROM_S", 0.0)
    monkeypatch.setattr(survey, "CHUNK", 7)
    assert same(look(tree, None, jobs=3), look(tree, None, jobs=1))
