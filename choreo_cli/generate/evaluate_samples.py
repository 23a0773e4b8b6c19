"""Some dances of every arm as choreo25 clips: the same condition and noise in each, feet locked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from choreo_cli.generate.evaluate_arms import BLOCK
from choreo_cli.generate.evaluate_job import GIVEN, Stage
from choreo_cli.metrics.generation_clip import lock
from choreo_cli.motion.choreo25 import clamp
from formats.motion_npz import Header, MotionClip, encode

SHOWN = 3  # conditions of which every arm shows a dance
HEIGHT_M = 1.70  # the training scale
Sample = tuple[str, bytes, dict[str, Any]]


def samples(stage: Stage) -> Iterator[Sample]:
    """(path, bytes, entry of `choreo.motions/1` without its digest) of every sample, held-out dances first.

    Args:
        stage: After its arms were made.
    """
    conditions = stage.whole.rows(stage.chosen)
    count = min(BLOCK, len(conditions))
    rows = sorted({int(k) for k in np.linspace(0, count - 1, min(SHOWN, count)).round()})
    shown = {"held_out": conditions.x[:count], **{k: v for k, v in stage.kept.items() if k not in GIVEN}}
    for arm, channels in shown.items():
        facts = stage.arms[arm].facts
        for k in rows:
            if k >= len(channels):
                continue
            body = conditions.skeleton(k)
            made, start = lock(clamp(channels[k])[0], body, conditions.fps)
            synthetic = stage.data.synthetic if arm == "held_out" else True
            flags = {"synthetic": synthetic, "generated": arm != "held_out", "foot_locked": True}
            clip = MotionClip(made, Header(conditions.fps, body, *start, height_m=HEIGHT_M, flags=flags))
            yield _sample(clip, arm, k, conditions.names[k], facts)


def _sample(clip: MotionClip, arm: str, k: int, heard: str, facts: Mapping[str, Any]) -> Sample:
    path = f"clips/{arm}-{k:03d}.npz"
    clip = replace(clip, channels=np.ascontiguousarray(clip.channels, np.float32))
    h, n = clip.header, len(clip.channels)
    told = {"arm": arm, "clip": k, "condition": heard, **facts}
    entry = {
        "path": path, "layout": "choreo25", "source": arm, "source_sha256": None, "n_frames": n, "fps": h.fps,
        "duration_us": round(n / h.fps * 1e6), "rig": "own", "height_m": h.height_m, "scale": 1.0, "mean_mm": None,
        "p95_mm": None, "foot_mm_s": None, "clamped": 0, "flags": dict(h.flags), "report": told, "music": None,
        "group_id": arm, "split": "none", "performer": arm, "captions": [f"{arm}: {heard}"], "licence": h.licence,
        "synthetic": bool(h.flags["synthetic"]),
    }  # fmt: skip
    return path, encode(clip, {"generator": f"choreo evaluate generation, {arm}"}), entry
