"""The one error of the contracts on disk; the kernel turns it into one line and exit 65, or 78 for configuration."""

from __future__ import annotations

from pathlib import Path


class FormatError(Exception):
    """Data that does not keep its contract.

    Args:
        message: What is wrong, in one line, without a trailing period.
        file: The file it was found in.
        row: 1-based line of a text file, 0-based row of a table.
        field: Column, key or joint.
        hint: What to do next.
    """

    def __init__(
        self,
        message: str,
        *,
        file: str | Path | None = None,
        row: int | None = None,
        field: str | None = None,
        hint: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.file = None if file is None else str(file)
        self.row = row
        self.field = field
        self.hint = hint

    def __str__(self) -> str:
        where = [w for w in (self.file, f"row {self.row}" if self.row is not None else "", self.field) if w]
        text = f"{self.message} ({', '.join(where)})" if where else self.message
        return f"{text}: {self.hint}" if self.hint else text

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.message, self.file, self.row, self.field, self.hint)


class ConfigFileError(FormatError):
    """A file by which the user says how to work: a map of keys, a control map. The kernel ends with 78, not 65."""

    @classmethod
    def of(cls, e: FormatError) -> ConfigFileError:
        """The same sentence, said of configuration."""
        return cls(e.message, file=e.file, row=e.row, field=e.field, hint=e.hint)


def _rebuild(
    kind: type[FormatError], message: str, file: str | None, row: int | None, field: str | None, hint: str
) -> FormatError:
    return kind(message, file=file, row=row, field=field, hint=hint)
