"""Drawings of a comparison of branches: who leads, how they learned, where they fail, and paths in space."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from choreo_cli.report.run_draw import Palette
from choreo_cli.report.run_figures import Figure

Doc = Mapping[str, Any]
BASELINE = "branch0"
_DASHES = ("-", (0, (5, 2)), (0, (1.5, 1.5)))


def looks(doc: Doc, p: Palette) -> dict[str, dict[str, Any]]:
    """Colour and line of each branch: the same in every drawing; the baseline is grey and dashed."""
    found: dict[str, dict[str, Any]] = {}
    others = [b["branch"] for b in doc["branches"] if b["branch"] != BASELINE]
    for k, name in enumerate(others):
        found[name] = {"color": p.series[k % 5], "linestyle": _DASHES[k // 5 % 3]}
    return {BASELINE: {"color": p.soft, "linestyle": _DASHES[1]}, **found}


def make_figures(doc: Doc) -> list[Figure]:
    """Every drawing of the page, in its order; one that cannot be drawn says why."""
    found = [
        Figure(
            "standing", "Where the branches stand",
            "Mean over seeds with its 95 % interval over seeds and trajectories; small dots are single seeds. Dotted"
            " lines are chance, and the better of standing still and constant velocity on the noisy true points.",
            lambda f, p: _standing(doc, f, p), 16 + 8.5 * (len(doc["branches"]) + 1), True,
        ),
        _learning(doc),
        Figure(
            "noise", "By noise", _noise_text(doc), lambda f, p: _noise(doc, f, p), 66, True,
            facts={"split": doc["set"]["breakdown_split"]},
        ),
        Figure(
            "steps", "By forecast step",
            "Forecast error of each of the four steps; thin dotted lines are the baselines, which see noisy true points"
            " in space.", lambda f, p: _steps(doc, f, p), 74,
        ),
        Figure(
            "calibration", "Calibration",
            "How often a branch is right, by how sure it says it is; on the diagonal they agree. Dots grow with the"
            " number of videos.", lambda f, p: _calibration(doc, f, p), 74,
        ),
    ]  # fmt: skip
    return found + [_space(doc, e) for e in doc["examples"]]


def _legend(figure: Any, doc: Doc, p: Palette, columns: int) -> None:
    """Below the drawing, where no line runs."""
    from matplotlib.lines import Line2D

    lines = [Line2D([], [], label=n, **look) for n, look in looks(doc, p).items() if _there(doc, n)]
    figure.legend(handles=lines, loc="outside lower center", ncols=min(columns, len(lines)))


def _there(doc: Doc, name: str) -> bool:
    return any(b["branch"] == name for b in doc["branches"])


def _standing(doc: Doc, figure: Any, p: Palette) -> None:
    rows = sorted(doc["branches"], key=lambda b: -b["accuracy"])
    rows += [doc["ensemble"]] if doc["ensemble"] else []
    left, right = figure.subplots(1, 2, sharey=True)
    best = min(b["mae_pct"] for b in doc["baselines"] if b["name"] in ("persistence", "constant velocity"))
    for axes, name, factor, line, label in (
        (left, "accuracy", 100.0, 100 * doc["chance"], "accuracy, %"),
        (right, "mae_pct", 1.0, best, "forecast error, %"),
    ):
        for y, row in enumerate(rows):
            colour = looks(doc, p).get(row["branch"], {"color": p.ink})["color"]
            lo, hi = (factor * v for v in row[f"{name}_ci"])
            axes.plot([lo, hi], [y, y], color=colour, linewidth=2.4)
            axes.plot([factor * row[name]], [y], "o", color=colour, markersize=5)
            seeds = [factor * s[name] for s in row.get("each_seed", [])]
            axes.plot(seeds, [y - 0.28] * len(seeds), "o", color=colour, markersize=1.8, alpha=0.8)
        values = [factor * v for r in rows for v in r[f"{name}_ci"]]
        if name == "mae_pct" or min(values) < 45:
            axes.axvline(line, color=p.soft, linewidth=0.9, linestyle=":")
        axes.set_xlabel(label)
        axes.margins(x=0.06)
        axes.grid(True, axis="x")
        axes.grid(False, axis="y")
    left.set_yticks(range(len(rows)), [r["branch"] for r in rows])
    left.set_ylim(len(rows) - 0.5, -0.7)


def _learning(doc: Doc) -> Figure:
    title = "Learning curves"
    if not any(r["points"] for r in doc["learning"]):
        return Figure("learning", title, "MISSING: no log.jsonl with a validation in it in the run folders.")
    text = "Accuracy and forecast error on the validation curves while training; one line for each seed."
    return Figure("learning", title, text, lambda f, p: _curves(doc, f, p), 72, True)


def _curves(doc: Doc, figure: Any, p: Palette) -> None:
    left, right = figure.subplots(1, 2)
    style = looks(doc, p)
    for run in doc["learning"]:
        for axes, key, factor in ((left, "accuracy", 100.0), (right, "mae_pct", 1.0)):
            dots = [(q["epoch"], factor * q[key]) for q in run["points"] if key in q and "epoch" in q]
            if dots:
                x, y = np.array(dots).T
                axes.plot(x, y, linewidth=0.9, alpha=0.9, **style[run["branch"]])
    for axes, label in ((left, "validation accuracy, %"), (right, "validation forecast error, %")):
        axes.set(xlabel="epoch", title=label)
    top = [q["mae_pct"] for r in doc["learning"] for q in r["points"] if "mae_pct" in q]
    if top:
        right.set_ylim(0, min(1.05 * max(top), 40.0))
    _legend(figure, doc, p, 6)


def _noise_text(doc: Doc) -> str:
    where = "the grid" if doc["set"]["breakdown_split"] == "grid" else "the test views"
    return f"By standard deviation of the shown points, on {where}; bars are 95 % intervals over curves."


def _noise(doc: Doc, figure: Any, p: Palette) -> None:
    left, right = figure.subplots(1, 2)
    style = looks(doc, p)
    for k, b in enumerate(doc["branches"]):
        rows = [r for r in doc["breakdown"] if r["branch"] == b["branch"] and r["group"] == "sigma"]
        for axes, name, factor in ((left, "accuracy", 100.0), (right, "mae_pct", 1.0)):
            x = np.arange(len(rows)) + 0.06 * (k - (len(doc["branches"]) - 1) / 2)
            y = np.array([factor * r[name] for r in rows])
            lo, hi = (np.array([factor * r[f"{name}_ci"][side] for r in rows]) for side in (0, 1))
            axes.errorbar(x, y, [np.maximum(y - lo, 0), np.maximum(hi - y, 0)], elinewidth=0.8, marker="o",
                          markersize=2.5, **style[b["branch"]])  # fmt: skip
            axes.set_xticks(range(len(rows)), [f"{r['value']:g}" for r in rows])
            axes.margins(x=0.06)
    left.set(title="accuracy, %", xlabel="sigma")
    right.set(title="forecast error, %", xlabel="sigma")
    _legend(figure, doc, p, 6)


def _steps(doc: Doc, figure: Any, p: Palette) -> None:
    axes = figure.subplots()
    style = looks(doc, p)
    for b in doc["branches"]:
        rows = [r for r in doc["steps"] if r["branch"] == b["branch"]]
        axes.plot([r["step"] for r in rows], [r["mae_pct"] for r in rows], marker="o", markersize=2.5,
                  **style[b["branch"]])  # fmt: skip
    top = 1.6 * max(r["mae_pct"] for r in doc["steps"])
    for line in doc["baselines"]:
        y = line["steps"]
        axes.plot(range(1, len(y) + 1), y, color=p.soft, linewidth=0.8, linestyle=":")
        seen = [k for k, v in enumerate(y) if v <= top]
        if seen and seen[-1] > 0:
            axes.annotate(line["name"], (seen[-1] + 1, y[seen[-1]]), color=p.soft, fontsize=6, ha="right",
                          va="top" if line["name"] == "constant velocity" else "bottom")  # fmt: skip
    axes.set(xlabel="step", ylabel="forecast error, %", xticks=[1, 2, 3, 4], ylim=(0, top))
    axes.margins(x=0.05)
    _legend(figure, doc, p, 3)


def _calibration(doc: Doc, figure: Any, p: Palette) -> None:
    axes = figure.subplots()
    axes.plot([0.25, 1], [0.25, 1], color=p.soft, linewidth=0.7)
    style = looks(doc, p)
    for b in doc["branches"]:
        x, y, n = np.array([(r["confidence"], r["accuracy"], r["n"]) for r in b["reliability"]]).T
        axes.plot(x, y, linewidth=0.9, **style[b["branch"]])
        axes.scatter(x, y, s=4 + 26 * n / n.max(), color=style[b["branch"]]["color"])
    axes.set(xlabel="confidence", ylabel="share right", xlim=(0.23, 1.02), ylim=(0.0, 1.04))
    _legend(figure, doc, p, 3)


def _space(doc: Doc, e: Doc) -> Figure:
    errors = ", ".join(f"{f['branch']} {f['mae_pct']:.1f} %" for f in e["forecasts"])
    text = (
        f"Clip {e['row']}, sigma {e['sigma']:g}, {e['style']}: the median error of the leader in this family. Line: the"
        f" true path that is shown; open circles: its true next four points; crosses: forecasts. Errors: {errors}."
    )
    draw: Callable[[Any, Palette], None] = lambda f, p: _path(doc, e, f, p)  # noqa: E731
    return Figure(f"space-{e['family']}", f"A {e['family']} path", text, draw, 86, facts={"row": e["row"]})


def _path(doc: Doc, e: Doc, figure: Any, p: Palette) -> None:
    axes = figure.add_subplot(projection="3d")
    truth = np.array(e["truth"])
    shown, ahead = truth[:16], truth[16:]
    axes.plot(*shown.T, color=p.ink, linewidth=1.1)
    axes.plot(*shown[:1].T, "o", color=p.ink, markersize=3)
    axes.plot(*truth[15:].T, color=p.ink, linewidth=0.7, linestyle=":")
    axes.plot(*ahead.T, "o", markerfacecolor="none", markeredgecolor=p.ink, markersize=6, markeredgewidth=0.9)
    everything = [truth]
    style = looks(doc, p)
    for f in e["forecasts"]:
        points = np.array(f["points"])
        everything.append(points)
        axes.plot(*points.T, "x", color=style[f["branch"]]["color"], markersize=4.5, markeredgewidth=1.2)
    _cube(axes, np.concatenate(everything), p)
    from matplotlib.lines import Line2D

    marks = [
        Line2D([], [], label=f["branch"], color=style[f["branch"]]["color"], marker="x", linestyle="none", markersize=4)
        for f in e["forecasts"]
    ]
    axes.legend(handles=marks, loc="upper left", fontsize=6.5)


def _cube(axes: Any, points: Any, p: Palette) -> None:
    """Equal units on all axes, quiet panes."""
    middle = (points.max(0) + points.min(0)) / 2
    half = max(float(np.ptp(points, axis=0).max()) / 2 * 1.08, 1e-3)
    for axis, m in zip("xyz", middle, strict=True):
        getattr(axes, f"set_{axis}lim")(m - half, m + half)
        getattr(axes, f"set_{axis}label")(axis, labelpad=-8)
        line = getattr(axes, f"{axis}axis")
        line.pane.set_facecolor("none")
        line.pane.set_edgecolor(p.grid)
        line._axinfo["grid"].update(color=p.grid, linewidth=0.5)
        line.line.set_color(p.soft)
        line.set_major_locator(_few())
    axes.tick_params(labelsize=5.5, pad=-3)
    axes.set_box_aspect((1, 1, 1), zoom=1.08)
    axes.view_init(22, -58)


def _few() -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(4)
