"""Which motions are meant: a file, a folder, a manifest, or one on stdin; for the commands that change motions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from choreo_cli import options, streams
from choreo_cli.errors import NoInputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from choreo_cli.motion.retarget_plan import Work

KINDS = ("choreo.motions", "choreo.inventory")


def work_of(
    source: Path | None, out: Path, root: list[str] | None, command: str,
    of_folder: Callable[[Path, Path], Work] | None = None,
) -> Work:  # fmt: skip
    """The motions of a call.

    Args:
        source: What was named; None or `-` is stdin.
        out: Where results go: a folder that holds both leaves it out.
        root: `--root` values.
        command: For the sentence about a manifest of another kind.
        of_folder: What a folder without a manifest is; every motion in it by default.

    Raises:
        NoInputError: nothing is there. What reading a manifest or planning the work raises.
    """
    from choreo_cli.motion import retarget_plan as plan
    from formats import manifest as m

    named = source if source is not None and str(source) != "-" else None
    if named is not None and not named.exists():
        raise NoInputError(f"no file or folder {named}")
    file = named
    if named is not None and named.is_dir():
        file = next((f for k in KINDS if (f := named / f"{k.partition('.')[2]}.json").is_file()), None)
        if file is None:
            return (of_folder or plan.of_folder)(named, out)
    if file is not None and file.is_file():  # a pipe that is named can only bring a manifest
        with open(file, "rb") as head:
            if m.peek(head.read(512)) is None:
                return plan.of_file(file)
    found = streams.read_manifest(file, command, KINDS)
    found.file = file if file is not None and file.is_file() else None
    return plan.of_manifest(found, options.root_overrides(root))
