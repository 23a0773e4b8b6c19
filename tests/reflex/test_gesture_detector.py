"""The gesture detector in numpy: stream equals batch, causality, fixed latency, files and their twins."""

from __future__ import annotations

from pathlib import Path

import gesture_cases as cases
import numpy as np
import pytest

from choreo_cli.reflex.gesture import Gesture, Rules, channels, peaks
from choreo_cli.reflex.gesture_files import encode_gesture
from choreo_cli.reflex.inputs import Standard
from formats.errors import FormatError

PLAIN = Standard(np.zeros(11, np.float32), np.ones(11, np.float32))


def write(folder: Path, model: Gesture, arrays: dict[str, np.ndarray]) -> Path:
    folder.mkdir(exist_ok=True)
    for _, name, data in encode_gesture(model, arrays, {"tolerance_ms": 200}, {"run_id": "0" * 12}):
        (folder / name).write_bytes(data)
    return folder


def test_stream_says_what_the_batch_says() -> None:
    model, _ = cases.random_detector()
    x, mask, t = cases.random_frames(600)
    stepper = model.stepper()
    streamed = [e for k in range(len(x)) for e in stepper.step(x[k], mask[k], int(t[k]))]
    batch = model.events(x, mask, t)
    assert len(batch) > 20
    assert [(e.label, e.t_us) for e in streamed] == sorted(((e.label, e.t_us) for e in batch), key=lambda e: e[::-1])
    assert np.allclose([e.score for e in streamed], [e.score for e in sorted(batch, key=lambda e: (e.t_us, e.label))])


def test_an_event_comes_out_exactly_its_latency_after_the_onset() -> None:
    model, _ = cases.random_detector()
    x, mask, t = cases.random_frames(400)
    stepper = model.stepper()
    late = {int(t[k]) - e.t_us for k in range(len(x)) for e in stepper.step(x[k], mask[k], int(t[k]))}
    assert late == {model.rules.latency * 20_000}


def test_scores_look_back_only_and_no_further_than_they_say() -> None:
    model, _ = cases.random_detector()
    x, mask, _ = cases.random_frames(200)
    other = x.copy()
    other[120] += 5
    changed = np.flatnonzero((model.scores(x, mask) != model.scores(other, mask)).any(axis=1))
    assert changed.min() >= 120 and changed.max() <= 120 + model.shape.reach


def test_a_gap_in_the_clock_starts_over() -> None:
    model, _ = cases.random_detector()
    x, mask, t = cases.random_frames(300)
    jumped = np.where(np.arange(300) < 150, t, t + 500_000)
    stepper = model.stepper()
    got = [e for k in range(300) for e in stepper.step(x[k], mask[k], int(jumped[k]))]
    apart = model.events(x[:150], mask[:150], jumped[:150]) + model.events(x[150:], mask[150:], jumped[150:])
    assert sorted(e[:2] for e in got) == sorted(e[:2] for e in apart) and apart


def test_without_times_the_clock_counts_frames() -> None:
    model, _ = cases.random_detector()
    x, mask, _ = cases.random_frames(200)
    stepper = model.stepper()
    got = [e for k in range(200) for e in stepper.step(x[k], mask[k])]
    assert {e.t_us for e in got} == {e.t_us for e in model.events(x, mask, 20_000 * np.arange(200))}


def test_nothing_measured_gives_finite_scores() -> None:
    model, _ = cases.random_detector()
    scores = model.scores(np.full((50, 11), np.nan), np.zeros((50, 4), bool))
    assert np.isfinite(scores).all() and np.allclose(scores, scores[0])


def test_a_broken_sensor_is_clipped() -> None:
    z = channels(np.full((1, 11), 1e30), np.ones((1, 4)), PLAIN)
    assert np.abs(z[0, :10]).max() == 6.0 and np.isfinite(z).all()


def test_beat_phase_is_continuous_on_the_beat() -> None:
    x = np.zeros((2, 11), np.float32)
    x[:, 10] = 0.999, 0.001
    z = channels(x, np.ones((2, 4)), PLAIN)
    assert abs(z[1, 10] - z[0, 10]) == pytest.approx(0.002, abs=1e-5)


def test_peaks_respect_hold_refractory_threshold_and_the_edges() -> None:
    rules = Rules(delay=2, hold=1, refractory=4, threshold=0.5)
    row = np.array([0.9, 0.1, 0.6, 0.2, 0.8, 0.1, 0.1, 0.7, 0.7, 0.2, 0.4, 0.3, 0.9], np.float32)[:, None]
    # 0 lies before the delay, 4 in the refractory time of 2, of the plateau 7-8 the first counts, 10 is too low,
    # and 12 is not decided yet.
    assert [t for t, _, _ in peaks(row, rules)] == [2, 7]


def test_checkpoint_round_trip_and_onnx_parity(tmp_path: Path) -> None:
    ort = pytest.importorskip("onnxruntime")
    model, arrays = cases.random_detector()
    folder = write(tmp_path / "run", model, arrays)
    again = Gesture.read(folder)
    x, mask, t = cases.random_frames(300)
    assert again.rules == model.rules and again.shape == model.shape and again.sha256
    assert np.array_equal(again.scores(x, mask), model.scores(x, mask))
    assert again.events(x, mask, t) == model.events(x, mask, t)
    session = ort.InferenceSession((folder / "model.onnx").read_bytes(), providers=["CPUExecutionProvider"])
    got = session.run(None, {"x": x, "mask": mask.astype(np.float32)})[0]
    assert np.abs(got - model.scores(x, mask)).max() <= 1e-5
    with np.load(folder / "model.npz") as held:
        assert {k: held[k].shape for k in held.files} == model.shape.shapes()


def test_equal_models_have_equal_files() -> None:
    pytest.importorskip("onnx")
    model, arrays = cases.random_detector()
    assert encode_gesture(model, arrays, {}, {}) == encode_gesture(*cases.random_detector(), {}, {})


def test_a_checkpoint_of_another_architecture_is_refused_by_name(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    from formats import sealed

    model, arrays = cases.random_detector()
    folder = write(tmp_path / "run", model, arrays)
    card = sealed.parse((folder / "model.json").read_bytes())
    card["arch"]["width"] = 8
    (folder / "model.json").write_bytes(sealed.dumps(card))
    with pytest.raises(FormatError, match="another architecture"):
        Gesture.read(folder)
    card["recipe"] = "rps"
    (folder / "model.json").write_bytes(sealed.dumps(card))
    with pytest.raises(FormatError, match="the model is rps, need gesture"):
        Gesture.read(folder)
    del card["facts"]["delay"]
    card["recipe"] = "gesture"
    (folder / "model.json").write_bytes(sealed.dumps(card))
    with pytest.raises(FormatError, match="does not describe a gesture detector"):
        Gesture.read(folder)
