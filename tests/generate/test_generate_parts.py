"""Texts, root paths, the early decision, and checkpoints that are refused."""

from __future__ import annotations

import json
import math
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from choreo_cli.errors import DataError, UsageError
from choreo_cli.generate import decision
from choreo_cli.generate.root_path import Place, correct_root
from choreo_cli.generate.text import HashEncoder, text_encoder
from choreo_cli.motion.choreo25 import integrate_root

RNG = np.random.default_rng(0)

# Texts.


def cosine(a: str, b: str) -> float:
    x, _ = HashEncoder().encode([a, b])
    return float(x[0] @ x[1])


def test_hashed_texts_compare_spelling_and_not_meaning() -> None:
    x, tokens = text_encoder("hash").encode(["a person jumps twice", "", " ... ", "Straße 7"])
    assert x.shape == (4, 384) and x.dtype == np.float32 and tokens is None
    np.testing.assert_allclose(np.linalg.norm(x, axis=1), [1, 0, 0, 1], atol=1e-6)
    near = cosine("a person jumps twice", "a person jumps")
    assert near > 0.7 > 0.35 > abs(cosine("a person jumps twice", "the dancer jumped two times"))
    assert abs(cosine("a person jumps twice", "slow wavy floor work")) < 0.2
    assert cosine("Turn LEFT", "turn left!") == pytest.approx(1)
    assert cosine("left then right", "right then left") < 0.99  # order is seen through pairs
    assert HashEncoder.semantic is False and HashEncoder.kind == "lexical"


def test_hashed_texts_are_the_same_on_every_machine() -> None:
    x, _ = HashEncoder().encode(["turn left"])
    at = np.flatnonzero(x[0]).tolist()
    assert at == HASHED and float(np.abs(x[0]).max()) <= 1
    with pytest.raises(DataError, match="5000 characters"):
        HashEncoder().encode(["a" * 5000])
    with pytest.raises(UsageError, match="no text encoder 'clip'"):
        text_encoder("clip")


HASHED = [11, 13, 83, 100, 134, 214, 235, 271, 290, 329, 382]


# The root's path.


def clip(frames: int = 64) -> Any:
    channels = RNG.normal(size=(frames, 25)) * 0.5
    channels[:, 2] = 1.0
    channels[-1, [0, 1, 3]] = channels[-2, [0, 1, 3]]
    return channels.astype(np.float32)


@pytest.mark.parametrize("fps", [20.0, 30.0, 60.0])
def test_places_are_met_and_nothing_else_changes(fps: float) -> None:
    x, start = clip(), (0.4, 1.0, -2.0)
    places = [Place(20, 0.5, -1.0), Place(63, 2.0, 0.3, yaw=1.2), Place(40, 1.5, -1.5)]
    found = correct_root(x, fps, places, start=start)
    yaw, root = integrate_root(found, fps, *start)
    for p in places:
        assert root[p.frame, [0, 2]] == pytest.approx([p.x, p.z], abs=2e-5)
    assert yaw[63] == pytest.approx(1.2, abs=1e-5)
    rest = [k for k in range(25) if k not in (0, 1, 3)]
    assert np.array_equal(found[:, rest], x[:, rest])
    assert np.array_equal(found[-1, [0, 1, 3]], found[-2, [0, 1, 3]])


def test_the_change_is_the_least_there_is() -> None:
    x = np.zeros((31, 25))
    plain = correct_root(x, 30.0, [Place(30, 3.0, 0.0)], smooth=0)
    np.testing.assert_allclose(plain[:, 0], 3.0, atol=1e-6)  # 3 m in 1 s
    half = correct_root(x, 30.0, [Place(15, 1.5, 0.0)], smooth=0)
    np.testing.assert_allclose(half[:-1, 0], np.r_[np.full(15, 3.0), np.zeros(15)], atol=1e-6)
    even = correct_root(x, 30.0, [Place(15, 1.5, 0.0)], smooth=50)
    assert np.abs(np.diff(even[:-1, 0])).max() < 0.5 and integrate_root(even, 30.0)[1][15, 0] == pytest.approx(
        1.5, abs=1e-5
    )
    here = clip()
    _, root = integrate_root(here, 30.0)
    same = correct_root(here, 30.0, [Place(50, root[50, 0], root[50, 2])])
    np.testing.assert_allclose(same, here, atol=1e-5)


def test_fixed_frames_stay_bit_for_bit() -> None:
    x = clip()
    fixed = np.zeros(64, bool)
    fixed[:16] = fixed[60:] = True
    found = correct_root(x, 30.0, [Place(63, 1.0, 1.0, 0.2)], fixed=fixed)
    assert found[fixed].tobytes() == x[fixed].tobytes()
    assert integrate_root(found, 30.0)[1][63, [0, 2]] == pytest.approx([1, 1], abs=2e-5)
    fixed[:] = True
    with pytest.raises(DataError, match="no frame may change between the places"):
        correct_root(x, 30.0, [Place(10, 1.0, 1.0)], fixed=fixed)


@pytest.mark.parametrize("frames", [[], [0], [64], [5, 5]])
def test_impossible_places_are_refused(frames: list[int]) -> None:
    with pytest.raises(UsageError, match="different frames from 1 to 63"):
        correct_root(clip(), 30.0, [Place(k, 0, 0) for k in frames])


def test_values_that_are_not_finite_are_refused() -> None:
    with pytest.raises(DataError, match="the place at frame 3"):
        correct_root(clip(), 30.0, [Place(3, math.nan, 0)])
    with pytest.raises(DataError, match="not finite"):
        correct_root(np.full((9, 25), np.nan), 30.0, [Place(3, 0, 0)])


# The early decision.

COMMANDS = ("choreo distill --method consistency r m -o s",)


@pytest.mark.parametrize(
    ("losses", "near", "far", "go_on", "said"),
    [
        ([3, 2, 1, 0.9, 0.8, 0.7], 5.0, 1.0, True, "is falling: go on"),
        ([1, 1, 1, 1, 1, 1.01], 5.0, 1.0, False, "not falling: choreo distill --method consistency r m -o s"),
        ([1, 1, 1, 1, 1, 1.01], None, None, False, "not falling"),
        ([1, 1, 1, 1, 1, 1.01], 0.5, 1.0, True, "better than the mean pose: go on"),
        ([1, 2], 5.0, 1.0, True, "2 validations say nothing of a trend yet"),
        ([9, 8, 7, 6, 5, 4, 1, 2, 3], 5.0, 1.0, False, "not falling"),
    ],
)
def test_decisions(losses: list[float], near: float | None, far: float | None, go_on: bool, said: str) -> None:
    found = decision.decide(losses, near, far, COMMANDS)
    assert found.go_on is go_on and said in found.sentence
    assert found.commands == (() if go_on else COMMANDS)
    json.dumps(found.record(), allow_nan=False)
    entry = found.metric()
    assert entry["pass"] is (None if near is None else near <= far) and entry["params"]["decision"] == found.sentence


def test_the_way_out_is_a_command_a_shell_understands(tmp_path: Path) -> None:
    run, data = tmp_path / "a run", Path("my motions")
    only = decision.way_out("ddim", run, data, "tiny", 3)
    assert len(only) == 1
    words = shlex.split(only[0])
    assert words[:4] == ["choreo", "distill", "--method", "consistency"] and str(run) in words and str(data) in words
    train, distill = (shlex.split(c) for c in decision.way_out("flow", run, data, "full", 3))
    assert train[:4] == ["choreo", "train", "ddim", "my motions"] and "size=full" in train
    assert train[-1] == f"{run}-ddim" and f"{run}-ddim" in distill


def test_losses_of_a_log(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    rows = [{"kind": "step", "loss": 9}, {"kind": "validation", "loss": 2.5}, {"kind": "validation", "loss": None}]
    log.write_text("".join(json.dumps(r) + "\n" for r in rows))
    assert decision.validation_losses(log) == [2.5] and decision.validation_losses(tmp_path / "none") == []


def test_distances_of_window_sets() -> None:
    real = RNG.normal(size=(400, 16, 25))
    assert decision.distance_to(real, real) == 0
    near, far = decision.distance_to(real, RNG.normal(size=(400, 16, 25))), decision.distance_to(real, 0 * real)
    assert near < 0.5 < 20 < far
    a, b = decision.window_features(real), decision.window_features(2 * real)
    by_hand = ((a.mean(0) - b.mean(0)) ** 2).sum() + ((a.std(0) - b.std(0)) ** 2).sum()
    assert decision.distance_to(real, 2 * real) == pytest.approx(by_hand)
