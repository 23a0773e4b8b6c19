"""Wearables: real E4 files, logs made here in every dialect, and an Apple export in bounded memory."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from formats.errors import FormatError
from formats.foreign import apple_health, empatica, garmin, heart_csv
from formats.foreign.model import Series
from formats.foreign.registry import Reader
from formats.foreign.source import Source
from formats.foreign.xml_guard import MAX_TOKEN

READERS = (*empatica.READERS, *garmin.READERS, *heart_csv.READERS, *apple_health.READERS)
T0 = 1_775_613_749


def source(tmp_path: Path, name: str, content: str | bytes) -> Source:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return Source.of(path)


def reader_of(s: Source) -> Reader | None:
    return next((r for r in sorted(READERS, key=lambda r: r.order) if r.sniff(s.head, s.name, s.size)), None)


def read(s: Source) -> Series:
    reader = reader_of(s)
    assert reader is not None and reader.read is not None
    assert reader.facts(s).kind == "wearable"
    series = reader.read(s)
    assert isinstance(series, Series)
    assert series.t_us[0] == 0 and (np.diff(series.t_us) > 0).all()
    assert series.values.shape == (len(series.t_us), len(series.names)) and len(series.units) == len(series.names)
    return series


def test_empatica_folder_as_documented(shared: Path) -> None:
    folder = shared / "data/wearable/empatica_flirt"
    want = {
        "ACC": (9998, 32, 312.4375),
        "BVP": (9998, 64, 156.21875),
        "EDA": (9998, 4, 2499.5),
        "HR": (4998, 1, 4998.0),
        "TEMP": (4998, 4, 1249.5),
    }
    facts = {}
    for stem, (n, rate, seconds) in want.items():
        s = Source.of(folder / f"{stem}.csv")
        series = read(s)
        found = empatica.READERS[1].facts(s)
        facts[s.name] = found
        assert (found.n, found.rate, found.duration_us) == (n, (rate, 1), round(seconds * 1e6)), stem
        assert series.clock.t0_utc_us == (1_560_279_835 if stem == "HR" else 1_560_279_825) * 10**6
    acc = read(Source.of(folder / "ACC.csv"))
    assert acc.names == ("acc_x", "acc_y", "acc_z") and acc.units == ("g", "g", "g")
    assert acc.values[0].tolist() == [-61 / 64, 25 / 64, 6 / 64]
    assert 0.9 < float(np.median(np.linalg.norm(acc.values, axis=1))) < 1.1
    (said,) = empatica.disagreements(facts)
    assert said.startswith("duration_contradiction")
    # ACC and HR alone overlap for the documented 302 s.
    pair = {k: facts[k] for k in ("ACC.csv", "HR.csv")}
    assert empatica.disagreements(pair)[0].endswith("all overlap for 302.4 s")


def test_empty_tags_are_legal(shared: Path) -> None:
    s = Source.of(shared / "data/wearable/empatica_flirt/tags.csv")
    reader = reader_of(s)
    assert reader is not None
    facts = reader.facts(s)
    assert (facts.kind, facts.reason, facts.n) == ("other", None, 0)


def test_ibi_is_milliseconds_between_beats(shared: Path) -> None:
    series = read(Source.of(shared / "data/wearable/empatica_flirt/IBI.csv"))
    assert series.names == ("rr",) and series.units == ("ms",)
    assert 400 < float(np.nanmedian(series.values)) < 1500
    assert series.clock.t0_utc_us == 1_560_279_825_000_000 + 83_503_822


def test_our_own_heart_rate_table(tmp_path: Path) -> None:
    rows = "".join(f"{T0 + i}.{i:06d},{80 + i % 5}\n" for i in range(50))
    series = read(source(tmp_path, "hr.csv", "t_unix_s,hr\n" + rows))
    assert series.clock.t0_utc_us == T0 * 10**6 and series.clock.source == "unix_time"
    assert series.t_us.tolist() == [i * 1_000_001 for i in range(50)]
    assert series.rate == (1, 1) and series.problems == () and series.assumptions == ()


@pytest.mark.parametrize(
    ("header", "row", "naive"),
    [
        ("timestamp,bpm", lambda i: f"{(T0 + i) * 1000},{70 + i}", False),
        ("Time;Heart Rate (bpm)", lambda i: f"2026-04-08T02:02:{29 + i}Z;{70 + i}", False),
        ("Datetime,Heart rate", lambda i: f"2026-04-08 02:02:{29 + i},{70 + i}", True),
        ("\ufeffhr\ttime", lambda i: f"{70 + i}\t2026-04-08T04:02:{29 + i}+02:00", False),
        ("# made by a watch\ntime,hr,rr", lambda i: f"{T0 + i},{70 + i},812 795", False),
    ],
)
def test_dialects_of_a_heart_rate_table(tmp_path: Path, header: str, row, naive: bool) -> None:
    series = read(source(tmp_path, "w.csv", header + "\r\n" + "".join(row(i) + "\r\n" for i in range(10))))
    assert series.names[0] == "hr" and series.values[:, 0].tolist() == [70 + i for i in range(10)]
    assert series.clock.t0_utc_us == T0 * 10**6 and series.clock.naive is naive
    if "rr" in series.names:
        assert np.allclose(series.values[:, 1], 803.5)


def test_sentinels_and_blanks_are_missing_never_zero(tmp_path: Path) -> None:
    cells = ["70", "0", "-1", "255", "", "nan", "inf", "1e300", "80"]
    series = read(source(tmp_path, "hr.csv", "t_s,hr\n" + "".join(f"{i},{c}\n" for i, c in enumerate(cells))))
    assert np.isnan(series.values[1:8, 0]).all() and series.values[[0, 8], 0].tolist() == [70, 80]
    assert series.clock.t0_utc_us is None
    s = source(tmp_path, "none.csv", "t_s,hr\n0,0\n1,0\n")
    assert heart_csv.READERS[0].facts(s).reason == "every value is missing"


def test_disorder_is_told(tmp_path: Path) -> None:
    times = [0, 1, 2, 2, 1.5, 4, 4, 4]
    text = "time_s,hr\n" + "".join(f"{t},{60 + i if i != 3 else 62}\n" for i, t in enumerate(times)) + "5,7"
    series = read(source(tmp_path, "hr.csv", text))
    assert [p.split(":")[0] for p in series.problems] == ["backward_steps", "duplicate_rows"]
    assert len(series.assumptions) == 1 and "spread" in series.assumptions[0]


def test_a_cut_last_line_is_dropped_and_said(tmp_path: Path) -> None:
    series = read(source(tmp_path, "hr.csv", "time_s,hr\n0,60\n1,61\n2"))
    assert len(series.t_us) == 2 and series.problems[0].startswith("cut_last_line")
    with pytest.raises(FormatError, match=r"hr.csv, row 3"):
        heart_csv.read_csv(source(tmp_path, "hr.csv", "time_s,hr\n0,60\n1\n2,61\n"))


@pytest.mark.parametrize("as_lines", [True, False])
def test_bluetooth_log(tmp_path: Path, as_lines: bool) -> None:
    rows = [{"t": T0 + i // 3, "hr": 70 + i, "rr": [800, 820] if i % 2 else []} for i in range(30)]
    rows.append({"t": T0 + 10, "hr": 255, "rr": []})
    text = "\n".join(map(json.dumps, rows)) + "\n" if as_lines else json.dumps(rows)
    series = read(source(tmp_path, "ble.jsonl", text))
    assert series.names == ("hr", "rr") and series.clock.t0_utc_us is not None
    assert len(series.t_us) == 31 and np.isnan(series.values[30, 0])
    # Three packets of one stamp lie in the second before it, a third of a second apart.
    assert np.allclose(np.diff(series.t_us)[:29], 333_333, atol=2)
    assert np.nanmax(series.values[:, 1]) == 810


def test_a_json_line_that_was_cut_is_dropped(tmp_path: Path) -> None:
    series = read(source(tmp_path, "ble.jsonl", '{"t": 0, "hr": 60}\n{"t": 1, "hr": 61}\n{"t": 2, "h'))
    assert len(series.t_us) == 2 and series.problems[0].startswith("cut_last_line")


def test_garmin_events_and_acceleration(tmp_path: Path) -> None:
    lines = []
    for i in range(20):
        at = f"2026-04-08T04:02:{29 + i}.5{i % 10}0+02:00"
        lines += [f"{at};HEART_RATE;{70 + i}.0", f"{at};HEART_RATE_VARIABILITY;8{i:02d}.0", f"{at};STRESS;7.0"]
    series = read(source(tmp_path, "data.csv", "\n".join(lines) + "\n"))
    assert series.names == ("hr", "rr") and series.clock.t0_utc_us == T0 * 10**6 + 500_000
    assert not np.isnan(series.values).any() and len(series.t_us) == 20
    acc = "".join(f"2026-04-08T04:02:{29 + i // 25}.{i % 25 * 40:03d}+02:00;-36;620;{-800 - i}\n" for i in range(100))
    series = read(source(tmp_path, "acc.csv", acc))
    assert series.rate == (25, 1) and series.values[0].tolist() == [
        np.float32(-0.036),
        np.float32(0.62),
        np.float32(-0.8),
    ]


def test_fit_is_recognised_and_not_read(tmp_path: Path) -> None:
    s = source(tmp_path, "a.fit", b"\x0e\x10\xd9\x07\x00\x00\x00\x00.FIT\x00\x00")
    reader = reader_of(s)
    assert reader is not None and reader.read is None and "not read yet" in (reader.facts(s).reason or "")


DTD = "<!DOCTYPE HealthData [\n<!ELEMENT HealthData (Record)*>\n<!ATTLIST Record value CDATA #IMPLIED>\n]>\n"


def record(i: int, value: object = None, unit: str = "count/min") -> str:
    at = f"2026-04-08 04:{2 + (29 + i) // 60:02d}:{(29 + i) % 60:02d} +0200"
    return (
        f'<Record type="HKQuantityTypeIdentifierHeartRate" sourceName="W" unit="{unit}" creationDate="{at}" '
        f'startDate="{at}" endDate="{at}" value="{70 + i % 9 if value is None else value}"/>\n'
    )


def export(body: str, dtd: str = DTD) -> str:
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{dtd}<HealthData locale="en_US">\n{body}</HealthData>\n'


def test_apple_export(tmp_path: Path) -> None:
    steps = '<Record type="HKQuantityTypeIdentifierStepCount" unit="count" startDate="x" value="many"/>\n'
    body = steps + "".join(record(i) for i in reversed(range(100))) + record(5, 99) + record(200, "1.5", "count/s")
    series = read(source(tmp_path, "export.xml", export(body)))
    assert series.clock.t0_utc_us == T0 * 10**6 and series.clock.source == "iso_time"
    assert len(series.t_us) == 101 and series.values[-1, 0] == 90
    assert [p.split(":")[0] for p in series.problems] == ["repeated_times"]
    some = apple_health.read(source(tmp_path, "export.xml", export(body)), T0 * 10**6, T0 * 10**6 + 9_000_000)
    assert len(some.t_us) == 10


@pytest.mark.parametrize(
    "dtd",
    [
        '<!DOCTYPE HealthData [<!ENTITY a "b">]>',
        '<!DOCTYPE HealthData [<!ENTITY % a SYSTEM "file:///etc/hostname"> %a;]>',
        '<!DOCTYPE HealthData [<!ENTITY a SYSTEM "file:///etc/hostname">]>',
        "<!DOCTYPE HealthData [" + "".join(f'<!ENTITY l{i + 1} "{f"&l{i};" * 10}">' for i in range(9)) + "]>",
        f'<!DOCTYPE HealthData [<!ATTLIST Record x CDATA "{"y" * 5000}">]>',
    ],
)
def test_entities_and_huge_defaults_are_refused(tmp_path: Path, dtd: str) -> None:
    with pytest.raises(FormatError, match="refused"):
        apple_health.read(source(tmp_path, "export.xml", export(record(1), dtd)))


@pytest.mark.parametrize(
    "body",
    [
        "<a>" * 100_000,
        f'<Record x="{"y" * (3 * MAX_TOKEN)}"/>',
        "<!--" + "-x" * 2 * MAX_TOKEN,
        "".join(f"<a{i}/>" for i in range(9000)),
    ],
)
def test_xml_that_would_eat_memory_is_refused(tmp_path: Path, body: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(FormatError):
            apple_health.read(source(tmp_path, "export.xml", export(body)))
        assert tracemalloc.get_traced_memory()[1] < 32 * 2**20 + 2 * len(body)
    finally:
        tracemalloc.stop()


def big_export(path: Path, mega: int) -> int:
    """An export of about `mega` MB, one heart rate in ten records, written piecewise."""
    other = '<Record type="HKQuantityTypeIdentifierStepCount" unit="count" startDate="2026-04-08 04:02:29 +0200" value="3"/>\n'
    block = (other * 9 + "{}") * 100
    n = 0
    with path.open("w") as f:
        f.write(export("").removesuffix("</HealthData>\n"))
        while f.tell() < mega * 10**6:
            f.write(block.replace("{}", record(n % 1500)))
            n += 100
        f.write("</HealthData>\n")
    return n


def measure_export(tmp_path: Path, mega: int) -> None:
    path = tmp_path / "export.xml"
    n = big_export(path, mega)
    tracemalloc.start()
    try:
        series = apple_health.read(Source.of(path))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert 1 <= len(series.t_us) <= n
    assert peak < 200 * n + 4 * 2**20, f"{peak} bytes for {n} heart rates"


def test_memory_grows_with_the_heart_rates_only(tmp_path: Path) -> None:
    measure_export(tmp_path, 4)


@pytest.mark.slow
def test_memory_of_a_100_mb_export(tmp_path: Path) -> None:
    measure_export(tmp_path, 100)
