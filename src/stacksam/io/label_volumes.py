"""Labels of volumes through time (T, Z, Y, X), written time point by time point.

It is an OME-Zarr 0.5 image label. Planes of a time point are written beside the array and moved into it
together, as one folder of chunks (zarr 3 keeps those of a first index in a folder of their own), so a
reader finds a time point complete or not at all; where there is none, zarr reads zeros.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from stacksam.errors import InputError, StorageError
from stacksam.io._complete import complete_or_nothing, remove, storage_error
from stacksam.io._lazy import READ_ERRORS, _told
from stacksam.io._units import normalise_unit
from stacksam.io.labels import MAX_CHUNK

if TYPE_CHECKING:
    import zarr

__all__ = ["VolumeLabels", "create_volume_labels", "open_volume_labels"]


class VolumeLabels:
    """Labels (T, Z, Y, X) on disk.

    Attributes
    ----------
    path : Path
        The OME-Zarr folder.
    array : zarr.Array
        To be read; it is written by :meth:`writing` alone.
    """

    def __init__(self, path: Path, array: zarr.Array[Any]) -> None:
        self.path, self.array = path, array

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Time points, planes, rows, columns."""
        t, z, y, x = (int(size) for size in self.array.shape)
        return t, z, y, x

    def plane(self, time: int, z: int) -> NDArray[Any]:
        """Labels (H, W) of one plane; zeros where nothing was written."""
        return np.asarray(self.array[time, z])

    @contextmanager
    def writing(self, time: int) -> Iterator[zarr.Array[Any]]:
        """Give an array (1, Z, H, W) of zeros that takes the place of a time point when the block ends well.

        Raises
        ------
        StorageError
            If the disk refuses; what was stored before is still there.
        """
        import zarr

        scratch = self.path / f".time-{time}.partial"
        kept = self.path / "0" / "c" / str(time)
        try:
            _delete(scratch)
            fresh = zarr.create_array(
                str(scratch / "0"),
                shape=(1, *self.shape[1:]),
                chunks=self.array.chunks,
                dtype=self.array.dtype,
                compressors=self.array.compressors,
                fill_value=0,
                zarr_format=3,
            )
            yield fresh
            made = scratch / "0" / "c" / "0"
            if kept.exists():
                kept.rename(scratch / "old")
            if made.exists():  # there is no chunk of zeros alone
                kept.parent.mkdir(parents=True, exist_ok=True)
                made.rename(kept)
            _delete(scratch)
        except StorageError:
            raise
        except OSError as error:
            raise storage_error(
                self.path, error, f"time point {time} was not stored, those before it were"
            ) from error
        finally:
            remove(scratch)


def create_volume_labels(
    path: str | os.PathLike[str],
    shape: Sequence[int],
    scale: Sequence[float],
    units: Sequence[str | None],
    *,
    dtype: DTypeLike = np.uint32,
) -> VolumeLabels:
    """Make an OME-Zarr 0.5 image label that takes time points as they come.

    Parameters
    ----------
    path : path
        Folder to be made; its parent must exist.
    shape : (int, int, int, int)
        Time points, planes, height, width.
    scale, units : sequence of 4
        Size of a step along each axis, and its unit (None: pixels or time points).
    dtype : {uint16, uint32}

    Raises
    ------
    StorageError
        If there is something at `path`, or it cannot be written.
    InputError
        If shape, scale and units do not go together.
    """
    import zarr
    from zarr.codecs import ZstdCodec

    sizes, steps = tuple(int(size) for size in shape), tuple(float(step) for step in scale)
    if len(sizes) != 4 or min(sizes) < 1:
        raise InputError(f"labels have shape {sizes}; it must be (time points, planes, height, width)")
    if len(steps) != 4 or not all(math.isfinite(step) and step > 0 for step in steps) or len(units) != 4:
        raise InputError(
            f"labels have scale {steps} and units {tuple(units)}; give four positive numbers and four units"
        )
    axes: list[dict[str, str]] = []
    for letter, unit in zip("tzyx", units, strict=True):
        axis, name = {"name": letter, "type": "time" if letter == "t" else "space"}, normalise_unit(unit)
        axes.append(axis if name is None else axis | {"unit": name})
    target = Path(path)
    dataset = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": list(steps)}]}
    image = {"name": target.name.split(".", maxsplit=1)[0], "axes": axes, "datasets": [dataset]}
    with complete_or_nothing(target, overwrite=False) as temporary:
        temporary.mkdir()
        ome: dict[str, Any] = {"version": "0.5", "multiscales": [image], "image-label": {}}
        group = zarr.open_group(str(temporary), mode="a", zarr_format=3, attributes={"ome": ome})
        group.create_array(
            "0",
            shape=sizes,
            chunks=(1, 1, min(sizes[2], MAX_CHUNK), min(sizes[3], MAX_CHUNK)),
            dtype=np.dtype(dtype),
            fill_value=0,
            compressors=ZstdCodec(level=3, checksum=True),
            dimension_names=tuple("tzyx"),
        )
    return open_volume_labels(target)


def open_volume_labels(path: str | os.PathLike[str]) -> VolumeLabels:
    """Open labels made by :func:`create_volume_labels`, to go on writing.

    Raises
    ------
    StorageError
        If there are none at `path`, or they are damaged.
    """
    import zarr

    target = Path(path)
    if not target.is_dir():
        raise StorageError(f"there are no labels {target}")
    try:
        array = zarr.open_array(str(target), path="0", mode="r")
    except READ_ERRORS as error:
        raise StorageError(f"cannot open the labels {target}: {_told(error)}") from error
    if array.ndim != 4 or array.dtype.kind != "u" or tuple(array.chunks[:2]) != (1, 1):
        raise StorageError(
            f"{target} does not hold labels of volumes: its array is {array.dtype} of shape {array.shape}"
        )
    return VolumeLabels(target, array)


def _delete(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)
