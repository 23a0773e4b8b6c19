"""Keeping a port: the device may go and come back, and the loop goes on as if nothing had happened.

The loop's thread only hands values over. A thread of the keeper's own asks once a second whether the device is there,
opens it again when it is not, and resends the newest guarded values as soon as it is back.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from choreo_cli.errors import UnavailableError
from choreo_cli.live.clock import SECOND_NS, Clock, MonotonicClock
from choreo_cli.live.port import Cue, Outgoing, Port

OK, DEGRADED, LOST, RECOVERED = "ok", "degraded", "lost", "recovered"
"""`degraded`: the receiver is there but messages were dropped or refused since the last look. `recovered`: it is back
and the values were sent again; the next look that finds it well makes it `ok`."""
BACKOFF_S = (0.1, 0.2, 0.4, 0.8, 1.0)
"""Pauses between attempts, the last one repeated: a device that is back is found again within a second."""
POLL_S = 0.05
PATIENCE_S = 0.002
"""The loop may wait so long for whoever is inside the port: the clock's thread is, for the length of one message."""
_EVERY = np.ones(5, dtype=np.bool_)


class Emits(Protocol):
    """Where state changes are told."""

    def emit(self, kind: str, t_us: int, **facts: Any) -> None:
        """Take one event; must not block."""
        ...


class Keeper:
    """A port that never fails: everything a loop does with a port it does through one of these.

    A port may have more than the contract of `Port`, and then it is used: `present() -> bool` (still there? asked
    once a second, off the loop's thread), `reopen()` (instead of close and open), `remap(control_map)`.

    Args:
        port: The port; not yet open.
        clock: What the seconds are counted on.
        events: Told every change of state as kind `port`, None for nobody.
        check_s: How often the device is looked for.
        backoff_s: Pauses between attempts to open.
        threaded: False leaves the work to whoever calls `step`: tests and virtual time.
    """

    def __init__(
        self,
        port: Port,
        clock: Clock | None = None,
        events: Emits | None = None,
        *,
        check_s: float = 1.0,
        backoff_s: tuple[float, ...] = BACKOFF_S,
        threaded: bool = True,
    ) -> None:
        self.port, self.name, self.quantum = port, port.name, port.quantum
        self.state = OK
        self.why = ""
        self._clock: Clock = clock or MonotonicClock()
        self._events = events
        self._check_ns = round(check_s * SECOND_NS)
        self._backoff_ns = tuple(round(s * SECOND_NS) for s in backoff_s)
        self._threaded = threaded
        # Held by whoever is inside the port.
        self._lock = threading.Lock()
        self._state_lock = threading.Lock()
        self._wake, self._stop = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._start_ns = self._origin_us = 0
        self._last: Outgoing | None = None
        self._resend = self._silence_due = False
        self._lost_ns = self._due_ns = self._tries = self._dropped = 0
        self._counts = {"losses": 0, "recoveries": 0, "attempts": 0, "held": 0, "resent": 0, "cues_lost": 0}
        self._longest_ns = 0

    def open(self, wait_s: float = 0.0, stop: Callable[[], bool] = bool) -> None:
        """Open the port and begin to keep it.

        Args:
            wait_s: Go on trying for this long, for a device that is still being plugged in.
            stop: Asked between two attempts whether to give up.

        Raises:
            UnavailableError, UsageError: of the port, when it is not there in time.
        """
        deadline = self._clock.now_ns() + round(wait_s * SECOND_NS)
        while True:
            try:
                with self._lock:
                    self.port.open()
                break
            except (UnavailableError, OSError):
                if self._clock.now_ns() >= deadline or stop():
                    raise
                self._clock.wait_until(min(deadline, self._clock.now_ns() + self._backoff_ns[-1]))
        self._due_ns = self._clock.now_ns() + self._check_ns
        if self._threaded:
            self._thread = threading.Thread(target=self._keep, name=f"keep {self.name}", daemon=True)
            self._thread.start()

    def begin(self, start_ns: int, origin_us: int) -> None:
        """Say when the session began, so that events carry session time."""
        self._start_ns, self._origin_us = start_ns, origin_us

    def send(self, out: Outgoing) -> int:
        """Hand values over, or hold them while the device is away; messages sent. Never raises, hardly waits."""
        self._last = out
        if self.state == LOST or not self._lock.acquire(timeout=PATIENCE_S):
            self._counts["held"] += 1
            self._resend = True
            return 0
        try:
            self._make_good()
            # After a loss the receiver may be a fresh one: it gets all five, not what changed since.
            resend, self._resend = self._resend, False
            return self.port.send(replace(out, send=_EVERY) if resend else out)
        except Exception as e:  # whatever a driver throws, the music goes on
            self._lose(str(e))
            return 0
        finally:
            self._lock.release()

    def cue(self, cue: Cue) -> int:
        """Hand a cue over; one that falls into a loss is counted and gone, for a late cue is a wrong one."""
        if self.state == LOST or not self._lock.acquire(timeout=PATIENCE_S):
            self._counts["cues_lost"] += 1
            return 0
        try:
            return self.port.cue(cue)
        except Exception as e:
            self._lose(str(e))
            return 0
        finally:
            self._lock.release()

    def silence(self) -> None:
        """Silence the receiver; when it cannot be reached, as soon as it can."""
        if self.state == LOST or not self._lock.acquire(timeout=PATIENCE_S):
            self._silence_due = True
            return
        try:
            self.port.silence()
        except Exception as e:
            self._lose(str(e))
            self._silence_due = True
        finally:
            self._lock.release()

    def pass_on(self, do: Callable[[Any], object], wait_s: float = PATIENCE_S) -> bool:
        """Do something else with the port, such as its clock; False while it is away or busy. Never raises."""
        if self.state == LOST or not self._lock.acquire(timeout=wait_s):
            return False
        try:
            do(self.port)
            return True
        except Exception as e:
            self._lose(str(e))
            return False
        finally:
            self._lock.release()

    def _make_good(self) -> None:
        if self._silence_due:
            self._silence_due = False
            self.port.silence()

    def remap(self, control_map: Any) -> None:
        """Pass an edited control map on to a port that has numbers from it. Raises ConfigError of the port."""
        remap = getattr(self.port, "remap", None)
        if remap is not None:
            remap(control_map)
            self._resend = True

    def step(self) -> None:
        """Do what is due now: look for the device, or try to open it again. May block; not for the loop's thread."""
        now = self._clock.now_ns()
        if now >= self._due_ns:
            (self._attempt if self.state == LOST else self._look)(now)

    def _look(self, now: int) -> None:
        self._due_ns = now + self._check_ns
        try:
            present = getattr(self.port, "present", None)
            if present is not None and not present():
                self._lose("the device is gone")
                return
            facts = self.port.facts()
        except Exception as e:
            self._lose(str(e))
            return
        dropped = sum(int(facts.get(key) or 0) for key in ("dropped", "refused"))
        worse, self._dropped = dropped > self._dropped, dropped
        with self._state_lock:
            if self.state != LOST:
                self._enter(DEGRADED if worse else OK, f"{dropped} messages dropped or refused" if worse else "")

    def _attempt(self, now: int) -> None:
        self._counts["attempts"] += 1
        with self._lock:
            try:
                self._reopen()
                self._make_good()
                if self._last is not None:
                    self._counts["resent"] += self.port.send(replace(self._last, send=_EVERY))
            except Exception as e:
                self.why = str(e)
                self._due_ns = now + self._backoff_ns[min(self._tries, len(self._backoff_ns) - 1)]
                self._tries += 1
                return
            # What the loop guarded while the values above were on their way goes out whole as well.
            self._resend = True
        self._tries = 0
        self._due_ns = self._clock.now_ns() + self._check_ns
        self._longest_ns = max(self._longest_ns, self._clock.now_ns() - self._lost_ns)
        self._counts["recoveries"] += 1
        with self._state_lock:
            self._enter(RECOVERED, "")

    def _reopen(self) -> None:
        reopen = getattr(self.port, "reopen", None)
        if reopen is not None:
            reopen()
            return
        with contextlib.suppress(Exception):
            self.port.close()
        self.port.open()

    def _lose(self, why: str) -> None:
        with self._state_lock:
            if self.state == LOST:
                return
            self._counts["losses"] += 1
            self._lost_ns = self._due_ns = self._clock.now_ns()
            self._enter(LOST, why)
        self._wake.set()

    def _enter(self, state: str, why: str) -> None:
        """Change the state, `_state_lock` held: the loop's thread and the keeper's may notice a loss at once."""
        before, self.state, self.why = self.state, state, why
        if before != state and self._events is not None:
            facts: dict[str, Any] = {"port": self.name, "state": state, "was": before}
            if why:
                facts["why"] = why
            if state == RECOVERED:
                facts["lost_s"] = round((self._clock.now_ns() - self._lost_ns) / SECOND_NS, 3)
            self._events.emit("port", self._t_us(), **facts)

    def _t_us(self) -> int:
        return self._origin_us + (self._clock.now_ns() - self._start_ns) // 1000

    def _keep(self) -> None:
        while not self._stop.is_set():
            self._wake.wait(POLL_S)
            self._wake.clear()
            if not self._stop.is_set():
                self.step()

    def lost_s(self) -> float:
        """Seconds since the device went away, 0 while it is there."""
        return (self._clock.now_ns() - self._lost_ns) / SECOND_NS if self.state == LOST else 0.0

    def facts(self) -> dict[str, Any]:
        """The port's counters, the keeper's (`kept`: losses, recoveries, attempts, held, resent) and the state."""
        longest = max(self._longest_ns / SECOND_NS, self.lost_s())
        kept: dict[str, Any] = dict(self._counts) | {"longest_lost_s": round(longest, 3)}
        return self.port.facts() | {"state": self.state, "why": self.why, "kept": kept}

    def close(self) -> None:
        """Silence the receiver, stop keeping, give the device back; may be called twice."""
        self._stop.set()
        self._wake.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(2.0)
            self._thread = None
        # A driver that hangs in `open` keeps the lock; then the port is left to the end of the process.
        if self._lock.acquire(timeout=1.0):
            try:
                if self.state != LOST:
                    with contextlib.suppress(Exception):
                        self.port.silence()
                with contextlib.suppress(Exception):
                    self.port.close()
            finally:
                self._lock.release()
