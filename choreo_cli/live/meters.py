"""What a performer sees: five bars, inputs alive or masked, latency, beat, ports, and what the keys do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from formats.columns import CONTROL_NAMES

BAR = 30
KEYS: dict[str, str] = {
    "f": "freeze", "n": "neutral", "p": "panic", "t": "tap", "r": "record", "u": "undo", "q": "quit",
}  # fmt: skip
"""Key -> what it does. Freeze and neutral are switches; panic silences every port and goes to neutral."""


@dataclass(slots=True)
class View:
    """A look at a performance that is under way; numbers only, made when it is asked for.

    Args:
        unit: The five values as sent, 0..1 of their ranges.
        values: The same in the ranges of the map.
        alive: Modality -> measured now; the others are predicted from them.
        t_us: Session time.
        latency_ms: Arrival to sent: the last, and the 95th percentile of the last seconds; NaN before the first.
        missed: Ticks that were skipped because they came too late.
        beat: Position in beats, None without a transport.
        bpm: Tempo, None without a transport.
        held: The values repeat the last valid ones.
        frozen: Held on purpose.
        neutral: On the way to neutral on purpose.
        ports: Port -> ok, degraded, lost, recovered.
        said: The last remark: a device, a map, a lesson.
    """

    unit: Sequence[float] = (0.0,) * len(CONTROL_NAMES)
    values: Sequence[float] = (0.0,) * len(CONTROL_NAMES)
    alive: Mapping[str, bool] = field(default_factory=dict)
    t_us: int = 0
    latency_ms: tuple[float, float] = (float("nan"), float("nan"))
    missed: int = 0
    beat: float | None = None
    bpm: float | None = None
    held: bool = False
    frozen: bool = False
    neutral: bool = False
    ports: Mapping[str, str] = field(default_factory=dict)
    said: str = ""


def lines(view: View, keys: Sequence[str] = tuple(KEYS)) -> list[str]:
    """The view as lines for a terminal, always as many."""
    rows = [f"{name:>12} {bar(u)} {v:6.3f}" for name, u, v in zip(CONTROL_NAMES, view.unit, view.values, strict=True)]
    inputs = "  ".join(f"{name} {'alive' if ok else 'masked'}" for name, ok in view.alive.items())
    state = " ".join(w for w, on in (("FROZEN", view.frozen), ("NEUTRAL", view.neutral), ("HELD", view.held)) if on)
    last, p95 = (f"{ms:.1f}" if ms == ms else "-" for ms in view.latency_ms)
    clock = f"{view.t_us / 1e6:8.1f} s"
    rows.append(f"{'inputs':>12} {inputs or '-'}")
    rows.append(f"{'time':>12} {clock}   latency {last} ms (p95 {p95})   missed {view.missed}   {_beat(view)}")
    rows.append(f"{'ports':>12} {'  '.join(f'{name} {how}' for name, how in view.ports.items()) or '-'}   {state}")
    rows.append(f"{'':>12} {view.said}")
    rows.append(f"{'keys':>12} {'  '.join(f'{k} {KEYS[k]}' for k in keys)}")
    return rows


def bar(share: float) -> str:
    """A bar of 30 characters for a share of 0..1."""
    full = round(BAR * min(1.0, max(0.0, share))) if share == share else 0
    return "|" + "#" * full + "-" * (BAR - full) + "|"


def _beat(view: View) -> str:
    if view.beat is None or view.bpm is None:
        return "no beat"
    dots = "".join("o" if k == int(view.beat) % 4 else "." for k in range(4))
    return f"{dots} {view.bpm:.1f} bpm"
