"""The Wan VAE as a stream gives what diffusers gives for the whole video, in memory that does not grow."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKLWan
from torch import Tensor

from mocgen.codec.tiles import Tiling, blend, tiles_of
from mocgen.codec.wan_vae import REACH, WanVAE
from mocgen.errors import ModelError

SMALL = {"base_dim": 4, "num_res_blocks": 1, "dim_mult": [1, 2, 2, 2]}
WAN_21 = SMALL | {
    "latents_mean": [0.1 * n for n in range(16)],
    "latents_std": [1 + 0.1 * n for n in range(16)],
}
WAN_22 = SMALL | {
    "z_dim": 48, "is_residual": True, "in_channels": 12, "out_channels": 12, "patch_size": 2,
    "scale_factor_spatial": 16, "latents_mean": [0.02 * n for n in range(48)], "latents_std": [1.5] * 48,
}  # fmt: skip


@pytest.fixture(params=[WAN_21, WAN_22], ids=["2.1", "2.2"])
def vae(request: pytest.FixtureRequest) -> AutoencoderKLWan:
    torch.manual_seed(0)
    return AutoencoderKLWan(**request.param).eval()


def column(values: list[float]) -> Tensor:
    return torch.tensor(values).view(-1, 1, 1, 1)


def decoded_whole(vae: AutoencoderKLWan, latents: Tensor) -> Tensor:
    """What diffusers makes of normalised latents (C, n, h, w): (T, 3, H, W)."""
    latents = latents * column(vae.config.latents_std) + column(vae.config.latents_mean)
    with torch.no_grad():
        return vae.decode(latents[None]).sample[0].transpose(0, 1)


def test_decoding_in_pieces_equals_the_whole(vae: AutoencoderKLWan) -> None:
    codec = WanVAE(vae)
    latents = torch.randn(codec.config.channels, 4, 2, 3)
    whole = decoded_whole(vae, latents)
    decoding = codec.decoding()
    pieces = [frames for cut in ((0, 1), (1, 1), (1, 4)) for frames in decoding.push(latents[:, slice(*cut)])]
    assert [len(frames) for frames in pieces] == [1, 4, 4, 4]
    assert whole.std() > 0.01
    assert (torch.cat(pieces) - whole).abs().max() <= 1e-5
    pixels = torch.cat(list(codec.decode(latents)))  # (T, H, W, 3) uint8
    side = codec.config.spatial
    assert pixels.shape == (codec.config.frames(4), 2 * side, 3 * side, 3)
    assert (pixels.movedim(-1, 1) / 127.5 - 1 - whole).abs().max() <= 0.5 / 127.5 + 1e-5


def test_encoding_in_pieces_equals_the_whole(vae: AutoencoderKLWan) -> None:
    codec = WanVAE(vae)
    side = codec.config.spatial
    frames = torch.randint(0, 256, (9, 2 * side, 3 * side, 3), dtype=torch.uint8)
    with torch.no_grad():
        whole = vae.encode(frames.permute(3, 0, 1, 2)[None] / 127.5 - 1).latent_dist.mode()[0]
    whole = (whole - column(vae.config.latents_mean)) / column(vae.config.latents_std)
    encoding = codec.encoding()
    pieces = [latent for part in frames.split(4) for latent in encoding.push(part)]
    assert whole.std() > 0.01
    assert (torch.cat(pieces, dim=1) - whole).abs().max() <= 1e-5
    assert torch.equal(codec.encode(frames), torch.cat(pieces, dim=1))


def test_a_continuation_has_no_seam() -> None:
    """Decoded after the latents within reach, new frames are what decoding everything would have given."""
    torch.manual_seed(0)
    codec = WanVAE(AutoencoderKLWan(base_dim=4, dim_mult=[1, 1, 1, 1]))  # the depth of the real ones
    latents = torch.randn(16, REACH + 4, 1, 1)
    whole = torch.cat(list(codec.decode(latents)))[-8:]
    old, new = latents[:, 2:-2], latents[:, -2:]
    assert torch.equal(torch.cat(list(codec.decode(new, after=old))), whole)
    assert not torch.equal(torch.cat(list(codec.decode(new, after=old[:, -1:]))), whole)


def test_tiles_are_those_of_diffusers() -> None:
    """But for its last row and column of tiles, which are narrow rests; ours are all of one size."""
    torch.manual_seed(0)
    vae = AutoencoderKLWan(**WAN_21)
    latents, frames = torch.randn(16, 2, 4, 10), torch.randint(0, 256, (5, 32, 80, 3), dtype=torch.uint8)
    plain, tiled = WanVAE(vae), WanVAE(vae, tiling=Tiling(size=32, overlap=8))
    untiled = torch.cat(list(plain.decoding().push(latents)))
    vae.enable_tiling(32, 32, 24, 24)
    whole = decoded_whole(vae, latents)
    with torch.no_grad():
        encoded = vae.encode(frames.permute(3, 0, 1, 2)[None] / 127.5 - 1).latent_dist.mode()[0]
    encoded = (encoded - column(vae.config.latents_mean)) / column(vae.config.latents_std)
    decoded = torch.cat(list(tiled.decoding().push(latents)))
    assert decoded.shape == whole.shape
    assert (decoded - whole)[..., :24, :72].abs().max() <= 1e-5
    assert (tiled.encode(frames) - encoded)[..., :3, :9].abs().max() <= 1e-5
    assert (untiled - whole)[..., :24, :72].abs().max() > 1e-4


@pytest.mark.parametrize("size", [(7, 7), (8, 13), (20, 29)])
def test_equal_tiles_blend_to_the_picture_itself(size: tuple[int, int]) -> None:
    picture = torch.randn(3, *size)
    tiles = tiles_of(*size, Tiling(size=8, overlap=3))
    assert all(rows.stop - rows.start <= 8 and columns.stop - columns.start <= 8 for rows, columns in tiles)
    blended = blend(tiles, lambda _, tile: picture[:, tile[0], tile[1]], size, 1, overlap=3)
    assert (blended - picture).abs().max() <= 1e-6


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    codec = WanVAE(AutoencoderKLWan(**WAN_21))
    with pytest.raises(ValueError, match=r"4 · n \+ 1 frames; got 4"):
        codec.encode(torch.zeros(4, 8, 8, 3, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"multiples of 8; got \(8, 12\)"):
        codec.encode(torch.zeros(1, 8, 12, 3, dtype=torch.uint8))
    with pytest.raises(ValueError, match="multiples of 8"):
        WanVAE(codec.vae, tiling=Tiling(size=36, overlap=8))
    with pytest.raises(ValueError, match="cannot overlap by 9"):
        Tiling(size=16, overlap=9)
    with pytest.raises(ModelError, match="no usable Wan VAE"):
        WanVAE.from_folder(tmp_path)


def test_from_a_folder_of_diffusers(tmp_path: Path) -> None:
    vae = AutoencoderKLWan(**WAN_22)
    vae.save_pretrained(tmp_path)
    codec = WanVAE.from_folder(tmp_path, dtype=torch.bfloat16)
    assert codec.config.spatial == 16
    frames = next(codec.decode(torch.randn(48, 1, 2, 2)))
    assert frames.dtype == torch.uint8
    assert frames.shape == (1, 32, 32, 3)
    (tmp_path / "diffusion_pytorch_model.safetensors").write_bytes(b"cut off")
    with pytest.raises(ModelError, match="no usable Wan VAE"):
        WanVAE.from_folder(tmp_path)


PEAKS = """
import sys
from pathlib import Path
import torch
from diffusers import AutoencoderKLWan
from mocgen.codec.wan_vae import WanVAE

def resident(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key))

codec = WanVAE(AutoencoderKLWan(base_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1))
list(codec.decode(torch.randn(16, 2, 2, 2)))
before = resident("VmRSS")
for frames in (33, 129):
    latents = torch.randn(16, codec.config.latent_frames(frames), 12, 12)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    for _ in codec.decode(latents):
        pass
    print(resident("VmHWM") - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_is_flat_in_the_number_of_frames() -> None:
    path = os.pathsep.join(filter(None, sys.path))
    result = subprocess.run(
        [sys.executable, "-c", PEAKS],
        env=os.environ
        | {"PYTHONPATH": path, "MALLOC_MMAP_THRESHOLD_": "65536"},  # what is freed is given back
        capture_output=True,
        text=True,
        check=True,
    )
    few, many = map(int, result.stdout.split())
    assert few > 10_000  # kB: the activations are what is measured
    assert many < 1.1 * few  # 96 frames more are 11 MB of pixels in fp32
