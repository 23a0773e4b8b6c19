"""YAML or TOML into frozen structs; an unknown key fails with the nearest name."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from choreo_cli.errors import ConfigError, NoInputError

T = TypeVar("T")


def load(path: Path, kind: type[T]) -> T:
    """Read a configuration file into `kind` (a frozen msgspec struct that forbids unknown fields).

    Raises:
        NoInputError: the file is missing.
        ConfigError: not YAML/TOML, an unknown key (with the nearest name), or a value out of bounds.
    """
    import msgspec

    from formats.config_text import mapping
    from formats.errors import ConfigFileError

    try:
        return msgspec.convert(mapping(path, path.read_bytes(), kind), kind)
    except FileNotFoundError:
        raise NoInputError(f"no configuration at {path}") from None
    except ConfigFileError as e:
        raise ConfigError(e.message, hint=e.hint) from None
    except msgspec.ValidationError as e:
        raise ConfigError(f"{path}: {e}") from None
