"""One flipped bit in any artefact is noticed, and its file is named (rows 8, 9 and 14)."""

from __future__ import annotations

import json
import random
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from mutator import flip_at

from choreo_cli.report.verify import check_file
from choreo_cli.report.verify_folder import Inspector
from formats.errors import FormatError
from tests.nightly import size

DATA = Path(__file__).resolve().parents[2] / "examples" / "data"
OURS = (
    "frames.parquet", "context.parquet", "poses.parquet", "windows.parquet", "features.npz", "weights.safetensors",
    "inventory.json", "pairs.json", "sessions.json", "metrics.json", "status.json", "packets.jsonl",
)  # fmt: skip
BITS = 2000


def _flips(name: str, folder: Path, bits: int) -> list[int]:
    """Bits whose flip `check` does not notice in a lone copy."""
    data = (DATA / name).read_bytes()
    path = folder / name
    path.write_bytes(data)
    assert check_file(path, name).problems == []
    rng = random.Random(name)
    total = len(data) * 8
    silent = []
    for bit in rng.sample(range(total), min(bits, total)):
        path.write_bytes(flip_at(data, bit))
        verdict = check_file(path, name, named=False)
        if verdict.ok:
            silent.append(bit)
    return silent


@pytest.mark.parametrize("name", OURS)
def test_a_flip_in_a_lone_file(name: str, tmp_path: Path) -> None:
    assert _flips(name, tmp_path, BITS if "metadata" not in name else 500) == []


@pytest.mark.slow
@pytest.mark.timeout(size(1800))
@pytest.mark.parametrize("name", OURS)
def test_many_flips_in_a_lone_file(name: str, tmp_path: Path) -> None:
    assert _flips(name, tmp_path, size(20_000)) == []


def test_a_flip_in_a_picture(tmp_path: Path) -> None:
    from choreo_cli.report.content import open_content
    from choreo_cli.report.plots import picture

    data = picture(open_content(DATA / "heart_rate.csv"))
    path = tmp_path / "a.png"
    rng = random.Random(1)
    for bit in rng.sample(range(len(data) * 8), 500):
        path.write_bytes(flip_at(data, bit))
        assert not check_file(path, "a.png", named=False).ok, bit


def _copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(DATA, tmp_path / "data"))


def test_the_examples_are_whole(choreo: Any) -> None:
    done = choreo("check", DATA)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_a_flip_in_every_file_of_a_folder(choreo: Any, tmp_path: Path) -> None:
    """Foreign files too: the folder's SHA256SUMS vouches for them. Every file is named."""
    folder = _copy(tmp_path)
    files = [p for p in sorted(folder.rglob("*")) if p.is_file() and p.name != "SHA256SUMS"]
    rng = random.Random(3)
    for path in files:
        data = path.read_bytes()
        path.write_bytes(flip_at(data, rng.randrange(len(data) * 8)))
    done = choreo("check", folder, "--json")
    assert done.returncode == 1
    bad = {r["path"] for r in json.loads(done.stdout) if not r["ok"]}
    assert bad == {str(p) for p in files}
    text = choreo("check", folder)
    assert text.returncode == 1
    assert all(any(line.startswith(f"{p}: ") for line in text.stdout.decode().splitlines()) for p in files)


def test_a_flip_in_the_list_itself(tmp_path: Path) -> None:
    folder = _copy(tmp_path)
    sums = folder / "SHA256SUMS"
    data = sums.read_bytes()
    rng = random.Random(5)
    for bit in rng.sample(range(len(data) * 8), 25):
        sums.write_bytes(flip_at(data, bit))
        inspector = Inspector()
        inspector.path(folder)
        assert any(not v.ok for v in inspector.verdicts()), bit


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    folder = _copy(tmp_path)
    (folder / "SHA256SUMS").unlink()
    (folder / "poses.jsonl").unlink()
    inspector = Inspector()
    inspector.path(folder)
    bad = {Path(v.path).name: v.problems for v in inspector.verdicts() if not v.ok}
    assert list(bad) == ["poses.jsonl"]
    assert "names it, but it is not there" in bad["poses.jsonl"][0]


def test_reading_without_a_manifest(tmp_path: Path) -> None:
    """The read path of tables: what comes back is what was written, or an error; never other data (row 9)."""
    from formats.columns import FRAMES
    from formats.tables import read_table

    data = (DATA / "frames.parquet").read_bytes()
    want = read_table(DATA / "frames.parquet", FRAMES).replace_schema_metadata(None)
    path, rng, refused = tmp_path / "frames.parquet", random.Random(2), 0
    for bit in rng.sample(range(len(data) * 8), BITS):
        path.write_bytes(flip_at(data, bit))
        try:
            got = read_table(path, FRAMES).replace_schema_metadata(None)
        except FormatError:
            refused += 1
            continue
        assert got.equals(want), bit
    print(f"{refused} of {BITS} refused")
    assert refused > 0.9 * BITS


def test_crc_and_schema_alone_are_not_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Why the digest is there: without it some flips in the footer lose rows in silence. A control that must fail."""
    from formats import tables
    from formats.columns import FRAMES

    monkeypatch.setattr(tables, "verify_open", lambda f, path: False)
    data = (DATA / "frames.parquet").read_bytes()
    want = tables.read_table(DATA / "frames.parquet", FRAMES).replace_schema_metadata(None)
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    path, silent = tmp_path / "frames.parquet", 0
    for bit in random.Random(2).sample(range(footer * 8, len(data) * 8), BITS):
        path.write_bytes(flip_at(data, bit))
        try:
            got = tables.read_table(path, FRAMES).replace_schema_metadata(None)
        except FormatError:
            continue
        silent += not got.equals(want)
    print(f"{silent} of {BITS} flips of the footer silent without the digest")
    assert silent > 0


@pytest.mark.parametrize("name", ["inventory.json", "pairs.json", "metrics.json", "status.json", "packets.jsonl"])
def test_a_cut_document(name: str, tmp_path: Path) -> None:
    data = (DATA / name).read_bytes()
    path = tmp_path / name
    cuts = range(len(data)) if len(data) < 3000 else random.Random(4).sample(range(len(data)), 1000)
    for n in cuts:
        path.write_bytes(data[:n])
        assert not check_file(path, name).ok, n


def test_hashing_is_fast(tmp_path: Path) -> None:
    """sha256 at 500 MB/s or more through the whole of check; a busy machine gets three times the time."""
    size = 128 * 2**20
    big = tmp_path / "big.bin"
    big.write_bytes(bytes(size))
    import hashlib

    (tmp_path / "SHA256SUMS").write_text(f"{hashlib.sha256(bytes(size)).hexdigest()}  big.bin\n")
    best = 9e9
    for _ in range(3):
        start = time.perf_counter()
        inspector = Inspector()
        inspector.path(tmp_path)
        best = min(best, time.perf_counter() - start)
        assert all(v.ok for v in inspector.verdicts())
    print(f"{size / 1e6 / best:.0f} MB/s")
    assert size / 1e6 / best > 500 / 3
