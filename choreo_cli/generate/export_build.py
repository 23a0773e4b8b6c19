"""Graphs of one format, written into a folder and compared with the torch network before anybody may have them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.errors import DataError, StorageError
from choreo_cli.generate import export_proof as proof
from choreo_cli.generate.config import CHANNELS
from choreo_cli.generate.export_graph import Packed, pack, step_inputs
from choreo_cli.generate.export_sampler import WEIGHT, Way
from choreo_cli.generate.model_files import Model, torch_forward
from choreo_cli.generate.onnx_step import NAMES, need_onnx, runner
from choreo_cli.generate.sampling import Forward
from formats import export_card
from formats.export_card import Graph, Proof

F32 = NDArray[np.float32]
Say = Callable[[str], None]
# Root mean square of the error in standard deviations of the channels, of a whole sample (over the pose channels) and
# of one answer. The worst of 9 samples of a trained dancer was .033 with palettes of rows, .062 without.
ALLOWED = {"float16": (5e-3, 1e-2), "palette6": (8e-2, 6e-2)}
PALETTE_SHARE = 0.45  # of the float16 package's bytes


@dataclass(slots=True)
class Built:
    """What was built.

    Args:
        graphs: Graphs, proved.
        status: Words of the proof.
        limits: What it does not say.
    """

    status: str
    graphs: list[Graph] = field(default_factory=list)
    limits: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Work:
    """A model that is exported.

    Args:
        model: The checkpoint.
        steps: Steps of the whole samplers.
        say: Told what is being done.
    """

    model: Model
    steps: Sequence[int]
    say: Say
    forward: Forward = field(init=False)
    packed: Packed = field(init=False)
    ways: dict[int, Way] = field(init=False)

    def __post_init__(self) -> None:
        self.forward = torch_forward(self.model.network())
        self.packed = pack(self.model.shape, self.model.checkpoint.arrays)
        self.ways = {n: proof.way_of(self.model, n) for n in self.steps}

    def parts(self, *, rounding: bool) -> list[tuple[str, Way | None, list[proof.Case]]]:
        """(name, how it is sampled or None, what it must reproduce for one clip) of every graph.

        Args:
            rounding: Measure that of float32, for graphs which are as exact as it.
        """
        shape = self.model.shape
        found: list[tuple[str, Way | None, list[proof.Case]]] = [
            ("step", None, proof.step_cases(shape, self.forward)),
        ]
        exact = torch_forward(self.model.network().double()) if rounding else None
        for n, way in self.ways.items():
            found.append((f"sampler{n}", way, proof.sampler_cases(self.model, self.forward, way, exact)))
        return found

    def graph(
        self, name: str, way: Way | None, path: str, size: int, batch: Any, precision: str, operations: Sequence[str],
        proofs: Sequence[Proof], **facts: Any,
    ) -> Graph:  # fmt: skip
        """The sidecar's record of a graph."""
        shape = self.model.shape
        inputs = step_inputs(shape, batch) if way is None else way.inputs(shape, batch)
        return Graph(
            name=name, path=path, precision=precision, bytes=size, inputs=inputs,  # type: ignore[arg-type]
            outputs={"out": [batch, shape.frames, CHANNELS]}, steps=None if way is None else way.plan.steps,
            rows=1 if way is None else way.rows(shape), operations=sorted(operations), proofs=list(proofs), facts=facts,
        )  # fmt: skip


def build_onnx(work: Work, folder: Path) -> Built:
    """ONNX files with a free batch, run in ONNX Runtime for one clip and for two.

    Raises:
        DataError: a difference above 1e-5 (of whole samples above their rounding, see `export_proof`), or an operation
            that is not on the list.
        UnavailableError: onnx or ONNX Runtime is missing.
    """
    need_onnx()
    from choreo_cli.generate import export_onnx as onnx

    built, model = Built(export_card.ONNXRUNTIME), work.model
    for name, way, cases in work.parts(rounding=True):
        work.say(f"{name}.onnx")
        told = (model.recipe, model.identity)
        data = onnx.step_model(work.packed, *told) if way is None else onnx.sampler_model(work.packed, way, *told)
        kinds = onnx.operations(data)
        odd = sorted(kinds - onnx.ALLOWED)
        if odd:
            raise DataError(f"{name}: operation {odd[0]!r} is not on the list", hint="nothing was written")
        run = runner(data)
        proofs = proof.prove(run, cases, "onnxruntime", name)
        proofs += proof.prove(run, doubled(cases), "onnxruntime, 2 clips", name)
        (folder / f"{name}.onnx").write_bytes(data)
        built.graphs.append(
            work.graph(
                name, way, f"{name}.onnx", len(data), "batch", "float32", sorted(kinds), proofs, opset=onnx.OPSET
            )
        )
    return built


def doubled(cases: Sequence[proof.Case]) -> list[proof.Case]:
    """Two clips at once: each task beside the next one, and beside itself in a sampler, which has one weight."""
    found = []
    for a, b in zip(cases, [*cases[1:], cases[0]], strict=True):
        other = a if WEIGHT in a.inputs else b
        inputs = {k: v if k == WEIGHT else np.concatenate([v, other.inputs[k]]) for k, v in a.inputs.items()}
        expected = np.concatenate([a.expected, other.expected])
        found.append(proof.Case(a.task, inputs, expected, max(a.rounding, other.rounding), a.halves))
    return found


def build_mlx(work: Work, folder: Path) -> Built:
    """MLX functions and the weights beside them, read again and run.

    Raises:
        DataError: a difference above 1e-5, of whole samples above their rounding.
        UnavailableError: MLX is missing.
    """
    from choreo_cli.generate import export_mlx as mlx
    from choreo_cli.generate.mlx_net import mlx_forward, need_mlx
    from formats import tensors

    need_mlx()
    built = Built(mlx.status())
    if built.status == export_card.MLX_CPU:
        built.limits.append("computed by MLX's CPU part on Linux: no figure of speed follows, and no GPU has run it")
    model, shape = work.model, work.model.shape
    native = mlx_forward(model)
    for name, way, cases in work.parts(rounding=True):
        work.say(f"{name}{mlx.SUFFIX}")
        file = folder / f"{name}{mlx.SUFFIX}"
        with storage(file):
            if way is None:
                mlx.write_step(file, work.packed, model.checkpoint.arrays)
            else:
                mlx.write_sampler(file, work.packed, way)
        inputs = step_inputs(shape) if way is None else way.inputs(shape, 1)
        proofs = proof.prove(mlx.runner(file, list(inputs)), cases, "mlx", name)
        if way is None:
            proofs += proof.prove(_in_order(native), cases, "mlx, from the weights", name)
        size = file.stat().st_size
        batch = "batch" if way is None else 1
        built.graphs.append(work.graph(name, way, file.name, size, batch, "float32", [], proofs))
    (folder / "model.safetensors").write_bytes(tensors.encode(model.checkpoint.arrays, {"choreo.recipe": model.recipe}))
    return built


def _in_order(forward: Forward) -> Callable[[Mapping[str, F32]], F32]:
    return lambda inputs: forward(*(inputs[n] for n in NAMES))


def build_coreml(work: Work, folder: Path, target: str) -> Built:
    """Core ML packages in float16 and with 6-bit palettes, run by the reference executor, on a Mac by Core ML itself.

    Raises:
        DataError: an operation, shape or size that is not allowed, or too large a difference.
        UnavailableError: coremltools is missing.
    """
    from choreo_cli.generate import coreml_reference as reference
    from choreo_cli.generate import export_coreml as coreml

    coreml.tools()
    mac = sys.platform == "darwin"
    built = Built(export_card.COREML if mac else export_card.REFERENCE, limits=[] if mac else list(reference.LIMITS))
    found = coreml.palettes(work.packed, target)
    kinds_of = {n: {"bits": p.bits, "groups": p.groups} for n, p in found.items()}
    for name, way, cases in work.parts(rounding=False):
        sizes: dict[str, int] = {}
        for precision, chosen in (("float16", {}), ("palette6", found)):
            file = folder / f"{name}-{precision}.mlpackage"
            work.say(file.name)
            with storage(file):
                used = coreml.write_package(file, work.packed, way, target, chosen)
            program = reference.load(file)
            kinds = coreml.check_program(program, name, used)
            limit = ALLOWED[precision][way is None]
            proofs = []
            for half, by in ((False, "reference-executor f32"), (True, "reference-executor f16")):
                run = reference.Reference(program, half=half)
                proofs += proof.prove(run, cases, by, f"{name} {precision}", allowed=limit, measure="rms")
            if mac:
                run = coreml.runtime(file)
                proofs += proof.prove(run, cases, "coreml-runtime", name, allowed=limit, measure="rms")
            sizes[precision] = size = folder_bytes(file)
            facts: dict[str, Any] = {"compute_plan": None}
            if precision == "palette6":
                share = size / sizes["float16"]
                need_share(name, share)
                facts |= {"share_of_float16": round(share, 4), "palettes": {n: kinds_of[n] for n in used}}
            built.graphs.append(work.graph(name, way, file.name, size, 1, precision, kinds, proofs, **facts))
    return built


def need_share(name: str, share: float) -> None:
    """Raise DataError for palettes that save too little."""
    if share > PALETTE_SHARE:
        raise DataError(
            f"{name}: with palettes {share:.1%} of the float16 package, at most {PALETTE_SHARE:.0%} is allowed",
            hint="nothing was written",
        )


def folder_bytes(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())


@contextmanager
def storage(file: Path) -> Iterator[None]:
    """What the writers of other libraries raise on a full disk, as one line about the file."""
    try:
        yield
    except RuntimeError as e:
        said = " ".join(str(e).split())[:120]
        raise StorageError(f"cannot write {file.name}: {said}", hint="nothing half-written is left") from e
