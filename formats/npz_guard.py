"""Read numpy archives from strangers: sizes are checked before anything is inflated, and nothing is run."""

from __future__ import annotations

import ast
import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from formats.errors import FormatError

BUDGET_BYTES = 512 * 2**20
MAX_MEMBERS = 1_024
_RATIO, _RATIO_FROM = 50, 8 * 2**20  # features are noise and shrink by a few per cent; bombs by hundreds
_HEADER_CAP = 4_096
_MAGIC = b"\x93NUMPY"
# What zipfile and zlib raise on bytes nobody planned for.
_ZIP_ERRORS = (
    zipfile.BadZipFile, zlib.error, struct.error, ValueError, LookupError, EOFError, OSError, NotImplementedError,
    RuntimeError, OverflowError, UnicodeError,
)  # fmt: skip


def read_npz(
    data: bytes, *, file: str | Path | None = None, want: Callable[[str], bool] | None = None
) -> dict[str, NDArray[Any]]:
    """Read the arrays of an NPZ archive.

    Args:
        data: The whole archive.
        file: For the error's sentence.
        want: Which keys to inflate; the others are left out. None reads all.

    Returns:
        Arrays by key, in the archive's order.

    Raises:
        FormatError: damaged, a bomb, an object array, or not an archive of arrays.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as z:
            members = _members(z, len(data), file)
            return {key: _array(z, info, file) for key, info in members.items() if want is None or want(key)}
    except FormatError:
        raise
    except _ZIP_ERRORS as e:
        raise FormatError(f"damaged archive ({type(e).__name__})", file=file) from None


def npz_keys(data: bytes, *, file: str | Path | None = None) -> tuple[str, ...]:
    """List the keys of an archive without inflating anything. Raises FormatError as `read_npz`."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as z:
            return tuple(_members(z, len(data), file))
    except FormatError:
        raise
    except _ZIP_ERRORS as e:
        raise FormatError(f"damaged archive ({type(e).__name__})", file=file) from None


def _members(z: zipfile.ZipFile, size: int, file: str | Path | None) -> dict[str, zipfile.ZipInfo]:
    infos = z.infolist()
    if len(infos) > MAX_MEMBERS:
        raise FormatError(f"{len(infos)} members, at most {MAX_MEMBERS} are read", file=file)
    total = sum(i.file_size for i in infos)
    if total > BUDGET_BYTES:
        raise FormatError(f"inflates to {total} bytes, the budget is {BUDGET_BYTES}", file=file)
    if total > _RATIO_FROM and total > _RATIO * size:
        raise FormatError(f"inflates from {size} to {total} bytes: a decompression bomb", file=file)
    found: dict[str, zipfile.ZipInfo] = {}
    for info in infos:
        if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise FormatError("encrypted or unusually compressed member", file=file, field=info.filename[:80])
        key = info.filename.removesuffix(".npy")
        if key in found:
            raise FormatError("two members of one name", file=file, field=key[:80])
        if info.filename.endswith(".npy"):
            found[key] = info
    if not found:
        raise FormatError("a zip file without arrays", file=file)
    return found


def _array(z: zipfile.ZipFile, info: zipfile.ZipInfo, file: str | Path | None) -> NDArray[Any]:
    with z.open(info) as f:
        dtype, order, shape = _header(f.read(min(info.file_size, _HEADER_CAP)), info, file)
    with z.open(info) as f:
        body = f.read()  # at most file_size bytes; the end of the member checks its CRC-32
    count = prod(shape)
    start = len(body) - count * dtype.itemsize
    flat = np.frombuffer(body, dtype, count=count, offset=start)
    return flat.reshape(shape, order="F" if order else "C")


def _header(head: bytes, info: zipfile.ZipInfo, file: str | Path | None) -> tuple[np.dtype[Any], bool, tuple[int, ...]]:
    """Parse an NPY header (format versions 1 to 3) and hold its shape against the member's size."""
    field = info.filename[:80]
    if head[:6] != _MAGIC or len(head) < 12 or head[6] not in (1, 2, 3):
        raise FormatError("not an array", file=file, field=field)
    width = 2 if head[6] == 1 else 4
    length = int.from_bytes(head[8 : 8 + width], "little")
    start = 8 + width + length
    if start > len(head):
        raise FormatError(f"array header of {length} bytes", file=file, field=field)
    try:
        described = ast.literal_eval(head[8 + width : start].decode("latin-1").strip())
        dtype, order, shape = np.dtype(described["descr"]), described["fortran_order"], described["shape"]
    except (ValueError, SyntaxError, TypeError, LookupError, RecursionError, MemoryError):
        raise FormatError("array header that cannot be read", file=file, field=field) from None
    if dtype.hasobject:
        raise FormatError("an array of Python objects", file=file, field=field, hint="save it again as plain numbers")
    good = isinstance(order, bool) and isinstance(shape, tuple) and len(shape) <= 8
    if not good or not all(type(n) is int and 0 <= n < 2**48 for n in shape):
        raise FormatError("array header with an impossible shape", file=file, field=field)
    if start + prod(shape) * dtype.itemsize != info.file_size:
        raise FormatError(f"shape {shape} does not match its {info.file_size} bytes", file=file, field=field)
    return dtype, order, shape


def member_names(head: bytes) -> tuple[str, ...]:
    """List the member names whose local headers lie in the first bytes of an archive; the first is always there."""
    names, at = [], 0
    while head[at : at + 4] == b"PK\x03\x04" and len(head) >= at + 30:
        flags, packed = struct.unpack("<H", head[at + 6 : at + 8])[0], struct.unpack("<I", head[at + 18 : at + 22])[0]
        name, extra = struct.unpack("<HH", head[at + 26 : at + 30])
        names.append(head[at + 30 : at + 30 + name].decode("utf-8", "replace"))
        more = head[at + 30 + name : at + 30 + name + extra]
        if packed == 0xFFFFFFFF and more[:2] == b"\x01\x00" and len(more) >= 20:
            packed = struct.unpack("<Q", more[12:20])[0]
        if flags & 8 and packed == 0:
            break
        at += 30 + name + extra + packed
    return tuple(names)
