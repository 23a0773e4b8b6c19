"""What belongs together: session folders, shared stems, playlists of numbered tracks, truth, clocks to inherit."""

from __future__ import annotations

from collections import defaultdict

from choreo_cli.sessions import stems
from formats.foreign.empatica import disagreements
from formats.foreign.model import Clock, Facts
from formats.foreign.playlists import folder_playlist
from formats.foreign.times import folder_clock, folder_title
from formats.inventory import Entry, entry, set_clock

RECORDED = ("pose", "motion", "audio", "video", "wearable", "beats", "features")
BODIES = ("pose", "motion", "wearable", "video")
CLOCKED = ("pose", "motion", "audio", "video", "wearable")
_PREFERRED = ("metadata.json", "meta.json", "session.json")

Key = tuple[str, str]  # root, folder
Folders = dict[Key, list[Entry]]


def group(entries: list[Entry], names: dict[str, str]) -> list[Entry]:
    """Fill in `session`, inherited clocks and `truth`; add entries for session folders and folder playlists.

    Args:
        entries: Entries of files and of folders that are one recording.
        names: Root id -> name of its folder, which may say when a session was.
    """
    _own_features(entries)
    by_folder: Folders = defaultdict(list)
    for e in entries:
        if e["kind"] in RECORDED or e["kind"] in ("session", "playlist", "frames"):
            by_folder[e["root"], parent(e["path"])].append(e)
    sessions = _session_folders(by_folder, names)
    _mark_truth(entries, sessions)
    _assign_folders(by_folder, sessions)
    _assign_stems(by_folder)
    _describe(by_folder, sessions)
    made = [*sessions.values(), *_folder_playlists(by_folder, sessions, names)]
    _name_playlists(made, entries)
    _doubts(by_folder)
    return entries + made


def _own_features(entries: list[Entry]) -> None:
    """Features that `--features` wrote beside the sound they are made of are not a second recording of it."""
    made = [e for e in entries if e["kind"] == "features" and e["meta"].get("of_sha256")]
    if made:
        sounds = {e["sha256"]: e["path"] for e in reversed(entries) if e["kind"] == "audio" and e["reason"] is None}
        for e in made:
            source = sounds.get(e["meta"]["of_sha256"])
            if source is not None:
                e |= {"kind": "other", "meta": {**e["meta"], "note": f"features of {source}, made by choreo"}}


def parent(path: str) -> str:
    """The folder of a path, `.` for the root."""
    return path.rpartition("/")[0] or "."


def _above(folder: str) -> list[str]:
    """A folder and all above it, the root last."""
    found = [folder]
    while folder != ".":
        folder = parent(folder)
        found.append(folder)
    return found


def _session_folders(by_folder: Folders, names: dict[str, str]) -> dict[Key, Entry]:
    """Session folders: those with metadata, and those whose name ends in a time and that hold a body.

    A folder above another session is a collection of them, whatever its own metadata or name says.
    """
    stated: dict[Key, list[Entry]] = {}
    for key, inside in by_folder.items():
        metas = sorted((e for e in inside if e["kind"] == "session"), key=_preference)
        for e in metas:
            e["kind"] = "other"  # the folder is the session; its file is what says so
            e["meta"] = {**e["meta"], "note": "metadata of a session"}
        if any(e["reason"] is None for e in metas):
            stated[key] = [e for e in metas if e["reason"] is None]
    timed: dict[Key, Clock] = {}
    for (root, folder), inside in by_folder.items():
        if not any(e["kind"] in BODIES for e in inside):
            continue
        chain = [(root, f) for f in _above(folder)]
        if not any(k in stated for k in chain):
            clocks = ((k, folder_clock(_folder_name(k, names))) for k in chain if k not in timed)
            for key, clock in clocks:
                if clock is not None:
                    timed[key] = clock
                    break
    collections = {(k[0], f) for k in (*stated, *timed) for f in _above(k[1])[1:]}
    found = {k: _stated(k, metas, names) for k, metas in stated.items() if k not in collections}
    for key, clock in timed.items():
        if key not in collections:
            title = {"title": folder_title(_folder_name(key, names)), "devices_declared": []}
            found[key] = entry(Facts("session", "folder-name", clock=clock, meta=title), key[0], key[1], 0, None)
    for key, session in found.items():
        session["session"] = key[1]
    return found


def _folder_name(key: Key, names: dict[str, str]) -> str:
    return names[key[0]] if key[1] == "." else key[1].rpartition("/")[2]


def _preference(e: Entry) -> tuple[int, str]:
    name = e["path"].rpartition("/")[2].lower()
    return (_PREFERRED.index(name) if name in _PREFERRED else len(_PREFERRED), e["path"])


def _stated(key: Key, metas: list[Entry], names: dict[str, str]) -> Entry:
    """The entry of a session folder, from its metadata file; its name's time when that states none."""
    source = metas[0]
    meta = {k: v for k, v in source["meta"].items() if k not in ("note", "devices")}
    meta["title"] = folder_title(_folder_name(key, names))
    meta["metadata"] = source["path"].rpartition("/")[2]
    meta["devices_declared"] = source["meta"].get("devices") or []
    made = {**source, "kind": "session", "path": key[1], "meta": meta}
    made["problems"] = list(source["problems"])
    if made["t0_utc_us"] is None and (clock := folder_clock(_folder_name(key, names))):
        set_clock(made, clock)
    for other in metas[1:]:
        other["meta"] = {**other["meta"], "note": f"more metadata of a session; {meta['metadata']} is used"}
    return made


def _mark_truth(entries: list[Entry], sessions: dict[Key, Entry]) -> None:
    """Answers beside a session's recordings are listed and never paired."""
    places = {(root, "truth/" if folder == "." else f"{folder}/truth/") for root, folder in sessions}
    if not places:
        return
    for e in entries:
        path = e["path"]
        at = f"/{path}".find("/truth/")
        while at >= 0:
            if (e["root"], path[: at + 6]) in places:
                e |= {"kind": "truth", "reason": None, "problems": []}
                break
            at = f"/{path}".find("/truth/", at + 1)


def _assign_folders(by_folder: Folders, sessions: dict[Key, Entry]) -> None:
    """A recording belongs to the nearest folder above it that is a session."""
    for (root, folder), inside in by_folder.items():
        near = next((f for f in _above(folder) if (root, f) in sessions), None)
        if near is not None:
            for e in inside:
                if e["kind"] in RECORDED or e["kind"] == "frames":
                    e["session"] = near


def _assign_stems(by_folder: Folders) -> None:
    """Files of one folder whose names share a stem are one session: folder/stem."""
    for (_, folder), inside in by_folder.items():
        loose = [e for e in inside if e["session"] is None and e["kind"] in RECORDED]
        if len(loose) < 2:
            continue
        e4 = [e for e in loose if e["format"] in ("e4", "e4-ibi")]
        if len(e4) > 1:
            for e in e4:  # one wristband: its files are named after its sensors
                e["session"] = folder
            loose = [e for e in loose if e["session"] is None]
        for base, together in stems.shared([(_stem(e["path"]), e["kind"]) for e in loose]).items():
            for i in together:
                loose[i]["session"] = base if folder == "." else f"{folder}/{base}"


def _stem(path: str) -> str:
    name = path.rpartition("/")[2]
    return name.rpartition(".")[0] or name


def _describe(by_folder: Folders, sessions: dict[Key, Entry]) -> None:
    """Clocks that recordings inherit, devices that were found, and the synthetic flag for all of a session."""
    inside: Folders = defaultdict(list)
    for (root, _), listed in by_folder.items():
        for e in listed:
            if e["kind"] in RECORDED or e["kind"] == "frames":
                inside[root, e["session"] or ""].append(e)
    for (root, name), recorded in inside.items():
        session = sessions.get((root, name))
        for e in recorded:
            if e["t0_utc_us"] is None and e["kind"] in CLOCKED:
                _inherit(e, session)
            if session is not None and session["synthetic"]:
                e["synthetic"] = True
    for key, session in sessions.items():
        _devices(session, inside.get(key, []))


def _inherit(e: Entry, session: Entry | None) -> None:
    """A recording without a clock takes the one its session states for it, else its name's, else the session's."""
    name = e["path"].rpartition("/")[2]
    for stated in (session["meta"].get("recordings") or []) if session is not None else ():
        if stated.get("file") == name and stated.get("t0_utc_us") is not None:
            assert session is not None
            sigma = session["t0_sigma_us"] or 500_000
            set_clock(e, Clock(stated["t0_utc_us"], "metadata", sigma, bool(stated.get("naive"))))
            return
    own = folder_clock(_stem(name), "file_name")
    if own is not None:
        set_clock(e, own)
    elif session is not None and session["t0_utc_us"] is not None:
        set_clock(e, Clock(session["t0_utc_us"], session["t0_source"], session["t0_sigma_us"], session["t0_naive"]))


def _devices(session: Entry, inside: list[Entry]) -> None:
    """Which of the declared devices left a recording."""
    meta = session["meta"]
    names = {e["path"].rpartition("/")[2] for e in inside}
    stated = {str(r["device"]) for r in meta.get("recordings") or [] if r.get("file") in names and r.get("device")}
    below = len(session["path"]) if session["path"] != "." else 0
    paths = " ".join(e["path"][below:] for e in inside)
    declared = [str(d) for d in meta["devices_declared"]]
    meta["devices_found"] = sorted({d for d in declared if d in stated or d in paths} | stated)
    meta["recordings_found"] = len(inside)
    if not any(e["kind"] in BODIES for e in inside):
        session["problems"].append("no_body: no recording of a body was found in the session")


def _folder_playlists(by_folder: Folders, sessions: dict[Key, Entry], names: dict[str, str]) -> list[Entry]:
    """A folder of numbered tracks without a manifest is a playlist: its order is evidence."""
    found = []
    for (root, folder), inside in sorted(by_folder.items()):
        if any((root, f) in sessions for f in _above(folder)) or any(e["kind"] == "playlist" for e in inside):
            continue
        tracks = {e["path"].rpartition("/")[2]: e for e in inside if e["kind"] in ("audio", "features")}
        items = folder_playlist(tracks) if len(tracks) >= 2 else None
        if not items or len(items) < 2:
            continue
        listed = [
            {"index": i.index, "title": i.title, "path": i.path, "start_us": None,
             "duration_us": tracks[str(i.path)]["duration_us"], "played_utc_us": None}
            for i in items
        ]  # fmt: skip
        lengths = [t["duration_us"] for t in listed]
        total = None if None in lengths else sum(lengths)
        meta = {"title": _folder_name((root, folder), names), "items": listed[:5000]}
        made = entry(Facts("playlist", "folder", n=len(items), duration_us=total, meta=meta), root, folder, 0, None)
        made["synthetic"] = all(e["synthetic"] for e in tracks.values())
        found.append(made)
    return found


def _name_playlists(made: list[Entry], entries: list[Entry]) -> None:
    """A session folder `NAME-TIME` without metadata was danced to the playlist NAME, when there is one."""
    lists = [e for e in (*entries, *made) if e["kind"] == "playlist"]
    titles = {str(e["meta"].get("title") or "").casefold() for e in lists}
    titles |= {parent(e["path"]).rpartition("/")[2].casefold() for e in lists if e["format"] != "folder"}
    for e in made:
        if e["kind"] == "session" and not e["meta"].get("playlist"):
            title = str(e["meta"].get("title") or "")
            if title and title.casefold() in titles:
                e["meta"]["playlist"] = title


def _doubts(by_folder: Folders) -> None:
    """Files of one Empatica folder that contradict each other."""
    for inside in by_folder.values():
        e4 = [e for e in inside if e["format"] == "e4" and e["reason"] is None]
        if len(e4) < 2:
            continue
        facts = {e["path"].rpartition("/")[2]: _as_facts(e) for e in e4}
        for doubt in disagreements(facts):
            about = next((e for e in e4 if e["path"].rpartition("/")[2] in doubt), e4[0])
            about["problems"] = [*about["problems"], doubt]


def _as_facts(e: Entry) -> Facts:
    clock = Clock(e["t0_utc_us"], e["t0_source"], e["t0_sigma_us"], e["t0_naive"])
    rate = None if e["rate_num"] is None else (e["rate_num"], e["rate_den"])
    return Facts(e["kind"], e["format"], e["n"], rate, e["duration_us"], e["channels"], clock, meta=e["meta"])
