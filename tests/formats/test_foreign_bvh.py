"""BVH: real rigs against their known answers, and every dialect against the plain spelling of the same dance."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from formats.errors import FormatError
from formats.foreign import bvh
from formats.foreign.bvh_kinematics import axis_rotation, joint_positions
from formats.foreign.joints import CANONICAL
from formats.foreign.model import PoseStream
from formats.foreign.source import Source

REAL = {
    "bandai_ds1_dance-short_normal_001": (1901, (30, 1), 22, 132, "bandai", "cm"),
    "bandai_ds1_walk_happy_001": (213, (30, 1), 22, 132, "bandai", "cm"),
    "bandai_ds1_bow_childish_001": (98, (30, 1), 22, 132, "bandai", "cm"),
    "cmu_01_01": (2752, (120, 1), 31, 96, "cmu", "inferred"),
    "xia_neutral_01_000": (327, (120, 1), 31, 96, "cmu", "inferred"),
    "xia_sexy_01_000": (258, (120, 1), 31, 96, "cmu", "inferred"),
    "xia_angry_13_000": (140, (120, 1), 31, 96, "cmu", "inferred"),
    "freebvh_test": (69, (30, 1), 55, 168, "mixamo", "cm"),
}
# name, parent, rest offset in centimetres (y up, facing +z, left is +x)
BODY: list[tuple[str, str, tuple[float, float, float]]] = [
    ("Hips", "", (0, 0, 0)), ("Spine", "Hips", (0, 10, 0)), ("Spine1", "Spine", (0, 12, 0)), ("Spine2", "Spine1", (0, 14, 0)),
    ("Neck", "Spine2", (0, 15, 0)), ("Head", "Neck", (0, 10, 2)),
    ("LeftShoulder", "Spine2", (6, 10, 0)), ("LeftArm", "LeftShoulder", (12, 0, 0)), ("LeftForeArm", "LeftArm", (27, 0, 0)),
    ("LeftHand", "LeftForeArm", (26, 0, 0)), ("LeftHandIndex1", "LeftHand", (9, 0, 0)),
    ("RightShoulder", "Spine2", (-6, 10, 0)), ("RightArm", "RightShoulder", (-12, 0, 0)),
    ("RightForeArm", "RightArm", (-27, 0, 0)), ("RightHand", "RightForeArm", (-26, 0, 0)),
    ("LeftUpLeg", "Hips", (9, -5, 0)), ("LeftLeg", "LeftUpLeg", (0, -41, 0)), ("LeftFoot", "LeftLeg", (0, -42, 0)),
    ("LeftToeBase", "LeftFoot", (0, -6, 13)),
    ("RightUpLeg", "Hips", (-9, -5, 0)), ("RightLeg", "RightUpLeg", (0, -41, 0)), ("RightFoot", "RightLeg", (0, -42, 0)),
    ("RightToeBase", "RightFoot", (0, -6, 13)),
]  # fmt: skip
MIXAMO = dict(zip(CANONICAL, [
    "Hips", "LeftUpLeg", "RightUpLeg", "Spine", "LeftLeg", "RightLeg", "Spine1", "LeftFoot", "RightFoot", "Spine2",
    "LeftToeBase", "RightToeBase", "Neck", "LeftShoulder", "RightShoulder", "Head", "LeftArm", "RightArm", "LeftForeArm",
    "RightForeArm", "LeftHand", "RightHand"], strict=True))  # fmt: skip


class Rig:
    """A body and its motion, written in any dialect of BVH."""

    def __init__(self, n: int = 24, order: str = "ZXY", seed: int = 1) -> None:
        rng = np.random.default_rng(seed)
        self.order = order
        self.n = n
        sway = np.cumsum(rng.normal(scale=2.0, size=(n, len(BODY), 3)), axis=0)
        self.angles = np.round(np.clip(sway, -40, 40), 4)
        self.root = np.round(np.array([0, 94, 0]) + np.cumsum(rng.normal(size=(n, 3)), axis=0), 4)
        self.names = [b[0] for b in BODY]
        self.parents = [self.names.index(b[1]) if b[1] else -1 for b in BODY]
        self.offsets = np.array([b[2] for b in BODY], float)

    def world(self) -> np.ndarray:
        """Positions by the definition, one frame and joint at a time: (n, J, 3)."""
        out = np.zeros((self.n, len(BODY), 3))
        for t in range(self.n):
            turns: list[np.ndarray] = []
            for j, parent in enumerate(self.parents):
                local = np.eye(3)
                for axis, angle in zip(self.order, self.angles[t, j], strict=True):
                    local = local @ axis_rotation(np.deg2rad([angle]), "XYZ".index(axis))[0]
                if parent < 0:
                    out[t, j] = self.root[t]
                    turns.append(local)
                else:
                    out[t, j] = out[t, parent] + turns[parent] @ self.offsets[j]
                    turns.append(turns[parent] @ local)
        return out

    def text(
        self, *, six: bool = False, zero_root: bool = False, rename: Callable[[str], str] = lambda n: n,
        frame_time: str = "0.0333333", frames: int | None = None, number: str = "{:.6f}",
    ) -> str:  # fmt: skip
        out = ["HIERARCHY"]
        turn = " ".join(f"{a}rotation" for a in self.order)
        six_names = f"CHANNELS 6 Xposition Yposition Zposition {turn}"

        def joint(j: int, depth: int) -> None:
            pad = "\t" * depth
            word = "JOINT" if depth else "ROOT"
            places = six or j == 0
            out.append(f"{pad}{word} {rename(self.names[j])}")
            out.append(f"{pad}{{")
            offset = (7.0, 7.0, 7.0) if six else self.offsets[j]
            out.append(f"{pad}\tOFFSET {' '.join(f'{v:.4f}' for v in offset)}")
            out.append(f"{pad}\t{six_names}" if places else f"{pad}\tCHANNELS 3 {turn}")
            below = [k for k, p in enumerate(self.parents) if p == j]
            for k in below:
                joint(k, depth + 1)
            if not below:
                out.extend([f"{pad}\tEnd Site", f"{pad}\t{{", f"{pad}\t\tOFFSET 0 0 1", f"{pad}\t}}"])
            out.append(f"{pad}}}")

        if zero_root:
            out += ["ROOT reference", "{", "\tOFFSET 0 0 0", f"\t{six_names}"]
            joint(0, 1)
            out.append("}")
        else:
            joint(0, 0)
        out += ["MOTION", f"Frames: {self.n if frames is None else frames}", f"Frame Time: {frame_time}"]
        for t in range(self.n):
            row: list[float] = [0.0] * 6 if zero_root else []
            for j in range(len(BODY)):
                if six or j == 0:
                    row += list(self.root[t] if j == 0 else self.offsets[j])
                row += list(self.angles[t, j])
            out.append(" ".join(number.format(v) for v in row))
        return "\n".join(out) + "\n"


RIG = Rig()
WORLD = RIG.world()[:, [RIG.names.index(MIXAMO[c]) for c in CANONICAL]] / 100


def read(path: Path, text: str | bytes) -> PoseStream:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    source = Source.of(path)
    assert bvh.sniff(source.head, source.name, source.size)
    facts = bvh.facts(source)
    stream = bvh.read(source)
    assert facts.n == len(stream.t_us) and facts.kind == "motion" and facts.rate == stream.rate
    return stream


@pytest.mark.parametrize("name", REAL)
def test_real_rigs(shared: Path, name: str) -> None:
    frames, rate, joints, channels, family, unit = REAL[name]
    source = Source.of(shared / f"data/mocap/bvh/{name}.bvh")
    facts = bvh.facts(source)
    assert (facts.n, facts.rate, facts.channels, facts.meta["channels"]) == (frames, rate, joints, channels)
    assert (facts.meta["rig"], facts.meta["units_found"], facts.meta["up"]) == (family, unit, "+y")
    assert facts.reason is None and facts.problems == ()
    stream = bvh.read(source)
    assert stream.joints == CANONICAL and stream.units == "m" and stream.xyz.shape == (frames, 22, 3)
    assert np.isfinite(stream.xyz).all() and int(stream.t_us[-1]) == round((frames - 1) * 1e6 * rate[1] / rate[0])
    at = CANONICAL.index
    legs = np.linalg.norm(stream.xyz[:, at("l_hip")] - stream.xyz[:, at("l_knee")], axis=1)
    legs = legs + np.linalg.norm(stream.xyz[:, at("l_knee")] - stream.xyz[:, at("l_ankle")], axis=1)
    assert 1.5 < float(legs.mean()) / 0.481 < 1.9 and float(legs.std()) < 1e-4


def test_the_dance_sample(shared: Path) -> None:
    clip = bvh.parse(Source.of(shared / "data/mocap/bvh/bandai_ds1_dance-short_normal_001.bvh"))
    world = joint_positions(clip, clip.values)
    parents = [j.parent for j in clip.joints]
    bones = np.stack([np.linalg.norm(world[:, j] - world[:, p], axis=1) for j, p in enumerate(parents) if p > 0])
    assert float(bones.std(axis=1).max()) < 1e-11
    np.testing.assert_allclose(np.ptp(world.reshape(-1, 3), axis=0), [207, 183, 294], atol=0.5)
    assert clip.frame_time == 0.0333333


def test_all_shared_files_read(shared: Path) -> None:
    files = sorted((shared / "data/mocap/bvh").glob("*.bvh"))
    assert len(files) == 11
    for file in files:
        assert bvh.read(Source.of(file)).problems == ()


DIALECTS: dict[str, Callable[[], str | bytes]] = {
    "plain": lambda: RIG.text(),
    "six channels replace the offset": lambda: RIG.text(six=True),
    "zero root, travel in the child": lambda: RIG.text(zero_root=True),
    "six channels and a zero root": lambda: RIG.text(six=True, zero_root=True),
    "CRLF": lambda: RIG.text().replace("\n", "\r\n"),
    "tabs between numbers": lambda: re.sub(r"(?<=\d) (?=-?\d)", "\t", RIG.text()),
    "trailing blanks and empty lines": lambda: RIG.text().replace("\n", "  \n\n"),
    "BOM": lambda: b"\xef\xbb\xbf" + RIG.text().encode(),
    "UTF-16": lambda: RIG.text().encode("utf-16"),
    "exponents": lambda: RIG.text(number="{:.10e}"),
    "decimal commas": lambda: RIG.text().replace(".", ","),
    "commas between numbers": lambda: re.sub(r"(?<=\d) (?=-?\d)", ", ", RIG.text()),
    "brace on the name's line": lambda: re.sub(r"\n\s*\{", " {", RIG.text()),
    "lower case words": lambda: RIG.text().replace("CHANNELS", "Channels").replace("JOINT", "Joint").replace("rotation", "Rotation"),
    "mixamorig prefix": lambda: RIG.text(rename=lambda n: "mixamorig:" + n),
    "names with spaces": lambda: RIG.text(rename=lambda n: re.sub(r"(?<=[a-z])(?=[A-Z0-9])", " ", n)),
    "prefix with an underscore": lambda: RIG.text(rename=lambda n: "Character1_" + n),
    "one frame over two lines": lambda: _wrapped(RIG.text()),
    "no names at all": lambda: RIG.text(rename=lambda n: f"b{RIG.names.index(n)}"),
}  # fmt: skip


def _wrapped(text: str) -> str:
    head, tail = text.split("Frame Time: 0.0333333\n")
    rows = [r.split() for r in tail.splitlines()]
    return head + "Frame Time: 0.0333333\n" + "\n".join(" ".join(r[:40]) + "\n" + " ".join(r[40:]) for r in rows) + "\n"


@pytest.mark.parametrize("name", DIALECTS)
def test_every_dialect_is_the_same_dance(tmp_path: Path, name: str) -> None:
    stream = read(tmp_path / ".bvh", DIALECTS[name]())
    assert stream.joints == CANONICAL and (stream.units, stream.up, stream.rate) == ("m", "+y", (30, 1))
    np.testing.assert_allclose(stream.xyz, WORLD, atol=2e-5)
    assert [p for p in stream.problems if not p.startswith("floor")] == []


@pytest.mark.parametrize("order", ["XYZ", "XZY", "YXZ", "YZX", "ZXY", "ZYX"])
def test_rotation_order_is_read_per_file(tmp_path: Path, order: str) -> None:
    rig = Rig(order=order)
    want = rig.world()[:, [rig.names.index(MIXAMO[c]) for c in CANONICAL]] / 100
    xyz = read(tmp_path / "A.BVH", rig.text()).xyz
    want[:, :, 1] += float(xyz[0, 0, 1]) - want[0, 0, 1]  # the floor
    np.testing.assert_allclose(xyz, want, atol=2e-5)


FAMILY_NAMES: dict[str, dict[str, str]] = {
    "collar": {"LeftShoulder": "LeftCollar", "LeftArm": "LeftShoulder", "LeftForeArm": "LeftElbow", "LeftHand": "LeftWrist",
               "LeftUpLeg": "LeftHip", "LeftLeg": "LeftKnee", "LeftFoot": "LeftAnkle", "LeftToeBase": "LeftToe"},
    "bandai": {"LeftShoulder": "Shoulder_L", "LeftArm": "UpperArm_L", "LeftForeArm": "LowerArm_L", "LeftHand": "Hand_L",
               "LeftUpLeg": "UpperLeg_L", "LeftLeg": "LowerLeg_L", "LeftFoot": "Foot_L", "LeftToeBase": "Toes_L"},
    "smpl": {"Hips": "Pelvis", "LeftShoulder": "L_Collar", "LeftArm": "L_Shoulder", "LeftForeArm": "L_Elbow", "LeftHand": "L_Wrist",
             "LeftHandIndex1": "L_Hand", "LeftUpLeg": "L_Hip", "LeftLeg": "L_Knee", "LeftFoot": "L_Ankle", "LeftToeBase": "L_Foot"},
    "motionbuilder": {},
}  # fmt: skip


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_the_same_word_means_what_the_topology_says(tmp_path: Path, family: str) -> None:
    table = dict(FAMILY_NAMES[family])
    for ours, theirs in FAMILY_NAMES[family].items():
        if ours.startswith("Left"):
            mirrored = (
                theirs.replace("Left", "Right") if "Left" in theirs else theirs.replace("_L", "_R").replace("L_", "R_")
            )
            table[ours.replace("Left", "Right")] = mirrored
    path = tmp_path / "a.bvh"
    stream = read(path, RIG.text(rename=lambda n: table.get(n, n)))
    np.testing.assert_allclose(stream.xyz, WORLD, atol=2e-5)
    assert bvh.facts(Source.of(path)).meta["rig"] == family


def test_two_roots_the_one_with_legs_is_used(tmp_path: Path) -> None:
    text = RIG.text()
    head, motion = text.split("MOTION\n")
    prop = "HIERARCHY\nROOT Sword\n{\n OFFSET 0 0 0\n CHANNELS 3 Xposition Yposition Zposition\n End Site\n {\n OFFSET 0 90 0\n }\n}\n"
    rows = motion.split("\n")
    rows[2:-1] = ["1 2 3 " + r for r in rows[2:-1]]
    stream = read(tmp_path / "a.bvh", prop + head.removeprefix("HIERARCHY\n") + "MOTION\n" + "\n".join(rows))
    np.testing.assert_allclose(stream.xyz, WORLD, atol=2e-5)
    assert stream.problems[0] == "several_roots: 2 skeletons, 'Hips' is used"


def test_zero_position_channels_do_not_fold_the_body(tmp_path: Path) -> None:
    text = RIG.text(six=True).splitlines()
    flat = Rig()
    flat.offsets[1:] = 0
    rows = flat.text(six=True).split("Frame Time: 0.0333333\n")[1]
    plain = RIG.text().splitlines()
    offsets = iter([line for line in plain if "OFFSET" in line])
    head = [next(offsets) if "OFFSET" in line else line for line in text[: text.index("MOTION")]]
    stream = read(tmp_path / "a.bvh", "\n".join([*head, "MOTION", "Frames: 24", "Frame Time: 0.0333333", rows]))
    np.testing.assert_allclose(stream.xyz, WORLD, atol=2e-5)
    assert "zero position channels ignored, OFFSET kept" in stream.assumptions


@pytest.mark.parametrize("word", ["nan", "-nan", "-1.#IND", "1.#QNAN", "-1.#IND00", "nan(ind)", "1.#INF"])
def test_not_a_number_is_missing_and_counted(tmp_path: Path, word: str) -> None:
    lines = RIG.text().splitlines()
    row = lines.index("MOTION") + 3 + 5
    lines[row] = " ".join([*lines[row].split()[:-1], word])
    stream = read(tmp_path / "a.bvh", "\n".join(lines))
    assert "nan: 1 channel values in 1 frames are not numbers" in stream.problems
    other = np.delete(np.arange(24), 5)
    np.testing.assert_allclose(stream.xyz[other], WORLD[other], atol=2e-5)


def test_a_truncated_last_row_is_dropped_and_named(tmp_path: Path) -> None:
    text = RIG.text()
    line = len(text.splitlines())
    stream = read(tmp_path / "a.bvh", text[: text.rstrip().rfind(" ") - 30])
    assert len(stream.t_us) == 23
    assert (
        stream.problems[0].startswith(f"truncated: line {line} has ")
        and "frame_count: 24 frames declared, 23 found" in stream.problems
    )


@pytest.mark.parametrize("declared", [10, 30])
def test_the_rows_count_not_the_header(tmp_path: Path, declared: int) -> None:
    stream = read(tmp_path / "a.bvh", RIG.text(frames=declared))
    assert len(stream.t_us) == 24 and f"frame_count: {declared} frames declared, 24 found" in stream.problems


def test_frame_time_zero_has_no_rate_and_takes_the_users(tmp_path: Path) -> None:
    stream = read(tmp_path / "a.bvh", RIG.text(frame_time="0"))
    assert stream.rate is None and stream.rate_source == "none" and stream.t_us.tolist() == list(range(24))
    assert any(p.startswith("frame_time") for p in stream.problems)
    again = bvh.read(Source.of(tmp_path / "a.bvh"), fps=60)
    assert again.rate == (60, 1) and again.rate_source == "user"


@pytest.mark.parametrize("written, rate", [(".008333", (120, 1)), ("0.0083333", (120, 1)), ("0.016667", (60, 1)), ("0.0333333", (30, 1)),
                                           ("0.0333667", (30000, 1001)), ("0.04", (25, 1)), ("0,04", (25, 1)), ("4.166667e-02", (24, 1))])  # fmt: skip
def test_frame_times_snap_and_the_raw_one_is_kept(tmp_path: Path, written: str, rate: tuple[int, int]) -> None:
    assert read(tmp_path / "a.bvh", RIG.text(frame_time=written)).rate == rate
    assert bvh.facts(Source.of(tmp_path / "a.bvh")).meta["frame_time_s"] == float(written.replace(",", "."))


def broken() -> dict[str, tuple[str, int | None, str]]:
    text = RIG.text()
    lines = text.splitlines()
    motion = lines.index("MOTION")

    def at(index: int, new: str) -> str:
        return "\n".join([*lines[:index], new, *lines[index + 1 :]])

    return {
        "no motion": ("\n".join(lines[:motion]), None, "no MOTION section"),
        "no frames": ("\n".join(lines[: motion + 3]), motion + 3, "no frames"),
        "zero frames": ("\n".join([*lines[: motion + 1], "Frames: 0", lines[motion + 2]]), motion + 3, "no frames"),
        "words for frames": (at(motion + 1, "Frames: many"), motion + 2, "'Frames:' is not a whole number"),
        "no frame time": ("\n".join([*lines[: motion + 2], *lines[motion + 3 :]]), motion + 2, "no 'Frame Time:' after 'Frames:'"),
        "a word in a row": (at(motion + 9, lines[motion + 9].replace(" ", " x", 1)), motion + 10, "is not a number"),
        "a short row": (at(motion + 9, lines[motion + 9].rsplit(" ", 1)[0]), motion + 10, "values where the channels need"),
        "a long row": (at(motion + 9, lines[motion + 9] + " 1"), motion + 10, "values where the channels need"),
        "two numbers glued": (at(motion + 9, lines[motion + 9].replace(" ", "-", 1) + " 0"), motion + 10, "is not a number"),
        "an open brace": (at(motion - 1, ""), None, "braces of the hierarchy stay open"),
        "a bad channel": (at(4, "CHANNELS 6 Xposition Yposition Wposition Zrotation Xrotation Yrotation"), 5, "CHANNELS needs a count"),
        "a bad offset": (at(3, "OFFSET 1 2"), 4, "OFFSET needs three finite numbers"),
    }  # fmt: skip


@pytest.mark.parametrize("name", broken())
def test_what_is_broken_is_one_clear_error_with_a_line(tmp_path: Path, name: str) -> None:
    text, row, words = broken()[name]
    path = tmp_path / "a.bvh"
    path.write_text(text)
    with pytest.raises(FormatError) as e:
        bvh.read(Source.of(path))
    assert words in e.value.message and e.value.file == str(path)
    assert row is None or e.value.row == row


def test_z_up_is_turned_and_said(tmp_path: Path) -> None:
    rig = Rig()
    rig.offsets = rig.offsets[:, [0, 2, 1]] * np.array([1, -1, 1])
    rig.root = rig.root[:, [0, 2, 1]] * np.array([1, -1, 1])
    rig.angles[:] = 0
    stream = read(tmp_path / "a.bvh", rig.text())
    assert stream.up == "+y" and float(np.median(stream.xyz[:, CANONICAL.index("head"), 1])) > 1
    assert "axes turned, up was +z" in stream.assumptions
    assert not any(p.startswith("sides") for p in stream.problems)


def test_swapped_sides_are_noticed(tmp_path: Path) -> None:
    swap = {"Left": "Right", "Right": "Left"}
    text = RIG.text(rename=lambda n: re.sub("Left|Right", lambda m: swap[m[0]], n))
    assert "sides: left is right of the pelvis in most frames" in read(tmp_path / "a.bvh", text).problems


def test_no_body_keeps_the_source_names(tmp_path: Path) -> None:
    text = "HIERARCHY\nROOT A\n{\nOFFSET 0 0 0\nCHANNELS 3 Xposition Yposition Zposition\nJOINT A\n{\nOFFSET 0 1 0\n"
    text += "CHANNELS 1 Zrotation\nEnd Site\n{\nOFFSET 0 1 0\n}\n}\n}\nMOTION\nFrames: 2\nFrame Time: 0.1\n0 0 0 5\n1 1 1 6\n"
    stream = read(tmp_path / "a.bvh", text)
    assert stream.joints == ("A", "A#2") and stream.units == "unknown"
    assert stream.problems == ("unknown_rig: no arms and legs found among 2 joints, source names are kept",)


def test_a_deep_chain_of_joints_is_no_recursion(tmp_path: Path) -> None:
    depth = 3000
    head = "".join(
        f"{'JOINT' if i else 'ROOT'} j{i}\n{{\nOFFSET 0 1 0\n"
        + ("" if i else "CHANNELS 3 Xposition Yposition Zposition\n")
        for i in range(depth)
    )
    stream = read(
        tmp_path / "a.bvh", "HIERARCHY\n" + head + "}" * depth + "\nMOTION\nFrames: 1\nFrame Time: 0.1\n0 0 0\n"
    )
    assert len(stream.joints) == depth


def _posed(turn: str, degrees: float, height: float = 94.0) -> Rig:
    """The body held stiff, turned as a whole about one axis."""
    rig = Rig()
    rig.angles[:] = 0
    rig.angles[:, 0, rig.order.index(turn)] = degrees
    rig.root[:, 1] = height
    return rig


@pytest.mark.parametrize(
    "turn, degrees, words", [("X", 180, "upside_down"), ("X", 90, ""), ("Z", 90, ""), ("X", -90, "")]
)
def test_handstands_and_floor_work_do_not_change_what_is_up(
    tmp_path: Path, turn: str, degrees: float, words: str
) -> None:
    rig = _posed(turn, degrees)
    stream = read(tmp_path / "a.bvh", rig.text())
    want = rig.world()[:, [rig.names.index(MIXAMO[c]) for c in CANONICAL]] / 100
    want[:, :, 1] += float(stream.xyz[0, 0, 1]) - want[0, 0, 1]
    np.testing.assert_allclose(stream.xyz, want, atol=2e-5)
    assert not any(n.startswith("axes turned") for n in stream.assumptions)
    assert any(p.startswith("upside_down") for p in stream.problems) == bool(words)


def test_a_rig_without_toes_gets_them_a_foot_length_ahead(tmp_path: Path) -> None:
    text = re.sub(r"\n\t*JOINT (Left|Right)ToeBase\n\t*\{.*?\n\t*\}\n\t*\}", "", RIG.text(), flags=re.DOTALL)
    head, rows = text.split("Frame Time: 0.0333333\n")
    width = 3 * (len(BODY) - 2) + 3
    keep = [i for i in range(3 * len(BODY) + 3) if i < 3 or BODY[_order()[(i - 3) // 3]][0][-7:] != "ToeBase"]
    assert len(keep) == width
    rows = "\n".join(" ".join(r.split()[i] for i in keep) for r in rows.splitlines()) + "\n"
    stream = read(tmp_path / "a.bvh", head + "Frame Time: 0.0333333\n" + rows)
    missing = [p for p in stream.problems if p.startswith("missing_joint")]
    assert missing == [f"missing_joint: {s}_toe, placed a foot length ahead of the ankle" for s in "lr"]
    at = CANONICAL.index
    foot = stream.xyz[:, at("l_toe")] - stream.xyz[:, at("l_ankle")]
    np.testing.assert_allclose(np.linalg.norm(foot, axis=1), 0.08 * 0.83 / 0.481, atol=1e-3)
    ahead = np.cross(stream.xyz[:, at("l_hip")] - stream.xyz[:, at("r_hip")], [0, 1, 0])
    assert float(np.min(np.einsum("ti,ti->t", foot, ahead))) > 0


def _order() -> list[int]:
    """Joints in the order in which the file writes them: depth first."""
    out: list[int] = []

    def walk(j: int) -> None:
        out.append(j)
        for k, parent in enumerate(RIG.parents):
            if parent == j:
                walk(k)

    walk(0)
    return out


def test_a_large_block_is_parsed_as_a_small_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both number parsers give the same values, whatever separates the numbers."""
    from formats.foreign import number_block

    for text in (
        RIG.text(),
        RIG.text().replace("\n", " \n"),
        RIG.text(number="{:.10e}"),
        RIG.text().replace("\n", "\r\n"),
        RIG.text().replace(" ", "  "),
    ):
        (tmp_path / "a.bvh").write_bytes(text.encode())
        slow = bvh.parse(Source.of(tmp_path / "a.bvh")).values
        monkeypatch.setattr(number_block, "_LARGE", 0)
        fast = bvh.parse(Source.of(tmp_path / "a.bvh")).values
        monkeypatch.undo()
        np.testing.assert_array_equal(slow, fast)
    monkeypatch.setattr(number_block, "_LARGE", 0)
    for name, (text, row, words) in broken().items():
        (tmp_path / "a.bvh").write_text(text)
        with pytest.raises(FormatError, match=re.escape(words)) as e:
            bvh.read(Source.of(tmp_path / "a.bvh"))
        assert row is None or e.value.row == row, name
