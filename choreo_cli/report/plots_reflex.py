"""Pictures of latents, controls and preferences."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.errors import UsageError
from choreo_cli.report.content import Content
from choreo_cli.report.plots import CYCLE, GRID, INK, SOFT, nothing
from formats.columns import BLOCKS, CONTROL_NAMES, LATENT_NAMES

_SHOWN = 3000  # rows a picture can show


def _rows(content: Content, session: str | None) -> NDArray[np.int64]:
    """Rows of the asked session, the first one by default, thinned to what a picture can show."""
    if content.group is None:
        return np.empty(0, np.int64)
    names, code = content.group
    if session is not None and session not in names:
        raise UsageError(f"no session {session!r}", hint=f"it has {', '.join(names[:5])}")
    mine = np.flatnonzero(code == (names.index(session) if session is not None else code[0]))
    return mine[:: max(1, -(-len(mine) // _SHOWN))]


def _column(content: Content, name: str, rows: NDArray[np.int64]) -> NDArray[Any]:
    return np.asarray(content.body.column(name).to_numpy(zero_copy_only=False))[rows]


def controls(figure: Any, content: Content, session: str | None) -> None:
    """The five controls over time, held spans shaded."""
    rows = _rows(content, session)
    if not len(rows) or content.t_us is None:
        return nothing(figure, "no rows")
    t = content.t_us[rows] / 1e6
    held = _column(content, "held", rows).astype(bool)
    axes = figure.subplots(len(CONTROL_NAMES), 1, sharex=True)
    for ax, name, color in zip(axes, CONTROL_NAMES, CYCLE, strict=False):
        ax.fill_between(t, 0, 1, where=held, color=GRID, lw=0, step="mid")
        ax.plot(t, _column(content, name, rows), color=color)
        ax.set_ylim(-0.02, 1.02)
        ax.set_title(name)
    axes[-1].set_xlabel(
        "time on the music clock [s], held spans shaded" if held.any() else "time on the music clock [s]"
    )


def latents(figure: Any, content: Content, session: str | None) -> None:
    """The four blocks as images over time, each with what was measured above it."""
    rows = _rows(content, session)
    if not len(rows) or content.t_us is None:
        return nothing(figure, "no rows")
    t = content.t_us[rows] / 1e6
    axes = figure.subplots(len(BLOCKS), 1, sharex=True, gridspec_kw={"height_ratios": [w + 8 for w in BLOCKS.values()]})
    for ax, block in zip(axes, BLOCKS, strict=True):
        names = [n for n in LATENT_NAMES if n.startswith(f"z_{block}_")]
        z = np.stack([_column(content, n, rows) for n in names])
        top = float(np.percentile(np.abs(z), 99)) or 1.0
        ax.imshow(z, aspect="auto", extent=(t[0], t[-1], len(names), 0), cmap="RdBu_r", vmin=-top, vmax=top)
        real = float(_column(content, f"m_{block}", rows).astype(bool).mean())
        ax.set_title(f"{block}: {len(names)} latents, measured in {100 * real:.0f} % of the frames")
        ax.grid(False)
        ax.set_yticks([])
    axes[-1].set_xlabel("time on the music clock [s]")


def preferences(figure: Any, content: Content, session: str | None) -> None:
    """How often each answer was given, and whether the left clip was favoured."""
    if not content.rows:
        return nothing(figure, "no answers yet")
    choice = content.body.column("choice").to_pylist()
    first = content.body.column("shown_first").to_pylist()
    left, right = figure.subplots(1, 2)
    names = ("a", "b", "same", "skip")
    left.bar(names, [choice.count(n) for n in names], color=CYCLE[1], width=0.6)
    left.set_title(f"answers of {len(set(content.body.column('rater').to_pylist()))} raters")
    decided = [c == f for c, f in zip(choice, first, strict=True) if c in ("a", "b")]
    right.bar(("left", "right"), [sum(decided), len(decided) - sum(decided)], color=CYCLE[2], width=0.5)
    right.axhline(len(decided) / 2, color=SOFT, lw=1, ls="--")
    right.set_title("the clip shown on the ... was preferred (dashed: no bias)")
    for ax in (left, right):
        ax.tick_params(axis="x", labelcolor=INK)
