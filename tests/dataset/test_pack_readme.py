"""The README of an output folder: its ten lines run, from wherever the folder was moved to."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from small_pack import Source, make_source

from choreo_cli.dataset.pack import open_pack
from choreo_cli.dataset.readme import pack_readme
from choreo_cli.dataset.splits import assign

TOP = Path(__file__).resolve().parents[2]
ENTRY = {
    "pair_id": "session-0000/0", "track": "songs/a|b <x>.wav", "method": "motion_xcorr", "offset_us": 120_300,
    "offset_ci_us": [110_000, 130_000], "identifiable": "yes",
    "assumptions": ["clock of phone-2 is UTC +-1 s from folder name"],
}  # fmt: skip


def snippet(text: str) -> str:
    found = re.findall(r"```python\n(.*?)```", text, re.S)
    assert len(found) == 1
    return found[0]


@pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="torch is not installed: pip install 'choreo[train]'"
)
def test_the_snippet_runs_in_the_moved_folder(source: Source, tmp_path: Path) -> None:
    out = tmp_path / "out"
    source.write(out / "pack")
    (out / "README.md").write_text(pack_readme(open_pack(out), [ENTRY]))
    moved = tmp_path / "moved to"
    shutil.move(out, moved)
    code = snippet((moved / "README.md").read_text())
    assert len(code.splitlines()) == 10
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(TOP), "OMP_NUM_THREADS": "1"}
    for where, arguments in ((moved, []), (tmp_path, ["moved to"])):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            cwd=where,
            env=env,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[0].startswith("torch.Size([54, 64, 11]) 0.9")
        assert done.stdout.splitlines()[-1].startswith("54 windows of 64 frames, ('motion_energy',")


def test_what_it_says(source: Source, tmp_path: Path) -> None:
    pack = open_pack(source.write(tmp_path / "pack").folder)
    text = pack_readme(pack, [ENTRY, ENTRY])
    assert text == pack_readme(open_pack(tmp_path), [ENTRY, ENTRY])
    for part in (
        "5 pairs, 2000 frames (0.01 h at 50 Hz), 90 windows of 64 frames",
        f"- dataset hash: `{pack.doc['dataset_hash']}`",
        "| train | 3 | 54 |",
        "5 folds, this one tests session-0004",
        "| session-0000/0 | songs/a\\|b &lt;x>.wav | motion_xcorr | 120.3 | 110.0 .. 130.0 | yes |",
        "- clock of phone-2 is UTC +-1 s from folder name (2 of 2 pairs)",
        "`audio.npy`: float32 (1200, 3)",
    ):
        assert part in text, part
    assert str(tmp_path) not in text and "LEAK" not in text and "synthetic:" not in text


def test_leaks_and_empty_splits_are_said(tmp_path: Path) -> None:
    source = make_source(audio=False)
    split = assign(source.items)
    split.leaks.append("track song 1 is in train and test")
    text = pack_readme(open_pack(source.write(tmp_path, split).folder))
    assert "LEAK, accepted by `--group component`: track song 1 is in train and test" in text
    assert "nothing in val and test" in text and "audio.npy" not in text and "## Alignment" not in text
