"""Several processes train as one would; and the device is chosen with a reason."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from training_toy import Toy, repeatable  # noqa: E402

from choreo_cli import runtime  # noqa: E402
from choreo_cli.errors import ExitCode, UnavailableError, UsageError  # noqa: E402
from choreo_cli.training.accelerator import Crew  # noqa: E402
from choreo_cli.training.loop import fit  # noqa: E402
from formats import tensors  # noqa: E402

TOP = Path(__file__).resolve().parents[2]
TOY = Path(__file__).with_name("training_toy.py")
CONFIG = {"epochs": 6, "items": 103, "plain": True, "clip": 1.0, "ema": 0.9, "patience": 4}


def launch(folder: Path, log: Path, **config: Any) -> subprocess.Popen[str]:
    """Two processes by torchrun, on this machine alone."""
    words = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone", str(TOY), "fit"]
    env = {**os.environ, "PYTHONPATH": str(TOP), "OMP_NUM_THREADS": "1"}
    words += [str(folder), str(log), json.dumps({**CONFIG, **config})]
    return subprocess.Popen(words, env=env, stderr=subprocess.PIPE, text=True, start_new_session=True)


def final(folder: Path) -> dict[str, np.ndarray]:
    arrays, _ = tensors.read(max((folder / "state").glob("*.safetensors")))
    return arrays


def test_two_processes_are_one(tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    log = tmp_path / "log.jsonl"
    child = launch(tmp_path / "two", log)
    _, err = child.communicate(timeout=120)
    assert child.returncode == 0, err
    records: list[dict[str, Any]] = []
    fitted = fit(Toy(**CONFIG), tmp_path / "one", identity="toy", seed=3, log=records.append)
    mine = [r for r in records if r["kind"] in ("step", "validation")]
    theirs = repeatable(log)
    assert len(mine) == len(theirs) == 24 + 6  # one process writes
    for a, b in zip(mine, theirs, strict=True):
        words = {k: v for k, v in a.items() if isinstance(v, str | bool)}
        assert words.items() <= b.items() and a.keys() == b.keys()
        for name in a.keys() - words.keys():
            assert b[name] == pytest.approx(a[name], rel=2e-4, abs=1e-6), (a["step"], name)
    one, two = final(tmp_path / "one"), final(tmp_path / "two")
    assert one.keys() == two.keys()
    for name in one:
        np.testing.assert_allclose(two[name], one[name], rtol=1e-3, atol=1e-5, err_msg=name)
    end = json.loads(log.read_text().splitlines()[-1])
    assert end["kept"]["loss"] == pytest.approx(fitted.kept["loss"], rel=1e-3)
    assert next(r for r in map(json.loads, log.open()) if r.get("kind") == "start")["processes"] == 2


@pytest.mark.slow
def test_a_signal_to_one_process_stops_all(tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    log = tmp_path / "log.jsonl"
    child = launch(tmp_path, log, epochs=5000, pause_s=0.01)
    try:
        deadline = time.monotonic() + 60
        while not (log.exists() and '"kind":"step"' in log.read_text().replace(" ", "")):
            assert time.monotonic() < deadline and child.poll() is None
            time.sleep(0.05)
        children = Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()
        assert len(children) == 2
        os.kill(int(children[1]), signal.SIGTERM)
        asked = time.monotonic()
        while '"end"' not in log.read_text():
            assert time.monotonic() < asked + 5
            time.sleep(0.05)
        child.wait(60)
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
    end = json.loads(log.read_text().splitlines()[-1])
    assert end["state"] == "stopped" and 0 < end["steps"] < 20_000
    assert len(list((tmp_path / "state").glob("*.json"))) == 1


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("items", [1, 2, 5, 32])
def test_shares_of_a_batch_make_the_batch(size: int, items: int) -> None:
    batch = np.arange(100, 100 + items)
    shares = [Crew(torch.device("cpu"), rank, size).share(batch) for rank in range(size)]
    taken = np.concatenate([s for s, weight in shares if weight > 0])
    assert taken.tolist() == batch.tolist() and all(len(s) for s, _ in shares)
    assert sum(weight for _, weight in shares) == pytest.approx(1)
    assert all(weight in (0.0, len(s) / items) for s, weight in shares)


def test_tensors_that_lie_askew_are_copied() -> None:
    crew = Crew(torch.device("cpu"))
    straight = torch.arange(100.0)
    askew = straight[1:]
    placed = crew.place({"straight": straight, "askew": askew})
    assert placed["straight"] is straight and placed["askew"].data_ptr() % 64 == 0
    assert torch.equal(placed["askew"], askew)


# The device.


def pretend(
    monkeypatch: pytest.MonkeyPatch, *, build: str | None, devices: int, mac: bool = False, mps: bool = False
) -> None:
    cuda = SimpleNamespace(
        is_available=lambda: devices > 0, device_count=lambda: devices, get_device_name=lambda k: f"Card {k}"
    )
    fake = SimpleNamespace(
        __version__="2.99", version=SimpleNamespace(cuda=build), cuda=cuda,
        backends=SimpleNamespace(mps=SimpleNamespace(is_available=lambda: mps)),
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "torch", fake)
    monkeypatch.setattr(sys, "platform", "darwin" if mac else "linux")


def test_auto_takes_the_best_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, build="12.9", devices=2)
    assert runtime.choose_device("auto") == ("cuda", "the first CUDA device: Card 0")
    assert runtime.choose_device("cuda:1") == ("cuda:1", "asked for: Card 1")
    assert runtime.choose_device("cpu") == ("cpu", "asked for")
    pretend(monkeypatch, build=None, devices=0)
    reason = "no CUDA device: torch 2.99 is a CPU build; no MPS device: this is not a Mac"
    assert runtime.choose_device("auto") == ("cpu", reason)
    pretend(monkeypatch, build="12.9", devices=0)
    assert "needs one with a driver for CUDA 12.9" in runtime.choose_device("auto")[1]
    pretend(monkeypatch, build=None, devices=0, mac=True, mps=True)
    assert runtime.choose_device()[0] == "mps" == runtime.choose_device("mps")[0]
    pretend(monkeypatch, build=None, devices=0, mac=True)
    assert runtime.choose_device()[0] == "cpu"


def test_a_device_that_is_not_there_is_refused_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, build=None, devices=0)
    with pytest.raises(UnavailableError) as e:
        runtime.choose_device("cuda")
    assert e.value.code == ExitCode.UNAVAILABLE == 69
    assert str(e.value) == (
        "--device cuda: no CUDA device: torch 2.99 is a CPU build: pip install 'choreo[train]' with a CUDA build of "
        "torch on a machine that has such a device, or --device cpu"
    )
    with pytest.raises(UnavailableError, match="--device mps: no MPS device: this is not a Mac"):
        runtime.choose_device("mps")
    pretend(monkeypatch, build="12.9", devices=2)
    with pytest.raises(UnavailableError, match="--device cuda:2: there are 2 CUDA devices: count from cuda:0"):
        runtime.choose_device("cuda:2")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(UnavailableError, match=r"torch is not installed: pip install 'choreo\[train\]'"):
        runtime.choose_device("cpu")


@pytest.mark.parametrize("name", ["gpu", "", "cuda:", "cuda:x", "cuda:-1", "cpu:0", "mps:1", "auto:0", "CUDA"])
def test_a_name_of_no_device_is_bad_usage(name: str) -> None:
    with pytest.raises(UsageError, match="no device is called"):
        runtime.choose_device(name)


def test_processes_are_those_of_the_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert (runtime.process_count(), runtime.process_rank()) == (1, 0)
    monkeypatch.setenv("WORLD_SIZE", "8")  # some clusters set it for everything
    assert runtime.process_count() == 1
    monkeypatch.setenv("RANK", "3")
    assert (runtime.process_count(), runtime.process_rank()) == (8, 3)
