"""The work of `choreo render trajectories`: which videos, seen from where, drawn into pictures, films or tables."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.errors import UsageError
from choreo_cli.trajectory import raster, views
from choreo_cli.trajectory.camera import project
from choreo_cli.trajectory.curves import FAMILIES, SHOWN, canonical, equation
from choreo_cli.trajectory.sets import TrajectorySet, pixel_files, table_entry, view_columns
from choreo_cli.trajectory.views import Views
from formats import tables
from formats.trajectory import PIXELS, VIEWS

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]

KINDS = ("none", "parquet", "npz", "mp4")
FPS = 10.0  # of films and previews: t has no seconds of its own
MAX_CAMERAS, MAX_PREVIEW = 16, 64


@dataclass(frozen=True, slots=True)
class Asked:
    """What `choreo render trajectories` was asked for.

    Args:
        split: Whose views. rows: The first so many, 0 for all.
        preview: Videos on the contact sheet and in the animation.
        materialize: What is stored beside: `none`, `parquet`, `npz`, `mp4`.
        style: `dot`, `trail`, or empty for that of each view.
        cameras: (azimuth, elevation) in rad that every video is seen from; empty for its own camera.
        around: Each video from so many cameras at equal turns around z, its own first; 1 for its own alone.
        engine: `auto`: the reference, whose bytes depend on nothing that is installed.
    """

    split: str = "test"
    rows: int = 0
    preview: int = 16
    materialize: str = "none"
    style: str = ""
    cameras: tuple[tuple[float, float], ...] = ()
    around: int = 1
    engine: str = "auto"

    @property
    def drawn_by(self) -> str:
        """The engine of everything that is written."""
        return "numpy" if self.engine == "auto" else views.choose_engine(self.engine)


def check(asked: Asked, of: TrajectorySet) -> None:
    """Raises UsageError for a split, style, kind or count that is not there, UnavailableError for an engine."""
    if asked.split not in of.looks:
        raise UsageError(f"--split {asked.split}: the set has {', '.join(of.looks)}")
    if asked.style and asked.style not in raster.STYLES:
        raise UsageError(f"--style {asked.style} is not {' or '.join(raster.STYLES)}")
    if asked.materialize not in KINDS:
        raise UsageError(f"--materialize {asked.materialize} is not {', '.join(KINDS[1:])}")
    if asked.engine not in ("auto", "numba", "numpy"):
        raise UsageError(f"--engine {asked.engine} is not auto, numba or numpy")
    if not 1 <= asked.around <= MAX_CAMERAS or len(asked.cameras) > MAX_CAMERAS:
        raise UsageError(f"--cameras is 1 to {MAX_CAMERAS} cameras")
    if not 1 <= asked.preview <= MAX_PREVIEW:
        raise UsageError(f"--preview {asked.preview} is not 1..{MAX_PREVIEW}")
    _ = asked.drawn_by
    if asked.materialize == "mp4":
        from choreo_cli.motion.video_mp4 import need_av

        need_av()
        if of.size % 2:
            raise UsageError(f"videos of {of.size} px cannot become MP4", hint="their sides must be even")


@dataclass(frozen=True, slots=True)
class Chosen:
    """The videos that are drawn: their views, and which row of the set's table each comes from."""

    looks: Views
    row: I64
    of: TrajectorySet
    split: str

    def __len__(self) -> int:
        return len(self.looks)

    def draw(self, some: slice, engine: str) -> U8:
        """(n, 16, 3, size, size) uint8."""
        looks = self.looks.take(some)
        out = np.empty((len(looks), SHOWN, 3, self.of.size, self.of.size), np.uint8)
        views.render(self.shown(some), looks, out, cue=self.of.size_cue, engine=engine)
        return out

    def shown(self, some: slice) -> F64:
        """Noisy points, (n, 16, 3) world units: those of the set's own row, whatever camera looks."""
        return self.of.shown(self.split, np.asarray(self.row[some], np.intp))


def choose(of: TrajectorySet, asked: Asked) -> Chosen:
    """The views that were asked for, in the style and from the cameras that were asked for."""
    count = min(asked.rows or len(of.looks[asked.split]), len(of.looks[asked.split]))
    each = max(len(asked.cameras), asked.around)
    row = np.repeat(np.arange(count, dtype=np.int64), each)
    looks = of.looks[asked.split].take(np.asarray(row, np.intp))
    if asked.cameras:
        azimuth, elevation = np.tile(np.array(asked.cameras), (count, 1)).T
        looks = replace(looks, azimuth=azimuth.copy(), elevation=elevation.copy())
    elif each > 1:
        turn = np.tile(2 * np.pi * np.arange(each) / each, count)
        looks = replace(looks, azimuth=np.mod(looks.azimuth + turn, 2 * np.pi))
    if asked.style:
        looks = replace(looks, style=np.full(len(looks), raster.STYLES.index(asked.style), np.uint8))
    return Chosen(looks, row, of, asked.split)


@dataclass(slots=True)
class Made:
    """What was written: the kind of manifest, its entries, and (role, sha256) of every file."""

    kind: str
    entries: list[dict[str, Any]] = field(default_factory=list)
    files: dict[str, tuple[str, str]] = field(default_factory=dict)


def kind_of(asked: Asked) -> str:
    """`trajectories` where pixels are stored as a table, else `videos`."""
    return "trajectories" if asked.materialize in ("parquet", "npz") else "videos"


def write(
    of: TrajectorySet, asked: Asked, folder: Path, metadata: dict[str, str],
    on_progress: Callable[[int, int], None] | None = None,
) -> Made:  # fmt: skip
    """Draw what was asked for into a folder.

    Raises:
        UsageError: see `check`.
        OSError: the disk is full; what was not finished does not appear.
    """
    from choreo_cli.trajectory.render_sheet import contact_sheet, preview

    check(asked, of)
    chosen, made = choose(of, asked), Made(kind_of(asked))
    some = slice(0, min(asked.preview, len(chosen)))
    if len(chosen):
        videos = chosen.draw(some, asked.drawn_by)
        texts = {"Software": "choreo", "choreo": json.dumps({"set": of.sha256, "split": asked.split}, sort_keys=True)}
        labels = [labels_of(chosen, k) for k in range(some.stop)]
        _put(made, folder, "sheet", "sheet.png", contact_sheet(videos, labels, texts))
        _put(made, folder, "preview", "preview.png", preview(videos, FPS, texts))
    report = on_progress or (lambda done, total: None)
    if made.kind == "trajectories":
        _store(made, chosen, asked, folder, metadata, report)
    else:
        _films(made, chosen, asked, folder, report)
    return made


def labels_of(chosen: Chosen, k: int) -> tuple[str, str, str]:
    """Three short lines about one video."""
    looks = chosen.looks
    family = FAMILIES[int(chosen.of.drawn.curves.family[looks.base[k]])]
    where = f"az {looks.azimuth[k]:.2f}  el {looks.elevation[k]:.2f}"
    return f"{chosen.row[k]}  {family}", f"sigma {looks.sigma[k]:g}  {raster.STYLES[looks.style[k]]}", where


def _put(made: Made, folder: Path, role: str, name: str, data: bytes) -> None:
    from formats.atomic import write_bytes

    made.files[name] = (role, write_bytes(folder / name, data))


def _store(
    made: Made, chosen: Chosen, asked: Asked, folder: Path, metadata: dict[str, str], report: Callable[..., None]
) -> None:
    """Curves, the views as they were drawn, and their pixels: a set of its own that holds one split."""
    from choreo_cli.export.npz import npz_bytes

    of, split, suffix = chosen.of, asked.split, asked.materialize
    _put(made, folder, "table", "curves.parquet", (of.folder / "curves.parquet").read_bytes())
    _list(made, of, "curves", "all", "curves.parquet", len(of.drawn.curves))
    name = f"views-{split}.parquet"
    made.files[name] = ("table", tables.write_batches(folder / name, VIEWS, [view_columns(chosen.looks)], metadata))
    _list(made, of, "views", split, name, len(chosen))
    total = len(chosen)
    for some, name in pixel_files(split, total, suffix):
        report(some.start, total)
        videos = chosen.draw(some, asked.drawn_by)
        row = np.arange(some.start, some.stop)
        if suffix == "npz":
            arrays: dict[str, NDArray[Any]] = {
                "row": row,
                "label": of.drawn.curves.family[chosen.looks.base[some]],
                "videos": videos,
            }
            _put(made, folder, "table", name, npz_bytes(arrays))
        else:
            columns = {"row": row, "video": videos.reshape(len(videos), -1)}
            made.files[name] = ("table", tables.write_batches(folder / name, PIXELS, [columns], metadata))
        _list(made, of, "pixels", split, name, len(row))
    report(total, total)


def _list(made: Made, of: TrajectorySet, role: str, split: str, name: str, rows: int) -> None:
    made.entries.append(table_entry(of, role, split, name, made.files[name][1], rows))


def _films(made: Made, chosen: Chosen, asked: Asked, folder: Path, report: Callable[..., None]) -> None:
    """An entry for each video: those of the pictures, or with `mp4` all of them, each with its annotation."""
    from choreo_cli.motion import video_mp4

    pictures = dict(made.files)
    films = asked.materialize == "mp4"
    total = len(chosen) if films else min(asked.preview, len(chosen))
    for k in range(total):
        report(k, total)
        own = {n: sha for n, (_, sha) in pictures.items()} if k < asked.preview else {}
        path = None
        if films:
            path, note = f"mp4/{k:06d}.mp4", f"mp4/{k:06d}.json"
            (folder / "mp4").mkdir(exist_ok=True)
            frames = chosen.draw(slice(k, k + 1), asked.drawn_by)[0].transpose(0, 2, 3, 1)
            film: Any = Film(np.ascontiguousarray(frames))
            made.files[path] = ("mp4", video_mp4.write(folder / path, film))
            _put(made, folder, "annotation", note, json.dumps(annotation(chosen, k), indent=1).encode() + b"\n")
            own |= {n: made.files[n][1] for n in (path, note)}
        made.entries.append(_video(chosen, k, asked, path, own))
    report(total, total)


@dataclass(frozen=True, slots=True)
class Film:
    """Frames (T, H, W, 3) that lie ready, as the encoder asks for them."""

    ready: U8
    fps: float = FPS

    @property
    def size(self) -> tuple[int, int]:
        return self.ready.shape[1], self.ready.shape[2]

    @property
    def frames(self) -> int:
        return len(self.ready)

    @property
    def step(self) -> int:
        return len(self.ready)

    def batch(self, start: int, stop: int, out: U8 | None = None) -> U8:
        """Frames start..stop."""
        return self.ready[start:stop]


def _video(chosen: Chosen, k: int, asked: Asked, path: str | None, files: dict[str, str]) -> dict[str, Any]:
    """The record of `choreo.videos/1`."""
    of, looks = chosen.of, chosen.looks
    shown = {
        "set": of.sha256, "split": asked.split, "row": int(chosen.row[k]), "azimuth": float(looks.azimuth[k]),
        "elevation": float(looks.elevation[k]), "style": raster.STYLES[looks.style[k]],
    }  # fmt: skip
    return {
        "id": "v:" + hashlib.sha256(json.dumps(shown, sort_keys=True).encode()).hexdigest()[:16],
        "path": path, "sha256": None if path is None else files[path],
        "source": f"views-{asked.split}.parquet row {chosen.row[k]}", "source_sha256": of.sha256, "reference": None,
        "reference_sha256": None, "music": None, "music_sha256": None, "n_frames": SHOWN, "fps": FPS,
        "duration_us": round(SHOWN / FPS * 1e6), "start_us": 0, "width": of.size, "height": of.size, "n_beats": 0,
        "camera": {
            "azimuth": round(float(looks.azimuth[k]), 6), "elevation": round(float(looks.elevation[k]), 6),
            "distance": looks.cameras.distance, "projection": "perspective",
        },
        "files": dict(sorted(files.items())), "notes": [], "group_id": f"curve-{looks.base[k]}",
        "split": asked.split if asked.split in ("train", "val", "test") else "none", "licence": None,
        "synthetic": True,
    }  # fmt: skip


def annotation(chosen: Chosen, k: int) -> dict[str, Any]:
    """What is known of one video: camera, points in space and in the image, visibility, equation."""
    of, looks = chosen.of, chosen.looks.take(slice(k, k + 1))
    shapes, clean = views.seen_curves(of.drawn.curves, looks), views.clean_points(of.drawn.curves, looks)
    shown = chosen.shown(slice(k, k + 1))
    pixels, depth = project(shown, looks.cameras, of.size)
    inside = ((pixels[0] >= 0) & (pixels[0] <= of.size - 1)).all(1) & (depth[0] > 0)
    camera = looks.cameras
    return {
        "curve": int(looks.base[0]), "row": int(chosen.row[k]), "family": FAMILIES[int(shapes.family[0])],
        "sigma": float(looks.sigma[0]), "style": raster.STYLES[looks.style[0]], "colour": looks.colour[0].tolist(),
        "camera": {
            "azimuth": float(looks.azimuth[0]), "elevation": float(looks.elevation[0]),
            "K": camera.intrinsics(of.size).tolist(), "R": camera.rotation[0].tolist(),
            "t": camera.translation[0].tolist(),
        },
        "shown_3d": shown[0].tolist(), "clean_3d": clean[0, :SHOWN].tolist(), "future_3d": clean[0, SHOWN:].tolist(),
        "pixels": pixels[0].tolist(), "depth": depth[0].tolist(), "visible": inside.tolist(),
        "equation": equation(canonical(shapes, 0)),
    }  # fmt: skip
