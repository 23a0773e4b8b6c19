"""Hand a pickle to the process that opens it, and believe nothing it answers until it is checked."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np

from formats.errors import FormatError
from formats.foreign.model import F64
from formats.foreign.source import Source
from formats.npz_guard import read_npz

CHILD = Path(__file__).with_name("pickle_child.py")
WALL_S = 120.0
OUTPUT_BYTES = 640 * 2**20
PIECE_BYTES = 2**20
_RESULT, _REFUSED = b"choreo-npz\n", b"refused: "
_COLUMNS = {"smpl_poses": (72,), "smpl_trans": (3,), "smpl_scaling": ()}
# Nothing of the caller's environment: no paths, no proxies, no keys. One thread keeps the address space small.
_ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "LC_ALL": "C"}
_DIED = {
    "memory": "its reader ran out of memory (limit 1 GiB)",
    "time": "its reader ran out of time (limit 30 s)",
    "crash": "its reader crashed on it: the file is damaged, or made to harm",
}


def read_pickle(source: Source) -> dict[str, F64]:
    """The arrays of an AIST++ motion pickle, read in a limited process of its own.

    Returns:
        `smpl_poses` (T, 72), `smpl_trans` (T, 3), `smpl_scaling` (1,), float64 and finite.

    Raises:
        FormatError: it is no such pickle, it is damaged, or its process ran into a limit.
    """
    if not sys.executable:
        raise FormatError("no Python to read a pickle in a process of its own", file=source.path)
    with source.open() as file:
        process = subprocess.Popen(
            [sys.executable, "-I", "-B", str(CHILD)], stdin=file, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env=_ENVIRONMENT, cwd="/", start_new_session=True,
        )  # fmt: skip
    timer = threading.Timer(WALL_S, process.kill)
    timer.start()
    try:
        assert process.stdout is not None
        out = bytearray()
        # Piece by piece: a read of the limit would take the memory of the limit.
        while len(out) <= OUTPUT_BYTES and (piece := process.stdout.read(PIECE_BYTES)):
            out += piece
        if len(out) > OUTPUT_BYTES:
            process.kill()
        code = process.wait()
    finally:
        timer.cancel()
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
    return _checked(bytes(out), code, source.path)


def _checked(out: bytes, code: int, file: Path) -> dict[str, F64]:
    if out.startswith(_REFUSED):
        why = out[len(_REFUSED) : 400].decode("ascii", "replace")
        raise FormatError(f"not read: {''.join(c for c in why if c.isprintable())}", file=file)
    if code or not out.startswith(_RESULT):
        # 24 is SIGXCPU; the kernel and our clock kill with 9; a failed allocation in C aborts.
        kind = "time" if code in (-24, -9) else "memory" if code == -6 else "crash"
        raise FormatError(_DIED[kind], file=file)
    arrays = read_npz(out[len(_RESULT) :], file=file)
    if set(arrays) != set(_COLUMNS):
        raise FormatError(_DIED["crash"], file=file)
    frames = len(arrays["smpl_poses"]) if arrays["smpl_poses"].ndim else 0
    for key, tail in _COLUMNS.items():
        array = arrays[key]
        want = (1,) if key == "smpl_scaling" else (frames, *tail)
        if array.dtype != np.float64 or array.shape != want or not frames or not np.isfinite(array).all():
            raise FormatError(_DIED["crash"], file=file)
    return {k: np.asarray(v, np.float64) for k, v in arrays.items()}
