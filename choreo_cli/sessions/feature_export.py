"""Audio features of an inventory, without pairing: one NPZ per recording, and a playlist that names them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from choreo_cli.audio.archive import archive_arrays
from choreo_cli.audio.beats import track_beats
from choreo_cli.audio.decode import decode
from choreo_cli.audio.features import DEFAULT, EXTRACTOR, extract
from choreo_cli.sessions.load import locate
from formats import audio_npz
from formats.atomic import write_bytes
from formats.errors import FormatError
from formats.foreign.features_npz import FeatureArchive, read_features
from formats.foreign.source import Source

Entry = dict[str, Any]


@dataclass(slots=True)
class Exported:
    """What was written: recording id -> path of its features, how many were there before, and what failed."""

    files: dict[str, str] = field(default_factory=dict)
    reused: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)


def relative_path(recording_id: str) -> str:
    """Where a recording's features lie: `<extractor>-<params>/<aa>/<id>.npz`."""
    name = recording_id.replace(":", "-")
    return f"{EXTRACTOR}-{DEFAULT.digest}/{recording_id[2:4]}/{name}.npz"


def step(entry: Entry, bpm: float | None = None) -> dict[str, Any]:
    """What features depend on: content, extractor and parameters; kept inside the file and compared before reuse."""
    return {"recording": entry["sha256"], "extractor": f"{EXTRACTOR}-{DEFAULT.digest}", "bpm": bpm}


def ready(target: Path, wanted: dict[str, Any]) -> FeatureArchive | None:
    """Features of an earlier run when they are whole and of the same step, else None."""
    try:
        found = read_features(Source.of(target))
    except (FormatError, OSError):
        return None
    return found if found.ours and found.provenance == wanted else None


def make(path: Path, wanted: dict[str, Any]) -> bytes:
    """Decode and extract; the bytes of the NPZ. Raises FormatError."""
    features = extract(decode(path, rate=DEFAULT.rate).samples)
    return audio_npz.encode(archive_arrays(features, track_beats(features, bpm=wanted["bpm"])), wanted)


def export_features(
    entries: list[Entry], roots: dict[str, Path], folder: Path, on_progress: Callable[..., None] | None = None
) -> Exported:
    """Extract the features of every usable audio recording into `folder`; equal work is not done again.

    `playlist.json` in `folder` names the tracks in the order of the inventory, unless the recordings already have a
    playlist of their own.
    """
    done = Exported()
    audio = [e for e in entries if e["kind"] == "audio" and e["reason"] is None]
    folder.mkdir(parents=True, exist_ok=True)
    tracks: list[dict[str, Any]] = []
    for k, e in enumerate(audio, 1):
        wanted = step(e)
        target = folder / relative_path(e["id"])
        found = ready(target, wanted)
        if found is None:
            try:
                data = make(locate(e, roots), wanted)
            except (FormatError, OSError) as error:
                done.failed.append((e["path"], getattr(error, "message", str(error))))
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(target, data)
            found = read_features(Source.of(target))
        else:
            done.reused += 1
        done.files[e["id"]] = relative_path(e["id"])
        tracks.append(_track(len(tracks) + 1, e, found))
        if on_progress is not None:
            on_progress(k, len(audio), e["path"])
    if tracks and not any(e["kind"] == "playlist" and e["format"] != "folder" for e in entries):
        doc = {"name": folder.name or "features", "tracks": tracks}
        write_bytes(folder / "playlist.json", (json.dumps(doc, indent=1, ensure_ascii=False) + "\n").encode())
    return done


def _track(index: int, e: Entry, found: FeatureArchive) -> dict[str, Any]:
    return {
        "index": index,
        "title": e["meta"].get("title") or Path(e["path"]).stem,
        "file": relative_path(e["id"]),
        "source": e["path"],
        "duration_s": round(found.duration_us / 1e6, 6),
        "tempo_bpm": None if found.tempo_bpm is None else round(found.tempo_bpm, 3),
    }
