"""Objects that are named, merged, split and cleared; each is one action, to be undone and replayed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from random_model import labels, random_model, rows, run, state
from scipy import ndimage

from stacksam.errors import InputError
from stacksam.session.prompts import Mask, Point
from stacksam.session.regroup import pieces
from stacksam.session.replay import replay
from stacksam.session.session import Session

SHAPE = 64, 64


def square(y, x, side=10):
    mask = np.zeros(SHAPE, bool)
    mask[y : y + side, x : x + side] = True
    return mask


def there_and_back(session, action, name):
    """Do it, take it back, do it again: what there is before and after is the same each time."""
    before = state(session)
    result = action()
    after = state(session)
    assert after != before
    assert session.undoable == name
    assert session.undo() == name
    assert state(session)[:2] == before[:2]
    assert state(session)[3:] == before[3:]
    assert session.redoable == name
    assert session.redo() == name
    assert state(session) == after
    labels(session)
    return result


def same_when_replayed(session, tmp_path):
    path = session.save(tmp_path / "s.json")
    with replay(path, session.stack, session.model) as again:
        assert state(again) == state(session)
        assert again.next_id == session.next_id


# Names


def test_a_name_is_an_action_like_any_other(session, tmp_path):
    session.add(Point(0, 1, (19, 19)), Point(0, 2, (45, 38)))
    there_and_back(session, lambda: session.rename(2, "tochter Ü"), "rename")
    assert session.names == {2: "tochter Ü"}
    session.rename(2, "tochter Ü")
    assert session.history == ("add", "rename")  # nothing was done
    same_when_replayed(session, tmp_path)
    there_and_back(session, lambda: session.rename(2, ""), "rename")
    assert session.names == {}
    session.rename(1, "")
    assert session.history == ("add", "rename", "rename")


@pytest.mark.parametrize("how", ["remove", "remove_object", "clear", "merge"])
def test_a_name_vanishes_with_its_object_and_returns_with_it(session, how):
    session.add(Point(0, 1, (19, 19)), Point(0, 2, (45, 38)))
    session.rename(2, "b")
    ways = {
        "remove": lambda: session.remove(Point(0, 2, (45, 38))),
        "remove_object": lambda: session.remove_object(2),
        "clear": session.clear,
        "merge": lambda: session.merge(1, [2]),
    }
    ways[how]()
    assert session.names == {}
    session.undo()
    assert session.names == {2: "b"}


def test_names_outlive_the_session(stack, tmp_path):
    with Session(stack, random_model(), tmp_path) as session:
        session.add(Point(0, 1, (19, 19)))
        session.rename(1, "a:b")
    with Session(stack, random_model(), tmp_path) as session:
        assert session.names == {1: "a:b"}


@pytest.mark.parametrize(
    ("name", "match"),
    [
        (3, "name is 3; give text, or '' for none"),
        (None, "name is None; give text"),
        ("a\nb", "has more than one line"),
        ("a\r", "has more than one line"),
        ("a\u2028b", "has more than one line"),
        ("x" * 81, "name has 81 characters; give 80 at most"),
    ],
)
def test_what_is_no_name_is_refused(session, name, match):
    session.add(Point(0, 1, (19, 19)))
    before = state(session)
    with pytest.raises(InputError, match=match):
        session.rename(1, name)
    with pytest.raises(InputError, match="there is no object 4; objects: 1"):
        session.rename(4, "x" * 80)
    assert state(session) == before


# Merging


def test_merged_masks_become_prompts_where_one_of_them_has_prompts(session, tmp_path):
    session.add(Mask(0, 1, square(5, 5)), Mask(0, 2, square(5, 15)), Mask(3, 3, square(40, 40)))
    run(session)
    session.add(Mask(4, 1, square(20, 20)))
    run(session)
    session.rename(1, "whole")
    expected = {f: np.logical_or.reduce([session.mask(i, f) for i in (1, 2, 3)]) for f in (0, 3, 4)}
    # Only where one of the others is seen is anything added.
    expected = {f: m for f, m in expected.items() if session.mask(2, f).any() or session.mask(3, f).any()}
    assert {0, 3} <= set(expected)
    updates = there_and_back(session, lambda: session.merge(1, [3, 2]), "merge")
    assert [(u.object_id, u.frame, u.prompted) for u in updates] == [(1, f, True) for f in sorted(expected)]
    for update in updates:
        assert np.array_equal(update.full_mask(SHAPE), expected[update.frame])
        assert np.array_equal(session.mask(1, update.frame), expected[update.frame])
        assert Mask(update.frame, 1, expected[update.frame]) in session.prompts
    assert session.object_ids == (1,)
    assert session.names == {1: "whole"}
    assert set(session.stale_frames(1)) >= {1, 2}
    for object_id in (2, 3):
        with pytest.raises(InputError, match=f"object {object_id} was removed"):
            session.add(Point(0, object_id, (4, 4)))
    run(session)
    assert session.stale_frames(1) == ()
    same_when_replayed(session, tmp_path)


def test_what_is_said_before_a_merge_holds_again_when_its_mask_is_taken_back(session):
    session.add(Point(0, 1, (19, 19)))
    before = rows(session, 1)
    session.add(Mask(0, 2, square(40, 40)))
    session.merge(1, [2])
    (mask,) = session.prompts
    session.remove(mask)
    assert session.prompts == (Point(0, 1, (19, 19)),)
    assert rows(session, 1) == before


@pytest.mark.parametrize(
    ("into", "others", "match"),
    [
        (1, [], "there is nothing to merge into object 1; give ids of other objects"),
        (1, [2, 1], "object 1 cannot be merged into itself"),
        (1, [9], "there is no object 9; objects: 1, 2"),
        (9, [1], "there is no object 9"),
        (1, 2, "others is 2; give several integers"),
        (1, [2.5], "object id is 2.5; use an integer"),
    ],
)
def test_what_cannot_be_merged_is_refused(session, into, others, match):
    session.add(Point(0, 1, (19, 19)), Point(0, 2, (45, 38)))
    before = state(session)
    with pytest.raises(InputError, match=match):
        session.merge(into, others)
    assert state(session) == before


# Splitting


def test_each_piece_becomes_an_object(session, tmp_path):
    parts = square(4, 4, 12), square(30, 30, 8), square(50, 50, 10)
    crumb = np.zeros(SHAPE, bool)
    crumb[30, 40] = True  # nearest to the second
    session.add(Mask(2, 5, np.logical_or.reduce([*parts, crumb])))
    session.add(Point(0, 9, (19, 19)))
    session.remove_object(9)
    run(session)
    session.rename(5, "mother")
    assert session.next_id == 10
    found = there_and_back(session, lambda: session.split(5, 2), "split")
    assert found == (10, 11)
    assert session.object_ids == (5, 10, 11)
    assert np.array_equal(session.mask(5, 2), parts[0])
    assert np.array_equal(session.mask(10, 2), parts[2])
    assert np.array_equal(session.mask(11, 2), parts[1] | crumb)
    assert session.names == {5: "mother"}
    assert session.frames_of(10) == (2,)
    assert session.stale_frames(5) == (0, 1, 3, 4, 5)
    run(session)
    same_when_replayed(session, tmp_path)


def test_what_cannot_be_split_is_refused(session):
    session.add(Mask(0, 1, square(5, 5)))
    before = state(session)
    for object_id, frame, match in (
        (1, 0, "object 1 is one piece on frame 0; paint a gap"),
        (1, 1, "object 1 has no mask on frame 1"),
        (2, 0, "there is no object 2"),
        (1, 99, "frame 99 is outside the stack"),
    ):
        with pytest.raises(InputError, match=match):
            session.split(object_id, frame)
    assert state(session) == before


@given(hnp.arrays(bool, (13, 17), elements=st.booleans()))
def test_pieces_share_out_the_mask(mask):
    found = pieces(mask)
    assert np.array_equal(np.add.reduce([np.zeros(mask.shape, int), *found]), mask)
    parts, count = ndimage.label(mask, np.ones((3, 3)))
    sizes = [int((parts == i + 1).sum()) for i in range(count)]
    large = [size for size in sizes if size >= max(4, 0.02 * mask.sum())]
    assert len(found) == max(len(large), min(1, count))
    if len(large) > 1:
        for piece in found:  # holds one part, and crumbs
            inside = {sizes[i - 1] for i in np.unique(parts[piece])}
            assert sum(size >= max(4, 0.02 * mask.sum()) for size in inside) == 1
    if len(found) == len(sizes):
        assert [int(piece.sum()) for piece in found] == sorted(sizes, reverse=True)


def test_pixels_that_touch_by_a_corner_are_one_piece():
    assert len(pieces(np.eye(8, dtype=bool))) == 1


# Clearing


def test_clearing_starts_from_nothing(session, tmp_path):
    session.clear()
    assert session.history == ()
    session.add(Point(0, 1, (19, 19)), Point(0, 2, (45, 38)), Point(0, 3, (5, 5)))
    session.remove_object(3)
    run(session)
    there_and_back(session, session.clear, "clear")
    assert session.object_ids == session.prompts == ()
    assert not labels(session).any()
    assert session.next_id == 1
    session.add(Point(0, 3, (19, 19)))  # also an id that was removed
    same_when_replayed(session, tmp_path)
    session.undo()
    session.undo()
    with pytest.raises(InputError, match="object 3 was removed"):
        session.add(Point(0, 3, (19, 19)))


def test_undoable_and_redoable_say_what_would_be_done(session):
    assert (session.undoable, session.redoable) == (None, None)
    session.add(Point(0, 1, (19, 19)))
    run(session)
    session.rename(1, "a")
    for name, left in (("rename", "propagate"), ("propagate", "add"), ("add", None)):
        assert session.undoable == name
        assert session.undo() == name
        assert (session.undoable, session.redoable) == (left, name)
    session.redo()
    assert (session.undoable, session.redoable) == ("add", "propagate")
    session.rename(1, "b")
    assert (session.undoable, session.redoable) == ("rename", None)


def test_what_reaches_back_too_far_is_not_undoable(discs, stack, monkeypatch):
    monkeypatch.setattr("stacksam.session.journal._UNDO_DEPTH", 3)
    with Session(stack, random_model()) as session:
        for k in range(5):
            session.add(Point(0, 1, (10 + 5 * k, 20)))
        while (name := session.undoable) is not None:
            assert session.undo() == name
        assert session.undo() is None
        assert len(session.history) == 2
