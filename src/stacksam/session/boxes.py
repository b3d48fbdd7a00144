"""Boxes of whole pixels: parts of a frame."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["BBox", "bbox_of", "intersection", "union"]

BBox: TypeAlias = tuple[int, int, int, int]  # y0, x0, y1, x1, half open


def bbox_of(mask: NDArray[np.bool_]) -> BBox:
    """Half-open bounding box of a mask; zeros where it is empty."""
    rows, columns = np.nonzero(mask.any(axis=1))[0], np.nonzero(mask.any(axis=0))[0]
    if len(rows) == 0:
        return 0, 0, 0, 0
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def intersection(a: BBox, b: BBox) -> BBox | None:
    """What two boxes share; None where that is nothing."""
    y0, x0, y1, x1 = max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])
    return (y0, x0, y1, x1) if y0 < y1 and x0 < x1 else None


def union(a: BBox, b: BBox) -> BBox:
    """The box around two; an empty one adds nothing."""
    if a[0] >= a[2] or a[1] >= a[3]:
        return b
    if b[0] >= b[2] or b[1] >= b[3]:
        return a
    return min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])
