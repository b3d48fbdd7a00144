"""Review scores point at what went wrong, at nothing else, and in a useful order."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stacksam.errors import InputError
from stacksam.session.scores import FrameScores
from stacksam.tracks.review import (
    FINE,
    POOR,
    confidence,
    factors,
    in_words,
    overlaps,
    reasons,
    worst,
    worst_of_all,
)


@dataclass(frozen=True)
class Scores:
    """The shape of a session's FrameScores, so that these tests need no session."""

    object_id: int
    frames: np.ndarray
    object_score: np.ndarray
    predicted_iou: np.ndarray
    area: np.ndarray
    centroid: np.ndarray
    bbox: np.ndarray
    prompted: np.ndarray
    locked: np.ndarray
    stale: np.ndarray


def discs(yx, radius, *, object_id=1, frames=None, score=8.0, iou=0.9) -> Scores:
    """An object that is a disc on each frame, well believed in."""
    yx = np.asarray(yx, float).reshape(-1, 2)
    n = len(yx)
    radius = np.broadcast_to(np.asarray(radius, float), n)
    half = radius[:, None]
    empty = radius == 0
    return Scores(
        object_id,
        np.arange(n) if frames is None else np.asarray(frames),
        np.broadcast_to(np.asarray(score, float), n).copy(),
        np.broadcast_to(np.asarray(iou, float), n).copy(),
        np.rint(np.pi * radius**2).astype(np.int64),
        np.where(empty[:, None], np.nan, yx),
        np.where(empty[:, None], 0, np.rint(np.hstack([yx - half, yx + half]))).astype(np.int64),
        np.zeros(n, bool),
        np.zeros(n, bool),
        np.zeros(n, bool),
    )


def steady(n=30, velocity=(0.0, 0.0), growth=0.0, **more) -> Scores:
    """An object that moves and grows steadily."""
    t = np.arange(n)[:, None]
    return discs(100 + t * np.asarray(velocity), 10 * np.exp(growth * t[:, 0] / 2), **more)


@given(vy=st.floats(-15, 15), vx=st.floats(-15, 15), growth=st.floats(-0.1, 0.1), n=st.integers(4, 40))
def test_steady_motion_and_growth_are_nothing_to_look_at(vy, vx, growth, n):
    scores = steady(n, (vy, vx), growth, iou=0.8)
    # Below the middle of the floats lie masks of a few pixels, whose area can only jump.
    if scores.area.min() > 80:
        assert confidence(scores).min() > 0.97
        assert reasons(scores) == [""] * n


@pytest.mark.parametrize("bad", [0, 1, 12, 28, 29])
@pytest.mark.parametrize("velocity", [(0, 0), (4, -6)])
@pytest.mark.parametrize(
    ("change", "name", "told"),
    [
        ("area", "size", "the area jumps: 3.0 times"),
        ("centre", "motion", "the centre jumps by 2.0 diameters"),
    ],
)
def test_one_bad_frame_is_found_and_does_not_blame_its_neighbours(bad, velocity, change, name, told):
    scores = steady(30, velocity)
    if change == "area":
        scores.area[bad] *= 3
    else:
        scores.centroid[bad] += (0, 40)
    values = confidence(scores)
    low = np.flatnonzero(values < FINE)
    assert low.tolist() == [bad]
    assert factors(scores)[name][bad] == values.min() / factors(scores)["presence"][bad]
    assert reasons(scores)[bad].startswith(told)
    assert worst(scores)[0] == bad


@pytest.mark.parametrize("bad", range(30))
def test_a_jump_that_lasts_blames_the_two_frames_it_lies_between(bad):
    scores = steady(30, (2, 2))
    scores.centroid[bad:] += (40, 0)
    assert set(np.flatnonzero(confidence(scores) < FINE)) <= {bad - 1, bad}
    if 2 <= bad <= 28:
        assert (confidence(scores)[[bad - 1, bad]] < POOR).all()


@pytest.mark.parametrize("bad", range(2, 17))
def test_two_bad_frames_in_a_row_do_not_blame_their_neighbours(bad):
    scores = steady(20, (1, 3))
    scores.area[bad : bad + 2] *= 4
    assert np.flatnonzero(confidence(scores) < FINE).tolist() == [bad, bad + 1]


def test_motion_counts_in_diameters_of_the_object():
    small, large = discs([(0, 0)] * 9, 4), discs([(0, 0)] * 9, 80)
    for scores in (small, large):
        scores.centroid[4] += 10
    assert confidence(small)[4] < FINE < confidence(large)[4]


def test_a_restless_object_is_given_more_room_but_not_any_amount():
    calm, restless = steady(41), steady(41)
    restless.area[:] = restless.area * np.exp(0.13 * (-1.0) ** np.arange(41))
    for scores in (calm, restless):
        scores.area[20] = int(310 * np.exp(0.5))
    assert confidence(restless)[20] > confidence(calm)[20]
    restless.area[20] = 310 * 4
    assert confidence(restless)[20] < POOR


def test_an_empty_mask_is_sure_where_the_object_is_surely_gone():
    radius = np.full(20, 10.0)
    radius[8:14] = 0
    gone = discs([(50, 50)] * 20, radius, score=np.where(radius > 0, 8.0, -8.0))
    assert confidence(gone).min() > 0.99
    assert factors(gone)["outline"].min() == 1

    unsure = replace(gone, object_score=np.where(radius > 0, 8.0, 0.5))
    assert (confidence(unsure)[8:14] < FINE).all()
    assert confidence(unsure)[:8].min() > 0.99
    assert set(reasons(unsure)[8:14]) == {"nothing was found, but the object may be there"}


@pytest.mark.parametrize(
    ("changed", "reason"),
    [({"score": -1.0}, "the object may not be there"), ({"iou": 0.35}, "the outline is uncertain")],
)
def test_the_networks_own_doubts_count(changed, reason):
    scores = steady(12, **changed)
    assert confidence(scores).max() < FINE
    assert set(reasons(scores)) == {reason}


def test_more_doubt_is_less_confidence():
    logits = np.linspace(-800, 800, 41)
    assert (np.diff(confidence(steady(41, score=logits))) >= 0).all()
    assert (np.diff(confidence(steady(41, iou=np.linspace(0, 1, 41)))) >= 0).all()
    share = np.linspace(0, 1, 41)
    assert (np.diff(confidence(steady(41), share)) <= 0).all()
    assert reasons(steady(41), share)[-1] == "100% of it lies under other objects"


@given(st.data())
def test_confidence_is_within_bounds_whatever_comes(data):
    n = data.draw(st.integers(0, 25))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    scores = discs(
        rng.normal(0, 100, (n, 2)),
        rng.choice([0, 1, 5, 300], n),
        frames=np.sort(rng.choice(100, n, replace=False)),
        score=rng.normal(0, 30, n),
        iou=rng.random(n),
    )
    values = confidence(scores, rng.random(n))
    assert values.shape == (n,)
    assert ((values >= 0) & (values <= 1)).all()
    assert [bool(reason) for reason in reasons(scores)] == (confidence(scores) < FINE).tolist()


def test_accepted_frames_count_as_sure_but_still_tell_their_neighbours_from_outliers():
    scores = steady(20)
    scores.area[10] *= 4
    scores.locked[10] = True
    assert confidence(scores)[10] == 1
    assert reasons(scores)[10] == ""
    assert 10 not in worst(scores)


def test_frames_far_away_say_nothing():
    scores = discs([(0, 0), (0, 0), (500, 500), (500, 500)], [5, 5, 50, 50], frames=[0, 1, 60, 61])
    assert confidence(scores).min() > 0.99


@given(
    values=st.lists(st.floats(0, 0.8), min_size=1, max_size=60),
    spacing=st.integers(1, 8),
    data=st.data(),
)
def test_worst_frames_are_spaced_ordered_and_stand_for_all_others(values, spacing, data):
    n = len(values)
    scores = steady(n, iou=np.asarray(values))
    scores.prompted[:] = data.draw(st.lists(st.booleans(), min_size=n, max_size=n))
    scores.locked[:] = data.draw(st.lists(st.booleans(), min_size=n, max_size=n))
    sure = confidence(scores)
    listed = worst(scores, spacing=spacing)

    assert not any(scores.prompted[f] or scores.locked[f] for f in listed)
    assert [sure[f] for f in listed] == sorted(sure[f] for f in listed)
    assert all(abs(a - b) >= spacing for a in listed for b in listed if a != b)
    for frame in np.flatnonzero(~(scores.prompted | scores.locked)):
        assert any(abs(frame - f) < spacing and sure[f] <= sure[frame] for f in listed)


def test_worst_frames_can_be_limited_to_those_worth_a_look():
    scores = steady(40, iou=np.where(np.arange(40) == 17, 0.4, 0.9))
    assert worst(scores, at_most=FINE) == [17]
    assert worst(steady(40), at_most=FINE) == []
    assert worst_of_all({}) == []


def test_worst_of_all_objects_are_merged_by_confidence():
    first = steady(20, object_id=3, iou=np.where(np.arange(20) == 4, 0.5, 0.9))
    second = steady(20, object_id=9, iou=np.where(np.arange(20) == 11, 0.3, 0.9))
    assert worst_of_all({3: first, 9: second}, at_most=FINE) == [(9, 11), (3, 4)]
    covered = {3: np.where(np.arange(20) == 15, 1.0, 0.0), 9: np.zeros(20)}
    assert (3, 15) in worst_of_all({3: first, 9: second}, covered, at_most=FINE)


def raster_share(one, other) -> float:
    """Share of disc `one` (y, x, r) that lies under `other`, by counting pixels."""
    y, x = np.mgrid[-100:200, -100:200]
    a, b = ((y - c[0]) ** 2 + (x - c[1]) ** 2 <= c[2] ** 2 for c in (one, other))
    return float((a & b).sum() / a.sum())


@pytest.mark.parametrize("distance", [0, 3, 8, 15, 25, 40])
@pytest.mark.parametrize("radii", [(12, 12), (20, 9)])
def test_overlap_of_discs_is_estimated_about_right(distance, radii):
    a, b = (50.0, 50.0, radii[0]), (50.0, 50.0 + distance, radii[1])
    found = overlaps({1: discs([a[:2]], a[2]), 2: discs([b[:2]], b[2])})
    assert found[1][0] == pytest.approx(raster_share(a, b), abs=0.25)
    assert found[2][0] == pytest.approx(raster_share(b, a), abs=0.25)


def test_neighbours_that_only_touch_do_not_overlap():
    grid = {i: discs([(20 * (i // 6), 20 * (i % 6))], 10, object_id=i) for i in range(36)}
    assert max(v[0] for v in overlaps(grid).values()) < 0.02


def rod(y, x, *, object_id):
    """A diagonal rod: its box is large and mostly empty."""
    scores = discs([(y, x)], 20, object_id=object_id)
    scores.area[:] = 250
    return scores


def test_long_neighbours_side_by_side_are_told_from_the_same_object_twice():
    apart = overlaps({1: rod(50, 50, object_id=1), 2: rod(55, 45, object_id=2)})
    twice = overlaps({1: rod(50, 50, object_id=1), 2: rod(50, 50, object_id=2)})
    assert apart[1][0] < 0.2
    assert twice[1][0] > 0.95


def test_overlap_is_told_frame_by_frame_and_only_of_masks_that_are_there():
    moving = discs([(50, 20), (50, 40), (50, 60)], 10, frames=[3, 5, 7])
    resting = discs([(50, 60)] * 3, [10, 10, 0], frames=[4, 5, 7])
    resting.centroid[1] = (50, 42)
    resting.bbox[1] = (40, 32, 60, 52)
    found = overlaps({1: moving, 2: resting})
    assert found[1][[0, 2]].tolist() == [0, 0]
    assert found[1][1] > 0.5
    assert found[2].tolist() == [0, pytest.approx(found[1][1], rel=0.02), 0]
    assert overlaps({}) == {}


def test_overlaps_of_many_objects_take_little_time():
    rng = np.random.default_rng(0)
    many = {i: discs(rng.uniform(0, 2000, 2) + np.zeros((500, 2)), 20, object_id=i) for i in range(300)}
    start = time.process_time()
    overlaps(many)
    assert time.process_time() - start < 5  # about 0.5 s on one core


def test_bad_arguments_are_told():
    with pytest.raises(InputError, match="one number for each of 5 frames"):
        confidence(steady(5), np.zeros(4))
    with pytest.raises(InputError, match="not finite"):
        reasons(steady(5), np.full(5, math.nan))
    with pytest.raises(InputError, match="use at least 1"):
        worst(steady(5), spacing=0)


def test_words_follow_the_bounds():
    assert [in_words(v) for v in (1, FINE, FINE - 0.01, POOR, POOR - 0.01, 0)] == [
        "sure", "sure", "unsure", "unsure", "likely wrong", "likely wrong",
    ]  # fmt: skip


def test_the_scores_of_a_session_have_the_shape_assumed_here():
    assert set(Scores.__dataclass_fields__) <= set(FrameScores.__dataclass_fields__)
