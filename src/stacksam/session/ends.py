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
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray

from stacksam.session.boxes import BBox, union
from stacksam.session.canvas import WINDOW_SIDE, View, object_size
from stacksam.session.encoder import LARGE, Encoder, quiet
from stacksam.session.models import Model
from stacksam.session.records import Record
from stacksam.session.sections import Extent, Section, extent_in, sections_of
from stacksam.session.stack import Stack

__all__ = ["AT_ONCE", "Ends", "Reach"]

AT_ONCE = 12  # windows of an object that are looked at together, at most: both ends of six sections

_BELIEVED = 0.75  # overlap (IoU) with the known line from which on a section is believed
_BELIEVED_AGAIN = 0.5  # the same of the closer look, where the line itself is less sure
_LEAST = 2  # sections that must be believed
_ENDED = 0.5  # the share of them that must have ended before the object is taken to have
_FLAT = 2.0  # the side of a window in depths of the stack from which on a section shows too little
_FAR = 8.0  # pixels between planes from which on sections are too coarse to show where an object ends
_HELD = 2**26  # bytes of sections that are kept at once; planes are read again for more


@dataclass(frozen=True, slots=True)
class Reach:
    """First and last frame on which an object may be; infinite where no end was found."""

    first: float
    last: float


_EVERYWHERE = Reach(-math.inf, math.inf)


@dataclass(frozen=True, slots=True, eq=False)
class _Subject:
    """An object that is looked at.

    Attributes
    ----------
    sections : list of Section
    size : float
        Wanted side of a window, in pixels.
    frames : range
        Those that windows may show.
    box : (int, int, int, int)
        The part of a frame that they may show.
    shown : dict
        What sections show (frames, pixels, C), by axis and place; filled in when planes are read.
    """

    sections: list[Section]
    size: float
    frames: range
    box: BBox
    shown: dict[tuple[int, int], NDArray[np.float32]] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Of what sections show in one channel."""
        y0, x0, y1, x1 = self.box
        return sum(4 * len(self.frames) * ((x1 - x0) if s.axis == 0 else (y1 - y0)) for s in self.sections)


_Question = tuple[_Subject, Section]


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
        self._channels = 1 if len(stack.channels) <= 1 else 3  # greys are repeated when they are looked at
        step, y, x = stack.spacing if stack.spacing_told else (1.0, 1.0, 1.0)
        self._planes_a_pixel = tuple(min(p / step, 4.0) for p in (x, y))

    def allow(self, frame: int, conditioning: Sequence[Record]) -> bool:
        """Whether an object may be on a frame, given its records of conditioning frames.

        It may be where one of them says that it reaches, and between any two of them.
        """
        asked = self._asked(frame, conditioning)
        return asked is None or any(r.first <= frame <= r.last for r in map(self.reach, asked))

    @staticmethod
    def _asked(frame: int, conditioning: Sequence[Record]) -> list[Record] | None:
        """The records whose reach tells whether an object may be on a frame; None where it may be anyway."""
        seen = [record for record in conditioning if record.mask.any()]
        if not seen or min(r.frame for r in seen) <= frame <= max(r.frame for r in seen):
            return None
        return seen

    def learn(self, frame: int, objects: Iterable[Sequence[Record]]) -> None:
        """Look at once at all that :meth:`allow` will have to know of several objects on a frame.

        Parameters
        ----------
        frame : int
        objects : iterable of sequence of Record
            Each object's records of conditioning frames.
        """
        self._learn([record for own in objects for record in self._asked(frame, own) or ()])

    def reach(self, record: Record) -> Reach:
        """How far the object of a record reaches."""
        self._learn([record])
        return self._known[record.object_id, record.frame][1]

    def _learn(self, records: Sequence[Record]) -> None:
        fresh = {}
        for record in records:
            key = record.object_id, record.frame
            mask = np.packbits(record.mask).tobytes() + repr(record.bbox).encode()
            if key not in self._known or self._known[key][0] != mask:
                fresh[key] = record, mask
        found = self._look([record for record, _ in fresh.values()]) if fresh else []
        for (key, (_, mask)), reach in zip(fresh.items(), found, strict=True):
            self._known[key] = mask, reach

    @quiet
    def _look(self, records: Sequence[Record]) -> list[Reach]:
        """How far the objects of records reach."""
        subjects = {k: subject for k, r in enumerate(records) if (subject := self._subject(r)) is not None}
        reaches = [_EVERYWHERE] * len(records)
        for some in self._portions(subjects):
            own = [subjects[k] for k in some]
            self._read(own)
            for k, reach in zip(some, self._reaches(own), strict=True):
                reaches[k] = reach
            for subject in own:
                subject.shown.clear()
        return reaches

    def _subject(self, record: Record) -> _Subject | None:
        """What is to be looked at of a record's object; None where that would tell nothing."""
        sections, n_frames = sections_of(record), self._stack.n_frames
        if len(sections) < _LEAST:
            return None
        if min(self._planes_a_pixel) <= 1 / _FAR:
            return None
        size = WINDOW_SIDE * object_size(record.mask)
        if not self._stack.spacing_told and size > _FLAT * n_frames:
            return None  # planes lie farther apart than pixels, who knows how far
        around = math.ceil(size * max(self._planes_a_pixel)) + 1
        margin = math.ceil(size / 2) + 1
        y0, x0, y1, x1 = record.bbox
        rows, columns = self._stack.frame_shape
        return _Subject(
            sections,
            size,
            range(max(record.frame - around, 0), min(record.frame + around + 1, n_frames)),
            (max(y0 - margin, 0), max(x0 - margin, 0), min(y1 + margin, rows), min(x1 + margin, columns)),
        )

    def _portions(self, subjects: dict[int, _Subject]) -> Iterator[list[int]]:
        """Keys of as many subjects as can be held at once."""
        some: list[int] = []
        held = 0
        for key, subject in subjects.items():
            wanted = self._channels * subject.nbytes
            if some and held + wanted > _HELD:
                yield some
                some, held = [], 0
            some.append(key)
            held += wanted
        if some:
            yield some

    def _read(self, subjects: Sequence[_Subject]) -> None:
        """Take from the planes what sections show; each is read once, but of large frames only parts."""
        rows, columns = self._stack.frame_shape
        lines: dict[tuple[int, int, int], list[NDArray[np.float32]]] = {}
        for frame in range(min(s.frames.start for s in subjects), max(s.frames.stop for s in subjects)):
            wanted = [(k, subject) for k, subject in enumerate(subjects) if frame in subject.frames]
            together = [wanted] if rows * columns <= LARGE else [[one] for one in wanted]
            for some in together:
                if not some:
                    continue
                box = some[0][1].box
                for _, subject in some:
                    box = union(box, subject.box)
                part = self._stack.frame(frame, box)[..., : self._channels]
                for k, subject in some:
                    y0, x0, y1, x1 = subject.box
                    own = part[y0 - box[0] : y1 - box[0], x0 - box[1] : x1 - box[1]]
                    for s in subject.sections:
                        line = own[s.at - y0] if s.axis == 0 else own[:, s.at - x0]
                        # A copy, or all of every plane would be kept.
                        lines.setdefault((k, s.axis, s.at), []).append(line.copy())
        for (k, axis, at), found in lines.items():
            subjects[k].shown[axis, at] = np.stack(found)

    def _reaches(self, subjects: Sequence[_Subject]) -> list[Reach]:
        """How far objects reach whose sections were read."""
        answers = iter(self._ask([(one, s) for one in subjects for s in one.sections], _BELIEVED))
        believed = []
        for one in subjects:
            own = [extent for extent in islice(answers, len(one.sections)) if extent is not None]
            believed.append(own if len(own) >= _LEAST else [])
        closer = [(s, c) for s, own in zip(subjects, believed, strict=True) for e in own for c in e.closer()]
        again = iter(self._ask(closer, _BELIEVED_AGAIN))
        return [_together(own, [extent.confirmed(again) for extent in own]) for own in believed]

    def _ask(self, questions: Sequence[_Question], least: float) -> list[Extent | None]:
        """How far objects extend in sections; None of those that are not believed."""
        side = self._model.config.image_size
        whole = View(0, 0, side, side, side)
        return self._encoder.in_chunks(questions, whole, lambda some: self._answers(some, least))

    def _answers(self, questions: Sequence[_Question], least: float) -> list[Extent | None]:
        """As :meth:`_ask`, for as many as are computed at once."""
        network, device, side = self._model.network, self._model.device, self._model.config.image_size
        views = [s.view(one.size, self._planes_a_pixel[s.axis], side) for one, s in questions]
        seen, points, labels = [], [], []
        for (one, section), view in zip(questions, views, strict=True):
            y0, x0, _, _ = one.box
            origin = one.frames.start, x0 if section.axis == 0 else y0
            seen.append(view.cut(one.shown[section.axis, section.at], origin).expand(3, -1, -1))
            places, kinds = section.clicks()
            points.append(view.points(places))
            labels.append(kinds)
        features = self._encoder.encoded(torch.stack(seen))
        with self._encoder.computing():
            masks = network.decode_masks(
                features,
                network.unconditioned(features),
                torch.from_numpy(np.stack(points)).float().to(device),
                torch.tensor(labels, device=device),
                candidates=False,
            )
        logits = masks.logits[:, 0].float().cpu().numpy()
        n_frames, (rows, columns) = self._stack.n_frames, self._stack.frame_shape
        found = []
        for (_, section), view, own in zip(questions, views, logits, strict=True):
            box, mask = view.mask(own, (n_frames, columns if section.axis == 0 else rows))
            found.append(extent_in(section, view, n_frames, box, mask, least))
        return found


def _together(extents: Sequence[Extent], ends: Sequence[tuple[float, float]]) -> Reach:
    """What several sections of an object say, of which some may be wrong.

    A section beside the middle cuts a round object short, but no straight one. So it says that the object
    ends where it says, or up to there where a ball would end; of that it takes what the middle ones say.

    Parameters
    ----------
    extents : sequence of Extent
    ends : sequence of (float, float)
        Of each: first and last frame, infinite where it is not sure of them.
    """
    if not extents:
        return _EVERYWHERE
    reach = []
    for side, sign in ((0, -1), (1, 1)):  # counted outwards
        told = [sign * end[side] for end in ends]
        middle = [far for far, extent in zip(told, extents, strict=True) if extent.section.off == 0]
        farthest = max(middle, default=math.inf)
        for k, extent in enumerate(extents):
            told[k] = min(max(farthest, told[k]), told[k] + _shortened(extent))
        far = float(np.quantile(told, _ENDED, method="lower"))
        reach.append(sign * (far if math.isinf(far) else float(math.floor(far))))
    return Reach(reach[0], reach[1])


def _shortened(extent: Extent) -> float:
    """By how many frames at most a section shows a round object shorter, at each end, than it is."""
    if extent.section.off == 0:
        return 0.0
    half = (extent.last - extent.first) / 2
    if math.isinf(half):
        known = [abs(end - extent.section.frame) for end in (extent.first, extent.last) if math.isfinite(end)]
        half = max(known, default=0.0)
    # To whole frames both may be one off.
    return (half + 0.5) * (1 / math.sqrt(1 - extent.section.off**2) - 1) + 1
