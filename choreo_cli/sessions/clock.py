"""Choose the clock of a recording: scratch audio, then motion inside the prior, then the clocks alone.

    t_music = (1 + drift) * t_device + offset

`manual` overrides every other method; what lost is kept in `evidence` and its decision never raises the winner's.
"""

from __future__ import annotations

from dataclasses import replace

from choreo_cli.sessions.clock_estimate import LIMITS, ClockEstimate, Limits, Prior

CONTAINER = "the sound was cut from the same container: it shares the recording's clock"


def estimate_metadata(prior: Prior, *, reasons: tuple[str, ...] = (), limits: Limits = LIMITS) -> ClockEstimate:
    """Take the offset from the clocks alone: the interval is the prior window, `identifiable` is `no`.

    Args:
        prior: What the clocks say; unbounded adds the reason `no_clock`.
        reasons: Why no better method answered.
    """
    why = tuple(dict.fromkeys([*reasons, *(("no_clock",) if prior.half_us is None else ())]))
    return ClockEstimate(
        "metadata", prior.centre_us, prior.window_us, 0.0, (-limits.drift_prior_ppm, limits.drift_prior_ppm),
        prior.window_us, identifiable="no", candidates_us=(prior.centre_us,), reasons=why,
        assumptions=("drift taken as 0 within +-100 ppm",),
    )  # fmt: skip


def choose(
    scratch: ClockEstimate | None = None,
    motion: ClockEstimate | None = None,
    prior: Prior | None = None,
    *,
    refusals: tuple[str, ...] = (),
    limits: Limits = LIMITS,
) -> ClockEstimate:
    """Return the best evidence there is, in the order scratch, motion, metadata.

    Scratch audio wins with z >= 19 unless it contradicts the clocks: an offset outside the prior window is not
    taken silently, it wins with an assumption that says so. Motion wins when it is `yes` or `mod_beat`.

    Args:
        scratch: From `estimate_scratch`.
        motion: From `estimate_motion`.
        prior: What the clocks say, for the fallback.
        refusals: Reasons known beforehand; they reach the fallback.
    """
    known = prior or Prior()
    tried = tuple(e for e in (scratch, motion) if e is not None)
    if scratch is not None and scratch.identifiable != "no":
        outside = known.window_us is not None and not known.window_us[0] <= scratch.offset_us <= known.window_us[1]
        note = ("scratch audio contradicts the clocks: its offset lies outside their window",) if outside else ()
        return replace(
            scratch,
            prior_window_us=known.window_us,
            assumptions=(*scratch.assumptions, *note),
            evidence=tuple(e for e in tried if e is not scratch),
        )
    if motion is not None and motion.identifiable != "no":
        return replace(motion, evidence=tuple(e for e in tried if e is not motion))
    reasons = [*refusals]
    if motion is not None:
        reasons += motion.reasons
    elif scratch is not None:
        reasons += scratch.reasons
    fallback = estimate_metadata(known, reasons=tuple(reasons), limits=limits)
    if motion is None:
        return replace(fallback, evidence=tried)
    return _with_test(fallback, motion, tried)


def _with_test(winner: ClockEstimate, motion: ClockEstimate, tried: tuple[ClockEstimate, ...]) -> ClockEstimate:
    """Show the figures of the motion test beside an offset that does not come from it."""
    return replace(
        winner, peak=motion.peak, z=motion.z, p=motion.p, second_ratio=motion.second_ratio, curves=motion.curves,
        evidence=tried,
    )  # fmt: skip


def designed_clock(
    promise: str, motion: ClockEstimate | None = None, *, frame_us: int = 0, limits: Limits = LIMITS
) -> ClockEstimate:
    """Align a recording of a published set that was cut to start with its music; what motion says is only measured.

    As `common_clock`, but the promise is the assumption, and where the motion test puts the offset stands beside it as
    the residual. It is the sum of an error of the set, the dancer's habit and the test's own spread: not applied.

    Args:
        promise: What the set promises, a sentence.
        motion: From `estimate_motion` with a prior around 0.
        frame_us: Frame period: the interval.
    """
    base = common_clock(motion, frame_us=frame_us, limits=limits)
    if motion is None or motion.z is None or motion.p is None:
        said = "residual not measured: the motion test could not be made"
    else:
        test = f"z {motion.z:.1f}, p {motion.p:.2g}" + ("" if motion.identifiable != "no" else ", not identified")
        said = f"residual of the motion test {motion.offset_us / 1000:+.0f} ms ({test}): measured, not applied"
    return replace(base, assumptions=(promise, said))


def common_clock(motion: ClockEstimate | None = None, *, frame_us: int = 0, limits: Limits = LIMITS) -> ClockEstimate:
    """Align a recording by the clock it shares with its sound: offset 0 within one frame, no drift.

    The motion test still runs. `identifiable` is `yes` only when it passed AND its peak agrees with the shared
    clock within half the least window; otherwise it is `no` and the reasons are the test's: the alignment stands,
    beat synchrony is not claimed.

    Args:
        motion: From `estimate_motion` with a prior around 0.
        frame_us: Frame period: the interval.
    """
    reasons: tuple[str, ...] = ("no_synchrony",)
    answer = "no"
    if motion is not None:
        agrees = abs(motion.offset_us) <= limits.least_half_us
        answer = "yes" if motion.identifiable == "yes" and agrees else "no"
        # The container proves that the track is the right one, whatever the dancer makes of it.
        why = tuple("no_synchrony" if r == "wrong_track" else r for r in motion.reasons)
        reasons = () if answer == "yes" else why or ("no_synchrony",)
    base = ClockEstimate(
        "common_clock", 0, (-frame_us, frame_us), 0.0, (0.0, 0.0), (-frame_us, frame_us), identifiable=answer,
        candidates_us=(0,), reasons=reasons, assumptions=(CONTAINER,),
    )  # fmt: skip
    if motion is None:
        return base
    return replace(
        _with_test(base, motion, (motion,)), bias_us=motion.bias_us, bias_config_hash=motion.bias_config_hash
    )


def manual(offset_us: int, motion: ClockEstimate | None = None, *, drift_ppm: float = 0.0) -> ClockEstimate:
    """Take the offset a person gave; the motion test is shown beside it and decides `identifiable`.

    Args:
        offset_us: Music time of the device's time zero.
        motion: From `estimate_motion`, for the figures.
        drift_ppm: Given with it, else 0.
    """
    said = ClockEstimate(
        "manual", offset_us, None, drift_ppm, None, None if motion is None else motion.prior_window_us,
        identifiable="no" if motion is None else motion.identifiable,
        candidates_us=(offset_us, *(c for c in (motion.candidates_us if motion else ()) if c != offset_us)),
        reasons=("no_synchrony",) if motion is None else motion.reasons,
        assumptions=(f"offset {offset_us / 1e6:.6f} s given by hand",),
    )  # fmt: skip
    return said if motion is None else _with_test(said, motion, (motion,))
