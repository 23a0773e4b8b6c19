"""Windows of procedural dancers in memory, with what `dataset.motions.MotionSet` offers: enough for a recipe."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from choreo_cli.dataset.motions_stats import measure
from choreo_cli.motion.choreo25 import encode_channels
from choreo_cli.motion.dancer import choreograph, poses, write_score
from choreo_cli.motion.skeleton import fit_skeleton

FPS = 30.0


class Windows:
    """A few dances cut into windows; the audio says where the beats are."""

    synthetic = True

    def __init__(self, dances: int = 4, frames: int = 64, audio_width: int = 5, held_out: int = 1) -> None:
        self.fps, self.frames, self.audio_width = FPS, frames, audio_width
        x, audio, split = [], [], []
        for k in range(dances):
            rng = np.random.default_rng((7, k))
            beats = np.arange(0.0, 14, 60 / rng.uniform(90, 140))
            score = write_score(beats, rng.uniform(0.5, 1.0), rng)
            t = np.arange(240) / FPS + 1.0
            joints = poses(choreograph(score, rng, height_m=1.7), t)
            channels = encode_channels(joints, FPS, fit_skeleton(joints))[0].astype(np.float32)
            phase = np.interp(t, beats, np.arange(len(beats)))[:, None] * np.arange(1, audio_width + 1)
            sound = np.cos(2 * np.pi * phase).astype(np.float32)
            for a in range(0, 240 - frames + 1, 16):
                x.append(channels[a : a + frames])
                audio.append(sound[a : a + frames])
                split.append("val" if k < held_out else "train")
        self.x, self.audio, self.split = np.stack(x), np.stack(audio), np.array(split)
        train = self.split == "train"
        self.stats = measure(zip(self.x[train], self.audio[train], strict=True), audio_width)

    def windows(self, split: str) -> Any:
        return np.flatnonzero(self.split == split)

    def batch(self, rows: Any, epoch: int) -> dict[str, Any]:
        rows = np.asarray(rows)
        return {"x": self.x[rows], "audio": self.audio[rows], "clip": rows, "mirrored": np.zeros(len(rows), bool)}

    def record(self) -> dict[str, Any]:
        sha = hashlib.sha256(self.x.tobytes()).hexdigest()
        return {"sha256": sha, "path": "in memory", "notes": [], "schema": "choreo.motions/1", "audio": ["beat"]}


def recipe(kind: str = "flow", windows: Windows | None = None, seed: int = 0, **config: Any) -> Any:
    """A recipe on windows in memory."""
    from choreo_cli.generate import ddim_recipe_torch, flow_recipe_torch
    from choreo_cli.training.recipe import Job

    module = {"flow": flow_recipe_torch, "ddim": ddim_recipe_torch}[kind]
    source = windows or Windows()
    job = Job(Path("motions.json"), None, module.Config(**config), seed)

    def fields(job: Any) -> dict[str, Any]:
        return {"config": job.config, "seed": seed, "source": source, "data": source.record(), "given": job.source}

    kept, module.open_data = module.open_data, fields
    try:
        return module.open_recipe(job)
    finally:
        module.open_data = kept
