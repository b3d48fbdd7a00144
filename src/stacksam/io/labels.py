"""Writing label stacks frame by frame, and reading them back.

Finished files (`write_labels_tiff`, `write_labels_ome_zarr`) are written beside their place and moved there
when complete, so a reader never sees half of one, and what was there before stays until then. The live
store (`create_label_store`) takes frames in any order while they are computed: each chunk is written to a
temporary file and renamed, so a kill leaves the old chunk or the new one; a chunk that a failing disk tore
is found by its checksum when it is read. Power loss is not guarded against (no fsync).
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray

from stacksam.errors import InputError, StackError, StorageError
from stacksam.io._complete import atomic_store, complete_or_nothing, storage_error
from stacksam.io._lazy import READ_ERRORS, LazyImage, _told
from stacksam.io._units import imagej_unit, is_space, is_time, normalise_unit, unit_symbol
from stacksam.io.images import Source, open_image

if TYPE_CHECKING:
    import zarr

__all__ = [
    "create_label_store",
    "grow_label_store",
    "open_label_store",
    "read_labels",
    "store_frame",
    "write_labels_ome_zarr",
    "write_labels_tiff",
]

MAX_CHUNK = 1024
_CLASSIC_TIFF_LIMIT = 4 * 2**30 - 2**25
"""Bytes from which on a TIFF needs 64-bit offsets, with some room for headers."""


def write_labels_tiff(
    path: str | os.PathLike[str],
    frames: Iterable[NDArray[Any]],
    shape: Sequence[int],
    axes: str,
    scale: Sequence[float],
    units: Sequence[str | None],
    overwrite: bool = False,
    *,
    dtype: DTypeLike = np.uint16,
) -> Path:
    """Write labels as a zlib-compressed TIFF, one frame at a time.

    Files named ``.ome.tif`` are OME-TIFF. Others are ImageJ hyperstacks, which Fiji opens with their pixel
    size, if the labels are 8 or 16 bits and fit in 4 GB; ImageJ has no 32-bit integers, so others are
    OME-TIFF, too.

    Parameters
    ----------
    path : path
        File to write; its folder must exist.
    frames : iterable of (H, W) arrays of int
        As many as ``shape[0]``.
    shape : (int, int, int)
        Number of frames, height, width.
    axes : {"tyx", "zyx"}
        What the frames are.
    scale, units : sequence of 3
        Size of a step along each axis, and its unit (None: pixels or frames). OME-TIFF has no time step
        without a unit: one that is not 1 is written as seconds.
    overwrite : bool
        Whether an existing file may be replaced; it is, once the new one is complete.
    dtype : {uint8, uint16, uint32}
        Type of the labels; ids that do not fit are an error.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    StorageError
        If the file exists, cannot be written, or the disk is full. Nothing is left behind.
    InputError
        If frames and shape do not agree, or an id does not fit the type.
    """
    import tifffile

    target = Path(path)
    layout = _Layout(shape, axes, scale, units, dtype)
    big = layout.nbytes > _CLASSIC_TIFF_LIMIT
    ome = big or layout.dtype.itemsize > 2 or target.name.lower().endswith((".ome.tif", ".ome.tiff"))
    ome = ome or layout.resolution() is None  # where ImageJ keeps the pixel size; OME has it in its XML, too
    centimeters = layout.centimeters() if ome else None
    resolution = layout.resolution(centimeters or 1.0)
    if resolution is None:
        resolution, centimeters = ((1, 1), (1, 1)), None
    source = iter(frames)
    with complete_or_nothing(target, overwrite) as temporary:
        with (
            temporary.open("xb") as file,
            tifffile.TiffWriter(file, ome=ome, imagej=not ome, bigtiff=big) as tif,
        ):
            tif.write(
                layout.checked(source),
                shape=layout.shape,
                dtype=layout.dtype,
                compression="zlib",
                photometric="minisblack",
                resolution=resolution,
                resolutionunit="NONE" if centimeters is None else "CENTIMETER",
                metadata=layout.ome_metadata() if ome else layout.imagej_metadata(),
                software="stacksam",
                maxworkers=1,
            )
        # tifffile takes no more than it needs, and closes a generator that has more.
        for _ in source:
            raise layout.too_many()
    return target


def write_labels_ome_zarr(
    path: str | os.PathLike[str],
    frames: Iterable[NDArray[Any]],
    shape: Sequence[int],
    axes: str,
    scale: Sequence[float],
    units: Sequence[str | None],
    overwrite: bool = False,
    version: Literal["0.4", "0.5"] = "0.5",
    *,
    dtype: DTypeLike = np.uint16,
) -> Path:
    """Write labels as an OME-Zarr image label, one frame at a time.

    Parameters
    ----------
    path, frames, shape, axes, scale, units, overwrite, dtype
        As for :func:`write_labels_tiff`; the path is a folder to be made.
    version : {"0.5", "0.4"}
        Version of OME-Zarr: 0.5 is zarr 3, 0.4 is zarr 2.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    StorageError, InputError
        As :func:`write_labels_tiff`.
    """
    if version not in ("0.4", "0.5"):
        raise InputError(f"OME-Zarr version {version!r} cannot be written; use '0.5' or '0.4'")
    target = Path(path)
    layout = _Layout(shape, axes, scale, units, dtype)
    with complete_or_nothing(target, overwrite) as temporary:
        array = _make_group(temporary, layout, version, target.name)
        for number, frame in enumerate(layout.checked(frames)):
            array[number] = frame
    return target


def create_label_store(
    path: str | os.PathLike[str],
    shape: Sequence[int],
    dtype: DTypeLike,
    axes: str,
    scale: Sequence[float],
    units: Sequence[str | None],
) -> zarr.Array[Any]:
    """Make an OME-Zarr 0.5 image label that takes frames as they come.

    Parameters
    ----------
    path : path
        Folder to be made; its parent must exist.
    shape, dtype, axes, scale, units
        As for :func:`write_labels_tiff`.

    Returns
    -------
    zarr.Array
        Zeros, to be written with :func:`store_frame`. A chunk is one frame, of at most 1024 pixels a
        side; one without any label takes no file.

    Raises
    ------
    StorageError
        If there is something at `path`, or it cannot be written.
    """
    target = Path(path)
    layout = _Layout(shape, axes, scale, units, dtype)
    with complete_or_nothing(target, overwrite=False) as temporary:
        _make_group(temporary, layout, "0.5", target.name)
    return open_label_store(target)


def open_label_store(path: str | os.PathLike[str]) -> zarr.Array[Any]:
    """Open a store made by :func:`create_label_store`, to go on writing.

    Raises
    ------
    StorageError
        If there is none at `path`, or it is damaged.
    """
    import zarr

    target = Path(path)
    if not target.is_dir():
        raise StorageError(f"there is no label store {target}")
    try:
        array = zarr.open_array(atomic_store(target), path="0", mode="r+")
        if (
            array.ndim != 3
            or array.dtype.kind not in "ui"
            or array.chunks[0] != 1
            or array.metadata.zarr_format != 3
        ):
            raise StorageError(
                f"{target} is no label store: its array is {array.dtype} of shape {array.shape}"
            )
        return _as_label_store(array, array.metadata)
    except StorageError:
        raise
    except READ_ERRORS as error:
        raise StorageError(f"cannot open the label store {target}: {_told(error)}") from error


def _as_label_store(array: zarr.Array[Any], metadata: Any) -> zarr.Array[Any]:
    """The array with these metadata, which are not written; and without the files of empty chunks."""
    import zarr

    # Opening has no option for it: the default would delete chunks that are all zero.
    how: Any = {"write_empty_chunks": False, "order": "C"}
    return zarr.Array(zarr.AsyncArray(metadata=metadata, store_path=array.store_path, config=how))


def store_frame(
    array: zarr.Array[Any], frame: int, labels: NDArray[Any], origin: tuple[int, int] = (0, 0)
) -> None:
    """Write one frame of a label store, or a part of it.

    Parameters
    ----------
    array : zarr.Array
        From :func:`create_label_store`.
    frame : int
        One beyond the last is stored, but not seen until :func:`grow_label_store` is called.
    labels : (h, w) array of int
    origin : (int, int)
        Row and column of the frame that ``labels[0, 0]`` is.

    Raises
    ------
    StorageError
        If the disk refuses; what was stored before is still there.
    """
    try:
        y, x = origin
        store = array if frame < array.shape[0] else _longer(array, frame + 1)
        store[frame, y : y + labels.shape[0], x : x + labels.shape[1]] = labels
    except OSError as error:
        raise _not_stored(array, frame, error) from error


def grow_label_store(array: zarr.Array[Any], n_frames: int) -> None:
    """Make a label store as long as `n_frames`, if it is shorter; others see old and new frames throughout.

    Raises
    ------
    StorageError
        If the disk refuses; what was stored before is still there.
    """
    from zarr.core.sync import sync

    if n_frames <= array.shape[0]:
        return
    try:
        # Zarr would list all chunks otherwise, to find some to delete.
        sync(array._async_array.resize((n_frames, *array.shape[1:]), delete_outside_chunks=False))
    except OSError as error:
        raise _not_stored(array, n_frames - 1, error) from error


def _longer(array: zarr.Array[Any], n_frames: int) -> zarr.Array[Any]:
    """The same array with more frames than its metadata on disk tell."""
    return _as_label_store(array, array.metadata.update_shape((n_frames, *array.shape[1:])))


def _not_stored(array: zarr.Array[Any], frame: int, error: OSError) -> StorageError:
    folder = Path(array.store_path.store.root)  # type: ignore[attr-defined]
    return storage_error(folder, error, f"frame {frame} was not stored, those before it were")


def read_labels(source: Source, axes: str | None = None) -> LazyImage:
    """Open labels lazily, from any format that :func:`stacksam.io.open_image` opens.

    Parameters
    ----------
    source : path or array-like
    axes : str, optional
        Letters of the dimensions, where the source does not tell or is wrong.

    Raises
    ------
    StackError
        If they are no labels: not integers, or colours.
    """
    image = open_image(source, axes=axes)
    if image.dtype.kind not in "bui" or image.rgb:
        image.close()
        kind = "colours" if image.rgb else f"{image.dtype} values"
        raise StackError(f"{image.source} holds {kind}; labels are whole numbers, 0 for background")
    return image


def check_calibration(
    shape: Sequence[int], axes: str, scale: Sequence[float], units: Sequence[str | None]
) -> tuple[tuple[int, int, int], str, tuple[float, float, float], tuple[str | None, ...]]:
    """Shape, axes, scale and units of a label stack in one spelling; an error if they do not go together."""
    sizes = tuple(int(size) for size in shape)
    letters = axes.lower()
    steps = tuple(float(step) for step in scale)
    if letters not in ("tyx", "zyx"):
        raise InputError(f"labels have axes {axes!r}; use 'tyx' or 'zyx'")
    if len(sizes) != 3 or min(sizes) < 1:
        raise InputError(f"labels have shape {sizes}; it must be (frames, height, width), none of them zero")
    if len(steps) != 3 or not all(math.isfinite(step) and step > 0 for step in steps):
        raise InputError(f"labels have scale {steps}; it must be three positive numbers, for {letters}")
    if len(units) != 3:
        raise InputError(f"labels have units {tuple(units)}; there must be three, for {letters}")
    return sizes, letters, steps, tuple(normalise_unit(unit) for unit in units)


class _Layout:
    """Shape, type and calibration of a label stack, checked."""

    def __init__(
        self,
        shape: Sequence[int],
        axes: str,
        scale: Sequence[float],
        units: Sequence[str | None],
        dtype: DTypeLike,
    ) -> None:
        self.shape, self.axes, self.scale, self.units = check_calibration(shape, axes, scale, units)
        self.dtype = np.dtype(dtype)
        if self.dtype not in (np.uint8, np.uint16, np.uint32):
            raise InputError(
                f"labels cannot be written as {self.dtype}; use uint16, or uint32 for ids above 65535"
            )
        self.nbytes = math.prod(self.shape) * self.dtype.itemsize

    def checked(self, frames: Iterable[NDArray[Any]]) -> Iterator[NDArray[Any]]:
        """The frames in the type to be written; an error where they do not fit."""
        number = -1
        limit = np.iinfo(self.dtype).max
        for number, frame in enumerate(frames):
            frame = np.asarray(frame)  # noqa: PLW2901
            if number >= self.shape[0]:
                raise self.too_many()
            if frame.shape != self.shape[1:] or frame.dtype.kind not in "bui":
                raise InputError(
                    f"frame {number} is {frame.dtype} of shape {frame.shape}; "
                    f"it must be integers of shape {self.shape[1:]}"
                )
            if (
                frame.dtype != self.dtype
                and frame.dtype.kind != "b"
                and not 0 <= frame.min() <= frame.max() <= limit
            ):
                raise InputError(
                    f"frame {number} has ids from {frame.min()} to {frame.max()}; "
                    f"{self.dtype} holds 0 to {limit}"
                )
            yield np.ascontiguousarray(frame, self.dtype)
        if number + 1 < self.shape[0]:
            raise InputError(f"there are {number + 1} frames, but the shape tells {self.shape[0]}")

    def too_many(self) -> InputError:
        """The error for frames beyond the shape."""
        return InputError(f"there are more frames than the {self.shape[0]} that the shape tells")

    def multiscales(self, name: str) -> dict[str, Any]:
        """The OME-Zarr metadata of one resolution level."""
        axes: list[dict[str, str]] = []
        for letter, unit in zip(self.axes, self.units, strict=True):
            axis = {"name": letter, "type": "time" if letter == "t" else "space"}
            axes.append(axis if unit is None else axis | {"unit": unit})
        dataset = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": list(self.scale)}]}
        return {"name": name, "axes": axes, "datasets": [dataset]}

    def centimeters(self) -> float | None:
        """Centimetres in the unit of y and x, where they have one of length in common."""
        sizes = {"nanometer": 1e-7, "micrometer": 1e-4, "millimeter": 0.1, "centimeter": 1.0, "meter": 100.0}
        return sizes.get(self.units[2] or "") if self.units[1] == self.units[2] else None

    def resolution(self, unit: float = 1.0) -> tuple[tuple[int, int], tuple[int, int]] | None:
        """Pixels along x and y in one resolution unit, of which a unit of y and x is `unit`.

        As the fractions of TIFF; None if 32 bits do not hold them.
        """
        limit = 2**32 - 1
        x, y = (Fraction(1 / (step * unit)) for step in self.scale[:0:-1])
        if not all(1 / Fraction(limit) <= number <= limit for number in (x, y)):
            return None
        x, y = (number.limit_denominator(min(limit, int(limit / number))) for number in (x, y))
        return (x.numerator, x.denominator), (y.numerator, y.denominator)

    def imagej_metadata(self) -> dict[str, Any]:
        """What ImageJ calls them; tifffile adds the shape."""
        frame_unit, y_unit, x_unit = self.units
        metadata: dict[str, Any] = {"axes": self.axes.upper(), "unit": imagej_unit(x_unit)}
        if y_unit != x_unit:
            metadata["yunit"] = imagej_unit(y_unit)
        if self.axes[0] == "z":
            metadata["spacing"] = self.scale[0]
            if frame_unit != x_unit:
                metadata["zunit"] = imagej_unit(frame_unit)
        elif frame_unit is not None or self.scale[0] != 1:
            metadata["finterval"] = self.scale[0]
            metadata["tunit"] = imagej_unit(frame_unit, unitless="frame")
        return metadata

    def ome_metadata(self) -> dict[str, Any]:
        """Attributes of the OME-XML that tifffile writes."""
        metadata: dict[str, Any] = {"axes": self.axes.upper()}
        for letter, step, unit in zip(self.axes, self.scale, self.units, strict=True):
            if letter == "t":
                if unit is not None or step != 1:
                    metadata["TimeIncrement"] = step
                    metadata["TimeIncrementUnit"] = unit_symbol(unit) if is_time(unit) else "s"
                continue
            metadata[f"PhysicalSize{letter.upper()}"] = step
            # Without a unit OME-XML means micrometres.
            symbol = unit_symbol(unit) if is_space(unit) else None
            metadata[f"PhysicalSize{letter.upper()}Unit"] = symbol or "pixel"
        return metadata


def _make_group(folder: Path, layout: _Layout, version: str, name: str) -> zarr.Array[Any]:
    """An OME-Zarr group with the empty array ``0``."""
    import zarr
    from zarr.codecs import ZstdCodec

    name = name.split(".", maxsplit=1)[0]
    multiscales = layout.multiscales(name)
    chunks = (1, min(layout.shape[1], MAX_CHUNK), min(layout.shape[2], MAX_CHUNK))
    folder.mkdir()
    common: dict[str, Any] = {"shape": layout.shape, "chunks": chunks, "dtype": layout.dtype, "fill_value": 0}
    if version == "0.5":
        ome: dict[str, Any] = {"version": "0.5", "multiscales": [multiscales], "image-label": {}}
        group = zarr.open_group(str(folder), mode="a", zarr_format=3, attributes={"ome": ome})
        compressor = ZstdCodec(level=3, checksum=True)
        return group.create_array("0", compressors=compressor, dimension_names=tuple(layout.axes), **common)
    attributes: dict[str, Any] = {
        "multiscales": [{"version": "0.4", **multiscales}],
        "image-label": {"version": "0.4"},
    }
    group = zarr.open_group(str(folder), mode="a", zarr_format=2, attributes=attributes)
    separator = {"name": "v2", "separator": "/"}
    return group.create_array("0", chunk_key_encoding=separator, **common)  # type: ignore[arg-type]
