"""`choreo evaluate` as a user meets it: verdicts, exit codes, pipes, and one line for each thing that is wrong."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from judged_run import dataset, mapper_run

from choreo_cli.dataset.frameset import FrameSet, read_frames
from choreo_cli.errors import ExitCode
from choreo_cli.metrics import evaluate as work
from formats import manifest
from formats.columns import PREFERENCES
from formats.errors import FormatError
from formats.metrics import entry

GATES = ("phase_coherence", "energy_correlation", "drift_stability", "drift_stability.ppm_bound")
Choreo = Callable[..., Any]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("evaluate")
    frames = dataset(top / "data", bpm=(92.0, 120.0))
    dataset(top / "others", bpm=(97.0, 113.0), seed=70)
    mapper_run(top / "run", frames)
    return top


def entries(stdout: bytes) -> dict[str, dict[str, Any]]:
    found = manifest.decode(stdout)
    assert found.schema == "choreo.metrics/1"
    return {e["name"].removeprefix("groove."): e for e in found.entries if "session" not in e["params"]}


def one_line(done: Any, code: int, command: str = "evaluate groove") -> str:
    text: str = done.stderr.decode()
    assert done.returncode == code and done.stdout == b"", (done.returncode, text)
    assert text.count("\n") == 1 and text.startswith(f"choreo {command}: "), text
    return text


def test_a_good_mapper_passes(choreo: Choreo, shop: Path) -> None:
    done = choreo("evaluate", "groove", shop / "run")
    assert done.returncode == ExitCode.OK, done.stderr
    found = entries(done.stdout)
    assert [found[g]["pass"] for g in GATES] == [True] * 4
    assert found["phase_coherence"]["params"]["run"] == "0123456789ab"
    made_by = manifest.decode(done.stdout).created_by
    assert made_by["command"] == "evaluate groove" and made_by["seed"] == 0
    roles = [i["role"] for i in made_by["inputs"]]
    assert roles == ["mapper", "controls", "controls", "frames"]
    assert all(len(i["sha256"]) == 64 for i in made_by["inputs"])


def test_pipe_file_and_folder_are_the_same_bytes(choreo: Choreo, shop: Path, tmp_path: Path) -> None:
    folder = choreo("evaluate", "groove", shop / "run").stdout
    file = choreo("evaluate", "groove", shop / "run" / "run.json").stdout
    piped = choreo("evaluate", "groove", "-", input=(shop / "run" / "run.json").read_bytes()).stdout
    kept = choreo("evaluate", "groove", shop / "run", "-o", tmp_path / "g.json")
    assert folder == file == piped == (tmp_path / "g.json").read_bytes() and kept.stdout == b""


def test_controls_without_a_run_give_the_same_figures(choreo: Choreo, shop: Path) -> None:
    run = entries(choreo("evaluate", "groove", shop / "run").stdout)
    done = choreo("evaluate", "groove", "--controls", shop / "run" / "controls", "--frames", shop / "data")
    assert done.returncode == ExitCode.OK, done.stderr
    assert {k: e["value"] for k, e in entries(done.stdout).items()} == {k: e["value"] for k, e in run.items()}


def test_the_negative_control_fails_every_gate(choreo: Choreo, shop: Path) -> None:
    done = choreo("evaluate", "groove", shop / "run", "--against", shop / "others")
    assert done.returncode == ExitCode.NO
    found = entries(done.stdout)
    assert [found[g]["pass"] for g in GATES] == [False] * 4
    assert all(e["params"]["decoupled"] is True for e in found.values())
    assert manifest.decode(done.stdout).created_by["params"]["decoupled"] is True
    assert done.stderr.decode().count(" fails: ") == 4
    assert choreo("evaluate", "groove", shop / "run", "--against", shop / "others", "--no-gate").returncode == 0


def test_a_control_set_at_the_same_tempo_is_remarked_on(choreo: Choreo, shop: Path, tmp_path: Path) -> None:
    dataset(tmp_path / "same", bpm=(92.0, 120.0), seed=71)
    done = choreo("evaluate", "groove", shop / "run", "--against", tmp_path / "same")
    assert b"run at one tempo: drift cannot fail" in done.stderr


def test_the_table_fits_and_names_figure_and_verdict(choreo: Choreo, shop: Path) -> None:
    done = choreo("evaluate", "groove", shop / "run", "--table", env={"COLUMNS": "100"})
    lines = done.stdout.decode().splitlines()
    assert lines[0].split() == ["figure", "value", "interval", "chance", "p", "goal", "verdict"]
    assert max(map(len, lines)) <= 100 and lines[1].startswith("groove.phase_coherence") and lines[1].endswith("pass")
    assert lines[-1] == "keep it with -o FILE, or pipe it on: choreo report -"


def test_a_moved_run_and_moved_data_are_found_by_root(choreo: Choreo, shop: Path, tmp_path: Path) -> None:
    shutil.copytree(shop / "run", tmp_path / "run")
    shutil.copytree(shop / "data", tmp_path / "data")
    shutil.copytree(shop / "run", tmp_path / "lost")
    doc = manifest.decode((tmp_path / "lost" / "run.json").read_bytes())
    doc.roots[1] = manifest.Root("data", str(tmp_path / "nowhere"))
    (tmp_path / "lost" / "run.json").write_bytes(manifest.encode(doc))
    text = one_line(choreo("evaluate", "groove", tmp_path / "lost"), ExitCode.NOINPUT)
    assert f"no folder {tmp_path / 'nowhere'}" in text and "--root data=DIR" in text
    assert choreo("evaluate", "groove", tmp_path / "lost", "--root", f"data={tmp_path / 'data'}").returncode == 0
    text = one_line(choreo("evaluate", "groove", tmp_path / "run", "--root", f"data={shop / 'others'}"), ExitCode.DATA)
    assert "not the frames that the run was trained on" in text


def test_nothing_held_out_is_said_and_not_judged(choreo: Choreo, shop: Path, tmp_path: Path) -> None:
    frames = read_frames(shop / "data")
    alone = replace(frames, sessions=tuple(replace(s, split="train") for s in frames.sessions))
    run = mapper_run(tmp_path / "run", alone)
    done = choreo("evaluate", "groove", run)
    assert done.returncode == ExitCode.OK and b"phase_coherence is not judged: no session is held out" in done.stderr
    found = entries(done.stdout)
    assert {(found[g]["pass"], found[g]["status"], found[g]["why"]) for g in GATES} == {
        (None, "insufficient", "no session is held out")
    }


def test_what_is_wrong_is_one_line(choreo: Choreo, shop: Path, tmp_path: Path) -> None:
    other = mapper_run(tmp_path / "rps", read_frames(shop / "data"), recipe="rps")
    assert "a run of rps has no controls" in one_line(choreo("evaluate", "groove", other), ExitCode.USAGE)
    bare = mapper_run(tmp_path / "bare", read_frames(shop / "data"))
    doc = manifest.decode((bare / "run.json").read_bytes())
    doc.entries[0]["files"] = {}
    (bare / "run.json").write_bytes(manifest.encode(doc))
    assert "no controls in" in one_line(choreo("evaluate", "groove", bare), ExitCode.NOINPUT)
    text = one_line(choreo("evaluate", "model", shop / "data" / "sessions.json"), ExitCode.DATA, "evaluate model")
    assert "choreo.sessions/1, need choreo.run/1 (" in text or "need choreo.run/1: did you mean: choreo train?" in text
    assert "no run.json in" in one_line(choreo("evaluate", "model", shop / "data"), ExitCode.NOINPUT, "evaluate model")
    for sessions in (shop / "data", shop / "data" / "sessions.json"):
        assert "sessions without controls" in one_line(choreo("evaluate", "groove", sessions), ExitCode.DATA)
    assert "no manifest arrived" in one_line(choreo("evaluate", "groove", "-", input=b""), ExitCode.DATA)
    frames = ("--frames", shop / "others")
    controls = ("--controls", shop / "run" / "controls")
    assert "no file" in one_line(choreo("evaluate", "groove", tmp_path / "x.json"), ExitCode.NOINPUT)
    assert "--frames DATA" in one_line(choreo("evaluate", "groove", *controls), ExitCode.USAGE)
    assert "stands in place of RUN" in one_line(choreo("evaluate", "groove", shop / "run", *frames), ExitCode.USAGE)
    empty = tmp_path / "empty"
    empty.mkdir()
    text = one_line(choreo("evaluate", "groove", "--controls", empty, *frames), ExitCode.NOINPUT)
    assert "no *_controls.parquet" in text


def test_controls_that_were_changed_are_refused(choreo: Choreo, shop: Path, tmp_path: Path) -> None:
    shutil.copytree(shop / "run", tmp_path / "run")
    file = next((tmp_path / "run" / "controls").iterdir())
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    assert "not the controls that the run wrote" in one_line(choreo("evaluate", "groove", tmp_path / "run"), 65)


def test_sessions_of_another_set_are_named(choreo: Choreo, shop: Path, tmp_path: Path) -> None:
    dataset(tmp_path / "few", sessions=1)
    controls = ("--controls", shop / "run" / "controls")
    text = one_line(choreo("evaluate", "groove", *controls, "--frames", tmp_path / "few"), ExitCode.DATA)
    assert "has controls but no frames" in text
    text = one_line(choreo("evaluate", "groove", *controls, "--against", tmp_path / "few"), ExitCode.DATA)
    assert "2 controls, but 1 sessions" in text


def test_beat_files_are_scored(choreo: Choreo, tmp_path: Path) -> None:
    ref, est = tmp_path / "ref.beats", tmp_path / "est.beats"
    ref.write_text("".join(f"{0.5 * k:.3f}\n" for k in range(1, 80)))
    est.write_text("".join(f"{0.5 * k + 0.02:.3f}\n" for k in range(1, 80)))
    done = choreo("evaluate", "beats", est, ref)
    found = {e["name"]: e for e in manifest.decode(done.stdout).entries}
    assert done.returncode == ExitCode.OK and found["beats.f_measure"]["value"] == 1.0
    assert found["beats.cemgil"]["value"] == pytest.approx(np.exp(-0.125))
    est.write_text("0.5\n1.0\n")
    short = manifest.decode(choreo("evaluate", "beats", est, ref).stdout).entries
    assert {e["status"] for e in short} == {"insufficient"}
    assert "no file" in one_line(choreo("evaluate", "beats", tmp_path / "a", ref), ExitCode.NOINPUT, "evaluate beats")


def test_a_model_is_judged_by_its_own_lane(shop: Path) -> None:
    """Seeds together, another corpus all held out; the lane is a stand-in."""
    runs = work.runs_in([manifest.decode((shop / "run" / "run.json").read_bytes(), file=shop / "run" / "run.json")], {})
    seen: list[list[str]] = []

    def score(folder: Path, frames: FrameSet, roots: dict[str, str]) -> list[dict[str, Any]]:
        assert roots == {"rps": "elsewhere"}
        seen.append([s.split for s in frames.sessions])
        return [entry("m.r2", 0.9, "1", "higher", goal=(">=", 0.85))]

    runs = [replace(r, roots={"rps": "elsewhere"}) for r in runs]
    own = work.evaluate_model(runs, lambda recipe: score, None)
    other = work.evaluate_model(runs, lambda recipe: score, work.other_corpus(shop / "others"))
    assert seen == [["train", "train", "val", "test"], ["test"] * 4]
    assert own.entries[0]["params"]["run"] == "0123456789ab" and "on" in other.entries[0]["params"]
    assert [i["role"] for i in own.inputs] == ["mapper", "frames"] and own.inputs[1] != other.inputs[1]
    with pytest.raises(Exception, match="named twice"):
        work.runs_in([runs[0].manifest, runs[0].manifest], {})


def test_a_reward_is_judged_on_its_answers(shop: Path, tmp_path: Path) -> None:
    """The lane is a stand-in; it gets the file, which has to be the one that the run names."""
    run = work.runs_in([manifest.decode((shop / "run" / "run.json").read_bytes(), file=shop / "run" / "run.json")], {})
    answers = tmp_path / "preferences.parquet"
    answers.write_bytes(b"answers")
    data = {
        "schema": PREFERENCES.schema, "sha256": hashlib.sha256(b"answers").hexdigest(), "root": "data",
        "path": answers.name,
    }  # fmt: skip
    run = [replace(run[0], entry={**run[0].entry, "recipe": "reward", "data": data}, roots={"data": str(tmp_path)})]

    def score(folder: Path, file: Path, roots: dict[str, str]) -> list[dict[str, Any]]:
        assert file == answers
        return [entry("reward.auc", 0.9, "1", "higher", goal=(">=", 0.75))]

    found = work.evaluate_model(run, lambda recipe: score, None)
    assert [i["role"] for i in found.inputs] == ["reward", "preferences"] and found.entries[0]["pass"] is True
    answers.write_bytes(b"others")
    with pytest.raises(FormatError, match="not the answers that the run was trained on"):
        work.evaluate_model(run, lambda recipe: score, None)


def test_normalizer_needs_paired_mappers(choreo: Choreo, shop: Path) -> None:
    done = choreo("evaluate", "normalizer", shop / "run", shop / "run")
    assert "has no held-out loss" in one_line(done, ExitCode.DATA, "evaluate normalizer")


def test_help_names_every_part(choreo: Choreo) -> None:
    text = choreo("evaluate", "--help").stdout.decode()
    assert all(word in text for word in ("groove", "model", "normalizer", "beats"))
