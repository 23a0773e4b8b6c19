"""`choreo check` as a shell sees it: lines, JSON, exit codes, pipes, roots."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

DATA = Path(__file__).resolve().parents[2] / "examples" / "data"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(DATA, tmp_path / "data"))


def _spoil(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


def test_whole_is_silent(choreo: Any, folder: Path) -> None:
    done = choreo("check", folder)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_json_lists_every_file(choreo: Any, folder: Path) -> None:
    done = choreo("check", folder, "--json")
    records = json.loads(done.stdout)
    assert done.returncode == 0
    assert {Path(r["path"]) for r in records} == {p for p in folder.rglob("*") if p.is_file()}
    assert all(set(r) == {"path", "ok", "schema", "problems", "notes"} for r in records)
    assert [r["path"] for r in records] == sorted((r["path"] for r in records), key=os.fsencode)


@pytest.mark.parametrize("name", ["frames.parquet", "features.npz", "pairs.json", "music.flac", "weights.safetensors"])
def test_damage_is_one_line_and_exit_1(choreo: Any, folder: Path, name: str) -> None:
    _spoil(folder / name)
    done = choreo("check", folder / name)
    lines = done.stdout.decode().splitlines()
    assert (done.returncode, done.stderr, len(lines)) == (1, b"", 1)
    assert lines[0].startswith(f"{folder / name}: ")


def test_a_missing_path(choreo: Any, tmp_path: Path) -> None:
    done = choreo("check", tmp_path / "nothing")
    assert done.returncode == 66
    assert done.stderr.decode() == f"choreo check: no file or folder {tmp_path / 'nothing'}\n"


def test_an_inventory_through_a_pipe(choreo: Any, folder: Path) -> None:
    data = (folder / "inventory.json").read_bytes()
    done = choreo("check", input=data, cwd=folder)
    assert done.returncode == 0, done.stdout
    _spoil(folder / "poses.jsonl")
    done = choreo("check", "-", "--root", f"out={folder}", input=data)
    assert done.returncode == 1
    assert done.stdout.decode().startswith(f"{folder / 'poses.jsonl'}: its sha256 differs")
    done = choreo("check", input=data[:-20])
    assert done.returncode == 1 and done.stdout.startswith(b"stdin: ")
    empty = choreo("check", input=b"")
    assert empty.returncode == 65
    assert b"no manifest arrived" in empty.stderr


def test_what_discover_lists_is_there(choreo: Any, folder: Path) -> None:
    """Files, duplicates and folders of frames: every hash of the inventory is found again, and a flip in any is not."""
    (folder / "copy.wav").write_bytes((folder / "music.wav").read_bytes())
    inventory = choreo("discover", folder)
    assert json.loads(inventory.stdout)["count"] > 40, inventory.stderr
    assert choreo("check", input=inventory.stdout).returncode == 0
    _spoil(folder / "copy.wav")
    _spoil(sorted((folder / "openpose").iterdir())[3])
    done = choreo("check", input=inventory.stdout)
    bad = {line.split(": ")[0] for line in done.stdout.decode().splitlines()}
    assert done.returncode == 1
    assert {str(folder / "copy.wav"), str(folder / "openpose")} <= bad
    assert len(bad) <= 3, "the damaged frame itself may be named too"


def test_a_root_that_moved(choreo: Any, folder: Path, tmp_path: Path) -> None:
    from formats import manifest as m

    old = m.decode((folder / "inventory.json").read_bytes(), file=folder / "inventory.json")
    moved = m.Manifest(old.schema, old.created_by, old.entries, [m.Root("out", str(tmp_path / "gone"))])
    path = tmp_path / "inventory.json"
    path.write_bytes(m.encode(moved))
    done = choreo("check", path)
    assert done.returncode == 1
    assert (
        done.stdout.decode() == f"{path}: root out: no folder {tmp_path / 'gone'} (--root out=DIR says where it is)\n"
    )
    assert choreo("check", path, "--root", f"out={folder}").returncode == 0
    wrong = choreo("check", path, "--root", "r9=/tmp")
    assert wrong.returncode in (0, 1), "a root this manifest does not have may belong to another one"


def test_extra_files_are_remarks(choreo: Any, folder: Path) -> None:
    """In a folder whose manifest names its outputs, an unknown file is no failure."""
    (folder / "notes.txt").write_text("mine\n")
    os.symlink("/etc/passwd", folder / "link")
    os.mkfifo(folder / "pipe")
    done = choreo("check", folder, "--json", timeout=30)
    notes = {Path(r["path"]).name: r["notes"] for r in json.loads(done.stdout) if r["notes"]}
    assert done.returncode == 0
    assert notes["notes.txt"] == ["no manifest names it"]
    assert notes["link"] == ["a link, not followed"]
    assert notes["pipe"] == ["not a regular file"]


def test_a_path_that_leaves_its_root_is_refused(choreo: Any, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    (folder / "SHA256SUMS").write_text(f"{'0' * 64}  ../secret\n")
    done = choreo("check", folder)
    assert done.returncode == 1
    assert "could leave its root" in done.stdout.decode()


def test_a_run_record_of_another_manifest(choreo: Any, tmp_path: Path) -> None:
    from choreo_cli import outputs, runtime

    def write(where: Path, seed: int) -> None:
        made = runtime.provenance("synth sessions", {}, [], seed=seed)
        with outputs.output_folder(where, "metrics", made) as out:
            out.write("data", "a.bin", b"1")
            out.finish([], 0, ["choreo"])

    write(tmp_path / "a", 1)
    write(tmp_path / "b", 2)
    assert choreo("check", tmp_path / "a").returncode == 0
    shutil.copy(tmp_path / "b" / "metrics.run.json", tmp_path / "a" / "metrics.run.json")
    done = choreo("check", tmp_path / "a")
    assert done.returncode == 1
    assert b"metrics.run.json: it was written for another metrics.json" in done.stdout


def _every_flip_shows(out: Path) -> None:
    from choreo_cli.report.verify_folder import Inspector

    for path in sorted(p for p in out.rglob("*") if p.is_file() and p.name != ".choreo.lock"):
        data = path.read_bytes()
        _spoil(path)
        inspector = Inspector()
        inspector.path(out)
        bad = [v.path for v in inspector.verdicts() if not v.ok]
        path.write_bytes(data)
        assert str(path) in bad, path


def test_what_synth_and_pair_write_is_whole_and_every_flip_shows(choreo: Any, tmp_path: Path) -> None:
    out, paired = tmp_path / "set", tmp_path / "paired"
    made = choreo("synth", "sessions", "--sessions", "1", "--minutes", "0.5", "-o", out)
    assert made.returncode == 0, made.stderr
    inventory = choreo("discover", out)
    done = choreo("pair", "-o", paired, input=inventory.stdout)
    assert done.returncode in (0, 3), done.stderr
    for folder in (out, paired):
        whole = choreo("check", folder)
        assert (whole.returncode, whole.stdout) == (0, b"")
        _every_flip_shows(folder)
