"""A run that was killed, stopped or damaged goes on as if nothing had happened, or says why it starts again."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from training_toy import FULL, Toy, bits, lines_to, repeatable, trained  # noqa: E402

from choreo_cli.report.verify import check_file  # noqa: E402
from choreo_cli.runtime import deferred_signals  # noqa: E402
from choreo_cli.training import state  # noqa: E402
from choreo_cli.training.loop import Fitted, fit  # noqa: E402
from formats import sealed, tensors  # noqa: E402

TOP = Path(__file__).resolve().parents[2]
TOY = Path(__file__).with_name("training_toy.py")


def environment(**more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    return {**kept, "PYTHONPATH": str(TOP), "OMP_NUM_THREADS": "1", **more}


def by_step(log: Path) -> dict[tuple[str, int], dict[str, Any]]:
    """Records by kind and step; the same record said twice must say the same."""
    found: dict[tuple[str, int], dict[str, Any]] = {}
    for record in repeatable(log):
        key = (record["kind"], record["step"])
        assert found.setdefault(key, record) == record
    return found


def killed(folder: Path, kills: int, seed: int) -> None:
    """Train in children that are killed, and compare with a run that was left alone."""
    whole, torn = folder / "whole", folder / "torn"
    whole.mkdir()
    torn.mkdir()
    words = [sys.executable, str(TOY), "kill", str(torn), str(kills), str(seed)]
    done = subprocess.run(words, env=environment(), capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["kills"] == kills
    expected = trained(whole, whole / "log.jsonl")
    found = trained(torn, torn / "log.jsonl")
    assert bits(found.model) == bits(expected.model)
    assert (found.steps, found.kept, found.kept_step) == (expected.steps, expected.kept, expected.kept_step)
    assert by_step(torn / "log.jsonl") == by_step(whole / "log.jsonl")
    last = [max((f / "state").glob("*.safetensors")) for f in (whole, torn)]
    assert last[0].read_bytes() == last[1].read_bytes()
    starts = [json.loads(line) for line in (torn / "log.jsonl").read_text().splitlines() if '"start"' in line]
    assert len({s["step"] for s in starts}) > kills // 2


def test_training_killed_at_random_times_gives_the_same_bits(tmp_path: Path) -> None:
    killed(tmp_path, 5, 0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 5))
def test_training_killed_often_gives_the_same_bits(tmp_path: Path, seed: int) -> None:
    killed(tmp_path, 20, seed)


class StopAfter:
    """Says stop once it was asked so many times."""

    def __init__(self, times: int) -> None:
        self.left = times

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0


@pytest.mark.parametrize("config", [{}, {"ema": 0.9}, {"clip": 0.5, "warmup": 3, "decay": True}, {"patience": 2}, FULL])
def test_a_run_stopped_at_any_step_goes_on_to_the_same_end(tmp_path: Path, config: dict[str, Any]) -> None:
    config = {**config, "epochs": 5}

    def run(folder: Path, stop: Any = lambda: False) -> Fitted:
        folder.mkdir(exist_ok=True)
        log = lines_to(folder / "log.jsonl")
        return fit(Toy(**config), folder, identity="toy", seed=3, stop=stop, log=log)

    expected = run(tmp_path / "whole")
    stops, fitted = 0, run(tmp_path / "torn", StopAfter(1))
    while fitted.state == "stopped":
        stops += 1
        fitted = run(tmp_path / "torn", StopAfter(1 + 3 * (stops % 5)))
    assert stops > 4 and fitted.steps == expected.steps
    assert bits(fitted.model) == bits(expected.model) and fitted.kept == expected.kept
    assert repeatable(tmp_path / "torn" / "log.jsonl") == repeatable(tmp_path / "whole" / "log.jsonl")


def test_a_validation_that_was_cut_is_done_again(tmp_path: Path) -> None:
    class Watched(Toy):
        validations = 0
        finished = 0

        def validate(self, model: Any) -> dict[str, float]:
            self.validations += 1
            for _ in range(20):
                found = super().validate(model)
            self.finished += 1
            return found

    toy = Watched(epochs=2)
    fitted = fit(toy, tmp_path, identity="toy", seed=0, stop=lambda: toy.validations == 1)
    assert (fitted.state, fitted.steps, toy.finished, fitted.kept) == ("stopped", 5, 0, {})
    toy.validations = 5
    fitted = fit(toy, tmp_path, identity="toy", seed=0)
    assert (fitted.state, fitted.steps, toy.finished) == ("done", 10, 2) and fitted.kept["loss"] > 0


def test_a_finished_run_is_there_at_once(tmp_path: Path) -> None:
    first = fit(Toy(epochs=3), tmp_path, identity="toy", seed=0)
    again = Toy(epochs=3)
    second = fit(again, tmp_path, identity="toy", seed=0)
    assert again.seen == [] and bits(first.model) == bits(second.model) and first.kept == second.kept
    assert second.state == "done" and second.kept_step == first.kept_step


def stopped(folder: Path, steps: int = 12, identity: str = "toy", **config: Any) -> None:
    """Leave two checkpoints of steps `steps - 1` and `steps`."""
    recipe = Toy(**{"epochs": 5, "checkpoint_s": 1e-9, **config})
    fit(recipe, folder, identity=identity, seed=0, stop=lambda: len(recipe.seen) >= steps)


def start_of(folder: Path, identity: str = "toy", **options: Any) -> tuple[int, list[str]]:
    """Step a new start goes on from, and its notes."""
    records: list[dict[str, Any]] = []
    fit(Toy(epochs=5), folder, identity=identity, seed=0, log=records.append, **options)
    begin = next(r for r in records if r["kind"] == "start")
    return begin["step"], [r["message"] for r in records if r["kind"] == "note"]


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


def test_two_checkpoints_are_kept_and_stand_alone(tmp_path: Path) -> None:
    stopped(tmp_path)
    names = sorted(p.name for p in (tmp_path / "state").iterdir())
    assert names == [f"step-0000000{n}.{e}" for n in (11, 12) for e in ("json", "safetensors")]
    for path in (tmp_path / "state").iterdir():
        verdict = check_file(path, path.name)
        assert verdict.ok, verdict
    arrays, _ = tensors.read(tmp_path / "state" / "step-000000012.safetensors")
    kinds = {name.split(".")[0] for name in arrays}
    assert kinds == {"model", "optimizer", "best"}
    card = sealed.parse((tmp_path / "state" / "step-000000012.json").read_bytes())
    assert card["schema"] == state.SCHEMA and card["progress"]["judged"] == 10
    for file in ("step-000000012.json", "step-000000012.safetensors"):
        flip(tmp_path / "state" / file)
        assert not check_file(tmp_path / "state" / file, file).ok


@pytest.mark.parametrize("how", ["flip json", "flip safetensors", "cut json", "cut safetensors", "no safetensors"])
def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path, how: str) -> None:
    stopped(tmp_path)
    what, ending = how.split()
    path = tmp_path / "state" / f"step-000000012.{ending}"
    if what == "flip":
        flip(path)
    elif what == "cut":
        path.write_bytes(path.read_bytes()[:200])
    else:
        path.unlink()
    assert start_of(tmp_path) == (11, ["the checkpoint step-000000012.json is damaged: not used"])


def test_when_none_can_be_used_it_starts_again_and_says_so(tmp_path: Path) -> None:
    stopped(tmp_path)
    for path in (tmp_path / "state").glob("*.json"):
        flip(path)
    step, notes = start_of(tmp_path)
    assert step == 0 and notes[-1] == "no checkpoint can be used: training starts again" and len(notes) == 3


def test_checkpoints_of_another_run_are_left_alone(tmp_path: Path) -> None:
    stopped(tmp_path, identity="other")
    before = {p.name: p.read_bytes() for p in (tmp_path / "state").iterdir()}
    step, notes = start_of(tmp_path)
    assert step == 0 and "the checkpoint step-000000012.json is of another run: not used" in notes
    after = {p.name: p.read_bytes() for p in (tmp_path / "state").iterdir()}
    assert before.items() <= after.items()
    fresh = fit(Toy(epochs=5), tmp_path / "fresh", identity="toy", seed=0)
    assert bits(fit(Toy(epochs=5), tmp_path, identity="toy", seed=0).model) == bits(fresh.model)


def test_another_plan_or_network_is_another_run(tmp_path: Path) -> None:
    stopped(tmp_path)
    with_more = fit(Toy(items=120, epochs=5), tmp_path, identity="toy", seed=0, stop=lambda: True)
    assert with_more.steps == 0
    shutil.rmtree(tmp_path / "state")
    stopped(tmp_path, plain=False)
    records: list[dict[str, Any]] = []
    fit(Toy(epochs=5, plain=True), tmp_path, identity="toy", seed=0, log=records.append)
    assert records[0]["message"].endswith("step-000000012.json is damaged: not used")
    assert next(r for r in records if r["kind"] == "start")["step"] == 0


def test_without_resume_it_begins_anew_and_old_states_go(tmp_path: Path) -> None:
    stopped(tmp_path, steps=20)
    recipe = Toy(epochs=5)
    fitted = fit(recipe, tmp_path, identity="toy", seed=0, resume=False, stop=lambda: len(recipe.seen) >= 3)
    assert fitted.steps == 3
    assert sorted(p.name for p in (tmp_path / "state").glob("*.json")) == ["step-000000003.json"]
    assert start_of(tmp_path)[0] == 3


def test_a_full_disk_leaves_the_checkpoints_of_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped(tmp_path)
    before = {p.name: p.read_bytes() for p in (tmp_path / "state").iterdir()}
    real, calls = os.replace, []

    def full(a: Any, b: Any) -> None:
        calls.append(b)
        if len(calls) == 2:
            raise OSError(28, "No space left on device", str(b))
        real(a, b)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        fit(Toy(epochs=5), tmp_path, identity="toy", seed=0)
    monkeypatch.undo()
    after = {p.name: p.read_bytes() for p in (tmp_path / "state").iterdir()}
    assert before.items() <= after.items() and not [n for n in after if n.startswith(".")]
    assert start_of(tmp_path)[0] == 12


def test_each_checkpoint_is_announced_once_it_is_whole(tmp_path: Path) -> None:
    seen: list[str] = []

    def look(path: Path) -> None:
        card = sealed.parse(path.read_bytes())
        assert path.with_suffix(".safetensors").exists()
        seen.append(f"{card['progress']['step']}")

    fit(Toy(epochs=2, checkpoint_s=1e-9), tmp_path, identity="toy", seed=0, after_checkpoint=look)
    assert seen == [str(n) for n in range(1, 11)]


def test_state_holds_scalars_and_names_that_end_alike(tmp_path: Path) -> None:
    class Odd(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = torch.nn.Parameter(torch.tensor(2.0))
            self.a = torch.nn.Module()
            self.a.w = torch.nn.Parameter(torch.ones(3))
            self.still = torch.nn.Parameter(torch.ones(2), requires_grad=False)
            self.register_buffer("count", torch.tensor(5))

    def stepped() -> tuple[Any, Any]:
        model = Odd()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.1, fused=True)
        return model, optimizer

    def step(model: Any, optimizer: Any) -> None:
        (model.w * model.a.w.sum()).backward()
        optimizer.step()
        optimizer.zero_grad()

    model, optimizer = stepped()
    step(model, optimizer)
    state.write(tmp_path, state.collect(model, optimizer, None, None), state.Progress(step=1), "x", {})
    found, notes = state.read_last(tmp_path, "x", {}, state.shapes(model))
    assert found is not None and notes == []
    other, its = stepped()
    assert state.restore(found[0], other, its, None) is None
    for _ in range(3):
        step(model, optimizer)
        step(other, its)
    assert bits(model) == bits(other) and other.w.shape == ()
    assert np.array_equal(its.state[other.a.w]["exp_avg"], optimizer.state[model.a.w]["exp_avg"])


# Signals.


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=lambda n: n.name)
def test_a_signal_leaves_a_checkpoint_and_the_usual_exit(tmp_path: Path, number: signal.Signals) -> None:
    log = tmp_path / "log.jsonl"
    config = {"epochs": 2000, "pause_s": 0.02, "ema": 0.9}
    words = [sys.executable, str(TOY), "fit", str(tmp_path), str(log), json.dumps(config)]
    child = subprocess.Popen(words, env=environment(), stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 60
        while not (log.exists() and '"step"' in log.read_text()):
            assert time.monotonic() < deadline and child.poll() is None
            time.sleep(0.02)
        child.send_signal(number)
        asked = time.monotonic()
        assert child.wait(30) == 128 + number
        assert time.monotonic() - asked < 3 * 5, "three times the promise: the machine may be busy"
    finally:
        child.kill()
        child.wait()
    assert child.stderr is not None
    assert child.stderr.read() == f"choreo: stopped by {number.name}\n"
    end = json.loads(log.read_text().splitlines()[-1])
    assert end["kind"] == "end" and end["state"] == "stopped" and end["steps"] > 0
    assert not end["accelerate"]  # 2 s of import that one process does not need
    files = sorted((tmp_path / "state").iterdir())
    assert [f.suffix for f in files] == [".json", ".safetensors"] and all(check_file(f, f.name).ok for f in files)
    config["pause_s"] = 0.0
    records: list[dict[str, Any]] = []
    fit(Toy(**config), tmp_path, identity="toy", seed=3, log=records.append, stop=StopAfter(3))
    assert next(r for r in records if r["kind"] == "start")["step"] == end["steps"]


def test_signals_wait_for_the_end_of_the_block() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda n, _: heard.append(n))
    try:
        with deferred_signals() as signals:
            assert signals.asked == 0
            os.kill(os.getpid(), signal.SIGTERM)
            assert signals.asked == signal.SIGTERM and heard == []
        assert heard == [signal.SIGTERM]
        with pytest.raises(RuntimeError, match="in the block"), deferred_signals():
            os.kill(os.getpid(), signal.SIGTERM)
            raise RuntimeError("in the block")
        assert heard == [signal.SIGTERM] * 2
        with deferred_signals():
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        assert heard == [signal.SIGTERM] * 3
    finally:
        signal.signal(signal.SIGTERM, before)


def test_what_nohup_ignores_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with deferred_signals() as signals:
            os.kill(os.getpid(), signal.SIGHUP)
            assert signals.asked == 0
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(("processes", "expected"), [("1", 129), ("2", 143)])
def test_a_second_signal_ends_at_once(processes: str, expected: int) -> None:
    """One that torchrun passes on right after the first is not a second one."""
    code = (
        "import os, signal\n"
        "from choreo_cli.runtime import deferred_signals\n"
        "for s in (signal.SIGTERM, signal.SIGHUP): signal.signal(s, lambda n, f: os._exit(128 + n))\n"
        "with deferred_signals() as signals:\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    os.kill(os.getpid(), signal.SIGHUP)\n"
        "os._exit(1)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(RANK="0", WORLD_SIZE=processes), timeout=60, check=False
    )
    assert done.returncode == expected
