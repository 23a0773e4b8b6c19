"""The whole of `pair`: an inventory in, a dataset and an honest report out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from choreo_cli.dataset.pack import Pack, open_pack
from choreo_cli.errors import DataError, UsageError
from choreo_cli.sessions import dataset_out, overrides, preview
from choreo_cli.sessions.music_load import MusicCache
from choreo_cli.sessions.overrides import Override
from choreo_cli.sessions.pair_report import Report
from choreo_cli.sessions.pairing import Draft, PairOptions, SessionResult, pair_session, tracks_called
from choreo_cli.sessions.profiles import check_profile, named_library
from choreo_cli.sessions.recordings import Library, library
from choreo_cli.sessions.target import Target
from choreo_cli.sessions.worked_sample import worked_sample
from formats.errors import FormatError

Entry = dict[str, Any]


@dataclass(slots=True)
class Paired:
    """What came of it.

    Args:
        entries: Pairs, in order.
        report: For the person.
        drafts: For previews.
        todo: Rows of the overrides template.
        split_conflict: The earlier split cannot be kept: the answer is no.
        nothing: Why there is not one pair: what exists and what is missing.
        pack: The windows, opened.
    """

    entries: list[Entry]
    report: Report
    drafts: list[Draft] = field(default_factory=list)
    todo: list[tuple[str, str, str]] = field(default_factory=list)
    split_conflict: str = ""
    nothing: str = ""
    pack: Pack | None = None

    @property
    def skipped(self) -> int:
        return len(self.report.skipped)

    @property
    def acknowledged(self) -> int:
        return sum(a for _, _, a in self.report.skipped)


def run(
    entries: list[Entry],
    roots: dict[str, Path],
    out: Target,
    options: PairOptions,
    cut: dataset_out.DatasetOptions,
    created_by: dict[str, Any],
    *,
    manual: dict[str, Override] | None = None,
    overrides_file: Path | None = None,
    mix_synthetic: bool = False,
    previews: bool = False,
    on_progress: Callable[..., None] | None = None,
) -> Paired:
    """Pair everything and write the dataset.

    Raises:
        DataError: synthetic and real recordings are mixed without leave.
        FormatError: an override names a session or a track that does not exist.
        UsageError: `--track` names none, or two.
    """
    profile = check_profile(options.profile)
    lib = library(entries) if profile is None else named_library(entries, profile)
    _refuse_mixture(lib, mix_synthetic)
    if manual and overrides_file:
        overrides.check_names(manual, (s.id for s in lib.sessions), overrides_file)
    _check_tracks(lib, options.track, manual or {}, overrides_file)
    cache = MusicCache(out, lib, bpm=options.bpm)
    results = []
    active = [s for s in lib.sessions if s.bodies]
    for done, session in enumerate(active, 1):
        results.append(pair_session(session, lib, roots, cache, options, (manual or {}).get(session.id)))
        if on_progress is not None:
            on_progress(done, len(active), session.id)
    drafts = dataset_out.name_pairs([d for r in results for d in r.drafts])
    report = _report(entries, lib, results, cache)
    todo = [r.todo for r in results if r.todo is not None]
    paired = Paired([], report, drafts, todo)
    if drafts:
        data = dataset_out.write_dataset(drafts, out, cut, created_by, cache.audio_tracks())
        paired.entries = report.pairs = data.entries
        report.counts, report.split = data.counts, _split_facts(data)
        report.sample = worked_sample(drafts[0], data)
        paired.split_conflict = "; ".join(data.split.conflicts)
        paired.pack = open_pack(data.pack.folder)
        if previews:
            preview.write_all(drafts, cache.sound_of(roots), out)
    else:
        paired.nothing = _nothing(entries, lib, report)
    out.write("report", "report.json", report.to_json())
    out.write("report", "report.md", report.to_markdown())
    return paired


def _check_tracks(lib: Library, track: str, manual: dict[str, Override], file: Path | None) -> None:
    """Refuse a track that nothing is called, or two are: its session would leave the dataset without a word."""
    said: list[tuple[str, str, Path | None]] = [(track, "--track ", None)] if track else []
    said += [(o.track, "", file) for o in manual.values() if o.track]
    for name, where, source in said if lib.tracks else []:
        songs = {t.group: t.path for t in reversed(tracks_called(name, lib))}
        if len(songs) == 1:
            continue
        paths = [t.path for t in lib.tracks]
        if songs:
            fault, hint = f"{len(songs)} tracks are called {name!r}", f"name the path: {min(songs.values())}..."
        else:
            near = get_close_matches(name, paths, 1, 0.3) or paths[:1]
            fault, hint = f"no track {name!r}", f"did you mean: {near[0]}?"
        if source is None:
            raise UsageError(f"{where}{fault}", hint=hint)
        raise FormatError(fault, file=source, field="track", hint=hint)


def _refuse_mixture(lib: Library, allowed: bool) -> None:
    bodies = [b for s in lib.sessions for b in s.bodies]
    fake = [b for b in bodies if b["synthetic"]]
    if fake and len(fake) < len(bodies) and not allowed:
        raise DataError(
            f"{len(fake)} of {len(bodies)} body recordings are synthetic ({fake[0]['path']}) and the others are real",
            hint="pair them apart, or say --synthetic",
        )


def _report(entries: list[Entry], lib: Library, results: list[SessionResult], cache: MusicCache) -> Report:
    report = Report(inputs=dict(sorted(Counter(e["kind"] for e in entries).items())))
    told = {(r, p) for res in results for p, r in res.skipped}
    report.skipped = [(e["path"], e["reason"], e["acknowledged"]) for e in entries if e["reason"] is not None]
    report.skipped += sorted((p, r, False) for r, p in told)
    report.unused = [u for r in results for u in r.unused] + _idle(entries, lib, results, cache)
    report.notes = [n for r in results for n in r.notes] + cache.notes()
    report.notes += sorted({a for r in results for d in r.drafts for a in d.entry["assumptions"] if "try --tz" in a})
    report.missing = _missing(lib, results)
    return report


def _idle(entries: list[Entry], lib: Library, results: list[SessionResult], cache: MusicCache) -> list[tuple[str, str]]:
    """Usable recordings that no pair touched, each with why."""
    used = {i for r in results for d in r.drafts for i in (d.entry["pose_id"], d.entry["audio_id"], d.heart_id)}
    told = {p for r in results for p, _ in (*r.unused, *r.skipped)}
    paired = {r.session for r in results if r.drafts}
    heard = {e["id"] for s in lib.sessions for e in s.sounds}
    why = {
        "audio": "no session danced to it",
        "features": "no session danced to it",
        "video": "the picture is not read; its sound track is",
        "beats": "belongs to no music that was paired",
        "frames": "frames already: train reads them as they are",
        "truth": "the truth of a synthetic session is never paired",
        "playlist": "its order and times are evidence",
        "session": "its metadata is evidence",
        "other": "not a recording",
    }
    found = []
    for e in entries:
        if e["reason"] is not None or e["id"] in used or e["path"] in told:
            continue
        if e["id"] in heard:
            found.append((e["path"], "taken for what the microphone of its session heard, not for music"))
        elif e["kind"] == "wearable":
            found.append((e["path"], _why_wearable(e, paired)))
        elif e["kind"] == "beats" and e["path"] in cache.annotations:
            found.append((e["path"], "its beats are the truth of its music"))
        elif e["kind"] in why:
            found.append((e["path"], _why_other(e) if e["kind"] == "other" else why[e["kind"]]))
        else:
            found.append((e["path"], "no music is known for it"))
    return found


def _why_wearable(e: Entry, paired: set[str]) -> str:
    if "hr" not in (e["meta"].get("names") or ["hr"]):
        return "holds no heart rate; other signals of wearables are not paired"
    if e["session"] not in paired:
        return "belongs to no session that was paired: a metadata.json beside both says that they go together"
    return "another heart rate of its session was used, or its clock cannot be compared: see the assumptions"


def _why_other(e: Entry) -> str:
    return str(e["meta"].get("note") or "not a recording")


def _missing(lib: Library, results: list[SessionResult]) -> list[str]:
    found = []
    heard = [e["path"] for s in lib.sessions for e in s.sounds]
    if not lib.tracks and heard:
        found.append(
            f"music: {heard[0]} lies beside a body and is taken for what its microphone heard, not for the music: "
            "keep the music in a folder of its own"
        )
    elif not lib.tracks:
        found.append("music: no audio file and no feature file was found")
    if not any(s.bodies for s in lib.sessions):
        found.append("a body: no pose log, mocap file or quantity of motion was found")
    lonely = [r.todo for r in results if r.todo and not r.drafts]
    if lonely:
        found.append(
            f"which track was playing, for {len(lonely)} sessions: say it in metadata.json or with --overrides"
        )
    slow = [r for r in results for d in r.drafts if "pose_rate_below_8_fps" in d.entry["reasons"]]
    if slow:
        found.append(f"a pose rate of 8 fps or more, for {len(slow)} pairs: slower poses are context, never motion")
    clockless = [d for r in results for d in r.drafts if "no_clock" in d.entry["reasons"]]
    if clockless:
        found.append(f"a clock (UTC times, or the music recorded by the device), for {len(clockless)} pairs")
    return found


def _nothing(entries: list[Entry], lib: Library, report: Report) -> str:
    kinds = ", ".join(f"{n} {k}" for k, n in report.inputs.items()) or "nothing"
    bodies = sum(len(s.bodies) for s in lib.sessions)
    missing = "; ".join(report.missing) or "nothing obvious"
    return f"no pair: found {kinds}; {bodies} bodies, {len(lib.tracks)} tracks; missing: {missing}"


def _split_facts(data: dataset_out.Dataset) -> dict[str, Any]:
    s = data.split
    counts = Counter(a.split for a in s.by_pair.values())
    return {
        "mode": s.mode,
        "kept together": s.group,
        "pairs": dict(sorted(counts.items())),
        "empty": s.empty_splits,
        "groups": dict(list(s.component_sizes.items())[:10]),
        "moved": s.moved,
        "held": s.held,
        "conflicts": s.conflicts,
        "leaks": s.leaks,
        "notes": s.notes,
        "folds": [f._asdict() for f in s.folds],
    }
