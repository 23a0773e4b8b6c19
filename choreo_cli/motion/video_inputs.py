"""What is to be drawn: clips of manifests, folders and files, their references, and the music they are danced to."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.errors import DataError, NoInputError
from formats.errors import FormatError

if TYPE_CHECKING:
    from formats.manifest import Manifest

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

KIND, MANIFEST = "choreo.motions", "motions.json"
_NAME = 80
_MANIFEST_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class Item:
    """One clip to draw.

    Args:
        path: The file.
        shown: Its path relative to its root.
        name: What its files are called; unique.
        sha256: Of the file.
        root: Folder that `shown` is relative to.
        fps: Rate that a manifest states, for files that do not know theirs.
        entry: Its record in a `choreo.motions/1` manifest, None for a file.
        music: Sound that the manifest names, when it is there.
    """

    path: Path
    shown: str
    name: str
    sha256: str
    root: Path
    fps: float | None = None
    entry: Mapping[str, Any] | None = None
    music: Path | None = None


def expand(sources: Sequence[Path | Manifest], roots: Mapping[str, str]) -> list[Item]:
    """Every clip of some manifests, folders and files, in order, with unique names.

    Args:
        sources: `choreo.motions/1` manifests, or paths of manifests, folders, clips.
        roots: `--root` overrides.

    Raises:
        NoInputError: a path or a manifest's clip that is not there.
        DataError: nothing to draw, or a clip that is not what its manifest says.
        FormatError: a damaged manifest.
    """
    found: list[Item] = []
    for source in sources:
        if not isinstance(source, Path):
            found += _of_manifest(source, roots)
        elif source.is_dir():
            found += _of_folder(source, roots)
        elif not source.exists():
            raise NoInputError(f"no file {source}", hint="need a motion clip, a folder of them or motions.json")
        else:
            manifest = _manifest(source)
            found += [_file(source, source.parent)] if manifest is None else _of_manifest(manifest, roots)
    if not found:
        raise DataError("no motion to draw", hint="name clips, a folder of them, or a choreo.motions manifest")
    return _unique(found)


def _of_folder(folder: Path, roots: Mapping[str, str]) -> list[Item]:
    from formats.foreign.registry import recognise
    from formats.foreign.source import Source

    if (folder / MANIFEST).is_file():
        manifest = _manifest(folder / MANIFEST)
        if manifest is not None:
            return _of_manifest(manifest, roots)
    found = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith(".")):
        try:
            source = Source.of(path)
        except (OSError, FormatError):
            continue
        if recognise(source.head, source.name, source.size).kind == "motion":
            found.append(_file(path, folder))
    return found


def _file(path: Path, root: Path) -> Item:
    from formats.atomic import sha256_file

    if not path.is_file():
        raise FormatError("not a regular file", file=path)
    return Item(path, path.relative_to(root).as_posix(), path.stem, sha256_file(path), root)


def _manifest(path: Path) -> Manifest | None:
    """The manifest in a file; None for any other file. Raises FormatError for another kind, or damage."""
    from formats import manifest as m

    if path.suffix.lower() != ".json" or path.stat().st_size > _MANIFEST_BYTES:
        return None
    data = path.read_bytes()
    schema = m.peek(data)
    if schema is None:
        return None
    if schema.split("/")[0] != KIND:
        raise FormatError(f"the file holds {schema}, need {KIND}/1", file=path)
    return m.decode(data, source=str(path), file=path)


def _of_manifest(manifest: Manifest, roots: Mapping[str, str]) -> list[Item]:
    from formats.atomic import sha256_file
    from formats.manifest import find_file, home_and_roots, safe_join

    base, folders = home_and_roots(manifest, roots)
    found = []
    for e in manifest.entries:
        path = safe_join(base, e["path"])
        if not path.is_file():
            raise NoInputError(f"no file {path}, which the manifest names", hint="say where its folder is: --root")
        if sha256_file(path) != e["sha256"]:
            raise DataError(f"{path} is not what its manifest says", hint="run the command that made it again")
        fps = None if e["layout"] in ("choreo25", "bvh") else float(e["fps"])
        music = find_file(e["music"], (base, *folders.values()))
        found.append(Item(path, e["path"], Path(e["path"]).stem, e["sha256"], base, fps, e, music))
    return found


def _unique(items: Sequence[Item]) -> list[Item]:
    """The same items with names that can be file names, each once."""
    from dataclasses import replace

    used: set[str] = set()
    found = []
    for item in items:
        base = re.sub(r"[^\w.-]+", "-", item.name).strip(".-")[:_NAME] or "clip"
        name, number = base, 2
        while name.lower() in used:  # a file system may not tell upper case from lower case
            name, number = f"{base}-{number}", number + 1
        used.add(name.lower())
        found.append(replace(item, name=name))
    return found


def paired(items: Sequence[Item], references: Sequence[Item]) -> list[Item | None]:
    """The reference of each clip: the only one, the one of the same name, or none when there are none.

    Raises:
        DataError: several references, and a clip whose name none of them has.
    """
    if len(references) <= 1:
        return [references[0] if references else None] * len(items)
    by_name = {r.name: r for r in references}
    missing = [i.name for i in items if i.name not in by_name]
    if missing:
        raise DataError(
            f"no reference is called {missing[0]}", hint="references have the names of the clips, or there is one"
        )
    return [by_name[i.name] for i in items]


def load_sound(path: Path, start_s: float, duration_s: float) -> tuple[F32, int]:
    """Samples (N, C) of a stretch of music and their rate; shorter where the music ends before.

    Raises:
        NoInputError: no such file.
        FormatError, DataError, UnavailableError: as of `audio.decode`.
    """
    from choreo_cli.audio.decode import decode

    if not path.is_file():
        raise NoInputError(f"no file {path}", hint="need music: a sound file, or a video with a sound track")
    found = decode(path, start_s=start_s, duration_s=duration_s, mono=False)
    samples = found.samples if found.samples.ndim == 2 else found.samples[:, None]
    return samples, found.rate


def beats_of(sound: tuple[F32, int]) -> F64:
    """(B,) seconds of the beats that are heard; empty where there are none."""
    import soxr

    from choreo_cli.audio.beats import track_beats
    from choreo_cli.audio.features import DEFAULT, extract

    samples, rate = sound
    mono = samples.mean(1) if samples.ndim == 2 else samples
    if rate != DEFAULT.rate:
        mono = soxr.resample(mono, rate, DEFAULT.rate)
    return np.asarray(track_beats(extract(np.asarray(mono, np.float32))).beats_s, np.float64)
