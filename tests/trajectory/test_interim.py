"""Results of runs that are not finished: from the log alone, every quarter of an hour, a small file each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from choreo_cli.trajectory import interim, parallel_job
from choreo_cli.trajectory.branches import Branch
from choreo_cli.trajectory.parallel import Task
from choreo_cli.trajectory.video_config import VideoConfig
from formats import manifest


def log(folder: Path, *records: dict[str, Any], torn: str = "") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "log.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records) + torn)


FIRST = {"kind": "validation", "step": 60, "epoch": 1.0, "loss": 0.9, "accuracy": 0.5, "mae_pct": 20.0, "best": True}
LAST = {"kind": "validation", "step": 120, "epoch": 2.0, "loss": 0.5, "accuracy": 0.75, "mae_pct": None, "best": True}


def test_the_last_validation_is_told_and_what_it_cost(tmp_path: Path) -> None:
    log(tmp_path / "run", FIRST, {"kind": "step", "step": 70, "loss": 1.0}, torn='{"kind": "valid')
    found = {e["name"]: e for e in interim.latest(tmp_path / "run", 12.5, 2)}
    assert {k: e["value"] for k, e in found.items()} == {
        "video.val.loss": 0.9, "video.val.accuracy": 0.5, "video.val.mae_pct": 20.0, "video.train.cpu_s": 12.5,
    }  # fmt: skip
    assert found["video.val.accuracy"]["chance"] == 0.25
    assert found["video.val.accuracy"]["params"] == {"step": 60, "epoch": 1.0, "split": "val"}
    assert found["video.train.cpu_s"]["params"] == {"starts": 2}
    log(tmp_path / "run", FIRST, LAST)  # a figure that was not finite is left out
    assert [e["name"] for e in interim.latest(tmp_path / "run", 0, 1)] == [
        "video.val.loss", "video.val.accuracy", "video.train.cpu_s"
    ]  # fmt: skip
    assert [e["name"] for e in interim.latest(tmp_path / "nowhere", 0, 1)] == ["video.train.cpu_s"]


def test_files_are_metrics_named_by_the_time(tmp_path: Path) -> None:
    path = interim.write(tmp_path / "results", interim.latest(tmp_path, 1.0, 1), 1_700_000_000)
    assert path.name == "20231114T221320Z.json"
    assert manifest.decode(path.read_bytes()).schema == "choreo.metrics/1"


def test_running_branches_are_told_every_quarter_of_an_hour(tmp_path: Path) -> None:
    now = [1000.0]
    branch = Branch(name="one", about="", train=VideoConfig())
    wish = parallel_job.Wish(tmp_path, "", [branch], [0], tmp_path, ["cpu"], 1, (), (), tmp_path)
    tasks = [Task("one/seed-0", (), tmp_path / "log", state="running"), Task("one/seed-1", (), tmp_path / "log")]
    said: list[str] = []
    watch = parallel_job.Watch(
        wish, tasks, parallel_job.Listeners([], said.append, lambda *a: said.append(str(a[2]))), clock=lambda: now[0]
    )
    log(tmp_path / "one" / "seed-0", FIRST)
    counts = []
    for _ in range(7):
        watch.tick()
        counts.append(len(list((tmp_path / "results").rglob("*.json"))))
        for file in (tmp_path / "results").rglob("*.json"):
            file.rename(file.with_name(f"at-{now[0]:.0f}-{file.name}"))
        now[0] += 300
    assert counts == [0, 0, 0, 1, 1, 1, 2]
    assert not (tmp_path / "results" / "one" / "seed-1").exists()
    assert said == ["1 running, 1 waiting"]
