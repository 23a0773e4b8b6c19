"""Clips, what describes them, the questions drawn from them, and the file of answers."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

import gesture_cases as cases
import numpy as np
import pytest

from choreo_cli.dataset.frameset import FrameSet, read_frames
from choreo_cli.errors import UsageError
from choreo_cli.reflex import preferences as p
from choreo_cli.reflex.clip_picture import curves, pair_png, sparkline
from choreo_cli.reflex.clips import (
    FEATURES,
    Clip,
    beat_lock,
    cut_clips,
    describe,
    is_test,
    overlap_groups,
    rows_of,
)
from formats.errors import FormatError


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> FrameSet:
    return read_frames(cases.synthetic_set(tmp_path_factory.mktemp("clips") / "set", sessions=4, minutes=1, seed=5))


def test_clips_tile_a_session_and_leave_out_what_is_not_measured(frames: FrameSet) -> None:
    from dataclasses import replace

    clips = cut_clips(frames, 6)
    assert len(clips) == 40 and {c.end_us - c.start_us for c in clips} == {6_000_000}
    assert all(a.session != b.session or a.end_us <= b.start_us for a, b in itertools.pairwise(clips))
    mask = frames.mask.copy()
    mask[rows_of(frames, clips[3]).start : rows_of(frames, clips[3]).start + 100, 0] = False
    assert cut_clips(replace(frames, mask=mask), 6) == [c for c in clips if c != clips[3]]
    with pytest.raises(UsageError, match=r"--clip-s 0\.5 is outside 1\.\.60"):
        cut_clips(frames, 0.5)


def test_a_clip_crosses_no_gap(frames: FrameSet) -> None:
    from dataclasses import replace

    t = frames.t_us.copy()
    t[450 : frames.sessions[0].rows] += 40_000
    for clip in cut_clips(replace(frames, t_us=t), 6):
        rows = rows_of(replace(frames, t_us=t), clip)
        assert rows.stop - rows.start == 300 and np.ptp(t[rows]) == 299 * 20_000


def test_overlapping_clips_are_one_group() -> None:
    a, b, c, d = (Clip("x", "s", t, t + 6) for t in (0, 4, 9, 15))
    other = Clip("x", "t", 0, 6)
    found = overlap_groups([c, a, d, other, b])
    assert [found[k] for k in (a, b, c, d, other)] == [a, a, a, d, other]


def test_the_hold_out_is_a_property_of_the_name() -> None:
    share = np.mean([is_test(f"clip {k}") for k in range(4000)])
    assert abs(share - 0.3) < 0.03 and is_test("clip 1") is is_test("clip 1")


def test_statistics_know_the_beat() -> None:
    n = 300
    phase = (np.arange(n) / 25) % 1
    x = np.full((n, 11), np.nan, np.float32)
    x[:, 10] = phase
    on, off = x.copy(), x.copy()
    on[:, 0] = np.exp(-0.5 * (np.minimum(phase, 1 - phase) / 0.1) ** 2)
    off[:, 0] = np.roll(on[:, 0], 12)
    mask = np.ones((n, 4), bool)
    k = FEATURES.index("motion_energy_cos1")
    assert describe(on, mask)[k] > 0.7 and describe(off, mask)[k] < -0.7
    assert describe(on, mask)[FEATURES.index("beat_rate")] == pytest.approx(2, abs=0.01)
    assert beat_lock(on[:, 0], phase) == pytest.approx(1) and beat_lock(off[:, 0], phase) < -0.9
    assert np.isnan(beat_lock(np.zeros(n), phase))


def test_statistics_of_nothing_are_unknown_not_zero() -> None:
    found = describe(np.full((300, 11), np.nan), np.zeros((300, 4), bool))
    assert np.isnan(found[:-4]).all() and (found[-4:] == 0).all() and len(found) == len(FEATURES)
    masked = describe(np.full((300, 11), 0.5), np.array([[True, False, True, True]] * 300))
    assert np.isnan(masked[FEATURES.index("hr_mean")]) and masked[FEATURES.index("jerk_mean")] == 0.5


def test_questions_are_balanced_repeat_with_exchanged_sides_and_keep_to_one_side(frames: FrameSet) -> None:
    clips = cut_clips(frames, 2)
    asked = p.draw_questions(clips, 200, 3)
    assert asked[:60] == p.draw_questions(clips, 60, 3) != p.draw_questions(clips, 60, 4)
    assert all(is_test(q.a.id) is is_test(q.b.id) for q in asked)
    again = [k for k, q in enumerate(asked) if q.repeat]
    assert 10 <= len(again) <= 32
    for k in again:
        first = next(i for i, q in enumerate(asked) if q.pair_id == asked[k].pair_id)
        assert k - first > p.APART and asked[first].left != asked[k].left
    fresh = [q for q in asked if not q.repeat]
    assert len({frozenset((q.a, q.b)) for q in fresh}) == len(fresh)
    used = Counter(c for q in fresh for c in (q.a, q.b))
    assert max(used.values()) - min(used[c] for c in clips) <= 2
    assert 0.35 < np.mean([q.left == "a" for q in asked]) < 0.65
    assert any(q.a.session != q.b.session for q in asked)


def test_too_few_clips_is_said(frames: FrameSet) -> None:
    clips = cut_clips(frames, 6)
    with pytest.raises(UsageError, match="1 clips are too few"):
        p.draw_questions(clips[:1], 5, 0)
    with pytest.raises(UsageError, match=r"only \d+ questions can be asked"):
        p.draw_questions(clips[:6], 100, 0)


def test_answers_are_added_never_lost_and_settle_their_question(frames: FrameSet, tmp_path: Path) -> None:
    asked = p.draw_questions(cut_clips(frames, 6), 12, 0)
    file, where = tmp_path / "p.parquet", p.source_of(frames)
    for k, q in enumerate(asked[:3]):
        assert p.append_answers(file, [p.Answer(q, "a", "ann", 1.5, True)], where) == k + 1
    p.append_answers(file, [p.Answer(asked[5], "skip", "bob", None, True)], {"other": {"path": "x", "schema": "y"}})
    rows, known = p.read_answers(file)
    assert [r["rater"] for r in rows] == ["ann", "ann", "ann", "bob"] and set(known) == {*where, "other"}
    assert rows[3]["seconds"] is None and rows[0]["source_a_sha256"] == frames.source["sha256"]
    assert [k for k, _ in p.still_open(asked, rows, "ann")] == list(range(3, 12))
    assert [k for k, _ in p.still_open(asked, rows, "bob")] == [0, 1, 2, 3, 4, *range(6, 12)]


def test_a_repetition_is_asked_although_its_pair_was_answered(frames: FrameSet) -> None:
    asked = p.draw_questions(cut_clips(frames, 2), 60, 3)
    k = next(i for i, q in enumerate(asked) if q.repeat)
    rows = [p.Answer(q, "a", "ann", None, True).row() for q in asked[:k]]
    assert p.still_open(asked, rows, "ann")[0] == (k, asked[k])


def test_a_file_of_something_else_is_left_alone(frames: FrameSet, tmp_path: Path) -> None:
    file = tmp_path / "p.parquet"
    file.write_bytes(b"something else")
    asked = p.draw_questions(cut_clips(frames, 6), 1, 0)
    with pytest.raises(FormatError):
        p.append_answers(file, [p.Answer(asked[0], "a", "ann", None, True)], {})
    assert file.read_bytes() == b"something else"


def test_the_rule_prefers_energy_on_the_beat_and_errs_as_often_as_it_says(frames: FrameSet) -> None:
    asked = list(enumerate(p.draw_questions(cut_clips(frames, 2), 150, 1)))
    clean = p.rule_answers(frames, asked, rule="groove", noise=0, rater="r", seed=0)
    for a in clean:
        apart = p.appeal(frames, a.question.a) - p.appeal(frames, a.question.b)
        assert a.choice == ("same" if abs(apart) < p.TIE else "a" if apart > 0 else "b") and a.synthetic
    noisy = p.rule_answers(frames, asked, rule="groove", noise=0.2, rater="r", seed=0)
    turned = np.mean([x.choice != y.choice for x, y in zip(clean, noisy, strict=True) if x.choice != "same"])
    assert 0.1 < turned < 0.3
    for bad in ({"rule": "loud", "noise": 0.1}, {"rule": "groove", "noise": 0.6}):
        with pytest.raises(UsageError):
            p.rule_answers(frames, asked, rater="r", seed=0, **bad)


def test_a_pair_is_drawn_without_naming_its_sessions(frames: FrameSet) -> None:
    clip = cut_clips(frames, 6)[0]
    one = curves(frames, clip)
    assert len(one.t_s) == 300 and len(one.beats_s) == pytest.approx(6 * 92 / 60, abs=1)
    png = pair_png(one, one, "1 of 2")
    assert png.startswith(b"\x89PNG") and clip.session.encode() not in png and len(png) > 10_000
    assert sparkline(np.array([0, 0, 1, 1, np.nan, np.nan]), 3) == " @?"


def test_controls_of_a_run_are_drawn_below(frames: FrameSet, tmp_path: Path) -> None:
    from formats.columns import CONTROL_NAMES, CONTROLS
    from formats.tables import write_table

    s, clip = frames.sessions[0], cut_clips(frames, 6)[1]
    values = {c: np.full(s.rows, 0.25, np.float32) for c in CONTROL_NAMES}
    columns = {
        "session_id": [s.session_id] * s.rows, "t_us": frames.t_us[s.slice], **values,
        "held": np.zeros(s.rows, bool), "synthetic": np.ones(s.rows, bool),
    }  # fmt: skip
    (tmp_path / "controls").mkdir()
    write_table(tmp_path / "controls" / f"{s.session_id}_controls.parquet", CONTROLS, columns)
    one = curves(frames, clip, tmp_path)
    assert one.controls.shape == (300, 6) and one.controls[0, 0] == 0 and (one.controls[:, 1:] == 0.25).all()
    assert len(pair_png(one, curves(frames, clip), "x")) > len(
        pair_png(curves(frames, clip), curves(frames, clip), "x")
    )
