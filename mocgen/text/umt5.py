"""Captions → embeddings of UMT5, the text encoder of the Wan family."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

import mocgen_weights
from mocgen.errors import ModelError
from mocgen.model.storage import Storage, load_transformer
from mocgen.settings import OffloadName

TOKENS = 512  # of every text, padded


@torch.inference_mode()
def embed_texts(
    folder: Path,
    texts: Sequence[str],
    *,
    device: torch.device,
    dtype: torch.dtype,
    offload: OffloadName = "auto",
) -> dict[str, Tensor]:
    """Embeddings (1, 512, text_dim) of each text; padding is zero, as the models were trained.

    folder: of the pipeline. The encoder, which is larger than most transformers, is there only meanwhile.

    Raises:
        ModelError: tokenizer or encoder are missing or broken.
    """
    from transformers import AutoTokenizer, UMT5Config, UMT5EncoderModel

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
        config = UMT5Config.from_pretrained(folder / "text_encoder", local_files_only=True)
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder}: tokenizer or text encoder cannot be read: {error}") from None
    with torch.device("meta"):
        encoder = UMT5EncoderModel(config).eval()
    try:
        weights = mocgen_weights.match_weights(encoder, folder / "text_encoder", dtype=dtype)
        load_transformer(encoder, weights, Storage(offload=offload), device, blocks="encoder.block")
    except mocgen_weights.WeightsError as error:
        raise ModelError(str(error)) from None
    embeddings = {}
    for text in dict.fromkeys(texts):
        read = tokenizer(
            clean(text), padding="max_length", max_length=TOKENS, truncation=True, return_tensors="pt"
        )
        mask = read.attention_mask.to(device)
        hidden = encoder(read.input_ids.to(device), mask).last_hidden_state
        embeddings[text] = hidden * mask[..., None]
    encoder.to("meta")  # its memory is free from here on
    return embeddings


def clean(text: str) -> str:
    """A text as the models saw it in training: mended, without HTML entities and runs of white space."""
    import ftfy

    mended = html.unescape(html.unescape(ftfy.fix_text(text)))
    return re.sub(r"\s+", " ", mended).strip()
