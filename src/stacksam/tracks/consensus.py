"""One object seen along three axes: the volume is followed along each, and the results are fused.

An object that is followed along z is judged on axial slices alone, and what it does between them is left to
memory. Along y and x every slice shows just that. So the result along z is cut at its middle, the cuts are
mask prompts on the other two axes, and what two of three runs agree on is kept. The idea is that of networks
that look along three planes [1]_ [2]_.

References
----------
.. [1] A. Prasoon et al., "Deep feature learning for knee cartilage segmentation using a triplanar
   convolutional neural network", MICCAI 2013.
.. [2] H. R. Roth et al., "A new 2.5D representation for lymph node detection using random sets of deep
   convolutional neural network observations", MICCAI 2014.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from stacksam.errors import InputError
from stacksam.io._turn import TURNS, resampled, unturned
from stacksam.session.prompts import Box, Mask, Point, Prompt
from stacksam.session.session import Session
from stacksam.session.settings import Settings
from stacksam.session.stack import Stack

__all__ = ["Axis", "Consensus", "Fuse", "consensus", "cross_sections", "points_along"]

Axis = Literal["y", "x"]
Fuse = Literal["vote", "mean"]

_REACH = 0.25  # share of an object's extent beyond it that the other axes are followed to
_LARGEST_SIDE = 4096  # pixels of a frame with square pixels

Box3D = tuple[int, int, int, int, int, int]  # z0, y0, x0, z1, y1, x1, half open


@dataclass(frozen=True, slots=True)
class Consensus:
    """What several axes agree on.

    Attributes
    ----------
    masks : tuple of Mask
        On the frames of the session where the fused mask is another than the present one; for
        :meth:`Session.set_masks`.
    agreement : dict of int to float
        By object id: mean Dice of the volumes of each two axes. Low where the axes contradict each other,
        which is where to look.
    """

    masks: tuple[Mask, ...]
    agreement: dict[int, float]


def consensus(
    session: Session,
    *,
    axes: Sequence[Axis] = ("y", "x"),
    fuse: Fuse = "vote",
    prompts: Mapping[Axis, Iterable[Prompt]] | None = None,
    objects: Sequence[int] | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Consensus:
    """Follow the objects of a volume along other axes, and fuse what is found.

    The session is only read. Along each of the axes the volume is seen with square pixels (interpolated
    linearly along the coarser side), as the frames of a temporary session with the same model, intensity and
    settings. An object is followed there to a quarter of its extent beyond where the session shows it; with a
    model that looks at whole frames, all objects are followed as far as any.

    Parameters
    ----------
    session : Session
        Whose frames lie along z, with objects that were followed.
    axes : sequence of {"y", "x"}
        Axes to look along besides that of the session.
    fuse : {"vote", "mean"}
        Keep voxels that more than half of the axes have (of a tie, the session's own), or those whose mean
        probability is above one half.
    prompts : mapping of axis to prompts, optional
        For objects of the session, on frames of ``session.stack.along(axis)``, in its pixels. Objects without
        a prompt along an axis get :func:`cross_sections` there. See :func:`points_along` for clicks.
    objects : sequence of int, optional
        All by default.
    progress : callable, optional
        Called with how many masks were computed, and of how many.

    Returns
    -------
    Consensus

    Raises
    ------
    InputError
        If an argument does not fit, or there is no object to begin with.
    StackError
        If the stack is no volume followed along z.
    StorageError
        If there is no room for temporary results.
    """
    if fuse not in ("vote", "mean"):
        raise InputError(f"fuse is {fuse!r}; use 'vote' or 'mean'")
    if not axes or not set(axes) <= {"y", "x"} or len(set(axes)) < len(axes):
        raise InputError(f"axes are {tuple(axes)!r}; use 'y', 'x' or both")
    if objects is not None and not set(objects) <= set(session.object_ids):
        raise InputError(f"objects are {tuple(objects)!r}; the session has {session.object_ids}")
    own = {i: box for i in objects or session.object_ids if (box := _extent(session, i)) is not None}
    if not own:
        raise InputError("no object has a mask yet; prompt and propagate along z first")
    given: dict[str, tuple[Prompt, ...]] = {
        axis: _given(session, axis, (prompts or {}).get(axis, ()), own) for axis in axes
    }
    with ExitStack() as closing:
        runs = [_Run.of_session(session)]
        for axis in axes:
            runs.append(closing.enter_context(_Run.along(session, axis)))
        todo = [(run, span) for run in runs[1:] for span in run.prompt(given[run.axis], own)]
        total = sum(run.session.work_left(**span) for run, span in todo)
        done = 0
        for run, span in todo:
            for _ in run.session.propagate(**span):
                done += 1
                if progress is not None:
                    progress(done, total)
        fused, agreement = {}, {}
        for object_id in own:
            fused[object_id], agreement[object_id] = _fused(runs, object_id, fuse)
    _part_rivals(fused)
    return Consensus(tuple(_changes(session, fused)), agreement)


def cross_sections(session: Session, axis: Axis, objects: Iterable[int] | None = None) -> tuple[Mask, ...]:
    """Cuts through the middle of objects, as mask prompts for ``session.stack.along(axis)``.

    Parameters
    ----------
    session : Session
        Whose frames lie along z, with objects that were followed.
    axis : {"y", "x"}
    objects : iterable of int, optional
        All by default; those without a mask are left out.

    Returns
    -------
    tuple of Mask
        One for each object, on the frame that halves its volume.
    """
    if axis not in ("y", "x"):
        raise InputError(f"axis is {axis!r}; use 'y' or 'x'")
    shape = session.stack.n_frames, *session.stack.frame_shape
    sections = []
    for object_id in session.object_ids if objects is None else objects:
        box = _extent(session, object_id)
        if box is None:
            continue
        volume = _Run.of_session(session).volume(object_id, box, probable=False) > 0.5
        k = "zyx".index(axis)
        sums = volume.sum(axis=tuple(d for d in range(3) if d != k)).cumsum()
        at = int(np.searchsorted(sums, (sums[-1] + 1) // 2))
        whole = np.zeros([shape["zyx".index(letter)] for letter in TURNS[axis][1:]], bool)
        ranges = [slice(box[d], box[d + 3]) for d in range(3) if d != k]
        whole[tuple(ranges)] = volume.take(at, k)
        sections.append(Mask(box[k] + at, object_id, whole))
    return tuple(sections)


def points_along(points: Iterable[Prompt], axis: Axis) -> tuple[Point, ...]:
    """Clicks on frames along z as clicks on frames along another axis.

    Parameters
    ----------
    points : iterable of Point
    axis : {"y", "x"}

    Raises
    ------
    InputError
        If one is a box or a mask: a flat one is a line from the side. Use :func:`cross_sections`.
    """
    out = []
    for point in points:
        if not isinstance(point, Point):
            raise InputError(f"a {type(point).__name__} on one slice is a line along {axis}; give points")
        place = {"z": float(point.frame), "y": point.yx[0], "x": point.yx[1]}
        frame, row, column = (place[letter] for letter in TURNS[axis])
        out.append(Point(math.floor(frame + 0.5), point.object_id, (row, column), point.positive))
    return tuple(out)


@dataclass(frozen=True, slots=True)
class _Run:
    """The volume followed along one axis.

    Attributes
    ----------
    session : Session
    axis : {"z", "y", "x"}
    shape : (int, int, int)
        Of the volume as (z, y, x) of the session that asks for a consensus.
    """

    session: Session
    axis: str
    shape: tuple[int, int, int]

    @classmethod
    def of_session(cls, session: Session) -> _Run:
        return cls(session, "z", (session.stack.n_frames, *session.stack.frame_shape))

    @classmethod
    def along(cls, session: Session, axis: str) -> _Run:
        settings = Settings(
            **{
                **{name: getattr(session.settings, name) for name in Settings.__dataclass_fields__},
                "disk_cache_bytes": 0,
            }
        )
        view = _squared(session.stack.along(axis))
        shape = (session.stack.n_frames, *session.stack.frame_shape)
        return cls(Session(view, session.model, settings=settings), axis, shape)

    def __enter__(self) -> _Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.session.close()

    @property
    def turned(self) -> tuple[int, int, int]:
        """Frames, rows and columns of the volume along this axis, before pixels were made square."""
        frames, rows, columns = [self.shape["zyx".index(letter)] for letter in TURNS[self.axis]]
        return frames, rows, columns

    def prompt(self, given: Sequence[Prompt], own: Mapping[int, Box3D]) -> list[dict[str, Any]]:
        """Say what is known of the objects; which of them to follow where to, for `Session.propagate`."""
        k = "zyx".index(self.axis)
        self.session.add(*(self._scaled(prompt) for prompt in given))
        spans = {}
        for object_id, box in own.items():
            reach = 1 + round(_REACH * (box[k + 3] - box[k]))
            frames = [prompt.frame for prompt in given if prompt.object_id == object_id]
            low, high = min(box[k] - reach, *frames), max(box[k + 3] - 1 + reach, *frames)
            spans[object_id] = max(low, 0), min(high, self.turned[0] - 1)
        if self.session.model.windowed:  # what one object costs does not depend on the others
            return [{"objects": [i], "first": low, "last": high} for i, (low, high) in spans.items()]
        ends = min(low for low, _ in spans.values()), max(high for _, high in spans.values())
        return [{"objects": list(spans), "first": ends[0], "last": ends[1]}]

    def _scaled(self, prompt: Prompt) -> Prompt:
        """A prompt in the pixels of this run's frames."""
        _, *old = self.turned
        new = self.session.stack.frame_shape
        fy, fx = (n / o for n, o in zip(new, old, strict=True))

        def at(y: float, x: float) -> tuple[float, float]:
            return (y + 0.5) * fy - 0.5, (x + 0.5) * fx - 0.5

        if isinstance(prompt, Point):
            return replace(prompt, yx=at(*prompt.yx))
        if isinstance(prompt, Box):
            # Centres of the first and last pixel inside: of the new ones, those at the old borders.
            (y0, x0), (y1, x1) = (
                at(prompt.yxyx[0] - 0.5, prompt.yxyx[1] - 0.5),
                at(prompt.yxyx[2] + 0.5, prompt.yxyx[3] + 0.5),
            )
            return replace(prompt, yxyx=(y0 + 0.5, x0 + 0.5, y1 - 0.5, x1 - 0.5))
        rows, columns = (_nearest(n, o) for n, o in zip(new, old, strict=True))
        return Mask(prompt.frame, prompt.object_id, prompt.mask[np.ix_(rows, columns)])

    def extent(self, object_id: int) -> Box3D | None:
        """Where the object is, as (z, y, x) of the volume."""
        scores = self.session.scores(object_id)
        seen = scores.area > 0
        if not seen.any():
            return None
        _, *old = self.turned
        factors = [o / n for o, n in zip(old, self.session.stack.frame_shape, strict=True)]
        boxes = scores.bbox[seen]
        low = [int(scores.frames[seen][0]), *(math.floor(boxes[:, d].min() * factors[d]) for d in (0, 1))]
        high = [int(scores.frames[seen][-1]) + 1]
        high += [math.ceil(boxes[:, d + 2].max() * factors[d]) for d in (0, 1)]
        order = [TURNS[self.axis].index(letter) for letter in "zyx"]
        z0, y0, x0 = (low[k] for k in order)
        z1, y1, x1 = (high[k] for k in order)
        return z0, y0, x0, z1, y1, x1

    def volume(self, object_id: int, box: Box3D, *, probable: bool) -> NDArray[np.float32]:
        """Mask (0 and 1) or probability of an object in a box (z, y, x) of the volume."""
        d = ["zyx".index(letter) for letter in TURNS[self.axis]]
        low, high = [box[k] for k in d], [box[k + 3] for k in d]
        new, old = self.session.stack.frame_shape, self.turned[1:]
        rows, columns = (_nearest(o, n) for o, n in zip(old, new, strict=True))
        rows, columns = rows[low[1] : high[1]], columns[low[2] : high[2]]
        part = int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1
        out = np.zeros([stop - start for start, stop in zip(low, high, strict=True)], np.float32)
        for number, frame in enumerate(range(low[0], high[0])):
            if probable:
                picture = self.session.probability(object_id, frame, part)
            else:
                full = self.session.mask(object_id, frame)
                picture = full[part[0] : part[2], part[1] : part[3]].astype(np.float32)
            out[number] = picture[np.ix_(rows - part[0], columns - part[1])]
        return unturned(out, self.axis)


def _nearest(count: int, of: int) -> NDArray[np.int64]:
    """For each of `count` pixels that cover the same ground as `of` others, the one that it lies in."""
    return np.minimum(((np.arange(count) + 0.5) * of / count).astype(np.int64), of - 1)


def _squared(stack: Stack) -> Stack:
    """The stack with square pixels, where its rows and columns have lengths in one unit."""
    _, step_y, step_x = stack.spacing
    if stack.units[1] != stack.units[2]:
        return stack
    height, width = stack.frame_shape
    fine = min(step_y, step_x)
    shape = (round(height * step_y / fine), round(width * step_x / fine))
    if shape == (height, width):
        return stack
    if max(shape) > _LARGEST_SIDE:  # extreme slices: as fine as there is room for
        shrink = _LARGEST_SIDE / max(shape)
        shape = (max(height, round(shape[0] * shrink)), max(width, round(shape[1] * shrink)))
    spacing = (stack.spacing[0], step_y * height / shape[0], step_x * width / shape[1])
    return replace(stack, image=resampled(stack.image, shape), spacing=spacing, opened={})


def _extent(session: Session, object_id: int) -> Box3D | None:
    return _Run.of_session(session).extent(object_id)


def _given(
    session: Session, axis: Axis, prompts: Iterable[Prompt], own: Mapping[int, Box3D]
) -> tuple[Prompt, ...]:
    """Prompts along an axis: the user's, and cuts of the objects that have none."""
    said = tuple(prompts)
    unknown = sorted({prompt.object_id for prompt in said} - set(own))
    if unknown:
        raise InputError(
            f"objects {unknown} are prompted along {axis} but have no mask in the session; prompt and "
            "propagate them along z first"
        )
    rest = [object_id for object_id in own if object_id not in {prompt.object_id for prompt in said}]
    return (*said, *cross_sections(session, axis, rest))


@dataclass(slots=True)
class _Fused:
    """A fused object in its box, and how sure each voxel is."""

    box: Box3D
    mask: NDArray[np.bool_]
    score: NDArray[np.float32]


def _fused(runs: Sequence[_Run], object_id: int, fuse: Fuse) -> tuple[_Fused, float]:
    """What the runs agree on, and mean Dice of each two."""
    boxes = np.array([box for run in runs if (box := run.extent(object_id)) is not None])
    z0, y0, x0 = (int(v) for v in boxes[:, :3].min(axis=0))
    z1, y1, x1 = (int(v) for v in boxes[:, 3:].max(axis=0))
    box = z0, y0, x0, z1, y1, x1
    masks = [run.volume(object_id, box, probable=False) > 0.5 for run in runs]
    pairs = [(a, b) for k, a in enumerate(masks) for b in masks[k + 1 :]]
    dice = [2 * float((a & b).sum()) / max(float(a.sum() + b.sum()), 1.0) for a, b in pairs]
    if fuse == "mean":
        likely = [run.volume(object_id, box, probable=True) for run in runs]
        score = np.asarray(np.mean(likely, axis=0), np.float32)
        mask = np.asarray(score > 0.5)
    else:
        score = np.asarray(np.mean(masks, axis=0), np.float32)
        mask = np.asarray((score > 0.5) | ((score == 0.5) & masks[0]))
    return _Fused(box, mask, score), float(np.mean(dice))


def _part_rivals(fused: Mapping[int, _Fused]) -> None:
    """Give voxels that two objects claim to the one that is surer of them; of equals to the lower id."""
    ids = sorted(fused)
    for k, one in enumerate(ids):
        for other in ids[k + 1 :]:
            a, b = fused[one], fused[other]
            low = [max(p, q) for p, q in zip(a.box[:3], b.box[:3], strict=True)]
            high = [min(p, q) for p, q in zip(a.box[3:], b.box[3:], strict=True)]
            if any(p >= q for p, q in zip(low, high, strict=True)):
                continue
            in_a, in_b = (
                tuple(slice(p - o, q - o) for p, q, o in zip(low, high, of.box, strict=False))
                for of in (a, b)
            )
            both = a.mask[in_a] & b.mask[in_b]
            surer = a.score[in_a] >= b.score[in_b]
            a.mask[in_a] &= ~(both & ~surer)
            b.mask[in_b] &= ~(both & surer)


def _changes(session: Session, fused: Mapping[int, _Fused]) -> Iterable[Mask]:
    """Fused masks on the session's frames, where they are others than those that are there."""
    for object_id, volume in fused.items():
        z0, y0, x0, z1, y1, x1 = volume.box
        for frame in session.frames_of(object_id):
            mask = np.zeros(session.stack.frame_shape, bool)
            if z0 <= frame < z1:
                mask[y0:y1, x0:x1] = volume.mask[frame - z0]
            if not np.array_equal(mask, session.mask(object_id, frame)):
                yield Mask(frame, object_id, mask)
