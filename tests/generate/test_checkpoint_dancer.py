"""The trained dancer of examples/checkpoints: it dances to songs that it has never heard."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from choreo_cli.metrics import generation_clip
from choreo_cli.metrics.motion_music import Music
from formats import motion_npz

pytest.importorskip("torch")
DANCER = Path(__file__).parents[2] / "examples" / "checkpoints" / "dancer"
SECONDS = 8


def test_it_is_whole_and_holds_no_path(choreo: Any) -> None:
    assert choreo("check", DANCER).returncode == 0
    told = (DANCER / "model.json").read_text()
    assert "/home" not in told and "/tmp" not in told and "/root" not in told
    facts = json.loads(told)["facts"]
    assert facts["synthetic"] is True and facts["trained_tasks"] == ["GEN", "INBETWEEN", "PREDICT"]


def test_it_is_sane_on_the_beat_of_songs_of_another_seed_and_slides_nowhere(choreo: Any, tmp_path: Path) -> None:
    made = choreo("synth", "motions", "--clips", 6, "--seconds", SECONDS, "--seed", 900, "-q", "-o", "theirs")
    assert made.returncode == 0, made.stderr
    songs = sorted((tmp_path / "theirs" / "music").glob("*.wav"))
    danced = choreo("generate", DANCER, *songs, "--cfg", 3, "-q", "-o", "mine")
    assert danced.returncode == 0, danced.stderr
    truth = json.loads((tmp_path / "theirs" / "motions.json").read_text())["entries"]
    found = []
    for k, entry in enumerate(truth):
        clip = motion_npz.read(tmp_path / "mine" / f"{songs[k].stem}.npz")
        beats = [np.array(truth[j]["report"]["beats_s"]) for j in (k, (k + 1) % len(truth))]
        heard, other = (Music(songs[k].name, b, False, None, "") for b in beats)
        assert songs[k].stem == Path(entry["path"]).stem
        found.append(generation_clip.judge(clip.channels, clip.header.skeleton, clip.header.fps, heard, other).figures)
    of = {name: np.array([f[name] for f in found]) for name in found[0]}
    assert (of["sanity"] == 1).all()
    assert of["slide_after_lock"].max() <= 1e-3 and of["limits_after_clamp"].max() == 0
    assert of["beat_alignment"].mean() > 0.6 and of["shuffled"].mean() < 0.35, "of chance 0 and perfection 1"
