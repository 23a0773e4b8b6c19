"""Latency measured on a device, `device-bench.json`: what `Bench.swift` writes and `choreo bench generate` takes in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from formats import jsonstrict
from formats.errors import FormatError

SCHEMA = "choreo.device-bench/1"
FEWEST = 20
Milliseconds = Annotated[float, Meta(gt=0, lt=1e6)]
Text = Annotated[str, Meta(min_length=1, max_length=200)]


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class Device(_Strict, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What measured.

    Args:
        model: Its name as the system gives it, `iPhone16,1`.
        os: `iOS 18.1`.
        simulator: A simulator, which says nothing about a phone.
        low_power: Low power mode was on.
        thermal: State of heat when it ended.
    """

    model: Text
    os: Text
    simulator: bool
    low_power: bool
    thermal: Literal["nominal", "fair", "serious", "critical"]


class Latency(_Strict, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One graph with one choice of processors.

    Args:
        graph: `step`, `sampler4`...
        precision: float16 or palette6.
        units: Processors that were allowed.
        warmup, n: Predictions before and while it was timed; at least 20 are.
        load_ms: Loading the compiled model.
        p50_ms, p95_ms: Milliseconds of a prediction.
    """

    graph: Annotated[str, Meta(pattern="^(step|sampler[0-9]{1,3})$")]
    precision: Literal["float32", "float16", "palette6"]
    units: Literal["all", "cpuOnly", "cpuAndGPU", "cpuAndNeuralEngine"]
    warmup: Annotated[int, Meta(ge=0)]
    n: Annotated[int, Meta(ge=FEWEST)]
    load_ms: Milliseconds
    p50_ms: Milliseconds
    p95_ms: Milliseconds


class DeviceBench(_Strict, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """See the module.

    Args:
        schema: `choreo.device-bench/1`.
        weights: sha256 of the checkpoint's weights, from the sidecar of the package that ran.
        device: What measured.
        frames, fps: Length of what is made, from the sidecar.
        measured: Figures.
    """

    schema: Literal["choreo.device-bench/1"]
    weights: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    device: Device
    frames: Annotated[int, Meta(ge=1, le=4096)]
    fps: Annotated[float, Meta(gt=0, le=1000)]
    measured: Annotated[list[Latency], Meta(min_length=1, max_length=200)]


def decode(data: bytes, *, file: str | Path | None = None) -> DeviceBench:
    """Parse and verify a document.

    Raises:
        FormatError: no strict JSON, another document, a field that breaks its type, a 95 % point below the median, or
            one graph measured twice.
    """
    doc = jsonstrict.loads(data, file=file)
    if not isinstance(doc, dict) or doc.get("schema") != SCHEMA:
        held = doc.get("schema") if isinstance(doc, dict) else None
        raise FormatError(f"the file holds {held or 'no choreo document'}, need {SCHEMA}", file=file)
    try:
        found = msgspec.convert(doc, DeviceBench)
    except msgspec.ValidationError as e:
        raise FormatError(str(e), file=file) from None
    seen: set[tuple[str, str, str]] = set()
    for row, one in enumerate(found.measured):
        if one.p95_ms < one.p50_ms:
            raise FormatError("p95_ms is below p50_ms", file=file, row=row, field="p95_ms")
        key = (one.graph, one.precision, one.units)
        if key in seen:
            raise FormatError(f"{' '.join(key)} is measured twice", file=file, row=row, field="measured")
        seen.add(key)
    return found


def read(path: str | Path) -> DeviceBench:
    """The document in a file. Raises FormatError (see `decode`) or OSError."""
    return decode(Path(path).read_bytes(), file=path)
