"""A record: what is known of one object on one frame, and how it is written down as a row of a table."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stacksam.errors import SessionFileError
from stacksam.session.boxes import BBox
from stacksam.session.canvas import View

__all__ = ["COLUMNS", "SCORED", "Record", "from_row", "on_own_side", "to_row"]

COLUMNS = (
    "object_id", "frame", "prompted", "locked", "stale", "step", "score", "iou", "sources", "bbox", "area",
    "cy", "cx", "mask", "view", "logits", "shape", "pointer",
)  # fmt: skip
SCORED = ("object_id", "frame", "score", "iou", "bbox", "area", "cy", "cx")  # what scores are made of


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """One object on one frame.

    Attributes
    ----------
    object_id, frame : int
    view : View
        What the network looked at.
    logits : (h, w) float16, on prompted frames float32
        Mask logits as the network gave them, in the view. Memories are made from these, so that a memory
        rebuilt from disk equals the one that was dropped.
    pointer : (C,) float32
        Object pointer.
    object_score : float
        Logit: is the object visible on this frame.
    predicted_iou : float
        The network's own estimate of its mask, 0 to 1. Where the object had ended in depth the network was
        not asked, and it is 1, as the IoU of two empty masks: `object_score` tells that it is not there.
    bbox : (int, int, int, int)
        Half-open ``(y0, x0, y1, x1)`` of the mask in frame pixels.
    mask : bool array of the bounding box's shape
    prompted : bool
        A conditioning frame of the object.
    locked : bool
        Approved by the user: never recomputed.
    stale : bool
        Something that this result came from has changed since.
    step : int
        Direction it was propagated in; 0 where it was prompted.
    sources : tuple of int
        Frames whose memories or pointers it came from.
    """

    object_id: int
    frame: int
    view: View
    logits: NDArray[np.float16] | NDArray[np.float32]
    pointer: NDArray[np.float32]
    object_score: float
    predicted_iou: float
    bbox: BBox
    mask: NDArray[np.bool_]
    prompted: bool = False
    locked: bool = False
    stale: bool = False
    step: int = 0
    sources: tuple[int, ...] = ()


def on_own_side(sources: Sequence[int], frame: int, cut: int) -> tuple[int, ...]:
    """Sources that lie on a frame's own side of a cut, which is before the frame `cut`."""
    return tuple(source for source in sources if (source < cut) == (frame < cut))


def to_row(record: Record) -> tuple[Any, ...]:
    """The record as values of `COLUMNS`.

    Area and centroid are told by the mask; they are there to be read without it.
    """
    return (
        record.object_id,
        record.frame,
        int(record.prompted),
        int(record.locked),
        int(record.stale),
        record.step,
        record.object_score,
        record.predicted_iou,
        json.dumps(record.sources),
        json.dumps(record.bbox),
        *_moments(record),
        zlib.compress(np.packbits(record.mask).tobytes(), 1),
        json.dumps(record.view.to_json()),
        zlib.compress(record.logits.astype(record.logits.dtype.newbyteorder("<")).tobytes(), 1),
        json.dumps(record.logits.shape),
        record.pointer.astype("<f4").tobytes(),
    )


def _moments(record: Record) -> tuple[int, float | None, float | None]:
    """Area and centroid (y, x) of the mask in frame pixels; no centroid where it is empty."""
    rows, columns = record.mask.sum(axis=1), record.mask.sum(axis=0)
    area = int(rows.sum())
    if area == 0:
        return 0, None, None
    y = record.bbox[0] + float(rows @ np.arange(len(rows))) / area
    x = record.bbox[1] + float(columns @ np.arange(len(columns))) / area
    return area, y, x


def from_row(row: Sequence[Any]) -> Record:
    """Undo :func:`to_row`.

    Raises
    ------
    SessionFileError
        If the values are damaged.
    """
    value = dict(zip(COLUMNS, row, strict=True))
    try:
        y0, x0, y1, x1 = json.loads(value["bbox"])
        height, width = y1 - y0, x1 - x0
        bits = np.frombuffer(zlib.decompress(value["mask"]), np.uint8)
        if len(bits) != (height * width + 7) // 8:
            raise ValueError("the mask does not fill its bounding box")
        shape = json.loads(value["shape"])
        raw = zlib.decompress(value["logits"])
        logits = np.frombuffer(raw, "<f4" if len(raw) == 4 * shape[0] * shape[1] else "<f2").reshape(shape)
        return Record(
            object_id=int(value["object_id"]),
            frame=int(value["frame"]),
            view=View.from_json(json.loads(value["view"])),
            logits=logits.astype(logits.dtype.newbyteorder("="), copy=False),
            pointer=np.frombuffer(value["pointer"], "<f4").astype(np.float32, copy=False),
            object_score=float(value["score"]),
            predicted_iou=float(value["iou"]),
            bbox=(y0, x0, y1, x1),
            mask=np.unpackbits(bits, count=height * width).reshape(height, width).astype(bool),
            prompted=bool(value["prompted"]),
            locked=bool(value["locked"]),
            stale=bool(value["stale"]),
            step=int(value["step"]),
            sources=tuple(json.loads(value["sources"])),
        )
    except (TypeError, ValueError, zlib.error) as error:
        raise SessionFileError(
            f"the result of object {value['object_id']} on frame {value['frame']} is damaged: {error}"
        ) from error
