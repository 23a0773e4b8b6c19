"""What the fusion filter believes: how a body moves between readings, and what head, wrist and watch see of it.

Every number another implementation needs is a constant here or in `NOISE`; `fusion_vectors` keeps sequences to check
it against.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from choreo_cli.motion.capture_state import DOFS, WRISTS
from formats.motion_npz import Skeleton

F64 = NDArray[np.float64]

ORDERS = 3  # position, speed, acceleration of every degree of freedom
SIZE = ORDERS * DOFS
GRAVITY = 9.80665
UP = np.array([0.0, 1.0, 0.0])
BLOCKS: tuple[tuple[str, tuple[int, ...]], ...] = (
    ("root", (0, 1, 2)), ("pelvis", (3, 4, 5)), ("chest", (6, 7, 8)), ("l_wrist", (9, 10, 11)),
    ("r_wrist", (12, 13, 14)), ("l_ankle", (15, 16, 17)), ("r_ankle", (18, 19, 20)), ("l_swivel", (21,)),
    ("r_swivel", (22,)),
)  # fmt: skip
"""Parts of a pose that are believed or refused together."""


@dataclass(frozen=True, slots=True)
class Noise:
    """Noise values of the filter.

    Args:
        accel: (23,) standard deviation of the acceleration of each degree of freedom, in its unit per s^2.
        accel_tau_s: How long an acceleration lasts.
        speed_tau_s: How long a speed lasts when nothing is seen.
        pelvis_per_m: Noise of the pelvis angles (rad) per metre of noise of a joint, where only the hips are seen.
        start_speed: Standard deviation of the speeds before the second reading, in units per s.
        gate_3: Largest squared Mahalanobis distance of a reading of three numbers (99.9 % of chi square).
        gate_1: The same of one number.
        lost_s: After so long without an accepted reading a part takes what it is given.
    """

    accel: F64
    accel_tau_s: float = 0.03
    speed_tau_s: float = 0.2
    pelvis_per_m: float = 8.0
    start_speed: float = 1.0
    gate_3: float = 16.266
    gate_1: float = 10.828
    lost_s: float = 0.25


# Near the root mean square accelerations of danced clips (procedural and recorded), in the order of STATE.
ACCEL = (*(5.0,) * 3, 22.0, 8.0, 8.0, 14.0, 17.0, 10.0, *(25.0, 25.0, 18.0) * 2, *(7.0, 14.0, 8.0) * 2, 20.0, 20.0)
NOISE = Noise(np.array(ACCEL))


class Process:
    """Damped motion with accelerations that come and go, the same for every degree of freedom.

    Per degree of freedom: `p' = v`, `v' = a - v / speed_tau`, `a' = -a / accel_tau + w`, with white noise `w` of
    density `2 accel^2 / accel_tau` (a Singer model with damped speed: a body that is not seen coasts to a stop). The
    transition is the exact matrix exponential, the noise its integral (Van Loan 1978).

    Args:
        noise: Noise values.
    """

    def __init__(self, noise: Noise) -> None:
        self._noise = noise
        self._variance = noise.accel**2
        self._known: dict[int, tuple[F64, F64]] = {}

    def steps(self, dt_us: int) -> tuple[F64, F64]:
        """Transition (3, 3) and noise of unit acceleration (3, 3) over a time in microseconds."""
        found = self._known.get(dt_us)
        if found is None:
            if len(self._known) > 4096:
                self._known.clear()
            found = self._known[dt_us] = self._compute(dt_us / 1e6)
        return found

    def _compute(self, dt: float) -> tuple[F64, F64]:
        n = self._noise
        a = np.array([[0.0, 1.0, 0.0], [0.0, -1 / n.speed_tau_s, 1.0], [0.0, 0.0, -1 / n.accel_tau_s]])
        big = np.zeros((6, 6))
        big[:3, :3], big[3:, 3:] = -a, a.T
        big[2, 5] = 2 / n.accel_tau_s
        e = expm(big * dt)
        f = e[3:, 3:].T
        q = f @ e[:3, 3:]
        return f, (q + q.T) / 2

    def predict(self, x: F64, p: F64, dt_us: int) -> tuple[F64, F64]:
        """State (69,) and covariance (69, 69) after a time; the order is positions, speeds, accelerations."""
        f, q = self.steps(dt_us)
        x = (f @ x.reshape(ORDERS, DOFS)).reshape(SIZE)
        half = (f @ p.reshape(ORDERS, -1)).reshape(SIZE, SIZE)
        out = (f @ half.T.reshape(ORDERS, -1)).reshape(SIZE, SIZE)
        blocks = out.reshape(ORDERS, DOFS, ORDERS, DOFS)
        each = np.arange(DOFS)
        blocks[:, each, :, each] += self._variance[:, None, None] * q
        return x, (out + out.T) / 2


def expm(a: F64) -> F64:
    """Exponential of a small matrix, by scaling and squaring a Taylor series of order 14."""
    squarings = max(0, int(np.ceil(np.log2(max(float(np.abs(a).sum(1).max()), 1e-300)))) + 2)
    a = a / 2**squarings
    out = term = np.eye(len(a))
    for k in range(1, 15):
        term = term @ a / k
        out = out + term
    for _ in range(squarings):
        out = out @ out
    return out


def _skew(v: F64) -> F64:
    x, y, z = v
    return np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])


def small_turn(v: F64, part: float) -> tuple[F64, F64]:
    """Rotation by `part` of a rotation vector, and its left Jacobian."""
    k = _skew(v * part)
    angle2 = part * part * float(v @ v)
    if angle2 < 1e-8:
        a, b, c = 1 - angle2 / 6, 0.5 - angle2 / 24, 1 / 6 - angle2 / 120
    else:
        angle = np.sqrt(angle2)
        a, b = np.sin(angle) / angle, (1 - np.cos(angle)) / angle2
        c = (1 - a) / angle2
    kk = k @ k
    return _EYE + a * k + b * kk, _EYE + b * k + c * kk


_EYE = np.eye(3)


def pelvis_rotation(q: F64) -> F64:
    """`Ry(yaw) Rx(pitch) Rz(roll)` of a state."""
    (cy, cp, cr), (sy, sp, sr) = np.cos(q[3:6]).tolist(), np.sin(q[3:6]).tolist()
    return np.array([
        [cy * cr + sy * sp * sr, sy * sp * cr - cy * sr, sy * cp],
        [cp * sr, cp * cr, -sp],
        [cy * sp * sr - sy * cr, sy * sr + cy * sp * cr, cy * cp],
    ])  # fmt: skip


class Anchors:
    """Where a state has the head and the wrists, and how they move with it.

    Args:
        body: Skeleton of the one who is seen.
    """

    def __init__(self, body: Skeleton) -> None:
        self._op3, self._o6, self._o9 = (np.asarray(v, np.float64) for v in (body.op[2], body.o6, body.o9))
        arms = np.asarray(body.upper_arm, np.float64) + np.asarray(body.forearm, np.float64)
        # Beyond the chest joint: a fixed part, and the wrist channel times the arm.
        self._fixed = {
            "head": np.asarray(body.oc[0] + body.o15, np.float64),
            "l_wrist": np.asarray(body.oc[3], np.float64),
            "r_wrist": np.asarray(body.oc[4], np.float64),
        }
        self._arm = {"l_wrist": (WRISTS[0], float(arms[0])), "r_wrist": (WRISTS[1], float(arms[1]))}

    def position(self, q: F64, point: str) -> F64:
        """(3,) world position in metres of `head`, `l_wrist` or `r_wrist`."""
        first, second, whole = (small_turn(q[6:9], part)[0] for part in (1 / 3, 2 / 3, 1.0))
        about = self._op3 + first @ self._o6 + second @ self._o9 + whole @ self._beyond(q, point)
        return np.asarray(q[:3] + pelvis_rotation(q) @ about)

    def _beyond(self, q: F64, point: str) -> F64:
        if point == "head":
            return self._fixed[point]
        at, arm = self._arm[point]
        return np.asarray(self._fixed[point] + arm * q[at])

    def jacobian(self, q: F64, point: str) -> tuple[F64, F64]:
        """Position (3,) and its derivative (3, 23) by the state."""
        (first, j1), (second, j2), (whole, j3) = (small_turn(q[6:9], part) for part in (1 / 3, 2 / 3, 1.0))
        p6, p9, pc = first @ self._o6, second @ self._o9, whole @ self._beyond(q, point)
        rp = pelvis_rotation(q)
        arm = rp @ (self._op3 + p6 + p9 + pc)
        out = np.zeros((3, DOFS))
        out[:, :3] = _EYE
        against = -_skew(arm)
        cos, sin = np.cos(q[3]), np.sin(q[3])
        out[:, 3], out[:, 4], out[:, 5] = (
            against @ UP, against @ np.array([cos, 0.0, -sin]), against @ rp[:, 2],
        )  # fmt: skip
        out[:, 6:9] = -rp @ (_skew(p6) @ j1 / 3 + _skew(p9) @ j2 * (2 / 3) + _skew(pc) @ j3)
        if point != "head":
            at, length = self._arm[point]
            out[:, at] = rp @ whole * length
        return q[:3] + arm, out

    def acceleration(self, x: F64, point: str) -> tuple[F64, F64]:
        """World acceleration (3,) in m/s^2 of a whole state (69,), and its derivative (3, 23) by the accelerations.

        `J q'' + J' q'`; the second part is a second difference along the speeds. How it changes with positions and
        speeds is left out: that is small beside the noise of a watch.
        """
        q, v, a = x[:DOFS], x[DOFS : 2 * DOFS], x[2 * DOFS :]
        here, j = self.jacobian(q, point)
        step = 1e-3
        curve = (self.position(q + step * v, point) - 2 * here + self.position(q - step * v, point)) / step**2
        return j @ a + curve, j
