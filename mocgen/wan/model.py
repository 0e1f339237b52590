"""A checkpoint of the Wan family as the loop over shots sees it."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from math import ceil

import numpy as np
import torch
from torch import Tensor

import mocgen_weights
from mocgen.codec.embedded import to_pixels
from mocgen.codec.wan_vae import REACH
from mocgen.denoise import Denoiser
from mocgen.errors import ModelError, UsageError
from mocgen.model.attention import Routing
from mocgen.model.cut import ONE_FRAME, ContextCut
from mocgen.model.storage import Storage
from mocgen.model.wan_contexts import make_grid
from mocgen.settings import Settings
from mocgen.video import CutFinder, VideoInfo, read_frames
from mocgen.video_model import ClipShot, Decoder, Defaults, Picture, ShotLength, Size, Words
from mocgen.wan.denoiser import WanDenoiser
from mocgen.wan.family import PipelineFolder, read_pipeline
from mocgen.wan.lengths import check_size, fit_size, shot_lengths
from mocgen.wan.parts import WanParts

PACKAGES = ("diffusers", "transformers", "ftfy")
STEPS, TOP_K = 50, 3
CONTEXT_SECONDS = 2.0


def load_pipeline(
    resolved: mocgen_weights.Resolved, *, device: torch.device, dtype: torch.dtype, storage: Storage
) -> WanModel:
    """A model whose weights are read when they are needed: text encoder, transformer, VAE.

    Raises:
        ModelError: packages are missing, or the folder's configurations describe what cannot be run.
    """
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise ModelError(
            f"{resolved.folder} is a diffusers pipeline, which needs {', '.join(missing)}: "
            f"pip install {' '.join(PACKAGES)}"
        )
    pipeline = read_pipeline(resolved.folder)
    parts = WanParts(pipeline, device=device, dtype=dtype, storage=storage)
    return WanModel(pipeline, parts, revision=resolved.revision)


class WanModel:
    """Wan2.1-T2V, Wan2.2-TI2V or SkyReels-V2, with Mixture of Contexts as its self-attention.

    A scene is one sequence of latent frames, decoded without a break. A shot reads the global prompt and
    its own caption, as one text, by cross-attention. Models with a noise level for every latent frame make
    shots one after another against a memory of clean ones, or jointly; the others jointly only.
    """

    context_seconds = CONTEXT_SECONDS
    past_in_sequence = True
    keeps_latents = False

    def __init__(self, pipeline: PipelineFolder, parts: WanParts, *, revision: str) -> None:
        self.pipeline, self.revision, self._parts = pipeline, revision, parts
        family = pipeline.family
        self.defaults = Defaults(
            frames=family.frames, fps=family.fps, steps=STEPS, guidance=family.guidance, top_k=TOP_K
        )

    @property
    def layers(self) -> int:
        """Number of attention layers."""
        return self.pipeline.transformer.num_layers

    @property
    def heads(self) -> int:
        """Heads per layer."""
        return self.pipeline.transformer.num_attention_heads

    @property
    def extends(self) -> bool:
        """Whether clean frames can stand beside noisy ones."""
        return self.pipeline.family.per_frame

    def check(self, settings: Settings, *, extends: bool) -> None:
        """Raises UsageError for what needs a noise level per frame, where the model has one for all."""
        try:
            cut = _cut(settings)
        except ValueError as error:
            raise UsageError(f"contexts: {error}") from None
        by_frames = {
            f"--local-window {settings.local_window}": bool(settings.local_window),
            "--first-frame": bool(settings.first_frame),
            f"--attention {settings.attention}": settings.attention in ("window", "first-frame"),
        }
        wrong = [option for option, asked in by_frames.items() if asked]
        if cut.tile is not None and wrong:
            raise UsageError(
                f"{wrong[0]} means whole frames, --contexts {settings.contexts} cuts them into tiles; "
                "leave one of the two out"
            )
        if self.pipeline.family.per_frame:
            return
        name = self.pipeline.family.name
        if extends:
            raise UsageError(
                f"{name} cannot extend a clip: it knows one noise level for all frames; "
                "Wan2.2-TI2V-5B and SkyReels-V2-DF can"
            )
        if settings.causal:
            raise UsageError(
                f"--causal: {name} knows one noise level for all frames and makes all shots jointly; "
                "leave the option out"
            )

    def notes(self, settings: Settings, latents: Sequence[int], *, after_clip: bool) -> list[str]:
        """That these checkpoints were trained otherwise, and on shorter videos."""
        routing, family = self.routing(settings), self.pipeline.family
        alone = len(latents) == 1 and not after_clip
        ways = ["retrieves contexts"] if routing.policy != "dense" else []
        ways += ["makes shots one after another"] if routing.causal and not alone else []
        notes = []
        if ways:
            notes.append(
                f"experimental: {family.name} was trained with dense attention over all frames, "
                f"and here it {' and '.join(ways)} (--attention dense --no-causal runs it as it was trained)"
            )
        if sum(latents) > self._longest:
            notes.append(
                f"{family.name} was trained on {family.frames} frames; in longer scenes motion may repeat"
            )
        return notes

    def routing(self, settings: Settings) -> Routing:
        """The own frame is the anchor, everything else is retrieved, unless a local window is asked for."""
        top_k = settings.top_k or self.defaults.top_k
        windows = {"window": (top_k + 1) // 2, "dense": None, "first-frame": None}
        local = settings.local_window
        causal = self.pipeline.family.per_frame if settings.causal is None else settings.causal
        return Routing(
            policy=settings.attention,
            top_k=top_k,
            causal=causal,
            local_window=windows.get(settings.attention, 0) if local is None else local,
            first_frame=settings.first_frame,
            cut=_cut(settings),
        )

    def sizes(self, settings: Settings, clip: Size | None) -> tuple[Size, Size]:
        """A clip keeps its size; the model works at one of the same shape, or at the one asked for."""
        own, stride = self.pipeline.family.size, self.pipeline.stride
        if settings.size is not None:
            canvas = check_size(settings.size, stride)
        else:
            canvas = own if clip is None else fit_size(clip, own, stride)
        return canvas, clip or canvas

    def lengths(self, seconds: Sequence[float | None], *, after_clip: bool) -> list[ShotLength]:
        """Whole latent frames."""
        family = self.pipeline.family
        return shot_lengths(
            seconds,
            frames=family.frames,
            fps=family.fps,
            temporal=self.pipeline.temporal,
            after_clip=after_clip,
        )

    def noise_seed(self, seed: int, index: int) -> int:
        """The first shot's is the seed itself, as in diffusers."""
        return seed if index == 0 else (seed * 1_000_003 + index) % 2**63

    def read(self, captions: Sequence[str], *, prompt: str, negative: str) -> Words:
        """Embed all texts, then let go of the encoder. A clip without a caption gets that of what follows."""
        following, texts = "", []
        for caption in reversed(captions):
            following = caption or following
            texts.append(f"{prompt} {following}".strip())
        texts.reverse()
        found = self._parts.embed([*texts, negative])
        return Words(captions=tuple(found[text] for text in texts), negative=found[negative])

    def denoiser(self, canvas: Size) -> Denoiser:
        """The transformer, read when it is first asked for."""
        width, height = canvas
        return WanDenoiser(
            self._parts.dit,
            self._parts.make_scheduler,
            latent_size=(height // self.pipeline.spatial, width // self.pipeline.spatial),
            fps=self.pipeline.family.fps,
        )

    def decoder(self, past: Sequence[Tensor]) -> Decoder:
        """Goes on from the end of the past; the first latent frame of a scene is one picture."""
        decoding = self._parts.vae.decoding()
        if past:
            tail = torch.cat([latents[0] for latents in past])[-REACH:]
            for _ in decoding.push(tail.transpose(0, 1)):
                pass

        def decode(latents: Tensor) -> Tensor:
            return torch.cat([to_pixels(frames).cpu() for frames in decoding.push(latents.transpose(0, 1))])

        return decode

    def encode_clip(self, clip: VideoInfo, *, seconds: float, size: Size) -> list[ClipShot]:
        """In pieces of the model's own length; the last frame of the clip is the last that is seen.

        A latent frame belongs to the shot of the last of its frames.
        """
        cuts, temporal = CutFinder(), self.pipeline.temporal
        fps = self.defaults.fps
        frames = list(read_frames(clip.path, fps=fps, size=size, last_seconds=seconds, cuts=cuts))
        skipped = (len(frames) - 1) % temporal
        encoding = self._parts.vae.encoding()
        parts = [x for frame in frames[skipped:] for x in encoding.push(torch.from_numpy(frame[None]))]
        latents = torch.cat(parts, dim=1).transpose(0, 1)[None].cpu()
        shots = []
        for shot in cuts.shots():
            begin, end = (
                max(0, ceil((frame - skipped) / temporal)) for frame in (shot.frames.start, shot.frames.stop)
            )
            if begin < end:
                pieces = latents[:, begin:end].split(self._longest, dim=1)
                shots.append(ClipShot(begin=shot.begin, pieces=pieces))
        return shots

    def check_latents(self, latents: Tensor) -> None:
        """Raises ValueError for another number of channels."""
        if latents.ndim != 5 or latents.shape[2] != self.pipeline.transformer.in_channels:
            raise ValueError(f"they have the shape {tuple(latents.shape)}")

    def pictures(self, latents: Tensor, routing: Routing, *, opens: bool) -> list[Picture]:
        """The last picture of each run of latent frames, or its tiles; decoded without what came before."""
        cut, stride = routing.cut, self.pipeline.stride
        rows, columns = (side // self.pipeline.transformer.patch for side in latents.shape[2:])
        spans = make_grid(rows, columns, cut).spans
        pictures, begin, end = [], 0, 0
        for number, frames in enumerate(self._parts.vae.decoding().push(latents.transpose(0, 1)), start=1):
            end += 1 if opens and number == 1 else self.pipeline.temporal
            if number % cut.frames and number < len(latents):
                continue
            picture: np.ndarray = to_pixels(frames)[-1].cpu().numpy()
            for band, part in spans:
                tile = picture[band.start * stride : band.stop * stride]
                tile = tile[:, part.start * stride : part.stop * stride]
                pictures.append(Picture(frames=(begin, end), thumbnail=tile))
            begin = end
        return pictures

    @property
    def _longest(self) -> int:
        """Latent frames of the videos that the model was trained on."""
        return 1 + (self.pipeline.family.frames - 1) // self.pipeline.temporal


def _cut(settings: Settings) -> ContextCut:
    return ONE_FRAME if settings.contexts is None else ContextCut.parse(settings.contexts)
