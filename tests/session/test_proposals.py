"""Suppression keeps one proposal for each place, the best, and gives no pixel to two of them."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stacksam.session.boxes import bbox_of
from stacksam.session.proposals import Proposal, box_nms, suppress

SHAPE = (40, 200)


def square(y, x, side, score=0.9, width=None):
    width = width or side
    return Proposal(0, (y, x, y + side, x + width), np.ones((side, width), bool), score, 1.0)


boxes = st.lists(
    st.tuples(st.integers(0, 20), st.integers(0, 20), st.integers(1, 12), st.integers(1, 12)), max_size=12
)


@given(boxes=boxes, threshold=st.sampled_from([0.0, 0.3, 0.7]), seed=st.integers(0, 99))
def test_boxes_that_stay_do_not_overlap_and_those_that_go_overlap_a_better_one(boxes, threshold, seed):
    corners = np.array([(y, x, y + h, x + w) for y, x, h, w in boxes], float).reshape(-1, 4)
    scores = np.random.default_rng(seed).random(len(corners))
    kept = box_nms(corners, scores, threshold).tolist()

    def overlap(a, b):
        shared = np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None).prod()
        return shared / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - shared)

    assert scores[kept].tolist() == sorted(scores[kept], reverse=True)
    for i in range(len(corners)):
        rivals = [j for j in kept if j != i and scores[j] > scores[i]]
        assert (i in kept) == all(overlap(corners[i], corners[j]) <= threshold for j in rivals)


def test_boxes_of_one_pixel_are_left_alone():
    assert box_nms(np.array([[3.0, 3, 3, 3], [3, 3, 3, 3]]), np.array([0.5, 0.6]), 0.7).tolist() == [1, 0]


def test_duplicates_parts_and_groups_go():
    best = square(10, 10, 12, score=0.9)
    duplicate, part, group = square(11, 10, 12, 0.8), square(12, 12, 5, 0.85), square(8, 8, 20, 0.7)
    far = square(10, 150, 12, 0.6)
    assert [p.bbox for p in suppress([group, part, duplicate, far, best])] == [best.bbox, far.bbox]


def test_a_proposal_over_two_others_that_it_shares_little_with_each_goes():
    left, right = square(0, 0, 20), square(0, 26, 20)
    between = square(5, 12, 8, 0.5, width=22)  # 8 columns on the left one, 8 on the right one, 6 free
    assert len(suppress([left, right, between])) == 2


@given(places=boxes, seed=st.integers(0, 99))
def test_no_pixel_has_two_owners(places, seed):
    scores = np.random.default_rng(seed).random(len(places))
    proposals = [
        Proposal(0, (y, x, y + h, x + w), np.ones((h, w), bool), float(s), 1.0)
        for (y, x, h, w), s in zip(places, scores, strict=True)
    ]
    count = np.zeros(SHAPE, int)
    for proposal in suppress(proposals):
        count += proposal.full_mask(SHAPE)
        assert bbox_of(proposal.mask) == (0, 0, *proposal.mask.shape)
    assert count.max(initial=0) <= 1


def test_what_is_cut_in_two_keeps_its_larger_piece():
    bar, cross = square(10, 20, 4, 0.9, width=4), square(11, 0, 2, 0.5, width=60)
    assert suppress([bar, cross])[1].bbox == (11, 24, 13, 60)


def test_what_is_taken_goes_first_and_is_not_returned():
    tracked, over = square(10, 10, 10), square(10, 16, 10, score=1.0)  # shares 40 of 100 pixels
    assert suppress([over], taken=[tracked], taken_threshold=0.3) == []
    kept = suppress([over], taken=[tracked])
    assert [p.bbox for p in kept] == [(10, 20, 20, 26)]


def test_area_and_centre():
    proposal = square(10, 20, 5)
    assert (proposal.area, proposal.centre) == (25, (12.0, 22.0))
