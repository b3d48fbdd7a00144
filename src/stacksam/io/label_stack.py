"""A label stack as its writers see it: one frame at a time, looked through once before anything is written.

Most formats have to be told first what comes: how many objects, from which frame to which, with how large
ids. So the stack is read twice, and never held: :attr:`LabelStack.survey` remembers a few numbers an object.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from stacksam.errors import InputError
from stacksam.io._lazy import ArrayLike, LazyImage
from stacksam.io.labels import check_calibration, read_labels
from stacksam.io.lineage import check_lineage

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["LabelStack", "Objects", "Seen", "objects_on"]


@dataclass(frozen=True, slots=True)
class Seen:
    """Where one object is.

    Attributes
    ----------
    runs : tuple of (int, int)
        First and last frame of each stretch without a gap, in order.
    frames : int
        How many frames show it.
    pixels : int
        Pixels of it on all frames.
    """

    runs: tuple[tuple[int, int], ...]
    frames: int
    pixels: int

    @property
    def first(self) -> int:
        """First frame that shows it."""
        return self.runs[0][0]

    @property
    def last(self) -> int:
        """Last frame that shows it."""
        return self.runs[-1][1]


class Objects(NamedTuple):
    """The objects of one frame, in order of their ids.

    Attributes
    ----------
    ids : (n,) array of int
    pixels : (n,) array of int
    centroids : (n, 2) array of float
        ``(y, x)`` in pixels, pixel centres at integers.
    boxes : (n, 4) array of int
        Half-open ``(y0, x0, y1, x1)``.
    """

    ids: NDArray[np.int64]
    pixels: NDArray[np.int64]
    centroids: NDArray[np.float64]
    boxes: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class LabelStack:
    """Labels of all frames, their calibration, and a way to read one frame.

    Attributes
    ----------
    read : callable
        Gives the (H, W) labels of a frame; asked for each frame more than once.
    shape : (int, int, int)
        Frames, height, width.
    axes : {"tyx", "zyx"}
        What the frames are.
    scale, units : sequence of 3
        Size of a step along each axis, and its unit (None: pixels or frames).
    name : str

    Raises
    ------
    InputError
        If shape, axes, scale and units do not go together.
    """

    read: Callable[[int], NDArray[Any]]
    shape: tuple[int, int, int]
    axes: str = "tyx"
    scale: Sequence[float] = (1.0, 1.0, 1.0)
    units: Sequence[str | None] = (None, None, None)
    name: str = "labels"

    def __post_init__(self) -> None:
        checked = check_calibration(self.shape, self.axes, self.scale, self.units)
        for attribute, value in zip(("shape", "axes", "scale", "units"), checked, strict=True):
            object.__setattr__(self, attribute, value)

    @classmethod
    def of(
        cls, source: str | os.PathLike[str] | LazyImage | ArrayLike, axes: str | None = None, **options: Any
    ) -> Self:
        """Labels in a file, an opened image, or an array of (frames, height, width).

        Parameters
        ----------
        source : path, LazyImage or array-like
        axes : {"tyx", "zyx"}, optional
            What the frames are, where the source does not tell or is wrong.
        **options
            ``scale``, ``units`` or ``name``, to override what the source says.

        Raises
        ------
        InputError
            If the labels are not one image a frame.
        StackError
            If they cannot be read, or are no labels.
        """
        image = source if isinstance(source, LazyImage) else read_labels(source)
        others = [axis for axis in image.axes if axis not in "yx"]
        long = [axis for axis in others if image.sizes[axis] > 1]
        if len(long) > 1 or "c" in long:
            raise InputError(
                f"the labels {image.source} have axes {image.axes} of shape {image.shape}; one image a frame "
                "is wanted: tyx or zyx"
            )
        frame_axis = next((axis for axis in (*long, *others) if axis in "tz"), "t")
        letters = f"{frame_axis}yx"

        def read(frame: int) -> NDArray[Any]:
            return image.read(**{axis: frame if axis == frame_axis else 0 for axis in others})

        told: dict[str, Any] = {
            "scale": tuple(image.scale.get(letter, 1.0) for letter in letters),
            "units": tuple(image.units.get(letter) for letter in letters),
            "name": image.name,
        }
        shape = (image.sizes.get(frame_axis, 1), image.sizes["y"], image.sizes["x"])
        return cls(read, shape, axes or letters, **(told | options))

    @property
    def n_frames(self) -> int:
        """Number of frames."""
        return self.shape[0]

    @property
    def frame_axis(self) -> str:
        """Along what the frames lie: ``"t"`` or ``"z"``."""
        return self.axes[0]

    def frame(self, number: int) -> NDArray[Any]:
        """Labels of one frame, checked.

        Returns
        -------
        (H, W) array of int

        Raises
        ------
        InputError
            If they are no whole numbers from 0, or not of the stack's height and width.
        """
        labels = np.asarray(self.read(number))
        if labels.shape != self.shape[1:]:
            raise InputError(
                f"frame {number} of {self.name} has shape {labels.shape}; all must have {self.shape[1:]}"
            )
        if labels.dtype.kind not in "bui":
            what = "fractions" if labels.dtype.kind == "f" and np.any(labels % 1) else "values"
            raise InputError(
                f"frame {number} of {self.name} holds {labels.dtype} {what}; labels are whole numbers, 0 for "
                "background"
            )
        if labels.dtype.kind == "i" and labels.min() < 0:
            raise InputError(f"frame {number} of {self.name} has the id {labels.min()}; ids are 1 and above")
        return labels.astype(np.uint8) if labels.dtype.kind == "b" else labels

    def frames(self, dtype: Any = None) -> Iterator[NDArray[Any]]:
        """Labels of each frame in turn, of one type: by default :attr:`dtype`."""
        wanted = self.dtype if dtype is None else dtype
        for number in range(self.n_frames):
            yield self.frame(number).astype(wanted, copy=False)

    @cached_property
    def survey(self) -> dict[int, Seen]:
        """Where each object is, by id, in order of ids; made by reading every frame once."""
        runs: dict[int, list[list[int]]] = {}
        pixels: dict[int, int] = {}
        for number in range(self.n_frames):
            ids, counts = np.unique(self.frame(number), return_counts=True)
            for object_id, count in zip(ids.tolist(), counts.tolist(), strict=True):
                if not object_id:
                    continue
                stretches = runs.setdefault(object_id, [])
                if stretches and stretches[-1][1] == number - 1:
                    stretches[-1][1] = number
                else:
                    stretches.append([number, number])
                pixels[object_id] = pixels.get(object_id, 0) + count
        return {
            object_id: Seen(
                tuple((first, last) for first, last in runs[object_id]),
                sum(last - first + 1 for first, last in runs[object_id]),
                pixels[object_id],
            )
            for object_id in sorted(runs)
        }

    @property
    def spans(self) -> dict[int, tuple[int, int]]:
        """First and last frame of each object."""
        return {object_id: (seen.first, seen.last) for object_id, seen in self.survey.items()}

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type that holds all ids: 16 bits, or 32.

        Raises
        ------
        InputError
            If an id does not fit in 32 bits.
        """
        top = max(self.survey, default=0)
        if top >= 2**32:
            raise InputError(f"{self.name} has the id {top}; files hold ids below {2**32}")
        return np.dtype(np.uint16 if top < 2**16 else np.uint32)

    def check(self, lineage: nx.DiGraph | None) -> None:
        """See that a lineage fits, see :func:`stacksam.io.lineage.check_lineage`."""
        check_lineage(lineage, self.spans)

    def length_unit(self) -> str | None:
        """The unit of rows and columns.

        Raises
        ------
        InputError
            If they have two.
        """
        _, y, x = self.units
        if y != x:
            raise InputError(
                f"rows of {self.name} are in {y or 'pixels'}, columns in {x or 'pixels'}; one unit is wanted"
            )
        return y


def objects_on(labels: NDArray[Any]) -> Objects:
    """The objects of a frame.

    Parameters
    ----------
    labels : (H, W) array of int

    Returns
    -------
    Objects
    """
    ys, xs = np.nonzero(labels)
    ids, inverse, pixels = np.unique(labels[ys, xs], return_inverse=True, return_counts=True)
    count = len(ids)
    boxes = np.empty((count, 4), np.int64)
    boxes[:, :2] = np.iinfo(np.int64).max
    boxes[:, 2:] = 0
    centroids = np.empty((count, 2))
    for k, places in enumerate((ys, xs)):
        np.minimum.at(boxes[:, k], inverse, places)
        np.maximum.at(boxes[:, k + 2], inverse, places + 1)
        centroids[:, k] = np.bincount(inverse, places, count) / np.maximum(pixels, 1)
    return Objects(ids.astype(np.int64), pixels.astype(np.int64), centroids, boxes)
