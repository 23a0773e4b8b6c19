"""Cues: the gestures, events and announcements that the models give offline, frame by frame and only when known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from choreo_cli.live.assemble import Frame
from choreo_cli.live.port import Cue
from choreo_cli.live.stages import BRIDGED, Stages
from choreo_cli.live.transport import Transport
from choreo_cli.reflex import gesture as m5
from choreo_cli.reflex import lookahead as m4
from choreo_cli.reflex.bars import beat_numbers
from choreo_cli.reflex.planner import EVENTS, Planner, Rules
from choreo_cli.reflex.planner_score import plan
from formats.errors import FormatError

STEP = 20_000
Y = np.full(5, 0.5, np.float32)
Z = np.zeros(104, np.float32)


def detector(seed: int = 0) -> m5.Gesture:
    rng = np.random.default_rng(seed)
    shape = m5.Shape(width=7, kernel=3, dilations=(1, 2, 4), classes=("jump", "lean"))
    arrays: dict[str, Any] = {
        name: rng.normal(0, 1.2 / np.sqrt(max(1, int(np.prod(size[1:])))), size).astype(np.float32)
        for name, size in shape.shapes().items()
    }
    arrays["std"] = np.abs(arrays["std"]) + np.float32(0.5)
    return m5.Gesture(shape, m5.Rules(delay=9, hold=2, refractory=5, threshold=0.5), arrays)


def looker(seed: int = 0, kind: type[m4.Lookahead] = m4.Lookahead) -> m4.Lookahead:
    rng = np.random.default_rng(seed)
    shape = m4.Shape(dim=104, channels=6, layers=3)
    arrays = {k: rng.normal(0, 0.1, s).astype(np.float32) for k, s in shape.weights().items()}
    weight = {"activity.weight": rng.normal(0, 0.1, 104), "activity.bias": np.array([0.4])}
    return kind(shape, arrays | {k: v.astype(np.float32) for k, v in weight.items()})


def frame(k: int, values: Any = None, mask: Any = (True,) * 4) -> Frame:
    x = np.full(11, 0.5, np.float32) if values is None else np.asarray(values, np.float32)
    return Frame(1_000_000 + k * STEP, x, np.array(mask), None, None, {})


def frames(n: int, seed: int = 0) -> list[Frame]:
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 1, (n, 11)).astype(np.float32)
    x[:, 10] = np.mod(np.arange(n) * 0.04, 1.0)
    return [frame(k, row) for k, row in enumerate(x)]


def controls(density: float, fx_send: float = 0.3) -> np.ndarray:
    return np.array([0.5, density, 0.5, 0.5, fx_send], np.float32)


def bars_at(bpm: float, levels: list[float]) -> list[tuple[Frame, np.ndarray]]:
    """Frames from session time 1 s on, where beat 0 is, each bar at its level, and their controls."""
    per_bar = round(4 * 60e6 / bpm / STEP)
    return [(frame(k), controls(levels[k // per_bar])) for k in range(per_bar * len(levels))]


def clock(bpm: float = 120.0) -> Transport:
    transport = Transport(bpm)
    transport.start(1_000_000)
    return transport


# ---------------------------------------------------------------------------------------------- gestures


def test_gestures_are_those_of_the_whole_run() -> None:
    model, run = detector(), frames(400)
    stages, found = Stages(gesture=model), []
    for f in run:
        found += stages.step(f, Z, Y)
    x, mask = np.stack([f.values for f in run]), np.stack([f.mask for f in run])
    events = model.events(x, mask, [f.t_us for f in run])
    assert len(events) > 5 and {e.label for e in events} == {"jump", "lean"}
    want, got = sorted((e.t_us, e.label, e.score) for e in events), sorted((c.t_us, c.name, c.strength) for c in found)
    assert [w[:2] for w in want] == [g[:2] for g in got]
    assert [w[2] for w in want] == pytest.approx([g[2] for g in got], abs=1e-4)
    assert all(c.kind == "gesture" and c.beat is None for c in found)
    assert stages.counts["gesture"] == len(events)


def test_a_few_skipped_frames_are_bridged_and_a_hole_starts_over() -> None:
    model, run = detector(), frames(400)
    gone = {100, 200, 201, 202}
    stages, found = Stages(gesture=model), []
    for k, f in enumerate(run):
        if k not in gone:
            found += stages.step(f, Z, Y)
    # The next frame stands in for those that were skipped: the same as a run in which it came several times.
    filled = [run[next(j for j in range(k, 400) if j not in gone)].values for k in range(400)]
    want = model.events(np.stack(filled), np.ones((400, 4), bool), [f.t_us for f in run])
    assert sorted((c.t_us, c.name) for c in found) == sorted((e.t_us, e.label) for e in want)
    assert stages.counts["bridged"] == 4 and stages.counts["restarts"] == 0
    stages.step(frame(400 + BRIDGED + 1), Z, Y)
    assert stages.counts["restarts"] == 1
    fresh = Stages(gesture=model)
    fresh.step(frame(400 + BRIDGED + 1), Z, Y)
    for k, f in enumerate(frames(200, seed=5)):
        f = frame(401 + BRIDGED + 1 + k, f.values)
        assert stages.step(f, Z, Y) == fresh.step(f, Z, Y)


def test_without_a_measured_body_there_is_no_gesture() -> None:
    stages, heard = Stages(gesture=detector()), 0
    for k, f in enumerate(frames(400)):
        mask = (k % 2 == 0, True, True, True)
        cues = stages.step(frame(k, f.values, mask), Z, Y)
        heard += len(cues)
        assert not cues or mask[0]
    assert heard > 0


# ---------------------------------------------------------------------------------------------- plans


@pytest.mark.parametrize("bpm", [92.0, 120.0, 140.0])
def test_plans_are_those_of_the_planner_on_bar_lines(bpm: float) -> None:
    levels = [0.2] * 6 + [0.7] * 6 + [0.3] * 6
    stages, transport, found = Stages(planner=Planner()), clock(bpm), []
    run = bars_at(bpm, levels)
    for f, y in run:
        found += stages.step(f, Z, y, transport)
    # The time of a frame is that of the beat at it, so the first frame of beat b is the first at or after its time.
    beats = np.array([transport.phase(f.t_us)[1] for f, _ in run])
    told = plan(beats, *(np.array([y[i] for _, y in run], float) for i in (1, 4)))
    assert found == [Cue("plan", e.kind, run[k][0].t_us, e.strength, e.beat) for k, e in told]
    assert [(c.name, c.beat) for c in found] == [("drop", 28), ("break", 52)]
    for cue in found:
        assert 0 <= cue.t_us - transport.time_of(cue.beat or 0) < STEP
    assert stages.counts["plan"] == 2


def test_without_a_transport_the_phase_of_the_frames_counts() -> None:
    rng, phase = np.random.default_rng(1), np.mod(0.3 + np.cumsum(np.full(3000, 0.0371)), 1.0)
    level = np.repeat(rng.uniform(0.05, 0.9, 15), 200)
    stages, found = Stages(planner=Planner()), []
    for k in range(3000):
        f = frame(k)
        f.values[10] = phase[k]
        found += [(k, c) for c in stages.step(f, Z, controls(level[k]))]
    told = plan(beat_numbers(phase, STEP), level.astype(np.float32).astype(float), np.full(3000, np.float32(0.3)))
    assert [(k, c.name, c.beat) for k, c in found] == [(k, e.kind, e.beat) for k, e in told]
    assert len(found) > 3


@pytest.mark.parametrize("why", ["stopped", "no beat", "no body", "no output"])
def test_without_what_it_needs_there_is_no_plan(why: str) -> None:
    stages, transport = Stages(planner=Planner()), clock()
    if why == "stopped":
        transport.stop(0)
    for f, y in bars_at(120.0, [0.2] * 4 + [0.9] * 4 + [0.1] * 4):
        mask = (why != "no body", True, True, why != "no beat")
        y = np.full(5, np.nan, np.float32) if why == "no output" else y
        assert stages.step(Frame(f.t_us, f.values, np.array(mask), None, None, {}), Z, y, transport) == []


# ---------------------------------------------------------------------------------------------- look-ahead


def test_what_the_planner_is_told_is_the_look_ahead_of_the_bar_that_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    model, transport, told, want = looker(), clock(), [], []
    planner = Planner()
    monkeypatch.setattr(planner, "step", lambda beat, activity, accent, ahead: told.append((beat, ahead)))
    stages, twin = Stages(lookahead=model, planner=planner), model.stepper(STEP)
    rng, line = np.random.default_rng(2), -1
    for k in range(1500):
        f, z = frame(k), rng.normal(size=104).astype(np.float32)
        stages.step(f, z, Y, transport)
        phase, beat = transport.phase(f.t_us)
        predicted = twin.step(z, phase)
        begins = beat != line and beat % 4 == 0
        line = beat
        want.append((beat, float(model.bar_activity(predicted)) if begins and predicted is not None else None))
    assert told == want
    assert sum(a is not None for _, a in told) == 15 - 1, "each bar line but the first, before which nothing is known"


class Oracle(m4.Lookahead):
    """A look-ahead that knows what comes: the latent of this test is the coming bar's activity."""

    def stepper(self, step_us: int = STEP) -> Any:
        class Told:
            def step(self, z: np.ndarray, phase: float) -> np.ndarray | None:
                return None if np.isnan(z[0]) else z

            def reset(self) -> None: ...

        return Told()

    def bar_activity(self, predicted: Any) -> Any:
        return np.float64(predicted[0])


def test_with_a_look_ahead_the_event_lands_on_the_bar_that_comes() -> None:
    levels = [0.2] * 8 + [0.7] * 8 + [0.2] * 8
    per_bar = 100

    def run(stages: Stages, body: bool = True) -> list[tuple[str, int | None]]:
        found: list[Cue] = []
        transport = clock()
        for k, (f, y) in enumerate(bars_at(120.0, levels)):
            z = np.full(104, levels[k // per_bar], np.float32)
            mask = np.array((body or k > 350, True, True, True))
            found += stages.step(Frame(f.t_us, f.values, mask, None, None, {}), z, y, transport)
        return [(c.name, c.beat) for c in found]

    assert run(Stages(planner=Planner())) == [("drop", 36), ("break", 68)]
    assert run(Stages(lookahead=looker(kind=Oracle), planner=Planner())) == [("drop", 32), ("break", 64)]
    assert run(Stages(lookahead=looker(kind=Oracle), planner=Planner()), body=False)[-1] == ("break", 64)


def test_without_a_body_the_look_ahead_begins_anew() -> None:
    model, transport = looker(), clock()
    planner = Planner()
    stages = Stages(lookahead=model, planner=planner)
    seen = []
    for k in range(600):
        mask = (not 290 <= k < 310, True, True, True)
        stages.step(frame(k, mask=mask), Z, Y, transport)
        seen.append(stages._ahead.prediction is not None)  # type: ignore[union-attr]
    # 15 ticks of a sixteenth of a beat, 25 frames to a beat: known after 24 frames, and again after the hole.
    assert seen[289] and not any(seen[290:325]) and all(seen[340:])


# ---------------------------------------------------------------------------------------------- no exception, ever


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    st.lists(
        st.tuples(
            st.integers(-3, 60), st.lists(st.booleans(), min_size=4, max_size=4),
            st.sampled_from([0.0, 0.3, np.nan, np.inf, -np.inf, 1e30]), st.sampled_from([0.5, np.nan, np.inf]),
        ),
        min_size=1, max_size=120,
    ),
    st.booleans(),
)  # fmt: skip
def test_whatever_is_missing_or_broken_gives_cues_of_the_contract_or_none(
    ticks: list[tuple[int, list[bool], float, float]], with_transport: bool
) -> None:
    stages = Stages(detector(), looker(), Planner(Rules()))
    transport = clock() if with_transport else None
    k = 0
    for n, (wait, mask, value, said) in enumerate(ticks):
        k += wait if wait > 5 and n % 7 == 0 else min(wait, 1)
        x = np.full(11, value, np.float32)
        x[10] = (k * 0.04) % 1.0 if n % 3 or np.isinf(value) else value
        for cue in stages.step(frame(k, x, mask), np.full(104, said, np.float32), np.full(5, said), transport):
            assert cue.kind in ("gesture", "plan") and isinstance(cue.t_us, int)
            assert cue.name in (*EVENTS, "jump", "lean")
            assert np.isfinite(cue.strength)


def test_a_frame_that_is_not_later_is_no_frame() -> None:
    stages, twin = Stages(gesture=detector()), Stages(gesture=detector())
    for f in frames(300):
        assert stages.step(f, Z, Y) == twin.step(f, Z, Y)
        assert stages.step(f, Z, Y) == []


def test_nothing_asked_for_is_nothing() -> None:
    stages = Stages()
    assert all(stages.step(f, Z, Y, clock()) == [] for f in frames(50))
    stages.reset()


def test_a_folder_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    assert Stages.open().planner is None and Stages.open(plan=Rules()).planner is not None
    for what in ("gesture", "lookahead"):
        with pytest.raises(FormatError):
            Stages.open(**{what: tmp_path})
