"""Published dance sets whose file names say which music was danced: the naming rule of each, and what it promises.

The sets cut motion and music to start together. That is an assumption about people one has not met, so it is recorded
as one, and where the motion itself lies against the music is measured beside it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from choreo_cli.errors import UsageError
from choreo_cli.sessions.recordings import BODY, Entry, Library, Session, Track, library

EVIDENCE = "profile_name"


@dataclass(frozen=True, slots=True)
class Profile:
    """How one set names its files.

    Args:
        title: Of the set.
        motion: Matches a motion's stem; groups `music` and, where names tell them, `dancer` and `song`.
        music: Matches a music file's stem; group `music`.
        rule: The rule in words, with an example.
    """

    title: str
    motion: re.Pattern[str]
    music: re.Pattern[str]
    rule: str


_TAKE = r"g[A-Z]{2}_s[A-Z]{2}_c(?:All|\d+)_(?P<dancer>d\d+(?:_d\d+)*)_m[A-Z]{2}\d?_ch\d+"
PROFILES: dict[str, Profile] = {
    # AIST Dance DB, naming rules (Tsuchiya et al., ISMIR 2019); AIST++ keeps them with camera `cAll`.
    "aistpp": Profile(
        "AIST++",
        re.compile(r"^g[A-Z]{2}_s[A-Z]{2}_c(?:All|\d+)_(?P<dancer>d\d+(?:_d\d+)*)_(?P<music>m[A-Z]{2}\d)_ch\d+$"),
        re.compile(r"^(?P<music>m[A-Z]{2}\d)$"),
        "gBR_sBM_cAll_d04_mBR0_ch01 is danced to mBR0",
    ),
    # FineDance (Li et al., ICCV 2023): motion/NNN and music_wav/NNN.
    "finedance": Profile(
        "FineDance", re.compile(r"^(?P<music>\d{3})$"), re.compile(r"^(?P<music>\d{3})$"),
        "motion 001 is danced to music 001",
    ),
    # Motorica (Alexanderson et al., SIGGRAPH 2023): BVH and WAV of a take share their whole name; song and part end it.
    "motorica": Profile(
        "Motorica",
        re.compile(rf"^(?P<music>kth[a-z]+_{_TAKE}_(?P<song>[A-Za-z0-9-]+?)(?:_\d+)?)$"),
        re.compile(rf"^(?P<music>kth[a-z]+_{_TAKE}_(?P<song>[A-Za-z0-9-]+?)(?:_\d+)?)$"),
        "kthjazz_gCH_sFM_cAll_d02_mCH_ch01_song_001.bvh is danced to the .wav of the same name",
    ),
}  # fmt: skip


def check_profile(name: str) -> Profile | None:
    """The profile of a name, None for an empty one. Raises UsageError for one that is not known."""
    if not name:
        return None
    if name not in PROFILES:
        raise UsageError(f"no profile {name!r}", hint=f"choose from {', '.join(PROFILES)}")
    return PROFILES[name]


def by_design(profile: Profile) -> str:
    """The assumption a pair of this set carries."""
    return f"synchronous by design: {profile.title} cuts motion and music to start together; offset and drift are 0"


def named_library(entries: list[Entry], profile: Profile) -> Library:
    """Sessions and tracks of a set, by its naming rule alone: one session per motion, with its dancer.

    Encodings and parts of one song share a track group. `Library.design` holds the music of each session; a motion
    that no rule matches, or whose music is not there, has none and says why.

    Args:
        entries: Of the inventory.
        profile: The rule.
    """
    usable = [e for e in entries if e["reason"] is None]
    bodies = [e for e in usable if e["kind"] in BODY]
    sounds = [{**e, "session": None} for e in usable if e["kind"] in ("audio", "features")]
    lib = library(sounds)
    tracks: dict[str, list[Track]] = {}
    groups: dict[str, str] = {}
    for t in sorted(lib.tracks, key=lambda t: (t.entry["kind"] != "audio", t.path)):
        found = profile.music.match(PurePosixPath(t.path).stem)
        if found is None:
            continue
        song = found.groupdict().get("song") or found["music"]
        t.group = groups.setdefault(song.casefold(), t.group)
        tracks.setdefault(found["music"], []).append(t)
    design: dict[str, Track] = {}
    reasons: dict[str, str] = {}
    sessions = []
    for e in bodies:
        stem = PurePosixPath(e["path"]).stem
        name = str(PurePosixPath(e["path"]).with_suffix(""))
        found = profile.motion.match(stem)
        dancer = found.groupdict().get("dancer") if found else None
        meta = {"performer": f"{profile.title} {dancer}"} if dancer else {}
        about = {"meta": meta, "t0_utc_us": None, "synthetic": e["synthetic"]}
        sessions.append(Session(name, about, [e]))
        if found is None:
            reasons[name] = f"its name does not follow the rule of {profile.title}: {profile.rule}"
        elif not tracks.get(found["music"]):
            reasons[name] = f"its music {found['music']} is not there"
        else:
            design[name] = tracks[found["music"]][0]
    sessions.sort(key=lambda s: s.id.encode("utf-8", "surrogateescape"))
    return Library(sessions, lib.tracks, [], design=design, undesigned=reasons)
