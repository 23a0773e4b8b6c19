"""Single clips of a comparison: one of each family in space, the worst ones as strips, equations beside the truth."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.metrics.trajectory import FAMILIES
from choreo_cli.trajectory import curves, describe, raster, solver, views, words
from choreo_cli.trajectory.camera import project, to_world
from choreo_cli.trajectory.curves import SHOWN
from choreo_cli.trajectory.render_sheet import marks, strip
from choreo_cli.trajectory.sets import TrajectorySet

if TYPE_CHECKING:
    from choreo_cli.trajectory.compare import Column

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]

GREY, GREEN, RED = (120, 126, 140), (96, 208, 128), (255, 96, 88)
DIGITS = 5
_PLAIN = re.compile(r"[^A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class Clips:
    """What clips are taken from: the set, the branches, and the one that leads."""

    of: TrajectorySet
    columns: Sequence[Column]
    lead: Column

    def world(self, points: F64, row: int) -> F64:
        """(T, 3) in the orientation of a clip's camera, turned into the world."""
        looks = self.of.looks["test"].take(slice(row, row + 1))
        turned: F64 = to_world(points[None], looks.cameras)[0]
        return turned

    def facts(self, row: int) -> dict[str, Any]:
        """What a clip is."""
        looks = self.of.looks["test"]
        return {
            "row": row, "curve": int(looks.base[row]), "family": FAMILIES[self.of.drawn.curves.family[looks.base[row]]],
            "sigma": float(looks.sigma[row]), "style": raster.STYLES[looks.style[row]],
            "azimuth": round(float(looks.azimuth[row]), 4), "elevation": round(float(looks.elevation[row]), 4),
        }  # fmt: skip


def examples(clips: Clips) -> list[dict[str, Any]]:
    """Of each family the clip that the leader forecasts with the median error: truth and every branch's forecast."""
    family = clips.lead.judged[0].family
    share = clips.lead.branch.share.mean(0)
    found = []
    for label in range(len(FAMILIES)):
        rows = np.flatnonzero(family == label)
        if not len(rows):
            continue
        row = int(rows[np.argsort(share[rows], kind="stable")[len(rows) // 2]])
        truth = clips.of.clean("test", np.array([row]))[0]
        found.append({
            **clips.facts(row), "truth": _rounded(truth),
            "forecasts": [
                {
                    "branch": c.name, "points": _rounded(clips.world(c.futures[:, row].mean(0), row)),
                    "mae_pct": float(c.branch.share[:, row].mean()),
                }
                for c in clips.columns
            ],
        })  # fmt: skip
    return found


def failures(clips: Clips, count: int) -> tuple[list[dict[str, Any]], dict[str, bytes]]:
    """The worst clips of each branch: wrong class by most seeds first, then the largest forecast error.

    Returns:
        Rows, and by name a PNG of each: every second frame, then the path (grey), the truth (green) and the forecast
        (red) in the image.
    """
    rows, pictures = [], {}
    for n, c in enumerate(clips.columns):
        wrong, share = 1 - c.branch.right.mean(0), c.branch.share.mean(0)
        order = np.lexsort((-share, -wrong))[:count]
        for place, row in enumerate(order.tolist(), 1):
            # A branch's name is data: what is not plain in it cannot reach a path.
            name = f"{n}-{_PLAIN.sub('-', c.name)[:40]}-{place:02d}.png"
            said = c.branch.probabilities[:, row].mean(0)
            pictures[name] = _strip(clips, c, row)
            rows.append({
                **clips.facts(row), "branch": c.name, "place": place, "picture": name,
                "said": FAMILIES[int(said.argmax())], "confidence": float(said.max()),
                "seeds_wrong": int((c.branch.right[:, row] < 0.5).sum()), "mae_pct": float(share[row]),
            })  # fmt: skip
    return rows, pictures


def _strip(clips: Clips, c: Column, row: int) -> bytes:
    of = clips.of
    one = np.array([row])
    looks = of.looks["test"].take(one)
    out = np.empty((1, SHOWN, 3, of.size, of.size), np.uint8)
    of.render("test", one, out, "numpy")
    clean = of.clean("test", one)[0]
    forecast = clips.world(c.futures[:, row].mean(0), row)
    where = [project(p[None], looks.cameras, of.size)[0][0] for p in (clean[:SHOWN], clean[SHOWN:], forecast)]
    layers = [(p, colour, 1.1) for p, colour in zip(where, (GREY, GREEN, RED), strict=True)]
    return strip(out[0], marks(of.size, 1, layers))


def spoken(clips: Clips, shown: Sequence[dict[str, Any]], count: int) -> dict[str, Any]:
    """Equations and sentences from the points that each branch saw, in the family that it names, by the curve fit.

    Args:
        clips: Where from. shown: The examples, as samples beside the truth. count: Clips that are judged.
    """
    looks = clips.of.looks["test"]
    first = np.arange(min(count, len(looks)))
    shapes = views.seen_curves(clips.of.drawn.curves, looks.take(first))
    rates = []
    for c in clips.columns:
        if c.shown is None or not len(first):
            rates.append({"branch": c.name, "n": 0})
            continue
        fits, told = _told(clips, c, first)
        diagonal = c.judged[0].diagonal[first]
        scores = [describe.score(t, curves.canonical(shapes, k), float(diagonal[k])) for k, t in enumerate(told)]
        judged = describe.rates(scores)
        rates.append({
            "branch": c.name, "seed": c.branch.seeds[0], "n": len(first), "family": float(judged["form"].mean()),
            "fit_family": float((fits.family == shapes.family).mean()),
            **{k: float(judged[k].mean()) for k in ("parsed", "numeric", "within_10", "slots")},
        })  # fmt: skip
    return {"engine": "fit", "rates": rates, "samples": _samples(clips, shown)}


def _told(clips: Clips, c: Column, rows: NDArray[Any]) -> tuple[solver.Fits, list[describe.Told]]:
    """The fit as the solver would choose it alone, and what is told in the family that the branch names."""
    assert c.shown is not None
    looks = clips.of.looks["test"].take(rows)
    fits = solver.fit(to_world(c.shown[0][rows], looks.cameras))
    named = replace(fits, family=c.branch.probabilities[0][rows].argmax(1))
    return fits, describe.tell_all(named, "fit")


def _samples(clips: Clips, shown: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    rows = np.array([e["row"] for e in shown], np.intp)
    if not len(rows):
        return []
    looks = clips.of.looks["test"].take(rows)
    shapes = views.seen_curves(clips.of.drawn.curves, looks)
    told = {c.name: _told(clips, c, rows)[1] for c in clips.columns if c.shown is not None}
    found = []
    for k, e in enumerate(shown):
        form = curves.canonical(shapes, k)
        found.append({
            "row": e["row"], "family": e["family"], "sigma": e["sigma"], "equation": curves.equation(form),
            "description": words.sentence(words.facts(form)),
            "told": [
                {"branch": name, "family": t[k].family, "equation": t[k].equation, "description": t[k].text}
                for name, t in told.items()
            ],
        })  # fmt: skip
    return found


def _rounded(points: F64) -> list[list[float]]:
    return [[round(float(v), DIGITS) for v in p] for p in points]
