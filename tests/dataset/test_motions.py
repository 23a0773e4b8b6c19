"""Motion sets: what is read, how windows are cut, splits that do not leak, statistics that are proved."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from choreo_cli.audio.render import render_track, wav_bytes
from choreo_cli.dataset.motions import MotionSet, mirrored_words
from choreo_cli.dataset.motions_stats import CONTACTS, FLOOR, Stats, measure
from choreo_cli.errors import DataError, NoInputError, UsageError
from choreo_cli.motion.choreo25 import decode, encode, mirror_channels
from choreo_cli.motion.dancer import choreograph, poses, write_score
from formats import motion_npz
from formats.manifest import Manifest, Root
from formats.manifest import encode as encode_manifest
from formats.motion_npz import Skeleton

SECONDS = 5


def make_clip(seed: int, fps: float = 30.0, height: float = 1.7, seconds: float = SECONDS) -> motion_npz.MotionClip:
    rng = np.random.default_rng(seed)
    score = write_score(np.arange(0, seconds + 2, 0.5), 0.7, rng)
    joints = poses(choreograph(score, rng, height_m=height), np.arange(int(seconds * fps)) / fps + 0.3)
    return encode(joints, fps)


def entry(name: str, sha: str, clip: motion_npz.MotionClip, **told: Any) -> dict[str, Any]:
    n, fps = len(clip.channels), clip.header.fps
    return {
        "id": sha[:16], "path": name, "sha256": sha, "layout": "choreo25", "source": "dancer", "source_sha256": None,
        "n_frames": n, "fps": fps, "duration_us": round(n / fps * 1e6), "rig": "own", "height_m": 1.7, "scale": 1.0,
        "mean_mm": None, "p95_mm": None, "foot_mm_s": None, "clamped": 0, "flags": {}, "report": {}, "music": None,
        "group_id": None, "split": "none", "performer": None, "captions": [], "licence": None, "synthetic": True,
    } | told  # fmt: skip


def write_set(
    folder: Path, clips: list[tuple[motion_npz.MotionClip, dict[str, Any]]], music: dict[str, np.ndarray] | None = None
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, samples in (music or {}).items():
        (folder / name).write_bytes(wav_bytes(samples))
    entries = []
    for k, (clip, told) in enumerate(clips):
        name = f"clip-{k:02d}.npz"
        entries.append(entry(name, motion_npz.write(folder / name, clip), clip, **told))
    doc = encode_manifest(Manifest("choreo.motions/1", {}, entries, [Root("out", str(folder), True)]))
    (folder / "motions.json").write_bytes(doc)
    return folder / "motions.json"


def song(seed: int, seconds: float = SECONDS + 1.0) -> np.ndarray:
    return render_track(np.arange(0.0, seconds, 0.5), 0.8, seconds, np.random.default_rng(seed))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("motions")
    told = [{"group_id": f"g{k}", "music": f"m{k}.wav", "captions": [f"step {k}"]} for k in range(6)]
    return write_set(folder, [(make_clip(k), t) for k, t in enumerate(told)], {f"m{k}.wav": song(k) for k in range(6)})


def test_windows_are_the_clips_own_frames_with_their_features(data: Path) -> None:
    from choreo_cli.audio.dance_archive import read_track

    s = MotionSet.open(data, frames=32, stride=20, mirror=False)
    assert (s.fps, s.frames, s.audio_width, s.synthetic) == (30, 32, 35, True)
    rows = np.arange(len(s.index))
    made = s.batch(rows, 0)
    assert made["x"].shape == (len(rows), 32, 25) and made["audio"].shape == (len(rows), 32, 35)
    for w in (0, 3, len(rows) - 1):
        clip, start = s.index[w]
        own = motion_npz.read(data.parent / s.clips[clip].name)
        scaled = own.channels[start : start + 32].copy()
        scaled[:, :3] *= np.float32(1.7 / own.header.height_m)
        np.testing.assert_allclose(made["x"][w], scaled, atol=1e-6)
        heard = read_track(data.parent / f"m{clip}.wav", 30).values
        assert np.array_equal(made["audio"][w], heard[start : start + 32])
    assert sorted(np.concatenate([s.windows(k) for k in ("train", "val", "test")]).tolist()) == rows.tolist()
    with pytest.raises(IndexError):
        s.batch(np.array([len(rows)]), 0)
    with pytest.raises(UsageError):
        s.windows("all")


def test_shards_are_mapped_and_found_again(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = MotionSet.open(data, frames=32)
    assert isinstance(first.store.x[0], np.memmap) and isinstance(first.store.audio[0], np.memmap)
    from choreo_cli.dataset import motions_read

    monkeypatch.setattr(motions_read, "take", lambda *_: pytest.fail("the shards were built again"))
    again = MotionSet.open(data, frames=48, stride=8)
    assert again.sha256 == first.sha256 and len(again.windows("train")) != len(first.windows("train"))
    monkeypatch.undo()
    shard = next((data.parent / ".choreo-motions").rglob("x-0000.npy"))
    shard.write_bytes(shard.read_bytes()[:-100])  # cut: it is built again, not read
    healed = MotionSet.open(data, frames=32)
    rows = healed.windows("train")
    assert np.array_equal(healed.batch(rows, 1)["x"], first.batch(rows, 1)["x"])


def test_mirroring_depends_on_seed_epoch_and_window_alone(data: Path) -> None:
    s, plain = MotionSet.open(data, frames=32), MotionSet.open(data, frames=32, mirror=False)
    rows = s.windows("train")
    one, two = s.batch(rows, 3), s.batch(rows[::-1], 3)
    assert np.array_equal(one["x"], two["x"][::-1])
    assert 0 < one["mirrored"].sum() < len(rows)
    assert not np.array_equal(one["mirrored"], s.batch(rows, 4)["mirrored"])
    raw, flip = plain.batch(rows, 3)["x"], one["mirrored"]
    assert np.array_equal(one["x"][flip], mirror_channels(raw[flip]))
    assert np.array_equal(one["x"][~flip], raw[~flip])
    assert not s.batch(s.windows("val"), 3)["mirrored"].any()
    assert mirrored_words("Left arm up, then turn clockwise") == "Right arm up, then turn counterclockwise"


def test_one_song_or_performer_is_never_on_two_sides(tmp_path: Path) -> None:
    # Clips 0 and 1 share a song under two names, 1 and 2 a performer; the manifest tears them.
    told = [
        {"group_id": "a", "music": "m0.wav", "split": "train"},
        {"group_id": "b", "music": "copy.wav", "split": "test", "performer": "p"},
        {"group_id": "c", "music": "m2.wav", "split": "train", "performer": "p"},
        {"group_id": "d", "music": "m3.wav", "split": "val"},
        {"group_id": "e", "music": "m4.wav", "split": "train"},
    ]
    music = {"m0.wav": song(0), "copy.wav": song(0), "m2.wav": song(2), "m3.wav": song(3), "m4.wav": song(4)}
    file = write_set(tmp_path, [(make_clip(k), t) for k, t in enumerate(told)], music)
    s = MotionSet.open(file, frames=32)
    assert len({s.split.of[k] for k in (0, 1, 2)}) == 1 and len({s.group[k] for k in (0, 1, 2)}) == 1
    assert not s.split.leaks and any("leak" in n for n in s.notes)
    loose = MotionSet.open(file, frames=32, keep="group")
    assert loose.split.of == tuple(t["split"] for t in told)
    assert any("performer p" in leak for leak in loose.split.leaks) and any("track" in x for x in loose.split.leaks)


def test_the_splits_of_a_manifest_are_kept_when_nothing_leaks(tmp_path: Path) -> None:
    told = [{"group_id": f"g{k}", "music": f"m{k}.wav", "split": s} for k, s in enumerate(("val", "train", "test"))]
    file = write_set(
        tmp_path, [(make_clip(k), t) for k, t in enumerate(told)], {f"m{k}.wav": song(k) for k in range(3)}
    )
    s = MotionSet.open(file, frames=32)
    assert s.split.of == ("val", "train", "test") and not s.split.notes
    record = s.record()
    assert record["sessions"]["train"] == ["clip-01.npz"] and record["synthetic"] is True
    json.dumps(record, allow_nan=False)


def test_statistics_are_those_of_the_training_clips_and_travel(data: Path) -> None:
    s = MotionSet.open(data, frames=32)
    own = np.concatenate([s.store.clip(k)[0] for k, of in enumerate(s.split.of) if of == "train"])
    plain = [k for k in range(25) if k not in (4, 5, 14, 18)]
    np.testing.assert_allclose(s.stats.mean[plain], own.mean(0)[plain], atol=1e-5)
    np.testing.assert_allclose(s.stats.std[plain], np.maximum(own.std(0), FLOOR)[plain], atol=1e-5)
    z = s.stats.normalise(own)
    assert set(np.unique(z[:, list(CONTACTS)])) <= {-1.0, 1.0}
    np.testing.assert_allclose(s.stats.denormalise(z), own, atol=2e-6)
    back = Stats.of_dict(json.loads(json.dumps(s.stats.to_dict())))
    for name in ("mean", "std", "audio_mean", "audio_std"):
        assert np.array_equal(getattr(back, name), getattr(s.stats, name))


def test_swivels_are_angles_in_the_statistics() -> None:
    x = np.zeros((400, 25), np.float32)
    x[:, 2] = 1.0
    x[:, 14] = np.where(np.arange(400) % 2, np.pi - 0.1, -np.pi + 0.1)  # around pi, not around 0
    stats = measure([(x, np.zeros((400, 0), np.float32))], 0)
    assert abs(abs(stats.mean[14]) - np.pi) < 1e-5 and abs(stats.std[14] - 0.1) < 1e-3
    z = stats.normalise(x)
    assert np.abs(z[:, 14]).max() < 1.1
    assert "vx" in stats.floored and stats.std[0] == np.float32(FLOOR)


@pytest.mark.parametrize("field", ["mean", "std", "audio_mean", "audio_std"])
def test_unusable_statistics_are_refused(data: Path, field: str) -> None:
    told = MotionSet.open(data, frames=32).stats.to_dict()
    told[field][0] = 0.0 if field.endswith("std") else float("nan")
    with pytest.raises(DataError, match="statistics"):
        Stats.of_dict(told)
    with pytest.raises(DataError, match="cannot be read"):
        Stats.of_dict({k: v for k, v in told.items() if k != field})


def test_bodies_come_to_one_stature_and_decode_to_scaled_joints(tmp_path: Path) -> None:
    clip = make_clip(0, height=1.55)
    file = write_set(tmp_path, [(clip, {}), (make_clip(1), {})])
    s = MotionSet.open(file, frames=32, audio=False)
    assert s.audio_width == 0 and s.batch(np.array([0]), 0)["audio"].shape == (1, 32, 0)
    body, x = s.skeletons()[0], s.store.clip(0)[0]
    k = 1.7 / clip.header.height_m
    header = replace(clip.header, skeleton=Skeleton.of_vector(body), x0=clip.header.x0 * k, z0=clip.header.z0 * k)
    again = decode(replace(clip, channels=np.array(x), header=header))
    apart = np.abs(again - decode(clip) * k).max(axis=(0, 2))
    assert apart[[j for j in range(22) if j not in (10, 11)]].max() < 2e-5
    assert apart.max() < 3e-3  # toes follow a rule that counts in metres


def test_clips_of_other_rates_are_resampled_and_slow_ones_left_out(tmp_path: Path) -> None:
    clips = [(make_clip(0, 60.0), {}), (make_clip(1, 20.0), {}), (make_clip(2, 5.0), {})]
    s = MotionSet.open(write_set(tmp_path, clips), frames=32, audio=False)
    assert [int(n) for n in s.store.place[:, 2]] == [150, 149]
    assert any("below 8 poses are context" in n for n in s.notes)
    with pytest.raises(UsageError, match="5 frames per second"):
        MotionSet.open(tmp_path, fps=5)


def test_what_is_broken_is_left_out_and_told(tmp_path: Path) -> None:
    good = [(make_clip(k), {"music": f"m{k}.wav"}) for k in range(3)]
    upside = make_clip(7)
    upside = replace(upside, header=replace(upside.header, flags={**upside.header.flags, "inverted": True}))
    bad = [(upside, {"music": "m0.wav"}), (make_clip(5), {"music": "gone.wav"}), (make_clip(6), {}), (make_clip(8), {})]
    file = write_set(tmp_path, good + bad, {f"m{k}.wav": song(k) for k in range(3)})
    (tmp_path / "clip-06.npz").write_bytes(b"damaged")
    s = MotionSet.open(file, frames=32)
    assert len(s.clips) == 3
    said = "\n".join(s.notes)
    for sentence in ("upside down", "gone.wav is not there", "it has no music", "not what the manifest says"):
        assert sentence in said
    with pytest.raises(DataError, match=r"no clip has 400 frames at 30 fps: the longest has 150"):
        MotionSet.open(file, frames=400)


def test_missing_audio_and_missing_files_are_one_line(tmp_path: Path) -> None:
    file = write_set(tmp_path / "a", [(make_clip(0), {}), (make_clip(1), {})])
    with pytest.raises(DataError, match="no clip has music"):
        MotionSet.open(file)
    with pytest.raises(NoInputError, match="no file or folder"):
        MotionSet.open(tmp_path / "gone")
    (tmp_path / "empty").mkdir()
    with pytest.raises(NoInputError, match="no motion file"):
        MotionSet.open(tmp_path / "empty")


def test_a_folder_takes_the_sound_of_the_same_name(tmp_path: Path) -> None:
    for k in range(3):
        clip = make_clip(k)
        flags = {**clip.header.flags, **({"synthetic": True} if k else {})}
        motion_npz.write(tmp_path / f"dance{k}.npz", replace(clip, header=replace(clip.header, flags=flags)))
        (tmp_path / f"dance{k}.wav").write_bytes(wav_bytes(song(k, 3.0)))  # the music ends first
    s = MotionSet.open(tmp_path, frames=32)
    assert len(s.clips) == 3 and s.audio_width == 35
    assert [c.synthetic for c in s.clips] == [False, True, True] and not s.synthetic
    assert max(s.store.place[:, 2]) <= 30 * 3.0 + 17 and any("outside the music" in n for n in s.notes)
    again = MotionSet.open(tmp_path, frames=32)
    assert len(again.clips) == 3  # the caches beside the sounds are no motions


def test_hidden_folders_of_a_folder_are_passed_over(tmp_path: Path) -> None:
    for k in range(2):
        motion_npz.write(tmp_path / f"dance{k}.npz", make_clip(k))
    first = MotionSet.open(tmp_path, frames=32, audio=False)
    assert [p.name for p in (tmp_path / ".choreo-motions").iterdir()] == [first.sha256[:16]]
    (tmp_path / ".trash" / "old").mkdir(parents=True)
    motion_npz.write(tmp_path / ".trash" / "old" / "gone.npz", make_clip(3))
    again = MotionSet.open(tmp_path, frames=32, audio=False)
    assert again.sha256 == first.sha256 and [c.name for c in again.clips] == ["dance0.npz", "dance1.npz"]
    assert not [n for n in again.notes if n.startswith("left out")]
    assert len(list((tmp_path / ".choreo-motions").iterdir())) == 1  # the same shards, found again


def test_feature_files_of_others_stand_in_for_sound(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(160, 12)).astype(np.float32)
    for k in range(2):
        np.savez(tmp_path / f"f{k}.npz", features=values + k, fps=30.0)
    told = [{"music": "f0.npz", "group_id": "a"}, {"music": "f1.npz", "group_id": "b"}]
    s = MotionSet.open(write_set(tmp_path, [(make_clip(k), t) for k, t in enumerate(told)]), frames=32)
    assert s.audio_width == 12
    clip, start = s.index[0]
    assert np.array_equal(s.batch(np.array([0]), 0)["audio"][0], (values + clip)[start : start + 32])


def test_motion_and_music_are_cut_to_where_both_are(tmp_path: Path) -> None:
    """A pack gives clocks: motion may begin before or after its music, by parts of a frame."""
    from choreo_cli.audio.render import render_clicks
    from choreo_cli.dataset.motions_read import Listed, Want, take

    beats = np.arange(0.5, 9.0, 0.5)
    (tmp_path / "clicks.wav").write_bytes(wav_bytes(render_clicks(beats, 10.0)))
    motion_npz.write(tmp_path / "a.npz", make_clip(0, seconds=6))
    for start_us in (1_234_567, -789_012, 0):
        item = Listed("a", tmp_path / "a.npz", None, tmp_path / "clicks.wav", {}, clock=(start_us, 0.0))
        notes: list[str] = []
        ((_, x, audio),) = list(take([item], Want(30.0), notes))
        first = max(0, int(np.ceil(-start_us * 30e-6)))
        assert len(x) == len(audio) == 180 - first
        heard = (np.flatnonzero(audio[:, 34]) + first) / 30 + start_us * 1e-6  # on the music's clock
        assert len(heard) >= 8 and np.abs(heard[:, None] - beats[None]).min(axis=1).max() < 0.6 / 30
        assert bool(notes) == (first > 0)
