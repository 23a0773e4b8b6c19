"""A recorded performance in its output folder: beside the earlier ones, never in their place."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from choreo_cli.live.journal import About
from choreo_cli.live.model import LiveModel
from choreo_cli.live.opening import offset_of
from choreo_cli.live.port import Port
from choreo_cli.live.recorder import EVENTS_FILE, Recorded, Recorder, other_figures, recover
from choreo_cli.live.sample import Source
from choreo_cli.live.show import Show
from choreo_cli.live.summary import Summary
from choreo_cli.runtime import provenance
from formats.errors import FormatError

if TYPE_CHECKING:
    from choreo_cli.live.events import Events


def params_of(show: Show, speed: float) -> dict[str, Any]:
    """What decides how a performance sounds, without paths and ports of this machine."""
    told = msgspec.to_builtins(show)
    kept = ("osc_style", "transport", "planner", "engine", "session")
    return {**{k: told[k] for k in kept}, "speed": speed}


def inputs_of(show: Show, model: LiveModel, sources: Sequence[Source]) -> list[dict[str, Any]]:
    """Provenance of models, map and played files: `{role, sha256, schema}`."""
    from formats.checkpoint import SCHEMA

    found = [
        {"role": "rps", "sha256": model.rps.sha256, "schema": SCHEMA},
        {"role": "mapper", "sha256": model.mapper.sha256, "schema": SCHEMA},
    ]
    if show.map:
        found.append({"role": "map", "sha256": _file_sha(Path(show.map)), "schema": "control_map"})
    for source in sources:
        sha = getattr(source, "sha256", "")
        if sha:
            found.append({"role": "source", "sha256": sha, "schema": "choreo.frames/1"})
    return found


def _file_sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Recording:
    """One performance being recorded into a folder that may hold earlier ones.

    Args:
        folder: The output folder, locked by the caller.
        show: What is played.
        speed: As in `Around`; 0 is virtual time, whose session is called `sim` and takes the place of the last one.

    Raises:
        FormatError: the folder holds a damaged `sessions.json`: it is not written over.
    """

    def __init__(self, folder: Path, show: Show, speed: float) -> None:
        self.folder, self.show, self.speed = folder, show, speed
        self.session_id = "sim" if speed == 0 else _name(folder)
        self._entries, self._files = earlier(folder)
        self.created_by: dict[str, Any] = {}
        self._recorder: Recorder | None = None

    def events(self, told: Events | None) -> Events:
        """The log in the recording; what it hears, `told` hears as well."""
        from choreo_cli.live.events import Events

        hear = None if told is None else lambda t_us, kind, facts: told.emit(kind, t_us, **facts)
        return Events(self.folder / self.session_id / EVENTS_FILE, hear, room=True)

    def begin(
        self, sources: Sequence[Source], model: LiveModel, events: Events, ports: Sequence[Port] = ()
    ) -> Recorder:
        """Start recording, and save what a killed performance left.

        Raises:
            CantCreateError, StorageError: it cannot be written. NoInputError, DataError: of the show's offset file.
        """
        offset = offset_of(self.show)
        params = params_of(self.show, self.speed)
        self.created_by |= provenance("run-live", params, inputs_of(self.show, model, sources))
        self.created_by["deterministic"] = self.speed == 0
        self._keep(*left_over(self.folder, self.created_by))
        names = " ".join(s.name for s in sources)
        synthetic = any(getattr(s, "synthetic", False) for s in sources)
        about = About(
            self.session_id, synthetic, self.speed == 0, names, receivers=[p.name for p in ports], offset=offset
        )  # fmt: skip
        self._recorder = Recorder(self.folder, about, events, lossless=self.speed == 0)
        return self._recorder

    def finish(self) -> Recorded:
        """Tables of this performance; entries and files of all that the folder holds. Raises StorageError."""
        assert self._recorder is not None
        made = self._recorder.finish(self.created_by)
        self._keep(made)
        entries = sorted(self._entries, key=lambda e: str(e["session_id"]))
        return Recorded(entries, dict(self._files), made.metrics)

    def _keep(self, *found: Recorded) -> None:
        for one in found:
            fresh = {e["session_id"] for e in one.entries}
            self._entries = [e for e in self._entries if e["session_id"] not in fresh] + one.entries
            self._files |= one.files


def _name(folder: Path) -> str:
    """A name that sorts by time: `live-20260314T201500Z`, with a number behind it when it is taken."""
    name = time.strftime("live-%Y%m%dT%H%M%SZ", time.gmtime())
    taken = sum(1 for p in folder.glob(f"{name}*") if p.is_dir()) if folder.is_dir() else 0
    return f"{name}-{taken + 1}" if taken else name


def earlier(folder: Path) -> tuple[list[dict[str, Any]], dict[str, tuple[str, str]]]:
    """Entries of the performances that a folder holds already, and (role, sha256) of their files.

    Raises:
        FormatError: a damaged `sessions.json` or `metrics.json`, or one of another command.
    """
    from formats.manifest import decode

    other_figures(folder, "")  # read now: at the end of a show it would be too late to refuse it

    file = folder / "sessions.json"
    if not file.is_file():
        return [], {}
    manifest = decode(file.read_bytes(), source=str(file), file=file)
    if manifest.created_by.get("command") != "run-live":
        raise FormatError("holds sessions of another command", file=file, hint="record into a folder of its own")
    outputs = manifest.created_by.get("outputs") or []
    return list(manifest.entries), {o["path"]: (o["role"], o["sha256"]) for o in outputs}


def left_over(folder: Path, created_by: dict[str, Any]) -> list[Recorded]:
    """What killed performances left in a folder, made into tables now."""
    return recover(folder, created_by) if folder.is_dir() else []


STRUDEL = "a Strudel pattern looks 200-300 ms ahead by design, on top of these figures"


def receivers_apart(summary: Summary) -> list[tuple[str, str]]:
    """What the receivers take, which is no part of the other figures: measured, confirmed, or not known."""
    told = []
    offset = summary.offset
    if offset:
        figures = f"p50 {offset['p50']:.1f} ms, p95 {offset['p95']:.1f}, max {offset['max']:.1f}, n {offset['n']}"
        told.append((f"receiver {offset['receiver']}", f"{figures}, measured apart by calibrate latency"))
    if any(name.startswith(("ws:", "midi:")) for name in summary.ports):
        told.append(("Strudel", STRUDEL))
    return told


def rows(summary: Summary) -> list[tuple[str, str]]:
    """How a performance went, for a person."""
    told = [
        ("ended", summary.reason),
        ("played", f"{(summary.last_us - summary.first_us) / 1e6:.1f} s, {summary.ticks} frames"),
        ("missed", f"{summary.missed} frames came too late"),
        ("held", f"{summary.held} frames repeat the last values"),
    ]
    for name, spread in summary.latency_ms.items():
        if spread.get("n") and spread["max"] > 0:  # virtual time takes none
            told.append((name, f"p50 {spread['p50']:.2f} ms, p95 {spread['p95']:.2f}, max {spread['max']:.2f}"))
    told += receivers_apart(summary)
    told += [
        (f"port {name}", f"{f.get('messages', 0)} messages, {f.get('state', '')}") for name, f in summary.ports.items()
    ]
    told += [(f"trouble in {where}", f"{n} times") for where, n in summary.troubles.items()]
    return told + [("not recorded", fault) for fault in summary.faults]
