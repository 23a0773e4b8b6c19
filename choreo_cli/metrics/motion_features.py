"""Entries of set metrics on kinetic and manual features: Frechet distance, kernel distance, diversity."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.metrics import motion_kinetic as kinetic
from choreo_cli.metrics.motion_clip import FIXED_FPS, SHORTEST_S, WINDOW_S, Clip, mended, resampled, windows, with_hands
from choreo_cli.metrics.motion_manual import Lengths, manual32
from choreo_cli.metrics.motion_measures import asked_for
from choreo_cli.metrics.motion_record import Entry, nothing
from choreo_cli.metrics.motion_sets import (
    SetDistance,
    compared,
    diversity,
    frechet,
    frechet_published,
    kernel_mmd,
    mean_distance,
    normalised,
    scaled,
)
from formats.metrics import entry

F64 = NDArray[np.float64]

FIRST_FRAMES = 1200
NO_REFERENCE = "no real clips: give --reference MOTIONS"
NO_LENGTHS = "the peers' body lengths come from a licensed model: give --manual-lengths ARM,SHOULDERS,HIPS"


@dataclass(frozen=True, slots=True)
class Feature:
    """A feature vector: its letter in FID_k / FID_g, its name, and how it is computed (None = clip too short)."""

    letter: str
    name: str
    of: Callable[[Clip], F64 | None]


def set_entries(
    clips: Sequence[Clip], real: Sequence[Clip], mode: str, lengths: Lengths | None, rng: np.random.Generator
) -> list[Entry]:
    """Every set metric that was asked for; without real clips each says so.

    Args:
        clips: Generated clips.
        real: Real clips.
        mode: See `motion_measures.MODES`.
        lengths: The peers' body lengths, for their manual features.
        rng: Draws of subsets.
    """
    out: list[Entry] = []
    if asked_for(mode, "fixed"):
        for f in fixed_features():
            out += _fixed(f, clips, real, rng)
    for reference in ("compat:bailando", "compat:mint"):
        if asked_for(mode, reference):
            for f in published_features(reference, lengths):
                out += _published(f, clips, real, reference, lengths)
    return out


def fixed_features() -> tuple[Feature, Feature]:
    """Repaired features of a 30 fps window: 66 kinetic numbers of 22 joints, 32 relations by the body's own lengths.

    Hands are left out: copies of the wrists would make the covariance singular.
    """
    return (
        Feature("k", "kinetic66", lambda c: kinetic.kinetic(c.body, c.fps, "fixed")),
        Feature("g", "manual32", lambda c: manual32(c.body, c.fps)),
    )


def published_features(reference: str, lengths: Lengths | None) -> tuple[Feature, Feature]:
    """Features as the references compute them at 60 fps on 24 joints."""

    def manual(clip: Clip) -> F64 | None:
        return None if lengths is None else manual32(with_hands(clip.joints), clip.fps, lengths, published=True)

    return (
        Feature("k", "kinetic72", lambda c: kinetic.kinetic(with_hands(c.joints), c.fps, reference)),
        Feature("g", "manual32", manual),
    )


def features_of(clips: Sequence[Clip], feature: Feature, fps: float, cut: Callable[[Clip], list[Clip]]) -> F64:
    """(N, D) features of every piece of every clip; (0, 0) when there is none."""
    rows = []
    for clip in clips:
        whole = mended(clip)
        if whole.seconds >= SHORTEST_S:
            rows += [v for v in (feature.of(p) for p in cut(resampled(whole, fps))) if v is not None]
    return np.stack(rows) if rows else np.empty((0, 0))


def _fixed(f: Feature, clips: Sequence[Clip], real: Sequence[Clip], rng: np.random.Generator) -> list[Entry]:
    names = (f"fid_{f.letter}", f"mean_distance_{f.letter}", f"kernel_distance_{f.letter}", f"div_{f.letter}")
    if not real:
        return [nothing(n, "1", "higher" if n.startswith("div") else "lower", "fixed", NO_REFERENCE) for n in names]
    made, truth = (features_of(c, f, FIXED_FPS, windows) for c in (clips, real))
    if not len(made) or not len(truth):
        return [nothing(n, "1", "lower", "fixed", "no clip is long enough for a feature") for n in names]
    about = {
        "features": f.name, "window_s": WINDOW_S, "n_generated": len(made), "n_real": len(truth), "joints": 22,
        "normalised_by": "real mean and sd", "floor_of": "disjoint real subsets of the same n",
    }  # fmt: skip
    few: Callable[[int], int] = lambda dims: 2  # noqa: E731
    found = (
        compared(truth, made, frechet, rng),
        compared(truth, made, mean_distance, rng, least=few),
        compared(truth, made, kernel_mmd, rng, least=few),
    )
    out = [_distance(name, d, about) for name, d in zip(names, found, strict=False)]
    a, b, _ = scaled(truth, made)
    return [*out, _spread(names[3], diversity(b), diversity(a), len(made), "fixed", FIXED_FPS, about)]


def _distance(name: str, d: SetDistance, about: dict[str, Any]) -> Entry:
    params = {
        "variant": name, "mode": "fixed", "fps": FIXED_FPS, **about, "n_each_side": d.n, "dims": d.dims,
        "dropped_features": d.dropped, "sd": d.sd, "floor_sd": d.floor_sd, "ci_of": "20 subsets",
    }  # fmt: skip
    return entry(
        f"motion.{name}", d.value, "1", "lower", n=d.n, ci=d.ci, why=d.why, params=params,
        floor=None if d.floor is None else ("real against real", d.floor),
        status="ok" if d.value is not None else "insufficient",
    )  # fmt: skip


def _spread(
    name: str, value: float | None, real: float | None, n: int, mode: str, fps: float, about: dict[str, Any]
) -> Entry:
    return entry(
        f"motion.{name}", value, "1", "higher", n=n, floor=None if real is None else ("real clips", real),
        status="ok" if value is not None else "insufficient",
        why=None if value is not None else "one clip has no spread",
        params={"variant": name, "mode": mode, "fps": fps, **about},
    )  # fmt: skip


def _published(
    f: Feature, clips: Sequence[Clip], real: Sequence[Clip], mode: str, lengths: Lengths | None
) -> list[Entry]:
    hands = "" if all(c.joints.shape[1] == 24 for c in (*clips, *real)) else "_j22"
    who = mode.split(":")[1]
    names = [f"{kind}_{f.letter}_{who}@60fps{hands}" for kind in ("fid", "div")]
    missing = NO_LENGTHS if f.letter == "g" and lengths is None else None if real else NO_REFERENCE
    if missing:
        return [nothing(names[0], "1", "lower", mode, missing), nothing(names[1], "1", "higher", mode, missing)]
    made, truth = (features_of(c, f, kinetic.FPS, _head) for c in (clips, real))
    if not len(made) or not len(truth):
        return [nothing(n, "1", "lower", mode, "no clip is long enough for a feature") for n in names]
    a, b = normalised(truth, made)
    value = frechet_published(a, b, mode)
    n, dims = min(len(made), len(truth)), made.shape[1]
    about = {
        "features": f.name, "n_generated": len(made), "n_real": len(truth), "first_frames": FIRST_FRAMES, "dims": dims,
        "biased": n < dims + 1, "hands": "wrists stand in for hands" if hands else "own",
    }  # fmt: skip
    why = "two clips a side are needed, or the square root is not real" if value is None else None
    status = "insufficient" if value is None else "edge" if n < dims + 1 else "ok"
    fid = entry(
        f"motion.{names[0]}", value, "1", "lower", n=len(made), status=status, why=why,
        params={"variant": names[0], "mode": mode, "fps": kinetic.FPS, **about},
    )  # fmt: skip
    return [fid, _spread(names[1], diversity(b), diversity(a), len(made), mode, kinetic.FPS, about)]


def _head(clip: Clip) -> list[Clip]:
    """The first 1200 frames, as the references cut."""
    from dataclasses import replace

    contacts = None if clip.contacts is None else clip.contacts[:FIRST_FRAMES]
    return [replace(clip, joints=clip.joints[:FIRST_FRAMES], contacts=contacts)]
