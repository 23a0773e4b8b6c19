"""Figures of one model over several seeds: a mean with its interval, and a verdict that every seed must earn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from choreo_cli.errors import DataError, UsageError
from choreo_cli.metrics.bootstrap import seed_interval
from formats.metrics import validate

Entry = dict[str, Any]
Scored = tuple[Mapping[str, Any], Sequence[Entry]]

EVERY = "every seed passes"


def over_runs(scored: Sequence[Scored]) -> list[Entry]:
    """Entries of several runs as one list; those of one recipe are brought together by name.

    With one seed its entries stand as they are. With several the value is their mean, the interval Student's t over
    seeds (n = seeds), p the largest, and the gate is passed when every seed passes it and failed when any fails it: a
    mean may hide a seed that nobody should perform with.

    Args:
        scored: (`{run, recipe, seed}`, entries) of each run.
    """
    found: list[Entry] = []
    for recipe in dict.fromkeys(about["recipe"] for about, _ in scored):
        mine = [(about, entries) for about, entries in scored if about["recipe"] == recipe]
        if len(mine) == 1:
            about, entries = mine[0]
            found += [{**e, "params": {**e["params"], **about}} for e in entries]
            continue
        by_key: dict[tuple[str, int], list[tuple[Mapping[str, Any], Entry]]] = {}
        for about, entries in mine:
            seen: dict[str, int] = {}
            for e in entries:
                k = seen[e["name"]] = seen.get(e["name"], -1) + 1
                by_key.setdefault((e["name"], k), []).append((about, e))
        found += [_together(pairs, len(mine)) for pairs in by_key.values()]
    return found


def _together(pairs: Sequence[tuple[Mapping[str, Any], Entry]], runs: int) -> Entry:
    entries = [e for _, e in pairs]
    first = entries[0]
    values = [float(e["value"]) for e in entries if e["value"] is not None]
    passes = [e["pass"] for e in entries]
    complete = len(entries) == runs and None not in passes
    verdict = False if False in passes else True if complete else None
    reasons = sorted({str(e["why"]) for e in entries if e["why"]})
    missing = [f"{runs - len(entries)} of {runs} runs do not have this figure"] if len(entries) < runs else []
    ps = [e["p"] for e in entries if e["p"] is not None]
    chances = [e["chance"] for e in entries if e["chance"] is not None]
    better = min if first["better"] == "higher" else max
    made = {
        **first,
        "value": fmean(values) if values else None,
        "n": len(values),
        "ci": None if (ci := seed_interval(values)) is None else list(ci),
        "chance": fmean(chances) if chances else None,
        "baseline": None,
        "ratio": None,
        "p": max(ps) if ps else None,
        "status": next((e["status"] for e in entries if e["status"] != "ok"), "ok"),
        "params": {
            "over": "seeds", "interval": "Student t over seeds", "recipe": pairs[0][0]["recipe"],
            "seeds": [a["seed"] for a, _ in pairs], "runs": [a["run"] for a, _ in pairs],
            "values": [e["value"] for e in entries], "passes": passes,
            "worst": better(values) if values else None, "judged_by": EVERY, "of_first_run": first["params"],
        },
        "pass": verdict,
        "why": None if verdict is not None else "; ".join([*reasons, *missing]) or "no goal",
    }  # fmt: skip
    validate(made)
    return made


def paired_losses(
    having: Sequence[Mapping[str, Any]], lacking: Sequence[Mapping[str, Any]]
) -> list[tuple[int, float, float]]:
    """(seed, held-out loss with, without) of two sets of mapper runs, entries of `choreo.run/1`, paired by seed.

    The loss is the mean over sessions of the mean squared error that `mapper.loss_ratio` keeps.

    Raises:
        UsageError: a run of another recipe, or no seed in both.
        DataError: other data, or a run without that figure.
    """
    with_, without = ({e["seed"]: e for e in runs} for runs in (having, lacking))
    for e in (*having, *lacking):
        if e["recipe"] != "mapper":
            raise UsageError(f"a run of {e['recipe']} has no mapper's loss", hint="give runs of choreo train mapper")
    seeds = sorted(set(with_) & set(without))
    if not seeds:
        raise UsageError("no seed is in both", hint="train both with the same --seeds")
    for seed in seeds:
        if with_[seed]["data"].get("sha256") != without[seed]["data"].get("sha256"):
            raise DataError(f"seed {seed} was trained on other data with M2 than without", hint="use the same frames")
    return [(s, _loss(with_[s]), _loss(without[s])) for s in seeds]


def _loss(run: Mapping[str, Any]) -> float:
    for e in run["metrics"]:
        if e["name"] == "mapper.loss_ratio" and e["params"].get("mse"):
            return fmean(e["params"]["mse"])
    raise DataError(f"run {run['id']} has no held-out loss", hint="hold out a session and train again")
