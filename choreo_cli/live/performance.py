"""A performance put together from a show: sources, model, guards, ports, recording, stages, lessons."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from choreo_cli.errors import ChoreoError, DataError, NoInputError, UnavailableError, UsageError
from choreo_cli.live.assemble import Assembler
from choreo_cli.live.calibrate_body import read_scale
from choreo_cli.live.clock import Clock, MonotonicClock, VirtualClock
from choreo_cli.live.clock_out import ClockOut
from choreo_cli.live.events import Events
from choreo_cli.live.found import find_models
from choreo_cli.live.guards import Guards
from choreo_cli.live.keeper import Keeper
from choreo_cli.live.latency import ACK_TICKS
from choreo_cli.live.loop import Loop
from choreo_cli.live.mapwatch import MapWatch
from choreo_cli.live.meters import KEYS, View
from choreo_cli.live.model import LiveModel
from choreo_cli.live.opening import control_map_of, offset_of, ports_of, sources_of
from choreo_cli.live.port import Port
from choreo_cli.live.realtime import realtime
from choreo_cli.live.relays import ClockRelay, FollowDancer, Required, StepKeepers, recorded
from choreo_cli.live.show import Show, led
from choreo_cli.live.stages import Stages
from choreo_cli.live.teach import Teacher
from choreo_cli.live.transport import Transport
from formats.columns import MODALITIES
from formats.errors import FormatError

if TYPE_CHECKING:
    from choreo_cli.live.recorder import Recorder
    from choreo_cli.live.recording import Recording
    from choreo_cli.live.summary import Summary

STEP_US = 20_000
BESIDE_S = 0.1
REQUIRED_S = 10.0
"""With `require` a port or sensor may be away for so long, unless `wait_s` says otherwise."""


@dataclass(frozen=True, slots=True)
class Around:
    """What a performance is given besides its show.

    Args:
        speed: Session seconds in a real second; 0 is as fast as the work is done.
        out: Folder to record into, None records nothing.
        roots: `--root` overrides of the checkpoint.
        stdin: Binary stream behind the source `-`.
        program: How to start choreo for a lesson: `(python, "-m", "choreo_cli")`.
        env: Environment of that process.
        wait_s: How long to wait for a port that is not there yet, and with `require` for one that went away.
    """

    speed: float = 1.0
    out: Path | None = None
    roots: Mapping[str, str] = field(default_factory=dict)
    stdin: Any = None
    program: Sequence[str] = ()
    env: Mapping[str, str] | None = None
    wait_s: float = 0.0


def speed_of(text: str) -> float:
    """`1`, `N` or `max` as a number, 0 for `max`. Raises UsageError."""
    if text == "max":
        return 0.0
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 0.01 <= speed <= 1000:
        raise UsageError(f"--speed {text} is no speed", hint="write 1, a number up to 1000, or max")
    return speed


def clock_of(speed: float) -> Clock:
    """The clock of a speed; 0 is virtual time."""
    return VirtualClock() if speed == 0 else MonotonicClock(speed)


class Performance:
    """Everything of one run of `run-live`, opened and ready to play.

    Args:
        show: What to play.
        around: How.
        events: Where what happens is told.
        recording: Where it is recorded, None for nowhere.
        clock: Of `around.speed` when None.

    Raises:
        UsageError: the show contradicts itself.
        ChoreoError: a checkpoint, map, scale, source or port that is not there or not usable.
    """

    def __init__(
        self,
        show: Show,
        around: Around,
        events: Events,
        recording: Recording | None = None,
        clock: Clock | None = None,
    ) -> None:
        asked, show = show.transport, led(show)
        self.show, self.around, self.events = show, around, events
        self.clock = clock or clock_of(around.speed)
        self.stop = threading.Event()
        self.said, self.opened = "", False
        self.remarks: deque[str] = deque(maxlen=64)
        self.map = control_map_of(show)
        self.watch = MapWatch(show.map, self.map) if show.map else None
        self.models = models_of(show, around.roots)
        self.model = LiveModel.open(*self.models, show.engine)
        self.transport = Transport(show.transport.bpm, show.transport.leader or "choreo")
        self.stages = stages_of(show, self.model.rps.sha256)
        self.sources = sources_of(show, around, ClockRelay(self.transport, self._commanded))
        if asked.leader is None and not asked.follow_dancer and any(recorded(s) for s in self.sources):
            self.transport.leader = "recording"  # the music that is heard is the recording's
        ports = ports_of(show, self.map)
        recorder = recording.begin(self.sources, self.model, events, ports) if recording is not None else None
        assembler = Assembler.of(self.sources, read_scale(Path(show.scale)) if show.scale else None, self.transport)
        self.keepers = [Keeper(port, self.clock, events, threaded=around.speed != 0) for port in ports]
        self.assembler = assembler
        self.loop = Loop(
            self.clock, self.sources, assembler, self.model, Guards(self.map, STEP_US), self.keepers, recorder, events,
            self.stages, STEP_US, transport=self.transport,
        )  # fmt: skip
        self.loop.summary.offset = offset_of(show)
        self._confirm(recorder)
        self._accompany()
        if show.offset and not show.lookahead:
            self.remarks.append("the offset changes nothing: only what a look-ahead announces can go out earlier")
            self.tell(self.remarks[-1], "plan")
        self.teacher = self._teacher()

    def _confirm(self, recorder: Recorder | None) -> None:
        """Let receivers that can say so say which packets they have; the recorder waits for them a while."""
        hearing = [k.port for k in self.keepers if hasattr(k.port, "on_ack")]
        if not hearing or self.around.speed == 0:
            return
        ring, clock = self.loop.ring, self.clock
        for port in hearing:
            port.on_ack = lambda seq: ring.ack(seq, clock.now_ns())
        if recorder is not None:
            recorder.hold = ACK_TICKS

    def _accompany(self) -> None:
        """What goes along with the ticks: ports kept in virtual time, a tempo that follows, MIDI clock out."""
        tempo, virtual, beside = self.show.transport, self.around.speed == 0, self.loop.companions
        if self.loop.origin_us:  # the first tick is beat 0, wherever the recording begins
            self.transport.start(self.loop.origin_us)
        if virtual:
            beside.append(StepKeepers(self.keepers))
        if tempo.follow_dancer:
            beside.append(FollowDancer(self.transport))
        if tempo.send_clock:
            self.clock_out = ClockOut(self.transport, self.keepers, self.clock, threaded=not virtual)
            if not self.clock_out.ports:
                raise UsageError("MIDI clock is to be sent, and no port is MIDI", hint="add --out midi:NAME")
            beside.append(self.clock_out)
        if self.show.require:
            patience_s = self.around.wait_s or REQUIRED_S
            beside.append(Required(self.keepers, lambda *at: self.loop.watch.away(*at), patience_s, self._give_up))

    def _give_up(self, why: str) -> None:
        self.loop.summary.lost = why
        self.stop.set()

    def _commanded(self, command: str, t_us: int) -> None:
        self.events.emit("source", t_us, source="midi-clock", state=f"transport {command}")

    def _teacher(self) -> Teacher | None:
        if not self.show.targets:
            return None
        if self.around.out is None:
            raise UsageError("--record-targets keeps what it hears", hint="name a folder: -o DIR")
        teacher = Teacher(
            self.around.out / "lessons", self.model, self.around.program, self.loop.swap, self.tell,
            step_us=STEP_US, engine=self.show.engine, env=self.around.env,
        )  # fmt: skip
        assembler = self.assembler
        self.loop.on_frame = lambda frame, beat: teacher.take(
            frame.t_us, frame.values, frame.mask, beat, assembler.target
        )
        return teacher

    def play(self, until_us: int | None = None, beside: Callable[[Performance], None] | None = None) -> Summary:
        """Open the ports and play to the end.

        Args:
            until_us: Session time after which it ends.
            beside: Called every 0.1 s on a thread of its own: meters, keys.

        Raises:
            UnavailableError: a port that was named is not there after `around.wait_s`.
            ChoreoError: of a source.
        """
        ended = threading.Event()
        helper = threading.Thread(target=self._beside, args=(ended, beside), name="beside", daemon=True)
        helper.start()
        try:
            self._open_ports()
            with realtime() if self.show.realtime and self.around.speed else nullcontext("") as refused:
                if refused:
                    self.warn(refused, "realtime")
                summary = self.loop.run(until_us, self.stop)
        finally:
            ended.set()
            helper.join(2.0)
            if self.watch is not None:
                self.watch.close()
            if self.teacher is not None:
                self.teacher.close()
                if self.teacher.rest:
                    self.warn(self.teacher.rest, "lesson")
        piped = summary.sources.get("-", {})
        if piped.get("samples") == 0 and summary.reason == "ended":
            why = f", {piped['refused']} lines were refused, first {piped['first_refused']}" if piped["refused"] else ""
            hint = "pipe JSON Lines of SensorPacket into it, or of poses with --body"
            raise DataError(f"nothing arrived on stdin{why}", hint=hint)
        return summary

    def _open_ports(self) -> None:
        done: list[Keeper] = []
        try:
            for keeper in self.keepers:
                self._open(keeper)
                done.append(keeper)
        except BaseException:
            for keeper in done:
                keeper.close()
            raise
        if self.watch is not None:
            self.watch.start()
        self.opened = True

    def _open(self, keeper: Keeper) -> None:
        try:
            keeper.open()
        except UnavailableError as e:
            if not self.around.wait_s:
                raise
            self.remarks.append(f"waiting up to {self.around.wait_s:g} s: {e}")
            keeper.open(self.around.wait_s, self.stop.is_set)

    @property
    def begun(self) -> bool:
        """Ports and sources are open."""
        return hasattr(self.loop, "watch")

    def _beside(self, ended: threading.Event, beside: Callable[[Performance], None] | None) -> None:
        """What goes on beside the loop, ten times a second: the map's file, the terminal."""
        while not ended.wait(BESIDE_S):
            for work in (Performance.repeat_addresses, beside, Performance.look_at_map):
                try:
                    if work is not None:
                        work(self)
                except Exception as e:  # this thread also hears the signals: nothing may end it
                    self.tell(f"{type(e).__name__}: {e}", "error", where="beside")

    def repeat_addresses(self) -> None:
        """Pass on where a sensor that is not heard should send to."""
        watch = getattr(self.loop, "watch", None)
        while watch is not None and watch.repeated:
            self.said = watch.repeated.popleft()
            self.remarks.append(self.said)

    def look_at_map(self) -> None:
        """Take an edited control map over, or tell once why it is not taken."""
        if self.watch is None or not self.opened:
            return
        found = self.watch.changed()
        if found is not None:
            try:
                self.loop.reload_map(found)
            except (ChoreoError, FormatError) as e:
                self._map_fault(str(e))
                return
            self._fault = None
            self.tell(f"{self.show.map} is in force", "map", state="reloaded")
        elif self.watch.fault is not None:
            self._map_fault(self.watch.fault)

    _fault: str | None = None

    def _map_fault(self, why: str) -> None:
        if why != self._fault:
            self._fault = why
            self.remarks.append(why)
            self.tell(why, "map", state="refused")

    def tell(self, text: str, kind: str = "model", **facts: Any) -> None:
        """Remember a remark for the terminal, and write it to the events."""
        self.said = text
        self.events.emit(kind, self.loop.look(1).t_us, text=text, **facts)

    def warn(self, text: str, where: str) -> None:
        """Tell a remark that the person has to see, on whatever they are looking at."""
        self.remarks.append(text)
        self.tell(text, "error", where=where)

    def reload(self) -> None:
        """Read the models again from where they were found: another training may have ended there."""
        try:
            self.loop.swap(LiveModel.open(*models_of(self.show, self.around.roots), self.show.engine))
        except (ChoreoError, FormatError, OSError) as e:
            self.tell(f"the model stays as it was: {e}")
            return
        self.tell(f"playing {self.models[1]} as it is now")

    def press(self, key: str) -> None:
        """Do what a key of `meters.KEYS` says; another key does nothing."""
        loop = self.loop
        if key == "f":
            loop.frozen = not loop.frozen
        elif key == "n":
            loop.neutral = not loop.neutral
        elif key == "p":
            loop.panic()
            self.tell("panic: silence, on the way to neutral; n plays again", "panic")
        elif key == "t":
            t_us = loop.origin_us + (self.clock.now_ns() - loop.summary.start_ns) // 1000
            if not self.transport.tap(t_us):
                self.said = f"{self.transport.leader} leads the tempo"
        elif key == "q":
            self.stop.set()
        elif key in "ru" and self.teacher is not None:
            self.teacher.begin() if key == "r" else self.teacher.undo()

    @property
    def ports(self) -> list[Port]:
        """The ports themselves, without their keepers."""
        return [keeper.port for keeper in self.keepers]

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys that do something here."""
        return tuple(k for k in KEYS if k not in "ru" or self.teacher is not None)

    def view(self) -> View:
        """What the meters show."""
        look = self.loop.look()
        view = View(
            alive=dict(zip(MODALITIES, look.mask, strict=False)), t_us=look.t_us, missed=look.missed,
            ports={k.name: k.state for k in self.keepers}, said=self.said, frozen=self.loop.frozen,
            neutral=self.loop.neutral,
        )  # fmt: skip
        if look.out is not None:
            view.unit, view.values = look.out.unit.tolist(), look.out.values.tolist()
            view.held, view.beat, view.bpm = look.out.held, look.out.beat, look.out.bpm
        spans = look.arrival_to_sent_ms
        if len(spans):
            view.latency_ms = float(spans[-1]), float(sorted(spans.tolist())[int(0.95 * (len(spans) - 1))])
        return view


def models_of(show: Show, roots: Mapping[str, str]) -> tuple[Path, Path]:
    """Folders of M1 and M3: of the show's checkpoint, else the bundled ones. Raises NoInputError."""
    if show.checkpoint:
        return find_models(Path(show.checkpoint), roots)
    from choreo_cli.live.demo_source import checkpoints

    return checkpoints()


def stages_of(show: Show, rps_sha256: str = "") -> Stages | None:
    """Gestures, look-ahead and planner of a show, None without.

    Args:
        show: What to play.
        rps_sha256: Weights of its M1, empty = not known.

    Raises:
        UsageError: a look-ahead without a planner. NoInputError: no offset file.
        FormatError, DataError: a run or an offset file that is not usable here.
    """
    if show.lookahead and not show.planner:
        raise UsageError("the look-ahead tells the planner what comes", hint="add --planner")
    offset = offset_of(show)
    advance_us = round(offset["p50"] * 1000) if offset else 0
    if not (show.gesture or show.planner):
        return None
    for run in filter(None, (show.gesture, show.lookahead)):
        if not Path(run).exists():
            raise NoInputError(f"no run at {run}", hint="name a run of train gesture or train lookahead")
    from choreo_cli.reflex.planner import Rules

    plan = Rules() if show.planner else None
    return Stages.open(
        show.gesture or None, show.lookahead or None, plan, STEP_US, rps_sha256=rps_sha256, advance_us=advance_us
    )
