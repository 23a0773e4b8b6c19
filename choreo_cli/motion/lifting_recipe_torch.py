"""`choreo train lifting`: image points of a body to its joints in space, from recorded pairs or from 3-D clips."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from msgspec import Meta
from numpy.typing import NDArray
from torch import Tensor, nn

from choreo_cli.errors import NoInputError, UsageError
from choreo_cli.motion.lifting import RECIPE, Lifter
from choreo_cli.motion.lifting_clips import FPS, Material, dancer_clips, folder_clips, manifest_clips, split_groups
from choreo_cli.motion.lifting_data import Paired, Projected, Source, Windows
from choreo_cli.motion.lifting_files import encode_lifting
from choreo_cli.motion.lifting_pairs import read_pairs, split_record
from choreo_cli.motion.lifting_points import MAX_WINDOW
from choreo_cli.motion.lifting_score import GUESS, Take, entries_of
from choreo_cli.motion.lifting_torch import LiftingNet, arrays_of, lifting_loss
from choreo_cli.training.config import Positive, Share, TrainConfig
from choreo_cli.training.recipe import Finished, Job, RunFiles

I64 = NDArray[np.int64]

READS = ("choreo.motions",)
TAKES = ("pairs",)
PARITY_ROWS = 512


class Config(TrainConfig, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a lifting network is trained.

    Args:
        window: Frames the network sees, the current one last; 1 to 9.
        hidden: Units of each layer.
        blocks: Residual layers.
        scale_weight: Weight of the size of the body in the image beside the joints.
        dancers: Procedural clips to learn from when there is no input; they are flagged synthetic.
        dances: Seed of those clips, apart from the seed of the training.
    """

    epochs: Positive = 100
    batch: Positive = 256
    decay: bool = True
    window: Annotated[int, Meta(ge=1, le=MAX_WINDOW)] = MAX_WINDOW
    hidden: Annotated[int, Meta(ge=8, le=4096)] = 256
    blocks: Annotated[int, Meta(ge=0, le=16)] = 1
    scale_weight: Share = 0.1
    dancers: Annotated[int, Meta(ge=0, le=10_000)] = 0
    dances: Annotated[int, Meta(ge=0)] = 0


@dataclass(slots=True)
class LiftingRecipe:
    """One network, its windows and its loss; see `training.recipe.Recipe`."""

    config: Config
    seed: int
    source: Source
    inputs: list[dict[str, Any]]
    data: dict[str, Any]
    roots: dict[str, Path]
    synthetic: bool
    name: str = RECIPE
    parents: list[dict[str, Any]] = field(default_factory=list)
    held: Windows | None = None

    @property
    def n_items(self) -> int:
        return self.source.n_items

    def model(self) -> nn.Module:
        """A fresh network."""
        return LiftingNet(self.config.window, self.config.hidden, self.config.blocks)

    def batch(self, items: I64, epoch: int) -> dict[str, Tensor]:
        """`x` (B, window * 51), `joints` (B, 22, 3) statures, `scale` (B,)."""
        return _tensors(self.source.windows(items, epoch))

    def loss(
        self, model: nn.Module, batch: Mapping[str, Tensor], draws: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean distance of the joints in statures, and the error of the scale."""
        joints, scale = model(batch["x"])
        place, size = lifting_loss(joints, scale, batch["joints"], batch["scale"])
        return place + self.config.scale_weight * size, {"joints": place, "scale": size}

    def after_step(self, model: nn.Module) -> None:
        """Nothing to project."""

    def validate(self, model: nn.Module) -> dict[str, float]:
        """The loss on the validation clips, through cameras of the test."""
        self.held = self.held or self.source.checks()
        if self.held is None:
            return {}
        device = next(model.parameters()).device
        with torch.no_grad():
            made = {k: v.to(device) for k, v in _tensors(self.held).items()}
            value, parts = self.loss(model, made, torch.Generator())
        return {"loss": float(value), **{k: float(v) for k, v in parts.items()}}

    def finish(self, model: nn.Module, files: RunFiles) -> Finished:
        """Write the checkpoint, prove its numpy form, judge it on held-out clips and cameras."""
        net = getattr(model, "module", model)
        assert isinstance(net, LiftingNet)
        c = self.config
        arrays, arch = arrays_of(net), {"window": c.window, "hidden": c.hidden, "blocks": c.blocks}
        facts = {
            "fps": FPS, "seed": self.seed, "synthetic": self.synthetic, "dancers": c.dancers, "dances": c.dances,
            "data": {"sha256": self.data["sha256"], "sessions": self.data["sessions"]}, "scale": GUESS,
        }  # fmt: skip
        lifter = Lifter(arrays, c.window, c.blocks)
        self._compare(net, lifter)
        for role, name, data in encode_lifting(arrays, arch, facts, files.created_by):
            files.write(role, name, data)
        notes = [GUESS, *self.data["notes"]]
        takes = self.source.takes()
        if not takes:
            return Finished([], [*notes, "no clip is held out: nothing can be said of new people"])
        return Finished(entries_of(lifter, takes, self.seed, self._params(takes)), notes)

    def _params(self, takes: list[Take]) -> dict[str, Any]:
        return {"cameras": self.source.cameras(), "views": len(takes), "synthetic": self.synthetic}

    def _compare(self, model: LiftingNet, final: Lifter) -> None:
        """Raise DataError unless torch and numpy say the same to 1e-5."""
        from choreo_cli.export.parity import difference

        x = self.source.windows(np.arange(min(PARITY_ROWS, self.n_items)), 0).x
        with torch.no_grad():
            joints, scale = model.to("cpu")(torch.from_numpy(x))
        found, size = final.bodies(x)
        difference(found, joints.numpy(), "numpy and torch, joints")
        difference(np.log(size / 3.3), scale.numpy().clip(-4, 4), "numpy and torch, scale")


def needs_no_input(config: Config, options: Mapping[str, Any]) -> bool:
    """Whether clips come from elsewhere than an input: a list of pairs, or procedural dancers."""
    return bool(options.get("pairs") or config.dancers)


def open_recipe(job: Job) -> LiftingRecipe:
    """Clips or pairs of a job, and their split.

    Raises:
        UsageError: no source of poses, or two.
        NoInputError, FormatError, DataError: what the source raises.
    """
    config: Config = job.config
    pairs = job.options.get("pairs")
    given = [bool(pairs), bool(config.dancers), job.source is not None or job.manifest is not None]
    if sum(given) != 1:
        what = "needs 3-D clips" if not any(given) else "poses of two sources"
        raise UsageError(what, hint="give one: INPUT, --pairs FILE, or --set dancers=60 (synthetic)")
    if pairs:
        return _of_pairs(job, Path(pairs))
    if config.dancers:
        if config.dancers < 3:
            raise UsageError(f"dancers={config.dancers}: too few to hold any out", hint="at least 3")
        return _of_clips(job, dancer_clips(config.dancers, config.dances))
    if job.manifest is not None:
        return _of_clips(job, manifest_clips(job.manifest, job.roots))
    assert job.source is not None
    if not job.source.is_dir():
        raise NoInputError(f"{job.source} is one file", hint="name a folder of motion files, or motions.json")
    return _of_clips(job, folder_clips(job.source))


def _of_clips(job: Job, found: Material) -> LiftingRecipe:
    source = Projected(found.clips, job.config.window, job.seed)
    roots = {"data": found.folder} if found.folder else {}
    return LiftingRecipe(job.config, job.seed, source, found.inputs, found.record, roots, found.synthetic)


def _of_pairs(job: Job, file: Path) -> LiftingRecipe:
    pairs, inputs, notes = read_pairs(file)
    splits = split_groups([p.group for p in pairs])
    record = {
        "schema": "pairs", "sha256": inputs[0]["sha256"], "root": "data", "path": file.name,
        **split_record(pairs, splits), "leaks": [], "notes": notes, "synthetic": False,
    }  # fmt: skip
    source = Paired(pairs, splits, job.config.window, job.seed)
    return LiftingRecipe(job.config, job.seed, source, inputs, record, {"data": file.resolve().parent}, False)


def score(folder: Path, frames: Any, roots: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    """Judge a checkpoint on a folder of motion files or a list of pairs that it has not seen.

    Args:
        folder: The run folder.
        frames: Path of a folder of motion files or of a CSV of pairs (not a `FrameSet`: frames hold no joints).
        roots: Not used.

    Raises:
        UsageError: frames were given instead.
    """
    if not isinstance(frames, str | Path):
        raise UsageError("a lifter is judged on clips, not on frames", hint="give a folder of motion files")
    model = Lifter.open(folder)
    source: Source
    if Path(frames).is_file():
        pairs, _, _ = read_pairs(Path(frames))
        source = Paired(pairs, {p.group: "test" for p in pairs}, model.window, 0)
    else:
        from dataclasses import replace

        source = Projected([replace(c, split="test") for c in folder_clips(Path(frames)).clips], model.window, 0)
    return entries_of(model, source.takes(), 0, {"cameras": source.cameras(), "synthetic": False})


def _tensors(made: Windows) -> dict[str, Tensor]:
    return {k: torch.from_numpy(np.ascontiguousarray(getattr(made, k))) for k in ("x", "joints", "scale")}
