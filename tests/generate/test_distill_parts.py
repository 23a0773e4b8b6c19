"""The parts of distillation: ways, guidance of the teacher, the three lessons, and pairs on disk."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from dancing_windows import Windows  # noqa: E402
from distill_small import FRAMES, SMALL, small_recipe, small_teacher  # noqa: E402

from choreo_cli.errors import StorageError  # noqa: E402
from choreo_cli.generate import distill_pairs_torch as pairs  # noqa: E402
from choreo_cli.generate.config import Size  # noqa: E402
from choreo_cli.generate.distill_judge_torch import compare, reference  # noqa: E402
from choreo_cli.generate.distill_paths_torch import Way  # noqa: E402
from choreo_cli.generate.distill_torch import Student, Told, begin_from, tell  # noqa: E402
from choreo_cli.generate.dit_torch import cover  # noqa: E402
from choreo_cli.generate.guidance import Guidance  # noqa: E402
from choreo_cli.generate.model_files import sampler_from, shape_of, torch_forward  # noqa: E402
from choreo_cli.generate.sampling import noise  # noqa: E402
from choreo_cli.generate.tasks import draw_tasks  # noqa: E402
from choreo_cli.training.order import permuted  # noqa: E402
from formats.errors import FormatError  # noqa: E402
from formats.tables import read_table  # noqa: E402
from formats.teacher_pairs import TEACHER_PAIRS  # noqa: E402

PROCESSES = [("flow", "x1"), ("flow", "v"), ("ddim", "x0"), ("ddim", "eps")]


@pytest.fixture(scope="module")
def windows() -> Windows:
    return Windows(2, frames=FRAMES)


def told_of_windows(windows: Windows, recipe: Any, rows: int = 6, **shares: float) -> Told:
    batch = recipe.tensors(windows.batch(np.arange(rows), 0))
    rng = np.random.default_rng(0)
    masks, tasks, _ = draw_tasks(rng, rows, windows.frames, shares.get("inbetween", 0.3), shares.get("predict", 0.3))
    return tell(batch, cover(7), masks, tasks, np.arange(rows) % 3 > 0)


# Ways.


@pytest.mark.parametrize(("process", "predict"), PROCESSES)
def test_a_jump_with_the_true_data_comes_to_the_true_point_and_aim_finds_them(process: str, predict: str) -> None:
    way, g = Way(process, predict), torch.Generator().manual_seed(0)
    data, x0 = torch.randn(2, 40, 5, 25, generator=g)
    u = torch.arange(40) / 50
    to = u + 0.1
    x = way.noisy(data, x0, u)
    assert torch.allclose(way.jump(x, data, u, to), way.noisy(data, x0, to), atol=2e-4)
    assert torch.allclose(way.aim(x, way.noisy(data, x0, to), u, to), data, atol=2e-3)
    end = torch.ones(40)
    assert torch.allclose(way.jump(x, data, u, end), data, atol=1e-5)
    answer = {"x1": data, "x0": data, "v": data - x0, "eps": x0}[predict]
    clear = way.shares(u)[0].flatten() > 0.05
    assert torch.allclose(way.data(answer, x, u)[clear], data[clear], atol=1e-3)


@pytest.mark.parametrize(("process", "predict"), PROCESSES)
@pytest.mark.parametrize("steps", [1, 3, 4])
def test_the_teacher_samples_as_the_product_does(windows: Windows, process: str, predict: str, steps: int) -> None:
    recipe = small_recipe("consistency", windows, process=process, predict=predict)
    teacher, s = recipe.teacher, windows.stats
    told = told_of_windows(windows, recipe)
    facts = {
        "process": process, "predict": predict, "fps": 30.0,
        "defaults": {"steps": 4, "solver": "euler",
                     "guidance": {"audio": 2.0, "text": 1.0, "low": 0.1, "high": 0.9}},
    }  # fmt: skip
    sampler = sampler_from(torch_forward(teacher.net), recipe.shape, facts, s)
    x0 = torch.from_numpy(noise(6, FRAMES, 4))
    found = teacher.sample(x0, told, steps, "euler").numpy()
    raw = s.denormalise(told.known.numpy())
    for row in range(6):
        heard = bool(told.heard[row])
        name = ("gen", "edit", "inbetween", "style", "predict", "complete")[int(told.task[row].argmax())]
        theirs = sampler.sample(
            windows.audio[row : row + 1] if heard else None, known=raw[row : row + 1], mask=told.mask[row : row + 1].numpy(),
            task=name, steps=steps, seed=4, first=row,
        )  # fmt: skip
        away = s.normalise(theirs)[0] - s.normalise(s.denormalise(found[row]))
        assert np.abs(away).max() < 5e-3 * max(1, np.abs(found[row]).max()), (row, name)
    kept = told.flags.numpy() > 0.5
    assert np.array_equal(found[kept], told.known.numpy()[kept])


def test_guidance_is_asked_for_only_where_it_holds(windows: Windows) -> None:
    recipe = small_recipe("consistency", windows)
    told = told_of_windows(windows, recipe)
    rows: list[int] = []
    handle = recipe.teacher.net.register_forward_pre_hook(lambda _, given: rows.append(len(given[0])))
    x = torch.randn(6, FRAMES, 25, generator=torch.Generator().manual_seed(0))
    u = torch.tensor([0.0, 0.05, 0.5, 0.5, 0.5, 0.95])
    guided = recipe.teacher.says(x, u, told)
    plain = small_teacher(windows)
    plain.guidance = Guidance(1.0)
    bare = plain.says(x, u, told)
    handle.remove()
    apart = (guided - bare).abs().amax((1, 2)) > 1e-5
    assert rows == [6 + int(apart.sum())]
    assert apart.tolist() == [bool(told.heard[k]) and 0.1 <= float(u[k]) <= 0.9 for k in range(6)]


# Students.


def test_a_student_begins_as_its_teacher_where_it_can(windows: Windows) -> None:
    teacher = small_teacher(windows)
    same = Student(shape_of(SMALL, FRAMES, windows.audio_width), Way("flow", "x1"), averaged=True)
    assert begin_from(same, teacher)
    assert all(torch.equal(a, b) for a, b in zip(same.net.parameters(), teacher.net.parameters(), strict=True))
    told = told_of_windows(windows, small_recipe("consistency", windows))
    x, u = torch.randn(6, FRAMES, 25), torch.full((6,), 0.5)
    assert torch.equal(same.data(x, u, told), same.data(x, u, told, average=True))
    smaller = Student(shape_of(Size(1, 32, 2), FRAMES, windows.audio_width), Way("flow", "x1"))
    assert not begin_from(smaller, teacher)
    noisy = small_recipe("shortcut", windows, process="ddim", predict="eps")
    assert noisy.way.predict == "x0"
    begun: Any = noisy.model()
    assert not begun.net.head.weight.any() and begun.net.tokens.weight.any()


def test_the_average_is_saved_with_the_weights_and_no_optimiser_sees_it(windows: Windows) -> None:
    student = Student(shape_of(SMALL, FRAMES, windows.audio_width), Way("flow", "x1"), averaged=True)
    names = [n for n, _ in student.named_parameters()]
    assert all(n.startswith("net.") for n in names)
    assert len(student.state_dict()) == 2 * len(names)
    with torch.no_grad():
        for w in student.parameters():
            w.add_(1.0)
    before = student.get_buffer("target_head__bias").clone()
    student.follow(0.75)
    assert torch.allclose(student.get_buffer("target_head__bias") - before, torch.full((25,), 0.25))


# Lessons.


@pytest.mark.parametrize(("process", "predict"), [("flow", "x1"), ("ddim", "x0"), ("ddim", "eps"), ("flow", "v")])
@pytest.mark.parametrize("method", ["consistency", "regression", "shortcut"])
def test_the_loss_is_finite_repeatable_and_reaches_every_weight(
    windows: Windows, tmp_path: Path, method: str, process: str, predict: str
) -> None:
    recipe = small_recipe(method, windows, process=process, predict=predict)
    if recipe.material is not None:
        recipe.prepare(tmp_path, "cpu", lambda: False, lambda *_: None)
    model = recipe.model()
    batch = recipe.batch(np.arange(12), 0)
    value, parts = recipe.loss(model, batch, torch.Generator().manual_seed(1))
    again, _ = recipe.loss(model, batch, torch.Generator().manual_seed(1))
    assert torch.isfinite(value) and float(value.detach()) == float(again.detach())
    assert set(parts) == {"error", "position", "velocity", "contact"}
    value.backward()
    found = {n: w.grad is not None and bool(w.grad.any()) for n, w in model.named_parameters()}
    idle = {"net.text.weight"} | ({"net.extra.weight"} if method != "shortcut" else set())
    if predict != "eps":  # its head starts at zero, so nothing behind it has a gradient yet
        assert {n for n, seen in found.items() if not seen} == idle
    assert recipe.teacher.net.head.weight.grad is None


def test_a_student_that_is_right_has_no_error(windows: Windows, monkeypatch: pytest.MonkeyPatch) -> None:
    """Teacher and student that know the data: every method finds nothing to learn."""
    for method in ("consistency", "shortcut"):
        recipe = small_recipe(method, windows, position=0, velocity=0, contact=0)
        batch = recipe.batch(np.arange(8), 0)
        model: Any = recipe.model()
        data = {len(batch["x"]): batch["x"]}

        def known(x: Any, u: Any, told: Any, *_: Any, **__: Any) -> Any:
            return told.known

        monkeypatch.setattr(type(model), "data", lambda self, x, u, told, *a, **k: known(x, u, told))
        monkeypatch.setattr(type(recipe.teacher), "data", lambda self, x, u, told: known(x, u, told))
        value, _ = recipe.loss(model, batch, torch.Generator().manual_seed(1))
        assert float(value) < 1e-6 and data
        monkeypatch.undo()


def test_a_shortcut_is_two_half_steps(windows: Windows) -> None:
    """With the lesson's goal one step ends where two half steps of the average end."""
    from choreo_cli.generate import shortcut_recipe_torch as shortcut

    recipe = small_recipe("shortcut", windows, ladder=8, bootstrap=1.0, inbetween=0, predict=0)
    model: Any = recipe.model()
    told = told_of_windows(windows, recipe, inbetween=0, predict=0)
    x0 = torch.randn(6, FRAMES, 25, generator=torch.Generator().manual_seed(0))
    u, size = torch.tensor([0, 0.5, 0.25, 0, 0.75, 0.5]), torch.tensor([1, 0.5, 0.25, 0.5, 0.25, 0.25])
    x = model.way.noisy(told.known, x0, u)
    with torch.no_grad():
        goal = shortcut._two(model, x, u, size, told, x0, 8)
        half = size / 2
        asked = torch.where(half <= 1 / 8, torch.zeros_like(half), half)
        there = model.way.jump(x, model.data(x, u, told, asked), u, u + half)
        end = model.way.jump(there, model.data(there, u + half, told, asked), u + half, u + size)
    assert torch.allclose(model.way.jump(x, goal, u, u + size), end, atol=1e-4)


def test_the_comparison_is_zero_for_the_teacher_itself_in_its_own_steps(windows: Windows) -> None:
    recipe = small_recipe("consistency", windows)
    recipe.teacher.guidance = Guidance(1.0)
    student: Any = recipe.model()
    judged = reference(recipe, windows.windows("val")[:5], torch.device("cpu"))
    found = compare(recipe, student, judged, windows.windows("val")[:5])
    assert found.errors[4] < 1e-8 < found.errors[1] and found.errors[1] == pytest.approx(found.teacher_one, rel=1e-4)
    assert found.diversity[4] == pytest.approx(1, abs=1e-4) and found.jerk[4] == pytest.approx(1, abs=1e-4)
    assert len(found.metrics()) == 9 and "in 4" in found.sentence()
    constant: Any = Student(recipe.shape, recipe.way)
    assert compare(recipe, constant, judged, windows.windows("val")[:5]).diversity[1] < 1e-6


# Pairs.


def prepared(recipe: Any, folder: Path, stop: Any = lambda: False) -> list[tuple[str, int, int]]:
    said: list[tuple[str, int, int]] = []
    recipe.prepare(folder, "cpu", stop, lambda *w: said.append(w))
    return said


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, "SHARD", 8)


@pytest.mark.usefixtures("few")
def test_pairs_are_what_the_teacher_makes_of_noise(windows: Windows, tmp_path: Path) -> None:
    recipe = small_recipe("regression", windows, pairs=44)
    said = prepared(recipe, tmp_path)
    assert said[0] == ("teacher samples", 0, 6) and said[-1] == ("teacher samples", 6, 6)
    table = read_table(tmp_path / "pairs" / "pairs-000005.parquet", TEACHER_PAIRS)
    assert table.num_rows == 4 and table.column("guidance").to_pylist() == [2.0] * 4
    rows = windows.windows("train")
    n = len(rows)
    assert n < 44, "more than one pass over the windows"
    batch = recipe.batch(np.arange(44), 0)
    assert batch["data"].shape == (44, FRAMES, 25) and recipe.n_items == 44
    for k in (0, 7, n, 43):
        window = rows[permuted(np.array([k % n]), n, recipe.seed, k // n)]
        assert torch.equal(batch["x"][k], recipe.tensors(windows.batch(window, 0))["x"][0])
    told, x0 = recipe.material.told(batch)  # type: ignore[union-attr]
    assert torch.allclose(recipe.teacher.sample(x0, told, 4, "euler"), batch["data"], atol=1e-4)
    assert len(torch.unique(x0.flatten())) > 0.99 * x0.numel() and abs(float(x0.std()) - 1) < 0.02
    assert 0 < int(told.flags.any(-1).any(-1).sum()) < 44 and 0 < int((~told.heard).sum()) < 44


@pytest.mark.usefixtures("few")
def test_making_pairs_goes_on_where_it_stopped_and_mends_what_is_damaged(windows: Windows, tmp_path: Path) -> None:
    asked = iter([False, False, True])
    recipe = small_recipe("regression", windows)
    assert not recipe.prepare(tmp_path, "cpu", lambda: next(asked), lambda *_: None)
    place = tmp_path / "pairs"
    assert sorted(p.name for p in place.iterdir()) == ["pairs-000000.parquet", "pairs-000001.parquet"]
    first = {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in place.iterdir()}
    assert prepared(recipe, tmp_path)[0] == ("teacher samples", 2, 5)
    assert all((place / n).stat().st_mtime_ns == when for n, (_, when) in first.items())
    whole = {p.name: p.read_bytes() for p in place.iterdir()}
    damaged = bytearray(whole["pairs-000001.parquet"])
    damaged[len(damaged) // 2] ^= 1
    (place / "pairs-000001.parquet").write_bytes(damaged)
    (place / "pairs-000003.parquet").write_bytes(whole["pairs-000003.parquet"][:-9])
    (place / "pairs-000004.parquet").write_bytes(b"")
    shutil.copy(place / "pairs-000000.parquet", place / "pairs-000002.parquet")  # whole, but another one's place
    assert prepared(small_recipe("regression", windows), tmp_path)[0] == ("teacher samples", 1, 5)
    assert {p.name: p.read_bytes() for p in place.iterdir()} == whole
    assert prepared(small_recipe("regression", windows, lr=1e-4, epochs=9), tmp_path)[0][1] == 5
    assert prepared(small_recipe("regression", windows, drop_audio=0.5), tmp_path)[0][1] == 0
    prepared(small_recipe("regression", windows, pairs=9), tmp_path)
    assert len(list(place.iterdir())) == 2, "shards of a larger wish are taken away"
    assert read_table(place / "pairs-000001.parquet", TEACHER_PAIRS).num_rows == 1
    assert prepared(small_recipe("regression", windows), tmp_path)[0] == ("teacher samples", 1, 5)
    assert {p.name: p.read_bytes() for p in place.iterdir()} == whole, "a part of a shard is not the shard"


@pytest.mark.usefixtures("few")
def test_a_full_disk_is_said_before_and_loses_nothing_after(
    windows: Windows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = small_recipe("regression", windows)
    monkeypatch.setattr(pairs.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 1000))
    with pytest.raises(StorageError, match=r"MiB of teacher samples, 0 MiB are free in .*pairs=N"):
        prepared(recipe, tmp_path)
    assert list((tmp_path / "pairs").iterdir()) == []
    monkeypatch.undo()
    monkeypatch.setattr(pairs, "SHARD", 8)
    write, written = pairs.write_table, []

    def full(path: Path, *rest: Any) -> str:
        if len(written) == 2:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        written.append(path)
        return write(path, *rest)

    monkeypatch.setattr(pairs, "write_table", full)
    with pytest.raises(OSError, match="No space left"):
        prepared(recipe, tmp_path)
    assert len(list((tmp_path / "pairs").iterdir())) == 2
    monkeypatch.setattr(pairs, "write_table", write)
    assert prepared(recipe, tmp_path)[0] == ("teacher samples", 2, 5)


def test_rows_of_another_length_are_refused(windows: Windows, tmp_path: Path) -> None:
    prepared(small_recipe("regression", windows), tmp_path)
    file = tmp_path / "pairs" / "pairs-000000.parquet"
    with pytest.raises(FormatError, match="windows of 20 frames"):
        pairs.arrays_of(read_table(file, TEACHER_PAIRS), 20, file)
