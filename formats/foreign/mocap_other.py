"""Motion formats that are recognised and listed, but not read yet. Pickles are looked at as bytes, never opened."""

from __future__ import annotations

import math
import re
import struct
import zipfile
from collections.abc import Callable
from typing import Any

from formats.errors import FormatError
from formats.foreign.model import Facts
from formats.foreign.pose_clock import rate_of
from formats.foreign.registry import Reader
from formats.foreign.source import Source

_AMASS = (
    b"poses.npy",
    b"trans.npy",
    b"betas.npy",
    b"dmpls.npy",
    b"mocap_frame",
    b"root_orient.npy",
    b"pose_body.npy",
    b"smpl_poses.npy",
)
_MOTION_JOINTS = (17, 21, 22, 24, 25, 33, 52)
_ZIP_MEMBERS = 256


def reason(name: str) -> str:
    """The one sentence for a format that is recognised but has no reader."""
    return f"{name} motion is recognised but not read yet"


def _listed(
    name: str, format_name: str, look: Callable[[Source], dict[str, Any]] | None = None
) -> Callable[[Source], Facts]:
    def facts(source: Source) -> Facts:
        found: dict[str, Any] = {}
        if look is not None:
            try:
                found = look(source)
            except (FormatError, ValueError, IndexError, KeyError, struct.error, OverflowError, UnicodeDecodeError):
                found = {}
        n, fps = found.pop("n", None), found.pop("fps", None)
        n = n if isinstance(n, int) and 0 < n < 10**9 else None
        rate = rate_of(fps)
        duration = round(n * 1e6 * rate[1] / rate[0]) if n and rate else None
        return Facts("motion", format_name, n=n, rate=rate, duration_us=duration, reason=reason(name), meta=found)

    return facts


def _c3d(source: Source) -> dict[str, Any]:
    """Markers, frames and rate of a C3D header (c3d.org user guide: words 2, 4, 5 and the float at words 11-12)."""
    head = source.head
    points, first, last = struct.unpack_from("<H", head, 2)[0], *struct.unpack_from("<HH", head, 6)
    (fps,) = struct.unpack_from("<f", head, 20)
    return {"n": last - first + 1, "fps": float(fps) if math.isfinite(fps) else None, "markers": points}


def _trc(source: Source) -> dict[str, Any]:
    lines = source.head.decode("latin-1").splitlines()
    split = "," if "," in lines[1] else None
    fields = dict(zip(lines[1].split(split), lines[2].split(split), strict=False))
    return {
        "n": int(fields["NumFrames"][:9]),
        "fps": float(fields["DataRate"]),
        "markers": int(fields["NumMarkers"][:9]),
        "units": fields.get("Units", ""),
    }


def sniff_c3d(head: bytes, name: str, size: int) -> bool:
    """Byte 2 is 0x50, and the first parameter block, the frame range and the size are plausible."""
    if len(head) < 512 or head[1] != 0x50 or not 2 <= head[0] <= 64 or size < 1024:
        return False
    points, _, first, last = struct.unpack_from("<4H", head, 2)
    return (size % 512 == 0 and points < 10_000 and first <= last) or name.lower().endswith(".c3d")


def sniff_asf(head: bytes, name: str, size: int) -> bool:
    """Acclaim skeleton: sections such as `:units` and `:root`."""
    return b"\n:units" in head and (b":version" in head or b"\n:root" in head or b"\n:name" in head)


def sniff_amc(head: bytes, name: str, size: int) -> bool:
    """Acclaim motion: `:FULLY-SPECIFIED` or `:DEGREES` before the first frame."""
    start = head[:1024]
    return (b":FULLY-SPECIFIED" in start or b":DEGREES" in start) and not sniff_asf(head, name, size)


def sniff_trc(head: bytes, name: str, size: int) -> bool:
    """OpenSim markers start with PathFileType."""
    return head[:12] == b"PathFileType"


def sniff_mat(head: bytes, name: str, size: int) -> bool:
    """MATLAB 5 and 7.3 files say so in their first line."""
    return head[:10] in (b"MATLAB 5.0", b"MATLAB 7.3")


def sniff_fbx(head: bytes, name: str, size: int) -> bool:
    """Binary FBX."""
    return head[:18] == b"Kaydara FBX Binary"


def sniff_amass(head: bytes, name: str, size: int) -> bool:
    """A zip whose first members are SMPL arrays."""
    if head[:4] != b"PK\x03\x04":
        return False
    first = head[30 : 30 + int.from_bytes(head[26:28], "little")]
    return any(first.startswith(word) for word in _AMASS) or (
        first in (b"gender.npy", b"markers.npy") and any(w in head for w in _AMASS)
    )


def amass_facts(source: Source) -> Facts:
    """Which SMPL arrays a zip holds, from its directory alone."""
    try:
        with source.open() as f, zipfile.ZipFile(f) as z:
            names = [i.filename for i in z.infolist()[:_ZIP_MEMBERS]]
    except (zipfile.BadZipFile, ValueError, NotImplementedError, struct.error, EOFError, UnicodeDecodeError) as e:
        raise FormatError(f"damaged zip: {e}", file=source.path) from e
    keys = sorted(n.removesuffix(".npy") for n in names)
    if "poses" not in keys and "pose_body" not in keys and "smpl_poses" not in keys:
        return Facts("other", "npz", reason="arrays of no kind that is read", meta={"keys": keys})
    return Facts("motion", "smpl-npz", reason=reason("SMPL/AMASS"), meta={"keys": keys})


def sniff_pickle(head: bytes, name: str, size: int) -> bool:
    """Pickle opcodes: PROTO 2 to 5 with a sensible next opcode, or a text pickle by name."""
    if len(head) > 3 and head[0] == 0x80 and 2 <= head[1] <= 5:
        return head[2:3] in b"\x95}](cX\x8c\x89\x88K" or name.lower().endswith((".pkl", ".pickle"))
    return head[:1] in (b"(", b"c", b"}", b"]") and name.lower().endswith((".pkl", ".pickle"))


def pickle_facts(source: Source) -> Facts:
    """A pickle's kind by the key names in its first bytes; it is never opened, because opening one can run code."""
    if b"smpl_" in source.head:
        return Facts("motion", "smpl-pkl", reason=reason("SMPL/AIST++ pickle"))
    if b"keypoints3d" in source.head or b"keypoints2d" in source.head:
        return Facts("motion", "aist-keypoints-pkl", reason=reason("AIST++ key point pickle"))
    return Facts("other", "pickle", reason="a pickle can run code and is never opened")


def npy_shape(head: bytes) -> tuple[int, ...] | None:
    """The shape in a .npy header, None when it is not one."""
    if head[:6] != b"\x93NUMPY" or len(head) < 12:
        return None
    wide = head[6] >= 2
    start = 12 if wide else 10
    length = int.from_bytes(head[8:start], "little")
    hit = re.search(rb"'shape':\s*\(([\d,\s]{0,200})\)", head[start : start + min(length, 2000)])
    sizes = [v.strip() for v in hit[1].split(b",") if v.strip()] if hit is not None else [b"?"]
    return tuple(map(int, sizes)) if all(v.isdigit() and len(v) <= 18 for v in sizes) else None


def sniff_npy(head: bytes, name: str, size: int) -> bool:
    """Arrays of HumanML3D's shapes: (n, 263), (263,), (n, joints, 3)."""
    shape = npy_shape(head)
    return shape is not None and (
        shape[-1:] in ((263,), (251,)) or (len(shape) == 3 and shape[2] == 3 and shape[1] in _MOTION_JOINTS)
    )


def npy_facts(source: Source) -> Facts:
    """HumanML3D features, joints, or the statistics that come with them."""
    shape = npy_shape(source.head)
    if not shape:
        raise FormatError("no .npy header of a motion", file=source.path)
    meta = {"shape": list(shape)}
    if len(shape) == 1:
        return Facts("other", "humanml3d-statistics", n=shape[0], reason="statistics, not a recording", meta=meta)
    name = "HumanML3D" if len(shape) == 2 else "joint array"
    # HumanML3D is 20 frames per second by definition; no file says so.
    fps = (20, 1) if len(shape) == 2 else None
    return Facts(
        "motion", "humanml3d" if len(shape) == 2 else "joints-npy", n=shape[0], rate=fps, reason=reason(name), meta=meta
    )


READERS: tuple[Reader, ...] = (
    Reader("asf", "motion", sniff_asf, _listed("ASF", "asf"), None, 31),
    Reader("amc", "motion", sniff_amc, _listed("AMC", "amc"), None, 32),
    Reader("trc", "motion", sniff_trc, _listed("TRC", "trc", _trc), None, 33),
    Reader("mat", "motion", sniff_mat, _listed("MAT", "mat"), None, 33),
    Reader("fbx", "motion", sniff_fbx, _listed("FBX", "fbx"), None, 33),
    Reader("smpl-npz", "motion", sniff_amass, amass_facts, None, 20),
    Reader("smpl-pkl", "motion", sniff_pickle, pickle_facts, None, 34),
    Reader("humanml3d", "motion", sniff_npy, npy_facts, None, 21),
    Reader("c3d", "motion", sniff_c3d, _listed("C3D", "c3d", _c3d), None, 70),
)
