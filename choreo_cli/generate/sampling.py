"""Draw clips from a network: noise, guidance, known frames, normalisation; the network is any callable on arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from choreo_cli.dataset.motions_stats import Stats
from choreo_cli.errors import DataError, UsageError
from choreo_cli.generate.conditioning import channel_mask, extra_vector, task_vector, time_features
from choreo_cli.generate.config import CHANNELS, FPS, FRAMES, GROUPS, TEXT_WIDTH
from choreo_cli.generate.flow import Draw, Flow, Held, Predict
from choreo_cli.generate.guidance import PLAIN, Guidance, combine

F32 = NDArray[np.float32]
# x, time, audio, known, mask, text, task, extra -> out; float32 arrays as `dit_torch.MotionDiT.forward` takes them.
Forward = Callable[[F32, F32, F32, F32, F32, F32, F32, F32], F32]
FLOW = Flow()
TOGETHER = 64  # clips that go through the network at once


class Process(Protocol):
    """A way from noise to data: `flow.Flow`, `diffusion.Ddim`, or a distilled model's own."""

    @property
    def name(self) -> str: ...
    def evaluations(self, steps: int, solver: str) -> int: ...
    def run(self, predict: Predict, draw: Draw, held: Held | None, steps: int, solver: str) -> F32: ...


@dataclass(frozen=True, slots=True)
class Defaults:
    """What a model is sampled with unless it is said otherwise; kept in its card."""

    steps: int = 4
    solver: str = "euler"
    guidance: Guidance = PLAIN


@dataclass(slots=True)
class Sampler:
    """A network with everything that turns noise into channels.

    Args:
        model: The network as a callable on float32 arrays (`model_files.torch_forward` wraps a torch module, an ONNX
            session is called alike).
        stats: Means and spreads of the channels and the audio features, of the training split.
        process: What the network predicts and how it is followed.
        width: Numbers of a token, the width of the time features.
        frames: Frames of a window, the most it takes.
        fps: Frame rate.
        defaults: Steps, solver and guidance.
        guided: The guidance weight is an input of the (distilled) model, and not a second evaluation.
        sized: The step size is an input of the model.
        baked: Guidance was distilled into the model: there is none to choose.
        identity: sha256 of the weights or the graph.
        nfe: Evaluations of the network in the last `sample`.
        rows: Rows that went through it for each clip: evaluations times guidance branches.
    """

    model: Forward
    stats: Stats
    process: Process = FLOW
    width: int = 128
    frames: int = FRAMES
    fps: float = FPS
    defaults: Defaults = Defaults()
    guided: bool = False
    sized: bool = False
    baked: bool = False
    identity: str = ""
    nfe: int = 0
    rows: int = 0

    @property
    def audio_width(self) -> int:
        """Features of a frame of music; 0 for a model that listens to nothing."""
        return int(self.stats.audio_mean.shape[0])

    @property
    def steps(self) -> int:
        """Steps that are taken unless it is said otherwise."""
        return self.defaults.steps

    @property
    def cfg(self) -> Guidance | None:
        """Guidance unless it is said otherwise; None when it is part of the model."""
        return None if self.baked else self.defaults.guidance

    def sample(
        self,
        audio: NDArray[Any] | None,
        *,
        known: NDArray[Any] | None = None,
        mask: NDArray[Any] | None = None,
        task: str | None = None,
        text: NDArray[Any] | None = None,
        steps: int | None = None,
        solver: str | None = None,
        cfg: float | Guidance | None = None,
        seed: int = 0,
        first: int = 0,
        clips: int = 1,
        frames: int | None = None,
    ) -> F32:
        """Draw clips. Clip k depends on (seed, first + k) and its own conditions alone, however many are drawn.

        Args:
            audio: (B, T, A) or (T, A) raw features; None ignores the music, for `clips` clips of `frames` frames.
            known: (B, T, 25) raw channels that are given where `mask` says so; those come back bit for bit.
            mask: (B, T, 7) 1 where a channel group (`config.GROUPS`) of a frame is given.
            task: gen, inbetween, predict...; None says gen without a mask, and what the mask looks like with one.
            text: (B, 384) of a text encoder.
            steps: Steps of the solver; None takes the model's own.
            solver: See `solvers.solve`.
            cfg: Weight of the music, or all of `Guidance`.
            seed: Of the noise.
            first: Number of the first clip.

        Returns:
            (B, T, 25) float32 raw channels; not clamped.

        Raises:
            DataError: conditions of another shape, longer than a window, or not finite; a model that diverges.
            UsageError: an unknown task or solver, or guidance of a model that has it built in.
        """
        given = self._conditions(audio, known, mask, task, text, clips, frames)
        guidance = self._guidance(cfg)
        steps, solver = steps or self.defaults.steps, solver or self.defaults.solver
        told = {"guidance": guidance.audio if self.guided else None, "step": 1 / steps if self.sized else None}
        self.nfe = self.rows = 0
        made = []
        for start in range(0, given.count, TOGETHER):
            part = given.rows(slice(start, start + TOGETHER))
            self.nfe = self.rows = 0
            extra = extra_vector(part.count, **told)
            predict = self._predict(part, PLAIN if self.guided else guidance, extra)
            draw = partial(noise, part.count, part.length, seed, first + start)
            with np.errstate(over="ignore", invalid="ignore"):  # what diverges is refused below, in a sentence
                made.append(self.process.run(predict, draw, part.held, steps, solver))
        out = np.concatenate(made)
        if not np.isfinite(out).all():
            raise DataError("the model gives values that are not finite", hint="it has diverged; train it anew")
        raw = self.stats.denormalise(out)
        return raw if given.raw is None or given.flags is None else np.where(given.flags, given.raw, raw)

    def _guidance(self, cfg: float | Guidance | None) -> Guidance:
        base = self.defaults.guidance
        if self.baked:
            if cfg is not None:
                raise UsageError("guidance is part of this distilled model", hint="leave --cfg out")
            return PLAIN
        if cfg is None:
            return base
        return cfg if isinstance(cfg, Guidance) else Guidance(float(cfg), base.text, base.low, base.high)

    def _predict(self, given: _Given, guidance: Guidance, extra: F32) -> Predict:
        """The network with its conditions, branches of the guidance as one batch."""

        def predict(x: F32, t: float, way: float) -> F32:
            branches = guidance.branches(way, audio=given.hears, text=given.reads)
            n, count = len(branches), given.count
            audio = np.concatenate([given.audio * np.float32(heard) for (heard, _), _ in branches])
            text = np.concatenate([given.text * np.float32(read) for (_, read), _ in branches])
            time = time_features(np.full(n * count, t), self.width)
            out = self.model(
                _tiled(x.astype(np.float32, copy=False), n), time, audio, _tiled(given.known, n), _tiled(given.mask, n),
                text, _tiled(given.task, n), _tiled(extra, n),
            )  # fmt: skip
            self.nfe += 1
            self.rows += n
            return np.asarray(combine(np.split(np.asarray(out), n), [w for _, w in branches]), np.float32)

        return predict

    def _conditions(
        self, audio: NDArray[Any] | None, known: NDArray[Any] | None, mask: NDArray[Any] | None, task: str | None,
        text: NDArray[Any] | None, clips: int, frames: int | None,
    ) -> _Given:  # fmt: skip
        hears = audio is not None and self.audio_width > 0
        if audio is not None:
            heard = np.asarray(audio, np.float32)
            heard = heard[None] if heard.ndim == 2 else heard
            if heard.ndim != 3 or (self.audio_width and heard.shape[2] != self.audio_width):
                hint = f"this model needs {self.audio_width} features a frame at {self.fps:g} fps"
                raise DataError(f"audio features of shape {np.shape(audio)}", hint=hint)
            clips, frames = heard.shape[:2]
        length = self.frames if frames is None else int(frames)
        if not 1 <= length <= self.frames:
            raise DataError(
                f"{length} frames at once: the model has learned {self.frames}", hint="longer dances are joined windows"
            )
        if clips < 1:
            raise UsageError(f"{clips} clips", hint="at least one is needed")
        shape = (clips, length)
        sound = np.zeros((*shape, self.audio_width), np.float32)
        if hears:
            _need_finite(heard, "audio features")
            sound = self.stats.normalise_audio(heard)
        words = (
            np.zeros((clips, TEXT_WIDTH), np.float32) if text is None else _shaped(text, (clips, TEXT_WIDTH), "text")
        )
        held, raw, flags, columns = self._held(known, mask, shape)
        name = task or ("gen" if held is None else guess_task(columns))
        filled = np.zeros((*shape, CHANNELS), np.float32) if held is None else held.known
        return _Given(
            sound, filled, columns, words, task_vector(name, clips), held, raw, flags, hears, text is not None
        )

    def _held(
        self, known: NDArray[Any] | None, mask: NDArray[Any] | None, shape: tuple[int, int]
    ) -> tuple[Held | None, F32 | None, NDArray[np.bool_] | None, F32]:
        columns = np.zeros((*shape, len(GROUPS)), np.float32)
        if mask is None and known is None:
            return None, None, None, columns
        if mask is None or known is None:
            raise UsageError("known frames without a mask, or a mask without them", hint="give both")
        columns = _shaped(mask, (*shape, len(GROUPS)), "mask")
        flags = channel_mask(columns)
        columns = (columns > 0.5).astype(np.float32)
        raw = np.where(flags, np.broadcast_to(np.asarray(known, np.float32), (*shape, CHANNELS)), np.float32(0))
        _need_finite(raw, "known frames")
        values = np.where(flags, self.stats.normalise(raw), np.float32(0))
        return Held(values, flags), raw, flags, columns


@dataclass(frozen=True, slots=True)
class _Given:
    """Conditions of a sample, normalised."""

    audio: F32
    known: F32
    mask: F32
    text: F32
    task: F32
    held: Held | None
    raw: F32 | None
    flags: NDArray[np.bool_] | None
    hears: bool
    reads: bool

    @property
    def count(self) -> int:
        return len(self.audio)

    @property
    def length(self) -> int:
        return int(self.audio.shape[1])

    def rows(self, s: slice) -> _Given:
        held = None if self.held is None else Held(self.held.known[s], self.held.given[s])
        return _Given(
            self.audio[s], self.known[s], self.mask[s], self.text[s], self.task[s], held, self.raw, self.flags,
            self.hears, self.reads,
        )  # fmt: skip


def noise(count: int, length: int, seed: int, first: int = 0, number: int = 0) -> F32:
    """Standard normal (count, length, 25); row k follows from (seed, first + k, number)."""
    rows = (np.random.default_rng((seed, first + k, number)) for k in range(count))
    return np.stack([r.standard_normal((length, CHANNELS), np.float32) for r in rows])


def guess_task(mask: NDArray[Any]) -> str:
    """`complete` for some channels of every frame, `predict` for frames at the start alone, else `inbetween`."""
    frames: list[int] = np.flatnonzero((np.asarray(mask) > 0.5).any((0, 2))).tolist()
    if not frames:
        return "gen"
    if len(frames) == mask.shape[1]:
        return "complete"
    return "predict" if len(frames) == frames[-1] + 1 else "inbetween"


def guidance_of(facts: Mapping[str, Any]) -> Guidance:
    """Guidance as a card holds it."""
    return Guidance(**{k: float(v) for k, v in facts.items()})


def _tiled(a: F32, n: int) -> F32:
    return a if n == 1 else np.concatenate([a] * n)


def _shaped(a: NDArray[Any], shape: tuple[int, ...], what: str) -> F32:
    try:
        found = np.broadcast_to(np.asarray(a, np.float32), shape)
    except ValueError:
        raise DataError(f"{what} of shape {np.shape(a)}", hint=f"{shape} is needed") from None
    _need_finite(found, what)
    return np.array(found)


def _need_finite(a: NDArray[Any], what: str) -> None:
    bad = int(a.size - np.isfinite(a).sum())
    if bad:
        raise DataError(f"{bad} values of the {what} are not finite")
