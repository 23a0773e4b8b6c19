"""Teaching by example: what a lesson holds, what becomes of it, and what happens when it fails."""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from choreo_cli.live.model import LiveModel
from choreo_cli.live.teach import Lesson, Teacher, write_lesson
from choreo_cli.reflex.teacher import teach
from choreo_cli.sessions.synth import SynthOptions, generate_session
from formats import targets
from formats.columns import CONTROL_NAMES, FRAMES, INPUTS, MASKS
from formats.tables import read_table

TOP = Path(__file__).resolve().parents[2]
KEPT = TOP / "examples" / "checkpoints"
# Stands in for the trainer: what it is asked for is kept, and the answer is the bundled mapper.
STAND_IN = """
import json, pathlib, shutil, sys
words = sys.argv[1:]
run = pathlib.Path(words[words.index('-o') + 1])
json.dump(words, open(run.parent / 'words.json', 'w'))
if {fails}:
    sys.exit('choreo train mapper: the faders were not moved')
shutil.copytree({kept!r}, run)
"""


def danced(seconds: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    made = generate_session(0, SynthOptions(sessions=1, minutes=max(0.1, seconds / 60), material=False)).frames
    x = np.stack([np.asarray(made[c.name], np.float32) for c in INPUTS], axis=1)
    mask = np.stack([np.asarray(made[m], bool) for m in MASKS], axis=1)
    n = round(seconds * 50)
    return np.asarray(made["t_us"], np.int64)[:n], x[:n], mask[:n]


@pytest.fixture
def model() -> LiveModel:
    return LiveModel.open(KEPT / "rps", KEPT / "mapper")


def teacher(folder: Path, model: LiveModel, fails: bool = False) -> tuple[Teacher, list[LiveModel], list[str]]:
    code = STAND_IN.format(kept=str(KEPT / "mapper"), fails=fails)
    played: list[LiveModel] = []
    said: list[str] = []
    return Teacher(folder, model, (sys.executable, "-c", code), played.append, said.append), played, said


def give(one: Teacher, seconds: float, faders: int = 5, lesson_s: float = 12.0) -> None:
    t, x, mask = danced(seconds)
    one.begin(lesson_s)
    for k in range(len(t)):
        levels = np.full(5, np.nan, np.float32)
        if k >= 25:
            levels[:faders] = (k // 50 % 5) / 4
        one.take(int(t[k]), x[k], mask[k], k // 25, levels)


def test_a_lesson_is_learned_played_and_taken_back(tmp_path: Path, model: LiveModel) -> None:
    one, played, said = teacher(tmp_path, model)
    give(one, 15.0)
    one.wait(60)
    assert one.state == "idle" and "lesson 1 is learned" in said[-1], said
    assert len(played) == 1 and played[0] is not model and played[0].mapper_folder == tmp_path / "lesson-1" / "mapper"
    words = json.loads((tmp_path / "lesson-1" / "words.json").read_text())
    assert words[:2] == ["train", "mapper"] and words[words.index("--mode") + 1] == model.mode
    assert words[words.index("--rps") + 1] == str(KEPT / "rps")
    one.undo()
    assert played[-1] is model
    one.undo()
    assert len(played) == 2 and "nothing to undo" in said[-1]


def test_a_lesson_that_fails_changes_nothing(tmp_path: Path, model: LiveModel) -> None:
    one, played, said = teacher(tmp_path, model, fails=True)
    give(one, 15.0)
    one.wait(60)
    assert played == [] and said[-1] == "the lesson was not learned: choreo train mapper: the faders were not moved"


def test_a_lesson_that_the_end_cuts_off_says_how_it_goes_on(tmp_path: Path, model: LiveModel) -> None:
    """The set is over before the training is: its process ends, and the line that takes it up again is left."""
    said: list[str] = []
    slow = "import sys, time; open(sys.argv[-1] + '.begun', 'w').close(); time.sleep(60)"
    one = Teacher(tmp_path, model, (sys.executable, "-c", slow), lambda model: None, said.append)
    give(one, 15.0)
    while not (tmp_path / "lesson-1" / "mapper.begun").exists():
        assert one.state == "learning", said
        time.sleep(0.01)
    one.close()
    assert one.state == "idle" and "not learned" in said[-1]
    begun, _, line = one.rest.partition(": ")
    assert begun == "lesson 1 is not learned yet; it goes on with" and line.startswith("choreo train mapper ")
    assert f"--targets {tmp_path}/lesson-1/targets.jsonl" in line and line.endswith(f"-o {tmp_path}/lesson-1/mapper")
    done, _, _ = teacher(tmp_path / "other", model)
    give(done, 15.0)
    done.wait(60)
    done.close()
    assert done.rest == ""


@pytest.mark.parametrize(
    ("seconds", "faders", "said_last"),
    [(5.0, 5, "too short, need 10 s"), (15.0, 0, "no fader was moved: nothing to learn")],
)
def test_what_cannot_be_learned_is_said(
    tmp_path: Path, model: LiveModel, seconds: float, faders: int, said_last: str
) -> None:
    one, played, said = teacher(tmp_path, model)
    give(one, seconds, faders)
    if one.state == "recording":
        one.begin()  # the key a second time ends it
    assert said[-1].endswith(said_last) and played == [] and one.state == "idle"


def test_a_lesson_on_disk_is_what_was_danced(tmp_path: Path) -> None:
    t, x, mask = danced(12.0)
    lesson = Lesson(len(t), synthetic=True)
    rng = np.random.default_rng(0)
    levels = np.round(rng.random((len(t), 5)), 3).astype(np.float32)
    levels[:100, 1] = np.nan
    levels[:, 4] = np.nan
    for k in range(len(t)):
        lesson.add(int(t[k]), x[k], mask[k], -1, levels[k // 10 * 10])
    frames, events = write_lesson(lesson, tmp_path / "one", "one")
    table = read_table(frames, FRAMES)
    np.testing.assert_array_equal(table.column("t_us").to_numpy(), t)
    np.testing.assert_array_equal(table.column("jerk").to_numpy(), x[:, 2])
    found = targets.read(events)[None]
    assert found.names == CONTROL_NAMES[:4]
    for k in range(4):
        last = int(np.flatnonzero(np.diff(np.r_[np.nan, levels[::10, k]]) != 0)[-1]) * 10  # its last event
        want = np.repeat(levels[::10, k], 10)[: len(t)]
        np.testing.assert_allclose(found.at(t)[:last, k], want[:last], atol=1e-6)


def test_faders_over_osc_are_heard_one_by_one() -> None:
    from choreo_cli.live.assemble import Assembler
    from choreo_cli.live.clock import VirtualClock
    from choreo_cli.live.opening import targets_of
    from choreo_cli.live.osc import encode
    from choreo_cli.live.show import Show

    clock, ear = VirtualClock(), targets_of(Show(targets="osc:0"))
    assert ear.kinds == ("target",)
    ear.open(clock, 0)
    hand = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    assembler = Assembler()
    try:
        for k, (address, value) in enumerate((("/choreo/target/density", 0.75), ("/choreo/brightness", 0.25)), 1):
            hand.sendto(encode(address, (value,)), ear.address)
            end = time.monotonic() + 5
            while np.isfinite(assembler.target).sum() < k and time.monotonic() < end:
                for sample in ear.poll(clock.now_ns()):
                    assembler.take(sample)
    finally:
        ear.close()
        hand.close()
    nan = float("nan")
    np.testing.assert_array_equal(assembler.target, np.array([nan, 0.75, nan, 0.25, nan], np.float32))


@pytest.mark.slow
def test_a_minute_of_faders_becomes_a_mapping(tmp_path: Path, model: LiveModel) -> None:
    """The real trainer, in a process of its own, as the key does it."""
    pytest.importorskip("torch")
    program = (sys.executable, "-m", "choreo_cli")
    played: list[LiveModel] = []
    said: list[str] = []
    one = Teacher(tmp_path, model, program, played.append, said.append, env={**os.environ, "PYTHONPATH": str(TOP)})
    t, x, mask = danced(61.0)
    want = 1 - teach(x, mask, t)  # the other way round: the bundled mapper cannot know it
    one.begin(60.0)
    for k in range(len(t)):
        one.take(int(t[k]), x[k], mask[k], -1, want[k])
    one.wait(240)
    assert len(played) == 1, said
    fresh = played[0]
    y = np.stack([fresh.step(x[k], mask[k])[1].copy() for k in range(len(t))])
    before = np.stack([model.step(x[k], mask[k])[1].copy() for k in range(len(t))])
    for k in (1, 2, 3):
        ok = ~np.isnan(want[:, k])
        assert np.mean((y[ok, k] - want[ok, k]) ** 2) < 0.3 * np.mean((before[ok, k] - want[ok, k]) ** 2)
