"""The gates of a generator, each from the arms it needs; and how many steps are enough, with the reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.metrics import generation_sets as sets
from choreo_cli.metrics import generation_stats as stats
from choreo_cli.metrics.generation_gates import (
    AT_CHANCE,
    FEATURES,
    GATES,
    LEAST_ABOVE,
    LEAST_COMPUTE,
    LEAST_DIVERSITY,
    LEAST_SANE,
    LOCKED_M_S,
    PASS_MARGIN,
    SCORE_MARGIN,
    UNITS,
    WITHIN,
    Arm,
    Bench,
    Entry,
    bound_entry,
)
from formats.metrics import entry

F64 = NDArray[np.float64]
MARGINS = {"sanity": PASS_MARGIN, "musicality": SCORE_MARGIN}
COMPARED = ("sanity", "musicality", "beat_alignment", "slide", "jerk", "clamp_rate")
NEAR_REAL = ("jerk",)  # neither more nor less is better: as far from the held-out level as may be, |ln|


def paired(a: Arm, b: Arm) -> tuple[Arm, Arm]:
    """Both arms over the seeds they have in common; over their first ones where they have none."""
    common = [s for s in a.seeds if s in b.seeds]
    if common:
        return a.of(common), b.of(common)
    n = min(len(a.seeds), len(b.seeds))
    return a.of(a.seeds[:n]), b.of(b.seeds[:n])


def against_ddim(flow: Arm, ddim: Arm, bench: Bench, unequal: str | None = None) -> list[Entry]:
    """Flow at its steps against the diffusion at fifty: non-inferior in sanity and musicality, at a fraction of rows.

    Args:
        flow, ddim: Arms of the same clips.
        bench: See `Bench`.
        unequal: Why the two were not trained alike; the comparison then is no verdict.
    """
    a, b = paired(flow, ddim)
    name = f"generation.{flow.name}_vs_{ddim.name}"
    params = bench.about(flow, against=ddim.name, model_seeds=list(a.seeds))
    out = []
    for figure, margin in MARGINS.items():
        found = stats.difference(a.figures[figure], b.figures[figure], bench.units, bench.rng)
        parts = {"parts": dict(flow.parts)} if figure == "musicality" else {}
        more = {**parts, "margin": margin, "clips_a_seed_for_the_margin": stats.clips_needed(found, margin)}
        out.append(bound_entry(
            f"{name}.{figure}", found, "1", (">=", -margin), "against_ddim", {**params, **more}, side=0, why=unequal,
        ))  # fmt: skip
    ratio = ddim.rows / flow.rows if flow.rows else None
    about = {**params, "gate": GATES["against_ddim"], "of": "network rows a clip (evaluations times guidance branches)",
             "nfe_ratio": ddim.nfe / flow.nfe if flow.nfe else None}  # fmt: skip
    return [*out, entry(f"{name}.compute", ratio, "x", "higher", goal=(">=", LEAST_COMPUTE), params=about,
                        status="ok" if ratio is not None else "insufficient", why=unequal)]  # fmt: skip


def sane(arm: Arm, bench: Bench, name: str) -> Entry:
    """The share of clips that could be a person's, against 90 %."""
    found = stats.mean(arm.figures["sanity"], bench.units, bench.rng)
    params = bench.about(arm, gate=GATES["sane"], failures=dict(arm.failures), values=list(found.seeds))
    return entry(f"generation.sane.{name}", found.value, "1", "higher", n=found.n, ci=found.ci,
                 goal=(">=", LEAST_SANE), params=params)  # fmt: skip


def distilled(student: Arm, teacher: Arm, bench: Bench) -> list[Entry]:
    """A student's one step against its teacher's four: sanity, musicality, diversity."""
    a, b = paired(student, teacher)
    name = f"generation.{student.name}_vs_{teacher.name}"
    params = bench.about(student, against=teacher.name, model_seeds=list(a.seeds), gate=GATES["distilled"])
    out = []
    for figure in MARGINS:
        found = stats.ratio(a.figures[figure], b.figures[figure], bench.units, bench.rng)
        more = {"values": list(found.seeds), "of": f"{figure} over the teacher's"}
        why = None if found.value is not None else "the teacher scores nothing"
        out.append(entry(
            f"{name}.{figure}", found.value, "1", "higher", n=found.n, ci=found.ci, goal=(">=", WITHIN),
            status="ok" if found.value is not None else "insufficient", why=why, params={**params, **more},
        ))  # fmt: skip
    return [*out, diversity(a, b, bench, f"{name}.diversity", params)]


def diversity(a: Arm, b: Arm, bench: Bench, name: str, params: Mapping[str, Any]) -> Entry:
    """Mean pairwise distance of the clips of one arm over those of another, of the worse of both feature sets."""
    far, found = bench.far, {}
    for _, feature in FEATURES:
        pairs = zip(getattr(a, feature), getattr(b, feature), strict=True)
        each = [sets.diversity_ratio(x, y, far[feature], bench.rng) for x, y in pairs]
        known = [d for d in each if d.ratio is not None and d.ci is not None]
        if known:
            ratios = [float(d.ratio or 0) for d in known]
            ci = [float(np.mean([d.ci[k] for d in known if d.ci is not None])) for k in (0, 1)]
            found[feature] = (float(np.mean(ratios)), ci, known[0].n)
    if not found:
        return entry(name, None, "1", "higher", n=0, goal=(">=", LEAST_DIVERSITY), status="insufficient",
                     why="too few windows with features", params=params)  # fmt: skip
    worst = min(found, key=lambda f: found[f][0])
    value, ci, n = found[worst]
    return entry(name, value, "1", "higher", n=n, ci=ci, goal=(">=", LEAST_DIVERSITY),
                 params={**params, "features": worst, "ratios": {k: v[0] for k, v in found.items()}})  # fmt: skip


def contact(arm: Arm, bench: Bench) -> list[Entry]:
    """Sliding after and before the lock, contact, and joint limits."""
    after = arm.figures["slide_after_lock"]
    known = after[np.isfinite(after)]
    params = bench.about(arm)
    worst = float(known.max()) if len(known) else None
    more = {"gate": GATES["sliding"], "of": "the worst clip", "mean": float(known.mean()) if len(known) else None,
            "clips_above": int((known > LOCKED_M_S).sum())}  # fmt: skip
    out = [entry(
        f"generation.feet.after_lock.{arm.name}", worst, "m/s", "lower", n=len(known), goal=("<=", LOCKED_M_S),
        status="ok" if len(known) else "insufficient", why=None if len(known) else "no foot ever stands",
        params={**params, **more},
    )]  # fmt: skip
    made = "the held-out feet were placed by a program and stand exactly; recorded ones never do"
    before = stats.mean(arm.figures["slide"], bench.units, bench.rng)
    level = bench.level("slide")
    why = made if bench.synthetic else None if level is not None else "no held-out foot ever stands"
    out.append(entry(
        f"generation.feet.before_lock.{arm.name}", before.value, "m/s", "lower", n=before.n, ci=before.ci,
        goal=None if level is None else ("<=", level), floor=None if level is None else ("held-out clips", level),
        status="ok" if before.value is not None else "insufficient", why=why,
        params={**params, "gate": GATES["sliding_before"]},
    ))  # fmt: skip
    down, real = stats.mean(arm.figures["contact_fraction"], bench.units, bench.rng), bench.level("contact_fraction")
    out.append(entry(
        f"generation.feet.contact.{arm.name}", down.value, "1", "higher", n=down.n, ci=down.ci,
        goal=None if real is None else (">=", 0.5 * real), floor=None if real is None else ("held-out clips", real),
        status="ok" if down.value is not None else "insufficient", params={**params, "gate": GATES["contact"]},
    ))  # fmt: skip
    limits = arm.figures["limits_after_clamp"]
    broken = limits[np.isfinite(limits)]
    out.append(entry(
        f"generation.limits.{arm.name}", float(broken.max()) if len(broken) else None, "1", "lower", n=len(broken),
        goal=("<=", 0.0), status="ok" if len(broken) else "insufficient",
        params={**params, "gate": GATES["limits"], "of": "the worst clip: share of frames beyond a limit",
                "clips_with_one": int((broken > 0).sum()),
                "clamp_rate_before": _known_mean(arm.figures["clamp_rate"])},
    ))  # fmt: skip
    return out


def music(arm: Arm, bench: Bench) -> list[Entry]:
    """Beat alignment above chance, and at chance against songs that were not heard."""
    params = bench.about(arm)
    heard = stats.mean(arm.figures["beat_alignment"], bench.units, bench.rng)
    other = stats.mean(arm.figures["shuffled"], bench.units, bench.rng)
    level = {"held_out": bench.level("beat_alignment"), "held_out_shuffled": bench.level("shuffled")}
    why = None if other.value is not None else "one song: there is no other to shuffle with"
    if other.ci is not None and other.ci[0] <= 0 and other.ci[1] > AT_CHANCE:
        why = f"the interval reaches {other.ci[1]:.2f}, {AT_CHANCE} is the most: more clips can tell"
    return [
        bound_entry(f"generation.music.above_chance.{arm.name}", heard, "1", (">=", LEAST_ABOVE), "music",
                    {**params, **level}, side=0),
        bound_entry(f"generation.music.shuffled.{arm.name}", other, "1", ("<=", 0.0), "shuffled",
                    {**params, **level}, side=0, better="lower", why=why),
    ]  # fmt: skip


@dataclass(frozen=True, slots=True)
class TaskArm:
    """Clips with given frames.

    Args:
        name: `predict` or `inbetween`.
        arm: Settings and seeds; its tables hold what `generation_tasks` measures, and `known`.
    """

    name: str
    arm: Arm


def task_gates(task: TaskArm, bench: Bench, few: str | None = None) -> list[Entry]:
    """Known frames exact, and better than each simple rule beyond the interval of the paired difference.

    Args:
        task: Clips with given frames.
        bench: See `Bench`.
        few: That there are fewer clips than the gates were made for: an interval that holds 0 then says nothing.
    """
    arm, f = task.arm, task.arm.figures
    params = bench.about(arm, task=task.name)
    worst = float(np.nanmax(f["known"])) if np.isfinite(f["known"]).any() else None
    out = [entry(
        f"generation.{task.name}.known", worst, "1", "lower", n=int(np.isfinite(f["known"]).sum()), goal=("<=", 0.0),
        status="ok" if worst is not None else "insufficient",
        params={**params, "gate": GATES["known"], "of": "largest difference from a given value, raw channels"},
    )]  # fmt: skip
    rules = ("interpolation",) if task.name == "inbetween" else ("repeat_last", "velocity")
    gate = "between" if task.name == "inbetween" else "predict"
    for rule in rules:
        found = stats.difference(f["made"], f[rule], bench.units, bench.rng)
        horizons = {k: _known_mean(v) for k, v in f.items() if k.startswith(("made@", f"{rule}@"))}
        more = {"made_m": _known_mean(f["made"]), f"{rule}_m": _known_mean(f[rule]), "horizons_m": horizons}
        open_ = few if found.ci is not None and found.ci[0] <= 0 < found.ci[1] else None
        out.append(bound_entry(
            f"generation.{task.name}.over_{rule}", found, "m", ("<=", 0.0), gate, {**params, **more}, side=1,
            better="lower", why=open_,
        ))  # fmt: skip
    if "seam" in f and np.isfinite(f["seam"]).any():
        about = {**params, "of": "largest acceleration at a seam over the 99th percentile inside"}
        n = int(np.isfinite(f["seam"]).sum())
        out.append(entry(f"generation.{task.name}.seam", _known_mean(f["seam"]), "1", "lower", n=n, params=about))
    return out


def no_worse(
    mine: Arm, theirs: Arm, bench: Bench, other: str, tasks: Mapping[str, tuple[Arm, Arm]] | None = None
) -> list[Entry]:
    """What got worse than another run beyond its interval: the far end of the interval of the gain must reach 0.

    Args:
        mine, theirs: Arms of the same clips.
        bench: See `Bench`.
        other: Name of the other run.
        tasks: Task -> both arms with given frames, which are compared by their error.
    """
    alike = set(mine.seeds) == set(theirs.seeds)
    a, b = paired(mine, theirs) if alike else (mine, theirs)
    compare = stats.difference if alike else stats.unpaired
    about = bench.about(mine, against=other, gain_of="positive is better than the other run")
    out = []
    for figure in COMPARED:
        unit, better = UNITS[figure]
        sign, level = 1.0 if better == "higher" else -1.0, bench.level(figure)
        near = figure in NEAR_REAL and level is not None and level > 0
        x, y = (np.abs(np.log(np.maximum(v.figures[figure], 1e-9) / level)) if near and level else v.figures[figure]
                for v in (a, b))  # fmt: skip
        found = compare(sign * x, sign * y, bench.units, bench.rng)
        levels = {"this": _known_mean(a.figures[figure]), "that": _known_mean(b.figures[figure])}
        more = {"held_out": level, "of": "|ln| of the ratio to the held-out level"} if near else {}
        out.append(bound_entry(
            f"generation.against.{figure}", found, "1" if near else unit, (">=", 0.0), "not_worse",
            {**about, **levels, **more}, side=1,
        ))  # fmt: skip
    for task, (one, two) in (tasks or {}).items():
        one, two = paired(one, two) if alike else (one, two)
        found = compare(-one.figures["made"], -two.figures["made"], bench.units, bench.rng)
        levels = {"this": _known_mean(one.figures["made"]), "that": _known_mean(two.figures["made"])}
        out.append(bound_entry(
            f"generation.against.{task}", found, "m", (">=", 0.0), "not_worse", {**about, **levels}, side=1,
        ))  # fmt: skip
    out += [_nearer(letter, feature, mine, theirs, bench, about) for letter, feature in FEATURES]
    ratio = diversity(*paired(mine, theirs), bench, "generation.against.diversity", bench.about(mine, against=other))
    goal = None if ratio["ci"] is None else (">=", 1.0)
    top = None if ratio["ci"] is None else ratio["ci"][1]
    about = {**ratio["params"], "gate": GATES["not_worse"], "mean": ratio["value"], "bound": "upper"}
    out.append(entry("generation.against.diversity", top, "1", "higher", n=ratio["n"], ci=ratio["ci"], goal=goal,
                     status=ratio["status"], why=ratio["why"], params=about))  # fmt: skip
    return out


def _nearer(letter: str, feature: str, mine: Arm, theirs: Arm, bench: Bench, about: Mapping[str, Any]) -> Entry:
    """How much nearer to the held-out windows than the other run, by kernel distance.

    Each run has its own interval over draws; that of the gain is the widest that both allow.
    """
    far, name = bench.far[feature], f"generation.against.kernel_distance_{letter}"
    both = [
        [sets.apart(far, bench.far_groups, m, bench.rng, kernel=True) for m in getattr(arm, feature)]
        for arm in (mine, theirs)
    ]
    known = [[(d.value, d.ci, d.n) for d in side if d.value is not None and d.ci is not None] for side in both]
    if not all(known):
        why = next((d.why for side in both for d in side if d.why), "no distance")
        return entry(name, None, "1", "higher", n=0, goal=(">=", 0.0), status="insufficient", why=why,
                     params={**about, "gate": GATES["not_worse"], "features": feature})  # fmt: skip
    (this, low, high), (that, least, most) = (
        (float(np.mean([v for v, _, _ in side])), *(float(np.mean([ci[k] for _, ci, _ in side])) for k in (0, 1)))
        for side in known
    )
    found = stats.Estimate(that - this, (least - high, most - low), known[0][0][2], (that - this,))
    params = {**about, "features": feature, "this": this, "that": that}
    return bound_entry(name, found, "1", (">=", 0.0), "not_worse", params, side=1)


def choose_steps(arms: Sequence[Arm], bench: Bench) -> tuple[Arm, str]:
    """The fewest steps that are as good as the most, and the reason in a sentence.

    As good: 90 % sane; neither sanity nor musicality more than its margin below the arm of the most steps, at the mean
    (the interval is told); windows no farther from the held-out ones than its own interval allows; nine tenths of its
    diversity. Where no arm is 90 % sane, the one with the highest sum of sanity and musicality.

    Args:
        arms: Of one network, by steps, fewest first.
        bench: See `Bench`.
    """
    most = arms[-1]
    far = _distance(most, bench)
    lost: dict[str, str] = {}
    for arm in arms:
        why, told = _short_of(arm, most, far, bench)
        if not why:
            besides = "; ".join(f"{name} {reason}" for name, reason in lost.items())
            besides = f"; {besides}" if besides else ""
            rate = _percent(_known_mean(arm.figures["sanity"]) or 0.0)
            if arm is most:
                return arm, f"{rate} sane, and no fewer steps are as good{besides}"
            return arm, f"the fewest steps as good as {most.name} ({told}), {rate} sane{besides}"
        lost[arm.name] = why
    best = max(arms, key=lambda a: sum(_known_mean(a.figures[f]) or 0.0 for f in MARGINS))
    rate = _percent(_known_mean(best.figures["sanity"]) or 0.0)
    return best, f"no number of steps is 90 % sane; {best.name} has the most sanity and musicality ({rate} sane)"


def _short_of(arm: Arm, most: Arm, far: sets.Apart, bench: Bench) -> tuple[str, str]:
    """(what an arm lacks against the most steps, empty when nothing; its differences in words)."""
    rate = _known_mean(arm.figures["sanity"]) or 0.0
    if rate < LEAST_SANE:
        return f"is {_percent(rate)} sane", ""
    if arm is most:
        return "", ""
    gaps = {f: stats.difference(arm.figures[f], most.figures[f], bench.units, bench.rng) for f in MARGINS}
    told = ", ".join(f"{f} {_signed(g)}" for f, g in gaps.items() if g.value is not None)
    for f, g in gaps.items():
        if g.value is not None and g.value < -MARGINS[f]:
            return f"loses {f} {_signed(g)}", told
    mine = _distance(arm, bench)
    if mine.value is not None and far.value is not None and far.ci is not None and mine.value > far.ci[1]:
        return f"is farther from held-out windows (kernel distance {mine.value:.3g}, {most.name} {far.value:.3g})", told
    spread = diversity(arm, most, bench, "generation.diversity", {})["value"]
    if spread is not None and spread < LEAST_DIVERSITY:
        return f"has {spread:.2f} of its diversity", told
    return "", told


def _distance(arm: Arm, bench: Bench) -> sets.Apart:
    """Kernel distance of an arm's kinetic features, all seeds together; the same draws for every arm."""
    x = arm.kinetic.reshape(-1, arm.kinetic.shape[-1])
    return sets.apart(bench.far["kinetic"], bench.far_groups, x, np.random.default_rng(11), kernel=True)


def steps_entry(chosen: Arm, reason: str, steps: int, bench: Bench, table: Mapping[str, Any]) -> Entry:
    """The chosen number of steps and why."""
    return entry("generation.steps", float(steps), "steps", "lower", n=len(chosen.seeds),
                 params=bench.about(chosen, reason=reason, table=dict(table)))  # fmt: skip


def _signed(g: stats.Estimate) -> str:
    span = "" if g.ci is None else f" [{g.ci[0]:+.3f}, {g.ci[1]:+.3f}]"
    return f"{g.value:+.3f}{span}"


def _percent(rate: float) -> str:
    return f"{100 * rate:.1f} %"


def _known_mean(x: F64) -> float | None:
    return float(np.nanmean(x)) if np.isfinite(x).any() else None
