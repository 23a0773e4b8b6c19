"""`choreo train reward`: pairs of clips and a rater's answers to a score of clips (M6)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from msgspec import Meta
from numpy.typing import NDArray
from torch import Tensor, nn

from choreo_cli.errors import NoInputError, UsageError
from choreo_cli.reflex.reward import RECIPE, Reward, constants, standardised
from choreo_cli.reflex.reward_data import Pairs, gather, held_out
from choreo_cli.reflex.reward_files import encode_reward
from choreo_cli.reflex.reward_score import agreement_entry, auc_entry, position_entry
from choreo_cli.reflex.reward_torch import RewardNet, arrays_of, preference_loss
from choreo_cli.training.config import Positive, Share, TrainConfig
from choreo_cli.training.recipe import Finished, Job, RunFiles
from formats.columns import PREFERENCES

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]

READS = ("choreo.preferences",)
TAKES = ()


class Config(TrainConfig, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a reward is trained.

    Args:
        hidden: Units of each of the two hidden layers.
        dropout: Share of hidden units that are dropped in training.
        l2: Weight of the squared weights in the loss.
        hold_out: What is kept unseen for the test: `clips`, or whole `sessions`.
    """

    epochs: Positive = 15
    batch: Positive = 16
    lr: Annotated[float, Meta(gt=0, le=10)] = 3e-3
    decay: bool = True
    hidden: Positive = 24
    dropout: Annotated[float, Meta(ge=0, lt=1)] = 0.2
    l2: Share = 5e-3
    hold_out: Literal["clips", "sessions"] = "clips"


@dataclass(slots=True)
class RewardRecipe:
    """One reward, its answered pairs and its loss; see `training.recipe.Recipe`."""

    config: Config
    seed: int
    pairs: Pairs
    train: I64  # rows of `pairs` whose clips are both in training
    test: I64
    standard: tuple[F32, F32]
    inputs: list[dict[str, Any]]
    data: dict[str, Any]
    roots: dict[str, Path]
    name: str = RECIPE
    parents: list[dict[str, Any]] = field(default_factory=list)

    @property
    def n_items(self) -> int:
        return len(self.train)

    @property
    def synthetic(self) -> bool:
        return all(r["synthetic"] for r in self.pairs.rows)

    def model(self) -> nn.Module:
        """A fresh network."""
        return RewardNet(self.config.hidden, self.config.dropout)

    def batch(self, items: I64, epoch: int) -> dict[str, Tensor]:
        """`a`, `b` (B, F) standardised statistics, `choice` (B,) 1, 0 or .5."""
        rows = self.train[items]
        z = standardised(self.pairs.features, *self.standard)
        clips = self.pairs.clips[rows]
        made = {"a": z[clips[:, 0]], "b": z[clips[:, 1]], "choice": self.pairs.choice[rows]}
        return {k: torch.from_numpy(np.ascontiguousarray(v)) for k, v in made.items()}

    def loss(
        self, model: nn.Module, batch: Mapping[str, Tensor], draws: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Bradley-Terry loss, and the squared weights."""
        both = model(torch.stack([batch["a"], batch["b"]]), draws)
        answers = preference_loss(both[0], both[1], batch["choice"])
        size = sum(((p**2).sum() for n, p in model.named_parameters() if n.endswith("weight")), torch.zeros(()))
        decay = self.config.l2 * size.to(answers.device)
        return answers + decay, {"answers": answers, "l2": decay}

    def after_step(self, model: nn.Module) -> None:
        """Nothing to project."""

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Nothing: answers are too dear to spend on choosing an epoch; dropout and l2 take that part."""
        return {}

    def finish(self, model: nn.Module, files: RunFiles) -> Finished:
        """Write the checkpoint and its twins, and judge it on the pairs of held-out clips."""
        assert isinstance(model, RewardNet)
        arrays = arrays_of(model) | {"mean": self.standard[0], "std": self.standard[1]}
        facts = {
            "hold_out": self.config.hold_out, "pairs": self.data["pairs"], "seed": self.seed,
            "data": {"sha256": self.data["sha256"]},
        }  # fmt: skip
        made = encode_reward(arrays, self.config.hidden, facts, files.created_by)
        self._compare(model, Reward(arrays), next(data for _, name, data in made if name == "model.onnx"))
        for role, name, data in made:
            files.write(role, name, data)
        return Finished(entries_of(Reward(arrays), self.pairs, self.test, self.seed), list(self.data["notes"]))

    def _compare(self, model: RewardNet, final: Reward, onnx: bytes) -> None:
        """Raise DataError unless torch, numpy and ONNX say the same to 1e-5."""
        from choreo_cli.export.parity import difference, parity

        features = self.pairs.features
        with torch.no_grad():
            wanted = model.to("cpu")(torch.from_numpy(standardised(features, *self.standard))).numpy()
        difference(final.scores(features), wanted, "numpy and torch")
        parity(onnx, {"features": features}, {"score": wanted})


def open_recipe(job: Job) -> RewardRecipe:
    """Answers, their clips and the split.

    Raises:
        NoInputError: no preferences file, or the frames it speaks of are not where they were.
        UsageError: no clear answer on two training clips.
        FormatError: a damaged file, or other frames than were rated.
    """
    if job.source is None or not job.source.is_file():
        raise NoInputError(f"no preferences file {job.source or ''}".rstrip(), hint="make one: choreo prefer SESSIONS")
    config: Config = job.config
    pairs = gather(job.source, job.roots.get("data"))
    test_clip = held_out(pairs.clip_names, config.hold_out)
    sides = test_clip[pairs.clips].sum(axis=1)
    usable = ~np.isnan(pairs.choice)
    train, test = np.flatnonzero(usable & (sides == 0)), np.flatnonzero(usable & (sides == 2))
    if not (pairs.choice[train] != 0.5).any():
        raise UsageError("no clear answer on two training clips", hint="answer more questions: choreo prefer")
    counted = {
        "train": len(train), "test": len(test), "mixed_dropped": int((usable & (sides == 1)).sum()),
        "skipped": int((~usable).sum()), "same": int((pairs.choice == 0.5).sum()),
        "train_clips": int((~test_clip).sum()), "test_clips": int(test_clip.sum()),
    }  # fmt: skip
    data = _record(job.source, pairs, counted, config)
    inputs = [{"role": "preferences", "sha256": data["sha256"], "schema": PREFERENCES.schema}]
    inputs += [{"role": "frames", "sha256": k, "schema": v} for k, v in sorted(pairs.sources.items())]
    used = np.unique(pairs.clips[train])
    return RewardRecipe(
        config, job.seed, pairs, train, test, constants(pairs.features[used]), inputs, data,
        {"data": job.source.resolve().parent},
    )  # fmt: skip


def _record(file: Path, pairs: Pairs, counted: dict[str, int], config: Config) -> dict[str, Any]:
    notes = [f"{counted['mixed_dropped']} answers compare a training clip with a held-out one: dropped"]
    notes = notes if counted["mixed_dropped"] else []
    if config.hold_out == "clips":
        notes.append("clips are held out, sessions are not: clips of one session stand on both sides")
    if any(r["synthetic"] for r in pairs.rows):
        notes.append("answers of a rule, or on synthetic clips: nothing can be said of people's taste")
    return {
        "schema": PREFERENCES.schema, "sha256": hashlib.sha256(file.read_bytes()).hexdigest(), "root": "data",
        "path": file.name, "sessions": {}, "rows": {}, "pairs": counted, "leaks": [], "notes": notes,
        "raters": sorted({r["rater"] for r in pairs.rows}), "synthetic": all(r["synthetic"] for r in pairs.rows),
    }  # fmt: skip


def entries_of(model: Reward, pairs: Pairs, test: I64, seed: int) -> list[dict[str, Any]]:
    """AUC on held-out clips, the raters' agreement and their position bias."""
    agreement = agreement_entry(pairs.rows)
    told = {
        "ceiling_auc": agreement["params"]["ceiling_auc"], "agreement_n": agreement["n"],
        "same_left_out": int((pairs.choice[test] == 0.5).sum()), "raters": len({r["rater"] for r in pairs.rows}),
    }  # fmt: skip
    margins = pairs.margins(model.scores(pairs.features), test)
    return [auc_entry(margins, seed=seed, params=told), agreement, position_entry(pairs.rows)]


def score(folder: Path, frames: Any, roots: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    """Judge a checkpoint on the held-out clips of a preferences file.

    Args:
        folder: The run folder.
        frames: Path of a preferences file (not a `FrameSet`: frames alone hold no answers).

    Raises:
        UsageError: frames were given instead.
    """
    if not isinstance(frames, str | Path):
        raise UsageError("a reward is judged on answers, not on frames", hint="give a preferences.parquet")
    model = Reward.read(folder)
    pairs = gather(Path(frames), None)
    test_clip = held_out(pairs.clip_names, str(model.facts.get("hold_out", "clips")))
    both: Sequence[int] = np.flatnonzero(test_clip[pairs.clips].all(axis=1) & ~np.isnan(pairs.choice)).tolist()
    return entries_of(model, pairs, np.array(both, np.int64), int(model.facts.get("seed", 0)))
