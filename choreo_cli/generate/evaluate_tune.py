"""Guidance and time shift, tuned on validation windows alone: sane, musical, and then like dances."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from choreo_cli.generate.evaluate_arms import Made, Setting

GUIDANCES = (1.0, 1.5, 2.0, 3.0)
SHIFTS = (1.0, 2.0, 3.0)
NEAR = 0.01  # a pass rate this far below the best counts as equal
# A musicality this far below the best counts as equal: its standard error over 64 windows. The highest score alone
# chose ever later grids, which are timid: dances scored .78 at a third of the held-out diversity, .76 at half of it.
EQUAL = 0.02

Far = Callable[[Made], float | None]


@dataclass(frozen=True, slots=True)
class Tried:
    """One setting on the validation windows.

    Args:
        setting: What was tried.
        sanity: Share of sane clips.
        musicality: Mean score; None without music.
        distance: Kernel distance to the validation windows themselves; None when there are too few.
    """

    setting: Setting
    sanity: float
    musicality: float | None
    distance: float | None = None

    def record(self) -> dict[str, Any]:
        told = {k: v for k, v in asdict(self.setting).items() if k in ("cfg", "shift", "steps")}
        return {**told, "sanity": self.sanity, "musicality": self.musicality, "distance": self.distance}


def tune(
    first: Setting, run: Callable[[Sequence[Setting]], Sequence[Made]], far: Far, *, shifts: bool
) -> tuple[Setting, list[Tried]]:
    """Choose the guidance weight, then (for a flow) the time shift with that weight.

    Args:
        first: Steps and solver to tune for.
        run: Makes and judges validation clips of several settings, all clips of one as one `Made`.
        far: Distance of the clips of a setting to the validation windows.
        shifts: The grid has a shift.

    Returns:
        The chosen setting, and all that were tried.
    """
    tried = _tried([replace(first, cfg=w, shift=1.0 if shifts else None) for w in GUIDANCES], run, far)
    best = best_of(tried)
    if shifts:
        more = [replace(best.setting, shift=s) for s in SHIFTS if s != best.setting.shift]
        tried += _tried(more, run, far)
        best = best_of([t for t in tried if t.setting.cfg == best.setting.cfg])
    return best.setting, tried


def best_of(tried: Sequence[Tried]) -> Tried:
    """Among the sane, and the musical, the one nearest to the validation windows; the first of equals.

    Sane: a pass rate within `NEAR` of the best. Musical: within `EQUAL` of the best of those. Without distances the
    highest musicality decides.
    """
    top = max(t.sanity for t in tried)
    sane = [t for t in tried if t.sanity >= top - NEAR]
    best = max(sane, key=lambda t: -1.0 if t.musicality is None else t.musicality)
    musical = [
        t for t in sane
        if t.distance is not None and (best.musicality is None or (t.musicality or 0.0) >= best.musicality - EQUAL)
    ]  # fmt: skip
    return min(musical, key=lambda t: t.distance or 0.0, default=best)


def _tried(settings: Sequence[Setting], run: Callable[[Sequence[Setting]], Sequence[Made]], far: Far) -> list[Tried]:
    found = []
    for setting, made in zip(settings, run(settings), strict=True):
        score = made.figures["musicality"]
        mean = float(np.nanmean(score)) if np.isfinite(score).any() else None
        found.append(Tried(setting, float(np.mean(made.figures["sanity"])), mean, far(made)))
    return found
