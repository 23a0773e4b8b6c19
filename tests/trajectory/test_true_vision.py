"""Models see images: the tests that the plan of the lab names, under its names, and what follows for a trained branch.

`make evidence` runs this file twice: against `broken_twin.py`, where every test has to fail, and against the product.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from choreo_cli.trajectory import camera, curves, videos, views
from choreo_cli.trajectory.camera import Cameras, project
from tests.trajectory.small_sets import SEED, make_set

torch = pytest.importorskip("torch")

from choreo_cli.training.loop import fit  # noqa: E402
from choreo_cli.trajectory import nets_torch, sets, video_recipe_torch  # noqa: E402

TRAINING, UNSEEN = 400, 256


def path_of(row: int) -> Any:
    return curves.points(curves.draw(5, 0, 8))[row, : curves.SHOWN]


def one_camera(row: int = 0) -> Cameras:
    return camera.any_cameras(5, "test", row, 1)


def centres(video: Any) -> Any:
    """Centre of mass of the light of each frame, pixels: (T, 2)."""
    light = video.sum(1)
    down, across = np.mgrid[: light.shape[1], : light.shape[2]]
    mass = light.sum((1, 2))
    return np.stack([(light * across).sum((1, 2)) / mass, (light * down).sum((1, 2)) / mass], axis=-1)


# The renderer


def test_renderer_outputs_image_tensor_not_coordinates() -> None:
    video = videos.render_video(path_of(0), one_camera())
    assert video.ndim == 4
    assert video.dtype == np.float32
    assert video.min() >= 0
    assert video.max() == 1
    lit = (video > 0).mean((1, 2, 3))
    assert (lit > 0).all()
    assert (lit < 0.05).all()  # a dot on black, in every frame


@pytest.mark.parametrize("size", [16, 64, 96])
@pytest.mark.parametrize("style", ["dot", "trail"])
def test_rendered_frames_have_correct_shape(size: int, style: str) -> None:
    assert videos.render_video(path_of(1), one_camera(), size, style).shape == (16, 3, size, size)
    assert videos.render_video(path_of(1)[:7], one_camera(), size, style).shape == (7, 3, size, size)


def test_different_trajectories_produce_different_images() -> None:
    seen = [videos.render_video(path_of(k), one_camera()) for k in range(8)]
    for k, one in enumerate(seen):
        assert np.array_equal(one, videos.render_video(path_of(k), one_camera()))
        assert all(np.abs(one - other).max() > 0.5 for other in seen[:k])


def test_rendering_respects_camera_parameters() -> None:
    seen = [videos.render_video(path_of(2), one_camera(k)) for k in range(4)]
    assert all(np.abs(a - b).max() > 0.5 for k, a in enumerate(seen) for b in seen[:k])
    # From behind, what was left is right; the points lie in the plane between both cameras, equally deep.
    path = np.stack([np.zeros(16), np.linspace(-0.6, 0.6, 16), np.zeros(16)], axis=-1)
    before, behind = (videos.render_video(path, Cameras(np.array([a]), np.array([0.0]))) for a in (0.0, np.pi))
    assert np.allclose(before, behind[..., ::-1], atol=1e-5)


def test_trajectory_appears_in_correct_image_locations() -> None:
    for row in range(8):
        path, view = path_of(row), one_camera(row)
        expected = project(path[None], view, 64)[0][0]
        assert np.abs(centres(videos.render_video(path, view)) - expected).max() < 0.05


# The set


@pytest.mark.parametrize("count", [4, 24])
def test_generates_correct_number_of_samples(count: int) -> None:
    found = videos.generate_dataset(count)
    assert {k: len(v) for k, v in found.items()} == dict.fromkeys(
        ("videos", "labels", "trajectory_3d", "future_3d", "equations", "descriptions"), count
    )
    with pytest.raises(ValueError, match="multiple of 4"):
        videos.generate_dataset(count + 1)


def test_balanced_class_distribution() -> None:
    for augmentation in (True, False):
        found = videos.generate_dataset(40, augmentation=augmentation)
        assert np.bincount(found["labels"], minlength=4).tolist() == [10, 10, 10, 10]


def test_all_samples_are_images_not_coordinates() -> None:
    found = videos.generate_dataset(24, image_size=(32, 32))
    seen = found["videos"]
    assert (seen.shape, seen.dtype) == ((24, 16, 3, 32, 32), np.uint8)
    lit = (seen > 0).mean((2, 3, 4))
    assert (lit > 0).all()
    assert (lit < 0.5).all()
    assert found["trajectory_3d"].shape == (24, 16, 3)
    assert found["future_3d"].shape == (24, 4, 3)


def test_augmentation_creates_variations() -> None:
    plain, varied = (videos.generate_dataset(24, augmentation=a, seed=3) for a in (False, True))
    assert np.array_equal(plain["labels"], varied["labels"])
    colours = [{tuple(v.max((0, 2, 3))) for v in found["videos"]} for found in (plain, varied)]
    assert len(colours[0]) == 1
    assert len(colours[1]) > 20
    # Of one curve: 180 rows, and no two of the first thirty look alike.
    looks = views.every_view(3, np.zeros(1, np.int64))
    shapes = curves.draw(3, 0, 4)
    shown = views.noisy_points(3, "train", views.clean_points(shapes, looks), looks)[:30]
    out = np.empty((30, 16, 3, 64, 64), np.uint8)
    views.render(shown, looks.take(slice(0, 30)), out)
    assert len(looks) == views.PER_CURVE == 180
    assert len({v.tobytes() for v in out}) == 30


def test_dataset_saves_and_loads_correctly(tmp_path: Path) -> None:
    of = make_set(tmp_path, num=20, test=8, grid=0)
    asked = sets.SetOptions(num=20, test=8, grid=0, seed=SEED)
    drawn = sets.draw_set(asked)
    for name in ("family", "parameters", "rotation", "centre"):
        assert np.array_equal(getattr(of.drawn.curves, name), getattr(drawn.curves, name)), name
    assert np.array_equal(of.drawn.split, drawn.split)
    splits = [set(of.looks[s].base.tolist()) for s in ("train", "val", "test")]
    assert all(a.isdisjoint(b) for k, a in enumerate(splits) for b in splits[:k])
    # The pixels of a row are those of the row before it was saved.
    looks = sets.views_of(asked, drawn, "test")
    clean = views.clean_points(drawn.curves, looks)
    direct, loaded = np.empty((8, 16, 3, 64, 64), np.uint8), np.empty((8, 16, 3, 64, 64), np.uint8)
    views.render(sets.shown_points(11, "test", drawn.curves, looks), looks, direct)
    of.render("test", slice(None), loaded)
    assert np.array_equal(direct, loaded)
    assert np.array_equal(of.clean("test"), clean)


# The models


@pytest.mark.parametrize("encoder", nets_torch.ENCODERS)
def test_model_must_accept_image_tensors_not_coordinates(encoder: str) -> None:
    net = nets_torch.VideoNet(encoder, width=8).eval()
    for shape in ((2, 16, 2), (2, 16, 3), (16, 3, 64, 64), (2, 3, 16, 64, 64), (2, 3, 3, 64, 64), (2, 16, 3, 8, 64)):
        with pytest.raises(ValueError, match="coordinates are not images"):
            net(torch.rand(shape))
    with pytest.raises(TypeError):
        net(torch.rand(2, 16, 3, 64, 64), None, torch.rand(2, 16, 3))
    with pytest.raises(ValueError, match="without the camera's numbers"):
        net(torch.rand(2, 16, 3, 64, 64), torch.rand(2, 12))
    told = net(torch.rand(2, 16, 3, 64, 64))
    assert {k: tuple(told[k].shape) for k in ("logits", "future", "shown", "features")} == {
        "logits": (2, 4), "future": (2, 4, 3), "shown": (2, 16, 3), "features": (2, 512),
    }  # fmt: skip
    assert not torch.equal(told["logits"][0], told["logits"][1])


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any, Any]:
    """Branch 0 after a few seconds, and unseen videos with their classes."""
    folder = tmp_path_factory.mktemp("quick") / "set"
    of = make_set(folder, num=TRAINING + 100, test=UNSEEN, grid=0)
    config = video_recipe_torch.Config(encoder="moments", pool=8, batch=64, epochs=10, lr=3e-3, warmup=50)
    recipe = video_recipe_torch.VideoRecipe(config, 0, of, None, "none", [], {}, {})
    net = fit(recipe, folder.parent, identity="quick", seed=0).model
    out = np.empty((UNSEEN, 16, 3, 64, 64), np.uint8)
    of.render("test", slice(None), out)
    return net, out, of.family("test")


def accuracy(net: Any, seen: Any, family: Any) -> float:
    with torch.no_grad():
        told = [net(torch.from_numpy(part).float() / 255)["logits"].argmax(1) for part in np.array_split(seen, 8)]
    return float((torch.cat(told).numpy() == family).mean())


def test_a_black_video_gives_chance_accuracy(trained: tuple[Any, Any, Any]) -> None:
    net, seen, family = trained
    assert accuracy(net, seen, family) > 0.85
    assert accuracy(net, np.zeros_like(seen), family) == 0.25  # one answer for all, and the classes are balanced


def test_pixels_shuffled_by_one_fixed_permutation_destroy_accuracy(trained: tuple[Any, Any, Any]) -> None:
    net, seen, family = trained
    rng = np.random.default_rng(0)
    flat = seen.reshape(*seen.shape[:3], -1)
    shuffled = np.stack([one[..., rng.permutation(one.shape[-1])] for one in flat]).reshape(seen.shape)
    assert shuffled.sum() == seen.sum()
    assert accuracy(net, seen, family) > 0.85
    assert accuracy(net, shuffled, family) < 0.4
