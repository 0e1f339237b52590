"""What the recorder counts, against hand-written numbers and against dense softmax."""

from __future__ import annotations

import pytest
import torch

from mocgen.routing import RoutingRecorder
from mocgen.routing.mass import context_mass
from mocgen_kernels import ContextLayout, Kind, Selection, route
from mocgen_kernels.rules import Routing
from mocgen_kernels.selection import pack_bits

TEXT, VIDEO = Kind.TEXT, Kind.VIDEO
FIRST = ContextLayout(lengths=[1, 2], kinds=[TEXT, VIDEO], shots=[0, 0])
BOTH = ContextLayout(lengths=[1, 2, 1, 3], kinds=[TEXT, VIDEO, TEXT, VIDEO], shots=[0, 0, 1, 1])


def selection_of(layout: ContextLayout, query_length: int, table: list[list[int]]) -> Selection:
    contexts = layout.token_contexts()[-query_length:] - layout.first_query_context(query_length)
    rows = torch.tensor(table, dtype=torch.bool)[contexts]  # (Lq, C)
    return Selection(
        layout=layout,
        routing=Routing(top_k=1),
        batch=1,
        heads=1,
        query_length=query_length,
        words=pack_bits(rows[None, None]),
    )


def two_shots(steps: int) -> RoutingRecorder:
    """Shot 0 routes nothing; the caption of shot 1 takes that of shot 0, its frames take the frames."""
    recorder = RoutingRecorder(layers=1, heads=1)
    q, k = torch.ones(1, 3, 1, 4), torch.ones(1, 3, 1, 4)
    for _ in range(steps):
        recorder.record(0, q, k, FIRST, selection_of(FIRST, 3, [[0, 0], [0, 0]]))
    q, k = torch.ones(1, 4, 1, 4), torch.ones(1, 7, 1, 4)
    for _ in range(steps):
        recorder.record(0, q, k, BOTH, selection_of(BOTH, 4, [[1, 0, 0, 0], [0, 1, 0, 0]]))
    return recorder


def test_counts_of_two_shots_by_hand() -> None:
    report = two_shots(steps=3).report()
    expected = torch.tensor([[0, 0, 0, 0], [0, 0, 0, 0], [3, 0, 0, 0], [0, 9, 0, 0]])
    assert report.counts.tolist() == expected[None, None].tolist()
    assert report.token_steps.tolist() == [[3, 6, 3, 9]]
    assert report.pairs.tolist() == [[3 * 1 * 3, 3 * 2 * 3, 3 * 1 * 7, 3 * 3 * 7]]
    assert report.anchors.int().tolist() == [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]]
    assert report.candidates.int().tolist() == [[0, 0, 0, 0], [0, 0, 0, 0], [1, 1, 0, 0], [1, 1, 0, 0]]


def test_mass_of_equal_keys_is_the_share_of_tokens() -> None:
    mass = two_shots(steps=2).report().mass[0, 0]
    expected = [
        [1 / 3, 2 / 3, 0, 0],
        [1 / 3, 2 / 3, 0, 0],
        [1 / 5, 0, 1 / 5, 3 / 5],
        [0, 2 / 6, 1 / 6, 3 / 6],
    ]
    torch.testing.assert_close(mass, torch.tensor(expected))


def test_mass_and_counts_equal_dense_softmax(layout_of) -> None:
    layout = layout_of(4)
    torch.manual_seed(0)
    k = torch.randn(2, layout.length, 3, 8)
    tail = 2 * 8  # two shots of 2 + 3 + 3 tokens
    q = torch.randn(2, tail, 3, 8)
    selection = route(q, k, layout, top_k=2, causal=True)
    recorder = RoutingRecorder(layers=1, heads=3)
    recorder.record(0, q, k, layout, selection)
    report = recorder.report()

    scores = torch.einsum("qhd,khd->hqk", q[0].double(), k[0].double()) / 8**0.5
    attention = scores.masked_fill(~selection.dense_mask()[0], float("-inf")).softmax(-1)  # (H, Lq, L)
    owner = layout.token_contexts()
    routed = selection.routed()[0]  # (H, Lq, C)
    for query in range(layout.count):
        asking = (owner[-tail:] == query).nonzero().squeeze(1)
        if len(asking) == 0:
            assert report.mass[0, :, query].abs().sum() == 0
            continue
        assert report.counts[0, :, query].tolist() == routed[:, asking].sum(1).tolist()
        for key in range(layout.count):
            mass = attention[:, asking][:, :, owner == key].sum(-1).mean(-1)  # (H,)
            torch.testing.assert_close(report.mass[0, :, query, key].double(), mass, atol=1e-6, rtol=1e-5)


def test_chunks_do_not_change_the_mass() -> None:
    torch.manual_seed(1)
    queries, keys = torch.randn(7, 2, 4), torch.randn(9, 2, 4)
    lengths = torch.tensor([2, 3, 4])
    attended = torch.rand(2, 7, 3) < 0.5
    attended[..., 0] = True
    whole = context_mass(queries, keys, attended, lengths)
    torch.testing.assert_close(context_mass(queries, keys, attended, lengths, chunk_scores=10), whole)
    torch.testing.assert_close(whole.sum(-1), torch.full((2,), 7.0, dtype=torch.float64))


def test_steps_are_averaged_not_summed(layout_of) -> None:
    layout = layout_of(2)
    reports = []
    for steps in ([0], [1], [0, 1]):
        recorder = RoutingRecorder(layers=1, heads=2)
        for step in steps:
            torch.manual_seed(step)
            q, k = torch.randn(2, 1, layout.length, 2, 8)
            recorder.record(0, q, k, layout, route(q, k, layout, top_k=1, causal=True))
        reports.append(recorder.report())
    first, second, both = reports
    torch.testing.assert_close(both.mass, (first.mass + second.mass) / 2)
    assert torch.equal(both.counts, first.counts + second.counts)


def test_only_the_first_batch_item_is_recorded(layout_of) -> None:
    layout = layout_of(3)
    torch.manual_seed(3)
    q, k = torch.randn(2, 2, layout.length, 2, 8)
    selection = route(q, k, layout, top_k=1, causal=True)
    together, alone = RoutingRecorder(layers=1, heads=2), RoutingRecorder(layers=1, heads=2)
    together.record(0, q, k, layout, selection)
    alone.record(0, q[:1], k[:1], layout, route(q[:1], k[:1], layout, top_k=1, causal=True))
    assert torch.equal(together.report().counts, alone.report().counts)
    torch.testing.assert_close(together.report().mass, alone.report().mass)


def test_the_scene_grows_and_earlier_rows_stay() -> None:
    grown = two_shots(steps=1)
    before = grown.report()
    longer = ContextLayout(lengths=[*BOTH.lengths, 2], kinds=[*BOTH.kinds, VIDEO], shots=[*BOTH.shots, 2])
    selection = selection_of(longer, 2, [[0, 1, 0, 1, 0]])
    grown.record(0, torch.ones(1, 2, 1, 4), torch.ones(1, 9, 1, 4), longer, selection)
    after = grown.report()
    assert after.counts.shape == (1, 1, 5, 5)
    assert torch.equal(after.counts[..., :4, :4], before.counts)
    assert after.counts[0, 0, 4].tolist() == [0, 2, 0, 2, 0]
    assert before.counts.shape == (1, 1, 4, 4)


def test_contexts_are_labelled(recorded) -> None:
    labels = recorded(2).contexts
    assert [label.name for label in labels] == ["prompt", "caption", "0–3", "4–7", "caption", "8–11", "12–15"]
    assert [label.shot for label in labels] == [None, 0, 0, 0, 1, 1, 1]


def test_another_scene_is_refused() -> None:
    recorder = two_shots(steps=1)
    other = ContextLayout(lengths=[2, 2], kinds=[TEXT, VIDEO], shots=[0, 0])
    with pytest.raises(ValueError, match="does not continue"):
        recorder.record(
            0, torch.ones(1, 4, 1, 4), torch.ones(1, 4, 1, 4), other, selection_of(other, 4, [[0, 0]] * 2)
        )


def test_wrong_layer_or_heads_are_refused() -> None:
    recorder = RoutingRecorder(layers=1, heads=2)
    selection = selection_of(FIRST, 3, [[0, 0], [0, 0]])
    with pytest.raises(ValueError, match="does not fit"):
        recorder.record(1, torch.ones(1, 3, 2, 4), torch.ones(1, 3, 2, 4), FIRST, selection)
    with pytest.raises(ValueError, match="does not fit"):
        recorder.record(0, torch.ones(1, 3, 1, 4), torch.ones(1, 3, 1, 4), FIRST, selection)


def test_a_report_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing was recorded"):
        RoutingRecorder(layers=1, heads=1).report()
