"""A report as Markdown: the same facts as the page, without the drawings."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from choreo_cli.report.run_metrics import SYMBOL, number

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#~])")
MARK = {"PROMOTE": "✓", "HOLD": "✗", "INCOMPLETE": "○"}


def page(doc: Mapping[str, Any]) -> str:
    """The whole report."""
    parts = [_decision(doc["decision"])]
    if doc["comparison"] is not None:
        parts.append(_comparison(doc["comparison"]))
    parts += [
        _runs(doc),
        _datasets(doc["datasets"]),
        _latency(doc["latency"]),
        _metrics(doc["metrics"]),
        _figures(doc["figures"]),
    ]
    parts += [_reproduction(doc["reproduction"]), _environment(doc["environment"]), _missing(doc["evidence"])]
    made = doc["created_by"]
    inputs = ", ".join(f"{i['schema']} {i['sha256'][:12]}" for i in made["inputs"])
    parts.append(f"---\nchoreo {made['choreo']}, report {made['run_id']}, from {inputs}")
    return "\n\n".join(p for p in parts if p) + "\n"


def text(value: Any) -> str:
    """Text from data, with everything that Markdown or HTML would read as markup made harmless."""
    return _SPECIAL.sub(r"\\\1", " ".join(str(value).split()))


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; cells are ready text."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join([*lines, *("| " + " | ".join(r) + " |" for r in rows)])


def _decision(d: Mapping[str, Any]) -> str:
    lines = [f"# {MARK[d['word']]} {d['word']}", "", text(d["sentence"])]
    lines += ["", *(f"- {text(r)}" for r in d["reasons"])] if d["reasons"] else []
    lines += ["", f"Gates passed: {d['gates']['passed']} of {d['gates']['judged']}.", "", *map(text, d["scope"])]
    return "\n".join(lines)


def _comparison(c: Mapping[str, Any]) -> str:
    rows = [
        (
            text(r["name"]),
            number(r["a"]),
            number(r["b"]),
            number(r["gain"]),
            span(r["interval"]),
            r["verdict"],
            r["how"],
        )
        for r in c["rows"]
    ]
    head = ("figure", text(c["a"]), text(c["b"]), "gain", "95 % interval", "verdict", "how")
    return f"## Is {text(c['b'])} worse than {text(c['a'])}\n\n{table(head, rows)}"


def _runs(doc: Mapping[str, Any]) -> str:
    if not doc["runs"]:
        return ""
    rows = [
        (
            text(r["title"]), ", ".join(map(str, r["seeds"])), ", ".join(number(s) for s in r["steps"]),
            number(r["parameters"]), ", ".join(map(text, r["device"])), text(r["data"]),
            "synthetic" if r["synthetic"] else "recorded", "comparison" if r["beside"] else "judged",
        )
        for r in doc["runs"]
    ]  # fmt: skip
    out = "## Runs\n\n" + table(("run", "seeds", "steps", "parameters", "device", "data", "made of", "counts as"), rows)
    by_recipe: dict[str, list[Mapping[str, Any]]] = {}
    for d in doc["differences"]:
        by_recipe.setdefault(d["recipe"], []).append(d)
    for recipe, found in by_recipe.items():
        titles = list(found[0]["values"])
        lines = [(text(d["setting"]), *(text(d["values"][t]) for t in titles)) for d in found]
        out += f"\n\nSettings that differ, {text(recipe)}:\n\n" + table(("setting", *map(text, titles)), lines)
    return out


def _datasets(datasets: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        (
            text(d["name"]), ", ".join(f"{k} {n}" for k, n in d["sessions"].items()) or "MISSING", number(hours(d)),
            kind(d), text(d["licence"] or "MISSING"), leaks(d), "; ".join(map(text, d["notes"])) or "none",
        )
        for d in datasets
    ]  # fmt: skip
    head = ("dataset", "sessions", "hours", "made of", "licence", "split leaks", "notes")
    return "## Datasets\n\n" + (table(head, rows) if rows else "MISSING: no dataset is named.")


def hours(d: Mapping[str, Any]) -> float | None:
    """Hours of all splits together."""
    return sum(d["hours"].values()) or None


def kind(d: Mapping[str, Any]) -> str:
    """`synthetic`, `recorded` or what else is known, with the word for a negative control."""
    word = {True: "synthetic", False: "recorded", None: "mixed or unknown"}[d["synthetic"]]
    return f"{word}, decoupled" if d["decoupled"] else word


def leaks(d: Mapping[str, Any]) -> str:
    """The leak check in words."""
    if d["leaks"]:
        return "✗ " + "; ".join(map(text, d["leaks"]))
    return "✓ none found" if d["leaks_checked"] else "no split: nothing was held out by it"


def value(r: Mapping[str, Any]) -> str:
    """A figure with its unit."""
    return (
        number(r["value"])
        if r["unit"] in ("", "1") or r["value"] is None
        else f"{number(r['value'])} {text(r['unit'])}"
    )


def count(r: Mapping[str, Any]) -> str:
    """How many observations; of a figure over seeds, how many seeds."""
    return f"{number(r['n'])} seeds" if len(r["seeds"]) > 1 else number(r["n"])


def span(interval: Sequence[float] | None) -> str:
    """An interval as text."""
    return "–" if interval is None else f"{number(interval[0])} to {number(interval[1])}"


def _metrics(rows: Sequence[Mapping[str, Any]]) -> str:
    lines = [
        (
            text(f"{r['name']} {r['of']}"), text(r["source"]), value(r),
            span(r["interval"]), count(r), number(r["chance"]), number(r["p"]), text(r["gate"]) or "–",
            f"{SYMBOL[r['verdict']]} {r['verdict']}" + (f": {text(r['why'])}" if r["why"] and r["goal"] else ""),
        )
        for r in rows
    ]  # fmt: skip
    head = ("metric", "of", "value", "95 % interval", "n", "chance", "p", "gate", "verdict")
    return "## Metrics against gates\n\n" + (table(head, lines) if lines else "MISSING: no figure was given.")


def _latency(ledgers: Sequence[Mapping[str, Any]]) -> str:
    parts = []
    for ledger in ledgers:
        lines = [f"### {text(ledger['session'])}", "", text(told_of(ledger))]
        if not ledger["virtual"]:
            head = ("stage [ms]", "p50", "p95", "p99", "max", "n")
            rows = [(text(r["what"]), *(number(r[p]) for p in (*head[1:],))) for r in ledger["stages"]]
            lines += ["", table(head, rows)]
            if ledger["receivers"]:
                apart = [(text(r["what"]), *(number(r[p]) for p in (*head[1:],))) for r in ledger["receivers"]]
                lines += ["", "The receiver, apart from these:", "", table(("receiver [ms]", *head[1:]), apart)]
        parts.append("\n".join([*lines, "", *(f"- {text(note)}" for note in ledger["notes"])]))
    return "## Latency ledger\n\n" + "\n\n".join(parts) if parts else ""


def told_of(ledger: Mapping[str, Any]) -> str:
    """What holds for all stages of a performance: frames, missed, period, receiver, jitter."""
    told = f"{number(ledger['frames'])} frames of {number(ledger['period_ms'])} ms, {number(ledger['missed'])} missed"
    told += f", {number(ledger['held'])} held; receiver {ledger['receiver'] or 'none'}"
    if ledger["virtual"]:
        return told + "; played in virtual time, which takes none: no figure means anything."
    jitter = ledger["jitter_ms"]
    return told + ("." if jitter is None else f"; standard deviation of the sending intervals {number(jitter)} ms.")


def _figures(figures: Sequence[Mapping[str, Any]]) -> str:
    if not figures:
        return ""
    return "## Figures in the page\n\n" + "\n".join(f"- {text(f['title'])}: {text(f['text'])}" for f in figures)


def _reproduction(r: Mapping[str, Any]) -> str:
    if not r["script"]:
        return "## Do it again\n\nMISSING: nothing to run."
    fence = "```"
    while fence in r["script"]:
        fence += "`"
    return f"## Do it again\n\nIn an empty folder:\n\n{fence}sh\n{r['script']}{fence}"


def _environment(e: Mapping[str, Any]) -> str:
    out = "## Where it ran\n\n"
    if e["differs"]:
        steps = e["steps"]
        rows = [(text(d["fact"]), *(text(d["values"][s]) for s in steps)) for d in e["differs"]]
        out += table(("differs", *map(text, steps)), rows) + "\n\n"
    elif len(e["steps"]) > 1:
        out += "All steps ran in the same surroundings.\n\n"
    out += "; ".join(f"{text(k)} {text(v)}" for k, v in e["same"].items()) or "MISSING: no run record."
    return out + (f"\n\nMISSING: no record of {', '.join(map(text, e['unknown']))}." if e["unknown"] else "")


def _missing(evidence: Sequence[Mapping[str, Any]]) -> str:
    lines = [f"- {'✓' if e['there'] else '○ MISSING'} {text(e['what'])}: {text(e['text'])}" for e in evidence]
    return "## Evidence\n\n" + "\n".join(sorted(lines, key=lambda s: "MISSING" not in s))
