"""A report as files, as lines for a terminal, and as an answer for the shell."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from choreo_cli.report import run_markdown, run_page
from choreo_cli.report.run_document import Report
from choreo_cli.report.run_draw import files as drawn
from choreo_cli.report.run_metrics import SYMBOL, number
from formats.sealed import dumps

Columns = Callable[[Sequence[Sequence[str]], Sequence[str]], list[str]]


def encode(report: Report) -> bytes:
    """`report.json`: the document, sealed with its own sha256."""
    return dumps(report.document)


def files(report: Report, document: bytes) -> dict[str, bytes]:
    """What `-o DIR` receives; `report.json` comes last, so that its presence means complete."""
    return {
        "report.html": run_page.page(report.document, report.figures),
        "report.md": run_markdown.page(report.document).encode("utf-8"),
        "report.json": document,
    }


def drawings(report: Report) -> dict[str, bytes]:
    """What `--figures DIR` receives: a PDF and a PNG of every drawing that there is."""
    found: dict[str, bytes] = {}
    for f in report.figures:
        if f.draw is not None:
            found |= drawn(f.draw, f.name, f.height_mm, f.double)
    return found


def lines(report: Report, columns: Columns) -> list[str]:
    """The report for a terminal: decision, gates, what is missing."""
    doc = report.document
    decision = doc["decision"]
    found = [f"{run_markdown.MARK[decision['word']]} {decision['word']}: {decision['sentence']}"]
    if doc["comparison"] is not None:
        c = doc["comparison"]
        rows = [
            (r["name"], number(r["a"]), number(r["b"]), run_markdown.span(r["interval"]), r["verdict"], r["how"])
            for r in c["rows"]
        ]
        found += ["", *columns(rows, ("figure", c["a"], c["b"], "gain, 95 %", "verdict", "how"))]
    gates = [r for r in doc["metrics"] if r["goal"] is not None and r["role"] != "beside"]
    if gates:
        shown = [
            (r["name"], number(r["value"]), run_markdown.span(r["interval"]), r["gate"], _verdict(r)) for r in gates
        ]
        found += ["", *columns(shown, ("figure", "value", "95 % interval", "gate", "verdict"))]
    missing = [e for e in doc["evidence"] if not e["there"]]
    found += ["", *(f"MISSING {e['what']}: {e['text']}" for e in missing)] if missing else []
    return [*found, ""]


def comparison_exit(report: Report) -> int:
    """0 when B is not worse, 1 when it is, 3 when no figure could be judged."""
    c: dict[str, Any] = report.document["comparison"]
    if c["worse"]:
        return 1
    return 3 if not c["better"] and not c["same"] else 0


def _verdict(r: dict[str, Any]) -> str:
    return f"{SYMBOL[r['verdict']]} {r['verdict']}"
