"""`choreo train lifting`: windows, pairs matched on their clocks, the recipe in the one loop, its files."""

from __future__ import annotations

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from choreo_cli.errors import ChoreoError, DataError, NoInputError, UsageError  # noqa: E402
from choreo_cli.motion import lifting_recipe_torch as lane  # noqa: E402
from choreo_cli.motion.dancer import choreograph, poses, write_score  # noqa: E402
from choreo_cli.motion.lifting import Lifter  # noqa: E402
from choreo_cli.motion.lifting_cameras import DRAWS, look  # noqa: E402
from choreo_cli.motion.lifting_clips import dancer_clips, folder_clips  # noqa: E402
from choreo_cli.motion.lifting_data import Paired, Projected  # noqa: E402
from choreo_cli.motion.lifting_pairs import match, read_pairs  # noqa: E402
from choreo_cli.motion.lifting_score import mpjpe  # noqa: E402
from choreo_cli.motion.lifting_torch import LiftingNet, arrays_of, lifting_loss  # noqa: E402
from choreo_cli.outputs import OutputFolder  # noqa: E402
from choreo_cli.training.job import Around, Asked, open_job, run  # noqa: E402
from choreo_cli.training.recipe import Job  # noqa: E402
from formats.errors import FormatError  # noqa: E402
from formats.foreign.joints import CANONICAL, COCO_17  # noqa: E402
from formats.foreign.model import Clock, PoseStream  # noqa: E402

DAY = 1_700_000_000_000_000


def dance(seed=0, seconds=4.0, height=1.75):
    rng = np.random.default_rng(seed)
    return poses(choreograph(write_score(np.arange(0, seconds + 3, 0.5), 0.8, rng), rng, height_m=height),
                 np.arange(1, 1 + seconds, 1 / 30))  # fmt: skip


def recorded(joints, seed=0, late_us=0, t0=(DAY, DAY)):
    """Two streams of one dance: points of a camera at 30 fps, joints at 60 fps on a clock that started `late_us` later."""
    rng = np.random.default_rng(seed)
    draws = rng.random((1, DRAWS))
    draws[:, -20:] = 1.0  # no limb is hidden for the whole recording
    v = look(joints[None], draws, rng.standard_normal((1, len(joints), 17, 3)), vary=False)
    t = np.arange(len(joints), dtype=np.int64) * 33_333
    fine = np.arange(2 * len(joints) - 1, dtype=np.int64) * 33_333 // 2
    dense = np.stack([np.interp(fine, t, joints.reshape(len(t), -1)[:, k]) for k in range(66)], -1).reshape(-1, 22, 3)
    keep = fine >= late_us
    image = PoseStream(
        t, v.points[0], COCO_17, "px", "-y", confidence=v.confidence[0], clock=Clock(t0[0], "ntp", 20_000)
    )
    space = PoseStream(
        fine[keep] - late_us, dense[keep].astype(np.float32), CANONICAL, "m", "+y",
        clock=Clock(None if t0[1] is None else t0[1] + late_us, "ntp" if t0[1] else "none", 20_000),
    )  # fmt: skip
    return image, space, v


def job(options=None, source=None, seed=0, **settings):
    small = {"hidden": 16, "epochs": 1, "batch": 64, **settings}
    return Job(source, None, lane.Config(**small), seed, options or {})


def trained(tmp_path, asked_job):
    asked = Asked("lifting", lane, asked_job)
    opened = open_job(asked)
    (tmp_path / "out").mkdir()
    doc = run(opened, OutputFolder(tmp_path / "out", "run", opened.created_by), Around())
    return json.loads(doc)["entries"][0]


def test_numpy_and_torch_say_the_same():
    torch.manual_seed(0)
    net = LiftingNet(9, 64, 2)
    x = torch.randn(50, 9 * 51)
    joints, scale = net(x)
    found, size = Lifter(arrays_of(net), 9, 2).bodies(x.numpy())
    assert np.abs(found - joints.detach().numpy()).max() < 1e-5
    assert np.abs(np.log(size / 3.3) - scale.detach().numpy()).max() < 1e-5


def test_loss_leaves_out_what_is_not_known():
    true = torch.full((2, 22, 3), float("nan"))
    true[0, :5] = 0.0
    joints = torch.ones(2, 22, 3, requires_grad=True)
    place, size = lifting_loss(joints, torch.zeros(2), true, torch.tensor([3.3, float("nan")]))
    assert place.item() == pytest.approx(3**0.5) and size.item() == pytest.approx(0.0, abs=1e-6)
    place.backward()
    assert torch.isfinite(joints.grad).all() and (joints.grad[1] == 0).all() and (joints.grad[0, 5:] == 0).all()


def test_windows_of_an_item_follow_from_seed_epoch_and_item():
    source = Projected(dancer_clips(3, 0).clips, 5, 7)
    items = np.array([3, 11])
    one, two = source.windows(items, 2), source.windows(items[::-1], 2)
    assert np.array_equal(one.x[0], two.x[1]) and np.array_equal(one.joints[1], two.joints[0])
    assert not np.array_equal(one.x, source.windows(items, 3).x)
    assert one.x.shape == (2, 5 * 51) and np.isfinite(one.x).all()


def test_pairs_are_matched_on_their_clocks_and_the_camera_is_found():
    joints = dance()
    image, space, v = recorded(joints, late_us=500_000)
    pair, notes = match(image, space, name="take", group="anna")
    assert notes == [] and len(pair.points) == len(joints) - 16  # half a second before the joints began
    assert mpjpe(pair.joints, v.joints[0, 16:]) < 0.06 and pair.residual < 0.15
    assert pair.height_m == pytest.approx(1.75, rel=1e-3)
    ratio = pair.px_per_m / v.px_per_m[0, 16:]
    assert abs(np.median(ratio) - 1) < 0.1  # weak perspective, and noise shrinks a least-squares size


def test_without_a_common_clock_recordings_are_taken_as_started_together():
    image, space, _ = recorded(dance(), t0=(DAY, None))
    _, notes = match(image, space, name="take", group="anna")
    assert notes == ["take: no clock is known to both recordings: taken as started together"]


def test_recordings_of_other_times_or_other_dances_are_refused():
    image, space, _ = recorded(dance(), t0=(DAY, DAY + 3_600_000_000))
    with pytest.raises(DataError, match="0 of 120 frames have joints within 100 ms"):
        match(image, space, name="take", group="anna")
    image, _, _ = recorded(dance())
    lying = dance(4)[:, :, [1, 2, 0]] * np.array([1.0, -1.0, 1.0])
    _, wrong, _ = recorded(lying[::-1] * np.array([1.0, 1.0, -1.0]))
    with pytest.raises(DataError, match="no camera explains the points"):
        match(image, wrong, name="take", group="anna")


def test_points_without_legs_are_refused():
    image, space, _ = recorded(dance())
    upper = PoseStream(image.t_us, image.xyz[:, :11], COCO_17[:11], "px", "-y", clock=image.clock)
    with pytest.raises(DataError, match="no point l_hip"):
        match(upper, space, name="take", group="anna")


def test_mirrored_windows_of_pairs_are_windows_of_the_mirrored_body():
    image, space, _ = recorded(dance())
    pair, _ = match(image, space, name="take", group="anna")
    source = Paired([pair], {"anna": "train"}, 1, 0)
    kept, turned = source._cut(np.array([[0, 40]]), None), source._cut(np.array([[0, 40]]), np.zeros((1, 8)) + 0.4)
    a, b = kept.x.reshape(17, 3), turned.x.reshape(17, 3)
    k, m = COCO_17.index("l_wrist"), COCO_17.index("r_wrist")
    assert b[m, 0] == pytest.approx(-a[k, 0], abs=1e-6) and b[m, 1:] == pytest.approx(a[k, 1:], abs=1e-6)
    assert turned.joints[0, 21] == pytest.approx(kept.joints[0, 20] * (-1, 1, 1), abs=1e-6)
    assert turned.scale == pytest.approx(kept.scale)


def write_pairs(folder, count=4):
    lines = ["points,joints,group"]
    for k in range(count):
        image, space, _ = recorded(dance(k), seed=k)
        for name, stream in (("points", image), ("joints", space)):
            with open(folder / f"{k}-{name}.jsonl", "w") as f:
                for t, xyz in zip(stream.t_us.tolist(), stream.xyz, strict=True):
                    body = {
                        n: [round(float(v), 4) for v in p]
                        for n, p in zip(stream.joints, xyz, strict=True)
                        if np.isfinite(p).all()
                    }
                    f.write(json.dumps({"t": t / 1e6, "joints": body}) + "\n")
        lines.append(f"{k}-points.jsonl,{k}-joints.jsonl,person-{k}")
    (folder / "pairs.csv").write_text("\n".join(lines) + "\n")
    return folder / "pairs.csv"


def test_training_on_pairs_holds_out_whole_groups(tmp_path):
    file = write_pairs(tmp_path)
    entry = trained(tmp_path, job({"pairs": file}))
    sessions = entry["data"]["sessions"]
    assert sorted(len(v) for v in sessions.values()) == [1, 1, 2] and entry["synthetic"] is False
    by_name = {m["name"]: m for m in entry["metrics"]}
    assert by_name["lifting.mpjpe"]["params"]["cameras"] == "their own; held out with the recording"
    assert by_name["lifting.mpjpe"]["n"] == 1 and by_name["lifting.mpjpe"]["ci"] is None
    assert max(entry["data"]["residual_torso"].values()) < 0.15


def test_broken_lists_of_pairs_are_refused_by_row(tmp_path):
    file = tmp_path / "pairs.csv"
    for text, kind, words in (
        ("a,b\n1,2\n", FormatError, "columns a,b"),
        ("points,joints\n", FormatError, "holds no pair"),
        ("points,joints\nx.jsonl,\n", FormatError, "needs a file of points and one of joints"),
        ("points,joints,aspect\nx,y,wide\n", FormatError, "needs width over height"),
        ("points,joints\nx.jsonl,y.jsonl\n", NoInputError, "no file"),
    ):
        file.write_text(text)
        with pytest.raises((FormatError, ChoreoError), match=words) as e:
            read_pairs(file)
        assert isinstance(e.value, kind)


def test_a_run_on_dancers_writes_a_lifter_that_numpy_reads(tmp_path):
    entry = trained(tmp_path, job(dancers=6, window=3, epochs=2))
    assert (
        entry["synthetic"] is True
        and entry["parameters"]
        == sum(int(np.prod(v)) for v in lane.Lifter.open(tmp_path / "out").facts.get("none", {}).values())
        + (3 * 51 + 1) * 16
        + 17 * 16
        + 17 * 64
    )
    names = {p.name for p in (tmp_path / "out").iterdir()}
    assert {"model.safetensors", "model.npz", "model.json", "run.json", "metrics.json", "log.jsonl"} <= names
    lifter = Lifter.open(tmp_path / "out")
    assert lifter.window == 3 and lifter.facts["synthetic"] is True and "guess" in lifter.facts["scale"]
    assert {m["name"] for m in entry["metrics"]} >= {"lifting.mpjpe", "lifting.pa_mpjpe", "lifting.latency_p95_ms"}
    assert "no training camera has" in entry["metrics"][0]["params"]["cameras"]
    assert lane.score(tmp_path / "out", write_pairs(tmp_path, 1))[0]["n"] == 1


def test_training_learns(tmp_path):
    entry = trained(tmp_path, job(dancers=4, window=1, hidden=64, epochs=12))
    losses = [r["loss"] for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()
              if (r := json.loads(line))["kind"] == "step"]  # fmt: skip
    assert losses[-1] < 0.6 * losses[0]
    assert entry["metrics"][2]["baseline"]["value"] > 0


def test_a_folder_of_motion_files_is_learned_from(tmp_path):
    for k in range(3):
        np.savez(tmp_path / f"clip{k}.npz", joints=dance(k), fps=30.0)
    (tmp_path / "broken.bvh").write_text("HIERARCHY\nROOT\n")
    found = folder_clips(tmp_path)
    assert [c.name for c in found.clips] == ["clip0.npz", "clip1.npz", "clip2.npz"] and not found.synthetic
    assert any("left out broken.bvh" in n for n in found.notes)
    assert np.abs(found.clips[0].joints - dance(0)).max() < 0.01


def test_what_cannot_be_trained_on_is_said(tmp_path):
    with pytest.raises(UsageError, match="needs 3-D clips"):
        lane.open_recipe(job())
    with pytest.raises(UsageError, match="two sources"):
        lane.open_recipe(job({"pairs": "x"}, dancers=5))
    with pytest.raises(UsageError, match="too few"):
        lane.open_recipe(job(dancers=2))
    with pytest.raises(NoInputError, match="no motion file"):
        lane.open_recipe(job(source=tmp_path))
    np.savez(tmp_path / "one.npz", joints=dance(), fps=30.0)
    with pytest.raises(DataError, match="1 clip to learn from"):
        lane.open_recipe(job(source=tmp_path))
    with pytest.raises(NoInputError, match="is one file"):
        lane.open_recipe(job(source=tmp_path / "one.npz"))
    assert lane.needs_no_input(lane.Config(dancers=3), {}) and not lane.needs_no_input(lane.Config(), {})
