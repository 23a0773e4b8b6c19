"""Look at the keys in the head of a JSON file without parsing it: cheap enough for every file of a disk."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

_TOKEN = re.compile(rb'"((?:[^"\\]|\\.)*)"(\s*:)?|[{}\[\]]')
_PART = re.compile(r"[a-z0-9]+")


@dataclass(frozen=True, slots=True)
class Peek:
    """Keys seen in the first 4 KiB.

    Args:
        root: `{` or `[`, the outermost bracket.
        keys: Keys of the outermost object, or of the first objects inside an outermost array (letters and digits only).
        nested: Keys one level further down.
        opens: Of each key in `keys` whose value opens a bracket in sight: which bracket.
        lines: The head is JSON Lines: a second document follows the first.
    """

    root: str
    keys: frozenset[str]
    nested: frozenset[str]
    opens: dict[str, str]
    lines: bool


def plain_key(key: str) -> str:
    """Key without case and punctuation: `Started-At`, `startedAt` and `started_at` are all `startedat`."""
    return "".join(_PART.findall(key.lower()))


@lru_cache(maxsize=4)
def _peek(head: bytes) -> Peek | None:
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if not start or start[:1] not in b"{[":
        return None
    root = chr(start[0])
    level = 1 if root == "{" else 2
    keys: set[str] = set()
    nested: set[str] = set()
    opens: dict[str, str] = {}
    depth, key, lines = 0, "", False
    for match in _TOKEN.finditer(start):
        text, colon = match.group(1), match.group(2)
        if text is not None:
            if colon:
                name = plain_key(text.decode("utf-8", errors="replace"))
                if depth == level:
                    keys.add(name)
                    key = name
                elif depth > level:
                    nested.add(name)
            continue
        bracket = match.group(0).decode()
        if bracket in "{[":
            if depth == 0 and match.start() > 0:
                lines = True
                break
            if depth == level and key:
                opens.setdefault(key, bracket)
            key = ""
            depth += 1
        else:
            depth -= 1
    return Peek(root, frozenset(keys), frozenset(nested), opens, lines)


def peek(head: bytes) -> Peek | None:
    """The keys in the head of a JSON document or of JSON Lines; None when it starts like neither."""
    return _peek(bytes(head[:4096]))


def mentions(head: bytes, hints: tuple[bytes, ...]) -> bool:
    """Whether a head starts like JSON and holds one of some lower-case words: the cheap question before `peek`."""
    if head[:64].lstrip(b"\xef\xbb\xbf \t\r\n")[:1] not in (b"{", b"["):
        return False
    lowered = _lowered(head)
    for hint in hints:  # noqa: SIM110 - asked of every JSON file of a disk, and a generator is three times slower
        if hint in lowered:
            return True
    return False


@lru_cache(maxsize=2)
def _lowered(head: bytes) -> bytes:
    return head.lower()
