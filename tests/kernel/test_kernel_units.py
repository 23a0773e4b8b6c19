"""The kernel's parts by themselves: engine, configuration, progress, provenance, tables for a person, output folders."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from choreo_cli import config, engine, outputs, runtime, streams
from choreo_cli.errors import CantCreateError, ChoreoError, ConfigError, DataError, ExitCode, NoInputError
from choreo_cli.progress import Progress
from formats import atomic
from formats.columns import METRIC
from formats.errors import FormatError
from formats.manifest import Manifest, Root, decode, encode, resolve_roots, safe_join


def double(x: int) -> int:
    return 2 * x


def die_once(marker: str) -> str:
    """Kill this worker the first time, work the second."""
    if not os.path.exists(marker):
        Path(marker).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "done"


def always_fail(x: int) -> int:
    raise DataError(f"item {x} is bad", hint="mend it")


@pytest.mark.parametrize("jobs", [1, 2])
def test_map_keeps_the_order_and_reports_progress(jobs: int) -> None:
    seen: list[tuple[int, int]] = []
    got = list(engine.run_map(double, list(range(9)), jobs=jobs, on_progress=lambda d, n: seen.append((d, n))))
    assert got == [2 * k for k in range(9)] and seen[-1] == (9, 9)


def test_a_killed_worker_costs_a_retry_not_the_batch(tmp_path: Path) -> None:
    items = [str(tmp_path / "a"), str(tmp_path / "b")]
    assert list(engine.run_map(die_once, items, jobs=2, retries=3)) == ["done", "done"]


def test_an_error_crosses_the_process_border_whole() -> None:
    with pytest.raises(DataError) as caught:
        list(engine.run_map(always_fail, [1, 2], jobs=2))
    assert (caught.value.message, caught.value.hint, caught.value.code) == ("item 1 is bad", "mend it", ExitCode.DATA)


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    rate: int = 50
    name: str = ""


def test_configuration_names_the_nearest_key(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("rate: 25\nname: x\n")
    assert config.load(file, Settings) == Settings(25, "x")
    (tmp_path / "c.toml").write_text('rate = 10\nname = "y"\n')
    assert config.load(tmp_path / "c.toml", Settings) == Settings(10, "y")
    file.write_text("raet: 25\n")
    with pytest.raises(ConfigError, match="did you mean: rate") as caught:
        config.load(file, Settings)
    assert caught.value.code == ExitCode.CONFIG
    for bad in ("rate: fast\n", "- 1\n", "rate: [\n", ""):
        file.write_text(bad)
        with pytest.raises(ConfigError):
            config.load(file, Settings)
    with pytest.raises(NoInputError):
        config.load(tmp_path / "none.yaml", Settings)


def test_progress_for_machines_is_json_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("pair", quiet=True, log=tmp_path / "log") as bar:
        bar(1, 2)
        bar.note("nobody hears this")
    lines = [json.loads(x) for x in (tmp_path / "log").read_text().splitlines()]
    assert lines[-1]["state"] == "done" and lines[-1]["done"] == 1 and lines[-1]["total"] == 2
    assert capsys.readouterr().err == ""
    with pytest.raises(ValueError), Progress("pair", log=tmp_path / "log"):
        raise ValueError
    assert json.loads((tmp_path / "log").read_text().splitlines()[-1])["state"] == "failed"


def test_equal_work_has_an_equal_id_and_secrets_are_masked() -> None:
    a = [{"role": "x", "sha256": "1", "schema": "s"}, {"role": "y", "sha256": "2", "schema": "s"}]
    one = runtime.provenance("pair", {"b": 1, "a": 2, "api_key": "hush"}, a, seed=3)
    two = runtime.provenance("pair", {"a": 2, "api_key": "hush", "b": 1}, a[::-1], seed=3)
    assert one["run_id"] == two["run_id"] and len(one["run_id"]) == 12
    assert one["params"]["api_key"] == "***"
    assert runtime.provenance("pair", {"a": 2}, a, seed=4)["run_id"] != one["run_id"]


def test_provenance_says_nothing_of_the_machine() -> None:
    text = json.dumps(runtime.provenance("pair", {}, []))
    for secret in (os.path.expanduser("~"), os.uname().nodename):
        assert secret not in text or len(secret) < 3


@pytest.mark.parametrize("width", [30, 60, 100])
def test_tables_fit_the_terminal(width: int) -> None:
    rows = [("a" * 50, "b" * 20, "c"), ("short", "x", "y" * 30)]
    lines = streams.columns(rows, ("first", "second", "third"), width)
    assert max(map(len, lines)) <= width and len(lines) == 3


def metric(name: str) -> dict[str, object]:
    from formats.metrics import entry

    return entry(name, 1.0, "s", "lower")


def test_a_finished_folder_is_done_and_a_damaged_one_is_not(tmp_path: Path) -> None:
    made = runtime.provenance("bench", {"x": 1}, [])
    with outputs.output_folder(tmp_path / "o", "metrics", dict(made)) as out:
        assert out.done_before() is None
        out.write("data", "deep/file.bin", b"content")
        doc = out.finish([metric("a")], 3, [])
    with outputs.output_folder(tmp_path / "o", "metrics", dict(made)) as out:
        assert out.done_before() == doc and out.exit_before() == 3
        assert out.begin(force=False) == doc and out.manifest_path.exists()
        assert out.begin(force=True) is None and not out.manifest_path.exists()
        out.manifest_path.write_bytes(doc)
    (tmp_path / "o" / "deep" / "file.bin").write_bytes(b"Content")
    with outputs.output_folder(tmp_path / "o", "metrics", dict(made)) as out:
        assert out.done_before() is None


def test_a_second_run_takes_away_what_the_first_left_and_nothing_else(tmp_path: Path) -> None:
    top = tmp_path / "o"
    with outputs.output_folder(top, "metrics", runtime.provenance("bench", {"x": 1}, [])) as out:
        out.write("data", "old/file.bin", b"1")
        out.finish([metric("a")], 0, [])
    (top / "my-notes.txt").write_text("mine")
    with outputs.output_folder(top, "metrics", runtime.provenance("bench", {"x": 2}, [])) as out:
        out.invalidate()
        assert not (top / "metrics.json").exists(), "an old manifest never stands beside new data"
        out.write("data", "new.bin", b"2")
        out.finish([metric("a")], 0, [])
    assert sorted(p.name for p in top.iterdir()) == [
        ".choreo.lock",
        "metrics.json",
        "metrics.run.json",
        "my-notes.txt",
        "new.bin",
    ]


def failing(path: Path, name: str = "") -> None:
    with pytest.raises(ValueError, match="no"), outputs.output_folder(path, "metrics", {}) as out:
        if name:
            out.write("data", name, b"1")
        raise ValueError("no")


def test_a_run_that_fails_leaves_no_empty_folder_of_its_own(tmp_path: Path) -> None:
    failing(tmp_path / "a" / "b" / "o")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "mine").mkdir()
    failing(tmp_path / "mine")
    failing(tmp_path / "mine" / "o")
    assert [p.name for p in (tmp_path / "mine").iterdir()] == [".choreo.lock"], "the folder of a person stays"
    failing(tmp_path / "half", "part.bin")
    assert sorted(p.name for p in (tmp_path / "half").iterdir()) == [".choreo.lock", "part.bin"]


def test_who_waits_for_a_run_that_fails_gets_a_folder_that_nobody_else_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    top, waits, works, over = tmp_path / "new" / "o", threading.Event(), threading.Event(), threading.Event()
    monkeypatch.setattr(atomic.time, "sleep", lambda _: waits.set())

    def second() -> None:
        with outputs.output_folder(top, "metrics", {}, wait_s=60) as out:
            works.set()
            over.wait(60)
            out.write("data", "file.bin", b"2")

    thread = threading.Thread(target=second)
    with pytest.raises(ValueError, match="no"), outputs.output_folder(top, "metrics", {}):
        thread.start()
        assert waits.wait(60), "the second holds the first one's lock file open"
        raise ValueError("no")
    assert works.wait(60)
    with pytest.raises(atomic.Locked), outputs.output_folder(top, "metrics", {}):
        pass
    over.set()
    thread.join()
    assert sorted(p.name for p in top.iterdir()) == [".choreo.lock", "file.bin"]


def test_an_output_that_cannot_be_made_is_73(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for bad in (tmp_path / "file", tmp_path / "file" / "o"):
        with pytest.raises(CantCreateError), outputs.output_folder(bad, "pairs", {}):
            pass


@pytest.mark.parametrize("path", ["../x", "a/../../x", "/etc/passwd", "a\0b", "", "link/x", "linkfile"], ids=repr)
def test_paths_that_leave_their_root_are_refused(path: str, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to(tmp_path)
    (root / "linkfile").symlink_to("/etc/hostname")
    with pytest.raises(FormatError):
        safe_join(root, path)


def test_roots_follow_the_manifest_or_the_override(tmp_path: Path) -> None:
    m = Manifest("choreo.metrics/1", {}, [metric("a")], [Root("out", ".", True), Root("r0", "/somewhere")])
    file = tmp_path / "m.json"
    file.write_bytes(encode(m))
    read = decode(file.read_bytes(), file=file)
    assert tuple(read.entries[0]) == METRIC.names
    assert resolve_roots(read, {}) == {"out": tmp_path.resolve(), "r0": Path("/somewhere")}
    assert resolve_roots(read, {"r0": "/mnt"})["r0"] == Path("/mnt")
    with pytest.raises(FormatError, match="--root names r9"):
        resolve_roots(read, {"r9": "/mnt"})


def test_errors_survive_pickling() -> None:
    import copy

    for e in (ChoreoError("a", hint="b", code=ExitCode.NO), FormatError("m", file="f", row=3, field="x", hint="h")):
        assert str(copy.copy(e)) == str(e)


def test_surroundings_name_what_trained_and_load_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def torch(used: bool, mps: int = 0) -> SimpleNamespace:
        cuda = SimpleNamespace(is_initialized=lambda: used, get_device_name=lambda: "GPU 1")
        backends = SimpleNamespace(mps=SimpleNamespace(is_available=lambda: mps > 0))
        return SimpleNamespace(
            cuda=cuda, backends=backends, mps=SimpleNamespace(driver_allocated_memory=lambda: mps - 1)
        )

    monkeypatch.delitem(sys.modules, "torch", raising=False)
    plain = runtime.surroundings()
    assert plain["accelerator"] is None and "torch" not in sys.modules
    assert {"numpy", "torch", "onnxruntime"} <= set(plain["packages"])
    for found, name in (
        (torch(True), "GPU 1"),
        (torch(False), None),
        (torch(False, 1), None),
        (torch(False, 9), "MPS"),
    ):
        monkeypatch.setitem(sys.modules, "torch", found)
        assert runtime.surroundings()["accelerator"] == name


def test_a_folder_that_no_file_system_makes_is_73(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As /proc answers: its folders cannot be made, and the system says that there is none."""

    def refuses(self: Path, *args: object, **more: object) -> None:
        raise FileNotFoundError(2, "No such file or directory", str(self))

    monkeypatch.setattr(Path, "mkdir", refuses)
    with pytest.raises(CantCreateError, match=r"cannot create .*out: name another folder"):
        outputs.make_folder(tmp_path / "out")


def test_a_run_that_stops_sweeps_what_its_dead_workers_left(tmp_path: Path) -> None:
    import subprocess

    from choreo_cli.outputs import output_folder

    worker = subprocess.Popen([sys.executable, "-c", ""])
    worker.wait()
    with pytest.raises(KeyboardInterrupt), output_folder(tmp_path, "videos", {}) as folder:
        left = folder.target(f".a.mp4.{worker.pid}.0123abcd.tmp")
        left.write_bytes(b"half")
        raise KeyboardInterrupt
    assert not left.exists()
