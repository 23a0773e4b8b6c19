"""What `choreo generate` is not asked for: outputs that contradict each other, or that would replace what is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from choreo_cli.errors import UsageError
from choreo_cli.generate.generate_job import JOINS, LAYOUTS, SUFFIXES, named
from choreo_cli.generate.generate_run import Music
from choreo_cli.generate.keyframes import Keyframes


@dataclass(frozen=True, slots=True)
class Output:
    """Where dances go.

    Args:
        out: A folder; None for a stream.
        stream: `-`, a file or `osc:[HOST:]PORT`; None for a folder.
        to: Of `LAYOUTS`.
        clips: Dances to each music.
    """

    out: Path | None
    stream: str | None
    to: str
    clips: int

    @property
    def file(self) -> Path | None:
        """The file that a stream is written to, when it is one."""
        to = self.stream
        return None if to is None or to == "-" or to.startswith("osc:") else Path(to)


def check_output(asked: Output, join: str, overlap: int | None, music: Sequence[Path]) -> None:
    """Raise UsageError for outputs that cannot be, before anything is opened."""
    if asked.to not in LAYOUTS:
        raise UsageError(f"no layout {asked.to!r}", hint=f"choose from {', '.join(LAYOUTS)}")
    if join not in JOINS:
        raise UsageError(f"--join {join!r}", hint=f"choose from {', '.join(JOINS)}")
    if asked.stream is None:
        if asked.out is None:
            raise UsageError("missing option '-o' / '--out'", hint="or --stream sends the frames away")
        return
    if asked.out is not None:
        raise UsageError("--stream keeps nothing", hint="leave out -o, or --stream: the same seed is danced again")
    if overlap is not None:
        raise UsageError("--stream goes on after each window: none overlap", hint="leave --overlap out")
    if asked.to != "npz":
        raise UsageError(f"--stream sends frames, no {asked.to}", hint="leave --to out, or write the dance with -o")
    if asked.clips > 1 or len(music) > 1:
        raise UsageError("--stream sends one dance", hint="name one music")


def check_stream(keys: Keyframes | None) -> None:
    """Raise UsageError for places of the root: a frame that was sent cannot be led anywhere."""
    if keys is not None and keys.places:
        raise UsageError("--stream leads no root to a place", hint="write the dance with -o, or leave the places out")


def at_stake(asked: Output, read: Sequence[Path], model: Path, music: Music) -> tuple[list[Path], Path, str, list[str]]:
    """What is read, and the folder, kind and names of what is written: as `outputs.spare_inputs` takes them.

    Args:
        asked: Where dances go.
        read: Music and keyframes.
        model: A run, a checkpoint or an export.
        music: What is danced to; the dances are named after it.

    Raises:
        UsageError: the folder is the model's own.
    """
    own = [p for p in model.iterdir() if p.is_file()] if model.is_dir() else [model]
    if asked.file is not None:
        return [*read, *own], asked.file.parent, "motions", [asked.file.name]
    if asked.out is None:
        return [], Path(), "motions", []
    if asked.out.resolve() in {p.resolve().parent for p in own}:
        raise UsageError(f"-o {asked.out} holds the model", hint="name another folder")
    names = [name + end for _, _, name in named(music.heard, asked.clips) for end in SUFFIXES[asked.to]]
    return list(read), asked.out, "motions", names
