"""The compiled raster: the same pictures as `raster.draw`, visiting only the pixels between a shape's edges.

A row is done in two passes: brightness and opacity of its pixels as vectors, then one blend into the bytes. The
parameters of a shape are taken into locals first, because a compiler must assume that writing bytes changes them.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from choreo_cli.motion.raster import (
    ALPHA,
    ALPHA1,
    AMBIENT,
    CAPSULE,
    CAST,
    DIFFUSE,
    F32,
    HALF,
    KIND,
    LIGHT,
    ONE,
    QUAD,
    R0,
    R1,
    RGB,
    RIM,
    RIM_TONE,
    SHADE,
    SHADOW,
    SKIP,
    SOFT,
    TINY,
    TOP,
    U8,
    XY,
    ZERO,
)

LX, LY, LZ = LIGHT
NEVER = np.float32(1e9)
INF = np.float32(np.inf)
# Scratch rows: opacity, brightness, columns as numbers, squared distance, vector to the nearest point, side flags.
_A, _V, _X, _D, _QX, _QY, _S = 0, 1, 2, 3, 4, 5, 6
# Rows are done in whole blocks, beyond their end into spare scratch: a rest, pixel by pixel, would take longer.
_LANES = 16
_CHUNK = 4  # frames whose background is still in the cache when their shapes are drawn
_compiled = njit(cache=True, nogil=True, error_model="numpy")


def draw(background: U8, pictures: F32, out: U8) -> None:
    """Draw pictures; arguments as of `raster.draw`. The interpreter is free meanwhile."""
    rows = out.reshape(*out.shape[:2], -1)
    pictures = np.ascontiguousarray(pictures, np.float32)
    for k in range(0, len(out), _CHUNK):
        chunk = slice(k, k + _CHUNK)
        out[chunk] = background if background.ndim == 3 else background[chunk]
        _draw(pictures[chunk], rows[chunk])


@_compiled
def _draw(pictures: F32, out: U8) -> None:
    height, width = out.shape[1], out.shape[2] // 3
    mask = np.zeros((height, width), np.float32)
    # Of each row of the mask, where the shadow lies.
    lo, hi = np.full(height, width, np.int64), np.zeros(height, np.int64)
    work = np.zeros((7, width + _LANES), np.float32)
    for i in range(width + _LANES):
        work[_X, i] = i
    for t in range(len(pictures)):
        for row in range(height):  # a shadow that nothing cast
            if lo[row] < hi[row]:
                mask[row, lo[row] : hi[row]] = ZERO
                lo[row], hi[row] = width, 0
        for p in range(pictures.shape[1]):
            shape = pictures[t, p]
            kind = int(shape[KIND])
            if kind == SKIP:
                continue
            if kind == CAST:
                _cast(out[t], mask, lo, hi, work, shape)
            else:
                _paint(out[t], mask, lo, hi, work, shape, kind)


@_compiled
def _paint(image: U8, mask: F32, lo: Any, hi: Any, work: F32, shape: F32, kind: int) -> None:
    height, width = mask.shape
    corners = 4 if kind == QUAD else 2
    rim = shape[RIM] + HALF if shape[RIM] > 0 else ZERO
    grow = max(shape[R0], shape[R1]) + max(shape[SOFT] * HALF, rim)
    low_y, high_y, low_x, high_x = shape[XY + 1], shape[XY + 1], shape[XY], shape[XY]
    for k in range(1, corners):
        low_x, high_x = min(low_x, shape[XY + 2 * k]), max(high_x, shape[XY + 2 * k])
        low_y, high_y = min(low_y, shape[XY + 2 * k + 1]), max(high_y, shape[XY + 2 * k + 1])
    low_x, high_x, low_y, high_y = low_x - grow, high_x + grow, low_y - grow, high_y + grow
    if not (high_x >= 0 and high_y >= 0 and low_x <= width - 1 and low_y <= height - 1):
        return
    top, bottom = max(math.ceil(low_y), 0), min(int(high_y) + 1, height)
    if kind == SHADOW:
        _shadow(mask, lo, hi, work, shape, top, bottom, grow)
    elif kind == CAPSULE:
        _capsule(image, work, shape, top, bottom, grow)
    else:
        _quad(image, work, shape, top, bottom, grow)


@_compiled
def _capsule(image: U8, work: F32, shape: F32, top: int, bottom: int, grow: Any) -> None:
    width = work.shape[1] - _LANES
    x0, y0, x1, y1 = shape[XY], shape[XY + 1], shape[XY + 2], shape[XY + 3]
    red, green, blue = shape[RGB], shape[RGB + 1], shape[RGB + 2]
    axis, paint, edge = _axis_of(shape), _paint_of(shape), _edge_of(x0, y0, x1, y1, grow)
    for row in range(top, bottom):
        first, last = _columns(_span(edge, np.float32(row)), width)
        if first < last:
            _capsule_row(work, axis, paint, np.float32(row), first, last)
            _blend(image[row, 3 * first : 3 * last], work[_A, first:last], work[_V, first:last], red, green, blue)


@_compiled
def _shadow(mask: F32, lo: Any, hi: Any, work: F32, shape: F32, top: int, bottom: int, grow: Any) -> None:
    width = work.shape[1] - _LANES
    x0, y0, x1, y1 = shape[XY], shape[XY + 1], shape[XY + 2], shape[XY + 3]
    axis, paint, edge = _axis_of(shape), _paint_of(shape), _edge_of(x0, y0, x1, y1, grow)
    for row in range(top, bottom):
        first, last = _columns(_span(edge, np.float32(row)), width)
        if first < last:
            lo[row], hi[row] = min(lo[row], first), max(hi[row], last)
            _capsule_row(work, axis, paint, np.float32(row), first, last)
            dark, alpha = mask[row, first:last], work[_A, first:last]
            for i in range(len(dark)):
                dark[i] = max(dark[i], alpha[i])


@_compiled
def _quad(image: U8, work: F32, shape: F32, top: int, bottom: int, grow: Any) -> None:
    """Between the edges of the quad itself every pixel of a row is the same; beside them the distance decides."""
    width = work.shape[1] - _LANES
    red, green, blue = shape[RGB], shape[RGB + 1], shape[RGB + 2]
    x0, y0, x1, y1 = shape[XY], shape[XY + 1], shape[XY + 2], shape[XY + 3]
    x2, y2, x3, y3 = shape[XY + 4], shape[XY + 5], shape[XY + 6], shape[XY + 7]
    edges = (
        _edge_of(x0, y0, x1, y1, grow),
        _edge_of(x1, y1, x2, y2, grow),
        _edge_of(x2, y2, x3, y3, grow),
        _edge_of(x3, y3, x0, y0, grow),
    )
    flat = _surface(ZERO, ZERO, ZERO, shape[R0], shape[ALPHA], _paint_of(shape))
    for row in range(top, bottom):
        y = np.float32(row)
        left, right = INF, -INF
        for k in range(4):
            a, b = _span(edges[k], y)
            left, right = min(left, a), max(right, b)
        first, last = _columns((left, right), width)
        if first >= last:
            continue
        inner, outer = _columns(_inside(shape, y), width)
        inner, outer = max(inner, first), min(outer, last)
        if inner < outer:
            _quad_row(work, shape, y, first, inner)
            _quad_row(work, shape, y, outer, last)
            work[_A, inner:outer] = flat[0]
            work[_V, inner:outer] = flat[1]
        else:
            _quad_row(work, shape, y, first, last)
        _blend(image[row, 3 * first : 3 * last], work[_A, first:last], work[_V, first:last], red, green, blue)


@_compiled
def _columns(span: tuple[Any, Any], width: int) -> tuple[int, int]:
    """First and last + 1 pixel of a stretch of a row, (0, 0) when there is none."""
    left, right = span
    if not (left <= right and right >= 0 and left <= width - 1):
        return 0, 0
    return max(math.ceil(left), 0), min(int(right) + 1, width)


@_compiled
def _edge_of(x0: Any, y0: Any, x1: Any, y1: Any, r: Any) -> Any:
    """What rows need to know of a segment grown by r: roots and divisions once, not in every row."""
    dx, dy = x1 - x0, y1 - y0
    nx, ny, slope, low, high = ZERO, ZERO, ZERO, INF, -INF
    if dy != 0:
        scale = r / np.float32(math.sqrt(dx * dx + dy * dy))
        nx, ny, slope = -dy * scale, dx * scale, dx / dy
        low, high = min(y0, y1), max(y0, y1)
    return x0, y0, x1, y1, r * r, nx, ny, slope, low, high


@_compiled
def _span(edge: Any, y: Any) -> tuple[Any, Any]:
    """Where a row meets a segment grown by a radius: (left, right), empty when left > right."""
    x0, y0, x1, y1, square, nx, ny, slope, low, high = edge
    left, right = INF, -INF
    room = square - (y - y0) * (y - y0)
    if room >= 0:
        half = np.float32(math.sqrt(room))
        left, right = x0 - half, x0 + half
    room = square - (y - y1) * (y - y1)
    if room >= 0:
        half = np.float32(math.sqrt(room))
        left, right = min(left, x1 - half), max(right, x1 + half)
    if low + ny <= y and y <= high + ny:
        x = x0 + nx + (y - y0 - ny) * slope
        left, right = min(left, x), max(right, x)
    if low - ny <= y and y <= high - ny:
        x = x0 - nx + (y - y0 + ny) * slope
        left, right = min(left, x), max(right, x)
    return left, right


@_compiled
def _inside(shape: F32, y: Any) -> tuple[Any, Any]:
    """Where a row crosses a convex quad; nothing of one that crosses itself."""
    left, right, turns, ways = INF, -INF, 0, 0
    for k in range(4):
        n, m = (k + 1) % 4, (k + 2) % 4
        x0, y0, x1, y1 = shape[XY + 2 * k], shape[XY + 2 * k + 1], shape[XY + 2 * n], shape[XY + 2 * n + 1]
        turn = (x1 - x0) * (shape[XY + 2 * m + 1] - y1) - (y1 - y0) * (shape[XY + 2 * m] - x1)
        turns += 1 if turn > 0 else -1
        ways += 1
        if y0 != y1 and min(y0, y1) <= y and y <= max(y0, y1):
            x = x0 + (y - y0) / (y1 - y0) * (x1 - x0)
            left, right = min(left, x), max(right, x)
    if turns != ways and turns != -ways:
        return INF, -INF
    return left, right


@_compiled
def _surface(square: Any, qx: Any, qy: Any, radius: Any, opacity: Any, paint: Any) -> tuple[Any, Any]:
    """Opacity and brightness of a pixel at a vector q from the axis of a shape."""
    per_soft, rim, mixed, plain, shade = paint
    distance = np.float32(math.sqrt(square)) - radius
    cover = min(max(HALF - distance * per_soft, ZERO), ONE)
    around = max(cover, min(max(HALF - (distance - rim), ZERO), ONE))
    inverse = ONE / max(radius, TINY)
    nx, ny = qx * inverse, qy * inverse
    nz = np.float32(math.sqrt(max(ONE - nx * nx - ny * ny, ZERO)))
    lit = max(nx * LX + ny * LY + nz * LZ, ZERO)
    tone = ONE + shade * (AMBIENT + DIFFUSE * lit - ONE)
    return around * opacity, RIM_TONE + (tone - RIM_TONE) * (cover * mixed + plain)


@_compiled
def _paint_of(shape: F32) -> Any:
    """(1 / softness, rim or never, share of the rim's tone outside, 1 without a rim, shading) of a shape."""
    rimmed = shape[RIM] > 0
    return (
        ONE / shape[SOFT], shape[RIM] if rimmed else -NEVER, ONE if rimmed else ZERO, ZERO if rimmed else ONE,
        shape[SHADE],
    )  # fmt: skip


@_compiled
def _axis_of(shape: F32) -> Any:
    """(start, way, 1 / length squared, radius and its growth, opacity and its growth) of a capsule."""
    x0, y0 = shape[XY], shape[XY + 1]
    dx, dy = shape[XY + 2] - x0, shape[XY + 3] - y0
    inverse = ONE / max(dx * dx + dy * dy, TINY)
    return x0, y0, dx, dy, inverse, shape[R0], shape[R1] - shape[R0], shape[ALPHA], shape[ALPHA1] - shape[ALPHA]


@_compiled
def _capsule_row(work: F32, axis: Any, paint: Any, y: Any, first: int, last: int) -> None:
    x0, y0, dx, dy, inverse, r0, grows, opaque, fades = axis
    py = y - y0
    for block in range(first, last, _LANES):
        alpha, tone = work[_A, block : block + _LANES], work[_V, block : block + _LANES]
        xs = work[_X, block : block + _LANES]
        for i in range(_LANES):
            px = xs[i] - x0
            along = min(max((px * dx + py * dy) * inverse, ZERO), ONE)
            qx, qy = px - along * dx, py - along * dy
            alpha[i], tone[i] = _surface(qx * qx + qy * qy, qx, qy, r0 + along * grows, opaque + along * fades, paint)


@_compiled
def _quad_row(work: F32, shape: F32, y: Any, first: int, last: int) -> None:
    radius, opaque, paint = shape[R0], shape[ALPHA], _paint_of(shape)
    for block in range(first, last, _LANES):
        stop = block + _LANES
        xs, best, side = work[_X, block:stop], work[_D, block:stop], work[_S, block:stop]
        vx, vy = work[_QX, block:stop], work[_QY, block:stop]
        best[:] = INF
        side[:] = ZERO
        for k in range(4):
            n = (k + 1) % 4
            x0, y0 = shape[XY + 2 * k], shape[XY + 2 * k + 1]
            dx, dy = shape[XY + 2 * n] - x0, shape[XY + 2 * n + 1] - y0
            inverse = ONE / max(dx * dx + dy * dy, TINY)
            py = y - y0
            for i in range(_LANES):
                px = xs[i] - x0
                cross = dx * py - dy * px
                along = min(max((px * dx + py * dy) * inverse, ZERO), ONE)
                ex, ey = px - along * dx, py - along * dy
                far = ex * ex + ey * ey
                nearer = far < best[i]
                vx[i] = ex if nearer else vx[i]
                vy[i] = ey if nearer else vy[i]
                best[i] = far if nearer else best[i]
                side[i] += (ONE if cross >= 0 else ZERO) - (ONE if cross <= 0 else ZERO)
        alpha, tone = work[_A, block:stop], work[_V, block:stop]
        for i in range(_LANES):
            inside = abs(side[i]) >= 3
            qx, qy = ZERO if inside else vx[i], ZERO if inside else vy[i]
            alpha[i], tone[i] = _surface(qx * qx + qy * qy, qx, qy, radius, opaque, paint)


@_compiled
def _blend(pixels: U8, alpha: F32, tone: F32, red: Any, green: Any, blue: Any) -> None:
    # One index into bytes, and three stores side by side: this is what becomes vector code.
    for i in range(len(alpha)):
        a, v = alpha[i], tone[i]
        r, g, b = np.float32(pixels[3 * i]), np.float32(pixels[3 * i + 1]), np.float32(pixels[3 * i + 2])
        pixels[3 * i] = np.uint8(np.int32(r + (min(red * v, TOP) - r) * a + HALF))
        pixels[3 * i + 1] = np.uint8(np.int32(g + (min(green * v, TOP) - g) * a + HALF))
        pixels[3 * i + 2] = np.uint8(np.int32(b + (min(blue * v, TOP) - b) * a + HALF))


@_compiled
def _cast(image: U8, mask: F32, lo: Any, hi: Any, work: F32, shape: F32) -> None:
    height, width = mask.shape
    opacity = shape[ALPHA]
    for row in range(height):
        first, last = lo[row], hi[row]
        if first >= last:
            continue
        dark, alpha, tone = mask[row, first:last], work[_A, first:last], work[_V, first:last]
        for i in range(len(dark)):
            alpha[i] = dark[i] * opacity
            tone[i] = ONE
            dark[i] = ZERO
        _blend(image[row, 3 * first : 3 * last], alpha, tone, shape[RGB], shape[RGB + 1], shape[RGB + 2])
        lo[row], hi[row] = width, 0
