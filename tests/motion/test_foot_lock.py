"""Where a drawn foot stepped under contact: runs are cut there, what stands keeps its bits, and there is an end to it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from choreo_cli.motion.capture_state import DOFS, ankles_of, set_ankles
from choreo_cli.motion.foot_lock import MOST_M, RELEASED, let_step, lock_feet, runs_of
from choreo_cli.motion.skeleton import canonical_skeleton

F64 = NDArray[np.float64]
BODY = canonical_skeleton(1.7)
LEG = np.asarray(BODY.thigh) + np.asarray(BODY.shank)
FPS = 30.0


def standing(way: F64) -> F64:
    """States (T, 23) of a body 0.85 m high whose feet go this way (T,) along z, 0.1 m to either side, at their floor."""
    q = np.zeros((len(way), DOFS))
    q[:, 1], q[:, 2] = 0.85, way
    world = np.stack([np.stack([np.full(len(way), x), np.full(len(way), BODY.ank0[0]), way], -1) for x in (0.1, -0.1)])
    return set_ankles(q, world.transpose(1, 0, 2), LEG)


def drift(frames: int = 90, metres: float = 0.5) -> F64:
    s = np.linspace(0, 1, frames)
    return metres * s * s * (3 - 2 * s)


def test_a_drawn_walk_under_contact_is_cut_and_no_foot_is_dragged() -> None:
    q, contacts = standing(drift()), np.ones((90, 2))
    whole = lock_feet(q, contacts, BODY, FPS)
    assert whole.moved_m > 0.2 and whole.runs == 2
    loose = let_step(q, contacts, BODY, FPS)
    assert set(np.unique(loose)) == {RELEASED, 1.0}
    assert 0.8 < (loose == 1).mean() < 1  # a foot that is let go everywhere would be no answer
    found = lock_feet(q, loose, BODY, FPS)
    assert found.runs > 2 and found.moved_m <= 0.1 and found.lowered_m <= 0.02
    ankles = ankles_of(found.q, LEG)
    for side in (0, 1):
        for start, end in runs_of(loose[:, side]):
            assert np.ptp(ankles[start:end, side], axis=0).max() < 1e-9


def test_a_foot_that_goes_away_and_comes_back_under_contact_did_step() -> None:
    way = np.zeros(60)
    way[25:35] = 0.3
    lifted = standing(np.zeros(60))
    lifted[25:35, 16] += 0.3 / LEG[0]  # straight up, and only the left one
    for q, feet in ((standing(way), (0, 1)), (lifted, (0,))):
        loose = let_step(q, np.ones((60, 2)), BODY, FPS)
        assert [s for s in (0, 1) if (loose[:, s] < 0.5).any()] == list(feet)
        assert lock_feet(q, loose, BODY, FPS).moved_m <= 0.1


def test_a_run_that_stands_keeps_its_bits() -> None:
    rng = np.random.default_rng(0)
    contacts = rng.uniform(0.2, 1.0, (90, 2))
    steady = standing(1.9 * MOST_M * np.linspace(-0.5, 0.5, 90))
    assert let_step(steady, contacts, BODY, FPS).tobytes() == contacts.tobytes()
    assert let_step(steady, np.zeros((90, 2)), BODY, FPS).max() == 0
    under = steady.copy()
    under[:, 1] -= 0.3  # a floor that is missed by far is no step: the lock lifts the whole run
    assert let_step(under, contacts, BODY, FPS).tobytes() == contacts.tobytes()


def test_the_time_that_is_let_go_does_not_hang_on_the_frame_rate() -> None:
    for fps in (20, 30, 60, 120):
        at = np.arange(3 * fps) / fps
        loose = let_step(standing(0.3 * np.clip(10 * (at - 1.5), 0, 1)), np.ones((3 * fps, 2)), BODY, float(fps))
        gone = np.flatnonzero((loose < 0.5).all(1)) / fps
        assert len(gone) / fps == pytest.approx(2 / 15, abs=1.1 / fps) and (abs(gone - 1.55) < 0.1).all()


FIXED: dict[str, Any] = {
    "all": lambda n: np.ones(n, bool), "none": lambda n: np.zeros(n, bool), "every other": lambda n: np.arange(n) % 2 == 0,
    "first": lambda n: np.arange(n) < n // 3, "last": lambda n: np.arange(n) >= n - 1, "middle": lambda n: np.arange(n) == n // 2,
}  # fmt: skip
DOWN: dict[str, Any] = {
    "whole": lambda n: np.ones((n, 2)), "single": lambda n: np.stack([np.arange(n) % 2, np.arange(n) % 3 == 0], -1) * 1.0,
    "pairs": lambda n: (np.arange(n)[:, None] % 4 < [[2, 3]]) * 0.5,
}  # fmt: skip


@pytest.mark.parametrize("fixed", FIXED)
@pytest.mark.parametrize("down", DOWN)
@pytest.mark.parametrize("frames", [1, 2, 3, 61])
def test_there_is_an_end_whatever_is_given_and_given_contacts_stay(fixed: str, down: str, frames: int) -> None:
    rng = np.random.default_rng(frames)
    q = standing(np.cumsum(rng.normal(0, 0.4, frames)))
    kept, contacts = FIXED[fixed](frames), DOWN[down](frames)
    loose = let_step(q, contacts, BODY, FPS, kept)
    assert (loose[kept] == contacts[kept]).all() and ((loose == contacts) | (loose == RELEASED)).all()
    assert let_step(q, loose, BODY, FPS, kept).tobytes() == loose.tobytes()
    found = lock_feet(q, loose, BODY, FPS, kept)
    assert found.q[kept].tobytes() == q[kept].tobytes()
    free = ~kept[:, None] & (loose >= 0.5)
    moved = np.linalg.norm(ankles_of(found.q, LEG) - ankles_of(q, LEG), axis=-1)
    assert moved[free].max(initial=0.0) <= MOST_M + 1e-9
