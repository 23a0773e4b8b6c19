"""One definition of the network, several formats: plans, ONNX graphs, MLX functions, against the torch network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from export_small import SMALL, written

from choreo_cli.errors import DataError, UnavailableError
from choreo_cli.generate import export_proof as proof
from choreo_cli.generate.config import TINY, Shape
from choreo_cli.generate.diffusion import Ddim
from choreo_cli.generate.export_graph import pack
from choreo_cli.generate.export_plan import plan_of
from choreo_cli.generate.export_sampler import Way
from choreo_cli.generate.flow import Flow
from choreo_cli.generate.guidance import Guidance
from choreo_cli.generate.model_files import torch_forward
from formats.errors import FormatError

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from choreo_cli.generate import export_onnx  # noqa: E402
from choreo_cli.generate.onnx_step import runner  # noqa: E402


def test_the_plan_of_euler_is_the_formula() -> None:
    plan = plan_of(Flow("v"), 2, "euler")
    assert [(s.time, s.way) for s in plan.stages] == [(0.0, 0.0), (0.5, 0.5)]
    assert dict(plan.stages[1].free) == pytest.approx({"noise0": 1.0, "out0": 0.5})
    assert dict(plan.stages[1].held) == pytest.approx({"noise0": 0.5, "known": 0.5})
    assert dict(plan.end) == pytest.approx({"noise0": 1.0, "out0": 0.5, "out1": 0.5}) and plan.draws == 1


@pytest.mark.parametrize("solver", ["euler", "midpoint", "heun2", "heun3", "rk4", "ab2"])
def test_every_solver_is_a_fixed_sum(solver: str) -> None:
    """The plan holds on random numbers (`plan_of` proves it), and its weights carry a constant field exactly."""
    plan = plan_of(Flow("v"), 3, solver)
    assert len(plan.stages) == Flow("v").evaluations(3, solver)
    assert sum(w for k, w in plan.end.items() if k.startswith("out")) == pytest.approx(1.0)


def test_diffusion_that_predicts_data_folds_and_draws_anew_where_it_does() -> None:
    assert plan_of(Ddim("x0"), 4, "euler").draws == 1
    assert plan_of(Ddim("x0", eta=1.0), 4, "euler").draws == 4
    with pytest.raises(DataError, match="no fixed sum of noise and answers"):
        plan_of(Ddim("eps"), 4, "euler")


def test_a_process_that_lets_answers_into_what_is_known_is_refused() -> None:
    class Careless(Flow):
        def run(self, predict: Any, draw: Any, held: Any, steps: int, solver: str) -> Any:
            return super().run(predict, draw, None, steps, solver)

    with pytest.raises(DataError, match="lets the network into what is known"):
        plan_of(Careless("x1"), 2, "euler")


CASES: list[tuple[str, dict[str, Any]]] = [
    ("x1", {}),
    ("v", {"predict": "v"}),
    ("ddim", {"process": "ddim", "predict": "x0"}),
    ("guided", {"guided": True, "recipe": "distilled"}),
    ("sized and baked", {"sized": True, "baked": True, "recipe": "distilled"}),
    ("shifted", {"shift": 2.0}),
    ("deaf", {"shape": Shape(blocks=1, width=32, heads=2, frames=16, audio_width=0)}),
]


@pytest.mark.parametrize(("told"), [c[1] for c in CASES], ids=[c[0] for c in CASES])
def test_onnx_does_all_three_tasks_as_torch_does(tmp_path: Path, told: dict[str, Any]) -> None:
    model = written(tmp_path, **told)
    forward, packed = torch_forward(model.network()), pack(model.shape, model.checkpoint.arrays)
    data = export_onnx.step_model(packed, model.recipe, model.identity)
    assert export_onnx.operations(data) <= export_onnx.ALLOWED
    for batch in (1, 2, 3):
        found = proof.prove(runner(data), proof.step_cases(model.shape, forward, batch), "onnxruntime", "step")
        assert [p.task for p in found] == ["GEN", "INBETWEEN", "PREDICT"] and max(p.max_abs for p in found) <= 1e-5
    for steps in (1, 2, 4):
        way = proof.way_of(model, steps)
        whole = export_onnx.sampler_model(packed, way, model.recipe, model.identity)
        run, cases = runner(whole), proof.sampler_cases(model, forward, way)
        assert max(p.max_abs for p in proof.prove(run, cases, "onnxruntime", "sampler")) <= 1e-5
        for case in cases:
            assert proof.known_error(case, run(case.inputs)) == 0
        # What is compared is worth comparing: the tasks differ, and something is drawn.
        assert np.abs(cases[0].expected - cases[1].expected).max() > 0.1


def test_the_weight_of_the_music_is_an_input_where_it_means_something(tmp_path: Path) -> None:
    model = written(tmp_path / "a")
    assert "w" in proof.way_of(model, 4).inputs(SMALL) and "w" not in proof.way_of(model, 1).inputs(SMALL)
    assert proof.way_of(model, 4).rows(SMALL) == 7
    distilled = written(tmp_path / "b", recipe="distilled", baked=True)
    assert "w" not in proof.way_of(distilled, 4).inputs(SMALL) and proof.way_of(distilled, 4).rows(SMALL) == 4
    told = written(tmp_path / "c", recipe="distilled", guided=True)
    assert "w" in proof.way_of(told, 1).inputs(SMALL)
    packed = pack(model.shape, model.checkpoint.arrays)
    run = runner(export_onnx.sampler_model(packed, proof.way_of(model, 2), "flow", "0" * 64))
    case = proof.sampler_cases(model, torch_forward(model.network()), proof.way_of(model, 2))[0]
    moved = run({**case.inputs, "w": np.array([0.0], np.float32)})
    assert np.abs(moved - case.expected).max() > 1e-3


def test_equal_weights_are_equal_bytes_and_the_file_is_valid(tmp_path: Path) -> None:
    model = written(tmp_path)
    packed = pack(model.shape, model.checkpoint.arrays)
    way = Way(plan_of(Flow(), 4, "euler"), Guidance(2.0))
    first, again = (export_onnx.sampler_model(packed, way, "flow", "0" * 64) for _ in range(2))
    assert first == again
    onnx.checker.check_model(onnx.load_from_string(first), full_check=True)
    assert {i.domain for i in onnx.load_from_string(first).opset_import} == {""}


def test_a_wrong_answer_is_never_let_through(tmp_path: Path) -> None:
    model = written(tmp_path)
    cases = proof.step_cases(SMALL, torch_forward(model.network()))
    for run, said in (
        (lambda i: cases[0].expected + 2e-5, "max_abs 2e-05, at most 1e-05 is allowed"),
        (lambda i: cases[0].expected[:, 1:], "shape"),
        (lambda i: cases[0].expected * np.nan, "not finite"),
    ):
        with pytest.raises(DataError, match=said):
            proof.prove(run, cases[:1], "me", "step")
    way = proof.way_of(model, 2)
    whole = proof.sampler_cases(model, torch_forward(model.network()), way)[2]
    with pytest.raises(DataError, match="known values were changed by 1e-06"):
        proof.prove(lambda i: whole.expected + np.float32(1e-6), [whole], "me", "sampler2")


def test_a_sample_may_be_as_far_as_float32_itself_and_its_contacts_are_counted(tmp_path: Path) -> None:
    model, net = written(tmp_path), written(tmp_path).network()
    exact = torch_forward(written(tmp_path).network().double())
    way = proof.way_of(model, 4)
    case = proof.sampler_cases(model, torch_forward(net), way, exact)[0]
    assert 0 < case.rounding < 1e-4 and case.halves is not None
    told = proof.prove(lambda i: case.expected, [case], "me", "sampler4")[0]
    assert told.rounding == case.rounding and told.allowed == max(1e-5, 4 * case.rounding) and told.contacts is None
    rough = replace(case, rounding=1e-3)
    assert proof.prove(lambda i: rough.expected + np.float32(3e-3), [rough], "me", "sampler4")[0].allowed == 4e-3
    with pytest.raises(DataError, match=r"max_abs 0\.005, at most 0\.004 is allowed"):
        proof.prove(lambda i: rough.expected + np.float32(5e-3), [rough], "me", "sampler4")
    plain = proof.sampler_cases(model, torch_forward(net), way)[0]
    assert plain.rounding == 0 and plain.halves == case.halves
    mean, std = model.stats.mean[4:6], model.stats.std[4:6]
    flipped = case.expected.copy()
    flipped[..., 4:6] = 2 * (0.5 - mean) / std - flipped[..., 4:6]  # the other side of one half, pose as it is
    with pytest.raises(DataError, match="0% of the contacts agree, 90% must"):
        proof.prove(lambda i: flipped, [case], "me", "sampler4", allowed=0.01, measure="rms")
    same = proof.prove(lambda i: case.expected, [case], "me", "sampler4", allowed=0.01, measure="rms")[0]
    assert same.contacts == 1 and same.rounding is None


def test_mlx_reads_the_torch_weights_strictly_and_says_the_same(tmp_path: Path) -> None:
    pytest.importorskip("mlx.core")
    from choreo_cli.generate import export_mlx
    from choreo_cli.generate.mlx_net import load, mlx_forward

    model = written(tmp_path)
    forward, packed = torch_forward(model.network()), pack(SMALL, model.checkpoint.arrays)
    native = mlx_forward(model)
    names = list(proof.step_cases(SMALL, forward)[0].inputs)
    proof.prove(lambda i: native(*(i[n] for n in names)), proof.step_cases(SMALL, forward, 2), "mlx", "network")
    export_mlx.write_step(tmp_path / "step.mlxfn", packed, model.checkpoint.arrays)
    run = export_mlx.runner(tmp_path / "step.mlxfn", names)
    for batch in (1, 2):
        proof.prove(run, proof.step_cases(SMALL, forward, batch), "mlx", "step")
    way = proof.way_of(model, 2)
    export_mlx.write_sampler(tmp_path / "sampler2.mlxfn", packed, way)
    whole = export_mlx.runner(tmp_path / "sampler2.mlxfn", list(way.inputs(SMALL)))
    proof.prove(whole, proof.sampler_cases(model, forward, way), "mlx", "sampler2")
    arrays = dict(model.checkpoint.arrays)
    for odd in (
        {k: v for k, v in arrays.items() if k != "head.bias"},
        {**arrays, "more.weight": np.zeros(3, np.float32)},
        {**arrays, "head.bias": np.zeros(26, np.float32)},
    ):
        with pytest.raises(FormatError, match="weights of another architecture"):
            load(SMALL, odd)


def test_without_mlx_the_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from choreo_cli.generate import mlx_net

    monkeypatch.setattr(mlx_net, "mx", None)
    with pytest.raises(UnavailableError, match=r"MLX is not installed: pip install 'choreo\[mlx"):
        mlx_net.load(SMALL, {})


@pytest.mark.slow
@pytest.mark.parametrize("size", [(TINY.blocks, TINY.width, TINY.heads), (8, 256, 8)], ids=["tiny", "full"])
def test_the_real_sizes_keep_the_limit(tmp_path: Path, size: tuple[int, int, int]) -> None:
    model = written(tmp_path, Shape(blocks=size[0], width=size[1], heads=size[2]))
    forward, packed = torch_forward(model.network()), pack(model.shape, model.checkpoint.arrays)
    way = proof.way_of(model, 4)
    run = runner(export_onnx.sampler_model(packed, way, "flow", model.identity))
    proof.prove(run, proof.sampler_cases(model, forward, way), "onnxruntime", "sampler4")
