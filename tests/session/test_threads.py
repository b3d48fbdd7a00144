"""Whoever only reads is answered while another thread computes."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from random_model import labels, random_model, run, state

from stacksam.session.prompts import Mask, Point
from stacksam.session.session import Session

READS = {
    "object_ids": lambda s: s.object_ids,
    "next_id": lambda s: s.next_id,
    "prompts": lambda s: s.prompts,
    "names": lambda s: s.names,
    "history": lambda s: s.history,
    "undoable": lambda s: s.undoable,
    "redoable": lambda s: s.redoable,
    "frames_of": lambda s: s.frames_of(1),
    "stale_frames": lambda s: s.stale_frames(1),
    "locked_frames": lambda s: s.locked_frames(1),
    "update": lambda s: s.update(1, 0).mask.tobytes(),
    "mask": lambda s: s.mask(1, 0).tobytes(),
    "label_frame": lambda s: s.label_frame(0).tobytes(),
    "scores": lambda s: s.scores(1).area.tolist(),
    "all_scores": lambda s: {i: scores.area.tolist() for i, scores in s.all_scores().items()},
    "work_left": lambda s: s.work_left(),
}
TWO = np.zeros((64, 64), bool)
TWO[5:15, 5:15] = TWO[40:50, 40:52] = True

# What is done, and the predictor's method that computes for it.
COMPUTING = {
    "add": (lambda s: s.add(Point(3, 1, (30, 30)), Point(0, 5, (9, 9))), "answer"),
    "remove": (lambda s: s.remove(Point(0, 1, (25, 22))), "answer"),
    "merge": (lambda s: s.merge(1, [2]), "answer"),
    "split": (lambda s: s.split(2, 0), "answer"),
    "candidates": (lambda s: s.candidates(1, 0), "candidates"),
    "choose": (lambda s: s.choose(1, 0, 1), "candidates"),
    "propagate": (run, "follow"),
}


class Slow:
    """A method that waits, in another thread than the test's, until it may go on."""

    def __init__(self, method, error=None):
        self._method, self._error = method, error
        self.entered, self.may_go_on = threading.Event(), threading.Event()

    def __call__(self, *arguments, **options):
        self.entered.set()
        assert self.may_go_on.wait(60)
        if self._error is not None:
            raise self._error
        return self._method(*arguments, **options)


@pytest.fixture
def busy(discs, stack):
    with Session(stack, random_model()) as session:
        session.add(Point(0, 1, (19, 19)))
        session.add(Point(0, 1, (25, 22)), Mask(0, 2, TWO))
        run(session, last=3)
        yield session


def while_computing(session, monkeypatch, what, error=None):
    """Answers to `READS` before, during and after something that computes; and how it ended."""
    action, method = COMPUTING[what]
    slow = Slow(getattr(session._predictor, method), error)
    monkeypatch.setattr(session._predictor, method, slow)
    failed, during = [], {}

    def work():
        try:
            action(session)
        except RuntimeError as problem:
            failed.append(problem)

    def read():
        during.update({name: read(session) for name, read in READS.items()})

    before = {name: read(session) for name, read in READS.items()}
    worker, reader = threading.Thread(target=work), threading.Thread(target=read)
    worker.start()
    try:
        assert slow.entered.wait(60)
        reader.start()
        reader.join(60)
        answered = not reader.is_alive()
    finally:
        slow.may_go_on.set()
    worker.join(60)
    reader.join(60)
    assert answered, "a reader waited for what another thread computes"
    assert not worker.is_alive()
    return before, during, failed


@pytest.mark.parametrize("what", COMPUTING)
def test_readers_see_what_was_there_while_something_is_computed(busy, monkeypatch, what):
    before, during, failed = while_computing(busy, monkeypatch, what)
    assert during == before
    assert not failed
    labels(busy)


@pytest.mark.parametrize("what", COMPUTING)
def test_what_fails_while_it_is_read_has_changed_nothing(busy, monkeypatch, what):
    before = state(busy)
    _, during, failed = while_computing(busy, monkeypatch, what, RuntimeError("out of memory"))
    assert [str(problem) for problem in failed] == ["out of memory"]
    assert state(busy) == before
    assert during["label_frame"] == busy.label_frame(0).tobytes()
