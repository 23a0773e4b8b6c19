"""Dances longer than a window: no seams, no drift against the music, what is given stays, a clip is its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from choreo_cli.errors import DataError, UsageError
from choreo_cli.generate.config import TASKS
from choreo_cli.generate.diffusion import Ddim
from choreo_cli.generate.flow import Flow
from choreo_cli.generate.long import cover, fold, unfold
from choreo_cli.generate.sampling import Sampler, noise_of, turns
from choreo_cli.generate.stream import chain
from choreo_cli.generate.tasks import inbetween_mask
from tests.generate.small_dancer import stats, write_model
from tests.generate.test_generate_sampling import AUDIO, STATS, Listener, target

RNG = np.random.default_rng(11)


def sampler(net: Any = None, process: Any = None, **more: Any) -> Sampler:
    return Sampler(net or Listener(), STATS, process or Flow(), width=8, frames=16, **more)


def music(frames: int) -> Any:
    return np.random.default_rng(frames).normal(size=(frames, 4)).astype(np.float32)


@pytest.mark.parametrize("frames", [16, 17, 23, 24, 25, 40, 61, 200])
@pytest.mark.parametrize("overlap", [0, 3, 8, 13])
def test_windows_cover_a_dance_and_fold_back_to_it(frames: int, overlap: int) -> None:
    c = cover(frames, 16, overlap)
    assert c.starts[0] == 0 and c.starts[-1] + 16 == frames
    steps = np.diff(c.starts)
    assert (steps > 0).all() and (steps <= 16 - overlap).all()
    x = RNG.normal(size=(2, frames, 25)).astype(np.float32)
    np.testing.assert_allclose(fold(unfold(x, c), c), x, atol=2e-6)
    assert all(0 < s < frames for s in c.seams)


def test_angles_are_blended_the_shorter_way() -> None:
    c, turn = cover(24, 16, 8), turns(STATS)
    near = np.pi - 0.1
    parts = np.zeros((2, 16, 25), np.float32)
    for k, angle in enumerate((near, -near)):  # 0.2 rad apart across the turn
        parts[k, :, 14] = angle / STATS.std[14]
    joined = np.abs(np.angle(np.exp(1j * fold(parts, c, turn)[0, :, 14] * STATS.std[14])))
    assert (joined >= near - 1e-5).all()
    assert np.abs(fold(parts, c)[0, :, 14] * STATS.std[14]).min() < 1.0  # without knowing, through zero


@pytest.mark.parametrize("process", [Flow(), Ddim(), Ddim(eta=0.5)])
@pytest.mark.parametrize("frames", [1, 5, 16, 17, 90])
def test_a_network_that_knows_the_data_is_followed_at_any_length(process: Any, frames: int) -> None:
    audio = music(frames)
    found = sampler(process=process).dance(audio, [(1, 2)], steps=3, cfg=1.0)
    assert found.shape == (1, frames, 25) and found.dtype == np.float32
    np.testing.assert_allclose(found[0], target(audio[None])[0], atol=2e-3)


def test_a_minute_stays_with_its_music() -> None:
    """60 s: every frame answers its own frame of music, at the end as at the beginning, joined either way."""
    audio = music(1800)
    wanted = target(audio[None])[0]
    s = sampler()
    joined = s.dance(audio, [(0,)], steps=2, cfg=1.0)[0]
    chained = np.concatenate(list(chain(s, audio, (0,), prefix=4, steps=2, cfg=1.0)))
    for found in (joined, chained):
        away = np.abs(found - wanted).max(1).reshape(6, 300).max(1)
        assert found.shape == wanted.shape and away.max() < 1e-3


class Moody(Listener):
    """A network that dances each window somewhere else: what separate windows do."""

    def __call__(self, x: Any, time: Any, audio: Any, *rest: Any) -> Any:
        mood = 3 * np.sign(x.mean((1, 2), keepdims=True))
        return (mood + 0.1 * super().__call__(x, time, audio, *rest)).astype(np.float32)


def jump(x: Any, seams: tuple[int, ...]) -> float:
    """Largest difference at a seam over the 99th percentile of the others."""
    step = np.linalg.norm(np.diff(x, axis=0), axis=1)
    at = np.zeros(len(step), bool)
    at[[s - 1 for s in seams]] = True
    return float(step[at].max() / np.percentile(step[~at], 99))


def test_windows_that_share_their_overlap_have_no_seams() -> None:
    s, audio = sampler(Moody()), music(800)
    shared = s.dance(audio, [(0,)], steps=4, cfg=1.0)[0]
    assert jump(shared, cover(800, 16, 8).seams) <= 1.2
    apart = s.dance(audio, [(0,)], steps=4, cfg=1.0, overlap=0)[0]
    assert jump(apart, cover(800, 16, 0).seams) > 3


def test_a_chain_fades_from_one_window_to_the_next() -> None:
    audio = music(800)
    ends: dict[int, tuple[float, Any]] = {}
    for fade in (0, 4):
        pieces = list(chain(sampler(Moody()), audio, (0,), prefix=4, fade=fade, cfg=1.0))
        found = np.concatenate(pieces)
        step = np.linalg.norm(np.diff(found, axis=0), axis=1)
        ends[fade] = float(step.max()), found
        assert len(found) == 800
    assert ends[4][0] < 0.5 * ends[0][0]


def test_the_noise_of_a_longer_dance_begins_alike() -> None:
    assert np.array_equal(noise_of([(3, 1)], 40)[:, :16], noise_of([(3, 1)], 16))
    assert not np.array_equal(noise_of([(3, 1)], 16), noise_of([(3, 2)], 16))


@pytest.mark.parametrize("padded", [False, True])
def test_a_dance_is_the_same_in_any_company(tmp_path: Path, padded: bool) -> None:
    pytest.importorskip("torch")
    from choreo_cli.generate.open_model import open_sampler

    s = open_sampler(write_model(tmp_path))
    s.padded, s.together = padded, 4
    audio = np.random.default_rng(1).normal(size=(5, 50, 35)).astype(np.float32)
    rows = [(0, 7, k) for k in range(5)]
    whole = s.dance(audio, rows)
    for k in (0, 3):
        assert s.dance(audio[k], rows[k : k + 1])[0].tobytes() == whole[k].tobytes()
    turned = s.dance(audio[::-1], rows[::-1])
    assert turned[::-1].tobytes() == whole.tobytes()


@pytest.mark.parametrize("way", ["overlap", "chain"])
def test_given_frames_of_a_long_dance_come_back_bit_for_bit(way: str) -> None:
    net = Listener()
    s, audio = sampler(net), music(70)
    mask = inbetween_mask(70, [0, 1, 2, 30, 68, 69])
    known = RNG.normal(size=(70, 25)).astype(np.float32)
    if way == "overlap":
        found = s.dance(audio, [(0,)], known=known, mask=mask, task="inbetween")[0]
        told = {TASKS[k] for c in net.calls for k in c["task"].argmax(1)}
        assert told == {"PREDICT", "INBETWEEN", "GEN"}  # windows in which nothing is given have nothing to fill
    else:
        found = np.concatenate(list(chain(s, audio, (0,), known=known, mask=mask, prefix=4)))
    given = mask[:, 0] > 0
    assert found[given].tobytes() == known[given].tobytes()
    np.testing.assert_allclose(found[~given], target(audio[None])[0][~given], atol=1e-3)


def test_a_chain_hands_on_its_first_frames_before_the_last_are_drawn() -> None:
    net = Listener()
    pieces = chain(sampler(net), music(100), (0,), prefix=4, steps=3, cfg=1.0)
    assert not net.calls
    first = next(pieces)
    assert len(first) == 14 and len(net.calls) == 3  # two frames are held back to be faded over
    second = next(pieces)
    assert len(second) == 10 and len(net.calls) == 6
    given = net.calls[-1]
    assert given["mask"][0, :4].all() and not given["mask"][0, 4:].any()
    np.testing.assert_allclose(given["known"][0, :4], STATS.normalise(first[-4:]), atol=1e-5)
    rest = list(pieces)
    assert sum(map(len, (first, second, *rest))) == 100 and len(net.calls) == 3 * 10


def test_what_is_done_to_a_window_is_what_the_next_one_continues() -> None:
    net = Listener()

    def finish(window: Any, given: Any) -> Any:
        assert given[:, 0].sum() in (0, 4)
        return np.where(given, window, window + 1)

    first, second, *_ = chain(sampler(net), music(40), (0,), prefix=4, fade=0, cfg=1.0, finish=finish)
    np.testing.assert_allclose(first, target(music(40)[None])[0, :16] + 1, atol=1e-3)
    np.testing.assert_allclose(net.calls[-1]["known"][0, :4], STATS.normalise(second[-4:]), atol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: s.dance(AUDIO, [(0,)]), "music for 3 clips, noise for 1"),
        (lambda s: s.dance(None, [(0,)]), "1 clips of 0 frames"),
        (lambda s: s.dance(None, []), "0 clips"),
        (lambda s: s.dance(music(40)[:, :3], [(0,)]), "needs 4 features a frame at 30 fps"),
        (lambda s: s.dance(music(40) * np.nan, [(0,)]), "160 values of the audio features are not finite"),
        (lambda s: s.dance(music(40), [(0,)], overlap=16), "an overlap of 16 frames in windows of 16"),
        (lambda s: s.sample(music(40)), "40 frames at once: the model has learned 16"),
        (
            lambda s: next(chain(s, music(40), (0,), prefix=16)),
            "a prefix of 16 and a fade of 2 frames in windows of 16",
        ),
        (lambda s: next(chain(s, None, (0,))), "a dance of 0 frames"),
        (
            lambda s: s.dance(music(40), [(0,)], known=np.zeros((39, 25)), mask=np.ones((40, 7))),
            "known frames of shape",
        ),
    ],
)
def test_what_cannot_be_danced_is_said(call: Any, message: str) -> None:
    with pytest.raises((DataError, UsageError), match=message):
        call(sampler())


def test_statistics_of_the_small_dancer_are_usable() -> None:
    from choreo_cli.dataset.motions_stats import check

    check(stats())
