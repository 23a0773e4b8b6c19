"""Clips to be judged: from manifests, folders and single files of any format that retarget reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from choreo_cli.errors import ChoreoError, DataError, NoInputError
from choreo_cli.metrics.motion_clip import Clip, names_unique
from formats.errors import FormatError

if TYPE_CHECKING:
    from formats.manifest import Manifest
    from formats.motion_npz import MotionClip

KIND = "choreo.motions"
MANIFEST = "motions.json"
SUFFIXES = (".bvh", ".amc", ".c3d", ".trc")  # a damaged file of these is told, not passed over
_CAP = 256 << 20


@dataclass(slots=True)
class Found:
    """What was read.

    Args:
        clips: In order, names made unique.
        inputs: Provenance, `{role, sha256, schema}` each.
        skipped: File -> why it could not be judged.
        music: Clip name -> the music its manifest names.
    """

    clips: list[Clip] = field(default_factory=list)
    inputs: list[dict[str, Any]] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    music: dict[str, Path] = field(default_factory=dict)


def read_clips(
    sources: Sequence[Path | Manifest],
    roots: Mapping[str, str],
    *,
    fps: float | None = None,
    role: str = "motions",
    on_progress: Callable[..., None] | None = None,
) -> Found:
    """Read every clip of some manifests, folders and files.

    A file named by the user that cannot be read is an error; one inside a folder or manifest is skipped with a reason.

    Args:
        sources: `choreo.motions/1` manifests, or paths of manifests, folders, clips.
        roots: `--root` overrides.
        fps: Rate of files that do not know theirs.
        role: Of the inputs in the provenance.
        on_progress: Called as `on_progress(done, total)`.

    Raises:
        NoInputError: a path that does not exist.
        DataError, FormatError: a named file that is no motion, or no clip at all.
    """
    found = Found()
    for source in sources:
        if not isinstance(source, Path):
            _of_manifest(source, roots, role, fps, found, on_progress)
        elif source.is_dir():
            _of_folder(source, roots, role, fps, found, on_progress)
        elif not source.exists():
            raise NoInputError(f"no file {source}", hint="need motions: a manifest, a folder or a clip")
        elif (manifest := _as_manifest(source)) is not None:
            _of_manifest(manifest, roots, role, fps, found, on_progress)
        else:
            _add(found, read_clip(source, source.stem, fps), source, role)
    if not found.clips:
        listed = "".join(f"; {name}: {why}" for name, why in list(found.skipped.items())[:3])
        raise DataError(
            f"no motion to judge{listed}", hint="name clips, a folder of them, or a choreo.motions manifest"
        )
    found.clips = names_unique(found.clips)
    return found


def read_clip(path: Path, name: str, fps: float | None = None, group: str | None = None) -> Clip:
    """One clip of any format: 22 joints, and the contacts and resting ankles of a choreo25 file.

    Raises:
        FormatError, DataError: it cannot become 22 joints.
    """
    from choreo_cli.motion.retarget_inputs import Asked, open_motion

    opened = open_motion(path, Asked(fps=fps))
    if opened.clip is not None:
        return _of_channels(opened.clip, name, group)
    if opened.prepared is None:
        raise DataError(f"{path} holds no joints")
    return Clip(name, opened.prepared.joints, opened.prepared.fps, group=group)


def _of_channels(own: MotionClip, name: str, group: str | None) -> Clip:
    from choreo_cli.motion.choreo25 import clamp, clamped_share, decode

    skeleton = own.header.skeleton
    rest = (float(skeleton.ank0[0]), float(skeleton.ank0[1]))
    contacts = own.channels[:, 4:6].astype("float64")
    joints = decode(own)
    channels, counts = clamp(own.channels)
    after = decode(replace(own, channels=channels)) if counts else joints
    share = clamped_share(counts, len(own.channels))
    return Clip(name, joints, own.header.fps, contacts, rest, group, clamped=after, clamped_share=share)


def _as_manifest(path: Path) -> Manifest | None:
    """The manifest in a file; None for any other file. Raises FormatError for another kind or damage."""
    from formats.manifest import decode, peek

    if path.suffix.lower() != ".json" or path.stat().st_size > _CAP:
        return None
    data = path.read_bytes()
    schema = peek(data)
    if schema is None:
        return None
    if schema.split("/")[0] != KIND:
        raise FormatError(f"the file holds {schema}, need {KIND}/1", file=path)
    return decode(data, source=str(path), file=path)


def _of_manifest(
    manifest: Manifest, roots: Mapping[str, str], role: str, fps: float | None, found: Found,
    on_progress: Callable[..., None] | None,
) -> None:  # fmt: skip
    from formats.atomic import sha256_file
    from formats.manifest import find_file, home_and_roots, safe_join

    base, folders = home_and_roots(manifest, roots)
    found.inputs.append({"role": role, "sha256": manifest.sha256, "schema": manifest.schema})
    for k, e in enumerate(manifest.entries):
        try:
            path = safe_join(base, e["path"])
            if not path.is_file():
                raise NoInputError("the file is not there")
            if sha256_file(path) != e["sha256"]:
                raise DataError("its content is not what the manifest says")
            known = None if e["layout"] in ("choreo25", "bvh") else e["fps"]
            clip = read_clip(path, Path(e["path"]).stem, known or fps, e["group_id"] or e["performer"])
        except (ChoreoError, FormatError, OSError) as error:
            found.skipped[e["path"]] = _sentence(error)
            continue
        found.clips.append(clip)
        music = find_file(e["music"], (base, *folders.values()))
        if music is not None:
            found.music[clip.name] = music
        if on_progress is not None:
            on_progress(k + 1, len(manifest.entries))


def _of_folder(
    folder: Path, roots: Mapping[str, str], role: str, fps: float | None, found: Found,
    on_progress: Callable[..., None] | None,
) -> None:  # fmt: skip
    if (folder / MANIFEST).is_file():
        manifest = _as_manifest(folder / MANIFEST)
        if manifest is not None:
            _of_manifest(manifest, roots, role, fps, found, on_progress)
            return
    files = sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith("."))
    moving = [p for p in files if _is_motion(p)]
    for k, path in enumerate(moving):
        try:
            _add(found, read_clip(path, path.relative_to(folder).with_suffix("").as_posix(), fps), path, role)
        except (ChoreoError, FormatError, OSError) as error:
            found.skipped[str(path.relative_to(folder))] = _sentence(error)
        if on_progress is not None:
            on_progress(k + 1, len(moving))


def _is_motion(path: Path) -> bool:
    """Whether a file in a folder is worth trying: motion, or poses in space; others lie there for other reasons."""
    from formats.foreign.registry import recognise
    from formats.foreign.source import Source

    try:
        source = Source.of(path)
        reader = recognise(source.head, source.name, source.size)
        if reader.kind != "pose":
            return reader.kind == "motion" or source.suffix in SUFFIXES
        return reader.read is not None and reader.facts(source).meta.get("units") in ("m", "unknown")
    except (OSError, FormatError):
        return path.suffix.lower() in SUFFIXES and not path.is_symlink()


def _add(found: Found, clip: Clip, path: Path, role: str) -> None:
    from formats.atomic import sha256_file

    found.clips.append(clip)
    found.inputs.append({"role": role, "sha256": sha256_file(path), "schema": "motion"})


def _sentence(error: Exception) -> str:
    return str(error).splitlines()[0][:300] if str(error) else type(error).__name__
