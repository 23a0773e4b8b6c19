"""What stands between the parts of a performance: who moves the beat, who may not, and what runs beside each tick."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from choreo_cli.errors import UsageError
from choreo_cli.live.keeper import Keeper
from choreo_cli.live.midi_clock import MidiClockEstimator
from choreo_cli.live.port import Outgoing
from choreo_cli.live.sample import Body, Sample, Source
from choreo_cli.live.transport import FOLLOWED, Transport
from formats.packets import CONTROLS

TEMPO_SCALE = CONTROLS.index("tempo_scale")
WANTED = {
    "midi-clock": "--source midi-clock:PORT, see run-live --list",
    "osc": "--source osc:PORT and send /choreo/beat, or --map ADDR:IDX=beat",
    "audio": "--source audio:FILE, jack: or portaudio:",
    "recording": "--source FILE, frames in which the beat is known",
}
"""What to add when a leader has no source."""


class ClockRelay:
    """Start, stop, continue and song position of somebody else's MIDI clock, on their way to our transport.

    Its pulses take the way of all samples; the estimator turns them into positions.

    Args:
        transport: What is moved.
        tell: Called with each command and its session time.
    """

    def __init__(self, transport: Transport, tell: Callable[[str, int], None] | None = None) -> None:
        self.transport, self.estimator, self._tell = transport, MidiClockEstimator(), tell

    def __call__(self, command: str, t_us: int) -> None:
        """Do a command that was heard at a session time."""
        transport, at = self.transport, self.estimator.position
        if command == "start":
            transport.start(t_us)
        elif command == "continue":
            transport.start(t_us, at)
        elif command == "stop":
            transport.stop(t_us)
        elif command == "position" and not transport.running:
            transport.locate(at)
        if self._tell is not None:
            self._tell(command, t_us)


class WithoutBeats:
    """A source whose beats are left out, because somebody else leads."""

    name: str
    body: Body | None
    audio_hz: int | None

    def __init__(self, source: Source, leader: str) -> None:
        self._source, self._leader = source, leader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    @property
    def kinds(self) -> tuple[str, ...]:
        """See `Source`."""
        return tuple(k for k in self._source.kinds if k != "beat")

    @property
    def origin_us(self) -> int:
        """See `Source`."""
        return self._source.origin_us

    @origin_us.setter
    def origin_us(self, t_us: int) -> None:
        self._source.origin_us = t_us

    def poll(self, now_ns: int) -> Sequence[Sample]:
        """See `Source`."""
        return [s for s in self._source.poll(now_ns) if s.kind != "beat"]

    def said(self) -> list[str]:
        """See `Source`."""
        return [*self._source.said(), f"{self._source.name}: its beat is not followed, {self._leader} leads"]


def recorded(source: Source) -> bool:
    """Whether it plays a recording that has beats of its own."""
    return "beat" in source.kinds and hasattr(source, "end_us")


def led_by(sources: Sequence[Source], specs: Sequence[str], leader: str) -> list[Source]:
    """The sources, with the beats of those left out that are not the leader.

    Under our own lead the transport itself refuses beats; only a MIDI clock is left out there, and says so, because it
    was named for its beat alone.

    Args:
        sources: What the words named, one for each.
        specs: The words.
        leader: Of the transport.

    Raises:
        UsageError: the leader has no source that gives beats; the message names what to add.
    """

    def leads(source: Source, spec: str) -> bool:
        word = "audio" if "audio" in source.kinds else "recording" if recorded(source) else spec.partition(":")[0]
        return "beat" in source.kinds and word == leader

    pairs = list(zip(sources, specs, strict=True))
    if leader not in FOLLOWED:
        return [WithoutBeats(s, leader) if spec.startswith("midi-clock:") else s for s, spec in pairs]
    if not any(leads(s, spec) for s, spec in pairs):
        raise UsageError(f"--leader {leader}, and no source gives that beat", hint=f"add {WANTED[leader]}")
    return [WithoutBeats(s, leader) if "beat" in s.kinds and not leads(s, spec) else s for s, spec in pairs]


class FollowDancer:
    """Our own tempo times the control tempo_scale, while choreo leads: the transport refuses it otherwise."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def tick(self, t_us: int, out: Outgoing | None) -> None:
        """Run on at the tempo that was sent last."""
        if out is not None:
            self._transport.scale(float(out.values[TEMPO_SCALE]), t_us)


class Required:
    """Ends a performance when a port or a sensor that is required is away and stays away.

    Args:
        keepers: The ports.
        silent: Names a sensor that is silent at a session time for so many microseconds, None when there is none.
        patience_s: How long something may be away.
        give_up: Called once, with what is away.
    """

    def __init__(
        self,
        keepers: Sequence[Keeper],
        silent: Callable[[int, int], str | None],
        patience_s: float,
        give_up: Callable[[str], None],
    ) -> None:
        self._keepers, self._silent, self._patience_s, self._give_up = list(keepers), silent, patience_s, give_up
        self._over = False

    def tick(self, t_us: int, out: Outgoing | None) -> None:
        """Look at everything that is required."""
        if self._over:
            return
        away = next((k for k in self._keepers if k.lost_s() > self._patience_s), None)
        name = self._silent(t_us, round(self._patience_s * 1e6)) if away is None else f"{away.name} ({away.why})"
        if name is not None:
            self._over = True
            self._give_up(f"{name} is required and was away for {self._patience_s:g} s")


class StepKeepers:
    """Looks after the ports in virtual time, where their keepers have no threads."""

    def __init__(self, keepers: Sequence[Keeper]) -> None:
        self._keepers = list(keepers)

    def tick(self, t_us: int, out: Outgoing | None) -> None:
        """Let every keeper do what is due."""
        for keeper in self._keepers:
            keeper.step()
