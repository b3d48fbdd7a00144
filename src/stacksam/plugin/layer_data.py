"""Layers as napari's readers give them: data, arguments and kind.

A layer from a file tells in its metadata, under ``"stacksam"``, where it came from::

    source   path, or list of paths, that `stacksam.open_stack` opens
    stack    how a session opened it, for `stacksam.session.stack.reopen_stack`
    folder   the session's folder, or None
    session  the session's JSON file, or None

A sample has ``source`` alone, layers of a session all four (``source`` is None where it is not known).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stacksam.io import LazyImage
from stacksam.io._units import is_space, is_time

__all__ = ["LayerTuple", "about", "is_session_folder", "lazy", "one_path"]

LayerTuple = tuple[Any, dict[str, Any], str]
"""Data, arguments and kind of a layer."""


def one_path(path: str | Sequence[str]) -> Path | None:
    """The one path that napari gives, or None if they are several."""
    if isinstance(path, str):
        return Path(path)
    return Path(path[0]) if len(path) == 1 else None


def is_session_folder(folder: Path) -> bool:
    """Whether a folder looks like that of a session."""
    return (folder / "results.sqlite").is_file() and (folder / "labels.ome.zarr").is_dir()


def about(
    name: str, axes: str, scale: Sequence[float], units: Sequence[str | None], origin: dict[str, Any]
) -> dict[str, Any]:
    """Arguments of a layer. Units that are none of length or time, which napari refuses, become pixels."""
    known = (unit if is_space(unit) or is_time(unit) else "pixel" for unit in units)
    return {
        "name": name,
        "scale": tuple(scale),
        "units": tuple(known),
        "axis_labels": tuple(axes),
        "metadata": {"stacksam": origin},
    }


class _Frames:
    """What dask needs beside shape, type and slicing."""

    def __init__(self, image: LazyImage) -> None:
        self.shape, self.dtype, self.ndim = image.shape, image.dtype, len(image.shape)
        self._image = image

    def __getitem__(self, key: Any) -> NDArray[Any]:
        return np.asarray(self._image.data[key])


def lazy(image: LazyImage) -> Any:
    """A dask array of an image, one plane a chunk: napari slices it without reading more than it shows."""
    import dask.array

    chunks = (1,) * (len(image.shape) - 2) + image.shape[-2:]
    # Without a name dask would read all of it, to make one.
    frames: Any = dask.array.from_array
    return frames(_Frames(image), chunks=chunks, name=False, asarray=False)
