"""`choreo evaluate motion`: manifests, folders and files in, one metrics manifest out, every bad end in one line."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from choreo_cli.errors import DataError, NoInputError
from choreo_cli.metrics.motion_evaluate import How, motion_entries
from choreo_cli.metrics.motion_read import read_clip, read_clips
from choreo_cli.motion import choreo25
from formats import motion_npz
from formats.errors import FormatError
from formats.manifest import Manifest, Root, encode
from tests.metrics.motion_material import dance

Run = Callable[..., "Done"]
DATA = Path(__file__).parents[2] / "examples" / "data"


def entry_of(k: int, path: str, sha: str, frames: int, fps: float, **more: Any) -> dict[str, Any]:
    return {
        "id": f"m:{k}", "path": path, "sha256": sha, "layout": "choreo25", "source": "dancer", "source_sha256": None,
        "n_frames": frames, "fps": fps, "duration_us": round(frames / fps * 1e6), "rig": "own", "height_m": 1.7,
        "scale": 1.0, "mean_mm": None, "p95_mm": None, "foot_mm_s": None, "clamped": 0, "flags": {}, "report": {},
        "music": "beats.txt", "group_id": f"g{k // 2}", "split": "none", "performer": None, "captions": [],
        "licence": None, "synthetic": True, **more,
    }  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four clips at two rates, their music, and the manifest."""
    out = tmp_path_factory.mktemp("motions")
    np.savetxt(out / "beats.txt", np.arange(0, 8, 0.5), fmt="%.3f")
    entries = []
    for k in range(4):
        fps = (30.0, 60.0)[k % 2]
        clip = choreo25.encode(dance(6, fps, seed=k), fps)
        sha = motion_npz.write(out / f"c{k}.npz", clip)
        entries.append(entry_of(k, f"c{k}.npz", sha, len(clip.channels), fps))
    made_by = {"command": "test", "version": "0"}
    manifest = Manifest("choreo.motions/1", made_by, entries, [Root("r0", str(out), True)])
    (out / "motions.json").write_bytes(encode(manifest))
    return out


@dataclass
class Done:
    """How a command ended."""

    code: int
    out: bytes
    err: str


@pytest.fixture
def choreo(capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Run:
    """The command in this process: a fresh one for every call costs a second each."""
    from choreo_cli.app import run
    from choreo_cli.errors import ChoreoError

    monkeypatch.setenv("COLUMNS", "200")  # names are not cut, whatever terminal the suite runs in

    def call(*arguments: object, stdin: bytes = b"") -> Done:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        try:
            code = run([str(a) for a in arguments])
        except (ChoreoError, FormatError) as e:
            code = int(getattr(e, "code", 65))
        found = capfdbinary.readouterr()
        return Done(int(code), found.out, found.err.decode())

    return call


def figures(done: Done) -> dict[str, dict[str, Any]]:
    document = json.loads(done.out)
    assert document["schema"] == "choreo.metrics/1"
    return {e["name"]: e for e in document["entries"]}


def test_a_folder_its_manifest_and_stdin_give_the_same(choreo: Run, folder: Path) -> None:
    by_folder = choreo("evaluate", "motion", folder, "-q")
    by_pipe = choreo("evaluate", "motion", "-", "-q", stdin=(folder / "motions.json").read_bytes())
    assert by_folder.code == by_pipe.code == 0, by_folder.err + by_pipe.err
    found = figures(by_folder)
    assert found == figures(by_pipe)
    assert found["motion.sanity"]["value"] == 1 and found["motion.sanity"]["n"] == 4
    # Two groups of two: the interval is over groups. Contacts and resting ankles come from the clip.
    assert found["motion.slide_m_per_s"]["ci"] is not None and found["motion.float_share"]["value"] is not None
    assert found["motion.clamped_share"]["value"] == 0
    # The manifest names the music.
    assert found["motion.beat_alignment"]["n"] == 4 and found["motion.musicality_tempo_agreement"]["value"] is not None
    assert "not comparable" not in by_folder.err


def test_published_modes_gates_and_tables(choreo: Run, folder: Path) -> None:
    lengths = "0.26,0.37,0.17"
    done = choreo("evaluate", "motion", folder / "c0.npz", folder / "c1.npz", "--mode", "all", "--reference", folder,
                  "--manual-lengths", lengths, "--each", "--require", "1", "--table")  # fmt: skip
    assert done.code == 0, done.err
    shown = done.out.decode()
    for name in ("pfc@30fps", "pbc22@30fps", "skate_gmd@20fps", "bas_music@60fps_j22", "fid_k", "sanity"):
        assert name in shown
    document = json.loads(choreo("evaluate", "motion", folder / "c0.npz", "--mode", "compat:bailando", "--reference",
                                 folder, "--manual-lengths", lengths).out)  # fmt: skip
    modes = {e["params"]["mode"] for e in document["entries"]}
    assert modes == {"compat:bailando"}


def test_the_gate_of_sanity(choreo: Run, folder: Path, tmp_path: Path) -> None:
    x = dance(3) + np.random.default_rng(0).normal(scale=0.04, size=(90, 22, 3))
    motion_npz.write(tmp_path / "noise.npz", choreo25.encode(x, 30.0))
    done = choreo("evaluate", "motion", tmp_path / "noise.npz", "--require", "0.9")
    assert done.code == 1 and "sanity fails: 0" in done.err
    assert choreo("evaluate", "motion", tmp_path / "noise.npz", "--require", "0.9", "--no-gate").code == 0
    reasons = figures(done)["motion.sanity"]["params"]["reasons"]["noise"]
    assert any(r.startswith("jerk") for r in reasons)


BAD = (
    (("nowhere.npz",), 66, "no file nowhere.npz"),
    (("{data}/music.wav",), 65, "holds no motion"),
    (("{data}/metrics.json",), 65, "need choreo.motions/1"),
    (("{data}/openpose",), 65, "no motion to judge"),
    (("{data}/dance.npz", "--mode", "best"), 2, "none of fixed"),
    (("{data}/dance.npz", "--manual-lengths", "1,2"), 2, "ARM,SHOULDERS,HIPS"),
    (("{data}/dance.npz", "--fps", "nan"), 2, "--fps nan"),
    (("{data}/dance.npz", "--music", "none.wav"), 66, "no file none.wav"),
    (("{data}/dance.npz", "--beats", "{data}/dance.bvh"), 65, "no music"),
    (("{data}/dance.npz", "--reference", "nowhere"), 66, "no file nowhere"),
)


def test_every_bad_end_is_one_line_and_an_exit_code() -> None:
    from choreo_cli.app import run
    from choreo_cli.errors import ChoreoError

    for arguments, code, sentence in BAD:
        argv = [a.replace("{data}", str(DATA)) for a in arguments]
        with pytest.raises((ChoreoError, FormatError)) as e:
            run(["evaluate", "motion", *argv])
        assert sentence in str(e.value), arguments
        assert int(getattr(e.value, "code", 65)) == code, arguments
        assert "\n" not in str(e.value)


def test_damaged_and_missing_clips_of_a_manifest_are_left_out_by_name(
    choreo: Run, folder: Path, tmp_path: Path
) -> None:
    entries = []
    for k in range(3):
        clip = choreo25.encode(dance(3, seed=k), 30.0)
        sha = motion_npz.write(tmp_path / f"c{k}.npz", clip)
        entries.append(entry_of(k, f"c{k}.npz", sha, 90, 30.0, music=None))
    (tmp_path / "c1.npz").write_bytes((tmp_path / "c1.npz").read_bytes()[:-200])
    (tmp_path / "c2.npz").unlink()
    made_by = {"command": "test", "version": "0"}
    document = encode(Manifest("choreo.motions/1", made_by, entries, [Root("r0", str(tmp_path), True)]))
    (tmp_path / "motions.json").write_bytes(document)
    done = choreo("evaluate", "motion", tmp_path / "motions.json")
    assert done.code == 3
    said = done.err
    assert "c1.npz is left out" in said and "c2.npz is left out" in said
    assert figures(done)["motion.sanity"]["n"] == 1
    assert choreo("evaluate", "motion", tmp_path / "motions.json", "--keep-going", "-q").code == 0
    cut = choreo("evaluate", "motion", "-", stdin=document[:-40])
    assert cut.code == 65 and not cut.out
    assert choreo("evaluate", "motion", "-", stdin=b"").code == 65


def test_what_is_read_keeps_contacts_and_ankles_and_counts_what_is_clamped(tmp_path: Path) -> None:
    clip = choreo25.encode(dance(3), 30.0)
    motion_npz.write(tmp_path / "own.npz", clip)
    own = read_clip(tmp_path / "own.npz", "own")
    assert own.contacts is not None and own.ankle_rest_m is not None and own.clamped_share == 0
    assert (own.contacts == clip.channels[:, 4:6]).all()
    wild = clip.channels.copy()
    wild[:, 0] = 9.0
    motion_npz.write(tmp_path / "wild.npz", motion_npz.MotionClip(wild, clip.header))
    read = read_clip(tmp_path / "wild.npz", "wild")
    assert read.clamped_share == pytest.approx(1 / 23) and read.clamped is not None
    assert not np.allclose(read.joints, read.clamped)
    entries = {e["name"]: e for e in motion_entries([read], how=How())}
    assert entries["motion.clamped_share"]["value"] == pytest.approx(1 / 23)
    assert entries["motion.limits_share_after_clamp"]["value"] is not None
    plain = read_clip(DATA / "dance.bvh", "plain") if _readable(DATA / "dance.bvh") else None
    assert plain is None or (plain.contacts is None and plain.clamped is None)


def _readable(path: Path) -> bool:
    try:
        read_clip(path, "x")
    except (DataError, FormatError):
        return False
    return True


def test_names_are_unique_and_errors_name_the_reason(folder: Path) -> None:
    found = read_clips([folder / "c0.npz", folder / "c0.npz"], {})
    assert [c.name for c in found.clips] == ["c0", "c0#2"]
    with pytest.raises(NoInputError):
        read_clips([folder / "nothing"], {})


def test_help_loads_nothing_heavy_and_judging_no_torch(folder: Path) -> None:
    code = (
        "import sys\nfrom choreo_cli.app import run\n"
        "run(['evaluate', 'motion', '--help'])\n"
        "heavy = {'torch','numpy','scipy','pyarrow','matplotlib','numba'} & set(sys.modules)\nassert not heavy, heavy\n"
        f"run(['evaluate', 'motion', {str(folder / 'c0.npz')!r}, '-q'])\n"
        "assert 'torch' not in sys.modules and 'numpy' in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=DATA.parents[1]
    )
    assert done.returncode == 0, done.stderr


def test_a_folder_is_searched_for_motion_and_poses_and_a_damaged_file_in_it_is_told(
    choreo: Run, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "c0.npz").write_bytes((folder / "c0.npz").read_bytes())
    (tmp_path / "empty.bvh").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("nothing that moves\n")
    done = choreo("evaluate", "motion", tmp_path)
    assert done.code == 3 and "empty.bvh is left out" in done.err and "notes" not in done.err
    assert figures(done)["motion.sanity"]["params"]["clips"] == {"sub/c0": 1.0}
