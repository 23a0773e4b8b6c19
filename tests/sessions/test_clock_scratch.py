"""Scratch audio: 1 ms and 2 ppm in a reverberant room, honest intervals, and refusal when it heard nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from choreo_cli.audio.render import render_track
from choreo_cli.errors import DataError
from choreo_cli.sessions.clock_estimate import LIMITS, ClockEstimate, Prior
from choreo_cli.sessions.clock_scratch import RATE, estimate_scratch, phat
from choreo_cli.sessions.synth_room import record


@dataclass(frozen=True)
class Take:
    offset_us: float
    drift_ppm: float
    got: ClockEstimate

    @property
    def error_ms(self) -> float:
        return (self.got.offset_us - self.offset_us) / 1e3

    @property
    def error_ppm(self) -> float:
        return self.got.drift_ppm - self.drift_ppm


def track(rng: np.random.Generator, seconds: float) -> np.ndarray:
    import soxr

    beats = np.arange(0.3, seconds, 60 / rng.uniform(92, 140))
    return soxr.resample(render_track(beats, rng.uniform(0.5, 1, len(beats)), seconds, rng), 22_050, RATE)


def take(seed: int, snr_db: float, *, whole: bool = False, seconds: float = 60.0) -> Take:
    rng = np.random.default_rng([5, seed])
    length = 240.0 if whole else seconds + 40.0
    master = track(rng, length)
    offset, drift = rng.uniform(1, length - seconds - 5), rng.uniform(-100, 100)
    device = record(master, RATE, offset, drift * 1e-6, seconds, snr_db, rng)
    prior = None if whole else Prior(round((offset + rng.uniform(-0.2, 0.2)) * 1e6), 250_000, "test")
    return Take(offset * 1e6, drift, estimate_scratch(device, master, RATE, prior=prior))


def check(takes: list[Take]) -> None:
    errors = np.array([[abs(t.error_ms), abs(t.error_ppm)] for t in takes])
    z = [t.got.z for t in takes]
    print(f"n {len(takes)}: max {errors[:, 0].max():.3f} ms, {errors[:, 1].max():.2f} ppm, z min {min(z):.1f}")  # type: ignore[type-var]
    assert all(t.got.identifiable == "yes" for t in takes)
    assert errors[:, 0].max() <= 1.0 and errors[:, 1].max() <= 2.0


def covered(takes: list[Take]) -> tuple[float, float]:
    offset = [t.got.offset_ci_us[0] <= t.offset_us <= t.got.offset_ci_us[1] for t in takes if t.got.offset_ci_us]
    drift = [t.got.drift_ci[0] <= t.drift_ppm <= t.got.drift_ci[1] for t in takes if t.got.drift_ci]
    return float(np.mean(offset)), float(np.mean(drift))


def test_one_millisecond_and_two_ppm_at_zero_db() -> None:
    takes = [take(seed, 0.0) for seed in range(5)]
    check(takes)
    assert min(covered(takes)) >= 0.8


def test_finds_a_take_anywhere_in_four_minutes() -> None:
    check([take(seed, 0.0, whole=True) for seed in (0, 1)])


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("snr_db", [10.0, 0.0])
def test_twenty_four_takes(snr_db: float) -> None:
    takes = [take(seed, snr_db) for seed in range(24)]
    check(takes)
    assert min(covered(takes)) >= 0.9


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_twenty_four_takes_anywhere_in_the_master() -> None:
    check([take(seed, 0.0, whole=True) for seed in range(24)])


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_below_zero_db_a_wrong_answer_is_never_accepted() -> None:
    takes = [take(seed, snr, whole=bool(seed % 2)) for snr in (-5.0, -10.0, -15.0) for seed in range(12)]
    wrong = [t for t in takes if abs(t.error_ms) > 1.0]
    print(f"{len(wrong)} of {len(takes)} wrong, z {sorted(round(t.got.z or 0, 1) for t in wrong)}")
    assert wrong and all(t.got.identifiable != "yes" and (t.got.z or 0) <= LIMITS.scratch_reject_z for t in wrong)


@pytest.mark.parametrize("seed", [0, 1])
def test_another_track_is_refused(seed: int) -> None:
    rng = np.random.default_rng([6, seed])
    device = record(track(rng, 60.0), RATE, 5.0, 0.0, 30.0, 10.0, rng)
    got = estimate_scratch(device, track(rng, 90.0), RATE)
    assert got.identifiable == "no" and got.reasons == ("low_snr",) and (got.z or 0) < 15


def test_negative_offset_other_rates_and_inverted_polarity() -> None:
    """A device that runs before the music starts, at 44.1 kHz stereo, with a reversed microphone."""
    import soxr

    rng = np.random.default_rng(9)
    master = track(rng, 40.0)
    late = np.concatenate([np.zeros(RATE * 7, np.float32), master[: RATE * 25]])
    device = -soxr.resample(late, RATE, 44_100) + 0.01 * rng.normal(size=len(late) * 441 // 160).astype(np.float32)
    got = estimate_scratch(np.stack([device, device], 1), master, RATE, device_rate_hz=44_100)
    assert got.identifiable == "yes" and abs(got.offset_us + 7_000_000) < 1000 and abs(got.drift_ppm) < 2
    again = estimate_scratch(np.stack([device, device], 1), master, RATE, device_rate_hz=44_100)
    assert got == again


def test_gcc_phat_finds_a_delay() -> None:
    x = np.random.default_rng(1).normal(size=4000).astype(np.float32)
    assert int(np.argmax(phat(x, np.roll(x, 37), 8192))) == 37


def test_silence_and_scraps_are_errors() -> None:
    good = np.random.default_rng(2).normal(size=RATE * 10).astype(np.float32)
    with pytest.raises(DataError, match="silent"):
        estimate_scratch(np.zeros(RATE * 10, np.float32), good, RATE)
    with pytest.raises(DataError, match=r"lasts 2\.0 s"):
        estimate_scratch(good[: RATE * 2], good, RATE)
