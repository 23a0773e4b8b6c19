"""One clip from its file to its film: read, cut, pair with its reference, hear its music, draw everything asked for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli import __version__
from choreo_cli.errors import ChoreoError, DataError, UnavailableError
from choreo_cli.motion import raster
from choreo_cli.motion.scene import Actor, Look, Scene, scene
from choreo_cli.motion.video_inputs import Item, beats_of, load_sound
from formats.errors import FormatError

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

KINDS = ("mp4", "sheet", "preview", "plot", "player")
SUFFIX = {"mp4": ".mp4", "sheet": ".sheet.png", "preview": ".preview.png", "plot": ".plot.png", "player": ".html"}
MAX_FPS = 60.0


@dataclass(frozen=True, slots=True)
class Options:
    """What to make of every clip.

    Args:
        make: Of `KINDS`.
        look: How it is drawn.
        fps: Frame rate of what is made; None keeps the clip's, halved until it is at most 60.
        start_s: Where in the clip to begin.
        seconds: How much of it, None for all.
        music: Sound for all clips, instead of what manifests name.
        music_offset_s: Time of the music at the clip's own first frame.
        beats_s: (B,) annotated beats on the music's clock; None to listen for them.
        hear_beats: Whether to listen for beats where none are given.
        metrics: Entries of `choreo.metrics/1` shown in the player.
        source_fps: Rate of files that do not know theirs.
        map: Names of joints or channels of files that nobody knows.
    """

    make: tuple[str, ...] = ("mp4", "sheet")
    look: Look = field(default_factory=Look)
    fps: float | None = None
    start_s: float = 0.0
    seconds: float | None = None
    music: Path | None = None
    music_offset_s: float = 0.0
    beats_s: tuple[float, ...] | None = None
    hear_beats: bool = True
    metrics: tuple[Mapping[str, Any], ...] = ()
    source_fps: float | None = None
    map: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """One clip, its reference, where to, and what; can be sent to another process."""

    item: Item
    reference: Item | None
    out: Path
    options: Options


@dataclass(frozen=True, slots=True)
class Made:
    """What came of a task: a record of `choreo.videos/1` and (role, relative path, sha256) of its files; or why not."""

    name: str
    entry: dict[str, Any] | None = None
    files: tuple[tuple[str, str, str], ...] = ()
    problem: str | None = None


def attempt(task: Task) -> Made:
    """Draw one clip of several; one that cannot be drawn is told, not raised, unless the install is at fault."""
    try:
        return render(task)
    except UnavailableError:
        raise
    except (ChoreoError, FormatError) as e:
        return Made(task.item.shown, problem=" ".join(str(e).split())[:300])


def render(
    task: Task, on_progress: Callable[[int, int], None] | None = None, starting: Callable[[], None] = lambda: None
) -> Made:
    """Draw one clip into its files; `starting` is called before the first of them, once the clip is known to be sound.

    Raises:
        FormatError, DataError: the clip, its reference or its music cannot be used.
        UnavailableError: an extra is missing.
    """
    asked, item = task.options, task.item
    notes: list[str] = []
    if "mp4" in asked.make:
        from choreo_cli.motion.video_mp4 import need_av

        need_av()
    clip = _clip(item, asked, notes)
    fps = clip.fps
    clips = [clip] if task.reference is None else [_clip(task.reference, asked, notes, fps), clip]
    actors = _actors(clips, task, notes)
    sound, beats = _music(task, len(actors[0].joints) / fps, notes)
    film = scene(actors, fps, asked.look, beats)
    texts = {"Software": f"choreo {__version__}", "choreo": json.dumps(_origin(task), sort_keys=True)}
    files: dict[str, tuple[str, str]] = {}
    starting()
    for kind in (k for k in KINDS if k in asked.make):
        name = item.name + SUFFIX[kind]
        files[name] = (kind, _make(kind, task.out / name, film, sound, texts, task, on_progress))
    entry = _entry(task, film, files, sound is not None, notes, clip.licence)
    return Made(item.shown, entry, tuple((kind, name, sha) for name, (kind, sha) in files.items()))


@dataclass(slots=True)
class _Clip:
    joints: F64
    contacts: F64
    fps: float
    licence: str | None = None


def _clip(item: Item, asked: Options, notes: list[str], rate: float | None = None) -> _Clip:
    """Read a clip, cut to the stretch that is asked for, at the rate of the film (`rate`, once that is known)."""
    from choreo_cli.motion.choreo25 import contacts_of, decode
    from choreo_cli.motion.interpolate import resample_joints
    from choreo_cli.motion.retarget_inputs import Asked, open_motion

    opened = open_motion(item.path, Asked(fps=item.fps or asked.source_fps, map=asked.map))
    if opened.clip is not None:
        joints, fps = decode(opened.clip), opened.clip.header.fps
        contacts, licence = np.clip(opened.clip.channels[:, 4:6].astype(float), 0, 1), opened.clip.header.licence
    else:
        assert opened.prepared is not None
        joints, fps, licence = opened.prepared.joints, opened.prepared.fps, None
        contacts = contacts_of(joints, fps)
    first = round(asked.start_s * fps)
    last = len(joints) if asked.seconds is None else first + max(round(asked.seconds * fps), 1)
    if first >= len(joints):
        raise DataError(f"{item.shown} ends at {len(joints) / fps:.2f} s, before --start {asked.start_s:g}")
    joints, contacts = joints[first:last], contacts[first:last]
    wanted = rate or asked.fps or fps / max(int(np.ceil(fps / MAX_FPS - 1e-9)), 1)
    if wanted != fps:
        drawn = resample_joints(joints, fps, wanted)
        nearest = np.minimum(np.rint(np.arange(len(drawn)) * fps / wanted).astype(int), len(contacts) - 1)
        notes.append(f"{item.shown}: drawn at {wanted:g} fps, recorded at {fps:g}")
        joints, contacts, fps = drawn, contacts[nearest], wanted
    return _Clip(joints, contacts, fps, licence)


def _actors(clips: Sequence[_Clip], task: Task, notes: list[str]) -> list[Actor]:
    """Dancers of equal length; two start in the same place, so that one camera suits both."""
    if len(clips) == 1:
        return [Actor(clips[0].joints, clips[0].contacts, task.item.name)]
    assert task.reference is not None
    n = min(len(c.joints) for c in clips)
    if len({len(c.joints) for c in clips}) > 1:
        notes.append(f"cut to the shorter of {' and '.join(f'{len(c.joints) / c.fps:.2f} s' for c in clips)}")
    names = ((task.reference.name, "reference"), (task.item.name, "generated"))
    return [
        Actor(c.joints[:n] - c.joints[:1, :1] * [1, 0, 1], c.contacts[:n], name, role)
        for c, (name, role) in zip(clips, names, strict=True)
    ]


def _music(task: Task, duration_s: float, notes: list[str]) -> tuple[tuple[F32, int] | None, F64]:
    """Sound and beats of the film. What a manifest names and cannot be used is a note; what a person names an error."""
    asked = task.options
    path = asked.music or task.item.music
    start = asked.music_offset_s + asked.start_s
    sound = None
    named = task.item.entry["music"] if task.item.entry is not None else None
    if path is None and named:
        notes.append(f"music {named} is not there")
    if path is not None:
        try:
            sound = load_sound(path, max(start, 0.0), duration_s + min(start, 0.0))
        except (ChoreoError, FormatError) as e:
            if asked.music is not None:
                raise
            notes.append(f"music {path.name} is left out: {e}")
    if sound is not None and start < 0:  # the music begins after the dance
        samples, rate = sound
        sound = np.concatenate([np.zeros((round(-start * rate), samples.shape[1]), np.float32), samples]), rate
    if sound is not None and len(sound[0]) / sound[1] < duration_s - 0.05:
        notes.append(f"the music ends after {len(sound[0]) / sound[1]:.2f} s")
    if asked.beats_s is not None:
        return sound, np.asarray(asked.beats_s) - start
    return sound, beats_of(sound) if sound is not None and asked.hear_beats else np.empty(0)


def _make(
    kind: str, path: Path, film: Scene, sound: tuple[F32, int] | None,
    texts: dict[str, str], task: Task, on_progress: Callable[[int, int], None] | None,
) -> str:  # fmt: skip
    """Write one file; returns its sha256."""
    from formats.atomic import write_bytes

    title = task.item.name
    if kind == "mp4":
        from choreo_cli.motion import video_mp4

        return video_mp4.write(path, film, sound, title=title, on_progress=on_progress)
    if kind == "player":
        from choreo_cli.motion import player

        return write_bytes(path, player.page(film, title, sound, task.options.metrics))
    if kind == "plot":
        from choreo_cli.motion import video_plot

        return write_bytes(path, video_plot.traces(_channels(film), film.fps, film.beats_s, title, texts))
    from choreo_cli.motion import video_sheet

    draw = video_sheet.contact_sheet(film, title, texts) if kind == "sheet" else video_sheet.preview(film, texts)
    return write_bytes(path, draw)


def _channels(film: Scene) -> list[tuple[str, F32]]:
    from choreo_cli.motion.choreo25 import encode

    found = []
    for actor in film.actors:
        channels = encode(actor.joints, film.fps).channels.copy()
        channels[:, 4:6] = actor.contacts  # those of the clip, which may not be what its joints would give
        found.append((actor.role or actor.name, channels))
    return found


def _origin(task: Task) -> dict[str, Any]:
    return {
        "source_sha256": task.item.sha256,
        "reference_sha256": None if task.reference is None else task.reference.sha256,
    }


def _entry(
    task: Task, film: Scene, files: Mapping[str, tuple[str, str]], heard: bool, notes: list[str],
    licence: str | None,
) -> dict[str, Any]:  # fmt: skip
    """The record of `choreo.videos/1`."""
    from formats.atomic import sha256_file

    asked, item, entry = task.options, task.item, task.item.entry or {}
    music = (asked.music or item.music) if heard else None
    camera = film.cameras[-1]
    mp4 = next(((n, sha) for n, (kind, sha) in files.items() if kind == "mp4"), (None, None))
    shown = {**asdict(film.look), "fps": film.fps, "start_s": asked.start_s, "frames": film.frames, **_origin(task)}
    shown |= {"engine": None, "music": None if music is None else sha256_file(music)}
    height, width = film.size
    return {
        "id": "v:" + hashlib.sha256(json.dumps(shown, sort_keys=True).encode()).hexdigest()[:16],
        "path": mp4[0], "sha256": mp4[1],
        "source": item.shown, "source_sha256": item.sha256,
        "reference": None if task.reference is None else task.reference.shown,
        "reference_sha256": None if task.reference is None else task.reference.sha256,
        "music": None if music is None else music.name, "music_sha256": shown["music"],
        "n_frames": film.frames, "fps": film.fps, "duration_us": round(film.frames / film.fps * 1e6),
        "start_us": round(asked.start_s * 1e6), "width": width, "height": height, "n_beats": len(film.bar.beats_s),
        "camera": {
            "view": film.look.view, "azimuth": round(camera.azimuth, 6), "elevation": round(camera.elevation, 6),
            "distance": round(camera.distance, 6), "zoom": round(camera.zoom, 6),
            "projection": "perspective" if camera.perspective else "orthographic", "follow": film.look.follow,
        },
        "files": {name: sha for name, (_, sha) in sorted(files.items())}, "notes": notes,
        "group_id": entry.get("group_id"), "split": entry.get("split", "none"),
        "licence": entry.get("licence") or licence, "synthetic": bool(entry.get("synthetic", False)),
    }  # fmt: skip


def render_all(
    tasks: Sequence[Task], *, jobs: int = 1, on_progress: Callable[..., None] | None = None,
    starting: Callable[[], None] = lambda: None,
) -> list[Made]:  # fmt: skip
    """Draw every clip. Of several, one that cannot be drawn is told in its `Made`; when none can, that is an error.

    `starting` is called before the first file is written.

    Raises:
        FormatError, DataError: the only clip cannot be drawn, or none of them.
        UnavailableError: an extra is missing.
    """
    from choreo_cli.engine import run_map

    if len(tasks) == 1:
        return [render(tasks[0], on_progress, starting)]
    starting()
    if jobs > 1:
        raster.warm(tasks[0].options.look.engine)
    made = list(run_map(attempt, tasks, jobs=jobs, on_progress=on_progress))
    if all(m.problem for m in made):
        raise DataError(f"none of {len(made)} clips can be drawn, the first because {made[0].problem}")
    return made


def params_of(asked: Options) -> dict[str, Any]:
    """The resolved options, for provenance: no paths, and not which engine drew the same picture."""
    found = {**asdict(asked), "music": asked.music is not None, "metrics": len(asked.metrics)}
    found["look"] = {k: v for k, v in found["look"].items() if k != "engine"}
    found["beats_s"] = None if asked.beats_s is None else list(asked.beats_s)
    return found


def inputs_of(tasks: Sequence[Task]) -> list[dict[str, Any]]:
    """Digests of everything that is drawn, heard or shown, for provenance."""
    from formats.atomic import sha256_file

    found = [{"role": "motion", "sha256": t.item.sha256, "schema": "motion"} for t in tasks]
    found += [{"role": "reference", "sha256": t.reference.sha256, "schema": "motion"} for t in tasks if t.reference]
    music = dict.fromkeys(p for t in tasks if (p := t.options.music or t.item.music) is not None and p.is_file())
    found += [{"role": "music", "sha256": sha256_file(p), "schema": "music"} for p in music]
    if tasks and tasks[0].options.metrics:
        text = json.dumps(tasks[0].options.metrics, sort_keys=True)
        found.append(
            {"role": "metrics", "sha256": hashlib.sha256(text.encode()).hexdigest(), "schema": "choreo.metrics/1"}
        )
    return found
