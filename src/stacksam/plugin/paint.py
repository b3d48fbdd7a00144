"""A frame of paint that a Labels layer takes for a whole stack."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stacksam.plugin.coords import Layout
from stacksam.plugin.labels_view import LabelsView, One, as_slice, picks_of

__all__ = ["PaintBuffer"]


class _OneFrame:
    """Labels (T, Y, X) that are zero on all frames but one."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self.shape = shape
        self.dtype = np.dtype(np.uint8)
        self.frame = 0
        self.pixels: NDArray[np.uint8] = np.zeros(shape[1:], np.uint8)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        return self.pixels.copy() if index == self.frame else np.zeros(self.shape[1:], np.uint8)


class PaintBuffer(LabelsView):
    """Array-like of a stack's shape that holds pixels of one frame, and zeros everywhere else.

    It can be painted on by slices and numbers, as napari's brush does, and by arrays of indices, one for each
    dimension, as its undo does. What falls on other frames than the one that is held is not kept.

    Parameters
    ----------
    layout : Layout
        How frames lie in it.
    """

    def __init__(self, layout: Layout) -> None:
        self._one = _OneFrame((layout.n_frames, *layout.frame_shape))
        self._yx = (layout.y, layout.x)
        super().__init__(self._one, layout)

    @property
    def mask(self) -> NDArray[np.bool_]:
        """What is painted (H, W), as a copy."""
        painted: NDArray[np.bool_] = self._one.pixels != 0
        return painted

    def put(self, frame: int, mask: NDArray[np.bool_]) -> None:
        """Hold a mask (H, W) on a frame, and nothing elsewhere."""
        self._one.frame = frame
        self._one.pixels[...] = mask
        self.forget()

    def __getitem__(self, key: Any) -> Any:
        """A part as of :class:`LabelsView`, or the pixels at arrays of indices."""
        place = self._arrays(key)
        return super().__getitem__(key) if place is None else self._one.pixels[place]

    def __setitem__(self, key: Any, value: Any) -> None:
        """Paint on the frame that is held, which is the one that is shown."""
        place = self._arrays(key)
        if place is None:
            self._paint_region(key, value)
        else:
            self._one.pixels[place] = value
        self.forget(self._one.frame)

    def _paint_region(self, key: Any, value: Any) -> None:
        picks = picks_of(key, self.shape)
        region = np.broadcast_to(value, [len(pick) for pick in picks if not isinstance(pick, One)])
        region = region.reshape([len(pick) for pick in picks])
        held: list[int | slice] = []
        for dim, pick in enumerate(picks):
            if dim in self._yx:
                held.append(slice(None))
                continue
            # All channels are the same, so any of them will do.
            here = self._one.frame if dim == self._layout.frame else self._layout.at.get(dim, pick[0])
            if here not in pick:
                return
            held.append(pick.index(here))
        rows, columns = (as_slice(picks[dim]) for dim in self._yx)
        self._one.pixels[rows, columns] = region[tuple(held)]

    def _arrays(self, key: Any) -> tuple[Any, Any] | None:
        if isinstance(key, tuple) and len(key) == self.ndim and any(isinstance(k, np.ndarray) for k in key):
            return key[self._yx[0]], key[self._yx[1]]
        return None
