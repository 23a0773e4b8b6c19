"""Arms of clips with known figures, and one real dance as channels, for tests of the generator's gates."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
from motion_material import dance
from numpy.typing import NDArray

from choreo_cli.metrics.generation_clip import FIGURES
from choreo_cli.metrics.generation_gates import Arm, Bench
from choreo_cli.metrics.generation_stats import units_of
from choreo_cli.metrics.motion_music import Music
from choreo_cli.motion.choreo25 import encode
from formats.motion_npz import Skeleton

F32 = NDArray[np.float32]
SEEDS, CONDITIONS, CLIPS = (0, 1, 2), 32, 64
GOOD = {
    "sanity": 1.0, "musicality": 0.5, "beat_alignment": 0.5, "shuffled": 0.0, "slide": 0.1, "slide_after_lock": 1e-7,
    "contact_fraction": 0.8, "jerk": 60.0, "jerk_p99": 400.0, "clamp_rate": 0.0, "limits_after_clamp": 0.0,
}  # fmt: skip
SPREAD = {"musicality": 0.05, "beat_alignment": 0.05, "shuffled": 0.05, "slide": 0.01, "jerk": 2.0}


def arm(name: str, seed: int = 0, rows: float = 7, features: Any = None, **changed: Any) -> Arm:
    """Three seeds of 64 clips around `GOOD`; `changed` gives other means (or whole tables)."""
    rng = np.random.default_rng(seed)
    shape = (len(SEEDS), CLIPS)
    figures = {}
    for figure in FIGURES:
        mean = changed.get(figure, GOOD[figure])
        figures[figure] = np.broadcast_to(mean, shape) + SPREAD.get(figure, 0.0) * rng.standard_normal(shape)
    made = np.stack([features_of(100 + s) for s in SEEDS]) if features is None else features
    return Arm(name, SEEDS, figures, made, made[..., :32], rows, int(rows), {"steps": 4})


def features_of(seed: int, n: int = CLIPS, spread: float = 1.0) -> NDArray[np.float64]:
    return spread * np.random.default_rng(seed).standard_normal((n, 66))


def bench(synthetic: bool = False) -> Bench:
    """64 clips of 32 windows of 8 dancers; 400 held-out windows."""
    conditions = np.arange(CLIPS) % CONDITIONS
    groups = [f"dancer-{k // 4}" for k in range(CONDITIONS)]
    held = arm("held_out", 9)
    real = replace(held, seeds=(0,), figures={k: v[:1] for k, v in held.figures.items()},
                   kinetic=features_of(7, CONDITIONS)[None], manual=features_of(8, CONDITIONS)[None, :, :32])  # fmt: skip
    far = features_of(1, 400)
    units = units_of([groups[k] for k in conditions], conditions.tolist())
    return Bench(units, conditions, groups, real, np.random.default_rng(0), {"fps": 30.0}, synthetic,
                 {"kinetic": far, "manual": far[:, :32]}, [f"dancer-{k % 16}" for k in range(400)])  # fmt: skip


@cache
def dancing(seed: int = 0) -> tuple[F32, Skeleton]:
    """Channels (64, 25) of the procedural dancer at 120 beats a minute, beginning on a beat, and the body."""
    clip = encode(dance(64 / 30, 30.0, seed), 30.0)
    return clip.channels, clip.header.skeleton


def beats(bpm: float = 120.0, first: float = 0.0) -> Music:
    return Music("song", first + np.arange(0, 6, 60 / bpm), False, None, "")
