"""The view equals the dense array that it stands for, whatever is asked of it, and reads what it must."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import basic_indices
from napari.components import ViewerModel
from napari.layers import Labels
from napari.settings import get_settings

from stacksam.errors import InputError
from stacksam.plugin.choice import Layout
from stacksam.plugin.labels_view import LabelsView

LAYOUTS = {
    "2d": Layout((5, 6), y=0, x=1),
    "3d": Layout((4, 5, 6), y=1, x=2, frame=0),
    "frames between": Layout((5, 4, 6), y=0, x=2, frame=1),
    "t of z": Layout((4, 3, 5, 6), y=2, x=3, frame=0, at={1: 2}),
    "z of t": Layout((3, 4, 5, 6), y=2, x=3, frame=1, at={0: 1}),
    "one frame of z": Layout((3, 5, 6), y=1, x=2, at={0: 1}),
    "channels": Layout((4, 2, 5, 6), y=2, x=3, frame=0, channel=1),
    "channels between": Layout((4, 5, 2, 6), y=1, x=3, frame=0, channel=2),
    "channels last": Layout((4, 5, 6, 2), y=1, x=2, frame=0, channel=3),
    "all": Layout((2, 4, 3, 5, 6), y=3, x=4, frame=1, at={0: 0}, channel=2),
}
every = pytest.mark.parametrize("case", LAYOUTS)


class Counted:
    """Labels that count what is read of them."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array
        self.shape, self.dtype = array.shape, array.dtype
        self.read: list[int] = []

    def __getitem__(self, key):
        assert isinstance(key, int), "frames are read one by one"
        self.read.append(key)
        return self.array[key].copy()


def labels_of(layout: Layout) -> np.ndarray:
    shape = (layout.n_frames, *layout.frame_shape)
    return np.arange(1, 1 + np.prod(shape), dtype=np.uint32).reshape(shape)


def dense(layout: Layout) -> np.ndarray:
    """The array that the view stands for, written down without haste."""
    labels, out = labels_of(layout), np.zeros(layout.shape, np.uint32)
    for index in np.ndindex(layout.shape):
        if all(index[dim] == at for dim, at in layout.at.items()):
            frame = 0 if layout.frame is None else index[layout.frame]
            out[index] = labels[frame, index[layout.y], index[layout.x]]
    return out


@pytest.fixture(scope="module")
def pairs() -> dict[str, tuple[LabelsView, np.ndarray]]:
    return {name: (LabelsView(labels_of(layout), layout), dense(layout)) for name, layout in LAYOUTS.items()}


@every
@given(data=st.data())
def test_indexing_is_that_of_numpy(pairs, case, data):
    view, array = pairs[case]
    key = data.draw(basic_indices(array.shape, allow_newaxis=False, min_dims=0))
    part, expected = view[key], array[key]
    assert np.shape(part) == np.shape(expected)
    assert np.array_equal(part, expected)
    assert np.asarray(part).dtype == array.dtype


@every
def test_it_is_an_array_to_those_who_ask(pairs, case):
    view, array = pairs[case]
    assert (view.shape, view.dtype, view.ndim, view.size, view.nbytes, len(view)) == (
        *(array.shape, array.dtype, array.ndim, array.size, array.nbytes, len(array)),
    )
    assert np.array_equal(np.asarray(view), array)
    assert np.asarray(view, dtype=np.int64).dtype == np.int64
    with pytest.raises(ValueError, match="always a copy"):
        view.__array__(copy=False)


def test_what_is_returned_is_not_what_is_kept():
    view = LabelsView(labels_of(LAYOUTS["3d"]), LAYOUTS["3d"])
    view[1][...] = 0
    assert np.array_equal(view[1], labels_of(LAYOUTS["3d"])[1])
    with pytest.raises(ValueError, match="read-only"):
        view.frame(1)[0, 0] = 1
    with pytest.raises(TypeError, match="item assignment"):
        view[0] = 1


@pytest.mark.parametrize("key", [(0, 0, 0, 0), (..., ...), None, True, [0, 1], 1.5, "a", 4, (0, -6)])
def test_other_indices_are_errors(key):
    with pytest.raises(IndexError):
        LabelsView(labels_of(LAYOUTS["3d"]), LAYOUTS["3d"])[key]


def test_labels_of_another_stack_are_refused():
    with pytest.raises(InputError, match=r"needs \(4, 5, 6\)"):
        LabelsView(np.zeros((5, 5, 6), np.uint32), LAYOUTS["3d"])


def test_only_frames_that_are_looked_at_are_read_and_two_are_kept():
    counted = Counted(labels_of(LAYOUTS["t of z"]))
    view = LabelsView(counted, LAYOUTS["t of z"])
    assert not view[1, 0].any()
    assert counted.read == [], "there is nothing on another plane"

    for frame in (1, 2, 1, 2):
        view[frame, 2, 3, 4]
    assert counted.read == [1, 2]
    view[3, 2]
    view[1, 2]
    assert counted.read == [1, 2, 3, 1], "the one used longest ago makes place"

    np.asarray(view)
    assert sorted(counted.read[4:]) == [0, 2], "frames that are kept are not read again"
    view[3, 2], view[1, 2]
    assert len(counted.read) == 6, "reading all of it does not push them out"


def test_forgotten_frames_are_read_anew():
    counted = Counted(labels_of(LAYOUTS["3d"]))
    view = LabelsView(counted, LAYOUTS["3d"])
    view[0], view[1]
    counted.array[:2] = 900
    assert (view[0] != 900).all()
    view.forget(0)
    assert (view[0] == 900).all()
    assert (view[1] != 900).all()
    view.forget({1, 3})
    assert (view[1] == 900).all()
    counted.array[:] = 5
    view.forget()
    assert (view[0:2] == 5).all()


def test_a_read_that_was_overtaken_is_not_kept():
    """A frame is written, and forgotten, while a slower thread still holds what was there before."""
    array = labels_of(LAYOUTS["3d"])
    reading, written = threading.Event(), threading.Event()

    class Slow(Counted):
        def __getitem__(self, key):
            part = super().__getitem__(key)
            if not written.is_set():
                reading.set()
                assert written.wait(10)
            return part

    view = LabelsView(Slow(array), LAYOUTS["3d"])
    with ThreadPoolExecutor(1) as pool:
        old = pool.submit(view.__getitem__, 2)
        assert reading.wait(10)
        array[2] = 777
        view.forget(2)  # does not wait for the reader
        written.set()
        assert (old.result(10) != 777).all()
    assert (view[2] == 777).all()


def test_many_threads_may_read():
    layout = Layout((8, 5, 6), y=1, x=2, frame=0)
    view, labels = LabelsView(labels_of(layout), layout), labels_of(layout)

    def read(number: int) -> bool:
        view.forget(number % 8)
        return np.array_equal(view[number % 8], labels[number % 8])

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(400)))


@pytest.fixture
def store(tmp_path) -> zarr.Array:
    return zarr.create_array(tmp_path / "labels.zarr", shape=(6, 40, 50), chunks=(1, 40, 50), dtype=np.uint32)


@pytest.mark.parametrize(
    ("layout", "elsewhere"),
    [
        (Layout((6, 40, 50), y=1, x=2, frame=0), None),
        (Layout((6, 4, 40, 50), y=2, x=3, frame=0, at={1: 0}), (3, 1)),
        (Layout((6, 2, 40, 50), y=2, x=3, frame=0, channel=1), None),
    ],
    ids=["3d", "t of z", "channels"],
)
def test_a_labels_layer_shows_it(store, layout, elsewhere):
    store[3, 10:20, 10:20] = 70_000
    viewer = ViewerModel()
    view = LabelsView(store, layout)
    layer = viewer.add_labels(view)
    assert isinstance(layer, Labels)
    assert layer.data is view

    def value(*steps: int) -> int:
        steps += (0,) * (layout.ndim - 2 - len(steps))
        viewer.dims.set_current_step(range(len(steps)), steps)
        return layer.get_value((*steps, 12, 13), world=True)

    assert value(3) == 70_000
    assert value(2) == 0
    assert elsewhere is None or value(*elsewhere) == 0
    value(3)
    store[2, 10:20, 10:20] = 5
    view.forget(2)
    assert value(2) == 5, "sliders were elsewhere meanwhile"
    store[2] = 6
    view.forget(2)
    layer.refresh()
    assert value(2) == 6

    viewer.dims.ndisplay = 3
    inside = layer.get_value(
        (0,) * (layout.ndim - 2) + (12, 13),
        view_direction=(1, 0, 0),
        dims_displayed=list(viewer.dims.displayed),
        world=True,
    )
    assert inside == 6
    assert layer.thumbnail.any()


def test_a_labels_layer_slices_it_on_another_thread(make_napari_viewer, qtbot, store, monkeypatch):
    store[3, 10:20, 10:20] = 70_000
    viewer = make_napari_viewer()
    monkeypatch.setattr(get_settings().experimental, "async_", True)
    layout = Layout((6, 4, 40, 50), y=2, x=3, frame=0, at={1: 0})
    view = LabelsView(store, layout)
    layer = viewer.add_labels(view)

    def shows(frame: int, value: int) -> None:
        viewer.dims.set_current_step((0, 1), (frame, 0))
        qtbot.waitUntil(lambda: layer.loaded and layer.get_value((frame, 0, 12, 13), world=True) == value)

    shows(3, 70_000)
    shows(2, 0)
    store[2, 10:20, 10:20] = 5
    view.forget(2)
    layer.refresh()
    shows(2, 5)
    viewer.dims.ndisplay = 3
    qtbot.waitUntil(lambda: layer.loaded)


def test_labels_are_given_in_fewer_bits():
    layout = LAYOUTS["3d"]
    view = LabelsView(labels_of(layout), layout, np.uint16)
    assert view.dtype == view[1].dtype == np.asarray(view).dtype == np.uint16
    assert np.array_equal(view, dense(layout))
