"""Causal cleanup of a live pose: One-Euro smoothing, eased corrections under a jerk limit, feet that stand still."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from choreo_cli.motion.capture_state import DOFS, ROOT, ankles_of, difference, set_ankles
from choreo_cli.motion.cleanup import jerk_limit
from choreo_cli.motion.foot_lock import BLEND_FRAMES, SLACK_M
from choreo_cli.motion.fusion_model import pelvis_rotation
from formats.motion_npz import Skeleton

F64 = NDArray[np.float64]

MIN_CUTOFF_HZ = 8.0
SPEED_CUTOFF_HZ = 0.25
MOST_CUTOFF_HZ = 12.0
SURE_FRAMES = 2
SLIP_M = 0.15
"""A held foot that is so far from where it is seen was held in the wrong place, and is let go."""
TORN_M = 2e-4
"""A held foot that its leg pulls so far is no contact any more."""
DROP_M_S = 0.5
RISE_M_S = 0.5
EASE_SHARE = 0.3
"""Of the jerk limit, for one number: several move a wrist together."""
STEP_M = 0.008
"""Most that easing a correction may add to a joint's way in one frame."""
# Roots and trunks are heavy and well seen; an elbow about its line is light and badly seen.
_PACE = np.array([*(3.0,) * 9, *(1.4,) * 6, *(1.0,) * 6, 0.5, 0.5])
# What a unit of each degree of freedom moves, roughly, in metres: the One-Euro filter compares speeds in m/s.
_METRES = np.array([1.0, 1.0, 1.0, *(0.3,) * 6, *(0.5,) * 6, *(0.8,) * 6, 0.1, 0.1])


class Follower:
    """A smooth body that follows a noisy one: the cutoffs of a One-Euro filter, in a filter of third order.

    Casiez, Roussel & Vogel 2012: the cutoff is `min_cutoff_hz + speed_cutoff_hz * |speed|`, so a body at rest is
    smoothed a lot and a fast one hardly. Their first-order filter passes the corners of a corrected pose on as jerk;
    here three equal poles follow the target's place and speed, which leaves no lag at constant speed and bounds the
    jerk of a correction of size D by cutoff^3 D. A correction larger than a frame may take is worked off at the pace
    that it may.

    Args:
        fps: Frames a second.
        limit: Jerk in m/s^3 that working off a correction may cause.
        min_cutoff_hz: Cutoff at rest.
        speed_cutoff_hz: What a metre a second adds.
        most_cutoff_hz: Largest cutoff.
    """

    def __init__(
        self, fps: float, limit: float, *, min_cutoff_hz: float = MIN_CUTOFF_HZ,
        speed_cutoff_hz: float = SPEED_CUTOFF_HZ, most_cutoff_hz: float = MOST_CUTOFF_HZ,
    ) -> None:  # fmt: skip
        self._dt, self._limit, self.eased = 1.0 / fps, limit, 0
        self._low, self._more, self._most = min_cutoff_hz, speed_cutoff_hz, most_cutoff_hz
        self._place: F64 | None = None
        self._speed = self._accel = np.zeros(DOFS)
        self.ahead: F64 = np.zeros(DOFS)  # where it will be a frame later, if the body goes on as it does

    def step(self, q: F64, speed: F64) -> F64:
        """The smoothed state (23,) of the next frame, its angles unwrapped.

        Args:
            q: (23,) where the body is.
            speed: (23,) its rates of change.
        """
        if self._place is None:
            self._place, self._speed, self.ahead = q.copy(), speed.copy(), q + speed * self._dt
            return q.copy()
        dt = self._dt
        w = 2 * np.pi * np.minimum(self._low * _PACE + self._more * np.abs(speed) * _METRES, self._most)
        y0 = difference(self._place, q - speed * dt)
        # Of a step D the speed peaks at .27 w D and the jerk at w^3 D.
        way = np.maximum(np.abs(y0) * _METRES, 1e-9)
        slow = np.minimum(STEP_M / (0.27 * w * way * dt), np.cbrt(self._limit / way) / w)
        self.eased += bool((slow < 1.0).any())
        w = w * np.minimum(slow, 1.0)
        y, rate, self._accel = _settling(y0, self._speed - speed, self._accel, w, dt)
        # Turns are counted on: the place stays continuous where the reading's angle wraps.
        self._place = self._place - y0 + speed * dt + y
        self._speed = speed + rate
        self.ahead = self._place - y + speed * dt + _settling(y, rate, self._accel, w, dt)[0]
        return self._place.copy()


def _settling(y0: F64, y1: F64, y2: F64, w: F64, dt: float) -> tuple[F64, F64, F64]:
    """Place, speed and acceleration of three equal poles `w` after a time, from those before it."""
    c1, c2 = y1 + w * y0, (y2 + 2 * w * y1 + w * w * y0) / 2
    fade = np.exp(-w * dt)
    y = (y0 + c1 * dt + c2 * dt * dt) * fade
    rate = (c1 + 2 * c2 * dt) * fade - w * y
    return y, rate, 2 * c2 * fade - 2 * w * rate - w * w * y


@dataclass(slots=True)
class _Foot:
    held: F64 | None = None
    fading: F64 = field(default_factory=lambda: np.zeros(3))
    left: int = 0
    length: int = BLEND_FRAMES


class LiveCleaner:
    """Cleanup of one body, frame by frame, without looking ahead.

    Args:
        skeleton: The body.
        fps: Frames a second.
        limit: Jerk limit in m/s^3, None takes `cleanup.jerk_limit`.
        lock: Hold standing feet.
    """

    def __init__(self, skeleton: Skeleton, fps: float, *, limit: float | None = None, lock: bool = True) -> None:
        self._dt, self._lock = 1.0 / fps, lock
        self._leg = np.asarray(skeleton.thigh) + np.asarray(skeleton.shank)
        self._rest = np.asarray(skeleton.ank0)
        self._hips = np.asarray(skeleton.op, np.float64)[:2]
        self._follower = Follower(fps, EASE_SHARE * (jerk_limit(fps) if limit is None else limit))
        self._feet = (_Foot(), _Foot())
        self._drop = 0.0

    def step(self, q: F64, speed: F64, contacts: F64) -> F64:
        """The cleaned state (23,) of the next frame.

        Args:
            q: (23,) state.
            speed: (23,) its rates of change.
            contacts: (2,) 0 or 1.
        """
        out = self._follower.step(q, speed)
        if not self._lock:
            return out
        return self._stood(out, out[ROOT] + self._hips @ pelvis_rotation(out).T, contacts)

    @property
    def standing(self) -> F64:
        """(2,) 1 for each foot that is held."""
        return np.array([float(foot.held is not None) for foot in self._feet])

    @property
    def eased(self) -> int:
        """Frames in which a correction was worked off more slowly than it came."""
        return self._follower.eased

    @property
    def ahead(self) -> F64:
        """(23,) where the smoothed body will be a frame later, if it goes on as it does; feet not held."""
        return self._follower.ahead

    def _stood(self, q: F64, hips: F64, contacts: F64) -> F64:
        ankles = ankles_of(q[None], self._leg)[0]
        seen = ankles.copy()
        for side, foot in enumerate(self._feet):
            ankles[side] = self._held(foot, ankles[side], contacts[side] >= 0.5, float(self._rest[side]))
        standing = [k for k in (0, 1) if self._feet[k].held is not None]
        need = self._needed(hips, ankles, standing)
        self._drop = max(min(need, self._drop + DROP_M_S * self._dt), self._drop * (1 - 6.0 * self._dt))
        out = q.copy()
        out[ROOT.start + 1] -= self._drop
        reached = self._clamped(hips, ankles)
        for side in standing:
            if np.sqrt(((reached[side] - ankles[side]) ** 2).sum()) > TORN_M:
                _let_go(self._feet[side], reached[side] - seen[side])
        return np.asarray(set_ankles(out[None], reached[None], self._leg)[0])

    def _held(self, foot: _Foot, place: F64, down: bool, floor: float) -> F64:
        """Where the ankle goes: held while it stands, eased back over a few frames once it does not."""
        slipped = foot.held is not None and np.sqrt(((foot.held - place) ** 2).sum()) > SLIP_M
        if down and not foot.left and not slipped:
            if foot.held is None:
                foot.held = place.copy()
            # It may have come down into the floor: it is lifted out of it, not thrown.
            foot.held[1] += np.clip(floor - foot.held[1], 0.0, RISE_M_S * self._dt)
            return foot.held.copy()
        if foot.held is not None:
            _let_go(foot, foot.held - place)
        elif foot.left:
            foot.left -= 1
        return place + _faded(foot)

    def _needed(self, hips: F64, ankles: F64, standing: list[int]) -> float:
        """How far the pelvis must come down for the feet that stand."""
        need = 0.0
        for side in standing:
            away = hips[side] - ankles[side]
            flat = float(away[0] ** 2 + away[2] ** 2)
            reach = float(self._leg[side]) - SLACK_M
            if flat < reach * reach:
                need = max(need, float(away[1]) - np.sqrt(reach * reach - flat))
        return need

    def _clamped(self, hips: F64, ankles: F64) -> F64:
        hips = hips - np.array([0.0, self._drop, 0.0])
        line = ankles - hips
        length = np.sqrt((line**2).sum(-1))
        factor = np.minimum(1.0, (self._leg - SLACK_M) / np.maximum(length, 1e-9))
        return np.asarray(hips + line * factor[:, None])


def _let_go(foot: _Foot, offset: F64) -> None:
    """End a hold: the offset from where the foot is seen fades, the larger the longer."""
    way = float(np.sqrt((offset**2).sum()))
    foot.fading, foot.held = offset, None
    foot.length = foot.left = max(BLEND_FRAMES, int(np.ceil(1.875 * way / STEP_M)))


def _faded(foot: _Foot) -> F64:
    s = 1 - foot.left / (foot.length + 1) if foot.left else 1.0
    return np.asarray(foot.fading * (1 - s * s * s * (10 - 15 * s + 6 * s * s)))


class ContactSwitch:
    """Contacts of a live body: thresholds on height and speed of the ankles, with hysteresis; never filtered.

    A foot comes down under 0.35 m/s and 3 cm above its resting height, and is up above 0.6 m/s or 6 cm. What a stream
    says of a foot wins over that while it is fresh.

    Args:
        skeleton: The body.
    """

    DOWN, UP = (0.35, 0.03), (0.60, 0.06)

    def __init__(self, skeleton: Skeleton) -> None:
        self._leg = np.asarray(skeleton.thigh) + np.asarray(skeleton.shank)
        self._rest = np.asarray(skeleton.ank0)
        self._down = np.zeros(2, bool)
        self._doubt = np.zeros(2, np.int64)

    def step(self, q: F64, speed: F64, told: F64 | None = None) -> F64:
        """(2,) 0 or 1 of a state and its rates; `told` (2,) is what a stream says, NaN = nothing."""
        step = 1e-3
        here, next_ = ankles_of(np.stack([q, q + step * speed]), self._leg)
        fast = np.sqrt(((next_ - here) ** 2).sum(-1)) / step
        high = here[:, 1] - self._rest
        limit_speed = np.where(self._down, self.UP[0], self.DOWN[0])
        limit_height = np.where(self._down, self.UP[1], self.DOWN[1])
        differs = ((fast < limit_speed) & (high < limit_height)) != self._down
        self._doubt = np.where(differs, self._doubt + 1, 0)
        self._down ^= self._doubt >= SURE_FRAMES
        if told is not None:
            said = np.isfinite(told)
            self._down = np.where(said, np.nan_to_num(told) >= 0.5, self._down)
        return self._down.astype(np.float64)
