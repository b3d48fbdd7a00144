"""The labels of a session as an array of the shape that the viewer needs."""

from __future__ import annotations

import operator
import threading
from collections import OrderedDict
from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from stacksam.errors import InputError
from stacksam.plugin.choice import Layout

__all__ = ["LabelsView", "One", "as_slice", "picks_of"]

_KEPT = 2  # decoded frames: the one that is looked at, and the one before


class LabelsView:
    """Labels (T, Y, X), seen in the dimensions of an image, read frame by frame where they are looked at.

    It is an array for readers: it has shape, type and basic indexing. Frames lie at one index of dimensions
    such as z, with zeros elsewhere, and are the same on all channels. It cannot be written to. Any thread may
    read, also while others write to what lies below, if they call :meth:`forget` afterwards.

    Parameters
    ----------
    labels : array-like
        (T, Y, X) of integers, such as :attr:`stacksam.Session.labels`; with shape, dtype and basic indexing.
    layout : Layout
        See :attr:`stacksam.plugin.coords.Placement.layout`.
    dtype : dtype, optional
        Of what is given; by default that of the labels. It must hold every label: napari draws up to 16 bits
        as they are, and maps wider ones to fewer colours on each frame, which takes longer than reading them.

    Raises
    ------
    InputError
        If the labels have other frames than the layout.
    """

    def __init__(self, labels: Any, layout: Layout, dtype: DTypeLike | None = None) -> None:
        wanted = (layout.n_frames, *layout.frame_shape)
        if tuple(labels.shape) != wanted:
            raise InputError(f"labels have shape {tuple(labels.shape)}; the image needs {wanted}")
        self._labels = labels
        self._layout = layout
        self._lock = threading.Lock()
        self._frames: OrderedDict[int, NDArray[Any]] = OrderedDict()  # the one used last comes last
        self._age = 0  # grows when something is forgotten, so that a read from before is not kept
        self.shape = layout.shape
        self.dtype: np.dtype[Any] = np.dtype(labels.dtype if dtype is None else dtype)

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def nbytes(self) -> int:
        """Bytes that the whole array would take."""
        return self.size * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"LabelsView(shape={self.shape}, dtype={self.dtype})"

    def forget(self, frames: int | Collection[int] | None = None) -> None:
        """Read frames anew when they are next looked at.

        Parameters
        ----------
        frames : int or collection of int, optional
            By default all.
        """
        with self._lock:
            self._age += 1
            if frames is None:
                self._frames.clear()
                return
            for frame in (frames,) if isinstance(frames, int | np.integer) else frames:
                self._frames.pop(int(frame), None)

    def frame(self, index: int) -> NDArray[Any]:
        """One frame; not to be written to.

        Parameters
        ----------
        index : int
            From 0.

        Returns
        -------
        (Y, X) array
        """
        return self._frame(index, keep=True)

    def __getitem__(self, key: Any) -> Any:
        """A part, as a new array; basic indexing as in numpy, without new axes."""
        layout = self._layout
        picks = picks_of(key, self.shape)
        shape = tuple(len(pick) for pick in picks)
        out = np.zeros(shape, self.dtype)
        # Where the one index of each fixed dimension is in what was asked for, if it is.
        places = {d: picks[d].index(at) for d, at in layout.at.items() if at in picks[d]}
        if out.size and len(places) == len(layout.at):
            rows, columns = (as_slice(picks[dim]) for dim in (layout.y, layout.x))
            frames = range(1) if layout.frame is None else picks[layout.frame]
            for number, frame in enumerate(frames):
                target: list[int | slice] = [places.get(dim, slice(None)) for dim in range(self.ndim)]
                if layout.frame is not None:
                    target[layout.frame] = number
                part = self._frame(frame, keep=len(frames) <= _KEPT)[rows, columns]
                # Only the channels may lie between or beside rows and columns.
                if layout.channel is not None:
                    between = sum(layout.channel > dim for dim in (layout.y, layout.x))
                    part = np.expand_dims(part, between)
                out[tuple(target)] = part
        kept = tuple(0 if isinstance(pick, One) else slice(None) for pick in picks)
        return out[kept]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("labels are read from disk; an array of them is always a copy")
        whole: NDArray[Any] = self[...]
        return whole if dtype is None else whole.astype(dtype, copy=False)

    def _frame(self, index: int, *, keep: bool) -> NDArray[Any]:
        with self._lock:
            found = self._frames.get(index)
            if found is not None:
                self._frames.move_to_end(index)
                return found
            age = self._age
        # Without the lock: reading takes a while, and the main thread must be able to forget meanwhile.
        found = np.asarray(self._labels[index]).astype(self.dtype, copy=False)
        if keep:
            found = found.view()
            found.flags.writeable = False
            with self._lock:
                if age == self._age:
                    self._frames[index] = found
                    while len(self._frames) > _KEPT:
                        self._frames.popitem(last=False)
        return found


class One(tuple[int]):
    """A dimension of which one index was asked for, and which is gone in the answer."""

    __slots__ = ()


def picks_of(key: Any, shape: tuple[int, ...]) -> list[range | One]:
    """The indices asked for along each dimension."""
    keys = list(key) if isinstance(key, tuple) else [key]
    dots = [number for number, part in enumerate(keys) if part is Ellipsis]
    if len(dots) > 1:
        raise IndexError("an index can only have one ellipsis ('...')")
    if len(keys) - len(dots) > len(shape):
        raise IndexError(f"too many indices: {len(keys) - len(dots)} for {len(shape)} dimensions")
    at = dots[0] if dots else len(keys)
    keys[at : at + len(dots)] = [slice(None)] * (len(shape) - len(keys) + len(dots))
    picks: list[range | One] = []
    for dim, (part, size) in enumerate(zip(keys, shape, strict=True)):
        if isinstance(part, slice):
            picks.append(range(*part.indices(size)))
            continue
        try:
            index = operator.index(part)
        except TypeError:
            index = None
        if index is None or isinstance(part, bool | np.bool_):
            raise IndexError(f"{part!r:.60} is no index here; use integers, slices and ...")
        if not -size <= index < size:
            raise IndexError(f"index {index} is out of bounds for dimension {dim} with size {size}")
        picks.append(One((index % size,)))
    return picks


def as_slice(pick: range | One) -> slice:
    """The same indices as a slice, which keeps the dimension."""
    if isinstance(pick, One):
        return slice(pick[0], pick[0] + 1)
    stop = pick.stop if pick.stop >= 0 else None
    return slice(pick.start, stop, pick.step)
