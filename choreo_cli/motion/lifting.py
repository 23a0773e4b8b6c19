"""2-D image points to 22 joints in camera axes: the trained lifting network in numpy, a clip or a frame at a time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from choreo_cli.errors import DataError
from choreo_cli.motion.lifting_points import FEATURES, MAX_WINDOW, POINTS, centred, longest, scaled, windows
from formats.checkpoint import Checkpoint, need, read
from formats.errors import FormatError

F32 = NDArray[np.float32]

RECIPE = "lifting"
HEIGHT_M = 1.70
JOINTS = 22
OUTPUTS = 3 * (JOINTS - 1) + 1  # every joint but the pelvis, and the scale
SCALE = 3.3  # a usual stature over the length of the torso
ROWS = 4096


def shapes(window: int, hidden: int, blocks: int) -> dict[str, tuple[int, ...]]:
    """Name and shape of every array of a checkpoint."""
    found: dict[str, tuple[int, ...]] = {"first.weight": (hidden, window * FEATURES), "first.bias": (hidden,)}
    for k in range(blocks):
        found |= {f"blocks.{k}.weight": (hidden, hidden), f"blocks.{k}.bias": (hidden,)}
    return found | {"last.weight": (OUTPUTS, hidden), "last.bias": (OUTPUTS,)}


class Lifter:
    """A trained lifting network.

    Axes of the result: x to the right of the image, y up, z towards the camera, the pelvis at 0. One camera cannot tell
    a small body from one farther away: metres come from `height_m`, which is a guess unless it was measured.

    Args:
        arrays: Weights, named as in `shapes`.
        window: Frames the network looks at, the current one last.
        blocks: Residual layers.
        height_m: Stature of who is seen.
        facts: The card's facts.
    """

    def __init__(
        self, arrays: Mapping[str, NDArray[Any]], window: int, blocks: int, *, height_m: float = HEIGHT_M,
        facts: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        if not 0.1 <= height_m <= 3.0:
            raise DataError(f"a stature of {height_m:g} m", hint="need metres, 0.1 to 3")
        weights = {k: np.asarray(v, np.float32) for k, v in arrays.items()}
        self._layers = [
            (np.ascontiguousarray(weights[f"{n}.weight"].T), weights[f"{n}.bias"])
            for n in ("first", *(f"blocks.{k}" for k in range(blocks)), "last")
        ]
        self.window, self.height_m, self.facts = window, height_m, dict(facts or {})
        self._points = np.zeros((1, window, POINTS, 3), np.float32)
        self._torso = np.full((1, window), np.nan, np.float32)
        self._empty = True

    @staticmethod
    def open(folder: str | Path, *, height_m: float = HEIGHT_M) -> Lifter:
        """The network of a run folder of `choreo train lifting`.

        Raises:
            FormatError: no lifting checkpoint, or a damaged one.
            DataError: a stature that nobody has.
        """
        return Lifter.of(read(folder, RECIPE), height_m=height_m)

    @staticmethod
    def of(model: Checkpoint, *, height_m: float = HEIGHT_M) -> Lifter:
        """The network of a checkpoint. Raises FormatError when its card and its weights do not fit."""
        arch = [v for k in ("window", "hidden", "blocks") if type(v := model.arch.get(k)) is int and 0 <= v <= 4096]
        if len(arch) != 3 or not 1 <= arch[0] <= MAX_WINDOW:
            raise FormatError("a lifting network of another architecture", file=model.folder)
        need(model, shapes(*arch))
        return Lifter(model.arrays, arch[0], arch[2], height_m=height_m, facts=model.facts)

    def lift(self, points: ArrayLike, confidence: ArrayLike) -> F32:
        """Joints of a clip; frame t depends on frames t - window + 1 to t.

        Args:
            points: (T, 17, 2) COCO points in pixels of square pixels, y down; NaN where missing.
            confidence: (T, 17) 0..1, 0 where missing.

        Returns:
            (T, 22, 3) metres in camera axes, the pelvis at 0; NaN where nothing can be said: no hip in the frame.

        Raises:
            DataError: other shapes.
        """
        return self.lift_scaled(points, confidence)[0]

    def lift_scaled(self, points: ArrayLike, confidence: ArrayLike) -> tuple[F32, F32]:
        """`lift`, and (T,) how many pixels a metre at the pelvis takes: its distance is the focal length over that."""
        xy, seen = _checked(points, confidence)
        about, torso, root = centred(xy, seen)
        size = longest(torso[np.maximum(np.arange(len(xy))[:, None] + np.arange(1 - self.window, 1), 0)])
        joints, scale = np.empty((len(xy), JOINTS, 3), np.float32), np.empty(len(xy), np.float32)
        for k in range(0, len(xy), ROWS):
            before = max(0, k - self.window + 1)
            part = slice(before, k + ROWS)
            made = windows(about[part], torso[part], self.window)[k - before :]
            joints[k : k + ROWS], scale[k : k + ROWS] = self.bodies(made)
        lost = np.isnan(root).any(-1) | np.isnan(size)
        joints[lost], scale[lost] = np.nan, np.nan
        return joints * np.float32(self.height_m), scale * size / np.float32(self.height_m)

    def step(self, points: ArrayLike, confidence: ArrayLike) -> F32:
        """Joints (22, 3) of the next frame: the same numbers as `lift`, one frame at a time.

        Args:
            points: (17, 2) pixels, y down; NaN where missing.
            confidence: (17,) 0..1, 0 where missing.

        Raises:
            DataError: other shapes.
        """
        xy, seen = _checked(np.asarray(points)[None], np.asarray(confidence)[None])
        about, torso, root = centred(xy, seen)
        if self._empty:
            self._points[:], self._torso[:], self._empty = about, torso, False
        else:
            self._points[:, :-1], self._torso[:, :-1] = self._points[:, 1:], self._torso[:, 1:]
            self._points[:, -1], self._torso[:, -1] = about, torso
        if np.isnan(root).any() or np.isnan(self._torso).all():
            return np.full((JOINTS, 3), np.nan, np.float32)
        return np.asarray(self.bodies(scaled(self._points, self._torso))[0][0] * np.float32(self.height_m), np.float32)

    def reset(self) -> None:
        """Forget the frames seen so far, for the next person or the next take."""
        self._empty = True

    def bodies(self, x: F32) -> tuple[F32, F32]:
        """Joints (B, 22, 3) in statures and the stature over the torso length (B,), of inputs (B, window * 51)."""
        h = np.maximum(x @ self._layers[0][0] + self._layers[0][1], np.float32(0))
        for weight, bias in self._layers[1:-1]:
            h = h + np.maximum(h @ weight + bias, np.float32(0))
        out = h @ self._layers[-1][0] + self._layers[-1][1]
        joints = np.zeros((len(x), JOINTS, 3), np.float32)
        joints[:, 1:] = out[:, :-1].reshape(len(x), JOINTS - 1, 3)
        return joints, np.asarray(np.float32(SCALE) * np.exp(np.clip(out[:, -1], -4, 4)), np.float32)


def _checked(points: ArrayLike, confidence: ArrayLike) -> tuple[F32, F32]:
    xy, seen = np.asarray(points, np.float32), np.asarray(confidence, np.float32)
    if xy.ndim != 3 or xy.shape[1:] != (POINTS, 2) or seen.shape != xy.shape[:2]:
        raise DataError(
            f"points {xy.shape} with confidence {seen.shape}", hint="need (T, 17, 2) COCO points and (T, 17)"
        )
    return xy, seen
