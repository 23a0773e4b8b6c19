"""From what an importer returns to a clip: 22 joints in metres, y up, floor at 0, an even frame rate, no gaps."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.errors import DataError
from choreo_cli.motion.joint_checks import GAP_S, bone_spread, fill_gaps
from formats.errors import FormatError
from formats.foreign.body import Scaling, finish, leg_length
from formats.foreign.completion import complete
from formats.foreign.joints import CANONICAL, canonical_names
from formats.foreign.model import PoseStream
from formats.foreign.pose_clock import snap_rate
from formats.proportions import LEG_SHARE

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

UNITS_M = {"m": 1.0, "cm": 0.01, "mm": 0.001, "inches": 0.0254}
EVEN = 0.02  # of a period: what rounding to microseconds may move a frame by, and a little more
TRACKED = 0.01
MIN_FPS, MAX_FPS = 1.0, 1000.0
LIFT = "2-D points are lifted first: choreo capture lift"


@dataclass(frozen=True, slots=True)
class Prepared:
    """A clip that can be encoded.

    Args:
        joints: (T, 22, 3) metres, y up, floor at 0, finite.
        fps: Hz.
        report: What was found, assumed, doubted and changed (JSON values).
    """

    joints: F64
    fps: float
    report: dict[str, Any]


def prepare(
    stream: PoseStream, *, fps: float | None = None, scale: float | None = None, height: float | None = None,
    meta: Mapping[str, Any] | None = None,
) -> Prepared:  # fmt: skip
    """Make a clip of a pose stream.

    Args:
        stream: Of any reader; canonical names where known.
        fps: Frames per second, instead of what the times say.
        scale: Factor on the stream's lengths.
        height: Stature in metres that the body is scaled to (1.70 is the training scale).
        meta: Facts of the reader (`rig`, `map`, `scale`, `units_found`), kept in the report.

    Raises:
        DataError: image points, too few frames, no rate, joints that are missing altogether or for too long.
    """
    if stream.xyz.ndim != 3 or stream.xyz.shape[2] != 3 or stream.units in ("px", "norm"):
        raise DataError("holds image points, not joints in space", hint=LIFT)
    rig = (meta or {}).get("rig") or ("canonical" if stream.joints == CANONICAL else "by name")
    report: dict[str, Any] = {"frames_found": len(stream.t_us), "rig": str(rig)}
    points, placed, toeless = named_joints(stream)
    points, rate, report["time"] = _even(points, stream, fps)
    points, trimmed = _trimmed(points)
    factor, body_notes, body_problems = 1.0, [], []
    if _finished(stream):
        xyz = points
        if scale is not None or height is not None:
            factor = scale if scale is not None else _factor(height, points)
            xyz = points * factor
    else:
        from formats.foreign.pose_space import turn_up

        upright = points if stream.up == "+y" else turn_up(points, stream.up)
        declared = (1.0, "m") if stream.units == "m" else None
        body = finish(upright, Scaling(scale, height, declared), rate, missing_toes=toeless)
        xyz, body_notes, body_problems = body.xyz, list(body.notes), list(body.problems)
        factor = float(body.meta["scale"])  # type: ignore[arg-type]
        report |= {k: body.meta[k] for k in ("units_found",) if k in body.meta}
    joints, filled = fill_gaps(np.asarray(xyz, np.float64), rate)
    report |= {k: v for k, v in (meta or {}).items() if k in ("units_found", "map") and v}
    found_scale = float((meta or {}).get("scale", 1.0) or 1.0)
    report |= {
        "fps": rate, "scale": found_scale * factor, "scale_applied": factor if _finished(stream) else 1.0,
        "height_m": round(float(leg_length(joints) / LEG_SHARE), 4), "filled": filled, "trimmed": trimmed,
        "bone_std": round(bone_spread(joints), 5), "placed": placed,
        "problems": [*stream.problems, *(f"missing_joint: {p}" for p in placed), *body_problems],
        "assumptions": [*stream.assumptions, *body_notes],
    }  # fmt: skip
    return Prepared(joints, rate, report)


def flags_of(report: Mapping[str, Any]) -> list[str]:
    """Validity in words, from a report: `filled`, `trimmed`, `resampled`, `scaled`, `tracked`, codes of doubts."""
    found = [name for name in ("filled", "trimmed") if report.get(name)]
    found += ["resampled"] if "resampled" in str(report.get("time", "")) else []
    found += ["scaled"] if report.get("scale_applied", 1.0) != 1.0 else []
    found += ["units inferred"] if report.get("units_found") == "inferred" else []
    found += ["tracked"] if float(report.get("bone_std", 0.0)) > TRACKED else []
    codes = [str(p).partition(":")[0] for p in report.get("problems", ())]
    return list(dict.fromkeys([*found, *(c for c in codes if c not in ("bone_std",))]))


def units_said(assumptions: Sequence[str]) -> tuple[str | None, float | None]:
    """The unit that a reader found and its metres, from the sentence in which it says so (`formats.foreign.body`)."""
    for text in assumptions:
        if text.startswith("units inferred"):
            numbers = [float(n) for n in re.findall(r"\d+(?:\.\d+)?(?:e[-+]?\d+)?", text)]
            return "inferred", numbers[1] / numbers[0] if len(numbers) == 2 and numbers[0] else None
        if text.startswith("units ") and (word := text.split()[1].rstrip(",:")) in UNITS_M:
            return word, UNITS_M[word]
    return None, None


def lines_of(report: Mapping[str, Any]) -> list[str]:
    """The report for a person: rig, rate, scale, what is missing, what was assumed, doubted and filled."""
    lines = [
        f"rig: {report.get('rig', 'unknown')}",
        f"rate: {report.get('time', 'unknown')}",
        f"scale: {report.get('scale', 1.0):.6g} ({report.get('units_found', 'as the stream says')}),"
        f" stature {report.get('height_m', 0.0):.3g} m",
    ]
    if report.get("map"):
        lines.append("map: " + ", ".join(f"{ours} = {theirs}" for ours, theirs in report["map"].items()))
    if report.get("filled"):
        lines.append(f"gaps: {report['filled']} joints of frames filled, none longer than {GAP_S} s")
    if report.get("trimmed"):
        lines.append(f"cut: {report['trimmed'][0]} frames at the start, {report['trimmed'][1]} at the end")
    return [*lines, *(f"assumed: {a}" for a in report["assumptions"]), *(f"doubt: {p}" for p in report["problems"])]


def _finished(stream: PoseStream) -> bool:
    """Whether its reader has scaled it, turned it up and put it on the floor: it then says how it chose the unit."""
    return (
        stream.joints == CANONICAL and stream.units == "m" and stream.up == "+y"
        and any(a.startswith("units") for a in stream.assumptions)
    )  # fmt: skip


def named_joints(stream: PoseStream) -> tuple[F64, list[str], list[str]]:
    """The canonical joints of a stream, as found.

    Returns:
        (T, 22, 3) in the stream's unit and axes, a sentence for each joint that was placed, sides without a toe.

    Raises:
        DataError: hips, knees, ankles, shoulders, elbows, wrists or head have no name that is known.
    """
    xyz = np.asarray(stream.xyz, np.float64)
    if stream.joints == CANONICAL:
        return xyz, [], []
    names = canonical_names(stream.joints)
    found = {n: xyz[:, i] for i, n in enumerate(names) if n in CANONICAL or n == "nose"}
    try:
        return complete(found)
    except FormatError as e:
        raise DataError(f"{e.message}; {_nearest(stream.joints, found)}", hint=map_hint(stream.joints)) from None


def _nearest(names: Sequence[str], found: Mapping[str, F64]) -> str:
    shown = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
    return f"{len(found)} of 22 joints are known among {shown}"


def map_hint(names: Sequence[str]) -> str:
    """How to write the map of a skeleton whose names are not known, with the nearest name for every joint."""
    near = nearest_map(names)
    told = ", ".join(f"{theirs}: {ours}" for theirs, ours in near.items()) or f"{names[0]}: pelvis"
    return f"name them with --map FILE, for example joints: {{map: {{{told}}}}}; see choreo inspect FILE --suggest-map"


def nearest_map(names: Sequence[str]) -> dict[str, str]:
    """A guess of which canonical joint each name means, by spelling: theirs to ours; what resembles nothing is left."""
    known = canonical_names(names)
    out: dict[str, str] = {n: k for n, k in zip(names, known, strict=True) if k in CANONICAL}
    free = [c for c in CANONICAL if c not in out.values()]
    for name in names:
        if name in out:
            continue
        word = "".join(c if c.isalpha() else "_" for c in name).lower()
        word = word.replace("left", "l").replace("right", "r")
        near = get_close_matches(word, free, 1, 0.55)
        if near:
            out[name] = near[0]
            free.remove(near[0])
    return out


def _even(points: F64, stream: PoseStream, fps: float | None) -> tuple[F64, float, str]:
    """Frames at an even rate; what was found and what is used."""
    if len(points) < 2:
        raise DataError(f"{len(points)} frame{'s' * (len(points) != 1)}", hint="a clip needs at least two")
    t = np.asarray(stream.t_us, np.int64)
    if fps is not None:
        return points, _rate(fps), f"{fps:g} fps given"
    if stream.rate_source == "none" or (stream.rate is None and not (np.diff(t) > 0).all()):
        why = next((p.partition(": ")[2] for p in stream.problems if p.startswith("frame_time")), "")
        raise DataError("no frame rate in the file" + (f", {why}" if why else ""), hint="give it with --fps")
    step = float(np.median(np.diff(t)))
    if stream.rate is not None and stream.rate_source != "timestamps":
        rate = stream.rate[0] / stream.rate[1]
        if np.abs(np.diff(t) * rate * 1e-6 - 1).max() <= EVEN + rate * 1e-6:
            return points, _rate(rate), f"{rate:.6g} fps from the {stream.rate_source}"
    mean = float(t[-1] - t[0]) / (len(t) - 1)
    period = mean if abs(mean / step - 1) < EVEN else step
    snapped = snap_rate(period)
    rate = _rate(snapped[0] / snapped[1] if snapped else 1e6 / period)
    found = f"{1e6 / period:.6g} fps found, {rate:.6g} used"
    if np.abs(t - t[0] - np.arange(len(t)) * 1e6 / rate).max() <= EVEN * period + 1:
        return points, rate, found
    return _resampled(points, t, rate), rate, f"{found}, resampled from uneven times"


def _rate(fps: float) -> float:
    if not MIN_FPS <= fps <= MAX_FPS or not math.isfinite(fps):
        raise DataError(f"{fps:g} frames per second", hint=f"need {MIN_FPS:g} to {MAX_FPS:g}; see --fps")
    return float(fps)


def _resampled(points: F64, t: I64, rate: float) -> F64:
    """Straight lines between the frames around each even time; NaN where they are farther apart than a gap may be."""
    n = 1 + int((t[-1] - t[0]) * 1e-6 * rate + 1e-6)
    at = t[0] + np.arange(n) * 1e6 / rate
    left = np.clip(np.searchsorted(t, at, side="right") - 1, 0, len(t) - 2)
    width = (t[left + 1] - t[left]).astype(np.float64)
    share = np.clip((at - t[left]) / width, 0, 1)
    out = points[left] * (1 - share)[:, None, None] + points[left + 1] * share[:, None, None]
    longest = float(width.max()) * 1e-6
    if longest > GAP_S + 1.5 / rate:
        where = float(t[left[int(width.argmax())]] - t[0]) * 1e-6
        raise DataError(
            f"no frames for {longest:.2f} s at {where:.2f} s", hint=f"at most {GAP_S} s are filled: split it"
        )
    return np.asarray(out)


def _trimmed(points: F64) -> tuple[F64, list[int]]:
    """Without the frames at both ends that lack a joint, and how many those were; [] when none."""
    whole = np.flatnonzero(np.isfinite(points).all((1, 2)) | _toes_only(points))
    if len(whole) < 2:
        missing = ~np.isfinite(points).all(-1)
        worst = CANONICAL[int(missing.sum(0).argmax())]
        raise DataError(
            f"{len(whole)} frames hold every joint; {worst} is missing most", hint="a map may name it: --map"
        )
    first, last = int(whole[0]), int(whole[-1]) + 1
    cut = [first, len(points) - last]
    return points[first:last], cut if any(cut) else []


def _toes_only(points: F64) -> NDArray[np.bool_]:
    """Frames that lack nothing but toes that are missing throughout: those are placed later."""
    known = np.asarray(np.isfinite(points).all(-1))
    placed = ~known.any(0) & np.isin(CANONICAL, ("l_toe", "r_toe"))
    return np.asarray((known | placed).all(1))


def _factor(height: float | None, points: F64) -> float:
    tall = float(leg_length(points) / LEG_SHARE)
    if height is None or not 0.1 <= height <= 3.0:
        raise DataError(f"a stature of {height:g} m" if height is not None else "no stature", hint="need 0.1 to 3 m")
    return height / tall if tall > 1e-9 else 1.0
