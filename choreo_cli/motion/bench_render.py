"""Measure drawing and filming beside matplotlib's animation, the memory writes and the compression they cannot beat."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.metrics.timing import best_in_turns
from choreo_cli.motion import choreo25
from choreo_cli.motion.dancer import choreograph, poses, write_score
from choreo_cli.motion.scene import Actor, Look, Scene, scene
from formats.foreign.joints import PARENTS
from formats.metrics import entry

F64 = NDArray[np.float64]
U8 = NDArray[np.uint8]

SIZE, FPS = 512, 30.0
RASTER_GOAL, MP4_GOAL_S, FILM_S = 4000.0, 6.0, 30.0
CHUNK, TURN = 8, 6  # frames drawn at a time, and how many such make a turn: spread over the dance
BPM = 118.0


def bench(*, seconds: float = FILM_S, repeats: int = 5, peer_frames: int = 40, seed: int = 0) -> list[dict[str, Any]]:
    """Metric entries of drawing.

    Args:
        seconds: Length of the dance that is drawn and filmed.
        repeats: Runs of each measurement, taken in turns; the best counts, other work only adds time. Frames are
            counted against seconds of the one thread that draws, films against the clock.
        peer_frames: Frames that matplotlib draws.
        seed: Of the dance and its music.
    """
    rng = np.random.default_rng(seed)
    beats = np.arange(0.4, seconds + 1, 60 / BPM)
    joints = poses(choreograph(write_score(beats, 0.9, rng), rng), np.arange(round(seconds * FPS)) / FPS)
    film = _film(joints, beats, Look(SIZE, SIZE))
    return [_raster(film, _film(joints, beats, Look(SIZE, SIZE, follow=True)), repeats, peer_frames),
            _mp4(film, joints, beats, seconds, max(repeats // 2, 1), peer_frames, rng)]  # fmt: skip


def _film(joints: F64, beats: F64, look: Look) -> Scene:
    return scene([Actor(joints, choreo25.contacts_of(joints, FPS), "dance")], FPS, look, beats)


def _raster(film: Scene, following: Scene, repeats: int, peer_frames: int) -> dict[str, Any]:
    """Frames a second of one core: floor, shadow, dancer, bar, from shapes that lie ready."""
    out = np.empty((CHUNK, *film.size, 3), np.uint8)
    spans = [range(k, k + CHUNK) for k in range(0, film.frames - CHUNK + 1, CHUNK)][
        :: max(film.frames // CHUNK // TURN, 1)
    ][:TURN]
    large = np.empty((min(film.step, film.frames), *film.size, 3), np.uint8)
    shapes = [film.pictures(s.start, s.stop) for s in spans]

    def drawing(of: Scene, made: list[Any]) -> Callable[[], None]:
        def run() -> None:
            for shape in made:
                of.draw(of.ground, shape, out)

        return run

    def writing() -> None:
        for _ in spans:
            out[:] = film.ground

    moving = [following.pictures(s.start, s.stop) for s in spans]
    runs: dict[str, Callable[[], object]] = {
        "draw": drawing(film, shapes), "whole": lambda: film.batch(0, len(large), large),
        "follow": drawing(following, moving), "write": writing,
    }  # fmt: skip
    frames = len(spans) * CHUNK
    took = best_in_turns(runs, 8 * repeats, time.thread_time)
    best = {name: (len(large) if name == "whole" else frames) / s for name, s in took.items()}
    peer = _matplotlib(film.actors[0].joints, peer_frames)
    params: dict[str, Any] = {
        "size": SIZE, "engine": film.engine, "frames": frames,
        "with_projection_and_words_per_s": round(best["whole"]), "following_camera_per_s": round(best["follow"]),
    }  # fmt: skip
    why = None if film.engine == "numba" else "numba is not installed: pip install 'choreo[render]'"
    return entry(
        "motion.raster", best["draw"], "frames/s", "higher", n=frames,
        baseline=("matplotlib animation", peer), floor=("writing the background", best["write"]),
        goal=(">=", RASTER_GOAL), params=params, why=why,
    )  # fmt: skip


def _matplotlib(joints: F64, frames: int) -> float:
    """Frames a second of a skeleton as lines of one matplotlib figure that is updated and drawn to pixels."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(SIZE / 100, SIZE / 100), dpi=100)
    canvas: Any = FigureCanvasAgg(figure)
    axes: Any = figure.add_subplot(projection="3d")
    axes.set(xlim=(-1, 1), ylim=(-1, 1), zlim=(0, 2))
    bones = [(j, p) for j, p in enumerate(PARENTS) if p >= 0]
    lines = [axes.plot([0, 0], [0, 0], [0, 0], linewidth=4)[0] for _ in bones]
    count = min(frames, len(joints))
    canvas.draw()
    start = time.thread_time()
    for pose in joints[:count]:
        for line, (a, b) in zip(lines, bones, strict=True):
            line.set_data_3d(*pose[[a, b]][:, [2, 0, 1]].T)
        canvas.draw()
        np.asarray(canvas.buffer_rgba())[..., :3].copy()
    return count / (time.thread_time() - start)


def _mp4(
    film: Scene, joints: F64, beats: F64, seconds: float, repeats: int, peer_frames: int, rng: np.random.Generator
) -> dict[str, Any]:
    """Wall seconds from a clip file and its music to an MP4: read, decode, hear beats, draw, compress, write."""
    params = {"clip_s": seconds, "size": SIZE, "fps": FPS, "engine": film.engine}
    try:
        import av  # noqa: F401
    except ImportError:
        return entry(
            "motion.mp4", None, "s", "lower", params=params, why="PyAV is not installed: pip install 'choreo[video]'"
        )
    from choreo_cli.motion import video, video_inputs, video_mp4
    from formats import motion_npz

    with tempfile.TemporaryDirectory(prefix="choreo-bench-") as name:
        folder = Path(name)
        motion_npz.write(folder / "dance.npz", choreo25.encode(joints, FPS))
        _music(folder / "music.wav", beats, seconds, rng)
        item = video_inputs.expand([folder / "dance.npz"], {})[0]
        asked = video.Options(("mp4",), Look(SIZE, SIZE), music=folder / "music.wav")
        best, least = np.inf, np.inf
        for _ in range(repeats):
            start = time.perf_counter()
            made = video.render(video.Task(item, None, folder, asked))
            best = min(best, time.perf_counter() - start)
            drawn = _Drawn(film)
            start = time.perf_counter()
            video_mp4.write(folder / "floor.mp4", drawn)  # type: ignore[arg-type]
            least = min(least, time.perf_counter() - start)
        params["bytes"] = (folder / "dance.mp4").stat().st_size
        params["beats"] = (made.entry or {})["n_beats"]
    # What matplotlib needs for its frames alone, at the rate it was seen to draw.
    peer = film.frames / _matplotlib(joints, peer_frames)
    return entry(
        "motion.mp4", best, "s", "lower", n=film.frames, baseline=("matplotlib frames, not yet compressed", peer),
        floor=("compressing drawn frames", least), goal=("<=", MP4_GOAL_S * seconds / FILM_S), params=params,
    )  # fmt: skip


class _Drawn:
    """A film whose frames lie ready, two batches in turn: what is left is compression."""

    def __init__(self, film: Scene) -> None:
        self.size, self.fps, self.frames, self.step = film.size, film.fps, film.frames, film.step
        self._ready = film.batch(0, min(2 * film.step, film.frames))

    def batch(self, start: int, stop: int, out: U8 | None = None) -> U8:
        first = start % max(len(self._ready) // 2, 1)
        return self._ready[first : first + stop - start]


def _music(path: Path, beats: F64, seconds: float, rng: np.random.Generator) -> None:
    import soundfile

    from choreo_cli.audio.render import render_track

    mono = render_track(beats[beats < seconds], 1.0, seconds, rng, rate=44_100)
    quiet = mono * np.float32(0.9 / max(float(np.abs(mono).max()), 1e-9))
    soundfile.write(path, np.stack([quiet, np.roll(quiet, 40)], 1), 44_100)
