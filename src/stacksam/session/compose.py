"""From masks of objects to a label frame."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from stacksam.session.boxes import BBox, intersection
from stacksam.session.records import Record

__all__ = ["compose", "fill_small_holes"]


def compose(records: Iterable[Record], box: BBox) -> NDArray[np.int32]:
    """Paint the masks of one frame into the labels of a part of it.

    Where masks overlap, the pixel goes to the object whose mask logit is higher there; of equals to the
    lower object id.

    Parameters
    ----------
    records : iterable of Record
        All that are seen in the box.
    box : (int, int, int, int)
        Half-open ``(y0, x0, y1, x1)`` in frame pixels.

    Returns
    -------
    (y1 - y0, x1 - x0) int32
    """
    labels = np.zeros((box[2] - box[0], box[3] - box[1]), np.int32)
    painted: dict[int, Record] = {}
    for record in sorted(records, key=lambda r: r.object_id):
        part = intersection(record.bbox, box)
        if part is None:
            continue
        region = labels[_within(part, box)]
        mask = record.mask[_within(part, record.bbox)]
        rivals = np.unique(region[mask])
        wins = mask & (region == 0)
        if rivals.any():
            own = record.view.upsample(record.logits.astype(np.float32), part)
            for rival in rivals[rivals > 0]:
                other = painted[int(rival)]
                theirs = other.view.upsample(other.logits.astype(np.float32), part)
                wins |= mask & (region == rival) & (own > theirs)
        region[wins] = record.object_id
        painted[record.object_id] = record
    return labels


def _within(part: BBox, whole: BBox) -> tuple[slice, slice]:
    """Where a part lies in an array of the whole."""
    y, x = whole[:2]
    return slice(part[0] - y, part[2] - y), slice(part[1] - x, part[3] - x)


def fill_small_holes(mask: NDArray[np.bool_], largest: float) -> NDArray[np.bool_]:
    """Fill enclosed holes of at most `largest` pixels in a mask cut to its bounding box."""
    if largest < 1 or mask.size == 0 or mask.all():
        return mask
    holes, count = ndimage.label(np.pad(~mask, 1, constant_values=True))
    if count < 2:
        return mask
    sizes = np.bincount(holes.ravel())
    small = sizes <= largest
    small[[0, holes[0, 0]]] = False
    filled: NDArray[np.bool_] = mask | small[holes][1:-1, 1:-1]
    return filled
