"""Timelines of a session: its latents and its controls as tables, one row a frame."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.reflex.mapper import BLOCK, Mapper, model_latents
from choreo_cli.reflex.targets import session_runs
from formats.columns import CONTROL_NAMES, CONTROLS, LATENT_NAMES, LATENTS, MASKS, Table

if TYPE_CHECKING:
    from choreo_cli.dataset.frameset import FrameSession, FrameSet
    from choreo_cli.reflex.rps import Rps

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]
Bool = NDArray[np.bool_]
BEFORE_ALL = 0.5
"""What a control is before any modality was measured."""


def latents_of(rps: Rps, frames: FrameSet, session: FrameSession) -> F32:
    """Latents (rows, 104) of one session after the prox step, not normalised; worked out in blocks."""
    top, made = session.row_start, np.empty((session.rows, len(LATENT_NAMES)), np.float32)
    for a in range(0, session.rows, BLOCK):
        rows = slice(top + a, top + min(a + BLOCK, session.rows))
        made[rows.start - top : rows.stop - top] = rps.latents(frames.x[rows], frames.mask[rows])
    return made


def stretches(frames: FrameSet, session: FrameSession) -> I64:
    """(R, 2) rows [start, stop) of a session that a mapper goes through in one piece.

    A gap in time ends one, and so does a frame without any measured modality: what comes after starts afresh.
    """
    runs = session_runs(frames, session)
    live = np.asarray(np.any(frames.mask[session.slice], axis=1), bool)
    edges = session.row_start + np.flatnonzero(np.diff(live)) + 1
    cuts = np.unique(np.concatenate([runs.reshape(-1), edges]))  # the runs of a session leave none of its rows out
    both = np.stack([cuts[:-1], cuts[1:]], axis=1)
    return np.asarray(both[live[both[:, 0] - session.row_start]], np.int64)


def controls_of(rps: Rps, mapper: Mapper, frames: FrameSet, session: FrameSession) -> tuple[F32, Bool]:
    """Controls (rows, 5) of one session as the live loop would emit them, and where they are held (rows,).

    Rows without any measured modality repeat the last values; before the first measured row they are .5.
    """
    top = session.row_start
    out = np.full((session.rows, len(CONTROL_NAMES)), BEFORE_ALL, np.float32)
    held = np.ones(session.rows, bool)
    for a, b in stretches(frames, session):
        z = model_latents(rps, frames.x[a:b], frames.mask[a:b], mapper.normalized)
        out[a - top : b - top] = mapper.controls(z)
        held[a - top : b - top] = False
    last = np.maximum.accumulate(np.where(held, -1, np.arange(session.rows)))
    known = held & (last >= 0)
    out[known] = out[last[known]]
    return out, held


def latents_table(rps: Rps, frames: FrameSet, session: FrameSession) -> dict[str, Any]:
    """Columns of `LATENTS` for one session."""
    z = latents_of(rps, frames, session)
    return {
        **_index(frames, session),
        **{name: z[:, k] for k, name in enumerate(LATENT_NAMES)},
        **{name: frames.mask[session.slice, k] for k, name in enumerate(MASKS)},
    }


def controls_table(rps: Rps, mapper: Mapper, frames: FrameSet, session: FrameSession) -> dict[str, Any]:
    """Columns of `CONTROLS` for one session."""
    values, held = controls_of(rps, mapper, frames, session)
    return {
        **_index(frames, session),
        **{name: values[:, k] for k, name in enumerate(CONTROL_NAMES)},
        "held": held,
    }


def _index(frames: FrameSet, session: FrameSession) -> dict[str, Any]:
    return {
        "session_id": [session.session_id] * session.rows,
        "t_us": np.asarray(frames.t_us[session.slice]),
        "synthetic": np.full(session.rows, session.synthetic),
    }


def file_name(session_id: str, kind: str) -> str:
    """`<session>_latent.parquet`, `<session>_controls.parquet`; a session id with `/` stays one file."""
    return f"{session_id.replace('/', '_')}_{kind}.parquet"


def write_latents(
    path: Path, rps: Rps, frames: FrameSet, session: FrameSession, metadata: Mapping[str, str] | None = None
) -> str:
    """Write `<session>_latent.parquet` and return its sha256; the metadata name the model and the frames."""
    models = {"choreo.model.rps": rps.sha256}
    return _write(path, LATENTS, latents_table(rps, frames, session), {**_about(frames), **models, **(metadata or {})})


def write_controls(
    path: Path,
    rps: Rps,
    mapper: Mapper,
    frames: FrameSet,
    session: FrameSession,
    metadata: Mapping[str, str] | None = None,
) -> str:
    """Write `<session>_controls.parquet` and return its sha256; the metadata name both models and the frames."""
    models = {"choreo.model.rps": rps.sha256, "choreo.model.mapper": mapper.sha256, "choreo.model.mode": mapper.mode}
    columns = controls_table(rps, mapper, frames, session)
    return _write(path, CONTROLS, columns, {**_about(frames), **models, **(metadata or {})})


def _about(frames: FrameSet) -> dict[str, str]:
    return {"choreo.frames.sha256": str(frames.source["sha256"])}


def _write(path: Path, table: Table, columns: Mapping[str, Any], metadata: Mapping[str, str]) -> str:
    from formats.tables import to_arrow, validate, write_table

    made = to_arrow(table, columns)
    validate(table, made, path)
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_table(path, table, made, metadata)
