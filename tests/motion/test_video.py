"""From clip files to films: what PyAV reads back, pairs, music, rates, stretches, manifests, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from choreo_cli.errors import DataError, NoInputError, UnavailableError
from choreo_cli.motion import choreo25, video, video_inputs, video_mp4, video_sheet
from choreo_cli.motion.scene import Look, scene
from choreo_cli.motion.video import Options, Task, render, render_all
from formats import manifest, motion_npz
from formats.errors import FormatError
from formats.media import VIDEO
from tests.motion.render_material import actor, dancer

LOOK = Look(96, 96, engine="numpy")
STILL = Options(("sheet",), LOOK)


def clip_file(path: Path, frames: int = 24, fps: float = 30.0, seed: int = 0) -> Path:
    motion_npz.write(path, choreo25.encode(dancer(frames, fps, seed), fps, licence="CC0-1.0"))
    return path


def wav(path: Path, seconds: float, rate: int = 22050, channels: int = 2) -> Path:
    import soundfile

    t = np.arange(round(seconds * rate)) / rate
    click = np.exp(-(t % 0.5) * 60) * np.sin(2 * np.pi * 880 * t)
    soundfile.write(path, np.stack([click] * channels, 1) * 0.5, rate)
    return path


def task(path: Path, options: Options = STILL, reference: Path | None = None) -> Task:
    item = video_inputs.expand([path], {})[0]
    other = None if reference is None else video_inputs.expand([reference], {})[0]
    return Task(item, other, path.parent, options)


def entry(made: video.Made) -> dict[str, Any]:
    assert made.entry is not None and made.problem is None
    manifest.check_entry(made.entry, VIDEO, "test", 0)
    return made.entry


def test_the_film_is_what_was_drawn(tmp_path: Path) -> None:
    """Frames, rate, size, the sound and its length, and pictures close to those that went in."""
    av = pytest.importorskip("av", reason="PyAV is not installed: pip install 'choreo[video]'")
    film = scene([actor(45)], 30.0, LOOK, np.array([0.5]))
    sound = np.sin(np.arange(4 * 44100) * 0.05).astype(np.float32)[:, None] * np.float32(0.4)
    sha = video_mp4.write(tmp_path / "a.mp4", film, (np.repeat(sound, 2, 1), 44100), title="a dance")
    assert sha == video_mp4.write(tmp_path / "b.mp4", film, (np.repeat(sound, 2, 1), 44100), title="a dance")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mp4", "b.mp4"]
    with av.open(str(tmp_path / "a.mp4")) as c:
        picture, heard = c.streams.video[0], c.streams.audio[0]
        assert (picture.width, picture.height, picture.average_rate) == (96, 96, 30)
        assert float(picture.duration * picture.time_base) == pytest.approx(1.5)
        assert float(heard.duration * heard.time_base) == pytest.approx(1.5, abs=0.05) and heard.rate == 44100
        assert c.metadata["title"] == "a dance"
        frames = [f.to_ndarray(format="rgb24") for f in c.decode(video=0)]
    assert len(frames) == 45
    drawn = np.concatenate(list(film))
    error = np.abs(np.stack(frames).astype(int) - drawn).mean()
    assert error < 6
    assert error < np.abs(np.stack(frames)[::-1].astype(int) - drawn).mean()
    with av.open(str(tmp_path / "a.mp4")) as c:
        samples = np.concatenate([f.to_ndarray()[0] for f in c.decode(audio=0)])
    assert np.abs(samples[4000:60000]).max() == pytest.approx(0.4, abs=0.05)


@pytest.mark.parametrize(
    "fps,want", [(30, "30"), (29.97, "30000/1001"), (23.976, "24000/1001"), (59.94, "60000/1001"), (12.5, "25/2")]
)
def test_rates(fps: float, want: str) -> None:
    assert str(video_mp4.rate_of(fps)) == want


def test_odd_sizes_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("av")
    with pytest.raises(DataError, match="use even sizes"):
        video_mp4.write(tmp_path / "a.mp4", scene([actor(4)], 30.0, replace(LOOK, height=97)))
    assert list(tmp_path.iterdir()) == []


def test_a_film_that_cannot_be_finished_does_not_appear(tmp_path: Path) -> None:
    pytest.importorskip("av")
    film = scene([actor(4)], 30.0, LOOK)

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        video_mp4.write(tmp_path / "a.mp4", film, on_progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_without_pyav_only_films_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "av", None)
    clip = clip_file(tmp_path / "a.npz")
    with pytest.raises(UnavailableError, match=r"pip install 'choreo\[video\]'"):
        render(task(clip, replace(STILL, make=("mp4", "sheet"))))
    assert [p.name for p in tmp_path.iterdir()] == ["a.npz"]
    assert entry(render(task(clip)))["path"] is None


def test_stills_and_page_of_a_pair(tmp_path: Path) -> None:
    a, b = clip_file(tmp_path / "a.npz", 24), clip_file(tmp_path / "b.npz", 30, seed=1)
    made = render(task(a, Options(("sheet", "preview", "player"), LOOK), b))
    e = entry(made)
    assert e["reference"] == "b.npz" and e["licence"] == "CC0-1.0" and (e["width"], e["height"]) == (192, 96)
    assert sorted(e["files"]) == ["a.html", "a.preview.png", "a.sheet.png"]
    assert any("cut to the shorter" in n for n in e["notes"]) and e["n_frames"] == 24
    from PIL import Image

    assert Image.open(tmp_path / "a.preview.png").n_frames == 12
    assert Image.open(tmp_path / "a.sheet.png").size[0] > 700


def test_equal_work_has_equal_bytes(tmp_path: Path) -> None:
    a = clip_file(tmp_path / "a.npz", 12)
    one, two = tmp_path / "one", tmp_path / "two"
    made = []
    for out in (one, two):
        out.mkdir()
        made.append(render(replace(task(a, Options(video.KINDS[1:], LOOK)), out=out)))
    assert made[0] == made[1] and entry(made[0])["files"].keys() == {f"a{s}" for s in list(video.SUFFIX.values())[1:]}
    assert [p.read_bytes() for p in sorted(one.iterdir())] == [p.read_bytes() for p in sorted(two.iterdir())]


def test_a_stretch_at_another_rate(tmp_path: Path) -> None:
    e = entry(render(task(clip_file(tmp_path / "a.npz", 90), replace(STILL, start_s=1.0, seconds=1.0, fps=15.0))))
    assert (e["n_frames"], e["fps"], e["start_us"], e["duration_us"]) == (15, 15.0, 1_000_000, 1_000_000)
    assert any("drawn at 15 fps, recorded at 30" in n for n in e["notes"])


def test_fast_recordings_are_drawn_at_60_or_less(tmp_path: Path) -> None:
    assert entry(render(task(clip_file(tmp_path / "a.npz", 60, 120.0))))["fps"] == 60.0


def test_a_start_beyond_the_end_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"ends at 0.80 s, before --start 2"):
        render(task(clip_file(tmp_path / "a.npz"), replace(STILL, start_s=2.0)))


def test_music_is_cut_heard_and_told(tmp_path: Path) -> None:
    clip, music = clip_file(tmp_path / "a.npz", 90), wav(tmp_path / "m.wav", 30.0)
    sound, beats = video._music(task(clip, replace(STILL, music=music, start_s=1.0)), 8.0, [])
    assert sound is not None and sound[0].shape == (8 * 22050, 2)
    assert len(beats) >= 10 and np.median(np.diff(beats)) == pytest.approx(0.5, abs=0.02)
    notes: list[str] = []
    sound, _ = video._music(task(clip, replace(STILL, music=music, music_offset_s=29.0)), 8.0, notes)
    assert sound is not None and len(sound[0]) == 22050 and notes == ["the music ends after 1.00 s"]
    sound, beats = video._music(
        task(clip, replace(STILL, music=music, music_offset_s=-2.0, beats_s=(0.25, 1.0))), 3.0, []
    )
    assert sound is not None and not sound[0][: 2 * 22050].any() and sound[0][2 * 22050 :].any()
    assert beats.tolist() == [2.25, 3.0]  # on the film's clock
    e = entry(render(task(clip, replace(STILL, music=music, hear_beats=False))))
    assert e["music"] == "m.wav" and e["n_beats"] == 0 and len(e["music_sha256"]) == 64


def test_music_that_is_none(tmp_path: Path) -> None:
    clip = clip_file(tmp_path / "a.npz")
    with pytest.raises(NoInputError, match="no file"):
        render(task(clip, replace(STILL, music=tmp_path / "gone.wav")))
    with pytest.raises(FormatError):
        render(task(clip, replace(STILL, music=clip)))


def motions(folder: Path, clips: list[Path], **more: Any) -> Path:
    """A manifest of clips as `choreo retarget` writes it."""
    from formats.atomic import sha256_file

    entries = [
        {
            "id": c.stem, "path": c.name, "sha256": sha256_file(c), "layout": "choreo25", "source": c.name,
            "source_sha256": None, "n_frames": 24, "fps": 30.0, "duration_us": 800_000, "rig": "smpl", "height_m": 1.7,
            "scale": 1.0, "mean_mm": None, "p95_mm": None, "foot_mm_s": None, "clamped": 0, "flags": {}, "report": {},
            "music": None, "group_id": "g", "split": "test", "performer": None, "captions": [], "licence": "MIT",
            "synthetic": True, **more,
        }
        for c in clips
    ]  # fmt: skip
    root = manifest.Root("out", str(folder), True)
    (folder / "motions.json").write_bytes(manifest.encode(manifest.Manifest("choreo.motions/1", {}, entries, [root])))
    return folder / "motions.json"


def test_manifests_bring_split_licence_and_music(tmp_path: Path) -> None:
    clip, _ = clip_file(tmp_path / "a.npz"), wav(tmp_path / "m.wav", 2.0)
    path = motions(tmp_path, [clip], music="m.wav")
    items = video_inputs.expand([path], {})
    assert items == video_inputs.expand([tmp_path], {}) and items[0].music == tmp_path / "m.wav"
    e = entry(render(Task(items[0], None, tmp_path, STILL)))
    assert (e["group_id"], e["split"], e["licence"], e["synthetic"], e["music"]) == ("g", "test", "MIT", True, "m.wav")
    motions(tmp_path, [clip], music="gone.wav")
    e = entry(render(Task(video_inputs.expand([tmp_path], {})[0], None, tmp_path, STILL)))
    assert e["music"] is None and "music gone.wav is not there" in e["notes"]


def test_manifests_that_do_not_tell_the_truth(tmp_path: Path) -> None:
    path = motions(tmp_path, [clip_file(tmp_path / "a.npz")])
    clip_file(tmp_path / "a.npz", seed=5)
    with pytest.raises(DataError, match="not what its manifest says"):
        video_inputs.expand([path], {})
    (tmp_path / "a.npz").unlink()
    with pytest.raises(NoInputError, match="which the manifest names"):
        video_inputs.expand([path], {})


def test_folders_are_searched_and_names_are_safe(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    clip_file(tmp_path / "x" / "A b.npz"), clip_file(tmp_path / "a-b.npz"), (tmp_path / "notes.txt").write_text("hello")
    names = [i.name for i in video_inputs.expand([tmp_path], {})]
    assert sorted(names) == ["A-b-2", "a-b"] or sorted(names) == ["A-b", "a-b-2"]
    with pytest.raises(DataError, match="no motion to draw"):
        (tmp_path / "empty").mkdir()
        video_inputs.expand([tmp_path / "empty"], {})


def test_pairs_are_one_or_of_the_same_name(tmp_path: Path) -> None:
    a, b = clip_file(tmp_path / "a.npz"), clip_file(tmp_path / "b.npz", seed=1)
    items = video_inputs.expand([a, b], {})
    assert video_inputs.paired(items, []) == [None, None]
    assert video_inputs.paired(items, items[:1]) == [items[0], items[0]]
    assert video_inputs.paired(items[::-1], items) == items[::-1]
    with pytest.raises(DataError, match="no reference is called b"):
        video_inputs.paired(items, [items[0], replace(items[0], name="c")])


def test_one_of_several_that_cannot_be_drawn_is_told(tmp_path: Path) -> None:
    good, bad = clip_file(tmp_path / "a.npz"), tmp_path / "b.npz"
    bad.write_bytes(good.read_bytes()[:400])
    made = render_all([task(good), task(bad)])
    assert made[0].entry is not None and made[1].entry is None and made[1].problem
    with pytest.raises(DataError, match="none of 2 clips can be drawn"):
        render_all([task(bad), task(bad)])


def test_flat_points_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "flat.json"
    people = [{"pose_keypoints_2d": [1.0, 2.0, 0.9] * 25}]
    path.write_text(json.dumps({"version": 1.3, "people": people}))
    with pytest.raises((DataError, FormatError)):
        render(task(path))


def test_moments_of_a_sheet() -> None:
    assert video_sheet.moments(1) == [0] and video_sheet.moments(3) == [0, 1, 2]
    many = video_sheet.moments(1000)
    assert len(many) == 12 and many[0] == 0 and many[-1] == 999
