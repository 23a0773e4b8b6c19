"""AMASS, HumanML3D, arrays of joints, and maps of arrays: numbers by the definition, layouts never guessed."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mutator import mutants

from formats.errors import ConfigFileError, FormatError
from formats.foreign import amass, humanml3d, joint_arrays, registry
from formats.foreign.joints import CANONICAL
from formats.foreign.mapping import load_map, read_with_map
from formats.foreign.mapping_arrays import NAMES, read_array_with_map, read_channels_with_map
from formats.foreign.model import PoseStream
from formats.foreign.smpl_body import canonical_offsets, forward
from formats.foreign.source import Source


def rotations(n: int = 60, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A body that turns and sways: (n, 22, 3) rotation vectors, y up, and the path of the pelvis."""
    rng = np.random.default_rng(seed)
    t = np.linspace(0, 2 * np.pi, n)
    poses = 0.15 * np.sin(t[:, None, None] * rng.integers(1, 3, (22, 3)) + rng.uniform(0, 6, (22, 3)))
    poses[:, 0] = np.stack([0.05 * np.sin(t), 0.8 * np.sin(t / 2), 0.05 * np.cos(t)], axis=1)
    trans = np.stack([0.4 * np.sin(t), 0.9 + 0.02 * np.sin(2 * t), 0.3 * t], axis=1)
    return poses, trans


POSES, TRANS = rotations()
JOINTS = forward(POSES, TRANS, canonical_offsets(1.7))


def matches(stream: PoseStream, want: np.ndarray, atol: float = 2e-6) -> None:
    """The same joints but for the floor."""
    assert stream.joints == CANONICAL and (stream.units, stream.up) == ("m", "+y")
    assert any(n.startswith("floor") for n in (*stream.assumptions, *stream.problems))
    lift = float(np.nanmean(stream.xyz[:, :, 1]) - np.nanmean(want[:, :, 1]))
    np.testing.assert_allclose(stream.xyz, want + np.array((0.0, lift, 0.0)), atol=atol)


def wide(columns: int) -> np.ndarray:
    return np.concatenate([POSES.reshape(60, -1), np.full((60, columns - 66), 0.3)], axis=1)


def z_up() -> tuple[np.ndarray, np.ndarray]:
    """The same motion in a world with z up: the root and its path turned by 90 degrees about x."""
    from scipy.spatial.transform import Rotation

    turn = Rotation.from_euler("x", 90, degrees=True)
    poses = POSES.copy()
    poses[:, 0] = (turn * Rotation.from_rotvec(POSES[:, 0])).as_rotvec()
    return poses, turn.apply(TRANS)


def layouts() -> dict[str, dict[str, Any]]:
    turned, path = z_up()
    rest = {"betas": np.zeros(16), "gender": np.array("neutral"), "dmpls": np.zeros((60, 8))}
    return {
        "156": {"trans": TRANS, "poses": wide(156), "mocap_framerate": np.array(120.0), **rest},
        "165": {"gender": np.array("male"), "poses": wide(165), "trans": TRANS, "mocap_frame_rate": np.array(100)},
        "parts": {"root_orient": POSES[:, 0], "pose_body": POSES[:, 1:].reshape(60, 63), "pose_hand": np.zeros((60, 90)), "trans": TRANS,
                  "mocap_frame_rate": np.array(59.99)},
        "z up": {"trans": path, "poses": np.concatenate([turned.reshape(60, -1), np.zeros((60, 90))], axis=1), "mocap_framerate": np.array(60.0)},
        "smpl": {"smpl_poses": wide(72), "smpl_trans": TRANS},
        "float32": {"trans": TRANS.astype(np.float32), "poses": wide(156).astype(np.float32), "mocap_framerate": np.float32(30)},
    }  # fmt: skip


RATES = {"156": (120, 1), "165": (100, 1), "parts": (60, 1), "z up": (60, 1), "smpl": None, "float32": (30, 1)}


def archive(path: Path, arrays: dict[str, Any]) -> Source:
    np.savez(path, **arrays)
    return Source.of(path)


@pytest.mark.parametrize("name", layouts())
def test_amass_layouts_are_the_same_motion(tmp_path: Path, name: str) -> None:
    source = archive(tmp_path / "a.npz", layouts()[name])
    assert amass.sniff(source.head, source.name, source.size)
    stream = amass.read(source)
    matches(stream, JOINTS, 1e-5)
    assert stream.rate == RATES[name] and stream.rate_source == ("header" if RATES[name] else "none")
    assert ("axes turned, up was +z" in stream.assumptions) == (name == "z up")
    facts = amass.facts(source)
    assert (facts.kind, facts.format, facts.n, facts.reason) == ("motion", "smpl-npz", 60, None)
    assert amass.read(source, fps=50).rate == (50, 1)


AMASS_WRONG = {
    "no trans": ({"poses": wide(156)}, "no 'trans'"), "short": ({"poses": wide(156), "trans": TRANS[:5]}, "does not fit 60 poses"),
    "narrow": ({"poses": np.zeros((60, 63)), "trans": TRANS}, "63 columns"), "text": ({"poses": np.array(["a"] * 60), "trans": TRANS}, "no pose"),
    "no root": ({"pose_body": np.zeros((60, 63)), "trans": TRANS}, "neither"),
    "rate": ({"poses": wide(156), "trans": TRANS, "mocap_framerate": np.array(0.0)}, "is no frame rate"),
    "object": ({"poses": np.array([[None] * 156] * 3, dtype=object), "trans": TRANS}, "Python objects"),
}  # fmt: skip


@pytest.mark.parametrize("name", AMASS_WRONG)
def test_amass_that_does_not_fit_is_one_sentence(tmp_path: Path, name: str) -> None:
    arrays, words = AMASS_WRONG[name]
    with pytest.raises(FormatError, match=words) as e:
        amass.read(archive(tmp_path / "a.npz", arrays))
    assert "\n" not in str(e.value)


def test_amass_frames_with_nan_are_missing_whole(tmp_path: Path) -> None:
    poses = wide(156)
    poses[7, 3] = np.nan
    stream = amass.read(
        archive(tmp_path / "a.npz", {"poses": poses, "trans": TRANS, "mocap_framerate": np.array(60.0)})
    )
    assert np.isnan(stream.xyz[7]).all() and np.isfinite(np.delete(stream.xyz, 7, axis=0)).all()
    assert "nan: 1 frames hold numbers that are not finite" in stream.problems


def test_shapes_alone_are_no_motion(tmp_path: Path) -> None:
    assert amass.facts(archive(tmp_path / "a.npz", {"betas": np.zeros(3), "other": np.zeros(2)})).kind == "other"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as z:
        z.writestr("poses.npy", b"\x00" * 500)
    (tmp_path / "b.npz").write_bytes(buffer.getvalue()[:-30])
    with pytest.raises(FormatError):
        amass.facts(Source.of(tmp_path / "b.npz"))


def features(joints: np.ndarray) -> np.ndarray:
    """263 features whose recovery must be `joints` but for where they start: the inverse of the formula."""
    heading = np.concatenate([[0.0], 0.7 * np.sin(np.linspace(0, 3, len(joints) - 1))])
    back = np.array([[[np.cos(a), 0, -np.sin(a)], [0, 1, 0], [np.sin(a), 0, np.cos(a)]] for a in heading])
    out = np.zeros((len(joints), 263))
    out[:-1, 0] = -np.diff(heading) / 2
    step = np.einsum("tij,tj->ti", back[1:], np.diff(joints[:, 0], axis=0))
    out[:-1, 1], out[:-1, 2], out[:, 3] = step[:, 0], step[:, 2], joints[:, 0, 1]
    local = joints[:, 1:] - joints[:, :1] * [1, 0, 1]
    out[:, 4:67] = np.einsum("tij,tkj->tki", back, local).reshape(len(joints), -1)
    out[:, 259:] = np.random.default_rng(1).integers(0, 2, (len(joints), 4))
    return out


def test_humanml3d_recovers_joints(tmp_path: Path) -> None:
    want = JOINTS - JOINTS[0, 0] * [1, 0, 1]
    np.save(tmp_path / "a.npy", features(JOINTS).astype(np.float32))
    source = Source.of(tmp_path / "a.npy")
    stream = humanml3d.read(source)
    matches(stream, want, 1e-5)
    assert stream.rate == (20, 1) and stream.rate_source == "format" and humanml3d.ASSUMED in stream.assumptions
    assert not any(p.startswith(("soft", "bone")) for p in stream.problems)
    facts = humanml3d.facts(source)
    assert (facts.kind, facts.format, facts.n, facts.rate) == ("motion", "humanml3d", 60, (20, 1))


def test_humanml3d_vector(shared: Path) -> None:
    path = shared / "vectors" / "generation" / "humanml263_20fps.npz"
    if not path.is_file():
        pytest.skip(f"no vector at {path}")
    with np.load(path, allow_pickle=False) as z:
        got, want = humanml3d.recover_joints(z["features263"].astype(float)), z["recovered_joints"]
    assert float(np.abs(got - want).max()) <= 1e-5


def test_normalised_features_need_their_statistics(tmp_path: Path) -> None:
    found = features(JOINTS)
    mean, std = found.mean(axis=0), np.maximum(found.std(axis=0), 1e-3)
    np.save(tmp_path / "a.npy", (found - mean) / std)
    source = Source.of(tmp_path / "a.npy")
    with pytest.raises(FormatError, match="looks normalised"):
        humanml3d.read(source)
    np.save(tmp_path / "Mean.npy", mean)
    np.save(tmp_path / "Std.npy", std)
    stream = humanml3d.read(source)
    matches(stream, JOINTS - JOINTS[0, 0] * [1, 0, 1], 1e-5)
    assert any("undone" in n for n in stream.assumptions)


def test_statistics_of_the_dataset_are_told_from_motions(shared: Path) -> None:
    mean, std = (np.load(shared / f"data/mocap/humanml3d/{n}.npy").astype(float) for n in ("Mean", "Std"))
    standing = features(np.repeat(JOINTS[:1], 50, axis=0))
    for contacts in (0.0, 1.0):
        standing[:, 259:] = contacts
        assert not humanml3d.looks_normalised(standing) and humanml3d.looks_normalised((standing - mean) / std)
    facts = humanml3d.facts(Source.of(shared / "data/mocap/humanml3d/Mean.npy"))
    assert (facts.kind, facts.reason, facts.n, facts.meta["note"]) == (
        "other",
        None,
        263,
        "statistics, not a recording",
    )


def test_a_models_output_is_said_to_be_one(tmp_path: Path) -> None:
    found = features(JOINTS)
    found[:, 259:] = np.clip(found[:, 259:] + np.random.default_rng(0).uniform(-0.05, 0.05, (60, 4)), -0.1, 1.1)
    found[:, 4:67] *= np.random.default_rng(2).normal(1, 0.04, (60, 1))
    np.save(tmp_path / "a.npy", found)
    stream = humanml3d.read(Source.of(tmp_path / "a.npy"))
    assert any(p.startswith("soft_contacts") for p in stream.problems) and any(
        p.startswith("bone_std") for p in stream.problems
    )


@pytest.mark.parametrize("array, words", [
    (np.full((9, 263), np.nan), "not finite"), (np.zeros((0, 263)), "no frames"), (np.zeros((4, 9, 263)), "shape"), (np.zeros((9, 263)), "legs of 0"),
])  # fmt: skip
def test_features_that_cannot_be(tmp_path: Path, array: np.ndarray, words: str) -> None:
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(FormatError, match=words):
        humanml3d.read(Source.of(tmp_path / "a.npy"))


def arrays() -> dict[str, np.ndarray]:
    with_hands = np.concatenate([JOINTS, JOINTS[:, 20:22] + 0.08], axis=1)
    return {
        "22": JOINTS, "24": with_hands, "cm": JOINTS * 100, "mm": with_hands * 1000, "float32": JOINTS.astype(np.float32),
        "inches": JOINTS / 0.0254, "fortran": np.asfortranarray(JOINTS), "z up": np.stack([JOINTS[..., 0], -JOINTS[..., 2], JOINTS[..., 1]], axis=-1),
    }  # fmt: skip


@pytest.mark.parametrize("name", arrays())
def test_joint_arrays(tmp_path: Path, name: str) -> None:
    np.save(tmp_path / "a.npy", arrays()[name])
    np.savez(tmp_path / "a.npz", joints=arrays()[name], fps=25.0)
    bare, stated = Source.of(tmp_path / "a.npy"), Source.of(tmp_path / "a.npz")
    stream = joint_arrays.read(bare)
    matches(stream, JOINTS, 2e-5)
    assert stream.rate is None and joint_arrays.NO_RATE in stream.assumptions
    assert joint_arrays.read(bare, fps=50).rate == (50, 1)
    stream = joint_arrays.read(stated)
    assert stream.rate == (25, 1) and stream.rate_source == "header"
    assert (joint_arrays.facts(bare).format, joint_arrays.facts(stated).format) == ("joints-npy", "joints-npz")


def test_a_size_nobody_has_is_inferred(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", JOINTS * 18)
    stream = joint_arrays.read(Source.of(tmp_path / "a.npy"))
    assert any(n.startswith("units inferred") for n in stream.assumptions)
    matches(stream, JOINTS, 1e-5)
    given = joint_arrays.read(Source.of(tmp_path / "a.npy"), scale=1 / 18)
    matches(given, JOINTS, 1e-5)


@pytest.mark.parametrize("shape", [(50, 25), (50, 25, 3), (50, 17, 3), (50, 52, 3)])
def test_an_unmapped_layout_is_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    np.save(tmp_path / "a.npy", np.zeros(shape))
    source = Source.of(tmp_path / "a.npy")
    reader = registry.recognise(source.head, source.name, source.size)
    assert reader.format == "joints-npy" and "--map FILE" in str(reader.facts(source).reason)
    assert reader.read is not None
    with pytest.raises(FormatError, match="--map FILE"):
        reader.read(source)


def test_arrays_of_anything_are_no_motion(tmp_path: Path) -> None:
    for i, array in enumerate((np.zeros((40, 40)), np.float64(1), np.zeros((5, 22, 2)), np.zeros((9, 22, 3), complex))):
        np.save(tmp_path / f"{i}.npy", array)
        source = Source.of(tmp_path / f"{i}.npy")
        assert registry.recognise(source.head, source.name, source.size).format == "plain"


def array_map(**change: Any) -> dict[str, Any]:
    names = [f"J{i}" for i in range(25)]
    order = dict(zip(names, [*CANONICAL[::-1]], strict=False))
    return {
        "format": "array",
        "time": {"fps": 30},
        "joints": {"names": names, "map": order, "units": "cm", "up": "+z", **change},
    }


def foreign() -> np.ndarray:
    """25 joints in an order of their own, z up, centimetres, three of them nobody's."""
    turned = np.stack([JOINTS[..., 0], -JOINTS[..., 2], JOINTS[..., 1]], axis=-1)[:, ::-1] * 100
    return np.concatenate([turned, np.zeros((60, 3, 3))], axis=1)


@pytest.mark.parametrize("shape", [(60, 25, 3), (60, 75)])
def test_a_map_names_the_joints_of_an_array(tmp_path: Path, shape: tuple[int, ...]) -> None:
    np.save(tmp_path / "a.npy", foreign().reshape(shape))
    (tmp_path / "map.json").write_text(json.dumps(array_map(), indent="\t"))
    stream = read_with_map(Source.of(tmp_path / "a.npy"), load_map(tmp_path / "map.json"))
    matches(stream, JOINTS, 1e-5)
    assert stream.rate == (30, 1) and "units cm by the format" in stream.assumptions


def test_joints_that_lie_between_are_placed_and_said(tmp_path: Path) -> None:
    keep = [
        i
        for i, n in enumerate(CANONICAL)
        if n not in ("spine1", "spine2", "l_collar", "r_collar", "l_toe", "r_toe", "neck", "pelvis")
    ]
    np.save(tmp_path / "a.npy", JOINTS[:, keep])
    mapping = {"format": "array", "joints": {"names": [CANONICAL[i] for i in keep]}}
    stream = read_array_with_map(Source.of(tmp_path / "a.npy"), mapping, fps=60)
    assert len([p for p in stream.problems if p.startswith("missing_joint")]) == 8
    kept = stream.xyz[:, keep].astype(float)
    np.testing.assert_allclose(kept - kept[:1, :1], JOINTS[:, keep] - JOINTS[:1, keep[0]][:, None], atol=1e-5)
    foot = np.linalg.norm(stream.xyz[:, CANONICAL.index("l_toe")] - stream.xyz[:, CANONICAL.index("l_ankle")], axis=1)
    np.testing.assert_allclose(foot, 0.08 * 1.7, atol=1e-3)
    with pytest.raises(FormatError, match="no l_hip, r_hip"):
        read_array_with_map(
            Source.of(tmp_path / "a.npy"), {"format": "array", "joints": {"names": [f"p{i}" for i in range(len(keep))]}}
        )


WRONG_MAPS: list[tuple[Any, str]] = [
    (array_map(map={"J0": "l_hop"}), "did you mean 'l_hip'"), (array_map(map={"K0": "l_hip"}), "none of joints.names"),
    (array_map(names=["a", "a"], map={}), "two joints have one name"), (array_map(units="feet"), "none of m, cm"), (array_map(up="up"), r"\+x"),
    (array_map(name=[]), "unknown key 'joints.name'.*did you mean 'names'"), ({"format": "array"}, "'joints' is missing"),
    ({**array_map(), "time": {"fps": -1}}, "fps must lie"), ({"format": "channels", "channels": {"vx": 0}}, "all 25 are needed"),
    ({"format": "channels", "channels": dict.fromkeys(NAMES, 3)}, "column 3 is vx already"),
    ({"format": "channels", "channels": {"vq": 1}}, "known keys are vx, vz"), ({"format": "markers", "joints": {}}, "needs {theirs: ours}"),
]  # fmt: skip


@pytest.mark.parametrize("mapping, words", WRONG_MAPS)
def test_a_wrong_map_names_the_key(tmp_path: Path, mapping: Any, words: str) -> None:
    (tmp_path / "map.json").write_text(json.dumps(mapping))
    with pytest.raises(ConfigFileError, match=words) as e:
        load_map(tmp_path / "map.json")
    assert str(tmp_path) in str(e.value.file) and "\n" not in str(e.value)


def test_a_map_names_every_channel(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    want = rng.uniform(-0.5, 0.5, (40, 25)).astype(np.float32)
    want[:, [2, 4, 5]] = rng.uniform(0.2, 0.9, (40, 3))
    order = rng.permutation(25)
    theirs = np.empty((40, 25))
    theirs[:, order] = want
    theirs[:, order[2]] = want[:, 2] * 100 + 7  # the height in centimetres above something
    np.save(tmp_path / "a.npy", theirs)
    channels: dict[str, Any] = {n: int(c) for n, c in zip(NAMES, order, strict=True)}
    mapping = {"format": "channels", "time": {"fps": 60}, "channels": channels, "height_m": 1.7}
    with pytest.raises(FormatError, match=r"h is .* in the median frame, its range is 0..2.5"):
        read_channels_with_map(Source.of(tmp_path / "a.npy"), mapping)
    channels["h"] = {"column": int(order[2]), "scale": 0.01, "offset": -0.07}
    found = read_channels_with_map(Source.of(tmp_path / "a.npy"), mapping)
    np.testing.assert_allclose(found.channels, want, atol=1e-6)
    assert (found.fps, found.height_m, found.channels.dtype) == (60.0, 1.7, np.float32)
    with pytest.raises(FormatError, match="no frame rate"):
        read_channels_with_map(Source.of(tmp_path / "a.npy"), {**mapping, "time": {}})
    with pytest.raises(FormatError, match="choreo retarget makes a clip"):
        read_with_map(Source.of(tmp_path / "a.npy"), mapping)


def test_readers_say_what_they_may_be_told() -> None:
    told = {r.format: registry.options_of(r) for r in registry.load()}
    assert told["bvh"] == {"fps", "scale", "height"} and told["smpl-pkl"] == {"fps", "body", "height"}
    assert told["humanml3d"] == {"fps"} and told["mat"] == {"fps", "scale", "height", "part"} and told["fbx"] == set()


def test_mutants_are_read_or_refused(tmp_path: Path) -> None:
    short = slice(0, 12)
    small = {k: v[short] if getattr(v, "ndim", 0) > 1 else v for k, v in layouts()["156"].items()}
    np.savez(tmp_path / "amass.npz", **small)
    np.savez(tmp_path / "joints.npz", joints=JOINTS[short], fps=25)
    np.save(tmp_path / "joints.npy", JOINTS[short])
    np.save(tmp_path / "features.npy", features(JOINTS[short]))
    for name, module in (
        ("amass.npz", amass),
        ("joints.npz", joint_arrays),
        ("joints.npy", joint_arrays),
        ("features.npy", humanml3d),
    ):
        path = tmp_path / name
        outcomes = set()
        for _, data in mutants(path.read_bytes(), 80, 5, text=False):
            path.write_bytes(data)
            try:
                assert len(module.read(Source.of(path)).t_us)
                outcomes.add("read")
            except FormatError as e:
                assert "\n" not in str(e)
                outcomes.add("refused")
        assert outcomes == {"read", "refused"} or name == "amass.npz", (name, outcomes)
