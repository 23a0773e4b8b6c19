"""Measure generation: one evaluation and whole clips in every form that runs here, beside arithmetic and DDIM-50.

Weights are random: how long a network takes does not depend on what it has learned. Floors are the multiplications and
additions of its matrix products over the rate at which this core multiplies matrices in the same turns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from choreo_cli.generate import bench_network as nets
from choreo_cli.generate.bench_turns import Job, Took, in_turns, matrix_jobs, rate
from choreo_cli.generate.config import FPS, TINY, Shape
from choreo_cli.generate.guidance import Guidance
from formats.metrics import entry

FLOOR_TIMES = {1: 2.3, 2: 1.9}
TIMES_EAGER = 1.5
RATE_ASKED = 70.0  # GFLOP/s from which the milliseconds of a clip are judged
CLIP_MS = {"clip_cfg": 40.0, "clip_distilled": 8.0}
TIMES_LARGE = 250.0
STEPS = (1, 2, 4, 10)
WEIGHT = 2.0
SHAPE = Shape(blocks=TINY.blocks, width=TINY.width, heads=TINY.heads)
CLIP_S = SHAPE.frames / FPS
NO_TORCH = "torch is not installed: pip install 'choreo[train]'"
NO_ONNX = "ONNX Runtime is not installed: pip install 'choreo[onnx]'"


def bench(*, rounds: int = 15, count: int = 10, clips: int = 5) -> list[dict[str, Any]]:
    """Metric entries of evaluation and clips.

    Args:
        rounds: Rounds in which every contestant has its turn.
        count: Evaluations of a turn.
        clips: Rounds of whole clips, one clip a turn.
    """
    missing = _missing()
    return [*steps(rounds, count, missing), *samples(clips, missing)]


def _missing() -> dict[str, str]:
    """Why ONNX Runtime or torch cannot be timed; empty where they can."""
    from importlib.util import find_spec

    onnx = all(find_spec(n) for n in ("onnx", "onnxruntime"))
    return {} if onnx and find_spec("torch") else {"all": NO_TORCH if onnx else NO_ONNX}


def steps(rounds: int, count: int, missing: Mapping[str, str]) -> list[dict[str, Any]]:
    """One evaluation of Tiny at T=64, for one clip and for two (guidance), against the floor and torch eager.

    Judged by the time the core was busy: what else runs on the machine shows in `p50_ms` and `p95_ms`.
    """
    names = ("generate.step_b1", "generate.step_b2", "generate.step_eager")
    if missing:
        return [entry(n, None, "ms", "lower", why=missing["all"]) for n in names]
    run, net = _onnx_step(), _torch(SHAPE)
    jobs: dict[str, Job] = dict(matrix_jobs())
    for batch in (1, 2):
        feeds = nets.step_feeds(SHAPE, batch)
        jobs[f"onnx {batch}"] = _call(run, feeds)
        jobs[f"eager {batch}"] = _call(_by_name(net), feeds)
    took = in_turns(jobs, rounds, count)
    per_ms, told = rate(took)
    rows = []
    for batch, times in FLOOR_TIMES.items():
        ours, eager = took[f"onnx {batch}"], took[f"eager {batch}"]
        floor = nets.operations(SHAPE, batch) / per_ms
        params = {
            **told, **ours.facts(), "batch": batch, "mflop": round(nets.operations(SHAPE, batch) / 1e6, 1),
            "times_floor": round(ours.busy / floor, 3), "times_faster_than_eager": round(eager.busy / ours.busy, 3),
            "eager": eager.facts(), "weights": "random", "parameters": nets.parameters(SHAPE),
        }  # fmt: skip
        shared: dict[str, Any] = {
            "n": len(ours.wall), "baseline": ("torch eager", eager.busy), "params": params,
            "floor": ("arithmetic at the measured matrix rate", floor),
        }  # fmt: skip
        rows.append(entry(f"generate.step_b{batch}", ours.busy, "ms", "lower", goal=("<=", times * floor), **shared))
        if batch == 1:
            goal = ("<=", eager.busy / TIMES_EAGER)
            rows.append(entry("generate.step_eager", ours.busy, "ms", "lower", goal=goal, **shared))
    return rows


def samples(rounds: int, missing: Mapping[str, str]) -> list[dict[str, Any]]:
    """Clips of 2.13 s by step count and backend, beside DDIM-50 of the same backend; and the size of EDGE's network."""
    rows = [_absent(kind, why) for kind, why in nets.backends().items() if why]
    if missing:
        names = ("generate.sample", *(f"generate.{n}" for n in CLIP_MS), "generate.large")
        return [*rows, *(entry(n, None, "ms", "lower", why=missing["all"]) for n in names)]
    jobs: dict[str, Job] = dict(matrix_jobs())
    jobs |= _clips("onnx", _forward(_onnx_step()))
    jobs |= _clips("torch", _torch(SHAPE))
    jobs |= _graphs()
    for kind in ("cuda", "mps"):
        if not nets.backends()[kind]:
            jobs |= _clips(kind, _torch(SHAPE, kind))
    jobs |= _apple()
    jobs["large"] = _large()
    took = in_turns(jobs, rounds)
    per_ms, told = rate(took)
    return [*rows, *_sample_rows(took, per_ms, told), *_clip_rows(took, per_ms, told), _large_row(took, per_ms, told)]


@lru_cache(maxsize=16)
def rows_of(steps_: int, process: str = "flow") -> int:
    """Rows that go through the network for a clip with guidance: two where it holds, else one."""
    seen: list[int] = []

    def counted(*inputs: Any) -> Any:
        seen.append(len(inputs[0]))
        return inputs[0]

    _drawn(nets.sampler(counted, SHAPE, process, WEIGHT), steps_)
    return sum(seen)


def _sample_rows(took: Mapping[str, Took], per_ms: float, told: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = []
    for name, times in took.items():
        if not name.startswith("sample."):
            continue
        _, backend, form = name.split(".")
        slow = took.get(f"sample.{backend}.ddim50") or took["sample.onnx.ddim50"]
        rows = rows_of(50, "ddim") if form == "ddim50" else rows_of(int(form))
        floor = rows * nets.operations(SHAPE) / per_ms
        on_core = backend in ("onnx", "torch", "graph")
        params = {
            **told, **times.facts(), "rows": rows, "clip_s": round(CLIP_S, 4), "guidance": WEIGHT, "weights": "random",
            "less_arithmetic_than_ddim50": round(rows_of(50, "ddim") / rows, 2),
        }  # fmt: skip
        found.append(
            entry(
                f"generate.{name}", times.p50, "ms", "lower", n=len(times.wall), params=params,
                baseline=None if form == "ddim50" else ("DDIM-50, same backend, p50", slow.p50),
                floor=("arithmetic at the measured matrix rate", floor) if on_core else None,
            )
        )  # fmt: skip
    return found


def _clip_rows(took: Mapping[str, Took], per_ms: float, told: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The two clips that are judged: four guided steps, and one step of a distilled network, each as one graph.

    By the time of the core, as the goal says; the wall's is in `params`.
    """
    found = []
    for name, job, rows in (("clip_cfg", "sample.graph.4", rows_of(4)), ("clip_distilled", "distilled", 1)):
        times = took[job]
        slow = told["matrix_gflops"] < RATE_ASKED
        why = f"this core multiplies at {told['matrix_gflops']:g} GFLOP/s, the goal is for {RATE_ASKED:g}"
        found.append(
            entry(
                f"generate.{name}", times.busy, "ms", "lower", n=len(times.wall), goal=("<=", CLIP_MS[name]),
                baseline=("DDIM-50 in torch eager", took["sample.torch.ddim50"].busy),
                floor=("arithmetic at the measured matrix rate", rows * nets.operations(SHAPE) / per_ms),
                params={**told, **times.facts(), "rows": rows, "clip_s": round(CLIP_S, 4), "weights": "random"},
                why=why if slow else None,
            )
        )  # fmt: skip
    return found


def _large_row(took: Mapping[str, Took], per_ms: float, told: Mapping[str, Any]) -> dict[str, Any]:
    """Core-seconds per second of dance, four guided steps, against a network of the size of EDGE's."""
    shape, times = nets.LARGE, took["large"]
    theirs = nets.LARGE_STEPS * times.busy / 1e3 / nets.SECONDS
    ours = took["sample.graph.4"].busy / 1e3 / CLIP_S
    floor = rows_of(4) * nets.operations(SHAPE) / per_ms / 1e3 / CLIP_S
    params = {
        **told, "parameters": nets.parameters(shape), "frames": shape.frames, "steps": nets.LARGE_STEPS, "branches": 2,
        "forward_ms": times.facts(), "gflop": round(nets.operations(shape) / 1e9, 2), "weights": "random",
        "architecture": "ours, of the size that EDGE's is reported with; one guided evaluation timed, times 50",
        "ours_ms": took["sample.graph.4"].facts(), "times_less": round(theirs / ours, 1),
    }  # fmt: skip
    return entry(
        "generate.large", ours, "core-s/s", "lower", n=len(times.wall), params=params,
        baseline=("49.5 M parameters, T=150, 50 steps x 2, torch eager", theirs), goal=("<=", theirs / TIMES_LARGE),
        floor=("arithmetic at the measured matrix rate", floor),
    )  # fmt: skip


def _absent(kind: str, why: str) -> dict[str, Any]:
    return entry(f"generate.sample.{kind}", None, "ms", "lower", why=f"not measured: {why}")


def _clips(backend: str, forward: Any) -> dict[str, Job]:
    """Clips by the host's own loop."""
    flow = nets.sampler(forward, SHAPE, "flow", WEIGHT)
    ddim = nets.sampler(forward, SHAPE, "ddim", WEIGHT)
    jobs: dict[str, Job] = {f"sample.{backend}.{n}": _sampled(flow, n) for n in STEPS}
    return {**jobs, f"sample.{backend}.ddim50": _sampled(ddim, 50)}


def _sampled(sampler: Any, count: int) -> Job:
    return lambda: _drawn(sampler, count)


def _drawn(sampler: Any, count: int) -> Any:
    return sampler.sample(np.zeros((SHAPE.frames, SHAPE.audio_width), np.float32), steps=count)


def _graphs() -> dict[str, Job]:
    """Whole samplers as one graph each, and the one of a distilled network: one row, no weight."""
    from choreo_cli.generate.export_onnx import sampler_model
    from choreo_cli.generate.export_plan import plan_of
    from choreo_cli.generate.export_sampler import Way
    from choreo_cli.generate.flow import Flow
    from choreo_cli.generate.onnx_step import runner

    packed = nets.packed_network(SHAPE)
    jobs: dict[str, Job] = {}
    for name, count, baked in (*((f"sample.graph.{n}", n, False) for n in (1, 2, 4)), ("distilled", 1, True)):
        way = Way(plan_of(Flow(), count, "euler"), Guidance(WEIGHT), baked=baked)
        feeds = nets.sampler_feeds(SHAPE, way.inputs(SHAPE))
        jobs[name] = _call(runner(sampler_model(packed, way, "flow", "0" * 64)), feeds)
    return jobs


def _apple() -> dict[str, Job]:
    """MLX on a Mac; Core ML there is timed by Bench.swift, whose process is the one that counts."""
    if nets.backends()["mlx"]:
        return {}
    from choreo_cli.generate.mlx_net import arrays_forward

    return _clips("mlx", arrays_forward(SHAPE, nets.arrays_of(SHAPE)))


def _large() -> Job:
    net = _torch(nets.LARGE)
    return _call(_by_name(net), nets.step_feeds(nets.LARGE, 2))


def _onnx_step() -> Any:
    from choreo_cli.generate.export_onnx import step_model
    from choreo_cli.generate.onnx_step import runner

    return runner(step_model(nets.packed_network(SHAPE), "flow", "0" * 64))


def _torch(shape: Shape, device: str = "cpu") -> Callable[..., Any]:
    import torch

    from choreo_cli.generate.model_files import torch_forward

    torch.set_num_threads(1)
    return torch_forward(nets.torch_network(shape, device), device)


def _call(run: Callable[[Any], Any], feeds: Mapping[str, Any]) -> Job:
    return lambda: run(feeds)


def _by_name(net: Callable[..., Any]) -> Callable[[Any], Any]:
    return lambda told: net(*told.values())


def _forward(run: Any) -> Any:
    names = list(nets.step_feeds(SHAPE, 1))
    return lambda *inputs: run(dict(zip(names, inputs, strict=True)))
