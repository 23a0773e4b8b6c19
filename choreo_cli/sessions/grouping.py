"""What belongs together: session folders, shared stems, playlists of numbered tracks, truth, clocks to inherit."""

from __future__ import annotations

from collections import defaultdict
from pathlib import PurePosixPath
from typing import Any

from formats.foreign.empatica import disagreements
from formats.foreign.model import Clock, Facts
from formats.foreign.playlists import folder_playlist
from formats.foreign.times import folder_clock, folder_title
from formats.inventory import Entry, entry, set_clock

RECORDED = ("pose", "motion", "audio", "video", "wearable", "beats", "features")
BODIES = ("pose", "motion", "wearable", "video")
CLOCKED = ("pose", "motion", "audio", "video", "wearable")
_PREFERRED = ("metadata.json", "meta.json", "session.json")


def group(entries: list[Entry]) -> list[Entry]:
    """Fill in `session`, inherited clocks and `truth`; add entries for session folders and folder playlists."""
    by_folder: dict[tuple[str, str], list[Entry]] = defaultdict(list)
    for e in entries:
        by_folder[e["root"], str(PurePosixPath(e["path"]).parent)].append(e)
    sessions = _session_folders(entries, by_folder)
    _mark_truth(entries, sessions)
    made = [*sessions.values(), *_folder_playlists(by_folder, sessions)]
    _assign_folders(entries, sessions)
    _assign_stems(by_folder)
    for e in entries:
        _inherit(e, sessions)
    _devices(entries, sessions)
    _doubts(by_folder)
    # A session's metadata file is its session entry: one thing, one line.
    spent = {id(e) for e in entries if e["kind"] == "session"}
    return [e for e in entries if id(e) not in spent] + made


def _session_folders(
    entries: list[Entry], by_folder: dict[tuple[str, str], list[Entry]]
) -> dict[tuple[str, str], Entry]:
    """(root, folder) -> its session entry: from metadata, else from a folder name that ends in a time."""
    found: dict[tuple[str, str], Entry] = {}
    for (root, folder), inside in by_folder.items():
        metas = sorted((e for e in inside if e["kind"] == "session"), key=_preference)
        if metas:
            found[root, folder] = _session(metas[0], folder)
            for other in metas[1:]:
                other |= {"kind": "other", "meta": {"note": f"more metadata; {metas[0]['path']} is used"}}
        elif any(e["kind"] in BODIES for e in inside) and (clock := folder_clock(PurePosixPath(folder).name)):
            facts = Facts(
                "session", "folder-name", clock=clock, meta={"title": folder_title(PurePosixPath(folder).name)}
            )
            found[root, folder] = entry(facts, root, folder, 0, None)
    _ = entries
    return found


def _preference(e: Entry) -> tuple[int, str]:
    name = PurePosixPath(e["path"]).name.lower()
    return (_PREFERRED.index(name) if name in _PREFERRED else len(_PREFERRED), e["path"])


def _session(meta: Entry, folder: str) -> Entry:
    """The entry of the folder, from the entry of its metadata file."""
    made = {**meta, "path": folder, "meta": {**meta["meta"], "metadata": PurePosixPath(meta["path"]).name}}
    made["meta"]["devices_declared"] = made["meta"].pop("devices", [])
    if made["t0_utc_us"] is None and (clock := folder_clock(PurePosixPath(folder).name)):
        set_clock(made, clock)
    return made


def _mark_truth(entries: list[Entry], sessions: dict[tuple[str, str], Entry]) -> None:
    """Answers beside a session's recordings are listed and never paired."""
    for e in entries:
        parts = PurePosixPath(e["path"]).parts
        for k, part in enumerate(parts[:-1]):
            if part == "truth" and (e["root"], str(PurePosixPath(*parts[:k]))) in sessions:
                e |= {"kind": "truth", "reason": None, "problems": []}


def _folder_playlists(
    by_folder: dict[tuple[str, str], list[Entry]], sessions: dict[tuple[str, str], Entry]
) -> list[Entry]:
    """A folder of numbered tracks without a manifest is a playlist: its order is evidence."""
    found = []
    for (root, folder), inside in sorted(by_folder.items()):
        if (root, folder) in sessions or any(e["kind"] == "playlist" for e in inside):
            continue
        tracks = {PurePosixPath(e["path"]).name: e for e in inside if e["kind"] in ("audio", "features")}
        items = folder_playlist(tracks) if len(tracks) >= 2 else None
        if not items or len(items) < 2:
            continue
        name = PurePosixPath(folder).name or "playlist"
        listed = [
            {
                "index": i.index,
                "title": i.title,
                "path": i.path,
                "start_us": None,
                "duration_us": tracks[i.path]["duration_us"] if i.path in tracks else None,
                "played_utc_us": None,
            }
            for i in items
        ]
        facts = Facts("playlist", "folder", n=len(items), meta={"title": name, "items": listed})
        found.append(entry(facts, root, folder, 0, None))
    return found


def _assign_folders(entries: list[Entry], sessions: dict[tuple[str, str], Entry]) -> None:
    """A recording belongs to the nearest folder above it that is a session."""
    for e in entries:
        if e["kind"] not in RECORDED and e["kind"] != "frames":
            continue
        folder = PurePosixPath(e["path"]).parent
        for above in (folder, *folder.parents):
            if (e["root"], str(above)) in sessions:
                e["session"] = str(above)
                break


def _assign_stems(by_folder: dict[tuple[str, str], list[Entry]]) -> None:
    """Files of one folder whose names share a stem up to a word's end are one session: folder/stem."""
    for (_, folder), inside in by_folder.items():
        loose = [e for e in inside if e["session"] is None and e["kind"] in RECORDED]
        if len(loose) < 2:
            continue
        if all(e["format"] in ("e4", "e4-ibi") for e in loose):
            for e in loose:
                e["session"] = folder
            continue
        stems = sorted({PurePosixPath(e["path"]).stem for e in loose}, key=lambda s: (len(s), s))
        owner: dict[str, str] = {}
        for s in stems:
            base = next((b for b in owner.values() if s.startswith(b) and not s[len(b) : len(b) + 1].isalnum()), s)
            owner[s] = base
        members: dict[str, list[Entry]] = defaultdict(list)
        for e in loose:
            members[owner[PurePosixPath(e["path"]).stem]].append(e)
        for base, group_ in members.items():
            if len(group_) > 1:
                for e in group_:
                    e["session"] = base if folder == "." else f"{folder}/{base}"


def _inherit(e: Entry, sessions: dict[tuple[str, str], Entry]) -> None:
    """A recording without a clock takes the one its session states for it, else the session's, else its name's."""
    if e["t0_utc_us"] is not None or e["kind"] not in CLOCKED:
        return
    own = folder_clock(PurePosixPath(e["path"]).stem, "file_name")
    session = sessions.get((e["root"], e["session"])) if e["session"] else None
    if session is not None:
        e["synthetic"] = e["synthetic"] or session["synthetic"]
        name = PurePosixPath(e["path"]).name
        for stated in session["meta"].get("recordings") or []:
            if stated.get("file") == name and stated.get("t0_utc_us") is not None:
                sigma = session["t0_sigma_us"] or 500_000
                set_clock(e, Clock(stated["t0_utc_us"], "metadata", sigma, bool(stated.get("naive"))))
                return
        if own is None and session["t0_utc_us"] is not None:
            clock = Clock(session["t0_utc_us"], session["t0_source"], session["t0_sigma_us"], session["t0_naive"])
            set_clock(e, clock)
            return
    if own is not None:
        set_clock(e, own)


def _devices(entries: list[Entry], sessions: dict[tuple[str, str], Entry]) -> None:
    """Which of the declared devices left a recording, and the synthetic flag for all of a session."""
    inside: dict[tuple[str, str], list[Entry]] = defaultdict(list)
    for e in entries:
        if e["session"] is not None:
            inside[e["root"], e["session"]].append(e)
    for key, session in sessions.items():
        names = {PurePosixPath(e["path"]).name for e in inside[key]}
        stated = {r["device"] for r in session["meta"].get("recordings") or [] if r.get("file") in names}
        paths = " ".join(e["path"] for e in inside[key])
        declared = session["meta"].get("devices_declared") or []
        found = sorted({str(d) for d in declared if d in stated or str(d) in paths} | {str(d) for d in stated if d})
        session["meta"]["devices_found"] = found
        session["meta"]["recordings_found"] = len(names)
        for e in inside[key]:
            e["synthetic"] = e["synthetic"] or session["synthetic"]


def _doubts(by_folder: dict[tuple[str, str], list[Entry]]) -> None:
    """Files of one Empatica folder that contradict each other."""
    for inside in by_folder.values():
        e4 = [e for e in inside if e["format"] == "e4" and e["reason"] is None]
        if len(e4) < 2:
            continue
        facts = {PurePosixPath(e["path"]).name: _as_facts(e) for e in e4}
        for doubt in disagreements(facts):
            for e in e4:
                if PurePosixPath(e["path"]).name in doubt:
                    e["problems"].append(doubt)
                    break


def _as_facts(e: dict[str, Any]) -> Facts:
    clock = Clock(e["t0_utc_us"], e["t0_source"], e["t0_sigma_us"], e["t0_naive"])
    rate = None if e["rate_num"] is None else (e["rate_num"], e["rate_den"])
    return Facts(e["kind"], e["format"], e["n"], rate, e["duration_us"], e["channels"], clock, meta=e["meta"])
