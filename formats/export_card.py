"""The sidecar of an exported model, `model.json`: what each graph takes and gives, and how far it was proved.

A folder that `choreo export` has written holds graphs of one model and this document, sealed and written last. It is
all that a program on another machine needs beside the graphs: input names and shapes, normalisation (`facts.stats`),
layout, tasks and groups in the order of their columns, checksums, and the words of the proof.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from formats import sealed
from formats.errors import FormatError

SCHEMA = "choreo.export/1"
CARD = "model.json"
ONNXRUNTIME = "verified: onnxruntime"
MLX = "verified: mlx"
MLX_CPU = "verified: mlx-cpu (linux)"
REFERENCE = "verified: reference-executor (linux)"
COREML = "verified: coreml-runtime"
PARSED = "parsed, not compiled"
STATUSES = (ONNXRUNTIME, MLX, MLX_CPU, REFERENCE, COREML, PARSED)
NOT_MEASURED = "not measured"

Sha = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
Dim = Annotated[int, Meta(ge=1)]
Number = Annotated[float, Meta(ge=0)]


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class Proof(_Strict, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One comparison with the torch network, on fixed random noise.

    Args:
        task: GEN, INBETWEEN or PREDICT.
        by: What computed: `onnxruntime`, `mlx`, `reference-executor f32`, `reference-executor f16`, `coreml-runtime`.
        max_abs: Largest difference of the normalised output, 1 being a standard deviation of a channel.
        rms: Root mean square of the difference; where `contacts` is told, of the 23 pose channels.
        rel_rms: The same over that of the output.
        allowed: Most that was let through, of `measure`.
        measure: Which of them is judged.
        rounding: How far float32 itself is from exact: the network in float64, and on inputs changed in their last
            digit. Several steps with guidance amplify it, and no float32 program can be nearer.
        contacts: Share of the contacts that lie on the same side of one half.
    """

    task: str
    by: str
    max_abs: Number
    rms: Number
    rel_rms: Number
    allowed: Number
    measure: Literal["max_abs", "rms"] = "max_abs"
    rounding: Number | None = None
    contacts: Number | None = None


class Graph(_Strict, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One graph.

    Args:
        name: `step` or `sampler1`, `sampler2`...
        path: File or folder, relative.
        precision: float32, float16 or palette6 (6-bit palettes of float16 values, 8-bit
            ones for the first and the last product).
        bytes: Its size.
        inputs, outputs: Shape of each, float32; text names a free dimension.
        steps: Steps of a sampler, None for `step`.
        rows: Rows that go through the network for each clip.
        operations: Operations that it is made of, sorted.
        proofs: Comparisons.
        facts: What else was measured: palettes, share of the float16 package...
    """

    name: str
    path: str
    precision: Literal["float32", "float16", "palette6"]
    bytes: Annotated[int, Meta(ge=1)]
    inputs: dict[str, list[Dim | str]]
    outputs: dict[str, list[Dim | str]]
    steps: Annotated[int, Meta(ge=1)] | None
    rows: Annotated[int, Meta(ge=1)]
    operations: list[str]
    proofs: list[Proof]
    facts: dict[str, Any] = msgspec.field(default_factory=dict)


class Layout(_Strict, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Meaning of the 25 numbers of a frame, see `formats.motion_npz`."""

    name: str
    version: Annotated[int, Meta(ge=1)]
    channels: list[str]


class ExportCard(_Strict, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """See the module.

    Args:
        schema: `choreo.export/1`.
        format: Which program reads the graphs.
        target: Least version of the platform, for Core ML.
        recipe, arch, facts: Those of the checkpoint: what the network is and how it is sampled.
        weights: sha256 of the checkpoint's weights, and which weights they are.
        layout: Channels.
        tasks: Order of the one-hot `task`.
        groups: Order of the columns of `mask`, each with its first and one past its last channel.
        graphs: Graphs.
        status: Words of the proof; one of `STATUSES`.
        latency: `not measured`: nothing that was timed here says how fast a phone is.
        limits: What the proof does not say, in sentences.
        files: sha256 of every file but this one, by path.
        created_by: Provenance.
    """

    schema: Literal["choreo.export/1"] = SCHEMA  # type: ignore[assignment]
    format: Literal["onnx", "coreml", "mlx", "swift"]
    target: str | None = None
    recipe: str
    arch: dict[str, Any]
    facts: dict[str, Any]
    weights: dict[str, str]
    layout: Layout
    tasks: list[str]
    groups: dict[str, tuple[int, int]]
    graphs: list[Graph]
    status: str
    latency: str = NOT_MEASURED
    limits: list[str] = msgspec.field(default_factory=list)
    files: dict[str, Sha]
    created_by: dict[str, Any] = msgspec.field(default_factory=dict)

    def graph(self, name: str, precision: str | None = None) -> Graph:
        """A graph by name. Raises KeyError when there is none."""
        for found in self.graphs:
            if found.name == name and precision in (None, found.precision):
                return found
        raise KeyError(name)


def encode(card: ExportCard) -> bytes:
    """The document. Raises FormatError when a field breaks its type."""
    doc = msgspec.to_builtins(card)
    _convert(doc, None)
    return sealed.dumps(doc)


def decode(data: bytes, *, file: str | Path | None = None) -> ExportCard:
    """Parse and verify a sidecar.

    Raises:
        FormatError: damaged, another document, or a field that breaks its type.
    """
    doc = sealed.parse(data, file=file)
    if doc.get("schema") != SCHEMA:
        raise FormatError(f"the file holds {doc.get('schema') or 'no choreo document'}, need {SCHEMA}", file=file)
    return _convert(doc, file)


def read(folder: str | Path) -> ExportCard:
    """The sidecar of a folder, or the document itself. Raises FormatError: none is there, or see `decode`."""
    path = Path(folder)
    file = path if path.suffix == ".json" else path / CARD
    try:
        return decode(file.read_bytes(), file=file)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise FormatError("no exported model here", file=path, hint=f"need {CARD} of choreo export") from None


def _convert(doc: dict[str, Any], file: str | Path | None) -> ExportCard:
    try:
        card = msgspec.convert(doc, ExportCard)
    except msgspec.ValidationError as e:
        raise FormatError(str(e), file=file) from None
    if card.status not in STATUSES:
        raise FormatError(f"status {card.status!r} is not known", file=file, field="status")
    for path in card.files:
        if path.startswith("/") or ".." in Path(path).parts or "\0" in path:
            raise FormatError(f"{path!r} leaves the folder", file=file, field="files")
    return card
