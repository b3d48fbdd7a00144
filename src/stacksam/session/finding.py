"""Finding everything: proposals of all objects of a frame, and following whatever comes up.

With ``nano`` places come from its dense head (see :mod:`stacksam.session.dense_finding`), with official
models from a grid of clicks (:mod:`stacksam.session.automatic_masks`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TYPE_CHECKING

from stacksam.errors import InputError
from stacksam.session.automatic_masks import AutomaticMasks, MaskGenerator
from stacksam.session.boxes import BBox, intersection
from stacksam.session.dense_finding import DenseFinder, pitch_of, size_of
from stacksam.session.prompts import check_frame, check_integer
from stacksam.session.proposals import Proposal, suppress

if TYPE_CHECKING:
    from stacksam.session.models import Model
    from stacksam.session.session import Session
    from stacksam.session.update import Update

__all__ = ["SIZES", "Step", "estimate_size", "find_and_follow", "find_objects", "usual_score"]

MIN_AREA = 20
_SCORES = {"nano": 0.65, "official": 0.8}  # by which F1 on procedural clips was best; the reference's default
_TRACKED = 0.3  # a proposal that shares more of its pixels, or of a tracked mask's, is that object
_CROPPED = 1536  # pixels; frames of longer sides are looked at in crops, too
SIZES = (4, 2048)
"""Least and largest typical diameter in pixels."""
Step = Callable[[], object]
"""Called before each part of a search. What it raises ends the search and is passed on."""


def find_objects(
    session: Session,
    frame: int,
    *,
    size: float | None = None,
    min_area: int = MIN_AREA,
    max_area: int | None = None,
    min_score: float | None = None,
    region: BBox | None = None,
    skip_tracked: bool = True,
    masks: AutomaticMasks | None = None,
    step: Step | None = None,
) -> list[Proposal]:
    """Proposals of all objects on a frame; nothing is added to the session (see :meth:`Session.add_found`).

    Parameters
    ----------
    session : Session
    frame : int
    size : float, optional
        Typical diameter of the objects in pixels. By default it is estimated, which takes longer. With
        official models, whose grid of clicks knows no size, it sets how fine the grid is.
    min_area, max_area : int, optional
        Pixels of a proposal, least and most.
    min_score : float, optional
        Least predicted IoU; 0.65 with ``nano`` and 0.8 with official models by default.
    region : (int, int, int, int), optional
        Half-open ``(y0, x0, y1, x1)`` in frame pixels: only objects whose centroid lies inside.
    skip_tracked : bool
        Leave out what the session has a mask of on this frame already.
    masks : AutomaticMasks, optional
        Choices of the automatic mask generator, for official models; by default the reference's, with crops
        where frames are larger than 1536 pixels.
    step : callable, optional
        Called without arguments before each part of the search, the more parts the larger the frame. What it
        raises ends the search.

    Returns
    -------
    list of Proposal
        Best first; no two share a pixel.

    Raises
    ------
    InputError
        If an argument does not fit the stack.
    """
    frame = check_frame(frame, session.stack.n_frames)
    where = _check_region(region, session.stack.frame_shape)
    _check_numbers(size, min_area, max_area, min_score)
    if session.model.config.dense_head:
        if masks is not None:
            raise InputError(f"masks is for official models; {session.model.name} has a head of its own kind")
        found = _densely(session, frame, size, min_score, where, step)
    else:
        found = _by_grid(session, frame, size, min_score, region and where, masks, step)
    taken = _tracked(session, frame) if skip_tracked else []
    found = suppress(
        (p for p in found if p.area <= (max_area or math.inf)), taken=taken, taken_threshold=_TRACKED
    )
    return [p for p in found if p.area >= min_area and _inside(p.centre, where)]


def usual_score(model: Model) -> float:
    """The least predicted IoU of a proposal that :func:`find_objects` takes with a model by default."""
    return _SCORES["nano" if model.config.dense_head else "official"]


def estimate_size(
    session: Session, frame: int, *, region: BBox | None = None, step: Step | None = None
) -> float | None:
    """Typical diameter of the objects on a frame in pixels, in steps of some 1.5; None where there are none.

    `region` and `step` are as for :func:`find_objects`.

    Raises
    ------
    InputError
        If an argument does not fit the stack, or the model has no dense head.
    """
    frame = check_frame(frame, session.stack.n_frames)
    where = _check_region(region, session.stack.frame_shape)
    if not session.model.config.dense_head:
        raise InputError(f"{session.model.name} has no dense head to estimate sizes with; give the size")
    pitch = _finder(session, step).best_pitch(frame, where, _SCORES["nano"])
    return None if pitch is None else size_of(pitch)


def find_and_follow(
    session: Session,
    every: int = 1,
    *,
    first: int | None = None,
    last: int | None = None,
    size: float | None = None,
    min_area: int = MIN_AREA,
    max_area: int | None = None,
    min_score: float | None = None,
    region: BBox | None = None,
) -> Iterator[Update]:
    """Find all objects of a frame, follow them on, and find newcomers where nothing is tracked.

    Objects that the session has already are followed as well, from their prompts on. A newcomer is an object
    of its own: one that was lost and is found again has a new id. Close the generator to cancel; what it has
    given stays. A prompt that comes meanwhile ends it. Each search that finds something is an action that can
    be undone, and so is each stretch of frames between two searches.

    Parameters
    ----------
    session : Session
    every : int
        Newcomers are looked for on every so many frames; 0 for on none but the first.
    first, last : int, optional
        Frames between which to work, both included; the whole stack by default.
    size, min_area, max_area, min_score, region
        As for :func:`find_objects`. A size that is not given is estimated once, where there is something.

    Yields
    ------
    Update
        One for each object and frame, found or followed.

    Raises
    ------
    InputError
        If an argument does not fit the stack. It is raised by the call, not by the first step.
    """
    n_frames = session.stack.n_frames
    begin = 0 if first is None else check_frame(first, n_frames)
    end = n_frames - 1 if last is None else check_frame(last, n_frames)
    if begin > end:
        raise InputError(f"first frame {begin} lies after last frame {end}; give first <= last")
    if check_integer(every, "every") < 0:
        raise InputError(f"every is {every}; give 1 for every frame, 0 for the first only")
    _check_region(region, session.stack.frame_shape)
    _check_numbers(size, min_area, max_area, min_score)
    searched = [begin] if every == 0 else list(range(begin, end + 1, every))

    def work() -> Iterator[Update]:
        typical = size
        for at, following in zip(searched, [*searched[1:], end], strict=True):
            if typical is None and session.model.config.dense_head:
                typical = estimate_size(session, at, region=region)
            if typical is not None or not session.model.config.dense_head:
                found = find_objects(
                    session, at, size=typical, min_area=min_area, max_area=max_area,
                    min_score=min_score, region=region,
                )  # fmt: skip
                yield from session.add_found(found)
            if session.object_ids and following > at:
                yield from session.propagate("forward", first=at + 1, last=following)
                if session.work_left("forward", first=at + 1, last=following):
                    return  # something else was done meanwhile

    return work()


def _densely(
    session: Session,
    frame: int,
    size: float | None,
    min_score: float | None,
    region: BBox,
    step: Step | None,
) -> list[Proposal]:
    finder = _finder(session, step)
    least = _SCORES["nano"] if min_score is None else min_score
    pitch = finder.best_pitch(frame, region, _SCORES["nano"]) if size is None else pitch_of(size)
    return [] if pitch is None else finder.find(frame, region, pitch, least)


def _finder(session: Session, step: Step | None) -> DenseFinder:
    return DenseFinder(session.model, session.stack, session.encoder, _stepping(session, step))


def _stepping(session: Session, step: Step | None) -> Callable[[], AbstractContextManager[object]]:
    """The guard of a session, which is asked for before each part of a search, with a step before it."""

    def guard() -> AbstractContextManager[object]:
        if step is not None:
            step()
        return session.guard()

    return guard


def _by_grid(
    session: Session,
    frame: int,
    size: float | None,
    min_score: float | None,
    region: BBox | None,
    masks: AutomaticMasks | None,
    step: Step | None,
) -> list[Proposal]:
    shape = session.stack.frame_shape
    if masks is None:
        layers = max(0, math.ceil(math.log2(max(shape) / _CROPPED)))
        masks = AutomaticMasks(crop_n_layers=layers)
        if size is not None:  # two points across an object, in the finest crops
            wanted = math.ceil(2 * max(shape) / size / 2**layers)
            masks = replace(masks, points_per_side=min(max(wanted, 8), 128))
    if min_score is not None:
        masks = replace(masks, pred_iou_thresh=min_score)
    generator = MaskGenerator(session.model, session.stack, session.encoder, _stepping(session, step))
    return generator.generate(frame, masks, region)


def _tracked(session: Session, frame: int) -> list[Proposal]:
    """Masks that the session has on a frame."""
    return [
        Proposal(frame, update.bbox, update.mask, 1.0, 1.0)
        for update in session.on_frame(frame)
        if update.mask.any()
    ]


def _inside(yx: tuple[float, float], box: BBox) -> bool:
    return box[0] <= yx[0] + 0.5 < box[2] and box[1] <= yx[1] + 0.5 < box[3]


def _check_region(region: BBox | None, frame_shape: tuple[int, int]) -> BBox:
    """The part of a region that lies in the frame, or InputError."""
    whole = (0, 0, *frame_shape)
    if region is None:
        return whole
    try:
        y0, x0, y1, x1 = (check_integer(v, "region") for v in region)
    except (TypeError, ValueError):
        raise InputError(f"region is {region!r}; give (y0, x0, y1, x1) as whole pixels") from None
    part = intersection((y0, x0, y1, x1), whole)
    if part is None:
        raise InputError(
            f"region {(y0, x0, y1, x1)} holds nothing of frames of {frame_shape[0]} x {frame_shape[1]} "
            "pixels; give (y0, x0, y1, x1) with y0 < y1, x0 < x1"
        )
    return part


def _check_numbers(size: float | None, min_area: int, max_area: int | None, min_score: float | None) -> None:
    if size is not None and not SIZES[0] <= size <= SIZES[1]:
        raise InputError(f"size is {size:g}; give a diameter of {SIZES[0]} to {SIZES[1]} pixels")
    if check_integer(min_area, "min_area") < 1:
        raise InputError(f"min_area is {min_area}; give 1 pixel or more")
    if max_area is not None and check_integer(max_area, "max_area") < min_area:
        raise InputError(f"max_area is {max_area}, below min_area ({min_area}); give more")
    if min_score is not None and not 0 <= min_score <= 1:
        raise InputError(f"min_score is {min_score:g}; give a predicted IoU of 0 to 1")
