"""choreo25 a second time: one frame after the other, scipy's rotations, numeric derivatives, straight from the rules.

`python tests/motion/slow_choreo25.py` writes `golden_choreo25.json`, the numbers both versions are held to.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

F64 = NDArray[np.float64]
GOLDEN = Path(__file__).with_name("golden_choreo25.json")
CHEST = [12, 13, 14, 16, 17]


def unit(v: F64) -> F64:
    return np.asarray(v / max(float(np.linalg.norm(v)), 1e-9))


def ry(a: float) -> F64:
    return np.array([[math.cos(a), 0, math.sin(a)], [0, 1, 0], [-math.sin(a), 0, math.cos(a)]])


def turn(v: Any) -> F64:
    return np.asarray(Rotation.from_rotvec(v).as_matrix())


def procrustes(model: F64, seen: F64, weights: list[float]) -> F64:
    u, _, vt = np.linalg.svd((seen * np.array(weights)[:, None]).T @ model)
    return np.asarray(u @ np.diag([1, 1, np.linalg.det(u @ vt)]) @ vt)


def torso(s: Any, rp: F64, rel: F64) -> dict[int, F64]:
    """Torso joints from the root."""
    x = {1: rp @ s.op[0], 2: rp @ s.op[1], 3: rp @ s.op[2]}
    x[6] = x[3] + rp @ turn(rel / 3) @ s.o6
    x[9] = x[6] + rp @ turn(2 * rel / 3) @ s.o9
    rc = rp @ turn(rel)
    for k, j in enumerate(CHEST):
        x[j] = x[9] + rc @ s.oc[k]
    x[15] = x[12] + rc @ s.o15
    return x


def directions(n: F64, u1: F64, u2: F64) -> tuple[F64, F64]:
    q1, q2 = u1 - (u1 @ n) * n, u2 - (u2 @ n) * n
    share = min(max((0.3 - float(np.linalg.norm(q1))) / 0.3, 0), 1)
    q = unit(q1 + 0.3 * share * q2)
    return q, np.cross(n, q)


def limb(a: F64, e: F64, l1: float, l2: float, b: F64) -> tuple[F64, F64]:
    n = unit(e - a)
    r = min(max(float(np.linalg.norm(e - a)), abs(l1 - l2) + 1e-6), l1 + l2 - 1e-6)
    x = (r * r + l1 * l1 - l2 * l2) / (2 * r)
    return a + n * x + b * math.sqrt(max(l1 * l1 - x * x, 0)), a + n * r


def elbow_poles(rc: F64, sigma: int) -> tuple[F64, F64]:
    return rc @ unit(np.array([0.45 * sigma, -0.75, -0.5])), rc @ np.array([sigma, 0, 0])


def decode(channels: F64, s: Any, fps: float, yaw0: float, x0: float, z0: float) -> F64:
    """Joints (T, 22, 3)."""
    yaw, root = yaw0, np.array([x0, 0.0, z0])
    flat = [np.array([0.0, 0, 1]), np.array([0.0, 0, 1])]
    out = np.empty((len(channels), 22, 3))
    for t, c in enumerate(np.asarray(channels, np.float64)):
        root[1] = c[2]
        h = ry(yaw)
        rp = h @ Rotation.from_euler("XZ", c[6:8]).as_matrix()
        x = {0: root.copy(), **{j: root + v for j, v in torso(s, rp, c[8:11]).items()}}
        rc = rp @ turn(c[8:11])
        for side, sigma in enumerate((1, -1)):
            a = x[16 + side]
            e = a + rc @ c[11 + 4 * side : 14 + 4 * side] * (s.upper_arm[side] + s.forearm[side])
            q, p = directions(unit(e - a), *elbow_poles(rc, sigma))
            w = c[14 + 4 * side]
            b = q * math.cos(w) + p * math.sin(w)
            x[18 + side], x[20 + side] = limb(a, e, s.upper_arm[side], s.forearm[side], b)
            hip = x[1 + side]
            e = root + h @ c[19 + 3 * side : 22 + 3 * side] * (s.thigh[side] + s.shank[side])
            u1, u2 = rp @ unit(np.array([s.kb * sigma, 0, 1])), rp @ np.array([0.0, -1, 0])
            q, _ = directions(unit(e - hip), u1, u2)
            knee, ankle = limb(hip, e, s.thigh[side], s.shank[side], q)
            x[4 + side], x[7 + side] = knee, ankle
            shin = unit(ankle - knee)
            f = unit(0.08 * rp[:, 2] + knee - (hip + ankle) / 2)
            az = unit(f - (f @ shin) * shin)
            frame_a = np.stack([np.cross(-shin, az), -shin, az], 1)
            if math.hypot(f[0], f[2]) > 1e-6:
                flat[side] = unit(f * np.array([1, 0, 1]))
            bz, up = flat[side], np.array([0.0, 1, 0])
            frame_b = np.stack([np.cross(up, bz), up, bz], 1)
            wgt = min(max(1 - (ankle[1] - s.ank0[side] - 0.02) / 0.12, 0), 1)
            x[10 + side] = ankle + s.foot[side] * unit(
                (1 - wgt) * frame_a @ s.toe_a[side] + wgt * frame_b @ s.toe_b[side]
            )
        out[t] = [x[j] for j in range(22)]
        root = root + h @ np.array([c[0], 0, c[1]]) / fps
        yaw += c[3] / fps
    return out


def chest_rotation(s: Any, rp: F64, frame: F64) -> F64:
    rc = procrustes(s.oc, frame[CHEST] - frame[9], [1, 1, 1, 1.5, 1.5])
    rel = Rotation.from_matrix(rp.T @ rc).as_rotvec()
    weights = {6: 0.5, 9: 0.7, 12: 1.0, 15: 0.8, 16: 0.9, 17: 0.9}

    def residual(v: F64) -> F64:
        x = torso(s, rp, v)
        return np.concatenate([w * (x[j] + frame[0] - frame[j]) for j, w in weights.items()])

    for _ in range(4):
        j = np.stack([(residual(rel + d) - residual(rel - d)) / 2e-5 for d in np.eye(3) * 1e-5], 1)
        rel = rel - np.linalg.solve(j.T @ j + 1e-4 * np.eye(3), j.T @ residual(rel))
    return np.asarray(rel)


def encode(joints: F64, s: Any, fps: float) -> F64:
    """Posture channels 6 to 24 (T, 19) and the rates 0, 1, 3 (T, 3) in front of them: (T, 22)."""
    out = np.empty((len(joints), 22))
    yaws = []
    for t, frame in enumerate(joints):
        rp = procrustes(s.op, frame[[1, 2, 3]] - frame[0], [1, 1, 1])
        yaw, pitch, roll = Rotation.from_matrix(rp).as_euler("YXZ")
        yaws.append(yaw)
        rel = chest_rotation(s, rp, frame)
        x = {j: frame[0] + v for j, v in torso(s, rp, rel).items()}
        rc = rp @ turn(rel)
        limbs: list[float] = []
        for side, sigma in enumerate((1, -1)):
            a, elbow, e = x[16 + side], frame[18 + side], frame[20 + side]
            w = rc.T @ (e - a) / (s.upper_arm[side] + s.forearm[side])
            q, p = directions(unit(e - a), *elbow_poles(rc, sigma))
            m = elbow - a
            angle = math.atan2(m @ p, m @ q) * min(math.hypot(m @ p, m @ q) / 0.03, 1)
            limbs += [*(w / max(float(np.linalg.norm(w)), 1)), angle]
        for side in (0, 1):
            hip, e = x[1 + side], frame[7 + side]
            l1, l2 = s.thigh[side], s.shank[side]
            r = float(np.linalg.norm(e - hip))
            e = hip + (e - hip) / r * min(max(r, abs(l1 - l2) + 1e-6), l1 + l2 - 1e-6)
            limbs += list(ry(yaw).T @ (e - frame[0]) / (l1 + l2))
        out[t, 3:] = [pitch, roll, *rel, *limbs]
    yaw = np.unwrap(yaws)
    for t in range(len(joints) - 1):
        step = ry(yaw[t]).T @ (joints[t + 1, 0] - joints[t, 0]) * fps
        out[t, :3] = step[0], step[2], (yaw[t + 1] - yaw[t]) * fps
    out[-1, :3] = out[-2, :3]
    return out


def main() -> None:
    """Channels drawn from a fixed seed, their joints, and what those joints encode to."""
    from choreo_cli.motion.skeleton import canonical_skeleton

    rng = np.random.default_rng(25)
    channels = rng.normal(0, 0.35, (4, 25))
    channels[:, 2] = 0.9 + 0.02 * rng.normal(size=4)
    channels[:, [12, 16]] -= 0.5
    channels[:, [20, 23]] -= 0.9
    channels = np.round(channels, 3)
    s = canonical_skeleton(1.7)
    joints = np.round(decode(channels, s, 30.0, 0.4, 1.0, -2.0), 9)
    found = {"fps": 30.0, "start": [0.4, 1.0, -2.0], "height_m": 1.7, "channels": channels.tolist()}
    found |= {"joints": joints.tolist(), "encoded": np.round(encode(joints, s, 30.0), 9).tolist()}
    GOLDEN.write_text(json.dumps(found) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    main()
