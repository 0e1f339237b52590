"""Which of two exact ways is cheaper on the CPU: masked attention per group, or visits to routed contexts."""

from __future__ import annotations

from mocgen_kernels.blocks import head_blocks
from mocgen_kernels.selection import Selection

# In units of the time that unmasked attention takes for one (query, key) pair with D = 64.
_MASKED_PAIR = 2.7  # building and reading the mask included
_VISITOR = 80.0  # gather a query, merge its partial result
_VISITS_IN_REVERSE = 3.0  # how much more visits lose by a backward pass than matmuls do
_CALL = 30_000.0  # per visit, whatever its size


def masking_is_cheaper(selection: Selection, dim: int, *, learning: bool = False) -> bool:
    """Whether masking the candidates that were not chosen costs less than not computing them.

    learning: a backward pass follows.
    """
    if selection.words is None:
        return True
    lengths = selection.layout.lengths
    masked, visited, visitors, contexts = 0.0, 0.0, 0.0, set[int]()
    for group in selection.groups:
        queries = group.stop - group.start
        anchors, candidates = (sum(lengths[c] for c in x) for x in (group.anchors, group.candidates))
        routed = min(selection.budget, len(group.candidates))
        masked += queries * (anchors + candidates)
        visited += queries * (anchors + candidates * routed / max(1, len(group.candidates)))
        visitors += queries * routed
        contexts.update(group.candidates)
    pairs, scale = selection.batch * selection.heads, dim / 64
    calls = len(contexts) * len(head_blocks(selection))
    sparse = pairs * scale * (visited + _VISITOR * visitors) + _CALL * calls
    if learning:
        sparse *= _VISITS_IN_REVERSE
    return _MASKED_PAIR * pairs * scale * masked < sparse
