"""Two-bone limbs and toes of the 22-joint body, for numpy and torch (component-first, see `algebra`).

Formulas: motion.md sections 5 and 6. Sides lie on the point axis: K = 2, left then right.
"""

from __future__ import annotations

from typing import Any

from choreo_cli.motion.algebra import Array, cross, dot, norm, unit

REACH_M = 1e-6  # a limb is never quite straight: the bend keeps a direction
SWIVEL_FADE_M = 0.03  # an elbow nearer than this to its axis has less and less swivel
FLAT = 1e-6  # below this a foot direction has no heading
_BLEND = 0.3
_CONTACT_BAND_M, _CONTACT_FADE_M, _FOOT_FORWARD_M = 0.02, 0.12, 0.08


def pole_frame(xp: Any, n: Array, u1: Array, u2: Array) -> tuple[Array, Array]:
    """Directions q and p across a limb axis n from its poles: q towards u1, blended into u2 where u1 runs along n.

    Args:
        xp: numpy or torch.
        n: (3, 2, *b) unit axes from root to end.
        u1: (3, 2, ...) first pole of each side.
        u2: (3, 2, ...) second pole.

    Returns:
        q and p = n x q, unit, orthogonal to n.
    """
    q1 = u1 - dot(u1, n) * n
    q2 = u2 - dot(u2, n) * n
    share = xp.clip((_BLEND - norm(xp, q1)) / _BLEND, 0.0, 1.0)
    q = unit(xp, q1 + _BLEND * share * q2)
    return q, cross(xp, n, q)


def two_bone(
    xp: Any, reach: Array, l1: Array, l2: Array, poles: tuple[Array, Array], swivel: Array | None = None
) -> tuple[Array, Array]:
    """Middle and end of a limb, relative to its root.

    Args:
        xp: numpy or torch.
        reach: (3, 2, *b) from the root to the wanted end.
        l1: (2, ...) upper bones.
        l2: (2, ...) lower bones.
        poles: u1 and u2 of `pole_frame`.
        swivel: (2, *b) rad, 0 when left out.
    """
    distance = norm(xp, reach)
    n = reach / distance
    r = xp.clip(distance, abs(l1 - l2) + REACH_M, l1 + l2 - REACH_M)
    x = (r * r + l1 * l1 - l2 * l2) / (2 * r)
    g = _off_axis(xp, r, l1, l2)
    q, p = pole_frame(xp, n, *poles)
    b = q if swivel is None else q * xp.cos(swivel) + p * xp.sin(swivel)
    return n * x + b * g, n * r


def _off_axis(xp: Any, r: Array, l1: Array, l2: Array) -> Array:
    """Distance of the middle joint from the axis; Heron's form keeps its digits when the limb is nearly straight."""
    bend = (l1 + l2 - r) * (l2 + r - l1) * (r + l1 - l2) * (r + l1 + l2)
    return xp.sqrt(xp.clip(bend, 1e-18, None)) / (2 * r)


def elbow_distance(xp: Any, distance: Array, body: Any) -> Array:
    """Distance (2, *b) of the elbows from the line shoulder to wrist, for wrists `distance` (2, *b) metres away."""
    l1, l2 = body.upper_arm, body.forearm
    return _off_axis(xp, xp.clip(distance, abs(l1 - l2) + REACH_M, l1 + l2 - REACH_M), l1, l2)


def into_reach(xp: Any, reach: Array, l1: Array, l2: Array) -> Array:
    """Move wanted ends along their axis to where the decoder takes them as they are."""
    distance = norm(xp, reach)
    return reach * (xp.clip(distance, abs(l1 - l2) + REACH_M, l1 + l2 - REACH_M) / distance)


def swivel_of(xp: Any, reach: Array, middle: Array, poles: tuple[Array, Array]) -> Array:
    """Swivel (2, *b) rad of seen middle joints, faded to 0 for a straight limb.

    Args:
        xp: numpy or torch.
        reach: (3, 2, *b) from the root to the seen end.
        middle: (3, 2, *b) from the root to the seen middle joint.
        poles: u1 and u2 of `pole_frame`.
    """
    q, p = pole_frame(xp, unit(xp, reach), *poles)
    along, across = dot(middle, q), dot(middle, p)
    distance = xp.sqrt(xp.clip(along * along + across * across, 1e-18, None))
    lost = distance <= 1e-9  # on the axis: no angle, and no derivative to hand on
    angle = xp.arctan2(xp.where(lost, 0.0, across), xp.where(lost, 1.0, along))
    return angle * xp.clip(distance / SWIVEL_FADE_M, 0.0, 1.0)


def toe_frames(
    xp: Any, hip: Array, knee: Array, ankle: Array, pelvis_z: Array, flat_before: Array
) -> tuple[tuple[Array, Array, Array], Array, Array]:
    """Frames the toes ride on, in the heading frame.

    Args:
        xp: numpy or torch.
        hip, knee, ankle: (3, 2, *b).
        pelvis_z: (3, 1, *b) forward axis of the pelvis.
        flat_before: (2, 2) x and z of the flat direction of the frame before, per side (numpy, one clip) or
            broadcastable to it.

    Returns:
        Axes (x, y, z) of the shin frame, each (3, 2, *b); x and z (2, 2, *b) of the flat frame's forward axis; which
        frames have one of their own (2, *b).
    """
    s = unit(xp, ankle - knee)
    f = unit(xp, _FOOT_FORWARD_M * pelvis_z + knee - 0.5 * (hip + ankle))
    z = unit(xp, f - dot(f, s) * s)
    y = -s
    size = xp.sqrt(xp.clip(f[0] * f[0] + f[2] * f[2], FLAT * FLAT, None))
    own = size > FLAT
    flat = xp.stack((f[0] / size, f[2] / size), 0)
    return (cross(xp, y, z), y, z), xp.where(own, flat, flat_before), own


def toe_weight(xp: Any, ankle_y: Array, ank0: Array) -> Array:
    """How flat a foot lies (2, *b), 1 on the floor, from the height of the ankle above its lowest (metres)."""
    return xp.clip(1 - (ankle_y - ank0 - _CONTACT_BAND_M) / _CONTACT_FADE_M, 0.0, 1.0)


def toe_offset(xp: Any, axes: tuple[Array, Array, Array], flat: Array, weight: Array, a: Array, b: Array) -> Array:
    """Unit direction (3, 2, *b) from ankle to toe: shin-bound offset `a` and flat offset `b`, mixed by weight."""
    x, y, z = axes
    shin = x * a[0] + y * a[1] + z * a[2]
    fx, fz = flat[0], flat[1]
    level = xp.stack((fz * b[0] + fx * b[2], b[1] + 0.0 * fx, fz * b[2] - fx * b[0]), 0)
    return unit(xp, (1 - weight) * shin + weight * level)
