"""Frames of synthetic sessions: the acceptance figures, the variants, and independence of everything from everything."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from choreo_cli.errors import UsageError
from choreo_cli.sessions.synth import SyntheticSession, SynthOptions, generate_session
from choreo_cli.sessions.synth_signals import trailing_slope
from formats.columns import FRAMES, INPUTS, MASKS, MODALITIES
from formats.tables import bounds, to_arrow


@cache
def session(index: int = 0, **options: object) -> SyntheticSession:
    return generate_session(index, SynthOptions(**{"minutes": 1.0, **options}))  # type: ignore[arg-type]


@cache
def full(index: int, bpm: float) -> SyntheticSession:
    return generate_session(index, SynthOptions(bpm=(bpm,)))


def column(s: SyntheticSession, name: str) -> np.ndarray:
    return np.asarray(s.frames[name], np.float64)


def best_lag_s(x: np.ndarray, y: np.ndarray, limit_s: float = 8.0) -> float:
    """Delay of y behind x at which their correlation is greatest."""
    lags = range(int(limit_s * 50))
    return float(np.argmax([np.corrcoef(x[: len(x) - k], y[k:])[0, 1] for k in lags])) / 50


CASES = [(i, 120.0) for i in range(5)] + [(5, 92.0), (6, 140.0)]


@pytest.mark.parametrize(("index", "bpm"), CASES)
def test_acceptance(index: int, bpm: float) -> None:
    s = full(index, bpm)
    assert bounds(FRAMES, to_arrow(FRAMES, s.frames)) == []
    assert len(s.frames["t_us"]) == 3 * 60 * 50
    for c in INPUTS:
        assert np.isfinite(s.frames[c.name]).all(), c.name
    assert all(np.all(s.frames[m]) for m in MASKS) and np.all(s.frames["synthetic"])
    assert 2.0 <= best_lag_s(column(s, "motion_energy"), column(s, "hr")) <= 4.0
    phase, jerk = column(s, "beat_phase"), column(s, "jerk")
    top = jerk >= np.quantile(jerk, 0.95)
    distance = np.abs((2 * phase[top] + 0.5) % 1 - 0.5) / 2
    assert (distance <= 0.1).mean() >= 0.9


def test_the_jerk_test_can_fail() -> None:
    s = full(0, 120.0)
    phase, jerk = (column(s, "beat_phase") + 0.25) % 1, column(s, "jerk")
    top = jerk >= np.quantile(jerk, 0.95)
    assert (np.abs((2 * phase[top] + 0.5) % 1 - 0.5) / 2 <= 0.1).mean() < 0.2


def test_energy_peaks_on_the_beat_and_less_between() -> None:
    s = full(0, 120.0)
    energy, phase = column(s, "motion_energy"), column(s, "beat_phase")
    level = s.body.level(np.asarray(s.frames["t_us"]) / 1e6)
    shape = np.array(
        [(energy / level)[np.abs((phase - p + 0.5) % 1 - 0.5) < 0.02].mean() for p in np.arange(0, 1, 0.05)]
    )
    assert int(np.argmax(shape)) == 0
    assert shape[10] > shape[5] and shape[10] > shape[15]
    rise = (shape[0] - shape[5]) / (shape[10] - shape[5])
    assert 2.5 < rise < 8


@pytest.mark.parametrize("tau", [1.5, 10.0])
def test_heart_rate_follows_its_time_constant(tau: float) -> None:
    slow = session(0, hr_tau_s=tau, minutes=3.0)
    hr = column(slow, "hr")
    assert np.abs(np.diff(hr)).max() < 0.5 and hr.min() > 75 and hr.max() < 170
    if tau > 5:
        quick = column(session(0, minutes=3.0), "hr")
        assert hr.std() < quick.std()


def test_slope_is_the_least_squares_slope_of_the_past() -> None:
    x = np.cumsum(np.random.default_rng(0).standard_normal(600))
    got = trailing_slope(x, 4.0)
    for i in (200, 333, 599):
        t = np.arange(201) / 50
        assert got[i] == pytest.approx(np.polyfit(t, x[i - 200 : i + 1], 1)[0], abs=1e-9)


def test_beats_agree_with_phase_and_index() -> None:
    s = session(0, ramp=0.2)
    t, phase, index = np.asarray(s.frames["t_us"]) / 1e6, column(s, "beat_phase"), np.asarray(s.frames["beat_idx"])
    beats = s.music.beats_s[s.music.zero :]
    i = np.searchsorted(beats, t, side="right") - 1
    assert np.array_equal(i, index) and index[0] == 0
    assert phase == pytest.approx((t - beats[i]) / (beats[i + 1] - beats[i]), abs=1e-6)


@pytest.mark.parametrize("ramp", [-0.2, 0.0, 0.3])
def test_a_ramp_reaches_its_tempo(ramp: float) -> None:
    s = session(0, ramp=ramp, bpm=(100.0,))
    beats = s.music.beats_s[s.music.zero :]
    assert 60 / (beats[1] - beats[0]) == pytest.approx(100, rel=0.01)
    last = np.searchsorted(beats, beats[0] + 60) - 1
    assert 60 / (beats[last + 1] - beats[last]) == pytest.approx(100 * (1 + ramp), rel=0.01)


def test_tempi_cycle_over_the_sessions() -> None:
    assert [session(i, bpm=(92.0, 120.0, 140.0)).music.bpm for i in range(4)] == [92, 120, 140, 92]


def test_audio_shares_the_level_but_not_the_pulses() -> None:
    s = full(1, 120.0)
    t = np.asarray(s.frames["t_us"]) / 1e6
    energy, loud, level = column(s, "motion_energy"), column(s, "audio_energy"), s.music.level(t)
    assert np.corrcoef(loud, level)[0, 1] > 0.6
    beat = np.asarray(s.frames["beat_idx"])
    peak = lambda x: np.array([x[beat == b].max() for b in range(beat.max())])  # noqa: E731
    flat = np.interp(s.music.beats_s[s.music.zero : s.music.zero + beat.max()], t, level)
    left = [np.asarray(v) - np.polyval(np.polyfit(flat, v, 2), flat) for v in (peak(energy), peak(loud))]
    assert abs(np.corrcoef(*left)[0, 1]) < 0.2


def test_a_session_does_not_depend_on_how_many_there_are() -> None:
    a, b = (generate_session(3, SynthOptions(sessions=n, minutes=0.2)) for n in (4, 9))
    for name in FRAMES.names:
        assert np.array_equal(a.frames[name], b.frames[name])


def test_sessions_and_seeds_differ() -> None:
    names = [c.name for c in INPUTS if c.name != "beat_phase"]
    for other in (session(1), session(0, seed=1)):
        assert all(abs(np.corrcoef(column(session(0), n), column(other, n))[0, 1]) < 0.9 for n in names)


def test_an_option_moves_nothing_else() -> None:
    plain, cut = session(0), session(0, dropout=(("hr", 0.2),))
    live = np.asarray(cut.frames["m_hr"])
    assert np.array_equal(column(plain, "hr")[live], column(cut, "hr")[live])
    assert np.array_equal(column(plain, "motion_energy"), column(cut, "motion_energy"))


@pytest.mark.parametrize("modality", sorted(MODALITIES))
def test_dropouts_leave_null_and_mask_zero(modality: str) -> None:
    s = session(2, dropout=((modality, 0.25),))
    mask = np.asarray(s.frames[f"m_{modality}"])
    assert (~mask).mean() == pytest.approx(0.25, abs=0.001)
    for name in MODALITIES[modality]:
        assert np.array_equal(np.isnan(column(s, name)), ~mask)
    others = [m for m in MASKS if m != f"m_{modality}"]
    assert all(np.all(s.frames[m]) for m in others)
    if modality == "ctx":
        assert np.array_equal(np.asarray(s.frames["beat_idx"]) == -1, ~mask)
    assert to_arrow(FRAMES, s.frames).column(MODALITIES[modality][0]).null_count == int((~mask).sum())


def test_bursts_are_short_and_masked() -> None:
    s = session(0, nan_bursts=40)
    gone = np.array([np.isnan(column(s, c.name)).sum() for c in INPUTS])
    assert 40 * 3 * 0.8 <= gone.sum() <= 40 * 25
    need = np.isfinite([column(s, n) for n in ("motion_energy", "motion_freq", "jerk")]).all(0)
    assert np.array_equal(np.asarray(s.frames["m_mot"]), need)
    assert len([g for g in s.gaps if g.kind == "nan_burst"]) == 40


@pytest.mark.parametrize("index", range(3))
def test_decoupled_motion_is_another_performance(index: int) -> None:
    plain, apart = session(index), session(index, decoupled=True)
    assert 0.03 <= abs(apart.body.bpm / apart.music.bpm - 1) <= 0.10
    assert apart.body.name == f"session-{index:04d}-partner" and apart.body.seed != apart.music.seed
    for name in ("audio_energy", "audio_brightness", "beat_phase"):
        assert np.array_equal(column(plain, name), column(apart, name))
    energy, phase = column(apart, "motion_energy"), column(apart, "beat_phase")

    def lock(e: np.ndarray) -> float:
        return float(abs((e * np.exp(2j * np.pi * phase)).sum()) / e.sum())

    assert lock(energy) < 0.09 < 0.18 < lock(column(plain, "motion_energy"))
    lag = best_lag_s(energy, column(apart, "hr"))
    assert 2 <= lag <= 4


def test_decoupled_start_phases_are_spread() -> None:
    starts = [session(i, decoupled=True, minutes=0.2) for i in range(12)]
    phase = [(s.body.first_s - s.music.first_s) * s.music.bpm / 60 % 1 for s in starts]
    assert abs(np.exp(2j * np.pi * np.array(phase)).mean()) < 0.6


def test_still_people_have_no_rate() -> None:
    s = session(0, still=True)
    assert column(s, "motion_energy").max() < 0.06 and column(s, "jerk").max() < 0.06
    assert np.isnan(column(s, "motion_freq")).all() and not np.any(s.frames["m_mot"])
    assert np.ptp(column(s, "hr")) < 15 and not s.body.gestures.label


def test_gestures_are_labelled_and_visible() -> None:
    s = full(0, 120.0)
    t = np.asarray(s.frames["t_us"]) / 1e6
    g = s.body.gestures
    assert set(g.label) == {"jump", "drop", "lean", "reach", "freeze"} and len(g.label) >= 20
    middle = {k: [] for k in set(g.label)}
    for onset, length, label in zip(g.onset_s, g.length_s, g.label, strict=True):
        assert np.abs(s.music.beats_s - onset).min() < 1e-6
        middle[label].append(int(np.argmin(np.abs(t - onset - length / 2))))
    mean = lambda name, label: column(s, name)[middle[label]].mean()  # noqa: E731
    assert mean("hip_bounce", "jump") > 0.4 and mean("hip_bounce", "drop") < -0.4
    assert mean("hip_sway", "lean") > 0.3 and mean("symmetry", "reach") < 0.5
    level = s.body.level(t)
    ratio = column(s, "motion_energy") / level
    assert ratio[middle["freeze"]].mean() < 0.5 * ratio.mean()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"sessions": 0}, "--sessions 0 is outside 1..10000"),
        ({"bpm": (120.0, 500.0)}, "--bpm 500 is outside 40..240"),
        ({"bpm": ()}, "--bpm is empty"),
        ({"minutes": float("nan")}, "--minutes nan is outside 0.1..120"),
        ({"dropout": (("eeg", 0.1),)}, "--dropout eeg: no such modality: one of mot, hr, aud, ctx"),
        ({"dropout": (("mot", 1.5),)}, "--dropout mot=1.5 is outside 0..0.9"),
        ({"ramp": 0.9, "bpm": (200.0,)}, "--ramp 0.9 takes 200 beats/min to 380"),
    ],
)
def test_bad_options_are_named(options: dict[str, object], text: str) -> None:
    with pytest.raises(UsageError) as e:
        SynthOptions(**options)  # type: ignore[arg-type]
    assert str(e.value) == text
