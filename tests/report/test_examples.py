"""`examples/data` is what its generator makes, and every file in it is recognised."""

from __future__ import annotations

import filecmp
from pathlib import Path

import make_examples
import numpy as np

DATA = Path(__file__).resolve().parents[2] / "examples" / "data"
# Their bytes name the version of a library or depend on the platform's arithmetic; then values have to agree.
BY_VALUE = {".parquet", ".npz", ".wav", ".flac", ".safetensors"}


def test_the_generator_makes_them(tmp_path: Path) -> None:
    make_examples.main(tmp_path)
    names = sorted(p.relative_to(DATA).as_posix() for p in DATA.rglob("*") if p.is_file())
    assert names == sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file())
    differ = [n for n in names if not filecmp.cmp(DATA / n, tmp_path / n, shallow=False)]
    if not differ:
        return
    data = [n for n in differ if Path(n).suffix in BY_VALUE]
    assert data, differ
    for name in data:
        _equal_values(DATA / name, tmp_path / name)
    # What names the digest of such a file differs with it, and nothing else may.
    assert set(differ) - set(data) <= {
        "SHA256SUMS",
        "inventory.json",
        "motions.json",
        "pairs.json",
        "sessions.json",
        "videos.json",
    }


def _equal_values(a: Path, b: Path) -> None:
    from choreo_cli.report.content import open_content
    from choreo_cli.report.summary import of_signal

    for x, y in zip(open_content(a).signals, open_content(b).signals, strict=True):
        left, right = of_signal(x), of_signal(y)
        assert left.keys() == right.keys()
        for key in ("n", "missing", "min", "median", "max"):
            if isinstance(left.get(key), float):
                np.testing.assert_allclose(left[key], right[key], rtol=1e-4, atol=1e-5, err_msg=f"{a.name} {x.name}")


def test_two_runs_are_equal(tmp_path: Path) -> None:
    make_examples.main(tmp_path / "a")
    make_examples.main(tmp_path / "b")
    names = [p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*") if p.is_file()]
    assert [n for n in names if (tmp_path / "a" / n).read_bytes() != (tmp_path / "b" / n).read_bytes()] == []


def test_every_kind_is_there() -> None:
    """One file of every table, every manifest and every foreign reader that writes the same bytes twice."""
    from choreo_cli.report.recognise import readers, recognise, tables
    from formats import manifest
    from formats.foreign.source import Source

    found = {}
    for path in sorted(DATA.rglob("*")):
        if path.is_file():
            kind = recognise(Source.of(path))
            found[path.name] = kind.reader.format if kind.reader else kind.family
    formats = set(found.values())
    assert {"manifest", "sealed", "packets", "npz", "tensors", "control_map", "parquet", "sums"} <= formats
    assert {p.stem for p in DATA.glob("*.parquet")} == {s.split("/")[0].removeprefix("choreo.") for s in tables()}
    assert {f"choreo.{p.stem}/1" for p in DATA.glob("*.json")} >= set(manifest.ENTRY_TABLES)
    read = {r.format for r in readers() if r.read is not None and r.kind not in ("video",)}
    missing = read - formats - {"ogg", "opus", "mp3", "aiff", "m4a", "aac"}  # lossy, or of the optional extra
    assert missing == set()


def test_they_are_small() -> None:
    sizes = {p.name: p.stat().st_size for p in DATA.rglob("*") if p.is_file()}
    assert max(sizes.values()) < 128 * 1024
    assert sum(sizes.values()) < 1024 * 1024
