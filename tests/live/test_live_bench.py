"""`choreo bench live`: its rows, what they are judged by, and what it measures; never how fast this machine is today."""

from __future__ import annotations

import ast
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from choreo_cli.live import bare_loop, bench_loop, bench_memory, bench_model, bench_osc
from choreo_cli.live.clock import MonotonicClock
from choreo_cli.live.contest import Spread, in_turns, spread, timed
from choreo_cli.live.latency import NONE
from choreo_cli.live.model import ATOL
from choreo_cli.live.osc import encode
from choreo_cli.metrics.suites import SUITES
from commands.bench import rows_of
from formats import manifest
from formats.columns import METRIC
from formats.metrics import validate

TOP = Path(__file__).resolve().parents[2]
UNITS = {
    "live.model": "ms", "live.model_eager": "ms", "live.model_onnx": "ms", "live.model_int8": "ms",
    "live.model_jit": "ms", "live.loop": "ms", "live.loop_slow": "frames", "live.cadence": "ms", "live.drift": "ms",
    "live.osc_cold": "us", "live.osc_first": "us", "live.osc_known": "us", "live.osc_encode": "us",
    "live.osc_loopback": "us", "live.rss": "B", "live.growth": "B", "live.files": "files", "live.threads": "threads",
}  # fmt: skip
MS = 1_000_000


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Everything once, at small sizes."""
    home = tmp_path_factory.mktemp("bench")
    done = subprocess.run(
        [sys.executable, "-m", "choreo_cli", "bench", "live", "--quick", "--json", "-q"],
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(TOP), "XDG_CACHE_HOME": str(home)},
        timeout=280,
        check=False,
    )
    assert done.returncode in (0, 1) and done.stderr == b"", done.stderr.decode()
    found = manifest.decode(done.stdout)
    assert found.created_by["command"] == "bench live" and found.created_by["deterministic"] is False
    return {e["name"]: e for e in found.entries}


def test_every_row_is_there_with_its_unit_and_whole(quick: dict[str, dict[str, Any]]) -> None:
    assert set(quick) == {*UNITS, "live.load"} == {*rows_of("live"), "live.load"}
    for name, unit in UNITS.items():
        e = quick[name]
        assert tuple(e) == METRIC.names
        validate(e)
        assert e["better"] == "lower" and (e["value"] is None or e["unit"] == unit), e


def test_every_figure_stands_beside_its_floor_and_its_peer(quick: dict[str, dict[str, Any]]) -> None:
    for name in UNITS:
        e = quick[name]
        assert e["value"] is None or e["floor"] is not None, name
    for name in ("live.model", "live.loop", "live.cadence", "live.osc_cold", "live.osc_known", "live.osc_encode"):
        e = quick[name]
        # A peer that is missing is said; then there is no verdict.
        assert e["baseline"] is not None or "not installed" in e["why"], e
        assert e["n"] >= 8 and (name.startswith("live.osc") or "ms" in e["params"] or "p95" in e["params"])


def test_goals_are_those_of_the_table(quick: dict[str, dict[str, Any]]) -> None:
    def goal(name: str) -> float:
        assert quick[name]["goal"]["op"] == "<="
        return float(quick[name]["goal"]["value"])

    assert goal("live.model") == 0.12
    assert goal("live.rss") == 150e6 and goal("live.growth") == 2e6
    assert goal("live.files") == goal("live.threads") == goal("live.drift") == 0
    assert goal("live.cadence") == pytest.approx(1.5 * quick["live.cadence"]["baseline"]["value"])
    for name, times in (("live.model_eager", 6), ("live.osc_cold", 1.5), ("live.osc_known", 5)):
        if quick[name]["baseline"] is not None:
            assert goal(name) == pytest.approx(quick[name]["baseline"]["value"] / times)


def test_the_contestants_do_the_same_work(quick: dict[str, dict[str, Any]]) -> None:
    assert quick["live.model"]["params"]["differs"] <= ATOL
    assert quick["live.model"]["params"].get("eager", {"differs": 0})["differs"] <= ATOL
    assert quick["live.osc_known"]["params"]["equal"] in (True, None)


def test_the_loop_was_played_and_its_packets_came_to_another_process(quick: dict[str, dict[str, Any]]) -> None:
    told = quick["live.loop"]["params"]
    assert told["ticks"] + told["missed"] >= 30 and told["troubles"] == {} and told["recorded"]
    assert told["outside"]["received"] == told["outside"]["sent"] > 0
    assert quick["live.rss"]["params"]["ticks"] > 1000
    assert quick["live.files"]["params"]["least"] >= 3 and quick["live.threads"]["params"]["least"] >= 2


def test_variants_say_whether_they_are_kept(quick: dict[str, dict[str, Any]]) -> None:
    for name in ("live.model_onnx", "live.model_int8", "live.model_jit"):
        e = quick[name]
        if e["value"] is None:
            assert e["why"] and e["baseline"] is None
        elif e["params"]["verdict"] == "kept":
            assert e["pass"] is True and e["value"] <= e["baseline"]["value"] and e["params"]["differs"] <= ATOL
        else:
            assert e["pass"] is None and e["why"].startswith("rejected: ")


def took(**ms: float) -> dict[str, Spread]:
    return {k: Spread(v, 2 * v, 3 * v, 100) for k, v in ms.items()}


def test_a_variant_is_kept_only_when_faster_and_equal() -> None:
    figures = took(numpy=0.1, onnx=0.05, int8=0.05, jit=0.2)
    facts = {"onnx": {"differs": 1e-7}, "int8": {"differs": 0.02}, "jit": {"differs": 1e-7}}
    floor = ("floor", 0.01)
    found = {k: bench_model.variant(k, figures, facts, {}, floor) for k in facts}
    assert {k: e["params"]["verdict"] for k, e in found.items()} == {
        "onnx": "kept", "int8": "rejected", "jit": "rejected",
    }  # fmt: skip
    assert found["onnx"]["pass"] is True and "differ by 0.02" in found["int8"]["why"]
    assert "0.200 ms against 0.100 ms" in found["jit"]["why"]


def test_without_torch_the_baseline_is_null_and_says_why() -> None:
    missing = dict.fromkeys(("eager", "onnx", "int8", "jit"), bench_model.NO_TORCH)
    found = bench_model.rows(took(numpy=0.1, floor=0.05), {"numpy": {"differs": 1e-7}}, missing)
    rows = {e["name"]: e for e in found}
    assert rows["live.model"]["baseline"] is None and rows["live.model"]["pass"] is True
    assert rows["live.model_eager"]["pass"] is None and rows["live.model_eager"]["why"] == bench_model.NO_TORCH
    assert rows["live.model_jit"]["value"] is None


def test_without_python_osc_the_baseline_is_null_and_says_why() -> None:
    names = [k + end for k in ("known", "cold", "encode", "loop") for end in ("", "_floor")]
    found = bench_osc.rows(took(first=5.0, **dict.fromkeys(names, 3.0)), {})
    assert [e["baseline"] for e in found] == [None] * 5 and {e["why"] for e in found} == {bench_osc.NO_PEER}


def marks(late_ms: float, bare_ms: float, n: int = 200, missed: int = 0) -> bench_loop.Marks:
    """A made-up run: our ticks and the bare ones late by so much, one tick after `missed` that were skipped."""
    start, grid = 10**12, bench_loop.PERIOD_NS * np.arange(n, dtype=np.int64)
    slot = grid + bench_loop.PERIOD_NS * missed * (np.arange(n) >= n // 2)
    due = start + slot
    first = due - bench_loop.PERIOD_NS * missed * (np.arange(n) == n // 2)
    woke = due + round(late_ms * MS)
    sent = woke + MS // 2
    sent[3] = NONE  # nothing had changed
    half = start + grid + bench_loop.PERIOD_NS // 2
    bare = np.stack([half, half + round(bare_ms * MS), half + round(bare_ms * MS) + 10_000], axis=1)
    arrived = {k: int(t) + 20_000 for k, t in enumerate(sent.tolist()) if t != NONE}
    arrived |= {-1 - k: int(t) + 20_000 for k, t in enumerate(bare[:, 2].tolist())}
    return bench_loop.Marks(due, woke, first, sent, bare, start, arrived, {"ticks": n, "missed": missed})


def test_on_a_calm_machine_the_loop_is_judged_in_milliseconds_else_by_ratio() -> None:
    calm = {e["name"]: e for e in bench_loop.rows(marks(0.3, 0.2))}
    assert calm["live.loop"]["goal"]["value"] == 5.0 and calm["live.loop"]["value"] == pytest.approx(0.8)
    assert calm["live.loop"]["params"]["outside"]["received"] == 199 == calm["live.loop"]["n"]
    assert calm["live.loop"]["params"]["outside"]["sent_to_received_ms"]["p50"] == pytest.approx(0.02)
    assert calm["live.cadence"]["pass"] is True and calm["live.drift"]["value"] == 0
    busy = {e["name"]: e for e in bench_loop.rows(marks(9.0, 4.0))}
    assert busy["live.loop"]["goal"]["value"] == pytest.approx(1.5 * 4.01)
    assert busy["live.loop"]["pass"] is False and busy["live.cadence"]["pass"] is False


def test_ticks_that_were_skipped_count_from_the_first_of_them() -> None:
    found = {e["name"]: e for e in bench_loop.rows(marks(0.3, 0.2, missed=3))}
    assert found["live.loop_slow"]["value"] == 1 and found["live.loop_slow"]["pass"] is False
    assert found["live.loop_slow"]["params"]["max_ms"] == pytest.approx(60.8)


def test_drift_is_seen() -> None:
    n, start = 500, 10**12
    due = start + bench_loop.PERIOD_NS * np.arange(n, dtype=np.int64)
    noise = np.random.default_rng(0).integers(100_000, 4_000_000, n)
    assert bench_loop.drift_ms(due, due + noise, start) <= 0.1
    slow = due + np.linspace(0, 5 * MS, n).astype(np.int64)
    assert bench_loop.drift_ms(slow, slow + noise, start) == pytest.approx(4.5, abs=0.3)


def test_the_bare_loop_keeps_absolute_deadlines_and_its_packets_are_like_ours() -> None:
    assert bare_loop.packet(7) == encode("/choreo/frame", (7, 0.1, 0.2, 0.3, 0.4, 0.5))
    assert [bare_loop.number_of(bare_loop.packet(k)) for k in (-1, 0, 2**31 - 1)] == [-1, 0, 2**31 - 1]
    period, count = 2 * MS, 5
    with bench_loop.receiver() as (port, arrivals), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as raw:
        with bench_loop.beside(f"keep_time({port}, {period}, {count})", subprocess.PIPE) as process:
            assert process.stdin is not None and process.stdout is not None
            begin = time.monotonic_ns()
            process.stdin.write(f"{begin}\n")
            process.stdin.flush()
            marks = json.loads(process.stdout.readline())
        raw.sendto(bare_loop.END, ("127.0.0.1", port))
        arrived = arrivals()
    assert [due for due, _, _ in marks] == [begin + k * period for k in range(count)]
    assert all(due <= woke <= sent for due, woke, sent in marks)
    assert sorted(arrived) == [-5, -4, -3, -2, -1]


def test_the_bare_loop_imports_nothing_of_ours() -> None:
    script = "import sys; import choreo_cli.live.bare_loop; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=TOP, check=True)
    loaded = set(done.stdout.split())
    assert "numpy" not in loaded
    assert {m for m in loaded if m.startswith(("choreo_cli.", "formats"))} == {
        "choreo_cli.live", "choreo_cli.live.bare_loop",
    }  # fmt: skip


def test_the_clock_tells_the_first_deadline_once(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[int] = []
    waited: list[int] = []

    def wait(_: MonotonicClock, deadline: int) -> None:
        waited.append(deadline)

    monkeypatch.setattr(MonotonicClock, "wait_until", wait)
    clock = bench_loop.Telling(told.append)
    for deadline in (10, 20, 30):
        clock.wait_until(deadline)
    assert told == [10] and waited == [10, 20, 30]


def looks(rss: list[float]) -> bench_memory.Looks:
    n = len(rss)
    at = [0.5 * k for k in range(n)]
    return bench_memory.Looks(at, rss, [7] * n, [6] * (n - 1) + [5], {"ticks": 9, "missed": 1}, 1.0, at[-1] - 1)


def test_memory_is_the_peak_and_growth_leaves_out_start_and_end() -> None:
    flat = [20e6, 60e6, 100e6, *[120e6] * 20, 160e6]
    found = {e["name"]: e for e in bench_memory.rows(looks(flat), None, 1.0, {"numpy": 25e6})}
    assert found["live.rss"]["value"] == 160e6 and found["live.rss"]["pass"] is False
    assert found["live.rss"]["params"]["playing"] == 120e6
    assert found["live.growth"]["value"] == 0 and found["live.threads"]["value"] == 0
    grows = [20e6, 60e6, 100e6, *[120e6 + 1e6 * k for k in range(20)], 140e6]
    found = {e["name"]: e for e in bench_memory.rows(looks(grows), None, 1.0, {})}
    assert found["live.growth"]["value"] > 10e6 and found["live.growth"]["pass"] is False
    assert found["live.rss"]["floor"] is None


def test_a_performance_that_was_too_short_is_not_judged() -> None:
    found = bench_memory.rows(looks([1e6, 2e6]), None, 0.01, {})
    assert {e["why"] for e in found} == {"it was too short"} and {e["value"] for e in found} == {None}


def test_turns_alternate_and_the_first_round_only_warms_up() -> None:
    order: list[str] = []

    def turn(name: str) -> Any:
        def run(count: int) -> Any:
            order.append(name)
            return np.full(count, 1e-3)

        return run

    found = in_turns({"a": turn("a"), "b": turn("b")}, 2, 5)
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert len(found["a"]) == len(found["b"]) == 10 and spread(found["a"], 1e3) == (1.0, 1.0, 1.0, 10)
    calls: list[int] = []
    work = timed(calls.append)
    work(2)
    work(2)
    assert calls == [0, 1, 2, 3]


def test_cold_packets_share_no_layout_and_known_ones_do() -> None:
    cold, known = (bench_osc.material(0, cold=c) for c in (True, False))
    assert len({tuple(m.address for m in p) for p in cold}) == len(cold) == len(known)
    assert len({tuple(m.address for m in p) for p in known}) == 7
    assert [len(p) for p in cold] == [len(p) for p in known]


def test_torch_stays_in_a_process_of_its_own() -> None:
    """No module of the live lane but the baseline names torch, and none imports the baseline."""
    for path in (TOP / "choreo_cli" / "live").glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
        names |= {n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
        heavy = {n for n in names if n.split(".")[0] == "torch" or n.endswith("_torch")}
        assert not heavy or path.name == "eager_torch.py", (path.name, heavy)
    modules = [m for m in SUITES if m.startswith("choreo_cli.live.")]
    script = f"import sys, importlib\n[importlib.import_module(m) for m in {modules!r}]\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=TOP, check=True)
    loaded = {m.split(".")[0] for m in done.stdout.split()}
    assert not loaded & {"torch", "onnxruntime", "onnx", "pyarrow", "scipy", "pythonosc"}


def test_a_torch_that_fails_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from choreo_cli.errors import StorageError

    pytest.importorskip("torch")
    nothing = tmp_path / "nothing"
    monkeypatch.setattr(bench_model, "checkpoints", lambda: (nothing, nothing))
    x, mask = np.zeros((3, 11), np.float32), np.ones((3, 4), bool)
    with pytest.raises(StorageError, match="ended") as e, bench_model.torch_child(tmp_path, x, mask):
        pass
    assert "nothing" in str(e.value)


def test_listing_names_the_rows(choreo: Any) -> None:
    done = choreo("bench", "live", "--list", timeout=20)
    assert done.returncode == 0 and {line.split()[0] for line in done.stdout.decode().splitlines()} == set(UNITS)


def test_one_row_alone(choreo: Any) -> None:
    done = choreo("bench", "live", "--quick", "--only", "live.osc_known", "-q")
    assert done.returncode in (0, 1), done.stderr
    assert [e["name"] for e in json.loads(done.stdout)["entries"]] == ["live.load", "live.osc_known"]
