"""Manual (geometric) features of dance: 32 relations between joints, each the share of frames in which it holds.

Müller, Röder & Clausen, Efficient content-based retrieval of motion capture data, SIGGRAPH 2005, in the selection of
AIST++. As published, speeds take 1/120 s a frame whatever the rate, relations 5 and 6 forget the wrists, and three
lengths come from a licensed body model: here those are arguments. The repaired form measures the lengths on the clip,
uses the true rate, and lets relations 5 and 6 follow the wrists against the belly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from formats.foreign.joints import SMPL_24

F64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

PEER_FPS = 120.0
COUNT = 32


@dataclass(frozen=True, slots=True)
class Lengths:
    """Body lengths the relations are measured by, metres: upper arm, shoulder width, hip width."""

    upper_arm: float
    shoulders: float
    hips: float


def lengths_of(joints: F64) -> Lengths:
    """Medians over the clip; both arms together."""
    at = SMPL_24.index

    def apart(a: str, b: str) -> float:
        return float(np.median(np.linalg.norm(joints[:, at(a)] - joints[:, at(b)], axis=1)))

    arm = (apart("l_shoulder", "l_elbow") + apart("r_shoulder", "r_elbow")) / 2
    return Lengths(arm, apart("l_shoulder", "r_shoulder"), apart("l_hip", "r_hip"))


class _Frames:
    """Joints of frames 1..T-1 by name, and their steps from the frame before."""

    def __init__(self, joints: F64, fps: float) -> None:
        self.x, self.v, self.fps = joints[1:], np.diff(joints, axis=0) * fps, fps

    def at(self, name: str) -> F64:
        return np.asarray(self.x[:, SMPL_24.index(name)])

    def moved(self, name: str) -> F64:
        return np.asarray(self.v[:, SMPL_24.index(name)])

    def along(self, m: str, n: str, a: str, p: str) -> F64:
        """Projection of p - a on the direction from m to n."""
        return _dot(self.at(p) - self.at(a), _unit(self.at(n) - self.at(m)))

    def speed(self, a: str, b: str, p: str) -> F64:
        """Velocity of p against a along the direction from a to b."""
        return _dot(self.moved(p) - self.moved(a), _unit(self.at(b) - self.at(a)))

    def normal(self, a: str, b: str, c: str) -> F64:
        return _unit(np.cross(self.at(c) - self.at(a), self.at(b) - self.at(a)))

    def nspeed(self, a: str, b: str, c: str, p: str) -> F64:
        return _dot(self.moved(p) - self.moved(a), self.normal(a, b, c))

    def plane(self, a: str, b: str, c: str, p: str) -> F64:
        return _dot(self.at(p) - self.at(a), self.normal(a, b, c))

    def fast(self, p: str) -> F64:
        return np.asarray(np.linalg.norm(self.moved(p), axis=1))

    def angle(self, a: str, b: str, c: str, d: str) -> F64:
        return _degrees(self.at(b) - self.at(a), self.at(d) - self.at(c))

    def height(self, p: str) -> F64:
        return np.asarray(self.at(p)[:, 1] - self.x[..., 1].min(axis=1))


def manual32(joints: F64, fps: float, lengths: Lengths | None = None, *, published: bool = False) -> F64 | None:
    """(32,) share of frames 1..T-1 in which each relation holds; None below 2 frames.

    Args:
        joints: (T, 22 or 24, 3) metres, y up; heights are over the lowest of the joints given.
        fps: True rate.
        lengths: Body lengths; None takes those of the clip.
        published: Speeds over 1/120 s a frame, and relations 5 and 6 both of the chest.
    """
    if len(joints) < 2:
        return None
    size = lengths or lengths_of(joints)
    f = _Frames(joints, PEER_FPS if published else fps)
    held = np.stack([*_hands(f, size, published), *_legs(f, size), *_posture(f, size)])
    return np.asarray(held.mean(axis=1))


def _hands(f: _Frames, size: Lengths, published: bool) -> list[Bool]:
    """Relations 1-14: hands forward, up, bent, apart, approaching, fast."""
    hl, sw = size.upper_arm, size.shoulders
    rise = ("chest", "chest") if published else ("r_wrist", "l_wrist")
    return [
        f.nspeed("neck", "r_hip", "l_hip", "r_wrist") > 1.8 * hl,
        f.nspeed("neck", "l_hip", "r_hip", "l_wrist") > 1.8 * hl,
        f.along("chest", "neck", "neck", "r_wrist") > 0.2 * hl,
        f.along("chest", "neck", "neck", "l_wrist") > 0.2 * hl,
        f.speed("spine1", "chest", rise[0]) > 1.8 * hl,
        f.speed("spine1", "chest", rise[1]) > 1.8 * hl,
        _between(f.angle("r_elbow", "r_shoulder", "r_elbow", "r_wrist"), 0, 110),
        _between(f.angle("l_elbow", "l_shoulder", "l_elbow", "l_wrist"), 0, 110),
        f.along("l_shoulder", "r_shoulder", "l_wrist", "r_wrist") > 2.5 * sw,
        f.speed("l_wrist", "r_wrist", "r_wrist") > 1.4 * hl,
        f.speed("r_wrist", "pelvis", "l_wrist") > 1.4 * hl,
        f.speed("l_wrist", "pelvis", "r_wrist") > 1.4 * hl,
        f.fast("r_wrist") > 2.5 * hl,
        f.fast("l_wrist") > 2.5 * hl,
    ]


def _legs(f: _Frames, size: Lengths) -> list[Bool]:
    """Relations 15-23: foot before the other leg, raised, apart, knee bent, fast."""
    hl, hw = size.upper_arm, size.hips
    return [
        f.plane("pelvis", "l_hip", "l_toe", "r_ankle") > 0.38 * hl,
        f.plane("pelvis", "r_hip", "r_toe", "l_ankle") > 0.38 * hl,
        f.height("r_ankle") > 1.2 * hl,
        f.height("l_ankle") > 1.2 * hl,
        f.along("l_hip", "r_hip", "l_ankle", "r_ankle") > 2.1 * hw,
        _between(f.angle("r_knee", "r_hip", "r_knee", "r_ankle"), 0, 110),
        _between(f.angle("l_knee", "l_hip", "l_knee", "l_ankle"), 0, 110),
        f.fast("r_ankle") > 2.5 * hl,
        f.fast("l_ankle") > 2.5 * hl,
    ]


def _posture(f: _Frames, size: Lengths) -> list[Bool]:
    """Relations 24-32: limbs spread from the trunk, trunk before the feet, lying, hands low, travelling."""
    hl = size.upper_arm
    trunk = f.at("pelvis") - f.at("neck")
    up = np.broadcast_to([0.0, 1.0, 0.0], trunk.shape)
    return [
        _between(f.angle("neck", "pelvis", "r_shoulder", "r_elbow"), 25, 180),
        _between(f.angle("neck", "pelvis", "l_shoulder", "l_elbow"), 25, 180),
        _between(f.angle("neck", "pelvis", "r_hip", "r_knee"), 50, 180),
        _between(f.angle("neck", "pelvis", "l_hip", "l_knee"), 50, 180),
        f.plane("r_ankle", "neck", "l_ankle", "pelvis") > 0.5 * hl,
        _between(_degrees(trunk, up), 70, 110),
        f.height("r_wrist") < 1.2 * hl,
        f.height("l_wrist") < 1.2 * hl,
        f.fast("pelvis") > 2.3 * hl,
    ]


def _dot(a: F64, b: F64) -> F64:
    return np.asarray((a * b).sum(axis=-1))


def _unit(v: F64) -> F64:
    return np.asarray(v / np.maximum(np.linalg.norm(v, axis=-1, keepdims=True), 1e-12))


def _degrees(a: F64, b: F64) -> F64:
    return np.asarray(np.degrees(np.arccos(np.clip(_dot(_unit(a), _unit(b)), -1.0, 1.0))))


def _between(angle: F64, low: float, high: float) -> Bool:
    return np.asarray((angle > low) & (angle < high))
