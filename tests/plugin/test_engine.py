"""The thread behind the windows: order, overtaking, passes that step aside, and its end."""

from __future__ import annotations

import queue
import threading

import pytest

from stacksam.plugin.engine import Engine, Stream, wait_for_closed


class Main:
    """Stands for the main thread: does what is delivered when the test says so."""

    def __init__(self) -> None:
        self.inbox: queue.Queue = queue.Queue()

    def deliver(self, function) -> None:
        self.inbox.put(function)

    def turn(self, count: int = 1) -> None:
        for _ in range(count):
            self.inbox.get(timeout=20)()


@pytest.fixture
def main():
    return Main()


@pytest.fixture
def engine(main):
    engine = Engine(main.deliver, name="engine-under-test")
    yield engine
    assert engine.close(20)


def fail(error: Exception) -> None:
    raise error


def hold(engine: Engine) -> threading.Event:
    """Keep the engine busy until the event is set, so that what is submitted meanwhile has to wait."""
    begun, go_on = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        go_on.wait(20)

    engine.submit(work, failed=fail)
    assert begun.wait(20)
    return go_on


def test_jobs_run_in_order_and_answer_on_the_main_thread(engine, main):
    done = []
    for i in range(3):
        engine.submit(lambda i=i: i * 10, done.append, failed=fail)
    assert done == []  # nothing is answered before the main thread takes a turn
    main.turn(3)
    assert done == [0, 10, 20]


def test_an_error_is_told_and_the_thread_lives_on(engine, main):
    told, done = [], []
    engine.submit(lambda: 1 / 0, done.append, failed=told.append)
    engine.submit(lambda: "next", done.append, failed=fail)
    main.turn(2)
    assert isinstance(told[0], ZeroDivisionError)
    assert done == ["next"]


def test_a_newer_job_overtakes_one_of_its_key_that_waits(engine, main):
    done = []
    go_on = hold(engine)
    for i in range(3):
        engine.submit(lambda i=i: i, done.append, failed=fail, key="click")
    engine.submit(lambda: "other", done.append, failed=fail)
    go_on.set()
    main.turn(2)
    assert done == [2, "other"]


def counting(total: int, state: dict) -> Stream:
    """A pass over 0 .. total - 1 that goes on where it was left, and notes what happens to it."""
    state.update(seen=[], begun=0, ended=[], failed=[], closed=0)

    def begin():
        state["begun"] += 1
        try:
            while len(state["seen"]) < total:
                yield len(state["seen"])
        finally:
            state["closed"] += 1

    return Stream(begin, state["seen"].append, state["ended"].append, state["failed"].append)


def test_a_pass_runs_to_its_end(engine, main):
    state: dict = {}
    engine.start(counting(5, state))
    main.turn()
    assert state["seen"] == list(range(5))
    assert state["ended"] == [True]
    assert state["closed"] == state["begun"] == 1


def test_a_pass_steps_aside_for_a_job_and_goes_on(engine, main):
    state: dict = {}
    stream = counting(50, state)
    third, go_on = threading.Event(), threading.Event()
    each = stream.each

    def slow(value):
        each(value)
        if value == 2:
            third.set()
            go_on.wait(20)

    stream.each = slow
    engine.start(stream)
    assert third.wait(20)
    at = []
    engine.submit(lambda: at.append((len(state["seen"]), state["closed"])), failed=fail)
    go_on.set()
    main.turn()
    assert at == [(3, 0)]  # the job came right after the step in progress, and the pass was not ended for it
    assert state["seen"] == list(range(50))
    assert state["ended"] == [True]
    assert state["begun"] == state["closed"] == 2  # it was asked whether the job had left something to do


def test_a_pass_that_a_job_ends_is_begun_anew(engine, main):
    state: dict = {"seen": [], "begun": 0, "stop": False}

    def begin():
        state["begun"] += 1
        state["stop"] = False
        while len(state["seen"]) < 20 and not state["stop"]:
            yield len(state["seen"])

    third, go_on = threading.Event(), threading.Event()

    def each(value):
        state["seen"].append(value)
        if value == 2:
            third.set()
            go_on.wait(20)

    ended = []
    engine.start(Stream(begin, each, ended.append, fail))
    assert third.wait(20)
    engine.submit(lambda: state.update(stop=True), failed=fail)
    go_on.set()
    main.turn()
    assert state["seen"] == list(range(20))
    assert ended == [True]
    assert state["begun"] == 2


def test_cancel_ends_a_pass_after_the_step_in_progress(engine, main):
    state: dict = {}
    stream = counting(10**9, state)
    third = threading.Event()
    each = stream.each

    def note(value):
        each(value)
        if value == 2:
            engine.cancel()
            third.set()

    stream.each = note
    engine.start(stream)
    assert third.wait(20)
    main.turn()
    assert state["seen"] == [0, 1, 2]
    assert state["ended"] == [False]
    assert state["closed"] == 1


def test_a_new_pass_replaces_the_one_that_runs(engine, main):
    old: dict = {}
    new: dict = {}
    engine.start(counting(10**9, old))
    engine.start(counting(3, new))
    main.turn(2)
    assert old["ended"] == [False]
    assert new["ended"] == [True]
    assert new["seen"] == [0, 1, 2]


def test_an_error_ends_a_pass_and_is_told(engine, main):
    state: dict = {}
    stream = counting(10, state)
    stream.each = lambda value: 1 / (2 - value)
    # `seen` never grows, so the pass would go on for ever; the third value is the first again.
    stream.begin = lambda: iter(range(10))
    engine.start(stream)
    main.turn()
    assert isinstance(state["failed"][0], ZeroDivisionError)
    assert state["ended"] == []
    done = []
    engine.submit(lambda: "alive", done.append, failed=fail)
    main.turn()
    assert done == ["alive"]


def test_closing_does_what_was_asked_for_and_ends_the_thread(main):
    engine = Engine(main.deliver, name="engine-to-close")
    go_on = hold(engine)
    done, ran = [], []
    engine.submit(lambda: ran.append("asked for"), done.append, failed=fail, key="click")
    engine.submit(lambda: ran.append("only to look at"), done.append, failed=fail, passing=True)
    assert not engine.close(0.01, last=lambda: ran.append("last"))  # the job in progress is not killed
    assert not wait_for_closed(0.01)
    go_on.set()
    assert wait_for_closed(20)
    assert ran == ["asked for", "last"]
    assert engine.close(20)
    assert not any(thread.name == "engine-to-close" for thread in threading.enumerate())
    engine.submit(lambda: "too late", done.append, failed=fail)
    assert done == []
    assert main.inbox.empty()
