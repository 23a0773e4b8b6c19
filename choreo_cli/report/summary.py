"""Figures of a column and of a clock: ranges, what is missing, outliers, rates and gaps."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from choreo_cli.report.content import Content, Signal
from choreo_cli.report.histogram import counts

OUTLIER_Z = 5.0
GAP_PERIODS = 5.0
TOP = 6


def of_signal(s: Signal) -> dict[str, Any]:
    """n, missing, range, median, outliers and histogram of numbers; n, missing, distinct and the commonest of texts."""
    if isinstance(s.values, list):
        return _of_texts(s)
    values = np.asarray(s.values)
    if values.dtype.kind == "b":
        return _of_flags(s, values)
    live = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    found: dict[str, Any] = {"name": s.name, "unit": s.unit, "type": str(values.dtype), "n": len(values)}
    found["missing"] = int(np.isnan(values).sum()) if values.dtype.kind == "f" else s.missing
    found["infinite"] = len(values) - len(live) - found["missing"] if values.dtype.kind == "f" else 0
    if not len(live):
        return {**found, "min": None, "median": None, "mean": None, "max": None, "outliers": 0, "histogram": []}
    lo, hi = live.min(), live.max()
    found |= {"min": _plain(lo), "median": _plain(np.median(live)), "mean": _plain(live.mean(dtype=np.float64))}
    found |= {"max": _plain(hi), "outliers": outliers(live)}
    if s.spec is not None and s.spec.lo is not None and s.spec.hi is not None:
        lo, hi = min(lo, s.spec.lo), max(hi, s.spec.hi)
    found["histogram"] = counts(live.astype(np.float64, copy=False), float(lo), float(hi))
    found["histogram_range"] = [float(lo), float(hi)]
    return found


def outliers(live: np.ndarray[Any, Any]) -> int:
    """Values further than 5 robust standard deviations (1.4826 x median absolute deviation) from the median.

    Modified z-score of Iglewicz and Hoaglin (1993); 0 where more than half of the values are equal.
    """
    centre = np.median(live)
    away = np.abs(live - centre)
    spread = 1.4826 * np.median(away)
    return int((away > OUTLIER_Z * spread).sum()) if spread > 0 else 0


def _of_flags(s: Signal, values: np.ndarray[Any, Any]) -> dict[str, Any]:
    true = int(values.sum())
    return {"name": s.name, "unit": s.unit, "type": "bool", "n": len(values), "missing": s.missing, "true": true}


def _of_texts(s: Signal) -> dict[str, Any]:
    live = [v for v in s.values if v is not None]
    common = sorted(Counter(live).items(), key=lambda kv: (-kv[1], kv[0]))[:TOP]
    return {
        "name": s.name,
        "unit": s.unit,
        "type": "text",
        "n": len(s.values),
        "missing": len(s.values) - len(live),
        "distinct": len(set(live)),
        "common": dict(common),
    }


def _plain(value: Any) -> float | int:
    number = value.item() if hasattr(value, "item") else value
    return float(f"{number:.9g}") if isinstance(number, float) else number


def of_clock(content: Content) -> dict[str, Any] | None:
    """Rate, steps and gaps of the rows' times, inside each group; None without times."""
    t = content.t_us
    if t is None or len(t) < 2:
        return None
    step = np.diff(t)
    if content.group is not None:
        step = step[np.diff(content.group[1]) == 0]
    forward = step[step > 0]
    if not len(forward):
        return {"rate_hz": None, "backward": int((step < 0).sum()), "repeated": int((step == 0).sum())}
    usual = float(np.median(forward))
    gaps = forward[forward > GAP_PERIODS * usual]
    return {
        "rate_hz": float(f"{1e6 / usual:.6g}"),
        "span_s": float(f"{(int(t.max()) - int(t.min())) / 1e6:.6f}"),
        "step_ms": [float(f"{v / 1e3:.6g}") for v in (forward.min(), usual, forward.max())],
        "gaps": len(gaps),
        "longest_gap_s": float(f"{forward.max() / 1e6:.6g}") if len(gaps) else None,
        "backward": int((step < 0).sum()),
        "repeated": int((step == 0).sum()),
    }
