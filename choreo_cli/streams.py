"""stdin, stdout and terminals: manifest in, manifest out, and who gets to see what."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from choreo_cli.errors import ExitCode, NoInputError, UsageError

if TYPE_CHECKING:
    from formats.manifest import Manifest


def is_terminal(stream: Any) -> bool:
    try:
        return bool(stream is not None and stream.isatty())
    except (ValueError, OSError):
        return False


def read_document(source: Path | None, command: str, need: str) -> tuple[bytes, Path | None, str]:
    """The bytes of the input: a named path, `-`, or stdin when nothing is named and stdin is not a terminal.

    Returns:
        (bytes, file or None, how to call it in errors)

    Raises:
        UsageError: nothing named and nothing piped in.
        NoInputError: the named file is missing.
    """
    if source is not None and str(source) != "-":
        if source.is_dir():
            raise NoInputError(f"{source} is a folder", hint=f"name the {need} inside it")
        try:
            return source.read_bytes(), source, str(source)
        except FileNotFoundError:
            raise NoInputError(f"no file {source}", hint=f"need a {need}") from None
    if sys.stdin is None or is_terminal(sys.stdin):
        raise UsageError(f"needs a {need}: name a file or pipe one in", hint=f"see choreo {command} --help")
    return sys.stdin.buffer.read(), None, "stdin"


@contextmanager
def named_input(source: Path | None, command: str, need: str) -> Iterator[Path]:
    """A path to the input: the named one, or a copy of stdin that lasts as long as the block.

    Raises:
        UsageError: nothing named and nothing piped in.
        NoInputError: the named path is missing.
    """
    if source is not None and str(source) != "-":
        if not source.exists():
            raise NoInputError(f"no file {source}")
        yield source
        return
    if sys.stdin is None or is_terminal(sys.stdin):
        raise UsageError(f"needs a {need}: name one or pipe one in", hint=f"see choreo {command} --help")
    import tempfile

    with tempfile.TemporaryDirectory(prefix="choreo-") as folder:
        spool = Path(folder) / "stdin"
        with open(spool, "wb") as f:
            shutil.copyfileobj(sys.stdin.buffer, f)
        yield spool


def read_manifest(source: Path | None, command: str, kinds: Sequence[str]) -> Manifest:
    """Read and verify a manifest of one of `kinds` (`choreo.inventory`...).

    Raises:
        FormatError: empty, cut, damaged; or another kind, named in the sentence with what would read it.
    """
    from formats import manifest as m
    from formats.errors import FormatError

    data, file, name = read_document(source, command, f"{kinds[0]} manifest")
    schema = m.peek(data)
    kind = (schema or "").split("/")[0]
    if schema is not None and kind not in kinds:
        readers = READERS_OF.get(kind, ())
        hint = f"did you mean: choreo {readers[0]}?" if readers else "see choreo --help"
        raise FormatError(f"{name} is {schema}, need {' or '.join(f'{k}/1' for k in kinds)}", hint=hint)
    return m.decode(data, source=name, file=file)


# Which commands read a kind of manifest; the sentence of a wrong kind proposes the first.
READERS_OF: dict[str, tuple[str, ...]] = {
    "choreo.inventory": ("pair", "check", "inspect"),
    "choreo.pairs": ("train", "inspect", "check"),
    "choreo.sessions": ("train", "inspect", "check"),
    "choreo.motions": ("render motion", "evaluate motion", "inspect", "check"),
    "choreo.videos": ("inspect", "check"),
    "choreo.run": ("evaluate", "report", "inspect", "check"),
    "choreo.metrics": ("report", "inspect", "check"),
}


def write_stdout(data: bytes) -> None:
    """Bytes to stdout, flushed; a closed pipe raises BrokenPipeError, a full disk OSError."""
    if sys.stdout is None:
        return
    sys.stdout.flush()
    out = sys.stdout.buffer
    out.write(data)
    out.flush()


def emit(
    data: bytes, table: list[str] | Callable[[], list[str]], *, out: Path | None, json: bool, as_table: bool, keep: str
) -> None:
    """Deliver a manifest: to `out` when given, else to stdout as JSON or, on a terminal, as a table.

    Args:
        data: The document.
        table: Lines of the table without the last line, or what makes them when a person is looking.
        out: File to write; the table then still shows on a terminal or when forced.
        json: Force JSON.
        as_table: Force the table.
        keep: The last line of the table: how to keep the result.
    """
    if out is not None and str(out) != "-":
        write_file(out, data)
        if as_table or (is_terminal(sys.stdout) and not json):
            write_stdout(_lines(table, f"wrote {out}"))
        elif json:
            write_stdout(data)
        return
    if as_table or (is_terminal(sys.stdout) and not json):
        write_stdout(_lines(table, keep))
    else:
        write_stdout(data)


def _lines(table: list[str] | Callable[[], list[str]], last: str) -> bytes:
    lines = table() if callable(table) else table
    return ("\n".join([*lines, last]) + "\n").encode("utf-8", "replace")


def write_file(path: Path, data: bytes) -> None:
    """Write one output file atomically; its folder must exist.

    Raises:
        CantCreateError: the folder is missing or may not be written.
    """
    from choreo_cli.errors import CantCreateError
    from formats.atomic import write_bytes

    try:
        write_bytes(path, data)
    except FileNotFoundError:
        raise CantCreateError(f"cannot create {path}", hint=f"make the folder {path.parent} first") from None
    except IsADirectoryError:
        raise CantCreateError(f"{path} is a folder", hint="name a file") from None


def columns(rows: Sequence[Sequence[str]], header: Sequence[str], width: int | None = None) -> list[str]:
    """Rows as aligned text no wider than the terminal; the widest column gives way."""
    room = width or shutil.get_terminal_size((100, 24)).columns
    cells = [[str(c) for c in r] for r in (header, *rows)]
    widths = [max(len(r[i]) for r in cells) for i in range(len(header))]
    while sum(widths) + 2 * (len(widths) - 1) > room and max(widths) > 8:
        widths[widths.index(max(widths))] -= 1
    return ["  ".join(_fit(c, w) for c, w in zip(r, widths, strict=True)).rstrip() for r in cells]


def _fit(text: str, width: int) -> str:
    return text.ljust(width) if len(text) <= width else text[: width - 1] + "~"


def partial(skipped: int, acknowledged: int, keep_going: bool) -> ExitCode:
    """Exit code of a batch: 3 when inputs were skipped that nobody acknowledged."""
    return ExitCode.PARTIAL if skipped > acknowledged and not keep_going else ExitCode.OK
