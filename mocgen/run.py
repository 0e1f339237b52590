"""One run: load the model, make the shots, write them as they are done."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import mocgen
import mocgen_weights
from mocgen.bundle import load_bundle, load_native
from mocgen.errors import UsageError
from mocgen.film import Film
from mocgen.history import History, PastShot, pack_history, read_history
from mocgen.model.attention import Recorder
from mocgen.model.storage import Storage
from mocgen.native import NativeModel
from mocgen.plan import hold, make_plan, pick_device, pick_dtype, shot_ends
from mocgen.settings import ModelFetching, ModelLoading, Notice, OnEvent, Result, Settings, Writing
from mocgen.storyboard import Scene
from mocgen.text.concepts import load_word_table
from mocgen.video import VideoInfo, VideoWriter, resample_frames
from mocgen.video_model import VideoModel


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run that is done, and all its shots, those of the clip included."""

    result: Result
    film: Film
    shots: tuple[PastShot, ...]


def ignore(event: object) -> None:
    """Listens to nothing."""


def load_model(settings: Settings, on_event: OnEvent = ignore) -> VideoModel:
    """The model that the settings name, on the device and in the dtype that they ask for."""
    device = pick_device(settings.device)
    storage = Storage.of(settings)
    entry = mocgen_weights.find_entry(settings.model.partition("@")[0])
    if entry and entry.licence != "Apache-2.0":
        on_event(Notice(message=f"{entry.name} has a licence of its own ({entry.licence}): {entry.page}"))
    on_event(ModelLoading(model=settings.model))
    model = load_bundle(
        settings.model,
        device=device,
        dtype=pick_dtype(settings.dtype, device),
        storage=storage,
        offline=settings.offline,
        on_fetching=lambda f: on_event(ModelFetching(file=f.file, done=f.done, total=f.total)),
    )
    return _opened(model) if isinstance(model, NativeModel) else model


def load_native_model(settings: Settings) -> NativeModel:
    """Like `load_model`, for work that only a native model can do; raises ModelError for another."""
    device = pick_device(settings.device)
    return _opened(load_native(settings.model, device=device, dtype=pick_dtype(settings.dtype, device)))


def _opened(model: NativeModel) -> NativeModel:
    """The same model, which reads other words as the nearest ones that it knows."""
    table = load_word_table(mocgen_weights.word_table_file())
    return dataclasses.replace(model, vocabulary=model.vocabulary.opened(table))


def carry_out(
    scene: Scene,
    output: Path,
    settings: Settings,
    *,
    clip: VideoInfo | None = None,
    context_seconds: float | None = None,
    overwrite: bool,
    on_event: OnEvent,
    make_recorder: Callable[[VideoModel], Recorder] | None = None,
) -> Run:
    """Make the shots of a scene and write them to `output`, after the clip if there is one.

    make_recorder: called with the loaded model, for something that watches what is routed.
    Raises what `mocgen.pipeline.generate` and `extend` raise.
    """
    start = time.monotonic()
    if scene.clip_prompts and clip is None:
        raise UsageError("clip prompts say what a clip shows, but no clip was given")
    model = load_model(settings, on_event)
    plan = make_plan(
        model,
        scene.shots,
        settings,
        clip_size=(clip.width, clip.height) if clip else None,
        clip_fps=clip.fps if clip else None,
    )
    words: tuple[tuple[str, ...], dict[str, str]] = ((), {})
    if isinstance(model, NativeModel):
        words = _report_words(model, scene, settings, on_event)
    for note in model.notes(settings, plan.latents, after_clip=clip is not None):
        on_event(Notice(message=note))
    history = History()
    if clip:
        history = read_history(clip, model, seconds=context_seconds, size=plan.canvas)
        history = history.captioned(scene.clip_prompts)
    film = Film(
        model,
        plan,
        scene,
        seed=settings.seed,
        negative=settings.negative,
        history=history,
        on_event=on_event,
        recorder=make_recorder(model) if make_recorder else None,
    )
    made = dataclasses.replace(  # with the defaults that were taken, so that it can be made again
        settings,
        steps=plan.steps,
        guidance=plan.guidance,
        top_k=plan.routing.top_k,
        causal=plan.routing.causal,
    )
    record = _record(scene, made, model)
    if clip:
        record |= _clip_record(scene, clip, history, context_seconds)
    copied, frames, shots = _write(
        film, output, clip, json.dumps(record, ensure_ascii=False), overwrite=overwrite
    )
    result = Result(
        output=output,
        frames=frames,
        fps=float(plan.fps),
        width=plan.size[0],
        height=plan.size[1],
        seconds=float((clip.seconds if clip else 0) + Fraction(frames - copied) / plan.fps),
        seed=settings.seed,
        model=settings.model,
        revision=model.revision,
        attention=settings.attention,
        top_k=plan.routing.top_k,
        density=film.meter.density,
        elapsed_seconds=time.monotonic() - start,
        shots=len(scene.shots),
        unknown_words=words[0],
        read_words=words[1],
        clip_shots=history.remembered,
        can_be_extended=model.extends and not output.is_dir(),
    )
    return Run(result=result, film=film, shots=shots)


def _write(
    film: Film, output: Path, clip: VideoInfo | None, record: str, *, overwrite: bool
) -> tuple[int, int, tuple[PastShot, ...]]:
    """Write the clip, the shots as they are made, and what is remembered of all.

    Returns the number of frames of the clip, of all, and the shots, those of the clip included.
    """
    plan, history, scene = film.plan, film.history, film.scene
    with VideoWriter(
        output,
        width=plan.size[0],
        height=plan.size[1],
        fps=plan.fps,
        metadata={"mocgen": record},
        overwrite=overwrite,
        source=clip.path if clip else None,
    ) as writer:
        if clip:
            film.on_event(Writing(shot=0, shots=len(scene.shots)))
            writer.copy_source()
        copied = writer.frames_written
        shots = (*history.shots, *_write_shots(film, writer))
        if film.model.keeps_latents:
            writer.attach(pack_history(shots, scene.prompt or history.prompt, film.model))
    return copied, writer.frames_written, shots


def _write_shots(film: Film, writer: VideoWriter) -> list[PastShot]:
    """Write each shot as soon as it is done; returns what is remembered of them, if it is asked for."""
    past: list[PastShot] = []
    ends = shot_ends(film.plan)
    begin = 0
    for shot in film.shots():
        film.on_event(Writing(shot=shot.number + 1, shots=len(film.scene.shots)))
        pixels = resample_frames(shot.pixels.numpy(), size=film.plan.size)
        count = ends[shot.number] - begin
        writer.write(pixels[hold(len(pixels), count)])
        begin = ends[shot.number]
        if film.model.keeps_latents or film.recorder:
            past.append(shot.past)
    return past


def _report_words(
    model: NativeModel, scene: Scene, settings: Settings, on_event: OnEvent
) -> tuple[tuple[str, ...], dict[str, str]]:
    """Tell which words of the prompts were not understood, and which were read as others; return both."""
    texts = [scene.prompt, *scene.clip_prompts, *(shot.caption for shot in scene.shots), settings.negative]
    captions = [model.vocabulary.read(text) for text in texts]
    unknown = tuple(dict.fromkeys(word for caption in captions for word in caption.unknown))
    read_as = {text: concept for caption in captions for text, concept in caption.read_as}
    said = []
    if read_as:
        said.append("read " + ", ".join(f"{text!r} as {concept!r}" for text, concept in read_as.items()))
    if unknown:
        said.append("not understood: " + ", ".join(repr(word) for word in unknown))
    if said:
        on_event(Notice(message="; ".join(said)))
    limit = model.dit.config.caption_limit
    for text, caption in zip(texts, captions, strict=True):
        if len(caption.ids) > limit:
            on_event(Notice(message=f"'{text[:30]}…' is long: the model reads its first {limit} known words"))
    return unknown, read_as


def _record(scene: Scene, settings: Settings, model: VideoModel) -> dict[str, object]:
    """How a video was made, for JSON."""
    return {
        "version": mocgen.__version__,
        "command": "generate",
        "prompt": scene.prompt,
        "shots": [dataclasses.asdict(shot) for shot in scene.shots],
        "settings": dataclasses.asdict(settings),
        "model": settings.model,
        "revision": model.revision,
    }


def _clip_record(
    scene: Scene, clip: VideoInfo, history: History, context_seconds: float | None
) -> dict[str, object]:
    """What is recorded beside that where a clip was extended: what was asked for, and how it was cut."""
    return {
        "command": "extend",
        "clip": clip.path.name,
        "context_seconds": context_seconds,
        "clip_prompts": scene.clip_prompts,
        "clip_shots": [dataclasses.asdict(shot) for shot in history.remembered],
    }
