"""YAML or TOML that a person wrote as keys and values: a fault has its line, and no key stands twice or is unknown."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from formats.errors import ConfigFileError

LONGEST = 200  # characters of a parser's sentence
LONGEST_KEY = 60


def mapping(path: Path, data: bytes, kind: Any) -> dict[str, Any]:
    """Parse a file of keys and values and check the keys of its top level.

    Args:
        path: Its name; `.toml` is TOML, all else YAML. data: What it holds.
        kind: The msgspec struct whose fields are the keys.

    Raises:
        ConfigFileError: not UTF-8, not YAML or TOML, a key given twice, no mapping, or an unknown key.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as e:
        raise ConfigFileError(f"{path}: not UTF-8 text at byte {e.start}", hint="save it as UTF-8") from None
    raw = _parse(path, text)
    if not isinstance(raw, dict):
        raise ConfigFileError(f"{path}: needs keys and values", hint=f"known: {', '.join(kind.__struct_fields__)}")
    known_keys(path, raw, kind)
    return raw


def known_keys(path: Path, raw: Mapping[Any, Any], kind: Any, where: str = "") -> None:
    """Check the keys of one block against the fields of a struct.

    Args:
        path: Of the file. raw: The block. kind: The struct.
        where: The block's own key, empty for the top level.

    Raises:
        ConfigFileError: an unknown key; the nearest one is named, or all of them.
    """
    from difflib import get_close_matches

    names = kind.__struct_fields__
    for key in raw:
        if key not in names:
            near = get_close_matches(str(key), names, 1)
            hint = f"did you mean: {near[0]}?" if near else f"known: {', '.join(names)}"
            place = f" in {where}" if where else ""
            raise ConfigFileError(f"{path}: unknown key {str(key)[:LONGEST_KEY]!r}{place}", hint=hint)


def _parse(path: Path, text: str) -> Any:
    import tomllib

    import yaml

    try:
        if path.suffix == ".toml":
            return tomllib.loads(text)
        raw = yaml.safe_load(text)
        _once(path, yaml.compose(text, Loader=yaml.SafeLoader))
    except yaml.MarkedYAMLError as e:
        at = e.problem_mark or e.context_mark
        line = f":{at.line + 1}" if at else ""
        said = ", ".join(part for part in (e.context, e.problem) if part)[:LONGEST]
        raise ConfigFileError(f"{path}{line}: not YAML: {said}") from None
    except (tomllib.TOMLDecodeError, yaml.YAMLError, RecursionError, ValueError) as e:
        raise ConfigFileError(f"{path}: {' '.join(str(e).split())[:LONGEST]}") from None
    return raw


def _once(path: Path, node: Any) -> None:
    """Refuse a key that stands twice in one block: YAML would silently take the last."""
    import yaml

    todo, seen = [node], set[int]()
    while todo:
        at = todo.pop()
        if id(at) in seen or not isinstance(at, yaml.CollectionNode):
            continue
        seen.add(id(at))
        if not isinstance(at, yaml.MappingNode):
            todo += at.value
            continue
        lines: dict[str, int] = {}
        for key, value in at.value:
            line, name = key.start_mark.line + 1, str(key.value)
            if name in lines and isinstance(key, yaml.ScalarNode):
                raise ConfigFileError(
                    f"{path}:{line}: key {name[:LONGEST_KEY]!r} a second time", hint=f"it stands in line {lines[name]}"
                )
            lines[name] = line
            todo.append(value)
