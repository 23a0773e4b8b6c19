"""What a sample is told: music, known frames, task and text, checked and normalised as the network takes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.dataset.motions_stats import Stats
from choreo_cli.errors import DataError, UsageError
from choreo_cli.generate.conditioning import channel_mask, task_vector
from choreo_cli.generate.config import CHANNELS, GROUPS, TEXT_WIDTH
from choreo_cli.generate.flow import Held

F32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Given:
    """Conditions of a sample of B clips of T frames.

    Args:
        audio: (B, T, A) normalised, zeros without music.
        known, mask: (B, T, 25) normalised, (B, T, 7).
        text, task: (B, 384), (B, 6).
        held: The same known values for the process, None without any.
        raw, flags: (B, T, 25) known values as they were given, and where.
        hears, reads: Whether there is music, and a text.
    """

    audio: F32
    known: F32
    mask: F32
    text: F32
    task: F32
    held: Held | None
    raw: F32 | None
    flags: NDArray[np.bool_] | None
    hears: bool
    reads: bool

    @property
    def count(self) -> int:
        return len(self.audio)

    @property
    def length(self) -> int:
        return int(self.audio.shape[1])

    def rows(self, s: slice | NDArray[np.int64]) -> Given:
        """Some of the clips; `raw` and `flags` stay those of all."""
        held = None if self.held is None else Held(self.held.known[s], self.held.given[s])
        return Given(
            self.audio[s], self.known[s], self.mask[s], self.text[s], self.task[s], held, self.raw, self.flags,
            self.hears, self.reads,
        )  # fmt: skip

    def pasted(self, made: F32) -> F32:
        """(B, T, 25) raw channels with what was known, bit for bit."""
        return made if self.raw is None or self.flags is None else np.where(self.flags, self.raw, made)


@dataclass(frozen=True, slots=True)
class Told:
    """Conditions as they are handed in; see `Sampler.sample`."""

    audio: NDArray[Any] | None = None
    known: NDArray[Any] | None = None
    mask: NDArray[Any] | None = None
    task: str | None = None
    text: NDArray[Any] | None = None


def heard(audio: NDArray[Any], stats: Stats, fps: float) -> F32:
    """Features as (B, T, A) float32. Raises DataError for another width, or values that are not finite."""
    found = np.asarray(audio, np.float32)
    found = found[None] if found.ndim == 2 else found
    width = len(stats.audio_mean)
    if found.ndim != 3 or (width and found.shape[2] != width):
        raise DataError(
            f"audio features of shape {np.shape(audio)}",
            hint=f"this model needs {width} features a frame at {fps:g} fps",
        )
    return found


def given_of(told: Told, stats: Stats, shape: tuple[int, int]) -> Given:
    """Check and normalise conditions.

    Args:
        told: What is given; audio is (B, T, A) already.
        stats: Of the model.
        shape: (B, T).

    Raises:
        DataError: another shape, or values that are not finite.
        UsageError: an unknown task, or known frames without a mask.
    """
    clips = shape[0]
    hears = told.audio is not None and len(stats.audio_mean) > 0
    sound = np.zeros((*shape, len(stats.audio_mean)), np.float32)
    if hears and told.audio is not None:
        need_finite(told.audio, "audio features")
        sound = stats.normalise_audio(told.audio)
    words = np.zeros((clips, TEXT_WIDTH), np.float32)
    if told.text is not None:
        words = shaped(told.text, (clips, TEXT_WIDTH), "text")
    held, raw, flags, columns = _held(told, stats, shape)
    name = told.task or ("gen" if held is None else guess_task(columns))
    filled = np.zeros((*shape, CHANNELS), np.float32) if held is None else held.known
    task = task_vector(name, clips)
    return Given(sound, filled, columns, words, task, held, raw, flags, hears, told.text is not None)


def _held(
    told: Told, stats: Stats, shape: tuple[int, int]
) -> tuple[Held | None, F32 | None, NDArray[np.bool_] | None, F32]:
    columns = np.zeros((*shape, len(GROUPS)), np.float32)
    if told.mask is None and told.known is None:
        return None, None, None, columns
    if told.mask is None or told.known is None:
        raise UsageError("known frames without a mask, or a mask without them", hint="give both")
    columns = shaped(told.mask, (*shape, len(GROUPS)), "mask")
    flags = channel_mask(columns)
    columns = (columns > 0.5).astype(np.float32)
    try:
        known = np.broadcast_to(np.asarray(told.known, np.float32), (*shape, CHANNELS))
    except ValueError:
        raise DataError(
            f"known frames of shape {np.shape(told.known)}", hint=f"{(*shape, CHANNELS)} is needed"
        ) from None
    raw = np.where(flags, known, np.float32(0))
    need_finite(raw, "known frames")
    values = np.where(flags, stats.normalise(raw), np.float32(0))
    return Held(values, flags), raw, flags, columns


def guess_task(mask: NDArray[Any]) -> str:
    """`complete` for some channels of every frame, `predict` for frames at the start alone, else `inbetween`."""
    frames: list[int] = np.flatnonzero((np.asarray(mask) > 0.5).any((0, 2))).tolist()
    if not frames:
        return "gen"
    if len(frames) == mask.shape[1]:
        return "complete"
    return "predict" if len(frames) == frames[-1] + 1 else "inbetween"


def shaped(a: NDArray[Any], shape: tuple[int, ...], what: str) -> F32:
    """A copy of the shape. Raises DataError when it is another one, or not finite."""
    try:
        found = np.broadcast_to(np.asarray(a, np.float32), shape)
    except ValueError:
        raise DataError(f"{what} of shape {np.shape(a)}", hint=f"{shape} is needed") from None
    need_finite(found, what)
    return np.array(found)


def need_finite(a: NDArray[Any], what: str) -> None:
    """Raise DataError when values are not finite."""
    bad = int(a.size - np.isfinite(a).sum())
    if bad:
        raise DataError(f"{bad} values of the {what} are not finite")
