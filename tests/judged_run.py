"""Sessions, and a run of a mapper on them, that an evaluation can read: made in seconds, without training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from choreo_cli.dataset.frameset import FrameSet, read_frames
from choreo_cli.reflex.teacher import teach
from choreo_cli.sessions.synth import SynthOptions, write_sessions
from formats import manifest
from formats.columns import CONTROL_NAMES, CONTROLS
from formats.tables import write_table


def dataset(folder: Path, **how: Any) -> FrameSet:
    folder.mkdir(parents=True)
    made = write_sessions(SynthOptions(**{"sessions": 4, "minutes": 1.2, "material": False} | how), folder)
    roots = [manifest.Root("out", str(folder), True)]
    doc = manifest.encode(manifest.Manifest("choreo.sessions/1", {}, made.entries, roots))
    (folder / "sessions.json").write_bytes(doc)
    return read_frames(folder)


def mapper_run(folder: Path, frames: FrameSet, recipe: str = "mapper", still: np.ndarray | None = None) -> Path:
    """What `choreo train mapper` leaves that an evaluation reads; the controls are the rule teacher's on the frames, or on
    other values of theirs.
    """
    x = frames.x if still is None else still
    (folder / "controls").mkdir(parents=True)
    files = {}
    for s in frames.of(("val", "test")):
        made = np.nan_to_num(teach(x[s.slice], frames.mask[s.slice], frames.t_us[s.slice]), nan=0.5)
        columns = {name: made[:, k] for k, name in enumerate(CONTROL_NAMES)}
        name = f"controls/{s.session_id}_controls.parquet"
        files[name] = write_table(folder / name, CONTROLS, {
            "session_id": [s.session_id] * s.rows, "t_us": frames.t_us[s.slice], **columns,
            "held": np.zeros(s.rows, bool), "synthetic": np.ones(s.rows, bool),
        })  # fmt: skip
    e = {
        "id": "0123456789ab", "recipe": recipe, "seed": 0, "path": ".", "state": "done", "steps": 1, "epochs": 1.0,
        "parameters": 1, "device": "cpu", "config": {}, "data": frames.record("data"), "parents": [], "files": files,
        "metrics": [], "synthetic": True,
    }  # fmt: skip
    roots = [manifest.Root("out", str(folder), True), manifest.Root("data", str(frames.folder))]
    (folder / "run.json").write_bytes(manifest.encode(manifest.Manifest("choreo.run/1", {}, [e], roots)))
    return folder
