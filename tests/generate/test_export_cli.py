"""`choreo export`: what it writes, what it refuses, and that nothing half-written is left."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from export_small import stats, written

from choreo_cli import app
from choreo_cli.errors import CantCreateError, ChoreoError, DataError, ExitCode, StorageError, UnavailableError
from choreo_cli.generate import export_build, export_job
from choreo_cli.generate.onnx_step import OnnxGraph, OnnxStep
from choreo_cli.generate.open_model import open_sampler
from commands.export import export
from formats import export_card
from formats.errors import FormatError

pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

TOP = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "model"
    written(folder)
    return folder


@pytest.fixture(scope="module")
def onnx(model: Path) -> Path:
    out = model.parent / "onnx"
    assert export("onnx", model, out=out, quiet=True, steps="1,2") == 0
    return out


def tree(folder: Path) -> dict[str, str]:
    found = sorted(p for p in folder.rglob("*") if p.is_file())
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in found}


def test_an_export_holds_what_another_program_needs(onnx: Path, model: Path) -> None:
    card = export_card.read(onnx)
    assert card.status == "verified: onnxruntime" and card.latency == "not measured"
    assert [g.name for g in card.graphs] == ["step", "sampler1", "sampler2"]
    assert {p.task for g in card.graphs for p in g.proofs} == {"GEN", "INBETWEEN", "PREDICT"}
    assert all(p.max_abs <= 1e-5 for g in card.graphs for p in g.proofs)
    assert card.graph("step").inputs["known"] == ["batch", 16, 25] and card.graph("step").inputs["mask"][2] == 7
    assert card.facts["stats"]["mean"] == stats(5).to_dict()["mean"] and card.layout.version == 1
    assert card.weights == {
        "sha256": hashlib.sha256((model / "model.safetensors").read_bytes()).hexdigest(),
        "kind": "moving average, decay 0.999",
    }
    assert card.files == {k: v for k, v in tree(onnx).items() if not k.startswith("model.")}
    text = (onnx / "MODEL_CARD.md").read_text()
    assert all(w in text for w in ("verified: onnxruntime", "not measured", "synthetic", "INBETWEEN", "`w`"))
    assert not [p for p in onnx.parent.iterdir() if "tmp" in p.name]


def test_the_step_is_the_network_and_opens_as_a_sampler(onnx: Path, model: Path) -> None:
    ours, theirs = open_sampler(onnx), open_sampler(model, backend="torch")
    rng = np.random.default_rng(0)
    audio = rng.standard_normal((3, 16, 5)).astype(np.float32)
    for steps, cfg in ((4, 2.0), (1, 1.0)):
        a, b = (s.sample(audio, seed=4, steps=steps, cfg=cfg) for s in (ours, theirs))
        assert np.abs(a - b).max() <= 1e-5 and np.ptp(a) > 0.1
    step = OnnxStep(onnx)
    feeds = [np.zeros([2 if n == "batch" else n for n in s], np.float32) for s in step.graph.inputs.values()]
    assert step(*feeds).shape == (2, 16, 25)
    with pytest.raises(DataError, match=r"x of shape \(2, 8, 25\), need batch x 16 x 25: this graph takes 16 frames"):
        step(feeds[0][:, :8], *feeds[1:])
    with pytest.raises(DataError, match="time for 1 clips, others for 2"):
        step(feeds[0], feeds[1][:1], *feeds[2:])
    with pytest.raises(DataError, match="step needs 'x'"):
        step.run({})


def test_what_was_changed_afterwards_is_refused(onnx: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(onnx, copy)
    (copy / "step.onnx").write_bytes(b"x" + (copy / "step.onnx").read_bytes()[1:])
    with pytest.raises(FormatError, match=r"not the graph that model.json names"):
        OnnxStep(copy)
    (copy / "step.onnx").unlink()
    with pytest.raises(FormatError, match="missing from the export"):
        OnnxStep(copy)
    with pytest.raises(FormatError, match=r"no graph 'sampler9'.*step, sampler1, sampler2"):
        OnnxGraph(copy, "sampler9")
    (copy / "model.json").write_text((copy / "model.json").read_text().replace("GEN", "NEG"))
    with pytest.raises(FormatError, match="does not match its sha256"):
        OnnxStep(copy)


def test_check_follows_the_sidecar(onnx: Path, choreo: Any) -> None:
    done = choreo("check", onnx)
    assert done.returncode == 0, done.stdout + done.stderr
    card = (onnx / "MODEL_CARD.md").read_text()
    try:
        (onnx / "MODEL_CARD.md").write_text(card + "better than it is\n")
        assert choreo("check", onnx).returncode == 1
    finally:
        (onnx / "MODEL_CARD.md").write_text(card)


def test_the_same_again_touches_nothing_and_another_one_asks(onnx: Path, model: Path, choreo: Any) -> None:
    before = {p: p.stat().st_mtime_ns for p in onnx.rglob("*")}
    again = choreo("export", "onnx", model, "-o", onnx, "--steps", "2,1")
    assert again.returncode == 0 and again.stdout == (onnx / "model.json").read_bytes(), again.stderr
    assert before == {p: p.stat().st_mtime_ns for p in onnx.rglob("*")}
    other = choreo("export", "onnx", model, "-o", onnx, "--steps", "4")
    assert other.returncode == ExitCode.CANTCREAT and other.stderr.count(b"\n") == 1
    assert b"holds another export: name another folder, or replace it with --force" in other.stderr
    assert before == {p: p.stat().st_mtime_ns for p in onnx.rglob("*")}


def test_force_replaces_the_whole(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    assert export("onnx", model, out=out, quiet=True, steps="1") == 0
    first = tree(out)
    assert export("onnx", model, out=out, quiet=True, steps="2", force=True) == 0
    assert "sampler1.onnx" in first and "sampler1.onnx" not in tree(out) and "sampler2.onnx" in tree(out)
    assert [p.name for p in out.parent.iterdir()] == ["out"]
    assert export("onnx", model, out=out, quiet=True, steps="1", force=True) == 0
    assert {k: v for k, v in tree(out).items() if k != "model.run.json"} == {
        k: v for k, v in first.items() if k != "model.run.json"
    }


def test_an_output_that_is_something_else_is_left_alone(model: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    for out, said in (
        (tmp_path / "file", "is a file"),
        (tmp_path / "file" / "below", "a parent is a file"),
        (tmp_path / "mine", "holds files that are no export"),
        (model, "holds files that are no export"),
    ):
        before = tree(tmp_path)
        with pytest.raises(CantCreateError, match=said):
            export("onnx", model, out=out, quiet=True, steps="1", force=True)
        assert tree(tmp_path) == before


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["tflite", "MODEL"], 2, "cannot export to 'tflite': choose from onnx, coreml, mlx, swift"),
        (["coreml", "MODEL", "--target", "iOS12"], 2, "--target 'iOS12' is not supported: choose from iOS18"),
        (["onnx", "MODEL", "--target", "iOS18"], 2, "--target does not apply to onnx"),
        (["onnx", "MODEL", "--steps", "four"], 2, "--steps 'four': whole numbers separated by commas"),
        (["onnx", "MODEL", "--steps", "0"], 2, "steps [0]: 1 to 64"),
        (["onnx", "nowhere"], 66, "no model nowhere"),
        (["onnx", "."], 65, "no model here"),
        (["onnx", "rps"], 65, "the model is rps, need flow or ddim or distilled"),
        (["onnx", "EXPORT"], 65, "an export already"),
        (["swift", "EXPORT"], 65, "an export for onnx: Swift runs Core ML"),
        (["onnx", "eps"], 65, "no whole-sampler graph"),
    ],
)
def test_bad_words_are_one_line(
    monkeypatch: pytest.MonkeyPatch, model: Path, onnx: Path, tmp_path: Path, words: list[str], code: int, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if "rps" in words:
        written(tmp_path / "m", recipe="flow")
        from formats import checkpoint

        old = checkpoint.read(tmp_path / "m")
        for name, data in checkpoint.encode(checkpoint.Checkpoint("rps", old.arch, old.arrays, old.facts)).items():
            (tmp_path / "rps").mkdir(exist_ok=True)
            (tmp_path / "rps" / name).write_bytes(data)
    if "eps" in words:
        written(tmp_path / "eps", process="ddim", predict="eps")
    before = tree(tmp_path)
    told = [{"MODEL": str(model), "EXPORT": str(onnx)}.get(w, w) for w in words]
    with pytest.raises((ChoreoError, FormatError)) as found:
        app.run(["export", *told, "-o", "out"])
    assert said in str(found.value) and "\n" not in str(found.value)
    assert int(getattr(found.value, "code", ExitCode.DATA)) == code
    assert tree(tmp_path) == before and not (tmp_path / "out").exists()


def test_a_run_comes_by_pipe(choreo: Any, model: Path, tmp_path: Path) -> None:
    from formats.manifest import Manifest, Root, encode

    run = encode(Manifest("choreo.run/1", {}, [], [Root("out", str(model), True)]))
    done = choreo("export", "onnx", "-", "-o", "out", "--steps", "1", input=run)
    assert done.returncode == 0 and done.stdout == (tmp_path / "out" / "model.json").read_bytes(), done.stderr
    wrong = choreo("export", "onnx", "-", "-o", "out", input=encode(Manifest("choreo.pairs/1", {}, [])))
    assert wrong.returncode == 65 and b"stdin is choreo.pairs/1, need choreo.run/1" in wrong.stderr


def test_the_program_says_it_in_one_line(choreo: Any, model: Path, tmp_path: Path) -> None:
    done = choreo("export", "tflite", model, "-o", "out")
    assert done.returncode == 2 and done.stdout == b"" and not (tmp_path / "out").exists()
    assert done.stderr == b"choreo export: cannot export to 'tflite': choose from onnx, coreml, mlx, swift\n"


@pytest.mark.parametrize(
    ("format", "missing", "line"),
    [
        ("onnx", "onnx", "pip install 'choreo[onnx]'"),
        ("onnx", "onnxruntime", "pip install 'choreo[onnx]'"),
        ("onnx", "torch", "pip install 'choreo[train]'"),
        ("coreml", "coremltools", "pip install 'choreo[coreml]'"),
        ("swift", "tree_sitter_swift", "pip install 'choreo[coreml]'"),
    ],
)
def test_a_missing_extra_is_69_with_its_line(
    monkeypatch: pytest.MonkeyPatch, model: Path, tmp_path: Path, format: str, missing: str, line: str
) -> None:
    for name in [n for n in sys.modules if n == missing or n.startswith(f"{missing}.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.delitem(sys.modules, "choreo_cli.generate.dit_torch", raising=False)
    with pytest.raises(UnavailableError) as found:
        export(format, model, out=tmp_path / "out", quiet=True, steps="1")
    assert found.value.code == 69 and found.value.hint == line
    assert list(tmp_path.iterdir()) == []


def test_a_proof_that_fails_publishes_nothing(monkeypatch: pytest.MonkeyPatch, model: Path, tmp_path: Path) -> None:
    real = export_build.runner
    monkeypatch.setattr(export_build, "runner", lambda data: lambda inputs: real(data)(inputs) + np.float32(1e-4))
    with pytest.raises(DataError, match=r"step, GEN, by onnxruntime: max_abs 0\.0001, at most 1e-05 is allowed"):
        export("onnx", model, out=tmp_path / "out", quiet=True, steps="1")
    assert list(tmp_path.iterdir()) == []


def test_an_operation_outside_the_list_publishes_nothing(
    monkeypatch: pytest.MonkeyPatch, model: Path, tmp_path: Path
) -> None:
    from choreo_cli.generate import export_onnx

    monkeypatch.setattr(export_onnx, "ALLOWED", export_onnx.ALLOWED - {"Gelu"})
    with pytest.raises(DataError, match="operation 'Gelu' is not on the list"):
        export("onnx", model, out=tmp_path / "out", quiet=True, steps="1")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_nothing(model: Path, tmp_path: Path) -> None:
    """RLIMIT_FSIZE stands in for a full disk: writes beyond it fail."""
    code = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (30000, 30000))\n"
        "from choreo_cli.__main__ import main\n"
        f"sys.argv = ['choreo', 'export', 'onnx', {str(model)!r}, '-o', {str(tmp_path / 'o')!r}, '--steps', '1']\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, cwd=TOP, timeout=120, check=False, stdin=subprocess.DEVNULL
    )
    assert done.returncode == ExitCode.IO, done.stderr
    assert done.stderr.count(b"\n") == 1 and b"nothing half-written is left" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_what_other_writers_raise_is_one_line(tmp_path: Path) -> None:
    with (
        pytest.raises(StorageError, match=r"cannot write step\.mlxfn: no room") as found,
        export_build.storage(tmp_path / "step.mlxfn"),
    ):
        raise RuntimeError("no\n room")
    assert found.value.code == ExitCode.IO


def test_what_a_killed_export_left_is_swept_and_a_living_one_is_not(model: Path, tmp_path: Path) -> None:
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    dead, alive = tmp_path / f"out.tmp-{int(gone.stdout)}", tmp_path / "out.tmp-1"
    for folder in (dead, alive):
        folder.mkdir()
        (folder / "step.onnx").write_text("half")
    with export_job.staged(tmp_path / "out") as stage:
        assert not dead.exists() and alive.exists()
        (stage / "x").write_text("x")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "out.tmp-1"]


def test_the_sidecar_refuses_what_it_does_not_know(onnx: Path) -> None:
    from formats import sealed

    doc = sealed.parse((onnx / "model.json").read_bytes())
    for change, said in (
        ({"status": "verified: by looking"}, "status 'verified: by looking' is not known"),
        ({"format": "tflite"}, "tflite"),
        ({"files": {"../x": "0" * 64}}, "leaves the folder"),
        ({"files": {"x": "zz"}}, "x"),
        ({"more": 1}, "more"),
        ({"schema": "choreo.checkpoint/1"}, "need choreo.export/1"),
        ({"graphs": [{**doc["graphs"][0], "inputs": {"x": [0]}}]}, "graphs"),
    ):
        with pytest.raises(FormatError, match=said):
            export_card.decode(sealed.dumps({**doc, **change}))
    with pytest.raises(FormatError, match="no exported model here"):
        export_card.read(onnx / "nothing")
    assert json.loads(export_card.encode(export_card.read(onnx))) == json.loads((onnx / "model.json").read_bytes())
