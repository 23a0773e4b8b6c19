"""Matching sessions to tracks: each kind of evidence alone, margins, segments, priors, overrides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from choreo_cli.errors import UsageError
from choreo_cli.sessions import match, overrides, prior
from choreo_cli.sessions.prior import zone
from choreo_cli.sessions.recordings import Library, Session, library, normal_title
from formats.columns import RECORDING
from formats.errors import FormatError

MIN = 60_000_000
HOUR = 60 * MIN


def entry(kind: str, path: str, **more: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "id": f"{kind[0]}:{abs(hash(path)) % 10**8}", "kind": kind, "format": "x", "root": "r0", "path": path, "bytes": 1,
        "sha256": path, "session": None, "n": 10, "rate_num": 30, "rate_den": 1, "duration_us": 3 * MIN, "channels": 1,
        "t0_utc_us": None, "t0_source": "none", "t0_sigma_us": None, "t0_naive": False, "reason": None,
        "acknowledged": False, "problems": [], "synthetic": False, "meta": {},
    }  # fmt: skip
    assert set(base) == set(RECORDING.names)
    return {**base, **more}


def one_session(meta: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
    return [
        entry("session", "s", meta=meta, **more),
        entry("pose", "s/poses.jsonl", session="s"),
    ]


def songs(n: int = 3) -> list[dict[str, Any]]:
    return [entry("audio", f"music/{k:02d} - Song {k}.mp3", duration_us=(2 + k) * MIN) for k in range(n)]


def playlist(n: int = 3, played: int | None = None) -> dict[str, Any]:
    items = []
    at = 0
    for k in range(n):
        length = (2 + k) * MIN
        when = None if played is None else played + at
        items.append(
            {
                "index": k,
                "title": f"Song {k}",
                "path": f"{k:02d} - Song {k}.mp3",
                "duration_us": length,
                "played_utc_us": when,
            }
        )
        at += length
    return entry("playlist", "music/list.json", format="playlist-json", meta={"title": "List", "items": items})


def answer(entries: list[dict[str, Any]]) -> tuple[match.Match, Session, Library]:
    lib = library(entries)
    session = next(s for s in lib.sessions if s.bodies)
    return match.rank(session, lib), session, lib


@pytest.mark.parametrize(
    "a,b,same",
    [
        ("01 - Song", "song", True),
        ("Song_One", "song one", True),
        ("Song (live)", "song", False),
        ("07. Ça", "ça", True),
    ],
)
def test_titles_are_compared_as_words(a: str, b: str, same: bool) -> None:
    assert (normal_title(a) == normal_title(b)) is same


def test_a_title_in_the_metadata_decides() -> None:
    found, _, _ = answer([*one_session({"track": {"title": "Song 1"}}), *songs(), playlist()])
    assert found.chosen is not None and found.chosen.track.path.endswith("Song 1.mp3")
    assert found.chosen.evidence["track_title"] == 1.0


def test_an_index_counts_only_inside_the_named_playlist() -> None:
    named, _, _ = answer([*one_session({"playlist": "List", "track": {"index": 2}}), *songs(), playlist()])
    assert named.chosen is not None and named.chosen.track.path.endswith("Song 2.mp3")
    other, _, _ = answer([*one_session({"playlist": "Another", "track": {"index": 2}}), *songs(), playlist()])
    assert other.chosen is None and other.reason == "nothing says which track was playing"


def test_a_playlist_without_a_track_starts_with_the_session_and_goes_on() -> None:
    entries = [*one_session({"playlist": "List"}), *songs(), playlist()]
    entries[1]["duration_us"] = 4 * MIN
    found, session, lib = answer(entries)
    assert found.chosen is not None and found.chosen.evidence == {"playlist_start": 1.0}
    assert [c.track.path[6:8] for c, _, _ in match.segments(found.chosen, session, lib)] == ["00", "01"]
    nobody, _, _ = answer([*one_session({}), *songs(), playlist()])
    assert nobody.chosen is None, "a playlist that the session does not name says nothing"


def test_wall_clock_overlap_is_evidence() -> None:
    start = 1_775_613_749_000_000
    body = one_session({}, t0_utc_us=start + 2 * MIN, t0_source="metadata", t0_sigma_us=500_000)
    found, _, _ = answer([*body, *songs(), playlist(played=start)])
    assert found.chosen is not None and found.chosen.track.path.endswith("Song 1.mp3")
    assert found.chosen.evidence["played_at"] == pytest.approx(1.0)


def test_two_equal_answers_are_ambiguous_and_not_paired() -> None:
    same = [entry("audio", "a/Song.mp3", duration_us=3 * MIN), entry("audio", "b/Song.mp3", duration_us=5 * MIN)]
    found, _, _ = answer([*one_session({"track": {"title": "Song"}}), *same])
    assert found.chosen is None and found.reason.startswith("ambiguous: ")


def test_encodings_of_one_song_share_a_group_and_do_not_compete() -> None:
    same = [entry("audio", "a/Song.mp3"), entry("features", "b/Song.npz", duration_us=3 * MIN + 400_000)]
    found, _, lib = answer([*one_session({"track": {"title": "Song"}}), *same])
    assert len({t.group for t in lib.tracks}) == 1
    assert found.chosen is not None and found.chosen.track.entry["kind"] == "audio"


def test_a_file_name_that_names_the_music_is_evidence() -> None:
    body = [entry("motion", "motion/gBR_sBM_cAll_d04_mBR0_ch01.bvh")]
    found, _, _ = answer([*body, entry("audio", "music/mBR0.wav"), entry("audio", "music/mBR1.wav")])
    assert found.chosen is not None and found.chosen.track.path == "music/mBR0.wav"


def test_without_evidence_nothing_is_invented() -> None:
    found, _, _ = answer([entry("motion", "walk.bvh"), *songs()])
    assert found.chosen is None and found.reason == "nothing says which track was playing"


def test_a_session_longer_than_its_track_goes_on_through_the_playlist() -> None:
    entries = [*one_session({"playlist": "List", "track": {"index": 0}}), *songs(), playlist()]
    entries[1]["duration_us"] = 6 * MIN
    found, session, lib = answer(entries)
    assert found.chosen is not None
    parts = match.segments(found.chosen, session, lib)
    assert [(c.track.path[6:8], a, b) for c, a, b in parts] == [
        ("00", 0, 2 * MIN),
        ("01", 2 * MIN, 5 * MIN),
        ("02", 5 * MIN, 9 * MIN),
    ]


def test_the_prior_of_two_clocks_is_their_difference() -> None:
    start = 1_775_613_749_000_000
    entries = [
        *one_session({"track": {"title": "Song 1"}}, t0_utc_us=start, t0_source="metadata", t0_sigma_us=500_000),
        *songs(),
    ]
    entries[1] |= {"t0_utc_us": start + 1_500_000, "t0_source": "unix_time", "t0_sigma_us": 500_000}
    found, session, _ = answer(entries)
    known = prior.of_clocks(entries[1], session, found.chosen, 0, None)
    assert known.centre_us == 1_500_000 and known.sigma_us == pytest.approx(707_107, abs=1)


def test_a_stated_sigma_bounds_the_prior() -> None:
    start = 1_775_613_749_000_000
    entries = [
        *one_session({"track": {"title": "Song 1"}}, t0_utc_us=start, t0_source="metadata", t0_sigma_us=125_000),
        *songs(),
    ]
    entries[1] |= {"t0_utc_us": start, "t0_source": "unix_time", "t0_sigma_us": 500_000}
    found, session, _ = answer(entries)
    assert prior.of_clocks(entries[1], session, found.chosen, 0, None).sigma_us == 125_000


def test_local_time_against_utc_is_refused_with_a_whole_hour_to_try() -> None:
    start = 1_775_613_749_000_000
    entries = [
        *one_session({"track": {"title": "Song 1"}}, t0_utc_us=start, t0_source="metadata", t0_sigma_us=500_000),
        *songs(),
    ]
    entries[1] |= {
        "t0_utc_us": start + 2 * HOUR + 3_000_000,
        "t0_source": "iso_time",
        "t0_sigma_us": 500_000,
        "t0_naive": True,
    }
    found, session, _ = answer(entries)
    without = prior.of_clocks(entries[1], session, found.chosen, 0, None)
    assert without.sigma_us is None and "--tz +2" in without.suggestion
    given = prior.of_clocks(entries[1], session, found.chosen, 0, zone("+2"))
    assert given.centre_us == 3_000_000 and any("--tz" in a for a in given.assumptions)


def test_without_any_clock_the_prior_is_unbounded() -> None:
    entries = [*one_session({"track": {"title": "Song 1"}}), *songs()]
    found, session, _ = answer(entries)
    assert prior.of_clocks(entries[1], session, found.chosen, 0, None).sigma_us is None


@pytest.mark.parametrize("text,hours", [("+2", 2.0), ("-03:30", -3.5), ("5:45", 5.75), ("0", 0.0)])
def test_zones(text: str, hours: float) -> None:
    assert zone(text) == round(hours * HOUR)


@pytest.mark.parametrize("text", ["CET", "+25", "1:75", "++2"])
def test_bad_zones(text: str) -> None:
    with pytest.raises(UsageError, match="hours from UTC"):
        zone(text)


def test_overrides_round_trip_and_name_their_mistakes(tmp_path: Path) -> None:
    file = tmp_path / "o.csv"
    file.write_bytes(overrides.template([("s 1", "music/a.mp3", "no_clock"), ("s,2", "", "ambiguous")]))
    rows = overrides.read(file)
    assert rows["s,2"].offset_us is None and rows["s 1"].track == "music/a.mp3"
    file.write_text("session,track,offset_s\ns 1,a.mp3,1.25\n")
    assert overrides.read(file)["s 1"].offset_us == 1_250_000
    with pytest.raises(FormatError, match="did you mean: s 1"):
        overrides.check_names({"s 11": rows["s 1"]}, ["s 1"], file)
    for text, row in (
        ("session,track,offset\n", 1),
        ("session,track,offset_s\na,b,soon\n", 2),
        ("session,track,offset_s\na,b,1\na,b,2\n", 3),
    ):
        file.write_text(text)
        with pytest.raises(FormatError) as caught:
            overrides.read(file)
        assert caught.value.row == row
