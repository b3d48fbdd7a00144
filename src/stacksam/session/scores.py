"""Scores: what there is to tell of an object's results without a look at the masks."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stacksam.errors import SessionFileError

__all__ = ["FrameScores", "estimates_by_frame", "scores_of"]


@dataclass(frozen=True, slots=True, eq=False)
class FrameScores:
    """Figures of one object, a row for each of the N frames that have a result. Arrays are read-only.

    Attributes
    ----------
    object_id : int
    frames : (N,) int64
        Ascending.
    object_score : (N,) float64
        Logits: is the object visible there.
    predicted_iou : (N,) float64
        What IoU the mask can be expected to have, 0 to 1: the network's own estimate; of followed masks of
        ``nano`` what that is worth (:func:`stacksam.session.judge.worth`); 1 where
        the object had ended in depth.
    area : (N,) int64
        Pixels of the mask.
    centroid : (N, 2) float64
        ``(y, x)`` in frame pixels; NaN where the mask is empty.
    bbox : (N, 4) int64
        Half-open ``(y0, x0, y1, x1)`` in frame pixels; zeros where the mask is empty.
    prompted, locked, stale : (N,) bool
        Whether the user said something there, approved it, or something has changed that it came from.
    """

    object_id: int
    frames: NDArray[np.int64]
    object_score: NDArray[np.float64]
    predicted_iou: NDArray[np.float64]
    area: NDArray[np.int64]
    centroid: NDArray[np.float64]
    bbox: NDArray[np.int64]
    prompted: NDArray[np.bool_]
    locked: NDArray[np.bool_]
    stale: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.frames)


def scores_of(rows: Sequence[tuple[Any, ...]]) -> dict[int, FrameScores]:
    """Scores by object id, from rows of :meth:`ResultStore.scored`.

    Raises
    ------
    SessionFileError
        If a row is damaged.
    """
    return {object_id: frame_scores(object_id, list(own)) for object_id, own in groupby(rows, itemgetter(0))}


def estimates_by_frame(scores: Mapping[int, FrameScores]) -> dict[int, dict[int, float]]:
    """Predicted IoU by frame and object id, of frames with a result."""
    found: dict[int, dict[int, float]] = {}
    for object_id, own in scores.items():
        for frame, value in zip(own.frames.tolist(), own.predicted_iou.tolist(), strict=True):
            found.setdefault(frame, {})[object_id] = value
    return found


def frame_scores(object_id: int, rows: Sequence[tuple[Any, ...]]) -> FrameScores:
    """Scores of one object, which may have none, from rows of :meth:`ResultStore.scored`.

    Raises
    ------
    SessionFileError
        If a row is damaged.
    """
    columns = list(zip(*rows, strict=True)) or [()] * 11
    _, frames, score, iou, bbox, area, cy, cx, prompted, locked, stale = columns
    try:
        boxes = json.loads(f"[{','.join(bbox)}]")  # much quicker than one by one
        return FrameScores(
            object_id,
            _fixed(frames, np.int64),
            _fixed(score, np.float64),
            _fixed(iou, np.float64),
            _fixed(area, np.int64),
            _fixed(list(zip(cy, cx, strict=True)), np.float64, 2),
            _fixed(boxes, np.int64, 4),
            _fixed(prompted, np.bool_),
            _fixed(locked, np.bool_),
            _fixed(stale, np.bool_),
        )
    except (TypeError, ValueError) as error:
        raise SessionFileError(f"results of object {object_id} are damaged: {error}") from error


def _fixed(values: Sequence[Any], dtype: Any, width: int | None = None) -> NDArray[Any]:
    """A read-only array; None becomes NaN."""
    shape = (len(values),) if width is None else (len(values), width)
    array = np.array(values, dtype).reshape(shape)
    array.flags.writeable = False
    return array
