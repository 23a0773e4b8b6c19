"""One connection to one MIDI port, found by name, watched, and made again after a loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from choreo_cli.errors import UnavailableError
from choreo_cli.live.jack_watch import JackWatch
from choreo_cli.live.midi_backend import CLIENT, Found, absent, bury_client, drop_client, look_up, offer, pick

PATIENCE_S = 1.0
"""A port that has just been made can be missing from the list for this long."""


class MidiLink:
    """A client of the MIDI system that is connected to one port, or offers a virtual one.

    Args:
        name: The other side's port, exactly or a part of it; of a virtual port, how it is called.
        direction: `out` to send, `in` to hear.
        virtual: Make a port instead of connecting to one (macOS and JACK).
        api: `core`, `alsa` or `jack`; None takes the first that knows the name.
        prepare: Called with every new client before it is connected.
    """

    def __init__(
        self,
        name: str,
        direction: str,
        virtual: bool = False,
        api: str | None = None,
        prepare: Callable[[Any], None] | None = None,
    ) -> None:
        self.name, self.direction, self.virtual, self.api = name, direction, virtual, api
        self.device = ""
        self.client: Any = None
        self._prepare = prepare
        self._watch: JackWatch | None = None

    @property
    def dead(self) -> bool:
        """Not connected, or the JACK server behind it is gone: nothing may be handed to the client."""
        return self.client is None or (self._watch is not None and self._watch.dead)

    def open(self, patience_s: float = PATIENCE_S) -> None:
        """Connect.

        Raises:
            UnavailableError: python-rtmidi missing, or the port is not there (the ports that are, are listed).
            UsageError: the name could be several ports; they are listed.
        """
        if self.client is not None:
            return
        if self.virtual:
            self._take(offer(self.name, self.direction, self.api, self._prepare))
            return
        found = look_up(self.name, self.direction, self.api, patience_s)
        if self._prepare is not None:
            self._prepare(found.client)
        self._take(found)

    def _take(self, found: Found) -> None:
        if found.index >= 0:
            try:
                # A port name, not a client name: the latter would make a virtual port that nobody reads.
                found.client.open_port(found.index, name=self.direction)
            except (OSError, RuntimeError) as e:
                drop_client(found.client)
                raise UnavailableError(f"MIDI port {found.name!r} cannot be opened: {e}") from None
        self.client, self.api, self.device = found.client, found.api, found.name
        if found.api == "jack":
            self._watch = self._watch or JackWatch()
            self._watch.open()

    def present(self) -> bool:
        """Whether the other side is still there. Asks the system: not for the loop's thread."""
        if self.dead or (self._watch is not None and not self._watch.ticking()):
            return False
        if self.virtual:
            return True
        if self._watch is not None and self._watch.usable:
            return self._watch.connected(self.device, CLIENT)
        return self.device in self.client.get_ports()

    def reopen(self) -> None:
        """Connect again after a loss, on the same client while its server lives; one attempt, no waiting.

        Raises:
            UnavailableError: not back yet. UsageError: back, but the name could now be several ports.
        """
        if self._watch is not None and self._watch.dead:
            if self.client is not None:
                bury_client(self.client)
                self.client = None
            if not self._watch.open():
                raise absent(self.name, (), False)
        if self._watch is not None and not self._watch.ticking():
            raise UnavailableError(f"MIDI port {self.name!r}: the JACK server stands still")
        if self.client is None:
            self.open(0.0)
            return
        if self.virtual:
            return
        ports = self.client.get_ports()
        index = pick(self.name, ports)
        if index is None:
            raise absent(self.name, ports, True)
        client, self.client = self.client, None
        client.close_port()
        self._take(Found(client, self.api or "", index, ports[index]))

    def close(self) -> None:
        """Give the client back; one whose JACK server died is left alone. May be called twice."""
        if self.client is not None:
            (bury_client if self.dead else drop_client)(self.client)
            self.client = None
        if self._watch is not None:
            self._watch.close()
            self._watch = None
