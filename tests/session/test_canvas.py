"""Views put pixels where they belong: what the network sees at a place is what the frame has there."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image

from stacksam.session.boxes import bbox_of
from stacksam.session.canvas import PITCHES, View, object_size, whole_view, window_view

shapes = st.tuples(st.integers(20, 120), st.integers(20, 120))
sizes = st.sampled_from([32, 64])


@st.composite
def windows(draw, shape=None):
    """A frame shape and a window of it."""
    height, width = shape or draw(shapes)
    centre = draw(st.floats(0, height - 1)), draw(st.floats(0, width - 1))
    side = draw(st.floats(8, 200))
    return (height, width), window_view(centre, side, (height, width), draw(sizes)), centre, side


@given(windows())
def test_a_window_holds_its_centre_and_stays_in_the_frame_where_it_fits(drawn):
    (height, width), view, centre, side = drawn
    assert view.contains(centre)
    assert view.height == view.width <= max(height, width)
    pitch, odd = divmod(view.height, view.tokens)
    whole = view.height == max(height, width)
    assert whole or (not odd and pitch in PITCHES)
    if not whole and PITCHES[0] * view.tokens <= side:
        assert 1 / 1.25 <= view.height / side <= 1.25
    for start, extent in ((view.y, height), (view.x, width)):
        if view.height <= extent:  # on the grid, and over the end by less than a token
            assert whole or start % pitch == 0
            assert 0 <= start <= extent - view.height + (0 if whole else pitch - 1)
        else:  # all of it is seen, about in the middle
            assert start <= 0
            assert start + view.height >= extent
            assert abs((start + view.height - extent) + start) <= max(1, 0 if whole else 2 * pitch)
    y0, x0, y1, x1 = view.inside((height, width))
    assert 0 <= y0 < y1 <= height
    assert 0 <= x0 < x1 <= width


@given(windows(), st.data())
def test_points_land_where_their_pixel_is_shown(drawn, data):
    (height, width), view, _, _ = drawn
    y0, x0, y1, x1 = view.inside((height, width))
    y, x = data.draw(st.integers(y0, y1 - 1)), data.draw(st.integers(x0, x1 - 1))
    (px, py) = view.points(np.array([[y, x]], float))[0]
    assert -0.5 <= px <= view.size - 0.5
    assert -0.5 <= py <= view.size - 0.5
    # Pixel centres are at integers on both sides, and edges meet edges.
    assert py == pytest.approx((y - view.y + 0.5) * view.size / view.height - 0.5)
    assert px == pytest.approx((x - view.x + 0.5) * view.size / view.width - 0.5)
    marked = np.zeros((height, width, 3), np.float32)
    marked[y, x] = 1
    seen = view.cut(marked)[0].numpy()
    if view.height <= view.size:  # magnified: the brightest place is the point's
        weight = seen / seen.sum()
        assert (weight.sum(1) * np.arange(view.size)).sum() == pytest.approx(py, abs=1.0)
        assert (weight.sum(0) * np.arange(view.size)).sum() == pytest.approx(px, abs=1.0)


def test_the_official_points_are_those_of_the_official_predictor():
    view = whole_view((480, 640), 1024)
    (x, y) = view.points(np.array([[120.0, 320.0]]))[0]
    assert (x, y) == (320 / 640 * 1024, 120 / 480 * 1024)


@given(windows(), st.data())
def test_a_blob_of_logits_becomes_a_mask_at_its_place(drawn, data):
    (height, width), view, _, _ = drawn
    cells = 16
    y0, x0, y1, x1 = view.inside((height, width))
    y, x = data.draw(st.integers(y0, y1 - 1)), data.draw(st.integers(x0, x1 - 1))
    cell = view.height / cells
    cy, cx = (y - view.y + 0.5) / cell - 0.5, (x - view.x + 0.5) / cell - 0.5
    grid = np.arange(cells)
    logits = 3 - (grid[:, None] - cy) ** 2 - (grid[None] - cx) ** 2
    # Away from the border of the frame and of the grid, where a blob is cut off.
    margin = 3 * cell
    assume(y - margin > y0 and y + margin < y1 - 1 and x - margin > x0 and x + margin < x1 - 1)
    bbox, mask = view.mask(logits.astype(np.float32), (height, width))
    rows, columns = np.nonzero(mask)
    assert abs(rows.mean() + bbox[0] - y) <= cell / 2 + 0.5
    assert abs(columns.mean() + bbox[1] - x) <= cell / 2 + 0.5
    assert mask[y - bbox[0], x - bbox[1]]
    assert bbox_of(mask) == (0, 0, *mask.shape)


@given(windows(), st.integers(0, 2**32 - 1))
def test_a_mask_is_what_upsampling_the_whole_frame_gives(drawn, seed):
    shape, view, _, _ = drawn
    logits = np.random.default_rng(seed).normal(-1, 1, (8, 8)).astype(np.float32)
    bbox, mask = view.mask(logits, shape)
    expected = np.zeros(shape, bool)
    y0, x0, y1, x1 = view.inside(shape)
    expected[y0:y1, x0:x1] = view.upsample(logits, (y0, x0, y1, x1)) > 0
    full = np.zeros(shape, bool)
    full[bbox[0] : bbox[2], bbox[1] : bbox[3]] = mask
    assert np.array_equal(full, expected)
    assert bbox == bbox_of(expected)


@given(shapes, st.integers(0, 2**32 - 1))
def test_upsampling_is_that_of_torch(shape, seed):
    logits = np.random.default_rng(seed).normal(0, 1, (16, 16)).astype(np.float32)
    ours = whole_view(shape, 64).upsample(logits, (0, 0, *shape))
    theirs = torch.nn.functional.interpolate(
        torch.from_numpy(logits)[None, None], size=shape, mode="bilinear", align_corners=False
    )[0, 0].numpy()
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


@given(st.integers(0, 2**32 - 1), st.tuples(st.integers(-10, 30), st.integers(-10, 30)))
def test_a_window_of_the_input_size_is_a_slice(seed, start):
    frame = np.random.default_rng(seed).random((50, 60, 3), dtype=np.float32)
    view = View(*start, 32, 32, 32)
    padded = np.pad(frame, ((10, 40), (10, 40), (0, 0)))
    expected = padded[start[0] + 10 :, start[1] + 10 :][:32, :32]
    assert np.array_equal(view.cut(frame).numpy(), expected.transpose(2, 0, 1))
    mask = frame[..., 0] > 0.5
    assert np.array_equal(view.cut_mask(mask)[0].numpy() > 0, expected[..., 0] > 0.5)


@pytest.mark.parametrize("shape", [(50, 70), (200, 90), (64, 64)])
def test_a_whole_frame_is_resized_as_pil_does(shape):
    # No values near the ends: where bicubic overshoots them, the result depends on Pillow's version.
    image = np.random.default_rng(0).integers(64, 192, (*shape, 3), dtype=np.uint8)
    expected = np.asarray(Image.fromarray(image).resize((64, 64), Image.Resampling.BICUBIC)) / 255
    seen = whole_view(shape, 64).cut((image / 255).astype(np.float32)).numpy().transpose(1, 2, 0)
    assert np.abs(seen - expected).max() <= 1.5 / 255


def test_what_lies_outside_the_frame_is_black():
    seen = View(-16, -16, 32, 32, 64).cut(np.ones((40, 40, 3), np.float32)).numpy()
    assert seen[:, :30, :].max() == 0
    assert seen[:, 34:, 34:].min() == 1


@given(windows(), st.integers(0, 2**32 - 1))
def test_carrying_to_the_same_view_changes_nothing(drawn, seed):
    _, view, _, _ = drawn
    logits = np.random.default_rng(seed).normal(0, 1, (8, 8)).astype(np.float32)
    assert np.array_equal(view.carry(logits, view), logits)
    copy = View(view.y, view.x, view.height, view.width, view.size, official=True)  # not equal, yet the same
    np.testing.assert_allclose(view.carry(logits, copy), logits, atol=1e-5)


@given(windows((100, 100)), windows((100, 100)), st.integers(0, 2**32 - 1))
def test_what_is_carried_lies_where_it_was(one, other, seed):
    view, target = one[1], other[1]
    # A ramp is kept by linear interpolation, wherever both views see.
    rows, columns = np.mgrid[:16, :16]
    yy = view.y + (rows + 0.5) * view.height / 16 - 0.5
    xx = view.x + (columns + 0.5) * view.width / 16 - 0.5
    carried = view.carry((yy + 2 * xx).astype(np.float32), target)
    cells = 16 * target.tokens // view.tokens  # of one size everywhere in the network's input
    rows, columns = np.mgrid[:cells, :cells]
    ty = target.y + (rows + 0.5) * target.height / cells - 0.5
    tx = target.x + (columns + 0.5) * target.width / cells - 0.5
    inside = (yy.min() <= ty) & (ty <= yy.max()) & (xx.min() <= tx) & (tx <= xx.max())
    np.testing.assert_allclose(carried[inside], (ty + 2 * tx)[inside], atol=1e-2)
    far = ~(
        (view.y - 1 <= ty) & (ty <= view.y + view.height) & (view.x - 1 <= tx) & (tx <= view.x + view.width)
    )
    assert (carried[far] == -10).all()


@given(windows())
def test_a_view_is_written_and_read(drawn):
    view = drawn[1]
    assert View.from_json(view.to_json()) == view
    official = whole_view(*[(drawn[0]), view.size])
    assert View.from_json(official.to_json()) == official


def test_empty_and_full_masks():
    view = window_view((50, 50), 40, (100, 100), 64)
    assert view.mask(np.full((8, 8), -1, np.float32), (100, 100))[0] == (0, 0, 0, 0)
    bbox, mask = view.mask(np.full((8, 8), 1, np.float32), (100, 100))
    assert bbox == view.inside((100, 100))
    assert mask.all()
    away = View(200, 200, 40, 40, 64)
    assert away.mask(np.ones((8, 8), np.float32), (100, 100))[1].size == 0
    assert bbox_of(np.zeros((5, 5), bool)) == (0, 0, 0, 0)


@pytest.mark.parametrize(("shape", "size"), [((10, 10), 10), ((2, 50), 30), ((40, 1), 24)])
def test_the_size_of_an_object_is_between_area_and_length(shape, size):
    mask = np.zeros((60, 60), bool)
    mask[3 : 3 + shape[0], 5 : 5 + shape[1]] = True
    assert object_size(mask) == pytest.approx(size, abs=0.01)


@pytest.mark.parametrize("step", [1, 3, 4])
def test_a_coarser_frame_shows_much_the_same(step):
    y, x = np.mgrid[:900, :700].astype(np.float32)
    frame = np.repeat(((np.sin(y / 90) + np.cos(x / 70)) / 4 + 0.5)[..., None], 3, axis=2)
    view = View(-40, 130, 600, 600, 32)
    coarse = view.coarser(step)
    seen = coarse.cut(frame[::step, ::step])
    # All but what meets the black above the frame, and to the right of it.
    assert float((seen - view.cut(frame))[:, 3:, :-3].abs().max()) < 0.03
    part = frame[0:600, 100:700]
    assert torch.equal(view.cut(part, (0, 100)), view.cut(frame))
