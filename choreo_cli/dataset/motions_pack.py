"""A pack as motion to train on: its pairs name recordings and clocks, the poses are read from the recordings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from choreo_cli.dataset.motions_read import LEAST_FPS, Listed
from choreo_cli.dataset.pack import PACK_FILE, find_pack, open_pack
from choreo_cli.errors import DataError, NoInputError
from formats.errors import FormatError
from formats.manifest import Manifest, decode, find_file, resolve_roots

PAIRS = "pairs.json"


def is_pack(path: Path) -> bool:
    """Whether a path is a pack, or holds one."""
    if path.is_file():
        return path.name == PACK_FILE
    return (path / PACK_FILE).is_file() or (path / PAIRS).is_file()


def of_pack(path: Path, roots: Mapping[str, str]) -> tuple[list[Listed], Path, str]:
    """The pairs of a pack as clips with their music and clocks.

    A pack holds dynamics, not poses: `pairs.json` of the same `choreo pair` names the pose logs, and `--root` says
    where they lie now. Splits are those of the pack.

    Returns:
        Clips, the pack's folder, and its dataset hash.

    Raises:
        NoInputError: no `pairs.json` above the pack.
        DataError: every pose log is slower than 8 fps, or none is there.
        formats.errors.FormatError: damaged.
    """
    folder = find_pack(path.parent if path.is_file() else path)
    pack = open_pack(folder, index=False)
    above = next((p / PAIRS for p in (folder, *folder.parents[:3]) if (p / PAIRS).is_file()), None)
    if above is None:
        raise NoInputError(
            f"no {PAIRS} above {folder}: a pack alone holds no poses", hint="keep it in the folder choreo pair made"
        )
    manifest = decode(above.read_bytes(), source=str(above), file=above)
    if manifest.kind != "choreo.pairs":
        raise FormatError(f"the file holds {manifest.schema}, need choreo.pairs/1", file=above)
    wanted = {p.item.pair_id: pack.by_pair[p.item.pair_id].split for p in pack.pairs}
    listed = _pairs(manifest, roots, wanted)
    if not listed:
        raise DataError(
            f"no pair of the pack has poses of {LEAST_FPS:g} fps or more", hint="slower poses are context, never motion"
        )
    return listed, folder, str(pack.doc["dataset_hash"])


def _pairs(manifest: Manifest, roots: Mapping[str, str], wanted: Mapping[str, str]) -> list[Listed]:
    known = {r.id for r in manifest.roots}
    # An older pairs.json names no root of its recordings: the folder that is given is looked in all the same.
    folders = [*resolve_roots(manifest, {k: v for k, v in roots.items() if k in known}).values()]
    folders += [Path(v) for k, v in roots.items() if k not in known]
    found = []
    for e in manifest.entries:
        if e["pair_id"] not in wanted or "pose_rate_below_8_fps" in e["reasons"]:
            continue
        motion, music = find_file(e["pose_path"], folders), find_file(e["track"], folders)
        told = {
            "group": e["session_id"], "performer": e["performer"], "split": wanted[e["pair_id"]],
            "synthetic": e["synthetic"], "captions": [], "licence": None,
        }  # fmt: skip
        lost = f"its music {e['track']} is not there: say where with --root" if music is None else ""
        path = motion if motion is not None else Path(e["pose_path"])
        clock = (e["offset_us"] + _start_us(motion, e), e["drift_ppm"])
        found.append(Listed(e["pose_path"], path, None, music, told, lost, clock))
    return found


def _start_us(motion: Path | None, entry: Mapping[str, Any]) -> int:
    """When the first pose of a log was, on its own clock; 0 when it cannot be read (which is told later)."""
    from formats.foreign import registry
    from formats.foreign.model import PoseStream
    from formats.foreign.source import Source

    if motion is None:
        return 0
    try:
        source = Source.of(motion)
        reader = registry.recognise(source.head, source.name, source.size)
        stream = reader.read(source) if reader.read is not None else None
    except (FormatError, OSError):
        return 0
    if not isinstance(stream, PoseStream) or not len(stream.t_us):
        return 0
    return round(int(stream.t_us[0]) * (1 + float(entry["drift_ppm"]) * 1e-6))
