"""M3 without torch: window and stream against a GRU written a second way, the live forms, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from choreo_cli.errors import DataError
from choreo_cli.reflex.mapper import Mapper, shapes
from formats import checkpoint
from formats.atomic import write_bytes
from formats.errors import FormatError


def weights(seed: int = 0, x_dim: int = 104, hidden: int = 96, out_dim: int = 5) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {k: (0.3 * rng.standard_normal(s)).astype(np.float32) for k, s in shapes(x_dim, hidden, out_dim).items()}


def latents(n: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, 104)).astype(np.float32)


def plain_gru(w: dict[str, np.ndarray], z: np.ndarray) -> np.ndarray:
    """(N, 5) controls along one sequence from a zero state, in float64, gate by gate."""
    a = {k: v.astype(np.float64) for k, v in w.items()}
    wr, wz, wn = np.split(a["gru.weight_ih_l0"], 3)
    ur, uz, un = np.split(a["gru.weight_hh_l0"], 3)
    br, bz, bn = np.split(a["gru.bias_ih_l0"], 3)
    cr, cz, cn = np.split(a["gru.bias_hh_l0"], 3)
    h, out = np.zeros(len(ur)), []
    for x in z.astype(np.float64):
        r = 1 / (1 + np.exp(-(wr @ x + br + ur @ h + cr)))
        u = 1 / (1 + np.exp(-(wz @ x + bz + uz @ h + cz)))
        n = np.tanh(wn @ x + bn + r * (un @ h + cn))
        h = (1 - u) * n + u * h
        out.append(1 / (1 + np.exp(-(a["head.weight"] @ h + a["head.bias"]))))
    return np.array(out)


def test_stream_is_a_gru() -> None:
    w, z = weights(), latents(120)
    np.testing.assert_allclose(Mapper(w, "stream", 32).controls(z), plain_gru(w, z), atol=1e-5)


def test_window_is_a_gru_from_zero_over_the_last_frames() -> None:
    w, z = weights(), latents(90)
    want = [plain_gru(w, z[max(0, k - 31) : k + 1])[-1] for k in range(90)]
    np.testing.assert_allclose(Mapper(w, "window", 32).controls(z), want, atol=1e-5)


@pytest.mark.parametrize("mode", ["window", "stream"])
@pytest.mark.parametrize("window", [20, 50])
def test_frame_by_frame_equals_the_whole(mode: str, window: int) -> None:
    mapper, z = Mapper(weights(), mode, window), latents(170)
    live = mapper.stepper()
    np.testing.assert_allclose([live.step(row) for row in z], mapper.controls(z), atol=1e-6)
    live.reset()
    np.testing.assert_allclose([live.step(row) for row in z[100:]], mapper.controls(z[100:]), atol=1e-6)


def test_blocks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    mapper, z = Mapper(weights(), "window", 32), latents(400)
    whole = mapper.controls(z)
    monkeypatch.setattr("choreo_cli.reflex.mapper.BLOCK", 50)
    np.testing.assert_allclose(mapper.controls(z), whole, atol=1e-6)


def test_a_window_forgets_and_a_stream_does_not() -> None:
    w, z = weights(), latents(100)
    other = z.copy()
    other[:40] = 0.0
    a, b = (Mapper(w, "window", 32).controls(v)[80:] for v in (z, other))
    np.testing.assert_array_equal(a, b)
    assert np.abs(Mapper(w, "stream", 32).controls(z)[41] - Mapper(w, "stream", 32).controls(other)[41]).max() > 0


@pytest.mark.parametrize("mode", ["window", "stream"])
def test_a_frame_that_is_not_finite_leaves_no_trace(mode: str) -> None:
    mapper, z = Mapper(weights(), mode, 32), latents(60)
    live = mapper.stepper()
    made = []
    for k, row in enumerate(z):
        if k in (3, 40):
            assert np.isnan(live.step(np.full(104, np.nan))).all()
        made.append(live.step(row))
    np.testing.assert_allclose(made, mapper.controls(z), atol=1e-6)


def test_wrong_latents_are_refused() -> None:
    mapper = Mapper(weights(), "window", 32)
    with pytest.raises(DataError, match=r"latents of shape \(5, 103\)"):
        mapper.controls(np.zeros((5, 103)))
    z = latents(9)
    z[4, 7] = np.nan
    with pytest.raises(DataError, match="first at frame 4"):
        mapper.controls(z)
    assert mapper.controls(np.zeros((0, 104))).shape == (0, 5)
    assert mapper.controls(np.zeros((1, 104))).shape == (1, 5)


def written(folder: Path, recipe: str = "mapper", **changes: object) -> Path:
    facts = {"mode": "window", "window": 32, "normalizer": True, "rps_sha256": "ab"}
    arch = {"x_dim": 104, "hidden": 96, "out_dim": 5}
    arrays = changes.pop("arrays", None) or weights()
    facts.update({k: v for k, v in changes.items() if k in facts})
    arch.update({k: v for k, v in changes.items() if k in arch})
    for name, data in checkpoint.encode(checkpoint.Checkpoint(recipe, arch, arrays, facts)).items():  # type: ignore[arg-type]
        folder.mkdir(exist_ok=True)
        write_bytes(folder / name, data)
    return folder


def test_round_trip(tmp_path: Path) -> None:
    mapper = Mapper.read(written(tmp_path / "m", mode="stream"))
    assert (mapper.mode, mapper.window, mapper.normalized, mapper.rps_sha256) == ("stream", 32, True, "ab")
    assert len(mapper.sha256) == 64
    z = latents(40)
    np.testing.assert_array_equal(mapper.controls(z), Mapper(weights(), "stream", 32).controls(z))


def test_checkpoints_that_are_refused(tmp_path: Path) -> None:
    cases = {
        "no checkpoint here": tmp_path / "none",
        "the model is rps, need mapper": written(tmp_path / "a", recipe="rps"),
        "its mode is 'both'": written(tmp_path / "b", mode="both"),
        "facts.window": written(tmp_path / "c", window=0),
        "weights of another architecture": written(tmp_path / "d", hidden=64),
        "maps 103 inputs to 5 controls": written(tmp_path / "e", x_dim=103, arrays=weights(x_dim=103)),
    }
    for want, folder in cases.items():
        with pytest.raises(FormatError) as e:
            Mapper.read(folder)
        assert want in str(e.value) and "\n" not in str(e.value), (want, str(e.value))


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    folder = written(tmp_path / "m")
    file = folder / "model.safetensors"
    whole = file.read_bytes()
    for bad in (whole[:-100], whole[:50], b"", whole[:-1] + bytes([whole[-1] ^ 1])):
        file.write_bytes(bad)
        with pytest.raises(FormatError, match="damaged or changed"):
            Mapper.read(folder)
    file.write_bytes(whole)
    card = json.loads((folder / "model.json").read_text())
    assert card["files"]["model.safetensors"] == Mapper.read(folder).sha256


def test_it_loads_no_torch() -> None:
    code = "import sys; import choreo_cli.reflex.mapper, choreo_cli.reflex.timelines; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("mode", ["window", "stream"])
def test_a_step_takes_less_than_two_milliseconds(mode: str) -> None:
    live, z = Mapper(weights(), mode, 50).stepper(), latents(300)
    spent = []
    for row in z:
        began = time.thread_time()
        live.step(row)
        spent.append(time.thread_time() - began)
    assert np.median(spent) < 2e-3
