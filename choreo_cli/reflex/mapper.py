"""M3 without torch: normalised latents to five controls, over whole sessions and one frame at a time.

Gates as in Cho et al., EMNLP 2014, with the reset applied after the recurrent product (cuDNN's form, ONNX
`linear_before_reset=1`): r, z = s(W x + U h + b), n = tanh(W x + b + r (U h + c)), h' = (1 - z) n + z h.
The arrays carry torch's names and gate order (r, z, n).

Two models share these weights' shapes and are not interchangeable; the checkpoint says which one it is:
`window` sees the last T frames from a zero state, `stream` carries its state on for ever.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from choreo_cli.errors import DataError
from formats import checkpoint
from formats.checkpoint import Checkpoint
from formats.columns import CONTROL_NAMES, LATENT_NAMES
from formats.errors import FormatError

if TYPE_CHECKING:
    from choreo_cli.reflex.rps import Rps

F32 = NDArray[np.float32]
RECIPE = "mapper"
MODES = ("window", "stream")
SHORTEST, LONGEST = 20, 50
BLOCK = 4096
"""Frames worked on at once over a whole session."""


def shapes(x_dim: int, hidden: int, out_dim: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the weights."""
    return {
        "gru.weight_ih_l0": (3 * hidden, x_dim),
        "gru.weight_hh_l0": (3 * hidden, hidden),
        "gru.bias_ih_l0": (3 * hidden,),
        "gru.bias_hh_l0": (3 * hidden,),
        "head.weight": (out_dim, hidden),
        "head.bias": (out_dim,),
    }


def model_latents(rps: Rps, x: ArrayLike, mask: ArrayLike, normalized: bool = True) -> F32:
    """What a mapper is fed: latents (N, 104) of the frozen M1, through M2 unless the mapper was trained without it.

    Args:
        rps: The frozen M1.
        x: (N, 11) frames, NaN = missing.
        mask: (N, 4) which modality is measured.
        normalized: Whether M2 is applied (`Mapper.normalized`).
    """
    z = rps.latents(np.asarray(x), np.asarray(mask))
    return np.asarray(rps.normalizer.apply(z) if normalized else z, np.float32)


class Stepper(Protocol):
    """One frame in, one frame of controls out."""

    def step(self, z: ArrayLike) -> F32:
        """Controls (5,) after one more frame of normalised latents (104,).

        A frame that is not finite gives NaN and leaves no trace: the caller's guard holds the last value.
        """
        ...

    def reset(self) -> None:
        """Start afresh, as after a gap."""
        ...


@dataclass(frozen=True, slots=True)
class Mapper:
    """A trained M3.

    Args:
        weights: Arrays by name, see `shapes`.
        mode: `window` or `stream`.
        window: Frames a window has; with `stream`, frames after which its state has settled.
        normalized: Whether it was trained on latents that went through M2.
        rps_sha256: The M1 it was trained on.
        sha256: Its own weights.
        facts: Everything else the checkpoint says of it.
    """

    weights: dict[str, F32]
    mode: str
    window: int
    normalized: bool = True
    rps_sha256: str = ""
    sha256: str = ""
    facts: dict[str, Any] | None = None

    @classmethod
    def read(cls, folder: str | Path) -> Mapper:
        """Open a `mapper` checkpoint.

        Raises:
            FormatError: no checkpoint, another recipe or architecture, damaged, or facts that are missing.
        """
        return cls.of(checkpoint.read(folder, RECIPE))

    @classmethod
    def of(cls, found: Checkpoint) -> Mapper:
        """The mapper in a checkpoint. Raises FormatError, see `read`."""
        file = None if found.folder is None else found.folder / checkpoint.CARD
        sizes = [found.arch.get(k) for k in ("x_dim", "hidden", "out_dim")]
        if any(type(s) is not int or not 1 <= s <= 65_536 for s in sizes):
            raise FormatError("needs x_dim, hidden and out_dim", file=file, field="arch")
        x_dim, hidden, out_dim = (int(s) for s in sizes if s is not None)
        if (x_dim, out_dim) != (len(LATENT_NAMES), len(CONTROL_NAMES)):
            want = f"need {len(LATENT_NAMES)} to {len(CONTROL_NAMES)}"
            raise FormatError(f"maps {x_dim} inputs to {out_dim} controls, {want}", file=file, field="arch")
        checkpoint.need(found, shapes(x_dim, hidden, out_dim))
        facts = dict(found.facts)
        mode, window = facts.get("mode"), facts.get("window")
        if mode not in MODES:
            raise FormatError(f"its mode is {mode!r}, need one of {', '.join(MODES)}", file=file, field="facts.mode")
        if type(window) is not int or not 1 <= window <= 100_000:
            raise FormatError("needs a whole number of frames", file=file, field="facts.window")
        weights = {k: np.ascontiguousarray(v, np.float32) for k, v in found.arrays.items()}
        normalized, rps = bool(facts.get("normalizer", True)), str(facts.get("rps_sha256", ""))
        sha = found.files.get(checkpoint.WEIGHTS, "")
        return cls(weights, mode, window, normalized, rps, sha, facts)

    @property
    def hidden(self) -> int:
        return int(self.weights["gru.weight_hh_l0"].shape[1])

    def stepper(self) -> Stepper:
        """A live form with a state of its own: the numbers of `controls`, one frame at a time."""
        return WindowStepper(self) if self.mode == "window" else StreamStepper(self)

    def controls(self, z: ArrayLike) -> F32:
        """Controls (N, 5) of one unbroken stretch of normalised latents (N, 104), in the mode it was trained for.

        Window mode: frame i is the end of the window i-T+1..i, or of what there is of it at the start.

        Raises:
            DataError: latents of another width, or not finite.
        """
        x = np.ascontiguousarray(z, np.float32)
        if x.ndim != 2 or x.shape[1] != self.weights["gru.weight_ih_l0"].shape[1]:
            raise DataError(f"latents of shape {x.shape}, need (frames, {self.weights['gru.weight_ih_l0'].shape[1]})")
        if not np.isfinite(x).all():
            raise DataError(f"latents that are not finite, first at frame {int(np.argmin(np.isfinite(x).all(axis=1)))}")
        if self.mode == "stream":
            return self._streamed(x)
        parts = [self._windows(x, at, min(at + BLOCK, len(x))) for at in range(0, len(x), BLOCK)]
        return np.concatenate(parts) if parts else np.empty((0, len(CONTROL_NAMES)), np.float32)

    def _windows(self, x: F32, start: int, stop: int) -> F32:
        """Controls of frames [start, stop): all windows advance together, one product a step."""
        low = max(0, start - self.window + 1)
        inputs = self.project(x[low:stop])
        h = np.zeros((stop - start, self.hidden), np.float32)
        for back in range(self.window - 1, -1, -1):
            # Windows that begin before the stretch start later, from zero.
            first = max(0, back - start)
            if first < stop - start:
                rows = slice(start + first - back - low, stop - back - low)
                h[first:] = self.advance(inputs[rows], h[first:])
        return self.head(h)

    def _streamed(self, x: F32) -> F32:
        h = np.zeros(self.hidden, np.float32)
        states = np.empty((len(x), self.hidden), np.float32)
        inputs = self.project(x)
        for k in range(len(x)):
            h = self.advance(inputs[k], h)
            states[k] = h
        return self.head(states)

    def project(self, z: F32) -> F32:
        """Input half of the gates: (..., 104) to (..., 3 hidden)."""
        return np.asarray(z @ self.weights["gru.weight_ih_l0"].T + self.weights["gru.bias_ih_l0"])

    def advance(self, inputs: F32, h: F32) -> F32:
        """One step of the state: projected inputs (..., 3 hidden) and states (..., hidden) to new states."""
        n = h.shape[-1]
        own = h @ self.weights["gru.weight_hh_l0"].T + self.weights["gru.bias_hh_l0"]
        gates = _sigmoid(inputs[..., : 2 * n] + own[..., : 2 * n])
        new = np.tanh(inputs[..., 2 * n :] + gates[..., :n] * own[..., 2 * n :])
        return np.asarray(new + gates[..., n:] * (h - new))

    def head(self, h: F32) -> F32:
        """States (..., hidden) to controls (..., 5)."""
        return np.asarray(_sigmoid(h @ self.weights["head.weight"].T + self.weights["head.bias"]))


def _sigmoid(x: F32) -> F32:
    # By tanh: it cannot overflow.
    return np.asarray(np.float32(0.5) * np.tanh(np.float32(0.5) * x) + np.float32(0.5))


class WindowStepper:
    """Window mode, live: every window that is under way advances by one frame, all in one product.

    The windows that end at the next T frames have all begun already, so keeping their T states costs one (T, hidden)
    product a frame, where running the last window anew costs T products that wait for each other: the same
    arithmetic, several times faster.
    """

    def __init__(self, mapper: Mapper) -> None:
        self._mapper = mapper
        self._h = np.zeros((mapper.window, mapper.hidden), np.float32)
        self._seen = 0

    def reset(self) -> None:
        """Start afresh, as after a gap."""
        self._seen = 0

    def step(self, z: ArrayLike) -> F32:
        """Controls (5,) of the window that ends here; of what there is of it at first. See `Stepper`."""
        x = np.asarray(z, np.float32)
        if not np.isfinite(x).all():
            return np.full(len(CONTROL_NAMES), np.nan, np.float32)
        size = len(self._h)
        self._h[self._seen % size] = 0.0  # a window begins
        live = min(self._seen + 1, size)
        self._h[:live] = self._mapper.advance(self._mapper.project(x), self._h[:live])
        self._seen += 1
        # The oldest window: the one that the next frame will overwrite, or the very first.
        return self._mapper.head(self._h[self._seen % size if self._seen >= size else 0])


class StreamStepper:
    """Stream mode, live: one state, carried on."""

    def __init__(self, mapper: Mapper) -> None:
        self._mapper = mapper
        self.reset()

    def reset(self) -> None:
        """Start afresh, as after a gap."""
        self._h = np.zeros(self._mapper.hidden, np.float32)

    def step(self, z: ArrayLike) -> F32:
        """Controls (5,) after one more frame. See `Stepper`."""
        x = np.asarray(z, np.float32)
        if not np.isfinite(x).all():
            return np.full(len(CONTROL_NAMES), np.nan, np.float32)
        self._h = self._mapper.advance(self._mapper.project(x), self._h)
        return self._mapper.head(self._h)
