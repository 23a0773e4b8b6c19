"""Arrow without what a performance has no use for: half of the memory of `run-live` was that.

Measured with half an hour of frames, recorded: 172 MB at the most, of which 42 were pandas, and 18 what Arrow's own
allocator keeps for later.
"""

from __future__ import annotations

import os
import sys
from typing import Any

UNUSED = "pandas"


class _Refuses:
    """A finder that has no pandas. Arrow imports it, where it is installed, to ask whether an array is one of its."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        """See `importlib.abc.MetaPathFinder`."""
        if name == UNUSED:
            raise ModuleNotFoundError(f"no {UNUSED} in a performance", name=UNUSED)


def spare_memory() -> None:
    """Keep pandas and Arrow's own allocator out of this process; before pyarrow is imported, and for good.

    Only a command may say so of its process, never a library. An allocator that the user named stays.
    """
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    if not any(isinstance(finder, _Refuses) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Refuses())
