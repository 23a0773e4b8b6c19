"""Open sound for block-wise decoding behind one face: libsndfile where it can, PyAV for AAC and sound tracks."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from functools import lru_cache
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np
from numpy.typing import NDArray

from formats.errors import FormatError
from formats.foreign.sound_headers import id3_bytes, mp3_frame, mp3_problems, ogg_problems, wav_problems
from formats.foreign.source import Source

F32 = NDArray[np.float32]

MIN_RATE, MAX_RATE, MAX_CHANNELS = 4_000, 384_000, 64
DECODED_BYTES = 4 * 2**30  # frames x channels x 4: 3.4 h of stereo at 44.1 kHz; more is a bomb or wants cutting
VIDEO_EXTRA = "pip install 'choreo[video]'"


def libsndfile_format(head: bytes) -> str | None:
    """Name the format if libsndfile decodes it: wav, aiff, flac, ogg, opus or mp3; None otherwise."""
    if head[:4] in (b"RIFF", b"RF64") and head[8:12] == b"WAVE":
        return "wav"
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return "aiff"
    if head[:4] == b"fLaC":
        return "flac"
    if head[:4] == b"OggS":
        if b"OpusHead" in head[:64]:
            return "opus"
        return "ogg" if b"vorbis" in head[:64] or head[28:32] == b"\x7fFLA" or head[29:33] == b"FLAC" else None
    return "mp3" if _is_mp3(head) else None


def _is_mp3(head: bytes) -> bool:
    skip = id3_bytes(head)
    if skip:
        # A tag may be longer than what was read, and FLAC may carry one too.
        return skip >= len(head) or head[skip : skip + 4] != b"fLaC"
    frame = mp3_frame(head)
    # One sync word is found in any binary file; two in the right distance are not.
    return frame is not None and (len(head) <= frame[0] + 4 or mp3_frame(head, frame[0]) is not None)


class Sound:
    """Sound open for decoding.

    Attributes:
        rate: Samples per second, 4..384 kHz.
        channels: 1..64.
        frames: Declared samples per channel, None when the file does not say.
        start_us: Time of the first sample on the file's clock.
        problems: Found so far; decoding may add some.
    """

    rate: int
    channels: int
    frames: int | None
    start_us: int
    problems: list[str]

    def blocks(self, first: int, count: int | None, size: int) -> Iterator[F32]:
        """Yield (n, channels) float32 blocks from frame `first` on, `count` frames or all."""
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def _check(self, source: Source) -> None:
        """Refuse what no recording has before anything is allocated for it."""
        if not MIN_RATE <= self.rate <= MAX_RATE:
            raise FormatError(f"sample rate {self.rate} Hz is outside {MIN_RATE}..{MAX_RATE}", file=source.path)
        if not 1 <= self.channels <= MAX_CHANNELS:
            raise FormatError(f"{self.channels} channels are outside 1..{MAX_CHANNELS}", file=source.path)
        if self.frames is not None and self.frames * self.channels * 4 > DECODED_BYTES:
            raise FormatError(
                f"declares {self.frames} frames of {self.channels} channels, more than {DECODED_BYTES} bytes decoded",
                file=source.path,
                hint="cut it into shorter files",
            )


def open_sound(source: Source) -> Sound:
    """Open a sound file or the sound track of a video.

    Raises:
        FormatError: not sound, damaged, or outside the limits.
        ImportError: PyAV is needed and not installed.
    """
    if libsndfile_format(source.head) is not None:
        return SndfileSound(source)
    from formats.foreign.containers import ContainerSound

    return ContainerSound(source)


class SndfileSound(Sound):
    """WAV, AIFF, FLAC, OGG, Opus and MP3 through libsndfile."""

    def __init__(self, source: Source) -> None:
        import soundfile

        self._source, self._error = source, soundfile.SoundFileError
        # The MP3 decoder inside writes its complaints about damaged frames to descriptor 2.
        self._quiet = silent_stderr if libsndfile_format(source.head) == "mp3" else contextlib.nullcontext
        self._raw: BinaryIO = source.open()
        self._file: Any = None
        try:
            self.problems = list(header_problems(self._raw, source))
            os.lseek(self._raw.fileno(), 0, os.SEEK_SET)  # libsndfile reads the descriptor, not Python's buffer
            with self._quiet():
                self._file = _stream_class()(self._raw.fileno(), closefd=False)
            self.rate, self.channels, self.start_us = self._file.samplerate, self._file.channels, 0
            # An unknown length is the largest integer.
            self.frames = self._file.frames if self._file.frames < 2**62 else None
            self._check(source)
            if self.frames == 0:
                raise FormatError("no sound in it (0 frames): cut or damaged", file=source.path)
        except (soundfile.SoundFileError, RuntimeError, ValueError, TypeError, OverflowError) as e:
            self.close()
            raise _undecodable(source, e) from None
        except BaseException:
            self.close()
            raise

    def blocks(self, first: int, count: int | None, size: int) -> Iterator[F32]:
        left = count
        try:
            if first:
                self._skip(first, size)
            while left is None or left > 0:
                want = size if left is None else min(size, left)
                with self._quiet():
                    block = self._file.read(want, dtype="float32", always_2d=True)
                if len(block) == 0:
                    return
                if left is not None:
                    left -= len(block)
                yield block
        except (self._error, RuntimeError, ValueError) as e:
            raise _undecodable(self._source, e) from None

    def _skip(self, first: int, size: int) -> None:
        """Go to a frame. In an MP3 each frame leans on those before it: a jump lands on silence or beside the place."""
        if self._file.format != "MP3":
            self._file.seek(min(first, self._file.frames))
            return
        with self._quiet():
            while first > 0:
                read = len(self._file.read(min(first, size), dtype="float32"))
                if read == 0:
                    return
                first -= read

    def tags(self) -> dict[str, str]:
        """Title, artist... as written in the file; empty where there are none."""
        try:
            return {str(k): str(v) for k, v in self._file.copy_metadata().items()}
        except (UnicodeDecodeError, self._error, RuntimeError):
            return {}

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        self._raw.close()


@lru_cache(maxsize=1)
def _stream_class() -> Any:
    import soundfile

    class Stream(soundfile.SoundFile):  # type: ignore[misc]
        """A file that says it cannot seek, because soundfile seeks to where it stands after each read.

        In many MP3s that alone spoils the next frames: sample errors of 0.5 at every block's start.
        """

        def seekable(self) -> bool:
            return False

    return Stream


def header_problems(f: BinaryIO, source: Source) -> tuple[str, ...]:
    """Return what a WAV or MP3 header says against the file's size."""
    kind = libsndfile_format(source.head)
    if kind == "wav":
        return wav_problems(f, source.size)
    if kind in ("ogg", "opus"):
        return ogg_problems(f, source.size)
    return mp3_problems(f, source.size)[0] if kind == "mp3" else ()


_silence = threading.Lock()
_silent: list[int] = []  # the saved descriptor, once for every block that is silent now


@contextlib.contextmanager
def silent_stderr() -> Iterator[None]:
    """Point descriptor 2 at nothing while C code runs that prints; nested and threaded uses share one redirection."""
    with _silence:
        if not _silent:
            try:
                saved = os.dup(2)
            except OSError:  # closed
                saved = -1
            else:
                nothing = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nothing, 2)
                os.close(nothing)
            _silent.append(saved)
        else:
            _silent.append(_silent[0])
    try:
        yield
    finally:
        with _silence:
            saved = _silent.pop()
            if not _silent and saved >= 0:
                os.dup2(saved, 2)
                os.close(saved)


def _undecodable(source: Source, e: Exception) -> FormatError:
    # libsndfile's own text may be empty or quote a descriptor number.
    detail = getattr(e, "error_string", "") or ""
    return FormatError(f"sound cannot be decoded{f' ({detail.rstrip(chr(46))})' if detail else ''}", file=source.path)
