"""What the loop thinks of its sources: samples out of time, sensors that fall silent, modalities that come and go."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from choreo_cli.live.sample import Sample, Source
from formats.columns import MODALITIES

JUMP_US = 1_000_000
LOST_US = 2_000_000
REMIND_US = 5_000_000
GRACE_US = 500_000
"""Sensors may take so long to give the first frame before a modality is called missing."""
QUIET = frozenset({"target", "beat"})
"""Kinds that may be silent for as long as they like, and that nobody waits for at the end."""


class Emits(Protocol):
    """Where things are told, see `live.events.Events`."""

    def emit(self, kind: str, t_us: int, **facts: Any) -> None: ...


class Gate:
    """Lets samples through whose time can be true, each stream (source and kind) by itself.

    A time that does not increase is dropped. A stamp of the future becomes the time of arrival. When a stamp moves by
    more than a second against the time of arrival, the sensor's clock has jumped: the sample is taken at its arrival.
    """

    def __init__(self) -> None:
        self.dropped = self.future = self.jumps = 0
        self._streams: dict[tuple[int, str], list[int]] = {}

    def admit(self, source: int, sample: Sample, arrival_us: int, stall_us: int = 0) -> tuple[Sample | None, bool]:
        """The sample as it may be used, None to drop it, and whether its clock has jumped.

        Args:
            source: Which source it came from.
            sample: As it was polled.
            arrival_us: Its arrival in session time.
            stall_us: The loop itself was away for so long: what was waiting meanwhile is not late.
        """
        t_us, skew = sample.t_us, sample.t_us - arrival_us
        if skew < 0:
            skew = min(0, skew + stall_us)
        known = self._streams.get((source, sample.kind))
        if known is None:
            self._streams[(source, sample.kind)] = known = [t_us - 1, skew, -(2**62)]
        last, last_skew, given = known
        jumped = abs(skew - last_skew) > JUMP_US
        if jumped:
            self.jumps += 1
        elif t_us <= last:
            self.dropped += 1
            return None, False
        known[0], known[1] = t_us, skew
        if skew > 0:
            self.future += 1
        if skew > 0 or jumped or skew < -JUMP_US:
            t_us = arrival_us
        if t_us <= given:
            if not jumped and skew <= 0:
                self.dropped += 1
                return None, False
            t_us = given + 1  # several of one arrival keep their order
        known[2] = t_us
        return (sample if t_us == sample.t_us else replace(sample, t_us=t_us)), jumped

    @property
    def counts(self) -> dict[str, int]:
        """Samples that were dropped, had a stamp of the future, or came after a jump of their clock."""
        return {"not_increasing": self.dropped, "future": self.future, "clock_jumps": self.jumps}


class Watch:
    """Tells of sources that fall silent and come back, and of modalities that are masked.

    Args:
        sources: All of them.
        events: Where to tell.
        start_us: Session time of the first tick.
    """

    def __init__(self, sources: Sequence[Source], events: Emits, start_us: int) -> None:
        self._sources, self._events, self._start = sources, events, start_us
        self._heard = [start_us] * len(sources)
        self._lost, self._reminded = [False] * len(sources), [False] * len(sources)
        self._quiet = [set(s.kinds) <= QUIET for s in sources]
        self._measured = [True] * len(MODALITIES)
        self.silences = 0
        self.repeated: deque[str] = deque(maxlen=32)
        """What a source that is not heard has to say, for the person: taken by another thread."""

    def heard(self, source: int, t_us: int) -> None:
        """Something came from a source."""
        self._heard[source] = t_us
        if self._lost[source]:
            self._lost[source] = self._reminded[source] = False
            self._events.emit("source", t_us, source=self._sources[source].name, state="recovered")

    def look(self, t_us: int) -> None:
        """Judge the silences; called every tick."""
        for k, source in enumerate(self._sources):
            silent = t_us - self._heard[k]
            if silent <= LOST_US or self._quiet[k] or source.ended:
                continue
            if not self._lost[k]:
                self._lost[k] = True
                self.silences += 1
                self._events.emit("source", t_us, source=source.name, state="lost", silent_s=round(silent / 1e6, 3))
            elif silent > REMIND_US and not self._reminded[k]:
                self._reminded[k] = True
                said = source.said()
                self._events.emit("source", t_us, source=source.name, state="silent", said=said)
                self.repeated += [f"{source.name}: nothing for {silent / 1e6:.0f} s", *said]

    def away(self, t_us: int, for_us: int) -> str | None:
        """A source that should be heard and was silent for so long, None when there is none."""
        for k, source in enumerate(self._sources):
            if t_us - self._heard[k] > for_us and not self._quiet[k] and not source.ended:
                return source.name
        return None

    def modalities(self, mask: NDArray[np.bool_], t_us: int) -> None:
        """Tell which modality is measured from now on, and which one is predicted from the others."""
        given = mask.tolist()
        if given == self._measured:
            return
        for k, name in enumerate(MODALITIES):
            if given[k] == self._measured[k] or (not given[k] and t_us - self._start < GRACE_US):
                continue
            self._measured[k] = given[k]
            instead = {} if given[k] else {"instead": "predicted from the others" if any(given) else "values are held"}
            self._events.emit("modality", t_us, name=name, measured=given[k], **instead)

    @property
    def over(self) -> bool:
        """Every source that can end has ended, and there is one."""
        waited = [s for s, quiet in zip(self._sources, self._quiet, strict=True) if not quiet] or list(self._sources)
        return all(s.ended for s in waited)


class BeatCount:
    """Numbers the beats of a performance by the phase of its frames."""

    def __init__(self) -> None:
        self._beat, self._phase = -1, -1.0

    def of(self, phase: float) -> int:
        """Number of the beat at a phase, from 0; -1 while the phase is NaN."""
        if phase != phase:
            self._phase = -1.0
            return -1
        if self._phase < 0 or phase < self._phase - 0.5:
            self._beat += 1
        self._phase = phase
        return self._beat
