"""One motion to one layout: encode or export it, and say how exactly it came through."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.motion.choreo25 import contacts_of, decode, encode, mirror
from choreo_cli.motion.interpolate import resample_joints
from choreo_cli.motion.prepare import flags_of
from choreo_cli.motion.retarget_inputs import Asked, Opened
from formats import motion_npz, sealed
from formats.foreign.joints import CANONICAL
from formats.motion_npz import MotionClip

F64 = NDArray[np.float64]

LAYOUTS = ("choreo25", "bvh", "humanml3d", "smpl", "joints")
SUFFIX = {"choreo25": ".npz", "bvh": ".bvh", "humanml3d": ".npy", "smpl": ".npz", "joints": ".npz"}
_ANKLES = [7, 8]
_SWAP = [
    CANONICAL.index({"l": "r", "r": "l"}[n[0]] + n[1:]) if n[:2] in ("l_", "r_") else k for k, n in enumerate(CANONICAL)
]


@dataclass(frozen=True, slots=True)
class How:
    """What is made of a motion.

    Args:
        to: One of `LAYOUTS`.
        asked: How it is read.
        mirror: Write the other side.
        resample: Frames per second of the result, None keeps the source's; 60 for display.
        unit: Unit of a BVH, `cm` or `m`.
        target: Offsets (22, 3) that features of HumanML3D are retargeted to.
    """

    to: str = "choreo25"
    asked: Asked = field(default_factory=Asked)
    mirror: bool = False
    resample: float | None = None
    unit: str = "cm"
    target: F64 | None = None


@dataclass(frozen=True, slots=True)
class Made:
    """A motion in its new layout.

    Args:
        files: (suffix, bytes); the first is the motion, the others say what it cannot.
        facts: The fields of `choreo.motions/1` that follow from the content.
    """

    files: list[tuple[str, bytes]]
    facts: dict[str, Any]


def convert(opened: Opened, how: How, created_by: Mapping[str, Any], source: Mapping[str, Any]) -> Made:
    """Write a motion in another layout.

    Args:
        opened: What was read.
        how: What to make.
        created_by: Provenance for the file.
        source: `path`, `sha256`, `licence`... of what was read, for the header.

    Raises:
        DataError: a motion that cannot be encoded: too few frames, gaps.
    """
    clip, joints, fps = _source(opened, how)
    report = dict(opened.report)
    if how.to in ("choreo25", "bvh", "smpl") and clip is None:
        clip = _encoded(joints, fps, opened, source)
    # Counted, not clamped: one clamped velocity would move the rest of the clip. Generation clamps before it decodes.
    clamped = 0 if clip is None else int(sum(motion_npz.out_of_range(clip.channels).values()))
    files, back, rate = _written(clip, joints, fps, how, created_by)
    errors = _errors(back, joints, rate, fps, how)
    facts = {
        "layout": how.to, "n_frames": len(back), "fps": float(rate),
        "duration_us": round(len(back) * 1e6 / rate), "rig": str(report.get("rig", "unknown")),
        "height_m": float(report.get("height_m", 0.0)), "scale": float(report.get("scale", 1.0)), "clamped": clamped,
        "flags": _flags(report, clip, clamped, how), **errors.pop("totals"),
        "report": {**_told(report), **errors},
    }  # fmt: skip
    content = _content(clip, files[0][1]) if how.to == "choreo25" else files[0][1]
    return Made(files, {"id": hashlib.sha256(content).hexdigest()[:16], **facts})


def mirrored(joints: F64) -> F64:
    """Joints (T, 22, 3) reflected in x, left and right swapped."""
    return np.asarray(joints[:, _SWAP] * np.array([-1.0, 1.0, 1.0]))


def _source(opened: Opened, how: How) -> tuple[MotionClip | None, F64, float]:
    """The stored clip if there is one and it need not change, the joints, and their rate."""
    clip = opened.clip
    if clip is not None:
        clip = mirror(clip) if how.mirror else clip
        joints, fps = decode(clip), clip.header.fps
    else:
        assert opened.prepared is not None
        joints, fps = opened.prepared.joints, opened.prepared.fps
        joints = mirrored(joints) if how.mirror else joints
    if how.resample is not None and abs(how.resample - fps) > 1e-9:
        return None, resample_joints(joints, fps, how.resample), how.resample
    return clip, joints, fps


def _encoded(joints: F64, fps: float, opened: Opened, source: Mapping[str, Any]) -> MotionClip:
    report = opened.report
    told = {
        "format": opened.format, "rig": report.get("rig", "unknown"), "sha256": source.get("sha256"),
        "time": report.get("time"),
    }  # fmt: skip
    clip = encode(
        joints, fps, source={k: v for k, v in told.items() if v is not None}, licence=source.get("licence"),
        origin=source.get("performer"), scale_applied=float(report.get("scale_applied", 1.0)),
    )  # fmt: skip
    return clip


def _written(
    clip: MotionClip | None, joints: F64, fps: float, how: How, created_by: Mapping[str, Any]
) -> tuple[list[tuple[str, bytes]], F64, float]:
    """Files, the joints that they hold, and their rate."""
    from choreo_cli.export.npz import npz_bytes

    if how.to == "joints":
        from choreo_cli.motion.export_joints import joints_arrays

        arrays = joints_arrays(joints, fps)
        return [(".npz", npz_bytes(arrays))], arrays["joints"].astype(np.float64), fps
    if how.to == "humanml3d":
        return _features(joints, fps, how)
    assert clip is not None
    back = decode(clip)
    if how.to == "choreo25":
        return [(".npz", motion_npz.encode(clip, created_by))], back, fps
    if how.to == "bvh":
        from choreo_cli.motion.export_bvh import bvh_of

        text, told = bvh_of(clip, how.unit)
        return [(".bvh", text), (".json", sealed.dumps(told))], back, fps
    from choreo_cli.motion.export_smpl import smpl_of

    values, body = smpl_of(clip)
    return [(".npz", npz_bytes(values)), (".body.json", sealed.dumps(body))], back, fps


def _features(joints: F64, fps: float, how: How) -> tuple[list[tuple[str, bytes]], F64, float]:
    import io

    from choreo_cli.motion.export_joints import features_arrays
    from choreo_cli.motion.humanml3d import FPS, recovered_joints

    features, _ = features_arrays(joints, fps, how.target)
    out = io.BytesIO()
    np.lib.format.write_array(out, np.ascontiguousarray(features), version=(1, 0), allow_pickle=False)
    return [(".npy", out.getvalue())], recovered_joints(features.astype(np.float64)), FPS


def _errors(back: F64, joints: F64, rate: float, fps: float, how: How) -> dict[str, Any]:
    """Distances of what was written from what was read; none for a body that was changed on purpose."""
    empty = {"mean_mm": None, "p95_mm": None, "foot_mm_s": None}
    if how.to == "humanml3d":
        if how.target is not None:
            return {"totals": empty, "round_trip": "another body was asked for: nothing to compare"}
        from choreo_cli.motion.humanml3d import canonical_joints

        joints = canonical_joints(joints if fps == rate else resample_joints(joints, fps, rate))[: len(back)]
    gap = np.linalg.norm(back - joints, axis=-1) * 1e3
    totals = {
        "mean_mm": round(float(gap.mean()), 4), "p95_mm": round(float(np.percentile(gap, 95)), 4),
        "foot_mm_s": round(foot_error(back, joints, rate), 4),
    }  # fmt: skip
    joint = {n: round(float(g), 3) for n, g in zip(CANONICAL, gap.mean(0), strict=True)}
    return {
        "totals": totals, "joint_mm": joint, "max_mm": round(float(gap.max()), 3),
        "contact_share": round(float(contacts_of(joints, rate).mean()), 4),
    }  # fmt: skip


def foot_error(a: F64, b: F64, fps: float) -> float:
    """Mean difference of the ankles' horizontal speeds, mm/s."""
    speeds = [np.linalg.norm(np.diff(p[:, _ANKLES][..., [0, 2]], axis=0), axis=-1) * fps * 1e3 for p in (a, b)]
    return float(np.abs(speeds[0] - speeds[1]).mean()) if len(a) > 1 else 0.0


def _flags(report: Mapping[str, Any], clip: MotionClip | None, clamped: int, how: How) -> list[str]:
    found = flags_of(report)
    if clip is not None:
        found += ["inverted"] if clip.header.flags.get("inverted") else []
        found += ["tracked"] if clip.header.flags.get("varying_bones") else []
        found += ["canonical skeleton"] if clip.header.flags.get("canonical_skeleton") else []
    found += ["out of range"] if clamped else []
    found += ["mirrored"] if how.mirror else []
    return list(dict.fromkeys(found))


def _told(report: Mapping[str, Any]) -> dict[str, Any]:
    keep = (
        "time", "frames_found", "units_found", "scale_applied", "filled", "trimmed", "placed", "bone_std", "map",
        "problems", "assumptions",
    )  # fmt: skip
    return {k: report[k] for k in keep if report.get(k) not in (None, [], {}, 0)}


def _content(clip: MotionClip | None, data: bytes) -> bytes:
    """What makes a clip the same clip: its numbers, not who wrote them."""
    if clip is None:
        return data
    h = clip.header
    start = np.array([h.fps, h.yaw0, h.x0, h.z0])
    return clip.channels.tobytes() + h.skeleton.to_vector().tobytes() + start.tobytes()
