"""The control map: how the five controls of the model (0..1) become what an instrument receives.

Read from YAML by its node tree, so that every fault is told with file, line and the nearest key.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import yaml
from msgspec import Meta

from formats.errors import ConfigFileError, FormatError
from formats.foreign.source import Source
from formats.packets import CONTROL_BOUNDS, CONTROLS

CHOICES = {
    "kind": ("none", "linear", "exp", "scurve"),
    "out_of_range": ("clamp", "hold"),
    "not_finite": ("hold", "neutral"),
}
MAX_BYTES = 64 * 1024
MAX_TOKENS = 2000
MAX_DEPTH = 8
_EXPONENT = re.compile(r"[-+]?[0-9]{1,12}(?:\.[0-9]{0,12})?[eE][-+]?[0-9]{1,4}")


class Ease(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a control moves to its new value: `none`, `linear` ramp, `exp` (first-order low-pass) or `scurve`, over `ms`.

    `linear` and `scurve` arrive `ms` after the last change of the goal; `exp` is 63 % of the way after `ms`. `scurve`
    starts and ends at rest and goes on from the speed it has, so that a new goal makes no corner.
    """

    kind: Annotated[Literal["none", "linear", "exp", "scurve"], Meta(description="Form of the move")] = "exp"
    ms: Annotated[float, Meta(ge=0, le=5000, description="Length of the ramp or time constant [ms]")] = 40.0


class Control(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One control: the model's 0..1 is mapped linearly to min..max, eased, clamped, limited in speed, and sent."""

    min: Annotated[float, Meta(description="Value for a model output of 0")]
    max: Annotated[float, Meta(description="Value for a model output of 1, above min")]
    neutral: Annotated[float, Meta(description="Value to ease to after a hold, within min..max")]
    ease: Ease
    cc: Annotated[int, Meta(ge=0, le=119, description="MIDI control change; 120 and above are channel mode messages")]
    rate_per_s: Annotated[float, Meta(gt=0, le=1000, description="Fastest change [units of the control per second]")]


class Clamp(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the guards do with values that must not pass."""

    out_of_range: Annotated[Literal["clamp", "hold"], Meta(description="To min..max, or keep the last value")] = "clamp"
    not_finite: Annotated[Literal["hold", "neutral"], Meta(description="Keep the last value, or go there")] = "hold"
    hold_s: Annotated[float, Meta(ge=0, le=60, description="Hold for this long, then ease to neutral [s]")] = 2.0


class ControlMap(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole map; the controls are in the order of the model's outputs."""

    throttle_ms: Annotated[int, Meta(ge=20, le=50, description="Period of the output [ms]")]
    clamp: Clamp
    tempo_scale: Control
    density: Control
    tension: Control
    brightness: Control
    fx_send: Control

    @property
    def controls(self) -> tuple[Control, ...]:
        """The five in model order."""
        return tuple(getattr(self, name) for name in CONTROLS)


def _unit(neutral: float, cc: int, ease_ms: float, rate: float) -> Control:
    return Control(min=0.0, max=1.0, neutral=neutral, ease=Ease("exp", ease_ms), cc=cc, rate_per_s=rate)


DEFAULT = ControlMap(
    throttle_ms=20,
    clamp=Clamp(),
    tempo_scale=Control(min=0.8, max=1.25, neutral=1.0, ease=Ease("exp", 200.0), cc=20, rate_per_s=0.5),
    # Smoothing of density costs phase coherence (reflex: 20 ms .97, 200 ms .81), so it is eased least.
    density=_unit(0.5, 21, 20.0, 10.0),
    tension=_unit(0.5, 22, 200.0, 2.0),
    brightness=_unit(0.5, 23, 100.0, 4.0),
    fx_send=_unit(0.0, 24, 40.0, 10.0),
)

Keys = tuple[str, ...]


class _Loader:
    """Walk of the node tree that keeps the line of every key."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.lines: dict[Keys, int] = {}

    def fault(self, line: int, message: str) -> FormatError:
        return ConfigFileError(f"{self.file}:{line}: {message}")

    def value(self, node: yaml.Node, path: Keys) -> Any:
        line = node.start_mark.line + 1
        self.lines.setdefault(path, line)
        if len(path) > MAX_DEPTH:
            raise self.fault(line, "nested too deeply")
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            raise self.fault(line, f"{_named(path)} is a list, not a value")
        assert isinstance(node, yaml.ScalarNode)
        return self.scalar(node, path, line)

    def mapping(self, node: yaml.MappingNode, path: Keys) -> dict[str, Any]:
        out: dict[str, Any] = {}
        known = _known_keys(path)
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else ""
            if known is None:
                raise self.fault(line, f"{_named(path)} is a value, not a block")
            if key not in known:
                raise self.fault(line, f"unknown key {key[:40]!r}{_nearest(key, known)}")
            if key in out:
                raise self.fault(line, f"key {key!r} a second time")
            self.lines[(*path, key)] = line
            out[key] = self.value(value_node, (*path, key))
        return out

    def scalar(self, node: yaml.ScalarNode, path: Keys, line: int) -> Any:
        text = str(node.value)
        if node.tag == "tag:yaml.org,2002:int" and len(text) < 20:
            try:
                return int(text)
            except ValueError:
                raise self.fault(line, f"{_named(path)}: {text!r} is not a decimal number") from None
        if node.tag == "tag:yaml.org,2002:float" and len(text) < 40:
            try:
                number = float(text)
            except ValueError:
                number = math.nan
            if not math.isfinite(number):
                raise self.fault(line, f"{_named(path)}: {text} is not a finite number")
            return number
        if node.tag == "tag:yaml.org,2002:str" and node.style is None and _EXPONENT.fullmatch(text[:40]):
            # YAML 1.1 takes 1e3 for text because it has no point; nobody means that.
            if not math.isfinite(float(text)):
                raise self.fault(line, f"{_named(path)}: {text} is not a finite number")
            return float(text)
        if node.tag == "tag:yaml.org,2002:str":
            return text[:200]
        raise self.fault(line, f"{_named(path)}: {text[:40]!r} is neither a number nor a word")


def _named(path: Keys) -> str:
    return ".".join(path) or "the document"


def _known_keys(path: Keys) -> tuple[str, ...] | None:
    if not path:
        return ControlMap.__struct_fields__
    if path == ("clamp",):
        return Clamp.__struct_fields__
    if len(path) == 1 and path[0] in CONTROLS:
        return Control.__struct_fields__
    return Ease.__struct_fields__ if len(path) == 2 and path[1] == "ease" else None


def _nearest(key: str, known: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(key[:40], known, n=1, cutoff=0.5)
    return f" (did you mean: {close[0]}?)" if close else f" (known: {', '.join(known)})"


def _tree(text: str, loader: _Loader) -> yaml.Node:
    """Compose one document; anchors, aliases, tags and a flood of tokens are refused before anything is built."""
    try:
        for n, token in enumerate(yaml.scan(text, Loader=yaml.SafeLoader)):
            line = token.start_mark.line + 1
            if isinstance(token, (yaml.AnchorToken, yaml.AliasToken)):
                raise loader.fault(line, "anchors and aliases are refused: write the values out")
            if isinstance(token, (yaml.TagToken, yaml.DirectiveToken)):
                raise loader.fault(line, "tags and directives are refused")
            if n > MAX_TOKENS:
                raise loader.fault(line, "far more than a control map holds")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as e:
        mark = e.problem_mark or e.context_mark
        raise loader.fault(mark.line + 1 if mark else 1, f"not YAML: {e.problem or e.context}") from None
    except (yaml.YAMLError, RecursionError, ValueError) as e:
        raise loader.fault(1, f"not YAML: {str(e).splitlines()[0][:100]}") from None
    if node is None:
        raise loader.fault(1, "empty: a control map needs throttle_ms, clamp and five controls")
    return node


def _check_ranges(found: ControlMap, fault: Callable[[Keys, str], FormatError]) -> None:
    """What a schema cannot say: order of the bounds, neutral inside them, one CC a control."""
    used: dict[int, str] = {}
    for name, control in zip(CONTROLS, found.controls, strict=True):
        lo, hi = CONTROL_BOUNDS[name]
        for key in ("min", "max", "neutral"):
            value = getattr(control, key)
            if not lo <= value <= hi:
                raise fault((name, key), f"{name}.{key} {value:g} is outside {lo:g} to {hi:g}")
        if not control.min < control.max:
            raise fault((name, "max"), f"{name}.max {control.max:g} is not above min {control.min:g}")
        if not control.min <= control.neutral <= control.max:
            raise fault((name, "neutral"), f"{name}.neutral {control.neutral:g} is not within min..max")
        if control.cc in used:
            raise fault((name, "cc"), f"{name}.cc {control.cc} is already that of {used[control.cc]}")
        used[control.cc] = name


def loads(text: str, file: str = "control_map.yaml") -> ControlMap:
    """Read a control map from YAML text; all keys must be there, and no others.

    Raises:
        ConfigFileError: `FILE:LINE: what is wrong`, with the nearest key where one is misspelt.
    """
    loader = _Loader(file)
    data = loader.value(_tree(text, loader), ())

    def fault(path: Keys, message: str) -> FormatError:
        while path and path not in loader.lines:
            path = path[:-1]
        return loader.fault(loader.lines.get(path, 1), message)

    if not isinstance(data, dict):
        raise loader.fault(1, "not a block of keys")
    for path, known in [((), _known_keys(())), *(((n,), _known_keys((n,))) for n in ("clamp", *CONTROLS))]:
        block = data
        for key in path:
            block = block[key]
        if not isinstance(block, dict):
            raise fault(path, f"{_named(path)} is a value, not a block")
        for key in known or ():
            if key not in block:
                raise fault(path, f"{_named((*path, key))} is missing")
    try:
        found = msgspec.convert(data, ControlMap)
    except msgspec.ValidationError as e:
        message, _, where = str(e).partition(" - at `$.")
        path = tuple(where.rstrip("`").split(".")) if where else ()
        if path and path[-1] in CHOICES:
            message = f"not one of {', '.join(CHOICES[path[-1]])}"
        raise fault(path, f"{_named(path)}: {message}") from None
    _check_ranges(found, fault)
    return found


def load(path: str | Path) -> ControlMap:
    """Read a control map from a file.

    Raises:
        ConfigFileError: as `loads`. OSError: it cannot be opened.
    """
    return loads(Source.of(path).read_text(MAX_BYTES), str(path))


def to_dict(found: ControlMap) -> dict[str, Any]:
    """Plain values in the order of the file."""
    return dict(msgspec.to_builtins(found))


def dump(found: ControlMap) -> str:
    """YAML text that `loads` reads back to an equal map."""
    return yaml.safe_dump(to_dict(found), sort_keys=False, default_flow_style=False, allow_unicode=True)


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of the map; the relations between min, max, neutral and the CCs it cannot say."""
    (root,), definitions = msgspec.json.schema_components((ControlMap,))
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **root, "$defs": definitions}
