"""Heart rate over Bluetooth LE: the parser of the measurement, and the sensor as a source (extra `ble`)."""

from __future__ import annotations

import struct
import threading
from collections import deque
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from choreo_cli.errors import UnavailableError
from choreo_cli.live.clock import Clock
from choreo_cli.live.sample import Body, Sample

INSTALL = "pip install 'choreo[ble]'"
SERVICE = "0000180d-0000-1000-8000-00805f9b34fb"
MEASUREMENT = "00002a37-0000-1000-8000-00805f9b34fb"
RR_HZ = 1024
WIDE, CONTACT, CONTACT_KNOWN, ENERGY, RR = 0x01, 0x02, 0x04, 0x08, 0x10
FIND_S = 10.0
RETRY_S = 2.0
QUEUE = 256


@dataclass(frozen=True, slots=True)
class HeartRate:
    """One notification of characteristic 0x2A37.

    Args:
        bpm: Beats per minute as sent; sensors send 0 while they search.
        rr_s: Intervals between the last beats, seconds, oldest first.
        energy_kj: Energy since the last reset, None when it is not sent.
        contact: Whether the skin is touched, None when the sensor cannot say.
    """

    bpm: int
    rr_s: tuple[float, ...] = ()
    energy_kj: int | None = None
    contact: bool | None = None


def parse_heart_rate(data: bytes) -> HeartRate | None:
    """Read a Heart Rate Measurement (Bluetooth SIG, Heart Rate Service 1.0, section 3.1); None when it is cut short.

    Byte 0 holds flags: bit 0 a 16-bit value, bits 1-2 skin contact, bit 3 energy in kJ follows, bit 4 intervals in
    1/1024 s follow. Little endian. An odd byte at the end is ignored, as are flags that are not defined.
    """
    if len(data) < 2:
        return None
    flags, at = data[0], 1
    width = 2 if flags & WIDE else 1
    if len(data) < at + width:
        return None
    bpm = int.from_bytes(data[at : at + width], "little")
    at += width
    energy = None
    if flags & ENERGY:
        if len(data) < at + 2:
            return None
        energy = int.from_bytes(data[at : at + 2], "little")
        at += 2
    rest = data[at:] if flags & RR else b""
    intervals = struct.unpack(f"<{len(rest) // 2}H", rest[: len(rest) // 2 * 2])
    contact = bool(flags & CONTACT) if flags & CONTACT_KNOWN else None
    return HeartRate(bpm, tuple(r / RR_HZ for r in intervals), energy, contact)


def list_belts(seconds: float = 3.0) -> list[str]:
    """`ble:ADDRESS (name)` of every heart rate belt heard. Raises UnavailableError."""
    try:
        import bleak
    except ImportError:
        raise UnavailableError("no Bluetooth for Python", hint=INSTALL) from None
    import asyncio

    try:
        found = asyncio.run(bleak.BleakScanner.discover(timeout=seconds, service_uuids=[SERVICE]))
    except Exception as e:  # whatever a system without a radio raises
        raise UnavailableError(f"no Bluetooth here: {type(e).__name__}: {' '.join(str(e).split())[:120]}") from None
    return sorted(f"ble:{device.address} ({device.name or 'no name'})" for device in found)


class BleHeart:
    """A heart rate belt as a source; it is looked for, and found again, by a thread of its own.

    The loop does not wait for the radio: heart rate is masked until the belt answers.

    Args:
        address: Address (on macOS identifier) or part of the name; None takes the first belt that is heard.
    """

    kinds: tuple[str, ...] = ("hr",)
    body: Body | None = None
    audio_hz: int | None = None

    def __init__(self, address: str | None = None) -> None:
        self.name, self.origin_us = f"ble:{address or ''}", 0
        self._wanted = address
        self._queue: deque[tuple[int, int]] = deque(maxlen=QUEUE)
        self._counts = {"samples": 0, "drops": 0, "refused": 0, "no_contact": 0, "connections": 0}
        self._state = "looking"
        self._why = ""
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._clock: Clock | None = None
        self._start_ns = 0

    def open(self, clock: Clock, start_ns: int) -> None:
        """See `Source`."""
        try:
            import bleak
        except ImportError:
            raise UnavailableError("no Bluetooth for Python", hint=INSTALL) from None
        self._clock, self._start_ns = clock, start_ns
        self._thread = threading.Thread(target=self._run, args=(bleak,), name="ble", daemon=True)
        self._thread.start()

    def heard(self, data: bytes) -> None:
        """Take one notification; called from the radio's thread."""
        found = parse_heart_rate(bytes(data))
        if found is None:
            self._counts["refused"] += 1
        elif found.contact is False:
            self._counts["no_contact"] += 1
        elif self._clock is not None:
            if len(self._queue) == QUEUE:
                self._counts["drops"] += 1
            self._queue.append((self._clock.now_ns(), found.bpm))

    def _run(self, bleak: Any) -> None:
        import asyncio

        work: Coroutine[Any, Any, None] = self._keep_connected(bleak)
        asyncio.run(work)

    async def _keep_connected(self, bleak: Any) -> None:
        import asyncio

        while not self._stop.is_set():
            try:
                device = await bleak.BleakScanner.find_device_by_filter(self._is_wanted, timeout=FIND_S)
                if device is None:
                    self._state, self._why = "looking", "no heart rate belt is heard"
                    continue
                async with bleak.BleakClient(device) as client:
                    await client.start_notify(MEASUREMENT, lambda _, data: self.heard(data))
                    self._state, self._why = "connected", ""
                    self._counts["connections"] += 1
                    while client.is_connected and not self._stop.is_set():
                        await asyncio.sleep(0.2)
                self._state = "lost"
            except Exception as e:  # whatever a radio's driver raises: the belt is looked for again
                self._state, self._why = "lost", f"{type(e).__name__}: {e}"[:200]
                await asyncio.sleep(RETRY_S)

    def _is_wanted(self, device: Any, advertised: Any) -> bool:
        if self._wanted is None:
            return SERVICE in (advertised.service_uuids or ())
        wanted = self._wanted.casefold()
        return wanted == str(device.address).casefold() or wanted in (device.name or "").casefold()

    def poll(self, now_ns: int) -> Sequence[Sample]:
        """See `Source`."""
        found = []
        while self._queue:
            arrival_ns, bpm = self._queue.popleft()
            t_us = self.origin_us + (arrival_ns - self._start_ns) // 1000
            self._counts["samples"] += 1
            found.append(Sample("hr", t_us, arrival_ns, np.array([bpm], np.float32)))
        return found

    @property
    def ended(self) -> bool:
        """See `Source`: a sensor has no end."""
        return False

    def said(self) -> list[str]:
        """See `Source`."""
        return [f"looking for {self._wanted or 'any heart rate belt'} over Bluetooth"]

    def facts(self) -> dict[str, Any]:
        """See `Source`."""
        return {**self._counts, "state": self._state, **({"why": self._why} if self._why else {})}

    def close(self) -> None:
        """See `Source`."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(1.0)
