"""generate, extend, inspect_routing: one loop over shots, three ways to use it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from mocgen.errors import UsageError
from mocgen.history import PastShot
from mocgen.routing.recorder import RoutingRecorder
from mocgen.routing.statistics import statistics
from mocgen.routing.summary import summary
from mocgen.routing.writer import check_folder, write_report
from mocgen.run import Run, carry_out, ignore
from mocgen.settings import OnEvent, Result, Settings
from mocgen.storyboard import Scene
from mocgen.video import check_output, probe
from mocgen.video_model import Picture, VideoModel
from mocgen_kernels import Kind

VIDEO_NAME = "video.mp4"  # in a routing report


@dataclass(frozen=True, kw_only=True)
class InspectResult:
    """What `inspect_routing` found: sentences, the folder of the report, loops between shots."""

    summary: list[str]
    report_dir: Path
    loops: int
    result: Result | None = None


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
    return carry_out(scene, output, settings, overwrite=overwrite, on_event=on_event).result


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
    shots retrieve from, under the scene's `clip_prompts`. Raises what `generate` raises, UsageError too if
    these do not fit the shots of the clip, and ClipError if the clip cannot be used.
    """
    info = probe(clip)
    check_output(output, overwrite)
    if output.exists() and output.samefile(clip):
        raise UsageError(f"{output} is the clip itself; name another output")
    return carry_out(
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
        run = carry_out(
            scene, video, settings, clip=info, overwrite=False, on_event=on_event, make_recorder=_listen
        )
        recorder = run.film.recorder
        assert isinstance(recorder, RoutingRecorder)
        pictures = _pictures(run, recorder)
        report = recorder.report(frames=[picture.frames if picture else None for picture in pictures])
        result = dataclasses.replace(run.result, output=out / VIDEO_NAME)
        write_report(
            report,
            out,
            thumbnails={i: picture.thumbnail for i, picture in enumerate(pictures) if picture},
            captions=_captions(run.shots),
            settings={**dataclasses.asdict(settings), "density": result.density, "revision": result.revision},
            video=video,
            overwrite=overwrite,
        )
    numbers = statistics(report)
    return InspectResult(summary=summary(report, numbers), report_dir=out, loops=numbers.loops, result=result)


def _listen(model: VideoModel) -> RoutingRecorder:
    return RoutingRecorder(layers=model.layers, heads=model.heads)


def _pictures(run: Run, recorder: RoutingRecorder) -> list[Picture | None]:
    """What the recorded contexts show, in order; None for captions."""
    shown = (
        picture
        for number, shot in enumerate(run.shots)
        for picture in run.film.model.pictures(shot.latents[0], run.film.plan.routing, opens=number == 0)
    )
    return [next(shown) if kind is Kind.VIDEO else None for kind in recorder.layout.kinds]


def _captions(shots: tuple[PastShot, ...]) -> list[str]:
    """The caption at every place of the scene; empty where a shot is not remembered."""
    captions = {shot.index: shot.caption for shot in shots}
    return [captions.get(index, "") for index in range(1 + max(captions))]
