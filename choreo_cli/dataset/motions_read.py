"""Clips to train on, wherever they lie: a manifest of motions, a folder of motion files, a pack and its recordings."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.audio.dance_archive import DanceTrack, read_track
from choreo_cli.dataset.motions_store import ClipFacts
from choreo_cli.errors import ChoreoError, DataError, NoInputError
from formats.errors import FormatError
from formats.manifest import Manifest, find_file, home_and_roots, safe_join
from formats.motion_npz import MotionClip

F32 = NDArray[np.float32]
Taken = tuple[ClipFacts, F32, F32]

HEIGHT_M = 1.70  # the training scale: velocities and heights of different performers become comparable
LEAST_FPS = 8.0
SAME_RATE = 1e-3
SUFFIXES = (".npz", ".npy", ".bvh", ".amc", ".pkl", ".c3d", ".trc", ".json", ".jsonl")
SOUND = (".wav", ".flac", ".ogg", ".mp3", ".m4a", ".aac")
_METRES = ("op", "o6", "o9", "oc", "o15", "upper_arm", "forearm", "thigh", "shank", "foot", "ank0")


@dataclass(frozen=True, slots=True)
class Want:
    """What a training wants of every clip: frame rate, whether it hears, and whether it hears the beat phase."""

    fps: float
    audio: bool = True
    phase: bool = False


@dataclass(frozen=True, slots=True)
class Listed:
    """One clip before it is read.

    Args:
        name: For sentences and records.
        motion: Its file.
        sha256: What the file must hold, None when nobody said.
        music: Sound or feature file, None without one.
        told: `group`, `performer`, `split`, `captions`, `synthetic`, `licence`.
        missing: Why its music cannot be used, empty when it can.
        clock: Start of the motion on the music's clock in microseconds, and the drift in ppm; None when both start
            together.
    """

    name: str
    motion: Path
    sha256: str | None
    music: Path | None
    told: Mapping[str, Any]
    missing: str = ""
    clock: tuple[int, float] | None = None


def of_manifest(manifest: Manifest, roots: Mapping[str, str]) -> tuple[list[Listed], Path]:
    """The clips of a `choreo.motions/1` manifest, and its folder."""
    base, folders = home_and_roots(manifest, roots)
    found = []
    for e in manifest.entries:
        music = find_file(e["music"], (base, *folders.values()))
        lost = f"its music {e['music']} is not there" if e["music"] is not None and music is None else ""
        told = {
            "group": e["group_id"] or e["performer"] or e["id"], "performer": e["performer"], "split": e["split"],
            "captions": e["captions"], "synthetic": e["synthetic"], "licence": e["licence"],
        }  # fmt: skip
        found.append(Listed(e["path"], safe_join(base, e["path"]), e["sha256"], music, told, lost))
    return found, base


def of_folder(folder: Path) -> list[Listed]:
    """Every motion file under a folder; its music is the sound or feature file of the same name beside it.

    Hidden files and folders are passed over: the shards of an earlier training lie in one.

    Raises:
        NoInputError: there is no motion file.
    """
    shown = (p for p in sorted(folder.rglob("*")) if not any(n.startswith(".") for n in p.relative_to(folder).parts))
    files = [p for p in shown if p.is_file()]
    sounds = {p.with_suffix(""): p for p in files if p.suffix.lower() in SOUND}
    feats = {p for p in files if ".dance-" in p.name or p.name.endswith((".music.npy", ".music.npz"))}
    found = []
    for p in files:
        if p.suffix.lower() not in SUFFIXES or p in feats or p.name.endswith((".run.json", "metadata.json")):
            continue
        beside = next((f for f in feats if f.name.startswith(f"{p.stem}.music.") and f.parent == p.parent), None)
        name = p.relative_to(folder).as_posix()
        found.append(Listed(name, p, None, sounds.get(p.with_suffix(""), beside), {"group": name, "split": "none"}))
    if not found:
        raise NoInputError(f"no motion file in {folder}", hint=f"need {', '.join(SUFFIXES)}, or motions.json")
    return found


def digest_of(listed: Sequence[Listed], want: Want, version: str) -> str:
    """sha256 over the content of all files and everything else that decides the shards."""
    from choreo_cli.audio.dance_features import params_digest
    from formats.atomic import sha256_file

    sha = hashlib.sha256(f"{version} {want.fps:g} {want.audio} {HEIGHT_M}".encode())
    sha.update(params_digest(want.fps, phase=want.phase).encode() if want.audio else b"")
    music: dict[Path, str] = {}
    for item in listed:
        if item.music is not None and item.music not in music:
            music[item.music] = sha256_file(item.music)
        content = item.sha256 or (sha256_file(item.motion) if item.motion.is_file() else "gone")
        heard = music[item.music] if item.music is not None else item.missing
        told = sorted((k, str(v)) for k, v in item.told.items())
        sha.update(f"{item.name} {content} {heard} {item.clock} {told}\n".encode("utf-8", "surrogateescape"))
    return sha.hexdigest()


def take(listed: Sequence[Listed], want: Want, notes: list[str]) -> Iterator[Taken]:
    """Read every clip; what cannot be used is left out with a sentence in `notes`.

    Raises:
        DataError: music is wanted and no clip has any.
    """
    if want.audio and not any(i.music for i in listed):
        raise DataError(
            "no clip has music", hint="name it in the manifest (choreo pair, choreo synth motions), or train without"
        )
    width: tuple[str, ...] | None = None
    for item in listed:
        try:
            facts, x, track = _one(item, want)
        except (FormatError, ChoreoError, OSError) as error:
            notes.append(f"left out {item.name}: {_plain(error)}")
            continue
        if track is None:
            yield facts, x, np.empty((len(x), 0), np.float32)
            continue
        width = width or track.names
        if track.names != width:
            notes.append(f"left out {item.name}: its music has {track.width} features, the others {len(width)}")
            continue
        notes.extend(a for a in track.assumptions if a not in notes)
        x, audio, cut = _together(x, track, item, want.fps)
        if cut:
            notes.append(f"{item.name}: {cut} of its frames lie outside the music and were cut")
        if len(x):
            yield facts, x, audio


def _one(item: Listed, want: Want) -> tuple[ClipFacts, F32, DanceTrack | None]:
    from choreo_cli.motion.retarget_inputs import Asked, open_motion
    from formats.atomic import sha256_file

    if not item.motion.is_file():
        raise NoInputError("the file is not there")
    if item.sha256 is not None and sha256_file(item.motion) != item.sha256:
        raise DataError("its content is not what the manifest says")
    if want.audio and item.music is None:
        raise DataError(item.missing or "it has no music")
    opened = open_motion(item.motion, Asked())
    clip = opened.clip
    if clip is None:
        from choreo_cli.motion.choreo25 import encode

        assert opened.prepared is not None
        clip = encode(opened.prepared.joints, opened.prepared.fps)
    x, skeleton, scale, clamped = normal(clip, want.fps)
    track = None
    if want.audio and item.music is not None:
        _, begin_us = _begin(item, want.fps)
        track = read_track(item.music, want.fps, phase=want.phase, start_us=begin_us)
    told = item.told
    synthetic = bool(told.get("synthetic") or clip.header.flags.get("synthetic"))
    facts = ClipFacts(
        item.name, str(told.get("group") or item.name), told.get("performer"), track.sha256 if track else "",
        str(told.get("split", "none")), tuple(told.get("captions") or ()), synthetic,
        told.get("licence") or clip.header.licence, tuple(skeleton.tolist()), scale, clamped,
    )  # fmt: skip
    return facts, x, track


def normal(clip: MotionClip, fps: float) -> tuple[F32, NDArray[np.float64], float, int]:
    """A clip at the training's rate and stature, inside its hard ranges.

    Scaling the root's velocity, its height and the skeleton by one factor scales every decoded joint by it: the other
    channels are angles or shares of a limb. Toes alone differ, by up to 2 mm: their rule counts in metres.

    Returns:
        channels (T, 25) float32, skeleton (58,), the factor, and how many values were clamped.

    Raises:
        DataError: inverted, not finite, slower than 8 fps, or of no human stature.
    """
    from choreo_cli.motion.choreo25 import clamp, resample_clip

    h = clip.header
    if not np.isfinite(clip.channels).all():
        raise DataError("channels that are not finite")
    if h.flags.get("inverted"):
        raise DataError("the body turns upside down, where pelvis angles are singular")
    if h.fps < LEAST_FPS:
        raise DataError(f"{h.fps:g} frames per second: below {LEAST_FPS:g} poses are context, never motion")
    if not 0.3 <= h.height_m <= 3.0:
        raise DataError(f"a stature of {h.height_m:g} m", hint="give --height or --scale to choreo retarget")
    if abs(h.fps / fps - 1) > SAME_RATE:
        clip = resample_clip(clip, fps)
    k = HEIGHT_M / h.height_m
    channels = np.array(clip.channels, np.float32)
    channels[:, :3] *= np.float32(k)
    body = replace(h.skeleton, **{name: getattr(h.skeleton, name) * k for name in _METRES})
    x, counts = clamp(channels)
    return x, body.to_vector(), float(k), int(sum(counts.values()))


def _begin(item: Listed, fps: float) -> tuple[int, int]:
    """The first motion frame that lies in the music, and its time there in microseconds."""
    start_us = item.clock[0] if item.clock is not None else 0
    first = max(0, int(np.ceil(-start_us * 1e-6 * fps - 1e-6)))
    return first, max(0, round(start_us + first * 1e6 / fps))


def _together(x: F32, track: DanceTrack, item: Listed, fps: float) -> tuple[F32, F32, int]:
    """Motion and music over the stretch where both are: channels, features, frames cut."""
    first, _ = _begin(item, fps)
    rate = 1.0 if item.clock is None else 1.0 + item.clock[1] * 1e-6
    at = np.rint(np.arange(max(0, len(x) - first)) * rate).astype(np.int64)
    # The last half second is reverberation: repeating its last row invents nothing that could be danced to.
    keep = int((at < len(track.values) + 0.5 * fps).sum())
    return x[first : first + keep], track.values[np.minimum(at[:keep], len(track.values) - 1)], len(x) - keep


def _plain(error: Exception) -> str:
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    return text[:300]
