"""The one place where a pickle is opened: a process of its own that is thrown away (reliability.md, section 1).

Run as `python -I pickle_child.py < FILE`. Everything it needs is loaded first; then memory, time, files and processes
are limited by the kernel, an audit hook refuses whatever reaches outside, and the unpickler knows a short list of
numpy names. What it finds is checked and written to stdout as plain arrays. The parent trusts none of it.
"""

from __future__ import annotations

import _codecs
import io
import os
import pickle
import resource
import sys
import zipfile
from typing import Any, NoReturn

import numpy as np
from numpy._core import multiarray, numeric
from numpy.lib import format as npy

MEMORY_BYTES, CPU_S = 2**30, 30
INPUT_BYTES = 128 * 2**20
MAX_FRAMES = 1_000_000
RESULT, REFUSED = b"choreo-npz\n", b"refused: "
REFUSED_CODE = 65
# Keys of AIST++ motions (google/aistplusplus_api, aist_plusplus/loader.py) and their shapes after the frames.
SHAPES: dict[str, tuple[tuple[int, ...], ...]] = {
    "smpl_poses": ((72,), (24, 3)), "smpl_trans": ((3,),), "smpl_scaling": ((), (1,)),
}  # fmt: skip
ALLOWED: dict[tuple[str, str], Any] = {
    **{(m, n): getattr(multiarray, n) for m in ("numpy.core.multiarray", "numpy._core.multiarray")
       for n in ("_reconstruct", "scalar")},
    **{(m, "_frombuffer"): numeric._frombuffer for m in ("numpy.core.numeric", "numpy._core.numeric")},  # type: ignore[attr-defined]
    ("numpy", "ndarray"): np.ndarray, ("numpy", "dtype"): np.dtype, ("_codecs", "encode"): _codecs.encode,
}  # fmt: skip
_OUTSIDE = (
    "open", "socket.", "subprocess.", "os.", "ctypes.", "exec", "compile", "import", "shutil.", "sys.settrace",
    "sys.setprofile", "code.__new__", "marshal.", "mmap.", "signal.", "fcntl.", "cpython.", "glob.", "tempfile.",
)  # fmt: skip


class Refused(Exception):
    """What is said of a pickle that is not read."""


class _Unpickler(pickle.Unpickler):
    """Knows the names that numbers in arrays need, and no other."""

    def find_class(self, module: str, name: str) -> Any:
        found = ALLOWED.get((module, name))
        if found is None:
            raise Refused(f"it names {module[:60]}.{name[:60]}, which no motion needs")
        return found

    def persistent_load(self, pid: Any) -> NoReturn:
        raise Refused("it refers to something outside itself")


def limit() -> None:
    """Give up memory, time, files, processes and the network for the rest of this process's life."""
    for kind, most in (
        (resource.RLIMIT_CPU, CPU_S), (resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_AS, MEMORY_BYTES), (resource.RLIMIT_NOFILE, 0),
    ):  # fmt: skip
        hard = resource.getrlimit(kind)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        try:
            resource.setrlimit(kind, (most, most))
        except (ValueError, OSError):
            if sys.platform.startswith("linux"):
                raise
    sys.addaudithook(_inside_only)


def _inside_only(event: str, args: tuple[Any, ...]) -> None:
    if event.startswith(_OUTSIDE):
        raise Refused(f"it tried {event}")


def load(data: bytes) -> dict[str, np.ndarray[Any, Any]]:
    """The arrays of a motion pickle, float64 and finite. Raises Refused, and whatever damaged bytes can raise."""
    found = _Unpickler(io.BytesIO(data), encoding="latin1").load()
    if type(found) is not dict:
        raise Refused("it holds no dictionary")
    out: dict[str, np.ndarray[Any, Any]] = {}
    for key, tails in SHAPES.items():
        if key not in found:
            raise Refused(f"it has no {key}")
        value = found[key]
        if isinstance(value, float | int | np.number) and key == "smpl_scaling":
            value = np.asarray(value)
        if type(value) is not np.ndarray or value.dtype.kind not in "fiu":
            raise Refused(f"{key} is no array of numbers")
        tail = value.shape[1:] if key != "smpl_scaling" else value.shape
        if tail not in tails or (key != "smpl_scaling" and not 0 < len(value) <= MAX_FRAMES):
            raise Refused(f"{key} has the shape {value.shape}")
        array = np.array(value, dtype=np.float64, order="C")
        if not np.isfinite(array).all() or float(np.abs(array).max()) > 1e9:
            raise Refused(f"{key} holds numbers that are not finite")
        out[key] = array.reshape((1,) if key == "smpl_scaling" else (len(array), -1))
    if len(out["smpl_poses"]) != len(out["smpl_trans"]):
        raise Refused("poses and trans differ in length")
    return out


def pack(arrays: dict[str, np.ndarray[Any, Any]]) -> bytes:
    """Arrays as the bytes of an NPZ."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as z:
        for key, array in arrays.items():
            member = io.BytesIO()
            npy.write_array(member, array, allow_pickle=False)
            z.writestr(f"{key}.npy", member.getvalue())
    return buffer.getvalue()


def answer(data: bytes) -> bytes:
    """What the parent gets: arrays, or one sentence."""
    try:
        return RESULT + pack(load(data))
    except Refused as e:
        return REFUSED + str(e).encode("ascii", "backslashreplace")[:300]
    except MemoryError:
        return REFUSED + b"it needs more memory than a motion can"
    except Exception as e:
        return REFUSED + f"damaged ({type(e).__name__})".encode("ascii", "backslashreplace")[:300]


def main() -> None:
    """Read stdin, limit, answer on stdout."""
    data = sys.stdin.buffer.read(INPUT_BYTES + 1)
    pack({"warm": np.zeros(1)})  # what is imported late is imported now
    _codecs.encode("", "latin1")
    _codecs.encode("", "ascii")
    out = REFUSED + b"it is larger than any motion" if len(data) > INPUT_BYTES else b""
    if not out:
        limit()
        out = answer(data)
    view = memoryview(out)
    while view:
        view = view[os.write(1, view) :]
    os._exit(0 if out.startswith(RESULT) else REFUSED_CODE)


if __name__ == "__main__":
    main()
