"""SanityChecker: recordings and the dancer pass, each kind of damage fails for its own reason; MusicalityScorer."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from choreo_cli.metrics.motion_clip import Clip
from choreo_cli.metrics.motion_music import Music, music_of_clips, read_music
from choreo_cli.metrics.motion_musicality import PARTS, MusicalityScorer, motion_tempo
from choreo_cli.metrics.motion_sanity import DEFAULT, SanityChecker, Thresholds, failures
from formats.foreign.joints import CANONICAL
from tests.metrics.motion_material import clip_of, dance, standing, swing

AT = {name: k for k, name in enumerate(CANONICAL)}


def reasons(clip: Clip) -> set[str]:
    return {r.split(":")[0] for r in SanityChecker().check(clip).reasons}


@pytest.mark.parametrize("fps", [20.0, 30.0, 60.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_dancer_is_sane_at_every_rate(fps: float, seed: int) -> None:
    found = SanityChecker().check(clip_of(dance(5, fps, seed), fps))
    assert found.passed, found.reasons
    assert set(found.figures) == set(asdict(DEFAULT))


def test_each_damage_has_its_reason() -> None:
    x = dance(5)
    t = np.arange(150)[:, None]
    noisy = x + np.random.default_rng(0).normal(scale=0.03, size=x.shape)
    cut = x + np.where(t[..., None] >= 70, 1.0, 0.0)
    skating = x + (t / 30 * 1.2)[..., None] * np.array([1.0, 0, 0])
    grown = x * (1 + 0.1 * np.sin(t / 9))[..., None]
    through = x.copy()
    for name, offset in (("l_elbow", [0.12, 0.05, 0]), ("l_wrist", [-0.1, 0.05, 0.02]), ("r_wrist", [0.1, 0.0, 0.02])):
        through[:, AT[name]] = x[:, AT["spine2"]] + np.array(offset)
    folded = x.copy()
    folded[:, AT["l_elbow"]] = x[:, AT["l_shoulder"]] + np.array([0.25, 0, 0])
    folded[:, AT["l_wrist"]] = x[:, AT["l_shoulder"]] + np.array([0.01, 0.02, 0])
    holed = x.copy()
    holed[40:43] = np.nan
    fast = x.copy()
    fast[::2, AT["l_wrist"]] += np.array([1.0, 0, 0])
    found = {
        "jerk": noisy, "jump cut": cut, "skate": skating, "bones": grown, "penetration": through, "limits": folded,
        "finite": holed, "speed": fast, "floor": x - np.array([0, 0.03, 0]), "contact": x + np.array([0, 0.4, 0]),
        "still": standing(150),
    }  # fmt: skip
    for reason, joints in found.items():
        # The dancer's own resting ankle: a clip that sinks must not take the sunken one for it.
        assert reason in reasons(clip_of(joints, ankle_rest_m=(0.085, 0.085))), reason
    up = clip_of(x + np.array([0, 0.2, 0]), contacts=np.ones((150, 2)), ankle_rest_m=(0.085, 0.085))
    assert "float" in reasons(up)


def test_reasons_say_value_and_limit_and_thresholds_can_be_set() -> None:
    x = dance(4) - np.array([0, 0.03, 0])
    one = SanityChecker().check(clip_of(x, ankle_rest_m=(0.085, 0.085)))
    assert any("mm, at most 17 mm" in r for r in one.reasons)
    lax = SanityChecker(replace(Thresholds(), ground_mm=100.0))
    assert not any("floor" in r for r in lax.check(clip_of(x, ankle_rest_m=(0.085, 0.085))).reasons)
    assert failures([one, one]) == {"floor": 2}


def test_recordings_pass(shared: Path) -> None:
    from choreo_cli.metrics.motion_read import read_clips
    from choreo_cli.motion import choreo25

    bvh = shared / "data" / "mocap" / "bvh"
    names = ("bandai_ds1_walk_happy_001", "bandai_ds1_bow_childish_001", "xia_neutral_01_000", "freebvh_test")
    clips = read_clips([bvh / f"{n}.bvh" for n in names], {}).clips
    decoded = [replace(c, joints=choreo25.decode(choreo25.encode(c.joints, c.fps))) for c in clips]
    for found in SanityChecker().check_all([*clips, *decoded]):
        assert found.passed, found


# --- musicality


def grid(bpm: float, seconds: float = 40, **more: object) -> Music:
    return Music("grid", np.arange(0, seconds, 60 / bpm), False, more.get("energy"), "0")  # type: ignore[arg-type]


def test_a_swing_follows_its_own_beat_and_not_another() -> None:
    clip = clip_of(swing(20, 30.0))
    own, other = (MusicalityScorer().score(clip, grid(bpm)) for bpm in (120, 97))
    assert [p.name for p in own.parts] == list(PARTS)
    assert own.score is not None and other.score is not None
    assert own.score > 0.85 and other.score < 0.15
    assert own.parts[0].above_chance and own.parts[2].above_chance
    assert own.parts[1].value is None and "energy" not in (own.parts[1].facts or {}) and own.parts[1].why


def test_tempo_is_folded_by_octaves_and_chance_is_that_of_any_tempo() -> None:
    assert motion_tempo(swing(20, 30.0), 30.0) == pytest.approx(120, abs=0.5)
    assert motion_tempo(standing(300), 30.0) is None and motion_tempo(swing(2, 30.0), 30.0) is None
    clip = clip_of(swing(20, 30.0))
    for bpm in (60, 120, 240):
        part = MusicalityScorer().score(clip, grid(bpm)).parts[2]
        assert part.value == pytest.approx(1.0, abs=0.02) and part.facts is not None
    drawn = [MusicalityScorer().score(clip, grid(b)).parts[2].value for b in 2 ** np.linspace(6, 7, 40, endpoint=False)]
    assert np.mean([v for v in drawn if v is not None]) == pytest.approx(part.chance, abs=0.03)


def test_energy_follows_when_music_and_body_rise_together() -> None:
    fps, seconds = 30.0, 40
    t = np.arange(round(seconds * fps)) / fps
    rng = np.random.default_rng(0)
    level = np.repeat(rng.uniform(0.1, 1, 20), 2)
    x = standing(len(t))
    x[:, :, 0] += (np.interp(t, np.arange(40), level) * 0.1 * np.sin(2 * np.pi * 2 * t))[:, None]
    at = np.arange(0, seconds, 0.02)
    music = grid(120, energy=np.interp(at, np.arange(40), level))
    part = MusicalityScorer().score(clip_of(x), music).parts[1]
    assert part.value is not None and part.value > 0.8 and part.above_chance
    other = grid(120, energy=np.interp(at, np.arange(40), np.repeat(np.random.default_rng(5).uniform(0.1, 1, 20), 2)))
    unlike = MusicalityScorer().score(clip_of(x), other).parts[1]
    assert unlike.corrected is not None and unlike.corrected < 0.4 and not unlike.above_chance
    flat = MusicalityScorer().score(clip_of(x), grid(120, energy=np.ones(2000))).parts[1]
    assert flat.value is None and flat.why


def test_music_is_read_from_beats_sound_and_features(tmp_path: Path) -> None:
    data = Path(__file__).parents[2] / "examples" / "data"
    beats, sound, archive = (read_music(data / n) for n in ("beats.txt", "music.wav", "features.npz"))
    assert not beats.estimated and beats.energy is None
    assert sound.estimated and sound.energy is not None and len(sound.beats_s)
    assert archive.energy is not None
    given = read_music(data / "music.wav", data / "beats.txt")
    assert not given.estimated and given.energy is not None and (given.beats_s == beats.beats_s).all()
    found, notes = music_of_clips(["a", "b"], {"a": data / "beats.txt", "b": data / "dance.bvh"}, None, None)
    assert set(found) == {"a"} and len(notes) == 1
    both, _ = music_of_clips(["a", "b"], {}, None, data / "beats.txt")
    assert set(both) == {"a", "b"}
