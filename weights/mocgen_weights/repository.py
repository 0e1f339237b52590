"""Which files of a model repository mocgen needs, and whether a folder holds them all.

Two forms: mocgen's own (config.json and model.safetensors) and that of diffusers (model_index.json, which
names parts, and a folder per part).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path

from .checkpoint import name_first, read_checkpoint
from .errors import WeightsError

CONFIG_NAME = "config.json"
TENSORS_NAME = "model.safetensors"
INDEX_NAME = "model_index.json"

_PARTS = ("transformer", "vae", "text_encoder", "tokenizer", "scheduler")
_WEIGHTY = _PARTS[:3]
_WEIGHTS = re.compile(r"(model|diffusion_pytorch_model)(-\d{5}-of-\d{5})?\.safetensors(\.index\.json)?")
_SMALL = re.compile(
    r"(config|scheduler_config|tokenizer\w*|special_tokens_map|added_tokens)\.json|spiece\.model"
)
_PICKLE = re.compile(r".*\.(bin|pt|pth|ckpt|pkl)")


def needed_files(names: Iterable[str], *, source: str) -> list[str]:
    """Of all files of a repository those that mocgen reads, the one that tells its form last; never a pickle.

    Raises:
        WeightsError: weights that are needed stand there as pickles only, or it is no model of either form.
    """
    names = sorted(names)
    if INDEX_NAME in names:
        wanted = [*(name for name in names if _in_part(name)), INDEX_NAME]
        bare = [part for part in _WEIGHTY if not any(_is_weights(part, name) for name in wanted)]
        lacking = f"no safetensors in {' and '.join(bare)}"
    else:
        wanted = [TENSORS_NAME, CONFIG_NAME]
        bare = [name for name in wanted if name not in names]
        lacking = f"no {' and no '.join(bare)}, and no {INDEX_NAME} either"
    if not bare:
        return wanted
    pickles = [name for name in names if _PICKLE.fullmatch(name)]
    if pickles:
        raise WeightsError(
            f"{source} holds weights as pickles only ({name_first(pickles)}): reading them could run any "
            "code; use a repository with safetensors in diffusers form"
        )
    raise WeightsError(f"{source} is no model that mocgen can run: it holds {lacking}")


def check_folder(folder: Path) -> None:
    """Check that a folder holds what its form needs.

    Raises:
        WeightsError: something is missing.
    """
    if not (folder / INDEX_NAME).is_file():
        for name in (CONFIG_NAME, TENSORS_NAME):
            if not (folder / name).is_file():
                raise WeightsError(f"{folder} holds no {name}")
        return
    try:
        index = json.loads((folder / INDEX_NAME).read_text(encoding="utf-8"))
        parts = [name for name in _PARTS if isinstance(index[name], list) and index[name][0]]
    except (OSError, ValueError, TypeError, KeyError, IndexError):
        raise WeightsError(f"{folder / INDEX_NAME} does not name the parts {', '.join(_PARTS)}") from None
    for part in parts:
        if not (folder / part).is_dir():
            raise WeightsError(f"{folder} holds no {part}")
        if part in _WEIGHTY:
            read_checkpoint(folder / part)


def _in_part(name: str) -> bool:
    part, _, file = name.partition("/")
    return part in _PARTS and bool(_SMALL.fullmatch(file) or _WEIGHTS.fullmatch(file))


def _is_weights(part: str, name: str) -> bool:
    """Whether a file is (a part of) the weights of a part; variants such as fp16 are not."""
    folder, _, file = name.partition("/")
    return folder == part and bool(_WEIGHTS.fullmatch(file))
