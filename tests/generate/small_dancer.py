"""A small network with random weights as a checkpoint on disk, and music for it: enough to follow a dance's way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from choreo_cli.audio.dance_features import WIDTH, names
from choreo_cli.audio.render import render_track, wav_bytes
from choreo_cli.dataset.motions_stats import Stats
from choreo_cli.generate.config import Shape
from choreo_cli.generate.guidance import Guidance
from choreo_cli.generate.model_files import defaults_record, encode_model

FPS, FRAMES = 30.0, 16
# What a dancing body does, roughly: mean and spread of each channel.
MEAN = np.array([0, 0, 0.9, 0, 0.5, 0.5, *[0] * 5, 0.2, -0.5, 0.3, 0, -0.2, -0.5, 0.3, 0, 0.1, -1.0, 0, -0.1, -1.0, 0])
STD = np.array([0.3, 0.3, 0.03, 0.5, 0.5, 0.5, *[0.1] * 5, 0.2, 0.2, 0.2, 0.4, 0.2, 0.2, 0.2, 0.4, *[0.08] * 6])


def stats(width: int = WIDTH) -> Stats:
    return Stats(
        MEAN.astype(np.float32), STD.astype(np.float32), np.zeros(width, np.float32), np.ones(width, np.float32)
    )


def write_model(folder: Path, *, width: int = WIDTH, seed: int = 0, **told: Any) -> Path:
    """A checkpoint of recipe `flow`; `told` changes its facts."""
    import torch

    from choreo_cli.generate.dit_torch import build

    shape = Shape(blocks=1, width=16, heads=2, frames=FRAMES, audio_width=width)
    torch.manual_seed(seed)
    net = build(shape)
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.15)
    facts = {
        "process": "flow", "predict": "x1", "fps": FPS, "defaults": defaults_record(2, "euler", Guidance(2.0)),
        "audio_features": list(names()) if width == WIDTH else [], "trained_tasks": ["GEN", "INBETWEEN", "PREDICT"],
        **told,
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    for _, name, data in encode_model("flow", net, shape, facts, stats(width), {"run_id": "0" * 12}):
        (folder / name).write_bytes(data)
    return folder


def write_music(path: Path, seconds: float = 3.0, seed: int = 0) -> Path:
    """A sound with a beat every half second."""
    path.write_bytes(wav_bytes(render_track(np.arange(0, seconds, 0.5), 0.8, seconds, np.random.default_rng(seed))))
    return path


def write_features(path: Path, frames: int = 60, width: int = WIDTH, fps: float = FPS, seed: int = 0) -> Path:
    """Somebody's features."""
    values = np.random.default_rng(seed).normal(size=(frames, width)).astype(np.float32)
    np.savez(path, features=values, fps=fps)
    return path
