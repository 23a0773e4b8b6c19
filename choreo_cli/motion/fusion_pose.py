"""One frame of 22 joints as a reading of the fusion filter, without a past and in a fraction of a millisecond.

The rules are those of the choreo25 encoder (motion.md section 5) for a single frame and a known skeleton: pelvis by
orthogonal Procrustes, chest by Gauss-Newton on decoded torso points, limbs against the decoded torso. Joints that are
missing leave their numbers out.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from choreo_cli.errors import DataError
from choreo_cli.motion.capture_state import ANKLES, CHEST, DOFS, ROOT, SWIVELS, TILT, WRISTS
from choreo_cli.motion.fusion_model import NOISE, Noise, small_turn
from choreo_cli.motion.fusion_readings import PoseReading
from formats.motion_npz import Skeleton

F64 = NDArray[np.float64]

_TORSO = (6, 9, 12, 15, 16, 17)
_WEIGHTS = np.array([0.5, 0.7, 1.0, 0.8, 0.9, 0.9])
_CHEST_POINTS = [12, 13, 14, 16, 17]
_CHEST_WEIGHTS = np.array([1.0, 1.0, 1.0, 1.5, 1.5])[:, None]
_ARMS = ((16, 18, 20, 1.0), (17, 19, 21, -1.0))
_FEET = (7, 8)
_SEEN = np.array([0, 1, 2, 3, *_TORSO, 20, 21, *_FEET])
# A joint's noise, and how far the model lets it be from where it is: the head nods, the spine is no chain of thirds.
_TRUST = np.array([1.0, 1.0, 1.0, 1.0, 0.7, 0.8, 1.0, 0.5, 0.9, 0.9, 1.0, 1.0, 1.0, 1.0])
_FLOOR = 1e-9 * np.eye(21)
_ITERATIONS = 3  # the fit to all joints that follows is a fourth
STRAIGHT_M = 0.03
_DAMPING = 1e-4 * np.eye(3)


class PoseReader:
    """Turns joints into readings.

    Args:
        body: Skeleton of the one who is seen.
        noise: What a joint's noise does to each number.
    """

    def __init__(self, body: Skeleton, noise: Noise = NOISE) -> None:
        self._noise = noise
        self._op, self._oc, self._o6, self._o9 = (
            np.asarray(v, np.float64) for v in (body.op, body.oc, body.o6, body.o9)
        )
        self._arm = np.asarray(body.upper_arm) + np.asarray(body.forearm)
        self._leg = np.asarray(body.thigh) + np.asarray(body.shank)
        self._far = np.stack([self._oc[0], self._oc[0] + np.asarray(body.o15), self._oc[3], self._oc[4]])

    def read(
        self, t_us: int, joints: F64, sigma_m: float, *, root_sigma_m: F64 | None = None, contacts: F64 | None = None
    ) -> PoseReading:
        """The reading of one frame.

        Args:
            t_us: When it was seen.
            joints: (22, 3) metres, y up, floor at 0; NaN where missing.
            sigma_m: Standard deviation of a joint's coordinate.
            root_sigma_m: (3,) what the whole body's place is off by beyond that, where a camera knows depth badly.
            contacts: (2,) of the feet, where the stream gives them.

        Raises:
            DataError: Another shape, or a noise that is not above 0.
        """
        if joints.shape != (22, 3):
            raise DataError(f"a pose of shape {joints.shape}, need (22, 3)")
        if not 0 < sigma_m < np.inf:
            raise DataError(f"noise of {sigma_m:g} m, need above 0")
        z, r = np.full(DOFS, np.nan), np.zeros((DOFS, DOFS))
        variance = sigma_m**2
        z[ROOT] = joints[0]
        np.fill_diagonal(r, variance)
        if np.isfinite(joints[:4]).all():
            self._frame(joints, z, r, variance)
        if root_sigma_m is not None:
            r[ROOT, ROOT] += np.diag(np.asarray(root_sigma_m, np.float64) ** 2)
        return PoseReading(t_us, z, r, contacts)

    def _frame(self, j: F64, z: F64, r: F64, variance: float) -> None:
        rp = _procrustes(j[1:4] - j[0], self._op)
        z[TILT] = np.arctan2(rp[0, 2], rp[2, 2]), np.arcsin(np.clip(-rp[1, 2], -1, 1)), np.arctan2(rp[1, 0], rp[1, 1])
        if not np.isfinite(j[list(_TORSO)]).all():
            _feet(j, z, self._leg)
            r[TILT, TILT] *= self._noise.pelvis_per_m**2
            for at, leg in zip(ANKLES, self._leg, strict=True):
                r[at, at] = np.eye(3) * 2 * variance / leg**2
            return
        rel, points, whole, by_rel = self._chest((j - j[0]) @ rp - self._op[2])
        z[CHEST] = rel
        rc = rp @ whole
        about = np.concatenate([np.zeros((1, 3)), self._op, self._op[2] + points])
        arms = []
        for side, (_, elbow, wrist, left) in enumerate(_ARMS):
            root = j[0] + rp @ about[8 + side]
            v = rc.T @ (j[wrist] - root) / self._arm[side]
            z[WRISTS[side]] = v = v / max(1.0, float(np.sqrt(v @ v)))
            arms.append(whole @ v * self._arm[side])
            z[SWIVELS[side]], away = _swivel(rc, j[wrist] - root, j[elbow] - root, left)
            own = SWIVELS[side]
            r[own, own] = min(2.5 * variance / max(away, STRAIGHT_M) ** 2, 4.0) if np.isfinite(away) else 1.0
        _feet(j, z, self._leg)
        lever = np.nan_to_num(np.stack(arms))
        turning = np.concatenate([by_rel, by_rel[4:] - _crossed(lever) @ small_turn(rel, 1.0)[1]])
        points = np.concatenate([about, about[8:] + lever])
        self._settle(j, z, r, variance, rp, rc, points, turning)

    def _settle(self, j: F64, z: F64, r: F64, variance: float, rp: F64, rc: F64, points: F64, turning: F64) -> None:
        """Make the reading the least-squares fit to all joints it was made of, and give it that fit's covariance.

        One Gauss-Newton step from the encoded pose. The parts of an encoded pose err together (a chest seen turned too
        far takes the arms with it); a filter that did not know would undo one without the other.
        """
        world = points @ rp.T
        jacobian = np.zeros((len(_SEEN), 3, 21))
        jacobian[:, (0, 1, 2), (0, 1, 2)] = 1.0
        against = -_crossed(world)
        cos, sin = np.cos(z[3]), np.sin(z[3])
        axes = np.array([[0.0, cos, rp[0, 2]], [1.0, 0.0, rp[1, 2]], [0.0, -sin, rp[2, 2]]])
        jacobian[:12, :, 3:6] = against @ axes
        jacobian[4:12, :, 6:9] = rp @ turning
        residual = np.empty((len(_SEEN), 3))
        residual[:12] = j[_SEEN[:12]] - z[ROOT] - world
        heading = np.array([[cos, 0.0, sin], [0.0, 1.0, 0.0], [-sin, 0.0, cos]])
        for side in (0, 1):
            jacobian[10 + side, :, WRISTS[side]] = rc * self._arm[side]
            foot = heading @ np.nan_to_num(z[ANKLES[side]]) * self._leg[side]
            jacobian[12 + side, :, 3] = foot[2], 0.0, -foot[0]
            jacobian[12 + side, :, ANKLES[side]] = heading * self._leg[side]
            residual[12 + side] = j[_FEET[side]] - z[ROOT] - foot
        missing = ~np.isfinite(residual)
        residual[missing] = 0.0
        scaled = (jacobian * _TRUST[:, None, None]).reshape(-1, 21)
        scaled[missing.reshape(-1)] = 0.0
        spread = np.linalg.inv(scaled.T @ scaled + _FLOOR)
        z[:21] += spread @ (scaled.T @ (residual * _TRUST[:, None]).reshape(-1))
        r[:21, :21] = variance * spread

    def _chest(self, local: F64) -> tuple[F64, F64, F64, F64]:
        """Rotation vector of the chest, and `_torso` of it; all in the pelvis frame."""
        rel = _log(_procrustes(local[_CHEST_POINTS] - local[9], self._oc, _CHEST_WEIGHTS))
        target = local[list(_TORSO)]
        for _ in range(_ITERATIONS):
            points, _, jacobian = self._torso(rel)
            residual = ((points - target) * _WEIGHTS[:, None]).reshape(-1)
            scaled = (jacobian * _WEIGHTS[:, None, None]).reshape(-1, 3)
            rel = rel - np.linalg.solve(scaled.T @ scaled + _DAMPING, scaled.T @ residual)
        return rel, *self._torso(rel)

    def _torso(self, rel: F64) -> tuple[F64, F64, F64]:
        """Points (6, 3) of `_TORSO` from spine1, the chest's rotation, and their derivative (6, 3, 3) by `rel`."""
        (e1, j1), (e2, j2), (e3, j3) = (small_turn(rel, part) for part in (1 / 3, 2 / 3, 1.0))
        p6, p9, p = e1 @ self._o6, e2 @ self._o9, self._far @ e3.T
        points = np.empty((6, 3))
        points[0], points[1] = p6, p6 + p9
        points[2:] = points[1] + p
        jacobian = np.empty((6, 3, 3))
        jacobian[0] = _crossed(p6[None])[0] @ j1 * (-1 / 3)
        jacobian[1] = jacobian[0] - _crossed(p9[None])[0] @ j2 * (2 / 3)
        jacobian[2:] = jacobian[1] - _crossed(p) @ j3
        return points, e3, jacobian


def _feet(j: F64, z: F64, leg_m: F64) -> None:
    cos, sin = np.cos(z[3]), np.sin(z[3])
    back = np.array([[cos, 0.0, -sin], [0.0, 1.0, 0.0], [sin, 0.0, cos]])
    for foot, at, leg in zip(_FEET, ANKLES, leg_m, strict=True):
        z[at] = back @ (j[foot] - j[0]) / leg


def _crossed(v: F64) -> F64:
    """(N, 3, 3) matrices of the vector product with each of (N, 3)."""
    out = np.zeros((len(v), 3, 3))
    out[:, 0, 1], out[:, 0, 2], out[:, 1, 2] = -v[:, 2], v[:, 1], -v[:, 0]
    out[:, 1, 0], out[:, 2, 0], out[:, 2, 1] = v[:, 2], -v[:, 1], v[:, 0]
    return out


def _procrustes(seen: F64, body: F64, weights: F64 | float = 1.0) -> F64:
    """Rotation that best turns the body's points (N, 3) into those seen; never a reflection."""
    u, _, vt = np.linalg.svd((seen * weights).T @ body)
    d = np.sign(np.linalg.det(u @ vt)) or 1.0
    return np.asarray((u * np.array([1.0, 1.0, d])) @ vt)


def _log(r: F64) -> F64:
    """Rotation vector of a rotation, stable up to half a turn."""
    axis = np.array([r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1]]) / 2
    sin, cos = float(np.sqrt(axis @ axis)), (float(np.trace(r)) - 1) / 2
    if sin < 1e-7:
        return axis
    return np.asarray(axis * (np.arctan2(sin, cos) / sin))


def _swivel(rc: F64, reach: F64, elbow: F64, left: float) -> tuple[float, float]:
    """Elbow swivel (rad) and the elbow's distance from the line to the wrist (m): motion.md section 5 step 6."""
    n = reach / max(float(np.sqrt(reach @ reach)), 1e-9)
    u1 = rc @ (np.array([0.45 * left, -0.75, -0.5]) / np.sqrt(0.45**2 + 0.75**2 + 0.5**2))
    u2 = rc @ np.array([left, 0.0, 0.0])
    q1, q2 = u1 - (u1 @ n) * n, u2 - (u2 @ n) * n
    k = float(np.sqrt(q1 @ q1))
    q = q1 + 0.3 * min(max((0.3 - k) / 0.3, 0.0), 1.0) * q2
    q = q / max(float(np.sqrt(q @ q)), 1e-9)
    p = np.array([n[1] * q[2] - n[2] * q[1], n[2] * q[0] - n[0] * q[2], n[0] * q[1] - n[1] * q[0]])
    a, b = float(elbow @ p), float(elbow @ q)
    away = float(np.hypot(a, b))
    return float(np.arctan2(a, b)) * min(away / STRAIGHT_M, 1.0), away
