"""`choreo train video --branch` in real processes: signals, kills, the same bits, what status says, and errors."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from choreo_cli.errors import ChoreoError, ExitCode
from formats import manifest
from formats import status as heartbeat

torch = pytest.importorskip("torch")
TOP = Path(__file__).resolve().parents[2]
SAME = ("model.safetensors", "model.json", "metrics.json", "log.jsonl", "predictions.parquet")
QUICK = "{encoder: moments, pool: 4, batch: 16, warmup: 0, epochs: 160, validate_every: 40, checkpoint_epochs: 20}"
TINY = "{encoder: strided, width: 2, batch: 8, warmup: 0, epochs: 16, validate_every: 8, checkpoint_epochs: 2}"
Words = list[str]


def branch(folder: Path, name: str, train: str) -> Path:
    file = folder / f"{name}.yaml"
    file.write_text(f"name: {name}\nabout: for a test\ntrain: {train}\n")
    return file


@pytest.fixture(scope="module")
def curves(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen curves to train on, four to validate, twelve to judge."""
    folder = tmp_path_factory.mktemp("lab") / "set"
    words = ["synth", "trajectories", "--num", "20", "--test", "12", "--grid", "0", "--seed", "3", "-o", str(folder)]
    done = subprocess.run(
        [sys.executable, "-m", "choreo_cli", *words], capture_output=True, env=surroundings(), timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder


def surroundings() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(TOP)}


def begin(words: Words) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "choreo_cli", "train", "video", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=surroundings(),
    )  # fmt: skip


def wait_for_states(p: subprocess.Popen[bytes], *runs: Path, after: int = 0) -> None:
    """Until each run has written a checkpoint later than step `after`."""
    deadline = time.monotonic() + 240
    while any(last_state(run) <= after for run in runs):
        assert p.poll() is None, p.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def last_state(run: Path) -> int:
    return max([int(f.stem.partition("-")[2]) for f in run.glob("state/step-*.json")], default=0)


def reference(curves: Path, file: Path, seed: int, out: Path) -> Path:
    """The same training in this process, never interrupted."""
    from choreo_cli.outputs import OutputFolder
    from choreo_cli.training import job
    from choreo_cli.training.recipe import Job
    from choreo_cli.trajectory import video_recipe_torch
    from choreo_cli.trajectory.branches import read_branch

    source = curves / "trajectories.json"
    asked = Job(curves, manifest.decode(source.read_bytes(), file=source), read_branch(file).train, seed)
    opened = job.open_job(job.Asked("video", video_recipe_torch, asked))
    out.mkdir()
    job.run(opened, OutputFolder(out, "run", opened.created_by), job.Around())
    return out


def kill_and_compare(p: subprocess.Popen[bytes], curves: Path, files: list[Path], out: Path, after: list[int]) -> None:
    """Kill every child of a training with SIGKILL at a random moment; it ends with the bits of one that was let be."""
    runs = [out / file.stem / "seed-0" for file in files]
    for run, state in zip(runs, after, strict=True):
        wait_for_states(p, run, after=state)
    time.sleep(random.Random().uniform(0, 0.2))
    killed = 0
    for run in runs:
        with contextlib.suppress(ProcessLookupError):
            os.kill(heartbeat.read(run / "status.json").pid, signal.SIGKILL)
            killed += 1
    printed, said = p.communicate(timeout=600)
    assert p.returncode == 0, said
    assert 1 <= said.count(b"died (SIGKILL); it goes on from its checkpoint") <= killed, said
    assert printed == (out / "run.json").read_bytes()
    for file, run in zip(files, runs, strict=True):
        whole = reference(curves, file, 0, out.parent / f"whole-{file.stem}")
        assert all((run / name).read_bytes() == (whole / name).read_bytes() for name in SAME)
        assert "going on from step" in (out / "logs" / f"{file.stem}-seed-0.log").read_text()


@pytest.mark.slow
def test_a_killed_branch_ends_as_if_nothing_had_happened(curves: Path, tmp_path: Path) -> None:
    file, out = branch(tmp_path, "quick", QUICK), tmp_path / "out"
    words = [str(curves), "--device", "cpu", "--branch", str(file), "-o", str(out)]
    kill_and_compare(begin(words), curves, [file], out, [0])
    found = manifest.decode((out / "run.json").read_bytes())
    assert found.schema == "choreo.run/1"
    assert [(e["path"], e["config"]["branch"]) for e in found.entries] == [("quick/seed-0", "quick")]
    told = [manifest.decode(f.read_bytes()) for f in sorted((out / "results" / "quick").rglob("*.json"))]
    assert {"video.val.accuracy", "video.val.mae_pct", "video.train.cpu_s"} <= {e["name"] for e in told[-1].entries}
    # What it stands for is done: nothing is started a second time.
    shutil.rmtree(out / "logs")
    again = begin(words)
    assert again.communicate(timeout=60)[0] == (out / "run.json").read_bytes()
    assert not (out / "logs").exists()


@pytest.mark.slow
def test_stopped_and_killed_branches_end_as_if_nothing_had_happened(curves: Path, tmp_path: Path) -> None:
    files = [branch(tmp_path, "quick", QUICK), branch(tmp_path, "tiny", TINY)]
    out, copy = tmp_path / "out", tmp_path / "copy"
    words = [str(curves), "-q", "--device", "cpu", "--per-device", "2", "--sync", str(copy), "-o", str(out)]
    words += [word for file in files for word in ("--branch", str(file))]
    runs = [out / name / "seed-0" for name in ("quick", "tiny")]

    # SIGTERM to the parent: every child writes a checkpoint, nobody is left, and the codes are those of any command.
    p = begin(words)
    wait_for_states(p, *runs)
    pids = [heartbeat.read(run / "status.json").pid for run in runs]
    p.send_signal(signal.SIGTERM)
    _, said = p.communicate(timeout=60)
    assert (p.returncode, said) == (143, b"choreo train video: stopped by SIGTERM\n")
    assert [heartbeat.read(run / "status.json").state for run in runs] == ["stopped", "stopped"]
    assert heartbeat.read(out / "status.json").state == "stopped"
    assert not (out / "run.json").exists()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)

    # The same command goes on, and its children are killed.
    stopped = [last_state(run) for run in runs]
    kill_and_compare(begin([w for w in words if w != "-q"]), curves, files, out, stopped)
    assert (copy / "run.json").read_bytes() == (out / "run.json").read_bytes()


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_disk_that_fills_up_while_training_loses_nothing(curves: Path, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    if not hasattr(resource, "prlimit"):
        pytest.skip("limits of a running process are set on Linux alone")
    file, out = branch(tmp_path, "quick", QUICK), tmp_path / "out"
    words = [str(curves), "-q", "--device", "cpu", "--branch", str(file), "-o", str(out)]
    run = out / "quick" / "seed-0"
    p = begin(words)
    wait_for_states(p, run)
    for pid in (p.pid, heartbeat.read(run / "status.json").pid):  # what is started again inherits it from the parent
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (20_000, 20_000))
    printed, said = p.communicate(timeout=600)
    assert (p.returncode, printed, said.count(b"\n")) == (74, b"", 1), said
    assert b"1 of 1 runs did not finish: quick/seed-0: exit 74" in said and b"free some space" in said
    assert last_state(run) > 0 and not list(out.rglob("*.tmp")) and not (out / "run.json").exists()
    assert heartbeat.read(out / "status.json").state == "failed"

    again = begin(words)
    printed, said = again.communicate(timeout=600)
    assert (again.returncode, printed) == (0, (out / "run.json").read_bytes()), said
    assert "going on from step" in (out / "logs" / "quick-seed-0.log").read_text()
    whole = reference(curves, file, 0, tmp_path / "whole")
    assert all((run / name).read_bytes() == (whole / name).read_bytes() for name in SAME)


@pytest.mark.slow
@pytest.mark.parametrize("encoder", ["i3d", "slowfast", "dualpath", "strided"])
def test_every_encoder_survives_kill_9(curves: Path, tmp_path: Path, encoder: str) -> None:
    text = TINY.replace("strided", encoder).replace("width: 2", "width: 2, grid: 2, compress: true, text: hash")
    file, out = branch(tmp_path, encoder, text), tmp_path / "out"
    words = [str(curves), "--device", "cpu", "--branch", str(file), "-o", str(out)]
    kill_and_compare(begin(words), curves, [file], out, [0])


@pytest.mark.parametrize("encoder", ["moments", "strided"])
def test_a_run_cut_at_a_random_step_goes_on_with_the_same_bits(curves: Path, tmp_path: Path, encoder: str) -> None:
    from choreo_cli.training.loop import fit
    from choreo_cli.training.recipe import Job
    from choreo_cli.trajectory import video_recipe_torch as video

    config = video.Config(encoder=encoder, width=4, pool=4, batch=8, epochs=6, warmup=3)  # type: ignore[arg-type]
    source = curves / "trajectories.json"
    recipe = video.open_recipe(Job(curves, manifest.decode(source.read_bytes(), file=source), config, 1))
    whole = fit(recipe, tmp_path / "whole", identity="x", seed=1)
    cut, left = random.Random().randrange(1, whole.steps), []
    first = fit(recipe, tmp_path / "cut", identity="x", seed=1, stop=lambda: left.append(1) or len(left) > cut)
    assert first.state == "stopped"
    second = fit(recipe, tmp_path / "cut", identity="x", seed=1)
    assert second.kept == whole.kept, cut
    ours, theirs = second.model.state_dict(), whole.model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs), cut


def test_a_checkpoint_follows_every_so_many_epochs(curves: Path, tmp_path: Path) -> None:
    from choreo_cli.training.loop import fit
    from choreo_cli.training.recipe import Job
    from choreo_cli.trajectory import video_recipe_torch as video

    assert video.Config().checkpoint_epochs == 5
    config = video.Config(encoder="moments", pool=1, batch=8, epochs=7, checkpoint_epochs=3, checkpoint_s=1e6)
    source = curves / "trajectories.json"
    recipe = video.open_recipe(Job(curves, manifest.decode(source.read_bytes(), file=source), config, 0))
    kept: list[int] = []
    fit(recipe, tmp_path, identity="x", seed=0, after_checkpoint=lambda p: kept.append(int(p.stem.partition("-")[2])))
    assert kept == [6, 12, 14]  # two steps an epoch


def test_the_heartbeat_tells_the_last_validation(tmp_path: Path) -> None:
    from types import SimpleNamespace

    from choreo_cli.training.job import Around, Listeners
    from choreo_cli.training.runlog import Heartbeat

    pulse = Heartbeat(tmp_path / "status.json", "train video")
    heard = Listeners(SimpleNamespace(), pulse, Around(), [])  # type: ignore[arg-type]
    heard.log({"kind": "start", "step": 0, "steps": 20})
    heard.log({"kind": "validation", "step": 4, "epoch": 2.0, "loss": 0.9, "accuracy": 0.8125, "mae_pct": 12.345})
    heard.log({"kind": "step", "step": 5, "epoch": 2.5, "loss": 1.25})
    pulse.write()
    assert heartbeat.read(tmp_path / "status.json").step == "epoch 3/10, loss 1.25, accuracy 0.8125, mae_pct 12.35"


def test_a_run_that_is_at_work_elsewhere_is_not_started(curves: Path, tmp_path: Path) -> None:
    from formats import atomic

    out = tmp_path / "out"
    (out / "one" / "seed-0").mkdir(parents=True)
    held = atomic.lock(out / "one" / "seed-0", argv="a child of a command that was killed")
    with held, pytest.raises(atomic.Locked, match="a child of a command"):
        asked({"branch": [branch(tmp_path, "one", TINY)], "source": curves, "out": out, "quiet": True})
    assert not (out / "logs").exists()


def test_status_tells_stale_from_running_on_a_copy(choreo: Any, tmp_path: Path) -> None:
    now = int(time.time() * 1e6)
    for name, age_s in (("branch1/seed-0", 2), ("branch2/seed-0", 400)):
        (tmp_path / "copy" / name).mkdir(parents=True)
        told = heartbeat.Status("train video", "running", 1, "epoch 3/30, accuracy 0.5", 9, 90, now - age_s * 10**6)
        heartbeat.write(tmp_path / "copy" / name / "status.json", told)
    done = choreo("status", "copy", "--table")
    lines = done.stdout.decode().splitlines()
    assert done.returncode == 1
    assert lines[1].split()[:2] == ["branch1/seed-0", "running"]
    assert lines[2].split()[:2] == ["branch2/seed-0", "stale"]
    assert "accuracy 0.5" in lines[1]


def asked(given: dict[str, Any]) -> int:
    """The command in this process, with the usual values of what is not given."""
    import inspect

    from commands.train import train
    from commands.train_branches import train_branches

    usual = {name: p.default for name, p in inspect.signature(train).parameters.items()}
    return train_branches({**usual, "recipe": "video", "device": "cpu", **given})


@pytest.mark.parametrize(
    ("given", "code", "says"),
    [
        ({"recipe": "rps"}, ExitCode.USAGE, "--branch is for choreo train video"),
        ({"branch": None, "per_device": 2}, ExitCode.USAGE, "--per-device is for choreo train video"),
        ({"only": 1}, ExitCode.USAGE, "--only does not go with --branch"),
        ({"config": Path("x")}, ExitCode.USAGE, "--config does not go with --branch"),
        ({"seed": 3}, ExitCode.USAGE, "--seed does not go with --branch"),
        ({"resume": "x"}, ExitCode.USAGE, "--resume x is not auto or no"),
        ({"out": None}, ExitCode.USAGE, "missing option '-o'"),
        ({"seeds": "0,0"}, ExitCode.USAGE, "not a list of different seeds"),
        ({"sets": ["encodr=i3d"]}, ExitCode.USAGE, "did you mean: encoder?"),
        ({"sets": ["branch=x"]}, ExitCode.USAGE, "each branch has the name in its file"),
        ({"branch": [Path("nowhere.yaml")]}, ExitCode.NOINPUT, "no branch file nowhere.yaml"),
        ({"source": Path("nowhere")}, ExitCode.NOINPUT, "nowhere"),
        ({"device": "cuda:7"}, ExitCode.UNAVAILABLE, "cuda:7"),
        ({"device": "cpu,cpu"}, ExitCode.USAGE, "different devices"),
        ({"device": "gpu"}, ExitCode.USAGE, "no device is called 'gpu'"),
    ],
)
def test_errors_come_before_anything_is_started(
    curves: Path, tmp_path: Path, given: dict[str, Any], code: int, says: str
) -> None:
    if given.get("device") == "cuda:7" and torch.cuda.device_count() > 7:
        pytest.skip("there is such a device")
    file = branch(tmp_path, "one", TINY)
    out = tmp_path / "out"
    try:
        asked({"branch": [file], "source": curves, "out": out, **given})
        raise AssertionError("no error")
    except ChoreoError as e:
        found = e
    except FileNotFoundError as e:
        found = ChoreoError(f"{e.strerror}: {e.filename}", code=ExitCode.NOINPUT)
    assert (found.code, says in str(found)) == (code, True), str(found)
    assert not out.exists()


def test_a_plan_says_what_would_run(curves: Path, tmp_path: Path, capfdbinary: Any) -> None:
    from formats import sealed

    file = branch(tmp_path, "one", TINY)
    given = {"branch": [file], "source": curves, "dry_run": True, "seeds": "0,4", "sets": ["epochs=2"], "json": True}
    assert asked({**given, "per_device": 2}) == 0
    found = sealed.parse(capfdbinary.readouterr().out)
    assert [(r["branch"], r["seed"], r["settings"]["epochs"]) for r in found["runs"]] == [
        ("one", 0, "2"),
        ("one", 4, "2"),
    ]
    assert found["slots"] == ["cpu", "cpu"]


@pytest.mark.slow
def test_a_branch_that_cannot_train_is_named_and_the_others_are_kept(curves: Path, tmp_path: Path) -> None:
    """A text model that is not there is wrong with the branch: it is not started again."""
    fast = QUICK.replace("epochs: 160", "epochs: 2")
    files = [branch(tmp_path, "good", fast), branch(tmp_path, "bad", fast.replace("{", "{text: /nowhere, ", 1))]
    out = tmp_path / "out"
    words = [str(curves), "--device", "cpu", "--per-device", "2", "-o", str(out)]
    p = begin([*words, *(w for file in files for w in ("--branch", str(file)))])
    _, said = p.communicate(timeout=120)
    assert p.returncode == ExitCode.PARTIAL, said
    last = said.splitlines()[-1]
    assert last.startswith(b"choreo train video: 1 of 2 runs did not finish: bad/seed-0: exit "), said
    assert b"/nowhere" in last
    assert b"the others are kept" in last
    assert (out / "good" / "seed-0" / "run.json").exists()
    assert not (out / "run.json").exists()
