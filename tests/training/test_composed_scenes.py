"""Scenes put together from a pool of shots, batches of them, and the memory gap."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from mocgen.model.config import DiTConfig
from mocgen.model.dit import MoCDiT
from mocgen.text.vocabulary import Vocabulary
from mocgen.training.batches import CLEAN, Batches
from mocgen.training.compose import compose
from mocgen.training.config import DiTTraining, Stage
from mocgen.training.data import ClipPool
from mocgen.training.probe import MemoryProbe
from mocgen.training.sources import RESTLESS, WorldSource
from mocgen.training.world import COLORS, STOP_WORDS, WORDS, sample_cast
from mocgen.training.world.words import COLOR_ADJECTIVES, words_of

MODEL = DiTConfig(
    width=32, depth=1, heads=1, rope_axes=(8, 8, 8, 8), refine_width=8, refine_blocks=1,
    latent_size=4, vocabulary=len(WORDS) + 1,
)  # fmt: skip
VOCABULARY = Vocabulary.of(WORDS, STOP_WORDS)
COLOR_WORDS = {word for color in COLORS for word in COLOR_ADJECTIVES[color]}


@pytest.fixture
def pool() -> ClipPool:
    """40 looks of 4 shots whose latents tell their place in the pool."""
    shots = [sample_cast(np.random.default_rng(i), clips=4).shots for i in range(40)]
    numbers = torch.arange(160.0).view(40, 4, 1, 1, 1, 1).expand(40, 4, 8, 8, 4, 4)
    objects = torch.zeros(40, 4, 8, 4, 4, dtype=torch.uint8)
    return ClipPool(latents=numbers.half(), objects=objects, shots=tuple(shots))


def batches(pool: ClipPool, **options) -> Batches:
    training = DiTTraining(stages=(), **options)
    return Batches(WorldSource(pool, training), VOCABULARY, MODEL, training)


def test_a_cast_shows_one_look_in_changing_motions():
    shots = sample_cast(np.random.default_rng(1), clips=6).shots
    assert len({shot.look for shot in shots}) == len({shot.pose.size for shot in shots}) == 1
    assert all(one.motion != other.motion for one, other in pairwise(shots))
    assert all(shot.caption == shot.full_caption for shot in shots)


def test_the_hero_is_seen_first_and_last_and_no_clip_of_it_twice(pool):
    between = []
    for seed in range(200):
        scene = compose(pool, shots=4, distractors=0.8, naming="nowhere", rng=np.random.default_rng(seed))
        looks = [pool.shots[cast][clip].look for cast, clip in scene.clips]
        assert looks[0] == looks[-1]
        heroes = [clip for clip in scene.clips if clip[0] == scene.clips[0][0]]
        assert len(set(heroes)) == len(heroes)
        between += [look != looks[0] for look in looks[1:-1]]
    assert 0.3 < np.mean(between) < 0.5


def test_what_is_named_nowhere_stands_in_no_caption_but_few(pool):
    named = []
    for seed in range(200):
        scene = compose(pool, shots=3, distractors=0.0, naming="nowhere", rng=np.random.default_rng(seed))
        colors = [not COLOR_WORDS.isdisjoint(words_of(caption)) for caption in scene.captions]
        assert not colors[0]
        assert not scene.prompt
        named += colors[1:]
    assert 0.08 < np.mean(named) < 0.22
    prompted = compose(pool, shots=3, distractors=0.0, naming="prompt", rng=np.random.default_rng(1))
    assert not COLOR_WORDS.isdisjoint(words_of(prompted.prompt))


def test_a_batch_holds_clean_history_then_noisy_shots(pool):
    stage = Stage(steps=1, batch=3, shots=4)
    for seed in range(20):
        batch = batches(pool).draw(stage, torch.Generator().manual_seed(seed))
        assert batch.latents.shape == batch.noise.shape == (3, 4, 8, 8, 4, 4)
        assert (batch.t[:, : batch.clean] == CLEAN).all()
        assert (batch.t[:, batch.clean :] < CLEAN).all()
        assert batch.captions.shape[:2] == (3, 4)
        assert list(batch.shots) == sorted(set(batch.shots))
        first, second = batch.frames
        assert 0 <= first < 4 <= second < 8


def test_equal_generators_draw_equal_batches(pool):
    one, again, other = (
        batches(pool).draw(Stage(steps=1, batch=3, shots=2), torch.Generator().manual_seed(seed))
        for seed in (1, 1, 2)
    )
    assert one.latents.equal(again.latents)
    assert one.captions.equal(again.captions)
    assert not one.noise.equal(other.noise)


def test_silent_history_has_no_captions(pool):
    drawn = batches(pool, silent_history=1.0, caption_dropout=0.0)
    for seed in range(20):
        batch = drawn.draw(Stage(steps=1, batch=3, shots=3), torch.Generator().manual_seed(seed))
        assert (batch.captions[:, : batch.clean] == 0).all()
        assert (batch.captions[:, batch.clean :].amax(-1) > 0).all()


def test_history_is_noisy_in_half_of_the_batches(pool):
    drawn = batches(pool, history_noise=0.4)
    stage = Stage(steps=1, batch=2, shots=4)
    levels = []
    for seed in range(80):
        batch = drawn.draw(stage, torch.Generator().manual_seed(seed))
        history = batch.t[:, : batch.clean]
        assert history.unique().numel() <= 1
        levels += history[:1, :1].flatten().tolist()
    noisy = [level for level in levels if level < CLEAN]
    assert 0.3 < len(noisy) / len(levels) < 0.7
    assert 0.6 <= min(noisy) < 0.7


def test_single_shots_are_named_in_full(pool):
    batch = batches(pool, caption_dropout=0.0).draw(
        Stage(steps=1, batch=50, shots=1), torch.Generator().manual_seed(1)
    )
    known = {number for number, word in enumerate(VOCABULARY.words, start=1) if word in COLOR_WORDS}
    named = [bool(known & set(ids)) for ids in batch.captions[:, 0].tolist()]
    assert np.mean(named) > 0.9


def test_restless_motions_are_drawn_more_often(pool):
    def share(restless: float) -> float:
        source = WorldSource(pool, DiTTraining(stages=(), restless=restless))
        drawn = source.single_shots(300, np.random.default_rng(1))
        specs = [shot for shots in pool.shots for shot in shots]
        found = drawn.latents[:, 0, 0, 0, 0, 0].int().tolist()  # places in the pool
        return float(np.mean([specs[number].motion in RESTLESS for number in found]))

    usual = share(0.0)
    assert share(1.0) == 1
    assert share(0.5) == pytest.approx((1 + usual) / 2, abs=0.08)


class Parrot(MoCDiT):
    """Draws the last shot as what its first shot shows."""

    def forward(self, shots, **options):
        frames = list(shots[-1].wanted)
        return [shots[0].latents[:, frames] for _ in shots]


def test_the_memory_gap_is_that_of_a_model_that_only_looks_back():
    specs = [sample_cast(np.random.default_rng(i), clips=2).shots for i in range(8)]
    looks = torch.randn(8, 1, 1, 8, 4, 4).expand(8, 2, 8, 8, 4, 4)
    objects = torch.zeros(8, 2, 8, 4, 4, dtype=torch.uint8)
    pool = ClipPool(latents=looks.half(), objects=objects, shots=tuple(specs))
    probe = MemoryProbe(pool, VOCABULARY)
    assert probe.measure(Parrot(MODEL), top_k=1) == pytest.approx(1.0, abs=1e-3)  # words help it no more
    assert abs(probe.measure(MoCDiT(MODEL), top_k=1)) < 1e-3  # a new model predicts zeros


def test_a_share_of_the_batches_holds_single_shots(pool):
    stage = Stage(steps=1, batch=3, shots=4, singles=0.5)
    shapes = [
        tuple(batches(pool).draw(stage, torch.Generator().manual_seed(seed)).t.shape) for seed in range(40)
    ]
    assert set(shapes) == {(3, 4), (12, 1)}
    assert 10 < shapes.count((12, 1)) < 30
