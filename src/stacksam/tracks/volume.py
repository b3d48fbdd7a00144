"""Objects in depth: where they end, gaps in them, and how evenly they change from slice to slice.

Everything here is on demand and looks at results that are there; what it changes is an action of the session,
so it can be undone and is replayed. Nothing is trimmed or filled while an object is followed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from stacksam.errors import InputError
from stacksam.session.boxes import BBox, union
from stacksam.session.prompts import Mask
from stacksam.session.scores import FrameScores
from stacksam.session.session import Session
from stacksam.session.update import Update

__all__ = ["EndRules", "Smoothness", "close_gaps", "find_ends", "shape_between", "smoothness", "trim_ends"]


@dataclass(frozen=True, slots=True)
class EndRules:
    """When an object has ended, going away from its prompted frames.

    Attributes
    ----------
    min_score : float
        A frame is beyond the end where the object score (a logit) is lower.
    min_area : float
        A frame is beyond the end where the mask is smaller than this share of the object's largest one.
    patience : int
        So many such frames in a row make an end; fewer are a dip.
    """

    min_score: float = 0.0
    min_area: float = 0.05
    patience: int = 2

    def __post_init__(self) -> None:
        if math.isnan(self.min_score):
            raise InputError("min_score is NaN; give a logit, 0 for as likely as not")
        if not 0 <= self.min_area <= 1:
            raise InputError(f"min_area is {self.min_area}; give a share of the largest area, 0 to 1")
        if self.patience < 1:
            raise InputError(f"patience is {self.patience}; give 1 or more frames")


def find_ends(scores: FrameScores, rules: EndRules | None = None) -> tuple[int, int]:
    """First and last frame of an object by its scores.

    Parameters
    ----------
    scores : FrameScores
        From :meth:`Session.scores`.
    rules : EndRules, optional

    Returns
    -------
    (int, int)
        Both included. Prompted frames, and approved ones with a mask, are never beyond an end.

    Raises
    ------
    InputError
        If the object has no frame that was prompted.
    """
    rules = rules or EndRules()
    if not scores.prompted.any():
        raise InputError(f"object {scores.object_id} has no prompted frame, from which ends are looked for")
    largest = int(scores.area.max())
    over = (scores.area == 0) | (scores.object_score < rules.min_score)
    over |= scores.area < rules.min_area * largest
    said = np.nonzero(scores.prompted | (scores.locked & (scores.area > 0)))[0]
    ahead = range(int(said[-1]), len(scores))
    back = range(int(said[0]), -1, -1)
    return int(scores.frames[_end(over, back, rules)]), int(scores.frames[_end(over, ahead, rules)])


def _end(over: NDArray[np.bool_], way: Sequence[int], rules: EndRules) -> int:
    """The last place on the way before a run of frames that are over, or of what is left at its end."""
    last, run = way[0], 0
    for place in way:
        run = run + 1 if over[place] else 0
        if run == 0:
            last = place
        if run >= rules.patience:
            break
    return last


def trim_ends(
    session: Session,
    object_id: int,
    rules: EndRules | None = None,
    *,
    first: int | None = None,
    last: int | None = None,
) -> tuple[int, ...]:
    """Say that an object is absent beyond its ends, as one action (:meth:`Session.mark_absent`).

    Parameters
    ----------
    session : Session
    object_id : int
    rules : EndRules, optional
        Not asked on a side whose end is given.
    first, last : int, optional
        Ends that are known. (To not follow an object beyond them in the first place, give them to
        :meth:`Session.propagate`.)

    Returns
    -------
    tuple of int
        Frames that were emptied; if there are none, nothing was done.

    Raises
    ------
    InputError
        If there is no such object, or it has prompts beyond an end that is given.
    """
    scores = session.scores(object_id)
    found = find_ends(scores, rules) if first is None or last is None else (0, 0)
    low, high = found[0] if first is None else first, found[1] if last is None else last
    beyond = (scores.frames < low) | (scores.frames > high)
    wanted = tuple(int(frame) for frame in scores.frames[beyond & (scores.area > 0)])
    if wanted:
        session.mark_absent(object_id, wanted)
    return wanted


def close_gaps(session: Session, object_id: int, *, max_gap: int | None = None) -> tuple[int, ...]:
    """Fill frames without an object that lie between frames with it, as one action (`Session.set_masks`).

    Parameters
    ----------
    session : Session
    object_id : int
    max_gap : int, optional
        Longer gaps stay; all are closed by default.

    Returns
    -------
    tuple of int
        Frames that were filled, each by :func:`shape_between`; if there are none, nothing was done. Frames
        that were approved as empty stay so, and so does their gap.

    Raises
    ------
    InputError
        If there is no such object, or `max_gap` is below 1.
    StorageError
        If the change cannot be written; then the masks are as they were.
    """
    if max_gap is not None and max_gap < 1:
        raise InputError(f"max_gap is {max_gap}; give 1 or more frames")
    scores = session.scores(object_id)
    there = scores.frames[scores.area > 0].tolist()
    results, settled = set(scores.frames.tolist()), set(scores.frames[scores.locked].tolist())
    filled: list[Mask] = []
    for before, after in pairwise(there):
        gap = range(before + 1, after)
        if not gap or len(gap) > (max_gap or len(gap)) or not results.issuperset(gap) or settled & set(gap):
            continue
        ends = session.mask(object_id, before), session.mask(object_id, after)
        for frame in gap:
            mask = shape_between(*ends, (frame - before) / (after - before))
            filled.append(Mask(frame, object_id, mask))
    if filled:
        session.set_masks(*filled)
    return tuple(mask.frame for mask in filled)


def shape_between(before: NDArray[np.bool_], after: NDArray[np.bool_], share: float) -> NDArray[np.bool_]:
    """The shape that lies between two, by their signed distances [1]_.

    Both are moved so that their centroids meet on the line between them, so shapes that do not overlap have
    one between them, too.

    Parameters
    ----------
    before, after : (H, W) bool
        Not empty.
    share : float
        How far to go from the one to the other, 0 to 1.

    Returns
    -------
    (H, W) bool

    Raises
    ------
    InputError
        If a mask is empty, or the shapes of the arrays differ.

    References
    ----------
    .. [1] S. P. Raya, J. K. Udupa, "Shape-based interpolation of multidimensional objects", IEEE TMI 9(1),
       1990.
    """
    if before.shape != after.shape or not before.any() or not after.any():
        raise InputError(f"shapes {before.shape} and {after.shape} must be alike, and neither mask empty")
    middles = [np.argwhere(mask).mean(axis=0) for mask in (before, after)]
    middle = (1 - share) * middles[0] + share * middles[1]
    distance = sum(
        weight * ndimage.shift(_signed_distance(mask), middle - own, order=1, mode="nearest")
        for mask, own, weight in zip((before, after), middles, (1 - share, share), strict=True)
    )
    mask = np.asarray(distance > 0)
    if not mask.any():  # shapes so unlike that none is left: the nearer one
        return before.copy() if share < 0.5 else after.copy()
    return mask


def _signed_distance(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Distance to the border in pixels, positive inside; half a pixel at the pixels beside it."""
    inside = ndimage.distance_transform_edt(mask)
    outside = ndimage.distance_transform_edt(~mask)
    return np.asarray(np.where(mask, inside - 0.5, 0.5 - outside), np.float64)


@dataclass(frozen=True, slots=True)
class Smoothness:
    """How evenly an object changes from frame to frame.

    Attributes
    ----------
    pairs : int
        Neighbouring frames that both show it.
    dice_mean, dice_min : float
        Dice of the masks of such a pair: 1 where nothing changes. NaN without pairs.
    worst : int
        The later frame of the pair with the lowest Dice, -1 without pairs.
    hausdorff_max : float
        Largest Hausdorff distance of a pair, in the unit of rows and columns (`Stack.units`).
    area_jump : float
        Largest change of area, as a ratio of 1 or more.
    gaps : int
        Frames without the object between frames with it.
    """

    pairs: int
    dice_mean: float
    dice_min: float
    worst: int
    hausdorff_max: float
    area_jump: float
    gaps: int


def smoothness(session: Session, object_id: int) -> Smoothness:
    """How evenly an object changes from frame to frame.

    Organs change little between neighbouring slices, so a low Dice or a jump of area is a place to look at.
    Thick slices lower it by themselves; compare objects of one stack.

    Raises
    ------
    InputError
        If the object id is none.
    """
    step = session.stack.spacing[1:]
    there: list[Update] = []
    dice, far, jumps = [], [], []
    for frame in session.frames_of(object_id):
        update = session.update(object_id, frame)
        if update is None or not update.mask.any():
            continue
        if there and there[-1].frame == frame - 1:
            a, b = _together(there[-1], update)
            sizes = float(a.sum()), float(b.sum())
            dice.append(2 * float((a & b).sum()) / sum(sizes))
            far.append(_hausdorff(a, b, step))
            jumps.append(max(sizes) / min(sizes))
        there.append(update)
    if not dice:
        return Smoothness(0, math.nan, math.nan, -1, math.nan, math.nan, _gaps(there))
    pairs = [u.frame for earlier, u in pairwise(there) if earlier.frame == u.frame - 1]
    worst = pairs[int(np.argmin(dice))]
    mean = float(np.mean(dice))
    return Smoothness(len(dice), mean, min(dice), worst, max(far), max(jumps), _gaps(there))


def _gaps(there: Sequence[Update]) -> int:
    return there[-1].frame - there[0].frame + 1 - len(there) if there else 0


def _together(one: Update, other: Update) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Two masks in the box around both."""
    box = union(one.bbox, other.bbox)
    return _placed(one, box), _placed(other, box)


def _placed(update: Update, box: BBox) -> NDArray[np.bool_]:
    out = np.zeros((box[2] - box[0], box[3] - box[1]), bool)
    y0, x0, y1, x1 = update.bbox
    out[y0 - box[0] : y1 - box[0], x0 - box[1] : x1 - box[1]] = update.mask
    return out


def _hausdorff(a: NDArray[np.bool_], b: NDArray[np.bool_], step: tuple[float, float]) -> float:
    """The farthest that a pixel of one mask lies from the other."""
    ways = (ndimage.distance_transform_edt(~to, sampling=step)[of].max() for of, to in ((a, b), (b, a)))
    return float(max(ways))
