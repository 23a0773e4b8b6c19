"""The fusion filter: right in any order, consistent, hard to fool, and the recorded sequences that pin it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from choreo_cli.errors import DataError
from choreo_cli.motion import capture_simulate as sim
from choreo_cli.motion.capture_state import DOFS, STATE, difference, joints_of, to_channels, track_of
from choreo_cli.motion.capture_stream import Capture, play
from choreo_cli.motion.choreo25 import encode
from choreo_cli.motion.fusion import Fusion
from choreo_cli.motion.fusion_model import NOISE, SIZE, Anchors, Process, expm
from choreo_cli.motion.fusion_pose import PoseReader
from choreo_cli.motion.fusion_readings import PointReading, PoseReading, WatchReading
from choreo_cli.motion.fusion_vectors import read_vectors, worst
from choreo_cli.motion.skeleton import canonical_skeleton

BODY = canonical_skeleton(1.70)
VECTORS = Path(__file__).resolve().parents[2] / "examples" / "fusion"


def readings(seed: int = 0, seconds: float = 3.0, sensors: tuple[sim.Sensor, ...] = sim.STUDIO):
    """(stream, reading) of simulated sensors, in the order of arrival."""
    t, joints = sim.danced(seed, seconds)
    reader = PoseReader(BODY)
    made = []
    for h in sim.simulate(t, joints, sensors, seed):
        if h.values.shape == (22, 3):
            made.append((h.stream, reader.read(h.t_us, h.values, 0.035)))
        elif h.stream == "head":
            made.append((h.stream, PointReading(h.t_us, h.values)))
        else:
            made.append((h.stream, WatchReading(h.t_us, h.values, h.attitude)))
    return made


def test_the_state_is_choreo25_and_back() -> None:
    _, joints = sim.danced(3, 4.0, fps=30.0)
    clip = encode(joints, 30.0)
    track = track_of(clip)
    channels, yaw0, x0, z0 = to_channels(track)
    assert len(STATE) == DOFS == 23
    np.testing.assert_allclose(channels, clip.channels, atol=2e-6)
    assert (yaw0, x0, z0) == pytest.approx((clip.header.yaw0, clip.header.x0, clip.header.z0), abs=1e-9)
    from choreo_cli.motion.choreo25 import decode

    np.testing.assert_allclose(joints_of(track.q, clip.header.skeleton), decode(clip), atol=1e-5)


def test_a_pose_is_read_as_the_encoder_reads_it() -> None:
    _, joints = sim.danced(1, 3.0, fps=20.0)
    wanted = track_of(encode(joints, 20.0, skeleton=BODY)).q
    got = np.stack([PoseReader(BODY).read(0, j, 0.01).z for j in joints])
    away = np.abs(difference(got, wanted))
    assert away[:, :3].max() < 0.012  # the filter's reading fits all joints, the encoder takes the pelvis at its word
    assert away[:, 3:].max() < 0.12


def test_the_covariance_of_a_pose_is_that_of_its_errors() -> None:
    _, joints = sim.danced(2, 5.0, fps=30.0)
    rng = np.random.default_rng(0)
    reader = PoseReader(BODY)
    nis = []
    for j in joints:
        clean, noisy = reader.read(0, j, 0.02), reader.read(0, j + rng.normal(0, 0.02, j.shape), 0.02)
        d = difference(noisy.z, clean.z)[:21]
        nis.append(d @ np.linalg.solve(noisy.r[:21, :21], d))
    assert np.mean(nis) == pytest.approx(21.0, rel=0.15)


@pytest.mark.parametrize("point", ["head", "l_wrist", "r_wrist"])
def test_places_of_head_and_wrists_and_their_derivatives(point: str) -> None:
    rng = np.random.default_rng(1)
    anchors = Anchors(BODY)
    index = {"head": 15, "l_wrist": 20, "r_wrist": 21}[point]
    for _ in range(5):
        q = rng.normal(0, 0.35, DOFS)
        q[1] = 0.9
        place, jacobian = anchors.jacobian(q, point)
        np.testing.assert_allclose(place, joints_of(q[None], BODY)[0, index], atol=1e-9)
        step = 1e-6 * np.eye(DOFS)
        numeric = [(anchors.position(q + s, point) - anchors.position(q - s, point)) / 2e-6 for s in step]
        np.testing.assert_allclose(jacobian, np.array(numeric).T, atol=1e-8)


def test_acceleration_is_the_second_derivative_of_the_place() -> None:
    rng = np.random.default_rng(2)
    anchors = Anchors(BODY)
    q, v, a = rng.normal(0, 0.3, (3, DOFS))
    got, _ = anchors.acceleration(np.concatenate([q, v, a]), "l_wrist")
    h = 1e-3
    path = [anchors.position(q + s * v + s * s * a / 2, "l_wrist") for s in (-h, 0.0, h)]
    np.testing.assert_allclose(got, (path[0] - 2 * path[1] + path[2]) / h**2, atol=1e-4)


def test_the_process_is_the_same_in_one_step_and_in_many() -> None:
    process = Process(NOISE)
    x, p = np.linspace(-1, 1, SIZE), np.eye(SIZE)
    one = process.predict(x, p, 50_000)
    for _ in range(5):
        x, p = process.predict(x, p, 10_000)
    np.testing.assert_allclose(one[0], x, atol=1e-12)
    np.testing.assert_allclose(one[1], p, atol=1e-10)
    np.testing.assert_allclose(expm(np.array([[0.0, 1.0], [-1.0, 0.0]])) @ [1, 0], [np.cos(1), -np.sin(1)], atol=1e-12)


def test_any_order_of_arrival_gives_the_same_belief() -> None:
    found = sorted(readings(seconds=1.2), key=lambda f: f[1].t_us)
    first = next(k for k, f in enumerate(found) if isinstance(f[1], PoseReading))
    found = found[first:]
    rng = np.random.default_rng(3)
    shuffled = [found[0]]
    rest = found[1:]
    for start in range(0, len(rest), 30):  # nothing is moved by more than the half second that is kept
        part = rest[start : start + 30]
        shuffled += [part[k] for k in rng.permutation(len(part))]
    beliefs = []
    for order in (found, shuffled):
        fusion = Fusion(BODY)
        for n, (stream, reading) in enumerate(order):
            fusion.put(stream, reading)
            if n % 7 == 0:
                fusion.at(reading.t_us)
        beliefs.append(fusion.at(found[-1][1].t_us))
    np.testing.assert_allclose(beliefs[0].x, beliefs[1].x, atol=1e-9)
    np.testing.assert_allclose(beliefs[0].p, beliefs[1].p, atol=1e-9)


def test_normalised_innovation_lies_in_its_band() -> None:
    """Truth drawn from the process itself, through half turns; 400 poses and 400 heads, seed 4."""
    rng = np.random.default_rng(4)
    noise = replace(NOISE, gate_3=1e9, gate_1=1e9)
    process, anchors = Process(noise), Anchors(BODY)
    f, q = process.steps(20_000)
    root = np.linalg.cholesky(q + 1e-18 * np.eye(3))
    x = np.zeros((3, DOFS))
    x[0, 1], x[2] = 0.9, noise.accel * rng.standard_normal(DOFS)
    x[1] = noise.start_speed * rng.standard_normal(DOFS)
    sigma = np.full(DOFS, 0.05)
    fusion = Fusion(BODY, noise)
    for k in range(401):
        z = x[0] + sigma * rng.standard_normal(DOFS)
        z[[3, 4, 5, 21, 22]] = (z[[3, 4, 5, 21, 22]] + np.pi) % (2 * np.pi) - np.pi
        fusion.put("pose", PoseReading(20_000 * k, z, np.diag(sigma**2)))
        place = anchors.position(x[0], "head")
        fusion.put("head", PointReading(20_000 * k, place + 0.02 * rng.standard_normal(3)))
        x = f @ x + root @ (noise.accel * rng.standard_normal((3, DOFS)))
    fusion.settle()
    facts = fusion.facts()
    for name, n in (("pose", 400 * DOFS), ("head", 3 * 401)):
        band = 1.96 * np.sqrt(2 / n)
        assert facts[name].numbers == pytest.approx(n, abs=3)
        assert abs(facts[name].mean_nis - 1) < band, (name, facts[name].mean_nis, band)


def test_covariance_stays_symmetric_and_positive() -> None:
    fusion = Fusion(BODY)
    for stream, reading in readings(seconds=2.5, sensors=sim.without(sim.STUDIO, 0.8, 1.8)):
        fusion.put(stream, reading)
        belief = fusion.at(reading.t_us)
        if belief is not None:
            np.testing.assert_array_equal(belief.p, belief.p.T)
            assert np.linalg.eigvalsh(belief.p)[0] > 0


@pytest.mark.parametrize(("seed", "clean", "share"), [(0, False, 0.7), (1, False, 0.7), (2, True, 0.7)])
def test_fused_error_is_a_third_under_the_best_single_stream(seed: int, clean: bool, share: float) -> None:
    """Against what each camera shows at that moment (its newest frame), over all 22 joints, 60 fps, 5 s."""
    t, joints = sim.danced(seed, 5.0)
    heard = sim.simulate(t, joints, sim.STUDIO, seed)
    capture = Capture(sim.head_of(sim.STUDIO, 1.7), BODY, 60.0, clean=clean)
    frames = [f for f in play(capture, heard, 60.0, for_us=4_700_000) if f.t_us > 500_000]
    at = np.array([f.t_us for f in frames])
    truth = np.stack([joints[round(a * 240 / 1e6)] for a in at])
    error = np.linalg.norm(joints_of(np.stack([f.q for f in frames]), BODY) - truth, axis=-1).mean()
    singles = []
    for name in ("phone", "side"):
        own = [h for h in heard if h.stream == name]
        newest = np.searchsorted([h.t_arrival_us for h in own], at + 25_000, side="right") - 1
        singles.append(np.linalg.norm(np.stack([own[k].values for k in newest]) - truth, axis=-1).mean())
    assert error < share * min(singles), (error, singles)


def test_a_wrong_wrist_is_refused_and_the_rest_of_the_pose_is_taken() -> None:
    sensors = (replace(sim.STUDIO[0], outliers=0.0, loss=0.0, delay_s=0.0, jitter_s=0.0),)
    found = readings(sensors=sensors, seconds=2.0)
    fusion, honest = Fusion(BODY), Fusion(BODY)
    for k, (stream, reading) in enumerate(found):
        honest.put(stream, reading)
        if k == 30:
            z = reading.z.copy()
            z[9:12] = -z[9:12] - 1.0
            reading = replace(reading, z=z)
        fusion.put(stream, reading)
        if k == 30:
            a, b = fusion.at(reading.t_us), honest.at(reading.t_us)
            assert np.abs(a.x[:3] - b.x[:3]).max() < 0.01 and np.abs(a.x[9:12] - b.x[9:12]).max() < 0.2
    fusion.settle()
    assert fusion.facts()["phone"].parts["l_wrist"] >= 1


def test_what_keeps_not_fitting_is_believed_after_a_quarter_second() -> None:
    fusion = Fusion(BODY)
    z = np.zeros(DOFS)
    z[1] = 0.9
    r = np.diag(np.full(DOFS, 0.02) ** 2)
    for k in range(90):
        moved = z.copy()
        moved[0] += 2.0 if k >= 45 else 0.0
        fusion.put("phone", PoseReading(33_333 * k, moved, r))
        if k == 47:
            assert abs(fusion.at(33_333 * k).x[0]) < 0.1
    assert fusion.at(33_333 * 89).x[0] == pytest.approx(2.0, abs=0.05)


def test_readings_that_no_sensor_gives_are_refused_and_counted() -> None:
    fusion = Fusion(BODY)
    pose = readings(seconds=0.2, sensors=sim.STUDIO[:1])[0][1]
    assert not fusion.put("head", PointReading(0, np.zeros(3)))  # nothing is known yet
    assert fusion.at(0) is None
    assert fusion.put("phone", pose)
    bad = (
        replace(pose, z=np.full(DOFS, np.nan)), replace(pose, z=np.zeros(3)), replace(pose, r=-np.eye(DOFS)),
        PointReading(0, np.array([0.0, np.nan, 0.0])), PointReading(0, np.zeros(3), sigma=0.0),
        PointReading(0, np.zeros(3), point="nose"), WatchReading(0, np.zeros(3), np.array([2.0, 0, 0, 0])),
        WatchReading(0, np.zeros(3), point="head"),
    )  # fmt: skip
    for reading in bad:
        with pytest.raises(DataError):
            fusion.put("x", reading)
    assert fusion.facts()["x"].bad == len(bad)
    assert not fusion.put("phone", replace(pose, t_us=pose.t_us - 10_000_000))
    assert fusion.facts()["phone"].late == 1


def test_missing_joints_leave_their_numbers_out() -> None:
    _, joints = sim.danced(0, 1.0, fps=30.0)
    reader = PoseReader(BODY)
    j = joints[10].copy()
    j[20] = np.nan
    z = reader.read(0, j, 0.02).z
    assert np.isnan(z[[9, 10, 11, 21]]).all() and np.isfinite(np.delete(z, [9, 10, 11, 21])).all()
    j = joints[10].copy()
    j[[1, 16]] = np.nan
    z = reader.read(0, j, 0.02).z
    assert np.isfinite(z[:3]).all() and np.isnan(z[3:]).all()


def test_five_recorded_sequences_are_reproduced() -> None:
    files = sorted(VECTORS.glob("*.json"))
    assert [f.stem for f in files] == ["dropout", "gate", "in_order", "out_of_order", "wrapped"]
    for file in files:
        sequence = read_vectors(file)
        assert sum("ask" in e for e in sequence["events"]) >= 10
        assert worst(sequence) < 1.0, file.name


def test_the_sequences_notice_a_filter_that_differs() -> None:
    sequence = read_vectors(VECTORS / "in_order.json")
    sequence["noise"]["accel_tau_s"] *= 1.001
    assert worst(sequence) > 100
    gate = read_vectors(VECTORS / "gate.json")
    assert gate["streams"]["phone"]["parts"]["l_wrist"] >= 3  # the wrong wrist is refused in it
    gate["noise"]["gate_3"] = 1e9
    assert worst(gate) > 100
