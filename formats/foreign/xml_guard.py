"""Stream XML from strangers: no entities, no external anything, bounded depth and token size, no tree in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import BinaryIO
from xml.parsers import expat

from formats.errors import FormatError

MAX_DEPTH = 64
MAX_TOKEN = 2**20
MAX_DEFAULT = 256
# expat keeps every name it has met; a format has a few dozen.
MAX_NAMES = 4096
_CHUNK = 1 << 16

Start = Callable[[str, dict[str, str]], None]


def _refuse_entities(*_: object) -> None:
    raise FormatError("declares an XML entity, which is refused")


def _refuse_external(*_: object) -> int:
    raise FormatError("refers to something outside the file, which is refused")


def _attlist(element: str, attribute: str, type_: str, default: str | None, required: bool) -> None:
    if default is not None and len(default) > MAX_DEFAULT:
        raise FormatError(f"attribute {attribute[:40]} has a default of {len(default)} characters, which is refused")


def stream_xml(
    file: BinaryIO,
    start: Start | None = None,
    end: Callable[[str], None] | None = None,
    *,
    internal_subset: bool = False,
    text: Callable[[str], None] | None = None,
) -> None:
    """Parse a file and report its elements.

    Args:
        start: Called with name and the attributes that stand in the file (declared defaults are not added).
        internal_subset: Accept a DOCTYPE with ELEMENT and ATTLIST declarations inside; entities are never accepted.
        text: Called with character data, in pieces.

    Raises:
        FormatError: not well-formed, entities, too deep, or one token of more than a MiB.
    """
    parser = expat.ParserCreate()
    parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
    parser.specified_attributes = True
    depth = 0
    names: set[str] = set()

    def on_start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > MAX_DEPTH:
            raise FormatError(f"XML nested deeper than {MAX_DEPTH}", row=parser.CurrentLineNumber)
        names.add(name)
        names.update(attributes)
        if len(names) > MAX_NAMES:
            raise FormatError(f"more than {MAX_NAMES} different XML names", row=parser.CurrentLineNumber)
        if start is not None:
            start(name, attributes)

    def on_end(name: str) -> None:
        nonlocal depth
        depth -= 1
        if end is not None:
            end(name)

    def on_doctype(name: str, system: str | None, public: str | None, internal: int) -> None:
        if internal and not internal_subset:
            raise FormatError("a DOCTYPE with declarations inside, which is refused")

    parser.StartElementHandler = on_start
    parser.EndElementHandler = on_end
    parser.StartDoctypeDeclHandler = on_doctype
    parser.EntityDeclHandler = _refuse_entities
    parser.ExternalEntityRefHandler = _refuse_external
    parser.AttlistDeclHandler = _attlist
    if text is not None:
        parser.CharacterDataHandler = text
    fed = 0
    try:
        while chunk := file.read(_CHUNK):
            fed += len(chunk)
            parser.Parse(chunk, False)
            if fed - max(0, parser.CurrentByteIndex) > MAX_TOKEN:
                raise FormatError("one XML token is longer than a MiB", row=parser.CurrentLineNumber)
            if not names and fed > MAX_TOKEN:
                raise FormatError("no XML element in the first MiB")
        parser.Parse(b"", True)
    except expat.ExpatError as e:
        raise FormatError(f"not well-formed XML: {expat.ErrorString(e.code)}", row=e.lineno) from None
