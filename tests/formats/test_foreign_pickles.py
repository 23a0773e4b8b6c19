"""AIST++ pickles: the process that opens them returns the numbers, runs nothing, and ends within its limits (row 27)."""

from __future__ import annotations

import json
import os
import pickle
import resource
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mutator import mutants

from formats.errors import FormatError
from formats.foreign import pickle_run, smpl
from formats.foreign.joints import CANONICAL
from formats.foreign.model import PoseStream
from formats.foreign.smpl_body import axis_angle_matrices, canonical_offsets, forward
from formats.foreign.source import Source


def motion(n: int = 40, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    poses = np.cumsum(rng.normal(scale=0.01, size=(n, 72)), axis=0)
    trans = np.cumsum(rng.normal(scale=0.3, size=(n, 3)), axis=0)
    return {"smpl_loss": 0.1, "smpl_poses": poses, "smpl_scaling": np.array([93.75]), "smpl_trans": trans}


def write(path: Path, value: Any, protocol: int = 4) -> Source:
    path.write_bytes(pickle.dumps(value, protocol=protocol))
    return Source.of(path)


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_every_protocol_gives_the_same_numbers(tmp_path: Path, protocol: int) -> None:
    value = motion()
    source = write(tmp_path / "a.pkl", value, protocol)
    arrays = pickle_run.read_pickle(source)
    assert set(arrays) == {"smpl_poses", "smpl_trans", "smpl_scaling"}
    for key, array in arrays.items():
        np.testing.assert_array_equal(array, value[key])


def test_the_stream(tmp_path: Path) -> None:
    value = motion()
    source = write(tmp_path / "a.pkl", value)
    stream = smpl.read(source)
    assert isinstance(stream, PoseStream) and stream.joints == CANONICAL and (stream.units, stream.up) == ("m", "+y")
    assert stream.rate == (60, 1) and stream.rate_source == "format" and smpl.ASSUMED in stream.assumptions
    want = forward(value["smpl_poses"].reshape(-1, 24, 3), value["smpl_trans"] / 93.75, canonical_offsets(1.7))
    want[:, :, 1] += float(stream.xyz[0, 0, 1]) - want[0, 0, 1]
    np.testing.assert_allclose(stream.xyz, want, atol=1e-5)
    assert smpl.read(source, fps=30).rate == (30, 1) and smpl.read(source, fps=30).rate_source == "user"
    facts = smpl.facts(source)
    assert (facts.kind, facts.format, facts.n, facts.reason, facts.duration_us) == (
        "motion",
        "smpl-pkl",
        40,
        None,
        666667,
    )
    taller = smpl.read(source, height=1.87)
    ratio = np.linalg.norm(taller.xyz[0, 4] - taller.xyz[0, 1]) / np.linalg.norm(stream.xyz[0, 4] - stream.xyz[0, 1])
    assert ratio == pytest.approx(1.1, abs=1e-4)


def test_forward_kinematics_by_the_definition() -> None:
    from scipy.spatial.transform import Rotation

    from formats.foreign.joints import PARENTS

    rng = np.random.default_rng(3)
    poses, trans, offsets = rng.normal(size=(5, 24, 3)), rng.normal(size=(5, 3)), canonical_offsets(1.6)
    for t, got in enumerate(forward(poses, trans, offsets)):
        turns: list[Rotation] = []
        for j, parent in enumerate(PARENTS):
            local = Rotation.from_rotvec(poses[t, j])
            turns.append(local if parent < 0 else turns[parent] * local)
            want = trans[t] if parent < 0 else got[parent] + turns[parent].apply(offsets[j])
            np.testing.assert_allclose(got[j], want, atol=1e-12)
    assert np.array_equal(axis_angle_matrices(np.zeros((2, 3))), np.broadcast_to(np.eye(3), (2, 3, 3)))


def test_the_sample_moves_at_80_bpm(shared: Path) -> None:
    source = Source.of(shared / "data/mocap/smpl/aistpp_gBR_sBM_cAll_d04_mBR0_ch01.pkl")
    stream = smpl.read(source)
    assert stream.xyz.shape == (720, 22, 3) and stream.problems == () and "scaling 93.7789" in stream.assumptions
    speed = np.linalg.norm(np.diff(stream.xyz.astype(float), axis=0), axis=2).mean(axis=1)
    speed -= speed.mean()
    auto = np.correlate(speed, speed, "full")[len(speed) - 1 :]
    lags = np.arange(18, 72)  # 200 to 50 beats a minute
    peaks = [k for k in lags if auto[k] > auto[k - 1] and auto[k] > auto[k + 1]]
    assert 3600 / max(peaks, key=lambda k: float(auto[k])) == pytest.approx(80.0, abs=0.1)


def test_the_body_can_be_the_users(tmp_path: Path) -> None:
    source = write(tmp_path / "a.pkl", motion())
    rest = np.cumsum(np.ones((24, 3)) * 0.02, axis=0)
    np.save(tmp_path / "body.npy", rest)
    (tmp_path / "body.json").write_text(json.dumps({"units": "cm", "joints": (rest * 100).tolist()}))
    by_name = {n: (rest[i] * 1000).tolist() for i, n in enumerate(CANONICAL)}
    (tmp_path / "named.json").write_text(json.dumps({"units": "mm", "joints": by_name}))
    read = [smpl.read(source, body=tmp_path / n).xyz for n in ("body.npy", "body.json", "named.json")]
    np.testing.assert_allclose(read[0], read[1], atol=1e-6)
    np.testing.assert_allclose(read[0], read[2], atol=1e-6)
    assert not np.allclose(read[0], smpl.read(source).xyz, atol=1e-3)
    for text in (
        "[]",
        '{"joints": [[1, 2, 3]]}',
        '{"joints": {"pelvis": [0, 0, 0]}}',
        '{"units": "ft", "joints": []}',
        '{"offsets": 3}',
    ):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(FormatError, match=r"body|units|no l_hip|points"):
            smpl.read(source, body=tmp_path / "bad.json")


WRONG: dict[str, tuple[Any, str]] = {
    "no dictionary": ([1, 2], "no dictionary"),
    "a key missing": ({"smpl_poses": np.zeros((3, 72)), "smpl_scaling": np.ones(1)}, "no smpl_trans"),
    "another shape": ({**motion(5), "smpl_poses": np.zeros((5, 70))}, "shape"),
    "text": ({**motion(5), "smpl_trans": "smpl"}, "no array of numbers"),
    "text in an array": ({**motion(5), "smpl_trans": np.array(["a"] * 5)}, "no array of numbers"),
    "objects": ({**motion(5), "smpl_trans": np.array([[1, 2, None]] * 5, dtype=object)}, "no array of numbers"),
    "complex": ({**motion(5), "smpl_trans": np.zeros((5, 3), complex)}, "no array of numbers"),
    "not finite": ({**motion(5), "smpl_trans": np.full((5, 3), np.nan)}, "not finite"),
    "lengths differ": ({**motion(5), "smpl_trans": np.zeros((4, 3))}, "differ in length"),
    "no frames": ({**motion(5), "smpl_poses": np.zeros((0, 72)), "smpl_trans": np.zeros((0, 3))}, "shape"),
    "no scale": ({**motion(5), "smpl_scaling": np.zeros(1)}, "smpl_scaling is 0"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_motion_is_one_sentence(tmp_path: Path, name: str) -> None:
    value, words = WRONG[name]
    with pytest.raises(FormatError, match=words) as e:
        smpl.read(write(tmp_path / "a.pkl", value))
    assert "\n" not in str(e.value) and str(tmp_path) in str(e.value)


class Touch:
    """Runs when it is unpickled by anybody who trusts it."""

    def __init__(self, how: Callable[..., Any], *args: Any) -> None:
        self.how, self.args = how, args

    def __reduce__(self) -> tuple[Any, ...]:
        return self.how, self.args


def evil(mark: Path) -> dict[str, bytes]:
    import builtins
    import socket

    calls: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
        "touch": (Path.touch, (mark,)), "open": (open, (str(mark), "w")), "system": (os.system, (f"touch {mark}",)),
        "popen": (subprocess.Popen, (["touch", str(mark)],)), "exec": (builtins.exec, (f"open({str(mark)!r}, 'w')",)),
        "eval": (builtins.eval, (f"open({str(mark)!r}, 'w')",)), "import": (builtins.__import__, ("antigravity",)),
        "connect": (socket.create_connection, (("127.0.0.1", 9),)), "getattr": (getattr, ("", "join")),
        "numpy save": (np.save, (str(mark), np.zeros(1))), "fromfile": (np.fromfile, ("/etc/hostname",)),
        "loads": (pickle.loads, (b"I1\n.",)),
    }  # fmt: skip
    found = {
        name: pickle.dumps({**motion(3), "smpl_poses": Touch(how, *args)}, protocol=2)
        for name, (how, args) in calls.items()
    }
    found["memo bomb"] = b"\x80\x04r\xff\xff\xff\x7fsmpl_."  # a memo index of 2^31: 9 bytes, 4 GB
    found["array bomb"] = pickle.dumps(Touch(np.ndarray, (2**31,)), protocol=2) + b"smpl_"
    found["persistent"] = b"\x80\x02}U\x05smpl_Psmpl_poses\n."
    found["extension"] = b"\x80\x02\x82\x01smpl_."
    found["deep"] = b"\x80\x02" + b"]" * 200_000 + b"a" * 100_000 + b"smpl_."
    return found


@pytest.mark.parametrize("name", evil(Path("x")))
def test_nothing_runs_and_nothing_escapes(tmp_path: Path, name: str) -> None:
    mark = tmp_path / "it_ran"
    (tmp_path / "a.pkl").write_bytes(evil(mark)[name])
    with pytest.raises(FormatError) as e:
        smpl.read(Source.of(tmp_path / "a.pkl"))
    assert not mark.exists() and "\n" not in str(e.value)


def test_the_payloads_are_live(tmp_path: Path) -> None:
    """A control: the same bytes do run where somebody trusts them."""
    mark = tmp_path / "it_ran"
    (tmp_path / "a.pkl").write_bytes(evil(mark)["system"])
    code = "import pickle, sys; getattr(pickle, 'lo' + 'ad')(open(sys.argv[1], 'rb'))"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.pkl")], check=True, timeout=60)
    assert mark.exists()


def _in_child(code: str) -> str:
    script = (
        f"import runpy, sys; m = runpy.run_path({str(pickle_run.CHILD)!r}); import resource, os, socket, json\n{code}"
    )
    done = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True, timeout=60, check=False)
    return done.stdout + done.stderr


def test_the_limits_are_the_kernels() -> None:
    kinds = ("RLIMIT_AS", "RLIMIT_CPU", "RLIMIT_NOFILE", "RLIMIT_NPROC", "RLIMIT_FSIZE", "RLIMIT_CORE")
    out = _in_child(f"m['limit']()\nprint(json.dumps([resource.getrlimit(getattr(resource, k)) for k in {kinds}]))")
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    most = 2**30 if hard == resource.RLIM_INFINITY else min(hard, 2**30)
    assert json.loads(out) == [[most, most], [30, 30], [0, 0], [0, 0], [0, 0], [0, 0]]


@pytest.mark.parametrize("attempt", [
    "socket.socket()", "open('/etc/hostname')", "os.system('true')", "os.fork()", "os.listdir('/')", "import antigravity", "eval('1')",
    "os.open('/tmp', 0)", "bytearray(2**30)",
])  # fmt: skip
def test_nothing_outside_is_within_reach(attempt: str) -> None:
    out = _in_child(
        f"m['limit']()\ntry:\n    {attempt}\nexcept BaseException as e:\n    print('stopped', type(e).__name__)\nelse:\n    print('through')"
    )
    assert out.startswith("stopped"), out


def test_the_environment_and_the_folder_are_not_the_callers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}
    real = subprocess.Popen

    def spy(args: list[str], **kwargs: Any) -> Any:
        seen.update(kwargs, args=args)
        return real(args, **kwargs)

    monkeypatch.setenv("WANDB_API_KEY", "secret")
    monkeypatch.setattr(pickle_run.subprocess, "Popen", spy)
    smpl.read(write(tmp_path / "a.pkl", motion(3)))
    assert (
        set(seen["env"]) <= {"OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "LC_ALL"}
        and seen["cwd"] == "/"
    )
    assert seen["args"][1] == "-I" and seen["start_new_session"] and not seen.get("shell")


@pytest.mark.parametrize("answer, code", [
    (b"", 0), (b"choreo-npz\n", 0), (b"choreo-npz\nPK\x03\x04", 0), (b"choreo-npz\n" + b"x" * 50, 0), (b"", -11), (b"", -24), (b"", 1),
    (b"refused: \x1b[31mred\nline", 65),
])  # fmt: skip
def test_a_lying_child_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: bytes, code: int
) -> None:
    fake = tmp_path / "child.py"
    tail = f"os.kill(os.getpid(), {-code})" if code < 0 else f"os._exit({code})"
    fake.write_text(f"import os, signal\nos.write(1, {answer!r})\n{tail}\n")
    monkeypatch.setattr(pickle_run, "CHILD", fake)
    with pytest.raises(FormatError) as e:
        pickle_run.read_pickle(write(tmp_path / "a.pkl", motion(3)))
    assert str(e.value).isprintable()


def test_arrays_that_are_not_what_they_should_be_are_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez(
        tmp_path / "lie.npz", smpl_poses=np.full((3, 72), np.inf), smpl_trans=np.zeros((3, 3)), smpl_scaling=np.ones(1)
    )
    fake = tmp_path / "child.py"
    fake.write_text(f"import os\nos.write(1, b'choreo-npz\\n' + open({str(tmp_path / 'lie.npz')!r}, 'rb').read())\n")
    monkeypatch.setattr(pickle_run, "CHILD", fake)
    with pytest.raises(FormatError, match="crashed"):
        pickle_run.read_pickle(write(tmp_path / "a.pkl", motion(3)))


def test_an_endless_child_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "child.py"
    fake.write_text("import time\ntime.sleep(600)\n")
    monkeypatch.setattr(pickle_run, "CHILD", fake)
    monkeypatch.setattr(pickle_run, "WALL_S", 0.5)
    with pytest.raises(FormatError, match="out of time"):
        pickle_run.read_pickle(write(tmp_path / "a.pkl", motion(3)))


def test_a_pickle_of_no_motion_is_never_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickle_run.subprocess, "Popen", lambda *a, **k: pytest.fail("opened"))
    facts = smpl.facts(write(tmp_path / "a.pkl", {"weights": np.zeros(3)}))
    assert facts.kind == "other" and facts.reason == "a pickle can run code and is never opened"
    assert "not read" in str(smpl.facts(write(tmp_path / "b.pkl", {"keypoints3d": np.zeros(3)})).reason)


def campaign(folder: Path, count: int, seed: int) -> Counter[str]:
    """Read mutants in two threads; every one ends as numbers or as one FormatError, and no child outlives its answer."""
    good = pickle.dumps(motion(12, seed), protocol=4) + b""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)

    def one(item: tuple[int, tuple[str, bytes]]) -> str:
        number, (name, data) = item
        path = folder / f"{number}.pkl"
        path.write_bytes(data)
        try:
            smpl.read(Source.of(path))
        except FormatError as e:
            assert "\n" not in str(e) and str(path) in str(e), (name, e)
            return next((w for w in ("crashed", "memory", "time", "damaged") if w in e.message), "refused")
        finally:
            path.unlink()
        return "read"

    with ThreadPoolExecutor(2) as pool:
        found = Counter(pool.map(one, enumerate(mutants(good, count, seed, text=False))))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_maxrss <= max(before.ru_maxrss, 2**20), "a child used more than 1 GiB"
    assert after.ru_utime - before.ru_utime < count * 30
    assert found.total() == count and found["time"] == 0
    return found


def test_mutants_never_reach_the_parent(tmp_path: Path) -> None:
    found = campaign(tmp_path, 24, 1)
    assert found["read"] and found.total() - found["read"] > 5, found


# One process that has imported everything forks for each file what then is the child: the same limits, the same answer.
FORKS = """
import resource, os, sys, _codecs, numpy as np
m['pack']({'warm': np.zeros(1)}); _codecs.encode('', 'latin1'); _codecs.encode('', 'ascii')
for path in sys.argv[1:]:
    data = open(path, 'rb').read()
    pid = os.fork()
    if pid == 0:
        m['limit']()
        out = m['answer'](data)
        os._exit(0 if out.startswith(m['RESULT']) else 65)
    _, status, used = os.wait4(pid, 0)
    print(os.waitstatus_to_exitcode(status), used.ru_maxrss, used.ru_utime + used.ru_stime)
"""


def test_mutants_stay_within_the_limits(tmp_path: Path) -> None:
    good = pickle.dumps(motion(12), protocol=4)
    paths = []
    for number, (_, data) in enumerate(mutants(good, 150, 3, text=False)):
        paths.append(tmp_path / f"{number}.pkl")
        paths[-1].write_bytes(data)
    (tmp_path / "memo.pkl").write_bytes(evil(tmp_path / "mark")["memo bomb"])
    names = [str(p) for p in [*paths, tmp_path / "memo.pkl"]]
    script = f"import runpy; m = runpy.run_path({str(pickle_run.CHILD)!r})\n{FORKS}"
    done = subprocess.run(
        [sys.executable, "-I", "-c", script, *names], capture_output=True, text=True, timeout=200, check=True
    )
    rows = [line.split() for line in done.stdout.splitlines()]
    assert len(rows) == len(names)
    assert max(int(r[1]) for r in rows) <= 2**20 and max(float(r[2]) for r in rows) < 31
    codes = Counter(int(r[0]) for r in rows)
    assert codes[0] and codes[65] > 50 and set(codes) <= {0, 65, -11, -6, -4, -7, -8}, codes
    assert rows[-1][0] == "65", "the memo bomb ends as a sentence"


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_three_thousand_mutants_never_reach_the_parent(tmp_path: Path) -> None:
    found = campaign(tmp_path, 3000, 2)
    print(found)
    assert found["read"] and found.total() == 3000
