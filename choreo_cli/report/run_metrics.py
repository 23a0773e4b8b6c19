"""Figures against their gates: one row each, seeds taken together, and a verdict that says why there is none."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from choreo_cli.report.run_artefact import Artefact
from choreo_cli.report.run_groups import Group

Entry = Mapping[str, Any]
Row = dict[str, Any]
# What a row counts for: `judged` decides, `control` must fail, `beside` is a comparison, a `finding` is only told.
ROLES = ("judged", "control", "beside", "finding")
SYMBOL = {
    "pass": "✓", "fail": "✗", "not judged": "○", "no gate": "·", "fails, as it must": "✓", "passes": "✗",
    "holds": "·", "does not hold": "·", "cannot be told": "·",
}  # fmt: skip
TONE = {"✓": "good", "✗": "bad", "○": "open", "·": "none"}


def group_rows(group: Group) -> list[Row]:
    """Rows of a group's held-out figures: over seeds when there are several, else as the run states them."""
    lists = [r.entry["metrics"] if isinstance(r.entry["metrics"], list) else [] for r in group.runs]
    role = "beside" if group.beside else "judged"
    if len(lists) == 1:
        return [row(e, group.title, role) for e in lists[0]]
    by_name: dict[tuple[str, int], list[Entry]] = {}
    for entries in lists:
        for key, e in _numbered(entries):
            by_name.setdefault(key, []).append(e)
    return [over_seeds(found, group.title, role, len(lists)) for found in by_name.values()]


def evaluation_rows(source: Artefact, made_of: Mapping[str, Artefact]) -> list[Row]:
    """Rows of a `choreo.metrics/1`; those of decoupled sessions are the negative control."""
    control = is_control(source, made_of)
    title = str(source.made_by.get("command") or source.name)
    found = []
    for same in _same_figure(source.manifest.entries):
        role = "control" if control or decoupled(same[0]) else "judged"
        name = f"{title}, decoupled control" if role == "control" else title
        found.append(row(same[0], name, role) if len(same) == 1 else over_seeds(same, name, role, len(same)))
    return found


def _same_figure(entries: Sequence[Entry]) -> list[list[Entry]]:
    """Entries that state one figure for several runs of a recipe stand together; every other one stands alone."""
    found: dict[Any, list[Entry]] = {}
    for k, e in enumerate(entries):
        p = e["params"] if isinstance(e["params"], dict) else {}
        of_run = "run" in p and "session" not in p and "over" not in p
        found.setdefault((e["name"], p.get("recipe")) if of_run else k, []).append(e)
    return list(found.values())


def is_control(source: Artefact, made_of: Mapping[str, Artefact]) -> bool:
    """Whether figures were measured on decoupled sessions: their own parameters say so, or those of their inputs."""
    if _says_decoupled(source.made_by.get("params")):
        return True
    inputs = source.made_by.get("inputs") or []
    origins = [made_of.get(str(i.get("sha256"))) for i in inputs if isinstance(i, dict)]
    return any(a is not None and _says_decoupled(a.made_by.get("params")) for a in origins)


def decoupled(entry: Entry) -> bool:
    """Whether one entry says that it is the negative control."""
    return "decoupled" in entry["name"] or _says_decoupled(entry["params"])


def row(e: Entry, source: str, role: str) -> Row:
    """One entry as a row of the report."""
    role = "finding" if is_m2(str(e["name"])) else role
    found = {
        "name": e["name"],
        "of": _of(e["params"]),
        "source": source,
        "role": role,
        "unit": e["unit"],
        "better": e["better"],
        "value": e["value"],
        "interval": list(e["ci"]) if e["ci"] is not None else None,
        "n": e["n"],
        "chance": e["chance"],
        "baseline": e["baseline"],
        "p": e["p"],
        "status": e["status"],
        "goal": e["goal"],
        "gate": gate_text(e),
        "seeds": _seed_values(e["params"]),
        "why": e["why"],
        "params": dict(e["params"]) if isinstance(e["params"], dict) else {},
    }
    found["verdict"] = verdict(e["goal"], e["pass"], role)
    return found


def over_seeds(entries: Sequence[Entry], source: str, role: str, seeds: int) -> Row:
    """One figure over several seeds: mean, 95 % interval of the mean (Student t), and a verdict that all must earn.

    A gate is passed when every seed passes it, failed when any seed fails it; a negative control the other way round.
    """
    values = [float(e["value"]) for e in entries if e["value"] is not None]
    first = entries[0]
    mean = math.fsum(values) / len(values) if values else None
    passes = [e["pass"] for e in entries]
    # One seed decides: the one that fails a gate, or the one that lets a decoupled control through.
    decisive = role == "control"
    passed = decisive if decisive in passes else None if None in passes else not decisive
    whys = [str(e["why"]) for e in entries if e["pass"] is None and e["why"]]
    merged = dict(first) | {
        "value": mean,
        "ci": student_interval(values),
        "n": len(values),
        "chance": _mean([e["chance"] for e in entries]),
        "p": max((e["p"] for e in entries if e["p"] is not None), default=None),
        "status": next((e["status"] for e in entries if e["status"] != "ok"), "ok"),
        "pass": passed,
        "why": whys[0] if whys and passed is None else None,
    }
    found = row(merged, source, role)
    found["seeds"], found["of"] = values, ""
    good = sum(p is True for p in passes)
    if first["goal"] is not None and good < seeds:
        found["why"] = f"{good} of {seeds} seeds pass" + (f"; {found['why']}" if found["why"] else "")
    return found


def student_interval(values: Sequence[float]) -> list[float] | None:
    """95 % interval of a mean, None for fewer than two values."""
    if len(values) < 2:
        return None
    from scipy.stats import t

    mean = math.fsum(values) / len(values)
    spread = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1) / len(values))
    half = float(t.ppf(0.975, len(values) - 1)) * spread
    return [mean - half, mean + half]


def verdict(goal: Any, passed: bool | None, role: str) -> str:
    """The word for a row; of a negative control, failing is what it must do."""
    if goal is None:
        return "no gate"
    if role == "finding":
        return {True: "holds", False: "does not hold", None: "cannot be told"}[passed]
    if passed is None:
        return "not judged"
    if role == "control":
        return "passes" if passed else "fails, as it must"
    return "pass" if passed else "fail"


def gate_text(e: Entry) -> str:
    """A gate as a person reads it; empty without one."""
    if e["goal"] is None:
        return ""
    sign = {">=": "≥", "<=": "≤"}[e["goal"]["op"]]
    text = f"{sign} {number(e['goal']['value'])}"
    p_max = e["params"].get("p_max") if isinstance(e["params"], dict) else None
    return f"{text} and p ≤ {number(p_max)}" if isinstance(p_max, int | float) else text


def number(value: float | None) -> str:
    """A figure to three digits; whole numbers in full, with a narrow space between thousands."""
    if value is None:
        return "–"
    if value < 0:
        return f"−{number(-value)}"
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}".replace(",", "\u202f")
    if abs(value) >= 1000:
        return f"{value:,.0f}".replace(",", "\u202f")
    if 0 < abs(value) < 0.001:
        mantissa, _, power = f"{value:.1e}".partition("e")
        return f"{mantissa}e{int(power)}"
    return f"{value:.3g}"


def _numbered(entries: Iterable[Entry]) -> list[tuple[tuple[str, int], Entry]]:
    """Entries by name and occurrence, so that a name that comes twice stays two figures."""
    count: dict[str, int] = {}
    found = []
    for e in entries:
        name = str(e["name"])
        found.append(((name, count.get(name, 0)), e))
        count[name] = count.get(name, 0) + 1
    return found


def is_m2(name: str) -> bool:
    """Whether a figure is about what the normaliser (M2) does to the mapper: a finding, not a gate."""
    low = name.lower()
    return "normalizer_effect" in low or "normaliser_effect" in low or "m2" in low.replace(".", "_").split("_")


def _of(params: Any) -> str:
    """Which session and seed a figure is about, when it says so."""
    p = params if isinstance(params, dict) else {}
    session = [str(p["session"])] if "session" in p else []
    return ", ".join([*session, *([f"seed {p['seed']}"] if session and "seed" in p else [])])


def _seed_values(params: Any) -> list[float]:
    """Values by seed of an entry that was brought together over seeds before."""
    if not isinstance(params, dict) or params.get("over") != "seeds" or not isinstance(params.get("values"), list):
        return []
    return [float(v) for v in params["values"] if isinstance(v, int | float)]


def _mean(values: Iterable[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return math.fsum(known) / len(known) if known else None


def _says_decoupled(params: Any) -> bool:
    return isinstance(params, dict) and bool(params.get("decoupled"))
