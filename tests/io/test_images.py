"""Every format gives the same pixels, axes and pixel size, one frame at a time, and bad input is named."""

from __future__ import annotations

import gc
import json
import os
import pickle
import sys

import dask.array as da
import numpy as np
import pytest
import tifffile
import zarr
from skimage.io import imsave

from stacksam.errors import InputError, StackError
from stacksam.io._tiff import _Pages
from stacksam.io._units import imagej_unit, normalise_unit, unit_symbol
from stacksam.io.images import LazyImage, natural_key, open_image

MICRO = "µm"


def pixels(shape=(5, 10, 12), dtype=np.uint16, seed=0):
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return rng.normal(size=shape).astype(dtype)
    return rng.integers(0, 2 if dtype == np.bool_ else 200, size=shape).astype(dtype)


def put(group, name, data):
    """``group.create_array(name, data=data)``, which zarr has not had from the start."""
    group.create_array(name, shape=data.shape, dtype=data.dtype)[...] = data


def ome_zarr(path, data, *, version="0.5", axes="tyx", levels=1, scale=None, units=None, outer=None):
    """A multiscale OME-Zarr, written with nothing of ours."""
    kinds = {"t": "time", "c": "channel"}
    units = units or {}
    named = [
        {"name": a, "type": kinds.get(a, "space")} | ({"unit": units[a]} if a in units else {}) for a in axes
    ]
    scale = scale or [1.0] * data.ndim
    datasets = []
    for level in range(levels):
        steps = [s * (2**level if a in "yx" else 1) for a, s in zip(axes, scale, strict=True)]
        transformations = [
            {"type": "scale", "scale": steps},
            {"type": "translation", "translation": [0.5] * data.ndim},
        ]
        datasets.append({"path": f"s{level}", "coordinateTransformations": transformations})
    image = {"axes": named, "datasets": datasets}
    if outer:
        image["coordinateTransformations"] = [{"type": "scale", "scale": outer}]
    attributes = {"multiscales": [image]}
    if version == "0.5":
        attributes = {"ome": attributes | {"version": "0.5"}}
    group = zarr.open_group(path, mode="w", zarr_format=3 if version == "0.5" else 2, attributes=attributes)
    for level in range(levels):
        part = data[..., :: 2**level, :: 2**level]
        array = group.create_array(
            f"s{level}", shape=part.shape, dtype=part.dtype, chunks=(1,) * (part.ndim - 2) + part.shape[-2:]
        )
        array[...] = part


def same(image: LazyImage, data: np.ndarray, axes: str) -> None:
    assert image.axes == axes
    assert image.shape == data.shape
    assert image.dtype == data.dtype
    np.testing.assert_array_equal(image.read(), data)
    if "t" in axes:
        np.testing.assert_array_equal(image.read(t=image.sizes["t"] - 1), data[-1])


# --- arrays -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.int16, np.uint32, np.float16, np.float64, ">u2"])
@pytest.mark.parametrize("wrap", [np.asarray, da.from_array, zarr.array], ids=["numpy", "dask", "zarr"])
def test_arrays_of_every_kind(wrap, dtype):
    data = pixels(dtype=np.dtype(dtype).newbyteorder("=")).astype(dtype)
    if wrap is zarr.array:
        array = zarr.create_array({}, shape=data.shape, dtype=data.dtype, zarr_format=2)
        array[...] = data
    else:
        array = wrap(data)
    image = open_image(array)
    same(image, data.astype(data.dtype.newbyteorder("=")), "tyx")
    assert image.dtype.isnative
    assert image.scale == {"t": 1, "y": 1, "x": 1}
    assert image.units == {"t": None, "y": None, "x": None}


@pytest.mark.parametrize(
    ("shape", "dtype", "axes", "rgb"),
    [
        ((8, 9), np.uint16, "yx", False),
        ((8, 9, 3), np.uint8, "cyx", True),
        ((8, 9, 3), np.uint16, "tyx", False),
        ((2, 8, 9, 4), np.uint8, "tcyx", True),
        ((2, 5, 8, 9), np.uint8, "tzyx", False),
    ],
)
def test_axes_of_bare_arrays(shape, dtype, axes, rgb):
    image = open_image(np.zeros(shape, dtype))
    assert (image.axes, image.rgb) == (axes, rgb)


def test_any_order_of_axes_is_put_in_one_order_and_read_in_parts():
    data = pixels((5, 6, 2, 3, 4))
    image = open_image(data, axes="XYCTZ")
    assert image.axes == "tzcyx"
    assert image.shape == (3, 4, 2, 6, 5)
    whole = data.transpose(3, 4, 2, 1, 0)
    np.testing.assert_array_equal(image.read(t=1, c=0), whole[1, :, 0])
    np.testing.assert_array_equal(
        image.read(t=slice(1, None), y=slice(None, None, 2), x=-1), whole[1:, :, :, ::2, -1]
    )
    np.testing.assert_array_equal(image.data[1, ..., 2:4], whole[1, ..., 2:4])
    np.testing.assert_array_equal(np.asarray(image.data), whole)


def test_axes_of_size_one_give_way():
    image = open_image(pixels((1, 4, 1, 6, 7)), axes="qtpyx")
    assert image.axes == "tyx"
    assert image.shape == (4, 6, 7)


def test_an_open_image_is_taken_as_it_is():
    image = open_image(pixels())
    assert open_image(image) is image
    with pytest.raises(StackError, match="open already"):
        open_image(image, axes="zyx")


@pytest.mark.parametrize(
    ("source", "axes", "message"),
    [
        (np.zeros((0, 4, 4)), None, "is empty"),
        (np.zeros((3, 0, 4)), None, "is empty"),
        (np.zeros(4), None, "at least the axes y and x"),
        (np.zeros((2, 2, 2, 2, 2)), None, "without names"),
        (np.zeros((2, 4, 4), complex), None, "complex"),
        (np.zeros((2, 4, 4), object), None, "object values"),
        (np.zeros((2, 4, 4), "U3"), None, "<U3 values"),
        (np.zeros((2, 4, 4)), "yx", "do not fit"),
        (np.zeros((2, 4, 4)), "tzx", "y is missing"),
        (np.zeros((2, 4, 4)), "pyx", "axis 'p' of size 2"),
        (np.zeros((2, 3, 4, 4)), "tqyx", "two axes for 't'"),
        ([], None, "list of files is empty"),
        ([np.zeros((3, 3))], None, "list must hold paths"),
        (7, None, "cannot open a int"),
        ("https://example.org/a.zarr", None, "web address"),
    ],
)
def test_bad_sources_are_named(source, axes, message):
    with pytest.raises(StackError, match=message):
        open_image(source, axes=axes)


def test_bad_indices_are_named():
    image = open_image(pixels())
    with pytest.raises(InputError, match="no axis 'z'"):
        image.read(z=0)
    with pytest.raises(InputError, match="no index 5"):
        image.read(t=5)


# --- TIFF ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib", "lzw"])
def test_imagej_hyperstack_keeps_pixel_size(tmp_path, compression, byteorder):
    if compression == "lzw":
        pytest.importorskip("imagecodecs")
    data = pixels((3, 2, 2, 10, 12))
    metadata = {"axes": "TZCYX", "unit": "micron", "spacing": 2.5, "finterval": 30.0}
    tifffile.imwrite(
        tmp_path / "a.tif", data, imagej=True, compression=compression, byteorder=byteorder,
        resolution=(1 / 0.25, 1 / 0.5), metadata=metadata,
    )  # fmt: skip
    image = open_image(tmp_path / "a.tif")
    same(image, data, "tzcyx")
    assert image.name == "a"
    assert image.scale == pytest.approx({"t": 30, "z": 2.5, "c": 1, "y": 0.5, "x": 0.25})
    assert image.units == {"t": "second", "z": "micrometer", "c": None, "y": "micrometer", "x": "micrometer"}


@pytest.mark.parametrize("kind", ["plain", "tiles", "one piece"])
def test_ome_tiff_keeps_pixel_size(tmp_path, kind):
    data = pixels((3, 2, 40, 50), np.float32)
    data[0, 0, 0, 0] = np.nan
    options = {"plain": {"compression": "zlib"}, "tiles": {"tile": (16, 16)}, "one piece": {}}[kind]
    metadata = {
        "axes": "TZYX",
        "PhysicalSizeX": 65.0,
        "PhysicalSizeXUnit": "nm",
        "PhysicalSizeY": 0.07,
        "PhysicalSizeZ": 0.3,
        "PhysicalSizeZUnit": MICRO,
        "TimeIncrement": 2.0,
        "TimeIncrementUnit": "min",
    }
    tifffile.imwrite(tmp_path / "a.ome.tif", data, metadata=metadata, **options)
    image = open_image(tmp_path / "a.ome.tif")
    same(image, data, "tzyx")
    assert image.scale == pytest.approx({"t": 2, "z": 0.3, "y": 0.07, "x": 65})
    assert image.units == {"t": "minute", "z": "micrometer", "y": "micrometer", "x": "nanometer"}


def test_tiff_resolution_tags(tmp_path):
    tifffile.imwrite(tmp_path / "cm.tif", pixels(), resolution=(20000, 10000), resolutionunit="CENTIMETER")
    image = open_image(tmp_path / "cm.tif")
    assert image.scale == pytest.approx({"t": 1, "y": 1, "x": 0.5})
    assert image.units == {"t": None, "y": "micrometer", "x": "micrometer"}
    tifffile.imwrite(tmp_path / "dpi.tif", pixels(), resolution=(72, 72), resolutionunit="INCH")
    assert open_image(tmp_path / "dpi.tif").units["x"] is None


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_rgb_tiff(tmp_path, planar, compression):
    data = pixels((4, 10, 12, 3), np.uint8)
    stored = data if planar == "contig" else np.moveaxis(data, -1, 1)
    tifffile.imwrite(
        tmp_path / "a.tif", stored, photometric="rgb", planarconfig=planar, compression=compression
    )
    image = open_image(tmp_path / "a.tif")
    assert image.rgb
    same(image, np.moveaxis(data, -1, 1), "tcyx")


def test_tiff_of_several_images_asks_which(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as tif:
        for seed in (1, 2):
            tif.write(pixels(seed=seed), metadata={"axes": "ZYX", "PhysicalSizeX": float(seed)})
    with pytest.raises(StackError, match="2 images of equal size"):
        open_image(tmp_path / "a.ome.tif")
    image = open_image(tmp_path / "a.ome.tif", series=1)
    np.testing.assert_array_equal(image.read(), pixels(seed=2))
    assert image.scale["x"] == 2
    with pytest.raises(StackError, match="no series 2"):
        open_image(tmp_path / "a.ome.tif", series=2)


def test_tiff_pyramid(tmp_path):
    data = pixels((3, 64, 64))
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as tif:
        metadata = {"axes": "TYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
        tif.write(data, subifds=1, tile=(16, 16), metadata=metadata)
        tif.write(data[:, ::2, ::2], subfiletype=1, tile=(16, 16))
    same(open_image(tmp_path / "a.ome.tif"), data, "tyx")
    half = open_image(tmp_path / "a.ome.tif", level=1)
    same(half, data[:, ::2, ::2], "tyx")
    assert half.scale["x"] == 1.0
    with pytest.raises(StackError, match="levels are 0 to 1"):
        open_image(tmp_path / "a.ome.tif", level=2)


def test_compressed_tiff_decodes_only_the_page_asked_for(tmp_path, monkeypatch):
    data = pixels((6, 10, 12))
    tifffile.imwrite(tmp_path / "a.tif", data, compression="zlib")
    seen = []
    page = _Pages._page
    monkeypatch.setattr(_Pages, "_page", lambda self, number: seen.append(number) or page(self, number))
    image = open_image(tmp_path / "a.tif")
    assert seen == []
    np.testing.assert_array_equal(image.read(t=4, y=slice(2, 5)), data[4, 2:5])
    assert seen == [4]
    assert image.read(t=slice(2, 2)).shape == (0, 10, 12)


def test_tiff_that_needs_imagecodecs_says_so(tmp_path, monkeypatch):
    tifffile.imwrite(tmp_path / "a.tif", pixels(), compression="zlib")
    monkeypatch.setitem(vars(tifffile.TIFF), "DECOMPRESSORS", {1: None})
    with pytest.raises(
        StackError, match=r'DEFLATE, which needs imagecodecs: pip install "napari-stacksam\[io\]"'
    ):
        open_image(tmp_path / "a.tif")


@pytest.mark.parametrize("keep", [0, 4, 100, 0.5, 0.97])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_tiff_cut_short_is_never_taken_for_a_shorter_stack(tmp_path, keep, compression):
    tifffile.imwrite(tmp_path / "whole.tif", pixels((5, 64, 48)), compression=compression, metadata=None)
    whole = (tmp_path / "whole.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(whole[: int(keep * len(whole)) if isinstance(keep, float) else keep])
    with pytest.raises(StackError, match=r"a\.tif"):
        open_image(tmp_path / "a.tif").read()


def test_a_damaged_page_costs_only_itself(tmp_path):
    data = pixels((5, 64, 48))
    tifffile.imwrite(tmp_path / "a.tif", data, compression="zlib")
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        offset = tif.pages[2].dataoffsets[0]
    with (tmp_path / "a.tif").open("r+b") as file:
        file.seek(offset)
        file.write(bytes(40))
    image = open_image(tmp_path / "a.tif")
    with pytest.raises(StackError, match="cannot read t=2"):
        image.read(t=2)
    np.testing.assert_array_equal(image.read(t=3), data[3])


def test_files_are_closed(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", pixels(), compression="zlib")
    image = open_image(tmp_path / "a.tif")
    image.close()
    with pytest.raises(StackError, match="was closed"):
        image.read(t=0)
    if sys.platform == "linux":
        image = open_image(tmp_path / "a.tif")
        handles = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if _alive(fd)]
        assert str(tmp_path / "a.tif") in handles
        del image
        gc.collect()
        handles = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if _alive(fd)]
        assert str(tmp_path / "a.tif") not in handles


def _alive(fd):
    return os.path.lexists(f"/proc/self/fd/{fd}")


# --- zarr ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ome_zarr_keeps_axes_levels_and_pixel_size(tmp_path, version):
    data = pixels((3, 2, 16, 20))
    units = {"t": "second", "y": "micrometer", "x": "um"}
    ome_zarr(
        tmp_path / "a.ome.zarr", data, version=version, axes="tcyx", levels=2,
        scale=[1, 1, 0.5, 0.25], units=units, outer=[30, 1, 1, 2],
    )  # fmt: skip
    image = open_image(tmp_path / "a.ome.zarr")
    same(image, data, "tcyx")
    assert image.scale == {"t": 30, "c": 1, "y": 0.5, "x": 0.5}
    assert image.units == {"t": "second", "c": None, "y": "micrometer", "x": "micrometer"}
    half = open_image(tmp_path / "a.ome.zarr", level=1)
    same(half, data[..., ::2, ::2], "tcyx")
    assert half.scale == {"t": 30, "c": 1, "y": 1, "x": 1}
    with pytest.raises(StackError, match="levels are 0 to 1"):
        open_image(tmp_path / "a.ome.zarr", level=2)


def test_zarr_in_a_zip(tmp_path):
    data = pixels()
    with zarr.storage.ZipStore(tmp_path / "a.ozx", mode="w") as store:
        array = zarr.create_array(store, shape=data.shape, dtype=data.dtype, dimension_names=("z", "y", "x"))
        array[...] = data
    image = open_image(tmp_path / "a.ozx")
    assert image.axes == "zyx"
    np.testing.assert_array_equal(image.read(z=1), data[1])


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_plain_zarr_and_group_with_one_array(tmp_path, zarr_format):
    data = pixels()
    group = zarr.open_group(tmp_path / "g.zarr", mode="w", zarr_format=zarr_format)
    put(group, "only", data)
    same(open_image(tmp_path / "g.zarr"), data, "tyx")
    same(open_image(tmp_path / "g.zarr" / "only", axes="zyx"), data, "zyx")
    same(open_image(group), data, "tyx")
    put(group, "other", data)
    with pytest.raises(StackError, match="open one of the arrays in it: only, other"):
        open_image(tmp_path / "g.zarr")


def test_labels_group_and_collections_ask_which(tmp_path):
    data = pixels()
    root = zarr.open_group(tmp_path / "a.zarr", mode="w", attributes={"ome": {"labels": ["cells"]}})
    ome_zarr(tmp_path / "a.zarr" / "cells", data, axes="zyx")
    assert root.attrs
    same(open_image(tmp_path / "a.zarr"), data, "zyx")
    zarr.open_group(tmp_path / "b.zarr", mode="w", zarr_format=2, attributes={"bioformats2raw.layout": 3})
    for name in ("0", "1"):
        ome_zarr(tmp_path / "b.zarr" / name, data, version="0.4", axes="zyx")
    with pytest.raises(StackError, match="holds 2 images"):
        open_image(tmp_path / "b.zarr")
    assert open_image(tmp_path / "b.zarr", series=1).name == "b-1"
    plate = {"plate": {"wells": [{"path": "B/3"}]}}
    zarr.open_group(tmp_path / "p.zarr", mode="w", attributes={"ome": plate})
    with pytest.raises(StackError, match=r"plate or well; open one field of it, such as .*B/3/0"):
        open_image(tmp_path / "p.zarr")


@pytest.mark.parametrize(
    "multiscales",
    [
        [],
        {},
        "x",
        [{}],
        [{"datasets": []}],
        [{"datasets": [{}]}],
        [{"datasets": [{"path": "nowhere"}]}],
        [{"datasets": [{"path": "0"}], "axes": ["y", "x"]}],
        [{"datasets": [{"path": "0"}], "axes": ["p", "y", "x"]}],
        [
            {
                "datasets": [{"path": "0", "coordinateTransformations": [{"type": "scale"}]}],
                "axes": ["t", "y", "x"],
            }
        ],
        [{"datasets": [{"path": "0"}], "axes": [None, "y", "x"]}],
    ],
)  # fmt: skip
def test_damaged_ome_metadata_is_named(tmp_path, multiscales):
    attributes = {"ome": {"multiscales": multiscales}}
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", attributes=attributes)
    put(group, "0", pixels())
    with pytest.raises(StackError, match=r"a\.zarr"):
        open_image(tmp_path / "a.zarr")


def test_unreadable_zarr_is_named(tmp_path):
    for name, content in {
        "empty": None,
        "broken": "{",
        "object": json.dumps(
            {
                "zarr_format": 2, "shape": [3, 4, 4], "chunks": [1, 4, 4], "dtype": "|O", "fill_value": 0,
                "order": "C", "compressor": None, "filters": [{"id": "pickle"}],
            }
        ),
    }.items():  # fmt: skip
        folder = tmp_path / f"{name}.zarr"
        folder.mkdir()
        if content is not None:
            (folder / (".zarray" if name == "object" else "zarr.json")).write_text(content)
        with pytest.raises(StackError, match=rf"{name}\.zarr"):
            open_image(folder)


@pytest.mark.parametrize("place", ["compressor", "filters"])
def test_pickled_chunks_are_not_run(tmp_path, place):
    """The chunk would make a file when it is unpickled."""

    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "was run"),)

    metadata = {
        "zarr_format": 2, "shape": [3, 4, 4], "chunks": [1, 4, 4], "dtype": "<u2", "fill_value": 0,
        "order": "C", "compressor": None, "filters": None,
    }  # fmt: skip
    coder = {"id": "pickle", "protocol": 5}
    metadata[place] = coder if place == "compressor" else [coder]
    (tmp_path / "a.zarr").mkdir()
    (tmp_path / "a.zarr" / ".zarray").write_text(json.dumps(metadata))
    for t in range(3):
        (tmp_path / "a.zarr" / f"{t}.0.0").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(StackError, match="pickle"):
        open_image(tmp_path / "a.zarr").read(t=0)
    assert not (tmp_path / "was run").exists()


def test_a_torn_chunk_is_named(tmp_path):
    array = zarr.create_array(tmp_path / "a.zarr", shape=(3, 32, 32), chunks=(1, 32, 32), dtype="uint16")
    array[...] = pixels((3, 32, 32))
    chunk = tmp_path / "a.zarr" / "c" / "1" / "0" / "0"
    chunk.write_bytes(chunk.read_bytes()[:50])
    image = open_image(tmp_path / "a.zarr")
    image.read(t=0)
    with pytest.raises(StackError, match="cannot read t=1"):
        image.read(t=1)


# --- folders and files --------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg", ".bmp"])
def test_folder_of_images_in_natural_order(tmp_path, suffix):
    for number in (10, 2, 1):
        imsave(
            tmp_path / f"frame{number}{suffix}", np.full((8, 9), number * 10, np.uint8), check_contrast=False
        )
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / f".hidden{suffix}").write_text("not an image")
    image = open_image(tmp_path)
    assert (image.axes, image.shape) == ("tyx", (3, 8, 9))
    assert [round(float(image.read(t=t).mean())) for t in range(3)] == [10, 20, 100]
    one = open_image(sorted(tmp_path.glob(f"frame10{suffix}")))
    assert one.shape == (1, 8, 9)


def test_folder_of_z_stacks(tmp_path):
    data = pixels((3, 2, 8, 9))
    for t in range(3):
        tifffile.imwrite(
            tmp_path / f"t{t}.tif", data[t], imagej=True, resolution=(4, 4),
            metadata={"axes": "ZYX", "unit": "um", "spacing": 2.0},
        )  # fmt: skip
    image = open_image(tmp_path)
    same(image, data, "tzyx")
    assert image.scale == {"t": 1, "z": 2, "y": 0.25, "x": 0.25}
    np.testing.assert_array_equal(image.read(t=slice(1, 3), z=1), data[1:3, 1])


def test_rgb_pictures_and_16_bit(tmp_path):
    data = pixels((8, 9, 3), np.uint8)
    imsave(tmp_path / "a.png", data)
    image = open_image(tmp_path / "a.png")
    assert (image.axes, image.rgb) == ("cyx", True)
    np.testing.assert_array_equal(image.read(), np.moveaxis(data, -1, 0))
    grey = (pixels((8, 9)) * 300).astype(np.uint16)
    imsave(tmp_path / "b.png", grey, check_contrast=False)
    same(open_image(tmp_path / "b.png"), grey, "yx")
    # 16-bit colours: only the header matters, Pillow would not write them.
    content = bytearray((tmp_path / "a.png").read_bytes())
    content[24] = 16
    (tmp_path / "c.png").write_bytes(content)
    with pytest.raises(StackError, match="16-bit colours"):
        open_image(tmp_path / "c.png")


def test_folders_that_are_no_stack(tmp_path):
    with pytest.raises(StackError, match="holds no images"):
        open_image(tmp_path)
    imsave(tmp_path / "a.png", np.zeros((8, 9), np.uint8), check_contrast=False)
    imsave(tmp_path / "b.png", np.zeros((8, 8), np.uint8), check_contrast=False)
    image = open_image(tmp_path)
    image.read(t=0)
    with pytest.raises(StackError, match=r"b\.png is uint8 of shape \(8, 8\).*must be alike"):
        image.read(t=1)
    tifffile.imwrite(tmp_path / "c.tif", np.zeros((8, 9), np.uint8))
    with pytest.raises(StackError, match=r"mixes formats \(2 \.png, 1 \.tif\)"):
        open_image(tmp_path)
    (tmp_path / "b.png").unlink()
    gone = open_image([tmp_path / "a.png", tmp_path / "b.png"])
    with pytest.raises(StackError, match=r"no file or folder .*b\.png"):
        gone.read(t=1)


def test_files_that_are_no_stack(tmp_path):
    for name, message in {
        "missing.tif": "no file or folder",
        "a.docx": "unknown format '.docx'; supported are TIFF",
        "none": "unknown format ''",
        "a.tif": "as TIFF",
        "a.png": "as an image",
        "a.jpg": "as an image",
        "a.npy": "as a numpy array",
        "a.zip": "as zarr",
    }.items():
        path = tmp_path / name
        if "missing" not in name:
            path.write_bytes(b"this is not an image at all, whatever its name says")
        with pytest.raises(StackError, match=message) as caught:
            open_image(path)
        assert name in str(caught.value)
    np.save(tmp_path / "o.npy", np.array([None, 1]), allow_pickle=True)
    with pytest.raises(StackError, match="as a numpy array"):
        open_image(tmp_path / "o.npy")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read anything")
def test_files_without_permission(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", pixels())
    (tmp_path / "a.tif").chmod(0)
    with pytest.raises(StackError, match="Permission denied"):
        open_image(tmp_path / "a.tif")


def test_npy_is_mapped(tmp_path):
    data = pixels((2, 3, 8, 9))
    np.save(tmp_path / "a.npy", data)
    image = open_image(tmp_path / "a.npy")
    same(image, data, "tzyx")
    assert isinstance(image.data, np.memmap)


def test_natural_key():
    names = ["b1", "a10", "A2", "a2", "a", "a1b"]
    assert sorted(names, key=natural_key) == ["a", "a1b", "A2", "a2", "a10", "b1"]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("um", "micrometer"), ("µm", "micrometer"), ("μm", "micrometer"), ("\\u00B5m", "micrometer"),
        ("micron", "micrometer"), ("Microns", "micrometer"), ("micrometre", "micrometer"),
        ("mm", "millimeter"),
        ("m", "meter"), ("min", "minute"), ("sec", "second"), ("s", "second"), ("Å", "angstrom"),
        ("pixel", None), ("", None), (None, None), ("furlong", "furlong"),
    ],
)  # fmt: skip
def test_units_have_one_name(text, name):
    assert normalise_unit(text) == name
    assert normalise_unit(name) == name
    if name and name != "furlong":
        assert normalise_unit(unit_symbol(name)) == name
        assert normalise_unit(imagej_unit(name)) == name
        assert imagej_unit(name).isascii()


def test_coarser_levels_are_known(tmp_path):
    data = np.arange(2 * 40 * 24, dtype=np.uint16).reshape(2, 40, 24)
    ome_zarr(tmp_path / "a.ome.zarr", data, levels=3)
    image = open_image(tmp_path / "a.ome.zarr")
    assert [(factor, level.shape) for factor, level in image.coarser] == [(2, (2, 20, 12)), (4, (2, 10, 6))]
    factor, level = image.shrunk(8, 0, 16, 40, 24)
    assert factor == 4
    assert np.array_equal(level.read(t=1), data[1, ::4, ::4])
    assert image.shrunk(2, 2, 4)[0] == 2
    assert image.shrunk(3, 0, 9)[0] == 1
    # From a coarser level on, only what is coarser still.
    assert [f for f, _ in open_image(tmp_path / "a.ome.zarr", level=1).coarser] == [2]


def test_levels_that_are_no_smaller_copies_are_passed_over(tmp_path):
    data = np.zeros((2, 40, 24), np.uint16)
    ome_zarr(tmp_path / "a.ome.zarr", data, levels=3)
    zarr.create_array(tmp_path / "a.ome.zarr" / "s1", data=data[..., ::3, ::3], overwrite=True)
    image = open_image(tmp_path / "a.ome.zarr")
    assert [factor for factor, _ in image.coarser] == [4]
