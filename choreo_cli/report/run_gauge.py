"""A figure against its gate on one short line: interval, value, gate and chance level. Drawn for the eye alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

WIDTH, HEIGHT, PAD = 120.0, 16.0, 5.0


def gauge(r: Mapping[str, Any]) -> str:
    """SVG of one row of figures, empty when there is nothing to place: the numbers stand beside it as text."""
    value, goal = r["value"], r["goal"]
    if value is None or goal is None:
        return ""
    marks = [
        value,
        goal["value"],
        *(r["interval"] or ()),
        *r["seeds"],
        *([r["chance"]] if r["chance"] is not None else []),
    ]
    low, high = min(marks), max(marks)
    if r["unit"] == "1" and low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    room = (high - low) or abs(high) or 1.0

    def x(v: float) -> str:
        return f"{PAD + (WIDTH - 2 * PAD) * (v - low) / room:.1f}"

    mid, left, right = f"{HEIGHT / 2:g}", x(low), x(high)
    gate = x(goal["value"])
    good = (gate, right) if goal["op"] == ">=" else (left, gate)
    parts = [
        f'<line x1="{left}" x2="{right}" y1="{mid}" y2="{mid}" class="g-axis"/>',
        f'<line x1="{good[0]}" x2="{good[1]}" y1="{mid}" y2="{mid}" class="g-good"/>',
        f'<line x1="{gate}" x2="{gate}" y1="2" y2="14" class="g-gate"/>',
    ]
    if r["chance"] is not None:
        parts.append(f'<line x1="{x(r["chance"])}" x2="{x(r["chance"])}" y1="4" y2="12" class="g-chance"/>')
    if r["interval"]:
        a, b = (x(v) for v in r["interval"])
        parts.append(f'<line x1="{a}" x2="{b}" y1="{mid}" y2="{mid}" class="g-span"/>')
    parts += [f'<circle cx="{x(v)}" cy="{mid}" r="1.4" class="g-seed"/>' for v in r["seeds"]]
    parts.append(f'<circle cx="{x(value)}" cy="{mid}" r="3.2" class="g-value"/>')
    return f'<svg class="gauge" viewBox="0 0 {WIDTH:g} {HEIGHT:g}" aria-hidden="true">{"".join(parts)}</svg>'
