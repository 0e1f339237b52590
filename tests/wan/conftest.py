"""Tiny random Wan checkpoints, written by diffusers itself."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

pytest.importorskip("diffusers", reason="the extra 'wan' is not installed")
from diffusers import (
    AutoencoderKLWan,
    FlowMatchEulerDiscreteScheduler,
    SkyReelsV2DiffusionForcingPipeline,
    SkyReelsV2Transformer3DModel,
    UniPCMultistepScheduler,
    WanPipeline,
    WanTransformer3DModel,
)
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

SIZES = {
    "patch_size": (1, 2, 2), "num_attention_heads": 2, "attention_head_dim": 24, "in_channels": 16,
    "out_channels": 16, "text_dim": 32, "freq_dim": 32, "ffn_dim": 64, "num_layers": 2,
    "cross_attn_norm": True, "qk_norm": "rms_norm_across_heads", "eps": 1e-6, "rope_max_seq_len": 1024,
}  # fmt: skip


def shake(module: torch.nn.Module, seed: int) -> torch.nn.Module:
    """Gives every parameter a random value, norms and biases included, of a scale that keeps signals up."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        around = 1.0 if "norm" in name and name.endswith("weight") else 0.0
        fan_in = parameter[0].numel() if parameter.ndim > 1 else 16
        torch.nn.init.normal_(parameter, mean=around, std=fan_in**-0.5, generator=generator)
    return module.eval()


@pytest.fixture(scope="session")
def wan_transformer() -> WanTransformer3DModel:
    return shake(WanTransformer3DModel(**SIZES), 0)


@pytest.fixture(scope="session")
def skyreels_transformer() -> SkyReelsV2Transformer3DModel:
    return shake(SkyReelsV2Transformer3DModel(**SIZES, inject_sample_info=True), 1)


VAE = {
    "base_dim": 4,
    "dim_mult": [1, 1, 1, 1],
    "num_res_blocks": 1,
    "temperal_downsample": [False, True, True],
}
VAE_22 = {
    "z_dim": 48, "latents_mean": [0.1] * 48, "latents_std": [0.7] * 48, "is_residual": True, "patch_size": 2,
    "in_channels": 12, "out_channels": 12, "scale_factor_spatial": 16,
}  # fmt: skip
WORDS = ["</s>", "<unk>", "a", "red", "blue", "star", "turns", "in", "the", "snow", "no", "blur"]


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Whole words, and an end token as T5 has it."""
    vocabulary = {word: number for number, word in enumerate(["<pad>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )


def text_encoder() -> UMT5EncoderModel:
    config = UMT5Config(
        vocab_size=len(WORDS) + 1, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, dropout_rate=0.0
    )
    return shake(UMT5EncoderModel(config), 2)


def unipc(shift: float) -> UniPCMultistepScheduler:
    return UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, num_train_timesteps=1000, flow_shift=shift
    )


@pytest.fixture(scope="session")
def t2v(wan_transformer) -> WanPipeline:
    """A tiny Wan2.1-T2V: 16 latent channels, 8 pixels a latent, one noise level."""
    return WanPipeline(
        tokenizer=make_tokenizer(), text_encoder=text_encoder(), transformer=wan_transformer,
        vae=shake(AutoencoderKLWan(**VAE), 3), scheduler=unipc(3.0),
    )  # fmt: skip


@pytest.fixture(scope="session")
def ti2v() -> WanPipeline:
    """A tiny Wan2.2-TI2V: 48 latent channels, 16 pixels a latent, a noise level for every token."""
    sizes = SIZES | {"in_channels": 48, "out_channels": 48}
    return WanPipeline(
        tokenizer=make_tokenizer(), text_encoder=text_encoder(),
        transformer=shake(WanTransformer3DModel(**sizes), 4), vae=shake(AutoencoderKLWan(**VAE, **VAE_22), 5),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=5.0), expand_timesteps=True,
    )  # fmt: skip


@pytest.fixture(scope="session")
def skyreels(skyreels_transformer) -> SkyReelsV2DiffusionForcingPipeline:
    """A tiny SkyReels-V2-DF: a noise level for every latent frame, and the frame rate as a condition."""
    return SkyReelsV2DiffusionForcingPipeline(
        tokenizer=make_tokenizer(), text_encoder=text_encoder(), transformer=skyreels_transformer,
        vae=shake(AutoencoderKLWan(**VAE), 3), scheduler=unipc(8.0),
    )  # fmt: skip


@pytest.fixture(scope="session")
def wan_folders(
    t2v: WanPipeline,
    ti2v: WanPipeline,
    skyreels: SkyReelsV2DiffusionForcingPipeline,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Path]:
    """Folders that diffusers wrote: "t2v", "ti2v" and "skyreels"."""
    root = tmp_path_factory.mktemp("wan")
    for name, pipeline in (("t2v", t2v), ("ti2v", ti2v), ("skyreels", skyreels)):
        pipeline.set_progress_bar_config(disable=True)
        pipeline.save_pretrained(root / name)
    return {name: root / name for name in ("t2v", "ti2v", "skyreels")}
