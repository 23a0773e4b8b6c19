"""Dance features on disk: computed once beside their sound, and read from other people's arrays."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.audio.dance_features import HIGH_FPS, LOW_FPS, dance_features, names, params_digest
from choreo_cli.audio.filterbank import F32
from choreo_cli.errors import DataError, NoInputError
from formats.errors import FormatError

SCHEMA = "choreo.dance_features/1"
SUFFIXES = (".npz", ".npy")
KEYS = ("features", "audio_features", "audio_feature", "audio", "music", "feature", "arr_0")
LARGEST = 1e6
_SEAL = b"choreo.dance_features/1 sha256:"
_DATE = (1980, 1, 1, 0, 0, 0)
_MOST_BYTES = 512 << 20


@dataclass(frozen=True, slots=True)
class DanceTrack:
    """Features of one recording.

    Args:
        values: (T, A) float32, row k at k / fps seconds.
        fps: Frames per second.
        names: A names; `column_k` where a file does not tell.
        sha256: Of the file that was named: the sound, or the feature file.
        cached: Where the features lie, None when they were computed and kept in memory only.
        assumptions: What was taken for granted.
    """

    values: F32
    fps: float
    names: tuple[str, ...]
    sha256: str
    cached: Path | None = None
    assumptions: tuple[str, ...] = ()

    @property
    def width(self) -> int:
        return int(self.values.shape[1])

    def rows(self, start: int, count: int) -> F32:
        """(count, A) rows from frame `start`; beyond the end the last row of silence is not known: the last repeats."""
        at = np.clip(np.arange(start, start + count), 0, len(self.values) - 1)
        return self.values[at]


def read_track(path: Path, fps: float, *, phase: bool = False, cache: bool = True, start_us: int = 0) -> DanceTrack:
    """Features of a sound or feature file at a motion's rate; those of a sound are kept beside it.

    The cache `NAME.dance-FPSfps-DIGEST.npz` names the sha256 of the sound it was made of: another sound under the same
    name is computed again. A folder that cannot be written to is left alone.

    Args:
        path: Sound, or `.npz`/`.npy` features.
        fps: Motion frames per second.
        phase: Two more columns (sound only).
        cache: Read and write the cache.
        start_us: Sound before this is left out, so that frame 0 of a motion that began later is frame 0 here.

    Raises:
        NoInputError: no such file.
        DataError: another frame rate, an impossible one, or values that are not finite.
        formats.errors.FormatError: damaged, or no features.
        UnavailableError: the sound needs an extra that is not installed.
    """
    from formats.atomic import sha256_file

    if not path.is_file():
        raise NoInputError(f"no file {path}", hint="need music, or its features as .npz or .npy")
    if path.suffix.lower() in SUFFIXES:
        return _late(read_archive(path, fps), start_us)
    sha = sha256_file(path)
    digest = params_digest(fps, phase=phase)
    digest = f"{digest}+{start_us}us" if start_us else digest
    short = hashlib.sha256(digest.encode()).hexdigest()[:8] if start_us else digest[:8]
    beside = path.with_name(f"{path.name}.dance-{fps:g}fps-{short}.npz")
    if cache and (known := _cached(beside, sha, digest)) is not None:
        return DanceTrack(known, fps, names(phase=phase), sha, beside)
    values = _compute(path, fps, phase, start_us)
    facts = {"sound_sha256": sha, "params": digest}
    data = encode(values, fps, names(phase=phase), facts)
    kept = beside if cache and _kept(beside, data) else None
    return DanceTrack(values, fps, names(phase=phase), sha, kept)


def _late(track: DanceTrack, start_us: int) -> DanceTrack:
    """A feature file from its nearest row on: at most half a frame off, which is said."""
    rows = round(start_us * 1e-6 * track.fps)
    if not rows:
        return track
    if not 0 <= rows < len(track.values):
        raise DataError(f"the features end before {start_us * 1e-6:.3f} s", hint="name the right music")
    off = (*track.assumptions, "features begin at their nearest row, up to half a frame off")
    return replace(track, values=track.values[rows:], assumptions=off)


def _compute(path: Path, fps: float, phase: bool, start_us: int) -> F32:
    from choreo_cli.audio.decode import decode

    audio = decode(path, start_s=start_us * 1e-6)
    return dance_features(audio.samples, audio.rate, fps, phase=phase)


def _kept(path: Path, data: bytes) -> bool:
    from formats.atomic import write_bytes

    try:
        write_bytes(path, data)
    except OSError:  # a data set on a medium that is read only is no reason to stop
        return False
    return True


def _cached(path: Path, sound_sha256: str, digest: str) -> F32 | None:
    """What an earlier run kept for this very sound, None when there is nothing whole."""
    try:
        values, head = decode_archive(path.read_bytes(), file=path)
    except (OSError, FormatError):
        return None
    same = head.get("sound_sha256") == sound_sha256 and head.get("params") == digest
    return values if same else None


def read_archive(path: Path, fps: float | None = None) -> DanceTrack:
    """Read features from a file, ours or anyone's: one (T, A) array of finite numbers.

    Args:
        path: `.npz` or `.npy`.
        fps: What the rate must be; taken for granted where the file does not tell its own.

    Raises:
        DataError: another rate than `fps`, or an unknown one.
        formats.errors.FormatError: damaged, or no such array.
    """
    from formats.atomic import sha256_file
    from formats.foreign.source import Source

    data = Source.of(path).read_bytes(_MOST_BYTES)
    sha, told = sha256_file(path), None
    taken: tuple[str, ...] = ()
    if _SEAL in data[-256:]:
        values, head = decode_archive(data, file=path)
        told, columns = float(head["fps"]), tuple(str(n) for n in head["names"])
    else:
        values, told = _foreign(data, path)
        columns = names() if values.shape[1] == len(names()) else tuple(f"column_{k}" for k in range(values.shape[1]))
        taken = () if told is not None else (f"{path.name}: features are taken to be at {fps} frames per second",)
    rate = told if told is not None else fps
    if rate is None:
        raise DataError(f"{path} does not say its frame rate", hint="give it with --fps")
    if not LOW_FPS <= rate <= HIGH_FPS:
        raise DataError(f"{path}: features at {rate:g} frames per second", hint=f"{LOW_FPS:g} to {HIGH_FPS:g}")
    if fps is not None and abs(rate / fps - 1) > 1e-3:
        raise DataError(f"{path} holds {rate:g} frames per second, need {fps:g}", hint="compute the features again")
    return DanceTrack(values, fps if fps is not None else rate, columns, sha, path, taken)


def encode(values: F32, fps: float, columns: tuple[str, ...], facts: dict[str, Any]) -> bytes:
    """The file: `features`, `fps` and a JSON head, stored, fixed date, sealed with its sha256."""
    head = {"schema": SCHEMA, "fps": float(fps), "names": list(columns), **facts}
    text = json.dumps(head, sort_keys=True, allow_nan=False, separators=(",", ":")).encode()
    members = {
        "features": np.ascontiguousarray(values, np.float32), "fps": np.float64(fps),
        "head.json": np.frombuffer(text, np.uint8),
    }  # fmt: skip
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as z:
        for name, array in members.items():
            body = io.BytesIO()
            np.lib.format.write_array(body, np.asarray(array), version=(1, 0), allow_pickle=False)
            info = zipfile.ZipInfo(f"{name}.npy", _DATE)
            info.external_attr, info.create_system = 0o644 << 16, 3
            z.writestr(info, body.getvalue())
        z.comment = _SEAL + b"0" * 64
    data = out.getvalue()[:-64]
    return data + hashlib.sha256(data).hexdigest().encode()


def decode_archive(data: bytes, *, file: Path | None = None) -> tuple[F32, dict[str, Any]]:
    """Read our file: (T, A) float32 and its head. Raises FormatError when any byte differs from what was written."""
    from formats import jsonstrict
    from formats.npz_guard import read_npz

    if data[-64 - len(_SEAL) : -64] != _SEAL:
        raise FormatError("the sha256 at its end is missing: the file is cut or damaged", file=file)
    if hashlib.sha256(data[:-64]).hexdigest().encode() != data[-64:]:
        raise FormatError("the content does not match its sha256: the file is damaged or was edited", file=file)
    arrays = read_npz(data, file=file)
    if "features" not in arrays or "head.json" not in arrays:
        raise FormatError("no features in it", file=file)
    head = jsonstrict.loads(arrays["head.json"].tobytes(), file=file)
    if not isinstance(head, dict) or head.get("schema") != SCHEMA:
        raise FormatError("its head is of another schema", file=file, field="head.json")
    values = _table(arrays["features"], file)
    if len(head.get("names", ())) != values.shape[1]:
        raise FormatError(f"{len(head.get('names', ()))} names for {values.shape[1]} columns", file=file)
    return values, head


def _foreign(data: bytes, path: Path) -> tuple[F32, float | None]:
    """The one array of features in somebody's file, and its rate if it tells one."""
    from formats.npz_guard import read_npz

    if data[:6] == b"\x93NUMPY":
        wrapped = io.BytesIO()
        with zipfile.ZipFile(wrapped, "w") as z:  # the same checks as for an archive
            z.writestr("features.npy", data)
        return _table(read_npz(wrapped.getvalue(), file=path)["features"], path), None
    arrays = read_npz(data, file=path)
    if "head.json" in arrays:
        raise FormatError("the sha256 at its end is missing: the file is cut or damaged", file=path)
    rate = next((a for k, a in arrays.items() if k.lower() in ("fps", "frame_rate", "framerate")), None)
    told = float(rate.reshape(-1)[0]) if rate is not None and rate.size == 1 and rate.dtype.kind in "iuf" else None
    flat = {k: a for k, a in arrays.items() if a.ndim == 2 and a.dtype.kind in "iuf"}
    named = next((k for k in KEYS if k in flat), None)
    if named is None and len(flat) != 1:
        raise FormatError(
            f"{len(flat)} arrays could be the features", file=path, hint=f"name one of them {KEYS[0]!r}, (frames, 35)"
        )
    return _table(flat[named or next(iter(flat))], path), told


def _table(array: NDArray[Any], file: Path | None) -> F32:
    if array.ndim != 2 or not len(array) or not 1 <= array.shape[1] <= 4096:
        raise FormatError(f"features of shape {array.shape}, need (frames, columns)", file=file)
    values = np.ascontiguousarray(array, np.float32)
    if not np.isfinite(values).all() or np.abs(values).max() > LARGEST:
        raise FormatError("features that are not finite, or beyond 1e6", file=file)
    return values
