"""A small performance for the tests of the loop: sources in memory, a model that is real, virtual time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from choreo_cli.live.assemble import Assembler
from choreo_cli.live.clock import Clock, VirtualClock
from choreo_cli.live.guards import Guards
from choreo_cli.live.loop import Loop
from choreo_cli.live.loopback import LoopbackPort
from choreo_cli.live.model import LiveModel
from choreo_cli.live.sample import Sample
from formats.columns import INPUTS
from formats.control_map import DEFAULT, ControlMap

TOP = Path(__file__).resolve().parents[2]
RPS, MAPPER = TOP / "examples" / "checkpoints" / "rps", TOP / "examples" / "checkpoints" / "mapper"
STEP_US = 20_000
STEP_NS = 20_000_000


def dance(n: int, seed: int = 0) -> np.ndarray:
    """Frames (n, 11) within their bounds: one slow curve, a beat of 120."""
    rng = np.random.default_rng(seed)
    t = np.arange(n) / 50
    level = 0.5 + 0.35 * np.sin(2 * np.pi * t / 9)
    phase = (2.0 * t) % 1
    pulse = np.exp(-phase / 0.2)
    x = np.zeros((n, 11), np.float32)
    x[:, 0], x[:, 1], x[:, 2] = level * (0.3 + 0.6 * pulse), 2 + 0.3 * level, 0.8 * pulse
    x[:, 3], x[:, 4], x[:, 5] = 0.5 * np.sin(2 * np.pi * phase), 0.5 * np.cos(2 * np.pi * phase), 0.6 + 0.3 * level
    x[:, 6], x[:, 7], x[:, 8], x[:, 9] = 80 + 60 * level, 3 * (level - 0.5), 0.2 + 0.6 * level, 0.3 + 0.3 * level
    x[:, :6] += 0.02 * rng.standard_normal((n, 6)).astype(np.float32)
    x[:, 10] = phase
    for k, c in enumerate(INPUTS):
        x[:, k] = np.clip(x[:, k], c.lo, np.nextafter(np.float32(c.hi), np.float32(0)))
    return x


class Script:
    """A source that gives prepared (arrival_us, t_us, values) rows when their arrival has come.

    Args:
        rows: In order of arrival; times in session microseconds.
        kind: Kind of the samples.
        endless: It never says that it has ended.
        whole: See `Sample`.
    """

    audio_hz = None
    body = None
    origin_us = 0

    def __init__(
        self,
        rows: Sequence[tuple[int, int, Any]],
        kind: str = "inputs",
        *,
        name: str = "script",
        endless: bool = False,
        whole: bool = False,
    ) -> None:
        self.name, self.kinds, self._kind = name, (kind,), kind
        self._rows, self._endless, self._whole = list(rows), endless, whole
        self._at = self._start_ns = 0
        self.closed = False

    def open(self, clock: Clock, start_ns: int) -> None:
        self._start_ns = start_ns

    def poll(self, now_ns: int) -> list[Sample]:
        found = []
        while self._at < len(self._rows):
            arrival, t_us, values = self._rows[self._at]
            at_ns = self._start_ns + arrival * 1000
            if at_ns > now_ns:
                break
            found.append(Sample(self._kind, t_us, at_ns, np.asarray(values, np.float32), t_us, self._whole))
            self._at += 1
        return found

    @property
    def ended(self) -> bool:
        return not self._endless and self._at >= len(self._rows)

    def said(self) -> list[str]:
        return [f"{self.name}: listening on 127.0.0.1:9000"]

    def facts(self) -> dict[str, Any]:
        return {"samples": self._at}

    def close(self) -> None:
        self.closed = True


class Told:
    """Events in a list."""

    def __init__(self) -> None:
        self.all: list[tuple[str, int, dict[str, Any]]] = []

    def emit(self, kind: str, t_us: int, **facts: Any) -> None:
        self.all.append((kind, t_us, facts))

    def of(self, kind: str) -> list[tuple[int, dict[str, Any]]]:
        return [(t, facts) for k, t, facts in self.all if k == kind]


def rows_of(x: np.ndarray, start: int = 0) -> list[tuple[int, int, np.ndarray]]:
    """Every frame arrives at its own time."""
    return [(STEP_US * (start + k), STEP_US * (start + k), row) for k, row in enumerate(x)]


def made(
    sources: Sequence[Any],
    *,
    clock: Clock | None = None,
    control_map: ControlMap = DEFAULT,
    recorder: Any = None,
    ports: Sequence[Any] | None = None,
    model: Any = None,
    late: Callable[[int], int] | None = None,
    **more: Any,
) -> tuple[Loop, LoopbackPort, Told]:
    """A loop over these sources with a loopback port."""
    port = LoopbackPort()
    port.open()
    told = Told()
    loop = Loop(
        clock or VirtualClock(late=late),
        sources,
        Assembler.of(sources),
        model or LiveModel.open(RPS, MAPPER, "numpy"),
        Guards(control_map),
        [port] if ports is None else ports,
        recorder,
        more.pop("events", told),
        **more,
    )
    return loop, port, told
