"""One training run: codec, pool of encoded scenes, DiT, checkpoint. Every part resumes where it stopped."""

from __future__ import annotations

from itertools import accumulate
from pathlib import Path

import torch

from mocgen.bundle import Defaults, NativeModel, save_bundle
from mocgen.codec.embedded import EmbeddedCodec
from mocgen.errors import TrainingError
from mocgen.model.attention import Routing
from mocgen.model.config import DiTConfig
from mocgen.model.dit import MoCDiT
from mocgen.text.vocabulary import Vocabulary

from .batches import Batches
from .config import TrainConfig, parse_config, read_config_text
from .curve import LossTable, plot_loss
from .dit import stage_at, train_dit
from .init import load_start
from .material import WORLD, ClipMaterial, Material, WorldMaterial
from .parts import Parts
from .progress import OnProgress, Progress, counter
from .ranks import Ranks, join_ranks
from .samples import GUIDANCE, SHIFT, sample_sheet, save_picture
from .state import Deadline, Paused


def train(
    config_file: Path,
    out: Path,
    *,
    source: str | None = None,
    init: str | None = None,
    resume: bool = False,
    minutes: float | None = None,
    on_progress: OnProgress = lambda p: None,
) -> Path | None:
    """Carry out the run that a TOML file describes in the folder `out`; returns the checkpoint's folder.

    `source` and `init` are keys of the configuration that may be given here instead. After so many
    `minutes` the run saves its state and pauses: None is returned, and `resume` goes on.

    Raises TrainingError if the configuration is bad, or `out` holds another run or one that is not to
    be resumed, or several processes are to pause.
    """
    deadline = Deadline(minutes)
    text = read_config_text(config_file, source=source, init=init)
    config = parse_config(text, config_file)
    torch.set_num_threads(config.threads)
    with join_ranks(config.parallel, config.device) as ranks:
        if minutes is not None and ranks.count > 1:
            raise TrainingError("a run of several processes cannot be given a number of minutes")
        if ranks.first:
            _prepare(text, config_file, out, resume)
        ranks.wait()
        heard = on_progress if ranks.first else lambda progress: None
        try:
            model = _train(config, out, ranks, deadline, heard)
        except Paused:
            return None
        if ranks.first:
            save_bundle(model, out / "model", training=text)
        ranks.wait()
    return out / "model"


def _train(
    config: TrainConfig, out: Path, ranks: Ranks, deadline: Deadline, on_progress: OnProgress
) -> NativeModel:
    """Every part of a run; the first process makes what is made once, the others read its files."""
    start = load_start(config)
    parts = Parts(config=config, out=out, device=ranks.device, deadline=deadline, on_progress=on_progress)
    material = _material(config, start, out, ranks.device, on_progress)
    if not ranks.first:
        ranks.wait()
    codec = start.codec if start else parts.codec(material)
    source = material.source(codec, counter("shots", on_progress))
    if ranks.first:
        ranks.wait()
    vocabulary = start.vocabulary if start else material.vocabulary()
    model_config = start.dit.config if start else config.model_for(len(vocabulary))
    _check_model(config, start, model_config)
    stem = parts.stem(model_config, source)
    sketcher = parts.sketcher(model_config, source, vocabulary)
    watcher = _Bystander(config)
    if ranks.first:
        watcher = _Watcher(config, material, codec, vocabulary, out, on_progress)
    dit = train_dit(
        model_config,
        config.training,
        start.dit if start else None,
        Batches(source, vocabulary, model_config, config.training),
        seed=config.seed,
        ranks=ranks,
        state=out / "state.safetensors",
        save_every=config.save_every,
        only_attention=config.only_attention,
        watcher=watcher,
        stem=stem,
        frozen_stem=config.stem_training.frozen,
        sketcher=sketcher,
        deadline=deadline,
    )
    if ranks.first:
        codec = parts.decoder(codec, material)
    defaults = Defaults(
        frames=config.data.frames, guidance=GUIDANCE, shift=SHIFT, top_k=config.training.stages[-1].top_k
    )
    return NativeModel(dit=dit, codec=codec, vocabulary=vocabulary, defaults=defaults)


def _check_model(config: TrainConfig, start: NativeModel | None, model: DiTConfig) -> None:
    """Raise TrainingError where the training asks for what the model is not."""
    if config.training.recall_weight and model.rotated_routing:
        raise TrainingError("training.recall_weight needs model.rotated_routing = false")
    if model.paint_width and not model.sketch_frames:
        raise TrainingError("a painter needs sketches: set model.sketch_frames")
    if config.training.paint_weight and not model.paint_width:
        raise TrainingError("training.paint_weight needs a model with a painter: set model.paint_width")
    if model.sketch_frames not in (None, config.data.frames):
        raise TrainingError(f"data.frames must be {model.sketch_frames}, the frames of the model's sketches")
    if (
        model.sketch_frames
        and not config.sketch_training.steps
        and (start is None or config.model.sketch_frames)
    ):
        raise TrainingError("sketches are to be learned before pictures: set sketch_training.steps")


def _prepare(text: str, config_file: Path, out: Path, resume: bool) -> None:
    kept = out / "config.toml"
    if kept.exists() and not resume:
        raise TrainingError(
            f"{out} already holds a run; add --resume to go on with it, or name another folder"
        )
    if kept.exists() and kept.read_bytes() != text.encode():
        raise TrainingError(
            f"{out} was started with another configuration: {kept} differs from {config_file}"
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
        if not kept.exists():
            kept.write_bytes(text.encode())
    except OSError as error:
        raise TrainingError(f"cannot write to {out}: {error.strerror}") from None


def _material(
    config: TrainConfig, start: NativeModel | None, out: Path, device: torch.device, on_progress: OnProgress
) -> Material:
    """What the run learns from; bad clips and words that the model does not know are told as notes."""

    def note(text: str) -> None:
        on_progress(Progress(part="clips", done=0, total=1, note=text))

    material: Material
    if config.source == WORLD:
        material = WorldMaterial(config, out, device)
    else:
        size = start.codec.config.size if start else config.codec.size
        material = ClipMaterial(config, size, note)
    unknown = material.unknown_words(start.vocabulary) if start else []
    if unknown:
        note(f"words that the model {config.init!r} does not know and cannot learn: {', '.join(unknown)}")
    return material


class _Bystander:
    """Knows when a run is looked at, and does nothing then: the watcher of all processes but the first."""

    def __init__(self, config: TrainConfig) -> None:
        self.config = config

    def step(self, step: int, loss: float, norm: float, model: MoCDiT) -> None:
        """Hear what a step gave; `model` has the weights after it."""

    def wants_probe(self, step: int) -> bool:
        """Whether the memory gap is due after this step."""
        several = stage_at(self.config.training, step - 1).shots > 1
        return several and step % self.config.probe_every == 0

    def wants_sample(self, step: int) -> bool:
        """Whether a sample sheet is due after this step."""
        return step % self.config.sample_every == 0 or step == self.config.training.steps

    def sample(self, step: int, model: MoCDiT) -> None:
        """Look at a model with averaged weights."""


class _Watcher(_Bystander):
    """Keeps the table of losses, the memory gap, sample sheets and the loss curve of a run."""

    def __init__(
        self,
        config: TrainConfig,
        material: Material,
        codec: EmbeddedCodec,
        vocabulary: Vocabulary,
        out: Path,
        on_progress: OnProgress,
    ) -> None:
        super().__init__(config)
        self.codec, self.vocabulary, self.out = codec, vocabulary, out
        self._on_progress = on_progress
        self._probe = material.probe(codec, vocabulary)
        self._table = LossTable(out / "loss.csv")

    def step(self, step: int, loss: float, norm: float, model: MoCDiT) -> None:
        """Note what a step gave; `model` has the weights after it."""
        stage, gap = stage_at(self.config.training, step - 1), None
        if self._probe and self.wants_probe(step):
            gap = self._probe.measure(model, top_k=stage.top_k)
        self._table.add(step, loss, norm, gap)
        total = self.config.training.steps
        self._on_progress(Progress(part="model", done=step, total=total, loss=loss))

    def sample(self, step: int, model: MoCDiT) -> None:
        """Draw a sample sheet of a model with averaged weights, and the loss curve."""
        training = self.config.training
        routing = Routing(top_k=stage_at(training, step - 1).top_k)
        frames = self.config.data.frames
        sheet = sample_sheet(model, self.codec, self.vocabulary, frames=frames, routing=routing)
        save_picture(sheet, self.out / "samples" / f"step-{step:06d}.png")
        starts = list(accumulate(stage.steps for stage in training.stages))[:-1]
        plot_loss(self._table.path, self.out / "loss.png", starts)
