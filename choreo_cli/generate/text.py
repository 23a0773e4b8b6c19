"""Texts as vectors. The built-in encoder hashes words and letters: it compares spelling, not meaning."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from choreo_cli.errors import DataError, UsageError
from choreo_cli.generate.config import TEXT_WIDTH

F32 = NDArray[np.float32]
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)?")
LONGEST = 4096  # characters


class TextEncoder(Protocol):
    """Sentences to vectors.

    Attributes:
        id: Kept in data sets and checkpoints; another encoder is refused.
        dimension: Numbers of a vector.
        semantic: Whether near meanings have near vectors.
    """

    id: str
    dimension: int
    semantic: bool

    def encode(self, texts: Sequence[str]) -> tuple[F32, F32 | None]:
        """Pooled vectors (B, dimension), and token vectors (B, L, dimension) where the encoder has them."""
        ...


class HashEncoder:
    """Signed feature hashing of words, pairs of words and triples of letters (Weinberger et al., ICML 2009).

    Lexical: "jump" and "jumps" are near because their letters are, "leap" is as far as any other word. A text without
    a letter or digit is the zero vector, which is also the absent text.
    """

    id = f"hash-{TEXT_WIDTH}"
    dimension = TEXT_WIDTH
    semantic = False
    kind = "lexical"

    def encode(self, texts: Sequence[str]) -> tuple[F32, None]:
        """Unit vectors (B, 384) float32, or zeros. Raises DataError for a text of more than 4096 characters."""
        out = np.zeros((len(texts), TEXT_WIDTH), np.float32)
        for row, text in enumerate(texts):
            if len(text) > LONGEST:
                raise DataError(f"a text of {len(text)} characters", hint=f"at most {LONGEST}")
            for feature in _features(text):
                word = int.from_bytes(hashlib.blake2b(feature.encode(), digest_size=8).digest(), "little")
                out[row, word % TEXT_WIDTH] += 1.0 if word >> 63 else -1.0
            size = float(np.linalg.norm(out[row]))
            if size > 0:
                out[row] /= size
        return out, None


def _features(text: str) -> Iterator[str]:
    words = _WORD.findall(text.casefold())
    yield from (f"w {w}" for w in words)
    yield from (f"b {a} {b}" for a, b in itertools.pairwise(words))
    for word in words:
        padded = f"<{word}>"
        yield from (f"c {padded[k : k + 3]}" for k in range(len(padded) - 2))


def text_encoder(name: str) -> TextEncoder:
    """An encoder by its id. Raises UsageError for one that is not built in."""
    if name in ("hash", HashEncoder.id):
        return HashEncoder()
    raise UsageError(f"no text encoder {name!r}", hint=f"hash is built in ({HashEncoder.id}, lexical)")
