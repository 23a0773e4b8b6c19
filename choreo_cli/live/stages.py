"""Gestures, look-ahead and bar planner beside the controls: what happens at a moment, as cues for the ports.

All three are optional, and so is what they listen to: without a measured body there is no gesture, without a beat no
plan, without a look-ahead the planner decides from the past. Nothing here stops the loop.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from choreo_cli.errors import DataError
from choreo_cli.live.assemble import Frame
from choreo_cli.live.port import Cue
from choreo_cli.live.transport import Transport
from choreo_cli.reflex.from_run import parent_sha256
from choreo_cli.reflex.gesture import Gesture
from choreo_cli.reflex.inputs import MODES, PHASE
from choreo_cli.reflex.lookahead import Lookahead
from choreo_cli.reflex.planner import Event, Planner, Rules
from formats.packets import CONTROLS

F32 = NDArray[np.float32]

MOT, CTX = MODES.index("mot"), MODES.index("ctx")
DENSITY, FX_SEND = CONTROLS.index("density"), CONTROLS.index("fx_send")
BRIDGED = 5
"""Frames that a late loop may skip: the next one stands in for them, and the gesture detector goes on. After a longer
hole it starts over, as it does in a recording."""


class Stages:
    """The optional stages of one run.

    Args:
        gesture: M5.
        lookahead: M4; it only informs the planner.
        planner: M7.
        step_us: Time between frames.
        advance_us: How long before its bar line an announced plan goes out, for a receiver that takes so long; at
            most one beat. What the planner hears only on the bar line goes out there, at once.
    """

    def __init__(
        self,
        gesture: Gesture | None = None,
        lookahead: Lookahead | None = None,
        planner: Planner | None = None,
        step_us: int = 20_000,
        advance_us: int = 0,
    ) -> None:
        self.step_us, self.advance_us = step_us, advance_us
        self.planner = planner
        self.lookahead = lookahead
        self._gestures = gesture.stepper(step_us) if gesture else None
        self._ahead = lookahead.stepper(step_us) if lookahead else None
        self._nothing = np.full(lookahead.shape.dim if lookahead else 0, np.nan, np.float32)
        self.counts = {"gesture": 0, "plan": 0, "early": 0, "bridged": 0, "restarts": 0}
        self._t_us: int | None = None
        self._wraps, self._phase = 0, math.nan
        self._line = -1

    @classmethod
    def open(
        cls,
        gesture: str | Path | None = None,
        lookahead: str | Path | None = None,
        plan: Rules | None = None,
        step_us: int = 20_000,
        *,
        rps_sha256: str = "",
        advance_us: int = 0,
    ) -> Stages:
        """From run folders; `plan` None is no planner.

        Args:
            gesture: Run of M5.
            lookahead: Run of M4.
            plan: Rules of M7.
            step_us: Time between frames.
            rps_sha256: Weights of the M1 whose latents M4 will be given, empty = not known.
            advance_us: See the class.

        Raises:
            FormatError: a folder holds no such checkpoint, or a damaged one.
            DataError: the look-ahead was trained on the latents of another M1.
        """
        return cls(
            Gesture.read(gesture) if gesture else None,
            _lookahead_on(Path(lookahead), rps_sha256) if lookahead else None,
            Planner(plan) if plan else None,
            step_us,
            advance_us,
        )

    def reset(self) -> None:
        """Start over, as after a jump of the clock."""
        for stage in (self._gestures, self._ahead, self.planner):
            if stage is not None:
                stage.reset()
        self._t_us, self._phase, self._wraps, self._line = None, math.nan, 0, -1

    def step(self, frame: Frame, z: F32, y: F32, transport: Transport | None = None) -> list[Cue]:
        """Take one frame; what happened.

        Args:
            frame: Inputs and which modalities are measured.
            z: (104,) normalised latents of the frame.
            y: (5,) output of the model, NaN where it has none.
            transport: The clock; without one the phase in the frame counts, from its first beat.

        Returns:
            Cues of this frame: gestures with the time they began, and at most one plan for each bar: at its first
            frame, or `advance_us` before it with the time of the bar line.
        """
        missed = self._missed(frame.t_us)
        if missed is None:
            return []
        cues = self._gesture(frame, missed)
        if self.planner is not None:
            cues += self._plan(self.planner, frame, z, y, *self._place(frame, transport), transport)
        return cues

    def _missed(self, t_us: int) -> int | None:
        """Frames left out since the one before; None for one that does not come later."""
        before, self._t_us = self._t_us, t_us
        if before is None:
            return 0
        if t_us <= before:
            self._t_us = before
            return None
        missed = round((t_us - before) / self.step_us) - 1
        if 0 <= missed <= BRIDGED:
            self.counts["bridged"] += missed
            return missed
        self.counts["restarts"] += 1
        if self._ahead is not None:
            self._ahead.reset()
        if self._gestures is not None:
            self._gestures.reset()
        return 0

    def _gesture(self, frame: Frame, missed: int) -> list[Cue]:
        if self._gestures is None:
            return []
        found = []
        for k in range(missed, -1, -1):
            found += [
                (e, frame.t_us - k * self.step_us) for e in self._gestures.step(frame.values, frame.mask)
            ]  # fmt: skip
        if not frame.mask[MOT]:
            return []
        self.counts["gesture"] += len(found)
        late = self._gestures.model.rules.latency * self.step_us
        return [Cue("gesture", e.label, at - late, min(max(e.score, 0.0), 1.0)) for e, at in found]

    def _place(self, frame: Frame, transport: Transport | None) -> tuple[float, int]:
        """Phase and number of the beat, NaN and -1 when unknown."""
        if transport is not None:
            return transport.phase(frame.t_us) if transport.running and frame.mask[CTX] else (math.nan, -1)
        phase = float(frame.values[PHASE]) if frame.mask[CTX] else math.nan
        if math.isnan(phase):
            self._phase = math.nan
            return math.nan, -1
        self._wraps += phase < self._phase - 0.5
        self._phase = phase
        return phase, self._wraps

    def _plan(
        self, planner: Planner, frame: Frame, z: F32, y: F32, phase: float, beat: int, transport: Transport | None
    ) -> list[Cue]:
        ahead = self._coming(frame, z, phase, beat, planner.rules.beats_per_bar)
        body = bool(frame.mask[MOT])
        activity = float(y[DENSITY]) if body else math.nan
        accent = float(y[FX_SEND]) if body else math.nan
        event, at_us = planner.step(beat, activity, accent, ahead), frame.t_us
        if event is None and self.advance_us and transport is not None and beat >= 0:
            event, at_us = self._early(planner, frame, beat + 1, transport)
        if event is None:
            return []
        self.counts["plan"] += 1
        return [Cue("plan", event.kind, at_us, event.strength, event.beat)]

    def _early(self, planner: Planner, frame: Frame, line: int, transport: Transport) -> tuple[Event | None, int]:
        """What can be said now of the bar that begins at a beat, and the time of that beat."""
        at = transport.time_of(line)
        # The frame nearest to the wanted moment.
        if self._ahead is None or self.lookahead is None or not at - frame.t_us <= self.advance_us + self.step_us / 2:
            return None, frame.t_us
        predicted = self._ahead.prediction if frame.mask[MOT] else None
        event = planner.announce(None if predicted is None else float(self.lookahead.bar_activity(predicted)))
        self.counts["early"] += event is not None
        return event, round(at)

    def _coming(self, frame: Frame, z: F32, phase: float, beat: int, beats_per_bar: int) -> float | None:
        """Activity of the bar that this frame begins, by the look-ahead; None off the bar lines and without one."""
        if self._ahead is None or self.lookahead is None:
            return None
        known = frame.mask[MOT] and beat >= 0
        predicted = self._ahead.step(z if known else self._nothing, phase)
        begins = known and beat != self._line and beat % beats_per_bar == 0
        self._line = beat
        if predicted is None or not begins:
            return None
        return float(self.lookahead.bar_activity(predicted))


def _lookahead_on(folder: Path, rps_sha256: str) -> Lookahead:
    """M4, when what is known of its M1 is the one that plays: its own facts, and the parents of its run."""
    found = Lookahead.read(folder)
    named = {str(found.facts.get("rps_sha256") or ""), parent_sha256(folder) or ""} - {""}
    if rps_sha256 and named - {rps_sha256}:
        raise DataError(
            f"the look-ahead in {folder} was trained on another M1 than the one that plays",
            hint="give a run of train lookahead on this M1, or play the checkpoint that it stands on",
        )
    return found
