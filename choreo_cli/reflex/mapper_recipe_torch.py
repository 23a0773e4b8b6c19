"""The recipe `mapper`: M3 on the latents of a frozen M1, taught by rule or by example."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import torch
from msgspec import Meta
from numpy.typing import NDArray
from torch import Tensor, nn

from choreo_cli.dataset.frameset import FrameSession, FrameSet
from choreo_cli.errors import DataError
from choreo_cli.reflex import mapper_score
from choreo_cli.reflex.from_run import Inputs, open_inputs
from choreo_cli.reflex.mapper import LONGEST, MODES, SHORTEST, Mapper, model_latents
from choreo_cli.reflex.mapper_data import Items, MapperData, auto_stride, evenly
from choreo_cli.reflex.mapper_files import encode_mapper
from choreo_cli.reflex.mapper_mix import mixed
from choreo_cli.reflex.mapper_torch import GRUMapper, mapper_loss
from choreo_cli.reflex.targets import Taught, by_example, by_rule
from choreo_cli.reflex.timelines import file_name, write_controls
from choreo_cli.training.config import Count, Positive, Rate, Share, TrainConfig
from choreo_cli.training.recipe import Finished, Job, RunFiles

I64 = NDArray[np.int64]
READS = ("choreo.run", "choreo.pairs", "choreo.sessions")
TAKES = ("rps", "targets", "mode", "controls", "split", "fold")
score = mapper_score.score

WANTED_ITEMS = {"window": 20_000, "stream": 4000}
STREAM_STRIDE = 2
STREAM_SHARE = 4
"""A chunk is longer than a window: with `stream` a step takes this many times fewer of them."""
FRESH = 8
"""With `stream` every eighth item begins from a zero state where the loss begins, as a session does."""
VAL_BATCH = 512
VAL_ITEMS = 20_000


class Config(TrainConfig, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a mapper is trained.

    Args:
        batch: Windows per step; with `stream` a quarter as many chunks.
        mode: `window`: the last T frames from a zero state. `stream`: the state is carried on.
        window: Frames of a window, T.
        chunk: Frames of a training item with `stream`.
        settle: Frames at the start of such an item that only bring the state to where the loss begins.
        hidden: Width of the state.
        stride: Frames between neighbouring items; 0 chooses: every frame of a little data, fewer of much.
        smooth: Weight of the mean step of the controls.
        beat: Weight of the same, towards the off-beat.
        balance: Squared errors are measured in the spread of each control's targets, so that none is drowned out.
        mix: Mixed rows per training row (`mapper_mix`), for targets by rule; 0 for none.
        margin: How far from 0 and 1 the network is taught to stay where the rule lies on a bound; faders may touch it.
        normalizer: Whether M2 is applied to the latents.
        min_steps: Epochs are added until there are as many optimiser steps: a minute of data needs them.
        targets_offset_s: Added to the times of recorded controls.
        targets_session: Session that recorded controls belong to, when it is not clear.
        cache_mb: Most memory for latents and targets; beyond, latents are worked out batch by batch.
    """

    epochs: Positive = 8
    batch: Positive = 64
    lr: Rate = 3e-3
    decay: bool = True
    ema: Share = 0.98
    clip: Annotated[float, Meta(ge=0)] = 1.0
    mode: Literal["window", "stream"] = "window"
    window: Annotated[int, Meta(ge=SHORTEST, le=LONGEST)] = 50
    chunk: Annotated[int, Meta(ge=8, le=4096)] = 384
    settle: Count = 256
    hidden: Annotated[int, Meta(ge=1, le=4096)] = 96
    stride: Count = 0
    smooth: Annotated[float, Meta(ge=0)] = 0.02
    beat: Annotated[float, Meta(ge=0)] = 0.02
    balance: bool = True
    mix: Annotated[int, Meta(ge=0, le=100)] = 4
    margin: Annotated[float, Meta(ge=0, lt=0.5)] = 0.015
    normalizer: bool = True
    min_steps: Count = 600
    targets_offset_s: float = 0.0
    targets_session: str = ""
    cache_mb: Annotated[float, Meta(ge=0)] = 512.0


def open_recipe(job: Job) -> MapperRecipe:
    """The recipe on the frames and the M1 that a job names.

    Raises:
        UsageError: an unknown mode, or recorded controls that fit several sessions.
        DataError: not one training window.
        NoInputError, FormatError: see `from_run.open_inputs` and `formats.targets.read`.
    """
    return MapperRecipe(open_inputs(job), job)


class MapperRecipe:
    """See `choreo_cli.training.recipe.Recipe`."""

    name = "mapper"

    def __init__(self, found: Inputs, job: Job) -> None:
        self.rps, self.frames = found.rps, found.frames
        self.inputs, self.parents, self.roots = found.inputs, found.parents, found.roots
        self.synthetic = self.frames.synthetic
        config: Config = job.config
        if job.options.get("mode"):
            config = _with_mode(config, str(job.options["mode"]))
        if config.mode == "stream":
            _check_chunk(config)
            config = msgspec.structs.replace(config, batch=max(1, config.batch // STREAM_SHARE))
        self.taught = self._taught(job, config)
        self.data = {**found.data, "targets": dict(self.taught.sources), "within_session": self.taught.within}
        self.notes = [*found.notes, *self.taught.notes]
        self._controls = job.options.get("controls")
        length = config.window + 1 if config.mode == "window" else config.chunk
        extra = None if self.taught.learned else mixed(self.frames, self.taught.train, config.mix, job.seed)
        sources = [(self.frames, self.taught), *([] if extra is None else [(extra, by_rule(extra))])]
        stride = config.stride or _stride(config.mode, sources)
        self._parts = [
            (Items(taught.train, length, stride), self._data_of(frames, taught, config)) for frames, taught in sources
        ]
        self._data = self._parts[0][1]
        self._val = Items(self.taught.val, length, stride)
        if not len(self._parts[0][0]):
            raise DataError(
                f"no unbroken stretch of {length} frames to train on", hint="see the report of choreo pair for gaps"
            )
        self.n_items = sum(len(items) for items, _ in self._parts)
        per_epoch = -(-self.n_items // config.batch)
        self.config = msgspec.structs.replace(
            config, stride=stride, epochs=max(config.epochs, -(-config.min_steps // per_epoch))
        )
        self._weight: Tensor | None = None

    def _data_of(self, frames: FrameSet, taught: Taught, config: Config) -> MapperData:
        budget = int(config.cache_mb * 2**20)
        return MapperData(self.rps, frames, taught, normalized=config.normalizer, margin=config.margin, budget=budget)

    def _taught(self, job: Job, config: Config) -> Taught:
        path = job.options.get("targets")
        if not path:
            return by_rule(self.frames)
        from formats.atomic import sha256_file

        taught = by_example(self.frames, Path(path), session=config.targets_session, offset_s=config.targets_offset_s)
        files = sorted(p for p in Path(path).iterdir() if p.is_file()) if Path(path).is_dir() else [Path(path)]
        self.inputs += [{"role": "targets", "sha256": sha256_file(f), "schema": "recorded controls"} for f in files]
        return taught

    def model(self) -> nn.Module:
        """A fresh GRU mapper."""
        return GRUMapper(hidden=self.config.hidden)

    def batch(self, items: I64, epoch: int) -> dict[str, Tensor]:
        """Latents `z` (B, L, 104); of the last n frames `y` (B, n, 5), `phase` (B, n); with `stream` `carry` (B,)."""
        chosen, made, before = np.asarray(items, np.int64), [], 0
        for own, data in self._parts:
            mine = (chosen >= before) & (chosen < before + len(own))
            if mine.any():
                made.append(self._batch(own, data, chosen[mine] - before))
            before += len(own)
        return {k: torch.cat([part[k] for part in made]) for k in made[0]}

    def _batch(self, items: Items, data: MapperData, chosen: I64) -> dict[str, Tensor]:
        rows = items.starts(chosen)[:, None] + np.arange(items.length)
        # Every output that has seen a window of legal length is taught: it costs nothing more than the last.
        first = self.config.settle if self.config.mode == "stream" else min(SHORTEST, items.length - 2)
        judged = rows[:, first:]
        made = {"z": data.latents(rows), "y": data.targets(judged), "phase": data.phase(judged)}
        if self.config.mode == "stream":
            made["carry"] = (chosen % FRESH != 0).astype(np.float32)
        return {k: torch.from_numpy(np.ascontiguousarray(v)) for k, v in made.items()}

    def loss(
        self, model: nn.Module, batch: Mapping[str, Tensor], draws: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """See `mapper_torch.mapper_loss`; nothing is drawn."""
        return self._loss(model, batch)

    def _loss(self, model: nn.Module, batch: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        made = model(batch["z"], batch["y"].shape[1], batch.get("carry"))
        config, step_s = self.config, self.frames.step_us * 1e-6
        return mapper_loss(made, batch, config.smooth, config.beat, step_s, self._weights(made.device))

    def _weights(self, device: torch.device) -> Tensor | None:
        if self.config.balance and self._weight is None:
            self._weight = torch.from_numpy(self._data.weights())
        return None if self._weight is None else self._weight.to(device)

    def after_step(self, model: nn.Module) -> None:
        """Nothing is projected."""

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Loss and its parts on the validation items, at most 20,000 evenly spread; every item counts alike."""
        if not len(self._val):
            return {}
        device = next(model.parameters()).device
        sums: dict[str, float] = {}
        judged = evenly(len(self._val), VAL_ITEMS)
        with torch.no_grad():
            for at in range(0, len(judged), VAL_BATCH):
                chosen = judged[at : at + VAL_BATCH]
                batch = {k: v.to(device) for k, v in self._batch(self._val, self._data, chosen).items()}
                loss, parts = self._loss(model, batch)
                for name, value in {"loss": loss, **parts}.items():
                    sums[name] = sums.get(name, 0.0) + float(value) * len(chosen)
        return {k: v / len(judged) for k, v in sums.items()}

    def finish(self, model: nn.Module, files: RunFiles) -> Finished:
        """Checkpoint, twins, `controls/<session>_controls.parquet` of the held-out sessions, and the judgement."""
        assert isinstance(model, GRUMapper)
        config = self.config
        made = Mapper(
            model.arrays(), config.mode, config.window, config.normalizer, self.rps.sha256, facts=self._facts()
        )
        probe, expected = self._probe(model)
        written = encode_mapper(made, self._facts(), files.created_by, probe, expected)
        for role, name, data in written:
            files.write(role, name, data)
        final = Mapper.read(files.target("model.json").parent)
        for session in self.frames.of(("val", "test")):
            relative = f"controls/{file_name(session.session_id, 'controls')}"
            files.add("controls", relative, self._write_controls(files.target(relative), final, session))
        if self._controls:
            for session in self.frames.sessions:
                self._write_controls(Path(self._controls) / file_name(session.session_id, "controls"), final, session)
        return self._judged(final)

    def _facts(self) -> dict[str, Any]:
        return {
            "sources": dict(self.taught.sources),
            "within_session": self.taught.within,
            "step_us": self.frames.step_us,
            "synthetic": self.synthetic,
        }

    def _write_controls(self, path: Path, made: Mapper, session: FrameSession) -> str:
        return write_controls(path, self.rps, made, self.frames, session)

    def _probe(self, model: GRUMapper) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Real latents of one window, and what the network itself makes of them."""
        first = int(self.taught.train[np.argmax(self.taught.train[:, 1] - self.taught.train[:, 0]), 0])
        rows = slice(first, first + self.config.window)
        z = model_latents(self.rps, self.frames.x[rows], self.frames.mask[rows], self.config.normalizer)
        with torch.no_grad():
            whole = model.cpu()(torch.from_numpy(z)[None], len(z))[0].numpy()
        return z, whole if self.config.mode == "stream" else whole[-1]

    def _judged(self, made: Mapper) -> Finished:
        if self.taught.within:
            pieces = mapper_score.within(self.rps, made, self.frames, self.taught)
            params = {"split": "within-session, the last 20 % in time", "sources": dict(self.taught.sources)}
            return Finished(mapper_score.judge(pieces, params=params), self.notes)
        pieces = mapper_score.held_out(self.rps, made, self.frames, self.taught)
        nothing = [] if pieces else [f"{mapper_score.NOTHING_HELD_OUT}: nothing can be said of unseen movement"]
        entries = mapper_score.judge(pieces, params={"split": "held-out sessions"})
        return Finished(entries, [*self.notes, *nothing])


def _with_mode(config: Config, mode: str) -> Config:
    from choreo_cli.errors import UsageError

    if mode not in MODES:
        raise UsageError(f"no mode {mode!r}", hint=f"choose from {', '.join(MODES)}")
    return msgspec.convert({**msgspec.structs.asdict(config), "mode": mode}, Config)


def _check_chunk(config: Config) -> None:
    from choreo_cli.errors import ConfigError

    if not 1 <= config.settle <= config.chunk - 2:
        raise ConfigError(f"settle={config.settle} leaves nothing of chunk={config.chunk} to learn from")


def _stride(mode: str, sources: list[tuple[FrameSet, Taught]]) -> int:
    rows = sum(int((taught.train[:, 1] - taught.train[:, 0]).sum()) for _, taught in sources)
    return auto_stride(rows, WANTED_ITEMS[mode]) * (STREAM_STRIDE if mode == "stream" else 1)
