"""`choreo train` in processes of its own: pipes, codes, signals, kills, seeds, copies; a toy recipe and the real rps."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from choreo_cli.errors import ExitCode
from formats import atomic, manifest
from formats import status as heartbeat

pytest.importorskip("torch")
TOP = Path(__file__).resolve().parents[2]
LONG = ("--set", "checkpoint_s=0.2", "--epochs", "6")
SAME = ("model.safetensors", "log.jsonl", "metrics.json", "model.json")
Toy = Callable[..., subprocess.CompletedProcess[bytes]]


@pytest.fixture(scope="module")
def surroundings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which the toy recipe is one of the recipes."""
    site = tmp_path_factory.mktemp("site")
    (site / "sitecustomize.py").write_text(
        "from choreo_cli.training import recipes\nrecipes.RECIPES['toy'] = ('toy_lane', 'a line through points')\n"
    )
    return {
        "PATH": os.environ.get("PATH", ""),
        "HOME": str(site),
        "XDG_CACHE_HOME": str(site / "cache"),
        "PYTHONPATH": f"{site}:{TOP / 'tests' / 'training'}:{TOP}",
        "LC_ALL": "C.UTF-8",
    }


@pytest.fixture(scope="module")
def sessions(tmp_path_factory: pytest.TempPathFactory, surroundings: dict[str, str]) -> Path:
    """Three synthetic sessions of half a minute, frames alone."""
    out = tmp_path_factory.mktemp("synth") / "sessions"
    words = ["synth", "sessions", "--sessions", "3", "--minutes", "0.5", "--frames-only", "-o", str(out)]
    done = subprocess.run(
        [sys.executable, "-m", "choreo_cli", *words], capture_output=True, env=surroundings, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture
def toy(surroundings: dict[str, str], sessions: Path, tmp_path: Path) -> Toy:
    """toy("-o", "run", ...): `choreo train toy SESSIONS ...` in an empty folder."""

    def run(*args: object, input: bytes = b"", named: bool = True) -> subprocess.CompletedProcess[bytes]:
        words = ["train", "toy", *([str(sessions)] if named else []), *map(str, args)]
        return subprocess.run(
            [sys.executable, "-m", "choreo_cli", *words], input=input, capture_output=True, env=surroundings,
            cwd=tmp_path, timeout=120, check=False,
        )  # fmt: skip

    return run


def begin(surroundings: dict[str, str], sessions: Path, out: Path, *more: str) -> subprocess.Popen[bytes]:
    """A slow toy training that has written its first checkpoint and some steps after it."""
    words = ["train", "toy", str(sessions), "-o", str(out), *LONG, *more]
    p = subprocess.Popen(
        [sys.executable, "-m", "choreo_cli", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**surroundings, "TOY_SLOW_MS": "40"},
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and p.poll() is None:
        log = out / "log.jsonl"
        if list(out.glob("state/*.json")) and log.exists() and log.read_bytes().count(b"\n") > 12:
            return p
        time.sleep(0.02)
    raise AssertionError(p.communicate(timeout=5))


def one_line(stderr: bytes) -> str:
    text = stderr.decode()
    assert text.count("\n") == 1 and text.startswith("choreo train") and "Traceback" not in text, text
    return text


def without_commit(data: bytes) -> bytes:
    """A document without the commit it was made by and the digests that cover it: the checkout may move on."""
    return re.sub(rb'"git": ?\{[^}]*\}|"(head_)?sha256": ?"[0-9a-f]{64}"', b"", data)


def assert_equal_runs(a: Path, b: Path) -> None:
    for name in SAME:
        one, two = (a / name).read_bytes(), (b / name).read_bytes()
        assert one == two or without_commit(one) == without_commit(two), name
    assert (a / "model.safetensors").read_bytes() == (b / "model.safetensors").read_bytes()
    assert (a / "log.jsonl").read_bytes() == (b / "log.jsonl").read_bytes()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, surroundings: dict[str, str], sessions: Path) -> Path:
    """The long toy training, run without a break."""
    out = tmp_path_factory.mktemp("whole") / "run"
    words = ["train", "toy", str(sessions), "-o", str(out), *LONG, "-q"]
    done = subprocess.run(
        [sys.executable, "-m", "choreo_cli", *words], capture_output=True, env=surroundings, timeout=120, check=False
    )
    assert done.returncode == 0 and done.stderr == b"", done.stderr
    assert done.stdout == (out / "run.json").read_bytes()
    return out


def test_a_pipe_trains_what_a_file_trains_and_again_is_a_no_op(toy: Toy, sessions: Path, tmp_path: Path) -> None:
    piped = toy("-o", "piped", input=(sessions / "sessions.json").read_bytes(), named=False)
    assert piped.returncode == 0, piped.stderr
    assert piped.stdout == (tmp_path / "piped" / "run.json").read_bytes()
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "piped").rglob("*") if p.name != ".choreo.lock"}
    again = toy("-o", "piped", "-q")
    assert (again.returncode, again.stdout, again.stderr) == (0, piped.stdout, b"")
    assert before == {p: p.stat().st_mtime_ns for p in before}
    forced = toy("-o", "piped", "--force", "--table")
    assert forced.returncode == 0 and b"toy.error" in forced.stdout
    assert forced.stdout.splitlines()[-1] == b"kept in piped; see choreo report piped"
    assert before != {p: p.stat().st_mtime_ns for p in before}


def test_a_dry_run_says_what_and_writes_nothing(toy: Toy, tmp_path: Path) -> None:
    done = toy("--dry-run", "-o", "run", "--epochs", "2")
    found = json.loads(done.stdout)
    assert done.returncode == 0 and found["schema"] == "choreo.plan/1" and found["steps"] == 20
    assert list(tmp_path.iterdir()) == []


def test_a_killed_run_goes_on_to_the_same_bytes(
    toy: Toy, whole: Path, surroundings: dict[str, str], sessions: Path, tmp_path: Path
) -> None:
    p = begin(surroundings, sessions, tmp_path / "run")
    p.kill()
    p.communicate()
    assert heartbeat.read(tmp_path / "run" / "status.json").state == "running"
    done = toy("-o", "run", *LONG)
    assert done.returncode == 0 and re.search(rb"going on from step \d+ of 60", done.stderr), done.stderr
    assert_equal_runs(whole, tmp_path / "run")
    assert not (tmp_path / "run" / "state").exists() and not list((tmp_path / "run").glob(".*.tmp"))


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGINT", 130), ("SIGHUP", 129)])
def test_a_signal_leaves_a_checkpoint(
    name: str, code: int, whole: Path, surroundings: dict[str, str], sessions: Path, tmp_path: Path, toy: Toy
) -> None:
    p = begin(surroundings, sessions, tmp_path / "run", "--sync", str(tmp_path / "copy"))
    start = time.monotonic()
    p.send_signal(getattr(signal, name))
    out, err = p.communicate(timeout=30)
    assert (p.returncode, out) == (code, b"") and f"stopped by {name}".encode() in err, err
    assert time.monotonic() - start < 3 * 5, "three times the promise: the machine may be busy"
    assert list(tmp_path.glob("run/state/*.json")) and not (tmp_path / "run" / "run.json").exists()
    for folder in ("run", "copy"):
        assert heartbeat.read(tmp_path / folder / "status.json").state == "stopped"
    if name == "SIGTERM":
        done = toy("-o", "run", *LONG)
        assert done.returncode == 0, done.stderr
        assert_equal_runs(whole, tmp_path / "run")


def test_resume_no_begins_again(toy: Toy, surroundings: dict[str, str], sessions: Path, tmp_path: Path) -> None:
    p = begin(surroundings, sessions, tmp_path / "run")
    p.kill()
    p.communicate()
    done = toy("-o", "run", *LONG, "--resume", "no")
    assert done.returncode == 0 and b"going on" not in done.stderr


def test_a_locked_run_is_75(surroundings: dict[str, str], sessions: Path, tmp_path: Path, toy: Toy) -> None:
    p = begin(surroundings, sessions, tmp_path / "run")
    p.send_signal(signal.SIGSTOP)
    late = toy("-o", "run", *LONG)
    p.kill()
    p.communicate()
    assert late.returncode == ExitCode.TEMPFAIL and f"pid {p.pid}" in one_line(late.stderr)


@pytest.mark.parametrize("more", [(), ("--seeds", "0,1")], ids=["one", "seeds"])
def test_a_locked_run_is_told_before_torch_is_imported(tmp_path: Path, more: tuple[str, ...]) -> None:
    out = tmp_path / "run" / ("seed-0" if more else "")
    out.mkdir(parents=True)
    words = ["train", "rps", "none", "-o", str(tmp_path / "run"), *more]
    with atomic.lock(out, argv="holder"):
        done = subprocess.run(
            [sys.executable, "-X", "importtime", "-m", "choreo_cli", *words], capture_output=True, cwd=tmp_path,
            env={"PYTHONPATH": str(TOP)}, timeout=60, check=False,
        )  # fmt: skip
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.decode().splitlines() if "|" in line}
    assert done.returncode == ExitCode.TEMPFAIL and "formats.atomic" in imported and "torch" not in imported


def test_seeds_make_a_run_each_and_a_summary(toy: Toy, tmp_path: Path) -> None:
    alone = toy("-o", "runs", "--seeds", "0,1", "--only", "1")
    assert alone.returncode == 0 and b"seeds 0 are not there" in alone.stderr, alone.stderr
    assert alone.stdout == (tmp_path / "runs" / "seed-1" / "run.json").read_bytes()
    assert not (tmp_path / "runs" / "run.json").exists()
    last = toy("-o", "runs", "--seeds", "0,1", "--only", "0")
    assert last.returncode == 0 and last.stdout == (tmp_path / "runs" / "seed-0" / "run.json").read_bytes()
    summary = (tmp_path / "runs" / "run.json").read_bytes()
    assert [e["path"] for e in manifest.decode(summary).entries] == ["seed-0", "seed-1"]
    both = toy("-o", "runs", "--seeds", "0,1")
    assert both.returncode == 0 and both.stdout == summary and both.stderr.count(b"already in") == 2
    check = [sys.executable, "-m", "choreo_cli", "check", "runs"]
    done = subprocess.run(check, capture_output=True, cwd=tmp_path, env={"PYTHONPATH": str(TOP)}, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_a_copy_is_a_whole_run(toy: Toy, tmp_path: Path) -> None:
    done = toy("-o", "run", "--sync", "copy")
    assert done.returncode == 0, done.stderr
    names = {p.name for p in (tmp_path / "run").iterdir()} - {".choreo.lock"}
    assert {p.name for p in (tmp_path / "copy").iterdir()} - {"state"} == names
    assert all((tmp_path / "run" / n).read_bytes() == (tmp_path / "copy" / n).read_bytes() for n in names)


def test_a_copy_that_fails_ends_nothing(toy: Toy, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    done = toy("-o", "run", "--sync", "file/copy")
    assert done.returncode == 0 and b"sync to file/copy failed" in done.stderr
    assert (tmp_path / "run" / "run.json").exists()


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["-o", "x", "--set", "widht=3"], 2, "did you mean: width?"),
        (["-o", "x", "--config", "bad.toml"], 78, "unknown key 'widht'"),
        (["-o", "x", "--config", "none.yaml"], 66, "no configuration at"),
        (["-o", "x", "--config", "torn.yaml"], 78, "torn.yaml:3: not YAML: "),
        ([], 2, "missing option '-o'"),
        (["-o", "x", "--set", "fail_at=0"], 70, "a broken recipe"),
        (["-o", "x", "--set", "nan_at=0"], 65, "the loss is nan at step 1"),
    ],
    ids=lambda v: "-".join(v[-1:]) if isinstance(v, list) else "",
)  # fmt: skip
def test_errors_have_their_code(toy: Toy, tmp_path: Path, words: list[str], code: int, says: str) -> None:
    (tmp_path / "bad.toml").write_text("widht = 3\n")
    (tmp_path / "torn.yaml").write_text("width: 3\nlr: [1,\n")
    done = toy(*words)
    assert done.returncode == code and says in one_line(done.stderr) and done.stdout == b""
    assert not (tmp_path / "x" / "run.json").exists()


def test_a_configuration_file_gives_way_to_set(toy: Toy, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("width: 7\nepochs: 9\n")
    done = toy("--dry-run", "--config", "c.yaml", "--set", "epochs=1")
    config = json.loads(done.stdout)["config"]
    assert (config["width"], config["epochs"]) == (7, 1)


def test_the_wrong_input_is_named(choreo: Any, surroundings: dict[str, str], toy: Toy, tmp_path: Path) -> None:
    empty = manifest.encode(manifest.Manifest("choreo.inventory/1", {"choreo": "0.1.0"}, []))
    done = toy("-o", "x", input=empty, named=False)
    assert done.returncode == ExitCode.DATA
    assert "stdin is choreo.inventory/1, need choreo.sessions/1" in one_line(done.stderr)
    done = toy("-o", "x", named=False)
    assert done.returncode == ExitCode.DATA and "no manifest arrived" in one_line(done.stderr)
    done = toy("nowhere", "-o", "x", named=False)
    assert done.returncode == ExitCode.NOINPUT and "no file or folder nowhere" in one_line(done.stderr)
    done = choreo("train", "tyo", "x", "-o", "x", env=surroundings)
    assert done.returncode == ExitCode.USAGE and "did you mean: toy?" in one_line(done.stderr)
    assert not (tmp_path / "x").exists()


def test_without_torch_it_is_69_with_the_install_line(choreo: Any, tmp_path: Path) -> None:
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    (blocked / "sitecustomize.py").write_text("import sys\nsys.modules['torch'] = None\n")
    done = choreo("train", "rps", ".", "-o", "x", env={"PYTHONPATH": f"{blocked}:{TOP}"})
    assert done.returncode == ExitCode.UNAVAILABLE
    assert one_line(done.stderr) == "choreo train rps: training needs torch: pip install 'choreo[train]'\n"
    done = choreo("status", "--env", env={"PYTHONPATH": f"{blocked}:{TOP}"})
    assert done.returncode == 0 and json.loads(done.stdout)["torch"] is None
    done = choreo("status", "--env", "--device", "cuda", env={"PYTHONPATH": f"{blocked}:{TOP}"})
    assert done.returncode == ExitCode.UNAVAILABLE and b"pip install 'choreo[train]'" in done.stderr


def test_trackers_stay_in_the_run_and_ask_nobody(
    surroundings: dict[str, str], sessions: Path, toy: Toy, tmp_path: Path
) -> None:
    """Both write below the run; an audit hook in the process refuses every address but this machine's."""
    pytest.importorskip("tensorboard")
    pytest.importorskip("wandb")
    guard = tmp_path / "guard"
    guard.mkdir()
    site = Path(surroundings["PYTHONPATH"].split(":")[0]) / "sitecustomize.py"
    (guard / "sitecustomize.py").write_text(
        site.read_text() + "import sys, os\n"
        "def hook(event, args):\n"
        "    if event in ('socket.connect', 'socket.getaddrinfo'):\n"
        "        host = args[0] if event == 'socket.getaddrinfo' else args[1]\n"
        "        host = host[0] if isinstance(host, tuple) else host\n"
        "        if not str(host or '').startswith(('127.', '::1', 'localhost', '/', '\\x00')):\n"
        f"            open({str(tmp_path / 'asked')!r}, 'a').write(f'{{event}} {{host}}\\n')\n"
        "            raise PermissionError('no network')\n"
        "sys.addaudithook(hook)\n"
    )
    env = {**surroundings, "PYTHONPATH": f"{guard}:{surroundings['PYTHONPATH']}"}
    words = ["train", "toy", str(sessions), "-o", "run", "--tensorboard", "--wandb"]
    done = subprocess.run(
        [sys.executable, "-m", "choreo_cli", *words], capture_output=True, env=env, cwd=tmp_path, timeout=120,
        check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == (tmp_path / "run" / "run.json").read_bytes()
    assert not (tmp_path / "asked").exists(), (tmp_path / "asked").read_text()
    assert list((tmp_path / "run" / "tensorboard").glob("events.*"))
    assert list((tmp_path / "run" / "wandb").glob("offline-run-*"))
    files = manifest.decode(done.stdout).entries[0]["files"]
    assert not [name for name in files if name.startswith(("wandb", "tensorboard"))]
    assert {p.name for p in tmp_path.iterdir()} == {"guard", "run"}


def test_the_real_rps_trains_from_a_pipe_and_passes_the_check(choreo: Any, sessions: Path, tmp_path: Path) -> None:
    data = (sessions / "sessions.json").read_bytes()
    words = ("--epochs", "1", "--set", "batch=512")
    done = choreo("train", "rps", "-", "-o", "rps", *words, "--latents", "latents", input=data)
    assert done.returncode == 0, done.stderr
    (one,) = manifest.decode(done.stdout).entries
    assert one["recipe"] == "rps" and one["synthetic"] and one["metrics"]
    assert {"model.safetensors", "model.onnx", "model.npz", "model.json"} <= set(one["files"])
    assert len(list((tmp_path / "latents").glob("*_latent.parquet"))) == 3
    checked = choreo("check", "rps")
    assert (checked.returncode, checked.stdout) == (0, b""), checked.stdout + checked.stderr
    plan = choreo("train", "rps", "-", "--dry-run", *words, input=data)
    found = json.loads(plan.stdout)
    assert found["run_id"] == one["id"] and found["parameters"] == one["parameters"]
