"""What the three methods of `choreo distill` have in common: teacher, windows, loss, comparison, checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from choreo_cli.dataset.motions_stats import Stats
from choreo_cli.errors import UsageError
from choreo_cli.generate.config import SIZES, Shape
from choreo_cli.generate.distill_config import STEPS, DistillConfig
from choreo_cli.generate.distill_judge_torch import Reference, compare, errors, judged_rows, reference
from choreo_cli.generate.distill_paths_torch import Way, student_predicts
from choreo_cli.generate.distill_teacher import Found, find_teacher, open_windows
from choreo_cli.generate.distill_torch import Student, Teacher, Told, begin_from, told_of
from choreo_cli.generate.dit_torch import cover
from choreo_cli.generate.guidance import PLAIN, Guidance
from choreo_cli.generate.model_files import defaults_record, encode_model, open_model, shape_of
from choreo_cli.generate.recipe_torch import MotionData
from choreo_cli.generate.structure_torch import structure_terms
from choreo_cli.training.accelerator import arithmetic
from choreo_cli.training.recipe import Finished, Job, RunFiles

I64 = NDArray[np.int64]

READS = ("choreo.run",)
TAKES = ("motions",)
NAME = "distilled"


@dataclass(frozen=True, slots=True)
class Learned:
    """What a method makes of a batch, (B, T, 25) each: `found` should be `goal`, and is `error` away from it."""

    found: Tensor
    goal: Tensor
    error: Tensor


# (recipe, student, batch, told, noise, draws) -> Learned
Learn = Callable[["DistillRecipe", Student, Mapping[str, Tensor], Told, Tensor, torch.Generator], Learned]


class Windows(MotionData, Protocol):
    """Windows whose content has a name: samples of a teacher are kept for it."""

    @property
    def sha256(self) -> str: ...


class Material(Protocol):
    """Training items that are made before the first step; `distill_pairs_torch.PairStore`."""

    @property
    def count(self) -> int: ...
    def prepare(
        self, folder: Path, device: str, stop: Callable[[], bool], say: Callable[[str, int, int], None]
    ) -> bool: ...
    def batch(self, items: I64) -> dict[str, Tensor]: ...
    def told(self, batch: Mapping[str, Tensor]) -> tuple[Told, Tensor]: ...
    def files(self) -> dict[str, str]: ...


@dataclass(slots=True)
class DistillRecipe:
    """One student, its teacher and its method; see `training.recipe.Recipe`.

    Args:
        method: consistency, regression or shortcut.
        config: Settings.
        seed: Of the run.
        source: Windows.
        stats: The teacher's normalisation, which is the student's too.
        teacher: Network with guidance.
        steps, solver: Of the teacher's samples.
        shape: Of the student.
        learn: The method.
        facts: Of the teacher's card.
        target: Decay of the student's average that gives targets; 0 for none.
        sized: The student is told the size of its step.
        material: Items that are made first, None where they are the windows.
        inputs, data, parents, roots: Provenance.
    """

    method: str
    config: DistillConfig
    seed: int
    source: Windows
    stats: Stats
    teacher: Teacher
    steps: int
    solver: str
    shape: Shape
    learn: Learn
    facts: Mapping[str, Any]
    target: float = 0.0
    sized: bool = False
    material: Material | None = None
    inputs: list[dict[str, Any]] = field(default_factory=list)
    data: dict[str, Any] = field(default_factory=dict)
    parents: list[dict[str, Any]] = field(default_factory=list)
    roots: dict[str, Path] = field(default_factory=dict)
    name: str = NAME
    _judged: Reference | None = None

    @property
    def n_items(self) -> int:
        return self.material.count if self.material is not None else len(self.source.windows("train"))

    @property
    def synthetic(self) -> bool:
        return bool(self.source.synthetic)

    @property
    def way(self) -> Way:
        """The student's."""
        return Way(self.teacher.way.process, student_predicts(self.teacher.way))

    def model(self) -> nn.Module:
        """A student; with its teacher's weights where it is to have them and can."""
        made = Student(self.shape, self.way, sized=self.sized, averaged=self.target > 0)
        if self.config.start == "teacher":
            begin_from(made, self.teacher)
        return made

    def prepare(
        self, folder: Path, device: str, stop: Callable[[], bool], say: Callable[[str, int, int], None]
    ) -> bool:
        """Make what has to be there before the first step; False when `stop` said so in between."""
        return self.material is None or self.material.prepare(folder, device, stop, say)

    def batch(self, items: I64, epoch: int) -> dict[str, Tensor]:
        """`x` (B, T, 25) and `audio` (B, T, A), normalised; with what the material adds."""
        if self.material is not None:
            return self.material.batch(items)
        return self.tensors(self.source.batch(self.source.windows("train")[items], epoch))

    def tensors(self, found: Mapping[str, NDArray[Any]]) -> dict[str, Tensor]:
        """Raw windows as the networks see them."""
        made = {"x": self.stats.normalise(found["x"]), "audio": self.stats.normalise_audio(found["audio"])}
        return {k: torch.from_numpy(np.ascontiguousarray(v, np.float32)) for k, v in made.items()}

    def loss(
        self, model: nn.Module, batch: Mapping[str, Tensor], draws: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The method's error where nothing is given, and the weighted structure terms."""
        c, device = self.config, batch["x"].device
        student: Any = getattr(model, "module", model)
        self.teacher.to(device)
        if self.material is not None:
            told, noise = self.material.told(batch)
        else:
            noise = torch.randn(batch["x"].shape, generator=draws).to(device)
            rng = np.random.default_rng(int(torch.randint(2**62, (1,), generator=draws)))
            told = told_of(batch, cover(self.shape.groups), rng, c.inbetween, c.predict, c.drop_audio)
        seen = self.learn(self, student, batch, told, noise, draws)
        free = 1 - told.flags
        error = ((seen.error * free).sum((1, 2)) / free.sum((1, 2)).clamp(min=1)).mean()
        n = c.structure_clips or len(free)
        found, goal = (told.given.put(a, told.known)[:n] for a in (seen.found, seen.goal))
        mean, std = (torch.tensor(np.asarray(a, np.float32), device=device) for a in (self.stats.mean, self.stats.std))
        parts = structure_terms(
            found * std + mean, goal * std + mean, self.source.fps, torch.ones(len(found), device=device)
        )
        weighted = c.position * parts["position"] + c.velocity * parts["velocity"] + c.contact * parts["contact"]
        return error + weighted, {"error": error.detach(), **parts}

    def after_step(self, model: nn.Module) -> None:
        """The student's average follows."""
        if self.target > 0:
            student: Any = getattr(model, "module", model)
            student.follow(self.target)

    def validate(self, model: nn.Module) -> dict[str, float]:
        """How far 1, 2 and 4 steps are from what the teacher makes of the same noise on held-out windows."""
        student: Any = getattr(model, "module", model)
        judged = self._reference(student)
        if judged is None:
            return {}
        found = errors(student, judged)
        return {"loss": float(np.mean(list(found.values()))), **{f"steps_{k}": e for k, e in found.items()}}

    def _reference(self, student: nn.Module) -> Reference | None:
        """The teacher's samples where the student is; they follow from the data alone."""
        rows, device = self._held_out(), next(student.parameters()).device
        if not len(rows):
            return None
        if self._judged is None or self._judged.device != device:
            self.teacher.to(device)
            self._judged = reference(self, rows, device)
        return self._judged

    def _held_out(self) -> I64:
        return judged_rows(self.source.windows("val"), self.config.val_windows)

    def finish(self, model: nn.Module, files: RunFiles) -> Finished:
        """Compare with the teacher, write the checkpoint."""
        student: Any = getattr(model, "module", model)
        with arithmetic(next(student.parameters()).device, self.config.threads):  # as in the loop: to the same bits
            judged = self._reference(student)
            found = None if judged is None else compare(self, student, judged, self._held_out())
        for role, name, data in encode_model(
            self.name, student.net, self.shape, self._facts(), self.stats, files.created_by
        ):
            files.write(role, name, data)
        for name, sha in (self.material.files() if self.material is not None else {}).items():
            files.add("pairs", name, sha)
        notes = [*self.data.get("notes", [])]
        if found is None:
            return Finished([], ["no held-out windows: the student was not compared with its teacher", *notes])
        return Finished(found.metrics(), [found.sentence(), *notes])

    def _facts(self) -> dict[str, Any]:
        """What the card says of sampling and of where the model comes from."""
        c, way = self.config, self.way
        teacher = self.parents[0] if self.parents else {}
        shares = (("INBETWEEN", c.inbetween), ("PREDICT", c.predict), ("GEN", 1 - c.inbetween - c.predict))
        kept = {k: self.facts[k] for k in ("audio_features", "text_encoder", "schedule") if k in self.facts}
        return {
            **kept, "process": way.process, "predict": way.predict, "shift": 1.0, "eta": 0.0, "baked": True,
            "sized": self.sized, "defaults": defaults_record(c.steps_used, "euler", PLAIN),
            "fps": float(self.source.fps), "frames": self.source.frames, "size": c.size, "seed": self.seed,
            "method": self.method, "learned_steps": list(STEPS), "guidance": self.teacher.guidance.audio,
            "teacher": {
                "recipe": self.facts.get("process"), "sha256": teacher.get("sha256"), "steps": self.steps,
                "solver": self.solver,
            },
            "trained_tasks": sorted(name for name, share in shares if share > 1e-9),
            "synthetic": bool(self.synthetic or self.facts.get("synthetic", False)),
            "data": {"sha256": self.data.get("sha256")},
        }  # fmt: skip


def opened(job: Job, method: str, learn: Learn, *, target: float = 0.0, sized: bool = False) -> DistillRecipe:
    """The recipe of a job: its teacher found and checked, its windows open.

    Raises:
        UsageError, NoInputError, DataError, FormatError: see `find_teacher` and `open_windows`.
    """
    found = find_teacher(job)
    source = open_windows(found, job)
    data = source.record()
    data["notes"] = [*found.notes, *data["notes"]]
    c: DistillConfig = job.config
    model = found.model
    inputs = [
        {"role": "teacher", "sha256": model.checkpoint.sha256, "schema": "choreo.checkpoint/1"}, *source.inputs
    ]  # fmt: skip
    return DistillRecipe(
        method=method, config=c, seed=job.seed, source=source, stats=model.stats, teacher=_teacher(found, c),
        steps=c.teacher_steps or model.defaults().steps, solver=model.defaults().solver,
        shape=shape_of(SIZES[c.size], model.shape.frames, model.shape.audio_width), learn=learn, facts=model.facts,
        target=target, sized=sized, inputs=inputs, data=data, parents=[found.parent()],
        roots={"data": source.folder, "teacher": found.top},
    )  # fmt: skip


def _teacher(found: Found, config: DistillConfig) -> Teacher:
    facts, own = found.model.facts, found.model.defaults().guidance
    way = Way(str(facts["process"]), str(facts["predict"]), float(facts.get("shift", 1.0)))
    weight = config.guidance or own.audio
    return Teacher(found.model.network(), way, Guidance(weight, 1.0, own.low, own.high))


def score(folder: Path, frames: Any, roots: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    """Refuse: clips are judged against music and held-out clips by `choreo evaluate generation`, not on frames."""
    open_model(folder)
    raise UsageError("a motion network is not judged on frames", hint=f"choreo evaluate generation {folder}")
