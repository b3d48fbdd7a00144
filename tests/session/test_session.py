"""What a session promises of prompts, results and propagation, in windows and on whole frames."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest
from random_model import labels, random_model, rows, run, small_stack, state

from stacksam.errors import InputError
from stacksam.session.predictor import Settings
from stacksam.session.prompts import Box, Mask, Point
from stacksam.session.session import Session

A = Point(0, 1, (19, 19))
B = Point(0, 2, (45, 38))
MASK = np.zeros((64, 64), bool)
MASK[10:30, 12:25] = True


def test_a_prompt_is_answered_at_once(session):
    update = session.add(A)
    assert (update.frame, update.object_id, update.prompted) == (0, 1, True)
    assert update.mask.any()
    assert session.object_ids == (1,)
    assert session.prompts == (A,)
    assert session.frames_of(1) == (0,)
    assert np.array_equal(session.mask(1, 0), update.full_mask((64, 64)))
    assert np.array_equal(session.label_frame(0) == 1, session.mask(1, 0))
    assert not session.mask(1, 1).any()
    assert session.update(1, 1) is None
    labels(session)


def test_the_answer_is_that_of_the_last_prompt(session):
    update = session.add(A, B, Point(0, 1, (25, 22)))
    assert (update.object_id, update.frame) == (1, 0)
    assert np.array_equal(update.full_mask((64, 64)), session.mask(1, 0))


def test_prompts_given_together_differ_from_prompts_given_in_turn(stack, model):
    second = Point(0, 1, (25, 22), positive=False)
    with Session(stack, model) as one, Session(stack, model) as two:
        one.add(A, second)
        two.add(A)
        two.add(second)
        assert one.prompts == two.prompts
        assert rows(one, 1) != rows(two, 1)  # the second prompt corrects an answer


def test_a_painted_mask_is_taken_as_it_is(session):
    session.add(A)
    session.add(Mask(0, 1, MASK))
    assert np.array_equal(session.mask(1, 0), MASK)
    assert session.prompts == (Mask(0, 1, MASK),)  # it replaces what was said before
    session.add(Point(0, 1, (50, 50)))
    assert len(session.prompts) == 2
    assert not np.array_equal(session.mask(1, 0), MASK)


def test_a_mask_and_points_given_together_are_the_same_as_in_turn(stack, model):
    points = Point(0, 1, (50, 50)), Point(0, 1, (20, 50), positive=False)
    with Session(stack, model) as one, Session(stack, model) as two:
        one.add(A, Mask(0, 1, MASK), *points)
        two.add(A)
        two.add(Mask(0, 1, MASK))
        two.add(*points)
        assert one.prompts == two.prompts == (Mask(0, 1, MASK), *points)
        assert rows(one, 1) == rows(two, 1)


def test_what_the_user_paints_over_later_does_not_change_the_prompt(session):
    mask = MASK.copy()
    session.add(Mask(0, 1, mask))
    mask[:] = True
    assert np.array_equal(session.prompts[0].mask, MASK)
    assert np.array_equal(session.mask(1, 0), MASK)
    with pytest.raises(ValueError, match="read-only"):
        session.prompts[0].mask[0, 0] = True


def test_a_prompt_taken_back_leaves_what_the_others_say(stack, model):
    extra = Point(0, 1, (30, 30), positive=False)
    last = Point(0, 1, (40, 12))
    with Session(stack, model) as one, Session(stack, model) as two:
        one.add(A)
        one.add(extra)
        one.add(last)
        update = one.remove(extra)
        two.add(A)
        two.add(last)
        assert one.prompts == two.prompts == (A, last)
        assert rows(one, 1) == rows(two, 1)
        assert np.array_equal(update.full_mask((64, 64)), two.mask(1, 0))


def test_an_object_vanishes_with_its_last_prompt_and_may_return(session):
    session.add(A, B)
    run(session)
    assert session.remove(A) is None
    assert session.object_ids == (2,)
    assert session.frames_of(1) == ()
    assert 1 not in labels(session)
    session.add(A)
    assert session.object_ids == (1, 2)


def test_a_prompt_taken_back_on_a_followed_frame_brings_back_its_result_as_stale(session):
    session.add(A)
    run(session)
    before = rows(session, 1, [3])[3]
    correction = Point(3, 1, (30, 30))
    session.add(correction)
    assert rows(session, 1, [3])[3] != before
    update = session.remove(correction)
    assert not update.prompted
    after = rows(session, 1, [3])[3]
    stale = 4  # column
    assert after[:stale] + after[stale + 1 :] == before[:stale] + before[stale + 1 :]
    assert 3 in session.stale_frames(1)
    run(session)
    assert session.stale_frames(1) == ()


def test_an_approved_frame_is_approved_again_when_its_correction_is_taken_back(session):
    session.add(A)
    run(session)
    session.lock(1, [3])
    before = rows(session, 1, [3])
    session.add(Point(3, 1, (30, 30)))
    assert session.locked_frames(1) == ()
    session.remove(Point(3, 1, (30, 30)))
    assert rows(session, 1, [3]) == before


def test_a_prompt_is_moved_in_one_action(stack, model):
    first, other = Point(0, 1, (14.0, 12.0)), Point(0, 1, (20.0, 18.0), positive=False)
    for moved in (Point(0, 1, (15.0, 15.0)), Point(2, 1, (15.0, 15.0)), Box(0, 2, (4.0, 4.0, 22.0, 22.0))):
        with Session(stack, model) as session, Session(stack, model) as apart:
            for one in (session, apart):
                one.add(first)
                one.add(other)
            update = session.replace(first, moved)
            assert session.history == ("add", "add", "replace")
            assert (update.frame, update.object_id) == (moved.frame, moved.object_id)
            apart.remove(first)
            apart.add(moved)
            assert session.prompts == apart.prompts
            assert np.array_equal(session.labels[...], apart.labels[...])
            session.undo()
            assert session.prompts == (first, other)


def test_an_object_keeps_its_results_when_its_only_prompt_is_moved(session):
    first, moved = Point(0, 1, (14.0, 12.0)), Point(3, 1, (15.0, 15.0))
    session.add(first)
    for _ in session.propagate():
        pass
    frames = session.frames_of(1)
    session.replace(first, moved)
    assert session.frames_of(1) == frames[1:]  # nothing leads to the frame that was prompted
    assert session.prompts == (moved,)
    with pytest.raises(InputError, match="no such prompt"):
        session.replace(first, moved)


def test_a_removed_object_is_gone_for_good(session):
    session.add(A, B, Point(2, 1, (20, 20)))
    run(session)
    other = rows(session, 2)
    session.remove_object(1)
    assert session.object_ids == (2,)
    assert session.frames_of(1) == ()
    assert 1 not in labels(session)
    assert rows(session, 2) == other
    with pytest.raises(
        InputError, match="object 1 was removed; undo that, or use a new id \\(next free: 3\\)"
    ):
        session.add(A)
    assert session.undo() == "remove_object"
    session.add(Point(0, 1, (10, 10)))


def test_candidates_leave_the_mask_and_one_can_be_chosen(session):
    session.add(A)
    before = state(session)
    candidates = session.candidates(1, 0)
    assert state(session) == before
    assert len(candidates) == 3
    assert [c.predicted_iou for c in candidates] == sorted(
        (c.predicted_iou for c in candidates), reverse=True
    )
    assert np.array_equal(candidates[0].full_mask((64, 64)), session.mask(1, 0))
    for index, candidate in enumerate(candidates):
        chosen = session.choose(1, 0, index)
        assert np.array_equal(chosen.full_mask((64, 64)), candidate.full_mask((64, 64)))
        assert np.array_equal(session.mask(1, 0), candidate.full_mask((64, 64)))
        # The choice is not a prompt: the candidates are the same as before.
        again = session.candidates(1, 0)
        assert all(np.array_equal(x.mask, y.mask) for x, y in zip(candidates, again, strict=True))


def test_a_choice_outlives_a_later_prompt_that_is_taken_back(session):
    session.add(A)
    session.choose(1, 0, 2)
    chosen = rows(session, 1)
    later = Point(0, 1, (40, 40), positive=False)
    session.add(later)
    assert rows(session, 1) != chosen
    session.candidates(1, 0)
    session.remove(later)
    assert rows(session, 1) == chosen


def test_choosing_makes_what_was_followed_from_there_stale(session):
    session.add(A)
    run(session)
    session.choose(1, 0, 1)
    assert session.stale_frames(1) == (1, 2, 3, 4, 5)


# Propagation


def test_objects_are_followed_beyond_their_own_prompts_only(session):
    session.add(Point(2, 1, (20, 20)), Point(4, 2, (45, 36)))
    assert session.work_left("forward") == 4
    assert run(session, "forward") == [(3, 1), (4, 1), (5, 1), (5, 2)]
    assert session.frames_of(1) == (2, 3, 4, 5)
    assert session.frames_of(2) == (4, 5)
    assert session.work_left("backward") == 6
    assert run(session, "backward") == [(3, 2), (2, 2), (1, 1), (1, 2), (0, 1), (0, 2)]
    assert session.work_left() == 0
    assert run(session) == []


def test_both_is_forward_then_backward(stack, model):
    prompts = Point(2, 1, (20, 20)), Point(4, 2, (45, 36))
    with Session(stack, model) as one, Session(stack, model) as two:
        for session in (one, two):
            session.add(*prompts)
        done = run(one, "both")
        assert done == run(two, "forward") + run(two, "backward")
        assert {i: rows(one, i) for i in (1, 2)} == {i: rows(two, i) for i in (1, 2)}
        assert len(done) == len(set(done)) == 10


def test_first_and_last_bound_the_work(session):
    session.add(Point(2, 1, (20, 20)), B)
    assert session.work_left(first=1, last=3) == 2 + 3
    assert sorted(run(session, first=1, last=3)) == [(1, 1), (1, 2), (2, 2), (3, 1), (3, 2)]
    assert session.work_left(first=1, last=3) == 0
    assert session.work_left("backward", objects=[1], first=0, last=0) == 1
    assert run(session, objects=[1, 1]) == [(4, 1), (5, 1), (0, 1)]
    assert session.frames_of(2) == (0, 1, 2, 3)


def test_work_left_is_what_propagate_gives(discs, stack):
    with Session(stack, random_model()) as session:
        session.add(Point(2, 1, (20, 20)), Point(4, 2, (45, 36)), B)
        for direction in ("forward", "backward", "both"):
            for objects in (None, [1], [2], []):
                for span in ((0, 5), (3, 3), (1, 4)):
                    arguments = {"objects": objects, "first": span[0], "last": span[1]}
                    for restart in (False, True):
                        expected = session.work_left(direction, restart=restart, **arguments)
                        done = run(session, direction, restart=restart, **arguments)
                        assert len(done) == len(set(done)) == expected
                        if done:
                            session.undo()


def test_a_correction_invalidates_what_rests_on_it_and_nothing_else(session):
    session.add(A, B)
    run(session)
    one, two = rows(session, 1), rows(session, 2)
    session.add(Point(3, 1, (30, 30)))
    assert session.stale_frames(1) == (4, 5)
    assert session.stale_frames(2) == ()
    corrected = rows(session, 1, [3])
    encoded = session._predictor.features_encoded
    assert session.work_left() == 2
    assert run(session) == [(4, 1), (5, 1)]
    assert session._predictor.features_encoded - encoded <= 2  # of the frames computed, and of no other
    assert rows(session, 2) == two
    assert rows(session, 1, [0, 1, 2]) == {f: one[f] for f in (0, 1, 2)}
    assert rows(session, 1, [3]) == corrected  # corrections stick
    assert rows(session, 1, [4])[4] != one[4]
    assert session.stale_frames(1) == ()
    assert run(session) == []


def test_a_locked_frame_stays_and_shields_what_lies_behind(session):
    session.add(A)
    run(session)
    session.lock(1, [3])
    assert session.locked_frames(1) == (3,)
    before = rows(session, 1)
    session.add(Point(1, 1, (30, 30)))
    assert session.stale_frames(1) == (2,)
    assert run(session) == [(2, 1)]
    assert rows(session, 1, [3, 4, 5]) == {f: before[f] for f in (3, 4, 5)}
    session.unlock(1, [3])
    session.add(Point(1, 1, (8, 8)))
    assert session.stale_frames(1) == (2, 3, 4, 5)


def test_an_object_can_be_said_to_be_absent(session):
    session.add(A)
    run(session)
    before = state(session)
    session.mark_absent(1, [3, 4])
    assert not session.mask(1, 3).any()
    assert not (session.labels[3:5] == 1).any()
    assert session.locked_frames(1) == (3, 4)
    assert session.stale_frames(1) == (5,)
    assert session.update(1, 3).object_score < 0
    assert run(session) == [(5, 1)]
    assert not session.mask(1, 4).any()
    session.undo()
    session.undo()
    assert state(session) == before
    with pytest.raises(InputError, match=r"has prompts on frames \[0\]"):
        session.mark_absent(1, [0, 2])
    session.remove_object(1)
    with pytest.raises(InputError, match="no object 1"):
        session.mark_absent(1, [2])


def test_a_prompt_brings_back_an_object_that_was_said_to_be_absent(discs, stack):
    with Session(stack, random_model()) as session:
        session.add(Point(0, 1, (20, 20)))
        run(session)
        session.mark_absent(1, [2])
        session.add(Point(2, 1, (30, 30)))
        assert session.mask(1, 2)[30, 30]
        assert session.locked_frames(1) == ()


def test_a_locked_frame_is_not_computed_anew(session):
    session.add(A)
    run(session)
    session.lock(1, (f for f in (2, 4)))
    before = rows(session, 1)
    assert session.work_left(restart=True) == 3
    assert run(session, restart=True) == [(1, 1), (3, 1), (5, 1)]
    assert rows(session, 1) == before  # nothing had changed


def test_restart_gives_what_a_fresh_run_gives(session):
    session.add(Point(0, 1, (20, 20)), Point(3, 1, (20, 23)), Point(2, 2, (45, 36)))
    run(session)
    fresh = {i: rows(session, i) for i in (1, 2)}
    done = run(session, restart=True)
    assert len(done) == len(set(done))
    assert {i: rows(session, i) for i in (1, 2)} == fresh


def test_a_restart_that_is_cancelled_goes_on_without_being_asked(session):
    session.add(A)
    run(session)
    before = rows(session, 1)
    updates = session.propagate(restart=True)
    next(updates)
    updates.close()
    assert session.stale_frames(1) == (2, 3, 4, 5)
    assert run(session) == [(2, 1), (3, 1), (4, 1), (5, 1)]
    assert rows(session, 1) == before


def test_a_restart_of_a_part_makes_what_rests_on_it_stale(session):
    session.add(A)
    run(session)
    assert run(session, restart=True, first=2, last=3) == [(2, 1), (3, 1)]
    assert session.stale_frames(1) == (4, 5)


@pytest.mark.parametrize("after", [1, 2, 4, 7])
def test_a_cancelled_run_goes_on_to_the_same_labels(stack, model, after):
    prompts = Point(2, 1, (20, 20)), Point(3, 2, (45, 36))
    with Session(stack, model) as whole, Session(stack, model) as parts:
        whole.add(*prompts)
        run(whole)
        parts.add(*prompts)
        updates = parts.propagate()
        got = [next(updates) for _ in range(after)]
        updates.close()
        labels(parts)
        assert all(np.array_equal(parts.update(u.object_id, u.frame).mask, u.mask) for u in got)
        run(parts)
        assert {i: rows(parts, i) for i in (1, 2)} == {i: rows(whole, i) for i in (1, 2)}
        assert np.array_equal(labels(parts), labels(whole))


@pytest.mark.parametrize("what", ["add", "undo", "lock", "close", "another"])
def test_whatever_is_done_meanwhile_ends_a_propagation(stack, model, what):
    with Session(stack, model) as session:
        session.add(A)
        updates = session.propagate()
        next(updates)
        if what == "add":
            session.add(B)
        elif what == "undo":
            assert session.undo() == "propagate"
            assert session.frames_of(1) == (0,)
        elif what == "lock":
            session.lock(1, [1])
        elif what == "close":
            session.close()
        else:
            next(session.propagate())
        assert list(updates) == []


def test_an_answer_meanwhile_does_not_end_a_propagation(session):
    session.add(A)
    updates = session.propagate()
    next(updates)
    session.candidates(1, 0)
    session.label_frame(0)
    session.save()
    assert len(list(updates)) == 4


def test_a_prompt_may_come_from_another_thread_while_a_propagation_is_suspended(session):
    session.add(A)
    updates = session.propagate()
    next(updates)
    failed = []

    def click():
        try:
            session.add(B)
        except Exception as error:  # noqa: BLE001 - of any kind
            failed.append(error)

    thread = threading.Thread(target=click)
    thread.start()
    thread.join(timeout=20)
    assert not thread.is_alive()
    assert not failed
    assert list(updates) == []
    assert session.object_ids == (1, 2)
    run(session)
    labels(session)


def test_two_threads_that_click_and_propagate_do_not_disturb_each_other(discs, stack):
    with Session(stack, random_model()) as session:
        session.add(A)
        failed = []

        def click():
            try:
                for k in range(2, 7):
                    session.add(Point(k % 6, k, (10 + 5 * k, 40)))
                    session.object_ids, session.prompts, session.label_frame(0)
            except Exception as error:  # noqa: BLE001 - of any kind
                failed.append(error)

        thread = threading.Thread(target=click)
        thread.start()
        while thread.is_alive():
            run(session)
        thread.join()
        assert not failed
        run(session)
        assert session.work_left() == 0
        assert session.object_ids == (1, 2, 3, 4, 5, 6)
        labels(session)


def test_objects_in_one_run_are_as_each_alone(stack, model):
    prompts = A, B, Box(1, 3, (30, 10, 50, 30))
    with Session(stack, model) as together:
        together.add(*prompts)
        run(together)
        for prompt in prompts:
            with Session(stack, model) as alone:
                alone.add(prompt)
                run(alone)
                i = prompt.object_id
                assert alone.frames_of(i) == together.frames_of(i)
                for frame in alone.frames_of(i):
                    one, other = alone._store.get(i, frame), together._store.get(i, frame)
                    assert one.view == other.view
                    # Kernels for batches round differently.
                    np.testing.assert_allclose(
                        one.logits.astype(float), other.logits.astype(float), atol=0.02, rtol=0.01
                    )
                    assert (alone.mask(i, frame) != together.mask(i, frame)).sum() <= 4


def test_results_do_not_depend_on_what_is_kept_in_memory(stack, model):
    def work(session, disturb):
        session.add(Point(2, 1, (20, 20)))
        for _ in session.propagate():
            disturb(session)
        session.add(Point(4, 1, (30, 30)))
        disturb(session)
        run(session)
        return [session._store.get(1, frame) for frame in session.frames_of(1)]

    def forget(session):
        session._predictor.bank.forget(1)
        session._predictor._encoder.cache.clear()

    with Session(stack, model) as session:
        expected = work(session, lambda _: None)
    for settings, disturb in ((Settings(), forget), (Settings(cache_bytes=0), lambda _: None)):
        with Session(stack, model, settings=settings) as session:
            for one, other in zip(work(session, disturb), expected, strict=True):
                assert (one.view, one.bbox, one.sources) == (other.view, other.bbox, other.sources)
                assert np.array_equal(one.mask, other.mask)
                # Views that are encoded together round differently.
                np.testing.assert_allclose(one.logits, other.logits, atol=0.02)


def test_memory_does_not_grow_with_the_stack(model):
    with Session(small_stack(40), model) as session:
        session.add(A)
        sizes = []
        for _ in session.propagate():
            sizes.append(len(session._predictor.bank))
        assert max(sizes) <= 1 + model.config.max_pointers
        assert sizes[-1] == sizes[25]


def test_a_stack_of_one_frame(model):
    with Session(small_stack(1), model) as session:
        session.add(A)
        assert session.work_left() == 0
        assert run(session) == []
        assert run(session, restart=True) == []
        assert labels(session).shape == (1, 64, 64)


def test_the_scale_follows_other_frames_of_the_object(session):
    session.add(Box(0, 1, (10, 10, 29, 29)))
    session.add(Point(3, 1, (20, 20)))
    assert session.update(1, 3).prompted


# Resuming


def test_a_session_goes_on_from_its_folder(stack, model, tmp_path):
    with Session(stack, model, tmp_path / "s") as session:
        session.add(A, B)
        session.lock(1, [0])
        updates = session.propagate()
        next(updates)
        updates.close()
        session.remove_object(2)
        session.undo()
        before = state(session)
    with Session(stack, model, tmp_path / "s") as session:
        assert state(session) == before
        assert session.redo() == "remove_object"
        assert session.undo() == "remove_object"
        assert session.undo() == "propagate"
        assert session.frames_of(1) == (0,)
        run(session)
        resumed = labels(session)
    with Session(stack, model) as session:
        session.add(A, B)
        session.lock(1, [0])
        run(session)
        assert np.array_equal(labels(session), resumed)


def test_settings_of_the_folder_are_kept(stack, tmp_path):
    model = random_model()
    Session(stack, model, tmp_path, settings=Settings(fill_holes=0)).close()
    with Session(stack, model, tmp_path) as session:
        assert session.settings.fill_holes == 0


def test_labels_that_were_deleted_are_made_anew(stack, tmp_path):
    import shutil

    model = random_model()
    with Session(stack, model, tmp_path) as session:
        session.add(A)
        run(session)
        before = labels(session)
    shutil.rmtree(tmp_path / "labels.ome.zarr")
    with Session(stack, model, tmp_path) as session:
        assert np.array_equal(labels(session), before)


def test_a_temporary_folder_is_removed(stack):
    session = Session(stack, random_model())
    folder = session.folder
    assert folder.is_dir()
    session.close()
    session.close()
    assert not folder.exists()


def test_undo_reaches_back_a_limited_way(discs, stack, monkeypatch):
    monkeypatch.setattr("stacksam.session.journal._UNDO_DEPTH", 3)
    with Session(stack, random_model()) as session:
        for k in range(6):
            session.add(Point(0, 1, (10 + 5 * k, 20)))
        assert [session.undo() for _ in range(4)] == ["add", "add", "add", None]
        assert len(session.prompts) == 3
        assert len(session.history) == 3
        session.add(B)
        assert session.redo() is None


def test_whole_frames_and_windows_differ_where_the_frame_is_large():
    views = []
    for windowed in (True, False):
        with Session(small_stack(2, 160), random_model(windowed=windowed)) as session:
            session.add(Box(0, 1, (40, 40, 56, 56)))
            views.append(session._store.get(1, 0).view)
    assert views[0].height < 160
    assert replace(views[1], official=False) == replace(
        views[1], y=0, x=0, height=160, width=160, official=False
    )


def test_several_objects_are_removed_as_one_action(session):
    session.add(Point(0, 1, (19.0, 19.0)), Point(0, 2, (44.0, 38.0)), Point(0, 3, (30.0, 10.0)))
    before = session.label_frame(0)
    session.remove_object(3, 1)
    assert session.object_ids == (2,)
    assert session.undo() == "remove_object"
    assert session.object_ids == (1, 2, 3)
    np.testing.assert_array_equal(session.label_frame(0), before)
    for wrong in ((), (1, 9)):
        with pytest.raises(InputError, match=r"no object was given|there is no object 9"):
            session.remove_object(*wrong)
    assert session.object_ids == (1, 2, 3)


def test_several_prompts_are_taken_back_as_one_action(session):
    first, second, third = Point(0, 1, (19.0, 19.0)), Point(0, 1, (22.0, 19.0)), Point(2, 1, (20.0, 19.0))
    session.add(first)
    alone = session.mask(1, 0)
    session.add(second)
    session.add(third)
    session.remove(second, third)
    assert session.prompts == (first,)
    np.testing.assert_array_equal(session.mask(1, 0), alone)
    assert session.undo() == "remove"
    assert session.prompts == (first, second, third)
    with pytest.raises(InputError, match="no such prompt"):
        session.remove(first, Point(0, 1, (1.0, 1.0)))
    with pytest.raises(InputError, match="no prompt was given"):
        session.remove()
    assert session.prompts == (first, second, third)
    session.remove(first, second, third)
    assert session.object_ids == ()
    session.undo()
    assert session.prompts == (first, second, third)
