"""Whether a clip could be a person's: a list of checks, each with a threshold taken from recordings.

Thresholds are twice the worst value (half the smallest, for the contact fraction) over thirteen recordings of 1 to 63
s at 30 fps, each as its importer reads it and again as decoded choreo25: six of Bandai-Namco (a dance, a bow, walks),
CMU 01_01 (jumps) and 11_01, three of Xia et al. (styled walks), a walk of a MotionBuilder rig, an AIST++ break dance.
Worst there: frames beyond a limit .009, self-penetration 23 mm, floor 8.7 mm (decoded toes follow a rule; as read
.06), slide .32 m/s, claimed contacts in the air .18, jerk (6 Hz) mean 193 and p99 826 m/s^3, speed (99.9 %) 11.0 m/s,
pelvis step .107 m, bones .008 (an interpolated cut); smallest contact fraction of those of 2 s and more .31.
`speed_min` is a tenth of the slowest recording, `clamped_share` a round number: recordings have none. Generated 263-D
clips whose bones vary by 3-4 %, and joints from the middle of markers, fail `bones`, as they should.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from choreo_cli.metrics import motion_smooth as smooth
from choreo_cli.metrics.motion_clip import FIXED_FPS, SHORTEST_S, Clip, low_passed, mended, resampled
from choreo_cli.metrics.motion_measures import ground_depth_mm, limit_share, self_overlap_mm
from choreo_cli.metrics.motion_skate import slide

CONTACT_FROM_S = 2.0  # a shorter clip may be one jump


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What a clip may reach; see the module for where the numbers come from.

    Args:
        lost_share: Frames without a finite pose, left out or filled.
        clamped_share: Pose values beyond the hard ranges of their channels, of clips that have channels.
        limits_share: Frames with a joint beyond its limit.
        self_mm: Mean overlap of all capsules.
        ground_mm: Mean depth of the deepest foot.
        slide_m_s: Speed of standing feet.
        float_share: Frames whose claimed contact is in the air.
        contact_min: Least share of foot-frames on the floor, for clips of 2 s and more.
        jerk_mean, jerk_p99: At 30 fps, low-passed at 6 Hz, m/s^3.
        speed_m_s: 99.9th percentile of joint speed.
        speed_min: The same, least: below it the clip stands still.
        step_m: Longest way of the pelvis between two frames at 30 fps.
        bones: Largest sd / mean of a bone's length.
    """

    lost_share: float = 0.0
    clamped_share: float = 0.01
    limits_share: float = 0.02
    self_mm: float = 46.0
    ground_mm: float = 17.0
    slide_m_s: float = 0.64
    float_share: float = 0.37
    contact_min: float = 0.15
    jerk_mean: float = 390.0
    jerk_p99: float = 1650.0
    speed_m_s: float = 22.0
    speed_min: float = 0.23
    step_m: float = 0.21
    bones: float = 0.016


DEFAULT = Thresholds()


@dataclass(frozen=True, slots=True)
class Sanity:
    """Verdict over one clip.

    Args:
        name: The clip.
        reasons: One sentence for each check that failed; empty when it passed.
        figures: What was measured, None where it could not be.
    """

    name: str
    reasons: tuple[str, ...]
    figures: dict[str, float | None]

    @property
    def passed(self) -> bool:
        return not self.reasons


@dataclass(frozen=True, slots=True)
class SanityChecker:
    """Check clips one by one against `thresholds`."""

    thresholds: Thresholds = DEFAULT

    def check(self, clip: Clip) -> Sanity:
        """Judge one clip at 30 fps."""
        whole = mended(clip)
        lost = (whole.lost + whole.filled) / clip.frames if clip.frames else 1.0
        if whole.seconds < SHORTEST_S:
            return Sanity(clip.name, (f"finite: {whole.frames} usable frames",), {"lost_share": lost})
        return self._judge(clip.name, self._measure(resampled(whole, FIXED_FPS), lost, clip.clamped_share))

    def check_all(self, clips: Sequence[Clip]) -> list[Sanity]:
        """Judge every clip."""
        return [self.check(c) for c in clips]

    def described(self) -> dict[str, Any]:
        """Thresholds as JSON values."""
        return asdict(self.thresholds)

    def _measure(self, at: Clip, lost: float, clamped: float | None) -> dict[str, float | None]:
        jerk = smooth.jerk(low_passed(at.body, FIXED_FPS, smooth.CUT_HZ), FIXED_FPS) if at.frames >= 8 else None
        feet = slide(at)
        speed = smooth.top_speed(at.body, FIXED_FPS)
        return {
            "lost_share": lost,
            "clamped_share": clamped,
            "limits_share": limit_share(at),
            "self_mm": self_overlap_mm(at),
            "ground_mm": ground_depth_mm(at),
            "slide_m_s": None if feet is None else feet.m_per_s,
            "float_share": None if feet is None else feet.float_share,
            "contact_min": None if feet is None or at.seconds < CONTACT_FROM_S else feet.contact_fraction,
            "jerk_mean": None if jerk is None else jerk.mean,
            "jerk_p99": None if jerk is None else jerk.p99,
            "speed_m_s": speed,
            "speed_min": speed,
            "step_m": smooth.largest_step(at.body),
            "bones": float(smooth.bone_drift(at.body).max()),
        }

    def _judge(self, name: str, figures: dict[str, float | None]) -> Sanity:
        reasons = []
        for check, (label, unit) in _LABELS.items():
            value, limit = figures[check], getattr(self.thresholds, check)
            least = check in ("contact_min", "speed_min")
            if value is not None and (value < limit if least else value > limit):
                reasons.append(f"{label}: {value:.3g}{unit}, {'at least' if least else 'at most'} {limit:g}{unit}")
        return Sanity(name, tuple(reasons), figures)


_LABELS = {
    "lost_share": ("finite: share of frames without a pose", ""),
    "clamped_share": ("range: share of pose values beyond their channels' ranges", ""),
    "limits_share": ("limits: share of frames beyond a joint limit", ""),
    "self_mm": ("penetration: parts of the body overlap by", " mm"),
    "ground_mm": ("floor: feet below it by", " mm"),
    "slide_m_s": ("skate: standing feet move at", " m/s"),
    "float_share": ("float: share of contacts in the air", ""),
    "contact_min": ("contact: share of the time a foot is down", ""),
    "jerk_mean": ("jerk: mean", " m/s3"),
    "jerk_p99": ("jerk: 99th percentile", " m/s3"),
    "speed_m_s": ("speed: a joint at", " m/s"),
    "speed_min": ("still: fastest joint at", " m/s"),
    "step_m": ("jump cut: the pelvis moves in one frame by", " m"),
    "bones": ("bones: lengths vary by (sd / mean)", ""),
}


def failures(found: Sequence[Sanity]) -> dict[str, int]:
    """How many clips failed each check, most first: `{"skate": 3, "jerk": 1}`."""
    counts: dict[str, int] = {}
    for one in found:
        for check in {r.split(":")[0] for r in one.reasons}:
            counts[check] = counts.get(check, 0) + 1
    return dict(sorted(counts.items(), key=lambda kv: (-kv[1], kv[0])))
