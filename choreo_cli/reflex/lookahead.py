"""M4, the latents of the next bar: the numpy twin. Causal, O(1) per tick, no torch.

Works on ticks of a sixteenth of a beat (`bars.ticks_of`), so that "one beat ago" is 16 ticks at every tempo. The
prediction for a horizon is a learned mix of what stood at the same place of the beat in the last four beats, of the
newest latents, and a correction by a stack of dilated causal convolutions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.reflex.bars import TICKS, Ticker
from formats import checkpoint
from formats.columns import BLOCKS
from formats.errors import FormatError
from formats.tensors import Arrays

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]

DIM = sum(BLOCKS.values())
HORIZONS = (4, 8, 12, 16, 24, 32, 48, 64)
"""Ticks ahead: 1/4, 1/2, 3/4, 1, 1 1/2, 2, 3 and 4 beats."""
KERNEL = 3
COMB = 4
"""Beats of the same place that the mix looks back on."""
CLOCK = 3
"""Further inputs: sine and cosine of the place in the beat, and log2 of the tempo over 120 beats/min."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The scalars a look-ahead network is built from.

    Args:
        dim: Latents.
        channels: Width of the convolutions.
        layers: Residual layers; layer k has dilation 2^k.
        horizons: Ticks ahead, rising.
    """

    dim: int = DIM
    channels: int = 64
    layers: int = 6
    horizons: tuple[int, ...] = HORIZONS

    @property
    def field(self) -> int:
        """Ticks of the past that a prediction looks at, its own included."""
        return 1 + (KERNEL - 1) * ((1 << self.layers) - 1)

    def lags(self) -> I64:
        """(H, COMB) ticks back from now to the same place of the beat as each horizon, the nearest first."""
        horizon = np.asarray(self.horizons)[:, None]
        beats = -(-horizon // TICKS) + np.arange(COMB)[None, :]
        return np.asarray(beats * TICKS - horizon, np.int64)

    def weights(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of every weight. Convolutions are (out, in, kernel), oldest tap first, as in torch."""
        c, h = self.channels, len(self.horizons)
        found: dict[str, tuple[int, ...]] = {"inlet.weight": (c, self.dim + CLOCK, 1), "inlet.bias": (c,)}
        for k in range(self.layers):
            found |= {f"layers.{k}.reach.weight": (c, c, KERNEL), f"layers.{k}.reach.bias": (c,)}
            found |= {f"layers.{k}.mix.weight": (c, c, 1), f"layers.{k}.mix.bias": (c,)}
        found |= {"head.weight": (h * self.dim, c, 1), "head.bias": (h * self.dim,)}
        return found | {"comb": (h, COMB, self.dim), "last": (h, self.dim)}

    @classmethod
    def of(cls, arch: Mapping[str, Any], file: Path | None = None) -> Shape:
        """From the `arch` of a checkpoint. Raises FormatError when it is none of a look-ahead, or unreasonable."""
        try:
            made = cls(int(arch["dim"]), int(arch["channels"]), int(arch["layers"]), tuple(map(int, arch["horizons"])))
        except (KeyError, TypeError, ValueError):
            raise FormatError("not the arch of a look-ahead", file=file, field="arch") from None
        sane = 1 <= made.dim <= 4096 and 1 <= made.channels <= 4096 and 1 <= made.layers <= 10
        rising = all(a < b for a, b in zip((0, *made.horizons), made.horizons, strict=False))
        if not (sane and rising and 1 <= len(made.horizons) <= 256 and int(made.lags().max()) < made.field):
            raise FormatError("an arch that makes no sense", file=file, field="arch")
        return made


def inputs_of(z: F32, index: I64, rate: F32) -> F32:
    """(K, dim + CLOCK) network inputs from normalised latents (K, dim), tick numbers and beats per second."""
    angle = 2 * np.pi * ((index % TICKS) + 0.5) / TICKS
    clock = np.stack([np.sin(angle), np.cos(angle), np.log2(np.maximum(rate, 0.1) / 2.0)], axis=1)
    return np.concatenate([z, clock.astype(np.float32)], axis=1)


class Lookahead:
    """A trained look-ahead, ready to predict.

    Args:
        shape: What it is built from.
        arrays: Weights named by `Shape.weights`, and `activity.weight` (dim,), `activity.bias` (1,): latents to
            motion energy.
        facts: What else the checkpoint says.
        sha256: Hash of its weights.
    """

    def __init__(self, shape: Shape, arrays: Arrays, facts: Mapping[str, Any] | None = None, sha256: str = "") -> None:
        self.shape, self.facts, self.sha256 = shape, dict(facts or {}), sha256
        self.arrays = {k: np.asarray(v, np.float32) for k, v in arrays.items()}
        self.lags = shape.lags()

    @classmethod
    def read(cls, folder: str | Path) -> Lookahead:
        """Read a `lookahead` checkpoint. Raises FormatError: absent, damaged, of another recipe or architecture."""
        found = checkpoint.read(folder, "lookahead")
        shape = Shape.of(found.arch, Path(folder))
        checkpoint.need(found, shape.weights() | {"activity.weight": (shape.dim,), "activity.bias": (1,)})
        return cls(shape, found.arrays, found.facts, found.sha256)

    def predict(self, z: F32, index: I64, rate: F32) -> F32:
        """Predict at every tick of one stretch that has enough past.

        Args:
            z: (K, dim) normalised latents at consecutive ticks.
            index: (K,) numbers of the ticks.
            rate: (K,) beats per second.

        Returns:
            (K - field + 1, H, dim): row i is made at tick i + field - 1; empty when the stretch is shorter.
        """
        n = len(z) - self.shape.field + 1
        h, dim = len(self.shape.horizons), self.shape.dim
        if n <= 0:
            return np.empty((0, h, dim), np.float32)
        x = self._affine("inlet", inputs_of(np.asarray(z, np.float32), index, rate))
        for k in range(self.shape.layers):
            x = self._layer(k, x)
        out = self._affine("head", np.maximum(x, 0)).reshape(n, h, dim) + self.arrays["last"] * z[-n:, None, :]
        now = np.arange(len(z) - n, len(z))
        for j in range(COMB):
            for i in range(h):
                out[:, i] += self.arrays["comb"][i, j] * z[now - self.lags[i, j]]
        return np.asarray(out, np.float32)

    def activity(self, predicted: F32) -> NDArray[np.float64]:
        """Motion energy (0..1) read off predicted latents (..., dim); a least-squares line, clipped."""
        found = np.asarray(predicted, np.float64) @ self.arrays["activity.weight"] + self.arrays["activity.bias"][0]
        return np.asarray(np.clip(found, 0.0, 1.0), np.float64)

    def bar_activity(self, predicted: F32) -> NDArray[np.float64]:
        """Mean activity over the coming bar, the mean over all horizons of (..., H, dim): what the planner takes."""
        return np.asarray(self.activity(predicted).mean(axis=-1))

    def stepper(self, step_us: int = 20_000) -> Stepper:
        """A streaming predictor of its own state."""
        return Stepper(self, step_us)

    def _affine(self, name: str, x: F32) -> F32:
        return np.asarray(x @ self.arrays[f"{name}.weight"][:, :, 0].T + self.arrays[f"{name}.bias"])

    def _layer(self, k: int, x: F32) -> F32:
        reach, n = 2**k, len(x) - (KERNEL - 1) * 2**k
        taps = self.arrays[f"layers.{k}.reach.weight"]
        y = self.arrays[f"layers.{k}.reach.bias"] + sum(
            x[j * reach : j * reach + n] @ taps[:, :, j].T for j in range(KERNEL)
        )
        return np.asarray(x[-n:] + self._affine(f"layers.{k}.mix", np.maximum(y, 0)))


class Stepper:
    """Look-ahead as frames arrive: fixed ring buffers, the same figures as `Lookahead.predict`.

    Args:
        model: The trained look-ahead.
        step_us: Time between frames.
    """

    def __init__(self, model: Lookahead, step_us: int = 20_000) -> None:
        self.model = model
        self._ticker = Ticker(step_us)
        shape = model.shape
        self._past = np.zeros((int(model.lags.max()) + 1, shape.dim), np.float32)
        self._rings = [np.zeros(((KERNEL - 1) * 2**k, shape.channels), np.float32) for k in range(shape.layers)]
        self._before = np.full(shape.dim, np.nan, np.float32)
        self.reset()

    def reset(self) -> None:
        """Forget everything: after a gap, a jump, or a change of music."""
        self._ticker.reset()
        self._clear()

    def _clear(self) -> None:
        self.ticks = 0
        self.prediction: F32 | None = None
        self._before[:] = np.nan

    def step(self, z: F32, phase: float) -> F32 | None:
        """Take one frame; return the newest prediction, None while there is too little past.

        Args:
            z: (dim,) normalised latents; NaN breaks the stretch.
            phase: Beat phase in [0, 1), NaN = unknown.

        Returns:
            (H, dim) latents at the model's horizons after the newest tick.
        """
        z = np.asarray(z, np.float32)
        if not np.isfinite(z).all():
            self.reset()
            return None
        done, rate, broken = self._ticker.step(phase)
        if broken or not math.isfinite(phase):
            self._clear()
        for index, previous in done:
            self._tick(self._before if previous else z, index, rate)
        self._before[:] = z
        return self.prediction

    def _tick(self, z: F32, index: int, rate: float) -> None:
        model, n = self.model, self.ticks
        self._past[n % len(self._past)] = z
        self.ticks += 1
        x = model._affine("inlet", inputs_of(z[None], np.array([index]), np.array([rate], np.float32)))[0]
        for k, ring in enumerate(self._rings):
            x = self._layer(k, x, ring, n)
        if self.ticks < model.shape.field:
            return
        h, dim = len(model.shape.horizons), model.shape.dim
        out = model._affine("head", np.maximum(x, 0)[None]).reshape(h, dim) + model.arrays["last"] * z
        same = self._past[(n - model.lags) % len(self._past)]
        self.prediction = np.asarray(out + (model.arrays["comb"] * same).sum(axis=1), np.float32)

    def _layer(self, k: int, x: F32, ring: F32, n: int) -> F32:
        """One layer at one tick; slot t % len of its ring holds its input of tick t."""
        reach, arrays = 2**k, self.model.arrays
        taps = arrays[f"layers.{k}.reach.weight"]
        y = arrays[f"layers.{k}.reach.bias"] + taps[:, :, KERNEL - 1] @ x
        for j in range(KERNEL - 1):
            y = y + taps[:, :, j] @ ring[(n - (KERNEL - 1 - j) * reach) % len(ring)]
        ring[n % len(ring)] = x
        return x + arrays[f"layers.{k}.mix.weight"][:, :, 0] @ np.maximum(y, 0) + arrays[f"layers.{k}.mix.bias"]


def beats(horizons: Sequence[int]) -> list[float]:
    """Horizons in beats."""
    return [h / TICKS for h in horizons]
