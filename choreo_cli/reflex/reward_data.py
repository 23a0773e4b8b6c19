"""Answers of a preferences file joined with the statistics of the clips they speak of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.errors import NoInputError, UsageError
from choreo_cli.reflex.clips import FEATURES, Clip, describe_all, is_test, overlap_groups
from choreo_cli.reflex.preferences import read_answers
from choreo_cli.reflex.reward_score import Margins
from formats.errors import FormatError

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]
VALUE = {"a": 1.0, "b": 0.0, "same": 0.5, "skip": float("nan")}


@dataclass(frozen=True, slots=True)
class Pairs:
    """Every answer of a file, and every clip once.

    Args:
        rows: Rows of the preferences table.
        clip_names: Clips in the order of `features`.
        features: (C, F) statistics of the clips.
        clips: (n, 2) index of clip A and clip B of every answer.
        choice: (n,) float32: 1 for A, 0 for B, .5 for the same, NaN for a skipped question.
        sources: Schema of every frame set, by its sha256.
    """

    rows: list[dict[str, Any]]
    clip_names: list[Clip]
    features: F32
    clips: I64
    choice: F32
    sources: Mapping[str, str]

    def margins(self, scores: F32, rows: I64) -> Margins:
        """Preferred minus other, for the clear answers among some rows."""
        clear = rows[np.isin(self.choice[rows], (0.0, 1.0))]
        sign = np.where(self.choice[clear] == 1, 1.0, -1.0)
        a, b = self.clips[clear].T.reshape(2, -1)
        energy = self.features[:, FEATURES.index("motion_energy_mean")].astype(np.float64)
        names = [self.rows[k]["pair_id"] for k in clear.tolist()]
        pair = np.unique(np.array(names, dtype=str), return_inverse=True)[1].astype(np.int64)
        wide = scores.astype(np.float64)
        return Margins(sign * (wide[a] - wide[b]), sign * (energy[a] - energy[b]), self.clips[clear], pair)


def gather(file: Path, folder: str | None) -> Pairs:
    """Read answers and describe their clips.

    Args:
        file: A preferences file.
        folder: Where its frames lie now (`--root data=DIR`); None looks where they were.

    Raises:
        NoInputError: frames that are not there.
        FormatError: damaged, or other frames than were rated.
        UsageError: no answers at all, or clips that the frames do not hold.
    """
    rows, known = read_answers(file)
    if not rows:
        raise UsageError(f"no answers in {file}", hint="see choreo prefer")
    both = [tuple(_clip(r, side) for side in "ab") for r in rows]
    names = sorted({clip for pair in both for clip in pair})
    features = np.empty((len(names), len(FEATURES)), np.float32)
    sources = {}
    for sha in sorted({c.source for c in names}):
        own = [k for k, c in enumerate(names) if c.source == sha]
        frames = _frames(sha, known, file, folder)
        sources[sha] = str(frames.source["schema"])
        features[own] = describe_all(frames, [names[k] for k in own])
    index = {clip: k for k, clip in enumerate(names)}
    clips = np.array([[index[c] for c in pair] for pair in both], np.int64)
    return Pairs(rows, names, features, clips, np.array([VALUE[r["choice"]] for r in rows], np.float32), sources)


def _clip(row: Mapping[str, Any], side: str) -> Clip:
    return Clip(row[f"source_{side}_sha256"], row[f"session_{side}"], row[f"start_{side}_us"], row[f"end_{side}_us"])


def _frames(sha: str, known: Mapping[str, Mapping[str, str]], file: Path, folder: str | None) -> Any:
    from choreo_cli.dataset.frameset import read_frames

    place = Path(folder) if folder is not None else Path(known[sha]["path"]) if sha in known else None
    if place is None or not place.exists():
        where = f" at {place}" if place is not None else ""
        raise NoInputError(f"the rated frames are not there{where}", hint="say where they lie: --root data=DIR")
    frames = read_frames(place)
    if frames.source["sha256"] != sha:
        raise FormatError(f"{place} holds other frames than the ones that were rated", file=file)
    return frames


def held_out(clips: Sequence[Clip], what: str) -> NDArray[np.bool_]:
    """(C,) which clips are held out: by a hash of the clip, or of its session; overlapping clips stay together."""
    first = overlap_groups(clips)
    if what == "sessions":
        return np.array([is_test(f"{c.source[:12]}/{c.session}") for c in clips])
    return np.array([is_test(first[c].id) for c in clips])
