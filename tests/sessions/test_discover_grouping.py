"""What discover takes to belong together, and what it takes from names, metadata and options."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from choreo_cli.sessions import choreoignore, stems
from choreo_cli.sessions.discover import DiscoverOptions, Inventory, discover

UTC = 1_775_613_749_000_000  # 2026-04-08T02:02:29Z


def beats(k: int) -> bytes:
    return f"0.5\n1.0\n1.{50 + k}\n".encode()


def poses(n: int, start: float = 0.0, rate: float = 30.0) -> bytes:
    joints = {j: [0.1, 0.2, 0.3] for j in ("head", "neck", "left_hip", "right_hip")}
    return "".join(json.dumps({"t": round(start + k / rate, 4), "joints": joints}) + "\n" for k in range(n)).encode()


def put(path: Path, data: bytes | str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)


def wav(path: Path, k: int = 0, seconds: float = 0.2) -> None:
    import wave

    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as w:
        w.setparams((1, 2, 8000, 0, "NONE", ""))
        w.writeframes(bytes([k, 1]) * int(8000 * seconds))


def find(path: Path, **options: Any) -> Inventory:
    return discover([path], DiscoverOptions(**options))


def entries(found: Inventory) -> dict[str, dict[str, Any]]:
    return {e["path"]: e for e in found.entries}


@pytest.mark.parametrize(
    ("names", "takes"),
    [
        (("dancer:video", "dancer_audio:audio", "dancer_motion_25fps:motion"), {"dancer": 3}),
        (("dancer_audio:audio", "dancer_motion:motion"), {"dancer": 2}),
        (("take1_cam1:pose", "take1_cam2:pose", "take1_hr:wearable", "take2_cam1:pose", "take2:audio"),
         {"take1": 3, "take2": 2}),
        (("walk:motion", "walk_happy:motion", "run:motion"), {}),
        (("01:audio", "02:audio", "03:audio"), {}),
        (("song:audio", "song:features"), {}),
        (("GoinUnder:audio", "GoinUnder:beats"), {"GoinUnder": 2}),
        (("take:pose", "taken:audio"), {}),
        (("2026-04-08 jam:pose", "2026-04-08 jam - sound:audio"), {"2026-04-08 jam": 2}),
        (("caf\u00e9:pose", "cafe\u0301_audio:audio"), {"caf\u00e9": 2}),
        (("a.b:pose", "a.c:audio"), {}),
    ],
)  # fmt: skip
def test_stems(names: tuple[str, ...], takes: dict[str, int]) -> None:
    files = [(n.rpartition(":")[0], n.rpartition(":")[2]) for n in names]
    found = stems.shared(files)
    assert {k: len(v) for k, v in found.items()} == takes
    backwards = stems.shared(files[::-1])
    assert {k: {files[i] for i in v} for k, v in found.items()} == {
        k: {files[::-1][i] for i in v} for k, v in backwards.items()
    }


def session(folder: Path, **more: Any) -> None:
    doc = {"session": folder.name, "track": {"title": "Song", "index": 2}, "devices": ["cam-1", "watch-1"],
           "performer": "ana", **more}  # fmt: skip
    put(folder / "metadata.json", json.dumps(doc))


def test_session_folder_from_metadata(tmp_path: Path) -> None:
    top = tmp_path / "disk"
    take = top / "sessions" / "Mix A-2026-04-08T02-02-29Z"
    session(take, started_at="2026-04-08T02:02:30Z")
    put(take / "cam-1" / "poses.jsonl", poses(40))
    wav(take / "scratch.wav")
    put(take / "truth" / "beats.txt", beats(1))
    put(top / "truth" / "beats.txt", beats(2))
    for k in (1, 2, 3):
        wav(top / "Mix A" / f"{k:02d} - Song {k}.wav", k)
    e = entries(find(top))
    s = e["sessions/Mix A-2026-04-08T02-02-29Z"]
    assert (s["kind"], s["session"], s["t0_utc_us"], s["t0_source"]) == ("session", s["path"], UTC + 10**6, "metadata")
    meta = s["meta"]
    assert meta["track"] == {"title": "Song", "index": 2, "offset_us": None} and meta["performer"] == "ana"
    assert meta["devices_declared"] == ["cam-1", "watch-1"] and meta["devices_found"] == ["cam-1"]
    assert meta["title"] == "Mix A"
    body = e[f"{s['path']}/cam-1/poses.jsonl"]
    assert body["session"] == s["path"] and (body["t0_utc_us"], body["t0_source"]) == (UTC + 10**6, "metadata")
    assert e[f"{s['path']}/scratch.wav"]["session"] == s["path"]
    assert e[f"{s['path']}/truth/beats.txt"]["kind"] == "truth" and e["truth/beats.txt"]["kind"] == "beats"
    lists = [x for x in e.values() if x["kind"] == "playlist"]
    assert [(x["path"], x["format"], x["n"]) for x in lists] == [("Mix A", "folder", 3)]
    assert [(t["index"], t["title"], t["duration_us"]) for t in lists[0]["meta"]["items"]] == [
        (k, f"Song {k}", 200_000) for k in (1, 2, 3)
    ]
    assert all(x["session"] is None for x in e.values() if x["path"].startswith("Mix A/"))


def test_session_folder_from_its_name(tmp_path: Path) -> None:
    take = tmp_path / "disk" / "Mix A-2026-04-08T02-02-29Z"
    put(take / "poses.jsonl", poses(40))
    wav(tmp_path / "disk" / "Mix A" / "1.wav", 1)
    wav(tmp_path / "disk" / "Mix A" / "2.wav", 2)
    e = entries(find(tmp_path / "disk"))
    s = e[take.name]
    assert (s["kind"], s["t0_utc_us"], s["t0_source"]) == ("session", UTC, "folder_name")
    assert s["meta"]["playlist"] == "Mix A", "a playlist of that name is there"
    alone = entries(find(take))
    assert alone[take.name]["kind"] == "session", "a root that is a session keeps its name"
    assert alone[f"{take.name}/poses.jsonl"]["session"] == take.name
    assert "playlist" not in alone[take.name]["meta"]


def test_a_folder_of_sessions_is_no_session(tmp_path: Path) -> None:
    session(tmp_path)
    for name in ("a", "b"):
        session(tmp_path / name)
        put(tmp_path / name / "poses.jsonl", poses(40))
    found = find(tmp_path)
    assert [e["path"] for e in found.entries if e["kind"] == "session"] == ["a", "b"]
    assert {e["session"] for e in found.entries if e["kind"] == "pose"} == {"a", "b"}


def test_own_clock_beats_file_name_beats_session(tmp_path: Path) -> None:
    take = tmp_path / "Jam-2026-04-08T02-02-29Z"
    put(take / "own.jsonl", poses(40, start=1_775_613_800))
    put(take / "rel-2026-04-08T02-02-35Z.jsonl", poses(41))
    put(take / "rel.jsonl", poses(42))
    e = {p.rpartition("/")[2]: x for p, x in entries(find(tmp_path)).items()}
    assert (e["own.jsonl"]["t0_source"], e["own.jsonl"]["t0_utc_us"]) == ("unix_time", 1_775_613_800_000_000)
    named = e["rel-2026-04-08T02-02-35Z.jsonl"]
    assert (named["t0_source"], named["t0_utc_us"]) == ("file_name", UTC + 6_000_000)
    assert (e["rel.jsonl"]["t0_source"], e["rel.jsonl"]["t0_utc_us"]) == ("folder_name", UTC)


def test_modification_time_only_when_asked(tmp_path: Path) -> None:
    put(tmp_path / "poses.jsonl", poses(31))
    os.utime(tmp_path / "poses.jsonl", ns=(UTC * 1000, UTC * 1000))
    assert entries(find(tmp_path))["poses.jsonl"]["t0_source"] == "none"
    asked = entries(find(tmp_path, mtime_clock=True))["poses.jsonl"]
    assert asked["t0_source"] == "mtime" and asked["t0_utc_us"] == UTC - asked["duration_us"]


def test_strict_makes_doubts_reasons(tmp_path: Path) -> None:
    put(tmp_path / "poses.jsonl", poses(20) + poses(20))
    loose, firm = entries(find(tmp_path))["poses.jsonl"], entries(find(tmp_path, strict=True))["poses.jsonl"]
    assert loose["problems"] and loose["reason"] is None and firm["reason"] == loose["problems"][0]


def test_a_map_reads_keys_of_its_own(tmp_path: Path) -> None:
    from choreo_cli.sessions import load
    from formats.foreign.model import PoseStream

    rows = [{"wann": k / 10, "leib": {"kopf": [1.0, 2.0, k], "becken": [0.0, 1.0, 0.0]}} for k in range(30)]
    put(tmp_path / "own.jsonl", "".join(json.dumps(r) + "\n" for r in rows))
    mapping = {
        "format": "jsonl", "frames": "", "time": {"key": "wann", "unit": "s"},
        "joints": {"layout": "dict", "key": "leib", "axes": [0, 1, 2], "units": "m", "up": "+y",
                   "map": {"kopf": "head", "becken": "pelvis"}},
    }  # fmt: skip
    found = find(tmp_path, mapping=mapping)
    (e,) = found.entries
    assert (e["kind"], e["format"], e["n"], e["rate_num"], e["reason"]) == ("pose", "mapped", 30, 10, None)
    stream = load.read(e, found.roots)
    assert isinstance(stream, PoseStream) and stream.joints == ("head", "pelvis")


def test_output_of_pair_is_listed_once(tmp_path: Path) -> None:
    put(tmp_path / "out" / "pairs.json", '{"schema":"choreo.pairs/1","created_by":{}')
    put(tmp_path / "out" / "features" / "a" / "x.npz", b"PK\x03\x04")
    put(tmp_path / "out" / "pack" / "y.json", poses(3))
    put(tmp_path / "a.beats", beats(1))
    found = find(tmp_path)
    assert [(e["path"], e["kind"], e["format"]) for e in found.entries] == [
        ("a.beats", "beats", "beat-text"), ("out", "other", "choreo.pairs/1")]  # fmt: skip
    assert not found.skipped


@pytest.mark.parametrize(
    ("patterns", "hit", "miss"),
    [
        ("*.wav", ["a.wav", "d/b.wav"], ["a.wav.txt"]),
        ("/a.wav", ["a.wav"], ["d/a.wav"]),
        ("d/*.wav", ["d/a.wav"], ["d/e/a.wav", "x/d/a.wav"]),
        ("d/**/a.wav", ["d/a.wav", "d/e/f/a.wav"], ["a.wav"]),
        ("old/", ["old/a.wav", "x/old/b/c.wav"], ["old"]),
        ("old", ["old", "old/a.wav", "x/old/b"], ["older/a"]),
        ("*.wav\n!keep.wav", ["a.wav"], ["keep.wav", "d/keep.wav"]),
        ("# all\n\n[ab]?.wav", ["a1.wav"], ["c1.wav", "a12.wav"]),
        ("[!a].wav", ["b.wav"], ["a.wav"]),
        ("\\!x.wav", ["!x.wav"], ["x.wav"]),
        ("caf\u00e9.wav", ["cafe\u0301.wav", "caf\u00e9.wav"], ["cafe.wav"]),
        ("[", ["["], ["a"]),
    ],
)
def test_choreoignore_patterns(patterns: str, hit: list[str], miss: list[str]) -> None:
    rules = choreoignore.rules_of(patterns)
    assert [p for p in hit if not choreoignore.matches(rules, p)] == []
    assert [p for p in miss if choreoignore.matches(rules, p)] == []


def test_choreoignore_acknowledges(tmp_path: Path) -> None:
    for path in ("a/bad.wav", "a/b/bad.wav", "c/bad.wav"):
        put(tmp_path / path, b"RIFF")
    put(tmp_path / "a" / ".choreoignore", "/bad.wav\n")
    put(tmp_path / "c" / ".choreoignore", b"\xff\xfe broken")
    found = find(tmp_path)
    assert {e["path"] for e in found.skipped} == {"a/bad.wav", "a/b/bad.wav", "c/bad.wav"}
    assert [e["path"] for e in found.skipped if e["acknowledged"]] == ["a/bad.wav"]
    assert len(found.notes) == 1 and "c/.choreoignore is not used" in found.notes[0]


def test_shared_recordings(shared: Path) -> None:
    """Each file of the shared recordings is used, or listed with a reason, or is none: exact counts."""
    from collections import Counter

    data = shared / "data"
    found = find(data)
    kinds = Counter(e["kind"] for e in found.entries)
    assert kinds == {"audio": 6, "beats": 17, "motion": 17, "other": 51, "pose": 2, "video": 1, "wearable": 6}
    files = {p.relative_to(data).as_posix() for p in data.rglob("*") if p.is_file()}
    frames = {f for f in files if f.startswith("pose/openpose_treadmill_27/")}
    assert {e["path"] for e in found.entries} == (files - frames) | {"pose/openpose_treadmill_27"}
    e = entries(found)
    reasons = {p.rpartition("/")[2]: x["reason"] for p, x in e.items() if x["reason"]}
    assert set(reasons) == {"pyomeca_markers_analogs.c3d", "pyomeca_markers.trc"}
    assert all("markers of no known set" in r for r in reasons.values())
    together = {p for p, x in e.items() if x["session"] == "pairs/mgt_dancer/dancer"}
    assert together == {f"pairs/mgt_dancer/{n}" for n in ("dancer.avi", "dancer_audio.mp3", "dancer_motion_25fps.csv")}
    assert (e["pose/openpose_treadmill_27"]["n"], e["pose/openpose_treadmill_27"]["rate_num"]) == (90, None)
    assert sum(x["session"] == "wearable/empatica_flirt" for x in e.values()) == 6
    assert e["audio/stepmania/GoinUnder.ogg"]["session"] == "audio/stepmania/GoinUnder"
    sums = dict(line.split("  ", 1)[::-1] for line in (data / "SHA256SUMS").read_text().splitlines())
    known = {k.removeprefix("./"): v for k, v in sums.items()}
    checked = [p for p, x in e.items() if p in known and x["sha256"] == known[p]]
    assert len(checked) > 70 and not [p for p, x in e.items() if p in known and x["sha256"] != known[p]]
