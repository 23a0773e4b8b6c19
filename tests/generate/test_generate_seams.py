"""A minute of a dancer that was trained for two hundred steps: no seams, and the beat is met at the end as before."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from dancing_windows import Windows, recipe

pytestmark = pytest.mark.slow

T, BPM = 1800, 118.0


@pytest.fixture(scope="module")
def sampler(tmp_path_factory: pytest.TempPathFactory) -> Any:
    pytest.importorskip("torch")
    from choreo_cli.generate.model_files import sampler_from, torch_forward
    from choreo_cli.training.loop import fit

    windows = Windows(8)
    made = recipe(
        "flow", windows, steps=200, epochs=1000, batch=16, warmup=20, ema=0.98, val_windows=8, structure_clips=4
    )  # fmt: skip
    fitted = fit(made, tmp_path_factory.mktemp("run"), identity="seams", seed=0)
    facts = {**made.facts, "fps": 30.0}
    return sampler_from(torch_forward(fitted.model), made.shape, facts, windows.stats)


@pytest.fixture(scope="module")
def music() -> Any:
    """The features of the training's music for a minute at one tempo."""
    phase = (np.arange(T) / 30 * BPM / 60)[:, None] * np.arange(1, 6)
    return np.cos(2 * np.pi * phase).astype(np.float32)


def seams_and_beats(x: Any, seams: Any) -> tuple[float, Any]:
    """Jump at seams over the p99 of other frame differences, and the beat's share in each 10 s as a complex number."""
    from choreo_cli.motion.choreo25 import decode_channels
    from choreo_cli.motion.skeleton import canonical_skeleton

    joints = decode_channels(x, canonical_skeleton(1.7), 30.0)
    step = np.linalg.norm(np.diff(joints - joints[:, :1] * [1, 0, 1], axis=0), axis=-1).mean(1)
    at = np.zeros(len(step), bool)
    at[np.asarray(seams) - 1] = True
    turn = np.exp(-2j * np.pi * (np.arange(len(step)) + 0.5) / 30 * BPM / 60)
    blocks = [slice(k, k + 300) for k in range(0, T - 300, 300)]
    beat = [((step[b] - step[b].mean()) * turn[b]).mean() / step[b].std() for b in blocks]
    return float(step[at].max() / np.percentile(step[~at], 99)), np.array(beat)


def test_windows_that_share_their_overlap_have_no_seams_where_separate_ones_do(sampler: Any, music: Any) -> None:
    from choreo_cli.generate.long import cover

    jump, beat = seams_and_beats(sampler.dance(music, [(0,)])[0], cover(T, 64, 32).seams)
    assert jump <= 1.2
    assert np.abs(beat).min() > 0.1 and np.abs(np.angle(beat / beat.mean())).max() < 0.15 * 2 * np.pi
    apart, _ = seams_and_beats(sampler.dance(music, [(0,)], overlap=0)[0], cover(T, 64, 0).seams)
    assert apart > 1.2


def test_windows_that_follow_each_other_have_no_seams(sampler: Any, music: Any) -> None:
    from choreo_cli.generate.finish import finish
    from choreo_cli.generate.stream import chain
    from choreo_cli.motion.skeleton import canonical_skeleton

    body = canonical_skeleton(1.7)
    pieces = list(
        chain(sampler, music, (0,), finish=lambda window, given: finish(window, body, 30.0, given=given).channels)
    )
    jump, beat = seams_and_beats(np.concatenate(pieces), np.cumsum([len(p) for p in pieces])[:-1])
    assert jump <= 1.2
    assert np.abs(beat).min() > 0.1 and np.abs(np.angle(beat / beat.mean())).max() < 0.15 * 2 * np.pi
