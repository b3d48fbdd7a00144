"""Where an object ends in depth, told from sections across the planes.

Plane by plane the end of an object is hard to see: what lies above a nucleus is a nucleus, in the same place
and of the same look, and a network that follows goes on with it. Across the planes the two are neighbours
like any others, with a border between them. So the object of a conditioning frame is looked at in a few
sections across its mask, along both axes, prompted by the line in which they cut the mask. A section whose
answer keeps to that line is believed. Each of its ends is looked at once more from close by, because a
network that knows cells gives a long tube the extent of a cell, wherever it is looked at; an end that is
found again is one. What the sections that are believed say tells together how far the object reaches.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from stacksam.network.prompt_encoder import NEGATIVE, POSITIVE
from stacksam.session.boxes import BBox
from stacksam.session.canvas import WINDOW_SIDE, View, object_size
from stacksam.session.encoder import Encoder, quiet
from stacksam.session.models import Model
from stacksam.session.records import Record
from stacksam.session.stack import Stack

__all__ = ["Ends", "Reach"]

_PLACES = (-0.25, 0.0, 0.25)  # of sections, in extents of the mask from its middle
_BELIEVED = 0.75  # overlap (IoU) with the known line from which on a section is believed
_BELIEVED_AGAIN = 0.5  # the same of the closer look, where the line itself is less sure
_LEAST = 2  # sections that must be believed
_ENDED = 0.5  # the share of them that must have ended before the object is taken to have
_BESIDE = 2.0  # pixels beside the line that do not belong to the object
_FLAT = 2.0  # the side of a window in depths of the stack from which on a section shows too little
_CLOSE = 0.5  # where an end is looked at from: the share of the way to it
_AGAIN = 0.3  # how far from where it was, as a share of the way, an end may be found again


@dataclass(frozen=True, slots=True)
class Reach:
    """First and last frame on which an object may be; infinite where no end was found."""

    first: float
    last: float


@dataclass(frozen=True, slots=True)
class _Section:
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
    """

    frame: int
    axis: int
    at: int
    line: tuple[int, int]

    @property
    def middle(self) -> float:
        return (self.line[0] + self.line[1]) / 2


class Ends:
    """Looks across the planes of a stack in depth.

    Parameters
    ----------
    model : Model
        One with windows of its own kind.
    stack : Stack
    encoder : Encoder
    """

    def __init__(self, model: Model, stack: Stack, encoder: Encoder) -> None:
        self._model, self._stack, self._encoder = model, stack, encoder
        self._known: dict[tuple[int, int], tuple[bytes, Reach]] = {}
        step, y, x = stack.spacing if stack.spacing_told else (1.0, 1.0, 1.0)
        self._planes_a_pixel = tuple(min(max(p / step, 1 / 8), 4.0) for p in (x, y))

    def allow(self, frame: int, conditioning: Sequence[Record]) -> bool:
        """Whether an object may be on a frame, given its records of conditioning frames.

        It may be where one of them says that it reaches, and between any two of them.
        """
        seen = [record for record in conditioning if record.mask.any()]
        if not seen or min(r.frame for r in seen) <= frame <= max(r.frame for r in seen):
            return True
        reaches = (self.reach(record) for record in seen)
        return any(reach.first <= frame <= reach.last for reach in reaches)

    def reach(self, record: Record) -> Reach:
        """How far the object of a record reaches."""
        key = record.object_id, record.frame
        mask = np.packbits(record.mask).tobytes() + repr(record.bbox).encode()
        if key not in self._known or self._known[key][0] != mask:
            self._known[key] = mask, self._look(record)
        return self._known[key][1]

    @quiet
    def _look(self, record: Record) -> Reach:
        everything = Reach(-math.inf, math.inf)
        sections = _sections_of(record)
        if len(sections) < _LEAST:
            return everything
        size = WINDOW_SIDE * object_size(record.mask)
        if not self._stack.spacing_told and size > _FLAT * self._stack.n_frames:
            return everything  # planes lie farther apart than pixels, who knows how far
        around = math.ceil(size * max(self._planes_a_pixel)) + 1
        low, high = max(record.frame - around, 0), min(record.frame + around + 1, self._stack.n_frames)
        pictures, origin = self._read(record, sections, range(low, high), math.ceil(size / 2) + 1)

        def ask(asked: Sequence[_Section], least: float) -> list[_Extent | None]:
            return self._ask(asked, size, pictures, (low, *origin), least)

        believed = [extent for extent in ask(sections, _BELIEVED) if extent is not None]
        if len(believed) < _LEAST:
            return everything
        closer = [section for extent in believed for section in extent.closer()]
        found = iter(ask(closer, _BELIEVED_AGAIN) if closer else [])
        ends = [extent.confirmed(found) for extent in believed]
        first = float(np.quantile([a for a, _ in ends], 1 - _ENDED, method="higher"))
        last = float(np.quantile([b for _, b in ends], _ENDED, method="lower"))
        return Reach(first, last)

    def _view(self, section: _Section, size: float) -> View:
        """The window of a section: frames are its rows."""
        width = max(round(size), 8)
        height = max(round(size * self._planes_a_pixel[section.axis]), 4)
        y, x = section.frame - height // 2, round(section.middle - width / 2)
        return View(y, x, height, width, self._model.config.image_size)

    def _read(
        self, record: Record, sections: Sequence[_Section], frames: range, margin: int
    ) -> tuple[dict[tuple[int, int], NDArray[np.float32]], tuple[int, int]]:
        """What sections show (Z, w, 3) around the object, by axis and place; and where frames were cut."""
        y0, x0, y1, x1 = record.bbox
        rows, columns = self._stack.frame_shape
        box = max(y0 - margin, 0), max(x0 - margin, 0), min(y1 + margin, rows), min(x1 + margin, columns)
        lines: dict[tuple[int, int], list[NDArray[np.float32]]] = {(s.axis, s.at): [] for s in sections}
        for frame in frames:
            part = self._stack.frame(frame, box)
            for (axis, at), found in lines.items():  # copies, or all of every frame would be kept
                found.append((part[at - box[0]] if axis == 0 else part[:, at - box[1]]).copy())
        return {key: np.stack(found) for key, found in lines.items()}, box[:2]

    def _ask(
        self,
        sections: Sequence[_Section],
        size: float,
        pictures: Mapping[tuple[int, int], NDArray[np.float32]],
        origin: tuple[int, int, int],
        least: float,
    ) -> list[_Extent | None]:
        """How far the object extends in each section; None of those that are not believed."""
        low, top, left = origin
        views = [self._view(section, size) for section in sections]
        seen, points = [], []
        for section, view in zip(sections, views, strict=True):
            across = pictures[section.axis, section.at]
            seen.append(view.cut(across, (low, left if section.axis == 0 else top)))
            beside = section.line[0] - _BESIDE, section.line[1] + _BESIDE
            places = [(section.frame, at) for at in (section.middle, *beside)]
            points.append(view.points(np.array(places, np.float64)))
        network, device = self._model.network, self._model.device
        labels = torch.tensor([POSITIVE, NEGATIVE, NEGATIVE], device=device).expand(len(points), 3)
        batch = torch.stack(seen).to(device).contiguous(memory_format=torch.channels_last)
        with self._encoder.computing():
            features = network.encode_image(batch)
            masks = network.decode_masks(
                features,
                network.unconditioned(features),
                torch.from_numpy(np.stack(points)).float().to(device),
                labels,
                candidates=False,
            )
        logits = masks.logits[:, 0].float().cpu().numpy()
        rows, columns = self._stack.frame_shape
        found = []
        for section, view, own in zip(sections, views, logits, strict=True):
            whole = self._stack.n_frames, columns if section.axis == 0 else rows
            found.append(_extent(section, view, *view.mask(own, whole), least))
        return found


def _sections_of(record: Record) -> list[_Section]:
    """Sections across the mask of a record; none where they cut hardly more than its border."""
    found = []
    for axis in (0, 1):
        mask = record.mask if axis == 0 else record.mask.T
        start, along = (record.bbox[0], record.bbox[1]) if axis == 0 else (record.bbox[1], record.bbox[0])
        middle = float(np.average(np.arange(len(mask)), weights=mask.sum(axis=1)))
        for at in sorted({round(middle + place * (len(mask) - 1)) for place in _PLACES}):
            if not 0 <= at < len(mask):
                continue
            line = _longest(mask[at])
            if line[1] - line[0] >= 2:
                ends = along + line[0], along + line[1]
                found.append(_Section(record.frame, axis, start + at, ends))
    return found


def _longest(line: NDArray[np.bool_]) -> tuple[int, int]:
    """First and last pixel of the longest run of a line; (0, -1) of an empty one."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], line.astype(np.int8), [0]))))
    starts, stops = edges[::2], edges[1::2]
    if not len(starts):
        return 0, -1
    k = int((stops - starts).argmax())
    return int(starts[k]), int(stops[k]) - 1


@dataclass(frozen=True, slots=True)
class _Extent:
    """The object in a section.

    Attributes
    ----------
    section : _Section
    first, last : float
        Its frames; infinite where it leaves what was looked at.
    lines : dict
        First and last pixel of the object by frame.
    """

    section: _Section
    first: float
    last: float
    lines: dict[int, tuple[int, int]]

    def closer(self) -> list[_Section]:
        """Sections that look at the ends from close by: of the first frame, then of the last."""
        return [section for end in (self.first, self.last) if (section := self._near(end)) is not None]

    def _near(self, end: float) -> _Section | None:
        """The same section from nearer to an end; None where there is none, or it is near already."""
        if math.isinf(end):
            return None
        frame = round(self.section.frame + _CLOSE * (end - self.section.frame))
        line = self.lines[frame]
        if frame == self.section.frame or line[0] == line[1]:
            return None
        return replace(self.section, frame=frame, line=line)

    def confirmed(self, again: Iterator[_Extent | None]) -> tuple[float, float]:
        """Ends that were found again from close by, infinite where one was not; takes its answers off."""
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


def _extent(
    section: _Section, view: View, box: BBox, mask: NDArray[np.bool_], least: float = _BELIEVED
) -> _Extent | None:
    """What a mask of a section says; None if it does not keep to the line that is known."""
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
        a, b = _longest(mask[row])
        lines[y0 + row] = x0 + a, x0 + b
    return _Extent(
        section,
        -math.inf if y0 + low <= max(view.y, 0) + 1 and low == 0 else float(y0 + low),
        math.inf if y0 + high >= view.y + view.height - 2 and high == len(there) - 1 else float(y0 + high),
        lines,
    )
