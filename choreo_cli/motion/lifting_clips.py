"""3-D clips to learn lifting from: a manifest of motions, a folder of motion files, or procedural dancers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.errors import ChoreoError, DataError, NoInputError
from choreo_cli.motion.lifting_points import stature
from choreo_cli.motion.retarget_inputs import Asked, joints_of
from formats.atomic import sha256_file
from formats.errors import FormatError
from formats.manifest import Manifest, resolve_roots, safe_join
from formats.media import MOTION

F64 = NDArray[np.float64]

FPS = 30.0
SECONDS = 20.0  # of a procedural clip
SUFFIXES = (".npz", ".npy", ".bvh", ".amc", ".pkl", ".c3d", ".trc", ".json", ".jsonl")
TEST, VAL = 0.2, 0.1
SPLITS = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class Clip:
    """One clip at 30 fps.

    Args:
        name: What it is called.
        group: Performer or take; never on two sides of the split.
        split: `train`, `val` or `test`.
        joints: (T, 22, 3) metres, y up.
    """

    name: str
    group: str
    split: str
    joints: F64


@dataclass(frozen=True, slots=True)
class Material:
    """Clips with their provenance.

    Args:
        clips: All of them.
        record: The `data` record of the run.
        inputs: `{role, sha256, schema}` of what was read.
        folder: Root of the files, None for procedural clips.
        synthetic: None of it was recorded.
        notes: What was left out, and why.
    """

    clips: list[Clip]
    record: dict[str, Any]
    inputs: list[dict[str, Any]]
    folder: Path | None
    synthetic: bool
    notes: list[str] = field(default_factory=list)

    def of(self, split: str) -> list[Clip]:
        return [c for c in self.clips if c.split == split]


def dancer_clips(count: int, seed: int) -> Material:
    """Procedural dancers of many statures, tempi and activities; flagged synthetic.

    Args:
        count: How many, at least 3.
        seed: Of the dances: clip k is the same for every count.
    """
    from choreo_cli.motion.dancer import choreograph, poses, write_score

    found = []
    times = np.arange(int(SECONDS * FPS)) / FPS + 1.0
    for k in range(count):
        rng = np.random.default_rng((seed, k))
        score = write_score(np.arange(0.0, SECONDS + 4, 60 / rng.uniform(80, 150)), rng.uniform(0.3, 1.0), rng)
        dance = choreograph(score, rng, height_m=float(rng.uniform(1.5, 1.95)))
        found.append((f"dancer-{k:04d}", f"dancer-{k:04d}", "none", poses(dance, times)))
    told = f"{count} procedural dancers, seed {seed}"
    record = {"sha256": hashlib.sha256(told.encode()).hexdigest(), "path": told, "schema": "procedural"}
    notes = ["every clip is procedural: errors say nothing of how real people move"]
    return _material(found, record, [], None, True, notes)


def manifest_clips(manifest: Manifest, roots: Mapping[str, str]) -> Material:
    """The clips of a `choreo.motions/1` manifest, in the splits it names.

    Raises:
        DataError: fewer than two clips can be read.
    """
    folders = resolve_roots(manifest, dict(roots))
    own = folders.get("out") or (manifest.file.parent if manifest.file else Path())
    found, notes = [], []
    for e in manifest.entries:
        try:
            path = safe_join(own, e["path"])
            if sha256_file(path) != e["sha256"]:
                raise FormatError("not the file that the manifest names", file=path)
            joints, fps, _ = joints_of(path, Asked())
            found.append((e["path"], e["group_id"] or e["performer"] or e["id"], e["split"], at_30(joints, fps)))
        except (FormatError, ChoreoError, OSError) as error:
            notes.append(f"left out {e['path']}: {error}")
    record = {"sha256": manifest.sha256, "path": manifest.file.name if manifest.file else "-", "schema": MOTION.schema}
    inputs = [{"role": "motions", "sha256": manifest.sha256, "schema": MOTION.schema}]
    synthetic = bool(manifest.entries) and all(e["synthetic"] for e in manifest.entries)
    return _material(found, record, inputs, own, synthetic, notes)


def folder_clips(folder: Path) -> Material:
    """Every motion file under a folder; the file is the group.

    Raises:
        NoInputError: there is none.
        DataError: fewer than two clips can be read.
    """
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    if not files:
        raise NoInputError(f"no motion file in {folder}", hint=f"need {', '.join(SUFFIXES)}, or motions.json")
    found, notes, digest = [], [], hashlib.sha256()
    for path in files:
        name = path.relative_to(folder).as_posix()
        try:
            joints, fps, _ = joints_of(path, Asked())
            found.append((name, name, "none", at_30(joints, fps)))
            digest.update(f"{name} {sha256_file(path)}\n".encode())
        except (FormatError, ChoreoError, OSError) as error:
            notes.append(f"left out {name}: {error}")
    record = {"sha256": digest.hexdigest(), "path": ".", "schema": "motion files"}
    inputs = [{"role": "motions", "sha256": digest.hexdigest(), "schema": "motion files"}]
    return _material(found, record, inputs, folder, False, notes)


def split_groups(groups: Sequence[str]) -> dict[str, str]:
    """A split for each group, by the hash of its name: a fifth to the test, a tenth to validation, at least one each.

    Two groups are training and test; one is training alone.
    """
    order = sorted(set(groups), key=lambda g: hashlib.sha256(g.encode()).hexdigest())
    n = len(order)
    test = max(1, round(TEST * n)) if n > 1 else 0
    val = max(1, round(VAL * n)) if n > 2 else 0
    return {g: "test" if k < test else "val" if k < test + val else "train" for k, g in enumerate(order)}


def at_30(joints: F64, fps: float) -> F64:
    """Joints at 30 fps: straight lines between frames are good enough to look at."""
    if abs(fps - FPS) < 1e-6:
        return np.asarray(joints, np.float64)
    n = 1 + int(np.floor((len(joints) - 1) * FPS / fps + 1e-9))
    at = np.arange(n) * fps / FPS
    left = np.minimum(at.astype(np.int64), len(joints) - 2)
    share = (at - left)[:, None, None]
    return np.asarray(joints[left] * (1 - share) + joints[left + 1] * share)


def _material(
    found: list[tuple[str, str, str, F64]], record: dict[str, Any], inputs: list[dict[str, Any]], folder: Path | None,
    synthetic: bool, notes: list[str],
) -> Material:  # fmt: skip
    usable = [f for f in found if len(f[3]) >= 2 and float(stature(f[3]).min()) > 0.1]
    if len(usable) < 2:
        why = notes[0] if notes else "one clip alone cannot be trained on and held out"
        raise DataError(f"{len(usable)} clip{'s' * (len(usable) != 1)} to learn from: {why}", hint="give two or more")
    chosen = split_groups([f[1] for f in usable])
    named = {f[1]: f[2] for f in usable if f[2] in SPLITS}
    if {"train", "test"} <= set(named.values()):
        chosen |= named
    else:
        notes = notes if synthetic else [*notes, "the split is by the hash of each group: no manifest named one"]
    clips = [Clip(name, group, chosen[group], joints) for name, group, _, joints in usable]
    sessions = {s: [c.name for c in clips if c.split == s] for s in SPLITS}
    rows = {s: sum(len(c.joints) for c in clips if c.split == s) for s in SPLITS}
    whole = {**record, "root": "data", "sessions": sessions, "rows": rows, "leaks": [], "notes": notes}
    return Material(clips, {**whole, "synthetic": synthetic}, inputs, folder, synthetic, notes)
