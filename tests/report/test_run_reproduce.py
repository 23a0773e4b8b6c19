"""The reproduction block: order, names for paths, digests, and nothing that data could smuggle into a shell."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import run_material as material

from choreo_cli.outputs import OutputFolder
from choreo_cli.runtime import provenance
from commands.report import parse, rebuild


def script(report: Any) -> str:
    return str(report.document["reproduction"]["script"])


def commands(report: Any) -> list[str]:
    return [s["command"] for s in report.document["reproduction"]["steps"]]


def runnable(text: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a block with a `choreo` that only says what it was called with."""
    (folder / "bin").mkdir()
    shim = folder / "bin" / "choreo"
    shim.write_text('#!/bin/sh\nfor a in "$@"; do printf "%s|" "$a" >> "$CALLS"; done\nprintf "\\n" >> "$CALLS"\n')
    shim.chmod(0o755)
    env = {
        "PATH": f"{folder / 'bin'}:/usr/bin:/bin",
        "CALLS": str(folder / "calls"),
        "RECORDINGS": "rec",
        "CONFIG": "c d",
    }
    work = folder / "work"
    work.mkdir()
    return subprocess.run(
        ["/bin/sh", "-c", text], cwd=work, env=env, capture_output=True, text=True, timeout=30, check=False
    )


def test_steps_come_after_what_they_need_and_paths_become_steps(tmp_path: Path) -> None:
    paths = material.complete(tmp_path)
    made = material.report([paths[4], paths[7], paths[0]])
    assert commands(made) == [
        "choreo synth sessions --sessions 3 --minutes 1.2 --bpm 92,120,140 --frames-only --seed 0 -o step1",
        "choreo train rps step1 --seed 0 -o step2",
        "choreo train mapper step2 --seed 0 -o step3",
        "choreo train rps step1 --seed 1 -o step4",
        "choreo train mapper step4 --seed 1 -o step5",
        "choreo train rps step1 --seed 2 -o step6",
        "choreo train mapper step6 --seed 2 -o step7",
        "choreo evaluate groove step3/run.json step5/run.json step7/run.json -o step8.json",
    ]
    assert (
        script(made).rstrip().endswith("choreo check SHA256SUMS step1 step2 step3 step4 step5 step6 step7 step8.json")
    )
    sums = dict(reversed(line.split("  ")) for line in script(made).split("'END'\n")[1].split("\nEND")[0].splitlines())
    assert {"step2/model.safetensors", "step3/controls/session-0002_controls.parquet"} <= set(sums)
    assert str(tmp_path) not in script(made)


def test_an_unknown_origin_is_missing_and_incomplete(tmp_path: Path) -> None:
    data = material.dataset(tmp_path / "data")
    run = material.run(tmp_path / "r", "rps", data)
    (run / "run.run.json").unlink()
    (data / "sessions.run.json").unlink()
    made = material.report([run])
    block = script(made)
    assert "# MISSING: an input has no origin" in block or "# MISSING: nothing says how" in block
    lost = [e["what"] for e in made.document["evidence"] if not e["there"] and e["what"].startswith("origin of")]
    assert lost and made.exit == 3


def test_data_that_is_gone_is_an_unknown_origin(tmp_path: Path) -> None:
    data = material.dataset(tmp_path / "far" / "data")
    run = material.run(tmp_path / "near" / "r", "rps", data)
    for file in data.glob("sessions*.json"):
        file.unlink()
    made = material.report([run])
    assert commands(made) == [""]
    assert "origin of train rps, seed 0 (r)" in {e["what"] for e in made.document["evidence"] if not e["there"]}


def test_outside_files_become_variables(tmp_path: Path) -> None:
    data = material.dataset(tmp_path / "data")
    argv = ["train", "rps", str(data), "--config", "/home/someone/my settings.yaml", "-q", "--force", "-o", "r"]
    made = material.report([material.run(tmp_path / "r", "rps", data, argv=argv)])
    assert commands(made)[1] == 'choreo train rps step1 --config "$CONFIG" -o step2'
    assert ': "${CONFIG:?the file given to --config}"' in script(made) and "someone" not in script(made)


def test_what_does_not_decide_is_left_out(tmp_path: Path) -> None:
    data = material.dataset(tmp_path / "data")
    argv = [
        "train",
        "--epochs",
        "2",
        "rps",
        "--sync",
        "host:x",
        "-o",
        "r",
        str(data),
        "--log-json",
        "l",
        "--json",
        "--wait=3",
    ]
    argv += ["--set", "lr=0.1", "--set", "batch=8", "--latents", "elsewhere", "--resume", "no", "--root", "data=/x"]
    made = material.report([material.run(tmp_path / "r", "rps", data, argv=argv)])
    assert commands(made)[1] == "choreo train rps step1 --epochs 2 --set lr=0.1 --set batch=8 -o step2"


def test_input_from_a_pipe_is_named(tmp_path: Path) -> None:
    data = material.dataset(tmp_path / "data")
    for argv in (["train", "rps", "-o", "r"], ["train", "rps", "-", "-o", "r"]):
        made = material.report([material.run(tmp_path / f"r{len(argv)}", "rps", data, argv=argv)])
        assert commands(made)[1].split(" -o")[0] in ("choreo train rps step1/sessions.json",)


def test_relative_paths_are_recognised_by_their_end(tmp_path: Path) -> None:
    data = material.dataset(tmp_path / "data")
    argv = ["train", "rps", "./data/sessions.json", "-o", "r"]
    made = material.report([material.run(tmp_path / "r", "rps", data, argv=argv)])
    assert commands(made)[1] == "choreo train rps step1/sessions.json -o step2"


def test_an_inventory_that_only_was_in_a_pipe_is_found_by_its_digest(tmp_path: Path) -> None:
    sha = "ab" * 32
    made_by = provenance("pair", {}, [{"role": "inventory", "sha256": sha, "schema": "choreo.inventory/1"}])
    OutputFolder(_folder(tmp_path / "ds"), "pairs", made_by).finish([], 3, ["pair", "--split", "loso", "-o", "ds"])
    made = material.report([tmp_path / "ds"])
    assert commands(made) == [
        'choreo discover "$RECORDINGS" -o step1.json',
        "choreo pair step1.json --split loso -o step2",
    ]
    block = script(made)
    assert f"its digest was {sha[:12]}" in block
    assert "choreo pair step1.json --split loso -o step2 > /dev/null || test $? -eq 3" in block


EVIL = [
    '"$(touch pwned)"',
    "`touch pwned`",
    "x\ntouch pwned\n",
    "; touch pwned",
    "$HOME",
    "'",
    '"$RECORDINGS"; touch pwned',
]


@pytest.mark.parametrize("evil", EVIL)
def test_nothing_from_data_runs(tmp_path: Path, evil: str) -> None:
    data = material.dataset(tmp_path / "data")
    record = material.data_record(data)
    argv = ["train", "rps", str(data), "--set", evil, "--form", evil, "-o", evil]
    run = material.run(tmp_path / "x \n touch pwned\n#", "rps", data, record=record, argv=argv)
    text = script(material.report([run]))
    digests = "\n".join(line for line in text.splitlines() if not line.startswith("tail "))
    done = runnable(digests, tmp_path)
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in (tmp_path / "work").iterdir()) == ["SHA256SUMS"]
    called = (tmp_path / "calls").read_text()
    assert f"train|rps|step1|--set|{evil}|--form|{evil}|-o|step2|" in called


def test_digests_that_are_none_are_not_printed(tmp_path: Path) -> None:
    made_by = provenance("pair", {}, [{"role": "inventory", "sha256": "x\nEND\ntouch pwned", "schema": "s"}])
    out = OutputFolder(_folder(tmp_path / "ds"), "pairs", made_by)
    out.add("frames", "frames.parquet", "y\nEND\ntouch pwned")
    out.finish([], 0, ["pair", "-o", "ds"])
    assert "pwned" not in script(material.report([tmp_path / "ds"]))


def test_command_lines_are_read_by_their_declarations() -> None:
    line = parse(["--debug", "pair", "--split=loso", "-q", "inv.json", "--preview", "--bpm", "120", "-o", "ds"])
    assert line is not None and line.words == ("pair",)
    assert [(v.flag, v.value, v.is_path) for v in line.values] == [
        ("", "inv.json", True), ("--split", "loso", False), ("--preview", None, False), ("--bpm", "120", False),
    ]  # fmt: skip
    assert parse(["pair", "--no-such-option"]) is None and parse(["fly"]) is None and parse([]) is None
    assert parse(["synth"]) is None


def test_parameters_become_the_options_that_differ() -> None:
    line = rebuild(["evaluate", "groove"], {"draws": 999, "decoupled": False, "seed": 4})
    assert line is not None and shlex.join(v for x in line.values for v in x[:2] if v) == "--seed 4"
    assert rebuild(["fly"], {}) is None


def _folder(path: Path) -> Path:
    path.mkdir()
    return path
