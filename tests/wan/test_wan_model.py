"""What a Wan checkpoint makes of prompts, sizes and lengths."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
import torch

from mocgen.bundle import load_bundle
from mocgen.errors import UsageError
from mocgen.settings import Settings
from mocgen.wan import WanModel
from mocgen.wan.lengths import check_size, fit_size, shot_lengths


@pytest.fixture
def ti2v_model(wan_folders: dict[str, Path]) -> WanModel:
    model = load_bundle(str(wan_folders["ti2v"]), device=torch.device("cpu"), dtype=torch.float32)
    assert isinstance(model, WanModel)
    return model


def test_shots_read_the_global_prompt_and_their_own(ti2v, ti2v_model: WanModel) -> None:
    """A clip, which has no caption, is read under that of the shot that follows it."""
    words = ti2v_model.read(["", "a red star", "a blue   star"], prompt="in the snow", negative="no blur")
    texts = ["in the snow a red star", "in the snow a red star", "in the snow a blue star"]
    theirs, negative = ti2v.encode_prompt(texts, ["no blur"] * 3, max_sequence_length=512)
    assert words.prompt is None
    assert torch.allclose(torch.cat(words.captions), theirs, atol=1e-5)
    assert torch.allclose(words.negative, negative[:1], atol=1e-5)
    assert not torch.allclose(words.captions[1], words.captions[2], atol=1e-2)


def test_each_text_is_read_once_and_the_encoder_is_let_go(
    ti2v_model: WanModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import UMT5EncoderModel

    encoders, forward = [], UMT5EncoderModel.forward

    def listen(self, *arguments, **options):
        encoders.append(self)
        return forward(self, *arguments, **options)

    monkeypatch.setattr(UMT5EncoderModel, "forward", listen)
    ti2v_model.read(["a red star", "a blue star", "a red star"], prompt="", negative="")
    assert len(encoders) == 3  # two captions and the negative one
    assert all(parameter.is_meta for parameter in encoders[0].parameters())


def test_lengths_are_whole_latent_frames() -> None:
    def lengths(seconds: list[float | None], *, after_clip: bool) -> list[tuple[int, Fraction]]:
        made = shot_lengths(seconds, frames=81, fps=16, temporal=4, after_clip=after_clip)
        return [(length.latents, length.seconds) for length in made]

    assert lengths([None, None], after_clip=False) == [(21, Fraction(81, 16)), (20, Fraction(5))]
    assert lengths([None], after_clip=True) == [(20, Fraction(5))]
    assert lengths([3.0, 3.0], after_clip=False) == [(13, Fraction(49, 16)), (12, Fraction(3))]
    assert lengths([0.01, 0.01], after_clip=False) == [(1, Fraction(1, 16)), (1, Fraction(1, 4))]


def test_a_clip_keeps_its_shape_at_the_models_number_of_pixels() -> None:
    assert fit_size((1920, 1080), (1280, 704), 32) == (1280, 704)
    assert fit_size((720, 1280), (832, 480), 16) == (480, 848)
    assert fit_size((200, 100), (832, 480), 16) == (896, 448)
    with pytest.raises(UsageError, match="multiples of 32 with this model; try --size 1280x704"):
        check_size((1280, 720), 32)


def test_what_is_attended_to_without_retrieval(ti2v_model: WanModel) -> None:
    """The own frame; where nothing is retrieved within a shot, its neighbours or all of it."""

    def local(**settings) -> int | None:
        return ti2v_model.routing(Settings(**settings)).local_window

    assert local() == 0
    assert local(attention="random") == 0
    assert local(attention="window", top_k=3) == 2
    assert local(attention="first-frame") is None
    assert local(attention="dense") is None
    assert local(local_window=4) == 4


def test_notes_tell_what_a_checkpoint_was_not_trained_for(ti2v_model: WanModel) -> None:
    def notes(latents: list[int], *, after_clip: bool = False, **settings) -> str:
        return " ".join(ti2v_model.notes(Settings(**settings), latents, after_clip=after_clip))

    assert notes([31], attention="dense") == ""
    assert "retrieves contexts (" in notes([31])
    assert "here it makes shots one after another" in notes([5, 5], attention="dense")
    assert "here it makes shots one after another" in notes([5], after_clip=True, attention="dense")
    assert notes([5, 5], attention="dense", causal=False) == ""
    assert "trained on 121 frames" in notes([31, 30], attention="dense", causal=False)
