"""A manifest is decoded in place: memory of its entries, no copies of its bytes; a lost newline is damage too."""

from __future__ import annotations

import tracemalloc

import pytest

from formats.errors import FormatError
from formats.manifest import Manifest, decode, encode


def entries(n: int) -> list[dict[str, object]]:
    return [{"name": f"row {k}", "text": "x" * 400} for k in range(n)]


@pytest.mark.parametrize("n", [0, 1, 2, 50])
def test_round_trip(n: int) -> None:
    made = Manifest("choreo.bench-test/1", {"choreo": "0"}, entries(n))
    doc = encode(made)
    back = decode(doc)
    assert back.entries == made.entries and back.sha256 == made.sha256 and encode(back) == doc
    assert doc.count(b"\n") == max(n, 1) + 2


@pytest.mark.parametrize("n", [0, 1, 3])
def test_every_lost_newline_is_found(n: int) -> None:
    doc = encode(Manifest("choreo.bench-test/1", {}, entries(n)))
    for at in (k for k, byte in enumerate(doc) if byte == 10):
        with pytest.raises(FormatError):
            decode(doc[:at] + doc[at + 1 :])


def test_decoding_holds_the_entries_and_little_more() -> None:
    doc = encode(Manifest("choreo.bench-test/1", {}, entries(20_000)))
    tracemalloc.start()
    found = decode(doc)
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found.entries) == 20_000 and len(doc) > 8_000_000
    assert peak - kept < len(doc) / 10
