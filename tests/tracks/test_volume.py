"""Ends, gaps and smoothness in depth; what is changed is one action, which can be taken back and replayed."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_model import DiscPredictor, labels, random_model, small_stack, state

from stacksam.errors import InputError
from stacksam.session.prompts import Mask, Point
from stacksam.session.replay import replay
from stacksam.session.scores import FrameScores
from stacksam.session.session import Session
from stacksam.tracks.volume import EndRules, close_gaps, find_ends, shape_between, smoothness, trim_ends

SIDE = 48


def disc(y, x, radius, side=SIDE):
    rows, columns = np.ogrid[:side, :side]
    return (rows - y) ** 2 + (columns - x) ** 2 <= radius**2


def scores(area, score=5.0, prompted=(), locked=()):
    n = len(area)
    flags = [np.isin(np.arange(n), which) for which in (prompted, locked)]
    nothing = np.zeros(n, bool)
    return FrameScores(
        1,
        np.arange(10, 10 + n),
        np.broadcast_to(np.asarray(score, float), n),
        np.ones(n),
        np.array(area),
        np.zeros((n, 2)),
        np.zeros((n, 4), np.int64),
        *flags,
        nothing,
    )


@pytest.fixture
def session(monkeypatch):
    """Ten frames with a disc that drifts, prompted on the fourth."""
    monkeypatch.setattr("stacksam.session.session.Predictor", DiscPredictor)
    with Session(small_stack(10, SIDE), random_model()) as opened:
        opened.add(Point(4, 1, (20.0, 20.0)))
        list(opened.propagate())
        yield opened


# --- ends ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("area", "score", "rules", "ends"),
    [
        ([0, 0, 90, 100, 95, 0, 0], 5, EndRules(), (12, 14)),
        ([40, 60, 90, 100, 95, 80, 60], 5, EndRules(), (10, 16)),
        ([0, 60, 90, 100, 95, 0, 80], 5, EndRules(), (11, 16)),  # one frame is a dip
        ([0, 60, 90, 100, 95, 0, 80], 5, EndRules(patience=1), (11, 14)),
        ([60, 60, 90, 100, 4, 4, 80], 5, EndRules(), (10, 13)),
        ([60, 60, 90, 100, 95, 80, 60], [-1, -1, 3, 3, 3, -1, -1], EndRules(), (12, 14)),
        ([60, 60, 90, 100, 95, 80, 60], [-1, -1, 3, 3, 3, -1, -1], EndRules(min_score=-2), (10, 16)),
        ([60, 60, 90, 100, 30, 30, 30], 5, EndRules(min_area=0.4), (10, 13)),
    ],
)
def test_ends_follow_the_rules(area, score, rules, ends):
    assert find_ends(scores(area, score, prompted=[3]), rules) == ends


def test_what_the_user_said_is_never_beyond_an_end():
    area = [60, 0, 0, 100, 0, 0, 5]
    assert find_ends(scores(area, prompted=[3])) == (13, 13)
    assert find_ends(scores(area, prompted=[3, 6])) == (13, 16)
    assert find_ends(scores(area, prompted=[3], locked=[5, 6])) == (13, 16)
    with pytest.raises(InputError, match="no prompted frame"):
        find_ends(scores(area))


@pytest.mark.parametrize(
    ("rules", "match"),
    [({"min_area": 2}, "min_area"), ({"patience": 0}, "patience"), ({"min_score": math.nan}, "min_score")],
)
def test_rules_that_make_no_sense(rules, match):
    with pytest.raises(InputError, match=match):
        EndRules(**rules)


def test_trimming_is_one_action(session):
    before = state(session)
    assert trim_ends(session, 1, first=2, last=7) == (0, 1, 8, 9)
    assert [bool(session.mask(1, f).any()) for f in range(10)] == [2 <= f <= 7 for f in range(10)]
    assert session.history[-1] == "mark_absent"
    session.undo()
    assert state(session) == before
    assert trim_ends(session, 1) == ()
    assert state(session) == before
    with pytest.raises(InputError, match="prompts on frames"):
        trim_ends(session, 1, first=5)


# --- gaps ---------------------------------------------------------------------------------------------


def empty(session, frames):
    nothing = np.zeros((SIDE, SIDE), bool)
    session.set_masks(*(Mask(f, 1, nothing) for f in frames))
    session.unlock(1, frames)


def test_gaps_are_closed_by_one_action_that_can_be_taken_back_and_replayed(session, tmp_path):
    whole = labels(session)
    empty(session, [6, 7])
    before = state(session)
    assert smoothness(session, 1).gaps == 2
    assert close_gaps(session, 1, max_gap=1) == ()
    assert close_gaps(session, 1) == (6, 7)
    assert session.locked_frames(1) == (6, 7)
    for frame in (6, 7):
        mask = session.mask(1, frame)
        shared = (mask & (whole[frame] == 1)).sum()
        assert 2 * shared / (mask.sum() + (whole[frame] == 1).sum()) > 0.9
    after = labels(session)
    assert close_gaps(session, 1) == ()
    saved = session.save(tmp_path / "session.json")
    with replay(saved, session.stack, session.model) as again:
        np.testing.assert_array_equal(labels(again), after)
        assert again.history == session.history
    session.undo()
    assert state(session) == before
    session.redo()
    np.testing.assert_array_equal(labels(session), after)


def test_what_was_approved_as_empty_stays_empty(session):
    session.mark_absent(1, [6])
    assert close_gaps(session, 1) == ()
    with pytest.raises(InputError, match="max_gap is 0"):
        close_gaps(session, 1, max_gap=0)


radii = st.floats(3, 9)
centres = st.tuples(st.floats(14, 34), st.floats(14, 34))


@given(centres, centres, radii, radii, st.floats(0.05, 0.95))
def test_the_shape_between_two_discs_is_the_disc_between(c0, c1, r0, r1, share):
    between = shape_between(disc(*c0, r0), disc(*c1, r1), share)
    middle = [(1 - share) * a + share * b for a, b in zip(c0, c1, strict=True)]
    wanted = disc(*middle, (1 - share) * r0 + share * r1)
    np.testing.assert_allclose(np.argwhere(between).mean(axis=0), middle, atol=1.0)
    assert abs(math.sqrt(between.sum() / math.pi) - math.sqrt(wanted.sum() / math.pi)) < 1.0


def test_between_a_shape_and_itself_is_the_shape():
    mask = disc(20, 22, 7) & ~disc(24, 20, 3)
    np.testing.assert_array_equal(shape_between(mask, mask, 0.4), mask)
    with pytest.raises(InputError, match="empty"):
        shape_between(mask, np.zeros_like(mask), 0.5)


# --- masks from elsewhere -----------------------------------------------------------------------------


def test_masks_that_cannot_be_set_change_nothing(session):
    before = state(session)
    good = Mask(3, 1, disc(10, 10, 4))
    for bad, match in (
        ((), "no mask"),
        ((good, Mask(3, 2, disc(10, 10, 4))), "no object 2"),
        ((good, Mask(3, 1, np.ones((3, 3), bool))), "has shape"),
        ((good, Mask(11, 1, disc(10, 10, 4))), "outside the stack"),
        ((good, Point(3, 1, (1.0, 1.0))), "a mask is a Point"),
    ):
        with pytest.raises(InputError, match=match):
            session.set_masks(*bad)
        assert state(session) == before
    session.add(Point(9, 2, (30.0, 30.0)))
    with pytest.raises(InputError, match="object 2 has no result on frame 3"):
        session.set_masks(good, Mask(3, 2, disc(30, 30, 4)))
    assert not session.locked_frames(1)


def test_a_set_mask_is_approved_and_can_be_given_up(session):
    found = session.mask(1, 6)
    session.set_masks(Mask(6, 1, disc(10, 10, 4)), Mask(6, 1, disc(12, 10, 5)))
    np.testing.assert_array_equal(session.mask(1, 6), disc(12, 10, 5))  # the last one counts
    assert {7, 8, 9} <= set(session.stale_frames(1))
    assert [p.frame for p in session.prompts] == [4]
    list(session.propagate())
    np.testing.assert_array_equal(session.mask(1, 6), disc(12, 10, 5))
    session.unlock(1, [6])
    list(session.propagate(restart=True))
    np.testing.assert_array_equal(session.mask(1, 6), found)


@pytest.mark.parametrize("windowed", [True, False])
def test_the_network_remembers_the_mask_that_was_set(windowed):
    """With the network itself: its memory is made of what is shown, and a mask is what its logits say."""
    with Session(small_stack(4, SIDE), random_model(windowed=windowed)) as session:
        session.add(Point(0, 1, (20.0, 20.0)))
        list(session.propagate())
        mine = disc(24, 20, 9)
        (update,) = session.set_masks(Mask(1, 1, mine))
        np.testing.assert_array_equal(update.full_mask((SIDE, SIDE)), mine)
        likely = session.probability(1, 1)
        inside, outside = disc(24, 20, 6), ~disc(24, 20, 12)
        assert likely[inside].min() > 0.5
        assert likely[outside].max() < 0.5
        # Not to the last bit: products of matrices of other shapes may be summed in another order.
        part = session.probability(1, 1, (10, 12, 30, 40))
        np.testing.assert_allclose(part, likely[10:30, 12:40], rtol=1e-5)
        assert not session.probability(9, 1).any()
        list(session.propagate())
        assert not session.stale_frames(1)


# --- smoothness ---------------------------------------------------------------------------------------


def test_smoothness_points_at_the_jump(session):
    even = smoothness(session, 1)
    assert (even.pairs, even.gaps) == (9, 0)
    assert even.dice_min > 0.6
    session.set_masks(Mask(7, 1, disc(20, 34, 12)))
    uneven = smoothness(session, 1)
    assert uneven.worst in (7, 8)
    assert uneven.dice_min < even.dice_min
    assert uneven.area_jump == pytest.approx(disc(20, 34, 12).sum() / disc(20, 20, 6).sum(), rel=0.05)


def test_smoothness_by_hand(session):
    session.set_masks(*(Mask(f, 1, disc(20, 20 + f, 5)) for f in range(10)))
    found = smoothness(session, 1)
    shared = (disc(20, 20, 5) & disc(20, 21, 5)).sum() / disc(20, 20, 5).sum()
    assert found.dice_mean == pytest.approx(shared)
    assert (found.hausdorff_max, found.area_jump) == (1.0, 1.0)
    alone = smoothness(session, 7)
    assert (alone.pairs, alone.worst) == (0, -1)
    assert math.isnan(alone.dice_mean)
