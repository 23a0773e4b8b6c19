"""The loop: every 20 ms a frame in, a packet out, on absolute deadlines, whatever happens around it.

A tick that comes more than a period late is skipped and counted, never made up for: the grid stays where it is. The
loop writes no file, waits for no device and starts no thread; what it has to tell goes into bounded queues. Nothing
that a source, a model, a stage or a port raises ends it: that is counted, told once a second, and the last valid values
go on. When it ends, for whatever reason, the instrument is led to neutral, silenced, and the ports are given back.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.errors import ExitCode
from choreo_cli.live.assemble import PHASE, Frame
from choreo_cli.live.clock import SECOND_NS, Clock
from choreo_cli.live.guards import Guards
from choreo_cli.live.latency import NONE, SPANS, Ring, span_ms, spread
from choreo_cli.live.loop_parts import Assembles, Beats, Companion, Look, Model, Records, Stage, collected, remap_all
from choreo_cli.live.port import Cue, Outgoing, Port
from choreo_cli.live.sample import Source
from choreo_cli.live.summary import Summary
from choreo_cli.live.throttle import Throttle
from choreo_cli.live.watch import BeatCount, Emits, Gate, Watch
from formats.columns import CONTROL_NAMES
from formats.control_map import ControlMap
from formats.packets import MASK_BITS

F32 = NDArray[np.float32]

PERIOD_US = 20_000
LEAD_NS = 100_000_000
"""Real time between the start and the first tick, in which the sources are opened."""
GOODBYE_NS = 2 * SECOND_NS
TOLD_NS = SECOND_NS
BITS = np.array(list(MASK_BITS.values()), np.int64)


class Loop:
    """One performance.

    Args:
        clock: Real, faster, or virtual.
        sources: Opened by `run` and closed by it; the first one says at what session time it begins.
        assembler: Makes frames of samples.
        model: Makes latents and controls of frames.
        guards: The last before a port.
        ports: Open already (`Keeper` around each); closed by `run`.
        recorder: Takes the ledger's ring, None to record nothing.
        events: Is told what happens.
        stages: Gestures, look-ahead, planner.
        period_us: Time between ticks.
        transport: Beats, for ports and stages.

    Attributes:
        frozen: Hold what is sent. Any thread may set it, like `neutral`.
        neutral: Lead the instrument to neutral and keep it there.
        companions: Go along with the ticks, in this order; ended before the instrument is led to neutral.
        on_frame: Called on the loop's thread with every frame and its beat; must return at once.
    """

    def __init__(
        self,
        clock: Clock,
        sources: Sequence[Source],
        assembler: Assembles,
        model: Model,
        guards: Guards,
        ports: Sequence[Port],
        recorder: Records | None,
        events: Emits,
        stages: Stage | None = None,
        period_us: int = PERIOD_US,
        *,
        transport: Beats | None = None,
    ) -> None:
        self.clock, self.sources, self.assembler, self.model = clock, list(sources), assembler, model
        self.guards, self.ports, self.recorder, self.events = guards, list(ports), recorder, events
        self.stages, self.transport = stages, transport
        self.period_us, self._period_ns = period_us, period_us * 1000
        self.ring = Ring() if recorder is None else recorder.ring
        self.frozen = self.neutral = False
        self.companions: list[Companion] = []
        self.on_frame: Callable[[Frame, int], None] | None = None
        self.summary = Summary()
        self.gate = Gate()
        self.origin_us = self.sources[0].origin_us if self.sources else 0
        self._panic = False
        self._next_model: Model | None = None
        self._next_map: ControlMap | None = None
        self._port_map = guards.map
        self._out: Outgoing | None = None
        self._frame: Frame | None = None
        self._none = np.full(len(CONTROL_NAMES), np.nan, np.float32)
        self._no_latents = np.full(104, np.nan, np.float32)
        self._live = self._holding = False
        self._seq = self._skipped = 0
        self._slot = self._last_slot = -1
        self._start_ns = self._before_ns = 0
        self._beats = BeatCount()
        self._told: dict[str, int] = {}

    def swap(self, model: Model) -> None:
        """Play another model from the next tick on; callable from any thread."""
        self._next_model = model

    def reload_map(self, control_map: ControlMap) -> None:
        """Take another control map from the next tick on; callable from any thread but the loop's.

        Raises:
            ConfigError: a port cannot do what it says; the old map stays everywhere.
        """
        remap_all(self.ports, control_map, self._port_map)
        self._next_map = self._port_map = control_map

    def panic(self) -> None:
        """Silence every port at the next tick and go to neutral; callable from any thread."""
        self._panic = True

    def look(self, ticks: int = 250) -> Look:
        """A look from another thread."""
        frame, out = self._frame, self._out
        return Look(
            out,
            dict(frame.alive) if frame else {},
            tuple(frame.mask.tolist()) if frame else (),
            frame.t_us if frame else self.origin_us,
            self.summary.missed,
            span_ms(self.ring.newest(ticks), "t_arrival_ns", "t_sent_ns"),
        )

    def run(self, until_us: int | None = None, stop: threading.Event | None = None) -> Summary:
        """Play until the sources end, `until_us` is passed, or `stop` is set.

        Raises:
            UnavailableError, NoInputError, FormatError: of a source that cannot be opened.
        """
        summary = self.summary
        try:
            self._begin()
            with collected():
                summary.reason = self._play(until_us, stop or threading.Event())
        except BaseException as e:
            summary.reason = f"{type(e).__name__}: {e}"
            raise
        finally:
            self._end()
        return summary

    def _begin(self) -> None:
        lead = round(LEAD_NS * getattr(self.clock, "speed", 1.0))
        self._start_ns = self._before_ns = self.clock.now_ns() + lead
        first = self.origin_us
        for source in self.sources:
            source.open(self.clock, self._start_ns + (source.origin_us - first) * 1000)
        for kept in (*self.ports, *self.companions):
            begin = getattr(kept, "begin", None)
            if begin is not None:
                begin(self._start_ns, first)
        throttle_ms = self.guards.map.throttle_ms
        self._throttles = [Throttle(throttle_ms, p.quantum, origin_ns=self._start_ns) for p in self.ports]
        self.watch = Watch(self.sources, self.events, first)
        self.summary.first_us, self.summary.start_ns = first, self._start_ns
        self.events.emit(
            "start", first, sources=[s.name for s in self.sources], ports=[p.name for p in self.ports],
            said=[line for s in self.sources for line in s.said()], period_us=self.period_us,
        )  # fmt: skip

    def _play(self, until_us: int | None, stop: threading.Event) -> str:
        period, clock = self._period_ns, self.clock
        # What opening the sources took is no missed tick.
        slot = max(0, -(-(clock.now_ns() - self._start_ns) // period))
        while not stop.is_set():
            t_us = self.origin_us + slot * self.period_us
            if until_us is not None and t_us > until_us:
                return "until"
            deadline = self._start_ns + slot * period
            clock.wait_until(deadline)
            late = clock.now_ns() - deadline
            missed = 0
            if late > period:
                missed = late // period
                slot += missed
                deadline += missed * period
                late -= missed * period
                t_us = self.origin_us + slot * self.period_us
            self._slot = slot
            self._tick(t_us, deadline, late, missed)
            if self.watch.over:
                return "ended"
            slot += 1
        return "lost" if self.summary.lost else "stopped"

    def _tick(self, t_us: int, deadline: int, late: int, missed: int) -> None:
        clock, now = self.clock, deadline + late
        self._between(t_us, late, missed)
        for companion in self.companions:
            companion.tick(t_us, self._out)
        self._listen(now, t_us, missed * self.period_us)
        frame = self.assembler.frame(t_us)
        self._frame = frame
        beat_idx = self._beats.of(float(frame.values[PHASE]))
        t_frame = clock.now_ns()
        z, y = self._model(frame, t_us)
        t_model = clock.now_ns()
        beat = bpm = None
        if self.transport is not None:
            beat, bpm = self.transport.beat_at(t_us), self.transport.bpm
        frozen, neutral = self.frozen, self.neutral
        out = self.guards.release(
            y, (now - self._before_ns) / SECOND_NS, self._seq, t_us, frozen=frozen, neutral=neutral, beat=beat, bpm=bpm
        )
        self._before_ns = now
        t_guard = clock.now_ns()
        sent = self._send(out, deadline)
        t_sent = clock.now_ns()
        self._out = out
        arrival = frame.t_arrival_ns
        self.ring.put(
            (
                t_us, self._seq, NONE if frame.t_sensor_us is None else frame.t_sensor_us,
                NONE if arrival is None else arrival, t_frame, t_model, t_guard, t_sent if sent else NONE, NONE, late,
                missed, out.held, not self._live, int(frame.mask @ BITS), sent, beat_idx,
            ), frame.values, y, out.values, beat, bpm,
        )  # fmt: skip
        self._after(frame, z, y, out, t_us, beat_idx)

    def _between(self, t_us: int, late: int, missed: int) -> None:
        """What other threads asked for, and what a late tick means."""
        summary = self.summary
        if missed:
            summary.missed += missed
            self.events.emit("xrun", t_us, missed=missed, late_ms=round((late + missed * self._period_ns) / 1e6, 3))
        if self._next_model is not None:
            self.model, self._next_model = self._next_model, None
            self.model.reset()
            self.events.emit("model", t_us, state="swapped", folder=str(getattr(self.model, "mapper_folder", "")))
        if self._next_map is not None:
            found, self._next_map = self._next_map, None
            self.guards.reload(found)
            for throttle in self._throttles:
                throttle.retime(found.throttle_ms)
                throttle.resend()
        if self._panic:
            self._panic, self.neutral = False, True
            self._silence()

    def _listen(self, now: int, t_us: int, stall_us: int) -> None:
        for k, source in enumerate(self.sources):
            try:
                samples = source.poll(now)
            except Exception as e:
                self._trouble(f"source {source.name}", e, t_us)
                continue
            if samples:
                self.watch.heard(k, t_us)
            for sample in samples:
                # No sample of this tick may lie beyond its frame.
                arrival_us = min(t_us, self.origin_us + (sample.t_arrival_ns - self._start_ns) // 1000)
                found, jumped = self.gate.admit(k, sample, arrival_us, stall_us)
                if jumped:
                    self.model.reset()
                    self.events.emit("source", t_us, source=source.name, state="clock jumped", stream=sample.kind)
                if found is not None:
                    try:
                        self.assembler.take(found)
                    except Exception as e:
                        self._trouble(f"sample of {source.name}", e, t_us)
        self.watch.look(t_us)

    def _model(self, frame: Frame, t_us: int) -> tuple[F32, F32]:
        """Latents and controls; NaN while nothing is measured: then the stretch has ended, as in training."""
        self.watch.modalities(frame.mask, t_us)
        if not frame.mask.any():
            if self._live:
                self.model.reset()
            self._live = False
            return self._no_latents, self._none
        if self._slot - self._last_slot - 1 > self.model.window:
            self.model.reset()
        self._last_slot, self._live = self._slot, True
        try:
            return self.model.step(frame.values, frame.mask)
        except Exception as e:
            self._trouble("model", e, t_us)
            return self._no_latents, self._none

    def _send(self, out: Outgoing, deadline: int) -> int:
        """Hand the values to the ports that are due; how many took them."""
        taken = 0
        for port, throttle in zip(self.ports, self._throttles, strict=True):
            due = throttle.due(out, deadline)
            if due is None:
                continue
            try:
                taken += port.send(due) > 0
            except Exception as e:
                throttle.resend()
                self._trouble(f"port {port.name}", e, out.t_us)
        return taken

    def _after(self, frame: Frame, z: F32, y: F32, out: Outgoing, t_us: int, beat_idx: int) -> None:
        """What may come after the packet has left."""
        self._seq += 1
        self.summary.ticks += 1
        self.summary.last_us = t_us
        self.summary.held += out.held
        holding = bool(np.isnan(y).any())
        if holding != self._holding:
            self._holding = holding
            self.events.emit("hold", t_us, held=holding, why="nothing is measured" if not self._live else "the model")
        try:
            if self.stages is not None:
                for cue in self.stages.step(frame, z, y, self.transport):
                    self._cue(cue)
            if self.on_frame is not None:
                self.on_frame(frame, beat_idx)
        except Exception as e:
            self._trouble("stages", e, t_us)
        if self.recorder is not None:
            self.recorder.pace()

    def _cue(self, cue: Cue) -> None:
        facts = {"name": cue.name, "strength": round(float(cue.strength), 4), "about_us": cue.t_us}
        self.events.emit(cue.kind, self.summary.last_us, **facts, **({} if cue.beat is None else {"beat": cue.beat}))
        for port in self.ports:
            try:
                port.cue(cue)
            except Exception as e:
                self._trouble(f"port {port.name}", e, cue.t_us)

    def _trouble(self, where: str, error: Exception, t_us: int) -> None:
        """Count what was raised; tell it at most once a second for each place."""
        troubles = self.summary.troubles
        troubles[where] = troubles.get(where, 0) + 1
        now = self.clock.now_ns()
        if now - self._told.get(where, -TOLD_NS) >= TOLD_NS:
            self._told[where] = now
            self.events.emit("error", t_us, where=where, why=f"{type(error).__name__}: {error}", n=troubles[where])

    def _silence(self) -> None:
        for port in self.ports:
            with contextlib.suppress(Exception):
                port.silence()

    def _end(self) -> None:
        """Neutral, silence, everything given back; whatever fails, the rest is done."""
        summary = self.summary
        for companion in self.companions:
            with contextlib.suppress(Exception):
                getattr(companion, "end", lambda: None)()
        with contextlib.suppress(Exception):
            self._goodbye()
        self._silence()
        # Sound first: to leave JACK by MIDI would wait for a server that waits for us to hear it, for up to 10 s.
        for source in sorted(self.sources, key=lambda s: "audio" not in s.kinds):
            with contextlib.suppress(Exception):
                summary.sources[source.name] = source.facts()
                source.close()
        for port in self.ports:
            with contextlib.suppress(Exception):
                summary.ports[port.name] = port.facts()
                port.close()
        summary.guards, summary.samples = self.guards.counts, self.gate.counts
        newest = self.ring.newest(self.ring.size)
        summary.latency_ms = {name: spread(span_ms(newest, a, b)) for name, a, b in SPANS}
        if self.recorder is not None:
            summary.faults = self.recorder.stop()
        facts: dict[str, Any] = {"reason": summary.reason, "ticks": summary.ticks, "missed": summary.missed}
        code = summary.exit_code
        self.events.emit("stop", summary.last_us, **facts, **({"exit": int(code)} if code != ExitCode.OK else {}))

    def _goodbye(self) -> None:
        """Lead the instrument to neutral by its own speed limit: until it stands still, for two seconds at most."""
        if not self.summary.ticks:
            return
        start, before = self.clock.now_ns(), self._out
        deadline, t_us = start, self.summary.last_us
        anything = np.full(len(CONTROL_NAMES), 0.5, np.float32)  # the model has nothing to say any more
        while self.clock.now_ns() - start < GOODBYE_NS:
            # After a late tick the next one waits its turn: two at once would stand as still as one that has arrived.
            deadline, t_us = max(deadline, self._before_ns) + self._period_ns, t_us + self.period_us
            self.clock.wait_until(deadline)
            now = self.clock.now_ns()
            out = self.guards.release(anything, (now - self._before_ns) / SECOND_NS, self._seq, t_us, neutral=True)
            self._before_ns = now
            self._seq += 1
            still = before is not None and float(np.abs(out.unit - before.unit).max()) < 1e-4
            if still:
                for throttle in self._throttles:
                    throttle.resend()
            self._send(out, max(now, deadline))
            self._out = before = out
            if still:
                return
