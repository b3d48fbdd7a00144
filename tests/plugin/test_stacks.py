"""An image layer becomes the stack that the user means, read lazily, and from its file where that is so."""

from __future__ import annotations

from types import SimpleNamespace

import dask.array as da
import numpy as np
import pytest
import tifffile
import zarr
from napari.components import ViewerModel
from napari.layers import Image, Labels, Points
from npe2 import PluginManifest

from stacksam.errors import InputError, StackError
from stacksam.plugin.stacks import LayerChoice, default_choice, layer_axes, opener_of, stack_of
from stacksam.session.stack import reopen_stack

RNG = np.random.default_rng(0)


def pixels(shape, dtype=np.uint16) -> np.ndarray:
    return RNG.integers(0, 250, shape).astype(dtype)


def image(data, **kwargs) -> Image:
    return Image(data, **{"contrast_limits": (0, 255), "name": "cells"} | kwargs)


class Counted:
    """An array that counts the pixels that are read of it."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array
        self.shape, self.dtype, self.ndim, self.size = array.shape, array.dtype, array.ndim, array.size
        self.read = 0

    def __getitem__(self, key):
        part = self.array[key]
        self.read += part.size
        return part

    def __array__(self, dtype=None, copy=None):
        raise AssertionError("the whole array was read")


# What the dimensions are


def roles(layer, **kwargs) -> str:
    return "".join(axis.role for axis in layer_axes(layer, **kwargs))


@pytest.mark.parametrize(
    ("shape", "kwargs", "expected"),
    [
        ((20, 30), {}, "yx"),
        ((5, 20, 30), {}, "tyx"),
        ((5, 20, 30), {"axis_labels": ("Depth", "y", "x")}, "zyx"),
        ((5, 20, 30), {"axis_labels": ("channel", "y", "x")}, "cyx"),
        ((5, 20, 30), {"axis_labels": ("position", "y", "x")}, "tyx"),
        ((5, 20, 30), {"units": "um"}, "zyx"),
        ((5, 20, 30), {"units": ("min", "um", "um"), "scale": (5, 1, 1)}, "tyx"),
        ((5, 20, 30), {"scale": (4, 0.5, 0.5)}, "zyx"),
        ((5, 20, 30), {"scale": (1, 0.5, 0.5)}, "tyx"),
        ((5, 6, 20, 30), {}, "tzyx"),
        ((5, 6, 20, 30), {"axis_labels": ("z", "t", "y", "x")}, "ztyx"),
        ((5, 6, 20, 30), {"axis_labels": ("c", "-3", "y", "x")}, "ctyx"),
        ((5, 6, 20, 30), {"units": ("pixel", "um", "um", "um")}, "tzyx"),
        ((5, 2, 6, 20, 30), {}, "tczyx"),
        ((5, 6, 2, 20, 30), {}, "tzcyx"),
        ((5, 8, 9, 20, 30), {}, "tz?yx"),
        ((20, 30, 5, 2), {"axis_labels": ("y", "x", "z", "c")}, "yxzc"),
        ((5, 20, 30, 2), {"axis_labels": ("-4", "-3", "-2", "c")}, "tyxc"),
        ((5, 20, 30), {"axis_labels": ("t", "z", "c")}, "tyx"),
        ((5, 20, 30), {"axis_labels": ("t", "t", "t")}, "tyx"),
        ((5, 40, 50, 3), {"rgb": True}, "tyx"),
    ],
)
def test_dimensions_are_guessed(shape, kwargs, expected):
    assert roles(image(np.zeros(shape, np.uint8), **kwargs)) == expected


def test_labels_of_the_viewer_help_where_the_layer_has_none():
    layer = image(np.zeros((5, 20, 30)))
    assert roles(layer, viewer_axis_labels=("t", "z", "y", "x")) == "zyx"
    assert roles(layer, viewer_axis_labels=("y", "x")) == "tyx"
    named = image(np.zeros((5, 20, 30)), axis_labels=("t", "y", "x"))
    assert roles(named, viewer_axis_labels=("z", "y", "x")) == "tyx"
    (axis, *_) = layer_axes(layer, ("t", "z", "y", "x"))
    assert (axis.dim, axis.size, axis.label) == (0, 5, "z")


@pytest.mark.parametrize(
    ("shape", "kwargs", "expected"),
    [
        ((20, 30), {}, LayerChoice()),
        ((5, 20, 30), {}, LayerChoice(frame_dim=0)),
        ((5, 20, 30), {"units": "um"}, LayerChoice(frame_dim=0, kind="z")),
        ((5, 6, 20, 30), {}, LayerChoice(frame_dim=0, at={1: 3})),
        ((1, 6, 20, 30), {}, LayerChoice(frame_dim=1, kind="z", at={0: 0})),
        ((1, 1, 20, 30), {}, LayerChoice(frame_dim=0, at={1: 0})),
        ((5, 2, 6, 20, 30), {}, LayerChoice(frame_dim=0, channel_dim=1, channels=(0,), at={2: 3})),
        ((3, 20, 30), {"axis_labels": "cyx"}, LayerChoice(channel_dim=0, channels=(0,))),
    ],
)
def test_the_first_choice(shape, kwargs, expected):
    assert default_choice(image(np.zeros(shape, np.uint8), **kwargs)) == expected


def test_fixed_dimensions_are_fixed_to_what_is_shown():
    layer = image(np.zeros((5, 6, 20, 30)))
    assert default_choice(layer, shown=(2, 4, 0, 0)).at == {1: 4}
    assert default_choice(layer, shown=(2, 9, 0, 0)).at == {1: 5}, "sliders may stand outside the layer"


# Stacks of arrays


def read(stack) -> np.ndarray:
    return np.stack([stack.raw(index) for index in range(stack.n_frames)])


WHOLE = pixels((4, 3, 2, 16, 20))  # t z c y x
CASES = {
    "2d": (WHOLE[0, 0, 0], LayerChoice(), WHOLE[:1, 0, 0]),
    "3d": (WHOLE[:, 0, 0], LayerChoice(frame_dim=0), WHOLE[:, 0, 0]),
    "3d z": (WHOLE[0, :, 0], LayerChoice(frame_dim=0, kind="z"), WHOLE[0, :, 0]),
    "4d t": (WHOLE[:, :, 0], LayerChoice(frame_dim=0, at={1: 2}), WHOLE[:, 2, 0]),
    "4d z": (WHOLE[:, :, 0], LayerChoice(frame_dim=1, kind="z", at={0: 3}), WHOLE[3, :, 0]),
    "4d one": (WHOLE[:, :, 0], LayerChoice(at={0: 3, 1: 1}), WHOLE[3:, 1, 0]),
    "3d one": (WHOLE[:, 0, 0], LayerChoice(at={0: 3}, kind="z"), WHOLE[3:, 0, 0]),
    "5d": (
        WHOLE,
        LayerChoice(frame_dim=0, channel_dim=2, channels=(1,), at={1: 2}),
        WHOLE[:, 2, 1],
    ),
    "5d both": (
        WHOLE,
        LayerChoice(frame_dim=1, kind="z", channel_dim=2, channels=(1, 0), at={0: 1}),
        np.moveaxis(WHOLE[1][:, ::-1], 1, -1),
    ),
    "5d of others": (WHOLE, LayerChoice(frame_dim=0, at={1: 1, 2: 1}), WHOLE[:, 1, 1]),
    "channels first": (
        WHOLE[:, 0].swapaxes(0, 1),
        LayerChoice(frame_dim=1, channel_dim=0, channels=(1,)),
        WHOLE[:, 0, 1],
    ),
    "channels last": (
        np.moveaxis(WHOLE[:, 0], 1, -1),
        LayerChoice(frame_dim=0, channel_dim=3, channels=(1,)),
        WHOLE[:, 0, 1],
    ),
    "channels alone": (WHOLE[0, 0], LayerChoice(channel_dim=0, channels=(1,)), WHOLE[:1, 0, 1]),
    "frames last": (np.moveaxis(WHOLE[:, 0, 0], 0, -1), LayerChoice(frame_dim=2), WHOLE[:, 0, 0]),
}


@pytest.mark.parametrize("kind", ["numpy", "dask", "zarr", "list"])
@pytest.mark.parametrize("case", CASES)
def test_stacks_of_arrays(case, kind, tmp_path):
    array, choice, expected = CASES[case]
    if kind == "dask":
        data = da.from_array(array, chunks=(1,) * (array.ndim - 2) + (9, 9))
    elif kind == "zarr":
        data = zarr.create_array(tmp_path / "a.zarr", data=array, chunks=(1,) * (array.ndim - 2) + (9, 9))
    elif kind == "list":
        data = [array, array[..., ::2, ::2]]  # levels
    else:
        data = array
    layer = image(data, multiscale=kind == "list")
    stack = stack_of(layer, choice)
    assert np.array_equal(read(stack), expected)
    assert stack.frame_axis == (choice.kind if choice.frame_dim is not None else "t")
    assert (stack.name, stack.source, stack.opened) == ("cells", "the layer 'cells'", {})


def test_levels():
    levels = [pixels((4, 48, 64)), pixels((4, 24, 32)), pixels((2, 12, 16))]
    layer = image(levels, multiscale=True, scale=(3, 0.5, 0.5), units=("s", "um", "um"))
    for level, expected in enumerate(levels):
        stack = stack_of(layer, LayerChoice(frame_dim=0, level=level))
        assert np.array_equal(read(stack), expected)
        assert stack.spacing == pytest.approx((3 * (1, 1, 2)[level], 0.5 * 2**level, 0.5 * 2**level))
        assert stack.units == ("second", "micrometer", "micrometer")


@pytest.mark.parametrize("channels", [3, 4])
def test_colours(channels):
    array = pixels((3, 40, 50, channels), np.uint8)
    stack = stack_of(image(array, rgb=True), LayerChoice(frame_dim=0, intensity="contrast"))
    assert np.array_equal(read(stack), array[..., :3])
    assert (stack.intensity.low, stack.intensity.high) == ((0.0,), (255.0,)), (
        "colours have no contrast limits"
    )
    one = stack_of(image(array[0], rgb=True), LayerChoice())
    assert (one.n_frames, one.channels) == (1, (0, 1, 2))


def test_intensity():
    layer = image(pixels((4, 20, 30)), contrast_limits=(10, 99))
    auto = stack_of(layer, LayerChoice(frame_dim=0)).intensity
    assert 0 <= auto.low[0] < 5
    assert 240 < auto.high[0] < 250
    contrast = stack_of(layer, LayerChoice(frame_dim=0, intensity="contrast")).intensity
    assert (contrast.low, contrast.high) == ((10.0,), (99.0,))
    given = stack_of(layer, LayerChoice(frame_dim=0, intensity=(1, 2))).intensity
    assert (given.low, given.high) == ((1.0,), (2.0,))
    with pytest.raises(InputError, match="low not above high"):
        stack_of(layer, LayerChoice(frame_dim=0, intensity=(3, 2)))


def test_other_types_and_byte_orders():
    for dtype in ("bool", "int8", ">u2", "f4"):
        array = pixels((3, 20, 30)).astype(dtype)
        assert np.array_equal(read(stack_of(image(array), LayerChoice(frame_dim=0))), array)


def test_a_stack_is_read_frame_by_frame():
    counted = Counted(pixels((200, 20, 30)))
    layer = image(counted)
    counted.read = 0
    opened = opener_of(layer, LayerChoice(frame_dim=0, intensity="contrast"))
    stack = opened()
    assert counted.read == 0, "with a given mapping nothing has to be read"
    stack.raw(7)
    assert counted.read == 600
    stack_of(layer, LayerChoice(frame_dim=0))
    assert counted.read <= 600 * 9, "a few frames tell the percentiles"


def test_one_plane_of_a_volume_is_read_alone():
    counted = Counted(pixels((10, 9, 2, 20, 30)))
    choice = LayerChoice(frame_dim=0, channel_dim=2, channels=(1,), at={1: 4}, intensity="contrast")
    stack = stack_of(image(counted), choice)
    counted.read = 0
    stack.raw(3)
    assert counted.read == 600


def test_the_opener_asks_nothing_more_of_the_layer():
    layer = image(pixels((4, 20, 30)))
    expected = layer.data
    opened = opener_of(layer, LayerChoice(frame_dim=0))
    layer.data = pixels((2, 20, 30))
    layer.name = "other"
    stack = opened()
    assert stack.name == "cells"
    assert np.array_equal(read(stack), expected)


# What cannot be a stack


@pytest.mark.parametrize(
    "function", [layer_axes, default_choice, lambda layer: stack_of(layer, LayerChoice())]
)
@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (lambda: Points(np.zeros((1, 3)), name="clicks"), "'clicks' is a Points, not an image layer"),
        (lambda: Labels(np.zeros((5, 5), int), name="cells"), "'cells' is a Labels, not an image layer"),
        (lambda: None, "NoneType, not an image layer"),
    ],
)
def test_other_layers_are_refused(function, layer, message):
    with pytest.raises(InputError, match=message):
        function(layer())


def test_complex_numbers_are_refused():
    layer = image(pixels((4, 20, 30)))
    layer.data = Counted(np.zeros((4, 20, 30), np.uint16))
    layer.data.dtype = np.dtype(np.complex64)
    with pytest.raises(InputError, match="'cells' holds complex numbers"):
        stack_of(layer, LayerChoice(frame_dim=0))
    layer.data.dtype = np.dtype("datetime64[s]")
    with pytest.raises(InputError, match="'cells' holds datetime64"):
        stack_of(layer, LayerChoice(frame_dim=0))


def test_empty_layers_are_refused():
    layer = image(np.zeros((4, 20, 30)))
    layer.data.resize((0, 20, 30), refcheck=False)
    with pytest.raises(InputError, match=r"'cells' has shape \(0, 20, 30\)"):
        stack_of(layer, LayerChoice(frame_dim=0))


def test_messages_of_the_stack_name_the_layer():
    with pytest.raises(StackError, match="the layer 'cells' has no finite value"):
        stack_of(image(np.full((3, 20, 30), np.nan)), LayerChoice(frame_dim=0))
    with pytest.raises(InputError, match="'cells'"):
        stack_of(image(np.zeros((3, 20, 30))), LayerChoice(frame_dim=0, channels=(2,)))
    with pytest.raises(InputError, match="beside them"):
        stack_of(image(np.zeros((3, 40, 50, 3), np.uint8), rgb=True), LayerChoice(frame_dim=0, channel_dim=0))


# Files


class FileImage(Image):
    """A layer that came from a file, whatever napari can read by itself."""

    @property
    def source(self) -> SimpleNamespace:
        return SimpleNamespace(path=str(self.metadata["path"]))


def from_file(data, path, **kwargs) -> Image:
    return FileImage(data, contrast_limits=(0, 255), name="cells", metadata={"path": path}, **kwargs)


@pytest.fixture
def tif(tmp_path):
    def write(array, axes, **metadata):
        path = tmp_path / f"{axes}.tif"
        tifffile.imwrite(path, array, imagej=True, metadata={"axes": axes, **metadata})
        return path

    return write


def check_from_file(stack, expected, path) -> None:
    assert stack.opened["source"] == str(path)
    assert np.array_equal(read(stack), expected)
    again = reopen_stack(stack.describe())
    assert again.identity() == stack.identity()
    assert np.array_equal(read(again), expected)


@pytest.mark.parametrize(
    ("file_axes", "file_index", "layer_index", "choice", "index"),
    [
        ("TYX", np.s_[:, 0, 0], np.s_[:, 0, 0], LayerChoice(frame_dim=0), np.s_[:, 0, 0]),
        ("ZYX", np.s_[0, :, 0], np.s_[0, :, 0], LayerChoice(frame_dim=0, kind="z"), np.s_[0, :, 0]),
        # The file says depth, the user time, which decides.
        ("ZYX", np.s_[0, :, 0], np.s_[0, :, 0], LayerChoice(frame_dim=0), np.s_[0, :, 0]),
        ("TZYX", np.s_[:, :, 0], np.s_[:, :, 0], LayerChoice(frame_dim=0, at={1: 2}), np.s_[:, 2, 0]),
        (
            "TZYX",
            np.s_[:, :, 0],
            np.s_[:, :, 0],
            LayerChoice(frame_dim=1, kind="z", at={0: 2}),
            np.s_[2, :, 0],
        ),
        (
            "TZCYX",
            np.s_[:],
            np.s_[:],
            LayerChoice(frame_dim=0, channel_dim=2, channels=(1,), at={1: 2}),
            np.s_[:, 2, 1],
        ),
        # Readers make a layer of each channel, and drop or add dimensions of size 1.
        ("TZCYX", np.s_[:], np.s_[:, :, 1], LayerChoice(frame_dim=0, at={1: 2}), np.s_[:, 2, 1]),
        ("TYX", np.s_[:, 0, 0], np.s_[:, :1, 0], LayerChoice(frame_dim=0, at={1: 0}), np.s_[:, 0, 0]),
        ("YX", np.s_[0, 0, 0], np.s_[0, 0, 0], LayerChoice(), np.s_[:1, 0, 0]),
    ],
)
def test_stacks_of_files(tif, file_axes, file_index, layer_index, choice, index):
    path = tif(WHOLE[file_index], file_axes)
    stack = stack_of(from_file(WHOLE[layer_index], path), choice)
    check_from_file(stack, WHOLE[index], path)
    assert choice.frame_dim is None or stack.frame_axis == choice.kind


def test_a_file_that_napari_opened(tif, npe2pm):
    npe2pm.register(PluginManifest.from_distribution("napari"))
    path = tif(WHOLE[:, :, 0], "TZYX")
    (layer,) = ViewerModel().open(str(path), plugin="napari")
    choice = default_choice(layer)
    assert choice == LayerChoice(frame_dim=0, at={1: 1})
    check_from_file(stack_of(layer, choice), WHOLE[:, 1, 0], path)


def test_colours_of_files(tmp_path):
    array = pixels((3, 40, 50, 3), np.uint8)
    np.save(tmp_path / "a.npy", array)
    stack = stack_of(from_file(array, tmp_path / "a.npy", rgb=True), LayerChoice(frame_dim=0))
    check_from_file(stack, array, tmp_path / "a.npy")


@pytest.mark.parametrize(
    "changed",
    ["pixels of the last frame", "shape", "dtype", "both channels are equal", "not there", "other format"],
)
def test_a_file_that_holds_something_else_is_not_used(tif, tmp_path, changed):
    array = WHOLE[:, 0, 0].copy()
    path = tif(array, "TYX")
    data = array.copy()
    if changed == "pixels of the last frame":
        data[-1, 3, 4] += 1
    elif changed == "shape":
        data = data[1:]
    elif changed == "dtype":
        data = data.astype(np.int32)
    elif changed == "both channels are equal":
        path = tif(np.stack([array, array], axis=1), "TCYX")
    elif changed == "not there":
        path = tmp_path / "gone.tif"
    else:
        path = tmp_path / "notes.txt"
        path.write_text("nothing")
    stack = stack_of(from_file(data, path), LayerChoice(frame_dim=0))
    assert stack.opened == {}
    assert np.array_equal(read(stack), data)


def test_levels_of_files(tmp_path):
    levels = [pixels((4, 48, 64)), pixels((4, 24, 32))]
    path = tmp_path / "a.ome.zarr"
    group = zarr.create_group(path, zarr_format=3)
    axes = [{"name": n, "type": k} for n, k in (("t", "time"), ("y", "space"), ("x", "space"))]
    scales = [[{"type": "scale", "scale": [1.0, f, f]}] for f in (1.0, 2.0)]
    for number, level in enumerate(levels):
        group.create_array(str(number), data=level, chunks=(1, 24, 32))
    datasets = [{"path": str(n), "coordinateTransformations": s} for n, s in enumerate(scales)]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}
    layer = from_file(levels, path, multiscale=True)
    for number, level in enumerate(levels):
        stack = stack_of(layer, LayerChoice(frame_dim=0, level=number))
        check_from_file(stack, level, path)
        assert stack.opened["level"] == number


@pytest.mark.parametrize(
    ("kwargs", "told"), [({}, False), ({"scale": (2, 1, 1)}, True), ({"units": ("um", "um", "um")}, True)]
)
def test_the_scale_that_napari_begins_with_tells_nothing(kwargs, told):
    layer = image(pixels((4, 20, 30)), axis_labels=("z", "y", "x"), **kwargs)
    assert stack_of(layer, default_choice(layer)).spacing_told is told


@pytest.mark.parametrize(
    ("kwargs", "spacing", "units"),
    [
        ({}, (60, 0.25, 0.25), ("second", "micrometer", "micrometer")),
        ({"scale": (60, 0.25, 0.25)}, (60, 0.25, 0.25), ("second", "micrometer", "micrometer")),
        ({"scale": (1, 2, 2)}, (1, 2, 2), (None, None, None)),
        (
            {"scale": (1, 0.25, 0.25), "units": ("min", "um", "um")},
            (1, 0.25, 0.25),
            ("minute", "micrometer", "micrometer"),
        ),
    ],
)
def test_the_layer_tells_spacing_where_it_knows_better_than_the_file(tif, kwargs, spacing, units):
    path = tif(WHOLE[:, 0, 0], "TYX", unit="um", finterval=60.0)
    with tifffile.TiffFile(path, mode="r+") as file:
        for name in ("XResolution", "YResolution"):
            file.pages[0].tags[name].overwrite((4, 1))
    stack = stack_of(from_file(WHOLE[:, 0, 0], path, **kwargs), LayerChoice(frame_dim=0))
    assert stack.opened
    assert stack.spacing == pytest.approx(spacing)
    assert stack.units == units
