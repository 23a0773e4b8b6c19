"""`choreo describe`: equations and sentences for trajectories."""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from choreo_cli import options, streams
from choreo_cli.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from choreo_cli.trajectory.language import OpenAiServer

app = options.app()
EXITS = (
    ExitCode.NO, ExitCode.DATA, ExitCode.NOINPUT, ExitCode.UNAVAILABLE, ExitCode.CANTCREAT, ExitCode.IO,
    ExitCode.TEMPFAIL,
)  # fmt: skip
EXAMPLES = (
    ("choreo synth trajectories --num 20 --test 40 --grid 0 -o curves"
     " | choreo describe trajectories - --no-gate -o told", "Fit every test curve and judge what is told"),
    ("choreo describe trajectories curves --solver template --rows 8 --no-gate -o words", "Eight, in sentences"),
)  # fmt: skip
KEY = "CHOREO_LLM_KEY"


@app.callback()
def describe() -> None:
    """Put what was measured into equations and words."""


@app.command()
def trajectories(
    source: Annotated[
        Path | None, typer.Argument(metavar="SET", help="Folder or manifest of synth trajectories; - reads stdin.")
    ] = None,
    *,
    out: options.OutDir,
    solver: Annotated[
        str, typer.Option("--solver", metavar="fit|template|llm:URL", help="Who tells it; llm words the fit.")
    ] = "fit",
    model: Annotated[
        str, typer.Option("--model", metavar="NAME", help="With llm: the model's name on its server.")
    ] = "",
    split: Annotated[str, typer.Option("--split", metavar="test|grid|val|train", help="Which views.")] = "test",
    rows: Annotated[int, typer.Option("--rows", min=0, help="The first so many; 0 for all.")] = 0,
    predictions: Annotated[
        Path | None,
        typer.Option("--predictions", metavar="RUN|FILE", help="Of a run: tell what it saw, not the truth."),
    ] = None,
    cache: Annotated[
        Path | None, typer.Option("--cache", metavar="DIR", help="With llm: keep every answer here.")
    ] = None,
    replay: Annotated[bool, typer.Option("--replay", help="With --cache: only recorded answers, no server.")] = False,
    max_requests: Annotated[
        int | None, typer.Option("--max-requests", min=0, help="Of the model, retries too.")
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option("--max-tokens", min=0, help="Questions and answers together.")
    ] = None,
    timeout: Annotated[
        float, typer.Option("--timeout", min=0.1, metavar="SECONDS", help="For one answer.", callback=options.finite)
    ] = 60.0,
    retries: Annotated[int, typer.Option("--retries", min=0, max=20, help="After the first try.")] = 4,
    root: options.Roots = None,
    seed: options.Seed = 0,
    no_gate: Annotated[bool, typer.Option("--no-gate", help="Exit 0 although a gate failed.")] = False,
    force: options.Force = False,
    wait: options.Wait = 0.0,
    json: options.Json = False,
    table: options.TableOut = False,
    quiet: options.Quiet = False,
    log_json: options.LogJson = None,
) -> int:
    """Tell trajectories as equations and sentences, and judge them against the truth.

    fit solves for the curve, template words it, llm:URL asks any server of the OpenAI-compatible protocol to word it,
    with a schema; an answer that cannot be used is asked for once more and then told by template, counted. The key is
    read from the environment, CHOREO_LLM_KEY. OUT receives descriptions.parquet and, last, metrics.json.

    With --predictions the solver reads the 16 points that a branch saw and tells them in the family that the branch
    named; the solver's own family stands beside it, and errors of seeing, of solving and of both are reported apart.
    """
    engine, server = _server(solver, model, cache, replay, max_requests, max_tokens, timeout, retries)
    from choreo_cli.trajectory.sets import open_set, set_file

    manifest = streams.read_manifest(set_file(source or Path("-")), "describe trajectories", ("choreo.trajectories",))
    of = open_set(manifest, options.root_overrides(root))
    params: dict[str, Any] = {"solver": engine, "model": model, "split": split, "rows": rows}
    if server is not None:
        from choreo_cli.trajectory.describe import PROMPT

        params |= {"prompt": PROMPT, "temperature": server.temperature}
    how: dict[str, Any] = {"force": force, "wait": wait, "quiet": quiet, "log": log_json, "seed": seed}
    doc, keep = _write(out, of, manifest, params, engine, server, _table(predictions, split), **how)
    from choreo_cli.metrics import table as tables
    from formats.manifest import decode

    entries = decode(doc).entries
    shown = partial(streams.columns, tables.rows(entries), tables.HEADER)
    streams.emit(doc, shown, out=None, json=json, as_table=table, keep=keep)
    return int(ExitCode.NO if tables.failed(entries) and not no_gate else ExitCode.OK)


def _table(named: Path | None, split: str) -> Path | None:
    """The table of predictions, named itself or by the folder of its run."""
    if named is None or not named.is_dir():
        return named
    from choreo_cli.trajectory.predictions import FILES

    return named / FILES.get(split, FILES["test"])


def _server(
    solver: str, model: str, cache: Path | None, replay: bool, requests: int | None, tokens: int | None, timeout: float,
    retries: int,
) -> tuple[str, OpenAiServer | None]:  # fmt: skip
    engine, _, url = solver.partition(":")
    if engine in ("fit", "template") and not url:
        if model or cache or replay:
            raise UsageError("--model, --cache and --replay belong to --solver llm:URL")
        return engine, None
    if engine != "llm" or not url:
        raise UsageError(f"--solver {solver} is not fit, template or llm:URL", hint="llm:http://127.0.0.1:8080/v1")
    if not model:
        raise UsageError("--solver llm needs --model NAME", hint="the name the server knows it by")
    if replay and cache is None:
        raise UsageError("--replay needs --cache DIR")
    from choreo_cli.trajectory.language import Budget, Memory, OpenAiServer

    memory = None if cache is None else Memory(cache, replay)
    budget = Budget(requests, tokens)
    return engine, OpenAiServer(url, model, os.environ.get(KEY), timeout, retries, budget, memory)


def _write(
    out: Path, of: Any, manifest: Any, params: dict[str, Any], engine: str, server: Any, seen: Path | None, *,
    force: bool, wait: float, quiet: bool, log: Path | None, seed: int,
) -> tuple[bytes, str]:  # fmt: skip
    from json import dumps

    from choreo_cli.outputs import output_folder
    from choreo_cli.progress import Progress
    from choreo_cli.runtime import provenance
    from choreo_cli.trajectory import describe_job
    from formats.atomic import sha256_file

    inputs = [{"role": "trajectories", "sha256": manifest.sha256, "schema": manifest.schema}]
    if seen is not None:
        inputs.append({"role": "predictions", "sha256": sha256_file(seen), "schema": "choreo.predictions/1"})
    made_by = provenance("describe trajectories", params, inputs, seed=seed)
    made_by["deterministic"] = engine != "llm"
    with (
        output_folder(out, "metrics", made_by, wait_s=wait) as folder,
        Progress("describe trajectories", quiet=quiet, log=log) as bar,
    ):
        before = folder.begin(force)
        if before is not None:
            return before, folder.already
        found = describe_job.describe_set(
            of, params["split"], params["rows"], engine, server, seen=seen, seed=seed, on_progress=bar
        )
        for line in found.notes:
            bar.note(line)
        name = "descriptions.parquet"
        sha = describe_job.write(folder.target(name), found, {"choreo": dumps(made_by, sort_keys=True)})
        folder.add("descriptions", name, sha)
        return folder.finish(found.entries, ExitCode.OK, sys.argv[1:]), f"kept in {out}; see {out / name}"
