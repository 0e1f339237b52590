"""Statistics and their words, on reports small enough to do by hand."""

from __future__ import annotations

from dataclasses import replace
from math import log

import pytest
import torch

from mocgen.routing import ContextLabel, RoutingReport, statistics, summary
from mocgen.routing.statistics import remembered, routed_shares


def three_shots(counts: list[list[int]], mass: list[list[float]]) -> RoutingReport:
    """One frame context of 2 tokens per shot, each asked with 2 tokens for 2 steps; causal."""
    below = torch.ones(3, 3).tril(-1).bool()
    return RoutingReport(
        contexts=tuple(ContextLabel(kind="video", shot=shot, length=2) for shot in range(3)),
        counts=torch.tensor(counts)[None, None],
        mass=torch.tensor(mass)[None, None],
        anchors=torch.eye(3).bool(),
        candidates=below,
        token_steps=torch.full((1, 3), 4),
        pairs=torch.tensor([[8, 16, 24]]),
    )


CAUSAL = three_shots(
    counts=[[0, 0, 0], [4, 0, 0], [1, 3, 0]],
    mass=[[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.1, 0.3, 0.6]],
)


def test_density_counts_attended_pairs() -> None:
    numbers = statistics(CAUSAL)
    # shot 2: 4 token-steps attend to 2 own tokens, 4 routed choices to 2 tokens each; 6 tokens are there
    assert [entry.density for entry in numbers.heads] == [8 / 8, 16 / 16, 16 / 24]
    assert numbers.density == pytest.approx(40 / 48)


def test_entropy_of_routed_choices() -> None:
    first, second, third = statistics(CAUSAL).heads
    assert first.entropy is None
    assert first.entropy_normalised is None
    assert second.entropy == 0.0
    assert second.entropy_normalised == 0.0
    expected = -(0.25 * log(0.25) + 0.75 * log(0.75))
    assert third.entropy == pytest.approx(expected)
    assert third.entropy_normalised == pytest.approx(expected / log(2))


def test_shares_and_distance() -> None:
    third = statistics(CAUSAL).heads[2]
    assert third.share.own_shot == pytest.approx(0.6)
    assert third.share.routed_past == pytest.approx(0.4)
    assert third.share.captions == third.share.future == 0.0
    assert third.mean_distance == pytest.approx((0.1 * 2 + 0.3 * 1) / 0.4)


def test_routed_attention_by_shot() -> None:
    torch.testing.assert_close(
        routed_shares(CAUSAL),
        torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.25, 0.75, 0.0]], dtype=torch.float64),
    )
    assert remembered(CAUSAL) == pytest.approx([0.25, 0.75, 0.0])  # shot 1 had no choice


def test_what_is_routed_to_within_a_shot_is_no_memory() -> None:
    """As under a local window: the own shot is a candidate too."""
    inward = replace(
        three_shots(
            counts=[[4, 0, 0], [1, 3, 0], [1, 1, 2]], mass=[[1.0, 0.0, 0.0], [0.2, 0.8, 0.0], [0.3, 0.1, 0.6]]
        ),
        anchors=torch.zeros(3, 3).bool(),
        candidates=torch.ones(3, 3).tril().bool(),
    )
    torch.testing.assert_close(
        routed_shares(inward),
        torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.75, 0.25, 0.0]], dtype=torch.float64),
    )
    assert remembered(inward) == pytest.approx([0.75, 0.25, 0.0])  # shot 1 had no choice of others
    first, _, third = statistics(inward).heads
    assert first.mean_distance is None
    assert third.mean_distance == pytest.approx((0.3 * 2 + 0.1 * 1) / 0.4)
    assert "shot 3 took 75 % of its routed attention from shot 1" in summary(inward)
    alone = replace(
        inward, mass=torch.eye(3)[None, None], counts=torch.eye(3, dtype=torch.int64)[None, None] * 4
    )
    assert "no shot routed to another one; there was nothing to remember" in summary(alone)


def test_loops_are_counted_from_the_data() -> None:
    assert statistics(CAUSAL).loops == 0
    looping = three_shots(
        counts=[[0, 2, 2], [4, 0, 0], [0, 4, 0]], mass=[[0.4, 0.3, 0.3], [1, 0, 0], [0, 1, 0]]
    )
    numbers = statistics(looping)
    assert numbers.loops == 1
    assert numbers.loop_pairs == ((0, 1),)
    assert numbers.loops_by_head == ((1,),)
    assert numbers.heads[0].share.future == pytest.approx(0.6)


def test_a_loop_needs_both_ways_in_one_head() -> None:
    one_way = three_shots(counts=[[0, 4, 0], [0, 0, 0], [0, 0, 0]], mass=[[0, 1, 0], [0, 1, 0], [0, 0, 1]])
    both = RoutingReport(
        contexts=one_way.contexts,
        counts=torch.cat(
            (one_way.counts, one_way.counts.transpose(-1, -2)), dim=1
        ),  # opposite ways, two heads
        mass=one_way.mass.repeat(1, 2, 1, 1),
        anchors=one_way.anchors,
        candidates=one_way.candidates,
        token_steps=one_way.token_steps,
        pairs=one_way.pairs,
    )
    assert statistics(both).loops == 0


def test_recorded_scene_has_no_loops_when_causal_and_some_when_not(recorded) -> None:
    assert statistics(recorded(4, causal=True)).loops == 0
    assert statistics(recorded(4, causal=False)).loops > 0


def test_captions_and_prompt_are_a_share_of_their_own(recorded) -> None:
    report = recorded(3)
    for entry in statistics(report).heads:
        share = entry.share
        assert share.captions + share.own_shot + share.routed_past + share.future == pytest.approx(1.0)
        rows = [i for i, label in enumerate(report.contexts) if label.shot == entry.shot]
        text = [0, rows[0]]  # the global prompt and the own caption
        weight = report.token_steps[entry.layer, rows].double()
        mass = report.mass[entry.layer, entry.head][rows][:, text].sum(-1).double()
        assert share.captions == pytest.approx(float((mass * weight).sum() / weight.sum()))


def test_density_of_a_recorded_scene_equals_the_operators(layout_of) -> None:
    from mocgen.routing import RoutingRecorder
    from mocgen_kernels import route

    layout = layout_of(4)
    torch.manual_seed(0)
    q, k = torch.randn(2, 1, layout.length, 2, 8)
    selection = route(q, k, layout, top_k=2, causal=True)
    recorder = RoutingRecorder(layers=1, heads=2)
    recorder.record(0, q, k, layout, selection)
    exact = float(selection.dense_mask().float().mean())
    assert statistics(recorder.report()).density == pytest.approx(exact)


def test_summary_says_who_remembers_whom() -> None:
    lines = summary(CAUSAL)
    assert "shot 3 took 75 % of its routed attention from shot 2" in lines
    assert any(line.startswith("shot 2 is remembered most: 75 %") for line in lines)
    assert "83 % of the (query, key) pairs of the scene so far were attended" in lines
    assert "no two shots routed to each other: memory flows one way" in lines


def test_summary_of_shots_that_look_at_themselves() -> None:
    inward = three_shots(
        counts=[[0, 0, 0], [4, 0, 0], [1, 3, 0]],
        mass=[[1.0, 0.0, 0.0], [0.04, 0.96, 0.0], [0.01, 0.02, 0.97]],
    )
    assert "shots 2 and 3 looked mostly at themselves" in summary(inward)


def test_summary_of_a_single_shot(recorded) -> None:
    assert "no shot routed to another one; there was nothing to remember" in summary(recorded(1))


def test_summary_of_a_long_scene_stays_short(recorded) -> None:
    assert len(summary(recorded(20))) <= 12
