"""Rarer ways to say the concepts of the world: for richer captions, and for reading prompts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from mocgen.training.world import words
from mocgen.training.world.variety import Variety
from mocgen.training.world.words import Verb, words_of

MORE_SHAPE_NOUNS = {
    "ball": (
        "football",
        "basketball",
        "soccer ball",
        "baseball",
        "bowling ball",
        "cannonball",
        "disc",
        "melon",
        "gumball",
        "pellet",
        "handball",
        "tennis ball",
        "golf ball",
        "bauble",
        "coconut",
        "eyeball",
    ),
    "cube": (
        "die",
        "carton",
        "parcel",
        "package",
        "suitcase",
        "rectangle",
        "chest",
        "brick",
        "container",
        "cabinet",
        "present",
        "building block",
        "basket",
        "casket",
        "case",
    ),
    "triangle": (
        "cone",
        "tent",
        "tetrahedron",
        "spike",
        "arrow",
        "delta",
        "arrowhead",
        "pennant",
        "roof",
        "spearhead",
        "funnel",
        "steeple",
    ),
    "diamond": (
        "crystal",
        "lozenge",
        "octahedron",
        "opal",
        "rhomboid",
        "topaz",
        "zircon",
    ),
    "star": (
        "starfish",
        "pentacle",
        "hexagram",
        "snowflake",
        "sparkle",
        "sheriff star",
        "pointed star",
    ),
    "ring": (
        "tire",
        "torus",
        "circlet",
        "bangle",
        "wreath",
        "halo",
        "necklace",
        "washer",
        "collar",
        "pretzel",
        "crown",
        "garland",
        "anklet",
        "belt",
    ),
}
MORE_PATTERN_ADJECTIVES = {
    "plain": (
        "unpatterned",
        "uniform",
        "unmarked",
        "unadorned",
        "blank",
    ),
    "striped": (
        "lined",
        "zebra",
        "streaked",
        "barred",
    ),
    "dotted": (
        "dappled",
        "mottled",
        "leopard",
        "dalmatian",
        "dotty",
        "flecked",
        "peppered",
        "stippled",
        "pockmarked",
    ),
    "checkered": (
        "chequered",
        "checkerboard",
        "tartan",
        "gingham",
        "lattice",
        "patchwork",
        "mosaic",
        "argyle",
        "squared",
        "crosshatched",
        "harlequin",
        "quilted",
        "houndstooth",
    ),
}
MORE_COLOR_ADJECTIVES = {
    "red": ("reddish", "carmine", "strawberry", "cardinal", "claret", "poppy", "raspberry", "garnet"),
    "orange": ("amber", "mandarin", "clementine", "copper", "ginger", "marigold", "persimmon"),
    "yellow": ("blonde", "canary", "banana", "mustard", "sunflower", "saffron", "yellowish", "daffodil"),
    "green": ("mint", "moss", "avocado", "greenish", "khaki", "shamrock", "pistachio", "fern"),
    "cyan": ("aquamarine", "seafoam"),
    "blue": ("denim", "ultramarine", "bluish", "blueberry", "cornflower", "indigo"),
    "purple": ("lilac", "mauve", "amethyst", "grape", "aubergine", "eggplant", "orchid", "purplish"),
    "pink": ("rose", "salmon", "fuchsia", "blush", "magenta", "pinkish"),
    "white": ("cream", "chalk", "whitish", "milk", "pale", "porcelain", "vanilla", "bleached"),
    "black": ("onyx", "coal", "obsidian", "inky", "sable", "soot", "blackish"),
}
MORE_PLACE_PHRASES = {
    "beach": (
        "at the seafront",
        "at the waterfront",
        "at the harbor",
        "in the bay",
        "in a cove",
        "on an island",
        "by the palms",
        "in the surf",
        "on the riviera",
        "in the tropics",
        "in the sand",
        "by a sandcastle",
        "by the lighthouse",
        "at the port",
        "at the dock",
    ),
    "desert": (
        "in the kalahari",
        "in the mojave",
        "by a cactus",
        "at an oasis",
        "in the outback",
        "on a mesa",
        "in the badlands",
        "by the camels",
        "in the wilderness",
        "in the drought",
        "in the namib",
        "in arizona",
        "in a sandstorm",
    ),
    "snowy forest": (
        "in the ice",
        "in siberia",
        "in the frost",
        "in the snowfall",
        "by the glacier",
        "in antarctica",
        "in the taiga",
        "in the woodland",
        "in december",
        "by a spruce",
        "in alaska",
        "in finland",
        "in norway",
        "by the igloo",
        "in the sleet",
        "in lapland",
    ),
    "meadow": (
        "in the grassland",
        "in a field",
        "in the hay",
        "at the ranch",
        "in the garden",
        "in the park",
        "in the flowers",
        "in the clover",
        "at the farm",
        "on the heath",
        "in the orchard",
        "in the paddock",
        "at a picnic",
        "in the savanna",
    ),
    "night city": (
        "in the town",
        "in the street",
        "by a skyscraper",
        "in the neon",
        "in the nightlife",
        "on the boulevard",
        "on the avenue",
        "in london",
        "in chicago",
        "in shanghai",
        "in paris",
        "in berlin",
        "in mumbai",
        "in the suburb",
        "at the nightclub",
        "in the capital",
    ),
    "outer space": (
        "in the universe",
        "on the moon",
        "on mars",
        "by jupiter",
        "by a comet",
        "by a supernova",
        "in the void",
        "by the spaceship",
        "on venus",
        "in the constellation",
        "on pluto",
        "in the stardust",
        "by a black hole",
        "by a meteor",
    ),
    "under the sea": (
        "on the seabed",
        "in the aquarium",
        "by a submarine",
        "in the pacific",
        "in the seaweed",
        "by the fish",
        "in the kelp",
        "by a squid",
        "by the dolphins",
        "in the trench",
        "by a mermaid",
        "by a shark",
        "in the depths",
        "in atlantis",
    ),
    "sunset hills": (
        "in the gloaming",
        "at nightfall",
        "in the afterglow",
        "on the ridge",
        "on the hilltop",
        "in the highlands",
        "at the golden hour",
        "on a knoll",
        "on a hillock",
        "on the moors",
        "in the late afternoon",
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


@dataclass(frozen=True, kw_only=True)
class Concept:
    """A concept of the world: its kind, the usual words for it, and all words that name it."""

    name: str
    kind: str
    phrase: tuple[str, ...]
    examples: tuple[str, ...]


BESIDE_THE_POINT = frozenset(words_of("near among between front bottom dry down green by wards towards"))
NO_PLACE = frozenset(("under", "outer", "hills"))  # parts of a place's name that alone are none
DIRECTIONS = {
    "left": ("left", "leftwards", "leftward", "west", "westward"),
    "right": ("right", "rightwards", "rightward", "east", "eastward"),
}


def concepts() -> tuple[Concept, ...]:
    """Every concept that a caption can name. Going left and going right are a motion and a direction."""
    kinds = (
        ("color", words.COLOR_ADJECTIVES, MORE_COLOR_ADJECTIVES),
        ("shape", words.SHAPE_NOUNS, MORE_SHAPE_NOUNS),
        ("pattern", words.PATTERN_ADJECTIVES, MORE_PATTERN_ADJECTIVES),
    )
    found = [
        Concept(name=name, kind=kind, phrase=(name,), examples=(*usual[name], *more[name]))
        for kind, usual, more in kinds
        for name in usual
    ]
    for name, phrases in words.PLACE_PHRASES.items():
        examples = [" ".join(_content(phrase)) for phrase in (*phrases, *MORE_PLACE_PHRASES[name])]
        parts = [word for phrase in phrases for word in _content(phrase) if word not in NO_PLACE]
        found.append(
            Concept(
                name=name, kind="place", phrase=_content(phrases[0]),
                examples=tuple(dict.fromkeys([*examples, *parts])),
            )
        )  # fmt: skip
    for name, verbs in words.MOTION_VERBS.items():
        if name in ("moves left", "moves right"):
            continue
        phrase = _content(f"{verbs[0].present} {verbs[0].tails[0]}")
        found.append(_motion(name, phrase, (*verbs, *MORE_MOTION_VERBS[name])))
    found.append(_motion("moves", ("moves",), (*words.MOTION_VERBS["moves left"], *MORE_TRAVEL)))
    found += [
        Concept(name=name, kind="direction", phrase=(name,), examples=examples)
        for name, examples in DIRECTIONS.items()
    ]
    return tuple(found)


def _motion(name: str, phrase: tuple[str, ...], verbs: Iterable[Verb]) -> Concept:
    examples = tuple(form for verb in verbs for form in (verb.present, verb.ing) if verb.present != "gets")
    return Concept(name=name, kind="motion", phrase=phrase, examples=examples)


def _content(phrase: str) -> tuple[str, ...]:
    return tuple(
        word for word in words_of(phrase) if word not in words.STOP_WORDS and word not in BESIDE_THE_POINT
    )
