"""What a user can set for a run, what a run reports while it goes, and what it returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from mocgen.errors import UsageError

AttentionName = Literal["moc", "dense", "window", "first-frame", "random"]
ATTENTION_NAMES: tuple[str, ...] = get_args(AttentionName)
DeviceName = Literal["auto", "cpu", "cuda"]
DtypeName = Literal["auto", "fp32", "bf16"]
OffloadName = Literal["auto", "none", "blocks"]
QuantizeName = Literal["int8", "fp8"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of one run. None means: the model's own default.

    Raises:
        UsageError: a number outside its sensible range, or a name that is not known.
    """

    model: str = "embedded"  # "embedded", HUB_ID[@REV] or a folder
    seconds: float | None = None  # per shot
    size: tuple[int, int] | None = None  # (width, height) of the output, pixels
    fps: float | None = None  # of the output
    seed: int = 0
    steps: int | None = None
    guidance: float | None = None
    negative: str = ""
    attention: AttentionName = "moc"
    top_k: int | None = None
    local_window: int | None = None  # contexts of the own shot on either side that are always attended to
    first_frame: bool = False  # beside a local window, the own shot's first context is always attended to
    contexts: str | None = None  # "4": latent frames; "8x8": a tile of rows and columns of tokens
    causal: bool | None = None  # False: all shots are denoised jointly, each may route to later ones
    context_noise: float = 0.0  # share of noise in what finished shots and clips are remembered as
    device: DeviceName = "auto"
    dtype: DtypeName = "auto"
    upscale: bool = True  # False: write the model's own (small) picture size
    lora: tuple[str, ...] = ()  # FILE or FILE:SCALE each, merged into the weights in this order
    offload: OffloadName = "auto"  # blocks: two blocks' weights on the device at a time; auto: if need be
    quantize: QuantizeName | None = None  # weights of the blocks in eight bits
    offline: bool = False  # do not ask the Hub: what is in its cache must do

    def __post_init__(self) -> None:
        if not self.model.strip():
            raise UsageError("the model's name is empty; leave it out to use the embedded one")
        if self.seconds is not None:
            check_seconds(self.seconds, "seconds per shot")
        if self.size is not None and not all(16 <= side <= 8192 and side % 2 == 0 for side in self.size):
            width, height = self.size
            raise UsageError(f"size {width}x{height}: width and height must be even and from 16 to 8192")
        _check_range(self.fps, "fps", 1, 240)
        _check_range(self.seed, "seed", 0, 2**63 - 1)
        _check_range(self.steps, "steps", 1, 1000)
        _check_range(self.guidance, "guidance", 0, 100)
        _check_range(self.top_k, "top-k", 1, 1_000_000)
        _check_range(self.local_window, "local-window", 0, 1_000_000)
        _check_range(self.context_noise, "context-noise", 0, 0.5)
        _check_name(self.attention, "attention", ATTENTION_NAMES)
        _check_name(self.device, "device", get_args(DeviceName))
        _check_name(self.dtype, "dtype", get_args(DtypeName))
        _check_name(self.offload, "offload", get_args(OffloadName))
        if self.quantize is not None:
            _check_name(self.quantize, "quantize", get_args(QuantizeName))
            if self.offload == "blocks":
                raise UsageError("offload blocks and quantize do not go together; leave one of them out")
        for text in self.lora:
            parse_lora(text)


def check_seconds(value: float, name: str) -> None:
    """Raises UsageError if a length in seconds is not one that a shot or a stretch of clip can have."""
    _check_range(value, name, 0.01, 3600)


def parse_lora(text: str) -> tuple[Path, float]:
    """FILE or FILE:SCALE → the file and the scale (1 if it is not said).

    Raises:
        UsageError: there is no such file, or the scale is not from -10 to 10.
    """
    name, colon, last = text.rpartition(":")
    try:
        file, scale = (Path(name), float(last)) if colon and not Path(text).exists() else (Path(text), 1.0)
    except ValueError:
        file, scale = Path(text), 1.0
    _check_range(scale, f"scale of LoRA {file}", -10, 10)
    if not file.is_file():
        raise UsageError(f"no such LoRA file: {file}")
    return file, scale


def _check_range(value: float | None, name: str, low: float, high: float) -> None:
    if value is not None and not low <= value <= high:  # false for NaN too
        raise UsageError(f"{name} must be from {low} to {high}, not {value}")


def _check_name(value: str, name: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UsageError(f"{name} must be one of {', '.join(known)}, not {value!r}")


@dataclass(frozen=True, kw_only=True)
class ModelLoading:
    """The model is being loaded."""

    model: str


@dataclass(frozen=True, kw_only=True)
class ModelFetching:
    """The model is being fetched from the Hub: the file of now, bytes done and bytes of all."""

    file: str
    done: int
    total: int


@dataclass(frozen=True, kw_only=True)
class ContextEncoding:
    """The clip that is extended is being read into the context memory."""

    shots_done: int
    shots: int


@dataclass(frozen=True, kw_only=True)
class Step:
    """One denoising step of one shot is done (step 0: the shot begins). Counts are 1-based."""

    shot: int
    shots: int
    step: int
    steps: int
    caption: str


@dataclass(frozen=True, kw_only=True)
class Writing:
    """A shot's frames are being decoded and encoded into the output (shot 0: the user's own clip)."""

    shot: int
    shots: int


@dataclass(frozen=True, kw_only=True)
class Notice:
    """Something the user should know; the run goes on."""

    message: str


Event = ModelLoading | ModelFetching | ContextEncoding | Step | Writing | Notice
OnEvent = Callable[[Event], None]


@dataclass(frozen=True, kw_only=True)
class RememberedShot:
    """A shot of the clip that a run went on from: the clip's second at which it begins, and its caption."""

    begin: float
    caption: str = ""


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a run made; the fields of `--format json`."""

    output: Path
    frames: int
    fps: float
    width: int
    height: int
    seconds: float
    seed: int
    model: str
    revision: str
    attention: AttentionName
    top_k: int
    density: float  # attended (query, key) pairs / all pairs of the scene
    elapsed_seconds: float
    shots: int
    unknown_words: tuple[str, ...] = field(default=())  # of the prompts, not understood
    read_words: dict[str, str] = field(default_factory=dict)  # and what others were read as: "crimson": "red"
    clip_shots: tuple[RememberedShot, ...] = ()  # what was remembered of the clip that was extended
    can_be_extended: bool = True  # by the same model
