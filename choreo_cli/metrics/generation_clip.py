"""One generated dance judged: sanity, music, contact before and after the lock, smoothness, limits, features.

The same numbers, taken the same way, of held-out dances are the level to compare with.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from choreo_cli.metrics.motion_beats import bas_fixed
from choreo_cli.metrics.motion_clip import FIXED_FPS, Clip, fixed_rate, low_passed
from choreo_cli.metrics.motion_features import fixed_features
from choreo_cli.metrics.motion_measures import limit_share
from choreo_cli.metrics.motion_music import STEP_S, Music
from choreo_cli.metrics.motion_musicality import MusicalityScorer
from choreo_cli.metrics.motion_sanity import SanityChecker
from choreo_cli.metrics.motion_skate import slide
from choreo_cli.metrics.motion_smooth import CUT_HZ, jerk
from formats.motion_npz import Skeleton

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

VERSION = "generation-clip-3"  # part of every key under which a judged clip is kept
FIGURES = (
    "sanity", "musicality", "beat_alignment", "shuffled", "slide", "slide_after_lock", "contact_fraction", "jerk",
    "jerk_p99", "clamp_rate", "limits_after_clamp",
)  # fmt: skip
NAN = float("nan")


@dataclass(frozen=True, slots=True)
class Judged:
    """What was found of one clip.

    Args:
        figures: One number for each of `FIGURES`; NaN where it has none.
        reasons: Why it is not sane.
        parts: The parts of its musicality, corrected for chance.
        kinetic, manual: (66,) and (32,) features for set distances; NaN where the clip gives none.
    """

    figures: dict[str, float]
    reasons: tuple[str, ...]
    parts: dict[str, float]
    kinetic: F64
    manual: F64


def judge(
    channels: F32, skeleton: Skeleton, fps: float, music: Music | None, decoy: Music | None = None, *, seed: int = 0
) -> Judged:
    """Judge raw channels (T, 25) of one body against the music that was heard.

    `shuffled` is the beat alignment against a song that was not heard: the control.

    `slide` is before any lock, of the channels as they came; `slide_after_lock` after clamping and the exact foot
    lock, whose contacts are the clip's own but where a foot stepped. `contact_fraction` is of what the lock leaves, so
    that feet let go, which cannot slide, are missed there. A clip that is not finite fails `sanity` and has no other
    figure.
    """
    x = np.asarray(channels, np.float32)
    if not np.isfinite(x).all():
        bad = int((~np.isfinite(x)).sum())
        found = {**dict.fromkeys(FIGURES, NAN), "sanity": 0.0}
        return Judged(found, (f"finite: {bad} values are not",), {}, np.full(66, NAN), np.full(32, NAN))
    clip = clip_of(x, skeleton, fps)
    verdict = SanityChecker().check(clip)
    at = fixed_rate(clip)
    smooth = jerk(low_passed(at.body, FIXED_FPS, CUT_HZ), FIXED_FPS) if at.frames >= 8 else None
    feet, held = slide(at), locked(x, skeleton, fps)
    after = slide(held)
    kinetic, manual = (f.of(at) for f in fixed_features())
    found = {
        "sanity": float(verdict.passed),
        "slide": _number(feet and feet.m_per_s),
        "slide_after_lock": _number(after and after.m_per_s),
        "contact_fraction": _number(after and after.contact_fraction),
        "jerk": _number(smooth and smooth.mean),
        "jerk_p99": _number(smooth and smooth.p99),
        "clamp_rate": _number(clip.clamped_share),
        "limits_after_clamp": _number(limit_share(held)),
    }
    parts = musical(clip, music, seed)
    found |= {"musicality": parts.pop("musicality", NAN), "beat_alignment": parts.get("beat_alignment", NAN)}
    found["shuffled"] = NAN if decoy is None else beat_aligned(at, decoy, seed)
    features = [np.full(n, NAN) if v is None else v for n, v in ((66, kinetic), (32, manual))]
    return Judged({k: found[k] for k in FIGURES}, verdict.reasons, parts, features[0], features[1])


def musical(clip: Clip, music: Music | None, seed: int = 0) -> dict[str, float]:
    """`musicality` and its parts, corrected for chance; empty without music or without any part."""
    if music is None or not len(music.beats_s):
        return {}
    found = MusicalityScorer(seed).score(clip, music)
    parts = {p.name: p.corrected for p in found.parts if p.corrected is not None}
    return parts if found.score is None else {"musicality": found.score, **parts}


def beat_aligned(at: Clip, music: Music, seed: int = 0) -> float:
    """Beat alignment of a clip at 30 fps above chance; 0 without a motion beat, NaN without a music beat."""
    found = bas_fixed(at.body, FIXED_FPS, music.beats_s, np.random.default_rng([seed, at.frames]))
    return 0.0 if found.status == "degenerate" else _number(found.corrected)


def clip_of(channels: F32, skeleton: Skeleton, fps: float, name: str = "clip") -> Clip:
    """Raw channels as the motion metrics take them."""
    from choreo_cli.motion.choreo25 import clamp, clamped_share, decode_channels

    kept, counts = clamp(channels)
    joints = decode_channels(channels, skeleton, fps)
    after = decode_channels(kept, skeleton, fps) if counts else joints
    rest = (float(skeleton.ank0[0]), float(skeleton.ank0[1]))
    contacts = np.asarray(channels[:, 4:6], np.float64)
    return Clip(name, joints, fps, contacts, rest, clamped=after, clamped_share=clamped_share(counts, len(channels)))


def locked(channels: F32, skeleton: Skeleton, fps: float, name: str = "clip") -> Clip:
    """The clip clamped to its hard ranges and with its feet locked in their own contacts, let go where they step."""
    from choreo_cli.motion.choreo25 import clamp, decode_channels

    made, start = lock(clamp(channels)[0], skeleton, fps)
    clip = clip_of(made, skeleton, fps, name)
    return replace(clip, joints=decode_channels(made, skeleton, fps, *start), clamped=None)


def lock(channels: F32, skeleton: Skeleton, fps: float) -> tuple[F32, tuple[float, float, float]]:
    """Channels with their feet locked as `choreo generate` does it, and the first frame's heading and place.

    A foot that was drawn to step under contact is let go there: its contact falls, as `foot_lock.let_step` says.
    """
    from choreo_cli.motion.capture_state import Track, to_channels, to_track
    from choreo_cli.motion.foot_lock import let_step, lock_feet

    track = to_track(channels, fps)
    contacts = let_step(track.q, track.contacts, skeleton, fps)
    held = lock_feet(track.q, contacts, skeleton, fps)
    made, *start = to_channels(Track(held.q, contacts, fps))
    return made, (start[0], start[1], start[2])


def shifted(music: Music, start_s: float) -> Music:
    """The music on the clock of a clip that begins at `start_s` of it; energy begins on the nearest step."""
    first = max(0, round(start_s / STEP_S))
    energy = None if music.energy is None else music.energy[first:]
    return replace(music, beats_s=music.beats_s - start_s, energy=energy)


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else NAN
