"""PROMOTE, HOLD or INCOMPLETE, and why: gates that failed, evidence that is there, evidence that is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from choreo_cli.report.run_groups import Group
from choreo_cli.report.run_metrics import Row, is_m2, number

PROMOTE, HOLD, INCOMPLETE = "PROMOTE", "HOLD", "INCOMPLETE"
SEEDS = 3
PAIRED_SEEDS = 5
GROOVE = {
    "phase coherence": ("phase_coherence", "phase coherence"),
    "energy correlation": ("energy_correlation", "energy correlation"),
    "drift stability": ("drift",),
}


@dataclass(frozen=True, slots=True)
class Evidence:
    """One thing a decision rests on.

    Args:
        what: Its name.
        there: Whether it was found.
        text: What was found, or what is missing and how to get it.
    """

    what: str
    there: bool
    text: str


def evidence(
    groups: Sequence[Group], rows: Sequence[Row], datasets: Sequence[Mapping[str, Any]], origins: Sequence[Evidence]
) -> list[Evidence]:
    """Everything that the claims of these runs ask for, found or missing.

    Args:
        groups: Runs, seeds together.
        rows: Every figure.
        datasets: Records of `run_datasets.dataset_rows`.
        origins: What the reproduction block found out about where things came from.
    """
    recipes = {g.recipe for g in groups}
    found = [_seeds(g) for g in groups if not g.beside]
    found += [_judged(rows)]
    if "rps" in recipes:
        found.append(_literal(groups))
    if "mapper" in recipes:
        found += [*_groove(rows), _control(rows), _m2(groups, rows)]
    if groups:
        found.append(_held_out(datasets))
    found += [_real(datasets), *_licences(datasets), *origins]
    return found


def decide(
    rows: Sequence[Row], datasets: Sequence[Mapping[str, Any]], proofs: Sequence[Evidence], damage: Sequence[str]
) -> dict[str, Any]:
    """The decision as a record: word, exit status, one sentence, and the reasons.

    A failed gate holds whatever else is missing: more evidence would not pass it.
    """
    failed = [_failed(r) for r in rows if r["verdict"] == "fail" and r["role"] == "judged"]
    failed += [
        f"{r['name']} of the decoupled control passes its gate, and must not" for r in rows if r["verdict"] == "passes"
    ]
    leaks = [f"{d['name']}: {leak}" for d in datasets for leak in d["leaks"]]
    missing = [e for e in proofs if not e.there]
    gates = [r for r in rows if r["role"] == "judged" and r["goal"] is not None]
    passed = sum(r["verdict"] == "pass" for r in gates)
    reasons = [*failed, *(f"leak: {x}" for x in leaks), *damage]
    if reasons:
        parts = [_count(len(failed), "gate failed", "gates failed"), _count(len(leaks), "leak", "leaks")]
        parts.append(_count(len(damage), "file is not what its run says", "files are not what their runs say"))
        word, code, sentence = HOLD, 1, f"{_joined([p for p in parts if p])}."
        if missing:
            sentence += f" {_missing(len(missing))} besides."
    elif missing:
        word, code = INCOMPLETE, 3
        sentence = f"Nothing failed, but {_missing(len(missing))}."
        reasons = [f"MISSING {e.what}: {e.text}" for e in missing]
    else:
        word, code = PROMOTE, 0
        sentence = "Every gate was judged and passed, nothing leaked, and no evidence is missing."
    return {
        "word": word,
        "exit": code,
        "sentence": sentence,
        "gates": {"judged": len(gates), "passed": passed},
        "reasons": reasons,
        "scope": scope(datasets),
    }


def scope(datasets: Sequence[Mapping[str, Any]]) -> list[str]:
    """What can and what cannot be concluded from these datasets, said aloud."""
    kinds = {d["synthetic"] for d in datasets}
    if not datasets:
        return ["No dataset is named: nothing can be said about where these figures hold."]
    if kinds == {True}:
        return [
            "Every session here is synthetic. The figures show that the method recovers what the generator put in,"
            " and that its controls fail where they should.",
            "They do not show that it works on recorded people: sensors, clocks, timing and bodies differ.",
        ]
    held = [len(d["held_out"]) for d in datasets if d["synthetic"] is False]
    if kinds == {False}:
        few = sum(held) < SEEDS
        text = f"Every session here was recorded; {sum(held)} of them {'is' if sum(held) == 1 else 'are'} held out."
        return [
            text,
            *(
                ["With so few held-out sessions an interval over sessions says little about other people."]
                if few
                else []
            ),
        ]
    return ["Synthetic and recorded sessions are both present; read each figure with the dataset it names."]


def _seeds(g: Group) -> Evidence:
    n = len(set(g.seeds))
    if n >= SEEDS:
        return Evidence(f"seeds of {g.title}", True, f"{n} seeds: {', '.join(map(str, g.seeds))}")
    how = f"choreo train {g.recipe} --seeds 0,1,2"
    return Evidence(f"seeds of {g.title}", False, f"{n} of at least {SEEDS} seeds; {how} makes them")


def _judged(rows: Sequence[Row]) -> Evidence:
    gates = [r for r in rows if r["role"] == "judged" and r["goal"] is not None]
    loose = [r for r in gates if r["verdict"] == "not judged"]
    if not gates:
        return Evidence("gates", False, "no figure has a gate: nothing was judged")
    if loose:
        names = "; ".join(f"{r['name']} ({r['why'] or r['status']})" for r in loose[:6])
        more = f" and {len(loose) - 6} more" if len(loose) > 6 else ""
        return Evidence("gates", False, f"{len(loose)} of {len(gates)} gates could not be judged: {names}{more}")
    return Evidence("gates", True, f"all {len(gates)} gates were judged")


def _literal(groups: Sequence[Group]) -> Evidence:
    form = next((g for g in groups if g.recipe == "rps" and g.beside and "literal" in g.ablation), None)
    if form is not None:
        return Evidence("literal RPS", True, f"stands beside the default ({_count(len(form.runs), 'run', 'runs')})")
    return Evidence("literal RPS", False, "no run of the literal loss beside the default; name one too")


def _groove(rows: Sequence[Row]) -> list[Evidence]:
    found = []
    for what, keys in GROOVE.items():
        mine = [r for r in rows if r["role"] == "judged" and any(k in r["name"] for k in keys)]
        measured = next((r for r in mine if r["value"] is not None), None)
        if measured is not None:
            found.append(Evidence(what, True, f"measured: {_shown(measured)}"))
        elif mine:
            found.append(Evidence(what, False, f"could not be measured: {mine[0]['why'] or mine[0]['status']}"))
        else:
            found.append(Evidence(what, False, "not measured; choreo evaluate groove RUN does it"))
    return found


def _control(rows: Sequence[Row]) -> Evidence:
    mine = [r for r in rows if r["role"] == "control" and r["goal"] is not None]
    if not mine:
        how = "choreo evaluate groove RUN --against DATA meets other sessions (choreo synth sessions with another seed)"
        return Evidence("decoupled control", False, f"no figure of controls on sessions that are not theirs; {how}")
    failing = sum(r["verdict"] == "fails, as it must" for r in mine)
    return Evidence("decoupled control", True, f"{failing} of {len(mine)} gates fail on it, as they must")


def _m2(groups: Sequence[Group], rows: Sequence[Row]) -> Evidence:
    mine = [r for r in rows if is_m2(r["name"])]
    if mine:
        if mine[0]["value"] is None or (mine[0]["n"] or 0) < PAIRED_SEEDS:
            have = f"{mine[0]['n'] or 0} paired seeds, need at least {PAIRED_SEEDS}"
            return Evidence("effect of M2", False, have)
        word = {"holds": "M2 lowers it", "does not hold": "M2 does not lower it"}.get(
            mine[0]["verdict"], mine[0]["why"]
        )
        return Evidence("effect of M2", True, f"loss variance with M2 over without: {_shown(mine[0])}; {word}")
    without = [g for g in groups if g.recipe == "mapper" and g.beside and g.ablation and "literal" not in g.ablation]
    judged = next((g for g in groups if g.recipe == "mapper" and not g.beside), None)
    both = set(judged.seeds) & set(without[0].seeds) if judged is not None and without else set()
    if len(both) >= PAIRED_SEEDS:
        return Evidence("effect of M2", True, f"{len(both)} paired seeds with and without it")
    have = f"{len(both)} paired seeds" if both else "no mapper without M2"
    return Evidence("effect of M2", False, f"{have}, need at least {PAIRED_SEEDS} paired seeds with and without it")


def _held_out(datasets: Sequence[Mapping[str, Any]]) -> Evidence:
    n = sum(len(d["held_out"]) for d in datasets)
    if n:
        return Evidence("held-out sessions", True, f"{n} sessions in val and test")
    return Evidence("held-out sessions", False, "no session is held out; train with --split loso or on more sessions")


def _real(datasets: Sequence[Mapping[str, Any]]) -> Evidence:
    real = [d for d in datasets if d["synthetic"] is not True]
    if real:
        return Evidence("real recordings", True, ", ".join(d["name"] for d in real))
    return Evidence("real recordings", False, "everything was learnt and judged on synthetic sessions")


def _licences(datasets: Sequence[Mapping[str, Any]]) -> list[Evidence]:
    lacking = [d["name"] for d in datasets if d["licence"] is None]
    return [Evidence(f"licence of {n}", False, "put a LICENSE file beside the data or its recordings") for n in lacking]


def _failed(r: Row) -> str:
    return f"{r['name']} ({r['source']}): {_shown(r)}, gate {r['gate']}" + (f"; {r['why']}" if r["why"] else "")


def _shown(r: Row) -> str:
    unit = f" {r['unit']}" if r["unit"] not in ("", "1") else ""
    p = f", p {number(r['p'])}" if r["p"] is not None else ""
    return f"{number(r['value'])}{unit}{p}"


def _count(n: int, one: str, many: str) -> str:
    return "" if n == 0 else f"{n} {one if n == 1 else many}"


def _missing(n: int) -> str:
    return f"{n} {'piece of evidence is' if n == 1 else 'pieces of evidence are'} missing"


def _joined(parts: Sequence[str]) -> str:
    text = ", ".join(parts[:-1]) + (" and " if len(parts) > 1 else "") + parts[-1]
    return text[:1].upper() + text[1:]
