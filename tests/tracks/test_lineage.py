"""What follows from a lineage and from the frames on which objects are seen."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stacksam.errors import InputError
from stacksam.session.scores import FrameScores
from stacksam.tracks import (
    Event,
    descendants,
    events,
    generations,
    lineage_tree,
    roots,
    seen_frames,
    spans_of,
    tracks_data,
)
from stacksam.tracks.lineage import rows_of

LINEAGE = nx.DiGraph([(1, 2), (1, 3), (3, 4), (3, 7)])
LINEAGE.add_node(5)
SEEN = {
    1: [0, 1, 2],
    2: [3, 4, 7, 8, 9],
    3: [3, 4],
    4: [5, 6],
    7: [6, 7, 8, 9],
    5: [2, 3, 4, 5, 6, 7, 8, 9],
}


def scores(object_id, frames, area):
    n = len(frames)
    centroid = np.array([(10.0 * object_id, f) for f in frames])
    centroid[np.array(area) == 0] = np.nan
    flags = np.zeros(n, bool)
    return FrameScores(
        object_id,
        np.array(frames),
        np.ones(n),
        np.ones(n),
        np.array(area),
        centroid,
        np.zeros((n, 4), int),
        flags,
        flags,
        flags,
    )


def test_generations_roots_and_descendants():
    assert generations(LINEAGE) == {1: 0, 2: 1, 3: 1, 4: 2, 5: 0, 7: 2}
    assert roots(LINEAGE) == (1, 5)
    assert descendants(LINEAGE, 1) == (2, 3, 4, 7)
    assert descendants(LINEAGE, 4) == ()
    with pytest.raises(InputError, match="no object 9 in the lineage"):
        descendants(LINEAGE, 9)


def test_events_tell_what_happens_to_each_object():
    assert events(SEEN, 10, LINEAGE) == [
        Event(2, 5, "appears"),
        Event(3, 1, "divides"),
        Event(3, 2, "is born"),
        Event(3, 3, "is born"),
        Event(5, 2, "is lost"),
        Event(5, 3, "divides"),
        Event(5, 4, "is born"),
        Event(6, 7, "is born"),
        Event(7, 2, "returns"),
        Event(7, 4, "leaves"),
    ]
    assert events({1: [0, 1], 2: []}, 3) == [Event(2, 1, "leaves")]
    assert events({}, 3) == []


def test_events_outside_the_stack_or_against_the_lineage_are_errors():
    with pytest.raises(InputError, match="object 1 is seen on frames 0 to 3; the stack has 0 to 2"):
        events({1: [3, 0]}, 3)
    with pytest.raises(InputError, match="begins on frame 1, but its parent 1 is there until frame 1"):
        events({1: [0, 1], 2: [1]}, 3, nx.DiGraph([(1, 2)]))
    assert events({1: [0, 1]}, 2, nx.DiGraph([(1, 2)])) == []  # a daughter that is not seen yet


@given(st.dictionaries(st.integers(1, 9), st.sets(st.integers(0, 20))))
def test_an_object_comes_as_often_as_it_goes(seen):
    found = events(seen, 21)
    for object_id, frames in seen.items():
        own = [event for event in found if event.object_id == object_id]
        comes = [e.frame for e in own if e.kind in ("appears", "returns")] + [0] * (0 in frames)
        goes = [e.frame for e in own if e.kind in ("is lost", "leaves")] + [21] * (20 in frames)
        stretches = zip(sorted(comes), sorted(goes), strict=True)
        assert {f for start, stop in stretches for f in range(start, stop)} == frames


def test_seen_frames_are_those_with_a_mask():
    some = {1: scores(1, [0, 2, 3], [5, 0, 7]), 2: scores(2, [4], [0])}
    assert seen_frames(some) == {1: [0, 3], 2: []}
    assert spans_of(seen_frames(some)) == {1: (0, 3)}


def test_tracks_are_rows_of_centroids_and_a_graph():
    some = {2: scores(2, [3, 4], [5, 5]), 1: scores(1, [0, 1, 2], [5, 0, 5]), 3: scores(3, [3], [0])}
    data, graph = tracks_data(some, nx.DiGraph([(1, 2), (1, 3)]))
    assert data.tolist() == [[1, 0, 10, 0], [1, 2, 10, 2], [2, 3, 20, 3], [2, 4, 20, 4]]
    assert graph == {2: [1]}  # nothing of 3 is seen
    data, graph = tracks_data({})
    assert data.shape == (0, 4)
    assert graph == {}


def test_in_a_tree_parents_lie_amid_their_daughters_and_no_line_meets_another():
    rows, count = rows_of(LINEAGE, spans_of(SEEN))
    assert count == 4
    assert sorted(rows[i] for i in (2, 4, 7, 5)) == [0, 1, 2, 3]
    assert rows[3] == (rows[4] + rows[7]) / 2
    assert rows[1] == (rows[2] + rows[3]) / 2
    assert rows[5] == 3  # it has no relatives


def test_a_deep_family_can_be_drawn():
    n = 3000
    lineage = nx.DiGraph((i, i + 1) for i in range(1, n))
    rows, count = rows_of(lineage, {i: (i, i) for i in range(1, n + 1)})
    assert count == 1
    assert set(rows.values()) == {0.0}


def test_the_tree_shows_each_object_in_its_colour():
    from stacksam.overview_tile import colour_of

    spans = spans_of(SEEN)
    picture = lineage_tree(LINEAGE, spans, n_frames=12, title="Cells", width=600)
    assert picture.dtype == np.uint8
    assert picture.shape[1:] == (600, 3)
    for object_id, (first, last) in spans.items():
        rows, columns = np.nonzero((picture == colour_of(object_id)).all(axis=2))
        longest = np.ptp(columns[rows == np.bincount(rows).argmax()])
        assert longest > 30 * (last - first), "a line as long as the object is there"
    many = dict.fromkeys(range(1, 700), (0, 3))
    assert lineage_tree(None, many).shape[0] < 700 * 8


def test_what_cannot_be_drawn_is_an_error():
    with pytest.raises(InputError, match="no objects to draw"):
        lineage_tree(None, {})
    with pytest.raises(InputError, match="width is 20"):
        lineage_tree(None, {1: (0, 1)}, width=20)
    with pytest.raises(InputError, match="begins on frame 1"):
        lineage_tree(nx.DiGraph([(1, 2)]), {1: (0, 1), 2: (1, 1)})


def test_no_public_name_is_that_of_a_module():
    import pkgutil

    import stacksam.tracks

    modules = {module.name for module in pkgutil.iter_modules(stacksam.tracks.__path__)}
    assert not modules & set(stacksam.tracks.__all__)  # importing the module would hide the name
    assert set(stacksam.tracks._HOMES) == set(stacksam.tracks.__all__)
