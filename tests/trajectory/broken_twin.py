"""A twin of the product that is broken on purpose, as a pytest plugin: `pytest -p broken_twin test_true_vision.py`.

Its renderer hands out coordinates and looks at neither path nor camera, its sets are unbalanced, black and come back
changed, and its models take coordinates and read the class from the order of the videos, not from their pixels. A test
that passes on it proves nothing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from choreo_cli.trajectory import nets_torch, sets, videos

_open_set = sets.open_set


def pytest_configure() -> None:
    videos.render_video = _coordinates
    videos.generate_dataset = _black_and_unbalanced
    sets.open_set = _open_changed
    nets_torch.need_videos = lambda _videos: None
    nets_torch.VideoNet.forward = _by_order  # type: ignore[method-assign]


def _coordinates(trajectory_3d: Any, *_: Any) -> Any:
    return np.zeros((len(trajectory_3d), 2), np.float32)


def _black_and_unbalanced(num_samples: int = 1200, *_: Any, **__: Any) -> dict[str, Any]:
    n = num_samples + 1
    return {
        "videos": np.zeros((n, 16, 3, 64, 64), np.uint8), "labels": np.zeros(n, np.int64),
        "trajectory_3d": np.zeros((n, 16, 3)), "future_3d": np.zeros((n, 4, 3)), "equations": [""] * n,
        "descriptions": [""] * n,
    }  # fmt: skip


def _open_changed(*given: Any) -> Any:
    of = _open_set(*given)
    return replace(of, looks={name: replace(v, sigma=v.sigma + 0.1) for name, v in of.looks.items()})


def _by_order(_net: Any, seen: Any, _camera: Any = None, _coordinates: Any = None) -> dict[str, Any]:
    n = len(seen)
    order = torch.nn.functional.one_hot(torch.arange(n) % 4, 4).float()
    return {
        "logits": order, "future": torch.zeros(n, 4, 3), "shown": torch.zeros(n, 16, 3), "features": torch.zeros(n, 512)
    }  # fmt: skip
