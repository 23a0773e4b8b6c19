"""choreo25 in torch gives the numbers of numpy, for batches, and its derivatives are right."""

from __future__ import annotations

import numpy as np
import pytest
import smpl_like
from test_choreo25 import F64, FPS, dance

from choreo_cli.errors import DataError
from choreo_cli.motion import choreo25, limbs
from choreo_cli.motion.choreo25 import encode
from choreo_cli.motion.skeleton import canonical_skeleton
from formats.motion_npz import MotionClip

torch = pytest.importorskip("torch")
twin = pytest.importorskip("choreo_cli.motion.choreo25_torch")


@pytest.fixture(scope="module")
def joints() -> F64:
    return dance()


@pytest.fixture(scope="module")
def clip(joints: F64) -> MotionClip:
    return encode(joints, FPS)


@pytest.mark.parametrize(("kind", "limit"), [("float64", 1e-10), ("float32", 1e-5)])
def test_decode_is_numpys(clip: MotionClip, kind: str, limit: float) -> None:
    h = clip.header
    channels = torch.from_numpy(clip.channels).to(getattr(torch, kind))
    found = twin.decode_channels(channels, h.skeleton, h.fps, h.yaw0, h.x0, h.z0)
    assert found.dtype == channels.dtype
    assert np.abs(found.numpy() - choreo25.decode(clip)).max() <= limit


@pytest.mark.parametrize(("kind", "limit"), [("float64", 1e-10), ("float32", 1e-5)])
def test_encode_is_numpys(kind: str, limit: float) -> None:
    source = smpl_like.clip(200)
    s = encode(source, 20.0).header.skeleton
    want, start, _ = choreo25.encode_channels(source, 20.0, s)
    given = torch.from_numpy(source).to(getattr(torch, kind))
    found, begun = twin.encode_channels(given, 20.0, s)
    same = choreo25.encode_channels(given.double().numpy(), 20.0, s)[0]  # what rounding the joints alone does
    assert np.abs(found.numpy() - same).max() <= limit
    assert np.abs(begun.numpy() - start).max() <= 1e-6
    assert np.abs(found.numpy() - want).max() < 1e-3


def test_batches_and_skeletons(clip: MotionClip) -> None:
    s = clip.header.skeleton
    batch = torch.from_numpy(clip.channels[:96].reshape(4, 24, 25)).double()
    yaw = torch.linspace(0, 3, 4, dtype=torch.float64)
    found = twin.decode_channels(batch, s, FPS, yaw)
    want = choreo25.decode_channels(batch.numpy(), s, FPS, yaw.numpy())
    assert np.abs(found.numpy() - want).max() < 1e-12
    other = canonical_skeleton(1.6)
    both = torch.stack([torch.from_numpy(x.to_vector()) for x in (s, other, s, other)])
    mixed = twin.decode_channels(batch, both, FPS, yaw)
    assert torch.equal(mixed[0], found[0])
    alone = choreo25.decode_channels(batch[1].numpy(), other, FPS, float(yaw[1]))
    assert np.abs(mixed[1].numpy() - alone).max() < 1e-12
    again, _ = twin.encode_channels(mixed, FPS, both)
    assert (again[..., 19:25] - batch[..., 19:25]).abs().max() < 1e-9


def test_decoder_derivatives(clip: MotionClip) -> None:
    channels = torch.from_numpy(clip.channels[:4].reshape(2, 2, 25)).double().requires_grad_(True)
    vector = torch.from_numpy(clip.header.skeleton.to_vector()).requires_grad_(True)
    assert torch.autograd.gradcheck(lambda c, v: twin.decode_channels(c, v, FPS), (channels, vector), fast_mode=True)


def test_encoder_derivatives(joints: F64, clip: MotionClip) -> None:
    given = torch.from_numpy(joints[None, 3:5]).requires_grad_(True)
    assert torch.autograd.gradcheck(
        lambda j: twin.encode_channels(j, FPS, clip.header.skeleton)[0], (given,), atol=1e-4, rtol=1e-3, fast_mode=True
    )


@pytest.mark.parametrize("kind", ["float32", "float64"])
def test_derivatives_are_finite_where_formulas_are_singular(kind: str) -> None:
    """All zeros: no chest rotation, wrists in their shoulders, ankles in the root; and everything at full reach."""
    for fill in (0.0, 1.0):
        channels = torch.full((1, 4, 25), fill, dtype=getattr(torch, kind), requires_grad=True)
        twin.decode_channels(channels, canonical_skeleton(1.7), FPS).square().sum().backward()
        assert torch.isfinite(channels.grad).all()


def test_a_standing_foot_keeps_its_heading(clip: MotionClip, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limbs, "FLAT", 0.35)
    batch = clip.channels[:96].reshape(4, 24, 25).astype(np.float64)
    want = choreo25.decode_channels(batch, clip.header.skeleton, FPS)
    found = twin.decode_channels(torch.from_numpy(batch), clip.header.skeleton, FPS)
    assert np.abs(found.numpy() - want).max() < 1e-12


def test_mirror_and_clamp_are_numpys(clip: MotionClip) -> None:
    rng = np.random.default_rng(0)
    raw = rng.normal(0, 3, (50, 25))
    assert np.abs(twin.clamp_channels(torch.from_numpy(raw)).numpy() - choreo25.clamp(raw)[0]).max() < 1e-6
    mirrored = twin.mirror_channels(torch.from_numpy(clip.channels)).numpy()
    assert np.array_equal(mirrored, choreo25.mirror_channels(clip.channels))


def test_swivel_loss_knows_that_angles_wrap(clip: MotionClip) -> None:
    s = clip.header.skeleton
    target = torch.from_numpy(clip.channels).double()[None]
    turned = target.clone()
    turned[..., 14] += 2 * np.pi
    assert float(twin.swivel_loss(turned, target, s)) < 1e-12
    off = target.clone().requires_grad_(True)
    aside = off.clone()
    aside[..., 14] = aside[..., 14] + 0.5
    loss = twin.swivel_loss(aside, target, s)
    loss.backward()
    assert (
        torch.isfinite(off.grad).all() and off.grad[..., [k for k in range(25) if k not in (14, 18)]].abs().max() == 0
    )
    # Twice the loss over the cosine's defect is the mean distance of the elbows from their axes, both arms, one turned.
    joints = choreo25.decode(clip)
    n = joints[:, 20] - joints[:, 16]
    n /= np.linalg.norm(n, axis=1, keepdims=True)
    arm = joints[:, 18] - joints[:, 16]
    apart = np.linalg.norm(arm - (arm * n).sum(1, keepdims=True) * n, axis=1).mean()
    assert float(loss.detach()) == pytest.approx(0.5 * apart * (1 - np.cos(0.5)), rel=1e-6)


def test_an_elbow_is_moved_by_the_loss(clip: MotionClip) -> None:
    """Descending the loss brings a swivel on the other side of pi to its target the short way."""
    target = torch.from_numpy(clip.channels[:1]).double()[None]
    target[..., 14] = 3.0
    mine = target.clone()
    mine[..., 14] = -3.0
    mine.requires_grad_(True)
    twin.swivel_loss(mine, target, clip.header.skeleton).backward()
    assert float(mine.grad[0, 0, 14]) > 0  # -3 goes down to -3.28 = 3


def test_wrong_shapes_are_one_sentence() -> None:
    s = canonical_skeleton(1.7)
    with pytest.raises(DataError, match=r"channels of shape \(5, 24\)"):
        twin.decode_channels(torch.zeros(5, 24), s, FPS)
    with pytest.raises(DataError, match=r"joints of shape \(5, 21, 3\)"):
        twin.encode_channels(torch.zeros(5, 21, 3), FPS, s)
    with pytest.raises(DataError, match=r"skeletons of shape \(1, 57\)"):
        twin.decode_channels(torch.zeros(5, 25), torch.zeros(57), FPS)
