"""The ablations: the plain variant is the operator itself, the others differ where they should."""

from __future__ import annotations

import pytest
import torch

from mocgen.evaluation.ablations.attention import AblatedAttention, rules
from mocgen.evaluation.ablations.variants import VARIANTS, find_variant
from mocgen.model.attention import Attention, AttentionContext, Routing
from mocgen_kernels import ContextLayout, Kind, route

LAYOUT = ContextLayout(
    lengths=[4, 9, 9] * 4,
    kinds=[Kind.TEXT, Kind.VIDEO, Kind.VIDEO] * 4,
    shots=[shot for shot in range(4) for _ in range(3)],
)
WIDTH, HEADS = 32, 2


def context(top_k: int = 2, **drops: float) -> AttentionContext:
    generator = torch.Generator().manual_seed(1)
    angles = torch.rand(LAYOUT.length, WIDTH // HEADS // 2, generator=generator)
    return AttentionContext(
        layout=LAYOUT, angles=angles, routing=Routing(top_k=top_k, **drops), generator=generator
    )


def attention(name: str) -> AblatedAttention:
    torch.manual_seed(0)
    return AblatedAttention(WIDTH, HEADS, 0, find_variant(name)).eval()


def attended(name: str) -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    q, k = (torch.randn(1, LAYOUT.length, HEADS, WIDTH // HEADS, generator=generator) for _ in range(2))
    return attention(name).attended(q, k, context())


@pytest.mark.parametrize("top_k", [1, 3, 64])
def test_the_plain_variant_is_the_operator(top_k: int) -> None:
    generator = torch.Generator().manual_seed(2)
    q, k = (torch.randn(2, LAYOUT.length, HEADS, 16, generator=generator) for _ in range(2))
    found = attention("moc").attended(q, k, context(top_k))
    assert torch.equal(found, route(q, k, LAYOUT, top_k=top_k).dense_mask())


def test_the_plain_variant_computes_what_the_model_computes() -> None:
    ours = attention("moc")
    theirs = Attention(WIDTH, HEADS, 0, rotated_routing=True).eval()
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, LAYOUT.length, WIDTH, generator=torch.Generator().manual_seed(3))
    assert torch.allclose(ours(x, context()), theirs(x, context()), atol=1e-5)


def test_causal_variants_never_see_later_shots_and_the_other_one_does() -> None:
    shots = torch.tensor(LAYOUT.shots)[LAYOUT.token_contexts()]
    later = shots[:, None] < shots
    for variant in VARIANTS:
        open_later = (rules(LAYOUT, variant).candidates.float() @ _members(variant)).bool() & later
        assert bool(open_later.any()) == (not variant.causal), variant.name
        assert not bool((rules(LAYOUT, variant).anchors & later).any())


def _members(variant) -> torch.Tensor:
    return torch.nn.functional.one_hot(rules(LAYOUT, variant).contexts).float().T


def test_what_is_no_anchor_must_be_retrieved() -> None:
    shots = torch.tensor(LAYOUT.shots)[LAYOUT.token_contexts()]
    own = shots[:, None] == shots
    assert bool(attended("moc")[0, 0][own].all())
    assert not bool(attended("no-shot-anchor")[0, 0][own].all())
    assert not bool(attended("no-caption-anchor")[0, 0][own].all())
    assert bool(attended("no-anchors")[0, 0].diagonal().all())


@pytest.mark.parametrize("name", ["uniform-contexts", "sub-descriptors", "not-causal"])
def test_a_variant_chooses_otherwise(name: str) -> None:
    assert not torch.equal(attended(name), attended("moc"))


def test_drops_happen_in_training_only_and_only_where_they_are_on() -> None:
    generator = torch.Generator().manual_seed(2)
    q, k = (torch.randn(1, LAYOUT.length, HEADS, 16, generator=generator) for _ in range(2))
    with_drops = context(drop_off=1.0, drop_in=2.0)
    for name, differs in (("moc", True), ("no-drops", False)):
        module = attention(name)
        calm = module.attended(q, k, with_drops)
        assert torch.equal(calm, module.train().attended(q, k, with_drops)) != differs


def test_small_models_train_and_are_read(run_mocgen) -> None:
    sizes = ("--steps", "2", "--batch", "2", "--scenes", "3", "--trials", "2", "--gap", "2")
    line = ("eval", "ablations", *sizes, "--width", "64", "--depth", "1", "--seeds", "2", "--format", "json")
    first, again = (run_mocgen(*line, "--variant", "moc", "--variant", "unrotated-keys") for _ in range(2))
    assert first.code == 0, first.err
    assert first.json == again.json
    assert [(t["variant"], t["seed"]) for t in first.json["trials"]] == [
        ("moc", 0),
        ("moc", 1),
        ("unrotated-keys", 0),
        ("unrotated-keys", 1),
    ]
    assert all(trial["loss"] > 0 and trial["exact"]["total"] == 2 for trial in first.json["trials"])


@pytest.mark.parametrize(
    ("option", "named"),
    [(("--variant", "better"), "'better' is not known"), (("--seeds", "0"), "seeds must be")],
)
def test_is_refused_in_one_line(run_mocgen, option: tuple[str, str], named: str) -> None:
    outcome = run_mocgen("eval", "ablations", *option)
    assert outcome.code == 2
    assert named in outcome.err
