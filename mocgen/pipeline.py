"""generate, extend, inspect_routing: one loop over shots, three ways to use it."""

from __future__ import annotations

import dataclasses
import json
import time
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

import mocgen
from mocgen.bundle import NativeModel, load_bundle
from mocgen.errors import UsageError
from mocgen.film import Film
from mocgen.history import History, PastShot, pack_history, read_history
from mocgen.plan import Plan, make_plan, pick_device, pick_dtype
from mocgen.routing.recorder import RoutingRecorder
from mocgen.routing.statistics import statistics
from mocgen.routing.summary import summary
from mocgen.routing.writer import check_folder, write_report
from mocgen.settings import ModelLoading, Notice, OnEvent, Result, Settings, Writing
from mocgen.storyboard import Scene
from mocgen.video import VideoInfo, VideoWriter, check_output, probe, resample_frames
from mocgen_kernels import Kind

VIDEO_NAME = "video.mp4"  # in a routing report


def ignore(event: object) -> None:
    """Listens to nothing."""


@dataclass(frozen=True, kw_only=True)
class InspectResult:
    """What `inspect_routing` found: sentences, the folder of the report, loops between shots."""

    summary: list[str]
    report_dir: Path
    loops: int
    result: Result | None = None


@dataclass(frozen=True, kw_only=True)
class _Run:
    """A run that is done: all its shots, those of the clip included, and what was recorded."""

    result: Result
    film: Film
    shots: tuple[PastShot, ...]
    recorder: RoutingRecorder | None


@dataclass(frozen=True, kw_only=True)
class _Context:
    """What a context looks like: frames [first, end) of its shot, and a picture; None for captions."""

    frames: tuple[int, int] | None = None
    thumbnail: np.ndarray | None = None


def generate(
    scene: Scene,
    output: Path,
    settings: Settings,
    *,
    overwrite: bool = False,
    on_event: OnEvent = ignore,
) -> Result:
    """Generate a scene and write it to `output`, whose name says the kind of file.

    Raises:
        UsageError: a setting that the model cannot carry out.
        ModelError: the model is unknown or broken.
        OutputError: the output exists (without `overwrite`) or cannot be written.
    """
    check_output(output, overwrite)
    return _run(scene, output, settings, overwrite=overwrite, on_event=on_event).result


def extend(
    clip: Path,
    scene: Scene,
    output: Path,
    settings: Settings,
    *,
    context_seconds: float | None = None,
    overwrite: bool = False,
    on_event: OnEvent = ignore,
) -> Result:
    """Write the clip followed by the shots of `scene`, which remember it, to `output`.

    The clip's own frames come back unchanged; its last `context_seconds` are the history that the new
    shots retrieve from. Raises what `generate` raises, and ClipError if the clip cannot be used.
    """
    info = probe(clip)
    check_output(output, overwrite)
    if output.exists() and output.samefile(clip):
        raise UsageError(f"{output} is the clip itself; name another output")
    return _run(
        scene,
        output,
        settings,
        clip=info,
        context_seconds=context_seconds,
        overwrite=overwrite,
        on_event=on_event,
    ).result


def inspect_routing(
    scene: Scene,
    out: Path,
    settings: Settings,
    *,
    clip: Path | None = None,
    overwrite: bool = False,
    on_event: OnEvent = ignore,
) -> InspectResult:
    """Generate the scene (or extend `clip` with it) and write a report of what was routed to `out`.

    The folder holds routing.json, routing.safetensors, pictures, index.html and the video itself.
    Raises what `generate` and `extend` raise.
    """
    info = probe(clip) if clip else None
    check_folder(out, overwrite=overwrite)
    with TemporaryDirectory() as folder:
        video = Path(folder) / VIDEO_NAME
        run = _run(scene, video, settings, clip=info, overwrite=False, on_event=on_event, recording=True)
        assert run.recorder is not None
        contexts = _contexts(run)
        report = run.recorder.report(frames=[context.frames for context in contexts])
        result = dataclasses.replace(run.result, output=out / VIDEO_NAME)
        write_report(
            report,
            out,
            thumbnails={i: c.thumbnail for i, c in enumerate(contexts) if c.thumbnail is not None},
            captions=_captions(run.shots),
            settings={**dataclasses.asdict(settings), "density": result.density, "revision": result.revision},
            video=video,
            overwrite=overwrite,
        )
    numbers = statistics(report)
    return InspectResult(summary=summary(report, numbers), report_dir=out, loops=numbers.loops, result=result)


def load_model(settings: Settings, on_event: OnEvent = ignore) -> NativeModel:
    """The model that the settings name, on the device and in the dtype that they ask for."""
    device = pick_device(settings.device)
    on_event(ModelLoading(model=settings.model))
    return load_bundle(settings.model, device=device, dtype=pick_dtype(settings.dtype, device))


def _run(
    scene: Scene,
    output: Path,
    settings: Settings,
    *,
    clip: VideoInfo | None = None,
    context_seconds: float | None = None,
    overwrite: bool,
    on_event: OnEvent,
    recording: bool = False,
) -> _Run:
    start = time.monotonic()
    model = load_model(settings, on_event)
    plan = make_plan(
        model,
        scene.shots,
        settings,
        clip_size=(clip.width, clip.height) if clip else None,
        clip_fps=clip.fps if clip else None,
    )
    unknown = _report_unknown(model, scene, settings, on_event)
    history = read_history(clip, model, seconds=context_seconds) if clip else History()
    config = model.dit.config
    recorder = RoutingRecorder(layers=config.depth, heads=config.heads) if recording else None
    film = Film(
        model,
        plan,
        scene,
        seed=settings.seed,
        negative=settings.negative,
        history=history,
        on_event=on_event,
        recorder=recorder,
    )
    record = {"mocgen": _record(scene, settings, model, clip, context_seconds)}
    with VideoWriter(
        output,
        width=plan.size[0],
        height=plan.size[1],
        fps=plan.fps,
        metadata=record,
        overwrite=overwrite,
        source=clip.path if clip else None,
    ) as writer:
        if clip:
            on_event(Writing(shot=0, shots=len(scene.shots)))
            writer.copy_source()
        copied = writer.frames_written
        past = _write_shots(film, writer, on_event)
        writer.attach(pack_history([*history.shots, *past], scene.prompt or history.prompt, model))
        new = writer.frames_written - copied
    result = Result(
        output=output,
        frames=copied + new,
        fps=float(plan.fps),
        width=plan.size[0],
        height=plan.size[1],
        seconds=float((clip.seconds if clip else 0) + Fraction(new) / plan.fps),
        seed=settings.seed,
        model=settings.model,
        revision=model.revision,
        attention=settings.attention,
        top_k=plan.routing.top_k,
        density=film.meter.density,
        elapsed_seconds=time.monotonic() - start,
        shots=len(scene.shots),
        unknown_words=unknown,
    )
    return _Run(result=result, film=film, shots=(*history.shots, *past), recorder=recorder)


def _write_shots(film: Film, writer: VideoWriter, on_event: OnEvent) -> list[PastShot]:
    """Write each shot as soon as it is done; returns what is remembered of them."""
    past: list[PastShot] = []
    ends = _shot_ends(film.plan)
    begin = 0
    for shot in film.shots():
        on_event(Writing(shot=shot.number + 1, shots=len(film.scene.shots)))
        pixels = resample_frames(shot.pixels.numpy(), size=film.plan.size)
        count = ends[shot.number] - begin
        writer.write(pixels[hold(len(pixels), count)])
        begin = ends[shot.number]
        past.append(shot.past)
    return past


def hold(frames: int, count: int) -> np.ndarray:
    """Which of `frames` frames to show at each of `count` evenly spaced moments: (count,) indices."""
    return np.arange(count) * frames // count


def _shot_ends(plan: Plan) -> list[int]:
    """Frame of the output at which each shot ends; rounding never adds up."""
    ends: list[int] = []
    total = Fraction(0)
    for seconds in plan.seconds:
        total += seconds
        ends.append(max(round(total * plan.fps), (ends[-1] if ends else 0) + 1))
    return ends


def _captions(shots: tuple[PastShot, ...]) -> list[str]:
    """The caption at every place of the scene; empty where a shot is not remembered."""
    captions = {shot.index: shot.caption for shot in shots}
    return [captions.get(index, "") for index in range(1 + max(captions))]


@torch.inference_mode()
def _contexts(run: _Run) -> list[_Context]:
    """The contexts of a run in the order of its memory."""
    layout, group = run.film.memory.layout, run.film.model.dit.config.patch_frames
    assert layout is not None
    pictures: list[_Context] = []
    for shot in run.shots:
        firsts = run.film.decode(shot.latents[0, ::group]).numpy()
        pictures += [
            _Context(frames=(group * i, group * (i + 1)), thumbnail=picture)
            for i, picture in enumerate(firsts)
        ]
    of_video = iter(pictures)
    return [next(of_video) if kind is Kind.VIDEO else _Context() for kind in layout.kinds]


def _report_unknown(
    model: NativeModel, scene: Scene, settings: Settings, on_event: OnEvent
) -> tuple[str, ...]:
    """Tell which words of the prompts the model does not know, and return them."""
    texts = [scene.prompt, *(shot.caption for shot in scene.shots), settings.negative]
    unknown = tuple(dict.fromkeys(word for text in texts for word in model.vocabulary.read(text).unknown))
    if unknown:
        words = ", ".join(repr(word) for word in unknown)
        on_event(Notice(message=f"the model does not know {words}: left out"))
    return unknown


def _record(
    scene: Scene,
    settings: Settings,
    model: NativeModel,
    clip: VideoInfo | None,
    context_seconds: float | None,
) -> str:
    """How a video was made, as JSON."""
    record: dict[str, object] = {
        "version": mocgen.__version__,
        "command": "extend" if clip else "generate",
        "prompt": scene.prompt,
        "shots": [dataclasses.asdict(shot) for shot in scene.shots],
        "settings": dataclasses.asdict(settings),
        "model": settings.model,
        "revision": model.revision,
    }
    if clip:
        record |= {"clip": clip.path.name, "context_seconds": context_seconds}
    return json.dumps(record, ensure_ascii=False)
