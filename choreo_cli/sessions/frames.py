"""One pair's rows on the music clock: the frames of a model, and slow poses as context."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.motion.features import MotionInputs, Scale, extract_pose, extract_qom
from choreo_cli.motion.heart import heart_inputs
from choreo_cli.motion.resample import MIN_POSE_FPS, STEP_US, Grid, longest_gap_us, native_period_us
from choreo_cli.sessions.music import Music
from formats.columns import CONTEXT, FRAMES, MOT
from formats.foreign.model import PoseStream, Series

I64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class TimeModel:
    """t_music = (1 + drift) * t_device + offset."""

    offset_us: int
    drift_ppm: float = 0.0

    def to_music(self, t_us: I64) -> I64:
        """Device times as music times, rounded to the microsecond."""
        t = np.asarray(t_us, np.int64)
        # The drift term is rounded apart, so that microseconds survive over days.
        drift: I64 = np.rint(t * (self.drift_ppm * 1e-6)).astype(np.int64)
        moved: I64 = t + drift + self.offset_us
        return moved

    def after(self, shift_us: int) -> TimeModel:
        """The model of a recording on the same clock whose time zero lies `shift_us` later."""
        return TimeModel(self.offset_us + round(shift_us * (1 + self.drift_ppm * 1e-6)), self.drift_ppm)


@dataclass(slots=True)
class Block:
    """The rows of one pair.

    Args:
        columns: Columns of `FRAMES` but `session_id`.
        context: Columns of `CONTEXT` but `session_id`; empty arrays for a fast body.
        joints: Joint order of `context["xyz"]`.
        real_fraction: Native samples per frame, by modality.
        max_gap_us: Longest gap, by modality.
        scale: What the motion inputs were divided by, None without them.
        saturated: Frames cut at a bound, by input.
        assumptions: What was taken for granted.
    """

    columns: dict[str, Any]
    context: dict[str, Any]
    joints: tuple[str, ...]
    real_fraction: dict[str, float]
    max_gap_us: dict[str, int]
    scale: dict[str, Any] | None
    saturated: dict[str, int] = field(default_factory=dict)
    assumptions: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        return len(self.columns["t_us"])


def build(
    body: PoseStream | Series,
    clock: TimeModel,
    music: Music,
    heart: tuple[Series, TimeModel] | None,
    span_us: tuple[int, int],
    *,
    rate_hz: int = 50,
    synthetic: bool = False,
    scale: Scale | None = None,
) -> Block:
    """Put body, heart and music onto one clock.

    Args:
        body: Poses, or a quantity of motion.
        clock: From the body's clock to the music's.
        music: Beats and audio inputs.
        heart: Heart rate with its own time model.
        span_us: First and last instant wanted, on the music clock.
        rate_hz: Frames per second. Motion inputs are computed at 50 Hz; another rate holds the last value.
        synthetic: Flag of every row.
        scale: Use this motion scale instead of the session's own.
    """
    grid = Grid.covering(*span_us)
    emitted = grid if rate_hz == 50 else Grid.covering(*span_us, 1_000_000 // rate_hz)
    t = emitted.t_us
    t_body = clock.to_music(body.t_us)
    slow = is_slow(body)
    motion = None if slow else _motion(body, t_body, grid, scale)
    columns: dict[str, Any] = {"t_us": t, **_motion_columns(motion, grid, emitted)}
    real, gaps = _coverage(t_body[_seen(body)], emitted)
    fractions, longest = {"mot": real}, {"mot": gaps}
    _heart(columns, heart, emitted, fractions, longest)
    energy, brightness, m_aud = music.inputs(t)
    columns |= {"audio_energy": energy, "audio_brightness": brightness, "m_aud": m_aud}
    fractions["aud"], longest["aud"] = _coverage(music.frame_t_us, emitted)
    columns["beat_phase"], columns["beat_idx"] = music.phase(t)
    columns["m_ctx"] = np.isfinite(columns["beat_phase"])
    columns["synthetic"] = np.full(len(t), synthetic)
    columns = {n: columns[n] for n in FRAMES.names if n != "session_id"}
    context, joints = _context(body, t_body, span_us, music, synthetic) if slow else (_no_context(), ())
    notes = () if motion is None else motion.assumptions
    if rate_hz != 50 and motion is not None:
        notes += (f"motion inputs computed at 50 Hz and held at {rate_hz} Hz",)
    return Block(
        columns, context, joints, fractions, longest, None if motion is None else motion.scale.to_dict(),
        {} if motion is None else motion.saturated, notes,
    )  # fmt: skip


def _motion_columns(motion: MotionInputs | None, grid: Grid, emitted: Grid) -> dict[str, Any]:
    """The motion inputs at the emitted frames: causal, so each frame holds the last one computed at 50 Hz."""
    if motion is None:
        nothing = {name: np.full(emitted.n, np.nan, np.float32) for name in MOT}
        return {**nothing, "m_mot": np.zeros(emitted.n, bool)}
    values, mask = motion.values, motion.m_mot
    if emitted is not grid:
        last = (emitted.t_us - grid.start_us) // grid.step_us
        held = np.clip(last, 0, max(grid.n - 1, 0))
        early = last < 0  # before the first frame of the 50 Hz clock nothing was computed
        values = np.where(early[:, None], np.float32(np.nan), values[held])
        mask = mask[held] & ~early
    return {**{name: values[:, i] for i, name in enumerate(MOT)}, "m_mot": mask}


def _seen(body: PoseStream | Series) -> NDArray[np.bool_]:
    """(T,) samples that hold anything at all: a frame in which nobody was found is not native data."""
    values = body.xyz if isinstance(body, PoseStream) else body.values[:, [body.names.index("qom")]]
    if np.isfinite(values.sum(dtype=np.float64)):
        return np.ones(len(values), bool)
    return np.asarray(np.isfinite(values).reshape(len(values), -1).any(axis=1))


def is_slow(body: PoseStream | Series) -> bool:
    """Below 8 frames a second a body is context, not motion."""
    period = native_period_us(body.t_us)
    return not (np.isfinite(period) and period > 0 and 1e6 / period >= MIN_POSE_FPS)


def _motion(body: PoseStream | Series, t_body: I64, grid: Grid, scale: Scale | None) -> MotionInputs:
    if isinstance(body, PoseStream):
        return extract_pose(t_body, body.xyz, body.joints, grid, up=body.up, units=body.units, scale=scale)
    return extract_qom(t_body, body.values[:, body.names.index("qom")], grid, scale=scale)


def _coverage(t: I64, grid: Grid) -> tuple[float, int]:
    end = grid.start_us + grid.n * grid.step_us
    inside = int(((t >= grid.start_us) & (t < end)).sum())
    return round(inside / grid.n, 6) if grid.n else 0.0, longest_gap_us(t, grid.start_us, end - grid.step_us)


def _heart(
    columns: dict[str, Any],
    heart: tuple[Series, TimeModel] | None,
    grid: Grid,
    fractions: dict[str, float],
    longest: dict[str, int],
) -> None:
    if heart is None:
        nothing = np.full(grid.n, np.nan, np.float32)
        columns |= {"hr": nothing, "hr_slope": nothing.copy(), "m_hr": np.zeros(grid.n, bool)}
        fractions["hr"], longest["hr"] = 0.0, grid.n * grid.step_us
        return
    series, clock = heart
    t = clock.to_music(series.t_us)
    values = series.values[:, series.names.index("hr")]
    found = heart_inputs(grid.t_us, t, values)
    columns |= {"hr": found.hr, "hr_slope": found.hr_slope, "m_hr": found.m_hr}
    fractions["hr"], longest["hr"] = _coverage(t[np.isfinite(values)], grid)


def _no_context() -> dict[str, Any]:
    return {n: [] for n in CONTEXT.names if n != "session_id"}


def _context(
    body: PoseStream | Series, t_body: I64, span_us: tuple[int, int], music: Music, synthetic: bool
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The snapshots at their native times, with the beat they fell on and their age."""
    if not isinstance(body, PoseStream):
        return _no_context(), ()
    inside = np.flatnonzero((t_body >= span_us[0]) & (t_body <= span_us[1]))
    t, raw = t_body[inside], body.t_us[inside]
    phase, idx = music.phase(t)
    age = [None, *np.diff(raw).tolist()] if len(raw) else []
    xyz = body.xyz[inside]
    seen = np.isfinite(xyz).all(axis=2).sum(axis=1).astype(np.int32)
    return {
        "t_us": t,
        "t_device_us": raw,
        "age_us": age,
        "beat_phase": phase,
        "beat_idx": idx,
        "n_joints": seen,
        "xyz": xyz.reshape(len(t), -1),
        "synthetic": np.full(len(t), synthetic),
    }, body.joints


assert STEP_US == 20_000  # the grid of reflex.md; `--rate` holds motion inputs of this clock
