"""`.choreoignore`: patterns like those of git that acknowledge files known to be bad."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

from formats.errors import FormatError
from formats.foreign.source import open_regular

_CAP = 2**20


@dataclass(frozen=True, slots=True)
class Rule:
    """One line: what it matches, and whether it takes an earlier match back (`!`)."""

    pattern: re.Pattern[str]
    negated: bool


def rules_of(text: str) -> list[Rule]:
    """Parse the lines of a file; an empty line and one that starts with `#` say nothing.

    As in git: `*` and `?` stop at `/`, `**` does not; a pattern with a `/` inside starts at the file's own folder,
    one without matches at any depth; a match of a folder covers all below it; `!` takes back; `\\` takes a
    character literally.
    """
    found = []
    for raw in text.splitlines():
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        negated = line.startswith("!")
        body = unicodedata.normalize("NFC", line[1:] if negated else line)
        found.append(Rule(re.compile(_regex(body), re.DOTALL), negated))
    return found


def _regex(pattern: str) -> str:
    folder_only = pattern.endswith("/")
    body = pattern.rstrip("/")
    anchored = "/" in body
    out = "" if anchored else "(?:.*/)?"
    body = body.lstrip("/")
    i = 0
    while i < len(body):
        piece, i = _piece(body, i)
        out += piece
    return out + ("/.+" if folder_only else "(?:/.+)?")


def _piece(body: str, i: int) -> tuple[str, int]:
    """The regular expression of what stands at `i`, and where the next piece begins."""
    if body.startswith("**/", i):
        return "(?:.*/)?", i + 3
    if body.startswith("**", i):
        return ".*", i + 2
    c = body[i]
    if c == "*":
        return "[^/]*", i + 1
    if c == "?":
        return "[^/]", i + 1
    if c == "\\" and i + 1 < len(body):
        return re.escape(body[i + 1]), i + 2
    if c == "[" and (end := body.find("]", i + 2)) > 0:
        inside = body[i + 1 : end].replace("\\", "\\\\").replace("[", "\\[")
        return f"(?!/)[{'^' + inside[1:] if inside[0] in '!^' else inside}]", end + 1
    return re.escape(c), i + 1


def matches(rules: Iterable[Rule], path: str) -> bool:
    """Whether the last rule that matches a path below the file's folder acknowledges it."""
    path = unicodedata.normalize("NFC", path)
    hit = False
    for rule in rules:
        if rule.negated == hit and rule.pattern.fullmatch(path):
            hit = not rule.negated
    return hit


def read_rules(path: str) -> list[Rule]:
    """The rules of a file.

    Raises:
        FormatError: not UTF-8 text, too long, or a pattern that is none.
        OSError: it cannot be read.
    """
    with open_regular(path) as f:
        data = f.read(_CAP + 1)
    try:
        if len(data) > _CAP:
            raise FormatError(f"more than {_CAP} bytes of patterns", file=path)
        return rules_of(data.decode("utf-8-sig"))
    except (UnicodeDecodeError, re.error) as e:
        raise FormatError(f"cannot be read: {e}", file=path) from None
