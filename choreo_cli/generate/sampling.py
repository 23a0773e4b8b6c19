"""Draw clips from a network: noise, guidance, known frames, normalisation; the network is any callable on arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from choreo_cli.dataset.motions_stats import SWIVELS, Stats
from choreo_cli.errors import DataError, UsageError
from choreo_cli.generate.conditioning import extra_vector, task_vector, time_features
from choreo_cli.generate.config import CHANNELS, FPS, FRAMES
from choreo_cli.generate.flow import Draw, Flow, Held, Predict
from choreo_cli.generate.given import Given, Told, given_of, guess_task, heard
from choreo_cli.generate.guidance import PLAIN, Guidance, combine
from choreo_cli.generate.long import Cover, cover, fold, unfold

__all__ = ["Defaults", "Forward", "Process", "Sampler", "guess_task", "guidance_of", "noise"]

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
        audio_names: What the audio features are called.
        tasks: Tasks it was trained for, in capitals; empty when nobody said.
        together: Windows that a network call of `dance` takes at most.
        padded: Every network call of `dance` takes exactly `together` windows, of any clips, filled up if need be; else
            each clip goes by itself. Either way no clip sees the others: it is the same in any company.
        nfe: Evaluations of the network in the last `sample` or `dance`.
        rows: Rows that went through it for each clip: evaluations times guidance branches times windows.
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
    audio_names: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    together: int = 16
    padded: bool = False
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
        if audio is not None:
            audio = heard(audio, self.stats, self.fps)
            clips, frames = audio.shape[:2]
        length = self.frames if frames is None else int(frames)
        if not 1 <= length <= self.frames:
            hint = "Sampler.dance and choreo generate join windows to any length"
            raise DataError(f"{length} frames at once: the model has learned {self.frames}", hint=hint)
        if clips < 1:
            raise UsageError(f"{clips} clips", hint="at least one is needed")
        given = given_of(Told(audio, known, mask, task, text), self.stats, (clips, length))
        rows = [(seed, first + k) for k in range(clips)]
        return self._drawn(given, rows, steps, solver, cfg, None)

    def dance(
        self,
        audio: NDArray[Any] | None,
        rows: Sequence[tuple[int, ...]],
        *,
        frames: int | None = None,
        known: NDArray[Any] | None = None,
        mask: NDArray[Any] | None = None,
        task: str | None = None,
        text: NDArray[Any] | None = None,
        steps: int | None = None,
        solver: str | None = None,
        cfg: float | Guidance | None = None,
        overlap: int | None = None,
    ) -> F32:
        """Draw clips of any length, without seams; see `long`.

        Args:
            audio: (B, T, A) or (T, A) raw features; None ignores the music, for `frames` frames.
            rows: Of each clip, the numbers its noise follows from; the first T frames of it are the same for any T.
            overlap: Frames that windows share, half a window unless it is said otherwise.
            frames, known, mask, task, text, steps, solver, cfg: As of `sample`, with T of any length.

        Returns:
            (B, T, 25) float32 raw channels; not clamped.

        Raises:
            DataError, UsageError: as `sample`; no frames; music for another number of clips.
        """
        if audio is not None:
            audio = heard(audio, self.stats, self.fps)
            if len(audio) != len(rows):
                raise UsageError(f"music for {len(audio)} clips, noise for {len(rows)}")
            frames = audio.shape[1]
        if not frames or frames < 1 or not rows:
            raise UsageError(f"{len(rows)} clips of {frames or 0} frames", hint="at least one of one frame is needed")
        short = max(0, self.frames - frames)
        if short:
            audio, known, mask = _longer(audio, short, "edge"), _longer(known, short), _longer(mask, short)
        windows = cover(frames + short, self.frames, self.frames // 2 if overlap is None else overlap)
        given = given_of(Told(audio, known, mask, task, text), self.stats, (len(rows), frames + short))
        return self._drawn(given, rows, steps, solver, cfg, windows)[:, :frames]

    def _drawn(
        self, given: Given, rows: Sequence[tuple[int, ...]], steps: int | None, solver: str | None,
        cfg: float | Guidance | None, windows: Cover | None,
    ) -> F32:  # fmt: skip
        guidance = self._guidance(cfg)
        steps, solver = steps or self.defaults.steps, solver or self.defaults.solver
        told = {"guidance": guidance.audio if self.guided else None, "step": 1 / steps if self.sized else None}
        together = TOGETHER if windows is None or self.padded else 1
        made = []
        for start in range(0, given.count, together):
            part = given.rows(slice(start, start + together))
            self.nfe = self.rows = 0
            extra = extra_vector(1, **told)
            predict = self._predict(part, PLAIN if self.guided else guidance, extra, windows)
            draw = partial(noise_of, rows[start : start + together], part.length)
            with np.errstate(over="ignore", invalid="ignore"):  # what diverges is refused below, in a sentence
                made.append(self.process.run(predict, draw, part.held, steps, solver))
        out = np.concatenate(made)
        if not np.isfinite(out).all():
            raise DataError("the model gives values that are not finite", hint="it has diverged; train it anew")
        return given.pasted(self.stats.denormalise(out))

    def _guidance(self, cfg: float | Guidance | None) -> Guidance:
        base = self.defaults.guidance
        if self.baked:
            if cfg is not None:
                raise UsageError("guidance is part of this distilled model", hint="leave --cfg out")
            return PLAIN
        if cfg is None:
            return base
        return cfg if isinstance(cfg, Guidance) else Guidance(float(cfg), base.text, base.low, base.high)

    def _predict(self, given: Given, guidance: Guidance, extra: F32, windows: Cover | None) -> Predict:
        """The network with its conditions, window by window; branches of the guidance go together."""
        parts = given if windows is None else _cut(given, windows)
        turn = turns(self.stats) if getattr(self.process, "predict", "x1") != "eps" else None

        def predict(x: F32, t: float, way: float) -> F32:
            branches = guidance.branches(way, audio=given.hears, text=given.reads)
            time = time_features(np.array([t]), self.width)
            cut = x.astype(np.float32, copy=False)
            if windows is None:
                out = self._asked(cut, parts, branches, time, extra, None)
            else:
                found = self._asked(unfold(cut, windows), parts, branches, time, extra, self.together)
                out = found if len(windows.starts) == 1 else fold(found, windows, turn)
            self.nfe += 1
            self.rows += len(branches) * (1 if windows is None else len(windows.starts))
            return out

        return predict

    def _asked(
        self, x: F32, given: Given, branches: Sequence[tuple[tuple[bool, bool], float]], time: F32, extra: F32,
        most: int | None,
    ) -> F32:  # fmt: skip
        """One evaluation of every row of x, at most so many at once."""
        n, out = len(branches), []
        for start in range(0, len(x), most or len(x)):
            rows = np.arange(start, min(start + (most or len(x)), len(x)))
            kept = len(rows)
            if most and self.padded:
                rows = np.concatenate([rows, np.full(most - kept, rows[-1])])
            some, count = given.rows(rows), n * len(rows)
            audio = np.concatenate([some.audio * np.float32(hears) for (hears, _), _ in branches])
            text = np.concatenate([some.text * np.float32(reads) for (_, reads), _ in branches])
            found = self.model(
                _tiled(x[rows], n), np.repeat(time, count, 0), audio, _tiled(some.known, n), _tiled(some.mask, n), text,
                _tiled(some.task, n), np.repeat(extra, count, 0),
            )  # fmt: skip
            answers = np.split(np.asarray(found), n)
            out.append(np.asarray(combine(answers, [w for _, w in branches]), np.float32)[:kept])
        return out[0] if len(out) == 1 else np.concatenate(out)


def noise(count: int, length: int, seed: int, first: int = 0, number: int = 0) -> F32:
    """Standard normal (count, length, 25); row k follows from (seed, first + k, number)."""
    return noise_of([(seed, first + k) for k in range(count)], length, number)


def noise_of(rows: Sequence[tuple[int, ...]], length: int, number: int = 0) -> F32:
    """Standard normal (B, length, 25); each row follows from its own numbers and the number of the draw."""
    draws = (np.random.default_rng((*row, number)) for row in rows)
    return np.stack([r.standard_normal((length, CHANNELS), np.float32) for r in draws])


def turns(stats: Stats) -> F32:
    """(25,) a full turn of each channel as the network sees it, 0 for what is no angle."""
    out = np.zeros(CHANNELS, np.float32)
    out[list(SWIVELS)] = 2 * np.pi / stats.std[list(SWIVELS)]
    return out


def guidance_of(facts: Mapping[str, Any]) -> Guidance:
    """Guidance as a card holds it."""
    return Guidance(**{k: float(v) for k, v in facts.items()})


def _cut(given: Given, windows: Cover) -> Given:
    """Conditions of a long dance as those of its windows."""
    n = len(windows.starts)
    audio, known, mask = (unfold(a, windows) for a in (given.audio, given.known, given.mask))
    task = np.repeat(given.task, n, 0)
    if n > 1 and given.held is not None:  # a window in which nothing is given has nothing to fill
        names = [guess_task(m[None]) for m in mask]
        own = np.concatenate([task_vector(name, 1) for name in names])
        task = np.where(np.array([name == "complete" for name in names])[:, None], task, own)
    text = np.repeat(given.text, n, 0)
    return replace(given, audio=audio, known=known, mask=mask, text=text, task=task, held=None, raw=None, flags=None)


def _longer(a: NDArray[Any] | None, more: int, how: Literal["edge", "constant"] = "constant") -> NDArray[Any] | None:
    """(..., T, C) with frames after it: its last one again, or zeros."""
    if a is None:
        return None
    a = np.asarray(a)
    return np.pad(a, [*[(0, 0)] * (a.ndim - 2), (0, more), (0, 0)], mode=how)


def _tiled(a: F32, n: int) -> F32:
    return a if n == 1 else np.concatenate([a] * n)
