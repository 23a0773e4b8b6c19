"""A curve in words: the facts it has to say, the sentence that says them, and whether an answer says the same."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from choreo_cli.trajectory.curves import CIRCULAR, FAMILIES, HELICAL, LINEAR, PARABOLIC, SHOWN, TIMES, Canonical

AXES = ("+x", "-x", "+y", "-y", "+z", "-z")
SLOTS = ("family", "direction", "speed", "turns", "radius", "rise")
# How far a number in words may be from the fact: relative, and absolute below.
RELATIVE, ABSOLUTE = 0.1, 0.05
_SHOWN_SPAN = float(TIMES[SHOWN - 1])
_OTHER_WORDS = {
    LINEAR: ("linear", "straight line", "line"),
    CIRCULAR: ("circular", "circle"),
    HELICAL: ("helical", "helix", "spiral", "corkscrew"),
    PARABOLIC: ("parabolic", "parabola", "ballistic"),
}


def facts(form: Canonical) -> dict[str, Any]:
    """The slots of a curve; None where its family has no such fact.

    Returns:
        `family`; `direction`, of travel (linear, parabolic: over the ground) or of the axis it turns about by the
        right hand; `speed` at the start, world units per unit of t; `turns` while shown; `radius`; `rise`: along the
        axis (helical), of the whole path (linear, in z), of the top above the start (parabolic).
    """
    family = form.family
    slope, bend = form.slope, form.bend
    found: dict[str, Any] = dict.fromkeys(SLOTS)
    found["family"] = FAMILIES[family]
    if family in (CIRCULAR, HELICAL):
        radius = float(np.sqrt((form.cosine @ form.cosine + form.sine @ form.sine) / 2))
        axis = np.cross(form.cosine, form.sine)
        found |= {
            "direction": nearest_axis(axis),
            "turns": round(form.omega * _SHOWN_SPAN / (2 * np.pi), 2),
            "radius": round(radius, 2),
            "speed": round(float(np.hypot(radius * form.omega, np.linalg.norm(slope))), 2),
        }
        if family == HELICAL:
            along = float(slope @ axis / max(float(np.linalg.norm(axis)), 1e-12))
            found["rise"] = round(along, 2)
        return found
    found["speed"] = round(float(np.linalg.norm(slope)), 2)
    if family == LINEAR:
        return found | {"direction": nearest_axis(slope), "rise": round(float(slope[2]), 2)}
    size = float(bend @ bend)
    flat = slope - (slope @ bend) / size * bend if size > 0 else slope
    top = float(slope @ bend) ** 2 / (4 * size**1.5) if size > 0 and slope @ bend < 0 else 0.0
    return found | {"direction": nearest_axis(flat), "rise": round(top, 2)}


def nearest_axis(v: Any) -> str:
    """The axis of the world that a vector points along most."""
    k = int(np.argmax(np.abs(v)))
    return "xyz"[k].join(("+" if v[k] >= 0 else "-", ""))


def sentence(said: Mapping[str, Any]) -> str:
    """The facts as one sentence."""
    family = FAMILIES.index(said["family"])
    if family == LINEAR:
        return (
            f"A linear path toward {said['direction']} at a constant speed of {said['speed']:.2f}, "
            f"rising {said['rise']:.2f} in all."
        )
    if family == PARABOLIC:
        return (
            f"A parabolic path toward {said['direction']}: it starts at speed {said['speed']:.2f} and its top lies "
            f"{said['rise']:.2f} above the start."
        )
    text = f"A {said['family']} path about {said['direction']} with radius {said['radius']:.2f}"
    if family == HELICAL:
        text += f", advancing {said['rise']:.2f} along its axis"
    return f"{text}: {said['turns']:.2f} turns shown, speed {said['speed']:.2f}."


def agreement(said: Mapping[str, Any], true: Mapping[str, Any]) -> dict[str, bool]:
    """Whether each slot of an answer agrees with the facts, and `text`: no word of another family in its sentence.

    Args:
        said: An answer: the slots, and `text`.
        true: The facts.
    """
    found = {}
    for slot in SLOTS:
        a, b = said.get(slot), true[slot]
        if isinstance(b, float):
            near = isinstance(a, int | float) and not isinstance(a, bool)
            found[slot] = near and abs(float(a) - b) <= max(RELATIVE * abs(b), ABSOLUTE)  # type: ignore[arg-type]
        else:
            found[slot] = a == b
    found["text"] = not contradicts(str(said.get("text", "")), FAMILIES.index(true["family"]))
    return found


def contradicts(text: str, family: int) -> bool:
    """Whether a sentence calls the curve by the word of another family."""
    lower = text.lower()
    others = (w for k, words in _OTHER_WORDS.items() if k != family for w in words)
    return any(re.search(rf"\b{re.escape(w)}\b", lower) for w in others)
