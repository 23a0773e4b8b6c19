"""ASF and AMC: forward kinematics by the definition, every dialect the same motion, every fault one sentence."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from mutator import mutants

from formats.errors import FormatError
from formats.foreign import asf_amc
from formats.foreign.acclaim import parse_asf
from formats.foreign.joints import CANONICAL
from formats.foreign.model import PoseStream
from formats.foreign.source import Source

# name, parent, direction, length in inches, axis, degrees of freedom
BONES: list[tuple[str, str, tuple[float, float, float], float, tuple[float, float, float], str]] = [
    ("lhipjoint", "root", (0.6, -0.7, 0.1), 4.4, (0, 0, 0), ""), ("lfemur", "lhipjoint", (0.34, -0.94, 0), 16.0, (0, 0, 20), "rx ry rz"),
    ("ltibia", "lfemur", (0.34, -0.94, 0), 16.8, (0, 0, 20), "rx"), ("lfoot", "ltibia", (0.1, -0.3, 0.9), 4.4, (-90, 0, 20), "rx rz"),
    ("ltoes", "lfoot", (0, 0, 1), 2.2, (-90, 0, 20), "rx"),
    ("rhipjoint", "root", (-0.6, -0.7, 0.1), 4.4, (0, 0, 0), ""), ("rfemur", "rhipjoint", (-0.34, -0.94, 0), 16.0, (0, 0, -20), "rx ry rz"),
    ("rtibia", "rfemur", (-0.34, -0.94, 0), 16.8, (0, 0, -20), "rx"), ("rfoot", "rtibia", (-0.1, -0.3, 0.9), 4.4, (-90, 0, -20), "rx rz"),
    ("rtoes", "rfoot", (0, 0, 1), 2.2, (-90, 0, -20), "rx"),
    ("lowerback", "root", (0, 1, -0.1), 4.5, (0, 0, 0), "rx ry rz"), ("upperback", "lowerback", (0, 1, 0), 4.5, (0, 0, 0), "rx ry rz"),
    ("thorax", "upperback", (0, 1, 0), 4.5, (0, 0, 0), "rx ry rz"), ("lowerneck", "thorax", (0, 1, 0.1), 3.3, (0, 0, 0), "rx ry rz"),
    ("head", "lowerneck", (0, 1, 0), 4.0, (0, 0, 0), "rx ry rz"),
    ("lclavicle", "thorax", (0.9, 0.4, 0), 7.0, (0, 0, 0), "ry rz"), ("lhumerus", "lclavicle", (1, 0, 0), 11.0, (180, 30, 90), "rx ry rz"),
    ("lradius", "lhumerus", (1, 0, 0), 7.0, (180, 30, 90), "rx"), ("lwrist", "lradius", (1, 0, 0), 3.5, (180, -60, 90), "ry"),
    ("rclavicle", "thorax", (-0.9, 0.4, 0), 7.0, (0, 0, 0), "ry rz"), ("rhumerus", "rclavicle", (-1, 0, 0), 11.0, (180, -30, -90), "rx ry rz"),
    ("rradius", "rhumerus", (-1, 0, 0), 7.0, (180, -30, -90), "rx"), ("rwrist", "rradius", (-1, 0, 0), 3.5, (180, 60, -90), "ry"),
]  # fmt: skip
# Where each canonical joint is, as the start of a bone; what lies between is not compared.
STARTS = {
    "pelvis": "root", "l_hip": "lfemur", "r_hip": "rfemur", "l_knee": "ltibia", "r_knee": "rtibia", "l_ankle": "lfoot", "r_ankle": "rfoot",
    "l_toe": "ltoes", "r_toe": "rtoes", "l_shoulder": "lhumerus", "r_shoulder": "rhumerus", "l_elbow": "lradius", "r_elbow": "rradius",
    "l_wrist": "lwrist", "r_wrist": "rwrist", "head": "head", "neck": "lowerneck", "chest": "thorax",
}  # fmt: skip
UNIT = 0.45
ROOT = ("TX", "TY", "TZ", "RX", "RY", "RZ")


class Walk:
    """A motion of these bones, written in any dialect and computed by the definition."""

    def __init__(self, n: int = 30, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.n = n
        self.angles = {
            b[0]: np.round(np.cumsum(rng.normal(scale=1.5, size=(n, len(b[5].split()))), axis=0), 4)
            for b in BONES
            if b[5]
        }
        self.turn = np.round(np.cumsum(rng.normal(scale=2, size=(n, 3)), axis=0), 4)
        self.place = np.round(np.array([0, 17.5, 0]) + np.cumsum(rng.normal(scale=0.1, size=(n, 3)), axis=0), 4)

    def world(self) -> dict[str, np.ndarray]:
        """Start of every bone in metres by the definition, one frame at a time with scipy's rotations."""
        from scipy.spatial.transform import Rotation

        starts: dict[str, list[np.ndarray]] = {"root": [], **{b[0]: [] for b in BONES}}
        for t in range(self.n):
            turns = {"root": Rotation.from_euler("xyz", self.turn[t], degrees=True)}
            ends = {"root": self.place[t]}
            starts["root"].append(self.place[t])
            for name, parent, direction, length, axis, dofs in BONES:
                c = Rotation.from_euler("xyz", axis, degrees=True)
                angles = dict(zip(dofs.split(), self.angles[name][t], strict=True)) if dofs else {}
                local = Rotation.from_euler("xyz", [angles.get(k, 0.0) for k in ("rx", "ry", "rz")], degrees=True)
                turns[name] = turns[parent] * c * local * c.inv()
                unit = np.array(direction) / np.linalg.norm(direction)
                starts[name].append(ends[parent])
                ends[name] = ends[parent] + turns[name].apply(unit * length * UNIT)
        return {k: np.array(v) / UNIT * 0.0254 for k, v in starts.items()}

    def asf(
        self, *, degrees: bool = True, order: tuple[str, ...] = ROOT, unit: float | None = UNIT, limits: bool = False
    ) -> str:
        turn = 1.0 if degrees else np.pi / 180
        out = ["# a skeleton", ":version 1.10", ":name test", ":units", "  mass 1.0"]
        out += [f"  length {unit}"] if unit else []
        out += [f"  angle {'deg' if degrees else 'rad'}", ":documentation", "   text of : any kind", ":root", f"   order {' '.join(order)}",
                "   axis XYZ", "   position 0 0 0", "   orientation 0 0 0", ":bonedata"]  # fmt: skip
        for i, (name, _, direction, length, axis, dofs) in enumerate(BONES, 1):
            out += ["  begin", f"     id {i}", f"     name {name}", f"     direction {direction[0]} {direction[1]} {direction[2]}",
                    f"     length {length * UNIT:.8f}", f"     axis {axis[0] * turn!r} {axis[1] * turn!r} {axis[2] * turn!r}   XYZ"]  # fmt: skip
            if dofs:
                out.append(f"    dof {dofs}")
                pairs = [f"({-1.0 * turn} {1.0 * turn})"] * len(dofs.split())
                out += [f"    limits {pairs[0]}", *(f"           {p}" for p in pairs[1:])] if limits else []
            out.append("  end")
        out += [":hierarchy", "  begin", "    root lhipjoint rhipjoint lowerback"]
        out += [f"    {b[1]} {b[0]}" for b in BONES if b[1] != "root"]
        return "\n".join([*out, "  end"]) + "\n"

    def amc(
        self, *, degrees: bool = True, order: tuple[str, ...] = ROOT, comments: bool = False, shuffle: bool = False
    ) -> str:
        turn = 1.0 if degrees else np.pi / 180
        out = ["#!OML:ASF here.asf", ":FULLY-SPECIFIED", ":DEGREES" if degrees else ":RADIANS"]
        for t in range(self.n):
            out.append(str(t + 1))
            values = dict(zip(ROOT, [*self.place[t], *(self.turn[t] * turn)], strict=True))
            rows = ["root " + " ".join(repr(float(values[k])) for k in order)]
            rows += [f"{n} " + " ".join(repr(float(v)) for v in a[t] * turn) for n, a in self.angles.items()]
            if shuffle:
                random.Random(t).shuffle(rows)
            out += [r for row in rows for r in ([row, "# between"] if comments else [row])]
        return "\n".join(out) + "\n"


WALK = Walk()
WORLD = WALK.world()


def read(folder: Path, asf: str, amc: str, names: tuple[str, str] = ("07.asf", "07_01.amc")) -> PoseStream:
    (folder / names[0]).write_text(asf)
    (folder / names[1]).write_text(amc)
    return asf_amc.read(Source.of(folder / names[1]))


def same(stream: PoseStream) -> None:
    assert stream.joints == CANONICAL and (stream.units, stream.up) == ("m", "+y")
    want = np.stack([WORLD[b] for b in STARTS.values()], axis=1)
    got = stream.xyz[:, [CANONICAL.index(j) for j in STARTS]].astype(float)
    want[:, :, 1] += got[0, 0, 1] - want[0, 0, 1]
    np.testing.assert_allclose(got, want, atol=2e-6)


DIALECTS = {
    "plain": (WALK.asf(), WALK.amc()), "comments": (WALK.asf(), WALK.amc(comments=True)), "shuffled": (WALK.asf(), WALK.amc(shuffle=True)),
    "radians": (WALK.asf(degrees=False), WALK.amc(degrees=False)),
    "radians motion, degrees skeleton": (WALK.asf(), WALK.amc(degrees=False)),
    "translation last": (WALK.asf(order=("RX", "RY", "RZ", "TX", "TY", "TZ")), WALK.amc(order=("RX", "RY", "RZ", "TX", "TY", "TZ"))),
    "windows lines": (WALK.asf().replace("\n", "\r\n"), WALK.amc().replace("\n", "\r\n")),
    "byte order mark": ("\ufeff" + WALK.asf(), "\ufeff" + WALK.amc()), "tabs": (WALK.asf().replace("    ", "\t"), WALK.amc().replace(" ", "\t")),
}  # fmt: skip


@pytest.mark.parametrize("name", DIALECTS)
def test_every_dialect_is_the_same_walk(tmp_path: Path, name: str) -> None:
    stream = read(tmp_path, *DIALECTS[name])
    same(stream)
    assert stream.rate == (120, 1) and stream.rate_source == "format" and asf_amc.ASSUMED in stream.assumptions
    assert {"rig cmu", "skeleton 07.asf"} <= set(stream.assumptions)


def test_the_root_turns_in_the_order_it_states(tmp_path: Path) -> None:
    order = ("TX", "TY", "TZ", "RZ", "RY", "RX")
    other = read(tmp_path, WALK.asf(order=order), WALK.amc(order=order))
    with pytest.raises(AssertionError):
        same(other)


def test_units_are_the_files_where_they_make_a_human(tmp_path: Path) -> None:
    stream = read(tmp_path, WALK.asf(), WALK.amc())
    assert any(n.startswith("units inches / 0.45 as the file says") for n in stream.assumptions)
    unsaid = read(tmp_path, WALK.asf(unit=None), WALK.amc())
    assert any(n.startswith("units inferred") for n in unsaid.assumptions)
    given = asf_amc.read(Source.of(tmp_path / "07_01.amc"), fps=60, scale=0.0254 / UNIT)
    np.testing.assert_allclose(given.xyz, stream.xyz, atol=1e-6)
    assert given.rate == (60, 1) and given.rate_source == "user"
    tall = asf_amc.read(Source.of(tmp_path / "07_01.amc"), height=2.0)
    leg = sum(float(np.linalg.norm(tall.xyz[0, a] - tall.xyz[0, b])) for a, b in ((1, 4), (4, 7)))
    assert leg / 0.481 == pytest.approx(2.0, abs=1e-4)


def test_limits_are_counted_and_nothing_is_clamped(tmp_path: Path) -> None:
    stream = read(tmp_path, WALK.asf(limits=True), WALK.amc())
    same(stream)
    beyond = np.mean([np.abs(v) > 1 for a in WALK.angles.values() for v in a.reshape(-1)])
    assert any(n.startswith(f"limits: {100 * beyond:.1f} %") for n in stream.assumptions)


@pytest.mark.parametrize("asf, amc, found", [
    ("07.asf", "07_01.amc", True), ("walk.asf", "walk.amc", True), ("WALK.ASF", "walk_a_b.amc", True), ("only.asf", "x.amc", True),
])  # fmt: skip
def test_the_skeleton_is_found_by_name(tmp_path: Path, asf: str, amc: str, found: bool) -> None:
    same(read(tmp_path, WALK.asf(), WALK.amc(), (asf, amc)))


def test_without_a_skeleton_it_is_said(tmp_path: Path) -> None:
    (tmp_path / "07_01.amc").write_text(WALK.amc())
    with pytest.raises(FormatError, match=r"no skeleton \(.asf\) beside it") as e:
        asf_amc.read(Source.of(tmp_path / "07_01.amc"))
    assert e.value.hint == "put 07.asf beside it"
    for name in ("08.asf", "09.asf"):
        (tmp_path / name).write_text(WALK.asf())
    with pytest.raises(FormatError, match="2 skeletons beside it and none named 07"):
        asf_amc.read(Source.of(tmp_path / "07_01.amc"))


def test_a_cut_file_keeps_its_whole_frames(tmp_path: Path) -> None:
    text = WALK.amc()
    stream = read(tmp_path, WALK.asf(), text[: int(len(text) * 0.7)])
    assert 15 < len(stream.xyz) < 25 and any(p.startswith("truncated") for p in stream.problems)
    np.testing.assert_allclose(stream.xyz[5, 4] - stream.xyz[5, 1], WORLD["ltibia"][5] - WORLD["lfemur"][5], atol=1e-6)


BROKEN = {
    "no number": (WALK.asf(), WALK.amc().replace("lfemur ", "lfemur x", 1), "is not a number"),
    "too few": (WALK.asf(), WALK.amc().replace("ltibia ", "ltibia 1 2 ", 1), "ltibia has 3 values, its skeleton 1"),
    "twice": (WALK.asf(), WALK.amc().replace("\nltibia ", "\nltibia 1\nltibia ", 1), "twice in a frame"),
    "no frame": (WALK.asf(), "#x\n:FULLY-SPECIFIED\n:DEGREES\n", "no whole frame"),
    "another skeleton": (WALK.asf().replace("lfemur", "lthigh"), WALK.amc().replace("root ", "hips "), "no whole frame"),
    "no hierarchy": (WALK.asf().partition(":hierarchy")[0], WALK.amc(), "no bone hangs on the root"),
    "unknown child": (WALK.asf().replace("    lfemur ltibia", "    lfemur tail"), WALK.amc(), "names 'tail', which is no bone"),
    "two parents": (WALK.asf().replace("    lfemur ltibia", "    lfemur ltibia\n    rfemur ltibia"), WALK.amc(), "two parents"),
    "a circle": (WALK.asf().replace("    lfemur ltibia", "    lfemur ltibia lhipjoint"), WALK.amc(), "two parents"),
    "bad length": (WALK.asf().replace("length 7.2", "length x7.2", 1), WALK.amc(), "is not a number"),
    "no direction": (WALK.asf().replace("direction", "directions"), WALK.amc(), "needs a name, a direction and a length"),
    "bad order": (WALK.asf().replace("order TX", "order QX"), WALK.amc(), "root order"),
    "bad axis": (WALK.asf().replace("XYZ\n    dof", "XXZ\n    dof", 1), WALK.amc(), "axis order"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_one_sentence(tmp_path: Path, name: str) -> None:
    asf, amc, words = BROKEN[name]
    with pytest.raises(FormatError, match=words) as e:
        read(tmp_path, asf, amc)
    assert "\n" not in str(e.value) and "07" in str(e.value.file)


def test_facts(tmp_path: Path) -> None:
    read(tmp_path, WALK.asf(), WALK.amc())
    facts = asf_amc.facts(Source.of(tmp_path / "07_01.amc"))
    assert (facts.kind, facts.format, facts.n, facts.rate, facts.duration_us) == (
        "motion",
        "amc",
        30,
        (120, 1),
        250_000,
    )
    assert facts.meta["rig"] == "cmu" and facts.meta["skeleton"] == "07.asf" and facts.meta["map"]["l_knee"] == "ltibia"
    assert asf_amc.asf_facts(Source.of(tmp_path / "07.asf")).kind == "other"
    assert len(parse_asf(WALK.asf(), tmp_path).bones) == len(BONES) + 1


def test_the_sample(shared: Path) -> None:
    stream = asf_amc.read(Source.of(shared / "data/mocap/asfamc/11_01.amc"))
    assert stream.xyz.shape == (597, 22, 3) and stream.problems == () and np.isfinite(stream.xyz).all()
    leg = sum(np.linalg.norm(stream.xyz[:, a] - stream.xyz[:, b], axis=1) for a, b in ((1, 4), (4, 7)))
    assert float(np.mean(leg)) / 0.481 == pytest.approx(1.777, abs=0.001) and float(np.std(leg)) < 1e-5


def test_mutants_are_read_or_refused(tmp_path: Path) -> None:
    asf, amc = Walk(4).asf().encode(), Walk(4).amc().encode()
    outcomes = set()
    for which in (0, 1):
        for _, data in mutants((asf, amc)[which], 150, which, text=True):
            (tmp_path / "07.asf").write_bytes(asf if which else data)
            (tmp_path / "07_01.amc").write_bytes(data if which else amc)
            try:
                stream = asf_amc.read(Source.of(tmp_path / "07_01.amc"))
                assert stream.xyz.shape[0] == len(stream.t_us)
                outcomes.add("read")
            except FormatError as e:
                assert "\n" not in str(e)
                outcomes.add("refused")
    assert outcomes == {"read", "refused"}
