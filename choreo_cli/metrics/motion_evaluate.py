"""All motion metrics of a set of clips, as entries of `choreo.metrics/1`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from choreo_cli.errors import UsageError
from choreo_cli.metrics.motion_beats import Alignment, bas_fixed, compat_alignment
from choreo_cli.metrics.motion_clip import FIXED_FPS, SHORTEST_S, WINDOW_S, Clip, mended, resampled, windows
from choreo_cli.metrics.motion_features import set_entries
from choreo_cli.metrics.motion_manual import Lengths
from choreo_cli.metrics.motion_measures import (
    MODES,
    Measure,
    asked_for,
    compat_measures,
    fixed_measures,
)
from choreo_cli.metrics.motion_music import Music
from choreo_cli.metrics.motion_musicality import PARTS, Musicality, MusicalityScorer
from choreo_cli.metrics.motion_record import Entry, Values, nothing, of_each, record
from choreo_cli.metrics.motion_sanity import SanityChecker, failures

BEAT_FPS = 60.0
NO_CHANNELS = "no choreo25 channels to clamp"
NO_MUSIC = "no music: give --music FILE or --beats FILE"
HANDS = "wrists stand in for hands"


@dataclass(frozen=True, slots=True)
class How:
    """What is asked for.

    Args:
        mode: One of `motion_measures.MODES`.
        seed: Of every draw.
        each: Also an entry a clip.
        require: Least share of clips that has to pass the sanity check.
        lengths: The peers' built-in body lengths, for their manual features.
    """

    mode: str = "fixed"
    seed: int = 0
    each: bool = False
    require: float | None = None
    lengths: Lengths | None = None

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise UsageError(f"--mode {self.mode!r} is none of {', '.join(MODES)}")


def motion_entries(
    clips: Sequence[Clip],
    *,
    music: Mapping[str, Music] | None = None,
    reference: Sequence[Clip] = (),
    reference_music: Mapping[str, Music] | None = None,
    how: How | None = None,
    on_progress: Callable[..., None] | None = None,
) -> list[Entry]:
    """Judge clips.

    Args:
        clips: At least one, names unique.
        music: Clip name -> what it was danced to.
        reference: Real clips: floors, and the real side of set distances.
        reference_music: Real clip name -> what it was danced to.
        how: What is asked for.
        on_progress: Called as `on_progress(done, total)`.
    """
    asked = how or How()
    chosen = [m for m in (*fixed_measures(), *compat_measures()) if asked_for(asked.mode, m.mode)]
    found = measured(chosen, clips, on_progress)
    real = measured(chosen, reference) if reference else [None] * len(chosen)
    rng = np.random.default_rng([asked.seed, 1])
    out = sanity_entries(clips, asked, rng, reference) if asked_for(asked.mode, "fixed") else []
    for values, floor in zip(found, real, strict=True):
        out.append(record(values, rng, reference=floor, goal=_contact_goal(values, floor)))
        out += of_each(values) if asked.each else []
    out += clamp_entries(clips, rng) if asked_for(asked.mode, "fixed") else []
    out += beat_entries(clips, music or {}, asked, rng, reference, reference_music)
    out += set_entries(clips, reference, asked.mode, asked.lengths, np.random.default_rng([asked.seed, 2]))
    return out


def _contact_goal(values: Values, floor: Values | None) -> tuple[str, float] | None:
    """A model that floats has no skating: its feet must be down at least half as often as real ones."""
    if values.name != "contact_fraction" or floor is None or not floor.clips:
        return None
    return ">=", 0.5 * float(np.mean(list(floor.clips.values())))


def measured(
    chosen: Sequence[Measure], clips: Sequence[Clip], on_progress: Callable[..., None] | None = None
) -> list[Values]:
    """Every measure of every clip; a clip without a value is left out of that figure with the reason."""
    out = [Values(m.name, m.unit, m.better, m.mode, fps=m.fps, params=_params(m)) for m in chosen]
    own_rates: set[float] = set()
    for k, clip in enumerate(clips):
        whole = mended(clip)
        own_rates.add(clip.fps)
        at: dict[float | None, list[Clip]] = {}
        for m, values in zip(chosen, out, strict=True):
            values.groups[clip.name] = clip.group
            if whole.seconds < SHORTEST_S:
                values.left_out[clip.name] = f"{whole.frames} usable frames"
                continue
            if m.fps not in at:
                at[m.fps] = [whole if m.fps is None else resampled(whole, m.fps)]
            _measure(m, at[m.fps][0], values)
        if on_progress is not None:
            on_progress(k + 1, len(clips))
    for m, values in zip(chosen, out, strict=True):
        if m.fps is None:
            values.fps = sorted(own_rates)
            # One rate is part of the name; several are not comparable, and the record says which they were.
            values.name = f"{m.name}@{next(iter(own_rates)):g}fps" if len(own_rates) == 1 else m.name
        if m.name.startswith("pbc") and any(c.joints.shape[1] == 22 for c in clips):
            values.name, values.params["hands"] = m.name.replace("pbc", "pbc22"), HANDS
    return out


def _params(m: Measure) -> dict[str, Any]:
    return {**m.params, "window_s": WINDOW_S if m.windowed else None}


def _measure(m: Measure, at: Clip, values: Values) -> None:
    pieces = windows(at) if m.windowed else [at]
    found = [v for v in (m.of(p) for p in pieces) if v is not None and np.isfinite(v)]
    if not found:
        values.left_out[at.name] = m.missing
        return
    values.clips[at.name] = float(np.mean(found))
    values.frames += sum(p.frames for p in pieces)


def clamp_entries(clips: Sequence[Clip], rng: np.random.Generator) -> list[Entry]:
    """Channel values outside their hard ranges, and the joint limits of what is left after clamping them."""
    share = Values("clamped_share", "1", "lower", "fixed", groups={c.name: c.group for c in clips})
    share.clips = {c.name: c.clamped_share for c in clips if c.clamped_share is not None}
    share.left_out = {c.name: NO_CHANNELS for c in clips if c.clamped_share is None}
    after = [replace(c, joints=c.clamped, clamped=None) for c in clips if c.clamped is not None]
    limits = [replace(m, name=f"{m.name}_after_clamp") for m in fixed_measures() if m.name.startswith("limits_")]
    found = measured(limits, after)
    for values in found:
        values.left_out |= share.left_out
    return [record(v, rng) for v in (share, *found)]


def sanity_entries(
    clips: Sequence[Clip], how: How, rng: np.random.Generator, reference: Sequence[Clip] = ()
) -> list[Entry]:
    """The pass rate with the reasons of every clip that failed, and one entry a clip when asked."""
    checker = SanityChecker()
    found = checker.check_all(clips)
    values = Values("sanity", "1", "higher", "fixed", fps=FIXED_FPS, frames=sum(c.frames for c in clips))
    values.clips = {s.name: float(s.passed) for s in found}
    values.groups = {c.name: c.group for c in clips}
    reasons = {s.name: list(s.reasons) for s in found if s.reasons}
    values.params = {"thresholds": checker.described(), "failures": failures(found), "reasons": reasons}
    real = replace(values, clips={s.name: float(s.passed) for s in checker.check_all(reference)})
    goal = None if how.require is None else (">=", how.require)
    out = [record(values, rng, goal=goal, reference=real)]
    for one, entry in zip(found, of_each(values) if how.each else [], strict=False):
        out.append({**entry, "params": {**entry["params"], "reasons": list(one.reasons), "figures": one.figures}})
    return out


def beat_entries(
    clips: Sequence[Clip],
    music: Mapping[str, Music],
    how: How,
    rng: np.random.Generator,
    reference: Sequence[Clip] = (),
    reference_music: Mapping[str, Music] | None = None,
) -> list[Entry]:
    """Beat alignment as asked for, and the parts of the musicality score."""
    out: list[Entry] = []
    real = (reference, reference_music or {})
    if asked_for(how.mode, "fixed"):
        out += _aligned("beat_alignment", "fixed", clips, music, FIXED_FPS, how, rng, real)
        out += _musicality(clips, music, how, rng)
    for name, mode in (("bas_music", "compat:bailando"), ("bas_motion", "compat:mint")):
        if asked_for(how.mode, mode):
            out += _aligned(name, mode, clips, music, BEAT_FPS, how, rng, real)
    return out


def _aligned(
    name: str, mode: str, clips: Sequence[Clip], music: Mapping[str, Music], fps: float, how: How,
    rng: np.random.Generator, reference: tuple[Sequence[Clip], Mapping[str, Music]],
) -> list[Entry]:  # fmt: skip
    compat = mode != "fixed"
    full = f"{name}@{fps:g}fps{'_j22' if any(c.joints.shape[1] == 22 for c in clips) else ''}" if compat else name
    values, each = _scored(full, name, mode, clips, music, fps, rng)
    real, real_each = _scored(full, name, mode, reference[0], reference[1], fps, rng)
    _beat_params(values, each, music, compat)
    flat = bool(each) and all(a.status == "degenerate" for a in each.values())
    chance = [a.chance for a in each.values() if a.chance is not None]
    level = float(np.mean(chance)) if chance else None
    status, why = ("degenerate", "no clip has a motion beat") if flat else (None, None)
    out = [record(values, rng, chance=level, status=status, why=why, reference=real)]
    if not compat:
        more, floor = _corrected(values, each), _corrected(real, real_each)
        out.append(record(more, rng, chance=0.0 if more.clips else None, status=status, why=why, reference=floor))
    return out + (of_each(values) if how.each else [])


def _scored(
    full: str, name: str, mode: str, clips: Sequence[Clip], music: Mapping[str, Music], fps: float,
    rng: np.random.Generator,
) -> tuple[Values, dict[str, Alignment]]:  # fmt: skip
    values = Values(full, "1", "higher", mode, fps=fps, groups={c.name: c.group for c in clips})
    each: dict[str, Alignment] = {}
    for clip in clips:
        heard = music.get(clip.name)
        at = resampled(mended(clip), fps)
        if heard is None or at.seconds < SHORTEST_S:
            values.left_out[clip.name] = NO_MUSIC if heard is None else f"{at.frames} usable frames"
            continue
        one = _align(name, at, heard, rng)
        if one.value is None:
            values.left_out[clip.name] = one.why or "no value"
            continue
        each[clip.name] = one
        values.clips[clip.name] = one.value
        values.frames += at.frames
    return values, each


def _corrected(values: Values, each: Mapping[str, Alignment]) -> Values:
    """The same beside chance: (value - chance) / (1 - chance); a body without motion beats gets 0."""
    found = {n: 0.0 if a.status == "degenerate" else a.corrected for n, a in each.items()}
    return replace(
        values, name=f"{values.name}_corrected", clips={n: v for n, v in found.items() if v is not None},
        left_out={**values.left_out, **{n: "no chance level" for n, v in found.items() if v is None}},
        params={"of": values.name, "formula": "(value - chance) / (1 - chance)"},
    )  # fmt: skip


def _align(name: str, at: Clip, heard: Music, rng: np.random.Generator) -> Alignment:
    if name == "beat_alignment":
        return bas_fixed(at.body, at.fps, heard.beats_s, rng)
    return compat_alignment(name, at.joints, at.fps, heard.beats_s, rng)


def _beat_params(values: Values, found: Mapping[str, Alignment], music: Mapping[str, Music], compat: bool) -> None:
    each = list(found.values())
    heard = {m.sha256: m.facts() for m in music.values()}
    sds = [a.chance_sd for a in each if a.chance_sd is not None]
    values.params = {
        "music": list(heard.values())[:16],
        "beats_estimated": any(m.estimated for m in music.values()),
        "degenerate": sum(a.status == "degenerate" for a in each),
        "chance_sd": float(np.mean(sds)) if sds else None,
        "chance_of": "grids turned by a random part of a beat, 200 draws",
        "sigma": "3 frames" if compat else "50 ms",
    }
    if each and not compat:
        for k, way in (("over_music_beats", "music"), ("over_motion_beats", "motion")):
            values.params[k] = float(np.mean([getattr(a, way) for a in each]))


def _musicality(clips: Sequence[Clip], music: Mapping[str, Music], how: How, rng: np.random.Generator) -> list[Entry]:
    if not music:
        return [
            nothing(n, "1", "higher", "fixed", NO_MUSIC) for n in ("musicality", *(f"musicality_{p}" for p in PARTS))
        ]
    scorer = MusicalityScorer(how.seed)
    found: list[Musicality] = [scorer.score(mended(c), music[c.name]) for c in clips if c.name in music]
    groups = {c.name: c.group for c in clips}
    whole = Values("musicality", "1", "higher", "fixed", fps=FIXED_FPS, groups=groups)
    whole.left_out = {c.name: NO_MUSIC for c in clips if c.name not in music}
    parts = [replace(whole, name=f"musicality_{p}", clips={}, left_out=dict(whole.left_out)) for p in PARTS]
    above: list[list[bool]] = [[] for _ in PARTS]
    for one in found:
        if one.score is not None:
            whole.clips[one.name] = one.score
        else:
            whole.left_out[one.name] = "no part could be measured"
        for part, values, passed in zip(one.parts, parts, above, strict=True):
            if part.corrected is None:
                values.left_out[one.name] = part.why or "no chance level"
            else:
                values.clips[one.name] = part.corrected
                passed += [] if part.above_chance is None else [part.above_chance]
    whole.params = {"parts": {v.name: float(np.mean(list(v.clips.values()))) if v.clips else None for v in parts}}
    for values, passed in zip(parts, above, strict=True):
        values.params = {"corrected": True, "clips_above_chance": sum(passed), "of": len(passed)}
    # 0 is what an unrelated dance gets: every part is corrected for chance.
    return [record(v, rng, chance=0.0 if v.clips else None) for v in (whole, *parts)]


def clip_figures(clip: Clip, music: Music | None = None, seed: int = 0) -> dict[str, Any]:
    """What a page shows beside a clip: fixed metrics by name, `sanity` reasons, and the parts of `musicality`."""
    found = {v.name: next(iter(v.clips.values()), None) for v in measured(fixed_measures(), [clip])}
    shown: dict[str, Any] = {**found, "sanity": list(SanityChecker().check(clip).reasons)}
    if music is not None:
        score = MusicalityScorer(seed).score(mended(clip), music)
        shown["musicality"] = score.score
        shown |= {p.name: p.corrected for p in score.parts}
    return shown
