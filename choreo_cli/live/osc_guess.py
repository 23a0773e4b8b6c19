"""What an OSC argument could be: a guess of its feature, with the reason, and never a guess of its unit."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field

from choreo_cli.live.osc_learn import Heard, span_text
from choreo_cli.live.osc_pose import BODIES
from choreo_cli.live.osc_presets import NAMES, PRESETS, G
from choreo_cli.live.osc_source import LOOPBACK
from formats.columns import INPUTS

NAN = float("nan")
LONG = 16
"""A message of more numbers than this is shown in one line."""
STILL = 0.25
"""A resting accelerometer reads 1 G within this share, in one unit or the other."""
HEART_WORDS = ("heart", "hr", "bpm", "pulse")
ROTATION_WORDS = ("gyro", "rrate", "rotation", "quat", "attitude", "orientation", "euler")


@dataclass(frozen=True, slots=True)
class Learnt:
    """An argument that was heard; the numbers of a long message share one.

    Args:
        argument: `ADDRESS:INDEX`, or `ADDRESS:FIRST-LAST`.
        type: OSC type tag.
        hz: Messages a second, None below three of them.
        low, high: Its range, None where it is no number.
        feature: What `--map` would make of it, empty where that is not known.
        unit: Its unit, empty where that is not known.
        why: The reason of both, or of there being none.
    """

    argument: str
    type: str
    hz: float | None
    low: float | None
    high: float | None
    feature: str
    unit: str
    why: str

    def cells(self) -> tuple[str, str, str, str, str, str, str]:
        """For a table: argument, type, Hz, range, feature, unit, why."""
        rate = "" if self.hz is None else f"{self.hz:.1f}"
        span = span_text(NAN if self.low is None else self.low, NAN if self.high is None else self.high)
        return self.argument, self.type, rate, span, self.feature or "?", self.unit, self.why


HEAD = ("argument", "type", "Hz", "range", "feature", "unit", "why")


def arguments(heard: Mapping[str, Heard]) -> list[Learnt]:
    """Every argument of every address, with what it could be."""
    found: list[Learnt] = []
    guesses = guess_all(heard)
    for address, h in sorted(heard.items()):
        guess, rate = guesses[address], None if math.isnan(h.rate_hz) else round(h.rate_hz, 1)
        if len(h.low) > LONG:
            least, most = min(h.low, key=_last), max(h.high, key=lambda x: -_last(-x))
            spans = [(f"{address}:0-{len(h.low) - 1}", h.types[:1], least, most, "")]
        else:
            features = guess.features or [""] * len(h.low)
            spans = [
                (f"{address}:{k}", tag, lo, hi, feature)
                for k, (tag, lo, hi, feature) in enumerate(zip(h.types, h.low, h.high, features, strict=False))
            ]
        for name, tag, lo, hi, feature in spans or [(address, "", NAN, NAN, "")]:
            low, high = (lo, hi) if lo == lo else (None, None)
            found.append(Learnt(name, tag, rate, low, high, feature, guess.unit, guess.why))
    return found


def _last(value: float) -> float:
    """NaN after all others."""
    return value if value == value else math.inf


@dataclass(frozen=True, slots=True)
class Guess:
    """What the arguments of one address could be.

    Args:
        features: For `--map`, in the order of the arguments; empty where nothing may be proposed.
        unit: As it was shown by the values themselves, or as the sender states it.
        why: The reason.
    """

    features: list[str] = field(default_factory=list)
    unit: str = ""
    why: str = ""


def preset_of(heard: Mapping[str, Heard]) -> str | None:
    """The preset whose sender this can only be, None when there is none."""
    for preset, recognise in RECOGNISED.items():
        if any(recognise(address, h) for address, h in heard.items()):
            return preset
    return None


def guess_all(heard: Mapping[str, Heard]) -> dict[str, Guess]:
    """A guess for every address; each feature comes from one address only."""
    found: dict[str, Guess] = {}
    preset, taken = preset_of(heard), dict[str, str]()
    for address, h in sorted(heard.items()):
        if preset is not None and address.startswith(PRESETS[preset].allow):
            found[address] = Guess([], "", f"{PRESETS[preset].title}: {PRESETS[preset].units}")
            continue
        guess = _guess(address, h)
        twice = next((f for f in guess.features if f in taken), None)
        if twice is not None:
            guess = Guess([], guess.unit, f"{twice} too, but {taken[twice]} gives it already")
        taken |= dict.fromkeys(guess.features, address)
        found[address] = guess
    return found


def propose(heard: Mapping[str, Heard]) -> list[str]:
    """Words for the command line that would use what was heard: a preset, `--map` entries; empty for none.

    A unit is read off a sensor's length at rest (1 G) and shown for the person to confirm; without rest there is no
    proposal.
    """
    preset = preset_of(heard)
    words = [f"osc:PORT:{preset}"] if preset is not None else []
    for address, guess in guess_all(heard).items():
        words += [f"--map {address}:{k}={f}" for k, f in enumerate(guess.features)]
    return words


def command_line(port: int, heard: Mapping[str, Heard], listen: str = LOOPBACK) -> str:
    """The line that plays what was heard, to be copied; empty when nothing may be proposed."""
    words = propose(heard)
    if not words:
        return ""
    source = words.pop(0).replace("PORT", str(port)) if words[0].startswith("osc:") else f"osc:{port}"
    maps = [w for entry in words for w in ("--map", entry.removeprefix("--map "))]
    where = [] if listen == LOOPBACK else ["--listen", listen]
    return shlex.join(["choreo", "run-live", "--source", source, *where, *maps])


def _words(address: str) -> list[str]:
    return [w for w in address.lower().split("/") if w]


def _is_zigsim(address: str, h: Heard) -> bool:
    words = address.split("/")[1:]
    bare = len(words) == 2 and words[0] != "gyrosc"
    return h.types == "fff" and words[-1] == "gravity" and (bare or words[0] == "ZIGSIM")


RECOGNISED = {
    "gyrosc": lambda address, h: address in ("/gyrosc/accel", "/gyrosc/grav"),
    "touchosc": lambda address, h: address == "/accxyz" and h.types == "fff",
    "choreo": lambda address, h: address.startswith("/choreo/"),
    "zigsim": _is_zigsim,
}


def _guess(address: str, h: Heard) -> Guess:
    if not h.low or all(x != x for x in h.low):
        return Guess(why="no number in it")
    for look in (_by_name, _heart, _acceleration, _rotation, _pose):
        found = look(address, h)
        if found is not None:
            return found
    return Guess(why="neither name nor values tell what it is: say it with --map ADDR:IDX=FEATURE")


def _by_name(address: str, h: Heard) -> Guess | None:
    """An address that ends in the name of an input."""
    last = _words(address)[-1:]
    if not last or last[0] not in NAMES or len(h.low) != 1 or math.isnan(h.low[0]):
        return None
    column = INPUTS[NAMES.index(last[0])]
    lowest, highest = column.lo or 0.0, NAN if column.hi is None else column.hi
    if not lowest <= h.low[0] <= h.high[0] <= highest:
        beyond = f"named {last[0]}, but {span_text(h.low[0], h.high[0])} is not within {lowest:g}..{highest:g}"
        return Guess(unit="", why=beyond)
    return Guess(last, column.unit, "its address ends in the name of the input, and its values fit")


def _acceleration(address: str, h: Heard) -> Guess | None:
    if len(h.low) != 3 or not any("acc" in w for w in _words(address)) or math.isnan(h.norm):
        return None
    for unit, rest in (("m/s2", G), ("g", 1.0)):
        if abs(h.norm - rest) <= STILL * rest:
            why = f"an acceleration by its name; mean length {h.norm:.3g} is gravity in {unit}, if it was still"
            return Guess([f"accel.{axis}@{unit}" for axis in "xyz"], unit, why)
    # Linear acceleration is 0 at rest: it has no gravity that could tell its unit.
    named = "accel.x@g or accel.x@m/s2"
    why = f"an acceleration of mean length {h.norm:.3g}, which is gravity in no unit: hold it still, or say {named}"
    return Guess(why=why)


def _heart(address: str, h: Heard) -> Guess | None:
    named = any(w == "hr" or any(k in w for k in HEART_WORDS if k != "hr") for w in _words(address))
    if not named or len(h.low) != 1:
        return None
    if h.low[0] >= 30 and h.high[0] <= 220:
        return Guess(["hr"], "beats/min", "heart rate by its name; only beats/min have such values")
    return Guess(why=f"heart rate by its name, but {span_text(h.low[0], h.high[0])} cannot be beats/min")


def _rotation(address: str, h: Heard) -> Guess | None:
    if not any(k in w for w in _words(address) for k in ROTATION_WORDS):
        return None
    return Guess(why="a rotation by its name: no input of the model is one")


def _pose(address: str, h: Heard) -> Guess | None:
    fits = [name for name, body in BODIES.items() if len(h.low) in (len(body.joints) * 2, len(body.joints) * 3)]
    if not fits:
        return None
    where = "send them to /choreo/pose or /wek/inputs"
    why = f"as many numbers as a pose of {' or '.join(fits)}: name it with --body, and {where}"
    return Guess(why=why)
