"""What the loop asks of its parts, and how it is looked at from outside."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from choreo_cli.live.assemble import Frame
from choreo_cli.live.latency import Ring
from choreo_cli.live.port import Cue, Outgoing, Port
from choreo_cli.live.sample import Sample
from formats.control_map import ControlMap

F32 = NDArray[np.float32]
Bool = NDArray[np.bool_]

YOUNG = 20_000
"""Objects between two looks of the collector: threads beside the loop may leave cycles, so it is not switched off."""


class Model(Protocol):
    """See `live.model.LiveModel`."""

    @property
    def window(self) -> int: ...

    def step(self, x: F32, mask: Bool) -> tuple[F32, F32]: ...

    def reset(self) -> None: ...


class Assembles(Protocol):
    """See `live.assemble.Assembler`."""

    def take(self, sample: Sample) -> None: ...

    def frame(self, t_us: int) -> Frame: ...


class Beats(Protocol):
    """See `live.transport.Transport`."""

    def beat_at(self, t_us: int) -> float: ...

    @property
    def bpm(self) -> float: ...


class Stage(Protocol):
    """See `live.stages.Stages`."""

    def step(self, frame: Frame, z: F32, y: F32, transport: Any) -> Sequence[Cue]: ...


class Companion(Protocol):
    """Something that goes along with the ticks: the MIDI clock, in virtual time the ports' keepers.

    It may have more, and then it is used: `begin(start_ns, origin_us)` as ports have it, and `end()`.
    """

    def tick(self, t_us: int, out: Outgoing | None) -> None:
        """A tick begins, `out` was sent last. Returns at once and never raises."""
        ...


class Records(Protocol):
    """See `live.recorder.Recorder`."""

    ring: Ring

    def pace(self) -> None: ...

    def stop(self) -> list[str]: ...


@dataclass(frozen=True, slots=True)
class Look:
    """The loop as another thread sees it.

    Args:
        out: What left the guards last, None before the first tick.
        alive: Modality -> its sensor is heard.
        mask: Which modalities were measured, in the order of `formats.columns.MODALITIES`.
        t_us: Session time.
        missed: Ticks skipped so far.
        arrival_to_sent_ms: Of the newest ticks, in order.
    """

    out: Outgoing | None
    alive: dict[str, bool]
    mask: tuple[bool, ...]
    t_us: int
    missed: int
    arrival_to_sent_ms: NDArray[np.float64]


def remap_all(ports: Sequence[Port], new: ControlMap, old: ControlMap) -> None:
    """Give every port that has numbers from it another control map, or none of them.

    Raises:
        ConfigError: of the port that cannot take it; those before it have the old one again.
    """
    done: list[Any] = []
    for port in ports:
        remap = getattr(port, "remap", None)
        if remap is None:
            continue
        try:
            remap(new)
        except BaseException:
            for each in done:
                each(old)
            raise
        done.append(remap)


@contextmanager
def collected() -> Iterator[None]:
    """Collect and freeze what is there, so that the collector looks at little while the loop runs."""
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
