"""Windows that lie together are cut from one tile; what an object sees stays what and where it was."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from random_model import random_model, small_stack

from stacksam.session.canvas import PITCHES, View, nearest_pitch, window_view
from stacksam.session.encoder import Encoder
from stacksam.session.prompts import Mask, Point
from stacksam.session.session import Session
from stacksam.session.settings import Settings
from stacksam.session.stack import open_stack
from stacksam.session.tiles import shared

SIZE = 256


@st.composite
def crowds(draw):
    shape = draw(st.tuples(st.integers(40, 2000), st.integers(40, 2000)))
    places = st.tuples(st.floats(0, shape[0] - 1), st.floats(0, shape[1] - 1), st.floats(20, 400))
    return shape, [
        window_view((y, x), side, shape, SIZE) for y, x, side in draw(st.lists(places, max_size=40))
    ]


@given(crowds())
def test_every_window_shows_what_it_showed_alone(crowd):
    shape, views = crowd
    for view, given_ in zip(shared(views, shape), views, strict=True):
        assert view.alone == given_
        assert view.span == (given_.y, given_.x, given_.height, given_.width)
        assert view.tokens == given_.tokens
        assert view.size * given_.height == view.height * given_.size  # the scale is the same


@given(crowds())
def test_sharing_never_encodes_more(crowd):
    shape, views = crowd
    area = sum(view.size**2 for view in {view.canvas for view in shared(views, shape)})
    assert area <= sum(view.size**2 for view in set(views))


def test_one_object_sees_its_own_picture_and_a_crowd_a_tile():
    shape = (512, 512)
    alone = window_view((250.0, 250.0), 200, shape, SIZE)
    assert shared([alone], shape) == [alone]
    crowd = [window_view((y, x), 200, shape, SIZE) for y in range(20, 500, 60) for x in range(20, 500, 60)]
    (tile,) = {view.canvas for view in shared(crowd, shape)}
    assert (tile.y, tile.x) == (0, 0)
    assert tile.height >= 512


@given(st.floats(1, 400), st.sampled_from(PITCHES))
def test_the_pitch_of_an_object_that_is_followed_changes_step_by_step(wanted, present):
    pitch = nearest_pitch(wanted, present)
    assert abs(PITCHES.index(pitch) - PITCHES.index(present)) <= 1
    if max(wanted / present, present / wanted) < 1.19:
        assert pitch == present
    assert nearest_pitch(wanted, nearest_pitch(wanted)) == nearest_pitch(wanted) or wanted < 2 or wanted > 256


def test_features_of_a_window_are_cut_from_its_tile():
    model = random_model(windowed=True)
    side = model.config.image_size
    stack = open_stack(np.random.default_rng(0).integers(0, 255, (1, 64, 64), np.uint8), axes="tyx")
    encoder = Encoder(model, stack, Settings())
    tokens = side // 16
    places = range(0, 12, 2)
    views = [View(4 * r, 4 * c, 4 * tokens, 4 * tokens, side) for r in places for c in places]
    crowd = shared(views, stack.frame_shape)
    found = encoder.features(0, crowd)
    assert encoder.count == 1
    whole = encoder.features(0, [crowd[0].canvas])
    for row, view in enumerate(crowd):
        own = whole.cut([view.window])
        for level, wanted in zip(found, own, strict=True):
            torch.testing.assert_close(level[row : row + 1], wanted)


def test_memories_of_a_crowd_are_rebuilt_as_they_were():
    """A record tells the tile that it was seen in, so that what is followed alone later sees the same."""
    model, stack = random_model(windowed=True), small_stack()
    with Session(stack, model) as session:
        height, width = stack.frame_shape
        for i in range(12):
            session.add(Point(0, i + 1, (height * (0.2 + 0.05 * i), width * 0.5)))
        list(session.propagate("forward", last=2))
        predictor = session._predictor
        records = [session._store.get(i + 1, 2) for i in range(12)]
        before = [predictor.bank.get(r.object_id, 2).spatial.clone() for r in records]
        predictor.bank.clear()
        predictor._encoder.cache.clear()
        for record, memory in zip(records, before, strict=True):
            predictor.remember([record])
            now = predictor.bank.get(record.object_id, 2).spatial
            torch.testing.assert_close(now, memory, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("count", [1, 30])
def test_a_frame_is_encoded_once_for_a_crowd(count):
    model = random_model(windowed=True)
    side = model.config.image_size
    shape = (side, side)
    stack = open_stack(np.random.default_rng(0).integers(0, 255, (3, *shape), np.uint8), axes="tyx")
    with Session(stack, model) as session:
        rng = np.random.default_rng(1)
        masks = []
        for _ in range(count):
            mask = np.zeros(shape, bool)
            y, x = rng.integers(0, side - 6, 2)
            mask[y : y + 6, x : x + 6] = True
            masks.append(mask)
        for i, mask in enumerate(masks):
            session.add(Mask(0, i + 1, mask))
        before = session._predictor.features_encoded
        list(session.propagate("forward", last=1))
        assert session._predictor.features_encoded - before <= max(count / 2, 1)
