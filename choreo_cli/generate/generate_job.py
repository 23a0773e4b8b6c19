"""Dances of a call: draw each, finish it, and write it as a clip with everything that says where it came from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.errors import UsageError
from choreo_cli.generate.conditioning import channel_mask
from choreo_cli.generate.finish import finish
from choreo_cli.generate.guidance import Guidance
from choreo_cli.generate.heard import Heard
from choreo_cli.generate.keyframes import HEIGHT_M, Keyframes, in_training, scaled
from choreo_cli.generate.root_path import correct_root
from choreo_cli.generate.sampling import Sampler
from choreo_cli.generate.stream import chain
from choreo_cli.motion.choreo25 import integrate_root
from choreo_cli.motion.skeleton import canonical_skeleton
from formats.motion_npz import Header, MotionClip

F32 = NDArray[np.float32]

TASKS = ("gen", "inbetween", "predict")
JOINS = ("overlap", "chain")
LAYOUTS = {"npz": "choreo25", "bvh": "bvh", "humanml3d": "humanml3d", "mp4": "choreo25"}
SUFFIXES = {"npz": (".npz",), "bvh": (".bvh", ".json"), "humanml3d": (".npy", ".json"), "mp4": (".npz", ".mp4")}


@dataclass(frozen=True, slots=True)
class How:
    """How dances are drawn.

    Args:
        task: Of `TASKS`.
        steps, solver, cfg: Of the sampling; None takes the model's own.
        seed: Of the noise.
        join: How windows are joined: `overlap` or `chain`.
        overlap: Frames that windows share, None for half.
        lock: Hold standing feet.
        keys: Frames that are given.
    """

    task: str = "gen"
    steps: int | None = None
    solver: str | None = None
    cfg: Guidance | None = None
    seed: int = 0
    join: str = "overlap"
    overlap: int | None = None
    lock: bool = True
    keys: Keyframes | None = None

    def asked(self) -> dict[str, Any]:
        """For `Sampler.dance` and `stream.chain`."""
        return {"steps": self.steps, "solver": self.solver, "cfg": self.cfg}


@dataclass(frozen=True, slots=True)
class Dance:
    """A dance in memory.

    Args:
        name: Of its file.
        clip: Channels and header.
        music: What it is danced to.
        report: What was done to it.
    """

    name: str
    clip: MotionClip
    music: Heard
    report: dict[str, Any] = field(default_factory=dict)


def check_how(how: How, sampler: Sampler) -> None:
    """Raise UsageError for what a model cannot do."""
    if how.task not in TASKS:
        raise UsageError(f"no task {how.task!r}", hint=f"choose from {', '.join(TASKS)}")
    if how.join not in JOINS:
        raise UsageError(f"--join {how.join!r}", hint=f"choose from {', '.join(JOINS)}")
    if how.task == "gen" and how.keys is not None:
        raise UsageError("--task gen is given nothing", hint="leave --keyframes out, or say predict or inbetween")
    if how.task != "gen" and how.keys is None:
        raise UsageError(f"--task {how.task} needs frames", hint="give them with --keyframes")
    if how.overlap is not None and (how.join != "overlap" or not 0 <= how.overlap < sampler.frames):
        raise UsageError(f"--overlap {how.overlap}", hint=f"0 to {sampler.frames - 1}, for --join overlap")
    needed = {how.task.upper(), *(["PREDICT"] if how.join == "chain" else [])}
    missing = sorted(needed - set(sampler.tasks)) if sampler.tasks else []
    if missing:
        raise UsageError(
            f"the model has not learned {missing[0].lower()}",
            hint=f"it knows {', '.join(t.lower() for t in sampler.tasks)}",
        )
    own = sampler.defaults.solver
    if how.solver not in (None, own) and (sampler.baked or sampler.process.name != "flow"):
        kind = "distilled" if sampler.baked else "diffusion"
        raise UsageError(f"--solver {how.solver}: a {kind} model takes its own steps", hint="leave --solver out")
    if sampler.baked and how.cfg is not None:
        raise UsageError("guidance is part of this distilled model", hint="leave --cfg out")
    sampler.process.evaluations(how.steps or sampler.steps, how.solver or sampler.defaults.solver)


def row_of(how: How, music: Heard, number: int) -> tuple[int, ...]:
    """The numbers that a dance's noise follows from: the seed, the music's content, and its own number."""
    return (how.seed, int(music.sha256[:12] or "0", 16), number)


def dance(sampler: Sampler, music: Heard, how: How, number: int, name: str) -> Dance:
    """Draw one dance and finish it.

    Raises:
        DataError: what `Sampler.dance` raises; a keyframe beyond the dance.
    """
    keys, n = how.keys, music.frames
    told, values, flags = _told(keys, n)
    row = row_of(how, music, number)
    if how.join == "chain":
        made = np.concatenate(list(chain(sampler, music.values, row, frames=n, **told, **how.asked())))
    else:
        task = None if keys is None else how.task
        drawn = sampler.dance(music.values, [row], frames=n, overlap=how.overlap, task=task, **told, **how.asked())
        made = drawn[0]
    report: dict[str, Any] = {}
    channels, given = _in_own_size(made, keys, values, flags), flags
    if keys is not None and keys.places:
        channels = correct_root(channels, sampler.fps, keys.places, start=keys.start, fixed=flags[:, 0])
        report["root_led_to"] = [p.frame for p in keys.places]
    header = header_of(sampler, keys, how)
    done = finish(channels, header.skeleton, sampler.fps, given=given, lock=how.lock)
    report |= {**done.report, **_astray(done.channels, keys, sampler.fps)}
    return Dance(name, MotionClip(done.channels, header), music, report)


def pieces(sampler: Sampler, music: Heard, how: How, number: int = 0) -> tuple[Header, Iterator[F32]]:
    """The header of a dance, and its finished frames (n, 25) as they are made."""
    keys, n = how.keys, music.frames
    told, values, flags = _told(keys, n)
    scale = 1.0 if keys is None else keys.scale
    header = header_of(sampler, keys, how)
    body = scaled(header.skeleton, scale)

    def finished(window: F32, given: NDArray[np.bool_]) -> F32:
        return finish(window, body, sampler.fps, given=given, lock=how.lock).channels

    def made() -> Iterator[F32]:
        at = 0
        row = row_of(how, music, number)
        for piece in chain(sampler, music.values, row, frames=n, finish=finished, **told, **how.asked()):
            span = slice(at, at + len(piece))
            yield _in_own_size(piece, keys, values[span], flags[span])
            at = span.stop

    return header, made()


def header_of(sampler: Sampler, keys: Keyframes | None, how: How) -> Header:
    """The header of a dance: the canonical body of 1.70 m, or that of its keyframes."""
    skeleton = canonical_skeleton(HEIGHT_M) if keys is None else keys.skeleton
    yaw, x, z = (0.0, 0.0, 0.0) if keys is None else keys.start
    return Header(
        fps=sampler.fps, skeleton=skeleton, yaw0=yaw, x0=x, z0=z,
        height_m=HEIGHT_M if keys is None else HEIGHT_M / keys.scale,
        source={"format": "generated", "model_sha256": sampler.identity, "task": how.task},
        origin="choreo generate", flags={"synthetic": True, "generated": True},
    )  # fmt: skip


def _told(keys: Keyframes | None, n: int) -> tuple[dict[str, Any], F32, NDArray[np.bool_]]:
    """Known values and mask for the network, the values as they were given, and where (T, 25)."""
    if keys is None:
        return {}, np.zeros((n, 25), np.float32), np.zeros((n, 25), bool)
    values, mask = keys.over(n)
    return {"known": in_training(values, keys.scale), "mask": mask}, values, channel_mask(mask)


def _in_own_size(made: F32, keys: Keyframes | None, values: F32, flags: NDArray[np.bool_]) -> F32:
    """Channels of the training's stature as those of the body itself, with what was given bit for bit."""
    if keys is None or keys.scale == 1.0:
        return made
    return np.where(flags, values, in_training(made, 1.0 / keys.scale))


def _astray(channels: F32, keys: Keyframes | None, fps: float) -> dict[str, Any]:
    """How far the root is from places that nobody asked for."""
    if keys is None or not keys.wanted:
        return {}
    _, root = integrate_root(channels, fps, *keys.start)
    away = [float(np.hypot(root[p.frame, 0] - p.x, root[p.frame, 2] - p.z)) for p in keys.wanted]
    worst = int(np.argmax(away))
    return {"root_away": {"frame": keys.wanted[worst].frame, "metres": round(away[worst], 4)}}


def entry_and_files(
    made: Dance, to: str, sampler: Sampler, how: How, number: int, created_by: Mapping[str, Any], music: str | None
) -> tuple[dict[str, Any], list[tuple[str, bytes]]]:
    """The record of `choreo.motions/1` but `path` and `sha256`, and (name, bytes) of the dance's files.

    Raises:
        DataError: too short for the layout.
    """
    from choreo_cli.motion.retarget import How as Layout
    from choreo_cli.motion.retarget import convert
    from choreo_cli.motion.retarget_inputs import OWN, Opened

    h = made.clip.header
    told = {"rig": OWN, "fps": h.fps, "scale": 1.0, "height_m": h.height_m}
    done = convert(Opened(OWN, made.clip, None, told), Layout(LAYOUTS[to]), created_by, {})
    asked = {
        "task": how.task, "steps": how.steps or sampler.steps, "solver": how.solver or sampler.defaults.solver,
        "cfg": cfg_record(how.cfg or sampler.cfg), "seed": how.seed, "clip": number, "nfe": sampler.nfe,
        "evaluations": sampler.rows, "join": how.join if made.music.frames > sampler.frames else None,
        "keyframes": None if how.keys is None else list(how.keys.rows), "music_sha256": made.music.sha256 or None,
    }  # fmt: skip
    found = {
        **done.facts, "source": f"generate {sampler.process.name}", "source_sha256": sampler.identity or None,
        "flags": ["generated"], "report": {**asked, **made.report, "assumptions": list(made.music.notes)},
        "music": music, "group_id": made.music.sha256[:16] or None, "split": "none", "performer": None, "captions": [],
        "licence": None, "synthetic": True,
    }  # fmt: skip
    return found, [(made.name + suffix, data) for suffix, data in done.files]


def cfg_record(cfg: Guidance | None) -> dict[str, float] | None:
    """Guidance for a record; None when it is part of the model."""
    return None if cfg is None else {"audio": cfg.audio, "text": cfg.text, "low": cfg.low, "high": cfg.high}


def named(music: list[Heard], clips: int) -> list[tuple[Heard, int, str]]:
    """Music, number and unique name of every dance."""
    import re

    digits, used, found = len(str(max(0, clips - 1))), set[str](), []
    for heard in music:
        base = re.sub(r"[^\w.-]+", "-", heard.name).strip(".-")[:80] or "dance"
        name, k = base, 2
        while name.lower() in used:  # a file system may not tell upper case from lower case
            name, k = f"{base}-{k}", k + 1
        used.add(name.lower())
        found += [(heard, number, f"{name}-{number:0{digits}d}" if clips > 1 else name) for number in range(clips)]
    return found


def music_root(paths: list[Path]) -> Path | None:
    """The folder that all music lies under."""
    import os

    return Path(os.path.commonpath([p.resolve().parent for p in paths])) if paths else None


def need_same_fps(asked: float | None, sampler: Sampler) -> None:
    """Raise UsageError when another rate is asked for than the model dances at."""
    if asked is not None and abs(asked / sampler.fps - 1) > 1e-3:
        raise UsageError(
            f"--fps {asked:g}: the model dances at {sampler.fps:g}",
            hint="choreo retarget --resample changes the result",
        )
