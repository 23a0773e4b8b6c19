"""Two clips side by side for a rater: motion energy over the beats, and the controls when there are any."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.reflex.clips import Clip, rows_of
from choreo_cli.reflex.inputs import COLUMNS, PHASE
from formats.columns import CONTROL_NAMES, CONTROLS

if TYPE_CHECKING:
    from choreo_cli.dataset.frameset import FrameSet

F32 = NDArray[np.float32]
SHADES = " .:-=+*#%@"


@dataclass(frozen=True, slots=True)
class Curves:
    """What is drawn of one clip.

    Args:
        t_s: (n,) seconds since its start.
        energy: (n,) motion energy.
        beats_s: Beats inside it.
        controls: (m, 6) seconds and the five controls; empty without a run.
    """

    t_s: NDArray[np.float64]
    energy: F32
    beats_s: NDArray[np.float64]
    controls: F32


def curves(frames: FrameSet, clip: Clip, controls: Path | None = None) -> Curves:
    """Read what is drawn of a clip.

    Args:
        frames: Where it lies.
        clip: Which.
        controls: A run folder of `choreo train mapper`, or a folder with `<session>_controls.parquet`.
    """
    rows = rows_of(frames, clip)
    t = (np.asarray(frames.t_us[rows]) - clip.start_us) / 1e6
    x = np.asarray(frames.x[rows])
    with np.errstate(invalid="ignore"):
        wraps = 1 + np.flatnonzero(np.diff(x[:, PHASE]) < -0.5)
    return Curves(t, x[:, COLUMNS.index("motion_energy")], t[wraps], _controls(clip, controls))


def _controls(clip: Clip, folder: Path | None) -> F32:
    none = np.empty((0, 1 + len(CONTROL_NAMES)), np.float32)
    name = f"{clip.session}_controls.parquet"
    file = next((f for f in (folder / name, folder / "controls" / name) if f.is_file()), None) if folder else None
    if file is None:
        return none
    from formats.tables import read_table

    table = read_table(file, CONTROLS)
    t = np.asarray(table.column("t_us").to_numpy(), np.int64)
    rows = slice(*np.searchsorted(t, (clip.start_us, clip.end_us)).tolist())
    values = [table.column(c).to_numpy()[rows] for c in CONTROL_NAMES]
    return np.stack([(t[rows] - clip.start_us) / 1e6, *values], axis=1).astype(np.float32)


def sparkline(values: F32, width: int = 60) -> str:
    """A curve of 0..1 as one line of ASCII; `?` where nothing was measured."""
    parts = np.array_split(np.asarray(values, np.float64), min(width, len(values)))
    means = [float(p[np.isfinite(p)].mean()) if np.isfinite(p).any() else None for p in parts]
    top = len(SHADES) - 1
    return "".join("?" if m is None else SHADES[min(top, max(0, round(m * top)))] for m in means)


def pair_png(left: Curves, right: Curves, title: str) -> bytes:
    """Both clips as a PNG, left called A and right B; sessions are not named, so that nobody can know them."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = 2 if len(left.controls) or len(right.controls) else 1
    figure = Figure(figsize=(10, 2.4 * rows + 0.6), layout="constrained")
    canvas: Any = FigureCanvasAgg(figure)
    axes: Any = figure.subplots(rows, 2, sharex="col", sharey="row", squeeze=False)
    for k, (name, one) in enumerate(zip("AB", (left, right), strict=True)):
        _draw(axes[0, k], one, [one.energy], ["motion energy"], one.t_s)
        axes[0, k].set_title(name, fontsize=18)
        if rows == 2:
            own = one.controls
            _draw(axes[1, k], one, [own[:, 1 + c] for c in range(len(CONTROL_NAMES))], CONTROL_NAMES, own[:, 0])
        axes[-1, k].set_xlabel("s")
    figure.suptitle(title, fontsize=9)
    out = io.BytesIO()
    canvas.print_png(out, metadata={"Software": None})
    return out.getvalue()


def _draw(axis: Any, one: Curves, values: Sequence[F32], names: Sequence[str], t_s: Any) -> None:
    for beat in one.beats_s.tolist():
        axis.axvline(beat, color="0.85", lw=1, zorder=0)
    for value, name in zip(values, names, strict=True):
        axis.plot(t_s, value, lw=1.2, label=name)
    axis.set_ylim(-0.02, 1.02)
    axis.legend(loc="upper right", fontsize=7, ncols=3, frameon=False)
