"""Errors and exit codes: every way a command can end has a name and a sentence."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit status of every command; generated into the man pages."""

    OK = 0
    NO = 1
    USAGE = 2
    PARTIAL = 3
    DATA = 65
    NOINPUT = 66
    UNAVAILABLE = 69
    BUG = 70
    CANTCREAT = 73
    IO = 74
    TEMPFAIL = 75
    CONFIG = 78
    HUP = 129
    INT = 130
    PIPE = 141
    TERM = 143


MEANING: dict[ExitCode, str] = {
    ExitCode.OK: "done",
    ExitCode.NO: "it ran, and the answer is no: a gate failed, damage was found, nothing could be paired",
    ExitCode.USAGE: "bad arguments",
    ExitCode.PARTIAL: "some inputs were skipped, each listed with its reason",
    ExitCode.DATA: "bad input data, or the wrong kind of manifest",
    ExitCode.NOINPUT: "an input is missing",
    ExitCode.UNAVAILABLE: "a device, port, server or optional extra is missing",
    ExitCode.BUG: "an error of ours; a crash file was written",
    ExitCode.CANTCREAT: "the output cannot be created",
    ExitCode.IO: "reading or writing failed, for example a full disk",
    ExitCode.TEMPFAIL: "the output is locked by another run",
    ExitCode.CONFIG: "bad configuration",
    ExitCode.HUP: "ended by SIGHUP",
    ExitCode.INT: "ended by Ctrl-C",
    ExitCode.PIPE: "the reader of the output went away",
    ExitCode.TERM: "ended by SIGTERM",
}


class ChoreoError(Exception):
    """A failure with a sentence for the person and a code for the shell.

    Args:
        message: What is wrong and where, one line, no trailing period.
        hint: What to do next.
    """

    code: ExitCode = ExitCode.DATA

    def __init__(self, message: str, *, hint: str = "", code: ExitCode | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if code is not None:
            self.code = code

    def __str__(self) -> str:
        return f"{self.message}: {self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.message, self.hint, int(self.code))


def _rebuild(kind: type[ChoreoError], message: str, hint: str, code: int) -> ChoreoError:
    return kind(message, hint=hint, code=ExitCode(code))


class UsageError(ChoreoError):
    """Bad arguments."""

    code = ExitCode.USAGE


class DataError(ChoreoError):
    """Input data that cannot be used at all."""

    code = ExitCode.DATA


class NoInputError(ChoreoError):
    """An input is missing."""

    code = ExitCode.NOINPUT


class UnavailableError(ChoreoError):
    """A device, port, server or optional extra is missing; the hint holds the install line."""

    code = ExitCode.UNAVAILABLE


class CantCreateError(ChoreoError):
    """The output cannot be created."""

    code = ExitCode.CANTCREAT


class StorageError(ChoreoError):
    """Reading or writing failed part way."""

    code = ExitCode.IO


class LockedError(ChoreoError):
    """Another run holds the output."""

    code = ExitCode.TEMPFAIL


class ConfigError(ChoreoError):
    """Bad configuration."""

    code = ExitCode.CONFIG


class NoAnswerError(ChoreoError):
    """It ran, and the answer is no."""

    code = ExitCode.NO
