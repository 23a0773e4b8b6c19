"""The table of per-clip motion metrics: what is measured, at which rate, in which unit, and what stops it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.metrics import motion_contact as contact
from choreo_cli.metrics import motion_skate as skate
from choreo_cli.metrics import motion_smooth as smooth
from choreo_cli.metrics.motion_clip import Clip, ankle_rest, foot_contacts, low_passed, with_hands
from choreo_cli.motion import biomechanics as body
from choreo_cli.motion.biomechanics_params import ANGLES, LIMIT_NAMES, described

F64 = NDArray[np.float64]

MODES = ("fixed", "compat", "compat:bailando", "compat:edge", "compat:lodge", "compat:mint", "compat:motioncritic",
         "compat:motionlcm", "compat:popdg", "all")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Measure:
    """One figure of one clip.

    Args:
        name: In the record, without its `motion.`.
        unit: Of the value.
        better: `higher` or `lower`.
        of: Clip -> value, None where it has none.
        missing: Why `of` gives None.
        mode: `fixed` or `compat:REFERENCE`.
        fps: Rate the clip is brought to; None keeps its own.
        windowed: Cut into 5 s windows and averaged over them.
        params: For the record.
    """

    name: str
    unit: str
    better: str
    of: Callable[[Clip], float | None]
    missing: str
    mode: str = "fixed"
    fps: float | None = 30.0
    windowed: bool = True
    params: Mapping[str, Any] = field(default_factory=dict)


def _slide(clip: Clip, what: str) -> float | None:
    found = skate.slide(clip)
    return None if found is None else getattr(found, what)


def _jerk(clip: Clip, what: str) -> float | None:
    found = smooth.jerk(low_passed(clip.body, clip.fps, smooth.CUT_HZ), clip.fps) if clip.frames >= 8 else None
    return None if found is None else getattr(found, what)


def _raw_jerk(clip: Clip, what: str) -> float | None:
    found = smooth.jerk(clip.body, clip.fps)
    return None if found is None else getattr(found, what)


def limit_share(clip: Clip) -> float | None:
    """Share of frames in which any joint is beyond its limit."""
    return float((body.limit_excess(clip.body) > 0).any(axis=1).mean()) if clip.frames else None


def _limit_degrees(clip: Clip) -> float | None:
    if not clip.frames:
        return None
    over = body.limit_excess(clip.body)[:, :ANGLES]
    return float(over[over > 0].mean()) if (over > 0).any() else 0.0


def self_overlap_mm(clip: Clip) -> float | None:
    """Overlap of all capsule pairs, mean over frames, millimetres."""
    return float(1e3 * body.self_penetration(clip.body).sum(axis=1).mean()) if clip.frames else None


def ground_depth_mm(clip: Clip, how: str = "mean") -> float | None:
    """Depth of the deepest of ankles and toes below the floor, mean or maximum over frames, millimetres."""
    if not clip.frames:
        return None
    deep = 1e3 * body.ground_penetration(clip.body, ankle_rest(clip)).max(axis=1)
    return float(deep.mean() if how == "mean" else deep.max())


def _momentum(clip: Clip, axes: list[int]) -> float | None:
    """RMS over flight frames of the acceleration of the centre of mass less gravity."""
    if clip.frames < 8:
        return None
    x = low_passed(clip.body, clip.fps, smooth.CUT_HZ)
    flies = body.in_flight(x, foot_contacts(clip).astype(np.float64), ankle_rest(clip))
    inside = flies[:-2] & flies[1:-1] & flies[2:]
    if not inside.any():
        return None
    return float(np.sqrt((body.flight_residual(x, clip.fps)[inside][:, axes] ** 2).sum(axis=1).mean()))


def _support(clip: Clip, share: bool) -> float | None:
    if not clip.frames:
        return None
    found = body.support_distance(clip.body, foot_contacts(clip).astype(np.float64))
    found = found[np.isfinite(found)]
    return None if not len(found) else float((found <= 0).mean() if share else found.mean())


def _drift(clip: Clip) -> float | None:
    return float(smooth.bone_drift(clip.body).max()) if clip.frames > 1 else None


def _gmd(clip: Clip, k: int) -> float | None:
    found = skate.skate_gmd(clip.joints, clip.fps)
    return None if found is None else found[k]


def _lodge(clip: Clip, foot: int) -> float | None:
    return skate.skate_lodge(clip.joints)[foot]


def _pbc(clip: Clip) -> float | None:
    return contact.pbc(with_hands(clip.joints))


SHORT = "the clip is too short"
NO_CONTACT = "no foot ever touches the floor"
STILL = "the root never accelerates (0/0)"
CLAIMS = "the clip claims no contacts of its own"
NO_FLIGHT = "no frame in flight"
_BODY = {"joints": 22}


def fixed_measures() -> list[Measure]:
    """Repaired metrics: 30 fps, 5 s windows, SI units."""
    jerk_how = {"low_pass_hz": smooth.CUT_HZ, **_BODY}
    params = described()
    limits = {"limits": params["limits"], "names": list(LIMIT_NAMES)}
    capsules = {"capsules": params["capsules"], "pairs": params["pairs"], "radius": "fraction of stature"}
    masses = {"segments": params["segments"], "source": params["segments_source"]}
    lift = {"above_m": skate.FLOAT_M}
    drift = {"of": "largest sd / mean of 21 bones"}
    how = {"contact": "channels >= .5, else height < .05 m and |v_y| < .1 m/s"}
    return [
        Measure("contact_balance", "m2/s2 g", "lower", lambda c: contact.contact_balance(c.joints, c.fps), SHORT),
        Measure("slide_m_per_s", "m/s", "lower", partial(_slide, what="m_per_s"), NO_CONTACT, params=how),
        Measure("slide_share", "1", "lower", partial(_slide, what="share_sliding"), NO_CONTACT, params=how),
        Measure("contact_fraction", "1", "higher", partial(_slide, what="contact_fraction"), SHORT, params=how),
        Measure("float_share", "1", "lower", partial(_slide, what="float_share"), CLAIMS, params=lift),
        Measure("jerk", "m/s3", "lower", partial(_jerk, what="mean"), SHORT, params=jerk_how),
        Measure("jerk_p99", "m/s3", "lower", partial(_jerk, what="p99"), SHORT, params=jerk_how),
        Measure("limits_share", "1", "lower", limit_share, SHORT, params=limits),
        Measure("limits_excess", "deg", "lower", _limit_degrees, SHORT, params=limits),
        Measure("self_penetration", "mm", "lower", self_overlap_mm, SHORT, params=capsules),
        Measure("ground_penetration", "mm", "lower", ground_depth_mm, SHORT),
        Measure("ground_penetration_max", "mm", "lower", partial(ground_depth_mm, how="max"), SHORT),
        Measure("momentum_horizontal", "m/s2", "lower", partial(_momentum, axes=[0, 2]), NO_FLIGHT, params=masses),
        Measure("momentum_vertical", "m/s2", "lower", partial(_momentum, axes=[1]), NO_FLIGHT, params=masses),
        Measure("support_distance", "m", "lower", partial(_support, share=False), NO_CONTACT, params=masses),
        Measure("balanced_share", "1", "higher", partial(_support, share=True), NO_CONTACT, params=masses),
        Measure("bone_drift", "1", "lower", _drift, SHORT, windowed=False, params=drift),
        Measure("jerk_raw", "m/s3", "lower", partial(_raw_jerk, what="mean"), SHORT, fps=None, windowed=False),
        Measure("jerk_raw_p99", "m/s3", "lower", partial(_raw_jerk, what="p99"), SHORT, fps=None, windowed=False),
    ]  # fmt: skip


def compat_measures() -> list[Measure]:
    """Published metrics at their references' rates, whole clips."""

    def one(name: str, unit: str, of: Callable[[Clip], float | None], missing: str, mode: str, fps: float) -> Measure:
        return Measure(f"{name}@{fps:g}fps", unit, "lower", of, missing, f"compat:{mode}", fps, windowed=False)

    return [
        one("pfc", "1", lambda c: contact.pfc(c.joints), STILL, "edge", contact.FPS),
        one("pfc_motioncritic", "1", lambda c: contact.pfc_motioncritic(c.joints), STILL, "motioncritic", contact.FPS),
        one("pbc", "1", _pbc, STILL, "popdg", contact.FPS),
        one("skate_gmd", "1", partial(_gmd, k=0), SHORT, "motionlcm", skate.GMD_FPS),
        one("skate_gmd_speed", "m/s", partial(_gmd, k=1), SHORT, "motionlcm", skate.GMD_FPS),
        one("skate_lodge_left", "1", partial(_lodge, foot=0), "no contact (0/0)", "lodge", skate.LODGE_FPS),
        one("skate_lodge_right", "1", partial(_lodge, foot=1), "no contact (0/0)", "lodge", skate.LODGE_FPS),
    ]  # fmt: skip


def asked_for(mode: str, name: str) -> bool:
    """Whether a metric of mode `name` belongs to what was asked for."""
    return mode in ("all", name) or (mode == "compat" and name.startswith("compat:"))
