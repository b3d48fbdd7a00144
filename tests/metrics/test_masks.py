"""The measures are those of the benchmark they are named after, however they are sped up."""

from __future__ import annotations

import math
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.morphology import dilation, disk

from stacksam.errors import InputError
from stacksam.metrics import (
    boundary_f,
    box_of,
    click_of,
    copy_baseline,
    iou,
    link_by_overlap,
    otsu_watershed,
)

shapes = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=14)
noise = shapes.flatmap(lambda shape: st.tuples(hnp.arrays(bool, shape), hnp.arrays(bool, shape)))
tolerances = st.none() | st.sampled_from([0, 1, 1.5, 2, 3, 5])


@st.composite
def rectangles(draw):
    """Two masks of a few rectangles each in a frame that is mostly empty."""
    shape = draw(st.tuples(st.integers(5, 40), st.integers(5, 40)))
    masks = np.zeros((2, *shape), bool)
    for mask in masks:
        for _ in range(draw(st.integers(0, 2))):
            y, x = (draw(st.integers(0, size - 1)) for size in shape)
            mask[y : y + draw(st.integers(1, 12)), x : x + draw(st.integers(1, 12))] = True
    return masks[0], masks[1]


pairs = noise | rectangles()


def davis_by_dilation(a, b, tolerance):
    """The boundary measure by the letter: shifted differences, disk dilation, no crop."""

    def contour(mask):
        rows, columns = mask.shape
        found = np.zeros_like(mask)
        for y in range(rows):
            for x in range(columns):
                ahead = [(y, x + 1), (y + 1, x), (y + 1, x + 1)]
                found[y, x] = any(
                    mask[y, x] != mask[ay, ax] for ay, ax in ahead if ay < rows and ax < columns
                )
        return found

    if tolerance is None:
        tolerance = math.ceil(0.008 * math.hypot(*a.shape))
    edge_a, edge_b = contour(a), contour(b)
    near_a, near_b = (dilation(edge.astype(np.uint8), disk(tolerance)) > 0 for edge in (edge_a, edge_b))
    n_a, n_b = edge_a.sum(), edge_b.sum()
    if n_a == 0 or n_b == 0:
        precision, recall = float(n_a == 0), float(n_b == 0)
    else:
        precision, recall = (edge_a & near_b).sum() / n_a, (edge_b & near_a).sum() / n_b
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@given(pairs)
def test_iou_is_bounded_symmetric_and_one_only_for_equal_masks(pair):
    a, b = pair
    assert 0 <= iou(a, b) <= 1
    assert iou(a, b) == iou(b, a)
    assert iou(a, a) == 1
    assert (iou(a, b) == 1) == np.array_equal(a, b)


def test_iou_counts_pixels():
    assert iou(np.array([1, 1, 1, 0]), np.array([0, 0, 7, 7])) == 0.25
    assert iou(np.zeros((3, 3)), np.zeros((3, 3))) == 1
    assert iou(np.zeros((3, 3)), np.ones((3, 3))) == 0


@given(pairs, tolerances)
def test_boundary_is_bounded_symmetric_and_one_for_equal_masks(pair, tolerance):
    a, b = pair
    assert 0 <= boundary_f(a, b, tolerance) <= 1
    assert boundary_f(a, b, tolerance) == pytest.approx(boundary_f(b, a, tolerance))
    assert boundary_f(a, a, tolerance) == 1


@settings(deadline=None, max_examples=60)
@given(pairs, st.none() | st.sampled_from([0, 1, 2, 3, 5]))
def test_boundary_equals_dilation_of_the_whole_frame(pair, tolerance):
    """Cropping and distances instead of dilation change nothing, at image edges too."""
    assert boundary_f(*pair, tolerance) == pytest.approx(davis_by_dilation(*pair, tolerance), abs=1e-12)


@given(rectangles(), st.integers(0, 30), st.integers(0, 30))
def test_boundary_depends_on_the_frame_through_the_tolerance_only(pair, below, right):
    a, b = (np.pad(mask, 2) for mask in pair)
    larger = [np.pad(mask, ((0, below), (0, right))) for mask in (a, b)]
    assert boundary_f(*larger, 2) == boundary_f(a, b, 2)


def test_boundary_tolerance_is_a_share_of_the_diagonal_rounded_up():
    """A square moved by three pixels matches wholly at 3 px of tolerance, and less at 2 px."""
    a, b = np.zeros((2, 150, 200), bool)  # diagonal 250, hence 2 px
    a[50:90, 50:90] = b[50:90, 53:93] = True
    assert boundary_f(a, b) == boundary_f(a, b, 2) < boundary_f(a, b, 3) == 1
    a, b = (np.pad(mask, ((0, 0), (0, 10))) for mask in (a, b))  # diagonal 258.1, hence 3 px
    assert boundary_f(a, b) == 1


def test_boundary_of_masks_without_contour():
    nothing, everything, something = np.zeros((9, 9)), np.ones((9, 9)), np.eye(9)
    assert boundary_f(nothing, nothing) == boundary_f(everything, nothing) == 1
    assert boundary_f(nothing, something) == boundary_f(something, everything) == 0


@pytest.mark.parametrize("measure", [iou, boundary_f])
def test_masks_of_two_shapes_are_an_error(measure):
    with pytest.raises(InputError, match=r"\(3, 3\) and \(3, 4\)"):
        measure(np.zeros((3, 3)), np.zeros((3, 4)))


def test_boundary_refuses_stacks_and_negative_tolerances():
    with pytest.raises(InputError, match="3 dimensions"):
        boundary_f(np.zeros((2, 3, 3)), np.zeros((2, 3, 3)))
    with pytest.raises(InputError, match="0 or more"):
        boundary_f(np.ones((3, 3)), np.eye(3), -1)


@given(noise)
def test_click_and_box_of_a_mask(pair):
    mask, _ = pair
    if not mask.any():
        with pytest.raises(InputError, match="empty"):
            click_of(mask)
        with pytest.raises(InputError, match="empty"):
            box_of(mask)
        return
    assert mask[click_of(mask)]
    y0, x0, y1, x1 = box_of(mask)
    assert mask[y0 : y1 + 1, x0 : x1 + 1].sum() == mask.sum()
    assert all(side.any() for side in (mask[y0], mask[y1], mask[:, x0], mask[:, x1]))


def test_click_is_farthest_from_border_and_image_edge():
    mask = np.zeros((20, 30), bool)
    mask[:9, :9] = True  # touches the image's corner, which is a border like any other
    assert click_of(mask) == (4, 4)
    mask[4, 9:] = True  # a thin tail
    assert click_of(mask) == (4, 4)
    with pytest.raises(InputError, match="one frame"):
        click_of(np.ones((2, 3, 3)))


def two_discs(shape=(40, 60), centres=((20, 18), (20, 34)), radius=9):
    y, x = np.indices(shape)
    return [np.hypot(y - cy, x - cx) <= radius for cy, cx in centres]


@pytest.mark.parametrize("channels", [0, 3])
@pytest.mark.parametrize("dtype", [bool, np.uint8, np.uint16, np.int16, np.float32])
def test_watershed_splits_touching_discs(dtype, channels):
    left, right = two_discs()
    frame = (left | right).astype(dtype)
    if channels:
        frame = np.repeat(frame[..., np.newaxis], channels, axis=-1)
    segments = otsu_watershed(frame)
    assert segments.dtype == np.int32
    assert np.array_equal(segments > 0, left | right)
    assert segments.max() == 2
    assert iou(segments == segments[20, 18], left) > 0.9


def test_watershed_of_flat_and_of_broken_frames():
    assert not otsu_watershed(np.full((8, 8), 7, np.uint16)).any()
    assert not otsu_watershed(np.full((8, 8), np.nan)).any()
    frame = two_discs()[0].astype(float)
    frame[0, 0], frame[1, 1] = np.nan, np.inf
    assert np.array_equal(otsu_watershed(frame) > 0, two_discs()[0])
    with pytest.raises(InputError, match="1 dimensions"):
        otsu_watershed(np.zeros(5))


@settings(deadline=None, max_examples=30)
@given(hnp.arrays(np.uint8, (12, 12), elements=st.integers(0, 3)))
def test_every_bright_component_becomes_a_segment(frame):
    segments = otsu_watershed(frame)
    if frame.min() < frame.max():
        assert segments.any()
        assert frame[segments > 0].min() > frame[segments == 0].max()


def test_linking_follows_largest_overlap_both_ways_until_lost():
    segments = np.zeros((5, 10, 40), np.int32)
    for frame, x in enumerate([2, 5, 8, 11, 30]):
        segments[frame, 2:6, x : x + 6] = frame + 5  # numbers mean nothing between frames
        segments[frame, 7:9, 2:6] = 3
    mask = np.zeros((10, 40), bool)
    mask[1:6, 8:13] = True
    linked = link_by_overlap(segments, mask, 2)
    assert np.array_equal(linked[:4], segments[:4] >= 5)
    assert not linked[4].any()  # jumped beyond reach
    assert not link_by_overlap(segments, segments[0] < 0, 2).any()
    with pytest.raises(InputError, match="frames 0 to 4"):
        link_by_overlap(segments, mask, 5)


def test_copy_repeats_the_mask():
    mask = np.eye(4)
    copies = copy_baseline(mask, 3)
    assert copies.shape == (3, 4, 4)
    assert copies.dtype == bool
    assert all(np.array_equal(copy, mask > 0) for copy in copies)


def test_metrics_need_neither_torch_nor_a_session():
    code = (
        "import sys, stacksam.metrics, stacksam.evaluate\n"
        "found = [n for n in ('torch', 'napari', 'stacksam.session.session') if n in sys.modules]\n"
        "sys.exit(', '.join(found) or None)"
    )
    search = os.pathsep.join(filter(None, sys.path))  # also when the package is not installed
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"PYTHONPATH": search})
