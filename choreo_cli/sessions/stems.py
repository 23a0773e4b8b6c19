"""Which files of one folder are one take, by their names: `dancer.avi`, `dancer_audio.mp3`, `dancer_motion.csv`."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence

_WORD = re.compile(r"[\s_.\-]+")
# Words behind a take's name that say which of its recordings a file is, not which take.
_ROLE = re.compile(
    r"(audio|sound|music|mic|microphone|scratch|song|video|movie|film|motion|mocap|pose|poses|skeleton|joints|keypoints"
    r"|landmarks|qom|bvh|hr|heart|heartrate|rate|pulse|rr|ibi|acc|imu|gyro|watch|wearable|phone|camera|cam|device"
    r"|beats|beat|tempo|onsets|chart|features|mel|openpose|mediapipe|arkit|vision|coco|2d|3d|raw|\d+(fps|hz)"
    r"|(cam|camera|phone|device|mic)\d+|[lr]|left|right|front|back|side)",
    re.IGNORECASE,
)
_BODY = ("pose", "motion", "wearable", "video")


def shared(files: Sequence[tuple[str, str]]) -> dict[str, list[int]]:
    """Takes of at least two files.

    A file belongs to the shortest name that its own begins with, up to the end of a word; words that only name a role
    are put aside first. Two files of one kind are two takes, unless a word of role tells them apart: `walk_happy.bvh`
    beside `walk.bvh` is another walk, `take1_cam2.json` beside `take1_cam1.json` is not.

    Args:
        files: (stem, kind) of each file.

    Returns:
        Name of the take -> positions of its files.
    """
    words = [tuple(w for w in _WORD.split(unicodedata.normalize("NFC", stem)) if w) for stem, _ in files]
    cores = [_core(w) for w in words]
    found: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for i in sorted(range(len(files)), key=lambda k: (len(cores[k]), cores[k], words[k])):
        base = next((cores[i][:n] for n in range(1, len(cores[i])) if cores[i][:n] in found), None)
        if base is not None and all(files[k][1] != files[i][1] for k in found[base]):
            found[base].append(i)
        else:
            found[cores[i]].append(i)
    takes = {}
    for core, members in found.items():
        bodies = any(files[k][1] in _BODY for k in members)
        same = {files[k][1] for k in members} <= {"audio", "features"}
        if len(members) > 1 and (bodies or not same):
            takes[_name(core, [files[k][0] for k in members])] = sorted(members)
    return takes


def _core(words: tuple[str, ...]) -> tuple[str, ...]:
    n = len(words)
    while n > 1 and _ROLE.fullmatch(words[n - 1]):
        n -= 1
    return words[:n]


def _name(core: tuple[str, ...], members: list[str]) -> str:
    """The take's name as its files write it: their common start, up to its last word."""
    first = unicodedata.normalize("NFC", min(members, key=lambda s: (len(s), s)))
    pattern = r"[\s_.\-]*" + r"[\s_.\-]+".join(re.escape(w) for w in core)
    match = re.match(pattern, first)
    return match.group(0) if match else "_".join(core)
