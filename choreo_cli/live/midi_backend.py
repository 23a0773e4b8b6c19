"""Finding MIDI ports: the library, its backends, and names that must be looked up anew each time.

Facts that shape it: a backend may be compiled in and yet have no device file or server behind it; the list of ports
can stay empty for a second after a peer has started; the index of a port changes between runs, so only names count;
and the libraries below write to file descriptor 2 by themselves.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from choreo_cli.errors import UnavailableError, UsageError

INSTALL = "pip install 'choreo[live]'"
CLIENT = "choreo"
APIS = ("core", "alsa", "jack")
"""Backends that are served. The one of Windows knows no virtual ports and is not: a loop cable would be guesswork."""
_STDERR = 2
_NUMBERS = re.compile(r" [0-9]+:[0-9]+$")
_quiet_lock = threading.RLock()


@dataclass(frozen=True, slots=True)
class MidiName:
    """A port somebody else offers.

    Args:
        api: `core`, `alsa` or `jack`.
        direction: `out` for one that we can send to, `in` for one that we can hear.
        name: Its full name.
    """

    api: str
    direction: str
    name: str


def library() -> Any:
    """The module rtmidi.

    Raises:
        UnavailableError: python-rtmidi is not installed; the hint installs it.
    """
    try:
        import rtmidi
    except ImportError:
        raise UnavailableError("MIDI needs python-rtmidi, which is not installed", hint=INSTALL) from None
    return rtmidi


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep what the libraries below write to file descriptor 2 from the person's terminal."""
    with _quiet_lock:
        try:
            kept, sink = os.dup(_STDERR), os.open(os.devnull, os.O_WRONLY)
        except OSError:  # closed at start, as under some schedulers: nothing to protect
            yield
            return
        try:
            os.dup2(sink, _STDERR)
            yield
        finally:
            os.dup2(kept, _STDERR)
            os.close(sink)
            os.close(kept)


def api_numbers(api: str | None = None) -> dict[str, int]:
    """Backends compiled into the library by name, in the order to try them.

    Raises:
        UsageError: `api` is none of them.
    """
    rtmidi = library()
    there = {rtmidi.get_api_name(number): int(number) for number in rtmidi.get_compiled_api()}
    served = {name: there[name] for name in APIS if name in there}
    if api is None:
        return served
    if api not in served:
        raise UsageError(f"no MIDI backend {api!r} here", hint=f"one of: {', '.join(served) or 'none'}")
    return {api: served[api]}


def make_client(direction: str, api: int) -> Any:
    """A client of one backend (rtmidi.MidiOut or MidiIn), None when there is no device file or server behind it."""
    rtmidi = library()
    kind = rtmidi.MidiOut if direction == "out" else rtmidi.MidiIn
    with quiet():
        try:
            return kind(rtapi=api, name=CLIENT)
        except (OSError, RuntimeError):
            return None


def drop_client(client: Any) -> None:
    """Give the handle back; a client that is only forgotten leaks it."""
    with quiet(), contextlib.suppress(OSError, RuntimeError):
        client.close_port()
        client.delete()


def bury_client(client: Any) -> None:
    """Forget a client whose JACK server died, and never take it down: that blocks for a second or ends the process."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(client))


def list_ports(api: str | None = None) -> list[MidiName]:
    """Every port of other programs and devices, by backend; empty where no backend works.

    Raises:
        UnavailableError: python-rtmidi is not installed. UsageError: no such backend.
    """
    found = []
    for name, number in api_numbers(api).items():
        for direction in ("out", "in"):
            client = make_client(direction, number)
            if client is None:
                break
            found += [MidiName(name, direction, port) for port in client.get_ports()]
            drop_client(client)
    return found


def pick(wanted: str, names: Sequence[str]) -> int | None:
    """Index of the port that `wanted` means: the exact name, else the only one that contains it, in any case.

    The numbers that ALSA puts behind a name (`FLUID:0 128:0`) are other ones after a restart and count last.

    Raises:
        UsageError: several contain it; they are listed.
    """
    if wanted in names:
        return names.index(wanted)
    for fold in (str, str.casefold):
        held = [k for k, name in enumerate(names) if fold(wanted) in fold(name)]
        if len(held) == 1:
            return held[0]
        if held:
            listed = ", ".join(repr(names[k]) for k in held)
            raise UsageError(f"MIDI port {wanted!r} could be {len(held)} ports", hint=f"name one of: {listed}")
    bare = _NUMBERS.sub("", wanted)
    return pick(bare, names) if bare and bare != wanted else None


@dataclass(frozen=True, slots=True)
class Found:
    """A client with the index and the full name of the port it should be connected to (`index` -1: a virtual one)."""

    client: Any
    api: str
    index: int
    name: str


def look_up(wanted: str, direction: str, api: str | None, patience_s: float) -> Found:
    """Search the backends for a port by name until `patience_s` is over; the client of the right one is kept.

    Raises:
        UnavailableError: not there, with the ports that are. UsageError: ambiguous, or no such backend.
    """
    clients = {name: make_client(direction, number) for name, number in api_numbers(api).items()}
    clients = {name: client for name, client in clients.items() if client is not None}
    kept = None
    deadline = time.monotonic() + patience_s
    try:
        while True:
            seen: list[str] = []
            for name, client in clients.items():
                ports = client.get_ports()
                seen += ports
                index = pick(wanted, ports)
                if index is not None:
                    kept = client
                    return Found(client, name, index, ports[index])
            if not clients or time.monotonic() >= deadline:
                raise absent(wanted, seen, bool(clients))
            time.sleep(0.05)
    finally:
        for client in clients.values():
            if client is not kept:
                drop_client(client)


def absent(wanted: str, seen: Sequence[str], any_backend: bool) -> UnavailableError:
    """The sentence for a port that is not there."""
    if not any_backend:
        return UnavailableError(
            f"MIDI port {wanted!r}: no MIDI system answers here",
            hint="start the device or the JACK server, or send with osc: or ws:",
        )
    listed = ", ".join(repr(name) for name in seen) or "none"
    return UnavailableError(f"MIDI port {wanted!r} is not there", hint=f"ports found: {listed}")


def offer(name: str, direction: str, api: str | None = None, prepare: Callable[[Any], None] | None = None) -> Found:
    """A virtual port of our own that others connect to; `prepare` gets the client before the port is there.

    Raises:
        UnavailableError: no backend here makes one. UsageError: no such backend.
    """
    for backend, number in api_numbers(api).items():
        client = make_client(direction, number)
        if client is None:
            continue
        if prepare is not None:
            prepare(client)
        with quiet():
            try:
                client.open_virtual_port(name)
                return Found(client, backend, -1, name)
            except (OSError, RuntimeError, NotImplementedError):
                pass
        drop_client(client)
    raise absent(name, (), False)
