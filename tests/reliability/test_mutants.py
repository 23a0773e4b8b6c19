"""No damaged file crashes a reader, hangs it, eats its memory or makes it say anything but its own error (row 10)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from mutator import mutants
from readers_under_fire import Tally, campaign

from tests.nightly import size

TOP = Path(__file__).resolve().parents[2]
DATA = TOP / "examples" / "data"
TEXT = {".json", ".jsonl", ".csv", ".bvh", ".xml", ".m3u8", ".cue", ".txt", ".ssc", ".yaml", ""}


def seeds() -> list[tuple[Path, bytes, tuple[str, ...]]]:
    """Every example, and the formats of the readers that claim it; two lossy ones made here, whose bytes vary."""
    from choreo_cli.report.recognise import readers
    from formats.foreign.source import Source

    files = [p for p in sorted(DATA.rglob("*")) if p.is_file() and p.name != "SHA256SUMS"]
    found = []
    for path in files:
        source = Source.of(path)
        claimed = [r.format for r in readers() if r.sniff(source.head, source.name, source.size)]
        found.append((path, path.read_bytes(), tuple(claimed[:2])))
    return found + lossy()


def lossy() -> list[tuple[Path, bytes, tuple[str, ...]]]:
    import io

    import soundfile

    samples, rate = soundfile.read(DATA / "music.wav", dtype="float32")
    found = []
    for name, kind, subtype in (("music.ogg", "OGG", "VORBIS"), ("music.mp3", "MP3", "MPEG_LAYER_III")):
        out = io.BytesIO()
        soundfile.write(out, samples, rate, format=kind, subtype=subtype)
        found.append((Path(name), out.getvalue(), (kind.lower(),)))
    return found


def files(folder: Path, each: int, seed: int) -> Iterator[tuple[str, Path, Sequence[str]]]:
    for original, data, formats in seeds():
        text = original.suffix in TEXT
        for name, mutant in mutants(data, each, seed, text=text):
            path = folder / original.name
            path.write_bytes(mutant)
            yield f"{original.name} {name}", path, formats


def _assert_calm(tally: Tally) -> None:
    print(tally.summary())
    assert tally.crashes == []
    assert tally.hangs == []
    assert tally.errors == [], f"{len(tally.errors)} escaped: {tally.errors[0][0]}\n{tally.errors[0][1]}"
    assert tally.hungriest[0] < 512, tally.hungriest


def test_mutants(tmp_path: Path) -> None:
    n = len(seeds())
    tally = campaign(files(tmp_path, max(1, 1500 // n), seed=1))
    assert tally.n >= 1300
    _assert_calm(tally)
    assert tally.slowest[0] < 2.0 * 3, "three times the budget: the machine may be busy"


@pytest.mark.slow
@pytest.mark.timeout(size(1800))
def test_many_mutants(tmp_path: Path) -> None:
    tally = campaign(files(tmp_path, size(12_000) // len(seeds()), seed=2))
    assert tally.n >= 10_000
    _assert_calm(tally)


def test_the_harness_notices(tmp_path: Path) -> None:
    """A control: a reader that raises, and a whole file, are told apart."""
    good = tmp_path / "beats.txt"
    good.write_bytes((DATA / "beats.txt").read_bytes())
    tally = campaign([("good", good, ("beat-text",))])
    assert tally.outcomes == {"whole": 1}
    tally = campaign([("gone", tmp_path / "missing.wav", ())])
    assert len(tally.errors) == 1, "a missing file is an OSError, which is no FormatError"
