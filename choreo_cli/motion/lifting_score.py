"""How wrong lifted joints are: error per joint, after alignment, against constant bones, and the time of a frame."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.metrics.bootstrap import session_mean
from choreo_cli.motion.lifting import Lifter
from choreo_cli.motion.lifting_baseline import lift_constant
from formats.metrics import entry

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

GOAL_MS = 2.0
STEPS = 2000
GUESS = "the depth scale of one camera is a guess from a stature of 1.70 m; errors with the true stature are given too"


@dataclass(frozen=True, slots=True)
class Take:
    """A held-out clip as one camera saw it.

    Args:
        name: The clip.
        camera: Which camera.
        points: (T, 17, 2) pixels, y down.
        confidence: (T, 17).
        joints: (T, 22, 3) true metres in camera axes, pelvis 0; NaN where unknown.
        height_m: True stature.
    """

    name: str
    camera: str
    points: F32
    confidence: F32
    joints: F64
    height_m: float


def mpjpe(found: NDArray[Any], true: NDArray[Any]) -> float:
    """Mean distance (unit of the input) over joints and frames of (T, 22, 3), pelvis on pelvis; NaN joints left out.

    Ionescu et al., Human3.6M, TPAMI 36 (2014). NaN when nothing can be compared.
    """
    gap = np.linalg.norm(np.asarray(found, np.float64) - true, axis=-1)
    known = np.isfinite(gap)
    return float(gap[known].mean()) if known.any() else float("nan")


def pa_mpjpe(found: NDArray[Any], true: NDArray[Any]) -> float:
    """`mpjpe` after the best rotation, scale and shift of every frame (Umeyama, TPAMI 13, 1991); whole frames only."""
    a, b = np.asarray(found, np.float64), np.asarray(true, np.float64)
    whole = np.isfinite(a).all((1, 2)) & np.isfinite(b).all((1, 2))
    if not whole.any():
        return float("nan")
    a, b = a[whole], b[whole]
    a, b = a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True)
    u, s, vt = np.linalg.svd(np.swapaxes(a, 1, 2) @ b)
    flip = np.ones((len(a), 3))
    flip[:, 2] = np.sign(np.linalg.det(u @ vt))
    turn = (u * flip[:, None]) @ vt
    size = (s * flip).sum(-1) / np.maximum((a**2).sum((1, 2)), 1e-12)
    return float(np.linalg.norm(size[:, None, None] * (a @ turn) - b, axis=-1).mean())


def entries_of(model: Lifter, takes: Sequence[Take], seed: int, params: dict[str, Any]) -> list[dict[str, Any]]:
    """Errors over held-out clips, the clip being the unit of the intervals, and the latency of a frame."""
    lifted = [model.lift(t.points, t.confidence) for t in takes]
    plain = [lift_constant(t.points, t.confidence, height_m=model.height_m) for t in takes]
    grown = [t.height_m / model.height_m for t in takes]
    lost = float(np.mean(np.concatenate([np.isnan(j[:, 0, 0]) for j in lifted])))
    told = {**params, "frames": sum(len(t.points) for t in takes), "frames_without_result": lost}
    found = []
    for name, metric, known in (
        ("mpjpe", mpjpe, False), ("mpjpe_known_height", mpjpe, True), ("pa_mpjpe", pa_mpjpe, False),
    ):  # fmt: skip
        scales = grown if known else [1.0] * len(takes)
        ours = _by_clip(takes, [metric(j * k, t.joints) for j, k, t in zip(lifted, scales, takes, strict=True)])
        theirs = _by_clip(takes, [metric(j * k, t.joints) for j, k, t in zip(plain, scales, takes, strict=True)])
        found.append(_error(f"lifting.{name}", ours, theirs, seed, told))
    return [*found, latency_entry(model, takes[0])]


def latency_entry(model: Lifter, take: Take, clock: Callable[[], float] = time.perf_counter) -> dict[str, Any]:
    """95th percentile of the time that `step` takes."""
    model.reset()
    spent = []
    for k in range(STEPS):
        points, confidence = take.points[k % len(take.points)], take.confidence[k % len(take.points)]
        start = clock()
        model.step(points, confidence)
        spent.append(clock() - start)
    model.reset()
    return entry(
        "lifting.latency_p95_ms", 1e3 * float(np.quantile(spent, 0.95)), "ms", "lower", n=len(spent),
        goal=("<=", GOAL_MS), params={"p50_ms": 1e3 * float(np.median(spent)), "form": "numpy, one frame"},
    )  # fmt: skip


def _by_clip(takes: Sequence[Take], values: Sequence[float]) -> list[float]:
    """One value a clip: the mean over its cameras."""
    clips: dict[str, list[float]] = {}
    for take, value in zip(takes, values, strict=True):
        if np.isfinite(value):
            clips.setdefault(take.name, []).append(value)
    return [float(np.mean(v)) for v in clips.values()]


def _error(name: str, ours: list[float], theirs: list[float], seed: int, params: dict[str, Any]) -> dict[str, Any]:
    if not ours or not theirs:
        return entry(name, None, "mm", "lower", n=0, why="no frame could be compared", params=params)
    mean, interval, why = session_mean(ours, np.random.default_rng(seed))
    baseline = float(np.mean(theirs))
    told = {**params, "interval": why or "bootstrap over clips"}
    return entry(
        name, 1e3 * mean, "mm", "lower", n=len(ours), ci=None if interval is None else [1e3 * v for v in interval],
        baseline=("constant bones", 1e3 * baseline), goal=("<=", 1e3 * baseline), params=told,
    )  # fmt: skip
