"""Option types that commands share, so that one name means one thing everywhere."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer


def finite(value: float | None) -> float | None:
    """An option's number as it is. Raises typer.BadParameter for NaN and infinity, which pass every `min`."""
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is not a finite number")
    return value


OutFile = Annotated[
    Path | None, typer.Option("-o", "--out", metavar="FILE", help="Write the manifest here (default: stdout).")
]
OutDir = Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="Folder to write into.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of every random draw.")]
Jobs = Annotated[int, typer.Option("--jobs", "-j", min=0, help="Worker processes; 0 takes one per core.")]
Json = Annotated[bool, typer.Option("--json", help="JSON on stdout even on a terminal.")]
TableOut = Annotated[bool, typer.Option("--table", help="A table on stdout even in a pipe.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="No progress, no remarks; errors still show.")]
Force = Annotated[bool, typer.Option("--force", help="Do the work again although an equal result exists.")]
Wait = Annotated[
    float,
    typer.Option("--wait", min=0, metavar="SECONDS", help="Wait this long for a locked output.", callback=finite),
]
KeepGoing = Annotated[bool, typer.Option("--keep-going", help="Exit 0 although some inputs were skipped.")]
LogJson = Annotated[Path | None, typer.Option("--log-json", metavar="FILE", help="Append progress as JSON Lines.")]
Roots = Annotated[
    list[str] | None,
    typer.Option("--root", metavar="ID=DIR", help="Where a root of the manifest lies now; repeatable."),
]
Device = Annotated[str, typer.Option("--device", metavar="auto|cpu|cuda|mps", help="Where to compute.")]
Sets = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="One setting of the recipe; repeatable.")
]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="Settings as YAML or TOML; --set wins.")
]
Split = Annotated[
    str | None, typer.Option("--split", metavar="auto|keep|hash|loso", help="Which sessions are held out.")
]
Fold = Annotated[int | None, typer.Option("--fold", min=0, help="Of --split loso: which group is the test.")]
RpsRun = Annotated[Path | None, typer.Option("--rps", metavar="RUN", help="Trained rps to build on.")]


def app() -> typer.Typer:
    """The parser a command module declares itself on."""
    from choreo_cli.app import CONTEXT

    return typer.Typer(add_completion=False, rich_markup_mode=None, context_settings=CONTEXT)


def root_overrides(values: list[str] | None) -> dict[str, str]:
    """`--root r0=/mnt/x` values as a mapping. Raises UsageError when one has no `=`."""
    from choreo_cli.errors import UsageError

    found = {}
    for value in values or []:
        name, eq, path = value.partition("=")
        if not (eq and name and path):
            raise UsageError(f"--root {value!r} is not ID=DIR")
        found[name] = path
    return found
