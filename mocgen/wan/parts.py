"""The weights of a Wan pipeline, each part read when it is first needed."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

import mocgen_weights
from mocgen.codec.wan_vae import WanVAE
from mocgen.errors import ModelError
from mocgen.model.storage import Storage, load_transformer
from mocgen.model.wan import FP32, WanDiT
from mocgen.text.umt5 import embed_texts
from mocgen.wan.family import PipelineFolder


class WanParts:
    """Text encoder, transformer, VAE and scheduler of one folder. Raises ModelError where one is broken."""

    def __init__(
        self, pipeline: PipelineFolder, *, device: torch.device, dtype: torch.dtype, storage: Storage
    ) -> None:
        self._pipeline, self._device, self._dtype, self._storage = pipeline, device, dtype, storage

    def embed(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """What the text encoder makes of each text; it is let go before anything else is read."""
        found = embed_texts(
            self._pipeline.folder,
            texts,
            device=self._device,
            dtype=self._dtype,
            offload=self._storage.offload,
        )
        if self._device.type == "cuda":
            gc.collect()
            torch.cuda.empty_cache()
        return found

    @cached_property
    def dit(self) -> WanDiT:
        """The transformer."""
        with torch.device("meta"):
            dit = WanDiT(self._pipeline.transformer)
        folder = self._pipeline.folder / "transformer"
        try:
            rename = mocgen_weights.wan_renaming(folder)
            weights = mocgen_weights.match_weights(dit, folder, dtype=self._dtype, rename=rename, fp32=FP32)
            load_transformer(dit, weights, self._storage, self._device)
        except mocgen_weights.WeightsError as error:
            raise ModelError(str(error)) from None
        return dit.eval()

    @cached_property
    def vae(self) -> WanVAE:
        """The VAE, in fp32 as its authors run it."""
        return WanVAE.from_folder(self._pipeline.folder / "vae", device=self._device)

    def make_scheduler(self) -> Any:
        """A scheduler of the kind and with the settings that the checkpoint names."""
        import diffusers

        kind = getattr(diffusers, self._pipeline.scheduler)
        return kind.from_pretrained(self._pipeline.folder / "scheduler", local_files_only=True)
