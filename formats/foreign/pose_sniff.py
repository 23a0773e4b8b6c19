"""Tell pose JSON and CSV from everybody else's, and their dialects apart, by the first 4 KiB."""

from __future__ import annotations

import re
from functools import lru_cache

from formats.foreign.joints import is_joint_word
from formats.foreign.pose_clock import FRAME_KEYS, TIME_KEYS
from formats.foreign.pose_points import NAME_KEYS, flat_columns

_KEY = re.compile(rb'"([^"\\]{1,64})"\s*:')
_NAME_VALUE = re.compile(
    rb'"(?:name|joint|part|joint_name|label|landmark|keypoint)"\s*:\s*"([^"\\]{1,64})"', re.IGNORECASE
)
_CONTAINER = re.compile(
    rb'"(?:joints|keypoints|keypoints_?3d|landmarks|pose|skeleton|body|points|markers|joint_?positions|positions|persons?'
    rb'|people|bodies|poses|transforms|recognized_?points)"\s*:\s*(?:\[\s*(?:[\[{\-\d\]]|null)|\{)',
    re.IGNORECASE,
)
_NUMBERS = re.compile(rb'[\[,]\s*-?\d[\d.eE+\-]*\s*,\s*-?\d|"[xX]"\s*:\s*(?:-?\d|null)|_[xX]"\s*:\s*-?\d')
_EMPTY = re.compile(rb'"(?:joints|keypoints|landmarks|pose|people|persons|poses)"\s*:\s*(?:\[\s*\]|\{\s*\}|null)')
_ARKIT = frozenset(
    ("jointmodeltransforms", "jointlocaltransforms", "joint_model_transforms", "bodyanchor", "body_anchor")
)
_MEDIAPIPE = frozenset(
    (
        "poselandmarks",
        "pose_landmarks",
        "worldlandmarks",
        "world_landmarks",
        "poseworldlandmarks",
        "pose_world_landmarks",
    )
)
_BINARY = re.compile(rb"[\x00-\x08\x0e-\x1f\x7f]")
_TIMES = frozenset(TIME_KEYS) | frozenset(FRAME_KEYS) | {"snapshots", "frames", "timestamps", "times"}


@lru_cache(maxsize=16)
def classify(head: bytes) -> str:
    """The pose dialect of a file's head, `""` when it is none.

    One of `openpose dwpose arkit vision mediapipe-json coco-json pose-json pose-jsonl mediapipe-csv coco-csv pose-csv`.
    """
    start = head[3:].lstrip() if head.startswith(b"\xef\xbb\xbf") else head.lstrip()
    if start[:1] in (b"{", b"["):
        return _json(start)
    return _csv(start)


def _json(head: bytes) -> str:
    keys = {k.decode("latin-1").lower() for k in _KEY.findall(head)}
    if "people" in keys and ("pose_keypoints_2d" in keys or "pose_keypoints" in keys):
        return "openpose"
    if "people" in keys and "version" in keys and keys <= {"people", "version", "part_candidates"}:
        return "openpose"
    if "pose_tensor" in keys and ("keypoint_structure" in keys or "fps" in keys or b"[" in head):
        return "dwpose"
    if not _posed(head, keys):
        return ""
    if keys & _ARKIT or b'"hips_joint"' in head or b'"left_arm_joint"' in head:
        return "arkit"
    if b'_joint"' in head and (
        b'"neck_1_joint"' in head or b'_upLeg_joint"' in head or b'"left_shoulder_1_joint"' in head
    ):
        return "vision"
    if b'"leftShoulder"' in head and (b'"root"' in head or b'"neck"' in head) and b'"x"' in head and _small(head):
        return "vision"
    if keys & _MEDIAPIPE or b"foot_index" in head.lower() or ("landmarks" in keys and "visibility" in keys):
        return "mediapipe-json"
    if "keypoints" in keys and keys & {"image_id", "category_id", "instance_info", "keypoint_scores"}:
        return "coco-json"
    return "pose-jsonl" if re.match(rb"\{[^\n]*\}\s*\n\s*(?:\{|$)", head) else "pose-json"


def _posed(head: bytes, keys: set[str]) -> bool:
    timed = bool(keys & _TIMES) or head[:1] == b"["
    if "snapshots" in keys and re.search(rb'"snapshots"\s*:\s*\[\s*[{\]]', head):
        return True
    if timed and _EMPTY.search(head):
        return True
    if not _NUMBERS.search(head):
        return False
    if keys & _ARKIT or keys & _MEDIAPIPE or (timed and _CONTAINER.search(head)):
        return True
    words = sum(is_joint_word(k) for k in sorted(keys)[:100])
    words += sum(is_joint_word(v.decode("latin-1")) for v in _NAME_VALUE.findall(head)[:100])
    if words < 3:
        words = len([n for n in flat_columns(tuple(keys)) if is_joint_word(n)])
    return words >= 3


def _small(head: bytes) -> bool:
    values = [float(v) for v in re.findall(rb'"[xy]"\s*:\s*(-?\d{1,9}(?:\.\d{1,9})?)', head)[:20]]
    return bool(values) and max(abs(v) for v in values) <= 1.5


def _csv(head: bytes) -> str:
    if _BINARY.search(head, 0, 256):
        return ""
    line = next((row for row in head.split(b"\n", 8) if row.strip() and not row.startswith(b"#")), b"")
    low_line = line.lower()
    if b"x" not in low_line or b"y" not in low_line or max(map(line.count, (b",", b";", b"\t"))) < 3:
        return ""
    cells = csv_cells(line.decode("latin-1"))
    low = [c.lower() for c in cells]
    if is_long(low):
        return "mediapipe-csv" if "visibility" in low else "pose-csv"
    if len(cells) < 5:
        return ""
    groups = flat_columns(tuple(dict.fromkeys(cells)))
    known = [n for n in groups if is_joint_word(n)]
    counted = [n for n in groups if re.search(r"(^|\D)\d{1,3}$", n)]
    if len(known) < 2 and len(counted) < 5:
        return ""
    text = " ".join(low)
    if "foot_index" in text or (len(counted) >= 30 and len(known) < 5):
        return "mediapipe-csv"
    faces = any("left_eye" in n.lower() or "lefteye" in n.lower() for n in groups)
    return "coco-csv" if faces and not any("hand" in n.lower() or "heel" in n.lower() for n in groups) else "pose-csv"


def csv_cells(line: str) -> list[str]:
    """The cells of a header line, split at its most frequent separator."""
    best = max(",;\t", key=line.count)
    return [c.strip().strip('"').strip() for c in line.split(best)]


def is_long(low: list[str]) -> bool:
    """Whether a header (lower case) has one joint per row: a joint column, x, y and a time or frame."""
    named = any(
        k in low for k in (*NAME_KEYS, "landmark_id", "landmark_index", "joint_id", "keypoint_id", "joint_index")
    )
    return named and "x" in low and "y" in low and any(c in _TIMES for c in low)
