"""A dancer as shapes: lit limbs in side colours, a torso, a head with a face, and the shadow on the floor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from choreo_cli.motion import raster
from choreo_cli.motion.camera import Camera

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

LEFT, RIGHT, TORSO, FACE, CONTACT = (
    (255, 134, 62), (64, 160, 255), (232, 228, 216), (58, 62, 76), (178, 242, 92),
)  # fmt: skip
SHADOW = (4, 6, 12)
FOG = (44, 50, 66)
NECK_M = 0.11
FADE_M, FADE = 0.55, 0.42  # how far behind the pelvis a limb has sunk into the fog, and how much
# part, from, to, radii in metres: indices of `_points`
_LIMBS: tuple[tuple[int, int, float, float, tuple[int, int, int]], ...] = (
    (1, 4, 0.082, 0.056, LEFT), (4, 7, 0.055, 0.036, LEFT), (22, 23, 0.040, 0.030, LEFT),
    (2, 5, 0.082, 0.056, RIGHT), (5, 8, 0.055, 0.036, RIGHT), (24, 25, 0.040, 0.030, RIGHT),
    (16, 18, 0.050, 0.038, LEFT), (18, 20, 0.037, 0.026, LEFT), (20, 26, 0.031, 0.022, LEFT),
    (17, 19, 0.050, 0.038, RIGHT), (19, 21, 0.037, 0.026, RIGHT), (21, 27, 0.031, 0.022, RIGHT),
    (38, 15, 0.050, 0.046, TORSO), (28, 29, 0.086, 0.096, TORSO), (30, 31, 0.028, 0.028, FACE),
)  # fmt: skip
_FEET = (2, 5)  # which limbs colour with contact
_QUADS = ((32, 33, 35, 34, 0.072), (34, 35, 37, 36, 0.086))  # chest, belly
# Parts of the shadow: from, to, radius.
_CASTS = (
    (1, 4, 0.08), (4, 7, 0.05), (7, 10, 0.045), (2, 5, 0.08), (5, 8, 0.05), (8, 11, 0.045), (16, 18, 0.045),
    (18, 26, 0.035), (17, 19, 0.045), (19, 27, 0.035), (0, 12, 0.14), (16, 17, 0.07), (28, 29, 0.09),
)  # fmt: skip
_SUN = (0.22, 0.30)  # how far a shadow falls to the right and away from the camera, a metre of height
COUNT = len(_CASTS) + 1 + 2 + len(_LIMBS) + len(_QUADS)


@dataclass(frozen=True, slots=True)
class _Flat:
    """Points in the picture: pixels (T, N, 2), pixels a metre (T, N), nearness (T, N)."""

    xy: F64
    scale: F64
    near: F64


def body(joints: F64, contacts: F64, camera: Camera) -> F32:
    """Shapes of a dancer, back to front: shadow, contact marks, limbs.

    Args:
        joints: (T, 22, 3) metres, y up, floor 0.
        contacts: (T, 2) left and right foot, 0..1.
        camera: Who looks.

    Returns:
        (T, COUNT, raster.WIDTH) float32.
    """
    points = _points(joints)
    flat = _Flat(*camera.project(points))
    out = raster.shapes(len(joints), COUNT)
    n = len(_CASTS)
    _shadow(out[:, :n], points, camera)
    out[:, n, raster.KIND] = raster.CAST
    out[:, n, raster.RGB : raster.RGB + 3] = SHADOW
    out[:, n, raster.ALPHA] = 0.72
    _marks(out[:, n + 1 : n + 3], points, contacts, camera)
    solid = out[:, n + 3 :]
    keys = _limbs(solid, flat, contacts)
    order = np.argsort(keys, 1, kind="stable")
    solid[:] = np.take_along_axis(solid, order[:, :, None], 1)
    return out


def _unit(v: F64) -> F64:
    return np.asarray(v / np.maximum(np.sqrt((v * v).sum(-1, keepdims=True)), 1e-9))


def _points(j: F64) -> F64:
    """(T, 39, 3): the joints, and what gives them flesh: heels, toe tips, hands, skull, face, waist."""
    out = np.empty((len(j), 39, 3))
    out[:, :22] = j
    for ankle, toe, heel in ((7, 10, 22), (8, 11, 24)):
        along = j[:, toe] - j[:, ankle]
        along[:, 1] = 0.0
        ball = j[:, toe].copy()
        out[:, heel] = j[:, ankle] * [1, 0.45, 1] + ball * [0, 0.55, 0] - 0.22 * along
        out[:, heel + 1] = ball + 0.30 * along
    for elbow, wrist, hand in ((18, 20, 26), (19, 21, 27)):
        out[:, hand] = j[:, wrist] + 0.095 * _unit(j[:, wrist] - j[:, elbow])
    across = _unit(j[:, 16] - j[:, 17])
    up = _unit(j[:, 15] - j[:, 12])
    out[:, 28], out[:, 29] = j[:, 15] + 0.015 * up, j[:, 15] + 0.085 * up
    front = _unit(np.cross(across, up))
    eyes = j[:, 15] + 0.062 * up + 0.082 * front
    out[:, 30], out[:, 31] = eyes + 0.036 * across, eyes - 0.036 * across
    # A rig may have its neck joint deep in the chest: what is seen of a neck is never longer than this.
    long = np.minimum(np.sqrt(((j[:, 15] - j[:, 12]) ** 2).sum(-1, keepdims=True)), NECK_M)
    out[:, 38] = j[:, 15] - long * up
    out[:, 32] = 0.80 * j[:, 16] + 0.20 * j[:, 9]
    out[:, 33] = 0.80 * j[:, 17] + 0.20 * j[:, 9]
    waist = (j[:, 3] + j[:, 6]) / 2
    side = _unit(across + _unit(j[:, 1] - j[:, 2])) * 0.062
    out[:, 34], out[:, 35] = waist + side, waist - side
    out[:, 36], out[:, 37] = j[:, 1], j[:, 2]
    return out


def _limbs(out: F32, flat: _Flat, contacts: F64) -> F64:
    """Fill the solid shapes; returns the (T, K) nearness they are ordered by."""
    pelvis = flat.near[:, 0]
    keys = np.empty(out.shape[:2])
    for k, (a, b, ra, rb, colour) in enumerate(_LIMBS):
        s = out[:, k]
        s[:, raster.KIND] = raster.CAPSULE
        s[:, raster.XY : raster.XY + 2], s[:, raster.XY + 2 : raster.XY + 4] = flat.xy[:, a], flat.xy[:, b]
        s[:, raster.R0], s[:, raster.R1] = ra * flat.scale[:, a], rb * flat.scale[:, b]
        keys[:, k] = (flat.near[:, a] + flat.near[:, b]) / 2
        tint = np.broadcast_to(np.array(colour, float), (len(s), 3))
        if k in _FEET:
            share = contacts[:, _FEET.index(k), None]
            tint = tint + (np.array(CONTACT) - tint) * share
        _tint(s, tint, keys[:, k] - pelvis)
    for k, (a, b, c, d, r) in enumerate(_QUADS, len(_LIMBS)):
        s, corners = out[:, k], [a, b, c, d]
        s[:, raster.KIND] = raster.QUAD
        s[:, raster.XY : raster.XY + 8] = flat.xy[:, corners].reshape(len(s), 8)
        s[:, raster.R0] = s[:, raster.R1] = r * flat.scale[:, corners].mean(1)
        keys[:, k] = flat.near[:, corners].mean(1)
        _tint(s, np.broadcast_to(np.array(TORSO, float), (len(s), 3)), keys[:, k] - pelvis)
    out[:, :, raster.ALPHA1][out[:, :, raster.KIND] == raster.CAPSULE] = 1.0
    # The head covers the neck, the chest covers the belly's edge and shoulders lie over the chest they belong to.
    head = _LIMBS.index(next(limb for limb in _LIMBS if limb[:2] == (28, 29)))
    keys[:, head] = np.maximum(keys[:, head], keys[:, head - 1] + 0.01)
    return keys


def _tint(s: F32, colour: F64, nearer: F64) -> None:
    """Colour by depth: what is behind the pelvis sinks into the fog, what is before it is a little brighter."""
    depth = np.clip(nearer / FADE_M, -1, 1)[:, None]
    fogged = colour + (np.array(FOG) - colour) * np.maximum(-depth, 0) * FADE
    s[:, raster.RGB : raster.RGB + 3] = np.minimum(fogged * (1 + 0.10 * np.maximum(depth, 0)), 255)
    s[:, raster.ALPHA], s[:, raster.SHADE], s[:, raster.SOFT], s[:, raster.RIM] = 1.0, 1.0, 1.0, 1.3


def _ground(points: F64, camera: Camera) -> F64:
    """Where the light casts points on the floor."""
    right = np.array([camera.axes[0, 0], 0.0, camera.axes[0, 2]])
    away = np.array([right[2], 0.0, -right[0]])
    height = np.maximum(points[..., 1:2], 0.0)
    return points * [1, 0, 1] + height * (_SUN[0] * right + _SUN[1] * away)


def _shadow(out: F32, points: F64, camera: Camera) -> None:
    """Softer, wider and fainter with the height of what casts it."""
    flat = _Flat(*camera.project(_ground(points, camera)))
    flatten = 0.45 + 0.55 * np.sin(camera.elevation)
    for k, (a, b, r) in enumerate(_CASTS):
        s = out[:, k]
        height = np.clip((points[:, a, 1] + points[:, b, 1]) / 2, 0, 2)
        s[:, raster.KIND] = raster.SHADOW
        s[:, raster.XY : raster.XY + 2], s[:, raster.XY + 2 : raster.XY + 4] = flat.xy[:, a], flat.xy[:, b]
        s[:, raster.R0] = s[:, raster.R1] = r * flatten * flat.scale[:, a]
        s[:, raster.SOFT] = (0.02 + 0.05 * height) * flat.scale[:, a]
        s[:, raster.ALPHA] = s[:, raster.ALPHA1] = 0.95 - 0.30 * height


def _marks(out: F32, points: F64, contacts: F64, camera: Camera) -> None:
    """A glow on the floor under each foot that stands."""
    flat = _Flat(*camera.project(points[:, [22, 23, 24, 25]] * [1, 0, 1]))
    for side in (0, 1):
        s = out[:, side]
        a, b = 2 * side, 2 * side + 1
        s[:, raster.KIND] = np.where(contacts[:, side] > 0.02, raster.CAPSULE, raster.SKIP)
        s[:, raster.XY : raster.XY + 2], s[:, raster.XY + 2 : raster.XY + 4] = flat.xy[:, a], flat.xy[:, b]
        s[:, raster.R0] = s[:, raster.R1] = 0.075 * flat.scale[:, a]
        s[:, raster.SOFT] = 0.10 * flat.scale[:, a]
        s[:, raster.RGB : raster.RGB + 3] = CONTACT
        s[:, raster.ALPHA] = s[:, raster.ALPHA1] = 0.40 * contacts[:, side]
