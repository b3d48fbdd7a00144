"""What an evaluation found: how single objects were followed, and means over the objects of a data set."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["CurvePoint", "EvaluationRow", "ObjectScore"]


@dataclass(frozen=True, slots=True)
class ObjectScore:
    """How one object was followed; see :mod:`stacksam.evaluate` for what the other frames are.

    Attributes
    ----------
    iou_prompted, iou_others : float
    boundary_prompted, boundary_others : float
        Boundary F-measure. The two for other frames are NaN in a stack of one frame.
    n_others : int
        Other frames that were counted.
    iou_by_distance : tuple of (int, float)
        Distance in frames from the prompted one and IoU, of each frame that was counted, itself among them.
    dice_volume : float
        ``2 |A and B| / (|A| + |B|)`` over all frames at once; NaN in a stack of one frame.
    clip : str
    object_id : int
        Whose score it is.
    """

    iou_prompted: float
    iou_others: float
    boundary_prompted: float
    boundary_others: float
    n_others: int
    iou_by_distance: tuple[tuple[int, float], ...] = ()
    dice_volume: float = math.nan
    clip: str = ""
    object_id: int = 0


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """Mean IoU at one distance from the prompted frame, both ways.

    Attributes
    ----------
    distance : int
        In frames; 0 is the prompted frame.
    iou : float
    frames : int
        Frames, of all objects, that the mean is of.
    """

    distance: int
    iou: float
    frames: int


@dataclass(frozen=True, slots=True)
class EvaluationRow:
    """Means over the objects of one data set, by one method.

    Attributes
    ----------
    dataset : str
    method : str
        ``"click"``, ``"box"``, ``"mask"``: the model with that prompt; ``"click+N"``: with up to N corrective
        clicks more; ``"copy"``, ``"otsu+watershed"``: the baselines.
    objects, frames : int
        Objects, and their other frames that were counted.
    iou_prompted, iou_others, boundary_prompted, boundary_others, dice_volume : float
        NaN where there was nothing to average.
    seconds : float
        Wall time of segmenting, without loading and scoring.
    curve : tuple of CurvePoint
        Mean IoU by distance from the prompted frame, from 0 on: how it fares from the first frame to the
        last.
    scores : tuple of ObjectScore
        Of each object.
    """

    dataset: str
    method: str
    objects: int
    frames: int
    iou_prompted: float
    iou_others: float
    boundary_prompted: float
    boundary_others: float
    dice_volume: float
    seconds: float
    curve: tuple[CurvePoint, ...] = ()
    scores: tuple[ObjectScore, ...] = ()
