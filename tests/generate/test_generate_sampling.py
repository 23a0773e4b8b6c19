"""Sampling with a network that is known exactly: known frames, seeds, guidance, evaluations, refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from choreo_cli.dataset.motions_stats import Stats
from choreo_cli.errors import DataError, UsageError
from choreo_cli.generate.config import EXTRA_GUIDANCE, EXTRA_STEP, SOLVERS, TASKS
from choreo_cli.generate.diffusion import Ddim
from choreo_cli.generate.flow import Flow
from choreo_cli.generate.guidance import Guidance
from choreo_cli.generate.sampling import Sampler, guess_task, noise
from choreo_cli.generate.tasks import draw_tasks, inbetween_mask, predict_mask

RNG = np.random.default_rng(3)
STATS = Stats(
    RNG.normal(size=25).astype(np.float32) * 0.2, RNG.uniform(0.1, 0.7, 25).astype(np.float32),
    np.zeros(4, np.float32), np.ones(4, np.float32),
)  # fmt: skip
AUDIO = RNG.normal(size=(3, 16, 4)).astype(np.float32)


class Listener:
    """A network that predicts data which follow from the audio alone, and remembers what it saw."""

    def __init__(self, kind: str = "x1") -> None:
        self.kind, self.calls = kind, []  # type: ignore[var-annotated]

    def __call__(self, x: Any, time: Any, audio: Any, known: Any, mask: Any, text: Any, task: Any, extra: Any) -> Any:
        assert all(a.dtype == np.float32 for a in (x, time, audio, known, mask, text, task, extra))
        self.calls.append({"x": x, "audio": audio, "known": known, "mask": mask, "task": task, "extra": extra})
        data = np.sin(audio.sum(-1, keepdims=True) + np.arange(25, dtype=np.float32))
        return data.astype(np.float32)


def target(audio: Any) -> Any:
    return np.sin(audio.sum(-1, keepdims=True) + np.arange(25)) * STATS.std + STATS.mean


def sampler(process: Any = None, net: Any = None, **more: Any) -> Sampler:
    return Sampler(net or Listener(), STATS, process or Flow(), width=8, frames=16, **more)


@pytest.mark.parametrize("process", [Flow(), Flow(shift=2.0), Ddim(), Ddim(eta=0.7)])
@pytest.mark.parametrize("steps", [1, 2, 4, 10])
def test_a_network_that_knows_the_data_is_followed_to_them(process: Any, steps: int) -> None:
    found = sampler(process).sample(AUDIO, steps=steps, cfg=1.0)
    assert found.dtype == np.float32 and found.shape == (3, 16, 25)
    np.testing.assert_allclose(found, target(AUDIO), atol=2e-4 if process.name == "flow" else 2e-3)


@pytest.mark.parametrize("process", [Flow(), Flow("v"), Ddim(), Ddim("eps"), Ddim(eta=1.0)])
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("kind", ["predict", "inbetween", "keyframes"])
def test_known_values_come_back_bit_for_bit(process: Any, solver: str, kind: str) -> None:
    masks = {
        "predict": predict_mask(16, 4), "inbetween": inbetween_mask(16, [0, 1, 14, 15]),
        "keyframes": inbetween_mask(16, [5, 9], root=False),
    }  # fmt: skip
    mask, known = masks[kind], RNG.normal(size=(3, 16, 25)).astype(np.float32) * 3.7
    net = Listener()
    found = sampler(process, net).sample(AUDIO, known=known, mask=mask, steps=3, solver=solver, seed=1)
    given = np.repeat(mask, [4, 2, 5, 4, 4, 3, 3], axis=1).astype(bool)
    assert found[:, given].tobytes() == known[:, given].tobytes()
    assert not np.isclose(found[:, ~given], known[:, ~given]).all() and np.isfinite(found).all()
    wanted = "PREDICT" if kind == "predict" else "INBETWEEN"
    assert all((c["task"].argmax(1) == TASKS.index(wanted)).all() for c in net.calls)
    clean = STATS.normalise(known)
    assert all(np.allclose(c["known"][0][given], clean[0][given], atol=1e-5) for c in net.calls)


def test_known_values_lie_on_their_own_path_at_every_evaluation() -> None:
    seen: list[tuple[float, Any]] = []
    mask, known = predict_mask(16, 4), RNG.normal(size=(3, 16, 25)).astype(np.float32)
    process, start = Flow(), noise(3, 16, 5)

    def predict(x: Any, t: float, way: float) -> Any:
        seen.append((t, x))
        return np.zeros_like(x)

    from choreo_cli.generate.conditioning import channel_mask
    from choreo_cli.generate.flow import Held

    given = np.broadcast_to(channel_mask(mask), known.shape)
    process.run(predict, lambda n: start, Held(known, given), 4, "rk4")
    assert len(seen) == 16
    for t, x in seen:
        np.testing.assert_allclose(x[given], ((1 - t) * start + t * known)[given], atol=1e-6)


def test_a_clip_depends_on_its_seed_and_number_alone() -> None:
    s = sampler(Ddim(eta=1.0), Rough())
    whole = s.sample(AUDIO, seed=4, steps=5)
    assert whole.tobytes() == s.sample(AUDIO, seed=4, steps=5).tobytes()
    for k in range(3):
        np.testing.assert_allclose(s.sample(AUDIO[k], seed=4, first=k, steps=5)[0], whole[k], atol=1e-5)
    assert not np.allclose(s.sample(AUDIO, seed=5, steps=5), whole)
    many = np.repeat(AUDIO[:1], 70, 0)
    assert np.allclose(s.sample(many, seed=4, steps=2)[66:], s.sample(many[:4], seed=4, first=66, steps=2), atol=1e-5)


class Rough(Listener):
    def __call__(self, x: Any, time: Any, audio: Any, *rest: Any) -> Any:
        return np.tanh(super().__call__(x, time, audio, *rest) + 0.3 * x)


def test_evaluations_are_counted_and_branches_are_one_batch() -> None:
    net = Listener()
    s = sampler(net=net)
    s.sample(AUDIO, steps=4, cfg=2.0)
    assert (s.nfe, s.rows) == (4, 7) and [len(c["x"]) for c in net.calls] == [3, 6, 6, 6]  # t = 0 is outside
    s.sample(AUDIO, steps=4, cfg=Guidance(2.0, low=0, high=1), solver="heun2")
    assert (s.nfe, s.rows) == (8, 16)
    s.sample(AUDIO, steps=4, cfg=1.0)
    assert (s.nfe, s.rows) == (4, 4)
    s.sample(None, clips=2, frames=9, cfg=2.0)
    assert (s.nfe, s.rows) == (4, 4) and not net.calls[-1]["audio"].any() and net.calls[-1]["x"].shape == (2, 9, 25)
    d = sampler(Ddim(), Listener())
    d.sample(AUDIO, steps=50, cfg=1.0)
    assert (d.nfe, d.process.evaluations(50, "euler")) == (50, 50)


def test_guidance_goes_beyond_the_conditional_answer() -> None:
    net = Listener()
    full = Guidance(2.0, low=0, high=1)
    found = sampler(net=net).sample(AUDIO, steps=1, cfg=full)
    v0, va = target(np.zeros_like(AUDIO)), target(AUDIO)
    np.testing.assert_allclose(found, v0 + 2 * (va - v0), atol=1e-4)
    assert not net.calls[0]["audio"][:3].any() and net.calls[0]["audio"][3:].any()


def test_distilled_models_are_told_weight_and_step() -> None:
    net = Listener()
    s = sampler(net=net, guided=True, sized=True)
    s.sample(AUDIO, steps=2, cfg=3.0)
    assert s.rows == s.nfe == 2
    assert (net.calls[0]["extra"][:, EXTRA_GUIDANCE] == 0.75).all() and (
        net.calls[0]["extra"][:, EXTRA_STEP] == 0.5
    ).all()
    plain = Listener()
    sampler(net=plain).sample(AUDIO, cfg=3.0)
    assert not any(c["extra"].any() for c in plain.calls)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"audio": AUDIO[..., :3]}, "needs 4 features a frame at 30 fps"),
        ({"audio": np.zeros((1, 17, 4))}, "17 frames at once: the model has learned 16"),
        ({"audio": np.zeros((1, 0, 4))}, "0 frames at once"),
        ({"audio": np.full((1, 16, 4), np.nan)}, "64 values of the audio features are not finite"),
        ({"known": np.zeros((3, 16, 25))}, "known frames without a mask"),
        ({"known": np.full((16, 25), np.inf), "mask": predict_mask(16, 2)}, "of the known frames are not finite"),
        ({"known": np.zeros((16, 25)), "mask": np.zeros((16, 5))}, "mask of shape"),
        ({"task": "fly"}, "no task 'fly'"),
        ({"solver": "rk9"}, "no solver 'rk9'"),
        ({"text": np.zeros(3)}, "text of shape"),
        ({"audio": None, "clips": 0}, "0 clips"),
    ],
)
def test_bad_conditions_are_refused_in_one_line(call: dict[str, Any], message: str) -> None:
    with pytest.raises((DataError, UsageError), match=message):
        sampler().sample(**{"audio": AUDIO, **call})


def test_a_network_that_diverges_is_said_to() -> None:
    with pytest.raises(DataError, match="not finite: it has diverged"):
        sampler(net=lambda x, *_: x * np.float32(np.inf)).sample(AUDIO)


def test_unknown_frames_may_hold_anything() -> None:
    known = np.full((16, 25), np.nan, np.float32)
    known[:2] = 1.0
    assert np.isfinite(sampler().sample(AUDIO, known=known, mask=predict_mask(16, 2))).all()


# Masks.


def test_masks() -> None:
    assert predict_mask(64).sum(0).tolist() == [16] * 7 and guess_task(predict_mask(64)[None]) == "predict"
    sparse = inbetween_mask(10, [3, 7, 3], root=False)
    assert sparse.sum(0).tolist() == [0, 2, 2, 2, 2, 2, 2] and guess_task(sparse[None]) == "inbetween"
    arms = np.zeros((1, 8, 7))
    arms[:, :, 5:] = 1
    assert guess_task(arms) == "complete" and guess_task(np.zeros((1, 8, 7))) == "gen"
    for bad in (
        lambda: predict_mask(8, 8),
        lambda: predict_mask(8, 0),
        lambda: inbetween_mask(8, [8]),
        lambda: inbetween_mask(8, []),
    ):
        with pytest.raises(UsageError):
            bad()


@pytest.mark.parametrize("frames", [8, 16, 64, 200])
def test_drawn_tasks_have_the_shares_and_leave_something_to_do(frames: int) -> None:
    masks, tasks, bare = draw_tasks(np.random.default_rng(0), 2000, frames, 0.3, 0.2)
    shares = dict(zip(TASKS, tasks.mean(0), strict=True))
    assert shares["INBETWEEN"] == pytest.approx(0.3, abs=0.04) and shares["PREDICT"] == pytest.approx(0.2, abs=0.04)
    assert shares["GEN"] == pytest.approx(0.5, abs=0.04) and (tasks.sum(1) == 1).all()
    assert (bare == (tasks[:, TASKS.index("GEN")] == 1)).all()
    assert (masks.mean((1, 2)) < 1).all()
    for name, mask in zip(np.array(TASKS)[tasks.argmax(1)][:300], masks[:300], strict=True):
        assert guess_task(mask[None]).upper() == name or (name == "INBETWEEN" and guess_task(mask[None]) == "predict")
    again = draw_tasks(np.random.default_rng(0), 2000, frames, 0.3, 0.2)
    assert all(np.array_equal(a, b) for a, b in zip(again, (masks, tasks, bare), strict=True))
