"""A small recipe with everything that can break a resumed run, and the processes that tests kill, signal and launch.

`python training_toy.py kill FOLDER KILLS SEED`: train in children that are killed with SIGKILL, KILLS times.
`python training_toy.py fit FOLDER LOG CONFIG`: train once through the real entry point, signals included.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from choreo_cli.training.config import TrainConfig
from choreo_cli.training.loop import Fitted, fit


class Net(nn.Module):
    def __init__(self, plain: bool) -> None:
        super().__init__()
        middle = [] if plain else [nn.BatchNorm1d(16), nn.Dropout(0.1)]
        self.layers = nn.Sequential(nn.Linear(4, 16), *middle, nn.ReLU(), nn.Linear(16, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class Toy:
    """Regression of two sums; `plain` leaves out batch statistics, dropout and draws."""

    name = "toy"
    synthetic = True

    def __init__(self, items: int = 150, *, plain: bool = False, pause_s: float = 0.0, **config: Any) -> None:
        self.config = TrainConfig(**{"batch": 32, "lr": 0.01, **config})
        self.n_items, self.plain, self.pause_s = items, plain, pause_s
        self.inputs: list[dict[str, Any]] = []
        self.parents: list[dict[str, Any]] = []
        self.data: dict[str, Any] = {}
        self.roots: dict[str, Path] = {}
        rng = np.random.default_rng(0)
        self.x = rng.standard_normal((items + 40, 4)).astype(np.float32)
        self.y = np.stack([self.x.sum(1), self.x[:, 0] - self.x[:, 1]], 1)
        self.seen: list[tuple[int, list[int]]] = []

    def model(self) -> nn.Module:
        return Net(self.plain)

    def batch(self, items: np.ndarray, epoch: int) -> dict[str, Tensor]:
        self.seen.append((epoch, items.tolist()))
        if self.pause_s:
            time.sleep(self.pause_s)
        return {"x": torch.from_numpy(self.x[items]), "y": torch.from_numpy(self.y[items])}

    def loss(
        self, model: nn.Module, batch: Mapping[str, Tensor], draws: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        x = batch["x"]
        if not self.plain:
            x = x + 0.01 * torch.randn(x.shape, generator=draws)
        error = (model(x) - batch["y"]).square()
        return error.mean(), {"first": error[:, 0].mean(), "second": error[:, 1].mean()}

    def after_step(self, model: nn.Module) -> None:
        model.layers[0].weight.clamp_(-0.9, 0.9)

    def validate(self, model: nn.Module) -> dict[str, float]:
        assert not model.training
        x, y = torch.from_numpy(self.x[self.n_items :]), torch.from_numpy(self.y[self.n_items :])
        return {"loss": float((model(x) - y).square().mean())}

    def finish(self, model: nn.Module, files: Any) -> Any:
        raise NotImplementedError


def lines_to(path: Path) -> Callable[[dict[str, Any]], None]:
    def log(record: dict[str, Any]) -> None:
        with open(path, "a") as f:
            f.write(json.dumps(record) + "\n")

    return log


def repeatable(path: Path) -> list[dict[str, Any]]:
    """Records of a log that must come out the same every time."""
    records = [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]
    return [r for r in records if r.get("kind") in ("step", "validation")]


def bits(model: nn.Module) -> dict[str, bytes]:
    return {name: value.numpy().tobytes() for name, value in model.state_dict().items()}


FULL = {"epochs": 30, "ema": 0.9, "clip": 1.0, "warmup": 5, "decay": True, "validate_every": 2, "patience": 20}


def trained(folder: Path, log: Path, **changes: Any) -> Fitted:
    return fit(Toy(**{**FULL, **changes}), folder, identity="toy", seed=3, log=lines_to(log))


def said(log: Path) -> int:
    return log.read_bytes().count(b'"step", "step"') if log.exists() else 0


def kill(folder: Path, kills: int, seed: int) -> None:
    """Train with a checkpoint after every step or two, in children that are killed; prints how many were."""
    import torch._dynamo  # noqa: F401  the first optimiser of a process asks for it: a second for every child

    rng = random.Random(seed)
    done = 0
    log = folder / "log.jsonl"
    while True:
        before = said(log)
        child = os.fork()
        if child == 0:
            trained(folder, log, checkpoint_s=0.002, pause_s=0.01)
            os._exit(0)
        if done < kills:
            while said(log) < before + 2:  # it has to get somewhere
                time.sleep(0.002)
            time.sleep(rng.uniform(0.0, 0.6 / kills))
            os.kill(child, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code == 0:
            break
        assert code == -signal.SIGKILL, code
        done += 1
    print(json.dumps({"kills": done}))


def through_the_entry_point(folder: Path, log: Path, config: dict[str, Any]) -> None:
    """`main` of the program, with the training in place of a command."""
    from choreo_cli import __main__ as program
    from choreo_cli.runtime import deferred_signals

    device = config.pop("device", "cpu")

    def run(_argv: list[str]) -> int:
        say = lines_to(log)
        with deferred_signals() as signals:
            toy = Toy(**config)
            fitted = fit(
                toy, folder, identity="toy", seed=3, device=device, stop=lambda: signals.asked != 0, log=say, beat=say
            )
            if fitted.leads:
                end = {"kind": "end", "state": fitted.state, "steps": fitted.steps, "kept": fitted.kept}
                say({**end, "accelerate": "accelerate" in sys.modules})
        return 0

    program._run = run
    program.main()


if __name__ == "__main__":
    if sys.argv[1] == "kill":
        kill(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
    else:
        through_the_entry_point(Path(sys.argv[2]), Path(sys.argv[3]), json.loads(sys.argv[4]))
