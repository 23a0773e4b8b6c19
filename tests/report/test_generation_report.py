"""Generated dances in a report: arms, gates as restated, the early decision, strips of poses, and the block again."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import run_material as material

from choreo_cli.outputs import OutputFolder
from choreo_cli.report import run_files, run_page
from choreo_cli.runtime import provenance
from formats import motion_npz
from formats.metrics import entry

TOP = Path(__file__).resolve().parents[2]
SAYS = "held-out loss not falling: choreo distill --method consistency runs/ddim motions -o runs/ddim-consistency"
ABOUT = {"fps": 30.0, "frames": 64, "conditions": 128, "clips_per_seed": 256, "beats": "annotated", "noise_seed": 0,
         "interval_over": "3 seeds x 12 held-out groups"}  # fmt: skip


def figures(better: float = 0.5) -> list[dict[str, Any]]:
    """An evaluation as `choreo evaluate generation` writes it, in small."""
    made = [entry("generation.steps", 4.0, "steps", "lower", params={**ABOUT, "reason": "the fewest steps as good"})]
    gate = {**ABOUT, "gate": "Flow 4-step must match or beat DDIM-50", "mean": better}
    made.append(entry("generation.flow4_vs_ddim50.sanity", better, "1", "higher", n=768, ci=(better, better + 0.1),
                      goal=(">=", -0.01), params=gate))  # fmt: skip
    made.append(entry("generation.feet.after_lock.flow4", 1e-7, "m/s", "lower", n=768, goal=("<=", 0.001),
                      params={**ABOUT, "gate": "Zero foot sliding"}))  # fmt: skip
    tried = [{"cfg": 1.0, "shift": 1.0, "sanity": 0.9, "musicality": 0.2}]
    made.append(entry("generation.guidance.flow", 2.0, "1", "lower",
                      params={**ABOUT, "tuned": True, "shift": 2.0, "tried": tried}))  # fmt: skip
    for arm, nfe in (("held_out", 0), ("flow1", 1), ("flow4", 4), ("ddim50", 50)):
        about = {**ABOUT, "arm": arm, "nfe": nfe, "rows_per_clip": 2.0 * nfe, "cfg": 2.0 if nfe else None}
        made.append(entry(f"generation.sanity.{arm}", 0.97, "1", "higher", n=768, ci=(0.96, 0.98), params=about))
        made.append(entry(f"generation.musicality.{arm}", 0.3, "1", "higher", n=768, ci=(0.28, 0.32), params=about))
        made.append(entry(f"generation.fid_k.{arm}", 3.0, "1", "lower", n=200, ci=(2.5, 3.5),
                          floor=("real half against real half", 1.5), params=about))  # fmt: skip
    return made


def decision(sentence: str) -> dict[str, Any]:
    return entry("generation.distance_to_held_out", 5.0, "1", "lower", baseline=("mean pose", 4.0), goal=("<=", 4.0),
                 params={"slope": 0.0, "validations": 9, "decision": sentence})  # fmt: skip


def dances(folder: Path) -> Path:
    """Two clips of two arms, as `--samples` writes them."""
    from choreo_cli.motion.choreo25 import encode
    from choreo_cli.motion.dancer import choreograph, poses, write_score

    out = OutputFolder(folder, "motions", provenance("evaluate generation", {}, []))
    entries = []
    for k, arm in enumerate(("held_out", "flow4")):
        rng = np.random.default_rng(k)
        joints = poses(choreograph(write_score(np.arange(0, 4, 0.5), 0.8, rng), rng), np.arange(64) / 30)
        path = f"clips/{arm}-000.npz"
        out.write("motion", path, motion_npz.encode(encode(joints, 30.0)))
        sha = out.files[path][1]
        entries.append({
            "id": sha[:16], "path": path, "sha256": sha, "layout": "choreo25", "source": arm, "source_sha256": None,
            "n_frames": 64, "fps": 30.0, "duration_us": 2_133_333, "rig": "own", "height_m": 1.7, "scale": 1.0,
            "mean_mm": None, "p95_mm": None, "foot_mm_s": None, "clamped": 0, "flags": {}, "report": {}, "music": None,
            "group_id": arm, "split": "none", "performer": arm, "captions": [], "licence": None, "synthetic": True,
        })  # fmt: skip
    out.finish(entries, 0, ["evaluate", "generation", "runs/flow", "-o", "x.json", "--samples", str(folder)])
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    top = tmp_path_factory.mktemp("generation")
    data = material.dataset(top / "data")
    flow = material.run(top / "flow", "flow", data, metrics=[decision(SAYS)])
    evaluation = material.figures(top / "judged.json", "evaluate generation", figures(), [flow / "run.json"])
    return material.report([flow, evaluation, dances(top / "dances")])


def test_arms_gates_and_the_early_decision_are_told(made: Any) -> None:
    g = made.document["generation"]
    (table,) = g["tables"]
    assert [r["arm"] for r in table["rows"]] == ["held_out", "flow1", "flow4", "ddim50"]
    assert table["floors"]["fid_k"] == 1.5 and table["columns"]["fid_k"] == "FID_k" and "slide" not in table["columns"]
    assert table["chosen"] == {"steps": 4.0, "reason": "the fewest steps as good"}
    assert [x["restated"] for x in table["gates"]] == ["Flow 4-step must match or beat DDIM-50", "Zero foot sliding"]
    assert table["gates"][0]["rows_of"][0]["verdict"] == "pass" and table["tuned"][0]["cfg"] == 2.0
    assert g["decisions"][0]["sentence"] == SAYS and g["decisions"][0]["mean_pose"] == 4.0
    told = {e["what"]: e for e in made.document["evidence"]}
    assert told["generated dances"]["there"] and told["DDIM-50"]["there"] and SAYS in told["early decision"]["text"]
    loss = next(f for f in made.document["figures"] if f["name"] == "loss-flow")
    assert "Early decision: held-out loss not falling" in loss["text"]


def test_page_and_markdown_show_them_and_need_nothing_else(made: Any) -> None:
    found = run_files.files(made, run_files.encode(made))
    html, text = found["report.html"].decode(), found["report.md"].decode()
    for said in ("Generated dances", "Flow 4-step must match or beat DDIM-50", "real half against real half", "pivot"):
        assert said in html, said
    assert re.search(r"<section id=\"generation\".*Steps of sampling", html, re.S)
    assert "<image" not in html and "<img" not in html and len(found["report.html"]) < run_page.MAX_BYTES
    assert "### judged" in text and "the fewest steps as good" in text and "time shift 2" in text
    strips = next(f for f in made.document["figures"] if f["name"] == "dances")
    assert strips["facts"] == {"clips": ["held_out", "flow4"], "frames": [64, 64]} and not strips["missing"]
    assert json.loads(found["report.json"])["generation"]["tables"]
    again = run_files.files(made, run_files.encode(made))
    assert again == found


def test_without_an_evaluation_or_diffusion_it_says_what_is_missing(tmp_path: Path) -> None:
    data = material.dataset(tmp_path / "data")
    flow = material.run(tmp_path / "flow", "flow", data)
    told = {e["what"]: e for e in material.report([flow]).document["evidence"]}
    for what in ("generated dances", "DDIM-50", "early decision"):
        assert not told[what]["there"], what
    rps = material.report([material.run(tmp_path / "rps", "rps", data)])
    assert rps.document["generation"] is None and "DDIM-50" not in {e["what"] for e in rps.document["evidence"]}


def test_evaluations_are_compared_gate_by_gate(tmp_path: Path) -> None:
    from choreo_cli.report.run_artefact import open_path
    from choreo_cli.report.run_compare import compare

    a = material.figures(tmp_path / "a.json", "evaluate generation", figures(0.5), [])
    b = material.figures(tmp_path / "b.json", "evaluate generation", figures(0.1), [])
    found = compare([open_path(a), open_path(b)])
    assert found["worse"] == 1 and found["rows"][0]["name"] == "generation.flow4_vs_ddim50.sanity"


CHAIN = """
set -e
choreo synth motions --clips 12 --seconds 1.5 --seed 4 -o set -q
for recipe in flow ddim; do
  choreo train $recipe set --set frames=16 --set steps=2 --set batch=4 --set val_windows=4 -o $recipe -q
done
choreo evaluate generation flow --against-ddim ddim --clips 4 --steps 1,4 --no-tune -q -o judged.json \\
  --samples dances || test $? -eq 1
choreo report flow ddim judged.json dances -o report -q || test $? -eq 1 -o $? -eq 3
"""


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_block_names_every_step_and_comes_to_the_same_digests(tmp_path: Path) -> None:
    """The whole way twice: by a person's commands, and by the script of the report in an empty folder."""
    pytest.importorskip("torch")
    shim = tmp_path / "bin" / "choreo"
    shim.parent.mkdir()
    shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m choreo_cli "$@"\n')
    shim.chmod(0o755)
    env = {**os.environ, "PATH": f"{shim.parent}:{os.environ['PATH']}", "PYTHONPATH": str(TOP), "OMP_NUM_THREADS": "1"}

    def shell(script: str, folder: Path) -> None:
        folder.mkdir()
        done = subprocess.run(
            ["/bin/sh", "-c", script], cwd=folder, env=env, capture_output=True, text=True, timeout=900, check=False
        )
        assert done.returncode == 0, done.stderr[-2000:]

    shell(CHAIN, tmp_path / "first")
    again = json.loads((tmp_path / "first" / "report" / "report.json").read_text())["reproduction"]
    steps = [s["command"] for s in again["steps"]]
    assert [" ".join(s.split()[:4]) for s in steps[:3]] == [
        "choreo synth motions --clips", "choreo train flow step1", "choreo train ddim step1",
    ]  # fmt: skip
    assert steps[3] == (
        "choreo evaluate generation step2/run.json --against-ddim step3/run.json --clips 4 --steps 1,4 --no-tune"
        " -o step4.json"
    )
    assert str(tmp_path) not in again["script"]
    shell(again["script"], tmp_path / "again")
    assert (tmp_path / "again" / "step4.json").is_file()
