"""Motion clips of ours as recordings: recognised by their first members, read with their digest.

Turning channels into joints is not a matter of formats: `choreo_cli.motion.clip_stream` does it.
"""

from __future__ import annotations

from formats import motion_npz
from formats.foreign.model import Facts
from formats.foreign.pose_clock import rate_of
from formats.foreign.registry import Reader
from formats.foreign.source import Source
from formats.npz_guard import BUDGET_BYTES, member_names

FORMAT = "choreo25"


def sniff(head: bytes, name: str, size: int) -> bool:
    """An archive that begins with our channels and their layout version."""
    if head[:4] != b"PK\x03\x04":
        return False
    first = head[30 : 30 + int.from_bytes(head[26:28], "little")]
    return first == b"channels.npy" and (b"layout_version.npy" in head or _ends_late(head))


def _ends_late(head: bytes) -> bool:
    """The first member is longer than the head and has 25 columns: what follows it cannot be seen yet."""
    return b", 25), }" in head[:256] and list(member_names(head)) == ["channels.npy"]


def facts(source: Source) -> Facts:
    """Frames, rate, body and flags of a clip. Raises FormatError when it is damaged or of another layout."""
    clip = motion_npz.decode(source.read_bytes(BUDGET_BYTES), file=source.path)
    h = clip.header
    rate = rate_of(h.fps)
    n = len(clip.channels)
    outside = motion_npz.out_of_range(clip.channels)
    problems = [f"out_of_range: {name} {count} times beyond its hard range" for name, count in outside.items()]
    if h.flags.get("inverted"):
        problems.append("inverted: the pelvis is not upright in every frame, yaw is not reliable there")
    meta = {"height_m": round(h.height_m, 4), "licence": h.licence, "origin": h.origin, "source": h.source}
    meta["flags"] = {k: v for k, v in h.flags.items() if v not in (False, 0, {}, None)}
    return Facts(
        "motion", FORMAT, n=n, rate=rate, duration_us=round(n * 1e6 / h.fps), channels=22, problems=tuple(problems),
        meta={k: v for k, v in meta.items() if v not in (None, {})},
    )  # fmt: skip


READERS: tuple[Reader, ...] = (Reader(FORMAT, "motion", sniff, facts, None, 19),)
