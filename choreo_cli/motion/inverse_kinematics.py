"""From 22 joints to the posture channels, for numpy and torch (component-first, see `algebra`).

Formulas: motion.md section 5. Limbs are encoded against the decoded torso, so that the decoder's errors of the torso
do not reach wrists and ankles.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from choreo_cli.motion.algebra import (
    Array,
    conjugate_product,
    cross,
    dot,
    exp_matrix,
    fractions,
    heading,
    horn,
    norm,
    quaternion_log,
    quaternion_matrix,
    rodrigues,
    tilt,
    turn,
    turn_back,
)
from choreo_cli.motion.forward_kinematics import Body
from choreo_cli.motion.limbs import into_reach, swivel_of

PELVIS_POINTS = [1, 2, 3]
PELVIS_WEIGHTS = (1.0, 1.0, 1.0)
CHEST_POINTS = [12, 13, 14, 16, 17]
CHEST_WEIGHTS = (1.0, 1.0, 1.0, 1.5, 1.5)
# spine2, chest, neck, head, shoulders. The shoulders' weights must be equal, or mirrored clips encode differently.
_FITTED = [6, 9, 12, 15, 16, 17]
_FIT_WEIGHTS = (0.5, 0.7, 1.0, 0.8, 0.9, 0.9)
_DAMPING = 1e-4
ITERATIONS = 4
_PART_OF = [0, 1, 2, 2, 2, 2]  # the third of the chest's rotation each fitted joint hangs on last


class Pelvis(NamedTuple):
    """Pelvis of every frame: angles (1, *b), the joints from it in its heading frame, its tilt, how upright it is."""

    yaw: Array
    pitch: Array
    roll: Array
    local: Array  # (3, 22, *b) heading frame, pelvis at 0
    q: Array  # (3, 3, 1, *b)
    upright: Array  # (1, *b) its y axis against up


def pelvis_of(xp: Any, body: Body, joints: Array) -> Pelvis:
    """Fit the pelvis to hips and spine1 and split off its heading. `joints` (3, 22, *b) in metres, y up."""
    away = joints - joints[:, :1]
    r = quaternion_matrix(xp, horn(xp, body.op, away[:, PELVIS_POINTS], PELVIS_WEIGHTS))
    flat = xp.sqrt(xp.clip(r[0, 2] ** 2 + r[2, 2] ** 2, 1e-18, None))
    yaw, pitch, roll = xp.arctan2(r[0, 2], r[2, 2]), xp.arctan2(-r[1, 2], flat), xp.arctan2(r[1, 0], r[1, 1])
    x, z = heading(r[2, 2] / flat, -r[0, 2] / flat, away[0], away[2])
    return Pelvis(yaw, pitch, roll, xp.stack([x, away[1], z], 0), tilt(xp, pitch, roll), r[1, 1])


def chest_start(xp: Any, body: Body, p: Pelvis) -> Array:
    """Chest orientation alone, as a rotation vector (3, 1, *b) from the pelvis."""
    seen = turn_back(p.q, p.local[:, CHEST_POINTS] - p.local[:, 9:10])
    return quaternion_log(xp, horn(xp, body.oc, seen, CHEST_WEIGHTS))


def relative(xp: Any, body: Body, joints: Array) -> Array:
    """`log(Rp^T Rc)` (3, 1, *b) straight from the joints, without a heading (the skeleton fit starts here)."""
    away = joints - joints[:, :1]
    pelvis = horn(xp, body.op, away[:, PELVIS_POINTS], PELVIS_WEIGHTS)
    chest = horn(xp, body.oc, joints[:, CHEST_POINTS] - joints[:, 9:10], CHEST_WEIGHTS)
    return quaternion_log(xp, conjugate_product(pelvis, chest))


def chest_fit(xp: Any, body: Body, p: Pelvis, start: Array, iterations: int = ITERATIONS) -> Array:
    """Chest rotation (3, 1, *b) that puts spine, neck, head and shoulders best: damped Gauss-Newton, analytic."""
    target = turn_back(p.q, p.local[:, _FITTED]) - body.op[:, 2:3]
    fixed = xp.concatenate([body.oc[:, :1], body.oc[:, :1] + body.o15, body.oc[:, 3:5]], 1)
    weight = xp.stack([xp.full_like(target[0, 0], w * w) for w in _FIT_WEIGHTS], 0)
    rel = start
    for _ in range(iterations):
        rel = rel - _step(xp, body, rel, target, fixed, weight)
    return rel


def _step(xp: Any, body: Body, rel: Array, target: Array, fixed: Array, weight: Array) -> Array:
    """One Gauss-Newton step `(J^T J + d I)^-1 J^T r` of the weighted residual, (3, 1, *b)."""
    a, b = fractions(xp, rel)
    p6 = rodrigues(xp, rel, body.o6, a[0], b[0])
    p9 = rodrigues(xp, rel, body.o9, a[1], b[1])
    top = turn(exp_matrix(xp, rel, a[2], b[2]), fixed)
    chest = p6 + p9
    r = xp.concatenate([p6, chest, chest + top], 1) - target
    # Axes the three parts turn about when a component of rel changes: (3, 3 components, part, *b).
    axes = _left_jacobian(xp, rel, xp.concatenate(a, 0), xp.concatenate(b, 0))
    parts = xp.concatenate([p6, p9, top], 1)
    columns = []
    for c in range(3):
        own = cross(xp, axes[:, c, _PART_OF], parts)
        below = own[:, :1] + own[:, 1:2]
        columns.append(xp.concatenate([own[:, :1], below, below + own[:, 2:]], 1))
    weighted = [j * weight for j in columns]
    m = {(i, j): _total(weighted[i] * columns[j]) for i in range(3) for j in range(i, 3)}
    return _solve3(xp, m, [_total(w * r) for w in weighted])


def _total(products: Array) -> Array:
    """(3, K, *b) summed over components and points -> (1, *b)."""
    return products.reshape((-1, *products.shape[2:])).sum(0)[None]


def _left_jacobian(xp: Any, w: Array, a: Array, b: Array) -> Array:
    """`s J_l(s w)` for s = 1/3, 2/3, 1: how `exp(s w)` turns when w changes (Chirikjian 2011, section 10.8).

    Args:
        xp: numpy or torch.
        w: (3, 1, *b).
        a, b: (3, *b) factors of `fractions`, one a third.

    Returns:
        (3, 3, 3, *b): component, column, third.
    """
    shape = (3,) + (1,) * (a.ndim - 1)
    s = xp.cumsum(xp.full_like(a[:, :1], 1 / 3), 0).reshape((3, -1))[:, :1].reshape(shape)
    square = xp.clip(dot(w, w), 1e-12, None)
    # (p - sin p) / |w|^3 with p = s |w|: by its series where the difference would cancel.
    p2 = s * s * square
    series = s**3 * (1 / 6 - p2 / 120 * (1 - p2 / 42 * (1 - p2 / 72)))
    c = xp.where(p2 < 0.02, series, (s - a) / square)
    x, y, z = w[0], w[1], w[2]
    cx, cy, cz, bx, by, bz = c * x, c * y, c * z, b * x, b * y, b * z
    rows = [
        [s - cy * y - cz * z, cx * y - bz, cx * z + by],
        [cx * y + bz, s - cx * x - cz * z, cy * z - bx],
        [cx * z - by, cy * z + bx, s - cx * x - cy * y],
    ]
    return xp.stack([xp.stack(row, 0) for row in rows], 0)


def _solve3(xp: Any, m: dict[tuple[int, int], Array], g: list[Array]) -> Array:
    """Solve a symmetric positive 3x3 system for every frame by its adjugate."""
    a, d, f = (m[i, i] + _DAMPING for i in range(3))
    b, c, e = m[0, 1], m[0, 2], m[1, 2]
    aa, ab, ac = d * f - e * e, c * e - b * f, b * e - c * d
    bb, bc, cc = a * f - c * c, b * c - a * e, a * d - b * b
    inverse = 1 / (a * aa + b * ab + c * ac)
    x = (aa * g[0] + ab * g[1] + ac * g[2]) * inverse
    y = (ab * g[0] + bb * g[1] + bc * g[2]) * inverse
    z = (ac * g[0] + bc * g[1] + cc * g[2]) * inverse
    return xp.stack([x, y, z], 0)


def arm_channels(xp: Any, body: Body, p: Pelvis, rel: Array) -> tuple[Array, Array]:
    """Wrists (3, 2, *b) in arm lengths, norm <= 1, and elbow swivels (2, *b) rad, against the decoded chest."""
    a, b = fractions(xp, rel)
    chest = body.op[:, 2:3] + rodrigues(xp, rel, body.o6, a[0], b[0]) + rodrigues(xp, rel, body.o9, a[1], b[1])
    seen = turn_back(exp_matrix(xp, rel, a[2], b[2]), turn_back(p.q, p.local[:, 18:22]) - chest)
    reach = seen[:, 2:4] - body.oc[:, 3:5]
    swivel = swivel_of(xp, reach, seen[:, 0:2] - body.oc[:, 3:5], body.elbow_poles)
    wrist = reach / body.arm
    return wrist / xp.clip(norm(xp, wrist), 1.0, None), swivel


def ankle_channels(xp: Any, body: Body, p: Pelvis) -> Array:
    """Ankles (3, 2, *b) from the root in leg lengths, heading frame, moved along the leg into its reach."""
    hip = turn(p.q, body.op[:, :2])
    return (hip + into_reach(xp, p.local[:, 7:9] - hip, body.thigh, body.shank)) / body.leg


def posture(xp: Any, body: Body, p: Pelvis) -> Array:
    """Channels 6 to 24 of every frame: (19, *b)."""
    rel = chest_fit(xp, body, p, chest_start(xp, body, p))
    wrist, swivel = arm_channels(xp, body, p, rel)
    ankle = ankle_channels(xp, body, p)
    sides = [xp.concatenate([wrist[:, k], swivel[k : k + 1]], 0) for k in range(2)]
    return xp.concatenate([p.pitch, p.roll, rel[:, 0], *sides, ankle[:, 0], ankle[:, 1]], 0)
