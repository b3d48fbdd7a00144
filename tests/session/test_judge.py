"""Of several answers, the one that does as the user says."""

from __future__ import annotations

import numpy as np
import pytest

from stacksam.session.canvas import View
from stacksam.session.judge import FITTED_DISTANCE, heed, obedience, worth
from stacksam.session.prompts import Box, Point
from stacksam.session.records import Record

VIEW = View(0, 0, 64, 64, 64)


def record(bbox, iou=0.9, mask=None):
    shape = bbox[2] - bbox[0], bbox[3] - bbox[1]
    return Record(
        object_id=1,
        frame=0,
        view=VIEW,
        logits=np.zeros((16, 16), np.float32),
        pointer=np.zeros(8, np.float32),
        object_score=5.0,
        predicted_iou=iou,
        bbox=bbox,
        mask=np.ones(shape, bool) if mask is None else mask,
    )


@pytest.mark.parametrize(
    ("prompt", "heeded"),
    [
        (Point(0, 1, (12.0, 12.0)), True),
        (Point(0, 1, (12.0, 12.0), positive=False), False),
        (Point(0, 1, (40.0, 12.0)), False),
        (Point(0, 1, (40.0, 12.0), positive=False), True),
        (Point(0, 1, (9.4, 19.4)), False),
        (Point(0, 1, (9.6, 19.4)), True),
        (Box(0, 1, (10.0, 10.0, 19.0, 19.0)), True),
        (Box(0, 1, (10.0, 10.0, 19.0, 30.0)), False),
        (Box(0, 1, (40.0, 40.0, 50.0, 50.0)), False),
    ],
)
def test_points_are_heeded_by_their_pixel_and_boxes_by_the_bounding_box(prompt, heeded):
    assert heed(record((10, 10, 20, 20)), [prompt]) == heeded


def test_a_hole_is_not_part_of_the_mask():
    mask = np.ones((10, 10), bool)
    mask[2, 2] = False
    assert heed(record((10, 10, 20, 20), mask=mask), [Point(0, 1, (12.0, 12.0), positive=False)]) == 1


def test_an_answer_that_heeds_goes_before_one_that_is_believed_in():
    before = record((10, 10, 30, 30))
    wrong = Point(0, 1, (25.0, 25.0), positive=False)
    stubborn, obedient = record((10, 10, 30, 30), 0.99), record((10, 10, 20, 20), 0.6)
    smaller, nothing = record((10, 10, 15, 15), 0.6), record((0, 0, 0, 0), 1.0)
    order = sorted(
        [nothing, stubborn, smaller, obedient], key=lambda one: obedience(one, before, [wrong]), reverse=True
    )
    assert order == [obedient, smaller, stubborn, nothing]


@pytest.mark.parametrize("distance", [0, 1, 7])
@pytest.mark.parametrize("predicted", [0.0, 0.3, 1.0])
def test_a_predicted_iou_is_left_as_it_is_by_neutral_coefficients(predicted, distance):
    assert worth(predicted, distance, (1.0, 0.0, 0.0)) == predicted


def test_belief_falls_with_distance_and_keeps_the_order():
    how = (0.7, -0.4, 0.5)
    far = [worth(0.9, distance, how) for distance in range(FITTED_DISTANCE + 1)]
    assert worth(0.9, 100, how) == far[-1]  # nobody has looked how it goes on
    assert far == sorted(far, reverse=True)
    assert 0 < far[-1] < far[0] < 0.9
    grown = [worth(p, 3, how) for p in (0.0, 0.2, 0.6, 0.99, 1.0)]
    assert grown == sorted(grown)
    assert all(0 < value < 1 for value in grown)
