"""The session's own microphones against tracks, and what a microphone's clock says of a body's."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from choreo_cli.errors import DataError
from choreo_cli.sessions.clock_estimate import LIMITS, ClockEstimate
from choreo_cli.sessions.clock_scratch import estimate_scratch
from choreo_cli.sessions.music_load import MusicCache
from choreo_cli.sessions.recordings import Session, Track
from formats.errors import FormatError

Entry = dict[str, Any]
ACCEPT_Z = LIMITS.scratch_accept_z
SCRATCH_HZ = 16_000
# A body whose clock differs from the microphone's by more than this is not aligned by the microphone alone.
NEAR_US = 20_000


class Listener:
    """The session's own microphones against tracks, each compared once."""

    def __init__(self, session: Session, roots: dict[str, Path], music: MusicCache) -> None:
        self.session, self.roots, self.music = session, roots, music
        self._found: dict[tuple[str, str], ClockEstimate | None] = {}
        self.deaf: dict[str, str] = {}  # path of a sound that cannot be compared -> why

    def z(self, track: Track) -> float:
        """Pooled z of the best match; 0 when the track has no sound to compare with."""
        found = self.against(track)
        return 0.0 if found is None or found.z is None else found.z

    def against(self, track: Track, sound: Entry | None = None) -> ClockEstimate | None:
        """Offset of a microphone's clock (the first when none is named), None when a side has no usable sound."""
        if track.entry["kind"] != "audio" or not self.session.sounds:
            return None
        device = sound or self.session.sounds[0]
        key = (str(device["id"]), track.id)
        if key not in self._found:
            self._found[key] = self._estimate(track, device)
        return self._found[key]

    def _estimate(self, track: Track, device: Entry) -> ClockEstimate | None:
        heard = self._samples(device)
        master = self._samples(track.entry)
        if heard is None or master is None or min(len(heard), len(master)) < 5 * SCRATCH_HZ:
            return None
        try:
            return estimate_scratch(heard, master, SCRATCH_HZ)
        except DataError as e:  # silence, or sound that is not finite
            self.deaf[str(device["path"])] = e.message
            return None

    def _samples(self, entry: Entry) -> Any:
        try:
            return self.music.samples(entry, self.roots, SCRATCH_HZ)
        except (FormatError, DataError) as e:
            self.deaf[str(entry["path"])] = e.message
            return None


def device_of(entry: Entry, session: Session) -> str | None:
    """The device that the session's metadata name for a file, None when they name none."""
    name = str(entry["path"]).rsplit("/", 1)[-1]
    for stated in session.meta.get("recordings") or []:
        if stated.get("file") == name and stated.get("device"):
            return str(stated["device"])
    return None


def sound_for(body: Entry, session: Session) -> Entry:
    """The microphone nearest to a body: its own device's, else the one that shares most of its name, else the first."""
    own = device_of(body, session)
    if own is not None:
        same = [s for s in session.sounds if device_of(s, session) == own]
        if same:
            return same[0]
    return max(session.sounds, key=lambda s: _shared_start(str(s["path"]), str(body["path"])))


def _shared_start(a: str, b: str) -> int:
    n = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    return n - (a[:n].rfind("/") + 1)


def apart(sound: Entry, body: Entry, session: Session) -> tuple[int, int | None, str]:
    """How the clocks of a microphone and a body differ: (shift, two sigma or None when nothing bounds it, why).

    One device (stated, or the only body of its session) has one clock. Recordings of two devices are as far apart as
    both clocks may be wrong. Without times, equal lengths mean that they started together; otherwise nothing does.
    """
    devices = device_of(sound, session), device_of(body, session)
    same = devices[0] == devices[1] if None not in devices else len(session.bodies) == 1
    shift = 0
    if sound["t0_utc_us"] is not None and body["t0_utc_us"] is not None and sound["t0_naive"] == body["t0_naive"]:
        shift = int(body["t0_utc_us"] - sound["t0_utc_us"])
        if not same:
            two = 2 * round(math.hypot(sound["t0_sigma_us"] or 0, body["t0_sigma_us"] or 0))
            return shift, two, f"microphone and body are two devices: their clocks agree to +-{two / 1e6:g} s"
        if sound["t0_source"] == body["t0_source"]:
            return shift, 0, "microphone and body are on one device's clock"
    lengths = sound["duration_us"] or 0, body["duration_us"] or 0
    if shift == 0 and all(lengths) and abs(lengths[0] - lengths[1]) <= max(250_000, 0.01 * max(lengths)):
        return 0, 0, "microphone and body are taken to start together: they last equally long"
    if sound["t0_utc_us"] is not None and body["t0_utc_us"] is not None and sound["t0_naive"] == body["t0_naive"]:
        two = 2 * round(math.hypot(sound["t0_sigma_us"] or 0, body["t0_sigma_us"] or 0))
        return shift, two, f"microphone and body have clocks of two sources, which agree to +-{two / 1e6:g} s"
    return 0, None, "microphone and body are taken to start together: neither says when it started"


def onto_body(found: ClockEstimate, shift_us: int, two_sigma_us: int | None, note: str) -> ClockEstimate:
    """A microphone's estimate on the body's time zero.

    The error between the clocks is added to the interval; beyond 20 ms the sound no longer fixes the body, and
    the estimate is evidence (`no`, reason `no_clock`), not the answer.
    """
    moved = round(shift_us * (1 + found.drift_ppm * 1e-6))
    interval = None
    if found.offset_ci_us is not None and two_sigma_us is not None:
        half = round(math.hypot((found.offset_ci_us[1] - found.offset_ci_us[0]) / 2, two_sigma_us))
        interval = (found.offset_us + moved - half, found.offset_us + moved + half)
    made = replace(
        found, offset_us=found.offset_us + moved, offset_ci_us=interval,
        candidates_us=tuple(c + moved for c in found.candidates_us), assumptions=(*found.assumptions, note),
    )  # fmt: skip
    if two_sigma_us is None or two_sigma_us > NEAR_US:
        return replace(made, identifiable="no", reasons=(*made.reasons, "no_clock"))
    return made
