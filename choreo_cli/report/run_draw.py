"""Figures as text that both themes share, and as files for print: equal data gives equal bytes."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

MM = 1 / 25.4
SINGLE_MM, DOUBLE_MM = 85.0, 178.0  # one and two columns of a page
SCREEN_MM = 104.0
DPI = 300


@dataclass(frozen=True, slots=True)
class Palette:
    """Colours of a figure by what they mean."""

    ink: str
    soft: str
    grid: str
    band: str
    a: str
    b: str
    c: str
    d: str
    e: str

    @property
    def series(self) -> tuple[str, ...]:
        return (self.a, self.b, self.c, self.d, self.e)


PRINT = Palette("#1d2430", "#667085", "#e4e7ec", "#d5dae2", "#c2453a", "#2868b0", "#b57a0b", "#2f8458", "#7c4dab")
# Stand-ins that no drawing uses by chance; each becomes a CSS variable, so that one picture serves both themes.
_MARKS = {
    "ink": "#010203", "soft": "#010204", "grid": "#010205", "band": "#010206",
    "a": "#010207", "b": "#010208", "c": "#010209", "d": "#01020a", "e": "#01020b",
}  # fmt: skip
SCREEN = Palette(**_MARKS)
Draw = Callable[[Any, Palette], None]


def svg(draw: Draw, name: str, height_mm: float, title: str, text: str, width_mm: float = SCREEN_MM) -> str:
    """A figure to stand inline in a page: colours are `var(--c-NAME)`, letters are text in the page's font.

    Args:
        draw: Called with an empty matplotlib Figure and a palette.
        name: Unique on the page; seeds the ids.
        height_mm: Height for a width of `width_mm`.
        title: What it shows, for its accessible name.
        text: The description that stands for it.
        width_mm: Of the room it stands in; letters keep their size.
    """
    with _style(SCREEN, f"choreo-{name}", 8.0):
        figure = _figure(width_mm, height_mm)
        draw(figure, SCREEN)
        out = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(out, format="svg", transparent=True, metadata=nothing)
    return _inline(out.getvalue(), name, title, text)


def files(
    draw: Draw, name: str, height_mm: float, double: bool, suffixes: Sequence[str] = ("pdf", "png")
) -> dict[str, bytes]:
    """`NAME.pdf` with embedded fonts and `NAME.png` at 300 dpi, at the width of one column of print or of two."""
    found = {}
    width = DOUBLE_MM if double else SINGLE_MM
    height = height_mm * (width / SCREEN_MM if not double else 1.0)
    for suffix in suffixes:
        with _style(PRINT, f"choreo-{name}", 7.0):
            figure = _figure(width, max(height, 45.0))
            draw(figure, PRINT)
            out = io.BytesIO()
            dates: dict[str, Any] = {"CreationDate": None, "Creator": "choreo", "Producer": None}
            figure.savefig(
                out,
                format=suffix,
                dpi=DPI,
                facecolor="white",
                metadata=dates if suffix == "pdf" else {"Software": None},
            )
        found[f"{name}.{suffix}"] = out.getvalue()
    return found


@contextmanager
def _style(p: Palette, salt: str, size: float) -> Iterator[None]:
    import matplotlib

    settings: dict[str, Any] = {
        "font.family": "DejaVu Sans", "font.size": size, "axes.titlesize": size, "axes.labelsize": size,
        "xtick.labelsize": size - 1, "ytick.labelsize": size - 1, "legend.fontsize": size - 1,
        "text.color": p.ink, "axes.labelcolor": p.soft, "axes.edgecolor": p.soft, "axes.linewidth": 0.6,
        "xtick.color": p.soft, "ytick.color": p.soft, "xtick.labelcolor": p.soft, "ytick.labelcolor": p.soft,
        "xtick.major.size": 2.5, "ytick.major.size": 0.0, "xtick.major.width": 0.6, "axes.titlecolor": p.ink,
        "axes.titlelocation": "left", "axes.titlepad": 4.0, "axes.spines.top": False, "axes.spines.right": False,
        "axes.spines.left": False, "axes.grid": True, "axes.grid.axis": "y", "axes.axisbelow": True,
        "grid.color": p.grid, "grid.linewidth": 0.6, "axes.xmargin": 0.0, "legend.frameon": False,
        "legend.handlelength": 1.4, "legend.borderaxespad": 0.0, "lines.linewidth": 1.2,
        "lines.solid_capstyle": "round", "patch.linewidth": 0.0, "path.simplify": True,
        "path.simplify_threshold": 0.3, "svg.fonttype": "none",
        "svg.hashsalt": salt, "pdf.fonttype": 42, "axes.facecolor": "none", "hatch.linewidth": 0.4,
        "legend.labelcolor": p.ink,
    }  # fmt: skip
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        for key, value in settings.items():
            matplotlib.rcParams[key] = value  # type: ignore[index]
        yield


def _figure(width_mm: float, height_mm: float) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_mm * MM, height_mm * MM), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


_HEAD = re.compile(r"^.*?(<svg [^>]*>)", re.S)
_META = re.compile(r"\s*<metadata>.*?</metadata>", re.S)
_FONT = re.compile(r"font-family: [^;\"]*;? ?")
_FONT_SHORT = re.compile(r"font: ((?:\w+ )*)([\d.]+)px [^;\"]*")
_LONG = re.compile(r"(-?\d+\.\d\d)\d+")
_TAG = re.compile(r"<[^>]+>")
_SPACE = re.compile(r"\n\s*")
_BOX = re.compile(r'viewBox="([^"]*)"')


def _inline(text: str, name: str, title: str, description: str) -> str:
    """The drawing without its XML head, sizes and fonts, named for readers who do not see it."""
    from html import escape

    head = _HEAD.match(text)
    box = _BOX.search(text)
    assert head is not None and box is not None
    body = _META.sub("", text[head.end() :])
    body = _FONT_SHORT.sub(r"font: \1\2px var(--font)", _FONT.sub("", body))
    body = _TAG.sub(lambda tag: _LONG.sub(r"\1", tag.group()), body)  # coordinates, never the words between
    for mark, colour in _MARKS.items():
        body = body.replace(colour, f"var(--c-{mark})")
    body = _SPACE.sub("\n", body)
    opening = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{box.group(1)}" role="img" aria-labelledby="{name}-t {name}-d">'
        f'<title id="{name}-t">{escape(title)}</title><desc id="{name}-d">{escape(description)}</desc>'
    )
    return opening + _prefixed(body, name).strip()


def _prefixed(body: str, name: str) -> str:
    """Ids of a drawing made its own: several stand in one page."""
    body = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', body)
    body = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", body)
    return re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', body)
