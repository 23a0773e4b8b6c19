"""Class texts from a CLIP folder: a text tower with random weights, made here, in the layout of transformers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from choreo_cli.errors import DataError
from choreo_cli.trajectory.clip_align import WIDTH, class_table

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
pytest.importorskip("torch")
pytest.importorskip("transformers")


def make_clip(folder: Path, width: int) -> Path:
    """Write a CLIP text tower of one layer, `width` wide, and a tokenizer of the 256 bytes."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: k for k, token in enumerate(["<s>", "</s>", *alphabet])}
    raw = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="</s>", pad_token="</s>")
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = CLIPTextConfig(
        vocab_size=len(vocabulary), hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=77, projection_dim=width, bos_token_id=0, eos_token_id=1, pad_token_id=1,
    )  # fmt: skip
    CLIPTextModelWithProjection(config).save_pretrained(folder)
    return folder


def test_a_folder_gives_unit_embeddings_and_its_name(tmp_path: Path) -> None:
    folder = make_clip(tmp_path / "tiny-clip", WIDTH)
    table, name = class_table(str(folder))
    assert name == "clip:tiny-clip" and table.shape == (4, WIDTH) and table.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(table, axis=1), 1.0, rtol=1e-5)
    assert len(np.unique(table.round(6), axis=0)) == 4  # four classes, four texts
    assert np.array_equal(table, class_table(str(folder))[0])


def test_a_tower_of_another_width_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is 64 wide, need 512"):
        class_table(str(make_clip(tmp_path / "narrow", 64)))
