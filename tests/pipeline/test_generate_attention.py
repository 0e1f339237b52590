"""generate under every attention policy: density, causality, the global prompt, unknown words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from mocgen.errors import UsageError
from mocgen.pipeline import generate
from mocgen.settings import ATTENTION_NAMES, Event, ModelLoading, Notice, Settings, Step, Writing
from mocgen.storyboard import scene_from_prompts

STAR, CUBE, RING = "a red star spins in the desert", "a blue cube bounces under the sea", "the hero grows"
CAPTION, GROUP = 8, 36  # tokens of a caption and of four frames; a shot has one caption and two groups
SHOT = CAPTION + 2 * GROUP


@pytest.mark.parametrize("attention", ATTENTION_NAMES)
@pytest.mark.parametrize("causal", ["--causal", "--no-causal"])
def test_every_policy_makes_a_video(film, frames_of, attention: str, causal: str) -> None:
    prompts = (STAR, CUBE, RING)
    made = film("generate", *prompts, "-o", "v", "--no-upscale", "--attention", attention, causal)
    assert made["attention"] == attention
    assert 1 / 3 <= made["density"] <= 1  # the own shot at least
    frames = frames_of("v")
    assert frames.shape == (24, 96, 96, 3)
    assert frames.std() > 10


def test_policies_differ_and_the_random_one_repeats(film, frames_of) -> None:
    for name, attention in [*((name, name) for name in ATTENTION_NAMES), ("again", "random")]:
        film("generate", STAR, CUBE, RING, "-o", name, "--no-upscale", "--attention", attention)
    assert np.array_equal(frames_of("random"), frames_of("again"))
    videos = [frames_of(name) for name in ATTENTION_NAMES]
    assert all(not np.array_equal(a, b) for i, a in enumerate(videos) for b in videos[:i])


def test_many_contexts_are_as_good_as_dense_attention(film, frames_of) -> None:
    film("generate", STAR, CUBE, RING, "-o", "dense", "--no-upscale", "--attention", "dense")
    film("generate", STAR, CUBE, RING, "-o", "moc", "--no-upscale", "--top-k", "100")
    assert np.abs(frames_of("dense").astype(int) - frames_of("moc")).max() <= 1


def test_density_is_what_counting_by_hand_gives(film) -> None:
    def density(*arguments: str) -> float:
        return film("generate", *arguments, "-o", "v.mp4", "--no-upscale", "--overwrite")["density"]

    shots = [SHOT * SHOT * (n + 1) for n in range(3)]
    assert density(STAR, "--attention", "dense") == 1
    assert density(STAR, CUBE, "--attention", "dense") == pytest.approx(sum(shots[:2]) / (2 * SHOT) ** 2)
    assert density(STAR, CUBE, RING, "--attention", "dense") == pytest.approx(sum(shots) / (3 * SHOT) ** 2)
    assert density(STAR, CUBE, RING, "--attention", "dense", "--no-causal") == 1
    window = SHOT * (3 * SHOT + 2 * GROUP)  # one group more for the second and third shot
    assert density(STAR, CUBE, RING, "--attention", "window", "--top-k", "1") == pytest.approx(
        window / (3 * SHOT) ** 2
    )
    Path("story.toml").write_text(f'prompt = "a story about a star"\nshots = ["{STAR}", "{CUBE}"]\n')
    pairs = CAPTION**2 + SHOT * (CAPTION + SHOT) + SHOT * (CAPTION + 2 * SHOT)
    assert density("--storyboard", "story.toml", "--attention", "dense") == pytest.approx(
        pairs / (CAPTION + 2 * SHOT) ** 2
    )


def test_earlier_shots_do_not_depend_on_later_ones_unless_all_are_made_jointly(film, latents_of) -> None:
    film("generate", STAR, CUBE, "-o", "two.mp4", "--no-upscale")
    film("generate", STAR, RING, "-o", "other.mp4", "--no-upscale")
    assert latents_of("two.mp4")[0].equal(latents_of("other.mp4")[0])
    film("generate", STAR, CUBE, "-o", "two.mp4", "--no-upscale", "--no-causal", "--overwrite")
    film("generate", STAR, RING, "-o", "other.mp4", "--no-upscale", "--no-causal", "--overwrite")
    assert not latents_of("two.mp4")[0].equal(latents_of("other.mp4")[0])


def test_later_shots_depend_on_earlier_ones(film, latents_of) -> None:
    film("generate", STAR, RING, "-o", "a.mp4", "--no-upscale")
    film("generate", CUBE, RING, "-o", "b.mp4", "--no-upscale")
    assert not latents_of("a.mp4")[1].equal(latents_of("b.mp4")[1])


@pytest.mark.parametrize("option", [("--context-noise", "0.3"), ("--local-window", "0")])
def test_options_of_the_memory_change_what_follows(film, latents_of, option: tuple[str, str]) -> None:
    film("generate", STAR, RING, "-o", "usual.mp4", "--no-upscale", "--top-k", "1")
    film("generate", STAR, RING, "-o", "other.mp4", "--no-upscale", "--top-k", "1", *option)
    usual, other = latents_of("usual.mp4"), latents_of("other.mp4")
    assert torch.equal(usual[0], other[0]) == (option[0] == "--context-noise")
    assert not torch.equal(usual[1], other[1])


def test_contexts_of_the_embedded_kind_are_its_own(run_mocgen, tiny_model: str) -> None:
    outcome = run_mocgen("generate", STAR, "--model", tiny_model, "--contexts", "2")
    assert outcome.code == 2
    assert "--contexts is for checkpoints of the Wan family" in outcome.err


@pytest.mark.parametrize("causal", ["--causal", "--no-causal"])
def test_the_global_prompt_is_seen_by_every_shot(film, latents_of, causal: str) -> None:
    for name, prompt in (("a", "a story about a red star"), ("b", "a story about a blue cube")):
        Path(f"{name}.toml").write_text(f'prompt = "{prompt}"\nshots = ["{RING}", "{RING}"]\n')
        film("generate", "--storyboard", f"{name}.toml", "-o", f"{name}.mp4", "--no-upscale", causal)
    pairs = zip(latents_of("a.mp4"), latents_of("b.mp4"), strict=True)
    assert not any(first.equal(second) for first, second in pairs)


def test_bf16_makes_nearly_the_same_video(film, frames_of) -> None:
    film("generate", STAR, "-o", "exact", "--no-upscale", "--steps", "1")
    film("generate", STAR, "-o", "rough", "--no-upscale", "--steps", "1", "--dtype", "bf16")
    exact, rough = frames_of("exact").astype(float), frames_of("rough").astype(float)
    assert np.corrcoef(exact.ravel(), rough.ravel())[0, 1] > 0.95


def test_unknown_words_are_told_and_left_out(run_mocgen, tiny_model: str, latents_of) -> None:
    def generate_from(prompt: str, name: str, *options: str):
        arguments = ("generate", prompt, "-o", name, "--no-upscale", "--seed", "5", "--model", tiny_model)
        return run_mocgen(*arguments, *options)

    outcome = generate_from("a red Zeppelin star zaps a zeppelin", "a.mp4", "--format", "json")
    assert outcome.code == 0
    assert outcome.json["unknown_words"] == ["zeppelin", "zaps"]
    assert outcome.err == "mocgen: note: not understood: 'zeppelin', 'zaps'\n"
    generate_from("a red star", "b.mp4")
    assert latents_of("a.mp4")[0].equal(latents_of("b.mp4")[0])
    assert generate_from("zeppelin", "c.mp4").code == 0
    assert generate_from("a zeppelin", "d.mp4", "--quiet").err == ""


def test_open_words_are_read_as_known_ones_and_told(run_mocgen, tiny_model: str, latents_of) -> None:
    def generate_from(prompt: str, name: str):
        line = ("generate", prompt, "-o", name, "--no-upscale", "--seed", "3", "--model", tiny_model)
        return run_mocgen(*line, "--format", "json")

    outcome = generate_from("a crimson ball spins at the seashore in a quantum", "a.mp4")
    assert outcome.json["read_words"] == {"crimson": "red", "seashore": "beach"}
    assert outcome.json["unknown_words"] == ["quantum"]
    told = "mocgen: note: read 'crimson' as 'red', 'seashore' as 'beach'; not understood: 'quantum'\n"
    assert outcome.err == told
    generate_from("a red ball spins at the beach", "b.mp4")
    assert latents_of("a.mp4")[0].equal(latents_of("b.mp4")[0])


def test_unknown_words_of_the_prompt_and_the_negative_count_too(film) -> None:
    Path("story.toml").write_text('prompt = "a lawyer"\nshots = ["a red star"]\n')
    made = film("generate", "--storyboard", "story.toml", "--negative", "fog", "-o", "v.mp4", "--no-upscale")
    assert made["unknown_words"] == ["lawyer", "fog"]


def test_a_run_reports_its_events_in_order(tiny_model: str, tmp_path: Path) -> None:
    events: list[Event] = []
    settings = Settings(model=tiny_model, upscale=False)
    generate(scene_from_prompts([STAR, "a lawyer"]), tmp_path / "v.mp4", settings, on_event=events.append)
    expected: list[Event] = [
        ModelLoading(model=tiny_model),
        Notice(message="not understood: 'lawyer'"),
    ]
    for shot, caption in ((1, STAR), (2, "a lawyer")):
        expected += [Step(shot=shot, shots=2, step=n, steps=2, caption=caption) for n in range(3)]
        expected.append(Writing(shot=shot, shots=2))
    assert events == expected


def test_the_library_checks_what_the_command_line_checks(tiny_model: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="steps"):
        Settings(model=tiny_model, steps=0)
    with pytest.raises(UsageError, match="cannot be reached"):
        generate(scene_from_prompts([STAR]), tmp_path / "v.mp4", Settings(model=tiny_model, size=(640, 480)))
    assert list(tmp_path.iterdir()) == []
