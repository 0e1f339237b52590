"""The configuration of a training run: one TOML file."""

from __future__ import annotations

import dataclasses
import json
import tomllib
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from mocgen.codec.embedded import CodecConfig
from mocgen.errors import TrainingError
from mocgen.model.config import DiTConfig
from mocgen.settings import DeviceName

from .optim import OptimConfig
from .ranks import Parallel
from .world import Variety


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """The pool of rendered shots that scenes are put together from."""

    looks: int = 2400  # drawn looks of objects; some come more than once
    clips: int = 6  # shots of each
    frames: int = 8  # per shot
    codec_looks: int = 1400  # of them, those that the codec learns from
    workers: int = 2
    world: Variety = field(default_factory=Variety)  # camera moves, rarer words, a second character


@dataclass(frozen=True, kw_only=True)
class CodecTraining:
    """How the codec is trained."""

    steps: int = 1500
    decoder_steps: int = 0  # more steps for the decoder alone, once the DiT is done: the latents stay
    batch: int = 64  # frames
    latent_noise: float = 0.2  # largest σ of the noise that the decoder learns to bear
    object_weight: float = 4.0  # weight of the object's pixels in the L1 loss
    optim: OptimConfig = field(default_factory=OptimConfig)


@dataclass(frozen=True, kw_only=True)
class StemTraining:
    """How the stem learns to tell looks before the DiT learns."""

    steps: int = 0
    frozen: bool = False  # whether the DiT leaves the stem as it is
    batch: int = 128  # frames
    optim: OptimConfig = field(default_factory=OptimConfig)


@dataclass(frozen=True, kw_only=True)
class SketchTraining:
    """How a model learns to draw sketches before it learns to draw pictures."""

    steps: int = 0
    batch: int = 256  # shots
    captions: int = 2  # of each shot of the pool
    optim: OptimConfig = field(default_factory=OptimConfig)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One step of the curriculum: gradual sparsification is a list of these."""

    steps: int
    batch: int  # scenes
    accumulate: int = 1  # batches whose gradients are averaged in a step
    shots: int  # per scene; 1: single shots with full captions
    singles: float = 0.0  # share of its batches that hold as many single shots instead
    distractors: float = 0.5  # largest share of the shots between first and last that show something else
    top_k: int = 64
    drop_off: float = 0.0
    drop_in: float = 0.0


@dataclass(frozen=True, kw_only=True)
class DiTTraining:
    """How the DiT is trained."""

    stages: tuple[Stage, ...]
    noise_mean: float = -0.9  # t = sigmoid(N(mean, 1)); lower is noisier
    noise_uniform: float = 0.1  # share of noise levels drawn uniformly instead
    caption_dropout: float = 0.1
    object_weight: float = 4.0  # of latents that the object covers, in the loss
    look_weight: float = 0.0  # of the loss of classifiers of how objects look
    recall_weight: float = 0.0  # of the loss of heads that are to retrieve the shots of a returning object
    paint_weight: float = 0.0  # of the loss of painted objects, for models with a painter
    sketch_dropout: float = 0.1  # of the shots have no sketch
    stem_weight: float = 0.0  # of the difference that the frozen stem sees between prediction and truth
    frames: int = 2  # of each shot that enter the loss: neighbouring frames tell much the same
    restless: float = 0.0  # share of single shots drawn among those that bounce, circle or spin
    named_in_caption: float = 0.35  # of the scenes, the look of the hero is in the first caption
    named_in_prompt: float = 0.15  # or in the global prompt, else nowhere: it can only be seen
    history_noise: float = 0.0  # largest share of noise in the clean prefix of half of the batches
    silent_history: float = 0.15  # of the scenes have no captions in their clean prefix, like filmed clips
    shot_span: int = 48  # shot positions are drawn from a span this long, so that far gaps are known
    optim: OptimConfig = field(default_factory=OptimConfig)

    @property
    def steps(self) -> int:
        return sum(stage.steps for stage in self.stages)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Everything that determines a run."""

    seed: int = 0
    source: str = "world"  # what to learn from: the synthetic world, or a folder of clips with captions.jsonl
    bad_clips: Literal["skip", "refuse"] = "skip"  # what to do with clips that are of no use
    init: str = ""  # model to start from: "embedded", a folder or a Hub repository; empty: from nothing
    only_attention: bool = False  # leave everything but the attention layers as it is
    data: DataConfig = field(default_factory=DataConfig)
    codec: CodecConfig = field(default_factory=CodecConfig)
    model: DiTConfig = field(default_factory=DiTConfig)
    codec_training: CodecTraining = field(default_factory=CodecTraining)
    stem_training: StemTraining = field(default_factory=StemTraining)
    sketch_training: SketchTraining = field(default_factory=SketchTraining)
    training: DiTTraining
    save_every: int = 200  # steps between resumable checkpoints
    sample_every: int = 500  # steps between sample sheets
    probe_every: int = 100  # steps between looks at the memory gap
    threads: int = 2
    device: DeviceName = "auto"  # of a run in one process
    parallel: Parallel = "data"  # of several processes: each holds the whole model, or a part of it ("fsdp")

    def model_for(self, vocabulary: int) -> DiTConfig:
        """The model's sizes for a vocabulary of this many ids, codec and model made to fit each other."""
        return dataclasses.replace(
            self.model,
            vocabulary=vocabulary,
            latent_channels=self.codec.channels,
            latent_size=self.codec.latent_size,
        )


def read_config_text(path: Path, *, source: str | None = None, init: str | None = None) -> str:
    """The text of a TOML file, with `source` and `init` as if they stood in it.

    Raises TrainingError if there is no such file, or one of them stands in it too.
    """
    try:
        text = path.read_text(encoding="utf-8")
        table = tomllib.loads(text)
    except FileNotFoundError:
        raise TrainingError(f"no such training configuration: {path}") from None
    except (OSError, ValueError) as error:  # of text, of TOML, of numbers that are too long
        raise TrainingError(f"{path} cannot be read as TOML: {error}") from None
    added = {name: value for name, value in (("source", source), ("init", init)) if value is not None}
    twice = sorted(set(added) & set(table))
    if twice:
        raise TrainingError(f"{twice[0]} is given on the command line and in {path}: remove one of them")
    return "".join(f"{name} = {json.dumps(value)}\n" for name, value in added.items()) + text


def parse_config(text: str, path: Path) -> TrainConfig:
    """The configuration that a text from `path` holds; raises TrainingError naming key and what is wrong."""
    try:
        config = _build(TrainConfig, tomllib.loads(text), "")
        _check(config)
        return config
    except (TypeError, ValueError) as error:
        raise TrainingError(f"{path}: {error}") from None


def load_config(path: Path) -> TrainConfig:
    """Read a TOML file; raises TrainingError naming the file, the key and what is wrong."""
    return parse_config(read_config_text(path), path)


_NAMES = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
MAY_BE_ZERO = ("seed", "decoder_steps", "warmup")


def _check(config: TrainConfig) -> None:
    """Raise ValueError where numbers do not fit each other."""
    stages, data = config.training.stages, config.data
    if not stages:
        raise ValueError("training.stages must hold one stage at least")
    shots = max(stage.shots for stage in stages)
    limits = (
        ("2 (shots of a look, to remember one by the other)", 2, "data.clips", data.clips),
        ("data.codec_looks", data.codec_looks, "data.looks", data.looks),
        ("training.frames", config.training.frames, "data.frames", data.frames),
        ("training.stages.shots", shots, "training.shot_span", config.training.shot_span),
        ("3 (frames that the codec takes of a shot)", 3, "data.frames", data.frames),
    )
    for name, value, limit_name, limit in limits:
        if value > limit:
            raise ValueError(f"{name} must not exceed {limit_name}, which is {limit}")
    multiples = (
        ("data.frames", data.frames, "model.patch_frames", config.model.patch_frames),
        ("codec.size", config.codec.size, "8 times model.patch", 8 * config.model.patch),
        ("model.width", config.model.width, "model.heads", config.model.heads),
    )
    if config.training.stem_weight and not config.stem_training.frozen:
        raise ValueError("training.stem_weight needs stem_training.frozen = true")
    for name, value, unit_name, unit in multiples:
        if value % unit:
            raise ValueError(f"{name} must be a multiple of {unit_name}, which is {unit}")


def _build(kind: Any, value: Any, where: str) -> Any:
    """`value` from TOML as an instance of `kind`: a dataclass, a tuple of them, or a plain type."""
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        if not isinstance(value, dict):
            raise ValueError(f"{where or 'the file'} must be a table")
        unknown = sorted(set(value) - set(hints))
        if unknown:
            raise ValueError(f"unknown key {where}{unknown[0]}; known are {', '.join(sorted(hints))}")
        for field in dataclasses.fields(kind):
            required = field.default is field.default_factory is dataclasses.MISSING
            if required and field.name not in value:
                raise ValueError(f"{where}{field.name} is missing")
        return kind(**{key: _build(hints[key], item, f"{where}{key}.") for key, item in value.items()})  # type: ignore[operator]
    if typing.get_origin(kind) is tuple:
        items, name = typing.get_args(kind), where.rstrip(".")
        if not isinstance(value, list):
            raise ValueError(f"{name} must be a list")
        kinds = [items[0]] * len(value) if items[-1] is Ellipsis else list(items)
        if len(kinds) != len(value):
            raise ValueError(f"{name} must hold {len(kinds)} entries, not {len(value)}")
        return tuple(_build(k, item, where) for k, item in zip(kinds, value, strict=True))
    if type(None) in typing.get_args(kind):  # TOML has no null: what is None cannot be written
        kind = typing.get_args(kind)[0]
    if typing.get_origin(kind) is Literal:
        if value not in typing.get_args(kind):
            raise ValueError(f"{where.rstrip('.')} must be one of {', '.join(typing.get_args(kind))}")
        return value
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
        raise ValueError(f"{where.rstrip('.')} must be {_NAMES.get(kind, kind.__name__)}, not {value!r}")
    if kind is int and value < (0 if where.split(".")[-2] in MAY_BE_ZERO else 1):
        raise ValueError(f"{where.rstrip('.')} must be above zero, not {value}")
    return value
