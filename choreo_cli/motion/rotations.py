"""Rotations in batches, numpy float64: matrices (..., 3, 3), rotation vectors, Euler angles, 6-D, Procrustes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.errors import DataError
from choreo_cli.motion.algebra import horn, quaternion_matrix

F64 = NDArray[np.float64]
Floats = NDArray[np.floating[Any]]

__all__ = [
    "axis_rotation", "euler_angles", "euler_matrix", "exp_map", "log_map", "matrix_of_six", "procrustes",
    "quaternion_of", "rot_y", "shortest_arc", "six_of_matrix", "yxz_angles",
]  # fmt: skip

_SMALL = 1e-8


def axis_rotation(angle: Floats | float, axis: int) -> F64:
    """Right-handed rotations (..., 3, 3) by `angle` (...) rad about x, y or z (0, 1, 2)."""
    a = np.asarray(angle, np.float64)
    out = np.zeros((*a.shape, 3, 3))
    i, j = (axis + 1) % 3, (axis + 2) % 3
    out[..., axis, axis] = 1.0
    out[..., i, i] = out[..., j, j] = np.cos(a)
    out[..., j, i] = np.sin(a)
    out[..., i, j] = -out[..., j, i]
    return out


def rot_y(angle: Floats | float) -> F64:
    """`[[cos a, 0, sin a], [0, 1, 0], [-sin a, 0, cos a]]`: (...) rad -> (..., 3, 3)."""
    return axis_rotation(angle, 1)


def exp_map(vector: Floats) -> F64:
    """Rotation vectors (..., 3) rad (axis times angle) to matrices (..., 3, 3), Rodrigues' formula."""
    v = np.asarray(vector, np.float64)
    angle = np.sqrt((v * v).sum(-1))[..., None, None]
    safe = np.maximum(angle, _SMALL)
    half = np.sin(safe / 2) / safe
    k = _skew(v)
    return np.asarray(np.eye(3) + np.sin(safe) / safe * k + 2 * half * half * (k @ k))


def _skew(v: F64) -> F64:
    out = np.zeros((*v.shape[:-1], 3, 3))
    out[..., 2, 1], out[..., 0, 2], out[..., 1, 0] = v[..., 0], v[..., 1], v[..., 2]
    return out - np.swapaxes(out, -1, -2)


def quaternion_of(matrix: Floats) -> F64:
    """Unit quaternions (..., 4) w x y z, w >= 0, by the largest of four forms (Shepperd 1978)."""
    m = np.asarray(matrix, np.float64)
    xx, yy, zz = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    a, b, c = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    d, e, f = m[..., 1, 0] + m[..., 0, 1], m[..., 0, 2] + m[..., 2, 0], m[..., 2, 1] + m[..., 1, 2]
    forms = np.stack(
        [
            np.stack([1 + xx + yy + zz, a, b, c], -1),
            np.stack([a, 1 + xx - yy - zz, d, e], -1),
            np.stack([b, d, 1 - xx + yy - zz, f], -1),
            np.stack([c, e, f, 1 - xx - yy + zz], -1),
        ],
        -2,
    )
    best = np.argmax(np.diagonal(forms, axis1=-2, axis2=-1), -1)
    q = np.take_along_axis(forms, best[..., None, None], -2)[..., 0, :]
    q = q / np.sqrt((q * q).sum(-1, keepdims=True))
    return np.asarray(np.where(q[..., :1] < 0, -q, q))


def log_map(matrix: Floats) -> F64:
    """Rotation vectors (..., 3) rad of matrices (..., 3, 3); the angle is in [0, pi], accurate at both ends."""
    q = quaternion_of(matrix)
    size = np.sqrt((q[..., 1:] ** 2).sum(-1, keepdims=True))
    factor = 2 * np.arctan2(size, q[..., :1]) / np.maximum(size, 1e-300)
    return np.asarray(q[..., 1:] * np.where(size < 1e-300, 2.0, factor))


def yxz_angles(matrix: Floats) -> tuple[F64, F64, F64]:
    """yaw, pitch, roll (...) rad with `R = Ry(yaw) Rx(pitch) Rz(roll)`; singular at a pitch of +-pi/2."""
    m = np.asarray(matrix, np.float64)
    pitch = np.arctan2(-m[..., 1, 2], np.hypot(m[..., 0, 2], m[..., 2, 2]))
    return np.arctan2(m[..., 0, 2], m[..., 2, 2]), pitch, np.arctan2(m[..., 1, 0], m[..., 1, 1])


def euler_matrix(angles: Floats, order: str) -> F64:
    """`R1 R2 R3` for intrinsic angles in the order of the letters, as BVH lists its channels.

    Args:
        angles: (..., 3) rad, first to last letter.
        order: Three different letters of `XYZ`, such as `ZXY`.

    Raises:
        DataError: an order that is not a permutation of XYZ.
    """
    i, j, k = _axes(order)
    a = np.asarray(angles, np.float64)
    return axis_rotation(a[..., 0], i) @ axis_rotation(a[..., 1], j) @ axis_rotation(a[..., 2], k)


def euler_angles(matrix: Floats, order: str) -> F64:
    """Intrinsic angles (..., 3) rad of `euler_matrix`; the middle one in [-pi/2, pi/2]. At its ends the last is 0.

    Raises:
        DataError: an order that is not a permutation of XYZ.
    """
    i, j, k = _axes(order)
    sign = 1.0 if (j - i) % 3 == 1 else -1.0
    m = np.asarray(matrix, np.float64)
    flat = np.hypot(m[..., i, i], m[..., i, j])
    middle = np.arctan2(sign * m[..., i, k], flat)
    lost = flat < 1e-9
    first = np.where(
        lost, np.arctan2(sign * m[..., k, j], m[..., j, j]), np.arctan2(-sign * m[..., j, k], m[..., k, k])
    )
    last = np.where(lost, 0.0, np.arctan2(-sign * m[..., i, j], m[..., i, i]))
    return np.stack([first, middle, last], -1)


def _axes(order: str) -> tuple[int, int, int]:
    if sorted(order.upper()) != ["X", "Y", "Z"]:
        raise DataError(f"rotation order {order!r}", hint="a permutation of XYZ is needed, for example ZXY")
    i, j, k = ("XYZ".index(c) for c in order.upper())
    return i, j, k


def six_of_matrix(matrix: Floats) -> F64:
    """First two columns, column by column (..., 6) (Zhou et al. 2019)."""
    m = np.asarray(matrix, np.float64)
    return np.concatenate([m[..., :, 0], m[..., :, 1]], -1)


def matrix_of_six(six: Floats) -> F64:
    """Matrices (..., 3, 3) of two column vectors (..., 6), made orthonormal by Gram-Schmidt."""
    s = np.asarray(six, np.float64)
    x = _unit(s[..., :3])
    y = _unit(s[..., 3:] - (x * s[..., 3:]).sum(-1, keepdims=True) * x)
    return np.stack([x, y, np.cross(x, y)], -1)


def shortest_arc(a: Floats, b: Floats) -> F64:
    """Smallest rotations (..., 3, 3) that take the directions a to b, (..., 3) each; opposite ones turn by pi."""
    x, y = _unit(np.asarray(a, np.float64)), _unit(np.asarray(b, np.float64))
    x, y = np.broadcast_arrays(x, y)
    cosine = (x * y).sum(-1)[..., None, None]
    k = _skew(np.cross(x, y))
    plain = np.eye(3) + k + k @ k / np.maximum(1 + cosine, 1e-12)
    if not (cosine < -1 + 1e-9).any():
        return np.asarray(plain)
    aside = np.where(np.abs(x[..., :1]) < 0.7, np.array([1.0, 0.0, 0.0]), np.array([0.0, 1.0, 0.0]))
    axis = _unit(np.cross(x, aside))
    half = 2 * axis[..., :, None] * axis[..., None, :] - np.eye(3)
    return np.where(cosine < -1 + 1e-9, half, plain)


def procrustes(model: Floats, seen: Floats, weights: Floats | None = None) -> F64:
    """Proper rotations R (..., 3, 3) that minimise `sum_k w_k |R model_k - seen_k|^2`; never a reflection.

    Args:
        model: (K, 3).
        seen: (..., K, 3).
        weights: (K,), 1 by default.
    """
    m, s = np.asarray(model, np.float64), np.asarray(seen, np.float64)
    lead = s.shape[:-2]
    points = np.moveaxis(s.reshape(-1, *s.shape[-2:]), 0, -1).transpose(1, 0, 2)
    w = tuple(np.ones(len(m)) if weights is None else np.asarray(weights, np.float64))
    r = quaternion_matrix(np, horn(np, m.T[..., None], points, w))
    return np.asarray(np.moveaxis(r[:, :, 0], -1, 0).reshape(*lead, 3, 3))


def _unit(v: F64) -> F64:
    return np.asarray(v / np.maximum(np.sqrt((v * v).sum(-1, keepdims=True)), 1e-9))
