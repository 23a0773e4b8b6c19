"""Pictures of recordings: poses, scalar series, beats, video frame times."""

from __future__ import annotations

from typing import Any

import numpy as np

from choreo_cli.report.content import Content
from choreo_cli.report.content_foreign import mean_speed
from choreo_cli.report.plots import CYCLE, HEART, INK, MOTION, SOFT, nothing

_BONES = (
    ("pelvis", "l_hip"), ("pelvis", "r_hip"), ("l_hip", "l_knee"), ("r_hip", "r_knee"), ("l_knee", "l_ankle"),
    ("r_knee", "r_ankle"), ("l_ankle", "l_foot"), ("r_ankle", "r_foot"), ("pelvis", "spine1"), ("spine1", "spine2"),
    ("spine2", "spine3"), ("spine3", "neck"), ("neck", "head"), ("l_shoulder", "l_elbow"), ("r_shoulder", "r_elbow"),
    ("l_elbow", "l_wrist"), ("r_elbow", "r_wrist"), ("l_shoulder", "r_shoulder"), ("l_shoulder", "l_hip"),
    ("r_shoulder", "r_hip"), ("l_hip", "r_hip"), ("nose", "neck"), ("spine3", "l_shoulder"), ("spine3", "r_shoulder"),
)  # fmt: skip
_TRAILS = ("pelvis", "l_wrist", "r_wrist", "l_ankle", "r_ankle", "head", "nose")
_FIGURES = 8


def poses(figure: Any, content: Content, session: str | None) -> None:
    """The body at eight moments, paths of hands, feet and head, speed over time, and which joints are seen when."""
    s = content.body
    if not len(s.t_us):
        return nothing(figure, "no poses")
    grid = figure.add_gridspec(3, 2, height_ratios=(1.6, 1, 0.8), width_ratios=(1.6, 1))
    across, up = _plane(s)
    _bodies(figure.add_subplot(grid[0, 0]), s, across, up)
    _trails(figure.add_subplot(grid[0, 1]), s, across, up)
    speed = figure.add_subplot(grid[1, :])
    t = s.t_us / 1e6
    unit = "units" if s.units in ("unknown", "norm") else s.units
    values = mean_speed(s)
    speed.plot(t, values, color=MOTION, linewidth=0.9, marker="o" if len(t) < 200 else None, markersize=2.5)
    live = values[np.isfinite(values)]
    if len(live):
        speed.set_ylim(0, float(np.quantile(live, 0.998)) * 1.15 or 1.0)
    speed.set_xlim(float(t[0]), float(max(t[-1], t[0] + 1e-3)))
    speed.set(ylabel=f"{unit}/s", xlabel="seconds of the recording")
    speed.set_title("mean speed of the joints")
    _presence(figure.add_subplot(grid[2, :]), s, t)
    return None


def _plane(s: Any) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """(T, J) across and (T, J) upward coordinates: the side on which the body moves most, and its own up."""
    xyz = s.xyz.astype(np.float64)
    up_axis = 2 if s.up == "+z" and xyz.shape[2] == 3 else 1
    up = -xyz[:, :, up_axis] if s.up == "-y" else xyz[:, :, up_axis]
    flat = [k for k in range(xyz.shape[2]) if k != up_axis]
    spread = [np.nanstd(xyz[:, :, k]) if np.isfinite(xyz[:, :, k]).any() else 0.0 for k in flat]
    return xyz[:, :, flat[int(np.argmax(spread))]], up


def _bodies(ax: Any, s: Any, across: np.ndarray[Any, Any], up: np.ndarray[Any, Any]) -> None:
    ax.set_title("moments, left to right")
    ax.set_aspect("equal", adjustable="datalim")
    ax.grid(False)
    ax.set_xticks([])
    seen = np.flatnonzero((np.isfinite(across) & np.isfinite(up)).sum(axis=1) >= 0.5 * across.shape[1])
    if not len(seen):
        return
    chosen = seen[np.linspace(0, len(seen) - 1, min(_FIGURES, len(seen))).round().astype(int)]
    wide = float(np.nanmax([np.nanmax(across[i]) - np.nanmin(across[i]) for i in chosen])) or 1.0
    bones = [(s.joints.index(a), s.joints.index(b)) for a, b in _BONES if a in s.joints and b in s.joints]
    ticks = []
    for k, i in enumerate(chosen):
        x = across[i] - np.nanmedian(across[i]) + 1.15 * wide * k
        for a, b in bones:
            ax.plot([x[a], x[b]], [up[i, a], up[i, b]], color=INK, linewidth=1.3, solid_capstyle="round")
        ax.plot(x, up[i], "o", color=MOTION, markersize=2.2 if len(s.joints) < 60 else 1.2)
        ticks.append((1.15 * wide * k, f"{s.t_us[i] / 1e6:.1f} s"))
    ax.set_xticks([x for x, _ in ticks], [label for _, label in ticks])


def _trails(ax: Any, s: Any, across: np.ndarray[Any, Any], up: np.ndarray[Any, Any]) -> None:
    ax.set_title("paths")
    ax.set_aspect("equal", adjustable="datalim")
    names = [j for j in _TRAILS if j in s.joints] or list(s.joints[:4])
    for color, name in zip(CYCLE, names, strict=False):
        k = s.joints.index(name)
        ax.plot(across[:, k], up[:, k], color=color, linewidth=0.7, alpha=0.8, label=name)
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))


def _presence(ax: Any, s: Any, t: np.ndarray[Any, Any]) -> None:
    """Which joints are seen when, at most 400 columns wide, so that short losses still show."""
    seen = np.isfinite(s.xyz).all(axis=2)
    edges = np.linspace(t[0], max(t[-1], t[0] + 1e-3), min(400, max(2, len(t))) + 1)
    column = np.clip(np.searchsorted(edges, t, "right") - 1, 0, len(edges) - 2)
    from matplotlib.colors import LinearSegmentedColormap

    colors = LinearSegmentedColormap.from_list("seen", [MOTION, "#dce6e8"])  # NaN stays transparent: white
    share = np.full((len(s.joints), len(edges) - 1), np.nan)
    for c in np.unique(column):
        share[:, c] = seen[column == c].mean(axis=0)
    ax.imshow(
        share, aspect="auto", vmin=0, vmax=1, cmap=colors, interpolation="nearest",
        extent=(edges[0], edges[-1], len(s.joints) - 0.5, -0.5),
    )  # fmt: skip
    ax.grid(False)
    step = max(1, -(-len(s.joints) // 12))
    ax.set_yticks(range(0, len(s.joints), step), [s.joints[k][:18] for k in range(0, len(s.joints), step)], fontsize=7)
    ax.set_title(f"joints seen, {100 * float(seen.mean()):.1f} % of all; red = missing, white = no pose")


def series(figure: Any, content: Content, session: str | None) -> None:
    """Each signal over time, gaps left open."""
    s = content.body
    if not len(s.t_us):
        return nothing(figure, "no samples")
    shown = min(8, len(s.names))
    axes = np.atleast_1d(figure.subplots(shown, 1, sharex=True))
    t = s.t_us / 1e6
    usual = float(np.median(np.diff(t))) if len(t) > 1 else 1.0
    breaks = np.flatnonzero(np.diff(t) > 5 * usual) + 1
    for k, ax in enumerate(axes):
        color = HEART if s.names[k] == "hr" else CYCLE[k % len(CYCLE)]
        x, y = np.insert(t, breaks, np.nan), np.insert(s.values[:, k].astype(np.float64), breaks, np.nan)
        ax.plot(x, y, color=color, linewidth=0.9)
        ax.set_ylabel(f"{s.names[k]}\n{s.units[k]}".strip())
    axes[0].set_title(f"{len(t)} samples, {len(breaks)} gaps")
    axes[-1].set_xlabel("seconds of the recording")
    return None


def beats(figure: Any, content: Content, session: str | None) -> None:
    """Tempo from beat to beat, and how far each beat lies from the line through all of them."""
    t = content.body.t_s
    if len(t) < 3:
        return nothing(figure, f"{len(t)} beats: too few to draw")
    slope, start = np.polyfit(np.arange(len(t)), t, 1)
    top, bottom = figure.subplots(2, 1, sharex=True)
    top.plot(t[1:], 60 / np.diff(t), "o-", color=MOTION, markersize=3, linewidth=0.8)
    top.axhline(60 / slope, color=INK, linewidth=0.8, linestyle="--")
    around = max(0.01 * 60 / slope, 1.1 * float(np.abs(60 / np.diff(t) - 60 / slope).max()))
    top.set(ylabel="beats/min", ylim=(60 / slope - around, 60 / slope + around))
    top.set_title(f"tempo from beat to beat; line fit {60 / slope:.3f} beats/min over {len(t)} beats")
    away = 1e3 * (t - start - slope * np.arange(len(t)))
    bottom.vlines(t, 0, away, color=SOFT, linewidth=0.8)
    bottom.plot(t, away, "o", color=HEART, markersize=2.5)
    high = max(1.0, 1.1 * float(np.abs(away).max()))
    bottom.set(ylim=(-high, high), ylabel="ms", xlabel="seconds of the music")
    bottom.set_title("beat against the line")
    return None


def frame_times(figure: Any, content: Content, session: str | None) -> None:
    """Steps between video frames."""
    t = content.body
    if len(t) < 2:
        return nothing(figure, "no frames")
    ax = figure.add_subplot()
    ax.plot(t[1:] / 1e6, np.diff(t) / 1e3, ".", color=MOTION, markersize=3)
    ax.set(xlabel="seconds of the video", ylabel="ms to the frame before", ylim=(0, None))
    ax.set_title("steps between frames: a missing frame is twice as high")
    return None
