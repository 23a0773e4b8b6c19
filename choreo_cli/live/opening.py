"""What a show names, checked and made: its control map, its sources, its ports. Nothing is connected yet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from choreo_cli.errors import NoInputError, UsageError
from choreo_cli.live.port import Port
from choreo_cli.live.ports import open_ports
from choreo_cli.live.relays import ClockRelay, led_by
from choreo_cli.live.sample import Body, Source
from choreo_cli.live.show import Show
from choreo_cli.live.sources import align, open_source
from formats import control_map
from formats.columns import CONTROL_NAMES

if TYPE_CHECKING:
    from choreo_cli.live.performance import Around

PLAYED = ("demo",)
"""What is played when no source is named."""


def control_map_of(show: Show) -> control_map.ControlMap:
    """The map a show names, or the default. Raises ConfigFileError, NoInputError."""
    if not show.map:
        return control_map.DEFAULT
    try:
        return control_map.load(show.map)
    except FileNotFoundError:
        raise NoInputError(f"no control map at {show.map}") from None


def sources_of(show: Show, around: Around, relay: ClockRelay | None = None) -> list[Source]:
    """Every source of a show, faders included, on one session clock.

    Args:
        show: What to play.
        around: How.
        relay: Where the start and stop of a MIDI clock go when it leads.

    Raises:
        UsageError: the leader of the beat has no source. Others as `open_source`.
    """
    leader = show.transport.leader or "choreo"
    mapping, body = osc_of(show)
    opened: list[Source] = []
    specs: list[str] = []
    for spec in show.sources or PLAYED:
        opened += open_source(
            spec, session=show.session or None, listen=show.listen, mapping=mapping, body=body, stdin=around.stdin,
            beats=leader == "audio", near_bpm=show.transport.bpm, relay=relay if leader == "midi-clock" else None,
        )  # fmt: skip
        specs += [spec] * (len(opened) - len(specs))
    found = led_by(opened, specs, leader)
    if show.targets:
        found.append(targets_of(show))
    align(found)
    return found


def osc_of(show: Show) -> tuple[dict[str, str] | None, Body | None]:
    """What `osc_map` and `body` of a show say of its OSC sources, None where they say nothing.

    Raises:
        UsageError: an entry that is none, or no source is OSC.
    """
    if not show.osc_map and not show.body:
        return None, None
    from choreo_cli.live.osc_pose import body_of
    from choreo_cli.live.osc_presets import parse_map

    osc = any(s.startswith("osc:") for s in show.sources)
    if not osc and (show.osc_map or "-" not in show.sources):
        said = f"--map {show.osc_map[0]}" if show.osc_map else f"--body {show.body}"
        raise UsageError(f"{said}, and no source is OSC", hint="add --source osc:PORT")
    return parse_map(show.osc_map) or None, body_of(show.body) if show.body else None


def ports_of(show: Show, found: control_map.ControlMap) -> list[Port]:
    """The ports of a show, checked and made. Raises as `open_ports`."""
    web = show.websocket
    return open_ports(show.ports, found, show.osc_style, origins=web.origins, token=web.token or None)


def targets_of(show: Show) -> Source:
    """The performer's faders: `midi:PORT`, `midi:virtual:NAME` or `osc:PORT`.

    Over OSC a fader is `/choreo/target/<control> f` or `/choreo/<control> f`, what our own ports send.
    """
    kind, _, rest = show.targets.partition(":")
    if kind == "midi" and rest:
        from choreo_cli.live.midi_in import MidiTargets

        virtual = rest.startswith("virtual:")
        return MidiTargets(rest.removeprefix("virtual:"), control_map_of(show), virtual)
    if kind == "osc" and rest.isdigit():
        from choreo_cli.live.osc_source import OscSource

        faders = {f"/choreo/{path}{c}:0": f"target.{c}" for c in CONTROL_NAMES for path in ("", "target/")}
        source: Source = OscSource(show.listen, int(rest), mapping=faders)
        return source
    raise UsageError(f"--record-targets {show.targets}: no faders", hint="write midi:PORT, midi:virtual:NAME, osc:PORT")


def offset_of(show: Show) -> dict[str, Any]:
    """What the offset file of a show says of its receiver, empty without one. Raises NoInputError, DataError."""
    if not show.offset:
        return {}
    from choreo_cli.live.calibrate_latency import Offset

    return Offset.read(show.offset).to_dict()
