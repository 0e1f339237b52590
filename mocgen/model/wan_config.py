"""Sizes of a Wan diffusion transformer, as its config.json gives them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

CLASSES = ("WanTransformer3DModel", "SkyReelsV2Transformer3DModel")


@dataclass(frozen=True, kw_only=True)
class WanConfig:
    """Sizes under the names that diffusers gives them."""

    num_attention_heads: int = 12
    attention_head_dim: int = 128
    in_channels: int = 16
    out_channels: int = 16
    text_dim: int = 4096
    freq_dim: int = 256
    ffn_dim: int = 8960
    num_layers: int = 30
    patch: int = 2  # latents on each side of a token
    eps: float = 1e-6
    cross_attn_norm: bool = True
    fps_embedding: bool = False  # SkyReels-V2: the frame rate is a condition

    @property
    def width(self) -> int:
        return self.num_attention_heads * self.attention_head_dim

    @property
    def rope_axes(self) -> tuple[int, int, int]:
        """Head dimensions that time, height and width turn."""
        side = 2 * (self.attention_head_dim // 6)
        return self.attention_head_dim - 2 * side, side, side


def read_wan_config(table: Mapping[str, Any]) -> WanConfig:
    """The sizes in a transformer's config.json.

    Raises ValueError naming what is missing, or what this implementation does not cover.
    """
    if table.get("_class_name") not in CLASSES:
        raise ValueError(f"its class is {table.get('_class_name')!r}, not {' or '.join(CLASSES)}")
    time, height, width = table.get("patch_size", (1, 2, 2))
    demands = {
        f"patch_size {[time, height, width]}": time == 1 and height == width,
        "an image encoder (image-to-video models of Wan2.1)": table.get("image_dim") is None
        and table.get("added_kv_proj_dim") is None,
        f"qk_norm {table.get('qk_norm')!r}": table.get("qk_norm") == "rms_norm_across_heads",
        f"num_frame_per_block {table.get('num_frame_per_block')}": table.get("num_frame_per_block", 1) == 1,
    }
    for demand, met in demands.items():
        if not met:
            raise ValueError(f"it asks for {demand}, which is not supported")
    numbers = (
        "num_attention_heads", "attention_head_dim", "in_channels", "text_dim", "freq_dim", "ffn_dim",
        "num_layers",
    )  # fmt: skip
    for name in numbers:
        value = table.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{name} must be a whole number above zero, not {value!r}")
    return WanConfig(
        **{name: table[name] for name in numbers},
        out_channels=table.get("out_channels") or table["in_channels"],
        patch=height,
        eps=float(table.get("eps", 1e-6)),
        cross_attn_norm=bool(table.get("cross_attn_norm", True)),
        fps_embedding=bool(table.get("inject_sample_info", False)),
    )
