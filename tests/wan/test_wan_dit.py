"""The Wan transformer against diffusers, and what routing does to it."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor

from mocgen.model.attention import Routing
from mocgen.model.cut import ContextCut
from mocgen.model.memory import ContextMemory
from mocgen.model.wan import WanDiT, WanShot
from mocgen.model.wan_config import WanConfig, read_wan_config

DENSE = Routing(policy="dense", causal=False)
FRAMES, CHANNELS, ROWS, COLUMNS, WORDS = 5, 16, 6, 8, 7


def ours(theirs: torch.nn.Module) -> WanDiT:
    """Our model with the weights of theirs, loaded strictly."""
    model = WanDiT(read_wan_config(json.loads(theirs.to_json_string())))
    model.load_state_dict(theirs.state_dict())
    return model.eval()


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def latents() -> Tensor:
    return draw(1, FRAMES, CHANNELS, ROWS, COLUMNS)


@pytest.fixture
def text() -> Tensor:
    return draw(1, WORDS, 32, seed=1)


def shot(latents: Tensor, text: Tensor, t: Tensor, *, index: int = 0, start: int = 0) -> WanShot:
    return WanShot(index=index, start=start, text=text, latents=latents, t=t)


@torch.inference_mode()
def test_one_noise_level_as_in_diffusers(wan_transformer, latents: Tensor, text: Tensor) -> None:
    t = torch.tensor([721])
    (theirs,) = wan_transformer(latents.transpose(1, 2), t, text, return_dict=False)
    (out,) = ours(wan_transformer)([shot(latents, text, t.expand(1, FRAMES))], routing=DENSE)
    assert (out - theirs.transpose(1, 2)).abs().max() <= 1e-5


@torch.inference_mode()
def test_noise_levels_per_token_as_in_diffusers(wan_transformer, latents: Tensor, text: Tensor) -> None:
    t = torch.tensor([[0.0, 0.0, 833, 833, 499]])
    tokens = t.repeat_interleave(ROWS * COLUMNS // 4, dim=1)
    (theirs,) = wan_transformer(latents.transpose(1, 2), tokens, text, return_dict=False)
    (out,) = ours(wan_transformer)([shot(latents, text, t)], routing=DENSE)
    assert (out - theirs.transpose(1, 2)).abs().max() <= 1e-5


@torch.inference_mode()
@pytest.mark.parametrize(("fps", "number"), [(16.0, 0), (24.0, 1)])
def test_skyreels_with_noise_levels_per_frame_as_in_diffusers(
    skyreels_transformer, latents: Tensor, text: Tensor, fps: float, number: int
) -> None:
    t = torch.tensor([[0, 20, 999, 500, 250]])
    (theirs,) = skyreels_transformer(
        latents.transpose(1, 2), t, text, enable_diffusion_forcing=True, fps=[number], return_dict=False
    )
    (out,) = ours(skyreels_transformer)([shot(latents, text, t)], routing=DENSE, fps=fps)
    assert (out - theirs.transpose(1, 2)).abs().max() <= 1e-5


@torch.inference_mode()
def test_long_positions_go_on_as_the_table_would(wan_transformer, text: Tensor) -> None:
    """Beyond the 1024 positions of the checkpoints' tables: moving all frames along changes nothing."""
    model, latents, t = ours(wan_transformer), draw(1, 3, CHANNELS, ROWS, COLUMNS), torch.full((1, 3), 500)
    (near,) = model([shot(latents, text, t)], routing=DENSE)
    (far,) = model([shot(latents, text, t, start=100_000)], routing=DENSE)
    assert (near - far).abs().max() <= 1e-5


@torch.inference_mode()
@pytest.mark.parametrize("cut", [ContextCut(), ContextCut(frames=2), ContextCut(tile=(2, 3))], ids=str)
def test_retrieving_everything_is_dense_attention(
    wan_transformer, latents: Tensor, text: Tensor, cut: ContextCut
) -> None:
    model, t = ours(wan_transformer), torch.full((1, FRAMES), 300)
    shots = [shot(latents, text, t)]
    (dense,) = model(shots, routing=DENSE)
    everything = Routing(policy="moc", top_k=10_000, causal=False, local_window=0, cut=cut)
    (routed,) = model(shots, routing=everything)
    few = Routing(policy="moc", top_k=1, causal=False, local_window=0, cut=cut)
    (sparse,) = model(shots, routing=few)
    assert (routed - dense).abs().max() <= 1e-5
    assert (sparse - dense).abs().max() > 1e-3


@torch.inference_mode()
def test_shots_read_their_own_text_only(wan_transformer, latents: Tensor, text: Tensor) -> None:
    model, other, t = ours(wan_transformer), draw(1, WORDS, 32, seed=5), torch.full((1, 2), 300)
    no_retrieval = Routing(policy="moc", top_k=0, causal=True)

    def run(first: Tensor, second: Tensor) -> list[Tensor]:
        shots = [
            shot(latents[:, :2], first, t),
            shot(latents[:, 2:4], second, t, index=1, start=2),
        ]
        return model(shots, routing=no_retrieval)

    one, two = run(text, text), run(text, other)
    assert torch.equal(one[0], two[0])
    assert (one[1] - two[1]).abs().max() > 1e-3


@torch.inference_mode()
@pytest.mark.parametrize("top_k", [1, 3])
def test_the_memory_gives_what_recomputing_gives(
    wan_transformer, latents: Tensor, text: Tensor, top_k: int
) -> None:
    model = ours(wan_transformer)
    routing = Routing(policy="moc", top_k=top_k, causal=True, local_window=0)
    clean, noisy = torch.zeros(1, 3), torch.full((1, 2), 700.0)
    past = shot(latents[:, :3], text, clean)
    now = shot(latents[:, 3:], draw(1, WORDS, 32, seed=6), noisy, index=1, start=3)
    memory = ContextMemory(model.config.num_layers)
    _, layout = model.run([past], routing=routing, memory=memory)
    memory.commit(layout)
    (remembered,) = model([now], routing=routing, memory=memory)
    _, recomputed = model([past, now], routing=routing)
    assert (remembered - recomputed).abs().max() <= 1e-5


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"image_dim": 1280}, "an image encoder"),
        ({"patch_size": [2, 2, 2]}, "patch_size"),
        ({"qk_norm": None}, "qk_norm"),
        ({"num_layers": 0}, "num_layers"),
        ({"_class_name": "FluxTransformer2DModel"}, "FluxTransformer2DModel"),
    ],
)
def test_what_is_not_covered_is_named(wan_transformer, change: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read_wan_config(json.loads(wan_transformer.to_json_string()) | change)


@pytest.mark.parametrize(
    ("sizes", "parameters"),
    [
        ({"num_attention_heads": 12, "ffn_dim": 8960, "num_layers": 30}, 1_418_996_800),
        (
            {"num_attention_heads": 24, "ffn_dim": 14336, "num_layers": 30, "in_channels": 48}
            | {"out_channels": 48},
            4_999_787_712,
        ),
    ],
    ids=["Wan2.1-T2V-1.3B", "Wan2.2-TI2V-5B"],
)
def test_published_sizes_have_the_published_number_of_parameters(
    sizes: dict[str, int], parameters: int
) -> None:
    with torch.device("meta"):
        model = WanDiT(WanConfig(**sizes))
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    assert len(model.state_dict()) == 825
