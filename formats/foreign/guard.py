"""One funnel for what parsers raise on bytes nobody planned for."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

from formats.errors import FormatError
from formats.foreign.source import Source

F = TypeVar("F", bound=Callable[..., Any])
PARSER_ERRORS = (ValueError, LookupError, TypeError, ArithmeticError, RecursionError, AttributeError, EOFError)


def contained(read: F) -> F:
    """Make a reader raise only FormatError (naming the file) and OSError, whatever its parser meets."""

    @wraps(read)
    def inner(source: Source, *args: Any, **kwargs: Any) -> Any:
        try:
            return read(source, *args, **kwargs)
        except FormatError as e:
            if e.file is not None:
                raise
            raise FormatError(e.message, file=source.path, row=e.row, field=e.field, hint=e.hint) from None
        except PARSER_ERRORS as e:
            raise FormatError(f"cannot be read: {type(e).__name__}: {str(e)[:120]}", file=source.path) from e

    return cast("F", inner)
