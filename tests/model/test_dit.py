"""The DiT: shapes, packing, noise levels per shot, captions."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from mocgen.model.attention import Routing
from mocgen.model.config import DiTConfig
from mocgen.model.contexts import ShotShape, pack_scene
from mocgen.model.dit import MoCDiT, NoisyShot
from mocgen.model.patches import from_patches, to_patches
from mocgen.model.rope import rope_angles, rotate
from mocgen_kernels import Kind

MakeShots = Callable[..., list[NoisyShot]]


def test_packing_interleaves_captions_and_shots() -> None:
    shots = [ShotShape(index=4, caption_tokens=8, groups=2), ShotShape(index=7, caption_tokens=16, groups=1)]
    scene = pack_scene(8, shots, grid=2)
    assert scene.lengths == (8, 8, 4, 4, 16, 4)
    assert scene.kinds == (Kind.TEXT, Kind.TEXT, Kind.VIDEO, Kind.VIDEO, Kind.TEXT, Kind.VIDEO)
    assert scene.shots == (-1, 4, 4, 4, 7, 7)
    assert scene.video == (slice(8, 8), slice(16, 24), slice(40, 44))
    assert scene.segment.tolist() == [0] * 8 + [1] * 16 + [2] * 20
    assert scene.positions[20:24].tolist() == [[4, 1, 0, 0], [4, 1, 0, 1], [4, 1, 1, 0], [4, 1, 1, 1]]


def test_patches_round_trip(model: MoCDiT) -> None:
    latents = torch.randn(2, 8, 8, 8, 8)
    tokens = to_patches(latents, model.config)
    assert tokens.shape == (2, 2 * 16, model.config.token_dim)
    assert torch.equal(from_patches(tokens, model.config), latents)
    latents[0, 5, :, 3, 6] += 1  # frame 5 lies in group 1, row 3 in patch row 1, column 6 in patch column 3
    changed = (to_patches(latents, model.config) != tokens).any(-1).nonzero().tolist()
    assert changed == [[0, 16 + 1 * 4 + 3]]


def test_noise_level_is_per_shot(model: MoCDiT, make_shots: MakeShots) -> None:
    """Changing the level of the last shot leaves the earlier ones alone and changes its own output."""
    with torch.inference_mode():
        one = model(make_shots([8, 8], [1.0, 0.2]), routing=Routing())
        other = model(make_shots([8, 8], [1.0, 0.9]), routing=Routing())
    assert torch.equal(one[0], other[0])
    assert (one[1] - other[1]).abs().max() > 1e-3


def test_only_wanted_frames_are_predicted(model: MoCDiT, make_shots: MakeShots) -> None:
    shots = make_shots([8, 8], [1.0, 0.4])
    some = [replace(shots[0], wanted=()), replace(shots[1], wanted=(6, 1))]
    with torch.inference_mode():
        whole, part = (model(s, routing=Routing()) for s in (shots, some))
    assert part[0].shape[1] == 0
    torch.testing.assert_close(part[1], whole[1][:, [6, 1]])


def test_caption_and_word_order_matter(model: MoCDiT, make_shots: MakeShots) -> None:
    shot = make_shots([8], [0.5])[0]
    swapped = replace(shot, caption=shot.caption.flip(1))
    with torch.inference_mode():
        one, other = (model([s], routing=Routing())[0] for s in (shot, swapped))
    assert (one - other).abs().max() > 1e-3


def test_gradients_reach_every_parameter(model: MoCDiT, make_shots: MakeShots) -> None:
    shots = make_shots([8, 4, 8], [1.0, 0.3, 0.6])
    outputs = model(shots, prompt=torch.tensor([[1, 2, 3]]), routing=Routing(top_k=1))
    sum(x.square().sum() for x in outputs).backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    model.zero_grad()
    assert [name for name in without if not name.startswith("sketcher.")] == []  # it is used before


def test_rotary_scores_depend_on_distance_only() -> None:
    q, k = torch.randn(1, 1, 1, 16), torch.randn(1, 1, 1, 16)

    def score(a: list[int], b: list[int]) -> float:
        axes = (4, 4, 4, 4)
        turned = [rotate(x, rope_angles(torch.tensor([p]), axes)) for x, p in ((q, a), (k, b))]
        return float((turned[0] * turned[1]).sum())

    assert score([5, 1, 2, 3], [2, 0, 1, 1]) == pytest.approx(score([45, 1, 2, 3], [42, 0, 1, 1]), abs=1e-4)
    assert score([5, 1, 2, 3], [2, 0, 1, 1]) != pytest.approx(score([5, 1, 2, 3], [3, 0, 1, 1]), abs=1e-4)


def test_rope_axes_must_fill_the_head() -> None:
    with pytest.raises(ValueError, match="rope_axes"):
        DiTConfig(width=64, heads=2)


def test_runs_in_bf16(model: MoCDiT, make_shots: MakeShots) -> None:
    """fp32 latents go in, the answer is that of fp32 to bf16's precision."""
    shots = make_shots([8, 4], [1.0, 0.4])
    half = copy.deepcopy(model).bfloat16()
    with torch.inference_mode():
        exact = model(shots, routing=Routing(policy="dense"))[1]
        rounded = half(shots, routing=Routing(policy="dense"))[1]
    assert rounded.dtype == torch.bfloat16
    assert (rounded.float() - exact).abs().mean() < 0.05 * exact.abs().mean()
