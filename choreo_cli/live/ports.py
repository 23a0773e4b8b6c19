"""From what stands behind `--out` to ports."""

from __future__ import annotations

from collections.abc import Sequence

from choreo_cli.errors import UsageError
from choreo_cli.live.loopback import LoopbackPort, NullPort
from choreo_cli.live.port import Port
from formats.control_map import ControlMap

FORMS = "midi:NAME, midi:virtual:NAME, osc:HOST:PORT, osc:PORT, ws:PORT, ws:, loop: or null:"
LOCAL = "127.0.0.1"
WEB_PORT = 8090
BARE = ("loop", "null", "ws")


def open_ports(
    specs: Sequence[str],
    control_map: ControlMap,
    style: str = "choreo",
    *,
    channel: int = 0,
    bits: int = 7,
    api: str | None = None,
    origins: Sequence[str] = (),
    token: str | None = None,
) -> list[Port]:
    """One port for each specification, checked and made; connecting is `Port.open`, best through a `Keeper`.

    Args:
        specs: As in `FORMS`.
        control_map: Control change numbers of MIDI ports.
        style: `--osc-style` of OSC ports.
        channel: MIDI channel, 0..15.
        bits: Bits of a MIDI value, 7 or 14.
        api: MIDI backend, None for whichever knows the name.
        origins: Further web origins that may connect to a WebSocket port.
        token: Of WebSocket ports, None for a random one at each start.

    Raises:
        UsageError: a specification is none of the forms, or two are the same. ConfigError: as `MidiPort`.
    """
    if len(set(specs)) < len(specs):
        twice = next(s for k, s in enumerate(specs) if s in specs[:k])
        raise UsageError(f"--out {twice} is there twice", hint="name each receiver once")
    return [_port(spec, control_map, style, channel, bits, api, (origins, token)) for spec in specs]


def _port(
    spec: str,
    control_map: ControlMap,
    style: str,
    channel: int,
    bits: int,
    api: str | None,
    web: tuple[Sequence[str], str | None],
) -> Port:
    kind, colon, rest = spec.partition(":")
    # In YAML `loop:` would be a mapping, so the bare word will do.
    if not colon and kind not in BARE:
        raise _bad(spec)
    if kind == "midi":
        from choreo_cli.live.midi import MidiPort

        virtual = rest.startswith("virtual:")
        name = rest.removeprefix("virtual:") if virtual else rest
        if not name.strip():
            raise _bad(spec, "the name of the MIDI port is missing")
        return MidiPort(name, control_map, virtual, channel, api, bits)
    if kind == "osc":
        host, number = _address(spec, rest)
        from choreo_cli.live.osc_port import OscPort

        return OscPort(host, number, style)
    if kind == "ws":
        number = _number(spec, rest, lowest=0) if rest else WEB_PORT
        from choreo_cli.live.websocket import WebSocketPort

        return WebSocketPort(number, tuple(web[0]), token=web[1])
    if kind in ("loop", "null") and not rest:
        return LoopbackPort() if kind == "loop" else NullPort()
    raise _bad(spec)


def _address(spec: str, rest: str) -> tuple[str, int]:
    """HOST:PORT, [HOST]:PORT for an IPv6 address, or PORT alone for this machine."""
    host, colon, number = rest.rpartition(":")
    if not colon:
        return LOCAL, _number(spec, rest)
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise _bad(spec, "an IPv6 address stands in brackets")
    if not host:
        raise _bad(spec, "the host is missing")
    return host, _number(spec, number)


def _number(spec: str, text: str, lowest: int = 1) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and lowest <= int(text) <= 65535):
        raise _bad(spec, f"{text[:20]!r} is not a port number")
    return int(text)


def _bad(spec: str, why: str = "no such port") -> UsageError:
    return UsageError(f"--out {spec}: {why}", hint=f"write {FORMS}")
