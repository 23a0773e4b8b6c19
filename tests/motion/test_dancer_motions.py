"""The training dancer: on the beat by more than chance, sane, exact contacts, and nothing to foresee without music."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from choreo_cli.audio.beats import track_beats
from choreo_cli.audio.features import extract
from choreo_cli.audio.inputs import audio_inputs
from choreo_cli.audio.render_band import FEELS, arrange, render_band
from choreo_cli.errors import UsageError
from choreo_cli.metrics.motion_beats import bas_fixed
from choreo_cli.metrics.motion_clip import Clip
from choreo_cli.metrics.motion_music import Music
from choreo_cli.metrics.motion_musicality import MusicalityScorer
from choreo_cli.metrics.motion_sanity import SanityChecker, failures
from choreo_cli.motion.choreo25 import decode
from choreo_cli.motion.dancer_clip import choreograph, make_clip, perform
from choreo_cli.motion.dancer_set import DanceSetOptions, MadeDance, check_options, dance
from choreo_cli.motion.dancer_styles import STYLES, draw_dancer
from formats.motion_npz import encode

N, SECONDS = 24, 10.0
ASKED = DanceSetOptions(clips=N, seconds=SECONDS, seed=11)


@cache
def made(k: int) -> MadeDance:
    return dance(k, ASKED)


@cache
def judged(k: int) -> Clip:
    clip = made(k).clip
    rest = clip.header.skeleton.ank0
    contacts = clip.channels[:, 4:6].astype(np.float64)
    return Clip(f"dance-{k}", decode(clip), 30.0, contacts, (float(rest[0]), float(rest[1])))


def beats_of(k: int) -> np.ndarray:
    beats = made(k).dance.form.beats_s
    return beats[(beats >= 0) & (beats <= SECONDS)]


def interval(values: np.ndarray) -> tuple[float, float]:
    rng = np.random.default_rng(0)
    means = [rng.choice(values, len(values)).mean() for _ in range(999)]
    return float(np.percentile(means, 2.5)), float(np.percentile(means, 97.5))


def test_every_clip_passes_the_sanity_check() -> None:
    found = SanityChecker().check_all([judged(k) for k in range(N)])
    assert failures(found) == {}
    assert {made(k).dance.style.name for k in range(N)} == set(STYLES)


def test_moves_land_on_the_beat_of_their_own_music_and_of_no_other() -> None:
    rng = np.random.default_rng(0)
    own = [bas_fixed(judged(k).joints, 30.0, beats_of(k), rng) for k in range(N)]
    other = [bas_fixed(judged(k).joints, 30.0, beats_of((k + N // 2) % N), rng) for k in range(N)]
    corrected = np.array([a.corrected for a in own])
    assert interval(corrected)[0] > 0.7
    assert np.mean([a.p is not None and a.p <= 0.05 for a in own]) > 0.9
    low, high = interval(np.array([a.corrected for a in other]))
    assert low < 0.05 and high < 0.1  # what is left when the music is exchanged


def test_motion_follows_the_energy_and_tempo_of_its_music() -> None:
    parts: dict[str, list[float]] = {}
    swapped: dict[str, list[float]] = {}
    music = []
    for k in range(12):
        samples = render_band(made(k).dance.form, SECONDS, np.random.default_rng(k))
        found = extract(samples)
        energy, _, _ = audio_inputs(found, np.arange(0, found.duration_us + 1, 20_000))
        music.append(Music(str(k), beats_of(k), False, energy.astype(np.float64), ""))
    for k in range(12):
        for into, j in ((parts, k), (swapped, (k + 6) % 12)):
            for p in MusicalityScorer().score(judged(k), music[j]).parts:
                if p.corrected is not None:
                    into.setdefault(p.name, []).append(p.corrected)
    for name in ("energy_correlation", "tempo_agreement"):
        assert interval(np.array(parts[name]))[0] > 0.05, name
        assert interval(np.array(swapped[name]))[0] < 0.1, name
        assert np.mean(parts[name]) > np.mean(swapped[name]) + 0.2, name


def test_standing_feet_do_not_move_at_all() -> None:
    for k in range(N):
        clip, joints = made(k).clip, judged(k).joints
        stands = clip.channels[:, 4:6] > 0.5
        both = stands[1:] & stands[:-1]
        speed = np.linalg.norm(np.diff(joints[:, [7, 8]], axis=0), axis=-1) * 30
        assert speed[both].max() < 1e-4  # m/s: float32 channels summed
        height = joints[:, [7, 8], 1] - clip.header.skeleton.ank0
        assert np.abs(height[stands]).max() < 1e-5
        assert 0.3 < stands.mean() < 1.0
        # The score knows which feet stand; what the joints tell by thresholds agrees but for lifting and landing.
        assert (np.asarray(perform(made(k).dance, 30.0, len(stands))[1]) == stands).all()


def test_a_clip_depends_on_seed_and_number_alone() -> None:
    again = dance(5, DanceSetOptions(clips=500, seconds=SECONDS, seed=11))
    assert encode(again.clip) == encode(made(5).clip) and again.wav == made(5).wav
    assert encode(dance(5, DanceSetOptions(seconds=SECONDS, seed=12)).clip) != encode(made(5).clip)


def test_beats_of_the_music_are_heard_where_they_were_written() -> None:
    late = []
    for k in range(6):
        form = made(k).dance.form
        heard = track_beats(extract(render_band(form, SECONDS, np.random.default_rng(k)))).beats_s
        eighths = np.sort(np.concatenate([form.beats_s, (form.beats_s[1:] + form.beats_s[:-1]) / 2]))
        late.extend(np.abs(heard[:, None] - eighths[None]).min(axis=1))
    assert np.median(late) < 0.005 and np.quantile(late, 0.9) < 0.02


def test_form_cannot_be_told_from_how_a_clip_begins() -> None:
    """A ridge regression from the first posture and velocity explains nothing of tempo, phase, energy or boundary."""
    n = 240
    rows, facts = [], []
    for k in range(n):
        rng = np.random.default_rng((3, k))
        form = arrange(1.0, rng)
        styles = sorted(STYLES)
        danced = choreograph(form, draw_dancer(3, k // 4), STYLES[styles[k % len(styles)]], rng)
        opening = make_clip(danced, 30.0, 2).channels[0]
        first = int(np.argmax(form.beats_s >= 0))
        starts = form.beats_s[[p.start for p in form.phrases]]
        later = starts[starts > 0.3]
        phrase = form.phrases[min(int(form.phrase_of()[first]) + 1, len(form.phrases) - 1)]
        phase = 2 * np.pi * form.beats_s[first] * form.bpm / 60
        rows.append(np.concatenate([opening, [1.0]]))
        facts.append([form.bpm, np.sin(phase), phrase.energy, later[0] if len(later) else 9.0])
    x, y = np.array(rows, np.float64), np.array(facts)
    x[:, :-1] = (x[:, :-1] - x[:, :-1].mean(0)) / np.maximum(x[:, :-1].std(0), 1e-6)
    fit, test = np.arange(n) < n * 2 // 3, np.arange(n) >= n * 2 // 3
    w = np.linalg.solve(x[fit].T @ x[fit] + 30 * np.eye(x.shape[1]), x[fit].T @ y[fit])
    r2 = 1 - ((y[test] - x[test] @ w) ** 2).mean(0) / y[test].var(0)
    assert (r2 < 0.25).all(), r2


def test_forms_differ_and_cover_all_feels() -> None:
    forms = [arrange(20.0, np.random.default_rng(k)) for k in range(40)]
    assert {p.feel for f in forms for p in f.phrases} == set(FEELS)
    assert np.std([f.bpm for f in forms]) > 10
    for f in forms:
        assert f.beats_s[0] < 0 and f.beats_s[-1] > 20.0 and (np.diff(f.beats_s) > 0.3).all()
        assert sum(p.beats for p in f.phrases) == len(f.beats_s) == len(f.energy())
        assert not any(a.feel == b.feel == "break" for a, b in zip(f.phrases, f.phrases[1:], strict=False))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"clips": 0}, "--clips 0"), ({"seconds": 0.1}, "--seconds 0.1"), ({"bpm": (20.0,)}, "--bpm 20"),
        ({"fps": float("nan")}, "--fps nan"), ({"styles": ("waltz",)}, "no style 'waltz'"), ({"seed": -1}, "--seed -1"),
    ],
)  # fmt: skip
def test_what_cannot_be_danced_is_refused(change: dict, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        check_options(DanceSetOptions(**change))
