"""A data set of procedural dances: choreo25 clips, the music each was danced to, captions and splits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from choreo_cli.audio.render import RATE, wav_bytes
from choreo_cli.audio.render_band import Arrangement, arrange, render_band
from choreo_cli.engine import run_map
from choreo_cli.errors import UsageError
from choreo_cli.motion.dancer_clip import Dance, choreograph, make_clip
from choreo_cli.motion.dancer_styles import STYLES, draw_dancer
from formats.motion_npz import MotionClip

VERSION = "dancer-motions-1"
CLIPS_EACH = 4  # of one dancer
LEAST_S, MOST_S = 1.0, 600.0
LEAST_BPM, MOST_BPM = 40.0, 220.0
LEAST_FPS, MOST_FPS = 15.0, 240.0


@dataclass(frozen=True, slots=True)
class DanceSetOptions:
    """What to make.

    Args:
        clips: How many.
        seconds: Length of each.
        fps: Frame rate.
        bpm: Tempi that cycle over the clips; empty draws one for each.
        styles: Names of `dancer_styles.STYLES` that cycle; empty takes all.
        seed: Clip k depends on it and on k alone.
    """

    clips: int = 64
    seconds: float = 10.0
    fps: float = 30.0
    bpm: tuple[float, ...] = ()
    styles: tuple[str, ...] = ()
    seed: int = 0


@dataclass(frozen=True, slots=True)
class MadeDance:
    """One clip in memory: what was danced, the clip, and the music as WAV bytes."""

    dance: Dance
    clip: MotionClip
    wav: bytes


def check_options(asked: DanceSetOptions) -> None:
    """Raise UsageError for what cannot be made."""
    if not 1 <= asked.clips <= 1_000_000:
        raise UsageError(f"--clips {asked.clips}", hint="1 to 1,000,000")
    for name, value, low, high in (
        ("seconds", asked.seconds, LEAST_S, MOST_S), ("fps", asked.fps, LEAST_FPS, MOST_FPS),
        *(("bpm", b, LEAST_BPM, MOST_BPM) for b in asked.bpm),
    ):  # fmt: skip
        if not (np.isfinite(value) and low <= value <= high):
            raise UsageError(f"--{name} {value:g}", hint=f"{low:g} to {high:g}")
    if asked.seed < 0:
        raise UsageError(f"--seed {asked.seed}", hint="0 or more")
    for style in asked.styles:
        if style not in STYLES:
            raise UsageError(f"no style {style!r}", hint=f"choose from {', '.join(sorted(STYLES))}")


def dance(k: int, asked: DanceSetOptions) -> MadeDance:
    """Make clip `k`; it depends on the seed, `k` and the options, never on how many there are."""
    rng = np.random.default_rng((asked.seed, 0x6D6F74, k))
    styles = asked.styles or tuple(sorted(STYLES))
    # All styles pass before one repeats, and a dancer of four clips has different ones.
    style = STYLES[styles[k % len(styles)]]
    form = arrange(asked.seconds, rng, bpm=asked.bpm[k % len(asked.bpm)] if asked.bpm else None)
    made = choreograph(form, draw_dancer(asked.seed, k // CLIPS_EACH), style, rng)
    clip = make_clip(made, asked.fps, round(asked.seconds * asked.fps))
    samples = render_band(form, asked.seconds, rng)
    return MadeDance(made, clip, wav_bytes(samples, rate=RATE, title=f"Synthetic Band {k:05d}", comment="synthetic"))


def write_dances(
    asked: DanceSetOptions, out: Path, progress: Callable[..., None] | None = None, *, jobs: int = 1
) -> tuple[list[dict[str, Any]], dict[str, tuple[str, str]]]:
    """Write `clips/dance-00000.npz` and `music/dance-00000.wav` for every clip; the manifest is the caller's.

    Args:
        asked: What to make.
        out: Existing folder.
        progress: `progress(done, total)`.
        jobs: Processes; the bytes do not depend on it.

    Returns:
        Entries of `choreo.motions/1`, and path -> (role, sha256) of every file.

    Raises:
        UsageError: impossible options.
        OSError: the folder cannot be written.
    """
    check_options(asked)
    for folder in ("clips", "music"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    task = partial(_write_one, asked=asked, out=out)
    entries = list(run_map(task, range(asked.clips), jobs=jobs, on_progress=progress))
    splits = _splits([e["group_id"] for e in entries])
    files: dict[str, tuple[str, str]] = {}
    for e in entries:
        e["split"] = splits[e["group_id"]]
        files[e["path"]] = ("motion", e["sha256"])
        files[e["music"]] = ("music", e["report"]["music_sha256"])
    return entries, files


def _write_one(k: int, *, asked: DanceSetOptions, out: Path) -> dict[str, Any]:
    from formats import motion_npz
    from formats.atomic import write_bytes

    made = dance(k, asked)
    path, music = f"clips/dance-{k:05d}.npz", f"music/dance-{k:05d}.wav"
    sha = motion_npz.write(out / path, made.clip, {"generator": VERSION, "seed": asked.seed, "clip": k})
    return entry(made, path, sha, music, write_bytes(out / music, made.wav))


def entry(made: MadeDance, path: str, sha: str, music: str, music_sha: str) -> dict[str, Any]:
    """The entry of `choreo.motions/1` of a clip that was written."""
    h, n = made.clip.header, len(made.clip.channels)
    dancer = f"dancer-{made.dance.who.number:04d}"
    return {
        "id": sha[:16], "path": path, "sha256": sha, "layout": "choreo25", "source": VERSION, "source_sha256": None,
        "n_frames": n, "fps": h.fps, "duration_us": round(n / h.fps * 1e6), "rig": "own", "height_m": h.height_m,
        "scale": 1.0, "mean_mm": None, "p95_mm": None, "foot_mm_s": None, "clamped": 0,
        "flags": {k: v for k, v in h.flags.items() if k in ("synthetic", "inverted") and v},
        "report": {
            "style": made.dance.style.name, "music_sha256": music_sha, **_form(made.dance.form, n / h.fps),
            "assumptions": ["motion and music start together: both were made from one score"],
        },
        "music": music, "group_id": dancer, "split": "none", "performer": dancer,
        "captions": list(made.dance.captions), "licence": h.licence, "synthetic": True,
    }  # fmt: skip


def _form(form: Arrangement, seconds: float) -> dict[str, Any]:
    """Tempo, beats and phrases inside the clip: the truth."""
    beats = form.beats_s[(form.beats_s >= 0) & (form.beats_s <= seconds)]
    phrases = [
        {**asdict(p), "start_s": round(float(form.beats_s[p.start]), 6), "bar": list(p.bar)}
        for p in form.phrases
        if form.beats_s[min(p.start + p.beats, len(form.beats_s) - 1)] > 0 and form.beats_s[p.start] < seconds
    ]
    return {"bpm": round(form.bpm, 6), "beats_s": [round(float(b), 6) for b in beats], "phrases": phrases}


def _splits(groups: list[str]) -> dict[str, str]:
    from choreo_cli.dataset.motions_split import split_clips
    from choreo_cli.dataset.splits import Item

    names = sorted(set(groups))
    found = split_clips([Item(g, g, f"music of {g}") for g in names], ["none"] * len(names))
    return dict(zip(names, found.of, strict=True))
