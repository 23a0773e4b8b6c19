"""Beats of any file that says where they are: text, MIDI, a StepMania chart, a features archive."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from choreo_cli.errors import DataError, NoInputError
from formats.foreign.model import Beats
from formats.foreign.registry import recognise
from formats.foreign.source import Source

F64 = NDArray[np.float64]


def read_beats(path: Path) -> F64:
    """Beat times in seconds.

    Raises:
        NoInputError: no such file.
        DataError: a file that holds no beat times.
        formats.errors.FormatError: damaged.
    """
    if not path.is_file():
        raise NoInputError(f"no file {path}", hint="need a file of beats, one time a line")
    source = Source.of(path)
    reader = recognise(source.head, path.name, source.size)
    found = reader.read(source) if reader.kind == "beats" and reader.read is not None else None
    if not isinstance(found, Beats) or not len(found.t_s):
        raise DataError(f"{path} is {reader.format}, which holds no beat times", hint="one time in seconds a line")
    return np.asarray(found.t_s, np.float64)
