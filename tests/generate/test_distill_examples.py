"""Ready files: configurations of the three methods, and the Slurm, SSH and cron examples with their command lines."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from choreo_cli.app import load as command
from choreo_cli.config import load
from choreo_cli.generate.distill_config import CONFIGS, METHODS

TOP = Path(__file__).resolve().parents[2]
SCALE = TOP / "examples" / "scale"
SHELLS = sorted([*SCALE.glob("*.sbatch"), *SCALE.glob("*.sh")])
GIVEN = {
    "MOTIONS": "motions", "RUN": "run", "TEACHER": "flow", "STUDENT": "small", "METHOD": "regression",
    "CONFIG": "examples/generation/tiny-100.yaml", "PROCESSES": "4", "SLURM_ARRAY_TASK_ID": "1", "there": "work",
    "processes": "2", "host": "far",
}  # fmt: skip


def commands_of(text: str) -> list[list[str]]:
    """The choreo command lines of a script, without what starts them, variables filled in."""
    joined = text.replace("\\\n", " ")
    found = []
    for line in joined.splitlines():
        if line.lstrip().startswith("#"):
            continue
        match = re.search(r"(?:-m choreo_cli|(?<![\w/])choreo) ((?:train|distill|generate|status) .*)", line)
        if match is None:
            continue
        filled = re.sub(r"\$\{?(\w+)\}?", lambda m: GIVEN[m[1]], match[1])
        words = shlex.split(re.split(r"\s+(?:&$|\|\||>)", filled)[0])
        found.append(words)
    return found


def parsed(words: list[str]) -> dict[str, Any]:
    """What the real parser makes of a command line; the command does not run."""
    with command(words[0]).make_context(words[0], words[1:]) as ctx:
        return dict(ctx.params)


@pytest.mark.parametrize("method", METHODS)
def test_ready_configurations_tell_their_cost(method: str) -> None:
    file = TOP / "examples" / "generation" / f"distill-{method}.yaml"
    found: Any = load(file, CONFIGS[method])
    said = file.read_text()
    assert f"--method {method}" in said and f"{file.name}" in said
    assert "# Time:" in said and "# Memory:" in said
    assert found.size == "tiny" and found.steps_used == 1


@pytest.mark.parametrize("file", [*SHELLS, SCALE / "distill.cron"], ids=lambda p: p.name)
def test_command_lines_of_the_examples_are_ones_that_the_parser_takes(file: Path) -> None:
    found = commands_of(file.read_text())
    assert len(found) == 1
    told = parsed(found[0])
    assert told["out"] and told["quiet"]
    config = told.get("config")
    if found[0][0] == "distill":
        assert told["method"] in METHODS and str(told["teacher"]) == "flow"
    else:
        assert told["recipe"] == "flow" and config is not None


def test_configurations_that_the_examples_name_are_there() -> None:
    named = {m for f in SHELLS for m in re.findall(r"examples/generation/[\w.$-]+yaml", f.read_text())}
    files = [name.replace("$METHOD", m) for name in named for m in METHODS]
    assert len(set(files)) >= 5 and all((TOP / name).is_file() for name in files)


@pytest.mark.parametrize("file", SHELLS, ids=lambda p: p.name)
def test_the_examples_are_clean_shell(file: Path) -> None:
    shell = shutil.which("bash" if file.suffix == ".sbatch" else "sh")
    assert shell is not None
    done = subprocess.run([shell, "-n", str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    linter = shutil.which("shellcheck")
    if linter is not None:
        done = subprocess.run([linter, str(file)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout


def stub(folder: Path, name: str, text: str) -> None:
    """A program of that name which does as `text` says."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755 | stat.S_IXUSR)


def environment(bin_: Path, **more: str) -> dict[str, str]:
    return {"PATH": f"{bin_}:{os.environ['PATH']}", "HOME": str(bin_.parent), "LC_ALL": "C.UTF-8", **more}


TORCHRUN = 'echo "$@" >> "$SAID"; exit "${CODE:-0}"'


@pytest.mark.parametrize(
    ("code", "state", "requeued"), [(0, "done", False), (1, "stopped", True), (1, "failed", False)]
)
@pytest.mark.parametrize("name", ["train-flow.sbatch", "train-flow-nodes.sbatch"])
def test_a_job_is_requeued_when_a_signal_stopped_it_and_only_then(
    tmp_path: Path, name: str, code: int, state: str, requeued: bool
) -> None:
    said, bin_, run = tmp_path / "said", tmp_path / "bin", tmp_path / "run"
    run.mkdir()
    (run / "status.json").write_text(f'{{\n "state": "{state}"\n}}\n')
    stub(bin_, "torchrun", TORCHRUN)
    stub(bin_, "srun", 'exec "$@"')
    stub(bin_, "scontrol", 'if [ "$1" = show ]; then echo node1; echo node2; else echo "$@" >> "$SAID"; fi')
    slurm = {
        "SLURM_JOB_ID": "7",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_JOB_NODELIST": "node[1-2]",
        "SLURM_GPUS_ON_NODE": "2",
    }
    env = environment(bin_, MOTIONS="motions", RUN=str(run), SAID=str(said), CODE=str(code), **slurm)
    done = subprocess.run(["bash", str(SCALE / name)], env=env, capture_output=True, text=True, timeout=60, check=False)
    lines = said.read_text().splitlines()
    assert done.returncode == (0 if requeued else code), done.stderr
    assert ("requeue 7" in lines) is requeued and "--nproc-per-node 2" in lines[0]
    assert ("node1:29500" in lines[0]) is ("nodes" in name)


def test_slurm_stops_a_job_by_a_signal_that_reaches_the_training(tmp_path: Path) -> None:
    said, bin_, run = tmp_path / "said", tmp_path / "bin", tmp_path / "run"
    run.mkdir()
    text = f'trap \'echo "{{ \\"state\\": \\"stopped\\" }}" > {run}/status.json; exit 143\' TERM\n'
    stub(bin_, "torchrun", text + 'sleep 0.3; kill -TERM "$PPID"; for k in $(seq 200); do sleep 0.05; done')
    stub(bin_, "scontrol", 'echo "$@" >> "$SAID"')
    env = environment(bin_, MOTIONS="motions", RUN=str(run), SAID=str(said), SLURM_JOB_ID="9")
    words = ["bash", str(SCALE / "train-flow.sbatch")]
    done = subprocess.run(words, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0 and said.read_text() == "requeue 9\n", done.stderr


def test_jobs_without_their_folders_say_so(tmp_path: Path) -> None:
    for file in SHELLS:
        env = environment(tmp_path)
        shell = "bash" if file.suffix == ".sbatch" else "sh"
        done = subprocess.run([shell, str(file)], env=env, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode != 0 and ("name the" in done.stderr or "parameter" in done.stderr or "1" in done.stderr)


FAR = """
# ssh HOST WORDS: the same, in the folder that stands for that machine.
host=$1; shift
cd "$FAR"; exec sh -c "$*"
"""
COPY = """
# rsync ... FROM TO: copies through the folder that stands for the other machine.
for word in "$@"; do from=$to; to=$word; done
case $from in *:*) from=$FAR/${from#*:} ;; esac
case $to in *:*) to=$FAR/${to#*:} ;; esac
if [ -d "$from" ]; then cp -R "$from/." "$to"; rm -f "$to/.choreo.lock"; else cp "$from" "$to"; fi
"""


def test_the_ssh_example_sends_trains_and_takes_back(tmp_path: Path) -> None:
    """With a training that writes a file: what is sent is there, what is made comes back, also after a failure."""
    bin_, far = tmp_path / "bin", tmp_path / "far"
    far.mkdir()
    stub(bin_, "ssh", FAR)
    stub(bin_, "rsync", COPY)
    stub(bin_, "torchrun", 'test -f work/motions/a.npz && test -f work/config.yaml && echo "$@" >> work/run/log.jsonl\n'
         'test "${CODE:-0}" = 0 && echo whole > work/run/run.json; exit "${CODE:-0}"')  # fmt: skip
    (tmp_path / "motions").mkdir()
    (tmp_path / "motions" / "a.npz").write_bytes(b"x")
    words = ["sh", str(SCALE / "ssh-train.sh"), "far", "motions", "run", "2"]
    env = environment(bin_, FAR=str(far), THERE="work", CONFIG=str(TOP / "examples/generation/tiny-100.yaml"))
    stopped = subprocess.run(
        words, env={**env, "CODE": "143"}, cwd=tmp_path, capture_output=True, timeout=60, check=False
    )
    assert stopped.returncode == 143 and (tmp_path / "run" / "log.jsonl").exists()
    assert not (tmp_path / "run" / "run.json").exists()
    shutil.rmtree(far)
    far.mkdir()  # another machine
    done = subprocess.run(words, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    log = (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    assert len(log) == 2 and all("--nproc-per-node 2" in line for line in log)
    assert (tmp_path / "run" / "run.json").read_text() == "whole\n"


@pytest.mark.slow
def test_the_ssh_example_with_a_real_training(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    import numpy as np

    from choreo_cli.motion.choreo25 import encode
    from choreo_cli.motion.dancer import choreograph, poses, write_score
    from formats import motion_npz

    bin_, far = tmp_path / "bin", tmp_path / "far"
    far.mkdir()
    stub(bin_, "ssh", FAR)
    stub(bin_, "rsync", COPY)
    stub(bin_, "torchrun", f'exec "{sys.executable}" -m torch.distributed.run "$@"')
    (tmp_path / "motions").mkdir()
    for k in range(4):
        rng = np.random.default_rng((5, k))
        score = write_score(np.arange(0.0, 8, 0.5), 0.8, rng)
        joints = poses(choreograph(score, rng, height_m=1.7), np.arange(60) / 30 + 1.0)
        motion_npz.write(tmp_path / "motions" / f"d{k}.npz", encode(joints, 30.0))
    (tmp_path / "small.yaml").write_text(
        "audio: false\nframes: 16\nbatch: 8\nsteps: 3\nstructure_clips: 2\nval_windows: 4\n"
    )
    env = environment(bin_, FAR=str(far), CONFIG=str(tmp_path / "small.yaml"), PYTHONPATH=str(TOP), OMP_NUM_THREADS="1")
    words = ["sh", str(SCALE / "ssh-train.sh"), "far", "motions", "run", "2"]
    done = subprocess.run(words, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "run.json").is_file() and (tmp_path / "run" / "model.safetensors").is_file()
