"""Checkpoints of motion networks that are damaged, foreign or say too little are refused in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from choreo_cli.dataset.motions_stats import Stats
from choreo_cli.generate.config import TINY, Shape
from choreo_cli.generate.guidance import Guidance
from choreo_cli.generate.model_files import defaults_record, open_model, sampler_from, shape_of
from formats import checkpoint
from formats.errors import FormatError

STATS = Stats(
    np.full(25, 0.1, np.float32), np.full(25, 0.3, np.float32), np.zeros(4, np.float32), np.ones(4, np.float32)
)


def facts(**changes: Any) -> dict[str, Any]:
    made = {
        "process": "flow", "predict": "x1", "fps": 30.0, "defaults": defaults_record(4, "euler", Guidance(2.0)),
        "stats": STATS.to_dict(),
    }  # fmt: skip
    return {k: v for k, v in {**made, **changes}.items() if v is not None}


def write(folder: Path, told: dict[str, Any], recipe: str = "flow", **arch: Any) -> Path:
    import msgspec

    shape = {**msgspec.to_builtins(shape_of(TINY, 64, 4)), **arch}
    arrays = {"head.bias": np.zeros(25, np.float32)}
    for name, data in checkpoint.encode(checkpoint.Checkpoint(recipe, shape, arrays, told)).items():
        (folder / name).write_bytes(data)
    return folder


def test_a_card_is_read_without_the_network(tmp_path: Path) -> None:
    found = open_model(write(tmp_path, facts(shift=2.0)))
    assert found.shape == Shape(blocks=4, width=128, heads=4, audio_width=4) and found.process().shift == 2.0  # type: ignore[attr-defined]
    assert found.defaults().guidance == Guidance(2.0) and np.array_equal(found.stats.mean, STATS.mean)
    drawn = sampler_from(lambda x, *_: 0 * x, found.shape, found.facts, found.stats)
    assert np.allclose(drawn.sample(None, clips=1), 0.1, atol=1e-6)


@pytest.mark.parametrize(
    ("told", "recipe", "arch", "message"),
    [
        (facts(), "rps", {}, "the model is rps, need flow or ddim or distilled"),
        (facts(process="warp"), "flow", {}, "sampled by 'warp', which this version does not know"),
        (facts(predict="x9"), "flow", {}, "predicts 'x9'"),
        (facts(fps=0), "flow", {}, "fps, stats or defaults are missing or wrong"),
        (facts(defaults=None), "flow", {}, "fps, stats or defaults"),
        (facts(defaults={"steps": 4, "solver": "rk9", "guidance": {}}), "flow", {}, "fps, stats or defaults"),
        (facts(defaults={"steps": "many", "solver": "euler", "guidance": {}}), "flow", {}, "fps, stats or defaults"),
        (facts(stats={**STATS.to_dict(), "std": [0.0] * 25}), "flow", {}, "a spread below its floor"),
        (facts(stats={"mean": [1]}), "flow", {}, "statistics that cannot be read"),
        (facts(), "flow", {"audio_width": 35}, "statistics of 4 audio features, need 35"),
        (facts(), "flow", {"blocks": "four"}, "arch of another network"),
        (facts(), "flow", {"layers": 4}, "arch of another network"),
        (facts(), "flow", {"blocks": 10**9}, "arch of another network"),
    ],
)
def test_odd_cards_are_refused(tmp_path: Path, told: Any, recipe: str, arch: dict[str, Any], message: str) -> None:
    with pytest.raises(FormatError, match=message):
        open_model(write(tmp_path, told, recipe, **arch))


def test_other_weights_are_refused_by_name(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    with pytest.raises(FormatError, match="weights of another architecture"):
        open_model(write(tmp_path, facts())).network()
    (tmp_path / "model.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(FormatError, match="damaged or changed"):
        open_model(tmp_path)
    with pytest.raises(FormatError, match="no checkpoint here"):
        open_model(tmp_path / "none")
