"""A small time-lapse with all that formats stumble over."""

from __future__ import annotations

from typing import NamedTuple

import networkx as nx
import numpy as np
import pytest

from stacksam.io.label_stack import LabelStack

SCALE = (30.0, 0.5, 0.25)
UNITS = ("second", "micrometer", "micrometer")


class Family(NamedTuple):
    """Labels as an array and as a stack, and who is whose daughter."""

    array: np.ndarray
    labels: LabelStack
    lineage: nx.DiGraph


def make_family(axes="tyx", scale=SCALE, units=UNITS, dtype=np.uint16):
    """A division and one more; a gap of two frames; pieces, a hole, single pixels, corners, an empty frame.

    Not square, so that exchanged axes show.
    """
    a = np.zeros((8, 24, 37), dtype)
    a[0:3, 2:9, 3:11] = 1
    a[1, 4:6, 5:8] = 0  # a hole
    for f in range(3, 7):
        a[f, 2:6, 3 + f : 8 + f] = 2
        a[f, 7:11, 3 + f : 6 + f] = 30
    a[[1, 2, 5, 6], 20:24, 30:37] = 7  # in a corner, with a gap
    a[4:7, 23, 0] = 500  # a pixel in another
    a[4:7, 15:17, 15:18] = 9
    a[4:7, 18, 20] = 9  # in two pieces
    a[0, 0, 36] = 11
    lineage = nx.DiGraph([(1, 2), (1, 30)])
    lineage.add_nodes_from([7, 500, 9, 11])
    return Family(a, LabelStack.of(a, axes, scale=scale, units=units, name="family"), lineage)


@pytest.fixture
def family():
    return make_family()


@pytest.fixture
def volume():
    return make_family("zyx", (3.0, 0.5, 0.25), ("micrometer",) * 3)


def links(edges):
    """Edges as plain pairs, to be compared."""
    return {(int(a), int(b)) for a, b in edges}
