"""A draft reads as the store does once the draft is written; until then the store knows nothing of it."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stacksam.session.actions import Group, Said, Told
from stacksam.session.canvas import View
from stacksam.session.draft import Draft
from stacksam.session.prompts import Point
from stacksam.session.records import Record, to_row
from stacksam.session.results import ResultStore

FRAMES = range(4)
ids, frames = st.integers(1, 2), st.sampled_from(FRAMES)


@st.composite
def records(draw):
    flags = draw(st.sampled_from([(1, 0, 0), (0, 1, 0), (0, 0, 0), (0, 0, 1)]))
    return Record(
        draw(ids),
        draw(frames),
        View(0, 0, 8, 8, 4),
        np.full((4, 4), draw(st.integers(-9, 9)), np.float16),
        np.zeros(2, np.float32),
        1.0,
        0.5,
        (1, 2, 3, 4),
        np.full((2, 2), draw(st.booleans())),
        *map(bool, flags),
        sources=tuple(draw(st.lists(frames, max_size=3))),
    )


writes = st.one_of(
    st.tuples(st.just("put"), st.lists(records(), min_size=1, max_size=2)),
    st.tuples(st.just("delete"), ids, st.lists(frames, max_size=2)),
    st.tuples(st.just("flag"), ids, st.lists(frames, max_size=3), st.sampled_from(["stale", "locked"])),
    st.tuples(st.just("set_base"), ids, frames),
    st.tuples(st.just("set_said"), ids, frames, st.sampled_from([None, 3.0, 4.0])),
    st.tuples(st.just("set_name"), ids, st.sampled_from([None, "a", "b"])),
    st.tuples(st.just("set_removed"), ids, st.booleans()),
    st.tuples(st.just("set_parent"), ids, st.sampled_from([None, 1, 2])),
    st.tuples(st.just("set_rejected"), ids, frames, st.booleans()),
    st.tuples(st.just("renumber"), st.sampled_from([{1: 2, 2: 1}, {1: 2}, {2: 1}]), frames),
)


def do(draft, write):
    name, *arguments = write
    if name == "flag":
        object_id, which, flag = arguments
        draft.flag(object_id, which, **{flag: True})
    elif name == "set_said":
        object_id, frame, y = arguments
        said = None if y is None else Said((Group((Point(frame, object_id, (y, 1.0)),)),))
        draft.set_said(object_id, frame, said)
    else:
        getattr(draft, name)(*arguments)


def seen(source):
    def row(record):
        return None if record is None else to_row(record)

    return {
        i: (
            [row(source.get(i, f)) for f in FRAMES],
            [row(source.base(i, f)) for f in FRAMES],
            source.propagated(i, 1, 3),
        )
        for i in (1, 2)
    }


@given(st.lists(writes, max_size=8), st.lists(writes, max_size=8))
def test_a_draft_reads_as_the_store_does_after_it(tmp_path_factory, first, second):
    store = ResultStore(tmp_path_factory.mktemp("store"))
    for number, some in enumerate((first, second), start=1):
        told, before = Told.from_state(store.state()), seen(store)
        draft = Draft(store, told)
        for write in some:
            do(draft, write)
        assert seen(store) == before
        with store.transaction():
            draft.write(store.begin_action(50))
            store.write_action(number, {"do": "test"}, draft.changed)
        after = Draft(store, Told.from_state(store.state()))
        assert seen(draft) == seen(store) == seen(after)
        assert draft.told == after.told
        for i in (1, 2):
            for read in ("records", "locked", "settled", "stale", "seen", "sources"):
                mine, theirs = getattr(draft, read)(i), getattr(after, read)(i)
                assert dict.fromkeys(mine) == dict.fromkeys(theirs)
                if read == "sources":
                    assert {f: list(v) for f, v in mine.items()} == theirs
            assert draft.records(i) == store.frames(i)
        # The entries of the state that changed, and no others, go back to what they were.
        store.exchange(number)
        assert seen(store) == before
        for key, (earlier, _) in draft.changed.items():
            store.set_state(key, earlier)
        assert Told.from_state(store.state()) == told
        store.exchange(number)
        for key, (_, later) in draft.changed.items():
            store.set_state(key, later)
    store.close()
