"""The job around the loop: settings, curves, heartbeats, copies, seeds, what a status says; no process of its own."""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from choreo_cli import progress, runtime
from choreo_cli.errors import CantCreateError, DataError, NoInputError, UnavailableError, UsageError
from choreo_cli.outputs import OutputFolder, output_folder
from choreo_cli.training import environment, meter, recipes, seeds, settings, source, status, sync, track
from formats import manifest
from formats import status as heartbeat
from formats.columns import RUN, STATUS
from formats.manifest import check_entry

torch = pytest.importorskip("torch")

from choreo_cli.training import job, plan, runlog  # noqa: E402

HERE = Path(__file__).resolve().parent


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The toy recipe among the others."""
    monkeypatch.syspath_prepend(str(HERE))
    monkeypatch.setitem(recipes.RECIPES, "toy", ("toy_lane", "a line through noisy points"))
    return settings.lane("toy")


def asked(toy: Any, tmp: Path, *, seed: int = 0, options: dict[str, Any] | None = None, **more: Any) -> job.Asked:
    config = settings.resolve(toy.Config, None, {k: str(v) for k, v in more.items()})
    return job.Asked("toy", toy, job.Job(tmp, None, config, seed, options or {}))


def train(found: job.Asked, out: Path, **around: Any) -> bytes:
    opened = job.open_job(found)
    with output_folder(out, "run", opened.created_by) as folder:
        return job.run(opened, folder, job.Around(**around))


# settings


def test_a_recipe_without_its_module_is_not_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(recipes.RECIPES, "ghost", ("choreo_cli.reflex.ghost_torch", "not there"))
    assert "toy" in settings.available() and "ghost" not in settings.available()
    with pytest.raises(UsageError, match="no recipe 'ghost'"):
        settings.lane("ghost")


def test_an_unknown_recipe_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="no recipe 'toyy': did you mean: toy\\?"):
        settings.lane("toyy")


def test_a_missing_package_of_training_is_69_with_the_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "toy_lane", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(UnavailableError, match=r"training needs torch: pip install 'choreo\[train\]'") as caught:
        settings.lane("toy")
    assert caught.value.code == 69


def test_settings_take_the_types_of_the_fields(toy: Any) -> None:
    base = settings.resolve(toy.Config, None, {"lr": "0.5"})
    found = settings.resolve(
        toy.Config, base, settings.parse_sets(["epochs=7", "decay=true", "taps=[3, 4]", "width = 2", "epochs=8"])
    )
    assert (found.lr, found.epochs, found.decay, found.taps, found.width) == (0.5, 8, True, (3, 4), 2)


@pytest.mark.parametrize(
    ("sets", "says"),
    [
        (["widht=3"], "--set widht: no such setting: did you mean: width?"),
        (["width=wide"], "--set width=wide: expected int, got str"),
        (["lr=nan"], "--set lr=nan: expected float"),
        (["epochs=0"], "--set epochs=0: expected int >= 1"),
        (["threads=10000"], "--set threads=10000: expected int <= 256"),
        (["epochs"], "--set 'epochs' is not KEY=VALUE"),
        (["=3"], "--set '=3' is not KEY=VALUE"),
    ],
)
def test_a_bad_setting_is_named(toy: Any, sets: list[str], says: str) -> None:
    with pytest.raises(UsageError) as caught:
        settings.resolve(toy.Config, None, settings.parse_sets(sets))
    assert says in str(caught.value)


def test_an_option_of_another_recipe_names_who_takes_it(toy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings.options_of("toy", toy, {"split": "hash", "targets": None}) == {"split": "hash"}
    monkeypatch.setattr(settings, "available", lambda: {"toy": ""})
    with pytest.raises(UsageError, match="toy has no --targets: no recipe takes it"):
        settings.options_of("toy", toy, {"targets": Path("x")})
    monkeypatch.setitem(recipes.RECIPES, "second", ("toy_lane", ""))
    monkeypatch.setattr(settings, "available", lambda: {"second": ""})
    empty = type("Lane", (), {"TAKES": ()})
    with pytest.raises(UsageError, match="other has no --split: it is for: second"):
        settings.options_of("other", empty, {"split": "hash"})


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (("1,1", None, 0), "not a list of different seeds"),
        (("a", None, 0), "not a list of different seeds"),
        (("-1", None, 0), "not a list of different seeds"),
        (("", 1, 0), "--only needs --seeds"),
        (("1,2", 3, 0), "--only 3 is none of --seeds 1,2"),
        (("1,2", None, 5), "exclude each other"),
    ],
)
def test_bad_seeds(given: tuple[str, int | None, int], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        settings.seeds_of(*given)


def test_seeds_are_a_list() -> None:
    assert settings.seeds_of("0,2,1", 2, 0) == [0, 2, 1] and settings.seeds_of("", None, 4) == []


# what a named input is


def test_a_folder_is_its_manifest_when_the_recipe_reads_it(tmp_path: Path) -> None:
    reads = ("choreo.pairs", "choreo.sessions")
    (tmp_path / "inventory.json").touch()
    assert source.manifest_of(tmp_path, reads) == tmp_path / "inventory.json"  # refused by its kind, with both named
    (tmp_path / "frames.parquet").touch()
    assert source.manifest_of(tmp_path, reads) is None
    (tmp_path / "sessions.json").touch()
    assert source.manifest_of(tmp_path, reads) == tmp_path / "sessions.json"
    (tmp_path / "pairs.json").touch()
    assert source.manifest_of(tmp_path, reads) == tmp_path / "pairs.json"
    assert source.manifest_of(tmp_path / "frames.parquet", reads) is None
    with pytest.raises(NoInputError, match=r"need choreo\.pairs/1 or choreo\.sessions/1"):
        source.manifest_of(tmp_path / "nothing", reads)


def test_a_run_that_has_not_ended_is_no_input(tmp_path: Path) -> None:
    for name in ("status.json", "metrics.json", "log.jsonl"):
        (tmp_path / name).touch()
    with pytest.raises(NoInputError, match=r"the training in .* is not finished: give its own command again"):
        source.manifest_of(tmp_path, ("choreo.run", "choreo.sessions"))
    (tmp_path / "run.json").touch()
    assert source.manifest_of(tmp_path, ("choreo.run", "choreo.sessions")) == tmp_path / "run.json"
    with pytest.raises(DataError, match=r"is a trained run, no motions: name the motions to learn from"):
        source.manifest_of(tmp_path, ("choreo.motions",))


# curves


def test_validations_are_read_while_the_log_is_being_written(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    assert runlog.validations(path) == []
    curves = runlog.Curves(path)
    first, last = ({"kind": "validation", "step": n, "loss": loss} for n, loss in ((2, 0.5), (4, None)))
    curves({"kind": "step", "step": 1, "loss": 1.0})
    for record in (first, {"kind": "step", "step": 3, "loss": 0.7}, last):
        curves(record)
    whole = curves.close()
    assert runlog.validations(path) == [first, last]
    for cut in range(1, len(whole.splitlines()[-1]) + 1):
        path.write_bytes(whole[: -1 - cut])
        assert runlog.validations(path) == [first], "the last line is being written"
    path.write_bytes(b'[1]\n7\nnull\n\xff\n{"kind": "validation"\n\n' + whole)
    assert runlog.validations(path) == [first, last], "what is none of ours is passed over"


def test_curves_forget_what_lies_after_the_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    first = runlog.Curves(path)
    for step in (1, 2, 3, 4):
        first({"kind": "step", "step": step, "loss": 1 / step})
    first({"kind": "validation", "step": 4, "loss": float("nan")})
    whole = first.close()
    assert path.read_bytes() == whole and whole.endswith(b'"loss":null}\n')
    path.write_bytes(whole[:-20])  # torn by a kill
    again = runlog.Curves(path)
    again.rewind(2)
    assert path.read_bytes() == b"".join(whole.splitlines(keepends=True)[:2])
    for step in (3, 4):
        again({"kind": "step", "step": step, "loss": 1 / step})
    again({"kind": "validation", "step": 4, "loss": None})
    assert again.close() == whole == path.read_bytes()


def test_curves_of_a_new_run_begin_empty(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1}\nrubbish\n')
    curves = runlog.Curves(path)
    curves({"kind": "step", "step": 1, "loss": 2.0})
    assert curves.close() == path.read_bytes() == b'{"kind":"step","step":1,"loss":2.0}\n'


# heartbeats


def test_the_heartbeat_beats_by_itself_and_says_the_end(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    with runlog.Heartbeat(path, "train toy", every_s=0.02) as pulse:
        first = heartbeat.read(path)
        assert (first.state, first.pid, first.step) == ("running", os.getpid(), "starting")
        pulse.say("epoch 1/2, loss 0.5", done=3, total=6, loss=0.5, eta_s=1.5)
        deadline = time.monotonic() + 10
        while heartbeat.read(path).done != 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        told = heartbeat.read(path)
        assert (told.step, told.total, told.loss, told.eta_s) == ("epoch 1/2, loss 0.5", 6, 0.5, 1.5)
    last = heartbeat.read(path)
    assert (last.state, last.eta_s, last.loss) == ("done", None, 0.5)
    assert last.updated_us > first.updated_us and not list(tmp_path.glob("*.tmp"))


@pytest.mark.parametrize(
    ("error", "state", "message"),
    [(ValueError("two\nlines"), "failed", "two lines"), (KeyboardInterrupt(), "stopped", None)],
)
def test_the_heartbeat_tells_how_it_ended(
    tmp_path: Path, error: BaseException, state: str, message: str | None
) -> None:
    with pytest.raises(type(error)), runlog.Heartbeat(tmp_path / "status.json", "train toy"):
        raise error
    found = heartbeat.read(tmp_path / "status.json")
    assert (found.state, found.message) == (state, message)


def test_a_status_that_cannot_be_written_ends_nothing(tmp_path: Path) -> None:
    with runlog.Heartbeat(tmp_path / "nowhere" / "status.json", "train toy") as pulse:
        pulse.say("training", loss=float("inf"))
    assert pulse.failures == 2


# a whole run


def test_a_run_holds_what_its_manifest_says(toy: Any, tmp_path: Path) -> None:
    notes: list[str] = []
    doc = train(asked(toy, tmp_path), tmp_path / "run", note=notes.append)
    found = manifest.decode((tmp_path / "run" / "run.json").read_bytes())
    assert doc == (tmp_path / "run" / "run.json").read_bytes()
    (one,) = found.entries
    check_entry(one, RUN, "run.json", 0)
    assert (one["recipe"], one["seed"], one["path"], one["state"], one["steps"]) == ("toy", 0, ".", "done", 30)
    assert (one["epochs"], one["parameters"], one["device"], one["synthetic"]) == (3.0, 21, "cpu", True)
    assert set(one["files"]) == {"log.jsonl", "metrics.json", "model.json", "model.safetensors"}
    assert {r.id for r in found.roots} == {"out", "data"}
    metrics = manifest.decode((tmp_path / "run" / "metrics.json").read_bytes())
    assert metrics.entries == one["metrics"] and metrics.entries[0]["name"] == "toy.error"
    records = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_bytes().splitlines()]
    assert [r["step"] for r in records if r["kind"] == "step"] == list(range(1, 31))
    assert [r["step"] for r in records if r["kind"] == "validation"] == [10, 20, 30]
    assert not (tmp_path / "run" / "state").exists()
    assert heartbeat.read(tmp_path / "run" / "status.json").state == "done"
    assert notes == ["the toy was judged on 20 points"]
    again = train(asked(toy, tmp_path), tmp_path / "run", note=notes.append)
    assert again == doc and notes[-1] == f"already in {tmp_path / 'run'}; --force does it again"


def test_equal_work_has_an_equal_id_and_other_work_another(toy: Any, tmp_path: Path) -> None:
    def name(**more: Any) -> str:
        return str(job.open_job(asked(toy, tmp_path, **more)).created_by["run_id"])

    base = name()
    assert base == name(checkpoint_s=5, options={"latents": tmp_path})
    assert base == name(options={"split": "auto", "fold": None})
    assert len({base, name(seed=1), name(width=3), name(threads=2), name(options={"split": "hash"})}) == 5


def test_what_a_recipe_makes_of_its_settings_decides(toy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An option that only stands for a setting gives the id of the setting, and a dry run shows what came of it."""
    plain = asked(toy, tmp_path, width=3)
    by_option = asked(toy, tmp_path)
    open_recipe = toy.open_recipe

    def resolving(found: Any) -> Any:
        recipe = open_recipe(found)
        if found.options.get("form") == "wide":
            recipe.config = settings.resolve(toy.Config, recipe.config, {"width": "3"})
        return recipe

    monkeypatch.setattr(toy, "open_recipe", resolving)
    by_option.job.options["form"] = "wide"  # type: ignore[index]
    one, other = job.open_job(plain), job.open_job(by_option)
    assert one.created_by["run_id"] == other.created_by["run_id"]
    assert other.created_by["params"]["config"]["width"] == 3
    assert plan.dry_run(other)["config"]["width"] == 3


def test_each_minute_says_speed_waiting_and_memory(
    toy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(meter, "BEAT_S", 0.0)
    monkeypatch.setattr(progress, "HEARTBEAT_S", 0.0)
    with progress.Progress("train toy", log=tmp_path / "machines.jsonl") as bar:
        train(asked(toy, tmp_path), tmp_path / "run", progress=bar)
    lines = capsys.readouterr().err.splitlines()
    form = r"choreo train toy: \d+ of 30: epoch [123]/3, loss [\d.e-]+; \d+ windows/s, \d+% waiting for data, \d+ MiB"
    assert len(lines) >= 29 and re.fullmatch(form, lines[5]), lines[5]
    told = [json.loads(line) for line in (tmp_path / "machines.jsonl").read_text().splitlines()]
    assert told[5]["item"] in lines[5] and told[-1]["state"] == "done"


def test_a_recipe_that_fails_leaves_no_manifest_and_says_so(toy: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="broken"):
        train(asked(toy, tmp_path, fail_at=1), tmp_path / "run")
    found = heartbeat.read(tmp_path / "run" / "status.json")
    assert (found.state, found.message) == ("failed", "a broken recipe")
    assert not (tmp_path / "run" / "run.json").exists()


def test_what_cannot_end_leaves_the_earlier_run_as_it_was(
    toy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    before = train(asked(toy, tmp_path), out)
    (tmp_path / "file").touch()
    with pytest.raises(CantCreateError, match=r"--latents .*file is a file: name a folder"):
        train(asked(toy, tmp_path, options={"latents": tmp_path / "file"}), out)
    monkeypatch.setattr(toy.Toy, "n_items", 0)
    with pytest.raises(DataError, match="no training items"):
        train(asked(toy, tmp_path, epochs=2), out)
    assert (out / "run.json").read_bytes() == before
    assert heartbeat.read(out / "status.json").state == "done"


def test_a_loss_that_is_no_number_is_refused(toy: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="at step"):
        train(asked(toy, tmp_path, nan_at=1), tmp_path / "run")
    assert heartbeat.read(tmp_path / "run" / "status.json").state == "failed"


def test_latents_that_are_missing_are_work_to_do(toy: Any, tmp_path: Path) -> None:
    """A finished run is not `done` while the timelines that were asked for lie nowhere."""
    train(asked(toy, tmp_path), tmp_path / "run")
    found = job.open_job(asked(toy, tmp_path, options={"latents": tmp_path / "latents"}))
    assert job.done_before(found, OutputFolder(tmp_path / "run", "run", found.created_by)) is None
    _latents(tmp_path / "latents", "another model")
    assert job.done_before(found, OutputFolder(tmp_path / "run", "run", found.created_by)) is None
    weights = (tmp_path / "run" / "model.safetensors").read_bytes()
    _latents(tmp_path / "latents", hashlib.sha256(weights).hexdigest())
    assert job.done_before(found, OutputFolder(tmp_path / "run", "run", found.created_by)) is not None


def _latents(folder: Path, sha256: str) -> None:
    import numpy as np

    from formats.columns import LATENTS
    from formats.tables import write_table

    columns: dict[str, Any] = {c.name: np.zeros(1, c.dtype) for c in LATENTS.columns if c.dtype != "str"}
    folder.mkdir(exist_ok=True)
    write_table(folder / "a_latent.parquet", LATENTS, {"session_id": ["a"], **columns}, {"choreo.model.toy": sha256})


def test_a_dry_run_writes_nothing_and_counts_right(toy: Any, tmp_path: Path) -> None:
    here = tmp_path / "here"
    here.mkdir()
    found = plan.dry_run(job.open_job(asked(toy, here)))
    assert list(here.iterdir()) == []
    assert (found["items"], found["steps"], found["steps_per_epoch"], found["validations"]) == (160, 30, 10, 3)
    assert (found["parameters"], found["data"]["rows"]) == (21, {"train": 160, "test": 40})
    assert 0 < found["tried"]["step_s"] < 5 and found["estimate"]["memory_bytes"] > 1e7
    assert found["run_id"] == job.open_job(asked(toy, here)).created_by["run_id"]
    assert dict(plan.rows(found))["items"] == "160"


# seeds


def test_the_summary_comes_when_all_seeds_are_there(toy: Any, tmp_path: Path) -> None:
    notes: list[str] = []
    around = job.Around(note=notes.append)

    def summary(doc: bytes) -> bytes:
        return seeds.summarise(doc, tmp_path, [0, 1], lambda made_by: OutputFolder(tmp_path, "run", made_by), around)

    first = train(asked(toy, tmp_path, seed=0), tmp_path / "seed-0")
    assert summary(first) == first and not (tmp_path / "run.json").exists()
    assert notes == ["no summary yet: seeds 1 are not there"]
    train(asked(toy, tmp_path, seed=1, width=3), tmp_path / "seed-1")  # another training
    assert summary(first) == first
    second = train(asked(toy, tmp_path, seed=1), tmp_path / "seed-1")
    whole = summary(second)
    found = manifest.decode(whole)
    assert [(e["path"], e["seed"]) for e in found.entries] == [("seed-0", 0), ("seed-1", 1)]
    outputs = {o["path"] for o in found.created_by["outputs"]}
    assert {"seed-0/run.json", "seed-1/model.safetensors"} <= outputs
    before = (tmp_path / "run.json").stat().st_mtime_ns, (tmp_path / "run.run.json").stat().st_mtime_ns
    assert summary(first) == whole
    assert before == ((tmp_path / "run.json").stat().st_mtime_ns, (tmp_path / "run.run.json").stat().st_mtime_ns)
    seeds.invalidate(tmp_path)
    assert not (tmp_path / "run.json").exists()


# copies


def _run_folder(folder: Path) -> Path:
    (folder / "state").mkdir(parents=True)
    for name in ("run.json", "model.json", "model.safetensors", "log.jsonl", "state/step-1.json"):
        (folder / name).write_text(name)
    (folder / ".choreo.lock").write_text("pid 1")
    (folder / ".model.json.1.00000000.tmp").write_text("half")
    return folder


def test_a_copy_writes_what_differs_with_the_manifest_last_and_deletes_nothing(tmp_path: Path) -> None:
    run, dest = _run_folder(tmp_path / "run"), tmp_path / "copy"
    dest.mkdir()
    (dest / "own.txt").write_text("mine")
    copied = sync.Sync(run, str(dest), {})
    assert copied.push()
    names = {p.relative_to(dest).as_posix() for p in dest.rglob("*") if p.is_file()}
    assert names == {"run.json", "model.json", "model.safetensors", "log.jsonl", "state/step-1.json", "own.txt"}
    before = {p: p.stat().st_mtime_ns for p in dest.rglob("*") if p.is_file()}
    (run / "log.jsonl").write_text("more")
    (run / "run.json").write_text("new")
    (run / "state" / "step-1.json").unlink()
    written = sync.copy(run, dest)
    assert [p.name for p in written] == ["log.jsonl", "run.json"]
    assert (dest / "state" / "step-1.json").exists()
    same = {p for p, t in before.items() if p.stat().st_mtime_ns == t}
    assert {p.name for p in same} == {"model.json", "model.safetensors", "step-1.json", "own.txt"}


def test_a_copy_that_fails_is_a_counted_remark_and_is_tried_less_often(tmp_path: Path) -> None:
    run = _run_folder(tmp_path / "run")
    (tmp_path / "file").write_text("in the way")
    notes: list[str] = []
    copied = sync.Sync(run, str(tmp_path / "file" / "copy"), {}, notes.append)
    assert [copied.push() for _ in range(4)] == [False] * 4
    assert copied.failures == len(notes) == 2  # the second and the fourth were passed over
    assert "sync to" in notes[0] and "training goes on" in notes[0]
    assert not copied.push(last=True) and copied.failures == 3
    (tmp_path / "file").unlink()
    assert copied.push(last=True)


@pytest.mark.parametrize("dest", ["run", "run/inside", ".", "-rf"])
def test_a_destination_in_the_run_is_refused(tmp_path: Path, dest: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="--sync"):
        sync.Sync(Path("run"), dest, {})


@pytest.mark.parametrize(
    ("dest", "remote"),
    [("host:runs", True), ("me@host.net:/runs", True), ("rsync://host/runs", True), ("/a:b", False), ("./a:b", False),
     ("runs", False), ("-oProxyCommand=x:y", False), ("@host:x", False)],
)  # fmt: skip
def test_what_goes_through_rsync(dest: str, remote: bool) -> None:
    assert sync.is_remote(dest) is remote


def test_the_calls_of_rsync_never_delete_and_send_the_manifest_last(tmp_path: Path) -> None:
    first, last = sync.commands("/usr/bin/rsync", tmp_path, "host:runs")
    for command in (first, last):
        assert command[0] == "/usr/bin/rsync" and command[-3:] == ["--", f"{tmp_path}/", "host:runs/"]
        assert not [a for a in command if "delete" in a or "remove" in a]
    assert "--exclude=run.json" in first and "--include=run.json" in last and last.index("--exclude=*") > 0


def test_rsync_gets_a_clean_environment_and_its_failure_is_told(tmp_path: Path) -> None:
    """A stand-in for rsync writes down how it was called."""
    run, bin_folder = _run_folder(tmp_path / "run"), tmp_path / "bin"
    bin_folder.mkdir()
    program = bin_folder / "rsync"
    program.write_text(f'#!/bin/sh\nenv > {tmp_path}/env\necho "$@" >> {tmp_path}/calls\necho no route >&2\nexit 12\n')
    program.chmod(0o755)
    notes: list[str] = []
    env = {"PATH": f"{bin_folder}:/usr/bin:/bin", "API_KEY": "secret", "HOME": "/nowhere"}
    copied = sync.Sync(run, "host:runs", env, notes.append)
    assert not copied.push()
    assert notes == ["sync to host:runs failed (1): no route; training goes on"]
    assert "API_KEY" not in (tmp_path / "env").read_text()
    program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n')
    (tmp_path / "calls").unlink()
    assert copied.push(last=True)
    assert [line.split()[-1] for line in (tmp_path / "calls").read_text().splitlines()] == ["host:runs/"] * 2


def test_a_machine_without_a_folder_is_no_place(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^--sync host: names no folder on that machine: write host:path$"):
        sync.Sync(tmp_path / "run", "host:", {})


def test_rsync_that_is_missing_is_69(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="needs rsync"):
        sync.Sync(tmp_path, "host:runs", {"PATH": str(tmp_path)})


# what a status says


def _beat(folder: Path, state: str, age_s: float, pid: int = 1, **more: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    one = heartbeat.Status("train toy", state, pid, "epoch 1/2", 1, 2, int((time.time() - age_s) * 1e6), **more)
    heartbeat.write(folder / "status.json", one)


def test_a_status_is_told_from_the_heartbeat(tmp_path: Path) -> None:
    _beat(tmp_path / "a", "running", 3, loss=0.25, eta_s=90.0)
    _beat(tmp_path / "b" / "deep", "running", 300)
    _beat(tmp_path / "c", "done", 9000)
    _beat(tmp_path / "d", "failed", 9000, message="full disk")
    found = status.find([tmp_path])
    for e in found:
        check_entry(e, STATUS, "status", 0)
    assert [(e["path"], e["state"]) for e in found] == [
        ("a", "running"), ("b/deep", "stale"), ("c", "done"), ("d", "failed"),
    ]  # fmt: skip
    assert status.row(found[0])[:4] == ("a", "running", "50 %", "0.25") and status.row(found[0])[5] == "90 s"
    assert "no heartbeat for 5 min" in status.row(found[1]) and "full disk" in status.row(found[3])
    assert status.exit_code(found) == 1 and status.exit_code([found[0], found[2]]) == 0
    assert status.find([tmp_path], stale_s=1000)[1]["state"] == "running"
    assert manifest.decode(status.document(found)).entries == found


def test_a_dead_process_of_this_machine_is_stale_at_once(tmp_path: Path) -> None:
    """The lock names who holds it; of a copy, which has no lock, only the age counts."""
    gone = os.fork()
    if gone == 0:
        os._exit(0)
    os.waitpid(gone, 0)
    for name, holder in (("here", socket.gethostname()), ("there", "another.example")):
        _beat(tmp_path / name, "running", 1, gone)
        (tmp_path / name / ".choreo.lock").write_text(f"pid {gone} on {holder}: train toy")
    _beat(tmp_path / "copy", "running", 1, gone)
    found = {e["path"]: e for e in status.find([tmp_path])}
    assert {k: e["state"] for k, e in found.items()} == {"here": "stale", "there": "running", "copy": "running"}
    assert found["here"]["message"] == f"process {gone} is gone"


def test_a_damaged_heartbeat_is_listed_as_such(tmp_path: Path) -> None:
    _beat(tmp_path / "a", "done", 1)
    (tmp_path / "a" / "status.json").write_bytes((tmp_path / "a" / "status.json").read_bytes()[:-9])
    (found,) = status.find([tmp_path])
    assert found["state"] == "failed" and "damaged" in found["message"] and str(tmp_path) not in found["message"]


def test_no_run_is_66(tmp_path: Path) -> None:
    with pytest.raises(NoInputError, match="no run under"):
        status.find([tmp_path])
    with pytest.raises(NoInputError, match="no folder"):
        status.find([tmp_path / "x"])


def test_following_ends_with_the_last_run(tmp_path: Path) -> None:
    looks = [[{"state": "running"}], [{"state": "running"}], [{"state": "done"}], [{"state": "never"}]]
    slept: list[float] = []
    assert len(list(status.follow(lambda: looks.pop(0), 2.0, slept.append))) == 3 and slept == [2.0, 2.0]


# surroundings


def test_the_survey_names_the_device_and_why() -> None:
    found = environment.survey({"PATH": "", "OMP_NUM_THREADS": "1", "HOME": "/x"})
    assert found["auto"]["device"] == runtime.choose_device("auto")[0] and found["auto"]["reason"]
    assert found["torch"]["version"] == str(torch.__version__) and found["threads"] == {"OMP_NUM_THREADS": "1"}
    assert found["cores"] >= 1 and found["memory_bytes"] > found["memory_free_bytes"] > 0
    assert found["drivers"] is None and "/x" not in json.dumps(found)
    assert dict(environment.rows(found))["driver"] == "not visible"


def test_a_machine_without_torch_is_surveyed_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    found = environment.survey({"PATH": ""})
    assert found["torch"] is None and found["auto"]["device"] is None
    assert "pip install 'choreo[train]'" in found["auto"]["reason"]
    assert dict(environment.rows(found))["torch"] == "not installed"


def test_odd_lines_of_the_driver_are_passed_over() -> None:
    found = environment.parse_smi(b"Big Card, 550.54, 81559\nrubbish\n\xff,2\nSmall, 1, [N/A]\n")
    assert found == [
        {"name": "Big Card", "driver": "550.54", "memory_bytes": 81559 * 2**20},
        {"name": "Small", "driver": "1", "memory_bytes": None},
    ]


# trackers


def test_scalars_of_a_record() -> None:
    record = {"kind": "step", "step": 3, "loss": 0.5, "best": True, "none": None, "parts": {"mot": 1}}
    assert track.scalars(record) == {"loss": 0.5, "parts/mot": 1.0}


def test_a_tracker_that_is_missing_is_69(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UnavailableError, match=r"--wandb needs wandb.*pip install 'choreo\[track\]'"):
        track.need(False, True)
    track.need(False, False)


def test_event_files_lie_in_the_run_and_outside_its_digests(toy: Any, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    plain = train(asked(toy, tmp_path), tmp_path / "plain")
    doc = train(asked(toy, tmp_path), tmp_path / "run", trackers=track.makers(True, False, None))
    assert list((tmp_path / "run" / "tensorboard").glob("events.*"))
    assert manifest.decode(doc).sha256 == manifest.decode(plain).sha256
