"""The made volumes of dividing cells: what their truth says holds for their labels."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
from scipy import ndimage

from stacksam.dividing_volumes import dividing_volumes
from stacksam.errors import InputError
from stacksam.io.lineage import check_lineage

SMALL = {"n_times": 6, "side": 128, "n_start": 4, "n_dividing": 2}


@pytest.fixture(scope="module")
def cells():
    return dividing_volumes(**SMALL)


def spans(labels):
    found = {}
    for number in np.unique(labels)[1:].tolist():
        times = np.flatnonzero((labels == number).any(axis=(1, 2, 3)))
        found[number] = (int(times[0]), int(times[-1]), len(times))
    return found


def test_a_seed_makes_the_same_again_and_another_seed_something_else(cells):
    again = dividing_volumes(**SMALL)
    assert np.array_equal(again.images, cells.images)
    assert np.array_equal(again.labels, cells.labels)
    assert nx.utils.graphs_equal(again.lineage, cells.lineage)
    other = dividing_volumes(2, side=128, n_start=4, n_dividing=0, seed=1)
    assert not np.array_equal(other.images, cells.images[:2])


def test_the_truth_is_a_lineage_without_gaps(cells):
    seen = spans(cells.labels)
    assert cells.labels.shape == cells.images.shape == (6, 24, 128, 128)
    assert cells.spacing == (1, 2, 1, 1)
    assert set(seen) == set(cells.lineage.nodes)
    assert all(last - first + 1 == count for first, last, count in seen.values())
    check_lineage(cells.lineage, {i: span[:2] for i, span in seen.items()})
    parents = {parent for parent, _ in cells.lineage.edges}
    assert len(parents) == 2
    for parent in parents:
        begins = [seen[daughter][0] for daughter in cells.lineage.successors(parent)]
        assert begins == [seen[parent][1] + 1] * 2


def test_each_cell_is_one_bright_solid_and_moves_moderately(cells):
    for image, labels in zip(cells.images[::2], cells.labels[::2], strict=True):
        background = np.median(image[labels == 0])
        for number in np.unique(labels)[1:]:
            own = labels == number
            assert ndimage.label(own)[1] == 1
            assert np.median(image[own]) > 1.5 * background
    for number in (i for i in cells.lineage if spans(cells.labels)[i][2] == 6):
        ways = np.diff([ndimage.center_of_mass(labels == number) for labels in cells.labels], axis=0) * (
            2,
            1,
            1,
        )
        steps = np.linalg.norm(ways, axis=1)
        assert 0.3 < steps.mean() < 8


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"n_times": 1}, "n_times is 1; use at least 2"),
        ({"n_dividing": 13}, "12 cells of which 13 divide"),
        ({"spacing": 0}, "spacing is 0"),
        ({"depth": 5}, "planes of 10 pixels in all are too few; use a depth of 20"),
        ({"n_start": 99}, "99 cells have no room on 256 x 256"),
    ],
)
def test_what_cannot_be_made_is_an_error(options, match):
    with pytest.raises(InputError, match=match):
        dividing_volumes(**options)
