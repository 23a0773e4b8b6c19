"""Runs that differ by their seed alone stand together; what else differs between them is named."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from choreo_cli.report.run_artefact import Artefact
from choreo_cli.report.run_gather import Run, parents_of

# Settings that make a run a comparison: the form of the loss that collapses, and the mapper without M2.
ABLATIONS: Mapping[str, tuple[Any, ...]] = {
    "literal": (True,),
    "form": ("literal",),
    "loss": ("literal",),
    "normalise": (False,),
    "normalize": (False,),
    "normaliser": (False, "none"),
    "normalizer": (False, "none"),
    "m2": (False,),
    "targets": ("shuffled",),
}


@dataclass(frozen=True, slots=True)
class Group:
    """Runs of one recipe, one configuration and one dataset.

    Args:
        recipe: What was trained.
        runs: One per seed, by seed.
        beside: A comparison: shown, but its gates do not decide.
        title: Recipe, and the settings in which it differs from the judged group.
        ablation: The setting that makes it a comparison, empty otherwise.
    """

    recipe: str
    runs: tuple[Run, ...]
    beside: bool
    title: str
    ablation: str = ""

    @property
    def seeds(self) -> list[int]:
        return [int(r.entry["seed"]) for r in self.runs]

    @property
    def config(self) -> Mapping[str, Any]:
        found = self.runs[0].entry["config"]
        return found if isinstance(found, dict) else {}


def group_runs(runs: Sequence[Run], known: Iterable[Artefact] = ()) -> list[Group]:
    """Groups in the order their recipes were named; of each recipe the judged group first.

    The judged group of a recipe is the first that is no ablation (`ABLATIONS`); every other one stands beside it.

    Args:
        runs: What was named.
        known: Manifests found on the way: models that the runs build on, whether they were named or not.
    """
    by_key: dict[str, list[Run]] = {}
    keys = _keys(runs, known)
    for run, key in zip(runs, keys, strict=True):
        by_key.setdefault(key, []).append(run)
    recipes: dict[str, list[list[Run]]] = {}
    for members in by_key.values():
        recipes.setdefault(str(members[0].entry["recipe"]), []).append(members)
    found: list[Group] = []
    for recipe, sets in recipes.items():
        plain = [m for m in sets if not ablation_of(m[0])]
        judged = plain[0] if plain else sets[0]
        ordered = [judged, *(m for m in sets if m is not judged)]
        for members in ordered:
            ablation = ablation_of(members[0])
            title = recipe if members is judged else f"{recipe}, {ablation or _difference(judged[0], members[0])}"
            kept = tuple(sorted(members, key=lambda r: int(r.entry["seed"])))
            found.append(Group(recipe, kept, members is not judged, _unused(title, found), ablation))
    return found


def _unused(title: str, groups: Sequence[Group]) -> str:
    """The title, numbered when another group has it already."""
    same = sum(g.title == title or g.title.startswith(f"{title} (") for g in groups)
    return f"{title} ({same + 1})" if same else title


def ablation_of(run: Run) -> str:
    """`name=value` of the setting that makes a run a comparison, empty when there is none."""
    config = run.entry["config"] if isinstance(run.entry["config"], dict) else {}
    for name, values in ABLATIONS.items():
        if any(name in config and config[name] == v and type(config[name]) is type(v) for v in values):
            return f"{name}={shown(config[name])}"
    return ""


def differences(groups: Iterable[Group]) -> list[dict[str, Any]]:
    """Settings that are not the same in every group of a recipe: `{recipe, setting, values: {title: text}}`."""
    found = []
    by_recipe: dict[str, list[Group]] = {}
    for g in groups:
        by_recipe.setdefault(g.recipe, []).append(g)
    for recipe, members in by_recipe.items():
        names = dict.fromkeys(name for g in members for name in g.config)
        for name in names:
            values = {g.title: shown(g.config.get(name)) for g in members}
            if len(set(values.values())) > 1:
                found.append({"recipe": recipe, "setting": name, "values": values})
    return found


def shown(value: Any) -> str:
    """A setting as a person writes it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def _keys(runs: Sequence[Run], known: Iterable[Artefact]) -> list[str]:
    """What a run is but for its seed: recipe, configuration, data, and the same of the models it builds on."""
    below = {str(e["id"]): _own_key(e) for a in known if a.kind == "run" for e in a.manifest.entries}
    own = below | {str(r.entry["id"]): _own_key(r.entry) for r in runs}
    keys = []
    for run in runs:
        above = sorted(own.get(str(p.get("run_id")), str(p.get("role"))) for p in parents_of(run))
        keys.append(json.dumps([own[str(run.entry["id"])], above]))
    return keys


def _own_key(entry: Mapping[str, Any]) -> str:
    data = entry["data"] if isinstance(entry["data"], dict) else {}
    facts = [entry["recipe"], entry["config"], data.get("sha256"), data.get("sessions")]
    return json.dumps(facts, sort_keys=True)


def _difference(judged: Run, other: Run) -> str:
    a = judged.entry["config"] if isinstance(judged.entry["config"], dict) else {}
    b = other.entry["config"] if isinstance(other.entry["config"], dict) else {}
    names = [n for n in dict.fromkeys([*b, *a]) if a.get(n) != b.get(n)]
    if names:
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        return ", ".join(f"{n}={shown(b.get(n))}" for n in names[:3]) + more
    if a_sha(judged) != a_sha(other):
        return "other data"
    return "other models below it"


def a_sha(run: Run) -> str:
    """Digest of the data a run was trained on."""
    data = run.entry["data"]
    return str(data.get("sha256", "")) if isinstance(data, dict) else ""
