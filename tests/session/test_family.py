"""Links between objects, and tracks that change hands: actions, to be undone, saved and replayed."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_model import DiscPredictor, labels, random_model, rows, run, small_stack, state

from stacksam.errors import InputError
from stacksam.session.prompts import Mask, Point
from stacksam.session.replay import replay
from stacksam.session.session import Session

SHAPE = 64, 64


def square(y, x, side=10):
    mask = np.zeros(SHAPE, bool)
    mask[y : y + side, x : x + side] = True
    return mask


def family(session):
    return sorted(session.lineage.edges), session.rejected_divisions


def everything(session):
    return (*state(session), family(session))


def there_and_back(session, action, name):
    """Do it, take it back, do it again: what there is before and after is the same each time."""
    before, links = state(session), family(session)
    result = action()
    after = everything(session)
    assert session.undoable == name
    assert session.undo() == name
    assert state(session)[:2] == before[:2]
    assert state(session)[3:] == before[3:]
    assert family(session) == links
    assert session.redo() == name
    assert everything(session) == after
    labels(session)
    return result


def same_when_replayed(session, tmp_path):
    path = session.save(tmp_path / "s.json")
    with replay(path, session.stack, session.model) as again:
        assert everything(again) == everything(session)
        assert again.next_id == session.next_id


def masks(session, object_id):
    return {
        f: session.mask(object_id, f)
        for f in session.frames_of(object_id)
        if session.mask(object_id, f).any()
    }


def same_masks(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[f], b[f]) for f in a)


def refused(session, action, match):
    before = everything(session)
    with pytest.raises(InputError, match=match):
        action()
    assert everything(session) == before


@pytest.fixture
def parent_and_daughters(discs, stack):
    """Object 1 on frames 0 to 2; 2 and 3 from frame 3 on."""
    with Session(stack, random_model()) as session:
        session.add(Point(0, 1, (30, 30)))
        run(session, last=2)
        session.add(Point(3, 2, (20, 20)), Point(3, 3, (40, 40)))
        run(session, "forward", objects=[2, 3])
        yield session


# Links


def test_links_are_told_undone_and_replayed(parent_and_daughters, tmp_path):
    session = parent_and_daughters
    assert sorted(session.lineage.nodes) == [1, 2, 3]
    there_and_back(session, lambda: session.link(1, [3, 2]), "link")
    assert isinstance(session.lineage, nx.DiGraph)
    assert sorted(session.lineage.edges) == [(1, 2), (1, 3)]
    session.lineage.remove_node(1)  # a copy
    there_and_back(session, lambda: session.unlink(2), "unlink")
    assert sorted(session.lineage.edges) == [(1, 3)]
    there_and_back(session, lambda: session.reject_division(2, 5), "reject_division")
    session.reject_division(2, 5)
    assert session.history.count("reject_division") == 1
    same_when_replayed(session, tmp_path)


def test_links_outlive_the_session(stack, tmp_path):
    with Session(stack, random_model(), tmp_path) as session:
        session.add(Mask(0, 1, square(5, 5)), Mask(2, 7, square(5, 5)))
        session.link(1, [7])
        session.reject_division(7, 4)
        kept = family(session)
    with Session(stack, random_model(), tmp_path) as session:
        assert family(session) == kept == ([(1, 7)], ((7, 4),))


@pytest.mark.parametrize("how", ["remove", "remove_object", "clear", "merge"])
def test_links_vanish_with_either_end_and_return_with_it(parent_and_daughters, how):
    session = parent_and_daughters
    session.link(1, [2, 3])
    session.reject_division(2, 5)
    before = family(session)
    ways = {
        "remove": lambda: session.remove(Point(3, 2, (20, 20))),
        "remove_object": lambda: session.remove_object(2),
        "clear": session.clear,
        "merge": lambda: session.merge(3, [2]),
    }
    ways[how]()
    assert family(session) == ([] if how == "clear" else [(1, 3)], ())
    session.undo()
    assert family(session) == before
    session.remove_object(1)
    assert family(session) == ([], ((2, 5),))


def test_links_that_cannot_be_are_refused(parent_and_daughters):
    session = parent_and_daughters
    session.add(Point(2, 4, (10, 50)))
    for parent, daughters, match in (
        (1, [], "no daughter of object 1 was given"),
        (1, 2, "daughters is 2; give several integers"),
        (1, [9], "there is no object 9; objects: 1, 2, 3, 4"),
        (9, [1], "there is no object 9"),
        (1, [1], "object 1 cannot be the daughter of itself"),
        (
            2,
            [1],
            r"object 1 would begin on frame 0, but its parent 2 is seen until frame 5.*split_track\(2, 0\)",
        ),
        (1, [2, 4], "object 4 would begin on frame 2, but its parent 1 is seen until frame 2"),
    ):
        refused(session, lambda p=parent, d=daughters: session.link(p, d), match)
    session.link(1, [2])
    refused(session, lambda: session.link(4, [2]), "object 2 is the daughter of 1 already.*unlink it first")
    refused(session, lambda: session.link(2, [1]), "object 1 cannot be the daughter of its own descendant 2")
    refused(session, lambda: session.unlink(3), "object 3 has no parent")
    refused(session, lambda: session.unlink(8), "there is no object 8")
    session.add(Point(5, 5, (10, 10)))
    session.mark_absent(3, [4, 5])
    session.remove(Point(3, 3, (40, 40)))  # it is gone
    refused(session, lambda: session.link(1, [3]), "there is no object 3")


def test_no_prompt_contradicts_a_link(parent_and_daughters):
    session = parent_and_daughters
    session.link(1, [2, 3])
    refused(session, lambda: session.add(Point(4, 1, (30, 30))), "object 2 would begin on frame 3, but its")
    refused(session, lambda: session.add(Point(1, 3, (40, 40))), "object 3 would begin on frame 1, but its")
    refused(
        session,
        lambda: session.replace(Point(3, 2, (20, 20)), Point(2, 2, (20, 20))),
        "object 2 would begin on frame 2",
    )
    session.add(Point(4, 2, (21, 21)), Point(1, 1, (30, 31)))


def test_relatives_are_not_followed_to_each_others_frames(parent_and_daughters):
    session = parent_and_daughters
    session.add(Point(5, 4, (10, 10)))
    session.link(1, [2, 3])
    assert session.work_left("both", objects=[1, 2, 3]) == 0
    assert run(session, objects=[1, 2, 3]) == []
    assert session.work_left("both", objects=[1, 2, 3], restart=True) == 2 + 2 + 2
    updates = run(session, objects=[1, 2, 3], restart=True)
    assert {i: sorted(f for f, j in updates if j == i) for i in (1, 2, 3)} == {
        1: [1, 2],
        2: [4, 5],
        3: [4, 5],
    }
    assert session.stale_frames(1) == session.stale_frames(2) == ()
    session.unlink(2)
    session.unlink(3)
    assert session.work_left("both", objects=[1, 2, 3]) == 3 + 3 + 3


# Swapping


@pytest.fixture
def pair(discs, stack):
    with Session(stack, random_model()) as session:
        session.add(Point(0, 1, (15, 15)), Point(0, 2, (45, 40)))
        run(session)
        session.add(Point(4, 2, (46, 44)))
        run(session)
        session.rename(1, "one")
        yield session


def test_swapped_objects_exchange_results_and_prompts(pair, tmp_path):
    session = pair
    one, two = masks(session, 1), masks(session, 2)
    there_and_back(session, lambda: session.swap(1, 2, 3), "swap")
    assert same_masks(masks(session, 1), {f: (one if f < 3 else two)[f] for f in one})
    assert same_masks(masks(session, 2), {f: (two if f < 3 else one)[f] for f in one})
    assert session.names == {1: "one"}
    points = [p for p in session.prompts if isinstance(p, Point)]
    assert points == [Point(0, 1, (15, 15)), Point(4, 1, (46, 44)), Point(0, 2, (45, 40))]
    anchors = {(p.object_id, p.frame) for p in session.prompts if isinstance(p, Mask)}
    assert anchors == {(1, 3), (2, 3)}
    # Masks hold: nothing is to be computed, and computing anew starts from what was said at the cut.
    assert session.stale_frames(1) == session.stale_frames(2) == ()
    assert run(session) == []
    run(session, restart=True)
    assert np.array_equal(session.mask(1, 3), two[3])
    same_when_replayed(session, tmp_path)


def test_nothing_counts_as_coming_from_across_a_cut(pair):
    session = pair
    session.swap(1, 2, 3)
    session.add(Point(1, 1, (16, 16)))
    assert session.stale_frames(1) == (2,)
    assert session.stale_frames(2) == ()


def test_what_is_stale_or_locked_stays_so(pair):
    session = pair
    session.lock(1, [5])
    session.add(Point(1, 2, (44, 44)))
    stale = session.stale_frames(2)
    assert {2, 3} <= set(stale)
    session.swap(1, 2, 3)
    assert session.locked_frames(2) == (5,)
    assert session.stale_frames(1) == tuple(f for f in stale if f > 3)  # frame 3 is a prompt now
    assert session.stale_frames(2) == tuple(f for f in stale if f < 3)


def test_a_mask_at_the_cut_can_be_taken_back(pair):
    session = pair
    session.swap(1, 2, 3)
    (mask,) = [p for p in session.prompts if isinstance(p, Mask) and p.object_id == 1]
    there_and_back(session, lambda: session.remove(mask), "remove")
    assert 3 in session.stale_frames(1)
    run(session)


def test_what_cannot_be_swapped_is_refused(discs, stack):
    with Session(stack, random_model()) as session:
        session.add(Point(0, 1, (15, 15)), Point(3, 2, (45, 40)), Point(0, 3, (45, 15)))
        run(session, "forward", last=2)
        run(session, "forward", objects=[2])
        for a, b, frame, match in (
            (1, 1, 2, "object 1 cannot be swapped with itself"),
            (1, 9, 2, "there is no object 9"),
            (1, 2, 6, "frame 6 is outside the stack"),
            (1, 3, 4, "neither object 1 nor 3 is seen from frame 4 on; choose an earlier frame"),
            (1, 2, 3, r"nothing would be left of object 2: it begins on frame 3.*join\(1, 2\)"),
            (2, 1, 3, r"nothing would be left of object 2: it begins on frame 3.*join\(1, 2\)"),
        ):
            refused(session, lambda a=a, b=b, f=frame: session.swap(a, b, f), match)
        session.link(1, [2])
        refused(session, lambda: session.swap(3, 2, 2), "object 3 would begin on frame 0, but its parent 1")


def test_daughters_go_with_the_end_of_their_parent(parent_and_daughters):
    session = parent_and_daughters
    session.link(1, [2, 3])
    session.add(Point(0, 4, (50, 10)))
    run(session, objects=[4], last=2)
    session.swap(1, 4, 1)
    assert sorted(session.lineage.edges) == [(4, 2), (4, 3)]
    session.swap(2, 3, 3)  # from their first frames on, both wholly
    assert sorted(session.lineage.edges) == [(4, 2), (4, 3)]
    assert session.split_track(4, 2) == 5
    assert sorted(session.lineage.edges) == [(5, 2), (5, 3)]


# Cutting and joining


def test_a_track_is_cut_in_two(pair, tmp_path):
    session = pair
    session.remove_object(1)
    two = masks(session, 2)
    session.reject_division(2, 5)
    assert there_and_back(session, lambda: session.split_track(2, 2), "split_track") == 3
    assert same_masks(masks(session, 2), {f: two[f] for f in (0, 1)})
    assert same_masks(masks(session, 3), {f: two[f] for f in (2, 3, 4, 5)})
    kinds = [(isinstance(p, Mask), p.frame, p.object_id) for p in session.prompts]
    assert kinds == [(False, 0, 2), (True, 2, 3), (False, 4, 3)]
    assert session.rejected_divisions == ((3, 5),)
    assert session.stale_frames(3) == ()
    same_when_replayed(session, tmp_path)
    session.link(2, [3])  # an object that goes on as another one
    assert run(session) == []


def test_a_track_that_was_followed_back_keeps_something_to_be_followed_from(discs, stack):
    with Session(stack, random_model()) as session:
        session.add(Point(5, 1, (30, 30)))
        run(session)
        assert session.split_track(1, 3) == 2
        assert [(p.frame, p.object_id) for p in session.prompts] == [(2, 1), (3, 2), (5, 2)]
        assert session.stale_frames(1) == session.stale_frames(2) == ()


def test_joining_undoes_a_cut(pair, tmp_path):
    session = pair
    before = masks(session, 2)
    session.rename(2, "two")
    new = session.split_track(2, 3)
    session.rename(new, "new")
    session.link(2, [new])
    there_and_back(session, lambda: session.join(2, new), "join")
    assert same_masks(masks(session, 2), before)
    assert session.names == {1: "one", 2: "two"}
    assert family(session) == ([], ())
    with pytest.raises(InputError, match=f"object {new} was removed"):
        session.add(Point(0, new, (4, 4)))
    same_when_replayed(session, tmp_path)


def test_a_gap_stays_and_can_be_filled(discs, stack, tmp_path):
    with Session(stack, random_model()) as session:
        session.add(Point(0, 1, (15, 15)), Point(5, 2, (20, 30)))
        run(session, "forward", last=1, objects=[1])
        run(session, "backward", first=4, objects=[2])
        session.mark_absent(1, [1])
        session.join(1, 2)
        assert session.frames_of(1) == (0, 1, 4, 5)
        assert sorted(set(run(session))) == [(2, 1), (3, 1)]
        same_when_replayed(session, tmp_path)


def test_what_cannot_be_joined_or_cut_is_refused(parent_and_daughters):
    session = parent_and_daughters
    session.link(1, [2, 3])
    session.add(Point(0, 4, (50, 50)))
    for first, second, match in (
        (1, 1, "object 1 cannot be joined with itself"),
        (1, 9, "there is no object 9"),
        (2, 1, r"object 1 is seen before 2; give the earlier one first: join\(1, 2\)"),
        (2, 3, r"3 from frame 3 on; for parts of one object use merge\(2, \[3\]\)"),
        (4, 2, "object 2 is the daughter of 1, not what 4 goes on as; unlink it first"),
        (1, 2, r"object 1 has daughters \[3\], so it ends there"),
    ):
        refused(session, lambda a=first, b=second: session.join(a, b), match)
    for object_id, frame, match in (
        (1, 0, "the track of object 1 cannot be cut on frame 0: it is seen from frame 0 to 2"),
        (1, 3, "cannot be cut on frame 3"),
        (9, 1, "there is no object 9"),
        (1, 99, "frame 99 is outside"),
    ):
        refused(session, lambda i=object_id, f=frame: session.split_track(i, f), match)


# Divisions


def test_a_division_makes_daughters_of_masks(discs, stack, tmp_path):
    with Session(stack, random_model()) as session:
        session.add(Point(0, 1, (30, 30)))
        run(session)
        left, right = square(25, 20, 8), square(25, 34, 8)
        ids = there_and_back(session, lambda: session.divide(1, 3, [left, right]), "divide")
        assert ids == (2, 3)
        assert session.frames_of(1) == (0, 1, 2)
        assert np.array_equal(session.mask(2, 3), left)
        assert np.array_equal(session.mask(3, 3), right)
        assert sorted(session.lineage.edges) == [(1, 2), (1, 3)]
        assert sorted(run(session)) == [(4, 2), (4, 3), (5, 2), (5, 3)]
        same_when_replayed(session, tmp_path)


def test_a_division_keeps_what_is_there(discs, stack, tmp_path):
    with Session(stack, random_model()) as session:
        session.add(Point(0, 1, (30, 30)), Point(4, 2, (30, 45)))
        run(session)
        assert session.frames_of(2) == (0, 1, 2, 3, 4, 5)  # followed back, it is its mother
        before = masks(session, 1), masks(session, 2)
        ids = there_and_back(session, lambda: session.divide(1, 3, [1, 2]), "divide")
        assert ids == (3, 2)
        assert same_masks(masks(session, 1), {f: before[0][f] for f in (0, 1, 2)})
        assert same_masks(masks(session, 3), {f: before[0][f] for f in (3, 4, 5)})
        assert same_masks(masks(session, 2), {f: before[1][f] for f in (3, 4, 5)})
        assert session.stale_frames(3) == ()
        same_when_replayed(session, tmp_path)


def test_what_cannot_divide_is_refused(parent_and_daughters):
    session = parent_and_daughters
    mask = square(5, 5)
    session.add(Point(0, 4, (50, 50)))
    run(session, objects=[4])
    session.add(Point(4, 4, (52, 50)))
    for parent, frame, daughters, match in (
        (1, 3, [2], "object 1 divides into at least two daughters, and each counts once; 1 given"),
        (1, 3, [2, 2], "each counts once"),
        (1, 3, 2, "daughters is 2; give several masks or object ids"),
        (1, 3, [2, 9], "there is no object 9"),
        (1, 3, [2, mask[:5]], r"mask has shape \(5, 64\)"),
        (1, 3, [2, mask & False], "is empty"),
        (1, 0, [2, 3], "object 1 cannot divide on frame 0: it begins on frame 0"),
        (4, 3, [mask, mask], r"object 4 has prompts on frames \[4\].*give 4 as one of the daughters"),
        (4, 5, [mask, 3], "object 3 would begin on frame 3, but its parent 4 is seen until frame 4"),
    ):
        refused(session, lambda p=parent, f=frame, d=daughters: session.divide(p, f, d), match)
    session.divide(1, 3, [2, 3])
    refused(session, lambda: session.divide(1, 2, [mask, mask]), r"object 1 has daughters \[2, 3\] already")
    refused(session, lambda: session.divide(4, 3, [4, 2]), "object 2 is the daughter of 1 already")


def test_a_preview_changes_nothing(discs, stack):
    with Session(stack, random_model()) as session:
        session.add(Point(0, 1, (30, 30)))
        before = everything(session)
        found = session.preview(Point(2, 5, (20, 20)), Point(2, 5, (30, 30), positive=False))
        assert everything(session) == before
        session.add(Point(2, 2, (20, 20)), Point(2, 2, (30, 30), positive=False))
        assert np.array_equal(session.mask(2, 2), found.full_mask(SHAPE))
        refused(session, session.preview, "no prompt was given")
        two = Point(0, 1, (3, 3)), Point(1, 1, (3, 3))
        refused(session, lambda: session.preview(*two), r"the prompts are on frames \[0, 1\]")


# Whatever is done in whatever order

STACK = small_stack(n_frames=5, side=24)
ids, frames = st.integers(1, 4), st.integers(0, 4)
steps = st.one_of(
    st.tuples(st.just("swap"), ids, ids, frames),
    st.tuples(st.just("split_track"), ids, frames),
    st.tuples(st.just("join"), ids, ids),
    st.tuples(st.just("link"), ids, st.lists(ids, min_size=1, max_size=2)),
    st.tuples(st.just("unlink"), ids),
    st.tuples(st.just("divide"), ids, frames, st.lists(ids, min_size=2, max_size=2)),
    st.tuples(st.just("add"), ids, frames),
    st.tuples(st.just("mark_absent"), ids, st.lists(frames, max_size=1)),
    st.tuples(st.just("propagate"), ids),
)


def consistent(session):
    lineage = session.lineage
    assert nx.is_directed_acyclic_graph(lineage)
    assert all(degree <= 1 for _, degree in lineage.in_degree)
    assert set(lineage.nodes) == set(session.object_ids)
    for parent, daughter in lineage.edges:
        above, below = masks(session, parent), masks(session, daughter)
        assert not above or not below or max(above) < min(below)
    for object_id in session.object_ids:
        assert session.frames_of(object_id)
        for row in rows(session, object_id).values():
            assert row[0] == object_id
    labels(session)


@settings(max_examples=10)
@given(st.lists(steps, max_size=8))
def test_links_and_results_fit_whatever_is_done(steps):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stacksam.session.session.Predictor", DiscPredictor)
        with Session(STACK, random_model()) as session:
            session.add(Point(0, 1, (6, 6)), Point(0, 2, (16, 16)), Point(2, 3, (6, 16)))
            run(session, "forward")
            seen = [everything(session)]
            for name, *arguments in steps:
                count = len(session.history)
                try:
                    if name == "add":
                        session.add(Point(arguments[1], arguments[0], (12, 12)))
                    elif name == "propagate":
                        run(session, objects=arguments)
                    else:
                        getattr(session, name)(*arguments)
                except InputError:
                    assert everything(session) == seen[-1]
                if len(session.history) > count:
                    seen.append(everything(session))
                consistent(session)
            done = [session.undo() for _ in seen[1:]]
            assert everything(session) == seen[0]
            for name, later in zip(done[::-1], seen[1:], strict=True):
                assert session.redo() == name
                assert everything(session) == later
