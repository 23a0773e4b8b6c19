"""Videos and AAC through PyAV: facts, frame times and the sound track. PyAV is an extra, imported when needed."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from formats.errors import FormatError
from formats.foreign.model import I64, T0_SIGMA_US, Clock, Facts
from formats.foreign.sound import DECODED_BYTES, Sound
from formats.foreign.source import Source

_DEMUX_BYTES = 256 * 2**20  # larger videos are not read through for their frame count
_MAX_FRAMES = 20_000_000
# com.apple.quicktime.creationdate keeps the local offset; creation_time is UTC by its specification.
_CREATED = ("com.apple.quicktime.creationdate", "creation_time", "date")


class _Opened(contextlib.AbstractContextManager["_Opened"]):
    """A container and the descriptor under it; every error of the library becomes one sentence."""

    def __init__(self, source: Source) -> None:
        import av
        import av.logging

        av.logging.set_level(None)
        self.source = source
        self._raw: BinaryIO = source.open()
        try:
            self.av: Any = av.open(self._raw, mode="r", metadata_errors="replace")
        except BaseException as e:
            self._raw.close()
            if isinstance(e, Exception):
                raise unreadable(source, e) from None
            raise

    def __exit__(self, kind: Any, e: BaseException | None, tb: Any) -> None:
        self.close()
        if isinstance(e, Exception) and not isinstance(e, FormatError):
            raise unreadable(self.source, e) from None

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self.av.close()
        self._raw.close()


def unreadable(source: Source, e: Exception) -> FormatError:
    """Put a PyAV error into one line."""
    text = " ".join(str(getattr(e, "strerror", None) or e).split())[:120]
    return FormatError(f"the container cannot be read ({text})" if text else "unreadable container", file=source.path)


def container_facts(source: Source, format_name: str) -> Facts:
    """Read what a container says of itself; a container without pictures is a sound file.

    Raises:
        FormatError: it cannot be opened or holds neither sound nor pictures.
        ImportError: PyAV is not installed.
    """
    with _Opened(source) as c:
        videos, sounds = c.av.streams.video, c.av.streams.audio
        clock, duration = _clock(c.av), c.av.duration
        duration_us = None if duration is None or duration <= 0 else int(duration)
        if videos:
            return _video_facts(c.av, source, format_name, clock, duration_us, bool(sounds))
        if not sounds:
            raise FormatError("a container with neither sound nor pictures", file=source.path)
        s = sounds[0]
        # A bare AAC stream states no length; the library guesses one from the bit rate.
        known = duration_us is not None and s.rate and format_name != "aac"
        n = round((duration_us or 0) * s.rate / 1e6) if known else None
        return Facts(
            "audio", format_name, n, (int(s.rate), 1) if s.rate else None, duration_us, int(s.channels or 0), clock,
            meta={"codec": s.codec_context.name, **_title(c.av)},
        )  # fmt: skip


def _video_facts(
    av_file: Any, source: Source, format_name: str, clock: Clock, duration_us: int | None, sound: bool
) -> Facts:
    v = av_file.streams.video[0]
    rate = v.average_rate or v.guessed_rate
    declared = int(v.frames) or None
    problems: list[str] = []
    n = declared
    if source.size <= _DEMUX_BYTES:
        times = _times(av_file, v, source)
        n = times.size
        problems = _frame_problems(times, declared, rate)
        if times.size > 1:
            period = float(np.median(np.diff(times)))
            duration_us = duration_us or int(times[-1] - times[0] + period)
    meta = {
        "sound": sound, "width": int(v.width or 0), "height": int(v.height or 0),
        "codec": v.codec_context.name, **_title(av_file),
    }  # fmt: skip
    return Facts(
        "video", format_name, n, None if not rate else (int(rate.numerator), int(rate.denominator)), duration_us, None,
        clock, None if n != 0 else "a video without frames", tuple(problems), meta,
    )  # fmt: skip


def _frame_problems(times: I64, declared: int | None, rate: Fraction | None) -> list[str]:
    found = []
    if declared is not None and declared != times.size:
        found.append(f"missing_frames: {declared} frames declared, {times.size} present")
    if times.size > 2:
        steps = np.diff(times)
        median = float(np.median(steps))
        uneven = np.flatnonzero(steps > 1.5 * median)
        if uneven.size:
            first = int(uneven[0])
            found.append(
                f"uneven_frames: {uneven.size} steps longer than 1.5 frames, the first of {steps[first] / 1e6:.3f} s "
                f"at {times[first] / 1e6:.3f} s"
            )
        implied = 1e6 / median if median > 0 else 0.0
        if rate and implied and abs(implied / float(rate) - 1) > 0.05:
            found.append(f"rate_contradiction: declared {float(rate):.3f} fps, the frame times imply {implied:.3f}")
    return found


def video_times(source: Source) -> I64:
    """Read when each frame is shown, from the container's own time stamps (never i / fps).

    Returns:
        (T,) int64 microseconds on the container's clock, strictly increasing.

    Raises:
        FormatError: not a readable video.
        ImportError: PyAV is not installed.
    """
    with _Opened(source) as c:
        if not c.av.streams.video:
            raise FormatError("no pictures in this container", file=source.path)
        return _times(c.av, c.av.streams.video[0], source)


def _times(av_file: Any, stream: Any, source: Source) -> I64:
    base, stamps = stream.time_base, []
    for packet in av_file.demux(stream):
        # An AVI marks a dropped frame by a packet of no bytes.
        if packet.pts is not None and packet.size > 0:
            stamps.append(packet.pts)
            if len(stamps) > _MAX_FRAMES:
                raise FormatError(f"more than {_MAX_FRAMES} frames", file=source.path)
    ticks = np.unique(np.array(stamps, np.int64))
    return np.array([round(int(t) * 1_000_000 * base.numerator / base.denominator) for t in ticks], np.int64)


def _clock(av_file: Any) -> Clock:
    """The start of the recording as the camera wrote it; 1904 and 1970 mean it had no clock."""
    tags = {str(k).lower(): str(v) for k, v in av_file.metadata.items()}
    for key in _CREATED:
        text = tags.get(key, "").strip()
        if not re.match(r"^\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d", text):
            continue
        try:
            when = datetime.fromisoformat(text)
        except ValueError:
            continue
        naive = when.tzinfo is None
        when = when.replace(tzinfo=UTC) if naive else when
        if when.year > 1971:
            us = int(when.timestamp()) * 1_000_000 + when.microsecond
            return Clock(us, "container", T0_SIGMA_US["container"], naive)
    return Clock()


def _title(av_file: Any) -> dict[str, str]:
    tags = {str(k).lower(): str(v) for k, v in av_file.metadata.items()}
    return {k: tags[k][:200] for k in ("title", "artist") if tags.get(k)}


class ContainerSound(Sound):
    """The first sound track of a container, decoded by PyAV."""

    def __init__(self, source: Source) -> None:
        self._open = _Opened(source)
        self.problems = []
        try:
            if not self._open.av.streams.audio:
                raise FormatError("no sound in this container", file=source.path)
            self._stream = self._open.av.streams.audio[0]
            self.rate, self.channels = int(self._stream.rate or 0), int(self._stream.channels or 0)
            length = self._stream.duration
            self.frames = None if not length else round(length * self._stream.time_base * self.rate)
            self.start_us = 0
            self._check(source)
            self._pending: list[NDArray[np.float32]] = []
            self._decoded = self._decode()
            # Sound may start later than the pictures; the first frame's stamp says when.
            first = next(self._decoded, None)
            if first is None:
                raise FormatError("no sound could be decoded (0 frames)", file=source.path)
            self._pending.append(first)
        except BaseException as e:
            self.close()
            if isinstance(e, Exception) and not isinstance(e, FormatError):
                raise unreadable(source, e) from None
            raise

    def _decode(self) -> Iterator[NDArray[np.float32]]:
        import av

        to_float = av.AudioResampler(format="fltp", layout=self._stream.layout, rate=self.rate)
        started, bad, total = False, 0, 0
        for packet in self._open.av.demux(self._stream):
            try:
                frames = packet.decode()
            except av.FFmpegError:
                bad += 1
                continue
            for frame in frames:
                if not started and frame.pts is not None and frame.time_base is not None:
                    self.start_us = round(frame.pts * 1_000_000 * frame.time_base)
                started = True
                for out in to_float.resample(frame):
                    block = np.ascontiguousarray(out.to_ndarray().T, np.float32)
                    total += block.size * 4
                    if block.shape[1] != self.channels or total > DECODED_BYTES:
                        raise FormatError("the sound track changes or never ends", file=self._open.source.path)
                    yield block
        if bad:
            self.problems.append(f"damaged_packets: {bad} packets of the sound track could not be decoded")

    def blocks(self, first: int, count: int | None, size: int) -> Iterator[NDArray[np.float32]]:
        skip, left = first, count
        held: list[NDArray[np.float32]] = []
        frames = 0
        try:
            while left is None or left > 0:
                block = self._pending.pop() if self._pending else next(self._decoded, None)
                if block is None:
                    break
                drop = min(skip, len(block))
                skip -= drop
                block = block[drop:] if left is None else block[drop : drop + left]
                if left is not None:
                    left -= len(block)
                held.append(block)
                frames += len(block)
                if frames >= size:
                    yield np.concatenate(held)
                    held, frames = [], 0
        except FormatError:
            raise
        except Exception as e:
            raise unreadable(self._open.source, e) from None
        if frames:
            yield np.concatenate(held)

    def close(self) -> None:
        self._open.close()
