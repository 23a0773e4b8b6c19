"""What a run needs to go on where it was: one tensor file and one sealed record beside it, the record last.

`step-000000123.safetensors` holds the weights, the moments of the optimiser, the moving average and the best weights so
far; `step-000000123.json` holds the counters and names the tensors by sha256. Each pair stands alone; the last two are
kept. No state of a generator is among them: every draw follows from the seed and the step.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from formats import sealed, tensors
from formats.atomic import sha256_file, write_bytes
from formats.errors import FormatError
from formats.tensors import Arrays

SCHEMA = "choreo.training-state/1"
KEPT = 2
_NAME = re.compile(r"step-(\d{9,})\.json")


@dataclass(slots=True)
class Progress:
    """The counters of a run.

    Args:
        step: Steps done.
        judged: Step of the last validation, 0 before the first.
        best: Lowest validation loss, None before there is one.
        best_step: Step of the weights that reached it.
        waited: Validations since then.
        figures: Validation figures of the weights that would be kept now.
        early: Patience is at its end.
        seconds: Time spent, over all the starts of the run.
        crews: [first step, processes] of each number of processes that took part, in order.
    """

    step: int = 0
    judged: int = 0
    best: float | None = None
    best_step: int = 0
    waited: int = 0
    figures: dict[str, float] = field(default_factory=dict)
    early: bool = False
    seconds: float = 0.0
    crews: list[list[int]] = field(default_factory=list)

    def joined(self, processes: int) -> list[str]:
        """Note how many processes go on from here; a sentence when they are others than before.

        With another number each step's draws and sums are other ones: the run goes on, to other bits.
        """
        before = self.crews[-1][1] if self.crews else processes
        if not self.crews or before != processes:
            self.crews.append([self.step, processes])
        told = f"{before} processes began what {processes} go on with at step {self.step}: recorded in the run"
        return [told] if before != processes else []


def write(folder: Path, arrays: Arrays, progress: Progress, identity: str, plan: Mapping[str, Any]) -> Path:
    """Write the state of a step, then remove this run's states but the last two; returns the path of the record.

    Args:
        folder: Made when it is not there.
        arrays: From `collect`.
        progress: Counters.
        identity: Which run it is: another one never goes on from here.
        plan: What the counters mean (items, steps), JSON values; compared as a whole.

    Raises:
        FormatError: a weight that is not finite.
        OSError: as the system reports it; the states of before are intact.
    """
    folder.mkdir(parents=True, exist_ok=True)
    record = folder / f"step-{progress.step:09d}.json"
    sha = write_bytes(record.with_suffix(".safetensors"), tensors.encode(arrays))
    card = {"schema": SCHEMA, "identity": identity, "plan": dict(plan), "progress": asdict(progress), "tensors": sha}
    write_bytes(record, sealed.dumps(card))
    own = [path for path, card in _cards(folder) if card is not None and card["identity"] == identity]
    # What lies ahead is of an earlier start of this run, which was told to begin anew.
    keep = [path for path in own if path <= record][-KEPT:]
    for path in own:
        if path not in keep:
            path.unlink()
            path.with_suffix(".safetensors").unlink(missing_ok=True)
    return record


def read_last(
    folder: Path, identity: str, plan: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]
) -> tuple[tuple[Arrays, Progress] | None, list[str]]:
    """The newest state of this run that is whole, and what was passed over, a sentence each.

    Args:
        folder: Where `write` put them; may be absent.
        identity: Which run it is.
        plan: As it was given to `write`.
        shapes: Names and shapes of the weights (`model.` names of `collect`) that must be there.
    """
    notes, seen = [], False
    for path, card in reversed(list(_cards(folder))):
        seen = True
        try:
            if card is None:
                raise FormatError("damaged", file=path)
            if card["identity"] != identity or card["plan"] != dict(plan):
                notes.append(f"the checkpoint {path.name} is of another run: not used")
                continue
            file = path.with_suffix(".safetensors")
            if sha256_file(file) != card["tensors"]:
                raise FormatError("not the tensors that the record names", file=file)
            arrays, _ = tensors.read(file)
            if {k: v.shape for k, v in arrays.items() if k.startswith("model.")} != dict(shapes):
                raise FormatError("weights of another architecture", file=file)
            return (arrays, Progress(**card["progress"])), notes
        except (FormatError, OSError, KeyError, TypeError):
            notes.append(f"the checkpoint {path.name} is damaged: not used")
    if seen:
        notes.append("no checkpoint can be used: training starts again")
    return None, notes


def _cards(folder: Path) -> Iterator[tuple[Path, dict[str, Any] | None]]:
    """Records by step, each with its content, None where it is damaged."""
    for path in sorted(p for p in folder.glob("step-*.json") if _NAME.fullmatch(p.name)):
        try:
            card = sealed.parse(path.read_bytes(), file=path)
            yield path, card if card.get("schema") == SCHEMA and isinstance(card.get("identity"), str) else None
        except (FormatError, OSError):
            yield path, None


def collect(
    model: nn.Module, optimizer: torch.optim.Optimizer, average: nn.Module | None, best: Mapping[str, Tensor] | None
) -> Arrays:
    """Everything that changes in training, by name: `model.*`, `optimizer.<moment>.<weight>`, `average.*`, `best.*`."""
    arrays = _prefixed("model.", model.state_dict())
    for name, weight in model.named_parameters():
        for moment, value in optimizer.state.get(weight, {}).items():
            arrays[f"optimizer.{moment}.{name}"] = _array(value)
    arrays |= _prefixed("average.", average.state_dict() if average is not None else {})
    return arrays | _prefixed("best.", best or {})


def shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the `model.*` arrays."""
    return {f"model.{name}": tuple(value.shape) for name, value in model.state_dict().items()}


def restore(
    arrays: Arrays, model: nn.Module, optimizer: torch.optim.Optimizer, average: nn.Module | None
) -> dict[str, Tensor] | None:
    """Put back what `collect` took; returns the best weights, None when there were none."""
    model.load_state_dict(_under("model.", arrays))
    if average is not None:
        average.load_state_dict(_under("average.", arrays))
    moments: dict[int, dict[str, Tensor]] = {}
    moved = _under("optimizer.", arrays)
    for number, (name, _) in enumerate(model.named_parameters()):
        found = {key.removesuffix(f".{name}"): value for key, value in moved.items() if key.endswith(f".{name}")}
        found = {key: value for key, value in found.items() if "." not in key}  # `a.w` also ends the name `b.a.w`
        if found:
            moments[number] = found
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    return _under("best.", arrays) or None


def _prefixed(prefix: str, values: Mapping[str, Tensor]) -> Arrays:
    return {prefix + name: _array(value) for name, value in values.items()}


def _array(value: Tensor) -> np.ndarray[Any, Any]:
    array: np.ndarray[Any, Any] = value.detach().cpu().numpy()
    return array


def _under(prefix: str, arrays: Arrays) -> dict[str, Tensor]:
    # torch.tensor copies: the arrays are read-only, and torch lays its own memory as the run did before
    return {name.removeprefix(prefix): torch.tensor(a) for name, a in arrays.items() if name.startswith(prefix)}
