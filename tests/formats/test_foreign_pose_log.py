"""Pose logs in any dialect: every spelling of the same motion gives the same stream; damage is counted, not hidden."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from formats.errors import FormatError
from formats.foreign import pose_log
from formats.foreign.joints import CANONICAL
from formats.foreign.model import PoseStream
from formats.foreign.pose_sniff import classify
from formats.foreign.source import Source

T0 = 1_700_000_000_123_456
STANDING = np.array([
    [0, .95, 0], [.1, .9, 0], [-.1, .9, 0], [0, 1.05, 0], [.1, .5, 0], [-.1, .5, 0], [0, 1.2, 0], [.1, .1, 0], [-.1, .1, 0],
    [0, 1.3, 0], [.1, .02, .12], [-.1, .02, .12], [0, 1.48, 0], [.06, 1.42, 0], [-.06, 1.42, 0], [0, 1.6, .02],
    [.2, 1.42, 0], [-.2, 1.42, 0], [.45, 1.4, 0], [-.45, 1.4, 0], [.7, 1.4, 0], [-.7, 1.4, 0],
])  # fmt: skip


def dance(n: int = 40, seed: int = 0) -> np.ndarray:
    """(n, 22, 3) metres: a standing body that sways and waves."""
    rng = np.random.default_rng(seed)
    move = np.cumsum(rng.normal(scale=0.01, size=(n, 1, 3)), axis=0) + rng.normal(scale=0.005, size=(n, 22, 3))
    return np.round(STANDING + move, 4)


def times(n: int, fps: float = 30.0) -> list[int]:
    return [T0 + round(i * 1e6 / fps) for i in range(n)]


def read(path: Path) -> PoseStream:
    source = Source.of(path)
    fmt = classify(source.head)
    reader = next(r for r in pose_log.READERS if r.format == fmt)
    facts = reader.facts(source)
    assert reader.read is not None
    stream = reader.read(source)
    assert isinstance(stream, PoseStream)
    assert facts.kind == "pose" and facts.n == len(stream.t_us) and facts.rate == stream.rate
    assert (np.diff(stream.t_us) > 0).all() and stream.t_us[0] == 0 and stream.xyz.dtype == np.float32
    return stream


def write(path: Path, value: Any, lines: bool = False) -> Path:
    path.write_text("".join(json.dumps(v) + "\n" for v in value) if lines else json.dumps(value))
    return path


def as_dict(pose: np.ndarray) -> dict[str, list[float]]:
    return {name: [float(v) for v in p] for name, p in zip(CANONICAL, pose, strict=True)}


def as_xyz(pose: np.ndarray) -> dict[str, dict[str, float]]:
    return {name: dict(zip("xyz", map(float, p), strict=True)) for name, p in zip(CANONICAL, pose, strict=True)}


def as_list(pose: np.ndarray) -> list[dict[str, Any]]:
    return [
        {"name": n, "x": float(p[0]), "y": float(p[1]), "z": float(p[2]), "confidence": 0.5}
        for n, p in zip(CANONICAL, pose, strict=True)
    ]


def iso(us: int, zone: str = "Z") -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)).replace(tzinfo=None).isoformat() + zone


POSES = dance()
STAMPS = times(len(POSES))
TIME_SPELLINGS = {
    "t": lambda us: us / 1e6, "time": lambda us: us / 1e6, "timestamp": lambda us: us / 1e6, "ts": lambda us: us // 1000,
    "unix": lambda us: us / 1e6, "t_ms": lambda us: us / 1e3, "t_us": lambda us: us, "timestamp_ns": lambda us: us * 1000,
    "created_at": iso, "utc": lambda us: iso(us, "+00:00"), "timestampMs": lambda us: us // 1000,
}  # fmt: skip


@pytest.mark.parametrize("key", TIME_SPELLINGS)
def test_every_time_key_gives_the_same_clock(tmp_path: Path, key: str) -> None:
    rows = [{key: TIME_SPELLINGS[key](us), "joints": as_dict(p)} for us, p in zip(STAMPS, POSES, strict=True)]
    got = read(write(tmp_path / "a.jsonl", rows, lines=True))
    slack = 1000 if key in ("ts", "timestampMs") else 1
    assert got.clock.t0_utc_us is not None and abs(got.clock.t0_utc_us - T0) <= slack
    assert np.abs(got.t_us - (np.array(STAMPS) - T0)).max() <= slack
    assert got.clock.source == ("iso_time" if key in ("created_at", "utc") else "unix_time") and not got.clock.naive
    assert got.rate == (30, 1) and got.rate_source == "timestamps"


def test_whole_microseconds_are_exact(tmp_path: Path) -> None:
    rows = [{"t_us": us, "joints": as_dict(p)} for us, p in zip(STAMPS, POSES, strict=True)]
    got = read(write(tmp_path / "a.jsonl", rows, lines=True))
    assert got.clock.t0_utc_us == T0
    assert got.t_us.tolist() == [us - T0 for us in STAMPS]


def layouts() -> dict[str, Any]:
    t = [us / 1e6 for us in STAMPS]
    named = [{"t": a, "joints": as_dict(p)} for a, p in zip(t, POSES, strict=True)]
    return {
        "dict of lists": {"frames": named},
        "dict of xyz": {"frames": [{"t": a, "joints": as_xyz(p)} for a, p in zip(t, POSES, strict=True)]},
        "list of named points": {"frames": [{"t": a, "joints": as_list(p)} for a, p in zip(t, POSES, strict=True)]},
        "snapshots": {"session": "x", "snapshots": [{"timestamp": a, "pose": {"joints": as_xyz(p)}} for a, p in zip(t, POSES, strict=True)]},
        "bare array": named,
        "joints in the frame": [{"t": a, **as_dict(p)} for a, p in zip(t, POSES, strict=True)],
        "flat keys": [
            {"t": a, **{f"{n}_{c}": float(v) for n, q in zip(CANONICAL, p, strict=True) for c, v in zip("xyz", q, strict=True)}}
            for a, p in zip(t, POSES, strict=True)
        ],
        "names once, flat numbers": {"joint_names": list(CANONICAL), "frames": [{"t": a, "positions": p.ravel().tolist()} for a, p in zip(t, POSES, strict=True)]},
        "names once, points": {"jointNames": list(CANONICAL), "frames": [{"t": a, "joints": p.tolist()} for a, p in zip(t, POSES, strict=True)]},
        "parallel arrays": {"joint_names": list(CANONICAL), "timestamps": t, "positions": POSES.tolist()},
        "one person": {"frames": [{"t": a, "people": [{"id": 0, "joints": as_dict(p)}]} for a, p in zip(t, POSES, strict=True)]},
        "nested": {"data": {"frames": named}, "meta": {"fps": 30}},
        "position objects": {"frames": [{"t": a, "joints": {n: {"position": q} for n, q in as_xyz(p).items()}} for a, p in zip(t, POSES, strict=True)]},
        "transforms": {"frames": [{"t": a, "joints": {n: {"transform": [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, *q, 1]} for n, q in as_dict(p).items()}} for a, p in zip(t, POSES, strict=True)]},
    }  # fmt: skip


@pytest.mark.parametrize("name", layouts())
def test_every_layout_gives_the_same_stream(tmp_path: Path, name: str) -> None:
    got = read(write(tmp_path / "a.json", layouts()[name]))
    assert got.joints == CANONICAL
    np.testing.assert_allclose(got.xyz, POSES, atol=1e-6)
    assert (got.units, got.up) == ("m", "+y") and got.problems == ()
    assert abs((got.clock.t0_utc_us or 0) - T0) <= 1


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("layout", ["wide", "long"])
def test_csv_gives_the_same_stream(tmp_path: Path, separator: str, layout: str) -> None:
    if layout == "wide":
        rows = [["t_us", *(f"{n}_{a}" for n in CANONICAL for a in "xyz")]]
        rows += [[str(us), *(f"{v:.4f}" for v in p.ravel())] for us, p in zip(STAMPS, POSES, strict=True)]
    else:
        rows = [["t_us", "joint", "x", "y", "z", "confidence"]]
        for us, p in zip(STAMPS, POSES, strict=True):
            rows += [[str(us), n, *(f"{v:.4f}" for v in q), "0.9"] for n, q in zip(CANONICAL, p, strict=True)]
    text = "\n".join(separator.join(r) for r in rows) + "\n"
    if separator == ";":
        text = text.replace(".", ",")
    path = tmp_path / "a.csv"
    path.write_text("# made by a phone\r\n" + text)
    got = read(path)
    assert got.joints == CANONICAL and got.clock.t0_utc_us == T0
    np.testing.assert_allclose(got.xyz, POSES, atol=1e-6)


def test_rows_are_sorted_and_repeats_dropped_and_both_counted(tmp_path: Path) -> None:
    rows = [{"t_us": us, "joints": as_dict(p)} for us, p in zip(STAMPS, POSES, strict=True)]
    rows[10], rows[11] = rows[11], rows[10]
    rows.insert(5, rows[4])
    rows.insert(20, {**rows[19], "joints": as_dict(POSES[0])})
    got = read(write(tmp_path / "a.jsonl", rows, lines=True))
    np.testing.assert_allclose(got.xyz, POSES, atol=1e-6)
    assert got.problems == (
        "backward_time: 1 backward steps, rows sorted",
        "duplicates: 1 exact duplicate rows dropped",
        "duplicate_time: 1 rows with the time of another row dropped, first kept",
    )


def test_null_joints_and_empty_poses_are_nan_and_kept(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"t_us": us, "joints": as_dict(p)} for us, p in zip(STAMPS, POSES, strict=True)]
    rows[3]["joints"]["l_wrist"] = None
    rows[4]["joints"] = {}
    rows[5]["joints"] = None
    rows[6]["joints"]["r_wrist"] = [1.0, None, 2.0]
    got = read(write(tmp_path / "a.jsonl", rows, lines=True))
    assert len(got.t_us) == len(POSES)
    gone = np.isnan(got.xyz).all(axis=2)
    assert gone[3, CANONICAL.index("l_wrist")] and gone[3].sum() == 1
    assert gone[4].all() and gone[5].all()
    assert gone[6].sum() == 1 and gone[6, CANONICAL.index("r_wrist")]
    assert "empty_pose: 2 of 40 poses have no joint" in got.problems


def test_a_cut_last_line_is_a_problem_that_names_its_row(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.jsonl",
        [{"t_us": u, "joints": as_dict(p)} for u, p in zip(STAMPS, POSES, strict=True)],
        lines=True,
    )
    path.write_bytes(path.read_bytes()[:-40])
    got = read(path)
    assert len(got.t_us) == len(POSES) - 1
    assert any(p.startswith("truncated: line 40 is cut") for p in got.problems)


def test_a_broken_line_in_the_middle_is_refused_by_row(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.jsonl",
        [{"t_us": u, "joints": as_dict(p)} for u, p in zip(STAMPS, POSES, strict=True)],
        lines=True,
    )
    text = path.read_text().split("\n")
    text[7] = text[7][:50]
    path.write_text("\n".join(text))
    with pytest.raises(FormatError) as e:
        read(path)
    assert e.value.row == 8 and e.value.file == str(path)


def test_gaps_are_reported_not_filled(tmp_path: Path) -> None:
    rows = [
        {"t_us": us + (2_000_000 if i >= 20 else 0), "joints": as_dict(p)}
        for i, (us, p) in enumerate(zip(STAMPS, POSES, strict=True))
    ]
    got = read(write(tmp_path / "a.jsonl", rows, lines=True))
    assert len(got.t_us) == len(POSES) and got.rate == (30, 1)
    assert got.problems == ("gaps: 1 gaps longer than 5 median periods, longest 2.033 s",)


@pytest.mark.parametrize("fps, implied", [(25, 5.4), (60, 30.0)])
def test_a_declared_rate_against_the_times_is_a_contradiction(tmp_path: Path, fps: float, implied: float) -> None:
    stamps = times(len(POSES), implied)
    document = {"fps": fps, "frames": [{"t_us": us, "joints": as_dict(p)} for us, p in zip(stamps, POSES, strict=True)]}
    got = read(write(tmp_path / "a.json", document))
    assert got.problems == (f"rate_contradiction: declared {fps} fps, implied {implied:.3g}",)
    assert got.t_us.tolist() == [us - T0 for us in stamps]


def test_a_declared_rate_against_the_duration_is_a_contradiction(tmp_path: Path) -> None:
    document = {"fps": 25, "duration": 7.4, "frames": [{"joints": as_dict(p)} for p in POSES]}
    got = read(write(tmp_path / "a.json", document))
    assert got.problems == ("rate_contradiction: declared 25 fps, implied 5.41",)
    assert (
        got.rate == (25, 1)
        and got.rate_source == "declared"
        and "time rebuilt from frame number / fps" in got.assumptions
    )


def test_no_time_and_no_rate_is_said(tmp_path: Path) -> None:
    got = read(
        write(tmp_path / "a.json", {"frames": [{"frame": i + 7, "joints": as_dict(p)} for i, p in enumerate(POSES)]})
    )
    assert got.rate is None and got.rate_source == "none" and got.t_us.tolist() == list(range(len(POSES)))
    assert "time unknown: t_us counts frames, give the rate" in got.assumptions
    again = pose_log.read_json(Source.of(tmp_path / "a.json"), fps=10)
    assert again.rate == (10, 1) and again.rate_source == "user" and again.t_us[1] == 100_000


def test_frame_numbers_with_holes_keep_their_time(tmp_path: Path) -> None:
    frames = [{"frame": i * 2 if i > 9 else i, "joints": as_dict(p)} for i, p in enumerate(POSES)]
    got = read(write(tmp_path / "a.json", {"fps": 50, "frames": frames}))
    assert got.t_us[10] == 20 * 20_000


@pytest.mark.parametrize(
    "where", ["labels in the frame", "labels as keys", "one line each", "one line each with an id"]
)
def test_the_longest_of_several_people_is_followed(tmp_path: Path, where: str) -> None:
    other = dance(seed=5) + 3
    rows: list[Any] = []
    for i, (us, p) in enumerate(zip(STAMPS, POSES, strict=True)):
        people = [("b", p)] + ([("a", other[i])] if i % 2 else [])
        if where == "labels in the frame":
            rows.append({"t_us": us, "people": [{"person_id": k, "joints": as_dict(q)} for k, q in people[::-1]]})
        elif where == "labels as keys":
            rows.append({"t_us": us, "people": {k: {"joints": as_dict(q)} for k, q in people[::-1]}})
        else:
            extra = [{"id": len(rows) + j} if "id" in where else {} for j in range(len(people))]
            rows += [
                {"t_us": us, "device": k, **e, "joints": as_dict(q)} for (k, q), e in zip(people, extra, strict=True)
            ]
    got = read(write(tmp_path / "a.jsonl", rows, lines=True))
    np.testing.assert_allclose(got.xyz, POSES, atol=1e-6)
    assert got.problems == ("several_people: 2 people or devices, the longest (40 of 60 rows) is followed",)


def test_the_nearest_of_unlabelled_people_is_followed(tmp_path: Path) -> None:
    far = POSES * 0.5 + np.array([4.0, 0.3, 0.0])
    rows = []
    for i, us in enumerate(STAMPS):
        pair = [as_dict(POSES[i]), as_dict(far[i])]
        rows.append({"t_us": us, "people": [{"joints": j} for j in (pair if i % 3 else pair[::-1])]})
    got = read(write(tmp_path / "a.json", {"frames": rows}))
    np.testing.assert_allclose(got.xyz, POSES, atol=1e-6)
    assert got.problems[0].startswith("several_people: 40 of 40 frames")


def test_a_naive_time_is_marked(tmp_path: Path) -> None:
    rows = [{"time": iso(us, ""), "joints": as_dict(p)} for us, p in zip(STAMPS, POSES, strict=True)]
    assert read(write(tmp_path / "a.jsonl", rows, lines=True)).clock.naive


@pytest.mark.parametrize("header, source, sigma", [
    ({"ntp": True}, "ntp", 20_000), ({"clock": {"source": "ntp", "sigma_ms": 5}}, "ntp", 5_000), ({}, "unix_time", 500_000),
    ({"clock_sigma_s": 0.1}, "unix_time", 100_000),
])  # fmt: skip
def test_a_stated_clock_is_believed(tmp_path: Path, header: dict[str, Any], source: str, sigma: int) -> None:
    frames = [{"t_us": us, "joints": as_dict(p)} for us, p in zip(STAMPS, POSES, strict=True)]
    got = read(write(tmp_path / "a.json", {**header, "frames": frames}))
    assert (got.clock.source, got.clock.sigma_us) == (source, sigma)
    lines = read(write(tmp_path / "a.jsonl", [{"type": "header", **header}, *frames], lines=True))
    assert (lines.clock.source, lines.clock.sigma_us) == (source, sigma)


def test_relative_times_take_the_stated_start(tmp_path: Path) -> None:
    frames = [{"t": (us - T0) / 1e6, "joints": as_dict(p)} for us, p in zip(STAMPS, POSES, strict=True)]
    got = read(write(tmp_path / "a.json", {"start_time": iso(T0), "frames": frames}))
    assert got.clock.t0_utc_us == T0 and got.clock.source == "metadata"
    assert read(write(tmp_path / "b.json", {"frames": frames})).clock.source == "none"


def test_one_snapshot_has_no_rate(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", {"snapshots": [{"timestamp": T0 / 1e6, "joints": as_dict(POSES[0])}]})
    got = read(path)
    assert len(got.t_us) == 1 and got.rate is None and got.rate_source == "none"
    assert pose_log.READERS[1].facts(Source.of(path)).duration_us is None


@pytest.mark.parametrize("scale, word", [(100, "cm"), (1000, "mm"), (1 / 0.0254, "inches")])
def test_units_come_from_the_height(tmp_path: Path, scale: float, word: str) -> None:
    rows = [{"t_us": us, "joints": as_dict(p * scale)} for us, p in zip(STAMPS, POSES, strict=True)]
    got = read(write(tmp_path / "a.jsonl", rows, lines=True))
    np.testing.assert_allclose(got.xyz, POSES, atol=1e-4)
    assert got.units == "m" and any(a.startswith(f"units {word} from a body height") for a in got.assumptions)


@pytest.mark.parametrize("axes, up", [((0, 2, 1), "+z"), ((0, 1, 2), "+y")])
def test_up_is_found_from_the_body(tmp_path: Path, axes: tuple[int, ...], up: str) -> None:
    rows = [{"t_us": us, "joints": as_dict(p[:, axes])} for us, p in zip(STAMPS, POSES, strict=True)]
    assert read(write(tmp_path / "a.jsonl", rows, lines=True)).up == up


def test_a_missing_pelvis_is_the_middle_of_the_hips(tmp_path: Path) -> None:
    rows = []
    for us, p in zip(STAMPS, POSES, strict=True):
        joints = as_dict(p)
        del joints["pelvis"]
        rows.append({"t_us": us, "joints": joints})
    got = read(write(tmp_path / "a.jsonl", rows, lines=True))
    np.testing.assert_allclose(got.xyz[:, got.joints.index("pelvis")], (POSES[:, 1] + POSES[:, 2]) / 2, atol=1e-6)
    assert "pelvis is the midpoint of the hips" in got.assumptions


@pytest.mark.parametrize("where", ["line", "document"])
def test_synthetic_is_said_in_the_facts(tmp_path: Path, where: str) -> None:
    rows = [{"t_us": us, "joints": as_dict(p)} for us, p in zip(STAMPS, POSES, strict=True)]
    if where == "line":
        path = write(tmp_path / "a.jsonl", [{**r, "synthetic": True} for r in rows], lines=True)
    else:
        path = write(tmp_path / "a.json", {"synthetic": True, "frames": rows})
    source = Source.of(path)
    reader = next(r for r in pose_log.READERS if r.sniff(source.head, source.name, source.size))
    assert reader.facts(source).meta["synthetic"] is True
    plain = write(tmp_path / "b.jsonl", rows, lines=True)
    assert "synthetic" not in pose_log.READERS[0].facts(Source.of(plain)).meta


@pytest.mark.parametrize("depth", [1, 2])
def test_a_pose_under_an_unknown_key_is_found(tmp_path: Path, depth: int) -> None:
    rows = []
    for us, p in zip(STAMPS, POSES, strict=True):
        body: dict[str, Any] = {"joints": as_dict(p)}
        rows.append({"timestamp": us / 1e6, "capture": body if depth == 1 else {"phone-1": body}})
    got = read(write(tmp_path / "a.json", {"snapshots": rows}))
    np.testing.assert_allclose(got.xyz, POSES, atol=1e-6)


@pytest.mark.parametrize(
    "content", [b"", b"   \n", b"[]", b"{}", b"null", b'{"frames": []}', b'{"frames": [1, 2]}', b"[[]]", b'"x"']
)
def test_nothing_inside_is_one_clear_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(FormatError) as e:
        pose_log.read_json(Source.of(path))
    assert str(path) in str(e.value) and "\n" not in str(e.value)
