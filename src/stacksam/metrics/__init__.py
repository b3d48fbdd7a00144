"""How good masks, labels and tracks are, and what a method without learning would have got.

`masks` measures one mask against another and makes the prompts and baselines of an evaluation; `overlaps`
counts what two label images share, and all else follows from that: `objects` measures each object over the
frames, `detection` how many objects were found, `tracking` how they were linked. A leaf: pure functions of
arrays, without files and without torch.
"""

from stacksam.metrics.detection import (
    AP_THRESHOLDS,
    Detection,
    Panoptic,
    detection_measures,
    panoptic_quality,
)
from stacksam.metrics.masks import (
    BOUNDARY_TOLERANCE,
    BoolArray,
    boundary_f,
    box_of,
    click_of,
    copy_baseline,
    corrective_click,
    iou,
    link_by_overlap,
    otsu_watershed,
)
from stacksam.metrics.objects import Davis, davis_statistics, nan_mean
from stacksam.metrics.overlaps import Overlaps, add_up, assign, count_overlaps, match_objects
from stacksam.metrics.tracking import (
    Ctc,
    Divisions,
    Identity,
    ctc_measures,
    division_measures,
    identity_measures,
    spans_of,
)

__all__ = [
    "AP_THRESHOLDS",
    "BOUNDARY_TOLERANCE",
    "BoolArray",
    "Ctc",
    "Davis",
    "Detection",
    "Divisions",
    "Identity",
    "Overlaps",
    "Panoptic",
    "add_up",
    "assign",
    "boundary_f",
    "box_of",
    "click_of",
    "copy_baseline",
    "corrective_click",
    "count_overlaps",
    "ctc_measures",
    "davis_statistics",
    "detection_measures",
    "division_measures",
    "identity_measures",
    "iou",
    "link_by_overlap",
    "match_objects",
    "nan_mean",
    "otsu_watershed",
    "panoptic_quality",
    "spans_of",
]
