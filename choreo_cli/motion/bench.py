"""Measure motion: encoding and decoding choreo25, reading a BVH, each beside a baseline and a floor of the same run."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.metrics.timing import best_in_turns
from formats.metrics import entry

F64 = NDArray[np.float64]

FPS, SECONDS = 30.0, 63.0
ENCODE_GOAL_US, DECODE_GOAL_US = 20.0, 5.0
BVH_GOAL_S, BVH_TIMES = 0.060, 20.0
_US = 1e6


def bench(
    *, seconds: float = SECONDS, clips: int = 8, repeats: int = 7, peer_frames: int = 200
) -> list[dict[str, Any]]:
    """Metric entries of this package's codec and reader.

    Args:
        seconds: Length of a clip at 30 fps.
        clips: Clips in a batch.
        repeats: Turns of every contestant; the best counts, because other work on the machine only adds time.
        peer_frames: Frames the slow baselines are measured on; their time is per frame.
    """
    joints = dances(clips, seconds)
    return [*codec(joints, repeats, peer_frames), bvh(seconds, repeats, peer_frames)]


def dances(clips: int, seconds: float) -> list[F64]:
    """Clips (T, 22, 3) of the procedural dancer, seeds 0, 1, ..."""
    from choreo_cli.motion.dancer import choreograph, poses, write_score

    found = []
    for seed in range(clips):
        rng = np.random.default_rng(seed)
        dance = choreograph(write_score(np.arange(-1.0, seconds + 1.0, 0.5), 0.7, rng), rng)
        found.append(poses(dance, np.arange(round(seconds * FPS)) / FPS))
    return found


def _in_turns(jobs: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Shortest CPU seconds of every job; no round warms up, so a single turn is a cold one."""
    return best_in_turns(jobs, repeats, time.process_time, warm_up=False)


def codec(joints: Sequence[F64], repeats: int, peer_frames: int) -> list[dict[str, Any]]:
    """Encoding (with the skeleton fit, and with a given skeleton) and decoding; microseconds a frame on one core.

    The floor is the memory traffic: joints into component-first order and back. The baseline is a script's loop over
    frames: two `align_vectors` of scipy to encode, three rotations of scipy and a product for each bone to decode.
    """
    from choreo_cli.motion import choreo25

    n = sum(len(j) for j in joints)
    made = [choreo25.encode(j, FPS) for j in joints]
    skeleton = made[0].header.skeleton
    batch = np.stack([m.channels for m in made])
    some = joints[0][:peer_frames]
    took = _in_turns(
        {
            "own": lambda: [choreo25.encode(j, FPS) for j in joints],
            "given": lambda: [choreo25.encode(j, FPS, skeleton=skeleton) for j in joints],
            "decode": lambda: choreo25.decode_channels(batch, skeleton, FPS),
            "floor": lambda: [_transpose_twice(j) for j in joints],
        },
        repeats,
    )
    us = {name: seconds / n * _US for name, seconds in took.items()}
    slow = _in_turns({"align": lambda: _align_frames(some), "turn": lambda: _turn_frames(some)}, 1)
    align, turn = (slow[k] / len(some) * _US for k in ("align", "turn"))
    params = {"frames": n, "clips": len(joints), "fps": FPS, "with_fit_us": round(us["own"], 2)}
    floor = ("joints transposed and back", us["floor"])
    return [
        entry(
            "motion.encode", us["own"], "us/frame", "lower", n=repeats, floor=floor,
            baseline=("scipy align_vectors, two a frame", align), goal=("<=", ENCODE_GOAL_US),
            params={**params, "given_skeleton_us": round(us["given"], 2)},
        ),
        entry(
            "motion.decode", us["decode"], "us/frame", "lower", n=repeats, floor=floor,
            baseline=("scipy rotations, one bone at a time", turn), goal=("<=", DECODE_GOAL_US), params=params,
        ),
    ]  # fmt: skip


def _transpose_twice(joints: F64) -> F64:
    return np.ascontiguousarray(np.ascontiguousarray(joints.transpose(2, 1, 0)).transpose(2, 1, 0))


def _align_frames(joints: F64) -> None:
    """What a script does for the torso alone: pelvis and chest fitted frame by frame."""
    from scipy.spatial.transform import Rotation

    pelvis, chest = joints[0, [1, 2, 3]] - joints[0, 0], joints[0, [12, 13, 14, 16, 17]] - joints[0, 9]
    for frame in joints:
        Rotation.align_vectors(frame[[1, 2, 3]] - frame[0], pelvis)
        Rotation.align_vectors(frame[[12, 13, 14, 16, 17]] - frame[9], chest)


def _turn_frames(joints: F64) -> None:
    """What a script does to place joints: parents first, one rotation and one product a bone."""
    from scipy.spatial.transform import Rotation

    from formats.foreign.joints import PARENTS

    offsets = joints[0, 1:] - joints[0, list(PARENTS[1:])]
    angles = np.random.default_rng(0).normal(0, 0.3, (22, 3))
    for frame in joints:
        place, turned = [frame[0]], [np.eye(3)]
        for k, parent in enumerate(PARENTS[1:]):
            turned.append(turned[parent] @ Rotation.from_euler("ZXY", angles[k]).as_matrix())
            place.append(place[parent] + turned[parent] @ offsets[k])


def bvh(seconds: float, repeats: int, peer_frames: int) -> dict[str, Any]:
    """Reading a BVH of 22 joints with six channels each and placing its joints, against a loop over joints.

    The baseline reads numbers with `float` and multiplies 4x4 matrices for every joint of every frame, as the BVH
    converters in Python do; the floor is the bytes and the angles alone.
    """
    from formats.foreign.bvh import parse
    from formats.foreign.bvh_kinematics import joint_positions
    from formats.foreign.source import Source

    with tempfile.TemporaryDirectory(prefix="choreo-bench-") as folder:
        path = Path(folder) / "bench.bvh"
        frames = round(seconds * FPS)
        text, names = bvh_text(frames)
        path.write_text(text, encoding="ascii")

        def ours() -> F64:
            clip = parse(Source.of(path))
            return joint_positions(clip, clip.values)

        took = _in_turns({"ours": ours, "floor": lambda: _least(path, len(names), frames)}, repeats)
        start = time.process_time()
        theirs = loop_over_joints(path.read_text(encoding="ascii"), min(peer_frames, frames))
        loop_s = (time.process_time() - start) * frames / len(theirs)
        apart = float(np.abs(ours()[: len(theirs)] - theirs).max())
    goal = min(BVH_GOAL_S, loop_s / BVH_TIMES)
    return entry(
        "motion.bvh", took["ours"], "s", "lower", n=repeats, baseline=("a loop over joints", loop_s),
        floor=("bytes read, a sine and a cosine an angle", took["floor"]), goal=("<=", goal),
        params={
            "frames": frames, "joints": len(names), "channels": 6 * len(names), "times_baseline": loop_s / took["ours"],
            "goal_times": BVH_TIMES, "largest_difference": apart,
        },
    )  # fmt: skip


def bvh_text(frames: int, seed: int = 0) -> tuple[str, list[str]]:
    """A BVH of the 22 joints, six channels each in the order ZXY, smooth random rotations; its text and joint names."""
    from choreo_cli.motion.skeleton import canonical_skeleton
    from formats.foreign.joints import CANONICAL, PARENTS

    offsets = _offsets(canonical_skeleton(1.7))
    children: dict[int, list[int]] = {}
    for k, parent in enumerate(PARENTS):
        children.setdefault(parent, []).append(k)
    order: list[int] = []
    lines = ["HIERARCHY"]

    def put(k: int, depth: int) -> None:
        order.append(k)
        pad = "  " * depth
        lines.extend([f"{pad}{'ROOT' if depth == 0 else 'JOINT'} {CANONICAL[k]}", f"{pad}{{"])
        lines.append(f"{pad}  OFFSET {' '.join(f'{v:.6f}' for v in offsets[k] * 100)}")
        lines.append(f"{pad}  CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation")
        for child in children.get(k, []):
            put(child, depth + 1)
        if k not in children:
            lines.extend([f"{pad}  End Site", f"{pad}  {{", f"{pad}    OFFSET 0 5 0", f"{pad}  }}"])
        lines.append(f"{pad}}}")

    put(0, 0)
    rng = np.random.default_rng(seed)
    t = np.arange(frames)[:, None, None] / FPS
    turns = 25 * np.sin(2 * np.pi * rng.uniform(0.2, 1.5, (1, 22, 3)) * t + rng.uniform(0, 6.3, (1, 22, 3)))
    values = np.concatenate([np.broadcast_to(offsets[order] * 100, (frames, 22, 3)), turns], -1)
    lines += ["MOTION", f"Frames: {frames}", f"Frame Time: {1 / FPS:.7f}"]
    lines += [" ".join(f"{v:.6f}" for v in row) for row in values.reshape(frames, -1)]
    return "\n".join(lines) + "\n", [CANONICAL[k] for k in order]


def _offsets(skeleton: Any) -> F64:
    """Rest offsets (22, 3) from the parents, metres."""
    out = np.zeros((22, 3))
    out[0] = (0, 0.95, 0)
    out[[1, 2, 3]], out[6], out[9] = skeleton.op, skeleton.o6, skeleton.o9
    out[[12, 13, 14]], out[15] = skeleton.oc[:3], skeleton.o15
    out[[16, 17]] = skeleton.oc[3:] - skeleton.oc[1:3]
    for k, (lengths, down) in {
        4: (skeleton.thigh, 1), 7: (skeleton.shank, 1), 18: (skeleton.upper_arm, 0), 20: (skeleton.forearm, 0),
    }.items():  # fmt: skip
        for side, sign in ((0, 1.0), (1, -1.0)):
            out[k + side] = (0, -lengths[side], 0) if down else (sign * lengths[side], 0, 0)
    out[[10, 11], 2] = skeleton.foot
    return out


def _least(path: Path, joints: int, frames: int) -> None:
    """What no reader can leave out: the bytes once through memory, a sine and a cosine for every angle."""
    data = np.frombuffer(path.read_bytes(), np.uint8)
    angles = np.resize(data, (frames, joints, 3)).astype(np.float64)
    np.sin(angles)
    np.cos(angles)


def loop_over_joints(text: str, frames: int) -> F64:
    """Joint positions (frames, J, 3) of a BVH with six channels a joint, the way a plain Python library does it."""
    head, _, motion = text.partition("MOTION")
    parents: list[int] = []
    stack: list[int] = []
    end = False
    for line in head.splitlines():
        words = line.split()
        if words[0] in ("ROOT", "JOINT"):
            parents.append(stack[-1] if stack else -1)
            stack.append(len(parents) - 1)
        elif words[0] == "End":
            end = True
        elif words[0] == "}":
            if end:
                end = False
            else:
                stack.pop()
    out = np.empty((frames, len(parents), 3))
    for t, line in enumerate(motion.splitlines()[3 : 3 + frames]):
        values = [float(word) for word in line.split()]
        world: list[F64] = []
        for k, parent in enumerate(parents):
            own = np.eye(4)
            own[:3, 3] = values[6 * k : 6 * k + 3]
            for axis, degrees in zip("ZXY", values[6 * k + 3 : 6 * k + 6], strict=True):
                own = np.dot(own, _axis_matrix(axis, degrees))
            world.append(own if parent < 0 else np.dot(world[parent], own))
            out[t, k] = np.dot(world[-1], np.array([0.0, 0.0, 0.0, 1.0]))[:3]
    return out


def _axis_matrix(axis: str, degrees: float) -> F64:
    """A 4x4 rotation, as scripts write it."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    m = np.eye(4)
    i, j = {"X": (1, 2), "Y": (2, 0), "Z": (0, 1)}[axis]
    m[i, i], m[j, j], m[j, i], m[i, j] = c, c, s, -s
    return m
