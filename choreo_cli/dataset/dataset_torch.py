"""A `torch.utils.data.Dataset` over a pack: whole batches at once, masks beside the values, repeatable draws."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from choreo_cli.dataset.augment import CIRCULAR, Augment, add_noise, mirror, mirrors, shifts
from choreo_cli.dataset.pack import Pack
from choreo_cli.dataset.windows import audio_windows
from choreo_cli.errors import UsageError

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]
Sample = dict[str, torch.Tensor]
_UNIFORM_STD = 12**-0.5


class Samples(Sequence[Sample]):
    """A batch that was gathered as a whole and still looks like a list of samples, as any collate function wants."""

    def __init__(self, batch: Sample) -> None:
        self.batch = batch

    def __len__(self) -> int:
        return len(self.batch["x"])

    def __getitem__(self, i: Any) -> Any:
        if isinstance(i, slice):
            return Samples({k: v[i] for k, v in self.batch.items()})
        if not -len(self) <= i < len(self):
            raise IndexError(i)
        return {k: v[i] for k, v in self.batch.items()}

    def __iter__(self) -> Iterator[Sample]:
        return (self[i] for i in range(len(self)))


def whole(samples: Any) -> Sample:
    """Collate for `DataLoader(..., collate_fn=whole)`: the batch is one already."""
    batch: Sample = samples.batch
    return batch


class PoseMusicDataset(Dataset[Sample]):
    """Windows of one split of a pack.

    A sample holds `x` (L, C) float32, `present` (L, C) bool (the value is real), `mask` (L, M) bool (the modality is
    measured), `t_us` (L,) int64 on the music clock, `window` () int64 (its number in the pack), and with `audio`
    also `audio` (A, D) float32 and `audio_present` (A,) bool. A batch has a leading B.

    Args:
        pack: From `open_pack`.
        split: `train`, `val`, `test`, or several.
        augment: Mirror, shift and noise; none by default.
        seed: With the epoch and the window number it decides every draw, whatever the batch, order or worker.
        normalise: Subtract the mean and divide by the deviation of the training rows; the beat phase, which is
            circular, becomes ((phase + 0.5) mod 1) - 0.5.
        missing: `nan` leaves missing values NaN, `mean` puts the training mean there (`present` still says so).
        audio: Return the audio features under each window; frames beyond the music are NaN and not present.

    Raises:
        UsageError: An unknown option, or audio from a pack that has none.
    """

    def __init__(
        self,
        pack: Pack,
        split: str | Sequence[str] = "train",
        *,
        augment: Augment | None = None,
        seed: int = 0,
        normalise: bool = False,
        missing: str = "nan",
        audio: bool = False,
    ) -> None:
        if missing not in ("nan", "mean"):
            raise UsageError(f"missing values cannot be {missing}", hint="choose nan or mean")
        if audio and pack.audio is None:
            raise UsageError(f"the pack {pack.folder} has no audio features")
        self.pack, self.augment, self.seed = pack, augment or Augment(), seed
        self.normalise, self.missing, self.audio = normalise, missing, audio
        self.indices = pack.select(split)
        # Shared memory: workers that live on see the epoch move.
        self._epoch = torch.zeros(1, dtype=torch.int64)
        self._epoch.share_memory_()  # type: ignore[no-untyped-call]
        stats = [pack.doc["normaliser"]["columns"][c] for c in pack.columns]
        self.mean = np.array([s["mean"] or 0.0 for s in stats], np.float32)
        self.std = np.array([s["std"] or 1.0 for s in stats], np.float32)
        self.circular = np.array([c in CIRCULAR for c in pack.columns])
        spread = [_UNIFORM_STD if c in CIRCULAR else s["std"] or 0.0 for c, s in zip(pack.columns, stats, strict=True)]
        self.spread = np.array(spread, np.float32)
        self.audio_frames = self._longest_audio() if audio else 0

    def _longest_audio(self) -> int:
        """Frames that the longest window can hold: its length over the shortest frame period, rounded up."""
        span = self.pack.length * self.pack.step_us
        grids = {s.audio for s in self.pack.stretches if s.audio is not None}
        return max((-(-span * g.sr // (g.hop * 1_000_000)) for g in grids), default=0)

    def set_epoch(self, epoch: int) -> None:
        """Move on to other draws. Call before each pass; running workers see it with their next batch."""
        self._epoch[0] = epoch

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, i: int) -> Sample:
        if not -len(self) <= i < len(self):
            raise IndexError(i)
        sample: Sample = self.batch([i])[0]
        return sample

    def __getitems__(self, indices: Sequence[int]) -> Samples:
        return self.batch(indices)

    def batch(self, indices: Sequence[int] | NDArray[np.int64]) -> Samples:
        """Gather a batch by positions in this split. Raises IndexError for one that is not there."""
        windows = self.indices[np.asarray(indices, np.int64)]
        starts, epoch = self.pack.starts(windows), int(self._epoch[0])
        if self.augment.shift:
            around = self.pack.runs[windows]
            starts = starts + shifts(self.augment, self.seed, epoch, windows, starts, around, self.pack.length)
        x = self.pack.gather(starts)
        if self.augment.mirror:
            mirror(x, mirrors(self.augment, self.seed, epoch, windows), self.pack.columns)
        if self.augment.noise:
            add_noise(x, self.augment, self.seed, epoch, windows, self.pack.columns, self.spread)
        found = {
            "present": ~np.isnan(x), "mask": self.pack.gather_masks(starts), "t_us": self.pack.gather_times(starts),
            "window": windows,
        }  # fmt: skip
        self._standardise(x, found["present"])
        if self.audio:
            found["audio"], found["audio_present"] = self._audio(windows, starts)
        return Samples({"x": torch.from_numpy(x), **{k: torch.from_numpy(v) for k, v in found.items()}})

    def _standardise(self, x: F32, present: NDArray[np.bool_]) -> None:
        if self.normalise:
            round_ = x[..., self.circular]
            x -= self.mean
            x /= self.std
            x[..., self.circular] = np.mod(round_ + np.float32(0.5), 1) - np.float32(0.5)
        if self.missing == "mean":
            middle = np.where(self.normalise, 0, self.mean).astype(np.float32)
            np.copyto(x, middle, where=~present)

    def _audio(self, windows: I64, starts: I64) -> tuple[F32, NDArray[np.bool_]]:
        """Audio features under rows [start, start + L) of each window, (B, A, D), NaN beyond the music."""
        pack = self.pack
        assert pack.audio is not None
        pair = pack.index.pair[windows]
        first, n = audio_windows(pack.t_us[starts], pair, pack.stretches, pack.length * pack.step_us)
        k = np.arange(self.audio_frames)
        present = k < n[:, None]
        rows = np.where(present, (pack.audio_base[pair] + first)[:, None] + k, 0)
        out = pack.audio[rows] if len(pack.audio) else np.empty((*rows.shape, pack.audio.shape[1]), np.float32)
        out[~present] = np.nan
        return out, present


def loader(
    data: PoseMusicDataset, batch_size: int = 256, *, shuffle: bool = True, workers: int = 0, drop_last: bool = False
) -> DataLoader[Sample]:
    """A DataLoader that passes whole batches through; its order is drawn from the dataset's seed.

    Batches without worker processes are the fastest: gathering is cheaper than sending.
    """
    draws = torch.Generator().manual_seed(data.seed)
    return DataLoader(
        data, batch_size, shuffle=shuffle and len(data) > 0, num_workers=workers, drop_last=drop_last,
        collate_fn=whole, generator=draws,
    )  # fmt: skip
