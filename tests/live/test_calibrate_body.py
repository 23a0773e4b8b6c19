"""Half a minute of a body becomes its scale, or a refusal that says what was missing."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
import pytest

from choreo_cli.errors import NoAnswerError, NoInputError
from choreo_cli.live.calibrate_body import calibrate, read_scale, run
from choreo_cli.live.clock import VirtualClock
from choreo_cli.live.osc import encode
from choreo_cli.live.osc_source import OscSource
from choreo_cli.live.replay import Replay
from choreo_cli.live.sample import Body, Sample
from choreo_cli.motion.accelerometer import UNITS
from choreo_cli.motion.features import Scale, extract_pose
from choreo_cli.motion.resample import Grid
from formats.errors import FormatError

JOINTS = ("pelvis", "l_hip", "r_hip", "neck", "head", "l_knee", "l_ankle", "l_wrist", "r_wrist")
REST = np.array(
    [[0, 1, 0], [0.1, 0.95, 0], [-0.1, 0.95, 0], [0, 1.45, 0], [0, 1.65, 0], [0.1, 0.5, 0], [0.1, 0.08, 0],
     [0.5, 1.2, 0], [-0.5, 1.2, 0]]
)  # fmt: skip
BODY = Body(JOINTS)


def moves(
    seconds: float = 30.0, fps: float = 30.0, reach: tuple[float, float, float] = (0.0, 0.05, 0.4)
) -> tuple[np.ndarray, np.ndarray]:
    t = np.round(np.arange(int(seconds * fps)) * 1e6 / fps).astype(np.int64)
    size = np.array(reach)[np.minimum((t / 1e6 / seconds * 3).astype(int), 2)]
    x = REST[None] + (size * np.sin(2 * np.pi * 1.5 * t / 1e6))[:, None, None] * np.linspace(0.2, 1, 9)[None, :, None]
    return t, (x + np.random.default_rng(0).normal(0, 0.001, x.shape)).astype(np.float32)


def samples(t: np.ndarray, x: np.ndarray, kind: str = "pose") -> list[Sample]:
    return [Sample(kind, int(at), int(at) * 1000, row) for at, row in zip(t, x, strict=True)]


def test_the_scale_is_the_one_that_pair_takes_from_the_same_recording() -> None:
    t, x = moves()
    found = calibrate(samples(t, x), BODY, seconds=30.0)
    offline = extract_pose(t, x, JOINTS, Grid.covering(int(t[0]), int(t[-1]))).scale
    assert found.scale == offline
    assert found.scale.height == pytest.approx(1.76, abs=0.1) and found.scale.units == "m"
    assert found.fps == pytest.approx(30, rel=0.01) and found.big > 10 * found.still
    again = extract_pose(t, x, JOINTS, Grid.covering(int(t[0]), int(t[-1])), scale=found.scale)
    assert again.saturated["motion_energy"] == pytest.approx(0.05 * len(again.values), rel=0.1)


def test_what_is_written_is_read_back_and_feeds_from_dict(tmp_path: Path) -> None:
    found = calibrate(samples(*moves()), BODY)
    path = tmp_path / "scale.json"
    path.write_bytes(found.to_json())
    assert read_scale(path) == found.scale == Scale.from_dict(json.loads(path.read_text()))


@pytest.mark.parametrize(
    "content", ["[1]", "{", '{"energy_p95": 1}', '{"energy_p95": "x", "jerk_p99": 1, "height": 1, "units": "m"}']
)
def test_a_file_that_is_no_scale_is_refused_by_name(tmp_path: Path, content: str) -> None:
    path = tmp_path / "scale.json"
    path.write_text(content)
    with pytest.raises(FormatError, match=r"scale\.json"):
        read_scale(path)
    with pytest.raises(NoInputError, match="choreo calibrate body writes one"):
        read_scale(tmp_path / "none.json")


def swings(seconds: float = 30.0, rate: float = 50.0) -> tuple[np.ndarray, np.ndarray]:
    t = np.round(np.arange(int(seconds * rate)) * 1e6 / rate).astype(np.int64)
    size = np.array([0.0, 2.0, 15.0])[np.minimum((t / 1e6 / seconds * 3).astype(int), 2)]
    accel = np.stack([size * np.sin(2 * np.pi * 1.5 * t / 1e6), np.zeros(len(t)), np.full(len(t), 9.81)], axis=1)
    return t, (accel + np.random.default_rng(1).normal(0, 0.02, accel.shape)).astype(np.float32)


def test_an_accelerometer_has_a_scale_of_its_own_without_a_height(tmp_path: Path) -> None:
    found = calibrate(samples(*swings(), "accel"))
    assert found.scale.units == UNITS and np.isnan(found.scale.height)
    assert found.scale.energy_p95 == pytest.approx(15 / (2 * np.pi * 1.5), rel=0.15)
    (tmp_path / "s.json").write_bytes(found.to_json())
    assert json.loads((tmp_path / "s.json").read_text())["height"] is None
    assert np.isnan(read_scale(tmp_path / "s.json").height)


def test_a_body_that_did_not_move_is_refused() -> None:
    for reach in ((0.0, 0.0, 0.0), (0.3, 0.3, 0.3)):  # still all along, or never still
        with pytest.raises(NoAnswerError, match=r"the body did not move: big is .* times still, need 3: stand still"):
            calibrate(samples(*moves(reach=reach)), BODY, seconds=30.0)
    frozen = np.repeat(REST[None].astype(np.float32), 900, axis=0)
    with pytest.raises(NoAnswerError, match="did not move"):
        calibrate(samples(moves()[0], frozen), BODY)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t, x: (t[:0], x[:0]), "no pose and no acceleration arrived: is the sensor on?"),
        (lambda t, x: (t[:300], x[:300]), "only 10.0 s arrived, need 18.0 s"),
        (lambda t, x: (t[::5], x[::5]), "6.0 samples a second are too few for motion: need 8 or more"),
        (lambda t, x: (t, np.where((t > 10_000_000)[:, None, None], np.nan, x)), "the body was seen for 10.0 s only, need 18.0 s"),
    ],
    ids=["nothing", "short", "slow", "unseen"],
)  # fmt: skip
def test_too_little_is_refused(change: object, message: str) -> None:
    with pytest.raises(NoAnswerError) as caught:
        calibrate(samples(*change(*moves())), BODY, seconds=30.0)  # type: ignore[operator]
    assert message in str(caught.value)


@pytest.mark.parametrize("seconds", [3.0, 9.0, 10.0])
def test_a_short_length_need_not_be_filled_to_its_last_sample(seconds: float) -> None:
    t, x = swings(seconds)
    late = calibrate(samples(t, x, "accel")[5:], seconds=seconds)  # a sensor is heard a tenth of a second later
    assert late.seconds < seconds and late.scale.units == UNITS
    with pytest.raises(NoAnswerError, match=r"only \d\.\d s arrived, need \d\.\d s"):
        calibrate(samples(*swings(0.8 * seconds), "accel"), seconds=seconds)


def test_samples_out_of_order_are_left_out() -> None:
    t, x = moves()
    clean = samples(t, x)
    noisy = [s for k, good in enumerate(clean) for s in ([good, clean[k - 3]] if k % 50 == 3 else [good])]
    assert calibrate(noisy, BODY).scale == calibrate(clean, BODY).scale


def test_the_driver_says_what_to_do_listens_and_closes() -> None:
    t, x = moves(40.0)
    source = Replay("x", "pose", t, x, body=BODY)
    closed: list[bool] = []
    source.close = lambda: closed.append(True)  # type: ignore[method-assign]
    said: list[str] = []
    clock = VirtualClock()
    found = run(source, clock, 40.0, said.append)
    assert [line.split(":")[0] for line in said] == ["13 s still", "13 s small", "13 s big"]
    assert closed == [True] and found.seconds == pytest.approx(40.0, abs=0.1)
    assert found.scale == calibrate(samples(t, x), BODY).scale
    assert 39.9e9 <= clock.now_ns() <= 40.1e9


def test_the_driver_ends_early_when_it_is_told() -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(NoAnswerError, match="nothing to calibrate"):
        run(Replay("x", "pose", *moves(), body=BODY), VirtualClock(), stop=stop)


def test_the_driver_says_where_it_listens_and_what_came_in_vain() -> None:
    source = OscSource(port=0)
    said: list[str] = []
    poll, packets = source.poll, [encode("/gyrosc/accel", [0.0, 0.0, 1.0])] * 3

    def polled(now_ns: int) -> list[Sample]:
        while packets:
            source.handle(packets.pop(), now_ns)
        return poll(now_ns)

    source.poll = polled  # type: ignore[method-assign]
    with pytest.raises(
        NoAnswerError, match=r"nothing to calibrate.*3 packets came.*/gyrosc/accel: --source osc:0:gyrosc"
    ):
        run(source, VirtualClock(), 3.0, said.append)
    assert said[0].startswith("osc:0: listening on 127.0.0.1:") and said[2] == "1 s still: stand still"
