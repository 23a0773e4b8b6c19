"""A film as MP4 (H.264 and AAC) by PyAV: frames are drawn in one thread while the other compresses."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.errors import DataError, UnavailableError
from choreo_cli.motion.scene import Scene
from formats import atomic

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]

EXTRA = "pip install 'choreo[video]'"
CRF, PRESET, AUDIO_BITS = "20", "veryfast", 160_000
THREADS = 2  # fixed: the bytes of a film depend on how many threads compress it
MAX_CHANNELS = 2
_BT709 = 1
_AAC_RATES = (48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000)


def need_av() -> Any:
    """The `av` module. Raises UnavailableError with the install line when it is missing."""
    try:
        import av
    except ImportError:
        raise UnavailableError("MP4 needs PyAV, which is not installed", hint=EXTRA) from None
    return av


def rate_of(fps: float) -> Fraction:
    """A frame rate as the container states it: n/1001 for the television rates, else with a small denominator."""
    for n in (24000, 30000, 60000, 120000):
        if abs(fps - n / 1001) < 1e-3:
            return Fraction(n, 1001)
    return Fraction(fps).limit_denominator(1000)


def write(
    path: Path,
    film: Scene,
    sound: tuple[F32, int] | None = None,
    *,
    title: str = "",
    on_progress: Callable[[int, int], None] | None = None,
) -> str:
    """Draw and compress a film; the file appears when it is whole.

    Args:
        path: The file to create or replace.
        film: What to draw; its size must be even.
        sound: Samples (N,) or (N, C) float32 and their rate; what is longer than the film is cut.
        title: Kept in the file.
        on_progress: Called with frames done and frames in all.

    Returns:
        sha256 of the file, hex.

    Raises:
        UnavailableError: PyAV is not installed.
        DataError: the encoder refuses the picture.
    """
    av = need_av()
    height, width = film.size
    if height % 2 or width % 2:
        raise DataError(f"a film of {width}x{height} pixels cannot be compressed", hint="use even sizes")
    temp = atomic.temp_name(path)
    try:
        try:
            _encode(av, temp, film, sound, title, on_progress)
        except av.FFmpegError as e:
            if isinstance(e, OSError) and not isinstance(e, ValueError):
                raise
            raise DataError(f"the encoder refuses {width}x{height} at {film.fps:g} fps: {e}") from None
        with open(temp, "rb") as made, atomic.writer(path) as target:
            shutil.copyfileobj(made, target, 2**20)
    finally:
        if temp.exists():
            os.unlink(temp)
    return atomic.sha256_file(path)


def _encode(av: Any, path: Path, film: Scene, sound: Any, title: str, on_progress: Any) -> None:
    rate = rate_of(film.fps)
    # `bitexact` leaves the library's version and the time out of the file.
    options = {"movflags": "+faststart", "fflags": "+bitexact"}
    with av.open(str(path), "w", format="mp4", options=options) as container:
        if title:
            container.metadata["title"] = title
        video = _video_stream(container, film, rate)
        track = None if sound is None else _Track(av, container, sound, film.frames / film.fps)
        done = 0
        for batch in _drawn(film):
            for picture in batch:
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709")
                frame.pts, frame.time_base = done, 1 / rate
                container.mux(video.encode(frame))
                done += 1
            if track is not None:
                track.advance(done / float(rate))
            if on_progress is not None:
                on_progress(done, film.frames)
        container.mux(video.encode(None))
        if track is not None:
            track.finish()


def _video_stream(container: Any, film: Scene, rate: Fraction) -> Any:
    video = container.add_stream("libx264", rate=rate, options={"crf": CRF, "preset": PRESET})
    video.height, video.width = film.size
    video.pix_fmt = "yuv420p"
    context = video.codec_context
    context.thread_count = THREADS
    context.time_base = 1 / rate
    context.color_primaries = context.color_trc = context.colorspace = _BT709
    return video


def _drawn(film: Scene) -> Iterator[U8]:
    """Batches of frames, the next one drawn while the last one is used; two buffers in all."""
    buffers = [np.empty((film.step, *film.size, 3), np.uint8) for _ in range(2)]
    starts = range(0, film.frames, film.step)

    def draw(k: int) -> U8:
        return film.batch(starts[k], min(starts[k] + film.step, film.frames), buffers[k % 2])

    with ThreadPoolExecutor(1) as pool:
        ahead = pool.submit(draw, 0)
        for k in range(len(starts)):
            ready = ahead.result()
            if k + 1 < len(starts):
                ahead = pool.submit(draw, k + 1)
            yield ready


class _Track:
    """The sound of a film, fed as far as the pictures have come."""

    def __init__(self, av: Any, container: Any, sound: tuple[F32, int], duration_s: float) -> None:
        samples, rate = sound
        samples = samples[:, None] if samples.ndim == 1 else samples
        if samples.shape[1] > MAX_CHANNELS:
            samples = samples.mean(1, keepdims=True)
        self._av, self._container = av, container
        if rate not in _AAC_RATES:
            import soxr

            samples, rate = soxr.resample(samples, rate, _AAC_RATES[0]), _AAC_RATES[0]
        self._rate = rate
        self._samples = np.ascontiguousarray(samples[: round(duration_s * rate)].T, np.float32)
        self._layout = "mono" if len(self._samples) == 1 else "stereo"
        self._stream = container.add_stream("aac", rate=rate, layout=self._layout)
        self._stream.bit_rate = AUDIO_BITS
        self._done = 0

    def advance(self, until_s: float) -> None:
        """Compress what lies before a time."""
        stop = min(round(until_s * self._rate), self._samples.shape[1])
        size = self._stream.codec_context.frame_size or 1024
        while self._done < stop:
            part = self._samples[:, self._done : min(self._done + size, self._samples.shape[1])]
            frame = self._av.AudioFrame.from_ndarray(np.ascontiguousarray(part), format="fltp", layout=self._layout)
            frame.sample_rate, frame.pts, frame.time_base = self._rate, self._done, Fraction(1, self._rate)
            self._container.mux(self._stream.encode(frame))
            self._done += part.shape[1]

    def finish(self) -> None:
        """Compress the rest."""
        self.advance(float("inf") if self._samples.shape[1] == 0 else self._samples.shape[1] / self._rate)
        self._container.mux(self._stream.encode(None))
