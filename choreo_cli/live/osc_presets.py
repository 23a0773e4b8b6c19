"""What the messages of known senders mean, and `--map` for all others. Units are stated, never guessed.

Sources: ZIG SIM https://1-10.github.io/zigsim/features/motion.html; GyrOSC sends iOS user acceleration and gravity in
G; TouchOSC `/accxyz` is the raw accelerometer of the device in G.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from choreo_cli.errors import UsageError
from choreo_cli.live.osc import MAX_PACKET, Message, OscError
from choreo_cli.live.osc_pose import PoseReader
from choreo_cli.live.sample import Body
from formats.columns import INPUTS
from formats.packets import CONTROLS

G = 9.80665
LARGEST = 1e30  # well within 32-bit floats
STALE_US = 1_000_000
OTHER_DEVICE_US = 2_000_000
NAMES = tuple(c.name for c in INPUTS)
UNITS = {"g": G, "m/s2": 1.0}
AXES = tuple(f"accel.{axis}@{unit}" for unit in UNITS for axis in "xyz")
FEATURES = (*NAMES, "beat", "bpm", *(f"target.{c}" for c in CONTROLS), *AXES)
"""What an argument may become: a model input, the transport's beat and tempo, a fader, or an axis with its unit."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a message said: kind and values as in `live.sample.KINDS`; `whole` as in `Sample`."""

    kind: str
    values: NDArray[Any]
    whole: bool = False


class Reader(Protocol):
    """Meaning of messages, with the memory that it needs."""

    def read(self, message: Message, t_us: int) -> list[Reading] | None:
        """Readings of a message that arrived at a session time; None when it is none of its own.

        Raises:
            OscError: it should be, but its arguments are not as they must be.
        """
        ...


def numbers(message: Message, count: int) -> list[float]:
    """Exactly so many numbers.

    Raises:
        OscError: other arguments.
    """
    if len(message.args) != count:
        raise OscError(f"not {count} number{'s' * (count > 1)}")
    return [_number(a) for a in message.args]


def _number(arg: Any) -> float:
    if isinstance(arg, bool) or not isinstance(arg, int | float):
        raise OscError("an argument is no number")
    if not abs(arg) < LARGEST:
        raise OscError("a number larger than any sensor gives")
    return float(arg)


class PhoneReader:
    """Acceleration of a phone in G into m/s^2 with gravity.

    Senders that take gravity out also send it: the two are added again. A second phone on the same port is left out
    until the first has been silent for 2 s.

    Args:
        device: The address but its last word.
        roles: Last word to `total`, `linear` or `gravity`.
    """

    def __init__(self, device: str, roles: Mapping[str, str]) -> None:
        self._device = re.compile(device)
        self._roles = roles
        self._heard: tuple[str, int] = ("", -(2**62))
        self._gravity: tuple[NDArray[np.float32], int] | None = None

    def read(self, message: Message, t_us: int) -> list[Reading] | None:
        """See `Reader`."""
        device, _, last = message.address.rpartition("/")
        role = self._roles.get(last)
        if role is None or self._device.fullmatch(device) is None:
            return None
        values = np.array(numbers(message, 3), np.float32) * np.float32(G)
        if device != self._heard[0]:
            if t_us - self._heard[1] < OTHER_DEVICE_US:
                raise OscError("another device on this port")
            self._gravity = None
        self._heard = device, t_us
        if role == "gravity":
            self._gravity = values, t_us
            return []
        if role == "linear":
            if self._gravity is None or t_us - self._gravity[1] > STALE_US:
                raise OscError("no gravity: switch Gravity on in the app")
            values = values + self._gravity[0]
        return [Reading("accel", values)]


class ChoreoReader:
    """Our own addresses.

        /choreo/inputs   11 numbers in the order of the inputs, F where nothing was measured
        /choreo/accel    x y z in m/s^2 with gravity
        /choreo/pose     J*D numbers, joint by joint, of the source's body; F where a joint is not seen
        /choreo/hr       beats/min
        /choreo/beat     position in beats, tempo in beats/min
        /choreo/target   5 faders in 0..1, or one at /choreo/target/<control>

    Args:
        body: How to read poses; None refuses them.
    """

    def __init__(self, body: Body | None) -> None:
        self._pose = None if body is None else PoseReader(body)

    def read(self, message: Message, t_us: int) -> list[Reading] | None:
        """See `Reader`."""
        word, _, control = message.address.removeprefix("/choreo/").partition("/")
        if word == "inputs":
            # A switch that is off says: not measured.
            given = [k for k, a in enumerate(message.args) if a is not False]
            row = np.full(len(NAMES), np.nan, np.float32)
            if len(message.args) != len(NAMES):
                raise OscError(f"not {len(NAMES)} numbers")
            row[given] = [_number(message.args[k]) for k in given]
            return [Reading("inputs", row, whole=True)]
        if word == "accel":
            return [Reading("accel", np.array(numbers(message, 3), np.float32))]
        if word == "pose":
            if self._pose is None:
                raise OscError("a pose, but no body is named")
            return [Reading("pose", self._pose.pose(message))]
        if word == "hr":
            return [Reading("hr", np.array(numbers(message, 1), np.float32))]
        if word == "beat":
            return [Reading("beat", np.array(numbers(message, 2)))]
        if word == "target" and control in CONTROLS:
            return [Reading("target", _one(len(CONTROLS), CONTROLS.index(control), numbers(message, 1)[0]))]
        if word == "target" and not control:
            return [Reading("target", np.array(numbers(message, len(CONTROLS)), np.float32))]
        return None


class WekPoseReader:
    """`/wek/inputs` as the numbers of a pose.

    Args:
        body: How to read them.
    """

    def __init__(self, body: Body) -> None:
        self._pose = PoseReader(body)

    def read(self, message: Message, t_us: int) -> list[Reading] | None:
        """See `Reader`."""
        return [Reading("pose", self._pose.pose(message))] if message.address == "/wek/inputs" else None


class MapReader:
    """Arguments named by `--map`.

    Args:
        mapping: As `parse_map` gives it.
    """

    def __init__(self, mapping: Mapping[str, str]) -> None:
        self.mapping = dict(mapping)
        self._wanted: dict[str, list[tuple[int, str]]] = {}
        for key, feature in mapping.items():
            address, _, index = key.rpartition(":")
            self._wanted.setdefault(address, []).append((int(index), feature))
        self.kinds = tuple(sorted({_kind(f) for f in mapping.values()}))
        self.addresses = tuple(self._wanted)

    def read(self, message: Message, t_us: int) -> list[Reading] | None:
        """See `Reader`."""
        wanted = self._wanted.get(message.address)
        if wanted is None:
            return None
        found: dict[str, NDArray[Any]] = {}
        for index, feature in wanted:
            if index >= len(message.args):
                raise OscError("fewer arguments than mapped")
            arg = message.args[index]
            # A button is 0 or 1.
            _put(found, feature, _number(int(arg) if isinstance(arg, bool) else arg))
        return [Reading(kind, values) for kind, values in found.items()]


def _kind(feature: str) -> str:
    if feature in ("hr", "beat"):
        return feature
    return "beat" if feature == "bpm" else feature.partition(".")[0] if "." in feature else "inputs"


def _one(size: int, index: int, value: float) -> NDArray[np.float32]:
    row = np.full(size, np.nan, np.float32)
    row[index] = value
    return row


def _put(found: dict[str, NDArray[Any]], feature: str, value: float) -> None:
    kind = _kind(feature)
    if kind == "hr":
        found[kind] = np.array([value], np.float32)
        return
    size = {"inputs": len(NAMES), "target": len(CONTROLS), "accel": 3, "beat": 2}[kind]
    row = found.setdefault(kind, np.full(size, np.nan, np.float64 if kind == "beat" else np.float32))
    if kind == "accel":
        axis, _, unit = feature.removeprefix("accel.").partition("@")
        row["xyz".index(axis)] = value * UNITS[unit]
    elif kind == "beat":
        row[1 if feature == "bpm" else 0] = value
    else:
        row[NAMES.index(feature) if kind == "inputs" else CONTROLS.index(feature.removeprefix("target."))] = value


_KEY = re.compile(r"(/[!-~]*):([0-9]{1,4})")
EXAMPLE = "ADDR:IDX=FEATURE, for example /wek/inputs:0=motion_energy"


def parse_map(entries: Sequence[str]) -> dict[str, str]:
    """`--map` entries, checked: `ADDR:IDX` to feature.

    Raises:
        UsageError: naming the entry and what is wrong with it.
    """
    mapping: dict[str, str] = {}
    for entry in entries:
        key, equals, feature = entry.partition("=")
        match = _KEY.fullmatch(key)
        if not equals or match is None:
            raise UsageError(f"--map {entry}: not ADDR:IDX=FEATURE", hint=EXAMPLE)
        if set(match[1]) & set("#*,?[]{}"):
            raise UsageError(f"--map {entry}: {match[1]} is a pattern", hint="name one address")
        if feature not in FEATURES:
            raise UsageError(f"--map {entry}: no feature {feature or 'is named'}", hint=_meant(feature))
        key = f"{match[1]}:{int(match[2])}"
        if key in mapping:
            raise UsageError(f"--map {entry}: {key} is {mapping[key]} already", hint="leave one of them out")
        if feature in mapping.values():
            raise UsageError(f"--map {entry}: {feature} comes from elsewhere already", hint="leave one of them out")
        mapping[key] = feature
    _whole_accel(mapping)
    if "bpm" in mapping.values() and _address_of(mapping, "bpm") != _address_of(mapping, "beat"):
        raise UsageError("--map: bpm is no use without beat from the same message", hint="map both or neither")
    return mapping


def _meant(feature: str) -> str:
    if re.fullmatch(r"accel\.[xyz](@.*)?", feature):
        return f"say the unit: {feature[:7]}@g or {feature[:7]}@m/s2"
    near = difflib.get_close_matches(feature, FEATURES, 1, 0.6)
    return f"did you mean {near[0]}?" if near else f"one of {', '.join((*NAMES, 'beat', 'bpm'))}, target.*, accel.*@g"


def _address_of(mapping: Mapping[str, str], feature: str) -> str | None:
    return next((key.rpartition(":")[0] for key, f in mapping.items() if f == feature), None)


def _whole_accel(mapping: Mapping[str, str]) -> None:
    """Three axes of one sensor in one message and one unit, or none."""
    axes = {f: key.rpartition(":")[0] for key, f in mapping.items() if f.startswith("accel.")}
    if axes and (len(axes) != 3 or len({f.partition("@")[2] for f in axes}) != 1 or len(set(axes.values())) != 1):
        raise UsageError(
            f"--map: {', '.join(sorted(axes))} is no acceleration", hint="x, y and z of one message, in one unit"
        )


@dataclass(frozen=True, slots=True)
class Preset:
    """A known sender.

    Args:
        title: Its name.
        units: What its numbers are.
        kinds: Kinds of samples that come of it.
        allow: Beginnings of its addresses.
        reader: Makes the reader; None needs `--map`, or a body whose numbers they are.
        json: Its app may also send JSON.
    """

    title: str
    units: str
    kinds: tuple[str, ...]
    allow: tuple[str, ...]
    reader: Callable[[Body | None], Reader] | None
    json: bool = False


_LINEAR = {"accel": "linear"}
PRESETS: dict[str, Preset] = {
    "choreo": Preset(
        "choreo",
        "/choreo/inputs in the units of the frames, accel in m/s^2, hr and tempo in beats/min",
        ("inputs", "accel", "pose", "hr", "beat", "target"),
        ("/choreo/",),
        ChoreoReader,
    ),
    "zigsim": Preset(
        "ZIG SIM",
        "accel and gravity in G (switch both on), OSC or JSON",
        ("accel",),
        ("/",),
        lambda _: PhoneReader(r"(/ZIGSIM)?/[^/]+", {**_LINEAR, "gravity": "gravity"}),
        json=True,
    ),
    "gyrosc": Preset(
        "GyrOSC",
        "accel and grav in G (switch both on)",
        ("accel",),
        ("/gyrosc/",),
        lambda _: PhoneReader("/gyrosc", {**_LINEAR, "grav": "gravity"}),
    ),
    "touchosc": Preset(
        "TouchOSC",
        "/accxyz in G with gravity",
        ("accel",),
        ("/accxyz",),
        lambda _: PhoneReader("", {"accxyz": "total"}),
    ),
    "wek": Preset("Wekinator inputs", "/wek/inputs as --map or --body names them", (), ("/wek/inputs",), None),
}


class _Xyz(msgspec.Struct):
    x: float
    y: float
    z: float


class _Motion(msgspec.Struct):
    accel: _Xyz | None = None
    gravity: _Xyz | None = None


class _Device(msgspec.Struct):
    uuid: str = "json"


class _ZigSim(msgspec.Struct):
    sensordata: _Motion | None = None
    device: _Device = msgspec.field(default_factory=_Device)
    accel: _Xyz | None = None
    gravity: _Xyz | None = None


_json = msgspec.json.Decoder(_ZigSim)


def zigsim_json(packet: bytes) -> list[Message]:
    """The JSON form of ZIG SIM, one object a line, as the messages of its OSC form; gravity first.

    Raises:
        OscError: it is not that.
    """
    if len(packet) > MAX_PACKET:
        raise OscError("larger than 8 KiB")
    found: list[Message] = []
    for line in packet.strip().splitlines():
        try:
            data = _json.decode(line)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            raise OscError("JSON not of ZIG SIM") from None
        for name in ("gravity", "accel"):
            xyz = getattr(data.sensordata or data, name)
            if xyz is None:
                continue
            args = (xyz.x, xyz.y, xyz.z)
            if not all(map(math.isfinite, args)):
                raise OscError("float not finite")
            found.append(Message(f"/{data.device.uuid.replace('/', '_')}/{name}", args))
    return found
