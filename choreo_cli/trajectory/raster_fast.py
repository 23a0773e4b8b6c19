"""The pictures of `raster`, drawn by numba: only pixels that something covers are touched."""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from choreo_cli.trajectory.raster import FADE, TAIL, THIN, TRAIL

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]
_PATCH = 8  # pixels of a patch; a dot in an image of 64 pixels is at most 7 wide
_STREAMED = 2**25  # bytes from which a buffer fits no cache: frames are then written past it
_SMALL = np.float32((_PATCH - 1) / 2 - 0.5)  # radius that always fits one


def render_batch(pixels: Any, radius: Any, colour: U8, style: U8, out: U8) -> None:
    """Draw N videos into a buffer.

    Args:
        pixels: (N, T, 2) x right, y down.
        radius: (N, T) pixels.
        colour: (N, 3) uint8.
        style: (N,) uint8, 0 dot, 1 trail.
        out: (N, T, 3, size, size) uint8, C-contiguous; every pixel is written.

    Raises:
        ValueError: a buffer of another shape or kind: addresses are computed from it.
    """
    wanted = (*np.shape(pixels)[:2], 3)
    if out.dtype != np.uint8 or not out.flags.c_contiguous or out.shape[:3] != wanted or out.shape[3] != out.shape[4]:
        raise ValueError(f"a buffer of {out.shape} {out.dtype} does not hold videos of {wanted} x size x size uint8")
    streamed = out.nbytes >= _STREAMED and out.ctypes.data % 16 == 0 and 3 * out.shape[3] ** 2 % 16 == 0
    _render(
        np.ascontiguousarray(pixels, np.float32), np.ascontiguousarray(radius, np.float32), colour,
        np.ascontiguousarray(style, np.uint8), out, np.uintp(_PATCH * _PATCH), streamed,
    )  # fmt: skip


@intrinsic
def _put8_code(typing: Any, address: Any, value: Any) -> Any:
    """Store eight bytes at an address that need not be aligned."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(args[1], builder.inttoptr(args[0], ir.PointerType(ir.IntType(64))), align=1)
        return context.get_dummy_value()

    return types.void(types.uintp, types.uint64), code


_put8: Any = _put8_code  # called without the typing context


def _past_cache(count: int) -> Any:
    """Code that copies `count` bytes to an aligned address past the cache: no line is read before it is written."""
    kind = ir.VectorType(ir.IntType(64), count // 8)

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        held = builder.load(builder.inttoptr(args[1], ir.PointerType(kind)), align=8)
        stored = builder.store(held, builder.inttoptr(args[0], ir.PointerType(kind)), align=count)
        stored.set_metadata("nontemporal", builder.module.add_metadata([ir.Constant(ir.IntType(32), 1)]))
        return context.get_dummy_value()

    return code


@intrinsic
def _pass16_code(typing: Any, target: Any, source: Any) -> Any:
    """Copy 16 bytes past the cache."""
    return types.void(types.uintp, types.uintp), _past_cache(16)


@intrinsic
def _pass64_code(typing: Any, target: Any, source: Any) -> Any:
    """Copy a whole line past the cache."""
    return types.void(types.uintp, types.uintp), _past_cache(64)


@intrinsic
def _settle_code(typing: Any) -> Any:
    """Make what went past the cache visible before anything that follows."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), code


_pass16: Any = _pass16_code
_pass64: Any = _pass64_code
_settle: Any = _settle_code


@numba.njit(cache=True, nogil=True)
def _render(pixels: F32, radius: F32, colour: U8, style: U8, out: U8, lanes: Any, streamed: bool) -> None:
    size, frames = out.shape[-1], out.shape[1]
    trail = np.zeros((size, size), np.float32)
    patch, nothing = np.empty((3, _PATCH), np.uint64), np.zeros((3, _PATCH), np.uint64)
    # Two pages in turn: one is drawn on while the other, whose stores have settled by then, is copied past the cache.
    pages = np.zeros((2, 3, size, size), np.uint8)
    start, step = np.uintp(out.ctypes.data), np.uintp(3 * size * size)
    turn, waiting = 0, -1
    for n in range(len(out)):
        for k in range(frames):
            x, y, rho = pixels[n, k, 0], pixels[n, k, 1], radius[n, k]
            dot = style[n] != TRAIL
            small = dot and rho <= _SMALL and size >= _PATCH and x >= 0 and y >= 0 and x <= size and y <= size
            if small and streamed:
                _small_dot(x, y, rho, colour[n], pages[turn], patch, lanes)
                turn = 1 - turn
                if waiting >= 0:
                    a, b = waiting // frames, waiting % frames
                    _page_out(start + np.uintp(waiting) * step, pages[turn])
                    _put_patch(pixels[a, b, 0], pixels[a, b, 1], radius[a, b], pages[turn], nothing)
                waiting = n * frames + k
                continue
            out[n, k] = 0  # frame by frame: what is drawn on next is still in the cache
            if small:
                _small_dot(x, y, rho, colour[n], out[n, k], patch, lanes)
            elif dot:
                _dot(x, y, rho, colour[n], out[n, k])
        if style[n] == TRAIL:
            _trail(pixels[n], radius[n], colour[n], trail, out[n])
    if waiting >= 0:
        _page_out(start + np.uintp(waiting) * step, pages[1 - turn])
    _settle()


@numba.njit(cache=True, nogil=True)
def _page_out(target: Any, page: U8) -> None:
    """Copy a frame to an address that is a multiple of 16; its size is one as well."""
    source, size = np.uintp(page.ctypes.data), np.uintp(page.size)
    done = np.uintp(0)
    head = (np.uintp(64) - target % np.uintp(64)) % np.uintp(64)
    while done < head:
        _pass16(target + done, source + done)
        done += np.uintp(16)
    for _ in range((size - head) // np.uintp(64)):
        _pass64(target + done, source + done)
        done += np.uintp(64)
    while done < size:
        _pass16(target + done, source + done)
        done += np.uintp(16)


@numba.njit(cache=True, nogil=True, fastmath={"nnan", "ninf", "nsz", "contract"})
def _small_dot(x: float, y: float, rho: float, colour: U8, out: U8, patch: Any, lanes: Any) -> None:
    """A dot inside a patch of 8 x 8: all its pixels in one loop over vectors, then rows of eight bytes each."""
    size = out.shape[-1]
    reach = rho + np.float32(0.5)
    x0, y0 = max(0, min(size - _PATCH, math.ceil(x - reach))), max(0, min(size - _PATCH, math.ceil(y - reach)))
    red, green, blue = np.float32(colour[0]), np.float32(colour[1]), np.float32(colour[2])
    half, one, zero = np.float32(0.5), np.float32(1.0), np.float32(0.0)
    ox, oy = np.float32(x0) - x, np.float32(y0) - y
    levels = patch.view(np.uint8)
    for q in range(lanes):  # 64, which the compiler must not know: it would unroll instead of using vectors
        dx, dy = np.float32(np.int32(q) & 7) + ox, np.float32(np.int32(q) >> 3) + oy
        a = max(zero, min(one, reach - np.float32(math.sqrt(dx * dx + dy * dy))))
        levels[0, q] = np.uint8(np.int32(a * red + half))
        levels[1, q] = np.uint8(np.int32(a * green + half))
        levels[2, q] = np.uint8(np.int32(a * blue + half))
    _put_patch(x, y, rho, out, patch)


@numba.njit(cache=True, nogil=True)
def _put_patch(x: float, y: float, rho: float, out: U8, patch: Any) -> None:
    """Eight bytes of each row that a dot reaches."""
    size = out.shape[-1]
    reach = rho + np.float32(0.5)
    x0, y0 = max(0, min(size - _PATCH, math.ceil(x - reach))), max(0, min(size - _PATCH, math.ceil(y - reach)))
    rows = np.uintp(max(0, min(_PATCH, math.floor(y + reach) - y0 + 1)))
    plane, line = np.uintp(size * size), np.uintp(size)
    at = np.uintp(out.ctypes.data) + np.uintp(y0) * line + np.uintp(x0)
    for c in range(np.uintp(3)):
        for j in range(rows):
            _put8(at + c * plane + j * line, patch[c, j])


@numba.njit(cache=True, nogil=True)
def _dot(x: float, y: float, rho: float, colour: U8, out: U8) -> None:
    size = out.shape[-1]
    reach = rho + np.float32(0.5)
    red, green, blue = np.float32(colour[0]), np.float32(colour[1]), np.float32(colour[2])
    half, one, zero = np.float32(0.5), np.float32(1.0), np.float32(0.0)
    for j in range(max(0, math.ceil(y - reach)), min(size - 1, math.floor(y + reach)) + 1):
        dy = np.float32(j) - y
        for i in range(max(0, math.ceil(x - reach)), min(size - 1, math.floor(x + reach)) + 1):
            dx = np.float32(i) - x
            a = max(zero, min(one, reach - np.float32(math.sqrt(dx * dx + dy * dy))))
            out[0, j, i] = np.uint8(a * red + half)
            out[1, j, i] = np.uint8(a * green + half)
            out[2, j, i] = np.uint8(a * blue + half)


@numba.njit(cache=True, nogil=True)
def _trail(pixels: F32, radius: F32, colour: U8, trail: F32, out: U8) -> None:
    size = out.shape[-1]
    red, green, blue = np.float32(colour[0]), np.float32(colour[1]), np.float32(colour[2])
    half, one, zero = np.float32(0.5), np.float32(1.0), np.float32(0.0)
    fade, tail, thin = np.float32(FADE), np.float32(TAIL), np.float32(THIN)
    x0, x1, y0, y1 = size, -1, size, -1  # what the trail has covered so far
    for k in range(len(pixels)):
        bx, by, rho = pixels[k, 0], pixels[k, 1], radius[k]
        ax, ay = (pixels[k - 1, 0], pixels[k - 1, 1]) if k else (bx, by)
        for j in range(y0, y1 + 1):
            for i in range(x0, x1 + 1):
                trail[j, i] *= fade
        disc, cap = rho + half, thin * rho + half
        dx, dy = bx - ax, by - ay
        square = dx * dx + dy * dy
        inverse = one / square if square > 0 else zero
        # A disc is wider than the capsule at b; at a the capsule alone reaches.
        u0 = max(0, math.ceil(min(bx - disc, ax - cap)))
        u1 = min(size - 1, math.floor(max(bx + disc, ax + cap)))
        v0 = max(0, math.ceil(min(by - disc, ay - cap)))
        v1 = min(size - 1, math.floor(max(by + disc, ay + cap)))
        for j in range(v0, v1 + 1):
            qy, py = np.float32(j) - by, np.float32(j) - ay
            for i in range(u0, u1 + 1):
                qx, px = np.float32(i) - bx, np.float32(i) - ax
                along = min(max((px * dx + py * dy) * inverse, zero), one)
                ex, ey = px - along * dx, py - along * dy
                a = max(zero, min(one, disc - np.float32(math.sqrt(qx * qx + qy * qy))))
                if k:
                    a = max(a, tail * max(zero, min(one, cap - np.float32(math.sqrt(ex * ex + ey * ey)))))
                trail[j, i] = max(trail[j, i], a)
        x0, x1, y0, y1 = min(x0, u0), max(x1, u1), min(y0, v0), max(y1, v1)
        for j in range(y0, y1 + 1):
            for i in range(x0, x1 + 1):
                a = trail[j, i]
                out[k, 0, j, i] = np.uint8(a * red + half)
                out[k, 1, j, i] = np.uint8(a * green + half)
                out[k, 2, j, i] = np.uint8(a * blue + half)
    for j in range(y0, y1 + 1):
        for i in range(x0, x1 + 1):
            trail[j, i] = zero
