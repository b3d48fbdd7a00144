"""Paint falls where a dense array would take it, on the frame that is held, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import basic_indices
from napari.components import ViewerModel
from napari.layers import Labels

from stacksam.plugin.choice import Layout
from stacksam.plugin.paint import PaintBuffer

LAYOUTS = {
    "2d": Layout((5, 6), y=0, x=1),
    "3d": Layout((4, 5, 6), y=1, x=2, frame=0),
    "frames between": Layout((5, 4, 6), y=0, x=2, frame=1),
    "t of z": Layout((4, 3, 5, 6), y=2, x=3, frame=0, at={1: 2}),
    "channels between": Layout((4, 5, 2, 6), y=1, x=3, frame=0, channel=2),
}
every = pytest.mark.parametrize("case", LAYOUTS)


def held(layout: Layout, dense: np.ndarray, frame: int) -> np.ndarray:
    """The frame of a dense array, on its first channel."""
    index: list[int | slice] = [layout.at.get(dim, 0) for dim in range(len(layout.shape))]
    index[layout.y] = index[layout.x] = slice(None)
    if layout.frame is not None:
        index[layout.frame] = frame
    return dense[tuple(index)]


@every
@given(data=st.data())
def test_a_region_is_painted_as_in_a_dense_array(case, data):
    layout = LAYOUTS[case]
    frame = data.draw(st.integers(0, layout.n_frames - 1))
    key = data.draw(basic_indices(layout.shape, allow_newaxis=False))
    dense, buffer = np.zeros(layout.shape, np.uint8), PaintBuffer(layout)
    buffer.put(frame, np.zeros(layout.frame_shape, bool))
    value = 1 + np.arange(dense[key].size, dtype=np.uint8).reshape(dense[key].shape) % 3
    dense[key] = value
    if layout.channel is not None:  # where they are all painted alike
        dense[key] = value = np.uint8(1)
    buffer[key] = value
    wanted = held(layout, dense, frame)
    if layout.channel is not None:
        wanted = dense.max(axis=layout.channel).take(frame, axis=layout.frame)
    assert np.array_equal(buffer.mask, wanted != 0)
    if layout.channel is None:
        assert np.array_equal(buffer.frame(frame), wanted)


@every
def test_arrays_of_indices_are_painted_and_read(case):
    layout = LAYOUTS[case]
    buffer = PaintBuffer(layout)
    buffer.put(0, np.zeros(layout.frame_shape, bool))
    place = [np.full(2, layout.at.get(dim, 0)) for dim in range(len(layout.shape))]
    place[layout.y], place[layout.x] = np.array([1, 2]), np.array([3, 4])
    buffer[tuple(place)] = 1
    assert np.argwhere(buffer.mask).tolist() == [[1, 3], [2, 4]]
    assert buffer[tuple(place)].tolist() == [1, 1]


def test_only_one_frame_is_held():
    layout = LAYOUTS["3d"]
    buffer = PaintBuffer(layout)
    buffer.put(2, np.ones(layout.frame_shape, bool))
    buffer[0:2] = 1  # frames that are not held
    assert np.asarray(buffer).any(axis=(1, 2)).tolist() == [False, False, True, False]
    buffer.put(1, np.zeros(layout.frame_shape, bool))
    assert not np.asarray(buffer).any()


def test_napari_paints_erases_fills_and_undoes():
    layout = Layout((4, 20, 24), y=1, x=2, frame=0)
    buffer = PaintBuffer(layout)
    viewer = ViewerModel()
    layer = viewer.add_layer(Labels(buffer, multiscale=False))
    viewer.dims.set_current_step(0, 2)
    buffer.put(2, np.zeros(layout.frame_shape, bool))
    layer.brush_size = 3
    layer.paint((2, 10, 10), 1)
    assert buffer.mask[9:12, 9:12].all()
    assert buffer.mask.sum() == 9
    assert np.asarray(layer.data[2])[10, 10] == 1
    layer.paint((2, 10, 10), 0)
    assert not buffer.mask.any()
    layer.undo()
    assert buffer.mask.sum() == 9
    layer.fill((2, 0, 0), 1)
    assert buffer.mask.all()
