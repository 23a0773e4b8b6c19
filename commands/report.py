"""`choreo report`: judge runs and figures, on one page that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from choreo_cli import options, streams
from choreo_cli.errors import ExitCode, UsageError
from commands import report_compare

if TYPE_CHECKING:
    from choreo_cli.report.run_document import Report
    from choreo_cli.report.run_reproduce import Line

app = options.app()
EXITS = (
    ExitCode.NO, ExitCode.PARTIAL, ExitCode.DATA, ExitCode.NOINPUT, ExitCode.CANTCREAT, ExitCode.IO, ExitCode.TEMPFAIL,
)  # fmt: skip
EXAMPLES = (
    ("choreo report dataset --keep-going -o report", "What is known of a dataset, and what is missing"),
    (
        "choreo report rps mapper groove.json --figures figures -o judged || echo 'not yet: see judged/report.html'",
        "Judge a model; exit 1 holds it, 3 says what is missing",
    ),
    ("choreo report rps rps-seeds --fail-if-worse --keep-going --table", "Is the second worse than the first"),
    *report_compare.EXAMPLES,
)


@app.command()
def report(
    inputs: Annotated[
        list[Path] | None,
        typer.Argument(metavar="RUN...", help="Run folders, metrics.json, datasets; - or nothing reads stdin."),
    ] = None,
    *,
    out: Annotated[Path | None, typer.Option("-o", "--out", metavar="DIR", help="Folder to write into.")] = None,
    figures: Annotated[
        Path | None, typer.Option("--figures", metavar="DIR", help="Also write each drawing as PDF and 300-dpi PNG.")
    ] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Compare branches of train video: a winner by rule, or none.")
    ] = False,
    branch: Annotated[
        list[Path] | None,
        typer.Option("--branch", metavar="FILE", help="With --compare: whose language model is whose; repeatable."),
    ] = None,
    fail_if_worse: Annotated[
        bool, typer.Option("--fail-if-worse", help="Of two inputs: exit 1 when the second is worse than the first.")
    ] = False,
    root: options.Roots = None,
    keep_going: Annotated[bool, typer.Option("--keep-going", help="Exit 0 although evidence is missing.")] = False,
    wait: options.Wait = 0.0,
    json: options.Json = False,
    table: options.TableOut = False,
    quiet: options.Quiet = False,
) -> int:
    """Judge runs and figures: PROMOTE, HOLD or INCOMPLETE, and why.

    OUT receives report.html (one page, no script, no request), report.md and, last, report.json: decision, runs,
    datasets with their leak check, figures against gates, drawings, the commands that make everything again with the
    digests they must come to, differences between surroundings, and evidence that is missing.

    Of each recipe the first configuration is judged and others stand beside it; seeds are taken together. Exit 0 for
    PROMOTE, 1 for HOLD, 3 for INCOMPLETE (0 with --keep-going). With --fail-if-worse the exit answers that alone: 1
    when any figure of the second input is worse beyond the interval, 3 when none could be judged.

    With --compare the runs are branches of train video: OUT receives PARALLEL_RESULTS_COMPARISON.md, comparison.html
    and, last, comparison.json. The rule stands first; the answer is a winner, no significant winner, or INCOMPLETE (3).
    Output folders of describe trajectories --predictions among RUN tell how each branch was worded, and by which model.
    """
    if compare:
        if figures is not None or fail_if_worse:
            raise UsageError("--compare goes with neither --figures nor --fail-if-worse")
        how: dict[str, Any] = {"wait": wait, "json": json, "table": table, "quiet": quiet}
        code = report_compare.compare(inputs or [], out, options.root_overrides(root), branch or [], **how)
        return ExitCode.OK if keep_going and code == ExitCode.PARTIAL else code
    if branch:
        raise UsageError("--branch goes with --compare")
    if out is None and figures is None and not fail_if_worse:
        raise UsageError("missing option '-o' / '--out'", hint="see choreo report --help")
    made = _made(inputs or [], options.root_overrides(root), fail_if_worse)
    from choreo_cli.report import run_files

    doc = run_files.encode(made)
    if figures is not None:
        _write(figures, run_files.drawings(made), wait)
    if out is not None:
        _write(out, run_files.files(made, doc), wait)
    keep = f"read {out / 'report.html'}" if out is not None else "keep it with -o DIR"
    streams.emit(doc, lambda: run_files.lines(made, streams.columns), out=None, json=json, as_table=table, keep=keep)
    del quiet  # nothing is told on stderr
    code = run_files.comparison_exit(made) if fail_if_worse else made.exit
    return ExitCode.OK if keep_going and code == ExitCode.PARTIAL else code


def _made(inputs: Sequence[Path], roots: Mapping[str, str], fail_if_worse: bool) -> Report:
    """The report of what was named, and of what was piped in when `-` is among it or nothing is named."""
    from choreo_cli.report import run_compare, run_document, run_gather
    from choreo_cli.report.run_reproduce import Grammar

    named = [p for p in inputs if str(p) != "-"]
    piped = None
    if not inputs or len(named) < len(inputs):
        piped, _, _ = streams.read_document(None, "report", "run")
    found = run_gather.gather(named, piped, roots)
    made = run_document.make_report(found, Grammar(parse, rebuild), {"fail_if_worse": fail_if_worse})
    if fail_if_worse:
        made.document["comparison"] = run_compare.compare(found.named)
    return made


def _write(folder: Path, files: Mapping[str, bytes], wait: float) -> None:
    """Files into a folder under its lock, in their order."""
    from choreo_cli.outputs import output_folder

    with output_folder(folder, "report", {}, wait_s=wait) as target:
        for name, data in files.items():
            target.write("report", name, data)


def parse(argv: Sequence[str]) -> Line | None:
    """A command line of this program by its declarations; None when it is not one of this version."""
    from choreo_cli.report.run_reproduce import DROPPED, Line, Value

    found = _command(argv)
    if found is None:
        return None
    words, command, rest = found
    context = command.context_class(command, info_name=words[-1])
    try:
        given, _, order = command.make_parser(context).parse_args(args=list(rest))
    except Exception:  # an option of another version: the parser has many ways to say so
        return None
    values = []
    for p in dict.fromkeys(order):
        for value in _each(given.get(p.name)) if p.name not in DROPPED else ():
            flag = "" if p.param_type_name == "argument" else _flag(p, value)
            plain = p.param_type_name == "option" and p.is_flag
            values.append(Value(flag, None if plain else str(value), p.type.name in ("path", "file")))
    return Line(tuple(words), tuple(sorted(values, key=lambda v: bool(v.flag))))


def rebuild(words: Sequence[str], params: Mapping[str, Any]) -> Line | None:
    """A command line from resolved parameters: the options that differ from their defaults."""
    from choreo_cli.report.run_reproduce import DROPPED, Line, Value

    found = _command(words)
    if found is None:
        return None
    names, command, rest = found
    values = [Value("", w, False) for w in rest]
    for p in command.params:
        value = params.get(p.name)
        if p.param_type_name != "option" or p.name in DROPPED or p.name not in params or value == p.default:
            continue
        if value is None or isinstance(value, dict) or value == [] or value is False:
            continue
        for one in _each(value):
            values.append(Value(_flag(p, one), None if p.is_flag else str(one), p.type.name in ("path", "file")))
    return Line(tuple(names), tuple(values))


def _command(argv: Sequence[str]) -> tuple[list[str], Any, list[str]] | None:
    """(the words of the command, its parser, what follows them)."""
    from choreo_cli.app import COMMANDS, GLOBAL_FLAGS, load

    words = [w for w in argv if w not in GLOBAL_FLAGS]
    if not words or words[0] not in COMMANDS:
        return None
    command = load(words[0])
    subs = getattr(command, "commands", None)
    if not subs:
        return words[:1], command, words[1:]
    return (words[:2], subs[words[1]], words[2:]) if len(words) > 1 and words[1] in subs else None


def _each(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def _flag(p: Any, value: Any) -> str:
    names = p.secondary_opts if value is False and p.secondary_opts else p.opts
    return str(max(names, key=len))
