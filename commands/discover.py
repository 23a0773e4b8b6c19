"""`choreo discover`: list every recording under PATHS, with its facts and its doubts."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from choreo_cli import options, streams
from choreo_cli.errors import ExitCode

if TYPE_CHECKING:
    from choreo_cli.progress import Progress
    from choreo_cli.sessions.discover import DiscoverOptions, Inventory

FIRST = 3  # reasons on the one line of stderr
app = options.app()
EXITS = (ExitCode.CONFIG, ExitCode.PARTIAL, ExitCode.NOINPUT, ExitCode.CANTCREAT, ExitCode.IO)
EXAMPLES = (
    ("choreo discover recordings", "See what is there"),
    ("choreo discover recordings -o inventory.json", "Keep the inventory; a second run looks only at what changed"),
    ("choreo discover recordings | choreo pair -o dataset", "Hand it on"),
    ("choreo discover recordings --features features > /dev/null", "Extract audio features without pairing"),
)


@app.command()
def discover(
    paths: Annotated[
        list[Path] | None, typer.Argument(metavar="PATH...", help="Folders or files to look through.")
    ] = None,
    *,
    out: options.OutFile = None,
    features: Annotated[
        Path | None, typer.Option("--features", metavar="DIR", help="Also extract audio features into DIR.")
    ] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Look at every file again, changed or not.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Treat doubts as reasons not to use a file.")] = False,
    fps: Annotated[
        float | None,
        typer.Option("--fps", min=0.1, max=1000, help="Rate of pose folders that state none.", callback=options.finite),
    ] = None,
    map_file: Annotated[
        Path | None, typer.Option("--map", metavar="YAML", help="How to read pose logs with keys of their own.")
    ] = None,
    mtime_clock: Annotated[
        bool, typer.Option("--mtime-clock", help="Trust modification times as clocks; copies rewrite them.")
    ] = False,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Neither read nor write the cache.")] = False,
    jobs: options.Jobs = 0,
    keep_going: options.KeepGoing = False,
    json: options.Json = False,
    table: options.TableOut = False,
    quiet: options.Quiet = False,
    log_json: options.LogJson = None,
) -> int:
    """List every recording under PATHS, with its facts and its doubts.

    Files are recognised by content. What cannot be used is listed with its reason; a pattern in .choreoignore
    acknowledges it. Nothing is followed out of PATHS, changed, or executed.
    """
    from choreo_cli.errors import UsageError
    from choreo_cli.progress import Progress
    from choreo_cli.runtime import cache_folder, core_count
    from choreo_cli.sessions.discover import DiscoverOptions
    from choreo_cli.sessions.discover import discover as find

    if not paths:
        raise UsageError("needs a folder to look through", hint="see choreo discover --help")
    mapping = None
    if map_file is not None:
        from formats.foreign.mapping import load_map

        mapping = load_map(map_file)
    chosen = DiscoverOptions(core_count(jobs), verify, strict, mtime_clock, fps, mapping)
    with Progress("discover", quiet=quiet, log=log_json) as bar:
        found = find(paths, chosen, None if no_cache else cache_folder(), bar)
        code = streams.partial(len(found.skipped), sum(e["acknowledged"] for e in found.skipped), keep_going)
        if features is not None and _extract(found, features, bar):
            code = ExitCode.OK if keep_going else ExitCode.PARTIAL
        for line in remarks(found):
            bar.note(line)
    keep = "keep it with -o FILE, or pipe it into choreo pair -o DIR"
    shown = partial(summary, found)
    streams.emit(_document(found, chosen), shown, out=out, json=json, as_table=table, keep=keep)
    return int(code)


def _extract(found: Inventory, folder: Path, bar: Progress) -> bool:
    """Extract features; whether some recordings could not be."""
    from choreo_cli.sessions.feature_export import export_features

    done = export_features(found.entries, found.roots, folder, bar)
    for path, why in done.failed:
        bar.note(f"no features of {printable(path)}: {printable(why)}")
    return bool(done.failed)


def _document(found: Inventory, chosen: DiscoverOptions) -> bytes:
    from choreo_cli.runtime import provenance
    from formats.manifest import Manifest, Root, encode

    params = {
        "strict": chosen.strict,
        "mtime_clock": chosen.mtime_clock,
        "fps": chosen.fps,
        "map": chosen.mapping,
    }
    roots = [Root(k, str(p)) for k, p in found.roots.items()]
    return encode(Manifest("choreo.inventory/1", provenance("discover", params, []), found.entries, roots))


def remarks(found: Inventory) -> list[str]:
    """What a person should know at once: what cannot be used and why, what was left alone, what was not opened."""
    lines = []
    open_ = [e for e in found.skipped if not e["acknowledged"]]
    if open_:
        first = "; ".join(f"{printable(e['path'])} ({printable(e['reason'])})" for e in open_[:FIRST])
        more = f"; {len(open_) - FIRST} more in the inventory" if len(open_) > FIRST else ""
        lines.append(f"cannot use {len(open_)} of {found.total} files: {first}{more}")
    for what, counter in (("left alone", found.ignored), ("not opened", found.special)):
        if counter:
            lines.append(f"{what}: " + ", ".join(f"{n} {printable(k)}" for k, n in sorted(counter.items())))
    return [*lines, *found.notes]


def printable(text: str) -> str:
    """Text of a stranger for a terminal: control characters are shown, not obeyed."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def summary(found: Inventory) -> list[str]:
    """Count, hours, doubts and refusals by kind."""
    rows = []
    for kind in sorted({e["kind"] for e in found.entries}):
        of = [e for e in found.entries if e["kind"] == kind]
        hours = sum(e["duration_us"] or 0 for e in of if e["reason"] is None) / 3.6e9
        formats = " ".join(printable(f) for f in sorted({e["format"] for e in of}))
        doubts, bad = sum(bool(e["problems"]) for e in of), sum(e["reason"] is not None for e in of)
        rows.append(
            (kind, str(len(of)), f"{hours:.2f}" if hours >= 0.005 else "", str(doubts or ""), str(bad or ""), formats)
        )
    return streams.columns(rows, ("kind", "count", "hours", "doubts", "unusable", "formats"))
