"""Biomechanics against poses whose answer is known, and against plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest

from choreo_cli.motion import biomechanics as body
from choreo_cli.motion.biomechanics_params import (
    CAPSULES,
    LIMIT_NAMES,
    SEGMENTS,
    described,
    pair_names,
    pairs,
    rest_pose,
    segment_rows,
)
from formats.foreign.joints import CANONICAL
from tests.metrics.motion_material import dance, standing

AT = {name: k for k, name in enumerate(CANONICAL)}
REST = np.array([0.05, 0.05])


def turned(x: np.ndarray, names: tuple[str, ...], about: str, axis: int, degrees: float) -> np.ndarray:
    """Some joints turned about another one."""
    a = math.radians(degrees)
    c, s = math.cos(a), math.sin(a)
    i, j = [k for k in range(3) if k != axis]
    out = x.copy()
    for name in names:
        v = x[..., AT[name], :] - x[..., AT[about], :]
        w = v.copy()
        w[..., i], w[..., j] = c * v[..., i] - s * v[..., j], s * v[..., i] + c * v[..., j]
        out[..., AT[name], :] = x[..., AT[about], :] + w
    return out


def over(x: np.ndarray) -> dict[str, float]:
    return dict(zip(LIMIT_NAMES, body.limit_excess(x).max(axis=0), strict=True))


def test_a_standing_body_breaks_nothing() -> None:
    x = standing(5)
    assert body.stature(x) == pytest.approx(1.7)
    assert max(over(x).values()) == 0
    assert body.self_penetration(x).max() == 0
    assert np.degrees(body.hinge_flexion(x)) == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("bend,beyond", [(60, 0), (150, 0), (165, 10), (-5, 0), (-40, 30)])
def test_a_knee_bends_to_the_back_only(bend: float, beyond: float) -> None:
    # About x: the shin swings to -z for a positive bend.
    x = turned(standing(3), ("l_ankle", "l_toe"), "l_knee", 0, bend)
    assert np.degrees(body.hinge_flexion(x))[0, 2] == pytest.approx(bend, abs=1e-6)
    assert over(x)["l_knee"] == pytest.approx(beyond, abs=1e-6)
    assert over(x)["r_knee"] == 0


def test_an_elbow_folds_to_155_degrees_whatever_the_side() -> None:
    for sign in (1, -1):
        x = turned(standing(2), ("l_wrist",), "l_elbow", 1, sign * 160)
        assert over(x)["l_elbow"] == pytest.approx(5, abs=1e-6)


def test_pelvis_tilt_and_chest_rotation_and_reach() -> None:
    x = standing(2)
    upside = x * [1, -1, -1]
    assert over(upside)["pelvis_tilt"] == pytest.approx(90, abs=6)  # the T-pose's spine leans a little
    above = tuple(
        n for n in CANONICAL if n in ("neck", "head") or n.split("_")[-1] in ("collar", "shoulder", "elbow", "wrist")
    )
    assert over(turned(x, above, "spine2", 1, 100))["chest_rotation"] == pytest.approx(100 - math.degrees(1.6), abs=1.0)
    assert over(turned(x, above, "spine2", 1, 80))["chest_rotation"] == 0
    # Bones that stretch in one frame of two: the mean of both is the limb's length.
    far = np.concatenate([x[:1], x[:1]])
    far[1, AT["l_wrist"], 0] += 0.2
    assert over(far)["l_arm_reach"] > 10 and over(far)["r_arm_reach"] == 0


def test_limits_do_not_depend_on_where_or_which_way_the_body_stands() -> None:
    x = dance(2)
    a = 1.1
    r = np.array([[math.cos(a), 0, math.sin(a)], [0, 1, 0], [-math.sin(a), 0, math.cos(a)]])
    moved = x @ r.T + np.array([3.0, 0, -2.0])
    assert body.limit_excess(moved) == pytest.approx(body.limit_excess(x), abs=1e-9)
    assert body.self_penetration(moved) == pytest.approx(body.self_penetration(x), abs=1e-12)


def test_segment_distance_is_that_of_a_fine_search() -> None:
    rng = np.random.default_rng(3)
    a, b, c, d = rng.uniform(-1, 1, (4, 40, 3))
    u = np.linspace(0, 1, 201)
    for k in range(40):
        p = a[k] + u[:, None] * (b[k] - a[k])
        q = c[k] + u[:, None] * (d[k] - c[k])
        best = np.linalg.norm(p[:, None] - q[None], axis=-1).min()
        assert body.segment_distance(a[k], b[k], c[k], d[k]) == pytest.approx(best, abs=5e-3)
        assert body.segment_distance(a[k], b[k], c[k], d[k]) <= best + 1e-12


def test_parallel_crossing_and_empty_segments() -> None:
    o, x, y, z = np.zeros(3), *np.eye(3)
    assert body.segment_distance(o, x, y, x + y) == pytest.approx(1)
    assert body.segment_distance(-x, x, -y + z, y + z) == pytest.approx(1)
    assert body.segment_distance(-x, x, -y, y) == pytest.approx(0, abs=1e-9)
    assert body.segment_distance(x, x, o, o) == pytest.approx(1)
    assert body.segment_distance(o, x, 3 * x, 4 * x) == pytest.approx(2)


def test_an_arm_through_the_trunk_is_found() -> None:
    x = standing(2)
    middle = (x[:, AT["spine2"]] + x[:, AT["neck"]]) / 2
    x[:, AT["l_elbow"]] = middle + np.array([0.15, 0, 0.0])
    x[:, AT["l_wrist"]] = middle + np.array([-0.10, 0, 0.0])
    found = dict(zip(pair_names(), body.self_penetration(x)[0], strict=True))
    assert found["spine2-neck x l_elbow-l_wrist"] == pytest.approx((0.055 + 0.018) * 1.7, abs=1e-3)
    assert found["spine2-neck x r_elbow-r_wrist"] == 0


def test_pairs_that_touch_at_rest_do_not_count() -> None:
    assert len(pairs()) > 50
    gaps = body.capsule_gaps(rest_pose(), np.ones(()))
    assert (gaps > 0).all()
    names = pair_names()
    assert not any({*a.split("-")} & {*b.split("-")} for a, b in (n.split(" x ") for n in names))
    assert described()["pairs"] == len(pairs()) and len(described()["capsules"]) == len(CAPSULES)


def test_masses_add_up_and_the_centre_is_that_of_the_segments() -> None:
    assert sum(s.mass for s in SEGMENTS) == pytest.approx(1.0)
    assert segment_rows().sum() == pytest.approx(1.0)
    x = dance(1)
    expected = np.zeros(3)
    for s in SEGMENTS:
        first = sum(x[7, AT[n]] for n in s.start) / len(s.start)
        last = sum(x[7, AT[n]] for n in s.end) / len(s.end)
        expected = expected + s.mass * (first + s.centre * (last - first))
    assert body.centre_of_mass(x)[7] == pytest.approx(expected, abs=1e-12)
    # Winter's own check: about 55-60 % of the stature.
    assert 0.5 < body.centre_of_mass(standing(1))[0, 1] / 1.7 < 0.62


def test_support_is_the_hull_of_the_soles_that_stand() -> None:
    x = standing(1)
    both, left, none = (np.array([c], float) for c in ((1, 1), (1, 0), (0, 0)))
    assert body.support_distance(x, both)[0] == 0
    # On the left foot alone the centre stands half a hip width from the sole's line.
    line = 0.05 * 1.7 - 0.025 * 1.7
    assert body.support_distance(x, left)[0] == pytest.approx(line, abs=1e-6)
    assert np.isnan(body.support_distance(x, none)[0])
    lean = x.copy()
    lean[:, :, 2] += x[:, :, 1] * 0.5
    assert body.support_distance(lean, both)[0] > 0.2


def test_hull_distance_by_hand() -> None:
    square = [np.array(p, float) for p in ((0, 0), (1, 0), (1, 1), (0, 1))]
    for p, want in (((0.5, 0.5), 0), ((0.1, 0.9), 0), ((2, 0.5), 1), ((2, 2), math.sqrt(2)), ((0.5, -3), 3)):
        assert body.hull_distance(np.array(p, float), square) == pytest.approx(want, abs=1e-9)
    line = [np.zeros(2), np.array([1.0, 0]), np.zeros(2), np.array([1.0, 0])]
    assert body.hull_distance(np.array([0.5, 0.2]), line) == pytest.approx(0.2)


def test_feet_below_and_contacts_above_the_floor() -> None:
    x = standing(4)
    rest = np.array([x[0, AT["l_ankle"], 1]] * 2)
    down = x - np.array([0, 0.02, 0])
    assert body.ground_penetration(down, rest)[0] == pytest.approx([0.02] * 4)
    up = x + np.array([0, 0.08, 0])
    assert body.ground_penetration(up, rest).max() == 0
    assert body.floating(up, np.ones((4, 2)), rest) == pytest.approx(np.full(4, 0.05))
    assert body.floating(up, np.zeros((4, 2)), rest).max() == 0


def test_a_thrown_body_is_in_free_flight() -> None:
    fps = 60.0
    t = np.arange(30) / fps
    x = standing(30)
    x = x + np.stack([1.5 * t, 0.2 + 3.0 * t - 0.5 * body.GRAVITY * t**2, -0.5 * t], -1)[:, None]
    assert np.abs(body.flight_residual(x, fps)).max() < 1e-9
    flies = body.in_flight(x, np.zeros((30, 2)), REST)
    assert flies[1:20].all()
    assert not body.in_flight(standing(3), np.zeros((3, 2)), REST).any()
    held = body.flight_residual(np.repeat(x[:1], 5, axis=0), fps)
    assert held[:, 1] == pytest.approx(np.full(3, body.GRAVITY))


def test_a_batch_is_its_clips() -> None:
    batch = np.stack([dance(1, seed=k) for k in range(3)])
    contacts = np.ones((*batch.shape[:2], 2))
    rest = np.tile(REST, (3, 1))
    for k in range(3):
        assert (body.limit_excess(batch)[k] == body.limit_excess(batch[k])).all()
        assert (body.self_penetration(batch)[k] == body.self_penetration(batch[k])).all()
        assert (body.support_distance(batch, contacts)[k] == body.support_distance(batch[k], contacts[k])).all()
        assert (body.ground_penetration(batch, rest)[k] == body.ground_penetration(batch[k], REST)).all()
        assert (body.flight_residual(batch, 30.0)[k] == body.flight_residual(batch[k], 30.0)).all()
