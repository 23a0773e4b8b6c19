"""Where each step ran: what was the same everywhere, and what was not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from choreo_cli.report.run_artefact import Artefact

FACTS = ("python", "os", "machine", "cpu", "accelerator")


def compare(steps: Iterable[Artefact]) -> dict[str, Any]:
    """`{unknown: [names], same: {fact: value}, differs: [{fact, values: {step: value}}]}` over the steps' records."""
    known: dict[str, dict[str, str]] = {}
    unknown = []
    for a in steps:
        name = a.name if a.name not in known else f"{a.name} ({a.kind})"
        facts = _facts(a)
        if a.record:
            known[name] = facts
        else:
            unknown.append(name)
    names = dict.fromkeys(fact for facts in known.values() for fact in facts)
    same, differs = {}, []
    for fact in names:
        values = {step: facts.get(fact, "MISSING") for step, facts in known.items()}
        if len(set(values.values())) == 1:
            same[fact] = next(iter(values.values()))
        else:
            differs.append({"fact": fact, "values": values})
    return {"steps": list(known), "unknown": unknown, "same": same, "differs": differs}


def _facts(a: Artefact) -> dict[str, str]:
    stated = a.record.get("env")
    env: Mapping[str, Any] = stated if isinstance(stated, dict) else {}
    packages = env.get("packages")
    git = a.made_by.get("git")
    found = {"choreo": str(a.made_by.get("choreo", "MISSING"))}
    if isinstance(git, dict):
        found["commit"] = str(git.get("sha", ""))[:12] + (", changed since" if git.get("dirty") else "")
    found |= {k: "none" if env[k] is None else str(env[k]) for k in FACTS if k in env}
    if isinstance(packages, dict):
        found |= {f"package {k}": str(v) for k, v in sorted(packages.items())}
    return found
