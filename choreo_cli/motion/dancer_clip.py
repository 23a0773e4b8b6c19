"""A dance to a given piece of music: keys on its beats, moves between them, and the clip with its exact contacts.

Every part of the body rests at the same instant, the beat: a move begins after one beat and ends before the next, its
speed is symmetric about the middle (the minimum-jerk curve of Flash & Hogan 1985), and so the mean speed of the joints
has its minimum on the beat. A dancer that brakes into the beat and starts slowly is slowest after it, which a measure
of speed minima reads as being late.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from choreo_cli.audio.render_band import Arrangement, Phrase
from choreo_cli.motion.dancer_body import pose_body
from choreo_cli.motion.dancer_figures import WORDS, Ground, Part, lay
from choreo_cli.motion.dancer_styles import ARMS, HIGH, LOW, NAMES, REST, STYLES, Dancer, Style, child
from formats.motion_npz import MotionClip
from formats.proportions import STATURE_M

F64 = NDArray[np.float64]

JITTER_S = 0.010
SWING = 0.86  # of a move: a stepping foot leaves after and lands before the rest of the body
_REACH = 0.985  # of the leg
_HIP, _LEG, _READY = 0.05, 0.481, 0.540 - 0.045 - 0.05  # fractions of stature
LARGER, EASED = 1.8, 0.45
_SLOW_TO = 0.5  # beats shorter than this are danced smaller: acceleration grows with the square of the tempo


@dataclass(frozen=True, slots=True)
class Dance:
    """A choreography.

    Args:
        form: The music.
        who: The dancer.
        style: How it is danced.
        key_s: (B,) when the body lands: the beat plus micro-timing.
        pose: (B, 13) angles on each beat, `dancer_styles.NAMES`.
        ground: Keys of the lower body.
        size: (B,) how large the dance is.
        off: (B, 13) what is added half-way to the next beat (double-time arms).
        captions: What is danced, in words.
    """

    form: Arrangement
    who: Dancer
    style: Style
    key_s: F64
    pose: F64
    ground: Ground
    size: F64
    off: F64
    captions: tuple[str, ...]


def choreograph(form: Arrangement, who: Dancer, style: Style, rng: np.random.Generator) -> Dance:
    """Choose figures for every phrase of the music.

    A phrase changes figure, arms and size with the music's phrase; size follows its energy, density its feel. What is
    chosen is drawn anew at each phrase, so the motion before does not tell what comes, and the music tells when.
    """
    n = len(form.beats_s)
    ground, pose, off = Ground.of(n), np.tile(REST + who.lean, (n, 1)), np.zeros((n, len(NAMES)))
    gaps = np.diff(form.beats_s, append=2 * form.beats_s[-1] - form.beats_s[-2])
    size = form.energy() * np.clip(gaps / _SLOW_TO, 0.55, 1.1) ** 1.3 * who.size
    draws, said = child(rng), []
    ground.facing = float(draws.uniform(-np.pi, np.pi))
    for phrase in form.phrases:
        rows = np.arange(phrase.start, phrase.start + phrase.beats)
        side = 1 if draws.random() < 0.5 else -1
        figure = "still" if phrase.feel == "break" else _figure(style, draws)
        every = 2 if phrase.feel == "half" else 1
        size[rows] *= 1.0 + 0.25 * ((rows - phrase.start) % 4 == 0)
        lay(ground, Part(figure, phrase.start, phrase.beats, np.clip(size[rows], 0, 1), side, every), style, who)
        lead = _arms_and_torso(pose, off, phrase, size, style, every, draws)
        said.append((figure, lead, side, phrase))
    pose = np.clip(pose, LOW, HIGH)
    late = np.clip(child(rng).standard_normal(n), -2.5, 2.5) * JITTER_S
    return Dance(
        form, who, style, form.beats_s + who.late_s + late, pose, ground, size, off, _captions(style, said, form)
    )


def _figure(style: Style, draws: np.random.Generator) -> str:
    names = sorted(style.figures)
    odds = np.array([style.figures[f] for f in names], np.float64)
    return str(names[int(draws.choice(len(names), p=odds / odds.sum()))])


def _arms_and_torso(
    pose: F64, off: F64, phrase: Phrase, size: F64, style: Style, every: int, draws: np.random.Generator
) -> str:
    """Write a four-step pattern of arms and torso, repeated, then on the other side; returns which arm leads."""
    rows = np.arange(phrase.start, phrase.start + phrase.beats)
    reach = np.array([*style.torso, *style.arms, *style.arms])
    pattern = draws.uniform(0.45, 1.0, (4, len(NAMES))) * np.where(draws.random(len(NAMES)) < 0.5, -1, 1)
    pattern *= np.where(np.arange(4) % 2 == 0, 1.0, -1.0)[:, None]
    lead = ("both", "left", "right")[int(draws.integers(3))]
    raised = draws.uniform(0.0, 0.7) * (phrase.energy > 0.55)
    for dances, arm in ((lead != "right", ARMS[0]), (lead != "left", ARMS[1])):
        pose[np.ix_(rows, np.array(arm))] = np.array(style.arm_rest) + np.array([raised if dances else 0.0, 0.0, 0.0])
        if not dances:
            pattern[:, arm] *= 0.35
    if lead == "both" and draws.random() < 0.5:
        pattern[:, ARMS[1]] = pattern[:, ARMS[0]]  # in parallel, else each on its own
    rest = pose[rows].copy()
    step = (rows - phrase.start) // every
    turned = np.where((step // 8) % 2 == 0, 1.0, -1.0)
    flip = np.array([-1, 1, -1, 1, -1, -1, 1, 1, 1, 1, 1, 1, 1.0])
    sign = np.where(turned[:, None] > 0, 1.0, flip)
    pose[rows] += LARGER * reach * pattern[step % 4] * sign * np.sqrt(size[rows])[:, None] * np.sqrt(phrase.energy)
    if every == 2:  # on the beats between, the body eases back towards rest: a smaller landing of its own
        held = rows[(rows - phrase.start) % 2 == 1]
        pose[held] = EASED * pose[held - 1] + (1 - EASED) * rest[held - phrase.start]
    if phrase.feel == "double":
        off[np.ix_(rows, np.array(ARMS).ravel())] = 0.22 * np.array([*style.arms, *style.arms]) * size[rows][:, None]
    return lead


def _captions(style: Style, said: list[tuple[str, str, int, Phrase]], form: Arrangement) -> tuple[str, ...]:
    parts: list[str] = []
    for figure, lead, side, phrase in said:
        way = "left" if side > 0 else "right"
        text = WORDS[figure].format(way=way)
        if figure in ("side", "march", "walk", "kick"):
            text += f" beginning {way}"
        if figure != "still" and lead != "both":
            text += f", the {lead} arm leading"
        if phrase.feel == "half" and figure != "still":
            text += " in half time"
        if not parts or parts[-1] != text:
            parts.append(text)
    mean = float(np.mean([p.energy for p in form.phrases]))
    strength = "calm" if mean < 0.42 else "strong" if mean > 0.68 else "relaxed"
    pace = "slow" if form.bpm < 105 else "fast" if form.bpm > 130 else "medium"
    whole = f"a person dances {style.name}, {strength}, to {pace} music"
    return (whole, f"a person {', then '.join(parts)}")


def ease(u: F64) -> F64:
    """Way along a move for u in 0..1: the minimum-jerk curve, whose speed is symmetric and 0 at both ends."""
    u = np.clip(u, 0.0, 1.0)
    return np.asarray(u**3 * (10 - 15 * u + 6 * u * u))


def perform(dance: Dance, fps: float, frames: int) -> tuple[F64, NDArray[np.bool_]]:
    """Joints at k / fps seconds of the music, and which feet stand.

    Returns:
        (T, 22, 3) metres, floor at 0; (T, 2) bool, True while a foot does not move at all.
    """
    t = np.arange(frames) / fps
    g, keys = dance.ground, dance.key_s
    i = np.clip(np.searchsorted(keys, t, side="right") - 1, 0, len(keys) - 2)
    u = (t - keys[i]) / (keys[i + 1] - keys[i])
    slack = (1 - dance.style.move) / 2
    w = ease((u - slack) / dance.style.move)
    feet, planted = zip(*(_foot(g, s, i, u) for s in (0, 1)), strict=True)
    dof_values = _blend(dance.pose, i, w) + dance.off[i] * _pulse(u)[:, None]
    dof = dict(zip(NAMES, np.clip(dof_values, LOW, HIGH).T, strict=True))
    heading = _blend(g.heading[:, None], i, w)[:, 0]
    dof["yaw"] = dof["yaw"] + heading
    root = _root(dance, i, u, w)
    root[:, 1] = _within_reach(root, feet)
    joints = pose_body(root, dof, list(feet), dance.who.height_m)
    return joints, np.stack(planted, axis=1)


def _blend(keys: F64, i: NDArray[np.int64], w: F64) -> F64:
    return np.asarray(keys[i] + (keys[i + 1] - keys[i]) * w[:, None])


def _pulse(u: F64) -> F64:
    """0 on the beats and 1 half-way, at rest in all three: what double-time arms do between two beats."""
    return np.asarray(np.where(u < 0.5, ease(2 * u), ease(2 - 2 * u)))


def _hop(u: F64) -> F64:
    """Height of a jump along a beat, 0..1: off the floor from .2 to .9."""
    v = np.clip((u - 0.2) / 0.7, 0.0, 1.0)
    return np.asarray(np.sin(np.pi * ease(v)) ** 2)


def _foot(g: Ground, side: int, i: NDArray[np.int64], u: F64) -> tuple[F64, NDArray[np.bool_]]:
    """(T, 4) floor x, z, heading, lift of one foot; and whether it stands."""
    a, b = g.foot[i, side], g.foot[i + 1, side]
    moves = (np.abs(a - b).max(axis=1) > 0) | (g.air[i, side] != g.air[i + 1, side]) | (g.hop[i + 1] > 0)
    v = (u - (1 - SWING) / 2) / SWING
    w = ease(v) * moves
    lift = g.air[i, side] + (g.air[i + 1, side] - g.air[i, side]) * w
    lift = lift + g.swing[i + 1, side] * moves * np.sin(np.pi * ease(v)) ** 2 + g.hop[i + 1] * _hop(u)
    hopping = g.hop[i + 1] > 0
    flying = np.where(hopping, (u > 0.2) & (u < 0.9), (v > 0) & (v < 1)) & moves
    if hopping.any():  # in a jump the feet travel only in the air
        w = np.where(hopping, ease((u - 0.2) / 0.7), w)
    aloft = np.where((v <= 0) | ~moves, g.air[i, side], np.where(v >= 1, g.air[i + 1, side], 1.0)) > 0
    path = a + (b - a) * w[:, None]
    return np.concatenate([path, lift[:, None]], axis=1), ~(flying | aloft)


def _root(dance: Dance, i: NDArray[np.int64], u: F64, w: F64) -> F64:
    """(T, 3) pelvis: between the feet, over the one that carries, down on the beat, up in a jump."""
    g = dance.ground
    lever = 0.5 + 0.5 * np.clip(g.shift, -1, 1)[:, None] * 0.62
    standing = np.where((g.air > 0)[..., None], np.nan, g.foot[..., :2])
    both = np.where(np.isnan(standing), standing[:, ::-1], standing)  # a foot in the air carries nothing
    over = lever * both[:, 0] + (1 - lever) * both[:, 1]
    side = np.stack([np.cos(g.heading), -np.sin(g.heading)], axis=1)
    over = over + dance.style.sway * (g.shift * np.sqrt(np.clip(dance.size, 0, 1)))[:, None] * side * 0.5
    place = _blend(over, i, w)
    height = -_blend(g.crouch[:, None], i, w)[:, 0] + g.hop[i + 1] * _hop(u)
    return np.stack([place[:, 0], height, place[:, 1]], axis=1)


def _within_reach(root: F64, feet: tuple[F64, ...]) -> F64:
    """Height of the pelvis at which both legs reach their feet: a leg that is too short lifts a planted foot.

    The highest it may be is looked for within a third of a second to either side and then smoothed, so that the body
    sinks before a wide step and not in it.
    """
    from scipy.ndimage import gaussian_filter1d, maximum_filter1d

    k = STATURE_M
    most = _REACH * _LEG * k
    too_high = np.zeros(len(root))
    for foot in feet:
        flat = np.hypot(foot[:, 0] - root[:, 0], foot[:, 1] - root[:, 2]) + 0.35 * _HIP * k
        allowed = np.sqrt(np.maximum(most**2 - flat**2, 0.01)) + foot[:, 3]
        too_high = np.maximum(too_high, root[:, 1] + _READY * k - allowed)
    sink = gaussian_filter1d(maximum_filter1d(np.maximum(too_high, 0.0), 9, mode="nearest"), 2.5, mode="nearest")
    return np.asarray(root[:, 1] - sink)


def make_clip(dance: Dance, fps: float, frames: int) -> MotionClip:
    """The dance as choreo25, of the canonical skeleton at the dancer's stature; contacts are those of the score."""
    from choreo_cli.motion.choreo25 import encode
    from choreo_cli.motion.skeleton import canonical_skeleton

    joints, planted = perform(dance, fps, frames)
    source = {"format": "procedural", "rig": "own", "fps": fps, "style": dance.style.name}
    clip = encode(
        joints, fps, skeleton=canonical_skeleton(dance.who.height_m), source=source, licence="CC0-1.0",
        origin="choreo synth motions", flags={"synthetic": True},
    )  # fmt: skip
    channels = clip.channels.copy()
    channels[:, 4:6] = planted
    return replace(clip, channels=channels)


def style_of(name: str) -> Style:
    """A style by name. Raises KeyError."""
    return STYLES[name]
