"""One picture for every kind of file; equal input gives equal bytes."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from typing import Any

from choreo_cli import __version__
from choreo_cli.report.content import Content

INK, SOFT, GRID = "#22262b", "#8a9099", "#e6e8eb"
MOTION, HEART, BEAT, AUDIO = "#c8453b", "#2f6db5", "#9aa0a8", "#d99a21"
CYCLE = (MOTION, HEART, AUDIO, "#4c956c", "#8d5a97", "#5b8e9e", "#b56a3a", "#6d7278")
STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.xmargin": 0.0,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "lines.linewidth": 1.2,
    "image.cmap": "magma",
}
Draw = Callable[[Any, Content, "str | None"], None]


def picture(content: Content, session: str | None = None) -> bytes:
    """Draw a file as PNG bytes; its source's sha256 and schema ride in a tEXt chunk.

    Args:
        content: An opened file.
        session: Which group of a table with several.

    Raises:
        UsageError: no such session, or nothing to draw.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        for key, value in STYLE.items():
            matplotlib.rcParams[key] = value  # type: ignore[index]
        figure = Figure(figsize=(12, 7.5), dpi=100, layout="constrained", facecolor="white")
        FigureCanvasAgg(figure)
        _drawer(content.kind)(figure, content, session)
        figure.suptitle(_title(content, session), x=0.01, ha="left", fontsize=11, color=INK)
        out = io.BytesIO()
        texts = {"Software": f"choreo {__version__}", "choreo": json.dumps(_origin(content), sort_keys=True)}
        figure.savefig(out, format="png", metadata=texts)
    return out.getvalue()


def _drawer(kind: str) -> Draw:
    from choreo_cli.report import plots_manifest, plots_reflex, plots_sound, plots_tables, plots_time

    found: dict[str, Draw] = {
        "frames": plots_tables.frames,
        "context": plots_tables.context,
        "windows": plots_tables.windows,
        "latents": plots_reflex.latents,
        "controls": plots_reflex.controls,
        "preferences": plots_reflex.preferences,
        "pose": plots_time.poses,
        "series": plots_time.series,
        "beats": plots_time.beats,
        "video": plots_time.frame_times,
        "audio": plots_sound.audio,
        "features": plots_sound.features,
        "inventory": plots_manifest.inventory,
        "pairs": plots_manifest.pairs,
        "metrics": plots_manifest.metrics,
        "playlist": plots_manifest.playlist,
    }
    return found.get(kind, plots_manifest.distributions)


def _title(content: Content, session: str | None) -> str:
    which = f", {session}" if session else ""
    return f"{content.path.name}{which}   {content.schema}   {content.rows} rows"


def _origin(content: Content) -> dict[str, Any]:
    found = {"file": content.path.name, "schema": content.schema}
    if content.path.is_file():
        with open(content.path, "rb") as f:
            found["sha256"] = hashlib.file_digest(f, "sha256").hexdigest()
    return found


def nothing(figure: Any, sentence: str) -> None:
    """A picture that says why there is none."""
    ax = figure.add_subplot()
    ax.set_axis_off()
    ax.text(0.5, 0.5, sentence, ha="center", va="center", color=SOFT, fontsize=14, transform=ax.transAxes)
