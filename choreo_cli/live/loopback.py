"""Ports without a device: a twin that keeps and acknowledges what it was given, and one that only counts."""

from __future__ import annotations

from collections import deque
from typing import Any

from choreo_cli.live.port import Cue, Outgoing, PortLost

KEPT = 100_000


class LoopbackPort:
    """A receiver inside the process. It can be lost and brought back.

    Args:
        name: As on the command line.
        quantum: Least change worth a message.
        keep: How many of the newest values and cues are kept.
    """

    def __init__(self, name: str = "loop:", quantum: float = 1e-3, keep: int = KEPT) -> None:
        self.name, self.quantum = name, quantum
        self.sent: deque[Outgoing] = deque(maxlen=keep)
        self.cues: deque[Cue] = deque(maxlen=keep)
        self.lost = False
        self.is_open = False
        self.silenced = 0
        self._messages = self._losses = 0

    def open(self) -> None:
        """See `Port`. Raises PortLost while `lost`."""
        if self.lost:
            raise PortLost(f"{self.name} is gone")
        self.is_open = True

    def present(self) -> bool:
        """Whether it can be sent to."""
        return self.is_open and not self.lost

    def send(self, out: Outgoing) -> int:
        """See `Port`."""
        self._check()
        self.sent.append(out)
        count = int(out.send.sum())
        self._messages += count
        return count

    def cue(self, cue: Cue) -> int:
        """See `Port`."""
        self._check()
        self.cues.append(cue)
        self._messages += 1
        return 1

    def _check(self) -> None:
        if not self.present():
            self._losses += 1
            raise PortLost(f"{self.name} is gone")

    def silence(self) -> None:
        """See `Port`."""
        self.silenced += 1

    def facts(self) -> dict[str, Any]:
        """See `Port`; everything handed over is acknowledged."""
        return {"messages": self._messages, "acked": self._messages, "losses": self._losses}

    def close(self) -> None:
        """See `Port`."""
        self.is_open = False


class NullPort:
    """A port that counts and forgets: what a run costs without a receiver."""

    def __init__(self, name: str = "null:", quantum: float = 1e-3) -> None:
        self.name, self.quantum = name, quantum
        self._messages = 0

    def open(self) -> None:
        """See `Port`."""

    def send(self, out: Outgoing) -> int:
        """See `Port`."""
        count = int(out.send.sum())
        self._messages += count
        return count

    def cue(self, cue: Cue) -> int:
        """See `Port`."""
        self._messages += 1
        return 1

    def silence(self) -> None:
        """See `Port`."""

    def facts(self) -> dict[str, Any]:
        """See `Port`."""
        return {"messages": self._messages}

    def close(self) -> None:
        """See `Port`."""
