"""C3D, TRC and MAT: self-made files in every dialect hold the same markers; joint centres; unknown sets stop."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mutator import mutants

from formats.errors import FormatError
from formats.foreign import c3d, mat_mocap, trc
from formats.foreign.joints import CANONICAL
from formats.foreign.mapping import read_with_map
from formats.foreign.markers import APPROXIMATE, bare_labels, recognise_set
from formats.foreign.model import PoseStream
from formats.foreign.smpl_body import canonical_offsets, forward
from formats.foreign.source import Source

N = 40
AT = CANONICAL.index
# A marker on a joint, moved by millimetres (left, up, front): the midpoints of some pairs are the joint again.
PLACED: dict[str, tuple[str, tuple[float, float, float]]] = {
    "LASI": ("pelvis", (125, 80, 90)), "RASI": ("pelvis", (-125, 80, 90)), "LPSI": ("pelvis", (50, 100, -110)), "RPSI": ("pelvis", (-50, 100, -110)),
    "LKNE": ("l_knee", (50, 0, 0)), "LKNM": ("l_knee", (-50, 0, 0)), "RKNE": ("r_knee", (-50, 0, 0)), "RKNM": ("r_knee", (50, 0, 0)),
    "LANK": ("l_ankle", (35, 0, 0)), "LANM": ("l_ankle", (-35, 0, 0)), "RANK": ("r_ankle", (-35, 0, 0)), "RANM": ("r_ankle", (35, 0, 0)),
    "LTOE": ("l_toe", (0, 0, 0)), "RTOE": ("r_toe", (0, 0, 0)), "LHEE": ("l_ankle", (0, -40, -60)), "RHEE": ("r_ankle", (0, -40, -60)),
    "LSHO": ("l_shoulder", (0, 0, 0)), "RSHO": ("r_shoulder", (0, 0, 0)), "LELB": ("l_elbow", (0, 0, 0)), "RELB": ("r_elbow", (0, 0, 0)),
    "LWRA": ("l_wrist", (0, 25, 0)), "LWRB": ("l_wrist", (0, -25, 0)), "RWRA": ("r_wrist", (0, 25, 0)), "RWRB": ("r_wrist", (0, -25, 0)),
    "C7": ("neck", (0, 0, -60)), "CLAV": ("neck", (0, 0, 60)), "T10": ("chest", (0, 0, -100)), "STRN": ("chest", (0, 0, 100)),
    "LFHD": ("head", (70, 20, 80)), "RFHD": ("head", (-70, 20, 80)), "LBHD": ("head", (70, -20, -80)), "RBHD": ("head", (-70, -20, -80)),
}  # fmt: skip
EXACT = [
    n
    for n in CANONICAL
    if n.split("_")[-1] in ("knee", "ankle", "toe", "shoulder", "elbow", "wrist") or n in ("neck", "chest", "head")
]


def dance() -> np.ndarray:
    """(N, 22, 3) millimetres, y up, facing +z."""
    t = np.linspace(0, 2 * np.pi, N)
    rng = np.random.default_rng(4)
    poses = 0.12 * np.sin(t[:, None, None] + rng.uniform(0, 6, (22, 3)))
    poses[:, 0] = 0
    trans = np.stack([0.2 * np.sin(t), 0.92 + 0.01 * np.cos(t), 0.1 * t], axis=1)
    return forward(poses, trans, canonical_offsets(1.75)) * 1000


JOINTS = dance()
LABELS = tuple(PLACED)
MARKERS = np.stack([JOINTS[:, AT(j)] + np.array(move) for j, move in PLACED.values()], axis=1)
Z_UP = np.stack([MARKERS[..., 0], -MARKERS[..., 2], MARKERS[..., 1]], axis=-1)


def same(stream: PoseStream, rows: slice = slice(None)) -> None:
    assert stream.joints == CANONICAL and (stream.units, stream.up) == ("m", "+y") and APPROXIMATE in stream.assumptions
    at = [AT(n) for n in EXACT]
    got, want = stream.xyz[rows][:, at].astype(float), JOINTS[rows][:, at] / 1000
    lift = np.nanmean(want[..., 1]) - np.nanmean(got[..., 1])
    got[..., 1] += lift
    np.testing.assert_allclose(got, want, atol=2e-4)
    hips = np.linalg.norm(stream.xyz[:, AT("l_hip")] + [0, lift, 0] - JOINTS[:, AT("l_hip")] / 1000, axis=1)
    assert float(hips.max()) < 0.1, "hip centres are approximate"
    assert float(np.nanmin(stream.xyz[:, AT("l_hip"), 0] - stream.xyz[:, AT("r_hip"), 0])) > 0.1


class Writer:
    """A C3D of our own making: one of three byte orders, integers or floats, with or without analog channels."""

    def __init__(
        self,
        kind: int = 84,
        floats: bool = True,
        analog: int = 0,
        points: np.ndarray = MARKERS,
        labels: tuple[str, ...] = LABELS,
        prefix: str = "",
    ) -> None:
        self.kind, self.floats, self.analog, self.points = kind, floats, analog, points
        self.labels = [prefix + n for n in labels]
        self.order = ">" if kind == 86 else "<"
        self.scale = -1.0 if floats else 0.1
        self.fps = 100.0

    def real(self, value: float) -> bytes:
        if self.kind != 85:
            return struct.pack(self.order + "f", value)
        raw = struct.pack("<f", value * 4)
        return raw[2:4] + raw[0:2]

    def parameter(self, group: int, name: str, size: int, dims: list[int], data: bytes) -> bytes:
        body = struct.pack("b", size) + bytes([len(dims), *dims]) + data + b"\x00"
        return struct.pack("bb", len(name), group) + name.encode() + struct.pack(self.order + "h", 2 + len(body)) + body

    def bytes(self) -> bytes:
        n, count = self.points.shape[:2]
        width = max(len(v) for v in self.labels)
        groups = struct.pack("bb", 5, -1) + b"POINT" + struct.pack(self.order + "h", 3) + b"\x00"
        groups += self.parameter(1, "USED", 2, [], struct.pack(self.order + "h", count))
        groups += self.parameter(1, "FRAMES", 2, [], struct.pack(self.order + "h", n))
        groups += self.parameter(1, "SCALE", 4, [], self.real(self.scale)) + self.parameter(
            1, "RATE", 4, [], self.real(self.fps)
        )
        groups += self.parameter(1, "UNITS", -1, [2], b"mm")
        groups += self.parameter(1, "LABELS", -1, [width, count], "".join(v.ljust(width) for v in self.labels).encode())
        blocks = (len(groups) + 4 + 511) // 512
        start = 2 + blocks
        section = (bytes([1, 0x50, blocks, self.kind]) + groups).ljust(blocks * 512, b"\x00")
        head = bytearray(512)
        head[0:2] = b"\x02\x50"
        struct.pack_into(self.order + "5H", head, 2, count, self.analog, 1, n, 0)
        head[12:16], head[20:24] = self.real(self.scale), self.real(self.fps)
        struct.pack_into(self.order + "H", head, 16, start)
        rows = []
        for frame in self.points:
            for x, y, z in frame:
                gone = not np.isfinite([x, y, z]).all()
                values = [0.0, 0.0, 0.0, -1.0] if gone else [x, y, z, 0.0]
                if self.floats:
                    rows.append(b"".join(self.real(v) for v in values))
                else:
                    rows.append(
                        struct.pack(
                            self.order + "4h", *(round(v / 0.1) if i < 3 else int(v) for i, v in enumerate(values))
                        )
                    )
            rows.append((self.real(0.5) if self.floats else struct.pack(self.order + "h", 5)) * self.analog)
        data = b"".join(rows)
        return bytes(head) + section + data.ljust((len(data) + 511) // 512 * 512, b"\x00")


def put(path: Path, data: bytes) -> Source:
    path.write_bytes(data)
    return Source.of(path)


@pytest.mark.parametrize("kind", [84, 85, 86])
@pytest.mark.parametrize("floats", [True, False])
@pytest.mark.parametrize("analog", [0, 7])
def test_c3d_in_every_dialect(tmp_path: Path, kind: int, floats: bool, analog: int) -> None:
    source = put(tmp_path / "a.c3d", Writer(kind, floats, analog, prefix="Anna:").bytes())
    assert c3d.sniff(source.head, source.name, source.size)
    stream = c3d.read(source)
    same(stream)
    assert (
        stream.rate == (100, 1) and stream.rate_source == "header" and "rig plug-in-gait markers" in stream.assumptions
    )
    facts = c3d.facts(source)
    assert (facts.kind, facts.format, facts.n, facts.channels, facts.reason) == ("motion", "c3d", N, len(LABELS), None)
    assert c3d.read(source, fps=50).rate == (50, 1)


def test_c3d_agrees_with_the_usual_reader(shared: Path, tmp_path: Path) -> None:
    ezc3d = pytest.importorskip("ezc3d")
    path = shared / "data/mocap/c3d/pyomeca_markers_analogs.c3d"
    ours, theirs = c3d.parse(path.read_bytes()), ezc3d.c3d(str(path))
    np.testing.assert_array_equal(ours.xyz, theirs["data"]["points"][:3].transpose(2, 1, 0))
    assert list(ours.labels) == theirs["parameters"]["POINT"]["LABELS"]["value"] and (ours.fps, ours.units) == (
        100.0,
        "mm",
    )
    for kind, floats in ((84, True), (84, False), (85, True)):
        (tmp_path / "a.c3d").write_bytes(Writer(kind, floats).bytes())
        own = c3d.parse((tmp_path / "a.c3d").read_bytes())
        np.testing.assert_allclose(
            own.xyz, ezc3d.c3d(str(tmp_path / "a.c3d"))["data"]["points"][:3].transpose(2, 1, 0), atol=1e-3
        )


def test_gaps_are_missing_and_counted(tmp_path: Path) -> None:
    points = MARKERS.copy()
    points[5:9, LABELS.index("LKNE")] = np.nan
    stream = c3d.read(put(tmp_path / "a.c3d", Writer(points=points).bytes()))
    assert np.isnan(stream.xyz[5:9, AT("l_knee")]).all() and np.isfinite(stream.xyz[9:]).all()
    assert "gaps: 4 of 40 frames miss a joint, most often l_knee" in stream.problems


def test_z_up_markers_are_turned(tmp_path: Path) -> None:
    stream = c3d.read(put(tmp_path / "a.c3d", Writer(points=Z_UP).bytes()))
    same(stream)
    assert "axes turned, up was +z" in stream.assumptions


def test_without_medial_markers_it_is_still_a_body(tmp_path: Path) -> None:
    keep = [
        i
        for i, n in enumerate(LABELS)
        if n not in ("LKNM", "RKNM", "LANM", "RANM", "LPSI", "RPSI", "T10", "C7", "LTOE")
    ]
    source = put(tmp_path / "a.c3d", Writer(points=MARKERS[:, keep], labels=tuple(LABELS[i] for i in keep)).bytes())
    stream = c3d.read(source)
    assert np.isfinite(stream.xyz).all() and any(n.startswith("placed l_toe") for n in stream.assumptions)


def test_two_people_the_fuller_set_is_one() -> None:
    labels = [*("Bob:" + n for n in LABELS[:5]), *("Anna:" + n for n in LABELS), "*1"]
    assert bare_labels(labels).count("LASI") == 1 and recognise_set(labels) is not None
    assert recognise_set(LABELS[:8]) is None


def test_an_unknown_set_stops_and_names_its_labels(tmp_path: Path) -> None:
    source = put(tmp_path / "a.c3d", Writer(labels=tuple(f"M{i}" for i in range(len(LABELS)))).bytes())
    facts = c3d.facts(source)
    assert str(facts.reason).startswith(
        f"{len(LABELS)} markers of no known set (plug-in-gait, mocap-toolbox-28): M0, M1"
    )
    with pytest.raises(FormatError, match="M0, M1") as e:
        c3d.read(source)
    assert "--map FILE" in e.value.hint
    names = {f"M{i}": PLACED[n][0] for i, n in enumerate(LABELS) if not n.endswith(("ASI", "PSI", "HEE"))}
    mapping = {"format": "markers", "joints": {"map": {**names, "M0": "l_hip", "M1": "r_hip"}}}
    stream = read_with_map(source, mapping)
    at = [AT(n) for n in EXACT]
    moved = stream.xyz[:, at].astype(float) - stream.xyz[:1, at[:1]]
    np.testing.assert_allclose(moved, (JOINTS[:, at] - JOINTS[:1, at[:1]]) / 1000, atol=2e-4)
    with pytest.raises(FormatError, match="no marker 'M99'"):
        read_with_map(source, {"format": "markers", "joints": {"map": {"M99": "l_hip"}}})


@pytest.mark.parametrize("data, words", [
    (b"\x02\x50" + bytes(300), "no C3D header"), (b"\x40\x50" + bytes(2000), "behind the end"), (b"\x02\x50" + bytes(2000), "nothing to read"),
    (Writer().bytes()[:1300], "no whole frame"),
])  # fmt: skip
def test_c3d_that_cannot_be(tmp_path: Path, data: bytes, words: str) -> None:
    with pytest.raises(FormatError, match=words):
        c3d.read(put(tmp_path / "a.c3d", data))


def test_a_cut_c3d_keeps_its_whole_frames(tmp_path: Path) -> None:
    data = Writer().bytes()
    stream = c3d.read(put(tmp_path / "a.c3d", data[: len(data) // 2]))
    assert 10 < len(stream.xyz) < 30 and any(p.startswith("frame_count: 40 frames declared") for p in stream.problems)


def table(
    *,
    sep: str = "\t",
    pad: bool = False,
    units: str = "mm",
    rate: str = "50",
    gaps: bool = False,
    end: str = "\n",
    blank: bool = True,
) -> str:
    out = [sep.join(["PathFileType", "4", "(X/Y/Z)", "a.trc"]),
           sep.join(["DataRate", "CameraRate", "NumFrames", "NumMarkers", "Units", "OrigDataRate"]), sep.join([rate, "50", str(N), str(len(LABELS)), units, "50"]),
           sep.join(["Frame#", "Time", *(c for n in LABELS for c in (n, "", ""))]), sep.join(["", "", *(f"{a}{i + 1}" for i in range(len(LABELS)) for a in "XYZ")])]  # fmt: skip
    if pad:
        out = [line + sep * (2 + 3 * len(LABELS)) for line in out]
    out += [""] if blank else []
    for t in range(N):
        cells = [f"{v:.5f}" for v in MARKERS[t].reshape(-1)]
        if gaps and t == 3:
            cells[:3] = ["", "", ""]
        out.append(sep.join([str(t + 1), f"{t / 50:.5f}", *cells]))
    return end.join(out) + end


TABLES = {
    "tabs": table(), "commas": table(sep=","), "commas, padded": table(sep=",", pad=True), "tabs, padded": table(pad=True), "windows": table(end="\r\n"),
    "no blank line": table(blank=False), "semicolons": table(sep=";"), "byte order mark": "\ufeff" + table(), "no rate": table(rate=""),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLES)
def test_trc_in_every_dialect(tmp_path: Path, name: str) -> None:
    source = put(tmp_path / "a.trc", TABLES[name].encode())
    assert trc.sniff(source.head, source.name, source.size)
    stream = trc.read(source)
    same(stream)
    assert stream.rate == (50, 1) and stream.rate_source == ("timestamps" if name == "no rate" else "header")
    facts = trc.facts(source)
    assert (facts.kind, facts.n, facts.channels, facts.reason) == ("motion", N, len(LABELS), None)


def test_trc_doubts(tmp_path: Path) -> None:
    stream = trc.read(put(tmp_path / "a.trc", table(gaps=True, rate="60").encode()))
    assert any(p.startswith("rate_contradiction: declared 60 fps, implied 50") for p in stream.problems)
    assert np.isnan(stream.xyz[3, AT("pelvis")]).any()
    short = "\n".join(table().splitlines()[:-3]) + "\n1\t2"
    stream = trc.read(put(tmp_path / "b.trc", short.encode()))
    assert len(stream.xyz) == N - 3 and {"frame_count", "truncated"} <= {p.split(":")[0] for p in stream.problems}


@pytest.mark.parametrize("change, words", [
    (("Frame#", "Bild#"), "no line of marker names"), (("\t0.02000\t", "\t0.02x\t"), "is not a number"), (("\n5\t", "\n5\t1\t1\t"), "cells where the names need"),
])  # fmt: skip
def test_trc_that_is_broken(tmp_path: Path, change: tuple[str, str], words: str) -> None:
    with pytest.raises(FormatError, match=words):
        trc.read(put(tmp_path / "a.trc", table().replace(*change).encode()))


TOOLBOX = {
    "Head_FL": "LFHD", "Head_FR": "RFHD", "Head_BL": "LBHD", "Head_BR": "RBHD", "Shoulder_L": "LSHO", "Shoulder_R": "RSHO", "Spine": "T10",
    "Sternum": "STRN", "Hip_FL": "LASI", "Hip_FR": "RASI", "Hip_BL": "LPSI", "Hip_BR": "RPSI", "Elbow_L": "LELB", "Elbow_R": "RELB", "Radius_L": "LWRA",
    "Ulna_L": "LWRB", "Radius_R": "RWRA", "Ulna_R": "RWRB", "Finger_L": "LWRA", "Finger_R": "RWRA", "Knee_L": "LKNE", "Knee_R": "RKNE",
    "Ankle_L": "LANK", "Ankle_R": "RANK", "Pinkie_L": "LTOE", "BigToe_L": "LTOE", "Pinkie_R": "RTOE", "BigToe_R": "RTOE",
}  # fmt: skip


def toolbox(**change: Any) -> dict[str, Any]:
    data = np.stack([Z_UP[:, LABELS.index(v)] for v in TOOLBOX.values()], axis=1).reshape(N, -1)
    names = np.array([[k] for k in TOOLBOX], dtype=object)
    return {
        "type": "MoCap data",
        "filename": "a.tsv",
        "nFrames": N,
        "freq": 60.0,
        "markerName": names,
        "data": data,
        **change,
    }


def mat(compressed: bool = True, **variables: Any) -> bytes:
    from scipy.io import savemat

    out = io.BytesIO()
    savemat(out, variables, do_compression=compressed)
    return out.getvalue()


@pytest.mark.parametrize("compressed", [True, False])
def test_mat(tmp_path: Path, compressed: bool) -> None:
    other = toolbox(markerName=np.array([["a"], ["b"]], dtype=object), data=np.zeros((N, 6)))
    source = put(
        tmp_path / "a.mat",
        mat(compressed, par={"type": "animpar"}, other=other, dance=toolbox(), again=toolbox(freq=30.0), n=np.eye(3)),
    )
    stream = mat_mocap.read(source)
    assert stream.rate == (60, 1) and stream.xyz.shape == (N, 22, 3) and np.isfinite(stream.xyz).all()
    assert {"rig mocap-toolbox-28 markers", "recording dance", "axes turned, up was +z"} <= set(stream.assumptions)
    assert "several_recordings: it holds other, dance, again; dance is used" in stream.problems
    at = [AT(n) for n in ("l_shoulder", "r_elbow", "l_wrist", "chest", "head")]
    moved = stream.xyz[:, at].astype(float) - stream.xyz[:1, at[:1]]
    np.testing.assert_allclose(moved, (JOINTS[:, at] - JOINTS[:1, at[:1]]) / 1000, atol=1e-4)
    assert mat_mocap.read(source, part="again").rate == (30, 1)
    with pytest.raises(FormatError, match="no recording 'x'"):
        mat_mocap.read(source, part="x")
    facts = mat_mocap.facts(source)
    assert facts.meta["recordings"] == {"other": N, "dance": N, "again": N} and facts.reason is None
    with pytest.raises(FormatError, match="2 markers of no known set"):
        mat_mocap.read(source, part="other")


def test_mat_that_is_none(tmp_path: Path) -> None:
    for data, words in (
        (mat(x=np.eye(2)), "no 'MoCap data' struct"), (mat(x=toolbox(data=np.zeros((N, 5)))), "no 'MoCap data' struct"),
        (b"MATLAB 7.3 MAT-file" + bytes(500), "-v7"), (b"MATLAB 5.0" + bytes(300), "no MATLAB 5 file"), (mat(x=toolbox())[:900], "damaged"),
    ):  # fmt: skip
        with pytest.raises(FormatError, match=words) as e:
            mat_mocap.read(put(tmp_path / "a.mat", data))
        assert "\n" not in str(e.value)


def test_objects_are_not_built(tmp_path: Path) -> None:
    data = bytearray(mat(False, x=toolbox()))
    for kind, words in ((3, "an object"), (16, "a function"), (17, "an opaque object")):
        data[128 + 16] = kind
        with pytest.raises(FormatError, match=words):
            mat_mocap.read(put(tmp_path / "a.mat", bytes(data)))


def test_a_mat_bomb_is_refused_before_it_is_inflated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mat_mocap, "BUDGET_BYTES", 2**22)
    monkeypatch.setattr("scipy.io.loadmat", lambda *a, **k: pytest.fail("inflated"))
    with pytest.raises(FormatError, match="inflates to more than"):
        mat_mocap.read(put(tmp_path / "a.mat", mat(x=np.zeros((1500, 1500)))))


def test_samples(shared: Path) -> None:
    folder = shared / "data/mocap"
    found = c3d.facts(Source.of(folder / "c3d/pyomeca_markers_analogs.c3d"))
    assert (
        (found.n, found.rate, found.channels) == (580, (100, 1), 51)
        and "boite:gauche_ext" in str(found.reason)
        and "and 45 more" in str(found.reason)
    )
    assert "Daphnee:ASISr" in found.meta["labels"]
    found = trc.facts(Source.of(folder / "trc/pyomeca_markers.trc"))
    assert (found.n, found.rate, found.channels) == (93, (100, 1), 51) and "ASISl, ASISr" in str(found.reason)
    assert "frame_count: 652 frames declared, 93 found" in found.problems, "the sample is cut"
    source = Source.of(folder / "mat/mocaptoolbox_mcdemodata.mat")
    for part, n, height in (
        ("dance1", 1500, 1.552),
        ("dance2", 1500, 1.786),
        ("walk1", 351, 1.739),
        ("walk2", 401, 1.868),
    ):
        stream = mat_mocap.read(source, part=part)
        assert stream.xyz.shape == (n, 22, 3) and stream.rate == (60, 1)
        legs = [
            np.linalg.norm(stream.xyz[:, AT(f"{s}_{a}")] - stream.xyz[:, AT(f"{s}_{b}")], axis=1)
            for s in "lr"
            for a, b in (("hip", "knee"), ("knee", "ankle"))
        ]
        assert float(np.sum([np.nanmedian(v) for v in legs])) / 2 / 0.481 == pytest.approx(height, abs=0.002)
        assert not any(p.startswith(("sides", "upside")) for p in stream.problems)


@pytest.mark.parametrize("part", ["dance1", "dance2"])
def test_dances_of_the_toolbox_keep_their_tempo(shared: Path, part: str) -> None:
    """DATA.md: the speed of both dances repeats at 57.1 a minute, half of about 110 beats."""
    found = {r.name: r for r in mat_mocap.recordings(Source.of(shared / "data/mocap/mat/mocaptoolbox_mcdemodata.mat"))}
    speed = np.nanmean(np.linalg.norm(np.diff(found[part].xyz, axis=0), axis=2), axis=1)
    speed -= speed.mean()
    auto = np.correlate(speed, speed, "full")[len(speed) - 1 :]
    peaks = [round(3600 / k, 1) for k in range(15, 80) if auto[k] > auto[k - 1] and auto[k] > auto[k + 1]]
    assert 57.1 in peaks and 105 < peaks[0] < 120


def test_mutants_are_read_or_refused(tmp_path: Path) -> None:
    cases: tuple[tuple[str, bytes, Any, bool], ...] = (
        ("a.c3d", Writer(points=MARKERS[:6]).bytes(), c3d.read, False), ("i.c3d", Writer(86, False, 3, MARKERS[:6]).bytes(), c3d.read, False),
        ("a.trc", "\n".join(table().splitlines()[:16]).encode(), trc.read, True), ("a.mat", mat(x=toolbox()), mat_mocap.read, False),
        ("b.mat", mat(False, x=toolbox()), mat_mocap.read, False),
    )  # fmt: skip
    for name, data, read, text in cases:
        outcomes = set()
        for _, mutant in mutants(data, 80, 7, text=text):
            try:
                assert read(put(tmp_path / name, mutant)).xyz.shape[1:] == (22, 3)
                outcomes.add("read")
            except FormatError as e:
                assert "\n" not in str(e)
                outcomes.add("refused")
        assert "refused" in outcomes, name


def test_damaged_headers_do_not_end_the_process(tmp_path: Path) -> None:
    """The damage that makes the usual reader crash: single bytes of the header and the parameters."""
    data = Writer(analog=2).bytes()
    rng = np.random.default_rng(0)
    for _ in range(300):
        mutant = bytearray(data)
        for at in rng.integers(0, 2048, rng.integers(1, 4)):
            mutant[at] = rng.choice([0, 255, 127, 128, rng.integers(256)])
        try:
            c3d.read(put(tmp_path / "a.c3d", bytes(mutant)))
        except FormatError as e:
            assert "\n" not in str(e)
