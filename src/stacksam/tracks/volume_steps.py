"""The two steps that following in four dimensions is made of, each a session of its own.

*Carry*: on a few planes of an object, its masks of the last time points are prompts of the time-lapse of that
plane, which is followed by one time point. *Close*: what was carried is a prompt of the z-stack of the new
time point, which is followed up and down. Sessions are made for a step and removed after it, so that a step
depends on nothing but the labels it began from: it gives the same when it is done again after a kill.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stacksam.session.models import Model
from stacksam.session.prompts import Mask, Prompt
from stacksam.session.session import Session
from stacksam.session.settings import Settings
from stacksam.session.update import Update
from stacksam.tracks.solids import Solid, without_crumbs
from stacksam.tracks.volumes import Volumes

__all__ = [
    "Carried",
    "Closed",
    "Origin",
    "carry",
    "carrying_planes",
    "close_in_depth",
    "margin_of",
    "prompts_of",
]

_THICK = 5  # planes from which on an object is carried on its quartiles, too
_EMPTY = 2  # planes without a mask after which an object has ended in depth
_JUMP = 1.2  # diameters from the way that an object's other planes went: it is another object there
_AREA = 4.0  # times that an area may grow or shrink in one step


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an object is carried from.

    Attributes
    ----------
    extent : (int, int)
        First and last plane at its last time point.
    times : tuple of int
        Time points that it is remembered from, the last one last.
    read : callable
        ``read(time, z)`` gives its mask (H, W).
    """

    extent: tuple[int, int]
    times: tuple[int, ...]
    read: Callable[[int, int], NDArray[np.bool_]]


@dataclass(frozen=True, slots=True, eq=False)
class Carried:
    """An object on one plane of the time point that it was carried to."""

    plane: int
    mask: NDArray[np.bool_]
    predicted_iou: float
    moved: tuple[float, float]  # of its centroid, in pixels
    diameter: float  # of the disc of equal area that it was
    grown: float  # its area, in what it was


@dataclass(frozen=True, slots=True, eq=False)
class Closed:
    """Objects at one time point.

    Attributes
    ----------
    solids : dict of int to Solid
        Objects that are seen, without what others have of them.
    whole : dict of int to Solid
        The same as the model said, so that they may overlap.
    scores : dict of int to float
        Mean of the predicted IoU over the planes with a mask.
    """

    solids: dict[int, Solid]
    whole: dict[int, Solid]
    scores: dict[int, float]


def carrying_planes(extent: tuple[int, int]) -> tuple[int, ...]:
    """The middle of an object, and its quartiles where it is thick."""
    first, last = extent
    shares = (0.25, 0.5, 0.75) if last - first + 1 >= _THICK else (0.5,)
    return tuple(sorted({round(first + share * (last - first)) for share in shares}))


def margin_of(extent: tuple[int, int]) -> int:
    """Planes that an object may gain at either end from one time point to the next: a quarter, at least 2."""
    return max(2, -(-(extent[1] - extent[0] + 1) // 4))


def carry(
    volumes: Volumes,
    model: Model,
    origins: Mapping[int, Origin],
    time: int,
    settings: Settings | None = None,
) -> dict[int, list[Carried]]:
    """Carry objects to a time point, each on a few planes.

    Parameters
    ----------
    origins : mapping of int to Origin
        By object id. All of their times lie on one side of `time`.
    time : int
        Where to.

    Returns
    -------
    dict of int to list of Carried
        By object, in order of planes; an empty list for one that was found on none.
    """
    found: dict[int, list[Carried]] = {object_id: [] for object_id in origins}
    planes: dict[int, list[int]] = {}
    for object_id, origin in origins.items():
        for z in carrying_planes(origin.extent):
            planes.setdefault(z, []).append(object_id)
    for z in sorted(planes):
        for object_id, one in _on_plane(
            volumes, model, {i: origins[i] for i in planes[z]}, z, time, settings
        ):
            found[object_id].append(one)
    return {object_id: _agreeing(several) for object_id, several in found.items()}


def _on_plane(
    volumes: Volumes,
    model: Model,
    origins: Mapping[int, Origin],
    z: int,
    time: int,
    settings: Settings | None,
) -> list[tuple[int, Carried]]:
    """Objects that share a plane."""
    prompts: list[Prompt] = []
    was: dict[int, NDArray[np.bool_]] = {}
    for object_id, origin in origins.items():
        for remembered in origin.times:
            mask = origin.read(remembered, z)
            if mask.any():
                prompts.append(Mask(remembered, object_id, mask))
                was[object_id] = mask
    if not prompts:
        return []
    forward = all(time > prompt.frame for prompt in prompts)
    found = []
    with Session(volumes.time_lapse(z), model, settings=settings) as session:
        session.add(*prompts)
        updates = list(session.propagate("forward" if forward else "backward", first=time, last=time))
        labels = session.label_frame(time)
    for update in updates:
        # Back in time, two may well become one, which is told from what each claims.
        mask = labels == update.object_id if forward else update.full_mask(volumes.plane_shape)
        before = was[update.object_id]
        if mask.any():
            moved = np.argwhere(mask).mean(axis=0) - np.argwhere(before).mean(axis=0)
            area = int(before.sum())
            diameter = 2 * float(np.sqrt(area / np.pi))
            way = float(moved[0]), float(moved[1])
            one = Carried(z, mask, update.predicted_iou, way, diameter, int(mask.sum()) / area)
            found.append((update.object_id, one))
    return found


def _agreeing(several: list[Carried]) -> list[Carried]:
    """Those whose area did not jump, and which went the way of the most certain one."""
    kept = [one for one in several if 1 / _AREA <= one.grown <= _AREA]
    if not kept:
        return []
    best = max(kept, key=lambda one: one.predicted_iou)
    return [
        one
        for one in kept
        if np.hypot(one.moved[0] - best.moved[0], one.moved[1] - best.moved[1])
        <= _JUMP * max(one.diameter, best.diameter)
    ]


def close_in_depth(
    volumes: Volumes,
    model: Model,
    time: int,
    prompts: Sequence[Prompt],
    bounds: Mapping[int, tuple[int, int]],
    settings: Settings | None = None,
) -> Closed:
    """Follow objects up and down through the volume of one time point.

    Parameters
    ----------
    prompts : sequence of Point, Box or Mask
        Their frames are planes.
    bounds : mapping of int to (int, int)
        Planes, both included, that an object may reach; all for objects that are not named.
    """
    with Session(volumes.z_stack(time), model, settings=settings) as session:
        session.add(*prompts)
        ids = session.object_ids
        prompted = {i: sorted({p.frame for p in prompts if p.object_id == i}) for i in ids}
        ends = {i: bounds.get(i, (0, volumes.n_planes - 1)) for i in ids}
        _follow(session, ids, prompted, ends, 1)
        _follow(session, ids, prompted, ends, -1)
        return _closed(session, volumes.n_planes)


def _follow(
    session: Session,
    ids: Sequence[int],
    prompted: Mapping[int, Sequence[int]],
    ends: Mapping[int, tuple[int, int]],
    step: int,
) -> None:
    """Follow all objects one way, plane by plane; each ends at its bound, or after some empty planes."""
    empty = dict.fromkeys(ids, 0)
    n = session.stack.n_frames
    for z in range(n) if step > 0 else range(n - 1, -1, -1):
        todo = []
        for object_id in ids:
            begin, end = (
                prompted[object_id][0 if step > 0 else -1],
                prompted[object_id][-1 if step > 0 else 0],
            )
            beyond = step * (z - end) > 0  # the last of its prompts
            inside = ends[object_id][0] <= z <= ends[object_id][1]
            if step * (z - begin) > 0 and (not beyond or (inside and empty[object_id] < _EMPTY)):
                todo.append(object_id)
        if not todo:
            continue
        for update in session.propagate("forward" if step > 0 else "backward", objects=todo, first=z, last=z):
            if step * (z - prompted[update.object_id][-1 if step > 0 else 0]) > 0:
                empty[update.object_id] = 0 if update.mask.any() else empty[update.object_id] + 1


def _closed(session: Session, n_planes: int) -> Closed:
    """What a session has, plane by plane."""
    own: dict[int, list[tuple[int, tuple[int, int, int, int], NDArray[np.bool_]]]] = {}
    said: dict[int, list[tuple[int, tuple[int, int, int, int], NDArray[np.bool_]]]] = {}
    scores: dict[int, list[float]] = {}
    frames = {i: set(session.frames_of(i)) for i in session.object_ids}
    for z in range(n_planes):
        seen: list[Update] = []
        for object_id in (i for i in frames if z in frames[i]):
            update = session.update(object_id, z)
            if update is not None and update.mask.any():
                seen.append(update)
        labels = session.label_frame(z) if seen else None
        for update in seen:
            y0, x0, y1, x1 = box = update.bbox
            said.setdefault(update.object_id, []).append((z, box, update.mask))
            scores.setdefault(update.object_id, []).append(update.predicted_iou)
            if labels is not None:
                mask = labels[y0:y1, x0:x1] == update.object_id
                own.setdefault(update.object_id, []).append((z, box, mask))
    solids = {i: Solid.stacked(planes) for i, planes in own.items()}
    whole = {i: Solid.stacked(planes) for i, planes in said.items()}
    return Closed(
        {i: without_crumbs(solid) for i, solid in solids.items() if solid is not None},
        {i: solid for i, solid in whole.items() if solid is not None},
        {i: float(np.mean(values)) for i, values in scores.items()},
    )


def prompts_of(object_id: int, carried: Sequence[Carried]) -> list[Prompt]:
    """What was carried, as prompts of the z-stack."""
    return [Mask(one.plane, object_id, one.mask) for one in carried]
