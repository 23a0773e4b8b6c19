"""All dances of a call, drawn first and written after: what cannot be made leaves nothing behind."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from choreo_cli.errors import ChoreoError, UnavailableError
from choreo_cli.generate.generate_job import How, cfg_record, dance, entry_and_files, music_root, named
from choreo_cli.generate.heard import Heard, hear
from choreo_cli.generate.sampling import Sampler
from choreo_cli.motion.retarget_plan import Folder
from formats.errors import FormatError

LEFT_OUT = "left_out.jsonl"
MOVED_MM, LOWERED_MM = 100.0, 50.0  # what a lock may do to a dance without a word


@dataclass(frozen=True, slots=True)
class Music:
    """What is danced to.

    Args:
        heard: In the order they were named.
        left_out: (file, why) of what could not be read.
    """

    heard: list[Heard]
    left_out: list[tuple[str, str]] = field(default_factory=list)

    def root(self) -> Path | None:
        """The folder that all of it lies under."""
        return music_root([h.path for h in self.heard if h.path is not None])


def hear_all(paths: Sequence[Path], sampler: Sampler, seconds: float | None) -> Music:
    """Music of a call; of several files one that cannot be read is listed.

    Raises:
        ChoreoError, FormatError: the only file cannot be read, or the first of several when none can.
    """
    music = Music([])
    first: Exception | None = None
    for path in paths:
        try:
            music.heard.append(hear(path, sampler, seconds))
        except UnavailableError:
            raise
        except (ChoreoError, FormatError) as error:
            first = first or error
            music.left_out.append((path.name, " ".join(str(error).split())[:300]))
    if first is not None and not music.heard:
        raise first
    return music


def run(
    sampler: Sampler, music: Music, how: How, folder: Folder, *, clips: int = 1, to: str = "npz",
    progress: Callable[..., None] = lambda *_: None, starting: Callable[[], None] = lambda: None,
) -> list[dict[str, Any]]:  # fmt: skip
    """Draw every dance and write the files; the manifest is the caller's.

    Args:
        sampler: The model.
        music: What is danced to.
        how: How.
        folder: Where to.
        clips: Dances of each music.
        to: Of `generate_job.LAYOUTS`.
        progress: `progress(done, total, item)`.
        starting: Called before the first file is written, when every dance is drawn.

    Returns:
        Entries of `choreo.motions/1`, in the order of their paths.

    Raises:
        DataError: what `generate_job.dance` raises, or a dance too short for the layout.
        UnavailableError: mp4 without its extra.
    """
    if to == "mp4":
        from choreo_cli.motion.video_mp4 import need_av

        need_av()
    made_by = {k: v for k, v in folder.created_by.items() if k != "outputs"}
    root, work, done = music.root(), named(music.heard, clips), []
    for number, (heard, k, name) in enumerate(work):
        made = dance(sampler, heard, how, k, name)
        song = None if heard.path is None or root is None else heard.path.resolve().relative_to(root).as_posix()
        done.append((heard, *entry_and_files(made, to, sampler, how, k, made_by, song)))
        progress(number + 1, len(work), name)
    starting()
    entries = [_written(entry, files, folder) for _, entry, files in done]
    if to == "mp4":
        for (heard, *_), entry in zip(done, entries, strict=True):
            _film(folder, entry, heard.path)
    if music.left_out:
        import json

        lines = (json.dumps({"source": s, "why": w}, ensure_ascii=False) + "\n" for s, w in music.left_out)
        folder.write("report", LEFT_OUT, "".join(lines).encode())
    return sorted(entries, key=lambda e: str(e["path"]))


def _written(entry: dict[str, Any], files: list[tuple[str, bytes]], folder: Folder) -> dict[str, Any]:
    import hashlib

    from formats.media import MOTION

    for k, (name, data) in enumerate(files):
        folder.write("motion" if k == 0 else "sidecar", name, data)
    whole = {**entry, "path": files[0][0], "sha256": hashlib.sha256(files[0][1]).hexdigest()}
    return {c.name: whole[c.name] for c in MOTION.columns}


def _film(folder: Folder, entry: Mapping[str, Any], music: Path | None) -> None:
    """The dance as a film with its music, beside the clip; features make no sound."""
    from choreo_cli.audio.dance_archive import SUFFIXES
    from choreo_cli.motion.video import Options, Task, render
    from choreo_cli.motion.video_inputs import Item

    path = folder.path / entry["path"]
    heard = None if music is None or music.suffix.lower() in SUFFIXES else music
    item = Item(path, entry["path"], path.stem, entry["sha256"], folder.path, music=heard)
    for kind, name, sha in render(Task(item, None, folder.path, Options(make=("mp4",)))).files:
        folder.add(kind, name, sha)


def record(
    sampler: Sampler, music: Music, how: How, schema: str = "choreo.checkpoint/1"
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Parameters and inputs for provenance; `schema` is that of the model's card."""
    keys = how.keys
    inputs = [{"role": "model", "sha256": sampler.identity, "schema": schema}]
    inputs += [{"role": "music", "sha256": h.sha256, "schema": "music"} for h in music.heard if h.sha256]
    if keys is not None:
        inputs.append({"role": "keyframes", "sha256": keys.sha256, "schema": "keyframes"})
    params = {
        "task": how.task, "steps": how.steps or sampler.steps, "solver": how.solver or sampler.defaults.solver,
        "cfg": cfg_record(how.cfg or sampler.cfg), "join": how.join, "overlap": how.overlap, "lock": how.lock,
        "at": None if keys is None else list(keys.rows),
        "places": None if keys is None else [p.frame for p in keys.places], "left_out": len(music.left_out),
    }  # fmt: skip
    return params, inputs


def remarks(entries: list[dict[str, Any]]) -> list[str]:
    """What a person should know of the dances."""
    found: list[str] = []
    for e in entries:
        r = e["report"]
        found += [n for n in r["assumptions"] if n not in found]
        if "root_led_to" in r:
            found.append(f"{e['path']}: the root was led to its places at frames {r['root_led_to']}")
        if "root_away" in r and r["root_away"]["metres"] > 0.01:
            away = r["root_away"]
            found.append(
                f"{e['path']}: at frame {away['frame']} the root is {away['metres']:.2f} m from where the clip has it; "
                "--places leads it there"
            )
        lock = r.get("lock", {})
        moved, lowered = lock.get("moved_mm", 0.0), lock.get("lowered_mm", 0.0)
        if moved > MOVED_MM or lowered > LOWERED_MM:
            down = f" and the pelvis lowered by up to {lowered:.0f} mm" if lowered > 1 else ""
            found.append(
                f"{e['path']}: to hold standing feet an ankle was moved by up to {moved:.0f} mm{down}; "
                "--no-lock leaves them as they were drawn"
            )
    return found


HEADER = ("dance", "seconds", "fps", "music", "task", "steps", "clamped", "slide mm/s", "after lock")


def table(document: bytes) -> list[tuple[str, ...]]:
    """Rows of `HEADER`."""
    from formats.manifest import decode

    rows: list[tuple[str, ...]] = []
    for e in decode(document).entries:
        r = e["report"]
        slide = r.get("slide_mm_s", {})
        rows.append((
            e["path"], f"{e['duration_us'] / 1e6:.2f}", f"{e['fps']:g}", e["music"] or "-", r["task"],
            f"{r['steps']} {r['solver']}", f"{100 * r['clamp_rate']:.2f} %", _number(slide.get("before")),
            _number(slide.get("after")),
        ))  # fmt: skip
    return rows


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
