"""Recorded sequences of the fusion filter: what goes in, in the order it arrives, and what must come out.

A sequence is one JSON object, so that a filter in another language can be checked against it:

    schema      `choreo.fusion-vectors/1`
    name, about what it shows
    state       (23) names, in order; the filter's state is positions, then speeds, then accelerations: 69 numbers
    noise       every constant of the filter: accel (23), accel_tau_s, speed_tau_s, start_speed, gate_3, gate_1, lost_s
    lag_us      how old a reading may be
    body        op3 o6 o9 neck head l_shoulder r_shoulder (3 each, metres), arm (2), as in a choreo25 skeleton
    events      in order of arrival:
                  {"put": {"stream", "kind": "pose", "t_us", "z" (23, null = not seen), "sigma" (23)}}
                  {"put": {"stream", "kind": "head", "t_us", "z" (3), "sigma"}}
                  {"put": {"stream", "kind": "watch", "t_us", "force" (3), "attitude" (4, w x y z) or null, "sigma",
                           "point"}}
                  {"ask": {"t_us", "x" (69), "sd" (69)}}  what is believed at a time once all before it has arrived
    streams     by stream: taken, refused, late, and the parts refused by the gate, after the last event

`x` and `sd` (square roots of the covariance's diagonal) agree to 1e-6 relative or 1e-8 absolute.
"""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.motion.capture_state import STATE
from choreo_cli.motion.fusion import Fusion
from choreo_cli.motion.fusion_model import Noise
from choreo_cli.motion.fusion_readings import PointReading, PoseReading, Reading, WatchReading
from formats.errors import FormatError
from formats.jsonstrict import loads
from formats.motion_npz import Skeleton

F64 = NDArray[np.float64]

SCHEMA = "choreo.fusion-vectors/1"
RELATIVE, ABSOLUTE = 1e-6, 1e-8
DIGITS = 10


def read_vectors(path: Path) -> dict[str, Any]:
    """One sequence. Raises FormatError: not of this schema, or for another state."""
    found = loads(path.read_bytes(), file=path)
    if not isinstance(found, dict) or found.get("schema") != SCHEMA:
        raise FormatError(f"not {SCHEMA}", file=path)
    if tuple(found["state"]) != STATE:
        raise FormatError("another order of the state", file=path, field="state")
    return found


def replay(sequence: dict[str, Any]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """What this filter makes of a sequence: one {t_us, x, sd} for each `ask`, and the counts of the streams."""
    fusion = Fusion(body_of(sequence["body"]), noise_of(sequence["noise"]), lag_us=sequence["lag_us"])
    asked = []
    for event in sequence["events"]:
        if "put" in event:
            fusion.put(event["put"]["stream"], reading_of(event["put"]))
            continue
        belief = fusion.at(event["ask"]["t_us"])
        assert belief is not None
        asked.append({"t_us": event["ask"]["t_us"], "x": belief.x, "sd": np.sqrt(np.diag(belief.p))})
    fusion.settle()
    counts = {
        name: {"taken": f.taken, "refused": f.refused, "late": f.late, "parts": dict(sorted(f.parts.items()))}
        for name, f in sorted(fusion.facts().items())
    }
    return asked, counts


def worst(sequence: dict[str, Any]) -> float:
    """Largest deviation from the recorded answers, as a multiple of the tolerance; infinite when counts differ."""
    asked, counts = replay(sequence)
    if counts != sequence["streams"]:
        return math.inf
    most = 0.0
    wanted = [e["ask"] for e in sequence["events"] if "ask" in e]
    for got, want in zip(asked, wanted, strict=True):
        for key in ("x", "sd"):
            b = np.array(want[key])
            most = max(most, float((np.abs(got[key] - b) / (ABSOLUTE + RELATIVE * np.abs(b))).max()))
    return most


def written(
    name: str, about: str, body: Skeleton, noise: Noise, lag_us: int, events: list[dict[str, Any]]
) -> dict[str, Any]:
    """A sequence with its answers filled in; an `ask` needs only `t_us`."""
    out = {
        "schema": SCHEMA, "name": name, "about": about, "state": list(STATE), "noise": _noise_record(noise),
        "lag_us": lag_us, "body": _body_record(body), "events": events, "streams": {},
    }  # fmt: skip
    asked, out["streams"] = replay(out)
    answers = iter(asked)
    for event in events:
        if "ask" in event:
            got = next(answers)
            event["ask"] = {"t_us": got["t_us"], "x": _rounded(got["x"]), "sd": _rounded(got["sd"])}
    return out


def record_of(stream: str, reading: Reading) -> dict[str, Any]:
    """A reading as it stands in a sequence. Of a pose only the diagonal of its covariance is kept."""
    if isinstance(reading, PoseReading):
        sigma = np.sqrt(np.diag(reading.r))
        return {
            "stream": stream,
            "kind": "pose",
            "t_us": reading.t_us,
            "z": _rounded(reading.z),
            "sigma": _rounded(sigma),
        }
    if isinstance(reading, PointReading):
        return {
            "stream": stream,
            "kind": "head",
            "t_us": reading.t_us,
            "z": _rounded(reading.z),
            "sigma": reading.sigma,
        }
    attitude = None if reading.attitude is None else _rounded(reading.attitude)
    return {
        "stream": stream, "kind": "watch", "t_us": reading.t_us, "force": _rounded(reading.force),
        "attitude": attitude, "sigma": reading.sigma, "point": reading.point,
    }  # fmt: skip


def reading_of(record: dict[str, Any]) -> Reading:
    """The reverse of `record_of`."""
    if record["kind"] == "pose":
        z = np.array([np.nan if v is None else v for v in record["z"]], np.float64)
        return PoseReading(record["t_us"], z, np.diag(np.array(record["sigma"], np.float64) ** 2))
    if record["kind"] == "head":
        return PointReading(record["t_us"], np.array(record["z"], np.float64), record["sigma"])
    attitude = None if record["attitude"] is None else np.array(record["attitude"], np.float64)
    return WatchReading(
        record["t_us"], np.array(record["force"], np.float64), attitude, record["sigma"], record["point"]
    )


def _rounded(values: F64) -> list[float | None]:
    return [None if not math.isfinite(v) else float(f"{v:.{DIGITS}g}") for v in values.tolist()]


def _noise_record(noise: Noise) -> dict[str, Any]:
    return {
        "accel": noise.accel.tolist(), "accel_tau_s": noise.accel_tau_s, "speed_tau_s": noise.speed_tau_s,
        "start_speed": noise.start_speed, "gate_3": noise.gate_3, "gate_1": noise.gate_1, "lost_s": noise.lost_s,
    }  # fmt: skip


def noise_of(record: dict[str, Any]) -> Noise:
    """Noise values of a sequence."""
    return Noise(**{**record, "accel": np.array(record["accel"], np.float64)})


_PARTS = ("neck", "head", "l_shoulder", "r_shoulder")


def _body_record(body: Skeleton) -> dict[str, Any]:
    oc = np.asarray(body.oc)
    parts = dict(zip(_PARTS, (oc[0], np.asarray(body.o15), oc[3], oc[4]), strict=True))
    arm = np.asarray(body.upper_arm) + np.asarray(body.forearm)
    return {
        "op3": _rounded(np.asarray(body.op)[2]), "o6": _rounded(np.asarray(body.o6)),
        "o9": _rounded(np.asarray(body.o9)), **{k: _rounded(v) for k, v in parts.items()}, "arm": _rounded(arm),
    }  # fmt: skip


def body_of(record: dict[str, Any]) -> Any:
    """The part of a skeleton that a sequence keeps; `head` is counted from the neck."""
    oc = np.zeros((5, 3))
    oc[0], oc[3], oc[4] = (record[k] for k in ("neck", "l_shoulder", "r_shoulder"))
    op = np.zeros((3, 3))
    op[2] = record["op3"]
    arm = np.array(record["arm"])
    return SimpleNamespace(
        op=op, o6=np.array(record["o6"]), o9=np.array(record["o9"]), oc=oc, o15=np.array(record["head"]),
        upper_arm=arm / 2, forearm=arm / 2, thigh=np.ones(2), shank=np.ones(2),
    )  # fmt: skip
