"""Find arms and legs by the shape of a tree alone, for rigs whose joint names say nothing."""

from __future__ import annotations

import warnings

import numpy as np

from formats.foreign.model import F64


def limbs_by_shape(parents: list[int], rest: F64, world: F64) -> dict[str, int] | None:
    """Map `l_hip ... r_wrist` to joints by topology; None when the tree is no two-legged body.

    A fork is a joint with two child branches of equal bone lengths. The legs hang on the fork nearest the root whose
    tips are lowest, the arms on another fork. The side is decided by where the feet point.

    Args:
        parents: Parent of each joint, parents first.
        rest: (J,) bone length of each joint.
        world: (T, J, 3) positions.
    """
    tiny = 1e-3 * float(rest.max(initial=0.0))
    children: list[list[int]] = [[] for _ in parents]
    for i, parent in enumerate(parents):
        if parent >= 0:
            children[parent].append(i)
    if tiny == 0 or max(len(c) for c in children) > 32:
        return None
    forks = []
    for joint, below in enumerate(children):
        chains = [(c, _chain(c, children, rest, tiny)) for c in below]
        for i, (a, one) in enumerate(chains):
            for b, two in chains[i + 1 :]:
                if min(len(one), len(two)) >= 3 and np.allclose(rest[one[:3]], rest[two[:3]], rtol=0.1, atol=tiny):
                    forks.append((joint, a, b, one, two))
    if len(forks) < 2:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        middle = np.nanmedian(world[:: max(1, len(world) // 256)], axis=0)
    depth = [_depth(f[0], parents) for f in forks]
    legs = forks[int(np.argmin(depth))]
    arms = next(
        (f for f in forks if f is not legs and len(f[3]) >= 3 and not _inside(f[0], (legs[1], legs[2]), parents)), None
    )
    if arms is None:
        return None
    found: dict[str, int] = {}
    leg_pair = [_last_three(c, rest, legs[0], tiny, leg=True) for c in (legs[3], legs[4])]
    arm_pair = [_last_three(c, rest, arms[0], tiny, leg=False) for c in (arms[3], arms[4])]
    up = middle[arms[0]] - middle[legs[0]]
    forward = sum(
        (middle[c[-1]] - middle[t[2]] for c, t in zip((legs[3], legs[4]), leg_pair, strict=True)), np.zeros(3)
    )
    left = np.cross(up, forward)
    for pair, parts in ((leg_pair, ("hip", "knee", "ankle")), (arm_pair, ("shoulder", "elbow", "wrist"))):
        first_is_left = float(np.dot(middle[pair[0][0]] - middle[pair[1][0]], left)) >= 0
        for side, chain in zip("lr" if first_is_left else "rl", pair, strict=True):
            found.update({f"{side}_{part}": joint for part, joint in zip(parts, chain, strict=True)})
    if len(set(found.values())) < 12:
        return None
    for side in "lr":
        above = parents[found[f"{side}_shoulder"]]
        if above != arms[0]:
            found[f"{side}_collar"] = above
    return found


def _chain(joint: int, children: list[list[int]], rest: F64, tiny: float) -> list[int]:
    """The chain of joints at a distance from each other, down the longest branch."""
    chain: list[int] = []
    seen = 0
    while seen < 64:
        seen += 1
        if rest[joint] > tiny or not chain:
            chain.append(joint)
        if not children[joint] or len(children[joint]) > 4:
            break
        joint = max(children[joint], key=lambda c: rest[c])
    return chain


def _last_three(chain: list[int], rest: F64, fork: int, tiny: float, leg: bool) -> list[int]:
    """The three joints around a limb's two longest neighbouring bones: hip-knee-ankle, shoulder-elbow-wrist."""
    lengths = [rest[j] for j in chain[1:]]
    best = max(range(len(lengths) - 1), key=lambda i: lengths[i] + lengths[i + 1]) if len(lengths) > 1 else 0
    return chain[best : best + 3]


def _depth(joint: int, parents: list[int]) -> int:
    depth = 0
    while joint >= 0:
        joint, depth = parents[joint], depth + 1
    return depth


def _inside(joint: int, branches: tuple[int, int], parents: list[int]) -> bool:
    while joint >= 0:
        if joint in branches:
            return True
        joint = parents[joint]
    return False
