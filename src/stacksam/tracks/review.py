"""What should be looked at: a confidence for each object on each frame, and why it is low.

The confidence of a frame is a product of factors, each 0 to 1 and each with a name that users can be told:

========== ==============================================================================================
presence   sigmoid of the object score: is the object visible at all
outline    predicted IoU of the mask: 0 up to 0.2, rising to 1 at 0.8
size       how far the area jumps, as ``|log(area / expected area)|``: 1 up to 0.2 (22 %), falling to 0.2
           at 1.1 (three times)
motion     how far the centre lies from where steady motion would have it, in diameters of the object:
           1 up to 0.2, falling to 0.2 at 1.0
overlap    share of the mask that other objects cover too: 1 up to 0.1, falling to 0.2 at 0.6
========== ==============================================================================================

*Expected* is judged from either side in time, and the worse side counts; on one side it is the frame that
agrees best among the three nearest. So one bad frame, or two, do not blame their neighbours, and a lasting
jump blames only the two frames it lies between. Steady growth and steady motion are taken out first (the
median of the eight steps about a frame), and an object that is restless by nature is given more room (three
median deviations of its steps, at most doubled). Frames where the object is not seen are left out of all
this.

An empty mask is no failure in itself: its confidence is the sigmoid of *minus* the object score, so an object
that is surely gone is a sure result. Frames that the user has accepted count 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stacksam.errors import InputError

if TYPE_CHECKING:
    from stacksam.session.scores import FrameScores

__all__ = [
    "FINE",
    "POOR",
    "confidence",
    "factors",
    "in_words",
    "overlaps",
    "reasons",
    "worst",
    "worst_of_all",
]

Array = NDArray[np.float64]

FINE = 0.7  # at and above it nothing needs to be said
POOR = 0.3  # below it a frame is likely to be wrong

_FLOOR = 0.2  # what a jump or an overlap leaves of the confidence at most: they may have happened
# By itself an outline is fine from a predicted IoU of 0.62 on, and poor below 0.38. That suits figures that
# are calibrated (`worth` in session/judge.py): of 313 masks that `nano` followed in 14 procedural clips, in a
# trial that no command repeats, the fine ones had a true IoU of 0.82 on average, the poor ones of 0.18, and
# of those below 0.5 nine in ten were not fine.
_IOU = (0.2, 0.8)
_AREA = (0.2, 1.1)
_MOTION = (0.2, 1.0)
_OVERLAP = (0.1, 0.6)
_NEAR = 5  # frames farther away than this say nothing about a frame
_NAMES = ("presence", "outline", "size", "motion", "overlap")


def confidence(scores: FrameScores, overlap: Array | None = None) -> Array:
    """How likely each mask of an object is right.

    Parameters
    ----------
    scores : FrameScores
        Of one object, N frames.
    overlap : (N,) array, optional
        Share of the mask that other objects cover too, 0 to 1, as from :func:`overlaps`; left out by default.

    Returns
    -------
    (N,) float64 array
        0 (look at it) to 1 (sure), see the module's text. An order of looking, not a probability.

    Raises
    ------
    InputError
        If `overlap` has another length than the scores, or is not finite.
    """
    return _confidence(scores, _judge(scores, overlap)[0])


def factors(scores: FrameScores, overlap: Array | None = None) -> dict[str, Array]:
    """The factors of the confidence by name: presence, outline, size, motion, overlap; each (N,), 0 to 1.

    Raises
    ------
    InputError
        As :func:`confidence`.
    """
    return dict(zip(_NAMES, _judge(scores, overlap)[0], strict=True))


def reasons(scores: FrameScores, overlap: Array | None = None) -> list[str]:
    """The main reason of a low confidence on each frame, in words; empty where it is at least `FINE`.

    Raises
    ------
    InputError
        As :func:`confidence`.
    """
    parts, growth, shift, covered = _judge(scores, overlap)
    least = np.argmin(np.stack(parts), axis=0)
    low = _confidence(scores, parts) < FINE
    seen = scores.area > 0

    def reason(i: int) -> str:
        if not seen[i]:
            return "nothing was found, but the object may be there"
        name = _NAMES[least[i]]
        if name == "presence":
            return "the object may not be there"
        if name == "outline":
            return "the outline is uncertain"
        if name == "size":
            return f"the area jumps: {_times(float(growth[i]))}"
        if name == "motion":
            return f"the centre jumps by {shift[i]:.1f} diameters"
        return f"{covered[i]:.0%} of it lies under other objects"

    return [reason(i) if low[i] else "" for i in range(len(low))]


def in_words(value: float) -> str:
    """A confidence in words: sure, unsure, or likely wrong."""
    return "sure" if value >= FINE else "unsure" if value >= POOR else "likely wrong"


def worst(
    scores: FrameScores, overlap: Array | None = None, *, spacing: int = 5, at_most: float = 1.0
) -> list[int]:
    """Frames of one object in the order in which they should be looked at, the least sure first.

    A frame stands for its neighbours: those fewer than `spacing` frames away are not listed, since they
    mostly fail together and one correction mends them all. Accepted and prompted frames are never listed.

    Parameters
    ----------
    scores, overlap
        As for :func:`confidence`.
    spacing : int
        Least distance between two listed frames, at least 1.
    at_most : float
        Frames of a higher confidence are not listed; `FINE` leaves only those worth a look.

    Raises
    ------
    InputError
        If `spacing` is less than 1, and as :func:`confidence`.
    """
    return [frame for _, frame in _candidates(scores, overlap, spacing, at_most)]


def worst_of_all(
    scores: Mapping[int, FrameScores],
    overlap: Mapping[int, Array] | None = None,
    *,
    spacing: int = 5,
    at_most: float = 1.0,
) -> list[tuple[int, int]]:
    """``(object_id, frame)`` of all objects in the order in which they should be looked at.

    Parameters
    ----------
    scores : mapping of int to FrameScores
    overlap : mapping of int to array, optional
        By :func:`overlaps`.
    spacing, at_most
        As for :func:`worst`, within each object.

    Raises
    ------
    InputError
        As :func:`worst`.
    """
    found = [
        (value, object_id, frame)
        for object_id, own in scores.items()
        for value, frame in _candidates(own, overlap.get(object_id) if overlap else None, spacing, at_most)
    ]
    return [(object_id, frame) for _, object_id, frame in sorted(found)]


def overlaps(scores: Mapping[int, FrameScores]) -> dict[int, Array]:
    """Estimate how much of each mask other objects cover too, from boxes, areas and centres alone.

    Two masks are taken for discs of their areas about their centres, which share a lens; and for their areas
    spread evenly over their boxes. The smaller of both answers counts, so that neither long neighbours side
    by side nor round ones with touching boxes are blamed. Where two boxes are nearly the same (their IoU is
    above 0.7 to 0.9), the objects most likely are, and the lens counts.

    Parameters
    ----------
    scores : mapping of int to FrameScores

    Returns
    -------
    dict of int to (N,) float64 array
        Share 0 to 1, for each frame of the object's scores.
    """
    if not scores:
        return {}
    parts = list(scores.values())
    frames = np.concatenate([own.frames for own in parts])
    area = np.concatenate([own.area for own in parts]).astype(np.float64)
    centre = np.concatenate([own.centroid for own in parts]).reshape(-1, 2)
    bbox = np.concatenate([own.bbox for own in parts]).reshape(-1, 4).astype(np.float64)
    share = np.zeros(len(frames))
    rows = np.flatnonzero(area > 0)
    rows = rows[np.argsort(frames[rows], kind="stable")]
    for group in np.split(rows, np.flatnonzero(np.diff(frames[rows])) + 1):
        share[group] = _covered(area[group], centre[group], bbox[group])
    ends = np.cumsum([len(own.frames) for own in parts])
    return dict(zip(scores, np.split(np.minimum(share, 1.0), ends[:-1]), strict=True))


def _candidates(
    scores: FrameScores, overlap: Array | None, spacing: int, at_most: float
) -> list[tuple[float, int]]:
    """Confidences and frames, least sure first, none near a surer one's worse neighbour."""
    if spacing < 1:
        raise InputError(f"spacing is {spacing}; use at least 1")
    values = confidence(scores, overlap)
    values[scores.locked | scores.prompted | (values > at_most)] = np.inf
    found = []
    while len(values) and np.isfinite(values.min()):
        i = int(np.argmin(values))
        found.append((float(values[i]), int(scores.frames[i])))
        values[np.abs(scores.frames - scores.frames[i]) < spacing] = np.inf
    return found


def _confidence(scores: FrameScores, parts: list[Array]) -> Array:
    """The product of the factors; 1 where the user has accepted the frame."""
    product: Array = np.prod(np.stack(parts), axis=0)
    return np.where(scores.locked, 1.0, product)


def _judge(scores: FrameScores, overlap: Array | None) -> tuple[list[Array], Array, Array, Array]:
    """Factors in the order of their names; growth in log area, shift in diameters, covered share."""
    n = len(scores.frames)
    covered = np.zeros(n) if overlap is None else np.asarray(overlap, np.float64)
    if covered.shape != (n,) or not np.isfinite(covered).all():
        raise InputError(
            f"overlap has the shape {covered.shape} or is not finite; give one number for each of {n} frames"
        )
    seen = scores.area > 0
    frames, area = scores.frames[seen], scores.area[seen].astype(np.float64)
    growth, shift = np.zeros(n), np.zeros(n)
    size, motion = np.ones(n), np.ones(n)

    deviation, room = _deviation(frames, np.log(area)[:, None])
    growth[seen] = deviation[:, 0]
    size[seen] = _fall(np.abs(growth[seen]), _AREA, room)

    # About the median of near frames: a mask that shrinks to a speck must not make its own jump look long.
    diameter = 2 * np.sqrt(_median(_around(area[:, None], 3))[:, 0] / np.pi)
    deviation, room = _deviation(frames, scores.centroid[seen])
    shift[seen] = np.hypot(deviation[:, 0], deviation[:, 1]) / diameter
    motion[seen] = _fall(shift[seen], _MOTION, room / diameter)

    present = _sigmoid(scores.object_score)
    low, high = _IOU
    outline = np.clip((scores.predicted_iou - low) / (high - low), 0.0, 1.0)
    parts = [
        np.where(seen, present, 1.0 - present),
        np.where(seen, outline, 1.0),
        size,
        motion,
        np.where(seen, _fall(covered, _OVERLAP), 1.0),
    ]
    return parts, growth, shift, covered


def _deviation(frames: NDArray[np.int64], values: Array) -> tuple[Array, float]:
    """How far values (M, D) at ascending frames lie from what frames before and after lead to expect.

    Returns the deviation (M, D) from the worse side, and the room that the values' own unrest asks for.
    """
    m = len(frames)
    if m < 2:
        return np.zeros_like(values), 0.0
    gaps = np.diff(frames)[:, None]
    steps = np.where(gaps <= _NEAR, np.diff(values, axis=0) / gaps, np.nan)
    # Row i lies between the steps i - 1 and i; one or two steps make no steady motion.
    windows = _around(np.vstack([steps, np.full((1, steps.shape[1]), np.nan)]), 4)[:, :8]
    few = np.isfinite(windows).all(axis=2).sum(axis=1) < 3
    velocity = np.where(few[:, None], 0.0, _median(windows))
    unrest = np.linalg.norm(steps - velocity[:-1], axis=1)
    unrest = unrest[np.isfinite(unrest)]
    room = 3 * float(np.median(unrest)) if len(unrest) > 3 else 0.0

    sides, counts = zip(*(_side(frames, values, velocity, s) for s in (-1, 1)), strict=True)
    worse, length = np.zeros_like(values), np.zeros(m)
    for side, count, other in zip(sides, counts, counts[::-1], strict=True):
        # A single frame on one side, at an end, may itself be the one that jumped.
        usable = (count >= 2) | ((count == 1) & (other <= 1))
        size = np.linalg.norm(side, axis=1)
        taken = usable & (size > length)
        worse[taken], length[taken] = side[taken], size[taken]
    return worse, room


def _side(
    frames: NDArray[np.int64], values: Array, velocity: Array, step: int
) -> tuple[Array, NDArray[np.intp]]:
    """Deviation (M, D) from the three rows before (-1) or after (1), the least; how many there were (M,)."""
    m = len(frames)
    index = np.arange(m)[:, None] + step * np.arange(1, 4)
    lag = frames[:, None] - frames[np.clip(index, 0, m - 1)]
    valid = (index >= 0) & (index < m) & (np.abs(lag) <= _NEAR)
    expected = values[np.clip(index, 0, m - 1)] + velocity[:, None] * lag[:, :, None]
    away = np.where(valid[:, :, None], values[:, None] - expected, np.inf)
    kindest = np.argmin(np.linalg.norm(away, axis=2), axis=1)
    away[~valid.any(axis=1)] = 0.0
    return away[np.arange(m), kindest], valid.sum(axis=1)


def _around(values: Array, reach: int) -> Array:
    """Rows (M, D) within `reach` of each row, NaN beyond the ends: (M, 2 * reach + 1, D)."""
    pad = np.full((reach, values.shape[1]), np.nan)
    padded: Array = np.vstack([pad, values, pad])
    around: Array = padded[np.arange(len(values))[:, None] + np.arange(2 * reach + 1)]
    return around


def _median(values: Array) -> Array:
    """Medians (M, D) of the numbers among (M, K, D); 0 where there are none."""
    # Several times as quick as numpy's nanmedian, and silent about rows of nothing.
    ordered = np.sort(values, axis=1)  # NaN last
    count = np.isfinite(values).sum(axis=1, keepdims=True)
    low = np.take_along_axis(ordered, np.maximum(count - 1, 0) // 2, axis=1)
    high = np.take_along_axis(ordered, count // 2, axis=1)
    middle: Array = np.where(count > 0, (low + high) / 2, 0.0)[:, 0]
    return middle


def _fall(value: Array, bounds: tuple[float, float], room: Array | float = 0.0) -> Array:
    """1 up to the lower bound, falling to `_FLOOR` at the upper; `room` moves both, by at most the lower."""
    low, high = bounds
    more = np.clip(np.asarray(room) - low, 0.0, low)
    fallen: Array = 1.0 - (1.0 - _FLOOR) * (value - low - more) / (high - low)
    return np.clip(fallen, _FLOOR, 1.0)


def _sigmoid(logits: Array) -> Array:
    """The logistic function, without overflow."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * logits)))


def _times(growth: float) -> str:
    """A growth in log area in words."""
    factor = float(np.exp(abs(growth)))
    return f"{factor:.1f} times as large as near it" if growth > 0 else f"{1 / factor:.0%} of what is near it"


def _covered(area: Array, centre: Array, bbox: Array) -> Array:
    """Estimated share of each of K masks of one frame that the others cover, not yet limited to 1."""
    y0, x0, y1, x1 = bbox.T
    meets = (y0[:, None] < y1) & (y0 < y1[:, None]) & (x0[:, None] < x1) & (x0 < x1[:, None])
    i, j = np.nonzero(np.triu(meets, 1))
    if not len(i):
        return np.zeros(len(area))
    common = (np.minimum(y1[i], y1[j]) - np.maximum(y0[i], y0[j])) * (
        np.minimum(x1[i], x1[j]) - np.maximum(x0[i], x0[j])
    )
    box = (y1 - y0) * (x1 - x0)
    spread = common * (area[i] / box[i]) * (area[j] / box[j])
    lens = np.minimum(_lens(area[i], area[j], np.hypot(*(centre[i] - centre[j]).T)), common)
    same = np.clip((common / (box[i] + box[j] - common) - 0.7) / 0.2, 0.0, 1.0)
    shared = np.maximum(np.minimum(lens, spread), same * lens)
    total = np.bincount(i, shared, len(area)) + np.bincount(j, shared, len(area))
    return np.asarray(total / area)


def _lens(area: Array, other: Array, distance: Array) -> Array:
    """Area that discs of two areas share at a distance of their centres."""
    a, b = np.sqrt(area / np.pi), np.sqrt(other / np.pi)
    # Between touching inside and touching outside, where the formula holds; beyond, it gives the limits.
    d = np.clip(distance, np.maximum(np.abs(a - b), 1e-9), a + b)
    alpha = np.arccos(np.clip((d**2 + a**2 - b**2) / (2 * d * a), -1.0, 1.0))
    beta = np.arccos(np.clip((d**2 + b**2 - a**2) / (2 * d * b), -1.0, 1.0))
    return np.asarray(a**2 * (alpha - np.sin(2 * alpha) / 2) + b**2 * (beta - np.sin(2 * beta) / 2))
