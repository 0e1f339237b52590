"""The synthetic world: seeded, captioned multi-shot scenes in the style of a cartoon."""

from mocgen.training.world.captions import scene_prompt
from mocgen.training.world.casts import Naming, full_caption, scene_captions
from mocgen.training.world.pool import render_pool
from mocgen.training.world.render import object_mask, render_shot
from mocgen.training.world.scenes import sample_cast, sample_look, sample_scene
from mocgen.training.world.specs import (
    COLORS,
    MOTIONS,
    PATTERNS,
    PLACES,
    SHAPES,
    Look,
    Pose,
    SceneSpec,
    ShotSpec,
    is_held_out,
)
from mocgen.training.world.synonyms import words_beyond
from mocgen.training.world.variety import PLAIN, Variety
from mocgen.training.world.words import STOP_WORDS, WORDS

__all__ = [
    "COLORS",
    "MOTIONS",
    "PATTERNS",
    "PLACES",
    "PLAIN",
    "SHAPES",
    "STOP_WORDS",
    "WORDS",
    "Look",
    "Naming",
    "Pose",
    "SceneSpec",
    "ShotSpec",
    "Variety",
    "full_caption",
    "is_held_out",
    "object_mask",
    "render_pool",
    "render_shot",
    "sample_cast",
    "sample_look",
    "sample_scene",
    "scene_captions",
    "scene_prompt",
    "words_beyond",
]
