"""Options of `choreo render` and what their texts mean."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from choreo_cli import options
from choreo_cli.errors import UsageError

MIN_PX, MAX_PX = 64, 4096

Motions = Annotated[
    list[Path] | None,
    typer.Argument(metavar="MOTIONS|CLIP...", help="Manifests, folders or clips; - or nothing reads stdin."),
]
Reference = Annotated[
    list[Path] | None,
    typer.Option("--reference", metavar="MOTIONS", help="What stands on the left: one, or the same names."),
]
Make = Annotated[
    str, typer.Option("--make", metavar="KIND[,KIND...]", help="mp4, sheet, preview, plot, player, or all.")
]
Plot = Annotated[bool, typer.Option("--plot", help="Also the 25 channels over time.")]
Music = Annotated[Path | None, typer.Option("--music", metavar="FILE", help="Sound of every clip.")]
MusicOffset = Annotated[
    float,
    typer.Option("--music-offset", metavar="S", help="Music time of a clip's first frame.", callback=options.finite),
]
Beats = Annotated[
    str, typer.Option("--beats", metavar="auto|none|FILE", help="Beats: heard in the music, none, or annotated.")
]
Metrics = Annotated[
    Path | None, typer.Option("--metrics", metavar="FILE", help="Figures for the page, as evaluate writes them.")
]
View = Annotated[
    str, typer.Option("--view", metavar="front|side|three-quarter|top", help="Camera about the body's heading.")
]
Azimuth = Annotated[
    float | None,
    typer.Option("--azimuth", metavar="DEG", help="Instead of the view's, to the left.", callback=options.finite),
]
Elevation = Annotated[
    float | None,
    typer.Option("--elevation", min=-10, max=90, metavar="DEG", help="Instead of the view's.", callback=options.finite),
]
Follow = Annotated[bool, typer.Option("--follow", help="Keep the dancer in the middle.")]
Ortho = Annotated[bool, typer.Option("--ortho", help="Without perspective.")]
Size = Annotated[str, typer.Option("--size", metavar="N|WxH", help="Pixels of a panel, even numbers.")]
Fps = Annotated[
    float | None, typer.Option("--fps", min=1, max=240, metavar="HZ", help="Of the film (default: the clip's).")
]
SourceFps = Annotated[
    float | None, typer.Option("--source-fps", min=1, max=1000, metavar="HZ", help="Of files that do not say.")
]
Map = Annotated[Path | None, typer.Option("--map", metavar="FILE", help="Names of joints or channels, YAML or JSON.")]
Start = Annotated[
    float, typer.Option("--start", min=0, metavar="S", help="Where in the clip to begin.", callback=options.finite)
]
Seconds = Annotated[
    float | None, typer.Option("--seconds", min=0, metavar="S", help="How much of it.", callback=options.finite)
]
Engine = Annotated[str, typer.Option("--engine", metavar="auto|numba|numpy", help="What draws.")]


def kinds(text: str, plot: bool, known: tuple[str, ...]) -> tuple[str, ...]:
    """`mp4,sheet` as kinds. Raises UsageError naming one that does not exist."""
    asked = [k.strip() for k in text.split(",") if k.strip()]
    for k in asked:
        one_of("--make", k, (*known, "all"))
    if not asked and not plot:
        raise UsageError("--make names nothing", hint=f"of {', '.join(known)}, or all")
    return tuple(k for k in known if k in asked or "all" in asked or (plot and k == "plot"))


def one_of(option: str, value: str, known: Iterable[str]) -> None:
    """Raise UsageError when a value is none of those known."""
    if value not in known:
        raise UsageError(f"{option} {value!r} is none of {', '.join(known)}")


def pixels(text: str) -> tuple[int, int]:
    """`512` or `640x360` as width and height. Raises UsageError for odd, small or huge ones."""
    parts = text.lower().split("x")
    if not 1 <= len(parts) <= 2 or not all(p.isascii() and p.isdigit() and len(p) <= 5 for p in parts):
        raise UsageError(f"--size {text!r} is not N or WxH", hint="for example 512 or 640x360")
    width, height = int(parts[0]), int(parts[-1])
    if not all(MIN_PX <= p <= MAX_PX and p % 2 == 0 for p in (width, height)):
        raise UsageError(f"--size {text!r} needs even numbers in {MIN_PX}..{MAX_PX}")
    return width, height


def named(map: Path | None) -> dict[str, Any] | None:
    """The map of joints or channels in a file. Raises FormatError for a broken one."""
    if map is None:
        return None
    from choreo_cli.motion.retarget_inputs import load_map_file

    return load_map_file(map)


def annotated(beats: str) -> tuple[float, ...] | None:
    """Beats of a file, None for `auto` and `none`."""
    if beats in ("auto", "none"):
        return None
    from choreo_cli.metrics.beat_files import read_beats

    return tuple(read_beats(Path(beats)).tolist())
