"""A small pack of five sessions with gaps, missing values and the features of four tracks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from choreo_cli.dataset.pack import PackPair
from choreo_cli.dataset.pack_write import AudioTrack, Written, write_pack
from choreo_cli.dataset.splits import Item, SplitResult, assign
from choreo_cli.dataset.windows import AudioGrid
from formats.columns import INPUTS, MASKS

STEP = 20_000
ROWS = 400
CREATED_BY = {"run_id": "0" * 12, "command": "pair", "choreo": "0", "git": None, "inputs": [], "outputs": []}


@dataclass
class Source:
    """What a pack is made from."""

    frames: dict[str, np.ndarray]
    pairs: list[PackPair]
    tracks: list[AudioTrack]

    @property
    def items(self) -> list[Item]:
        return [p.item for p in self.pairs]

    def write(self, parent: Path, split: SplitResult | None = None, **options: object) -> Written:
        made = split or assign(self.items, mode="loso")
        return write_pack(parent, self.frames, self.pairs, made, created_by=CREATED_BY, tracks=self.tracks, **options)  # type: ignore[arg-type]


def make_source(sessions: int = 5, seed: int = 0, audio: bool = True) -> Source:
    rng = np.random.default_rng(seed)
    n = sessions * ROWS
    frames: dict[str, np.ndarray] = {}
    for c in INPUTS:
        assert c.lo is not None and c.hi is not None
        frames[c.name] = rng.uniform(c.lo, c.hi * 0.999, n).astype(np.float32)
    t = [np.arange(ROWS, dtype=np.int64) * STEP + k * STEP for k in range(sessions)]
    for k in range(sessions):
        t[k][250:] += 3 * STEP  # one gap in every session
    frames["t_us"] = np.concatenate(t)
    for name, columns in zip(
        MASKS, (("motion_energy", "motion_freq", "jerk"), ("hr", "hr_slope"), (), ()), strict=True
    ):
        frames[name] = rng.random(n) > 0.1
        for c in columns:
            frames[c][~frames[name]] = np.nan
    pairs, tracks = [], []
    for k in range(sessions):
        item = Item(f"session-{k:04d}/0", f"session-{k:04d}", f"song {k}")
        pairs.append(PackPair(item, k * ROWS, ROWS, f"a:{k}" if audio and k else None))
        if audio and k:
            values = rng.standard_normal((300, 3)).astype(np.float32)
            tracks.append(AudioTrack(f"a:{k}", AudioGrid(22050, 512, 300), ("a", "b", "c"), lambda v=values: v))
    return Source(frames, pairs, tracks)
