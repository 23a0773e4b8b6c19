"""The motion network in MLX, with the parameter names of the torch network: its checkpoint loads as it is, strictly."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.errors import UnavailableError
from choreo_cli.generate.config import CHANNELS, EXTRA_WIDTH, GROUPS, Shape
from choreo_cli.generate.model_files import Model
from choreo_cli.generate.sampling import Forward
from formats.errors import FormatError


def _module(name: str) -> Any:
    """A module of MLX; None without it, which every entry point says."""
    try:
        return import_module(name)
    except (ImportError, OSError):
        return None


mx, nn = _module("mlx.core"), _module("mlx.nn")
F32 = NDArray[np.float32]
MLX_LINE = "pip install 'choreo[mlx]'"
MLX_CPU_LINE = "pip install 'choreo[mlx-cpu]'"
THETA = 1e4
EPS = 1e-6
Base: Any = object if nn is None else nn.Module


def need_mlx() -> Any:
    """`mlx.core`. Raises UnavailableError without it."""
    if mx is None:
        raise UnavailableError("MLX is not installed", hint=MLX_LINE if sys.platform == "darwin" else MLX_CPU_LINE)
    return mx


def rotated(x: Any, cos: Any, sin: Any) -> Any:
    """Turn the pairs (k, k + half) of x (..., head) by the angle of their frame."""
    a, b = mx.split(x, 2, -1)
    return mx.concatenate([a * cos - b * sin, a * sin + b * cos], -1)


class Block(Base):  # type: ignore[misc]
    """See `dit_torch.Block`."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.modulate = nn.Linear(width, 6 * width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def __call__(self, h: Any, c: Any, cos: Any, sin: Any) -> Any:
        """h (B, T, width), c (B, 1, width) after SiLU -> (B, T, width)."""
        shift1, scale1, gate1, shift2, scale2, gate2 = mx.split(self.modulate(c), 6, -1)
        h = h + gate1 * self._attend(_normed(h) * (1 + scale1) + shift1, cos, sin)
        return h + gate2 * self.down(gelu(self.up(_normed(h) * (1 + scale2) + shift2)))

    def _attend(self, x: Any, cos: Any, sin: Any) -> Any:
        b, t, width = x.shape
        head = width // self.heads
        q, k, v = mx.transpose(self.qkv(x).reshape(b, t, 3, self.heads, head), (2, 0, 3, 1, 4))
        seen = mx.fast.scaled_dot_product_attention(
            rotated(q, cos, sin), rotated(k, cos, sin), v, scale=1 / math.sqrt(head)
        )
        return self.out(mx.transpose(seen, (0, 2, 1, 3)).reshape(b, t, width))


def _normed(x: Any) -> Any:
    return mx.fast.layer_norm(x, None, None, EPS)


def gelu(x: Any) -> Any:
    """The tanh form, as the torch network has it."""
    return 0.5 * x * (1 + mx.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))


class MotionDiT(Base):  # type: ignore[misc]
    """See `dit_torch.MotionDiT`.

    Args:
        shape: What it is built from.

    Raises:
        UnavailableError: MLX is not installed.
    """

    def __init__(self, shape: Shape) -> None:
        need_mlx()
        super().__init__()
        width, head = shape.width, shape.width // shape.heads
        self.tokens = nn.Linear(2 * CHANNELS + shape.groups, width)
        if shape.audio_width:
            self.audio = nn.Linear(shape.audio_width, width, bias=False)
        self.time = [nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width)]
        if shape.text_width:
            self.text = nn.Linear(shape.text_width, width, bias=False)
        self.task = nn.Linear(shape.tasks, width, bias=False)
        self.extra = nn.Linear(EXTRA_WIDTH, width, bias=False)
        self.blocks = [Block(width, shape.heads) for _ in range(shape.blocks)]
        self.modulate = nn.Linear(width, 2 * width)
        self.head = nn.Linear(width, CHANNELS)
        rate = THETA ** (-np.arange(0, head, 2) / head)
        angle = np.arange(shape.frames)[:, None] * rate
        # A leading underscore keeps MLX from taking a constant for a parameter.
        self._cos, self._sin = (mx.array(f(angle).astype(np.float32)) for f in (np.cos, np.sin))
        cover = np.zeros((shape.groups, CHANNELS), np.float32)
        for k, (_, part) in enumerate(GROUPS if shape.groups > 1 else (("all", slice(0, CHANNELS)),)):
            cover[k, part] = 1.0
        self._cover = mx.array(cover)

    def __call__(self, x: Any, time: Any, audio: Any, known: Any, mask: Any, text: Any, task: Any, extra: Any) -> Any:
        """MLX arrays of the shapes of the torch network's forward."""
        h = self.tokens(mx.concatenate([x, known * (mask @ self._cover), mask], -1))
        if "audio" in self:
            h = h + self.audio(audio)
        first, silu, second = self.time
        c = second(silu(first(time))) + self.task(task) + self.extra(extra)
        if "text" in self:
            c = c + self.text(text)
        c = nn.silu(c)[:, None]
        t = x.shape[1]
        for block in self.blocks:
            h = block(h, c, self._cos[:t], self._sin[:t])
        shift, scale = mx.split(self.modulate(c), 2, -1)
        return self.head(_normed(h) * (1 + scale) + shift)


def load(shape: Shape, arrays: Mapping[str, F32]) -> Any:
    """A network with the weights of a checkpoint, every one of them and no other.

    Raises:
        FormatError: a weight too many, too few, or of another shape.
        UnavailableError: MLX is not installed.
    """
    net = MotionDiT(shape)
    try:
        net.load_weights([(name, mx.array(value)) for name, value in arrays.items()], strict=True)
    except ValueError as e:
        raise FormatError(f"weights of another architecture: {' '.join(str(e).split())[:200]}") from None
    net.eval()
    mx.eval(net.parameters())
    return net


def mlx_forward(model: Model) -> Forward:
    """A checkpoint in MLX as a callable on float32 arrays. Raises UnavailableError without MLX."""
    return arrays_forward(model.shape, model.checkpoint.arrays)


def arrays_forward(shape: Shape, arrays: Mapping[str, F32]) -> Forward:
    """Weights by name as a callable on float32 arrays; see `load`."""
    net = load(shape, arrays)

    def forward(*inputs: F32) -> F32:
        return np.array(net(*(mx.array(np.ascontiguousarray(a, np.float32)) for a in inputs)), np.float32)

    return forward
