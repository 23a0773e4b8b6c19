"""A comparison of branches as one page that needs nothing else, as Markdown with its pictures, and as JSON."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from choreo_cli.report import compare_markdown as words
from choreo_cli.report.compare_figures import make_figures
from choreo_cli.report.run_draw import SCREEN_MM, svg
from choreo_cli.report.run_draw import files as drawn_files
from choreo_cli.report.run_figures import Figure
from choreo_cli.report.run_page import TEMPLATES
from formats.sealed import dumps

Doc = Mapping[str, Any]
MARKDOWN, PAGE, DOCUMENT = "PARALLEL_RESULTS_COMPARISON.md", "comparison.html", "comparison.json"
WIDE_MM = 2.05 * SCREEN_MM  # both columns of the page
TONE = {"WINNER": "good", "NO SIGNIFICANT WINNER": "none", "INCOMPLETE": "open"}
CLASS_TONE = {"beats it": "good", "loses to it": "bad", "tied with it": "none"}


def encode(doc: Doc) -> bytes:
    """`comparison.json`, sealed with its own sha256."""
    return dumps(dict(doc))


def files(doc: Doc, pictures: Mapping[str, bytes]) -> dict[str, bytes]:
    """What `-o DIR` receives; `comparison.json` comes last, so that its presence means complete.

    Args:
        doc: `choreo.comparison/1`.
        pictures: PNG by the names that its failures give.
    """
    figures = make_figures(doc)
    found: dict[str, bytes] = {f"failures/{name}": data for name, data in sorted(pictures.items())}
    for f in figures:
        if f.draw is not None:
            made = drawn_files(f.draw, f.name, f.height_mm, f.double, ("png",))
            found[f"figures/{f.name}.png"] = made[f"{f.name}.png"]
    found[MARKDOWN] = words.page(doc, figures).encode("utf-8")
    found[PAGE] = page(doc, figures, pictures)
    found[DOCUMENT] = encode(doc)
    return found


def page(doc: Doc, figures: Sequence[Figure], pictures: Mapping[str, bytes]) -> bytes:
    """The HTML. Everything that comes from data is escaped; only our own drawings are not."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    env = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    env.filters.update(
        percent=words.percent, span=words.span, p=words.p_value, seconds=words.seconds, whole=words.whole
    )
    drawn = {
        f.name: Markup(svg(f.draw, f.name, f.height_mm, f.title, f.text, WIDE_MM if f.double else SCREEN_MM))
        for f in figures if f.draw is not None
    }  # fmt: skip
    text = env.get_template("compare.html.j2").render(
        doc=doc, figures={f.name: f for f in figures}, drawn=drawn, words=words, mark=words.MARK, tone=TONE,
        class_tone=CLASS_TONE, style=Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),
        spaces=[f for f in figures if f.name.startswith("space-")],
        picture=lambda name: Markup("data:image/png;base64,") + b64encode(pictures[name]).decode(),
        share=lambda n, row: f"{100 * n / max(sum(row), 1):.0f}",
    )  # fmt: skip
    return text.encode("utf-8")


def lines(doc: Doc, columns: Callable[[Sequence[Sequence[str]], Sequence[str]], list[str]]) -> list[str]:
    """The comparison for a terminal: verdict, branches, what is missing."""
    verdict = doc["verdict"]
    found = [f"{words.MARK[verdict['word']]} {verdict['word']}: {verdict['sentence']}"]
    found += [f"  {r}" for r in verdict["reasons"]]
    rows = [
        (
            b["branch"], str(len(b["seeds"]) or "all"), words.percent(b["accuracy"]), words.span(b["accuracy_ci"], 100),
            f"{b['mae_pct']:.2f} %", words.span(b["mae_pct_ci"]), words.seconds(b["cost"].get("cpu_s")),
        )
        for b in [*doc["branches"], *([{**doc["ensemble"], "seeds": []}] if doc["ensemble"] else [])]
    ]  # fmt: skip
    found += ["", *columns(rows, ("branch", "seeds", "accuracy", "95 %", "forecast error", "95 %", "CPU"))]
    found += ["", *(f"{r['branch']}: class {r['class']}, forecast {r['forecast']}" for r in doc["against_baseline"])]
    return [*found, *(f"MISSING {m}" for m in doc["missing"]), ""]
