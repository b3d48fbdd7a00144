"""Counts of found objects, against cases computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from stacksam.errors import InputError
from stacksam.metrics import AP_THRESHOLDS, count_overlaps, detection_measures, panoptic_quality


def row(*runs):
    """Label row from (id, length) runs."""
    return np.concatenate([np.full(n, i) for i, n in runs])[np.newaxis]


# Reference 1: 10 px, label 5 covers 8 of them (IoU 0.8). Reference 2: 10 px, label 6 covers 6 and 2 beside
# it (IoU 0.5). Reference 3 is missed; label 7 is too much.
REFERENCE = row((1, 10), (2, 10), (0, 2), (3, 4), (0, 4))
LABELS = row((5, 8), (0, 2), (0, 4), (6, 8), (0, 4), (7, 4))


def test_counts_by_hand():
    time = count_overlaps(LABELS, REFERENCE)
    at = {t: detection_measures([time], t) for t in AP_THRESHOLDS}
    half = at[0.5]
    assert (half.true_positives, half.false_positives, half.false_negatives) == (2, 1, 1)
    assert half.ap == pytest.approx(2 / 4)
    assert half.f1 == half.precision == half.recall == pytest.approx(2 / 3)
    assert half.mean_matched_iou == pytest.approx((0.8 + 0.5) / 2)
    assert [at[t].true_positives for t in AP_THRESHOLDS] == [2, 1, 1, 1, 1, 1, 1, 0, 0, 0]
    assert at[0.8].ap == pytest.approx(1 / 5)
    assert math.isnan(at[0.95].mean_matched_iou)
    assert AP_THRESHOLDS[0] == 0.5
    assert AP_THRESHOLDS[-1] == 0.95


def test_panoptic_quality_takes_pairs_above_one_half():
    found = panoptic_quality([count_overlaps(LABELS, REFERENCE)])
    assert found.pq == pytest.approx(0.8 / (1 + 1 + 1))
    assert found.sq == pytest.approx(0.8)
    assert found.rq == pytest.approx(1 / 3)
    assert found.pq == pytest.approx(found.sq * found.rq)


def test_time_points_are_pooled():
    good, bad = count_overlaps(REFERENCE, REFERENCE), count_overlaps(np.zeros_like(REFERENCE), REFERENCE)
    both = detection_measures([good, bad])
    assert (both.true_positives, both.false_positives, both.false_negatives) == (3, 0, 3)
    assert panoptic_quality([good, bad]).pq == pytest.approx(3 / 4.5)


def test_at_one_half_an_object_has_one_partner():
    """Both halves of an object have IoU 0.5 with it; one of them is a false positive."""
    found = detection_measures([count_overlaps(row((5, 2), (6, 2)), row((1, 4)))])
    assert (found.true_positives, found.false_positives, found.false_negatives) == (1, 1, 0)


def test_thresholds_are_met_to_the_last_bit():
    """7 of 10 pixels is 0.7, whatever 0.7 is in binary."""
    time = count_overlaps(row((1, 7), (0, 3)), row((1, 10)))
    assert detection_measures([time], AP_THRESHOLDS[4]).true_positives == 1


def test_nothing_anywhere_has_no_measure():
    empty = count_overlaps(np.zeros((1, 3), int), np.zeros((1, 3), int))
    assert math.isnan(detection_measures([empty]).ap)
    assert math.isnan(panoptic_quality([empty]).pq)


def test_thresholds_that_make_no_sense_are_told():
    with pytest.raises(InputError, match=r"0\.3; give 0\.5 to 1"):
        detection_measures([], 0.3)
