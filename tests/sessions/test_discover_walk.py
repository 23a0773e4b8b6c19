"""What discover meets on a disk: links, pipes, closed files, odd names, roots in roots."""

from __future__ import annotations

import errno
import os
import socket
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from choreo_cli.errors import NoInputError
from choreo_cli.sessions import sniff
from choreo_cli.sessions.discover import DiscoverOptions, Inventory, discover
from formats import manifest
from formats.columns import RECORDING

BEATS = b"0.5\n1.0\n1.5\n2.0\n"


def find(*paths: Path, **options: Any) -> Inventory:
    found = discover(paths, DiscoverOptions(**options))
    for row, e in enumerate(found.entries):
        manifest.check_entry(e, RECORDING, "entries", row)
    manifest.encode(manifest.Manifest("choreo.inventory/1", {}, found.entries))
    assert found.entries == sorted(found.entries, key=lambda e: (e["root"], e["path"].encode()))
    assert len({e["id"] for e in found.entries}) == len(found.entries)
    return found


def by_path(found: Inventory) -> dict[str, dict[str, Any]]:
    return {e["path"]: e for e in found.entries}


def test_links_are_listed_and_never_followed(tmp_path: Path) -> None:
    top, outside = tmp_path / "top", tmp_path / "outside"
    (top / "in").mkdir(parents=True)
    outside.mkdir()
    (outside / "secret.beats").write_bytes(BEATS)
    (top / "in" / "a.beats").write_bytes(BEATS)
    (top / "folder").symlink_to(outside)
    (top / "file.beats").symlink_to(outside / "secret.beats")
    (top / "up").symlink_to("..")
    (top / "loop").symlink_to("loop")
    (top / "again").symlink_to("in")
    (top / "gone").symlink_to("nowhere")
    e = by_path(find(top))
    assert not any("secret" in p for p in e)
    for name in ("folder", "file.beats", "up"):
        assert e[name]["reason"] == "a link that leaves the root is not followed"
    assert e["again"]["reason"] is None and e["again"]["format"] == "link"
    assert e["gone"]["reason"] == "a link that leads nowhere"
    assert e["loop"]["format"] == "link"
    assert [p for p, x in e.items() if x["kind"] == "beats"] == ["in/a.beats"]


def test_a_path_given_as_a_link_is_meant(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.beats").write_bytes(BEATS)
    (tmp_path / "link").symlink_to("real")
    assert "a.beats" in by_path(find(tmp_path / "link"))


@pytest.mark.timeout(20)
def test_pipes_and_sockets_do_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "poses.jsonl")
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(str(tmp_path / "sock"))
        found = find(tmp_path)
    e = by_path(found)
    assert e["poses.jsonl"]["format"] == "fifo" and e["sock"]["format"] == "socket"
    assert not found.skipped and found.special == {"FIFO": 1, "socket": 1}


@pytest.mark.timeout(20)
def test_a_file_that_becomes_a_pipe_or_a_link_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.wav")
    sha, row = sniff.look(str(tmp_path), "a.wav", 1000)
    assert sha is None and row[11] == "not a regular file any more"
    (tmp_path / "b.wav").symlink_to("/etc/passwd")
    sha, row = sniff.look(str(tmp_path), "b.wav", 1000)
    assert sha is None and "link" in row[11]


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO])
def test_what_cannot_be_read_is_an_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    (tmp_path / "shut.wav").write_bytes(b"RIFF")
    (tmp_path / "open.beats").write_bytes(BEATS)
    opens = os.open

    def refuse(path: Any, *args: Any, **kept: Any) -> int:
        if str(path).endswith("shut.wav"):
            raise OSError(code, os.strerror(code), path)
        return opens(path, *args, **kept)

    monkeypatch.setattr(os, "open", refuse)
    e = by_path(find(tmp_path))
    assert e["shut.wav"]["reason"].startswith("cannot be read: ") and e["shut.wav"]["sha256"] is None
    assert e["open.beats"]["reason"] is None


def test_a_closed_folder_is_an_entry(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may list every folder")
    (tmp_path / "shut").mkdir(mode=0)
    try:
        assert "permission denied" in by_path(find(tmp_path))["shut"]["reason"]
    finally:
        (tmp_path / "shut").chmod(0o700)


def test_odd_names(tmp_path: Path) -> None:
    composed, split = "caf\u00e9.beats", unicodedata.normalize("NFD", "cafe\u0301 2.beats")
    names = [b"new\nline.beats", b"bad\xff.beats", b"-rf.beats", b" blank .beats", b"tab\t.beats", b'quo"te.beats',
             composed.encode(), split.encode(), "\U0001f483.beats".encode()]  # fmt: skip
    for k, name in enumerate(names):
        with open(os.fsencode(tmp_path) + b"/" + name, "wb") as f:
            f.write(BEATS + f"{3 + k}.5\n".encode())
    os.mkdir(os.fsencode(tmp_path) + b"/dir\xfe")
    with open(os.fsencode(tmp_path) + b"/dir\xfe/a.beats", "wb") as f:
        f.write(BEATS)
    e = by_path(find(tmp_path))
    assert len(e) == len(names) + 1
    for name in names:
        if b"\xff" not in name:
            assert e[name.decode()]["reason"] is None, name
    for path in ("bad\\xff.beats", "dir\\xfe/a.beats"):
        assert "not UTF-8" in e[path]["reason"] and e[path]["sha256"] is None


def test_empty_files(tmp_path: Path) -> None:
    for name in ("a.wav", "b.json", "c.txt", "d.bvh", "tags.csv", ".gitkeep"):
        (tmp_path / name).write_bytes(b"")
    e = by_path(find(tmp_path))
    assert {p for p, x in e.items() if x["reason"]} == {"a.wav", "b.json", "d.bvh"}
    assert not any("duplicate_of" in x["meta"] for x in e.values())


def test_left_alone_is_counted_once(tmp_path: Path) -> None:
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / "__MACOSX" / "a.wav").write_bytes(b"RIFF")
    for name in (".DS_Store", "._a.wav", ".song.mp3.icloud", "._b.wav"):
        (tmp_path / name).write_bytes(b"\0" * 64)
    with open(tmp_path / "stub.mp3", "wb") as f:
        f.truncate(10_000_000)  # a size and no blocks: the content lies in the cloud
    found = find(tmp_path)
    assert len(found.entries) == 1
    (only,) = found.entries
    assert only["format"] == "ignored" and only["n"] == 6 and only["reason"] is None
    assert sum(only["meta"]["counts"].values()) == found.ignored.total() == 6


def test_roots(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "c").mkdir()
    for path in ("a/1.beats", "a/b/2.beats", "c/3.beats", "c/4.beats"):
        (tmp_path / path).write_bytes(BEATS + path.encode()[2:3] + b"0\n")
    found = find(
        tmp_path / "a" / "b", tmp_path / "a", tmp_path / "a", tmp_path / "c" / "3.beats", tmp_path / "a/b/2.beats"
    )
    assert found.roots == {"r0": tmp_path / "a", "r1": tmp_path / "c"}
    assert [(e["root"], e["path"]) for e in found.entries] == [
        ("r0", "1.beats"),
        ("r0", "b/2.beats"),
        ("r1", "3.beats"),
    ]
    for missing in (tmp_path / "no", tmp_path / "c/3.beats/x"):
        with pytest.raises(NoInputError):
            find(missing)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(NoInputError, match="not a file or a folder"):
        find(tmp_path / "fifo")


def test_equal_content_has_distinct_ids(tmp_path: Path) -> None:
    for name in ("b.beats", "a.beats", "c.beats"):
        (tmp_path / name).write_bytes(BEATS)
    e = by_path(find(tmp_path))
    base = e["a.beats"]["id"]
    assert [e[n]["id"] for n in ("b.beats", "c.beats")] == [f"{base}.2", f"{base}.3"]
    assert e["b.beats"]["meta"]["duplicate_of"] == e["c.beats"]["meta"]["duplicate_of"] == "a.beats"
    assert "duplicate_of" not in e["a.beats"]["meta"]


def test_memory_and_reader_faults_become_reasons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    from formats.foreign import registry

    (tmp_path / "a.beats").write_bytes(BEATS)
    (tmp_path / "n.txt").write_bytes(b"words")
    readers = registry.load()
    for error, said in ((MemoryError(), "not enough memory"), (KeyError("x"), "reader failed: KeyError")):

        def fail(_: Any, error: BaseException = error) -> Any:
            raise error

        broken = tuple(replace(r, facts=fail) if r.format == "beat-text" else r for r in readers)
        sniff._candidates.cache_clear()
        monkeypatch.setattr(registry, "load", lambda broken=broken: broken)
        e = by_path(find(tmp_path))
        assert said in e["a.beats"]["reason"] and e["n.txt"]["reason"] is None
    sniff._candidates.cache_clear()
