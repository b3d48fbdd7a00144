"""A lineage that fits its labels is taken; every other kind is told apart and named."""

from __future__ import annotations

import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stacksam.errors import InputError
from stacksam.io.lineage import check_lineage, generations, parents

SPANS = {1: (0, 4), 2: (5, 9), 3: (6, 7), 4: (8, 9), 5: (0, 9)}


@st.composite
def trees(draw):
    """Objects in order of birth, each with or without one earlier parent that was gone by then."""
    spans: dict[int, tuple[int, int]] = {}
    lineage = nx.DiGraph()
    for object_id in draw(st.permutations(range(1, 9))):
        first = draw(st.integers(0, 20))
        ended = [i for i, (_, last) in spans.items() if last < first]
        if ended and draw(st.booleans()):
            lineage.add_edge(draw(st.sampled_from(ended)), object_id)
        spans[object_id] = (first, first + draw(st.integers(0, 3)))
    return lineage, spans


@given(trees())
def test_lineages_that_fit_are_taken(tree):
    lineage, spans = tree
    check_lineage(lineage, spans)
    above = parents(lineage)
    found = generations(lineage, set(spans))
    assert set(found) == set(spans)
    for object_id, generation in found.items():
        parent = above.get(object_id)
        assert generation == (0 if parent is None else found[parent] + 1)
    assert {(p, d) for d, p in above.items()} == set(lineage.edges)


@given(trees(), st.data())
def test_any_second_parent_and_any_way_back_is_found(tree, data):
    lineage, spans = tree
    if not lineage.edges:
        return
    parent, daughter = data.draw(st.sampled_from(sorted(lineage.edges)))
    back = lineage.copy()
    back.add_edge(daughter, min({parent, *nx.ancestors(lineage, parent)} & set(spans)))
    with pytest.raises(InputError, match=r"circle|parents"):
        check_lineage(back, spans)
    others = sorted(set(spans) - {parent, daughter})
    two = lineage.copy()
    two.add_edge(data.draw(st.sampled_from(others)), daughter)
    with pytest.raises(InputError, match=f"object {daughter} has 2 parents"):
        check_lineage(two, spans)


def test_no_lineage_and_numpy_ids_are_fine():
    import numpy as np

    check_lineage(None, SPANS)
    check_lineage(nx.DiGraph(), {})
    check_lineage(nx.DiGraph([(np.uint16(1), np.uint16(2))]), SPANS)
    assert generations(None, {3}) == {3: 0}


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        ([(1, 2), (2, 1)], r"circle: (1 -> 2 -> 1|2 -> 1 -> 2)"),
        ([(3, 3)], "circle: 3 -> 3"),
        ([(1, 2), (5, 2)], r"object 2 has 2 parents in the lineage \(objects 1, 5\)"),
        ([(2, 1)], "object 1 begins on frame 0, but its parent 2 is there until frame 9"),
        ([(2, 4)], "object 4 begins on frame 8, but its parent 2 is there until frame 9"),
        ([(1, 7)], "object 7, which the labels do not show"),
        ([(0, 2)], "the node 0; nodes are object ids"),
        ([("1", 2)], "the node '1'"),
        ([(True, 2)], "the node True"),
        ([(1.0, 2)], r"the node 1\.0"),
    ],
)
def test_lineages_that_do_not_fit(edges, message):
    with pytest.raises(InputError, match=message):
        check_lineage(nx.DiGraph(edges), SPANS)


@pytest.mark.parametrize("graph", [nx.Graph([(1, 2)]), {1: 2}, nx.MultiDiGraph([(1, 2)])])
def test_what_is_no_lineage(graph):
    with pytest.raises(InputError, match=r"must be a networkx\.DiGraph|multigraph"):
        check_lineage(graph, SPANS)


def test_long_lines_are_quick_and_deep():
    """Ten thousand divisions in a row, which recursion would not survive."""
    count = 10_000
    lineage = nx.DiGraph((i, i + 1) for i in range(1, count))
    check_lineage(lineage, {i: (i, i) for i in range(1, count + 1)})
    assert generations(lineage, {count}) == {count: count - 1}
