"""Training windows and held-out takes for lifting, from clips seen by random cameras or from recorded pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from choreo_cli.motion.lifting_cameras import DRAWS, DROP_LIMB, LIMBS, WEDGE_RAD, Views, look, mirrored
from choreo_cli.motion.lifting_clips import Clip
from choreo_cli.motion.lifting_pairs import Pair
from choreo_cli.motion.lifting_points import POINTS, centred, longest, scaled
from choreo_cli.motion.lifting_score import Take
from formats.foreign.joints import COCO_17

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

STRIDE = 5
TAKE_FRAMES = 600
CAMERAS = 4  # that see every held-out clip
CHECK_VIEWS = 512
_SWAP = np.array([COCO_17.index({"l": "r", "r": "l"}[n[0]] + n[1:]) if n[1] == "_" else 0 for n in COCO_17])


@dataclass(frozen=True, slots=True)
class Windows:
    """What is learned from: `x` (B, W * 51), `joints` (B, 22, 3) statures, `scale` (B,); unusable rows are 0, NaN."""

    x: F32
    joints: F32
    scale: F32


class Source(Protocol):
    """Where training windows come from."""

    @property
    def n_items(self) -> int: ...

    def windows(self, items: I64, epoch: int) -> Windows: ...

    def checks(self) -> Windows | None: ...

    def takes(self) -> list[Take]: ...

    def cameras(self) -> str: ...


@dataclass(slots=True)
class Projected:
    """Clips that random cameras look at: another camera, body and noise every time an item comes up.

    Args:
        clips: All clips with their splits.
        window: Frames the network sees.
        seed: Of every draw.
    """

    clips: Sequence[Clip]
    window: int
    seed: int
    starts: I64 | None = None

    @property
    def n_items(self) -> int:
        return len(self._starts())

    def _starts(self) -> I64:
        """(n, 2) clip and first frame of each item."""
        if self.starts is None:
            rows = [
                (k, a) for k, c in enumerate(self.clips) if c.split == "train"
                for a in range(0, max(1, len(c.joints) - self.window + 1), STRIDE)
            ]  # fmt: skip
            self.starts = np.array(rows, np.int64).reshape(-1, 2)
        return self.starts

    def windows(self, items: I64, epoch: int) -> Windows:
        """Training windows; the draws of item k follow from (seed, epoch, k)."""
        rngs = [np.random.default_rng((self.seed, epoch, k)) for k in items.tolist()]
        draws = np.stack([r.random(DRAWS) for r in rngs])
        noise = np.stack([r.standard_normal((self.window, POINTS, 3)) for r in rngs])
        return _of_views(look(self._cut(self._starts()[items], draws[:, -1]), draws, noise))

    def _cut(self, rows: I64, jitter: F64) -> F64:
        """(B, W, 22, 3): windows that start up to a stride later; a short clip repeats its first frame."""
        out = []
        for (k, start), u in zip(rows.tolist(), jitter.tolist(), strict=True):
            joints = self.clips[k].joints
            a = min(start + int(u * STRIDE), max(0, len(joints) - self.window))
            part = joints[a : a + self.window]
            out.append(np.concatenate([np.repeat(part[:1], self.window - len(part), 0), part]))
        return np.stack(out)

    def checks(self) -> Windows | None:
        """Windows of the validation clips through cameras of the test, without changes to the body."""
        clips = [k for k, c in enumerate(self.clips) if c.split == "val"]
        if not clips:
            return None
        rng = np.random.default_rng((self.seed, 1))
        which = rng.choice(clips, CHECK_VIEWS)
        rows = np.array(
            [(k, rng.integers(0, max(1, len(self.clips[k].joints) - self.window))) for k in which], np.int64
        )
        noise = rng.standard_normal((CHECK_VIEWS, self.window, POINTS, 3))
        joints = self._cut(rows, np.zeros(CHECK_VIEWS))
        return _of_views(look(joints, rng.random((CHECK_VIEWS, DRAWS)), noise, held_out=True, vary=False))

    def takes(self) -> list[Take]:
        """The held-out clips, each through cameras that stand where none stood in training."""
        found = []
        for k, clip in enumerate(self.clips):
            for camera in range(CAMERAS if clip.split == "test" else 0):
                rng = np.random.default_rng((self.seed, 2, k, camera))
                joints = clip.joints[None, :TAKE_FRAMES]
                noise = rng.standard_normal((1, joints.shape[1], POINTS, 3))
                v = look(joints, rng.random((1, DRAWS)), noise, held_out=True, vary=False)
                tall = float(v.height_m[0])
                found.append(Take(clip.name, str(camera), v.points[0], v.confidence[0], v.joints[0], tall))
        return found

    def cameras(self) -> str:
        """Which cameras the held-out clips are seen by."""
        return f"random, within {np.degrees(WEDGE_RAD):.0f} degrees of eight azimuths that no training camera has"


@dataclass(slots=True)
class Paired:
    """Recorded pairs; the camera is the recording's own, so held-out recordings are held-out cameras.

    Args:
        pairs: All of them.
        splits: Split of each group.
        window: Frames the network sees.
        seed: Of every draw.
    """

    pairs: Sequence[Pair]
    splits: dict[str, str]
    window: int
    seed: int

    def _rows(self, split: str) -> I64:
        """(n, 2) pair and last frame of each window."""
        rows = [
            (k, t) for k, p in enumerate(self.pairs) if self.splits[p.group] == split
            for t in range(min(self.window, len(p.points)) - 1, len(p.points))
        ]  # fmt: skip
        return np.array(rows, np.int64).reshape(-1, 2)

    @property
    def n_items(self) -> int:
        return len(self._rows("train"))

    def windows(self, items: I64, epoch: int) -> Windows:
        """Training windows, mirrored or not, limbs dropped; the draws of item k follow from (seed, epoch, k)."""
        draws = np.stack([np.random.default_rng((self.seed, epoch, k)).random(8) for k in items.tolist()])
        return self._cut(self._rows("train")[items], draws)

    def _cut(self, rows: I64, draws: F64 | None) -> Windows:
        frames = np.maximum(rows[:, 1:] + np.arange(1 - self.window, 1), 0)
        points, seen, joints, px, tall = [], [], [], [], []
        for (k, t), span in zip(rows.tolist(), frames, strict=True):
            p = self.pairs[k]
            points.append(p.points[span])
            seen.append(p.confidence[span])
            joints.append(p.joints[t])
            px.append(p.px_per_m[t])
            tall.append(p.height_m)
        xy, sure, body = np.stack(points), np.stack(seen), np.stack(joints)
        if draws is not None:
            flip = draws[:, 0] < 0.5
            xy[flip] = xy[flip][:, :, _SWAP] * np.array([-1, 1], np.float32)
            sure[flip] = sure[flip][:, :, _SWAP]
            body[flip] = mirrored(body[flip])
            for j, limb in enumerate(LIMBS):
                hit = np.flatnonzero(draws[:, 1 + j] < DROP_LIMB)
                sure[np.ix_(hit, np.arange(self.window), np.array(limb))] = 0
        heights = np.array(tall)
        return _windows(xy, sure, body, heights, np.array(px))

    def checks(self) -> Windows | None:
        """Windows of the validation groups as they were recorded."""
        rows = self._rows("val")
        if not len(rows):
            return None
        return self._cut(rows[:: max(1, len(rows) // CHECK_VIEWS)], None)

    def takes(self) -> list[Take]:
        """The held-out recordings."""
        return [
            Take(p.name, "own", p.points, p.confidence, p.joints, p.height_m)
            for p in self.pairs if self.splits[p.group] == "test"
        ]  # fmt: skip

    def cameras(self) -> str:
        """Which cameras the held-out clips are seen by."""
        return "their own; held out with the recording"


def _of_views(v: Views) -> Windows:
    return _windows(v.points, v.confidence, v.joints[:, -1], v.height_m, v.px_per_m[:, -1])


def _windows(points: F32, confidence: F32, joints: F64, heights: F64, px: F64) -> Windows:
    b, w = points.shape[:2]
    about, torso, _ = centred(points.reshape(b * w, POINTS, 2), confidence.reshape(b * w, POINTS))
    torso = torso.reshape(b, w)
    x = scaled(about.reshape(b, w, POINTS, 3), torso)
    usable = np.isfinite(x).all(1)
    body = (joints / heights[:, None, None]).astype(np.float32)
    body[~usable] = np.nan
    scale = np.where(usable, px * heights / longest(torso), np.nan)
    return Windows(np.nan_to_num(x), body, scale.astype(np.float32))
