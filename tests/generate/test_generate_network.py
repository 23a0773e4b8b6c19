"""The network: shapes, what it is at the start, what its inputs mean, and its sizes."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from choreo_cli.errors import DataError  # noqa: E402
from choreo_cli.generate import conditioning  # noqa: E402
from choreo_cli.generate.config import FULL, GROUPS, TINY, Size  # noqa: E402
from choreo_cli.generate.dit_torch import MotionDiT, cover, rotated, rotation, time_features  # noqa: E402


def inputs(rows: int = 2, frames: int = 64, audio: int = 35, width: int = 128) -> list[torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    x, known = (torch.randn(rows, frames, 25, generator=g) for _ in range(2))
    sound, text = torch.randn(rows, frames, audio, generator=g), torch.randn(rows, 384, generator=g)
    mask = (torch.rand(rows, frames, 7, generator=g) < 0.3).float()
    time = time_features(torch.rand(rows, generator=g), width)
    return [x, time, sound, known, mask, text, torch.eye(6)[:rows], torch.randn(rows, 32, generator=g)]


def random_network(size: Size = TINY, **more: int) -> MotionDiT:
    torch.manual_seed(1)
    net = MotionDiT(size, more.pop("audio_width", 35), **more).eval()
    with torch.no_grad():
        for weight in net.parameters():
            weight.normal_(std=0.05)
    return net


def test_sizes_are_those_of_the_design() -> None:
    counts = {s: sum(w.numel() for w in MotionDiT(s, 35).parameters()) for s in (TINY, FULL)}
    assert 1.2e6 < counts[TINY] < 1.45e6 and 9e6 < counts[FULL] < 12e6


@pytest.mark.parametrize("frames", [64, 40, 1])
def test_it_starts_at_zero_with_every_input(frames: int) -> None:
    net = MotionDiT(TINY, 35)
    out = net(*inputs(frames=frames))
    assert out.shape == (2, frames, 25) and not out.any()
    out.square().sum().backward()  # and no weight is NaN or cut off from the loss for good
    assert net.head.weight.grad is not None and torch.isfinite(net.head.weight.grad).all()


def test_every_input_is_heard() -> None:
    net, given = random_network(), inputs()
    base = net(*given)
    for k in range(len(given)):
        other = [a.clone() for a in given]
        other[k] = 1 - other[k]
        assert (net(*other) - base).abs().max() > 1e-4, k


def test_what_is_not_given_is_not_looked_at() -> None:
    net, given = random_network(), inputs()
    other = [a.clone() for a in given]
    hidden = ~conditioning.channel_mask(given[4].numpy())
    other[3][torch.from_numpy(hidden)] = 1e3
    assert torch.equal(net(*other), net(*given))


def test_rows_of_a_batch_do_not_see_each_other() -> None:
    net, given = random_network(), inputs()
    alone = torch.cat([net(*(a[k : k + 1] for a in given)) for k in range(2)])
    assert (alone - net(*given)).abs().max() < 1e-5


def test_positions_are_relative_and_written_a_second_way() -> None:
    cos, sin = rotation(8, 4)
    rng = np.random.default_rng(0)
    q, k = rng.standard_normal((2, 4))
    turn = [np.exp(1j * t * np.array([1.0, 1e4**-0.5])) for t in range(8)]
    as_complex = [(q[:2] + 1j * q[2:]) * w for w in turn]
    ours = rotated(torch.from_numpy(np.tile(q, (8, 1))).float(), cos, sin).numpy()
    np.testing.assert_allclose(ours, [np.r_[z.real, z.imag] for z in as_complex], atol=1e-5)
    other = rotated(torch.from_numpy(np.tile(k, (8, 1))).float(), cos, sin).numpy()
    products = [ours[t + 3] @ other[t] for t in range(5)]
    np.testing.assert_allclose(products, products[0], atol=1e-5)
    assert "cos" not in MotionDiT(TINY, 35).state_dict()  # constants are no weights


def test_time_features_are_the_same_in_numpy_and_torch() -> None:
    t = np.r_[0.0, 1.0, np.random.default_rng(0).random(50)]
    ours = conditioning.time_features(t, 128)
    assert ours.dtype == np.float32 and np.array_equal(ours[0], np.r_[np.ones(64), np.zeros(64)].astype(np.float32))
    assert np.abs(ours - time_features(torch.from_numpy(t), 128).numpy()).max() < 1e-6
    assert ours[1, 0] == pytest.approx(np.cos(1000.0), abs=1e-6)


def test_mask_columns_cover_every_channel_once() -> None:
    assert cover(7).sum(0).tolist() == [1.0] * 25 and cover(1).tolist() == [[1.0] * 25]
    assert [int(n) for n in cover(7).sum(1)] == [p.stop - p.start for _, p in GROUPS] == [4, 2, 5, 4, 4, 3, 3]
    with pytest.raises(DataError, match="3 mask columns"):
        cover(3)


def test_without_audio_and_with_odd_heads() -> None:
    net = MotionDiT(Size(1, 32, 2), 0)
    given = inputs(audio=0, width=32)
    assert net(*given).shape == (2, 64, 25) and not any("audio" in n for n in net.state_dict())
    with pytest.raises(DataError, match="even, whole width"):
        MotionDiT(Size(1, 30, 4), 0)
