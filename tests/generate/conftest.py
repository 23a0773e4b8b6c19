"""`choreo generate` inside the process of the tests."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import NamedTuple

import pytest

from choreo_cli import __main__ as program


class Done(NamedTuple):
    code: int
    out: bytes
    err: str


Run = Callable[..., Done]


@pytest.fixture
def run(capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Run:
    """The program inside this process: torch is imported once."""

    def called(*args: object) -> Done:
        argv = ["generate", *map(str, args)]
        monkeypatch.setattr(sys, "argv", ["choreo", *argv])
        capfdbinary.readouterr()
        code = int(program._guarded(argv))
        out, err = capfdbinary.readouterr()
        return Done(code, out, err.decode())

    return called


def one_line(done: Done, code: int, message: str) -> None:
    assert done.code == code and done.out == b"", done
    assert done.err.count("\n") == 1 and done.err.startswith("choreo generate: "), done.err
    assert message in done.err
