"""Shot by shot against the memory equals recomputing the whole scene."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest
import torch

from mocgen.model.attention import Routing
from mocgen.model.contexts import layout_after
from mocgen.model.dit import MoCDiT, NoisyShot
from mocgen.model.memory import ContextMemory
from mocgen.model.store import SpillingStore
from mocgen_kernels import pool_descriptors

MakeShots = Callable[..., list[NoisyShot]]
FRAMES = [8, 4, 12, 8, 4]
PROMPT = torch.tensor([[3, 7, 1, 0, 0, 0, 0, 0]])


def run_with_memory(model: MoCDiT, shots: list[NoisyShot], prompt: torch.Tensor | None, routing: Routing):
    memory = ContextMemory(model.config.depth)
    outputs = []
    for number, shot in enumerate(shots):
        first = prompt if number == 0 else None
        output, scene = model.run([shot], prompt=first, routing=routing, memory=memory)
        memory.commit(scene)
        outputs += output
    return outputs, memory


@pytest.mark.parametrize("policy", ["moc", "dense", "window", "first-frame"])
@pytest.mark.parametrize("prompt", [None, PROMPT])
def test_memory_equals_recomputation(
    model: MoCDiT, make_shots: MakeShots, policy: str, prompt: torch.Tensor | None
) -> None:
    shots = make_shots(FRAMES)
    routing = Routing(policy=policy, top_k=2)
    with torch.inference_mode():
        remembered, memory = run_with_memory(model, shots, prompt, routing)
        whole = model(shots, prompt=prompt, routing=routing)
    for one, other in zip(remembered, whole, strict=True):
        assert (one - other).abs().max() <= 1e-4
    tokens = sum(s.caption.shape[1] for s in shots) + sum(FRAMES) // 4 * 16 + (8 if prompt is not None else 0)
    assert memory.tokens == tokens


def test_noisy_shot_against_clean_memory(model: MoCDiT, make_shots: MakeShots) -> None:
    """The setting of generation: clean history, one shot at a lower noise level, several steps."""
    routing = Routing(top_k=2)
    clean = make_shots(FRAMES)
    with torch.inference_mode():
        _, memory = run_with_memory(model, clean[:-1], None, routing)
        for level in (0.0, 0.3, 0.8):
            shots = make_shots(FRAMES, [1.0] * 4 + [level])
            now = model([shots[-1]], routing=routing, memory=memory)[0]
            whole = model(shots, routing=routing)[-1]
            assert (now - whole).abs().max() <= 1e-4


def test_finished_shots_do_not_depend_on_later_ones(model: MoCDiT, make_shots: MakeShots) -> None:
    shots = make_shots(FRAMES)
    changed = [*shots[:-1], make_shots(FRAMES, seed=5)[-1]]
    with torch.inference_mode():
        one = model(shots, routing=Routing(top_k=2))
        other = model(changed, routing=Routing(top_k=2))
        free = model(changed, routing=Routing(top_k=2, causal=False))
        free_before = model(shots, routing=Routing(top_k=2, causal=False))
    for a, b in zip(one[:-1], other[:-1], strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(one[-1], other[-1])
    assert any(not torch.equal(a, b) for a, b in zip(free_before[:-1], free[:-1], strict=True))


def test_routing_matters(model: MoCDiT, make_shots: MakeShots) -> None:
    """Sparse differs from dense, and k = all candidates does not."""
    shots = make_shots(FRAMES)
    with torch.inference_mode():
        sparse = model(shots, routing=Routing(top_k=1))[-1]
        everything = model(shots, routing=Routing(top_k=100))[-1]
        dense = model(shots, routing=Routing(policy="dense"))[-1]
    assert (sparse - dense).abs().max() > 1e-3
    assert (everything - dense).abs().max() <= 1e-5


def test_commit_needs_a_forward_pass(model: MoCDiT, make_shots: MakeShots) -> None:
    shots = make_shots([8])
    with pytest.raises(RuntimeError):
        ContextMemory(3).commit(model.pack(shots, None))


@torch.inference_mode()
def test_outer_loop_lets_the_best_shots_through(model: MoCDiT, make_shots: MakeShots) -> None:
    """With a short reach each layer recalls the shots that score highest, and the global prompt."""
    shots = make_shots([4] * 6)
    memory = ContextMemory(model.config.depth)
    for number, shot in enumerate(shots):
        prompt = PROMPT if number == 0 else None
        _, scene = model.run([shot], prompt=prompt, routing=Routing(top_k=2), memory=memory)
        memory.commit(scene)
    new = model.pack(make_shots([4] * 7)[6:], None)
    tokens, heads, dim = new.tokens, model.config.heads, model.config.head_dim
    q, k, v = torch.randn(3, 1, tokens, heads, dim).unbind()
    layout = layout_after(memory.layout, new)
    everything = memory.recall(0, k, v, layout, asking=q, asked=k, reach=None, top_k=2)
    assert everything.contexts == tuple(range(layout.count))
    if model.config.rotated_routing:  # else of keys before their rotary turn, which are not kept
        assert torch.allclose(everything.descriptors, pool_descriptors(everything.keys, layout), atol=1e-5)
    some = memory.recall(0, k, v, layout, asking=q, asked=k, reach=2, top_k=2)
    shots_of = [layout.shots[c] for c in some.contexts]
    assert shots_of[0] == -1
    assert shots_of[-2:] == [6, 6]
    votes = [0] * 6
    for token, head in product(range(tokens), range(heads)):
        scores = everything.descriptors[0, 1:-2, head] @ q[0, token, head]  # without prompt and own shot
        for context in scores.topk(2).indices.tolist():
            votes[layout.shots[1 + context]] += 1
    best = sorted(sorted(range(6), key=lambda s: (-votes[s], -s))[:2])
    assert sorted(set(shots_of[1:-2])) == best
    picked = torch.isin(layout.token_contexts(), torch.tensor(some.contexts))
    assert torch.equal(some.keys, everything.keys[:, picked])
    assert torch.equal(some.values, everything.values[:, picked])


def test_store_spills_to_disk_and_back() -> None:
    store = SpillingStore(host_bytes=100)
    values = {
        i: torch.randn(2, 1, 3, 2, 2).to(dtype) for i, dtype in enumerate([torch.float32, torch.bfloat16] * 3)
    }
    for key, value in values.items():
        store.put(key, value)
    assert store._held_bytes <= 100
    for key in [0, 5, 3, 0, 1, 2, 4]:
        assert torch.equal(store.get(key), values[key])
    with pytest.raises(KeyError):
        store.get(9)
