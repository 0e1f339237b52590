"""The parts of a run that come before and after the DiT: codec, stem, decoder. Each is kept in a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from mocgen.codec.embedded import EmbeddedCodec
from mocgen.errors import TrainingError
from mocgen.model.config import DiTConfig
from mocgen.model.layers import Stem
from mocgen.model.sketch import SketchModel
from mocgen.text.vocabulary import Vocabulary

from .codec import train_codec
from .config import TrainConfig
from .curve import LossTable
from .material import WORLD, Material
from .progress import OnProgress, Progress, counter
from .sketch import train_sketcher
from .sources import Source, WorldSource
from .state import Deadline, OnStep
from .stem import train_stem

Part = Literal["codec", "decoder", "stem", "sketches"]


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Trains parts of a run in the folder `out`, or reads those that are done."""

    config: TrainConfig
    out: Path
    device: torch.device
    deadline: Deadline
    on_progress: OnProgress

    def codec(self, material: Material) -> EmbeddedCodec:
        """The codec, trained as far as the DiT needs it."""
        torch.manual_seed(self.config.seed)
        return self._codec_part(
            EmbeddedCodec(self.config.codec), "codec", self.config.codec_training.steps, material
        )

    def decoder(self, codec: EmbeddedCodec, material: Material) -> EmbeddedCodec:
        """The codec with a decoder that was trained some more, if that is asked for."""
        steps = self.config.codec_training.decoder_steps
        return self._codec_part(codec, "decoder", steps, material) if steps else codec

    def stem(self, model: DiTConfig, source: Source) -> Stem | None:
        """A stem that has learned to tell looks; None if none is asked for."""
        training = self.config.stem_training
        if model.stem_width is None and (training.steps or training.frozen):
            raise TrainingError("stem_training needs a model with a stem: set model.stem_width")
        if model.stem_width is None or not training.steps:
            return None
        if not isinstance(source, WorldSource):
            raise TrainingError(f"stem_training needs looks that are known: source = {WORLD!r}")
        path = self._file("stem")
        if path.exists():
            stem = Stem(model.latent_channels, model.stem_width, model.stem_blocks)
            stem.load_state_dict(load_file(path))
            return stem
        stem = train_stem(
            model,
            training,
            source.pool,
            seed=self.config.seed,
            state=self.out / "stem-state.safetensors",
            save_every=self.config.save_every,
            on_step=self._listener("stem", training.steps),
            device=self.device,
            deadline=self.deadline,
        )
        _save(stem, path)
        return stem

    def sketcher(self, model: DiTConfig, source: Source, vocabulary: Vocabulary) -> SketchModel | None:
        """A network that has learned to draw sketches; None if none is asked for."""
        training = self.config.sketch_training
        if not training.steps:
            return None
        if model.sketch_frames is None:
            raise TrainingError("sketch_training needs a model with sketches: set model.sketch_frames")
        if not isinstance(source, WorldSource):
            raise TrainingError(f"sketch_training needs motions that are known: source = {WORLD!r}")
        path = self._file("sketches")
        if path.exists():
            sketcher = SketchModel(model)
            sketcher.load_state_dict(load_file(path))
            return sketcher
        sketcher = train_sketcher(
            model,
            training,
            source.pool,
            vocabulary,
            seed=self.config.seed,
            variety=self.config.data.world,
            state=self.out / "sketches-state.safetensors",
            save_every=self.config.save_every,
            on_step=self._listener("sketches", training.steps),
            deadline=self.deadline,
        )
        _save(sketcher, path)
        return sketcher

    def _codec_part(
        self, codec: EmbeddedCodec, part: Literal["codec", "decoder"], steps: int, material: Material
    ) -> EmbeddedCodec:
        path = self._file(part)
        if path.exists():
            codec.load_state_dict(load_file(path))
            return codec.eval()
        frames = material.codec_frames(codec.config.size, counter("frames", self.on_progress))
        codec = train_codec(
            codec,
            self.config.codec_training,
            frames,
            steps=steps,
            decoder_only=part == "decoder",
            seed=self.config.seed,
            state=self.out / f"{part}-state.safetensors",
            save_every=self.config.save_every,
            on_step=self._listener(part, steps),
            device=self.device,
            deadline=self.deadline,
        )
        _save(codec, path)
        return codec

    def _file(self, part: Part) -> Path:
        return self.out / f"{part}.safetensors"

    def _listener(self, part: Part, steps: int) -> OnStep:
        """Keeps the table of losses of a part, and tells of its steps."""
        table = LossTable(self.out / f"{part}-loss.csv")

        def on_step(step: int, loss: float) -> None:
            table.add(step, loss, 0.0)
            self.on_progress(Progress(part=part, done=step, total=steps, loss=loss))

        return on_step


def _save(module: nn.Module, path: Path) -> None:
    """Write weights; the file appears only when it is whole."""
    partial = path.with_suffix(".part")
    save_file({name: value.contiguous() for name, value in module.state_dict().items()}, partial)
    partial.replace(path)
