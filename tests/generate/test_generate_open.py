"""A generator is opened wherever it lies; what is no generator is refused in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from choreo_cli.errors import NoInputError, UsageError
from choreo_cli.generate.config import Shape
from choreo_cli.generate.model_files import encode_model
from choreo_cli.generate.open_model import model_folder, open_sampler
from formats.errors import FormatError
from tests.generate.test_generate_files import STATS, facts

SHAPE = Shape(blocks=1, width=16, heads=2, frames=16, audio_width=4)


def model(folder: Path, recipe: str = "flow", seed: int = 0, **told: object) -> Path:
    torch = pytest.importorskip("torch")
    from choreo_cli.generate.dit_torch import build

    torch.manual_seed(seed)
    net = build(SHAPE)
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.2)
    folder.mkdir(parents=True, exist_ok=True)
    for _, name, data in encode_model(recipe, net, SHAPE, facts(**told), STATS, {}):
        (folder / name).write_bytes(data)
    return folder


def test_a_run_one_seed_of_it_a_checkpoint_and_its_card_are_the_same_model(tmp_path: Path) -> None:
    run = tmp_path / "flow"
    own = model(run / "seed-1", seed=1)
    model(run / "seed-10", seed=10)
    found = [open_sampler(p) for p in (run, own, own / "model.json")]
    other = open_sampler(run, seed=10)
    assert len({s.identity for s in found}) == 1 and found[0].identity != other.identity
    drawn = [s.sample(None, clips=1, seed=2).tobytes() for s in (*found, other)]
    assert len(set(drawn[:3])) == 1 and drawn[3] != drawn[0]
    s = found[0]
    assert (s.fps, s.frames, s.audio_width, s.steps) == (30.0, 16, 4, 4)
    assert s.cfg is not None and s.cfg.audio == 2.0 and np.array_equal(s.stats.mean, STATS.mean)


def test_guidance_that_is_part_of_the_model_cannot_be_chosen(tmp_path: Path) -> None:
    s = open_sampler(model(tmp_path / "small", "distilled", baked=True))
    assert s.cfg is None and s.sample(np.zeros((16, 4), np.float32)).shape == (1, 16, 25)
    assert s.rows == s.nfe == 4
    with pytest.raises(UsageError, match="guidance is part of this distilled model"):
        s.sample(None, cfg=2.0)


def test_swivels_that_a_network_turns_past_pi_come_back_as_angles(tmp_path: Path) -> None:
    s = open_sampler(model(tmp_path / "m"))
    s.model = lambda x, *_: np.full_like(x, 30.0)
    raw = s.sample(None, clips=1)
    assert (np.abs(raw[..., [14, 18]]) <= np.pi).all() and raw[..., 0].min() > 8
    wanted = np.angle(np.exp(1j * (30 * STATS.std + STATS.mean)[14]))
    np.testing.assert_allclose(raw[..., 14], wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "backend", "error", "message"),
    [
        ("none", "auto", NoInputError, "no model"),
        ("empty", "auto", FormatError, "no model here"),
        ("file", "auto", FormatError, "a file, need a folder with model.json"),
        ("json", "auto", FormatError, "not JSON"),
        ("foreign", "auto", FormatError, "the model is mapper, need flow or ddim or distilled"),
        ("cut", "auto", FormatError, "model.json"),
        ("weights", "auto", FormatError, "damaged or changed"),
        ("good", "onnx", UsageError, "is a checkpoint, not an ONNX package"),
        ("good", "tensorrt", UsageError, "no backend 'tensorrt'"),
    ],
)
def test_what_is_no_model_is_refused(
    tmp_path: Path, make: str, backend: str, error: type[Exception], message: str
) -> None:
    place = tmp_path / make
    if make in ("good", "cut", "weights"):
        model(place)
    elif make == "foreign":
        model(place, "mapper")
    elif make == "file":
        place.write_text("x")
    elif make != "none":
        place.mkdir()
    if make == "json":
        (place / "model.json").write_text("{")
    elif make == "cut":
        card = place / "model.json"
        card.write_bytes(card.read_bytes()[:-40] + b"}")
    elif make == "weights":
        weights = place / "model.safetensors"
        data = bytearray(weights.read_bytes())
        data[-3] ^= 1
        weights.write_bytes(data)
    with pytest.raises(error, match=message):
        open_sampler(place, backend=backend)


def test_a_seed_that_was_not_trained_is_named(tmp_path: Path) -> None:
    model(tmp_path / "run" / "seed-3")
    assert model_folder(tmp_path / "run").name == "seed-3"
    with pytest.raises(NoInputError, match="no seed 4"):
        model_folder(tmp_path / "run", 4)
