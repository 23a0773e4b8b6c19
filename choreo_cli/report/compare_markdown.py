"""A comparison of branches as Markdown: the same document as the page, in the same order."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from choreo_cli.report.run_figures import Figure

Doc = Mapping[str, Any]
MARK = {"WINNER": "✓", "NO SIGNIFICANT WINNER": "=", "INCOMPLETE": "○"}
GROUPS = {"sigma": "noise (sigma)", "style": "style", "azimuth": "camera azimuth", "elevation": "camera elevation",
          "family": "family"}  # fmt: skip


def percent(value: float | None, digits: int = 2) -> str:
    """A share as percent."""
    return "-" if value is None else f"{100 * value:.{digits}f} %"


def span(ci: Sequence[float] | None, factor: float = 1.0, digits: int = 2, sign: bool = False) -> str:
    """An interval."""
    if ci is None:
        return "-"
    plus = "+" if sign else ""
    return " to ".join(f"{factor * v:{plus}.{digits}f}" for v in ci)


def p_value(p: float | None) -> str:
    """A p-value; below a thousandth only that it is."""
    return "-" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def seconds(value: float | None) -> str:
    """A duration."""
    if value is None:
        return "-"
    return f"{value:.0f} s" if value < 600 else f"{value / 60:.0f} min"


def whole(value: float | None) -> str:
    """A count with commas."""
    return "-" if value is None else f"{value:,.0f}"


def page(doc: Doc, figures: Sequence[Figure]) -> str:
    """`PARALLEL_RESULTS_COMPARISON.md`."""
    verdict = doc["verdict"]
    drawn = {f.name: f for f in figures}
    parts = ["# Branches compared", "", "## The rule, fixed before any number was seen", ""]
    parts += [f"- {line}" for line in doc["rule"]]
    parts += ["", f"## {MARK[verdict['word']]} {verdict['word']}", "", verdict["sentence"], ""]
    parts += [f"- {line}" for line in verdict["reasons"]]
    parts += [f"- MISSING: {line}" for line in doc["missing"]]
    parts += ["", "## Branches", "", *_branches(doc), "", *_picture(drawn["standing"])]
    parts += ["", "## Against branch 0", "", *_against(doc)]
    parts += ["", "## Paired tests", "", *_pairs(doc)]
    parts += ["", "## Baselines of the forecast", "", *_baselines(doc)]
    parts += ["", "## Confusion", "", *_confusions(doc)]
    for name in ("learning", "noise", "steps", "calibration"):
        parts += ["", f"## {drawn[name].title}", "", *_picture(drawn[name])]
    parts += ["", "## Breakdown", "", *_breakdown(doc)]
    parts += ["", "## Paths in space", ""]
    for f in figures:
        parts += _picture(f) if f.name.startswith("space-") else []
    parts += ["", "## The worst clips", "", GALLERY, "", *_failures(doc)]
    parts += ["", "## Equations and sentences", "", *_words(doc)]
    parts += ["", "## Where it came from", "", *_origin(doc)]
    return "\n".join(parts).replace("<", "&lt;") + "\n"  # names come from data, and nothing here is HTML


GALLERY = (
    "Wrong class by most seeds first, then the largest forecast error. Each strip: every second frame, then the path"
    " that was shown (grey), the true next points (green) and the forecast (red) in the image."
)


def table(header: Sequence[str], rows: Iterable[Sequence[Any]], numbers: int = 1) -> list[str]:
    """A Markdown table; columns from `numbers` on are set to the right."""
    marks = ["---" if k < numbers else "---:" for k in range(len(header))]
    return [_line(header), _line(marks), *(_line(r) for r in rows)]


def _line(cells: Sequence[Any]) -> str:
    return "| " + " | ".join(str(c).replace("|", "\\|").replace("\n", " ") for c in cells) + " |"


def _picture(f: Figure) -> list[str]:
    if f.draw is None:
        return [f"*{f.text}*", ""]
    return [f"![{f.title}](figures/{f.name}.png)", "", f"*{f.text}*", ""]


def _branches(doc: Doc) -> list[str]:
    header = ("branch", "seeds", "accuracy", "95 %", "forecast error", "95 %", "skill", "RMSE", "ADE", "FDE", "lateral",
              "depth", "ECE", "parameters", "CPU")  # fmt: skip
    rows: list[Sequence[Any]] = [
        (
            b["branch"], ",".join(map(str, b["seeds"])), percent(b["accuracy"]), span(b["accuracy_ci"], 100),
            f"{b['mae_pct']:.2f} %", span(b["mae_pct_ci"]), f"{b['skill']:.3f}", f"{b['rmse']:.3f}", f"{b['ade']:.3f}",
            f"{b['fde']:.3f}", f"{b['mae_pct_lateral']:.2f} %", f"{b['mae_pct_depth']:.2f} %",
            f"{b['calibration_error']:.3f}", whole(b["cost"].get("parameters")), seconds(b["cost"].get("cpu_s")),
        )
        for b in doc["branches"]
    ]  # fmt: skip
    e = doc["ensemble"]
    if e:
        known = percent(e["accuracy"]), span(e["accuracy_ci"], 100), f"{e['mae_pct']:.2f} %", span(e["mae_pct_ci"])
        rows.append(("**ensemble**", "all", *known, *["-"] * 6, f"{e['calibration_error']:.3f}", "-", "-"))
    found = table(header, rows, 2)
    return [*found, "", ensemble_words(e)] if e else found


def ensemble_words(e: Doc) -> str:
    """What the ensemble gains over the leader, in a sentence."""
    return (
        f"Ensemble of all runs against {e['against']} alone: {100 * e['gain']:+.2f} points of accuracy"
        f" ({span(e['gain_ci'], 100, sign=True)}), {e['mae_pct_gain']:+.2f} points of forecast error"
        f" ({span(e['mae_pct_gain_ci'], sign=True)})."
    )


def _against(doc: Doc) -> list[str]:
    if not doc["against_baseline"]:
        return ["MISSING: no branch0 among the runs, or nothing beside it."]
    rows = [
        (
            r["branch"], f"{100 * r['accuracy']:+.2f}", span(r["accuracy_ci"], 100, sign=True), r["class"],
            f"{r['mae_pct']:+.2f}", span(r["mae_pct_ci"], sign=True), r["forecast"],
        )
        for r in doc["against_baseline"]
    ]  # fmt: skip
    header = ("branch", "accuracy, points", "95 %", "class", "forecast error, points", "95 %", "forecast")
    return table(header, rows)


def _pairs(doc: Doc) -> list[str]:
    rows = [
        (
            f"{p['a']} - {p['b']}", f"{100 * p['accuracy']:+.2f}", span(p["accuracy_ci"], 100, sign=True),
            p_value(p["p"]), p_value(p["p_holm"]), p_value(p["mcnemar_p"]), f"{p['mae_pct']:+.2f}",
            span(p["mae_pct_ci"], sign=True),
        )
        for p in doc["pairs"]
    ]  # fmt: skip
    header = ("pair", "accuracy, points", "95 %", "p", "p (Holm)", "McNemar, first seeds", "error, points", "95 %")
    return table(header, rows) if rows else ["One branch alone has no pair."]


def _baselines(doc: Doc) -> list[str]:
    rows = [
        (b["name"], f"{b['mae_pct']:.2f} %", span(b["mae_pct_ci"]), *(f"{v:.2f}" for v in b["steps"]))
        for b in doc["baselines"]
    ]
    chance = percent(doc["chance"], 0)
    note = f"They see the noisy true points in space, which no branch does. Chance of the class: {chance}."
    return [*table(("baseline", "forecast error", "95 %", "step 1", "2", "3", "4"), rows), "", note]


def _confusions(doc: Doc) -> list[str]:
    found: list[str] = []
    for b in doc["branches"]:
        rows = [
            (name, *(f"{n} ({100 * n / max(sum(row), 1):.1f} %)" for n in row))
            for name, row in zip(doc["families"], b["confusion"], strict=True)
        ]
        found += [f"**{b['branch']}**, all seeds; rows are the truth", "", *table(("", *doc["families"]), rows), ""]
    return found


def _breakdown(doc: Doc) -> list[str]:
    names = [b["branch"] for b in doc["branches"]]
    rows = []
    for group, value, n, cells in broken(doc):
        rows.append(
            (
                GROUPS.get(group, group),
                value,
                n,
                *(f"{100 * c['accuracy']:.1f} % / {c['mae_pct']:.2f} %" for c in cells),
            )
        )
    where = "the grid" if doc["set"]["breakdown_split"] == "grid" else "the test views"
    return [f"Accuracy / forecast error on {where}.", "", *table(("by", "value", "videos", *names), rows, 2)]


def broken(doc: Doc) -> list[tuple[str, str, int, list[Doc]]]:
    """(group, value, videos, a row of each branch) in the order of the document."""
    keys = dict.fromkeys((r["group"], r["value"]) for r in doc["breakdown"])
    groups = list(dict.fromkeys(group for group, _ in keys))
    found = []
    for group, value in sorted(keys, key=lambda k: (groups.index(k[0]), _leading(k[1]))):
        cells = [r for r in doc["breakdown"] if r["group"] == group and r["value"] == value]
        shown = f"{value:g}" if isinstance(value, float) else str(value)
        found.append((group, shown, cells[0]["n"], cells))
    return found


def _leading(value: Any) -> float:
    """The number that a value begins with: 90-180 comes after 0-90."""
    found = re.match(r"[\d.]+", str(value))
    return float(found.group()) if found else 0.0


def _failures(doc: Doc) -> list[str]:
    found: list[str] = []
    for b in doc["branches"]:
        found += [f"**{b['branch']}**", ""]
        for f in (f for f in doc["failures"] if f["branch"] == b["branch"]):
            found += [f"![{f['family']}](failures/{f['picture']})", "", f"{f['place']}. {failure_words(f)}", ""]
    return found


def failure_words(f: Doc) -> str:
    """One failure in a line."""
    return (
        f"clip {f['row']}: {f['family']}, said {f['said']} ({percent(f['confidence'], 0)} sure, {f['seeds_wrong']}"
        f" seed{'' if f['seeds_wrong'] == 1 else 's'} wrong), error {f['mae_pct']:.1f} %,"
        f" sigma {f['sigma']:g}, {f['style']}, azimuth {f['azimuth']:.2f}, elevation {f['elevation']:.2f}"
    )


def _words(doc: Doc) -> list[str]:
    found = [WORDS, ""]
    rows = [(r["branch"], r["n"], *(percent(r[k], 1) if r["n"] else "-" for k in RATES)) for r in doc["words"]["rates"]]
    found += [
        *table(
            ("branch", "clips", "family", "by the fit alone", "parsed", "numeric", "within 10 %", "all facts right"),
            rows,
        ),
        "",
    ]
    found += ["**By language model**", "", *table(MODELS, model_rows(doc), 3), "", *model_reasons(doc), ""]
    for s in doc["words"]["samples"]:
        found += [f"**Clip {s['row']}, {s['family']}, sigma {s['sigma']:g}**", ""]
        told = [("truth", s["equation"], s["description"])]
        told += [(t["branch"], t["equation"], t["description"]) for t in s["told"]]
        found += [*table(("", "equation", "sentence"), [(a, f"`{b}`", c) for a, b, c in told], 3), ""]
    return found


SPOKEN = ("branch", "clips", "family", "by the fit alone", "parsed", "numeric", "within 10 %", "all facts right")
RATES = ("family", "fit_family", "parsed", "numeric", "within_10", "slots")
WORDS = (
    "The curve fit of the 16 points that a branch saw, in the family that it named (its first seed). A language model"
    " is given the fit, never the truth; what it answers is checked, asked for once more, and else told by template."
)
MODELS = ("branch", "model", "prompt", "clips", "used at once", "after a repair", "by template", "not asked",
          "all facts right", "of the model's own", "expected to parse")  # fmt: skip


def model_rows(doc: Doc) -> list[tuple[str, ...]]:
    """Which model worded which branch, and how that went; one row says why where none did."""
    found = []
    for m in doc["words"]["models"]:
        who = m["branch"] if m["seed"] is None else f"{m['branch']}, seed {m['seed']}"
        plan = "-" if m["expected"] is None else f"{m['expected'][0]:g}-{m['expected'][1]:g} %"
        name = m["model"] or m["engine"] or "-"
        if m["why"]:
            found.append((who, name, m["why"], *["-"] * 7, plan))
            continue
        n = max(m["n"], 1)
        asked = (
            f"{m['at_once']} ({100 * m['at_once'] / n:.0f} %)", str(m["by_model"] - m["at_once"]),
            str(m["fallback"] - m["not_asked"]), str(m["not_asked"]),
        ) if m["model"] else ("-",) * 4  # fmt: skip
        found.append(
            (
                who,
                name,
                m["prompt"] or "-",
                str(m["n"]),
                *asked,
                percent(m["slots"], 1),
                percent(m["model_slots"], 1),
                plan,
            )
        )
    return found


def model_reasons(doc: Doc) -> list[str]:
    """Why a model was not used, and under which settings it was asked."""
    found = []
    for m in doc["words"]["models"]:
        if m["model"] and not m["why"]:
            found.append(
                f"- {m['branch']}, {m['model']}: temperature {m['temperature']:g}, seed {m['model_seed']}, telling"
                f" {m['telling']}"
            )
            found += [f"- {n} by template: {why}" for why, n in m["reasons"]]
    return found


def _origin(doc: Doc) -> list[str]:
    s = doc["set"]
    rows = [
        (r["branch"], r["seed"], r["run"], r["choreo"], r["device"], "yes" if r["deterministic"] else "no",
         (r["predictions"] or "-")[:12])
        for r in doc["origin"]["runs"]
    ]  # fmt: skip
    found = [
        f"Set {s['sha256'][:12]}: {s['videos']} test videos of {s['curves']} unseen curves, {s['size']} px, size cue"
        f" {s['size_cue']}, seed {s['seed']}.",
        "", *table(("branch", "seed", "run", "choreo", "device", "bit for bit", "predictions"), rows), "",
    ]  # fmt: skip
    found += [f"- {line}" for line in doc["notes"]]
    return [*found, "", "```sh", *doc["origin"]["commands"], "```"]
