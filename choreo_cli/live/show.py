"""What a performance is made of: `show.yaml`, and the same things given as options, which win."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from choreo_cli.errors import UsageError

ENGINES = ("auto", "onnx", "numpy")
LEADERS = ("choreo", "midi-clock", "osc", "audio", "tap", "recording")
LONGEST = 4096
"""Characters of a path or a name."""
STYLES = ("choreo", "vector", "wek", "tidal", "sonicpi")


class Tempo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The transport: who leads, and how fast it starts."""

    bpm: Annotated[float, Meta(ge=20, le=400, description="Tempo at the start [beats/min]")] = 120.0
    leader: Annotated[
        Literal["choreo", "midi-clock", "osc", "audio", "tap", "recording"] | None,
        Meta(description="Whose beat it is; if left out a MIDI clock leads, else a recording with beats, else choreo"),
    ] = None
    send_clock: Annotated[bool, Meta(description="Send MIDI clock on the MIDI ports")] = False
    follow_dancer: Annotated[
        bool, Meta(description="The control tempo_scale moves our own tempo; only while choreo leads")
    ] = False


class Web(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who may connect to the WebSocket ports."""

    token: Annotated[
        str,
        Meta(description="Last part of the address, at least 22 letters, digits, - or _; empty = new at each start"),
    ] = ""
    origins: Annotated[
        list[str], Meta(description="Web pages besides strudel.cc and those of this machine: https://example.org")
    ] = msgspec.field(default_factory=list)


class Show(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One performance; a path is relative to the file it stands in."""

    checkpoint: Annotated[str, Meta(description="Run of train mapper, or a folder with rps/ and mapper/")] = ""
    source: Annotated[str | list[str], Meta(description="Where the body comes from; several are merged")] = ""
    session: Annotated[str, Meta(description="Of a file with several sessions: this one")] = ""
    out: Annotated[str | list[str], Meta(description="Ports: midi:NAME osc:HOST:PORT ws:PORT loop:")] = ""
    osc_style: Annotated[
        Literal["choreo", "vector", "wek", "tidal", "sonicpi"], Meta(description="How OSC messages are laid out")
    ] = "choreo"
    map: Annotated[str, Meta(description="Control map; reloaded when it changes")] = ""
    osc_map: Annotated[
        list[str], Meta(description="What arguments of OSC sources are: ADDR:IDX=FEATURE, see run-live --learn")
    ] = msgspec.field(default_factory=list)
    body: Annotated[str, Meta(description="Joints of poses over OSC: mediapipe33, coco17:2, or their names")] = ""
    scale: Annotated[str, Meta(description="Motion scale of calibrate body, for raw poses and accelerometers")] = ""
    offset: Annotated[str, Meta(description="Receiver latency of calibrate latency: bar events go out earlier")] = ""
    listen: Annotated[str, Meta(description="Address that OSC sources bind to")] = "127.0.0.1"
    websocket: Web = Web()
    transport: Tempo = Tempo()
    planner: Annotated[bool, Meta(description="Announce bar events: drop, break, build, fill")] = False
    gesture: Annotated[str, Meta(description="Run of train gesture: gestures become messages and notes")] = ""
    lookahead: Annotated[str, Meta(description="Run of train lookahead: the planner hears of the coming bar")] = ""
    targets: Annotated[str, Meta(description="Faders to record and to learn from: midi:PORT or osc:PORT")] = ""
    engine: Annotated[Literal["auto", "onnx", "numpy"], Meta(description="What runs the model")] = "auto"
    realtime: Annotated[bool, Meta(description="Ask the system for a real-time priority")] = False
    require: Annotated[bool, Meta(description="End with 69 when a port or sensor is lost and stays away")] = False

    @property
    def sources(self) -> tuple[str, ...]:
        """All sources; none plays the demo."""
        return _several(self.source)

    @property
    def ports(self) -> tuple[str, ...]:
        """All ports."""
        return _several(self.out)


PATHS = ("checkpoint", "map", "scale", "offset", "gesture", "lookahead")


def _several(value: str | list[str]) -> tuple[str, ...]:
    return tuple(v for v in ([value] if isinstance(value, str) else value) if v)


def beside(show: Show, file: Path) -> Show:
    """The show with its paths taken from the folder of `file`; a source that is a file there, too."""
    top = file.parent
    changes: dict[str, Any] = {k: str(top / v) for k in PATHS if (v := getattr(show, k))}
    changes["source"] = [str(top / s) if s != "-" and (top / s).exists() else s for s in show.sources]
    return msgspec.structs.replace(show, **changes)


def with_options(show: Show, given: dict[str, Any]) -> Show:
    """The show with what was given as options in its place; None and () are not given."""
    tempo = {k: given.pop(k) for k in ("bpm", "leader", "send_clock") if given.get(k) is not None}
    chosen = {k: v for k, v in given.items() if v is not None and v != () and k not in ("bpm", "leader", "send_clock")}
    if tempo:
        chosen["transport"] = msgspec.structs.replace(show.transport, **tempo)
    return msgspec.structs.replace(show, **chosen)


def split_maps(maps: list[str]) -> tuple[str | None, list[str]]:
    """The control map among what `--map` was given, and the arguments of OSC sources. Raises UsageError."""
    entries = [m for m in maps if m.startswith("/") and "=" in m and not Path(m).is_file()]
    files = [m for m in maps if m not in entries]
    if len(files) > 1:
        raise UsageError(f"--map {files[1]}: the control map is {files[0]}", hint="an argument is ADDR:IDX=FEATURE")
    return (files[0] if files else None), entries


def led(show: Show) -> Show:
    """The show with its leader named: a source that is a MIDI clock leads unless somebody else was asked to.

    It stays open when nobody was: a recording with beats leads then, and choreo without one.

    Raises:
        UsageError: the leader's source is missing, two clocks, or a dancer to follow under somebody else's lead.
    """
    clocks = [s for s in show.sources if s.startswith("midi-clock:")]
    leader = show.transport.leader or ("midi-clock" if clocks else None)
    if leader == "midi-clock" and len(clocks) != 1:
        if clocks:
            raise UsageError(f"two MIDI clocks: {' and '.join(clocks)}", hint="name the one that leads")
        raise UsageError("--leader midi-clock, and no source is one", hint="add --source midi-clock:PORT")
    if show.transport.follow_dancer and leader not in (None, "choreo"):
        raise UsageError(
            f"transport.follow_dancer: {leader} leads the tempo", hint="leave it out, or write leader: choreo"
        )
    return msgspec.structs.replace(show, transport=msgspec.structs.replace(show.transport, leader=leader))


def checked(show: Show) -> Show:
    """The show, when its words exist, with its leader named. Raises UsageError with the nearest one, or as `led`.

    An empty `listen` is refused because a socket would take it for every address of this machine.
    """
    for option, value, known in (
        ("--osc-style", show.osc_style, STYLES),
        ("--leader", show.transport.leader, LEADERS),
        ("--engine", show.engine, ENGINES),
    ):
        if value is not None and value not in known:
            near = get_close_matches(value, known, 1)
            hint = f"did you mean: {near[0]}?" if near else f"one of {', '.join(known)}"
            raise UsageError(f"{option} {value} is not known", hint=hint)
    for name in show.__struct_fields__:
        words = getattr(show, name)
        for word in [words] if isinstance(words, str) else words if isinstance(words, list) else ():
            if len(word) > LONGEST or not word.isprintable():
                raise UsageError(f"{name} {word[:40]!r} is no name", hint="a file, a port or a word in one line")
    if not show.listen:
        raise UsageError("listen is empty", hint="name this machine's address, or leave it out")
    if show.session and not show.sources:
        raise UsageError(f"session {show.session}, and no source is named", hint="add --source FOLDER")
    return led(show)
