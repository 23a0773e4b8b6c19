"""A trajectory set on disk: curves and views as rows, split by curve before anything is augmented; pixels on demand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.errors import DataError, NoInputError, UsageError
from choreo_cli.trajectory import curves, raster, views, words
from choreo_cli.trajectory.curves import FAMILIES, RECIPE, SHOWN, Curves
from choreo_cli.trajectory.views import SIZE, Views
from formats import tables
from formats.columns import Table
from formats.errors import FormatError
from formats.manifest import Manifest
from formats.trajectory import CURVES, PIXELS, VIEWS

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]

SET = "trajectories.json"  # the manifest, in the folder of a set
TEST_SEED = 1_000_000  # added to the seed of a set: test curves come from a draw of their own
GRID_CAMERAS = 3
FROZEN_ROWS = 500  # videos of one file
BUFFER = 1024  # videos of one turn of the drawing buffer, 200 MB
_STREAMS = {"train": "train", "val": "train", "test": "test", "grid": "grid"}


@dataclass(frozen=True, slots=True)
class SetOptions:
    """What `choreo synth trajectories` was asked for.

    Args:
        num: Base curves of training and validation, a multiple of 20 (4 families, 1 block of 5 for validation).
        test: New curves of the test set, one free view each; a multiple of 4.
        grid: New curves of the breakdown grid: 5 noise levels x 2 styles x 3 free cameras; a multiple of 4.
        seed: Seed of the set.
        size: Pixels of a side.
        size_cue: `perspective` or `constant`.
        augment: 180 views of each base curve; without it one free view.
    """

    num: int = 1200
    test: int = 4000
    grid: int = 200
    seed: int = 42
    size: int = SIZE
    size_cue: str = "perspective"
    augment: bool = True


def check_options(asked: SetOptions) -> None:
    """Raises UsageError for counts that cannot be balanced, or a picture that cannot be drawn."""
    if asked.num < 20 or asked.num % 20:
        raise UsageError(f"--num {asked.num} is not a multiple of 20: 4 families, one in five for validation")
    for name, count in (("--test", asked.test), ("--grid", asked.grid)):
        if count < 0 or count % 4:
            raise UsageError(f"{name} {count} is not a multiple of 4: the families are balanced")
    if not 16 <= asked.size <= 512:
        raise UsageError(f"--size {asked.size} is not 16..512 pixels")
    if asked.size_cue not in raster.SIZE_CUES:
        raise UsageError(f"--size-cue {asked.size_cue} is not {' or '.join(raster.SIZE_CUES)}")


@dataclass(frozen=True, slots=True)
class Drawn:
    """The curves of a set: row k of every array is curve k.

    Args:
        curves: Their shapes. split: (N,) str. seed, row: (N,) what they were drawn with.
    """

    curves: Curves
    split: NDArray[np.str_]
    seed: I64
    row: I64


def draw_set(asked: SetOptions) -> Drawn:
    """All curves of a set: training and validation, then test, then grid."""
    rows = np.arange(asked.num)
    split = np.where(rows // len(FAMILIES) % 5 == 4, "val", "train")
    other = asked.seed + TEST_SEED
    base = curves.draw(asked.seed, 0, asked.num)
    new = curves.draw(other, 0, asked.test + asked.grid)
    both = [
        np.concatenate(p)
        for p in zip(*((c.family, c.parameters, c.rotation, c.centre) for c in (base, new)), strict=True)
    ]
    new_split = np.repeat(["test", "grid"], [asked.test, asked.grid])
    new_rows = np.arange(asked.test + asked.grid)
    return Drawn(
        Curves(*both),
        np.concatenate([split, new_split]),
        np.concatenate([np.full(asked.num, asked.seed), np.full(len(new_rows), other)]),
        np.concatenate([rows, new_rows]),
    )


def views_of(asked: SetOptions, drawn: Drawn, split: str) -> Views:
    """The views of a split; `base` is the curve's row in the set."""
    ids = np.flatnonzero(drawn.split == split)
    if split in ("train", "val"):
        if asked.augment:
            return views.every_view(asked.seed, ids)
        return views.free_views(asked.seed, "train", ids, ids)
    if split == "test":
        return views.free_views(asked.seed, "test", ids, drawn.row[ids])
    return grid_views(asked.seed, ids, drawn.row[ids])


def grid_views(seed: int, ids: I64, rows: I64) -> Views:
    """Each curve at 5 noise levels, in 2 styles, from 3 free cameras."""
    shape = (GRID_CAMERAS, len(views.SIGMAS), len(raster.STYLES))
    each = int(np.prod(shape))
    camera, sigma, style = (np.tile(i.ravel(), len(ids)) for i in np.indices(shape))
    row = np.repeat(rows, each)
    seen = views.free_views(seed, "grid", np.repeat(ids, each), row * GRID_CAMERAS + camera)
    key = row * each + np.tile(np.arange(each), len(ids))
    return Views(
        seen.base, key, np.take(views.SIGMAS, sigma), seen.azimuth, seen.elevation, np.zeros_like(row),
        style.astype(np.uint8), seen.colour,
    )  # fmt: skip


@dataclass(slots=True)
class Made:
    """What was written: entries of `choreo.trajectories/1`, and sha256 by file."""

    entries: list[dict[str, Any]] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)


def write_set(
    asked: SetOptions, folder: Path, metadata: dict[str, str], *, freeze: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> Made:  # fmt: skip
    """Write curves.parquet, views-<split>.parquet and, with `freeze`, the pixels of the test set.

    Frozen pixels come from the reference engine: their bytes do not depend on what is installed.

    Raises:
        UsageError: counts that cannot be balanced.
    """
    check_options(asked)
    drawn, made = draw_set(asked), Made()
    splits = [s for s in ("train", "val", "test", "grid") if (drawn.split == s).any()]
    steps = 1 + len(splits)
    _put(made, asked, folder, ("curves", "all", "curves.parquet"), CURVES, [_curve_columns(drawn)], metadata)
    for done, split in enumerate(splits, 1):
        if on_progress:
            on_progress(done, steps)
        looks = views_of(asked, drawn, split)
        _put(made, asked, folder, ("views", split, f"views-{split}.parquet"), VIEWS, [view_columns(looks)], metadata)
        if freeze and split == "test":
            _freeze(made, asked, folder, drawn, looks, split, metadata)
    if on_progress:
        on_progress(steps, steps)
    return made


def _freeze(
    made: Made, asked: SetOptions, folder: Path, drawn: Drawn, looks: Views, split: str, metadata: dict[str, str]
) -> None:
    shown = shown_points(asked.seed, split, drawn.curves, looks)
    for some, name in pixel_files(split, len(looks)):
        out = np.empty((some.stop - some.start, SHOWN, 3, asked.size, asked.size), np.uint8)
        views.render(shown[some], looks.take(some), out, cue=asked.size_cue, engine="numpy")
        columns = {"row": np.arange(some.start, some.stop), "video": out.reshape(len(out), -1)}
        _put(made, asked, folder, ("pixels", split, name), PIXELS, [columns], metadata)


def _put(
    made: Made, asked: SetOptions, folder: Path, what: tuple[str, str, str], table: Table, batches: list[Any],
    metadata: dict[str, str],
) -> None:  # fmt: skip
    role, split, name = what
    sha = tables.write_batches(folder / name, table, batches, metadata)
    made.files[name] = sha
    rows = sum(len(next(iter(b.values()))) for b in batches)
    made.entries.append(table_entry(asked, role, split, name, sha, rows))


def pixel_files(split: str, total: int, suffix: str = "parquet") -> Iterator[tuple[slice, str]]:
    """The rows of every file of pixels, and its name."""
    for part, start in enumerate(range(0, total, FROZEN_ROWS)):
        yield slice(start, min(start + FROZEN_ROWS, total)), f"pixels-{split}-{part:02d}.{suffix}"


def table_entry(
    of: SetOptions | TrajectorySet, role: str, split: str, name: str, sha256: str, rows: int
) -> dict[str, Any]:
    """The record of one table in `choreo.trajectories/1`; its id is the file's name without the suffix.

    Args:
        of: How the set's videos are drawn.
        role: `curves`, `views` or `pixels`. split: Whose, `all` of the curves.
        name, sha256: Of the file. rows: In it.
    """
    return {
        "id": Path(name).stem, "role": role, "split": split, "path": name, "sha256": sha256, "rows": rows,
        "frames": SHOWN, "size": of.size, "size_cue": of.size_cue, "seed": of.seed, "recipe": RECIPE, "synthetic": True,
    }  # fmt: skip


def _curve_columns(drawn: Drawn) -> dict[str, Any]:
    shapes = drawn.curves
    forms = [curves.canonical(shapes, k) for k in range(len(shapes))]
    return {
        "curve_id": np.arange(len(shapes)), "split": drawn.split.tolist(), "draw_seed": drawn.seed,
        "draw_row": drawn.row, "family": [FAMILIES[k] for k in shapes.family], "parameters": shapes.parameters,
        "rotation": shapes.rotation.reshape(-1, 9), "centre": shapes.centre,
        "points": curves.points(shapes).reshape(len(shapes), -1).astype(np.float32),
        "equation": [curves.equation(f) for f in forms],
        "description": [words.sentence(words.facts(f)) for f in forms],
    }  # fmt: skip


def view_columns(looks: Views) -> dict[str, Any]:
    """Columns of `choreo.views/1`."""
    red, green, blue = looks.colour.T.astype(np.int32)
    return {
        "curve_id": looks.base, "noise_key": looks.noise_key, "sigma": looks.sigma, "azimuth": looks.azimuth,
        "elevation": looks.elevation, "phase": looks.phase.astype(np.int32),
        "style": [raster.STYLES[k] for k in looks.style], "red": red, "green": green, "blue": blue,
    }  # fmt: skip


def shown_points(seed: int, split: str, shapes: Curves, looks: Views) -> F64:
    """The noisy points that views of a split show: (N, 16, 3)."""
    return views.noisy_points(seed, _STREAMS[split], views.clean_points(shapes, looks), looks)


@dataclass(frozen=True, slots=True)
class TrajectorySet:
    """An opened set: its curves, and the views of each split, as arrays.

    Args:
        folder: Where it lies. seed, size, size_cue: How its videos are drawn.
        drawn: Its curves. looks: Views by split. sha256: Of its manifest's entries. frozen: Files of pixels by split.
    """

    folder: Path
    seed: int
    size: int
    size_cue: str
    drawn: Drawn
    looks: dict[str, Views]
    sha256: str
    frozen: dict[str, list[Path]]

    def shown(self, split: str, rows: NDArray[np.intp] | slice | None = None) -> F64:
        """Noisy shown points of views: (n, 16, 3) world."""
        looks = self.looks[split] if rows is None else self.looks[split].take(rows)
        return shown_points(self.seed, split, self.drawn.curves, looks)

    def clean(self, split: str, rows: NDArray[np.intp] | slice | None = None) -> F64:
        """All 20 points without noise: (n, 20, 3) world."""
        looks = self.looks[split] if rows is None else self.looks[split].take(rows)
        return views.clean_points(self.drawn.curves, looks)

    def future(self, split: str, rows: NDArray[np.intp] | slice | None = None) -> F64:
        """What is to be forecast, in the orientation of each camera: (n, 4, 3)."""
        looks = self.looks[split] if rows is None else self.looks[split].take(rows)
        return views.futures(views.clean_points(self.drawn.curves, looks), looks)

    def family(self, split: str) -> I64:
        """Labels of the views, (n,)."""
        found: I64 = self.drawn.curves.family[self.looks[split].base]
        return found

    def render(self, split: str, rows: NDArray[np.intp] | slice, out: U8, engine: str = "auto") -> None:
        """Draw views into (n, 16, 3, size, size) uint8."""
        views.render(self.shown(split, rows), self.looks[split].take(rows), out, cue=self.size_cue, engine=engine)

    def batches(self, split: str, count: int = BUFFER, engine: str = "auto") -> Iterator[tuple[slice, U8]]:
        """Every video of a split through one buffer that is used again: (rows, (n, 16, 3, size, size))."""
        total = len(self.looks[split])
        buffer = np.empty((min(count, max(total, 1)), SHOWN, 3, self.size, self.size), np.uint8)
        for start in range(0, total, count):
            some = slice(start, min(start + count, total))
            self.render(split, some, buffer[: some.stop - start], engine)
            yield some, buffer[: some.stop - start]


def set_file(named: Path) -> Path:
    """The manifest of a set that was named by its folder or by that file; `-` stays."""
    return named / SET if named.is_dir() else named


def open_set(manifest: Manifest, roots: Mapping[str, str] | None = None) -> TrajectorySet:
    """Read a set that `choreo synth trajectories` wrote.

    Args:
        manifest: `choreo.trajectories/1`.
        roots: `--root` overrides.

    Raises:
        DataError: another recipe, or a table that is missing.
        NoInputError: its folder is not where it was.
        FormatError: a damaged table, or one whose hash is not the manifest's.
    """
    from formats.atomic import sha256_file
    from formats.manifest import resolve_roots, safe_join

    folders = resolve_roots(manifest, dict(roots or {}))
    own = next((r.id for r in manifest.roots if r.self), None)
    if own is None or not folders[own].is_dir():
        raise NoInputError(f"no folder {folders.get(own or '')}", hint=f"say where it lies: --root {own or 'out'}=DIR")
    folder = folders[own]

    by_role: dict[str, list[dict[str, Any]]] = {"curves": [], "views": [], "pixels": []}
    for entry in manifest.entries:
        if entry["recipe"] != RECIPE:
            raise DataError(
                f"the set was drawn by recipe {entry['recipe']}, this choreo draws recipe {RECIPE}",
                hint="make it again: choreo synth trajectories",
            )
        by_role[entry["role"]].append(entry)
    if len(by_role["curves"]) != 1 or not by_role["views"]:
        raise DataError("a trajectory set has one table of curves and views of at least one split")
    for entry in (*by_role["curves"], *by_role["views"]):
        path = safe_join(folder, entry["path"])
        if not path.is_file():
            raise NoInputError(f"no file {path}", hint="copy the whole folder of the set")
        if sha256_file(path) != entry["sha256"]:
            raise FormatError("the file is not the one the manifest names", file=path, hint="copy the set again")
    first = by_role["curves"][0]
    drawn = _read_curves(folder / first["path"])
    looks = {e["split"]: _read_views(folder / e["path"], len(drawn.curves)) for e in by_role["views"]}
    frozen: dict[str, list[Path]] = {}
    for entry in by_role["pixels"]:
        frozen.setdefault(entry["split"], []).append(safe_join(folder, entry["path"]))
    return TrajectorySet(folder, first["seed"], first["size"], first["size_cue"], drawn, looks, manifest.sha256, frozen)


def _read_curves(path: Path) -> Drawn:
    data = tables.read_table(path, CURVES)
    family = np.array([FAMILIES.index(f) for f in data.column("family").to_pylist()], np.int64)
    n = len(family)
    return Drawn(
        Curves(
            family, _matrix(data, "parameters"), _matrix(data, "rotation").reshape(n, 3, 3), _matrix(data, "centre")
        ),
        np.array(data.column("split").to_pylist()),
        data.column("draw_seed").to_numpy(),
        data.column("draw_row").to_numpy(),
    )


def _matrix(data: Any, name: str) -> F64:
    column = data.column(name).combine_chunks()
    found: F64 = column.flatten().to_numpy().reshape(data.num_rows, -1)
    return found


def _read_views(path: Path, curves_there: int) -> Views:
    data = tables.read_table(path, VIEWS)
    column = {name: data.column(name).to_numpy() for name in data.column_names if name != "style"}
    if len(column["curve_id"]) and column["curve_id"].max() >= curves_there:
        raise FormatError(f"a view of curve {column['curve_id'].max()}, there are {curves_there}", file=path)
    style = np.array([raster.STYLES.index(s) for s in data.column("style").to_pylist()], np.uint8)
    colour = np.stack([column[c] for c in ("red", "green", "blue")], axis=-1).astype(np.uint8)
    return Views(
        column["curve_id"], column["noise_key"], column["sigma"], column["azimuth"], column["elevation"],
        column["phase"].astype(np.int64), style, colour,
    )  # fmt: skip
