"""Read what a session's metadata says of it, under the many names people give to the same thing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from formats import jsonstrict
from formats.errors import FormatError
from formats.foreign.guard import contained
from formats.foreign.jsonpeek import mentions, peek, plain_key
from formats.foreign.model import Clock, Facts, SessionMeta
from formats.foreign.playlists import clean, safe_path, span_us
from formats.foreign.registry import Reader
from formats.foreign.source import Source
from formats.foreign.times import clock_of, parse_time

CAP = 4 * 2**20
MAX_DEVICES = 256
FILE_NAMES = frozenset(
    (
        "metadata.json",
        "meta.json",
        "session.json",
        "session_meta.json",
        "session-meta.json",
        "info.json",
        "capture.json",
    )
)
# Best first. Keys are compared without case and punctuation.
_SESSION = ("sessionid", "sessionname", "session", "name", "take", "captureid", "recordingid", "id")
_PLAYLIST = ("playlist", "playlistname", "playlistid", "playlisttitle", "mix")
_TITLE = ("tracktitle", "trackname", "songtitle", "songname", "song", "musictitle")
_INDEX = ("trackindex", "tracknumber", "trackno", "trackidx", "trackposition", "songindex")
_OFFSET = (
    "trackoffsetus", "trackoffsetms", "trackoffsets", "trackoffset", "musicoffsetms", "musicoffset", "audiooffset",
    "playbackpositionms", "playbackposition", "playbackpositions", "trackpositionms", "trackpositions",
)  # fmt: skip
_PERFORMER = (
    "performer", "performername", "dancer", "dancername", "subject", "participant", "performerid", "dancerid",
    "subjectid", "participantid", "performers", "dancers", "person",
)  # fmt: skip
_DEVICES = (
    "devices",
    "devicelist",
    "devicesused",
    "cameras",
    "sensors",
    "phones",
    "device",
    "numdevices",
    "devicecount",
)
_START = (
    "startedat", "starttime", "startutc", "startedutc", "startunixus", "startunixms", "startunixs", "startunix",
    "starttimems", "starttimeutc", "recordedat", "recordingstart", "capturestart", "capturedat", "start", "begin",
    "createdat", "created", "timestamp", "datetime", "time", "date",
)  # fmt: skip
_SYNTHETIC = ("synthetic", "issynthetic", "simulated")
_NESTED = ("session", "meta", "metadata", "capture", "recording", "info")
_CONCEPTS = (_SESSION[:3], _PLAYLIST, (*_TITLE, *_INDEX, "track"), _OFFSET, _PERFORMER, _DEVICES, _START[:14])
_RECORDING = frozenset(
    ("joints", "keypoints", "landmarks", "poses", "people", "frames", "snapshots", "samples", "skeleton", "schema")
)
_HINTS = (
    b"session",
    b"device",
    b"camera",
    b"perform",
    b"dancer",
    b"track",
    b"playlist",
    b"start",
    b"record",
    b"subject",
)
# With a list of tracks a document is a session only when it also says who or what recorded.
_RECORDER = frozenset(("devices", "performer", "dancer", "sessionid", "cameras"))


def _flat(document: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of the document, and below them those of its nested blocks."""
    out: dict[str, Any] = {}
    for key, value in document.items():
        out.setdefault(plain_key(key), value)
    for name in _NESTED:
        block = out.get(name)
        if isinstance(block, dict):
            for key, value in block.items():
                plain = plain_key(key)
                if out.get(plain) is None or plain == name:
                    out[plain] = value
            if isinstance(out.get(name), dict):
                del out[name]
    return out


def _first(found: Mapping[str, Any], keys: Iterable[str]) -> tuple[str, Any]:
    return next(((k, found[k]) for k in keys if found.get(k) is not None), ("", None))


def _label(value: object) -> str | None:
    """Name of a thing written as text, number or object with a name."""
    if isinstance(value, dict):
        keys = {plain_key(k): v for k, v in value.items()}
        parts = _first(
            keys, ("name", "id", "label", "title", "deviceid", "devicename", "serial", "model", "type", "role")
        )
        return clean(parts[1])
    if isinstance(value, list):
        return ", ".join(filter(None, map(_label, value[:MAX_DEVICES]))) or None
    return clean(value)


def _devices(value: object) -> tuple[str, ...]:
    """Names of the devices; a mere count becomes `device-1`..., so that declared can be held against found."""
    if value is None or isinstance(value, bool):
        return ()
    if isinstance(value, (int, float)):
        count = int(value) if 0 <= value <= MAX_DEVICES else 0
        return tuple(f"device-{i}" for i in range(1, count + 1))
    if isinstance(value, dict):
        keys = {plain_key(k) for k in value}
        if keys & {"name", "id", "model", "deviceid", "devicename"}:
            return tuple(filter(None, (_label(value),)))
        return tuple(filter(None, (clean(k) for k in list(value)[:MAX_DEVICES])))
    if isinstance(value, list):
        return tuple(_label(v) or f"device-{i}" for i, v in enumerate(value[:MAX_DEVICES], 1))
    name = clean(value)
    return (name,) if name else ()


def _whole(value: object) -> int | None:
    if isinstance(value, str) and value.strip().isascii() and value.strip().isdigit() and len(value) < 9:
        value = int(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e6:
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**6 else None


def _track(found: Mapping[str, Any]) -> tuple[str | None, int | None, object, str]:
    """Title, index, raw offset and the offset's key."""
    title, index = clean(_first(found, _TITLE)[1]), _whole(_first(found, _INDEX)[1])
    key, offset = _first(found, _OFFSET)
    track = found.get("track", found.get("song") if isinstance(found.get("song"), dict) else None)
    if isinstance(track, dict):
        inner = {plain_key(k): v for k, v in track.items()}
        title = title or clean(_first(inner, ("title", "name", *_TITLE))[1])
        if index is None:
            index = _whole(_first(inner, ("index", "idx", "number", "no", "position", *_INDEX))[1])
        if offset is None:
            key, offset = _first(inner, ("offsetus", "offsetms", "offsets", "offset", "startms", "start", *_OFFSET))
    elif isinstance(track, str):
        title = title or clean(track)
    elif track is not None and index is None:
        index = _whole(track)
    return title, index, offset, key


def _offset_us(value: object, key: str) -> int | None:
    """Microseconds of an offset, which unlike a length may be negative."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value < 0:
        back = span_us(-value, key)
        return None if back is None else -back
    return span_us(value, key)


def _recordings(found: Mapping[str, Any]) -> list[dict[str, object]]:
    """Files that the metadata names, with their device and start where it says so."""
    listed = found.get("recordings")
    out: list[dict[str, object]] = []
    for item in listed[:MAX_DEVICES] if isinstance(listed, list) else []:
        keys = {plain_key(k): v for k, v in item.items()} if isinstance(item, dict) else {"file": item}
        path = safe_path(str(_first(keys, ("file", "path", "filename", "name"))[1] or ""))[0]
        if path is None:
            continue
        try:
            stamp = parse_time(_first(keys, _START)[1])
        except FormatError:
            stamp = None
        record: dict[str, object] = {"file": path, "device": _label(_first(keys, ("device", "devicename"))[1])}
        out.append({**record, "t0_utc_us": stamp.us if stamp else None, "naive": bool(stamp and stamp.naive)})
    return out


def _trusted(clock: Clock, found: Mapping[str, Any]) -> Clock:
    """The clock with the uncertainty that the metadata states itself (`clock_sigma_s`)."""
    value = found.get("clocksigmas")
    if clock.t0_utc_us is None or isinstance(value, bool) or not isinstance(value, (int, float)):
        return clock
    return replace(clock, sigma_us=round(value * 1e6)) if 0 < value <= 86_400 else clock


def parse(document: object) -> tuple[SessionMeta, tuple[str, ...]]:
    """Metadata of a session from a parsed JSON object, and what in it could not be understood.

    Raises:
        FormatError: not an object.
    """
    if not isinstance(document, dict):
        raise FormatError("not an object of session metadata")
    found = _flat(document)
    problems: list[str] = []
    clock, offset_us = Clock(), None
    key, start = _first(found, _START)
    try:
        clock = _trusted(clock_of(parse_time(start), "metadata"), found) if start is not None else clock
    except FormatError as e:
        problems.append(f"time_unreadable: {key}: {e.message}")
    title, index, offset, offset_key = _track(found)
    try:
        offset_us = _offset_us(offset, offset_key)
    except FormatError as e:
        problems.append(f"offset_unreadable: {offset_key}: {e.message}")
    meta = SessionMeta(
        session=_label(_first(found, _SESSION)[1]),
        playlist=_label(_first(found, _PLAYLIST)[1]),
        track_title=title,
        track_index=index,
        track_offset_us=offset_us,
        performer=_label(_first(found, _PERFORMER)[1]),
        devices=_devices(_first(found, _DEVICES)[1]),
        clock=clock,
        synthetic=_first(found, _SYNTHETIC)[1] is True,
    )
    return meta, tuple(problems)


@contained
def read(source: Source) -> SessionMeta:
    """Read a metadata file.

    Raises:
        FormatError: not a JSON object.
    """
    return parse(jsonstrict.loads(source.read_bytes(CAP), file=source.path))[0]


@contained
def _facts(source: Source) -> Facts:
    document = jsonstrict.loads(source.read_bytes(CAP), file=source.path)
    meta, problems = parse(document)
    kept: dict[str, object] = {
        "session": meta.session,
        "playlist": meta.playlist,
        "track": {"title": meta.track_title, "index": meta.track_index, "offset_us": meta.track_offset_us},
        "performer": meta.performer,
        "devices": list(meta.devices),
        "recordings": _recordings(_flat(document)),
        "synthetic": meta.synthetic,
    }
    return Facts("session", "session-meta", clock=meta.clock, problems=problems, meta=kept)


def _sniff(head: bytes, name: str, size: int) -> bool:
    if size > CAP or not mentions(head, _HINTS):
        return False
    found = peek(head)
    if found is None or found.root != "{" or found.lines or _RECORDING & found.keys:
        return False
    if "tracks" in found.keys and not _RECORDER & found.keys:
        return False
    keys = found.keys | (found.nested if set(_NESTED) & found.keys else set())
    score = sum(bool(keys.intersection(names)) for names in _CONCEPTS)
    return score >= (1 if name.lower() in FILE_NAMES else 3)


READERS: tuple[Reader, ...] = (Reader("session-meta", "session", _sniff, _facts, read, order=44),)
