"""Pictures of tables: frames with energy, heart rate and beat overlaid; slow context; windows."""

from __future__ import annotations

from typing import Any

import numpy as np

from choreo_cli.errors import UsageError
from choreo_cli.report.content import Content
from choreo_cli.report.plots import AUDIO, BEAT, GRID, HEART, INK, MOTION, SOFT, nothing

ZOOM_S = 12.0
_MASKS = (("m_mot", "motion", MOTION), ("m_hr", "heart", HEART), ("m_aud", "audio", AUDIO), ("m_ctx", "beat", INK))


def _rows(content: Content, session: str | None) -> tuple[Any, str]:
    """The rows of one session (the first by default)."""
    data = content.body
    if content.group is None:
        return data, ""
    names, codes = content.group
    name = session or names[codes[0]]
    if name not in names:
        near = ", ".join(names[:5])
        raise UsageError(f"no session {name!r} in {content.path.name}", hint=f"it has {near}")
    return data.take(np.flatnonzero(codes == names.index(name))), name


def _column(data: Any, name: str) -> np.ndarray[Any, Any]:
    return np.asarray(data.column(name).to_numpy(zero_copy_only=False))


def frames(figure: Any, content: Content, session: str | None) -> None:
    """Above: 12 s with motion energy, heart rate and beat phase overlaid; below: the whole session and its masks."""
    if not content.rows:
        return nothing(figure, "no rows")
    data, name = _rows(content, session)
    t = _column(data, "t_us") / 1e6
    top, middle, bottom = figure.subplots(3, 1, height_ratios=(3, 2, 0.8))
    start = _liveliest(data, t)
    zoom = (t >= start) & (t <= start + ZOOM_S)
    _overlay(top, data, t, zoom)
    top.set_title(f"{name}: {t[zoom][0]:.1f} to {t[zoom][-1]:.1f} s, beat phase as sawtooth, beats as lines")
    _whole(middle, data, t)
    middle.axvspan(t[zoom][0], t[zoom][-1], color=GRID, zorder=0)
    _mask_strip(bottom, data, t)
    bottom.set_xlabel("seconds on the music clock")
    return None


def _liveliest(data: Any, t: np.ndarray[Any, Any]) -> float:
    """Start of the stretch in which most is measured and, of equals, most is moved."""
    live = sum(_column(data, m).astype(np.int64) for m, _, _ in _MASKS)
    live = live + 0.1 * np.nan_to_num(_column(data, "motion_energy"))
    n = max(1, int(np.searchsorted(t, t[0] + ZOOM_S)))
    if len(t) <= n:
        return float(t[0])
    sums = np.concatenate(([0], np.cumsum(live)))
    return float(t[int(np.argmax(sums[n:] - sums[:-n]))])


def _overlay(ax: Any, data: Any, t: np.ndarray[Any, Any], part: np.ndarray[Any, Any]) -> None:
    phase, energy = _column(data, "beat_phase")[part], _column(data, "motion_energy")[part]
    index = _column(data, "beat_idx")[part]
    x = t[part]
    wraps = np.flatnonzero((np.diff(index) != 0) & (index[1:] >= 0)) + 1
    for i in wraps:
        ax.axvline(x[i], color=GRID, linewidth=1.4, zorder=0)
    saw = phase.astype(np.float64).copy()
    saw[wraps] = np.nan  # no line back from 1 to 0
    ax.plot(x, saw, color=BEAT, linewidth=0.8, label="beat_phase")
    ax.fill_between(x, 0, np.nan_to_num(energy), color=MOTION, alpha=0.15, linewidth=0)
    ax.plot(x, energy, color=MOTION, linewidth=1.5, label="motion_energy")
    ax.set_ylim(0, 1.02)
    ax.set_ylabel("energy, phase")
    _heart(ax, x, _column(data, "hr")[part])


def _heart(ax: Any, x: np.ndarray[Any, Any], hr: np.ndarray[Any, Any]) -> None:
    right = ax.twinx()
    right.plot(x, hr, color=HEART, linewidth=1.5, label="hr")
    right.set_ylabel("beats/min", color=HEART)
    right.grid(False)
    right.spines["right"].set_visible(True)
    live = hr[np.isfinite(hr)]
    if len(live):
        margin = max(3.0, 0.15 * float(live.max() - live.min()))
        right.set_ylim(float(live.min()) - margin, float(live.max()) + margin)
    else:
        right.set_yticks([])
        right.set_ylabel("no heart rate", color=SOFT)
    handles, labels = ax.get_legend_handles_labels()
    more, names = right.get_legend_handles_labels()
    ax.legend(handles + more, labels + names, loc="upper right", ncols=3, bbox_to_anchor=(1, 1), borderaxespad=-2.2)


def _whole(ax: Any, data: Any, t: np.ndarray[Any, Any]) -> None:
    energy = _column(data, "motion_energy")
    ax.plot(t, energy, color=MOTION, linewidth=0.4, alpha=0.35)
    ax.plot(t, smooth(energy, 100), color=MOTION, label="motion_energy, 2 s mean")
    ax.plot(t, smooth(_column(data, "audio_energy"), 100), color=AUDIO, label="audio_energy, 2 s mean")
    ax.set_ylim(0, 1.02)
    ax.set_ylabel("energy")
    ax.set_title("whole session")
    _heart(ax, t, _column(data, "hr"))


def smooth(values: np.ndarray[Any, Any], n: int) -> np.ndarray[Any, Any]:
    """Centred mean over n values, leaving out what is missing; NaN where all of them are."""
    live = np.isfinite(values)
    kernel = np.ones(min(n, len(values)))
    total = np.convolve(np.where(live, values, 0.0), kernel, "same")
    count = np.convolve(live.astype(float), kernel, "same")
    return np.where(live, total / np.maximum(count, 1), np.nan)


def _mask_strip(ax: Any, data: Any, t: np.ndarray[Any, Any]) -> None:
    ax.grid(False)
    for k, (mask, _, color) in enumerate(_MASKS):
        on = _column(data, mask).astype(bool)
        edges = np.flatnonzero(np.diff(np.concatenate(([0], on.view(np.int8), [0]))))
        step = float(np.median(np.diff(t))) if len(t) > 1 else 0.02
        bars = [(float(t[a]), float(t[b - 1] - t[a] + step)) for a, b in edges.reshape(-1, 2)]
        ax.broken_barh(bars, (-k - 0.4, 0.8), color=color, linewidth=0)
    shares = [f"{label} {100 * float(np.mean(_column(data, m))):.0f} %" for m, label, _ in _MASKS]
    ax.set_yticks([-k for k in range(4)], shares)
    ax.set_xlim(float(t[0]), float(t[-1]))
    ax.set_title("measured")


def context(figure: Any, content: Content, session: str | None) -> None:
    """Slow poses: when they were taken, how many joints, and at which phase of the beat."""
    if not content.rows:
        return nothing(figure, "no rows")
    data, name = _rows(content, session)
    t, joints, phase = _column(data, "t_us") / 1e6, _column(data, "n_joints"), _column(data, "beat_phase")
    top, bottom = figure.subplots(2, 1)
    top.vlines(t, 0, joints, color=MOTION, linewidth=0.8)
    top.plot(t, joints, "o", color=MOTION, markersize=3)
    top.set(xlabel="seconds on the music clock", ylabel="joints seen")
    top.set_title(f"{name}: {len(t)} snapshots, median step {np.median(np.diff(t)) if len(t) > 1 else 0:.2f} s")
    live = phase[np.isfinite(phase)]
    bottom.hist(live, bins=20, range=(0, 1), color=BEAT)
    bottom.axhline(len(live) / 20, color=INK, linewidth=0.8, linestyle="--", label="if phases were spread evenly")
    bottom.set(xlabel="beat phase", ylabel="snapshots")
    bottom.set_title("phase of the snapshots: a slow rate meets the same phases again, read no meaning into it")
    bottom.legend(loc="upper right")
    return None


def windows(figure: Any, content: Content, session: str | None) -> None:
    """How much of each window is measured, and what lies in which split."""
    if not content.rows:
        return nothing(figure, "no rows")
    data = content.body
    left, right = figure.subplots(1, 2)
    left.hist(_column(data, "valid_fraction"), bins=20, range=(0, 1), color=MOTION)
    left.set(xlabel="share of rows whose motion is measured", ylabel="windows")
    splits = np.array(data.column("split").to_pylist())
    names = ["train", "val", "test", "none"]
    n = [int((splits == s).sum()) for s in names]
    right.barh(names[::-1], n[::-1], color=HEART)
    right.set_xlabel("windows")
    for k, count in enumerate(n[::-1]):
        right.text(count, k, f" {count}", va="center")
    return None
