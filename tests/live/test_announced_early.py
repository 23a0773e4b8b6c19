"""What a look-ahead announces goes out before its bar line, once; and only a look-ahead on the M1 that plays may."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from loop_material import RPS, Told

from choreo_cli.errors import DataError, ExitCode, NoInputError
from choreo_cli.live import performance as live
from choreo_cli.live.assemble import Frame
from choreo_cli.live.calibrate_latency import Offset
from choreo_cli.live.port import Cue
from choreo_cli.live.show import Show
from choreo_cli.live.stages import Stages
from choreo_cli.live.transport import Transport
from choreo_cli.reflex import lookahead as m4
from choreo_cli.reflex.lookahead_files import encode_lookahead
from choreo_cli.reflex.planner import Planner, Rules
from choreo_cli.reflex.rps import Rps
from formats.manifest import Manifest, Root, encode

STEP = 20_000
PER_BAR = 100  # frames, at 120 beats/min
Choreo = Callable[..., subprocess.CompletedProcess[bytes]]


def arrays(shape: m4.Shape) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    made = {k: rng.normal(0, 0.1, s).astype(np.float32) for k, s in shape.weights().items()}
    return made | {"activity.weight": np.zeros(shape.dim, np.float32), "activity.bias": np.full(1, 0.4, np.float32)}


class Oracle(m4.Lookahead):
    """A look-ahead whose latent is the activity of the coming bar."""

    def __init__(self) -> None:
        shape = m4.Shape(dim=104, channels=6, layers=3)
        super().__init__(shape, arrays(shape))

    def stepper(self, step_us: int = STEP) -> Any:
        class Knows:
            prediction: Any = None

            def step(self, z: np.ndarray, phase: float) -> np.ndarray | None:
                self.prediction = None if np.isnan(z[0]) else z
                return self.prediction

            def reset(self) -> None:
                self.prediction = None

        return Knows()

    def bar_activity(self, predicted: Any) -> Any:
        return np.float64(predicted[0])


def heard(
    stages: Stages, levels: list[float], ahead: list[float] | None = None, *, far: bool = True
) -> list[tuple[int, Cue]]:
    """Frame and cue of everything said. The latent of a bar is its `ahead`, in its last beat that of the next bar.

    Args:
        stages: Under test.
        levels: Activity of each bar.
        ahead: What the look-ahead believes of each bar, None = the truth.
        far: It sees the next bar; otherwise it takes the bar that ended for the one that comes.
    """
    transport, found, ahead = Transport(120), [], levels if ahead is None else ahead
    for k in range(PER_BAR * len(levels)):
        bar = k // PER_BAR
        seen = min(bar + (k % PER_BAR >= 75), len(levels) - 1) if far else max(0, (k - 1) // PER_BAR)
        y = np.array([0.5, levels[bar], 0.5, 0.5, 0.3], np.float32)
        z = np.full(104, ahead[seen], np.float32)
        x = np.full(11, 0.5, np.float32)
        frame = Frame(k * STEP, x, np.array((True,) * 4), None, None, {})
        found += [(k, c) for c in stages.step(frame, z, y, transport)]
    return found


LEVELS = [0.2] * 8 + [0.7] * 8 + [0.2] * 8


def stages(advance_ms: float, ahead: bool = True) -> Stages:
    return Stages(lookahead=Oracle() if ahead else None, planner=Planner(Rules()), advance_us=round(advance_ms * 1000))


@pytest.mark.parametrize(("advance_ms", "frames"), [(0, 0), (13.1, 1), (30, 2), (310, 16), (480, 24), (2000, 25)])
def test_announced_plans_go_out_earlier_by_the_offset_and_at_most_a_beat(advance_ms: float, frames: int) -> None:
    found = heard(stages(advance_ms), LEVELS)
    assert [(c.name, c.beat, c.t_us) for _, c in found] == [("drop", 32, 16_000_000), ("break", 64, 32_000_000)]
    assert [k for k, _ in found] == [8 * PER_BAR - frames, 16 * PER_BAR - frames]


def test_what_only_the_past_tells_goes_out_on_the_bar_line() -> None:
    plain, advanced = heard(stages(0, ahead=False), LEVELS), heard(stages(300, ahead=False), LEVELS)
    assert plain == advanced and [(k, c.name, c.beat) for k, c in plain] == [(900, "drop", 36), (1700, "break", 68)]
    assert heard(stages(300), LEVELS, far=False) == plain, "a look-ahead that sees nothing come"


def test_an_early_word_binds_as_one_on_the_bar_line_does() -> None:
    rng = np.random.default_rng(3)
    levels = [float(v) for v in np.repeat(rng.uniform(0.1, 0.9, 20), rng.integers(2, 7, 20))]
    believed = [levels[max(0, k - (k % 3 == 0))] for k in range(len(levels))]  # some changes it misses
    early, on_line = heard(stages(300), levels, believed), heard(stages(0), levels, believed)
    assert [(c.name, c.beat) for _, c in early] == [(c.name, c.beat) for _, c in on_line]
    assert len(early) > 8 and len({c.beat for _, c in early}) == len(early)
    leads = [k2 - k1 for (k1, _), (k2, _) in zip(early, on_line, strict=True)]
    assert set(leads) == {0, 15}, "announced ones are early, the others are not"


def test_a_false_announcement_is_one_event_and_not_repeated_on_its_bar_line() -> None:
    ahead = [0.2] * 8 + [0.8] + [0.2] * 7
    level = [0.2] * 16
    found = heard(stages(300), level, ahead)
    assert [(k, c.name, c.beat) for k, c in found][:1] == [(785, "drop", 32)]
    assert sum(c.beat == 32 for _, c in found) == 1


def test_off_the_last_beat_and_without_trust_nothing_is_announced() -> None:
    planner = Planner()
    assert planner.announce(0.9) is None, "nothing was heard yet"
    for k in range(8 * PER_BAR + 80):
        beat = k // 25
        planner.step(beat, 0.2, 0.2, 0.2)
        assert beat % 4 == 3 or planner.announce(0.9) is None
    assert planner.announce(None) is None and planner.announce(float("nan")) is None
    event = planner.announce(0.9)
    assert event is not None and (event.kind, event.beat, event.announced) == ("drop", 36, True)
    assert planner.announce(0.9) is None, "once for each bar line"
    planner.step(50, 0.2)  # a jump: what was announced is gone
    assert planner.announce(0.9) is None


# ---------------------------------------------------------------------------------------------- which M1


def run_of(folder: Path, facts: dict[str, Any], parent: str | None = None) -> Path:
    """A look-ahead's run: checkpoint files, and `run.json` when it has a parent."""
    shape = m4.Shape(dim=104, channels=6, layers=6)
    folder.mkdir(parents=True)
    for _, name, data in encode_lookahead(shape, arrays(shape), facts, {"tool": "test"}):
        (folder / name).write_bytes(data)
    if parent is not None:
        parents = [{"role": "rps", "run_id": "r", "sha256": parent, "root": "rps", "path": "."}]
        entry = {
            "id": "a", "recipe": "lookahead", "seed": 0, "path": ".", "state": "done", "steps": 1, "epochs": 1.0,
            "parameters": 1, "device": "cpu", "config": {}, "data": {}, "parents": parents, "files": {}, "metrics": [],
            "synthetic": True,
        }  # fmt: skip
        roots = [Root("out", str(folder), True)]
        made_by = {"run_id": "0" * 12, "command": "train"}
        (folder / "run.json").write_bytes(encode(Manifest("choreo.run/1", made_by, [entry], roots)))
    return folder


OTHER = "0" * 64


@pytest.mark.parametrize(
    ("facts", "parent", "fits"),
    [
        ("own", None, True), ("own", "own", True), ("", "own", True), ("", None, True),
        (OTHER, None, False), ("", OTHER, False), ("own", OTHER, False), (OTHER, "own", False),
    ],
)  # fmt: skip
def test_a_look_ahead_on_another_m1_is_refused(tmp_path: Path, facts: str, parent: str | None, fits: bool) -> None:
    own = Rps.read(RPS).sha256
    said = {"rps_sha256": own if facts == "own" else facts} if facts else {}
    folder = run_of(tmp_path / "run", said, own if parent == "own" else parent)
    if fits:
        assert Stages.open(lookahead=folder, plan=Rules(), rps_sha256=own).lookahead is not None
        return
    with pytest.raises(DataError, match="trained on another M1") as caught:
        Stages.open(lookahead=folder, plan=Rules(), rps_sha256=own)
    assert caught.value.code == ExitCode.DATA == 65 and "train lookahead" in caught.value.hint
    assert Stages.open(lookahead=folder, plan=Rules()).lookahead is not None, (
        "of what nothing is known, nothing is said"
    )


def test_run_live_ends_with_65_and_one_line(tmp_path: Path, choreo: Choreo) -> None:
    run = run_of(tmp_path / "run", {"rps_sha256": OTHER})
    done = choreo("run-live", "--speed", "max", "--for", "0.2", "--planner", "--lookahead", run)
    assert done.returncode == 65
    (line,) = done.stderr.decode().strip().splitlines()[-1:]
    assert "trained on another M1" in done.stderr.decode() and line


# ---------------------------------------------------------------------------------------------- the offset file


def offset_file(folder: Path, p50: float = 310.0) -> Path:
    path = folder / "offset.json"
    Offset(60, p50, p50 + 2, p50 - 2, p50 + 3, 256, 48000, "osc:57120").write(path)
    return path


def test_the_offset_of_the_show_reaches_the_planner(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", {"rps_sha256": Rps.read(RPS).sha256})
    show = Show(planner=True, lookahead=str(run), offset=str(offset_file(tmp_path)), engine="numpy")
    told: Any = Told()
    playing = live.Performance(show, live.Around(speed=0), told)
    assert playing.stages is not None and playing.stages.advance_us == 310_000
    assert not told.of("plan")


def test_an_offset_that_can_change_nothing_is_said(tmp_path: Path) -> None:
    told: Any = Told()
    show = Show(planner=True, offset=str(offset_file(tmp_path)), engine="numpy")
    live.Performance(show, live.Around(speed=0), told)
    ((_, facts),) = told.of("plan")
    assert "changes nothing" in facts["text"]


def test_an_offset_file_that_is_none_ends_it(tmp_path: Path, choreo: Choreo) -> None:
    with pytest.raises(NoInputError):
        live.stages_of(Show(offset=str(tmp_path / "none.json")))
    (tmp_path / "bad.json").write_text(json.dumps({"schema": "choreo.metrics/1"}))
    done = choreo("run-live", "--speed", "max", "--for", "0.2", "--offset", tmp_path / "bad.json")
    assert done.returncode == 65 and b"is not an offset file" in done.stderr
    assert choreo("run-live", "--speed", "max", "--for", "0.2", "--offset", offset_file(tmp_path)).returncode == 0


def test_send_clock_without_a_midi_port_names_what_to_add(choreo: Choreo) -> None:
    done = choreo("run-live", "--speed", "max", "--for", "0.2", "--send-clock", "--out", "loop:")
    assert done.returncode == 2 and b"--out midi:NAME" in done.stderr
    done = choreo("run-live", "--speed", "max", "--for", "0.2", "--leader", "midi-clock")
    assert done.returncode == 2 and b"--source midi-clock:PORT" in done.stderr
