"""How a performance went: what the loop hands back when it has ended."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from choreo_cli.errors import ExitCode


@dataclass(slots=True)
class Summary:
    """Counters of a run of the loop.

    Args:
        reason: Why it ended: `ended` (all sources did), `until`, `stopped`, or the error.
        ticks: Ticks that were played.
        missed: Ticks that were skipped because they came too late.
        held: Ticks whose values repeat the last valid ones.
        first_us: Session time of the first tick.
        last_us: Session time of the last tick.
        start_ns: The clock's reading at `first_us`.
        latency_ms: Span -> {p50, p95, p99, max, n} of the newest ticks (the recording holds all of them).
        guards: Counters of the guards.
        samples: Counters of samples out of time.
        troubles: Where something raised -> how often.
        sources: Counters by source.
        ports: Counters by port.
        faults: What was not recorded and why, one sentence each.
        offset: What `calibrate latency` measured of the receiver, as its file says it; empty without.
        lost: What is required and stayed away, and ended it; empty otherwise.
    """

    reason: str = "ended"
    ticks: int = 0
    missed: int = 0
    held: int = 0
    first_us: int = 0
    last_us: int = 0
    start_ns: int = 0
    latency_ms: dict[str, dict[str, float]] = field(default_factory=dict)
    guards: dict[str, int] = field(default_factory=dict)
    samples: dict[str, int] = field(default_factory=dict)
    troubles: dict[str, int] = field(default_factory=dict)
    sources: dict[str, dict[str, Any]] = field(default_factory=dict)
    ports: dict[str, dict[str, Any]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    offset: dict[str, Any] = field(default_factory=dict)
    lost: str = ""

    @property
    def exit_code(self) -> ExitCode:
        """69 when something required stayed away, 74 when a part of the performance could not be recorded."""
        if self.lost:
            return ExitCode.UNAVAILABLE
        return ExitCode.IO if self.faults else ExitCode.OK
