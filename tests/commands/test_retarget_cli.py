"""`choreo retarget` as a user meets it: files, folders and manifests in, a folder and a manifest out, one line a fault."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from choreo_cli.errors import ExitCode
from choreo_cli.motion.choreo25 import encode
from choreo_cli.motion.dancer import choreograph, poses, write_score
from formats import manifest, motion_npz


def dance(seed=0, seconds=1.5):
    rng = np.random.default_rng(seed)
    made = choreograph(write_score(np.arange(0, seconds + 3, 0.5), 0.9, rng), rng)
    return poses(made, np.arange(1, 1 + seconds, 1 / 30))


@pytest.fixture
def material(tmp_path):
    src = tmp_path / "in"
    src.mkdir()
    for k in range(2):
        np.savez(src / f"clip{k}.npz", joints=dance(k), fps=30.0)
    return src


def one_line(done, code):
    text = done.stderr.decode()
    assert done.returncode == code and done.stdout == b"", (done.returncode, text)
    assert text.count("\n") == 1 and text.startswith("choreo retarget: "), text
    return text


def test_a_folder_becomes_clips_and_then_anything_else(choreo, material, tmp_path):
    done = choreo("retarget", material, "-o", "clips", "-q")
    assert done.returncode == 0, done.stderr
    assert done.stdout == (tmp_path / "clips" / "motions.json").read_bytes()
    found = manifest.decode(done.stdout)
    assert found.schema == "choreo.motions/1" and [e["layout"] for e in found.entries] == ["choreo25"] * 2
    assert all(e["mean_mm"] < 20 and e["p95_mm"] < 70 and e["foot_mm_s"] <= 0.05 for e in found.entries)
    for to, suffix in (("bvh", "bvh"), ("humanml3d", "npy")):
        done = choreo("retarget", tmp_path / "clips", "--to", to, "-o", to, "-q")
        assert done.returncode == 0, done.stderr
        entries = manifest.decode(done.stdout).entries
        assert [e["path"] for e in entries] == [f"clip{k}.{suffix}" for k in range(2)]
    sidecar = json.loads((tmp_path / "bvh" / "clip0.json").read_text())
    assert sidecar["units"] == "cm" and "zero" in sidecar["twist"]
    back = choreo("retarget", tmp_path / "bvh", "-o", "back", "-q")
    assert back.returncode == 0, back.stderr
    assert [e["rig"] for e in manifest.decode(back.stdout).entries] != []


def test_what_was_done_is_not_done_again_but_changed_work_is(choreo, material, tmp_path):
    first = choreo("retarget", material, "-o", "clips", "-q")
    stamp = (tmp_path / "clips" / "clip0.npz").stat().st_mtime_ns
    again = choreo("retarget", material, "-o", "clips")
    assert again.stdout == first.stdout and (tmp_path / "clips" / "clip0.npz").stat().st_mtime_ns == stamp
    other = choreo("retarget", material, "-o", "clips", "--mirror", "-q")
    assert other.stdout != first.stdout
    (material / "clip1.npz").unlink()
    fewer = choreo("retarget", material, "-o", "clips", "-q")
    assert fewer.returncode == 0 and not (tmp_path / "clips" / "clip1.npz").exists()


def test_a_batch_that_lost_a_motion_exits_3_with_a_list(choreo, material, tmp_path):
    (material / "cut.bvh").write_text("HIERARCHY\nROOT hips\n{\n")
    done = choreo("retarget", material, "-o", "clips", "--jobs", "2")
    assert done.returncode == ExitCode.PARTIAL
    assert b"left out cut.bvh" in done.stderr and manifest.decode(done.stdout).entries[0]["path"] == "clip0.npz"
    listed = [json.loads(x) for x in (tmp_path / "clips" / "left_out.jsonl").read_text().splitlines()]
    assert [x["source"] for x in listed] == ["cut.bvh"]
    again = choreo("retarget", material, "-o", "clips")
    assert again.returncode == ExitCode.PARTIAL  # done before, and still incomplete
    assert choreo("retarget", material, "-o", "clips", "--keep-going").returncode == 0


def test_one_broken_file_writes_nothing(choreo, tmp_path):
    (tmp_path / "cut.bvh").write_text("HIERARCHY\nROOT hips\n{\n")
    assert "no MOTION section" in one_line(choreo("retarget", "cut.bvh", "-o", "clips"), ExitCode.DATA)
    assert not list((tmp_path / "clips").glob("*.npz")) and not (tmp_path / "clips" / "motions.json").exists()


def test_results_never_take_the_place_of_what_is_read(choreo, material, tmp_path):
    before = (material / "clip0.npz").read_bytes()
    assert "would replace" in one_line(choreo("retarget", material, "-o", material), ExitCode.USAGE)
    assert (material / "clip0.npz").read_bytes() == before and not (material / "motions.json").exists()
    assert choreo("retarget", material, "-o", "clips", "-q").returncode == 0
    kept = {p.name: p.read_bytes() for p in (tmp_path / "clips").iterdir()}
    for args in (
        ["retarget", "clips", "--mirror"],
        ["retarget", "clips", "--to", "bvh"],
        ["capture", "clean", "clips"],
    ):
        done = choreo(*args, "-o", "clips")
        assert done.returncode == ExitCode.USAGE and b"would replace" in done.stderr, done.stderr
    assert {p.name: p.read_bytes() for p in (tmp_path / "clips").iterdir()} == kept
    assert choreo("retarget", material, "--to", "bvh", "-o", material, "-q").returncode == 0  # other names: beside


def test_what_was_written_is_whole_and_opens_as_a_folder(choreo, material):
    (material / "odd.bvh").write_text("HIERARCHY\nROOT hips\n{\n")
    assert choreo("retarget", material, "-o", "clips", "-q").returncode == ExitCode.PARTIAL
    done = choreo("check", "clips")
    assert (done.returncode, done.stdout) == (0, b""), done.stdout
    assert b"choreo.motions/1" in choreo("inspect", "clips", "--table").stdout


def test_a_fault_names_the_file_and_what_is_odd_in_it(choreo, material, tmp_path):
    np.savez(tmp_path / "one.npz", joints=dance()[:1], fps=30.0)
    assert (
        "1 frame" in (text := one_line(choreo("retarget", "one.npz", "-o", "o"), ExitCode.DATA)) and "one.npz" in text
    )
    assert choreo("retarget", material / "clip0.npz", "--to", "bvh", "-o", "b", "-q").returncode == 0
    lines = (tmp_path / "b" / "clip0.bvh").read_text().splitlines()
    at = next(k for k, line in enumerate(lines) if line.startswith("Frame Time"))
    lines[at] = "Frame Time: 0"
    (tmp_path / "zero.bvh").write_text("\n".join(lines) + "\n")
    text = one_line(choreo("retarget", "zero.bvh", "-o", "o"), ExitCode.DATA)
    assert f"Frame Time 0 (line {at + 1})" in text and "--fps" in text and "zero.bvh" in text


def test_names_that_nobody_knows_are_answered_with_a_map(choreo, tmp_path):
    lines = ["HIERARCHY", "ROOT A1", "{", "OFFSET 0 0 0", "CHANNELS 3 Xposition Yposition Zposition"]
    lines += [
        "JOINT kneeL",
        "{",
        "OFFSET 0 10 0",
        "CHANNELS 1 Xrotation",
        "End Site",
        "{",
        "OFFSET 0 1 0",
        "}",
        "}",
        "}",
    ]
    lines += ["MOTION", "Frames: 2", "Frame Time: .0333333", "0 0 0 0", "0 0 1 0"]
    (tmp_path / "odd.bvh").write_text("\n".join(lines) + "\n")
    text = one_line(choreo("retarget", "odd.bvh", "-o", "clips"), ExitCode.DATA)
    assert "joints are known among A1, kneeL" in text and "--map FILE" in text and "kneeL: l_knee" in text


@pytest.mark.parametrize(
    "args,code,words",
    [
        (("nowhere",), ExitCode.NOINPUT, "no file or folder nowhere"),
        (("in", "--to", "fbx"), ExitCode.USAGE, "no layout 'fbx'"),
        (("in", "--height", "17"), ExitCode.USAGE, "--height 17"),
        (("in", "--scale", "1", "--height", "1.7"), ExitCode.USAGE, "exclude each other"),
        (("in", "--target", "x", "--to", "bvh"), ExitCode.USAGE, "--target does not apply"),
        (("in", "--map", "x"), ExitCode.NOINPUT, "--map: no file x"),
    ],
)
def test_faults_are_one_line(choreo, material, args, code, words):
    assert words in one_line(choreo("retarget", *args, "-o", "clips"), code)


def test_manifests_arrive_by_pipe_and_carry_what_they_know(choreo, tmp_path):
    clips = tmp_path / "clips"
    clips.mkdir()
    clip = encode(dance(), 30.0, licence="CC0-1.0")
    sha = motion_npz.write(clips / "a.npz", clip)
    assert choreo("retarget", clips / "a.npz", "-o", "one", "-q").returncode == 0
    doc = manifest.decode((tmp_path / "one" / "motions.json").read_bytes())
    assert doc.entries[0]["licence"] == "CC0-1.0" and doc.entries[0]["source_sha256"] == sha
    doc.entries[0] |= {"performer": "anna", "split": "test", "captions": ["a step"], "synthetic": True}
    piped = manifest.encode(doc)
    done = choreo("retarget", "-", "-o", "two", "--to", "joints", "-q", input=piped)
    assert done.returncode == 0, done.stderr
    entry = manifest.decode(done.stdout).entries[0]
    assert (entry["performer"], entry["split"], entry["captions"], entry["synthetic"]) == (
        "anna",
        "test",
        ["a step"],
        True,
    )
    assert entry["licence"] == "CC0-1.0" and entry["source"] == "a.npz"
    (tmp_path / "one" / "a.npz").write_bytes(b"other")
    assert "changed since it was listed" in one_line(choreo("retarget", "-", "-o", "three", input=piped), ExitCode.DATA)


def test_an_inventory_is_read_and_synthetic_stays_synthetic(choreo, tmp_path):
    done = choreo("synth", "sessions", "--sessions", "1", "--minutes", "0.1", "-o", "demo")
    assert done.returncode == 0, done.stderr
    inventory = choreo("discover", "demo")
    done = choreo("retarget", "-", "-o", "clips", "-q", input=inventory.stdout)
    assert done.returncode == 0, done.stderr
    entries = manifest.decode(done.stdout).entries
    assert len(entries) == 1 and entries[0]["synthetic"] is True and entries[0]["source"].endswith("poses.jsonl")


def test_help_needs_no_heavy_library(choreo):
    done = choreo("retarget", "--help")
    assert done.returncode == 0 and b"motions.json" in done.stdout
    code = "import sys; import commands.retarget; sys.exit(bool({'numpy', 'scipy', 'torch'} & set(sys.modules)))"
    import subprocess

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
