"""From masks of objects to a label frame."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from stacksam.session.records import Record

__all__ = ["compose", "fill_small_holes"]


def compose(records: Iterable[Record], frame_shape: tuple[int, int]) -> NDArray[np.int32]:
    """Paint the masks of one frame into labels (H, W).

    Where masks overlap, the pixel goes to the object whose mask logit is higher there; of equals to the
    lower object id.
    """
    labels = np.zeros(frame_shape, np.int32)
    painted: dict[int, Record] = {}
    for record in sorted(records, key=lambda r: r.object_id):
        y0, x0, y1, x1 = record.bbox
        region = labels[y0:y1, x0:x1]
        rivals = np.unique(region[record.mask])
        wins = record.mask & (region == 0)
        if rivals.any():
            own = record.view.upsample(record.logits.astype(np.float32), record.bbox)
            for rival in rivals[rivals > 0]:
                other = painted[int(rival)]
                theirs = other.view.upsample(other.logits.astype(np.float32), record.bbox)
                wins |= record.mask & (region == rival) & (own > theirs)
        region[wins] = record.object_id
        painted[record.object_id] = record
    return labels


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
