"""Packets of the live loop: what a sensor sends, what the encoders give, what the instrument receives.

Times are integer microseconds. A value that was not measured is null and its modality's mask bit is 0, never 0.0.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from formats.columns import INPUTS, MODALITIES, Column
from formats.errors import FormatError

N_INPUTS = len(INPUTS)
# Bit of each modality in `mask`, in the order mot hr aud ctx.
MASK_BITS: dict[str, int] = {name: 1 << i for i, name in enumerate(MODALITIES)}
# Inputs that a modality must have for its bit to be 1; an accelerometer has motion but no sway.
ESSENTIAL: dict[str, tuple[str, ...]] = {
    "mot": ("motion_energy", "motion_freq", "jerk"),
    "hr": ("hr",),
    "aud": ("audio_energy", "audio_brightness"),
    "ctx": ("beat_phase",),
}
LATENT_DIMS: dict[str, int] = {"mot": 64, "hr": 16, "aud": 16, "ctx": 8}
CONTROLS = ("tempo_scale", "density", "tension", "brightness", "fx_send")
# Widest range a control map may ask for: the tempo within two octaves each way, the others normalised.
CONTROL_BOUNDS = {"tempo_scale": (0.25, 4.0), **dict.fromkeys(CONTROLS[1:], (0.0, 1.0))}
LATENT_BOUND = 1e6
# The largest integer that JavaScript keeps exactly: 285 years of microseconds.
SAFE = 2**53 - 1


def _input_schema(column: Column) -> dict[str, Any]:
    bounds: dict[str, Any] = {"title": column.name, "description": f"{column.doc} [{column.unit}]"}
    bounds |= {"type": ["number", "null"], "minimum": column.lo}
    bounds["exclusiveMaximum" if column.open_hi else "maximum"] = column.hi
    return bounds


_VALUES: dict[str, Any] = {"prefixItems": [_input_schema(c) for c in INPUTS], "items": False}

SensorUs = Annotated[int, Meta(ge=-SAFE, le=SAFE, description="When it was measured, on the sensor's clock [us]")]
ArrivalUs = Annotated[int, Meta(ge=-SAFE, le=SAFE, description="When it arrived, on the host's clock [us]")]
MusicUs = Annotated[int, Meta(ge=-SAFE, le=SAFE, description="Time of the frame, on the music clock [us]")]
Seq = Annotated[int, Meta(ge=0, le=SAFE, description="Counts the packets of a run from 0; a gap is a loss")]
Mask = Annotated[int, Meta(ge=0, le=15, description="One bit a modality: 1 mot, 2 hr, 4 aud, 8 ctx")]
Values = Annotated[
    tuple[float | None, ...],
    Meta(
        min_length=N_INPUTS,
        max_length=N_INPUTS,
        description="The 11 inputs in order, null where missing",
        extra_json_schema=_VALUES,
    ),
]
Latent = Annotated[float, Meta(ge=-LATENT_BOUND, le=LATENT_BOUND)]
Mot = Annotated[tuple[Latent, ...], Meta(min_length=64, max_length=64, description="Latent block of motion [1]")]
Hr = Annotated[tuple[Latent, ...], Meta(min_length=16, max_length=16, description="Latent block of heart rate [1]")]
Aud = Annotated[tuple[Latent, ...], Meta(min_length=16, max_length=16, description="Latent block of the music [1]")]
Ctx = Annotated[tuple[Latent, ...], Meta(min_length=8, max_length=8, description="Latent block of the beat [1]")]
Tempo = Annotated[float, Meta(ge=0.25, le=4.0, description="Factor on the tempo, 1 leaves it as it is [1]")]
Density = Annotated[float, Meta(ge=0.0, le=1.0, description="How much happens [1]")]
Tension = Annotated[float, Meta(ge=0.0, le=1.0, description="How tense it is [1]")]
Brightness = Annotated[float, Meta(ge=0.0, le=1.0, description="How bright it sounds [1]")]
FxSend = Annotated[float, Meta(ge=0.0, le=1.0, description="How much goes to the effects [1]")]
Held = Annotated[bool, Meta(description="The values repeat the last valid ones because the model gave none")]


class SensorPacket(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One frame of the 11 model inputs, as a source delivered it."""

    t_us: SensorUs
    t_arrival_us: ArrivalUs
    values: Values
    mask: Mask


class LatentPacket(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One frame of the four latent blocks."""

    t_us: MusicUs
    mot: Mot
    hr: Hr
    aud: Aud
    ctx: Ctx


class ControlPacket(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One frame of the five controls, as the instrument receives them."""

    t_us: MusicUs
    seq: Seq
    tempo_scale: Tempo
    density: Density
    tension: Tension
    brightness: Brightness
    fx_send: FxSend
    held: Held


Packet = SensorPacket | LatentPacket | ControlPacket
P = TypeVar("P", SensorPacket, LatentPacket, ControlPacket)
PACKETS: tuple[type[SensorPacket], type[LatentPacket], type[ControlPacket]] = (
    SensorPacket,
    LatentPacket,
    ControlPacket,
)


def _refuse_not_finite(packet: Packet) -> None:
    for name in packet.__struct_fields__:
        value = getattr(packet, name)
        for i, number in enumerate(value if isinstance(value, tuple) else (value,)):
            if isinstance(number, float) and not math.isfinite(number):
                where = f"{name}[{i}]" if isinstance(value, tuple) else name
                raise FormatError(f"{number} is not a finite number", field=where)


def _check_sensor(packet: SensorPacket) -> None:
    """Hold the values against the bounds of the column table, and the mask against the values."""
    found = dict(zip((c.name for c in INPUTS), packet.values, strict=True))
    for i, column in enumerate(INPUTS):
        value, lo, hi = packet.values[i], column.lo, column.hi
        if value is None or lo is None or hi is None:
            continue
        if value < lo or value > hi or (column.open_hi and value == hi):
            edge = "below" if column.open_hi else "to"
            raise FormatError(f"{value:g} is outside {lo:g} {edge} {hi:g}", field=f"values[{i}] {column.name}")
    for modality, bit in MASK_BITS.items():
        missing = [name for name in ESSENTIAL[modality] if found[name] is None]
        if packet.mask & bit and missing:
            raise FormatError(f"the bit of {modality} is 1 but {missing[0]} is missing", field="mask")


def check(packet: Packet) -> None:
    """Hold a packet that was built in code against its contract.

    Raises:
        FormatError: naming the field that is not finite, out of bounds or of the wrong length.
    """
    _refuse_not_finite(packet)
    try:
        msgspec.convert(msgspec.to_builtins(packet), type(packet))
    except msgspec.ValidationError as e:
        raise _as_format_error(e) from None
    if isinstance(packet, SensorPacket):
        _check_sensor(packet)


def _as_format_error(error: Exception) -> FormatError:
    text = str(error)
    message, _, where = text.partition(" - at `$")
    field = where.rstrip("`").lstrip(".")
    if " field `" in message:
        # msgspec names an unknown or missing key in the sentence only.
        field = ".".join(filter(None, (field, message.split("`")[1])))
    return FormatError(message, field=field or None)


def to_dict(packet: Packet) -> dict[str, Any]:
    """Plain numbers, lists and null, ready for JSON.

    Raises:
        FormatError: as `check`; a packet that breaks its contract is never sent.
    """
    check(packet)
    return {n: list(v) if isinstance(v := getattr(packet, n), tuple) else v for n in packet.__struct_fields__}


def from_dict(kind: type[P], data: object) -> P:
    """Read a packet from parsed JSON, strictly: no unknown key, no text for a number, no missing field.

    Raises:
        FormatError: naming the field.
    """
    if not isinstance(data, dict):
        raise FormatError(f"a {kind.__name__} is an object, not {type(data).__name__}")
    try:
        packet = msgspec.convert(data, kind)
    except msgspec.ValidationError as e:
        raise _as_format_error(e) from None
    _refuse_not_finite(packet)
    if isinstance(packet, SensorPacket):
        _check_sensor(packet)
    return packet


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12), one definition a packet; what a mask bit asks of the values it cannot say."""
    _, definitions = msgspec.json.schema_components(PACKETS)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "choreo packets",
        "$defs": definitions,
    }


def _ts_type(schema: dict[str, Any]) -> str:
    if "prefixItems" in schema:
        entries = ",\n".join(f"    {item['title']}: number | null" for item in schema["prefixItems"])
        return f"[\n{entries},\n  ]"
    if schema["type"] == "array":
        return "number[]"
    return {"integer": "number", "number": "number", "boolean": "boolean"}[schema["type"]]


def _ts_doc(schema: dict[str, Any]) -> str:
    bounds = ""
    if "minItems" in schema and "prefixItems" not in schema:
        bounds = f", {schema['minItems']} numbers"
    elif "minimum" in schema and abs(schema["minimum"]) != SAFE and schema["maximum"] != SAFE:
        bounds = f", {schema['minimum']:g} to {schema['maximum']:g}"
    return f"{schema.get('description', '')}{bounds}."


def _ts_union(names: Iterable[str]) -> str:
    return "".join(f'\n  | "{name}"' for name in names)


def typescript() -> str:
    """TypeScript interfaces of the packets, made from `json_schema`; the content of `examples/web/packets.d.ts`."""
    blocks = [
        "// Packets of choreo's live loop. Made by formats/packets.py from its JSON Schema; a test compares them.\n"
        "// Every time is an integer number of microseconds; a missing value is null, never 0.\n"
    ]
    for name, definition in json_schema()["$defs"].items():
        lines = [f"/** {definition['description']} */", f"export interface {name} {{"]
        for field, schema in definition["properties"].items():
            lines += [f"  /** {_ts_doc(schema)} */", f"  {field}: {_ts_type(schema)};"]
        blocks.append("\n".join([*lines, "}\n"]))
    units = [f" *  {i}. `{c.name}` [{c.unit}] {c.lo:g} to {c.hi:g}: {c.doc}" for i, c in enumerate(INPUTS)]
    blocks.append("\n".join(["/**", " * The 11 inputs of SensorPacket.values:", *units, " */"]))
    blocks[-1] += f"\nexport type InputName ={_ts_union(c.name for c in INPUTS)};\n"
    doc = "/** The controls, in this order everywhere. */"
    blocks.append(f"{doc}\nexport type ControlName ={_ts_union(CONTROLS)};\n")
    return "\n".join(blocks)
