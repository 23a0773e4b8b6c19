"""The block of commands that makes everything again in an empty folder, and says whether it came out the same."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from choreo_cli.report.run_artefact import Artefact
from choreo_cli.report.run_decision import Evidence
from choreo_cli.report.run_origins import Need, Origins

# What decides nothing about the result, or names where it went.
DROPPED = frozenset(
    (
        "out", "jobs", "quiet", "wait", "force", "json", "table", "log_json", "sync", "root", "resume", "tensorboard",
        "wandb", "latents", "controls", "figures", "record", "events",
    )
)  # fmt: skip
MODEL_FILES = ("model.safetensors", "model.onnx", "model.npz")
ONE_FILE = ("inventory", "metrics")  # kinds whose -o is a file
# Which option of a command names data of its own, of those that keep no record of their line.
OTHER_DATA = {"evaluate groove": "--against", "evaluate model": "--on"}
# Options of a command that judges several models, by the role of the input.
MODEL_OPTIONS = {
    "evaluate generation": {r: f"--{r}" for r in ("against-ddim", "distilled", "against", "onnx")},
}  # fmt: skip
# Options that name either data that was made by a command, or something that is no file at all.
MAYBE_DATA = ("--source",)
_DIGEST = re.compile(r"[0-9a-f]{64}")
_PLAIN = re.compile(r"[\w.+/ -]+")


class Value(NamedTuple):
    """One word of a command line: an argument (`flag` empty) or an option; a flag without a value has none."""

    flag: str
    value: str | None
    is_path: bool


class Line(NamedTuple):
    """A parsed command line: the command's words, and what was given, without `DROPPED`."""

    words: tuple[str, ...]
    values: tuple[Value, ...]


class Grammar(NamedTuple):
    """How the caller knows its commands.

    Args:
        parse: Arguments of the program -> what was given; None when they are no command line of this version.
        rebuild: (words, resolved parameters) -> the options that differ from their defaults.
    """

    parse: Callable[[Sequence[str]], Line | None]
    rebuild: Callable[[Sequence[str], Mapping[str, Any]], Line | None]


@dataclass(frozen=True, slots=True)
class Step:
    """One command of the block.

    Args:
        name: Where its product goes: `step2`, or `step2.json` when it is one file.
        title: What it does.
        command: The shell line, without redirection; empty when the origin is unknown.
        digest: Entries digest that its manifest must have, None where none is promised.
        files: (path, sha256) of files that must come out the same.
        folders: Folders named by the hash of what is in them.
        status: Exit status it ends with when all is as it was.
        why: Why there is no command.
    """

    name: str
    title: str
    command: str
    digest: str | None = None
    manifest: str = ""
    files: tuple[tuple[str, str], ...] = ()
    folders: tuple[str, ...] = ()
    status: int = 0
    why: str = ""


@dataclass(slots=True)
class Block:
    """The whole of it: what it was made with, variables to set first, steps, and what is missing."""

    steps: list[Step] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)
    missing: list[Evidence] = field(default_factory=list)
    made_with: str = ""

    @property
    def text(self) -> str:
        """A POSIX shell script; it stops at the first thing that is not as it was."""
        lines = [f"# {self.made_with}", "set -eu"]
        lines += [f': "${{{name}:?{what}}}"' for name, what in self.variables.items()]
        for k, s in enumerate(self.steps, 1):
            lines += ["", f"# {k}. {s.title}"]
            if not s.command:
                lines.append(f"# MISSING: {s.why}")
                continue
            allowed = f" || test $? -eq {s.status}" if s.status else ""
            lines.append(f"{s.command} > /dev/null{allowed}")
            if s.digest:
                lines.append(f"tail -n 1 {s.manifest} | grep -q {s.digest}")
            lines += [f"test -d {folder}" for folder in s.folders]
        sums = [f"{sha}  {name}" for s in self.steps for name, sha in s.files]
        made = [s.name for s in self.steps if s.command]
        if sums:
            lines += ["", "cat > SHA256SUMS << 'END'", *sums, "END"]
        if made:
            lines += ["choreo check " + " ".join([*(["SHA256SUMS"] if sums else []), *made])]
        return "\n".join(lines) + "\n"


def reproduce(origins: Origins, grammar: Grammar) -> Block:
    """One command per step, in an order that can be run, with the digests it must come out with."""
    block = Block(made_with=_made_with(origins.steps))
    maker = _Maker(origins, grammar, block)
    for a in origins.steps:
        maker.step(a)
    return block


class _Maker:
    """Numbers the steps and puts their names where paths stood."""

    def __init__(self, origins: Origins, grammar: Grammar, block: Block) -> None:
        self.origins, self.grammar, self.block = origins, grammar, block
        self.names: dict[str, str] = {}
        self.variables: set[str] = set()

    def step(self, a: Artefact) -> None:
        for need in self.origins.needs[a.sha256]:
            if need.origin is None and need.role == "inventory":
                self._piped_inventory(need)
        title = _title(a)
        line, why = self._line(a)
        name = f"step{len(self.block.steps) + 1}{'.json' if a.kind in ONE_FILE else ''}"
        self.names[a.sha256] = name
        command = self._command(a, line, name) if line is not None else ""
        if not command:
            self._lost(title, why or "an input has no origin")
            self.block.steps.append(Step(name, title, "", why=_comment(why or "an input has no origin")))
            return
        files = tuple((f"{name}/{f}", sha) for f, sha in _products(a) if _hex(sha) and _PLAIN.fullmatch(f))
        manifest = name if a.kind in ONE_FILE else f"{name}/{a.file_name}"
        folders = tuple(f"{name}/pack/{digest}" for digest in _packs(a))
        if a.kind == "pairs" and not self._promised(a):
            files = ()  # frames.parquet names the inventory in its metadata; the pack's hash is over the values alone
        self.block.steps.append(Step(name, title, command, _digest(a), manifest, files, folders, _status(a)))

    def _promised(self, a: Artefact) -> bool:
        """Whether every input of a step comes out with the same digest."""
        return all(n.origin is not None and _digest(n.origin) is not None for n in self.origins.needs[a.sha256])

    def _line(self, a: Artefact) -> tuple[Line | None, str]:
        argv = a.record.get("argv")
        if isinstance(argv, list) and all(isinstance(w, str) for w in argv):
            line = self.grammar.parse(argv)
            return line, "" if line is not None else "its command line is not one of this version"
        if a.kind not in ONE_FILE:
            return None, f"nothing says how {a.name} was made: no {a.kind}.run.json beside it"
        words, stated = str(a.made_by.get("command", "")).split(), a.made_by.get("params")
        params = {"seed": a.made_by.get("seed"), **(stated if isinstance(stated, dict) else {})}
        line = self.grammar.rebuild(words, params) if words else None
        return line, "" if line is not None else f"nothing says how {a.name} was made"

    def _command(self, a: Artefact, line: Line, name: str) -> str:
        """The shell line; empty when an input cannot be named."""
        left = list(self.origins.needs[a.sha256])
        words, named = [], False
        for v in line.values:
            words += [v.flag] if v.flag else []
            if v.value is None:
                continue
            if not v.is_path:
                made = self._token(v, left, a) if v.flag in MAYBE_DATA and _made(v.value, left) else v.value
                words.append(made)
                continue
            named = named or not v.flag
            token = self._token(v, left, a)
            if not token:
                return ""
            words.append(token)
        if not named:
            tokens = self._unnamed(a, left)
            if None in tokens:
                return ""
            first = sum(not v.flag for v in line.values)
            words[first:first] = [t for t in tokens if t]
        whole = ["choreo", *line.words, *words, "-o", name]
        return " ".join(w if w in self.variables else shlex.quote(w) for w in whole)

    def _token(self, v: Value, left: list[Need], a: Artefact) -> str:
        """What stands where a path stood: the product of a step, or a variable for what comes from outside."""
        assert v.value is not None
        path = Path(v.value)
        for need in left:
            inside = _inside(path, need.origin) if need.origin is not None and v.value != "-" else None
            if inside is not None and need.origin is not None:
                left.remove(need)
                base = self.names[need.origin.sha256]
                return base if inside == "." else f"{base}/{inside}"
        role = v.flag.lstrip("-").replace("-", "_")
        fitting = [n for n in left if n.role == role] if v.flag else left[:1]
        if fitting and fitting[0].origin is not None:
            left.remove(fitting[0])
            return self._product(fitting[0].origin, folder=bool(v.flag))
        return self._outside(v, fitting, a)

    def _outside(self, v: Value, fitting: Sequence[Need], a: Artefact) -> str:
        """A variable for a file or folder that no command made."""
        if a.kind == "inventory":
            return self._variable("RECORDINGS", "the folder of the recordings")
        if not v.flag:
            return ""
        digest = f", sha256 {_hex(fitting[0].sha256)[:12]}" if fitting else ""
        name = v.flag.lstrip("-").replace("-", "_").upper()
        return self._variable(name, f"the file given to {v.flag}{digest}")

    def _unnamed(self, a: Artefact, left: Sequence[Need]) -> list[str | None]:
        """Inputs that came through a pipe, or that a command without a record of its line must have had."""
        if a.kind == "inventory":
            made = [self._product(n.origin, folder=True) for n in left if n.origin is not None]
            return list(made) or [self._variable("RECORDINGS", "the folder of the recordings")]
        if a.kind == "sessions" or (a.kind == "motions" and not left):
            return []
        runs = [n for n in left if n.origin is not None and n.origin.kind == "run"]
        wanted = (runs if a.kind == "metrics" else runs[:1]) or list(left[:1])
        if not wanted and a.kind == "metrics":
            return []
        if a.kind == "metrics":
            options = MODEL_OPTIONS.get(str(a.made_by.get("command")), {})
            if any(n.origin is None and n.role in options for n in left):
                return [None]
            plain = [self._product(n.origin, folder=False) for n in wanted if n.origin and n.role not in options]
            given = [w for n in wanted if n.origin and n.role in options
                     for w in (options[n.role], self._product(n.origin, folder=False))]  # fmt: skip
            return [*plain, *given, *self._other_data(a, left)]
        return [self._product(n.origin, folder=False) if n.origin else self.names.get(n.sha256) for n in wanted] or [
            None
        ]

    def _other_data(self, a: Artefact, left: Sequence[Need]) -> list[str]:
        """`--against DATA` and its like: a dataset that was judged on, and is not the one the models learnt from."""
        flag = OTHER_DATA.get(str(a.made_by.get("command")))
        if _recorded(left):
            return []  # a recorded performance is judged by its own frames
        learnt = {n.sha256 for m in left if m.origin is not None for n in self.origins.needs.get(m.origin.sha256, ())}
        others = [n.origin for n in left if n.origin is not None and n.origin.kind != "run" and n.sha256 not in learnt]
        return [flag, self._product(others[0], folder=True)] if flag and others else []

    def _product(self, origin: Artefact, *, folder: bool) -> str:
        base = self.names[origin.sha256]
        return base if folder or origin.kind in ONE_FILE else f"{base}/{origin.file_name}"

    def _piped_inventory(self, need: Need) -> None:
        """An inventory that only ever was in a pipe: its digest is on record, its options are not."""
        if need.sha256 in self.names:
            return
        name = f"step{len(self.block.steps) + 1}.json"
        self.names[need.sha256] = name
        what = self._variable("RECORDINGS", "the folder of the recordings")
        title = f"discover (from a pipe: its options are not on record; its digest was {_hex(need.sha256)[:12]})"
        self.block.steps.append(Step(name, title, f"choreo discover {what} -o {name}"))

    def _variable(self, name: str, what: str) -> str:
        self.block.variables.setdefault(name, what)
        self.variables.add(f'"${name}"')
        return f'"${name}"'

    def _lost(self, title: str, why: str) -> None:
        self.block.missing.append(Evidence(f"origin of {title}", False, _comment(why)))


def _made(value: str, left: Sequence[Need]) -> bool:
    """Whether a word names something that one of the needed artefacts holds."""
    return any(n.origin is not None and _inside(Path(value), n.origin) is not None for n in left)


def _recorded(left: Sequence[Need]) -> bool:
    return any(n.origin is not None and n.origin.made_by.get("command") == "run-live" for n in left)


def _inside(path: Path, origin: Artefact) -> str | None:
    """A path relative to an artefact's folder, when it names that folder, its manifest or something in it.

    The folder that a command was run in is not on record: of a relative path its last parts must fit.
    """
    file = origin.manifest.file
    if file is not None and origin.kind in ONE_FILE:
        return "." if _ends(file, path) else None
    if origin.folder is None:
        return None
    folder = origin.folder.resolve()
    if path.is_absolute():
        return path.resolve().relative_to(folder).as_posix() if path.resolve().is_relative_to(folder) else None
    for top in (path, *path.parents):
        if top.parts and _ends(folder, top):
            return path.relative_to(top).as_posix()
    return None


def _ends(whole: Path, path: Path) -> bool:
    parts = [p for p in path.parts if p != "."]
    if path.is_absolute():
        return path.resolve() == whole.resolve()
    return bool(parts) and ".." not in parts and list(whole.parts[-len(parts) :]) == parts


def _products(a: Artefact) -> Iterable[tuple[str, str]]:
    """Files that must come out with the same bytes: weights and their twins, timelines, frames."""
    if a.kind == "pairs":
        for item in a.made_by.get("outputs") or []:
            if isinstance(item, dict) and item.get("path") == "frames.parquet":
                yield "frames.parquet", str(item["sha256"])
    for e in a.manifest.entries if a.kind == "run" else []:
        files = e["files"] if isinstance(e["files"], dict) else {}
        for name, sha in sorted(files.items()):
            inside = name if e["path"] == "." or name.startswith(f"{e['path']}/") else f"{e['path']}/{name}"
            if Path(name).name in MODEL_FILES or name.endswith("_controls.parquet"):
                yield inside, str(sha)


def _packs(a: Artefact) -> list[str]:
    """Dataset hashes of the packs beside pairs."""
    paths = [str(i.get("path")) for i in a.made_by.get("outputs") or [] if isinstance(i, dict)]
    found = {p.split("/")[1] for p in paths if a.kind == "pairs" and p.startswith("pack/") and p.count("/") > 1}
    return sorted(d for d in found if _hex(d))


def _digest(a: Artefact) -> str | None:
    """Digest of the entries, None where they vary.

    Of a run its files are compared instead. An inventory of a folder that choreo wrote lists documents with times and
    places in them; what is made from it does not depend on those.
    """
    if a.kind == "inventory" and any(str(e["format"]).startswith("choreo.") for e in a.manifest.entries):
        return None
    return a.sha256 if a.kind != "run" and a.made_by.get("deterministic", True) else None


def _status(a: Artefact) -> int:
    if isinstance(a.record.get("exit"), int):
        return int(a.record["exit"])
    if a.kind == "metrics":
        return int(any(e["pass"] is False for e in a.manifest.entries))
    if a.kind == "inventory":
        return 3 if any(e["reason"] and not e["acknowledged"] for e in a.manifest.entries) else 0
    return 0


def _title(a: Artefact) -> str:
    words = str(a.made_by.get("command") or a.kind)
    if a.kind == "run":
        recipes = ", ".join(dict.fromkeys(str(e["recipe"]) for e in a.manifest.entries))
        seeds = ", ".join(str(e["seed"]) for e in a.manifest.entries)
        what = words if recipes in words else f"{words} {recipes}"
        return _comment(f"{what}, seed{'s' if ',' in seeds else ''} {seeds} ({a.name})")
    return _comment(f"{words} ({a.name})")


def _made_with(steps: Iterable[Artefact]) -> str:
    """Versions and commits: another one may have other defaults."""
    git = [a.made_by.get("git") for a in steps]
    versions = sorted({str(a.made_by.get("choreo", "MISSING")) for a in steps})
    commits = dict.fromkeys(str(g.get("sha"))[:12] for g in git if isinstance(g, dict))
    changed = ", with changes" if any(isinstance(g, dict) and g.get("dirty") for g in git) else ""
    at = f", commit {', '.join(commits)}{changed}" if commits else ""
    return _comment(f"made with choreo {', '.join(versions)}{at}")


def _comment(text: str) -> str:
    """Text that stays on its line, whatever it was read from."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:160]


def _hex(text: str) -> str:
    """A digest, or nothing: what is printed in a script must be one."""
    return text if _DIGEST.fullmatch(text) else ""
