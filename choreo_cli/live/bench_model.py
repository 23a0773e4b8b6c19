"""Measure the model part of a frame beside torch eager, and the variants that are kept or rejected by their figure."""

from __future__ import annotations

import hashlib
import json
import logging
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.errors import StorageError, UnavailableError
from choreo_cli.live.contest import F64, Spread, Turn, in_turns, spread, timed
from choreo_cli.live.demo_source import checkpoints, examples
from choreo_cli.live.model import ATOL, LiveModel, probe
from choreo_cli.reflex.mapper import model_latents
from formats.metrics import Named, entry

F32 = NDArray[np.float32]
Bool = NDArray[np.bool_]

P50_MS = 0.12
TIMES_EAGER = 6.0
EAGER = "torch eager, p50"
NO_TORCH = "torch is not installed: pip install 'choreo[train]'"


def bench(*, rounds: int = 60, count: int = 50) -> list[dict[str, Any]]:
    """Metric entries of the model part.

    Args:
        rounds: Rounds in which every contestant has its turn.
        count: Frames of a turn.
    """
    with tempfile.TemporaryDirectory(prefix="choreo-bench-") as name:
        folder = Path(name)
        x, mask = demo_rows()
        model = LiveModel.open(*checkpoints())
        runs = {"numpy": stepping(model, x, mask), "floor": timed(products(model))}
        facts: dict[str, dict[str, Any]] = {"numpy": {"differs": model.parity}}
        missing = _add_onnx(runs, facts, folder, x, mask)
        with torch_child(folder, x, mask) as child:
            if isinstance(child, str):
                missing |= {"eager": child, "jit": child}
            else:
                runs |= child.turns()
                facts |= child.facts
                missing |= child.missing
            found = in_turns(runs, rounds, count)
    return rows({k: spread(v, 1e3) for k, v in found.items()}, facts, missing)


def demo_rows() -> tuple[F32, Bool]:
    """Frames (N, 11) and masks (N, 4) of the bundled session."""
    from choreo_cli.dataset.frameset import read_frames

    found = read_frames(examples() / "live" / "demo_frames.parquet")
    return np.array(found.x, np.float32), np.array(found.mask, bool)


def stepping(model: LiveModel, x: F32, mask: Bool) -> Turn:
    """Frames one after the other, round and round."""
    step, n = model.step, len(x)
    return timed(lambda k: step(x[k % n], mask[k % n]))


def products(model: LiveModel) -> Any:
    """The five products of a frame and nothing else: what no form that multiplies gets below."""
    units, n, size = len(model.rps.hidden[0]), model.mapper.hidden, model.window if model.mode == "window" else 1
    shapes = ((units, 12), (104, units), (3 * n, 104), (3 * n, n), (5, n))
    rng = np.random.default_rng(0)
    pairs = []
    for rows_, columns in shapes:
        right = (columns, size) if (rows_, columns) == (3 * n, n) else (columns,)
        a, b = (rng.standard_normal(s).astype(np.float32) for s in ((rows_, columns), right))
        pairs.append((a, b, np.empty((rows_, *right[1:]), np.float32)))

    def run(_: int) -> None:
        for a, b, out in pairs:
            np.dot(a, b, out=out)

    return run


def differs(model: LiveModel) -> float:
    """Largest difference of the controls from the plain forms over the probe."""
    x, mask = probe()
    wanted = model.mapper.controls(model_latents(model.rps, x, mask, model.mapper.normalized))
    model.reset()
    return max(float(np.abs(model.step(x[k], mask[k])[1] - wanted[k]).max()) for k in range(len(x)))


def _add_onnx(
    runs: dict[str, Turn], facts: dict[str, dict[str, Any]], folder: Path, x: F32, mask: Bool
) -> dict[str, str]:
    """ONNX Runtime as it is and with dynamic int8 weights; says why one is missing."""
    try:
        model = LiveModel.open(*checkpoints(), engine="onnx")
    except UnavailableError as e:
        return {"onnx": str(e), "int8": str(e)}
    runs["onnx"], facts["onnx"] = stepping(model, x, mask), {"differs": model.parity}
    try:
        small, nodes = quantised(folder)
    except ImportError as e:
        return {"int8": f"onnxruntime.quantization cannot be imported: {e}"}
    runs["int8"], facts["int8"] = stepping(small, x, mask), {"differs": differs(small), "nodes": nodes}
    return {}


def quantised(folder: Path) -> tuple[LiveModel, dict[str, list[str]]]:
    """The model with dynamic int8 products, and the operators of each part; ONNX Runtime has no int8 GRU."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    from choreo_cli.live import onnx_steps

    model = LiveModel.open(*checkpoints())
    sessions, nodes = {}, {}
    root = logging.getLogger()
    handlers = list(root.handlers)
    logging.disable(logging.WARNING)  # it recommends a preparation for static quantisation
    try:
        for part, source in zip(("rps", "mapper"), checkpoints(), strict=True):
            home = folder / f"int8-{part}"
            home.mkdir()
            made = home / onnx_steps.TWIN
            quantize_dynamic(source / onnx_steps.TWIN, made, weight_type=QuantType.QInt8)
            nodes[part] = sorted({n.op_type for n in onnx.load(made).graph.node if "Integer" in n.op_type})
            sessions[part] = onnx_steps.session(home, hashlib.sha256(made.read_bytes()).hexdigest())
    finally:
        logging.disable(logging.NOTSET)
        root.handlers = handlers
    model.latents = onnx_steps.OnnxRps(sessions["rps"], model.mapper.normalized)
    model.controls = onnx_steps.OnnxWindow(sessions["mapper"], model.mapper)
    model.engine = "onnx"
    return model, nodes


class Child:
    """Torch in a process of its own, which works while we wait and waits while we work."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        ready = self._answer()
        self.missing: dict[str, str] = ready["missing"]
        self.facts = {k: {"differs": d, "torch": ready["torch"]} for k, d in ready["differs"].items()}

    def turns(self) -> dict[str, Turn]:
        """Its contestants."""
        return {name: self._turn(name) for name in self.facts}

    def _turn(self, name: str) -> Turn:
        def turn(count: int) -> F64:
            assert self._process.stdin is not None
            self._process.stdin.write(f"{name} {count}\n")
            self._process.stdin.flush()
            return np.asarray(self._answer(), np.float64) / 1e9

        return turn

    def _answer(self) -> Any:
        assert self._process.stdout is not None and self._process.stderr is not None
        line = self._process.stdout.readline()
        if not line:
            said = self._process.stderr.read().strip().rpartition("\n")[2]
            raise StorageError("torch in a process of its own ended", hint=f"it said: {said[-200:]}")
        return json.loads(line)


@contextmanager
def torch_child(folder: Path, x: F32, mask: Bool) -> Iterator[Child | str]:
    """The torch contestants, or why there are none."""
    from importlib.util import find_spec

    if find_spec("torch") is None:
        yield NO_TORCH
        return
    frames = folder / "frames.npz"
    np.savez(frames, x=x, mask=mask)
    top = str(Path(__file__).resolve().parents[2])
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from choreo_cli.live.eager_torch import serve; "
        "serve(*sys.argv[2:])"
    )
    words = [sys.executable, "-c", code, top, *map(str, checkpoints()), str(frames)]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            yield Child(process)
        finally:
            process.kill()


def rows(
    took: Mapping[str, Spread], facts: Mapping[str, Mapping[str, Any]], missing: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Entries from milliseconds a frame."""
    ours, floor = took["numpy"], ("its five products alone, p50", took["floor"].p50)
    eager = None if "eager" not in took else (EAGER, took["eager"].p50)
    params = {"engine": "numpy", **ours.facts(), **facts["numpy"], "floor_p95": round(took["floor"].p95, 5)}
    if eager is not None:
        params |= {"times_faster": round(eager[1] / ours.p50, 2), "eager": {**took["eager"].facts(), **facts["eager"]}}
    shared: dict[str, Any] = {"n": ours.n, "baseline": eager, "floor": floor, "params": params}
    return [
        entry("live.model", ours.p50, "ms", "lower", goal=("<=", P50_MS), **shared),
        entry(
            "live.model_eager", ours.p50, "ms", "lower",
            goal=None if eager is None else ("<=", eager[1] / TIMES_EAGER),
            why=missing.get("eager"), **shared,
        ),
        *(variant(name, took, facts, missing, floor) for name in ("onnx", "int8", "jit")),
    ]  # fmt: skip


def variant(
    name: str,
    took: Mapping[str, Spread],
    facts: Mapping[str, Mapping[str, Any]],
    missing: Mapping[str, str],
    floor: Named,
) -> dict[str, Any]:
    """A variant beside the form that is in use: kept when it is faster and equal to 1e-5, else rejected."""
    row = f"live.model_{name}"
    if name in missing:
        return entry(row, None, "ms", "lower", why=missing[name])
    mine, ours = took[name], took["numpy"]
    faults = []
    if mine.p50 > ours.p50:
        faults.append(f"{mine.p50:.3f} ms against {ours.p50:.3f} ms of numpy")
    if not facts[name]["differs"] <= ATOL:
        faults.append(f"controls differ by {facts[name]['differs']:.1g}, at most {ATOL:g} is allowed")
    params = {**mine.facts(), **facts[name], "verdict": "rejected" if faults else "kept"}
    return entry(
        row, mine.p50, "ms", "lower", n=mine.n, baseline=("numpy, p50", ours.p50), floor=floor,
        goal=("<=", ours.p50), params=params, why=f"rejected: {'; '.join(faults)}" if faults else None,
    )  # fmt: skip
