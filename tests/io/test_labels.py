"""Labels come back as they were written, calibrated, or not at all."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stacksam.errors import InputError, StackError, StorageError
from stacksam.io import labels as labels_module
from stacksam.io.labels import (
    create_label_store,
    open_label_store,
    read_labels,
    store_frame,
    write_labels_ome_zarr,
    write_labels_tiff,
)

SHAPE = (3, 20, 30)
SCALE = (2.0, 0.5, 0.25)
UNITS = ("second", "micrometer", "micrometer")


def some_labels(shape=SHAPE, dtype=np.uint16, top=500):
    return np.random.default_rng(0).integers(0, top, size=shape).astype(dtype)


def write(kind, folder, frames, *, name=None, **options):
    """Write in one of the four ways; returns the path."""
    layout = {"shape": SHAPE, "axes": "tyx", "scale": SCALE, "units": UNITS} | options
    if kind.startswith("zarr"):
        return write_labels_ome_zarr(folder / (name or "a.ome.zarr"), frames, version=kind[5:], **layout)
    return write_labels_tiff(folder / (name or ("a.ome.tif" if kind == "ome" else "a.tif")), frames, **layout)


KINDS = ["ome", "imagej", "zarr 0.4", "zarr 0.5"]
kinds = pytest.mark.parametrize("kind", KINDS)


@kinds
@pytest.mark.parametrize("axes", ["tyx", "zyx"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32])
def test_round_trip(tmp_path, kind, axes, dtype):
    data = some_labels(dtype=dtype, top=200 if dtype == np.uint8 else 2**17 if dtype == np.uint32 else 500)
    units = UNITS if axes == "tyx" else ("um", "µm", "micron")
    path = write(kind, tmp_path, iter(data.astype(np.int32)), axes=axes, units=units, dtype=dtype)
    image = read_labels(path)
    assert (image.axes, image.dtype, image.name) == (axes, dtype, "a")
    np.testing.assert_array_equal(image.read(), data)
    np.testing.assert_array_equal(image.read(**{axes[0]: 1}), data[1])
    assert tuple(image.scale.values()) == pytest.approx(SCALE, rel=1e-6)
    frame_unit = "second" if axes == "tyx" else "micrometer"
    assert tuple(image.units.values()) == (frame_unit, "micrometer", "micrometer")
    image.close()
    assert sorted(os.listdir(tmp_path)) == [path.name]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(
    kind=st.sampled_from(KINDS),
    axis=st.sampled_from("tz"),
    scale=st.tuples(*[st.floats(1e-3, 1e3) | st.floats(1e-9, 1e12)] * 3),
    space=st.tuples(*[st.sampled_from(["nanometer", "micrometer", "millimeter", None])] * 2),
    frame_unit=st.sampled_from(["millisecond", "second", "minute", "hour", None]),
)
def test_calibration_survives(tmp_path, kind, axis, scale, space, frame_unit):
    y_unit, x_unit = space
    if axis == "z":
        frame_unit = "nanometer" if frame_unit else None
    elif frame_unit is None and kind == "ome":
        scale = (1.0, *scale[1:])  # OME-XML has no time step without a unit
    units = (frame_unit, y_unit, x_unit)
    data = np.ones((2, 4, 5), np.uint16)
    path = write(
        kind, tmp_path, data, shape=data.shape, axes=f"{axis}yx", scale=scale, units=units, overwrite=True
    )
    with read_labels(path) as image:
        assert tuple(image.scale.values()) == pytest.approx(scale, rel=1e-5)
        assert tuple(image.units.values()) == units


def test_one_frame_and_bool(tmp_path):
    data = some_labels((1, 4, 5), np.bool_, 2)
    for kind in KINDS:
        path = write(
            kind,
            tmp_path,
            data,
            shape=data.shape,
            name=f"{KINDS.index(kind)}.tif"[: 1 if "zarr" in kind else 5],
        )
        with read_labels(path) as image:
            np.testing.assert_array_equal(np.squeeze(image.read()), data[0])


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ome_zarr_has_the_structure_of_the_standard(tmp_path, version):
    path = write(f"zarr {version}", tmp_path, some_labels((3, 1500, 20)), shape=(3, 1500, 20))
    if version == "0.5":
        node = json.loads((path / "zarr.json").read_text())
        assert (node["zarr_format"], node["node_type"]) == (3, "group")
        ome = node["attributes"]["ome"]
        assert ome["version"] == "0.5"
        array = json.loads((path / "0" / "zarr.json").read_text())
        assert array["dimension_names"] == ["t", "y", "x"]
        assert array["chunk_grid"]["configuration"]["chunk_shape"] == [1, 1024, 20]
        assert (path / "0" / "c" / "2" / "1" / "0").is_file()
    else:
        assert json.loads((path / ".zgroup").read_text()) == {"zarr_format": 2}
        ome = json.loads((path / ".zattrs").read_text())
        assert ome["multiscales"][0]["version"] == "0.4"
        array = json.loads((path / "0" / ".zarray").read_text())
        assert (array["chunks"], array["dimension_separator"]) == ([1, 1024, 20], "/")
        assert (path / "0" / "2" / "1" / "0").is_file()
    assert "image-label" in ome
    (image,) = ome["multiscales"]
    assert image["axes"] == [
        {"name": "t", "type": "time", "unit": "second"},
        {"name": "y", "type": "space", "unit": "micrometer"},
        {"name": "x", "type": "space", "unit": "micrometer"},
    ]
    assert image["datasets"] == [
        {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": list(SCALE)}]}
    ]


def test_tiff_has_what_other_programs_look_for(tmp_path):
    with tifffile.TiffFile(write("imagej", tmp_path, some_labels())) as tif:
        assert tif.is_imagej
        assert tif.imagej_metadata["frames"] == 3
        assert tif.imagej_metadata["unit"] == "micron"
        assert tif.pages[0].compression.name == "ADOBE_DEFLATE"
        assert len(tif.pages) == 3
    with tifffile.TiffFile(write("ome", tmp_path, some_labels())) as tif:
        assert tif.is_ome
        assert tif.series[0].axes == "TYX"
        assert tif.pages[0].resolution == pytest.approx((40000, 20000))
        assert tif.pages[0].resolutionunit.name == "CENTIMETER"
    with tifffile.TiffFile(write("imagej", tmp_path, some_labels(), dtype=np.uint32, overwrite=True)) as tif:
        assert tif.is_ome  # ImageJ has no 32-bit integers
        assert not tif.is_bigtiff


def test_big_labels_are_bigtiff(tmp_path, monkeypatch):
    monkeypatch.setattr(labels_module, "_CLASSIC_TIFF_LIMIT", 1000)
    path = write("imagej", tmp_path, some_labels())
    with tifffile.TiffFile(path) as tif:
        assert tif.is_bigtiff
        assert tif.is_ome
    np.testing.assert_array_equal(read_labels(path).read(), some_labels())


@kinds
def test_frames_are_taken_one_at_a_time(tmp_path, kind):
    alive = 0

    class Frame(np.ndarray):
        def __del__(self):
            nonlocal alive
            alive -= self.base is None

    def frames():
        nonlocal alive
        for number in range(30):
            frame = np.full((20, 30), number, np.uint16).view(Frame)
            alive += frame.base is None
            assert alive <= 2
            yield frame

    path = write(kind, tmp_path, frames(), shape=(30, 20, 30))
    assert read_labels(path).read(t=29).max() == 29


# --- refusals -----------------------------------------------------------------------------------------


@kinds
@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (some_labels()[:2], "2 frames, but the shape tells 3"),
        (some_labels((4, 20, 30)), "more frames than the 3"),
        (some_labels((3, 30, 20)), r"frame 0 is uint16 of shape \(30, 20\)"),
        (some_labels().astype(float), "frame 0 is float64"),
        (some_labels().astype(int) + 70000, "uint16 holds 0 to 65535"),
        (some_labels().astype(int) - 1000, "frame 0 has ids from -"),
    ],
)
def test_frames_that_do_not_fit_leave_nothing_behind(tmp_path, kind, frames, message):
    with pytest.raises(InputError, match=message):
        write(kind, tmp_path, iter(frames))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"axes": "yxt"}, "'yxt'"),
        ({"shape": (3, 20)}, "frames, height, width"),
        ({"shape": (0, 20, 30)}, "none of them zero"),
        ({"scale": (1, 0, 1)}, "three positive numbers"),
        ({"scale": (1, float("nan"), 1)}, "three positive numbers"),
        ({"units": ("s",)}, "must be three"),
        ({"dtype": np.int64}, "use uint16, or uint32"),
    ],
)
def test_layouts_that_make_no_sense(tmp_path, options, message):
    for kind in KINDS:
        with pytest.raises(InputError, match=message):
            write(kind, tmp_path, some_labels(), **options)
    with pytest.raises(InputError, match=r"version '0\.3'"):
        write("zarr 0.3", tmp_path, some_labels())


@kinds
def test_what_exists_stays_until_the_new_one_is_complete(tmp_path, kind):
    old, new = some_labels(), some_labels() + 1
    path = write(kind, tmp_path, old)
    with pytest.raises(StorageError, match="exists already"):
        write(kind, tmp_path, new)

    def breaks():
        yield new[0]
        np.testing.assert_array_equal(read_labels(path).read(), old)
        raise RuntimeError("the power went out")

    with pytest.raises(RuntimeError, match="power"):
        write(kind, tmp_path, breaks(), overwrite=True)
    np.testing.assert_array_equal(read_labels(path).read(), old)
    assert os.listdir(tmp_path) == [path.name]
    write(kind, tmp_path, new, overwrite=True)
    np.testing.assert_array_equal(read_labels(path).read(), new)
    assert os.listdir(tmp_path) == [path.name]


@kinds
def test_a_folder_of_other_things_is_never_overwritten(tmp_path, kind):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
    with pytest.raises(StorageError, match="folder of other things"):
        write(kind, tmp_path, some_labels(), name="thesis", overwrite=True)
    assert (tmp_path / "thesis" / "chapter.txt").read_text() == "years of work"


@kinds
def test_no_folder_to_write_in(tmp_path, kind):
    with pytest.raises(StorageError, match="there is no folder"):
        write(kind, tmp_path / "missing", some_labels())
    assert os.listdir(tmp_path) == []


@kinds
@pytest.mark.parametrize(
    ("number", "message"),
    [(errno.ENOSPC, "the disk is full"), (errno.EROFS, "is read-only"), (errno.EACCES, "no permission")],
)
def test_disks_that_refuse(tmp_path, kind, number, message, monkeypatch):
    def refuse(*_args, **_options):
        raise OSError(number, os.strerror(number))

    if kind.startswith("zarr"):
        monkeypatch.setattr(zarr.storage.LocalStore, "_set", refuse, raising=False)
    else:
        monkeypatch.setattr(tifffile.FileHandle, "write", refuse)
    with pytest.raises(StorageError, match=message):
        write(kind, tmp_path, some_labels())
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files")
@kinds
def test_a_disk_that_is_really_too_small(tmp_path, kind):
    """Noise does not compress, and no file may grow beyond 64 kB: the write fails half way."""
    script = f"""
        import resource, sys
        import numpy as np
        from stacksam.errors import StorageError
        from stacksam.io import write_labels_ome_zarr, write_labels_tiff
        resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))
        frames = np.random.default_rng(0).integers(0, 65536, (4, 200, 300)).astype("uint16")
        kind, write = {kind!r}, write_labels_tiff
        options = {{}}
        if kind.startswith("zarr"):
            write, options = write_labels_ome_zarr, {{"version": kind[5:]}}
        try:
            write(sys.argv[1], frames, frames.shape, "tyx", (1, 1, 1), (None,) * 3, **options)
        except StorageError as error:
            sys.exit(0 if "larger than the system allows" in str(error) else f"unexpected: {{error}}")
        sys.exit("no error")
    """
    path = tmp_path / ("a.ome.tif" if kind == "ome" else "a.tif" if kind == "imagej" else "a.zarr")
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(path)],
        capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": str(Path(labels_module.__file__).parents[2])},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
@kinds
def test_read_only_folder(tmp_path, kind):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(StorageError, match="no permission to write"):
            write(kind, tmp_path, some_labels())
    finally:
        tmp_path.chmod(0o700)


def test_labels_are_whole_numbers(tmp_path):
    tifffile.imwrite(tmp_path / "f.tif", np.zeros((5, 8, 9), np.float32))
    with pytest.raises(StackError, match="float32 values; labels are whole numbers"):
        read_labels(tmp_path / "f.tif")
    with pytest.raises(StackError, match="holds colours"):
        read_labels(np.zeros((8, 9, 3), np.uint8))


# --- the live store -----------------------------------------------------------------------------------


def test_live_store_takes_frames_and_parts_of_them_in_any_order(tmp_path):
    data = some_labels((4, 1030, 20))
    data[2] = 0
    store = create_label_store(tmp_path / "live.ome.zarr", data.shape, np.uint16, "tyx", SCALE, UNITS)
    assert store.chunks == (1, 1024, 20)
    store_frame(store, 3, data[3])
    store_frame(store, 2, data[2])
    store_frame(store, 0, data[0, 1000:, 5:], (1000, 5))
    store_frame(store, 0, data[0, :1000], (0, 0))
    assert not store[0, 1000:, :5].any()
    np.testing.assert_array_equal(store[0, 1000:, 5:], data[0, 1000:, 5:])
    again = open_label_store(tmp_path / "live.ome.zarr")
    again[1] = 0
    again[0] = data[0]
    image = read_labels(tmp_path / "live.ome.zarr")
    np.testing.assert_array_equal(image.read(t=0), data[0])
    assert image.scale == {"t": 2, "y": 0.5, "x": 0.25}
    assert image.units == {"t": "second", "y": "micrometer", "x": "micrometer"}


def test_live_store_refuses_what_it_did_not_make(tmp_path):
    create_label_store(tmp_path / "a.zarr", SHAPE, np.uint16, "tyx", SCALE, UNITS)
    with pytest.raises(StorageError, match="exists already"):
        create_label_store(tmp_path / "a.zarr", SHAPE, np.uint16, "tyx", SCALE, UNITS)
    with pytest.raises(StorageError, match="there is no label store"):
        open_label_store(tmp_path / "b.zarr")
    (tmp_path / "c.zarr").mkdir()
    with pytest.raises(StorageError, match="cannot open the label store"):
        open_label_store(tmp_path / "c.zarr")
    group = zarr.open_group(tmp_path / "d.zarr", mode="w")
    group.create_array("0", shape=SHAPE, dtype="float64")
    with pytest.raises(StorageError, match="is no label store"):
        open_label_store(tmp_path / "d.zarr")


def test_a_failed_write_leaves_the_old_chunk(tmp_path, monkeypatch):
    store = create_label_store(tmp_path / "a.zarr", SHAPE, np.uint16, "tyx", SCALE, UNITS)
    store[0] = 5

    def half(self, content):
        with self.open("wb") as file:
            file.write(content[: len(content) // 2])
        raise OSError(errno.ENOSPC, "no space")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", half)
        with pytest.raises(StorageError, match="disk is full; frame 0 was not stored"):
            store_frame(store, 0, some_labels()[0])
    assert (store[0] == 5).all()
    files = [name for _, _, names in os.walk(tmp_path) for name in names]
    assert not [name for name in files if name.endswith(".partial")]


def test_a_torn_chunk_is_found_by_its_checksum(tmp_path):
    store = create_label_store(tmp_path / "a.zarr", SHAPE, np.uint16, "tyx", SCALE, UNITS)
    store[...] = some_labels()
    chunk = tmp_path / "a.zarr" / "0" / "c" / "1" / "0" / "0"
    content = bytearray(chunk.read_bytes())
    content[len(content) // 2] ^= 1
    chunk.write_bytes(content)
    image = read_labels(tmp_path / "a.zarr")
    np.testing.assert_array_equal(image.read(t=0), some_labels()[0])
    with pytest.raises(StackError, match="cannot read t=1"):
        image.read(t=1)


@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGKILL")
def test_a_kill_leaves_whole_chunks_only(tmp_path):
    """Killed while it writes one frame over and over: the frame is one of those written, never a mixture."""
    script = """
        import sys
        import numpy as np
        from stacksam.io import create_label_store
        store = create_label_store(sys.argv[1], (2, 300, 300), "uint16", "tyx", (1, 1, 1), (None,) * 3)
        noise = np.random.default_rng(0).integers(0, 1000, (300, 300)).astype("uint16")
        store[0] = noise
        print("ready", flush=True)
        for number in range(10**6):
            store[0] = noise + number % 60000
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), str(tmp_path / "a.zarr")], stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(Path(labels_module.__file__).parents[2])},
    )  # fmt: skip
    with process:
        assert process.stdout.readline() == b"ready\n"
        for _ in range(50):
            frame = read_labels(tmp_path / "a.zarr").read(t=0).astype(int)
            noise = np.random.default_rng(0).integers(0, 1000, (300, 300))
            assert len(np.unique(frame - noise)) == 1
        process.send_signal(signal.SIGKILL)
    store = open_label_store(tmp_path / "a.zarr")
    assert len(np.unique(store[0].astype(int) - noise)) == 1
    store[0] = 7
    assert (store[0] == 7).all()
