"""The motion network as Core ML ML Programs: float16, then the same with its weights in 6-bit palettes."""

from __future__ import annotations

import json
import logging
import uuid
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.errors import DataError, UnavailableError, UsageError
from choreo_cli.generate.export_graph import EPS, F32, Network, Packed, step, step_inputs
from choreo_cli.generate.export_palette import BITS, FINE, FINE_BITS, Palette, palette, taken
from choreo_cli.generate.export_sampler import Way, sample

COREML_LINE = "pip install 'choreo[coreml]'"
TARGETS = ("iOS18", "iOS17", "iOS16")
OUTPUT = "out"
ALLOWED = frozenset({
    "add", "cast", "concat", "const", "constexpr_lut_to_dense", "gelu", "layer_norm", "linear", "matmul", "mul",
    "reshape", "silu", "softmax", "split", "transpose",
})  # fmt: skip
MOST_AXES = 5


def tools() -> Any:
    """coremltools, without what it says while it loads. Raises UnavailableError without it."""
    loggers = [logging.getLogger(n) for n in ("coremltools", "coremltools.models", "coremltools.libs")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            logging.disable(logging.WARNING)  # which torch and scikit-learn it knows: neither converts anything here
            import coremltools
    except (ImportError, OSError) as e:
        raise UnavailableError(f"Core ML packages need coremltools ({e})", hint=COREML_LINE) from None
    finally:
        logging.disable(logging.NOTSET)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
    return coremltools


def need_target(target: str) -> None:
    """Raise UsageError for a platform that is not built for."""
    if target not in TARGETS:
        raise UsageError(f"--target {target!r} is not supported", hint=f"choose from {', '.join(TARGETS)}")


def grouped(target: str) -> bool:
    """Whether palettes of groups of rows are known to the target."""
    return target == "iOS18"


def palettes(packed: Packed, target: str) -> dict[str, Palette]:
    """A palette for every weight that is large enough, by the name of its product."""
    weights = {n: packed.arrays[f"{n}.weight"] for n in packed.linears}
    found = {}
    for name, weight in weights.items():
        if taken(weight):
            fine = name in FINE
            found[name] = palette(weight, grouped=grouped(target) and not fine, bits=FINE_BITS if fine else BITS)
    return found


class MilOps:
    """`export_graph.Ops` on values of a Core ML program, in float16.

    Args:
        target: iOS18...: which form a palette has.
        chosen: Palettes by product; the others' weights are constants.
    """

    def __init__(self, target: str, chosen: Mapping[str, Palette]) -> None:
        from coremltools.converters.mil import Builder

        self.mb, self.target, self.chosen = Builder, target, chosen
        self.made: dict[str, Any] = {}

    def const(self, name: str, value: NDArray[Any]) -> Any:
        if name not in self.made:
            self.made[name] = self.mb.const(val=np.ascontiguousarray(value, np.float16), name=name.replace(".", "_"))
        return self.made[name]

    def linear(self, x: Any, name: str, weight: F32, bias: F32 | None, frames: int | None) -> Any:
        del frames
        w = self._weight(name, weight)
        b = self.const(f"{name}.bias", np.zeros(len(weight)) if bias is None else bias)
        return self.mb.linear(x=x, weight=w, bias=b)

    def _weight(self, name: str, weight: F32) -> Any:
        if name not in self.chosen:
            return self.const(f"{name}.weight", weight)
        key = f"{name}.weight"
        if key not in self.made:
            self.made[key] = self._palette(self.chosen[name], key.replace(".", "_"))
        return self.made[key]

    def _palette(self, found: Palette, name: str) -> Any:
        if grouped(self.target):
            from coremltools.converters.mil.mil.types.type_mapping import string_to_nptype

            # (groups, 1, entries, 1): one table for each run of rows, all columns, scalars.
            table = found.values[:, None, :, None]
            indices = found.indices.astype(string_to_nptype(f"uint{found.bits}"))
            return self.mb.constexpr_lut_to_dense(indices=indices, lut=table, name=name)
        bits = np.unpackbits(found.indices.reshape(-1, 1), axis=1, bitorder="little")[:, : found.bits]
        packed = np.packbits(bits.reshape(-1), bitorder="little")
        shape = np.array(found.indices.shape, np.uint32)
        return self.mb.constexpr_lut_to_dense(indices=packed, lut=found.values[0], shape=shape, name=name)

    def add(self, a: Any, b: Any) -> Any:
        return self.mb.add(x=a, y=b)

    def mul(self, a: Any, b: Any) -> Any:
        return self.mb.mul(x=a, y=b)

    def matmul(self, a: Any, b: Any, *, transpose: bool = False) -> Any:
        return self.mb.matmul(x=a, y=b, transpose_y=transpose)

    def concat(self, parts: Sequence[Any], axis: int) -> Any:
        return self.mb.concat(values=list(parts), axis=axis)

    def halves(self, x: Any) -> tuple[Any, Any]:
        a, b = self.mb.split(x=x, num_splits=2, axis=0)
        return a, b

    def split(self, x: Any, sizes: Sequence[int], axis: int) -> list[Any]:
        return list(self.mb.split(x=x, split_sizes=list(sizes), axis=axis))

    def reshape(self, x: Any, shape: Sequence[int]) -> Any:
        rest = int(np.prod([n for n in shape if n != -1]))
        return self.mb.reshape(x=x, shape=[int(np.prod(x.shape)) // rest if n == -1 else n for n in shape])

    def transpose(self, x: Any, perm: Sequence[int]) -> Any:
        return self.mb.transpose(x=x, perm=list(perm))

    def softmax(self, x: Any) -> Any:
        return self.mb.softmax(x=x, axis=-1)

    def norm(self, x: Any, width: int) -> Any:
        return self.mb.layer_norm(x=x, axes=[-1], epsilon=np.float16(EPS))

    def gelu(self, x: Any) -> Any:
        return self.mb.gelu(x=x, mode="TANH_APPROXIMATION")

    def silu(self, x: Any) -> Any:
        return self.mb.silu(x=x)


def write_package(file: Path, packed: Packed, way: Way | None, target: str, chosen: Mapping[str, Palette]) -> list[str]:
    """Write the step graph, or a whole sampler, for one clip.

    Args:
        file: The package, a folder.
        packed: The network.
        way: Of the sampler; None for the step.
        target: iOS18...
        chosen: Palettes.

    Returns:
        Names of the products whose weights the graph uses as palettes: a sampler has its times worked out already.
    """
    ct = tools()
    shapes = step_inputs(packed.shape, 1) if way is None else way.inputs(packed.shape, 1)
    from coremltools.converters.mil import Builder as mb
    from coremltools.converters.mil.mil import Function, Program

    version = getattr(ct.target, target)
    ops = MilOps(target, chosen)
    net = Network(ops, packed)
    placeholders = {n: mb.placeholder(tuple(s)) for n, s in shapes.items()}
    with Function(placeholders, opset_version=version) as function:
        inputs = {n: mb.cast(x=function.inputs[n], dtype="fp16") for n in shapes}
        out = step(net, inputs) if way is None else sample(net, inputs, way)
        function.set_outputs([mb.cast(x=out, dtype="fp32", name=OUTPUT)])
    program = Program()
    program.add_function("main", function)
    with _quiet():
        model = ct.convert(
            program, convert_to="mlprogram", minimum_deployment_target=version, skip_model_load=True,
            compute_precision=ct.precision.FLOAT32,  # the program says itself what is float16
        )  # fmt: skip
        model.save(str(file))
    _settle(file, model.get_spec())
    return [n for n in chosen if f"{n}.weight" in ops.made]


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars and no remarks of coremltools."""
    from unittest import mock

    import tqdm

    real = tqdm.tqdm

    def silent(*args: Any, **kwargs: Any) -> Any:
        return real(*args, **{**kwargs, "disable": True})

    logging.disable(logging.WARNING)
    try:
        with (
            warnings.catch_warnings(),
            mock.patch("coremltools.converters.mil.mil.passes.pass_pipeline.tqdm", silent, create=False),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def _settle(file: Path, spec: Any) -> None:
    """Equal programs as equal bytes: the program written in a fixed order, random names of its parts made to follow."""
    inner = file / "Data" / "com.apple.CoreML" / "model.mlmodel"
    inner.write_bytes(spec.SerializeToString(deterministic=True))
    table = file / "Manifest.json"
    doc = json.loads(table.read_text(encoding="utf-8"))
    parts, names = {}, {}
    for old, item in doc["itemInfoEntries"].items():
        names[old] = str(uuid.uuid5(uuid.NAMESPACE_URL, f"choreo:{item['path']}")).upper()
        parts[names[old]] = item
    doc["itemInfoEntries"] = dict(sorted(parts.items()))
    doc["rootModelIdentifier"] = names[doc["rootModelIdentifier"]]
    table.write_text(json.dumps(doc, indent=4, sort_keys=True) + "\n", encoding="utf-8")


def runtime(file: Path) -> Any:
    """A package as a callable on inputs by name, computed by Core ML: on a Mac only."""
    model = tools().models.MLModel(str(file))

    def run(inputs: Mapping[str, F32]) -> F32:
        names = [i.name for i in model.get_spec().description.input]
        return np.asarray(model.predict({n: np.asarray(inputs[n], np.float32) for n in names})[OUTPUT], np.float32)

    return run


def check_program(program: Any, what: str, palette_names: Sequence[str]) -> list[str]:
    """Hold a written program to its rules; its operations, sorted.

    Args:
        program: As `coreml_reference.load` reads it.
        what: Name of the graph, for the message.
        palette_names: Products whose weights must be palettes in it.

    Raises:
        DataError: an operation outside the list, a value of more than 5 axes or of no fixed shape, or a weight that was
            left as it is although it should have become a palette.
    """
    found = list(program.operations)
    kinds = sorted({op.op_type for op in found})
    odd = sorted(set(kinds) - ALLOWED)
    if odd:
        raise DataError(f"{what}: operation {odd[0]!r} is not on the list", hint="nothing was written")
    for op in found:
        for value in op.outputs:
            shape = value.shape or ()
            if len(shape) > MOST_AXES:
                raise DataError(f"{what}: {value.name} has {len(shape)} axes, at most {MOST_AXES} are allowed")
            if not all(isinstance(n, int | np.integer) for n in shape):
                raise DataError(f"{what}: {value.name} has no fixed shape: {shape}")
    there = {op.name.removesuffix("_weight") for op in found if op.op_type == "constexpr_lut_to_dense"}
    skipped = sorted({n.replace(".", "_") for n in palette_names} - there)
    if skipped:
        raise DataError(f"{what}: {skipped[0]!r} was left out of the palettes", hint="nothing was written")
    return kinds
