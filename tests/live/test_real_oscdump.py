"""What liblo's oscdump, a foreign decoder, reads of every OSC style: addresses, type tags and values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from choreo_cli.live.guards import Guards
from choreo_cli.live.osc_port import STYLES, OscPort
from choreo_cli.live.port import Cue, Outgoing
from formats.control_map import DEFAULT
from formats.packets import CONTROLS
from tests.live.receiver_bench import free_port, need, process, udp_is_bound, wait_for

pytestmark = pytest.mark.live
N = 50
Line = tuple[str, str, str, list[str]]


def outgoing() -> list[Outgoing]:
    """Values that move all the time, so that order shows."""
    guards, rng = Guards(DEFAULT), np.random.default_rng(0)
    return [guards.release(rng.random(5).astype(np.float32), 0.02, seq, seq * 20_000) for seq in range(N)]


def dumped(folder: Path, style: str, lines: int, outs: list[Outgoing], cues: list[Cue]) -> list[Line]:
    """(time tag, address, type tags, values) of every message that oscdump printed."""
    need("oscdump")
    number, log = free_port(), folder / "dump.txt"
    with process(["oscdump", "-L", str(number)], log):
        wait_for("oscdump", lambda: udp_is_bound(number), 5, log)
        port = OscPort("127.0.0.1", number, style)
        port.open()
        for out in outs:
            port.send(out)
        for cue in cues:
            port.cue(cue)
        wait_for("all messages", lambda: log.read_text().count("\n") >= lines, 10, log)
        port.close()
    found = []
    for line in log.read_text().splitlines():
        stamp, address, *rest = line.split()
        found.append((stamp, address, rest[0] if rest else "", rest[1:]))
    return found


def floats(values: list[str]) -> list[float]:
    return [float(v) for v in values]


@pytest.mark.parametrize("style", ["choreo", "sonicpi"])
def test_a_float_for_each_control(tmp_path: Path, style: str) -> None:
    outs = outgoing()
    lines = dumped(tmp_path, style, 5 * N, outs, [])
    assert [(a, t) for _, a, t, _ in lines] == [(f"/choreo/{name}", "f") for _ in outs for name in CONTROLS]
    got = np.array([float(v) for _, _, _, (v,) in lines]).reshape(N, 5)
    assert got == pytest.approx(np.array([out.values for out in outs]), abs=2e-6)
    assert np.ptp(got, axis=0).min() > 0.01
    stamps = np.array([stamp for stamp, *_ in lines]).reshape(N, 5)
    if style == "choreo":
        assert all(len(set(row)) == 1 for row in stamps), "the messages of a bundle share its time"


def test_a_number_and_five_floats(tmp_path: Path) -> None:
    outs = outgoing()
    lines = dumped(tmp_path, "vector", N, outs, [])
    assert {(a, t) for _, a, t, _ in lines} == {("/choreo/frame", "ifffff")}
    assert [int(v[0]) for *_, v in lines] == list(range(N))
    assert np.array([floats(v[1:]) for *_, v in lines]) == pytest.approx(np.array([o.values for o in outs]), abs=2e-6)


def test_five_floats_for_wekinator(tmp_path: Path) -> None:
    outs = outgoing()
    lines = dumped(tmp_path, "wek", N, outs, [])
    assert {(a, t) for _, a, t, _ in lines} == {("/wek/outputs", "fffff")}
    assert np.array([floats(v) for *_, v in lines]) == pytest.approx(np.array([o.values for o in outs]), abs=2e-6)


def test_a_name_and_a_float_for_tidal(tmp_path: Path) -> None:
    outs = outgoing()
    lines = dumped(tmp_path, "tidal", 5 * N, outs, [])
    assert {(a, t) for _, a, t, _ in lines} == {("/ctrl", "sf")}
    assert [v[0].strip('"') for *_, v in lines] == [name for _ in outs for name in CONTROLS]
    got = np.array([float(v[1]) for *_, v in lines]).reshape(N, 5)
    assert got == pytest.approx(np.array([out.values for out in outs]), abs=2e-6)


@pytest.mark.parametrize("style", STYLES)
def test_gestures_and_plans(tmp_path: Path, style: str) -> None:
    cues = [Cue("gesture", "jump", 0, 0.75), Cue("plan", "build", 0, -0.5, 16)]
    lines = dumped(tmp_path, style, 2, [], cues)
    said = [(a, t, [v.strip('"') for v in values]) for _, a, t, values in lines]
    if style == "tidal":
        assert [(a, t, v[0], float(v[1])) for a, t, v in said] == [
            ("/ctrl", "sf", "gesture_jump", 0.75),
            ("/ctrl", "sf", "plan_build", -0.5),
        ]
    else:
        assert said[0][:2] == ("/choreo/gesture/jump", "f") and floats(said[0][2]) == [0.75]
        assert said[1][:2] == ("/choreo/plan/build", "fi") and floats(said[1][2]) == [-0.5, 16]
