"""The baseline of `choreo bench live`: M1, M2 and M3 as plain torch modules, in a process of their own.

Nothing of the live path imports this: it is what a loop would run that called the trained networks as they are.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from choreo_cli.live.model import probe
from choreo_cli.reflex.encoders_torch import TinyEncoder
from choreo_cli.reflex.inputs import COLUMN_SLICES, LATENT, OF_COLUMN, OF_LATENT, PHASE
from choreo_cli.reflex.mapper import Mapper, model_latents
from choreo_cli.reflex.mapper_torch import GRUMapper
from choreo_cli.reflex.normalizer import CLAMP
from choreo_cli.reflex.rps import Rps

F32 = NDArray[np.float32]
Bool = NDArray[np.bool_]


class Latents(nn.Module):
    """M1 and M2 module by module: four encoders, four translators, prox step, normaliser."""

    mean: Tensor
    std: Tensor
    seen: Tensor
    of_column: Tensor
    of_latent: Tensor
    z_mean: Tensor
    z_std: Tensor

    def __init__(self, rps: Rps, normalized: bool) -> None:
        super().__init__()
        self.alpha, self.normalized, self.phase, self.clamp = float(rps.alpha), normalized, PHASE, float(CLAMP)
        self.columns = [part.stop - part.start for part in COLUMN_SLICES.values()]
        self.encoders, self.translators = nn.ModuleList(), nn.ModuleList()
        units = len(rps.hidden[0]) // len(self.columns)
        for k, (modality, part) in enumerate(COLUMN_SLICES.items()):
            own, block = slice(k * units, (k + 1) * units), rps.blocks[modality]
            encoder = TinyEncoder(self.columns[k], block.stop - block.start, units)
            _fill(encoder.hidden, rps.hidden[0][own, part], rps.hidden[1][own])
            _fill(encoder.out, rps.out[0][block, own], rps.out[1][block])
            translator = nn.Linear(LATENT, block.stop - block.start)
            _fill(translator, rps.translators.weight[block], rps.translators.bias[block])
            self.encoders.append(encoder)
            self.translators.append(translator)
        constants = {
            "mean": rps.standard.mean, "std": rps.standard.std, "seen": rps.seen, "of_column": np.asarray(OF_COLUMN),
            "of_latent": np.asarray(OF_LATENT), "z_mean": rps.normalizer.mean.astype(np.float32),
            "z_std": rps.normalizer.std.astype(np.float32),
        }  # fmt: skip
        for name, value in constants.items():
            self.register_buffer(name, torch.from_numpy(np.array(value)))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(1, 104) what the mapper is fed from (1, 11) values and (1, 4) masks."""
        given = torch.isfinite(x) & mask[:, self.of_column]
        value = x.clone()
        value[:, self.phase] = (value[:, self.phase] + 0.5) % 1.0 - 0.5
        value = torch.where(given, (value - self.mean) / self.std, torch.zeros_like(value))
        parts = torch.split(value, self.columns, dim=1)
        there = [g.any(dim=1) for g in torch.split(given, self.columns, dim=1)]
        measured = torch.stack(there, dim=1) & self.seen
        z = torch.cat([encoder(parts[k]) for k, encoder in enumerate(self.encoders)], dim=1)
        if not bool(measured.all()):
            use = measured[:, self.of_latent]
            z = torch.where(use, z, torch.zeros_like(z))
            z = torch.where(use, z, torch.cat([t(z) for t in self.translators], dim=1))
        z = (1 - self.alpha) * z + self.alpha * torch.cat([t(z) for t in self.translators], dim=1)
        if not self.normalized:
            return z
        return torch.clamp((z - self.z_mean) / self.z_std, -self.clamp, self.clamp)


@torch.no_grad()
def _fill(layer: nn.Linear, weight: F32, bias: F32) -> None:
    layer.weight.copy_(torch.from_numpy(np.array(weight)))
    layer.bias.copy_(torch.from_numpy(np.array(bias)))


class Steps:
    """One frame at a time, the window run anew by the network that was trained.

    Args:
        latents: `Latents`, or what became of it.
        mapper: `GRUMapper`, or what became of it.
        window: Frames of a window.
    """

    def __init__(self, latents: Callable[..., Tensor], mapper: Callable[..., Tensor], window: int) -> None:
        self._latents, self._mapper, self._size, self._seen = latents, mapper, window, 0
        self._ring = torch.zeros(1, 2 * window, LATENT)

    def reset(self) -> None:
        """Start afresh."""
        self._seen = 0

    @torch.inference_mode()
    def step(self, x: F32, mask: Bool) -> F32:
        """Controls (5,) of one more frame: (11,) values, (4,) masks."""
        z = self._latents(torch.from_numpy(x)[None], torch.from_numpy(mask)[None])
        at = self._seen % self._size
        self._ring[0, at] = self._ring[0, at + self._size] = z[0]
        self._seen += 1
        end = at + self._size + 1
        found: F32 = self._mapper(self._ring[:, end - min(self._seen, self._size) : end])[0].numpy()
        return found


def contestants(rps: Rps, mapper: Mapper) -> tuple[dict[str, Steps], dict[str, str]]:
    """The eager form and the frozen TorchScript form of the same modules, and why one is missing."""
    latents, net = Latents(rps, mapper.normalized).eval(), GRUMapper.of(mapper).eval()
    found = {"eager": Steps(latents, net, mapper.window)}
    example = torch.zeros(1, mapper.window, LATENT)
    try:
        with torch.inference_mode():
            script = torch.jit.freeze(torch.jit.script(latents))
            traced = torch.jit.freeze(torch.jit.trace(net, example))  # type: ignore[no-untyped-call]
    except Exception as e:  # TorchScript is on its way out of torch
        return found, {"jit": f"TorchScript failed: {type(e).__name__}"}
    return found | {"jit": Steps(script, traced, mapper.window)}, {}


def differs(steps: Steps, rps: Rps, mapper: Mapper) -> float:
    """Largest difference of the controls from the plain forms over the probe of `live.model`."""
    x, mask = probe()
    wanted = mapper.controls(model_latents(rps, x, mask, mapper.normalized))
    steps.reset()
    return max(float(np.abs(steps.step(x[k], mask[k]) - wanted[k]).max()) for k in range(len(x)))


def serve(rps: str, mapper: str, frames: str) -> None:
    """Answer orders `NAME COUNT` on standard input with a line of JSON nanoseconds on standard output.

    Args:
        rps: Folder of M1.
        mapper: Folder of M3.
        frames: An npz with `x` (N, 11) and `mask` (N, 4), played round and round.
    """
    import gc
    import warnings

    gc.disable()  # as on the other side
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    m1, m3 = Rps.read(Path(rps)), Mapper.read(Path(mapper))
    with np.load(frames) as held:
        x, mask = held["x"], held["mask"]
    running, missing = contestants(m1, m3)
    found = {k: differs(s, m1, m3) for k, s in running.items()}
    ready: dict[str, Any] = {"torch": torch.__version__, "differs": found, "missing": missing}
    at = dict.fromkeys(running, 0)
    now = time.perf_counter_ns
    with open(0, encoding="utf-8") as orders, open(1, "w", encoding="utf-8") as answers:
        answers.write(json.dumps(ready) + "\n")
        answers.flush()
        for line in orders:
            name, count = line.split()
            step, took = running[name].step, []
            for _ in range(int(count)):
                k = at[name] % len(x)
                start = now()
                step(x[k], mask[k])
                took.append(now() - start)
                at[name] += 1
            answers.write(json.dumps(took) + "\n")
            answers.flush()
