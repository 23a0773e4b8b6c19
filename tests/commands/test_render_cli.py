"""`choreo render motion`: what appears, what is told, what is refused with which exit code."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from formats import manifest
from tests.motion.test_video import clip_file, motions, wav

SMALL = ("--size", "96", "--engine", "numpy")
STILL = (*SMALL, "--make", "sheet")


def videos(folder: Path) -> manifest.Manifest:
    path = folder / "videos.json"
    return manifest.decode(path.read_bytes(), source=str(path), file=path)


def test_a_film_with_its_music(choreo, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    pytest.importorskip("av", reason="PyAV is not installed: pip install 'choreo[video]'")
    clip_file(tmp_path / "a.npz", 60), wav(tmp_path / "m.wav", 4.0)
    done = choreo("render", "motion", "a.npz", "--music", "m.wav", *SMALL, "-o", "out")
    assert done.returncode == 0, done.stderr
    assert done.stdout == (tmp_path / "out" / "videos.json").read_bytes()
    found = videos(tmp_path / "out")
    (entry,) = found.entries
    assert entry["path"] == "a.mp4" and entry["n_frames"] == 60 and entry["n_beats"] >= 3 and entry["music"] == "m.wav"
    assert [o["role"] for o in found.created_by["outputs"]] == ["mp4", "sheet"]
    again = choreo("render", "motion", "a.npz", "--music", "m.wav", *SMALL, "-o", "out", "--table")
    assert again.returncode == 0 and b"already in out" in again.stdout and b"96x96" in again.stdout
    assert choreo("check", "out").returncode == 0


def test_a_run_that_fails_leaves_the_one_before(choreo, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    clip_file(tmp_path / "a.npz", 8)
    assert choreo("render", "motion", "a.npz", *STILL, "-o", "out").returncode == 0
    before = videos(tmp_path / "out")
    (tmp_path / "mute.wav").write_bytes(b"no sound")
    assert choreo("render", "motion", "a.npz", *STILL, "--music", "mute.wav", "-o", "out").returncode == 65
    assert videos(tmp_path / "out") == before and choreo("check", "out").returncode == 0


def test_a_manifest_by_pipe_in_processes(choreo, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    folder = tmp_path / "clips"
    folder.mkdir()
    path = motions(folder, [clip_file(folder / f"{n}.npz", 8, seed=k) for k, n in enumerate("ab")])
    done = choreo("render", "motion", *STILL, "-j", "2", "-o", "out", input=path.read_bytes())
    assert done.returncode == 0, done.stderr
    assert [e["source"] for e in videos(tmp_path / "out").entries] == ["a.npz", "b.npz"]
    one = choreo("render", "motion", "clips", *STILL, "-o", "one")
    assert (
        one.returncode == 0
        and (tmp_path / "one" / "b.sheet.png").read_bytes() == (tmp_path / "out" / "b.sheet.png").read_bytes()
    )
    assert videos(tmp_path / "one").sha256 == videos(tmp_path / "out").sha256


def test_one_bad_clip_of_two_is_left_out(choreo, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    good = clip_file(tmp_path / "a.npz", 8)
    (tmp_path / "b.npz").write_bytes(good.read_bytes()[:500])
    done = choreo("render", "motion", "a.npz", "b.npz", *STILL, "-o", "out")
    assert done.returncode == 3 and b"b.npz is left out: " in done.stderr
    assert [e["source"] for e in videos(tmp_path / "out").entries] == ["a.npz"]
    assert (
        choreo("render", "motion", "a.npz", "b.npz", *STILL, "-o", "out").returncode == 3
    )  # already done, still partial
    assert choreo("render", "motion", "a.npz", "b.npz", *STILL, "--keep-going", "-o", "out").returncode == 0


def test_side_by_side_with_figures_of_evaluate(choreo, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    from formats.metrics import entry

    clip_file(tmp_path / "a.npz", 10), clip_file(tmp_path / "b.npz", 10, seed=1)
    doc = manifest.Manifest("choreo.metrics/1", {}, [entry("motion.beats", 0.5, "1", "higher")])
    (tmp_path / "metrics.json").write_bytes(manifest.encode(doc))
    done = choreo(
        "render",
        "motion",
        "a.npz",
        "--reference",
        "b.npz",
        "--metrics",
        "metrics.json",
        *SMALL,
        "--make",
        "player",
        "-o",
        "out",
    )
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "out" / "a.html").read_text()
    assert '"motion.beats"' in page and '"reference"' in page
    assert videos(tmp_path / "out").entries[0]["width"] == 192


@pytest.mark.parametrize(
    "args,code,words",
    [
        (["gone.npz", *STILL], 66, "no file gone.npz"),
        (["a.npz", *SMALL, "--make", "gif"], 2, "--make 'gif' is none of mp4, sheet"),
        (["a.npz", *SMALL, "--make", ","], 2, "--make names nothing"),
        (["a.npz", *STILL, "--view", "below"], 2, "--view 'below' is none of front, side"),
        (["a.npz", *STILL, "--size", "97"], 2, "needs even numbers in 64..4096"),
        (["a.npz", *STILL, "--size", "9x9x9"], 2, "is not N or WxH"),
        (["a.npz", *STILL, "--start", "nan"], 2, "not a finite number"),
        (["a.npz", *STILL, "--start", "50"], 65, "before --start 50"),
        (["a.npz", *STILL, "--music", "gone.wav"], 66, "no file gone.wav"),
        (["a.npz", *STILL, "--beats", "gone.txt"], 66, "no file gone.txt"),
        (["a.npz", *STILL, "--reference", "gone.npz"], 66, "no file gone.npz"),
        (["words.txt", *STILL], 65, "holds no motion"),
        (["videos.json", *STILL], 65, "need choreo.motions/1"),
        (["empty", *STILL], 65, "no motion to draw"),
    ],
)  # fmt: skip
def test_what_is_refused(choreo, tmp_path: Path, args: list[str], code: int, words: str) -> None:  # type: ignore[no-untyped-def]
    clip_file(tmp_path / "a.npz", 8)
    (tmp_path / "words.txt").write_text("these are words\n" * 30)
    (tmp_path / "empty").mkdir()
    (tmp_path / "videos.json").write_bytes(manifest.encode(manifest.Manifest("choreo.videos/1", {}, [])))
    done = choreo("render", "motion", *args, "-o", "out")
    text = done.stderr.decode()
    assert done.returncode == code and words in text, text
    assert text.startswith("choreo render motion: ") and len(text.splitlines()) == 1
    left = [p.name for p in (tmp_path / "out").iterdir()] if (tmp_path / "out").exists() else []
    assert set(left) <= {".choreo.lock"}


def test_nothing_to_read_and_nowhere_to_write(choreo, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    clip_file(tmp_path / "a.npz", 8)
    assert choreo("render", "motion", *STILL, "-o", "out").returncode == 65  # an empty pipe
    assert choreo("render", "motion", "a.npz", *STILL).returncode == 2
    (tmp_path / "file").write_text("")
    assert choreo("render", "motion", "a.npz", *STILL, "-o", "file").returncode == 73


def test_inspect_and_check_know_videos(choreo, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    clip_file(tmp_path / "a.npz", 8)
    assert choreo("render", "motion", "a.npz", *STILL, "-o", "out").returncode == 0
    seen = choreo("inspect", "out/videos.json", "--lines")
    assert seen.returncode == 0 and json.loads(seen.stdout.splitlines()[0])["source"] == "a.npz"
    shutil.copytree(tmp_path / "out", tmp_path / "moved")
    picture = tmp_path / "moved" / "a.sheet.png"
    picture.write_bytes(picture.read_bytes()[:-40])
    assert choreo("check", "moved").returncode == 1
