"""Guidance and time shift, tuned on validation windows alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from choreo_cli.generate.evaluate_arms import Made, Setting

GUIDANCES = (1.0, 1.5, 2.0, 3.0)
SHIFTS = (1.0, 2.0, 3.0)
NEAR = 0.01  # a pass rate this far below the best counts as equal


@dataclass(frozen=True, slots=True)
class Tried:
    """One setting on the validation windows.

    Args:
        setting: What was tried.
        sanity: Share of sane clips.
        musicality: Mean score; None without music.
    """

    setting: Setting
    sanity: float
    musicality: float | None

    def record(self) -> dict[str, Any]:
        told = {k: v for k, v in asdict(self.setting).items() if k in ("cfg", "shift", "steps")}
        return {**told, "sanity": self.sanity, "musicality": self.musicality}


def tune(
    first: Setting, run: Callable[[Sequence[Setting]], Sequence[Made]], *, shifts: bool
) -> tuple[Setting, list[Tried]]:
    """Choose the guidance weight, then (for a flow) the time shift with that weight.

    Args:
        first: Steps and solver to tune for.
        run: Makes and judges validation clips of several settings, all clips of one as one `Made`.
        shifts: The grid has a shift.

    Returns:
        The chosen setting, and all that were tried.
    """
    tried = _tried([replace(first, cfg=w, shift=1.0 if shifts else None) for w in GUIDANCES], run)
    best = best_of(tried)
    if shifts:
        more = [replace(best.setting, shift=s) for s in SHIFTS if s != best.setting.shift]
        tried += _tried(more, run)
        best = best_of([t for t in tried if t.setting.cfg == best.setting.cfg])
    return best.setting, tried


def best_of(tried: Sequence[Tried]) -> Tried:
    """The highest musicality among those whose pass rate is within a point of the best; the first of equals."""
    top = max(t.sanity for t in tried)
    near = [t for t in tried if t.sanity >= top - NEAR]
    return max(near, key=lambda t: -1.0 if t.musicality is None else t.musicality)


def _tried(settings: Sequence[Setting], run: Callable[[Sequence[Setting]], Sequence[Made]]) -> list[Tried]:
    found = []
    for setting, made in zip(settings, run(settings), strict=True):
        score = made.figures["musicality"]
        mean = float(np.nanmean(score)) if np.isfinite(score).any() else None
        found.append(Tried(setting, float(np.mean(made.figures["sanity"])), mean))
    return found
