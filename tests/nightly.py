"""How much larger the long campaigns are tonight: `CHOREO_NIGHTLY=4` is four times what `make test-slow` does."""

from __future__ import annotations

import os

FACTOR = max(1, int(os.environ.get("CHOREO_NIGHTLY", "1")))


def size(n: int) -> int:
    """What a slow campaign of this size does tonight."""
    return n * FACTOR
