"""The two models in numpy for one frame at a time: every product that can be multiplied out beforehand is.

The 104 latents are an affine function of the encoders' hidden units for each pattern of measured modalities: second
layer, translation of the missing blocks, prox step and normaliser are multiplied out in float64 when a model is
opened, once for each of the 16 patterns. What is left of M1 and M2 is two products and a clamp. The gates of M3 keep
their arithmetic; halves of the sigmoids (s(x) = 1/2 tanh(x/2) + 1/2) are folded into the weights, and nothing is
allocated. The result differs from `reflex.rps` and `reflex.mapper` by rounding only.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from choreo_cli.reflex.inputs import COLUMN_SLICES, LATENT, OF_COLUMN, OF_LATENT, PHASE, WIDTH
from choreo_cli.reflex.mapper import Mapper
from choreo_cli.reflex.normalizer import CLAMP
from choreo_cli.reflex.rps import Rps
from formats.columns import CONTROL_NAMES, MODALITIES

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

N_MODES = len(MODALITIES)
HALF = np.float32(0.5)


def pattern_matrix(rps: Rps, measured: Bool, normalized: bool) -> tuple[F32, F32]:
    """Matrix (104, 4 hidden) and offset (104,) from hidden units to latents where `measured` (4,) is measured.

    With z = D (O h + o), D the measured blocks, f = z + (I - D) (W z + b) the filled latents and the prox step
    p = (1 - a) f + a (W f + b); then, when `normalized`, (p - mean) / std.
    """
    out, bias = rps.out[0].astype(np.float64), rps.out[1].astype(np.float64)
    w, b = rps.translators.weight.astype(np.float64), rps.translators.bias.astype(np.float64)
    here = measured[OF_LATENT].astype(np.float64)
    absent = 1.0 - here
    matrix, offset = out * here[:, None], bias * here
    matrix, offset = matrix + absent[:, None] * (w @ matrix), offset + absent * (w @ offset + b)
    matrix, offset = (
        (1 - rps.alpha) * matrix + rps.alpha * (w @ matrix),
        (1 - rps.alpha) * offset + rps.alpha * (w @ offset + b),
    )
    if normalized:
        std = rps.normalizer.std
        matrix, offset = matrix / std[:, None], (offset - rps.normalizer.mean) / std
    return np.ascontiguousarray(matrix, np.float32), offset.astype(np.float32)


class FusedRps:
    """M1 and M2 for one frame. The arrays it returns are its own and change with the next step.

    Args:
        rps: The model.
        normalized: Whether the mapper is fed normalised latents.
    """

    def __init__(self, rps: Rps, normalized: bool = True) -> None:
        self.normalized = normalized
        units = len(rps.hidden[0])
        # A last column of ones carries the bias: one product less to wait for.
        self._first = np.ascontiguousarray(np.concatenate([rps.hidden[0], rps.hidden[1][:, None]], axis=1))
        self._mean, self._scale = rps.standard.mean, (np.float32(1) / rps.standard.std).astype(np.float32)
        self._seen = rps.seen.astype(bool)
        self._starts = np.array([part.start for part in COLUMN_SLICES.values()])
        self._by_pattern: dict[bytes, tuple[F32, F32]] = {}
        for bits in range(1 << N_MODES):
            measured = np.array([bool(bits >> k & 1) for k in range(N_MODES)])
            self._by_pattern[measured.tobytes()] = pattern_matrix(rps, measured, normalized)
        std = rps.normalizer.std
        self._norm = ((1 / std).astype(np.float32), (-rps.normalizer.mean / std).astype(np.float32))
        self._value = np.ones(WIDTH + 1, np.float32)
        self._x = self._value[:WIDTH]
        self._given, self._allowed = np.zeros(WIDTH, bool), np.zeros(WIDTH, bool)
        self._measured = np.zeros(N_MODES, bool)
        self._hidden = np.empty(units, np.float32)
        self._feed, self._z = np.empty(LATENT, np.float32), np.empty(LATENT, np.float32)

    def step(self, x: F32, mask: Bool) -> tuple[F32, F32]:
        """Normalised latents (104,) of one frame, and what the mapper is fed: the same, or the latents as they are.

        Args:
            x: (11,) values; NaN and infinite ones are missing.
            mask: (4,) which modalities are measured.
        """
        value, given = self._x, self._given
        np.isfinite(x, out=given)
        np.take(mask, OF_COLUMN, out=self._allowed, mode="clip")
        np.logical_and(given, self._allowed, out=given)
        np.subtract(x, self._mean, out=value)
        if given[PHASE]:
            phase = float(x[PHASE]) + 0.5
            value[PHASE] = phase - phase // 1 - 0.5 - float(self._mean[PHASE])
        np.multiply(value, self._scale, out=value)
        np.logical_not(given, out=self._allowed)
        np.copyto(value, 0, where=self._allowed)
        np.logical_or.reduceat(given, self._starts, out=self._measured)
        np.logical_and(self._measured, self._seen, out=self._measured)
        matrix, offset = self._by_pattern[self._measured.tobytes()]
        np.dot(self._first, self._value, out=self._hidden)
        np.maximum(self._hidden, 0, out=self._hidden)
        feed, z = self._feed, self._z
        np.dot(matrix, self._hidden, out=feed)
        np.add(feed, offset, out=feed)
        if self.normalized:
            z = feed
        else:
            np.multiply(feed, self._norm[0], out=z)
            np.add(z, self._norm[1], out=z)
        np.maximum(z, -CLAMP, out=z)
        np.minimum(z, CLAMP, out=z)
        return z, feed


class _Gru:
    """Weights of a one-layer GRU, halves of the sigmoids folded in, for states that are columns."""

    def __init__(self, mapper: Mapper, columns: int) -> None:
        n = mapper.hidden
        w = mapper.weights
        half = np.repeat(np.array([0.5, 0.5, 1.0], np.float32), n)
        own = np.repeat(np.float32(0.5), 3 * n)  # the product of r and the own half of n: (t + 1)/2 (U h + c)
        self.n = n
        self._w_in = np.ascontiguousarray(w["gru.weight_ih_l0"] * half[:, None])
        bias = w["gru.bias_ih_l0"] * half
        bias[: 2 * n] += w["gru.bias_hh_l0"][: 2 * n] * HALF
        self._b_in = bias
        self._w_own = np.ascontiguousarray(w["gru.weight_hh_l0"] * own[:, None])
        self._b_own = np.ascontiguousarray(w["gru.bias_hh_l0"][2 * n :, None] * HALF)
        self._head = np.ascontiguousarray(w["head.weight"] * HALF)
        self._b_head = w["head.bias"] * HALF
        self.h = np.zeros((n, columns), np.float32)
        self._gates = np.empty((3 * n, columns), np.float32)
        self._new = np.empty((n, columns), np.float32)
        self._in = np.empty(3 * n, np.float32)
        self._state = np.empty(n, np.float32)
        self.y = np.empty(len(CONTROL_NAMES), np.float32)
        self.none = np.full(len(CONTROL_NAMES), np.nan, np.float32)

    def advance(self, z: F32) -> None:
        """All states by one frame of latents (104,)."""
        n, gates, new, h, fed = self.n, self._gates, self._new, self.h, self._in
        np.dot(self._w_in, z, out=fed)
        np.add(fed, self._b_in, out=fed)
        np.dot(self._w_own, h, out=gates)
        turn, own = gates[: 2 * n], gates[2 * n :]
        np.add(turn, fed[: 2 * n, None], out=turn)
        np.tanh(turn, out=turn)
        np.add(own, self._b_own, out=own)
        np.multiply(turn[:n], own, out=new)
        np.add(new, own, out=new)
        np.add(new, fed[2 * n :, None], out=new)
        np.tanh(new, out=new)
        np.subtract(h, new, out=h)
        update = turn[n:]
        np.multiply(update, HALF, out=update)
        np.add(update, HALF, out=update)
        np.multiply(h, update, out=h)
        np.add(h, new, out=h)

    def controls(self, column: int) -> F32:
        """Controls (5,) of one state."""
        y, state = self.y, self._state
        np.copyto(state, self.h[:, column])
        np.dot(self._head, state, out=y)
        np.add(y, self._b_head, out=y)
        np.tanh(y, out=y)
        np.multiply(y, HALF, out=y)
        np.add(y, HALF, out=y)
        return y


class FusedWindow:
    """M3 in window mode: every window that is under way advances by one frame, all in one product.

    The numbers of `reflex.mapper.WindowStepper`. A frame that is not finite gives NaN and leaves no trace.
    """

    def __init__(self, mapper: Mapper) -> None:
        self._gru, self._size, self._seen = _Gru(mapper, mapper.window), mapper.window, 0

    def reset(self) -> None:
        """Start afresh, as after a gap."""
        self._seen = 0

    def step(self, z: F32) -> F32:
        """Controls (5,) of the window that ends with these latents (104,); of what there is of it at first."""
        gru, size = self._gru, self._size
        if not np.isfinite(z.dot(z)):
            return gru.none
        gru.h[:, self._seen % size] = 0.0  # a window begins
        gru.advance(z)
        self._seen += 1
        return gru.controls(self._seen % size if self._seen >= size else 0)


class FusedStream:
    """M3 in stream mode: one state, carried on; otherwise as `FusedWindow`."""

    def __init__(self, mapper: Mapper) -> None:
        self._gru = _Gru(mapper, 1)

    def reset(self) -> None:
        """Start afresh, as after a gap."""
        self._gru.h[...] = 0.0

    def step(self, z: F32) -> F32:
        """Controls (5,) after one more frame of latents (104,)."""
        if not np.isfinite(z.dot(z)):
            return self._gru.none
        self._gru.advance(z)
        return self._gru.controls(0)
