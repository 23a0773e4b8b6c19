"""Networks to be timed: random weights of the right size, their arithmetic counted, in every form that runs here."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.generate.conditioning import extra_vector, task_vector, time_features
from choreo_cli.generate.config import CHANNELS, EXTRA_WIDTH, Shape
from choreo_cli.generate.diffusion import Ddim
from choreo_cli.generate.export_graph import Packed, pack
from choreo_cli.generate.export_proof import plain_stats
from choreo_cli.generate.flow import Flow
from choreo_cli.generate.guidance import Guidance
from choreo_cli.generate.sampling import Defaults, Forward, Process, Sampler

F32 = NDArray[np.float32]
SPREAD = 0.05
SECONDS = 5.0
# Of the size that EDGE's decoder is reported with: 49.5 M parameters, T=150, music features 4800 wide. The network is
# ours, no line of theirs: blocks and width are chosen so that the parameters come out.
LARGE = Shape(blocks=10, width=504, heads=7, frames=150, audio_width=4800)
LARGE_STEPS = 50


def sizes_of(shape: Shape) -> dict[str, tuple[int, int, bool]]:
    """(out, in, whether it has a bias) of every product, under the names of the torch network."""
    w = shape.width
    sizes: dict[str, tuple[int, int, bool]] = {
        "tokens": (w, 2 * CHANNELS + shape.groups, True), "time.0": (w, w, True), "time.2": (w, w, True),
        "task": (w, shape.tasks, False), "extra": (w, EXTRA_WIDTH, False), "modulate": (2 * w, w, True),
        "head": (CHANNELS, w, True),
    }  # fmt: skip
    sizes |= {"audio": (w, shape.audio_width, False)} if shape.audio_width else {}
    sizes |= {"text": (w, shape.text_width, False)} if shape.text_width else {}
    for k in range(shape.blocks):
        parts = {"modulate": (6 * w, w), "qkv": (3 * w, w), "out": (w, w), "up": (4 * w, w), "down": (w, 4 * w)}
        sizes |= {f"blocks.{k}.{n}": (*s, True) for n, s in parts.items()}
    return sizes


def arrays_of(shape: Shape, seed: int = 0) -> dict[str, F32]:
    """Random weights; what is timed does not depend on them."""
    rng = np.random.default_rng(seed)
    made: dict[str, F32] = {}
    for name, (out, into, biased) in sizes_of(shape).items():
        made[f"{name}.weight"] = np.float32(SPREAD) * rng.standard_normal((out, into), np.float32)
        if biased:
            made[f"{name}.bias"] = np.zeros(out, np.float32)
    return made


def parameters(shape: Shape) -> int:
    """Numbers that a network of a shape learns."""
    return sum(out * into + biased * out for out, into, biased in sizes_of(shape).values())


def operations(shape: Shape, batch: int = 1) -> float:
    """Multiplications and additions of one evaluation in its matrix products, attention's two among them."""
    once = ("time", "task", "extra", "text", "modulate")  # for a clip, and not for each of its frames
    linear = sum(
        2.0 * out * into * (1 if name.split(".")[0] in once or name.endswith(".modulate") else shape.frames)
        for name, (out, into, _) in sizes_of(shape).items()
    )
    return batch * (linear + attention(shape))


def attention(shape: Shape) -> float:
    """The part of `operations` in which frames look at each other."""
    return shape.blocks * 4.0 * shape.frames**2 * shape.width


def torch_network(shape: Shape, device: str = "cpu") -> Any:
    """The torch network with the same weights, in eval mode."""
    import torch

    from choreo_cli.generate.dit_torch import build

    net = build(shape)
    net.load_state_dict({k: torch.from_numpy(v) for k, v in arrays_of(shape).items()})
    return net.eval().to(device)


def packed_network(shape: Shape) -> Packed:
    """The same weights as the graphs use them."""
    return pack(shape, arrays_of(shape))


def step_feeds(shape: Shape, batch: int, seed: int = 0) -> dict[str, F32]:
    """Inputs of one evaluation."""
    rng = np.random.default_rng(seed)
    t = shape.frames
    made = {
        "x": rng.standard_normal((batch, t, CHANNELS)), "time": time_features(np.full(batch, 0.3), shape.width),
        "audio": rng.standard_normal((batch, t, shape.audio_width)), "known": np.zeros((batch, t, CHANNELS)),
        "mask": np.zeros((batch, t, shape.groups)), "text": np.zeros((batch, shape.text_width)),
        "task": task_vector("gen", batch), "extra": extra_vector(batch),
    }  # fmt: skip
    return {k: np.ascontiguousarray(v, np.float32) for k, v in made.items()}


def sampler_feeds(shape: Shape, names: Mapping[str, Any], seed: int = 0) -> dict[str, F32]:
    """Inputs of a whole sampler for one clip."""
    step = step_feeds(shape, 1, seed)
    return {n: np.array([2.0], np.float32) if n == "w" else step.get(n, step["x"]) for n in names}


def sampler(forward: Forward, shape: Shape, process: str = "flow", weight: float = 2.0) -> Sampler:
    """A sampler of a network that predicts the data: 4 steps of a flow, or 50 of DDIM."""
    way: Process = Flow() if process == "flow" else Ddim()
    told = Defaults(4 if process == "flow" else LARGE_STEPS, "euler", Guidance(weight))
    return Sampler(forward, plain_stats(shape.audio_width), way, shape.width, shape.frames, 30.0, told)


def backends() -> dict[str, str]:
    """Where the network could run beside this processor, and why it does not; empty text where it does."""
    found = {"cuda": "torch is not installed", "mps": "torch is not installed"}
    try:
        import torch
    except ImportError:
        pass
    else:
        found["cuda"] = "" if torch.cuda.is_available() else "no CUDA device"
        there = sys.platform == "darwin" and torch.backends.mps.is_available()
        found["mps"] = "" if there else "no MPS device"
    mac = sys.platform == "darwin"
    found["mlx"] = "" if mac else "MLX is timed on a Mac; its CPU part elsewhere is for parity alone"
    found["coreml"] = "" if mac else "Core ML runs on a Mac"
    return found
