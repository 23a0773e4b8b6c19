"""Packaging: pins against pyproject.toml, the licence, what a wheel would carry."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

TOP = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]


def pins() -> dict[str, str]:
    lines = [x for x in (TOP / "requirements.txt").read_text().splitlines() if x and not x.startswith("#")]
    return dict(x.partition(";")[0].split("==") for x in lines)


def declared() -> list[Requirement]:
    extras = [r for group in PROJECT["optional-dependencies"].values() for r in group]
    return [r for r in map(Requirement, [*PROJECT["dependencies"], *extras]) if r.name != "choreo"]


@pytest.mark.parametrize("need", declared(), ids=lambda r: r.name)
def test_every_requirement_is_pinned_inside_its_range(need: Requirement) -> None:
    name = canonicalize_name(need.name)
    assert name in pins(), f"{name} is missing: run `make requirements`"
    assert need.specifier.contains(pins()[name]), f"{name} {pins()[name]} is outside {need.specifier}"


def test_pins_are_exact_and_sorted() -> None:
    lines = [x for x in (TOP / "requirements.txt").read_text().splitlines() if not x.startswith("#")]
    assert lines == sorted(lines)
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9][\w.]*(; sys_platform == \"linux\")?", x) for x in lines)


def test_base_install_has_no_torch() -> None:
    names = {canonicalize_name(Requirement(r).name) for r in PROJECT["dependencies"]}
    assert names & {"torch", "librosa", "pandas", "av", "pydantic", "rich"} == set()


def test_every_base_requirement_has_its_reason() -> None:
    text = (TOP / "pyproject.toml").read_text()
    block = re.search(r"\ndependencies = \[\n(.*?)\n\]", text, re.S)
    assert block is not None
    assert all("# " in line for line in block[1].splitlines())


def test_licence_and_version() -> None:
    from choreo_cli import __version__

    assert PROJECT["license"] == "Apache-2.0" and PROJECT["requires-python"] == ">=3.11"
    assert "Apache License" in (TOP / "LICENSE").read_text()
    assert f"## {__version__}" in (TOP / "CHANGELOG.md").read_text()


def test_top_level_is_the_fixed_one() -> None:
    import subprocess

    done = subprocess.run(["git", "ls-files"], capture_output=True, text=True, cwd=TOP, check=False)
    if done.returncode != 0:
        pytest.skip("not a git checkout")
    allowed = {
        "pyproject.toml", "README.md", "Makefile", "choreo_cli", "formats", "commands", "tests", "examples", "man",
        "LICENSE", "CHANGELOG.md", "requirements.txt", ".ci", ".gitignore",
    }  # fmt: skip
    assert {line.split("/")[0] for line in done.stdout.splitlines()} <= allowed


def test_no_secrets_and_no_machine_paths() -> None:
    """Nothing in the repository names a machine, a package index, or a key."""
    import subprocess

    done = subprocess.run(["git", "ls-files"], capture_output=True, text=True, cwd=TOP, check=False)
    if done.returncode != 0:
        pytest.skip("not a git checkout")
    always = (
        rb"/(root|work)/[a-z]\w*/|https?://[^\s\"']*(pypi\.org|/simple\b)|BEGIN [A-Z ]*PRIVATE KEY|AKIA[0-9A-Z]{16}"
    )
    homes = rb"|/(home|Users)/[a-z]\w*/"  # in tests they are what strangers' playlists say
    found = []
    for name in done.stdout.splitlines():
        path = TOP / name
        if path.suffix in (".npz", ".parquet", ".png", ".wav") or path == Path(__file__) or not path.is_file():
            continue
        hit = re.search(always + (b"" if name.startswith("tests/") else homes), path.read_bytes())
        if hit:
            found.append((name, hit[0]))
    assert found == []
