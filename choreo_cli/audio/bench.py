"""Measure feature extraction from an MP3 beside a plain librosa script, and the mel spectrum against librosa's."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from choreo_cli.audio.beats import beat_latency_us, track_beats
from choreo_cli.audio.decode import decode
from choreo_cli.audio.features import DEFAULT, extract
from choreo_cli.audio.filterbank import F32
from choreo_cli.metrics.timing import best_in_turns
from formats.metrics import Named, entry

SECONDS = 180.0
WITH_DECODING, WITHOUT_DECODING, MEL_ERROR = 4.0, 8.0, 1e-5
_NATIVE = 44_100
_NO_LIBROSA = "librosa is not installed: pip install 'choreo[bench]'"


def bench(
    *, path: Path | None = None, seconds: float = SECONDS, repeats: int = 3, seed: int = 0
) -> list[dict[str, Any]]:
    """Metric entries of this package; CPU seconds of one thread, the best of `repeats`.

    Args:
        path: The MP3 (or other stereo file) to measure on; None renders a beat track and encodes it.
        seconds: Length of the rendered track.
        repeats: Runs of each measurement, taken in turns; other work on the machine only adds time.
        seed: Seed of the rendered track.
    """
    with tempfile.TemporaryDirectory(prefix="choreo-bench-") as folder:
        source = path or render_mp3(Path(folder) / "track.mp3", seconds, seed)
        return measure(source, repeats)


def render_mp3(path: Path, seconds: float, seed: int) -> Path:
    """Write a stereo MP3 of a rendered beat track at 44.1 kHz."""
    import soundfile

    from choreo_cli.audio.render import render_track

    rng = np.random.default_rng(seed)
    mono = render_track(np.arange(0.2, seconds, 60.0 / 123.0), 1.0, seconds, rng, rate=_NATIVE)
    quiet = mono * np.float32(0.9 / max(float(np.abs(mono).max()), 1e-9))
    soundfile.write(path, np.stack([quiet, np.roll(quiet, 40)], axis=1), _NATIVE, format="MP3")
    return path


def measure(path: Path, repeats: int) -> list[dict[str, Any]]:
    """Time ours, librosa's and the floor on one file, and compare the mel spectra."""
    import soundfile

    stereo, native = soundfile.read(path, dtype="float32", always_2d=True)
    beat_latency_us()  # measured once for a process, not for each file

    def whole() -> None:
        track_beats(extract(decode(path, rate=DEFAULT.rate).samples))

    def apart() -> None:
        track_beats(extract(_to_mono(stereo, native)))

    def floor_whole() -> None:
        _spectra(_to_mono(soundfile.read(path, dtype="float32", always_2d=True)[0], native))

    mono = _to_mono(stereo, native)
    runs: dict[str, Callable[[], None]] = {
        "whole": whole, "apart": apart, "floor": floor_whole, "rfft": lambda: _spectra(mono),
    }  # fmt: skip
    script = librosa_script()
    if script is not None:
        runs["librosa"] = lambda: script(soundfile.read(path, dtype="float32", always_2d=True)[0], native)
        runs["librosa_apart"] = lambda: script(stereo, native)
    # The first round only warms up: imports, tables, compiled code.
    best = best_in_turns(runs, repeats, time.process_time)
    params = {"seconds": round(len(stereo) / native, 3), "rate": native, "channels": stereo.shape[1]}
    return [
        _timed("data.audio_mp3", best, "whole", "librosa", ("decode and rfft", best["floor"]), WITH_DECODING, params),
        _timed("data.audio_features", best, "apart", "librosa_apart", ("rfft", best["rfft"]), WITHOUT_DECODING, params),
        _mel(mono, params),
    ]


def _timed(
    name: str, best: dict[str, float], ours: str, theirs: str, floor: Named, times: float, params: dict[str, Any]
) -> dict[str, Any]:
    value, base = best[ours], best.get(theirs)
    shown = {**params, "audio_hours_per_cpu_minute": round(params["seconds"] / value / 60.0, 2), "times_faster": times}
    if base is None:
        return entry(name, value, "s", "lower", n=1, floor=floor, params=shown, why=_NO_LIBROSA)
    return entry(
        name, value, "s", "lower",
        n=1, baseline=("plain librosa script", base), floor=floor, goal=("<=", base / times), params=shown,
    )  # fmt: skip


def _mel(mono: F32, params: dict[str, Any]) -> dict[str, Any]:
    """The largest difference of the mel spectra over the largest value."""
    try:
        import librosa
    except ImportError:
        return entry("data.audio_mel_error", None, "1", "lower", params=params, why=_NO_LIBROSA)
    theirs = librosa.feature.melspectrogram(y=mono, sr=DEFAULT.rate)
    error = float(np.abs(extract(mono).mel - theirs).max() / theirs.max())
    return entry("data.audio_mel_error", error, "1", "lower", n=theirs.size, goal=("<=", MEL_ERROR), params=params)


def librosa_script() -> Callable[[F32, int], None] | None:
    """Return what a plain script does after reading a file: mono, 22,050 Hz, five calls; None without librosa."""
    try:
        import librosa
    except ImportError:
        return None

    def run(stereo: F32, native: int) -> None:
        y = librosa.resample(librosa.to_mono(stereo.T), orig_sr=native, target_sr=DEFAULT.rate)
        librosa.feature.melspectrogram(y=y, sr=DEFAULT.rate)
        librosa.feature.chroma_stft(y=y, sr=DEFAULT.rate)
        librosa.feature.mfcc(y=y, sr=DEFAULT.rate)
        librosa.onset.onset_strength(y=y, sr=DEFAULT.rate)
        librosa.beat.beat_track(y=y, sr=DEFAULT.rate)

    return run


def _to_mono(stereo: F32, native: int) -> F32:
    import soxr

    mono = stereo @ np.full(stereo.shape[1], 1.0 / stereo.shape[1], np.float32)
    return mono if native == DEFAULT.rate else soxr.resample(mono, native, DEFAULT.rate, quality="HQ")


def _spectra(mono: F32) -> None:
    """The transforms alone, block by block: what no feature that needs a spectrum gets below."""
    from scipy.fft import rfft

    frames = np.lib.stride_tricks.sliding_window_view(mono, DEFAULT.n_fft)[:: DEFAULT.hop]
    for k in range(0, len(frames), 128):
        rfft(frames[k : k + 128], axis=1)
