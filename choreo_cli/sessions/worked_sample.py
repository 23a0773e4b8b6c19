"""One concrete pair, with the numbers used: what `--explain` prints and the report shows."""

from __future__ import annotations

from typing import Any

import numpy as np

from choreo_cli.sessions.dataset_out import Dataset
from choreo_cli.sessions.pairing import Draft


def worked_sample(draft: Draft, data: Dataset) -> dict[str, Any]:
    """The first pair: its clock equation, one instant mapped through it, and the frame that came out."""
    e, block = draft.entry, draft.block
    t = block.columns["t_us"]
    i = _telling_row(block.columns)
    row = int(t[i])
    device = round((row - e["offset_us"]) / (1 + e["drift_ppm"] * 1e-6))
    frame = {n: _value(block.columns[n][i]) for n in ("motion_energy", "hr", "audio_energy", "beat_phase", "beat_idx")}
    entry = next(x for x in data.entries if x["pair_id"] == e["pair_id"])
    return {
        "pair": e["pair_id"],
        "body": e["pose_path"],
        "music": e["track"],
        "clock": f"t_music = (1 {e['drift_ppm'] * 1e-6:+.3g}) * t_device {e['offset_us'] / 1e6:+.6f} s ({e['method']})",
        "instant": f"t_device {device / 1e6:.3f} s is t_music {row / 1e6:.3f} s",
        "frame": f"row {entry['row_start'] + i} of frames.parquet: {_listed(frame)}",
        "identifiable": ", ".join([e["identifiable"], *e["reasons"]]),
        "split": f"{entry['split']} (group {entry['group_id']})",
    }


def _telling_row(columns: dict[str, Any]) -> int:
    """A row in which the most is measured, the middle one of those."""
    score = np.sum([np.asarray(columns[m], int) for m in ("m_mot", "m_hr", "m_aud", "m_ctx")], axis=0)
    best = np.flatnonzero(score == score.max())
    return int(best[len(best) // 2])


def _value(x: Any) -> float | int | None:
    if isinstance(x, np.integer):
        return int(x)
    return None if not np.isfinite(x) else round(float(x), 4)


def _listed(frame: dict[str, Any]) -> str:
    return ", ".join(f"{k} {'not measured' if v is None else v}" for k, v in frame.items())
