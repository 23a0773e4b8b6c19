"""Groove over sessions: synthetic dancers pass, decoupled ones fail, and what cannot be judged says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import groove_material as material
import numpy as np
import pytest

from choreo_cli.dataset.frameset import FrameSet, read_frames
from choreo_cli.errors import DataError
from choreo_cli.metrics import table
from choreo_cli.metrics.groove import DRIFT, ENERGY, ONE_CLOCK, groove
from choreo_cli.metrics.over_runs import over_runs, paired_losses
from choreo_cli.metrics.tracks import controls_of, pair_up, pair_up_fitting
from choreo_cli.reflex.teacher import teach
from choreo_cli.sessions.synth import SynthOptions, write_sessions
from formats.metrics import entry, validate

COHERENCE = "groove.phase_coherence"
GATES = (COHERENCE, ENERGY, DRIFT, f"{DRIFT}.ppm_bound")
Entry = dict[str, Any]


def sessions(folder: Path, **how: Any) -> FrameSet:
    """Frames of a small synthetic set."""
    from formats.manifest import Manifest, Root

    folder.mkdir(parents=True, exist_ok=True)
    options = SynthOptions(**{"sessions": 3, "minutes": 1.5, "bpm": (92.0, 120.0, 140.0), "material": False} | how)
    made = write_sessions(options, folder)
    return read_frames(None, Manifest("choreo.sessions/1", {}, made.entries, [Root("out", str(folder), True)]))


def taught(frames: FrameSet) -> dict[str, Any]:
    """The rule teacher's controls: what a perfect mapper would emit."""
    return {s.session_id: teach(frames.x[s.slice], frames.mask[s.slice], frames.t_us[s.slice]) for s in frames.sessions}


def by_name(entries: list[Entry]) -> dict[str, Entry]:
    return {e["name"]: e for e in entries if e["params"].get("session") is None}


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> FrameSet:
    return sessions(tmp_path_factory.mktemp("own"))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> FrameSet:
    """Other bodies, other seeds, tempo 3-10 % apart."""
    return sessions(tmp_path_factory.mktemp("other"), seed=50, bpm=(97.0, 113.0, 150.0))


def test_dancers_pass_all_gates(own: FrameSet) -> None:
    entries = groove(pair_up(controls_of(taught(own), own), own))
    for k, e in enumerate(entries):
        validate(e, "groove", k)
    found = by_name(entries)
    c, r, d = (found[n] for n in (COHERENCE, ENERGY, DRIFT))
    assert c["value"] > 0.9 and c["n"] > 300 and c["p"] <= 0.01 and c["pass"] is True
    assert r["value"] > 0.9 and r["p"] <= 0.01 and r["pass"] is True and abs(r["params"]["lag_ms"]) <= 40
    assert 0.95 <= d["value"] <= 1.0 and d["p"] <= 0.01 and d["pass"] is True
    ppm = found[f"{DRIFT}.ppm"]
    assert abs(ppm["value"]) < 100 and found[f"{DRIFT}.ppm_bound"]["pass"] is True
    assert 0 < c["params"]["mean_phase_ms"] < 20 and sum(c["params"]["histogram"]) == c["n"]
    assert c["ci"][0] <= c["value"] <= c["ci"][1] and c["chance"] < 0.9
    assert not table.failed(entries)


def test_decoupled_controls_fail_all_gates(own: FrameSet, other: FrameSet) -> None:
    found = by_name(groove(pair_up(controls_of(taught(own), own), other, in_order=True)))
    assert [found[n]["pass"] for n in GATES] == [False] * 4
    assert found[COHERENCE]["value"] < 0.3 and found[DRIFT]["value"] < 0.7 and found[ENERGY]["p"] > 0.01


def test_a_decoupled_set_fails_the_beat_gates(tmp_path: Path) -> None:
    """Motion of a partner on other beats: the control follows the body, and neither keeps the music's beat."""
    frames = sessions(tmp_path, decoupled=True)
    found = by_name(groove(pair_up(controls_of(taught(frames), frames), frames)))
    assert found[COHERENCE]["pass"] is False and found[DRIFT]["pass"] is False


def test_every_session_has_its_own_entries(own: FrameSet) -> None:
    entries = groove(pair_up(controls_of(taught(own), own), own), draws=199)
    mine = [e for e in entries if e["params"].get("session") == "session-0001"]
    assert [e["name"] for e in mine] == [f"{n}.session" for n in (COHERENCE, ENERGY, DRIFT)]
    assert all(e["pass"] is None and e["goal"] is None for e in mine)
    assert len(mine[0]["params"]["histogram"]) == 24 and len(mine[1]["params"]["curve"]) == 11
    assert 0 < len(mine[2]["params"]["points"]) <= 60
    mean = np.mean([e["value"] for e in entries if e["name"] == f"{ENERGY}.session"])
    assert by_name(entries)[ENERGY]["value"] == pytest.approx(mean), "sessions are averaged, frames never pooled"


def test_equal_seeds_give_equal_entries_and_another_seed_the_same_verdict(own: FrameSet) -> None:
    tracks = pair_up(controls_of(taught(own), own), own)
    a, b, c = groove(tracks, draws=199), groove(tracks, draws=199), groove(tracks, seed=1, draws=199)
    assert a == b and a != c
    assert [e["pass"] for e in a] == [e["pass"] for e in c]


def test_one_session_is_told_apart_from_a_pass(own: FrameSet) -> None:
    found = by_name(groove(pair_up(controls_of(taught(own), own)[:1], own)))
    c = found[COHERENCE]
    assert c["value"] > 0.9 and c["pass"] is None and c["why"] == ONE_CLOCK and c["ci"] is None
    assert c["params"]["ci_why"] and found[ENERGY]["pass"] is True and found[DRIFT]["pass"] is True


def test_gaps_and_missing_modalities_do_not_stop_it(tmp_path: Path) -> None:
    frames = sessions(tmp_path, dropout=(("ctx", 0.15), ("mot", 0.2)), nan_bursts=20)
    controls = {k: np.nan_to_num(v, nan=0.5) for k, v in taught(frames).items()}
    found = by_name(groove(pair_up(controls_of(controls, frames), frames), draws=199))
    assert all(found[n]["value"] is not None for n in GATES)
    assert found[COHERENCE]["pass"] is True and found[ENERGY]["pass"] is True


def test_a_tempo_ramp_is_followed(tmp_path: Path) -> None:
    frames = sessions(tmp_path, ramp=0.15)
    found = by_name(groove(pair_up(controls_of(taught(frames), frames), frames)))
    assert found[COHERENCE]["pass"] is True and found[DRIFT]["pass"] is True


def test_constant_and_short_controls_are_not_judged(own: FrameSet) -> None:
    flat = {s.session_id: np.full((s.rows, 5), 0.5) for s in own.sessions}
    found = by_name(groove(pair_up(controls_of(flat, own), own), draws=199))
    assert {found[n]["status"] for n in (COHERENCE, ENERGY, DRIFT)} == {"degenerate"}
    assert all(found[n]["pass"] is None and found[n]["value"] is None for n in GATES)
    brief = [material.dancer(np.random.default_rng(k), seconds=6.0) for k in range(2)]
    found = by_name(groove(brief, draws=199))
    assert all(found[n]["status"] == "insufficient" and found[n]["pass"] is None for n in GATES)
    assert "need 16" in found[COHERENCE]["why"]
    asked = {n for n in GATES if "p_max" in found[n]["params"]}
    assert asked == {COHERENCE, ENERGY, DRIFT}, "the slope's bound has no p, measured or not"


def test_a_late_control_fails_phase_only() -> None:
    """95 ms at 120 beats/min: v = cos(2 pi .19) = .37."""
    rng = np.random.default_rng(0)
    found = by_name(groove([material.dancer(rng, late_s=0.095) for _ in range(3)], draws=199))
    assert found[COHERENCE]["value"] == pytest.approx(0.37, abs=0.08) and found[COHERENCE]["pass"] is False
    assert found[COHERENCE]["params"]["mean_phase_ms"] == pytest.approx(95, abs=5)
    assert found[ENERGY]["params"]["lag_ms"] == pytest.approx(100, abs=10) and found[ENERGY]["status"] == "edge"
    assert found[DRIFT]["pass"] is True


def test_a_session_that_cannot_be_judged_does_not_stop_the_others(own: FrameSet) -> None:
    controls = controls_of(taught(own), own)
    one = type(controls[0])(controls[0].session_id, controls[0].t_us[:1], controls[0].y[:1], True)
    late = type(controls[1])(controls[1].session_id, controls[1].t_us + 10**10, controls[1].y, True)
    tracks, left_out = pair_up_fitting([one, late, *controls[2:]], own)
    assert [t.session_id for t in tracks] == [c.session_id for c in controls[2:]]
    assert list(left_out) == [one.session_id, late.session_id]
    assert "a single frame" in left_out[one.session_id] and "no time in common" in left_out[late.session_id]
    found = by_name(groove(tracks, draws=199, left_out=left_out))
    assert all(found[n]["params"]["left_out"] == left_out for n in GATES)
    with pytest.raises(DataError, match="a single frame"):
        pair_up_fitting([one, late], own)


def test_sessions_that_do_not_fit_are_refused(own: FrameSet, other: FrameSet) -> None:
    controls = controls_of(taught(own), own)
    with pytest.raises(DataError, match="3 controls, but 1 sessions"):
        one = FrameSet(other.x, other.mask, other.t_us, other.sessions[:1], other.source, other.folder, other.path)
        pair_up(controls, one, in_order=True)
    renamed = [type(c)(f"{c.session_id}-x", c.t_us, c.y, True) for c in controls]
    with pytest.raises(DataError, match="session-0000-x has controls but no frames"):
        pair_up(renamed, own)
    later = [type(c)(c.session_id, c.t_us + 10**10, c.y, True) for c in controls]
    with pytest.raises(DataError, match="no time in common"):
        pair_up(later, own)
    with pytest.raises(DataError, match="7 controls for"):
        controls_of({"session-0000": np.zeros((7, 5))}, own)


def scored(values: list[float], goal: float = 0.5) -> list[Any]:
    return [
        ({"run": f"r{k}", "recipe": "mapper", "seed": k}, [entry("m", v, "1", "higher", goal=(">=", goal))])
        for k, v in enumerate(values)
    ]


def test_seeds_are_brought_together_and_every_one_has_to_pass() -> None:
    (e,) = over_runs(scored([0.6, 0.7, 0.8]))
    assert e["value"] == pytest.approx(0.7) and e["n"] == 3 and e["pass"] is True
    assert e["ci"] == pytest.approx([0.7 - 4.302653 * 0.1 / np.sqrt(3), 0.7 + 4.302653 * 0.1 / np.sqrt(3)])
    (e,) = over_runs(scored([0.4, 0.9, 0.9]))
    assert e["value"] > 0.7 and e["pass"] is False and e["params"]["worst"] == 0.4, "a mean hides the worst seed"
    (e,) = over_runs(scored([0.9]))
    assert e["params"] == {"run": "r0", "recipe": "mapper", "seed": 0} and e["pass"] is True and e["ci"] is None
    partial = scored([0.6, 0.7])
    partial[1] = (partial[1][0], [])
    (e,) = over_runs(partial)
    assert e["pass"] is None and "1 of 2 runs" in e["why"]


def run(seed: int, loss: float, sha: str = "a", recipe: str = "mapper") -> Entry:
    figure = {"name": "mapper.loss_ratio", "params": {"mse": [loss, loss]}}
    return {"id": f"{seed}", "recipe": recipe, "seed": seed, "data": {"sha256": sha}, "metrics": [figure]}


def test_losses_are_paired_by_seed() -> None:
    assert paired_losses([run(1, 0.1), run(0, 0.2)], [run(0, 0.3), run(1, 0.4)]) == [(0, 0.2, 0.3), (1, 0.1, 0.4)]
    with pytest.raises(DataError, match="other data"):
        paired_losses([run(0, 0.1)], [run(0, 0.1, "b")])
    with pytest.raises(Exception, match="no seed is in both"):
        paired_losses([run(0, 0.1)], [run(1, 0.1)])
    with pytest.raises(Exception, match="a run of rps"):
        paired_losses([run(0, 0.1)], [run(0, 0.1, recipe="rps")])


def test_the_table_shows_verdicts_and_reasons() -> None:
    entries = [
        entry("a", 0.5, "1", "higher", goal=(">=", 0.6), p=0.2, p_max=0.01, chance=0.1, ci=(0.4, 0.6)),
        entry("b", None, "ppm", "lower", goal=("<=", 1.0), status="insufficient"),
        entry("groove.x.session", 1.0, "1", "higher", why="whole", params={"session": "s-1"}),
    ]
    rows = table.rows(entries)
    assert rows[0] == ("a", "0.5", "0.4..0.6", "0.1", "0.2", ">= 0.6, p<=0.01", "FAIL")
    assert rows[1][-1] == "insufficient" and rows[2][0] == "  s-1 x"
    assert table.remarks(entries)[0] == "a fails: 0.5 at p 0.2, needs >= 0.6, p<=0.01"
    assert len(table.remarks(entries)) == 2 and table.failed(entries) and not table.failed(entries[1:])
