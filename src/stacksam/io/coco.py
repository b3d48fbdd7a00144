"""Labels as COCO JSON (Lin et al., 2014), what detection and segmentation tools learn from.

Each frame is an *image*, each object on it an *annotation* with its mask as compressed run lengths. Beyond
plain COCO, annotations have a ``track_id`` (the object's id), images a ``frame``, and ``tracks`` lists the
objects with their parents, in the way of TAO (Dave et al., 2020); tools that do not know these pass
them over.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np
from numpy.typing import NDArray

from stacksam.io._complete import complete_or_nothing
from stacksam.io.label_stack import LabelStack, objects_on
from stacksam.io.lineage import parents

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["write_coco"]


def write_coco(
    path: str | os.PathLike[str],
    labels: LabelStack,
    lineage: nx.DiGraph | None = None,
    *,
    image: str | os.PathLike[str] | None = None,
    category: str = "object",
    overwrite: bool = False,
) -> Path:
    """Write labels as COCO JSON.

    Images are numbered from 1 in the order of frames, annotations from 1. Spacing and units are not part of
    COCO; they are kept under ``info``.

    Parameters
    ----------
    path : path
        File to write; its folder must exist.
    labels : LabelStack
    lineage : networkx.DiGraph, optional
        Edges from parent to daughter.
    image : path, optional
        The stack that the labels are of; its name is each image's ``file_name``.
    category : str
        What the objects are.
    overwrite : bool
        Whether an existing file may be replaced.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InputError
        If the labels are none, or the lineage does not fit.
    StorageError
        If the file exists or cannot be written. Nothing is left behind.
    """
    labels.check(lineage)
    target = Path(path)
    frames, height, width = labels.shape
    name = labels.name if image is None else Path(image).name
    above = parents(lineage)
    info = {"description": labels.name, "axes": labels.axes, "scale": labels.scale, "units": labels.units}
    images = (
        {"id": k + 1, "file_name": name, "height": height, "width": width, "frame": k, "video_id": 1}
        for k in range(frames)
    )
    tracks = ({"id": i, "category_id": 1, "video_id": 1, "parent_id": above.get(i)} for i in labels.survey)
    with complete_or_nothing(target, overwrite) as temporary, temporary.open("x", encoding="utf-8") as file:
        file.write(f'{{"info": {json.dumps(info)},\n"licenses": [],\n')
        file.write(f'"categories": [{json.dumps({"id": 1, "name": category, "supercategory": ""})}],\n')
        file.write(f'"videos": [{json.dumps({"id": 1, "name": name, "height": height, "width": width})}],\n')
        _write_list(file, "images", images)
        _write_list(file, "tracks", tracks)
        _write_list(file, "annotations", _annotations(labels), end="}\n")
    return target


def _annotations(labels: LabelStack) -> Iterator[dict[str, Any]]:
    _, height, width = labels.shape
    number = 0
    for k in range(labels.n_frames):
        frame = labels.frame(k)
        found = objects_on(frame)
        for object_id, pixels, box in zip(
            found.ids.tolist(), found.pixels.tolist(), found.boxes.tolist(), strict=True
        ):
            number += 1
            y0, x0, y1, x1 = box
            counts = _counts(frame[:, x0:x1] == object_id, x0, width)
            yield {
                "id": number,
                "image_id": k + 1,
                "category_id": 1,
                "track_id": object_id,
                "video_id": 1,
                "segmentation": {"size": [height, width], "counts": _compressed(counts)},
                "area": pixels,
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "iscrowd": 0,
            }


def _counts(columns: NDArray[np.bool_], first: int, width: int) -> NDArray[np.int64]:
    """Run lengths down the columns of a frame, of which all that has the object is given.

    Parameters
    ----------
    columns : (H, w) array of bool
    first : int
        The frame's column that is the first of these.
    width : int
        Of the frame.

    Returns
    -------
    (n,) array of int
        Background and object in turn, beginning with background.
    """
    height = len(columns)
    changes = np.flatnonzero(np.diff(columns.ravel(order="F"), prepend=False, append=False)) + first * height
    borders = np.concatenate([[0], changes, [width * height]]).astype(np.int64)
    counts = np.diff(borders)
    return counts if counts[-1] else counts[:-1]


def _compressed(counts: NDArray[np.int64]) -> str:
    """Run lengths as COCO keeps them (``rleToString`` of its ``maskApi.c``).

    From the fourth on, the difference to the count before last is kept. Numbers are written five bits at a
    time, lowest first, and a sixth bit says that more follow.
    """
    numbers = counts.copy()
    numbers[3:] -= counts[1:-2]
    letters = bytearray()
    for number in numbers.tolist():
        more = True
        while more:
            bits, number = number & 31, number >> 5  # noqa: PLW2901
            more = number != (-1 if bits & 16 else 0)
            letters.append((bits | 32 if more else bits) + 48)
    return letters.decode("ascii")


def _write_list(file: TextIO, name: str, items: Iterator[dict[str, Any]], end: str = ",\n") -> None:
    file.write(f'"{name}": [')
    for k, item in enumerate(items):
        file.write(",\n" if k else "\n")
        file.write(json.dumps(item))
    file.write("]" + end)
