"""`choreo train video`: videos of trajectories to their class, their next four points and the path that was seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from choreo_cli.errors import NoInputError, UsageError
from choreo_cli.metrics.trajectory import entries_of
from choreo_cli.training.recipe import Finished, Job, RunFiles
from choreo_cli.trajectory import clip_align, moments, predictions, video_config, views
from choreo_cli.trajectory.camera import to_camera
from choreo_cli.trajectory.curves import FUTURE, SHOWN
from choreo_cli.trajectory.nets_torch import Moments, VideoNet
from choreo_cli.trajectory.predictions import Predictions
from choreo_cli.trajectory.sets import SET, TrajectorySet, open_set
from choreo_cli.trajectory.video_config import VideoConfig
from choreo_cli.trajectory.views import Views
from formats import checkpoint
from formats.checkpoint import Checkpoint

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]

RECIPE = "video"
READS = video_config.READS
TAKES = ()
Config = VideoConfig


@dataclass(slots=True)
class _Epoch:
    """The views of one pass over the curves, and the points they show."""

    number: int
    looks: Views
    shown: NDArray[np.float64]
    target: dict[str, Tensor]


@dataclass(slots=True)
class VideoRecipe:
    """One branch, its curves and its losses; see `training.recipe.Recipe`."""

    config: VideoConfig
    seed: int
    of: TrajectorySet
    table: F32 | None
    table_name: str
    inputs: list[dict[str, Any]]
    data: dict[str, Any]
    roots: dict[str, Path]
    name: str = RECIPE
    parents: list[dict[str, Any]] = field(default_factory=list)
    synthetic: bool = True
    _epoch: _Epoch | None = None
    _pool: dict[str, Tensor] | None = None

    @property
    def curves(self) -> I64:
        """Training curves."""
        return np.flatnonzero(self.of.drawn.split == "train").astype(np.int64)

    @property
    def measured(self) -> bool:
        """Whether the network reads moments, which are measured once."""
        return self.config.encoder == "moments"

    @property
    def n_items(self) -> int:
        return len(self.curves) * (self.config.pool if self.measured else 1)

    def model(self) -> nn.Module:
        """A fresh network."""
        c = self.config
        net = VideoNet(
            c.encoder, compress=c.compress, aligned=self.table is not None, camera=c.camera, width=c.width, grid=c.grid,
            stem=c.stem,
        )  # fmt: skip
        if isinstance(net.encoder, Moments):
            net.encoder.standardise(self._measured_pool()["moments"])
        return net

    def batch(self, items: I64, epoch: int) -> dict[str, Tensor]:
        """`videos` (B, 16, 3, H, W) uint8 or `moments` (B, 16, 4), and the targets."""
        if self.measured:
            pool = self._measured_pool()
            picked = torch.from_numpy(np.asarray(items))
            return {k: v[picked] for k, v in pool.items()}
        if self._epoch is None or self._epoch.number != epoch:
            self._epoch = self._drawn(epoch)
        now, rows = self._epoch, np.asarray(items)
        out = np.empty((len(rows), SHOWN, 3, self.of.size, self.of.size), np.uint8)
        views.render(now.shown[rows], now.looks.take(rows), out, cue=self.of.size_cue)
        return {"videos": torch.from_numpy(out), **{k: v[torch.from_numpy(rows)] for k, v in now.target.items()}}

    def _drawn(self, epoch: int) -> _Epoch:
        """One view of each curve, new in every epoch."""
        ids = self.curves
        keys = np.arange(len(ids), dtype=np.int64) + (self.seed * 1_000_003 + epoch) * len(ids)
        if self.config.looks == "free":
            looks = views.free_views(self.of.seed, "training", ids, keys)
        else:
            rng = np.random.default_rng((self.seed, epoch))
            every = self.of.looks["train"]
            per = len(every) // len(ids)
            looks = every.take(np.arange(len(ids)) * per + rng.integers(0, per, len(ids)))
        clean = views.clean_points(self.of.drawn.curves, looks)
        shown = views.noisy_points(self.of.seed, "training" if self.config.looks == "free" else "train", clean, looks)
        target = _targets(self.of, looks, clean)
        if self.config.encoder == "strided":
            target["places"] = torch.from_numpy(places(self.of, looks, shown))
        return _Epoch(epoch, looks, shown, target)

    def _measured_pool(self) -> dict[str, Tensor]:
        """Moments and targets of `pool` views of each curve: measured from images, once."""
        if self._pool is None:
            parts: list[dict[str, Tensor]] = []
            for k in range(self.config.pool):
                now = self._drawn(k)
                out = np.empty((len(now.looks), SHOWN, 3, self.of.size, self.of.size), np.uint8)
                views.render(now.shown, now.looks, out, cue=self.of.size_cue)
                parts.append({"moments": torch.from_numpy(moments.frame_moments(out)), **now.target})
            self._pool = {name: torch.cat([p[name] for p in parts]) for name in parts[0]}
        return self._pool

    def loss(
        self, model: nn.Module, batch: Mapping[str, Tensor], draws: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Cross entropy, forecast, the seen path, and what the branch adds."""
        c = self.config
        out = _told(model, batch)
        parts = {
            "class": F.cross_entropy(out["logits"], batch["family"], label_smoothing=c.smoothing),
            "forecast": c.forecast * F.smooth_l1_loss(out["future"], batch["future"], beta=c.beta),
            "shown": c.shown * F.smooth_l1_loss(out["shown"], batch["shown"], beta=c.beta),
        }
        if "places" in out:
            parts["places"] = c.places * F.smooth_l1_loss(out["places"], batch["places"], beta=c.beta)
        if "rebuilt" in out:
            parts["rebuild"] = c.rebuild * F.mse_loss(out["rebuilt"], out["features"])
        if "aligned" in out and self.table is not None:
            table = torch.from_numpy(self.table).to(out["aligned"].device)
            near = F.cosine_similarity(out["aligned"], table[batch["family"]])
            parts["align"] = c.align * (1 - near).mean()
        return torch.stack(list(parts.values())).sum(), parts

    def after_step(self, model: nn.Module) -> None:
        """Nothing to project."""

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Loss, accuracy and error on one free view of each validation curve."""
        ids = np.flatnonzero(self.of.drawn.split == "val").astype(np.int64)
        if not len(ids):
            return {}
        looks = views.free_views(self.of.seed, "validation", ids, ids)
        clean = views.clean_points(self.of.drawn.curves, looks)
        shown = views.noisy_points(self.of.seed, "validation", clean, looks)
        told = tell(model, self.of, looks, shown)
        target = _targets(self.of, looks, clean)
        future = torch.from_numpy(told.future)
        logits = torch.from_numpy(told.probabilities).clamp(min=1e-9).log()
        diagonal = np.linalg.norm(np.ptp(clean[:, :SHOWN], axis=1), axis=-1)
        share = 100 * (future - target["future"]).abs().mean((1, 2)).numpy() / diagonal
        entropy = float(F.nll_loss(logits, target["family"]))
        forecast = float(F.smooth_l1_loss(future, target["future"], beta=self.config.beta))
        right = float((told.probabilities.argmax(1) == target["family"].numpy()).mean())
        loss = entropy + self.config.forecast * forecast
        return {"loss": loss, "accuracy": right, "mae_pct": float(share.mean())}

    def finish(self, model: nn.Module, files: RunFiles) -> Finished:
        """Write the checkpoint and what it says of the test and grid sets; judge the test set."""
        c = self.config
        arch = {
            "encoder": c.encoder, "compress": c.compress, "aligned": self.table is not None, "camera": c.camera,
            "width": c.width, "grid": c.grid, "stem": c.stem, "size": self.of.size,
        }  # fmt: skip
        facts = {
            "branch": c.branch or c.encoder, "text_encoder": self.table_name, "seed": self.seed,
            "data": {"sha256": self.of.sha256, "size_cue": self.of.size_cue},
        }  # fmt: skip
        arrays = {k: v.detach().cpu().numpy() for k, v in model.state_dict().items()}
        made = checkpoint.encode(Checkpoint(RECIPE, arch, arrays, facts, files.created_by))
        metrics: list[dict[str, Any]] = []
        for split, name in predictions.FILES.items():
            if split not in self.of.looks:
                continue
            told = tell(model, self.of, self.of.looks[split], self.of.shown(split))
            told.facts.update(
                {"choreo.set": self.of.sha256, "choreo.split": split, "choreo.branch": c.branch or c.encoder}
            )
            files.add("predictions", name, predictions.write(files.target(name), told))
            if split == "test":
                metrics = entries_of(predictions.judged(told, self.of, split), seed=self.seed)
        for name, data in made.items():
            files.write("card" if name == checkpoint.CARD else "weights", name, data)
        notes = [] if metrics else ["no test views in the set: nothing is held out"]
        if self.table_name == "hash":
            notes.append("the text encoder is a hash of words, not CLIP")
        return Finished(metrics, notes)


def _targets(of: TrajectorySet, looks: Views, clean: NDArray[np.float64]) -> dict[str, Tensor]:
    seen = to_camera(clean, looks.cameras).astype(np.float32)
    found = {
        "family": torch.from_numpy(of.drawn.curves.family[looks.base]),
        "shown": torch.from_numpy(seen[:, :SHOWN].copy()),
        "future": torch.from_numpy(seen[:, SHOWN:].copy()),
        "camera": torch.from_numpy(camera_numbers(looks, of.size)),
    }
    return found


def places(of: TrajectorySet, looks: Views, shown: NDArray[np.float64]) -> F32:
    """Where the dot of each frame is drawn, (N, 16, 3): x, y in -1..1, and its radius less 1.7 px, in 0.4 px."""
    pixels, radius = views.drawing(shown, looks, size=of.size, cue=of.size_cue)
    scale = of.size / views.SIZE
    across = pixels / ((of.size - 1) / 2) - 1
    return np.concatenate([across, (radius / scale - 1.7)[..., None] / 0.4], axis=-1).astype(np.float32)


def camera_numbers(looks: Views, size: int) -> F32:
    """R row by row and t of X = R P + t: (N, 12). K is the same for all."""
    cameras = looks.cameras
    found: F32 = np.concatenate([cameras.rotation.reshape(-1, 9), cameras.translation], axis=1).astype(np.float32)
    return found


def _told(model: nn.Module, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    net: Any = model
    camera = batch["camera"] if _bare(model).camera else None
    if "moments" in batch:
        inner = _bare(model)
        assert isinstance(inner.encoder, Moments)
        return inner.of_features(inner.encoder.from_moments(batch["moments"]), camera)
    found: dict[str, Tensor] = net(batch["videos"].float() / 255, camera)
    return found


def _bare(model: nn.Module) -> VideoNet:
    inner = getattr(model, "module", model)
    assert isinstance(inner, VideoNet)
    return inner


def tell(model: nn.Module, of: TrajectorySet, looks: Views, shown: NDArray[np.float64], count: int = 64) -> Predictions:
    """What a model says of videos, drawn and shown to it a few at a time.

    Args:
        model: A `VideoNet`.
        of: How videos are drawn. looks: N views. shown: (N, 16, 3) noisy points.
        count: Videos at a time.
    """
    net = _bare(model)
    device = next(net.parameters()).device
    was = net.training
    net.eval()
    n = len(looks)
    told = Predictions(
        looks.base, np.empty((n, 4), np.float32), np.empty((n, FUTURE, 3), np.float32),
        np.empty((n, SHOWN, 3), np.float32), {},
    )  # fmt: skip
    buffer = np.empty((count, SHOWN, 3, of.size, of.size), np.uint8)
    assert told.shown is not None
    with torch.no_grad():
        for start in range(0, n, count):
            some = slice(start, min(start + count, n))
            seen = buffer[: some.stop - start]
            views.render(shown[some], looks.take(some), seen, cue=of.size_cue)
            camera = torch.from_numpy(camera_numbers(looks.take(some), of.size)).to(device) if net.camera else None
            if isinstance(net.encoder, Moments):
                features = net.encoder.from_moments(torch.from_numpy(moments.frame_moments(seen)).to(device))
                out = net.of_features(features, camera)
            else:
                out = net(torch.from_numpy(seen).to(device).float() / 255, camera)
            told.probabilities[some] = out["logits"].softmax(-1).cpu().numpy()
            told.future[some] = out["future"].cpu().numpy()
            told.shown[some] = out["shown"].cpu().numpy()
    net.train(was)
    return told


def open_recipe(job: Job) -> VideoRecipe:
    """The set, and the text table of an aligned branch.

    Raises:
        NoInputError: no set was named.
        UsageError: a set without training curves.
        FormatError, DataError, UnavailableError: see `sets.open_set` and `clip_align.class_table`.
    """
    if job.manifest is None:
        raise NoInputError(f"no trajectory set {job.source or ''}".rstrip(), hint="make one: choreo synth trajectories")
    config: VideoConfig = job.config
    of = open_set(job.manifest, job.roots)
    if not (of.drawn.split == "train").any():
        raise UsageError("the set has no training curves", hint="choreo synth trajectories --num 1200")
    if config.looks == "plan" and "train" not in of.looks:
        raise UsageError("the set has no views of its training curves", hint="--set looks=free")
    table, name = (None, "none") if config.text == "none" else clip_align.class_table(config.text)
    counts = {s: int((of.drawn.split == s).sum()) for s in ("train", "val", "test", "grid")}
    data = {
        "schema": job.manifest.schema, "sha256": of.sha256, "root": "data", "path": SET,
        "sessions": {}, "rows": counts, "leaks": [], "notes": ["split by curve before any view is made"],
        "size_cue": of.size_cue, "synthetic": True,
    }  # fmt: skip
    inputs = [{"role": "trajectories", "sha256": of.sha256, "schema": job.manifest.schema}]
    return VideoRecipe(config, job.seed, of, table, name, inputs, data, {"data": of.folder})


def read_model(folder: Path) -> tuple[VideoNet, Checkpoint]:
    """A trained branch, in eval mode. Raises FormatError when the folder holds none."""
    found = checkpoint.read(folder, RECIPE)
    a = found.arch
    net = VideoNet(
        a["encoder"], compress=a["compress"], aligned=a["aligned"], camera=a["camera"], width=a["width"],
        grid=a["grid"], stem=a["stem"],
    )  # fmt: skip
    net.load_state_dict({k: torch.from_numpy(np.array(v)) for k, v in found.arrays.items()})
    return net.eval(), found


def score(folder: Path, frames: Any) -> list[dict[str, Any]]:
    """Judge a branch on the test views of another set.

    Args:
        folder: The run folder. frames: A `TrajectorySet`.

    Raises:
        UsageError: frames of sessions were given.
    """
    if not isinstance(frames, TrajectorySet):
        raise UsageError("a branch is judged on trajectories", hint="choreo evaluate video RUN")
    net, card = read_model(folder)
    told = tell(net, frames, frames.looks["test"], frames.shown("test"))
    return entries_of(predictions.judged(told, frames, "test"), seed=int(card.facts["seed"]))
