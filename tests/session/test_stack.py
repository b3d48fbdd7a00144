"""A stack gives single frames, calibrated and mapped alike, and reads nothing else."""

from __future__ import annotations

import dataclasses
import json
import math

import dask.array as da
import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from stacksam.errors import InputError, StackError
from stacksam.io.images import lazy_image
from stacksam.io.labels import read_labels, write_labels_ome_zarr, write_labels_tiff
from stacksam.session.stack import Intensity, open_stack, reopen_stack


def pixels(shape=(5, 10, 12), dtype=np.uint16, seed=0):
    return np.random.default_rng(seed).integers(0, 200, size=shape).astype(dtype)


class Recorder:
    """An array that remembers how many values each read gave."""

    def __init__(self, data):
        self.data, self.shape, self.dtype, self.reads = data, data.shape, data.dtype, []

    def __getitem__(self, key):
        part = self.data[key]
        self.reads.append(part.size)
        return part


# --- intensity ----------------------------------------------------------------------------------------

DTYPES = ["bool", "uint8", "int16", "uint16", "int32", "uint32", "int64", "float16", "float32", "float64"]
ends = st.floats(allow_nan=False, allow_infinity=False)


@given(
    raw=st.sampled_from(DTYPES).flatmap(lambda d: hnp.arrays(d, hnp.array_shapes(min_dims=2, max_dims=2))),
    pair=st.tuples(ends, ends).map(sorted) | ends.map(lambda v: (v, v)),
)
def test_mapping_is_monotone_within_0_and_1_and_nan_is_0(raw, pair):
    low, high = pair
    out = Intensity((low,), (high,)).apply(raw)
    assert out.dtype == np.float32
    assert out.shape == raw.shape
    assert ((out >= 0) & (out <= 1)).all()
    values = raw.astype(np.float64)
    assert (out[np.isnan(values)] == 0).all()
    assert (out[values <= low] == 0).all()
    assert (out[values >= high] == (1 if low < high else out[values >= high])).all()
    known = ~np.isnan(values)
    order = np.argsort(values[known])
    assert (np.diff(out[known][order]) >= 0).all()


@given(pair=st.tuples(ends, ends).map(sorted))
def test_intensity_survives_json(pair):
    intensity = Intensity((pair[0], 0.0), (pair[1], 1.0))
    assert Intensity.from_json(json.loads(json.dumps(intensity.to_json()))) == intensity


def test_mapping_of_each_channel():
    raw = np.stack([np.full((2, 2), 5.0), np.full((2, 2), 50.0)], axis=-1)
    np.testing.assert_allclose(Intensity((0.0, 0.0), (10.0, 100.0)).apply(raw), 0.5)
    np.testing.assert_allclose(Intensity((0.0,), (100.0,)).apply(raw)[0, 0], [0.05, 0.5])
    with pytest.raises(InputError, match="2 channels, the frame 1"):
        Intensity((0.0, 0.0), (1.0, 1.0)).apply(raw[..., 0])


@pytest.mark.parametrize(
    ("low", "high"),
    [((), ()), ((1,), (0,)), ((0,), (1, 2)), ((math.nan,), (1,)), ((0,), (math.inf,)), ((0,) * 4, (1,) * 4)],
)
def test_mappings_that_make_no_sense(low, high):
    with pytest.raises(InputError, match="intensity"):
        Intensity(low, high)
    with pytest.raises(InputError, match="no intensity mapping"):
        Intensity.from_json({"low": 3})


def test_one_mapping_holds_for_all_frames():
    """A bleaching stack stays bleaching: frames are not stretched one by one."""
    data = (pixels((20, 30, 30)) * np.linspace(1, 0.1, 20)[:, None, None]).astype(np.float32)
    stack = open_stack(data)
    means = [stack.frame(i).mean() for i in range(20)]
    assert (np.diff(means) < 0).all()
    assert stack.intensity.high[0] == pytest.approx(200, rel=0.02)


def test_an_empty_frame_stays_empty_and_a_constant_one_flat():
    data = pixels().astype(np.float32) + 10
    data[1], data[2], data[3] = np.nan, 0, data.max()
    stack = open_stack(data)
    assert (stack.frame(1) == 0).all()
    assert (stack.frame(2) == 0).all()
    assert (stack.frame(3) == 1).all()
    assert np.isnan(stack.raw(1)).all()


@pytest.mark.parametrize("value", [0, 7])
def test_a_constant_stack_is_black(value):
    stack = open_stack(np.full((3, 8, 9), value, np.uint16))
    assert all((stack.frame(i) == 0).all() for i in range(3))


def test_a_few_bright_pixels_count():
    data = np.zeros((3, 100, 100), np.uint16)
    data[1, 5, 5] = 1000
    stack = open_stack(data)
    assert stack.frame(1)[5, 5, 0] == 1
    assert stack.frame(1).sum() == 3


def test_a_stack_of_nan_is_an_error_but_one_good_frame_is_enough():
    data = np.full((50, 8, 9), np.nan)
    with pytest.raises(StackError, match="no finite value in any frame"):
        open_stack(data)
    data[3] = pixels((8, 9))
    stack = open_stack(data)
    assert stack.frame(3).max() == 1
    both = np.stack([np.zeros((2, 8, 9)), np.full((2, 8, 9), np.nan)], axis=1)
    with pytest.raises(StackError, match="channel 1 of"):
        open_stack(both, axes="tcyx", channels=(0, 1))


def test_infinities_are_the_ends():
    data = pixels().astype(np.float32)
    data[0, 0, :2] = -np.inf, np.inf
    frame = open_stack(data).frame(0)
    assert frame[0, 0, 0] == 0
    assert frame[0, 1, 0] == 1


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_type_works(dtype):
    stack = open_stack(pixels(dtype=dtype))
    frame = stack.frame(0)
    assert (frame.dtype, frame.shape) == (np.float32, (10, 12, 3))
    assert frame.min() >= 0
    assert 0.9 < frame.max() <= 1
    assert stack.raw(0).dtype == dtype


def test_given_mappings():
    stack = open_stack(pixels(), intensity=(0, 400))
    np.testing.assert_allclose(stack.frame(2)[..., 1], stack.raw(2) / 400, rtol=1e-6)
    assert dataclasses.replace(stack, intensity=Intensity((0.0,), (1.0,))).frame(0).max() == 1
    with pytest.raises(InputError, match="must be \\(low, high\\)"):
        open_stack(pixels(), intensity=(1, 2, 3))
    with pytest.raises(InputError, match="2 channels, but 1"):
        open_stack(pixels(), intensity=Intensity((0.0, 0.0), (1.0, 1.0)))


# --- axes and channels --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "axes", "options", "expected"),
    [
        ((4, 8, 9), "tyx", {}, ("t", 4, {})),
        ((4, 8, 9), "zyx", {}, ("z", 4, {})),
        ((8, 9), "yx", {}, ("t", 1, {})),
        ((1, 8, 9), "zyx", {}, ("z", 1, {})),
        ((1, 6, 8, 9), "tzyx", {}, ("z", 6, {})),
        ((4, 1, 8, 9), "tzyx", {}, ("t", 4, {})),
        ((1, 1, 8, 9), "tzyx", {}, ("t", 1, {})),
        ((4, 6, 8, 9), "tzyx", {"at": {"z": 2}}, ("t", 4, {"z": 2})),
        ((4, 6, 8, 9), "tzyx", {"frame_axis": "z", "at": {"t": 3}}, ("z", 6, {"t": 3})),
        ((4, 1, 8, 9), "tzyx", {"frame_axis": "t", "at": {"z": 0}}, ("t", 4, {})),
        ((1, 6, 8, 9), "tzyx", {"frame_axis": "t", "at": {"z": 5}}, ("t", 1, {"z": 5})),
    ],
)
def test_frame_axis(shape, axes, options, expected):
    data = pixels(shape)
    stack = open_stack(data, axes=axes, **options)
    assert (stack.frame_axis, stack.n_frames, stack.at) == expected
    assert len(stack) == stack.n_frames
    assert stack.frame_shape == (8, 9)
    assert stack.axes_out == f"{expected[0]}yx"
    full = data.reshape(
        shape[axes.index("t")] if "t" in axes else 1, shape[axes.index("z")] if "z" in axes else 1, 8, 9
    )
    for i in range(stack.n_frames):
        index = {"t": 0, "z": 0} | stack.at | {stack.frame_axis: i}
        np.testing.assert_array_equal(stack.raw(i), full[index["t"], index["z"]])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, StackError, r"6 steps along z beside the frame axis t; choose one, such as at=\{'z': 3\}"),
        ({"at": {"t": 1}}, InputError, "fixes t, which is the frame axis"),
        ({"at": {"z": 6}}, InputError, "6 steps along z"),
        ({"at": {"z": -1}}, InputError, "6 steps along z"),
        ({"at": {"c": 0}}, InputError, "choose channels with channels="),
        ({"frame_axis": "y"}, InputError, "use 't' or 'z'"),
        ({"at": {"z": 0}, "channels": (5,)}, InputError, "1 to 3 of its 2"),
        ({"at": {"z": 0}, "channels": ()}, InputError, "1 to 3 of its 2"),
        ({"at": {"z": 0}, "channels": (0, 0, 1, 1)}, InputError, "1 to 3 of its 2"),
        ({"at": {"z": 0}, "spacing": (1, 2, 3, 4)}, InputError, "spacing has 4 values"),
        ({"at": {"z": 0}, "spacing": (0, 1)}, InputError, "positive"),
        ({"at": {"z": 0}, "spacing": {"q": 1}}, InputError, "use t, z, y and x"),
    ],
)
def test_choices_that_do_not_fit(options, error, message):
    with pytest.raises(error, match=message):
        open_stack(pixels((4, 6, 2, 8, 9)), axes="tzcyx", **options)


def test_frame_axis_that_is_not_there():
    with pytest.raises(StackError, match="no axis 'z'"):
        open_stack(pixels(), frame_axis="z")


@pytest.mark.parametrize("index", [-1, 5, 10**9])
def test_frames_outside(index):
    stack = open_stack(pixels())
    for read in (stack.raw, stack.frame):
        with pytest.raises(InputError, match=f"no frame {index}; array has 5, from 0 to 4"):
            read(index)


def test_channels():
    data = pixels((3, 4, 8, 9))
    data[:, 1] *= 10
    stack = open_stack(data, axes="tcyx")
    assert stack.channels == (0,)
    np.testing.assert_array_equal(stack.raw(1), data[1, 0])
    frame = stack.frame(1)
    assert (frame[..., 0] == frame[..., 1]).all()
    assert (frame[..., 0] == frame[..., 2]).all()
    for channels in [(3, 1, 0), (1, 2, 3), (0, 0, 1), (2, 1)]:
        stack = open_stack(data, axes="tcyx", channels=channels)
        np.testing.assert_array_equal(stack.raw(2), np.moveaxis(data[2, list(channels)], 0, -1))
        assert len(stack.intensity.low) == len(channels)
        frame = stack.frame(2)
        for place, channel in enumerate(channels):
            alone = open_stack(data, axes="tcyx", channels=channel)
            np.testing.assert_array_equal(frame[..., place], alone.frame(2)[..., 0])
        assert (frame[..., len(channels) :] == 0).all()


def test_rgb_stays_rgb():
    data = pixels((3, 8, 9, 4), np.uint8)
    stack = open_stack(data)
    assert stack.channels == (0, 1, 2)
    assert stack.intensity == Intensity((0.0,), (255.0,))
    np.testing.assert_array_equal(stack.raw(1), data[1, ..., :3])
    np.testing.assert_allclose(stack.frame(1), data[1, ..., :3] / 255, rtol=1e-6)
    np.testing.assert_array_equal(open_stack(data, channels=1).raw(1), data[1, ..., 1])


# --- lazily -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(40, 30, 20), (3, 1500, 1100)])
def test_no_read_is_larger_than_a_frame(shape):
    array = Recorder(pixels(shape))
    stack = open_stack(array)
    assert 1 <= len(array.reads) <= 8
    stack.identity()
    stack.describe()
    stack.frame(2)
    assert max(array.reads) <= shape[1] * shape[2]
    if shape[1] * shape[2] > 10**6:
        assert max(array.reads[:-1]) <= 2**18  # a sample needs no whole frame


def test_channels_that_are_not_chosen_are_not_read():
    array = Recorder(pixels((6, 5, 4, 30, 20)))
    stack = open_stack(array, axes="tzcyx", at={"z": 1}, channels=(0, 3))
    stack.frame(0)
    assert set(array.reads) == {600}


def test_given_intensity_reads_nothing_at_all():
    array = Recorder(pixels())
    open_stack(array, intensity=(0, 1))
    assert array.reads == []


def test_dask_computes_single_frames():
    blocks = []

    def block(block_info=None):
        blocks.append(block_info[None]["chunk-location"][0])
        return np.full((1, 8, 9), blocks[-1], np.uint16)

    array = da.map_blocks(
        block, chunks=((1,) * 30, (8,), (9,)), dtype=np.uint16, meta=np.empty((0, 0, 0), np.uint16)
    )
    stack = open_stack(array, intensity=(0, 100))
    assert blocks == []
    assert stack.raw(17).max() == 17
    assert blocks == [17]


# --- calibration and identity -------------------------------------------------------------------------


def test_spacing_is_kept_through_to_the_outputs(tmp_path):
    data = pixels()
    metadata = {"axes": "ZYX", "unit": "micron", "spacing": 2.0}
    tifffile.imwrite(tmp_path / "in.tif", data, imagej=True, resolution=(4, 2), metadata=metadata)
    stack = open_stack(tmp_path / "in.tif")
    assert stack.spacing == (2.0, 0.5, 0.25)
    assert stack.units == ("micrometer",) * 3
    shape = (stack.n_frames, *stack.frame_shape)
    layout = (shape, stack.axes_out, stack.spacing, stack.units)
    frames = (np.full(stack.frame_shape, i) for i in range(5))
    outputs = [
        write_labels_tiff(tmp_path / "out.ome.tif", frames, *layout),
        write_labels_tiff(tmp_path / "out.tif", data, *layout),
        write_labels_ome_zarr(tmp_path / "out.zarr", data, *layout),
    ]
    for path in outputs:
        with read_labels(path) as out:
            assert tuple(out.scale.values()) == pytest.approx(stack.spacing)
            assert tuple(out.units.values()) == stack.units


def test_spacing_can_be_told():
    stack = open_stack(pixels(), spacing=(0.5, 0.25), units="µm")
    assert stack.spacing == (1.0, 0.5, 0.25)
    assert stack.units == (None, "micrometer", "micrometer")
    stack = open_stack(pixels(), spacing=(30, 1, 2), units=("min", "nm", None))
    assert (stack.spacing, stack.units) == ((30, 1, 2), ("minute", "nanometer", None))
    stack = open_stack(pixels(), axes="zyx", spacing={"z": 3, "t": 9}, units="um")
    assert (stack.spacing, stack.units) == ((3, 1, 1), ("micrometer",) * 3)


def test_identity_follows_the_data_not_the_file(tmp_path):
    data = pixels((6, 40, 50))
    tifffile.imwrite(tmp_path / "a.tif", data, compression="zlib", byteorder=">")
    array = zarr.create_array(tmp_path / "b.zarr", shape=data.shape, dtype=data.dtype)
    array[...] = data
    same = {open_stack(source).identity() for source in (data, tmp_path / "a.tif", tmp_path / "b.zarr")}
    assert len(same) == 1
    changed = data.copy()
    changed[3, 7, 7] += 1
    others = [
        open_stack(changed),
        open_stack(data.astype(np.int16)),
        open_stack(data[:5]),
        open_stack(data, axes="zyx"),
        open_stack(data[:, :, :49]),
        open_stack(data[:, None], axes="tcyx"),
    ]
    assert len(same | {stack.identity() for stack in others}) == 7
    # The mapping is not part of what the data are.
    assert open_stack(data, intensity=(0, 1)).identity() in same


@pytest.mark.parametrize(
    ("file", "how", "told"),
    [
        ({}, {}, False),
        ({"y": 0.2, "x": 0.2}, {}, False),  # how far planes lie apart is not known
        ({}, {"spacing": (0.2, 0.2)}, False),
        ({}, {"spacing": (1, 1, 1)}, True),
        ({}, {"spacing": {"z": 1}}, True),
        ({}, {"units": "um"}, True),
        ({}, {"units": {"x": "um"}}, False),
        ({"z": 3.0}, {}, True),
    ],
)
def test_whether_spacing_was_told_is_known(file, how, told):
    image = lazy_image(np.zeros((4, 5, 6), np.uint8), "zyx", scale=file)
    stack = open_stack(image, intensity=(0, 255), **how)
    assert stack.spacing_told is told
    assert reopen_stack(stack.describe(), image).spacing_told is told
    assert stack.along("y").spacing_told is told


def test_a_millimetre_each_way_is_told_by_its_unit_also_along_another_axis():
    scale, units = dict.fromkeys("zyx", 1.0), dict.fromkeys("zyx", "millimeter")
    image = lazy_image(np.zeros((4, 5, 6), np.uint8), "zyx", scale=scale, units=units)
    assert open_stack(image, intensity=(0, 255)).spacing_told
    for along in "yx":
        planes = lazy_image(np.zeros((4, 5, 6), np.uint8), "zyx", scale={"z": 3.0})
        assert open_stack(planes, intensity=(0, 255), along=along).spacing_told
        pixels_only = lazy_image(np.zeros((4, 5, 6), np.uint8), "zyx", scale={"y": 3.0, "x": 3.0})
        assert not open_stack(pixels_only, intensity=(0, 255), along=along).spacing_told


def test_descriptions_of_before_tell_spacing_where_it_is_not_one():
    image = lazy_image(np.zeros((4, 5, 6), np.uint8), "zyx")
    for spacing, told in (((1, 1, 1), False), ((2, 1, 1), True)):
        old = open_stack(image, intensity=(0, 255), spacing=spacing).describe()
        del old["spacing_told"]
        assert reopen_stack(old, image).spacing_told is told


def test_describe_is_json():
    stack = open_stack(pixels((4, 6, 2, 8, 9)), axes="tzcyx", at={"z": np.int64(2)}, channels=(1, 0))
    told = json.loads(json.dumps(stack.describe()))
    assert told["n_frames"] == 4
    assert told["at"] == {"z": 2}
    assert told["channels"] == [1, 0]
    assert Intensity.from_json(told["intensity"]) == stack.intensity


def test_a_stack_closes_its_file(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", pixels(), compression="zlib")
    with open_stack(tmp_path / "a.tif") as stack:
        stack.frame(0)
    with pytest.raises(StackError, match="was closed"):
        stack.frame(1)
    # A stack that cannot be opened leaves no open file behind either; a warning would fail the test.
    with pytest.raises(InputError, match="channels"):
        open_stack(tmp_path / "a.tif", channels=(3,))


@given(
    box=st.tuples(st.integers(0, 9), st.integers(0, 11), st.integers(1, 10), st.integers(1, 12)).filter(
        lambda b: b[0] < b[2] and b[1] < b[3]
    ),
    step=st.integers(1, 4),
    channels=st.sampled_from([None, 0, (0, 1), (0, 1, 2)]),
)
def test_a_part_of_a_frame_is_what_the_frame_has_there(box, step, channels):
    data = pixels((5, 10, 12) if channels is None else (5, 3, 10, 12))
    recorder = Recorder(data)
    stack = open_stack(recorder, axes="tyx" if channels is None else "tcyx", channels=channels)
    recorder.reads.clear()
    part = stack.frame(2, box, step)
    y0, x0, y1, x1 = box
    np.testing.assert_array_equal(part, stack.frame(2)[y0:y1:step, x0:x1:step])
    assert sum(recorder.reads[: len(recorder.reads) - 1]) <= part.size


def test_pixels_at_a_distance_come_from_the_levels_of_a_multiscale_image(tmp_path):
    rng = np.random.default_rng(0)
    full = rng.integers(0, 100, (2, 40, 24), np.uint8)
    group = zarr.create_group(tmp_path / "a.ome.zarr")
    for level, shrunk in enumerate((full, full.reshape(2, 20, 2, 12, 2).max((2, 4)))):
        group.create_array(str(level), data=shrunk)
    axes = [{"name": "t", "type": "time"}, {"name": "y", "type": "space"}, {"name": "x", "type": "space"}]
    datasets = [
        {"path": str(i), "coordinateTransformations": [{"type": "scale", "scale": [1, 2**i, 2**i]}]}
        for i in range(2)
    ]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}
    stack = open_stack(tmp_path / "a.ome.zarr", intensity=(0, 100))
    half = group["1"][1]
    np.testing.assert_allclose(stack.frame(1, None, 2)[..., 0], half / 100, atol=1e-6)
    np.testing.assert_allclose(
        stack.frame(1, (8, 4, 32, 24), 4)[..., 0], half[4:16:2, 2:12:2] / 100, atol=1e-6
    )
    # Not where the part begins between two of its pixels, and never as raw pixels.
    np.testing.assert_allclose(
        stack.frame(1, (7, 4, 31, 24), 2)[..., 0], full[1, 7:31:2, 4:24:2] / 100, atol=1e-6
    )
    assert np.array_equal(stack.raw(1, None, 2), full[1, ::2, ::2])
