"""Entries of the inventory manifest: what `discover` writes down of one recording."""

from __future__ import annotations

from typing import Any

from formats.columns import RECORDING
from formats.foreign.model import Clock, Facts

Entry = dict[str, Any]
SCHEMA = RECORDING.schema


def entry(facts: Facts, root: str, path: str, size: int, sha256: str | None) -> Entry:
    """One entry, keys in the order of its table. `session` and `id` are filled in by the caller."""
    rate = facts.rate or (None, None)
    clock = facts.clock
    return {
        "id": "", "kind": facts.kind, "format": facts.format, "root": root, "path": path, "bytes": size,
        "sha256": sha256, "session": None, "n": facts.n, "rate_num": rate[0], "rate_den": rate[1],
        "duration_us": facts.duration_us, "channels": facts.channels, "t0_utc_us": clock.t0_utc_us,
        "t0_source": clock.source, "t0_sigma_us": clock.sigma_us, "t0_naive": clock.naive, "reason": facts.reason,
        "acknowledged": False, "problems": list(facts.problems), "synthetic": bool(facts.meta.get("synthetic")),
        "meta": {k: v for k, v in facts.meta.items() if k != "synthetic"},
    }  # fmt: skip


def set_clock(found: Entry, clock: Clock) -> None:
    """Give an entry a clock it does not have itself."""
    found["t0_utc_us"], found["t0_source"] = clock.t0_utc_us, clock.source
    found["t0_sigma_us"], found["t0_naive"] = clock.sigma_us, clock.naive


def facts_to_json(facts: Facts) -> dict[str, Any]:
    """For the cache and for other processes."""
    c = facts.clock
    return {
        "kind": facts.kind, "format": facts.format, "n": facts.n, "rate": facts.rate, "duration_us": facts.duration_us,
        "channels": facts.channels, "clock": (c.t0_utc_us, c.source, c.sigma_us, c.naive), "reason": facts.reason,
        "problems": facts.problems, "meta": facts.meta,
    }  # fmt: skip


def facts_from_json(doc: dict[str, Any]) -> Facts:
    """What `facts_to_json` made."""
    rate = doc["rate"]
    return Facts(
        doc["kind"], doc["format"], doc["n"], None if rate is None else (rate[0], rate[1]), doc["duration_us"],
        doc["channels"], Clock(*doc["clock"]), doc["reason"], tuple(doc["problems"]), doc["meta"],
    )  # fmt: skip
