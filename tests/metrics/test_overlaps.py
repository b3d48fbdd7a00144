"""Counting what two label images share is exact, adds up over frames, and gives the best matching."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from stacksam.errors import InputError
from stacksam.metrics import add_up, assign, count_overlaps, match_objects

images = arrays(np.uint16, (5, 6), elements=st.integers(0, 4))


@given(images, images)
def test_counts_are_those_of_masks(labels, reference):
    counted = count_overlaps(labels, reference)
    assert counted.labels.tolist() == [i for i in np.unique(labels) if i]
    assert counted.reference.tolist() == [i for i in np.unique(reference) if i]
    assert counted.label_pixels.tolist() == [(labels == i).sum() for i in counted.labels]
    assert counted.reference_pixels.tolist() == [(reference == i).sum() for i in counted.reference]
    expected = {
        (r, label): int(((reference == r) & (labels == label)).sum())
        for r in counted.reference.tolist()
        for label in counted.labels.tolist()
    }
    assert counted.pairs() == {pair: shared for pair, shared in expected.items() if shared}
    for iou, (r, label) in zip(counted.iou, counted.pairs(), strict=True):
        a, b = reference == r, labels == label
        assert iou == pytest.approx((a & b).sum() / (a | b).sum())


@given(images, images)
def test_counts_of_parts_add_up_to_those_of_the_whole(labels, reference):
    whole = count_overlaps(labels, reference)
    parts = add_up(count_overlaps(a, b) for a, b in zip(labels, reference, strict=True))
    for name in ("labels", "reference", "label_pixels", "reference_pixels", "shared"):
        assert np.array_equal(getattr(whole, name), getattr(parts, name))
    assert whole.pairs() == parts.pairs()
    assert add_up([]).pairs() == {}


@given(arrays(np.int64, st.tuples(st.integers(1, 4), st.integers(1, 4)), elements=st.integers(0, 9)))
def test_no_assignment_is_worth_more(worth):
    rows, columns = np.nonzero(worth)
    chosen = assign(rows, columns, worth[rows, columns])
    assert len(set(rows[chosen])) == len(set(columns[chosen])) == len(chosen)
    side = max(worth.shape)
    square = np.zeros((side, side), int)
    square[: worth.shape[0], : worth.shape[1]] = worth
    best = max(sum(square[i, p[i]] for i in range(side)) for p in permutations(range(side)))
    assert worth[rows, columns][chosen].sum() == best


def test_objects_match_by_overlap_or_by_number():
    reference = np.array([[1, 1, 1, 2, 2, 2, 0, 9]])
    labels = np.array([[2, 2, 1, 1, 1, 1, 9, 0]])
    total = count_overlaps(labels, reference)
    assert match_objects(total) == {1: 2, 2: 1}
    assert match_objects(total, "ids") == {1: 1, 2: 2, 9: 9}
    with pytest.raises(InputError, match="'names'; choose from overlap, ids"):
        match_objects(total, "names")


def test_greedy_matching_would_lose():
    """1 shares most with a, but all shares are most when 1 takes b."""
    reference = np.array([[1] * 5 + [1] * 4 + [2] * 4])
    labels = np.array([[7] * 5 + [8] * 4 + [7] * 4])
    assert match_objects(count_overlaps(labels, reference)) == {1: 8, 2: 7}


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (np.array([[0, -3]]), "labels on frame 4: an id is -3"),
        (np.array([[0, 2**32]]), "an id is 4294967296; ids may be up to 4294967295"),
        (np.array([[0.0, 1.5]]), "fractions"),
        (np.array([[0.0, np.nan]]), "fractions or not finite"),
        (np.array([["a", "b"]]), "whole numbers"),
        (np.zeros((2, 2), int), r"shape \(2, 2\) and the reference \(1, 2\) on frame 4"),
    ],
)
def test_what_is_no_label_image_is_told(labels, words):
    with pytest.raises(InputError, match=words):
        count_overlaps(labels, np.array([[0, 1]]), where=" on frame 4")


def test_large_ids_are_kept():
    counted = count_overlaps(np.array([[2**32 - 1]], np.uint64), np.array([[2**32 - 1]], np.uint32))
    assert counted.pairs() == {(2**32 - 1, 2**32 - 1): 1}
