"""Audio features in one NPZ file: our format, its writer with a digest, and the reader of ours."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from formats.columns import Column, Table
from formats.errors import FormatError
from formats.sealed_npz import PROVENANCE, object_member, pack, text_member, unpack

AUDIO_NPZ = Table(
    "choreo.audio_npz/1",
    "Audio features of one recording as a NumPy archive; frame k is centred at k * hop / sr seconds. "
    "Shapes are those of librosa: bands first, T = 1 + samples // hop.",
    (
        Column("sr", "int32", "Hz", 1, doc="samples per second the features were made at"),
        Column("hop", "int32", "samples", 1, doc="samples between frames"),
        Column("n_fft", "int32", "samples", 1, doc="window length, centred"),
        Column("duration_us", "int64", "us", 0, doc="length of the recording"),
        Column("mel", "float32[128,T]", "power", 0, doc="mel spectrum, Slaney filters"),
        Column("chroma", "float32[12,T]", "1", 0, 1, doc="pitch classes from C, each frame over its largest"),
        Column("mfcc", "float32[20,T]", "dB", doc="orthonormal DCT-II of the mel spectrum in dB"),
        Column("onset", "float32[T]", "dB", 0, doc="mean rise of the mel bands"),
        Column("rms", "float32[T]", "1", 0, doc="level, 1 = full scale"),
        Column("centroid", "float32[T]", "Hz", 0, nullable=True, doc="mean frequency, NaN in digital silence"),
        Column(
            "tempo", "float64", "beats/min", 0, nullable=True, doc="60 over the slope of the line through the beats"
        ),
        Column("tempo_residual", "float64", "s", 0, nullable=True, doc="robust spread of the beats around that line"),
        Column("tempo_stable", "bool", doc="one tempo describes the recording"),
        Column("tempo_candidates", "float64[C,2]", doc="(beats/min, score), no rows without a tempo"),
        Column("beat_times", "float64[B]", "s", 0, doc="beats, strictly increasing"),
        Column("beat_frames", "int32[B]", "frames", 0, doc="the frame nearest to each beat"),
        Column("beat_latency_us", "int64", "us", doc="lateness measured by the click self-test, already subtracted"),
    ),
)
_SEAL = b"choreo.audio_npz/1 sha256:"


def encode(arrays: Mapping[str, Any], provenance: Mapping[str, Any]) -> bytes:
    """Build the file: stored members in the table's order, a fixed date, and a sha256 of all of it as its comment.

    Args:
        arrays: Every key of `AUDIO_NPZ`; arrays and numbers, a missing number is NaN.
        provenance: The `created_by` record, JSON values; kept as the uint8 member `__choreo__.json`.

    Raises:
        FormatError: a key, shape, type or bound that breaks the table.
    """
    checked = check(arrays)
    checked[PROVENANCE] = text_member(provenance, PROVENANCE)
    return pack(checked, _SEAL)


def write(path: str | Path, arrays: Mapping[str, Any], provenance: Mapping[str, Any]) -> str:
    """Write the file whole or not at all; returns its sha256. Raises FormatError as `encode`."""
    from formats import atomic

    return atomic.write_bytes(path, encode(arrays, provenance))


def is_ours(data: bytes) -> bool:
    """Whether the bytes claim to be our format: by the seal at the end or by the provenance member."""
    return _SEAL in data[-256:] or f"{PROVENANCE}.npy".encode() in data


def decode(data: bytes, *, file: str | Path | None = None) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Read our format and verify its digest.

    Returns:
        (arrays by key of `AUDIO_NPZ`, provenance).

    Raises:
        FormatError: any byte differs from what was written, or the table is broken.
    """
    arrays = unpack(data, _SEAL, file=file)
    provenance = object_member(arrays.pop(PROVENANCE, None), PROVENANCE, file)
    return check(arrays, file=file), provenance


def check(arrays: Mapping[str, Any], *, file: str | Path | None = None) -> dict[str, NDArray[Any]]:
    """Hold arrays against the table: keys, types, shapes (T, B and C agree), bounds, finiteness.

    Returns:
        The arrays in the table's order, contiguous.

    Raises:
        FormatError: the first key that does not fit.
    """
    odd = sorted(set(arrays) ^ set(AUDIO_NPZ.names))
    if odd:
        raise FormatError("missing" if odd[0] not in arrays else "unknown key", file=file, field=odd[0])
    sizes: dict[str, int] = {}
    found = {}
    for column in AUDIO_NPZ.columns:
        base, _, shape = column.dtype.rstrip("]").partition("[")
        # ascontiguousarray would turn a number into an array of one.
        array = np.asarray(arrays[column.name], np.dtype(base), order="C")
        names = shape.split(",") if shape else []
        if array.ndim != len(names):
            raise FormatError(f"shape {array.shape}, needs {column.dtype}", file=file, field=column.name)
        for name, n in zip(names, array.shape, strict=True):
            if n != (int(name) if name.isdigit() else sizes.setdefault(name, n)):
                raise FormatError(f"shape {array.shape} breaks {column.dtype}", file=file, field=column.name)
        _bounds(column, array, file)
        found[column.name] = array
    if found["beat_times"].size > 1 and not (np.diff(found["beat_times"]) > 0).all():
        raise FormatError("beats are not strictly increasing", file=file, field="beat_times")
    return found


def _bounds(column: Column, array: NDArray[Any], file: str | Path | None) -> None:
    if array.dtype.kind != "f" and column.lo is None:
        return
    if array.dtype.kind == "f":
        finite = np.isfinite(array)
        if not column.nullable and not finite.all():
            raise FormatError(f"{int((~finite).sum())} values are not finite", file=file, field=column.name)
        if np.isinf(array).any():
            raise FormatError("infinite values", file=file, field=column.name)
        array = array[finite]
    low, high = column.lo, column.hi
    if array.size and ((low is not None and array.min() < low) or (high is not None and array.max() > high)):
        raise FormatError(f"values outside {low}..{high}", file=file, field=column.name)
