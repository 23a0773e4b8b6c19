"""Branches as data: the files that come with us, and what a wrong file says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from choreo_cli.errors import ChoreoError, ConfigError, ExitCode
from choreo_cli.trajectory.branches import LARGEST, read_branch, read_branches, settings_of
from choreo_cli.trajectory.video_config import VideoConfig

TOP = Path(__file__).resolve().parents[2]
FILES = sorted((TOP / "examples" / "trajectory").glob("branch*.yaml"))
PARTS = {  # trajectory.md section 7
    0: ("moments", False, "none", "fit", None, None),
    1: ("i3d", True, "none", "llm", (85, 90), (10, 14)),
    2: ("slowfast", True, "none", "llm", (88, 93), (8, 12)),
    3: ("i3d", False, "hash", "llm", (82, 87), (12, 16)),
    4: ("slowfast", False, "none", "llm", (84, 89), (10, 14)),
}


def test_the_six_branches_are_those_of_the_plan() -> None:
    found = read_branches(FILES)
    assert [b.name for b in found] == [f"branch{k}" for k in range(6)]
    assert all(b.about and b.train.branch == b.name for b in found)
    for k, parts in PARTS.items():
        b = found[k]
        t = b.train
        assert (t.encoder, t.compress, t.text, b.language.engine, b.expects.accuracy, b.expects.mae_pct) == parts
    assert found[5].train.encoder == "strided"


def test_a_language_model_is_ready_for_describe() -> None:
    words = {b.name: b.language.words for b in read_branches(FILES)}
    assert words["branch0"] == ("--solver", "fit")
    assert words["branch1"] == ("--solver", "llm:https://api.openai.com/v1", "--model", "gpt-4.1")
    assert words["branch3"][1].startswith("llm:http://127.0.0.1:")
    for k, server in ((3, "mistralai/Mistral-7B-Instruct"), (4, "microsoft/phi-2")):
        text = FILES[k].read_text()
        assert f"vllm serve {server}" in text
        assert "llama-server --hf-repo" in text
        assert words[f"branch{k}"][1].removeprefix("llm:") in text


def test_settings_are_what_differs_as_text() -> None:
    assert settings_of(VideoConfig()) == {}
    config = VideoConfig(compress=True, lr=0.002, epochs=5, encoder="i3d", branch="x")
    assert settings_of(config) == {
        "compress": "true", "lr": "0.002", "epochs": "5", "encoder": "i3d", "branch": "x"
    }  # fmt: skip


GOOD: dict[str, Any] = {"name": "one", "about": "words", "train": {"encoder": "moments"}}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name: one\nabout: x\ntrain: {encodr: i3d}", "unknown key 'encodr' in train: did you mean: encoder?"),
        ("name: one\nabout: x\ntrane: {}", "unknown key 'trane': did you mean: train?"),
        ("name: one\nabout: x\ntrain: {}\nlanguage: {modl: x}", "unknown key 'modl' in language: did you mean: model?"),
        ("name: one\nabout: x\ntrain: {}\nexpects: {zzz: 1}", "unknown key 'zzz' in expects: known: accuracy, mae_pct"),
        ("name: one\nabout: x\ntrain: {encoder: resnet}", "train.encoder: invalid enum value 'resnet'"),
        ("name: one\nabout: x\ntrain: {lr: -1}", "train.lr: expected float > 0"),
        ("name: one\nabout: x\ntrain: {epochs: many}", "train.epochs: expected int"),
        ("name: one\nabout: x\ntrain: 3", "train: expected object, got int"),
        ("name: one\nabout: x", "missing required field train"),
        ("name: ../up\nabout: x\ntrain: {}", "name: expected str matching"),
        ("name: results\nabout: x\ntrain: {}", "cannot be called results"),
        ("name: one\nabout: x\ntrain: {branch: two}", "train.branch is 'two'"),
        ("name: one\nabout: x\ntrain: {}\nlanguage: {engine: llm, model: m}", "llm needs model, and url"),
        ("name: one\nabout: x\ntrain: {}\nlanguage: {engine: llm, model: m, url: 'file:///etc'}", "begins with http"),
        ("name: one\nabout: x\ntrain: {}\nlanguage: {model: m}", "belong to engine: llm"),
        ("name: one\nabout: x\ntrain: {}\nexpects: {accuracy: [90, 80]}", "expects.accuracy goes from 90 down to 80"),
        (
            "name: one\nabout: x\ntrain: {}\nexpects: {accuracy: [90, 180]}",
            "expects.accuracy[1]: expected float <= 100.0",
        ),
        ("- a list", "needs keys and values"),
        ("", "needs keys and values"),
        ("a: [1", "while parsing"),
        ("!!python/object/apply:os.system ['true']", "could not determine a constructor"),
        ("[" * 1200, "maximum recursion depth"),
        ("x" * (LARGEST + 1), "bytes are no branch file"),
    ],
)
def test_a_wrong_file_says_what_and_where(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "branch.yaml"
    file.write_text(text)
    with pytest.raises(ChoreoError) as e:
        read_branch(file)
    assert e.value.code == ExitCode.CONFIG
    assert says in str(e.value)
    assert str(e.value).startswith(f"{file}:")
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name: one\nabout: x\ntrain: {\n", ":4: not YAML: while parsing a flow node, expected "),
        ("name: one\nabout: x\ntrain:\n  lr: 0.1\n\tepochs: 2\n", ":5: not YAML: "),
        ("name: one\nabout: x\nname: two\ntrain: {}\n", ":3: key 'name' a second time: it stands in line 1"),
        ("name: one\nabout: x\ntrain:\n  lr: 0.1\n  lr: 0.2\n", ":5: key 'lr' a second time: it stands in line 4"),
    ],
)
def test_a_fault_of_the_file_has_its_line(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "branch.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as e:
        read_branch(file)
    assert str(e.value).startswith(f"{file}{says}")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ChoreoError, match="no branch file") as e:
        read_branch(tmp_path / "none.yaml")
    assert e.value.code == ExitCode.NOINPUT
    (tmp_path / "latin.yaml").write_bytes(b"name: \xe9\n")
    with pytest.raises(ChoreoError, match=r"latin\.yaml"):
        read_branch(tmp_path / "latin.yaml")
    with pytest.raises(ChoreoError, match="branch0 is there already") as e:
        read_branches([FILES[0], FILES[0]])
    assert e.value.code == ExitCode.USAGE


def test_the_guide_has_the_server_lines_of_the_files() -> None:
    guide = (TOP / "man" / "man7" / "choreo-trajectory.7").read_text().replace("\\e\n", "").replace("\\-", "-")
    plain = " ".join(guide.split())
    lines = []
    for k in (3, 4):
        for line in (TOP / "examples" / "trajectory" / f"branch{k}.yaml").read_text().splitlines():
            said = line.removeprefix("#").split("    #")[0].strip()
            if said.startswith(("llama-server", "vllm serve", "OLLAMA_HOST")):
                lines.append(" ".join(said.split()))
    assert len(lines) == 6
    assert [x for x in lines if x not in plain] == []
