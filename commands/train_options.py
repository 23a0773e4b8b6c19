"""Options of the commands that train."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Recipe = Annotated[str, typer.Argument(metavar="RECIPE", help="rps, mapper, video, lifting, flow, ddim...")]
Input = Annotated[
    Path | None, typer.Argument(metavar="INPUT", help="Manifest, folder, pack or Parquet; - or nothing reads stdin.")
]
Out = Annotated[Path | None, typer.Option("-o", "--out", metavar="DIR", help="Run folder to write into.")]
Epochs = Annotated[int | None, typer.Option("--epochs", min=1, help="Short for --set epochs=N.")]
Seeds = Annotated[str, typer.Option("--seeds", metavar="N[,N...]", help="A run folder seed-N each, and a summary.")]
Only = Annotated[int | None, typer.Option("--only", metavar="N", help="Of --seeds, train this one alone.")]
Resume = Annotated[str, typer.Option("--resume", metavar="auto|no", help="Go on with a run that was stopped.")]
Overfit = Annotated[int, typer.Option("--overfit", min=0, metavar="N", help="Train on N items only: a test.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, from a few real steps.")]
Pairs = Annotated[Path | None, typer.Option("--pairs", metavar="FILE", help="CSV points,joints,group: lift by it.")]
Targets = Annotated[Path | None, typer.Option("--targets", metavar="FILE", help="Recorded controls to learn.")]
Mode = Annotated[str | None, typer.Option("--mode", metavar="window|stream", help="How the mapper will be run.")]
Form = Annotated[str | None, typer.Option("--form", metavar="hidden|literal", help="Which form of the loss.")]
Latents = Annotated[Path | None, typer.Option("--latents", metavar="DIR", help="Latents of every session go there.")]
Controls = Annotated[Path | None, typer.Option("--controls", metavar="DIR", help="Controls of every session go there.")]
Sync = Annotated[str, typer.Option("--sync", metavar="DEST", help="Copy to a folder or host:path at checkpoints.")]
Branch = Annotated[
    list[Path] | None,
    typer.Option("--branch", metavar="FILE", help="Of video: train this branch; several run at one time."),
]
PerDevice = Annotated[
    int,
    typer.Option(
        "--per-device", min=0, max=64, metavar="K", help="Of --branch: runs at one time on each; 0: 1, CPU: cores."
    ),
]
TensorBoard = Annotated[bool, typer.Option("--tensorboard", help="Event files in the run folder.")]
Wandb = Annotated[bool, typer.Option("--wandb", help="Weights & Biases in the run folder, offline.")]
