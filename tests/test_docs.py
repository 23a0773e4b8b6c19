"""Documentation is a tested artefact: man pages, examples, README blocks, TypeScript types, shell completion."""

from __future__ import annotations

import importlib
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from choreo_cli import mangen
from choreo_cli.app import COMMANDS
from commands import report

TOP = Path(__file__).resolve().parent.parent
PAGES = sorted((TOP / "man").rglob("*.[157]"))
EXAMPLES = [
    (name, shell)
    for name in COMMANDS
    for shell, _ in getattr(importlib.import_module(COMMANDS[name][0]), "EXAMPLES", ())
]


BODY = (
    ("Hips", 0, 0.9), ("Head", 0, 1.6), ("LeftHand", 0.5, 1), ("RightHand", -0.5, 1), ("LeftFoot", 0.1, 0), ("RightFoot", -0.1, 0),
)  # fmt: skip


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A folder with what the examples name, and an environment in which `choreo` is this checkout's."""
    folder = tmp_path_factory.mktemp("shop")
    bin_folder = tmp_path_factory.mktemp("bin")
    shim = bin_folder / "choreo"
    shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m choreo_cli "$@"\n')
    shim.chmod(0o755)
    env = {
        "PATH": f"{bin_folder}:{os.environ['PATH']}",
        "PYTHONPATH": str(TOP),
        "HOME": str(bin_folder),
        "XDG_CACHE_HOME": str(bin_folder / "cache"),
        "COLUMNS": "100",
        "LC_ALL": "C.UTF-8",
    }
    made = run(
        "choreo synth sessions --sessions 3 --minutes 0.5 -o recordings && choreo discover recordings -o inventory.json && choreo pair inventory.json -o dataset",
        folder,
        env,
    )
    assert made.returncode == 0, made.stderr
    made = run(
        "choreo synth motions --clips 4 --seconds 3 -o motions -q && choreo train flow motions --set steps=4 --set batch=4 --set val_windows=4 -o runs/flow -q",
        folder,
        env,
    )
    assert made.returncode == 0, made.stderr
    for source, name in (("clips", "motions/gBR_sBM_cAll_d04_mBR0_ch01.npz"), ("music", "music/mBR0.wav")):
        (folder / "aist" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(sorted((folder / "motions" / source).iterdir())[0], folder / "aist" / name)
    rows = [{"when": k / 30, "body": {j: [x, y, 0.01 * (k % 9)] for j, x, y in BODY}} for k in range(90)]
    (folder / "poses.json").write_text(json.dumps({"clip": {"rows": rows}}))
    (folder / "backup").mkdir()
    shutil.copy(folder / "inventory.json", folder / "backup")
    return folder, env


def run(shell: str, cwd: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", "-c", shell],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=env,
        timeout=200,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def test_man_pages_are_what_the_declarations_say() -> None:
    stale = [
        name
        for name, text in mangen.pages().items()
        if not (TOP / "man" / name).exists() or (TOP / "man" / name).read_text() != text
    ]
    assert stale == [], "run `make man`"
    generated = {TOP / "man" / name for name in mangen.pages()}
    extra = [p for p in PAGES if p.parent.name != "man7" and p not in generated]
    assert extra == []


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_man_pages_are_clean(page: Path) -> None:
    mandoc = shutil.which("mandoc")
    if mandoc is None:
        pytest.skip("mandoc is not installed (apt package mandoc)")
    done = subprocess.run([mandoc, "-T", "lint", "-W", "warning", page], capture_output=True, text=True, check=False)
    assert done.stdout + done.stderr == ""


def test_every_command_has_examples_and_exits() -> None:
    assert {name for name, _ in EXAMPLES} == set(COMMANDS)
    for name in COMMANDS:
        assert getattr(importlib.import_module(COMMANDS[name][0]), "EXITS", None), name


@pytest.mark.parametrize("name,shell", EXAMPLES, ids=[f"{n}-{i}" for i, (n, _) in enumerate(EXAMPLES)])
def test_examples_run(name: str, shell: str, shop: tuple[Path, dict[str, str]]) -> None:
    if name == "bench":
        pytest.skip("run by test_bench_cli with small sizes")
    if name == "export" and " onnx " not in shell:
        pytest.skip("converting takes a minute: run by tests/generate/test_export_cli.py")
    done = run(shell, *shop)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_valid_shell(shell: str, shop: tuple[Path, dict[str, str]]) -> None:
    folder, env = shop
    done = run(f"choreo --completion {shell}", folder, env)
    assert done.returncode == 0 and "choreo" in done.stdout
    checker = shutil.which(shell)
    if checker is None:
        pytest.skip(f"{shell} is not installed")
    checked = subprocess.run([checker, "-n"], input=done.stdout, capture_output=True, text=True, check=False)
    assert checked.returncode == 0 and checked.stderr == ""


def test_completion_proposes_commands_and_options(shop: tuple[Path, dict[str, str]]) -> None:
    folder, env = shop
    more = {**env, "_CHOREO_COMPLETE": "complete_bash"}
    done = run("choreo", folder, {**more, "COMP_WORDS": "choreo ", "COMP_CWORD": "1"})
    assert set(COMMANDS) <= set(done.stdout.split())
    done = run("choreo", folder, {**more, "COMP_WORDS": "choreo pair --pre", "COMP_CWORD": "2"})
    assert {"--preview", "--previous"} <= set(done.stdout.split())


def test_types_for_the_web_are_generated() -> None:
    from formats.packets import typescript

    assert (TOP / "examples" / "web" / "packets.d.ts").read_text() == typescript()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", (TOP / "README.md").read_text(), re.S | re.M)


def test_every_block_of_the_readme_is_of_a_kind_that_is_checked() -> None:
    kinds = set(re.findall(r"^```(\w+)$", (TOP / "README.md").read_text(), re.M))
    assert kinds <= {"console", "sh", "python"} and blocks("console")


def test_readme_sessions_say_what_the_program_says(tmp_path: Path, shop: tuple[Path, dict[str, str]]) -> None:
    """Every `$ ` line of every console block runs, in order, in one folder; what follows it is its output."""
    _, env = shop
    ran = 0
    for block in blocks("console"):
        for command, shown in sessions(block):
            if command.startswith("make "):
                assert re.search(rf"^{command.split()[1]}:", (TOP / "Makefile").read_text(), re.M)
                continue
            done = run(command, tmp_path, env)
            assert done.returncode == 0, (command, done.stderr)
            assert done.stdout == shown, f"{command}\n--- README\n{shown}--- program\n{done.stdout}"
            ran += 1
    assert ran >= 5


def sessions(block: str) -> list[tuple[str, str]]:
    parts = re.split(r"^\$ ", block, flags=re.M)[1:]
    found = []
    for part in parts:
        command, _, shown = part.partition("\n")
        while command.endswith("\\"):
            more, _, shown = shown.partition("\n")
            command = command[:-1] + more.removeprefix("> ")
        found.append((command, shown))
    return found


def test_readme_python_runs(shop: tuple[Path, dict[str, str]]) -> None:
    folder, env = shop
    pytest.importorskip("torch")
    for code in blocks("python"):
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, cwd=folder, env=env, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr


def test_readme_table_names_every_command() -> None:
    text = (TOP / "README.md").read_text()
    for name in COMMANDS:
        assert re.search(rf"^\| `choreo {name}", text, re.M), name


def test_example_pipelines_run(shop: tuple[Path, dict[str, str]]) -> None:
    folder, env = shop
    scripts = TOP / "examples" / "pipelines"
    assert run(f"sh {scripts}/one_line.sh recordings piped", folder, env).returncode == 0
    offsets = run(f"sh {scripts}/which_offsets.sh piped", folder, env)
    assert offsets.returncode == 0 and len(offsets.stdout.splitlines()) == 3
    first = run(f"sh {scripts}/nightly.sh recordings nightly", folder, env)
    again = run(f"sh {scripts}/nightly.sh recordings nightly", folder, env)
    assert (first.returncode, again.returncode) == (0, 0), first.stderr
    assert again.stdout == again.stderr == "", "silent when nothing is new"


def test_example_makefile_builds_once(shop: tuple[Path, dict[str, str]]) -> None:
    folder, env = shop
    make = f"make -f {TOP}/examples/dataset.mk RECORDINGS=recordings DATASET=made"
    assert run(make, folder, env).returncode == 0
    assert run(make, folder, env).returncode == 0
    before = (folder / "made" / "pairs.json").stat().st_mtime_ns
    run(make, folder, env)
    assert (folder / "made" / "pairs.json").stat().st_mtime_ns == before


def test_crontab_has_five_fields_and_a_lock() -> None:
    lines = [
        x
        for x in (TOP / "examples" / "crontab").read_text().splitlines()
        if x and x[0] not in "#" and "=" not in x.split()[0]
    ]
    assert lines and all(len(x.split(None, 5)) == 6 and "flock -n" in x for x in lines)


def test_makefile_lists_its_targets() -> None:
    done = subprocess.run(["make", "-s"], capture_output=True, text=True, cwd=TOP, timeout=30, check=False)
    listed = {line.split()[0] for line in done.stdout.splitlines()}
    assert {"setup", "demo", "test", "test-slow", "lint", "man", "bench", "generate-data"} <= listed
    assert {"train-rps", "train-mapper", "evaluate", "report", "baseline"} <= listed


def test_the_lines_of_the_makefile_are_commands_of_this_program() -> None:
    """What `make` would run, read by the declarations; every input is the output of a line before it."""
    words = ["make", "-n", "DEMO=new-demo", "RUNS=new-runs", "demo", "report", "baseline", "bench"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=TOP, timeout=30, check=True)
    lines = [line.split() for line in re.findall(r"^\S*bin/choreo ([^>|\n]*)", done.stdout, re.M)]
    assert {argv[0] for argv in lines} >= {"synth", "discover", "pair", "train", "evaluate", "report", "bench"}
    made: set[str] = set()
    for argv in lines:
        assert report.parse(argv) is not None, argv
        read = [b for a, b in itertools.pairwise(argv) if b.startswith("new-") and a not in ("-o", "--plot")]
        assert [w for w in read if w not in made and str(Path(w).parent) not in made] == [], argv
        made |= {b for a, b in itertools.pairwise(argv) if a == "-o"}
