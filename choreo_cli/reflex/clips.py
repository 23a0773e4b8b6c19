"""Clips of a few seconds: cut, told apart where they overlap, held out by a hash, and described in numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from choreo_cli.errors import UsageError
from choreo_cli.reflex.inputs import COLUMNS, MODES, PHASE, present
from formats.columns import MASKS

if TYPE_CHECKING:
    from choreo_cli.dataset.frameset import FrameSet

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

CLIP_S = 6.0
MEASURED = 0.8  # least share of frames with motion and beats
TEST_SHARE = 0.3
RATE_HZ = 50.0
_SPREAD = tuple(c for c in COLUMNS if c != "beat_phase")
_CHANGE = ("motion_energy", "jerk", "hip_sway", "hip_bounce")
_LOCKED = ("motion_energy", "jerk")
FEATURES: tuple[str, ...] = (
    *(f"{c}_mean" for c in _SPREAD),
    *(f"{c}_std" for c in _SPREAD),
    *(f"{c}_change" for c in _CHANGE),
    *(f"{c}_{k}" for c in _LOCKED for k in ("cos1", "sin1", "length1", "cos2")),
    "motion_energy_p10", "motion_energy_p90", "beat_rate", "energy_with_audio",
    *(f"measured_{m}" for m in MODES),
)  # fmt: skip


class Clip(NamedTuple):
    """A stretch of one session.

    Args:
        source: sha256 of the frames it lies in.
        session: Session.
        start_us: First frame's time on the music clock.
        end_us: Time after the last frame.
    """

    source: str
    session: str
    start_us: int
    end_us: int

    @property
    def id(self) -> str:
        """A name that is the same wherever the frames lie."""
        return f"{self.source[:12]}/{self.session}/{self.start_us}-{self.end_us}"


def cut_clips(frames: FrameSet, clip_s: float = CLIP_S) -> list[Clip]:
    """Clips that follow each other without overlap inside unbroken runs, where motion and beats are mostly measured.

    Args:
        frames: Any sessions, whatever their split.
        clip_s: Length, 1 to 60 s.

    Raises:
        UsageError: a length outside that range.
    """
    from choreo_cli.dataset.windows import Stretch, runs

    if not 1 <= clip_s <= 60:
        raise UsageError(f"--clip-s {clip_s:g} is outside 1..60")
    rows = max(1, round(clip_s * 1e6 / frames.step_us))
    want = [MASKS.index("m_mot"), MASKS.index("m_ctx")]
    found = []
    for s in frames.sessions:
        first, last, _ = runs(frames.t_us, [Stretch(s.session_id, s.row_start, s.rows)], frames.step_us)
        for a, b in zip(first.tolist(), last.tolist(), strict=True):
            for at in range(a, b - rows + 1, rows):
                if np.asarray(frames.mask[at : at + rows])[:, want].mean(axis=0).min() >= MEASURED:
                    t = int(frames.t_us[at])
                    found.append(Clip(str(frames.source["sha256"]), s.session_id, t, t + rows * frames.step_us))
    return found


def rows_of(frames: FrameSet, clip: Clip) -> slice:
    """Rows of a clip.

    Raises:
        UsageError: the frames have no such session, or nothing of it at that time.
    """
    for s in frames.sessions:
        if s.session_id == clip.session:
            t = frames.t_us[s.slice]
            a, b = np.searchsorted(t, (clip.start_us, clip.end_us)).tolist()
            if b > a:
                return slice(s.row_start + a, s.row_start + b)
    raise UsageError(f"no frames of {clip.session} at {clip.start_us / 1e6:g} s", hint="were they made again?")


def is_test(name: str, share: float = TEST_SHARE) -> bool:
    """Whether a clip (or whatever is named) is held out: a hash decides, so that it is so in every file and run."""
    digest = hashlib.sha256(f"choreo.reward\n{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2.0**64


def overlap_groups(clips: Iterable[Clip]) -> dict[Clip, Clip]:
    """Clip -> the first clip of those it overlaps with, directly or through others: they must not be torn apart."""
    found: dict[Clip, Clip] = {}
    head: Clip | None = None
    end = 0
    for clip in sorted(set(clips)):
        if head is None or (clip.source, clip.session) != (head.source, head.session) or clip.start_us >= end:
            head, end = clip, clip.end_us
        end = max(end, clip.end_us)
        found[clip] = head
    return found


def describe(x: ArrayLike, mask: ArrayLike) -> F32:
    """Statistics of one clip, in the order of `FEATURES`; NaN for what cannot be known.

    Args:
        x: (n, 11) inputs, NaN = missing.
        mask: (n, 4) which modalities are measured.

    Returns:
        (F,) float32: mean and deviation of every input; mean absolute change per second; energy and jerk averaged on
        the circle of the beat (first harmonic: cosine, sine, length; second: cosine); the spread of energy; beats per
        second; correlation of motion energy with audio energy; the share of frames measured, by modality.
    """
    raw, m = np.asarray(x, np.float32), np.asarray(mask, bool)
    values = np.where(present(raw, m), raw, np.nan).astype(np.float64)
    by = {c: values[:, k] for k, c in enumerate(COLUMNS)}
    phase = by["beat_phase"]
    out = [_over(np.mean, by[c]) for c in _SPREAD]
    out += [_over(np.std, by[c]) for c in _SPREAD]
    out += [_over(np.mean, np.abs(np.diff(by[c]))) * RATE_HZ for c in _CHANGE]
    for c in _LOCKED:
        out += _on_the_circle(by[c], phase)
    energy = by["motion_energy"]
    out += [_over(lambda v: np.percentile(v, 10), energy), _over(lambda v: np.percentile(v, 90), energy)]
    steps = np.diff(phase)
    out += [_over(np.mean, np.mod(steps, 1.0)) * RATE_HZ, _correlation(energy, by["audio_energy"])]
    return np.array([*out, *m.mean(axis=0)], np.float32)


def describe_all(frames: FrameSet, clips: Sequence[Clip]) -> F32:
    """(n, F) statistics of several clips of one frame set."""
    rows = [rows_of(frames, c) for c in clips]
    made = [describe(frames.x[r], frames.mask[r]) for r in rows]
    return np.stack(made) if made else np.empty((0, len(FEATURES)), np.float32)


def beat_lock(energy: ArrayLike, phase: ArrayLike) -> float:
    """Mean cosine of the beat phase at the peaks of motion energy, -1..1: 1 when the body hits every beat.

    Peaks stand out by .05 and lie at least .3 s apart. NaN with fewer than three of them.
    """
    from scipy.signal import find_peaks

    e, p = np.asarray(energy, np.float64), np.asarray(phase, np.float64)
    live = np.isfinite(e) & np.isfinite(p)
    at, _ = find_peaks(np.where(live, e, 0.0), prominence=0.05, distance=round(0.3 * RATE_HZ))
    at = at[live[at]]
    return float(np.cos(2 * np.pi * p[at]).mean()) if len(at) >= 3 else float("nan")


def energy_and_lock(x: ArrayLike) -> tuple[float, float]:
    """Mean motion energy and beat lock of one clip (n, 11)."""
    values = np.asarray(x, np.float64)
    energy = values[:, COLUMNS.index("motion_energy")]
    return _over(np.mean, energy), beat_lock(energy, values[:, PHASE])


def _over(what: object, values: F64) -> float:
    live = values[np.isfinite(values)]
    return float(what(live)) if len(live) >= 2 else float("nan")  # type: ignore[operator]


def _on_the_circle(values: F64, phase: F64) -> list[float]:
    live = np.isfinite(values) & np.isfinite(phase)
    if live.sum() < 2:
        return [float("nan")] * 4
    height, angle = values[live] - values[live].min(), 2 * np.pi * phase[live]
    total = max(float(height.sum()), 1e-9)
    first, second = (complex((height * np.exp(1j * k * angle)).sum()) / total for k in (1, 2))
    return [first.real, first.imag, abs(first), second.real]


def _correlation(a: F64, b: F64) -> float:
    live = np.isfinite(a) & np.isfinite(b)
    if live.sum() < 3 or np.ptp(a[live]) < 1e-9 or np.ptp(b[live]) < 1e-9:
        return float("nan")
    return float(np.corrcoef(a[live], b[live])[0, 1])
