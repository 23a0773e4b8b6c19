"""A report as one page that needs nothing else: no script, no font, no request; light and dark; prints well."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from choreo_cli.report import run_markdown as words
from choreo_cli.report.run_draw import svg
from choreo_cli.report.run_figures import Figure
from choreo_cli.report.run_gauge import gauge
from choreo_cli.report.run_metrics import SYMBOL, TONE, number

TEMPLATES = Path(__file__).resolve().parent / "templates"
MAX_BYTES = 1_000_000
DECISION_TONE = {"PROMOTE": "good", "HOLD": "bad", "INCOMPLETE": "open"}


def page(doc: Mapping[str, Any], figures: Sequence[Figure]) -> bytes:
    """The HTML. Everything that comes from data is escaped; only our own drawings are not."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    env = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    env.filters.update(number=number, span=words.span)
    drawn = {f.name: Markup(svg(f.draw, f.name, f.height_mm, f.title, f.text)) for f in figures if f.draw is not None}
    text = env.get_template("report.html.j2").render(
        doc=doc,
        style=Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),
        drawn=drawn,
        gauge=lambda r: Markup(gauge(r)),
        breakable=lambda name: Markup("<wbr>").join(re.split(r"(?<=[._/])", str(name))),
        symbol=SYMBOL,
        tone=lambda verdict: TONE[SYMBOL[verdict]],
        decision_tone=DECISION_TONE,
        mark=words.MARK,
        hours=words.hours,
        told_of=words.told_of,
        kind=words.kind,
        count=words.count,
        recipes=_by_recipe(doc["differences"]),
        gated=_by_source(r for r in doc["metrics"] if r["goal"] is not None and r["role"] != "beside"),
        beside=_by_source(r for r in doc["metrics"] if r["goal"] is not None and r["role"] == "beside"),
        ungated=_by_source(r for r in doc["metrics"] if r["goal"] is None),
    )
    return text.encode("utf-8")


def _by_source(rows: Iterable[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """Rows by where they come from, in the order of the document."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for r in rows:
        found.setdefault(r["source"], []).append(r)
    return found


def _by_recipe(differences: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    found: dict[str, list[Mapping[str, Any]]] = {}
    for d in differences:
        found.setdefault(d["recipe"], []).append(d)
    return found
