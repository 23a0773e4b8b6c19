"""Small frame sets, a frozen M1 of random weights and synthetic sessions that the tests of M4 and M7 share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from choreo_cli.dataset.frameset import FrameSession, FrameSet
from choreo_cli.dataset.splits import Item
from formats import checkpoint
from formats.columns import BLOCKS, MODALITIES


def synthetic_set(folder: Path, *, sessions: int, minutes: float, seed: int) -> Path:
    """Frames-only synthetic sessions at three tempi."""
    from choreo_cli.outputs import output_folder
    from choreo_cli.progress import Progress
    from choreo_cli.sessions.synth import SynthOptions, write_sessions

    options = SynthOptions(sessions=sessions, minutes=minutes, bpm=(92.0, 120.0, 140.0), seed=seed, material=False)
    with output_folder(folder, "sessions", {"run_id": "0" * 12}) as out, Progress("", quiet=True) as bar:
        made = write_sessions(options, folder, bar)
        out.finish(made.entries, 0, [])
    return folder


def frame_set(*phases: np.ndarray, split: str = "test", seed: int = 0) -> FrameSet:
    """Sessions of random motion, one per array of beat phases."""
    rng = np.random.default_rng(seed)
    n = sum(map(len, phases))
    x = rng.uniform(0.1, 0.9, (n, 11)).astype(np.float32)
    x[:, 10] = np.concatenate(phases)
    mask = np.ones((n, 4), bool)
    mask[:, 3] = np.isfinite(x[:, 10])
    sessions, at = [], 0
    for k, phase in enumerate(phases):
        sessions.append(FrameSession(f"s{k}", at, len(phase), Item(f"s{k}", f"s{k}", f"s{k}"), split, f"s{k}", True))
        at += len(phase)
    t_us = np.concatenate([20_000 * np.arange(len(p), dtype=np.int64) for p in phases])
    source = {"role": "frames", "sha256": "0" * 64, "schema": "choreo.frames/1"}
    return FrameSet(x, mask, t_us, tuple(sessions), source, Path("/nowhere"), "frames.parquet")


def random_rps(folder: Path, frames: FrameSet, seed: int = 0, hidden: int = 32) -> Path:
    """A checkpoint of M1 with random encoders, silent translators, and a normaliser fitted to the training rows."""
    from choreo_cli.reflex import rps
    from choreo_cli.reflex.normalizer import LatentNormalizer

    rng = np.random.default_rng(seed)
    rows = np.concatenate([np.arange(s.row_start, s.row_start + s.rows) for s in frames.of("train")])
    x = np.asarray(frames.x[rows], np.float64)
    arrays: dict[str, Any] = {"input.mean": np.nanmean(x, axis=0), "input.std": np.nanstd(x, axis=0) + 1e-3}
    for m, width in BLOCKS.items():
        n = len(MODALITIES[m])
        arrays[f"encoder.{m}.hidden.weight"] = rng.normal(size=(hidden, n)) / np.sqrt(n)
        arrays[f"encoder.{m}.hidden.bias"] = rng.normal(size=hidden) / 2
        arrays[f"encoder.{m}.out.weight"] = rng.normal(size=(width, hidden)) / np.sqrt(hidden)
        arrays[f"encoder.{m}.out.bias"] = np.zeros(width)
        arrays[f"translator.{m}.weight"] = np.zeros((width, sum(BLOCKS.values())))
        arrays[f"translator.{m}.bias"] = np.zeros(width)
    arrays = {k: np.asarray(v, np.float32) for k, v in arrays.items()}
    normalizer = LatentNormalizer(sum(BLOCKS.values()))

    def made() -> checkpoint.Checkpoint:
        state = {f"normalizer.{k}": np.atleast_1d(np.asarray(v)) for k, v in normalizer.state().items()}
        return checkpoint.Checkpoint("rps", rps.arch(hidden), {**arrays, **state})

    normalizer.update(rps.Rps.of(made()).latents(frames.x[rows], frames.mask[rows]))
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in checkpoint.encode(made()).items():
        (folder / name).write_bytes(data)
    return folder


class Files:
    """Where a recipe puts its files, without a command around it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.created_by = folder, {"run_id": "0" * 12}

    def target(self, relative: str) -> Path:
        return self.folder / relative

    def add(self, role: str, relative: str, sha256: str) -> None:
        pass

    def write(self, role: str, relative: str, data: bytes) -> None:
        (self.folder / relative).write_bytes(data)
