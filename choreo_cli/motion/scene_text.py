"""Words on a picture: glyphs of the font that matplotlib brings, as opacity stamps."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

U8 = NDArray[np.uint8]

INK, SOFT = (238, 240, 246), (158, 166, 186)
_DIGITS = "0123456789:./ "


@lru_cache(maxsize=16)
def _font(size_px: int, bold: bool) -> Any:
    from pathlib import Path

    import matplotlib
    from PIL import ImageFont

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    # The basic layout: the other one depends on libraries that a machine may or may not have.
    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name
    return ImageFont.truetype(str(path), size_px, layout_engine=ImageFont.Layout.BASIC)


@lru_cache(maxsize=512)
def stamp(text: str, size_px: int, bold: bool = False) -> U8:
    """(h, w) uint8 opacity of one line of text, as high as the font's line."""
    font = _font(size_px, bold)
    ascent, descent = font.getmetrics()
    width = max(int(np.ceil(font.getlength(text))), 1)
    from PIL import Image, ImageDraw

    image = Image.new("L", (width, ascent + descent), 0)
    ImageDraw.Draw(image).text((0, 0), text, fill=255, font=font)
    found = np.array(image)
    found.setflags(write=False)
    return found


def shortened(text: str, size_px: int, room_px: float) -> str:
    """The text, with its middle left out when it is wider than the room."""
    keep = len(text)
    short = text
    while stamp(short, size_px).shape[1] > room_px and keep > 4:
        keep -= 1
        short = text[: (keep + 1) // 2] + "…" + text[len(text) - keep // 2 :]
    return short


def put(image: U8, cover: U8, x: int, y: int, colour: tuple[int, int, int] = INK, right: bool = False) -> None:
    """Blend a stamp into (H, W, 3) with its upper left (or upper right) corner at x, y; what hangs out is cut."""
    height, width = cover.shape
    x -= width if right else 0
    y0, y1, x0, x1 = max(y, 0), min(y + height, image.shape[0]), max(x, 0), min(x + width, image.shape[1])
    if y0 >= y1 or x0 >= x1:
        return
    alpha = cover[y0 - y : y1 - y, x0 - x : x1 - x, None].astype(np.uint16)
    under = image[y0:y1, x0:x1].astype(np.uint16)
    image[y0:y1, x0:x1] = (under * (255 - alpha) + np.array(colour, np.uint16) * alpha + 127) // 255


def clock(image: U8, seconds: float, size_px: int, x: int, y: int) -> None:
    """Write `m:ss.s` so that it ends at x; digits are as wide as each other, so nothing trembles."""
    tenths = int(seconds * 10 + 1e-6)
    text = f"{tenths // 600}:{tenths // 10 % 60:02d}.{tenths % 10}"
    wide = stamp("0", size_px).shape[1]
    for character in reversed(text):
        cover = stamp(character, size_px)
        step = wide if character.isdigit() else cover.shape[1]
        put(image, cover, x - step + (step - cover.shape[1]) // 2, y, SOFT)
        x -= step
