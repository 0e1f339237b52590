"""Names of the Wan transformer's tensors and modules: the authors' form and that of diffusers.

Facts from the two public implementations; the norm before cross-attention is `norm3` in one and `norm2`
in the other.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from .checkpoint import read_checkpoint
from .loading import Rename

_PREFIXES = ("model.diffusion_model.", "diffusion_model.")
_ATTENTION = {"q": "to_q", "k": "to_k", "v": "to_v", "o": "to_out.0"}
_PARTS = {
    "text_embedding.0": "condition_embedder.text_embedder.linear_1",
    "text_embedding.2": "condition_embedder.text_embedder.linear_2",
    "time_embedding.0": "condition_embedder.time_embedder.linear_1",
    "time_embedding.2": "condition_embedder.time_embedder.linear_2",
    "time_projection.1": "condition_embedder.time_proj",
    "self_attn": "attn1",
    "cross_attn": "attn2",
    **{f"self_attn.{theirs}": f"attn1.{ours}" for theirs, ours in _ATTENTION.items()},
    **{f"cross_attn.{theirs}": f"attn2.{ours}" for theirs, ours in _ATTENTION.items()},
    "norm2": "norm3",
    "norm3": "norm2",
    "ffn.0": "ffn.net.0.proj",
    "ffn.2": "ffn.net.2",
    "modulation": "scale_shift_table",
    "head.modulation": "scale_shift_table",
    "head.head": "proj_out",
}
_BACK = {ours: theirs for theirs, ours in _PARTS.items()}


def _pattern(parts: Iterable[str]) -> re.Pattern[str]:
    """Matches any of some dotted parts of a name, the longest first."""
    alternatives = "|".join(map(re.escape, sorted(parts, key=len, reverse=True)))
    return re.compile(rf"(?<![^.])({alternatives})(?![^.])")


_TO_OURS, _TO_THEIRS = _pattern(_PARTS), _pattern(_BACK)


def wan_renaming(folder: Path) -> Rename:
    """From the names of a Wan transformer's checkpoint, in either form, to those of diffusers.

    Raises:
        WeightsError: what `read_checkpoint` raises.
    """
    return to_diffusers if in_original_form(read_checkpoint(folder)) else _unchanged


def in_original_form(names: Iterable[str]) -> bool:
    """Whether tensors or modules are named as the model's authors do."""
    return any(part in ("self_attn", "cross_attn") for name in names for part in name.split("."))


def to_diffusers(name: str) -> str:
    """The diffusers name of a tensor or module that has its original name, with or without a prefix."""
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    return _TO_OURS.sub(lambda match: _PARTS[match[0]], name)


def to_original(name: str) -> str:
    """The authors' name of a module that has its diffusers name."""
    return _TO_THEIRS.sub(lambda match: _BACK[match[0]], name)


def _unchanged(name: str) -> str:
    return name
