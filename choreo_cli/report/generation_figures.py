"""Drawings of generated dances: quality against network evaluations, and strips of poses."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.motion.camera import VIEWS, Window, facing, place
from choreo_cli.report.generation import COMMAND
from choreo_cli.report.run_artefact import Artefact, inside
from choreo_cli.report.run_draw import Palette
from choreo_cli.report.run_figures import Figure, plain
from choreo_cli.report.run_metrics import number
from formats.errors import FormatError

F64 = NDArray[np.float64]

POSES = 10
MOST_STRIPS = 8
WIDE, HIGH = 1.0, 1.9  # a pose's room in metres: dancers are drawn to one scale
# Joints of each stroke, its side (0 middle, 1 left, 2 right) and its width in points.
STROKES: tuple[tuple[tuple[int, ...], int, float], ...] = (
    ((2, 5, 8, 11), 2, 2.0), ((17, 19, 21), 2, 1.6), ((1, 4, 7, 10), 1, 2.0), ((16, 18, 20), 1, 1.6),
    ((0, 6, 9, 12), 0, 2.2), ((13, 16), 0, 1.4), ((14, 17), 0, 1.4), ((1, 0, 2), 0, 2.2), ((16, 12, 17), 0, 1.6),
)  # fmt: skip
HEAD = 15


def figures(evaluations: Iterable[Artefact], motions: Iterable[Artefact]) -> list[Figure]:
    """Every figure that evaluations of generators and named motions give rise to."""
    found = []
    for k, a in enumerate(e for e in evaluations if e.made_by.get("command") == COMMAND):
        found.append(_steps(a, f"generation-steps{f'-{k + 1}' if k else ''}"))
    for k, a in enumerate(motions):
        found.append(_strips(a, f"dances{f'-{k + 1}' if k else ''}"))
    return found


def _steps(a: Artefact, name: str) -> Figure:
    """Sanity and musicality of every arm over its network evaluations."""
    title = "Steps of sampling against what they give"
    points = _points(a)
    if not points:
        return Figure(name, title, "MISSING: no arm of generated clips in the evaluation.")
    told = "; ".join(
        f"{p['arm']} ({number(p['nfe'])} evaluations): {number(p['sanity'])} sane, musicality {number(p['musicality'])}"
        for p in points
    )
    text = (
        "Share of sane clips and musicality with 95 % intervals over the network evaluations of a clip; the dashed line"
        f" is the musicality of held-out dances. {told}."
    )
    level = _value(a, "generation.musicality.held_out")
    return Figure(name, title, text, lambda f, p: _draw_steps(f, p, points, level), 66, facts={"arms": points})


def _points(a: Artefact) -> list[dict[str, Any]]:
    entries = {str(e["name"]): e for e in a.manifest.entries}
    found = []
    for name, e in entries.items():
        arm = name.removeprefix("generation.sanity.")
        nfe = e["params"].get("nfe") if isinstance(e["params"], dict) else None
        if arm == name or arm == "held_out" or not isinstance(nfe, int) or nfe < 1:
            continue
        music = entries.get(f"generation.musicality.{arm}")
        score, span = (None, None) if music is None else (music["value"], music["ci"])
        found.append({"arm": arm, "nfe": nfe, "sanity": e["value"], "sanity_ci": e["ci"], "musicality": score,
                      "musicality_ci": span})  # fmt: skip
    return sorted(found, key=lambda p: (p["nfe"], p["arm"]))


def _value(a: Artefact, name: str) -> float | None:
    return next((e["value"] for e in a.manifest.entries if e["name"] == name), None)


def _draw_steps(figure: Any, p: Palette, points: Sequence[Mapping[str, Any]], level: float | None) -> None:
    ax = figure.add_subplot()
    for what, colour, marker in (("sanity", p.b, "o"), ("musicality", p.c, "s")):
        known = [q for q in points if q[what] is not None]
        for q in known:
            if q[f"{what}_ci"]:
                ax.plot([q["nfe"]] * 2, q[f"{what}_ci"], color=colour, linewidth=1.0)
        line = [
            q for q in known if q["arm"].startswith(("flow", "distilled")) and not q["arm"].startswith("distilled1")
        ]
        ax.plot([q["nfe"] for q in line], [q[what] for q in line], color=colour, linewidth=0.9, alpha=0.6)
        ax.plot([q["nfe"] for q in known], [q[what] for q in known], marker, color=colour, markersize=4, label=what)
    for nfe in sorted({q["nfe"] for q in points}):
        names = [plain(q["arm"]) for q in points if q["nfe"] == nfe]
        ax.annotate("\n".join(names), (nfe, 1.05), (0, 2), textcoords="offset points", fontsize=6, color=p.soft,
                    ha="center", va="bottom")  # fmt: skip
    if level is not None:
        ax.axhline(level, color=p.ink, linewidth=0.8, linestyle=(0, (4, 2)))
    ax.set_xscale("log")
    ax.minorticks_off()
    ticks = sorted({q["nfe"] for q in points})
    ax.set_xticks(ticks, [str(t) for t in ticks])
    ax.set_xlim(ticks[0] / 1.5, ticks[-1] * 1.5)
    ax.set_ylim(0, 1.05)
    ax.set_xlabel("network evaluations of a clip")
    figure.legend(loc="outside upper left", ncols=2)


def _strips(a: Artefact, name: str) -> Figure:
    """Dances as rows of poses, one clip each, in the order of the manifest: first clips of every performer."""
    title = "Dances, pose by pose"
    clips = _clips(a)
    if not clips:
        return Figure(name, title, f"MISSING: no clip of {a.name} can be read.")
    labels = [label for label, _, _ in clips]
    text = (
        f"{POSES} moments of each dance, evenly spaced, seen from the front left at one scale; the body's left is blue,"
        f" its right red. Rows: {', '.join(labels)}."
    )
    height = 15.5 * len(clips) + 6
    facts = {"clips": labels, "frames": [len(j) for _, j, _ in clips]}
    return Figure(name, title, text, lambda f, p: _draw_strips(f, p, clips), height, double=True, facts=facts)


def _clips(a: Artefact) -> list[tuple[str, F64, float]]:
    """(label, joints (T, 22, 3), fps) of one clip of each performer, then more, at most `MOST_STRIPS`."""
    from choreo_cli.motion.choreo25 import decode
    from formats import motion_npz

    entries = [e for e in a.manifest.entries if e["layout"] == "choreo25"]
    first = list({e["performer"] or e["group_id"]: e for e in reversed(entries)}.values())[::-1]
    found = []
    for e in first[:MOST_STRIPS]:
        file = inside(a.folder, str(e["path"]))
        try:
            clip = None if file is None else motion_npz.read(file)
        except (OSError, FormatError):
            clip = None
        if clip is not None and len(clip.channels) > 1:
            found.append((str(e["performer"] or e["path"]), decode(clip), clip.header.fps))
    return found


def _draw_strips(figure: Any, p: Palette, clips: Sequence[tuple[str, F64, float]]) -> None:
    ax = figure.add_subplot()
    azimuth, elevation = (math.radians(v) for v in VIEWS["three-quarter"])
    for row, (label, joints, fps) in enumerate(clips):
        at = np.linspace(0, len(joints) - 1, min(POSES, len(joints))).round().astype(int)
        still = joints - joints[:, :1] * np.array([1.0, 0.0, 1.0])
        view = Window(0.0, 0.0, WIDE / 2, HIGH / 2)
        camera = place([still], fps, view, azimuth=facing(still) + azimuth, elevation=elevation, perspective=False)[0]
        seen = camera.seen(still[at])[..., :2]
        for k, pose in enumerate(seen):
            _pose(ax, p, pose + np.array([k * WIDE, -row * HIGH]))
        ax.text(-0.62 * WIDE, -row * HIGH, plain(label), fontsize=7, color=p.ink, ha="right", va="center")
    ax.set_xlim(-2.3 * WIDE, (POSES - 0.4) * WIDE)
    ax.set_ylim(-(len(clips) - 0.5) * HIGH, 0.55 * HIGH)
    ax.set_aspect("equal")
    ax.axis("off")


def _pose(ax: Any, p: Palette, xy: F64) -> None:
    colours = (p.soft, p.b, p.a)
    for joints, side, width in STROKES:
        line = xy[list(joints)]
        ax.plot(line[:, 0], line[:, 1], color=colours[side], linewidth=width * 0.6, solid_joinstyle="round")
    ax.plot([xy[HEAD, 0]], [xy[HEAD, 1] + 0.06], "o", color=p.soft, markersize=3.2, markeredgewidth=0)
