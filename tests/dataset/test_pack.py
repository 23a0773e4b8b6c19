"""The pack: round trip, one movable folder, and every damage found before memory is touched."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_pack import Source

from choreo_cli.dataset.leaks import leak_check, normaliser
from choreo_cli.dataset.pack import INDEX, PACK_FILE, PackPair, open_pack
from choreo_cli.dataset.splits import Item, Previous, assign
from choreo_cli.dataset.windows import Stretch
from choreo_cli.errors import DataError
from formats import sealed
from formats.columns import INPUTS, MASKS, WINDOWS
from formats.errors import FormatError
from formats.tables import read_table, write_table


def reseal(folder: Path, **changes: Any) -> None:
    doc = sealed.parse((folder / PACK_FILE).read_bytes())
    for key, value in changes.items():
        at = doc
        *path, last = key.split("__")
        for step in path:
            at = at[int(step) if step.isdigit() else step]
        at[last] = value
    (folder / PACK_FILE).write_bytes(sealed.dumps(doc))


def rewrite_index(folder: Path, **columns: Any) -> None:
    table = read_table(folder / INDEX, WINDOWS)
    data = {n: table.column(n).to_pylist() for n in WINDOWS.names}
    for name, value in columns.items():
        data[name] = [value, *data[name][1:]]
    write_table(folder / INDEX, WINDOWS, data)


def test_round_trip(source: Source, tmp_path: Path) -> None:
    written = source.write(tmp_path, length=64, stride=16)
    pack = open_pack(written.folder, verify=True)
    assert written.folder == tmp_path / written.dataset_hash and pack.leaks() == [] == written.leaks
    for k, c in enumerate(INPUTS):
        assert np.array_equal(pack.x[:, k], source.frames[c.name], equal_nan=True)
    for k, name in enumerate(MASKS):
        assert np.array_equal(pack.mask[:, k], source.frames[name])
    assert np.array_equal(pack.t_us, source.frames["t_us"])
    assert len(pack) == written.windows == 5 * (12 + 6) and pack.x.flags.writeable is False
    every = pack.windows(np.arange(len(pack)))
    assert every.shape == (90, 64, 11) and every.dtype == np.float32
    for i, start in enumerate(pack.index.row_start):
        assert np.array_equal(every[i], pack.x[start : start + 64], equal_nan=True)
        assert (np.diff(pack.t_us[start : start + 64]) == 20_000).all()
    assert {s: len(pack.select(s)) for s in ("train", "val", "test")} == written.window_counts
    assert written.window_counts == {"train": 54, "val": 18, "test": 18}


def test_the_folder_holds_what_was_said_and_can_be_moved(source: Source, tmp_path: Path) -> None:
    written = source.write(tmp_path / "out" / "pack")
    names = {f"{written.dataset_hash}/{p.name}" for p in written.folder.iterdir()}
    assert names == set(written.files)
    before = open_pack(written.folder).windows([0, 5])
    assert str(tmp_path).encode() not in (written.folder / PACK_FILE).read_bytes()
    shutil.move(tmp_path / "out", tmp_path / "elsewhere")
    pack = open_pack(tmp_path / "elsewhere", verify=True)
    assert np.array_equal(pack.windows([0, 5]), before, equal_nan=True)


def test_equal_data_has_an_equal_hash_and_other_data_another(source: Source, tmp_path: Path) -> None:
    first = source.write(tmp_path / "a")
    again = source.write(tmp_path / "b")
    assert first.files == again.files
    assert source.write(tmp_path / "b", params={"rate": 50}).dataset_hash != first.dataset_hash
    assert source.write(tmp_path / "b", stride=5).dataset_hash != first.dataset_hash
    source.frames["hr"][7] += 1
    assert source.write(tmp_path / "b").dataset_hash != first.dataset_hash
    source.frames["hr"][7] -= 1
    assert source.write(tmp_path / "b").dataset_hash == first.dataset_hash
    assert source.write(tmp_path / "c", assign(source.items)).dataset_hash != first.dataset_hash


def test_statistics_come_from_train_alone(source: Source, tmp_path: Path) -> None:
    plain = open_pack(source.write(tmp_path / "a").folder)
    stats = plain.doc["normaliser"]["columns"]
    train = np.concatenate(
        [
            np.arange(p.row_start, p.row_start + p.rows)
            for p in plain.pairs
            if plain.by_pair[p.item.pair_id].split == "train"
        ]
    )
    for name in plain.columns:
        values = source.frames[name][train].astype(np.float64)
        assert stats[name]["mean"] == pytest.approx(np.nanmean(values), rel=1e-12)
        assert stats[name]["std"] == pytest.approx(np.nanstd(values), rel=1e-12)
        assert stats[name]["n"] == np.isfinite(values).sum()
    rest = np.setdiff1d(np.arange(len(plain.x)), train)
    source.frames["motion_energy"][rest] = 0.123
    other = open_pack(source.write(tmp_path / "b").folder)
    assert other.doc["normaliser"] == plain.doc["normaliser"]


def test_pairs_feed_the_next_split(source: Source, tmp_path: Path) -> None:
    made = assign(source.items)
    pack = open_pack(source.write(tmp_path, made).folder)
    assert (
        Previous.of(pack.doc["pairs"]).pairs and assign(source.items, previous=Previous.of(pack.doc["pairs"])) == made
    )


def test_audio_windows_are_the_frames_under_the_window(source: Source, tmp_path: Path) -> None:
    pack = open_pack(source.write(tmp_path).folder)
    assert pack.audio is not None
    for i in range(len(pack)):
        pair, start, first, n = (
            int(a[i]) for a in (pack.index.pair, pack.index.row_start, pack.index.audio_start, pack.index.audio_len)
        )
        audio = pack.stretches[pair].audio
        if audio is None:
            assert (first, n) == (-1, 0) and pack.audio_base[pair] == -1
            continue
        times = np.arange(audio.n_frames) * audio.hop / audio.sr
        t0 = pack.t_us[start] / 1e6
        inside = np.flatnonzero((times >= t0 - 1e-9) & (times < t0 + 64 * 0.02 - 1e-9))
        assert (first, n) == ((inside[0], len(inside)) if len(inside) else (-1, 0))
        track = next(t for t in source.tracks if t.audio_id == pack.pairs[pair].audio_id)
        got = pack.audio[pack.audio_base[pair] + max(first, 0) :][:n]
        assert np.array_equal(got, track.load()[max(first, 0) :][:n])


def test_a_torn_session_is_refused_or_declared(source: Source, tmp_path: Path) -> None:
    torn = assign(source.items, mode="loso")
    second = PackPair(Item("extra", source.items[-1].session_id, "another song"), 0, 0)
    torn.by_pair["extra"] = torn.by_pair[source.items[0].pair_id]
    source.pairs.append(second)
    with pytest.raises(
        DataError, match="the splits leak: session session-0004 is in train and test: split by component"
    ):
        source.write(tmp_path, torn)
    torn.leaks.append("session session-0004 is in train and test")
    assert source.write(tmp_path, torn).leaks == torn.leaks


def test_leak_check_finds_foreign_statistics_and_shared_rows(source: Source, tmp_path: Path) -> None:
    pack = open_pack(source.write(tmp_path).folder)
    items, stats = [p.item for p in pack.pairs], pack.doc["normaliser"]["columns"]
    rows = np.ones(len(pack.x), bool)
    greedy = {**stats, "hr": normaliser(pack.x, rows, pack.columns)["hr"]}
    found = leak_check(items, pack.stretches, pack.by_pair, pack.index, pack.x, pack.columns, greedy)
    assert found == ["the normaliser of hr is not that of the training rows"]
    w = pack.index
    last = w.row_start.copy()
    last[-1] = last[0] + 3
    moved = type(w)(w.pair, last, w.len, w.stride, w.audio_start, w.audio_len, w.valid_fraction)
    found = leak_check(items, pack.stretches, pack.by_pair, moved, pack.x, pack.columns, stats)
    assert found == ["64 rows are in windows of two splits, first row 3"]


@pytest.mark.parametrize("index", [-1, 10**6, [0, 90], [-5, 3], 2**62])
def test_windows_out_of_range_are_refused(source: Source, tmp_path: Path, index: Any) -> None:
    pack = open_pack(source.write(tmp_path).folder)
    with pytest.raises(IndexError):
        pack.windows(index if isinstance(index, list) else [index])
    for start in (-1, len(pack.x) - pack.length + 1, 2**62):
        with pytest.raises(IndexError):
            pack.gather([start])
    assert pack.windows([]).shape == (0, 64, 11)


def test_every_flipped_byte_is_found(source: Source, tmp_path: Path) -> None:
    folder = source.write(tmp_path / "good").folder
    rng = np.random.default_rng(1)
    for name in ("x.npy", "mask.npy", "t_us.npy", "audio.npy", "idx.parquet", PACK_FILE):
        data = (folder / name).read_bytes()
        for at in (0, 7, len(data) - 1, *rng.integers(0, len(data), 12).tolist()):
            damaged = bytearray(data)
            damaged[at] ^= 1 << int(rng.integers(8))
            (folder / name).write_bytes(bytes(damaged))
            with pytest.raises(FormatError) as e:
                open_pack(folder, verify=True)
            assert name in str(e.value)
        for cut in (0, 1, 9, 100, len(data) // 2, len(data) - 1):
            (folder / name).write_bytes(data[:cut])
            with pytest.raises(FormatError, match=name):
                open_pack(folder)
        (folder / name).write_bytes(data)
    open_pack(folder, verify=True)


@pytest.mark.parametrize(
    ("columns", "match"),
    [
        ({"row_start": 2**62}, "a window leaves the rows of its pair"),
        ({"row_start": 1990}, "a window leaves the rows of its pair"),
        ({"row_start": 240}, "a window leaves the rows of its pair"),
        ({"row_start": -1}, "outside"),
        ({"len": 65}, "a window leaves the rows of its pair"),
        ({"audio_start": 2**62, "audio_len": 9}, "a window leaves the audio of its pair"),
        ({"audio_start": -1, "audio_len": 9}, "a window leaves the audio of its pair"),
        ({"pair_id": "nobody"}, "a window of a pair that is not in the pack"),
        ({"split": "test"}, "a window is not in the split of its pair"),
    ],
)
def test_a_forged_index_is_refused_when_opened(
    source: Source, tmp_path: Path, columns: dict[str, Any], match: str
) -> None:
    folder = source.write(tmp_path).folder
    rewrite_index(folder, **columns)
    with pytest.raises(FormatError, match=match) as e:
        open_pack(folder)
    assert INDEX in str(e.value)


@pytest.mark.parametrize(
    "change",
    [
        {"rows": 2001}, {"rows": -1}, {"columns": ["x"]}, {"window__len": 0}, {"window__len": -5}, {"windows": 3},
        {"window__step_us": 0}, {"pairs__0__rows": 10**9}, {"pairs__0__row_start": -4}, {"pairs": None}, {"audio": None},
        {"audio__rows": 10**12}, {"audio__tracks__0__n_frames": 10**9}, {"audio__tracks__0__row_start": -3},
        {"audio__tracks__0__hop": 0}, {"schema": "choreo.pack/2"}, {"files": {}}, {"pairs__1__audio_id": "a:9"},
    ],
)  # fmt: skip
def test_a_forged_document_is_refused(source: Source, tmp_path: Path, change: dict[str, Any]) -> None:
    folder = source.write(tmp_path).folder
    reseal(folder, **change)
    with pytest.raises(FormatError):
        open_pack(folder)


def test_an_array_of_objects_or_another_order_is_refused(source: Source, tmp_path: Path) -> None:
    folder = source.write(tmp_path).folder
    for array in (np.array([{}, 1], object), np.asfortranarray(np.zeros((2000, 11), np.float32)), np.zeros((2000, 11))):
        np.save(folder / "x.npy", array, allow_pickle=True)
        with pytest.raises(FormatError, match=r"x\.npy"):
            open_pack(folder)
    (folder / "x.npy").unlink()
    with pytest.raises(FormatError, match="missing from the pack"):
        open_pack(folder)
    (folder / "x.npy").symlink_to("/dev/zero")
    with pytest.raises((FormatError, OSError)):
        open_pack(folder)


def test_which_pack_is_meant(source: Source, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="no packs here, need one"):
        open_pack(tmp_path)
    source.write(tmp_path / "pack")
    assert len(open_pack(tmp_path)) == 90
    source.write(tmp_path / "pack", stride=7)
    with pytest.raises(FormatError, match="2 packs here, need one"):
        open_pack(tmp_path)


def test_a_worker_opens_its_own_map(source: Source, tmp_path: Path) -> None:
    pack = open_pack(source.write(tmp_path).folder)
    data = pickle.dumps(pack)
    assert len(data) < 1000
    assert np.array_equal(pickle.loads(data).windows([3]), pack.windows([3]), equal_nan=True)


def test_a_pack_may_be_empty(sources: Any, tmp_path: Path) -> None:
    source = sources(1, audio=False)
    for name in MASKS:
        source.frames[name][:] = False
    pack = open_pack(source.write(tmp_path).folder, verify=True)
    assert len(pack) == 0 and pack.windows([]).shape == (0, 64, 11) and pack.audio is None
    assert json.loads(json.dumps(pack.doc["normaliser"]))["columns"]["hr"]["n"] > 0
    source.frames = {k: v[:0] for k, v in source.frames.items()}
    source.pairs = []
    none = open_pack(source.write(tmp_path / "none").folder, verify=True)
    assert len(none) == 0 and none.doc["normaliser"]["columns"]["hr"] == {"mean": None, "std": None, "n": 0}


def test_infinity_is_refused(source: Source, tmp_path: Path) -> None:
    source.frames["jerk"][3] = np.inf
    with pytest.raises(DataError, match="jerk holds an infinite value"):
        source.write(tmp_path)


def test_overlapping_rows_are_refused(source: Source, tmp_path: Path) -> None:
    source.pairs[1] = PackPair(source.pairs[1].item, 399, 400, None)
    with pytest.raises(DataError, match="share rows"):
        source.write(tmp_path)
    assert Stretch("p", 0, 1).audio is None
