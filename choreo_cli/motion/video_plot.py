"""The 25 channels of a clip over time, with foot contacts and beats, as one picture."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from formats.motion_npz import CHANNELS

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

INK, SOFT, GRID, BEAT = "#22262b", "#8a9099", "#e6e8eb", "#c9a227"
LEFT, RIGHT, THIRD, OTHER = "#d9651f", "#2472c8", "#4c956c", "#8d5a97"
_AXES = (RIGHT, THIRD, LEFT)
# title, channels, their colours
_PANELS: tuple[tuple[str, tuple[int, ...], tuple[str, ...]], ...] = (
    ("root velocity", (0, 1), (RIGHT, LEFT)),
    ("pelvis height", (2,), (INK,)),
    ("yaw rate", (3,), (INK,)),
    ("pelvis tilt", (6, 7), (RIGHT, LEFT)),
    ("chest turn", (8, 9, 10), _AXES),
    ("left wrist", (11, 12, 13), _AXES),
    ("right wrist", (15, 16, 17), _AXES),
    ("elbow swivel", (14, 18), (LEFT, RIGHT)),
    ("left ankle", (19, 20, 21), _AXES),
    ("right ankle", (22, 23, 24), _AXES),
)
_STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans", "font.size": 8.5, "axes.edgecolor": SOFT, "axes.labelcolor": INK,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "axes.axisbelow": True,
    "axes.xmargin": 0.0, "grid.color": GRID, "grid.linewidth": 0.8, "xtick.color": SOFT, "ytick.color": SOFT,
    "xtick.labelcolor": INK, "ytick.labelcolor": INK, "legend.frameon": False, "lines.linewidth": 1.1,
}  # fmt: skip


def traces(clips: Sequence[tuple[str, F32]], fps: float, beats_s: F64, title: str, texts: Mapping[str, str]) -> bytes:
    """PNG of channel traces, clips above each other in the same axes (the second dashed).

    Args:
        clips: (name, channels (T, 25)) of one clip, or of a reference and what was generated.
        fps: Frame rate.
        beats_s: Beats from the first frame.
        title: Above everything.
        texts: Kept in the file.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        for key, value in _STYLE.items():
            matplotlib.rcParams[key] = value  # type: ignore[index]
        figure = Figure(figsize=(12, 14), dpi=100, layout="constrained", facecolor="white")
        FigureCanvasAgg(figure)
        heights = [1.0] * len(_PANELS) + [0.32 * len(clips)]
        rows: Any = figure.subplots(len(_PANELS) + 1, 1, sharex=True, height_ratios=heights)
        for axes, (name, channels, colours) in zip(rows, _PANELS, strict=False):
            _panel(axes, name, channels, colours, clips, fps)
        _contacts(rows[-1], clips, fps)
        for axes in rows:
            _beats(axes, beats_s, max(len(c) for _, c in clips) / fps)
        rows[-1].set_xlabel("time (s)")
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, color=INK)
        figure.align_ylabels(rows)
        out = io.BytesIO()
        figure.savefig(out, format="png", metadata={"Software": None, **texts})
    return out.getvalue()


def _panel(
    axes: Any, name: str, channels: Sequence[int], colours: Sequence[str], clips: Sequence[tuple[str, F32]], fps: float
) -> None:
    unit = CHANNELS[channels[0]].unit
    for k, (clip, values) in enumerate(clips):
        t = np.arange(len(values)) / fps
        for c, colour in zip(channels, colours, strict=True):
            label = CHANNELS[c].name if k == 0 else None
            axes.plot(t, _unjumped(values[:, c], unit), color=colour, linestyle="-" if k == 0 else (0, (4, 2)),
                      alpha=0.95 if k == 0 else 0.7, label=label)  # fmt: skip
        del clip
    axes.set_ylabel(f"{name}\n({unit or '1'})", fontsize=8)
    axes.legend(loc="upper left", ncols=3, fontsize=7.5, borderaxespad=0.1, handlelength=1.4, columnspacing=1.0)
    axes.margins(y=0.22)


def _unjumped(values: F32, unit: str) -> F64:
    """The trace with a gap where an angle wraps, so that no line crosses the panel."""
    out = values.astype(np.float64)
    if unit == "rad":
        out[1:][np.abs(np.diff(out)) > np.pi] = np.nan
    return out


def _contacts(axes: Any, clips: Sequence[tuple[str, F32]], fps: float) -> None:
    """A bar for each stretch a foot stands: left over right, clip by clip."""
    from choreo_cli.motion.scene_stage import runs

    places, names = [], []
    for k, (_, values) in enumerate(clips):
        for side, colour in ((4, LEFT), (5, RIGHT)):
            y = -(2 * k + side - 4)
            bars = [(a / fps, (b - a + 1) / fps) for a, b in runs(values[:, side] > 0.5)]
            axes.broken_barh(bars, (y - 0.38, 0.76), color=colour, alpha=1.0 if k == 0 else 0.6)
            places.append(y)
            names.append(CHANNELS[side].name + ("" if k == 0 else "′"))
    axes.set_yticks(places, names)
    axes.set_ylim(min(places) - 0.6, max(places) + 0.6)
    axes.set_ylabel("contacts", fontsize=8)
    axes.grid(False)


def _beats(axes: Any, beats_s: F64, duration_s: float) -> None:
    shown = beats_s[(beats_s >= 0) & (beats_s <= duration_s)]
    across = axes.get_xaxis_transform()
    axes.vlines(shown, 0, 1, color=BEAT, linewidth=0.7, alpha=0.55, zorder=0, transform=across)
    axes.set_xlim(0, duration_s)
