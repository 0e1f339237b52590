"""Shot by shot against the memory equals recomputing the whole scene."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from mocgen.model.attention import Routing
from mocgen.model.dit import MoCDiT, NoisyShot
from mocgen.model.memory import ContextMemory

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
