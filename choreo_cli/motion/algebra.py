"""Component-first vectors and rotations, the same code for numpy and torch.

A vector is (3, K, *batch): three components, K points, then frames (numpy: N; torch: B, T). A rotation is
(3, 3, 1, *batch). With the components in front every operation runs along contiguous frames, which is what makes
numpy fast here. `xp` is the module `numpy` or `torch`; arrays are typed Any for that reason.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np

Array = Any
TINY = 1e-18


def namespace(x: Array) -> Any:
    """The module `numpy`, or `torch` for a tensor."""
    return np if isinstance(x, np.ndarray | np.generic) else import_module("torch")


def like(x: Any, array: Array) -> Array:
    """`x` as an array of the same kind, type and device as `array`."""
    if isinstance(array, np.ndarray | np.generic):
        return np.asarray(x, array.dtype)
    return namespace(array).as_tensor(np.asarray(x) if not hasattr(x, "device") else x).to(array)


def dot(a: Array, b: Array) -> Array:
    """Scalar product over the components: (3, ...) x (3, ...) -> (...)."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def cross(xp: Any, a: Array, b: Array) -> Array:
    """Vector product over the components."""
    return xp.stack((a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]), 0)


def norm(xp: Any, v: Array) -> Array:
    """Length, at least 1e-9 (so that its derivative exists everywhere)."""
    return xp.sqrt(xp.clip(dot(v, v), TINY, None))


def unit(xp: Any, v: Array) -> Array:
    """`v / max(|v|, 1e-9)`."""
    return v / norm(xp, v)


def turn(r: Array, v: Array) -> Array:
    """`R v` for every point: (3, 3, 1, *b) x (3, K, *b) -> (3, K, *b)."""
    return r[:, 0] * v[0] + r[:, 1] * v[1] + r[:, 2] * v[2]


def turn_back(r: Array, v: Array) -> Array:
    """`R^T v` for every point."""
    return r[0] * v[0] + r[1] * v[1] + r[2] * v[2]


def compose(xp: Any, a: Array, b: Array) -> Array:
    """`A B` of two rotations (3, 3, 1, *b)."""
    return xp.stack([turn(a, b[:, j]) for j in range(3)], 1)


def matrix(xp: Any, rows: list[list[Array]]) -> Array:
    """(3, 3, 1, *b) from nine scalars (1, *b)."""
    return xp.stack([xp.stack(row, 0) for row in rows], 0)


def tilt(xp: Any, pitch: Array, roll: Array) -> Array:
    """`Rx(pitch) Rz(roll)`: the pelvis in its heading frame. Angles (1, *b) -> (3, 3, 1, *b)."""
    cp, sp, cr, sr = xp.cos(pitch), xp.sin(pitch), xp.cos(roll), xp.sin(roll)
    zero = xp.zeros_like(cp)
    return matrix(xp, [[cr, -sr, zero], [cp * sr, cp * cr, -sp], [sp * sr, sp * cr, cp]])


def heading(c: Array, s: Array, x: Array, z: Array) -> tuple[Array, Array]:
    """x and z of `Ry(yaw) v`, with c, s the cosine and sine of yaw; pass -s for the inverse."""
    return c * x + s * z, c * z - s * x


def quaternion_matrix(xp: Any, q: tuple[Array, Array, Array, Array]) -> Array:
    """Rotation of a unit quaternion (w, x, y, z) of scalars (1, *b) -> (3, 3, 1, *b)."""
    w, x, y, z = q
    xx, yy, zz = x * x, y * y, z * z
    xy, xz, yz, wx, wy, wz = x * y, x * z, y * z, w * x, w * y, w * z
    rows = [
        [1 - 2 * (yy + zz), 2 * (xy - wz), 2 * (xz + wy)],
        [2 * (xy + wz), 1 - 2 * (xx + zz), 2 * (yz - wx)],
        [2 * (xz - wy), 2 * (yz + wx), 1 - 2 * (xx + yy)],
    ]
    return matrix(xp, rows)


def quaternion_log(xp: Any, q: tuple[Array, Array, Array, Array]) -> Array:
    """Rotation vector (3, 1, *b) of a unit quaternion, its angle in [0, pi]."""
    v = xp.stack(q[1:], 0) * xp.where(q[0] < 0, -1.0, 1.0)
    n = norm(xp, v)
    return v * (2.0 * xp.arctan2(n, abs(q[0])) / n)


def horn(xp: Any, model: Array, seen: Array, weights: tuple[float, ...]) -> tuple[Array, Array, Array, Array]:
    """Weighted orthogonal Procrustes: the proper rotation R that minimises `sum w |R model - seen|^2`.

    Closed form by unit quaternions (Horn 1987); the largest eigenvalue of the 4x4 key matrix by Newton's method on
    its characteristic polynomial (Theobald 2005), the eigenvector from the adjugate. Never a reflection.

    Args:
        xp: numpy or torch.
        model: (3, K, ...) points of the model, broadcast over frames.
        seen: (3, K, *b) points of each frame.
        weights: K weights.

    Returns:
        Unit quaternion (w, x, y, z), each (1, *b).
    """
    s = [[_weighted(model[i], seen[j], weights) for j in range(3)] for i in range(3)]
    largest = _weighted(dot(model, model), None, weights) + _weighted(dot(seen, seen), None, weights)
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = s
    k = {
        (0, 0): xx + yy + zz, (0, 1): yz - zy, (0, 2): zx - xz, (0, 3): xy - yx, (1, 1): xx - yy - zz,
        (1, 2): xy + yx, (1, 3): zx + xz, (2, 2): yy - xx - zz, (2, 3): yz + zy, (3, 3): zz - xx - yy,
    }  # fmt: skip
    value = _largest_root(xp, s, k, 0.5 * largest)
    return _eigenvector(xp, k, value)


def _weighted(a: Array, b: Array | None, weights: tuple[float, ...]) -> Array:
    """(K, *b) products summed over the points -> (1, *b)."""
    product = a if b is None else a * b
    return sum(product[k : k + 1] * w for k, w in enumerate(weights))


def _largest_root(xp: Any, s: list[list[Array]], k: dict[tuple[int, int], Array], start: Array) -> Array:
    """Newton from above on `x^4 + c2 x^2 + c1 x + c0`, scaled so that the start is 1."""
    scale = 1.0 / xp.clip(start, TINY, None)
    c2 = -2.0 * sum(v * v for row in s for v in row) * scale**2
    (a, b, c), (d, e, f), (g, h, i) = s
    c1 = -8.0 * (a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)) * scale**3
    c0 = _det4(k) * scale**4
    x = xp.ones_like(c2)
    for _ in range(10):
        x2 = x * x
        value = (x2 + c2) * x2 + c1 * x + c0
        slope = 4.0 * x2 * x + 2.0 * c2 * x + c1
        step = xp.clip(value / xp.clip(slope, 1e-12, None), 0.0, 1.0)
        x = x - step
        if not step.max() > 1e-15:
            break
    return x / scale


def _minors(k: dict[tuple[int, int], Array]) -> tuple[list[Array], list[Array]]:
    """2x2 minors of the upper and the lower two rows of a symmetric 4x4 matrix, columns 01 02 03 12 13 23."""
    m = [[k[min(i, j), max(i, j)] for j in range(4)] for i in range(4)]
    pairs = ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3))
    upper = [m[0][i] * m[1][j] - m[0][j] * m[1][i] for i, j in pairs]
    lower = [m[2][i] * m[3][j] - m[2][j] * m[3][i] for i, j in pairs]
    return upper, lower


def _det4(k: dict[tuple[int, int], Array]) -> Array:
    u, v = _minors(k)
    return u[0] * v[5] - u[1] * v[4] + u[2] * v[3] + u[3] * v[2] - u[4] * v[1] + u[5] * v[0]


def _eigenvector(xp: Any, k: dict[tuple[int, int], Array], value: Array) -> tuple[Array, Array, Array, Array]:
    """Unit eigenvector of a simple eigenvalue: the largest row of the adjugate of `K - value I`."""
    n = {(i, j): v - value if i == j else v for (i, j), v in k.items()}
    m = [[n[min(i, j), max(i, j)] for j in range(4)] for i in range(4)]
    u, v = _minors(n)
    adj = {
        (0, 0): m[1][1] * v[5] - m[1][2] * v[4] + m[1][3] * v[3],
        (0, 1): -m[0][1] * v[5] + m[0][2] * v[4] - m[0][3] * v[3],
        (0, 2): m[3][1] * u[5] - m[3][2] * u[4] + m[3][3] * u[3],
        (0, 3): -m[2][1] * u[5] + m[2][2] * u[4] - m[2][3] * u[3],
        (1, 1): m[0][0] * v[5] - m[0][2] * v[2] + m[0][3] * v[1],
        (1, 2): -m[3][0] * u[5] + m[3][2] * u[2] - m[3][3] * u[1],
        (1, 3): m[2][0] * u[5] - m[2][2] * u[2] + m[2][3] * u[1],
        (2, 2): m[3][0] * u[4] - m[3][1] * u[2] + m[3][3] * u[0],
        (2, 3): -m[2][0] * u[4] + m[2][1] * u[2] - m[2][3] * u[0],
        (3, 3): m[2][0] * u[3] - m[2][1] * u[1] + m[2][2] * u[0],
    }
    best, size = [adj[0, j] for j in range(4)], abs(adj[0, 0])
    for row in range(1, 4):
        larger = abs(adj[row, row]) > size
        best = [xp.where(larger, adj[min(row, j), max(row, j)], best[j]) for j in range(4)]
        size = xp.where(larger, abs(adj[row, row]), size)
    # Scaled before it is squared: entries are cubes of squared lengths.
    most = xp.clip(sum(abs(b) for b in best), 1e-300 if best[0].dtype.itemsize == 8 else 1e-37, None)
    best = [b / most for b in best]
    length = xp.sqrt(xp.clip(sum(b * b for b in best), TINY, None))
    return best[0] / length, best[1] / length, best[2] / length, best[3] / length


def conjugate_product(
    a: tuple[Array, Array, Array, Array], b: tuple[Array, Array, Array, Array]
) -> tuple[Array, Array, Array, Array]:
    """Quaternion `conj(a) b`: the rotation b seen from a."""
    w, x, y, z = a
    p, q, r, s = b
    return (
        w * p + x * q + y * r + z * s,
        w * q - x * p - y * s + z * r,
        w * r + x * s - y * p - z * q,
        w * s - x * r + y * q - z * p,
    )


def fractions(xp: Any, w: Array) -> tuple[list[Array], list[Array]]:
    """Rodrigues factors of a third, two thirds and all of a rotation vector (3, 1, *b).

    Returns:
        ([sin p / |w|], [(1 - cos p) / |w|^2]) for p = |w|/3, 2|w|/3, |w|; each (1, *b), exact for small vectors.
    """
    # 1e-6 rad: below it sin(p)/|w| is its limit to the last bit, and the derivative stays finite.
    angle = xp.sqrt(xp.clip(dot(w, w), 1e-12, None))
    s0, c0 = xp.sin(angle / 6), xp.cos(angle / 6)
    s1, h3 = 2 * s0 * c0, s0 * (3 - 4 * s0 * s0)
    c1 = 1 - 2 * s0 * s0
    s2, s3 = 2 * s1 * c1, s1 * (3 - 4 * s1 * s1)
    inverse = 1 / angle
    square = 2 * inverse * inverse
    return [s1 * inverse, s2 * inverse, s3 * inverse], [s0 * s0 * square, s1 * s1 * square, h3 * h3 * square]


def rodrigues(xp: Any, w: Array, v: Array, a: Array, b: Array) -> Array:
    """`exp(s w) v` with the factors a, b of `fractions`."""
    wv = cross(xp, w, v)
    return v + a * wv + b * cross(xp, w, wv)


def exp_matrix(xp: Any, w: Array, a: Array, b: Array) -> Array:
    """`exp(s w)` as (3, 3, 1, *b) with the factors a, b of `fractions`."""
    x, y, z = w[0], w[1], w[2]
    bx, by, bz, ax, ay, az = b * x, b * y, b * z, a * x, a * y, a * z
    rows = [
        [1 - by * y - bz * z, bx * y - az, bx * z + ay],
        [bx * y + az, 1 - bx * x - bz * z, by * z - ax],
        [bx * z - ay, by * z + ax, 1 - bx * x - by * y],
    ]
    return matrix(xp, rows)
