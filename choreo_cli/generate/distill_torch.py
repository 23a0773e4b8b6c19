"""Teacher and student as networks: the teacher with its guidance applied, the student with the average that it follows.

The student sees what the teacher sees but hears the music once: what the teacher says with guidance is its only answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from choreo_cli.generate.conditioning import extra_vector
from choreo_cli.generate.config import EXTRA_STEP, EXTRA_WIDTH, TEXT_WIDTH, Shape
from choreo_cli.generate.distill_paths_torch import Given, Way
from choreo_cli.generate.dit_torch import MotionDiT, build, time_features
from choreo_cli.generate.guidance import Guidance
from choreo_cli.generate.tasks import draw_tasks

TARGET = "target_"


@dataclass(frozen=True, slots=True)
class Told:
    """What is known of the windows of a batch, normalised.

    Args:
        audio: (B, T, A), zeros where the music is withheld.
        known: (B, T, 25).
        mask: (B, T, 7).
        task: (B, 6).
        heard: (B,) whether there is music.
        flags: (B, T, 25) 1 where a channel is given.
    """

    audio: Tensor
    known: Tensor
    mask: Tensor
    task: Tensor
    heard: Tensor
    flags: Tensor

    @property
    def given(self) -> Given:
        return Given(self.known, self.flags)

    def rows(self, chosen: Tensor) -> Told:
        """Some rows."""
        return Told(*(getattr(self, name)[chosen] for name in self.__slots__))

    def inputs(self, x: Tensor, time: Tensor, extra: Tensor) -> tuple[Tensor, ...]:
        """The arguments of `MotionDiT.forward`. There is no text yet."""
        text = torch.zeros(len(x), TEXT_WIDTH, device=x.device)
        return x, time, self.audio, self.known, self.mask, text, self.task, extra


def told_of(
    batch: Mapping[str, Tensor], cover: Tensor, rng: np.random.Generator, inbetween: float, predict: float, drop: float
) -> Told:
    """Draw a task, its known frames and whether the music is heard, for each window of a batch."""
    x, audio = batch["x"], batch["audio"]
    masks, tasks, _ = draw_tasks(rng, len(x), x.shape[1], inbetween, predict)
    heard = rng.random(len(x)) >= drop
    return tell(batch, cover, masks, tasks, heard if audio.shape[-1] else np.zeros(len(x), bool))


def tell(
    batch: Mapping[str, Tensor], cover: Tensor, masks: np.ndarray, tasks: np.ndarray, heard: np.ndarray
) -> Told:  # fmt: skip
    """What is told of windows with given masks (B, T, 7), one-hot tasks (B, 6) and music where `heard` (B,)."""
    x, audio = batch["x"], batch["audio"]
    mask, task, hears = (torch.from_numpy(a).to(x.device) for a in (masks, tasks, heard))
    return Told(audio * hears[:, None, None], x, mask, task, hears, mask @ cover.to(x.device))


class Teacher:
    """A frozen network that says what its data are, guidance applied.

    Args:
        net: The network.
        way: Its process.
        guidance: Weight of the music and where on the way it holds.
    """

    def __init__(self, net: nn.Module, way: Way, guidance: Guidance) -> None:
        self.net = net.eval().requires_grad_(False)
        self.way, self.guidance = way, guidance

    def to(self, device: torch.device) -> Teacher:
        """On a device; nothing happens when it is there."""
        if next(self.net.parameters()).device != device:
            self.net.to(device)
        return self

    @torch.no_grad()
    def says(self, x: Tensor, u: Tensor, told: Told) -> Tensor:
        """The network's own output at x, u (B,), with guidance: (B, T, 25).

        `out_0 + w (out_a - out_0)` where there is music and u lies in the interval, as `guidance.Guidance` has it; rows
        that need one answer are asked once.
        """
        g = self.guidance
        both = told.heard & (u >= g.low - 1e-6) & (u <= g.high + 1e-6) & (g.audio != 1)
        rows = torch.nonzero(both).flatten()
        asked = torch.cat([torch.arange(len(x), device=x.device), rows])
        every = told.rows(asked)
        silent = torch.arange(len(asked), device=x.device) >= len(x)
        audio = torch.where(silent[:, None, None], torch.zeros_like(every.audio), every.audio)
        inputs = list(every.inputs(x[asked], self._time(u)[asked], self._extra(len(asked), x)))
        inputs[2] = audio
        out: Tensor = self.net(*inputs).float()
        full, bare = out[: len(x)], out[len(x) :]
        if not len(rows):
            return full
        made = full.clone()
        made[rows] = bare + g.audio * (full[rows] - bare)
        return made

    def data(self, x: Tensor, u: Tensor, told: Told) -> Tensor:
        """The data it means, with guidance, (B, T, 25)."""
        return self.way.data(self.says(x, u, told), x, u)

    @torch.no_grad()
    def sample(self, noise: Tensor, told: Told, steps: int, solver: str) -> Tensor:
        """What it makes of noise (B, T, 25), normalised."""
        return self.way.sample(lambda x, u: self.says(x, u, told), noise, told.given, steps, solver)

    def _time(self, u: Tensor) -> Tensor:
        net = self.net
        assert isinstance(net, MotionDiT)
        return time_features(self.way.time(u), net.size.width)

    def _extra(self, rows: int, like: Tensor) -> Tensor:
        return torch.from_numpy(extra_vector(rows)).to(like.device)


class Student(nn.Module):
    """The network that learns, and a slow average of its weights that gives targets.

    The average lies in buffers: it is saved and comes back with the weights, and no optimiser touches it.

    Args:
        shape: Of the network.
        way: Its process and what it says.
        sized: It is told the size of its step.
        averaged: There is an average.
    """

    def __init__(self, shape: Shape, way: Way, *, sized: bool = False, averaged: bool = False) -> None:
        super().__init__()
        self.net = build(shape)
        self.way, self.sized = way, sized
        self._names = [name for name, _ in self.net.named_parameters()] if averaged else []
        self.begin_average()

    def begin_average(self) -> None:
        """The average as the weights are now."""
        weights = dict(self.net.named_parameters())
        for name in self._names:
            self.register_buffer(_slot(name), weights[name].detach().clone())

    @torch.no_grad()
    def follow(self, decay: float) -> None:
        """average += (1 - decay) (weights - average)."""
        weights = dict(self.net.named_parameters())
        for name in self._names:
            self.get_buffer(_slot(name)).lerp_(weights[name].detach(), 1 - decay)

    def says(self, x: Tensor, u: Tensor, told: Told, step: Tensor | None = None, *, average: bool = False) -> Tensor:
        """What it says at x, u (B,), (B, T, 25), of itself or of its average.

        Args:
            x: (B, T, 25).
            u: (B,) 0 noise, 1 data.
            told: Conditions.
            step: (B,) size of the step, of a student that is told it.
            average: Ask the average; without one the weights as they are.
        """
        extra = torch.zeros(len(x), EXTRA_WIDTH, device=x.device)
        if self.sized and step is not None:
            extra[:, EXTRA_STEP] = step.to(extra)
        inputs = told.inputs(x, time_features(self.way.time(u), self.net.size.width), extra)
        if average and self._names:
            found = functional_call(self.net, {n: self.get_buffer(_slot(n)) for n in self._names}, inputs)
        else:
            found = self.net(*inputs)
        return torch.as_tensor(found).float()

    def data(self, x: Tensor, u: Tensor, told: Told, step: Tensor | None = None, *, average: bool = False) -> Tensor:
        """The data it means, (B, T, 25)."""
        return self.way.data(self.says(x, u, told, step, average=average), x, u)

    def sample(self, noise: Tensor, told: Told, steps: int) -> Tensor:
        """What it makes of noise (B, T, 25) in so many Euler steps, normalised."""
        size = torch.full((len(noise),), 1 / steps, device=noise.device)
        return self.way.sample(lambda x, u: self.says(x, u, told, size), noise, told.given, steps)


def _slot(name: str) -> str:
    return TARGET + name.replace(".", "__")


def begin_from(student: Student, teacher: Teacher) -> bool:
    """Give the student its teacher's weights where the networks are alike; returns whether they were.

    A head that said noise cannot say data: it begins anew.
    """
    own, theirs = student.net.state_dict(), teacher.net.state_dict()
    if {k: v.shape for k, v in own.items()} != {k: v.shape for k, v in theirs.items()}:
        return False
    alike = student.way.predict == teacher.way.predict
    student.net.load_state_dict({k: v if alike or not k.startswith("head") else own[k] for k, v in theirs.items()})
    student.begin_average()
    return True
