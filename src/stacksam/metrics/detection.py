"""How many objects were found, and how well: AP, F1, mean matched IoU and panoptic quality.

Objects are matched anew in each time point (a frame, or a volume), whatever their ids, and the counts of all
time points are pooled.

References
----------
.. [1] U. Schmidt, M. Weigert, C. Broaddus, G. Myers, "Cell Detection with Star-Convex Polygons", MICCAI 2018.
.. [2] C. Stringer, T. Wang, M. Michaelos, M. Pachitariu, "Cellpose: a generalist algorithm for cellular
   segmentation", Nature Methods 18, 2021.
.. [3] A. Kirillov, K. He, R. Girshick, C. Rother, P. Dollár, "Panoptic Segmentation", CVPR 2019.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from stacksam.errors import InputError
from stacksam.metrics.overlaps import Overlaps, assign

__all__ = ["AP_THRESHOLDS", "Detection", "Panoptic", "detection_measures", "panoptic_quality"]

AP_THRESHOLDS = tuple(round(0.5 + 0.05 * k, 2) for k in range(10))
"""0.5, 0.55 ... 0.95."""


@dataclass(frozen=True, slots=True)
class Detection:
    """Objects found at one IoU threshold.

    Attributes
    ----------
    threshold : float
        A pair matches from this IoU on.
    true_positives, false_positives, false_negatives : int
        Matched pairs, objects of the labels without a match, objects of the reference without one.
    precision, recall, f1 : float
        ``TP / (TP + FP)``, ``TP / (TP + FN)``, ``2 TP / (2 TP + FP + FN)``.
    ap : float
        ``TP / (TP + FP + FN)``: what StarDist [1]_ and Cellpose [2]_ call average precision. It is not the
        area below a precision-recall curve that COCO calls so: labels have no scores to rank them by.
    mean_matched_iou : float
        Mean IoU of the matched pairs; NaN without any.
    """

    threshold: float
    true_positives: int
    false_positives: int
    false_negatives: int
    precision: float
    recall: float
    f1: float
    ap: float
    mean_matched_iou: float


@dataclass(frozen=True, slots=True)
class Panoptic:
    """Panoptic quality [3]_ of a single class, of pairs with an IoU above 0.5.

    Attributes
    ----------
    pq : float
        Sum of their IoU over ``TP + FP / 2 + FN / 2``; it is `sq` times `rq`.
    sq, rq : float
        Segmentation quality, the mean IoU of matched pairs, and recognition quality, which is F1. `sq` is NaN
        without any pair.
    """

    pq: float
    sq: float
    rq: float


def detection_measures(times: Iterable[Overlaps], threshold: float = 0.5) -> Detection:
    """Match objects by IoU in each time point, as StarDist and Cellpose do, and count.

    Matches are one-to-one: as many as can be, and among those the ones of largest total IoU. That matters at
    0.5 only, above which no object can have two partners.

    Parameters
    ----------
    times : iterable of Overlaps
        One for each time point.
    threshold : float
        IoU, in 0.5..1.

    Raises
    ------
    InputError
        If the threshold is outside.
    """
    if not 0.5 <= threshold <= 1:
        raise InputError(f"the IoU threshold is {threshold:g}; give 0.5 to 1")
    n_labels = n_reference = 0
    matched: list[float] = []
    for time in times:
        n_labels += len(time.labels)
        n_reference += len(time.reference)
        # IoU such as 0.7 are not exact in binary, nor are thresholds.
        near = np.flatnonzero(time.iou >= threshold - 1e-9)
        ious = time.iou[near]
        # A pair more is always worth more than all IoU together.
        worth = 1 + ious / (2 * max(len(near), 1))
        chosen = assign(time.pair_reference[near], time.pair_label[near], worth)
        matched += ious[chosen].tolist()
    tp = len(matched)
    fp, fn = n_labels - tp, n_reference - tp
    return Detection(
        threshold=threshold,
        true_positives=tp,
        false_positives=fp,
        false_negatives=fn,
        precision=_share(tp, tp + fp),
        recall=_share(tp, tp + fn),
        f1=_share(2 * tp, 2 * tp + fp + fn),
        ap=_share(tp, tp + fp + fn),
        mean_matched_iou=_share(math.fsum(matched), tp),
    )


def panoptic_quality(times: Iterable[Overlaps]) -> Panoptic:
    """Panoptic quality, pooled over time points."""
    n_objects, matched = 0, np.zeros(0)
    for time in times:
        n_objects += len(time.labels) + len(time.reference)
        matched = np.concatenate([matched, time.iou[time.iou > 0.5]])
    total, tp = float(matched.sum()), len(matched)
    return Panoptic(pq=_share(2 * total, n_objects), sq=_share(total, tp), rq=_share(2 * tp, n_objects))


def _share(part: float, whole: float) -> float:
    return part / whole if whole else math.nan
