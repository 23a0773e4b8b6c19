"""Options that the subcommands of `choreo capture` share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from choreo_cli import options

Source = Annotated[
    Path | None, typer.Argument(metavar="IN", help="A recording, a folder of them, or a manifest; - reads stdin.")
]
Fps = Annotated[
    float | None, typer.Option("--fps", help="Frames a second, where IN does not say it.", callback=options.finite)
]
Rate = Annotated[
    float, typer.Option("--fps", min=1, max=240, help="Frames a second of the result.", callback=options.finite)
]
Height = Annotated[
    float | None,
    typer.Option("--height", min=0.5, max=2.5, metavar="M", help="Stature of the body.", callback=options.finite),
]
LifterRun = Annotated[
    Path | None, typer.Option("--lifter", metavar="RUN", help="Network of `choreo train lifting`, for image points.")
]
