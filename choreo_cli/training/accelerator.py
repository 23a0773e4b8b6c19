"""Where the arithmetic runs: in one process, or in several that torchrun started and that share every batch.

Several processes average their gradients by hand, after each backward pass, because a recipe's loss sees the bare
model: it may call any part of it, where a wrapped model only knows `forward`.
"""

from __future__ import annotations

import atexit
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from choreo_cli.errors import UnavailableError
from choreo_cli.runtime import TORCH_LINE, process_count
from choreo_cli.training.order import I64

ALIGNED = 64  # bytes: MKL promises equal bits only for operands that lie equally in memory


@dataclass(frozen=True, slots=True)
class Crew:
    """The processes that train together, seen from one of them.

    Args:
        device: Where this one computes.
        rank: Its number; 0 validates, writes and logs.
        size: How many there are.
    """

    device: torch.device
    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def share(self, items: I64) -> tuple[I64, float]:
        """This process's items of a batch (B,), and their weight in it.

        One that would go empty takes an item with weight 0, so that all go through the same calls.
        """
        first, last = self.rank * len(items) // self.size, (self.rank + 1) * len(items) // self.size
        return (items[first:last], (last - first) / len(items)) if last > first else (items[:1], 0.0)

    def average(self, weights: Sequence[nn.Parameter], loss: Tensor, share: float) -> Tensor:
        """Replace each gradient by its mean over the whole batch; returns the mean loss ()."""
        if self.size == 1:
            return loss
        gradients = [torch.zeros_like(w) if w.grad is None else w.grad for w in weights]
        mean = self._sum(torch.cat([*(g.flatten() for g in gradients), loss.reshape(1)]) * share)
        parts = torch.split(mean[:-1], [w.numel() for w in weights])
        for weight, part in zip(weights, parts, strict=True):
            weight.grad = part.view_as(weight)
        return mean[-1]

    def mean(self, values: Mapping[str, Tensor], share: float) -> dict[str, float]:
        """Figures of the whole batch from those of the shares."""
        if self.size > 1 and values:
            stacked = torch.stack([v.detach().to(self.device, torch.float32) for v in values.values()]) * share
            return dict(zip(values, self._sum(stacked).tolist(), strict=True))
        return {name: float(value.detach()) for name, value in values.items()}

    def agree(self, *answers: bool) -> tuple[bool, ...]:
        """Each answer, yes as soon as one process says yes."""
        if self.size == 1:
            return answers
        return tuple(v > 0 for v in self._sum(torch.tensor(answers, dtype=torch.float32, device=self.device)).tolist())

    def place(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A batch on the device; on the CPU a tensor is copied when it does not lie as torch would lay it."""
        if self.device.type != "cpu":
            return {name: value.to(self.device, non_blocking=True) for name, value in batch.items()}
        return {name: v if v.data_ptr() % ALIGNED == 0 else v.clone() for name, v in batch.items()}

    def seed(self, seed: int) -> None:
        """Seed the global generators too, so that a dropout layer draws the same in a run that was resumed."""
        torch.default_generator.manual_seed(seed)  # torch.manual_seed asks every kind of device and takes 0.3 ms
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)
        elif self.device.type == "mps":
            torch.mps.manual_seed(seed)

    def memory(self) -> int | None:
        """Bytes in use on an accelerator, None on the CPU."""
        if self.device.type == "cuda":
            return torch.cuda.memory_allocated(self.device)
        return torch.mps.current_allocated_memory() if self.device.type == "mps" else None

    def _sum(self, values: Tensor) -> Tensor:
        from accelerate.utils import reduce

        total: Tensor = reduce(values, reduction="sum")
        return total


def assemble(device: str) -> Crew:
    """This process alone, or, when torchrun started it, with the others.

    Args:
        device: A name that torch understands; with several processes each takes the CUDA device of its number.

    Raises:
        UnavailableError: several processes without accelerate.
    """
    if process_count() == 1:
        return Crew(torch.device(device))
    try:
        from accelerate import PartialState
    except ImportError:
        raise UnavailableError("several processes need accelerate, which is missing", hint=TORCH_LINE) from None
    state: Any = PartialState(cpu=True) if device == "cpu" else PartialState()
    atexit.unregister(_part)
    atexit.register(_part)
    return Crew(torch.device(state.device), state.process_index, state.num_processes)


def _part() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


@contextmanager
def arithmetic(device: torch.device, threads: int) -> Iterator[None]:
    """Repeatable arithmetic inside the block: fixed threads, and on the CPU only kernels that always add alike.

    What torch was set to before, and the state of its global generator, are put back.
    """
    was = torch.get_num_threads()
    strict, warn = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    kernels: Any = torch.utils.deterministic
    filled = kernels.fill_uninitialized_memory
    with torch.random.fork_rng(devices=[]):
        try:
            torch.set_num_threads(threads)
            if device.type == "cpu":
                torch.use_deterministic_algorithms(True)
                kernels.fill_uninitialized_memory = False  # it would fill every empty tensor
            yield
        finally:
            torch.set_num_threads(was)
            torch.use_deterministic_algorithms(strict, warn_only=warn)
            kernels.fill_uninitialized_memory = filled
