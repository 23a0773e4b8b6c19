"""Core ML packages judged by the reference executor, palettes, and Swift written from what the packages take."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from export_small import SMALL, written

from choreo_cli.errors import DataError
from choreo_cli.generate import export_build as build
from choreo_cli.generate import export_proof as proof
from choreo_cli.generate.config import TINY, Shape
from choreo_cli.generate.export_graph import pack
from choreo_cli.generate.export_palette import GROUP, palette, taken
from choreo_cli.generate.model_files import torch_forward
from commands.export import export
from formats import export_card

pytest.importorskip("torch")


@pytest.fixture(scope="module")
def coreml() -> Any:
    pytest.importorskip("coremltools")
    from choreo_cli.generate import export_coreml

    return export_coreml


def test_palettes_are_near_and_few() -> None:
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((48, 64)).astype(np.float32)
    for grouped, groups in ((True, 48 // GROUP), (False, 1)):
        found = palette(weight, grouped=grouped)
        assert found.groups == groups and found.indices.max() < 64 and found.values.shape == (groups, 64)
        error = np.abs(found.weight().astype(np.float32) - weight)
        # Every value has gone to the nearest entry of its own palette.
        own = np.repeat(found.values, 48 // groups, 0).astype(np.float32)
        assert np.allclose(error, np.abs(own[:, None] - weight[..., None]).min(-1), atol=1e-3)
        assert np.sqrt((error**2).mean()) < 0.03
    assert palette(weight[:25], grouped=True).groups == 1  # rows that do not divide share one palette
    few = rng.choice(np.float32([-1, 0.5, 2]), (16, 128))
    assert np.array_equal(palette(few, grouped=False).weight().astype(np.float32), few)
    again = palette(weight, grouped=True)
    assert np.array_equal(again.indices, palette(weight, grouped=True).indices)
    assert again.bits == 6 and palette(weight, grouped=False, bits=8).bits == 8
    assert not taken(np.zeros((16, 16))) and taken(np.zeros((64, 64)))


@pytest.mark.parametrize("target", ["iOS18", "iOS16"])
def test_a_small_package_means_what_torch_means(coreml: Any, tmp_path: Path, target: str) -> None:
    from choreo_cli.generate import coreml_reference as reference

    model = written(tmp_path / "model")
    forward, packed = torch_forward(model.network()), pack(SMALL, model.checkpoint.arrays)
    palettes = coreml.palettes(packed, target)
    assert {p.bits for p in palettes.values()} == {6}
    assert all(p.groups == 1 for p in palettes.values()) == (target == "iOS16")
    step = proof.step_cases(SMALL, forward)
    file = tmp_path / "step.mlpackage"
    used = coreml.write_package(file, packed, None, target, palettes)
    program = reference.load(file)
    assert set(coreml.check_program(program, "step", used)) <= coreml.ALLOWED
    for half in (False, True):
        proof.prove(reference.Reference(program, half=half), step, "reference", "step", allowed=0.06, measure="rms")
    if target == "iOS16":
        return
    # What the palettes mean is exactly what the file holds: the program with the decoded weights, in float32.
    packed.arrays.update({f"{n}.weight": p.weight().astype(np.float32) for n, p in palettes.items()})  # type: ignore[attr-defined]
    again = tmp_path / "again.mlpackage"
    coreml.write_package(again, packed, None, target, {})
    one, two = (reference.Reference(reference.load(f), half=False)(step[1].inputs) for f in (file, again))
    assert np.abs(one - two).max() <= 1e-5


def test_the_command_writes_packages_judged_by_the_reference_executor(
    coreml: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    written(tmp_path / "model", head=0.3)
    out = tmp_path / "coreml"
    monkeypatch.setattr(build, "PALETTE_SHARE", 2.0)  # a network this small is mostly names
    with monkeypatch.context() as patch:
        patch.setitem(build.ALLOWED, "palette6", (1e-5, 1e-5))
        with pytest.raises(DataError, match="step palette6, GEN, by reference-executor f32: rms"):
            export("coreml", tmp_path / "model", out=out, quiet=True, steps="2")
    assert [p.name for p in tmp_path.iterdir()] == ["model"]
    assert export("coreml", tmp_path / "model", out=out, quiet=True, steps="2") == 0
    card = export_card.read(out)
    assert card.status == "verified: reference-executor (linux)" and "not Core ML" in card.limits[0]
    assert {(g.name, g.precision) for g in card.graphs} == {
        (n, p) for n in ("step", "sampler2") for p in ("float16", "palette6")
    }
    assert {p.by for g in card.graphs for p in g.proofs} == {"reference-executor f32", "reference-executor f16"}
    assert export("swift", out, out=tmp_path / "swift", quiet=True) == 0
    assert export_card.read(tmp_path / "swift").weights == card.weights


def test_a_program_that_breaks_a_rule_is_refused(coreml: Any, tmp_path: Path) -> None:
    from choreo_cli.generate import coreml_reference as reference

    model = written(tmp_path / "model")
    packed = pack(SMALL, model.checkpoint.arrays)
    file = tmp_path / "step.mlpackage"
    used = coreml.write_package(file, packed, None, "iOS18", {})
    program = reference.load(file)
    assert used == []
    with pytest.raises(DataError, match="'block0_up' was left out of the palettes"):
        coreml.check_program(program, "step", ["block0_up"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(coreml, "ALLOWED", coreml.ALLOWED - {"gelu"})
        with pytest.raises(DataError, match="operation 'gelu' is not on the list"):
            coreml.check_program(program, "step", [])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(coreml, "MOST_AXES", 3)
        with pytest.raises(DataError, match="has 4 axes, at most 3 are allowed"):
            coreml.check_program(program, "step", [])
    with pytest.MonkeyPatch.context() as patch:
        patch.delitem(reference.OPERATIONS, "gelu")
        with pytest.raises(DataError, match="does not know 'gelu'"):
            reference.Reference(program, half=False)
    with pytest.raises(DataError, match=r"with palettes 46\.0% of the float16 package, at most 45% is allowed"):
        build.need_share("step", 0.46)


def swift(folder: Path) -> dict[str, str]:
    return {p.name: p.read_text() for p in sorted(folder.glob("*.swift"))}


def test_swift_parses_and_asks_for_every_input(tmp_path: Path) -> None:
    pytest.importorskip("tree_sitter_swift")
    from choreo_cli.generate.swift import parse

    model = written(tmp_path / "model")
    assert export("swift", tmp_path / "model", out=tmp_path / "swift", quiet=True) == 0
    files = swift(tmp_path / "swift")
    assert list(files) == ["Bench.swift", "OnDeviceMotionGen.swift"]
    assert all(
        "parsed, not compiled" in text and "$" not in text.replace("$0", "").replace("$1", "")
        for text in files.values()
    )
    assert export_card.read(tmp_path / "swift").status == "parsed, not compiled"
    text = files["OnDeviceMotionGen.swift"]
    table = text.split("public static let inputs")[1].split("    ]\n}")[0]
    for steps in (1, 2, 4):
        part = table.split(f'"sampler{steps}": [')[1].split('],\n        "')[0]
        asked = {
            n: [int(k) for k in s.split(", ")]
            for n, s in re.findall(r'\("(\w+)", \[([\d, ]+)\]\)', part.split("        ],")[0])
        }
        assert asked == proof.way_of(model, steps).inputs(SMALL, 1)
    fed = set(re.findall(r'case "(\w+)":\n', text))
    assert fed == set(proof.way_of(model, 4).inputs(SMALL)) and "case predict = 4" in text
    with pytest.raises(DataError, match=r"Bench.swift: no Swift in line \d+"):
        parse({"Bench.swift": files["Bench.swift"].replace("func latency(", "func (")})
    with pytest.raises(DataError, match="no Swift in line"):
        parse({"OnDeviceMotionGen.swift": text[: len(text) // 2]})


def test_the_stopwatch_writes_what_the_bench_reads(tmp_path: Path) -> None:
    """The keys that Bench.swift encodes are those of the schema, no more and no fewer."""
    from choreo_cli.generate.swift_bench import BENCH
    from formats import device_bench

    for name, kind in (("Device", device_bench.Device), ("Latency", device_bench.Latency)):
        body = BENCH.split(f"private struct {name}: Encodable {{")[1].split("}")[0]
        assert re.findall(r"let (\w+):", body) == list(kind.__struct_fields__)
    body = BENCH.split("private struct Document: Encodable {")[1].split("}")[0]
    assert re.findall(r"let (\w+):", body) == list(device_bench.DeviceBench.__struct_fields__)
    units = re.findall(r'\("(\w+)", \.(\w+)\)', BENCH)
    assert [a for a, _ in units] == [b for _, b in units] == ["all", "cpuOnly", "cpuAndGPU", "cpuAndNeuralEngine"]


@pytest.mark.slow
def test_a_whole_export_of_tiny_and_swift_made_from_it(coreml: Any, tmp_path: Path) -> None:
    import coremltools as ct

    written(tmp_path / "model", Shape(blocks=TINY.blocks, width=TINY.width, heads=TINY.heads), head=0.3)
    assert export("coreml", tmp_path / "model", out=tmp_path / "coreml", quiet=True) == 0
    card = export_card.read(tmp_path / "coreml")
    assert card.status == "verified: reference-executor (linux)" and card.target == "iOS18" and card.limits
    assert len(card.graphs) == 8
    for g in card.graphs:
        spec = ct.utils.load_spec(str(tmp_path / "coreml" / g.path))
        found = {i.name: list(i.type.multiArrayType.shape) for i in spec.description.input}
        assert found == g.inputs, g.name
        if g.precision == "palette6":
            assert g.facts["share_of_float16"] <= 0.45 and g.facts["palettes"]["modulate"] == {"bits": 6, "groups": 208}
    assert export("swift", tmp_path / "coreml", out=tmp_path / "a", quiet=True) == 0
    assert export("swift", tmp_path / "model", out=tmp_path / "b", quiet=True) == 0
    assert swift(tmp_path / "a") == swift(tmp_path / "b")
    assert export("coreml", tmp_path / "model", out=tmp_path / "again", quiet=True) == 0
    assert export_card.read(tmp_path / "again").files == card.files
