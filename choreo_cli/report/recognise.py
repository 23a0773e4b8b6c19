"""What a file is: one of ours, by either of its ends, or a stranger's, by its reader."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from formats.audio_npz import is_ours
from formats.columns import Table
from formats.errors import FormatError
from formats.event_log import is_events
from formats.foreign import registry
from formats.foreign.capture_lines import is_lines
from formats.foreign.registry import Reader
from formats.foreign.source import Source, open_regular
from formats.motion_npz import is_motion
from formats.packet_log import is_packets
from formats.run_log import is_run_log
from formats.wholeness import PNG_START

_TAIL = 4096
_JSON_LIKE = (b"{", b"[")


@dataclass(frozen=True, slots=True)
class Kind:
    """What a file was recognised as.

    Args:
        family: `parquet npz motion_npz tensors npy manifest sealed packets events run_log png control_map sums
            foreign` or `unknown`.
        reader: The reader of a foreign file.
    """

    family: str
    reader: Reader | None = None


@cache
def tables() -> dict[str, Table]:
    """Every table that lies in a Parquet file of ours, by schema name."""
    from formats.columns import CONTEXT, CONTROLS, FRAMES, LATENTS, LEDGER, PREFERENCES, SENT, WINDOWS
    from formats.media import CAPTURE_LEDGER
    from formats.poses import POSES
    from formats.teacher_pairs import TEACHER_PAIRS
    from formats.trajectory import CURVES, DESCRIPTIONS, PIXELS, PREDICTIONS, VIEWS

    known = (
        CAPTURE_LEDGER, CONTEXT, CONTROLS, CURVES, DESCRIPTIONS, FRAMES, LATENTS, LEDGER, PIXELS, POSES, PREDICTIONS,
        PREFERENCES, SENT, TEACHER_PAIRS, VIEWS, WINDOWS,
    )  # fmt: skip
    return {t.schema: t for t in known}


def readers() -> tuple[Reader, ...]:
    """Every foreign reader, in the order they are asked."""
    return registry.load()


def recognise(source: Source) -> Kind:
    """Look at both ends of a file: one flipped bit cannot hide what it is."""
    head, tail, name = source.head, _tail(source), source.name.lower()
    if name == "sha256sums":
        return Kind("sums")
    family = _by_ends(head, tail) or _by_name(name)
    if family == "npy":  # numbers of a body have a reader of their own
        body = (r for r in readers() if r.kind == "motion" and r.sniff(head, source.name, source.size))
        return next((Kind("foreign", r) for r in body), Kind(family))
    if family:
        return Kind(family)
    for reader in readers():
        if reader.sniff(head, source.name, source.size):
            return Kind("foreign", reader)
    return Kind("unknown")


def _by_ends(head: bytes, tail: bytes) -> str | None:
    if head[:4] == b"PAR1" or tail[-4:] == b"PAR1":
        return "parquet"
    if is_motion(tail):
        return "motion_npz"
    if is_lines(head):
        return None  # a capture and its frames: read like what comes from elsewhere
    if is_ours(tail):
        return "npz"
    if is_events(head):
        return "events"
    if is_packets(head, tail):
        return "packets"
    if is_run_log(head):
        return "run_log"
    if head.startswith(b'{"schema":"choreo.') or b'\n],"head_sha256":"' in tail:
        return "manifest"
    if b',\n "sha256": "' in tail[-120:] or head.startswith(b'{\n "schema": "choreo.'):
        return "sealed"
    if head[:8] == PNG_START:
        return "png"
    if b'"choreo.sha256":"' in head or (head[8:10] == b'{"' and b'"data_offsets"' in head):
        return "tensors"
    return None


def _by_name(name: str) -> str | None:
    for suffix, family in (
        (".parquet", "parquet"), (".safetensors", "tensors"), (".png", "png"), (".npy", "npy"),
        ("control_map.yaml", "control_map"), ("control_map.yml", "control_map"),
    ):  # fmt: skip
        if name.endswith(suffix):
            return family
    return None


def _tail(source: Source) -> bytes:
    if source.size <= len(source.head):
        return source.head
    with open_regular(source.path) as f:
        f.seek(max(0, source.size - _TAIL))
        return f.read(_TAIL)


def table_of(schema: str | None, file: Path) -> Table:
    """The table a Parquet file says it holds. Raises FormatError when it is none of ours."""
    table = tables().get(schema or "")
    if table is None:
        raise FormatError(f"the file holds {schema or 'no choreo table'}", file=file, hint="not made by this choreo")
    return table


def is_json(head: bytes) -> bool:
    return head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in _JSON_LIKE
