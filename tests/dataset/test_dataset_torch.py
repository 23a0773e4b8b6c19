"""The torch Dataset: batches equal samples, draws depend on (seed, epoch, window) alone, the missing stays missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_pack import Source, make_source

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'choreo[train]'")

from choreo_cli.dataset.dataset_torch import Augment, PoseMusicDataset, loader  # noqa: E402
from choreo_cli.dataset.pack import Pack, open_pack  # noqa: E402
from choreo_cli.errors import UsageError  # noqa: E402
from formats.columns import INPUTS  # noqa: E402

ALL = Augment(mirror=0.5, shift=7, noise=0.2)
SWAY = [c.name for c in INPUTS].index("hip_sway")
PHASE = [c.name for c in INPUTS].index("beat_phase")


@pytest.fixture
def pack(source: Source, tmp_path: Path) -> Pack:
    return open_pack(source.write(tmp_path).folder)


def same(a: dict, b: dict) -> bool:
    return set(a) == set(b) and all(torch.equal(torch.nan_to_num(a[k], 7e7), torch.nan_to_num(b[k], 7e7)) for k in a)


def test_plain_windows_are_the_pack(pack: Pack) -> None:
    data = PoseMusicDataset(pack, ("train", "val", "test"))
    assert len(data) == len(pack) == 90
    got = data.batch(range(90)).batch
    assert np.array_equal(got["x"].numpy(), pack.windows(np.arange(90)), equal_nan=True)
    assert torch.equal(got["present"], ~torch.isnan(got["x"]))
    assert got["mask"].shape == (90, 64, 4) and got["mask"].dtype == torch.bool
    assert (got["t_us"].diff(dim=1) == pack.step_us).all()
    assert [len(PoseMusicDataset(pack, s)) for s in ("train", "val", "test")] == [54, 18, 18]
    assert set(PoseMusicDataset(pack, "val").batch(range(18)).batch["window"].tolist()) == set(
        pack.select("val").tolist()
    )


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_samples_and_workers_agree(pack: Pack, workers: int) -> None:
    data = PoseMusicDataset(pack, augment=ALL, seed=3, audio=True, normalise=True, missing="mean")
    data.set_epoch(5)
    alone = {int(s["window"]): s for s in (data[i] for i in range(len(data)))}
    plain = torch.utils.data.DataLoader(data, batch_size=7, shuffle=True, num_workers=workers)
    fast = loader(data, 10, workers=workers)
    for batches in (plain, fast):
        seen = 0
        for batch in batches:
            for k, window in enumerate(batch["window"].tolist()):
                assert same(alone[window], {name: v[k] for name, v in batch.items()})
                seen += 1
        assert seen == len(data) == 54


def test_live_workers_see_the_next_epoch(pack: Pack) -> None:
    data = PoseMusicDataset(pack, augment=ALL)
    feed = torch.utils.data.DataLoader(data, batch_size=54, num_workers=1, persistent_workers=True)
    passes = []
    for epoch in (0, 1, 0):
        data.set_epoch(epoch)
        passes.append(next(iter(feed))["x"])
    assert torch.equal(passes[0].nan_to_num(9), passes[2].nan_to_num(9))
    assert not torch.equal(passes[0].nan_to_num(9), passes[1].nan_to_num(9))


def test_seed_and_epoch_change_the_draws(pack: Pack) -> None:
    def draw(seed: int, epoch: int) -> torch.Tensor:
        data = PoseMusicDataset(pack, augment=ALL, seed=seed)
        data.set_epoch(epoch)
        return data.batch(range(54)).batch["x"].nan_to_num(9)

    assert torch.equal(draw(1, 2), draw(1, 2))
    assert not torch.equal(draw(1, 2), draw(2, 1)) and not torch.equal(draw(1, 2), draw(1, 3))
    assert torch.isfinite(draw(-1, 0)).all()


def test_mirror_flips_the_sway_and_nothing_else(pack: Pack) -> None:
    plain = PoseMusicDataset(pack).batch(range(54)).batch["x"]
    every = PoseMusicDataset(pack, augment=Augment(mirror=1)).batch(range(54)).batch["x"]
    assert torch.equal(every[..., SWAY], -plain[..., SWAY])
    rest = [k for k in range(11) if k != SWAY]
    assert torch.equal(every[..., rest].nan_to_num(9), plain[..., rest].nan_to_num(9))
    half = PoseMusicDataset(pack, augment=Augment(mirror=0.5)).batch(range(54)).batch["x"]
    flipped = (half[..., SWAY] == -plain[..., SWAY]).all(dim=1)
    kept = (half[..., SWAY] == plain[..., SWAY]).all(dim=1)
    assert (flipped ^ kept).all() and 10 < int(flipped.sum()) < 44


def test_shift_stays_inside_the_unbroken_rows_and_uses_the_range(pack: Pack) -> None:
    data = PoseMusicDataset(pack, ("train", "val", "test"), augment=Augment(shift=7), audio=True)
    moved: set[int] = set()
    for epoch in range(40):
        data.set_epoch(epoch)
        batch = data.batch(range(90)).batch
        assert (batch["t_us"].diff(dim=1) == pack.step_us).all()
        start = np.array(
            [
                np.flatnonzero(np.asarray(pack.t_us[lo:hi]) == t)[0] + lo
                for t, (lo, hi) in zip(batch["t_us"][:, 0].tolist(), pack.runs, strict=True)
            ]
        )
        by = start - pack.index.row_start
        moved |= set(by.tolist())
        assert (start >= pack.runs[:, 0]).all() and (start + 64 <= pack.runs[:, 1]).all()
        assert np.array_equal(batch["x"].numpy(), pack.gather(start), equal_nan=True)
        for k in np.flatnonzero(pack.audio_base[pack.index.pair] >= 0):
            audio = pack.stretches[pack.index.pair[k]].audio
            assert audio is not None and pack.audio is not None
            times = np.arange(audio.n_frames) * audio.hop / audio.sr * 1e6
            rows = np.flatnonzero(
                (times >= batch["t_us"][k, 0].item() - 1e-3) & (times < batch["t_us"][k, 0].item() + 64 * 20_000 - 1e-3)
            )
            assert int(batch["audio_present"][k].sum()) == len(rows)
            want = pack.audio[pack.audio_base[pack.index.pair[k]] + rows]
            assert np.array_equal(batch["audio"][k, : len(rows)].numpy(), want)
            assert batch["audio"][k, len(rows) :].isnan().all()
    assert moved == set(range(-7, 8))


def test_noise_keeps_values_legal_and_the_missing_missing(pack: Pack) -> None:
    plain = PoseMusicDataset(pack).batch(range(54)).batch
    noisy = PoseMusicDataset(pack, augment=Augment(noise=0.2)).batch(range(54)).batch
    assert torch.equal(noisy["present"], plain["present"]) and not noisy["present"].all()
    for k, c in enumerate(INPUTS):
        values = noisy["x"][..., k][noisy["present"][..., k]]
        assert c.lo is not None and c.hi is not None
        assert values.min() >= c.lo and (values.max() < c.hi if c.open_hi else values.max() <= c.hi)
        change = (noisy["x"] - plain["x"])[..., k][noisy["present"][..., k]].double()
        std = pack.doc["normaliser"]["columns"][c.name]["std"]
        if k == PHASE:
            change = torch.remainder(change + 0.5, 1) - 0.5
            assert change.std().item() == pytest.approx(0.2 * 12**-0.5, rel=0.05)
            assert abs(change.mean().item()) < 0.005
        else:
            assert 0.14 * std < change.std().item() < 0.21 * std


def test_standardised_values_and_the_circular_phase(pack: Pack) -> None:
    plain = PoseMusicDataset(pack).batch(range(54)).batch["x"]
    data = PoseMusicDataset(pack, normalise=True, missing="mean")
    batch = data.batch(range(54)).batch
    assert torch.isfinite(batch["x"]).all() and (batch["x"][~batch["present"]] == 0).all()
    stats = pack.doc["normaliser"]["columns"]
    for k, c in enumerate(INPUTS):
        there = batch["present"][..., k]
        values = plain[..., k][there]
        want = (
            (torch.remainder(values + 0.5, 1) - 0.5)
            if k == PHASE
            else (values - stats[c.name]["mean"]) / stats[c.name]["std"]
        )
        assert torch.allclose(batch["x"][..., k][there], want, atol=1e-5)
    raw = PoseMusicDataset(pack, missing="mean").batch(range(54)).batch
    assert raw["x"][~raw["present"]].unique().numel() == 5


def test_a_constant_column_gets_no_noise(tmp_path: Path) -> None:
    source = make_source()
    source.frames["symmetry"][:] = 0.5
    source.frames["hip_bounce"][:] = np.nan
    data = PoseMusicDataset(open_pack(source.write(tmp_path).folder), augment=Augment(noise=1), normalise=True)
    x = data.batch(range(54)).batch["x"]
    assert (x[..., 5] == 0).all() and x[..., 4].isnan().all()


def test_refusals(pack: Pack, tmp_path: Path) -> None:
    data = PoseMusicDataset(pack)
    with pytest.raises(IndexError):
        data[54]
    with pytest.raises(IndexError):
        data.batch([0, 54])
    with pytest.raises(UsageError, match="missing values cannot be zero"):
        PoseMusicDataset(pack, missing="zero")
    with pytest.raises(UsageError, match="has no audio features"):
        PoseMusicDataset(open_pack(make_source(audio=False).write(tmp_path / "n").folder), audio=True)
    for bad in ({"mirror": 2.0}, {"shift": -1}, {"noise": -0.1}, {"noise": float("nan")}):
        with pytest.raises(UsageError, match="no augmentation"):
            Augment(**bad)


def test_an_empty_split_gives_no_batches(tmp_path: Path) -> None:
    data = PoseMusicDataset(open_pack(make_source(1).write(tmp_path).folder), "val")
    assert len(data) == 0 and list(loader(data)) == []
