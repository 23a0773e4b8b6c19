"""From arms to entries: the gates first, then every figure of every arm, with what was tuned and chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from choreo_cli.generate.evaluate_job import (
    AGAINST,
    GIVEN,
    LEAST_CLIPS,
    LEAST_SEEDS,
    PRODUCT,
    STEPS,
    TASKS,
    Asked,
    Progress,
    Stage,
    make_arms,
    prepare,
    product_steps,
)
from choreo_cli.generate.evaluate_models import unlike
from choreo_cli.metrics import generation_verdicts as verdicts
from choreo_cli.metrics.evaluate import Evaluation
from choreo_cli.metrics.generation_gates import Arm, Bench, Entry, figure_entries
from choreo_cli.metrics.generation_stats import units_of
from formats.metrics import entry


@dataclass(slots=True)
class Result:
    """What an evaluation found, and the clips it may show.

    Args:
        evaluation: Entries, inputs, notes.
        stage: Arms and held-out windows.
    """

    evaluation: Evaluation
    stage: Stage


def evaluate(asked: Asked, on_progress: Progress, note: Any) -> Result:
    """Generate, judge, decide.

    Args:
        asked: What is compared.
        on_progress: Called as `on_progress(done, total)`.
        note: Called with sentences for the person while it runs.

    Raises:
        ChoreoError, FormatError: see `evaluate_job.prepare`, and a model that diverged.
    """
    stage = prepare(asked)
    make_arms(asked, stage, on_progress, note)
    bench = bench_of(asked, stage)
    notes = _notes(asked, stage)
    gates, chosen = _gates(asked, stage, bench)
    figures = [
        e for name, arm in stage.arms.items() if name not in ("held_out", *GIVEN) for e in figure_entries(arm, bench)
    ]
    entries = [*chosen, *gates, *_held_out(bench), *figures]
    return Result(Evaluation(entries, _inputs(asked, stage), notes), stage)


def bench_of(asked: Asked, stage: Stage) -> Bench:
    """What every entry is measured with."""
    whole, chosen = stage.whole, stage.chosen
    conditions = np.arange(asked.clips) % len(chosen)
    groups = [whole.groups[int(k)] for k in chosen]
    held = stage.arms["held_out"]
    keep = np.isfinite(held.kinetic[0]).all(1) & np.isfinite(held.manual[0]).all(1)
    real = replace(held, kinetic=held.kinetic[:, chosen], manual=held.manual[:, chosen])
    params = {
        "fps": stage.data.fps, "frames": stage.data.frames, "split": "test", "clips_per_seed": asked.clips,
        "conditions": len(chosen), "noise_seed": asked.seed, "beats": stage.beats, "synthetic": stage.data.synthetic,
    }  # fmt: skip
    units = units_of([groups[int(k)] for k in conditions], conditions.tolist())
    return Bench(
        units, conditions, groups, real, np.random.default_rng([asked.seed, 60]), params, stage.data.synthetic,
        {"kinetic": held.kinetic[0][keep], "manual": held.manual[0][keep]},
        [g for g, k in zip(whole.groups, keep, strict=True) if k],
    )  # fmt: skip


def _gates(asked: Asked, stage: Stage, bench: Bench) -> tuple[list[Entry], list[Entry]]:
    arms, recipe = stage.arms, asked.recipe
    steps = asked.steps or STEPS[recipe]
    main = arms[f"{recipe}{product_steps(asked)}"]
    out: list[Entry] = []
    if asked.ddim and recipe != "ddim":
        out += verdicts.against_ddim(main, arms[f"ddim{PRODUCT['ddim']}"], bench, _not_a_gate(asked))
    out.append(verdicts.sane(main, bench, main.name))
    one = arms.get("distilled1") or (arms.get(f"{recipe}1") if recipe != "ddim" else None)
    if one is not None and one is not main:
        out.append(verdicts.sane(one, bench, "one_step"))
    onnx = next((a for n, a in arms.items() if n.startswith("onnx")), None)
    if onnx is not None:
        judged = replace(onnx, facts={**onnx.facts, "graph": "step.onnx, its answers joined by choreo's own sampler"})
        out.append(verdicts.sane(judged, bench, "onnx"))
    if asked.distilled:
        out += verdicts.distilled(arms["distilled1"], main, bench)
    shown = [main, *([arms["distilled1"]] if asked.distilled else [])]
    for arm in shown:
        out += [*verdicts.contact(arm, bench), *verdicts.music(arm, bench)]
    few = _few(asked)
    out += [e for t in TASKS if t in arms for e in verdicts.task_gates(verdicts.TaskArm(t, arms[t]), bench, few)]
    if asked.against:
        both = {t: (arms[t], arms[AGAINST[t]]) for t in TASKS if AGAINST[t] in arms}
        out += verdicts.no_worse(main, arms["against"], bench, asked.against[0].name, both)
    family = [arms[f"{recipe}{n}"] for n in sorted(steps)]
    best, reason = verdicts.choose_steps(family, bench)
    table = {
        a.name: {"sanity": _mean(a, "sanity"), "musicality": _mean(a, "musicality"), "rows": a.rows} for a in family
    }
    chosen = verdicts.steps_entry(best, reason, int(best.facts["steps"]), bench, table)
    return out, [chosen, *_tuning(stage, bench)]


def _not_a_gate(asked: Asked) -> str | None:
    """Why flow against diffusion cannot be judged; None when it can."""
    seeds = min(len(asked.models), len(asked.ddim))
    if (few := _few(asked)) is not None:
        return few
    if seeds < LEAST_SEEDS:
        return f"{seeds} seed{'s' * (seeds != 1)}, the gate needs {LEAST_SEEDS}"
    return unlike(asked.models, asked.ddim)


def _few(asked: Asked) -> str | None:
    """That the clips are fewer than the gates were made for."""
    return f"{asked.clips} clips a seed, the gate needs {LEAST_CLIPS}" if asked.clips < LEAST_CLIPS else None


def _tuning(stage: Stage, bench: Bench) -> list[Entry]:
    """Guidance and time shift of each recipe, with what was tried on the validation windows."""
    out = []
    for recipe, (setting, tried) in stage.tuned.items():
        if setting.cfg is None:
            continue
        params = {**bench.params, "split": "val", "tuned": bool(tried), "shift": setting.shift,
                  "steps": setting.steps, "tried": [t.record() for t in tried]}  # fmt: skip
        out.append(entry(f"generation.guidance.{recipe}", setting.cfg, "1", "lower", params=params))
    return out


def _held_out(bench: Bench) -> list[Entry]:
    """The figures of the held-out dances themselves: the level that arms stand beside."""
    rows = len(bench.real.figures["sanity"][0])
    units = units_of(bench.far_groups, list(range(len(bench.far_groups))))
    if len(bench.far_groups) != rows:  # a window without features has no group in that list
        units = units_of([str(k) for k in range(rows)], list(range(rows)))
    own = replace(bench, units=units)
    return [
        e for e in figure_entries(bench.real, own, sets=False) if e["name"] != "generation.slide_after_lock.held_out"
    ]


def _mean(arm: Arm, figure: str) -> float | None:
    x = arm.figures[figure]
    return float(np.nanmean(x)) if np.isfinite(x).any() else None


def _inputs(asked: Asked, stage: Stage) -> list[dict[str, Any]]:
    """Provenance: roles are the options that models were named with, so that a report can write the command again."""
    named = (("run", asked.models), ("against-ddim", asked.ddim), ("distilled", asked.distilled),
             ("onnx", [asked.onnx] if asked.onnx else []), ("against", asked.against))  # fmt: skip
    found = [*stage.data.inputs, *({**m.source, "role": role} for role, models in named for m in models)]
    return list({(i["role"], i["sha256"]): i for i in found}.values())


def _notes(asked: Asked, stage: Stage) -> list[str]:
    notes = [n for n in stage.data.notes if "left out" in n or "leak" in n]
    trained = {_data_sha(m) for m in (*asked.models, *asked.ddim, *asked.distilled, *asked.against)} - {None}
    if trained - {stage.data.sha256}:
        notes.append("a model was trained on other motions than these: what is held out here may be known to it")
    groups: Sequence[str] = sorted(set(stage.whole.groups))
    notes.append(
        f"{len(stage.chosen)} conditions from {len(groups)} held-out groups of clips, {asked.clips} clips a seed"
    )
    return notes


def _data_sha(m: Any) -> str | None:
    data = m.run.entry["data"] if m.run is not None else None
    return str(data.get("sha256")) if isinstance(data, dict) else None
