"""`choreo train rps`: frames to the encoders, translators and normaliser of M1 and M2."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
import numpy as np
import torch
from msgspec import Meta
from numpy.typing import NDArray
from torch import Tensor, nn

from choreo_cli.errors import DataError, UsageError
from choreo_cli.reflex.inputs import BLOCK_SLICES, COLUMNS, LATENT, MODES, Fitted, fit_standard
from choreo_cli.reflex.model_files import ROLES
from choreo_cli.reflex.normalizer import LatentNormalizer
from choreo_cli.reflex.prox import ALPHA, lipschitz, spectral_norm
from choreo_cli.reflex.rps import HIDDEN, RECIPE, Rps
from choreo_cli.reflex.rps_data import Dropped, RowItems, draw, measured_rows, session_rows, spread
from choreo_cli.reflex.rps_export import checkpoint_files
from choreo_cli.reflex.rps_losses_torch import RpsNet, Weights, arrays_of, calibrate, latents_of, over_latents, rps_loss
from choreo_cli.reflex.rps_score import judge
from choreo_cli.reflex.translators_torch import own_blocks
from choreo_cli.training.config import Share, TrainConfig
from choreo_cli.training.recipe import Finished, Job, RunFiles
from formats.checkpoint import CARD
from formats.columns import BLOCKS

if TYPE_CHECKING:
    from choreo_cli.dataset.frameset import FrameSet

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]

READS = ("choreo.pairs", "choreo.sessions")
TAKES = ("latents", "form", "split", "fold")
STATISTIC_ROWS = 4_000_000
NORMALIZER_ROWS = 1_000_000
CALIBRATION_ROWS = 200_000
SLICE = 16_384
VALIDATION_ROWS = 5_000
PROOF_ROWS = 512


class Config(TrainConfig, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How M1 is trained.

    Args:
        form: `hidden` is the form that works: latents of fixed scale, a block predicted from the other blocks only, the
            reconstruction of the inputs. `literal` is the roadmap's loss, which collapses; `LITERAL` is what it means
            for the other settings.
        clamp: What the spectral norm of the translators is bounded over: the `stacked` operator, which makes the prox
            map a contraction, or each `block`'s rows.
        limit: That bound.
        alpha: Step of the prox map.
        hidden: Hidden units of each encoder.
        modality_dropout: Chance of hiding a whole latent block as a source; never all of a frame's.
        feature_dropout: Chance of hiding each input that may be null although its modality is measured.
        into_target: Whether the gradient also moves the predicted latents. Without it they keep more of what only
            their own modality knows, and are predicted less well.
        reconstruct: Weight of the reconstruction of the inputs from their own block, by a linear map. Less of it lets
            a block shrink to the one direction that the others predict best.
        init_scale: Factor on the usual initial weights of the translators.
    """

    lr: Annotated[float, Meta(gt=0, le=10)] = 2e-3
    decay: bool = True
    form: Literal["hidden", "literal"] = "hidden"
    clamp: Literal["stacked", "block"] = "stacked"
    limit: Annotated[float, Meta(gt=0, le=1)] = 0.9
    alpha: Share = ALPHA
    hidden: Annotated[int, Meta(ge=1, le=4096)] = HIDDEN
    modality_dropout: Annotated[float, Meta(ge=0, lt=1)] = 0.2
    feature_dropout: Annotated[float, Meta(ge=0, lt=1)] = 0.1
    into_target: bool = True
    reconstruct: Annotated[float, Meta(ge=0, le=1000)] = 0.5
    init_scale: Annotated[float, Meta(gt=0, le=10)] = 0.3


LITERAL: dict[str, Any] = {
    "clamp": "block",
    "reconstruct": 0.0,
    "feature_dropout": 0.0,
    "into_target": True,
    "decay": False,
    "lr": 1e-3,
    "init_scale": 1.0,
}
"""The roadmap's form: every translator clamped by itself after each step, the gradient into both sides of the loss."""


@dataclass(slots=True)
class RpsRecipe:
    """M1, its frames and its loss; see `training.recipe.Recipe`."""

    config: Config
    seed: int
    frames: FrameSet
    items: RowItems
    fitted: Fitted
    inputs: list[dict[str, Any]]
    data: dict[str, Any]
    roots: dict[str, Path]
    latents: Path | None = None
    name: str = RECIPE
    parents: list[dict[str, Any]] = field(default_factory=list)
    held: dict[str, Tensor] | None = None

    @property
    def n_items(self) -> int:
        return self.items.n

    @property
    def synthetic(self) -> bool:
        return self.frames.synthetic

    @property
    def seen(self) -> NDArray[np.bool_]:
        return np.array([m not in self.fitted.never_seen for m in MODES])

    @property
    def weights(self) -> Weights:
        return Weights(self.config.form == "literal", self.config.reconstruct, self.config.into_target)

    def model(self) -> nn.Module:
        """A fresh network."""
        c, literal = self.config, self.config.form == "literal"
        return RpsNet(
            hidden=c.hidden, unit=not literal, hide_own=not literal, clamp=c.clamp, limit=c.limit, scale=c.init_scale,
            through=not literal,
        )  # fmt: skip

    def batch(self, items: I64, epoch: int) -> dict[str, Tensor]:
        """The tensors that `rps_loss` takes."""
        chances = Dropped(self.config.feature_dropout, self.config.modality_dropout)
        return self._tensors(self.items.rows(items), chances, epoch, items)

    def _tensors(self, rows: I64, chances: Dropped, epoch: int, items: I64) -> dict[str, Tensor]:
        raw, mask = np.asarray(self.frames.x[rows]), np.asarray(self.frames.mask[rows])
        drawn = draw(raw, mask, self.fitted.standard, self.seen, chances, (self.seed, epoch), items)
        names = ("x", "clean", "given", "measured", "kept")
        return {k: torch.from_numpy(getattr(drawn, k)) for k in names}

    def loss(
        self, model: nn.Module, batch: Mapping[str, Tensor], draws: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """See `rps_loss`; every draw was made with the batch."""
        del draws
        return rps_loss(_net(model), batch, self.weights)

    def after_step(self, model: nn.Module) -> None:
        """The literal form clamps the weights themselves; the other one reads them through the clamp at all times."""
        if self.config.form == "literal":
            _net(model).translators.project()

    @torch.no_grad()
    def validate(self, model: nn.Module) -> dict[str, float]:
        """Loss on validation frames with nothing dropped, its parts, and each block's error over its variance."""
        batch = self._held_batch()
        if batch is None:
            return {}
        net, was = _net(model), model.training
        net.eval()
        device = next(net.parameters()).device
        batch = {k: v.to(device) for k, v in batch.items()}
        loss, parts = rps_loss(net, batch, self.weights)
        z = net.encode(batch["x"], batch["measured"])
        weight, bias = net.translators.operator()
        others = 1 - own_blocks(BLOCKS).to(device)
        error = (nn.functional.linear(z * over_latents(batch["measured"]), weight * others, bias) - z) ** 2
        found = {"loss": float(loss), **{k: float(v) for k, v in parts.items()}}
        for k, m in enumerate(MODES):
            rows = batch["measured"][:, k]
            if int(rows.sum()) > 1:
                variance = z[rows][:, BLOCK_SLICES[m]].var(dim=0, unbiased=False)
                found[f"variance_{m}"] = float(variance.min()) * BLOCKS[m]
                spread_ = float(variance.sum())
                if spread_ > 0:
                    found[f"normalised_{m}"] = float(error[rows][:, BLOCK_SLICES[m]].sum(dim=1).mean()) / spread_
        net.train(was)
        return found

    def _held_batch(self) -> dict[str, Tensor] | None:
        if self.held is None:
            sessions = self.frames.of("val")
            if not sessions:
                return None
            most = max(1, VALIDATION_ROWS // len(sessions))
            rows = np.concatenate([session_rows(s, most) for s in sessions])
            rows = rows[np.asarray(self.frames.mask[rows]).any(axis=1)]
            if not len(rows):
                return None
            self.held = self._tensors(rows, Dropped(0, 0), 0, np.arange(len(rows), dtype=np.int64))
        return self.held

    def finish(self, model: nn.Module, files: RunFiles) -> Finished:
        """Write the checkpoint with its twins and the latents asked for, and judge it.

        Raises:
            DataError: the twins do not say the same.
        """
        net = self.calibrated(model)
        created_by = {k: v for k, v in files.created_by.items() if k != "outputs"}
        made, rps = self._files(net, created_by)
        for name in sorted(made, key=lambda n: (n == CARD, n)):
            files.write(ROLES[name], name, made[name])
        if self.latents is not None:
            from choreo_cli.reflex.timelines import file_name, write_latents

            for session in self.frames.sessions:
                write_latents(self.latents / file_name(session.session_id, "latent"), rps, self.frames, session)
        return Finished(judge(rps, self.frames), self._notes(rps))

    def calibrated(self, model: nn.Module) -> RpsNet:
        """A copy of the network on the CPU whose latents have exactly their nominal scale over the training frames."""
        net = copy.deepcopy(_net(model)).cpu().eval()
        rows = (r[at : at + SLICE] for r in spread(self.items, CALIBRATION_ROWS) for at in range(0, len(r), SLICE))
        apply = self.fitted.standard.apply
        calibrate(net, (apply(np.array(self.frames.x[r]), self.frames.mask[r] & self.seen) for r in rows))
        return net

    def _files(self, net: RpsNet, created_by: Mapping[str, Any]) -> tuple[dict[str, bytes], Rps]:
        c, fitted = self.config, self.fitted
        arrays = arrays_of(net, fitted.never_seen)
        arrays |= {"input.mean": fitted.standard.mean, "input.std": fitted.standard.std}
        facts = self._facts()
        bare = LatentNormalizer(LATENT).state()
        _, plain = checkpoint_files(_with(arrays, bare), facts, created_by, hidden=c.hidden, alpha=c.alpha)
        normalizer = LatentNormalizer(LATENT)
        for rows in spread(self.items, NORMALIZER_ROWS):
            normalizer.update(plain.latents(np.asarray(self.frames.x[rows]), np.asarray(self.frames.mask[rows])))
        facts |= {
            "spectral_norm": spectral_norm(plain.translators.weight),
            "lipschitz": lipschitz(plain.translators, c.alpha),
            "normalizer_rows": normalizer.count,
        }
        made, rps = checkpoint_files(
            _with(arrays, normalizer.state()), facts, created_by, hidden=c.hidden, alpha=c.alpha
        )
        self._prove(net, rps, made["model.onnx"])
        return made, rps

    def _facts(self) -> dict[str, Any]:
        c, fitted = self.config, self.fitted
        return {
            "form": c.form,
            "own_block_hidden": c.form != "literal",
            "clamp": c.clamp,
            "limit": c.limit,
            "columns": list(COLUMNS),
            "never_seen": list(fitted.never_seen),
            "constant": list(fitted.constant),
            "counts": fitted.counts.tolist(),
            "missing_block": "predicted from the measured blocks, blend 1",
        }

    def _prove(self, net: RpsNet, rps: Rps, onnx: bytes) -> None:
        """Compare torch, numpy and ONNX on training frames with every combination of missing modalities."""
        from choreo_cli.export.parity import difference, parity

        rows = np.concatenate(list(spread(self.items, PROOF_ROWS)))
        x, mask = np.array(self.frames.x[rows]), np.array(self.frames.mask[rows])
        mask &= (np.arange(len(rows))[:, None] >> np.arange(len(MODES))) % 2 == 0
        x[np.arange(len(rows)), np.arange(len(rows)) * 7 % len(COLUMNS)] = np.nan
        z = latents_of(net, rps.standard, x, mask, self.config.alpha, self.fitted.never_seen)
        difference(rps.latents(x, mask), z, "numpy and torch")
        parity(onnx, {"x": x, "mask": mask.astype(np.float32)}, {"z": z})

    def _notes(self, rps: Rps) -> list[str]:
        notes = list(self.frames.notes)
        notes += [f"{m} was never seen in training: its block stays at its mean" for m in self.fitted.never_seen]
        if self.fitted.constant:
            notes.append(f"constant in training, so nothing was learnt of: {', '.join(self.fitted.constant)}")
        if self.config.form == "literal":
            notes.append("the literal loss: small errors of latents that hardly vary; see rps.latent_alive")
        return notes


def _with(arrays: Mapping[str, Any], normalizer: Mapping[str, Any]) -> dict[str, Any]:
    return {**arrays, **{f"normalizer.{k}": v for k, v in normalizer.items()}}


def _net(model: nn.Module) -> RpsNet:
    """The network inside whatever a process group has wrapped around it."""
    inner = getattr(model, "module", model)
    assert isinstance(inner, RpsNet)
    return inner


def open_recipe(job: Job) -> RpsRecipe:
    """Frames, their statistics and the resolved configuration.

    Raises:
        NoInputError, FormatError: the frames, see `read_frames`.
        UsageError: an unknown form.
        DataError: fewer than two modalities are measured in the training sessions.
    """
    from choreo_cli.dataset.frameset import read_frames

    options = job.options
    frames = read_frames(
        job.source, job.manifest, roots=job.roots, split=options.get("split") or "auto", fold=options.get("fold")
    )
    config = resolved(job.config, options.get("form"))
    items = measured_rows(frames, "train")
    fitted = fit_standard((np.asarray(frames.x[r]), np.asarray(frames.mask[r])) for r in spread(items, STATISTIC_ROWS))
    if items.n and len(MODES) - len(fitted.never_seen) < 2:
        raise DataError(
            f"only {', '.join(m for m in MODES if m not in fitted.never_seen)} is measured in the training sessions",
            hint="blocks predict each other: two modalities are needed",
        )
    latents = options.get("latents")
    return RpsRecipe(
        config, job.seed, frames, items, fitted, [dict(frames.source)], frames.record(), {"data": frames.folder},
        Path(latents) if latents else None,
    )  # fmt: skip


def resolved(config: Config, form: str | None) -> Config:
    """The configuration with `--form` and what the literal form means.

    Raises:
        UsageError: an unknown form, or a setting that the literal form does not leave open.
    """
    if form is not None:
        if form not in ("hidden", "literal"):
            raise UsageError(f"no form {form!r}", hint="choose from hidden, literal")
        config = msgspec.structs.replace(config, form=form)
    if config.form == "literal":
        usual = Config()
        for name, value in LITERAL.items():
            given = getattr(config, name)
            if given not in (value, getattr(usual, name)):
                raise UsageError(f"{name}={given}: the literal form has {name}={value}", hint=f"leave {name} out")
        config = msgspec.structs.replace(config, **LITERAL)
    return config


def score(folder: Path, frames: FrameSet, roots: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    """Judge the checkpoint in `folder` on the held-out sessions of a `FrameSet`."""
    return judge(Rps.read(folder), frames)
