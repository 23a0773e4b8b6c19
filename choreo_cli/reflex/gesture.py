"""M5 in numpy: gestures and their onsets from the 11 inputs, over whole runs or frame by frame with equal results.

The network is a stack of dilated causal convolutions. Its score at frame t says how likely it is that a gesture began
`delay` frames earlier, so it has seen the start of the gesture and the latency is fixed: delay plus `hold`, the frames
a score must stay the highest one before it counts as a peak.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from choreo_cli.reflex.inputs import WIDTH, Standard
from formats.checkpoint import Checkpoint, need, read
from formats.columns import MASKS
from formats.errors import FormatError

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]

RECIPE = "gesture"
CHANNELS = WIDTH + len(MASKS)
LIMIT = 6.0  # standardised inputs are clipped here: a broken sensor must not drown the rest


class Event(NamedTuple):
    """A gesture that was detected: label, onset on the music clock (us), score 0..1."""

    label: str
    t_us: int
    score: float


@dataclass(frozen=True, slots=True)
class Shape:
    """What the network is built from.

    Args:
        width: Channels of every hidden layer.
        kernel: Taps of every convolution.
        dilations: Frames between taps, one convolution each.
        classes: Labels, in the order of the scores.
    """

    width: int
    kernel: int
    dilations: tuple[int, ...]
    classes: tuple[str, ...]

    @property
    def reach(self) -> int:
        """Frames before the current one that a score depends on."""
        return (self.kernel - 1) * sum(self.dilations)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of every array of the checkpoint; convolutions are (out, in, taps)."""
        found: dict[str, tuple[int, ...]] = {"mean": (WIDTH,), "std": (WIDTH,)}
        wide = CHANNELS
        for k in range(len(self.dilations)):
            found[f"conv{k}.weight"], found[f"conv{k}.bias"] = (self.width, wide, self.kernel), (self.width,)
            wide = self.width
        return found | {"head.weight": (len(self.classes), wide), "head.bias": (len(self.classes),)}


@dataclass(frozen=True, slots=True)
class Rules:
    """How scores become events.

    Args:
        delay: Frames between an onset and the score that speaks of it.
        hold: Frames on both sides that a peak must not be exceeded in.
        refractory: Frames in which a class stays silent after one of its peaks.
        threshold: Lowest score of a peak.
    """

    delay: int
    hold: int
    refractory: int
    threshold: float

    @property
    def latency(self) -> int:
        """Frames from an onset to the moment its event is out."""
        return self.delay + self.hold


def channels(x: ArrayLike, mask: ArrayLike, standard: Standard) -> F32:
    """What the network sees of frames.

    Args:
        x: (N, 11) inputs, NaN = missing.
        mask: (N, 4) which modalities are measured.
        standard: Constants of the training split.

    Returns:
        (N, 15): standardised inputs with 0 (the training mean) for missing ones, then which modalities are measured.
    """
    value, measured = standard.apply(np.asarray(x, np.float32), np.asarray(mask, bool))
    return np.concatenate([np.clip(value, -LIMIT, LIMIT), measured], axis=1, dtype=np.float32)


def peaks(scores: F32, rules: Rules) -> list[tuple[int, int, float]]:
    """Peaks of (N, K) scores as (frame, class, score), in order of frame, then class.

    A peak reaches the threshold, exceeds the `hold` scores before it, is not exceeded by the `hold` after it, and does
    not lie in the refractory time of an earlier peak of its class. The first `delay` frames speak of onsets before the
    run and the last `hold` are not decided yet: no peak lies there.
    """
    n, found = len(scores), []
    for k in range(scores.shape[1] if n else 0):
        last = -rules.refractory - 1
        for t in np.flatnonzero(scores[:, k] >= rules.threshold).tolist():
            if t < rules.delay or t + rules.hold >= n or t - last <= rules.refractory:
                continue
            before = scores[max(0, t - rules.hold) : t, k]
            after = scores[t + 1 : t + 1 + rules.hold, k]
            if (before < scores[t, k]).all() and (after <= scores[t, k]).all():
                found.append((t, k, float(scores[t, k])))
                last = t
    return sorted(found)


class Gesture:
    """A trained detector.

    Args:
        shape: Architecture.
        rules: Peak picking.
        arrays: Weights and statistics, named as in `Shape.shapes`.
        facts: The card's facts.
        sha256: Hash of the weights file, empty before there is one.
    """

    def __init__(
        self,
        shape: Shape,
        rules: Rules,
        arrays: Mapping[str, NDArray[Any]],
        facts: Mapping[str, Any] | None = None,
        sha256: str = "",
    ) -> None:
        self.shape, self.rules, self.facts, self.sha256 = shape, rules, dict(facts or {}), sha256
        self.standard = Standard(np.asarray(arrays["mean"], np.float32), np.asarray(arrays["std"], np.float32))
        n = len(shape.dilations)
        self.layers: list[tuple[F32, F32, int]] = [
            (_taps(arrays[f"conv{k}.weight"]), np.asarray(arrays[f"conv{k}.bias"], np.float32), shape.dilations[k])
            for k in range(n)
        ]
        self.head = (
            np.ascontiguousarray(arrays["head.weight"], np.float32).T,
            np.asarray(arrays["head.bias"], np.float32),
        )

    @staticmethod
    def read(folder: str | Path) -> Gesture:
        """The detector of a run folder.

        Raises:
            FormatError: no `gesture` checkpoint, damaged, or of another architecture.
        """
        return Gesture.of(read(folder, RECIPE))

    @staticmethod
    def of(model: Checkpoint) -> Gesture:
        """The detector of a checkpoint. Raises FormatError when its card and its weights do not fit."""
        try:
            a, f = model.arch, model.facts
            shape = Shape(int(a["width"]), int(a["kernel"]), tuple(map(int, a["dilations"])), tuple(a["classes"]))
            rules = Rules(int(f["delay"]), int(f["hold"]), int(f["refractory"]), float(f["threshold"]))
        except (KeyError, TypeError, ValueError) as e:
            raise FormatError(f"the card does not describe a gesture detector: {e}", file=model.folder) from None
        need(model, shape.shapes())
        return Gesture(shape, rules, model.arrays, model.facts, model.files.get("model.safetensors", ""))

    def scores(self, x: ArrayLike, mask: ArrayLike) -> F32:
        """Scores of one unbroken run.

        Args:
            x: (N, 11) inputs, NaN = missing.
            mask: (N, 4) which modalities are measured.

        Returns:
            (N, K) 0..1; row t speaks of onsets `rules.delay` frames earlier.
        """
        h = channels(x, mask, self.standard)
        h = np.concatenate([np.zeros((self.shape.reach, CHANNELS), np.float32), h])
        for weight, bias, dilation in self.layers:
            taps = len(weight) // h.shape[1]
            n = len(h) - dilation * (taps - 1)
            seen = np.concatenate([h[j * dilation : j * dilation + n] for j in range(taps)], axis=1)
            h = np.maximum(seen @ weight + bias, np.float32(0))
        return _sigmoid(h @ self.head[0] + self.head[1])

    def events(self, x: ArrayLike, mask: ArrayLike, t_us: ArrayLike) -> list[Event]:
        """Gestures of one unbroken run, as the stepper would report them; `t_us` is (N,)."""
        times = np.asarray(t_us, np.int64)
        return [
            Event(self.shape.classes[k], int(times[t - self.rules.delay]), score)
            for t, k, score in peaks(self.scores(x, mask), self.rules)
        ]

    def stepper(self, step_us: int = 20_000) -> GestureStepper:
        """A stream of frames, from its start."""
        return GestureStepper(self, step_us)


class GestureStepper:
    """Frame by frame. An event comes out exactly `rules.latency` frames after its onset, or never.

    Args:
        model: The detector; shared, never changed.
        step_us: Step of the frame clock; a jump of `t_us` by anything else starts over.
    """

    def __init__(self, model: Gesture, step_us: int = 20_000) -> None:
        self.model, self.step_us = model, step_us
        self.reset()

    def reset(self) -> None:
        """Forget the past: what comes next is the first frame."""
        shape, rules = self.model.shape, self.model.rules
        wide = [CHANNELS, *[shape.width] * len(shape.dilations)]
        self._past = [
            np.zeros((d * (shape.kernel - 1) + 1, w), np.float32)
            for d, w in zip(shape.dilations, wide, strict=False)
        ]  # fmt: skip
        for _ in range(shape.reach):  # the state that frames without any measurement lead to
            self._score(np.zeros(CHANNELS, np.float32))
        self._recent = np.full((2 * rules.hold + 1, len(shape.classes)), -1.0, np.float32)
        self._last = np.full(len(shape.classes), -rules.refractory - 1, np.int64)
        self._n, self._t_us = 0, 0

    def step(self, x: ArrayLike, mask: ArrayLike, t_us: int | None = None) -> list[Event]:
        """Take one frame; return the gestures that are certain now.

        Args:
            x: (11,) inputs, NaN = missing.
            mask: (4,) which modalities are measured.
            t_us: Its time; without it the clock goes on by one step, from 0.
        """
        if t_us is not None and self._n and t_us != self._t_us + self.step_us:
            self.reset()
        self._t_us = int(t_us) if t_us is not None else self._t_us + (self.step_us if self._n else 0)
        m, rules = self.model, self.model.rules
        one = channels(np.asarray(x, np.float32)[None], np.asarray(mask)[None], m.standard)[0]
        self._recent[:-1] = self._recent[1:]
        self._recent[-1] = self._score(one)
        self._n += 1
        at = self._n - 1 - rules.hold
        if at < rules.delay:
            return []
        return [Event(m.shape.classes[k], self._t_us - rules.latency * self.step_us, s) for k, s in self._peaks(at)]

    def _peaks(self, at: int) -> list[tuple[int, float]]:
        rules, now = self.model.rules, self._recent[self.model.rules.hold]
        before, after = self._recent[: rules.hold], self._recent[rules.hold + 1 :]
        up = (now >= rules.threshold) & (before < now).all(axis=0) & (after <= now).all(axis=0)
        found = np.flatnonzero(up & (at - self._last > rules.refractory))
        self._last[found] = at
        return [(int(k), float(now[k])) for k in found]

    def _score(self, h: F32) -> F32:
        for past, (weight, bias, dilation) in zip(self._past, self.model.layers, strict=True):
            past[:-1] = past[1:]
            past[-1] = h
            h = np.maximum(past[::dilation].reshape(-1) @ weight + bias, np.float32(0))
        return _sigmoid(h @ self.model.head[0] + self.model.head[1])


def _taps(weight: NDArray[Any]) -> F32:
    """(out, in, taps) as (taps x in, out), the layout of frames laid side by side."""
    return np.ascontiguousarray(np.asarray(weight, np.float32).transpose(2, 1, 0).reshape(-1, len(weight)))


def _sigmoid(x: NDArray[Any]) -> F32:
    out: F32 = (1.0 / (1.0 + np.exp(-np.clip(x, -60, 60)))).astype(np.float32)
    return out
