"""An update: what a session tells of one object on one frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from stacksam.session.boxes import BBox
from stacksam.session.judge import overlap
from stacksam.session.records import Record

__all__ = ["Update"]


@dataclass(frozen=True, slots=True, eq=False)
class Update:
    """The mask of one object on one frame, new or changed.

    Attributes
    ----------
    frame, object_id : int
    bbox : (int, int, int, int)
        Half-open ``(y0, x0, y1, x1)`` in frame pixels; empty where the object is not seen.
    mask : bool array of the bounding box's shape
    object_score : float
        Logit: is the object visible on this frame.
    predicted_iou : float
        What IoU the mask can be expected to have, 0 to 1: the network's own estimate; of followed masks of
        ``nano`` what that is worth (:func:`stacksam.session.judge.worth`); 1 where
        the object had ended in depth.
    prompted : bool
        Whether the user said something about this object on this frame.
    kept : float or None
        IoU with the mask that this one replaces, 1 where both are empty; None where there was none.
    """

    frame: int
    object_id: int
    bbox: BBox
    mask: NDArray[np.bool_]
    object_score: float
    predicted_iou: float
    prompted: bool
    kept: float | None = None

    @classmethod
    def of(cls, record: Record, former: Record | None = None) -> Self:
        """What there is to tell of a record, and of the one that it replaces."""
        return cls(
            record.frame,
            record.object_id,
            record.bbox,
            record.mask,
            record.object_score,
            record.predicted_iou,
            record.prompted,
            None if former is None else _kept(record, former),
        )

    def full_mask(self, frame_shape: tuple[int, int]) -> NDArray[np.bool_]:
        """The mask at the size of the frame."""
        full = np.zeros(frame_shape, bool)
        y0, x0, y1, x1 = self.bbox
        full[y0:y1, x0:x1] = self.mask
        return full


def _kept(now: Record, former: Record) -> float:
    return overlap(now, former) if now.mask.any() or former.mask.any() else 1.0
