"""`choreo bench generate`: its rows, floors and verdicts at small sizes; never how fast this machine is today."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from export_small import SMALL

from choreo_cli.generate import bench as bench_generate
from choreo_cli.generate import bench_device, bench_network, bench_train
from choreo_cli.generate.bench_turns import FLOPS, Took, in_turns, rate
from choreo_cli.generate.config import TINY, Shape
from commands.bench import rows_of
from formats import device_bench, manifest
from formats.errors import FormatError
from formats.metrics import validate

torch = pytest.importorskip("torch")
pytest.importorskip("onnxruntime")
PHONE = {
    "schema": "choreo.device-bench/1", "weights": "ab" * 32, "frames": 64, "fps": 30.0,
    "device": {"model": "iPhone15,2", "os": "Version 18.1", "simulator": False, "low_power": False, "thermal": "fair"},
    "measured": [
        {"graph": "sampler4", "precision": "palette6", "units": units, "warmup": 10, "n": 100, "load_ms": 80.0,
         "p50_ms": 11.0 + k, "p95_ms": 14.5 + k}
        for k, units in enumerate(("all", "cpuOnly"))
    ],
}  # fmt: skip


def changed(**parts: Any) -> dict[str, Any]:
    return {**json.loads(json.dumps(PHONE)), **parts}


@pytest.fixture(scope="module")
def rows() -> dict[str, dict[str, Any]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench_generate, "SHAPE", SMALL)
        patch.setattr(bench_train, "SHAPE", SMALL)
        patch.setattr(bench_train, "BATCH", 4)
        patch.setattr(bench_network, "LARGE", Shape(blocks=1, width=32, heads=2, frames=20, audio_width=9))
        found = [*bench_generate.bench(rounds=1, count=1, clips=1), *bench_train.bench(steps=2, rounds=1)]
    return {e["name"]: e for e in [*found, *bench_device.bench()]}


def test_every_row_is_there(rows: dict[str, dict[str, Any]]) -> None:
    for e in rows.values():
        validate(e)
    listed = set(rows_of("generate"))
    assert {".".join(n.split(".")[:2]) for n in rows} == listed
    for backend in ("onnx", "torch"):
        assert {f"generate.sample.{backend}.{n}" for n in (1, 2, 4, 10, "ddim50")} <= set(rows)
    assert {f"generate.sample.graph.{n}" for n in (1, 2, 4)} <= set(rows)


def test_latencies_stand_beside_floor_and_ddim(rows: dict[str, dict[str, Any]]) -> None:
    for name, e in rows.items():
        if name.startswith(("generate.sample.onnx.", "generate.sample.torch.", "generate.sample.graph.")):
            assert e["floor"]["value"] > 0 and {"p50_ms", "p95_ms", "rows", "matrix_gflops"} <= set(e["params"])
            assert e["params"]["weights"] == "random" and (e["baseline"] is None) == name.endswith("ddim50")
    four, fifty = rows["generate.sample.onnx.4"]["params"], rows["generate.sample.onnx.ddim50"]["params"]
    assert four["rows"] == 7 and four["less_arithmetic_than_ddim50"] == pytest.approx(fifty["rows"] / 7, abs=0.01)
    assert four["less_arithmetic_than_ddim50"] >= 12
    for batch, times in bench_generate.FLOOR_TIMES.items():
        e = rows[f"generate.step_b{batch}"]
        assert e["goal"] == {"op": "<=", "value": pytest.approx(times * e["floor"]["value"])}
    assert rows["generate.step_b2"]["floor"]["value"] == pytest.approx(2 * rows["generate.step_b1"]["floor"]["value"])
    eager = rows["generate.step_eager"]
    assert eager["goal"]["value"] == pytest.approx(eager["baseline"]["value"] / 1.5)
    assert rows["generate.train"]["floor"] is not None and rows["generate.train"]["unit"] == "steps/s"


def test_what_is_not_here_is_not_measured(rows: dict[str, dict[str, Any]]) -> None:
    for kind, why in bench_network.backends().items():
        if why:
            e = rows[f"generate.sample.{kind}"]
            assert e["value"] is None and e["pass"] is None and e["why"].startswith("not measured: ")
    phone = rows["generate.phone"]
    assert phone["value"] is None and phone["why"].startswith("not measured: no --device-file")


def test_a_slow_core_is_not_judged_by_milliseconds() -> None:
    took = {n: Took(np.full(3, 9.0), np.full(3, 9.0)) for n in ("sample.graph.4", "distilled", "sample.torch.ddim50")}
    slow, fast = (
        {e["name"]: e for e in bench_generate._clip_rows(took, 1e6, {"matrix_gflops": g})} for g in (69.0, 70.0)
    )
    assert slow["generate.clip_cfg"]["pass"] is None and "69 GFLOP/s" in slow["generate.clip_cfg"]["why"]
    assert fast["generate.clip_cfg"]["pass"] is True and fast["generate.clip_distilled"]["pass"] is False


def test_arithmetic_is_counted_as_torch_counts_it() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    shape = Shape(blocks=TINY.blocks, width=TINY.width, heads=TINY.heads)
    net = bench_network.torch_network(shape)
    feeds = [torch.from_numpy(a) for a in bench_network.step_feeds(shape, 2).values()]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(*feeds)
    # Torch does not count attention on a processor; we do not count the mask's product with the channels it covers.
    counted = counter.get_total_flops() - 2 * 2 * 64 * 7 * 25 + 2 * bench_network.attention(shape)
    assert counted == pytest.approx(bench_network.operations(shape, 2), rel=1e-9)
    by_hand = sum(2 * b * h * 64 * 64 * 32 * 2 for b, h in ((2, 4),) for _ in range(4))
    assert 2 * bench_network.attention(shape) == by_hand
    assert bench_network.parameters(shape) == sum(p.numel() for p in net.parameters())


def test_the_large_network_has_the_size_that_it_says() -> None:
    assert bench_network.parameters(bench_network.LARGE) == pytest.approx(49.5e6, rel=0.002)
    assert bench_network.LARGE.frames == 150 and bench_network.LARGE_STEPS == 50


def test_turns_and_rate() -> None:
    calls: list[str] = []
    took = in_turns({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 2, 3)
    assert calls == ["a"] * 3 + ["b"] * 6 + ["a"] * 6 + ["b"] * 3 and len(took["a"].wall) == 6
    slow, fast = (Took(np.full(3, ms), np.full(3, ms)) for ms in (4.0, 2.0))
    per_ms, told = rate({"matrix x": slow, "matrix y": fast, "other": fast})
    assert per_ms == FLOPS / 2 and set(told["matrix_by"]) == {"x", "y"}


def test_a_phone_is_what_its_file_says(tmp_path: Path) -> None:
    file = tmp_path / "device-bench.json"
    file.write_text(json.dumps(PHONE))
    judged, *others = bench_device.bench(device_file=file)
    assert judged["value"] == 11.0 and judged["pass"] is True and judged["params"]["device"] == "iPhone15,2"
    assert [e["name"].split(".", 2)[2] for e in others] == ["sampler4.palette6.all", "sampler4.palette6.cpuOnly"]
    file.write_text(json.dumps(changed(device={**PHONE["device"], "simulator": True})))
    assert bench_device.bench(device_file=file)[0]["why"] == "a simulator is no phone"
    unfit: list[tuple[dict[str, Any], str]] = [
        ({"device": {**PHONE["device"], "model": "Mac14,2"}}, "Mac14,2 is no phone"),
        ({"frames": 8}, "8 frames at 30 fps"),
        ({"device": {**PHONE["device"], "low_power": True}}, "low power mode"),
        ({"device": {**PHONE["device"], "thermal": "critical"}}, "hot: critical"),
    ]
    for change, why in unfit:
        file.write_text(json.dumps(changed(**change)))
        hot = bench_device.bench(device_file=file)[0]
        assert hot["pass"] is None and why in hot["why"] and hot["value"] == 11.0
    file.write_text(json.dumps(changed(measured=PHONE["measured"][1:])))
    assert bench_device.bench(device_file=file)[0]["value"] is None


@pytest.mark.parametrize(
    ("doc", "said"),
    [
        (changed(schema="choreo.metrics/1"), "need choreo.device-bench/1"),
        ([1], "no choreo document"),
        (changed(weights="abc"), "weights"),
        (changed(measured=[]), "measured"),
        (changed(measured=[{**PHONE["measured"][0], "p95_ms": 3.0}]), "p95_ms is below p50_ms"),
        (changed(measured=[{**PHONE["measured"][0], "n": 3}]), "n"),
        (changed(measured=[{**PHONE["measured"][0], "p50_ms": 0}]), "p50_ms"),
        (changed(measured=[PHONE["measured"][0]] * 2), "measured twice"),
        (changed(device={**PHONE["device"], "thermal": "lukewarm"}), "thermal"),
        (changed(more=1), "more"),
    ],
)
def test_a_device_file_is_validated(doc: Any, said: str) -> None:
    with pytest.raises(FormatError, match=said):
        device_bench.decode(json.dumps(doc).encode())


def test_not_a_number_is_no_latency() -> None:
    for bad in (b"{", b"\xff", json.dumps(PHONE).replace("11.0", "NaN").encode()):
        with pytest.raises(FormatError):
            device_bench.decode(bad)


def test_the_program_takes_the_file_in(choreo: Any, tmp_path: Path) -> None:
    (tmp_path / "d.json").write_text(json.dumps(PHONE))
    done = choreo("bench", "generate", "--only", "generate.phone", "--device-file", "d.json")
    assert done.returncode == 0, done.stderr
    found = manifest.decode(done.stdout)
    assert {e["name"] for e in found.entries} >= {"generate.load", "generate.phone"}
    assert found.created_by["inputs"][0]["schema"] == "choreo.device-bench/1"
    (tmp_path / "d.json").write_text("{}")
    for words, code, said in (
        (["generate", "--device-file", "d.json"], 65, "need choreo.device-bench/1"),
        (["generate", "--device-file", "none.json"], 66, "no file none.json"),
        (["train", "--device-file", "d.json"], 2, "--device-file does not apply to train"),
    ):
        done = choreo("bench", *words)
        assert done.returncode == code and said in done.stderr.decode() and done.stderr.count(b"\n") == 1, done.stderr
