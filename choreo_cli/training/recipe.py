"""What a lane hands to the training loop, and what it gets back: the only contract between them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from formats.manifest import Manifest

I64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Job:
    """What a user asked to train.

    Args:
        source: The named input, None when it was piped in.
        manifest: The manifest that was named or piped in, None for other files (a frames Parquet, a pack).
        config: Resolved configuration, an instance of the lane's `Config`.
        seed: Seed of every draw.
        options: What else was given on the command line, by name (`rps`, `targets`, `latents`, `controls`, `fold`,
            `split`...); absent ones are missing from the mapping.
        roots: Where roots of the manifest lie now (`--root`).
    """

    source: Path | None
    manifest: Manifest | None
    config: Any
    seed: int
    options: Mapping[str, Any] = field(default_factory=dict)
    roots: Mapping[str, str] = field(default_factory=dict)


class RunFiles(Protocol):
    """Where a recipe puts its files; `choreo_cli.outputs.OutputFolder` is one."""

    created_by: dict[str, Any]

    def target(self, relative: str) -> Path: ...

    def add(self, role: str, relative: str, sha256: str) -> None: ...

    def write(self, role: str, relative: str, data: bytes) -> None: ...


@dataclass(frozen=True, slots=True)
class Finished:
    """What a recipe says of the model it has written.

    Args:
        metrics: Held-out figures, entries of `choreo.metrics/1`.
        notes: Sentences for the person and the report: what could not be concluded, and why.
    """

    metrics: list[dict[str, Any]]
    notes: list[str] = field(default_factory=list)


class Recipe(Protocol):
    """One model, its data and its loss. It never draws from a global generator and keeps no hidden state.

    Attributes:
        name: `rps`, `mapper`...
        config: Resolved configuration; has at least the fields of `TrainConfig`.
        inputs: Provenance of the inputs, `{role, sha256, schema}` each.
        data: The `data` record of a `choreo.run/1` entry.
        parents: The `parents` record.
        roots: Folders that `data` and `parents` refer to, by root id.
        n_items: Training items; item k is the same in every epoch.
        synthetic: Everything it learns from is synthetic.
    """

    name: str
    config: Any
    inputs: list[dict[str, Any]]
    data: dict[str, Any]
    parents: list[dict[str, Any]]
    roots: dict[str, Path]
    n_items: int
    synthetic: bool

    def model(self) -> nn.Module:
        """A fresh network; the loop has seeded torch before it calls this."""
        ...

    def batch(self, items: I64, epoch: int) -> dict[str, Tensor]:
        """Training items as CPU tensors. Random draws follow from (seed, epoch, item) alone."""
        ...

    def loss(
        self, model: nn.Module, batch: Mapping[str, Tensor], draws: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss to step on, and its parts by name. `draws` is seeded by (seed, step): take every draw from it."""
        ...

    def after_step(self, model: nn.Module) -> None:
        """Project the weights after an optimiser step (a clamp); most recipes do nothing."""
        ...

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Figures on the validation sessions, `loss` among them; empty when there are none."""
        ...

    def finish(self, model: nn.Module, files: RunFiles) -> Finished:
        """Write the checkpoint and its twins, the timelines asked for, and judge the model on the held-out sessions."""
        ...


@runtime_checkable
class Prepares(Protocol):
    """A recipe that makes material in the run's folder before its first step; whole parts of it stay when it stops."""

    def prepare(
        self, folder: Path, device: str, stop: Callable[[], bool], say: Callable[[str, int, int], None]
    ) -> bool:
        """Make what is missing. Called alike in every process of a launch.

        Args:
            folder: The run's.
            device: Where to compute.
            stop: Asked between parts.
            say: Takes what is being made, how many parts are done, and of how many.

        Returns:
            False when `stop` said so before everything was there.
        """
        ...


class LaneModule(Protocol):
    """What a module named in `training.recipes.RECIPES` holds at its top level."""

    Config: type[Any]
    READS: Sequence[str]
    """Manifest kinds it reads, the usual one first (`choreo.pairs`, `choreo.sessions`, `choreo.run`)."""
    TAKES: Sequence[str]
    """Names of the recipe options it understands: `latents`, `controls`, `targets`, `rps`, `mode`..."""

    def open_recipe(self, job: Job) -> Recipe: ...

    def score(self, folder: Path, frames: Any, roots: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
        """Judge the checkpoint in `folder` on the held-out sessions of a `FrameSet`: entries of `choreo.metrics/1`.

        `roots` are `--root` overrides: where a parent of the run lies now.
        """
        ...
