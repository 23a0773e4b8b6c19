"""One `.npy` array without copying it: header against file size first, never an object array."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from formats.errors import FormatError
from formats.foreign.source import open_regular


def open_npy(path: Path) -> np.ndarray[Any, Any]:
    """Memory-map an array that must fill its file exactly.

    Raises:
        FormatError: no `.npy` header, an object array, or a header that contradicts the size of the file.
    """
    with open_regular(path) as f:
        size = f.seek(0, 2)
        f.seek(0)
        try:
            version = np.lib.format.read_magic(f)
            reader = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
            shape, fortran, dtype = reader(f)
        except Exception as e:  # tokenize errors among them
            raise FormatError(f"not a readable .npy header: {' '.join(str(e).split())[:100]}", file=path) from None
        if dtype.hasobject:
            raise FormatError("an array of Python objects is never read", file=path)
        start = f.tell()
        n = 1
        for k in shape:
            n *= int(k)
        if n < 0 or start + n * dtype.itemsize != size:
            raise FormatError(f"the header asks for {n * dtype.itemsize} bytes, the file has {size - start}", file=path)
        if n == 0:
            return np.empty(shape, dtype)
        return np.memmap(f, dtype=dtype, mode="r", offset=start, shape=shape, order="F" if fortran else "C")
