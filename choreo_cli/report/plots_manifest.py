"""Pictures of manifests and of everything else: what was found, how well it is aligned, how a column is distributed."""

from __future__ import annotations

from typing import Any

import numpy as np

from choreo_cli.report.content import Content
from choreo_cli.report.plots import AUDIO, CYCLE, HEART, INK, MOTION, SOFT, nothing

_SHOWN = 40
_CERTAIN = {"yes": "#4c956c", "mod_beat": AUDIO, "no": MOTION}
_PANELS = 12


def inventory(figure: Any, content: Content, session: str | None) -> None:
    """Recordings by kind, usable or not, and their hours."""
    entries = content.body.entries
    if not entries:
        return nothing(figure, "no entries")
    kinds = sorted({e["kind"] for e in entries})
    left, right = figure.subplots(1, 2, sharey=True)
    good = [sum(e["kind"] == k and e["reason"] is None for e in entries) for k in kinds]
    bad = [sum(e["kind"] == k and e["reason"] is not None for e in entries) for k in kinds]
    left.barh(kinds, good, color=HEART, label="usable")
    left.barh(kinds, bad, left=good, color=MOTION, label="not usable")
    left.set_xlabel("recordings")
    left.legend(loc="lower right")
    hours = [sum((e["duration_us"] or 0) for e in entries if e["kind"] == k and e["reason"] is None) for k in kinds]
    right.barh(kinds, [h / 60e6 for h in hours], color=AUDIO)
    right.set_xlabel("minutes")
    for ax in (left, right):
        ax.margins(x=0.08)
    for k, (n, m) in enumerate(zip(good, bad, strict=True)):
        left.text(n + m, k, f" {n + m}", va="center")
    return None


def pairs(figure: Any, content: Content, session: str | None) -> None:
    """Offset with its 95 % interval, and what of each pair is real."""
    entries = content.body.entries[:_SHOWN]
    if not entries:
        return nothing(figure, "no pairs")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(1.3, 1))
    y = np.arange(len(entries))
    for k, e in enumerate(entries):
        centre, (lo, hi) = e["offset_us"] / 1e6, (v / 1e6 for v in e["offset_ci_us"])
        color = _CERTAIN[e["identifiable"]]
        left.plot([lo, hi], [k, k], color=color, linewidth=2)
        left.plot([centre], [k], "o", color=color, markersize=5)
    for name, color in _CERTAIN.items():
        left.plot([], [], "o-", color=color, label=name)
    left.legend(loc="upper right", title="identifiable")
    left.set_yticks(y, [_short(e["pair_id"]) for e in entries])
    left.invert_yaxis()
    left.margins(x=0.08)
    left.set_xlabel("offset, s (line: 95 % interval)")
    names = sorted({m for e in entries for m in (e["real_fraction"] or {})})
    for k, name in enumerate(names):
        share = [(e["real_fraction"] or {}).get(name) or 0.0 for e in entries]
        right.barh(y + (k - len(names) / 2) * 0.8 / max(1, len(names)), share, height=0.8 / max(1, len(names)),
                   color=CYCLE[k % len(CYCLE)], label=name)  # fmt: skip
    right.set_xlabel("native samples per emitted frame")
    if names:
        right.legend(loc="lower right")
    return None


def metrics(figure: Any, content: Content, session: str | None) -> None:
    """Each figure against its goal, and how many times better than its baseline."""
    entries = [e for e in content.body.entries if e["value"] is not None][:_SHOWN]
    if not entries:
        return nothing(figure, "no figures")
    left, right = figure.subplots(1, 2, sharey=True)
    colors = ["#4c956c" if e["pass"] else MOTION if e["pass"] is False else SOFT for e in entries]
    labels = [_short(f"{e['name']}  {e['value']:.4g} {e['unit']}") for e in entries]
    reach = [_reach(e) for e in entries]
    y = range(len(entries))
    left.barh(y, [min(r, 3.0) if r is not None else 0.0 for r in reach], color=colors)
    left.axvline(1.0, color=INK, linewidth=0.9)
    left.set_yticks(y, labels)
    left.invert_yaxis()
    left.set_xlabel("share of the goal reached (1 = goal, cut at 3; grey: cannot be judged)")
    right.barh(y, [e["ratio"] or 0.0 for e in entries], color=HEART)
    right.axvline(1.0, color=INK, linewidth=0.9)
    right.set_xlabel("times better than the baseline")
    return None


def _reach(e: dict[str, Any]) -> float | None:
    goal = e["goal"]
    if goal is None or not goal["value"] or not e["value"]:
        return None
    return float(e["value"] / goal["value"] if goal["op"] == ">=" else goal["value"] / e["value"])


def playlist(figure: Any, content: Content, session: str | None) -> None:
    """Tracks in order; with their times where the list knows them."""
    items = content.body[:_SHOWN]
    if not items:
        return nothing(figure, "no tracks")
    ax = figure.add_subplot()
    at = 0.0
    for k, item in enumerate(items):
        length = (item.duration_us or 0) / 1e6
        start = at if item.start_us is None else item.start_us / 1e6
        ax.barh(k, length or 1.0, left=start, color=HEART if length else SOFT)
        at = start + length
    ax.set_yticks(range(len(items)), [_short(f"{i.index}  {i.title or i.path or ''}") for i in items])
    ax.invert_yaxis()
    ax.set_xlabel("seconds (grey: length unknown)")
    return None


def distributions(figure: Any, content: Content, session: str | None) -> None:
    """A histogram of every column of numbers, at most twelve."""
    shown = [s for s in content.signals if not isinstance(s.values, list) and np.asarray(s.values).size][:_PANELS]
    if not shown:
        return nothing(figure, "nothing to draw: no numbers inside")
    columns = min(4, len(shown))
    axes = np.atleast_1d(figure.subplots(-(-len(shown) // columns), columns)).reshape(-1)
    for ax in axes[len(shown) :]:
        ax.set_axis_off()
    for k, s in enumerate(shown):
        values = np.asarray(s.values, np.float64)
        live = values[np.isfinite(values)]
        axes[k].hist(live, bins=40, color=CYCLE[k % len(CYCLE)])
        axes[k].set_title(f"{_short(s.name)} {s.unit}  n {len(live)}, missing {len(values) - len(live)}")
    return None


def _short(text: str) -> str:
    return text if len(text) <= 44 else f"{text[:43]}~"
