"""Who made what: the artefacts a report rests on, followed by hash to their origins, in an order that can be run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from choreo_cli.report.run_artefact import Artefact
from choreo_cli.report.run_gather import Gathered

WEIGHTS = "model.safetensors"
MOTIONS = "choreo.motions/1"


@dataclass(frozen=True, slots=True)
class Need:
    """One input of a step.

    Args:
        role: What it is to the step: `frames`, `rps`, `inventory`...
        sha256: Its digest, as the step names it.
        origin: The manifest of what made it, None when nothing on disk did.
    """

    role: str
    sha256: str
    origin: Artefact | None


@dataclass(frozen=True, slots=True)
class Origins:
    """Every step behind a report.

    Args:
        steps: Manifests, each after what it needs.
        needs: Inputs of each step, by digest of its manifest, models before data.
    """

    steps: tuple[Artefact, ...]
    needs: Mapping[str, tuple[Need, ...]] = field(default_factory=dict)


def trace(found: Gathered) -> Origins:
    """Follow every input's hash back, as far as what made it is on disk."""
    index = _Index(found)
    steps: dict[str, Artefact] = {}
    needs: dict[str, tuple[Need, ...]] = {}

    def visit(a: Artefact) -> None:
        if a.sha256 in needs:
            return
        needs[a.sha256] = tuple(index.needs(a))
        for need in needs[a.sha256]:
            if need.origin is not None:
                visit(need.origin)
        steps[a.sha256] = a

    for a in found.inputs:
        if not _shown_only(a):
            visit(index.recording(index.whole(a)))
    return Origins(tuple(steps.values()), needs)


def _shown_only(a: Artefact) -> bool:
    """Dances that an evaluation wrote down for people: the evaluation makes them again."""
    return a.kind == "motions" and a.made_by.get("command") == "evaluate generation"


class _Index:
    """Finds the manifest behind a digest, a run id or the weights of a model."""

    def __init__(self, found: Gathered) -> None:
        self._known = found.known
        self._runs: dict[str, Artefact] = {}
        self._files: dict[str, Artefact] = {}
        manifests = sorted((a for a in found.known.values() if a.kind == "run"), key=_size)
        for a in manifests:  # a summary comes after its seeds, and wins
            for e in a.manifest.entries:
                self._runs[str(e["id"])] = a
                self._files |= dict.fromkeys(_hashes(e), a)
        self._outputs: dict[str, Artefact] = {}
        for a in found.known.values():
            for item in (a.made_by.get("outputs") or []) if a.kind in ("pairs", "sessions") else []:
                if isinstance(item, dict):
                    self._outputs[str(item.get("sha256"))] = a
                    parts = str(item.get("path")).split("/")
                    if parts[0] == "pack" and len(parts) > 2:  # a pack's folder is named by its dataset hash
                        self._outputs[parts[1]] = a

    def whole(self, a: Artefact) -> Artefact:
        """The summary over seeds that a run belongs to, or the manifest itself."""
        if a.kind != "run" or not a.manifest.entries:
            return a
        owner = self._runs.get(str(a.manifest.entries[0]["id"]), a)
        inside = a.folder is not None and owner.folder is not None and a.folder.parent == owner.folder
        return owner if inside else a

    def recording(self, a: Artefact) -> Artefact:
        """The recorded performance that figures of the loop were written with, or the manifest itself."""
        if a.kind != "metrics" or a.made_by.get("command") != "run-live":
            return a
        same = (o for o in self._known.values() if o.kind == "sessions" and o.folder == a.folder)
        return next(same, a)

    def needs(self, a: Artefact) -> Iterable[Need]:
        found: dict[str, Need] = {}
        for role, sha, run_id in self._stated(a):
            origin = self._runs.get(run_id) if run_id else None
            origin = origin or self._by_digest(sha)
            if origin is not None and origin.sha256 == a.sha256:
                continue
            key = origin.sha256 if origin is not None else sha
            found.setdefault(key, Need(role, sha, self.whole(origin) if origin is not None else None))
        return sorted(found.values(), key=lambda n: n.origin is None or n.origin.kind != "run")

    def _by_digest(self, sha: str) -> Artefact | None:
        return self._known.get(sha) or self._files.get(sha) or self._outputs.get(sha)

    def _stated(self, a: Artefact) -> Iterable[tuple[str, str, str]]:
        """(role, digest, run id) of everything a manifest says it was made from."""
        for e in a.manifest.entries if a.kind == "run" else []:
            for p in e["parents"] if isinstance(e["parents"], list) else []:
                if isinstance(p, dict):
                    yield str(p.get("role", "model")), str(p.get("sha256", "")), str(p.get("run_id", ""))
            # Of motions a run names what it made of them; the manifest itself is among the inputs.
            named = isinstance(e["data"], dict) and e["data"].get("schema") != MOTIONS
            if named and e["data"].get("sha256"):
                yield "frames", str(e["data"]["sha256"]), ""
        for item in a.made_by.get("inputs") or []:
            if isinstance(item, dict) and item.get("sha256"):
                yield str(item.get("role", "input")), str(item["sha256"]), ""
        if a.kind == "inventory":
            yield from self._recordings(a)

    def _recordings(self, a: Artefact) -> Iterable[tuple[str, str, str]]:
        """Synthetic recordings that an inventory lists: their folder holds the manifest of what made them."""
        folders = {p.resolve() for p in a.roots.values()}
        for other in self._known.values():
            if other.kind == "sessions" and other.folder is not None and other.folder.resolve() in folders:
                yield "recordings", other.sha256, ""


def _size(a: Artefact) -> tuple[bool, int]:
    return any(e["path"] != "." for e in a.manifest.entries), len(a.manifest.entries)


def _hashes(entry: Mapping[str, Any]) -> list[str]:
    return [str(sha) for sha in entry["files"].values()] if isinstance(entry["files"], dict) else []
