"""Open strangers' files through their readers: poses, series, beats, sound, features, playlists, sessions."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from choreo_cli.report.content import Content, How, Signal, open_content, texts
from formats.errors import FormatError
from formats.foreign.model import Beats, Facts, PlaylistItem, PoseStream, Series, SessionMeta
from formats.foreign.registry import Reader, options_of
from formats.foreign.source import Source

_OUTPUTS = ("pairs", "sessions", "run", "motions", "videos", "metrics", "inventory")
_REPORT = "report.json"


def foreign(source: Source, reader: Reader, how: How) -> Content:
    """Open a file with its reader; one that cannot be used still shows its facts and its reason."""
    facts = reader.facts(source)
    if reader.read is None or facts.reason is not None:
        found = Content(source.path, "document", facts.format, facts.n or 0, [], body=_facts_record(facts))
        found.facts = _facts_record(facts)
        if facts.reason is not None:
            (found.notes if reader.read is None else found.problems).append(facts.reason)
        return found
    options: dict[str, Any] = {"fps": how.fps} if how.fps is not None and reader.kind in ("pose", "motion") else {}
    if reader.format == "brace-beats":
        if how.part is None:
            found = Content(source.path, "document", facts.format, facts.n or 0, [], body=_facts_record(facts))
            found.facts = _facts_record(facts)
            return found
        options["sequence"] = how.part
    elif how.part is not None and "part" in options_of(reader):
        options["part"] = how.part
    if reader.kind == "audio":
        return _audio(source, facts)
    found = of_object(source.path, facts.format, reader.read(source, **options))
    found.facts = {**_facts_record(facts), **found.facts}
    found.notes += [p for p in facts.problems if p not in found.notes]
    return found


def mapped(source: Source, mapping: dict[str, Any]) -> Content:
    """Open poses through a map of one's own keys."""
    from formats.foreign.mapping import read_with_map

    return of_object(source.path, "mapped", read_with_map(source, mapping))


def folder(path: Path, how: How) -> Content:
    """Open a folder: the manifest of an output folder, the report in it, or one JSON per video frame.

    Raises:
        FormatError: neither.
    """
    from choreo_cli.report import content_tables
    from formats.foreign.openpose import FORMAT, group_folder, read_folder

    for kind in _OUTPUTS:
        if (path / f"{kind}.json").is_file():
            return content_tables.manifest(path / f"{kind}.json")
    if (path / _REPORT).is_file():
        return open_content(path / _REPORT, how)
    names = sorted(p.name for p in path.iterdir() if p.suffix == ".json")
    if not group_folder(names):
        raise FormatError("a folder without a manifest of ours", file=path, hint="name a file, or use choreo discover")
    return of_object(path, FORMAT, read_folder([path / n for n in names], how.fps))


def of_object(path: Path, format_name: str, body: object) -> Content:
    """The content of what a reader returned."""
    if isinstance(body, PoseStream):
        return poses(path, format_name, body)
    if isinstance(body, Series):
        return _series(path, format_name, body)
    if isinstance(body, Beats):
        return _beats(path, format_name, body)
    if isinstance(body, SessionMeta):
        record = asdict(body)
        return Content(path, "document", format_name, 1, [], facts=record, body=record)
    if isinstance(body, np.ndarray):
        return _video_times(path, format_name, body)
    if isinstance(body, list) and all(isinstance(i, PlaylistItem) for i in body):
        return _playlist(path, format_name, body)
    return _features(path, format_name, body)


def _facts_record(facts: Facts) -> dict[str, Any]:
    clock = facts.clock
    found: dict[str, Any] = {"kind": facts.kind, "samples": facts.n}
    if facts.rate is not None:
        found["rate"] = f"{facts.rate[0] / facts.rate[1]:.6g} Hz"
    if facts.duration_us is not None:
        found["duration"] = f"{facts.duration_us / 1e6:.3f} s"
    found["channels"] = facts.channels
    if clock.source != "none":
        naive = ", local time without a zone" if clock.naive else ""
        found["clock"] = f"{clock.t0_utc_us} us UTC from {clock.source}, +-{(clock.sigma_us or 0) / 1e6:g} s{naive}"
    found |= {k: v for k, v in facts.meta.items() if k != "problem_codes"}
    return {k: v for k, v in found.items() if v is not None and v != []}


def poses(path: Path, format_name: str, s: PoseStream) -> Content:
    """Positions by axis, the mean speed of the joints, and which joints are seen how often."""
    axes = "xyz"[: s.xyz.shape[2]]
    unit = "" if s.units in ("unknown", "norm") else s.units
    signals = [Signal(a, s.xyz[:, :, k].reshape(-1), unit) for k, a in enumerate(axes)]
    signals.append(Signal("speed", mean_speed(s), f"{unit or 'unit'}/s"))
    if s.confidence is not None:
        signals.append(Signal("confidence", s.confidence.reshape(-1), "1"))
    found = Content(path, "pose", format_name, len(s.t_us), signals, s.t_us, body=s, notes=list(s.problems))
    seen = np.isfinite(s.xyz).all(axis=2)
    found.facts = {
        "joints": len(s.joints),
        "units": s.units,
        "up": s.up,
        "rate": None if s.rate is None else f"{s.rate[0] / s.rate[1]:.6g} Hz ({s.rate_source})",
        "seen": {j: round(float(f), 4) for j, f in zip(s.joints, seen.mean(axis=0), strict=True) if f < 1}
        if len(s.t_us)
        else {},
        "assumptions": list(s.assumptions),
    }
    found.facts = {k: v for k, v in found.facts.items() if v not in (None, [], {})}
    return found


def mean_speed(s: PoseStream) -> np.ndarray[Any, Any]:
    """(T,) float64 mean speed of the joints seen in both of two neighbouring poses, units/s; NaN for the first."""
    speed = np.full(len(s.t_us), np.nan)
    if len(s.t_us) > 1:
        step = np.linalg.norm(np.diff(s.xyz.astype(np.float64), axis=0), axis=2)
        live = np.isfinite(step)
        n = live.sum(axis=1)
        total = np.where(live, step, 0.0).sum(axis=1)
        speed[1:] = np.where(n > 0, total / np.maximum(n, 1), np.nan) / (np.diff(s.t_us) / 1e6)
    return speed


def _series(path: Path, format_name: str, s: Series) -> Content:
    signals = [Signal(n, s.values[:, k], u) for k, (n, u) in enumerate(zip(s.names, s.units, strict=True))]
    found = Content(path, "series", format_name, len(s.t_us), signals, s.t_us, body=s, notes=list(s.problems))
    if s.assumptions:
        found.facts["assumptions"] = list(s.assumptions)
    return found


def _beats(path: Path, format_name: str, b: Beats) -> Content:
    gaps = np.diff(b.t_s)
    signals = [Signal("beat interval", gaps, "s")] if len(gaps) else []
    t_us = np.rint(b.t_s * 1e6).astype(np.int64)
    found = Content(path, "beats", format_name, len(b.t_s), signals, t_us, body=b, notes=list(b.problems))
    if len(b.t_s) > 1:
        slope = np.polyfit(np.arange(len(b.t_s)), b.t_s, 1)[0]
        found.facts["tempo by line fit"] = f"{60 / slope:.3f} beats/min" if slope > 0 else None
    if b.tempo_bpm is not None:
        found.facts["declared tempo"] = f"{b.tempo_bpm:.3f} beats/min"
    if b.music:
        found.facts["music"] = b.music
    return found


def _playlist(path: Path, format_name: str, items: list[PlaylistItem]) -> Content:
    fields = ("index", "title", "path", "start_us", "duration_us", "played_utc_us")
    signals = []
    for name in fields:
        values = [getattr(i, name) for i in items]
        if name in ("title", "path"):
            signals.append(Signal(name, texts(values)))
        elif any(v is not None for v in values):
            signals.append(Signal(name, np.array([np.nan if v is None else float(v) for v in values])))
    return Content(path, "playlist", format_name, len(items), signals, body=items)


def _video_times(path: Path, format_name: str, t_us: np.ndarray[Any, Any]) -> Content:
    steps = Signal("frame step", np.diff(t_us) / 1e3, "ms")
    times = np.asarray(t_us, np.int64)
    if len(times):
        common = Counter(np.diff(times).tolist()).most_common(1)
        facts = {"usual step": f"{common[0][0] / 1e3:g} ms"} if common else {}
    else:
        facts = {}
    return Content(path, "video", format_name, len(times), [steps], times, facts=facts, body=times)


def _audio(source: Source, facts: Facts) -> Content:
    """Decoded sound with its loudness, onset and beats."""
    from choreo_cli.audio.beats import track_beats
    from choreo_cli.audio.decode import decode
    from choreo_cli.audio.features import DEFAULT, extract

    sound = decode(source, rate=DEFAULT.rate)
    features = extract(sound.samples, DEFAULT)
    beats = track_beats(features)
    signals = [
        Signal("sample", sound.samples, "1"),
        Signal("level", 20 * np.log10(np.maximum(features.rms, 1e-5)), "dB"),
        Signal("onset", features.onset, "dB"),
        Signal("centroid", features.centroid, "Hz"),
    ]
    found = Content(source.path, "audio", facts.format, facts.n or len(sound.samples), signals)
    found.body = (sound, features, beats)
    found.facts = _facts_record(facts)
    found.facts["peak"] = round(float(sound.peak), 4)
    tempo = f"{beats.tempo_bpm:.2f} beats/min" if beats.tempo_bpm else f"none ({beats.no_tempo})"
    found.facts["tempo"] = tempo
    found.facts["tempo candidates"] = {f"{b:.2f}": round(s, 3) for b, s in beats.candidates}
    found.facts["beats"] = len(beats.beats_s)
    found.notes = [*facts.problems, *(p for p in sound.problems if p not in facts.problems)]
    return found


def _features(path: Path, format_name: str, body: Any) -> Content:
    """Arrays by name: a mapping, or an object whose attributes are arrays."""
    fields = dict(body) if isinstance(body, dict) else attributes(body)
    arrays = {k: np.asarray(v) for k, v in fields.items() if isinstance(v, np.ndarray) and v.dtype.kind in "fiub"}
    signals = [Signal(k, a.reshape(-1)) for k, a in arrays.items()]
    rows = max((a.shape[-1] for a in arrays.values() if a.ndim), default=0)
    found = Content(path, "features", format_name, rows, signals, body=arrays | {"__source__": body})
    found.facts = {k: f"{a.dtype} {list(a.shape)}" for k, a in arrays.items()}
    plain = (str, int, float, bool, tuple, list, dict)
    found.facts |= {k: v for k, v in fields.items() if k not in arrays and isinstance(v, plain)}
    return found


def attributes(body: Any) -> dict[str, Any]:
    """Public fields of a dataclass or a struct, in order."""
    names = getattr(body, "__dataclass_fields__", None) or getattr(body, "__struct_fields__", None) or vars(body)
    return {n: getattr(body, n) for n in names if not n.startswith("_")}
