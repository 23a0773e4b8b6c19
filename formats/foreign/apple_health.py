"""Read heart rate from Apple Health's export.xml, streamed: memory grows with the heart rates only."""

from __future__ import annotations

from array import array

import numpy as np

from formats.errors import FormatError
from formats.foreign.delimited import is_number
from formats.foreign.guard import contained
from formats.foreign.model import T0_SIGMA_US, Clock, Facts, Series
from formats.foreign.registry import Reader
from formats.foreign.source import Source
from formats.foreign.timeline import unwrap
from formats.foreign.times import parse_iso
from formats.foreign.wearable import heart_rate, series_facts
from formats.foreign.xml_guard import stream_xml

HEART_RATE = "HKQuantityTypeIdentifierHeartRate"
MAX_RECORDS = 10_000_000
_PER_MINUTE = {"count/min": 1.0, "bpm": 1.0, "count/s": 60.0}


def _sniff(head: bytes, name: str, size: int) -> bool:
    return head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"<" and (b"<HealthData" in head or b"DOCTYPE HealthData" in head)


@contained
def read(source: Source, start_us: int | None = None, end_us: int | None = None) -> Series:
    """Read heart rate over time, t0 at the first record kept.

    Several devices may report the same moment; the first record of a moment is kept and the others are counted.

    Args:
        start_us, end_us: Keep records of this UTC span only (microseconds).

    Raises:
        FormatError: not well-formed, entities declared, a record without a date or number, or no heart rate.
    """
    stamps, values, naive = array("q"), array("d"), set[bool]()

    def record(tag: str, attributes: dict[str, str]) -> None:
        if tag != "Record" or attributes.get("type") != HEART_RATE:
            return
        value = attributes.get("value", "")
        factor = _PER_MINUTE.get(attributes.get("unit", "count/min"))
        if factor is None or not is_number(value):
            raise FormatError(f"heart rate {value[:40]!r} in {attributes.get('unit', '')[:40]!r} is not understood")
        stamp = parse_iso(attributes.get("startDate", ""))
        if (start_us is not None and stamp.us < start_us) or (end_us is not None and stamp.us > end_us):
            return
        if len(stamps) >= MAX_RECORDS:
            raise FormatError(f"more than {MAX_RECORDS} heart rates")
        stamps.append(stamp.us)
        values.append(float(value) * factor)
        naive.add(stamp.naive)

    with source.open() as file:
        stream_xml(file, record, internal_subset=True)
    if not stamps:
        raise FormatError("no heart rate in this export")
    if len(naive) > 1:
        raise FormatError("times with and without an offset are mixed")
    column = heart_rate(np.frombuffer(values, np.float64))
    times = np.frombuffer(stamps, np.int64)
    order = np.argsort(times, kind="stable")
    # An export lists device after device, so steps back are its normal order and no problem to report.
    t_us, rows, problems, _ = unwrap(times[order], column[order, None], spread=False)
    t0 = int(t_us[0])
    clock = Clock(t0, "iso_time", T0_SIGMA_US["iso_time"], naive == {True})
    return Series(t_us - t0, rows, ("hr",), ("beats/min",), None, clock, problems)


def _facts(source: Source) -> Facts:
    return series_facts(read, source, "apple-health")


READERS: tuple[Reader, ...] = (Reader("apple-health", "wearable", _sniff, _facts, read, order=15),)
