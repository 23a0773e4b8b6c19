"""Learning what arrives: rates and ranges as sent, proposals that name a unit only when rest shows it."""

from __future__ import annotations

import math
import random
import socket
import threading

import pytest

from choreo_cli.errors import UnavailableError
from choreo_cli.live.clock import SECOND_NS
from choreo_cli.live.osc import Message, encode, encode_bundle
from choreo_cli.live.osc_guess import RECOGNISED, propose
from choreo_cli.live.osc_learn import MAX_ADDRESSES, Learner, listen, rows
from choreo_cli.live.osc_presets import PRESETS, parse_map


def learned(address: str, *packets: tuple[float | int | str | bool, ...], hz: float = 50) -> Learner:
    learner = Learner()
    for k, args in enumerate(packets):
        learner.take(encode(address, args), round(k * SECOND_NS / hz))
    return learner


def resting(length: float, n: int = 100) -> list[tuple[float, ...]]:
    rnd = random.Random(4)
    return [(rnd.gauss(0, 0.02 * length), rnd.gauss(0, 0.02 * length), length) for _ in range(n)]


def test_what_arrives_is_listed_with_its_rate_and_ranges() -> None:
    learner = learned("/acc", (0.5, -1.0, "left"), (0.75, 1.0, "right"), (0.25, 0.0, "left"), hz=50)
    learner.take(encode("/button", [True]), 0)
    assert rows(learner.heard) == [("/acc", "ffs", "50.0", "0.25..0.75  -1..1  -"), ("/button", "T", "", "1")]


def test_the_arguments_may_change_their_number() -> None:
    learner = learned("/a", (1.0,), (2.0, 5.0), (3.0,))
    assert (learner.heard["/a"].low, learner.heard["/a"].high) == ([1.0, 5.0], [3.0, 5.0])


@pytest.mark.parametrize(
    ("address", "args", "preset"),
    [
        ("/5f0c/gravity", (0.0, 0.0, -1.0), "zigsim"),
        ("/ZIGSIM/5f0c/gravity", (0.0, 0.0, -1.0), "zigsim"),
        ("/gyrosc/grav", (0.0, 0.0, -1.0), "gyrosc"),
        ("/accxyz", (0.0, 0.0, -1.0), "touchosc"),
        ("/choreo/hr", (66.0,), "choreo"),
    ],
)
def test_known_senders_are_recognised(address: str, args: tuple[float, ...], preset: str) -> None:
    assert propose(learned(address, args).heard) == [f"osc:PORT:{preset}"]
    assert set(RECOGNISED) <= set(PRESETS)


def test_the_json_form_of_zig_sim_is_recognised() -> None:
    learner = Learner()
    learner.take(b'{"device":{"uuid":"a"},"sensordata":{"gravity":{"x":0,"y":0,"z":-1}}}', 0)
    learner.take(b"{", 0)
    assert propose(learner.heard) == ["osc:PORT:zigsim"]
    assert learner.decoder.refused == {"JSON not of ZIG SIM": 1}


@pytest.mark.parametrize(("length", "unit"), [(9.81, "m/s2"), (1.0, "g")])
def test_the_unit_of_a_resting_accelerometer_is_proposed(length: float, unit: str) -> None:
    proposed = propose(learned("/android/accelerometer", *resting(length)).heard)
    assert proposed == [f"--map /android/accelerometer:{k}=accel.{a}@{unit}" for k, a in enumerate("xyz")]


@pytest.mark.parametrize("length", [0.02, 3.0, 40.0])
def test_a_unit_that_rest_does_not_show_is_not_guessed(length: float) -> None:
    assert propose(learned("/accelerometer", *resting(length)).heard) == []


def test_heart_rate_and_inputs_are_proposed_by_name_and_range() -> None:
    learner = learned("/sensors/heartrate", (61.0,), (64.0,))
    for address, value in (("/x/hr", 900.0), ("/body/motion_energy", 0.3), ("/three", 0.5)):
        learner.hear(Message(address, (value,)), 0)
    assert propose(learner.heard) == ["--map /body/motion_energy:0=motion_energy", "--map /sensors/heartrate:0=hr"]


def test_every_proposal_is_a_map() -> None:
    learner = learned("/acc", *resting(9.81))
    learner.hear(Message("/second/acc", (0.0, 0.0, 9.8)), 0)
    learner.hear(Message("/hr", (60,)), 0)
    entries = [e.removeprefix("--map ") for e in propose(learner.heard)]
    assert len(parse_map(entries)) == 4


def test_made_up_addresses_do_not_fill_the_memory() -> None:
    learner = Learner()
    for k in range(3000):
        learner.take(encode(f"/{k}", [1.0] * 200), k)
    assert (len(learner.heard), learner.overlooked) == (MAX_ADDRESSES, 3000 - MAX_ADDRESSES)
    assert len(learner.heard["/0"].low) == 128


def test_it_listens_until_it_is_stopped() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        number = free.getsockname()[1]
    stop = threading.Event()
    found: list[Learner] = []
    thread = threading.Thread(target=lambda: found.append(listen(30, port=number, stop=stop.is_set)))
    thread.start()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for _ in range(5):
            sender.sendto(encode_bundle([Message("/hr", (60,))]), ("127.0.0.1", number))
            stop.wait(0.05)
    stop.set()
    thread.join(5)
    assert found and found[0].heard["/hr"].count > 0


def test_a_taken_port_is_unavailable() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(UnavailableError, match="another program has port"):
            listen(1, port=taken.getsockname()[1])


def test_nothing_heard_gives_no_rows_and_no_proposal() -> None:
    assert rows({}) == [] == propose({})
    assert math.isnan(learned("/a", (1.0,)).heard["/a"].rate_hz)
