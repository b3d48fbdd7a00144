"""Whose results they are: tracks that are swapped, cut, or joined from a frame on.

Masks stay as they are; what changes is the object that they are of. The user says with such an action which
object is which on the frame of the cut. So the masks beside it become :class:`Mask` prompts where nothing
else says so, and following anew from there does not bring back what was put right; and nothing counts any
more as having come from across the cut.
"""

from __future__ import annotations

from collections.abc import Mapping

from stacksam.errors import InputError
from stacksam.session.draft import Draft
from stacksam.session.links import check_links, set_parent
from stacksam.session.objects import Objects
from stacksam.session.prompts import Mask
from stacksam.session.update import Update

__all__ = ["cut", "divide", "join", "swap"]

Shape = tuple[int, int]


def swap(objects: Objects, draft: Draft, a: int, b: int, frame: int, frame_shape: Shape) -> None:
    """Exchange results and prompts of two objects from a frame on.

    Raises
    ------
    InputError
        If they are the same, none has results there, or one would be left without any.
    """
    if a == b:
        raise InputError(f"object {a} cannot be swapped with itself; give two objects")
    before = {i: [f for f in draft.seen(i) if f < frame] for i in (a, b)}
    after = {i: [f for f in draft.seen(i) if f >= frame] for i in (a, b)}
    if not after[a] and not after[b]:
        raise InputError(f"neither object {a} nor {b} is seen from frame {frame} on; choose an earlier frame")
    for left, right in ((a, b), (b, a)):
        if not before[left] and not after[right]:
            raise InputError(
                f"nothing would be left of object {left}: it begins on frame {after[left][0]} and {right} is "
                f"not seen from frame {frame} on; join({right}, {left}) makes one track of both"
            )
    _give(objects, draft, {a: b, b: a}, frame)
    for object_id in (a, b):
        _anchor(objects, draft, object_id, frame, frame_shape)
    check_links(draft, (a, b))


def cut(objects: Objects, draft: Draft, object_id: int, frame: int, new: int, frame_shape: Shape) -> None:
    """Give results and prompts of an object from a frame on, and its daughters, to a new one.

    Raises
    ------
    InputError
        If the object is not seen before the frame, or not from it on.
    """
    seen = draft.seen(object_id)
    if not seen or not seen[0] < frame <= seen[-1]:
        where = f"is seen from frame {seen[0]} to {seen[-1]}" if seen else "is not seen on any frame"
        raise InputError(
            f"the track of object {object_id} cannot be cut on frame {frame}: it {where}; choose a frame "
            "after its first"
        )
    _give(objects, draft, {object_id: new}, frame)
    for part in (object_id, new):
        _anchor(objects, draft, part, frame, frame_shape)


def join(objects: Objects, draft: Draft, first: int, second: int) -> None:
    """Make one track of two that follow each other; the second's id is not used again.

    Raises
    ------
    InputError
        If they are the same, one is never seen, they are seen at the same time, or a link would not hold.
    """
    if first == second:
        raise InputError(f"object {first} cannot be joined with itself; give two objects")
    spans = {i: draft.seen(i) for i in (first, second)}
    for object_id, seen in spans.items():
        if not seen:
            raise InputError(f"object {object_id} is not seen on any frame; there is nothing to join")
    if spans[second][-1] < spans[first][0]:
        raise InputError(
            f"object {second} is seen before {first}; give the earlier one first: join({second}, {first})"
        )
    if spans[second][0] <= spans[first][-1]:
        raise InputError(
            f"objects {first} and {second} are both there: {first} is seen until frame {spans[first][-1]}, "
            f"{second} from frame {spans[second][0]} on; for "
            f"parts of one object use merge({first}, [{second}])"
        )
    parent = draft.told.parents.get(second)
    if parent not in (None, first):
        raise InputError(
            f"object {second} is the daughter of {parent}, not what {first} goes on as; unlink it first"
        )
    draft.set_parent(second, None)
    if draft.told.daughters(first):
        raise InputError(
            f"object {first} has daughters {list(draft.told.daughters(first))}, so it ends there; unlink "
            "them first"
        )
    _give(objects, draft, {second: first}, spans[second][0])
    objects.remove(second, draft)


def _give(objects: Objects, draft: Draft, ids: Mapping[int, int], first: int) -> None:
    """Give results, prompts and links from a frame on to other objects."""
    involved = {*ids, *ids.values()}
    _give_links(draft, ids, first)
    said = {
        (ids[i], frame): draft.told.at(i, frame)
        for i in ids
        for frame in draft.told.conditioning(i)
        if frame >= first
    }
    for i in involved:
        for frame in draft.told.conditioning(i):
            if frame >= first:
                draft.set_said(i, frame, None)
    for (i, frame), what in said.items():
        draft.set_said(i, frame, None if what is None else what.of(frame, i))
    draft.renumber(ids, first)
    for i in involved:
        objects.forget(i)


def _give_links(draft: Draft, ids: Mapping[int, int], first: int) -> None:
    """A parent goes with an object's first frame, daughters with its last one."""
    told = draft.told
    begins = {i: seen[0] for i in ids if (seen := draft.seen(i))}
    ends = {i: seen[-1] for i in ids if (seen := draft.seen(i))}
    after: dict[int, int] = {}
    for daughter, parent in told.parents.items():
        here = ids[daughter] if begins.get(daughter, -1) >= first else daughter
        there = ids[parent] if ends.get(parent, -1) >= first else parent
        after[here] = there
    for daughter in told.parents:
        draft.set_parent(daughter, None)
    for daughter, parent in after.items():
        draft.set_parent(daughter, parent)
    for object_id, frame in told.rejected:
        if object_id in ids and frame >= first:
            draft.set_rejected(object_id, frame, False)
    for object_id, frame in told.rejected:
        if object_id in ids and frame >= first:
            draft.set_rejected(ids[object_id], frame, True)


def _anchor(objects: Objects, draft: Draft, object_id: int, first: int, frame_shape: Shape) -> None:
    """Say on either side of a cut, where the user has not, that an object's mask is right."""
    told, seen = draft.told.conditioning(object_id), draft.seen(object_id)
    before, after = [f for f in seen if f < first], [f for f in seen if f >= first]
    if after and after[0] not in told:
        _keep(objects, draft, object_id, after[0], frame_shape)
    if before and not any(f < first for f in told):
        _keep(objects, draft, object_id, before[-1], frame_shape)


def _keep(objects: Objects, draft: Draft, object_id: int, frame: int, frame_shape: Shape) -> None:
    """Make a prompt of a mask; what came from it stays valid, since it is the same mask."""
    record = draft.get(object_id, frame)
    if record is None:
        raise RuntimeError(f"object {object_id} has no record on frame {frame}")
    stale = set(draft.stale(object_id)) - {frame}
    mask = Update.of(record).full_mask(frame_shape)
    mask.flags.writeable = False
    objects.say(object_id, frame, [Mask(frame, object_id, mask)], draft)
    draft.flag(object_id, [f for f in draft.stale(object_id) if f not in stale], stale=False)


def divide(
    objects: Objects,
    draft: Draft,
    object_id: int,
    frame: int,
    daughters: list[int | Mask],
    fresh: list[int],
    frame_shape: Shape,
) -> tuple[int, ...]:
    """End an object before a frame, where its daughters begin.

    Parameters
    ----------
    daughters : list of int or Mask
        Objects that are there, the object's own id for its results from the frame on, or masks on the frame.
    fresh : list of int
        Ids for those that are no objects yet, in order.

    Returns
    -------
    tuple of int
        Ids of the daughters, in order.

    Raises
    ------
    InputError
        If this cannot be; see :meth:`stacksam.Session.divide`.
    """
    _check_divisible(draft, object_id, frame, own=object_id in daughters)
    last = [f for f in draft.seen(object_id) if f < frame][-1]
    unused = iter(fresh)
    ids: list[int] = []
    if object_id in daughters:
        own = next(unused)
        cut(objects, draft, object_id, frame, own, frame_shape)
    else:
        draft.delete(object_id, [f for f in draft.records(object_id) if f >= frame])
        objects.forget(object_id)
    for daughter in daughters:
        if isinstance(daughter, Mask):
            number = next(unused)
            objects.say(number, frame, [Mask(frame, number, daughter.mask)], draft)
            ids.append(number)
        elif daughter == object_id:
            ids.append(own)
        else:
            # Followed backward, a daughter goes on as its mother.
            settled = set(draft.settled(daughter))
            draft.delete(daughter, [f for f in draft.records(daughter) if f <= last and f not in settled])
            objects.forget(daughter)
            ids.append(daughter)
    for number in ids:
        set_parent(draft, number, object_id)
    check_links(draft, (object_id, *ids))
    return tuple(ids)


def _check_divisible(draft: Draft, object_id: int, frame: int, *, own: bool) -> None:
    seen = draft.seen(object_id)
    if not any(f < frame for f in seen):
        begins = f"it begins on frame {seen[0]}" if seen else "it is not seen on any frame"
        raise InputError(f"object {object_id} cannot divide on frame {frame}: {begins}; choose a later frame")
    if draft.told.daughters(object_id):
        raise InputError(
            f"object {object_id} has daughters {list(draft.told.daughters(object_id))} already; "
            "unlink them first"
        )
    said = [f for f in draft.told.conditioning(object_id) if f >= frame]
    if said and not own:
        raise InputError(
            f"object {object_id} has prompts on frames {said}, which say that it is still there; take them "
            f"back first, or give {object_id} as one of the daughters: its results from frame {frame} on"
        )
