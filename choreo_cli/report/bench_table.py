"""Metric entries as rows of text for a person: figure, goal and verdict, beside baseline and floor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

HEADER = ("row", "value", "goal", "met", "baseline", "better", "floor")
VERDICT = {True: "yes", False: "NO", None: "-"}


def rows(entries: Sequence[dict[str, Any]]) -> list[tuple[str, ...]]:
    """One row of `HEADER` for each entry."""
    return [
        (
            e["name"],
            "-" if e["value"] is None else f"{number(e['value'])} {e['unit']}",
            "-" if e["goal"] is None else f"{e['goal']['op']} {number(e['goal']['value'])}",
            VERDICT[e["pass"]],
            named(e["baseline"]),
            "-" if e["ratio"] is None else f"{number(e['ratio'])}x",
            named(e["floor"]),
        )
        for e in entries
    ]


def number(value: float) -> str:
    """A figure to three digits, whole numbers in full, large ones with a thousands sign."""
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}".replace(",", " ")
    if abs(value) >= 1000:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.3g}"


def named(pair: dict[str, Any] | None) -> str:
    """`{name, value}` as text."""
    return "-" if pair is None else f"{number(pair['value'])} {pair['name']}"


def remarks(entries: Sequence[dict[str, Any]]) -> list[str]:
    """A line for each row that missed its goal or that nobody could judge although it has one."""
    lines = []
    for e in entries:
        if e["pass"] is False:
            want = f"{e['goal']['op']} {number(e['goal']['value'])} {e['unit']}"
            lines.append(f"{e['name']} misses its goal: {number(e['value'])}, needs {want}")
        elif e["pass"] is None and (e["goal"] is not None or e["status"] != "ok"):
            lines.append(f"{e['name']} is not judged: {e['why']}")
    return lines
