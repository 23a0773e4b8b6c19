"""Marker sets: joint centres by simple midpoints, said to be approximate; an unknown set is reported, not guessed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from formats.errors import FormatError
from formats.foreign.body import Scaling, finish, known_points, up_of
from formats.foreign.completion import complete
from formats.foreign.joints import CANONICAL
from formats.foreign.model import F32, F64, I64, PoseStream
from formats.foreign.pose_clock import frame_times
from formats.foreign.pose_space import turn_up

APPROXIMATE = "joint centres are midpoints of markers, approximate (a few cm)"
_PREFIX = re.compile(r"^.*[:|]")


@dataclass(frozen=True, slots=True)
class MarkerSet:
    """A known set: what each joint centre is the mean of (the first group that is all there), and what tells it.

    Args:
        name: Its name.
        needed: Labels that tell the set.
        pelvis: Left and right front, left and right back (or None, when one marker stands for both).
        groups: Candidates for each canonical joint: lists of labels, `?` in front of one that may be absent.
    """

    name: str
    needed: frozenset[str]
    pelvis: tuple[str, str, str, str]
    groups: Mapping[str, tuple[tuple[str, ...], ...]]


def _sided(left: Mapping[str, tuple[tuple[str, ...], ...]], swap: str) -> dict[str, tuple[tuple[str, ...], ...]]:
    """Groups of both sides from those of the left; `@` in a label is the letter of the side."""
    letters = {"l": swap[0], "r": swap[1]}
    return {
        f"{side}_{part}": tuple(tuple(label.replace("@", letter) for label in group) for group in groups)
        for side, letter in letters.items()
        for part, groups in left.items()
    }


# Vicon Plug-in Gait full body (marker names of Vicon's reference guide); medial markers where a lab adds them.
PLUG_IN_GAIT = MarkerSet(
    "plug-in-gait",
    frozenset(["LASI", "RASI", "LKNE", "RKNE", "LANK", "RANK", "LSHO", "RSHO", "LELB", "RELB"]),
    ("LASI", "RASI", "LPSI", "RPSI"),
    {
        "head": (("LFHD", "RFHD", "LBHD", "RBHD"), ("LFHD", "RFHD"), ("HEAD",)),
        "neck": (("C7", "CLAV"), ("C7",)),
        "chest": (("T10", "STRN"), ("STRN",), ("T10",)),
        **_sided(
            {
                "knee": (("@KNE", "@KNM"), ("@KNE", "@MKNE"), ("@KNE",)),
                "ankle": (("@ANK", "@ANM"), ("@ANK", "@MED"), ("@ANK",)),
                "toe": (("@TOE",),),
                "shoulder": (("@SHO",),),
                "elbow": (("@ELB", "@ELM"), ("@ELB", "@MELB"), ("@ELB",)),
                "wrist": (("@WRA", "@WRB"), ("@WRI",), ("@WRA",)),
            },
            "LR",
        ),
    },
)
# The 28 markers of the MoCap Toolbox's recordings (Burger and Toiviainen 2013, Jyväskylä).
JYVASKYLA = MarkerSet(
    "mocap-toolbox-28",
    frozenset(
        [
            "HIP_FL",
            "HIP_FR",
            "HIP_BL",
            "HIP_BR",
            "KNEE_L",
            "KNEE_R",
            "ANKLE_L",
            "ANKLE_R",
            "SHOULDER_L",
            "SHOULDER_R",
            "ELBOW_L",
            "ELBOW_R",
        ]
    ),
    ("HIP_FL", "HIP_FR", "HIP_BL", "HIP_BR"),
    {
        "head": (("HEAD_FL", "HEAD_FR", "HEAD_BL", "HEAD_BR"),),
        "chest": (("SPINE", "STERNUM"),),
        **_sided(
            {
                "knee": (("KNEE_@",),),
                "ankle": (("ANKLE_@",),),
                "toe": (("BIGTOE_@", "PINKIE_@"), ("BIGTOE_@",)),
                "shoulder": (("SHOULDER_@",),),
                "elbow": (("ELBOW_@",),),
                "wrist": (("RADIUS_@", "ULNA_@"),),
            },
            "LR",
        ),
    },
)
SETS = (PLUG_IN_GAIT, JYVASKYLA)


def bare_labels(labels: Sequence[str]) -> tuple[str, ...]:
    """Labels without their subject's prefix (`Anna:LFHD`), upper case; of several subjects the fullest one is kept.

    A marker of another subject is renamed to nothing.
    """
    owners = [label.rpartition(":")[0].strip() for label in labels]
    bare = [_PREFIX.sub("", label).strip().upper() for label in labels]
    known = {n for s in SETS for n in s.needed}
    score = {o: len({b for b, owner in zip(bare, owners, strict=True) if owner == o} & known) for o in owners}
    best = max(score, key=lambda o: score[o], default="")
    return tuple(b if o == best else "" for b, o in zip(bare, owners, strict=True))


def recognise_set(labels: Sequence[str]) -> MarkerSet | None:
    """The known set these labels are, None when they are none."""
    present = set(bare_labels(labels))
    return next((s for s in SETS if s.needed <= present), None)


def unknown_set(labels: Sequence[str], most: int = 100) -> str:
    """The sentence for markers of no known set: `most` of their labels are named."""
    shown = ", ".join("".join(c if c.isprintable() else "?" for c in label[:24]) for label in labels[:most] if label)
    more = f" and {len(labels) - most} more" if len(labels) > most else ""
    return f"{len(labels)} markers of no known set ({', '.join(s.name for s in SETS)}): {shown}{more}"


def marker_stream(
    labels: Sequence[str], xyz: F64, rate: tuple[int, int] | None, rate_source: str, scaling: Scaling,
    problems: Sequence[str] = (), notes: Sequence[str] = (), t_us: I64 | None = None,
) -> PoseStream:  # fmt: skip
    """The 22 canonical joints of (T, N, 3) markers.

    Args:
        labels: N marker names.
        xyz: Positions in source units; NaN where a marker was not seen.
        rate, rate_source: As in `PoseStream`.
        scaling: How the unit is found.
        problems, notes: What the reader found already.
        t_us: Times from zero; rebuilt from the rate without.

    Raises:
        FormatError: the set is unknown; its labels are listed.
    """
    known = recognise_set(labels)
    if known is None:
        raise FormatError(unknown_set(labels), hint="map them yourself: --map FILE (man 7 choreo-data)")
    names, xyz = bare_labels(labels), known_points(xyz)
    first = {n: i for i, n in reversed(list(enumerate(names))) if n}
    points = {n: xyz[:, i] for n, i in first.items()}
    up = _up_of(points, known)
    if up != "+y":
        points = {n: turn_up(v, up) for n, v in points.items()}
    joints = _centres(points, known)
    stacked, placed, toeless = complete(joints)
    body = finish(stacked, scaling, rate[0] / rate[1] if rate else None, missing_toes=toeless)
    said = [f"axes turned, up was {up}"] if up != "+y" else []
    time = [] if t_us is not None else ["time rebuilt from i/fps" if rate else "time unknown: t_us counts frames"]
    seen: F32 = body.xyz.astype(np.float32)
    return PoseStream(
        t_us=t_us if t_us is not None else frame_times(np.arange(len(seen), dtype=np.int64), rate), xyz=seen,
        joints=CANONICAL, units="m", up="+y", rate=rate, rate_source=rate_source,
        problems=(*problems, *_gaps(seen), *_tracked(body.problems)),
        assumptions=(f"rig {known.name} markers", APPROXIMATE, *said, *notes, *time, *(f"placed {p}" for p in placed),
                     *body.notes),
    )  # fmt: skip


def _tracked(problems: Sequence[str]) -> list[str]:
    """Bones between markers on the skin always change length: one remark for all of them."""
    kept = [p for p in problems if not p.startswith("bone_std")]
    return [*kept, *[p for p in problems if p.startswith("bone_std")][:1]]


def _gaps(xyz: F32) -> list[str]:
    missing = np.asarray(np.isnan(xyz).any(axis=2))
    rows = int(missing.any(axis=1).sum())
    if not rows:
        return []
    worst = CANONICAL[int(missing.sum(axis=0).argmax())]
    return [f"gaps: {rows} of {len(xyz)} frames miss a joint, most often {worst}"]


def _up_of(points: Mapping[str, F64], known: MarkerSet) -> str:
    """Which way is up: z in most laboratories, y in some."""
    high, low = (
        np.stack([points[known.groups[f"{side}_{part}"][-1][0]] for side in "lr"], axis=1)
        for part in ("shoulder", "ankle")
    )
    return up_of(high, low, ("+z", "+y", "+x", "-y", "-z", "-x"))


def _centres(points: Mapping[str, F64], known: MarkerSet) -> dict[str, F64]:
    out: dict[str, F64] = {}
    for joint, groups in known.groups.items():
        group = next((g for g in groups if all(n in points for n in g)), None)
        if group is not None:
            out[joint] = np.mean([points[n] for n in group], axis=0)
    front_l, front_r, back_l, back_r = known.pelvis
    if back_l not in points and "SACR" in points:
        points = {**points, back_l: points["SACR"], back_r: points["SACR"]}
    front = (points[front_l] + points[front_r]) / 2
    back = (points[back_l] + points[back_r]) / 2 if back_l in points and back_r in points else front
    middle = (front + back) / 2
    # Hip centres: a point of the pelvis 30 % of the width between the front markers below them and 14 % inside, halfway
    # back (after Bell, Brand and Pedersen 1989, whose 22 % of the width backwards is about that).
    width = points[front_l] - points[front_r]
    size = np.linalg.norm(width, axis=1, keepdims=True)
    down = 0.3 * size * np.array((0.0, -1.0, 0.0))
    for side, corner, sign in (("l", front_l, -1.0), ("r", front_r, 1.0)):
        inside = points[corner] + sign * 0.14 * width
        out[f"{side}_hip"] = inside + 0.22 * size * _unit(back - front) + down
    out["pelvis"] = middle
    return out


def _unit(v: F64) -> F64:
    return np.asarray(v / np.maximum(np.linalg.norm(v, axis=1, keepdims=True), 1e-9))
