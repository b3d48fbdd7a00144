"""Sections: planes across the frames of a stack in depth, and how far an object extends in them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from stacksam.network.prompt_encoder import NEGATIVE, PADDING, POSITIVE
from stacksam.session.boxes import BBox
from stacksam.session.canvas import View
from stacksam.session.records import Record

__all__ = ["Extent", "Section", "extent_in", "longest_run", "sections_of"]

_PLACES = (0.0, -0.25, 0.25)  # of sections, in extents of the mask from its middle
_BESIDE = 2  # pixels beside the line that do not belong to the object
_CLOSE = 0.5  # where an end is looked at from: the share of the way to it
_AGAIN = 0.3  # how far from where it was, as a share of the way, an end may be found again


@dataclass(frozen=True, slots=True)
class Section:
    """A plane across the frames, and what is known of the object in it.

    Attributes
    ----------
    frame : int
    axis : int
        0 cuts along a row of the frames, 1 along a column.
    at : int
        Which one.
    line : (int, int)
        First and last pixel of the object where frame and section meet.
    off : float
        How far from the middle of the object it is cut, in half extents.
    beside : (bool, bool)
        Whether pixels before and behind the line may be said not to belong to the object.
    """

    frame: int
    axis: int
    at: int
    line: tuple[int, int]
    off: float = 0.0
    beside: tuple[bool, bool] = (True, True)

    @property
    def middle(self) -> float:
        """Of the line."""
        return (self.line[0] + self.line[1]) / 2

    def view(self, size: float, planes_a_pixel: float, side: int) -> View:
        """The window of the section, `size` pixels wide, as an input of `side`: frames are its rows."""
        width, height = max(round(size), 8), max(round(size * planes_a_pixel), 4)
        return View(_start(self.frame, height), _start(self.middle, width), height, width, side)

    def clicks(self) -> tuple[NDArray[np.float64], list[int]]:
        """Three places (3, 2) of the section as ``(frame, pixel)``, and what they are to the object."""
        places = [self.middle, self.line[0] - _BESIDE, self.line[1] + _BESIDE]
        labels = [POSITIVE, *(NEGATIVE if free else PADDING for free in self.beside)]
        return np.array([(self.frame, at) for at in places], np.float64), labels


def _start(middle: float, extent: int) -> int:
    """First pixel of a window around a pixel, to the nearest, as `window_view` has it."""
    return math.floor(middle + 1 - extent / 2)


def sections_of(record: Record) -> list[Section]:
    """Sections across the mask of a record; none where they cut hardly more than its border."""
    found = []
    for axis in (0, 1):
        mask = record.mask if axis == 0 else record.mask.T
        start, along = (record.bbox[0], record.bbox[1]) if axis == 0 else (record.bbox[1], record.bbox[0])
        middle = float(np.average(np.arange(len(mask)), weights=mask.sum(axis=1)))
        places: dict[int, float] = {}
        for place in _PLACES:  # of small masks several may be one
            places.setdefault(math.floor(middle + place * (len(mask) - 1) + 0.5), 2 * abs(place))
        for at, off in sorted(places.items()):
            if not 0 <= at < len(mask):
                continue
            first, last = longest_run(mask[at])
            if last - first >= 2:
                # A slit in the mask is not beside it.
                sides = first - _BESIDE, last + _BESIDE
                free = [not (0 <= side < mask.shape[1] and mask[at, side]) for side in sides]
                line = along + first, along + last
                found.append(Section(record.frame, axis, start + at, line, off, (free[0], free[1])))
    return found


def longest_run(line: NDArray[np.bool_], inside: NDArray[np.bool_] | None = None) -> tuple[int, int]:
    """First and last pixel of the longest run of a line; (0, -1) of an empty one.

    Parameters
    ----------
    line : (N,) bool
    inside : (N,) bool, optional
        Take the run of which most lies in here; the longest of those.
    """
    edges = np.flatnonzero(np.diff(np.concatenate(([0], line.astype(np.int8), [0]))))
    runs = [(int(a), int(b) - 1) for a, b in zip(edges[::2], edges[1::2], strict=True)]
    if not runs:
        return 0, -1

    def worth(run: tuple[int, int]) -> tuple[int, int]:
        shared = 0 if inside is None else int(inside[run[0] : run[1] + 1].sum())
        return shared, run[1] - run[0]

    return max(runs, key=worth)


@dataclass(frozen=True, slots=True)
class Extent:
    """The object in a section.

    Attributes
    ----------
    section : Section
    first, last : float
        Its frames; infinite where it leaves what was looked at.
    lines : dict
        First and last pixel of the object by frame.
    """

    section: Section
    first: float
    last: float
    lines: dict[int, tuple[int, int]]

    def closer(self) -> list[Section]:
        """Sections that look at the ends from close by: of the first frame, then of the last."""
        return [section for end in (self.first, self.last) if (section := self._near(end)) is not None]

    def _near(self, end: float) -> Section | None:
        """The same section from nearer to an end; None where there is none, or it was seen from nearby."""
        if math.isinf(end):
            return None
        frame, own = round(self.section.frame + _CLOSE * (end - self.section.frame)), self.section.frame
        while frame != own and self.lines[frame][0] == self.lines[frame][1]:
            frame += 1 if own > frame else -1  # a pixel is no line to be known by
        if frame == own:
            return None
        return replace(self.section, frame=frame, line=self.lines[frame], beside=(True, True))

    def confirmed(self, again: Iterator[Extent | None]) -> tuple[float, float]:
        """Ends that were found again from close by, infinite where one was not; takes its answers off.

        An end that was seen from nearby stands: it is the next frame, or the object is a pixel from there on.
        """
        ends = []
        for end, beyond in ((self.first, -math.inf), (self.last, math.inf)):
            if self._near(end) is not None:
                other = next(again)
                near = math.inf if other is None else (other.first if beyond < 0 else other.last)
                tolerance = max(1.5, _AGAIN * abs(end - self.section.frame))
                ends.append(end if abs(near - end) <= tolerance else beyond)
            else:
                ends.append(end)
        return ends[0], ends[1]


def extent_in(
    section: Section, view: View, n_frames: int, box: BBox, mask: NDArray[np.bool_], least: float
) -> Extent | None:
    """What a mask of a section says; None if it does not keep to the line that is known.

    Parameters
    ----------
    section : Section
    view : View
        What was looked at.
    n_frames : int
        Of the stack: where it ends, nothing is seen of how the object goes on.
    box : (int, int, int, int)
        Half-open bounding box ``(frame, pixel, frame, pixel)`` of the mask.
    mask : bool array of the box's shape
    least : float
        Overlap (IoU) with the line from which on the mask is believed.
    """
    y0, x0, y1, _ = box
    if not y0 <= section.frame < y1:
        return None
    first, last = section.line
    inside = np.zeros(mask.shape[1], bool)
    inside[max(first - x0, 0) : max(last + 1 - x0, 0)] = True
    known = mask[section.frame - y0]
    shared = int((known & inside).sum())
    if shared < least * (int(known.sum()) + last + 1 - first - shared):
        return None
    there: NDArray[np.bool_] = np.any(mask & inside, axis=1)
    low = high = section.frame - y0
    while low > 0 and there[low - 1]:
        low -= 1
    while high < len(there) - 1 and there[high + 1]:
        high += 1
    lines = {}
    for row in range(low, high + 1):
        a, b = longest_run(mask[row], inside)  # not a neighbour's
        lines[y0 + row] = x0 + a, x0 + b
    top, bottom = max(view.y, 0), min(view.y + view.height, n_frames) - 1
    return Extent(
        section,
        -math.inf if low == 0 and y0 <= top + 1 else float(y0 + low),
        math.inf if high == len(there) - 1 and y0 + high >= bottom - 1 else float(y0 + high),
        lines,
    )
