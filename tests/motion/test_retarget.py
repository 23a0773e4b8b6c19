"""Motions into choreo25 and out again: what is written, how exactly, and what is said of it."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from choreo_cli.errors import DataError, NoInputError, UsageError
from choreo_cli.export.npz import npz_bytes
from choreo_cli.motion import retarget_job, retarget_plan
from choreo_cli.motion.choreo25 import decode, encode
from choreo_cli.motion.dancer import choreograph, poses, write_score
from choreo_cli.motion.export_bvh import ORDER, UNITS, bvh_of
from choreo_cli.motion.export_joints import joints_arrays
from choreo_cli.motion.export_rotations import rest_offsets, turns_of
from choreo_cli.motion.export_smpl import smpl_of
from choreo_cli.motion.prepare import flags_of, lines_of, nearest_map, prepare
from choreo_cli.motion.retarget import How, convert, foot_error, mirrored
from choreo_cli.motion.retarget_inputs import Asked, check_asked, joints_of, load_map_file, open_motion
from choreo_cli.outputs import OutputFolder
from formats import motion_npz, sealed
from formats.errors import ConfigFileError, FormatError
from formats.foreign.bvh import parse, read
from formats.foreign.bvh_kinematics import joint_positions
from formats.foreign.joints import CANONICAL, PARENTS
from formats.foreign.model import PoseStream
from formats.foreign.smpl_body import forward, load_body
from formats.foreign.source import Source

FPS = 30.0


def dance(seed=0, seconds=4.0, height=1.70):
    rng = np.random.default_rng(seed)
    made = choreograph(write_score(np.arange(0, seconds + 3, 0.5), 0.9, rng), rng, height_m=height)
    return poses(made, np.arange(1, 1 + seconds, 1 / FPS))


@pytest.fixture(scope="module")
def joints():
    return dance()


@pytest.fixture(scope="module")
def clip(joints):
    return encode(joints, FPS)


def stream(xyz, **options):
    t = np.round(np.arange(len(xyz)) * 1e6 / FPS).astype(np.int64)
    usual = {"rate": (30, 1), "rate_source": "header"} | options
    names = usual.pop("joints", CANONICAL)
    xyz = np.asarray(xyz, np.float32)
    return PoseStream(usual.pop("t_us", t), xyz, names, usual.pop("units", "m"), usual.pop("up", "+y"), **usual)


def written(tmp_path, data, name="x.bvh"):
    (tmp_path / name).write_bytes(data)
    return Source.of(tmp_path / name)


# Exporters


@pytest.mark.parametrize("unit", ["cm", "m"])
def test_a_bvh_gives_the_decoded_joints_back(tmp_path, clip, unit):
    data, _ = bvh_of(clip, unit)
    found = parse(written(tmp_path, data))
    names = [j.name for j in found.joints]
    world = joint_positions(found, found.values)[:, [names.index(n) for n in CANONICAL]] / UNITS[unit]
    assert np.abs(world - decode(clip)).max() < 0.05e-3  # metres; 0.5 mm is asked for
    assert found.rate == (30, 1) and found.problems == []


def test_the_bvh_importer_recognises_every_joint_of_it(tmp_path, clip):
    got = read(written(tmp_path, bvh_of(clip)[0]))
    assert got.joints == CANONICAL and got.units == "m" and got.problems == ()
    off = got.xyz - decode(clip)
    off[..., 1] -= off[..., 1].mean()  # the importer looks for the floor by itself
    assert np.abs(off).max() < 0.5e-3


def test_the_floor_that_was_written_is_kept(tmp_path, clip):
    """Toes are placed by a rule: looked for again, the floor of what was decoded lies up to 15 mm elsewhere."""
    lifted = replace(clip, channels=clip.channels + np.eye(25, dtype=np.float32)[2] * 0.02)
    joints = decode(lifted)
    data, told = bvh_of(lifted)
    (tmp_path / "clip.json").write_bytes(sealed.dumps(told))
    source = written(tmp_path, data, "clip.bvh")
    assert np.abs(read(source).xyz - joints).max() < 0.5e-3
    (tmp_path / "clip.bvh").write_bytes(data.replace(b"OFFSET 0.000000", b"OFFSET 0.00000", 1))
    edited = read(Source.of(tmp_path / "clip.bvh"))  # no longer what the sidecar was made for
    assert any(a.startswith("floor: moved") for a in edited.assumptions)
    (tmp_path / "j.npz").write_bytes(npz_bytes(joints_arrays(joints, 30.0)))
    found = open_motion(tmp_path / "j.npz", Asked()).prepared
    assert found is not None and np.abs(found.joints - joints).max() < 1e-5
    arrays, body = smpl_of(lifted)
    (tmp_path / "s.npz").write_bytes(npz_bytes(arrays))
    (tmp_path / "s.body.json").write_bytes(sealed.dumps(body))
    found = open_motion(tmp_path / "s.npz", Asked(body=str(tmp_path / "s.body.json"))).prepared
    assert found is not None and np.abs(found.joints - joints).max() < 0.5e-3


def test_the_sidecar_says_what_bvh_cannot(clip):
    text, told = bvh_of(clip)
    assert told["units"] == "cm" and told["metres_per_unit"] == 0.01 and told["fps"] == 30.0
    assert "twist" in told["twist"] and told["rotation_order"] == ORDER == "ZXY"
    assert b"Zrotation Xrotation Yrotation" in text and text.count(b"End Site") == 5
    assert text.count(b"Xposition") == 1
    with pytest.raises(UsageError, match="no unit 'inch'"):
        bvh_of(clip, "inch")


def test_rotations_are_proper_and_limbs_do_not_twist(clip):
    turns = turns_of(clip)
    assert np.abs(turns.local @ np.swapaxes(turns.local, 2, 3) - np.eye(3)).max() < 1e-9
    assert np.linalg.det(turns.local).min() > 0.999
    knee = CANONICAL.index("l_knee")
    axis = np.stack([turns.local[:, knee, 2, 1] - turns.local[:, knee, 1, 2],
                     turns.local[:, knee, 0, 2] - turns.local[:, knee, 2, 0],
                     turns.local[:, knee, 1, 0] - turns.local[:, knee, 0, 1]], -1)  # fmt: skip
    shank = turns.offsets[CANONICAL.index("l_ankle")]
    assert np.abs(axis @ shank).max() < 1e-9  # a smallest rotation turns about an axis across the bone


def test_rest_offsets_have_the_bones_of_the_skeleton(clip):
    rest = rest_offsets(clip.header.skeleton)
    seen = decode(clip)
    for j, parent in enumerate(PARENTS):
        if parent >= 0:
            lengths = np.linalg.norm(seen[:, j] - seen[:, parent], axis=-1)
            assert np.linalg.norm(rest[j]) == pytest.approx(float(lengths.mean()), abs=2e-6), CANONICAL[j]


def test_smpl_vectors_on_their_body_give_the_decoded_joints_back(tmp_path, clip):
    arrays, body = smpl_of(clip)
    assert arrays["poses"].shape == (len(clip.channels), 72) and not arrays["poses"][:, 66:].any()
    (tmp_path / "body.json").write_text(json.dumps(body))
    offsets = load_body(tmp_path / "body.json")
    back = forward(arrays["poses"].astype(float).reshape(-1, 24, 3), arrays["trans"].astype(float), offsets)
    assert np.abs(back - decode(clip)).max() < 1e-5


# Preparing


def test_units_axes_and_floor_are_found(joints):
    z_up = np.stack([joints[..., 0], -joints[..., 2], joints[..., 1] + 0.3], -1) * 100
    got = prepare(stream(z_up, units="unknown", up="+z"))
    assert got.report["units_found"] == "cm" and got.report["scale"] == pytest.approx(0.01)
    off = got.joints - joints
    assert np.abs(off[..., [0, 2]]).max() < 1e-4 and np.ptp(off[..., 1]) < 1e-4 and abs(off[..., 1].mean()) < 0.02


def test_height_and_scale_are_recorded(joints):
    tall = prepare(stream(joints), height=1.87)
    assert tall.report["height_m"] == pytest.approx(1.87, abs=1e-3)
    assert tall.report["scale"] == pytest.approx(1.1, abs=1e-3)
    twice = prepare(stream(joints), scale=2.0)
    bones = [np.linalg.norm(j[0, 4] - j[0, 1]) for j in (twice.joints, joints)]
    assert bones[0] == pytest.approx(2 * bones[1], rel=1e-5)


def test_rates_are_snapped_and_uneven_times_resampled(joints):
    raw = np.arange(len(joints)) * 1e6 / 30.003
    got = prepare(stream(joints, t_us=raw.astype(np.int64), rate=None, rate_source="timestamps"))
    assert got.fps == 30.0 and len(got.joints) == len(joints) and "30.003" in got.report["time"]
    rng = np.random.default_rng(0)
    uneven = (np.arange(len(joints)) * 1e6 / 30 + rng.uniform(-8000, 8000, len(joints))).astype(np.int64)
    got = prepare(stream(joints, t_us=uneven, rate=None, rate_source="timestamps"))
    assert "resampled" in got.report["time"] and "resampled" in flags_of(got.report)
    assert prepare(stream(joints), fps=60.0).fps == 60.0


def test_short_gaps_are_filled_and_ends_cut_and_both_recorded(joints):
    holes = joints.copy()
    holes[40:44, 20], holes[:3, 5], holes[-2:] = np.nan, np.nan, np.nan
    got = prepare(stream(holes))
    assert got.report["filled"] == 4 and got.report["trimmed"] == [3, 2] and len(got.joints) == len(joints) - 5
    assert {"filled", "trimmed"} <= set(flags_of(got.report))
    assert any("gaps: 4" in line for line in lines_of(got.report))
    holes[40:60, 20] = np.nan
    with pytest.raises(DataError, match=r"l_wrist is missing for 0\.67 s"):
        prepare(stream(holes))


@pytest.mark.parametrize(
    "change,words",
    [
        (lambda s: replace(s, xyz=s.xyz[..., :2]), "image points"),
        (lambda s: replace(s, units="px"), "image points"),
        (lambda s: replace(s, xyz=s.xyz[:1], t_us=s.t_us[:1]), "1 frame"),
        (lambda s: replace(s, rate=None, rate_source="none"), "no frame rate"),
        (lambda s: replace(s, xyz=np.full_like(s.xyz, np.nan)), "0 frames hold every joint"),
        (lambda s: replace(s, joints=tuple(f"Bone{k:03d}" for k in range(22))), "0 of 22 joints are known"),
    ],
)
def test_what_is_no_motion_is_one_sentence(joints, change, words):
    with pytest.raises(DataError, match=words):
        prepare(change(stream(joints)))


def test_a_pause_in_the_times_is_refused(joints):
    t = (np.arange(len(joints)) * 1e6 / 30).astype(np.int64)
    t[60:] += 900_000
    with pytest.raises(DataError, match=r"no frames for 0\.93 s at 1\.97 s"):
        prepare(stream(joints, t_us=t, rate=None, rate_source="timestamps"))


def test_unknown_names_get_the_nearest_map(joints):
    odd = tuple(n if "ankle" not in n else {"l_ankle": "ankel_left", "r_ankle": "ankel_right"}[n] for n in CANONICAL)
    assert nearest_map(odd)["ankel_left"] in ("l_ankle", "r_ankle")
    with pytest.raises(DataError, match="no l_ankle, r_ankle") as e:
        prepare(stream(joints, joints=odd))
    assert "--map FILE" in (e.value.hint or "") and "ankel_left" in (e.value.hint or "")


def test_missing_trunk_and_toes_are_placed_and_said(joints):
    keep = [i for i, n in enumerate(CANONICAL) if n not in ("spine1", "spine2", "chest", "l_toe", "r_toe")]
    got = prepare(stream(joints[:, keep], joints=tuple(CANONICAL[i] for i in keep)))
    assert got.joints.shape[1] == 22 and np.isfinite(got.joints).all()
    assert any("l_toe" in p for p in got.report["placed"])
    assert any(p.startswith("missing_joint") for p in got.report["problems"])


# Converting


def opened_of(tmp_path, joints, name="clip.npz"):
    np.savez(tmp_path / name, joints=joints, fps=FPS)
    return open_motion(tmp_path / name, Asked())


def made_of(tmp_path, joints, **how):
    return convert(opened_of(tmp_path, joints), How(**how), {}, {"sha256": "0" * 64})


def test_choreo25_reports_its_round_trip(tmp_path, joints):
    made = made_of(tmp_path, joints)
    got = motion_npz.decode(made.files[0][1])
    gap = np.linalg.norm(decode(got) - joints, axis=-1) * 1e3
    # Joints went through float32 and the importer's floor; neither is worth a tenth of a millimetre of the mean.
    assert made.facts["mean_mm"] == pytest.approx(gap.mean(), abs=20) and made.facts["mean_mm"] < 20
    assert made.facts["p95_mm"] < 70 and made.facts["foot_mm_s"] <= 0.05
    assert set(made.facts["report"]["joint_mm"]) == set(CANONICAL)
    assert made.facts["clamped"] == 0 and got.header.source["format"]


def test_joints_that_only_wait_are_written_as_they_were(tmp_path, joints):
    opened = opened_of(tmp_path, joints)
    made = convert(opened, How("joints"), {}, {})
    (tmp_path / "out.npz").write_bytes(made.files[0][1])
    back, fps, _ = joints_of(tmp_path / "out.npz", Asked())
    assert fps == FPS and made.facts["mean_mm"] < 1e-3
    off = back - opened.prepared.joints
    assert np.abs(off - off.mean((0, 1)) * (0, 1, 0)).max() < 1e-5


def test_features_of_humanml3d_are_those_of_the_joints(tmp_path, joints):
    made = made_of(tmp_path, joints, to="humanml3d")
    (tmp_path / "f.npy").write_bytes(made.files[0][1])
    features = np.load(tmp_path / "f.npy")
    assert features.shape == (made.facts["n_frames"], 263) and made.facts["fps"] == 20.0
    assert made.facts["mean_mm"] < 0.01
    with pytest.raises(DataError):
        made_of(tmp_path, joints[:2][:1].repeat(1, 0), to="humanml3d")


def test_a_target_body_changes_the_bones_and_so_has_no_round_trip(tmp_path, joints):
    from formats.foreign.smpl_body import canonical_offsets

    made = made_of(tmp_path, joints, to="humanml3d", target=canonical_offsets(1.5))
    assert made.facts["mean_mm"] is None and "another body" in made.facts["report"]["round_trip"]


def test_mirroring_before_and_after_is_the_same(tmp_path, joints):
    assert mirrored(mirrored(joints)) == pytest.approx(joints)
    plain = open_motion_of_clip(tmp_path, made_of(tmp_path, joints).files[0][1])
    turned = convert(plain, How("joints", mirror=True), {}, {})
    (tmp_path / "m.npz").write_bytes(turned.files[0][1])
    back = np.load(tmp_path / "m.npz")["joints"]
    assert np.abs(back - mirrored(decode(plain.clip))).max() < 1e-5
    assert "mirrored" in turned.facts["flags"]


def open_motion_of_clip(tmp_path, data):
    (tmp_path / "stored.npz").write_bytes(data)
    return open_motion(tmp_path / "stored.npz", Asked())


def test_a_stored_clip_keeps_its_numbers_its_id_and_its_licence(tmp_path, clip):
    kept = replace(clip, header=replace(clip.header, licence="CC-BY-4.0"))
    opened = open_motion_of_clip(tmp_path, motion_npz.encode(kept))
    made = convert(opened, How(), {"command": "x"}, {})
    got = motion_npz.decode(made.files[0][1])
    assert np.array_equal(got.channels, clip.channels) and got.header.licence == "CC-BY-4.0"
    again = convert(opened, How(), {"command": "y"}, {})
    assert made.facts["id"] == again.facts["id"] and made.facts["mean_mm"] == 0.0


def test_display_rate_keeps_bones_and_planted_feet(tmp_path, clip):
    opened = open_motion_of_clip(tmp_path, motion_npz.encode(clip))
    made = convert(opened, How("joints", resample=60.0), {}, {})
    (tmp_path / "d.npz").write_bytes(made.files[0][1])
    back = np.load(tmp_path / "d.npz")["joints"].astype(float)
    assert made.facts["fps"] == 60.0 and len(back) == 2 * len(clip.channels) - 1
    assert np.abs(back[::2] - decode(clip)).max() < 1e-4
    shank = np.linalg.norm(back[:, 7] - back[:, 4], axis=-1)
    assert np.ptp(shank) < 1e-4


def test_values_out_of_range_are_counted_and_not_changed(tmp_path, clip):
    wild = clip.channels.copy()
    wild[5, 3] = 30.0
    opened = open_motion_of_clip(tmp_path, motion_npz.encode(replace(clip, channels=wild)))
    made = convert(opened, How(), {}, {})
    assert made.facts["clamped"] == 1 and "out of range" in made.facts["flags"]
    assert np.array_equal(motion_npz.decode(made.files[0][1]).channels, wild)


def test_foot_error_is_a_difference_of_floor_speeds(joints):
    assert foot_error(joints, joints, FPS) == 0
    walk = joints + np.arange(len(joints))[:, None, None] * np.array([0.0, 0.01, 0.0])
    assert foot_error(walk, joints, FPS) == pytest.approx(0, abs=1e-9)  # height is not floor speed
    still = np.repeat(joints[:1], 50, 0)
    slide = still + np.arange(50)[:, None, None] * np.array([0.001, 0.0, 0.0])
    assert foot_error(slide, still, FPS) == pytest.approx(30.0)


# Maps


def test_a_bare_map_names_the_joints_of_a_rig(tmp_path, clip):
    text, _ = bvh_of(clip)
    names = {n: f"Bone{k:02d}x" for k, n in enumerate(CANONICAL)}
    for ours, theirs in sorted(names.items(), key=lambda p: -len(p[0])):
        text = text.replace(f" {ours}\n".encode(), f" {theirs}\n".encode())
    (tmp_path / "odd.bvh").write_bytes(text)
    (tmp_path / "map.yaml").write_text(
        "joints:\n  map:\n" + "".join(f"    {theirs}: {ours}\n" for ours, theirs in names.items())
    )
    got = open_motion(tmp_path / "odd.bvh", Asked(map=load_map_file(tmp_path / "map.yaml")))
    off = got.prepared.joints - decode(clip)
    off[..., 1] -= off[..., 1].mean()
    assert np.abs(off).max() < 1e-3 and got.report["rig"] == "mapped"
    wrong = {"joints": {"map": {"NoBone": "pelvis"}}}
    with pytest.raises(DataError, match="names 'NoBone', which the file has not"):
        open_motion(tmp_path / "odd.bvh", Asked(map=wrong))


def test_foreign_channels_are_read_through_a_map_and_never_guessed(tmp_path, clip):
    np.save(tmp_path / "theirs.npy", clip.channels[:, ::-1])
    with pytest.raises((FormatError, DataError)):
        open_motion(tmp_path / "theirs.npy", Asked())
    names = [c.name for c in motion_npz.CHANNELS]
    document = {
        "format": "channels",
        "time": {"fps": 30},
        "height_m": 1.7,
        "channels": {n: 24 - k for k, n in enumerate(names)},
    }
    (tmp_path / "map.json").write_text(json.dumps(document))
    got = open_motion(tmp_path / "theirs.npy", Asked(map=load_map_file(tmp_path / "map.json")))
    assert np.allclose(got.clip.channels, clip.channels, atol=1e-6)
    assert got.clip.header.flags["canonical_skeleton"] is True


def test_maps_that_are_none_are_refused(tmp_path):
    for text in ("- a\n", "joints: {nap: {a: b}}\n", "a: [\n", "format: array\njoints: {names: [a], mop: {}}\n"):
        (tmp_path / "m.yaml").write_text(text)
        with pytest.raises((FormatError, ConfigFileError)):
            load_map_file(tmp_path / "m.yaml")


def test_wishes_out_of_range_are_refused():
    for asked, resample in (
        (Asked(fps=0.0), None),
        (Asked(height=17.0), None),
        (Asked(scale=-1.0), None),
        (Asked(), 1e6),
    ):
        with pytest.raises(UsageError):
            check_asked(asked, resample)
    with pytest.raises(UsageError, match="exclude"):
        check_asked(Asked(scale=1.0, height=1.7))


# Many


def folder_of(tmp_path, name="out"):
    (tmp_path / name).mkdir(exist_ok=True)
    return OutputFolder(tmp_path / name, "motions", {"run_id": "0" * 12, "command": "retarget", "inputs": []})


def test_names_of_results_never_meet():
    names = retarget_plan._names(["a/x.bvh", "a/x.amc", "b.npz", ".bvh", "../c.npz", "c.npy"])
    assert len(set(names)) == 6 and names[0] == "a/x_bvh" and names[1] == "a/x_amc" and names[2] == "b"
    assert all(not n.startswith(("/", ".")) and ".." not in n for n in names)


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_batch_keeps_what_it_can_and_lists_the_rest(tmp_path, joints, jobs):
    src = tmp_path / "in"
    src.mkdir()
    for k in range(3):
        np.savez(src / f"clip{k}.npz", joints=dance(k, 1.0), fps=FPS)
    (src / "cut.bvh").write_text("HIERARCHY\nROOT hips\n{\n")
    (src / "notes.txt").write_text("hello")
    work = retarget_plan.of_folder(src, tmp_path / "out")
    assert len(work.items) == 4 and work.skipped == 1
    done = retarget_job.run(work, How(), folder_of(tmp_path), jobs=jobs)
    assert [e["path"] for e in done.entries] == ["clip0.npz", "clip1.npz", "clip2.npz"]
    assert [s for s, _ in done.left_out] == ["cut.bvh"]
    listed = [json.loads(x) for x in (tmp_path / "out" / "left_out.jsonl").read_text().splitlines()]
    assert listed[0]["source"] == "cut.bvh" and listed[0]["why"]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "clip0.npz",
        "clip1.npz",
        "clip2.npz",
        "left_out.jsonl",
    ]


def test_the_one_file_that_was_named_raises_and_nothing_is_written(tmp_path):
    (tmp_path / "cut.bvh").write_text("HIERARCHY\nROOT hips\n{\n")
    begun = []
    with pytest.raises(FormatError, match="no MOTION section"):
        retarget_job.run(
            retarget_plan.of_file(tmp_path / "cut.bvh"), How(), folder_of(tmp_path), starting=lambda: begun.append(1)
        )
    assert begun == [] and list((tmp_path / "out").iterdir()) == []


def test_a_folder_without_motion_says_so(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(NoInputError, match="no motion in"):
        retarget_plan.of_folder(tmp_path, tmp_path / "out")


def test_strange_numbers_are_a_reason_and_no_traceback(tmp_path, joints):
    flat = np.zeros_like(joints)
    np.savez(tmp_path / "flat.npz", joints=flat, fps=FPS)
    huge = joints.copy()
    huge[3] = 1e300
    np.savez(tmp_path / "huge.npz", joints=huge, fps=FPS)
    for name in ("flat.npz", "huge.npz"):
        got = retarget_job.one(retarget_plan.of_file(tmp_path / name).items[0], How(), tmp_path / "o", {})
        assert got.entry is None or np.isfinite(got.entry["mean_mm"])
        if got.entry is None:
            assert got.why and got.error is not None


# Real recordings


def test_real_bvh_reaches_the_round_trip_of_the_design(shared, tmp_path):
    for name, mean, p95 in (("dance-short_normal", 11, 45), ("walk_normal", 6, 30)):
        path = shared / f"data/mocap/bvh/bandai_ds1_{name}_001.bvh"
        made = convert(open_motion(path, Asked()), How(), {}, {})
        assert made.facts["mean_mm"] <= mean and made.facts["p95_mm"] <= p95 and made.facts["foot_mm_s"] <= 0.05
        assert made.facts["rig"] == "bandai" and made.facts["report"]["units_found"] == "cm"


def test_real_bvh_written_and_read_again_is_the_same_body(shared, tmp_path):
    path = shared / "data/mocap/bvh/bandai_ds1_bow_childish_001.bvh"
    first = open_motion(path, Asked())
    clip = encode(first.prepared.joints, first.prepared.fps)
    source = written(tmp_path, bvh_of(clip)[0])
    off = open_motion(source.path, Asked()).prepared.joints - decode(clip)
    off[..., 1] -= off[..., 1].mean()
    assert np.abs(off).max() < 0.5e-3


def test_the_factor_from_source_units_is_recorded(tmp_path, joints):
    for factor, unit in ((0.0254, "inches"), (0.001, "mm"), (1.0, "m"), (1 / 18, "inferred")):
        report = opened_of(tmp_path, joints / factor, f"{unit}.npz").report
        assert report["units_found"] == unit and report["scale"] == pytest.approx(factor, rel=2e-3), unit
    assert "units inferred" in flags_of(report)
    given = open_motion(tmp_path / "inches.npz", Asked(scale=0.02))
    assert given.report["scale"] == 0.02 and given.report["units_found"] == "given"
    assert given.report["height_m"] == pytest.approx(1.70 / 0.0254 * 0.02, rel=1e-3)


def test_height_given_for_a_rig_gives_the_factor(tmp_path, clip):
    source = written(tmp_path, bvh_of(clip)[0])
    report = open_motion(source.path, Asked(height=1.5)).report
    assert report["height_m"] == pytest.approx(1.5, abs=1e-3)
    assert report["scale"] == pytest.approx(0.01 * 1.5 / clip.header.height_m, rel=1e-3)
