"""Beats, charts and tempo maps: real files with known answers, and the formulas written a second way."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from formats.errors import FormatError
from formats.foreign import beat_text, midi_tempo, stepmania
from formats.foreign.model import Beats
from formats.foreign.registry import Reader
from formats.foreign.source import Source

READERS = sorted((*beat_text.READERS, *stepmania.READERS, *midi_tempo.READERS), key=lambda r: r.order)


def source(tmp_path: Path, name: str, content: str | bytes) -> Source:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return Source.of(path)


def reader_of(s: Source) -> Reader | None:
    return next((r for r in READERS if r.sniff(s.head, s.name, s.size)), None)


def read(s: Source) -> Beats:
    reader = reader_of(s)
    assert reader is not None and reader.read is not None
    reader.facts(s)
    beats = reader.read(s)
    assert isinstance(beats, Beats) and (np.diff(beats.t_s) > 0).all()
    return beats


def test_madmom_files(shared: Path) -> None:
    folder = shared / "data/audio/madmom"
    beats = read(Source.of(folder / "sample.beats"))
    assert beats.t_s.tolist() == [0.0913, 0.7997, 1.4806, 2.1478]
    assert read(Source.of(folder / "sample.tempo")).tempo_bpm == 87.5
    assert read(Source.of(folder / "sample.tempo_detector.txt")).tempo_bpm == 176.47
    facts = {
        n: reader_of(s := Source.of(folder / n)).facts(s)
        for n in ("sample.onsets", "sample.dbn_beat_tracker.txt", "sample.beats")
    }  # type: ignore[union-attr]
    assert facts["sample.onsets"].kind == "other" and facts["sample.onsets"].n == 15
    assert "not beats" in facts["sample.onsets"].meta["note"]
    assert facts["sample.dbn_beat_tracker.txt"].meta["origin"] == "detected"
    assert facts["sample.beats"].meta["origin"] == "annotated"


def test_mir_eval_beats_equal_the_vector(shared: Path) -> None:
    files = sorted((shared / "data/beats/mir_eval").glob("*.txt"))
    assert len(files) == 10
    for path in files:
        want = np.array(
            [float(x.split()[0]) for x in path.read_text().splitlines() if x.strip() and not x.startswith("#")]
        )
        assert np.array_equal(read(Source.of(path)).t_s, want), path.name


def test_brace_has_146_sequences_in_seconds(shared: Path) -> None:
    s = Source.of(shared / "data/annotations/brace/audio_beats.json")
    raw = json.loads(s.path.read_text())
    found = beat_text.read_sequences(s)
    assert len(found) == 146 == len(raw)
    for name, beats in found.items():
        assert beats.t_s.tolist() == raw[name]["beats_sec"] and beats.tempo_bpm == raw[name]["bpm"]
    facts = beat_text.READERS[0].facts(s)
    assert facts.kind == "beats" and facts.meta["sequences"] == 146
    with pytest.raises(FormatError, match="146 sequences"):
        beat_text.read_brace(s)
    assert beat_text.read_brace(s, "vWRZ6hdlwYo.5").t_s[0] == 0.5572788715362549


def test_goin_under_is_exactly_210(shared: Path) -> None:
    s = Source.of(shared / "data/audio/stepmania/GoinUnder.ssc")
    beats = stepmania.read(s, 123.43)
    assert beats.tempo_bpm == 210.0 and beats.music == "Goin' Under.ogg" and beats.t_s[0] == 0.0
    assert np.allclose(beats.t_s, np.arange(len(beats.t_s)) * 60 / 210, atol=1e-9) and len(beats.t_s) == 433
    facts = stepmania.READERS[0].facts(s)
    charts = facts.meta["charts"]
    assert facts.meta["bpm"] == 210.0 and len(charts) >= 1 and charts[0]["notes"] == 634


def test_groove_midi_is_138(shared: Path) -> None:
    s = Source.of(shared / "data/midi/groove_1_funk-groove1_138_beat_4-4.mid")
    facts = midi_tempo.READERS[0].facts(s)
    assert facts.meta["bpm"] == pytest.approx(138, abs=2e-4) and facts.meta["notes"] == 410
    assert facts.duration_us == pytest.approx(27.87e6, abs=5e3) and facts.meta["time_signature"] == [4, 4]
    beats = read(s)
    assert len(beats.t_s) == 65 and np.allclose(np.diff(beats.t_s), 60 / 138, atol=1e-6)


def chart(bpms: str, offset: float = 0.0, **tags: str) -> str:
    more = "".join(f"#{k}:{v};\n" for k, v in tags.items())
    notes = "#NOTEDATA:;\n#STEPSTYPE:dance-single;\n#OFFSET:99;\n#NOTES:\n1000\n0100\n,\n0010\n0001\n;\n"
    return f"#VERSION:0.83; // x\n#TITLE:T;\n#MUSIC:t.ogg;\n#OFFSET:{offset};\n#BPMS:{bpms};\n{more}{notes}"


def slow_beats(
    bpms: list[tuple[float, float]],
    offset: float,
    stops: list[tuple[float, float]],
    delays: list[tuple[float, float]],
    n: int,
) -> list[float]:
    """The clock of a chart, walked in 1/192 of a beat: an independent second writing."""
    t, out, tick = -offset, [], 192
    stop = {round(b * tick): s for b, s in stops}
    delay = {round(b * tick): s for b, s in delays}
    for i in range(n * tick):
        t += delay.get(i, 0.0)
        if i % tick == 0:
            out.append(t)
        t += stop.get(i, 0.0)
        bpm = [v for b, v in bpms if b * tick <= i][-1]
        t += 60.0 / bpm / tick
    return out


quarters = st.integers(1, 60).map(lambda k: k / 4)
pauses = st.lists(
    st.tuples(quarters, st.integers(1, 3000).map(lambda ms: ms / 1000)), max_size=4, unique_by=lambda x: x[0]
)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(quarters, st.integers(60, 400).map(float)), max_size=4, unique_by=lambda x: x[0]),
    st.floats(-2, 2).map(lambda x: round(x, 3)),
    pauses,
    pauses,
)
def test_chart_times_equal_a_second_writing(changes, offset, stops, delays) -> None:
    bpms = [(0.0, 120.0), *sorted(changes)]
    as_text = ",".join(f"{b}={v}" for b, v in bpms)
    pairs = {"STOPS": ",\n".join(f"{b}={v}" for b, v in stops), "DELAYS": ",".join(f"{b}={v}" for b, v in delays)}
    timing = stepmania._timing(stepmania._parse(chart(as_text, offset, **pairs)).tags)
    want = slow_beats(bpms, offset, stops, delays, 16)
    assert np.allclose(timing.seconds(np.arange(16.0)), want, atol=1e-7)
    end = want[10]
    assert np.allclose(stepmania.beat_times(timing, end + 1e-6), want[:11], atol=1e-7)


def test_offset_warps_and_the_song_level_tags(tmp_path: Path) -> None:
    beats = stepmania.read(source(tmp_path, "a.ssc", chart("0=120", 0.25)), 2.0)
    assert np.allclose(beats.t_s, [-0.25, 0.25, 0.75, 1.25, 1.75])
    warped = stepmania.read(source(tmp_path, "a.ssc", chart("0=120", WARPS="2=2")), 2.0)
    assert np.allclose(warped.t_s, [0, 0.5, 1.0, 1.5, 2.0]) and warped.problems[0].startswith("warps")
    old = chart("0.000=150.000,8=75").replace("#NOTEDATA:;", "").split("#STEPSTYPE")[0]
    s = source(
        tmp_path, "a.sm", old + "#NOTES:\n dance-single:\n x:\n Hard:\n 9:\n 0,0,0:\n1000\n0001\n,\n2000\n3000\n;\n"
    )
    facts = stepmania.READERS[0].facts(s)
    assert facts.meta["charts"] == [
        {"steps": "dance-single", "difficulty": "Hard", "meter": "9", "notes": 3, "beats": 8}
    ]
    assert facts.meta["bpm_range"] == [75.0, 150.0]


@pytest.mark.parametrize(
    "bpms", ["", "0=-120", "0=0", "0=nan", "0=1e9", "0=1e-300", "0=120,1e300=9", "0", "x=1", "0=1=2"]
)
def test_charts_without_a_usable_tempo(tmp_path: Path, bpms: str) -> None:
    with pytest.raises(FormatError, match=r"a\.ssc"):
        stepmania.read(source(tmp_path, "a.ssc", chart(bpms)))
    with pytest.raises(FormatError, match="more than 1000000 beats"):
        stepmania.read(source(tmp_path, "a.ssc", chart("0=999999")), 80_000.0)


def test_tags_stay_linear(tmp_path: Path) -> None:
    s = source(tmp_path, "a.sm", "#A:" * 300_000 + "\n#BPMS:0=120;\n#OFFSET:0;\n")
    assert stepmania.READERS[0].sniff(b"#BPMS:0=120;", "a.sm", 9)
    assert stepmania.read(s).tempo_bpm == 120.0


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 4000), st.integers(200_000, 1_500_000)), max_size=5, unique_by=lambda x: x[0]),
    st.sampled_from([0, 1]),
)
def test_midi_times_equal_mido(changes, kind) -> None:
    import tempfile

    import mido

    midi = mido.MidiFile(type=kind, ticks_per_beat=480)
    track = mido.MidiTrack()
    midi.tracks.append(track)
    now = 0
    for tick, tempo in sorted(changes):
        track.append(mido.MetaMessage("set_tempo", tempo=tempo, time=tick - now))
        now = tick
    track.append(mido.Message("note_on", note=60, velocity=9, time=5000 - now))
    track.append(mido.MetaMessage("end_of_track"))
    out = io.BytesIO()
    midi.save(file=out)
    with tempfile.TemporaryDirectory() as folder:
        s = source(Path(folder), "a.mid", out.getvalue())
        found = midi_tempo.read_map(s)
    assert found.notes == 1 and found.end_tick == 5000
    assert float(found.seconds(np.array([5000.0]))[0]) == pytest.approx(midi.length, abs=1e-9)


def test_midi_that_is_no_music_clock(tmp_path: Path) -> None:
    head = b"MThd\x00\x00\x00\x06\x00\x01\x00\x01"
    for name, data in {
        "smpte": head + b"\xe7\x28MTrk\x00\x00\x00\x04\x00\xff\x2f\x00", "zero": head + b"\x00\x00MTrk\x00\x00\x00\x04\x00\xff\x2f\x00",
        "cut": head, "lies": head + b"\x01\xe0MTrk\xff\xff\xff\xff\x00\xff\x2f\x00",
        "long": head + b"\x00\x01MTrk\x00\x00\x00\x07\xff\xff\xff\x7f\xff\x2f\x00",
    }.items():  # fmt: skip
        with pytest.raises(FormatError, match=name):
            midi_tempo.read(source(tmp_path, f"{name}.mid", data))


@pytest.mark.parametrize(
    ("name", "text", "format"),
    [
        ("a.beats", "0.5\t1\n1.0\t2\n", "beat-text"),
        ("a.txt", "# c\n\n0.5 1.1\n1.0   1.2\n", "beat-text"),
        ("a.csv", "0.500000000,New Point\n1.250000000,New Point\n", "beat-text"),
        ("a.txt", "1.5e+00\n2.5e+00\n", "beat-text"),
        ("a.onsets", "0.5\n0.54\n", "onset-text"),
        ("a.bpm", "120\n", "tempo-text"),
        ("a.txt", "87.5 175    0.7\n", "tempo-text"),
        ("ids.txt", "004822\n014457\n009613\n", None),
        ("ids.txt", "1\n2\n3\n", None),
        ("curve.txt", "0.00 0.123\n0.04 0.456\n", None),
        ("chords.lab", "0.000 2.612 N\n2.612 11.459 E\n", None),
        ("a.txt", "5.5 years ago\nwe danced\n", None),
        ("a.txt", "50 a man kicks with his left leg.\n", None),
        ("a.txt", "2.0\n1.0\n", None),
        ("a.md", "0.5\n1.0\n", None),
        ("unix.csv", "1560279825.00\n64.000000\n-0.00\n", None),
    ],
)  # fmt: skip
def test_text_is_claimed_by_content(tmp_path: Path, name: str, text: str, format: str | None) -> None:
    found = reader_of(s := source(tmp_path, name, text))
    assert (found.format if found else None) == format
    if found is not None:
        found.facts(s)


@pytest.mark.parametrize(
    ("text", "row"), [("0.5\n1.0\n0.7\n", 3), ("0.5\nx\n", 2), ("# c\n-1.0\n", 2), ("0.5\n1e9\n", 2), ("0.5\nnan\n", 2)]
)
def test_a_bad_line_is_named(tmp_path: Path, text: str, row: int) -> None:
    with pytest.raises(FormatError, match=rf"a\.beats, row {row}"):
        beat_text.read_beats(source(tmp_path, "a.beats", text))
