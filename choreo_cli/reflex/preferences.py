"""Which of two clips is better: drawing the questions, keeping the answers, and an openly synthetic rater.

Pairwise preferences as in Christiano et al. 2017 (Deep reinforcement learning from human preferences). Clips are held
out by a hash of their name (`clips.is_test`), and a pair is drawn from one side only, so that no answer is lost when a
reward model is judged on clips it has never seen.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from choreo_cli.errors import UsageError
from choreo_cli.reflex.clips import Clip, energy_and_lock, is_test, rows_of
from formats.columns import PREFERENCES

if TYPE_CHECKING:
    from choreo_cli.dataset.frameset import FrameSet

SOURCES = "choreo.sources"
REPEATS = 0.1  # share of questions that come a second time, for the rater's agreement with themselves
APART = 5  # questions between a question and its repetition
RULES = ("groove",)
TIE = 0.02  # differences of appeal below this are the same to the rule


class Question(NamedTuple):
    """Two clips, and which one stands on the left."""

    a: Clip
    b: Clip
    left: str
    repeat: bool

    @property
    def pair_id(self) -> str:
        return f"{self.a.id} {self.b.id}"


class Answer(NamedTuple):
    """One row of `formats.columns.PREFERENCES`."""

    question: Question
    choice: str
    rater: str
    seconds: float | None
    synthetic: bool

    def row(self) -> dict[str, Any]:
        a, b = self.question.a, self.question.b
        return {
            "pair_id": self.question.pair_id,
            "session_a": a.session, "start_a_us": a.start_us, "end_a_us": a.end_us,
            "session_b": b.session, "start_b_us": b.start_us, "end_b_us": b.end_us,
            "source_a_sha256": a.source, "source_b_sha256": b.source,
            "choice": self.choice, "shown_first": self.question.left, "rater": self.rater,
            "seconds": self.seconds, "synthetic": self.synthetic,
        }  # fmt: skip


@dataclass(slots=True)
class _Side:
    """Clips of one side, and how often each was drawn."""

    clips: list[Clip]
    used: Counter[Clip]

    def draw(self, rng: np.random.Generator, taken: set[frozenset[Clip]]) -> tuple[Clip, Clip] | None:
        """Two clips that were not compared yet, the least used first."""
        for a in self._by_use(rng):
            for b in self._by_use(rng):
                if a != b and frozenset((a, b)) not in taken:
                    self.used.update((a, b))
                    return a, b
        return None

    def _by_use(self, rng: np.random.Generator) -> list[Clip]:
        order = rng.permutation(len(self.clips)).tolist()
        return [self.clips[k] for k in sorted(order, key=lambda k: self.used[self.clips[k]])]


def draw_questions(clips: Sequence[Clip], n: int, seed: int, repeats: float = REPEATS) -> list[Question]:
    """Questions in the order they are asked; the first k of n are the first k of any longer list.

    Clips are used equally often, pairs stay on one side of the hold-out, the left one is drawn, and every tenth or so
    question is an earlier one with its sides exchanged.

    Args:
        clips: From `clips.cut_clips`.
        n: How many.
        seed: Seed of every draw.
        repeats: Share of repetitions.

    Raises:
        UsageError: fewer than two clips on either side, or not enough pairs.
    """
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(6,))))
    sides = [_Side([c for c in sorted(clips) if is_test(c.id) is test], Counter()) for test in (False, True)]
    if not any(len(s.clips) > 1 for s in sides):
        raise UsageError(
            f"{len(clips)} clips are too few to compare", hint="give longer sessions or a shorter --clip-s"
        )
    share = len(sides[1].clips) / len(clips)
    found: list[Question] = []
    taken: set[frozenset[Clip]] = set()
    open_again: list[int] = []
    while len(found) < n:
        again, side, left = rng.random() < repeats, int(rng.random() < share), "ab"[int(rng.random() < 0.5)]
        ready = [k for k in open_again if k < len(found) - APART]
        if again and ready:
            k = ready[int(rng.integers(len(ready)))]
            open_again.remove(k)
            found.append(found[k]._replace(left="b" if found[k].left == "a" else "a", repeat=True))
            continue
        pair = sides[side].draw(rng, taken) or sides[1 - side].draw(rng, taken)
        if pair is None:
            raise UsageError(f"only {len(found)} questions can be asked", hint="lower --pairs, or give more sessions")
        taken.add(frozenset(pair))
        open_again.append(len(found))
        found.append(Question(*pair, left, False))
    return found


def still_open(
    questions: Sequence[Question], rows: Sequence[Mapping[str, Any]], rater: str
) -> list[tuple[int, Question]]:
    """(number, question) that a rater has not answered; each earlier answer settles one asking of its pair."""
    done = Counter(str(r["pair_id"]) for r in rows if r["rater"] == rater)
    found = []
    for k, q in enumerate(questions):
        if done[q.pair_id]:
            done[q.pair_id] -= 1
        else:
            found.append((k, q))
    return found


def read_answers(path: Path) -> tuple[list[dict[str, Any]], dict[str, dict[str, str]]]:
    """Rows of a preferences file, and where the frames they speak of lay: sha256 -> `{path, schema}`.

    Raises:
        FormatError: damaged, another table, or a value outside its bounds.
    """
    from formats.errors import FormatError
    from formats.tables import read_metadata, read_table, validate

    table = read_table(path, PREFERENCES)
    validate(PREFERENCES, table, path)
    try:
        sources = json.loads(read_metadata(path).get(SOURCES, "{}"))
        known = {str(k): {"path": str(v["path"]), "schema": str(v["schema"])} for k, v in sources.items()}
    except (ValueError, AttributeError, TypeError, KeyError):
        raise FormatError("the record of its frames does not parse", file=path, field=SOURCES) from None
    return table.to_pylist(), known


def append_answers(path: Path, answers: Sequence[Answer], sources: Mapping[str, Mapping[str, str]]) -> int:
    """Add answers to a file, or start it; the file is replaced as a whole, so earlier answers are never at risk.

    Args:
        path: The preferences file.
        answers: New answers, in order.
        sources: Where their frames lie: sha256 -> `{path, schema}`.

    Returns:
        Answers in the file now.

    Raises:
        FormatError: the file is there and is not a preferences file; it is left alone.
        formats.atomic.Locked: another process has been adding for ten seconds.
    """
    from formats.atomic import lock
    from formats.tables import write_table

    with lock(path.resolve().parent, wait_s=10.0, argv="prefer"):
        rows, known = read_answers(path) if path.exists() else ([], {})
        rows = [*rows, *(a.row() for a in answers)]
        columns = {c.name: [r[c.name] for r in rows] for c in PREFERENCES.columns}
        text = json.dumps({**known, **sources}, sort_keys=True, allow_nan=False)
        write_table(path, PREFERENCES, columns, {SOURCES: text})
    return len(rows)


def source_of(frames: FrameSet) -> dict[str, dict[str, str]]:
    """What a preferences file keeps of the frames it speaks of."""
    where = {"path": str((frames.folder / frames.path).resolve()), "schema": str(frames.source["schema"])}
    return {str(frames.source["sha256"]): where}


def appeal(frames: FrameSet, clip: Clip) -> float:
    """How much the rule `groove` likes a clip: beat lock (never below 0) + 4 x mean motion energy.

    Over synthetic clips of 6 s both terms spread by about .3, so that neither decides alone.
    """
    energy, lock = energy_and_lock(np.asarray(frames.x[rows_of(frames, clip)]))
    return max(0.0, 0.0 if math.isnan(lock) else lock) + 4 * (0.0 if math.isnan(energy) else energy)


def rule_answers(
    frames: FrameSet, asked: Sequence[tuple[int, Question]], *, rule: str, noise: float, rater: str, seed: int
) -> list[Answer]:
    """Answers of the synthetic rater: the clip with more appeal, the other one with probability `noise`.

    Args:
        frames: Where the clips lie.
        asked: From `still_open`; the number of a question decides its noise.
        rule: One of `RULES`.
        noise: Probability of the opposite answer, 0 to .5; two askings of one pair then agree with 1 - 2 n (1 - n).
        rater: Name in the file.
        seed: Seed of the noise.

    Raises:
        UsageError: an unknown rule, or noise outside 0 to .5.
    """
    if rule not in RULES:
        raise UsageError(f"no rater rule {rule!r}", hint=f"there is {', '.join(RULES)}")
    if not 0 <= noise <= 0.5:
        raise UsageError(f"--noise {noise:g} is outside 0..0.5")
    liked: dict[Clip, float] = {}
    found = []
    for k, q in asked:
        for clip in (q.a, q.b):
            if clip not in liked:
                liked[clip] = appeal(frames, clip)
        apart = liked[q.a] - liked[q.b]
        flip = np.random.default_rng((seed, k, int(q.a.source[:8], 16))).random() < noise
        choice = "same" if abs(apart) < TIE else "a" if (apart > 0) is not flip else "b"
        found.append(Answer(q, choice, rater, None, True))
    return found
