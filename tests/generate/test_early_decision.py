"""The early decision of a training: printed, recorded, and a command that can be followed as it stands."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from choreo_cli import app  # noqa: E402
from choreo_cli.generate import decision  # noqa: E402
from choreo_cli.generate.ddim_recipe_torch import Config  # noqa: E402
from choreo_cli.generate.open_model import open_sampler  # noqa: E402
from choreo_cli.motion.choreo25 import encode  # noqa: E402
from choreo_cli.motion.dancer import choreograph, poses, write_score  # noqa: E402
from formats import motion_npz  # noqa: E402

SAYS = "held-out loss not falling: "
# A rate of 1e-30 moves no weight: the loss stays where it is, and what is drawn is the mean pose.
STUCK = ("audio=false", "frames=16", "epochs=3", "batch=8", "structure_clips=2", "val_windows=6", "lr=1e-30")


@pytest.fixture(scope="module")
def motions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("decision") / "my dances"
    folder.mkdir()
    for k in range(4):
        rng = np.random.default_rng((6, k))
        score = write_score(np.arange(0.0, 6, 60 / rng.uniform(90, 140)), 0.8, rng)
        joints = poses(choreograph(score, rng, height_m=1.7), np.arange(40) / 30 + 1.0)
        motion_npz.write(folder / f"d{k}.npz", encode(joints, 30.0))
    return folder


def train(recipe: str, motions: Path, out: Path, capfd: pytest.CaptureFixture[str]) -> str:
    """Train a run that learns nothing; returns what it said to the person."""
    sets = [w for s in STUCK for w in ("--set", s)]
    assert app.run(["train", recipe, str(motions), *sets, "-o", str(out)]) == 0
    return capfd.readouterr().err


def test_a_loss_that_does_not_fall_is_told_and_the_told_command_makes_a_student(
    motions: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    told = train("ddim", motions, tmp_path / "ddim", capfd)
    line = next(x for x in told.splitlines() if SAYS in x)
    command = line.split(SAYS)[1]
    entry = json.loads((tmp_path / "ddim" / "run.json").read_text().split("\n")[1].rstrip(","))
    recorded = next(e for e in entry["metrics"] if e["name"] == "generation.distance_to_held_out")
    assert recorded["params"]["decision"] == SAYS + command and recorded["pass"] is not None
    card = json.loads((tmp_path / "ddim" / "model.json").read_text())
    assert card["facts"]["decision"]["go_on"] is False and card["facts"]["decision"]["commands"] == [command]
    words = shlex.split(command)
    assert words[:4] == ["choreo", "distill", "--method", "consistency"]
    assert app.run([*words[1:], "-q"]) == 0
    student = Path(words[words.index("-o") + 1])
    sampler = open_sampler(student)
    drawn = sampler.sample(None, steps=1, seed=1)
    assert drawn.shape == (1, 16, 25) and np.isfinite(drawn).all() and sampler.rows == 1


def test_of_a_flow_both_commands_are_of_the_same_budget(
    motions: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    told = train("flow", motions, tmp_path / "flow", capfd)
    line = next(x for x in told.splitlines() if SAYS in x)
    first, second = (shlex.split(c) for c in line.split(SAYS)[1].split(" && "))
    assert first[:3] == ["choreo", "train", "ddim"] and second[1] == "distill"
    given = {first[k + 1] for k, w in enumerate(first) if w == "--set"}
    assert given == {"size=tiny", *STUCK}
    assert app.run([*first[1:], "--dry-run", "-q"]) == 0
    assert str(tmp_path / "flow-ddim") in first and str(tmp_path / "flow-ddim") in second


def test_settings_that_differ_and_nothing_else() -> None:
    assert decision.changed(Config()) == ()
    assert decision.changed(Config(size="full", epochs=3, mirror=False, eta=0.5)) == ("epochs=3", "mirror=false")
