"""Styles of the training dancer: how far each part of the body goes, how sharply it lands, which figures it likes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]

# Angles (rad) of `dancer_body.pose_body`, their rest value.
DOFS: tuple[tuple[str, float], ...] = (
    ("yaw", 0.0), ("pitch", 0.04), ("roll", 0.0), ("chest_x", 0.05), ("chest_y", 0.0), ("chest_z", 0.0), ("nod", 0.05),
    ("l_raise", 0.62), ("l_swing", 0.60), ("l_flex", 1.00), ("r_raise", 0.62), ("r_swing", 0.60), ("r_flex", 1.00),
)  # fmt: skip
NAMES = tuple(d[0] for d in DOFS)
REST = np.array([d[1] for d in DOFS])
LOW = np.array([-0.9, -0.35, -0.3, -0.35, -0.7, -0.35, -0.3, 0.32, -0.2, 0.25, 0.32, -0.2, 0.25])
HIGH = np.array([0.9, 0.4, 0.3, 0.5, 0.7, 0.35, 0.45, 2.35, 1.25, 2.1, 2.35, 1.25, 2.1])
ARMS = ((7, 8, 9), (10, 11, 12))


@dataclass(frozen=True, slots=True)
class Style:
    """One way of dancing.

    Args:
        name: For captions.
        torso: Reach of the seven angles of pelvis, chest and head (rad).
        arms: Reach of raise, swing and flex (rad).
        arm_rest: Raise, swing and flex around which the arms move.
        bounce: Depth of the knees on the beat (m).
        sway: Shift of the weight over one foot (m).
        stance: Half the distance of the feet (m).
        move: Part of a beat that a move takes; the rest of it the body holds, the beat in the middle of the hold.
        figures: Figure -> odds.
    """

    name: str
    torso: tuple[float, ...]
    arms: tuple[float, float, float]
    arm_rest: tuple[float, float, float]
    bounce: float
    sway: float
    stance: float
    move: float
    figures: dict[str, float]


STYLES: dict[str, Style] = {
    s.name: s
    for s in (
        Style("groove", (0.10, 0.05, 0.06, 0.10, 0.16, 0.10, 0.12), (0.30, 0.28, 0.35), (0.62, 0.65, 1.05), 0.045, 0.07,
              0.13, 0.94, {"sway": 3, "side": 3, "march": 2, "turn": 1, "walk": 1}),
        Style("house", (0.08, 0.06, 0.05, 0.12, 0.12, 0.06, 0.10), (0.25, 0.30, 0.30), (0.55, 0.70, 1.20), 0.05, 0.05,
              0.11, 0.90, {"march": 4, "kick": 3, "side": 2, "walk": 2, "turn": 1}),
        Style("hiphop", (0.14, 0.08, 0.08, 0.16, 0.20, 0.12, 0.16), (0.40, 0.35, 0.50), (0.70, 0.70, 1.00), 0.07, 0.06,
              0.16, 0.82, {"sway": 2, "deep": 3, "side": 2, "jump": 2, "march": 1}),
        Style("latin", (0.22, 0.04, 0.12, 0.06, 0.24, 0.12, 0.06), (0.30, 0.35, 0.30), (0.80, 0.50, 1.20), 0.03, 0.08,
              0.12, 0.95, {"side": 4, "walk": 3, "turn": 2, "sway": 2}),
        Style("locking", (0.16, 0.06, 0.06, 0.12, 0.24, 0.08, 0.12), (0.60, 0.45, 0.65), (0.95, 0.55, 0.95), 0.05, 0.05,
              0.14, 0.74, {"sway": 2, "kick": 3, "deep": 2, "march": 1, "side": 2}),
        Style("lyrical", (0.18, 0.10, 0.10, 0.16, 0.28, 0.14, 0.12), (0.65, 0.45, 0.40), (1.10, 0.45, 0.65), 0.035,
              0.07, 0.12, 1.0, {"turn": 3, "walk": 3, "sway": 3, "deep": 1, "side": 1}),
    )
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Dancer:
    """A body and its habits, the same in all clips of one dancer.

    Args:
        number: Which dancer.
        height_m: Stature.
        size: How far this one goes, about 1.
        lean: (13,) personal rest of the angles (rad).
        late_s: Lands this much after the beat, a few milliseconds either way.
    """

    number: int
    height_m: float
    size: float
    lean: F64
    late_s: float


def draw_dancer(seed: int, number: int) -> Dancer:
    """Dancer `number` of a seed; it depends on nothing else."""
    rng = np.random.default_rng((seed, 0x64616E, number))
    return Dancer(
        number, float(rng.uniform(1.55, 1.92)), float(rng.uniform(0.85, 1.1)), rng.uniform(-0.05, 0.05, len(DOFS)),
        float(rng.uniform(-0.006, 0.006)),
    )  # fmt: skip


def child(rng: np.random.Generator) -> Any:
    """A generator of its own for one part of a clip, so that no part's draws move another's."""
    return np.random.default_rng(rng.integers(0, 2**63, 4))
