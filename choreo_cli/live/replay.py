"""Recordings as sources: every row comes at its own time, as fast as the loop's clock goes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.errors import UsageError
from choreo_cli.live.clock import Clock
from choreo_cli.live.sample import Body, Sample
from formats.columns import INPUTS
from formats.errors import FormatError

STEP_US = 20_000
F32 = NDArray[np.float32]
I64 = NDArray[np.int64]
NAMES = tuple(c.name for c in INPUTS)
PHASE = NAMES.index("beat_phase")


class Replay:
    """Rows with times, played.

    Args:
        name: As it was named on the command line.
        kind: Kind of the samples.
        t_us: (N,) int64 strictly increasing times.
        values: (N, ...) the samples.
        body: How to read them when they are poses.
        beats: (B, 3) float64 rows `t_us, beat, bpm` that go between the samples, as recorded with them.
        whole: The rows are whole frames (`Sample.whole`).
        masks: (N, 4) bool, what they say was measured (`Sample.mask`).
        lines: What to say at start.
        repeats: Play it so often, end to end.
        origin_us: Session time of the first tick; the first row's by default, on the frame clock.
        period_us: Distance of the samples where the file says it.
        synthetic: They were made by `choreo synth`, not recorded.
        sha256: Content hash of what is played, where it is known.
    """

    audio_hz: int | None = None

    def __init__(
        self,
        name: str,
        kind: str,
        t_us: I64,
        values: NDArray[Any],
        *,
        body: Body | None = None,
        beats: NDArray[np.float64] | None = None,
        whole: bool = False,
        masks: NDArray[np.bool_] | None = None,
        lines: Sequence[str] = (),
        repeats: int = 1,
        origin_us: int | None = None,
        period_us: float | None = None,
        synthetic: bool = False,
        sha256: str = "",
    ) -> None:
        self.synthetic, self.sha256 = synthetic, sha256
        self.name, self.body, self.period_us = name, body, period_us
        self.kinds: tuple[str, ...] = (kind,) if beats is None or not len(beats) else (kind, "beat")
        self._kind, self._whole, self._lines = kind, whole, list(lines)
        # Plain arrays: a row of a memory map is a memory map of its own, ten times as slow to make.
        self._t = np.asarray(t_us, np.int64)
        self._values = np.asarray(values)
        self._masks = None if masks is None else np.asarray(masks)
        self._beats = np.empty((0, 3)) if beats is None else np.asarray(beats, np.float64)
        self._beat_t = self._beats[:, 0].astype(np.int64)
        first = int(self._t[0]) if len(self._t) else 0
        self.origin_us = first // STEP_US * STEP_US if origin_us is None else origin_us
        self._span = int(self._t[-1]) - first + STEP_US if len(self._t) else 0
        self._left = max(1, repeats)
        self._shift = self._at = self._beat_at = self._samples = 0
        self._start_ns = 0

    def open(self, clock: Clock, start_ns: int) -> None:
        """See `Source`."""
        self._start_ns = start_ns

    def poll(self, now_ns: int) -> Sequence[Sample]:
        """See `Source`. Everything due is given, however late the loop is: the newest row wins there."""
        now = self.origin_us + (now_ns - self._start_ns) // 1000
        found: list[Sample] = []
        while True:
            end = int(self._t.searchsorted(now - self._shift, side="right"))
            self._take(found, end, now_ns, now - self._shift)
            if end < len(self._t) or self._left <= 1 or not end:
                return found
            self._left -= 1
            self._shift += self._span
            self._at = self._beat_at = 0

    def _take(self, found: list[Sample], end: int, now_ns: int, now_us: int) -> None:
        shift = self._shift
        for i in range(self._at, end):
            mask = None if self._masks is None else self._masks[i]
            found.append(Sample(self._kind, int(self._t[i]) + shift, now_ns, self._values[i], None, self._whole, mask))
        self._samples += max(0, end - self._at)
        self._at = max(self._at, end)
        first = self._beat_at
        while self._beat_at < len(self._beat_t) and self._beat_t[self._beat_at] <= now_us:
            t, row = int(self._beat_t[self._beat_at]) + shift, self._beats[self._beat_at, 1:]
            found.append(Sample("beat", t, now_ns, row))
            self._beat_at += 1
        if self._beat_at > first and end:
            found.sort(key=lambda s: s.t_us)

    @property
    def ended(self) -> bool:
        """See `Source`."""
        return self._left <= 1 and self._at >= len(self._t)

    @property
    def end_us(self) -> int:
        """Session time of the last row of the last repeat."""
        last = int(self._t[-1]) if len(self._t) else self.origin_us
        return last + self._shift + (self._left - 1) * self._span

    def said(self) -> list[str]:
        """See `Source`."""
        return list(self._lines)

    def facts(self) -> dict[str, Any]:
        """See `Source`."""
        return {"samples": self._samples, "left": len(self._t) - self._at, "drops": 0}

    def close(self) -> None:
        """See `Source`."""


def frames(path: Path, session: str | None = None, *, repeats: int = 1, name: str | None = None) -> Replay:
    """Frames of one session: a frames Parquet, a folder of `pair` or `synth sessions`, or a recording of `run-live`.

    Args:
        path: File or folder.
        session: Which session; the first without one, and the others are named at start.
        repeats: Play it so often.
        name: As it was named on the command line.

    Raises:
        NoInputError: nothing is there.
        FormatError: damaged, of another kind, or not at 50 Hz.
        UsageError: no such session.
    """
    from choreo_cli.dataset.frameset import read_frames

    found = read_frames(path)
    ids = [s.session_id for s in found.sessions]
    if session is not None and session not in ids:
        raise UsageError(f"{path} has no session {session}", hint=f"choose from {', '.join(ids[:20])}")
    chosen = found.sessions[0 if session is None else ids.index(session)]
    if not chosen.rows:
        raise FormatError(f"session {chosen.session_id} has no frames", file=path)
    x, t = np.array(found.x[chosen.slice]), np.array(found.t_us[chosen.slice])
    masks = np.array(found.mask[chosen.slice])
    seconds = (int(t[-1]) - int(t[0])) / 1e6
    made = "synthetic, " if chosen.synthetic else ""
    lines = [f"playing session {chosen.session_id} of {path} ({made}{seconds:.1f} s)"]
    if session is None and len(ids) > 1:
        lines.append(f"{len(ids) - 1} other sessions: --session {'|'.join(i for i in ids[:6] if i != ids[0])}")
    sha256 = str(found.source["sha256"])
    del found
    _give_back()
    return Replay(
        name or str(path), "inputs", t, x, beats=beat_rows(t, x[:, PHASE]), whole=True, masks=masks, lines=lines,
        repeats=repeats, period_us=float(STEP_US), synthetic=chosen.synthetic, sha256=sha256,
    )  # fmt: skip


def _give_back() -> None:
    """Return what the reader keeps for later to the system: a performance lasts hours and reads no more."""
    import sys

    arrow = sys.modules.get("pyarrow")
    if arrow is not None:
        arrow.default_memory_pool().release_unused()


def beat_rows(t_us: I64, phase: F32) -> NDArray[np.float64]:
    """Beats of a row of phases: (B, 3) `t_us, beat, bpm`, one row where each beat is first seen.

    The tempo is that of the beat which begins there; the last one keeps the tempo before it.
    """
    at = np.flatnonzero(np.isfinite(phase))
    if len(at) < 2:
        return np.empty((0, 3))
    p, t = phase[at].astype(np.float64), np.asarray(t_us)[at].astype(np.float64)
    index = np.concatenate([[0], np.cumsum(np.diff(p) < 0)])
    first = np.flatnonzero(np.concatenate([[True], np.diff(index) > 0]))
    place = index + p
    ends = np.append(first[1:], len(p) - 1)
    rise, took = place[ends] - place[first], t[ends] - t[first]
    bpm = np.divide(60e6 * rise, took, out=np.full(len(first), np.nan), where=took > 0)
    short = rise < 0.5
    for k in np.flatnonzero(short):
        bpm[k] = bpm[k - 1] if k else np.nan
    return np.stack([t[first], place[first], bpm], axis=1)
