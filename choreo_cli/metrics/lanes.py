"""Scorers that live in a lane, found by name: metrics know no lane."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from choreo_cli.errors import UnavailableError
from choreo_cli.training.recipes import module_of


def score_of(recipe: str) -> Callable[..., Any]:
    """A recipe's `score(folder, frames)`. Raises UnavailableError when what it needs is not installed."""
    return scorer(module_of(recipe), "score")


def scorer(module: str, name: str) -> Callable[..., Any]:
    """A function of a lane's module.

    Raises:
        UnavailableError: a package it needs is not installed.
    """
    try:
        found: Callable[..., Any] = getattr(import_module(module), name)
    except ModuleNotFoundError as e:
        raise UnavailableError(f"{e.name} is not installed", hint="pip install 'choreo[train]'") from None
    return found
