"""An opened file as a JSON record and as lines for a person."""

from __future__ import annotations

from typing import Any

from choreo_cli.report import summary
from choreo_cli.report.content import Content
from choreo_cli.report.histogram import line

_LONG = 160
_ITEMS = 12


def record(content: Content) -> dict[str, Any]:
    """Everything `choreo inspect` found, JSON values only."""
    return {
        "file": content.path.name,
        "schema": content.schema,
        "kind": content.kind,
        "ok": not content.problems,
        "rows": content.rows,
        "facts": plain(content.facts),
        "clock": summary.of_clock(content),
        "columns": [summary.of_signal(s) for s in content.signals],
        "problems": content.problems,
        "notes": content.notes,
    }


def plain(value: Any) -> Any:
    """Numpy scalars, tuples and what is not finite as JSON values."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(v) for v in (sorted(value, key=str) if isinstance(value, set | frozenset) else value)]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float) and value - value != 0.0:
        return None
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)


def facts_lines(found: dict[str, Any]) -> list[str]:
    """Title, facts, clock, problems and notes: the lines around the table of columns."""
    lines = [f"{found['file']}: {found['schema']}, {found['rows']} rows"]
    for key, value in found["facts"].items():
        lines.append(f"  {key}: {_short(value)}")
    clock = found["clock"]
    if clock is not None and clock["rate_hz"] is not None:
        steps = " / ".join(f"{v:g}" for v in clock["step_ms"])
        gaps = f"{clock['gaps']} gaps, longest {clock['longest_gap_s']:g} s" if clock["gaps"] else "no gaps"
        odd = f", {clock['backward']} backward, {clock['repeated']} repeated"
        lines.append(f"  clock: {clock['rate_hz']:g} Hz over {clock['span_s']:g} s, steps {steps} ms, {gaps}{odd}")
    return lines


def problem_lines(found: dict[str, Any]) -> list[str]:
    return [f"BROKEN {p}" for p in found["problems"]] + [f"note: {n}" for n in found["notes"]]


HEADER = ("column", "unit", "n", "missing", "min", "median", "max", "|z|>5", "distribution")


def column_rows(found: dict[str, Any]) -> list[tuple[str, ...]]:
    """One row of text for each column."""
    rows: list[tuple[str, ...]] = []
    for c in found["columns"]:
        start = (c["name"], c["unit"], str(c["n"]), str(c["missing"] or "-"))
        if c["type"] == "bool":
            share = f"{100 * c['true'] / c['n']:.1f} % true" if c["n"] else ""
            rows.append((*start, "", "", "", "", share))
        elif c["type"] == "text":
            common = ", ".join(f"{k} ({n})" if n > 1 else k for k, n in list(c["common"].items())[:3])
            rest = f", {c['distinct']} in all" if c["distinct"] > 3 else ""
            rows.append((*start, "", "", "", "", f"{common}{rest}"))
        else:
            figures = tuple("" if c[k] is None else _number(c[k]) for k in ("min", "median", "max"))
            odd = str(c["outliers"] or "-") + (f" +{c['infinite']} inf" if c["infinite"] else "")
            rows.append((*start, *figures, odd, line(c["histogram"])))
    return rows


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.5g}"


def _short(value: Any) -> str:
    if isinstance(value, dict):
        items = list(value.items())
        text = ", ".join(f"{k} {_short(v)}" for k, v in items[:_ITEMS])
        text += f", ... {len(items)} in all" if len(items) > _ITEMS else ""
    elif isinstance(value, list):
        text = ", ".join(_short(v) for v in value[:_ITEMS])
        text += f", ... {len(value)} in all" if len(value) > _ITEMS else ""
    else:
        text = f"{value:g}" if isinstance(value, float) else str(value)
    text = " ".join(text.split())
    return text if len(text) <= _LONG else f"{text[: _LONG - 1]}~"
