"""What a user asked to train: the recipe's module, its configuration and the options it understands."""

from __future__ import annotations

import importlib
import importlib.util
import json
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from choreo_cli.errors import UnavailableError, UsageError
from choreo_cli.training import recipes

if TYPE_CHECKING:
    from choreo_cli.training.recipe import LaneModule

INSTALL = "pip install 'choreo[train]'"
TRAIN_PACKAGES = ("torch", "accelerate", "onnx", "onnxruntime")


def available() -> dict[str, str]:
    """Recipes whose module is there, with one line each. Nothing heavy is imported."""
    return {name: text for name, (module, text) in recipes.RECIPES.items() if _is_there(module)}


def lane(name: str) -> LaneModule:
    """The module of a recipe.

    Raises:
        UsageError: no such recipe; the message names the nearest.
        UnavailableError: torch or another package of the extra `train` is not installed.
    """
    known = available()
    if name not in known:
        near = get_close_matches(name, known, 1)
        hint = f"did you mean: {near[0]}?" if near else f"choose from {', '.join(known)}"
        raise UsageError(f"no recipe {name!r}", hint=hint)
    return module_at(recipes.module_of(name))


def module_at(path: str) -> LaneModule:
    """A lane's module by its import path.

    Raises:
        UnavailableError: torch or another package of the extra `train` is not installed.
    """
    try:
        module: Any = importlib.import_module(path)
    except ModuleNotFoundError as e:
        missing = (e.name or "").partition(".")[0]
        if missing in TRAIN_PACKAGES:
            raise UnavailableError(f"training needs {missing}", hint=INSTALL) from None
        raise
    found: LaneModule = module
    return found


def parse_sets(values: Iterable[str]) -> dict[str, str]:
    """`--set KEY=VALUE` values; the last of a key wins. Raises UsageError when one has no `=`."""
    found = {}
    for value in values:
        key, eq, text = value.partition("=")
        if not eq or not key.strip():
            raise UsageError(f"--set {value!r} is not KEY=VALUE")
        found[key.strip()] = text.strip()
    return found


def resolve(kind: type[Any], base: Any, sets: Mapping[str, str]) -> Any:
    """A configuration with single values replaced.

    Args:
        kind: The lane's `Config`, a frozen msgspec struct.
        base: An instance to start from, None for the defaults.
        sets: Values as text by field name; they are converted to the field's type, lists and tables as JSON.

    Raises:
        UsageError: an unknown key, with the nearest name; or a value of the wrong type or out of bounds.
    """
    import msgspec

    names = kind.__struct_fields__
    values = msgspec.to_builtins(base if base is not None else kind())
    for key, text in sets.items():
        if key not in names:
            near = get_close_matches(key, names, 1)
            hint = f"did you mean: {near[0]}?" if near else f"known: {', '.join(names)}"
            raise UsageError(f"--set {key}: no such setting", hint=hint)
        values[key] = _value(text)
        try:
            msgspec.convert(values, kind, strict=False)
        except msgspec.ValidationError as e:
            raise UsageError(f"--set {key}={text}: {_plain(str(e))}") from None
    return msgspec.convert(values, kind, strict=False)


def options_of(recipe: str, module: LaneModule, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were given (not None); UsageError for one the recipe does not take, with the recipes that do."""
    given = {name: value for name, value in options.items() if value is not None}
    for name in given:
        if name in module.TAKES:
            continue
        takers = [other for other in available() if name in lane(other).TAKES]
        hint = f"it is for: {', '.join(takers)}" if takers else "no recipe takes it"
        raise UsageError(f"{recipe} has no --{name}", hint=hint)
    return given


def seeds_of(text: str, only: int | None, seed: int) -> list[int]:
    """`--seeds 0,1,2` as seeds, empty when it is not given.

    Raises:
        UsageError: no list of different whole numbers; `--only` without it or outside it; `--seed` beside it.
    """
    if not text:
        if only is not None:
            raise UsageError("--only needs --seeds", hint="name all seeds of the training there")
        return []
    try:
        found = [int(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or min(found) < 0 or len(set(found)) != len(found):
        raise UsageError(f"--seeds {text!r} is not a list of different seeds", hint="for example 0,1,2")
    if seed:
        raise UsageError("--seed and --seeds exclude each other")
    if only is not None and only not in found:
        raise UsageError(f"--only {only} is none of --seeds {text}")
    return found


def texts(settings: Mapping[str, Any]) -> dict[str, str]:
    """Settings as `--set KEY=VALUE` writes them."""
    return {k: str(v).lower() if isinstance(v, bool) else str(v) for k, v in settings.items()}


def set_words(settings: Mapping[str, Any]) -> list[str]:
    """Settings as words of a command line."""
    return [word for key, value in texts(settings).items() for word in ("--set", f"{key}={value}")]


def _value(text: str) -> Any:
    """Text as it is, a list or a table as JSON."""
    if not text.startswith(("[", "{")):
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text


def _plain(text: str) -> str:
    """msgspec's sentence as part of ours: ``Expected `int` >= 1 - at `$.epochs` `` -> `expected int >= 1`."""
    said = text.partition(" - at ")[0].replace("`", "")
    return said[:1].lower() + said[1:]


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False
