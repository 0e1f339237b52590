"""Rarer ways to say the concepts of the world: for richer captions, and for reading prompts."""

from __future__ import annotations

from dataclasses import replace

from mocgen.training.world import words
from mocgen.training.world.variety import Variety
from mocgen.training.world.words import Verb, words_of


def _ways(text: str) -> tuple[str, ...]:
    """Ways to say something, from a text with commas between them."""
    return tuple(text.split(", "))


MORE_SHAPE_NOUNS = {
    "ball": _ways(
        "football, basketball, soccer ball, baseball, bowling ball, cannonball, disc, melon, gumball, "
        "pellet, handball, tennis ball, golf ball, bauble, coconut, eyeball"
    ),
    "cube": _ways(
        "die, carton, parcel, package, suitcase, rectangle, chest, brick, container, cabinet, present, "
        "building block, basket, casket, case"
    ),
    "triangle": _ways(
        "cone, tent, tetrahedron, spike, arrow, delta, arrowhead, pennant, roof, spearhead, funnel, steeple"
    ),
    "diamond": _ways("crystal, lozenge, octahedron, opal, rhomboid, topaz, zircon"),
    "star": _ways("starfish, pentacle, hexagram, snowflake, sparkle, sheriff star, pointed star"),
    "ring": _ways(
        "tire, torus, circlet, bangle, wreath, halo, necklace, washer, collar, pretzel, crown, garland, "
        "anklet, belt"
    ),
}
MORE_PATTERN_ADJECTIVES = {
    "plain": _ways("unpatterned, uniform, unmarked, unadorned, blank"),
    "striped": _ways("lined, zebra, streaked, barred"),
    "dotted": _ways("dappled, mottled, leopard, dalmatian, dotty, flecked, peppered, stippled, pockmarked"),
    "checkered": _ways(
        "chequered, checkerboard, tartan, gingham, lattice, patchwork, mosaic, argyle, squared, "
        "crosshatched, harlequin, quilted, houndstooth"
    ),
}
MORE_COLOR_ADJECTIVES = {
    "red": _ways("reddish, carmine, strawberry, cardinal, claret, poppy, raspberry, garnet"),
    "orange": _ways("amber, mandarin, clementine, copper, ginger, marigold, persimmon"),
    "yellow": _ways("blonde, canary, banana, mustard, sunflower, saffron, yellowish, daffodil"),
    "green": _ways("mint, moss, avocado, greenish, khaki, shamrock, pistachio, fern"),
    "cyan": _ways("aquamarine, seafoam"),
    "blue": _ways("denim, ultramarine, bluish, blueberry, cornflower, indigo"),
    "purple": _ways("lilac, mauve, amethyst, grape, aubergine, eggplant, orchid, purplish"),
    "pink": _ways("rose, salmon, fuchsia, blush, magenta, pinkish"),
    "white": _ways("cream, chalk, whitish, milk, pale, porcelain, vanilla, bleached"),
    "black": _ways("onyx, coal, obsidian, inky, sable, soot, blackish"),
}
MORE_PLACE_PHRASES = {
    "beach": _ways(
        "at the seafront, at the waterfront, at the harbor, in the bay, in a cove, on an island, by the "
        "palms, in the surf, on the riviera, in the tropics, in the sand, by a sandcastle, by the "
        "lighthouse, at the port, at the dock"
    ),
    "desert": _ways(
        "in the kalahari, in the mojave, by a cactus, at an oasis, in the outback, on a mesa, in the "
        "badlands, by the camels, in the wilderness, in the drought, in the namib, in arizona, in a "
        "sandstorm"
    ),
    "snowy forest": _ways(
        "in the ice, in siberia, in the frost, in the snowfall, by the glacier, in antarctica, in the "
        "taiga, in the woodland, in december, by a spruce, in alaska, in finland, in norway, by the "
        "igloo, in the sleet, in lapland"
    ),
    "meadow": _ways(
        "in the grassland, in a field, in the hay, at the ranch, in the garden, in the park, in the "
        "flowers, in the clover, at the farm, on the heath, in the orchard, in the paddock, at a picnic, "
        "in the savanna"
    ),
    "night city": _ways(
        "in the town, in the street, by a skyscraper, in the neon, in the nightlife, on the boulevard, on "
        "the avenue, in london, in chicago, in shanghai, in paris, in berlin, in mumbai, in the suburb, "
        "at the nightclub, in the capital"
    ),
    "outer space": _ways(
        "in the universe, on the moon, on mars, by jupiter, by a comet, by a supernova, in the void, by "
        "the spaceship, on venus, in the constellation, on pluto, in the stardust, by a black hole, by a "
        "meteor"
    ),
    "under the sea": _ways(
        "on the seabed, in the aquarium, by a submarine, in the pacific, in the seaweed, by the fish, in "
        "the kelp, by a squid, by the dolphins, in the trench, by a mermaid, by a shark, in the depths, "
        "in atlantis"
    ),
    "sunset hills": _ways(
        "in the gloaming, at nightfall, in the afterglow, on the ridge, on the hilltop, in the highlands, "
        "at the golden hour, on a knoll, on a hillock, on the moors, in the late afternoon"
    ),
}


def _verbs(forms: str) -> tuple[Verb, ...]:
    """Verbs from "present ing" pairs."""
    pairs = [pair.split() for pair in forms.split(",")]
    return tuple(Verb(present=present, ing=ing) for present, ing in pairs)


MORE_TRAVEL = _verbs(
    "travels travelling,walks walking,runs running,rushes rushing,races racing,speeds speeding,"
    "creeps creeping,wanders wandering,marches marching,sails sailing,proceeds proceeding,hurries hurrying,"
    "drives driving,flees fleeing,trots trotting,ambles ambling,trudges trudging,paces pacing,darts darting,"
    "strides striding,limps limping"
)
MORE_MOTION_VERBS = {
    "bounces": _verbs(
        "skips skipping,vaults vaulting,rebounds rebounding,bobs bobbing,ricochets ricocheting"
    ),
    "flies in a circle": _verbs(
        "circulates circulating,encircles encircling,flutters fluttering,swoops swooping"
    ),
    "grows": _verbs(
        "increases increasing,widens widening,magnifies magnifying,broadens broadening,thickens thickening,"
        "extends extending,stretches stretching,multiplies multiplying,amplifies amplifying"
    ),
    "spins": _verbs(
        "twists twisting,pivots pivoting,spirals spiralling,reels reeling,tumbles tumbling,"
        "swirls swirling,corkscrews corkscrewing"
    ),
    "stands still": _verbs(
        "pauses pausing,remains remaining,halts halting,parks parking,sleeps sleeping,lingers lingering,"
        "relaxes relaxing,settles settling,loiters loitering,dozes dozing"
    ),
}


CAMERA_PHRASES = {
    "pans left": ("the camera pans left", "panning left", "the view pans left"),
    "pans right": ("the camera pans right", "panning right", "the view pans right"),
    "zooms in": ("the camera zooms in", "zooming in", "the camera comes closer"),
    "zooms out": ("the camera zooms out", "zooming out", "the camera pulls back"),
}
FRIEND_NAMES = ("the friend", "our friend")
FRIEND_INTRODUCTION = "the friend the {look}"
FRIEND_PROMPT = "the friend is {look}"


def rarer_verbs(motion: str) -> tuple[Verb, ...]:
    """Rarer ways to say a motion."""
    if motion in MORE_MOTION_VERBS:
        return MORE_MOTION_VERBS[motion]
    tails = words.MOTION_VERBS[motion][0].tails
    return tuple(replace(verb, tails=tails) for verb in MORE_TRAVEL)


def words_beyond(variety: Variety) -> frozenset[str]:
    """The words that captions of this variety have beyond those of the plain world."""
    texts: list[str] = []
    if variety.camera:
        texts += [phrase for phrases in CAMERA_PHRASES.values() for phrase in phrases]
    if variety.friend:
        texts += FRIEND_NAMES
    if variety.synonyms:
        tables = (MORE_SHAPE_NOUNS, MORE_PATTERN_ADJECTIVES, MORE_COLOR_ADJECTIVES, MORE_PLACE_PHRASES)
        texts += [phrase for table in tables for phrases in table.values() for phrase in phrases]
        texts += [f"{verb.present} {verb.ing}" for verbs in MORE_MOTION_VERBS.values() for verb in verbs]
        texts += [f"{verb.present} {verb.ing}" for verb in MORE_TRAVEL]
    return frozenset(word for text in texts for word in words_of(text)) - words.WORDS
