"""Loss curves for TensorBoard and for Weights & Biases, both into files inside the run and nowhere else."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from choreo_cli.errors import UnavailableError

INSTALL = "pip install 'choreo[track]'"
FOLDERS = ("tensorboard", "wandb")
# Set before wandb is imported: offline, no crash reports, no chatter. `mode="offline"` alone leaves the reports on.
WANDB_ENV = {"WANDB_MODE": "offline", "WANDB_ERROR_REPORTING": "false", "WANDB_SILENT": "true", "WANDB_CONSOLE": "off"}


class Tracker(Protocol):
    """Receives the records of `log.jsonl`."""

    def __call__(self, record: Mapping[str, Any]) -> None: ...

    def close(self) -> None: ...


class TensorBoard:
    """Event files under `RUN/tensorboard`."""

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        writer: Any = SummaryWriter  # its methods carry no types
        self._writer = writer(log_dir=str(folder / FOLDERS[0]))

    def __call__(self, record: Mapping[str, Any]) -> None:
        for name, value in scalars(record).items():
            self._writer.add_scalar(name, value, int(record.get("step", 0)))

    def close(self) -> None:
        self._writer.close()


class Wandb:
    """An offline run under `RUN/wandb`; `wandb sync` uploads it when its owner wants that.

    The caller has put `WANDB_ENV` into the environment.
    """

    def __init__(self, folder: Path, run_id: str, config: Mapping[str, Any]) -> None:
        import wandb

        library: Any = wandb
        settings = library.Settings(
            console="off", silent=True, disable_git=True, disable_code=True, x_disable_stats=True, x_disable_meta=True
        )
        self._run = library.init(
            mode="offline", dir=str(folder), project="choreo", id=run_id, config=dict(config), settings=settings
        )

    def __call__(self, record: Mapping[str, Any]) -> None:
        self._run.log(scalars(record), step=int(record.get("step", 0)))

    def close(self) -> None:
        self._run.finish()


def need(tensorboard: bool, wandb: bool) -> None:
    """Raise UnavailableError when a tracker that is asked for is not installed. Nothing is imported."""
    for name, wanted in (("tensorboard", tensorboard), ("wandb", wandb)):
        if wanted and importlib.util.find_spec(name) is None:
            raise UnavailableError(f"--{name} needs {name}, which is not installed", hint=INSTALL)


def makers(tensorboard: bool, wandb: bool, config: Any) -> Callable[[Path, str], list[Tracker]]:
    """What makes the trackers of a run from its folder and run id; `config` is the recipe's."""

    import msgspec

    def make(folder: Path, run_id: str) -> list[Tracker]:
        made: list[Tracker] = [TensorBoard(folder)] if tensorboard else []
        return [*made, Wandb(folder, run_id, msgspec.to_builtins(config))] if wandb else made

    return make


def scalars(record: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """The figures of a record by name, nested ones as `part/name`; `step` is the axis, not a figure."""
    found: dict[str, float] = {}
    for name, value in record.items():
        if isinstance(value, Mapping):
            found |= scalars(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and not isinstance(value, bool) and (prefix or name != "step"):
            found[prefix + name] = float(value)
    return found
