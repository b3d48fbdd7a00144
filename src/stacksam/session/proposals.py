"""Proposals: masks of what seems to be an object, before anybody has said so; and how duplicates go.

Pure functions of arrays. Non-maximum suppression is the greedy one that every detector uses: best first, and
none is kept that shares too much with one that was.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from stacksam.session.boxes import BBox, bbox_of, intersection

__all__ = ["Proposal", "box_nms", "shared_pixels", "suppress"]

_BIN = 64  # frame pixels along a bin of the index of what was kept


@dataclass(frozen=True, slots=True, eq=False)
class Proposal:
    """A mask that may be an object.

    Attributes
    ----------
    frame : int
    bbox : (int, int, int, int)
        Half-open ``(y0, x0, y1, x1)`` in frame pixels.
    mask : bool array of the bounding box's shape
    score : float
        The network's own estimate of the mask's IoU, 0 to 1.
    stability : float
        IoU of the masks at thresholds one logit below and one above, 0 to 1.
    """

    frame: int
    bbox: BBox
    mask: NDArray[np.bool_]
    score: float
    stability: float

    @property
    def area(self) -> int:
        """Pixels of the mask."""
        return int(np.count_nonzero(self.mask))

    @property
    def centre(self) -> tuple[float, float]:
        """Centroid ``(y, x)`` in frame pixels."""
        y, x = np.nonzero(self.mask)
        return self.bbox[0] + float(y.mean()), self.bbox[1] + float(x.mean())

    def full_mask(self, frame_shape: tuple[int, int]) -> NDArray[np.bool_]:
        """The mask at the size of the frame."""
        full = np.zeros(frame_shape, bool)
        y0, x0, y1, x1 = self.bbox
        full[y0:y1, x0:x1] = self.mask
        return full


def box_nms(boxes: NDArray[np.float64], scores: NDArray[np.floating], threshold: float) -> NDArray[np.intp]:
    """Non-maximum suppression of boxes, as ``torchvision.ops.nms`` does it.

    Parameters
    ----------
    boxes : (N, 4) float
        ``(x0, y0, x1, y1)`` or ``(y0, x0, y1, x1)``, as coordinates: the width is ``x1 - x0``.
    scores : (N,) float
        Of equal ones the first comes first.
    threshold : float
        A box goes if its IoU with a better one that stays is above this.

    Returns
    -------
    (K,) int
        Indices of those that stay, best first.
    """
    order = np.argsort(-np.asarray(scores), kind="stable")
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    kept: list[int] = []
    while len(order):
        best, rest = order[0], order[1:]
        kept.append(int(best))
        low = np.maximum(boxes[rest, :2], boxes[best, :2])
        high = np.minimum(boxes[rest, 2:], boxes[best, 2:])
        shared = np.clip(high - low, 0, None).prod(axis=1)
        whole = areas[rest] + areas[best] - shared
        # Boxes without an area share nothing, whatever 0 / 0 may be.
        overlap = np.divide(shared, whole, out=np.zeros_like(shared), where=whole > 0)
        order = rest[overlap <= threshold]
    return np.array(kept, np.intp)


def shared_pixels(a: Proposal, bbox: BBox, mask: NDArray[np.bool_]) -> int:
    """How many pixels a proposal shares with a mask in its bounding box."""
    part = intersection(a.bbox, bbox)
    if part is None:
        return 0
    return int(np.count_nonzero(_part(a.mask, a.bbox, part) & _part(mask, bbox, part)))


def _part(mask: NDArray[np.bool_], bbox: BBox, part: BBox) -> NDArray[np.bool_]:
    y, x = bbox[:2]
    return mask[part[0] - y : part[2] - y, part[1] - x : part[3] - x]


class _Index:
    """What was kept, by place."""

    def __init__(self) -> None:
        self._bins: dict[tuple[int, int], list[int]] = defaultdict(list)

    def _places(self, bbox: BBox) -> Iterator[tuple[int, int]]:
        y0, x0, y1, x1 = bbox
        for y in range(y0 // _BIN, (y1 - 1) // _BIN + 1):
            for x in range(x0 // _BIN, (x1 - 1) // _BIN + 1):
                yield y, x

    def add(self, number: int, bbox: BBox) -> None:
        for place in self._places(bbox):
            self._bins[place].append(number)

    def near(self, bbox: BBox) -> list[int]:
        return sorted({number for place in self._places(bbox) for number in self._bins.get(place, ())})


def suppress(
    proposals: Iterable[Proposal],
    threshold: float = 0.5,
    *,
    taken: Sequence[Proposal] = (),
    taken_threshold: float = 0.5,
) -> list[Proposal]:
    """One proposal for each place: best first, without those that lie mostly on better ones, or over them.

    A proposal goes where better ones hold more than `threshold` of it, or where it holds more than that of
    one of them: a part of an object and a group of objects are duplicates as much as the object itself. What
    stays is cut to the pixels that no better one has, and to the largest piece of these.

    Parameters
    ----------
    proposals : iterable of Proposal
        Of one frame, none of them empty.
    threshold : float
        Share of a mask's pixels.
    taken : sequence of Proposal
        What is there already, better than all others; not returned.
    taken_threshold : float
        The threshold for what is shared with one of these.

    Returns
    -------
    list of Proposal
        Best first; no two share a pixel.
    """
    kept: list[Proposal] = []
    areas: list[int] = []
    index = _Index()

    def keep(proposal: Proposal) -> None:
        index.add(len(kept), proposal.bbox)
        kept.append(proposal)
        areas.append(proposal.area)

    for proposal in taken:
        keep(proposal)
    for proposal in sorted(proposals, key=lambda p: -p.score):
        area, lost = proposal.area, 0
        free = proposal.mask.copy()
        for number in index.near(proposal.bbox):
            other = kept[number]
            shared = shared_pixels(proposal, other.bbox, other.mask)
            lost += shared
            limit = taken_threshold if number < len(taken) else threshold
            if lost > threshold * area or shared > limit * min(area, areas[number]):
                break
            part = intersection(proposal.bbox, other.bbox)
            if part is not None:
                own = _part(free, proposal.bbox, part)
                own &= ~_part(other.mask, other.bbox, part)
        else:
            keep(_largest_piece(proposal, free))
    return kept[len(taken) :]


def _largest_piece(proposal: Proposal, mask: NDArray[np.bool_]) -> Proposal:
    """The proposal with the largest piece of `mask`, which is of its bounding box's shape, as its mask."""
    pieces, count = ndimage.label(mask)
    if count > 1:
        mask = pieces == int(np.bincount(pieces.ravel())[1:].argmax()) + 1
    y0, x0, y1, x1 = bbox_of(mask)
    top, left = proposal.bbox[:2]
    return replace(
        proposal,
        bbox=(top + y0, left + x0, top + y1, left + x1),
        mask=np.ascontiguousarray(mask[y0:y1, x0:x1]),
    )
