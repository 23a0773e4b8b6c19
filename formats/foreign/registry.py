"""The table of foreign readers: sniffed by content, in order; the suffix only breaks ties."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from formats.foreign.model import Facts
from formats.foreign.source import Source


@dataclass(frozen=True, slots=True)
class Reader:
    """How one format is recognised and read.

    Args:
        format: Unique short name.
        kind: One of `formats.foreign.model.KINDS`.
        sniff: (head, file name, size) -> whether this is it; no I/O.
        facts: Reads what `discover` records.
        read: Reads the streams inside; None for a format that is recognised but not read yet.
        order: Lower is asked first.
    """

    format: str
    kind: str
    sniff: Callable[[bytes, str, int], bool]
    facts: Callable[[Source], Facts]
    read: Callable[..., object] | None
    order: int = 50
