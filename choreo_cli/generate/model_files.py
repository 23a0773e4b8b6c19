"""Checkpoints of motion networks: the card that says how to use one, and samplers made from a folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.dataset.motions_stats import Stats
from choreo_cli.errors import DataError, UnavailableError
from choreo_cli.generate.config import SOLVERS, TASKS, Shape, Size
from choreo_cli.generate.diffusion import Ddim
from choreo_cli.generate.flow import Flow
from choreo_cli.generate.guidance import Guidance
from choreo_cli.generate.sampling import Defaults, Forward, Process, Sampler, guidance_of
from choreo_cli.runtime import TORCH_LINE
from formats import checkpoint, sealed
from formats.checkpoint import CARD, WEIGHTS, Checkpoint
from formats.errors import FormatError

if TYPE_CHECKING:
    from torch import nn

F32 = NDArray[np.float32]
STEP_GRAPH = "step.onnx"
RECIPES = ("flow", "ddim", "distilled")
PREDICTS = {"flow": ("x1", "v"), "ddim": ("x0", "eps")}
PROCESSES: dict[str, Callable[[Mapping[str, Any]], Process]] = {
    "flow": lambda facts: Flow(facts["predict"], float(facts.get("shift", 1.0))),
    "ddim": lambda facts: Ddim(facts["predict"], float(facts.get("eta", 0.0))),
}
"""How a card's `process` becomes a way from noise to data; a distilled model's own is added here."""


@dataclass(frozen=True, slots=True)
class Model:
    """A checkpoint that was read and checked.

    Args:
        checkpoint: Weights, card.
        shape: What the network is built from.
        stats: Normalisation.
    """

    checkpoint: Checkpoint
    shape: Shape
    stats: Stats

    @property
    def facts(self) -> Mapping[str, Any]:
        return self.checkpoint.facts

    @property
    def recipe(self) -> str:
        return self.checkpoint.recipe

    @property
    def identity(self) -> str:
        """sha256 of the weights."""
        return self.checkpoint.sha256

    def process(self) -> Process:
        """How it is sampled."""
        return PROCESSES[self.facts["process"]](self.facts)

    def defaults(self) -> Defaults:
        """Steps, solver and guidance of the card."""
        return defaults_of(self.facts)

    def network(self) -> nn.Module:
        """The torch module in eval mode, on the CPU. Raises UnavailableError without torch."""
        try:
            import torch

            from choreo_cli.generate.dit_torch import build
        except ModuleNotFoundError as e:
            if e.name != "torch":
                raise
            raise UnavailableError("the checkpoint's network needs torch", hint=TORCH_LINE) from None
        net = build(self.shape)
        wanted = {k: tuple(v.shape) for k, v in net.state_dict().items()}
        checkpoint.need(self.checkpoint, wanted)
        net.load_state_dict({k: torch.tensor(v) for k, v in self.checkpoint.arrays.items()})
        return net.eval()

    def sampler(self, forward: Forward | None = None, device: str = "cpu") -> Sampler:
        """A sampler of the network, or of another callable with its inputs (an ONNX session)."""
        return sampler_from(
            forward or torch_forward(self.network(), device), self.shape, self.facts, self.stats, self.identity
        )


@dataclass(frozen=True, slots=True)
class Exported:
    """What the sidecar of an export says of its graph; see `Model`. `identity` is the sha256 of the graph."""

    recipe: str
    shape: Shape
    facts: Mapping[str, Any]
    stats: Stats
    identity: str


def sampler_from(forward: Forward, shape: Shape, facts: Mapping[str, Any], stats: Stats, identity: str = "") -> Sampler:
    """A sampler of a callable (`torch_forward`, an ONNX session), as a card's facts say."""
    return Sampler(
        forward, stats, PROCESSES[facts["process"]](facts), shape.width, shape.frames, float(facts["fps"]),
        defaults_of(facts), bool(facts.get("guided", False)), bool(facts.get("sized", False)),
        bool(facts.get("baked", False)), identity, tuple(str(n) for n in facts.get("audio_features", ())),
        tuple(str(n).upper() for n in facts.get("trained_tasks", ())),
    )  # fmt: skip


def defaults_of(facts: Mapping[str, Any]) -> Defaults:
    """Steps, solver and guidance of a card."""
    told = facts["defaults"]
    return Defaults(int(told["steps"]), str(told["solver"]), guidance_of(told["guidance"]))


def torch_forward(net: nn.Module, device: str = "cpu") -> Forward:
    """A torch network as a callable on float32 arrays, which it takes in the type of its own weights."""
    import torch

    net = net.to(device).eval()
    kind = next(net.parameters()).dtype

    def forward(*inputs: F32) -> F32:
        with torch.inference_mode():
            out = net(*(torch.from_numpy(np.ascontiguousarray(a)).to(device, kind) for a in inputs))
            found: F32 = out.float().cpu().numpy()
        return found

    return forward


def encode_model(
    recipe: str, net: nn.Module, shape: Shape, facts: Mapping[str, Any], stats: Stats,
    created_by: Mapping[str, Any],
) -> list[tuple[str, str, bytes]]:  # fmt: skip
    """(role, name, bytes) of a checkpoint's files, the card last.

    Args:
        recipe: One of `RECIPES`.
        net: The network whose weights are kept (the moving average).
        shape: What it is built from.
        facts: `process`, `predict`, `fps`, `defaults` and whatever else a user must know.
        stats: Normalisation.
        created_by: Provenance.
    """
    import msgspec

    arrays = {k: v.detach().to("cpu").float().numpy().copy() for k, v in net.state_dict().items()}
    told = {"layout": "choreo25", "tasks": list(TASKS), **facts, "stats": stats.to_dict()}
    made = checkpoint.encode(Checkpoint(recipe, msgspec.to_builtins(shape), arrays, told, dict(created_by)))
    roles = {WEIGHTS: "weights", CARD: "checkpoint"}
    return [(roles[name], name, made[name]) for name in (WEIGHTS, CARD)]


def defaults_record(steps: int, solver: str, guidance: Guidance) -> dict[str, Any]:
    """`defaults` of a card."""
    told = {"audio": guidance.audio, "text": guidance.text, "low": guidance.low, "high": guidance.high}
    return {"steps": steps, "solver": solver, "guidance": told}


def open_model(folder: str | Path) -> Model:
    """Read a checkpoint of `choreo train flow|ddim` or `choreo distill`.

    Raises:
        FormatError: none is there, of another recipe, damaged, or a card that says too little.
    """
    found = checkpoint.read(folder)
    return Model(found, *_checked(found.recipe, found.arch, found.facts, Path(folder) / CARD))


def open_export(folder: str | Path) -> Exported:
    """Read the sidecar of `choreo export onnx`: a checkpoint's card (`recipe`, `arch`, `facts`, `files`) of a graph.

    Raises:
        FormatError: none is there, of another kind, damaged, or without what a sampler needs.
    """
    file = Path(folder) / CARD
    try:
        card = sealed.parse(file.read_bytes(), file=file)
    except FileNotFoundError:
        raise FormatError(f"no {CARD} beside the graph", file=file) from None
    if not str(card.get("schema", "")).startswith("choreo.export/"):
        raise FormatError(f"the file holds {card.get('schema')}, need choreo.export/1", file=file)
    for key, kind in (("recipe", str), ("arch", dict), ("facts", dict), ("files", dict)):
        if not isinstance(card.get(key), kind):
            raise FormatError("missing or of the wrong type", file=file, field=key)
    shape, stats = _checked(card["recipe"], card["arch"], card["facts"], file)
    return Exported(card["recipe"], shape, card["facts"], stats, str(card["files"].get(STEP_GRAPH, "")))


def _checked(recipe: str, arch: Mapping[str, Any], facts: Mapping[str, Any], file: Path) -> tuple[Shape, Stats]:
    import msgspec

    if recipe not in RECIPES:
        raise FormatError(f"the model is {recipe}, need {' or '.join(RECIPES)}", file=file)
    try:
        shape = msgspec.convert(dict(arch), Shape)
    except msgspec.ValidationError as e:
        raise FormatError(f"arch of another network: {e}", file=file, field="arch") from None
    _check_facts(facts, file)
    return shape, _stats(facts["stats"], shape, file)


def _check_facts(facts: Mapping[str, Any], file: Path) -> None:
    process = facts.get("process")
    if process not in PROCESSES:
        raise FormatError(f"sampled by {process!r}, which this version does not know", file=file, field="process")
    if process in PREDICTS and facts.get("predict") not in PREDICTS[process]:
        raise FormatError(f"predicts {facts.get('predict')!r}", file=file, field="predict")
    try:
        told = facts["defaults"]
        guidance_of(told["guidance"])
        good = int(told["steps"]) > 0 and told["solver"] in SOLVERS and float(facts["fps"]) > 0
        good = good and isinstance(facts["stats"], dict)
    except (KeyError, TypeError, ValueError):
        good = False
    if not good:
        raise FormatError("fps, stats or defaults are missing or wrong", file=file, field="facts")


def _stats(told: Mapping[str, Any], shape: Shape, file: Path) -> Stats:
    try:
        found = Stats.of_dict(told)
    except DataError as e:
        raise FormatError(str(e), file=file, field="stats") from None
    if len(found.audio_mean) != shape.audio_width:
        raise FormatError(
            f"statistics of {len(found.audio_mean)} audio features, need {shape.audio_width}", file=file, field="stats"
        )
    return found


def shape_of(size: Size, frames: int, audio_width: int) -> Shape:
    """The shape of a network of a size."""
    return Shape(blocks=size.blocks, width=size.width, heads=size.heads, frames=frames, audio_width=audio_width)
