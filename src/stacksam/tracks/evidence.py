"""What is known of objects on frames, in the one form that divisions are looked for in: masks in their boxes.

It comes from a session, or from labels that something else made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from stacksam.errors import InputError

if TYPE_CHECKING:
    import networkx as nx

    from stacksam.session.session import Session

__all__ = ["Known", "Part", "from_labels", "from_session", "ramp"]

BBox: TypeAlias = tuple[int, int, int, int]


@dataclass(frozen=True, eq=False)
class Part:
    """A mask within its bounding box.

    Attributes
    ----------
    bbox : (int, int, int, int)
        Half-open ``(y0, x0, y1, x1)`` in frame pixels.
    mask : bool array of the bounding box's shape
    """

    bbox: BBox
    mask: NDArray[np.bool_]

    @cached_property
    def area(self) -> int:
        """Pixels."""
        return int(np.count_nonzero(self.mask))

    @cached_property
    def centre(self) -> NDArray[np.float64]:
        """Centroid ``(y, x)`` in frame pixels."""
        rows, columns = np.nonzero(self.mask)
        return np.array([rows.mean() + self.bbox[0], columns.mean() + self.bbox[1]])

    @property
    def diameter(self) -> float:
        """Of the disc of equal area, in pixels."""
        return float(2 * np.sqrt(self.area / np.pi))

    def full(self, frame_shape: tuple[int, int]) -> NDArray[np.bool_]:
        """The mask (H, W) at the size of the frame."""
        whole = np.zeros(frame_shape, bool)
        y0, x0, y1, x1 = self.bbox
        whole[y0:y1, x0:x1] = self.mask
        return whole

    def shared(self, other: Part) -> int:
        """Pixels that both have."""
        y0, x0 = (max(a, b) for a, b in zip(self.bbox[:2], other.bbox[:2], strict=True))
        y1, x1 = (min(a, b) for a, b in zip(self.bbox[2:], other.bbox[2:], strict=True))
        if y0 >= y1 or x0 >= x1:
            return 0
        return int(np.count_nonzero(self._at(y0, x0, y1, x1) & other._at(y0, x0, y1, x1)))

    def _at(self, y0: int, x0: int, y1: int, x1: int) -> NDArray[np.bool_]:
        top, left = self.bbox[:2]
        return self.mask[y0 - top : y1 - top, x0 - left : x1 - left]

    @classmethod
    def of(cls, mask: NDArray[np.bool_], corner: tuple[int, int] = (0, 0)) -> Part | None:
        """Of a mask whose first pixel lies at `corner`; None if it is empty."""
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if not len(rows):
            return None
        y0, y1, x0, x1 = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
        box = (int(y0) + corner[0], int(x0) + corner[1], int(y1) + corner[0], int(x1) + corner[1])
        return cls(box, mask[y0:y1, x0:x1])


@dataclass(eq=False)
class Known:
    """Which objects are seen on which frames, with which masks, and what is settled about them.

    Attributes
    ----------
    seen : mapping of int to sequence of int
        Of each object: frames on which it has a mask, ascending.
    last : int
        The last frame of which anything is known.
    parents : mapping of int to int
    settled : mapping of int to set of int
        Of objects: frames on which a person said that the mask is right.
    rejected : collection of (int, int)
        Objects and frames that were said to be no divisions.
    read : callable
        Gives the mask of (object id, frame).
    """

    seen: Mapping[int, Sequence[int]]
    last: int
    parents: Mapping[int, int]
    settled: Mapping[int, set[int]]
    rejected: Iterable[tuple[int, int]]
    read: Callable[[int, int], Part | None]
    _parts: dict[tuple[int, int], Part | None] = field(default_factory=dict)
    _on_frame: dict[int, list[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for object_id, frames in self.seen.items():
            for frame in frames:
                self._on_frame.setdefault(frame, []).append(object_id)

    def part(self, object_id: int, frame: int) -> Part | None:
        """The mask of an object on a frame; None where it is not seen."""
        if object_id not in self._on_frame.get(frame, ()):
            return None
        key = object_id, frame
        if key not in self._parts:
            self._parts[key] = self.read(*key)
        return self._parts[key]

    def on_frame(self, frame: int) -> Sequence[int]:
        """Objects that are seen on a frame."""
        return self._on_frame.get(frame, ())


def ramp(value: float, none: float, full: float) -> float:
    """0 at one bound, 1 at the other, and evenly between; the bounds may lie either way round."""
    return float(np.clip((value - none) / (full - none), 0.0, 1.0))


def from_session(session: Session) -> Known:
    """What a session knows at this moment."""

    def read(object_id: int, frame: int) -> Part | None:
        update = session.update(object_id, frame)
        if update is None or not update.mask.any():
            return None
        return Part(update.bbox, update.mask)

    scores = session.all_scores()
    said = {i: own.prompted | own.locked for i, own in scores.items()}
    return Known(
        {i: [int(f) for f in own.frames[own.area > 0]] for i, own in scores.items()},
        max((int(own.frames[-1]) for own in scores.values() if len(own)), default=-1),
        {daughter: parent for parent, daughter in session.lineage.edges},
        {i: {int(f) for f in own.frames[said[i]]} for i, own in scores.items()},
        session.rejected_divisions,
        read,
    )


def from_labels(labels: Sequence[NDArray[Any]] | NDArray[Any], lineage: nx.DiGraph | None = None) -> Known:
    """What labels show.

    Parameters
    ----------
    labels : (T, H, W) int array, or sequence of (H, W) int array
        Object ids, 0 is background.
    lineage : networkx.DiGraph, optional
        What is known of it already.

    Raises
    ------
    InputError
        If they are no integers, or of other dimensions.
    """
    parts: dict[tuple[int, int], Part | None] = {}
    seen: dict[int, list[int]] = {}
    for frame, values in enumerate(labels):
        array = np.asarray(values)
        if array.ndim != 2 or array.dtype.kind not in "iu":
            raise InputError(
                f"labels of frame {frame} are {array.dtype} of shape {array.shape}; give "
                "frames (H, W) of integers"
            )
        # Ids may be large and few, and a table of all numbers up to them would be too.
        ids, dense = np.unique(array, return_inverse=True)
        dense = dense.reshape(array.shape) + 1
        for place, box in enumerate(ndimage.find_objects(dense)):
            if ids[place] == 0 or box is None:
                continue
            own = int(ids[place])
            parts[own, frame] = Part.of(dense[box] == place + 1, (box[0].start, box[1].start))
            seen.setdefault(own, []).append(frame)
    links = () if lineage is None else lineage.edges
    known = Known(seen, len(labels) - 1, {d: p for p, d in links}, {}, (), lambda i, f: parts.get((i, f)))
    return known
