"""Whatever cannot be used is refused with a word that helps, and the session is as it was."""

from __future__ import annotations

import numpy as np
import pytest
from random_model import random_model, run, small_stack, state

from stacksam.errors import InputError
from stacksam.session.prompts import Box, Mask, Point
from stacksam.session.session import Session

NAN, INF = float("nan"), float("inf")
EMPTY = np.zeros((24, 24), bool)
GOOD = Point(1, 1, (3, 3))


@pytest.fixture
def busy(discs):
    with Session(small_stack(4, 24), random_model()) as session:
        session.add(Point(0, 1, (6, 16)), Point(0, 2, (16, 6)), Point(0, 7, (4, 4)))
        session.remove_object(7)
        run(session, last=2)
        session.add(Point(1, 1, (8, 16)))
        session.undo()
        yield session


PROMPTS = [
    (Point(4, 1, (3, 3)), "frame 4 is outside the stack; frames are 0 to 3"),
    (Point(-1, 1, (3, 3)), "frame -1 is outside"),
    (Point(1.0, 1, (3, 3)), "frame is 1.0; use an integer"),
    (Point(True, 1, (3, 3)), "frame is True; use an integer"),
    (Point(None, 1, (3, 3)), "frame is None; use an integer"),
    (Point(0, True, (3, 3)), "object id is True; use an integer"),
    (Point(0, np.True_, (3, 3)), "object id is .*True.*; use an integer"),
    (Point(0, 1.5, (3, 3)), "object id is 1.5; use an integer"),
    (Point(0, "a", (3, 3)), "object id is 'a'; use an integer"),
    (Point(0, 0, (3, 3)), "object id 0 is not a label value; use 1 to"),
    (Point(0, -2, (3, 3)), "object id -2 is not a label value"),
    (Point(0, 2**31, (3, 3)), "object id 2147483648 is not a label value"),
    (Point(0, 7, (3, 3)), "object 7 was removed; undo that, or use a new id \\(next free: 8\\)"),
    (Point(0, 1, (24, 3)), "point \\(y=24, x=3\\) lies outside the frame; y is 0 to 23"),
    (Point(0, 1, (3, -0.6)), "point .* lies outside"),
    (Point(0, 1, (NAN, 3)), "give \\(y, x\\) as 2 finite numbers"),
    (Point(0, 1, (INF, 3)), "finite"),
    (Point(0, 1, (10**400, 3)), "as numbers"),
    (Point(0, 1, (1, 2, 3)), "as 2 finite numbers"),
    (Point(0, 1, ("a", 3)), "as numbers"),
    (Point(0, 1, 5), "as numbers"),
    (Point(0, 1, None), "as numbers"),
    (Box(0, 1, (5, 5, 3, 8)), "is inverted"),
    (Box(0, 1, (5, 8, 8, 3)), "is inverted"),
    (Box(0, 1, (5, 5, 5, 8)), "has no area"),
    (Box(0, 1, (5, 5, 8, 5)), "has no area"),
    (Box(0, 1, (24, 5, 30, 8)), "lies outside the frame"),
    (Box(0, 1, (23, 5, 30, 8)), "lies outside the frame"),
    (Box(0, 1, (-5, 5, 0, 8)), "lies outside the frame"),
    (Box(0, 1, (1, 1, NAN, 8)), "4 finite numbers"),
    (Box(0, 1, (1, 1, 5)), "4 finite numbers"),
    (Mask(0, 1, np.ones((24, 23), bool)), "mask has shape \\(24, 23\\); the frames are \\(24, 24\\)"),
    (Mask(0, 1, np.ones((1, 24, 24), bool)), "mask has shape"),
    (Mask(0, 1, EMPTY), "mask of object 1 on frame 0 is empty"),
    (Mask(0, 1, np.ones((24, 24))), "mask has dtype float64"),
    (Mask(0, 1, None), "mask has shape"),
    ((0, 1, (3, 3)), "a prompt is a tuple; use Point, Box or Mask"),
    (None, "a prompt is a NoneType"),
]


@pytest.mark.parametrize(("prompt", "match"), PROMPTS, ids=[m for _, m in PROMPTS])
def test_a_prompt_that_cannot_be_used_is_refused(busy, prompt, match):
    before = state(busy)
    for given in ((prompt,), (GOOD, prompt), (prompt, GOOD)):
        with pytest.raises(InputError, match=match):
            busy.add(*given)
        assert state(busy) == before
    assert busy.redo() == "add"  # and what was undone can still be redone


CALLS = {
    "there is no prompt|no prompt was given": lambda s: s.add(),
    "object 1 has no such prompt on frame 0": lambda s: s.remove(Point(0, 1, (6, 15))),
    "object 1 has no such prompt on frame 3": lambda s: s.remove(Point(3, 1, (6, 16))),
    "object 9 has no such prompt": lambda s: s.remove(Point(0, 9, (6, 16))),
    "there is no object 9; objects: 1, 2": lambda s: s.remove_object(9),
    "there is no object 7; objects: 1, 2": lambda s: s.remove_object(7),
    "object id is '1'; use an integer": lambda s: s.remove_object("1"),
    "object 1 has no prompt on frame 1; add one first": lambda s: s.candidates(1, 1),
    "there is no object 3": lambda s: s.choose(3, 0, 0),
    "object 2 has no prompt on frame 2": lambda s: s.choose(2, 2, 0),
    "candidate 3 does not exist; use 0 to 2": lambda s: s.choose(1, 0, 3),
    "candidate -1 does not exist": lambda s: s.choose(1, 0, -1),
    "candidate is 1.0; use an integer": lambda s: s.choose(1, 0, 1.0),
    "candidate is True; use an integer": lambda s: s.choose(1, 0, True),
    "object 1 has no result on frames \\[3\\]; propagate it there": lambda s: s.lock(1, [0, 3]),
    "frame 4 is outside": lambda s: s.lock(1, [4]),
    "frames is 1; give several integers": lambda s: s.unlock(1, 1),
    "there is no object 4": lambda s: s.lock(4, [0]),
    "direction is 'sideways'; use 'forward', 'backward' or 'both'": lambda s: s.propagate("sideways"),
    "direction is \\['both'\\]": lambda s: s.propagate(["both"]),
    "there is no object 5; objects: 1, 2": lambda s: s.propagate(objects=[1, 5]),
    "objects is 1; give several integers": lambda s: s.propagate(objects=1),
    "first frame 2 lies after last frame 1": lambda s: s.propagate(first=2, last=1),
    "frame 4 is outside the stack; frames are 0 to 3": lambda s: s.propagate(last=4),
    "frame -1 is outside": lambda s: s.propagate(first=-1),
    "frame is 0.5; use an integer": lambda s: s.propagate(first=0.5),
    "steps is -1; give 0 or more": lambda s: s.propagate(steps=-1),
    "steps is 1.5": lambda s: s.propagate(steps=1.5),
    "there is no object 6": lambda s: s.work_left(objects=[6]),
    "frame 9 is outside": lambda s: s.label_frame(9),
    "frame 8 is outside": lambda s: s.mask(1, 8),
    "object id 0 is not": lambda s: s.update(0, 0),
    "object id -1 is not": lambda s: s.frames_of(-1),
}


@pytest.mark.parametrize("match", CALLS)
def test_a_call_that_cannot_be_done_is_refused(busy, match):
    before = state(busy)
    with pytest.raises(InputError, match=match):
        CALLS[match](busy)
    assert state(busy) == before
    assert busy.redo() == "add"


def test_nothing_to_follow(discs):
    with Session(small_stack(4, 24), random_model()) as session:
        for call in (session.propagate, session.work_left):
            with pytest.raises(InputError, match="there are no prompts; add a point, a box or a mask"):
                call()
        session.add(Point(0, 1, (6, 16)))
        session.undo()
        with pytest.raises(InputError, match="there are no prompts"):
            session.propagate()


def test_what_can_be_meant_is_taken(busy):
    """Numpy's numbers, the half pixel around the frame, boxes that reach beyond it, masks of numbers."""
    busy.add(Point(np.int64(1), np.uint8(1), np.array([-0.5, 23.5], np.float32), positive=np.True_))
    busy.add(Box(1, 2, (-3, -3, 10, 30)), Mask(2, 3, np.eye(24, dtype=np.uint16) * 9))
    point, box, mask = (p for p in busy.prompts if p.frame)
    assert point == Point(1, 1, (-0.5, 23.5))
    assert type(point.object_id) is int
    assert box.yxyx == (0, 0, 10, 23)
    assert np.array_equal(mask.mask, np.eye(24, dtype=bool))
    busy.remove(Box(1, 2, (-3, -3, 10, 30)))
