"""Options of every command: a name that two of them share would take the value of one for the other."""

from __future__ import annotations

import importlib
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from choreo_cli.app import COMMANDS

PROCEDURE = Path(__file__).resolve().parents[2] / "man" / "man7" / "choreo-live.7"
LINES = [
    line.replace("\\", "")
    for line in PROCEDURE.read_text(encoding="utf-8").splitlines()
    if line.startswith("choreo ") and not line.startswith("choreo run\\-live (")
]


def commands(name: str) -> Iterator[tuple[str, Any]]:
    """The command and all below it, with the words that call them."""
    todo = [(name, get_command(importlib.import_module(COMMANDS[name][0]).app))]
    while todo:
        words, command = todo.pop()
        below = getattr(command, "commands", {})
        todo += [(f"{words} {word}", sub) for word, sub in below.items()]
        if not below:
            yield words, command


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_no_two_options_of_a_command_share_a_name(name: str) -> None:
    for words, command in commands(name):
        names = [one for p in command.params for one in (*p.opts, *p.secondary_opts) if one.startswith("-")]
        assert sorted(names) == sorted(set(names)), words
        assert names, words


@pytest.mark.parametrize("line", LINES)
def test_every_line_of_the_procedure_of_a_show_can_be_typed(line: str) -> None:
    """Parsed and not run: what it names is there only on the evening."""
    words = shlex.split(line)[1:]
    command, args = get_command(importlib.import_module(COMMANDS[words[0]][0]).app), words[1:]
    context = command.make_context("choreo", list(args), resilient_parsing=False)
    while below := getattr(command, "commands", {}):
        command, args = below[args[0]], args[1:]
        context = command.make_context(args[0] if args else "", list(args), parent=context)
    assert context.params
    if "--record-targets" in args:
        assert "-o" in args, "a lesson is kept beside the recording"
