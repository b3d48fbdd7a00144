"""How far an answer is to be believed: figures by which one of several is chosen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stacksam.session.canvas import WINDOW_SIDE, View, object_size
from stacksam.session.prompts import Box, Point
from stacksam.session.records import Record

__all__ = [
    "FITTED_DISTANCE",
    "LOGIT_LIMIT",
    "belief",
    "gone",
    "heed",
    "likeliest",
    "obedience",
    "overlap",
    "stability",
    "trust",
    "worth",
]

LOGIT_LIMIT = 32.0  # the official predictor's bound on logits that are fed back
FITTED_DISTANCE = 7  # frames: the longest distance of the clips that `worth` is fitted on


def trust(record: Record, all_found: Sequence[Record]) -> float:
    """How far an answer to a click is to be trusted, among answers from windows of several sides.

    The weights were chosen on 28 procedural clips and the two shipped samples, so figures on the samples are
    no independent test of them; see ``docs/benchmarks.md``.
    """
    by_view: dict[View, float] = {}
    for other in all_found:
        if other.view != record.view:
            by_view[other.view] = max(by_view.get(other.view, 0.0), overlap(record, other))
    best = sorted(by_view.values(), reverse=True)[:2]
    agreed = sum(best) / len(best) if best else 0.0
    misfit = abs(float(np.log(record.view.height / (WINDOW_SIDE * object_size(record.mask)))))
    return 2 * record.predicted_iou + stability(record.logits) + 4 * agreed - 0.15 * misfit


def likeliest(logits: NDArray[np.float32], iou: NDArray[np.float32], cell: float, previous: Record) -> int:
    """Which candidate goes on best from the frame before: of similar size, stable and believed in.

    Parameters
    ----------
    logits : (K, h, w) float32
        Mask logits of the candidates.
    iou : (K,) float32
        Their predicted IoU.
    cell : float
        Frame pixels along a cell of the logits.
    previous : Record
        The object on the frame before.

    Returns
    -------
    int
        Its number.
    """
    before = object_size(previous.mask) if previous.mask.any() else None

    def score(mask: NDArray[np.float32], belief: float) -> float:
        inside = mask > 0
        if not inside.any():
            return belief - 10.0
        if before is None:
            return belief
        growth = abs(math.log(object_size(inside) * cell / before))
        return belief + stability(mask) - growth

    return int(np.argmax([score(mask, float(belief)) for mask, belief in zip(logits, iou, strict=True)]))


def obedience(record: Record, previous: Record, prompts: Sequence[Point | Box]) -> tuple[int, float]:
    """How well an answer does what a correction asks for: prompts that it heeds, then belief in it.

    On 369 corrections in 60 procedural clips this heeds every click, where the most believed answer with
    memories alone heeds 72 %, at the same mean IoU (0.666 and 0.662).
    """
    if not record.mask.any():
        return -1, 0.0
    return heed(record, prompts), record.predicted_iou + 0.5 * overlap(record, previous)


def belief(record: Record) -> float:
    """How far an answer is believed in: its predicted IoU, and how stable its mask is."""
    return record.predicted_iou + 0.25 * stability(record.logits) if record.mask.any() else -1.0


def heed(record: Record, prompts: Sequence[Point | Box]) -> int:
    """How many of the prompts agree with the mask: points by their pixel, boxes by the bounding box."""
    y0, x0, y1, x1 = record.bbox
    count = 0
    for prompt in prompts:
        if isinstance(prompt, Box):
            top, left, bottom, right = prompt.yxyx
            height, width = min(y1 - 1, bottom) - max(y0, top) + 1, min(x1 - 1, right) - max(x0, left) + 1
            shared = max(height, 0.0) * max(width, 0.0)
            whole = (y1 - y0) * (x1 - x0) + (bottom - top + 1) * (right - left + 1) - shared
            count += 2 * shared >= whole
        else:
            y, x = round(prompt.yx[0]) - y0, round(prompt.yx[1]) - x0
            inside = 0 <= y < record.mask.shape[0] and 0 <= x < record.mask.shape[1]
            count += bool(inside and record.mask[y, x]) == prompt.positive
    return count


def gone(record: Record) -> Record:
    """The record of an object that is not on this frame."""
    return replace(
        record,
        mask=np.zeros((0, 0), bool),
        bbox=(0, 0, 0, 0),
        logits=np.full_like(record.logits, -LOGIT_LIMIT),
        object_score=min(record.object_score, -1.0),
    )


def overlap(a: Record, b: Record) -> float:
    """IoU of two masks of one frame."""
    y0, x0 = max(a.bbox[0], b.bbox[0]), max(a.bbox[1], b.bbox[1])
    y1, x1 = min(a.bbox[2], b.bbox[2]), min(a.bbox[3], b.bbox[3])
    if y0 >= y1 or x0 >= x1:
        return 0.0

    def part(record: Record) -> NDArray[np.bool_]:
        top, left = record.bbox[:2]
        return record.mask[y0 - top : y1 - top, x0 - left : x1 - left]

    shared = float((part(a) & part(b)).sum())
    return shared / (float(a.mask.sum()) + float(b.mask.sum()) - shared)


def stability(logits: NDArray[np.floating[Any]]) -> float:
    """How little a mask changes when the threshold of its logits moves by one."""
    return float((logits > 1).sum() / max(1, (logits > -1).sum()))


def worth(predicted: float, distance: int, coefficients: tuple[float, float, float]) -> float:
    """What a predicted IoU of a followed mask is worth, far from where the object was prompted.

    The network tells how well a mask fits what it takes the object to be. That it is still the same object is
    another matter, and less sure with each frame. So the logit of the predicted IoU is scaled and moved, and
    falls with the logarithm of the distance (a logistic calibration: Platt, 1999). The coefficients are
    fitted by ``model/train/calibrate.py``, on clips of eight frames. How it goes on beyond is not known, so
    from `FITTED_DISTANCE` on it falls no further: a mask that the network is sure of would else be doubted
    for nothing but being far from its prompt.

    Parameters
    ----------
    predicted : float
        As the network said it, 0 to 1.
    distance : int
        Frames to the nearest conditioning frame.
    coefficients : (float, float, float)
        Slope, offset, and fall with ``log(1 + distance)``. ``(1, 0, 0)`` leaves it as it is.
    """
    slope, offset, fall = coefficients
    if coefficients == (1.0, 0.0, 0.0):
        return predicted
    bounded = min(max(predicted, 1e-4), 1 - 1e-4)
    value = (
        slope * math.log(bounded / (1 - bounded)) + offset - fall * math.log1p(min(distance, FITTED_DISTANCE))
    )
    return 1 / (1 + math.exp(-value))
