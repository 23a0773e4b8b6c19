"""Metric entries as rows of text for a person, and the verdict over all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Entry = dict[str, Any]

HEADER = ("figure", "value", "interval", "chance", "p", "goal", "verdict")
VERDICT = {True: "pass", False: "FAIL", None: "-"}


def rows(entries: Sequence[Entry]) -> list[tuple[str, ...]]:
    """One row of `HEADER` for each entry; a session's own figures are indented under its name."""
    return [
        (
            label(e),
            "-" if e["value"] is None else f"{number(e['value'])} {e['unit']}".removesuffix(" 1"),
            "-" if e["ci"] is None else f"{number(e['ci'][0])}..{number(e['ci'][1])}",
            "-" if e["chance"] is None else number(e["chance"]),
            "-" if e["p"] is None else number(e["p"]),
            goal(e),
            VERDICT[e["pass"]] if e["pass"] is not None or e["goal"] is None else e["status"].replace("ok", "?"),
        )
        for e in entries
    ]


def label(e: Entry) -> str:
    """The figure's name, of a branch after the branch; `  session-0004 phase_coherence` for one session's."""
    session, branch, value = (e["params"].get(k) for k in ("session", "branch", "value"))
    if session is not None:
        return f"  {session} {e['name'].split('.')[-2]}"
    return " ".join(str(p) for p in (branch, e["name"], value) if p is not None)


def goal(e: Entry) -> str:
    """`>= 0.6, p<=0.01`."""
    if e["goal"] is None:
        return "-"
    limit = e["params"].get("p_max")
    return f"{e['goal']['op']} {number(e['goal']['value'])}" + (f", p<={number(limit)}" if limit is not None else "")


def number(value: float) -> str:
    """A figure to three digits; whole ones from 1000 on in full."""
    return f"{value:.0f}" if 1000 <= abs(value) < 1e9 else f"{value:.3g}"


def remarks(entries: Sequence[Entry]) -> list[str]:
    """A line for each gate that failed or that could not be judged, and why."""
    lines = []
    for e in entries:
        if e["pass"] is False:
            p = "" if e["p"] is None or "p_max" not in e["params"] else f" at p {number(e['p'])}"
            lines.append(f"{e['name']} fails: {number(e['value'])}{p}, needs {goal(e)}")
        elif e["pass"] is None and e["goal"] is not None:
            lines.append(f"{e['name']} is not judged: {e['why']}")
    return lines


def failed(entries: Sequence[Entry]) -> bool:
    """Whether a gate was judged and failed."""
    return any(e["pass"] is False for e in entries)
