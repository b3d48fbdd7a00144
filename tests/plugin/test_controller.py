"""What a person does comes back as signals on the main thread, and the main thread never waits for it."""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for desk
sys.path.insert(0, str(Path(__file__).parents[1] / "session"))  # for random_model

from desk import Desk, hold_thread
from random_model import DiscPredictor, random_model, small_stack

from stacksam import Box, Mask, Point
from stacksam.errors import InputError, StorageError
from stacksam.plugin.controller import Opening
from stacksam.session.session import Session

A, B = Point(0, 1, (20.0, 20.0)), Point(0, 2, (44.0, 40.0))


def test_before_a_session_is_open_everything_says_what_to_do(desk):
    for act in (
        lambda: desk.controller.add(A),
        desk.controller.follow,
        desk.controller.undo,
        lambda: desk.controller.rename(1, "x"),
    ):
        with pytest.raises(InputError, match="press Start"):
            act()


def test_a_click_comes_back_as_a_mask_and_a_row(desk):
    desk.open()
    desk.add(A)
    assert desk.objects() == (1,)
    assert desk.controller.prompts == (A,)
    assert frozenset({0}) in desk.painted
    row = desk.controller.state.objects[0]
    assert (row.n_frames, row.prompted) == (1, (0,))
    assert desk.controller.session.mask(1, 0)[20, 20]
    assert desk.busy[-1] == ""


def test_a_bad_prompt_is_refused_at_once_and_disturbs_nothing(desk):
    desk.open()
    with pytest.raises(InputError, match="outside"):
        desk.controller.add(Point(0, 1, (500.0, 1.0)))
    desk.add(A)
    assert desk.objects() == (1,)
    assert desk.controller.prompts == (A,)


def test_clicks_that_wait_are_answered_together(desk, monkeypatch):
    desk.open()
    begun, go_on, said = threading.Event(), threading.Event(), []
    add = Session.add

    def held(self, *prompts):
        said.append(prompts)
        begun.set()
        assert go_on.wait(30)
        return add(self, *prompts)

    monkeypatch.setattr(Session, "add", held)
    desk.controller.add(A)
    assert begun.wait(30)
    more = [Point(0, 1, (21.0, 20.0)), Point(0, 1, (22.0, 20.0))]
    for point in more:
        desk.controller.add(point)
    assert desk.controller.prompts == (A, *more)  # all are shown while none is answered
    go_on.set()
    desk.turn(lambda: len(desk.controller.state.prompts) == 3)
    assert said == [(A,), tuple(more)]
    assert desk.controller.prompts == (A, *more)


def test_a_failing_prompt_is_told_and_forgotten(desk, monkeypatch):
    desk.open()

    def full(*_):
        raise StorageError("the disk is full")

    monkeypatch.setattr(Session, "add", full)
    desk.controller.add(A)
    desk.turn(lambda: desk.failed)
    assert desk.failed[0][0] == "Prompt"
    assert "disk is full" in str(desk.failed[0][1])
    assert desk.controller.prompts == ()
    monkeypatch.undo()


def test_following_paints_tells_how_far_and_ends(desk):
    desk.open()
    desk.add(A, B)
    desk.controller.follow("forward")
    assert desk.controller.following
    desk.turn(lambda: not desk.controller.following)
    desk.turn(lambda: all(row.n_frames == 6 for row in desk.controller.state.objects))
    done = [p for p in desk.progress if p is not None and p.done]
    assert done[-1].total == 10
    assert [p.done for p in done] == sorted(p.done for p in done)
    assert desk.progress[-1] is None
    assert set().union(*(f for f in desk.painted if f)) == set(range(6))
    assert "Followed to the end" in desk.noted


def test_stop_ends_after_the_frame_in_progress_and_keeps_what_is_there(desk, slow):
    desk.open(30)
    desk.add(A)
    desk.controller.follow("forward")
    for _ in range(3):
        assert slow.arrived.acquire(timeout=30)
        slow.let.release()
    assert slow.arrived.acquire(timeout=30)  # the fourth frame is being worked out
    desk.controller.cancel()
    slow.let.release()
    desk.turn(lambda: not desk.controller.following)
    desk.turn(lambda: desk.controller.state.objects[0].n_frames == 5)
    assert any("Stopped" in text for text in desk.noted)
    slow.free()
    desk.controller.follow("forward")
    desk.turn(lambda: desk.controller.state.objects[0].n_frames == 30)


def test_a_click_comes_between_and_the_pass_goes_on(desk, slow):
    desk.open(30)
    desk.add(A)
    desk.controller.follow("forward")
    assert slow.arrived.acquire(timeout=30)
    desk.controller.add(B)
    slow.let.release()
    desk.turn(lambda: 2 in desk.objects())
    assert desk.controller.following
    assert desk.controller.state.objects[0].n_frames < 30
    slow.free()
    desk.turn(lambda: not desk.controller.following)
    desk.turn(lambda: desk.controller.state.objects[0].n_frames == 30)
    assert desk.controller.state.objects[1].n_frames == 1  # it was not asked for


def test_undo_ends_a_pass_and_takes_it_back(desk, slow):
    desk.open(30)
    desk.add(A)
    desk.controller.follow("forward")
    assert slow.arrived.acquire(timeout=30)
    slow.let.release()
    assert slow.arrived.acquire(timeout=30)
    desk.controller.undo()
    slow.free()
    desk.turn(lambda: "Undone: following" in desk.noted)
    desk.turn(lambda: desk.controller.state.objects[0].n_frames == 1)
    assert not desk.controller.following
    desk.controller.redo()
    desk.turn(lambda: "Done again: following" in desk.noted)
    desk.turn(lambda: desk.controller.state.objects[0].n_frames > 1)


def test_what_a_correction_changed_is_shown_until_it_is_accepted(desk):
    desk.open()
    desk.add(A)
    desk.controller.follow("forward")
    desk.turn(lambda: desk.controller.state.objects and desk.controller.state.objects[0].n_frames == 6)
    assert not any(desk.controller.changed.values())
    desk.add(Point(2, 1, (24.0, 20.0)))
    assert desk.controller.state.objects[0].n_stale == 3
    desk.controller.follow("forward")
    desk.turn(lambda: not desk.controller.following)
    desk.turn(lambda: desk.controller.state.objects[0].n_stale == 0)
    assert desk.controller.changed[1] == {3, 4, 5}
    desk.controller.accept(1, [3, 4])
    desk.turn(lambda: desk.controller.state.objects[0].n_locked == 2)
    assert desk.controller.changed[1] == {5}


def corrected(desk):
    """Follow an object, correct it on frame 2, and follow it again."""
    desk.open()
    desk.add(A)
    desk.controller.follow("forward")
    desk.turn(lambda: desk.controller.state.objects and desk.controller.state.objects[0].n_frames == 6)
    desk.add(Point(2, 1, (24.0, 20.0)))
    desk.controller.follow("forward")
    desk.turn(lambda: not desk.controller.following)
    desk.turn(desk.inbox.empty)
    assert desk.controller.changed[1] == {3, 4, 5}


@pytest.mark.parametrize(
    "act",
    [
        lambda c: c.undo(),
        lambda c: c.remove_objects([1]),
        lambda c: c.add(Point(4, 1, (30.0, 20.0))),
        lambda c: c.remove(Point(2, 1, (24.0, 20.0))),
    ],
    ids=["undo", "removal", "another correction", "a prompt is taken back"],
)
def test_what_a_correction_changed_is_forgotten_with_it(desk, act):
    corrected(desk)
    act(desk.controller)
    desk.turn(lambda: not any(desk.controller.changed.values()))


def test_what_a_correction_changed_is_still_shown_after_acceptance_was_undone(desk):
    corrected(desk)
    desk.controller.accept(1, [0])
    desk.controller.undo()
    desk.turn(lambda: "Undone: acceptance" in desk.noted)
    assert desk.controller.changed[1] == {3, 4, 5}


def test_what_comes_out_as_before_counts_as_unchanged(desk):
    corrected(desk)
    desk.controller.follow("forward", restart=True)
    desk.turn(lambda: not desk.controller.following)
    assert not any(desk.controller.changed.values())


def test_accepting_what_is_not_there_is_told(desk):
    desk.open()
    desk.add(A)
    desk.controller.accept(1, [4])
    desk.turn(lambda: desk.failed)
    assert "no mask here yet" in str(desk.failed[0][1])


def test_a_moved_prompt_replaces_the_old_one_and_keeps_the_results(desk):
    desk.open()
    desk.add(A)
    desk.controller.follow("forward")
    desk.turn(lambda: desk.controller.state.objects and desk.controller.state.objects[0].n_frames == 6)
    moved = Point(0, 1, (30.0, 30.0))
    desk.controller.replace(A, moved)
    desk.turn(lambda: desk.controller.prompts == (moved,))
    assert desk.controller.session.mask(1, 0)[30, 30]
    assert desk.controller.state.objects[0].n_frames == 6
    assert desk.controller.state.objects[0].n_stale == 5
    assert desk.controller.session.history == ("add", "propagate", "replace")
    desk.controller.undo()
    desk.turn(lambda: desk.controller.prompts == (A,))
    assert desk.controller.state.objects[0].n_stale == 0


def test_readings_are_cycled(desk):
    desk.open()
    desk.add(A)
    areas = set()
    for _ in range(3):
        count = len(desk.noted)
        desk.controller.next_candidate(0)
        desk.turn(lambda count=count: len(desk.noted) > count)
        areas.add(int(desk.controller.session.mask(1, 0).sum()))
    assert len(areas) == 3


def test_a_new_object_gets_an_id_that_was_never_used(desk):
    desk.open()
    desk.add(A, B)
    assert desk.controller.new_object() == 3
    desk.controller.remove_objects([2])
    desk.turn(lambda: desk.objects() == (1,))
    assert desk.controller.new_object() == 3


def test_an_id_that_is_being_used_is_not_given_to_another_object(desk):
    desk.open()
    go_on = hold_thread(desk)
    desk.controller.add(A)
    assert desk.controller.new_object() == 2
    desk.controller.add(Point(0, desk.controller.current, (44.0, 40.0)))
    assert desk.controller.new_object() == 3
    go_on.set()
    desk.turn(lambda: desk.objects() == (1, 2))


def test_who_removes_the_current_object_goes_on_with_a_new_one(desk):
    desk.open()
    desk.add(A)
    desk.controller.remove_objects([1])
    desk.controller.add(Point(0, desk.controller.current, (44.0, 40.0)))
    desk.turn(lambda: desk.objects() == (2,))
    desk.controller.undo()
    desk.controller.undo()
    desk.turn(lambda: desk.objects() == (1,))
    desk.controller.set_current(1)
    desk.controller.redo()
    desk.turn(lambda: desk.objects() == ())
    desk.turn(desk.inbox.empty)
    assert desk.controller.current == 2
    assert desk.failed == []


def test_who_merges_the_current_object_away_goes_on_with_what_it_became(desk):
    desk.open()
    desk.add(A, B)
    desk.controller.set_current(2)
    desk.controller.merge(1, [2])
    assert desk.controller.current == 1


def test_a_session_that_is_opened_again_gives_ids_that_were_never_used(desk, tmp_path):
    desk.open(folder=tmp_path / "s")
    desk.add(A, B)
    desk.controller.remove_objects([2])
    desk.turn(lambda: desk.objects() == (1,))
    desk.controller.close_session()
    desk.open(folder=tmp_path / "s")
    assert desk.controller.current == 1
    assert desk.controller.new_object() == 3


def test_a_second_box_apart_from_the_first_begins_another_object(desk):
    desk.open()
    first, apart, over = (Box(0, 1, place) for place in ((10, 10, 20, 20), (40, 30, 50, 44), (12, 8, 22, 18)))
    desk.add(first)
    desk.controller.set_current(1)
    desk.controller.add(apart)
    assert desk.controller.current == 2
    assert "begins object 2; undo" in desk.noted[-1]
    desk.controller.add(Box(0, 2, (30, 50, 35, 55)))  # before that is answered
    desk.turn(lambda: desk.objects() == (1, 2, 3))
    assert desk.controller.session.mask(1, 0).any()
    assert [box.object_id for box in desk.controller.prompts] == [1, 2, 3]
    desk.noted.clear()
    desk.add(over)  # the same object, said again
    desk.add(replace(apart, frame=3))  # an object has a box on each frame
    assert (desk.objects(), desk.noted) == ((1, 2, 3), [])


def test_frames_that_an_object_has_left_are_told(desk):
    desk.open()
    desk.add(A)
    desk.controller.follow("forward")
    desk.turn(lambda: not desk.controller.following)
    desk.controller.mark_absent(1, [4, 5])
    desk.turn(lambda: desk.objects() and desk.controller.state.objects[0].n_empty == 2)
    assert desk.controller.state.objects[0].n_frames == 6


def test_names_and_merging_reach_the_table(desk):
    desk.open()
    desk.add(A, B)
    desk.controller.rename(1, "mother")
    desk.turn(lambda: desk.controller.state.objects[0].name == "mother")
    desk.controller.merge(1, [2])
    desk.turn(lambda: desk.objects() == (1,))
    assert desk.controller.session.mask(1, 0)[44, 40]
    desk.controller.undo()
    desk.turn(lambda: desk.objects() == (1, 2))


def test_closing_and_opening_goes_on_where_it_was(desk, tmp_path):
    desk.open(folder=tmp_path / "s")
    desk.add(A, Box(1, 2, (30.0, 30.0, 50.0, 50.0)))
    labels = np.asarray(desk.controller.session.labels[:])
    desk.controller.close_session()
    assert desk.controller.state.objects == ()
    desk.open(folder=tmp_path / "s")
    desk.turn(lambda: desk.objects() == (1, 2))
    assert len(desk.controller.prompts) == 2
    np.testing.assert_array_equal(np.asarray(desk.controller.session.labels[:]), labels)
    assert any("Continued" in text for text in desk.noted)
    assert desk.controller.current == 1  # a click refines what is there


def test_a_session_that_cannot_be_opened_is_told(desk, tmp_path):
    place = tmp_path / "file"
    place.write_text("in the way")
    stack = small_stack()
    desk.controller.open(Opening(lambda: stack, folder=lambda *_: place))
    desk.turn(lambda: desk.failed)
    assert desk.failed[0][0] == "Opening"
    assert isinstance(desk.failed[0][1], StorageError)
    assert desk.controller.session is None
    desk.open()  # and it can be tried again


def test_shutting_down_while_following_loses_nothing(monkeypatch, tmp_path):
    monkeypatch.setattr("stacksam.session.session.Predictor", DiscPredictor)
    monkeypatch.setattr("stacksam.plugin.controller.load_model", lambda *_, **__: random_model())
    desk = Desk()
    desk.open(40, folder=tmp_path / "s")
    desk.add(A)
    desk.controller.follow("forward")
    desk.turn(lambda: len(set().union(*(f for f in desk.painted if f))) > 3)
    assert desk.controller.shut_down(30)
    with Session(small_stack(40), random_model(), tmp_path / "s") as session:
        frames = session.frames_of(1)
        assert len(frames) > 2
        for frame in frames:
            np.testing.assert_array_equal(np.asarray(session.labels[frame]) == 1, session.mask(1, frame))


def test_what_is_asked_between_two_clicks_comes_between_them(desk):
    desk.open()
    go_on = hold_thread(desk)
    desk.controller.add(A)
    desk.controller.remove(A)
    desk.controller.add(B)
    go_on.set()
    desk.turn(lambda: desk.objects() == (2,))
    assert desk.controller.prompts == (B,)
    assert desk.controller.session.history == ("add", "remove", "add")


def square(y, x):
    mask = np.zeros((64, 64), bool)
    mask[y : y + 6, x : x + 6] = True
    return mask


def test_strokes_and_clicks_that_are_being_answered_all_hold(desk):
    desk.open()
    before, session = desk.controller.mask(1, 0), desk.controller.session
    go_on = hold_thread(desk)
    desk.controller.paint(Mask(0, 1, square(50, 5)), before)
    np.testing.assert_array_equal(desk.controller.mask(1, 0), square(50, 5))
    desk.controller.paint(Mask(2, 1, square(5, 5)), before)
    desk.controller.add(Point(0, 1, (20.0, 20.0)))
    desk.controller.paint(Mask(0, 1, square(50, 5) | square(50, 50)), square(50, 5))
    desk.controller.paint(Mask(0, 1, square(50, 50)), square(50, 5) | square(50, 50))  # the first is erased
    go_on.set()
    desk.turn(lambda: not desk.controller._in_flight)
    mask = session.mask(1, 0)
    assert mask[20, 20]
    assert mask[square(50, 50)].all()
    assert not mask[square(50, 5)].any()
    np.testing.assert_array_equal(session.mask(1, 2), square(5, 5))
    assert session.history == ("add",) * 4  # the last two strokes were answered together
    assert desk.busy[-1] == ""


def test_undo_while_a_click_waits_takes_that_click_back(desk):
    desk.open()
    desk.add(A)
    go_on = hold_thread(desk)
    desk.controller.add(B)
    desk.controller.undo()
    go_on.set()
    desk.turn(lambda: "Undone: prompt" in desk.noted)
    desk.turn(lambda: desk.objects() == (1,))
    desk.controller.redo()
    desk.turn(lambda: desk.objects() == (1, 2))


def test_a_pass_that_is_cancelled_before_it_begins_does_nothing(desk):
    desk.open()
    desk.add(A)
    go_on = hold_thread(desk)
    desk.controller.follow("forward")
    desk.controller.undo()
    go_on.set()
    desk.turn(lambda: "Undone: prompt" in desk.noted)
    desk.turn(lambda: not desk.controller.following)
    desk.controller.redo()  # which a step of the pass would have made impossible
    desk.turn(lambda: desk.objects() == (1,))
    assert desk.controller.session.history == ("add",)


def test_following_takes_a_click_along_that_is_being_answered(desk):
    desk.open()
    go_on = hold_thread(desk)
    desk.controller.add(A)
    desk.controller.follow("forward")
    go_on.set()
    desk.turn(lambda: not desk.controller.following)
    desk.turn(lambda: desk.objects() == (1,) and desk.controller.state.objects[0].n_frames == 6)


def test_a_second_pass_takes_over_and_is_told_of(desk, slow):
    desk.open(20)
    desk.add(A)
    desk.controller.follow("forward")
    assert slow.arrived.acquire(timeout=30)
    desk.controller.follow("forward")
    slow.let.release()
    assert slow.arrived.acquire(timeout=30)
    desk.turn(desk.inbox.empty)
    assert desk.controller.following
    slow.free()
    desk.turn(lambda: not desk.controller.following)
    assert "Followed to the end" in desk.noted


def test_of_two_sessions_that_are_asked_for_the_newer_one_is_opened(desk, tmp_path):
    first, second = small_stack(6), small_stack(8)
    go_on = hold_thread(desk)
    opening, wait = threading.Event(), threading.Event()

    def slowly():
        opening.set()
        assert wait.wait(30)
        return first

    desk.controller.open(Opening(slowly, folder=lambda *_: tmp_path / "a"))
    go_on.set()
    assert opening.wait(30)
    desk.controller.open(Opening(lambda: second, folder=lambda *_: tmp_path / "b"))
    wait.set()
    desk.turn(lambda: desk.controller.session is not None)
    assert desk.controller.session.stack is second
    with Session(first, random_model(), tmp_path / "a"):
        pass  # nobody holds it any more


def test_a_session_that_is_asked_for_twice_is_opened(desk, tmp_path):
    stack = small_stack()
    opening = Opening(lambda: stack, folder=lambda *_: tmp_path / "s")
    desk.controller.open(opening)
    made = threading.Event()
    desk.controller.run(made.set, print, "Waiting")
    assert made.wait(30)  # it is made, but the main thread has not heard of it
    assert desk.controller.opening
    desk.controller.open(opening)
    desk.turn(lambda: desk.controller.session is not None)
    assert not desk.controller.opening
    assert desk.failed == []
    desk.add(A)


def test_shutting_down_closes_the_session_on_disk(monkeypatch, tmp_path):
    monkeypatch.setattr("stacksam.session.session.Predictor", DiscPredictor)
    monkeypatch.setattr("stacksam.plugin.controller.load_model", lambda *_, **__: random_model())
    desk = Desk()
    desk.open(folder=tmp_path / "s")
    desk.add(A)
    assert desk.controller.shut_down(30)
    assert (tmp_path / "s" / "session.json").is_file()


def test_what_was_asked_for_when_the_dock_is_closed_is_done(discs, tmp_path):
    desk = Desk()
    desk.open(folder=tmp_path / "s")
    go_on = hold_thread(desk)
    desk.controller.add(A)
    desk.controller.rename(1, "mother")
    desk.controller.ask(lambda _: go_on.wait(60), print, "Thumbnails", key="thumbs")
    desk.controller.accept(1, [0])
    begun = time.monotonic()
    assert not desk.controller.shut_down()
    assert time.monotonic() - begun < 5  # the window is not held up
    other = Desk()
    stack = small_stack()
    other.controller.open(Opening(lambda: stack, folder=lambda *_: tmp_path / "s"))
    go_on.set()
    other.turn(lambda: other.controller.session is not None)  # it waited until the folder was free
    assert other.failed == []
    (row,) = other.controller.state.objects
    assert (row.name, row.n_locked) == ("mother", 1)
    assert other.controller.shut_down(30)


def test_what_is_done_aside_gives_way_to_jobs_and_to_a_pass(desk):
    desk.open()
    begun, go_on, closed = threading.Event(), threading.Event(), threading.Event()
    seen = []

    def steps():
        try:
            for i in range(10**9):
                if i == 1:
                    begun.set()
                    go_on.wait(20)
                yield i
        finally:
            closed.set()

    desk.controller.aside(steps(), seen.append, "Timing")
    assert begun.wait(20)
    desk.controller.add(A)
    go_on.set()
    desk.turn(lambda: desk.objects() == (1,))
    assert not closed.is_set()
    desk.controller.follow("forward")
    desk.turn(lambda: desk.controller.state.objects[0].n_frames == 6)
    assert closed.is_set()
    assert seen[:2] == [0, 1]
