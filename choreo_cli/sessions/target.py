"""Where `pair` writes: the part of the kernel's output folder that the domain may see."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol


class Target(Protocol):
    """Where outputs go: the kernel's output folder."""

    path: Path

    def target(self, relative: str) -> Path: ...
    def add(self, role: str, relative: str, sha256: str) -> None: ...
    def write(self, role: str, relative: str, data: bytes) -> None: ...
