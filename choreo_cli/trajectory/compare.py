"""Branches beside each other: one document with the rule, the verdict and everything it rests on.

The document is plain JSON values, path-free and without times, so equal runs give equal bytes; `report` renders it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.errors import DataError, NoInputError
from choreo_cli.metrics import comparison
from choreo_cli.metrics import trajectory as figures
from choreo_cli.metrics.trajectory import Judged
from choreo_cli.trajectory import compare_runs, compare_told, predictions
from choreo_cli.trajectory.branches import Branch
from choreo_cli.trajectory.compare_clips import Clips, examples, failures, spoken
from choreo_cli.trajectory.compare_runs import Found, Trained
from choreo_cli.trajectory.compare_tables import baselines, breakdowns, learning, steps
from choreo_cli.trajectory.sets import TrajectorySet
from formats.errors import FormatError

F64 = NDArray[np.float64]
SCHEMA = "choreo.comparison/1"
MIN_CURVES = 4000  # unseen trajectories under a winner: +-0.43 points at 98 %
WINNER, TIED, INCOMPLETE = "WINNER", "NO SIGNIFICANT WINNER", "INCOMPLETE"
RULE = (
    *comparison.RULE,
    f"A winner needs at least {MIN_CURVES} unseen trajectories, {comparison.MIN_SEEDS} seeds of every branch, and"
    " branch0, the baseline that every branch is compared with; else the comparison is INCOMPLETE.",
)


@dataclass(frozen=True, slots=True)
class Options:
    """How it is compared.

    Args:
        seed: Of the resamples. draws: Resamples.
        told: Videos of each branch whose equations are solved for.
        worst: Clips in the gallery of each branch.
        branches: Branch files: which language model words which branch.
    """

    seed: int = 0
    draws: int = 2000
    told: int = 400
    worst: int = 12
    branches: tuple[Branch, ...] = ()


@dataclass(slots=True)
class Column:
    """A branch while it is compared: its figures and what it was judged from.

    Args:
        branch: For `metrics.comparison`. runs: One for each seed. judged: The same order.
        shown: (S, N, 16, 3) the points it saw, camera orientation; None when it does not tell them.
    """

    branch: comparison.Branch
    runs: list[Trained]
    judged: list[Judged]
    shown: F64 | None

    @property
    def name(self) -> str:
        return self.branch.name

    @property
    def futures(self) -> F64:
        return np.stack([j.predicted for j in self.judged])

    @property
    def all(self) -> Judged:
        """All seeds one after the other; intervals are over curves still."""
        return Judged(
            *(np.concatenate([getattr(j, name) for j in self.judged]) for name in Judged.__dataclass_fields__)
        )


@dataclass(slots=True)
class Built:
    """The document, and the pictures (PNG) that it names."""

    document: dict[str, Any]
    pictures: dict[str, bytes] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        return bool(self.document["verdict"]["word"] != INCOMPLETE)


def build(
    found: Found, of: TrajectorySet, created_by: Mapping[str, Any], asked: Options | None = None,
    on_progress: Callable[[int, int, str], None] | None = None,
) -> Built:  # fmt: skip
    """Compare every branch on the test views of the set they were trained on.

    Args:
        found: Runs. of: Their set. created_by: Provenance. asked: How.
        on_progress: `(done, total, what)`.

    Raises:
        NoInputError: no run that can be judged. DataError: no test views.
    """
    asked, say = asked or Options(), on_progress or (lambda done, total, what: None)
    if "test" not in of.looks or not len(of.looks["test"]):
        raise DataError(f"{of.folder} has no test views", hint="synth trajectories --test 4000")
    missing = [f"{u.name} is not finished: {u.state}, {u.said}" for u in found.unfinished]
    columns = _columns(found, of, missing)
    if not columns:
        raise NoInputError(f"no run that can be judged: {'; '.join(missing) or 'none was found'}")
    cluster = columns[0].judged[0].cluster
    say(1, 6, "pairs")
    branches = [c.branch for c in columns]
    pairs = comparison.pairs_of(branches, cluster, asked.seed, asked.draws)
    verdict = comparison.verdict(branches, pairs)
    missing += _missing(columns, cluster)
    say(2, 6, "tables")
    together = _ensemble(columns, pairs, verdict, cluster, asked)
    rows = [_row(c, cluster, asked) for c in columns]
    split, tables = breakdowns(found, columns, of, asked.seed)
    lead = max(columns, key=lambda c: float(c.branch.right.mean()))
    say(3, 6, "clips")
    clips = Clips(of, columns, lead)
    shown = examples(clips)
    worst, pictures = failures(clips, asked.worst)
    say(4, 6, "equations")
    words = spoken(clips, shown, asked.told)
    words["models"] = _models(found, words["samples"], asked)
    say(5, 6, "document")
    doc = {
        "schema": SCHEMA, "created_by": dict(created_by), "rule": list(RULE),
        "verdict": _verdict(verdict, missing, lead), "missing": missing, "notes": list(found.notes),
        "set": {
            "sha256": of.sha256, "size": of.size, "size_cue": of.size_cue, "seed": of.seed,
            "videos": len(cluster), "curves": len(np.unique(cluster)), "breakdown_split": split,
        },
        "chance": figures.CHANCE, "families": list(figures.FAMILIES), "branches": rows,
        "against_baseline": _against(pairs, rows), "pairs": [_pair(p) for p in pairs], "ensemble": together,
        "baselines": baselines(columns[0].judged[0], asked.seed, asked.draws), "steps": steps(columns, asked.seed),
        "breakdown": tables, "learning": [learning(r) for c in columns for r in c.runs],
        "examples": shown, "failures": worst, "words": words, "origin": _origin(found, of),
    }  # fmt: skip
    return Built(doc, pictures)


def _columns(found: Found, of: TrajectorySet, missing: list[str]) -> list[Column]:
    columns = []
    for name, runs in found.branches.items():
        kept, judged, shown = [], [], []
        for one in runs:
            try:
                said = compare_runs.told(one, of, "test")
            except NoInputError:
                missing.append(f"{one.name} has no predictions of the test views: train it again")
                continue
            except FormatError:
                missing.append(f"the predictions of {one.name} are damaged, or not the ones it wrote: train it again")
                continue
            kept.append(one)
            judged.append(predictions.judged(said, of, "test"))
            shown.append(said.shown)
        if not kept:
            continue
        branch = comparison.Branch(
            name, np.stack([j.right for j in judged]),
            np.stack([figures.error_share(j.predicted, j.future, j.diagonal) for j in judged]),
            np.stack([j.probabilities for j in judged]), cost_of(kept), tuple(r.seed for r in kept),
        )  # fmt: skip
        points = None if any(s is None for s in shown) else np.stack([s for s in shown if s is not None])
        columns.append(Column(branch, kept, judged, None if points is None else points.astype(np.float64)))
    return columns


def _models(found: Found, samples: Sequence[dict[str, Any]], asked: Options) -> list[dict[str, Any]]:
    """Which language model words which branch and how that went; what it said itself goes beside the truth."""
    wrote = _wrote(found)
    rows, notes = compare_told.models(wrote, found.told, asked.branches)
    found.notes += notes
    for s in samples:
        s["told"] += compare_told.samples(found.told, wrote, s["row"])
    return rows


def _wrote(found: Found) -> dict[str, dict[str, int]]:
    """Of each branch: sha256 of what its runs predicted of the test views, to their seeds."""
    return {
        name: {str(r.run.entry["files"].get("predictions.parquet")): r.seed for r in runs}
        for name, runs in found.branches.items()
    }


def cost_of(runs: Sequence[Trained]) -> dict[str, Any]:
    """Means over seeds of what is known of every seed, and CPU seconds of an epoch."""
    costs = [r.cost for r in runs]
    found = {
        k: float(np.mean([c[k] for c in costs]))
        for k in ("parameters", "steps", "epochs", "cpu_s", "wall_s")
        if all(k in c for c in costs)
    }
    if "cpu_s" in found and found.get("epochs", 0) > 0:
        found["cpu_s_per_epoch"] = found["cpu_s"] / found["epochs"]
    return found


def _missing(columns: Sequence[Column], cluster: NDArray[Any]) -> list[str]:
    """What a winner would need."""
    found = []
    for c in columns:
        have = len(c.branch.right)
        if have < comparison.MIN_SEEDS:
            found.append(f"{c.name} has {have} of {comparison.MIN_SEEDS} seeds")
    if len(columns) < 2:
        found.append(f"{columns[0].name} alone is compared with nothing")
    if all(c.name != comparison.BASELINE for c in columns):
        found.append(f"no {comparison.BASELINE}: nothing says whether a branch beats image moments")
    curves = len(np.unique(cluster))
    if curves < MIN_CURVES:
        found.append(f"the test set has {curves} of {MIN_CURVES} unseen trajectories")
    return found


def _verdict(verdict: comparison.Verdict, missing: Sequence[str], lead: Column) -> dict[str, Any]:
    word = INCOMPLETE if missing or not verdict.complete else WINNER if verdict.winner else TIED
    winner = verdict.winner if word == WINNER else None
    reasons = [r for r in verdict.reasons if r not in missing]
    if word == INCOMPLETE and verdict.winner is not None:
        reasons.append(f"{verdict.winner} would win if nothing were missing")
    sentence = {
        WINNER: f"{winner} wins by the rule.",
        TIED: "No branch can be told from the others by the rule.",
        INCOMPLETE: "There is no verdict yet: evidence is missing.",
    }[word]
    return {
        "word": word, "winner": winner, "sentence": sentence, "leader": lead.name, "tied": list(verdict.tied),
        "reasons": reasons,
    }  # fmt: skip


def _row(c: Column, cluster: NDArray[Any], asked: Options) -> dict[str, Any]:
    """One branch: figures with intervals, its seeds, its confusion, its calibration."""
    counts = sum(figures.confusion(j.family, j.probabilities.argmax(1)) for j in c.judged)
    both = c.all
    off = both.predicted - both.future
    rival = min(
        figures.error_share(of(c.judged[0].noisy), c.judged[0].future, c.judged[0].diagonal).mean()
        for of in (figures.persistence, figures.constant_velocity)
    )
    parts = {
        "mae_pct_lateral": 100 * np.abs(off[..., :2]).mean((1, 2)) / both.diagonal,
        "mae_pct_depth": 100 * np.abs(off[..., 2]).mean(1) / both.diagonal,
        "ade": np.linalg.norm(off, axis=-1).mean(1),
        "fde": np.linalg.norm(off[:, -1], axis=-1),
    }
    return {
        **comparison.summary(c.branch, cluster, asked.seed, asked.draws),
        "macro_f1": figures.macro_f1(np.asarray(counts)),
        "skill": 1 - float(c.branch.share.mean()) / float(rival),
        **{name: float(v.mean()) for name, v in parts.items()},
        "rmse": float(np.sqrt((off**2).mean())),
        "each_seed": [
            {"seed": s, "accuracy": float(r.mean()), "mae_pct": float(m.mean())}
            for s, r, m in zip(c.branch.seeds, c.branch.right, c.branch.share, strict=True)
        ],
        "confusion": np.asarray(counts).tolist(),
        "reliability": figures.reliability(both.probabilities, both.right),
        "settings": compare_runs.settings_of(c.runs[0]),
    }


def _ensemble(
    columns: Sequence[Column], pairs: Sequence[comparison.Pair], verdict: comparison.Verdict, cluster: NDArray[Any],
    asked: Options,
) -> dict[str, Any] | None:  # fmt: skip
    """All branches and seeds together, and how far that is from the leader alone; None of a single run."""
    if sum(len(c.runs) for c in columns) < 2:
        return None
    first = columns[0].judged[0]
    one = comparison.ensemble(
        [c.branch for c in columns], [c.futures for c in columns], first.family, first.future, first.diagonal
    )
    lead = max((c.branch for c in columns), key=lambda b: float(b.right.mean()))
    gain, ci, p = figures.paired_difference(one.right, lead.right, cluster, asked.seed, asked.draws)
    share, share_ci, _ = figures.paired_difference(one.share, lead.share, cluster, asked.seed, asked.draws)
    row = comparison.summary(one, cluster, asked.seed, asked.draws)
    return {
        **row, "against": lead.name, "gain": gain, "gain_ci": list(ci), "p": p, "mae_pct_gain": share,
        "mae_pct_gain_ci": list(share_ci),
    }  # fmt: skip


def _pair(p: comparison.Pair) -> dict[str, Any]:
    return {
        "a": p.a, "b": p.b, "accuracy": p.accuracy, "accuracy_ci": list(p.accuracy_ci), "p": p.p, "p_holm": p.p_holm,
        "mae_pct": p.mae_pct, "mae_pct_ci": list(p.mae_pct_ci), "mcnemar_p": p.mcnemar_p,
    }  # fmt: skip


def _against(pairs: Sequence[comparison.Pair], rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each branch minus branch 0, and in a word whether it beats it."""
    found = []
    for row in rows:
        p = next((q for q in pairs if {q.a, q.b} == {row["branch"], comparison.BASELINE}), None)
        if p is None:
            continue
        flip = -1 if p.a == comparison.BASELINE else 1
        accuracy, share = flip * p.accuracy, flip * p.mae_pct
        ci = sorted(flip * v for v in p.accuracy_ci)
        share_ci = sorted(flip * v for v in p.mae_pct_ci)
        found.append({
            "branch": row["branch"], "accuracy": accuracy, "accuracy_ci": ci, "mae_pct": share, "mae_pct_ci": share_ci,
            "p_holm": p.p_holm, "class": _beats(ci, higher=True), "forecast": _beats(share_ci, higher=False),
        })  # fmt: skip
    return found


def _beats(ci: Sequence[float], *, higher: bool) -> str:
    if ci[0] <= 0 <= ci[1]:
        return "tied with it"
    return "beats it" if (ci[0] > 0) == higher else "loses to it"


def _origin(found: Found, of: TrajectorySet) -> dict[str, Any]:
    """Where everything came from, and the commands that make it again."""
    made = compare_runs.set_command(of)
    commands = [made] if made else []
    runs = []
    for name, mine in found.branches.items():
        commands.append(compare_runs.train_command(name, mine))
        for r in mine:
            e = r.run.entry
            runs.append({
                "branch": name, "seed": r.seed, "run": e["id"], "choreo": r.run.manifest.created_by.get("choreo"),
                "git": r.run.manifest.created_by.get("git"), "device": e.get("device"),
                "deterministic": bool(r.run.manifest.created_by.get("deterministic")), "state": e.get("state"),
                "predictions": e["files"].get("predictions.parquet"), "cost": r.cost,
            })  # fmt: skip
    told = []
    for name, known in _wrote(found).items():
        for t in (t for t in found.told if t.predictions in known):
            told.append(f"told-{name}-{known[t.predictions]}")
            commands.append(compare_told.command(t, name, known[t.predictions], told[-1]))
    commands.append(" ".join(["choreo report --compare runs", *told, "-o comparison"]))
    return {"runs": runs, "commands": commands}
