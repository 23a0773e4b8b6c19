"""A made-up dancer on a rig of 22 joints that all turn on their own, as SMPL's do; bones keep their length."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from choreo_cli.motion.rotations import exp_map, rot_y
from formats.foreign.joints import PARENTS

F64 = NDArray[np.float64]

# Own round numbers, metres, at rest with the arms out.
OFFSETS = np.array(
    [[0, 0, 0], [0.06, -0.09, -0.01], [-0.06, -0.09, -0.01], [0, 0.11, -0.03], [0.04, -0.38, 0], [-0.04, -0.38, 0],
     [0, 0.14, 0.02], [-0.01, -0.42, -0.04], [0.01, -0.42, -0.04], [0, 0.05, 0], [0.03, -0.06, 0.12],
     [-0.03, -0.06, 0.12], [0, 0.21, -0.03], [0.08, 0.12, -0.02], [-0.08, 0.12, -0.02], [0, 0.09, 0.05],
     [0.09, 0.03, -0.01], [-0.09, 0.03, -0.01], [0.26, -0.01, -0.02], [-0.26, -0.01, -0.02], [0.25, 0.01, 0],
     [-0.25, 0.01, 0]], float,
)  # fmt: skip
# How far each joint turns about x, y, z (rad), and around what.
_SWING = {
    0: (0.12, 0.0, 0.1), 1: (0.45, 0.2, 0.15), 2: (0.45, 0.2, 0.15), 3: (0.12, 0.08, 0.08), 4: (0.35, 0.03, 0.0),
    5: (0.35, 0.03, 0.0), 6: (0.08, 0.1, 0.05), 7: (0.25, 0.05, 0.05), 8: (0.25, 0.05, 0.05), 9: (0.06, 0.08, 0.05),
    12: (0.12, 0.2, 0.08), 13: (0.05, 0.1, 0.12), 14: (0.05, 0.1, 0.12), 15: (0.15, 0.15, 0.1), 16: (0.4, 0.4, 0.45),
    17: (0.4, 0.4, 0.45), 18: (0.1, 0.5, 0.05), 19: (0.1, 0.5, 0.05),
}  # fmt: skip
_MEAN = {
    1: (-0.3, 0, 0), 2: (-0.3, 0, 0), 4: (0.5, 0, 0), 5: (0.5, 0, 0), 7: (-0.2, 0, 0), 8: (-0.2, 0, 0),
    16: (0, -0.2, -0.8), 17: (0, 0.2, 0.8), 18: (0, -0.9, 0), 19: (0, 0.9, 0),
}  # fmt: skip


def clip(frames: int = 600, fps: float = 20.0, seed: int = 0) -> F64:
    """(T, 22, 3) metres, y up, the lowest point at 0; joints swing at 0.3 to 1.2 Hz, the body turns and walks."""
    rng = np.random.default_rng(seed)
    t = np.arange(frames) / fps
    world: list[F64] = []
    out = np.empty((frames, 22, 3))
    for k, parent in enumerate(PARENTS):
        angles = np.broadcast_to(np.array(_MEAN.get(k, (0, 0, 0)), float), (frames, 3)).copy()
        for axis, size in enumerate(_SWING.get(k, (0, 0, 0))):
            rate, phase = rng.uniform(0.3, 1.2), rng.uniform(0, 2 * np.pi)
            angles[:, axis] += size * np.sin(2 * np.pi * rate * t + phase)
        turn = exp_map(angles)
        if parent < 0:
            world.append(rot_y(1.2 * np.sin(0.4 * t) + 0.5 * t) @ turn)
            out[:, 0] = np.stack([0.5 * np.sin(0.3 * t), 0.95 + 0.03 * np.sin(5 * t), 0.4 * t], -1)
            continue
        out[:, k] = out[:, parent] + world[parent] @ OFFSETS[k]
        world.append(world[parent] @ turn)
    out[..., 1] -= np.percentile(out[:, 7:12, 1].min(1), 2)
    return out
