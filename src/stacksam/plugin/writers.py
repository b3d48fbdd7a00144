"""Writers for napari's Save: labels as label files, prompts as a file that the command line reads.

Both are atomic: what was there stays until the new file is complete.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stacksam.errors import InputError, StorageError
from stacksam.io import write_labels_ome_zarr, write_labels_tiff
from stacksam.io._units import is_space, normalise_unit

__all__ = ["write_labels", "write_prompts"]

_TIFF = (".tif", ".tiff")


def write_labels(path: str, data: Any, meta: dict[str, Any]) -> list[str]:
    """Write a labels layer frame by frame, with its scale and units.

    Parameters
    ----------
    path : str
        ``.tif`` or ``.tiff`` for an ImageJ hyperstack or OME-TIFF, ``.zarr`` for OME-Zarr 0.5. An existing
        file is replaced: napari has asked.
    data : (T, Y, X) or (Y, X) array-like of int
        Any array that gives a frame when it is indexed; it is read twice, a frame at a time.
    meta : dict
        Arguments of the layer: scale, units, axis_labels.

    Returns
    -------
    list of str
        The path.

    Raises
    ------
    InputError
        If the layer has other dimensions, or an id that no label file holds.
    StorageError
        If the file cannot be written, or is the one that a session writes to.
    """
    target = Path(path)
    if target.name.lower() == "labels.ome.zarr" and (target.parent / "results.sqlite").exists():
        raise StorageError(f"{target} belongs to the session in that folder; choose another name")
    levels = data if meta.get("multiscale") else [data]
    array = levels[0]
    shape = tuple(int(size) for size in array.shape)
    if len(shape) not in (2, 3):
        raise InputError(
            f"the labels layer {meta.get('name', '')!r} has {len(shape)} dimensions {shape}; stacksam writes "
            "(frame, y, x) or (y, x)"
        )
    axes, scale, units = _calibration(meta, len(shape))
    largest = max((int(frame.max()) for frame in _frames(array)), default=0)
    dtype = np.uint16 if largest <= np.iinfo(np.uint16).max else np.uint32
    write = write_labels_tiff if target.suffix.lower() in _TIFF else write_labels_ome_zarr
    whole = shape if len(shape) == 3 else (1, *shape)
    write(target, _frames(array), whole, axes, scale, units, overwrite=True, dtype=dtype)
    return [str(target)]


def write_prompts(path: str, layers: Sequence[tuple[Any, dict[str, Any], str]]) -> list[str]:
    """Write points and boxes as the JSON list that ``stacksam track --prompts`` reads.

    Parameters
    ----------
    path : str
        The file, ``.json``.
    layers : list of (data, meta, kind)
        Points layers, with columns (frame, y, x) or (y, x), and Shapes layers of rectangles. Their features
        must have a column ``object_id``; ``positive`` says of points whether they are inside (the default).

    Returns
    -------
    list of str
        The path.

    Raises
    ------
    InputError
        If an id is missing, a shape is no rectangle on one frame, or there is nothing to write.
    StorageError
        If the file cannot be written.
    """
    rows = [row for data, meta, kind in layers for row in _READ[kind](data, meta)]
    if not rows:
        raise InputError("the layers hold neither points nor boxes; there is nothing to write")
    target = Path(path)
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    lines = ",\n ".join(json.dumps(row) for row in rows)
    try:
        part.write_text(f"[{lines}]\n", encoding="utf-8")
        part.replace(target)
    except OSError as error:
        with suppress(OSError):
            part.unlink()
        raise StorageError(f"cannot write {target}: {error}") from error
    return [str(target)]


def _frames(array: Any) -> Iterator[NDArray[Any]]:
    if len(array.shape) == 2:
        yield np.asarray(array)
        return
    for frame in range(array.shape[0]):
        yield np.asarray(array[frame])


def _calibration(meta: dict[str, Any], ndim: int) -> tuple[str, tuple[float, ...], tuple[str | None, ...]]:
    """Axes, scale and units of (frame, y, x); a single frame is one of time."""
    scale = [float(step) for step in meta.get("scale", (1.0,) * ndim)]
    units = [normalise_unit(str(unit)) for unit in meta.get("units", ("pixel",) * ndim)]
    names = [str(name).lower() for name in meta.get("axis_labels", ("",) * ndim)]
    if ndim == 2:
        return "tyx", (1.0, *scale), (None, *units)
    depth = names[0].startswith("z") or (not names[0].startswith("t") and is_space(units[0]))
    return ("zyx" if depth else "tyx"), tuple(scale), tuple(units)


def _point_rows(data: Any, meta: dict[str, Any]) -> Iterator[dict[str, Any]]:
    points = np.asarray(data, float)
    ids = _object_ids(meta, len(points))
    positive = _column(meta, "positive")
    for number, (point, object_id) in enumerate(zip(points, ids, strict=True)):
        frame, (y, x) = _place(point, meta)
        kind = "point" if positive is None or bool(positive[number]) else "negative"
        yield {"kind": kind, "frame": frame, "id": object_id, "y": y, "x": x}


def _box_rows(data: Any, meta: dict[str, Any]) -> Iterator[dict[str, Any]]:
    ids = _object_ids(meta, len(data))
    kinds = meta.get("shape_type", "rectangle")
    for number, (corners, object_id) in enumerate(zip(data, ids, strict=True)):
        kind = kinds if isinstance(kinds, str) else kinds[number]
        places = [_place(np.asarray(corner, float), meta) for corner in corners]
        if kind != "rectangle" or len({frame for frame, _ in places}) != 1:
            raise InputError(
                f"shape {number} of the layer {meta.get('name', '')!r} is a {kind} on "
                f"{len({frame for frame, _ in places})} frames; a box is a rectangle on one frame"
            )
        (y0, x0), (y1, x1) = ([extreme(yx[k] for _, yx in places) for k in (0, 1)] for extreme in (min, max))
        yield {
            "kind": "box", "frame": places[0][0], "id": object_id, "y": y0, "x": x0, "y1": y1, "x1": x1
        }  # fmt: skip


_READ = {"points": _point_rows, "shapes": _box_rows}


def _place(coordinates: NDArray[np.float64], meta: dict[str, Any]) -> tuple[int, tuple[float, float]]:
    """Frame and (y, x) of one vertex."""
    if len(coordinates) not in (2, 3) or not np.isfinite(coordinates).all():
        raise InputError(
            f"{coordinates.tolist()} in the layer {meta.get('name', '')!r} is no place; prompts have "
            "coordinates (frame, y, x) or (y, x)"
        )
    frame = round(float(coordinates[0])) if len(coordinates) == 3 else 0
    return frame, (float(coordinates[-2]), float(coordinates[-1]))


def _object_ids(meta: dict[str, Any], count: int) -> list[int]:
    column = _column(meta, "object_id")
    if column is None and not count:
        return []
    if column is None:
        raise InputError(
            f"the features of the layer {meta.get('name', '')!r} have no column object_id; "
            "write a layer that stacksam made"
        )
    for number, value in enumerate(column):
        number_like = isinstance(value, int | float | np.number) and math.isfinite(value)
        if not (number_like and value >= 1 and float(value).is_integer()):
            raise InputError(
                f"prompt {number} of the layer {meta.get('name', '')!r} has the object_id {value!r}; "
                "ids are whole numbers from 1"
            )
    return [int(value) for value in column]


def _column(meta: dict[str, Any], name: str) -> list[Any] | None:
    features = meta.get("features")
    if features is None or name not in features:
        return None
    return list(features[name])
