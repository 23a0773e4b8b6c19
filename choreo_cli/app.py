"""The table of commands and the group that imports a command only when it runs."""

from __future__ import annotations

import os
from typing import Any

import typer
from typer.core import TyperGroup

COMMANDS: dict[str, tuple[str, str]] = {
    "discover": ("commands.discover", "List every recording under PATHS, with its facts and its doubts"),
    "pair": ("commands.pair", "Match sessions to music, align their clocks, write frames and windows"),
    "synth": ("commands.synth", "Make openly synthetic sessions and trajectories with known truth"),
    "retarget": ("commands.retarget", "Turn motion of any format into choreo25, and choreo25 into others"),
    "run-live": ("commands.run_live", "Play: a body moves, five controls go out, in real time"),
    "calibrate": ("commands.calibrate", "Measure a body's range, or a receiver's latency, before a show"),
    "capture": ("commands.capture", "Turn sensors and recordings of a body into clean choreo25, offline and live"),
    "evaluate": ("commands.evaluate", "Judge runs and controls on held-out sessions, against chance"),
    "train": ("commands.train", "Train one recipe on frames, on the run of another, or branches on trajectories"),
    "distill": ("commands.distill", "Make a small dancer of a trained one: one to four steps, guidance built in"),
    "export": ("commands.export", "Write a motion network as ONNX, Core ML, MLX or Swift, proved"),
    "generate": ("commands.generate", "Dance to music: clips of any length, from a trained model"),
    "render": ("commands.render", "Draw motion and trajectories as film, pictures and a page that plays"),
    "report": ("commands.report", "Judge runs on one page: promote, hold, what is missing; or compare branches"),
    "status": ("commands.status", "Tell how trainings are doing, and what this machine offers"),
    "describe": ("commands.describe", "Put trajectories into equations and words, and judge them"),
    "prefer": ("commands.prefer", "Ask a person which of two clips is better, and keep every answer"),
    "inspect": ("commands.inspect", "Look inside any file: schema, ranges, gaps, histograms, a picture"),
    "check": ("commands.check", "Verify schema, bounds and hashes of any artefact"),
    "bench": ("commands.bench", "Measure speed and memory beside a baseline and a floor"),
}
TWO_WORDS = ("synth", "calibrate", "capture", "evaluate", "train", "render", "describe", "bench")
"""Commands whose second word says what they do it to: their errors begin with both."""
CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class LazyGroup(TyperGroup):
    """A group whose help needs no command to be imported."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        return load(cmd_name)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from difflib import get_close_matches

            near = get_close_matches(args[0], COMMANDS, 1)
            hint = f"did you mean: choreo {near[0]}?" if near else "see choreo --help"
            from choreo_cli.errors import UsageError

            raise UsageError(f"no command {args[0]!r}", hint=hint)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


def load(name: str) -> Any:
    """The parser of one command; imports its module."""
    import importlib

    module = importlib.import_module(COMMANDS[name][0])
    command = typer.main.get_command(module.app)
    command.name = name
    return command


def _version(value: bool) -> None:
    if value:
        from choreo_cli import __version__

        typer.echo(f"choreo {__version__}")
        raise typer.Exit()


def _completion(value: str | None) -> None:
    if value:
        from typer._completion_shared import get_completion_script

        typer.echo(get_completion_script(prog_name="choreo", complete_var="_CHOREO_COMPLETE", shell=value))
        raise typer.Exit()


app = typer.Typer(
    name="choreo",
    cls=LazyGroup,
    add_completion=False,
    rich_markup_mode=None,
    context_settings=CONTEXT,
)
GLOBAL_FLAGS = ("--debug", "--no-color")


@app.callback(invoke_without_command=True)
def root(
    ctx: typer.Context,
    version: bool = typer.Option(False, "--version", is_eager=True, callback=_version, help="Print the version."),
    completion: str | None = typer.Option(
        None,
        "--completion",
        is_eager=True,
        callback=_completion,
        metavar="bash|zsh|fish",
        help="Print the shell's completion script.",
    ),
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error (may stand anywhere)."),
    no_color: bool = typer.Option(False, "--no-color", help="Never print escape codes (may stand anywhere)."),
) -> None:
    """Machine learning between music and the moving body, in small commands.

    choreo discover DIR | choreo pair -o OUT turns recordings into a paired, checked dataset.
    """
    if ctx.invoked_subcommand is None:
        from choreo_cli.errors import UsageError

        raise UsageError("a command is needed", hint="see choreo --help")


def run(argv: list[str]) -> int:
    """Parse and run; returns the exit code. Usage errors leave as UsageError, one line each."""
    from typer._click.exceptions import ClickException
    from typer._click.exceptions import UsageError as ClickUsage

    from choreo_cli.errors import ChoreoError, UsageError

    end = argv.index("--") if "--" in argv else len(argv)
    argv = [a for a in argv[:end] if a not in GLOBAL_FLAGS] + argv[end:]
    group: Any = typer.main.get_command(app)
    if "_CHOREO_COMPLETE" in os.environ:
        from typer._completion_classes import completion_init

        completion_init()
        group._main_shell_completion({}, "choreo", "_CHOREO_COMPLETE")
    try:
        # Not group.main: it turns a closed pipe into exit 1 in silence.
        with group.make_context("choreo", argv) as ctx:
            code = group.invoke(ctx)
    except typer.Exit as e:
        return int(e.exit_code)
    except ClickUsage as e:
        text = " ".join(e.format_message().split()).rstrip(".")
        where = e.ctx.command_path if e.ctx else "choreo"
        raise UsageError(text[:1].lower() + text[1:], hint=f"see {where} --help") from None
    except ClickException as e:
        raise ChoreoError(e.format_message()) from None
    return code if isinstance(code, int) else 0
