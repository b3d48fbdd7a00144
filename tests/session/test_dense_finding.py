"""Tiles cover what is searched, votes meet in centres, and what nano finds on a sample is what is there."""

from contextlib import nullcontext

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stacksam import load_model, open_stack
from stacksam.session.canvas import PITCHES
from stacksam.session.dense_finding import DenseFinder, _ladder, _tiles, _votes, pitch_of, size_of
from stacksam.session.encoder import Encoder
from stacksam.session.settings import Settings


@given(
    shape=st.tuples(st.integers(20, 3000), st.integers(20, 3000)),
    pitch=st.sampled_from([2, 5, 16, 64]),
    corner=st.tuples(st.floats(0, 0.9), st.floats(0, 0.9)),
    extent=st.tuples(st.floats(0.05, 1), st.floats(0.05, 1)),
)
def test_every_pixel_is_in_the_core_of_one_tile_and_its_window_in_that_tile(shape, pitch, corner, extent):
    start = [int(c * s) for c, s in zip(corner, shape, strict=True)]
    stop = [min(s, a + max(1, int(e * s))) for a, e, s in zip(start, extent, shape, strict=True)]
    region = (*start, *stop)
    tiles = list(_tiles(shape, region, pitch, 16))

    area = 0
    for tile in tiles:
        (y0, x0, y1, x1), view = tile.core, tile.view
        area += max(0, y1 - y0) * max(0, x1 - x0)
        assert view.size == 16 * view.height // pitch <= 1024
        assert view.size % 32 == 0
        for low, high, begin, end, size in (
            (y0, y1, view.y, view.y + view.height, shape[0]),
            (x0, x1, view.x, view.x + view.width, shape[1]),
        ):
            assert begin <= max(low - 7 * pitch, 0)
            assert end >= min(high + 7 * pitch, size)
    assert area == (stop[0] - start[0]) * (stop[1] - start[1])
    corners = {tile.core for tile in tiles}
    assert len(corners) == len(tiles)


def test_a_pitch_suits_the_size_that_it_is_for():
    for pitch in PITCHES:
        assert pitch_of(size_of(pitch)) == pitch
    ladder = _ladder((300, 700))
    assert ladder == sorted(ladder)
    assert ladder[0] == 2
    assert ladder[-1] * 16 <= 1.25 * 700
    assert _ladder((16, 16)) == [2]


def test_votes_meet_in_the_centre_and_only_those_of_objects_count():
    y, x = np.mgrid[:30, :40]
    inside = (y - 12) ** 2 + (x - 25) ** 2 <= 36
    offsets = np.stack([12 - y, 25 - x]) / 8
    votes = _votes(inside * 0.8, offsets)
    assert np.unravel_index(votes.argmax(), votes.shape) == (12, 25)
    assert votes.sum() == pytest.approx(0.8 * inside.sum(), rel=1e-3)
    assert not _votes(np.full((30, 40), 0.01), offsets).any()


def finder(frame, model):
    stack = open_stack(frame[None], axes="tyx")
    return DenseFinder(model, stack, Encoder(model, stack, Settings()), nullcontext)


def discs(places, radius=9, shape=(96, 128)):
    y, x = np.mgrid[: shape[0], : shape[1]]
    frame = np.random.default_rng(0).normal(20, 2, shape)
    for cy, cx in places:
        frame[(y - cy) ** 2 + (x - cx) ** 2 <= radius**2] += 100
    return frame.astype(np.float32)


PLACES = [(20, 20), (25, 60), (70, 30), (68, 100)]


def test_nano_finds_discs():
    looking = finder(discs(PLACES), load_model(dtype="float32"))
    found = looking.find(0, (0, 0, 96, 128), pitch_of(18), 0.65)
    assert len(found) == len(PLACES)
    for y, x in PLACES:
        near = [p for p in found if np.hypot(p.centre[0] - y, p.centre[1] - x) < 2]
        assert len(near) == 1
        assert 0.8 < near[0].area / (np.pi * 9.5**2) < 1.25


@pytest.mark.slow
def test_the_scale_of_discs_is_found():
    looking = finder(discs(PLACES), load_model(dtype="float32"))
    pitch = looking.best_pitch(0, (0, 0, 96, 128), 0.65)
    assert 0.6 < size_of(pitch) / 19 < 1.7


def test_nothing_is_found_where_there_is_nothing():
    looking = finder(np.zeros((64, 64), np.float32), load_model(dtype="float32"))
    assert looking.find(0, (0, 0, 64, 64), 4, 0.65) == []
