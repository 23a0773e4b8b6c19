"""M4 in its three forms: network, numpy over a stretch, numpy tick by tick, and the ONNX twin."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from choreo_cli.errors import DataError
from choreo_cli.reflex.bars import TICKS, Ticker, ticks_of
from choreo_cli.reflex.lookahead import HORIZONS, Lookahead, Shape, inputs_of
from formats import checkpoint
from formats.errors import FormatError

SMALL = Shape(dim=5, channels=6, layers=6)


def random_model(seed: int = 0, shape: Shape = SMALL) -> Lookahead:
    rng = np.random.default_rng(seed)
    arrays = {k: rng.normal(0, 0.3, s).astype(np.float32) for k, s in shape.weights().items()}
    arrays |= {"activity.weight": rng.normal(0, 1, shape.dim), "activity.bias": np.array([0.4])}
    return Lookahead(shape, {k: np.asarray(v, np.float32) for k, v in arrays.items()})


def dance(n: int, seed: int = 0, dim: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """(n, dim) latents and (n,) phases at a tempo that wanders."""
    rng = np.random.default_rng(seed)
    position = 0.3 + np.cumsum(0.04 + 0.01 * np.sin(np.arange(n) / 200))
    return rng.normal(size=(n, dim)).astype(np.float32), position % 1


@given(st.integers(0, 2**32 - 1), st.integers(2, 400), st.sampled_from([0.0, 0.02, 0.2]))
def test_ticks_frame_by_frame_are_those_of_the_whole(seed: int, n: int, holes: float) -> None:
    rng = np.random.default_rng(seed)
    phase = np.cumsum(rng.uniform(0.005, 0.24) * rng.uniform(0.9, 1.0, n)) % 1
    phase[rng.random(n) < holes] = np.nan
    whole = [(r, i, v) for t in ticks_of(phase, 20_000) for r, i, v in zip(t.row, t.index, t.rate, strict=True)]
    ticker, found = Ticker(20_000), []
    for row, p in enumerate(phase.tolist()):
        done, rate, _ = ticker.step(p)
        found += [(row - previous, index, rate) for index, previous in done]
    assert [w[:2] for w in whole] == [f[:2] for f in found]
    assert np.allclose([w[2] for w in whole], [f[2] for f in found], rtol=1e-6)


@pytest.mark.parametrize("bpm", [60, 92, 120, 140, 180])
def test_ticks_lie_where_the_beat_says_at_every_tempo(bpm: float) -> None:
    advance = bpm / 60 * 0.02
    position = 0.01 + advance * np.arange(2000)
    (ticks,) = ticks_of(position % 1, 20_000)
    off = position[ticks.row] - (ticks.index + 0.5) / TICKS
    assert np.abs(off).max() <= advance / 2 + 1e-9
    assert (np.diff(ticks.index) == 1).all()
    assert np.allclose(ticks.rate, bpm / 60, rtol=1e-5)


def test_every_horizon_looks_back_to_the_same_place_of_the_beat() -> None:
    shape = Shape()
    for horizon, lags in zip(HORIZONS, shape.lags().tolist(), strict=True):
        assert all(lag >= 0 and (lag + horizon) % TICKS == 0 for lag in lags)
        assert lags[0] < TICKS and lags == sorted(lags)
    assert 100_000 < sum(int(np.prod(s)) for s in shape.weights().values()) < 200_000


def test_streaming_is_the_stretch_tick_by_tick_and_starts_afresh_after_a_jump() -> None:
    model = random_model()
    z, phase = dance(900)
    phase[450:] = (phase[450:] + 0.4) % 1
    z[700] = np.nan
    stepper = model.stepper()
    said = [stepper.step(z[k], float(phase[k])) for k in range(len(z))]
    parts = [(0, 450), (450, 700), (701, 900)]
    for a, b in parts:
        (ticks,) = ticks_of(phase[a:b], 20_000, a)
        want = model.predict(z[ticks.row], ticks.index, ticks.rate)
        live = [s for s in said[a:b] if s is not None]
        assert (len(want) > 0) == bool(live)
        if len(want):
            assert np.abs(live[-1] - want[-1]).max() < 1e-5
            assert np.abs(live[0] - want[0]).max() < 1e-5
    assert said[449] is not None and said[450] is None and said[700] is None


def test_a_prediction_depends_on_the_past_alone() -> None:
    model = random_model()
    z, phase = dance(500)
    (ticks,) = ticks_of(phase, 20_000)
    seen = z[ticks.row]
    before = model.predict(seen, ticks.index, ticks.rate)
    changed = seen.copy()
    changed[200:] += 10
    after = model.predict(changed, ticks.index, ticks.rate)
    same = 200 - (SMALL.field - 1)
    assert np.array_equal(before[:same], after[:same]) and not np.allclose(before[same], after[same])
    # It looks back exactly `field` ticks: what came before does not matter, the first of them does.
    at = 150
    moved = seen.copy()
    moved[: at - SMALL.field + 1] += 10
    kept = model.predict(moved, ticks.index, ticks.rate)[at - SMALL.field + 1]
    assert np.array_equal(kept, before[at - SMALL.field + 1])


def test_the_memory_of_a_stepper_does_not_grow() -> None:
    stepper = random_model().stepper()
    z, phase = dance(1500)

    def size() -> int:
        return sum(r.nbytes for r in stepper._rings) + stepper._past.nbytes

    before = size()
    for k in range(len(z)):
        stepper.step(z[k], float(phase[k]))
    assert size() == before and set(vars(stepper)) == set(vars(random_model().stepper()))


def test_the_network_and_onnxruntime_say_the_same() -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxruntime")
    from choreo_cli.reflex.lookahead_files import encode_lookahead, prove
    from choreo_cli.reflex.lookahead_torch import BarAhead

    model = random_model()
    net = BarAhead(SMALL.dim, SMALL.channels, SMALL.layers, SMALL.horizons)
    net.load_state_dict({k: torch.from_numpy(v) for k, v in model.arrays.items() if k in SMALL.weights()})
    z, phase = dance(700)
    ticks = ticks_of(phase, 20_000)[0].slice(0, SMALL.field)
    z = z[ticks.row]
    with torch.no_grad():
        said = net(torch.from_numpy(inputs_of(z, ticks.index, ticks.rate))[None])[0, 0].numpy()
    made = {name: data for _, name, data in encode_lookahead(SMALL, model.arrays, {}, {})}
    assert prove(model, made["model.onnx"], z, ticks.index, ticks.rate, said) <= 1e-5
    again = {name: data for _, name, data in encode_lookahead(SMALL, model.arrays, {}, {})}
    assert made == again and list(made)[-1] == checkpoint.CARD
    other = {n: d for _, n, d in encode_lookahead(SMALL, {**model.arrays, "last": model.arrays["last"] + 1}, {}, {})}
    with pytest.raises(DataError, match="ONNX and torch, output 'ahead': they differ"):
        prove(model, other["model.onnx"], z, ticks.index, ticks.rate, said)
    with pytest.raises(DataError, match="the look-ahead in numpy and torch: they differ by 1"):
        prove(model, made["model.onnx"], z, ticks.index, ticks.rate, said + 1)


def test_a_fresh_network_repeats_the_mean_of_the_last_beats() -> None:
    torch = pytest.importorskip("torch")
    from choreo_cli.reflex.lookahead_torch import BarAhead

    net = BarAhead(3, 4, 6, HORIZONS)
    place = torch.arange(160) % TICKS
    x = torch.zeros(1, 160, 6)
    x[0, :, :3] = place[:, None].float()
    with torch.no_grad():
        out = net(x)[0]
    now = torch.arange(out.shape[0]) + 126
    for k, h in enumerate(HORIZONS):
        assert torch.allclose(out[:, k, 0], ((now + h) % TICKS).float(), atol=1e-5)


def written(folder: Path, model: Lookahead, **arch: object) -> Path:
    stated = {"dim": 5, "channels": 6, "layers": 6, "horizons": list(HORIZONS), **arch}
    for name, data in checkpoint.encode(checkpoint.Checkpoint("lookahead", stated, model.arrays)).items():
        (folder / name).write_bytes(data)
    return folder


def test_a_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    model = random_model()
    found = Lookahead.read(written(tmp_path, model))
    assert found.shape == SMALL and len(found.sha256) == 64
    assert all(np.array_equal(found.arrays[k], v) for k, v in model.arrays.items())


@pytest.mark.parametrize(
    ("arch", "message"),
    [
        ({"channels": 7}, "weights of another architecture"),
        ({"horizons": [4, 2]}, "an arch that makes no sense"),
        ({"layers": 2}, "an arch that makes no sense"),
        ({"layers": 10**9}, "an arch that makes no sense"),
        ({"dim": "many"}, "not the arch of a look-ahead"),
    ],
)
def test_a_checkpoint_of_another_architecture_is_refused_by_name(
    tmp_path: Path, arch: dict[str, object], message: str
) -> None:
    with pytest.raises(FormatError, match=message):
        Lookahead.read(written(tmp_path, random_model(), **arch))


def test_a_truncated_checkpoint_is_refused(tmp_path: Path) -> None:
    folder = written(tmp_path, random_model())
    weights = folder / checkpoint.WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-9])
    with pytest.raises(FormatError, match="damaged or changed"):
        Lookahead.read(folder)
