"""Packets: strict in, strict out, and one table behind Python, JSON Schema and TypeScript."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from formats import packets
from formats.columns import INPUTS, MODALITIES
from formats.errors import FormatError
from formats.packets import ControlPacket, LatentPacket, Packet, SensorPacket, from_dict, to_dict

TOP = Path(__file__).resolve().parents[2]
TIMES = st.integers(-(2**53) + 1, 2**53 - 1)
UNIT = st.floats(0, 1)


def one_input(i: int) -> st.SearchStrategy[float]:
    column = INPUTS[i]
    assert column.lo is not None and column.hi is not None
    return st.floats(column.lo, column.hi, exclude_max=column.open_hi)


@st.composite
def sensors(draw: st.DrawFn) -> SensorPacket:
    mask = draw(st.integers(0, 15))
    needed = {n for m, names in packets.ESSENTIAL.items() if mask & packets.MASK_BITS[m] for n in names}
    values = [draw(one_input(i) if c.name in needed else st.none() | one_input(i)) for i, c in enumerate(INPUTS)]
    return SensorPacket(draw(TIMES), draw(TIMES), tuple(values), mask)


def latents() -> st.SearchStrategy[LatentPacket]:
    blocks = [st.lists(st.floats(-6, 6), min_size=n, max_size=n).map(tuple) for n in packets.LATENT_DIMS.values()]
    return st.builds(LatentPacket, TIMES, *blocks)


def controls() -> st.SearchStrategy[ControlPacket]:
    return st.builds(
        ControlPacket, TIMES, st.integers(0, 2**53 - 1), st.floats(0.25, 4), UNIT, UNIT, UNIT, UNIT, st.booleans()
    )


@given(sensors() | latents() | controls())
def test_round_trip_through_json(packet: Packet) -> None:
    data = to_dict(packet)
    text = json.dumps(data, allow_nan=False)
    assert from_dict(type(packet), json.loads(text)) == packet  # type: ignore[type-var]
    schema = packets.json_schema()
    jsonschema.Draft202012Validator({**schema, "$ref": f"#/$defs/{type(packet).__name__}"}).validate(json.loads(text))


GOOD: dict[type, dict[str, Any]] = {
    SensorPacket: {"t_us": 1, "t_arrival_us": 2, "values": [0.5] * 6 + [70, 0.0, 0.5, 0.5, 0.25], "mask": 15},
    LatentPacket: {"t_us": 1, "mot": [0.0] * 64, "hr": [0.0] * 16, "aud": [0.0] * 16, "ctx": [0.0] * 8},
    ControlPacket: {"t_us": 1, "seq": 0, "tempo_scale": 1, "density": 0.5, "tension": 0.5, "brightness": 0.5, "fx_send": 0, "held": False},
}  # fmt: skip


def places(data: dict[str, Any]) -> list[tuple[str, int | None]]:
    return [(k, None) for k in data] + [(k, i) for k, v in data.items() if isinstance(v, list) for i in (0, len(v) - 1)]


@pytest.mark.parametrize("kind", list(GOOD))
def test_anything_else_is_refused_naming_the_field(kind: type) -> None:
    good = GOOD[kind]
    from_dict(kind, good)
    strangers: list[Any] = [
        float("nan"),
        float("inf"),
        -float("inf"),
        "1",
        True,
        {},
        [],
        10**400,
        -(10**19),
        1e300,
        b"x",
    ]
    schema = jsonschema.Draft202012Validator({**packets.json_schema(), "$ref": f"#/$defs/{kind.__name__}"})
    for key, i in places(good):
        for value in strangers:
            if isinstance(good[key], bool) and value is True:
                continue
            data = dict(good)
            data[key] = value if i is None else [*good[key][:i], value, *good[key][i + 1 :]]
            with pytest.raises(FormatError) as e:
                from_dict(kind, data)
            assert e.value.field is not None and e.value.field.startswith(key), (key, value, e.value)
            if not isinstance(value, bytes) and value == value:
                assert not schema.is_valid(data), (key, i, value)
    for key, value in good.items():
        with pytest.raises(FormatError, match=key):
            from_dict(kind, {k: v for k, v in good.items() if k != key})
        if isinstance(value, list):
            for wrong in (value[:-1], [*value, value[0]]):
                with pytest.raises(FormatError, match=key):
                    from_dict(kind, {**good, key: wrong})
    with pytest.raises(FormatError, match="extra"):
        from_dict(kind, {**good, "extra": 1})
    for not_a_dict in (None, [], "x", 3):
        with pytest.raises(FormatError):
            from_dict(kind, not_a_dict)


def test_a_mask_bit_needs_its_values() -> None:
    good = GOOD[SensorPacket]
    for modality, names in packets.ESSENTIAL.items():
        for name in names:
            i = [c.name for c in INPUTS].index(name)
            values = [None if k == i else v for k, v in enumerate(good["values"])]
            with pytest.raises(FormatError, match=f"{modality} is 1 but {name}"):
                from_dict(SensorPacket, {**good, "values": values})
            from_dict(SensorPacket, {**good, "values": values, "mask": 15 - packets.MASK_BITS[modality]})
    with pytest.raises(FormatError, match="hip_sway"):
        from_dict(SensorPacket, {**good, "values": [*good["values"][:3], 1.5, *good["values"][4:]]})
    # beat_phase is a cycle: 1 is 0 of the next one.
    with pytest.raises(FormatError, match="beat_phase"):
        from_dict(SensorPacket, {**good, "values": [*good["values"][:10], 1.0]})


def test_a_broken_packet_is_never_sent() -> None:
    for packet in (
        ControlPacket(1, 0, 9.0, 0.5, 0.5, 0.5, 0.5, False),
        ControlPacket(1, 0, 1.0, float("nan"), 0.5, 0.5, 0.5, False),
        LatentPacket(1, (0.0,) * 63, (0.0,) * 16, (0.0,) * 16, (0.0,) * 8),
        SensorPacket(1, 2, (None,) * 11, 1),
    ):
        with pytest.raises(FormatError):
            to_dict(packet)


def test_the_tables_agree() -> None:
    assert list(packets.MASK_BITS) == list(MODALITIES) and list(packets.MASK_BITS.values()) == [1, 2, 4, 8]
    schema = packets.json_schema()["$defs"]
    jsonschema.Draft202012Validator.check_schema(packets.json_schema())
    for name, size in packets.LATENT_DIMS.items():
        block = schema["LatentPacket"]["properties"][name]
        assert (block["minItems"], block["maxItems"]) == (size, size)
    for name, (lo, hi) in packets.CONTROL_BOUNDS.items():
        entry = schema["ControlPacket"]["properties"][name]
        assert (entry["minimum"], entry["maximum"]) == (lo, hi)
    entries = schema["SensorPacket"]["properties"]["values"]["prefixItems"]
    assert [e["title"] for e in entries] == [c.name for c in INPUTS]
    fields = [f for f in ControlPacket.__struct_fields__ if f in packets.CONTROLS]
    assert tuple(fields) == packets.CONTROLS


def test_typescript_is_what_the_generator_makes() -> None:
    file = TOP / "examples" / "web" / "packets.d.ts"
    made = packets.typescript()
    assert file.read_text(encoding="utf-8") == made, (
        "regenerate: formats.packets.typescript() into examples/web/packets.d.ts"
    )
    for kind in GOOD:
        block = made.split(f"export interface {kind.__name__} {{")[1].split("\n}")[0]
        assert [
            line.split(":")[0].strip()
            for line in block.splitlines()
            if line.startswith("  ") and ": " in line and not line.startswith(("   ", "  /"))
        ] == list(kind.__struct_fields__)  # type: ignore[attr-defined]
