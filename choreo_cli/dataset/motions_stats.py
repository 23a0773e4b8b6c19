"""What motion and music are normalised by: means and spreads of the training clips, proved to be usable."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.errors import DataError
from formats.motion_npz import CHANNELS

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

NAMES: tuple[str, ...] = tuple(c.name for c in CHANNELS)
CONTACTS = (4, 5)
SWIVELS = (14, 18)
# A channel that hardly moves would be blown up to unit variance: noise of a hundredth of a radian is no signal.
FLOOR, AUDIO_FLOOR = 0.01, 1e-3
FEWEST = 64  # frames


@dataclass(frozen=True, slots=True)
class Stats:
    """Normalisation of one training set; it goes with the checkpoint.

    Contacts have mean and spread 1/2, so that 0 and 1 become -1 and +1. Swivels are angles: their mean is the circular
    one and their spread that of the wrapped deviation; `normalise` wraps, so that -pi and pi are the same number away.

    Args:
        mean, std: (25,) float32 of the raw channels.
        audio_mean, audio_std: (A,) float32 of the audio features; empty without audio.
        frames: Training frames they were taken from.
        floored: Channels and features whose spread was raised to the floor.
    """

    mean: F32
    std: F32
    audio_mean: F32
    audio_std: F32
    frames: int = 0
    floored: tuple[str, ...] = field(default=())

    def normalise(self, x: NDArray[np.floating[Any]]) -> F32:
        """(..., 25) raw channels as the network sees them."""
        away = np.asarray(x, np.float32) - self.mean
        for k in SWIVELS:
            away[..., k] = wrapped(away[..., k])
        return np.asarray(away / self.std, np.float32)

    def denormalise(self, x: NDArray[np.floating[Any]]) -> F32:
        """The reverse: raw channels, swivels in (-pi, pi]."""
        raw = np.asarray(x, np.float32) * self.std + self.mean
        for k in SWIVELS:
            raw[..., k] = wrapped(raw[..., k])
        return np.asarray(raw, np.float32)

    def normalise_audio(self, audio: NDArray[np.floating[Any]]) -> F32:
        """(..., A) raw features as the network hears them."""
        return np.asarray((audio - self.audio_mean) / self.audio_std, np.float32)

    def to_dict(self) -> dict[str, Any]:
        """JSON values for a checkpoint's card; float32 numbers survive exactly."""
        arrays = {n: getattr(self, n).astype(np.float64).tolist() for n in ("mean", "std", "audio_mean", "audio_std")}
        return {**arrays, "frames": self.frames, "floored": list(self.floored), "channels": list(NAMES)}

    @classmethod
    def of_dict(cls, told: Mapping[str, Any]) -> Stats:
        """The reverse of `to_dict`. Raises DataError when it is not one, or not usable."""
        try:
            arrays = {n: np.array(told[n], np.float32) for n in ("mean", "std", "audio_mean", "audio_std")}
            stats = cls(**arrays, frames=int(told.get("frames", 0)), floored=tuple(told.get("floored", ())))
        except (KeyError, TypeError, ValueError) as e:
            raise DataError(f"statistics that cannot be read: {type(e).__name__} {e}"[:200]) from None
        check(stats)
        return stats


def wrapped(angle: NDArray[Any]) -> NDArray[Any]:
    """Angles in (-pi, pi]; what lies there already keeps its bits."""
    turned = np.pi - np.mod(np.pi - angle, 2 * np.pi)
    return np.where((angle > -np.pi) & (angle <= np.pi), angle, turned).astype(angle.dtype)


def measure(blocks: Iterable[tuple[F32, F32]], audio_width: int, audio_names: tuple[str, ...] = ()) -> Stats:
    """Measure the statistics of training clips.

    Args:
        blocks: (channels (T, 25), audio (T, A)) of each clip.
        audio_width: A; 0 without audio.
        audio_names: Names of the features, for `floored`.

    Raises:
        DataError: fewer than 64 frames, values that are not finite, or a mean outside a channel's range.
    """
    n, total, square = 0, np.zeros(25), np.zeros(25)
    heard, heard_square = np.zeros(audio_width), np.zeros(audio_width)
    turn = np.zeros((2, 2))
    held: list[F32] = []
    for channels, audio in blocks:
        x, a = channels.astype(np.float64), audio.astype(np.float64)
        n += len(x)
        total, square = total + x.sum(0), square + (x**2).sum(0)
        heard, heard_square = heard + a.sum(0), heard_square + (a**2).sum(0)
        angle = x[:, SWIVELS]
        turn += np.stack([np.sin(angle).sum(0), np.cos(angle).sum(0)])
        held.append(channels[:, SWIVELS])
    if n < FEWEST:
        raise DataError(f"{n} training frames, statistics need {FEWEST}", hint="give more or longer clips")
    mean, std = total / n, np.sqrt(np.maximum(square / n - (total / n) ** 2, 0.0))
    for j, k in enumerate(SWIVELS):
        mean[k] = np.arctan2(turn[0, j], turn[1, j])
        std[k] = np.sqrt(np.mean([np.mean(wrapped(h[:, j] - mean[k]) ** 2) for h in held]))
    mean[list(CONTACTS)] = std[list(CONTACTS)] = 0.5
    a_mean, a_std = heard / n, np.sqrt(np.maximum(heard_square / n - (heard / n) ** 2, 0.0))
    names = audio_names if len(audio_names) == audio_width else tuple(f"audio_{k}" for k in range(audio_width))
    low = [NAMES[k] for k in range(25) if std[k] < FLOOR] + [names[k] for k in np.flatnonzero(a_std < AUDIO_FLOOR)]
    stats = Stats(
        mean.astype(np.float32), np.maximum(std, FLOOR).astype(np.float32), a_mean.astype(np.float32),
        np.maximum(a_std, AUDIO_FLOOR).astype(np.float32), n, tuple(low),
    )  # fmt: skip
    check(stats)
    return stats


def check(stats: Stats) -> None:
    """Prove statistics usable: shapes, finiteness, floors, means inside the channels' ranges. Raises DataError."""
    if stats.mean.shape != (25,) or stats.std.shape != (25,) or stats.audio_mean.ndim != 1:
        raise DataError(f"statistics of {stats.mean.shape} channels", hint="25 are needed")
    if stats.audio_mean.shape != stats.audio_std.shape:
        raise DataError("audio statistics of two widths")
    for what, values in (("mean", stats.mean), ("std", stats.std), ("audio_mean", stats.audio_mean),
                         ("audio_std", stats.audio_std)):  # fmt: skip
        if not np.isfinite(values).all():
            raise DataError(f"statistics: {what} is not finite", hint="a clip or its music holds broken numbers")
    if (stats.std < 0.999 * FLOOR).any() or (stats.audio_std < 0.999 * AUDIO_FLOOR).any():
        raise DataError("statistics: a spread below its floor")
    for k, c in enumerate(CHANNELS):
        low, high = c.lo, c.hi
        if low is not None and high is not None and not low - 1e-4 <= float(stats.mean[k]) <= high + 1e-4:
            raise DataError(f"statistics: mean of {c.name} is {stats.mean[k]:g}, outside {low:g}..{high:g}")
