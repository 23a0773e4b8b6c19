"""Text embeddings of the four classes: from CLIP by a local path, or a hash that is labelled as one."""

from __future__ import annotations

import hashlib
import itertools
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.errors import DataError, UnavailableError
from choreo_cli.trajectory.curves import FAMILIES

F32 = NDArray[np.float32]
WIDTH = 512
TEMPLATES = (
    "a {} trajectory", "a dot moving along a {} path", "an object on a {} course through space", "{} motion in a video",
)  # fmt: skip


def class_table(encoder: str) -> tuple[F32, str]:
    """Unit embeddings of the classes, the mean over templates.

    Args:
        encoder: `hash`, or the folder of a CLIP text model in the layout of transformers.

    Returns:
        (4, 512) float32, and the name that results carry: `hash`, or `clip:<folder name>`.

    Raises:
        UnavailableError: transformers is not installed.
        DataError: no model there, or one of another width.
    """
    if encoder == "hash":
        rows = np.stack([np.mean([_hashed(t.format(f)) for t in TEMPLATES], axis=0) for f in FAMILIES])
        return _unit(rows), "hash"
    return _clip(Path(encoder)), f"clip:{Path(encoder).name}"


def _unit(rows: NDArray[np.floating]) -> F32:
    found: F32 = (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)
    return found


def _hashed(text: str) -> NDArray[np.float64]:
    """Signed hashing of words and pairs of words into 512 places: lexical, not semantic."""
    words = text.split()
    out = np.zeros(WIDTH)
    for piece in [*words, *(f"{a} {b}" for a, b in itertools.pairwise(words))]:
        digest = hashlib.sha256(piece.encode()).digest()
        out[int.from_bytes(digest[:4], "little") % WIDTH] += 1.0 if digest[4] & 1 else -1.0
    return out


def _clip(folder: Path) -> F32:
    if not (folder / "config.json").is_file():
        raise DataError(f"no CLIP text model in {folder}", hint="need config.json and model.safetensors there")
    try:
        import torch
        from transformers import AutoTokenizer, CLIPTextModelWithProjection
    except ImportError:
        raise UnavailableError("CLIP needs transformers", hint="pip install 'choreo[text]'") from None
    # safetensors only, and nothing is downloaded: the folder is all there is.
    tokens = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model: Any = CLIPTextModelWithProjection.from_pretrained(folder, local_files_only=True, use_safetensors=True)
    model.eval()
    with torch.no_grad():
        texts = [t.format(f) for f in FAMILIES for t in TEMPLATES]
        found = model(**tokens(texts, padding=True, return_tensors="pt")).text_embeds.numpy()
    if found.shape[1] != WIDTH:
        raise DataError(f"the model in {folder} is {found.shape[1]} wide, need {WIDTH}", hint="CLIP ViT-B/32 or B/16")
    return _unit(_unit(found).reshape(len(FAMILIES), len(TEMPLATES), WIDTH).mean(1))
