"""`choreo train lookahead`: frozen latents on the beat to the latents of the next bar (M4)."""

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

from choreo_cli.reflex.bars import TICKS
from choreo_cli.reflex.from_run import Inputs, open_inputs
from choreo_cli.reflex.lookahead import HORIZONS, Lookahead, Shape, inputs_of
from choreo_cli.reflex.lookahead_files import RECIPE, encode_lookahead, prove
from choreo_cli.reflex.lookahead_score import errors_of, judge, least_ticks, score_folder, skill_of, table
from choreo_cli.reflex.lookahead_ticks import TickSet, tick_set
from choreo_cli.reflex.lookahead_torch import BarAhead
from choreo_cli.training.config import Positive, TrainConfig
from choreo_cli.training.recipe import Finished, Job, RunFiles

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]

READS = ("choreo.run", "choreo.pairs", "choreo.sessions")
TAKES = ("rps", "split", "fold")
RIDGE = 1.0
FIT_TICKS = 200_000


class Config(TrainConfig, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a look-ahead is trained.

    Args:
        channels: Width of the convolutions.
        layers: Residual layers; with 6 a prediction sees 127 ticks, two bars.
        chunk: Ticks of one training item that are predicted from.
        hop: Ticks between training items; each is moved by up to half of it in every epoch.
        noise: Standard deviation of what is added to the latents in training.
    """

    epochs: Positive = 12
    batch: Positive = 8
    lr: Annotated[float, Meta(gt=0, le=10)] = 2e-3
    decay: bool = True
    clip: Annotated[float, Meta(ge=0)] = 1.0
    channels: Annotated[int, Meta(ge=4, le=512)] = 64
    layers: Annotated[int, Meta(ge=6, le=8)] = 6
    chunk: Annotated[int, Meta(ge=TICKS, le=4096)] = 128
    hop: Annotated[int, Meta(ge=TICKS, le=4096)] = 64
    noise: Annotated[float, Meta(ge=0, le=1)] = 0.0


@dataclass(slots=True)
class LookaheadRecipe:
    """One look-ahead, its ticks and its loss; see `training.recipe.Recipe`."""

    config: Config
    seed: int
    found: Inputs
    shape: Shape
    train: TickSet
    val: TickSet | None
    items: I64  # (n, 2): stretch, first tick
    notes: list[str] = field(default_factory=list)
    name: str = RECIPE

    @property
    def inputs(self) -> list[dict[str, Any]]:
        return self.found.inputs

    @property
    def data(self) -> dict[str, Any]:
        return self.found.data

    @property
    def parents(self) -> list[dict[str, Any]]:
        return self.found.parents

    @property
    def roots(self) -> dict[str, Path]:
        return self.found.roots

    @property
    def n_items(self) -> int:
        return len(self.items)

    @property
    def synthetic(self) -> bool:
        return self.found.frames.synthetic

    def model(self) -> nn.Module:
        """A fresh network."""
        return BarAhead(self.shape.dim, self.shape.channels, self.shape.layers, self.shape.horizons)

    def batch(self, items: I64, epoch: int) -> dict[str, Tensor]:
        """`x` (B, field - 1 + chunk, dim + 3) and `target` (B, chunk, H, dim)."""
        made = [self._item(int(k), epoch) for k in items]
        x, target = (torch.from_numpy(np.stack([m[j] for m in made])) for j in range(2))
        return {"x": x, "target": target}

    def _item(self, item: int, epoch: int) -> tuple[F32, F32]:
        k, start = self.items[item].tolist()
        ticks, past, n = self.train.stretches[k].ticks, self.shape.field - 1, self.config.chunk
        whole = self._whole()
        rng = np.random.default_rng((self.seed, epoch, item))
        half = self.config.hop // 2
        start = int(np.clip(start + rng.integers(-half, half + 1), 0, len(ticks) - whole))
        z = self.train.latents(k, start, start + whole)
        now = np.arange(past, past + n)
        target = np.stack([z[now + h] for h in self.shape.horizons], axis=1)
        seen = z[: past + n]
        if self.config.noise:
            seen = seen + self.config.noise * rng.standard_normal(seen.shape, np.float32)
        own = ticks.slice(start, start + past + n)
        return inputs_of(seen, own.index, own.rate), target

    def _whole(self) -> int:
        """Ticks of one item: the past, what is predicted from, and the furthest horizon."""
        return whole_item(self.shape, self.config.chunk)

    def loss(
        self, model: nn.Module, batch: Mapping[str, Tensor], draws: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean absolute error: its minimum is the conditional median, which is what the gate measures."""
        value = (model(batch["x"]) - batch["target"]).abs().mean()
        return value, {"mae": value}

    def after_step(self, model: nn.Module) -> None:
        """Nothing to project."""

    def validate(self, model: nn.Module) -> dict[str, float]:
        """MAE (`loss`) and skill against the best baseline on the validation sessions."""
        if self.val is None:
            return {}
        means = table(errors_of(_predictor(model), self.shape, self.val))
        return {"loss": float(means["model"].mean()), "skill": float(skill_of(means)[-1])}

    def finish(self, model: nn.Module, files: RunFiles) -> Finished:
        """Fit the reading of motion energy, prove the twins, write them, judge on the held-out sessions."""
        assert isinstance(model, BarAhead)
        arrays = {k: np.ascontiguousarray(v.detach().cpu().numpy(), np.float32) for k, v in model.state_dict().items()}
        arrays |= fit_activity(self.train)
        twin = Lookahead(self.shape, arrays)
        facts: dict[str, Any] = {
            "horizons_beats": [h / TICKS for h in self.shape.horizons], "ticks_per_beat": TICKS,
            "field_ticks": self.shape.field, "unit": "normalised latents", "rps_sha256": self.found.rps.sha256,
            "data_sha256": self.data["sha256"], "sessions": self.data["sessions"],
        }  # fmt: skip
        made = encode_lookahead(self.shape, arrays, facts, files.created_by)
        self._prove(model, twin, next(data for _, name, data in made if name == "model.onnx"))
        for role, name, data in made:
            files.write(role, name, data)
        frames = self.found.frames
        split = ("test",) if frames.of("test") else ("val",)
        entries = judge(twin, self.found.rps, frames, split)
        notes = list(self.notes)
        if not entries:
            notes.append("no session is held out: nothing can be said of how well it looks ahead")
        return Finished(entries, notes)

    def _prove(self, model: BarAhead, twin: Lookahead, onnx: bytes) -> None:
        n, ticks = self.shape.field, self.train.stretches[0].ticks.slice(0, self.shape.field)
        z = self.train.latents(0, 0, n)
        said = _predictor(model)(z, ticks.index, ticks.rate)[0]
        prove(twin, onnx, z, ticks.index, ticks.rate, said)


def open_recipe(job: Job) -> LookaheadRecipe:
    """M1, frames and ticks of a job.

    Raises:
        NoInputError: M1 or its frames are not there.
        UsageError: frames without `--rps`.
        DataError: no training session has enough beats in a row.
    """
    config: Config = job.config
    found = open_inputs(job)
    shape = Shape(channels=config.channels, layers=config.layers, horizons=HORIZONS)
    train = tick_set(found.rps, found.frames, "train", whole_item(shape, config.chunk))
    notes = [*found.notes, *(f"left out of training: {n}" for n in train.notes)]
    val = _validation(found, shape, notes)
    items = [
        (k, start)
        for k, s in enumerate(train.stretches)
        for start in range(0, len(s) - whole_item(shape, config.chunk) + 1, config.hop)
    ]
    return LookaheadRecipe(config, job.seed, found, shape, train, val, np.array(items, np.int64).reshape(-1, 2), notes)


def whole_item(shape: Shape, chunk: int) -> int:
    """Ticks of one training item."""
    return shape.field - 1 + chunk + shape.horizons[-1]


def _validation(found: Inputs, shape: Shape, notes: list[str]) -> TickSet | None:
    from choreo_cli.errors import DataError

    if not found.frames.of("val"):
        return None
    try:
        return tick_set(found.rps, found.frames, "val", least_ticks(shape) + 1)
    except DataError as e:
        notes.append(f"no validation: {e.message}")
        return None


def _predictor(model: nn.Module) -> Any:
    """`Lookahead.predict` by the network itself."""
    device = next(model.parameters()).device

    def predict(z: F32, index: I64, rate: F32) -> F32:
        with torch.no_grad():
            x = torch.from_numpy(inputs_of(z, index, rate))[None].to(device)
            return np.asarray(model(x)[0].cpu().numpy(), np.float32)

    return predict


def fit_activity(ticks: TickSet) -> dict[str, F32]:
    """`activity.weight` (dim,) and `activity.bias` (1,): motion energy from latents, ridge least squares."""
    latents, energies, taken = [], [], 0
    for k in range(len(ticks.stretches)):
        if taken < FIT_TICKS:
            latents.append(ticks.latents(k))
            energies.append(ticks.energy(k))
            taken += len(latents[-1])
    z, y = np.concatenate(latents).astype(np.float64), np.concatenate(energies).astype(np.float64)
    centre, mean = z.mean(axis=0), y.mean()
    gram = (z - centre).T @ (z - centre) + RIDGE * np.eye(z.shape[1])
    weight = np.linalg.solve(gram, (z - centre).T @ (y - mean))
    bias = mean - centre @ weight
    return {"activity.weight": weight.astype(np.float32), "activity.bias": np.array([bias], np.float32)}


def score(folder: Path, frames: Any, roots: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    """Judge a checkpoint: on the held-out sessions of the frames it was trained on, on every session of other frames.

    Raises:
        DataError: no session has enough beats in a row.
    """
    return score_folder(folder, frames, roots)
