"""The clock of one body against one track: scratch audio, then motion inside the prior, then the clocks alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.sessions import load, prior
from choreo_cli.sessions.clock import choose, common_clock, manual
from choreo_cli.sessions.clock_estimate import LIMITS, ClockEstimate, Envelope, Prior
from choreo_cli.sessions.clock_motion import estimate_motion
from choreo_cli.sessions.clock_scratch import estimate_scratch
from choreo_cli.sessions.clock_selftest import self_test
from choreo_cli.sessions.impact import impact_of_pose, impact_of_speed
from choreo_cli.sessions.match import Candidate
from choreo_cli.sessions.music import Music
from choreo_cli.sessions.music_load import MusicCache
from choreo_cli.sessions.overrides import Override
from choreo_cli.sessions.recordings import Session, Track
from formats.foreign.model import PoseStream, Series

Entry = dict[str, Any]
F32 = NDArray[np.float32]
ACCEPT_Z = LIMITS.scratch_accept_z
SCRATCH_HZ = 16_000


class Listener:
    """The session's own microphone against tracks, each decoded once."""

    def __init__(self, session: Session, roots: dict[str, Path], music: MusicCache) -> None:
        self.session, self.roots, self.music = session, roots, music
        self._found: dict[str, ClockEstimate | None] = {}

    def z(self, track: Track) -> float:
        """Pooled z of the best match; 0 when the track has no sound to compare with."""
        found = self.against(track)
        return 0.0 if found is None or found.z is None else found.z

    def against(self, track: Track) -> ClockEstimate | None:
        """Offset of the microphone's clock, None when there is no sound on one side."""
        if track.id not in self._found:
            self._found[track.id] = self._estimate(track)
        return self._found[track.id]

    def _estimate(self, track: Track) -> ClockEstimate | None:
        if track.entry["kind"] != "audio" or not self.session.sounds:
            return None
        device = self.music.samples(self.session.sounds[0], self.roots, SCRATCH_HZ)
        master = self.music.samples(track.entry, self.roots, SCRATCH_HZ)
        if min(len(device), len(master)) < 5 * SCRATCH_HZ:
            return None
        return estimate_scratch(device, master, SCRATCH_HZ)


def estimate(
    session: Session,
    entry: Entry,
    stream: PoseStream | Series,
    candidate: Candidate,
    begin_us: int,
    music: Music,
    roots: dict[str, Path],
    cache: MusicCache,
    seed: int,
    tz_us: int | None,
    override: Override | None,
) -> tuple[ClockEstimate, list[str]]:
    """The best estimate there is, and the assumptions of its prior."""
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
    motion = _motion(music, impact, window, refusals, seed) if music.onset is not None else None
    if override is not None and override.offset_us is not None:
        return manual(override.offset_us, motion), notes
    if contained:
        return common_clock(motion, frame_us=_period(stream)), notes
    scratch = None
    if session.sounds and candidate.track.entry["kind"] == "audio":
        scratch = Listener(session, roots, cache).against(candidate.track)
        scratch = None if scratch is None else _onto_body(scratch, session.sounds[0], entry)
    return choose(scratch, motion, window, refusals=refusals), notes


def _motion(music: Music, impact: Envelope, window: Prior, refusals: tuple[str, ...], seed: int) -> ClockEstimate:
    assert music.onset is not None and music.onset_t_us is not None
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


def _onto_body(found: ClockEstimate, sound: Entry, body: Entry) -> ClockEstimate | None:
    """Move the microphone's offset to the body's time zero: both recordings are of one device's clock."""
    from dataclasses import replace

    if sound["t0_utc_us"] is None or body["t0_utc_us"] is None:
        shift = 0
        note = "microphone and body are taken to start together: neither says when it started"
    else:
        shift = body["t0_utc_us"] - sound["t0_utc_us"]
        note = "microphone and body are on one device's clock"
    moved = round(shift * (1 + found.drift_ppm * 1e-6))
    interval = None if found.offset_ci_us is None else (found.offset_ci_us[0] + moved, found.offset_ci_us[1] + moved)
    return replace(
        found,
        offset_us=found.offset_us + moved,
        offset_ci_us=interval,
        candidates_us=tuple(c + moved for c in found.candidates_us),
        assumptions=(*found.assumptions, note),
    )


__all__ = ["Listener", "estimate", "impact_of", "load"]
