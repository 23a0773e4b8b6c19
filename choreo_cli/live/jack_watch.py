"""A witness of the JACK server: it knows at once when the server dies, and whether a port is really connected.

The MIDI library tells neither. On a dead server it still lists the old ports, and sending fills a buffer that nobody
drains until the call spins for ever with the interpreter's lock held; taking such a client down can end the process.
"""

from __future__ import annotations

import ctypes
from typing import Any

NO_START = 1
LIBRARIES = ("libjack.so.0", "libjack.0.dylib", "/opt/homebrew/lib/libjack.0.dylib", "/usr/local/lib/libjack.0.dylib")
_OnText = ctypes.CFUNCTYPE(None, ctypes.c_char_p)
_OnShutdown = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


def _library() -> Any:
    for name in LIBRARIES:
        try:
            found = ctypes.CDLL(name)
        except OSError:
            continue
        found.jack_client_open.restype = ctypes.c_void_p
        found.jack_port_by_name.restype = ctypes.c_void_p
        found.jack_last_frame_time.restype = ctypes.c_uint32
        found.jack_port_get_all_connections.restype = ctypes.POINTER(ctypes.c_char_p)
        return found
    return None


class JackWatch:
    """One silent client of the JACK server, without ports. It never starts a server.

    Its calls give the interpreter's lock away while they wait, so the loop goes on.
    """

    def __init__(self) -> None:
        self._jack = _library()
        self._client: ctypes.c_void_p | None = None
        self._dead = False
        self._frame = -1
        self._quiet = _OnText(lambda _text: None)
        self._on_shutdown = _OnShutdown(self._shut)

    @property
    def usable(self) -> bool:
        """The JACK library is on this machine; without it nothing can be known and everything is believed alive."""
        return self._jack is not None

    @property
    def dead(self) -> bool:
        """The server that was watched is gone; stays so until `open`."""
        return self._dead

    def open(self) -> bool:
        """Watch the server that runs now; False when there is none."""
        if self._jack is None:
            return True
        if self._client is not None and not self._dead:
            return True
        # The library speaks to stderr by itself; what it says is told by the caller in one line instead. A client of
        # a dead server is left alone: to close it is what can end the process.
        self._jack.jack_set_error_function(self._quiet)
        self._jack.jack_set_info_function(self._quiet)
        opened = self._jack.jack_client_open(b"choreo-watch", NO_START, None)
        if not opened:
            return False
        self._client, self._dead, self._frame = ctypes.c_void_p(opened), False, -1
        self._jack.jack_on_shutdown(self._client, self._on_shutdown, None)
        return True

    def _shut(self, _: Any) -> None:
        self._dead = True

    def ticking(self) -> bool:
        """Whether the server has worked since the last call: one that stands still drains no buffer, and a request
        to it does not return."""
        if self._jack is None or self._client is None:
            return True
        if self._dead:
            return False
        before, self._frame = self._frame, int(self._jack.jack_last_frame_time(self._client))
        return self._frame != before

    def connected(self, target: str, client: str) -> bool:
        """Whether `target` (`client:port`) is there and connected to a port of `client`, or of `client-NN`.

        JACK adds the number when the name was taken.
        """
        if self._jack is None or self._client is None:
            return True
        if self._dead:
            return False
        port = self._jack.jack_port_by_name(self._client, target.encode())
        if not port:
            return False
        names = self._jack.jack_port_get_all_connections(self._client, ctypes.c_void_p(port))
        if not names:
            return False
        found, k = False, 0
        while names[k] is not None:
            owner = names[k].decode(errors="replace").partition(":")[0]
            found = found or owner == client or owner.startswith(f"{client}-")
            k += 1
        self._jack.jack_free(names)
        return found

    def close(self) -> None:
        """Leave the server."""
        if self._jack is not None and self._client is not None and not self._dead:
            self._jack.jack_client_close(self._client)
        self._client = None
