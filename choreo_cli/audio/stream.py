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
        centroid = np.asarray(weighted / total if total > 0 else np.nan, np.float32)
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
                share = min(max((g - t0 - left) / self._frame_us, 0.0), 1.0)
                row = before[0] + share * (energy - before[0]), before[1] + share * (bright - before[1])
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


BEAT_WINDOW_S = 8.0
BEAT_LEAST_S = 4.0
BEAT_EVERY_S = 1.0
SAME_TEMPO = 0.06  # two estimates of one tempo differ by less
LEVELS = (2.0, 0.5, 3.0, 1 / 3, 1.5, 2 / 3, 4 / 3, 0.75)  # of one beat: its multiples and fractions
CHANGE_AFTER = 3  # so many windows in a row must say the same other tempo before it is believed


class BeatFollower:
    """Beats of the sound heard so far, from the last 8 s, once a second.

    The beats inside the window are those of `beats.track_beats`; the robust line through them is extended to the end
    of the window, which is what a loop needs: where the music stands now. Nothing later than the window enters. A
    tempo once found is kept until three windows in a row say another one, and half or double of it never is another
    one: which of the two a piece is felt in, sound alone does not say (`near_bpm` does).

    Args:
        rate: Samples per second of the blocks.
        near_bpm: The tempo in which the piece is felt, roughly.
        params: The frame grid of the features.
    """

    def __init__(self, rate: int, near_bpm: float | None = None, params: Params = DEFAULT) -> None:
        self.rate, self.near_bpm, self.params = rate, near_bpm, params
        self._ring = np.zeros(int(BEAT_WINDOW_S * rate), np.float32)
        self._filled = self._since = 0
        self._end_us = 0
        self._last: tuple[float, float, int] | None = None
        self._other: list[float] = []

    def push(self, t_us: int, samples: ArrayLike) -> bool:
        """Take a block whose first sample is at `t_us`; whether it is time for an `estimate`."""
        block = np.nan_to_num(np.asarray(samples, np.float32).reshape(-1))[-len(self._ring) :]
        if self._filled and abs(t_us - self._end_us) > GAP_US:
            self._filled = 0
        self._ring = np.concatenate([self._ring[len(block) :], block])
        self._filled = min(self._filled + len(block), len(self._ring))
        self._since += len(block)
        self._end_us = t_us + round(len(block) * 1e6 / self.rate)
        return self._since >= BEAT_EVERY_S * self.rate and self._filled >= BEAT_LEAST_S * self.rate

    def window(self) -> tuple[F32, int]:
        """A copy of the sound of the window and the time of its end; the next is due a second later."""
        self._since = 0
        return self._ring[len(self._ring) - self._filled :].copy(), self._end_us

    def estimate(self, sound: F32, end_us: int) -> tuple[float, float, int] | None:
        """Where the music stood at the end of a window; takes 20 to 60 ms, so never on the loop's thread.

        Returns:
            (position in beats, beats/min, `end_us`); positions count on from one estimate to the next. None when the
            window has no steady beat: silence, or beats that do not lie on a line (noise passes 4 times in 10).
        """
        from choreo_cli.audio.beats import track_beats
        from choreo_cli.audio.features import extract
        from choreo_cli.audio.tempo import fit_line

        if self.rate != self.params.rate:
            import soxr

            sound = np.asarray(soxr.resample(sound, self.rate, self.params.rate, quality="HQ"), np.float32)
        features = extract(sound, self.params)
        found = track_beats(features)
        known = self._last[1] if self._last is not None else self.near_bpm
        if found.tempo_bpm is not None and known is not None and not _same(found.tempo_bpm, known):
            level = next((r for r in LEVELS if _same(found.tempo_bpm / r, known)), None)
            other = [b for b in self._other if _same(b, found.tempo_bpm)] if level is None else []
            self._other = [*other, found.tempo_bpm] if level is None else []
            if (len(self._other) < CHANGE_AFTER and self._last is not None) or level is not None:
                found = track_beats(features, bpm=known if level is None else found.tempo_bpm / level)
                if found.tempo_bpm is None or not _same(found.tempo_bpm, known):
                    return None
            else:
                self._last, self._other = None, []
        else:
            self._other = []
        if found.tempo_bpm is None or not found.tempo_stable:
            return None
        line = fit_line(found.beats_s)
        if line is None:
            return None
        beat = (len(sound) / self.params.rate - line.start_s) / line.period_s
        if self._last is not None:
            was, bpm, then = self._last
            beat += round(was + (end_us - then) * bpm / 60e6 - beat)
        self._last = beat, line.bpm, end_us
        return self._last


def _same(bpm: float, other: float) -> bool:
    return abs(bpm / other - 1) <= SAME_TEMPO
