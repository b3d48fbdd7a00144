"""Solids: what is shared, joined, and where one falls into two."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra import numpy as hnp

from stacksam.tracks.solids import Solid, two_parts, without_crumbs
from stacksam.tracks.volume_divisions import apart, judged

SHAPE = (8, 10, 12)
SPACING = (2.0, 1.0, 1.0)
masks = hnp.arrays(bool, SHAPE).filter(lambda mask: bool(mask.any()))


def whole(solid):
    return np.stack([solid.plane(z, SHAPE[1:]) for z in range(SHAPE[0])])


def ellipsoid(z, y, x, half, shape=(20, 40, 60)):
    """Half axes in pixels; planes are two pixels apart."""
    planes, rows, columns = np.ogrid[: shape[0], : shape[1], : shape[2]]
    a, b, c = half
    return ((planes - z) * 2 / a) ** 2 + ((rows - y) / b) ** 2 + ((columns - x) / c) ** 2 <= 1


@settings(max_examples=40, deadline=None)
@given(masks, masks)
def test_sets_of_voxels(one, other):
    a, b = Solid.of(one), Solid.of(other)
    np.testing.assert_array_equal(whole(a), one)
    assert a.volume == one.sum()
    assert a.shared(b) == b.shared(a) == (one & other).sum()
    assert a.iou(b) == pytest.approx((one & other).sum() / (one | other).sum())
    np.testing.assert_array_equal(whole(a.joined(b)), one | other)
    left = a.without([b])
    np.testing.assert_array_equal(np.zeros(SHAPE, bool) if left is None else whole(left), one & ~other)
    np.testing.assert_allclose(a.centre(SPACING), np.argwhere(one).mean(0) * SPACING)
    planes = ((z, (0, 0, *SHAPE[1:]), one[z]) for z in range(SHAPE[0]))
    assert Solid.stacked(planes).bbox == a.bbox


def test_nothing_is_no_solid():
    assert Solid.of(np.zeros(SHAPE, bool)) is None
    assert Solid.stacked([(0, (0, 0, 2, 2), np.zeros((2, 2), bool))]) is None


def test_crumbs_go_and_parts_stay():
    main, part = ellipsoid(10, 20, 20, (10, 10, 10)), ellipsoid(10, 20, 45, (6, 6, 6))
    crumb = np.zeros_like(main)
    crumb[0, 0, 0] = True
    cleaned = without_crumbs(Solid.of(main | part | crumb))
    assert cleaned.volume == (main | part).sum()


@pytest.mark.parametrize("gap", [True, False], ids=["apart", "neck"])
@pytest.mark.parametrize("axis", ["x", "z"])
def test_two_balls_are_two_parts(gap, axis):
    if axis == "x":
        one, other = ellipsoid(10, 20, 20, (9, 9, 9)), ellipsoid(10, 20, 37 + 3 * gap, (9, 9, 9))
    else:
        one, other = ellipsoid(5, 20, 30, (9, 9, 9)), ellipsoid(13 + 2 * gap, 20, 30, (9, 9, 9))
    found = two_parts(Solid.of(one | other), SPACING)
    assert found is not None
    assert sum(part.volume for part in found) == (one | other).sum()
    centres = sorted(tuple(part.centre(SPACING).round()) for part in found)
    assert np.linalg.norm(np.subtract(*centres)) > 14


@pytest.mark.parametrize("half", [(9, 9, 9), (8, 8, 20), (6, 14, 18)])
def test_what_is_merely_long_is_one(half):
    assert two_parts(Solid.of(ellipsoid(10, 20, 30, half)), SPACING) is None


def test_a_small_part_is_not_comparable():
    both = ellipsoid(10, 20, 20, (12, 12, 12)) | ellipsoid(10, 20, 45, (4, 4, 4))
    assert two_parts(Solid.of(both), SPACING) is None


def test_a_factor_falls_for_each_reason_to_doubt():
    before = Solid.of(ellipsoid(10, 20, 30, (12, 12, 12)))
    pair = Solid.of(ellipsoid(10, 20, 22, (9, 9, 9))), Solid.of(ellipsoid(10, 20, 40, (9, 9, 9)))
    good = judged(3, 7, before, pair, SPACING, 1.0)
    assert good.confidence > 0.8
    assert good.confidence == pytest.approx(np.prod(list(good.factors.values())))
    small = Solid.of(ellipsoid(10, 20, 22, (4, 4, 4)))
    assert judged(3, 7, before, (small, pair[1]), SPACING, 1.0).factors["balance"] == 0
    assert judged(3, 7, before, (small, small), SPACING, 1.0).factors["size"] == 0
    assert judged(3, 7, before, (pair[0], pair[0]), SPACING, 1.0).factors["distance"] == 0
    assert judged(3, 7, before, pair, SPACING, 0.0).confidence == 0


def test_daughters_last_if_both_are_there_and_not_the_same():
    pair = Solid.of(ellipsoid(10, 20, 22, (9, 9, 9))), Solid.of(ellipsoid(10, 20, 44, (9, 9, 9)))
    assert apart(pair, {1: pair[0], 2: pair[1]})
    assert not apart(pair, {1: pair[0]})
    assert not apart(pair, {1: pair[0], 2: pair[0]})
    assert not apart(pair, {1: pair[0], 2: Solid.of(ellipsoid(10, 20, 44, (4, 4, 4)))})
