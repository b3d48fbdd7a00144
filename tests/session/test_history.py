"""Undo and redo restore everything, in whatever order things are done: prompts, results, labels and history.

A random user works on three objects of a small stack, with a predictor that paints discs. The model is a
list of snapshots of all that can be seen, and of all rows on disk.
"""

from __future__ import annotations

import shutil
import tempfile
from unittest import mock

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from random_model import DiscPredictor, labels, random_model, run, small_stack, state

from stacksam.errors import InputError
from stacksam.session.prompts import Box, Mask, Point
from stacksam.session.session import Session

FRAMES, SIDE = 4, 24
STACK = small_stack(FRAMES, SIDE)
ids, frames = st.sampled_from([1, 1, 2, 3]), st.integers(0, FRAMES - 1)
places = st.tuples(st.sampled_from([6, 16]), st.sampled_from([6, 16]))
points = st.builds(Point, frames, ids, places, st.booleans())
boxes = st.builds(lambda f, i, yx: Box(f, i, (yx[0], yx[1], yx[0] + 4, yx[1] + 3)), frames, ids, places)


def in_force(prompts):
    """A mask sweeps away what was said before it."""
    last = max((i for i, p in enumerate(prompts) if isinstance(p, Mask)), default=0)
    return prompts[last:]


def on_disk(session):
    """All rows that say what is, not how it came about."""
    found = {
        t: session._store._all(f"SELECT * FROM {t} ORDER BY 1, 2") for t in ("state", "records", "bases")
    }
    prompted = {(p.object_id, p.frame) for p in session.prompts}
    found["bases"] = [row for row in found["bases"] if row[:2] in prompted]  # others are never read
    return found


class Sessions(RuleBasedStateMachine):
    @initialize()
    def start(self):
        self.patch = mock.patch("stacksam.session.session.Predictor", DiscPredictor)
        self.patch.start()
        self.folder = tempfile.mkdtemp(prefix="stacksam-test-")
        self.session = Session(STACK, random_model(), self.folder)
        self.prompts: dict[tuple[int, int], list] = {}
        self.removed: set[int] = set()
        self.done: list = []  # (name, what was before, what is after)
        self.undone: list = []

    def teardown(self):
        if hasattr(self, "session"):
            self.session.close()
            shutil.rmtree(self.folder)
            self.patch.stop()

    def snapshot(self):
        return state(self.session), on_disk(self.session), dict(self.prompts), set(self.removed)

    def do(self, name, action, change):
        before = self.snapshot()
        action()
        change()
        if len(self.session.history) > len(self.done):
            self.done.append((name, before, self.snapshot()))
            self.undone.clear()
        else:
            assert self.snapshot() == before

    @rule(given=st.lists(points | boxes, min_size=1, max_size=3))
    def add(self, given):
        if any(p.object_id in self.removed for p in given):
            before = self.snapshot()
            with pytest.raises(InputError, match="was removed"):
                self.session.add(*given)
            assert self.snapshot() == before
            return

        def change():
            for p in given:
                key = p.object_id, p.frame
                self.prompts[key] = [*self.prompts.get(key, []), p]

        self.do("add", lambda: self.session.add(*given), change)

    @precondition(lambda self: self.prompts)
    @rule(data=st.data())
    def remove(self, data):
        key = data.draw(st.sampled_from(sorted(self.prompts)))
        prompt = data.draw(st.sampled_from(in_force(self.prompts[key])))

        def change():
            left = self.prompts[key][::-1]
            left.remove(prompt)
            self.prompts[key] = left[::-1]
            if not left:
                del self.prompts[key]

        self.do("remove", lambda: self.session.remove(prompt), change)

    @precondition(lambda self: self.prompts)
    @rule(data=st.data(), new=points | boxes)
    def replace(self, data, new):
        key = data.draw(st.sampled_from(sorted(self.prompts)))
        old = data.draw(st.sampled_from(in_force(self.prompts[key])))
        if new.object_id in self.removed:
            with pytest.raises(InputError, match="was removed"):
                self.session.replace(old, new)
            return

        def change():
            left = self.prompts.pop(key)[::-1]
            left.remove(old)
            if left:
                self.prompts[key] = left[::-1]
            place = new.object_id, new.frame
            self.prompts[place] = [*self.prompts.get(place, []), new]

        self.do("replace", lambda: self.session.replace(old, new), change)

    @precondition(lambda self: self.prompts)
    @rule(data=st.data())
    def choose(self, data):
        object_id, frame = data.draw(st.sampled_from(sorted(self.prompts)))
        self.do("choose", lambda: self.session.choose(object_id, frame, 1), lambda: None)

    @precondition(lambda self: self.session.object_ids[-1:] == (3,))  # the others stay to be worked on
    @rule()
    def remove_object(self):
        object_id = 3

        def change():
            self.removed.add(object_id)
            self.prompts = {key: value for key, value in self.prompts.items() if key[0] != object_id}

        self.do("remove_object", lambda: self.session.remove_object(object_id), change)

    @precondition(lambda self: self.prompts)
    @rule(data=st.data(), name=st.sampled_from(["", "a", "b"]))
    def rename(self, data, name):
        object_id = data.draw(st.sampled_from(self.session.object_ids))
        kept = {key: value for key, value in self.session.names.items() if key != object_id}
        self.do("rename", lambda: self.session.rename(object_id, name), lambda: None)
        assert self.session.names == {**kept, **({object_id: name} if name else {})}

    @precondition(lambda self: 3 in self.session.object_ids and len(self.session.object_ids) > 1)
    @rule()
    def merge(self):
        into = self.session.object_ids[0]
        frames = sorted({p.frame for p in self.session.prompts if p.object_id in (into, 3)})
        union = {f: self.session.mask(into, f) | self.session.mask(3, f) for f in frames}
        seen = [f for f in frames if self.session.mask(3, f).any()]

        def change():
            self.removed.add(3)
            self.prompts = {key: value for key, value in self.prompts.items() if key[0] != 3}
            for f in seen:
                key = into, f
                self.prompts[key] = [*self.prompts.get(key, []), Mask(f, into, union[f])]

        self.do("merge", lambda: self.session.merge(into, [3]), change)

    @precondition(lambda self: self.prompts)
    @rule(really=st.integers(0, 3))
    def clear(self, really):
        if really == 0:  # now and then: there is little to do afterwards

            def change():
                self.prompts, self.removed = {}, set()

            self.do("clear", self.session.clear, change)

    @precondition(lambda self: self.prompts)
    @rule(
        direction=st.sampled_from(["forward", "backward", "both"]),
        steps=st.sampled_from([None, None, 0, 1, 4]),
        restart=st.booleans(),
    )
    def propagate(self, direction, steps, restart):
        self.do(
            "propagate",
            lambda: run(self.session, direction, steps=steps, restart=restart),
            lambda: None,
        )

    @precondition(lambda self: self.prompts)
    @rule(data=st.data(), lock=st.booleans())
    def lock(self, data, lock):
        object_id = data.draw(st.sampled_from(self.session.object_ids))
        frame = data.draw(st.sampled_from(self.session.frames_of(object_id)))
        kept = self.session.mask(object_id, frame)
        method = self.session.lock if lock else self.session.unlock
        self.do(method.__name__, lambda: method(object_id, [frame]), lambda: None)
        assert (frame in self.session.locked_frames(object_id)) == lock
        assert (self.session.mask(object_id, frame) == kept).all()

    @precondition(lambda self: self.prompts)
    @rule(data=st.data())
    def mark_absent(self, data):
        object_id = data.draw(st.sampled_from(self.session.object_ids))
        frame = data.draw(st.sampled_from(self.session.frames_of(object_id)))
        if (object_id, frame) in self.prompts:
            with pytest.raises(InputError, match="has prompts on frames"):
                self.session.mark_absent(object_id, [frame])
            return
        self.do("mark_absent", lambda: self.session.mark_absent(object_id, [frame]), lambda: None)
        assert not self.session.mask(object_id, frame).any()

    @precondition(lambda self: self.prompts)
    @rule(data=st.data(), side=st.integers(0, 5))
    def set_masks(self, data, side):
        object_id = data.draw(st.sampled_from(self.session.object_ids))
        frame = data.draw(st.sampled_from(self.session.frames_of(object_id)))
        mask = np.zeros((SIDE, SIDE), bool)
        mask[3 : 3 + side, 4 : 4 + side] = True
        self.do("set_masks", lambda: self.session.set_masks(Mask(frame, object_id, mask)), lambda: None)
        assert (self.session.mask(object_id, frame) == mask).all()

    @precondition(lambda self: self.prompts)
    @rule(frame=frames, yx=places)
    def correct_and_take_back(self, frame, yx):
        object_id = self.session.object_ids[0]
        self.propagate("both", None, False)
        point = Point(frame, object_id, yx)
        key = object_id, frame
        if key not in self.prompts:
            self.do("add", lambda: self.session.add(point), lambda: self.prompts.update({key: [point]}))
            self.do("remove", lambda: self.session.remove(point), lambda: self.prompts.pop(key))

    @precondition(lambda self: self.done)
    @rule(count=st.integers(1, 5))
    def undo(self, count):
        for _ in range(min(count, len(self.done))):
            name, before, after = self.done.pop()
            assert self.session.undoable == name
            assert self.session.undo() == name
            assert self.session.redoable == name
            self.prompts, self.removed = dict(before[2]), set(before[3])
            assert self.snapshot() == before
            self.undone.append((name, before, after))
        assert self.done or self.session.undo() is None

    @precondition(lambda self: self.undone)
    @rule(count=st.integers(1, 5))
    def redo(self, count):
        for _ in range(min(count, len(self.undone))):
            name, before, after = self.undone.pop()
            assert self.session.redoable == name
            assert self.session.redo() == name
            assert self.session.undoable == name
            self.prompts, self.removed = dict(after[2]), set(after[3])
            assert self.snapshot() == after
            self.done.append((name, before, after))
        assert self.undone or self.session.redo() is None

    @rule()
    def open_again(self):
        before = self.snapshot()
        self.session.close()
        self.session = Session(STACK, random_model(), self.folder)
        assert self.snapshot() == before

    @invariant()
    def prompts_and_labels_agree(self):
        if not hasattr(self, "session"):
            return
        assert self.session.prompts == tuple(
            p for key in sorted(self.prompts) for p in in_force(self.prompts[key])
        )
        assert set(self.session.names) <= set(self.session.object_ids)
        assert self.session.object_ids == tuple(sorted({i for i, _ in self.prompts}))
        labels(self.session)
        for object_id in self.session.object_ids:
            stale = set(self.session.stale_frames(object_id))
            assert not stale & set(self.session.locked_frames(object_id))
            assert not stale & {f for i, f in self.prompts if i == object_id}
        assert self.session._store.dirty() == {}


Sessions.TestCase.settings = settings(
    max_examples=20,
    stateful_step_count=30,
    phases=[Phase.generate],  # a failure takes minutes to be made shorter: add Phase.shrink for that
    suppress_health_check=[HealthCheck.too_slow],
)
test_a_random_user_can_always_go_back = Sessions.TestCase


def test_what_was_known_before_a_prompt_is_restored_too(discs):
    first, second = Point(2, 1, (6, 6)), Point(2, 1, (16, 16))
    with Session(STACK, random_model()) as session:
        session.add(Point(0, 1, (6, 16)))
        run(session)
        session.add(first)
        before = on_disk(session)
        session.remove(first)
        session.add(Point(1, 1, (16, 6)))
        run(session)
        session.add(second)  # which remembers another result of this frame than the first one did
        assert on_disk(session)["bases"] != before["bases"]
        assert [session.undo() for _ in range(4)] == ["add", "propagate", "add", "remove"]
        assert on_disk(session) == before


def test_an_action_that_follows_an_undone_one_takes_its_place(discs):
    with Session(STACK, random_model()) as session:
        session.add(Point(0, 1, (6, 16)))
        session.add(Point(0, 1, (6, 6)))
        session.undo()
        session.add(Point(0, 1, (16, 16)))
        assert session.redo() is None
        assert session.history == ("add", "add")
        assert [p.yx for p in session.prompts] == [(6, 16), (16, 16)]
        assert session.undo() == "add"
        assert [p.yx for p in session.prompts] == [(6, 16)]


def test_nothing_to_undo_is_no_error():
    with Session(STACK, random_model()) as session:
        assert session.undo() is None
        assert session.redo() is None
