"""Teaching by example: record a minute of faders, train on it in another process, swap the model, undo.

The lesson is written as a session of frames and a table of controls, and learned by `choreo train mapper --targets`:
the same command a person would type, so that a lesson can be repeated and looked at. The loop goes on meanwhile.
"""

from __future__ import annotations

import shlex
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.errors import ChoreoError
from choreo_cli.live.model import LiveModel
from formats.columns import CONTROL_NAMES
from formats.errors import FormatError

F32 = NDArray[np.float32]
LESSON_S = 60.0
LEAST_S = 10.0
"""A shorter lesson is thrown away: the trainer needs windows to validate on."""
NICE = 10


@dataclass(slots=True)
class Lesson:
    """Rows of one lesson, in preallocated arrays.

    Args:
        rows: Room for so many frames.
        synthetic: The frames come from a synthetic source.
    """

    rows: int
    synthetic: bool = False
    n: int = 0
    t_us: NDArray[np.int64] = field(init=False)
    x: F32 = field(init=False)
    mask: NDArray[np.bool_] = field(init=False)
    beat_idx: NDArray[np.int32] = field(init=False)
    faders: F32 = field(init=False)

    def __post_init__(self) -> None:
        self.t_us = np.zeros(self.rows, np.int64)
        self.x = np.full((self.rows, 11), np.nan, np.float32)
        self.mask = np.zeros((self.rows, 4), bool)
        self.beat_idx = np.full(self.rows, -1, np.int32)
        self.faders = np.full((self.rows, len(CONTROL_NAMES)), np.nan, np.float32)

    def add(self, t_us: int, x: F32, mask: NDArray[np.bool_], beat_idx: int, faders: F32) -> bool:
        """Take one frame; True when the lesson is full."""
        if self.n < self.rows:
            k = self.n
            self.t_us[k], self.x[k], self.mask[k] = t_us, x, mask
            self.beat_idx[k], self.faders[k] = beat_idx, faders
            self.n += 1
        return self.n >= self.rows

    @property
    def moved(self) -> list[str]:
        """Controls whose fader gave a value."""
        given = np.asarray(np.isfinite(self.faders[: self.n]).any(axis=0))
        return [c for c, ok in zip(CONTROL_NAMES, given.tolist(), strict=True) if ok]


class Teacher:
    """Lessons one after the other; each becomes a model that can be taken back.

    Args:
        folder: Where lessons and their runs go: `lesson-1/`, `lesson-2/`.
        model: The model that plays now.
        program: How to start choreo: `(python, "-m", "choreo_cli")`.
        swap: Called with the model to play from the next tick on.
        say: Called with one line when something happened.
        step_us: Step of the frame clock.
        engine: What runs the new models.
        env: Environment of the training process.
    """

    def __init__(
        self,
        folder: Path,
        model: LiveModel,
        program: Sequence[str],
        swap: Callable[[LiveModel], None],
        say: Callable[[str], None],
        *,
        step_us: int = 20_000,
        engine: str = "auto",
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.folder, self.program, self.step_us, self.engine = folder, tuple(program), step_us, engine
        self._models = [model]
        self._swap, self._say, self._env = swap, say, dict(env) if env is not None else None
        self._lesson: Lesson | None = None
        self._thread: threading.Thread | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._words: list[str] = []
        self._count = 0
        self.rest = ""
        """What is left to do after the end, for the person; empty when nothing is."""

    @property
    def state(self) -> str:
        """`idle`, `recording` or `learning`."""
        if self._lesson is not None:
            return "recording"
        return "learning" if self._thread is not None and self._thread.is_alive() else "idle"

    def begin(self, seconds: float = LESSON_S) -> None:
        """Start a lesson; a second call while one is recorded ends it early."""
        if self._lesson is not None:
            self._end()
            return
        if self.state == "learning":
            self._say("still learning the last lesson")
            return
        self._lesson = Lesson(max(1, round(seconds * 1e6 / self.step_us)))
        self._say(f"recording a lesson of {seconds:g} s: dance, and move the faders")

    def take(self, t_us: int, x: F32, mask: NDArray[np.bool_], beat_idx: int, faders: F32) -> None:
        """Hear of one frame and of the faders as they stand; called by the loop, copies a few hundred bytes."""
        if self._lesson is not None and self._lesson.add(t_us, x, mask, beat_idx, faders):
            self._end()

    def undo(self) -> None:
        """Go back to the model of before the last lesson."""
        if len(self._models) < 2:
            self._say("nothing to undo: this is the first model")
            return
        self._models.pop()
        self._swap(self._models[-1])
        self._say("back to the model of before the last lesson")

    def reload(self, rps: Path, mapper: Path) -> None:
        """Open a model again from disk and play it from the next tick on; what plays stays when it cannot be used."""
        try:
            self._take_model(LiveModel.open(rps, mapper, self.engine))
        except (ChoreoError, FormatError, OSError) as e:
            self._say(f"the model stays as it was: {e}")
            return
        self._say(f"playing {mapper}")

    def close(self) -> None:
        """Stop a training that is under way; its state stays on disk, and `rest` says how it goes on."""
        if self._process is not None and self._process.poll() is None:
            self.rest = f"lesson {self._count} is not learned yet; it goes on with: {shlex.join(self._words)}"
            self._process.terminate()
        if self._thread is not None:
            self._thread.join(timeout=6.0)

    def wait(self, timeout_s: float | None = None) -> None:
        """Until the lesson that is being learned has ended."""
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _end(self) -> None:
        lesson, self._lesson = self._lesson, None
        assert lesson is not None
        if lesson.n * self.step_us < LEAST_S * 1e6:
            self._say(f"a lesson of {lesson.n * self.step_us / 1e6:.1f} s is too short, need {LEAST_S:g} s")
        elif not lesson.moved:
            self._say("no fader was moved: nothing to learn")
        else:
            self._count += 1
            self._say(f"learning {', '.join(lesson.moved)} from {lesson.n * self.step_us / 1e6:.0f} s")
            self._thread = threading.Thread(target=self._learn, args=(lesson, self._count), daemon=True)
            self._thread.start()

    def _learn(self, lesson: Lesson, number: int) -> None:
        """On its own thread: write, train in a process, open, swap."""
        top = self.folder / f"lesson-{number}"
        model = self._models[-1]
        try:
            frames, targets = write_lesson(lesson, top, f"lesson-{number}")
            run = top / "mapper"
            words = [
                *self.program, "train", "mapper", str(frames), "--rps", str(model.rps_folder), "--targets",
                str(targets), "--mode", model.mode, "-q", "-o", str(run),
            ]  # fmt: skip
            self._words = ["choreo", *words[len(self.program) :]]
            failed = self._train(words)
            if failed:
                self._say(f"the lesson was not learned: {failed}")
                return
            self._take_model(LiveModel.open(model.rps_folder, run, self.engine))
        except (ChoreoError, FormatError, OSError) as e:
            self._say(f"the lesson was not learned: {e}")
            return
        self._say(f"lesson {number} is learned and plays; u takes it back")

    def _train(self, words: list[str]) -> str:
        """Run the training below everything else; its last line when it failed, '' when it did not."""
        self._process = subprocess.Popen(
            ["nice", "-n", str(NICE), *words],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=self._env,
        )  # fmt: skip
        _, errors = self._process.communicate()
        if self._process.returncode == 0:
            return ""
        last = errors.decode("utf-8", "replace").strip().splitlines()
        return last[-1] if last else f"the training ended with {self._process.returncode}"

    def _take_model(self, model: LiveModel) -> None:
        self._models.append(model)
        self._swap(model)


def write_lesson(lesson: Lesson, folder: Path, session_id: str) -> tuple[Path, Path]:
    """Write the frames of a lesson and its faders, as events of those that moved.

    Args:
        lesson: What was recorded.
        folder: Is made.
        session_id: Session of both.

    Returns:
        (frames Parquet, JSON Lines that `train mapper --targets` reads).
    """
    from formats.atomic import write_bytes
    from formats.columns import FRAMES, INPUTS, MASKS
    from formats.tables import write_table

    folder.mkdir(parents=True, exist_ok=True)
    n = lesson.n
    columns: dict[str, Any] = {"session_id": [session_id] * n, "t_us": lesson.t_us[:n]}
    columns |= {c.name: lesson.x[:n, k] for k, c in enumerate(INPUTS)}
    columns |= {name: lesson.mask[:n, k] for k, name in enumerate(MASKS)}
    columns |= {"beat_idx": lesson.beat_idx[:n], "synthetic": np.full(n, lesson.synthetic)}
    frames, targets = folder / "frames.parquet", folder / "targets.jsonl"
    write_table(frames, FRAMES, {name: columns[name] for name in FRAMES.names})
    write_bytes(targets, "".join(_events(lesson)).encode())
    return frames, targets


def _events(lesson: Lesson) -> list[str]:
    """One line for every fader that changed at a frame, in order of time."""
    from json import dumps

    now = lesson.faders[: lesson.n]
    before = np.concatenate([np.full((1, now.shape[1]), np.nan, np.float32), now[:-1]])
    rows, columns = np.nonzero(np.isfinite(now) & (now != before))
    return [
        dumps({"t_us": int(lesson.t_us[i]), "address": f"/choreo/{CONTROL_NAMES[k]}", "value": float(now[i, k])}) + "\n"
        for i, k in zip(rows, columns, strict=True)
    ]
