"""The made time-lapse of dividing cells: what its truth says holds for its labels."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
from scipy import ndimage

from stacksam.dividing import dividing_cells
from stacksam.errors import InputError
from stacksam.io.lineage import check_lineage


@pytest.fixture(scope="module")
def cells():
    return dividing_cells(40, side=224, n_start=8)


def seen(labels):
    found: dict[int, list[int]] = {}
    for frame, values in enumerate(labels):
        for number in np.unique(values).tolist():
            found.setdefault(number, []).append(frame)
    found.pop(0)
    return found


def test_a_seed_makes_the_same_again_and_another_seed_something_else(cells):
    again = dividing_cells(40, side=224, n_start=8)
    assert np.array_equal(again.images, cells.images)
    assert np.array_equal(again.labels, cells.labels)
    assert nx.utils.graphs_equal(again.lineage, cells.lineage)
    assert not np.array_equal(dividing_cells(2, side=224, n_start=8, seed=1).images, cells.images[:2])


def test_the_truth_is_a_lineage_without_gaps(cells):
    frames = seen(cells.labels)
    assert set(frames) == set(cells.lineage.nodes)
    assert all(own == list(range(own[0], own[-1] + 1)) for own in frames.values())
    check_lineage(cells.lineage, {i: (own[0], own[-1]) for i, own in frames.items()})
    for parent in {parent for parent, _ in cells.lineage.edges}:
        begins = [frames[daughter][0] for daughter in cells.lineage.successors(parent)]
        assert begins == [frames[parent][-1] + 1] * 2


def test_cells_divide_come_and_go(cells):
    frames = seen(cells.labels)
    roots = [i for i, degree in cells.lineage.in_degree if not degree]
    assert sum(frames[i][0] == 0 for i in roots) == 8
    assert sum(frames[i][0] > 0 for i in roots) >= 2
    assert cells.lineage.number_of_edges() >= 2 * 5
    ends = [i for i, degree in cells.lineage.out_degree if not degree and frames[i][-1] < 39]
    for number in ends:  # they went over the border
        y, x = np.nonzero(cells.labels[frames[number][-1]] == number)
        assert min(y.min(), x.min(), 223 - y.max(), 223 - x.max()) == 0
    assert ends


def test_each_cell_is_one_bright_piece(cells):
    for image, labels in zip(cells.images[::7], cells.labels[::7], strict=True):
        background = np.median(image[labels == 0])
        for number in np.unique(labels)[1:]:
            own = labels == number
            assert ndimage.label(own)[1] == 1
            assert np.median(image[own]) > 1.5 * background


@pytest.mark.slow
def test_the_set_of_the_benchmark_is_large_enough():
    cells = dividing_cells()
    frames = seen(cells.labels)
    assert len(cells.labels) == 60
    assert cells.lineage.number_of_edges() >= 2 * 15
    assert max(len(np.unique(labels)) - 1 for labels in cells.labels) >= 30
    assert {2, 6, 9} <= {i for i in frames if frames[i][-1] < 59}


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"n_frames": 1}, "n_frames is 1; a time-lapse has at least 2"),
        ({"side": 10}, "side is 10; use at least 64"),
        ({"n_start": 0}, "0 cells to start with"),
        ({"n_leaving": 99}, "4 entering and 99 leaving cannot be"),
        ({"n_start": 99}, "99 cells have no room on 320 x 320 pixels"),
    ],
)
def test_what_cannot_be_made_is_an_error(options, match):
    with pytest.raises(InputError, match=match):
        dividing_cells(**options)
