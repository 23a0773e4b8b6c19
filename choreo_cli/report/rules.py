"""What a table promises beyond types and bounds: order of rows, masks that agree with values, indices that exist."""

from __future__ import annotations

from typing import Any

import numpy as np

from formats.columns import CONTEXT, FRAMES, WINDOWS, Table

# Silence has a level but no brightness.
_MEASURED = {
    "m_mot": ("motion_energy", "motion_freq", "jerk"),
    "m_hr": ("hr",),
    "m_aud": ("audio_energy",),
    "m_ctx": ("beat_phase",),
}


def broken(table: Table, data: Any) -> list[str]:
    """Every broken promise of an Arrow table, one sentence each."""
    found: list[str] = []
    if "session_id" in table.names and "t_us" in table.names:
        found += _order(data)
    if table is FRAMES:
        found += _masks(data)
    if table in (FRAMES, CONTEXT):
        found += _beats(data)
    if table is WINDOWS:
        found += _windows(data)
    return found


def session_codes(data: Any) -> tuple[list[str], Any]:
    """Session names in order of appearance and (N,) int32, which one each row belongs to."""
    column = data.column("session_id").combine_chunks()
    coded = column.dictionary_encode() if hasattr(column, "dictionary_encode") else column
    return coded.dictionary.to_pylist(), coded.indices.to_numpy(zero_copy_only=False)


def _numpy(data: Any, name: str) -> Any:
    return data.column(name).to_numpy(zero_copy_only=False)


def _order(data: Any) -> list[str]:
    if data.num_rows < 2:
        return []
    names, code = session_codes(data)
    change = np.flatnonzero(np.diff(code)) + 1
    seen = [names[code[i]] for i in (0, *change)]
    found = []
    if [s.encode() for s in seen] != sorted({s.encode() for s in seen}):
        found.append("session_id: sessions are not in byte order, each in one stretch")
    back = np.flatnonzero((np.diff(_numpy(data, "t_us")) <= 0) & (np.diff(code) == 0))
    if len(back):
        found.append(f"t_us: {len(back)} rows are not later than the row before, first row {int(back[0]) + 1}")
    return found


def _masks(data: Any) -> list[str]:
    found = []
    for mask, names in _MEASURED.items():
        on = _numpy(data, mask).astype(bool)
        for name in names:
            rows = np.flatnonzero(on & ~data.column(name).is_valid().to_numpy(zero_copy_only=False).astype(bool))
            if len(rows):
                found.append(f"{mask}: says measured where {name} is null, {len(rows)} rows, first row {int(rows[0])}")
    return found


def _beats(data: Any) -> list[str]:
    index = _numpy(data, "beat_idx")
    known = data.column("beat_phase").is_valid().to_numpy(zero_copy_only=False).astype(bool)
    rows = np.flatnonzero(known & (index < 0))
    return [f"beat_idx: {len(rows)} rows have a phase but no beat, first row {int(rows[0])}"] if len(rows) else []


def _windows(data: Any) -> list[str]:
    odd = np.flatnonzero((_numpy(data, "audio_start") < 0) & (_numpy(data, "audio_len") > 0))
    return [f"audio_start: {len(odd)} windows of audio start nowhere, first row {int(odd[0])}"] if len(odd) else []
