"""The rows of a performance on their way to tables: an append-only file that a killed process leaves readable.

Beside it lies a small card. Both are hidden files of the session's folder and go away when the tables are whole.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.live.latency import ROW
from formats.errors import FormatError
from formats.jsonstrict import loads

SCHEMA = "choreo.journal/1"
ROWS, CARD = ".journal.bin", ".journal.json"
CHUNK = 16 * 1024


@dataclass(frozen=True, slots=True)
class About:
    """What the tables must know beside the rows.

    Args:
        session_id: Name of the session and of its folder.
        synthetic: The frames were made, not measured.
        virtual: The clock stood still while the loop worked.
        source: What was played, for the figures.
        period_us: Time between ticks.
        receivers: The ports, as they were named.
        offset: What `calibrate latency` measured of one of them, as its file says it; empty without.
    """

    session_id: str
    synthetic: bool = False
    virtual: bool = False
    source: str = ""
    period_us: int = 20_000
    receivers: Sequence[str] = ()
    offset: Mapping[str, Any] = field(default_factory=dict)


class Journal:
    """Writes rows, flushed to the system at once: the death of the process loses none of them.

    Args:
        folder: The session's folder; it is made.
        about: Goes onto the card.

    Raises:
        OSError: the folder or the files cannot be made.
    """

    def __init__(self, folder: Path, about: About) -> None:
        import json

        from formats.atomic import write_bytes

        folder.mkdir(parents=True, exist_ok=True)
        card = {"schema": SCHEMA, "row_bytes": ROW.itemsize, **asdict(about)}
        write_bytes(folder / CARD, json.dumps(card).encode() + b"\n", sync=False)
        self.rows = 0
        self._file = (folder / ROWS).open("wb", buffering=0)

    def append(self, rows: NDArray[Any]) -> None:
        """Write rows, all of them or none. Raises OSError."""
        data = memoryview(rows.tobytes())
        try:
            while data:
                data = data[self._file.write(data) :]
        except OSError:
            with contextlib.suppress(OSError):  # a row cut in two would shift all that follow
                self._file.truncate(self.rows * ROW.itemsize)
                self._file.seek(self.rows * ROW.itemsize)
            raise
        self.rows += len(rows)

    def sync(self) -> None:
        """Bring what was written to the medium. Raises OSError."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Give the file back."""
        self._file.close()


def read_card(folder: Path) -> About:
    """The card of a journal. Raises FormatError, OSError."""
    file = folder / CARD
    card = loads(file.read_bytes(), file=file)
    wanted = {"schema": SCHEMA, "row_bytes": ROW.itemsize}
    if not isinstance(card, dict) or any(card.get(k) != v for k, v in wanted.items()):
        raise FormatError("a journal of another version", file=file, hint="open it with the choreo that wrote it")
    return About(**{k: v for k, v in card.items() if k not in wanted})


def read_rows(folder: Path) -> Iterator[NDArray[Any]]:
    """The whole rows of a journal in pieces that fit into memory; a row that was cut at the end is left out."""
    file = folder / ROWS
    count = file.stat().st_size // ROW.itemsize
    with file.open("rb") as f:
        while count > 0:
            rows = np.fromfile(f, ROW, min(CHUNK, count))
            if not len(rows):
                return
            count -= len(rows)
            yield rows


def remove(folder: Path) -> None:
    """Take a journal away once its tables are whole."""
    for name in (CARD, ROWS):
        (folder / name).unlink(missing_ok=True)


def left_behind(folder: Path) -> list[Path]:
    """Session folders below `folder` whose journal was never made into tables."""
    return sorted(p.parent for p in folder.glob(f"*/{CARD}") if (p.parent / ROWS).is_file())
