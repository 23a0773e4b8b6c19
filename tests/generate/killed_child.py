"""A small training that is slow enough to be killed, and the same as a program: `FOLDER LOG KIND CONFIG`."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from choreo_cli.training.loop import Fitted


def slow(made: Any, pause_s: float) -> None:
    """Let a recipe wait before each of its batches."""
    batch = made.source.batch

    def slowly(rows: Any, epoch: int) -> Any:
        time.sleep(pause_s)
        return batch(rows, epoch)

    made.source.batch = slowly


def main(trained: Callable[..., Fitted]) -> None:
    """Train as the command line says: `trained(folder, kind, log, **config)`; its records go into the log."""
    words = json.loads(sys.argv[4])

    def log(record: dict[str, Any]) -> None:
        with open(sys.argv[2], "a") as file:
            file.write(json.dumps(record) + "\n")

    fitted = trained(Path(sys.argv[1]), sys.argv[3], log, **words)
    if fitted.leads:
        log({"kind": "end", "steps": fitted.steps, "kept": fitted.kept, "pid": os.getpid()})
