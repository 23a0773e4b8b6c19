"""M3 in torch: its size, its two modes, its loss by hand, and the parity of its twins."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")
torch.set_num_threads(1)

from choreo_cli.errors import DataError  # noqa: E402
from choreo_cli.reflex.mapper import Mapper  # noqa: E402
from choreo_cli.reflex.mapper_files import encode_mapper, onnx_bytes, prove_numpy, prove_onnx  # noqa: E402
from choreo_cli.reflex.mapper_torch import GRUMapper, beat_weight, mapper_loss  # noqa: E402


def model(seed: int = 0) -> GRUMapper:
    torch.manual_seed(seed)
    return GRUMapper()


def test_size_and_shapes() -> None:
    m = model()
    assert sum(p.numel() for p in m.parameters()) == 58_661
    z = torch.randn(3, 32, 104)
    assert m(z).shape == (3, 5) and m(z, 2).shape == (3, 2, 5)
    assert torch.equal(m(z, 1)[:, 0], m(z)) and m(z).min() > 0 and m(z).max() < 1
    controls, h = m.stream(z)
    assert controls.shape == (3, 32, 5) and h.shape == (1, 3, 96)


def test_a_stream_in_pieces_is_the_stream() -> None:
    m, z = model(), torch.randn(1, 60, 104)
    whole, _ = m.stream(z)
    first, h = m.stream(z[:, :25])
    second, _ = m.stream(z[:, 25:], h)
    torch.testing.assert_close(torch.cat([first, second], dim=1), whole)
    torch.testing.assert_close(whole[:, -1], m(z))


@pytest.mark.parametrize("mode", ["window", "stream"])
def test_three_forms_say_the_same(mode: str) -> None:
    m, z = model(), torch.randn(32, 104)
    with torch.no_grad():
        whole = m(z[None], 32)[0].numpy()
    twin = Mapper(m.arrays(), mode, 32)
    expected = whole if mode == "stream" else whole[-1]
    assert prove_numpy(twin, z.numpy(), expected) < 1e-6
    data = onnx_bytes(twin, {"choreo.recipe": "mapper"})
    assert data == onnx_bytes(twin, {"choreo.recipe": "mapper"})
    assert prove_onnx(twin, data, z.numpy(), expected) < 1e-6
    again = GRUMapper.of(twin)
    torch.testing.assert_close(again(z[None]), m(z[None]))


@pytest.mark.parametrize("mode", ["window", "stream"])
def test_a_twin_that_differs_is_not_written(mode: str) -> None:
    m, z = model(), torch.randn(32, 104)
    with torch.no_grad():
        whole = m(z[None], 32)[0].numpy()
    expected = (whole if mode == "stream" else whole[-1]) + np.float32(1e-3)
    with pytest.raises(DataError, match=r"differ by 0\.001"):
        encode_mapper(Mapper(m.arrays(), mode, 32), {}, {}, z.numpy(), expected)


def test_the_files_name_each_other() -> None:
    import json

    import onnx

    m, z = model(), torch.randn(32, 104)
    with torch.no_grad():
        expected = m(z[None])[0].numpy()
    files = encode_mapper(
        Mapper(m.arrays(), "window", 32, rps_sha256="ab"), {"step_us": 20_000}, {}, z.numpy(), expected
    )
    assert files[-1][1] == "model.json"
    found = {name: data for _, name, data in files}
    card = json.loads(found["model.json"])
    assert card["facts"]["mode"] == "window" and card["facts"]["rps_sha256"] == "ab"
    assert set(card["files"]) == {"model.safetensors", "model.onnx", "model.npz"}
    props = {p.key: p.value for p in onnx.load_from_string(found["model.onnx"]).metadata_props}
    assert props["choreo.weights_sha256"] == card["files"]["model.safetensors"]
    with np.load(io.BytesIO(found["model.npz"])) as npz:
        np.testing.assert_array_equal(npz["head.bias"], m.head.bias.detach().numpy())


def test_the_loss_by_hand() -> None:
    made = torch.tensor([[[0.5] * 5, [0.6] * 5]])
    y = torch.full((1, 2, 5), 0.5)
    y[0, 1, 2] = math.nan
    batch = {"y": y, "phase": torch.tensor([[0.1, 0.25]])}
    loss, parts = mapper_loss(made, batch, 0.1, 0.2)
    assert float(parts["mse"]) == pytest.approx(4 * 0.01 / 9)
    assert float(parts["smooth"]) == pytest.approx(0.1)
    assert float(parts["beat"]) == pytest.approx(0.1 * 0.5)
    assert float(loss) == pytest.approx(0.04 / 9 + 0.1 * 0.1 + 0.2 * 0.05)
    slow, _ = mapper_loss(made, batch, 0.1, 0.2, step_s=0.04)
    assert float(slow) == pytest.approx(0.04 / 9 + 0.5 * (0.1 * 0.1 + 0.2 * 0.05))
    weighed, _ = mapper_loss(made, batch, 0, 0, weight=torch.tensor([1.0, 0, 0, 0, 3.0]))
    assert float(weighed) == pytest.approx((0.01 + 0.03) / 9)


def test_the_loss_leaves_out_what_has_no_target() -> None:
    torch.manual_seed(0)
    made, y = torch.rand(4, 6, 5), torch.rand(4, 6, 5)
    y[:, :3] = math.nan
    batch = {"y": y, "phase": torch.rand(4, 6)}
    assert float(mapper_loss(made, batch, 0, 0)[0]) == pytest.approx(float((made - y)[:, 3:].square().mean()))
    nothing = {"y": torch.full_like(y, math.nan), "phase": torch.full((4, 6), math.nan)}
    made.requires_grad_()
    loss, parts = mapper_loss(made, nothing, 0, 1)
    loss.backward()
    assert float(parts["mse"]) == 0 and float(parts["beat"]) == 0 and torch.isfinite(made.grad).all()


def test_a_carried_state_is_the_stream_and_a_dropped_one_a_fresh_start() -> None:
    m, z = model(), torch.randn(2, 60, 104)
    made = m(z, 20, torch.tensor([1.0, 0.0]))
    torch.testing.assert_close(made[0], m.stream(z[:1])[0][0, 40:])
    torch.testing.assert_close(made[1], m.stream(z[1:, 40:])[0][0])


def test_beat_weight() -> None:
    assert beat_weight(torch.tensor([0.0, 0.25, 0.5, math.nan])).tolist() == pytest.approx([0, 0.5, 1, 0])


def test_units_start_with_memories_of_many_lengths() -> None:
    bias = model().gru.bias_ih_l0[96:192].detach().exp()
    assert bias.min() < 5 and bias.max() > 40
    assert torch.equal(model(3).gru.weight_hh_l0, model(3).gru.weight_hh_l0)
