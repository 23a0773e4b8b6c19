"""What an evaluation reads: trained runs, the frames they were trained on, and the controls they made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from choreo_cli.dataset.frameset import FrameSet, read_frames
from choreo_cli.errors import DataError, NoInputError, UsageError
from choreo_cli.metrics.tracks import SUFFIX, Control, read_controls
from formats.columns import CONTROLS, PREFERENCES
from formats.errors import FormatError

if TYPE_CHECKING:
    from formats.manifest import Manifest

HELD_OUT = ("val", "test")
RECORDED = "sessions.json"


@dataclass(frozen=True, slots=True)
class Run:
    """One trained model.

    Args:
        entry: Its entry of `choreo.run/1`.
        folder: Its run folder.
        manifest: The manifest it stands in.
        roots: `--root` overrides.
    """

    entry: Mapping[str, Any]
    folder: Path
    manifest: Manifest
    roots: Mapping[str, str]

    @property
    def about(self) -> dict[str, Any]:
        """Which run an entry of the result is about."""
        return {"run": self.entry["id"], "recipe": self.entry["recipe"], "seed": self.entry["seed"]}

    @property
    def source(self) -> dict[str, Any]:
        """Provenance of the run, `{role, sha256, schema}`."""
        return {"role": self.entry["recipe"], "sha256": self.manifest.sha256, "schema": self.manifest.schema}


def read_run(path: Path, kinds: Sequence[str] = ("choreo.run",)) -> Manifest:
    """The `choreo.run/1` of a run folder, or of the file itself.

    Args:
        path: Folder or file.
        kinds: `choreo.run`, and `choreo.sessions` where a recorded performance will do.

    Raises:
        NoInputError: nothing there, or a folder without `run.json`.
        FormatError: damaged, or another kind.
    """
    from formats.manifest import decode

    file = path / "run.json" if path.is_dir() else path
    if "choreo.sessions" in kinds and path.is_dir() and not file.is_file() and (path / RECORDED).is_file():
        file = path / RECORDED
    if not file.is_file():
        hint = "need a finished run folder of choreo train" if path.is_dir() else "need a run of choreo train"
        raise NoInputError(f"no {file.name} in {path}" if path.is_dir() else f"no file {path}", hint=hint)
    manifest = decode(file.read_bytes(), source=str(file), file=file)
    if manifest.kind not in kinds:
        raise FormatError(f"the file holds {manifest.schema}, need choreo.run/1", file=file)
    return manifest


def recorded_in(manifest: Manifest, roots: Mapping[str, str]) -> Path:
    """Folder of recorded performances. Raises NoInputError, FormatError: it holds no controls of theirs."""
    own = next((r.id for r in manifest.roots if r.self), "")
    folder = _root(manifest, own, roots)
    if not any(folder.glob(f"*{SUFFIX}")):
        hint = "need a recording of choreo run-live -o, or a run of choreo train mapper"
        raise FormatError("sessions without controls", file=folder / RECORDED, hint=hint)
    return folder


def runs_of(manifest: Manifest, roots: Mapping[str, str]) -> list[Run]:
    """The finished runs of a manifest, in its order.

    Raises:
        NoInputError: a run folder is not there.
        FormatError: the manifest is empty, or does not say where it lies.
    """
    from formats.manifest import safe_join

    own = next((r.id for r in manifest.roots if r.self), None)
    if not manifest.entries or own is None:
        raise FormatError("no run in it", file=str(manifest.file or "stdin"), hint="run choreo train again")
    top = _root(manifest, own, roots)
    found = []
    for e in manifest.entries:
        folder = top if e["path"] == "." else safe_join(top, e["path"])
        if not folder.is_dir():
            raise NoInputError(f"no run folder {folder}", hint=f"say where it lies: --root {own}=DIR")
        found.append(Run(e, folder, manifest, roots))
    return found


def _root(manifest: Manifest, name: str, roots: Mapping[str, str]) -> Path:
    from formats.manifest import resolve_roots

    known = {r.id for r in manifest.roots}
    if name not in known and name not in roots:
        raise NoInputError(f"the run does not say where its root {name} lies", hint=f"give --root {name}=DIR")
    if name in roots:
        folder = Path(roots[name])
    else:
        folder = resolve_roots(manifest, {k: v for k, v in roots.items() if k in known})[name]
    if not folder.is_dir():
        raise NoInputError(f"no folder {folder}", hint=f"say where it lies: --root {name}=DIR")
    return folder


def frames_of(run: Run) -> FrameSet:
    """The frames a run names in its `data` record, with the splits it was trained with.

    Raises:
        NoInputError: they are not there; the message names `--root data=DIR`.
        FormatError: they are not the frames the run was trained on.
    """
    file, record = _data_file(run)
    frames = read_frames(file)
    if frames.source["sha256"] != record["sha256"]:
        raise FormatError(
            "not the frames that the run was trained on", file=file, hint=f"give --root {record['root']}=DIR"
        )
    split_of = {s: k for k, names in (record.get("sessions") or {}).items() for s in names}
    kept = tuple(replace(s, split=split_of.get(s.session_id, "none")) for s in frames.sessions)
    return replace(frames, sessions=kept, notes=("the splits are those of the run",))


def data_of(run: Run) -> tuple[FrameSet | Path, dict[str, Any]]:
    """What a run's own lane judges it on, and its provenance: its frames, or its file of answers.

    Raises:
        NoInputError, FormatError: see `frames_of`.
    """
    from formats.atomic import sha256_file

    file, record = _data_file(run)
    if record.get("schema") != PREFERENCES.schema:
        frames = frames_of(run)
        return frames, frames.source
    if sha256_file(file) != record["sha256"]:
        raise FormatError(
            "not the answers that the run was trained on", file=file, hint=f"give --root {record['root']}=DIR"
        )
    return file, {"role": "preferences", "sha256": record["sha256"], "schema": PREFERENCES.schema}


def _data_file(run: Run) -> tuple[Path, dict[str, Any]]:
    from formats.manifest import safe_join

    record = run.entry["data"] if isinstance(run.entry["data"], dict) else {}
    if not all(isinstance(record.get(k), str) for k in ("root", "path", "sha256")):
        raise FormatError("the run does not say what it was trained on", file=run.folder / "run.json", field="data")
    name = record["root"]
    top = _root(run.manifest, name, run.roots)
    file = top if record["path"] == "." else safe_join(top, record["path"])
    if not file.exists():
        raise NoInputError(f"nothing at {file}", hint=f"say where the data lies: --root {name}=DIR")
    return file, record


def all_held_out(frames: FrameSet) -> FrameSet:
    """Every session in `test`: a corpus that no model of the evaluation was trained on."""
    return replace(frames, sessions=tuple(replace(s, split="test") for s in frames.sessions), leaks=())


def controls_of_run(run: Run) -> tuple[list[Control], list[dict[str, Any]]]:
    """Controls of the held-out sessions that a mapper run wrote, and their provenance; none where none was held out.

    Raises:
        UsageError: a run of another recipe.
        NoInputError: no controls in the run folder.
        FormatError: a table that is not the one the run wrote.
    """
    from formats.atomic import sha256_file

    if run.entry["recipe"] != "mapper":
        raise UsageError(f"a run of {run.entry['recipe']} has no controls", hint="give a run of choreo train mapper")
    stated = run.entry["files"] if isinstance(run.entry["files"], dict) else {}
    names = sorted(n for n in stated if n.startswith("controls/") and n.endswith(SUFFIX))
    files = [run.folder / n for n in names]
    if not files:
        if _nothing_held_out(run):
            return [], []
        raise NoInputError(f"no controls in {run.folder / 'controls'}", hint="hold out a session and train again")
    for name, file in zip(names, files, strict=True):
        if not file.is_file():
            raise NoInputError(f"no file {file}", hint="the run names it: train again")
        if sha256_file(file) != stated[name]:
            raise FormatError("not the controls that the run wrote: damaged or changed", file=file)
    return read_controls(files), [_provenance(stated[n]) for n in names]


def _nothing_held_out(run: Run) -> bool:
    """Whether the run says which sessions it used, and none of them was kept from training."""
    sessions = run.entry["data"].get("sessions") if isinstance(run.entry["data"], dict) else None
    return isinstance(sessions, dict) and not any(sessions.get(split) for split in HELD_OUT)


def held_out_controls(controls: Sequence[Control], frames: FrameSet) -> list[Control]:
    """Those of sessions that the run was not trained on. Raises DataError when none is left."""
    split = {s.session_id: s.split for s in frames.sessions}
    kept = [c for c in controls if split.get(c.session_id, "test") in HELD_OUT]
    if controls and not kept:
        raise DataError("every session with controls was trained on", hint="train with --split loso")
    return kept


def controls_at(path: Path) -> tuple[list[Control], list[dict[str, Any]]]:
    """Controls of a table, or of every `*_controls.parquet` in a folder, and their provenance.

    Raises:
        NoInputError: nothing there.
        FormatError: damaged, or of another kind.
    """
    from formats.atomic import sha256_file

    files = sorted(path.glob(f"*{SUFFIX}")) if path.is_dir() else [path]
    if not files or not files[0].exists():
        what = f"no *{SUFFIX} in {path}" if path.is_dir() else f"no file {path}"
        raise NoInputError(what, hint="need controls of choreo train mapper or of a recorded performance")
    return read_controls(files), [_provenance(sha256_file(f)) for f in files]


def _provenance(sha256: str) -> dict[str, Any]:
    return {"role": "controls", "sha256": sha256, "schema": CONTROLS.schema}
