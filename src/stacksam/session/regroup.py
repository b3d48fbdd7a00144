"""Objects made of others: several that are one, and one that is several."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from stacksam.errors import InputError
from stacksam.session.draft import Draft
from stacksam.session.objects import Objects
from stacksam.session.prompts import Mask
from stacksam.session.records import Record
from stacksam.session.update import Update

__all__ = ["merge", "pieces", "split"]

_SMALLEST_PIECE = 4  # pixels
_SMALLEST_SHARE = 0.02  # of the mask
_TOUCHING = np.ones((3, 3), bool)  # also by a corner


def merge(
    objects: Objects, draft: Draft, into: int, others: list[int], frame_shape: tuple[int, int]
) -> list[Record]:
    """Make objects part of another one, by mask prompts on the frames that the user said something of.

    Returns
    -------
    list of Record
        Of `into`, on the frames on which it changed.
    """
    frames = {frame for object_id in (into, *others) for frame in objects.conditioning(object_id)}
    unions = {}
    for frame in sorted(frames):
        parts = [r for r in (draft.get(object_id, frame) for object_id in others) if r and r.mask.any()]
        own = draft.get(into, frame)
        if parts:  # else nothing is added to what `into` shows there
            masks = [Update.of(r).full_mask(frame_shape) for r in (*parts, own) if r]
            unions[frame] = np.logical_or.reduce(masks)
    for object_id in others:
        objects.remove(object_id, draft)
    return [_paint(objects, draft, into, frame, union) for frame, union in unions.items()]


def split(
    objects: Objects, draft: Draft, object_id: int, frame: int, frame_shape: tuple[int, int]
) -> tuple[int, ...]:
    """Make each piece of an object's mask an object of its own; the largest stays what it is.

    Returns
    -------
    tuple of int
        Ids of the new objects, from the largest to the smallest.

    Raises
    ------
    InputError
        If there is no mask, or it is in one piece.
    """
    record = draft.get(object_id, frame)
    if record is None or not record.mask.any():
        raise InputError(f"object {object_id} has no mask on frame {frame}; choose a frame where it is seen")
    found = pieces(Update.of(record).full_mask(frame_shape))
    if len(found) < 2:
        raise InputError(
            f"object {object_id} is one piece on frame {frame}; paint a gap into its mask to split it there"
        )
    fresh = objects.free_ids(len(found) - 1)
    for number, mask in zip((object_id, *fresh), found, strict=True):
        _paint(objects, draft, number, frame, mask)
    return tuple(fresh)


def pieces(mask: NDArray[np.bool_]) -> list[NDArray[np.bool_]]:
    """Connected parts (H, W) of a mask, the largest first; crumbs go with the part that is nearest.

    Pixels that touch by a corner are connected. A crumb has fewer than four pixels or two percent of them.
    """
    parts, count = ndimage.label(mask, _TOUCHING)
    sizes = np.bincount(parts.ravel(), minlength=count + 1)[1:]
    smallest = max(_SMALLEST_PIECE, _SMALLEST_SHARE * mask.sum())
    order = [int(i) for i in np.argsort(-sizes, kind="stable") if sizes[i] >= smallest]
    if len(order) < 2:
        return [mask] if mask.any() else []
    kept = np.where(np.isin(parts, np.array(order) + 1), parts, 0)
    nearest = ndimage.distance_transform_edt(kept == 0, return_distances=False, return_indices=True)
    kept = kept[tuple(nearest)]
    return [mask & (kept == i + 1) for i in order]


def _paint(objects: Objects, draft: Draft, object_id: int, frame: int, mask: NDArray[np.bool_]) -> Record:
    mask.flags.writeable = False
    return objects.say(object_id, frame, [Mask(frame, object_id, mask)], draft)
