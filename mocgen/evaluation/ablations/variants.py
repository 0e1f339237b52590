"""The operator with one thing changed at a time."""

from __future__ import annotations

from dataclasses import dataclass

from mocgen.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Variant:
    """How contexts are cut, described, chosen and anchored, and how sparsity comes in training."""

    name: str
    causal: bool = True
    caption_anchor: bool = True
    shot_anchor: bool = True
    drops: bool = True  # drop-off and drop-in while sparse
    schedule: bool = True  # dense at first; False: sparse from the start
    uniform: int = 0  # tokens in a context; 0: cut at captions, shots and frames
    descriptors: int = 1  # in each context; more: the best one counts
    rotated: bool = True  # route by keys after their rotary turn
    by_score: bool = True  # False: contexts are chosen at random, for comparison
    sparse: bool = True  # False: dense throughout, for comparison


VARIANTS = (
    Variant(name="moc"),
    Variant(name="dense", sparse=False),
    Variant(name="random-contexts", by_score=False),
    Variant(name="no-shot-anchor", shot_anchor=False),
    Variant(name="no-caption-anchor", caption_anchor=False),
    Variant(name="not-causal", causal=False),
    Variant(name="no-schedule", schedule=False),
    Variant(name="no-drops", drops=False),
    Variant(name="unrotated-keys", rotated=False),
    Variant(name="sub-descriptors", descriptors=4),
    Variant(name="uniform-contexts", uniform=13),
    Variant(name="no-anchors", caption_anchor=False, shot_anchor=False),
)
NAMES = tuple(variant.name for variant in VARIANTS)


def find_variant(name: str) -> Variant:
    """The variant of this name. Raises UsageError."""
    for variant in VARIANTS:
        if variant.name == name:
            return variant
    raise UsageError(f"variant {name!r} is not known; give one of {', '.join(NAMES)}")
