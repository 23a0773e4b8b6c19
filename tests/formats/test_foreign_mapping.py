"""Maps: a guess from content reads back the same motion; a wrong map names file, line and the nearest key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from formats.errors import FormatError
from formats.foreign.mapping import check_map, load_map, read_with_map
from formats.foreign.mapping_suggest import dump_map, suggest_map
from formats.foreign.source import Source

WORDS = {
    "Becken": "pelvis", "HueftL": "l_hip", "HueftR": "r_hip", "KnieL": "l_knee", "KnieR": "r_knee", "FussL": "l_ankle",
    "FussR": "r_ankle", "Kopf": "head", "Hand.L": "l_wrist",
}  # fmt: skip
REST = np.array(
    [
        [0, 0.95, 0],
        [0.1, 0.9, 0],
        [-0.1, 0.9, 0],
        [0.1, 0.5, 0],
        [-0.1, 0.5, 0],
        [0.1, 0.1, 0],
        [-0.1, 0.1, 0],
        [0, 1.6, 0],
        [0.7, 1.3, 0],
    ]
)
POSES = np.round(REST + np.cumsum(np.random.default_rng(2).normal(scale=0.01, size=(30, 1, 3)), axis=0), 4)
T0 = 1_700_000_000_500
STAMPS = [T0 + 40 * i for i in range(30)]


def shapes() -> dict[str, tuple[str, str]]:
    names = list(WORDS)

    def rows(make: Any) -> list[dict[str, Any]]:
        return [{"wann": {"ms": t}, "koerper": make(p)} for t, p in zip(STAMPS, POSES, strict=True)]

    odd = rows(lambda p: {n: {"px": q[0], "py": q[1], "pz": q[2]} for n, q in zip(names, p.tolist(), strict=True)})
    arrays = rows(lambda p: dict(zip(names, p.tolist(), strict=True)))
    listed = rows(
        lambda p: [
            {"wer": n, "ort_x": q[0], "ort_y": q[1], "ort_z": q[2], "conf": 0.5}
            for n, q in zip(names, p.tolist(), strict=True)
        ]
    )
    flat = [
        {
            "wann": t,
            **{f"{n}|{a}": v for n, q in zip(names, p.tolist(), strict=True) for a, v in zip("XYZ", q, strict=True)},
        }
        for t, p in zip(STAMPS, POSES, strict=True)
    ]
    head = ";".join(["Zeit_ms", *(f"{n} P{a}" for n in names for a in "XYZ")])
    table = "\n".join([head, *(";".join([str(t), *map(str, p.ravel())]) for t, p in zip(STAMPS, POSES, strict=True))])
    return {
        "dict of odd axes": ("a.json", json.dumps({"kopf": {"wer": "ich"}, "aufnahme": {"zeilen": odd}})),
        "dict of arrays": ("a.json", json.dumps({"zeilen": arrays})),
        "list": ("a.json", json.dumps(listed)),
        "lines": ("a.jsonl", "\n".join(json.dumps(r) for r in odd)),
        "flat keys": ("a.json", json.dumps({"x": {"y.z": flat}})),
        "table": ("a.csv", table + "\n"),
    }  # fmt: skip


@pytest.mark.parametrize("name", shapes())
def test_suggest_write_load_read(tmp_path: Path, name: str) -> None:
    file, text = shapes()[name]
    path, map_path = tmp_path / file, tmp_path / "map.yaml"
    path.write_text(text)
    guess = suggest_map(Source.of(path))
    assert any("Becken" in line for line in guess["unknown"])
    written = dump_map(guess)
    assert "#   joints.map: Becken" in written
    map_path.write_text(written)
    mapping = load_map(map_path)
    assert mapping == {k: v for k, v in guess.items() if k != "unknown"}
    mapping["joints"]["map"] = WORDS
    stream = read_with_map(Source.of(path), mapping)
    assert stream.joints == tuple(WORDS.values()) and stream.up == "+y" and stream.units == "m"
    np.testing.assert_allclose(stream.xyz, POSES, atol=1e-6)
    assert stream.clock.t0_utc_us == T0 * 1000 and stream.rate == (25, 1)


GOOD = """format: json
frames: a.b
time: {key: t, unit: s, fps: null}
joints:
  layout: dict
  key: j
  axes: [x, y, z]
  map:
    Kopf: head
"""


@pytest.mark.parametrize("old, new, row, words", [
    ("layout:", "layuot:", 5, "did you mean 'layout'"), ("format: json", "format: xml", 1, "'xml' is none of json, jsonl, csv"),
    ("Kopf: head", "Kopf: haed", 9, "did you mean 'head'"), ("frames: a.b", "frmes: a.b", 2, "did you mean 'frames'"),
    ("axes: [x, y, z]", "axes: x", 7, "must be list"), ("unit: s", "unit: h", 3, "is none of"), ("axes: [x, y, z]", "axes: [x]", 7, "two or three axes"),
    ("fps: null", "fps: 0", 3, "fps must lie in"), ("  key: j\n", "  key: j\n  key: k\n", 7, "given twice"), ("layout: dict", "layout: [", None, "not YAML"),
    ("fps: null", "fps: true", 3, "must be int or float or empty"),
])  # fmt: skip
def test_a_wrong_map_names_its_line(tmp_path: Path, old: str, new: str, row: int | None, words: str) -> None:
    path = tmp_path / "map.yaml"
    path.write_text(GOOD)
    assert load_map(path)["frames"] == "a.b"
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(FormatError) as e:
        load_map(path)
    assert words in str(e.value) and str(path) in str(e.value) and "\n" not in str(e.value)
    assert row is None or e.value.row == row


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "a: b",
        "!!python/object/apply:os.system ['x']",
        "x: &a [*a]",
        "- " * 5000,
        "{" * 3000,
        "\x00",
        "format: json",
    ],
)
def test_no_map_is_an_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "map.yaml"
    path.write_text(text)
    with pytest.raises(FormatError):
        load_map(path)


def mapped(**joints: Any) -> dict[str, Any]:
    return check_map({
        "format": "json", "frames": "f", "time": {"key": "t"},
        "joints": {"layout": "dict", "key": "j", "axes": ["x", "y"], "units": "px", "up": "-y", **joints},
    })  # fmt: skip


@pytest.mark.parametrize("document, words", [
    ({}, "no list at f"), ({"f": [1, 2]}, "no joints at j"), ({"f": [{"j": {"a": {"x": 1, "y": 2}}}]}, "no time at t"), ({"f": []}, "no joints"),
])  # fmt: skip
def test_a_file_that_does_not_fit_its_map_says_where(tmp_path: Path, document: Any, words: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(document))
    with pytest.raises(FormatError) as e:
        read_with_map(Source.of(path), mapped())
    assert words in str(e.value) and e.value.file == str(path)


def test_stated_units_and_numbered_frames(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"f": [{"t": i, "j": {"k": {"x": i, "y": 2}}} for i in range(5)]}))
    mapping = mapped(map={"k": "head"})
    mapping["time"] = {"key": "t", "unit": "frame", "fps": 50}
    stream = read_with_map(Source.of(path), mapping)
    assert (stream.units, stream.joints, stream.rate, stream.rate_source) == ("px", ("head",), (50, 1), "user")
    assert stream.t_us.tolist() == [0, 20_000, 40_000, 60_000, 80_000]


def test_flat_numbers_with_names(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"f": [{"t": i / 10, "j": [1, 2, 0.5, 3, 4, 0.6]} for i in range(5)]}))
    stream = read_with_map(Source.of(path), mapped(layout="flat", names=["head", "neck"], axes=[0, 1], confidence=2))
    assert stream.xyz[0].tolist() == [[1, 2], [3, 4]] and stream.confidence is not None
    assert np.allclose(stream.confidence[0], [0.5, 0.6])


def test_nothing_like_joints_is_an_error(tmp_path: Path) -> None:
    for name, text in (
        ("a.json", '{"tracks": [{"title": "x"}]}'),
        ("a.csv", "a,b\n1,2\n"),
        ("b.json", "[1,2"),
        ("c.json", ""),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(FormatError):
            suggest_map(Source.of(tmp_path / name))
