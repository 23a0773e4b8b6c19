"""`choreo generate` as a person meets it: music in, clips and a manifest out, one line for a fault, nothing half-written."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from choreo_cli import __main__ as program
from choreo_cli.errors import ExitCode
from choreo_cli.generate.generate_job import SUFFIXES
from choreo_cli.metrics.motion_read import read_clips
from formats import manifest, motion_npz
from tests.generate.conftest import Run, one_line
from tests.generate.small_dancer import write_features, write_model, write_music
from tests.generate.test_generate_finish import clip

pytest.importorskip("torch")


class Stage(NamedTuple):
    model: Path
    song: Path
    other: Path
    features: Path


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    folder = tmp_path_factory.mktemp("stage")
    return Stage(
        write_model(folder / "flow"), write_music(folder / "song.wav"), write_music(folder / "other.wav", seed=5),
        write_features(folder / "heard.npz"),
    )  # fmt: skip


def test_a_dance_is_written_with_all_that_says_where_it_came_from(run: Run, stage: Stage, tmp_path: Path) -> None:
    done = run(stage.model, stage.song, "-o", tmp_path / "d", "-q", "--seed", 3)
    assert done.code == 0, done.err
    assert done.out == (tmp_path / "d" / "motions.json").read_bytes()
    found = manifest.decode(done.out)
    (e,) = found.entries
    identity = hashlib.sha256((stage.model / "model.safetensors").read_bytes()).hexdigest()
    assert found.schema == "choreo.motions/1" and (e["path"], e["layout"], e["synthetic"]) == (
        "song.npz",
        "choreo25",
        True,
    )
    assert (e["fps"], e["n_frames"], e["music"], e["source_sha256"]) == (30.0, 90, "song.wav", identity)
    r = e["report"]
    assert (r["task"], r["steps"], r["solver"], r["seed"], r["nfe"], r["join"]) == ("gen", 2, "euler", 3, 2, "overlap")
    assert r["slide_mm_s"]["after"] <= 1.0 and 0 <= r["clamp_rate"] < 1
    roles = {i["role"]: i["sha256"] for i in found.created_by["inputs"]}
    assert roles == {"model": identity, "music": hashlib.sha256(stage.song.read_bytes()).hexdigest()}
    assert found.created_by["seed"] == 3 and found.created_by["params"]["cfg"]["audio"] == 2.0
    made = motion_npz.read(tmp_path / "d" / "song.npz")
    assert made.created_by["run_id"] == found.created_by["run_id"] and made.header.flags["synthetic"]
    assert made.header.source["model_sha256"] == identity and made.channels.shape == (90, 25)
    assert not list(stage.song.parent.glob("*.dance-*"))  # nothing is left beside the music
    again = run(stage.model, stage.song, "-o", tmp_path / "d", "-q", "--seed", 3)
    assert again.out == done.out and run(stage.model, stage.song, "-o", tmp_path / "e", "-q").out != done.out


def test_a_clip_is_the_same_whatever_else_is_made_in_the_call(run: Run, stage: Stage, tmp_path: Path) -> None:
    assert run(stage.model, stage.song, stage.other, "--clips", 3, "-o", tmp_path / "many", "-q").code == 0
    assert run(stage.model, stage.other, "--clips", 2, "-o", tmp_path / "few", "-q").code == 0
    many, few = ({p.name: motion_npz.read(p) for p in (tmp_path / n).glob("*.npz")} for n in ("many", "few"))
    assert sorted(many) == [f"{s}-{k}.npz" for s in ("other", "song") for k in range(3)]
    for name, alone in few.items():
        assert many[name].channels.tobytes() == alone.channels.tobytes()
    assert len({c.channels.tobytes() for c in many.values()}) == 6


def test_what_is_written_is_what_other_commands_read(run: Run, stage: Stage, tmp_path: Path) -> None:
    for to, suffix, layout in (("npz", ".npz", "choreo25"), ("bvh", ".bvh", "bvh"), ("humanml3d", ".npy", "humanml3d")):
        done = run(stage.model, stage.song, "--seconds", 2, "--to", to, "-o", tmp_path / to, "-q")
        assert done.code == 0, done.err
        (e,) = manifest.decode(done.out).entries
        assert (e["path"], e["layout"]) == ("song" + suffix, layout)
        assert hashlib.sha256((tmp_path / to / e["path"]).read_bytes()).hexdigest() == e["sha256"]
        judged = read_clips([manifest.decode(done.out)], {})
        assert len(judged.clips) == 1 and not judged.skipped and len(judged.clips[0].joints) > 30
        assert [p.name for p in judged.music.values()] == ["song.wav"]


def test_a_film_lies_beside_the_clip(run: Run, stage: Stage, tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    done = run(stage.model, stage.song, "--seconds", 0.5, "--to", "mp4", "-o", tmp_path / "film", "-q")
    assert done.code == 0, done.err
    outputs = {o["path"]: o["role"] for o in manifest.decode(done.out).created_by["outputs"]}
    assert outputs == {"song.npz": "motion", "song.mp4": "mp4"}
    with av.open(str(tmp_path / "film" / "song.mp4")) as film:
        assert film.streams.video[0].frames == 15 and len(film.streams.audio) == 1


def test_features_stand_in_for_sound_and_say_what_was_taken_for_granted(run: Run, stage: Stage, tmp_path: Path) -> None:
    bare = tmp_path / "bare.npz"
    np.savez(bare, features=np.load(stage.features)["features"])
    done = run(stage.model, stage.features, bare, "--seconds", 1, "-o", tmp_path / "d")
    assert done.code == 0 and "bare.npz: features are taken to be at 30.0 frames per second" in done.err
    a, b = (motion_npz.read(tmp_path / "d" / n).channels for n in ("heard.npz", "bare.npz"))
    assert a.shape == (30, 25) and a.tobytes() != b.tobytes()  # another file draws other noise


def test_a_clip_is_continued_filled_and_led_to_its_places(run: Run, stage: Stage, tmp_path: Path) -> None:
    own = clip(80)
    motion_npz.write(tmp_path / "own.npz", own)
    done = run(
        stage.model, stage.song, "--task", "predict", "--keyframes", tmp_path / "own.npz", "-o", tmp_path / "p", "-q"
    )
    assert done.code == 0, done.err
    after = motion_npz.read(tmp_path / "p" / "song.npz")
    assert after.channels[:16].tobytes() == own.channels[-16:].tobytes() and len(after.channels) == 90
    kept = [*range(8), *range(72, 80)]
    said = {}
    for name, more in (("plain", ()), ("led", ("--places",))):
        done = run(stage.model, stage.song, "--keyframes", tmp_path / "own.npz", *more, "-o", tmp_path / name)
        assert done.code == 0, done.err
        found = motion_npz.read(tmp_path / name / "song.npz")
        assert found.channels[kept].tobytes() == own.channels[kept].tobytes() and len(found.channels) == 80
        from choreo_cli.motion.choreo25 import decode

        gap = np.linalg.norm((decode(found) - decode(own))[kept], axis=-1).max()
        said[name] = (done.err, float(gap))
    assert "--places leads it there" in said["plain"][0] and said["plain"][1] > 0.01
    assert "the root was led to its places at frames [72]" in said["led"][0] and said["led"][1] < 1e-3


def test_poses_of_a_file_for_a_taller_body(run: Run, stage: Stage, tmp_path: Path) -> None:
    values = [float(v) for v in clip(30, height=1.9).channels[4]]
    doc = {"schema": "choreo.keyframes/1", "fps": 30, "height_m": 1.9,
           "keyframes": [{"frame": 0, "channels": values}, {"frame": 50, "channels": values, "place": [0.5, 1.0]}]}  # fmt: skip
    (tmp_path / "k.json").write_text(json.dumps(doc))
    for way in ("overlap", "chain"):
        done = run(
            stage.model, stage.song, "--keyframes", tmp_path / "k.json", "--join", way, "-o", tmp_path / way, "-q"
        )
        assert done.code == 0, done.err
        found = motion_npz.read(tmp_path / way / "song.npz")
        assert found.channels[[0, 50]].tobytes() == np.array([values] * 2, np.float32).tobytes()
        assert found.header.height_m == pytest.approx(1.9) and found.header.skeleton.thigh[0] == pytest.approx(
            1.9 * 0.235
        )
        from choreo_cli.motion.choreo25 import decode

        assert np.abs(decode(found)[50, 0, [0, 2]] - [0.5, 1.0]).max() < 1e-3


def test_one_bad_file_of_several_is_listed(run: Run, stage: Stage, tmp_path: Path) -> None:
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"RIFF no sound")
    done = run(stage.model, stage.song, bad, "-o", tmp_path / "d")
    assert done.code == ExitCode.PARTIAL and "left out bad.wav: " in done.err
    assert len(manifest.decode(done.out).entries) == 1
    assert json.loads((tmp_path / "d" / "left_out.jsonl").read_text())["source"] == "bad.wav"
    assert run(stage.model, stage.song, bad, "--keep-going", "-o", tmp_path / "d", "-q").code == 0


def test_a_person_sees_a_table(run: Run, stage: Stage, tmp_path: Path) -> None:
    done = run(stage.model, stage.song, "--table", "-o", tmp_path / "d", "-q", "--steps", 3, "--solver", "heun2")
    head, row, last = done.out.decode().splitlines()
    assert head.split()[:3] == ["dance", "seconds", "fps"] and row.split()[:4] == ["song.npz", "3.00", "30", "song.wav"]
    assert "3 heun2" in row and last == f"kept in {tmp_path / 'd'}"


def test_guidance_is_told_by_condition_and_interval(run: Run, stage: Stage, tmp_path: Path) -> None:
    done = run(stage.model, stage.song, "--cfg", "audio=3,from=0.2,to=0.7", "-o", tmp_path / "d", "-q")
    assert manifest.decode(done.out).entries[0]["report"]["cfg"] == {"audio": 3.0, "text": 1.0, "low": 0.2, "high": 0.7}
    one = run(stage.model, stage.song, "--cfg", "1", "-o", tmp_path / "e", "-q")
    assert manifest.decode(one.out).entries[0]["report"]["evaluations"] == 2 * 11  # no second branch
    assert one.code == 0


@pytest.mark.parametrize("to", ["npz", "bvh", "humanml3d"])
def test_the_names_that_are_kept_from_inputs_are_those_that_are_written(
    run: Run, stage: Stage, tmp_path: Path, to: str
) -> None:
    assert run(stage.model, stage.song, "--to", to, "-o", tmp_path / "d", "-q").code == 0
    made = {p.suffix for p in (tmp_path / "d").iterdir() if p.stem == "song"}
    assert made and made <= set(SUFFIXES[to])


def test_what_is_read_is_never_written_over(run: Run, stage: Stage, tmp_path: Path) -> None:
    song = tmp_path / "song.wav"
    song.write_bytes(stage.song.read_bytes())
    first = run(stage.model, song, "-o", tmp_path, "-q")
    assert first.code == 0, first.err  # beside the song is no fault
    model = write_model(tmp_path / "m")
    before = {p: p.read_bytes() for p in (song, tmp_path / "song.npz", model / "model.json")}
    calls: list[tuple[list[Any], str]] = [
        (["--stream", song], "would replace"),
        (["--stream", tmp_path / "song.npz", "--keyframes", tmp_path / "song.npz"], "would replace"),
        (["--stream", model / "model.json"], "would replace"),
        (["--keyframes", tmp_path / "song.npz", "-o", tmp_path], "would replace"),
        (["--keyframes", tmp_path / "song.npz", "--to", "bvh", "-o", tmp_path], "would replace"),
        (["-o", model], "holds the model"),
    ]
    for more, said in calls:
        done = run(model, song, *more, "-q")
        one_line(done, 2, said)
        assert all(p.read_bytes() == data for p, data in before.items())
    assert sorted(p.name for p in model.iterdir()) == ["model.json", "model.safetensors"]


BAD: list[tuple[str, Any, int, str]] = [
    ("no music", lambda s, t: [s.model], 2, "the model dances to music: name a sound or feature file"),
    ("music that is not there", lambda s, t: [s.model, t / "gone.wav"], 66, "no file"),
    ("a folder of music", lambda s, t: [s.model, t], 66, "is a folder: name the music in it"),
    ("no sound", lambda s, t: [s.model, junk(t / "junk.wav")], 65, "junk.wav"),
    ("wrong rate", lambda s, t: [s.model, write_features(t / "f.npz", fps=60.0)], 65, "holds 60 frames per second, need 30"),
    ("wrong width", lambda s, t: [s.model, write_features(t / "f.npz", width=12)], 65, "holds 12 features a frame, the model hears 35"),
    ("NaN features", lambda s, t: [s.model, nan(t / "f.npz")], 65, "not finite"),
    ("asked rate", lambda s, t: [s.model, s.song, "--fps", 60], 2, "--fps 60: the model dances at 30"),
    ("longer than its music", lambda s, t: [s.model, s.song, "--seconds", 9], 65, "ends after 3.00 s, 9 s are asked for"),
    ("no length", lambda s, t: [s.model, s.song, "--seconds", 0], 2, "--seconds 0"),
    ("NaN length", lambda s, t: [s.model, s.song, "--seconds", "nan"], 2, "not a finite number"),
    ("no model", lambda s, t: [t / "none", s.song], 66, "no model"),
    ("another model", lambda s, t: [foreign(t), s.song], 65, "the model is rps, need flow or ddim or distilled"),
    ("a cut model", lambda s, t: [cut(s, t), s.song], 65, "damaged or changed"),
    ("a cut card", lambda s, t: [cut(s, t, "model.json"), s.song], 65, "model.json"),
    ("a model of NaN", lambda s, t: [spoiled(s, t), s.song], 65, "model.safetensors"),
    ("a model of other features", lambda s, t: [write_model(t / "m", width=12), s.song], 65, "hears 12 features of another kind"),
    ("music for the deaf", lambda s, t: [write_model(t / "m", width=0), s.song], 2, "the model listens to no music"),
    ("an unlearned task", lambda s, t: [write_model(t / "m", trained_tasks=["GEN"]), s.song, "--join", "chain"], 2, "the model has not learned predict"),
    ("an unknown task", lambda s, t: [s.model, s.song, "--task", "sway"], 2, "no task 'sway'"),
    ("a task without frames", lambda s, t: [s.model, s.song, "--task", "predict"], 2, "--task predict needs frames"),
    ("frames without a task", lambda s, t: [s.model, s.song, "--at", "0-3"], 2, "--at is about --keyframes"),
    ("keyframes beyond", lambda s, t: [s.model, s.song, "--seconds", 1, "--keyframes", pose(t)], 65, "keyframe 50 lies beyond the dance of 30 frames"),
    ("a NaN clip", lambda s, t: [s.model, s.song, "--keyframes", nan_clip(t)], 65, "not finite"),
    ("a damaged clip", lambda s, t: [s.model, s.song, "--keyframes", damaged_clip(t)], 65, "own.npz"),
    ("an unknown solver", lambda s, t: [s.model, s.song, "--solver", "rk9"], 2, "no solver 'rk9'"),
    ("a solver for a distilled model", lambda s, t: [write_model(t / "m", baked=True), s.song, "--solver", "rk4"], 2, "a distilled model takes its own steps"),
    ("no steps", lambda s, t: [s.model, s.song, "--steps", 0], 2, "steps"),
    ("odd guidance", lambda s, t: [s.model, s.song, "--cfg", "loud"], 2, "--cfg 'loud'"),
    ("guidance beyond everything", lambda s, t: [s.model, s.song, "--cfg", "1e9"], 2, "--cfg 1e9: a weight of 1e+09: need 0 to 20"),
    ("guidance the other way", lambda s, t: [s.model, s.song, "--cfg", "audio=2,text=-1"], 2, "a weight of -1"),
    ("no guidance at all", lambda s, t: [s.model, s.song, "--cfg", "nan"], 2, "a weight of nan"),
    ("guidance upside down", lambda s, t: [s.model, s.song, "--cfg", "from=0.9,to=0.1"], 2, "guidance between 0.9 and 0.1"),
    ("an unknown layout", lambda s, t: [s.model, s.song, "--to", "fbx"], 2, "no layout 'fbx'"),
    ("an overlap of everything", lambda s, t: [s.model, s.song, "--overlap", 16], 2, "--overlap 16"),
    ("another backend", lambda s, t: [s.model, s.song, "--backend", "onnx"], 2, "is a checkpoint, not an ONNX package"),
    ("too short a layout", lambda s, t: [s.model, s.song, "--seconds", 0.04, "--to", "humanml3d"], 65, "two frames are needed at least"),
]  # fmt: skip


@pytest.mark.parametrize(("args", "code", "message"), [b[1:] for b in BAD], ids=[b[0] for b in BAD])
def test_bad_input_is_one_line_and_writes_nothing(
    run: Run, stage: Stage, tmp_path: Path, args: Any, code: int, message: str
) -> None:
    asked = args(stage, tmp_path)
    one_line(run(*asked, "-o", tmp_path / "out"), code, message)
    assert not [p for p in (tmp_path / "out").glob("**/*") if p.name != ".choreo.lock"]


def test_a_fault_leaves_what_was_there_before(run: Run, stage: Stage, tmp_path: Path) -> None:
    assert run(stage.model, stage.song, "-o", tmp_path / "d", "-q").code == 0

    def there() -> dict[str, bytes]:
        return {p.name: p.read_bytes() for p in (tmp_path / "d").iterdir() if p.name != ".choreo.lock"}

    before = there()
    done = run(stage.model, stage.song, "--seconds", 0.04, "--to", "humanml3d", "-o", tmp_path / "d", "-q")
    assert done.code == 65 and there() == before


def test_a_model_that_diverges_is_said(run: Run, stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from choreo_cli.generate import open_model

    opened = open_model.open_sampler

    def diverged(*args: Any, **how: Any) -> Any:
        s = opened(*args, **how)
        s.model = lambda x, *_: x * np.float32(np.nan)
        return s

    monkeypatch.setattr(open_model, "open_sampler", diverged)
    one_line(run(stage.model, stage.song, "-o", tmp_path / "out"), 65, "the model gives values that are not finite")
    assert not list((tmp_path / "out").glob("*.npz"))


@pytest.mark.parametrize(("module", "extra", "args"), [("torch", "train", ()), ("av", "video", ("--to", "mp4"))])
def test_an_extra_that_is_missing_is_said_before_anything_is_written(
    run: Run, stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, extra: str, args: Any
) -> None:
    for name in [m for m in sys.modules if m == "choreo_cli.generate.dit_torch"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    one_line(run(stage.model, stage.song, *args, "--device", "cpu", "-o", tmp_path / "out"), 69, f"choreo[{extra}]")
    assert not list((tmp_path / "out").glob("*.npz"))


def test_nothing_is_asked_of_a_network(run: Run, stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    def refused(*_: Any, **__: Any) -> Any:
        raise OSError("no network")

    monkeypatch.setattr(socket, "socket", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)
    assert run(stage.model, stage.song, "--seconds", 1, "-o", tmp_path / "d", "-q").code == 0


def test_a_pipe_goes_on_to_what_judges_it(choreo: Any, stage: Stage, tmp_path: Path) -> None:
    """Two real processes: the manifest on stdout is all that the second needs."""
    made = choreo("generate", stage.model, stage.song, "--seconds", 2, "-o", tmp_path / "d", "-q")
    assert made.returncode == 0, made.stderr
    judged = choreo("evaluate", "motion", "-", "--no-gate", "-q", input=made.stdout)
    assert judged.returncode == 0, judged.stderr
    by_name = {e["name"]: e for e in manifest.decode(judged.stdout).entries}
    assert by_name["motion.slide_m_per_s"]["value"] <= 1e-3 and by_name["motion.limits_share"]["value"] == 0


def junk(path: Path) -> Path:
    path.write_bytes(bytes(range(256)) * 9)
    return path


def nan(path: Path) -> Path:
    values = np.zeros((60, 35), np.float32)
    values[3, 3] = np.nan
    np.savez(path, features=values, fps=30.0)
    return path


def foreign(folder: Path) -> Path:
    from formats import checkpoint

    made = checkpoint.encode(checkpoint.Checkpoint("rps", {}, {"w": np.zeros(3, np.float32)}))
    (folder / "rps").mkdir()
    for name, data in made.items():
        (folder / "rps" / name).write_bytes(data)
    return folder / "rps"


def cut(stage: Stage, folder: Path, file: str = "model.safetensors") -> Path:
    (folder / "cut").mkdir()
    for p in stage.model.iterdir():
        data = p.read_bytes()
        (folder / "cut" / p.name).write_bytes(data[: len(data) // 2] if p.name == file else data)
    return folder / "cut"


def spoiled(stage: Stage, folder: Path) -> Path:
    """Weights that are not finite, under a card that names them."""
    from formats import sealed

    made = cut(stage, folder, "none")
    weights = bytearray((made / "model.safetensors").read_bytes())
    weights[-4:] = np.float32(np.nan).tobytes()
    (made / "model.safetensors").write_bytes(weights)
    card = sealed.parse((made / "model.json").read_bytes())
    card.pop("sha256", None)
    card["files"]["model.safetensors"] = hashlib.sha256(weights).hexdigest()
    (made / "model.json").write_bytes(sealed.dumps(card))
    return made


def pose(folder: Path) -> Path:
    values = [float(v) for v in clip(30).channels[4]]
    doc = {"schema": "choreo.keyframes/1", "fps": 30, "keyframes": [{"frame": 50, "channels": values}]}
    (folder / "k.json").write_text(json.dumps(doc))
    return folder / "k.json"


def nan_clip(folder: Path) -> Path:
    from formats import motion_npz as m

    own = clip(60)
    data = m.encode(own)
    # A file of ours never holds NaN: one is forged, sealed and all.
    raw = np.array(own.channels)
    at = data.index(raw.tobytes())
    raw[5, 5] = np.nan
    forged = data[:at] + raw.tobytes() + data[at + raw.nbytes :]
    forged = reseal(forged, data)
    (folder / "own.npz").write_bytes(forged)
    return folder / "own.npz"


def reseal(forged: bytes, data: bytes) -> bytes:
    """The forged archive with right checksums: of the member and of the whole."""
    import io
    import zipfile

    with zipfile.ZipFile(io.BytesIO(data)) as z:
        comment, infos = z.comment, z.infolist()
        bodies = {i.filename: forged[_offset(forged, i) : _offset(forged, i) + i.file_size] for i in infos}
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as z:
        for i in infos:
            z.writestr(i, bodies[i.filename])
        z.comment = comment[:-64] + b"0" * 64
    made = out.getvalue()[:-64]
    return made + hashlib.sha256(made).hexdigest().encode()


def _offset(data: bytes, info: Any) -> int:
    at = info.header_offset
    return int(
        at + 30 + int.from_bytes(data[at + 26 : at + 28], "little") + int.from_bytes(data[at + 28 : at + 30], "little")
    )


def damaged_clip(folder: Path) -> Path:
    motion_npz.write(folder / "own.npz", clip(60))
    data = bytearray((folder / "own.npz").read_bytes())
    data[len(data) // 3] ^= 1
    (folder / "own.npz").write_bytes(data)
    return folder / "own.npz"


def test_an_export_dances_as_its_checkpoint(run: Run, stage: Stage, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    export = tmp_path / "export"
    assert program._guarded(["export", "onnx", str(stage.model), "-o", str(export), "-q"]) == 0
    own = run(stage.model, stage.song, "--seconds", 2, "-o", tmp_path / "own", "-q")
    done = run(export, stage.song, "--seconds", 2, "-o", tmp_path / "d", "-q")
    assert done.code == 0 == own.code, done.err
    a, b = (motion_npz.read(tmp_path / n / "song.npz").channels for n in ("own", "d"))
    np.testing.assert_allclose(a, b, atol=1e-4)
    (source,) = (i for i in manifest.decode(done.out).created_by["inputs"] if i["role"] == "model")
    assert source["sha256"] == hashlib.sha256((export / "step.onnx").read_bytes()).hexdigest()
    one_line(
        run(export, stage.song, "--backend", "torch", "-o", tmp_path / "x"), 2, "is an export, which torch does not run"
    )
    (export / "step.onnx").write_bytes(b"x" * 99)
    one_line(run(export, stage.song, "-o", tmp_path / "x"), 65, "step.onnx")


def test_a_run_that_is_piped_in_is_danced(
    run: Run, stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import io

    from formats.manifest import Manifest, Root, encode

    def piped(document: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(document)))

    piped(encode(Manifest("choreo.run/1", {}, [], [Root("out", str(stage.model), True)])))
    assert run("-", stage.song, "--seconds", 1, "-o", tmp_path / "d", "-q").code == 0
    piped(encode(Manifest("choreo.motions/1", {}, [], [])))
    one_line(run("-", stage.song, "-o", tmp_path / "e"), 65, "stdin is choreo.motions/1, need choreo.run/1")
    piped(b"")
    one_line(run("-", stage.song, "-o", tmp_path / "e"), 65, "no manifest arrived")


def test_make_train_flow_names_a_configuration_that_is_there(tmp_path: Path) -> None:
    import shutil
    import subprocess

    from choreo_cli.config import load
    from choreo_cli.generate.flow_recipe_torch import Config

    top = Path(__file__).resolve().parents[2]
    assert load(top / "examples" / "generation" / "tiny-train.yaml", Config).size == "tiny"
    make = shutil.which("make")
    if make is None:
        pytest.skip("make is not installed")
    # Runs elsewhere: a checkout that has its dances already makes none.
    asked = [make, "-n", "train-flow", f"RUNS={tmp_path}"]
    said = subprocess.run(asked, cwd=top, capture_output=True, text=True, check=True).stdout
    commands = [line.split("choreo ", 1)[1] for line in said.splitlines() if "/choreo " in line]
    assert [c.split()[0] for c in commands] == ["synth", "train", "evaluate"]
    assert "examples/generation/tiny-train.yaml" in commands[1] and f"generation {tmp_path}/flow" in commands[2]
