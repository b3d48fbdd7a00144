"""Records survive being written, byte for byte; labels are composed from them; features stay in bounds."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from stacksam.network.sam2 import Features
from stacksam.session.boxes import bbox_of
from stacksam.session.canvas import View
from stacksam.session.compose import compose, fill_small_holes
from stacksam.session.feature_cache import FeatureCache
from stacksam.session.records import COLUMNS, Record, from_row, to_row
from stacksam.session.results import ResultStore
from stacksam.session.update import Update

SHAPE = (12, 15)
WHOLE = (0, 0, 40, 40)
logits = hnp.arrays(np.float16, (4, 4), elements=st.floats(-30, 30, width=16))


@st.composite
def records(draw, object_id=3, frame=5):
    full = draw(hnp.arrays(bool, SHAPE, fill=st.just(False)))
    y0, x0, y1, x1 = bbox_of(full)
    return Record(
        object_id,
        frame,
        View(draw(st.integers(-9, 9)), draw(st.integers(-9, 9)), 16, 16, 16, draw(st.booleans())),
        draw(logits),
        draw(hnp.arrays(np.float32, 3, elements=st.floats(-9, 9, width=32))),
        draw(st.floats(-32, 32)),
        draw(st.floats(0, 1)),
        (y0, x0, y1, x1),
        full[y0:y1, x0:x1],
        *(draw(st.booleans()) for _ in range(3)),
        draw(st.sampled_from([-1, 0, 1])),
        tuple(draw(st.lists(st.integers(0, 99), max_size=5))),
    )


def same(one, other):
    for field in fields(Record):
        mine, theirs = getattr(one, field.name), getattr(other, field.name)
        if isinstance(mine, np.ndarray):
            assert mine.dtype == theirs.dtype
            assert mine.shape == theirs.shape
            assert mine.tobytes() == theirs.tobytes()
        else:
            assert mine == theirs


@given(records())
def test_a_record_is_written_and_read(record):
    row = to_row(record)
    assert len(row) == len(COLUMNS)
    same(from_row(row), record)
    assert to_row(from_row(row)) == row
    update = Update.of(record)
    assert update.full_mask(SHAPE).sum() == record.mask.sum()
    assert bbox_of(update.full_mask(SHAPE)) == record.bbox


@given(data=st.data())
def test_the_store_keeps_what_actions_replaced(tmp_path_factory, data):
    """Put, flag and delete in some order, in several actions; exchange them back, and forth, and back."""
    store = ResultStore(tmp_path_factory.mktemp("store"))

    def content():
        return store._all("SELECT * FROM records ORDER BY 1, 2"), store._all(
            "SELECT * FROM bases ORDER BY 1, 2"
        )

    ids, frames = st.integers(1, 2), st.integers(0, 2)
    before = [content()]
    for number in range(1, data.draw(st.integers(1, 4)) + 1):
        assert store.begin_action(50) == number
        for _ in range(data.draw(st.integers(0, 4))):
            kind = data.draw(st.sampled_from(["put", "flag", "delete", "base"]))
            object_id, frame = data.draw(ids), data.draw(frames)
            if kind == "put":
                store.put([data.draw(records(object_id, frame))], number)
            elif kind == "flag":
                store.flag(object_id, [frame], number, stale=data.draw(st.booleans()), locked=True)
            elif kind == "base":
                store.set_base(object_id, frame, number)
            else:
                store.delete(object_id, [frame], number)
        store.write_action(number, {"do": "test"}, {})
        before.append(content())
    for _ in range(2):
        for number in reversed(range(1, len(before))):
            assert content() == before[number]
            store.exchange(number)
            assert content() == before[number - 1]
        for number in range(1, len(before)):
            store.exchange(number)
            assert content() == before[number]
    store.close()


def test_a_transaction_is_all_or_nothing_also_when_nested(tmp_path):
    store = ResultStore(tmp_path)

    def write(fail):
        with store.transaction():
            store.set_meta("one", 1)
            with store.transaction():
                store.set_meta("two", [2])
            assert store.meta("two") == [2]
            if fail:
                raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        write(fail=True)
    assert (store.meta("one"), store.meta("two")) == (None, None)
    write(fail=False)
    assert (store.meta("one"), store.meta("two")) == (1, [2])
    store.close()


# Composing


def disc(object_id, yx, radius, height, shape=(40, 40)):
    """A disc whose logits fall from `height` at its middle."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    values = height * (1 - np.hypot(rows - yx[0], columns - yx[1]) / radius)
    view = View(0, 0, *shape, 40)
    small = values.astype(np.float16)
    bbox, mask = view.mask(small.astype(np.float32), shape)
    return Record(object_id, 0, view, small, np.zeros(1, np.float32), 1.0, 1.0, bbox, mask)


@given(
    st.lists(
        st.tuples(st.integers(5, 35), st.integers(5, 35), st.integers(3, 15), st.integers(1, 20)), max_size=5
    )
)
def test_the_more_certain_mask_wins_each_pixel(discs_):
    found = [disc(i + 1, (y, x), radius, height) for i, (y, x, radius, height) in enumerate(discs_)]
    best = np.zeros((40, 40))
    expected = np.zeros((40, 40), int)
    for record in found:
        values = np.where(Update.of(record).full_mask((40, 40)), record.logits.astype(float), 0)
        expected[values > best] = record.object_id
        best = np.maximum(best, values)
    for order in (found, found[::-1]):
        np.testing.assert_array_equal(compose(order, WHOLE), expected)


@given(
    st.lists(st.tuples(st.integers(5, 35), st.integers(5, 35), st.integers(3, 15)), min_size=1, max_size=4),
    st.tuples(*[st.integers(0, 40)] * 4),
)
def test_a_part_of_a_frame_is_composed_as_in_the_whole(discs_, corners):
    found = [disc(i + 1, (y, x), radius, 5 + i) for i, (y, x, radius) in enumerate(discs_)]
    (y0, y1), (x0, x1) = sorted(corners[:2]), sorted(corners[2:])
    part = compose(found, (y0, x0, y1, x1))
    np.testing.assert_array_equal(part, compose(found, WHOLE)[y0:y1, x0:x1])


def test_of_equal_masks_the_lower_object_id_wins():
    twins = [disc(7, (20, 20), 9, 5), disc(3, (20, 20), 9, 5)]
    assert set(np.unique(compose(twins, WHOLE))) == {0, 3}


def test_nothing_composes_to_nothing():
    assert compose([], (1, 2, 5, 7)).shape == (4, 5)
    empty = replace(disc(1, (20, 20), 5, 5), bbox=(0, 0, 0, 0), mask=np.zeros((0, 0), bool))
    assert not compose([empty], WHOLE).any()


@given(hnp.arrays(bool, (9, 9)), st.integers(0, 6))
def test_small_holes_are_filled_and_nothing_else(mask, largest):
    filled = fill_small_holes(mask, largest)
    holes, count = ndimage.label(np.pad(~mask, 1, constant_values=True))
    expected = mask.copy()
    for number in range(1, count + 1):
        hole = (holes == number)[1:-1, 1:-1]
        if number != holes[0, 0] and hole.sum() <= largest:
            expected |= hole
    assert np.array_equal(filled, expected)


# Keeping features


def features(n):
    return Features(*(torch.zeros(n, dtype=torch.float32) for _ in range(3)))


def test_the_least_recently_used_features_go_first():
    cache = FeatureCache(3 * 3 * 4 * 10)
    for key in "abc":
        cache.put(key, features(10))
    assert cache.get("a") is not None
    cache.put("d", features(10))
    assert [key for key in "abcd" if cache.get(key)] == ["a", "c", "d"]
    assert cache.bytes == 3 * 3 * 4 * 10
    cache.put("e", features(20))
    assert [key for key in "acde" if cache.get(key)] == ["d", "e"]
    cache.put("e", features(10))  # in place of the other
    assert cache.bytes == 2 * 3 * 4 * 10
    cache.put("huge", features(1000))
    assert cache.get("huge") is None
    assert cache.get("d") is not None
    cache.clear()
    assert (cache.bytes, cache.get("d")) == (0, None)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 40)), max_size=30), st.integers(0, 500))
def test_features_stay_within_their_bound(puts, bound):
    cache = FeatureCache(bound)
    for key, size in puts:
        cache.put(key, features(size))
        kept = [cache.get(k) for k in range(6)]
        assert cache.bytes == sum(3 * 4 * len(f.top) for f in kept if f is not None) <= bound
