"""YAML or TOML into frozen structs; an unknown key fails with the nearest name."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from choreo_cli.errors import ConfigError, NoInputError

T = TypeVar("T")


def load(path: Path, kind: type[T]) -> T:
    """Read a configuration file into `kind` (a frozen msgspec struct that forbids unknown fields).

    Raises:
        NoInputError: the file is missing.
        ConfigError: not YAML/TOML, an unknown key (with the nearest name), or a value out of bounds.
    """
    import msgspec

    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise NoInputError(f"no configuration at {path}") from None
    except UnicodeDecodeError as e:
        raise ConfigError(f"{path}: not UTF-8 text at byte {e.start}", hint="save it as UTF-8") from None
    raw = _parse(path, text)
    _known_keys(path, raw, kind)
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as e:
        raise ConfigError(f"{path}: {e}") from None


def _parse(path: Path, text: str) -> dict[str, Any]:
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
        raise ConfigError(f"{path}{line}: not YAML: {e.problem or e.context}") from None
    except (tomllib.TOMLDecodeError, yaml.YAMLError, RecursionError, ValueError) as e:
        raise ConfigError(f"{path}: {' '.join(str(e).split())}") from None
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: needs keys and values")
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
                raise ConfigError(f"{path}:{line}: key {name!r} a second time", hint=f"it stands in line {lines[name]}")
            lines[name] = line
            todo.append(value)


def _known_keys(path: Path, raw: dict[str, Any], kind: Any) -> None:
    from difflib import get_close_matches

    names = kind.__struct_fields__
    for key in raw:
        if key not in names:
            near = get_close_matches(str(key), names, 1)
            hint = f"did you mean: {near[0]}?" if near else f"known: {', '.join(names)}"
            raise ConfigError(f"{path}: unknown key {key!r}", hint=hint)
