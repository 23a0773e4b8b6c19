"""Generate man pages from the command declarations and the column tables, so that neither can drift.

Usage: python -m choreo_cli.mangen DIR writes DIR/man1 and DIR/man5; the committed pages are compared in a test.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from choreo_cli import __released__, __version__
from choreo_cli.app import COMMANDS, load
from choreo_cli.errors import MEANING, ExitCode
from formats.columns import Column, Table

COMMON_EXITS = (ExitCode.OK, ExitCode.USAGE, ExitCode.BUG, ExitCode.INT, ExitCode.PIPE, ExitCode.TERM)


def escape(text: str) -> str:
    """Text for roff: backslashes, hyphens that are minus signs, and a leading dot or quote."""
    out = text.replace("\\", "\\e").replace("-", "\\-").replace("~", "\\(ti").replace("^", "\\(ha")
    return "\\&" + out if out[:1] in (".", "'") else out


def pages() -> dict[str, str]:
    """Every generated page: relative path -> text."""
    found = {"man1/choreo.1": _root_page()}
    for name in COMMANDS:
        command = load(name)
        module = importlib.import_module(COMMANDS[name][0])
        subs = getattr(command, "commands", None)
        for sub, node in ({f"{name}-{s}": c for s, c in subs.items()} if subs else {name: command}).items():
            found[f"man1/choreo-{sub}.1"] = _command_page(sub, node, module)
    for table in format_tables():
        short = table.schema.split("/")[0].removeprefix("choreo.")
        found[f"man5/choreo-{short}.5"] = _table_page(table)
    return found


def format_tables() -> list[Table]:
    """Every column table of `formats/`, by schema name."""
    from formats import columns, media, trajectory
    from formats.audio_npz import AUDIO_NPZ
    from formats.motion_npz import CHOREO25, MOTION_NPZ
    from formats.poses import POSES

    modules = (columns, media, trajectory)
    tables = [t for module in modules for t in vars(module).values() if isinstance(t, Table)]
    return sorted([*tables, AUDIO_NPZ, CHOREO25, MOTION_NPZ, POSES], key=lambda t: t.schema)


def _header(title: str, section: int) -> list[str]:
    return [f'.TH {title.upper()} {section} "{__released__}" "choreo {__version__}" "choreo manual"']


def _root_page() -> str:
    lines = _header("choreo", 1)
    lines += [".SH NAME", "choreo \\- machine learning between music and the moving body, in small commands"]
    lines += [".SH SYNOPSIS", ".B choreo", "[\\fB\\-\\-version\\fR] [\\fB\\-h\\fR] [\\fB\\-\\-debug\\fR]"]
    lines += ["\\fICOMMAND\\fR [\\fIARGS\\fR]"]
    lines += [".SH DESCRIPTION", "Recordings on disk become a paired dataset, step by step and through pipes."]
    lines += ["A manifest on standard output is the bytes of the file the same command would write."]
    lines += [".SH COMMANDS"]
    for name, (_, text) in COMMANDS.items():
        lines += [".TP", f".BR choreo\\-{escape(name)} (1)", escape(text)]
    lines += [".SH EXIT STATUS"]
    for code, text in MEANING.items():
        lines += [".TP", f".B {int(code)}", escape(text)]
    lines += [".SH ENVIRONMENT"]
    for name, text in (
        ("XDG_CACHE_HOME", "where the cache lies, ~/.cache when unset"),
        ("NO_COLOR", "respected; nothing prints escape codes"),
        ("OMP_NUM_THREADS", "threads of numerical libraries"),
    ):
        lines += [".TP", f".B {name}", escape(text)]
    lines += [".SH SEE ALSO", ".BR choreo\\-data (7)", ""]
    return "\n".join(lines)


def _command_page(name: str, command: Any, module: Any) -> str:
    words = name.replace("-", " ")
    text = (command.help or "").strip()
    first, _, rest = text.partition("\n")
    lines = _header(f"choreo-{name}", 1)
    lines += [".SH NAME", f"choreo\\-{escape(name)} \\- {escape(first.strip().rstrip('.'))}"]
    lines += [".SH SYNOPSIS", f".B choreo {escape(words)}", "[\\fIOPTIONS\\fR]"]
    arguments = [p for p in command.params if type(p).__name__ == "TyperArgument"]
    if arguments:
        lines += [" ".join(escape(p.make_metavar(_context(command))) for p in arguments)]
    lines += [".SH DESCRIPTION", *(_paragraphs(rest.strip() or first))]
    if arguments:
        lines += [".SH ARGUMENTS"]
        for p in arguments:
            lines += [".TP", f".I {escape(p.make_metavar(_context(command)))}", escape(p.help or "Input.")]
    lines += [".SH OPTIONS"]
    for p in command.params:
        if type(p).__name__ == "TyperOption" and not p.hidden:
            lines += [".TP", *_option(p, command)]
    lines += [".TP", ".BR \\-h ,\\~ \\-\\-help", "Show a summary and exit."]
    lines += [".SH EXIT STATUS"]
    codes = sorted({*COMMON_EXITS, *getattr(module, "EXITS", ())})
    for code in codes:
        lines += [".TP", f".B {int(code)}", escape(MEANING[code])]
    lines += [".SH EXAMPLES"]
    for shell, why in getattr(module, "EXAMPLES", ()):
        lines += [escape(why) + ":", ".PP", ".nf", ".RS 4", escape(shell), ".RE", ".fi", ".PP"]
    if lines[-1] == ".PP":
        lines.pop()
    lines += [".SH SEE ALSO", ".BR choreo (1),", ".BR choreo\\-data (7)", ""]
    return "\n".join(lines)


def _context(command: Any) -> Any:
    from typer._click import Context

    return Context(command)


def _paragraphs(text: str) -> list[str]:
    lines: list[str] = []
    for i, block in enumerate(text.split("\n\n")):
        lines += [".PP"] if i else []
        lines += [escape(line.strip()) for line in block.splitlines() if line.strip() and line.strip() != "\b"]
    return lines


def _option(p: Any, command: Any) -> list[str]:
    names = sorted(p.opts, key=len) + list(p.secondary_opts)
    value = "" if p.is_flag else f" \\fI{escape(p.make_metavar(_context(command)))}\\fR"
    shown = ", ".join(f"\\fB{escape(n)}\\fR" for n in names) + value
    text = p.help or ""
    default = p.default
    if not p.is_flag and default not in (None, "", ()) and not callable(default) and not p.required:
        text += f" (default: {default})"
    return [shown, escape(text)]


def _table_page(table: Table) -> str:
    short = table.schema.split("/")[0].removeprefix("choreo.")
    lines = _header(f"choreo-{short}", 5)
    lines += [".SH NAME", f"choreo\\-{escape(short)} \\- the format {escape(table.schema)}"]
    lines += [".SH DESCRIPTION", escape(table.doc)]
    lines += ["A missing value is null, never 0.", ".SH FIELDS"]
    for first, last in _numbered(table.columns):
        names = f"\\fB{escape(first.name)}\\fR"
        names += f" .. \\fB{escape(last.name)}\\fR" if last is not first else ""
        lines += [".TP", f"{names} ({escape(_kind(first))})", escape(_meaning(first))]
    lines += [".SH SEE ALSO", ".BR choreo (1),", ".BR choreo\\-check (1),", ".BR choreo\\-data (7)", ""]
    return "\n".join(lines)


def _numbered(columns: Sequence[Column]) -> list[tuple[Column, Column]]:
    """Columns in order, a series that differs in its number alone as its first and last."""
    found: list[tuple[Column, Column]] = []
    for c in columns:
        stem = c.name.rstrip("0123456789")
        before = found[-1] if found else None
        if before and stem != c.name and stem == before[1].name.rstrip("0123456789") != before[1].name:
            found[-1] = (before[0], c)
        else:
            found.append((c, c))
    return found


def _kind(c: Column) -> str:
    return c.dtype + (f", {c.unit}" if c.unit else "") + (", may be null" if c.nullable else "")


def _meaning(c: Column) -> str:
    text = c.doc[:1].upper() + c.doc[1:] or "Value."
    if c.choices:
        text += f"; one of {', '.join(c.choices)}"
    if c.lo is not None or c.hi is not None:
        lo = "-inf" if c.lo is None else f"{c.lo:g}"
        hi = "inf" if c.hi is None else f"{c.hi:g}"
        text += f"; {lo} .. {hi}{' (exclusive)' if c.open_hi else ''}"
    return text.rstrip(".") + "."


def main(folder: Path) -> list[Path]:
    """Write every generated page below `folder`; pages of commands that are gone are removed."""
    made = pages()
    for name, text in made.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    for old in [*folder.glob("man1/*.1"), *folder.glob("man5/*.5")]:
        if f"{old.parent.name}/{old.name}" not in made:
            old.unlink()
    return [folder / name for name in made]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
