"""The latency ledger of recorded performances: what choreo takes, and apart from it what the receivers take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from choreo_cli.report.run_artefact import Artefact

STAGES = {
    "live.arrival_to_sent": "packet arrives to controls handed over (the 50 ms)",
    "live.queue": "of it: waiting for the frame",
    "live.model": "of it: the models",
    "live.compute": "of it: models and guards",
    "live.lateness": "frame behind its deadline",
}
APART = {"live.sent_to_acked": "confirmed by the receiver", "live.receiver": "measured by calibrate latency"}
POINTS = ("p50", "p95", "p99", "max")
WITHOUT = (
    "Not in these figures: the sensor and its radio, easing, the receiver, the output buffer, 3 ms a metre of air."
)
STRUDEL = (
    "Strudel patterns look ahead 200-300 ms by design, however fast a page has the values; what acts behind the"
    " patterns does not wait for that."
)
UNKNOWN = "What the receiver takes was not measured: choreo calibrate latency, and run-live --offset FILE."


def ledgers(evaluations: Sequence[Artefact]) -> list[dict[str, Any]]:
    """One record for each performance among the figures: stages, missed frames, receiver, period, receivers apart."""
    found = []
    for source in evaluations:
        if source.made_by.get("command") != "run-live":
            continue
        sessions: dict[str, list[Mapping[str, Any]]] = {}
        for e in source.manifest.entries:
            if str(e["name"]).startswith("live.") and isinstance(e["params"], dict) and "session" in e["params"]:
                sessions.setdefault(str(e["params"]["session"]), []).append(e)
        found += [_ledger(source.name, session, entries) for session, entries in sessions.items()]
    return found


def _ledger(source: str, session: str, entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    by_name = {str(e["name"]): e for e in entries}
    params = dict(entries[0]["params"])
    missed, steady = by_name.get("live.missed"), by_name.get("live.interval.sd")
    apart = [r for name, what in APART.items() if (r := _spread(by_name, name, what)) is not None]
    receiver = str(params.get("receiver", ""))
    ports = [p for p in receiver.split(", ") if p and p not in ("loop:", "null:")]
    notes = [WITHOUT]
    if ports and not apart:
        notes.append(UNKNOWN)
    if any(p.startswith(("ws:", "midi:")) for p in ports):
        notes.append(STRUDEL)
    return {
        "of": source,
        "session": session,
        "virtual": any(e["status"] == "degenerate" for e in entries),
        "receiver": receiver,
        "period_ms": params.get("period_us", 0) / 1000,
        "frames": params.get("ticks"),
        "missed": None if missed is None else missed["value"],
        "held": params.get("held"),
        "jitter_ms": None if steady is None else steady["value"],
        "stages": [r for name, what in STAGES.items() if (r := _spread(by_name, name, what)) is not None],
        "receivers": apart,
        "notes": notes,
    }


def _spread(by_name: Mapping[str, Mapping[str, Any]], name: str, what: str) -> dict[str, Any] | None:
    """A row of the table, None when nothing was measured; a point that was not measured is null."""
    points = {p: by_name[f"{name}.{p}"] for p in POINTS if f"{name}.{p}" in by_name}
    if not points or all(e["value"] is None for e in points.values()):
        return None
    first = next(iter(points.values()))
    about = first["params"]
    if name == "live.receiver":
        what = f"{about.get('receiver')}, {what} (JACK period {about.get('period')} at {about.get('rate')} Hz)"
    return {
        "name": name,
        "what": what,
        "n": first["n"],
        **{p: points[p]["value"] if p in points else None for p in POINTS},
    }
