"""What a clock estimate is: evidence, offset, drift, their intervals, the decision and its reasons."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]

METHODS = ("scratch_gcc", "motion_xcorr", "metadata", "common_clock", "manual")
IDENTIFIABLE = ("yes", "mod_beat", "no")
REASONS = (
    "pose_rate_below_8_fps", "too_short", "still", "wrong_track", "edge", "no_clock", "low_snr",
    "rate_contradiction", "no_synchrony",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Limits:
    """Every threshold of the clock decision, in one place.

    They come from 24 to 200 synthetic trials a cell; re-tune them here on held-back data.
    """

    p: float = 0.01
    z: float = 4.0
    z_against_tempo: float = 10.0
    second_ratio: float = 0.85
    second_outside_us: int = 120_000
    edge_us: int = 10_000
    beat_share: float = 0.45
    least_half_us: int = 80_000
    too_short_us: int = 10_000_000
    pose_fps: float = 8.0
    still_share: float = 0.012
    noise_share: float = 0.75
    draws: int = 99
    stretch: tuple[float, float] = (0.02, 0.08)
    drift_fit_us: int = 600_000_000
    drift_prior_ppm: float = 100.0
    drift_max_ppm: float = 250.0
    scratch_accept_z: float = 19.0
    scratch_reject_z: float = 18.0


LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Prior:
    """Where other evidence says the offset is: `centre_us` +- `half_us` (two sigma); None = unbounded."""

    centre_us: int = 0
    half_us: int | None = None
    source: str = "none"

    @classmethod
    def of(cls, centre_us: int, *sigmas_us: int | None, source: str) -> Prior:
        """Add independent clock errors in quadrature; one unknown sigma makes the window unbounded."""
        if any(s is None for s in sigmas_us):
            return cls(centre_us, None, source)
        return cls(centre_us, round(2 * float(np.hypot.reduce([float(s or 0) for s in sigmas_us]))), source)

    @property
    def window_us(self) -> tuple[int, int] | None:
        """The earliest and latest offset, None when unbounded."""
        return None if self.half_us is None else (self.centre_us - self.half_us, self.centre_us + self.half_us)


@dataclass(frozen=True, slots=True)
class Envelope:
    """A scalar over time on a recording's own clock.

    Args:
        t_us: (N,) int64, strictly increasing.
        value: (N,) float32, NaN = missing.
        rate_hz: Native rate of the source (frames of the pose stream), Hz.
        origin: What it was made from and how; part of the bias configuration.
        notes: Measured doubts: `still`, `low_snr`.
        rise: (N,) rectified acceleration beside the deceleration; tells how long a move lasts.
    """

    t_us: I64
    value: F32
    rate_hz: float
    origin: str
    notes: tuple[str, ...] = ()
    rise: F32 | None = None

    @property
    def duration_us(self) -> int:
        return int(self.t_us[-1] - self.t_us[0]) if len(self.t_us) else 0


@dataclass(frozen=True, slots=True)
class Curves:
    """What the preview plot draws.

    Args:
        lags_us: (L,) int64 offsets.
        correlation: (L,) float32 correlation at each.
        null95: 95 % line of the surrogates' maxima; None without a null.
    """

    lags_us: I64
    correlation: F32
    null95: float | None = None


@dataclass(frozen=True, slots=True)
class ClockEstimate:
    """t_music = (1 + drift_ppm * 1e-6) * t_device + offset, and how well that is known.

    Args:
        method: One of `METHODS`.
        offset_us: Offset at device time 0; effective: it holds the dancer's habitual lag when made from motion.
        offset_ci_us: 95 % interval; None when nothing bounds it.
        drift_ppm: Parts per million, 0 when it was not fitted.
        drift_ci: 95 % interval, ppm.
        prior_window_us: Earliest and latest offset the clocks allow; None = unbounded.
        bias_us: Subtracted systematic error of the motion method; None where it does not apply.
        bias_config_hash: Configuration the bias was measured for.
        peak: Height of the correlation peak.
        z: Peak against the null, in its standard deviations.
        p: Share of surrogates as high as the peak.
        second_ratio: Second peak over the first, inside the prior.
        identifiable: One of `IDENTIFIABLE`.
        candidates_us: Offsets that compete, best first, the chosen one included.
        reasons: Why not `yes`, from `REASONS`.
        assumptions: What was taken for granted.
        curves: For the preview plot.
        evidence: Estimates that were tried and lost, in order.
    """

    method: str
    offset_us: int
    offset_ci_us: tuple[int, int] | None
    drift_ppm: float = 0.0
    drift_ci: tuple[float, float] | None = None
    prior_window_us: tuple[int, int] | None = None
    bias_us: int | None = None
    bias_config_hash: str | None = None
    peak: float | None = None
    z: float | None = None
    p: float | None = None
    second_ratio: float | None = None
    identifiable: str = "no"
    candidates_us: tuple[int, ...] = ()
    reasons: tuple[str, ...] = ()
    assumptions: tuple[str, ...] = ()
    curves: Curves | None = field(default=None, compare=False, repr=False)
    evidence: tuple[ClockEstimate, ...] = field(default=(), compare=False, repr=False)

    def to_music_us(self, t_device_us: I64) -> I64:
        """Map device times to the music clock, int64 microseconds.

        The drift term is computed apart, so that microseconds survive over days.
        """
        t = np.asarray(t_device_us, np.int64)
        return np.asarray(t + self.offset_us + np.rint(t * (self.drift_ppm * 1e-6)).astype(np.int64))

    def to_record(self) -> dict[str, object]:
        """The fields of a pair record (JSON values; no curves, no losing evidence)."""
        skip = {"curves", "evidence"}
        out: dict[str, object] = {name: getattr(self, name) for name in self.__dataclass_fields__ if name not in skip}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in out.items()}
