"""Tracking measures of small graphs, against counts made by hand and the challenge's own program's way."""

from __future__ import annotations

import math
import sys

import networkx as nx
import numpy as np
import pytest

from stacksam.errors import InputError
from stacksam.metrics import count_overlaps, ctc_measures, division_measures, identity_measures, spans_of

WIDTH = 12  # pixels a place; objects sit at places and keep their distance


def frames(*contents, size=4):
    """Label frames from one {id: place} each."""
    found = []
    for content in contents:
        frame = np.zeros((3, 8 * WIDTH), np.uint16)
        for object_id, place in content.items():
            frame[:, place * WIDTH : place * WIDTH + size] = object_id
        found.append(frame)
    return found


def times(labels, reference):
    return [count_overlaps(a, b) for a, b in zip(labels, reference, strict=True)]


# 1 divides into 2 and 3 at time 2; 4 stays.
TRUTH = frames({1: 0, 4: 5}, {1: 0, 4: 5}, {2: 0, 3: 1, 4: 5}, {2: 0, 3: 1, 4: 5})
LINEAGE = nx.DiGraph([(1, 2), (1, 3)])
VERTICES, EDGES = 10, 8


def test_a_copy_is_perfect():
    same = times(TRUTH, TRUTH)
    found = ctc_measures(same, LINEAGE, LINEAGE)
    assert (found.seg, found.det, found.tra, found.lnk) == (1, 1, 1, 1)
    assert set(found.operations.values()) == {0}
    identity = identity_measures(same)
    assert (identity.id_switches, identity.idf1) == (0, 1)
    assert division_measures(same, LINEAGE, LINEAGE).f1 == 1


def test_missed_and_extra_objects_by_hand():
    """4 is missed on the last frame, 9 is invented on the first: FN 1, FP 1, one edge to add."""
    labels = [frame.copy() for frame in TRUTH]
    labels[3][labels[3] == 4] = 0
    labels[0][:, 7 * WIDTH : 7 * WIDTH + 4] = 9
    found = ctc_measures(times(labels, TRUTH), LINEAGE, LINEAGE)
    assert found.operations == {"NS": 0, "FN": 1, "FP": 1, "ED": 0, "EA": 1, "EC": 0}
    assert found.det == pytest.approx(1 - (10 + 1) / (10 * VERTICES))
    assert found.tra == pytest.approx(1 - (10 + 1 + 1.5) / (10 * VERTICES + 1.5 * EDGES))
    assert found.lnk == pytest.approx(1 - 1.5 / (1.5 * EDGES))
    assert found.seg == pytest.approx(9 / 10)


def test_a_lineage_that_is_not_told_costs_its_edges():
    found = ctc_measures(times(TRUTH, TRUTH), None, LINEAGE)
    assert found.operations == {"NS": 0, "FN": 0, "FP": 0, "ED": 0, "EA": 2, "EC": 0}
    assert found.lnk == pytest.approx(1 - 2 / EDGES)
    assert found.det == 1
    assert division_measures(times(TRUTH, TRUTH), None, LINEAGE).recall == 0


def test_a_cell_that_keeps_its_id_through_division_has_a_link_of_the_wrong_kind():
    """Daughter 2 goes on as 1: that edge is of a track, not of a division; the one to 3 is missing."""
    labels = [np.where(frame == 2, 1, frame) for frame in TRUTH]
    found = ctc_measures(times(labels, TRUTH), None, LINEAGE)
    assert found.operations == {"NS": 0, "FN": 0, "FP": 0, "ED": 0, "EA": 1, "EC": 1}


def test_merged_objects_are_to_be_split():
    truth = frames({1: 0, 2: 1}, {1: 0, 2: 1}, size=WIDTH)
    labels = [np.where(frame > 0, 1, 0) for frame in truth]
    found = ctc_measures(times(labels, truth))
    assert found.operations["NS"] == 2
    assert found.det == pytest.approx(1 - 2 * 5 / 40)


def test_the_object_that_covers_half_is_none():
    """More than half of the reference must be covered; half is not enough, and SEG counts it 0."""
    truth = frames({1: 0}, {1: 0}, size=4)
    half, more = frames({1: 0}, {1: 0}, size=2), frames({1: 0}, {1: 0}, size=3)
    assert ctc_measures(times(half, truth)).det == 0
    assert ctc_measures(times(half, truth)).seg == 0
    assert ctc_measures(times(more, truth)).det == 1
    assert ctc_measures(times(more, truth)).seg == pytest.approx(3 / 4)


def test_gone_and_back_is_a_link_in_both_graphs():
    truth = frames({1: 0}, {}, {1: 0})
    assert ctc_measures(times(truth, truth)).lnk == 1
    other_id = frames({1: 0}, {}, {2: 0})
    found = ctc_measures(times(other_id, truth))
    assert (found.operations["EA"], found.lnk) == (1, 0)


def test_nothing_found_is_worth_nothing():
    nothing = [np.zeros_like(frame) for frame in TRUTH]
    found = ctc_measures(times(nothing, TRUTH), None, LINEAGE)
    assert (found.seg, found.det, found.tra, found.lnk) == (0, 0, 0, 0)
    assert (found.operations["FN"], found.operations["EA"]) == (VERTICES, EDGES)
    assert identity_measures(times(nothing, TRUTH)).idf1 == 0


def test_one_image_has_no_links():
    found = ctc_measures(times(TRUTH[:1], TRUTH[:1]))
    assert (found.seg, found.det) == (1, 1)
    assert math.isnan(found.tra)
    assert math.isnan(found.lnk)


def test_a_reference_without_objects_is_told():
    empty = [np.zeros_like(frame) for frame in TRUTH]
    with pytest.raises(InputError, match="no object"):
        ctc_measures(times(TRUTH, empty))


def test_a_missing_package_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "ctc_metrics.metrics", None)
    with pytest.raises(InputError, match=r'pip install "napari-stacksam\[evaluate\]"'):
        ctc_measures(times(TRUTH, TRUTH))


def test_identities_by_hand():
    """Two objects swap ids at time 2 of 5, and one is missed in between: 1 is 7 then 8, 2 is 8 then 7."""
    truth = frames(*[{1: 0, 2: 4}] * 5)
    labels = frames({7: 0, 8: 4}, {7: 0, 8: 4}, {8: 0}, {8: 0, 7: 4}, {8: 0, 7: 4})
    found = identity_measures(times(labels, truth))
    assert found.id_switches == 2
    assert found.id_recall == pytest.approx((3 + 2) / 10)
    assert found.id_precision == pytest.approx((3 + 2) / 9)
    assert found.idf1 == pytest.approx(2 * 5 / 19)


@pytest.mark.parametrize(("late", "right"), [(-1, 1), (0, 1), (1, 1), (2, 0)])
def test_divisions_may_be_a_frame_off(late, right):
    def dividing(at):
        mother = [{1: 0, 5: 5}] * at
        return frames(*mother, *[{2: 0, 3: 1, 5: 5}] * (8 - at))

    found = division_measures(times(dividing(4 + late), dividing(4)), LINEAGE, LINEAGE)
    assert (found.true_positives, found.false_positives, found.false_negatives) == (
        right,
        1 - right,
        1 - right,
    )
    assert found.f1 == right


def test_daughters_must_be_the_right_ones():
    elsewhere = [np.roll(f, 2 * WIDTH, 1) if t > 1 else f for t, f in enumerate(TRUTH)]
    found = division_measures(times(elsewhere, TRUTH), LINEAGE, LINEAGE)
    assert (found.true_positives, found.f1) == (0, 0)
    # A large daughter that covers both is one, not two.
    merged = [frame.copy() for frame in TRUTH]
    for frame in merged[2:]:
        frame[frame == 3] = 2
        frame[:, 7 * WIDTH : 7 * WIDTH + 4] = 3
    assert division_measures(times(merged, TRUTH), LINEAGE, LINEAGE).true_positives == 0


def test_without_divisions_there_is_no_share():
    found = division_measures(times(TRUTH, TRUTH), None, nx.DiGraph())
    assert math.isnan(found.f1)


def test_spans():
    assert spans_of(list(map(np.unique, TRUTH)))[1] == (0, 1)
    assert spans_of([np.array([3]), np.array([], int), np.array([3, 4])]) == {3: (0, 2), 4: (2, 2)}
