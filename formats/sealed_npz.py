"""NPZ files of our own: members in their order, a fixed date, and a sha256 of all of it as the archive's comment.

Equal arrays are equal bytes, and a byte that differs is noticed.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from formats import jsonstrict
from formats.errors import FormatError
from formats.npz_guard import read_npz

PROVENANCE = "__choreo__.json"
_DATE = (1980, 1, 1, 0, 0, 0)
_DIGEST = 64


def pack(arrays: Mapping[str, NDArray[Any]], seal: bytes) -> bytes:
    """The file: arrays stored as they are, and the seal with their digest at its end."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as z:
        for name, array in arrays.items():
            body = io.BytesIO()
            np.lib.format.write_array(body, array, version=(1, 0), allow_pickle=False)
            info = zipfile.ZipInfo(f"{name}.npy", _DATE)
            info.external_attr = 0o644 << 16
            info.create_system = 3
            z.writestr(info, body.getvalue())
        z.comment = seal + b"0" * _DIGEST
    data = out.getvalue()[:-_DIGEST]
    return data + hashlib.sha256(data).hexdigest().encode()


def is_sealed(data: bytes, seal: bytes) -> bool:
    """Whether the seal stands where it belongs."""
    at = len(data) - _DIGEST - len(seal)
    return at >= 0 and data[at : at + len(seal)] == seal


def unpack(data: bytes, seal: bytes, *, file: str | Path | None = None) -> dict[str, NDArray[Any]]:
    """The arrays of a file whose every byte is as it was written.

    Raises:
        FormatError: cut, changed, or not an archive of arrays.
    """
    if not is_sealed(data, seal):
        raise FormatError("the sha256 at its end is missing: the file is cut or damaged", file=file)
    if hashlib.sha256(data[:-_DIGEST]).hexdigest().encode() != data[-_DIGEST:]:
        raise FormatError("the content does not match its sha256: the file is damaged or was edited", file=file)
    return read_npz(data, file=file)


def text_member(value: Mapping[str, Any], name: str) -> NDArray[np.uint8]:
    """JSON values as a member. Raises FormatError, with the member's name, for what JSON has no word for."""
    try:
        text = json.dumps(dict(value), sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError) as e:
        raise FormatError(f"header is not JSON: {e}", field=name) from None
    return np.frombuffer(text.encode(), np.uint8)


def object_member(raw: NDArray[Any] | None, name: str, file: str | Path | None) -> dict[str, Any]:
    """A member's JSON object. Raises FormatError when it is missing or is none."""
    if raw is None or raw.dtype != np.uint8 or raw.ndim != 1:
        raise FormatError("missing, or not text", file=file, field=name)
    found = jsonstrict.loads(raw.tobytes(), file=file)
    if not isinstance(found, dict):
        raise FormatError("not an object", file=file, field=name)
    return found
