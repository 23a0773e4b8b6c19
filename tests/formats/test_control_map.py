"""The control map: the example is the default, and every fault names file, line and nearest key."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import msgspec
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from formats import control_map
from formats.control_map import DEFAULT, Clamp, Control, ControlMap, Ease, dump, json_schema, load, loads, to_dict
from formats.errors import FormatError
from formats.packets import CONTROL_BOUNDS, CONTROLS

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "control_map.yaml"
TEXT = EXAMPLE.read_text(encoding="utf-8")


def test_the_example_is_the_default() -> None:
    assert load(EXAMPLE) == DEFAULT
    assert [c.cc for c in DEFAULT.controls] == [20, 21, 22, 23, 24]
    assert (DEFAULT.tempo_scale.min, DEFAULT.tempo_scale.max, DEFAULT.tempo_scale.neutral) == (0.8, 1.25, 1.0)
    assert all((c.min, c.max) == (0.0, 1.0) for c in DEFAULT.controls[1:])
    assert 20 <= DEFAULT.throttle_ms <= 50
    assert ControlMap.__struct_fields__[2:] == CONTROLS
    with pytest.raises(AttributeError):
        DEFAULT.throttle_ms = 30  # type: ignore[misc]


@st.composite
def maps(draw: st.DrawFn) -> ControlMap:
    controls = {}
    codes = draw(st.lists(st.integers(0, 119), min_size=5, max_size=5, unique=True))
    for name, cc in zip(CONTROLS, codes, strict=True):
        lo, hi = CONTROL_BOUNDS[name]
        a, n, b = sorted(draw(st.lists(st.floats(lo, hi), min_size=3, max_size=3, unique=True)))
        ease = Ease(draw(st.sampled_from(["none", "linear", "exp", "scurve"])), draw(st.floats(0, 5000)))
        controls[name] = Control(a, b, n, ease, cc, draw(st.floats(1e-3, 1000)))
    clamp = Clamp(
        draw(st.sampled_from(["clamp", "hold"])), draw(st.sampled_from(["hold", "neutral"])), draw(st.floats(0, 60))
    )
    return ControlMap(throttle_ms=draw(st.integers(20, 50)), clamp=clamp, **controls)


@settings(max_examples=40, deadline=None)
@given(maps())
def test_dump_and_load_are_inverse(found: ControlMap) -> None:
    assert loads(dump(found)) == found
    jsonschema.Draft202012Validator(json_schema()).validate(json.loads(json.dumps(to_dict(found))))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("neutral: 1.0", "neutrl: 1.0", "unknown key 'neutrl' (did you mean: neutral?)"),
        ("density:", "densty:", "unknown key 'densty' (did you mean: density?)"),
        (
            "throttle_ms: 20",
            "zzz: 20",
            "unknown key 'zzz' (known: throttle_ms, clamp, tempo_scale, density, tension, brightness, fx_send)",
        ),
        ("max: 1.25", "max: 5.0", "tempo_scale.max 5 is outside 0.25 to 4"),
        ("max: 1.25", "max: 0.5", "tempo_scale.max 0.5 is not above min 0.8"),
        ("neutral: 1.0", "neutral: 1.3", "tempo_scale.neutral 1.3 is not within min..max"),
        ("cc: 21", "cc: 20", "density.cc 20 is already that of tempo_scale"),
        ("cc: 21", "cc: 120", "density.cc: Expected `int` <= 119"),
        ("throttle_ms: 20", "throttle_ms: 51", "throttle_ms: Expected `int` <= 50"),
        ("throttle_ms: 20", "throttle_ms: 20.5", "throttle_ms: Expected `int`, got `float`"),
        ("kind: exp", "kind: bounce", "tempo_scale.ease.kind: not one of none, linear, exp, scurve"),
        ("ms: 200.0", "ms: .nan", "tempo_scale.ease.ms: .nan is not a finite number"),
        ("ms: 200.0", "ms: 1e400", "tempo_scale.ease.ms: 1e400 is not a finite number"),
        ("rate_per_s: 0.5", "rate_per_s: 0", "tempo_scale.rate_per_s: Expected `float` > 0.0"),
        ("cc: 22", "cc: [1, 2]", "tension.cc is a list, not a value"),
        ("cc: 22", "cc: {a: 1}", "tension.cc is a value, not a block"),
        ("cc: 22", "cc: 0x16", "tension.cc: '0x16' is not a decimal number"),
        ("cc: 22", "cc: 'x'", "tension.cc: Expected `int`, got `str`"),
        ("cc: 22", "cc: yes", "tension.cc: 'yes' is neither a number nor a word"),
        ("cc: 22", "cc:", "tension.cc: '' is neither a number nor a word"),
        ("cc: 22", "cc: 22\n  cc: 22", "key 'cc' a second time"),
        ("cc: 22", "cc: &a 22", "anchors and aliases are refused: write the values out"),
        ("cc: 22", "cc: *a", "anchors and aliases are refused: write the values out"),
        ("cc: 22", "cc: !!python/object/apply:os.system [x]", "tags and directives are refused"),
    ],
)
def test_faults_name_file_line_and_what_to_do(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = TEXT.replace(old, new, 1)
    line = TEXT[: TEXT.index(old)].count("\n") + 1 + new.count("\n")
    path = tmp_path / "m.yaml"
    path.write_text(text)
    with pytest.raises(FormatError) as e:
        load(path)
    assert str(e.value) == f"{path}:{line}: {message}"


def test_an_exponent_without_a_point_is_a_number() -> None:
    assert loads(TEXT.replace("rate_per_s: 0.5", "rate_per_s: 5e-1")) == DEFAULT


def test_what_is_missing_is_named_at_its_block() -> None:
    with pytest.raises(FormatError) as e:
        loads(TEXT.replace("  cc: 22\n", ""), "m.yaml")
    assert str(e.value) == f"m.yaml:{TEXT[: TEXT.index('tension:')].count(chr(10)) + 1}: tension.cc is missing"
    with pytest.raises(FormatError, match=r"m.yaml:1: empty"):
        loads("# nothing\n", "m.yaml")
    with pytest.raises(FormatError, match=r"m\.yaml:\d+: fx_send is missing"):
        loads(TEXT[: TEXT.index("fx_send:")], "m.yaml")


@pytest.mark.parametrize(
    "text",
    ["a: &a [x]\nb: [*a, *a]", "{" * 5000, "[" * 5000, "- " * 5000, "? " * 3000, "a: b: c", "\t", "%YAML 1.1\n---\n", "---\na: 1\n---\n", "x" * 60_000,
     "a: !!binary x", "<<: {a: 1}", "throttle_ms: 1_000", "throttle_ms: 0b11", "throttle_ms: 1:30", "\x00", "\ud800", "clamp: 3", "1", "[]",
     "\n".join(f"k{i}: {i}" for i in range(3000))],
)  # fmt: skip
def test_hostile_yaml_is_one_line_of_ours(text: str) -> None:
    with pytest.raises(FormatError) as e:
        loads(text, "m.yaml")
    assert str(e.value).startswith("m.yaml:") and "\n" not in str(e.value)


def test_every_prefix_and_many_flips_are_survived() -> None:
    # Cut inside the last number it is still a map, with another number.
    for n in range(0, TEXT.rindex("rate_per_s"), 23):
        with pytest.raises(FormatError):
            loads(TEXT[:n])
    for i in range(0, len(TEXT), 11):
        try:
            assert isinstance(loads(TEXT[:i] + chr(ord(TEXT[i]) ^ 4) + TEXT[i + 1 :]), ControlMap)
        except FormatError as e:
            assert "\n" not in str(e)


def test_a_file_too_large_for_a_map_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "big.yaml"
    path.write_text("# x\n" * control_map.MAX_BYTES)
    with pytest.raises(FormatError, match="more than"):
        load(path)


def test_schema_is_valid_and_strict() -> None:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    valid = jsonschema.Draft202012Validator(schema)
    data = yaml.safe_load(TEXT)
    assert valid.is_valid(data) and data == msgspec.to_builtins(DEFAULT)
    assert not valid.is_valid({**data, "extra": 1}) and not valid.is_valid({**data, "throttle_ms": 60})
