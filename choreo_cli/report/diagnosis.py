"""What went wrong in a performance, told from its log of events alone: which fault, when, how long, what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

Event = Mapping[str, Any]

PORT, SENSOR, MODEL, LATE, DISK, MAP = (
    "lost port", "silent sensor", "NaN model", "late clock", "full disk", "bad map",
)  # fmt: skip
FAULTS = (PORT, SENSOR, MODEL, LATE, DISK, MAP)
STAMPS, SLOW_PORT, ERROR, CUT = "sensor clock", "slow port", "error", "no end"
FULL = ("No space left on device", "Disk quota exceeded", "File too large")
"""What Linux and macOS call a disk that takes no more."""

ADVICE = {
    PORT: "look at its cable and at the receiver; it was tried again all the time",
    SENSOR: "look at the sensor, its battery and its network, and compare the address it sends to with the printed one",
    MODEL: "play another checkpoint, or export this one again: choreo check RUN",
    LATE: "close what else runs here, or try --realtime; a larger period of JACK helps too",
    DISK: "free some space, or record elsewhere; the rows until then are kept",
    MAP: "correct the named line and save: the map of before stays in force until then",
    STAMPS: "its stamps jumped, so its samples were taken when they came; set the clock of the sensor",
    SLOW_PORT: "the receiver reads too slowly or refuses: it missed messages",
    ERROR: "choreo report and choreo check look closer; the loop went on",
    CUT: "it still plays, or was killed; after a kill choreo run-live into the same folder saves the rows",
}


@dataclass(slots=True)
class Finding:
    """One fault of one thing.

    Args:
        fault: One of `FAULTS`, or `sensor clock`, `slow port`, `error`, `no end`.
        about: Which port, source, file or part; empty for the whole performance.
        spells: (from, to) in session microseconds of each time it happened; `to` is None when it never ended.
        why: What the log says of the cause.
        n: What it cost: frames, messages, rows; 0 where nothing is counted.
    """

    fault: str
    about: str
    spells: list[tuple[int, int | None]] = field(default_factory=list)
    why: str = ""
    n: int = 0

    @property
    def open(self) -> bool:
        """It is still so at the end of the log."""
        return bool(self.spells) and self.spells[-1][1] is None

    @property
    def lasted_s(self) -> float:
        """Seconds of all the times that ended."""
        return sum(b - a for a, b in self.spells if b is not None) / 1e6

    @property
    def advice(self) -> str:
        """What to do."""
        return ADVICE[self.fault]

    def sentence(self) -> str:
        """For a person: fault, what, when, how long, why, what to do."""
        parts = [f"{self.fault}{f' {self.about}' if self.about else ''}: {self._when()}"]
        if self.n:
            parts.append(f"{self.n} {_COUNTED.get(self.fault, 'times')}")
        if self.why:
            parts.append(self.why)
        return f"{'; '.join(parts)}. {self.advice[:1].upper()}{self.advice[1:]}."

    def _when(self) -> str:
        first, last = self.spells[0][0] / 1e6, self.spells[-1][0] / 1e6
        start = f"at {first:.2f} s" if len(self.spells) == 1 else f"{len(self.spells)} times from {first:.2f} s on"
        if self.fault in (LATE, STAMPS, ERROR):
            return start if len(self.spells) == 1 else f"{start}, the last at {last:.2f} s"
        if self.fault == CUT:
            return f"after {first:.2f} s"
        ended = f", for {self.lasted_s:.2f} s" if self.lasted_s else ""
        return start + ended + (", to the end" if self.open else "")

    def begin(self, t_us: int, why: str = "") -> None:
        """It is so from now on."""
        self.why = why or self.why
        if not self.open:
            self.spells.append((t_us, None))

    def end(self, t_us: int) -> None:
        """It is over."""
        if self.open:
            self.spells[-1] = (self.spells[-1][0], t_us)

    def moment(self, t_us: int, why: str = "") -> None:
        """It happened once more."""
        self.why = why or self.why
        self.spells.append((t_us, t_us))


_COUNTED = {LATE: "frames skipped", DISK: "rows lost"}


class _Case:
    """Findings while the log is read."""

    def __init__(self) -> None:
        self.found: dict[tuple[str, str], Finding] = {}
        self.worst_ms = 0.0

    def of(self, fault: str, about: Any = "") -> Finding:
        return self.found.setdefault((fault, str(about)), Finding(fault, str(about)))

    def port(self, e: Event) -> None:
        name, state, t_us = e.get("port", ""), e.get("state"), e["t_us"]
        if state == "lost":
            self.of(PORT, name).begin(t_us, str(e.get("why") or ""))
        elif (PORT, str(name)) in self.found:
            self.of(PORT, name).end(t_us)
        if state == "degraded":
            self.of(SLOW_PORT, name).begin(t_us, str(e.get("why") or ""))
        elif (SLOW_PORT, str(name)) in self.found:
            self.of(SLOW_PORT, name).end(t_us)

    def source(self, e: Event) -> None:
        name, state, t_us = e.get("source", ""), e.get("state"), e["t_us"]
        if state == "lost":
            self.of(SENSOR, name).begin(t_us - round(1e6 * _number(e.get("silent_s"))))
        elif state == "recovered" and (SENSOR, str(name)) in self.found:
            self.of(SENSOR, name).end(t_us)
        elif state == "clock jumped":
            self.of(STAMPS, name).moment(t_us)

    def hold(self, e: Event) -> None:
        if e.get("held") is True and e.get("why") == "the model":
            self.of(MODEL).begin(e["t_us"], "no usable number came out of it, and the last valid values were held")
        elif e.get("held") is False and (MODEL, "") in self.found:
            self.of(MODEL).end(e["t_us"])

    def map(self, e: Event) -> None:
        if e.get("state") == "refused":
            self.of(MAP).begin(e["t_us"], str(e.get("text") or ""))
        elif e.get("state") == "reloaded" and (MAP, "") in self.found:
            self.of(MAP).end(e["t_us"])

    def xrun(self, e: Event) -> None:
        late = self.of(LATE)
        late.n += round(_number(e.get("missed")))
        self.worst_ms = max(self.worst_ms, _number(e.get("late_ms")))
        late.moment(e["t_us"], f"the loop woke up to {self.worst_ms:.1f} ms after its deadline")

    def error(self, e: Event) -> None:
        where, why = str(e.get("where", "")), str(e.get("why") or "")
        if where in ("recorder", "events") and any(full in why for full in FULL):
            disk = self.of(DISK)
            disk.begin(e["t_us"], why)
            disk.n = max(disk.n, round(_number(e.get("lost"))))
        else:
            self.of(ERROR, where).moment(e["t_us"], why)


def diagnose(events: Iterable[Event], *, whole: bool = True) -> list[Finding]:
    """Faults of a performance in the order in which they began, nothing when all went well.

    Args:
        events: Events of `choreo.events/1` in order, as `formats.event_log` reads them.
        whole: The log has its last line; without it the performance was cut.
    """
    case, last = _Case(), 0
    take: dict[str, Callable[[Event], None]] = {
        "port": case.port, "source": case.source, "hold": case.hold, "map": case.map, "xrun": case.xrun,
        "error": case.error,
    }  # fmt: skip
    stopped = False
    for event in events:
        last = int(event["t_us"])
        stopped = stopped or event["kind"] == "stop"
        if event["kind"] in take:
            take[event["kind"]](event)
    if not whole or not stopped:
        case.of(CUT).moment(last)
    return sorted(case.found.values(), key=lambda f: f.spells[0][0])


def _number(value: Any) -> float:
    """A fact as a number; 0 for what is none."""
    good = isinstance(value, int | float) and not isinstance(value, bool) and value - value == 0
    return float(value) if good else 0.0
