"""The ablations: the plain variant is the operator itself, the others differ where they should."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from mocgen.codec.embedded import CodecConfig, EmbeddedCodec
from mocgen.evaluation.ablations.attention import AblatedAttention, rules
from mocgen.evaluation.ablations.measure import ask, with_pasts_swapped
from mocgen.evaluation.ablations.pool import build_pool
from mocgen.evaluation.ablations.request import AblationRequest
from mocgen.evaluation.ablations.small import new_pupil, train
from mocgen.evaluation.ablations.variants import VARIANTS, find_variant
from mocgen.model.attention import Attention, AttentionContext, Routing
from mocgen.model.config import DiTConfig
from mocgen.model.dit import MoCDiT
from mocgen.native import NativeModel
from mocgen.text.vocabulary import Vocabulary
from mocgen.training.config import Stage
from mocgen.training.optim import OptimConfig
from mocgen.training.world import STOP_WORDS, WORDS, is_held_out
from mocgen.video_model import Defaults
from mocgen_kernels import ContextLayout, Kind, route

LAYOUT = ContextLayout(
    lengths=[4, 9, 9] * 4,
    kinds=[Kind.TEXT, Kind.VIDEO, Kind.VIDEO] * 4,
    shots=[shot for shot in range(4) for _ in range(3)],
)
WIDTH, HEADS = 32, 2
SIZES = "--start 2 --steps 2 --batch 2 --characters 4 --trials 3 --pictures 1 --shots 3 --width 64 --depth 2"
LINE = ("eval", "ablations", *SIZES.split(), "--seeds", "2", "--format", "json")


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


@pytest.mark.parametrize("name", ["uniform-contexts", "sub-descriptors", "not-causal", "random-contexts"])
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
    first, again = (run_mocgen(*LINE, "--variant", "moc", "--variant", "no-schedule") for _ in range(2))
    assert first.code == 0, first.err
    assert [without_time(t) for t in first.json["trials"]] == [without_time(t) for t in again.json["trials"]]
    trials = first.json["trials"]
    assert [(t["variant"], t["seed"]) for t in trials] == [
        ("moc", 0),
        ("moc", 1),
        ("no-schedule", 0),
        ("no-schedule", 1),
    ]
    assert all(trial["exact"]["total"] == 3 and trial["pictures"]["total"] == 1 for trial in trials)
    assert len({trial["loss"] for trial in trials}) == 4


def test_an_interrupted_run_is_taken_up(run_mocgen) -> None:
    record = Path("out") / "ablations.json"
    half = run_mocgen(*LINE, "--variant", "moc", "--seeds", "1", "--out", "out")
    assert half.code == 0, half.err
    before = json.loads(record.read_text())["trials"]
    whole = run_mocgen(*LINE, "--variant", "moc", "--out", "out")
    assert whole.json["trials"][:1] == before
    assert json.loads(record.read_text()) == whole.json
    fresh = run_mocgen(*LINE, "--variant", "moc")
    assert [without_time(t) for t in fresh.json["trials"]] == [without_time(t) for t in whole.json["trials"]]
    other = run_mocgen(*LINE, "--variant", "moc", "--out", "out", "--top-k", "1")
    assert other.code == 1
    assert "another top_k" in other.err


def without_time(trial: dict) -> dict:
    return {name: value for name, value in trial.items() if name != "seconds"}


def test_the_stem_of_the_base_is_taken_and_stays(base: NativeModel) -> None:
    request = AblationRequest(width=64, depth=2, shots=3, batch=2)
    pool = build_pool(base, seed=0, characters=4, held_out=False, on_character=lambda done, total: None)
    pupil = new_pupil(base, find_variant("moc"), request, seed=0)
    train(
        pupil,
        pool,
        Stage(steps=2, batch=2, shots=3),
        OptimConfig(),
        seed=0,
        on_step=lambda step: None,
    )
    for name, weight in base.dit.stem.state_dict().items():
        assert torch.equal(pupil.dit.stem.state_dict()[name], weight)


@pytest.fixture
def base() -> NativeModel:
    """A model with a stem."""
    torch.manual_seed(0)
    codec = EmbeddedCodec(CodecConfig(size=96, width=16, blocks=1)).eval()
    vocabulary = Vocabulary.of(WORDS, STOP_WORDS)
    config = DiTConfig(
        width=32, depth=1, heads=1, rope_axes=(8, 8, 8, 8), stem_width=8, vocabulary=len(vocabulary)
    )
    return NativeModel(dit=MoCDiT(config), codec=codec, vocabulary=vocabulary, defaults=Defaults())


def test_in_every_scene_the_hero_is_seen_and_comes_back_unnamed(base: NativeModel) -> None:
    pool = build_pool(base, seed=0, characters=6, held_out=True, on_character=lambda done, total: None)
    assert all(is_held_out(shot.look, shot.place) for shot in pool.back)
    scenes = ask(pool, 4)
    heroes = torch.arange(6)
    assert torch.equal(scenes.looks[:, -1], pool.labels)
    assert torch.equal(scenes.looks[heroes, heroes % 3], pool.labels)
    assert torch.equal(scenes.captions[:, -1], pool.hidden[:, 1])
    assert torch.equal(scenes.captions[heroes, heroes % 3], pool.hidden[:, 0])
    assert not torch.equal(pool.hidden, pool.named)
    assert (scenes.t[:, :-1] == 1).all()
    assert (scenes.t[:, -1] < 0.1).all()
    swapped = with_pasts_swapped(scenes)
    assert torch.equal(swapped.latents[1, :-1], scenes.latents[0, :-1])
    assert torch.equal(swapped.latents[:, -1], scenes.latents[:, -1])


@pytest.mark.parametrize(
    ("option", "named"),
    [
        (("--variant", "better"), "'better' is not known"),
        (("--seeds", "0"), "seeds must be"),
        (("--pictures", "999"), "pictures must"),
    ],
)
def test_is_refused_in_one_line(run_mocgen, option: tuple[str, str], named: str) -> None:
    outcome = run_mocgen("eval", "ablations", *option)
    assert outcome.code == 2
    assert named in outcome.err
