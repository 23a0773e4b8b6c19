"""What `choreo describe trajectories` told of branches that are compared: which model, how often it could be used."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from choreo_cli.errors import DataError
from choreo_cli.trajectory.branches import Branch
from formats import tables
from formats.atomic import sha256_file
from formats.errors import FormatError
from formats.manifest import Manifest, decode
from formats.trajectory import DESCRIPTIONS

METRICS, TABLE = "metrics.json", "descriptions.parquet"
COMMAND = "describe trajectories"
MAX_REASONS = 3
NOT_ASKED = "not asked: nothing that it told is among the inputs (no key, no server, or describe was not run)"
NO_FILE = "no language model is named: --branch FILE says whose it is"


@dataclass(frozen=True, slots=True)
class Telling:
    """One output folder of describe.

    Args:
        manifest: Its metrics. rows: Its descriptions. predictions: sha256 of what it was told from.
    """

    manifest: Manifest
    rows: list[dict[str, Any]]
    predictions: str

    @property
    def params(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.manifest.created_by["params"]
        return found

    @property
    def source(self) -> dict[str, Any]:
        """For provenance."""
        return {"role": "told", "sha256": self.manifest.sha256, "schema": self.manifest.schema}


def is_telling(folder: Path) -> bool:
    """Whether a folder is a finished output of describe."""
    return (folder / TABLE).is_file() and (folder / METRICS).is_file()


def read(folder: Path) -> Telling:
    """Read a folder of descriptions.

    Raises:
        FormatError: damaged, or not what describe wrote.
        DataError: it tells the truth of a set, not what a branch saw.
    """
    file = folder / METRICS
    manifest = decode(file.read_bytes(), source=str(file), file=file)
    made_by = manifest.created_by
    written = {o.get("path"): o.get("sha256") for o in made_by.get("outputs", [])}
    if manifest.kind != "choreo.metrics" or made_by.get("command") != COMMAND or TABLE not in written:
        raise FormatError("the figures are not of choreo describe trajectories", file=file)
    if sha256_file(folder / TABLE) != written[TABLE]:
        raise FormatError("not the descriptions that were written: damaged or changed", file=folder / TABLE)
    told_from = [i["sha256"] for i in made_by.get("inputs", []) if i.get("role") == "predictions"]
    if not told_from:
        raise DataError(
            f"{folder} tells the points of a set, not what a branch saw", hint="describe trajectories --predictions"
        )
    rows = tables.read_table(folder / TABLE, DESCRIPTIONS).to_pylist()
    return Telling(manifest, rows, told_from[0])


def models(
    names: Mapping[str, Mapping[str, int]], tellings: Sequence[Telling], branches: Sequence[Branch]
) -> tuple[list[dict[str, Any]], list[str]]:
    """Rows of a table of language models, and remarks.

    Args:
        names: Of each branch that is compared: sha256 of the predictions of its test views, to its seed.
        tellings: What was told. branches: Branch files: whose model is whose.

    Returns:
        One row for each telling of a branch by a model or an engine, or one that says why there is none.
    """
    wishes = {b.name: b for b in branches}
    rows, used = [], set[int]()
    for name, known in names.items():
        wish = wishes.get(name)
        mine = [(k, t) for k, t in enumerate(tellings) if t.predictions in known]
        used |= {k for k, _ in mine}
        rows += [_told(name, known[t.predictions], t, wish) for _, t in mine]
        wanted = "" if wish is None else wish.language.model
        if wish is None and not mine:
            rows.append(_nothing(name, None, NO_FILE))
        elif wish is not None and not any(t.params.get("model", "") == wanted for _, t in mine):
            rows.append(_nothing(name, wish, NOT_ASKED if wanted else _engine_words(wish)))
    notes = [f"{t.manifest.created_by['run_id']} tells of no run that is compared" for k, t in enumerate(tellings)
             if k not in used]  # fmt: skip
    notes += [f"no run of {b.name}, whose branch file is named" for b in branches if b.name not in names]
    return rows, notes


def _engine_words(wish: Branch) -> str:
    return f"by its file the engine {wish.language.engine}, without a language model"


def _nothing(name: str, wish: Branch | None, why: str) -> dict[str, Any]:
    language = None if wish is None else wish.language
    return {
        "branch": name, "seed": None, "engine": None if language is None else language.engine,
        "model": shown_name(language.model) if language else None, "expected": _expected(wish), "n": 0, "why": why,
    }  # fmt: skip


def shown_name(model: str | None) -> str | None:
    """A model as it is shown: of one that is named by its folder, the folder's own name alone."""
    return Path(model).name if model and model.startswith(("/", ".", "~")) else model or None


def _expected(wish: Branch | None) -> list[float] | None:
    return None if wish is None or wish.expects.equations is None else list(wish.expects.equations)


def _told(name: str, seed: int, t: Telling, wish: Branch | None) -> dict[str, Any]:
    rows, made_by = t.rows, t.manifest.created_by
    spoke = [r for r in rows if r["engine"] == "llm"]
    reasons = Counter(r["fallback"] for r in rows if r["fallback"])
    engine = t.params.get("solver")
    figures = {e["name"]: e["value"] for e in t.manifest.entries}
    return {
        "branch": name, "seed": seed, "engine": engine, "model": shown_name(t.params.get("model")),
        "prompt": t.params.get("prompt"), "temperature": t.params.get("temperature"),
        "model_seed": made_by.get("seed") if engine == "llm" else None, "telling": made_by["run_id"],
        "expected": _expected(wish), "n": len(rows), "by_model": len(spoke),
        "at_once": sum(r["asked"] == 1 for r in spoke), "fallback": sum(reasons.values()),
        "not_asked": sum(r["asked"] == 0 for r in rows) if engine == "llm" else 0,
        "reasons": [[why, n] for why, n in reasons.most_common(MAX_REASONS)],
        "form": figures.get("describe.form"), "numeric": figures.get("describe.numeric"),
        "slots": figures.get("describe.slots"), "model_slots": figures.get("describe.model.slots"),
        "forecast_mae_pct": figures.get("describe.forecast_mae_pct"),
        "points_mae_pct": figures.get("describe.points_mae_pct"), "why": "",
    }  # fmt: skip


def command(t: Telling, name: str, seed: int, out: str) -> str:
    """The command that tells it again, into `out`; where a server was is not on record."""
    given = t.params
    words = ["choreo describe trajectories trajectories", f"--predictions runs/{name}/seed-{seed}/predictions.parquet"]
    words.append("--solver llm:URL" if given.get("solver") == "llm" else f"--solver {given.get('solver')}")
    words += [f"--model {shlex.quote(str(shown_name(given['model'])))}"] if given.get("model") else []
    words += [f"--rows {given['rows']}"] if given.get("rows") else []
    return " ".join([*words, "--no-gate", f"-o {out}"])


def samples(tellings: Sequence[Telling], names: Mapping[str, Mapping[str, int]], row: int) -> list[dict[str, str]]:
    """What language models said of one clip, as samples beside the truth: only what they said themselves."""
    found = []
    for name, known in names.items():
        for t in tellings:
            said = next((r for r in t.rows if r["row"] == row and r["engine"] == "llm"), None)
            if said is not None and t.predictions in known:
                found.append({
                    "branch": f"{name}, {shown_name(said['model'])}", "family": said["family"],
                    "equation": said["equation"], "description": said["description"],
                })  # fmt: skip
    return found
