"""Branches as data: one YAML file names an encoder and its settings, a language model, and what the plan expects."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from choreo_cli.errors import ConfigError, NoInputError, UsageError
from choreo_cli.training.settings import texts
from choreo_cli.trajectory.video_config import VideoConfig, changed
from formats.config_text import known_keys, mapping
from formats.errors import ConfigFileError

LARGEST = 65_536  # bytes of a branch file
RESERVED = ("logs", "results", "state")  # folders beside those of the branches
Name = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}\Z")]
Percent = Annotated[float, Meta(ge=0, le=100)]
Between = tuple[Percent, Percent]


class Language(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Who puts the branch's trajectories into equations and words.

    Args:
        engine: `fit`, `template`, or `llm`: any server of the OpenAI-compatible protocol.
        model, url: Of `llm`: the model's name on its server, and where that is.
    """

    engine: Literal["fit", "template", "llm"] = "fit"
    model: str = ""
    url: str = ""

    @property
    def words(self) -> tuple[str, ...]:
        """The options of `choreo describe trajectories`."""
        if self.engine != "llm":
            return "--solver", self.engine
        return "--solver", f"llm:{self.url}", "--model", self.model


class Expects(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What was expected before training, percent from-to; None where nothing was.

    Args:
        accuracy: Of the class. mae_pct: Forecast error. equations: That can be parsed.
    """

    accuracy: Between | None = None
    mae_pct: Between | None = None
    equations: Between | None = None


class Branch(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One branch.

    Args:
        name: Of its folder and in every report.
        about: One line.
        train: Settings of `choreo train video`.
        language: Of `choreo describe`.
        expects: What the plan expects.
    """

    name: Name
    about: str
    train: VideoConfig
    language: Language = Language()
    expects: Expects = Expects()


def read_branch(path: Path) -> Branch:
    """Read one branch file.

    Raises:
        NoInputError: no such file.
        ConfigError: no YAML, a key given twice, an unknown key (with the nearest one), a value out of bounds, or a part
            that is missing; the message names the file, and the line where there is one.
    """
    parts: dict[str, Any] = {"train": VideoConfig, "language": Language, "expects": Expects}
    try:
        raw = mapping(path, _bytes(path), Branch)
        for part, kind in parts.items():
            if isinstance(raw.get(part), dict):
                known_keys(path, raw[part], kind, part)
        found = msgspec.convert(raw, Branch)
    except ConfigFileError as e:
        raise ConfigError(e.message, hint=e.hint) from None
    except msgspec.ValidationError as e:
        raise ConfigError(f"{path}: {_plain(str(e))}") from None
    _check(path, found)
    return msgspec.structs.replace(found, train=msgspec.structs.replace(found.train, branch=found.name))


def read_branches(paths: Sequence[Path]) -> list[Branch]:
    """Read several. Raises what `read_branch` raises, and UsageError when two have one name."""
    found: dict[str, Branch] = {}
    for path in paths:
        one = read_branch(path)
        if one.name in found:
            raise UsageError(f"--branch {path}: {one.name} is there already", hint="give each branch a name of its own")
        found[one.name] = one
    return list(found.values())


def settings_of(config: VideoConfig) -> dict[str, str]:
    """What differs from the recipe's own values, as texts of `--set KEY=VALUE`."""
    return texts(changed(msgspec.to_builtins(config)))


def _bytes(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise NoInputError(f"no branch file {path}", hint="see examples/trajectory") from None
    if len(data) > LARGEST:
        raise ConfigError(f"{path}: {len(data)} bytes are no branch file", hint="see examples/trajectory")
    return data


def _check(path: Path, found: Branch) -> None:
    speaks = found.language
    if found.name in RESERVED:
        raise ConfigError(f"{path}: a branch cannot be called {found.name}")
    if found.train.branch not in ("", found.name):
        raise ConfigError(f"{path}: train.branch is {found.train.branch!r}, the name is {found.name!r}")
    if speaks.engine == "llm" and not (speaks.model and speaks.url.startswith(("http://", "https://"))):
        raise ConfigError(f"{path}: language: llm needs model, and url that begins with http:// or https://")
    if speaks.engine != "llm" and (speaks.model or speaks.url):
        raise ConfigError(f"{path}: language: model and url belong to engine: llm")
    for name in Expects.__struct_fields__:
        span = getattr(found.expects, name)
        if span is not None and span[0] > span[1]:
            raise ConfigError(f"{path}: expects.{name} goes from {span[0]:g} down to {span[1]:g}")


def _plain(text: str) -> str:
    """msgspec's sentence as ours: ``Expected `int` >= 1 - at `$.train.epochs` `` -> `train.epochs: expected int`."""
    said, _, place = text.replace("`", "").partition(" - at ")
    said = said[:1].lower() + said[1:]
    return f"{place.removeprefix('$.')}: {said}" if place.startswith("$.") else said
