"""Measure drawing beside the memory writes it cannot beat and OpenCV's; rows to pixels; a training step; the solver."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.metrics.timing import best_in_turns
from choreo_cli.trajectory import curves, raster, solver, views
from choreo_cli.trajectory.curves import SHOWN
from choreo_cli.trajectory.sets import SetOptions, TrajectorySet, open_set, write_set
from formats.metrics import entry

F64 = NDArray[np.float64]
U8 = NDArray[np.uint8]

BUFFER = 1024  # videos of a buffer: 200 MB
SHARE_GOAL, PEER_GOAL, TRAIL_GOAL = 0.4, 5.0, 15_000.0
ALL, ALL_GOAL_S, TABLE_GOAL_MB = 216_000, 25.0, 20.0
CORES = 2
BRANCHES: dict[str, dict[str, Any]] = {
    "strided": {"width": 8}, "i3d": {"width": 8, "stem": 2, "compress": True}, "slowfast": {"width": 16},
}  # fmt: skip
_NO_NUMBA = "numba is not installed: pip install 'choreo[render]'"
_NO_PEER = "OpenCV is not installed: pip install 'choreo[bench]'"


def bench(
    *, videos: int = BUFFER, repeats: int = 12, peer_videos: int = 96, rows: int = ALL, steps: int = 12,
    fits: int = 400, seed: int = 0,
) -> list[dict[str, Any]]:  # fmt: skip
    """Metric entries of the trajectory lab.

    Args:
        videos: Videos of the buffer that is drawn into again and again.
        repeats: Turns of each measurement; the best counts, other work only adds time.
        peer_videos: Videos that OpenCV draws.
        rows: Augmented videos drawn from their rows, a multiple of 3,600 (20 curves).
        steps: Optimiser steps of each encoder. fits: Curves that are fitted.
        seed: Of everything.
    """
    return [
        *_drawing(videos, repeats, peer_videos, seed),
        *_augmented(rows, seed),
        _steps(steps, seed),
        _solver(fits, max(1, repeats // 4), seed),
    ]


def best_of(runs: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Seconds of the one thread that works, the best of some turns; the first turn compiles and is not counted."""
    return best_in_turns(runs, repeats, time.thread_time)


def _drawing(videos: int, repeats: int, peer_videos: int, seed: int) -> list[dict[str, Any]]:
    """Dots and trails through one buffer, in turns with writing that buffer and with OpenCV."""
    pixels, radius, colour = _shapes(videos, seed)
    names = ("dot", "trail", "share", "peer")
    if views.choose_engine("auto") != "numba":
        return [entry(f"trajectory.{n}", None, UNITS[n], "higher", why=_NO_NUMBA) for n in names]
    from choreo_cli.trajectory.raster_fast import render_batch

    out = np.empty((videos, SHOWN, 3, views.SIZE, views.SIZE), np.uint8)
    style = {"dot": np.zeros(videos, np.uint8), "trail": np.ones(videos, np.uint8)}
    runs: dict[str, Callable[[], object]] = {"write": lambda: out.fill(0)}
    runs |= {n: lambda n=n: render_batch(pixels, radius, colour, style[n], out) for n in style}  # type: ignore[misc]
    peer = opencv_drawing()
    few = slice(0, min(peer_videos, videos))
    if peer is not None:
        for n, mark in style.items():
            runs[f"opencv {n}"] = lambda mark=mark: peer(  # type: ignore[misc]
                pixels[few], radius[few], colour[few], mark[few], out[few]
            )
    best = best_of(runs, repeats)
    rate = {n: (few.stop if n.startswith("opencv") else videos) / s for n, s in best.items()}
    params = {"videos": videos, "buffer_mb": round(out.nbytes / 1e6), "size": views.SIZE, "opencv": peer is not None}
    rivals = {n: ("OpenCV circles" if n == "dot" else "OpenCV blending", rate[f"opencv {n}"]) if peer else None
              for n in style}  # fmt: skip
    floor = ("writing the buffer", rate["write"])
    share = rate["dot"] / rate["write"]
    ratio = None if peer is None else rate["dot"] / rate["opencv dot"]
    short = None if videos == BUFFER else f"a buffer of {videos} videos, not {BUFFER}: it fits the cache"
    return [
        entry("trajectory.dot", rate["dot"], UNITS["dot"], "higher", n=videos, baseline=rivals["dot"], floor=floor,
              params=params),
        entry("trajectory.share", share, "1", "higher", n=videos, goal=(">=", SHARE_GOAL), params=params,
              why=short),
        entry("trajectory.peer", ratio, "1", "higher", n=few.stop, goal=(">=", PEER_GOAL), params=params,
              why=_NO_PEER if peer is None else short),
        entry("trajectory.trail", rate["trail"], UNITS["trail"], "higher", n=videos, baseline=rivals["trail"],
              floor=floor, goal=(">=", TRAIL_GOAL), params=params, why=short),
    ]  # fmt: skip


UNITS = {"dot": "videos/s", "trail": "videos/s", "share": "1", "peer": "1"}


def _shapes(count: int, seed: int) -> tuple[Any, Any, U8]:
    """Pixels, radii and colours of free views, as the engines read them."""
    rows = np.arange(count)
    looks = views.free_views(seed, "bench", rows, rows)
    clean = views.clean_points(curves.draw(seed, 0, count), looks)
    pixels, radius = views.drawing(views.noisy_points(seed, "bench", clean, looks), looks)
    return np.ascontiguousarray(pixels, np.float32), np.ascontiguousarray(radius, np.float32), looks.colour


def opencv_drawing() -> Callable[[Any, Any, U8, U8, U8], None] | None:
    """The same pictures by OpenCV, anti-aliased with sub-pixel shifts; None when it is not installed."""
    try:
        import cv2
    except ImportError:
        return None
    cv2.setNumThreads(1)
    bits = 4
    unit = 1 << bits

    def draw(pixels: Any, radius: Any, colour: U8, style: U8, out: U8) -> None:
        size = out.shape[-1]
        for n in range(len(out)):
            tint = [int(v) for v in colour[n]]
            last = np.zeros((size, size, 3), np.uint8)
            for k in range(out.shape[1]):
                x, y = (round(float(v) * unit) for v in pixels[n, k])
                frame = np.zeros((size, size, 3), np.uint8)
                if style[n] == raster.TRAIL and k:
                    a, b = (round(float(v) * unit) for v in pixels[n, k - 1])
                    thin = max(1, round(2 * raster.THIN * float(radius[n, k])))
                    faint = [raster.TAIL * v for v in tint]
                    cv2.line(frame, (a, b), (x, y), faint, thin, cv2.LINE_AA, bits)
                cv2.circle(frame, (x, y), round(float(radius[n, k]) * unit), tint, -1, cv2.LINE_AA, bits)
                if style[n] == raster.TRAIL:
                    last = np.maximum(cv2.convertScaleAbs(last, alpha=raster.FADE), frame)
                    frame = last
                out[n, k] = frame.transpose(2, 0, 1)

    return draw


def _augmented(rows: int, seed: int) -> list[dict[str, Any]]:
    """The 180 views of each curve from their table on disk to pixels in memory, by two threads, nothing stored."""
    with tempfile.TemporaryDirectory(prefix="choreo-bench-") as name:
        of, size = _made_set(Path(name), rows, seed)
        start, busy = time.perf_counter(), time.process_time()
        of = reopened(of)
        drawn = draw_all(of)
        wall, cpu = time.perf_counter() - start, time.process_time() - busy
    params = {"videos": drawn, "threads": CORES, "cpu_s": round(cpu, 2), "engine": views.choose_engine("auto")}
    why = None if drawn == ALL else f"{drawn} of {ALL} videos"
    table = entry(
        "trajectory.recipes", size / 1e6, "MB", "lower", n=drawn, goal=("<=", TABLE_GOAL_MB), params={"videos": drawn},
        why=why,
    )  # fmt: skip
    return [
        entry("trajectory.augmented", wall, "s", "lower", n=drawn, goal=("<=", ALL_GOAL_S), params=params, why=why),
        table,
    ]


def _made_set(folder: Path, rows: int, seed: int) -> tuple[TrajectorySet, int]:
    from choreo_cli.runtime import provenance
    from formats.manifest import Manifest, Root, encode

    asked = SetOptions(num=max(20, rows // views.PER_CURVE), test=0, grid=0, seed=seed)
    made = write_set(asked, folder, {})
    roots = [Root("out", str(folder), True)]
    document = Manifest("choreo.trajectories/1", provenance("bench", {}, []), made.entries, roots)
    (folder / "trajectories.json").write_bytes(encode(document))
    size = sum(f.stat().st_size for f in folder.glob("views-*.parquet"))
    return open_set(document), size


def reopened(of: TrajectorySet) -> TrajectorySet:
    """The set read from its folder again."""
    from formats.manifest import decode

    file = of.folder / "trajectories.json"
    return open_set(decode(file.read_bytes(), file=file))


def draw_all(of: TrajectorySet, workers: int = CORES) -> int:
    """Every view of training and validation through a buffer for each thread; returns how many were drawn."""
    jobs = [
        (split, slice(start, min(start + BUFFER, len(of.looks[split]))))
        for split in ("train", "val") for start in range(0, len(of.looks[split]), BUFFER)
    ]  # fmt: skip
    buffers = [np.empty((BUFFER, SHOWN, 3, of.size, of.size), np.uint8) for _ in range(workers)]

    def share(worker: int) -> int:
        done = 0
        for split, some in jobs[worker::workers]:
            out = buffers[worker][: some.stop - some.start]
            of.render(split, some, out)
            done += len(out)
        return done

    with ThreadPoolExecutor(workers) as pool:
        return sum(pool.map(share, range(workers)))


def _steps(steps: int, seed: int) -> dict[str, Any]:
    """A training step of the strided encoder: forward, backward, optimiser; other encoders in `params`."""
    try:
        import torch
    except ImportError:
        why = "torch is not installed: pip install 'choreo[train]'"
        return entry("trajectory.train_step", None, "ms", "lower", why=why)
    from torch.nn import functional as F

    from choreo_cli.trajectory.nets_torch import VideoNet

    batch = 16
    pixels, radius, colour = _shapes(batch, seed)
    style = np.arange(batch, dtype=np.uint8) % 2
    drawn = np.stack([raster.render(pixels[n], radius[n], colour[n], int(style[n]), views.SIZE) for n in range(batch)])
    seen, family = torch.from_numpy(drawn).float() / 255, torch.arange(batch) % 4
    torch.manual_seed(seed)
    runs: dict[str, Callable[[], object]] = {}
    for name, how in BRANCHES.items():
        net = VideoNet(name, **how)
        adam = torch.optim.AdamW(net.parameters())

        def step(net: Any = net, adam: Any = adam) -> None:
            adam.zero_grad()
            told = net(seen)
            (F.cross_entropy(told["logits"], family) + told["future"].square().mean()).backward()
            adam.step()

        runs[name] = step
    first = next(iter(BRANCHES))
    still = VideoNet(first, **BRANCHES[first]).eval()

    def forward() -> None:
        with torch.no_grad():
            still(seen)

    runs["forward"] = forward
    best = best_of(runs, steps)
    others = {f"{n}_ms": round(1e3 * s, 1) for n, s in best.items() if n not in (first, "forward")}
    return entry(
        "trajectory.train_step", 1e3 * best[first], "ms", "lower", n=batch,
        floor=("its forward pass alone", 1e3 * best["forward"]), params={"encoder": first, "batch": batch, **others},
    )  # fmt: skip


def _solver(fits: int, repeats: int, seed: int) -> dict[str, Any]:
    """Milliseconds for one curve: four families fitted to 16 noisy points, one chosen."""
    rows = np.arange(fits)
    looks = views.free_views(seed, "bench", rows, rows)
    shapes = curves.draw(seed, 0, fits)
    noisy = views.noisy_points(seed, "bench", views.clean_points(shapes, looks), looks)
    best = best_of({"fit": lambda: solver.fit(noisy)}, repeats)["fit"]
    right = float((solver.fit(noisy).family == shapes.family).mean())
    return entry(
        "trajectory.solver", 1e3 * best / fits, "ms", "lower", n=fits, params={"batch": fits, "family_right": right}
    )  # fmt: skip
