"""Decode any sound file or sound track into mono float32 at one rate, block by block, in bounded memory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.errors import DataError, UnavailableError
from formats.errors import FormatError
from formats.foreign.sound import VIDEO_EXTRA, Sound, open_sound
from formats.foreign.source import Source

F32 = NDArray[np.float32]

BLOCK_FRAMES = 65_536
MEMORY_BYTES = 2**30  # of decoded result: 3.4 h of mono at 22,050 Hz
_SHORT_S = 0.1  # decoded against declared length: encoders pad by less


@dataclass(frozen=True, slots=True)
class Audio:
    """Decoded sound.

    Args:
        samples: (N,) float32 mono or (N, C); never clipped, so lossy sources may exceed 1.
        rate: Samples per second.
        start_us: Time of sample 0 on the file's own clock (a video's sound may start late), plus `start_s`.
        peak: Largest absolute value.
        problems: Doubts that did not stop decoding, each `code: sentence`.
    """

    samples: F32
    rate: int
    start_us: int = 0
    peak: float = 0.0
    problems: tuple[str, ...] = ()


def decode(
    path: str | Path | Source,
    *,
    start_s: float = 0.0,
    duration_s: float | None = None,
    mono: bool = True,
    rate: int | None = None,
    memory_bytes: int = MEMORY_BYTES,
) -> Audio:
    """Decode a file, or a stretch of it.

    Channels are averaged before resampling (soxr HQ), each block at once, so only the result is held.

    Args:
        path: A sound file or a video with a sound track.
        start_s: Seconds to skip.
        duration_s: Seconds to decode; None for all.
        mono: Average the channels; otherwise the result is (N, C).
        rate: Result's samples per second; None keeps the file's.
        memory_bytes: Budget of the result.

    Raises:
        FormatError: not sound, damaged, over the budget, outside 4..384 kHz or 64 channels, or not finite.
        DataError: the stretch lies outside the file.
        UnavailableError: the extra that decodes this kind is not installed.
    """
    source = path if isinstance(path, Source) else Source.of(path)
    try:
        sound = open_sound(source)
    except ImportError as e:
        raise UnavailableError(f"{source.name}: {e}", hint=VIDEO_EXTRA) from None
    with sound:
        first = round(start_s * sound.rate)
        wanted = None if duration_s is None else round(duration_s * sound.rate)
        samples, decoded = _collect(sound, source, first, wanted, mono, rate or sound.rate, memory_bytes)
        problems = list(sound.problems)
        start_us = sound.start_us + round(first * 1e6 / sound.rate)
        declared = sound.frames
    if decoded == 0:
        if first == 0 and wanted != 0:
            raise FormatError("no sound could be decoded (0 frames)", file=source.path)
        raise DataError(f"{source.name}: nothing lies at {start_s} s", hint="the file is shorter")
    if wanted is None and declared is not None:
        missing = (declared - first - decoded) / sound.rate
        if missing > _SHORT_S:
            problems.append(f"decoded_short: {missing:.2f} s of the declared {declared / sound.rate:.2f} s are missing")
    peak = float(max(samples.max(), -samples.min())) if samples.size else 0.0
    return Audio(samples, rate or sound.rate, start_us, peak, tuple(dict.fromkeys(problems)))


def _collect(
    sound: Sound, source: Source, first: int, wanted: int | None, mono: bool, rate: int, budget: int
) -> tuple[F32, int]:
    """Return the mixed and resampled result and how many native frames went into it."""
    channels = 1 if mono else sound.channels
    _check_budget(sound, source, wanted, channels, rate, budget)
    weights = np.full(sound.channels, 1.0 / sound.channels, np.float32)
    resample = _resampler(sound.rate, rate, channels)
    parts: list[F32] = []
    decoded = held = 0
    for block in sound.blocks(first, wanted, BLOCK_FRAMES):
        mixed = block @ weights if mono else block
        # One sum shows any NaN or Inf; only then is each sample looked at, for overflow is not damage.
        with np.errstate(over="ignore"):
            suspect = not np.isfinite(mixed.sum())
        if suspect and not np.isfinite(mixed).all():
            at = (first + decoded) / sound.rate
            raise FormatError("samples are not finite", file=source.path, field=f"after {at:.1f} s")
        decoded += len(block)
        part = mixed if resample is None else resample.resample_chunk(mixed)
        held += part.nbytes
        if held > budget:
            raise _over_budget(source, held, budget)
        parts.append(part)
    if resample is not None and decoded:
        parts.append(resample.resample_chunk(np.empty((0,) if mono else (0, channels), np.float32), last=True))
    shape = (0,) if mono else (0, channels)
    return (np.concatenate(parts) if parts else np.empty(shape, np.float32)), decoded


def _resampler(native: int, rate: int, channels: int) -> Any:
    if native == rate:
        return None
    import soxr

    return soxr.ResampleStream(native, rate, channels, dtype="float32", quality="HQ")


def _check_budget(sound: Sound, source: Source, wanted: int | None, channels: int, rate: int, budget: int) -> None:
    frames = sound.frames if wanted is None else wanted
    if frames is not None:
        need = int(frames * rate / sound.rate) * channels * 4
        if need > budget:
            raise _over_budget(source, need, budget)


def _over_budget(source: Source, need: int, budget: int) -> FormatError:
    return FormatError(
        f"decodes to {need} bytes or more, the budget is {budget}", file=source.path, hint="cut it into shorter files"
    )
