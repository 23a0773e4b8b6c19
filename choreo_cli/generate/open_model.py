"""Open a generator wherever it lies: a run of training or distilling, a checkpoint, or an exported package."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, get_args

from choreo_cli.errors import NoInputError, UsageError
from choreo_cli.generate.model_files import Model, open_export, open_model, sampler_from, torch_forward
from choreo_cli.generate.sampling import Sampler
from formats.checkpoint import CARD
from formats.errors import FormatError

Backend = Literal["auto", "torch", "onnx", "mlx"]
EXPORT = "choreo.export"


def open_sampler(
    path: Path, *, backend: str = "auto", threads: int = 1, device: str = "cpu", seed: int | None = None
) -> Sampler:
    """A sampler of the model at `path`.

    Args:
        path: A run (`runs/flow`), one seed of it (`runs/flow/seed-0`), a checkpoint, or the folder of an export
            (`model.json` and a graph); `model.json` itself may be named too. Of several seeds the first is taken.
        backend: `torch` and `mlx` run a checkpoint, `onnx` an export; `auto` takes what fits.
        threads: Threads of the network.
        device: Of torch: cpu, cuda, mps.
        seed: Of a run of several seeds, this one.

    Raises:
        NoInputError: nothing is there.
        FormatError: no model, of another kind, damaged, or weights that are not the ones its card names.
        UnavailableError: the backend is not installed.
        UsageError: a backend that the model is not made for.
    """
    if backend not in get_args(Backend):
        raise UsageError(f"no backend {backend!r}", hint=f"choose from {', '.join(get_args(Backend))}")
    folder = model_folder(Path(path), seed)
    if schema_of(folder).startswith(EXPORT):
        return _exported(folder, backend, threads)
    if backend == "onnx":
        raise UsageError(f"{folder} is a checkpoint, not an ONNX package", hint=f"choreo export onnx {folder} -o DIR")
    model = open_model(folder)
    if backend == "mlx":
        return _mlx(model)
    return _torch(model, threads, device)


def model_folder(path: Path, seed: int | None = None) -> Path:
    """The folder that holds `model.json`: the path itself, or one seed of a run of several.

    Raises:
        NoInputError: no such path, or no such seed.
        FormatError: no model in it.
    """
    if path.name == CARD and path.is_file():
        path = path.parent
    if not path.exists():
        raise NoInputError(f"no model {path}", hint="name what choreo train flow, distill or export has written")
    if not path.is_dir():
        raise FormatError(f"a file, need a folder with {CARD}", file=path)
    if (path / CARD).is_file():
        return path
    seeds = {int(p.name[5:]): p for p in path.glob("seed-*") if p.name[5:].isdecimal() and (p / CARD).is_file()}
    if seed is not None and seed not in seeds:
        raise NoInputError(f"no seed {seed} in {path}", hint=f"there are: {sorted(seeds)}")
    if not seeds:
        raise FormatError("no model here", file=path, hint=f"need {CARD} of choreo train flow, distill or export")
    return seeds[min(seeds) if seed is None else seed]


def card_schema(path: Path) -> str:
    """The schema of the model at a path; empty for everything that is none, there or not."""
    try:
        return schema_of(model_folder(Path(path)))
    except (NoInputError, FormatError, OSError):
        return ""


def schema_of(folder: Path) -> str:
    """The schema that a folder's `model.json` names; empty when it names none."""
    from formats import jsonstrict

    told: Any = jsonstrict.loads((folder / CARD).read_bytes(), file=folder / CARD)
    return str(told.get("schema", "")) if isinstance(told, dict) else ""


def _torch(model: Model, threads: int, device: str) -> Sampler:
    network = model.network()
    import torch

    torch.set_num_threads(max(1, threads))
    return sampler_from(torch_forward(network, device), model.shape, model.facts, model.stats, model.identity)


def _mlx(model: Model) -> Sampler:
    from choreo_cli.generate.mlx_net import mlx_forward

    return sampler_from(mlx_forward(model), model.shape, model.facts, model.stats, model.identity)


def _exported(folder: Path, backend: str, threads: int) -> Sampler:
    if backend not in ("auto", "onnx"):
        raise UsageError(f"{folder} is an export, which {backend} does not run", hint="name the checkpoint instead")
    from choreo_cli.generate.onnx_step import OnnxStep

    step = OnnxStep(folder, threads=threads)
    found = open_export(folder)
    return sampler_from(step, found.shape, found.facts, found.stats, found.identity)
