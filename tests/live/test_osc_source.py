"""OSC in: what each sender's numbers mean, what is refused, and a flood that neither blocks nor fills the memory."""

from __future__ import annotations

import json
import math
import socket
import struct
import threading
import time
import tracemalloc
from typing import Any

import numpy as np
import pytest

from choreo_cli.errors import UnavailableError, UsageError
from choreo_cli.live import osc_source
from choreo_cli.live.clock import SECOND_NS, MonotonicClock
from choreo_cli.live.osc import Message, encode, encode_bundle
from choreo_cli.live.osc_presets import FEATURES, NAMES, PRESETS, G, parse_map
from choreo_cli.live.osc_source import OscSource
from choreo_cli.live.sample import KINDS, Body, Sample
from tests.live.osc_material import GOOD, KILLERS, Mutator

MS = 1_000_000


def fed(source: OscSource, *packets: bytes, step_ns: int = 20 * MS) -> list[Sample]:
    """Samples of packets that arrive 20 ms apart."""
    for k, packet in enumerate(packets):
        source.handle(packet, k * step_ns, "10.0.0.7")
    return list(source.poll(10**12))


def close_to(sample: Sample, kind: str, values: Any) -> None:
    assert sample.kind == kind
    np.testing.assert_allclose(sample.values, values, rtol=1e-6)


@pytest.mark.parametrize("prefix", ["/ZIGSIM/5f0c-77", "/5f0c-77"])
def test_zig_sim_in_a_bundle_with_and_without_prefix(prefix: str) -> None:
    """Gravity is added again, G becomes m/s^2; gyro and quaternion of the same bundle are no part of it."""
    packet = encode_bundle(
        [
            Message(f"{prefix}/gravity", (0.0, 0.0, -1.0)),
            Message(f"{prefix}/accel", (0.1, 0.2, -0.5)),
            Message(f"{prefix}/gyro", (1.0, 1.0, 1.0)),
            Message(f"{prefix}/quaternion", (0.0, 0.0, 0.0, 1.0)),
        ]
    )
    source = OscSource(preset="zigsim")
    samples = fed(source, packet, packet)
    assert [s.t_us for s in samples] == [0, 20_000]
    close_to(samples[0], "accel", [0.1 * G, 0.2 * G, -1.5 * G])
    assert source.facts()["unused"] == 4


def test_zig_sim_as_json() -> None:
    data = {
        "device": {"name": "phone", "uuid": "5f0c-77", "os": "ios"},
        "timestamp": "2026_01_01_12:00:00.000",
        "sensordata": {"accel": {"x": 0.1, "y": 0, "z": 0}, "gravity": {"x": 0, "y": -1, "z": 0}, "touch": [{"x": 1}]},
    }
    source = OscSource(preset="zigsim")
    two = json.dumps(data).encode() + b"\n"
    close_to(fed(source, two)[0], "accel", [0.1 * G, -G, 0])
    flat = json.dumps({k: data["sensordata"][k] for k in ("accel", "gravity")}).encode()  # type: ignore[index]
    assert len(fed(OscSource(preset="zigsim"), flat + b"\n" + flat)) == 2


@pytest.mark.parametrize(
    ("packet", "why"),
    [
        (b"{", "JSON not of ZIG SIM"),
        (b'{"sensordata": 5}', "JSON not of ZIG SIM"),
        (b'{"sensordata": {"accel": {"x": "1", "y": 0, "z": 0}}}', "JSON not of ZIG SIM"),
        (b'{"sensordata": {"accel": {"x": NaN, "y": 0, "z": 0}}}', "JSON not of ZIG SIM"),
        (b'{"a": ' + b"[" * 4000 + b"]" * 4000 + b"}", "JSON not of ZIG SIM"),
        (b'{"device": {"uuid": "\xff"}}', "JSON not of ZIG SIM"),
        (b'{"device": {"uuid": "' + b"x" * 9000 + b'"}}', "larger than 8 KiB"),
    ],
    ids=range(7),
)
def test_bad_json_is_refused(packet: bytes, why: str) -> None:
    source = OscSource(preset="zigsim")
    assert fed(source, packet) == []
    assert source.facts()["refused"] == {why: 1}


def test_json_is_for_zig_sim_only() -> None:
    source = OscSource(preset="choreo")
    fed(source, b'{"a": 1}')
    assert source.facts()["refused"] == {"no address": 1}


def test_acceleration_without_its_gravity_is_refused_not_guessed() -> None:
    source = OscSource(preset="gyrosc")
    accel, gravity = encode("/gyrosc/accel", [0.5, 0.0, 0.0]), encode("/gyrosc/grav", [0.0, 0.0, -1.0])
    assert fed(source, accel) == []
    assert source.facts()["refused"] == {"no gravity: switch Gravity on in the app": 1}
    source.handle(gravity, 2 * SECOND_NS)
    source.handle(accel, 2 * SECOND_NS + MS)
    source.handle(accel, 4 * SECOND_NS)
    samples = source.poll(0)
    assert len(samples) == 1, "gravity of two seconds ago is none"
    close_to(samples[0], "accel", [0.5 * G, 0, -G])


def test_a_second_phone_waits_until_the_first_is_silent() -> None:
    source = OscSource(preset="zigsim")

    def phone(uuid: str) -> bytes:
        return encode_bundle(
            [Message(f"/{uuid}/gravity", (0.0, 0.0, -1.0)), Message(f"/{uuid}/accel", (0.0, 0.0, 0.0))]
        )

    assert len(fed(source, phone("a"), phone("b"), phone("a"))) == 2
    assert source.facts()["refused"] == {"another device on this port": 2}
    source.handle(phone("b"), 3 * SECOND_NS)
    assert len(source.poll(0)) == 1


def test_touchosc() -> None:
    close_to(fed(OscSource(preset="touchosc"), encode("/accxyz", [0.0, 0.6, -0.8]))[0], "accel", [0, 0.6 * G, -0.8 * G])


def test_our_own_addresses() -> None:
    source = OscSource(body=Body(("hip", "head"), 3))
    inputs = [0.5, 2.0, 0.1, False, False, 0.9, 66, 0.0, 0.4, 0.5, 0.25]
    samples = fed(
        source,
        encode("/choreo/inputs", inputs),
        encode("/choreo/accel", [0.0, 0.0, 9.81]),
        encode("/choreo/pose", [float(k) for k in range(6)]),
        encode("/choreo/hr", [66]),
        encode("/choreo/beat", [16.5, 120.0]),
        encode("/choreo/target", [0.0, 0.25, 0.5, 0.75, 1.0]),
        encode("/choreo/target/density", [0.5]),
        encode("/choreo/else", [0.5]),
    )
    nan = math.nan
    close_to(samples[0], "inputs", [nan if v is False else v for v in inputs])
    assert samples[0].whole and samples[0].values.dtype == np.float32
    close_to(samples[1], "accel", [0, 0, 9.81])
    close_to(samples[2], "pose", [[0, 1, 2], [3, 4, 5]])
    close_to(samples[3], "hr", [66])
    close_to(samples[4], "beat", [16.5, 120])
    close_to(samples[5], "target", [0, 0.25, 0.5, 0.75, 1])
    close_to(samples[6], "target", [nan, 0.5, nan, nan, nan])
    assert len(samples) == 7 and source.facts()["unused"] == 1
    assert {s.kind for s in samples} == set(source.kinds) <= set(KINDS)


@pytest.mark.parametrize(
    ("packet", "why"),
    [
        (encode("/choreo/inputs", [0.5] * 10), "not 11 numbers"),
        (encode("/choreo/inputs", [0.5] * 10 + [True]), "an argument is no number"),
        (encode("/choreo/hr", ["66"]), "an argument is no number"),
        (encode("/choreo/hr", []), "not 1 number"),
        (b"/choreo/hr\0\0,d\0\0" + struct.pack(">d", 1e300), "a number larger than any sensor gives"),
        (encode("/choreo/pose", [0.5] * 3), "a pose, but no body is named"),
        (encode("/wek/inputs", [0.5]), "address not allowed"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(packet: bytes, why: str) -> None:
    source = OscSource()
    assert fed(source, packet) == []
    assert source.facts()["refused"] == {why: 1}


def test_a_map_of_features() -> None:
    entries = [
        "/wek/inputs:0=motion_energy", "/wek/inputs:2=symmetry", "/wek/inputs:1=hr", "/a:0=accel.x@g", "/a:2=accel.z@g",
        "/a:1=accel.y@g", "/clock:1=bpm", "/clock:0=beat", "/1/fader3:0=target.tension", "/b:0=beat_phase",
    ]  # fmt: skip
    source = OscSource(preset="wek", mapping=parse_map(entries))
    samples = fed(
        source,
        encode("/wek/inputs", [0.5, 66.0, 0.25]),
        encode("/a", [0, 0, -1]),
        encode("/clock", [8.5, 120.0]),
        encode("/1/fader3", [0.75]),
        encode("/b", [True]),
        encode("/wek/inputs", [0.5]),
        encode("/wek/inputs", [0.5, "66", 0.25]),
    )
    row = np.full(11, np.nan)
    row[[NAMES.index("motion_energy"), NAMES.index("symmetry")]] = 0.5, 0.25
    by_kind = {s.kind: s for s in samples}
    close_to(samples[0], "inputs", row)
    close_to(by_kind["hr"], "hr", [66])
    close_to(by_kind["accel"], "accel", [0, 0, -G])
    close_to(by_kind["beat"], "beat", [8.5, 120])
    close_to(by_kind["target"], "target", [math.nan, math.nan, 0.75, math.nan, math.nan])
    assert samples[-1].values[NAMES.index("beat_phase")] == 1 and not samples[-1].whole
    assert source.facts()["refused"] == {"an argument is no number": 1, "fewer arguments than mapped": 1}
    assert set(by_kind) == set(source.kinds)


@pytest.mark.parametrize(
    ("entries", "sentence"),
    [
        (["/a:0"], "--map /a:0: not ADDR:IDX=FEATURE: ADDR:IDX=FEATURE, for example"),
        (["/a=hr"], "--map /a=hr: not ADDR:IDX=FEATURE"),
        (["a:0=hr"], "not ADDR:IDX=FEATURE"),
        (["/a:-1=hr"], "not ADDR:IDX=FEATURE"),
        (["/a:x=hr"], "not ADDR:IDX=FEATURE"),
        (["/a b:0=hr"], "not ADDR:IDX=FEATURE"),
        (["/a*:0=hr"], "--map /a*:0=hr: /a* is a pattern: name one address"),
        (["/a:0=motion_enrgy"], "--map /a:0=motion_enrgy: no feature motion_enrgy: did you mean motion_energy?"),
        (["/a:0="], "no feature is named"),
        (["/a:0=zzz"], "no feature zzz: one of motion_energy, motion_freq"),
        (["/a:0=accel.x"], "no feature accel.x: say the unit: accel.x@g or accel.x@m/s2"),
        (["/a:0=accel.x@mg"], "say the unit: accel.x@g or accel.x@m/s2"),
        (["/a:0=hr", "/a:0=jerk"], "--map /a:0=jerk: /a:0 is hr already"),
        (["/a:0=hr", "/b:0=hr"], "--map /b:0=hr: hr comes from elsewhere already"),
        (["/a:0=accel.x@g", "/a:1=accel.y@g"], "accel.x@g, accel.y@g is no acceleration: x, y and z of one message"),
        (["/a:0=accel.x@g", "/a:1=accel.y@g", "/b:2=accel.z@g"], "is no acceleration"),
        (["/a:0=accel.x@g", "/a:1=accel.y@g", "/a:2=accel.z@m/s2"], "is no acceleration"),
        (["/a:0=bpm"], "bpm is no use without beat from the same message"),
        (["/a:0=bpm", "/b:0=beat"], "bpm is no use without beat"),
    ],
)
def test_a_map_that_is_none(entries: list[str], sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_map(entries)
    assert sentence in str(caught.value)


def test_bad_arguments() -> None:
    with pytest.raises(UsageError, match="no OSC preset zig: one of choreo, zigsim, gyrosc, touchosc, wek, or --map"):
        OscSource(preset="zig")
    with pytest.raises(UsageError, match="osc:6448:wek needs --map: --map /wek/inputs:0=motion_energy"):
        OscSource(port=6448, preset="wek")
    with pytest.raises(UsageError, match="OSC port 70000 is not"):
        OscSource(port=70000)


def test_every_preset_states_its_units_and_every_feature_is_a_kind() -> None:
    assert all(p.units and set(p.kinds) <= set(KINDS) for p in PRESETS.values())
    assert set(NAMES) < set(FEATURES)


def test_a_time_tag_is_kept_in_microseconds_and_not_waited_for() -> None:
    tag = 3_900_000_000 << 32 | 1 << 31
    source = OscSource()
    packets = [encode_bundle([Message("/choreo/hr", (60,))], timetag=t) for t in (tag, 1, 0)] + [
        encode("/choreo/hr", [60])
    ]
    samples = fed(source, *packets)
    assert [s.t_sensor_us for s in samples] == [3_900_000_000_500_000, None, None, None]
    assert [s.t_us for s in samples] == [0, 20_000, 40_000, 60_000]


def test_the_newest_win_when_nobody_polls() -> None:
    source = OscSource(capacity=8)
    fed_all = [encode("/choreo/hr", [k]) for k in range(50)]
    samples = fed(source, *fed_all)
    assert [int(s.values[0]) for s in samples] == list(range(42, 50))
    assert source.facts()["dropped"] == 42 and source.facts()["samples"] == {"hr": 50}


def test_a_flood_leaves_the_memory_flat_and_complains_once_a_second() -> None:
    """5000 packets a second of virtual time, half of them hostile; a tick polls every 20 ms."""
    source, mutator = OscSource(), Mutator(9)
    hostile = [mutator.packet() for _ in range(500)] + list(KILLERS.values())
    good = [encode("/choreo/inputs", [0.5] * 11), encode_bundle([Message("/choreo/hr", (60,))]), GOOD]

    def flood(first: int, n: int) -> int:
        got = 0
        for k in range(first, first + n):
            source.handle(good[k % 3] if k % 2 else hostile[k % len(hostile)], k * 200_000)
            if k % 100 == 0:
                got += len(source.poll(0))
        return got

    flood(0, 25_000)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    got = flood(25_000, 25_000)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 256_000 and got > 8000 and source.facts()["dropped"] == 0
    assert source.facts()["errors"] == 10, "ten seconds, ten lines"
    assert len(source.facts()["refused"]) < 30
    assert source.facts()["rate_hz"] == pytest.approx({"inputs": 833.3, "hr": 833.3}, rel=0.05)
    source.handle(encode("/choreo/hr", [61]), 11 * SECOND_NS)
    assert source.poll(0)[-1].values[0] == 61


def test_the_line_of_errors_says_what_and_from_whom() -> None:
    source = OscSource(port=9000)
    nan = encode("/choreo/hr", [1.0])[:-4] + struct.pack(">f", math.nan)
    fed(source, nan)
    assert source.facts()["error"] == "osc:9000: refused since the last line: 1 float not finite (last from 10.0.0.7)"
    for k in range(5):
        source.handle(b"", SECOND_NS // 2 + k)
    assert source.facts()["errors"] == 1
    source.handle(nan, 2 * SECOND_NS, "10.0.0.8")
    assert source.facts()["error"].endswith("line: 5 empty, 1 float not finite (last from 10.0.0.8)")


def wait_for(source: OscSource, n: int) -> list[Sample]:
    found: list[Sample] = []
    deadline = time.monotonic() + 5
    while len(found) < n:
        assert time.monotonic() < deadline
        found += source.poll(0)
        time.sleep(0.002)
    return found


def test_packets_of_a_socket_arrive_in_order_after_hostile_ones() -> None:
    source = OscSource(port=0)
    clock = MonotonicClock()
    source.open(clock, clock.now_ns())
    try:
        host, number = source.address
        assert host == "127.0.0.1" and number > 0
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for killer in KILLERS.values():
                if len(killer) < 60_000:
                    sender.sendto(killer, (host, number))
            for k in range(20):
                sender.sendto(encode("/choreo/hr", [60 + k]), (host, number))
        samples = wait_for(source, 20)
        assert [int(s.values[0]) for s in samples] == list(range(60, 80))
        assert [s.t_us for s in samples] == sorted(s.t_us for s in samples)
        assert source.facts()["last_ns"] == samples[-1].t_arrival_ns
        assert not source.ended
    finally:
        source.close()
        source.close()
    assert not [t for t in threading.enumerate() if t.name == source.name]
    source.open(clock, clock.now_ns())
    source.close()


def test_a_packet_larger_than_allowed_is_refused_whole() -> None:
    """Not cut to 8 KiB and then read."""
    source = OscSource(port=0)
    clock = MonotonicClock()
    source.open(clock, clock.now_ns())
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(encode_bundle([Message("/choreo/hr", (1,))] * 400), source.address)
            sender.sendto(encode("/choreo/hr", [2]), source.address)
        assert wait_for(source, 1)[0].values[0] == 2
        assert source.facts()["refused"] == {"larger than 8 KiB": 1}
    finally:
        source.close()


def test_a_taken_port_and_a_foreign_address_are_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = MonotonicClock()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        number = taken.getsockname()[1]
        with pytest.raises(UnavailableError, match=f"osc:{number}: another program has port {number}: stop it"):
            OscSource(port=number).open(clock, 0)
    with pytest.raises(UnavailableError, match=r"192\.0\.2\.7 is no address of this machine: --listen 127\.0\.0\.1"):
        OscSource("192.0.2.7", 0).open(clock, 0)


@pytest.mark.parametrize(
    ("host", "here", "line"),
    [
        ("127.0.0.1", "192.168.1.23", "osc:9000:touchosc: listening on 127.0.0.1:9000, this machine only; for a phone start with --listen 192.168.1.23"),
        ("127.0.0.1", None, "osc:9000:touchosc: listening on 127.0.0.1:9000, this machine only; for a phone start with --listen ADDRESS (this machine's address in the network)"),
        ("192.168.1.23", "192.168.1.23", "osc:9000:touchosc: listening on 192.168.1.23:9000"),
        ("0.0.0.0", "192.168.1.23", "osc:9000:touchosc: listening on port 9000 of every address of this machine, 192.168.1.23"),
    ],
)  # fmt: skip
def test_what_is_said_at_start(host: str, here: str | None, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(osc_source, "lan_address", lambda: here)
    said = OscSource(host, 9000, preset="touchosc").said()
    assert said == [line, "osc:9000:touchosc: TouchOSC, /accxyz in G with gravity"]


def test_the_address_in_the_network_is_found_without_a_packet(monkeypatch: pytest.MonkeyPatch) -> None:
    class Asked(socket.socket):
        here: Any = "192.168.1.23"

        def connect(self, address: Any) -> None:
            if self.here is None:
                raise OSError("no way")

        def getsockname(self) -> Any:
            return (self.here, 5)

        def send(self, *args: Any) -> int:
            pytest.fail("a packet was sent")

        sendto = send  # type: ignore[assignment]

    monkeypatch.setattr("choreo_cli.live.osc_source.socket.socket", Asked)
    assert osc_source.lan_address() == "192.168.1.23"
    for nowhere in ("127.0.0.1", "0.0.0.0", None):
        monkeypatch.setattr(Asked, "here", nowhere)
        assert osc_source.lan_address() is None


@pytest.mark.parametrize(
    ("preset", "packet", "told"),
    [
        (None, encode("/ZIGSIM/5f0c/accel", [0.0, 0.0, 1.0]), "the last was /ZIGSIM/5f0c/accel: --source osc:9000:zigsim"),
        (None, encode("/gyrosc/accel", [0.0, 0.0, 1.0]), "--source osc:9000:gyrosc"),
        (None, encode_bundle([Message("/accxyz", (0.0, 0.0, 1.0))]), "--source osc:9000:touchosc"),
        (None, encode("/arm/acc", [0.0, 0.0, 1.0]), "the last was /arm/acc: --source osc:9000 --learn"),
        (None, encode("/choreo/word", [1.0]), "the last was /choreo/word: --source osc:9000 --learn"),
        (None, b'{"sensordata":{}}', "they are JSON, which ZIG SIM sends: --source osc:9000:zigsim"),
        (None, b"no osc!!", "not OSC, no address"),
        ("zigsim", encode("/x/accel", [0.0, 0.0, 1.0]), "no gravity: switch Gravity on in the app"),
        ("gyrosc", encode("/gyrosc/accel", [0.0, 1.0]), "not 3 numbers"),
    ],
)  # fmt: skip
def test_what_comes_and_is_of_no_use_is_not_called_silence(preset: str | None, packet: bytes, told: str) -> None:
    """A phone with another preset than its own: what arrives, and the words that would play it."""
    source = OscSource(preset=preset)
    assert source.useless() == ""
    fed(source, packet, packet)
    line = source.said()[-1]
    assert line.startswith(f"{source.name}: 2 packets came and none could be used") and told in line
    if preset is None:
        fed(source, encode("/choreo/hr", [60.0]))
        assert source.useless() == "" and not any("packets came" in said for said in source.said())


def test_an_empty_address_is_not_every_address() -> None:
    with pytest.raises(UsageError, match="the address to listen at is empty"):
        osc_source.bind_udp("", 0, "osc:0")
