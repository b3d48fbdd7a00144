"""Measurements of every object on every frame, as CSV or Parquet.

One row for an object on a frame. Lengths and times are physical where the stack has units, which stand in the
columns ``length_unit`` and ``time_unit``; so tables of several stacks can be put below each other. Box
corners are pixels. Shape and intensities are those of scikit-image's ``regionprops_table``.
"""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from stacksam.errors import InputError
from stacksam.io._complete import complete_or_nothing
from stacksam.io._extras import needed
from stacksam.io.label_stack import LabelStack
from stacksam.io.lineage import generations, parents

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["Columns", "FrameEstimates", "RawFrames", "measure", "write_measurements"]

RawFrames: TypeAlias = Callable[[int], NDArray[Any]]
"""Gives the (H, W) or (H, W, C) values of a frame as they are in the file."""

FrameEstimates: TypeAlias = Callable[[int], Mapping[int, float]]
"""Gives the predicted IoU of the objects of a frame, by id."""

Columns: TypeAlias = dict[str, Any]
"""Name of a column -> its values, an array or a list."""

# Names here, and in scikit-image.
_SHAPE = {
    "area": "area",
    "centroid_y": "centroid_0",
    "centroid_x": "centroid_1",
    "bbox_y0": "bbox_0",
    "bbox_x0": "bbox_1",
    "bbox_y1": "bbox_2",
    "bbox_x1": "bbox_3",
    "perimeter": "perimeter",
    "major_axis_length": "axis_major_length",
    "minor_axis_length": "axis_minor_length",
    "eccentricity": "eccentricity",
    "solidity": "solidity",
}
_INTENSITIES = ("mean", "min", "max", "std")
_WHOLE = {"object_id", "frame", "parent", "generation", "track_first", "track_last", "track_frames"}
_WHOLE |= {name for name in _SHAPE if name.startswith("bbox")}
_ROWS_TOGETHER = 50_000  # of a Parquet file, which packs columns of many rows better


def measure(
    labels: LabelStack,
    lineage: nx.DiGraph | None = None,
    *,
    raw: RawFrames | None = None,
    predicted_iou: FrameEstimates | None = None,
) -> Iterator[Columns]:
    """Measure the objects of one frame after the other.

    Parameters
    ----------
    labels : LabelStack
    lineage : networkx.DiGraph, optional
        Edges from parent to daughter.
    raw : callable, optional
        The image, for intensities; of every channel.
    predicted_iou : callable, optional
        What the network thought of its masks, 0 to 1; objects that it does not tell of get NaN.

    Yields
    ------
    dict of str to array
        The columns of one frame, always the same ones; frames without objects have no rows. ``area``,
        ``perimeter`` (only where rows and columns have the same step), axis lengths and centroids are
        physical, ``bbox_...`` half-open pixels. In a time-lapse ``displacement`` is the way from the last
        frame that showed the object, ``speed`` that by the time between, and ``path_length`` the way since
        its first. In a z-stack ``volume`` is that of the whole object. ``parent`` is 0 where there is none,
        ``generation`` the number of divisions before; ``predicted_iou`` is there only if it is given.

    Raises
    ------
    InputError
        If rows and columns have different units, image and labels do not fit, or the lineage does not.
    """
    unit = labels.length_unit()
    through_time = labels.frame_axis == "t"
    if not through_time and labels.units[0] != unit:
        raise InputError(
            f"frames of {labels.name} are in {labels.units[0] or 'frames'}, rows in {unit or 'pixels'}; "
            "volumes need one unit for both"
        )
    labels.check(lineage)
    above, depth = parents(lineage), generations(lineage, labels.survey)
    step = labels.scale[0]
    trail: dict[int, tuple[int, NDArray[np.float64], float]] = {}
    for number in range(labels.n_frames):
        frame = labels.frame(number)
        ids, columns = _of_frame(frame, labels, number, None if raw is None else raw(number))
        seen = [labels.survey[i] for i in ids]
        table: Columns = {
            "object_id": np.array(ids, np.int64),
            "frame": np.full(len(ids), number, np.int64),
            "time" if through_time else "depth": np.full(len(ids), number * step),
            **columns,
        }
        if predicted_iou is not None:
            estimates = predicted_iou(number)
            table["predicted_iou"] = np.array([estimates.get(i, math.nan) for i in ids], float)
        if through_time:
            table |= _motion(ids, number, step, columns, trail)
        else:
            table["volume"] = np.array([one.pixels for one in seen], float) * math.prod(labels.scale)
        table["parent"] = np.array([above.get(i, 0) for i in ids], np.int64)
        table["generation"] = np.array([depth[i] for i in ids], np.int64)
        for name in ("first", "last", "frames"):
            table[f"track_{name}"] = np.array([getattr(one, name) for one in seen], np.int64)
        table["length_unit"] = [unit or "pixel"] * len(ids)
        if through_time:
            table["time_unit"] = [labels.units[0] or "frame"] * len(ids)
        yield table


def write_measurements(
    path: str | os.PathLike[str],
    labels: LabelStack,
    lineage: nx.DiGraph | None = None,
    *,
    raw: RawFrames | None = None,
    predicted_iou: FrameEstimates | None = None,
    overwrite: bool = False,
) -> Path:
    """Write measurements as CSV (UTF-8, a header line, empty where there is no value) or Parquet.

    Parameters
    ----------
    path : path
        File to write, ``.csv`` or ``.parquet``; its folder must exist.
    labels, lineage, raw, predicted_iou
        As for :func:`measure`, which says what the columns are.
    overwrite : bool
        Whether an existing file may be replaced.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InputError
        As :func:`measure`; or if the name ends otherwise, or Parquet is asked for without pyarrow.
    StorageError
        If the file exists or cannot be written. Nothing is left behind.
    """
    target = Path(path)
    write = {".csv": _write_csv, ".parquet": _write_parquet}.get(target.suffix.lower())
    if write is None:
        raise InputError(f"{target.name} is no name of a table; end it with .csv or .parquet")
    if write is _write_parquet:
        needed("pyarrow.parquet", "pyarrow", "formats")
    with complete_or_nothing(target, overwrite) as temporary:
        write(temporary, measure(labels, lineage, raw=raw, predicted_iou=predicted_iou))
    return target


def _of_frame(
    frame: NDArray[Any], labels: LabelStack, number: int, values: NDArray[Any] | None
) -> tuple[list[int], Columns]:
    """Ids of a frame, and shape and intensity of each."""
    from skimage.measure import regionprops_table

    # Numbered from 1 without gaps: scikit-image makes room for every number up to the highest.
    every, inverse = np.unique(frame, return_inverse=True)
    packed = inverse.reshape(frame.shape).astype(np.int32) + (0 if every[0] == 0 else 1)
    ids = [int(i) for i in every if i]
    scale = labels.scale[1:]
    # scikit-image has a perimeter of square pixels only.
    wanted = ["area", "centroid", "bbox", "axis_major_length", "axis_minor_length"]
    wanted += ["eccentricity", "solidity", *(["perimeter"] if scale[0] == scale[1] else [])]
    channels = 0
    if values is not None:
        if values.shape[:2] != frame.shape or values.ndim not in (2, 3):
            raise InputError(
                f"frame {number} of the image has shape {values.shape}, that of {labels.name} {frame.shape}; "
                "the image must be the one that the labels are of"
            )
        values = values.reshape(*frame.shape, -1).astype(np.float64)
        channels = values.shape[2]
        wanted += [f"intensity_{kind}" for kind in _INTENSITIES]
    found: Columns = regionprops_table(  # type: ignore[no-untyped-call]
        packed, values, properties=tuple(wanted), separator="_", spacing=scale
    )
    nothing = np.full(len(ids), np.nan)
    columns = {name: found.get(theirs, nothing) for name, theirs in _SHAPE.items()}
    pixels = np.bincount(packed.ravel(), minlength=len(ids) + 1)[1:]
    for channel in range(channels):
        for kind in _INTENSITIES:
            columns[f"intensity_{kind}_{channel}"] = found[f"intensity_{kind}_{channel}"]
        columns[f"intensity_sum_{channel}"] = found[f"intensity_mean_{channel}"] * pixels
    return ids, columns


def _motion(
    ids: list[int],
    number: int,
    step: float,
    columns: Columns,
    trail: dict[int, tuple[int, NDArray[np.float64], float]],
) -> Columns:
    """Displacement, speed and way so far; `trail` remembers where each object was last."""
    moved = np.full((3, len(ids)), np.nan)
    places = np.stack([columns["centroid_y"], columns["centroid_x"]], axis=1).astype(float)
    for k, object_id in enumerate(ids):
        way = 0.0
        if object_id in trail:
            before, place, way = trail[object_id]
            length = float(np.linalg.norm(places[k] - place))
            way += length
            moved[:2, k] = length, length / ((number - before) * step)
        moved[2, k] = way
        trail[object_id] = (number, places[k], way)
    return dict(zip(("displacement", "speed", "path_length"), moved, strict=True))


def _write_csv(path: Path, tables: Iterator[Columns]) -> None:
    with path.open("x", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        for k, table in enumerate(tables):
            if k == 0:
                writer.writerow(table)
            columns = [
                values.tolist() if isinstance(values, np.ndarray) else values for values in table.values()
            ]
            for row in zip(*columns, strict=True):
                writer.writerow(["" if isinstance(v, float) and math.isnan(v) else v for v in row])


def _write_parquet(path: Path, tables: Iterator[Columns]) -> None:
    arrow, parquet = needed("pyarrow", "pyarrow", "formats"), needed("pyarrow.parquet", "pyarrow", "formats")

    def plain(table: Columns) -> Any:
        return arrow.table({name: _arrow(arrow, name, values) for name, values in table.items()})

    first = plain(next(tables))
    with parquet.ParquetWriter(path, first.schema) as writer:
        waiting, rows = [first], len(first)
        for table in tables:
            waiting.append(plain(table))
            rows += len(waiting[-1])
            if rows >= _ROWS_TOGETHER:
                writer.write_table(arrow.concat_tables(waiting))
                waiting, rows = [], 0
        if waiting:
            writer.write_table(arrow.concat_tables(waiting))


def _arrow(arrow: Any, name: str, values: Any) -> Any:
    if name.endswith("_unit"):
        return arrow.array(values, arrow.string())
    if name in _WHOLE:
        return arrow.array(np.asarray(values, np.int64))
    return arrow.array(np.asarray(values, np.float64), from_pandas=True)  # no value: null
