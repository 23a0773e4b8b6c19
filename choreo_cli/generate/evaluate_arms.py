"""Clips of an arm, made and judged in blocks kept by content: a killed evaluation goes on, a second one is quick."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.generate.diffusion import Ddim
from choreo_cli.generate.evaluate_conditions import Conditions
from choreo_cli.generate.flow import Flow
from choreo_cli.generate.open_model import model_folder, open_sampler
from choreo_cli.generate.sampling import Sampler
from choreo_cli.generate.tasks import inbetween_mask, predict_mask
from choreo_cli.metrics import generation_clip, generation_tasks
from formats import generated_npz
from formats.errors import FormatError

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

BLOCK = 32  # clips made and kept together
VERSION = "generated-1"
ENDS = 8  # frames given at both ends of an in-betweening
MODEL_FILES = ("model.json", "*.safetensors", "*.onnx", "*.npz")


@dataclass(frozen=True, slots=True)
class Setting:
    """How an arm samples.

    Args:
        steps: Steps of the solver.
        solver: See `solvers.solve`.
        cfg: Weight of the music; None takes the model's own.
        shift: Time shift of a flow's grid; None takes the model's own.
        task: `gen`, `predict` or `inbetween`.
        eta: Of a diffusion, 0 deterministic and 1 ancestral; None takes the model's own.
    """

    steps: int
    solver: str = "euler"
    cfg: float | None = None
    shift: float | None = None
    task: str = "gen"
    eta: float | None = None

    def told(self) -> dict[str, Any]:
        """What decides the clips, for a key: clips kept before there was an `eta` keep theirs."""
        return {k: v for k, v in asdict(self).items() if k != "eta" or v is not None}


@dataclass(frozen=True, slots=True)
class Block:
    """Some clips of an arm: the work of one process.

    Args:
        model: Folder of the model; None judges the held-out dances themselves.
        identity: sha256 of the model's files.
        setting: How it samples.
        seed: Of the noise.
        first: Number of the first clip: noise depends on it.
        conditions: One row a clip.
        cache: Where made clips are kept; None keeps nothing.
    """

    model: Path | None
    identity: str
    setting: Setting
    seed: int
    first: int
    conditions: Conditions
    cache: Path | None

    @property
    def key(self) -> str:
        """sha256 over all that decides the clips and what is found of them."""
        told = {
            "model": self.identity, "setting": self.setting.told(), "seed": self.seed, "first": self.first,
            "conditions": self.conditions.digest(), "version": [VERSION, generation_clip.VERSION],
        }  # fmt: skip
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Made:
    """What a block became.

    Args:
        channels: (n, T, 25).
        figures: Name -> (n,); NaN where a clip has none.
        kinetic, manual: (n, 66) and (n, 32) features.
        nfe, rows: Evaluations, and network rows, a clip.
        reasons: Of each clip, why it is not sane.
        parts: Of each clip, the parts of its musicality.
        seconds: Making and judging it; None when it was kept from before.
    """

    channels: F32
    figures: dict[str, F64]
    kinetic: F64
    manual: F64
    nfe: int
    rows: int
    reasons: tuple[tuple[str, ...], ...]
    parts: tuple[dict[str, float], ...]
    seconds: tuple[float, float] | None = None


def identity_of(path: Path) -> tuple[Path, str]:
    """A model's folder and the sha256 of its files. Raises what `open_model.model_folder` raises."""
    from formats.atomic import sha256_file

    folder = model_folder(path)
    files = sorted({f for pattern in MODEL_FILES for f in folder.glob(pattern) if f.is_file()})
    told = "".join(f"{f.name} {sha256_file(f)}\n" for f in files)
    return folder, hashlib.sha256(told.encode()).hexdigest()


def slices(conditions: Conditions, clips: int) -> list[tuple[int, Conditions]]:
    """(number of the first clip, conditions of a block): clip k takes condition k mod K. Shared by all arms."""
    firsts = range(0, clips, BLOCK)
    return [(f, conditions.rows(np.arange(f, min(f + BLOCK, clips)) % len(conditions))) for f in firsts]


def make(block: Block) -> Made:
    """Make and judge the clips of a block, or take them as they were kept."""
    kept = None if block.cache is None else _place(block.cache, block.key)
    if kept is not None:
        try:
            return _decoded(kept.read_bytes(), kept)
        except (OSError, FormatError, KeyError, ValueError):
            pass  # nothing there, or damaged: it is made again
    if block.model is not None:  # loading it is no part of what a clip costs
        _sampler(str(block.model), block.identity, block.setting.shift, block.setting.eta)
    started = time.perf_counter()
    channels, nfe, rows = _drawn(block)
    drawn = time.perf_counter()
    made = _judged(block, channels, nfe, rows)
    if kept is not None:
        _keep(kept, made)
    return replace(made, seconds=(drawn - started, time.perf_counter() - drawn))


def known_frames(setting: Setting, frames: int) -> tuple[F32, list[int]] | None:
    """Mask (T, 7) and given frames of a task; None for `gen`."""
    if setting.task == "gen":
        return None
    if setting.task == "predict":
        prefix = min(16, max(2, frames // 4))
        return predict_mask(frames, prefix), list(range(prefix))
    ends = min(ENDS, max(1, frames // 8))
    given = [*range(ends), *range(frames - ends, frames)]
    return inbetween_mask(frames, given), given


def _drawn(block: Block) -> tuple[F32, int, int]:
    c, s = block.conditions, block.setting
    if block.model is None:
        return c.x, 0, 0
    sampler = _sampler(str(block.model), block.identity, s.shift, s.eta)
    held = known_frames(s, c.x.shape[1])
    mask = None if held is None else np.broadcast_to(held[0], (len(c), *held[0].shape))
    audio = c.audio if c.audio.shape[2] else None
    if c.x.shape[1] > sampler.frames:
        noise = [(block.seed, block.first + k) for k in range(len(c))]
        long = sampler.dance(audio, noise, frames=c.x.shape[1], steps=s.steps, solver=s.solver, cfg=s.cfg)
        return long, sampler.nfe, sampler.rows
    made = sampler.sample(
        audio, known=None if held is None else c.x, mask=mask, task=s.task, steps=s.steps, solver=s.solver, cfg=s.cfg,
        seed=block.seed, first=block.first, clips=len(c), frames=None if audio is not None else c.x.shape[1],
    )  # fmt: skip
    return made, sampler.nfe, sampler.rows


@lru_cache(maxsize=2)
def _sampler(folder: str, identity: str, shift: float | None, eta: float | None) -> Sampler:
    del identity  # part of the key: a folder may be trained anew
    sampler = open_sampler(Path(folder), threads=1)
    if shift is not None and isinstance(sampler.process, Flow):
        sampler.process = replace(sampler.process, shift=shift)
    if eta is not None and isinstance(sampler.process, Ddim):
        sampler.process = replace(sampler.process, eta=eta)
    return sampler


def _judged(block: Block, channels: F32, nfe: int, rows: int) -> Made:
    if block.setting.task != "gen":
        return _judged_task(block, channels, nfe, rows)
    c = block.conditions
    found = [
        generation_clip.judge(channels[k], c.skeleton(k), c.fps, c.music[k], c.decoys[k]) for k in range(len(c))
    ]  # fmt: skip
    figures = {n: np.array([j.figures[n] for j in found]) for n in generation_clip.FIGURES}
    return Made(
        channels, figures, np.stack([j.kinetic for j in found]), np.stack([j.manual for j in found]), nfe, rows,
        tuple(j.reasons for j in found), tuple(j.parts for j in found),
    )  # fmt: skip


def _judged_task(block: Block, channels: F32, nfe: int, rows: int) -> Made:
    c = block.conditions
    held = known_frames(block.setting, c.x.shape[1])
    assert held is not None
    given = held[1]
    flags = np.zeros(c.x.shape[1:], bool)
    flags[given] = True
    found = []
    for k in range(len(c)):
        real, made, body = c.x[k], channels[k], c.skeleton(k)
        if block.setting.task == "predict":
            one = generation_tasks.predicted(made, real, body, c.fps, len(given))
        else:
            one = generation_tasks.filled(made, real, body, c.fps, given)
        found.append({**one, "known": generation_tasks.kept_exactly(made, real, flags)})
    names = sorted({n for one in found for n in one})
    figures = {n: np.array([one.get(n, np.nan) for one in found]) for n in names}
    none = np.full((len(c), 1), np.nan)
    return Made(channels, figures, none, none, nfe, rows, ((),) * len(c), ({},) * len(c))


def _place(cache: Path, key: str) -> Path:
    return cache / key[:2] / f"{key}.npz"


def _keep(path: Path, made: Made) -> None:
    """Write a block; a medium that is full or read only is no reason to stop."""
    from formats.atomic import write_bytes

    told = {"nfe": made.nfe, "rows": made.rows, "reasons": [list(r) for r in made.reasons], "parts": list(made.parts)}
    arrays: generated_npz.Arrays = {"channels": made.channels, "kinetic": made.kinetic, "manual": made.manual}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, generated_npz.encode(arrays, made.figures, told))
    except OSError:
        return


def _decoded(data: bytes, path: Path) -> Made:
    arrays, figures, told = generated_npz.decode(data, file=path)
    return Made(
        arrays["channels"], figures, arrays["kinetic"], arrays["manual"], int(told["nfe"]), int(told["rows"]),
        tuple(tuple(r) for r in told["reasons"]), tuple(dict(p) for p in told["parts"]),
    )  # fmt: skip
