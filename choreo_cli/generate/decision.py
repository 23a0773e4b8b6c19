"""The early decision of a training: does it learn, and if not, what to do instead, as a command that can be run."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.generate.config import MotionConfig
from choreo_cli.training.runlog import validations
from choreo_cli.training.settings import texts
from formats.metrics import entry

F64 = NDArray[np.float64]
FEWEST = 3  # validations a slope is drawn through


@dataclass(frozen=True, slots=True)
class Decision:
    """What a training's curve says.

    Args:
        slope: Of the validation loss over the last third of the validations, a share of its mean per validation; None
            with too few of them.
        validations: How many there were.
        distance: Frechet distance of drawn windows to held-out ones.
        mean_pose: The same of windows that repeat the mean pose.
        go_on: False when the loss does not fall and the samples are no better than the mean pose.
        commands: What to run instead; empty when it goes on.
    """

    slope: float | None
    validations: int
    distance: float | None
    mean_pose: float | None
    go_on: bool
    commands: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """What is printed and recorded."""
        if not self.go_on:
            return f"held-out loss not falling: {' && '.join(self.commands)}"
        if self.slope is None:
            return f"{self.validations} validations say nothing of a trend yet: train longer"
        if self.slope >= 0:
            return "the held-out loss is flat, but the samples are better than the mean pose: go on"
        return "the held-out loss is falling: go on"

    def record(self) -> dict[str, Any]:
        """As a card holds it."""
        return {
            "go_on": self.go_on, "sentence": self.sentence, "commands": list(self.commands), "slope": self.slope,
            "validations": self.validations, "distance": self.distance, "mean_pose": self.mean_pose,
        }  # fmt: skip

    def metric(self) -> dict[str, Any]:
        """As an entry of `choreo.metrics/1`."""
        pose = None if self.mean_pose is None else ("mean pose", self.mean_pose)
        params = {"slope": self.slope, "validations": self.validations, "decision": self.sentence}
        why = "no held-out windows" if self.distance is None else None
        return entry(
            "generation.distance_to_held_out", self.distance, "1", "lower", baseline=pose,
            goal=None if self.mean_pose is None else ("<=", self.mean_pose), params=params, why=why,
            status="insufficient" if self.distance is None else "ok",
        )  # fmt: skip


def validation_losses(log: Path) -> list[float]:
    """Held-out losses of a run's `log.jsonl`, in order; empty without one."""
    return [r["loss"] for r in validations(log) if r.get("loss") is not None]


def decide(
    losses: Sequence[float], distance: float | None, mean_pose: float | None, commands: Sequence[str]
) -> Decision:
    """Judge a curve: it goes on unless the loss does not fall over its last third and the samples are no good either.

    Args:
        losses: Validation losses in order.
        distance, mean_pose: See `Decision`.
        commands: The way out.
    """
    last = np.asarray(losses[-max(FEWEST, len(losses) // 3) :], np.float64)
    slope = None
    if len(last) >= FEWEST:
        x = np.arange(len(last)) - (len(last) - 1) / 2
        slope = float((x * last).sum() / (x * x).sum() / max(abs(float(last.mean())), 1e-12))
    bad = distance is None or mean_pose is None or distance >= mean_pose
    go_on = slope is None or slope < 0 or not bad
    return Decision(slope, len(losses), distance, mean_pose, go_on, () if go_on else tuple(commands))


def changed(config: MotionConfig) -> tuple[str, ...]:
    """`name=value` of every setting that flow and diffusion share and that is not the default, but for the size."""
    plain = MotionConfig()
    names = [n for n in MotionConfig.__struct_fields__ if n != "size" and getattr(config, n) != getattr(plain, n)]
    return tuple(f"{n}={text}" for n, text in texts({n: getattr(config, n) for n in names}).items())


def way_out(
    recipe: str, run: Path, source: Path | None, size: str, seed: int, settings: Sequence[str] = ()
) -> tuple[str, ...]:
    """Commands of the consistency route: from this run when it is a diffusion, else from one of the same budget.

    Args:
        recipe: `flow` or `ddim`.
        run: Folder of the run.
        source: What it was trained on, None when it was piped in.
        size: Of the network.
        seed: Of the run.
        settings: `changed` of its configuration: a diffusion of the same budget is trained with them.
    """
    data = shlex.quote(str(source)) if source is not None else "motions.json"
    teacher = run if recipe == "ddim" else run.with_name(f"{run.name}-ddim")
    named = shlex.quote(str(teacher))
    student = shlex.quote(str(run.with_name(f"{run.name}-consistency")))
    distill = f"choreo distill --method consistency {named} {data} -o {student}"
    if recipe == "ddim":
        return (distill,)
    sets = "".join(f" --set {shlex.quote(s)}" for s in (f"size={size}", *settings))
    return (f"choreo train ddim {data}{sets} --seed {seed} -o {named}", distill)


def window_features(x: NDArray[Any]) -> F64:
    """(B, T, 25) normalised windows as (B, 75): mean, spread and mean step of every channel."""
    a = np.asarray(x, np.float64)
    return np.concatenate([a.mean(1), a.std(1), np.abs(np.diff(a, axis=1)).mean(1)], -1)


def distance_to(real: NDArray[Any], drawn: NDArray[Any]) -> float:
    """Frechet distance of the window features of two sets, as independent normals: robust with few windows.

    `|m1 - m2|^2 + sum (s1 - s2)^2` (Dowson and Landau 1982, diagonal case).
    """
    a, b = window_features(real), window_features(drawn)
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + ((a.std(0) - b.std(0)) ** 2).sum())
