"""PNG and animated PNG: another decoder reads back every pixel; equal pictures give equal bytes."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from choreo_cli.motion import raster_png

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("size", [(1, 1), (7, 3), (40, 61)])
def test_png_round_trip(size: tuple[int, int]) -> None:
    image = RNG.integers(0, 256, (*size, 3), dtype=np.uint8)
    data = raster_png.png(image, {"choreo": "täxt"})
    read = Image.open(io.BytesIO(data))
    assert (np.asarray(read) == image).all() and read.text["choreo"] == "täxt"
    assert raster_png.png(image, {"choreo": "täxt"}) == data


def test_apng_round_trip() -> None:
    """Changes anywhere, a frame that repeats, one that changes a single pixel, one that changes them all."""
    frames = [RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)]
    for box in (
        (slice(3, 9), slice(5, 28)),
        (slice(0, 0), slice(0, 0)),
        (slice(19, 20), slice(29, 30)),
        (slice(None), slice(None)),
    ):
        nxt = frames[-1].copy()
        nxt[box] = RNG.integers(0, 256, nxt[box].shape, dtype=np.uint8)
        frames.append(nxt)
    data = raster_png.apng(iter(frames), 12.5)
    read = Image.open(io.BytesIO(data))
    assert read.n_frames == len(frames) and read.info["loop"] == 0
    for k, frame in enumerate(frames):
        read.seek(k)
        assert (np.asarray(read.convert("RGB")) == frame).all(), k
        assert read.info["duration"] == pytest.approx(80)
    assert raster_png.apng(iter(frames), 12.5) == data


def test_an_animation_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a frame"):
        raster_png.apng(iter([]), 10)
