"""Anti-aliased drawing of tapered capsules and rounded quads: the numpy reference, and the choice of engine.

A picture is a list of shapes, drawn in order into 8-bit RGB. Coverage comes from a distance field, evaluated only
where a shape can be seen. Each shape is shaded like a lit solid: its outward normal follows from the distance field.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.errors import UnavailableError

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]
Draw = Callable[[U8, F32, U8], None]

# Columns of a shape (float32): kind, four corners (a capsule uses two), two radii, colour, and how it is painted.
# ALPHA1 is the opacity at a capsule's second end, in a column that only quads use for a corner.
KIND, XY, ALPHA1, R0, R1, RGB, ALPHA, SHADE, SOFT, RIM = 0, 1, 5, 9, 10, 11, 14, 15, 16, 17
WIDTH = 18
# Kinds. SHADOW raises a mask to its coverage; CAST paints the mask and clears it, so overlaps do not darken twice.
SKIP, CAPSULE, QUAD, SHADOW, CAST = 0, 1, 2, 3, 4

LIGHT = (np.float32(-0.36), np.float32(-0.56), np.float32(0.746))  # unit vector in the image: x right, y down, z to us
AMBIENT, DIFFUSE, RIM_TONE = np.float32(0.40), np.float32(0.74), np.float32(0.14)
HALF, ONE, TOP, ZERO, TINY = np.float32(0.5), np.float32(1.0), np.float32(255.0), np.float32(0.0), np.float32(1e-6)


def engine(name: str = "auto") -> tuple[Draw, str]:
    """The drawing function and its name; `auto` takes numba where it is installed.

    Both draw the same picture to within one grey level. The function is called as `draw(background (H, W, 3),
    shapes (T, P, WIDTH), out (T, H, W, 3))`.

    Raises:
        UnavailableError: numba was asked for and is not installed.
    """
    if name == "numpy" or (name == "auto" and find_spec("numba") is None):
        return draw, "numpy"
    if find_spec("numba") is None:
        raise UnavailableError("the numba engine is not installed", hint="pip install 'choreo[render]'")
    from choreo_cli.motion.raster_numba import draw as fast

    return fast, "numba"


def warm(name: str = "auto") -> None:
    """Let the engine compile now, before several processes would, each for itself."""
    out = np.empty((1, 8, 8, 3), np.uint8)
    engine(name)[0](np.zeros((8, 8, 3), np.uint8), shapes(1, 1), out)


def shapes(frames: int, count: int) -> F32:
    """(frames, count, WIDTH) float32 of nothing."""
    return np.zeros((frames, count, WIDTH), np.float32)


def draw(background: U8, pictures: F32, out: U8) -> None:
    """Draw pictures with numpy alone.

    Args:
        background: (H, W, 3) uint8, or (T, H, W, 3) where each picture has its own.
        pictures: (T, P, WIDTH) float32 shapes in the order they are painted; pixel centres lie on whole numbers.
        out: (T, H, W, 3) uint8, filled.
    """
    height, width = out.shape[1:3]
    mask = np.zeros((height, width), np.float32)
    for t, picture in enumerate(pictures):
        out[t] = background if background.ndim == 3 else background[t]
        mask[:] = 0
        for shape in picture:
            _paint(out[t], mask, shape)


def _paint(image: U8, mask: F32, shape: F32) -> None:
    kind = int(shape[KIND])
    if kind == SKIP:
        return
    if kind == CAST:
        _cast(image, mask, shape)
        return
    box = _box(shape, *image.shape[:2])
    if box is None:
        return
    rows, columns = box
    y = np.arange(rows.start, rows.stop, dtype=np.float32)[:, None]
    x = np.arange(columns.start, columns.stop, dtype=np.float32)[None, :]
    qx, qy, radius, alpha = _quad(shape, x, y) if kind == QUAD else _capsule(shape, x, y)
    distance = np.sqrt(qx * qx + qy * qy) - radius
    cover = np.clip(HALF - distance / shape[SOFT], ZERO, ONE)
    around = np.maximum(cover, np.clip(HALF - (distance - shape[RIM]), ZERO, ONE)) if shape[RIM] > 0 else cover
    if kind == SHADOW:
        np.maximum(mask[box], around * alpha, out=mask[box])
        return
    tone = _tone(qx, qy, radius, shape[SHADE])
    solid = RIM_TONE + (tone - RIM_TONE) * cover if shape[RIM] > 0 else tone
    _blend(image[box], shape, solid, around * alpha)


def _box(shape: F32, height: int, width: int) -> tuple[slice, slice] | None:
    """Rows and columns a shape can touch, None outside the picture or where it is not finite."""
    corners = 4 if shape[KIND] == QUAD else 2
    xs, ys = shape[XY : XY + 2 * corners : 2], shape[XY + 1 : XY + 2 * corners : 2]
    grow = max(shape[R0], shape[R1]) + max(shape[SOFT] * HALF, shape[RIM] + HALF if shape[RIM] > 0 else ZERO) + ONE
    low_x, high_x, low_y, high_y = xs.min() - grow, xs.max() + grow, ys.min() - grow, ys.max() + grow
    if not (high_x >= 0 and high_y >= 0 and low_x <= width - 1 and low_y <= height - 1):
        return None
    rows = slice(max(int(low_y), 0), min(int(high_y) + 1, height))
    return rows, slice(max(int(low_x), 0), min(int(high_x) + 1, width))


def _capsule(shape: F32, x: F32, y: F32) -> tuple[F32, F32, F32, F32]:
    """Vector from the nearest point of the axis, and radius and opacity there."""
    x0, y0, x1, y1 = shape[XY : XY + 4]
    dx, dy = x1 - x0, y1 - y0
    along = np.clip(((x - x0) * dx + (y - y0) * dy) / max(dx * dx + dy * dy, TINY), ZERO, ONE)
    radius = shape[R0] + along * (shape[R1] - shape[R0])
    return x - x0 - along * dx, y - y0 - along * dy, radius, shape[ALPHA] + along * (shape[ALPHA1] - shape[ALPHA])


def _quad(shape: F32, x: F32, y: F32) -> tuple[F32, F32, Any, Any]:
    """Vector from the nearest point of a convex quad (zero inside), its radius and its opacity."""
    corners = shape[XY : XY + 8].reshape(4, 2)
    best = np.full(np.broadcast_shapes(x.shape, y.shape), np.float32(np.inf))
    qx, qy = np.zeros_like(best), np.zeros_like(best)
    left = np.ones(best.shape, bool)
    right = left.copy()
    for k in range(4):
        (x0, y0), (x1, y1) = corners[k], corners[(k + 1) % 4]
        dx, dy = x1 - x0, y1 - y0
        px, py = x - x0, y - y0
        cross = dx * py - dy * px
        left &= cross >= 0
        right &= cross <= 0
        along = np.clip((px * dx + py * dy) / max(dx * dx + dy * dy, TINY), ZERO, ONE)
        ex, ey = px - along * dx, py - along * dy
        far = ex * ex + ey * ey
        nearer = far < best
        best = np.where(nearer, far, best)
        qx, qy = np.where(nearer, ex, qx), np.where(nearer, ey, qy)
    inside = left | right
    return np.where(inside, ZERO, qx), np.where(inside, ZERO, qy), shape[R0], shape[ALPHA]


def _tone(qx: F32, qy: F32, radius: Any, shade: Any) -> Any:
    """Brightness of a surface whose normal tilts from us (axis) to sideways (edge), lit from the upper left."""
    if shade <= 0:
        return ONE
    inverse = ONE / np.maximum(radius, TINY)
    nx, ny = qx * inverse, qy * inverse
    nz = np.sqrt(np.maximum(ONE - nx * nx - ny * ny, ZERO))
    lit = np.maximum(nx * LIGHT[0] + ny * LIGHT[1] + nz * LIGHT[2], ZERO)
    return ONE + shade * (AMBIENT + DIFFUSE * lit - ONE)


def _blend(view: U8, shape: F32, tone: Any, alpha: F32) -> None:
    for c in range(3):
        under = view[..., c].astype(np.float32)
        over = np.minimum(shape[RGB + c] * tone, TOP)
        view[..., c] = (under + (over - under) * alpha + HALF).astype(np.uint8)


def _cast(image: U8, mask: F32, shape: F32) -> None:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if len(rows):
        box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        _blend(image[box], shape, ONE, mask[box] * shape[ALPHA])
        mask[box] = 0
