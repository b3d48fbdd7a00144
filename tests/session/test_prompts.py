"""Prompts survive being written down; rules of what was said together."""

from __future__ import annotations

import json
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from stacksam.errors import SessionFileError
from stacksam.session.actions import Group, Said, grouped, prompts_from_json, prompts_to_json
from stacksam.session.prompts import (
    Box,
    Mask,
    Point,
    check_prompt,
    prompt_from_json,
    prompt_to_json,
)

SHAPE = (13, 21)
frames, ids = st.integers(0, 9), st.integers(1, 2**31 - 1)
ys, xs = st.floats(0, SHAPE[0] - 1), st.floats(0, SHAPE[1] - 1)
points = st.builds(Point, frames, ids, st.tuples(ys, xs), st.booleans())
corners = st.tuples(ys, xs, ys, xs).filter(lambda c: c[0] != c[2] and c[1] != c[3])
boxes = st.builds(
    lambda f, i, c: Box(f, i, (min(c[0], c[2]), min(c[1], c[3]), max(c[0], c[2]), max(c[1], c[3]))),
    frames,
    ids,
    corners,
)
masks = st.builds(Mask, frames, ids, hnp.arrays(bool, SHAPE).filter(np.any))
prompts = points | boxes | masks


@given(prompts)
def test_prompts_are_written_and_read(prompt):
    written = json.loads(json.dumps(prompt_to_json(prompt)))
    assert prompt_from_json(written, prompt.frame, prompt.object_id) == prompt
    assert prompts_from_json(json.loads(json.dumps(prompts_to_json([prompt])))) == [prompt]


@given(prompts)
def test_a_good_prompt_passes_unchanged(prompt):
    assert check_prompt(prompt, 10, SHAPE) == prompt
    assert hash(check_prompt(prompt, 10, SHAPE)) == hash(prompt)


@pytest.mark.parametrize(
    "data",
    [
        {}, {"point": [1]}, {"point": [1, 2]}, {"box": [1, 2, 3]}, {"mask": "", "shape": [1, 1]}, {"mask": 3},
        5, None,
    ],
)  # fmt: skip
def test_what_is_no_prompt_is_told_of(data):
    with pytest.raises(SessionFileError, match="a prompt of object 3 on frame 2 cannot be read"):
        prompt_from_json(data, 2, 3)


same_place = st.lists(
    st.builds(Point, st.just(0), st.just(1), st.tuples(st.just(1.0), st.sampled_from([1.0, 2.0])))
    | st.builds(Mask, st.just(0), st.just(1), hnp.arrays(bool, (2, 2)).filter(np.any)),
    min_size=1,
    max_size=5,
)


@given(same_place)
def test_a_mask_is_answered_by_itself(given_together):
    groups = grouped(given_together)
    assert [p for group in groups for p in group.prompts] == given_together
    assert all(len(g.prompts) == 1 for g in groups if any(isinstance(p, Mask) for p in g.prompts))
    assert len(groups) <= 2 * sum(isinstance(p, Mask) for p in given_together) + 1


@given(st.lists(same_place, min_size=1, max_size=4), st.data())
def test_what_was_said_is_written_read_and_taken_back(turns, data):
    said = Said(
        tuple(Group(g.prompts, data.draw(st.none() | st.integers(0, 2))) for t in turns for g in grouped(t))
    )
    flat = [p for turn in turns for p in turn]
    masks = [i for i, p in enumerate(flat) if isinstance(p, Mask)]
    assert said.prompts() == flat[masks[-1] if masks else 0 :]
    assert Said.from_json(json.loads(json.dumps(said.to_json())), 0, 1) == said
    prompt = data.draw(st.sampled_from(flat))
    left = [p for group in said.without(prompt).groups for p in group.prompts]
    newest = max(i for i, p in enumerate(flat) if p == prompt)
    assert left == flat[:newest] + flat[newest + 1 :]
    assert all(group.prompts for group in said.without(prompt).groups)
    assert said.without(Point(0, 1, (9.0, 9.0))) is None


@pytest.mark.parametrize("data", [3, [3], [[1]], [[[{}], None]], [[3, None]], None])
def test_what_was_not_said_is_told_of(data):
    with pytest.raises(SessionFileError, match="object 3 on frame 2 cannot be read"):
        Said.from_json(data, 2, 3)


@given(hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=30)).filter(lambda m: m.any()))
def test_a_mask_in_a_session_is_equal_and_holds_no_more_than_its_box(painted):
    given_ = Mask(0, 1, painted)
    kept = check_prompt(given_, 1, painted.shape)
    assert kept == given_
    assert given_ == kept
    assert hash(kept) == hash(given_)
    np.testing.assert_array_equal(kept.mask, painted)
    assert not kept.mask.flags.writeable
    again = prompt_from_json(prompt_to_json(kept), 0, 1)
    assert again == kept
    moved = replace(kept, object_id=2)
    assert (moved.object_id, moved != kept) == (2, True)
    np.testing.assert_array_equal(moved.mask, painted)
    painted[...] = False  # what the caller does with the array later is no matter
    assert kept.mask.any()


def test_hundreds_of_masks_take_little_memory():
    whole = np.zeros((2000, 2000), bool)
    whole[900:920, 1000:1030] = True
    tracemalloc.start()
    kept = [check_prompt(Mask(0, i + 1, whole), 1, whole.shape) for i in range(50)]
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(kept) == 50
    assert taken < 2 * whole.nbytes  # in all; frames would take 50 times that
