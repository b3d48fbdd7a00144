"""A layer that says nothing of its axes is read as its file says."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
from napari.layers import Image, Labels

from stacksam import assets
from stacksam.plugin.choice import default_choice
from stacksam.plugin.contributions import sample_zstack
from stacksam.plugin.file_axes import axes_of_file, place_like, says_nothing
from stacksam.plugin.stacks import stack_of

Z = ("z", "y", "x")


class FileImage(Image):
    """A layer that came from a file, as napari's own reader makes it."""

    @property
    def source(self) -> SimpleNamespace:
        return SimpleNamespace(path=str(self.metadata["path"]))


def dropped(path, data=None, **kwargs) -> Image:
    data = tifffile.imread(path) if data is None else data
    return FileImage(data, name="cells", metadata={"path": path}, **kwargs)


def test_a_dropped_file_is_the_sample_from_the_menu():
    layer = dropped(assets.sample("zstack"))
    told = axes_of_file(layer)
    assert default_choice(layer).kind == "t"
    assert default_choice(layer, told.labels).kind == "z"
    assert told.words() == "24 planes, 2 µm apart · pixels of 0.5 µm"
    told.place(layer)
    ((data, about, _),) = sample_zstack()
    about.pop("metadata")
    other = Image(data, **about)
    assert (layer.axis_labels, layer.units) == (other.axis_labels, other.units)
    assert np.array_equal(layer.scale, other.scale)
    one, two = (stack_of(each, default_choice(each)) for each in (layer, other))
    assert one.opened
    assert one.identity() == two.identity()
    assert (one.spacing, one.units, one.frame_axis) == (two.spacing, two.units, "z")
    assert axes_of_file(layer) is None  # it tells by itself now


@pytest.mark.parametrize(
    "kwargs",
    [{"scale": (2, 1, 1)}, {"units": ("s", "um", "um")}, {"axis_labels": Z}, {"translate": (1, 0, 0)}],
)
def test_a_layer_that_says_something_is_left_as_it_is(kwargs):
    layer = dropped(assets.sample("zstack"), **kwargs)
    assert not says_nothing(layer)
    assert axes_of_file(layer) is None


def test_files_that_do_not_fit_or_are_gone_tell_nothing(tmp_path):
    data = np.zeros((4, 4, 20, 30), np.uint8)
    assert axes_of_file(dropped(tmp_path / "gone.tif", data)) is None
    assert axes_of_file(dropped(assets.sample("zstack"), data)) is None
    tifffile.imwrite(tmp_path / "a.tif", data, imagej=True, metadata={"axes": "TZYX"})
    assert axes_of_file(dropped(tmp_path / "a.tif")) is None  # either could come first
    assert axes_of_file(Image(data)) is None


def test_sizes_of_one_and_colours_are_no_trouble(tmp_path):
    data = np.zeros((3, 20, 30), np.uint8)
    tifffile.imwrite(
        tmp_path / "a.tif", data, imagej=True, metadata={"axes": "ZYX", "spacing": 3.0, "unit": "um"}
    )
    told = axes_of_file(dropped(tmp_path / "a.tif", data[None]))
    assert told.labels == ("", *Z)
    assert told.scale[:2] == (1.0, 3.0)
    assert told.units[:2] == ("pixel", "micrometer")
    np.save(tmp_path / "a.npy", np.zeros((4, 20, 30, 3), np.uint8))
    told = axes_of_file(dropped(tmp_path / "a.npy", np.load(tmp_path / "a.npy"), rgb=True))
    assert told.labels == ("t", "y", "x")
    assert told.words() == "4 time points"


def test_the_user_may_say_that_frames_are_something_else():
    told = axes_of_file(dropped(assets.sample("zstack")))
    assert told.with_frames(0, "z") is told
    time = told.with_frames(0, "t")
    assert time.labels == ("t", "y", "x")
    assert (time.scale, time.units) == ((1.0, 0.5, 0.5), ("pixel", "micrometer", "micrometer"))


def test_labels_that_say_nothing_stay_on_their_image():
    image = Image(np.zeros((4, 20, 30)), scale=(2, 0.5, 0.5), units=("um",) * 3, axis_labels=Z)
    labels = Labels(np.zeros((4, 20, 30), int))
    assert place_like(labels, image)
    assert np.array_equal(labels.scale, image.scale)
    assert (labels.units, labels.axis_labels) == (image.units, image.axis_labels)
    assert not place_like(labels, image)  # it is placed now
    assert not place_like(Labels(np.zeros((4, 20, 31), int)), image)
    assert not place_like(Labels(np.zeros((4, 20, 30), int)), Image(np.zeros((4, 20, 30))))
