"""The models as the loop runs them: equal to the plain forms, without torch, without growth."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from choreo_cli.errors import DataError, UnavailableError, UsageError
from choreo_cli.live import fused, model
from choreo_cli.live.model import LiveModel, probe
from choreo_cli.reflex.mapper import Mapper, model_latents
from choreo_cli.reflex.rps import Rps
from formats.errors import FormatError

TOP = Path(__file__).resolve().parents[2]
RPS, MAPPER = TOP / "examples" / "checkpoints" / "rps", TOP / "examples" / "checkpoints" / "mapper"


def walk(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Frames that move anywhere within the bounds, with masks and single values that come and go."""
    rng = np.random.default_rng(seed)
    lo = np.array([0, 0, 0, -1, -1, 0, 30, -10, 0, 0, 0], np.float32)
    hi = np.array([1, 8, 1, 1, 1, 1, 220, 10, 1, 1, 0.999], np.float32)
    x = (lo + (hi - lo) * rng.random((n, 11))).astype(np.float32)
    mask = np.repeat(rng.random((n // 10 + 1, 4)) < 0.7, 10, axis=0)[:n]
    x[rng.random((n, 11)) < 0.05] = np.nan
    return x, mask


@pytest.mark.parametrize("engine", ["numpy", "onnx"])
def test_both_engines_are_proved_when_they_are_opened(engine: str) -> None:
    if engine == "onnx":
        pytest.importorskip("onnxruntime")
    made = LiveModel.open(RPS, MAPPER, engine)
    assert made.engine == engine and 0 < made.parity <= 1e-5
    assert (made.mode, made.window) == (made.mapper.mode, made.mapper.window)
    assert (made.rps_folder, made.mapper_folder) == (RPS, MAPPER)


@pytest.mark.parametrize("engine", ["numpy", "onnx"])
def test_a_thousand_frames_are_those_of_the_plain_forms(engine: str) -> None:
    if engine == "onnx":
        pytest.importorskip("onnxruntime")
    made, (x, mask) = LiveModel.open(RPS, MAPPER, engine), walk(1000, 3)
    z = model_latents(made.rps, x, mask)
    wanted = made.mapper.controls(z)
    for start in (0, 400):  # the second time from the middle: nothing of the first is left
        made.reset()
        if start:
            wanted = made.mapper.controls(z[start:])
        for k in range(start, 1000):
            found, y = made.step(x[k], mask[k])
            assert np.abs(found - z[k]).max() < 3e-5
            assert np.abs(y - wanted[k - start]).max() < 1e-5


def test_the_probe_hides_every_modality_and_reaches_beyond_a_window() -> None:
    x, mask = probe()
    patterns = {tuple(row) for row in mask.tolist()}
    assert len(x) > 50 and not np.isinf(x).any()
    assert (mask.sum(axis=0) < len(x)).all() and any(sum(p) == 2 for p in patterns)


def test_stream_mode_and_a_mapper_without_normaliser() -> None:
    rps, plain = Rps.read(RPS), Mapper.read(MAPPER)
    x, mask = walk(300, 5)
    for mode in ("window", "stream"):
        for normalized in (True, False):
            m = replace(plain, mode=mode, normalized=normalized)
            latents = fused.FusedRps(rps, normalized)
            controls = fused.FusedWindow(m) if mode == "window" else fused.FusedStream(m)
            wanted = m.controls(model_latents(rps, x, mask, normalized))
            z_wanted = rps.normalizer.apply(rps.latents(x, mask))
            for k in range(len(x)):
                z, feed = latents.step(x[k], mask[k])
                assert np.abs(z - z_wanted[k]).max() < 3e-5
                assert np.abs(controls.step(feed) - wanted[k]).max() < 1e-5, (mode, normalized, k)


def test_a_form_that_differs_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def crooked(*args: object) -> tuple[np.ndarray, np.ndarray]:
        matrix, offset = straight(*args)
        return matrix * np.float32(1.001), offset

    straight = fused.pattern_matrix
    monkeypatch.setattr(fused, "pattern_matrix", crooked)
    with pytest.raises(DataError, match="differs by") as caught:
        LiveModel.open(RPS, MAPPER, "numpy")
    assert int(caught.value.code) == 65


def test_a_mapper_of_another_m1_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    read = Mapper.read
    monkeypatch.setattr(model.Mapper, "read", lambda f: replace(read(f), rps_sha256="0" * 64))
    with pytest.raises(DataError, match="another M1"):
        LiveModel.open(RPS, MAPPER, "numpy")


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="auto, onnx, numpy"):
        LiveModel.open(RPS, MAPPER, "torch")
    with pytest.raises(FormatError, match="no checkpoint"):
        LiveModel.open(tmp_path, MAPPER)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UnavailableError, match=r"pip install 'choreo\[live\]'"):
        LiveModel.open(RPS, MAPPER, "onnx")
    assert LiveModel.open(RPS, MAPPER, "auto").engine == "numpy"


def test_a_changed_onnx_file_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    shutil.copytree(RPS, tmp_path / "rps")
    file = tmp_path / "rps" / "model.onnx"
    file.write_bytes(file.read_bytes()[:-1] + b"\0")
    with pytest.raises(FormatError, match="damaged or changed"):
        LiveModel.open(tmp_path / "rps", MAPPER, "onnx")


def test_infinite_values_are_missing_ones() -> None:
    made, (x, mask) = LiveModel.open(RPS, MAPPER, "numpy"), probe()
    odd = x[0].copy()
    odd[6] = np.inf
    hole = x[0].copy()
    hole[6] = np.nan
    a = made.step(odd, mask[0])[1].copy()
    made.reset()
    assert np.array_equal(a, made.step(hole, mask[0])[1])


def test_latents_that_are_not_finite_give_nan_and_leave_no_trace() -> None:
    made, (x, mask) = LiveModel.open(RPS, MAPPER, "numpy"), probe()
    made.step(x[0], mask[0])
    assert np.isnan(made.controls.step(np.full(104, np.nan, np.float32))).all()
    _, y = made.step(x[1], mask[1])
    wanted = made.mapper.controls(model_latents(made.rps, x[:2], mask[:2]))
    assert np.abs(y - wanted[1]).max() < 1e-5


def test_a_step_leaves_nothing_behind() -> None:
    made, (x, mask) = LiveModel.open(RPS, MAPPER, "numpy"), probe()
    arrays = {id(a) for k in range(8) for a in made.step(x[k], mask[k])}
    assert len(arrays) == 2  # the same two arrays every time
    tracemalloc.start()
    made.step(x[0], mask[0])
    before = tracemalloc.get_traced_memory()[0]
    for k in range(400):
        made.step(x[k % 96], mask[k % 96])
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 4096


def test_opening_and_stepping_load_neither_torch_nor_scipy_nor_pyarrow() -> None:
    code = (
        "import sys\nfrom choreo_cli.live.model import LiveModel, probe\n"
        f"m = LiveModel.open({str(RPS)!r}, {str(MAPPER)!r})\nx, mask = probe()\nm.step(x[0], mask[0])\n"
        "print(' '.join(sorted({n.split('.')[0] for n in sys.modules})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=TOP, timeout=60, check=True)
    assert set(done.stdout.split()) & {"torch", "scipy", "pyarrow", "onnxruntime", "onnx", "matplotlib"} == set()
