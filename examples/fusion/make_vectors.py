"""Write the five recorded sequences of the fusion filter: python examples/fusion/make_vectors.py [FOLDER].

Seeded and deterministic: running it again must leave the files as they are. The format is that of
`choreo_cli/motion/fusion_vectors.py`. Run it only after a change of the filter that is meant, and say why.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from choreo_cli.motion.capture_simulate import Sensor, danced, simulate
from choreo_cli.motion.fusion import LAG_US
from choreo_cli.motion.fusion_model import NOISE
from choreo_cli.motion.fusion_pose import PoseReader
from choreo_cli.motion.fusion_readings import PointReading, PoseReading, Reading, WatchReading
from choreo_cli.motion.fusion_vectors import record_of, written
from choreo_cli.motion.skeleton import canonical_skeleton

BODY = canonical_skeleton(1.70)
SECONDS = 1.6
SEED = 7
PHONE = Sensor("phone", "pose", 20.0, 0.03)
WATCH = Sensor("watch", "watch", 25.0, 0.3)
HEAD = Sensor("head", "head", 20.0, 0.01)
Event = dict[str, Any]


def readings(sensors: tuple[Sensor, ...], seconds: float = SECONDS) -> Iterator[tuple[int, str, Reading]]:
    """(arrival, stream, reading) of simulated sensors, in order of arrival."""
    t, joints = danced(SEED, seconds + 2.0)
    reader = PoseReader(BODY)
    for h in simulate(t, joints, sensors, SEED):
        if h.t_us > seconds * 1e6:
            continue
        if h.values.shape == (22, 3):
            pose = reader.read(h.t_us, h.values, 0.03)
            diagonal = np.diag(np.diag(pose.r))
            yield h.t_arrival_us, h.stream, PoseReading(pose.t_us, pose.z, diagonal)
        elif h.stream == "head":
            yield h.t_arrival_us, h.stream, PointReading(h.t_us, h.values)
        else:
            yield h.t_arrival_us, h.stream, WatchReading(h.t_us, h.values, h.attitude)


def events(found: list[tuple[int, str, Reading]], every_us: int = 160_000) -> list[Event]:
    """Readings as they arrive, and a question every now and then."""
    out: list[Event] = []
    due = next(a for a, _, r in found if isinstance(r, PoseReading)) + every_us
    for arrival, stream, reading in found:
        while arrival > due:
            out.append({"ask": {"t_us": due}})
            due += every_us
        out.append({"put": record_of(stream, reading)})
    return [*out, {"ask": {"t_us": due}}]


def turned(found: list[tuple[int, str, Reading]]) -> list[tuple[int, str, Reading]]:
    """The same body on a turntable: yaw and a swivel run through half a turn, readings wrapped to (-pi, pi]."""
    out: list[tuple[int, str, Reading]] = []
    for arrival, stream, reading in found:
        assert isinstance(reading, PoseReading)
        z = reading.z.copy()
        z[[3, 21]] += np.array([4.0, 3.0]) * reading.t_us / 1e6 + np.array([2.0, 2.5])
        z[[3, 21]] = (z[[3, 21]] + np.pi) % (2 * np.pi) - np.pi
        out.append((arrival, stream, PoseReading(reading.t_us, z, reading.r)))
    return out


def wrong(found: list[tuple[int, str, Reading]]) -> list[tuple[int, str, Reading]]:
    """A wrist that jumps away for three frames (refused), and a root that moves for good (taken after 0.25 s)."""
    out: list[tuple[int, str, Reading]] = []
    poses = 0
    for arrival, stream, reading in found:
        if isinstance(reading, PoseReading):
            z = reading.z.copy()
            poses += 1
            if 8 <= poses <= 10:
                z[9:12] += 0.9
            if poses >= 18:
                z[0] += 3.0
            reading = PoseReading(reading.t_us, z, reading.r)
        out.append((arrival, stream, reading))
    return out


def sequences() -> Iterator[dict[str, Any]]:
    """The five, in order."""
    plain = list(readings((PHONE, WATCH, HEAD)))
    yield sequence("in_order", "one camera, a watch with attitude and head tracking, in order", plain)
    late = (
        Sensor("phone", "pose", 20.0, 0.03, 0.120, 0.060), Sensor("watch", "watch", 25.0, 0.3, 0.010),
        Sensor("head", "head", 20.0, 0.01, 0.040, 0.030, loss=0.2),
    )  # fmt: skip
    yield sequence(
        "out_of_order", "delays from 10 to 300 ms, readings that overtake each other, losses", list(readings(late))
    )
    gone = tuple(Sensor(s.name, s.kind, s.rate_hz, s.sigma, dropouts=((0.5, 1.5),)) for s in (PHONE, WATCH, HEAD))
    yield sequence("dropout", "one second without any reading, then all come back", list(readings(gone, 2.2)))
    yield sequence("gate", "a wrist that is wrong for three frames; a root that moves for good", wrong(plain))
    blind = Sensor("watch", "watch", 25.0, 0.3, attitude=False, point="r_wrist")
    poses = turned(list(readings((PHONE,))))
    watch = [
        (a, s, WatchReading(r.t_us, r.force, None, r.sigma, "r_wrist"))
        for a, s, r in readings((blind,))
        if isinstance(r, WatchReading)
    ]
    both = sorted([*poses, *watch], key=lambda f: (f[0], f[1]))
    yield sequence("wrapped", "angles that run through half a turn; a watch without attitude", both)


def sequence(name: str, about: str, found: list[tuple[int, str, Reading]]) -> dict[str, Any]:
    return written(name, about, BODY, NOISE, LAG_US, events(found))


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for found in sequences():
        lines = [
            json.dumps({k: v for k, v in found.items() if k != "events"}, separators=(",", ":"))[:-1] + ',"events":['
        ]
        lines += [json.dumps(e, separators=(",", ":")) + "," for e in found["events"]]
        lines[-1] = lines[-1][:-1]
        (folder / f"{found['name']}.json").write_text("\n".join(lines) + "\n]}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
