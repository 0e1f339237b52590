"""Mixture of Contexts in diffusers' transformers: the same where all is attended to, else what rules say."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mocgen.errors import ModelError, UsageError
from mocgen.integrations import processor
from mocgen.integrations.diffusers import disable_moc, enable_moc, moc_info

from .conftest import COLUMNS, FRAMES, ROWS, Tiny, tiny

TOKENS = ROWS * COLUMNS


def near(a: torch.Tensor, b: torch.Tensor, tolerance: float = 1e-5) -> bool:
    return bool((a - b).abs().max() <= tolerance * max(1.0, float(b.abs().max())))


@torch.no_grad()
@pytest.mark.parametrize(
    "options",
    [
        {"attention": "dense"},
        {"top_k": FRAMES},
        {"top_k": FRAMES, "backend": "cpu"},
        {"top_k": 99, "tile": (1, 2)},
        {"top_k": 99, "frames_per_context": 2, "local_window": 1, "first_frame": True},
    ],
    ids=str,
)
def test_all_contexts_are_what_diffusers_computes(model: Tiny, options: dict[str, Any]) -> None:
    own = model()
    enable_moc(model.transformer, **options)
    assert near(model(), own)
    assert moc_info(model.transformer).densities == (1.0, 1.0)


@torch.no_grad()
@pytest.mark.parametrize(
    ("options", "density"),
    [
        ({"top_k": 1}, 2 / 5),
        ({"top_k": 0}, 1 / 5),
        ({"top_k": 2, "attention": "random"}, 3 / 5),
        ({"top_k": 1, "local_window": 1}, (2 + 1 + 3 * (3 + 1) + 2 + 1) / 25),
        ({"top_k": 1, "first_frame": True}, (2 + 4 * 3) / 25),
        ({"top_k": 1, "first_frame": True, "local_window": 1}, (3 + 4 + 5 + 5 + 4) / 25),
        ({"top_k": 2, "causal": True}, (1 + 2 + 3 + 3 + 3) / 25),
        ({"top_k": 0, "causal": True, "first_frame": True}, (1 + 4 * 2) / 25),
        ({"attention": "dense", "causal": True}, 15 / 25),
        ({"top_k": 0, "frames_per_context": 2}, (2 * 2 + 2 * 2 + 1) / 25),
        ({"top_k": 1, "tile": (1, COLUMNS)}, (TOKENS + COLUMNS) / (FRAMES * TOKENS)),
    ],
    ids=str,
)
def test_density_is_that_of_the_layout(model: Tiny, options: dict[str, Any], density: float) -> None:
    own = model()
    enable_moc(model.transformer, **options)
    assert not near(model(), own, 1e-3)
    info = moc_info(model.transformer)
    assert (info.frames, info.rows, info.columns) == (FRAMES, ROWS, COLUMNS)
    assert info.density == pytest.approx(density)


@torch.no_grad()
def test_density_counts_what_was_routed_where_contexts_differ_in_length() -> None:
    model = tiny("wan")
    enable_moc(model.transformer, top_k=1, tile=(2, 2), top_p=0.3)
    seen = []
    route = processor.route

    def watched(*arguments: Any, **named: Any) -> Any:
        seen.append(route(*arguments, **named))
        return seen[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(processor, "route", watched)
        model()
    expected = [selection.density() for selection in seen]
    assert moc_info(model.transformer).densities == pytest.approx(expected)


@torch.no_grad()
def test_undo_restores_outputs_and_processors(model: Tiny) -> None:
    own, before = model(), dict(model.transformer.attn_processors)
    enable_moc(model.transformer, top_k=1)
    changed = model.transformer.attn_processors
    assert {name for name in before if changed[name] is not before[name]} == {
        name for name in before if ".attn1." in name
    }
    sparse = model()
    disable_moc(model.transformer)
    after = model.transformer.attn_processors
    assert all(after[name] is before[name] for name in before)
    assert torch.equal(model(), own)
    enable_moc(model.transformer, top_k=1)
    assert torch.equal(model(), sparse)


@torch.no_grad()
def test_each_item_of_a_batch_is_routed_by_itself(model: Tiny) -> None:
    enable_moc(model.transformer, top_k=1)
    both = model()
    for item in range(2):
        alone = {
            name: value[item : item + 1] for name, value in model.arguments.items() if torch.is_tensor(value)
        }
        assert near(model(**alone), both[item : item + 1])


@torch.no_grad()
def test_under_causal_routing_later_frames_have_no_say() -> None:
    model = tiny("skyreels")
    enable_moc(model.transformer, top_k=2, causal=True)
    before = model()
    latents = model.arguments["hidden_states"].clone()
    latents[:, :, 3:] += 1
    after = model(hidden_states=latents)
    assert near(after[:, :, :3], before[:, :, :3])
    assert not near(after[:, :, 3:], before[:, :, 3:], 1e-2)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_reach_every_parameter_of_attention(model: Tiny, checkpointing: bool) -> None:
    grads = []
    for options in ({"attention": "dense"}, {"top_k": FRAMES}, {"top_k": 1, "drop_in": 0.5}):
        enable_moc(model.transformer, **options)
        if checkpointing:
            model.transformer.enable_gradient_checkpointing()
        model.transformer.train().zero_grad()
        model().square().mean().backward()
        found = {
            name: p.grad.clone() for name, p in model.transformer.named_parameters() if ".attn1." in name
        }
        assert all(grad.isfinite().all() for grad in found.values())
        grads.append(found)
        disable_moc(model.transformer)
    dense, everything, sparse = grads
    assert all(near(everything[name], dense[name], 1e-4) for name in dense)
    assert not all(near(sparse[name], dense[name], 1e-2) for name in dense)


@torch.no_grad()
def test_bf16(model: Tiny) -> None:
    model.transformer.to(torch.bfloat16)
    floats = {
        n: v.bfloat16() for n, v in model.arguments.items() if torch.is_tensor(v) and v.is_floating_point()
    }
    own = model(**floats)
    enable_moc(model.transformer, attention="dense")
    assert near(model(**floats), own, 0.03)
    disable_moc(model.transformer)
    enable_moc(model.transformer, top_k=1)
    sparse = model(**floats)
    assert sparse.dtype == torch.bfloat16
    assert sparse.isfinite().all()


@torch.no_grad()
def test_compiled_whole() -> None:
    model = tiny("wan")
    enable_moc(model.transformer, top_k=1, tile=(1, 2))
    eager, info = model(), moc_info(model.transformer)
    torch._dynamo.reset()
    compiled = torch.compile(model.transformer, fullgraph=True, dynamic=False, backend="eager")
    assert near(compiled(**model.arguments, return_dict=False)[0], eager)
    assert moc_info(compiled).densities == pytest.approx(info.densities)
    disable_moc(compiled)


def test_what_does_not_fit_is_named(model: Tiny) -> None:
    with pytest.raises(ModelError, match="Linear is not supported"):
        enable_moc(torch.nn.Linear(1, 1))
    with pytest.raises(UsageError, match="not enabled"):
        disable_moc(model.transformer)
    for options, message in (
        ({"top_k": -1}, "top_k must be at least 0"),
        ({"attention": "window"}, "attention must be one of moc, dense, random; got 'window'"),
        ({"tile": (0, 1)}, "at least one token"),
        ({"tile": (1, 1), "frames_per_context": 2}, "not both"),
        ({"local_window": 1, "causal": True}, "local_window"),
        ({"backend": "gpu"}, "backend must be one of"),
    ):
        with pytest.raises(UsageError, match=message):
            enable_moc(model.transformer, **options)
    enable_moc(model.transformer)
    with pytest.raises(UsageError, match="enabled here already"):
        enable_moc(model.transformer)
    with pytest.raises(UsageError, match="has not been called"):
        moc_info(model.transformer)


@torch.no_grad()
@pytest.mark.parametrize("name", ["wan", "skyreels", "ltx"])
def test_what_a_call_left_unfinished_is_not_told_as_a_whole(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither is what the call before it left in layers that were not reached."""
    model, longer = tiny(name), tiny(name, FRAMES + 2)
    enable_moc(model.transformer, top_k=1)
    model()
    first, project, calls = moc_info(model.transformer), processor._project, iter([True, False])

    def failing(*arguments: Any) -> Any:
        if next(calls):
            return project(*arguments)
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(processor, "_project", failing)
        with pytest.raises(RuntimeError, match="out of memory"):
            model.transformer(**longer.arguments)
        with pytest.raises(UsageError, match="not to the end"):
            moc_info(model.transformer)
    model()
    assert moc_info(model.transformer) == first


def test_calls_that_do_not_fit_are_named() -> None:
    ltx = tiny("ltx")
    enable_moc(ltx.transformer)
    with pytest.raises(UsageError, match="num_frames, height and width"):
        ltx(num_frames=None, height=None, width=None, video_coords=torch.zeros(2, 3, FRAMES * TOKENS))
    with pytest.raises(UsageError, match="30 tokens came, but 4 frames of 2 × 3 tokens are 24"):
        ltx(num_frames=4, video_coords=torch.zeros(2, 3, FRAMES * TOKENS))
    sky = tiny("skyreels")
    sky.transformer._set_ar_attention(5)
    enable_moc(sky.transformer)
    with pytest.raises(UsageError, match="takes no mask"):
        sky()
