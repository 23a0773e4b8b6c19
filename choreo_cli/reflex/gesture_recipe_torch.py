"""`choreo train gesture`: labelled onsets to a detector that names gestures as they begin (M5)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import torch
from msgspec import Meta
from numpy.typing import NDArray
from torch import Tensor, nn

from choreo_cli.errors import UsageError
from choreo_cli.reflex.gesture import CHANNELS, RECIPE, Gesture, Rules, Shape, channels
from choreo_cli.reflex.gesture_files import encode_gesture
from choreo_cli.reflex.gesture_held_out import held_out_entries, pick_threshold
from choreo_cli.reflex.gesture_labels import Labels, read_labels
from choreo_cli.reflex.gesture_torch import GestureNet, arrays_of, onset_loss
from choreo_cli.reflex.inputs import COLUMN_SLICES, Standard, fit_standard
from choreo_cli.training.config import Positive, Share, TrainConfig
from choreo_cli.training.recipe import Finished, Job, RunFiles

if TYPE_CHECKING:
    from choreo_cli.dataset.frameset import FrameSet

I64 = NDArray[np.int64]
F32 = NDArray[np.float32]

READS = ("choreo.sessions", "choreo.pairs", "choreo.run")
TAKES = ("rps", "split", "fold")
PARITY_ROWS = 1000
HALF_TARGET = 3.0  # soft targets reach this many standard deviations
Ms = Annotated[int, Meta(ge=0, le=5000)]


class Config(TrainConfig, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a gesture detector is trained.

    Args:
        width: Channels of the hidden layers.
        kernel: Taps of every convolution.
        dilations: Frames between the taps, one convolution each.
        length: Scored frames per training item.
        delay_ms: How long after an onset the network may still look before it speaks.
        hold_ms: How long a score must stay the highest to be a peak.
        refractory_ms: How long a class stays silent after one of its events.
        tolerance_ms: How far a detected onset may lie from the true one when it is judged.
        target_ms: Width (one standard deviation) of the soft target around an onset.
        positive: Weight of the frame of an onset in the loss.
        drop: Chance that heart rate, audio or beats (each) are hidden in a training item.
        drop_motion: Chance that one motion input (each) is hidden in a training item.
        labels: CSV `session,t_s,label`; empty looks beside the frames.
    """

    epochs: Positive = 20
    batch: Positive = 16
    lr: Annotated[float, Meta(gt=0, le=10)] = 3e-3
    decay: bool = True
    clip: Annotated[float, Meta(ge=0)] = 1.0
    width: Positive = 24
    kernel: Annotated[int, Meta(ge=2, le=63)] = 5
    dilations: Annotated[tuple[Positive, ...], Meta(min_length=1, max_length=12)] = (1, 2, 4, 8)
    length: Annotated[int, Meta(ge=8, le=100_000)] = 192
    delay_ms: Ms = 700
    hold_ms: Ms = 60
    refractory_ms: Ms = 400
    tolerance_ms: Annotated[int, Meta(ge=20, le=2000)] = 200
    target_ms: Annotated[int, Meta(ge=10, le=1000)] = 50
    positive: Annotated[float, Meta(ge=1, le=1000)] = 8.0
    drop: Share = 0.15
    drop_motion: Share = 0.03
    labels: str = ""


@dataclass(slots=True)
class GestureRecipe:
    """One detector, its labelled frames and its loss; see `training.recipe.Recipe`."""

    config: Config
    seed: int
    frames: FrameSet
    labels: Labels
    shape: Shape
    rules: Rules
    items: I64  # (n, 2): first scored row, first row of its run
    runs: I64  # (n, 2): run of every item, for its end
    session: list[str]
    standard: Standard
    inputs: list[dict[str, Any]]
    data: dict[str, Any]
    roots: dict[str, Path]
    notes: list[str]
    name: str = RECIPE
    parents: list[dict[str, Any]] = field(default_factory=list)
    checks: tuple[I64, I64, list[str]] | None = None

    @property
    def n_items(self) -> int:
        return len(self.items)

    @property
    def synthetic(self) -> bool:
        return self.frames.synthetic

    def model(self) -> nn.Module:
        """A fresh network."""
        return GestureNet(self.shape)

    def batch(self, items: I64, epoch: int) -> dict[str, Tensor]:
        """`x` (B, reach + length, 15), `target` (B, length, K), `weight` (B, length)."""
        return self._assemble(items, self.items, self.runs, self.session, epoch)

    def _assemble(self, items: I64, starts: I64, runs: I64, session: list[str], epoch: int | None) -> dict[str, Tensor]:
        reach, n = self.shape.reach, self.config.length
        x = np.zeros((len(items), reach + n, CHANNELS), np.float32)
        target = np.zeros((len(items), n, len(self.shape.classes)), np.float32)
        weight = np.zeros((len(items), n), np.float32)
        for b, k in enumerate(items.tolist()):
            (start, first), (_, stop) = starts[k].tolist(), runs[k].tolist()
            lo, hi = max(first, start - reach), min(stop, start + n)
            values, mask = np.array(self.frames.x[lo:hi]), np.array(self.frames.mask[lo:hi])
            if epoch is not None:
                self._hide(values, mask, np.random.default_rng((self.seed, epoch, k)))
            x[b, reach - (start - lo) : reach + hi - start] = channels(values, mask, self.standard)
            weight[b, : hi - start] = 1
            target[b, : hi - start] = self._target(session[k], start, hi - start)
        return {"x": torch.from_numpy(x), "target": torch.from_numpy(target), "weight": torch.from_numpy(weight)}

    def _hide(self, values: F32, mask: NDArray[np.bool_], rng: np.random.Generator) -> None:
        """Training with missing inputs: a whole modality other than motion, or single motion columns."""
        draws, each = rng.random((1, len(COLUMN_SLICES)))[0], rng.random((1, values.shape[1]))[0]
        for m, (modality, columns) in enumerate(COLUMN_SLICES.items()):
            if modality == "mot":
                values[:, columns][:, each[columns] < self.config.drop_motion] = np.nan
            elif draws[m] < self.config.drop:
                values[:, columns], mask[:, m] = np.nan, False

    def _target(self, session: str, start: int, n: int) -> F32:
        """(n, K) soft targets of rows `start`...: a Gaussian around the frame that speaks of each onset."""
        times = np.asarray(self.frames.t_us[start : start + n], np.int64) - self.rules.delay * self.frames.step_us
        sigma = self.config.target_ms * 1000.0
        out = np.zeros((n, len(self.shape.classes)), np.float32)
        for k, label in enumerate(self.shape.classes):
            onsets = self.labels.of(session, label)
            reach = HALF_TARGET * sigma
            near = onsets[(onsets > times[0] - reach) & (onsets < times[-1] + reach)]
            for onset in near.tolist():
                out[:, k] = np.maximum(out[:, k], np.exp(-0.5 * ((times - onset) / sigma) ** 2))
        return out

    def loss(
        self, model: nn.Module, batch: Mapping[str, Tensor], draws: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Weighted binary cross entropy."""
        value = onset_loss(model(batch["x"]), batch["target"], batch["weight"], self.config.positive)
        return value, {"onset": value}

    def after_step(self, model: nn.Module) -> None:
        """Nothing to project."""

    def validate(self, model: nn.Module) -> dict[str, float]:
        """The loss on the validation sessions."""
        if self.checks is None:
            self.checks = cut_items(self.frames, self.labels, ("val",), self.config.length)
        starts, runs, session = self.checks
        if not len(starts):
            return {}
        device = next(model.parameters()).device
        total, count = 0.0, 0
        with torch.no_grad():
            for k in range(0, len(starts), self.config.batch):
                some = np.arange(k, min(len(starts), k + self.config.batch))
                made = {n: v.to(device) for n, v in self._assemble(some, starts, runs, session, None).items()}
                value = onset_loss(model(made["x"]), made["target"], made["weight"], self.config.positive)
                total, count = total + float(value) * len(some), count + len(some)
        return {"loss": total / count}

    def finish(self, model: nn.Module, files: RunFiles) -> Finished:
        """Choose the threshold on the validation sessions, write the checkpoint and its twins, judge the test ones."""
        assert isinstance(model, GestureNet)
        arrays = arrays_of(model) | {"mean": self.standard.mean, "std": self.standard.std}
        draft = Gesture(self.shape, self.rules, arrays)
        chosen_on = "val" if self._labelled("val") else "train"
        tolerance = self.config.tolerance_ms * 1000
        threshold, by = pick_threshold(draft, self.frames, self._labelled(chosen_on), self.labels, tolerance)
        rules = Rules(self.rules.delay, self.rules.hold, self.rules.refractory, threshold)
        final = Gesture(self.shape, rules, arrays)
        facts = {
            "threshold_from": chosen_on, "f1_by_threshold": {str(k): round(v, 6) for k, v in by.items()},
            "tolerance_ms": self.config.tolerance_ms, "labels": self.config.labels,
            "data": {"sha256": self.data["sha256"], "sessions": self.data["sessions"]}, "seed": self.seed,
        }  # fmt: skip
        made = encode_gesture(final, arrays, facts, files.created_by)
        self._compare(model, final, next(data for _, name, data in made if name == "model.onnx"))
        for role, name, data in made:
            files.write(role, name, data)
        notes = list(self.notes)
        if chosen_on == "train":
            notes.append("no labelled validation session: the threshold was chosen on the training sessions")
        test = self._labelled("test")
        if not test:
            return Finished([], [*notes, "no labelled session is held out: nothing can be said of new people"])
        entries, more = held_out_entries(
            final, self.frames, test, self.labels, tolerance_ms=self.config.tolerance_ms, seed=self.seed
        )
        return Finished(entries, [*notes, *more])

    def _compare(self, model: GestureNet, final: Gesture, onnx: bytes) -> None:
        """Raise DataError unless torch, numpy and ONNX say the same to 1e-5."""
        from choreo_cli.export.parity import difference, parity

        first, stop = self.runs[0].tolist()
        rows = slice(first, min(stop, first + PARITY_ROWS))
        x, mask = np.array(self.frames.x[rows]), np.array(self.frames.mask[rows])
        seen = np.concatenate([np.zeros((self.shape.reach, CHANNELS), np.float32), channels(x, mask, self.standard)])
        with torch.no_grad():
            wanted = torch.sigmoid(model.to("cpu")(torch.from_numpy(seen)[None]))[0].numpy()
        difference(final.scores(x, mask), wanted, "numpy and torch")
        parity(onnx, {"x": x, "mask": mask.astype(np.float32)}, {"scores": wanted})

    def _labelled(self, split: str) -> list[Any]:
        return [s for s in self.frames.of(split) if s.session_id in self.labels.onsets]


def cut_items(frames: FrameSet, labels: Labels, splits: tuple[str, ...], length: int) -> tuple[I64, I64, list[str]]:
    """Items of `length` scored frames that follow each other: (n, 2) first row and run start, (n, 2) runs, sessions."""
    from choreo_cli.reflex.gesture_held_out import runs_of

    starts, runs, names = [], [], []
    for s in frames.of(splits):
        if s.session_id not in labels.onsets:
            continue
        for a, b in runs_of(frames, s).tolist():
            for start in range(a, b, length):
                starts.append((start, a))
                runs.append((a, b))
                names.append(s.session_id)
    return np.array(starts, np.int64).reshape(-1, 2), np.array(runs, np.int64).reshape(-1, 2), names


def open_recipe(job: Job) -> GestureRecipe:
    """Frames, labels and items of a job.

    Raises:
        UsageError: no labels (the message names the files that were looked for), or none in the training sessions.
    """
    config: Config = job.config
    frames, notes = open_frames(job)
    labels = read_labels(frames, config.labels)
    train = [s.session_id for s in frames.of("train")]
    classes = labels.classes(train)
    if not classes:
        raise UsageError("no labelled gesture in the training sessions", hint="see --split and --set labels=FILE")
    ms = frames.step_us / 1000
    rules = Rules(round(config.delay_ms / ms), round(config.hold_ms / ms), round(config.refractory_ms / ms), 0.5)
    shape = Shape(config.width, config.kernel, config.dilations, classes)
    items, runs, names = cut_items(frames, labels, ("train",), config.length)
    fitted = fit_standard((frames.x[a:b], frames.mask[a:b]) for a, b in np.unique(runs, axis=0).tolist())
    inputs = [dict(frames.source)]
    if config.labels:
        from formats.atomic import sha256_file

        inputs.append({"role": "labels", "sha256": sha256_file(config.labels), "schema": "text/csv"})
    counted = {k: sum(len(labels.of(s, k)) for s in train) for k in classes}
    data = {**frames.record("data"), "classes": list(classes), "train_onsets": counted}
    return GestureRecipe(
        config, job.seed, frames, labels, shape, rules, items, runs, names, fitted.standard, inputs, data,
        {"data": frames.folder}, [*notes, *frames.notes, *labels.notes],
    )  # fmt: skip


def open_frames(job: Job) -> tuple[FrameSet, list[str]]:
    """Frames named by a job; of a `choreo.run/1`, the frames and the splits of that run."""
    from choreo_cli.dataset.frameset import read_frames

    if job.manifest is not None and job.manifest.kind == "choreo.run":
        from choreo_cli.reflex.from_run import open_inputs

        found = open_inputs(job)
        return found.frames, ["frames and splits are those of the rps; its latents are not used"]
    split, fold = job.options.get("split") or "auto", job.options.get("fold")
    return read_frames(job.source, job.manifest, roots=job.roots, split=split, fold=fold), []


def score(folder: Path, frames: Any, roots: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    """Judge a checkpoint: on the test sessions of the frames it was trained on, on every session of other frames.

    Raises:
        UsageError: the sessions have no labels.
    """
    model = Gesture.read(folder)
    own = (model.facts.get("data") or {}).get("sha256") == frames.source["sha256"]
    labels = read_labels(frames, str(model.facts.get("labels") or "") if own else "")
    seen = {n for k in ("train", "val") for n in model.facts["data"]["sessions"].get(k, ())} if own else set()
    held = [s for s in frames.sessions if s.session_id in labels.onsets and s.session_id not in seen]
    if not held:
        raise UsageError("no labelled session is held out", hint="give frames the detector was not trained on")
    tolerance = int(model.facts["tolerance_ms"])
    return held_out_entries(model, frames, held, labels, tolerance_ms=tolerance, seed=int(model.facts["seed"]))[0]
