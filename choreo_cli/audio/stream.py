"""audio_energy and audio_brightness while the sound is heard: blocks in, frames of the 50 Hz clock out.

Equal to `inputs.audio_inputs(features.extract(samples))` at every frame of the clock but those within half a window
of the end, which need samples that have not come. A frame at time g is known when the analysis window of the feature
frame after it is full: 1024 + 512 samples at 22 050 Hz (69.7 ms) at most after g, 46.4 ms at least, plus the delay of
the resampler (`resampler_delay_s`) and the length of the caller's blocks.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from choreo_cli.audio.features import DEFAULT, Params
from choreo_cli.audio.inputs import brightness_input, energy_input
from choreo_cli.errors import DataError

F32 = NDArray[np.float32]
STEP_US = 20_000
LATENCY_US = (DEFAULT.n_fft // 2 + DEFAULT.hop) * 1_000_000 // DEFAULT.rate
SLIP_US = 5_000  # the sound's clock may differ from the loop's by so much before the frames are moved
GAP_US = 200_000  # a hole in the sound: everything starts anew


class AudioStream:
    """Mono blocks at any rate in, (frame time, (energy, brightness)) out.

    Args:
        rate: Samples per second of the blocks.
        params: The frame grid of the features.
    """

    def __init__(self, rate: int, params: Params = DEFAULT) -> None:
        import scipy.fft  # noqa: F401 - imported before the first block, not in it

        if not 4_000 <= rate <= 384_000:
            raise DataError(f"sound at {rate} Hz, need 4 to 384 kHz")
        self.rate, self.params = rate, params
        hz = np.fft.rfftfreq(params.n_fft, 1.0 / params.rate)
        self._moments = np.stack([hz, np.ones(len(hz))], axis=1).astype(np.float32)
        turn = 2 * np.pi * np.arange(params.n_fft) / params.n_fft
        self._window = np.asarray(0.5 - 0.5 * np.cos(turn), np.float32)
        self._frame_us = params.hop * 1e6 / params.rate
        self.gaps = self.refused = 0
        self._restart(None)

    def _restart(self, t0_us: int | None) -> None:
        self._t0_us = t0_us
        self._taken = 0
        self._resampler = _resampler(self.rate, self.params.rate)
        # Frame k is centred at sample k * hop: half a window of silence lies before the first sample.
        self._held = np.zeros(self.params.n_fft // 2, np.float32)
        self._index = 0
        self._before: tuple[float, float] | None = None
        self._next_us: int | None = None

    def push(self, t_us: int, samples: ArrayLike) -> list[tuple[int, F32]]:
        """Take a block.

        Args:
            t_us: Time of its first sample.
            samples: (N,) float32 mono; one that is not finite is counted in `refused` and replaced by silence.

        Returns:
            (frame time, (2,) float32 energy and brightness) of every frame known now; brightness is NaN in silence.
        """
        block = np.asarray(samples, np.float32).reshape(-1)
        if not np.isfinite(block.sum()):
            bad = ~np.isfinite(block)
            self.refused += int(bad.sum())
            block = np.where(bad, np.float32(0), block)
        self._keep_time(t_us)
        self._taken += len(block)
        heard = block if self._resampler is None else self._resampler.resample_chunk(block)
        self._held = np.concatenate([self._held, heard])
        found: list[tuple[int, F32]] = []
        n, hop = self.params.n_fft, self.params.hop
        at = 0
        while at + n <= len(self._held):
            self._emit(found, *self._analyse(self._held[at : at + n]))
            at += hop
        self._held = self._held[at:].copy()
        return found

    def _keep_time(self, t_us: int) -> None:
        """Where the first sample lies on the session clock: drift moves it, a hole starts anew."""
        if self._t0_us is None:
            self._t0_us = t_us
            return
        off = t_us - (self._t0_us + round(self._taken * 1e6 / self.rate))
        if abs(off) > GAP_US:
            self.gaps += 1
            self._restart(t_us)
        elif abs(off) > SLIP_US:
            self._t0_us += off

    def _analyse(self, part: F32) -> tuple[float, float]:
        from scipy.fft import rfft

        magnitude = np.abs(rfft(part * self._window))
        weighted, total = (magnitude @ self._moments).tolist()
        hops = part.reshape(-1, self.params.hop)
        rms = np.sqrt(np.einsum("ij,ij->i", hops, hops).sum() / np.float32(self.params.n_fft))
        energy = energy_input(rms)
        centroid = np.float32(weighted / total if total > 0 else np.nan)
        return float(energy), float(brightness_input(centroid, energy))

    def _emit(self, found: list[tuple[int, F32]], energy: float, bright: float) -> None:
        before, self._before = self._before, (energy, bright)
        k, self._index = self._index, self._index + 1
        t0 = self._t0_us or 0
        if self._next_us is None:
            self._next_us = -(-t0 // STEP_US) * STEP_US
        left, right = (k - 1) * self._frame_us, k * self._frame_us
        g = self._next_us
        while g - t0 <= right:
            if before is None:
                row = (energy, bright) if g == t0 else (np.nan, np.nan)
            else:
                share = (g - t0 - left) / self._frame_us
                row = tuple(a + share * (b - a) for a, b in zip(before, (energy, bright), strict=True))
            if row[0] == row[0]:
                found.append((g, np.array(row, np.float32)))
            g += STEP_US
        self._next_us = g


def _resampler(rate: int, wanted: int) -> Any:
    if rate == wanted:
        return None
    import soxr

    return soxr.ResampleStream(rate, wanted, 1, dtype="float32", quality="HQ")


def resampler_delay_s(rate: int, wanted: int = DEFAULT.rate) -> float:
    """How much of the sound the resampler holds back, measured on a second of silence."""
    resampler = _resampler(rate, wanted)
    if resampler is None:
        return 0.0
    held = [
        (k + 1) * 0.01 - total / wanted
        for k, total in enumerate(
            np.cumsum([len(resampler.resample_chunk(np.zeros(rate // 100, np.float32))) for _ in range(100)])
        )
    ]
    return float(max(held))
