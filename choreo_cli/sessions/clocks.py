"""The clock of one body against one track: scratch audio, then motion inside the prior, then the clocks alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from choreo_cli.sessions import prior
from choreo_cli.sessions.clock import choose, common_clock, designed_clock, manual
from choreo_cli.sessions.clock_estimate import LIMITS, ClockEstimate, Envelope, Prior
from choreo_cli.sessions.clock_motion import estimate_motion
from choreo_cli.sessions.clock_selftest import self_test
from choreo_cli.sessions.impact import impact_of_pose, impact_of_speed
from choreo_cli.sessions.match import Candidate
from choreo_cli.sessions.microphones import Listener, apart, onto_body, sound_for
from choreo_cli.sessions.music import Music
from choreo_cli.sessions.overrides import Override
from choreo_cli.sessions.recordings import Session
from formats.foreign.model import PoseStream, Series

Entry = dict[str, Any]
RESIDUAL_US = 250_000  # where the motion of a set that is synchronous by design is looked for


def estimate(
    session: Session,
    entry: Entry,
    stream: PoseStream | Series,
    candidate: Candidate,
    begin_us: int,
    music: Music,
    listen: Listener,
    seed: int,
    tz_us: int | None,
    override: Override | None,
    promise: str = "",
) -> tuple[ClockEstimate, list[str]]:
    """The best estimate there is, and the assumptions of its prior; `promise` is that of a published set."""
    contained = "container_sound" in candidate.evidence
    known = prior.of_container(entry, candidate.track.entry) if contained else prior.of_clocks(
        entry, session, candidate, begin_us, tz_us
    )  # fmt: skip
    notes = list(known.assumptions) + ([known.suggestion] if known.suggestion else [])
    impact = impact_of(stream)
    refusals = ("rate_contradiction",) if any(p.startswith("rate_contradiction") for p in entry["problems"]) else ()
    window = Prior(known.centre_us, None if known.sigma_us is None else 2 * known.sigma_us, "clocks")
    if contained:
        window = Prior(0, 20_000, "container")
    if override is not None and override.offset_us is not None:
        # The test looks where the person says it is: a peak elsewhere does not speak for this offset.
        near = Prior(override.offset_us, LIMITS.least_half_us, "manual")
        said = manual(override.offset_us, _motion(music, impact, near, refusals, seed))
        return replace(said, prior_window_us=window.window_us), notes
    if contained:
        return common_clock(_motion(music, impact, window, refusals, seed), frame_us=_period(stream)), notes
    if promise:
        found = _motion(music, impact, Prior(0, RESIDUAL_US, "design"), refusals, seed)
        return designed_clock(promise, found, frame_us=_period(stream)), []
    scratch = None
    if session.sounds and candidate.track.entry["kind"] == "audio":
        sound = sound_for(entry, session)
        heard = listen.against(candidate.track, sound)
        if heard is not None:
            shift, two_sigma, why = apart(sound, entry, session)
            scratch = onto_body(heard, shift, two_sigma, why)
            lost = two_sigma if heard.identifiable != "no" and scratch.identifiable == "no" else None
            if lost is not None and (window.half_us is None or lost < window.half_us):
                # Another device's microphone bounds this body as well as their clocks agree.
                window = Prior(scratch.offset_us, lost, "scratch")
                notes.append(why)
    return choose(scratch, _motion(music, impact, window, refusals, seed), window, refusals=refusals), notes


def _motion(
    music: Music, impact: Envelope, window: Prior, refusals: tuple[str, ...], seed: int
) -> ClockEstimate | None:
    if music.onset is None or music.onset_t_us is None:
        return None
    onset = Envelope(
        music.onset_t_us, music.onset, 1e6 / max(1.0, float(np.median(np.diff(music.onset_t_us)))), "onset"
    )
    beat_us = music.beat_period_us
    bias = None
    if impact.rate_hz >= LIMITS.pose_fps and beat_us:
        bias = self_test(impact.rate_hz, beat_us, kind=impact.origin.split(":")[0])
    return estimate_motion(onset, impact, window, beat_us=beat_us, bias=bias, refusals=refusals, seed=seed)


def impact_of(stream: PoseStream | Series) -> Envelope:
    """Impact envelope of a body signal on its own clock."""
    if isinstance(stream, PoseStream):
        return impact_of_pose(stream.t_us, stream.xyz)
    return impact_of_speed(stream.t_us, stream.values[:, stream.names.index("qom")])


def _period(stream: PoseStream | Series) -> int:
    return int(np.median(np.diff(stream.t_us))) if len(stream.t_us) > 1 else 0
