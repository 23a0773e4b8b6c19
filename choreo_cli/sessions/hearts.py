"""The heart rate of a body: whose clock can be compared, and where it lies on the music's clock."""

from __future__ import annotations

from typing import Any

import numpy as np

from choreo_cli.sessions import frames
from choreo_cli.sessions.prior import HOUR_US, name
from formats.foreign.model import Series

Entry = dict[str, Any]
Placed = tuple[Series, frames.TimeModel]


def heart_of(
    body: Entry,
    hearts: list[tuple[Entry, Series]],
    model: frames.TimeModel,
    span_us: tuple[int, int],
    tz_us: int | None,
) -> tuple[Placed | None, str | None, list[str]]:
    """The heart rate with the most samples inside the pair, its id, and what was taken for granted.

    t_music = (1 + drift) (t_heart + shift) + offset, where shift is the difference of the two clocks' zeros. Local time
    is compared with UTC only through `--tz`.

    Args:
        body: The body's recording.
        hearts: Heart rates of its session.
        model: The body's clock against the music.
        span_us: First and last instant of the pair on the music clock.
        tz_us: Offset of local times from UTC that the user gave, None without.
    """
    notes: list[str] = []
    best: tuple[int, Placed, Entry, list[str]] | None = None
    for entry, series in hearts:
        shift, why = _shift(entry, body, tz_us)
        if shift is None:
            notes.append(why)
            continue
        placed = model.after(shift)
        t = placed.to_music(series.t_us)
        value = series.values[:, series.names.index("hr")]
        inside = int(np.count_nonzero((t >= span_us[0]) & (t <= span_us[1]) & np.isfinite(value)))
        if inside == 0:
            notes.append(f"heart rate {name(entry)} does not overlap with {name(body)} and is left out")
        elif best is None or inside > best[0]:
            best = inside, (series, placed), entry, [why]
    if best is None:
        return None, None, notes
    return best[1], str(best[2]["id"]), [*best[3], *notes]


def _shift(heart: Entry, body: Entry, tz_us: int | None) -> tuple[int | None, str]:
    """Microseconds from the body's zero to the heart's, and the sentence for it; None without a common clock."""
    zeros = []
    for entry in (heart, body):
        t0 = entry["t0_utc_us"]
        if t0 is None:
            return None, f"heart rate {name(heart)} has no clock in common with {name(body)} and is left out"
        zeros.append(t0 - tz_us if entry["t0_naive"] and tz_us is not None else t0)
    shift = int(zeros[0] - zeros[1])
    if tz_us is None and heart["t0_naive"] != body["t0_naive"]:
        local = name(heart) if heart["t0_naive"] else name(body)
        hours = round(shift / HOUR_US) * (1 if heart["t0_naive"] else -1)
        near = hours and abs(abs(shift) - abs(hours) * HOUR_US) <= HOUR_US // 6 and abs(hours) <= 14
        hint = f": try --tz {hours:+d}" if near else ": say --tz"
        return None, f"heart rate {name(heart)} is left out, because {local} is local time and the other is UTC{hint}"
    if heart["t0_source"] == body["t0_source"] and shift == 0 and not _own(heart) and not _own(body):
        return 0, f"heart rate {name(heart)} is taken to start with {name(body)}: both have the session's clock"
    two = 2 * ((heart["t0_sigma_us"] or 0) ** 2 + (body["t0_sigma_us"] or 0) ** 2) ** 0.5
    return shift, f"heart rate {name(heart)} is placed by UTC, which agrees with the body's to +-{two / 1e6:g} s"


def _own(entry: Entry) -> bool:
    return entry["t0_source"] in ("ntp", "unix_time", "iso_time", "container")
