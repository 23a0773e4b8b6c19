"""Fixtures of the dataset tests."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from small_pack import Source, make_source


@pytest.fixture
def source() -> Source:
    return make_source()


@pytest.fixture
def sources() -> Callable[..., Source]:
    return make_source
