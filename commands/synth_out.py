"""What the commands of `choreo synth` share: lists of numbers, and a folder that is made, filled and told about."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from choreo_cli.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from choreo_cli.progress import Progress

Made = tuple[list[dict[str, Any]], Iterable[tuple[str, str, str]]]
"""The entries of a manifest, and (role, name, sha256) of every file."""


def numbers(option: str, text: str) -> tuple[float, ...]:
    """`92,120` as numbers. Raises UsageError naming the option."""
    try:
        return tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise UsageError(f"{option} {text!r} is not a list of numbers", hint="separate them by commas") from None


def write(
    kind: str, make: Callable[[dict[str, Any], Progress], Made], params: dict[str, Any], seed: int, out: Path, *,
    force: bool, wait: float, quiet: bool, log: Path | None,
) -> tuple[bytes, str]:  # fmt: skip
    """Fill a folder, unless equal work lies there.

    Args:
        kind: Of the manifest, and the word after `choreo synth`.
        make: Writes the files; it is given what they were created by, and the progress to tell.
        params: What decides the result beside the seed.
        seed: What is drawn begins with it.
        out: The folder.
        force: Make it again.
        wait: Seconds to wait for another run in the folder.
        quiet: Nothing on stderr.
        log: JSON Lines file of the progress.

    Returns:
        The manifest, and where it is kept.

    Raises:
        CantCreateError: the folder cannot be made, or is a file.
        formats.atomic.Locked: another run holds it.
    """
    from choreo_cli.outputs import output_folder
    from choreo_cli.progress import Progress
    from choreo_cli.runtime import provenance

    command = f"synth {kind}"
    made_by = provenance(command, params, [], seed=seed)
    with (
        output_folder(out, kind, made_by, wait_s=wait) as folder,
        Progress(command, quiet=quiet, log=log) as bar,
    ):
        before = folder.begin(force)
        if before is not None:
            return before, folder.already
        entries, files = make(made_by, bar)
        for role, name, sha in files:
            folder.add(role, name, sha)
        return folder.finish(entries, ExitCode.OK, sys.argv[1:]), f"kept in {out}; see {folder.manifest_path}"
