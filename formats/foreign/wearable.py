"""What the readers of wearables share: names and sentinels of heart rate, facts of a series."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from formats.foreign.model import F64, Facts, Series
from formats.foreign.source import Source

HR_NAMES = frozenset(
    ("hr", "bpm", "heart_rate", "heartrate", "hr_bpm", "heart_rate_bpm", "pulse", "pulse_rate", "beats_per_minute")
)
RR_NAMES = frozenset(
    (
        "rr", "rrs", "rr_ms", "rr_s", "rr_interval", "rr_intervals", "rr_interval_ms", "rr_intervals_ms", "rrintervals",
        "rrinterval", "ibi", "ibi_ms", "ibi_s",
    )
)  # fmt: skip


def heart_rate(values: F64) -> F64:
    """Turn the sentinels of heart rate (0, negative, 255) into NaN."""
    out = values.copy()
    with np.errstate(invalid="ignore"):
        out[(out <= 0) | (out == 255)] = np.nan
    return out


def interval_ms(values: F64) -> tuple[F64, tuple[str, ...]]:
    """Bring beat-to-beat intervals to milliseconds; below 10 they can only be seconds."""
    out = values.copy()
    with np.errstate(invalid="ignore"):
        out[out <= 0] = np.nan
    present = out[np.isfinite(out)]
    if present.size and float(np.median(present)) < 10:
        return out * 1000.0, ()
    return out, ("beat intervals were read as milliseconds",) if present.size else ()


def series_facts(read: Callable[[Source], Series], source: Source, format: str) -> Facts:
    """Facts of a series: read once, the figures kept.

    Raises:
        FormatError: what `read` raises.
    """
    series = read(source)
    n = len(series.t_us)
    span = int(series.t_us[-1] - series.t_us[0]) if n else 0
    if series.rate is not None:
        span += 1_000_000 * series.rate[1] // series.rate[0]
    missing = {name: int(np.isnan(series.values[:, i]).sum()) for i, name in enumerate(series.names)}
    meta: dict[str, object] = {"names": list(series.names), "units": list(series.units), "missing": missing}
    if series.assumptions:
        meta["assumptions"] = list(series.assumptions)
    reason = "every value is missing" if all(m == n for m in missing.values()) else None
    return Facts(
        "wearable", format, n=n, rate=series.rate, duration_us=span, channels=len(series.names), clock=series.clock,
        reason=reason, problems=series.problems, meta=meta,
    )  # fmt: skip
