"""Figures of the training dancer: where feet, weight and body are on every beat of a phrase."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from choreo_cli.motion.dancer_styles import Dancer, Style

F64 = NDArray[np.float64]

WORDS: dict[str, str] = {
    "sway": "shifts the weight from foot to foot", "side": "steps from side to side", "march": "steps in place",
    "walk": "walks forward and back", "turn": "turns {way} in small steps", "kick": "kicks low with each foot",
    "jump": "jumps on the spot", "deep": "drops low in a wide stance", "still": "almost stands still",
}  # fmt: skip
TURN_RAD = np.pi / 4  # a beat
FAR_M = 1.5  # from the middle of the floor: walks turn back


@dataclass(slots=True)
class Ground:
    """Keys of the lower body on every beat, and the state from which the next figure goes on.

    Args:
        foot: (B, 2, 3) floor x, z and heading of left and right foot, metres of a 1.70 m dancer.
        air: (B, 2) height of a foot that is off the floor on the beat.
        swing: (B, 2) how high a foot is lifted on its way to the beat.
        shift: (B,) weight, -1 over the right foot to 1 over the left.
        crouch: (B,) how far the pelvis is down (m).
        hop: (B,) height of a jump that lands on the beat (m).
        heading: (B,) body (rad).
        centre: Floor point of the dancer.
        facing: Heading now.
    """

    foot: F64
    air: F64
    swing: F64
    shift: F64
    crouch: F64
    hop: F64
    heading: F64
    centre: F64 = field(default_factory=lambda: np.zeros(2))
    facing: float = 0.0

    @classmethod
    def of(cls, beats: int) -> Ground:
        z = np.zeros
        return cls(z((beats, 2, 3)), z((beats, 2)), z((beats, 2)), z(beats), z(beats), z(beats), z(beats))


@dataclass(frozen=True, slots=True)
class Part:
    """What one phrase asks of the legs.

    Args:
        figure: A key of `WORDS`.
        start, beats: Of the phrase.
        size: (beats,) 0..1, from energy, accent and tempo.
        side: +1 begins left, -1 right.
        every: Beats a step takes: 2 in half-time phrases.
    """

    figure: str
    start: int
    beats: int
    size: F64
    side: int
    every: int


def lay(ground: Ground, part: Part, style: Style, who: Dancer) -> None:
    """Write the keys of one phrase, going on from where the last one ended."""
    for k in range(part.beats):
        row = part.start + k
        size = float(part.size[k])
        before = ground.foot[row - 1].copy() if row else _stand(ground, style)
        ground.foot[row] = before
        ground.heading[row] = ground.facing
        ground.crouch[row] = style.bounce * size * (1.0 if k % 2 == 0 else 0.45)
        ground.shift[row] = 0.0
        step, on = divmod(k, part.every)
        if on == 0:
            _FIGURES[part.figure](ground, row, step, size, part.side, style)
        else:
            # A half-time phrase holds on the beats between: the knees alone mark them.
            ground.shift[row] = 0.5 * ground.shift[row - 1]
            ground.air[row] = ground.air[row - 1]
        ground.heading[row] = ground.facing


def _stand(ground: Ground, style: Style) -> F64:
    return np.stack([_place(ground, style, s) for s in (0, 1)])


def _place(ground: Ground, style: Style, side: int, wide: float = 1.0, ahead: float = 0.0) -> F64:
    """Where a foot belongs under the body: x, z, heading."""
    sigma = 1.0 if side == 0 else -1.0
    c, s = np.cos(ground.facing), np.sin(ground.facing)
    out = sigma * style.stance * wide
    x, z = ground.centre[0] + out * c + ahead * s, ground.centre[1] - out * s + ahead * c
    return np.array([x, z, ground.facing + 0.15 * sigma])


def _move(ground: Ground, aside: float, ahead: float) -> None:
    """Carry the centre, in the body's own directions, and never far from the middle of the floor."""
    c, s = np.cos(ground.facing), np.sin(ground.facing)
    to = ground.centre + np.array([aside * c + ahead * s, -aside * s + ahead * c])
    if np.hypot(*to) <= FAR_M or np.hypot(*to) < np.hypot(*ground.centre):
        ground.centre = to


def _step(
    ground: Ground, row: int, side: int, size: float, style: Style, wide: float = 1.0, ahead: float = 0.0
) -> None:
    ground.foot[row, side] = _place(ground, style, side, wide, ahead)
    ground.swing[row, side] = 0.035 + 0.075 * size
    ground.shift[row] = (0.75 if side == 0 else -0.75) * (0.5 + 0.5 * size)


def _sway(ground: Ground, row: int, step: int, size: float, side: int, style: Style) -> None:
    ground.shift[row] = side * (1 if step % 2 == 0 else -1) * (0.55 + 0.45 * size)
    _gather(ground, row, size, style)


def _gather(ground: Ground, row: int, size: float, style: Style) -> None:
    """Bring home a foot that a figure before has left away, one a beat."""
    for s in (0, 1):
        away = np.hypot(*(ground.foot[row, s, :2] - _place(ground, style, s)[:2]))
        if away > 0.06 or (row and ground.air[row - 1, s] > 0):
            _step(ground, row, s, size, style)
            return


def _march(ground: Ground, row: int, step: int, size: float, side: int, style: Style) -> None:
    foot = (step + (0 if side > 0 else 1)) % 2
    _step(ground, row, foot, size, style, ahead=0.05 * size * (1 if step % 4 < 2 else -1))


def _side(ground: Ground, row: int, step: int, size: float, side: int, style: Style) -> None:
    way = side * (1 if step % 4 < 2 else -1)
    foot = 0 if way > 0 else 1
    if step % 2 == 0:
        _move(ground, way * (0.09 + 0.15 * size), 0.0)
        _step(ground, row, foot, size, style, wide=1.25)
    else:
        _move(ground, way * (0.05 + 0.09 * size), 0.0)
        _step(ground, row, 1 - foot, 0.7 * size, style)


def _walk(ground: Ground, row: int, step: int, size: float, side: int, style: Style) -> None:
    way = 1.0 if step % 8 < 4 else -1.0
    _move(ground, 0.0, way * (0.07 + 0.20 * size))
    _step(ground, row, (step + (0 if side > 0 else 1)) % 2, size, style, ahead=way * 0.05 * size)


def _turn(ground: Ground, row: int, step: int, size: float, side: int, style: Style) -> None:
    ground.facing += side * TURN_RAD * (0.6 + 0.4 * size)
    # The foot on the side of the turn leads, so that the legs never cross.
    _step(ground, row, (step + (0 if side > 0 else 1)) % 2, 0.8 * size, style)


def _kick(ground: Ground, row: int, step: int, size: float, side: int, style: Style) -> None:
    foot = (step // 2 + (0 if side > 0 else 1)) % 2
    if step % 2 == 0:
        _step(ground, row, foot, size, style, ahead=0.10 + 0.16 * size)
        ground.air[row, foot] = 0.06 + 0.12 * size
        ground.shift[row] = (-1.0 if foot == 0 else 1.0) * 0.9
    else:
        _step(ground, row, foot, size, style)


def _jump(ground: Ground, row: int, step: int, size: float, side: int, style: Style) -> None:
    if step % 4 == 0:
        wide = 1.0 if step % 8 == 0 else 1.35
        for s in (0, 1):
            ground.foot[row, s] = _place(ground, style, s, wide)
        ground.hop[row] = 0.04 + 0.09 * size
        ground.crouch[row] = 0.05 + 0.05 * size
    elif step % 4 == 3:
        ground.crouch[row] = 0.07 + 0.06 * size  # ready to go
    else:
        ground.shift[row] = 0.5 * side * (1 if step % 2 else -1)


def _deep(ground: Ground, row: int, step: int, size: float, side: int, style: Style) -> None:
    if step < 2:
        foot = step if side > 0 else 1 - step
        _step(ground, row, foot, size, style, wide=1.55)
        ground.shift[row] *= 0.5
    else:
        ground.shift[row] = 0.5 * side * (1 if step % 2 == 0 else -1)
    ground.crouch[row] = (0.08 + 0.10 * size) if step % 2 == 1 else 0.03


def _still(ground: Ground, row: int, step: int, size: float, side: int, style: Style) -> None:
    ground.shift[row] = 0.35 * side * (1 if step % 2 == 0 else -1)
    ground.crouch[row] = 0.012 if step % 2 == 0 else 0.0
    _gather(ground, row, size, style)


_FIGURES = {
    "sway": _sway, "side": _side, "march": _march, "walk": _walk, "turn": _turn, "kick": _kick, "jump": _jump,
    "deep": _deep, "still": _still,
}  # fmt: skip
