"""Several sets under one folder are one set of windows, in mapped shards; what one of them lacks is one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from test_motions import make_clip, write_set

from choreo_cli.dataset import motions_store
from choreo_cli.dataset.motions import MotionSet
from formats.errors import FormatError

SPLITS = ("train", "val", "test", "train")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("sets")
    for number, name in enumerate(("one", "two")):
        told = [{"group_id": f"g{k}", "split": s, "performer": f"{name} {k}"} for k, s in enumerate(SPLITS)]
        write_set(top / name, [(make_clip(10 * number + k, seconds=3.0), t) for k, t in enumerate(told)])
    (top / "notes").mkdir()
    return top


def test_sets_of_one_folder_are_one_set(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(motions_store, "SHARD_ROWS", 200)
    s = MotionSet.open(folder, frames=32, audio=False)
    single = [MotionSet.open(folder / name, frames=32, audio=False, cache=False) for name in ("one", "two")]
    assert len(s.windows("train")) == sum(len(o.windows("train")) for o in single)
    assert [c.name for c in s.clips] == [f"{n}/clip-{k:02d}.npz" for n in ("one", "two") for k in range(4)]
    assert s.split.of == SPLITS * 2 and not s.split.leaks and len(set(s.group)) == 8
    assert len(s.inputs) == 2 and {i["schema"] for i in s.inputs} == {"choreo.motions/1"}
    assert len(s.store.x) > 2 and all(isinstance(x, np.memmap) for x in s.store.x)
    every = np.concatenate([o.batch(o.windows("val"), 0)["x"] for o in single])
    assert np.array_equal(s.batch(s.windows("val"), 0)["x"], every)
    assert s.sha256 not in (single[0].sha256, single[1].sha256)


def test_a_performer_of_two_sets_stays_on_one_side(tmp_path: Path) -> None:
    for number, (name, split) in enumerate((("a", "train"), ("b", "test"))):
        told = [{"group_id": "g", "split": split, "performer": "Ann"}, {"group_id": "h", "split": "train"}]
        write_set(tmp_path / name, [(make_clip(4 * number + k, seconds=3.0), t) for k, t in enumerate(told)])
    s = MotionSet.open(tmp_path, frames=32, audio=False, cache=False)
    assert s.split.of[0] == s.split.of[2] and s.group[0] == s.group[2] and any("leak" in n for n in s.notes)


def test_one_damaged_set_is_named(folder: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "motions.json").write_bytes((folder / name / "motions.json").read_bytes())
    whole = (tmp_path / "two" / "motions.json").read_bytes()
    (tmp_path / "two" / "motions.json").write_bytes(whole[:-30])
    with pytest.raises(FormatError) as e:
        MotionSet.open(tmp_path, audio=False)
    assert "two" in str(e.value) and "\n" not in str(e.value)
