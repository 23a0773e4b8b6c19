"""`render trajectories`, `evaluate video`, `report --compare`: files, exit codes, and what is refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from choreo_cli.trajectory.sets import TrajectorySet
from formats import manifest, sealed
from tests.trajectory.compare_material import make_branch, make_run
from tests.trajectory.small_sets import make_set


@pytest.fixture(scope="module")
def of(tmp_path_factory: pytest.TempPathFactory) -> TrajectorySet:
    return make_set(tmp_path_factory.mktemp("lab") / "set")


def test_pictures_then_a_stored_set_that_is_checked(choreo, of: TrajectorySet, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    document = (of.folder / "trajectories.json").read_bytes()
    done = choreo("render", "trajectories", "-", "--preview", "2", "-o", "seen", input=document)
    assert done.returncode == 0, done.stderr
    assert done.stdout == (tmp_path / "seen" / "videos.json").read_bytes()
    assert sorted(p.name for p in (tmp_path / "seen").iterdir() if p.suffix == ".png") == ["preview.png", "sheet.png"]
    how = ("--rows", "3", "--cameras", "0.3:0.4,2.4:0.5", "--materialize", "parquet", "--preview", "1")
    done = choreo("render", "trajectories", of.folder, *how, "-o", "stored", "--table")
    assert done.returncode == 0 and b"pixels-test-00" in done.stdout, done.stderr
    found = manifest.decode((tmp_path / "stored" / "trajectories.json").read_bytes())
    assert {e["id"]: e["rows"] for e in found.entries} == {"curves": 64, "views-test": 6, "pixels-test-00": 6}
    again = choreo("render", "trajectories", of.folder, *how, "-o", "stored", "--table")
    assert again.returncode == 0 and b"already in stored" in again.stdout
    assert choreo("check", "stored", "seen").returncode == 0


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        (("render", "trajectories", "SET", "-o", "SET"), 2, b"is the set itself"),
        (("evaluate", "video", "RUNS", "--split", "train"), 2, b"models learn from it"),
        (("report", "--compare", "RUNS", "--fail-if-worse", "-o", "x"), 2, b"--compare goes with neither"),
    ],
)
def test_wrong_requests_end_in_one_line_and_leave_nothing(
    choreo, of: TrajectorySet, tmp_path: Path, line: tuple[str, ...], code: int, said: bytes
) -> None:  # type: ignore[no-untyped-def]
    known = {"SET": str(of.folder), "RUNS": str(tmp_path / "runs")}
    done = choreo(*(known.get(w, w) for w in line))
    assert done.returncode == code and said in done.stderr and done.stderr.count(b"\n") == 1, done.stderr
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("text", ["1:9", "a", "1:2:3", "0.1:nan", ",", "-3"])
def test_cameras_that_are_none(text: str) -> None:
    from choreo_cli.errors import UsageError
    from commands.render_trajectories import sides

    with pytest.raises(UsageError, match="--cameras"):
        sides(text)
    assert sides("4") == ((), 4) and sides("0.3:0.4") == (((0.3, 0.4),), 1)


def test_a_gate_that_fails_and_a_comparison_that_is_incomplete(choreo, of: TrajectorySet, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    make_branch(tmp_path / "runs", of, "branch0", seeds=2, right=0.6)
    make_run(tmp_path / "runs", of, "seer", 0, right=1.0, off=0.01)
    done = choreo("evaluate", "video", "runs", "--goal", "accuracy=0.97", "--draws", "99", "-o", "m.json")
    assert done.returncode == 1 and b"video.accuracy fails" in done.stderr, done.stderr
    entries = manifest.decode((tmp_path / "m.json").read_bytes()).entries
    judged = {e["params"]["branch"]: e["pass"] for e in entries if e["name"] == "video.accuracy"}
    assert judged == {"branch0": False, "seer": True}
    done = choreo("report", "--compare", "runs", "--json")  # with -o it is run by the README's session
    assert done.returncode == 3, done.stderr
    document = sealed.parse(done.stdout)
    assert document["verdict"]["word"] == "INCOMPLETE" and "seer has 1 of 3 seeds" in document["missing"]
