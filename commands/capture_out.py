"""What the commands of `choreo capture` share: their inputs, their output folder, their table."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from choreo_cli import streams
from choreo_cli.errors import ExitCode, NoInputError, UsageError
from commands.motion_input import work_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from choreo_cli.motion.capture_job import Change
    from choreo_cli.motion.capture_log import CaptureHead
    from choreo_cli.motion.capture_stream import StepLifter
    from choreo_cli.motion.retarget_plan import Item, Work


@dataclass(frozen=True, slots=True)
class Job:
    """One run of a subcommand over its inputs."""

    name: str
    asked: dict[str, Any]
    change: Change
    out: Path
    force: bool
    wait: float
    keep_going: bool
    seed: int | None = None

    def run(self, work: Work, *, json: bool, table: bool, quiet: bool) -> int:
        """Make the clips and the manifest, and tell of them; the exit code."""
        from choreo_cli.motion.capture_job import run
        from choreo_cli.outputs import output_folder, spare_inputs
        from choreo_cli.progress import Progress
        from choreo_cli.runtime import provenance

        spare_inputs((i.path for i in work.items), self.out, "motions", (f"{i.name}.npz" for i in work.items))
        made_by = provenance(f"capture {self.name}", self.asked, work.inputs, seed=self.seed)
        keep = f"kept in {self.out}"
        with (
            output_folder(self.out, "motions", made_by, wait_s=self.wait) as folder,
            Progress(f"capture {self.name}", quiet=quiet) as bar,
        ):
            before = None if self.force else folder.done_before()
            if before is not None:
                doc, code, keep = before, folder.exit_before(), folder.already
            else:
                entries, left = run(work, self.change, folder, progress=bar, starting=folder.invalidate)
                for name, why in left:
                    bar.note(f"left out {name}: {why}")
                code = int(streams.partial(len(left), 0, False))
                doc = folder.finish(entries, code, sys.argv[1:], work.roots)
        emit(doc, keep, json=json, table=table)
        return ExitCode.OK if self.keep_going and code == ExitCode.PARTIAL else code


def emit(document: bytes, keep: str, *, json: bool, table: bool) -> None:
    """The manifest to the next program, or a table to a person."""
    streams.emit(document, partial(clips_table, document), out=None, json=json, as_table=table, keep=keep)


def work(source: Path | None, out: Path, root: list[str] | None, name: str) -> Work:
    """The motions that are meant; of `lift` a folder is one recording."""
    return work_of(source, out, root, f"capture {name}", recordings if name == "lift" else None)


def recordings(path: Path, out: Path) -> Work:
    """One recording: a file, or a folder that is one recording (OpenPose)."""
    from choreo_cli.motion.retarget_plan import Item, Work, of_file

    if path.is_file():
        return of_file(path)
    item = Item(path, path.name, path.name)
    inputs = [{"role": "motions", "sha256": folder_sha(path), "schema": "pose"}]
    return Work([item], inputs, {"source": path.parent}, True)


def folder_sha(folder: Path) -> str:
    """Digest of the names and contents of a folder's own files."""
    import hashlib

    from formats.atomic import sha256_file

    digest = hashlib.sha256()
    for file in sorted(p for p in folder.iterdir() if p.is_file()):
        digest.update(f"{file.name} {sha256_file(file)}\n".encode())
    return digest.hexdigest()


def sha_of(path: Path | None) -> str | None:
    """Digest of a file, or of a folder's files. Raises NoInputError when there is nothing of that name."""
    from formats.atomic import sha256_file

    if path is None:
        return None
    if not path.exists():
        raise NoInputError(f"no file or folder {path}")
    return folder_sha(path) if path.is_dir() else sha256_file(path)


def lifters(head: CaptureHead, run: Path | None, height: float | None) -> dict[str, StepLifter]:
    """A lifter for each stream of image points. Raises UsageError when there is one and no network is named."""
    found: dict[str, StepLifter] = {}
    for info in head.streams.values():
        if info.kind != "points":
            continue
        if run is None:
            raise UsageError(
                f"stream {info.name} gives image points: needs --lifter RUN", hint="see choreo train lifting"
            )
        from choreo_cli.motion.lifting import Lifter

        found[info.name] = Lifter.open(run, height_m=height or head.height_m or 1.70)
    return found


def beats_of(work: Work, music: Path | None, beats: Path | None) -> Callable[[Item], Any]:
    """Beats of the music of each motion: the file named, else the music that its manifest names."""
    from choreo_cli.errors import DataError
    from choreo_cli.metrics.beat_files import read_beats
    from choreo_cli.motion.video_inputs import beats_of as heard
    from choreo_cli.motion.video_inputs import load_sound
    from formats.manifest import safe_join

    known: dict[Path, Any] = {}

    def sound(path: Path) -> Any:
        if path not in known:
            found = heard(load_sound(path, 0.0, 3600.0))
            if not len(found):
                raise DataError(f"no beats are heard in {path}", hint="give them with --beats FILE")
            known[path] = found
        return known[path]

    def of(item: Item) -> Any:
        if beats is not None:
            return read_beats(beats)
        if music is not None:
            return sound(music)
        named = item.carried.get("music")
        if not named:
            raise DataError(f"{item.source} names no music", hint="give --music FILE or --beats FILE")
        for folder in work.roots.values():
            path = safe_join(folder, named)
            if path.is_file():
                return sound(path)
        raise NoInputError(f"no music {named}", hint="give --music FILE")

    return of


def clips_table(document: bytes) -> list[str]:
    """The clips for a person: what slides, how it jerks, or how it meets the beat."""
    from formats.manifest import decode

    header = ("clip", "frames", "fps", "ankle mm/s", "jerk p99", "beat before", "after", "flags")
    rows = []
    for e in decode(document).entries:
        after, beat = e["report"].get("after", {}), e["report"].get("alignment", {})
        rows.append((
            e["path"], str(e["n_frames"]), f"{e['fps']:g}", _number(after.get("ankle_slide_mm_s")),
            _number(after.get("jerk_p99")), _number(beat.get("before")), _number(beat.get("after")),
            ", ".join(e["flags"]) or "-",
        ))  # fmt: skip
    return streams.columns(rows, header)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
