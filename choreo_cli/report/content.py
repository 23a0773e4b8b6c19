"""What is inside a file, in one shape for every kind: signals, times, facts, and what is broken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from formats.columns import Column


@dataclass(slots=True)
class Signal:
    """One column of numbers or texts.

    Args:
        name: Column, axis or array name.
        values: (N,) numbers, NaN = missing; or a list of texts, None = missing.
        unit: Unit, empty for none.
        spec: The column of its table, for bounds.
        missing: Values that are missing, where NaN cannot say so (integers).
    """

    name: str
    values: NDArray[Any] | list[Any]
    unit: str = ""
    spec: Column | None = None
    missing: int = 0


@dataclass(slots=True)
class Content:
    """An opened file.

    Args:
        path: Where it lies.
        kind: Picks the picture: `frames context windows poses pose series beats audio features playlist inventory
            pairs sessions metrics tensors array document`.
        schema: `choreo.KIND/1` or the name of a foreign format.
        rows: Records, samples or poses.
        signals: Its columns.
        t_us: (N,) int64 times of the rows, None without any.
        group: (names, (N,) codes): rows that belong together have their own clock.
        facts: What else there is to say, in order.
        problems: Broken bounds and promises.
        notes: Doubts that break nothing.
        body: The object behind it, for the picture and the rows.
    """

    path: Path
    kind: str
    schema: str
    rows: int
    signals: list[Signal]
    t_us: NDArray[np.int64] | None = None
    group: tuple[list[str], NDArray[Any]] | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    body: Any = None


@dataclass(frozen=True, slots=True)
class How:
    """What a person may add to read a file.

    Args:
        map: A loaded map of one's own keys (`formats.foreign.mapping`).
        fps: Rate of poses whose file has none.
        part: Which recording of a file that holds several.
    """

    map: dict[str, Any] | None = None
    fps: float | None = None
    part: str | None = None


def open_content(path: Path, how: How | None = None) -> Content:
    """Read a file of any kind, ours or a stranger's.

    Raises:
        FormatError: damaged, or of a kind nobody here reads.
        OSError: it cannot be read.
    """
    from choreo_cli.report import content_foreign, content_tables, recognise
    from formats.foreign.source import Source

    how = how or How()
    if path.is_dir():
        return content_foreign.folder(path, how)
    source = Source.of(path)
    if how.map is not None:
        return content_foreign.mapped(source, how.map)
    kind = recognise.recognise(source)
    if kind.reader is not None:
        return content_foreign.foreign(source, kind.reader, how)
    return content_tables.ours(source, kind.family)


def texts(values: Sequence[Any]) -> list[Any]:
    """Values of a text column, missing ones as None."""
    return [None if v is None else str(v) for v in values]
